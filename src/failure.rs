//! Why a request that was permitted could not be served, grouped by who is to blame.
//!
//! A denial is not a failure: it is a normal answer with its own reply.

use thiserror::Error;

/// Something went wrong beside the decision.
///
/// The peer learns the status and [`Failure::stage`], the record the whole message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Failure {
    /// No connection to the upstream.
    #[error("cannot connect to upstream `{upstream}`: {cause}")]
    Connect {
        /// Its address as configured.
        upstream: String,
        /// What the system said.
        cause: String,
    },
    /// The upstream was not reached in time.
    #[error("upstream `{upstream}` was not reached within {limit_ms} ms")]
    ConnectTimeout {
        /// Its address as configured.
        upstream: String,
        /// `connect_timeout`.
        limit_ms: u64,
    },
    /// The upstream's TLS or its identity was refused.
    #[error("upstream `{upstream}` is not trusted ({rule}): {cause}")]
    Handshake {
        /// Its address as configured.
        upstream: String,
        /// The rule that failed.
        rule: &'static str,
        /// What was wrong.
        cause: String,
    },
    /// The upstream closed or broke the connection before its answer began.
    #[error("upstream closed the connection before it answered: {cause}")]
    Closed {
        /// What was seen.
        cause: String,
    },
    /// The upstream broke off in the middle of its answer.
    #[error("upstream broke off its answer: {cause}")]
    Response {
        /// What was seen.
        cause: String,
    },
    /// What the upstream answered cannot be forwarded as it is.
    #[error("upstream answered what cannot be forwarded: {cause}")]
    Invalid {
        /// What was wrong.
        cause: String,
    },
    /// No answer within `request_timeout`.
    #[error("request was not finished within {limit_ms} ms")]
    RequestTimeout {
        /// `request_timeout`.
        limit_ms: u64,
    },
    /// A body that stopped moving for `idle_timeout`.
    #[error("no byte moved for {limit_ms} ms")]
    Stalled {
        /// `idle_timeout`.
        limit_ms: u64,
    },
    /// The downstream's body broke off or was malformed.
    #[error("request body broke off: {cause}")]
    RequestBody {
        /// What was seen.
        cause: String,
    },
    /// What was judged cannot be written as a request: it is not sent as anything else.
    #[error("judged target cannot be sent: {cause}")]
    Target {
        /// What was wrong.
        cause: String,
    },
    /// The policies have changed, and would not permit an exchange that is still open.
    #[error("the policies do not permit it any more, decision {decision}")]
    NoLongerPermitted {
        /// The id of that denial's record.
        decision: String,
    },
    /// An exchange is still open when the token that it was let in with has expired.
    #[error("the token that it was let in with has expired, decision {decision}")]
    TokenExpired {
        /// The id of that refusal's record.
        decision: String,
    },
    /// Records cannot be written, so nothing is served.
    #[error("audit records cannot be written")]
    Audit,
}

/// Who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The service behind us, or the network to it.
    Upstream,
    /// The peer before us.
    Downstream,
    /// This process or its machine.
    Ourselves,
}

impl Failure {
    /// The HTTP status that says so.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Connect { .. } | Self::Handshake { .. } | Self::Closed { .. } => 502,
            Self::Response { .. } | Self::Invalid { .. } => 502,
            Self::ConnectTimeout { .. } | Self::RequestTimeout { .. } => 504,
            Self::Stalled { .. } => 408,
            Self::RequestBody { .. } => 400,
            Self::Target { .. } => 500,
            Self::NoLongerPermitted { .. } => 403,
            Self::TokenExpired { .. } => 401,
            Self::Audit => 503,
        }
    }

    /// The stage at which it happened: the value of `x-portcullis-error`, and a metric label.
    #[must_use]
    pub const fn stage(&self) -> &'static str {
        match self {
            Self::Connect { .. } => "upstream-connect",
            Self::ConnectTimeout { .. } => "upstream-connect-timeout",
            Self::Handshake { .. } => "upstream-handshake",
            Self::Closed { .. } => "upstream-closed",
            Self::Response { .. } => "upstream-response",
            Self::Invalid { .. } => "upstream-invalid",
            Self::RequestTimeout { .. } => "request-timeout",
            Self::Stalled { .. } => "idle-timeout",
            Self::RequestBody { .. } => "request-body",
            Self::Target { .. } => "target",
            Self::NoLongerPermitted { .. } => "no-longer-permitted",
            Self::TokenExpired { .. } => "token-expired",
            Self::Audit => "audit",
        }
    }

    /// The reason that the record of a permitted exchange has for it: something that is about the exchange itself.
    #[must_use]
    pub const fn reason(&self) -> Option<&'static str> {
        match self {
            Self::NoLongerPermitted { .. } | Self::TokenExpired { .. } => Some(self.stage()),
            _ => None,
        }
    }

    /// Who has to act: decides the level of the log line.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Stalled { .. } | Self::RequestBody { .. } => Blame::Downstream,
            Self::NoLongerPermitted { .. } | Self::TokenExpired { .. } => Blame::Downstream,
            Self::Target { .. } | Self::Audit => Blame::Ourselves,
            _ => Blame::Upstream,
        }
    }
}

/// An error and all its sources in one line: the outermost alone seldom says what happened.
#[must_use]
pub fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_that_cannot_be_reached_in_time_is_a_gateway_timeout() {
        let failure = Failure::ConnectTimeout { upstream: "127.0.0.1:9".into(), limit_ms: 2_000 };
        assert_eq!((failure.status(), failure.stage()), (504, "upstream-connect-timeout"));
        assert_eq!(failure.blame(), Blame::Upstream);
    }

    #[test]
    fn an_audit_log_that_cannot_be_written_is_our_own_fault() {
        assert_eq!((Failure::Audit.status(), Failure::Audit.blame()), (503, Blame::Ourselves));
    }
}
