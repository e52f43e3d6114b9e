//! Clients that are refused, each beside one that is not.

use super::*;

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
