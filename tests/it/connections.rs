//! Connections: shared and kept, with the SVID of today, within limits, over Unix sockets, and drained.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};

use crate::proxy::READS_AND_WRITES;
use crate::streaming::{Generator, MORE_THAN_FITS, Pattern, checked, of};
use crate::support::*;

#[tokio::test]
async fn many_requests_share_one_connection_between_the_sidecars() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    // A burst at once, when nothing is open yet, then one after the other by several apps.
    let burst: Vec<_> = (0..30).map(|_| tokio::spawn(get(pair.address(), "/x"))).collect();
    for answer in burst {
        assert_eq!(answer.await.expect("is answered").status, StatusCode::OK);
    }
    for _ in 0..3 {
        let mut app = Client::plain(pair.address()).await;
        for _ in 0..10 {
            assert_eq!(app.send(request("GET", "a.example", "/x", &[], "")).await.status, StatusCode::OK);
        }
    }
    let peers = addresses(&pair.inbound.records.requests(60).await);
    assert_eq!(peers.len(), 1, "{peers:?}");
    let opened = pair.inbound.metric("portcullis_connections_total", &["direction=\"inbound\""]).await;
    assert!((opened - 1.0).abs() < f64::EPSILON, "{opened}");
    pair.stop().await;
}

#[tokio::test]
async fn kept_upstream_connections_are_used_again() {
    for by_h2c in [false, true] {
        let (world, upstream) = (World::new(), Recorder::start());
        let url = if by_h2c { upstream.h2c_url() } else { upstream.url() };
        let pair = world.pair("http", &url, READS_AND_WRITES).await;
        let mut app = Client::plain(pair.address()).await;
        for _ in 0..20 {
            assert_eq!(app.send(request("POST", "a.example", "/x", &[], "body")).await.status, StatusCode::OK);
            // A denial in between costs no upstream connection.
            assert_eq!(app.send(request("DELETE", "a.example", "/x", &[], "")).await.status, StatusCode::FORBIDDEN);
        }
        assert_eq!((upstream.seen().len(), upstream.connections()), (20, 1));
        pair.stop().await;
    }
}

#[tokio::test]
async fn an_upstream_that_says_close_is_believed() {
    let upstream = RawUpstream::start(|bytes| match memchr::memmem::find(bytes, b"\r\n\r\n") {
        None => Step::Wait,
        Some(_) => Step::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_vec()),
    });
    let world = World::new();
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut app = Client::plain(pair.address()).await;
    for _ in 0..3 {
        let answer = app.send(request("POST", "a.example", "/x", &[], "body")).await;
        assert_eq!((answer.status, answer.header("connection")), (StatusCode::OK, ""), "it is the upstream's word");
    }
    assert_eq!(upstream.received().len(), 3);
    pair.stop().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_body_leaves_no_half_used_connection() {
    // It answers as soon as it has seen a head, and never reads the body.
    let upstream = RawUpstream::start(|bytes| match memchr::memmem::find(bytes, b"\r\n\r\n") {
        None => Step::Wait,
        Some(_) if bytes.starts_with(b"POST") => {
            Step::Reply(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig".to_vec())
        }
        Some(_) => Step::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
    });
    let world = World::new();
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut raw = Raw::connect(pair.address()).await;
    raw.write("POST /x HTTP/1.1\r\nhost: a.example\r\ncontent-length: 100\r\n\r\nGET /smuggled HTTP/1.1\r\n").await;
    let answer = raw.answer().await.expect("the answer does not wait for the body");
    assert_eq!((answer.status(), answer.body.as_slice()), (413, &b"big"[..]));
    // The next request goes over a connection of its own: what is left of the body is not read as its beginning.
    let answer = get(pair.address(), "/next").await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "ok"));
    let received = upstream.received();
    assert_eq!(received.len(), 2);
    assert!(received[1].starts_with(b"GET /next "), "{:?}", String::from_utf8_lossy(&received[1]));
    drop(raw);
    pair.stop().await;
}

