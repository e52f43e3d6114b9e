//! Whom we trust: bundles by trust domain, and path validation against exactly one of them.

mod authority;
mod bundle;
mod chain;
mod constraints;
mod crl;
mod denied;
mod document;
mod expiry;
mod jwk;
mod revocation;
mod signed;

#[cfg(test)]
mod tests;

pub use bundle::{BundleError, SkippedAuthority, TrustBundle, TrustBundleSet};
pub use chain::{ChainError, ChainUsage, MAX_CHAIN};
pub use crl::{Crl, CrlError, Crls, MAX_CRL_BYTES, OnExpiredCrl};
pub use denied::{Denied, DeniedFileError, DeniedSerial, DeniedSerialError};
pub use document::{BundleDocument, DocumentError, IgnoredKeys, MAX_BUNDLE_BYTES, MAX_BUNDLE_KEYS, parse_jwks};
pub use jwk::{IgnoredKey, JwtAuthority};
pub use revocation::CrlFault;
