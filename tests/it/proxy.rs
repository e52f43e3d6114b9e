//! What passes through a pair of sidecars, what is added and what is taken away: HTTP/1.1 and HTTP/2 in and out.

use http::{Method, StatusCode, Version};
use serde_json::Value;

use crate::support::*;

/// Reads and writes are permitted, deletions are forbidden.
pub(crate) const READS_AND_WRITES: &str = r#"
@id("app-reads-and-writes")
permit (principal, action in [Action::"read", Action::"write"], resource in Endpoint::"endpoint");

@id("nobody-deletes")
forbid (principal, action in Action::"delete", resource in Endpoint::"endpoint");
"#;

#[tokio::test]
async fn curl_reaches_upstreams_of_either_version_by_either_version() {
    for (upstream_version, by_h2c) in [(Version::HTTP_11, false), (Version::HTTP_2, true)] {
        let (world, upstream) = (World::new(), Recorder::behaving(Behaviour::Echo, None));
        let url = if by_h2c { upstream.h2c_url() } else { upstream.url() };
        let pair = world.pair("http", &url, READS_AND_WRITES).await;
        let target = format!("http://{}/orders?new=1", pair.address());

        for (asked, named) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
            let before = upstream.seen().len();
            let body = format!("from curl {asked}");
            let wanted = ["--write-out", "\n%{http_version} %{response_code}", "--data-binary", &body, asked, &target];
            let output = curl(&wanted).await;
            assert_eq!(output.stdout, format!("{body}\n{named} 200"), "{output:?}");
            let seen = upstream.when("curl's request", |seen| seen.len() > before).await;
            assert_eq!((seen[before].version, &seen[before].method), (upstream_version, &Method::POST));
            assert!(seen[before].target.ends_with("/orders?new=1"), "{seen:#?}");

            let denied = curl(&[
                "--write-out",
                "%{http_version} %{response_code}",
                "--output",
                "/dev/null",
                "--request",
                "DELETE",
                asked,
                &target,
            ])
            .await;
            assert_eq!(denied.stdout, format!("{named} 403"), "{denied:?}");
            let record = pair.inbound.records.with_outcome("forbidden").await;
            assert_eq!(policies_of(&record), ["nobody-deletes"]);
            assert_eq!(upstream.seen().len(), before + 1, "the denied request must not reach the upstream");
        }
        pair.stop().await;
    }
}

#[tokio::test]
async fn a_denial_is_worded_for_its_caller() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut app = Client::plain(pair.address()).await;

    let answer = app.send(request("DELETE", "a.example", "/x", &[], "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::FORBIDDEN, "application/problem+json"));
    let problem: Value = serde_json::from_slice(&answer.body).expect("a problem is JSON");
    assert_eq!((&problem["status"], &problem["decision"]), (&403.into(), &answer.decision().into()));
    assert_eq!(problem["request_id"], answer.header("x-request-id"));
    let text = answer.text();
    assert!(!text.contains("nobody-deletes") && !text.contains("forbid"), "policy text stays inside: {text}");

    let answer = app.send(request("DELETE", "a.example", "/x", &[("accept", "text/plain")], "")).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::FORBIDDEN, "text/plain; charset=utf-8"));
    assert!(answer.text().contains(answer.decision()), "{answer:?}");

    let answer = app.send(request("GET", "a.example", "/x", &[], "")).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "ok"));
    assert_eq!(upstream.seen().len(), 1);
    pair.stop().await;
}

