//! The files of development certificates: where they are and how they are written.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::CertsError;
use crate::identity::SpiffeId;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// The owner: private keys.
    Owner,
    /// Everybody: certificates.
    All,
}

/// A folder with a CA for each trust domain and the SVIDs that it issued:
///
/// ```text
/// DIR/TRUST-DOMAIN/ca.pem  ca.key  bundle.pem
/// DIR/TRUST-DOMAIN/PATH/OF/ID/svid.pem  svid.key  bundle.pem
/// ```
#[derive(Debug)]
pub(super) struct Folder<'a>(pub(super) &'a Path);

impl Folder<'_> {
    /// Where the CA of a trust domain is.
    pub(super) fn authority(&self, trust_domain: &str) -> PathBuf {
        self.0.join(trust_domain)
    }

    /// Where the SVID of a workload is. Different IDs have different places, since the path is kept as it is; and it
    /// stays inside, since a SPIFFE ID has no `.` or `..` segments.
    pub(super) fn svid(&self, id: &SpiffeId) -> PathBuf {
        self.0.join(id.trust_domain()).join(id.path().trim_start_matches('/'))
    }
}

/// Files that are written together, or not at all if one of them exists.
#[derive(Debug)]
pub(super) struct FileSet {
    folder: PathBuf,
    files: Vec<(&'static str, Readers, String)>,
}

impl FileSet {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, files: Vec::new() }
    }

    pub(super) fn with(mut self, name: &'static str, readers: Readers, content: String) -> Self {
        self.files.push((name, readers, content));
        self
    }

    /// Writes all; files that exist are overwritten only with `force`.
    pub(super) fn write(&self, force: bool) -> Result<(), CertsError> {
        if !force
            && let Some(path) = self.files.iter().map(|(name, ..)| self.folder.join(name)).find(|path| path.exists())
        {
            return Err(CertsError::Exists { path });
        }
        fs::create_dir_all(&self.folder).map_err(|source| CertsError::Write { path: self.folder.clone(), source })?;
        for (name, readers, content) in &self.files {
            write(&self.folder.join(name), *readers, content, force)?;
        }
        Ok(())
    }
}

/// Writes beside and renames, so that nobody reads half a file. The file beside is made with mode 0600.
fn write(path: &Path, readers: Readers, content: &str, force: bool) -> Result<(), CertsError> {
    let failed = |source| CertsError::Write { path: path.to_owned(), source };
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    let mut beside = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    beside.write_all(content.as_bytes()).map_err(failed)?;
    if readers == Readers::All {
        beside.as_file().set_permissions(fs::Permissions::from_mode(0o644)).map_err(failed)?;
    }
    beside.as_file().sync_all().map_err(failed)?;
    let persisted = if force { beside.persist(path) } else { beside.persist_noclobber(path) };
    persisted.map(drop).map_err(|error| match error.error.kind() {
        // Somebody else made it since we looked.
        io::ErrorKind::AlreadyExists => CertsError::Exists { path: path.to_owned() },
        _ => failed(error.error),
    })
}

/// Reads a file of text.
pub(super) fn read(path: &Path) -> Result<String, CertsError> {
    fs::read_to_string(path).map_err(|source| CertsError::Read { path: path.to_owned(), source })
}
