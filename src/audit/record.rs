//! One audit record: fields borrowed from the request, written as one JSON object.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::DecisionId;
use super::line::{Object, Rfc3339, displayed, is_plain, list, number, string, string_contents, whole_number};
use super::said::Said;
use crate::mapping::{Context, REDACTED, Resource, Tags, TagsRead, Value, is_secret_header};
use crate::policy::{Given, PolicyGeneration};

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

    /// Whether sampling may leave it out: only what was allowed in earnest, and would have been by every candidate.
    pub(super) fn may_be_left_out(&self) -> bool {
        self.outcome == "allowed"
            && self.mode == "enforce"
            && self.shadow.iter().all(|trial| trial.outcome == "allowed")
    }

    /// Appends the record as one line, the newline included. `rate` is the share of the records that sampling may leave out which
    /// is written.
    pub(super) fn append(&self, line: &mut Vec<u8>, rate: f64) {
        let mut object = Object::begin(line);
        let time = Rfc3339::from(self.time);
        object.member("time", |line| time.append(line));
        object.string("kind", self.kind.as_str());
        object.member("decision_id", |line| self.decision_id.append(line));
        if let Some(id) = self.request_id {
            object.member("request_id", |line| append_request_id(line, id, self.request_number));
        }
        object.some_string("trace_id", self.trace_id);
        match self.said {
            Some(said) => object.members(|line| said.append(line, time, |line| self.append_answered(line))),
            None => object.members(|line| self.append_answered(line)),
        }
        object.some_string("method", self.method);
        if let Some(sql) = &self.sql {
            object.member("sql", |line| sql.append(line));
        }
        object.some_number("status", self.status.map(u64::from));
        object.some_number("bytes_in", self.bytes_in);
        object.some_number("bytes_out", self.bytes_out);
        object.some_number("duration_us", self.duration.map(microseconds));
        object.some_number("authz_us", self.authz.map(microseconds));
        object.some_string("reason", self.reason);
        object.some_string("error", self.error);
        if rate < 1.0 && self.may_be_left_out() {
            object.member("sample_rate", |line| number(line, rate));
        }
        object.end();
        line.push(b'\n');
    }

    /// What is the same in all records of an answer but for the time of the question.
    fn append_answered(&self, line: &mut Vec<u8>) {
        let mut object = Object::within(line);
        object.string("outcome", self.outcome);
        object.string("mode", self.mode);
        object.some_strings("policies", self.policies);
        object.some_string("policy_digest", self.policy_digest);
        object.some_number("policy_generation", self.policy_generation);
        if !self.shadow.is_empty() {
            object.member("shadow", |line| list(line, self.shadow, |line, trial| trial.append(line)));
        }
        self.append_peer(&mut object);
        self.append_asked(&mut object);
        object.some_string("direction", not_empty(self.direction));
        object.some_string("protocol", not_empty(self.protocol));
        object.some_string("listener", not_empty(self.listener));
        object.some_string("upstream", self.upstream);
    }

    fn append_peer(&self, object: &mut Object<'_>) {
        object.some_string("principal", self.principal);
        object.some_strings("principal_in", self.principal_in);
        if let Some(tags) = self.principal_tags.filter(|tags| !tags.is_empty()) {
            let tags = tags.iter().map(|(name, values)| (name.as_str(), values.as_slice()));
            object.member("principal_tags", |line| append_tags(line, tags));
        }
        object.some_string("peer_certificate_sha256", self.peer_certificate_sha256);
        object.some_string("peer_certificate_serial", self.peer_certificate_serial);
        object.some_string("peer_san", self.peer_san);
        object.some_string("peer_address", self.peer_address);
        object.some_string("token_issuer", self.token_issuer);
        object.some_string("token_subject", self.token_subject);
    }

    fn append_asked(&self, object: &mut Object<'_>) {
        object.some_string("action", self.action);
        if let Some(resource) = self.resource {
            object.member("resource", |line| append_resource(line, resource));
            append_placed(object, resource, self.in_force);
        }
        if self.facts.is_some() || self.context.is_some() {
            object.member("context", |line| append_context(line, self.facts, self.context, self.in_force));
        }
        if !self.operations.is_empty() {
            object.member("operations", |line| {
                list(line, self.operations, |line, operation| operation.append(line, self.in_force))
            });
        }
    }
}

