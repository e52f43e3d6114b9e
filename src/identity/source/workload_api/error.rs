//! Why a Workload API gives us nothing that can be used.

use spiffe::transport::{GrpcStatusCode, TransportError};
use thiserror::Error;
use tonic::{Code, Status};

use crate::identity::workload_api::WorkloadApiAddress;
use crate::identity::{CrlError, DocumentError, SpiffeIdError, StoreError};

/// Why a Workload API gives us nothing that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum WorkloadApiError {
    /// Nobody listens there.
    #[error("the Workload API at `{address}` cannot be reached: {detail}")]
    Unreachable { address: WorkloadApiAddress, detail: String },
    /// It does not say anything.
    #[error("the Workload API at `{address}` did not answer within {seconds} s")]
    Silent { address: WorkloadApiAddress, seconds: u64 },
    /// It answers, but not what was asked, for now.
    #[error("the Workload API at `{address}` is not available ({code}): {detail}")]
    Unavailable { address: WorkloadApiAddress, code: String, detail: String },
    /// It knows us, and has nothing for us: gRPC's `PermissionDenied`.
    #[error(
        "the Workload API at `{address}` issues no identity to this workload (PermissionDenied): {detail}; is there a registration entry that fits it?"
    )]
    NoIdentity { address: WorkloadApiAddress, detail: String },
    /// It will never answer this call: gRPC's `InvalidArgument` or `Unimplemented`.
    #[error(
        "the Workload API at `{address}` refuses the call ({code}), and is not asked again until it is another one: {detail}"
    )]
    Refused { address: WorkloadApiAddress, code: String, detail: String },
    /// It ended the stream.
    #[error("the Workload API at `{address}` ended the stream")]
    Ended { address: WorkloadApiAddress },
    /// What it sent cannot be used.
    #[error("the update of the Workload API at `{address}` is not used: {source}")]
    Update { address: WorkloadApiAddress, source: UpdateError },
    /// None of the SVIDs that it sent is ours.
    #[error("the Workload API at `{address}` says whom to trust, but not who we are: {source}")]
    NotOffered { address: WorkloadApiAddress, source: UpdateError },
    /// What it sent does not stand up.
    #[error("the update of the Workload API at `{address}` is not used: {source}")]
    Store { address: WorkloadApiAddress, source: StoreError },
}

/// What is wrong with an update. The last good one stays in force.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum UpdateError {
    /// A field that must be there is not (Workload API 4.5).
    #[error("the mandatory field `{field}` is empty")]
    Missing { field: &'static str },
    /// None of the SVIDs is the one that the configuration asks for.
    #[error("it has no SVID {wanted}; it has {offered}")]
    NotOffered { wanted: String, offered: String },
    /// Bytes that are no certificates.
    #[error("`{field}` of `{of}` is not a sequence of certificates in DER")]
    Certificates { field: &'static str, of: String },
    /// An entry that says to be somebody else's than its certificate.
    #[error("the SVID of `{named}` has a certificate of `{certified}`")]
    Id { named: String, certified: String },
    /// A name that is no SPIFFE ID.
    #[error("`{text}`: {source}")]
    SpiffeId { text: String, source: SpiffeIdError },
    /// Two bundles that differ for one trust domain.
    #[error("it has two different bundles for the trust domain `{trust_domain}`")]
    TwoBundles { trust_domain: String },
    /// A revocation list that cannot be used.
    #[error("a revocation list {source}")]
    Crl { source: CrlError },
    /// A JWT bundle that cannot be used.
    #[error("the JWT bundle of `{trust_domain}` {source}")]
    JwtBundle { trust_domain: String, source: DocumentError },
    /// A JWT-SVID that cannot be used.
    #[error("a JWT-SVID cannot be used: {detail}")]
    Jwt { detail: String },
}

impl WorkloadApiError {
    /// What a status stands for.
    ///
    /// # Source
    /// Workload Endpoint 6 and appendix A.
    pub(super) fn from_status(address: &WorkloadApiAddress, status: &Status) -> Self {
        let (address, detail) = (address.clone(), status.message().to_owned());
        let code = format!("{:?}", status.code());
        if status.code() == Code::PermissionDenied {
            return Self::NoIdentity { address, detail };
        }
        match matches!(status.code(), Code::InvalidArgument | Code::Unimplemented) {
            true => Self::Refused { address, code, detail },
            false => Self::Unavailable { address, code, detail },
        }
    }

    /// What an error of the crate stands for.
    pub(super) fn from_crate(address: &WorkloadApiAddress, error: &spiffe::WorkloadApiError) -> Self {
        use spiffe::WorkloadApiError as E;
        let (address, detail) = (address.clone(), error.to_string());
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the crate's errors are non_exhaustive; the rest is about what was sent"
        )]
        match error {
            E::NoIdentityIssued | E::PermissionDenied(_) => Self::NoIdentity { address, detail },
            E::Transport(TransportError::Status(status)) => {
                let code = status.code().to_string();
                match matches!(status.code(), GrpcStatusCode::InvalidArgument | GrpcStatusCode::Unimplemented) {
                    true => Self::Refused { address, code, detail },
                    false => Self::Unavailable { address, code, detail },
                }
            }
            E::Transport(_) | E::Endpoint(_) => Self::Unreachable { address, detail },
            _ => Self::Update { address, source: UpdateError::Jwt { detail } },
        }
    }

    /// The cause's stable name, as metrics and `/status` have it.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } | Self::Unavailable { .. } | Self::Ended { .. } => {
                "unavailable"
            }
            Self::NoIdentity { .. } => "no_identity",
            Self::Refused { .. } => "refused",
            Self::NotOffered { .. } | Self::Update { source: UpdateError::NotOffered { .. }, .. } => "not_offered",
            Self::Update { .. } | Self::Store { .. } => "bad_update",
        }
    }

    /// Whether asking again changes nothing.
    pub(super) const fn is_final(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// Whether a stream that had begun is over.
    pub(super) const fn is_end(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::Unavailable { .. })
    }
}
