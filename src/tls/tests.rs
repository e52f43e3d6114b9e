//! Real handshakes in memory: what the peer sees on the wire, what we say of it.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription as Alert, ClientConfig, DigitallySignedStruct, Error as TlsError, HandshakeKind, NamedGroup,
    ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::watch;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::handshake::versions;
use super::verifier::PROVIDER;
use super::*;
use crate::config::{PeerMatcher, TlsVersion};
use crate::identity::dev_ca::{DevCa, ExtendedKeyUsagePurpose, KeyUsagePurpose, Minted, San, SvidParams};
use crate::identity::{
    Clock, SpiffeId, SpiffeIdPattern, TrustBundle, TrustBundleSet, TrustDomain, X509Generation, X509Source, X509Svid,
};

const HOUR: Duration = Duration::from_secs(3600);
const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// A source that a test changes by hand.
#[derive(Debug)]
struct Source {
    current: Mutex<Option<Arc<X509Generation>>>,
    changed: watch::Sender<u64>,
}

impl Source {
    fn new(generation: Option<X509Generation>) -> Arc<Self> {
        let (changed, _) = watch::channel(0);
        Arc::new(Self { current: Mutex::new(generation.map(Arc::new)), changed })
    }

    fn swap(&self, generation: X509Generation) {
        let number = generation.number;
        *self.current.lock().unwrap() = Some(Arc::new(generation));
        self.changed.send_replace(number);
    }
}

impl X509Source for Source {
    fn current(&self) -> Option<Arc<X509Generation>> {
        self.current.lock().unwrap().clone()
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// Two trust domains that federate, and a third that is unknown to both.
struct World {
    prod: DevCa,
    partner: DevCa,
    stranger: DevCa,
}

fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

fn id(uri: &str) -> SpiffeId {
    SpiffeId::parse(uri).unwrap()
}

fn leaf(uri: &str) -> SvidParams {
    SvidParams::leaf(&id(uri), HOUR, SystemTime::now())
}

impl World {
    fn new() -> Self {
        // All three authorities bear the same name, as authorities made with one tool's defaults do.
        let authority = |name: &str| {
            let mut params = SvidParams::signing(&domain(name), HOUR, SystemTime::now());
            params.common_name = Some("CA".into());
            DevCa::with_params(&params).unwrap()
        };
        Self { prod: authority("prod.test"), partner: authority("partner.test"), stranger: authority("prod.test") }
    }

    fn bundles(&self) -> TrustBundleSet {
        let bundle = |name: &str, ca: &DevCa| TrustBundle::from_certificates(domain(name), &[ca.certificate().clone()]);
        TrustBundleSet::new([bundle("prod.test", &self.prod), bundle("partner.test", &self.partner)]).unwrap()
    }

    fn generation(&self, number: u64, minted: &Minted) -> X509Generation {
        let now = SystemTime::now();
        X509Generation::new(number, minted.chain.clone(), minted.key().unwrap(), self.bundles(), now).unwrap()
    }

    fn source(&self, uri: &str) -> Arc<Source> {
        Source::new(Some(self.generation(1, &self.prod.issue_with(&leaf(uri)).unwrap())))
    }

    fn server(&self) -> ServerTls {
        ServerTls::new(self.source("spiffe://prod.test/lake"), TlsVersion::V1_3, ALPN)
    }

    fn client(&self, uri: &str, expected: PeerMatcher) -> ClientTls {
        ClientTls::new(self.source(uri), TlsVersion::V1_3, ALPN, expected)
    }
}

fn exactly(uri: &str) -> PeerMatcher {
    PeerMatcher::OneOf(vec![SpiffeIdPattern::Exactly(id(uri))])
}

/// A peer that is not ours: shows whatever certificate it is given and believes everybody.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

fn foreign_client(certificate: Option<&Minted>, version: TlsVersion) -> ClientConfig {
    let versions = match version {
        TlsVersion::V1_2 => &[&rustls::version::TLS12],
        TlsVersion::V1_3 => versions(TlsVersion::V1_3),
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible));
    let mut config = match certificate {
        Some(minted) => {
            let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&minted.key().unwrap()).unwrap();
            let key = rustls::sign::CertifiedKey::new(minted.chain.clone(), key);
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn foreign_server(minted: &Minted) -> ServerConfig {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&minted.key().unwrap()).unwrap();
    let key = rustls::sign::CertifiedKey::new(minted.chain.clone(), key);
    ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions(TlsVersion::V1_3))
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(key)))
}

