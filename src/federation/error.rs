//! Why no bundle came of a fetch.

use std::time::Duration;

use thiserror::Error;

use crate::identity::{BundleError, StoreError};

/// Why a fetch brought no bundle. The one that is in force stays so.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum FetchError {
    /// Our own trust domain's bundle comes from whoever gives us our SVID, and from nobody else.
    #[error("`{trust_domain}` is our own trust domain: its bundle is not fetched")]
    OwnTrustDomain { trust_domain: String },
    /// Nothing to verify the endpoint by.
    #[error("there is no bundle of `{trust_domain}` yet, by which the endpoint is verified")]
    NoEndpointBundle { trust_domain: String },
    /// The file with the first bundle.
    #[error("bootstrap bundle `{path}` {cause}")]
    Bootstrap { path: String, cause: String },
    /// Everything together took too long.
    #[error("no answer within {} s", limit.as_secs())]
    Timeout { limit: Duration },
    /// The endpoint cannot be reached.
    #[error("cannot connect to `{host}`: {cause}")]
    Connect { host: String, cause: String },
    /// The endpoint is not who it should be.
    #[error("TLS with `{host}` failed: {cause}")]
    Handshake { host: String, rule: &'static str, cause: String },
    /// Not HTTP, or cut off.
    #[error("`{host}` gave no answer that can be read: {cause}")]
    Http { host: String, cause: String },
    /// An answer that is no bundle.
    #[error("`{host}` answered with the status {status}")]
    Status { host: String, status: u16 },
    /// An encoding that was not asked for.
    #[error("`{host}` answered with the content encoding `{encoding}`, which was not asked for")]
    Encoding { host: String, encoding: String },
    /// More than any bundle.
    #[error("`{host}` answered with more than {limit} bytes")]
    TooLong { host: String, limit: usize },
    /// A redirect to nowhere that a bundle may come from.
    #[error("`{host}` redirects to `{location}`: {reason}")]
    Redirect { host: String, location: String, reason: &'static str },
    /// What came is no bundle.
    #[error("what `{host}` serves {source}")]
    Bundle { host: String, source: BundleError },
    /// An older bundle than the one in force.
    #[error("`{host}` serves the sequence number {found}, which comes before {in_force}, the one in force")]
    Sequence { host: String, found: u64, in_force: u64 },
    /// It does not go with what is in force otherwise.
    #[error("the bundle cannot be put in force: {0}")]
    Store(#[from] StoreError),
}

impl FetchError {
    /// The cause's stable name, as metrics and the status have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::OwnTrustDomain { .. } => "own-trust-domain",
            Self::NoEndpointBundle { .. } => "no-endpoint-bundle",
            Self::Bootstrap { .. } => "bootstrap-bundle",
            Self::Timeout { .. } => "timeout",
            Self::Connect { .. } => "connect",
            Self::Handshake { rule, .. } => rule,
            Self::Http { .. } => "http",
            Self::Status { .. } => "status",
            Self::Encoding { .. } => "content-encoding",
            Self::TooLong { .. } => "too-long",
            Self::Redirect { .. } => "redirect",
            Self::Bundle { .. } => "trust-bundle",
            Self::Sequence { .. } => "sequence-rollback",
            Self::Store(error) => error.rule(),
        }
    }
}
