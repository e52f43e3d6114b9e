//! What stands in a directory: all of it, or why it is not known.

use std::io;
use std::path::{Path, PathBuf};

/// Something in a directory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: PathBuf,
    pub(super) is_folder: bool,
    pub(super) is_hidden: bool,
}

/// What a directory has, in the order of the names. A link to nothing may have been to a folder: it is an error, but for hidden ones,
/// which editors leave beside a file that is open.
///
/// # Errors
/// What cannot be read, by its path: it would pass for looked at.
pub(super) fn entries(directory: &Path) -> Result<Vec<Entry>, String> {
    let failed = |path: &Path, cause: &io::Error| format!("cannot read `{}`: {cause}", path.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(|cause| failed(directory, &cause))? {
        let entry = entry.map_err(|cause| failed(directory, &cause))?;
        let (path, is_hidden) = (entry.path(), entry.file_name().to_string_lossy().starts_with('.'));
        match std::fs::metadata(&path) {
            Ok(metadata) => found.push(Entry { path, is_folder: metadata.is_dir(), is_hidden }),
            Err(cause) if is_hidden && cause.kind() == io::ErrorKind::NotFound => {}
            Err(cause) => return Err(failed(&path, &cause)),
        }
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(found)
}
