//! WebSocket: raw mode only where it is permitted, and only after the upstream's 101. No other upgrade.

use serde_json::json;

use crate::support::*;

/// Upgrades are asked for as `http:Upgrade` (in `connect`) and as `http:GET` (in `read`).
const BOTH: &str = r#"
@id("app-reads")
permit (principal, action in Action::"read", resource in Endpoint::"endpoint");

@id("app-connects")
permit (principal, action in Action::"connect", resource in Endpoint::"endpoint");
"#;

const ONLY_READ: &str = r#"
@id("app-reads")
permit (principal, action in Action::"read", resource in Endpoint::"endpoint");
"#;

const ONLY_CONNECT: &str = r#"
@id("app-connects")
permit (principal, action in Action::"connect", resource in Endpoint::"endpoint");
"#;

const FORBIDDEN: &str = r#"
@id("app-reads-and-connects")
permit (principal, action in [Action::"read", Action::"connect"], resource in Endpoint::"endpoint");

@id("no-sockets-below-private")
forbid (principal, action == Action::"http:Upgrade", resource in HttpPath::"endpoint/private");
"#;

/// RFC 6455, 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn upgrade_of(path: &str, token: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a.example\r\nupgrade: {token}\r\nconnection: Upgrade\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    )
}

/// Answers the head of an upgrade with 101, and everything after it with itself.
fn switching() -> RawUpstream {
    RawUpstream::start(|bytes| {
        if !bytes.starts_with(b"GET ") {
            return Step::Reply([b"<", bytes, b">"].concat());
        }
        match memchr::memmem::find(bytes, b"\r\n\r\n") {
            None => Step::Wait,
            // What came behind the head in the same segment is echoed too.
            Some(end) => {
                let head = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                     sec-websocket-accept: {ACCEPT}\r\nx-portcullis-decision: forged\r\n\r\nhello"
                );
                Step::Reply([head.as_bytes(), &bytes[end + 4..]].concat())
            }
        }
    })
}

#[tokio::test]
async fn an_echo_passes_both_ways() {
    let (world, server) = (World::new(), WebSocketServer::start().await);
    let pair = world.pair("http", &server.url(), BOTH).await;
    let url = format!("ws://{}/chat", pair.address());
    let answer = websocket(&[&url, "one", "two", "three", "--binary", "3000000"]).await;
    assert_eq!(answer["messages"], json!(["one", "two", "three"]), "{answer}");
    assert_eq!(answer["binary_equal"], true);

    let ended = |record: &serde_json::Value| record["kind"] == "request" && record["status"] == 101;
    let record = pair.inbound.records.find("the WebSocket that ended", ended).await;
    assert_eq!(record["outcome"], "allowed");
    assert!(
        record["bytes_in"].as_u64() > Some(3_000_000) && record["bytes_out"].as_u64() > Some(3_000_000),
        "{record}"
    );
    let operations = record["operations"].as_array().expect("an upgrade is two operations");
    let asked: Vec<_> = operations.iter().map(|one| (one["action"].as_str(), policies_of(one))).collect();
    assert!(asked.contains(&(Some("http:GET"), vec!["app-reads"])), "{asked:?}");
    assert!(asked.contains(&(Some("http:Upgrade"), vec!["app-connects"])), "{asked:?}");
    // The record that it began, under the same decision id.
    let began = |other: &serde_json::Value| other["kind"] == "started" && other["decision_id"] == record["decision_id"];
    pair.inbound.records.find("its start", began).await;
    pair.stop().await;
}

#[tokio::test]
async fn an_upgrade_needs_both_of_its_permissions() {
    for (policies, outcome, deciding) in [
        (ONLY_READ, "not_permitted", vec![]),
        (ONLY_CONNECT, "not_permitted", vec![]),
        (FORBIDDEN, "forbidden", vec!["no-sockets-below-private"]),
    ] {
        let (world, upstream) = (World::new(), switching());
        let pair = world.pair("http", &upstream.url(), policies).await;
        let answer = websocket(&[&format!("ws://{}/private/chat", pair.address()), "hi"]).await;
        assert_eq!(answer["status"], 403, "{policies}: {answer}");
        let record = pair.inbound.records.with_outcome(outcome).await;
        assert_eq!((policies_of(&record), &record["status"]), (deciding, &json!(403)));
        upstream.assert_untouched();
        pair.stop().await;
    }
}

