//! HTTP/1.1 as bytes that no library would send: over mutual TLS to an inbound listener, over plain TCP to an outbound one.
//!
//! Every attack wants the same: that the judge reads one request and the upstream another. So each is either refused, with a
//! record that names the rule, or what reaches the upstream is exactly what the record says was judged.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::*;

/// Reading and writing is permitted, but not below `/admin`, and nobody deletes.
pub(crate) const POLICIES: &str = r#"
@id("peer-reads")
permit (principal, action in Action::"read", resource in Endpoint::"endpoint");

@id("peer-writes")
permit (principal, action in Action::"write", resource in Endpoint::"endpoint");

@id("nobody-sees-admin")
forbid (principal, action, resource in HttpPath::"endpoint/admin");

@id("nobody-deletes")
forbid (principal, action in Action::"delete", resource in Endpoint::"endpoint");
"#;

/// An inbound sidecar, and a peer with an SVID before it.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) world: World,
    pub(crate) service: Sidecar,
    peer: Svid,
}

impl Stage {
    pub(crate) async fn before(upstream: &str, policies: &str, options: &str) -> Self {
        let world = World::new();
        let service = world.sidecar("service").policies(policies);
        let service = service.inbound("endpoint", "http", upstream, options).start().await;
        let peer = world.ca.issue("/ns/test/sa/peer");
        Self { world, service, peer }
    }

    /// The peer's certificate, as records and `x-forwarded-client-cert` name it.
    pub(crate) fn peer_sha256(&self) -> String {
        self.peer.sha256()
    }

    /// A verified connection that speaks `alpn`.
    pub(crate) async fn tls(&self, alpn: &str) -> TlsStream<TcpStream> {
        let client = TlsClient::with(&self.peer).alpn(&[alpn]);
        client.connect(self.service.inbound("endpoint")).await.expect("the handshake succeeds")
    }

    pub(crate) async fn raw(&self) -> Raw<TlsStream<TcpStream>> {
        Raw::over(self.tls("http/1.1").await)
    }

    /// Sends bytes on a connection of their own and reads the answer.
    pub(crate) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> RawAnswer {
        let mut raw = self.raw().await;
        raw.write(bytes).await;
        raw.answer().await.expect("an answer")
    }

    /// The record of an answer that carries a decision.
    pub(crate) async fn record_of(&self, answer: &RawAnswer) -> Value {
        record_of(&self.service.records, answer).await
    }
}

pub(crate) async fn record_of(records: &Records, answer: &RawAnswer) -> Value {
    let id = answer.header("x-portcullis-decision");
    records.of_decision(id.unwrap_or_else(|| panic!("no decision id in {answer:?}"))).await
}

/// The address that records call the peer's.
pub(crate) fn local(stream: &TlsStream<TcpStream>) -> String {
    stream.get_ref().0.local_addr().expect("is connected").to_string()
}

/// A request line with one host.
fn line(line: &str) -> String {
    format!("{line}\r\nhost: api\r\n\r\n")
}

/// A POST with these fields after the host, and what follows its head.
fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\nhost: api\r\n{fields}\r\n{body}")
}

/// What a front end that reads the other framing would take for the next request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nhost: api\r\n\r\n";

/// Name, bytes, status and rule.
type Attack = (&'static str, String, u16, &'static str);

