//! The keys of an OIDC issuer in a file that somebody keeps fresh.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{fs, io};

use arc_swap::ArcSwapOption;
use thiserror::Error;

use crate::identity::{DocumentError, IgnoredKey, JwtAuthority, MAX_BUNDLE_BYTES, Reloaded, parse_jwks};

/// A JWK set in a file: the last good content stays in force whatever becomes of the file.
#[derive(Debug)]
pub struct JwksFile {
    path: PathBuf,
    keys: ArcSwapOption<Vec<JwtAuthority>>,
    number: AtomicU64,
    content: Mutex<Option<Vec<u8>>>,
}

/// Why the file is not in force.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum JwksFileError {
    /// It cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    /// It is no JWK set.
    #[error("`{}` is no JWK set: {cause}", path.display())]
    Content { path: PathBuf, cause: String },
    /// No key in it can be used.
    #[error("`{}` has no key that tokens can be verified with; the first: {first}", path.display())]
    Useless { path: PathBuf, first: IgnoredKey },
    /// No key in it at all.
    #[error("`{}` has no keys", path.display())]
    Empty { path: PathBuf },
    /// A key in it is a private one.
    #[error("`{}` has a private key in it: whoever reads the file can sign tokens with it", path.display())]
    Private { path: PathBuf },
}

impl JwksFileError {
    /// Whether it may come yet.
    #[must_use]
    pub fn is_missing_file(&self) -> bool {
        matches!(self, Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl JwksFile {
    /// A file that has not been read yet.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            keys: ArcSwapOption::empty(),
            number: AtomicU64::new(0),
            content: Mutex::new(None),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys in force; none while there have never been any.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Vec<JwtAuthority>>> {
        self.keys.load_full()
    }

    /// Counts the contents that have been in force.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// Compares the file with what is in force.
    ///
    /// # Errors
    /// It cannot be used: what was in force stays so.
    pub fn reload(&self) -> Result<Reloaded, JwksFileError> {
        let bytes = self.read().map_err(|source| JwksFileError::Unreadable { path: self.path.clone(), source })?;
        let mut content = self.content.lock().unwrap_or_else(PoisonError::into_inner);
        if content.as_ref() == Some(&bytes) {
            return Ok(Reloaded::Unchanged);
        }
        let keys = self.parse(&bytes)?;
        self.keys.store(Some(Arc::new(keys)));
        *content = Some(bytes);
        // After the keys: who sees the new number finds them.
        Ok(Reloaded::Swapped(self.number.fetch_add(1, Ordering::AcqRel) + 1))
    }

    fn parse(&self, bytes: &[u8]) -> Result<Vec<JwtAuthority>, JwksFileError> {
        let path = || self.path.clone();
        let (keys, ignored) =
            parse_jwks(bytes).map_err(|error| JwksFileError::Content { path: path(), cause: cause(error) })?;
        if ignored.iter().any(|(_, reason)| *reason == IgnoredKey::Private) {
            return Err(JwksFileError::Private { path: path() });
        }
        match (keys.is_empty(), ignored.into_iter().next()) {
            (false, _) => Ok(keys),
            (true, Some((_, first))) => Err(JwksFileError::Useless { path: path(), first }),
            (true, None) => Err(JwksFileError::Empty { path: path() }),
        }
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        use io::Read as _;
        let mut bytes = Vec::new();
        fs::File::open(&self.path)?.take(MAX_BUNDLE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// In words that do not take it for a SPIFFE bundle.
fn cause(error: DocumentError) -> String {
    match error {
        DocumentError::Json { detail } => detail,
        other => format!("it {other}"),
    }
}
