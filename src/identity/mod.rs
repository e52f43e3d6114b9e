//! Who a workload is: SPIFFE IDs, X.509-SVIDs, trust bundles, and where they come from.
//!
//! [`X509Svid::parse`] holds the rules for a leaf, [`TrustBundleSet::verify`] those for its chain, and an
//! [`X509Source`] hands out our own identity in generations that are checked as a whole.

mod clock;
mod der;
pub mod dev_ca;
mod json;
mod pattern;
mod source;
mod spiffe_id;
mod svid;
#[cfg(test)]
mod tests;
mod token;
mod trust;
pub mod workload_api;

pub use clock::Clock;
pub use json::UniqueJson;
pub use pattern::{PatternError, SpiffeIdPattern};
pub use source::{
    Brought, Fault, FileSource, FileSourcePaths, GenerationError, IdentityStore, JwtSource, JwtSvid, Offered,
    OfferedSvid, Own, OwnFiles, Part, PartHealth, Reloaded, SourceError, StoreError, SvidChoice, UpdateError,
    WorkloadApiError, WorkloadApiPlan, WorkloadApiSource, X509Generation, X509Source, offered,
};
pub use spiffe_id::{SpiffeId, SpiffeIdError, TrustDomain};
pub use svid::{CertificateDescription, RuleOutcome, RuleVerdict, SvidError, X509Svid, judge, san_of_refused};
pub use token::{
    JwksFile, JwksFileError, MAX_TOKEN_BYTES, Token, TokenError, TokenIssuer, TokenRules, TokenVerifier,
    fuzz as fuzz_token,
};
pub use trust::{
    BundleDocument, BundleError, ChainError, ChainUsage, Crl, CrlError, CrlFault, Crls, Denied, DeniedFileError,
    DeniedSerial, DeniedSerialError, DocumentError, IgnoredKey, IgnoredKeys, JwtAuthority, MAX_BUNDLE_BYTES,
    MAX_BUNDLE_KEYS, MAX_CHAIN, MAX_CRL_BYTES, OnExpiredCrl, SkippedAuthority, TrustBundle, TrustBundleSet, parse_jwks,
};
