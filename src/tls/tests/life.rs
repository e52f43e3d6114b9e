//! What changes: time, our own SVID, whom we trust.

use super::*;

fn later(by: Duration) -> Clock {
    Clock::from_fn(move || SystemTime::now() + by)
}

#[tokio::test]
async fn an_expired_svid_of_our_own_is_never_served() {
    let world = World::new();
    let source = world.source("spiffe://prod.test/lake");
    let server = ServerTls::with_clock(source.clone(), TlsVersion::V1_3, ALPN, later(HOUR * 2));
    let minted = world.prod.issue_with(&leaf("spiffe://prod.test/load")).unwrap();
    let (alert, refusal) = refused(&server, foreign_client(Some(&minted), TlsVersion::V1_3)).await;
    assert_eq!((refusal.rule, alert), ("own-svid-expired", Some(Alert::InternalError)));

    let client =
        ClientTls::with_clock(source, TlsVersion::V1_3, ALPN, PeerMatcher::AnyInOwnTrustDomain, later(HOUR * 2));
    let (near, _far) = duplex(1024);
    assert_eq!(client.connect(near).await.map(|_| ()).unwrap_err().rule, "own-svid-expired");
}

#[tokio::test]
async fn without_an_svid_nobody_is_served() {
    let server = ServerTls::new(Source::new(None), TlsVersion::V1_3, ALPN);
    let (alert, refusal) = refused(&server, foreign_client(None, TlsVersion::V1_3)).await;
    assert_eq!((refusal.rule, alert), ("no-own-svid", Some(Alert::InternalError)));
}

#[tokio::test]
async fn a_peer_that_leaves_during_the_handshake_is_named_as_that() {
    let server = World::new().server();
    let (near, far) = duplex(1024);
    drop(far);
    assert_eq!(server.accept(near).await.map(|_| ()).unwrap_err().rule, "closed");
    let (near, mut far) = duplex(1024);
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (accepted, _) = tokio::join!(server.accept(near), async move { far.read_to_end(&mut Vec::new()).await });
    assert_eq!(accepted.map(|_| ()).unwrap_err().rule, "tls");
}

#[tokio::test]
async fn a_swapped_generation_serves_the_next_handshake() {
    let world = World::new();
    let source = world.source("spiffe://prod.test/lake");
    let server = ServerTls::new(source.clone(), TlsVersion::V1_3, ALPN);
    let client = world.client("spiffe://prod.test/load", PeerMatcher::AnyInOwnTrustDomain);
    for (number, name) in [(1, "spiffe://prod.test/lake"), (2, "spiffe://prod.test/lake2")] {
        if number == 2 {
            source.swap(world.generation(2, &world.prod.issue_with(&leaf(name)).unwrap()));
        }
        let (near, far) = duplex(64 * 1024);
        let (accepted, connected) = tokio::join!(server.accept(near), client.connect(far));
        assert_eq!(connected.unwrap().1.id().as_str(), name);
        assert_eq!(accepted.unwrap().1.generation(), number);
    }
}

#[tokio::test]
async fn a_peer_is_judged_anew_when_trust_shrinks() {
    let world = World::new();
    let source = world.source("spiffe://prod.test/lake");
    let server = ServerTls::new(source.clone(), TlsVersion::V1_3, ALPN);
    let partner = world.partner.issue_with(&leaf("spiffe://partner.test/x")).unwrap();
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from("ignored.test").unwrap();
    let connector = TlsConnector::from(Arc::new(foreign_client(Some(&partner), TlsVersion::V1_3)));
    let (accepted, _) = tokio::join!(server.accept(near), connector.connect(name, far));
    let peer = accepted.unwrap().1;
    let now = SystemTime::now();
    // Before its stay begins: between the handshake and that there is no gap.
    let own = world.prod.issue_with(&leaf("spiffe://prod.test/lake")).unwrap();
    let prod_only = TrustBundle::from_certificates(domain("prod.test"), &[world.prod.certificate().clone()]);
    let bundles = TrustBundleSet::new([prod_only]).unwrap();
    source.swap(X509Generation::new(2, own.chain.clone(), own.key().unwrap(), bundles, now).unwrap());
    let over = server.stay(&peer, Duration::ZERO).over().await;
    assert_eq!(over.rule, "unknown-trust-domain");
    assert!(over.message.contains("partner.test"), "{over}");
}

#[test]
fn our_own_workload_is_a_local_peer() {
    let world = World::new();
    let generation = world.source("spiffe://prod.test/load").current().unwrap();
    let peer = Peer::local(&generation);
    assert_eq!((peer.id().as_str(), peer.is_local(), peer.tls_version()), ("spiffe://prod.test/load", true, None));
    assert_eq!(peer.svid().sha256(), X509Svid::parse(&generation.chain[0]).unwrap().sha256());
}