fn alert_in(error: &std::io::Error) -> Option<Alert> {
    match error.get_ref()?.downcast_ref::<TlsError>()? {
        TlsError::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Connects and reads; what alert the server answers with.
async fn alert_seen(stream: DuplexStream, config: ClientConfig) -> Option<Alert> {
    let name = ServerName::try_from("ignored.test").unwrap();
    let mut stream = match TlsConnector::from(Arc::new(config)).connect(name, stream).await {
        Ok(stream) => stream,
        Err(error) => return alert_in(&error),
    };
    // In TLS 1.3 the client may send at once, and the server's verdict comes with the first read.
    let _ = stream.write_all(b"early words").await;
    match stream.read(&mut [0; 16]).await {
        Ok(_) => None,
        Err(error) => alert_in(&error),
    }
}

/// The outcome of a foreign client at our server: what it saw, what we say.
async fn refused(server: &ServerTls, config: ClientConfig) -> (Option<Alert>, HandshakeRefusal) {
    let (near, far) = duplex(64 * 1024);
    let (accepted, alert) = tokio::join!(server.accept(near), alert_seen(far, config));
    (alert, accepted.map(|(_, peer)| peer).expect_err("the handshake should have been refused"))
}

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

#[tokio::test]
async fn a_client_without_certificate_is_told_that_one_is_required() {
    let server = World::new().server();
    let (alert, refusal) = refused(&server, foreign_client(None, TlsVersion::V1_3)).await;
    assert_eq!(alert, Some(Alert::CertificateRequired));
    assert_eq!((refusal.rule, refusal.peer_san), ("no-certificate", None));
}

#[tokio::test]
async fn each_rogue_client_gets_its_alert_and_its_rule_and_its_twin_gets_in() {
    let world = World::new();
    let server = world.server();
    let now = SystemTime::now();
    let load = "spiffe://prod.test/load";
    let with = |change: &dyn Fn(&mut SvidParams)| {
        let mut params = leaf(load);
        change(&mut params);
        params
    };
    let issue = |ca: &DevCa, params: &SvidParams| ca.issue_with(params).unwrap();
    let prod = |change: &dyn Fn(&mut SvidParams)| issue(&world.prod, &with(change));
    let intermediate = |change: &dyn Fn(&mut SvidParams)| {
        let mut params = SvidParams::signing(&domain("prod.test"), HOUR, now);
        params.common_name = Some("issuing".into());
        change(&mut params);
        issue(&world.prod.intermediate(&params).unwrap(), &leaf(load))
    };
    for (rule, alert, rogue) in [
        ("expired", Alert::CertificateExpired, prod(&|p| p.not_after = now - Duration::from_secs(10))),
        ("not-yet-valid", Alert::CertificateExpired, prod(&|p| p.not_before = now + Duration::from_secs(600))),
        ("chain", Alert::UnknownCA, issue(&world.stranger, &leaf(load))),
        ("chain", Alert::UnknownCA, issue(&world.partner, &leaf(load))),
        ("chain", Alert::UnknownCA, issue(&world.prod, &leaf("spiffe://partner.test/x"))),
        ("unknown-trust-domain", Alert::UnknownCA, issue(&world.prod, &leaf("spiffe://other.test/x"))),
        ("uri-san-count", Alert::BadCertificate, prod(&|p| p.names.push(San::uri("https://x.test")))),
        ("uri-san-count", Alert::BadCertificate, prod(&|p| p.names = vec![San::Dns("load.svc".into())])),
        (
            "uri-san-encoding",
            Alert::BadCertificate,
            prod(&|p| {
                p.names = vec![San::Uri(b"spiffe://prod.test/admin\0x".to_vec())];
            }),
        ),
        ("spiffe-id-scheme", Alert::BadCertificate, prod(&|p| p.names = vec![San::uri("https://prod.test/load")])),
        ("spiffe-id-trust-domain", Alert::BadCertificate, prod(&|p| p.names = vec![San::uri("spiffe://Prod.test/x")])),
        ("spiffe-id-path", Alert::BadCertificate, prod(&|p| p.names = vec![San::uri("spiffe://prod.test/x/")])),
        ("spiffe-id-has-path", Alert::BadCertificate, prod(&|p| p.names = vec![San::uri("spiffe://prod.test")])),
        ("san-critical", Alert::BadCertificate, prod(&|p| p.organization = None)),
        ("ca-flag", Alert::UnsupportedCertificate, prod(&|p| p.ca = Some(true))),
        ("key-usage-present", Alert::UnsupportedCertificate, prod(&|p| p.key_usage = None)),
        ("key-usage-critical", Alert::UnsupportedCertificate, prod(&|p| p.key_usage_critical = false)),
        (
            "digital-signature",
            Alert::UnsupportedCertificate,
            prod(&|p| {
                p.key_usage = Some(vec![KeyUsagePurpose::KeyAgreement]);
            }),
        ),
        (
            "key-cert-sign",
            Alert::UnsupportedCertificate,
            prod(&|p| {
                p.key_usage = Some(vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign]);
            }),
        ),
        (
            "crl-sign",
            Alert::UnsupportedCertificate,
            prod(&|p| {
                p.key_usage = Some(vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign]);
            }),
        ),
        (
            "extended-key-usage",
            Alert::UnsupportedCertificate,
            prod(&|p| {
                p.extended_key_usage = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
        ),
        (
            "critical-extension",
            Alert::BadCertificate,
            prod(&|p| {
                p.extensions.push((vec![1, 2, 3, 4], true, vec![5, 0]));
            }),
        ),
        ("signing-ca-flag", Alert::UnknownCA, intermediate(&|p| p.ca = None)),
        (
            "signing-key-cert-sign",
            Alert::UnknownCA,
            intermediate(&|p| {
                p.key_usage = Some(vec![KeyUsagePurpose::CrlSign]);
            }),
        ),
        ("issuer-validity", Alert::CertificateExpired, intermediate(&|p| p.not_after = now - Duration::from_secs(9))),
    ] {
        let (seen, refusal) = refused(&server, foreign_client(Some(&rogue), TlsVersion::V1_3)).await;
        assert_eq!((refusal.rule, seen), (rule, Some(alert)), "{refusal}");
        assert!(refusal.peer_san.is_some(), "{rule}");
    }
    for twin in [
        prod(&|_| {}),
        prod(&|p| p.ca = None),
        prod(&|p| p.extended_key_usage.clear()),
        prod(&|p| p.names.push(San::Dns("load.svc".into()))),
        intermediate(&|_| {}),
        issue(&world.partner, &leaf("spiffe://partner.test/x")),
    ] {
        let (near, far) = duplex(64 * 1024);
        let name = ServerName::try_from("ignored.test").unwrap();
        let connector = TlsConnector::from(Arc::new(foreign_client(Some(&twin), TlsVersion::V1_3)));
        let (accepted, connected) = tokio::join!(server.accept(near), connector.connect(name, far));
        connected.unwrap();
        accepted.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_talks_before_it_listens_still_reads_its_alert() {
    // Over TCP: closing with unread bytes would reset the connection and the alert be lost.
    let world = World::new();
    let server = world.server();
    let rogue = world.stranger.issue_with(&leaf("spiffe://prod.test/load")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(foreign_client(Some(&rogue), TlsVersion::V1_3)));
        let mut stream = connector.connect(ServerName::try_from("ignored.test").unwrap(), stream).await.unwrap();
        stream.write_all(&[b'x'; 32 * 1024]).await.unwrap();
        alert_in(&stream.read(&mut [0; 16]).await.unwrap_err())
    };
    let (accepted, alert) = tokio::join!(async { server.accept(listener.accept().await.unwrap().0).await }, client);
    assert_eq!(accepted.map(|_| ()).unwrap_err().rule, "chain");
    assert_eq!(alert, Some(Alert::UnknownCA));
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let world = World::new();
    let victim = world.prod.issue_with(&leaf("spiffe://prod.test/admin")).unwrap();
    let thief = world.prod.issue_with(&leaf("spiffe://prod.test/load")).unwrap();
    let stolen = Minted { chain: victim.chain, chain_pem: victim.chain_pem, key_pem: thief.key_pem };
    let (alert, refusal) = refused(&world.server(), foreign_client(Some(&stolen), TlsVersion::V1_3)).await;
    assert_eq!((refusal.rule, alert), ("handshake-signature", Some(Alert::DecryptError)));
    assert_eq!(refusal.peer_san.as_deref(), Some("spiffe://prod.test/admin"));
}

#[tokio::test]
async fn tls_1_2_gets_in_only_where_the_listener_allows_it() {
    let world = World::new();
    let minted = world.prod.issue_with(&leaf("spiffe://prod.test/load")).unwrap();
    let (alert, refusal) = refused(&world.server(), foreign_client(Some(&minted), TlsVersion::V1_2)).await;
    assert_eq!((refusal.rule, alert), ("tls", Some(Alert::ProtocolVersion)));

    let server = ServerTls::new(world.source("spiffe://prod.test/lake"), TlsVersion::V1_2, ALPN);
    let (near, far) = duplex(64 * 1024);
    let name = ServerName::try_from("ignored.test").unwrap();
    let connector = TlsConnector::from(Arc::new(foreign_client(Some(&minted), TlsVersion::V1_2)));
    let (accepted, connected) = tokio::join!(server.accept(near), connector.connect(name, far));
    assert_eq!(connected.unwrap().get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(accepted.unwrap().1.tls_version(), Some("TLSv1.2"));
}

#[tokio::test]
async fn rogue_tls_1_2_clients_are_refused_by_the_same_rules() {
    let world = World::new();
    let server = ServerTls::new(world.source("spiffe://prod.test/lake"), TlsVersion::V1_2, ALPN);
    let mut params = leaf("spiffe://prod.test/load");
    params.names.push(San::uri("urn:x:y"));
    let rogue = world.prod.issue_with(&params).unwrap();
    let (alert, refusal) = refused(&server, foreign_client(Some(&rogue), TlsVersion::V1_2)).await;
    assert_eq!((refusal.rule, alert), ("uri-san-count", Some(Alert::BadCertificate)));
    let (_, refusal) = refused(&server, foreign_client(None, TlsVersion::V1_2)).await;
    assert_eq!(refusal.rule, "no-certificate");
}

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
