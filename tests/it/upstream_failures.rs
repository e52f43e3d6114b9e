//! Upstreams that are down, slow, broken or somebody else: what the caller is told, when, and what is tried again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::proxy::READS_AND_WRITES;
use crate::support::*;

/// What an upstream that cannot be reached may cost a caller.
const SOON: Duration = Duration::from_secs(3);

#[tokio::test]
async fn an_upstream_that_is_down_is_a_bad_gateway_in_the_callers_words() {
    let (world, nobody) = (World::new(), nobody().await);
    let pair = world.pair("http", &format!("http://{nobody}"), READS_AND_WRITES).await;
    let mut app = Client::plain(pair.address()).await;

    let started = Instant::now();
    let answer = app.send(request("GET", "a.example", "/x", &[], "")).await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_eq!((answer.status, answer.header("x-portcullis-error")), (StatusCode::BAD_GATEWAY, "upstream-connect"));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem: Value = serde_json::from_slice(&answer.body).expect("a problem is JSON");
    assert_eq!((&problem["status"], &problem["detail"]), (&json!(502), &json!("upstream-connect")));
    assert!(!answer.text().contains(&nobody.to_string()), "addresses stay inside: {}", answer.text());

    let answer = app.send(request("POST", "a.example", "/x", &[("accept", "text/plain")], "body")).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::BAD_GATEWAY, "upstream-connect\n"));
    let answer = app.send(request("HEAD", "a.example", "/x", &[], "")).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::BAD_GATEWAY, 0));

    for record in pair.inbound.records.requests(3).await {
        assert_eq!((&record["outcome"], &record["status"]), (&json!("allowed"), &json!(502)));
        assert!(record["error"].as_str().is_some_and(|error| error.contains("cannot connect")), "{record}");
    }
    let failures = pair.inbound.metric("portcullis_upstream_failures_total", &["stage=\"upstream-connect\""]).await;
    assert!((failures - 3.0).abs() < f64::EPSILON, "{failures}");
    // A denial is a denial also then.
    let denied = app.send(request("DELETE", "a.example", "/x", &[], "")).await;
    assert_eq!((denied.status, denied.header("x-portcullis-error")), (StatusCode::FORBIDDEN, ""));
    pair.stop().await;
}

#[tokio::test]
async fn an_s3_store_that_is_down_is_an_s3_error() {
    let (world, nobody) = (World::new(), nobody().await);
    let pair = world.pair("s3", &format!("http://{nobody}"), ALLOW_ALL).await;
    let mut app = Client::plain(pair.address()).await;
    let answer = app.send(request("GET", "localhost", "/bucket/key", &[], "")).await;
    assert_eq!((answer.status, answer.header("x-portcullis-error")), (StatusCode::BAD_GATEWAY, "upstream-connect"));
    assert_eq!(answer.header("content-type"), "application/xml");
    let text = answer.text();
    assert!(text.contains("<Error><Code>ServiceUnavailable</Code>"), "{text}");
    assert!(text.contains(&format!("<RequestId>{}</RequestId>", answer.header("x-amz-request-id"))), "{text}");
    let answer = app.send(request("HEAD", "localhost", "/bucket/key", &[], "")).await;
    assert_eq!((answer.status, answer.body.len()), (StatusCode::BAD_GATEWAY, 0));
    pair.stop().await;
}

#[tokio::test]
async fn a_sidecar_that_is_down_is_a_bad_gateway_of_the_outbound_side() {
    let world = World::new();
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let nobody = nobody().await.to_string();
    let app = app.outbound("endpoint", "http", &nobody, &world.id("service"), "").start().await;
    let started = Instant::now();
    let answer = get(app.outbound("endpoint"), "/").await;
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    assert_eq!((answer.status, answer.header("x-portcullis-error")), (StatusCode::BAD_GATEWAY, "upstream-connect"));
    app.stop().await;
}

