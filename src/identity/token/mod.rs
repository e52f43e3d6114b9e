//! JWT-SVIDs and OIDC tokens: a second factor that policies can ask for beside the peer's certificate, never in place of it.
//!
//! A token comes from a peer that has proved who it is, but it is bytes from outside all the same: it is taken apart strictly
//! ([`Compact`](compact::Compact)), verified with a key that its issuer has published and this sidecar was given, and only then
//! believed. Nothing in a token can name, bring or fetch a key.
//!
//! # Source
//! RFC 7515 (JWS), RFC 7517 (JWK), RFC 7519 (JWT), RFC 8725 (best current practices), the JWT-SVID standard
//! (<https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md>), OpenID Connect Core 1.0.

mod claims;
mod compact;
mod error;
mod json;
mod jwks_file;
#[cfg(test)]
mod tests;
mod verifier;

pub use claims::Token;
pub use compact::fuzz;
pub use error::TokenError;
pub use jwks_file::{JwksFile, JwksFileError};
pub use verifier::{MAX_TOKEN_BYTES, TokenIssuer, TokenRules, TokenVerifier};
