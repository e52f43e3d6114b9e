//! Who gets past the handshake of a running sidecar, and what is said of who does not: the alert that the peer sees, one
//! record with the rule that failed, and nothing at the upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{StatusCode, Version};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription as Alert, HandshakeKind, NamedGroup, ProtocolVersion};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server};

use crate::support::*;

const SECOND: &str = "spiffe://pipeline.example/ns/test/sa/second";

#[tokio::test]
async fn tls_1_2_is_taken_only_where_the_listener_says_so_and_by_the_same_rules() {
    let door = Door::open("").await;
    let old = |svid: &Svid| TlsClient::with(svid).versions(&[&TLS12]);
    let app = door.world.ca.issue(APP);
    let too_old = Rogue { client: old(&app), ..rogue("TLS 1.2", "tls", Alert::ProtocolVersion, &app).named(None) };
    door.keeps_out(&too_old).await;
    door.lets_in("TLS 1.3", &TlsClient::with(&app).versions(&[&TLS13])).await;
    door.close(1, 1).await;

    let door = Door::open("tls:\n  min_version: \"1.2\"").await;
    let app = door.world.ca.issue(APP);
    let stream = old(&app).connect(door.address()).await.expect("TLS 1.2 is taken");
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    drop(stream);
    door.lets_in("TLS 1.2", &old(&app)).await;
    let record = door.service.records.with_outcome("allowed").await;
    assert_eq!(record["context"]["tls"]["version"], "TLSv1.2", "{record}");
    // Who speaks both is not talked down.
    let stream = TlsClient::with(&app).connect(door.address()).await.expect("a known peer");
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));

    let double = door.world.ca.issue_with(APP, |params| params.subject_alt_names.push(uri(SECOND)));
    let double_san = format!("{}, {SECOND}", door.world.id("app"));
    let stranger = Ca::new("pipeline.example").issue(APP);
    let nobody = rogue("no certificate", "no-certificate", Alert::CertificateRequired, &app).named(None);
    let rogues = [
        Rogue { client: TlsClient::anonymous().versions(&[&TLS12]), ..nobody },
        Rogue {
            client: old(&double),
            ..rogue("two IDs", "uri-san-count", Alert::BadCertificate, &double).named(Some(&double_san))
        },
        Rogue { client: old(&stranger), ..rogue("a stranger", "chain", Alert::UnknownCA, &stranger) },
    ];
    for rogue in &rogues {
        door.keeps_out(rogue).await;
    }
    door.close(rogues.len(), 1).await;
}

#[tokio::test]
async fn openssl_without_a_certificate_or_with_a_wrong_one_reads_an_alert_and_no_answer() {
    let door = Door::open("").await;
    let wrong = files(&door.world, "wrong", &Ca::new("pipeline.example").issue(APP));
    let right = files(&door.world, "right", &door.world.ca.issue(APP));
    let cases = [(None, "alert certificate required", "no-certificate"), (Some(&wrong), "alert unknown ca", "chain")];
    for (number, (certificate, alert, rule)) in cases.into_iter().enumerate() {
        let output = s_client(door.address(), certificate, &["-ign_eof"]).await;
        assert!(output.stderr.contains(alert), "{output:#?}");
        assert!(!output.stdout.contains("HTTP/1.1"), "{output:#?}");
        let record = door.service.records.find(rule, |record| record["reason"] == rule).await;
        refused_at(&record, rule);
        assert_eq!(door.handshakes().len(), number + 1);
    }
    let output = s_client(door.address(), Some(&right), &["-ign_eof"]).await;
    assert!(output.stdout.contains("HTTP/1.1 200 OK"), "{output:#?}");
    door.close(2, 1).await;
}

#[tokio::test]
async fn openssl_is_given_nothing_to_resume_a_session_with() {
    for (version, options) in [("-tls1_3", ""), ("-tls1_2", "tls:\n  min_version: \"1.2\"")] {
        let door = Door::open(options).await;
        let right = files(&door.world, "right", &door.world.ca.issue(APP));
        let again = s_client(door.address(), Some(&right), &[version, "-reconnect"]).await;
        let handshakes = |kind: &str| again.stdout.lines().filter(|line| line.starts_with(kind)).count();
        assert_eq!((handshakes("New, TLSv1."), handshakes("Reused, ")), (6, 0), "{again:#?}");
        // What a session file holds, if there is one, opens nothing.
        let session = door.world.path().join("session").display().to_string();
        let first = s_client(door.address(), Some(&right), &[version, "-ign_eof", "-sess_out", &session]).await;
        assert!(!first.stdout.contains("Session Ticket arrived") && !first.stdout.contains("ticket:"), "{first:#?}");
        if std::path::Path::new(&session).exists() {
            let resumed = s_client(door.address(), Some(&right), &[version, "-ign_eof", "-sess_in", &session]).await;
            assert!(resumed.stdout.contains("New, TLSv1.") && !resumed.stdout.contains("Reused, "), "{resumed:#?}");
        }
        door.service.stop().await;
    }
}