impl SqlRecord<'_> {
    fn append(&self, line: &mut Vec<u8>) {
        let mut object = Object::begin(line);
        object.string("session", self.session);
        object.some_number("transaction", Some(self.transaction));
        object.string("protocol", self.protocol);
        object.some_string("prepared", self.prepared);
        object.some_string("text", self.text);
        object.some_string("fingerprint", self.fingerprint);
        object.some_string("command", self.command);
        object.some_number("rows", self.rows);
        object.some_string("sqlstate", self.sqlstate);
        object.end();
    }
}

impl TrialRecord<'_> {
    fn append(&self, line: &mut Vec<u8>) {
        let mut object = Object::begin(line);
        object.string("candidate", self.candidate);
        object.string("outcome", self.outcome);
        object.some_strings("policies", self.policies);
        object.string("policy_digest", self.policy_digest);
        object.some_string("error", self.error);
        object.end();
    }
}

fn append_tags<'t>(line: &mut Vec<u8>, tags: impl Iterator<Item = (&'t str, &'t [String])>) {
    let mut object = Object::begin(line);
    for (name, values) in tags {
        object.foreign_member(name, |line| list(line, values, |line, value| string(line, value)));
    }
    object.end();
}

impl OperationRecord<'_> {
    fn append(&self, line: &mut Vec<u8>, in_force: Option<&PolicyGeneration>) {
        let mut object = Object::begin(line);
        object.string("action", self.action);
        object.member("resource", |line| append_resource(line, self.resource));
        append_placed(&mut object, self.resource, in_force);
        object.member("context", |line| append_context(line, None, Some(self.context), in_force));
        object.string("outcome", self.outcome);
        object.some_strings("policies", self.policies);
        object.some_string("error", self.error);
        object.end();
    }
}

fn append_request_id(line: &mut Vec<u8>, id: &str, count: Option<u64>) {
    line.push(b'"');
    string_contents(line, id);
    if let Some(count) = count {
        line.push(b'-');
        whole_number(line, count);
    }
    line.push(b'"');
}

/// A resource as Cedar writes it: `Bucket::"lake/raw"`.
fn append_resource(line: &mut Vec<u8>, resource: &Resource) {
    let id = resource.id();
    // Cedar escapes single quotes too. Most ids have nothing to escape, and `Resource` escapes character by character.
    if is_plain(id) && memchr::memchr(b'\'', id.as_bytes()).is_none() {
        line.push(b'"');
        for part in [resource.kind().as_str(), "::\\\"", id, "\\\""] {
            line.extend_from_slice(part.as_bytes());
        }
        line.push(b'"');
    } else {
        displayed(line, resource);
    }
}

/// What its id does not tell: the tables that it is a partition of, the groups that entities.json puts it in, and its tags. Most are in none,
/// and cost nothing.
fn append_placed(object: &mut Object<'_>, resource: &Resource, in_force: Option<&PolicyGeneration>) {
    let given = in_force.and_then(|policies| policies.given(resource));
    let groups = given.iter().flat_map(Given::groups);
    let mut above = resource.wholes().map(|id| ("Table", id)).chain(groups).peekable();
    if above.peek().is_some() {
        object.member("resource_in", |line| {
            list(line, above, |line, (kind, id)| displayed(line, format_args!("{kind}::\"{}\"", id.escape_debug())));
        });
    }
    let tags = given.as_ref().map(Given::tags);
    let mut tags = tags.into_iter().flatten().peekable();
    if tags.peek().is_some() {
        object.member("resource_tags", |line| append_tags(line, tags));
    }
}

/// The two halves of a context as one object. An attribute is in one of them only.
fn append_context(
    line: &mut Vec<u8>,
    facts: Option<&Context>,
    own: Option<&Context>,
    in_force: Option<&PolicyGeneration>,
) {
    let mut object = Object::begin(line);
    for (name, value) in facts.into_iter().chain(own).flat_map(Context::iter) {
        object.member(name, |line| append_value(line, value, in_force));
    }
    object.end();
}

fn append_value(line: &mut Vec<u8>, value: &Value, in_force: Option<&PolicyGeneration>) {
    match value {
        Value::Bool(value) => string_contents(line, if *value { "true" } else { "false" }),
        Value::Long(value) => number(line, value),
        Value::String(value) => string(line, value),
        Value::Strings(values) => list(line, values, |line, value| string(line, value)),
        Value::Ip(address) => displayed(line, address),
        Value::Datetime(milliseconds) => Rfc3339::from_milliseconds(*milliseconds).append(line),
        Value::Record(attributes) => {
            let mut object = Object::begin(line);
            for (name, value) in attributes {
                object.member(name, |line| append_value(line, value, in_force));
            }
            object.end();
        }
        Value::Headers(headers) => append_read(line, headers, in_force.map(|policies| policies.headers_read().all)),
        Value::Claims(claims) => append_read(line, claims, in_force.map(PolicyGeneration::claims_read)),
    }
}

