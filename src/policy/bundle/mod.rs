//! A policy directory in one signed file, for many sidecars: a tar archive, and beside it a signature over all of its bytes.
//!
//! [`PolicyBundle::open`] looks at nothing before the signature is verified, and is the only way to one. Nothing is ever unpacked to a
//! file system: names in the archive are names in memory.
//!
//! # Source
//! POSIX.1-1988 ustar, as in POSIX.1-2017 pax "ustar Interchange Format".

mod archive;
mod expiry;
mod keys;
mod manifest;
#[cfg(test)]
mod tests;
mod write;

pub use archive::{ArchiveError, MAX_BUNDLE_BYTES, PolicyArchive};
pub use expiry::{Expiry, ExpiryError};
pub use keys::{BundleKey, BundleKeyError, BundleKeys, SigningKey};
pub use manifest::{MANIFEST_FILE, Manifest, ManifestError};
pub use write::{PackError, pack};

use thiserror::Error;

use super::load::{PolicyErrors, PolicyFiles};

/// The longest signature, in bytes: ECDSA P-256 in DER takes 72, Ed25519 takes 64. What is longer is no signature, and said to be none.
pub const MAX_SIGNATURE_BYTES: usize = 16 * 1024;

/// A bundle whose signature was verified.
#[derive(Debug, Clone)]
pub struct PolicyBundle {
    manifest: Manifest,
    signed_by: BundleKey,
    files: PolicyFiles,
}

/// Why what was brought is no bundle of ours.
#[derive(Debug, Clone, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum PolicyBundleError {
    /// Text, or nothing.
    #[error("the signature {0}")]
    SignatureForm(&'static str),
    /// Other bytes were signed, or by somebody else.
    #[error("the signature is by none of the {keys} keys of `policy.public_keys`, or of other bytes")]
    Signature { keys: usize },
    /// It is signed, but no archive that is taken.
    #[error("the bundle {0}")]
    Archive(#[from] ArchiveError),
    /// It is signed, but the files cannot be policies.
    #[error("{0}")]
    Files(PolicyErrors),
}

impl PolicyBundleError {
    /// The cause's stable name, as metrics and the status have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::SignatureForm(_) | Self::Signature { .. } => "signature",
            Self::Archive(_) => "archive",
            Self::Files(_) => "policies",
        }
    }
}

impl PolicyBundle {
    /// Verifies the signature, then reads the archive.
    ///
    /// # Errors
    /// It was not signed by one of `keys`, or is not in the form of a bundle.
    pub fn open(tar: &[u8], signature: &[u8], keys: &BundleKeys) -> Result<Self, PolicyBundleError> {
        let Some(signed_by) = keys.verify(tar, signature) else {
            return Err(match form_of(signature) {
                Some(form) => PolicyBundleError::SignatureForm(form),
                None => PolicyBundleError::Signature { keys: keys.len() },
            });
        };
        let archive = PolicyArchive::parse(tar)?;
        let shown = archive.manifest().to_string();
        let files = PolicyFiles::of(&shown, archive.files()).map_err(PolicyBundleError::Files)?;
        Ok(Self { manifest: archive.into_manifest(), signed_by: signed_by.clone(), files })
    }

    /// What it is called and where it stands among those of its name.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whose signature it has.
    #[must_use]
    pub const fn signed_by(&self) -> &BundleKey {
        &self.signed_by
    }

    /// `sha256:HEX` over the policy files: that of a directory with the same files.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.files.digest
    }

    pub(super) const fn policy_files(&self) -> &PolicyFiles {
        &self.files
    }
}

/// What is wrong with bytes that cannot be a signature at all: who signs by hand has them in another form than openssl writes them.
fn form_of(signature: &[u8]) -> Option<&'static str> {
    // Of 64 random bytes hardly any are text: who has brought text has not brought a signature.
    match std::str::from_utf8(signature).ok()?.trim_start() {
        "" => Some("is empty"),
        text if text.starts_with("-----BEGIN") => {
            Some("is PEM: the bytes that `openssl pkeyutl -sign` writes are wanted")
        }
        text if text.starts_with(['<', '{']) => Some("is a page of a web server"),
        text if text.chars().all(|c| c.is_ascii_graphic() || c.is_ascii_whitespace()) => {
            Some("is text: the bytes that `openssl pkeyutl -sign` writes are wanted, without base64 or hex")
        }
        _ => None,
    }
}
