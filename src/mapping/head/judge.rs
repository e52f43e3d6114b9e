//! The judgement of a head.

use std::borrow::Cow;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::authority::{host_of, is_same_host};
use super::upgrade::{Upgrade, judge_upgrade};
use crate::config::{HttpConfig, Limits};
use crate::mapping::Refusal;
use crate::mapping::refusal::{public_part, shown};

/// A head that obeys every rule, with what the mappers and the upstream need of it. Borrows from the request.
#[derive(Debug, Clone)]
pub struct JudgedHead<'a> {
    /// The method as received.
    pub method: &'a Method,
    /// Host or `:authority` as received, port included: what is forwarded.
    pub authority: &'a str,
    /// The host asked for: lower case, without port and trailing dot; IPv6 in brackets.
    pub host: Cow<'a, str>,
    /// Path and query as received; begins with `/`, or is `*` with OPTIONS.
    pub target: &'a str,
    /// The fields as received.
    pub headers: &'a HeaderMap,
    /// The declared length of the body.
    pub content_length: Option<u64>,
    /// Another protocol asked for: only ever WebSocket.
    pub upgrade: Option<Upgrade>,
}

impl<'a> JudgedHead<'a> {
    /// The path as received.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// The query as received, without its `?`.
    #[must_use]
    pub fn query(&self) -> Option<&'a str> {
        self.target.split_once('?').map(|(_, query)| query)
    }
}

/// The rules of one listener. Made once, not per request.
#[derive(Debug, Clone)]
pub struct HeadRules {
    hosts: Vec<String>,
    let_through: Vec<HeaderName>,
    websocket: bool,
    uri_bytes: usize,
    header_count: usize,
}

impl HeadRules {
    /// Of a listener with `protocol: http`.
    #[must_use]
    pub fn http(config: &HttpConfig, limits: &Limits) -> Self {
        Self {
            hosts: config.hosts.clone(),
            let_through: config.unsafe_allow_override_headers.clone(),
            websocket: true,
            uri_bytes: limits.uri_bytes,
            header_count: limits.header_count,
        }
    }

    /// Of a listener with `protocol: s3`. Which hosts are legal there is the address's business: [`crate::mapping::s3`].
    #[must_use]
    pub fn s3(limits: &Limits) -> Self {
        Self {
            hosts: Vec::new(),
            let_through: Vec::new(),
            websocket: false,
            uri_bytes: limits.uri_bytes,
            header_count: limits.header_count,
        }
    }
}

/// Headers by which some servers take another method or another path than the request line's. Compared with `_` as `-`, since CGI and
/// WSGI servers do not tell the two apart.
pub(super) const OVERRIDES: [&str; 5] =
    ["x-http-method-override", "x-http-method", "x-method-override", "x-original-url", "x-rewrite-url"];

/// More options than this in `Connection` are refused: each costs a comparison with every field.
const MOST_CONNECTION_OPTIONS: usize = 32;

/// Judges a head.
///
/// # Errors
/// A [`Refusal`] with one of these rules: `version`, `connect`, `fragment`, `target-form`, `target-too-long`, `too-many-headers`, `value-blanks`,
/// `connection-header`, `te`, `duplicate-host`, `missing-host`, `bad-host`, `host-mismatch`, `unknown-host`, `content-length`,
/// `transfer-encoding`, `override-header`, `framing-spelling`, `connection-options`, `upgrade`.
pub fn judge<'a>(parts: &'a Parts, rules: &HeadRules) -> Result<JudgedHead<'a>, Refusal> {
    if !matches!(parts.version, Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2) {
        return Err(Refusal::with_status(505, "version", format!("{:?} is not spoken here", parts.version)));
    }
    if parts.method == Method::CONNECT {
        return Err(Refusal::with_status(501, "connect", "CONNECT (and with it RFC 8441) is not supported"));
    }
    let target = judge_target(parts, rules)?;
    let fields = judge_fields(parts, rules)?;
    let authority = judge_authority(parts, fields.host)?;
    let host = host_of(authority).map_err(|why| {
        Refusal::bad_request(
            "bad-host",
            format!("host {} is not valid: {why}", shown(public_part(authority.as_bytes()))),
        )
    })?;
    if !rules.hosts.is_empty() && !rules.hosts.iter().any(|known| is_same_host(known, &host)) {
        let message = format!("host {} is not one of the listener's `hosts`", shown(host.as_bytes()));
        return Err(Refusal::with_status(421, "unknown-host", message));
    }
    Ok(JudgedHead {
        method: &parts.method,
        authority,
        host,
        target,
        headers: &parts.headers,
        content_length: fields.content_length,
        upgrade: if fields.upgrade { Some(judge_upgrade(parts, rules.websocket, fields.has_body())?) } else { None },
    })
}