/// Heads whose end, length or fields two readers could see differently.
fn framing_attacks() -> Vec<Attack> {
    let both = "content-length-with-transfer-encoding";
    let cl_te = format!("0\r\n\r\n{SMUGGLED}");
    vec![
        ("CL before TE", post("content-length: 5\r\ntransfer-encoding: chunked\r\n", &cl_te), 400, both),
        ("TE before CL", post("transfer-encoding: chunked\r\ncontent-length: 5\r\n", &cl_te), 400, both),
        ("CL of nothing with TE", post("content-length: 0\r\ntransfer-encoding: chunked\r\n", &cl_te), 400, both),
        (
            "two equal lengths",
            post("content-length: 3\r\ncontent-length: 3\r\n", "abc"),
            400,
            "content-length-repeated",
        ),
        ("two lengths", post("content-length: 0\r\ncontent-length: 41\r\n", SMUGGLED), 400, "content-length-repeated"),
        ("list of lengths", post("content-length: 3, 3\r\n", "abc"), 400, "content-length"),
        ("signed length", post("content-length: +3\r\n", "abc"), 400, "content-length"),
        ("length that reads as octal", post("content-length: 010\r\n", "abcdefghij"), 400, "content-length"),
        ("hexadecimal length", post("content-length: 0x3\r\n", "abc"), 400, "content-length"),
        ("length over 64 bits", post("content-length: 18446744073709551619\r\n", "abc"), 400, "content-length"),
        ("empty length", post("content-length:\r\n", ""), 400, "content-length"),
        ("unknown coding", post("transfer-encoding: xchunked\r\n", SMUGGLED), 501, "transfer-encoding"),
        ("identity", post("transfer-encoding: identity\r\n", SMUGGLED), 501, "transfer-encoding"),
        ("coding list", post("transfer-encoding: gzip, chunked\r\n", "0\r\n\r\n"), 501, "transfer-encoding"),
        (
            "chunked twice in a list",
            post("transfer-encoding: chunked, chunked\r\n", "0\r\n\r\n"),
            400,
            "transfer-encoding",
        ),
        ("chunked with a comma", post("transfer-encoding: chunked,\r\n", "0\r\n\r\n"), 400, "transfer-encoding"),
        ("chunked in quotes", post("transfer-encoding: \"chunked\"\r\n", "0\r\n\r\n"), 400, "transfer-encoding"),
        (
            "chunked after a vertical tab",
            post("transfer-encoding: \x0bchunked\r\n", "0\r\n\r\n"),
            400,
            "control-character",
        ),
        (
            "two encodings",
            post("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n"),
            400,
            "transfer-encoding-repeated",
        ),
        ("TE in HTTP/1.0", line("POST /x HTTP/1.0\r\ntransfer-encoding: chunked"), 400, "transfer-encoding-version"),
        ("TE with an underscore", post("transfer_encoding: chunked\r\n", "0\r\n\r\n"), 400, "odd-framing-name"),
        ("CL with an underscore", post("content_length: 3\r\n", "abc"), 400, "odd-framing-name"),
        (
            "TE with a blank before its colon",
            post("transfer-encoding : chunked\r\n", "0\r\n\r\n"),
            400,
            "space-before-colon",
        ),
        ("TE on a folded line", post("x: y\r\n transfer-encoding: chunked\r\n", "0\r\n\r\n"), 400, "obs-fold"),
        ("CL after a bare CR", post("x: y\rcontent-length: 3\r\n", "abc"), 400, "bare-cr"),
        ("CL after a bare LF", post("x: y\ncontent-length: 3\r\n", "abc"), 400, "bare-lf"),
        ("NUL in a value", post("x: y\0z\r\n", ""), 400, "nul"),
        ("NUL in a name", post("x\0: y\r\n", ""), 400, "nul"),
        ("DEL in a value", post("x: y\x7f\r\n", ""), 400, "control-character"),
        ("only bare LF", "GET /x HTTP/1.1\nhost: api\n\n".into(), 400, "bare-lf"),
        ("a field without a colon", post("smuggled\r\n", ""), 400, "header-name"),
        ("a field without a name", post(": x\r\n", ""), 400, "header-name"),
        ("a blank in a name", post("x y: z\r\n", ""), 400, "header-name"),
        ("a blank before the first field", "GET /x HTTP/1.1\r\n host: api\r\n\r\n".into(), 400, "obs-fold"),
        ("two blanks in the request line", line("GET  /x HTTP/1.1"), 400, "request-line"),
        ("a blank in the target", line("GET /x y HTTP/1.1"), 400, "request-line"),
        ("a second version", line("GET /x HTTP/1.1 HTTP/1.1"), 400, "request-line"),
        ("HTTP/0.9", "GET /x\r\n\r\n".into(), 400, "request-line"),
        ("HTTP/1.2", line("GET /x HTTP/1.2"), 505, "version"),
        ("HTTP/2 preface after ALPN http/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, "version"),
        ("a method that is no token", line("GE,T /x HTTP/1.1"), 400, "method"),
        ("empty lines before the request", format!("\r\n\r\n{SMUGGLED}"), 400, "empty-line"),
        ("no Host", "GET /x HTTP/1.1\r\n\r\n".into(), 400, "host-missing"),
        ("no Host in HTTP/1.0", "GET /x HTTP/1.0\r\n\r\n".into(), 400, "missing-host"),
        ("two Hosts", line("GET /x HTTP/1.1\r\nhost: other"), 400, "host-repeated"),
        ("two equal Hosts", line("GET /x HTTP/1.1\r\nHost: api"), 400, "host-repeated"),
        ("an empty Host", "GET /x HTTP/1.1\r\nhost:\r\n\r\n".into(), 400, "bad-host"),
        ("a list of Hosts", "GET /x HTTP/1.1\r\nhost: api, other\r\n\r\n".into(), 400, "bad-host"),
        ("a Host with a path", "GET /x HTTP/1.1\r\nhost: api/admin\r\n\r\n".into(), 400, "bad-host"),
        ("a Host with a user", "GET /x HTTP/1.1\r\nhost: api@other\r\n\r\n".into(), 400, "bad-host"),
        ("a Host with a port that is none", "GET /x HTTP/1.1\r\nhost: api:80a\r\n\r\n".into(), 400, "bad-host"),
        ("a Host that is not ASCII", "GET /x HTTP/1.1\r\nhost: \u{e4}pi\r\n\r\n".into(), 400, "bad-host"),
    ]
}

/// Targets that some server takes for another path than they spell, and other ways to mean another request.
fn target_attacks() -> Vec<Attack> {
    let paths = [
        ("/public/../admin", "dot-segment"),
        ("/public/%2e%2e/admin", "dot-segment"),
        ("/public/.%2E/admin", "dot-segment"),
        ("/./admin", "dot-segment"),
        ("/public/..", "dot-segment"),
        ("//admin", "empty-segment"),
        ("/public//../admin", "empty-segment"),
        ("/public%2F..%2Fadmin", "encoded-slash"),
        ("/public%2fadmin", "encoded-slash"),
        ("/public%5C..%5Cadmin", "encoded-backslash"),
        ("/public\\..\\admin", "backslash"),
        ("/public/%252e%252e/admin", "double-encoding"),
        ("/public/%25%32%65/admin", "double-encoding"),
        ("/public;/../admin", "path-parameter"),
        ("/public/..;/admin", "path-parameter"),
        ("/public%3B/admin", "path-parameter"),
        ("/public%00/admin", "encoded-nul"),
        ("/public%0d%0aHost:%20other", "encoded-control"),
        ("/%c0%ae%c0%ae/admin", "invalid-utf8"),
        ("/%c0%afadmin", "invalid-utf8"),
        ("/%ff", "invalid-utf8"),
        ("/%ed%a0%80", "invalid-utf8"),
        ("/admin%", "invalid-percent"),
        ("/%u002e/admin", "invalid-percent"),
        ("/admin#x", "fragment"),
        ("/public?x#/../admin", "fragment"),
        ("/\u{ff0e}\u{ff0e}/admin", "target-character"),
        ("http://user@api/x", "userinfo"),
        ("http://other/x", "host-mismatch"),
        ("http://api:81/x", "host-mismatch"),
        ("http://api/public/../admin", "dot-segment"),
        ("http://api//admin", "empty-segment"),
        ("http://api\\@other/x", "userinfo"),
        ("ftp://api/x", "target-form"),
        ("http://api?x", "target-form"),
        ("api:443", "target-form"),
        ("admin", "target-form"),
        ("?x", "target-form"),
        ("*", "target-form"),
    ];
    let mut attacks: Vec<Attack> =
        paths.into_iter().map(|(path, rule)| (path, line(&format!("GET {path} HTTP/1.1")), 400, rule)).collect();
    attacks.extend([
        ("OPTIONS *", line("OPTIONS * HTTP/1.1"), 400, "asterisk-form"),
        ("CONNECT", "CONNECT api:443 HTTP/1.1\r\nhost: api:443\r\n\r\n".into(), 501, "connect"),
        ("CONNECT to a path", line("CONNECT /x HTTP/1.1"), 400, "target-form"),
    ]);
    for name in [
        "X-HTTP-Method-Override",
        "X-HTTP-Method",
        "X-Method-Override",
        "X-Original-URL",
        "X-Rewrite-URL",
        "x_http_method_override",
        "X-Original_Url",
    ] {
        attacks.push((name, post(&format!("{name}: DELETE\r\n"), ""), 400, "override-header"));
    }
    let upgrades = [
        ("h2c", "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"),
        ("h2c without a Connection", "upgrade: h2c\r\n"),
        ("another protocol", "connection: upgrade\r\nupgrade: tls/1.3\r\n"),
        ("WebSocket and h2c", "connection: upgrade\r\nupgrade: websocket, h2c\r\n"),
        ("WebSocket without key", "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"),
    ];
    attacks.extend(upgrades.map(|(name, fields)| {
        (name, format!("GET /x HTTP/1.1\r\nhost: api\r\n{fields}\r\n{SMUGGLED}"), 400, "upgrade")
    }));
    attacks.push(("h2c by POST", post("connection: upgrade\r\nupgrade: h2c\r\n", SMUGGLED), 400, "upgrade"));
    attacks
}

/// Sends each attack on a connection of its own: status, close, record, nothing after it is read.
async fn assert_each_refused<S, F>(attacks: &[Attack], records: &Records, connect: impl Fn() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Raw<S>>,
{
    for (name, bytes, status, rule) in attacks {
        let mut raw = connect().await;
        raw.write(bytes).await;
        let answer = raw.answer().await.unwrap_or_else(|| panic!("{name}: no answer"));
        assert_eq!((answer.status(), answer.closes()), (*status, true), "{name}: {answer:?}");
        assert!(raw.is_closed().await, "{name}: something follows the refusal");
        let record = record_of(records, &answer).await;
        let told = (&record["outcome"], &record["reason"], &record["status"]);
        assert_eq!(told, (&"refused".into(), &(*rule).into(), &(*status).into()), "{name}: {record:#}");
        assert_eq!(record["action"], Value::Null, "{name}: what cannot be named asks nothing");
    }
}

#[tokio::test]
async fn a_head_that_can_be_read_in_two_ways_is_refused_on_an_inbound_listener() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    assert_each_refused(&framing_attacks(), &stage.service.records, || stage.raw()).await;
    upstream.assert_untouched();
    assert_eq!(stage.exchange(line("GET /x HTTP/1.1")).await.status(), 200);
    stage.service.stop().await;
}

#[tokio::test]
async fn a_target_that_can_mean_another_request_is_refused_on_an_inbound_listener() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    assert_each_refused(&target_attacks(), &stage.service.records, || stage.raw()).await;
    upstream.assert_untouched();
    assert_eq!(stage.exchange(line("GET /x HTTP/1.1")).await.status(), 200);
    stage.service.stop().await;
}

