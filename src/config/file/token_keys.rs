//! The keys of a listener's `token`.

use schemars::JsonSchema;
use serde::Deserialize;

use super::keys::DurationKey;
use crate::config::ForwardToken;

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct TokenKeys {
    /// The header that the token comes in: after `Bearer` in `authorization`, bare or after `Bearer` in any other. `s3` has its signature in `authorization` and needs another one.
    #[schemars(length(min = 1), extend("default" = "authorization", "examples" = ["x-id-token"]))]
    pub(crate) header: Option<String>,
    /// Whom a token must be meant for: its `aud` has to hold one of these, to the letter.
    #[schemars(required, length(min = 1), inner(length(min = 1)), extend("examples" = [["spiffe://pipeline.example/ns/data/sa/lake"]]))]
    pub(crate) audiences: Option<Vec<String>>,
    /// Whose tokens are accepted.
    #[schemars(required, length(min = 1), extend("examples" = [[{"trust_domain": "pipeline.example"}]]))]
    pub(crate) issuers: Option<Vec<TokenIssuerKeys>>,
    /// How far the clocks of issuers may be from ours.
    #[schemars(extend("default" = "30s", "x-minimum" = "0s", "x-maximum" = "5m"))]
    pub(crate) leeway: Option<DurationKey>,
    /// Whether the upstream gets the token.
    #[schemars(extend("default" = "keep"))]
    pub(crate) forward: Option<ForwardToken>,
}

/// Either `trust_domain`, or `issuer` and `jwks`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct TokenIssuerKeys {
    /// JWT-SVIDs of this trust domain, verified with the keys of its bundle.
    #[schemars(length(min = 1), extend("examples" = ["pipeline.example"]))]
    pub(crate) trust_domain: Option<String>,
    /// Tokens of this OIDC issuer: `iss` as it stands in them, to the letter. It is never fetched.
    #[schemars(length(min = 1), extend("examples" = ["https://login.example"]))]
    pub(crate) issuer: Option<String>,
    /// With `issuer`: the file with its public keys, a JWK set. Compared with what is in force as the files of `identity` are.
    #[schemars(length(min = 1), extend("examples" = ["/run/oidc/jwks.json"]))]
    pub(crate) jwks: Option<String>,
}