#[tokio::test]
async fn answers_without_a_body_keep_the_length_they_speak_of() {
    for by_h2c in [false, true] {
        let world = World::new();
        let upstream = Recorder::answering(|seen| {
            let headers = |pairs: &[(&str, &str)]| {
                pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
            };
            match seen.target.rsplit('/').next() {
                Some("204") => Reply { status: StatusCode::NO_CONTENT, ..Reply::default() },
                Some("304") => Reply {
                    status: StatusCode::NOT_MODIFIED,
                    headers: headers(&[("etag", "\"v1\"")]),
                    ..Reply::default()
                },
                _ if seen.method == Method::HEAD => {
                    Reply { headers: headers(&[("content-length", "1234")]), ..Reply::default() }
                }
                _ => Reply::text("twelve bytes"),
            }
        });
        let url = if by_h2c { upstream.h2c_url() } else { upstream.url() };
        let pair = world.pair("http", &url, READS_AND_WRITES).await;

        for mut app in [Client::plain(pair.address()).await, Client::plain_http2(pair.address()).await] {
            let (host, base) = match app {
                Client::Http1(_) => ("a.example", ""),
                Client::Http2(_) => ("", "http://a.example"),
            };
            let mut answer = async |method: &str, path: &str| {
                app.send(request(method, host, &format!("{base}{path}"), &[], "")).await
            };
            let head = answer("HEAD", "/object").await;
            assert_eq!((head.status, head.header("content-length")), (StatusCode::OK, "1234"));
            assert!(head.body.is_empty());
            let empty = answer("GET", "/204").await;
            assert_eq!((empty.status, empty.header("transfer-encoding")), (StatusCode::NO_CONTENT, ""));
            assert!(empty.body.is_empty());
            let unchanged = answer("GET", "/304").await;
            assert_eq!((unchanged.status, unchanged.header("etag")), (StatusCode::NOT_MODIFIED, "\"v1\""));
            // The twin with a body, on the same connection: nothing of the others was left on it.
            let whole = answer("GET", "/object").await;
            assert_eq!((whole.header("content-length"), whole.text().as_str()), ("12", "twelve bytes"));
            assert_eq!(whole.header("transfer-encoding"), "");
        }
        pair.stop().await;
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let world = World::new();
    let upstream = Recorder::answering(|_| Reply {
        headers: vec![("trailer".to_owned(), "x-sum, x-forwarded-client-cert".to_owned())],
        trailers: vec![
            ("x-sum".to_owned(), "answered".to_owned()),
            ("x-portcullis-decision".to_owned(), "forged".to_owned()),
        ],
        ..Reply::text("body")
    });
    let pair = world.pair("http", &upstream.h2c_url(), READS_AND_WRITES).await;

    // HTTP/1.1, written by hand: the library's client would hide what the chunks say.
    let mut raw = Raw::connect(pair.address()).await;
    raw.write(
        "POST /sum HTTP/1.1\r\nhost: a.example\r\nte: trailers\r\nconnection: te, close\r\ntransfer-encoding: chunked\r\n\
         trailer: x-sum, x-forwarded-client-cert, authorization\r\n\r\n4\r\nbody\r\n0\r\nx-sum: asked\r\n\
         x-forwarded-client-cert: URI=spiffe://pipeline.example/forged\r\nx_forwarded_client_cert: forged\r\n\r\n",
    )
    .await;
    let answer = String::from_utf8(raw.rest().await).expect("the answer is text");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n4\r\nbody\r\n0\r\nx-sum: answered\r\n\r\n"), "{answer}");
    let seen = upstream.complete(1).await;
    assert_eq!((seen[0].body.as_slice(), &seen[0].trailers["x-sum"]), (&b"body"[..], &"asked".parse().unwrap()));
    assert_eq!(seen[0].trailers.len(), 1, "no identity in trailers: {:?}", seen[0].trailers);
    assert!(seen[0].header("te").contains("trailers"), "{seen:#?}");

    let mut app = Client::plain_http2(pair.address()).await;
    let answer = app.send(request("GET", "", "http://a.example/sum", &[("te", "trailers")], "")).await;
    assert_eq!((answer.text().as_str(), answer.trailers.get("x-sum")), ("body", Some(&"answered".parse().unwrap())));
    assert!(!answer.trailers.contains_key("x-portcullis-decision"), "{answer:?}");
    pair.stop().await;
}

#[tokio::test]
async fn chunks_arrive_as_the_bytes_and_trailers_they_hold() {
    let world = World::new();
    let upstream = RawUpstream::start(|bytes| {
        match bytes.ends_with(b"\r\n\r\n") && memchr::memmem::find(bytes, b"\r\n0\r\n").is_some() {
        false => Step::Wait,
        true => Step::Reply(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\n\
              x-sum: answered\r\n\r\n"
                .to_vec(),
        ),
    }
    });
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut raw = Raw::connect(pair.address()).await;
    let head = "PUT /a HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n";
    raw.write(format!("{head}te: trailers\r\nconnection: te, close\r\n\r\n5;name=v\r\nhello\r\n")).await;
    raw.write("1\r\n!\r\n0\r\nx-sum: asked\r\n\r\n").await;
    let answer = String::from_utf8(raw.rest().await).expect("the answer is text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("the answer has a head");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(!body.contains("ext"), "chunk extensions belong to one connection (RFC 9112, 7.1.1): {body}");
    let (chunks, trailers) = body.split_once("\r\n0\r\n").expect("the body has an end");
    assert_eq!(chunks.split("\r\n").skip(1).step_by(2).collect::<String>(), "abcdefg", "{body}");
    assert_eq!(trailers, "x-sum: answered\r\n\r\n");
    let forwarded = upstream.received_with("\r\n0\r\n").await;
    assert!(!forwarded.contains("name=v") && forwarded.contains("transfer-encoding: chunked"), "{forwarded}");
    assert!(forwarded.ends_with("\r\n0\r\nx-sum: asked\r\n\r\n"), "{forwarded}");
    pair.stop().await;
}

#[tokio::test]
async fn cookie_crumbs_of_http2_become_one_field() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut app = Client::plain_http2(pair.address()).await;
    let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")];
    app.send(request("GET", "", "http://a.example/", &crumbs, "")).await;
    let seen = upstream.complete(1).await;
    let cookies: Vec<_> = seen[0].headers.get_all("cookie").iter().collect();
    assert_eq!(cookies, ["a=1; b=2; c=3"]);
    pair.stop().await;
}

#[tokio::test]
async fn fields_of_one_connection_end_with_it() {
    let world = World::new();
    let upstream = RawUpstream::start(|bytes| match memchr::memmem::find(bytes, b"\r\n\r\n") {
        None => Step::Wait,
        Some(_) => Step::Reply(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive, x-hop\r\nkeep-alive: timeout=5\r\n\
              x-hop: 1\r\nproxy-connection: keep-alive\r\nx-kept: 1\r\nx-portcullis-decision: forged\r\n\
              x-portcullis-error: forged\r\n\r\nok"
                .to_vec(),
        ),
    });
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut raw = Raw::connect(pair.address()).await;
    raw.write(
        "GET / HTTP/1.1\r\nhost: a.example\r\nconnection: keep-alive, x-hop, authorization, x-forwarded-for\r\n\
         keep-alive: timeout=9\r\nproxy-connection: keep-alive\r\nproxy-authorization: Basic eDp5\r\nte: gzip\r\n\
         x-hop: secret\r\nx-kept: 1\r\nauthorization: Bearer token\r\nx-forwarded-for: 10.1.1.1\r\n\
         x-portcullis-decision: forged\r\nX-Portcullis-Peer: forged\r\nx_portcullis_peer: forged\r\n\r\n",
    )
    .await;
    let answer = raw.answer().await.expect("the request is answered");
    assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"ok"[..]));
    for gone in ["keep-alive", "x-hop", "proxy-connection", "x-portcullis-decision", "x-portcullis-error"] {
        assert_eq!(answer.header(gone), None, "{}", answer.head);
    }
    assert_eq!(answer.header("x-kept"), Some("1"));

    let forwarded = upstream.received_with("\r\n\r\n").await.to_ascii_lowercase();
    for gone in ["x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "\r\nte:", "portcullis", "timeout=9"]
    {
        assert!(!forwarded.contains(gone), "`{gone}` in {forwarded}");
    }
    // Named by Connection, but never hop-by-hop: without them the upstream would answer another request.
    for kept in ["x-kept: 1", "authorization: bearer token", "x-forwarded-for: 10.1.1.1", "host: a.example"] {
        assert!(forwarded.contains(kept), "`{kept}` not in {forwarded}");
    }
    pair.stop().await;
}