#[tokio::test]
async fn an_outbound_listener_refuses_the_same_before_anything_leaves() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    let attacks = [framing_attacks(), target_attacks()].concat();
    // In clear an HTTP/2 preface is one: that is the other file's subject.
    let attacks: Vec<Attack> = attacks.into_iter().filter(|(name, ..)| !name.contains("preface")).collect();
    assert_each_refused(&attacks, &pair.outbound.records, || Raw::connect(pair.address())).await;
    upstream.assert_untouched();
    assert_eq!(pair.inbound.records.all(), Vec::<Value>::new(), "nothing has left the outbound side");
    assert_eq!(get(pair.address(), "/x").await.status, 200);
    pair.stop().await;
}

#[tokio::test]
async fn what_is_judged_is_what_is_sent() {
    let upstream = RawUpstream::answering_heads();
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    for (sent, judged, forwarded) in [
        ("/a/b?c=/../d&e=%2f", "endpoint/a/b", "/a/b?c=/../d&e=%2f"),
        ("/%61%2d%7E%c3%a9/%3f", "endpoint/a-~%C3%A9/%3F", "/a-~%C3%A9/%3F"),
        ("/a/", "endpoint/a/", "/a/"),
        ("http://api/a", "endpoint/a", "/a"),
        ("HTTP://API/a?b", "endpoint/a", "/a?b"),
        ("/", "endpoint/", "/"),
        ("/administrators", "endpoint/administrators", "/administrators"),
        ("/Admin", "endpoint/Admin", "/Admin"),
        ("/...", "endpoint/...", "/..."),
    ] {
        let answer = stage.exchange(line(&format!("GET {sent} HTTP/1.1"))).await;
        assert_eq!(answer.status(), 200, "{sent}: {answer:?}");
        upstream.received_with(&format!("GET {forwarded} HTTP/1.1\r\n")).await;
        let wanted = format!("HttpPath::\"{judged}\"");
        let found = |record: &Value| resource_of(record) == wanted;
        let record = stage.service.records.find(&wanted, found).await;
        assert_eq!((&record["outcome"], policies_of(&record)), (&"allowed".into(), vec!["peer-reads"]), "{sent}");
    }
    stage.service.stop().await;
}