#[tokio::test]
async fn an_upstream_that_does_not_answer_is_a_gateway_timeout_soon() {
    let world = World::new();
    // A full accept queue: the system lets further SYNs fall.
    let black_hole = BlackHole::new().await;
    // Accepts, but never says a word of TLS.
    let mute = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let mute_address = mute.local_addr().expect("is bound").to_string();
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let app = app.outbound("hole", "http", &black_hole.address.to_string(), &world.id("service"), "");
    let app = app.outbound("mute", "http", &mute_address, &world.id("service"), "").start().await;
    let inbound = world.sidecar("service").policies(ALLOW_ALL);
    let inbound = inbound.inbound("endpoint", "http", &format!("http://{}", black_hole.address), "").start().await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).alpn(&["h2"]);

    // Many at once, and again: one that waits must not wait for another's wait.
    for address in [app.outbound("hole"), app.outbound("mute")] {
        let started = Instant::now();
        let asked: Vec<_> = (0..10).map(|_| tokio::spawn(get(address, "/"))).collect();
        for answer in asked {
            let answer = answer.await.expect("is answered");
            assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(answer.header("x-portcullis-error"), "upstream-connect-timeout");
        }
        assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    }
    let started = Instant::now();
    let mut client = http2(peer.connect(inbound.inbound("endpoint")).await.expect("a known peer")).await;
    let answer = client.send(request("GET", "", "https://a.example/", &[], "")).await;
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    let record = inbound.records.with_outcome("allowed").await;
    assert!(record["error"].as_str().is_some_and(|error| error.contains("was not reached within 2000 ms")), "{record}");
    app.stop().await;
    inbound.stop().await;
}

#[tokio::test]
async fn a_peer_that_vanishes_fails_all_who_wait_at_the_same_time() {
    // It spoke HTTP/2 once, so that those who come later wait for one connection and share it.
    let world = World::new();
    let svid = world.ca.issue("/ns/test/sa/service");
    let door = Gate::start(server_config(&svid, &["h2"])).await;
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let app = app.outbound("endpoint", "http", &door.address.to_string(), &world.id("service"), "").start().await;
    assert_eq!(get(app.outbound("endpoint"), "/").await.status, StatusCode::OK);
    door.shut();

    let started = Instant::now();
    let asked: Vec<_> = (0..10).map(|_| tokio::spawn(get(app.outbound("endpoint"), "/"))).collect();
    for answer in asked {
        let answer = answer.await.expect("is answered");
        assert_eq!(answer.header("x-portcullis-error"), "upstream-connect-timeout", "{answer:?}");
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    app.stop().await;
}

#[tokio::test]
async fn what_an_upstream_breaks_is_named() {
    let close = Vec::new();
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("closes without a word", close, "upstream-closed"),
        ("speaks something else", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), "upstream-response"),
        ("ends within the head", b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), "upstream-response"),
        (
            "gives two lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok".to_vec(),
            "upstream-",
        ),
        (
            "gives a length and chunks",
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec(),
            "upstream-",
        ),
        (
            "encodes what nobody can decode",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec(),
            "upstream-",
        ),
        ("switches unasked", b"HTTP/1.1 101 Switching Protocols\r\n\r\nraw".to_vec(), "upstream-"),
        ("has a bad status", b"HTTP/1.1 9999 What\r\n\r\n".to_vec(), "upstream-response"),
    ];
    for (what, bytes, stage) in cases {
        let upstream = RawUpstream::start(move |received| {
            if received.ends_with(b"\r\n\r\n") { Step::ReplyAndClose(bytes.clone()) } else { Step::Wait }
        });
        let world = World::new();
        let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
        let answer = get(pair.address(), "/x").await;
        let told = answer.header("x-portcullis-error");
        assert!(answer.status == StatusCode::BAD_GATEWAY && told.starts_with(stage), "{what}: {answer:?}");
        let record = pair.inbound.records.requests(1).await;
        assert_eq!((&record[0]["status"], &record[0]["outcome"]), (&json!(502), &json!("allowed")), "{what}");
        assert!(record[0]["error"].is_string(), "{what}: {}", record[0]);
        pair.stop().await;
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let answers = [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nonly this",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n",
    ];
    for bytes in answers {
        let upstream = RawUpstream::start(move |received| {
            if received.ends_with(b"\r\n\r\n") { Step::ReplyAndClose(bytes.into()) } else { Step::Wait }
        });
        let world = World::new();
        let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
        let mut app = Client::plain(pair.address()).await;
        let error = app.try_send(request("GET", "a.example", "/x", &[], "")).await;
        assert!(error.is_err(), "{bytes:?}: {error:?}");
        let mut app = Client::plain_http2(pair.address()).await;
        let error = app.try_send(request("GET", "", "http://a.example/x", &[], "")).await;
        assert!(error.is_err(), "{bytes:?}: {error:?}");
        for record in pair.inbound.records.requests(2).await {
            assert!(record["error"].as_str().is_some_and(|error| error.contains("broke off")), "{record}");
            assert_eq!((&record["status"], &record["bytes_out"]), (&json!(200), &json!(9)));
        }
        pair.stop().await;
    }
    // The twin: an answer without a length ends where its connection does (RFC 9112, 6.3).
    let upstream = RawUpstream::start(|_| Step::ReplyAndClose(b"HTTP/1.1 200 OK\r\n\r\nall of it".to_vec()));
    let world = World::new();
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let answer = get(pair.address(), "/x").await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "all of it"));
    pair.stop().await;
}

