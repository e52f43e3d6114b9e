//! Why nothing came of a fetch.

use std::time::Duration;

use thiserror::Error;

/// Why a fetch brought no document.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum FetchError {
    /// Everything together took too long.
    #[error("no answer within {} s", limit.as_secs())]
    Timeout { limit: Duration },
    /// The server cannot be reached.
    #[error("cannot connect to `{host}`: {cause}")]
    Connect { host: String, cause: String },
    /// The server is not who it should be.
    #[error("TLS with `{host}` failed: {cause}")]
    Handshake { host: String, rule: &'static str, cause: String },
    /// Not HTTP, or cut off.
    #[error("`{host}` gave no answer that can be read: {cause}")]
    Http { host: String, cause: String },
    /// An answer that is no document.
    #[error("`{host}` answered with the status {status}")]
    Status { host: String, status: u16 },
    /// An encoding that was not asked for.
    #[error("`{host}` answered with the content encoding `{encoding}`, which was not asked for")]
    Encoding { host: String, encoding: String },
    /// More than is taken.
    #[error("`{host}` answered with more than {limit} bytes")]
    TooLong { host: String, limit: usize },
    /// A redirect to nowhere that a document may come from.
    #[error("`{host}` redirects to `{location}`: {reason}")]
    Redirect { host: String, location: String, reason: &'static str },
}

impl FetchError {
    /// The cause's stable name, as metrics and the status have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::Connect { .. } => "connect",
            Self::Handshake { rule, .. } => rule,
            Self::Http { .. } => "http",
            Self::Status { .. } => "status",
            Self::Encoding { .. } => "content-encoding",
            Self::TooLong { .. } => "too-long",
            Self::Redirect { .. } => "redirect",
        }
    }
}