#[tokio::test]
async fn the_upstream_learns_of_the_peer_from_us_alone() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(READS_AND_WRITES);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let known = world.ca.issue_with("/ns/test/sa/app", |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Quotes \"R\" Us, Inc");
        params.distinguished_name.push(rcgen::DnType::CommonName, "app");
    });

    let stream = TlsClient::with(&known).alpn(&["http/1.1"]).connect(service.inbound("endpoint")).await.unwrap();
    let forged = "By=spiffe://pipeline.example/x;URI=spiffe://pipeline.example/ns/test/sa/root";
    let headers = [
        ("x-forwarded-client-cert", forged),
        ("x-forwarded-client-cert", "URI=spiffe://other"),
        ("x_forwarded_client_cert", forged),
        ("x-forwarded_client-cert", forged),
        ("client-cert", ":AAAA:"),
    ];
    http1(stream).await.send(request("GET", "a.example", "/", &headers, "")).await;

    let seen = upstream.complete(1).await;
    let claims: Vec<_> = seen[0].headers.get_all("x-forwarded-client-cert").iter().collect();
    // Envoy's order and syntax, held to Envoy itself in envoy_peer.rs; the subject as RFC 4514 has it, last RDN first.
    let subject = r#"CN=app,O=Quotes \"R\" Us\, Inc"#;
    let wanted =
        format!("By={};Hash={};Subject=\"{subject}\";URI={}", world.id("service"), known.sha256(), world.id("app"));
    assert_eq!(claims, [wanted.as_str()]);
    let names: Vec<_> = seen[0].headers.keys().map(http::HeaderName::as_str).collect();
    assert!(!names.iter().any(|name| name.contains('_') || *name == "client-cert"), "{names:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_ids_through_both_sidecars() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut app = Client::plain(pair.address()).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    let sent = [("x-request-id", "order.17_A-z"), ("traceparent", trace), ("tracestate", "vendor=1")];
    app.send(request("GET", "a.example", "/", &sent, "")).await;
    let seen = upstream.complete(1).await;
    for (name, value) in sent {
        assert_eq!(seen[0].header(name), value);
    }
    for sidecar in [&pair.outbound, &pair.inbound] {
        let record = sidecar.records.with_outcome("allowed").await;
        assert_eq!(record["request_id"], "order.17_A-z");
        assert_eq!(record["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    }

    // Anything else is replaced: it goes into logs of others too.
    let long = "a".repeat(129);
    for (index, bad) in ["two words", "semi;colon", "ünï", long.as_str(), "{}"].iter().enumerate() {
        let answer = app.send(request("GET", "a.example", "/", &[("x-request-id", bad)], "")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let seen = upstream.complete(index + 2).await;
        let made = seen[index + 1].header("x-request-id");
        assert!(made != *bad && made.len() == 32 && made.bytes().all(|byte| byte.is_ascii_hexdigit()), "{made}");
    }
    let longest = "a".repeat(128);
    app.send(request("GET", "a.example", "/", &[("x-request-id", &longest)], "")).await;
    assert_eq!(upstream.complete(7).await[6].header("x-request-id"), longest);
    // Two ids are none.
    let two = [("x-request-id", "one"), ("x-request-id", "two")];
    app.send(request("GET", "a.example", "/", &two, "")).await;
    let seen = upstream.complete(8).await;
    assert_eq!(seen[7].headers.get_all("x-request-id").iter().count(), 1);
    assert_ne!(seen[7].header("x-request-id"), "one");
    pair.stop().await;
}

#[tokio::test]
async fn a_body_that_waits_for_leave_is_asked_for_only_when_permitted() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(READS_AND_WRITES);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let outbound = world.sidecar("app").policies(READS_AND_WRITES);
    let to = service.inbound("endpoint").to_string();
    let app = outbound.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;

    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).alpn(&["http/1.1"]);
    let mut inbound = Raw::over(peer.connect(service.inbound("endpoint")).await.unwrap());
    let mut inbound_denied = Raw::over(peer.connect(service.inbound("endpoint")).await.unwrap());
    expects(&mut inbound, &mut inbound_denied).await;
    let mut outbound = Raw::connect(app.outbound("endpoint")).await;
    let mut outbound_denied = Raw::connect(app.outbound("endpoint")).await;
    expects(&mut outbound, &mut outbound_denied).await;

    let seen = upstream.complete(2).await;
    assert!(seen.iter().all(|seen| seen.body == b"the body" && seen.header("expect").is_empty()), "{seen:#?}");
    assert_eq!(seen.len(), 2);
    for sidecar in [&service, &app] {
        let denied = sidecar.records.with_outcome("forbidden").await;
        assert_eq!((policies_of(&denied), &denied["bytes_in"]), (vec!["nobody-deletes"], &0.into()));
    }

    // curl waits for the 100 with large bodies; a second's wait and no 100 would show in the time it takes.
    let body = world.write("body", &"x".repeat(2 << 20));
    let url = format!("http://{}/big", app.outbound("endpoint"));
    let data = format!("@{}", body.display());
    let arguments =
        ["--data-binary", &data, "--header", "Expect: 100-continue", "--expect100-timeout", "20", "--max-time", "15"];
    let output = curl(&[&arguments[..], &["--write-out", " %{response_code}", &url]].concat()).await;
    assert_eq!(output.stdout, "ok 200", "{output:?}");
    assert_eq!(upstream.complete(3).await[2].body.len(), 2 << 20);
    app.stop().await;
    service.stop().await;
}

/// A permitted and a denied request that both expect `100 Continue`.
async fn expects<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(permitted: &mut Raw<S>, denied: &mut Raw<S>) {
    let fields = "HTTP/1.1\r\nhost: a.example\r\ncontent-length: 8\r\nexpect: 100-continue\r\n\r\n";
    permitted.write(format!("POST /a {fields}")).await;
    assert_eq!(permitted.answer().await.expect("leave is given").status(), 100);
    permitted.write("the body").await;
    assert_eq!(permitted.answer().await.expect("the request is answered").status(), 200);

    denied.write(format!("DELETE /a {fields}")).await;
    assert_eq!(denied.answer().await.expect("the request is answered").status(), 403, "no 100 before a denial");
}

#[tokio::test]
async fn an_allowed_request_does_not_vouch_for_the_next() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let mut app = Client::plain(pair.address()).await;
    for round in 0..3 {
        assert_eq!(app.send(request("GET", "a.example", "/x", &[], "")).await.status, StatusCode::OK);
        let denied = app.send(request("DELETE", "a.example", "/x", &[], "")).await;
        assert_eq!(denied.status, StatusCode::FORBIDDEN);
        let record = pair.inbound.records.of_decision(denied.decision()).await;
        assert_eq!((&record["outcome"], policies_of(&record)), (&"forbidden".into(), vec!["nobody-deletes"]));
        assert_eq!(upstream.seen().len(), round + 1);
    }

    // Pipelined: each is judged and answered in its turn.
    let mut raw = Raw::connect(pair.address()).await;
    let head = |method: &str| format!("{method} /x HTTP/1.1\r\nhost: a.example\r\n\r\n");
    raw.write([head("GET"), head("DELETE"), head("GET")].concat()).await;
    for status in [200, 403, 200] {
        assert_eq!(raw.answer().await.expect("each request is answered").status(), status);
    }
    assert_eq!(upstream.seen().len(), 5);
    pair.stop().await;
}

#[tokio::test]
async fn informational_answers_do_not_end_the_exchange() {
    let world = World::new();
    let upstream = RawUpstream::start(|bytes| match memchr::memmem::find(bytes, b"\r\n\r\n") {
        None => Step::Wait,
        Some(_) => Step::Reply(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec(),
        ),
    });
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;
    let answer = get(pair.address(), "/").await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "ok"));
    pair.stop().await;
}

