//! Files of identity: whether they are there, can be read, and through which links.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::report::Report;

/// The kernel follows no more links than this (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// Looks at a file. `is_secret`: nobody else may read it.
pub(super) fn look(report: &mut Report, what: &str, path: &Path, is_secret: bool) {
    let way = way(path);
    let last = way.last().map_or(path, PathBuf::as_path);
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return report.bad("source", format!("{what} {}: {error}", shown(&way)), &missing(&error, last)),
    };
    let (mode, uid) = (metadata.permissions().mode() & 0o7777, metadata.uid());
    let shown = format!("{what} {}, mode {mode:04o}, uid {uid}", shown(&way));
    let opened = if metadata.is_dir() { fs::read_dir(path).map(|_| ()) } else { File::open(path).map(|_| ()) };
    match opened {
        Err(error) => {
            let own = fs::metadata("/proc/self").map(|own| own.uid().to_string()).unwrap_or_default();
            let advice =
                format!("let uid {own}, as which this runs, read it: its owner, its mode, and each folder above");
            report.bad("source", format!("{shown}: {error}"), &advice);
        }
        Ok(()) if is_secret && mode & 0o007 != 0 => {
            report.warn("source", format!("{shown}: everybody may read the key"), "chmod o-rwx, and issue a new one");
        }
        Ok(()) => report.good("source", shown),
    }
}

fn missing(error: &io::Error, last: &Path) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            let name = last.display();
            format!("`portcullis run` waits for it: see who should write `{name}`, and the volume's mount")
        }
        io::ErrorKind::PermissionDenied => "let this user search each folder above it (mode x)".to_owned(),
        _ => "see the mount and the links".to_owned(),
    }
}

fn shown(way: &[PathBuf]) -> String {
    way.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" -> ")
}

/// The path, and what it becomes link by link: where Kubernetes swaps `..data`, one link on the way decides what is read.
fn way(path: &Path) -> Vec<PathBuf> {
    let mut way = vec![path.to_owned()];
    while let Some(next) = way.last().and_then(|last| followed(last)) {
        way.push(next);
        if way.len() > MOST_LINKS {
            break;
        }
    }
    way
}

/// The path with its first link replaced by where that leads; none if there is no link on it.
fn followed(path: &Path) -> Option<PathBuf> {
    let mut before = PathBuf::new();
    let mut components = path.components();
    while let Some(component) = components.next() {
        let here = before.join(component);
        if let (Component::Normal(_), Ok(target)) = (component, fs::read_link(&here)) {
            return Some(before.join(target).join(components.as_path()).components().collect());
        }
        before = here;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_link_on_the_way_is_shown() {
        let folder = tempfile::tempdir().unwrap();
        // The temporary folder itself may lie behind a link.
        let root = folder.path().canonicalize().unwrap();
        fs::create_dir(root.join("..one")).unwrap();
        fs::write(root.join("..one/svid.pem"), "").unwrap();
        symlink("..one", root.join("..data")).unwrap();
        symlink("..data/svid.pem", root.join("svid.pem")).unwrap();
        let names: Vec<_> = way(&root.join("svid.pem"));
        assert_eq!(names, [root.join("svid.pem"), root.join("..data/svid.pem"), root.join("..one/svid.pem")]);
        assert_eq!(way(&root.join("..one/svid.pem")).len(), 1);
    }

    #[test]
    fn links_that_lead_in_a_circle_end() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert_eq!(way(&folder.path().join("a")).len(), MOST_LINKS + 1);
    }
}
