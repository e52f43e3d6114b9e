//! The one upgrade that is let through.

use base64::Engine as _;
use http::request::Parts;
use http::{HeaderName, Method, Version, header};

use crate::mapping::Refusal;
use crate::mapping::refusal::shown;

/// Another protocol that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// RFC 6455.
    Websocket,
}

/// Judges the upgrade of a head that has an `Upgrade` field (RFC 6455, section 4.2.1).
pub(super) fn judge_upgrade(parts: &Parts, websocket: bool, has_body: bool) -> Result<Upgrade, Refusal> {
    let asked = only(parts, &header::UPGRADE).ok_or_else(|| refuse("request has more than one Upgrade"))?;
    if !websocket || !asked.eq_ignore_ascii_case("websocket") {
        return Err(refuse(format!("upgrade to {} is not supported", shown(asked))));
    }
    if parts.version != Version::HTTP_11 || parts.method != Method::GET || has_body {
        return Err(refuse("a WebSocket is asked for by an HTTP/1.1 GET without a body"));
    }
    let options = parts.headers.get_all(header::CONNECTION);
    let mut options = options.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    if !options.any(|option| option.trim().eq_ignore_ascii_case("upgrade")) {
        return Err(refuse("Upgrade without the `upgrade` option in Connection"));
    }
    if only(parts, &header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(refuse("Sec-WebSocket-Version is not exactly one `13`"));
    }
    let key = only(parts, &header::SEC_WEBSOCKET_KEY)
        .and_then(|key| base64::engine::general_purpose::STANDARD.decode(key).ok());
    if key.is_none_or(|key| key.len() != 16) {
        return Err(refuse("Sec-WebSocket-Key is not exactly one base64 value of 16 bytes"));
    }
    Ok(Upgrade::Websocket)
}

/// The value of a field that is there exactly once.
fn only<'a>(parts: &'a Parts, name: &HeaderName) -> Option<&'a str> {
    let mut values = parts.headers.get_all(name).iter();
    let first = values.next()?;
    if values.next().is_some() { None } else { first.to_str().ok() }
}

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal::bad_request("upgrade", message)
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "WebSocket"),
        ("connection", "keep-alive, Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    fn judged(method: &str, headers: &[(&str, &str)]) -> Result<Upgrade, String> {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        judge_upgrade(&request.body(()).unwrap().into_parts().0, true, false).map_err(|refusal| refusal.message)
    }

    #[test]
    fn a_websocket_is_let_through() {
        assert_eq!(judged("GET", &GOOD), Ok(Upgrade::Websocket));
    }

    #[test]
    fn every_other_upgrade_is_refused() {
        for protocol in ["h2c", "websocket, h2c", "TLS/1.0", ""] {
            let mut headers = GOOD;
            headers[0].1 = protocol;
            assert_eq!(judged("GET", &headers), Err(format!("upgrade to `{protocol}` is not supported")));
        }
        assert!(judged("GET", &[&GOOD[..], &[("upgrade", "h2c")]].concat()).unwrap_err().contains("more than one"));
    }

    #[test]
    fn a_websocket_that_rfc_6455_does_not_know_is_refused() {
        assert!(judged("POST", &GOOD).unwrap_err().contains("GET"));
        for (at, value, why) in [
            (1, "keep-alive", "Connection"),
            (1, "x-upgrade", "Connection"),
            (2, "12", "Version"),
            (3, "c2hvcnQ=", "Key"),
            (3, "not base64", "Key"),
        ] {
            let mut headers = GOOD;
            headers[at].1 = value;
            assert!(judged("GET", &headers).unwrap_err().contains(why), "{value}");
        }
    }
}