fn judge_target<'a>(parts: &'a Parts, rules: &HeadRules) -> Result<&'a str, Refusal> {
    let given = parts.uri.path_and_query();
    let target = given.map(PathAndQuery::as_str).unwrap_or_default();
    if parts.version == Version::HTTP_2 && target == "/" && given != Some(&PathAndQuery::from_static("/")) {
        // h2 cuts a fragment off unseen. Where nothing else was there, a path that reads as `/` would be sent as an empty one.
        return Err(Refusal::bad_request("fragment", "target is nothing but a fragment"));
    }
    if target.len() > rules.uri_bytes {
        let message = format!("target has {} bytes, the limit is {}", target.len(), rules.uri_bytes);
        return Err(Refusal::with_status(414, "target-too-long", message));
    }
    if let Some(scheme) = parts.uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return Err(Refusal::bad_request("target-form", format!("scheme {} is not http or https", shown(scheme))));
    }
    if target.starts_with('/') || (target == "*" && parts.method == Method::OPTIONS) {
        Ok(target)
    } else {
        Err(Refusal::bad_request(
            "target-form",
            format!("target {} has no path", shown(public_part(parts.uri.to_string().as_bytes()))),
        ))
    }
}

#[derive(Default)]
struct Fields<'a> {
    host: Option<&'a HeaderValue>,
    content_length: Option<u64>,
    transfer_encoding: bool,
    upgrade: bool,
}

impl Fields<'_> {
    fn has_body(&self) -> bool {
        self.transfer_encoding || self.content_length.is_some_and(|length| length > 0)
    }
}

/// One pass over all fields.
fn judge_fields<'a>(parts: &'a Parts, rules: &HeadRules) -> Result<Fields<'a>, Refusal> {
    if parts.headers.len() > rules.header_count {
        let message = format!("request has {} header fields, the limit is {}", parts.headers.len(), rules.header_count);
        return Err(Refusal::with_status(431, "too-many-headers", message));
    }
    let http2 = parts.version == Version::HTTP_2;
    let mut fields = Fields::default();
    for (name, value) in &parts.headers {
        judge_value(name, value)?;
        match name.as_str() {
            "host" => {
                if fields.host.replace(value).is_some() {
                    return Err(Refusal::bad_request("duplicate-host", "request has more than one Host"));
                }
            }
            "content-length" => {
                if fields.content_length.replace(length_of(value)?).is_some() {
                    return Err(Refusal::bad_request("content-length", "request has more than one Content-Length"));
                }
            }
            // RFC 9113, section 8.2.2.
            "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" if http2 => {
                return Err(Refusal::bad_request("connection-header", format!("`{name}` has no place in HTTP/2")));
            }
            "te" if http2 && value.as_bytes() != b"trailers" => {
                return Err(Refusal::bad_request(
                    "te",
                    format!("te is {} in HTTP/2, only `trailers` may be", shown(value)),
                ));
            }
            "transfer-encoding" => {
                if fields.transfer_encoding || value.as_bytes() != b"chunked" || parts.version == Version::HTTP_10 {
                    let message = format!("Transfer-Encoding {} is not exactly one `chunked`", shown(value));
                    return Err(Refusal::bad_request("transfer-encoding", message));
                }
                fields.transfer_encoding = true;
            }
            "upgrade" => fields.upgrade = true,
            "connection" => judge_connection(&parts.headers)?,
            other => judge_name(name, other, rules)?,
        }
    }
    if fields.transfer_encoding && fields.content_length.is_some() {
        return Err(Refusal::bad_request("content-length", "request has both Content-Length and Transfer-Encoding"));
    }
    Ok(fields)
}

/// `HeaderValue` holds no control character but the tab, so only blanks at the ends are left to refuse (RFC 9113, section 8.2.1).
fn judge_value(name: &HeaderName, value: &HeaderValue) -> Result<(), Refusal> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(value.as_bytes().first()) || is_blank(value.as_bytes().last()) {
        return Err(Refusal::bad_request("value-blanks", format!("value of `{name}` begins or ends with a blank")));
    }
    Ok(())
}

/// Digits only: no sign, no list, no zero before others, which makes some readers take the number for octal. Bounded so that it fits every signed integer that follows.
fn length_of(value: &HeaderValue) -> Result<u64, Refusal> {
    let is_length =
        |text: &&str| text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    let digits = value.to_str().ok().filter(is_length);
    digits.and_then(|digits| digits.parse().ok()).filter(|length| i64::try_from(*length).is_ok()).ok_or_else(|| {
        Refusal::bad_request("content-length", format!("Content-Length {} is not a length", shown(value)))
    })
}

