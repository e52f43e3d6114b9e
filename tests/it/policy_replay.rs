//! Policies and the audit log of a real sidecar: replayed, and suggested from it.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

const POLICIES: &str = r#"
@id("reads") permit (principal in Stage::"web", action in Action::"read", resource in HttpPath::"endpoint/orders");
@id("tenant") permit (principal, action == Action::"http:POST", resource)
when { context.headers.hasTag("x-tenant") && context.headers.getTag("x-tenant").contains("a") };
@id("never-asked") permit (principal in Stage::"web", action == Action::"http:DELETE", resource);
"#;

async fn policy(arguments: &[&str]) -> Output {
    let mut command = portcullis();
    command.arg("policy").args(arguments);
    Process::run(&arguments.join(" "), &mut command, "").await
}

#[tokio::test]
async fn recorded_requests_are_asked_again_and_suggest_the_least_policies() {
    let (world, upstream) = (World::new(), Recorder::start());
    let entities = serde_json::json!([{"uid": {"type": "Workload", "id": world.id("app")}, "parents": [{"type": "Stage", "id": "web"}], "tags": {"team": ["shop"]}}]);
    let service = world.sidecar("service").policies(POLICIES).entities(&entities);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let svid = world.ca.issue("/ns/test/sa/app");
    let stream = TlsClient::with(&svid).connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
    let mut app = http1(stream).await;
    for (method, path, tenant, status) in [
        ("GET", "/orders/1", "b", StatusCode::OK),
        ("GET", "/orders/2", "b", StatusCode::OK),
        ("GET", "/reports/1", "b", StatusCode::FORBIDDEN),
        ("POST", "/orders/1", "a", StatusCode::OK),
        ("POST", "/orders/1", "b", StatusCode::FORBIDDEN),
    ] {
        let answer = app.send(request(method, "service.example", path, &[("x-tenant", tenant)], "")).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let recorded = service.records.requests(5).await;
    assert_eq!(recorded[0]["principal_in"], serde_json::json!(["Stage::\"web\""]));
    assert_eq!(recorded[0]["principal_tags"], serde_json::json!({"team": ["shop"]}));
    let log = service.directory().join("audit.jsonl").display().to_string();
    let present = service.directory().join("policies").display().to_string();

    let same = policy(&["replay", "--policies", &present, &log]).await;
    assert_eq!(same.code(), 0, "{same:#?}");
    assert!(same.stdout.contains("no recorded request is decided otherwise"), "{}", same.stdout);
    assert!(same.stdout.contains("5 decisions asked again"), "{}", same.stdout);
    assert!(!same.stdout.contains("not exact"), "{}", same.stdout);

    // Another directory: more for one, less for another, and it is said what cannot be known.
    let other = world.folder("other");
    let wider = "@id(\"wider\") permit (principal, action in Action::\"read\", resource in HttpPath::\"endpoint/reports\") when { context.headers.hasTag(\"x-new\") || true };";
    std::fs::write(other.join("p.cedar"), wider).expect("the folder is writable");
    let changed = policy(&["replay", "--policies", &other.display().to_string(), &log, "--output", "json"]).await;
    assert_eq!(changed.code(), 2, "{changed:#?}");
    let json: Value = changed.json();
    let flips: Vec<(String, String, String, u64)> = json["flips"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|flip| {
            let text = |name: &str| flip[name].as_str().unwrap_or_default().to_owned();
            (text("action"), text("resource"), text("would_be"), flip["count"].as_u64().unwrap_or_default())
        })
        .collect();
    assert_eq!(
        flips,
        [
            ("http:GET".to_owned(), "HttpPath::\"endpoint/orders\"".to_owned(), "not_permitted".to_owned(), 2),
            ("http:GET".to_owned(), "HttpPath::\"endpoint/reports\"".to_owned(), "allowed".to_owned(), 1),
            ("http:POST".to_owned(), "HttpPath::\"endpoint/orders\"".to_owned(), "not_permitted".to_owned(), 1),
        ]
    );
    let inexact: Vec<&str> =
        json["inexact"].as_array().expect("a list").iter().filter_map(|note| note["reason"].as_str()).collect();
    assert!(inexact.contains(&"these policies read headers that the record does not hold"), "{inexact:?}");
    assert!(inexact.contains(&"entities.json says something else of the workload than it did then"), "{inexact:?}");

    let suggested = policy(&["suggest", "--policies", &present, &log]).await;
    assert_eq!(suggested.code(), 0, "{suggested:#?}");
    for said in [
        "// Unreviewed",
        "principal in Stage::\"web\"",
        "action == Action::\"http:GET\"",
        "in HttpPath::\"endpoint/orders\"",
        "never-asked",
    ] {
        assert!(suggested.stdout.contains(said), "no `{said}`:\n{}", suggested.stdout);
    }
    assert!(
        suggested.stderr.contains("from 3 requests; replayed on them, they allow all of them"),
        "{}",
        suggested.stderr
    );
    assert!(!suggested.stdout.contains("reports"), "{}", suggested.stdout);

    let none = service.directory().join("portcullis.yaml").display().to_string();
    for (arguments, said) in [
        (&["replay", "--policies", &present, "/nonexistent/audit.jsonl"][..], "/nonexistent/audit.jsonl"),
        (&["replay", "--policies", &present, &log, &none], "lines is an audit record"),
        (&["suggest", "--policies", &present, &log, &none], "lines is an audit record"),
        (&["suggest", "--policies", &present, "/nonexistent/audit.jsonl"], "/nonexistent/audit.jsonl"),
    ] {
        let output = policy(arguments).await;
        assert_eq!(output.code(), 1, "{output:#?}");
        assert!(output.stderr.contains(said), "{}", output.stderr);
    }
    service.stop().await;
}

#[tokio::test]
async fn a_replay_that_asked_nothing_or_not_everything_is_no_pass() {
    let world = World::new();
    let folder = world.folder("policies");
    let cedar = "@id(\"p\") permit (principal, action == Action::\"http:GET\", resource in Endpoint::\"api\");\n";
    std::fs::write(folder.join("p.cedar"), cedar).expect("the folder is writable");
    let folder = folder.display().to_string();
    let record = |outcome: &str| {
        json!({"kind": "request", "decision_id": "01A", "outcome": outcome, "policies": [], "principal": "spiffe://a.test/etl",
               "action": "http:GET", "resource": "HttpPath::\"api/a\"",
               "context": {"now": "2026-11-21T09:30:00.125Z", "direction": "inbound", "headers": {}}})
    };
    let with = |field: &str, value: Value| {
        let mut record = record("allowed");
        record[field] = value;
        record.to_string()
    };
    let (allowed, denied) = (record("allowed").to_string(), record("not_permitted").to_string());
    let handshake = json!({"kind": "handshake", "decision_id": "01B", "outcome": "refused"}).to_string();
    let mut of_nobody = record("allowed");
    of_nobody.as_object_mut().expect("an object").remove("principal");
    let half = allowed.get(..allowed.len() / 2).expect("it is ASCII");
    let of_nothing = "no recorded decision was asked again";
    for (log, code, said) in [
        (String::new(), 4, Some(of_nothing)),
        (format!("{handshake}\n"), 4, Some(of_nothing)),
        (format!("{}\n", with("action", json!("s3:NoSuch"))), 4, Some(of_nothing)),
        (
            format!("{allowed}\n{}\n", with("action", json!("s3:NoSuch"))),
            4,
            Some("1 recorded decision could not be asked"),
        ),
        (
            format!("{allowed}\n{}\n", with("principal", json!("nobody"))),
            4,
            Some("1 recorded decision could not be asked"),
        ),
        (format!("{allowed}\n{}\n", with("resource", Value::Null)), 4, Some("1 recorded decision could not be asked")),
        (format!("{allowed}\n{of_nobody}\n"), 4, Some("1 recorded decision could not be asked")),
        (format!("{allowed}\n{half}"), 4, Some("1 line is no record")),
        // What grows is said to, whatever else there is.
        (format!("{denied}\n{half}"), 2, Some("1 line is no record")),
        (format!("{allowed}\n{handshake}\n"), 0, None),
    ] {
        let file = world.write("audit.jsonl", &log).display().to_string();
        let output = policy(&["replay", "--policies", &folder, &file]).await;
        assert_eq!(output.code(), code, "{log}\n{output:#?}");
        let line = output.stdout.lines().find(|line| line.starts_with("not proved: "));
        assert!(said.map_or(line.is_none(), |said| line.is_some_and(|line| line.contains(said))), "{log}\n{output:#?}");
        let json = policy(&["replay", "--policies", &folder, &file, "--output", "json"]).await;
        assert_eq!(json.code(), code, "{log}\n{json:#?}");
        assert_eq!(json.json()["not_proved"].as_array().map(Vec::is_empty), Some(said.is_none()), "{json:#?}");
    }
}
