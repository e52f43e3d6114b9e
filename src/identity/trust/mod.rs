//! Whom we trust: bundles by trust domain, and path validation against exactly one of them.

mod bundle;
mod chain;
mod crl;
mod denied;

pub use bundle::{BundleError, SkippedAuthority, TrustBundle, TrustBundleSet};
pub use chain::{ChainError, ChainUsage, MAX_CHAIN};
pub use crl::{CrlError, Crls, OnExpiredCrl};
pub use denied::{Denied, DeniedSerial, DeniedSerialError};
