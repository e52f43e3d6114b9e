//! Why there is no session with the server, and what the client is told of it.

use std::io;

use thiserror::Error;

use super::password::PasswordError;
use crate::protocol::postgres::wire::{ErrorReply, Frame, FrameError, error_fields};

/// Why a login did not come to a session.
#[derive(Debug, Error)]
pub(in crate::protocol::postgres) enum LoginError {
    /// The server said no.
    #[error("the server refused the session: {message} ({sqlstate})")]
    Refused {
        /// Its SQLSTATE.
        sqlstate: String,
        /// Its message.
        message: String,
    },
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error("the server asks for a password, and none is configured")]
    NoPassword,
    #[error("the server asks for the password in clear, which is not sent without verified TLS")]
    Cleartext,
    #[error("the server asks for authentication of kind {kind}, which is not supported")]
    Unsupported { kind: u32 },
    #[error("the server offers no SASL mechanism that is supported")]
    Mechanisms,
    #[error("the server did not prove that it knows the password: {cause}")]
    Unproved { cause: String },
    #[error("the server broke the protocol: {cause}")]
    Server { cause: String },
    /// Passthrough only.
    #[error("SCRAM channel binding cannot pass through two TLS connections")]
    ChannelBinding,
    /// Passthrough only.
    #[error("the client broke the protocol: {cause}")]
    Client { cause: String },
    /// Passthrough only: the client closed, for example to ask its user for a password.
    #[error("the client left during authentication")]
    ClientLeft,
    #[error("server version `{version}` is not supported: 14 to 18 are")]
    Version { version: String },
    #[error("`standard_conforming_strings` is off for this role or database")]
    NonconformingStrings,
    #[error("connection to the server broke: {0}")]
    Io(#[from] io::Error),
}

impl From<FrameError> for LoginError {
    fn from(error: FrameError) -> Self {
        Self::Server { cause: error.to_string() }
    }
}

impl LoginError {
    pub(super) fn refused(frame: &Frame) -> Self {
        let field = |wanted: u8| {
            let found = error_fields(frame.body()).find(|(code, _)| *code == wanted);
            found.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
        };
        Self::Refused { sqlstate: field(b'C'), message: field(b'M') }
    }

    pub(super) fn server(cause: impl Into<String>) -> Self {
        Self::Server { cause: cause.into() }
    }

    /// Whether the client is to blame, and not the server or the proxy.
    pub(in crate::protocol::postgres) const fn is_of_client(&self) -> bool {
        matches!(self, Self::Client { .. } | Self::ClientLeft | Self::ChannelBinding)
    }

    /// The server takes no sessions now: another one may.
    pub(in crate::protocol::postgres) fn passes_over(&self) -> bool {
        matches!(self, Self::Refused { sqlstate, .. } if takes_none_now(sqlstate))
    }

    /// What the client is told. What concerns the proxy's own login stays in the record: its words name roles, files and methods.
    pub(in crate::protocol::postgres) fn reply(&self, passed_through: bool) -> ErrorReply<'_> {
        match self {
            Self::Refused { sqlstate, message } if passed_through || !is_about_login(sqlstate) => {
                ErrorReply::fatal(if sqlstate.len() == 5 { sqlstate } else { "08004" }, message.as_str())
            }
            Self::Refused { .. } => ErrorReply::fatal("28P01", "the server refused the login of this role"),
            Self::Password(_)
            | Self::NoPassword
            | Self::Cleartext
            | Self::Unsupported { .. }
            | Self::Mechanisms
            | Self::Unproved { .. } => ErrorReply::fatal("28P01", "the proxy could not log in to the server"),
            Self::ChannelBinding => ErrorReply::fatal("28000", self.to_string()).with_hint(
                "Connect with channel_binding=disable, or have the proxy log in (role: fixed or by_identity).",
            ),
            Self::Client { .. } | Self::ClientLeft => ErrorReply::fatal("08P01", self.to_string()),
            Self::Version { .. } | Self::NonconformingStrings => ErrorReply::fatal("0A000", self.to_string()),
            Self::Server { .. } | Self::Io(_) => ErrorReply::fatal("08006", "the server broke off the connection"),
        }
    }
}

/// A server that is starting, stopping or recovering, and one that has no place left.
pub(in crate::protocol::postgres) fn takes_none_now(sqlstate: &str) -> bool {
    matches!(sqlstate, "57P03" | "53300")
}

/// Class 28: invalid authorization specification.
fn is_about_login(sqlstate: &str) -> bool {
    sqlstate.starts_with("28")
}
