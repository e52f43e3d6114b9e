//! One audit record: fields borrowed from the request, written as one JSON object.

mod append;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::DecisionId;
use super::said::Said;
use crate::mapping::{Context, Resource};
use crate::policy::PolicyGeneration;

/// What a record is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One request, after its answer or its refusal.
    Request,
    /// A request that is open for long; its `Request` record follows under the same decision id.
    Started,
    /// A handshake that was refused.
    Handshake,
    /// A connection that was decided as a whole, or cut when policy or trust changed.
    Connection,
}

impl Kind {
    /// As the record writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Started => "started",
            Self::Handshake => "handshake",
            Self::Connection => "connection",
        }
    }
}

/// One record. What is `None` or empty is left out of the line; `docs/audit.md` tells what each field means.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When it is written.
    pub time: SystemTime,
    /// What it is about.
    pub kind: Kind,
    /// Ties it to the answer's `x-portcullis-decision`.
    pub decision_id: DecisionId,
    /// `x-request-id`.
    pub request_id: Option<&'a str>,
    /// Written behind the request id: the number of a statement in its session.
    pub request_number: Option<u64>,
    /// The trace id of `traceparent`.
    pub trace_id: Option<&'a str>,
    /// `allowed`, `forbidden`, `not_permitted`, `error` or `refused`.
    pub outcome: &'static str,
    /// `enforce` or `shadow`.
    pub mode: &'static str,
    /// Ids of the determining policies.
    pub policies: &'a [Arc<str>],
    /// `sha256:…` of the policies that decided.
    pub policy_digest: Option<&'a str>,
    /// Their generation.
    pub policy_generation: Option<u64>,
    /// SPIFFE ID of the peer.
    pub principal: Option<&'a str>,
    /// The policies that decided, which know what entities.json says of resources.
    pub in_force: Option<&'a PolicyGeneration>,
    /// What entities.json puts the peer in: `Stage::"transform"`.
    pub principal_in: &'a [Arc<str>],
    /// The tags that it gives the peer.
    pub principal_tags: Option<&'a BTreeMap<String, Vec<String>>>,
    /// What candidates would have decided.
    pub shadow: &'a [TrialRecord<'a>],
    /// Hex SHA-256 of the peer's leaf.
    pub peer_certificate_sha256: Option<&'a str>,
    /// Hex serial of the peer's leaf.
    pub peer_certificate_serial: Option<&'a str>,
    /// What a refused certificate claimed to be: never to be taken for a principal.
    pub peer_san: Option<&'a str>,
    /// Who vouches for the verified token that came with the request.
    pub token_issuer: Option<&'a str>,
    /// Whose token it is.
    pub token_subject: Option<&'a str>,
    /// Address and port of the peer, or `unix` and what is known of it.
    pub peer_address: Option<&'a str>,
    /// What was asked; the first thing if there are several.
    pub action: Option<&'a str>,
    /// Of what.
    pub resource: Option<&'a Resource>,
    /// What was known about all operations of the request.
    pub facts: Option<&'a Context>,
    /// What was known about this operation; written together with `facts` as `context`.
    pub context: Option<&'a Context>,
    /// Every operation, when there are several.
    pub operations: &'a [OperationRecord<'a>],
    /// What this record has in common with others of the same answer: from `outcome` to `upstream` all but the time. Taken from there
    /// once it is known, without a look at the fields themselves.
    pub said: Option<&'a Said>,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// `http`, `s3` …
    pub protocol: &'static str,
    /// The listener's name.
    pub listener: &'a str,
    /// Where it was forwarded, or would have been.
    pub upstream: Option<&'a str>,
    /// The HTTP method.
    pub method: Option<&'a str>,
    /// The SQL statement, where it is one.
    pub sql: Option<SqlRecord<'a>>,
    /// The status answered.
    pub status: Option<u16>,
    /// Body bytes from downstream to upstream.
    pub bytes_in: Option<u64>,
    /// Body bytes from upstream to downstream.
    pub bytes_out: Option<u64>,
    /// From the head of the request to now.
    pub duration: Option<Duration>,
    /// Time to decide.
    pub authz: Option<Duration>,
    /// The rule that a refusal goes by: `dot-segment`, `uri-san-count` …
    pub reason: Option<&'a str>,
    /// What went wrong, in words.
    pub error: Option<&'a str>,
}

/// What the record of a SQL statement has beyond other records.
#[derive(Debug, Clone, Copy)]
pub struct SqlRecord<'a> {
    /// The session it came in: the same in all its records.
    pub session: &'a str,
    /// The text, with literals replaced unless the configuration wants all of it.
    pub text: Option<&'a str>,
    /// Which statements are alike but for their literals.
    pub fingerprint: Option<&'a str>,
    /// The session's transaction, counted from 1.
    pub transaction: u64,
    /// `simple`, `extended` or `function-call`.
    pub protocol: &'a str,
    /// The name that it was prepared under.
    pub prepared: Option<&'a str>,
    /// The server's command tag: `INSERT 0 5`.
    pub command: Option<&'a str>,
    /// Rows returned or written.
    pub rows: Option<u64>,
    /// The SQLSTATE that it failed with.
    pub sqlstate: Option<&'a str>,
}

/// What a candidate would have decided about a request.
#[derive(Debug, Clone, Copy)]
pub struct TrialRecord<'a> {
    /// Which candidate: `directory` or `annotated`.
    pub candidate: &'static str,
    /// The whole request's outcome.
    pub outcome: &'static str,
    /// Ids of the determining policies.
    pub policies: &'a [Arc<str>],
    /// `sha256:…` of the candidate.
    pub policy_digest: &'a str,
    /// The evaluation error, if there was one.
    pub error: Option<&'a str>,
}

/// One of several operations of a request.
#[derive(Debug, Clone, Copy)]
pub struct OperationRecord<'a> {
    /// What was asked.
    pub action: &'a str,
    /// Of what.
    pub resource: &'a Resource,
    /// What was known about it beyond the request's facts.
    pub context: &'a Context,
    /// What came of it.
    pub outcome: &'static str,
    /// Ids of the determining policies.
    pub policies: &'a [Arc<str>],
    /// The evaluation error, if there was one.
    pub error: Option<&'a str>,
}

impl Record<'_> {
    /// A record of now with only its required fields; the rest by `Record { principal: …, ..Record::new(…) }`.
    #[must_use]
    pub fn new(kind: Kind, decision_id: DecisionId, outcome: &'static str) -> Self {
        Self {
            time: SystemTime::now(),
            kind,
            decision_id,
            request_id: None,
            request_number: None,
            trace_id: None,
            outcome,
            mode: "enforce",
            policies: &[],
            policy_digest: None,
            policy_generation: None,
            in_force: None,
            principal: None,
            principal_in: &[],
            principal_tags: None,
            shadow: &[],
            peer_certificate_sha256: None,
            peer_certificate_serial: None,
            peer_san: None,
            token_issuer: None,
            token_subject: None,
            peer_address: None,
            action: None,
            resource: None,
            facts: None,
            context: None,
            operations: &[],
            said: None,
            direction: "",
            protocol: "",
            listener: "",
            upstream: None,
            method: None,
            sql: None,
            status: None,
            bytes_in: None,
            bytes_out: None,
            duration: None,
            authz: None,
            reason: None,
            error: None,
        }
    }
}

#[cfg(test)]
mod tests;