#[tokio::test]
async fn raw_mode_begins_with_the_upstreams_101() {
    let (world, upstream) = (World::new(), switching());
    let pair = world.pair("http", &upstream.url(), FORBIDDEN).await;
    let mut raw = Raw::connect(pair.address()).await;
    raw.write(upgrade_of("/chat", "WebSocket")).await;
    let answer = raw.answer().await.expect("the upstream switches");
    assert_eq!((answer.status(), answer.header("sec-websocket-accept")), (101, Some(ACCEPT)));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert!(answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert_eq!(answer.header("x-portcullis-decision"), None);
    // Not HTTP any more: whatever it looks like.
    raw.write("DELETE /private HTTP/1.1\r\n\r\n").await;
    raw.half_close().await;
    let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
    assert_eq!(rest.replace("><", ""), "hello<DELETE /private HTTP/1.1\r\n\r\n>");
    let forwarded = String::from_utf8_lossy(&upstream.received().concat()).into_owned();
    assert!(forwarded.contains("upgrade: websocket\r\n") && forwarded.contains(KEY), "{forwarded}");
    pair.stop().await;
}

#[tokio::test]
async fn bytes_behind_the_head_wait_for_the_101() {
    // Permitted, and the upstream switches: they come first on the raw stream.
    let (world, upstream) = (World::new(), switching());
    let pair = world.pair("http", &upstream.url(), BOTH).await;
    let mut raw = Raw::connect(pair.address()).await;
    raw.write(upgrade_of("/chat", "websocket") + "early").await;
    assert_eq!(raw.answer().await.expect("the upstream switches").status(), 101);
    raw.half_close().await;
    let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
    assert_eq!(rest.replace(['<', '>'], ""), "helloearly");
    // They were not sent along with the head.
    let forwarded = String::from_utf8_lossy(&upstream.received().concat()).into_owned();
    assert!(forwarded.ends_with("\r\n\r\nearly"), "{forwarded}");
    pair.stop().await;

    // The upstream does not switch: they are the next request, judged like any other (CVE-2026-2833).
    let (world, upstream) = (World::new(), RawUpstream::answering_heads());
    let pair = world.pair("http", &upstream.url(), FORBIDDEN).await;
    let mut raw = Raw::connect(pair.address()).await;
    let smuggled = "DELETE /private HTTP/1.1\r\nhost: a.example\r\n\r\n";
    raw.write(upgrade_of("/chat", "websocket") + smuggled).await;
    let answer = raw.answer().await.expect("the upstream answers");
    assert_eq!((answer.status(), answer.header("upgrade")), (200, None), "an answer like any other");
    assert_eq!(answer.body, b"ok");
    if !answer.closes() {
        let second = raw.answer().await;
        assert_eq!(second.expect("the next request is judged").status(), 403);
        pair.inbound.records.with_outcome("not_permitted").await;
    }
    let forwarded = String::from_utf8_lossy(&upstream.received().concat()).into_owned();
    assert!(!forwarded.contains("DELETE"), "{forwarded}");
    pair.stop().await;
}

#[tokio::test]
async fn an_upstream_that_does_not_switch_to_websocket_is_not_followed() {
    let cases = [
        ("200 OK", "", 200),
        ("403 Forbidden", "", 403),
        ("426 Upgrade Required", "upgrade: websocket\r\n", 426),
        ("101 Switching Protocols", "upgrade: h2c\r\nconnection: upgrade\r\n", 502),
        ("101 Switching Protocols", "", 502),
    ];
    for (status, fields, expected) in cases {
        let head = if expected == 502 {
            format!("HTTP/1.1 {status}\r\n{fields}\r\nraw bytes")
        } else {
            format!("HTTP/1.1 {status}\r\n{fields}content-length: 2\r\n\r\nok")
        };
        let upstream = RawUpstream::start(move |_| Step::Reply(head.clone().into_bytes()));
        let world = World::new();
        let pair = world.pair("http", &upstream.url(), BOTH).await;
        let mut raw = Raw::connect(pair.address()).await;
        raw.write(upgrade_of("/chat", "websocket")).await;
        let answer = raw.answer().await.expect("the request is answered");
        assert_eq!(answer.status(), expected, "{status} {fields}: {}", answer.head);
        assert!(!answer.body.windows(3).any(|bytes| bytes == b"raw"), "{answer:?}");
        let record = pair.inbound.records.requests(1).await;
        assert_eq!((&record[0]["outcome"], &record[0]["status"]), (&json!("allowed"), &json!(expected)));
        pair.stop().await;
    }

    // 101 though nobody asked.
    let upstream = RawUpstream::start(|_| {
        Step::Reply(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nraw".to_vec(),
        )
    });
    let world = World::new();
    let pair = world.pair("http", &upstream.url(), BOTH).await;
    let answer = get(pair.address(), "/chat").await;
    assert_eq!(answer.status, 502, "{answer:?}");
    pair.stop().await;
}

#[tokio::test]
async fn every_other_upgrade_is_refused() {
    let (world, upstream) = (World::new(), switching());
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    let inbound = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).alpn(&["http/1.1"]);
    let mut heads: Vec<String> =
        ["h2c", "h2c, websocket", "websocket, h2c", "TLS/1.0", "HTTP/2.0", "connect-udp", "websocket/2"]
            .iter()
            .map(|token| upgrade_of("/chat", token))
            .collect();
    heads.push(
        upgrade_of("/chat", "h2c")
            .replace("connection: Upgrade", "connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAMAAABkAAQ"),
    );
    heads.push(upgrade_of("/chat", "websocket").replace("upgrade: websocket", "upgrade: websocket\r\nupgrade: h2c"));
    heads.push(upgrade_of("/chat", "websocket").replace("GET ", "POST "));
    heads.push(upgrade_of("/chat", "websocket").replace("version: 13", "version: 8"));
    heads.push(upgrade_of("/chat", "websocket").replace(KEY, "short"));
    heads.push("CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:443\r\n\r\n".to_owned());
    for head in heads {
        let mut outbound = Raw::connect(pair.address()).await;
        outbound.write(&head).await;
        let answer = outbound.answer().await.expect("the request is answered");
        assert!([400, 501].contains(&answer.status()), "{head}: {}", answer.head);
        let decision = answer.header("x-portcullis-decision").expect("a refusal is recorded");
        let record = pair.outbound.records.of_decision(decision).await;
        assert_eq!(record["outcome"], "refused", "{record}");

        let mut inbound = Raw::over(inbound.connect(pair.inbound.inbound("endpoint")).await.expect("a known peer"));
        inbound.write(&head).await;
        let answer = inbound.answer().await.expect("the request is answered");
        assert!([400, 501].contains(&answer.status()), "{head}: {}", answer.head);
    }
    upstream.assert_untouched();
    // The twin that is let through.
    let mut raw = Raw::connect(pair.address()).await;
    raw.write(upgrade_of("/chat", "websocket")).await;
    assert_eq!(raw.answer().await.expect("the upstream switches").status(), 101);
    drop(raw);
    pair.stop().await;
}