#[tokio::test]
async fn a_forbidden_path_is_forbidden_in_every_spelling() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), POLICIES, "merge_slashes: true\n").await;
    for path in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/%61dmin",
        "/%61%64%6d%69%6e/x",
        "//admin",
        "///admin//x",
        "http://api/admin?x",
        "/admin?/../public",
    ] {
        let answer = stage.exchange(line(&format!("GET {path} HTTP/1.1"))).await;
        assert_eq!(answer.status(), 403, "{path}: {answer:?}");
        let record = stage.record_of(&answer).await;
        assert_eq!(
            (&record["outcome"], policies_of(&record)),
            (&"forbidden".into(), vec!["nobody-sees-admin"]),
            "{path}"
        );
    }
    upstream.assert_untouched();
    // The allowed twin is sent as it was judged: merged.
    assert_eq!(stage.exchange(line("GET //public///admin/ HTTP/1.1")).await.status(), 200);
    assert_eq!(upstream.complete(1).await[0].target, "/public/admin/");
    stage.service.stop().await;
}

/// `Type::"id"` of the resource, however the record writes it.
pub(crate) fn resource_of(record: &Value) -> String {
    record["resource"].as_str().map_or_else(|| record["resource"].to_string(), str::to_owned)
}

#[tokio::test]
async fn a_method_that_no_policy_can_name_is_refused_whatever_its_case() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    for method in ["delete", "Get", "TRACE", "PURGE", "PROPFIND", "_DELETE"] {
        let answer = stage.exchange(line(&format!("{method} /x HTTP/1.1"))).await;
        let record = stage.record_of(&answer).await;
        assert_eq!(record["outcome"], "refused", "{method}: {record:#}");
    }
    upstream.assert_untouched();
    assert_eq!(stage.exchange(line("DELETE /x HTTP/1.1")).await.status(), 200);
    stage.service.stop().await;
}