/// Answers the first request of each connection; at the second it closes, after `parting` bytes. A new connection
/// after that answers again. Counts heads.
fn closes_at_the_second(parting: &'static [u8]) -> (RawUpstream, Arc<AtomicUsize>) {
    let heads = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&heads);
    // The script cannot tell connections apart, but it can tell requests: `/first` opens and keeps a connection.
    let upstream = RawUpstream::start(move |bytes| {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Step::Wait };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let body = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length = body.and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
        if bytes.len() < end + 4 + length {
            return Step::Wait;
        }
        counted.fetch_add(1, Ordering::Relaxed);
        if head.contains("/first") {
            Step::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec())
        } else if counted.load(Ordering::Relaxed).is_multiple_of(2) {
            Step::ReplyAndClose(parting.to_vec())
        } else {
            Step::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nagain".to_vec())
        }
    });
    (upstream, heads)
}

#[tokio::test]
async fn only_what_may_be_repeated_is_sent_again_on_a_kept_connection_that_dies() {
    // Method, body, whether it may be sent again (RFC 9110, 9.2.2: idempotent; a body is gone once it was sent).
    let cases = [
        ("GET", "", true),
        ("HEAD", "", true),
        ("DELETE", "", true),
        ("OPTIONS", "", true),
        ("POST", "", false),
        ("PATCH", "", false),
        ("POST", "pay 17", false),
        ("PUT", "content", false),
    ];
    for (method, body, again) in cases {
        let (world, (upstream, heads)) = (World::new(), closes_at_the_second(b""));
        let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
        let mut app = Client::plain(pair.address()).await;
        assert_eq!(app.send(request("GET", "a.example", "/first", &[], "")).await.status, StatusCode::OK);
        let answer = app.send(request(method, "a.example", "/second", &[], body)).await;
        let sent = heads.load(Ordering::Relaxed) - 1;
        if again {
            assert_eq!((answer.status, sent), (StatusCode::OK, 2), "{method} {body}: {answer:?}");
        } else {
            assert_eq!((answer.status, sent), (StatusCode::BAD_GATEWAY, 1), "{method} {body}: {answer:?}");
            assert_eq!(answer.header("x-portcullis-error"), "upstream-closed");
        }
        assert_eq!(pair.inbound.records.requests(2).await.len(), 2, "one request, one record");
        pair.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_sent_again_after_the_first_byte_of_an_answer() {
    let world = World::new();
    let (upstream, heads) = closes_at_the_second(b"HTTP/1.1 2");
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    let mut app = Client::plain(pair.address()).await;
    assert_eq!(app.send(request("GET", "a.example", "/first", &[], "")).await.status, StatusCode::OK);
    let answer = app.send(request("GET", "a.example", "/second", &[], "")).await;
    assert_eq!((answer.status, answer.header("x-portcullis-error")), (StatusCode::BAD_GATEWAY, "upstream-response"));
    assert_eq!(heads.load(Ordering::Relaxed), 2);
    pair.stop().await;
}

#[tokio::test]
async fn a_request_on_a_fresh_connection_that_dies_is_not_sent_again() {
    let (world, upstream) = (World::new(), RawUpstream::start(|_| Step::ReplyAndClose(Vec::new())));
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    assert_eq!(get(pair.address(), "/").await.header("x-portcullis-error"), "upstream-closed");
    assert_eq!(upstream.received().len(), 1);
    pair.stop().await;
}

#[tokio::test]
async fn several_kept_connections_that_die_together_fail_nobody() {
    // As when a server goes away and comes back: a connection that has served before answers `/die` by closing.
    let died = Arc::new(AtomicUsize::new(0));
    let upstream = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let url = format!("http://{}", upstream.local_addr().expect("is bound"));
    let (opened, dead) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&died));
    let counted = Arc::clone(&opened);
    tokio::spawn(async move {
        while let Ok((stream, _)) = upstream.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let dead = Arc::clone(&dead);
            tokio::spawn(async move {
                let (mut connection, mut served) = (Raw::over(stream), 0);
                while let Some(asked) = connection.answer().await {
                    if asked.head.starts_with("GET /die") && served > 0 {
                        dead.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    served += 1;
                    connection.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
                }
            });
        }
    });
    let world = World::new();
    let pair = world.pair("http", &url, READS_AND_WRITES).await;
    // Several at once open several connections, which are kept.
    while opened.load(Ordering::Relaxed) < 4 {
        let asked: Vec<_> = (0..16).map(|_| tokio::spawn(get(pair.address(), "/live"))).collect();
        for answer in asked {
            assert_eq!(answer.await.expect("is answered").status, StatusCode::OK);
        }
    }
    let answer = get(pair.address(), "/die").await;
    assert_eq!(answer.status, StatusCode::OK, "the second attempt is for a fresh connection: {answer:?}");
    assert_eq!(died.load(Ordering::Relaxed), 1);
    pair.stop().await;
}