/// The SVID as the two files that openssl reads.
fn files(world: &World, name: &str, svid: &Svid) -> [String; 2] {
    let certificate = world.write(&format!("{name}.pem"), &svid.chain_pem());
    let key = world.write(&format!("{name}.key"), &svid.key_pem());
    [certificate, key].map(|path| path.display().to_string())
}

async fn s_client(address: SocketAddr, certificate: Option<&[String; 2]>, options: &[&str]) -> Output {
    let address = address.to_string();
    let mut arguments = vec!["s_client", "-connect", address.as_str()];
    if let Some([certificate, key]) = certificate {
        arguments.extend(["-cert", certificate, "-key", key]);
    }
    arguments.extend(options);
    openssl(&arguments, "GET /twin HTTP/1.1\r\nHost: service.example\r\nConnection: close\r\n\r\n").await
}

#[tokio::test]
async fn what_is_not_tls_is_not_answered_in_http() {
    let door = Door::open("").await;
    let address = door.address();
    let cases: [(&str, &[u8], &str); 5] = [
        ("HTTP/1.1", b"GET /secret HTTP/1.1\r\nhost: service.example\r\n\r\n", "tls"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "tls"),
        ("a PROXY header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "tls"),
        ("noughts", &[0; 64], "tls"),
        ("half a ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "closed"),
    ];
    for (what, bytes, rule) in cases {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let local = stream.local_addr().expect("is connected");
        stream.write_all(bytes).await.expect("the connection is open");
        let mut stream = Raw::over(stream);
        if rule == "closed" {
            stream.half_close().await;
        }
        let received = String::from_utf8_lossy(&stream.rest().await).into_owned();
        assert!(!received.contains("HTTP") && received.len() < 16, "{what}: {received:?}");
        let record = door.handshake_from(local).await;
        assert_eq!((&record["reason"], &record["peer_san"]), (&json!(rule), &Value::Null), "{what}: {record}");
        refused_at(&record, what);
        door.lets_in(what, &door.app()).await;
    }
    door.close(cases.len(), cases.len()).await;
}

#[tokio::test]
async fn alpn_agrees_on_http_2_or_http_1_1_and_on_nothing_else() {
    let door = Door::open("").await;
    let cases: [(&[&str], Option<&str>); 5] = [
        (&["h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ];
    for (offered, agreed) in cases {
        let stream = door.app().alpn(offered).connect(door.address()).await.expect("a known peer");
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
        let (answer, version) = if agreed == Some("h2") {
            let request = request("GET", "", "https://service.example/twin", &[], "");
            (http2(stream).await.send(request).await, Version::HTTP_2)
        } else {
            (http1(stream).await.send(request("GET", "service.example", "/twin", &[], "")).await, Version::HTTP_11)
        };
        assert_eq!((answer.status, answer.version), (StatusCode::OK, version), "{offered:?}");
    }
    let app = door.world.ca.issue(APP);
    for offered in [&["h3"][..], &["h2c", "http/1.0", "spdy/3"]] {
        let client = TlsClient::with(&app).alpn(offered);
        let strange = rogue("ALPN", "tls", Alert::NoApplicationProtocol, &app).named(None);
        door.keeps_out(&Rogue { client, ..strange }).await;
    }
    door.close(2, cases.len()).await;
}

#[tokio::test]
async fn handshakes_that_never_end_are_cut_at_the_limit_while_others_go_on() {
    let door = Door::open("limits:\n  handshake_timeout: 2s").await;
    let hello = client_hello();
    let (half, _) = hello.split_at(hello.len() / 2);
    // Nothing, a byte, half a greeting, a whole one whose answer is never read to its end.
    let openings: [&[u8]; 4] = [b"", &[0x16], half, &hello];
    let started = Instant::now();
    let mut stalled = Vec::new();
    for opening in openings.repeat(5) {
        let mut stream = TcpStream::connect(door.address()).await.expect("it listens");
        stream.write_all(opening).await.expect("the connection is open");
        stalled.push(stream);
    }
    for _ in 0..5 {
        door.lets_in("while others stall", &door.app()).await;
    }
    assert!(door.handshakes().is_empty() || started.elapsed() >= Duration::from_secs(2), "{:#?}", door.handshakes());

    let count = stalled.len();
    for stream in stalled {
        let local = stream.local_addr().expect("is connected");
        Raw::over(stream).rest().await;
        assert!(started.elapsed() >= Duration::from_secs(2), "cut after {:?}", started.elapsed());
        let record = door.handshake_from(local).await;
        assert_eq!(record["reason"], "handshake-timeout", "{record}");
        refused_at(&record, "a stalled handshake");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "cut after {:?}", started.elapsed());
    door.close(count, 5).await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_prolong_a_handshake() {
    let door = Door::open("limits:\n  handshake_timeout: 1s").await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(door.address()).await.expect("it listens");
    let local = stream.local_addr().expect("is connected");
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for byte in client_hello() {
        tick.tick().await;
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    assert!(started.elapsed() < Duration::from_secs(8), "cut after {:?}", started.elapsed());
    let record = door.handshake_from(local).await;
    assert_eq!(record["reason"], "handshake-timeout", "{record}");
    door.lets_in("afterwards", &door.app()).await;
    door.close(1, 1).await;
}

/// A ClientHello as rustls writes it.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("the provider has them").with_root_certificates(rustls::RootCertStore::empty());
    let name = "portcullis.invalid".try_into().expect("is a DNS name");
    let mut connection =
        rustls::ClientConnection::new(Arc::new(config.with_no_client_auth()), name).expect("the name is fine");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("a vector takes everything");
    hello
}

#[tokio::test]
async fn the_key_exchange_is_hybrid_post_quantum_with_whoever_can() {
    let door = Door::open("").await;
    let hybrid = if cfg!(feature = "post-quantum") { NamedGroup::X25519MLKEM768 } else { NamedGroup::X25519 };
    let groups = |groups: &[&'static dyn rustls::crypto::SupportedKxGroup]| {
        let groups = groups.to_vec();
        door.app().offering(|provider| provider.kx_groups = groups)
    };
    let cases = [
        ("by default", door.app(), hybrid),
        ("hybrid first", groups(&[kx_group::X25519MLKEM768, kx_group::X25519]), hybrid),
        ("X25519 only", groups(&[kx_group::X25519]), NamedGroup::X25519),
        ("P-256 only", groups(&[kx_group::SECP256R1]), NamedGroup::secp256r1),
    ];
    let count = cases.len();
    for (what, client, group) in cases {
        let stream = client.connect(door.address()).await.expect("a known peer");
        let session = stream.get_ref().1;
        assert_eq!(session.negotiated_key_exchange_group().map(|group| group.name()), Some(group), "{what}");
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3), "{what}");
        let answer = http1(stream).await.send(request("GET", "service.example", "/twin", &[], "")).await;
        assert_eq!(answer.status, StatusCode::OK, "{what}");
    }
    door.close(0, count).await;
}

#[tokio::test]
async fn the_outbound_side_offers_both_protocols_and_the_hybrid_group_and_never_resumes() {
    let world = World::new();
    let server = server_config(&world.ca.issue("/ns/test/sa/service"), &["h2", "http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let to = listener.local_addr().expect("is bound").to_string();
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let app = app.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let hybrid = if cfg!(feature = "post-quantum") { NamedGroup::X25519MLKEM768 } else { NamedGroup::X25519 };
    // The server drops the first connection, so that the sidecar comes back, and would resume if it ever did.
    for attempt in 0..2 {
        let address = app.outbound("endpoint");
        let asking = tokio::spawn(async move { get(address, "/").await });
        let stream = shaken_hands(&listener, &server).await;
        let session = stream.get_ref().1;
        assert_eq!(session.negotiated_key_exchange_group().map(|group| group.name()), Some(hybrid));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full), "{attempt}");
        assert_eq!(session.server_name(), None);
        drop(stream);
        asking.abort();
    }
    app.kill().await;
}

/// The next connection whose handshake completes. The sidecar may have tried the request before once more when its
/// connection was dropped, and have given that attempt up with its client: such a connection ends before its hello.
async fn shaken_hands(listener: &TcpListener, server: &TlsAcceptor) -> server::TlsStream<TcpStream> {
    loop {
        let (stream, _) = within("the sidecar", listener.accept()).await.expect("it connects");
        match within("a handshake", server.accept(stream)).await {
            Ok(stream) => return stream,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "any peer is taken: {error}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_the_one_expected_gets_no_request() {
    let world = World::new();
    let ca = &world.ca;
    const SERVICE: &str = "/ns/test/sa/service";
    let cases = [
        ("", ca.issue(SERVICE)),
        ("unexpected-peer", ca.issue("/ns/test/sa/services")),
        ("unexpected-peer", ca.issue("/ns/test/sa/service/below")),
    ];
    let mut plan = world.sidecar("app").policies(ALLOW_ALL);
    let mut servers = Vec::new();
    for (number, (_, svid)) in cases.iter().enumerate() {
        let answer = Behaviour::Answer(Arc::new(|_| Reply::text("ok")));
        let server = Recorder::behaving(answer, Some(server_config(svid, &["h2", "http/1.1"])));
        let to = server.address.to_string();
        plan = plan.outbound(&format!("to-{number}"), "http", &to, &world.id("service"), "");
        servers.push(server);
    }
    let app = plan.start().await;
    for (number, ((rule, svid), server)) in cases.iter().zip(&servers).enumerate() {
        let answer = get(app.outbound(&format!("to-{number}")), "/").await;
        if rule.is_empty() {
            assert_eq!((answer.status, server.seen().len()), (StatusCode::OK, 1));
            continue;
        }
        let stage = answer.header("x-portcullis-error");
        assert_eq!((answer.status, stage), (StatusCode::BAD_GATEWAY, "upstream-handshake"), "{rule}");
        let listener = format!("to-{number}");
        let record = app.records.find("the request", |record| record["listener"] == listener.as_str()).await;
        let error = record["error"].as_str().unwrap_or_default();
        assert!(error.contains(&format!("is not trusted ({rule})")), "{rule}, {}: {record}", svid.id);
        server.assert_untouched();
    }
    app.stop().await;
}