#[tokio::test]
async fn upgrades_over_http2_are_refused() {
    let (world, upstream) = (World::new(), switching());
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).alpn(&["h2"]);
    let stream = peer.connect(pair.inbound.inbound("endpoint")).await.expect("a known peer");
    let mut inbound = FrameConnection::open(stream).await;
    let stream = tokio::net::TcpStream::connect(pair.address()).await.expect("the sidecar listens");
    let mut outbound = FrameConnection::open(stream).await;

    // RFC 8441: extended CONNECT. We never announce SETTINGS_ENABLE_CONNECT_PROTOCOL, so it is malformed.
    let extended = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":authority", "a.example"),
        (":path", "/chat"),
        ("sec-websocket-version", "13"),
    ];
    let connect = [(":method", "CONNECT"), (":authority", "a.example:443")];
    for (stream, head) in [(1, &extended[..]), (3, &connect[..])] {
        refused_over_http2(&mut inbound, stream, head).await;
        refused_over_http2(&mut outbound, stream, head).await;
    }
    upstream.assert_untouched();
    pair.stop().await;
}

/// Sends a head and expects a reset of its stream, or an answer that refuses it.
async fn refused_over_http2<S>(connection: &mut FrameConnection<S>, stream: u32, head: &[(&str, &str)])
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    connection.send(&Frame::head(stream, head)).await;
    while let Some(frame) = connection.next().await {
        match frame.kind {
            FrameKind::Settings => {
                for setting in frame.payload.chunks(6) {
                    assert_ne!(setting[..2], [0, 8], "SETTINGS_ENABLE_CONNECT_PROTOCOL must not be announced");
                }
            }
            FrameKind::Reset if frame.stream == stream => return,
            FrameKind::Headers if frame.stream == stream => {
                // RFC 7541, appendix A: a static index 8 to 14 is a :status; 8 is 200. Ours are literal or 400.
                assert_ne!(frame.payload.first(), Some(&0x88), "answered 200");
                return;
            }
            _ => {}
        }
    }
    panic!("the connection ended without a word on stream {stream}");
}

