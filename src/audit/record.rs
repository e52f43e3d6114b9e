//! One audit record: fields borrowed from the request, written as one JSON object.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::DecisionId;
use super::line::Rfc3339;
use super::redact::{REDACTED, is_secret_header};
use crate::mapping::{Context, Resource, Value};

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
    /// Hex SHA-256 of the peer's leaf.
    pub peer_certificate_sha256: Option<&'a str>,
    /// Hex serial of the peer's leaf.
    pub peer_certificate_serial: Option<&'a str>,
    /// What a refused certificate claimed to be: never to be taken for a principal.
    pub peer_san: Option<&'a str>,
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
            trace_id: None,
            outcome,
            mode: "enforce",
            policies: &[],
            policy_digest: None,
            policy_generation: None,
            principal: None,
            peer_certificate_sha256: None,
            peer_certificate_serial: None,
            peer_san: None,
            peer_address: None,
            action: None,
            resource: None,
            facts: None,
            context: None,
            operations: &[],
            direction: "",
            protocol: "",
            listener: "",
            upstream: None,
            method: None,
            status: None,
            bytes_in: None,
            bytes_out: None,
            duration: None,
            authz: None,
            reason: None,
            error: None,
        }
    }

    /// Whether sampling may leave it out: only what was allowed in earnest.
    pub(super) fn may_be_left_out(&self) -> bool {
        self.outcome == "allowed" && self.mode == "enforce"
    }

    fn fields<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("time", &Rfc3339::from(self.time))?;
        map.serialize_entry("kind", self.kind.as_str())?;
        map.serialize_entry("decision_id", &Text(self.decision_id))?;
        some(map, "request_id", self.request_id)?;
        some(map, "trace_id", self.trace_id)?;
        map.serialize_entry("outcome", self.outcome)?;
        map.serialize_entry("mode", self.mode)?;
        if !self.policies.is_empty() {
            map.serialize_entry("policies", self.policies)?;
        }
        some(map, "policy_digest", self.policy_digest)?;
        some(map, "policy_generation", self.policy_generation)?;
        some(map, "principal", self.principal)?;
        some(map, "peer_certificate_sha256", self.peer_certificate_sha256)?;
        some(map, "peer_certificate_serial", self.peer_certificate_serial)?;
        some(map, "peer_san", self.peer_san)?;
        some(map, "peer_address", self.peer_address)?;
        some(map, "action", self.action)?;
        some(map, "resource", self.resource.map(ResourceText))?;
        if self.facts.is_some() || self.context.is_some() {
            map.serialize_entry("context", &ContextObject { facts: self.facts, own: self.context })?;
        }
        if !self.operations.is_empty() {
            map.serialize_entry("operations", self.operations)?;
        }
        text(map, "direction", self.direction)?;
        text(map, "protocol", self.protocol)?;
        text(map, "listener", self.listener)?;
        some(map, "upstream", self.upstream)?;
        some(map, "method", self.method)?;
        some(map, "status", self.status)?;
        some(map, "bytes_in", self.bytes_in)?;
        some(map, "bytes_out", self.bytes_out)?;
        some(map, "duration_us", self.duration.map(microseconds))?;
        some(map, "authz_us", self.authz.map(microseconds))?;
        some(map, "reason", self.reason)?;
        some(map, "error", self.error)
    }
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Sampled { record: self, rate: 1.0 }.serialize(serializer)
    }
}

/// A record with the share of its kind that is written.
pub(super) struct Sampled<'a> {
    pub(super) record: &'a Record<'a>,
    pub(super) rate: f64,
}

impl Serialize for Sampled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.record.fields(&mut map)?;
        if self.rate < 1.0 && self.record.may_be_left_out() {
            map.serialize_entry("sample_rate", &self.rate)?;
        }
        map.end()
    }
}

impl Serialize for OperationRecord<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("action", self.action)?;
        map.serialize_entry("resource", &ResourceText(self.resource))?;
        map.serialize_entry("context", &ContextObject { facts: None, own: Some(self.context) })?;
        map.serialize_entry("outcome", self.outcome)?;
        if !self.policies.is_empty() {
            map.serialize_entry("policies", self.policies)?;
        }
        some(&mut map, "error", self.error)?;
        map.end()
    }
}

/// The two halves of a context as one object. An attribute is in one of them only.
struct ContextObject<'a> {
    facts: Option<&'a Context>,
    own: Option<&'a Context>,
}

impl Serialize for ContextObject<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let attributes = self.facts.into_iter().chain(self.own).flat_map(Context::iter);
        serializer.collect_map(attributes.map(|(name, value)| (name, ValueJson(value))))
    }
}

struct ValueJson<'a>(&'a Value);

impl Serialize for ValueJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Long(value) => serializer.serialize_i64(*value),
            Value::String(value) => serializer.serialize_str(value),
            Value::Strings(values) => serializer.collect_seq(values),
            Value::Ip(address) => serializer.collect_str(address),
            Value::Datetime(milliseconds) => Rfc3339::from_milliseconds(*milliseconds).serialize(serializer),
            Value::Record(attributes) => {
                serializer.collect_map(attributes.iter().map(|(name, value)| (name, ValueJson(value))))
            }
            Value::Headers(headers) => {
                serializer.collect_map(headers.iter().map(|(name, values)| (name, HeaderValues { name, values })))
            }
        }
    }
}

struct HeaderValues<'a> {
    name: &'a str,
    values: &'a [Box<str>],
}

impl Serialize for HeaderValues<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let secret = is_secret_header(self.name);
        let mut values = serializer.serialize_seq(Some(self.values.len()))?;
        for value in self.values {
            values.serialize_element(if secret { REDACTED } else { value })?;
        }
        values.end()
    }
}

/// A resource as Cedar writes it. `Resource` itself escapes character by character; most ids have nothing to escape.
struct ResourceText<'a>(&'a Resource);

impl fmt::Display for ResourceText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0.id();
        if id.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\')) {
            for part in [self.0.kind().as_str(), "::\"", id, "\""] {
                f.write_str(part)?;
            }
            return Ok(());
        }
        fmt::Display::fmt(self.0, f)
    }
}

impl Serialize for ResourceText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Anything by its text.
struct Text<T>(T);

impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

fn some<M: SerializeMap>(map: &mut M, name: &'static str, value: Option<impl Serialize>) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, &value))
}

fn text<M: SerializeMap>(map: &mut M, name: &'static str, value: &str) -> Result<(), M::Error> {
    if value.is_empty() { Ok(()) } else { map.serialize_entry(name, value) }
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
    use crate::audit::line;

    fn json(record: &Record<'_>) -> serde_json::Value {
        let mut bytes = Vec::new();
        line::append(&mut bytes, record).unwrap();
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
            serde_json::to_value(Sampled { record: &record, rate })
                .unwrap()
                .get("sample_rate")
                .and_then(serde_json::Value::as_f64)
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
                prop_assert_eq!(ResourceText(&resource).to_string(), resource.to_string());
            }
        }
    }
}
