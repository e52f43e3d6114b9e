//! Why files do not make an identity.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::{GenerationError, StoreError};
use crate::identity::{BundleError, CrlError, DeniedFileError, SpiffeId, TrustDomain};

/// Why the files do not make a generation.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum SourceError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    /// Nothing in a directory.
    #[error("directory `{}` has no {kinds} in it", path.display())]
    EmptyDirectory { path: PathBuf, kinds: String },
    /// Broken PEM: a half-written file.
    #[error("`{}` is not PEM: {detail}", path.display())]
    Pem { path: PathBuf, detail: String },
    /// No key in the key's file.
    #[error("`{}` holds no private key (PKCS#8, SEC1 or PKCS#1, not encrypted)", path.display())]
    NoKey { path: PathBuf },
    /// Somebody else's certificate.
    #[error("`{}` is the certificate of `{found}`, not of `{expected}`", path.display())]
    OtherId { path: PathBuf, expected: SpiffeId, found: SpiffeId },
    /// A bundle cannot be used.
    #[error("trust bundle `{}` of `{trust_domain}` {source}", path.display())]
    Bundle { path: PathBuf, trust_domain: TrustDomain, source: BundleError },
    /// A revocation list cannot be used.
    #[error("revocation list `{}` of `{trust_domain}` {source}", path.display())]
    Crl { path: PathBuf, trust_domain: TrustDomain, source: CrlError },
    /// The emergency lists cannot be used.
    #[error("`{}` {source}", path.display())]
    Denied { path: PathBuf, source: DeniedFileError },
    /// The parts do not belong together.
    #[error("`{}`: {source}", path.display())]
    Generation { path: PathBuf, source: GenerationError },
    /// They do not go with what came from elsewhere.
    #[error(transparent)]
    Store { source: StoreError },
}

impl SourceError {
    /// Whether a file is not there (yet).
    #[must_use]
    pub fn is_missing_file(&self) -> bool {
        match self {
            Self::Read { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::EmptyDirectory { .. } => true,
            _ => false,
        }
    }

    /// The cause's stable name, as metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::EmptyDirectory { .. } => "unreadable-file",
            Self::Pem { .. } => "pem",
            Self::NoKey { .. } => "private-key",
            Self::OtherId { .. } => "spiffe-id",
            Self::Bundle { .. } => "trust-bundle",
            Self::Crl { .. } => "crl",
            Self::Denied { .. } => "deny-file",
            Self::Generation { source, .. } => source.rule(),
            Self::Store { source } => source.rule(),
        }
    }

    /// The file that is to blame.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. }
            | Self::EmptyDirectory { path, .. }
            | Self::Pem { path, .. }
            | Self::NoKey { path }
            | Self::OtherId { path, .. }
            | Self::Bundle { path, .. }
            | Self::Crl { path, .. }
            | Self::Denied { path, .. }
            | Self::Generation { path, .. } => Some(path),
            Self::Store { .. } => None,
        }
    }
}
