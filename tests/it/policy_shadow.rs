//! Candidates that decide beside the policies in force: never enforced, always recorded.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::support::*;

const ACTIVE: &str = r#"
@id("reads") permit (principal, action == Action::"http:GET", resource in HttpPath::"endpoint/orders");
@id("writes-tried") @mode("shadow") permit (principal, action == Action::"http:PUT", resource);
"#;
const CANDIDATE: &str = r#"
@id("reads-other") permit (principal, action == Action::"http:GET", resource in HttpPath::"endpoint/reports");
@id("tenant") permit (principal, action == Action::"http:POST", resource) when { context.headers.hasTag("x-tenant") && context.headers.getTag("x-tenant").contains("a") };
"#;

async fn ask(app: &mut Client, method: &str, path: &str) -> StatusCode {
    app.send(request(method, "service.example", path, &[("x-tenant", "a")], "")).await.status
}

fn trial<'a>(record: &'a Value, candidate: &str) -> &'a Value {
    let trials = record["shadow"].as_array().expect("the record has trials");
    trials.iter().find(|trial| trial["candidate"] == candidate).unwrap_or_else(|| panic!("{trials:#?}"))
}

#[tokio::test]
async fn candidates_decide_beside_the_policies_and_are_never_enforced() {
    let (world, upstream) = (World::new(), Recorder::start());
    let candidate = world.folder("candidate");
    std::fs::write(candidate.join("c.cedar"), CANDIDATE).expect("the folder is writable");
    let service =
        world.sidecar("service").policies(ACTIVE).doors("", "socket: admin.sock").yaml("reload_interval: 100ms");
    let service = service.policy_yaml(&format!("shadow: {}", candidate.display()));
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let svid = world.ca.issue("/ns/test/sa/app");
    let stream = TlsClient::with(&svid).connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
    let mut app = http1(stream).await;

    // Allowed now, denied by the candidate directory: it goes through.
    assert_eq!(ask(&mut app, "GET", "/orders/1").await, StatusCode::OK);
    let record = service.records.with_outcome("allowed").await;
    assert_eq!(record["policies"], json!(["reads"]));
    assert_eq!(
        (&trial(&record, "directory")["outcome"], &trial(&record, "annotated")["outcome"]),
        (&json!("not_permitted"), &json!("allowed"))
    );
    // What only a candidate reads is no reason to refuse anything.
    let spelled = request("GET", "service.example", "/orders/1", &[("x_tenant", "a")], "");
    assert_eq!(app.send(spelled).await.status, StatusCode::OK);
    let before = upstream.seen().len();
    // Denied now, allowed by a candidate: nothing goes through.
    for (method, path, candidate, by) in [
        ("GET", "/reports/1", "directory", "reads-other"),
        ("PUT", "/orders/1", "annotated", "writes-tried"),
        ("POST", "/orders/1", "directory", "tenant"),
    ] {
        let answer = app.send(request(method, "service.example", path, &[("x-tenant", "a")], "")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method} {path}");
        let record = service.records.of_decision(answer.decision()).await;
        assert_eq!((&record["outcome"], &record["mode"]), (&json!("not_permitted"), &json!("enforce")), "{record:#}");
        assert_eq!(trial(&record, candidate)["policies"], json!([by]), "{record:#}");
        assert_eq!(trial(&record, candidate)["outcome"], "allowed", "{record:#}");
    }
    assert_eq!(upstream.seen().len(), before);
    let metrics = service.metrics().await;
    let count = |action: &str, outcome: &str, mode: &str| {
        metrics.lines().any(|line| {
            line.starts_with("portcullis_authz_decisions_total")
                && line.contains(&format!("action=\"{action}\""))
                && line.contains(&format!("outcome=\"{outcome}\""))
                && line.contains(&format!("mode=\"{mode}\""))
        })
    };
    assert!(count("http:PUT", "allowed", "shadow") && !count("http:PUT", "allowed", "enforce"), "{metrics}");

    let socket = service.directory().join("admin.sock");
    let mut command = portcullis();
    command.args(["policy", "plan", "--live", "--socket"]).arg(&socket);
    let plan = Process::run("plan --live", &mut command, "").await;
    assert_eq!(plan.code(), 2, "{plan:#?}");
    for said in [
        "would become allowed",
        "would no longer be allowed",
        "http:GET HttpPath::\"endpoint/reports\"",
        "http:PUT HttpPath::\"endpoint/orders\"",
        "now allowed by reads, then not_permitted",
        "then allowed by writes-tried",
    ] {
        assert!(plan.stdout.contains(said), "no `{said}`:\n{}", plan.stdout);
    }
    // The denials of the last minutes explain themselves at the same door.
    let asked = request("GET", "localhost", "/explain?last=2", &[], "");
    let answer = http1(UnixStream::connect(&socket).await.expect("somebody listens")).await.send(asked).await;
    let denials: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(denials["denials"].as_array().map(Vec::len), Some(2), "{denials:#}");
    assert_eq!(denials["denials"][0]["operations"][0]["action"]["uid"], "Action::\"http:POST\"");

    // A candidate that breaks leaves the last good one on trial and the policies in force.
    std::fs::write(candidate.join("c.cedar"), "permit (").expect("the folder is writable");
    let broken =
        |status: &Value| status["policy"]["shadow_error"].as_str().is_some_and(|error| error.contains("c.cedar"));
    service.status_with("the broken candidate", broken).await;
    assert_eq!(ask(&mut app, "GET", "/orders/2").await, StatusCode::OK);
    // The groups begin anew; of the candidate that lies there nothing is known.
    let plan = live(&service, &[]).await;
    assert_eq!(plan.code(), 4, "{plan:#?}");
    assert!(plan.stdout.contains("not proved: the candidate does not load: "), "{}", plan.stdout);
    service.stop().await;
}

async fn live(service: &Sidecar, more: &[&str]) -> Output {
    let mut command = portcullis();
    command.args(["policy", "plan", "--live", "--socket"]).arg(service.directory().join("admin.sock")).args(more);
    Process::run("plan --live", &mut command, "").await
}

/// That nothing would have been decided otherwise is said of a candidate, not of none.
#[tokio::test]
async fn without_a_candidate_nothing_is_said_of_what_would_have_been() {
    let (world, upstream) = (World::new(), Recorder::start());
    let plain = "@id(\"reads\") permit (principal, action == Action::\"http:GET\", resource);\n";
    let tried = "@id(\"tried\") @mode(\"shadow\") permit (principal, action == Action::\"http:PUT\", resource);\n";
    for (policies, candidates, code, said) in [
        (plain.to_owned(), json!([]), 4, "not proved: no candidate is tried"),
        (format!("{plain}{tried}"), json!(["annotated"]), 0, "no request would have been decided otherwise"),
    ] {
        let service = world.sidecar("service").policies(&policies).doors("", "socket: admin.sock");
        let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
        let plan = live(&service, &[]).await;
        assert_eq!(plan.code(), code, "{plan:#?}");
        assert!(plan.stdout.contains(said), "no `{said}`: {plan:#?}");
        let plan = live(&service, &["--output", "json"]).await;
        assert_eq!((plan.code(), &plan.json()["candidates"]), (code, &candidates), "{plan:#?}");
        assert_eq!(plan.json()["not_proved"].as_array().map(Vec::len), Some(usize::from(code == 4)), "{plan:#?}");
        service.stop().await;
    }
}