#[tokio::test]
async fn every_request_of_a_connection_is_judged() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    let mut raw = stage.raw().await;
    for (path, status) in [("/a", 200), ("/admin", 403), ("/b", 200), ("/admin/x", 403), ("/c", 200)] {
        raw.write(line(&format!("GET {path} HTTP/1.1"))).await;
        let answer = raw.answer().await.expect("the connection goes on after a denial");
        assert_eq!((answer.status(), answer.closes()), (status, false), "{path}: {answer:?}");
    }
    let targets: Vec<String> = upstream.complete(3).await.into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/a", "/b", "/c"]);
    let outcomes: Vec<Value> =
        stage.service.records.requests(5).await.iter().map(|record| record["outcome"].clone()).collect();
    assert_eq!(outcomes, ["allowed", "forbidden", "allowed", "forbidden", "allowed"]);
    stage.service.stop().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_and_end_with_the_refused_one() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    let mut raw = stage.raw().await;
    let body = format!("content-length: {}\r\n", SMUGGLED.len());
    let requests = [
        post(&body, SMUGGLED),
        line("GET /admin HTTP/1.1"),
        line("GET /a HTTP/1.1"),
        line("GET /public/../admin HTTP/1.1"),
        line("GET /after HTTP/1.1"),
    ];
    raw.write(requests.concat()).await;
    let mut statuses = Vec::new();
    while let Some(answer) = raw.answer().await {
        statuses.push(answer.status());
    }
    assert_eq!(statuses, [200, 403, 200, 400], "nothing after the refused one is a request");
    let seen = upstream.complete(2).await;
    assert_eq!((seen[0].target.as_str(), seen[0].body.as_slice()), ("/x", SMUGGLED.as_bytes()));
    assert_eq!((seen.len(), seen[1].target.as_str()), (2, "/a"));
    let records = stage.service.records.requests(4).await;
    let outcomes: Vec<&str> = records.iter().filter_map(|record| record["outcome"].as_str()).collect();
    assert_eq!(outcomes, ["allowed", "forbidden", "allowed", "refused"]);
    stage.service.stop().await;
}

