//! What a record tells beside the decision: how an exchange began, and how it ended.

use std::sync::Arc;
use std::time::Instant;

use crate::identity::Token;

/// One exchange as the record sees it, whatever comes of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// When its head had arrived.
    pub started: Instant,
    /// `x-request-id`: received or made.
    pub request_id: Arc<str>,
    /// Written behind the request id: tells the statements of one session apart.
    pub number: Option<u64>,
    /// The trace id of `traceparent`, if there was one.
    pub trace_id: Option<Box<str>>,
    /// The request's method, where the protocol has one.
    pub method: Option<Box<str>>,
    /// The SQL statement, where it is one.
    pub statement: Option<Box<Statement>>,
    /// The verified token that came with it: a part of the question.
    pub token: Option<Arc<Token>>,
}

/// A SQL statement as its record tells of it.
#[derive(Debug, Clone)]
pub struct Statement {
    /// The session it came in: the same in all its records.
    pub session: Arc<str>,
    /// The text as the configuration wants it recorded; none for `audit.sql: fingerprint`.
    pub text: Option<Arc<str>>,
    /// Which statements are alike but for their literals.
    pub fingerprint: Option<Arc<str>>,
    /// The session's transaction, counted from 1.
    pub transaction: u64,
    /// How it came: `simple`, `extended`, `function-call`.
    pub protocol: &'static str,
    /// The name that it was prepared under, if it has one.
    pub prepared: Option<Box<str>>,
}

/// How an exchange ended.
#[derive(Debug, Clone, Default)]
pub struct Settlement {
    /// When it ended; none: now.
    pub ended: Option<Instant>,
    /// The status that the peer was answered with; none if it got no answer.
    pub status: Option<u16>,
    /// Body bytes received from the peer and forwarded.
    pub bytes_in: u64,
    /// Body bytes sent to the peer.
    pub bytes_out: u64,
    /// The rule that a permitted request broke after its decision, in its body.
    pub reason: Option<&'static str>,
    /// What went wrong after the decision.
    pub error: Option<String>,
    /// The server's command tag, of a SQL statement: `INSERT 0 5`.
    pub command: Option<Box<str>>,
    /// Rows returned or written, of a SQL statement.
    pub rows: Option<u64>,
    /// The SQLSTATE that a SQL statement failed with.
    pub sqlstate: Option<Box<str>>,
}
