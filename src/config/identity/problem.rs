//! What is wrong under `identity`.

use thiserror::Error;

use crate::config::errors::Advice;
use crate::identity::{DeniedSerialError, PatternError, SpiffeIdError, TrustDomain};

/// What a value or a key cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum IdentityProblem {
    #[error("`{key}` is for `source: {of}`")]
    KeyOfSource { key: &'static str, of: &'static str },
    #[error(
        "nothing says where the Workload API is: neither `address` nor the environment variable SPIFFE_ENDPOINT_SOCKET"
    )]
    NoAddress,
    #[error("SPIFFE_ENDPOINT_SOCKET in the environment: {reason}")]
    Environment { reason: String, advice: Option<String> },
    #[error("`hint` and `spiffe_id` both say which SVID is ours")]
    TwoChoices,
    #[error("`{name}` is not a trust domain: {error}")]
    TrustDomain { name: String, error: SpiffeIdError },
    #[error("`{text}` is not the SPIFFE ID of a workload: {reason}")]
    Id { text: String, reason: String },
    #[error("`{text}` is neither a SPIFFE ID nor `spiffe://TRUST-DOMAIN/PATH/*`: {error}")]
    Pattern { text: String, error: PatternError },
    #[error("`{text}` is not `TRUST-DOMAIN/SERIAL`: {error}")]
    Serial { text: String, error: DeniedSerialError },
    #[error("trust domain `{trust_domain}` has no bundle, so the line has no effect")]
    NoEffect { trust_domain: String, near: String },
    #[error("`{text}` is not the address of a bundle endpoint: {reason}")]
    Url { text: String, reason: &'static str },
    #[error("the bundle of `{trust_domain}` comes twice: `trust_bundles` has it too")]
    BundleTwice { trust_domain: String },
    #[error("`{key}` is for `profile: {of}`")]
    KeyOfProfile { key: &'static str, of: &'static str },
    #[error("`profile: https_spiffe` needs `endpoint_spiffe_id`")]
    NoEndpointId,
    #[error("the endpoint is in `{trust_domain}` itself, whose bundle is not known before it was fetched once")]
    NoBootstrap { trust_domain: String },
    #[error("`bootstrap_bundle` has no effect: the endpoint is verified by the bundle of `{trust_domain}`")]
    IdleBootstrap { trust_domain: String },
    #[error("the endpoint is in `{trust_domain}`, which has no bundle")]
    NoEndpointBundle { trust_domain: String },
}

impl Advice for IdentityProblem {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::KeyOfSource { of, .. } => format!("remove it, or write `source: {of}`"),
            Self::NoAddress => "add for example `address: unix:/run/spire/agent/api.sock`".into(),
            Self::Environment { advice, .. } => return advice.clone(),
            Self::TwoChoices => "keep one of the two".into(),
            Self::TrustDomain { name, .. } => match name.strip_prefix("spiffe://") {
                Some(bare) => format!("write `{}`", bare.split('/').next().unwrap_or(bare)),
                None => match name.to_ascii_lowercase() {
                    lower if TrustDomain::parse(&lower).is_ok() => format!("write `{lower}`"),
                    _ => "write a name, for example `pipeline.example`".into(),
                },
            },
            Self::Id { .. } => "write `spiffe://TRUST-DOMAIN/PATH`".into(),
            Self::Pattern { error: PatternError::TrustDomain, text } => {
                format!("write `{text}/*` for all workloads of the trust domain")
            }
            Self::Pattern { .. } => "write `spiffe://TRUST-DOMAIN/PATH` or `spiffe://TRUST-DOMAIN/PATH/*`".into(),
            Self::Serial { .. } => {
                "`portcullis certs show FILE` shows it; for example `pipeline.example/0a1b2c`".into()
            }
            Self::NoEffect { near, .. } => format!("did you mean `{near}`?"),
            Self::Url { .. } => "write `https://HOST:PORT/PATH`".into(),
            Self::BundleTwice { .. } => "keep one of the two; for the first fetch there is `bootstrap_bundle`".into(),
            Self::KeyOfProfile { of, .. } => format!("remove it, or write `profile: {of}`"),
            Self::NoEndpointId => "add for example `endpoint_spiffe_id: spiffe://partner.example/spire/server`".into(),
            Self::NoBootstrap { .. } => "add `bootstrap_bundle`, a file with its bundle of today".into(),
            Self::IdleBootstrap { .. } => "remove it".into(),
            Self::NoEndpointBundle { .. } => "add its bundle to `identity.trust_bundles`".into(),
        })
    }
}
