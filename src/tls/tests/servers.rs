//! Servers that are refused, each beside one that is not.

use super::*;

/// The outcome of our client at a foreign server: what the server saw, what we say.
async fn refused_server(client: &ClientTls, config: ServerConfig) -> (Option<Alert>, HandshakeRefusal) {
    let (near, far) = duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (connected, accepted) = tokio::join!(client.connect(near), acceptor.accept(far));
    let alert = accepted.err().as_ref().and_then(alert_in);
    (alert, connected.map(|(_, peer)| peer).expect_err("the handshake should have been refused"))
}

#[tokio::test]
async fn a_server_must_be_one_that_is_expected() {
    let world = World::new();
    let below = |uri: &str| PeerMatcher::OneOf(vec![SpiffeIdPattern::Below(id(uri))]);
    let lake = "spiffe://prod.test/ns/data/sa/lake";
    let source = world.source(lake);
    let server = ServerTls::new(source, TlsVersion::V1_3, ALPN);
    for (expected, admitted) in [
        (exactly(lake), true),
        (below("spiffe://prod.test/ns/data"), true),
        (below("spiffe://prod.test"), true),
        (PeerMatcher::AnyInOwnTrustDomain, true),
        (
            PeerMatcher::OneOf(vec![
                SpiffeIdPattern::Exactly(id("spiffe://prod.test/x")),
                SpiffeIdPattern::Exactly(id(lake)),
            ]),
            true,
        ),
        (exactly("spiffe://prod.test/ns/data/sa/lake2"), false),
        (exactly("spiffe://partner.test/ns/data/sa/lake"), false),
        (below("spiffe://prod.test/ns/dat"), false),
        (below(lake), false),
        (below("spiffe://partner.test"), false),
        (PeerMatcher::OneOf(vec![]), false),
    ] {
        let client = world.client("spiffe://prod.test/load", expected.clone());
        let (near, far) = duplex(64 * 1024);
        let (accepted, connected) = tokio::join!(server.accept(near), client.connect(far));
        match admitted {
            true => assert_eq!(connected.unwrap().1.id().as_str(), lake, "{expected:?}"),
            false => {
                assert_eq!(connected.map(|_| ()).unwrap_err().rule, "unexpected-peer", "{expected:?}");
                let refusal = accepted.map(|_| ()).unwrap_err();
                assert_eq!((refusal.rule, refusal.message.contains("AccessDenied")), ("alert", true), "{refusal}");
            }
        }
    }
}

#[tokio::test]
async fn any_means_any_workload_of_our_own_trust_domain() {
    let world = World::new();
    let client = world.client("spiffe://prod.test/load", PeerMatcher::AnyInOwnTrustDomain);
    let partner = world.partner.issue_with(&leaf("spiffe://partner.test/lake")).unwrap();
    let (alert, refusal) = refused_server(&client, foreign_server(&partner)).await;
    assert_eq!((refusal.rule, alert), ("unexpected-peer", Some(Alert::AccessDenied)));
    assert_eq!(refusal.peer_san.as_deref(), Some("spiffe://partner.test/lake"));
}

#[tokio::test]
async fn rogue_servers_are_refused_by_the_same_rules() {
    let world = World::new();
    let lake = "spiffe://prod.test/lake";
    let client = world.client("spiffe://prod.test/load", exactly(lake));
    let now = SystemTime::now();
    let with = |change: &dyn Fn(&mut SvidParams)| {
        let mut params = leaf(lake);
        change(&mut params);
        world.prod.issue_with(&params).unwrap()
    };
    for (rule, alert, rogue) in [
        ("expired", Alert::CertificateExpired, with(&|p| p.not_after = now - Duration::from_secs(10))),
        ("chain", Alert::UnknownCA, world.stranger.issue_with(&leaf(lake)).unwrap()),
        ("ca-flag", Alert::UnsupportedCertificate, with(&|p| p.ca = Some(true))),
        ("uri-san-count", Alert::BadCertificate, with(&|p| p.names = vec![San::Dns("127.0.0.1".into())])),
    ] {
        let (seen, refusal) = refused_server(&client, foreign_server(&rogue)).await;
        assert_eq!((refusal.rule, seen), (rule, Some(alert)), "{refusal}");
    }
    let (near, far) = duplex(64 * 1024);
    let acceptor = TlsAcceptor::from(Arc::new(foreign_server(&with(&|_| {}))));
    let (connected, accepted) = tokio::join!(client.connect(near), acceptor.accept(far));
    accepted.unwrap();
    connected.unwrap();
}
