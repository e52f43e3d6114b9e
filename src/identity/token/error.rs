//! Why a token is not believed.

use thiserror::Error;

use super::MAX_TOKEN_BYTES;

/// The rule that a token breaks. Messages show nothing of the token but names and key ids that its issuer publishes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum TokenError {
    /// Which of several would the upstream take?
    #[error("token header is sent more than once")]
    Repeated,
    /// Longer than anybody needs.
    #[error("token has {bytes} bytes, at most {MAX_TOKEN_BYTES} are accepted")]
    Length { bytes: usize },
    /// Not the compact serialization of a signed token (RFC 7515, 7.1).
    #[error("token is not three parts of base64url with dots between them")]
    Form,
    /// A part that is not base64url without padding (RFC 7515, 2), or not its only spelling.
    #[error("token has a {part} that is not base64url without padding")]
    Encoding { part: &'static str },
    /// A part that is not an object, or has a name twice.
    #[error("token has a {part} that {cause}")]
    Json { part: &'static str, cause: String },
    /// An algorithm that is not accepted: `none`, an HMAC, an unknown one.
    #[error("token is signed by an algorithm that is not accepted")]
    Algorithm,
    /// Another kind of token (RFC 8725, 3.11).
    #[error("token is of a type that is not accepted")]
    Type,
    /// Extensions that must be understood, and are not (RFC 7515, 4.1.11).
    #[error("token has critical extensions, of which none are known")]
    Critical,
    /// No key id where one is needed.
    #[error("token names no key")]
    NoKeyId,
    /// A key that its issuer does not publish.
    #[error("token names the key {kid}, which its issuer does not publish")]
    UnknownKey { kid: String },
    /// A key that is not for this algorithm.
    #[error("token is signed by an algorithm that its key is not for")]
    Key,
    /// Not the issuer's signature.
    #[error("token does not have its issuer's signature")]
    Signature,
    /// Nobody whose tokens are accepted here.
    #[error("token comes from no issuer that is accepted here")]
    Issuer,
    /// The issuer's keys have not been read yet.
    #[error("there are no keys of the token's issuer yet")]
    NoKeys,
    /// Not a workload of the trust domain that signs for it.
    #[error("token has a subject that its issuer cannot speak for")]
    Subject,
    /// A workload that is on the emergency list.
    #[error("token has a subject that is denied here")]
    Denied,
    /// Not for us.
    #[error("token is meant for another audience")]
    Audience,
    /// Its time is over.
    #[error("token expired {seconds} s ago")]
    Expired { seconds: u64 },
    /// Its time has not come.
    #[error("token is not valid before {seconds} s from now")]
    NotYetValid { seconds: u64 },
    /// A claim that is missing, or not of its type.
    #[error("token has no valid claim `{name}`")]
    Claim { name: &'static str },
}

impl TokenError {
    /// The rule's stable name, as records and metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Repeated => "token-repeated",
            Self::Length { .. } => "token-length",
            Self::Form => "token-form",
            Self::Encoding { .. } => "token-encoding",
            Self::Json { .. } => "token-json",
            Self::Algorithm => "token-algorithm",
            Self::Type => "token-type",
            Self::Critical => "token-critical",
            Self::NoKeyId | Self::UnknownKey { .. } | Self::NoKeys => "token-key-id",
            Self::Key => "token-key",
            Self::Signature => "token-signature",
            Self::Issuer => "token-issuer",
            Self::Subject => "token-subject",
            Self::Denied => "token-denied",
            Self::Audience => "token-audience",
            Self::Expired { .. } => "token-expired",
            Self::NotYetValid { .. } => "token-not-yet-valid",
            Self::Claim { .. } => "token-claim",
        }
    }
}
