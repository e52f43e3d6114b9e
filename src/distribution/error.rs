//! Why a poll put nothing in force.

use thiserror::Error;

use crate::fetch::FetchError;
use crate::policy::{BundleKeyError, Expiry, Manifest, PolicyBundleError, PolicyErrors};

/// Why no bundle came into force. The one that is stays.
#[derive(Debug, Clone, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum DistributionError {
    /// There is nothing to verify a signature by.
    #[error(transparent)]
    Keys(#[from] BundleKeyError),
    /// The bundle did not come.
    #[error("bundle: {0}")]
    Bundle(FetchError),
    /// Its signature did not come.
    #[error("signature of the bundle, beside it with `.sig` after its name: {0}")]
    Signature(FetchError),
    /// What came is no bundle that we believe.
    #[error("{0}")]
    Refused(#[from] PolicyBundleError),
    /// It is another bundle.
    #[error("the bundle is `{found}`, and `policy.bundle_name` is `{wanted}`")]
    Name { found: Manifest, wanted: String },
    /// Somebody shows us what was signed long ago.
    #[error(
        "the bundle is `{found}`, older than `{newest}`, which was here before: to go back, sign the old policies with a higher sequence number"
    )]
    Sequence { found: Manifest, newest: Manifest },
    /// Two bundles under one number: nobody could say which one is in force.
    #[error(
        "the bundle is `{found}`, and other policies, or the same with another end, were here under this sequence number before: sign it with a higher one"
    )]
    SequenceTwice { found: Manifest },
    /// Who has signed it wants it to be used no more.
    #[error(
        "the bundle is `{found}`, which expired at {expired}: sign the policies again, with a higher sequence number and a later time"
    )]
    Expired { found: Manifest, expired: Expiry },
    /// Its policies do not load.
    #[error("policies of the bundle `{of}` do not load: {errors}")]
    Policies { of: Manifest, errors: PolicyErrors },
    /// What is kept on disk cannot be used.
    #[error("cached bundle `{path}`: {cause}")]
    Cache { path: String, cause: String },
    /// Nothing can be asked.
    #[error("the system gives no runtime: {0}")]
    Runtime(String),
    /// Compiling it ended by a panic.
    #[error("putting the bundle in force ended by a panic")]
    Panic,
}

impl DistributionError {
    /// The cause's stable name, as metrics and the status have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Keys(_) => "public-keys",
            Self::Bundle(error) => error.rule(),
            Self::Signature(_) => "no-signature",
            Self::Refused(error) => error.rule(),
            Self::Name { .. } => "bundle-name",
            Self::Sequence { .. } => "sequence-rollback",
            Self::SequenceTwice { .. } => "sequence-twice",
            Self::Expired { .. } => "expired",
            Self::Policies { .. } => "policies",
            Self::Cache { .. } => "cache",
            Self::Runtime(_) => "runtime",
            Self::Panic => "panic",
        }
    }

    /// What is wrong with the policies, each with its source and a caret.
    #[must_use]
    pub fn report(&self) -> Option<String> {
        match self {
            Self::Policies { errors, .. } | Self::Refused(PolicyBundleError::Files(errors)) => {
                Some(errors.render(false))
            }
            _ => None,
        }
    }

    /// Whether the same bytes with the same keys would be refused again.
    pub(super) const fn is_of_the_bundle(&self) -> bool {
        matches!(
            self,
            Self::Refused(_)
                | Self::Name { .. }
                | Self::Sequence { .. }
                | Self::SequenceTwice { .. }
                | Self::Expired { .. }
                | Self::Policies { .. }
        )
    }

    /// Whether it says that bundle and signature are not of each other.
    pub(super) const fn is_of_the_signature(&self) -> bool {
        matches!(self, Self::Refused(PolicyBundleError::SignatureForm(_) | PolicyBundleError::Signature { .. }))
    }
}