#[tokio::test]
async fn a_rotated_svid_is_shown_from_then_on_and_cuts_nothing() {
    let (world, upstream) = (World::new(), Generator::start().await);
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut reader = Client::plain(pair.address()).await;
    let reading = of(&reader, "GET", &format!("/source/{MORE_THAN_FITS}"), Pattern::of(0));
    let in_flight = reader.stream(reading).await.expect("the answer begins");
    let mut writer = Client::plain(pair.address()).await;
    let stuck = of(&writer, "POST", "/stuck", Pattern::of(1 << 20));
    let writing = tokio::spawn(async move { writer.stream(stuck).await });

    for side in [&pair.outbound, &pair.inbound] {
        let name = if std::ptr::eq(side, &pair.outbound) { "app" } else { "service" };
        let next = world.ca.issue(&format!("/ns/test/sa/{name}"));
        side.replace_svid(&next);
        side.logged("identity rotated").await;
        for _ in 0..3 {
            assert_eq!(get(pair.address(), "/source/1").await.status, StatusCode::OK);
        }
        if name == "app" {
            let shown = |record: &Value| record["peer_certificate_sha256"] == next.sha256();
            pair.inbound.records.find("a request by the new SVID", shown).await;
        } else {
            // Who connects anew sees the new certificate.
            let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
            let stream = peer.connect(pair.inbound.inbound("endpoint")).await.expect("a known peer");
            let presented = stream.get_ref().1.peer_certificates().expect("the server has a certificate");
            assert_eq!(presented, next.chain);
        }
    }

    upstream.release.send_replace(true);
    let answer = writing.await.expect("no panic").expect("the upload is answered");
    assert_eq!(answer.into_body().collect().await.expect("a whole answer").to_bytes(), (1 << 20).to_string());
    assert_eq!(checked(in_flight.into_body()).await, MORE_THAN_FITS);
    let records = pair.inbound.records.requests(8).await;
    assert_eq!(addresses(&records).len(), 2, "one connection for each SVID: {records:#?}");
    for record in records {
        assert_eq!((&record["outcome"], &record["error"]), (&json!("allowed"), &Value::Null), "{record}");
    }
    pair.stop().await;
}

