//! The admin socket's place in the file system.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::AdminError;

/// The owner alone connects: connect(2) on Linux asks for write permission.
const MODE: u32 = 0o600;

/// Makes a socket of mode 0600 at `path`, in place of one that nobody listens on any more.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), AdminError> {
    let failed = |source| AdminError::Socket { path: path.to_owned(), source };
    check_place(path)?;
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // bind(2) makes the file with the mode that umask leaves, so it is made where nobody else gets to and moved when it is as it should be.
    // The names are short because a socket's path may have 107 bytes.
    let private = tempfile::Builder::new().prefix(".p").rand_bytes(4).tempdir_in(directory).map_err(failed)?;
    let made = private.path().join("s");
    let listener = UnixListener::bind(&made).map_err(failed)?;
    fs::set_permissions(&made, Permissions::from_mode(MODE)).map_err(failed)?;
    let metadata = fs::symlink_metadata(&made).map_err(failed)?;
    fs::rename(&made, path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok((listener, SocketFile { path: path.to_owned(), device: metadata.dev(), inode: metadata.ino() }))
}

fn check_place(path: &Path) -> Result<(), AdminError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(AdminError::Socket { path: path.to_owned(), source }),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(AdminError::NotASocket { path: path.to_owned() }),
        // A socket outlives its process; whether somebody listens, only connecting tells.
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => Err(AdminError::SocketInUse { path: path.to_owned() }),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(source) => Err(AdminError::Socket { path: path.to_owned(), source }),
        },
    }
}

/// The socket's file: removed when this is dropped, unless another process has put its own there.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = |metadata: fs::Metadata| (metadata.dev(), metadata.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // Nobody is left to tell; the next start clears a file that stays.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        (folder, path)
    }

    #[test]
    fn the_socket_is_for_its_owner_alone_and_goes_with_its_process() {
        let (folder, path) = place();
        let (listener, file) = bind(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing but the socket is left");
        UnixStream::connect(&path).unwrap();
        drop((listener, file));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_socket_that_a_killed_process_left_is_replaced() {
        let (_folder, path) = place();
        let (listener, file) = bind(&path).unwrap();
        std::mem::forget(file);
        drop(listener);
        assert!(path.exists());
        let (_listener, _file) = bind(&path).unwrap();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_socket_that_somebody_listens_on_is_left_alone() {
        let (_folder, path) = place();
        let _first = bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(AdminError::SocketInUse { .. })));
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_never_removed() {
        let (_folder, path) = place();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(bind(&path), Err(AdminError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(matches!(bind(&path), Err(AdminError::NotASocket { .. })));
    }

    #[test]
    fn another_process_keeps_the_socket_it_has_put_in_our_place() {
        let (_folder, path) = place();
        let (_listener, file) = bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_socket() {
        let error = bind(Path::new("/nonexistent/portcullis/admin.sock")).unwrap_err();
        assert!(error.to_string().starts_with("admin socket `/nonexistent/portcullis/admin.sock`: "), "{error}");
    }
}
