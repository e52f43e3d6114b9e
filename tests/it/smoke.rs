//! The shortest way through two sidecars: one request allowed, one denied, both recorded. If this fails, look here first.

use http::StatusCode;

use crate::support::*;

const POLICIES: &str = r#"
@id("app-reads")
permit (principal, action in Action::"read", resource in Endpoint::"endpoint");

@id("nobody-deletes")
forbid (principal, action in Action::"delete", resource in Endpoint::"endpoint");
"#;

#[tokio::test]
async fn an_allowed_request_reaches_the_upstream_and_both_sides_record_it() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), POLICIES).await;

    let answer = get(pair.address(), "/orders/17").await;

    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "ok"));
    let seen = upstream.complete(1).await;
    assert_eq!(seen[0].target, "/orders/17");
    assert!(seen[0].header("x-forwarded-client-cert").contains(&format!("URI={}", world.id("app"))), "{seen:#?}");
    let inbound = pair.inbound.records.with_outcome("allowed").await;
    assert_eq!(policies_of(&inbound), ["app-reads"]);
    assert_eq!(inbound["principal"], world.id("app"));
    assert_eq!((&inbound["action"], &inbound["status"]), (&"http:GET".into(), &200.into()));
    let outbound = pair.outbound.records.with_outcome("allowed").await;
    assert_eq!((policies_of(&outbound), &outbound["direction"]), (vec!["allow-all"], &"outbound".into()));
    pair.stop().await;
}

#[tokio::test]
async fn a_forbidden_request_stops_at_the_inbound_side() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), POLICIES).await;

    let mut app = Client::plain(pair.address()).await;
    let answer = app.send(request("DELETE", "orders.example", "/orders/17", &[], "")).await;

    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let record = pair.inbound.records.of_decision(answer.decision()).await;
    assert_eq!((&record["outcome"], policies_of(&record)), (&"forbidden".into(), vec!["nobody-deletes"]));
    upstream.assert_untouched();
    pair.stop().await;
}

#[tokio::test]
async fn a_request_that_no_policy_permits_is_not_permitted() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), POLICIES).await;

    let mut app = Client::plain(pair.address()).await;
    let answer = app.send(request("POST", "orders.example", "/orders", &[], "{}")).await;

    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    let record = pair.inbound.records.of_decision(answer.decision()).await;
    assert_eq!((&record["outcome"], policies_of(&record).len()), (&"not_permitted".into(), 0));
    upstream.assert_untouched();
    pair.stop().await;
}

#[tokio::test]
async fn a_stranger_does_not_get_past_the_handshake() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;

    let stranger = Ca::new("pipeline.example").issue("/ns/test/sa/app");
    TlsClient::with(&stranger).refused_by(service.inbound("endpoint")).await;

    let record = service.records.find("the refused handshake", |record| record["kind"] == "handshake").await;
    assert_eq!(record["peer_san"], stranger.id);
    upstream.assert_untouched();

    // The allowed twin: the same path, issued by the right CA.
    let known = world.ca.issue("/ns/test/sa/app");
    let stream = TlsClient::with(&known).connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
    let answer = http1(stream).await.send(request("GET", "service.example", "/", &[], "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(service.records.with_outcome("allowed").await["peer_certificate_sha256"], known.sha256());
    service.stop().await;
}