#[tokio::test]
async fn the_body_of_a_denied_request_is_never_read_as_a_request() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    let length = format!("content-length: {}\r\n", SMUGGLED.len());
    let chunked = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for request in [
        post(&length, SMUGGLED),
        post("transfer-encoding: chunked\r\n", &chunked),
        post(&format!("expect: 100-continue\r\n{length}"), SMUGGLED),
    ] {
        let request = request.replacen("/x", "/admin", 1);
        let mut raw = stage.raw().await;
        raw.write(format!("{request}{}", line("GET /next HTTP/1.1"))).await;
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.status(), 403, "{request}: {answer:?}");
        // The connection may go on behind the body or end; the body is nothing of its own.
        if let Some(next) = raw.answer().await {
            assert_eq!(next.status(), 200, "{request}: {next:?}");
        }
    }
    assert!(upstream.seen().iter().all(|seen| seen.target == "/next"), "{:#?}", upstream.seen());
    stage.service.stop().await;
}

/// Bodies whose framing breaks off after the head was permitted.
#[tokio::test]
async fn a_body_with_broken_framing_ends_the_exchange_and_leaves_nothing_behind() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    for (rule, body) in [
        ("chunk-size", "3;\r\nabc\r\nxyz\r\n"),
        ("chunk-size", "-3\r\nabc\r\n0\r\n\r\n"),
        ("chunk-size", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("chunk-size", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("chunk-size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("chunk-line-end", "3\nabc\r\n0\r\n\r\n"),
        ("chunk-line-end", "3;x=\"\n\"\r\nabc\r\n0\r\n\r\n"),
        ("chunk-data-end", "3\r\nabcd\r\n0\r\n\r\n"),
        ("chunk-data-end", "3\r\nabcXX0\r\n\r\n"),
        ("trailer-forbidden", "3\r\nabc\r\n0\r\ncontent-length: 9\r\n\r\n"),
        ("trailer-forbidden", "3\r\nabc\r\n0\r\nHost: other\r\n\r\n"),
        ("obs-fold", "3\r\nabc\r\n0\r\nx: y\r\n z\r\n\r\n"),
        ("bare-lf", "3\r\nabc\r\n0\r\nx: y\n\r\n"),
    ] {
        let before = stage.service.records.all().len();
        let mut raw = Raw::over(stage.tls("http/1.1").await);
        raw.write(post("transfer-encoding: chunked\r\n", &format!("{body}{SMUGGLED}"))).await;
        let rest = String::from_utf8_lossy(&raw.rest().await).into_owned();
        assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 400 "), "{body:?}: {rest}");
        assert_eq!(
            rest.matches("HTTP/1.1 ").count(),
            usize::from(!rest.is_empty()),
            "{body:?}: one answer at most: {rest}"
        );
        let record = eventually(body, || stage.service.records.all().into_iter().nth(before)).await;
        // The decision was made before the body came: what broke it stands beside it.
        assert_eq!((&record["outcome"], &record["reason"]), (&"allowed".into(), &rule.into()), "{body:?}: {record:#}");
    }
    let seen = upstream.seen();
    assert!(seen.iter().all(|seen| seen.target == "/x" && !seen.complete), "no broken body is a whole one: {seen:#?}");
    // Nothing of them is left in a connection that others use.
    let answer = stage.exchange(post("content-length: 3\r\n", "abc")).await;
    assert_eq!(answer.status(), 200);
    let whole = upstream.complete(1).await.into_iter().find(|seen| seen.complete).expect("is there");
    assert_eq!(
        (whole.body.as_slice(), seen.iter().any(|seen| seen.connection == whole.connection)),
        (&b"abc"[..], false)
    );
    stage.service.stop().await;
}

#[tokio::test]
async fn a_head_over_its_limits_is_refused_and_not_held() {
    let upstream = Recorder::start();
    let limits = "limits:\n  header_bytes: 16384\n  header_count: 20\n  uri_bytes: 1024\n";
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, limits).await;
    let fields = |count: usize| "x: y\r\n".repeat(count);
    let target = |length: usize| line(&format!("GET /{} HTTP/1.1", "x".repeat(length - 1)));
    let long = |length: usize| format!("x: {}\r\n", "y".repeat(length));
    let attacks: Vec<Attack> = vec![
        ("target", target(1025), 414, "target-length"),
        ("endless target", format!("GET /{}", "x".repeat(20_000)), 414, "target-length"),
        ("count", post(&fields(20), ""), 431, "header-count"),
        ("bytes", post(&long(16_384), ""), 431, "header-bytes"),
        ("endless field", format!("GET /x HTTP/1.1\r\nhost: api\r\nx: {}", "y".repeat(20_000)), 431, "header-bytes"),
        ("endless name", format!("GET /x HTTP/1.1\r\nhost: api\r\n{}", "y".repeat(20_000)), 431, "header-bytes"),
    ];
    assert_each_refused(&attacks, &stage.service.records, || stage.raw()).await;
    upstream.assert_untouched();
    for twin in [target(1024), post(&fields(19), ""), post(&long(15_000), "")] {
        assert_eq!(stage.exchange(&twin).await.status(), 200);
    }

    // Megabytes after the limit are read only to be dropped.
    let before = stage.service.resident_bytes();
    let mut flooded = Vec::new();
    for _ in 0..8 {
        let mut raw = stage.raw().await;
        raw.write(format!("GET /x HTTP/1.1\r\nhost: api\r\nx: {}", "y".repeat(8 * 1024 * 1024))).await;
        flooded.push(raw);
    }
    let grown = stage.service.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more");
    stage.service.stop().await;
}

/// The slowest of `count` requests by another client of the same sidecar.
pub(crate) async fn slowest_of_others(stage: &Stage, count: usize) -> Duration {
    let mut raw = stage.raw().await;
    let mut slowest = Duration::ZERO;
    for _ in 0..count {
        let started = Instant::now();
        raw.write(line("GET /other HTTP/1.1")).await;
        assert_eq!(raw.answer().await.expect("an answer").status(), 200);
        slowest = slowest.max(started.elapsed());
    }
    slowest
}

#[tokio::test]
async fn slow_heads_and_bodies_end_within_their_limits_and_disturb_nobody() {
    let upstream = Recorder::start();
    let limits = "limits:\n  header_read_timeout: 300ms\n  idle_timeout: 600ms\n";
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, limits).await;
    let mut held = Vec::new();
    for _ in 0..50 {
        for (start, drop, name) in [
            ("GET /slow HTTP/1.1\r\nhost: api\r\nx: ", "y", "head"),
            ("POST /slow HTTP/1.1\r\nhost: api\r\ncontent-length: 1000\r\n\r\nabc", "", "body"),
            ("POST /slow HTTP/1.1\r\nhost: api\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", "", "chunk"),
        ] {
            let stream = stage.tls("http/1.1").await;
            let mut raw = Raw::over(stream);
            raw.write(start).await;
            // One more byte does not buy a head more time.
            raw.write(drop).await;
            held.push((name, raw));
        }
    }
    let slowest = slowest_of_others(&stage, 100).await;
    assert!(slowest < Duration::from_secs(1), "others waited {slowest:?}");
    for (name, mut raw) in held {
        let answer = raw.answer().await;
        let status = answer.as_ref().map(RawAnswer::status);
        assert_eq!(status, Some(408), "{name}: {answer:?}");
        assert!(raw.is_closed().await, "{name}");
    }
    let records = stage.service.records.requests(250).await;
    let told = |wanted: &str| records.iter().filter(|record| record["reason"] == wanted).count();
    assert_eq!(told("head-timeout"), 50);
    let stalled = |record: &&Value| record["status"] == 408 && record["outcome"] == "allowed";
    assert_eq!(records.iter().filter(stalled).count(), 100);
    assert!(
        upstream.seen().iter().all(|seen| seen.target == "/other" || !seen.complete),
        "a stalled body is no whole one"
    );
    stage.service.stop().await;
}

