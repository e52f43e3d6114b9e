//! Who a workload is: SPIFFE IDs, X.509-SVIDs, trust bundles, and where they come from.
//!
//! [`X509Svid::parse`] holds the rules for a leaf, [`TrustBundleSet::verify`] those for its chain, and an
//! [`X509Source`] hands out our own identity in generations that are checked as a whole.

mod clock;
mod der;
pub mod dev_ca;
mod source;
mod spiffe_id;
mod svid;
#[cfg(test)]
mod tests;
mod trust;

pub use clock::Clock;
pub use source::{FileSource, FileSourcePaths, GenerationError, Reloaded, SourceError, X509Generation, X509Source};
pub use spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
pub use svid::{CertificateDescription, RuleOutcome, RuleVerdict, SvidError, X509Svid, judge, san_of_refused};
pub use trust::{
    BundleDocument, BundleError, ChainError, ChainUsage, DocumentError, IgnoredKey, JwtAuthority, MAX_BUNDLE_BYTES,
    MAX_BUNDLE_KEYS, MAX_CHAIN, SkippedAuthority, TrustBundle, TrustBundleSet, parse_jwks,
};
