use super::super::{Framing, Stop};
use super::{LIMITS, judge};

/// What a case comes to.
enum Comes {
    /// To this many requests, all of them passed.
    Passes(usize),
    /// To a refusal of a head with this status and rule.
    Head(u16, &'static str),
    /// To a refusal within a body.
    Body(u16, &'static str),
}
use Comes::{Body, Head, Passes};

const CHUNKED: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";

/// A request line and a host, and what else is given.
fn get(fields: &str) -> Vec<u8> {
    format!("GET /x HTTP/1.1\r\nhost: a\r\n{fields}\r\n").into_bytes()
}

fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nhost: a\r\n\r\n").into_bytes()
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn chunks(body: &str) -> Vec<u8> {
    format!("{CHUNKED}{body}").into_bytes()
}

/// Each attack beside a twin that passes.
fn cases() -> Vec<(&'static str, Vec<u8>, Comes)> {
    let long = "x".repeat(LIMITS.header_bytes);
    let many = |count: usize| "a: b\r\n".repeat(count);
    let target = |length: usize| line(&format!("GET /{} HTTP/1.1", "x".repeat(length - 1)));
    let with_length = "content-length-with-transfer-encoding";
    vec![
        // body framing
        ("plain", get(""), Passes(1)),
        ("pipelined", [get(""), get("")].concat(), Passes(2)),
        ("length", [get("content-length: 3\r\n"), raw(b"abc"), get("")].concat(), Passes(2)),
        ("length with blanks", [get("content-length: \t3 \r\n"), raw(b"abc"), get("")].concat(), Passes(2)),
        ("length zero", [get("content-length: 0\r\n"), get("")].concat(), Passes(2)),
        ("length before encoding", get("content-length: 3\r\ntransfer-encoding: chunked\r\n"), Head(400, with_length)),
        ("length after encoding", get("transfer-encoding: chunked\r\ncontent-length: 3\r\n"), Head(400, with_length)),
        (
            "length of zero with encoding",
            get("content-length: 0\r\nTransfer-Encoding: chunked\r\n"),
            Head(400, with_length),
        ),
        ("two lengths", get("content-length: 3\r\ncontent-length: 4\r\n"), Head(400, "content-length-repeated")),
        ("two equal lengths", get("content-length: 3\r\nContent-Length: 3\r\n"), Head(400, "content-length-repeated")),
        ("length list", get("content-length: 3, 3\r\n"), Head(400, "content-length")),
        ("length with plus", get("content-length: +3\r\n"), Head(400, "content-length")),
        ("negative length", get("content-length: -3\r\n"), Head(400, "content-length")),
        ("empty length", get("content-length: \r\n"), Head(400, "content-length")),
        ("length that reads as octal", get("content-length: 010\r\n"), Head(400, "content-length")),
        ("two zeros", get("content-length: 00\r\n"), Head(400, "content-length")),
        ("hexadecimal length", get("content-length: 0x3\r\n"), Head(400, "content-length")),
        ("length with blank within", get("content-length: 3 3\r\n"), Head(400, "content-length")),
        ("length over 64 bits", get("content-length: 18446744073709551619\r\n"), Head(400, "content-length")),
        ("length over 63 bits", get("content-length: 9223372036854775808\r\n"), Head(400, "content-length")),
        ("length of 63 bits", get("content-length: 9223372036854775807\r\n"), Passes(1)),
        ("length with Arabic digits", get("content-length: \u{0663}\r\n"), Head(400, "content-length")),
        ("chunked", chunks("3\r\nabc\r\n0\r\n\r\n"), Passes(1)),
        ("chunked in capitals", get("transfer-encoding: CHUNKED\r\n"), Passes(1)),
        ("unknown coding", get("transfer-encoding: gzip\r\n"), Head(501, "transfer-encoding")),
        ("identity", get("transfer-encoding: identity\r\n"), Head(501, "transfer-encoding")),
        ("coding list", get("transfer-encoding: gzip, chunked\r\n"), Head(501, "transfer-encoding")),
        ("chunked twice", get("transfer-encoding: chunked, chunked\r\n"), Head(400, "transfer-encoding")),
        ("chunked with parameter", get("transfer-encoding: chunked;q=1\r\n"), Head(400, "transfer-encoding")),
        ("chunked in quotes", get("transfer-encoding: \"chunked\"\r\n"), Head(400, "transfer-encoding")),
        ("chunked with list comma", get("transfer-encoding: chunked,\r\n"), Head(400, "transfer-encoding")),
        ("empty encoding", get("transfer-encoding:\r\n"), Head(400, "transfer-encoding")),
        ("non-ASCII blank in encoding", get("transfer-encoding: \u{a0}chunked\r\n"), Head(400, "transfer-encoding")),
        ("vertical tab in encoding", get("transfer-encoding: \x0bchunked\r\n"), Head(400, "control-character")),
        (
            "two encodings",
            get("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
            Head(400, "transfer-encoding-repeated"),
        ),
        (
            "second encoding that nobody knows",
            get("transfer-encoding: chunked\r\ntransfer-encoding: cow\r\n"),
            Head(400, "transfer-encoding-repeated"),
        ),
        (
            "encoding in HTTP/1.0",
            raw(b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"),
            Head(400, "transfer-encoding-version"),
        ),
        ("length in HTTP/1.0", raw(b"POST / HTTP/1.0\r\ncontent-length: 1\r\n\r\nx"), Passes(1)),
        ("underscore length", get("content_length: 3\r\n"), Head(400, "odd-framing-name")),
        ("underscore encoding", get("Transfer_Encoding: chunked\r\n"), Head(400, "odd-framing-name")),
        ("other underscores", get("x_y: 3\r\nabcdefg_abcdef: 1\r\n"), Passes(1)),
        // line ends and characters
        ("bare LF after the request line", raw(b"GET / HTTP/1.1\nhost: a\r\n\r\n"), Head(400, "bare-lf")),
        ("bare LF after a field", raw(b"GET / HTTP/1.1\r\nhost: a\n\r\n"), Head(400, "bare-lf")),
        ("bare LF ends the head", raw(b"GET / HTTP/1.1\r\nhost: a\r\n\n"), Head(400, "bare-lf")),
        ("only bare LF", raw(b"GET / HTTP/1.1\nhost: a\n\n"), Head(400, "bare-lf")),
        ("bare CR in a value", get("a: b\rc: d\r\n"), Head(400, "bare-cr")),
        ("bare CR in the request line", line("GET /\r HTTP/1.1"), Head(400, "bare-cr")),
        ("CR CR LF", get("a: b\r\r\n"), Head(400, "bare-cr")),
        ("NUL in a value", get("a: b\0c\r\n"), Head(400, "nul")),
        ("NUL in a name", get("a\0b: c\r\n"), Head(400, "nul")),
        ("NUL in the target", line("GET /\0 HTTP/1.1"), Head(400, "nul")),
        ("escape in a value", get("a: \x1b[0m\r\n"), Head(400, "control-character")),
        ("DEL in a value", get("a: \x7f\r\n"), Head(400, "control-character")),
        ("tab and UTF-8 in a value", get("a: b\tc\u{e4}\r\n"), Passes(1)),
        ("empty value", get("a:\r\nb: \r\n"), Passes(1)),
        ("folded line", get("a: b\r\n c\r\n"), Head(400, "obs-fold")),
        ("folded with tab", get("a: b\r\n\tc\r\n"), Head(400, "obs-fold")),
        ("blank before the first field", raw(b"GET / HTTP/1.1\r\n host: a\r\n\r\n"), Head(400, "obs-fold")),
        ("space before the colon", get("a : b\r\n"), Head(400, "space-before-colon")),
        ("tab before the colon", get("transfer-encoding\t: chunked\r\n"), Head(400, "space-before-colon")),
        ("space in a name", get("a b: c\r\n"), Head(400, "header-name")),
        ("no name", get(": b\r\n"), Head(400, "header-name")),
        ("no colon", get("abc\r\n"), Head(400, "header-name")),
        ("non-ASCII name", get("\u{e4}: b\r\n"), Head(400, "header-name")),
        ("brackets in a name", get("a[]: b\r\n"), Head(400, "header-name")),
        ("every token character in a name", get("!#$%&'*+-.^_`|~09azAZ: b\r\n"), Passes(1)),
        // request line
        ("empty line before", [raw(b"\r\n"), get("")].concat(), Passes(1)),
        ("empty line between", [get(""), raw(b"\r\n"), get("")].concat(), Passes(2)),
        ("two empty lines before", [raw(b"\r\n\r\n"), get("")].concat(), Head(400, "empty-line")),
        ("LF before", [raw(b"\n"), get("")].concat(), Head(400, "bare-lf")),
        ("two spaces", line("GET  / HTTP/1.1"), Head(400, "request-line")),
        ("tab for space", line("GET\t/ HTTP/1.1"), Head(400, "request-line")),
        ("tab in the target", line("GET /\t HTTP/1.1"), Head(400, "request-line")),
        ("space in the target", line("GET /a b HTTP/1.1"), Head(400, "request-line")),
        ("space before", line(" GET / HTTP/1.1"), Head(400, "request-line")),
        ("space after", line("GET / HTTP/1.1 "), Head(400, "request-line")),
        ("HTTP/0.9", raw(b"GET /\r\n"), Head(400, "request-line")),
        ("no target", line("GET HTTP/1.1"), Head(400, "request-line")),
        ("version in small letters", line("GET / http/1.1"), Head(400, "request-line")),
        ("version of three numbers", line("GET / HTTP/1.1.1"), Head(400, "request-line")),
        ("other protocol", line("GET / ICAP/1.0"), Head(400, "request-line")),
        ("HTTP/1.2", line("GET / HTTP/1.2"), Head(505, "version")),
        ("HTTP/2 preface", raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Head(505, "version")),
        ("method with a parenthesis", line("GE(T / HTTP/1.1"), Head(400, "method")),
        ("non-ASCII method", line("G\u{cb}T / HTTP/1.1"), Head(400, "method")),
        ("unknown method", line("PURGE / HTTP/1.1"), Passes(1)),
        ("fragment", line("GET /a#b HTTP/1.1"), Head(400, "fragment")),
        ("fragment in a query", line("GET /a?b#c HTTP/1.1"), Head(400, "fragment")),
        ("encoded number sign", line("GET /a%23b HTTP/1.1"), Passes(1)),
        ("non-ASCII target", line("GET /\u{e4} HTTP/1.1"), Head(400, "target-character")),
        ("quotes in the target", line("GET /\"a\" HTTP/1.1"), Head(400, "target-character")),
        ("angle bracket in a query", line("GET /?<a> HTTP/1.1"), Head(400, "target-character")),
        ("what the mapping judges", line("GET /a;b/..//%2f\\{}|^[]~?x=/?*' HTTP/1.1"), Passes(1)),
        ("absolute form", line("GET http://a:80/b?c HTTP/1.1"), Passes(1)),
        ("absolute form without path", line("GET HTTPS://a HTTP/1.1"), Passes(1)),
        ("absolute form with user", line("GET http://u@a/ HTTP/1.1"), Head(400, "userinfo")),
        ("at sign in a path", line("GET http://a/u@b HTTP/1.1"), Passes(1)),
        ("absolute form without host", line("GET http:///b HTTP/1.1"), Head(400, "target-form")),
        ("other scheme", line("GET ftp://a/b HTTP/1.1"), Head(400, "target-form")),
        ("relative target", line("GET a/b HTTP/1.1"), Head(400, "target-form")),
        ("query only", line("GET ?a HTTP/1.1"), Head(400, "target-form")),
        ("asterisk", line("OPTIONS * HTTP/1.1"), Passes(1)),
        ("asterisk for GET", line("GET * HTTP/1.1"), Head(400, "target-form")),
        ("authority form", line("CONNECT a:1 HTTP/1.1"), Passes(1)),
        ("authority form for GET", line("GET a:1 HTTP/1.1"), Head(400, "target-form")),
        ("authority form without port", line("CONNECT a HTTP/1.1"), Head(400, "target-form")),
        ("CONNECT with a path", line("CONNECT /a HTTP/1.1"), Head(400, "target-form")),
        // host
        ("no host", raw(b"GET / HTTP/1.1\r\n\r\n"), Head(400, "host-missing")),
        ("no host in HTTP/1.0", raw(b"GET / HTTP/1.0\r\n\r\n"), Passes(1)),
        ("two hosts", get("host: b\r\n"), Head(400, "host-repeated")),
        ("two equal hosts", get("Host: a\r\n"), Head(400, "host-repeated")),
        // limits
        ("target at the limit", target(256), Passes(1)),
        ("target over the limit", target(257), Head(414, "target-length")),
        ("target over all limits", target(4_096), Head(414, "target-length")),
        ("fields at the limit", get(&many(15)), Passes(1)),
        ("fields over the limit", get(&many(16)), Head(431, "header-count")),
        ("head over the limit", get(&format!("a: {long}\r\n")), Head(431, "header-bytes")),
        ("endless field", format!("GET / HTTP/1.1\r\nhost: {long}").into_bytes(), Head(431, "header-bytes")),
        ("endless request line", format!("GET /{long}").into_bytes(), Head(414, "target-length")),
        // chunks
        ("chunk with capitals and zeros", chunks("00A\r\n0123456789\r\n000\r\n\r\n"), Passes(1)),
        ("request after chunks", [chunks("1\r\nx\r\n0\r\n\r\n"), get("")].concat(), Passes(2)),
        ("chunk extension", chunks("1;a=b\r\nx\r\n0;c\r\n\r\n"), Passes(1)),
        ("no chunk size", chunks("\r\n"), Body(400, "chunk-size")),
        ("chunk size that is no number", chunks("g\r\n"), Body(400, "chunk-size")),
        ("chunk size with prefix", chunks("0x1\r\nx\r\n"), Body(400, "chunk-size")),
        ("chunk size with sign", chunks("+1\r\nx\r\n"), Body(400, "chunk-size")),
        ("chunk size with blank before", chunks(" 1\r\nx\r\n"), Body(400, "chunk-size")),
        ("chunk size with blank after", chunks("1 \r\nx\r\n"), Body(400, "chunk-size")),
        ("chunk size over 53 bits", chunks("20000000000000\r\n"), Body(400, "chunk-size")),
        ("chunk size that wraps", chunks("10000000000000001\r\n"), Body(400, "chunk-size")),
        ("chunk size of many zeros", chunks("00000000000000001\r\n"), Body(400, "chunk-size")),
        ("chunk size line with LF", chunks("1\nx\r\n0\r\n\r\n"), Body(400, "chunk-line-end")),
        ("chunk size line with CR", chunks("1\rx"), Body(400, "chunk-line-end")),
        ("LF in a chunk extension", chunks("1;a\nx"), Body(400, "chunk-line-end")),
        ("blank in a chunk extension", chunks("1; a\r\nx"), Body(400, "chunk-extension")),
        ("NUL in a chunk extension", chunks("1;\0\r\nx"), Body(400, "chunk-extension")),
        ("long chunk extension", chunks(&format!("1;{}\r\nx", "a".repeat(300))), Body(400, "chunk-extension")),
        ("chunk data not ended", chunks("1\r\nxx\r\n"), Body(400, "chunk-data-end")),
        ("chunk data ended by LF", chunks("1\r\nx\n0\r\n\r\n"), Body(400, "chunk-data-end")),
        ("chunk data ended by any two", chunks("1\r\nxyz0\r\n\r\n"), Body(400, "chunk-data-end")),
        ("chunk data ended by CR CR", chunks("1\r\nx\r\r0\r\n\r\n"), Body(400, "chunk-data-end")),
        // trailers
        ("trailer", chunks("0\r\nx-checksum: 1\r\n\r\n"), Passes(1)),
        ("length in the trailers", chunks("0\r\ncontent-length: 1\r\n\r\n"), Body(400, "trailer-forbidden")),
        ("encoding in the trailers", chunks("0\r\nTransfer-Encoding: x\r\n\r\n"), Body(400, "trailer-forbidden")),
        ("host in the trailers", chunks("0\r\nHost: b\r\n\r\n"), Body(400, "trailer-forbidden")),
        ("bare LF in the trailers", chunks("0\r\na: b\n\r\n"), Body(400, "bare-lf")),
        ("fold in the trailers", chunks("0\r\na: b\r\n c\r\n\r\n"), Body(400, "obs-fold")),
        ("NUL in the trailers", chunks("0\r\na: \0\r\n\r\n"), Body(400, "nul")),
        ("bare LF ends the trailers", chunks("0\r\n\n"), Body(400, "bare-lf")),
        ("many trailers", chunks(&format!("0\r\n{}\r\n", many(17))), Body(431, "trailer-count")),
        ("long trailers", chunks(&format!("0\r\na: {long}\r\n\r\n")), Body(431, "trailer-bytes")),
    ]
}

fn check(name: &str, outcome: &super::Outcome, comes: &Comes) {
    let (status, rule) = outcome.refusal().map_or((0, ""), |refusal| (refusal.status, refusal.rule));
    let got = format!("{name}: {outcome:?}");
    match *comes {
        Passes(requests) => assert_eq!((outcome.passed.len(), status, rule), (requests, 0, ""), "{got}"),
        Head(wanted, wanted_rule) => {
            assert!(matches!(outcome.stop, Some(Stop::Refused(_))), "{got}");
            assert_eq!((status, rule, outcome.passed.len()), (wanted, wanted_rule, 0), "{got}");
        }
        Body(wanted, wanted_rule) => {
            assert!(matches!(outcome.stop, Some(Stop::Broken(_))), "{got}");
            assert_eq!((status, rule, outcome.passed.len()), (wanted, wanted_rule, 1), "{got}");
        }
    }
}

#[test]
fn every_attack_is_refused_by_its_own_rule_and_its_twin_passes() {
    let cases = cases();
    let attacks = cases.iter().filter(|(_, _, comes)| !matches!(comes, Passes(_))).count();
    assert!(attacks >= 60, "{attacks}");
    for (name, bytes, comes) in &cases {
        check(name, &judge([bytes.as_slice()]), comes);
    }
}

#[test]
fn an_attack_is_the_same_attack_however_it_is_cut() {
    for (name, bytes, comes) in &cases() {
        let whole = judge([bytes.as_slice()]);
        check(name, &whole, comes);
        assert_eq!(judge(bytes.chunks(1)), whole, "{name}, byte by byte");
        for cut in 1..bytes.len().min(400) {
            let (first, second) = bytes.split_at(cut);
            assert_eq!(judge([first, second]), whole, "{name}, cut at {cut}");
        }
    }
}

#[test]
fn nothing_of_a_refused_head_is_released() {
    for (name, bytes, comes) in &cases() {
        if let Head(..) = comes {
            assert_eq!(judge([bytes.as_slice()]).released, b"", "{name}");
            let behind = [get("").as_slice(), bytes].concat();
            assert_eq!(judge([behind.as_slice()]).released, get(""), "{name}, pipelined");
        }
    }
}

#[test]
fn a_passed_head_says_how_its_body_ends() {
    let framing = |bytes: &[u8]| judge([bytes]).passed.first().map(|facts| (facts.framing, facts.asks_upgrade));
    assert_eq!(framing(&get("")), Some((Framing::Empty, false)));
    assert_eq!(framing(&get("content-length: 7\r\n")), Some((Framing::Length(7), false)));
    assert_eq!(framing(CHUNKED.as_bytes()), Some((Framing::Chunked, false)));
    assert_eq!(framing(&get("upgrade: websocket\r\n")), Some((Framing::Empty, true)));
    assert_eq!(framing(b"POST / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n"), Some((Framing::Empty, false)));
    assert_eq!(framing(b"GET / HTTP/1.0\r\nhost: a\r\nupgrade: websocket\r\n\r\n"), Some((Framing::Empty, false)));
}

#[test]
fn bytes_behind_a_request_for_an_upgrade_are_not_judged() {
    let bytes = [get("upgrade: websocket\r\n").as_slice(), b"\x81\x00\x00garbage"].concat();
    let outcome = judge([bytes.as_slice()]);
    assert_eq!(outcome.stop, Some(Stop::Withheld));
    assert_eq!(outcome.released, get("upgrade: websocket\r\n"));
}

/// The attacks on heads that end by themselves, with their rules.
pub(super) fn refused_heads() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let rule = |comes| match comes {
        Head(_, rule) => Some(rule),
        Passes(_) | Body(..) => None,
    };
    cases().into_iter().filter_map(|(name, bytes, comes)| Some((name, bytes, rule(comes)?))).collect()
}