#[tokio::test]
async fn raw_mode_begins_with_the_101_of_the_upstream_and_not_before() {
    const ASK: &str = "GET /ws HTTP/1.1\r\nhost: api\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    let connect = "\n@id(\"peer-connects\")\npermit (principal, action in Action::\"connect\", resource in Endpoint::\"endpoint\");\n";
    // An upstream that declines: what the peer sent behind its request is the next request, and judged.
    let upstream = RawUpstream::answering_heads();
    let stage = Stage::before(&upstream.url(), &format!("{POLICIES}{connect}"), "").await;
    let mut raw = stage.raw().await;
    raw.write(format!("{ASK}{}{}", line("GET /admin HTTP/1.1"), line("GET /a HTTP/1.1"))).await;
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(raw.answer().await.expect("an answer").status());
    }
    assert_eq!(statuses, [200, 403, 200]);
    let received = upstream.received_with("GET /a ").await;
    assert!(!received.contains("/admin"), "{received}");
    stage.service.stop().await;

    // Without a permit for the upgrade, nothing reaches an upstream that would accept it.
    let upstream = RawUpstream::start(|bytes| match bytes.ends_with(b"\r\n\r\n") {
        false => Step::Wait,
        true => Step::Reply(
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n".to_vec(),
        ),
    });
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    let answer = stage.exchange(format!("{ASK}{}", line("GET /admin HTTP/1.1"))).await;
    assert_eq!(answer.status(), 403);
    let record = stage.record_of(&answer).await;
    assert_eq!((&record["outcome"], &record["action"]), (&"not_permitted".into(), &"http:Upgrade".into()));
    upstream.assert_untouched();
    stage.service.stop().await;
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_reaches_nobody() {
    // The upstream answers one request with two answers: the second must never become that of the next request.
    let upstream = RawUpstream::start(|bytes| match bytes.ends_with(b"\r\n\r\n") {
        false => Step::Wait,
        true => Step::Reply(
            b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil".to_vec(),
        ),
    });
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    for _ in 0..20 {
        let answer = stage.exchange(line("GET /x HTTP/1.1")).await;
        assert!(answer.status() == 502 || answer.body == b"ok", "{answer:?}");
    }
    stage.service.stop().await;

    let both = "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nok";
    for (name, reply) in [
        ("CL with TE", format!("HTTP/1.1 200 OK\r\n{both}")),
        ("two lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok".into()),
        ("a list of lengths", "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok".into()),
        (
            "unasked 101",
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nok".into(),
        ),
        ("no HTTP", "SSH-2.0-OpenSSH_9.9\r\n\r\n".into()),
    ] {
        let upstream = RawUpstream::start(move |bytes| match bytes.ends_with(b"\r\n\r\n") {
            false => Step::Wait,
            true => Step::Reply(reply.clone().into_bytes()),
        });
        let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
        let answer = stage.exchange(line("GET /x HTTP/1.1")).await;
        assert_eq!(answer.status(), 502, "{name}: {answer:?}");
        stage.service.stop().await;
    }
}
