//! What of a head does not reach the other side.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::judge::{OVERRIDES, is_spelt};
use crate::mapping::TagsRead;

/// Removes what ends here: hop-by-hop fields (RFC 9110, section 7.6.1) with those that `Connection` names, and every field by which
/// portcullis itself speaks about identity and decisions, in every spelling. `te` stays as `trailers`, which gRPC needs.
///
/// Fields that carry who or what is asked (`authorization`, `x-amz-*`, `cookie` …) stay even where `Connection` names them.
/// Several Cookie fields, which HTTP/2 allows, become one (RFC 9113, section 8.2.3). Serves requests and responses alike; a
/// WebSocket's `connection` and `upgrade` are set anew by whoever forwards it.
pub fn strip_for_upstream(headers: &mut HeaderMap) {
    let te = takes_trailers(headers);
    let doomed: Vec<HeaderName> = Dropped::of(headers).all(headers).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
    if te {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(cookie) = joined_cookie(headers) {
        headers.insert(header::COOKIE, cookie);
    }
}

/// The same for trailers, which may not hold what a head decides either: framing, routing, authentication, content
/// (RFC 9110, section 6.5.1).
pub fn strip_trailers(trailers: &mut HeaderMap) {
    strip_for_upstream(trailers);
    let doomed: Vec<HeaderName> = trailers.keys().filter(|name| is_head_only(name.as_str())).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// What no policy has seen does not reach an upstream that adds trailers to its head (CVE-2013-5704): fields of a request's
/// trailers that policies read of heads are removed, in every spelling. If any may be read, all are.
pub fn strip_unjudged(trailers: &mut HeaderMap, reads: &TagsRead) {
    let TagsRead::Only(names) = reads else { return trailers.clear() };
    let is_read = |trailer: &&HeaderName| names.iter().any(|name| is_taken_for(trailer.as_str(), name));
    let doomed: Vec<HeaderName> = trailers.keys().filter(is_read).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Removes a field in every spelling: of trailers, where a head's counts.
pub fn strip_named(trailers: &mut HeaderMap, name: &str) {
    let doomed: Vec<HeaderName> =
        trailers.keys().filter(|trailer| is_taken_for(trailer.as_str(), name)).cloned().collect();
    for name in doomed {
        trailers.remove(name);
    }
}

/// Whether some servers read one name as the other: CGI and WSGI do not tell `_` from `-`.
pub(super) fn is_taken_for(name: &str, other: &str) -> bool {
    let is_same = |(a, b): (u8, u8)| a == b || matches!((a, b), (b'_', b'-') | (b'-', b'_'));
    name.len() == other.len() && name.bytes().zip(other.bytes()).all(is_same)
}

/// Which fields of a head do not reach the other side.
pub(super) struct Dropped<'a> {
    named: Vec<&'a str>,
}

impl<'a> Dropped<'a> {
    pub(super) fn of(headers: &'a HeaderMap) -> Self {
        let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
        let options = values.flat_map(|value| value.split(',')).map(str::trim);
        // What Connection names besides the usual options; seldom anything, so seldom an allocation.
        let is_usual = |option: &str| {
            ["", "close", "keep-alive", "upgrade", "te"].iter().any(|usual| option.eq_ignore_ascii_case(usual))
        };
        Self { named: options.filter(|option| !is_usual(option)).take(64).collect() }
    }

    pub(super) fn drops(&self, name: &str) -> bool {
        is_hop_by_hop(name)
            || is_ours(name)
            || (self.named.iter().any(|option| option.eq_ignore_ascii_case(name)) && !is_end_to_end(name))
    }

    fn all<'h>(&self, headers: &'h HeaderMap) -> impl Iterator<Item = &'h HeaderName> {
        headers.keys().filter(|name| self.drops(name.as_str()))
    }
}

fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The fields that tell the upstream who the peer is and what was decided: ours alone to set. RFC 9440, section 4, asks the same for
/// its `Client-Cert` fields.
fn is_ours(name: &str) -> bool {
    let is_prefixed = name.get(.."x-portcullis-".len()).is_some_and(|start| is_spelt(start, "x-portcullis-"));
    is_prefixed
        || ["x-forwarded-client-cert", "client-cert", "client-cert-chain"].iter().any(|known| is_spelt(name, known))
}

/// Fields that are never hop-by-hop, whatever `Connection` says: without them the upstream would answer another request than the
/// one judged (RFC 9110, section 7.6.1, forbids to name them).
fn is_end_to_end(name: &str) -> bool {
    const PREFIXES: [&str; 8] =
        ["content-", "if-", "x-amz-", "x-forwarded-", "sec-", "grpc-", "access-control-", "x-request-"];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            name,
            "accept"
                | "authorization"
                | "cache-control"
                | "cookie"
                | "date"
                | "expect"
                | "forwarded"
                | "host"
                | "origin"
                | "range"
                | "referer"
                | "set-cookie"
                | "trace-id"
                | "traceparent"
                | "tracestate"
                | "trailer"
                | "user-agent"
                | "vary"
                | "via"
        )
}

