//! TLS sessions are not resumed: rustls would not ask the verifier again, and who is not trusted any more would come back in by one.

use std::sync::Arc;

use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, ClientConfig, HandshakeKind, ProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::*;

const GET: &str = "GET / HTTP/1.1\r\nhost: a.example\r\n\r\n";

/// A connection on which a request was answered: whatever the server has to say of sessions has come by then.
async fn answered(config: &Arc<ClientConfig>, address: std::net::SocketAddr) -> (HandshakeKind, u32) {
    let stream = TlsClient::connect_with(config, address).await.expect("is trusted");
    let mut raw = Raw::over(stream);
    raw.write(GET).await;
    assert_eq!(raw.answer().await.map(|answer| answer.status()), Some(200));
    let stream: TlsStream<TcpStream> = raw.into_stream();
    let connection = stream.get_ref().1;
    (connection.handshake_kind().expect("it is over"), connection.tls13_tickets_received())
}

#[tokio::test]
async fn a_client_that_remembers_sessions_shakes_hands_in_full_and_cannot_come_back_when_trust_is_withdrawn() {
    for version in [&TLS13, &TLS12] {
        let (world, upstream, leaving) = (World::new(), Recorder::start(), Ca::new("pipeline.example"));
        let both = format!("{}{}", world.ca.bundle(), leaving.bundle());
        let service = world.sidecar("service").policies(ALLOW_ALL).trust("pipeline.example", &both);
        let service = service.yaml("reload_interval: 100ms\ntls: {min_version: \"1.2\"}");
        let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
        let address = service.inbound("endpoint");
        let remembers = |ca: &Ca, name: &str| {
            TlsClient::with(&ca.issue(&format!("/ns/test/sa/{name}"))).versions(&[version]).config()
        };
        let (leaver, stayer) = (remembers(&leaving, "leaver"), remembers(&world.ca, "stayer"));
        for client in [&leaver, &stayer, &leaver, &stayer] {
            let (kind, tickets) = answered(client, address).await;
            assert!(matches!(kind, HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest), "{kind:?}");
            assert_eq!(tickets, 0, "a ticket was sent");
        }

        service.replace("pipeline.example.pem", &world.ca.bundle());
        service.status_with("the withdrawal", |status| status["identity"]["generation"] == 2).await;
        let refused = match TlsClient::connect_with(&leaver, address).await {
            Ok(stream) => refusal_alert(stream).await,
            Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::AlertReceived(alert)) => *alert,
                _ => panic!("{error:?}"),
            },
        };
        assert_eq!(refused, AlertDescription::UnknownCA);
        assert_eq!(answered(&stayer, address).await.1, 0);
        service.stop().await;
    }
}

/// The witness is good: before a server that resumes, the same client does.
#[tokio::test]
async fn the_same_client_resumes_where_it_may() {
    let ca = Ca::new("pipeline.example");
    let upstream = Recorder::behaving(
        Behaviour::Answer(Arc::new(|_| Reply::text("ok"))),
        Some(server_config(&ca.issue("/ns/test/sa/service"), &[])),
    );
    for version in [&TLS13, &TLS12] {
        let client = TlsClient::with(&ca.issue("/ns/test/sa/app")).versions(&[version]).config();
        assert_ne!(answered(&client, upstream.address).await.0, HandshakeKind::Resumed);
        let (kind, tickets) = answered(&client, upstream.address).await;
        assert_eq!(kind, HandshakeKind::Resumed, "{version:?}");
        assert_eq!(tickets > 0, version.version == ProtocolVersion::TLSv1_3, "{version:?}");
    }
}

#[tokio::test]
async fn openssl_gets_no_session_that_it_could_come_back_with() {
    let (world, upstream, leaving) = (World::new(), Recorder::start(), Ca::new("pipeline.example"));
    let both = format!("{}{}", world.ca.bundle(), leaving.bundle());
    let service = world.sidecar("service").policies(ALLOW_ALL).trust("pipeline.example", &both);
    let service = service.yaml("reload_interval: 100ms\ntls: {min_version: \"1.2\"}");
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let address = service.inbound("endpoint").to_string();
    let svid = leaving.issue("/ns/test/sa/leaver");
    let certificate = world.write("leaver.pem", &svid.chain_pem()).display().to_string();
    let key = world.write("leaver.key", &svid.key_pem()).display().to_string();
    let connect = async |version: &str, session: [&str; 2]| {
        let arguments = ["s_client", "-connect", &address, version, "-cert", &certificate, "-key", &key];
        let arguments =
            [&arguments[..], if session[0].is_empty() { &[] } else { &session[..] }, &["-ign_eof"]].concat();
        openssl(&arguments, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await
    };
    let mut kept = Vec::new();
    for version in ["-tls1_3", "-tls1_2"] {
        let file = world.path().join(format!("session{version}")).display().to_string();
        let first = connect(version, ["-sess_out", &file]).await;
        assert!(first.stdout.contains("HTTP/1.1 200") && first.stdout.contains("New, TLS"), "{}", first.stdout);
        assert!(
            !first.stdout.contains("session ticket:") && !first.stdout.contains("Post-Handshake New Session"),
            "{}",
            first.stdout
        );
        // Where it wrote a session all the same, it is one that the server does not know.
        let kept_one = std::path::Path::new(&file).exists();
        let again = connect(version, if kept_one { ["-sess_in", &file] } else { ["", ""] }).await;
        assert!(again.stdout.contains("HTTP/1.1 200"), "{}", again.stdout);
        assert!(again.stdout.contains("New, TLS") && !again.stdout.contains("Reused, TLS"), "{}", again.stdout);
        kept.push((version, file, kept_one));
    }
    service.replace("pipeline.example.pem", &world.ca.bundle());
    service.status_with("the withdrawal", |status| status["identity"]["generation"] == 2).await;
    for (version, file, kept_one) in kept {
        let refused = connect(version, if kept_one { ["-sess_in", &file] } else { ["", ""] }).await;
        assert!(!refused.stdout.contains("HTTP/1.1 200"), "{version} came back: {}", refused.stdout);
        assert!(refused.stderr.contains("unknown ca"), "{}", refused.stderr);
    }
    service.stop().await;
}
