//! HTTP/2 frame by frame: heads that no library would send, bodies that lie about their length.
//!
//! Over mutual TLS to an inbound listener, and in clear with prior knowledge to an outbound one.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::http_attacks::{POLICIES, Stage, resource_of};
use crate::support::*;

/// RFC 9113, 7.
const PROTOCOL_ERROR: u32 = 1;

pub(crate) type Fields = Vec<(&'static str, &'static str)>;

pub(crate) const METHOD: (&str, &str) = (":method", "GET");
pub(crate) const SCHEME: (&str, &str) = (":scheme", "https");
pub(crate) const AUTHORITY: (&str, &str) = (":authority", "api");
pub(crate) const PATH: (&str, &str) = (":path", "/x");

/// A head that is in order but for what is put behind it.
pub(crate) fn with(fields: &[(&'static str, &'static str)]) -> Fields {
    [&[METHOD, SCHEME, AUTHORITY, PATH], fields].concat()
}

/// The same for a path.
pub(crate) fn get(path: &'static str) -> Fields {
    vec![METHOD, SCHEME, AUTHORITY, (":path", path)]
}

/// Malformed messages (RFC 9113, 8.1.1): stream errors.
fn malformed_heads() -> Vec<(&'static str, Fields)> {
    vec![
        ("CR LF in a value", with(&[("x", "y\r\nadmin: true")])),
        ("LF in a value", with(&[("x", "y\nadmin: true")])),
        ("CR in a value", with(&[("x", "y\radmin: true")])),
        ("NUL in a value", with(&[("x", "y\0z")])),
        ("CR LF in a name", with(&[("x\r\ny", "z")])),
        ("NUL in a name", with(&[("x\0", "y")])),
        ("an upper-case name", with(&[("X-Role", "admin")])),
        ("a blank in a name", with(&[("x ", "y")])),
        ("a colon in a name", with(&[("x:y", "z")])),
        ("an empty name", with(&[("", "y")])),
        ("a name that is not ASCII", with(&[("\u{e4}", "y")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("connection", with(&[("connection", "x-role")])),
        ("connection: close", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te: gzip", with(&[("te", "gzip")])),
        ("te: trailers, gzip", with(&[("te", "trailers, gzip")])),
        ("no method", vec![SCHEME, AUTHORITY, PATH]),
        ("no scheme", vec![METHOD, AUTHORITY, PATH]),
        ("an empty path", get("")),
        ("two methods", vec![METHOD, (":method", "DELETE"), SCHEME, AUTHORITY, PATH]),
        ("two paths", vec![METHOD, SCHEME, AUTHORITY, PATH, (":path", "/admin")]),
        ("two authorities", vec![METHOD, SCHEME, AUTHORITY, (":authority", "other"), PATH]),
        ("two schemes", vec![METHOD, SCHEME, SCHEME, AUTHORITY, PATH]),
        ("a late path", vec![METHOD, SCHEME, AUTHORITY, ("x", "y"), PATH]),
        ("a late second path", with(&[("x", "y"), (":path", "/admin")])),
        ("an unknown pseudo-header", with(&[(":admin", "true")])),
        (":status in a request", vec![METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")]),
        (":protocol without CONNECT", vec![METHOD, (":protocol", "websocket"), SCHEME, AUTHORITY, PATH]),
        (
            "RFC 8441 that was not offered",
            vec![(":method", "CONNECT"), (":protocol", "websocket"), SCHEME, AUTHORITY, PATH],
        ),
        ("a method that is no token", vec![(":method", "GET /admin HTTP/1.1\r\nx:"), SCHEME, AUTHORITY, PATH]),
        ("an empty method", vec![(":method", ""), SCHEME, AUTHORITY, PATH]),
        ("a blank in a path", get("/x HTTP/1.1")),
        ("CR LF in a path", get("/x HTTP/1.1\r\nhost: other\r\n\r\n")),
        ("NUL in a path", get("/x\0/admin")),
        ("an authority with a path", vec![METHOD, SCHEME, (":authority", "api/admin"), PATH]),
        ("an authority with CR LF", vec![METHOD, SCHEME, (":authority", "api\r\nx: y"), PATH]),
        ("an absolute path", get("http://other/x")),
        ("a path without a slash", get("admin")),
        ("an empty authority", vec![METHOD, SCHEME, (":authority", ""), PATH]),
        ("a scheme with a blank", vec![METHOD, (":scheme", "https x"), AUTHORITY, PATH]),
        ("a length that is none", with(&[("content-length", "+0")])),
        ("a length without a body", with(&[("content-length", "5")])),
    ]
}

/// Well-formed messages that cannot be named, or that HTTP/1.1 would refuse: status and rule.
fn refused_heads() -> Vec<(&'static str, Fields, u16, &'static str)> {
    let path = |path, rule| (path, get(path), 400, rule);
    let over = |name, fields: Fields, rule| (name, fields, 400, rule);
    vec![
        over("two lengths", with(&[("content-length", "0"), ("content-length", "0")]), "content-length"),
        over("a list of lengths", with(&[("content-length", "")]), "content-length"),
        over("a length that reads as octal", with(&[("content-length", "00")]), "content-length"),
        over("a host beside another authority", with(&[("host", "other")]), "host-mismatch"),
        over("two hosts", with(&[("host", "api"), ("host", "api")]), "duplicate-host"),
        over(
            "two hosts and no authority",
            vec![METHOD, SCHEME, PATH, ("host", "api"), ("host", "other")],
            "duplicate-host",
        ),
        over("neither host nor authority", vec![METHOD, SCHEME, PATH], "missing-host"),
        over("an authority with a user", vec![METHOD, SCHEME, (":authority", "user@api"), PATH], "bad-host"),
        over("a host with a path", vec![METHOD, SCHEME, PATH, ("host", "api/admin")], "bad-host"),
        over("an empty host", vec![METHOD, SCHEME, PATH, ("host", "")], "bad-host"),
        over("another scheme", vec![METHOD, (":scheme", "ftp"), AUTHORITY, PATH], "target-form"),
        over("a value with a blank before it", with(&[("x-role", " admin")]), "value-blanks"),
        over("a value with a tab behind it", with(&[("x-role", "admin\t")]), "value-blanks"),
        over("http2-settings and h2c by name", with(&[("x-http-method-override", "DELETE")]), "override-header"),
        over("x_original_url", with(&[("x_original_url", "/admin")]), "override-header"),
        over("content_length", with(&[("content_length", "5")]), "framing-spelling"),
        over("transfer_encoding", with(&[("transfer_encoding", "chunked")]), "framing-spelling"),
        over("OPTIONS *", vec![(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")], "asterisk-form"),
        path("?x", "target-form"),
        path("#/admin", "fragment"),
        path("#", "fragment"),
        path("/public/../admin", "dot-segment"),
        path("/public/%2e%2e/admin", "dot-segment"),
        path("//admin", "empty-segment"),
        path("/public%2Fadmin", "encoded-slash"),
        path("/public%5cadmin", "encoded-backslash"),
        path("/public\\admin", "backslash"),
        path("/public/%252e%252e/admin", "double-encoding"),
        path("/public;x/admin", "path-parameter"),
        path("/public%00", "encoded-nul"),
        path("/%c0%ae%c0%ae/admin", "invalid-utf8"),
        path("/\u{e4}", "path-character"),
        ("CONNECT", vec![(":method", "CONNECT"), (":authority", "api:443")], 501, "connect"),
    ]
}

/// A connection whose answers are coded without a dynamic table, so that one status can be read without those before it.
async fn open<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> FrameConnection<S> {
    let mut frames = FrameConnection::open(stream).await;
    frames.send(&Frame::settings(&[(1, 0)])).await;
    frames
}

/// Sends a head on the next stream and waits for what comes of it: a status, or the code of a reset.
async fn outcome_of<S>(frames: &mut FrameConnection<S>, stream: u32, fields: &Fields) -> Result<u16, u32>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    frames.send(&Frame::head(stream, fields)).await;
    outcome(frames, stream).await
}

async fn outcome<S: AsyncRead + AsyncWrite + Unpin>(frames: &mut FrameConnection<S>, stream: u32) -> Result<u16, u32> {
    loop {
        let frame = frames.next().await.unwrap_or_else(|| panic!("the connection ended on stream {stream}"));
        match frame.kind {
            FrameKind::Headers if frame.stream == stream => return Ok(status_of(&frame.payload)),
            FrameKind::Reset if frame.stream == stream => return Err(frame.error_code()),
            FrameKind::GoAway => panic!("stream {stream} ended the connection: {frame:?}"),
            _ => {}
        }
    }
}

/// RFC 7541: `:status` comes first, indexed (table A, 8 to 14) or as a literal with an indexed name.
fn status_of(block: &[u8]) -> u16 {
    // The change of the table's size that `open` has asked for may stand before it (6.3).
    let block = block.strip_prefix(&[0x20]).unwrap_or(block);
    match block[0] {
        byte @ 0x88..=0x8e => [200, 204, 206, 304, 400, 404, 500][usize::from(byte - 0x88)],
        _ => {
            let text = &block[2..2 + usize::from(block[1] & 0x7f)];
            let text = if block[1] & 0x80 == 0 { String::from_utf8_lossy(text).into_owned() } else { digits(text) };
            text.parse().unwrap_or_else(|_| panic!("no status in {block:?}"))
        }
    }
}

/// Huffman-coded digits (RFC 7541, B): `0` to `2` have five bits, `3` to `9` six.
fn digits(coded: &[u8]) -> String {
    let bits: Vec<u8> = coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)).collect();
    let value = |bits: &[u8]| bits.iter().fold(0_u8, |value, bit| value << 1 | bit);
    let (mut text, mut at) = (String::new(), 0);
    while at + 5 <= bits.len() {
        let five = value(&bits[at..at + 5]);
        if five < 3 {
            text.push(char::from(b'0' + five));
            at += 5;
        } else if at + 6 <= bits.len() && (0x19..=0x1f).contains(&value(&bits[at..at + 6])) {
            text.push(char::from(b'3' + value(&bits[at..at + 6]) - 0x19));
            at += 6;
        } else {
            break;
        }
    }
    text
}

#[test]
fn a_status_is_read_in_every_coding() {
    assert_eq!(status_of(&[0x20, 0x88]), 200);
    assert_eq!(status_of(&[0x48, 3, b'4', b'3', b'1']), 431);
    // RFC 7541, C.6.1: 302.
    assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02]), 302);
}

/// Each ends its stream or its connection, and has a record that says so.
async fn assert_malformed_are_reset<S, F>(records: &Records, connect: impl Fn() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = S>,
{
    for (count, (name, fields)) in malformed_heads().iter().enumerate() {
        let mut frames = open(connect().await).await;
        frames.send(&Frame::head(1, fields)).await;
        let end = loop {
            let frame = frames.next().await.unwrap_or_else(|| panic!("{name}: the connection ended without a word"));
            match frame.kind {
                FrameKind::Reset | FrameKind::GoAway => break frame,
                FrameKind::Headers | FrameKind::Data => panic!("{name}: {frame:?}"),
                _ => {}
            }
        };
        assert_eq!(end.error_code(), PROTOCOL_ERROR, "{name}");
        drop(frames);
        let broken = || records.all().into_iter().filter(|record| record["outcome"] == "refused").nth(count);
        let record = eventually(&format!("the record of {name}"), broken).await;
        let rule = if end.kind == FrameKind::Reset { "h2-malformed" } else { "h2-protocol" };
        assert_eq!((&record["kind"], &record["reason"]), (&"connection".into(), &rule.into()), "{name}: {record:#}");
    }
}

async fn assert_refused<S, F>(records: &Records, connect: impl Fn() -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = S>,
{
    let mut frames = open(connect().await).await;
    for (stream, (name, fields, status, rule)) in (1..).step_by(2).zip(refused_heads()) {
        let id = format!("attack-{stream}");
        let known = records.all().len();
        assert_eq!(outcome_of(&mut frames, stream, &fields).await, Ok(status), "{name}");
        let record = records.all().into_iter().nth(known).unwrap_or_else(|| panic!("{name}: {id} has no record"));
        let told = (&record["outcome"], &record["reason"], &record["status"]);
        assert_eq!(told, (&"refused".into(), &rule.into(), &status.into()), "{name}: {record:#}");
    }
}

#[tokio::test]
async fn malformed_heads_are_protocol_errors_and_reach_nobody() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    assert_malformed_are_reset(&stage.service.records, || stage.tls("h2")).await;
    upstream.assert_untouched();
    let mut frames = open(stage.tls("h2").await).await;
    assert_eq!(outcome_of(&mut frames, 1, &get("/x")).await, Ok(200));
    drop(frames);
    stage.service.stop().await;
}

#[tokio::test]
async fn heads_obey_every_rule_of_http_1_as_well() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    assert_refused(&stage.service.records, || stage.tls("h2")).await;
    upstream.assert_untouched();
    for twin in [
        with(&[("host", "API"), ("te", "trailers"), ("content-length", "0")]),
        vec![METHOD, SCHEME, PATH, ("host", "api")],
    ] {
        let mut frames = open(stage.tls("h2").await).await;
        assert_eq!(outcome_of(&mut frames, 1, &twin).await, Ok(200));
    }
    stage.service.stop().await;
}

#[tokio::test]
async fn an_outbound_listener_refuses_the_same_with_prior_knowledge() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    let connect = || async { TcpStream::connect(pair.address()).await.expect("it listens") };
    assert_malformed_are_reset(&pair.outbound.records, connect).await;
    assert_refused(&pair.outbound.records, connect).await;
    upstream.assert_untouched();
    assert_eq!(pair.inbound.records.all(), Vec::<Value>::new(), "nothing has left the outbound side");
    let mut frames = open(connect().await).await;
    assert_eq!(outcome_of(&mut frames, 1, &get("/x")).await, Ok(200));
    drop(frames);
    pair.stop().await;
}

#[tokio::test]
async fn what_is_judged_of_a_target_is_what_is_sent() {
    let upstream = RawUpstream::answering_heads();
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    let mut frames = open(stage.tls("h2").await).await;
    for (stream, (sent, status, judged)) in (1..).step_by(2).zip([
        ("/%61/%c3%a9?q=/../%2f", 200, "/a/%C3%A9"),
        ("/%61dmin", 403, "/admin"),
        ("/admin?/../public", 403, "/admin"),
        // h2 drops a fragment before anybody sees it. That cannot be refused, but nothing is made of it: what is left is
        // what is judged, recorded and sent.
        ("/public#/admin", 200, "/public"),
        ("/admin#/../public", 403, "/admin"),
        ("/public?x#y", 200, "/public"),
    ]) {
        assert_eq!(outcome_of(&mut frames, stream, &get(sent)).await, Ok(status), "{sent}");
        let resource = format!("HttpPath::\"endpoint{judged}\"");
        let record = stage.service.records.find(&resource, |record| resource_of(record) == resource).await;
        assert_eq!(record["status"], status, "{sent}");
    }
    let received = upstream.received_with("GET /public?x ").await;
    let lines: Vec<&str> = received.lines().filter(|line| line.starts_with("GET ")).collect();
    let sent = ["/a/%C3%A9?q=/../%2f", "/public", "/public?x"].map(|target| format!("GET {target} HTTP/1.1"));
    assert_eq!(lines, sent);
    drop(frames);
    stage.service.stop().await;
}

/// A head that announces a body of five bytes.
fn five(path: &'static str) -> Fields {
    vec![(":method", "POST"), SCHEME, AUTHORITY, (":path", path), ("content-length", "5")]
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_said_is_a_stream_error_and_leaves_nothing_behind() {
    for http2 in [false, true] {
        let upstream = Recorder::start();
        let stage = Stage::before(&if http2 { upstream.h2c_url() } else { upstream.url() }, POLICIES, "").await;
        let mut frames = open(stage.tls("h2").await).await;
        let bodies: [&[Frame]; 5] = [
            &[Frame::data(1, b"abcdef", true)],
            &[Frame::data(3, b"abc", true)],
            &[Frame::data(5, b"abcde", false), Frame::data(5, b"GET /smuggled HTTP/1.1\r\n\r\n", true)],
            &[Frame::data(7, b"abc", false), Frame::head(7, &[("x-trailer", "y")])],
            &[Frame::data(9, b"abc", false), Frame::data(9, b"", true)],
        ];
        for (stream, body) in (1..).step_by(2).zip(bodies) {
            frames.send(&Frame::open_head(stream, &five("/lie"))).await;
            for frame in body {
                frames.send(frame).await;
            }
            assert_eq!(outcome(&mut frames, stream).await, Err(PROTOCOL_ERROR), "{body:?}");
        }
        // The twin of the right length, on the same connection.
        frames.send(&Frame::open_head(11, &five("/truth"))).await;
        frames.send(&Frame::data(11, b"ab", false)).await;
        frames.send(&Frame::data(11, b"cde", true)).await;
        assert_eq!(outcome(&mut frames, 11).await, Ok(200));
        let seen = upstream.when("the twin", |seen| seen.iter().any(|seen| seen.complete)).await;
        assert!(seen.iter().all(|seen| seen.complete == seen.target.ends_with("/truth")), "{seen:#?}");
        let (lies, truths): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.target.ends_with("/lie"));
        assert_eq!(truths[0].body, b"abcde");
        if !http2 {
            assert!(
                lies.iter().all(|lie| lie.connection != truths[0].connection),
                "a broken body spoils its connection"
            );
        }
        drop(frames);
        stage.service.stop().await;
    }
}

#[tokio::test]
async fn pseudo_headers_and_framing_in_trailers_reach_nobody() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.h2c_url(), POLICIES, "").await;
    let mut frames = open(stage.tls("h2").await).await;
    let trailers = [
        (":path", "/admin"),
        (":authority", "other"),
        ("x-forwarded-client-cert", "URI=spiffe://pipeline.example/admin"),
        ("x_forwarded_client_cert", "URI=spiffe://pipeline.example/admin"),
        ("x-portcullis-decision", "forged"),
        ("host", "other"),
        ("authorization", "Bearer forged"),
        ("content-length", "9"),
        ("x-checksum", "abc"),
    ];
    for (stream, set) in [(1, &trailers[..2]), (3, &trailers[2..])] {
        frames
            .send(&Frame::open_head(
                stream,
                &[(":method", "POST"), SCHEME, AUTHORITY, (":path", "/x"), ("te", "trailers")],
            ))
            .await;
        frames.send(&Frame::data(stream, b"body", false)).await;
        frames.send(&Frame::head(stream, set)).await;
        // h2 leaves pseudo-headers in trailers out where RFC 9113, 8.1, has them malformed: either way nobody sees them.
        let _ = outcome(&mut frames, stream).await;
    }
    let seen = upstream.complete(1).await;
    for seen in seen.iter().filter(|seen| seen.complete) {
        assert!(seen.target.ends_with("//api/x"), "{seen:#?}");
        let names: Vec<&str> = seen.trailers.keys().map(http::HeaderName::as_str).collect();
        assert!(names.is_empty() || names == ["x-checksum"], "{names:?}");
    }
    assert!(seen.iter().any(|seen| seen.trailers.contains_key("x-checksum")), "{seen:#?}");
    drop(frames);
    stage.service.stop().await;
}

