//! Writes the archive of a bundle: the same files give the same bytes, wherever and whenever.

use std::io;
use std::path::Path;

use tar::{Builder, EntryType, Header};
use thiserror::Error;

use super::archive::{ArchiveError, MAX_BUNDLE_BYTES};
use super::manifest::{MANIFEST_FILE, Manifest};
use crate::policy::load::{INVARIANTS_FILE, PROOF_FILE, names};

/// Why there is no bundle.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum PackError {
    #[error("`{name}` cannot be read: {source}")]
    Read { name: String, source: io::Error },
    #[error("`{name}` cannot be put into the archive: {source}")]
    Write { name: String, source: io::Error },
    #[error("the bundle {0}")]
    Archive(ArchiveError),
    #[error("the archive cannot be signed")]
    Sign,
}

/// Packs the policy files of `directory`: those that a sidecar reads, and no others.
///
/// # Errors
/// A file cannot be read, or its name is too long for an archive.
pub fn pack(directory: &Path, manifest: &Manifest) -> Result<Vec<u8>, PackError> {
    let unreadable = |name: &str| {
        let name = name.to_owned();
        move |source| PackError::Read { name, source }
    };
    let names = names(directory).map_err(unreadable(&directory.display().to_string()))?;
    let mut tar = Builder::new(Vec::new());
    let mut json = serde_json::to_vec(manifest).map_err(|error| unreadable(MANIFEST_FILE)(error.into()))?;
    json.push(b'\n');
    append(&mut tar, MANIFEST_FILE, &json)?;
    // What is said to be proved of them goes along: a sidecar may require it.
    let beside =
        [INVARIANTS_FILE, PROOF_FILE].map(str::to_owned).into_iter().filter(|name| directory.join(name).exists());
    for name in names.into_iter().chain(beside) {
        let bytes = std::fs::read(directory.join(&name)).map_err(unreadable(&name))?;
        append(&mut tar, &name, &bytes)?;
    }
    let tar = tar.into_inner().map_err(|source| PackError::Write { name: "the end mark".to_owned(), source })?;
    if tar.len() > MAX_BUNDLE_BYTES { Err(PackError::Archive(ArchiveError::TooLong)) } else { Ok(tar) }
}

/// Nothing of the file system's but name and content: neither times nor owners.
fn append(tar: &mut Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> Result<(), PackError> {
    let unwritable = |source| PackError::Write { name: name.to_owned(), source };
    let mut header = Header::new_ustar();
    header.set_path(name).map_err(unwritable)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    tar.append(&header, bytes).map_err(unwritable)
}