#[tokio::test]
async fn a_full_listener_takes_no_more_connections() {
    let (world, upstream) = (World::new(), Recorder::start());
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let service = world.sidecar("service").policies(READS_AND_WRITES);
    let limits = "limits:\n  connections: 2\n  connections_per_workload: 1";
    let service = service.inbound("endpoint", "http", &upstream.url(), limits).start().await;
    let app = app.outbound("endpoint", "http", &service.inbound("endpoint").to_string(), "any", limits).start().await;

    // Outbound: two apps are served, the third is not.
    let mut first = Client::plain(app.outbound("endpoint")).await;
    let mut second = Client::plain(app.outbound("endpoint")).await;
    for client in [&mut first, &mut second] {
        assert_eq!(client.send(request("GET", "a.example", "/x", &[], "")).await.status, StatusCode::OK);
    }
    let mut third = Raw::connect(app.outbound("endpoint")).await;
    third.write("GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
    assert!(third.is_closed().await);
    refused(&app, "listener-full", 1.0).await;
    // A place that is given back is taken again.
    drop(first);
    eventually_served(app.outbound("endpoint")).await;

    // Inbound: the app has one connection, which is all of its; another workload has its own.
    let more = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).alpn(&["http/1.1"]);
    let mut more = Raw::over(more.connect(service.inbound("endpoint")).await.expect("the handshake is done"));
    more.write("GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
    assert!(more.is_closed().await);
    refused(&service, "workload-full", 1.0).await;
    let other = TlsClient::with(&world.ca.issue("/ns/test/sa/other")).alpn(&["http/1.1"]);
    let stream = other.connect(service.inbound("endpoint")).await.expect("a known peer");
    let mut other = http1(stream).await;
    assert_eq!(other.send(request("GET", "a.example", "/x", &[], "")).await.status, StatusCode::OK);
    // Both places of the listener are taken now.
    let full = TcpStream::connect(service.inbound("endpoint")).await.expect("the system takes it");
    assert!(Raw::over(full).is_closed().await);
    refused(&service, "listener-full", 1.0).await;
    app.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn idle_connections_are_closed_and_waiting_ones_are_not() {
    let (world, upstream) = (World::new(), Generator::start().await);
    let pair = world.pair_with("http", &upstream.url(), READS_AND_WRITES, "limits:\n  idle_timeout: 400ms").await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));

    // The upstream takes its time: nothing moves on the way, but somebody waits.
    let mut waiting = Client::plain(pair.address()).await;
    let stuck = of(&waiting, "POST", "/stuck", Pattern::of(0));
    let waiting = tokio::spawn(async move { waiting.stream(stuck).await });

    let started = Instant::now();
    let mut never_used = Raw::connect(pair.inbound.inbound("endpoint")).await;
    let mut kept = Raw::connect(pair.address()).await;
    kept.write("GET /source/1 HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
    assert_eq!(kept.answer().await.expect("is answered").status(), 200);
    assert!(kept.is_closed().await);
    let stream = peer.clone().alpn(&["h2"]).connect(pair.inbound.inbound("endpoint")).await.expect("a known peer");
    let mut frames = FrameConnection::open(stream).await;
    let goaway = frames.next_of(FrameKind::GoAway).await.expect("an idle HTTP/2 connection is told");
    assert_eq!(goaway.error_code(), 0);
    while frames.next().await.is_some() {}
    assert!(started.elapsed() < Duration::from_secs(8), "{:?}", started.elapsed());

    upstream.release.send_replace(true);
    let answer = waiting.await.expect("no panic").expect("who waits is answered");
    assert_eq!(answer.status(), StatusCode::OK);
    // A peer that never shakes hands has a limit of its own, 10 s by default.
    never_used.half_close().await;
    assert!(never_used.is_closed().await);
    pair.stop().await;
}

#[tokio::test]
async fn heads_and_handshakes_that_dawdle_are_refused() {
    let (world, upstream) = (World::new(), Recorder::start());
    let limits = "limits:\n  header_read_timeout: 1s\n  handshake_timeout: 1s";
    let pair = world.pair_with("http", &upstream.url(), READS_AND_WRITES, limits).await;
    let mut slow = Raw::connect(pair.address()).await;
    slow.write("GET /slow HTTP/1.1\r\nhost: a.example\r\nx-part: ").await;
    let mut mute = Raw::connect(pair.inbound.inbound("endpoint")).await;
    // Others are served meanwhile.
    assert_eq!(get(pair.address(), "/x").await.status, StatusCode::OK);

    let answer = slow.answer().await.expect("a slow head is answered");
    assert!(answer.status() == 408 && answer.closes(), "{}", answer.head);
    assert!(slow.is_closed().await);
    let record = pair.outbound.records.find("the slow head", |record| record["reason"] == "head-timeout").await;
    assert_eq!(record["outcome"], "refused");
    assert!(mute.is_closed().await);
    let record = pair.inbound.records.find("the handshake", |record| record["kind"] == "handshake").await;
    assert_eq!(record["reason"], "handshake-timeout");
    assert_eq!(upstream.seen().len(), 1);
    pair.stop().await;
}

#[tokio::test]
async fn a_unix_socket_lets_in_whom_its_mode_and_its_uids_name() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(READS_AND_WRITES);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let uid = world.path().metadata().expect("the folder is there").uid();
    let listener = |name: &str, options: &str| {
        format!(
            "  - name: {name}\n    listen: unix:{}\n    protocol: http\n    upstream: {}\n    peer: {}\n{options}",
            world.path().join(name).display(),
            service.inbound("endpoint"),
            world.id("service"),
        )
    };
    let yaml = [
        "outbound:\n".to_owned(),
        listener("plain", ""),
        listener("shared", &format!("    mode: \"0660\"\n    allow_uids: [{}, {uid}]\n", uid + 1)),
        listener("others", &format!("    mode: \"0666\"\n    allow_uids: [{}]\n", uid + 1)),
    ];
    let app = world.sidecar("app").policies(ALLOW_ALL).yaml(&yaml.concat()).start().await;
    let mode = |name: &str| world.path().join(name).metadata().expect("is made").permissions().mode() & 0o777;
    assert_eq!((mode("plain"), mode("shared"), mode("others")), (0o600, 0o660, 0o666));

    for name in ["plain", "shared"] {
        let socket = world.path().join(name).display().to_string();
        let output = curl(&["--unix-socket", &socket, "--write-out", " %{response_code}", "http://a.example/x"]).await;
        assert_eq!(output.stdout, "ok 200", "{output:?}");
        let record = app.records.find("the request", |record| record["listener"] == name).await;
        assert_eq!((&record["principal"], &record["outcome"]), (&json!(world.id("app")), &json!("allowed")));
    }
    let mut stranger = Raw::over(unix(&world.path().join("others")).await);
    stranger.write("GET /x HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
    assert!(stranger.is_closed().await);
    refused(&app, "uid", 1.0).await;
    assert_eq!(upstream.seen().len(), 2);
    app.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let (world, upstream) = (World::new(), Generator::start().await);
    let mut pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let address = pair.address();
    let inbound = pair.inbound.inbound("endpoint");

    // In flight: requests that wait for the upstream, over both versions, and a download whose reader has stopped.
    let mut waiting = Vec::new();
    for round in 0..20 {
        let mut app = if round % 2 == 0 { Client::plain(address).await } else { Client::plain_http2(address).await };
        let stuck = of(&app, "POST", "/stuck", Pattern::of(100));
        waiting.push(tokio::spawn(async move {
            let answer = app.stream(stuck).await.expect("what is in flight is answered");
            let closes = answer.headers().get("connection").is_some_and(|value| value == "close");
            (answer.version(), closes, answer.into_body().collect().await.expect("a whole answer").to_bytes())
        }));
    }
    let mut reader = Client::plain(address).await;
    let reading = of(&reader, "GET", &format!("/source/{MORE_THAN_FITS}"), Pattern::of(0));
    let download = reader.stream(reading).await.expect("the answer begins");
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/other")).alpn(&["h2"]);
    let mut idle = FrameConnection::open(peer.connect(inbound).await.expect("a known peer")).await;
    let mut keep_alive = Raw::connect(address).await;
    keep_alive.write("GET /source/1 HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
    assert_eq!(keep_alive.answer().await.expect("is answered").status(), 200);
    eventually("all to reach the upstream", || (upstream.asked() == 22).then_some(())).await;

    for sidecar in [&pair.outbound, &pair.inbound] {
        sidecar.process.signal("TERM");
        sidecar.logged("draining").await;
    }
    // Idle connections end in order at once.
    assert!(keep_alive.is_closed().await);
    let goaway = idle.next_of(FrameKind::GoAway).await.expect("HTTP/2 peers are told");
    assert_eq!(goaway.error_code(), 0);
    // Who comes now is turned away, not left to wait in a queue that nobody serves.
    for late in [address, inbound] {
        eventually("the port to be closed", || std::net::TcpStream::connect(late).is_err().then_some(())).await;
    }
    assert!(pair.outbound.process.is_running() && pair.inbound.process.is_running());

    upstream.release.send_replace(true);
    for answer in waiting {
        let (version, closes, body) = answer.await.expect("what is in flight is answered");
        assert_eq!((closes, &body[..]), (version == http::Version::HTTP_11, &b"100"[..]), "{version:?}");
    }
    assert_eq!(checked(download.into_body()).await, MORE_THAN_FITS);
    drop(idle);
    let (outbound, inbound) = (pair.outbound.stop().await, pair.inbound.stop().await);
    for records in [outbound, inbound] {
        let records = records.requests(22).await;
        assert!(records.iter().all(|record| record["status"] == 200 && record["error"].is_null()), "{records:#?}");
    }
}

#[tokio::test]
async fn a_drain_under_load_fails_nothing_that_was_taken() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for number in 0..8 {
        let (address, stop) = (pair.address(), Arc::clone(&stop));
        clients.push(tokio::spawn(async move {
            let mut served = 0_usize;
            while !stop.load(Ordering::Relaxed) {
                let Ok(stream) = TcpStream::connect(address).await else { break };
                let mut app = match number % 2 {
                    0 => http1(stream).await,
                    // What waited to be accepted when the listener closed is reset: nothing of it was taken.
                    _ => match try_http2(stream).await {
                        Ok(app) => app,
                        Err(_reset) => continue,
                    },
                };
                loop {
                    let request = of(&app, "POST", "/x", Pattern::of(10_000));
                    match app.stream(request).await {
                        Ok(answer) => {
                            assert_eq!(answer.status(), StatusCode::OK);
                            answer.into_body().collect().await.expect("an answer that began is whole");
                            served += 1;
                        }
                        // The connection ended before it took the request (or between two): the client may come again.
                        Err(_) => break,
                    }
                }
            }
            served
        }));
    }
    upstream.complete(200).await;
    let started = Instant::now();
    let outbound = pair.outbound.stop().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    stop.store(true, Ordering::Relaxed);
    let mut served = 0;
    for client in clients {
        served += client.await.expect("no request that was taken failed");
    }
    // Every request that was decided was answered, and in whole.
    let all = outbound.all();
    let requests: Vec<_> = all.iter().filter(|record| record["kind"] == "request").collect();
    let failed: Vec<_> =
        requests.iter().filter(|record| record["status"] != 200 || !record["error"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(requests.len(), served);
    pair.inbound.stop().await;
}

#[tokio::test]
async fn a_drain_that_takes_too_long_cuts_what_is_left_and_exits_0() {
    let (world, upstream) = (World::new(), Recorder::behaving(Behaviour::Stall, None));
    let app = world.sidecar("app").policies(ALLOW_ALL).yaml("shutdown_timeout: 500ms");
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let to = service.inbound("endpoint").to_string();
    let app = app.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let address = app.outbound("endpoint");
    let hanging =
        tokio::spawn(
            async move { Client::plain(address).await.try_send(request("GET", "a.example", "/", &[], "")).await },
        );
    upstream.when("the request", |seen| seen.len() == 1).await;
    let started = Instant::now();
    let records = app.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert!(hanging.await.expect("no panic").is_err());
    // Cut, but not without a record.
    let record = records.find("the request that was cut", |record| record["kind"] == "request").await;
    assert!(record["error"].is_string(), "{record}");
    service.stop().await;
}

/// The connections that records speak of.
fn addresses(records: &[Value]) -> BTreeSet<String> {
    records.iter().map(|record| record["peer_address"].to_string()).collect()
}

/// Waits until as many connections were refused for this reason.
async fn refused(sidecar: &Sidecar, reason: &str, count: f64) {
    let label = format!("reason=\"{reason}\"");
    for _ in 0..500 {
        if sidecar.metric("portcullis_connections_refused_total", &[&label]).await >= count {
            return;
        }
    }
    panic!("no connection was refused for {reason}:\n{}", sidecar.metrics().await);
}

/// Waits until a place is free.
async fn eventually_served(address: std::net::SocketAddr) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = Client::plain(address).await.try_send(request("GET", "a.example", "/x", &[], "")).await;
        if answer.is_ok_and(|answer| answer.status == StatusCode::OK) {
            return;
        }
        assert!(Instant::now() < deadline, "no place was given back");
    }
}

async fn unix(path: &Path) -> UnixStream {
    within("a Unix connection", UnixStream::connect(path)).await.expect("the socket is there")
}
