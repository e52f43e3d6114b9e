//! The archive of a bundle, read in memory: plain files with plain names, each once, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use tar::{Archive, EntryType};
use thiserror::Error;

use super::manifest::{MANIFEST_FILE, Manifest, ManifestError};
use crate::policy::load::MAX_FILES;

/// The longest archive. 10,000 policies take about 2 MiB.
pub const MAX_BUNDLE_BYTES: usize = 16 * 1024 * 1024;
/// The longest name: ustar has no room for longer ones.
const MAX_NAME_BYTES: usize = 256;
const BLOCK: usize = 512;

/// Why an archive is none that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum ArchiveError {
    #[error("has more than {MAX_BUNDLE_BYTES} bytes")]
    TooLong,
    #[error("is compressed ({by}): a plain tar archive is wanted")]
    Compressed { by: &'static str },
    #[error("is not a tar archive: {cause}")]
    Tar { cause: String },
    #[error("is cut off {0}")]
    CutOff(&'static str),
    #[error("goes on after its end mark")]
    Trailing,
    #[error("has more than {MAX_FILES} entries")]
    TooMany,
    #[error("has the entry `{name}`, which is {kind}: files and folders are taken, written by `tar --format=ustar`")]
    Kind { name: String, kind: &'static str },
    #[error("has an entry with the name `{name}`, which {reason}")]
    Name { name: String, reason: &'static str },
    #[error("has the entry `{name}` twice")]
    Twice { name: String },
    #[error("has no `{MANIFEST_FILE}` at its top, with for example `{{\"name\": \"lake\", \"sequence\": 17}}`")]
    NoManifest,
    #[error("has a `{MANIFEST_FILE}` that {0}")]
    Manifest(#[from] ManifestError),
}

/// The files of an archive. Nobody has vouched for them: what is put in force is a [`PolicyBundle`](super::PolicyBundle).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyArchive<'a> {
    manifest: Manifest,
    files: BTreeMap<String, &'a [u8]>,
}

impl<'a> PolicyArchive<'a> {
    /// Reads a whole archive.
    ///
    /// # Errors
    /// Links, devices, sparse files and extended headers; names that are absolute, lead out of the archive, or are there twice; an
    /// archive that is compressed, cut off, or goes on after its end; no manifest.
    pub fn parse(tar: &'a [u8]) -> Result<Self, ArchiveError> {
        if tar.len() > MAX_BUNDLE_BYTES {
            return Err(ArchiveError::TooLong);
        }
        if let Some(by) = compression(tar) {
            return Err(ArchiveError::Compressed { by });
        }
        let files = files(tar)?;
        let manifest = files.get(MANIFEST_FILE).ok_or(ArchiveError::NoManifest)?;
        Ok(Self { manifest: Manifest::parse(manifest)?, files })
    }

    /// What the bundle says of itself.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn into_manifest(self) -> Manifest {
        self.manifest
    }

    /// All files by name, in the order of the names.
    pub fn files(&self) -> impl Iterator<Item = (&str, &'a [u8])> {
        self.files.iter().map(|(name, bytes)| (name.as_str(), *bytes))
    }
}

fn files(tar: &[u8]) -> Result<BTreeMap<String, &[u8]>, ArchiveError> {
    let broken = |error: std::io::Error| ArchiveError::Tar { cause: error.to_string() };
    let mut archive = Archive::new(tar);
    let (mut files, mut folders) = (BTreeMap::new(), BTreeSet::new());
    let mut end = 0;
    // Raw: extended headers are seen as what they are, and refused. Readers differ in what they make of them.
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let entry = entry.map_err(broken)?;
        if files.len() + folders.len() >= MAX_FILES {
            return Err(ArchiveError::TooMany);
        }
        let header = entry.header();
        let written = header.path_bytes();
        let shown = || written.escape_ascii().to_string();
        let is_folder = match header.entry_type() {
            EntryType::Regular => false,
            EntryType::Directory => true,
            other => return Err(ArchiveError::Kind { name: shown(), kind: kind(other) }),
        };
        // What is longer than the whole archive is not even looked for.
        let start = usize::try_from(entry.raw_file_position()).map_err(|_| ArchiveError::CutOff("in an entry"))?;
        let size = usize::try_from(entry.size()).map_err(|_| ArchiveError::CutOff("in an entry"))?;
        let bytes = start.checked_add(size).and_then(|end| tar.get(start..end));
        let bytes = bytes.ok_or(ArchiveError::CutOff("in an entry"))?;
        end = (start + size).next_multiple_of(BLOCK);
        let name = name(&written, is_folder).map_err(|reason| ArchiveError::Name { name: shown(), reason })?;
        if is_folder && !bytes.is_empty() {
            return Err(ArchiveError::Kind { name: shown(), kind: "a folder with content" });
        }
        let is_new = match is_folder {
            true => !files.contains_key(&name) && folders.insert(name),
            false => !folders.contains(&name) && files.insert(name, bytes).is_none(),
        };
        if !is_new {
            return Err(ArchiveError::Twice { name: shown() });
        }
    }
    match tar.get(end..).filter(|rest| rest.len() >= BLOCK) {
        None => Err(ArchiveError::CutOff("before its end mark")),
        Some(rest) if rest.iter().any(|byte| *byte != 0) => Err(ArchiveError::Trailing),
        Some(_) => Ok(files),
    }
}

/// The name below the top of the archive; that of the top itself is empty.
fn name(written: &[u8], is_folder: bool) -> Result<String, &'static str> {
    let name = std::str::from_utf8(written).map_err(|_| "is not UTF-8")?;
    if name.len() > MAX_NAME_BYTES {
        return Err("is too long");
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Err("has a control character or a backslash");
    }
    if name.starts_with('/') {
        return Err("is absolute");
    }
    if is_folder && matches!(name, "." | "./") {
        return Ok(String::new());
    }
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = if is_folder { name.strip_suffix('/').unwrap_or(name) } else { name };
    for part in name.split('/') {
        match part {
            "" => return Err("has an empty part"),
            "." | ".." => return Err("has a part `.` or `..`"),
            _ => {}
        }
    }
    Ok(name.to_owned())
}

const fn kind(kind: EntryType) -> &'static str {
    match kind {
        EntryType::Link => "a hard link",
        EntryType::Symlink => "a symbolic link",
        EntryType::Char | EntryType::Block => "a device",
        EntryType::Fifo => "a pipe",
        EntryType::GNUSparse => "a sparse file",
        EntryType::GNULongName | EntryType::GNULongLink => "a long name of GNU tar",
        EntryType::XGlobalHeader | EntryType::XHeader => "an extended header of pax",
        _ => "of no kind that is known",
    }
}

/// # Source
/// RFC 1952 2.3.1; RFC 8878 3.1.1; the xz file format 2.1.1.1; bzip2's magic number.
fn compression(bytes: &[u8]) -> Option<&'static str> {
    let known: [(&[u8], &str); 4] =
        [(b"\x1f\x8b", "gzip"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\xfd7zXZ\0", "xz"), (b"BZh", "bzip2")];
    known.into_iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, by)| by)
}