#[tokio::test]
async fn s3_knows_no_upgrade() {
    let (world, upstream) = (World::new(), switching());
    let pair = world.pair("s3", &upstream.url(), ALLOW_ALL).await;
    for token in ["websocket", "h2c"] {
        let mut raw = Raw::connect(pair.address()).await;
        raw.write(upgrade_of("/bucket/key", token).replace("a.example", "localhost")).await;
        let answer = raw.answer().await.expect("the request is answered");
        assert!([400, 501].contains(&answer.status()), "{}", answer.head);
        let decision = answer.header("x-portcullis-decision").expect("a refusal is recorded");
        let record = pair.outbound.records.of_decision(decision).await;
        assert_eq!((&record["outcome"], &record["reason"]), (&json!("refused"), &json!("upgrade")));
        assert!(answer.body.starts_with(b"<?xml"), "{answer:?}");
    }
    upstream.assert_untouched();
    pair.stop().await;
}

#[tokio::test]
async fn a_drain_gives_a_websocket_its_time_and_then_cuts_it() {
    let (world, upstream) = (World::new(), switching());
    let service = world.sidecar("service").policies(ALLOW_ALL).yaml("shutdown_timeout: 2s");
    let mut service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).alpn(&["http/1.1"]);
    let mut raw = Raw::over(peer.connect(service.inbound("endpoint")).await.expect("a known peer"));
    raw.write(upgrade_of("/chat", "websocket")).await;
    assert_eq!(raw.answer().await.expect("the upstream switches").status(), 101);
    service.process.signal("TERM");
    service.logged("draining").await;
    raw.write("still here").await;
    let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
    assert_eq!(rest, "hello<still here>");
    assert!(service.process.exited().await.success());
    let records = &service.records;
    // It had a record when it began, and one when it was cut that tells how far it came.
    let record = records.find("the WebSocket that was cut", |record| record["kind"] == "request").await;
    assert_eq!((&record["outcome"], &record["status"]), (&json!("allowed"), &json!(101)));
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&json!(10), &json!(17)));
    assert!(record["error"].is_string(), "{record}");
}

#[tokio::test]
async fn an_upgrade_that_is_asked_for_when_a_drain_begins_is_served() {
    let world = World::new();
    let upstream = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let url = format!("http://{}", upstream.local_addr().expect("is bound"));
    let service = world.sidecar("service").policies(ALLOW_ALL).inbound("endpoint", "http", &url, "").start().await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).alpn(&["http/1.1"]);
    let mut raw = Raw::over(peer.connect(service.inbound("endpoint")).await.expect("a known peer"));
    raw.write(upgrade_of("/chat", "websocket")).await;
    let (stream, _) = within("the upgrade to reach the upstream", upstream.accept()).await.expect("a connection");
    service.process.signal("TERM");
    service.logged("draining").await;

    let mut upstream = Raw::over(stream);
    let asked = upstream.answer().await.expect("the head comes");
    assert!(asked.head.starts_with("GET /chat HTTP/1.1\r\n"), "{}", asked.head);
    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\nhello";
    upstream.write(head).await;
    upstream.half_close().await;
    assert_eq!(raw.answer().await.expect("the upstream switches").status(), 101);
    raw.half_close().await;
    assert_eq!(raw.rest().await, b"hello");
    let log = service.log().join("\n");
    assert!(!log.contains("panic"), "{log}");
    service.stop().await;
}
