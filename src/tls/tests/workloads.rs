//! Workloads that know each other: what a handshake comes to.

use super::*;
use crate::relay::{RECORD_BYTES, RECORD_PAYLOAD};

#[tokio::test]
async fn two_workloads_know_each_other_after_the_handshake() {
    let world = World::new();
    let server = world.server();
    let client = world.client("spiffe://prod.test/load", exactly("spiffe://prod.test/lake"));
    let (near, far) = duplex(64 * 1024);
    let (accepted, connected) = tokio::join!(server.accept(near), client.connect(far));
    let ((mut inner, downstream), (mut outer, upstream)) = (accepted.unwrap(), connected.unwrap());
    assert_eq!(downstream.id().as_str(), "spiffe://prod.test/load");
    assert_eq!(upstream.id().as_str(), "spiffe://prod.test/lake");
    assert_eq!(downstream.tls_version(), Some("TLSv1.3"));
    assert!(!downstream.is_local());
    assert_eq!((downstream.generation(), client.own_since()), (1, 1));
    assert_eq!(inner.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(inner.get_ref().1.server_name(), None);
    outer.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    inner.read_exact(&mut hello).await.unwrap();
    assert_eq!(&hello, b"hello");
}

#[tokio::test]
async fn records_of_both_sides_have_eight_kib_at_most() {
    let world = World::new();
    let server = world.server();
    let client = world.client("spiffe://prod.test/load", exactly("spiffe://prod.test/lake"));
    let (near, far) = duplex(64 * 1024);
    let (accepted, connected) = tokio::join!(server.accept(near), client.connect(far));
    let ((mut inner, _), (mut outer, _)) = (accepted.unwrap(), connected.unwrap());
    let much = [7; 20_000];
    inner.write_all(&much).await.unwrap();
    outer.write_all(&much).await.unwrap();
    // With that each has sent all, and has read nothing: what is in the pipes are records.
    for mut pipe in [outer.into_inner().0, inner.into_inner().0] {
        for expected in [RECORD_BYTES, RECORD_BYTES, 20_000 - 2 * RECORD_PAYLOAD + 22] {
            let mut head = [0; 5];
            pipe.read_exact(&mut head).await.unwrap();
            let [_type, _major, _minor, high, low] = head;
            let length = usize::from(u16::from_be_bytes([high, low]));
            assert_eq!(head.len() + length, expected);
            pipe.read_exact(&mut vec![0; length]).await.unwrap();
        }
    }
}

#[cfg(feature = "post-quantum")]
#[tokio::test]
async fn the_key_exchange_is_hybrid_post_quantum() {
    let world = World::new();
    assert_eq!(negotiated(&world).await, NamedGroup::X25519MLKEM768);
}

#[cfg(not(feature = "post-quantum"))]
#[tokio::test]
async fn the_key_exchange_is_classical_without_the_feature() {
    let world = World::new();
    assert_eq!(negotiated(&world).await, NamedGroup::X25519);
}

async fn negotiated(world: &World) -> NamedGroup {
    let (server, client) = (world.server(), world.client("spiffe://prod.test/load", PeerMatcher::AnyInOwnTrustDomain));
    let (near, far) = duplex(64 * 1024);
    let (accepted, connected) = tokio::join!(server.accept(near), client.connect(far));
    connected.unwrap();
    let (stream, _) = accepted.unwrap();
    stream.get_ref().1.negotiated_key_exchange_group().unwrap().name()
}

#[tokio::test]
async fn nothing_is_ever_resumed() {
    let world = World::new();
    let (server, minted) = (world.server(), world.prod.issue_with(&leaf("spiffe://prod.test/load")).unwrap());
    // The client would resume if it were given anything to resume with.
    let config = Arc::new(foreign_client(Some(&minted), TlsVersion::V1_3));
    for _ in 0..2 {
        let (near, far) = duplex(64 * 1024);
        let name = ServerName::try_from("lake.test").unwrap();
        let connector = TlsConnector::from(Arc::clone(&config));
        let (accepted, connected) = tokio::join!(server.accept(near), connector.connect(name, far));
        let ((mut inner, _), mut outer) = (accepted.unwrap(), connected.unwrap());
        inner.write_all(b"x").await.unwrap();
        outer.read_exact(&mut [0]).await.unwrap();
        assert_eq!(outer.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(outer.get_ref().1.tls13_tickets_received(), 0);
    }
}