#[tokio::test]
async fn several_workers_serve_one_listener() {
    let (world, upstream) = (World::new(), Recorder::start());
    let inbound = world.sidecar("service").policies(READS_AND_WRITES).yaml("workers: 2");
    let inbound = inbound.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let outbound = world.sidecar("app").policies(ALLOW_ALL).arguments(&["--workers", "2"]);
    let to = inbound.inbound("endpoint").to_string();
    let outbound = outbound.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let pair = Pair { outbound, inbound };

    let mut clients = Vec::new();
    for _ in 0..16 {
        let address = pair.address();
        clients.push(tokio::spawn(async move {
            let mut app = Client::plain(address).await;
            for _ in 0..8 {
                assert_eq!(app.send(request("GET", "a.example", "/x", &[], "")).await.status, StatusCode::OK);
                assert_eq!(app.send(request("DELETE", "a.example", "/x", &[], "")).await.status, StatusCode::FORBIDDEN);
            }
        }));
    }
    for client in clients {
        client.await.expect("the client gets its answers");
    }
    assert_eq!(upstream.seen().len(), 16 * 8);
    let records = pair.inbound.records.requests(16 * 16).await;
    let allowed = records.iter().filter(|record| record["outcome"] == "allowed").count();
    assert_eq!((allowed, records.len()), (16 * 8, 16 * 16), "one record for each request");
    pair.stop().await;
}
