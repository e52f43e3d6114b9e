//! Why no bundle came of a fetch.

use thiserror::Error;

use crate::fetch::FetchError;
use crate::identity::{BundleError, StoreError};

/// Why a fetch brought no bundle. The one that is in force stays so.
#[derive(Debug, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum RefreshError {
    /// Our own trust domain's bundle comes from whoever gives us our SVID, and from nobody else.
    #[error("`{trust_domain}` is our own trust domain: its bundle is not fetched")]
    OwnTrustDomain { trust_domain: String },
    /// Nothing to verify the endpoint by.
    #[error("there is no bundle of `{trust_domain}` yet, by which the endpoint is verified")]
    NoEndpointBundle { trust_domain: String },
    /// The file with the first bundle.
    #[error("bootstrap bundle `{path}` {cause}")]
    Bootstrap { path: String, cause: String },
    /// Nothing was fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
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

impl RefreshError {
    /// The cause's stable name, as metrics and the status have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::OwnTrustDomain { .. } => "own-trust-domain",
            Self::NoEndpointBundle { .. } => "no-endpoint-bundle",
            Self::Bootstrap { .. } => "bootstrap-bundle",
            Self::Fetch(error) => error.rule(),
            Self::Bundle { .. } => "trust-bundle",
            Self::Sequence { .. } => "sequence-rollback",
            Self::Store(error) => error.rule(),
        }
    }
}