fn judge_connection(headers: &HeaderMap) -> Result<(), Refusal> {
    let options = |value: &HeaderValue| 1 + memchr::memchr_iter(b',', value.as_bytes()).count();
    if headers.get_all(http::header::CONNECTION).iter().map(options).sum::<usize>() > MOST_CONNECTION_OPTIONS {
        let message = format!("Connection has more than {MOST_CONNECTION_OPTIONS} options");
        return Err(Refusal::bad_request("connection-options", message));
    }
    Ok(())
}

fn judge_name(name: &HeaderName, text: &str, rules: &HeadRules) -> Result<(), Refusal> {
    if text.starts_with('x') && OVERRIDES.iter().any(|known| is_spelt(text, known)) && !rules.let_through.contains(name)
    {
        let message = format!("`{name}` asks some servers for another method or path than the one that is judged");
        return Err(Refusal::bad_request("override-header", message));
    }
    if ["content-length", "transfer-encoding"].iter().any(|known| is_spelt(text, known)) {
        return Err(Refusal::bad_request(
            "framing-spelling",
            format!("`{name}` reads as another header on some servers"),
        ));
    }
    Ok(())
}

/// Whether `name` is `known` when `_` counts as `-`.
pub(super) fn is_spelt(name: &str, known: &str) -> bool {
    name.len() == known.len()
        && name.bytes().zip(known.bytes()).all(|(byte, known)| byte == known || (byte == b'_' && known == b'-'))
}

