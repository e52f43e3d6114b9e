//! Certificate revocation lists, kept per trust domain: path building picks them by the issuer's name, and two trust domains
//! may have issuers of the same name.

use thiserror::Error;

/// What becomes of a certificate whose issuer's list is older than its own `nextUpdate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExpiredCrl {
    /// It is refused: nobody knows whether it has been revoked since.
    #[default]
    Deny,
    /// The old list counts as if it were new.
    Allow,
}

/// The revocation lists of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crls {
    on_expired: OnExpiredCrl,
}

/// Why a revocation list cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CrlError {
    /// Not read yet by this version. Leaving one out would trust whom it revokes.
    #[error("revocation lists are not supported in this version")]
    Unsupported,
}

impl Crls {
    /// No list yet.
    #[must_use]
    pub const fn new(on_expired: OnExpiredCrl) -> Self {
        Self { on_expired }
    }

    /// What becomes of a certificate whose issuer's list has expired.
    #[must_use]
    pub const fn on_expired(&self) -> OnExpiredCrl {
        self.on_expired
    }

    /// Adds the lists in a file's content, DER or PEM.
    ///
    /// # Errors
    /// It is broken.
    pub fn add(&mut self, _document: &[u8]) -> Result<(), CrlError> {
        Err(CrlError::Unsupported)
    }
}
