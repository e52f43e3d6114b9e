//! Envoy on the other side: a SPIFFE mTLS peer that shares no line of code with us.

use http::{StatusCode, Version};
use serde_json::json;

use crate::proxy::READS_AND_WRITES;
use crate::support::*;

const OTHER: &str = r#"
@id("other-is-read")
permit (principal, action in Action::"read", resource in Endpoint::"other");
"#;

#[tokio::test]
async fn envoy_as_the_client_side_is_judged_like_any_peer() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(READS_AND_WRITES);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let svid = world.ca.issue("/ns/test/sa/envoy");
    let envoy = Envoy::client(&world, &svid, service.inbound("endpoint")).await;

    let mut app = Client::plain(envoy.address).await;
    let headers = [("x-forwarded-client-cert", "URI=spiffe://pipeline.example/forged"), ("x-request-id", "kept-17")];
    let answer = app.send(request("POST", "a.example", "/orders?x=1", &headers, "body")).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "ok"), "{:?}", envoy.log());
    let seen = upstream.complete(1).await;
    assert_eq!((seen[0].target.as_str(), seen[0].body.as_slice()), ("/orders?x=1", &b"body"[..]));
    let claims: Vec<_> = seen[0].headers.get_all("x-forwarded-client-cert").iter().collect();
    assert_eq!(claims.len(), 1);
    assert!(seen[0].header("x-forwarded-client-cert").ends_with(&format!(";URI={}", svid.id)), "{seen:#?}");
    let record = service.records.with_outcome("allowed").await;
    assert_eq!((&record["principal"], &record["peer_certificate_sha256"]), (&json!(svid.id), &json!(svid.sha256())));
    assert_eq!(policies_of(&record), ["app-reads-and-writes"]);

    let denied = app.send(request("DELETE", "a.example", "/orders", &[], "")).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let record = service.records.of_decision(denied.decision()).await;
    assert_eq!((&record["outcome"], policies_of(&record)), (&json!("forbidden"), vec!["nobody-deletes"]));
    assert_eq!(upstream.seen().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn envoy_as_the_server_side_is_verified_and_answered_for() {
    let (world, upstream) = (World::new(), Recorder::behaving(Behaviour::Echo, None));
    let svid = world.ca.issue("/ns/test/sa/envoy");
    let envoy = Envoy::server(&world, &svid, upstream.address).await;
    let app = world.sidecar("app").policies(READS_AND_WRITES).policy_file("other.cedar", OTHER);
    let app = app.outbound("endpoint", "http", &envoy.address.to_string(), &svid.id, "");
    let app = app.outbound("other", "http", &envoy.address.to_string(), &world.id("somebody"), "").start().await;

    for mut client in
        [Client::plain(app.outbound("endpoint")).await, Client::plain_http2(app.outbound("endpoint")).await]
    {
        let (host, base) =
            if matches!(client, Client::Http1(_)) { ("a.example", "") } else { ("", "http://a.example") };
        let body = "x".repeat(300_000);
        let answer = client.send(request("POST", host, &format!("{base}/echo"), &[], &body)).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::OK, body), "{:?}", envoy.log());
        let denied = client.send(request("DELETE", host, &format!("{base}/echo"), &[], "")).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN);
        let record = app.records.of_decision(denied.decision()).await;
        assert_eq!(policies_of(&record), ["nobody-deletes"]);
    }
    // Envoy tells its upstream who we are: our own SVID was shown.
    let seen = upstream.seen();
    assert_eq!((seen.len(), seen[0].version), (2, Version::HTTP_11));
    assert!(seen[0].header("x-forwarded-client-cert").contains(&format!("URI={}", world.id("app"))), "{seen:#?}");

    let answer = get(app.outbound("other"), "/echo").await;
    assert_eq!((answer.status, answer.header("x-portcullis-error")), (StatusCode::BAD_GATEWAY, "upstream-handshake"));
    assert_eq!(upstream.seen().len(), 2);
    app.stop().await;
}

#[tokio::test]
async fn both_write_the_same_x_forwarded_client_cert() {
    let world = World::new();
    let (behind_envoy, behind_us) = (Recorder::start(), Recorder::start());
    let server = world.ca.issue("/ns/test/sa/service");
    let envoy = Envoy::server(&world, &server, behind_envoy.address).await;
    let service = world.sidecar("service").svid(server).policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &behind_us.url(), "").start().await;

    let attributes = [
        (rcgen::DnType::CountryName, "DE"),
        (rcgen::DnType::OrganizationName, "Pipes, Valves; Co+"),
        (rcgen::DnType::OrganizationalUnitName, "#1 team = <ours>"),
        (rcgen::DnType::LocalityName, "Zürich\u{1}\u{7f}"),
        (rcgen::DnType::StateOrProvinceName, r#"\";URI=spiffe://pipeline.example/root;Subject=""#),
        (rcgen::DnType::CommonName, " app "),
    ];
    let named = world.ca.issue_with("/ns/test/sa/app", |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind, value);
        }
    });
    let nameless = world.ca.issue_with("/ns/test/sa/app", |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    for (index, svid) in [world.ca.issue("/ns/test/sa/app"), named, nameless].iter().enumerate() {
        for address in [envoy.address, service.inbound("endpoint")] {
            let stream = TlsClient::with(svid).alpn(&["h2"]).connect(address).await.expect("a known peer");
            let answer = http2(stream).await.send(request("GET", "", "https://a.example/", &[], "")).await;
            assert_eq!(answer.status, StatusCode::OK, "{answer:?} {:?}", service.records.all().last());
        }
        let (theirs, ours) = (behind_envoy.complete(index + 1).await, behind_us.complete(index + 1).await);
        let header = |seen: &[Seen]| seen[index].header("x-forwarded-client-cert").to_owned();
        assert_eq!(header(&ours), header(&theirs));
    }
    service.stop().await;
}