fn is_head_only(name: &str) -> bool {
    // As a server reads it that does not tell `_` from `-`.
    let name = &*name.replace('_', "-");
    // `content-md5` and digests are what trailers are for.
    let is_content = name.starts_with("content-") && !matches!(name, "content-md5" | "content-digest");
    // Checksums are what S3 has trailers for; its other fields say what is asked.
    let is_amz = name.starts_with("x-amz-") && !name.starts_with("x-amz-checksum-");
    is_content
        || is_amz
        || OVERRIDES.contains(&name)
        || name.starts_with("x-forwarded-")
        || matches!(
            name,
            "authorization"
                | "cache-control"
                | "cookie"
                | "expect"
                | "forwarded"
                | "host"
                | "max-forwards"
                | "range"
                | "set-cookie"
                | "te"
                | "trailer"
                | "www-authenticate"
        )
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// The Cookie crumbs in one, if there are several.
pub(super) fn joined_cookie(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (first, second) = (crumbs.next()?, crumbs.next()?);
    let mut joined = [first.as_bytes(), b"; ", second.as_bytes()].concat();
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(pairs: &[(&str, &str)], strip: impl Fn(&mut HeaderMap)) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        strip(&mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        left
    }

    #[test]
    fn hop_by_hop_fields_end_here() {
        let left = stripped(
            &[
                ("connection", "keep-alive, X-Hop"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authorization", "Basic eA=="),
                ("transfer-encoding", "chunked"),
                ("upgrade", "h2c"),
                ("http2-settings", "AAMAAABkAAQ"),
                ("x-hop", "1"),
                ("x-stays", "1"),
                ("te", "gzip, Trailers"),
            ],
            strip_for_upstream,
        );
        assert_eq!(left, ["te: trailers", "x-stays: 1"]);
        assert_eq!(stripped(&[("te", "gzip")], strip_for_upstream), [""; 0]);
    }

    #[test]
    fn fields_that_carry_who_or_what_is_asked_stay_though_connection_names_them() {
        let connection = "authorization, Host, content-length, x-amz-copy-source, traceparent, X-Request-Id, cookie";
        let left = stripped(
            &[
                ("connection", connection),
                ("authorization", "a"),
                ("content-length", "1"),
                ("cookie", "c"),
                ("host", "h"),
                ("traceparent", "t"),
                ("x-amz-copy-source", "s"),
                ("x-request-id", "r"),
            ],
            strip_for_upstream,
        );
        assert_eq!(left.len(), 7, "{left:?}");
    }

    #[test]
    fn what_only_we_may_say_is_removed_in_every_spelling() {
        let left = stripped(
            &[
                ("x-forwarded-client-cert", "By=x"),
                ("X_Forwarded_Client_Cert", "By=x"),
                ("x-forwarded_client-cert", "By=x"),
                ("x-portcullis-decision", "1"),
                ("x_portcullis_error", "1"),
                ("Client-Cert", "1"),
                ("client_cert_chain", "1"),
                ("x-forwarded-for", "10.0.0.1"),
                ("x-portculli", "1"),
            ],
            strip_for_upstream,
        );
        assert_eq!(left, ["x-forwarded-for: 10.0.0.1", "x-portculli: 1"]);
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        assert_eq!(
            stripped(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")], strip_for_upstream),
            ["cookie: a=1; b=2; c=3"]
        );
    }

    #[test]
    fn trailers_hold_nothing_that_a_head_decides() {
        let left = stripped(
            &[
                ("grpc-status", "0"),
                ("content-md5", "x"),
                ("content-length", "1"),
                ("transfer-encoding", "chunked"),
                ("host", "h"),
                ("authorization", "a"),
                ("x_forwarded_client_cert", "By=x"),
                ("x-portcullis-decision", "1"),
                ("x_http_method_override", "DELETE"),
                ("x-original-url", "/admin"),
                ("x_forwarded_for", "192.0.2.1"),
                ("x-amz-acl", "public-read"),
                ("x-amz-checksum-crc32", "x"),
                ("x-checksum", "1"),
            ],
            strip_trailers,
        );
        assert_eq!(left, ["content-md5: x", "grpc-status: 0", "x-amz-checksum-crc32: x", "x-checksum: 1"]);
    }

    #[test]
    fn trailers_hold_nothing_that_policies_read_of_heads() {
        let reads = TagsRead::Only(["x-role".into()].into());
        let trailers = [("x-role", "admin"), ("x_role", "admin"), ("x-checksum", "1")];
        assert_eq!(stripped(&trailers, |trailers| strip_unjudged(trailers, &reads)), ["x-checksum: 1"]);
        assert_eq!(stripped(&trailers, |trailers| strip_unjudged(trailers, &TagsRead::All)), [""; 0]);
    }
}