#[tokio::test]
async fn a_server_that_is_somebody_else_gets_no_request() {
    let world = World::new();
    let (service, stranger) = (world.ca.issue("/ns/test/sa/service"), world.ca.issue("/ns/test/sa/stranger"));
    let forged = Ca::new("pipeline.example").issue("/ns/test/sa/service");
    let foreign = Ca::new("other.example").issue("/ns/test/sa/service");
    let broken = world.ca.issue_with("/ns/test/sa/service", |params| {
        params.subject_alt_names.push("spiffe://pipeline.example/second".try_into().map(rcgen::SanType::URI).unwrap());
    });
    // Who answers, whom the listener expects, the rule that fails.
    let only = world.id("service");
    let below = "spiffe://pipeline.example/ns/test/*".to_owned();
    let cases = [
        (&service, only.clone(), None),
        (&service, format!("[{}, {}]", world.id("other"), only), None),
        (&service, below.clone(), None),
        (&service, "any".to_owned(), None),
        (&stranger, only.clone(), Some("unexpected-peer")),
        (&stranger, format!("[{}, {}]", world.id("other"), only), Some("unexpected-peer")),
        (&stranger, "spiffe://pipeline.example/ns/prod/*".to_owned(), Some("unexpected-peer")),
        // Not below itself: one or more segments.
        (&service, format!("{only}/*"), Some("unexpected-peer")),
        (&forged, only.clone(), Some("")),
        (&foreign, "any".to_owned(), Some("unknown-trust-domain")),
        (&broken, only.clone(), Some("uri-san-count")),
    ];
    for (number, (answers, expected, rule)) in cases.into_iter().enumerate() {
        let upstream = Recorder::behaving(
            Behaviour::Answer(Arc::new(|_| Reply::text("ok"))),
            Some(server_config(answers, &["h2", "http/1.1"])),
        );
        let app = world.sidecar(&format!("app{number}")).policies(ALLOW_ALL);
        let app = app.outbound("endpoint", "http", &upstream.address.to_string(), &expected, "").start().await;
        let answer = get(app.outbound("endpoint"), "/").await;
        let record = app.records.with_outcome("allowed").await;
        match rule {
            None => {
                assert_eq!(answer.status, StatusCode::OK, "{expected}: {record}");
                assert_eq!(upstream.seen().len(), 1);
            }
            Some(rule) => {
                assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{expected}");
                assert_eq!(answer.header("x-portcullis-error"), "upstream-handshake");
                let error = record["error"].as_str().expect("the record says why");
                assert!(error.contains("is not trusted (") && error.contains(rule), "{rule}: {error}");
                assert!(!answer.text().contains("stranger"), "{}", answer.text());
                upstream.assert_untouched();
            }
        }
        app.stop().await;
    }
}

#[tokio::test]
async fn a_server_without_tls_gets_no_request() {
    let (world, upstream) =
        (World::new(), RawUpstream::start(|_| Step::Reply(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())));
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let app = app.outbound("endpoint", "http", &upstream.address.to_string(), &world.id("service"), "").start().await;
    let answer = get(app.outbound("endpoint"), "/secret").await;
    assert_eq!((answer.status, answer.header("x-portcullis-error")), (StatusCode::BAD_GATEWAY, "upstream-handshake"));
    let received = String::from_utf8_lossy(&upstream.received().concat()).into_owned();
    assert!(!received.contains("secret") && !received.contains("GET"), "{received:?}");
    app.stop().await;
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_a_gateway_timeout() {
    let (world, upstream) = (World::new(), Recorder::behaving(Behaviour::Stall, None));
    let pair = world.pair_with("http", &upstream.url(), READS_AND_WRITES, "limits:\n  request_timeout: 300ms").await;
    for mut app in [Client::plain(pair.address()).await, Client::plain_http2(pair.address()).await] {
        let (host, target) =
            if matches!(app, Client::Http1(_)) { ("a.example", "/x") } else { ("", "http://a.example/x") };
        let answer = app.send(request("GET", host, target, &[], "")).await;
        assert_eq!(
            (answer.status, answer.header("x-portcullis-error")),
            (StatusCode::GATEWAY_TIMEOUT, "request-timeout")
        );
        let headers = [("content-type", "application/grpc")];
        let answer = app.send(request("POST", host, target, &headers, "")).await;
        assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "4"), "DEADLINE_EXCEEDED");
    }
    let record = pair.outbound.records.with_outcome("allowed").await;
    assert!(record["error"].as_str().is_some_and(|error| error.contains("not finished within 300 ms")), "{record}");
    pair.stop().await;
}

