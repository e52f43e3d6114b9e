//! A listener's `token`.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Uri, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::errors::Advice;
use super::file::{KeyPath, ProtocolKey, TokenIssuerKeys, TokenKeys, nearest};
use super::reading::Reading;
use crate::identity::{SpiffeIdError, TrustDomain};

/// Which tokens count on a listener, as a second factor beside the peer's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenConfig {
    /// Where a token comes in.
    pub header: HeaderName,
    /// Whom a token must be meant for: one of these, at least one.
    pub audiences: Vec<String>,
    /// Whose tokens are accepted, at least one.
    pub issuers: Vec<TokenIssuerConfig>,
    /// How far the clocks of issuers may be from ours.
    pub leeway: Duration,
    /// Whether the upstream gets the token.
    pub forward: ForwardToken,
}

/// Whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenIssuerConfig {
    /// JWT-SVIDs of a trust domain that has a bundle.
    TrustDomain(TrustDomain),
    /// Tokens whose `iss` is `issuer`.
    Oidc {
        /// As it stands in tokens.
        issuer: String,
        /// The file with its public keys.
        jwks: PathBuf,
    },
}

/// Whether the upstream gets the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForwardToken {
    /// As it came: for services that read it themselves, and for the next portcullis on the way.
    Keep,
    /// Not at all.
    Strip,
}

/// The clocks of well-kept machines are within seconds of each other; JWT-SVIDs live for minutes.
const LEEWAY: Duration = Duration::from_secs(30);

/// Reads it, if it is there; none if something about it is wrong, which is then reported.
pub(super) fn token(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: Option<&TokenKeys>,
    protocol: ProtocolKey,
) -> Option<Option<TokenConfig>> {
    let Some(keys) = keys else { return Some(None) };
    let header = match (&keys.header, protocol) {
        (Some(name), protocol) => reading.report.check(&at.key("header"), parse_header(name, protocol)),
        (None, ProtocolKey::S3) => {
            let error = TokenConfigError::HeaderForS3;
            reading.report.key(at, error.to_string(), error.advice());
            None
        }
        (None, _) => Some(header::AUTHORIZATION),
    };
    let mut issuers: Vec<Option<TokenIssuerConfig>> = Vec::new();
    for (index, keys) in keys.issuers.as_ref()?.iter().enumerate() {
        let path = at.key("issuers").index(index);
        let read = issuer(reading, &path, keys);
        let again = read.as_ref().and_then(|read| issuers.iter().flatten().find(|other| is_same(other, read)));
        match again {
            Some(_) => issuers.push(reading.refuse(&path, TokenConfigError::Twice)),
            None => issuers.push(read),
        }
    }
    Some(Some(TokenConfig {
        header: header?,
        audiences: keys.audiences.clone()?,
        issuers: issuers.into_iter().collect::<Option<_>>()?,
        leeway: keys.leeway.map_or(LEEWAY, |key| key.0),
        forward: keys.forward.unwrap_or(ForwardToken::Keep),
    }))
}

fn issuer(reading: &mut Reading<'_>, at: &KeyPath, keys: &TokenIssuerKeys) -> Option<TokenIssuerConfig> {
    match (&keys.trust_domain, &keys.issuer, &keys.jwks) {
        (Some(name), None, None) => trust_domain(reading, &at.key("trust_domain"), name),
        (None, Some(issuer), Some(jwks)) => {
            let issuer = reading.report.check(&at.key("issuer"), parse_issuer(issuer));
            Some(TokenIssuerConfig::Oidc { issuer: issuer?, jwks: reading.path(jwks) })
        }
        // What is wrong with a key inside has been said already.
        _ if reading.report.is_wrong(at) => None,
        _ => reading.refuse(at, TokenConfigError::Issuer),
    }
}

fn trust_domain(reading: &mut Reading<'_>, path: &KeyPath, name: &str) -> Option<TokenIssuerConfig> {
    let parsed =
        TrustDomain::parse(name).map_err(|error| TokenConfigError::TrustDomain { name: name.to_owned(), error });
    let trust_domain = reading.report.check(path, parsed)?;
    match &reading.trust_domains {
        Some(known) if !known.iter().any(|one| one == name) => {
            let near = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
            reading.refuse(path, TokenConfigError::NoBundle { name: name.to_owned(), near })
        }
        _ => Some(TokenIssuerConfig::TrustDomain(trust_domain)),
    }
}

