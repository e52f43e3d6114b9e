//! What is in the files at one moment.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;

use super::{FileSourcePaths, SourceError};
use crate::identity::TrustDomain;

/// Files that change at every one of so many looks are taken as the last one found them.
const MAX_LOOKS: usize = 8;
/// What a directory of bundles holds; all else in it is none of our business.
const BUNDLES: &[&str] = &["pem", "crt", "json"];
/// What a directory of revocation lists holds.
const CRLS: &[&str] = &["pem", "crl", "der"];

/// Files with their content: one, or those of a directory in the order of their names.
pub(super) type Documents = Vec<(PathBuf, Vec<u8>)>;

/// The content of all files.
pub(super) struct Read {
    pub(super) own: Option<ReadOwn>,
    pub(super) bundles: BTreeMap<TrustDomain, Documents>,
    pub(super) crls: BTreeMap<TrustDomain, Documents>,
    pub(super) denied: Option<Vec<u8>>,
}

/// The content of our own files.
pub(super) struct ReadOwn {
    pub(super) certificate: Vec<u8>,
    pub(super) private_key: Vec<u8>,
}

impl Read {
    /// Reads until two looks in a row find the same. Kubernetes swaps all files of a mount at once; a look that falls into the
    /// swap finds some old and some new ones.
    pub(super) fn settled(paths: &FileSourcePaths) -> Result<Self, SourceError> {
        let mut last = Self::once(paths);
        for _ in 0..MAX_LOOKS {
            let next = Self::once(paths);
            match (last, next) {
                (Ok(last), Ok(next)) if last.digest().as_ref() == next.digest().as_ref() => return Ok(next),
                (_, next) => last = next,
            }
        }
        last
    }

    pub(super) fn once(paths: &FileSourcePaths) -> Result<Self, SourceError> {
        let own = paths
            .own
            .as_ref()
            .map(|own| Ok(ReadOwn { certificate: read(&own.certificate)?, private_key: read(&own.private_key)? }));
        let denied = paths.denied.as_deref().map(read);
        let all = |paths: &BTreeMap<TrustDomain, PathBuf>, kinds: &'static [&'static str]| {
            let documents = paths.iter().map(|(of, path)| Ok((of.clone(), documents(path, kinds)?)));
            documents.collect::<Result<BTreeMap<_, _>, SourceError>>()
        };
        Ok(Self {
            own: own.transpose()?,
            bundles: all(&paths.bundles, BUNDLES)?,
            crls: all(&paths.crls, CRLS)?,
            denied: denied.transpose()?,
        })
    }

    /// A digest rather than the content: the key is not kept twice.
    pub(super) fn digest(&self) -> digest::Digest {
        let mut context = digest::Context::new(&digest::SHA256);
        // The lengths keep a byte that moves from one file's end to the next file's start from going unnoticed.
        let mut update = |part: &[u8]| {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        };
        if let Some(own) = &self.own {
            update(&own.certificate);
            update(&own.private_key);
        }
        if let Some(denied) = &self.denied {
            update(denied);
        }
        for of_one in self.bundles.values().chain(self.crls.values()) {
            update(&of_one.len().to_be_bytes());
            for (path, content) in of_one {
                update(path.as_os_str().as_encoded_bytes());
                update(content);
            }
        }
        context.finish()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, SourceError> {
    std::fs::read(path).map_err(|source| unreadable(path, source))
}

fn unreadable(path: &Path, source: io::Error) -> SourceError {
    SourceError::Read { path: path.into(), source }
}

/// The file, or those of the directory whose names end so. Names that begin with a dot are how Kubernetes and editors keep
/// what is not meant to be read.
fn documents(path: &Path, kinds: &'static [&'static str]) -> Result<Documents, SourceError> {
    let is_directory = std::fs::metadata(path).map_err(|source| unreadable(path, source))?.is_dir();
    if !is_directory {
        return Ok(vec![(path.into(), read(path)?)]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|source| unreadable(path, source))? {
        let entry = entry.map_err(|source| unreadable(path, source))?;
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let file = entry.path();
        let is_wanted = file.extension().and_then(OsStr::to_str).is_some_and(|kind| kinds.contains(&kind));
        if is_wanted && !is_hidden {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(SourceError::EmptyDirectory { path: path.into(), kinds: listed(kinds) });
    }
    files.sort();
    files.into_iter().map(|file| Ok((file.clone(), read(&file)?))).collect()
}

fn listed(kinds: &[&str]) -> String {
    kinds.iter().map(|kind| format!("*.{kind}")).collect::<Vec<_>>().join(" ")
}
