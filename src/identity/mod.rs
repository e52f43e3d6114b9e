//! Who a workload is: SPIFFE IDs, X.509-SVIDs, trust bundles, and where they come from.
//!
//! [`X509Svid::parse`] holds the rules for a leaf, [`TrustBundleSet::verify`] those for its chain, and an
//! [`X509Source`] hands out our own identity in generations that are checked as a whole.

mod bundle;
mod certificate;
mod chain;
mod clock;
pub mod dev_ca;
mod file_source;
mod rules;
mod source;
mod spiffe_id;
mod svid;
mod svid_error;
#[cfg(test)]
mod tests;

pub use bundle::{BundleError, SkippedAuthority, TrustBundle, TrustBundleSet};
pub use certificate::san_of_refused;
pub use chain::{ChainError, ChainUsage, MAX_CHAIN};
pub use clock::Clock;
pub use file_source::{FileSource, FileSourcePaths, Reloaded, SourceError};
pub use rules::{RuleOutcome, RuleVerdict, judge};
pub use source::{GenerationError, X509Generation, X509Source};
pub use spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
pub use svid::X509Svid;
pub use svid_error::SvidError;
