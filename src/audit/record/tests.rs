use std::net::Ipv4Addr;
use std::time::UNIX_EPOCH;

use proptest::prelude::*;

use super::append::append_resource;
use super::*;
use crate::audit::line::displayed;
use crate::mapping::Value;

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
        Value::Record(vec![("version", "TLSv1.3".into()), ("certificateExpiry", Value::Datetime(1_469_921_776_000))]),
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
    let documentation = include_str!("../../../docs/audit.md");
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
        Value::Headers(headers.iter().map(|name| ((*name).into(), vec!["hunter2".into(), "hunter3".into()])).collect()),
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