#[tokio::test]
async fn cookie_crumbs_are_judged_and_sent_as_one() {
    let policies = format!(
        "{POLICIES}\n@id(\"no-admin-cookie\")\nforbid (principal, action in [Action::\"read\", Action::\"write\"], resource in Endpoint::\"endpoint\") \
         when {{ context has headers && context.headers.hasTag(\"cookie\") && context.headers.getTag(\"cookie\").contains(\"a=1; role=admin\") }};\n"
    );
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), &policies, "").await;
    let mut frames = open(stage.tls("h2").await).await;
    assert_eq!(outcome_of(&mut frames, 1, &with(&[("cookie", "a=1"), ("cookie", "role=admin")])).await, Ok(403));
    upstream.assert_untouched();
    assert_eq!(outcome_of(&mut frames, 3, &with(&[("cookie", "a=1"), ("cookie", "role=user")])).await, Ok(200));
    assert_eq!(upstream.complete(1).await[0].header("cookie"), "a=1; role=user");
    drop(frames);
    stage.service.stop().await;
}

#[tokio::test]
async fn a_head_over_its_limits_is_answered_431_or_414() {
    let upstream = Recorder::start();
    let limits = "limits:\n  header_bytes: 16384\n  header_count: 20\n  uri_bytes: 1024\n";
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, limits).await;
    let (long, longer, path) = ("y".repeat(15_000), "y".repeat(16_384), format!("/{}", "x".repeat(1_024)));
    let mut many = with(&[("x", "y")]);
    many.resize(4 + 21, ("x", "y"));
    let long_path = [METHOD, SCHEME, AUTHORITY, (":path", path.as_str())];
    let field = |value| [METHOD, SCHEME, AUTHORITY, PATH, ("x", value)];
    for (name, head, status) in [
        ("count", many.as_slice(), 431),
        ("path", long_path.as_slice(), 414),
        ("bytes", field(longer.as_str()).as_slice(), 431),
        ("twin", field(long.as_str()).as_slice(), 200),
    ] {
        let mut frames = open(stage.tls("h2").await).await;
        let frame = Frame::head(1, head);
        // A block longer than a frame goes on in CONTINUATION. h2 answers such a head by itself, and what tells us of it is
        // the reset of its stream: there is none, and no record, if the peer had ended the stream already.
        let (first, rest) = frame.payload.split_at(frame.payload.len().min(16_000));
        if rest.is_empty() {
            frames.send(&frame).await;
        } else {
            frames.send(&Frame::new(FrameKind::Headers, 0, 1, first)).await;
            frames.send(&Frame::new(FrameKind::Continuation, flags::END_HEADERS, 1, rest)).await;
        }
        assert_eq!(outcome(&mut frames, 1).await, Ok(status), "{name}");
        if name == "bytes" {
            assert_eq!(outcome(&mut frames, 1).await, Err(PROTOCOL_ERROR), "the rest of it is not wanted");
        }
    }
    assert_eq!(upstream.seen().len(), 1, "only the twin");
    let reasons: Vec<Value> = stage.service.records.all().iter().map(|record| record["reason"].clone()).collect();
    for rule in ["too-many-headers", "target-too-long", "h2-malformed"] {
        assert!(reasons.contains(&rule.into()), "{rule}: {reasons:?}");
    }
    stage.service.stop().await;
}
