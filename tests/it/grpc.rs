//! gRPC by a client and a server that are not ours, through both sidecars.

use std::time::{Duration, Instant};

use http::{StatusCode, Version};
use serde_json::{Value, json};

use crate::support::*;

const POLICIES: &str = r#"
@id("echo-is-called")
permit (principal, action in Action::"write", resource in HttpPath::"endpoint/echo.Echo");

@id("not-when-it-says-so")
forbid (principal, action == Action::"http:POST", resource in HttpPath::"endpoint/echo.Echo/Fail");
"#;

const NOT_PERMITTED: &str = r#"
@id("others")
permit (principal, action in Action::"write", resource in HttpPath::"endpoint/other.Service");
"#;

/// Kind, messages, what comes back.
const CALLS: [(&str, &[&str], &[&str]); 4] = [
    ("unary", &["hi"], &["hi"]),
    ("client-stream", &["a", "b", "c"], &["a,b,c"]),
    ("server-stream", &["a,b,c"], &["a", "b", "c"]),
    ("bidi", &["a", "b", "c"], &["a", "b", "c"]),
];

#[tokio::test]
async fn every_streaming_kind_passes_and_the_servers_own_status_too() {
    let (world, server) = (World::new(), GrpcServer::start().await);
    let pair = world.pair("http", &server.url(), POLICIES.split("@id(\"not-when").next().unwrap_or_default()).await;
    for (kind, messages, answers) in CALLS {
        let answer = grpc(pair.address(), kind, messages).await;
        assert_eq!((&answer["status"], &answer["messages"]), (&json!("OK"), &json!(answers)), "{kind}: {answer}");
        assert!(answer["trailers"]["calls"].is_string(), "the server's own trailer: {answer}");
    }
    let answer = grpc(pair.address(), "fail", &["a"]).await;
    assert_eq!((&answer["status"], &answer["details"]), (&json!("INVALID_ARGUMENT"), &json!("as asked")));
    assert_eq!(answer["messages"], json!(["a"]));

    let records = pair.inbound.records.requests(5).await;
    for record in &records {
        assert_eq!((&record["outcome"], policies_of(record)), (&json!("allowed"), vec!["echo-is-called"]));
        assert_eq!((&record["action"], &record["status"]), (&json!("http:POST"), &json!(200)));
    }
    assert_eq!(records[0]["resource"], r#"HttpPath::"endpoint/echo.Echo/Unary""#);
    pair.stop().await;
}

#[tokio::test]
async fn a_denied_call_of_each_kind_is_permission_denied() {
    let world = World::new();
    let server = GrpcServer::start().await;
    let pair = world.pair("http", &server.url(), NOT_PERMITTED).await;
    for (index, (kind, messages, _)) in CALLS.into_iter().enumerate() {
        let answer = grpc(pair.address(), kind, messages).await;
        assert_eq!((&answer["status"], &answer["messages"]), (&json!("PERMISSION_DENIED"), &json!([])), "{kind}");
        let records = pair.inbound.records.requests(index + 1).await;
        let record = records.last().expect("there is a record");
        assert_eq!((&record["outcome"], policies_of(record).len()), (&json!("not_permitted"), 0));
        let decision = record["decision_id"].as_str().expect("a record has its decision's id");
        assert!(answer["details"].as_str().is_some_and(|details| details.contains(decision)), "{answer}");
    }
    // Not one call has reached the server: its first is numbered 1.
    let answer = grpc(server.address, "unary", &["direct"]).await;
    assert_eq!(answer["trailers"]["calls"], "1");
    pair.stop().await;
}

#[tokio::test]
async fn a_forbid_of_one_method_leaves_the_others() {
    let (world, server) = (World::new(), GrpcServer::start().await);
    let pair = world.pair("http", &server.url(), POLICIES).await;
    let answer = grpc(pair.address(), "fail", &["a"]).await;
    assert_eq!(answer["status"], "PERMISSION_DENIED");
    let record = pair.inbound.records.with_outcome("forbidden").await;
    assert_eq!(policies_of(&record), ["not-when-it-says-so"]);
    let answer = grpc(pair.address(), "unary", &["a"]).await;
    assert_eq!((&answer["status"], &answer["trailers"]["calls"]), (&json!("OK"), &json!("1")));
    pair.stop().await;
}

#[tokio::test]
async fn a_denial_is_trailers_only_as_grpc_writes_it() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.h2c_url(), NOT_PERMITTED).await;
    let mut app = Client::plain_http2(pair.address()).await;
    for content_type in ["application/grpc", "application/grpc+proto"] {
        let headers = [("content-type", content_type), ("te", "trailers")];
        let call = request("POST", "", "http://a.example/echo.Echo/Unary", &headers, "\0\0\0\0\0");
        let answer = app.send(call).await;
        assert_eq!((answer.status, answer.version), (StatusCode::OK, Version::HTTP_2));
        assert_eq!((answer.header("content-type"), answer.header("grpc-status")), ("application/grpc", "7"));
        assert!(answer.header("grpc-message").contains(answer.decision()), "{answer:?}");
        assert!(answer.body.is_empty() && answer.trailers.is_empty(), "{answer:?}");
    }
    upstream.assert_untouched();

    // A request that cannot be named is INVALID_ARGUMENT; the outbound side says so before anything is sent.
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = app.send(request("POST", "", "http://a.example/echo.Echo/%2e%2e/x", &headers, "")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "3"));
    let record = pair.outbound.records.of_decision(answer.decision()).await;
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("refused"), &json!("dot-segment")));
    upstream.assert_untouched();
    pair.stop().await;
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let world = World::new();
    let pair = world.pair("http", &format!("h2c://{}", nobody().await), ALLOW_ALL).await;
    for (kind, messages, _) in CALLS {
        let started = Instant::now();
        let answer = grpc(pair.address(), kind, messages).await;
        assert_eq!((&answer["status"], &answer["messages"]), (&json!("UNAVAILABLE"), &json!([])), "{kind}: {answer}");
        assert!(answer["details"].as_str().is_some_and(|details| details.contains("upstream-connect")), "{answer}");
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    let record = pair.inbound.records.with_outcome("allowed").await;
    assert!(record["error"].as_str().is_some_and(|error| error.contains("cannot connect to upstream")), "{record}");
    assert_eq!(record["status"], Value::from(502));
    pair.stop().await;
}

/// An address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    listener.local_addr().expect("is bound")
}