fn is_same(one: &TokenIssuerConfig, other: &TokenIssuerConfig) -> bool {
    match (one, other) {
        (TokenIssuerConfig::Oidc { issuer: one, .. }, TokenIssuerConfig::Oidc { issuer: other, .. }) => one == other,
        _ => one == other,
    }
}

/// A header that says nothing else.
fn parse_header(name: &str, protocol: ProtocolKey) -> Result<HeaderName, TokenConfigError> {
    let owned = || name.to_owned();
    let header = HeaderName::try_from(name).map_err(|_| TokenConfigError::Header { name: owned() })?;
    let text = header.as_str();
    if protocol == ProtocolKey::S3 && (header == header::AUTHORIZATION || text.starts_with("x-amz-")) {
        return Err(TokenConfigError::OfS3 { name: owned() });
    }
    const PREFIXES: [&str; 7] = ["content-", "if-", "proxy-", "sec-", "x-portcullis-", "client-cert", "x-forwarded-"];
    let means_more = PREFIXES.iter().any(|prefix| text.starts_with(prefix))
        || matches!(
            text,
            "accept"
                | "connection"
                | "cookie"
                | "expect"
                | "forwarded"
                | "host"
                | "http2-settings"
                | "keep-alive"
                | "origin"
                | "range"
                | "te"
                | "traceparent"
                | "tracestate"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "via"
                | "x-request-id"
        );
    if means_more { Err(TokenConfigError::Taken { name: owned() }) } else { Ok(header) }
}

/// What can stand in `iss`: a URL with a scheme of the web (OpenID Connect Core, 2).
fn parse_issuer(issuer: &str) -> Result<String, TokenConfigError> {
    let is_url = issuer
        .parse::<Uri>()
        .is_ok_and(|uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some());
    match (is_url, issuer.strip_prefix("spiffe://")) {
        (true, _) => Ok(issuer.to_owned()),
        (false, Some(name)) => Err(TokenConfigError::SpiffeIssuer { name: name.to_owned(), issuer: issuer.to_owned() }),
        (false, None) => Err(TokenConfigError::IssuerUrl { issuer: issuer.to_owned() }),
    }
}

/// What is wrong with a `token`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum TokenConfigError {
    #[error("`protocol: s3` has its signature in `authorization`: a token needs a header of its own")]
    HeaderForS3,
    #[error("`{name}` is not a header name")]
    Header { name: String },
    #[error("`{name}` is a header of S3 itself")]
    OfS3 { name: String },
    #[error("`{name}` means something else than a token")]
    Taken { name: String },
    #[error("an issuer is either a `trust_domain`, or an `issuer` with its `jwks`")]
    Issuer,
    #[error("the issuer stands here twice")]
    Twice,
    #[error("`{name}` is not a trust domain: {error}")]
    TrustDomain { name: String, error: SpiffeIdError },
    #[error("trust domain `{name}` has no bundle: no token of it can be verified")]
    NoBundle { name: String, near: Option<String> },
    #[error("`{issuer}` is a trust domain")]
    SpiffeIssuer { issuer: String, name: String },
    #[error("`{issuer}` is not the URL of an issuer")]
    IssuerUrl { issuer: String },
}

impl Advice for TokenConfigError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::HeaderForS3 | Self::OfS3 { .. } | Self::Taken { .. } => {
                "write for example `header: x-id-token`".into()
            }
            Self::Header { .. } => "write one name, for example `x-id-token`".into(),
            Self::Issuer => {
                "write `trust_domain: pipeline.example`, or `issuer: https://login.example` and `jwks: FILE`".into()
            }
            Self::Twice => "remove one of the two; several keys of one issuer stand in one file".into(),
            Self::TrustDomain { .. } => "write a name, for example `pipeline.example`".into(),
            Self::NoBundle { near: Some(near), .. } => format!("did you mean `{near}`?"),
            Self::NoBundle { .. } => "add its bundle to `identity.trust_bundles`".into(),
            Self::SpiffeIssuer { name, .. } => format!("write `trust_domain: {name}`"),
            Self::IssuerUrl { .. } => "write it as `iss` has it, for example `https://login.example`".into(),
        })
    }
}