/// Headers or claims; `null` for one that policies look for and that was not there, so that the record says all that they saw.
fn append_read(line: &mut Vec<u8>, tags: &Tags, reads: Option<&TagsRead>) {
    let mut object = Object::begin(line);
    for (name, values) in tags {
        let secret = is_secret_header(name);
        object.foreign_member(name, |line| {
            list(line, values, |line, value| string(line, if secret { REDACTED } else { value }))
        });
    }
    if let Some(TagsRead::Only(names)) = reads {
        for name in names.iter().filter(|name| tags.iter().all(|(known, _)| known != *name)) {
            object.foreign_member(name, |line| line.extend_from_slice(b"null"));
        }
    }
    object.end();
}

fn not_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::UNIX_EPOCH;

    use proptest::prelude::*;

    use super::*;

    fn json(record: &Record<'_>) -> serde_json::Value {
        let mut bytes = Vec::new();
        record.append(&mut bytes, 1.0);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        serde_json::from_slice(&bytes).unwrap()
    }

    fn id() -> DecisionId {
        DecisionId::new(UNIX_EPOCH + Duration::from_millis(1_469_918_176_385), 0)
    }

    #[test]
    fn a_record_holds_every_field_under_its_documented_name() {
        let resource = Resource::object("lake", "raw", "ingest/a.parquet");
        let (mut facts, mut context) = (Context::default(), Context::default());
        facts.set("now", Value::Datetime(1_469_918_176_385));
        facts.set("sourceIp", Value::Ip(Ipv4Addr::LOCALHOST.into()));
        facts.set("direction", "inbound");
        facts.set(
            "tls",
            Value::Record(vec![
                ("version", "TLSv1.3".into()),
                ("certificateExpiry", Value::Datetime(1_469_921_776_000)),
            ]),
        );
        context.set("operation", "GetObject");
        context.set("contentLength", 7);
        context.set("presigned", false);
        context.set("columns", Value::Strings(vec!["a".into(), "b".into()]));
        context.set("headers", Value::Headers(vec![("x-tenant".into(), vec!["a".into(), "b".into()])]));
        let policies = [Arc::from("transform-reads-ingested")];
        let record = Record {
            time: UNIX_EPOCH + Duration::from_millis(1_469_918_176_390),
            request_id: Some("req-1"),
            trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736"),
            policies: &policies,
            policy_digest: Some("sha256:00"),
            policy_generation: Some(3),
            principal: Some("spiffe://pipeline.example/ns/etl/sa/transform"),
            peer_certificate_sha256: Some("ab"),
            peer_certificate_serial: Some("01"),
            peer_san: Some("spiffe://other.example/x"),
            peer_address: Some("127.0.0.1:40000"),
            action: Some("s3:GetObject"),
            resource: Some(&resource),
            facts: Some(&facts),
            context: Some(&context),
            operations: &[OperationRecord {
                action: "s3:GetObject",
                resource: &resource,
                context: &context,
                outcome: "forbidden",
                policies: &policies,
                error: Some("e"),
            }],
            direction: "inbound",
            protocol: "s3",
            listener: "lake",
            upstream: Some("127.0.0.1:9000"),
            method: Some("GET"),
            status: Some(200),
            bytes_in: Some(0),
            bytes_out: Some(7),
            duration: Some(Duration::from_millis(5)),
            authz: Some(Duration::from_nanos(7_900)),
            reason: Some("rule"),
            error: Some("words"),
            ..Record::new(Kind::Request, id(), "allowed")
        };
        let written = json(&record);
        assert_eq!(
            written,
            serde_json::json!({
                "time": "2016-07-30T22:36:16.390Z", "kind": "request", "decision_id": "01ARYZ6S410000000000000000",
                "request_id": "req-1", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "outcome": "allowed", "mode": "enforce",
                "policies": ["transform-reads-ingested"], "policy_digest": "sha256:00", "policy_generation": 3,
                "principal": "spiffe://pipeline.example/ns/etl/sa/transform", "peer_certificate_sha256": "ab",
                "peer_certificate_serial": "01", "peer_san": "spiffe://other.example/x", "peer_address": "127.0.0.1:40000",
                "action": "s3:GetObject", "resource": "Object::\"lake/raw/ingest/a.parquet\"",
                "context": {
                    "now": "2016-07-30T22:36:16.385Z", "sourceIp": "127.0.0.1", "direction": "inbound",
                    "tls": {"version": "TLSv1.3", "certificateExpiry": "2016-07-30T23:36:16.000Z"},
                    "operation": "GetObject", "contentLength": 7, "presigned": false, "columns": ["a", "b"],
                    "headers": {"x-tenant": ["a", "b"]},
                },
                "operations": [{
                    "action": "s3:GetObject", "resource": "Object::\"lake/raw/ingest/a.parquet\"",
                    "context": {
                        "operation": "GetObject", "contentLength": 7, "presigned": false, "columns": ["a", "b"],
                        "headers": {"x-tenant": ["a", "b"]},
                    },
                    "outcome": "forbidden", "policies": ["transform-reads-ingested"], "error": "e",
                }],
                "direction": "inbound", "protocol": "s3", "listener": "lake", "upstream": "127.0.0.1:9000", "method": "GET",
                "status": 200, "bytes_in": 0, "bytes_out": 7, "duration_us": 5_000, "authz_us": 7, "reason": "rule", "error": "words",
            })
        );
        let documentation = include_str!("../../docs/audit.md");
        for name in written.as_object().unwrap().keys() {
            assert!(documentation.contains(&format!("| `{name}` |")), "docs/audit.md does not name `{name}`");
        }
    }

    #[test]
    fn a_record_of_a_refused_handshake_has_no_empty_fields() {
        let record =
            Record { reason: Some("uri-san-count"), listener: "lake", ..Record::new(Kind::Handshake, id(), "refused") };
        let written = json(&record);
        let mut names: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["decision_id", "kind", "listener", "mode", "outcome", "reason", "time"]);
    }

    #[test]
    fn secrets_of_headers_are_never_written() {
        let mut context = Context::default();
        let headers = ["authorization", "cookie", "x-amz-security-token", "x-api-key"];
        context.set(
            "headers",
            Value::Headers(
                headers.iter().map(|name| ((*name).into(), vec!["hunter2".into(), "hunter3".into()])).collect(),
            ),
        );
        let record = Record { context: Some(&context), ..Record::new(Kind::Request, id(), "allowed") };
        let written = json(&record);
        assert!(!written.to_string().contains("hunter"), "{written}");
        assert_eq!(written["context"]["headers"]["cookie"], serde_json::json!(["[redacted]", "[redacted]"]));
    }

    #[test]
    fn the_sampling_rate_is_only_in_records_that_sampling_may_leave_out() {
        let rate = |outcome, mode, rate| {
            let record = Record { mode, ..Record::new(Kind::Request, id(), outcome) };
            let mut line = Vec::new();
            record.append(&mut line, rate);
            let written: serde_json::Value = serde_json::from_slice(&line).unwrap();
            written.get("sample_rate").and_then(serde_json::Value::as_f64)
        };
        assert_eq!(rate("allowed", "enforce", 0.25), Some(0.25));
        assert_eq!(rate("allowed", "enforce", 1.0), None);
        assert_eq!(rate("forbidden", "enforce", 0.25), None);
        assert_eq!(rate("forbidden", "shadow", 0.25), None);
    }

    proptest! {
        #[test]
        fn no_text_of_a_client_forges_a_line(text in any::<String>(), tail in "[\n\r\u{0}\u{1b}\u{85}\u{2028}\u{2029}\"\\\\{}:,]*") {
            let client = format!("{text}{tail}\n{{\"kind\":\"request\",\"outcome\":\"allowed\"}}");
            let resource = Resource::object("lake", "raw", &client);
            let mut context = Context::default();
            context.set("host", client.as_str());
            context.set("headers", Value::Headers(vec![("x-tenant".into(), vec![client.as_str().into()])]));
            let record = Record {
                request_id: Some(&client),
                peer_san: Some(&client),
                method: Some(&client),
                error: Some(&client),
                resource: Some(&resource),
                context: Some(&context),
                ..Record::new(Kind::Request, id(), "forbidden")
            };
            let written = json(&record);
            prop_assert_eq!(written["outcome"].as_str(), Some("forbidden"));
            prop_assert_eq!(written["context"]["headers"]["x-tenant"][0].as_str(), Some(client.as_str()));
            prop_assert_eq!(written["error"].as_str(), Some(client.as_str()));
        }

        #[test]
        fn the_quick_way_to_write_a_resource_is_the_same_as_the_slow_one(key in any::<String>(), plain in "[ -~]*") {
            for key in [key, plain] {
                let resource = Resource::object("lake", "raw", &key);
                let (mut quick, mut slow) = (Vec::new(), Vec::new());
                append_resource(&mut quick, &resource);
                displayed(&mut slow, &resource);
                prop_assert_eq!(quick, slow);
            }
        }
    }
}
