//! Whom we trust: bundles by trust domain, and path validation against exactly one of them.

mod bundle;
mod chain;
mod expiry;

pub use bundle::{BundleError, SkippedAuthority, TrustBundle, TrustBundleSet};
pub use chain::{ChainError, ChainUsage, MAX_CHAIN};