#[tokio::test]
async fn an_answer_that_stands_still_is_cut() {
    let world = World::new();
    let upstream =
        RawUpstream::start(|_| Step::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nthe beginning".to_vec()));
    // Only one side has the short limit, or it would be chance which of them finds out.
    let service = world.sidecar("service").policies(READS_AND_WRITES);
    let service = service.inbound("endpoint", "http", &upstream.url(), "limits:\n  idle_timeout: 300ms").start().await;
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let to = service.inbound("endpoint").to_string();
    let outbound = app.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let pair = Pair { outbound, inbound: service };
    let mut app = Client::plain(pair.address()).await;
    let started = Instant::now();
    let error = app.try_send(request("GET", "a.example", "/x", &[], "")).await;
    assert!(error.is_err() && started.elapsed() < SOON, "{error:?}");
    let stalled = |record: &Value| record["error"].as_str().is_some_and(|error| error.contains("no byte moved"));
    let record = pair.inbound.records.find("the answer that stood still", stalled).await;
    assert_eq!((&record["status"], &record["bytes_out"]), (&json!(200), &json!(13)));
    pair.stop().await;
}

#[tokio::test]
async fn a_body_that_stands_still_is_a_request_timeout() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair_with("http", &upstream.url(), READS_AND_WRITES, "limits:\n  idle_timeout: 400ms").await;
    let started = Instant::now();
    let mut raw = Raw::connect(pair.address()).await;
    raw.write("POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: 100\r\n\r\nthe beginning").await;
    // Somebody else is served meanwhile.
    assert_eq!(get(pair.address(), "/other").await.status, StatusCode::OK);
    let answer = raw.answer().await.expect("the request is answered");
    assert_eq!((answer.status(), answer.header("x-portcullis-error")), (408, Some("idle-timeout")));
    assert!(answer.closes() && raw.is_closed().await, "{}", answer.head);
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    // The upstream has seen a request that broke off, not a shorter one.
    let seen = upstream.seen();
    assert!(seen.iter().filter(|seen| seen.method == "POST").all(|seen| !seen.complete), "{seen:#?}");
    pair.stop().await;
}

/// An address where nobody listens.
async fn nobody() -> std::net::SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    listener.local_addr().expect("is bound")
}

/// A port that takes no connection and refuses none.
#[derive(Debug)]
struct BlackHole {
    address: std::net::SocketAddr,
    _listener: Socket,
    _filling: Vec<TcpStream>,
}

impl BlackHole {
    async fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("the system has sockets");
        listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has a free port");
        listener.listen(0).expect("is bound");
        let address = listener.local_addr().expect("is bound").as_socket().expect("is IP");
        let mut filling = Vec::new();
        // As many as the queue takes; the first that is not taken shows that it is full.
        while let Ok(taken) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
            filling.push(taken.expect("connects or waits"));
        }
        Self { address, _listener: listener, _filling: filling }
    }
}

/// An HTTP/2 server behind mTLS that can be made to vanish: its connections end, new ones are taken and never answered.
#[derive(Debug)]
struct Gate {
    address: std::net::SocketAddr,
    open: tokio::sync::watch::Sender<bool>,
}

impl Gate {
    async fn start(tls: tokio_rustls::TlsAcceptor) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("is bound");
        let (open, watched) = tokio::sync::watch::channel(true);
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                if !*watched.borrow() {
                    held.push(stream);
                    continue;
                }
                let (tls, mut watched) = (tls.clone(), watched.clone());
                tokio::spawn(async move {
                    let Ok(stream) = tls.accept(stream).await else { return };
                    let service = hyper::service::service_fn(async |_| {
                        Ok::<_, std::convert::Infallible>(http::Response::new(
                            http_body_util::Empty::<bytes::Bytes>::new(),
                        ))
                    });
                    let executor = hyper_util::rt::TokioExecutor::new();
                    let served = hyper::server::conn::http2::Builder::new(executor)
                        .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
                    tokio::select! {
                        _ = served => {}
                        _ = watched.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open }
    }

    fn shut(&self) {
        self.open.send_replace(false);
    }
}