/// Host and the target's authority (`:authority` in HTTP/2, absolute form in HTTP/1.1): at least one, and equal if both are there.
fn judge_authority<'a>(parts: &'a Parts, host: Option<&'a HeaderValue>) -> Result<&'a str, Refusal> {
    let in_target = parts.uri.authority().map(http::uri::Authority::as_str);
    let bad = |value: &HeaderValue| {
        Refusal::bad_request("bad-host", format!("host {} is not valid", shown(public_part(value.as_bytes()))))
    };
    let host = host.map(|value| value.to_str().map_err(|_| bad(value))).transpose()?;
    match (in_target, host) {
        (Some(in_target), Some(host)) if !in_target.eq_ignore_ascii_case(host) => {
            let (in_target, host) = (public_part(in_target.as_bytes()), public_part(host.as_bytes()));
            let message = format!("target asks for {}, Host for {}", shown(in_target), shown(host));
            Err(Refusal::bad_request("host-mismatch", message))
        }
        // RFC 9112, section 3.2: an HTTP/1.1 request has a Host, whatever its target's form.
        (_, None) if parts.version != Version::HTTP_2 => {
            Err(Refusal::bad_request("missing-host", "request has no Host"))
        }
        (None, None) => Err(Refusal::bad_request("missing-host", "request has neither `:authority` nor Host")),
        // Of two that differ in case only, the target's: it is the one that is forwarded.
        (Some(in_target), _) => Ok(in_target),
        (None, Some(host)) => Ok(host),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::uri::Authority;
    use proptest::prelude::*;

    use super::*;

    fn rules() -> HeadRules {
        HeadRules::http(&HttpConfig::default(), &Limits::default())
    }

    fn parts(version: Version, method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        request.body(()).unwrap().into_parts().0
    }

    fn rule(version: Version, method: &str, uri: &str, headers: &[(&str, &str)]) -> &'static str {
        let parts = parts(version, method, uri, headers);
        judge(&parts, &rules()).map_or_else(|refusal| refusal.rule, |_| "allowed")
    }

    fn h1(headers: &[(&str, &str)]) -> &'static str {
        rule(Version::HTTP_11, "GET", "/", &[&[("host", "api")], headers].concat())
    }

    fn h2(headers: &[(&str, &str)]) -> &'static str {
        rule(Version::HTTP_2, "GET", "https://api/", headers)
    }

    #[test]
    fn a_plain_head_is_judged_without_copies() {
        let parts = parts(Version::HTTP_11, "GET", "/a?b=c", &[("host", "api.example:8080"), ("content-length", "0")]);
        let head = judge(&parts, &rules()).unwrap();
        assert_eq!((head.target, head.path(), head.query()), ("/a?b=c", "/a", Some("b=c")));
        assert_eq!((head.authority, head.content_length), ("api.example:8080", Some(0)));
        assert!(matches!(head.host, Cow::Borrowed("api.example")));
    }

    #[test]
    fn of_target_and_host_in_two_spellings_the_forwarded_one_is_judged() {
        let parts = parts(Version::HTTP_11, "GET", "http://RAW.S3.example/k", &[("host", "raw.s3.example")]);
        let head = judge(&parts, &rules()).unwrap();
        assert_eq!(head.authority, parts.uri.authority().map(Authority::as_str).unwrap());
        assert_eq!(head.authority, "RAW.S3.example");
    }

    #[test]
    fn host_and_authority_are_there_once_and_equal() {
        assert_eq!(rule(Version::HTTP_11, "GET", "/", &[]), "missing-host");
        assert_eq!(rule(Version::HTTP_10, "GET", "/", &[]), "missing-host");
        assert_eq!(rule(Version::HTTP_11, "GET", "http://api/", &[]), "missing-host");
        assert_eq!(rule(Version::HTTP_2, "GET", "/", &[]), "missing-host");
        assert_eq!(rule(Version::HTTP_2, "GET", "/", &[("host", "api")]), "allowed");
        assert_eq!(h1(&[("host", "api")]), "duplicate-host");
        assert_eq!(rule(Version::HTTP_11, "GET", "http://API/", &[("host", "api")]), "allowed");
        assert_eq!(rule(Version::HTTP_11, "GET", "http://other/", &[("host", "api")]), "host-mismatch");
        assert_eq!(rule(Version::HTTP_11, "GET", "http://api:80/", &[("host", "api")]), "host-mismatch");
        assert_eq!(h2(&[("host", "other")]), "host-mismatch");
        assert_eq!(h2(&[("host", "api")]), "allowed");
        assert_eq!(h2(&[("host", "api"), ("host", "api")]), "duplicate-host");
        assert_eq!(rule(Version::HTTP_2, "GET", "https://user@api/", &[]), "bad-host");
        assert_eq!(rule(Version::HTTP_11, "GET", "/", &[("host", "a,b")]), "bad-host");
        assert_eq!(rule(Version::HTTP_11, "GET", "/", &[("host", "")]), "bad-host");
        assert_eq!(rule(Version::HTTP_11, "GET", "/", &[("host", "é")]), "bad-host");
    }

    #[test]
    fn a_path_of_nothing_but_a_fragment_is_refused() {
        let of = |path: &'static str| {
            let mut uri = http::uri::Parts::default();
            (uri.scheme, uri.authority) = (Some(http::uri::Scheme::HTTPS), Some(Authority::from_static("api")));
            uri.path_and_query =
                Some(PathAndQuery::from_maybe_shared(bytes::Bytes::from_static(path.as_bytes())).unwrap());
            let mut parts = parts(Version::HTTP_2, "GET", "https://api/", &[]);
            parts.uri = http::Uri::from_parts(uri).unwrap();
            judge(&parts, &rules()).map_or_else(|refusal| refusal.rule, |_| "allowed")
        };
        assert_eq!((of("#/admin"), of("#"), of("/"), of("/#x")), ("fragment", "fragment", "allowed", "allowed"));
    }

    #[test]
    fn only_the_hosts_of_the_listener_are_known() {
        let config = HttpConfig { hosts: vec!["api.example".to_owned(), "::1".to_owned()], ..HttpConfig::default() };
        let rules = HeadRules::http(&config, &Limits::default());
        for (host, outcome) in
            [("API.example.:80", Ok(())), ("[::1]:80", Ok(())), ("other.example", Err((421, "unknown-host")))]
        {
            let parts = parts(Version::HTTP_11, "GET", "/", &[("host", host)]);
            assert_eq!(
                judge(&parts, &rules).map(|_| ()).map_err(|refusal| (refusal.status, refusal.rule)),
                outcome,
                "{host}"
            );
        }
    }

    #[test]
    fn a_target_without_a_path_is_refused() {
        assert_eq!(rule(Version::HTTP_11, "CONNECT", "api:80", &[("host", "api:80")]), "connect");
        assert_eq!(rule(Version::HTTP_11, "GET", "api:80", &[("host", "api:80")]), "target-form");
        assert_eq!(rule(Version::HTTP_11, "GET", "*", &[("host", "api")]), "target-form");
        assert_eq!(rule(Version::HTTP_11, "OPTIONS", "*", &[("host", "api")]), "allowed");
        assert_eq!(rule(Version::HTTP_11, "GET", "ftp://api/", &[("host", "api")]), "target-form");
        assert_eq!(rule(Version::HTTP_11, "GET", "http://api?x", &[("host", "api")]), "target-form");
        assert_eq!(
            rule(Version::HTTP_11, "GET", &format!("/{}", "a".repeat(20_000)), &[("host", "api")]),
            "target-too-long"
        );
        assert_eq!(rule(Version::HTTP_3, "GET", "https://api/", &[]), "version");
    }

    #[test]
    fn framing_is_never_ambiguous() {
        for headers in [
            &[("content-length", "1"), ("content-length", "1")][..],
            &[("content-length", "1, 1")],
            &[("content-length", "+1")],
            &[("content-length", "-1")],
            &[("content-length", "")],
            &[("content-length", "0x1")],
            &[("content-length", "9223372036854775808")],
            &[("content-length", "1"), ("transfer-encoding", "chunked")],
        ] {
            assert_eq!(h1(headers), "content-length", "{headers:?}");
        }
        for value in ["gzip, chunked", "Chunked", "chunked, chunked", "identity", ""] {
            assert_eq!(h1(&[("transfer-encoding", value)]), "transfer-encoding", "{value}");
        }
        assert_eq!(h1(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]), "transfer-encoding");
        assert_eq!(h1(&[("transfer-encoding", "chunked")]), "allowed");
        assert_eq!(h1(&[("content_length", "1")]), "framing-spelling");
        assert_eq!(h1(&[("transfer_encoding", "chunked")]), "framing-spelling");
        assert_eq!(
            rule(Version::HTTP_10, "POST", "/", &[("host", "api"), ("transfer-encoding", "chunked")]),
            "transfer-encoding"
        );
    }

    #[test]
    fn http2_heads_obey_the_same_rules_and_those_of_rfc_9113() {
        for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
            assert_eq!(h2(&[(name, "x")]), "connection-header", "{name}");
        }
        assert_eq!(h2(&[("te", "gzip")]), "te");
        assert_eq!(h2(&[("te", "trailers")]), "allowed");
        assert_eq!(h2(&[("x-a", " b")]), "value-blanks");
        assert_eq!(h2(&[("x-a", "b\t")]), "value-blanks");
        assert_eq!(h2(&[("content-length", "1"), ("content-length", "1")]), "content-length");
        assert_eq!(h1(&[("te", "gzip")]), "allowed", "in HTTP/1.1 it is hop-by-hop and stripped");
    }

    #[test]
    fn override_headers_are_refused_in_every_spelling_unless_let_through() {
        for name in ["X-HTTP-Method-Override", "x-http-method", "X_Method_Override", "x-original_url", "X-Rewrite-URL"]
        {
            assert_eq!(h1(&[(name, "DELETE")]), "override-header", "{name}");
            assert_eq!(h2(&[(&name.to_lowercase(), "DELETE")]), "override-header", "{name}");
        }
        let config = HttpConfig {
            unsafe_allow_override_headers: vec![HeaderName::from_static("x-http-method")],
            ..HttpConfig::default()
        };
        let rules = HeadRules::http(&config, &Limits::default());
        let parts = parts(Version::HTTP_11, "POST", "/", &[("host", "api"), ("x-http-method", "DELETE")]);
        assert!(judge(&parts, &rules).is_ok());
        assert_eq!(judge(&parts, &HeadRules::s3(&Limits::default())).expect_err("s3").rule, "override-header");
    }

    #[test]
    fn the_number_of_fields_and_connection_options_is_bounded() {
        assert_eq!(h1(&[("x-a", "b"); 100]), "too-many-headers");
        assert_eq!(h1(&[("connection", &"a,".repeat(40))]), "connection-options");
        assert_eq!(h1(&[("connection", "keep-alive, x-a")]), "allowed");
    }

    proptest! {
        #[test]
        fn no_head_makes_it_panic(
            uri in "(https?://[a-z@:.\\[\\]0-9]{0,10})?/[ -~]{0,20}",
            headers in proptest::collection::vec(("[a-z_-]{1,16}|host|content-length|connection|upgrade|te", "[ -~]{0,12}"), 0..6),
            version in prop_oneof![Just(Version::HTTP_11), Just(Version::HTTP_2)],
        ) {
            let mut request = Request::builder().version(version).uri(uri);
            for (name, value) in &headers {
                request = request.header(name, value);
            }
            if let Ok(request) = request.body(()) {
                let (parts, ()) = request.into_parts();
                if let Ok(head) = judge(&parts, &rules()) {
                    prop_assert!(head.target.starts_with('/'));
                    prop_assert_eq!(host_of(head.authority).unwrap(), head.host);
                }
            }
        }
    }
}
