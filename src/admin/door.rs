//! The three ways in, and what each lets through.

use std::net::IpAddr;

use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};

/// A way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The health listener: reachable from outside, so it tells only what anybody may know.
    Health {
        /// Whether it shows metrics.
        metrics: bool,
    },
    /// The admin listener on loopback: reachable by the app container and, through it, by web pages.
    Loopback,
    /// The admin socket: reachable by our own user.
    Socket,
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Live,
    Ready,
    Startup,
    Metrics,
    Status,
    Shutdown,
    LogFilter,
    SetLogFilter,
    Shadow,
    Explain,
}

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TurnedAway {
    pub(super) status: StatusCode,
    pub(super) message: &'static str,
    pub(super) allow: &'static str,
}

impl Door {
    /// What `request` asks for, if it may be asked here.
    pub(super) fn route(self, request: &Parts) -> Result<Route, TurnedAway> {
        if self == Self::Loopback {
            keep_web_pages_out(request)?;
        }
        let operator = !matches!(self, Self::Health { .. });
        let (routes, allow): (&[(Method, Route)], _) = match request.uri.path() {
            "/live" => (&[(Method::GET, Route::Live)], "GET"),
            "/ready" => (&[(Method::GET, Route::Ready)], "GET"),
            "/startup" => (&[(Method::GET, Route::Startup)], "GET"),
            "/metrics" if self != (Self::Health { metrics: false }) => (&[(Method::GET, Route::Metrics)], "GET"),
            "/status" if operator => (&[(Method::GET, Route::Status)], "GET"),
            "/shutdown" | "/quitquitquit" if operator => (&[(Method::POST, Route::Shutdown)], "POST"),
            "/shadow" if self == Self::Socket => (&[(Method::GET, Route::Shadow)], "GET"),
            "/explain" if self == Self::Socket => (&[(Method::GET, Route::Explain)], "GET"),
            "/log" if self == Self::Socket => {
                (&[(Method::GET, Route::LogFilter), (Method::PUT, Route::SetLogFilter)], "GET, PUT")
            }
            _ => (&[], ""),
        };
        if routes.is_empty() {
            return Err(TurnedAway { status: StatusCode::NOT_FOUND, message: "there is nothing here", allow });
        }
        let asked = routes.iter().find(|(method, _)| *method == request.method);
        asked.map(|(_, route)| *route).ok_or(TurnedAway {
            status: StatusCode::METHOD_NOT_ALLOWED,
            message: "method not allowed",
            allow,
        })
    }

    /// Whether callers may read messages that name files and policies.
    pub(super) fn tells_messages(self) -> bool {
        !matches!(self, Self::Health { .. })
    }
}

/// A browser sends Origin with everything that changes something, and the name it looked up as Host: a page whose name was
/// made to resolve to loopback (DNS rebinding) shows in either.
fn keep_web_pages_out(request: &Parts) -> Result<(), TurnedAway> {
    let refused = |message| TurnedAway { status: StatusCode::FORBIDDEN, message, allow: "" };
    if request.headers.contains_key(header::ORIGIN) {
        return Err(refused("requests of web pages are refused"));
    }
    let host = only_host(&request.headers).ok_or(refused("exactly one Host is required"))?;
    let target = request.uri.authority().map_or(host, |authority| authority.as_str());
    if is_loopback(host) && is_loopback(target) {
        Ok(())
    } else {
        Err(refused("Host is not a loopback name or address"))
    }
}

fn only_host(headers: &HeaderMap) -> Option<&str> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().ok(),
        _ => None,
    }
}

fn is_loopback(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']').unwrap_or_default(),
        None => authority.split_once(':').map_or((authority, ""), |(host, port)| (host, port)),
    };
    let port = port.strip_prefix(':').unwrap_or(port);
    let port_is_plain = port.bytes().all(|byte| byte.is_ascii_digit());
    let host_is_loopback =
        host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    port_is_plain && host_is_loopback
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn asked(door: Door, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Route, u16> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        door.route(&request.body(()).unwrap().into_parts().0).map_err(|turned| turned.status.as_u16())
    }

    const LOCAL: &[(&str, &str)] = &[("host", "127.0.0.1:15020")];

    #[test]
    fn the_health_listener_tells_only_what_anybody_may_know() {
        let door = Door::Health { metrics: true };
        let get = |path| asked(door, "GET", path, &[("host", "10.0.0.7:15021")]);
        assert_eq!(get("/live"), Ok(Route::Live));
        assert_eq!(get("/ready?verbose=1"), Ok(Route::Ready));
        assert_eq!(get("/startup"), Ok(Route::Startup));
        assert_eq!(get("/metrics"), Ok(Route::Metrics));
        assert_eq!(asked(Door::Health { metrics: false }, "GET", "/metrics", &[]), Err(404));
        for path in [
            "/status",
            "/log",
            "/shadow",
            "/explain",
            "/shutdown",
            "/quitquitquit",
            "/",
            "/live/",
            "//live",
            "/../status",
        ] {
            assert_eq!((get(path), asked(door, "POST", path, &[])), (Err(404), Err(404)), "{path}");
        }
    }

    #[test]
    fn the_admin_listener_has_status_and_shutdown_but_not_the_log() {
        assert_eq!(asked(Door::Loopback, "GET", "/status", LOCAL), Ok(Route::Status));
        assert_eq!(asked(Door::Loopback, "POST", "/shutdown", LOCAL), Ok(Route::Shutdown));
        assert_eq!(asked(Door::Loopback, "POST", "/quitquitquit", LOCAL), Ok(Route::Shutdown));
        assert_eq!(asked(Door::Loopback, "GET", "/log", LOCAL), Err(404));
        for (path, route) in [("/shadow", Route::Shadow), ("/explain?last=1", Route::Explain)] {
            assert_eq!(asked(Door::Loopback, "GET", path, LOCAL), Err(404));
            assert_eq!(asked(Door::Socket, "GET", path, &[]), Ok(route));
        }
        assert_eq!(asked(Door::Socket, "GET", "/log", &[]), Ok(Route::LogFilter));
        assert_eq!(asked(Door::Socket, "PUT", "/log?filter=debug", &[]), Ok(Route::SetLogFilter));
    }

    #[test]
    fn every_path_has_its_own_methods() {
        for method in ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "get"] {
            assert_eq!(asked(Door::Loopback, method, "/ready", LOCAL), Err(405), "{method}");
        }
        for method in ["GET", "PUT", "HEAD"] {
            assert_eq!(asked(Door::Loopback, method, "/shutdown", LOCAL), Err(405), "{method}");
        }
        assert_eq!(asked(Door::Socket, "POST", "/log", &[]), Err(405));
    }

    #[test]
    fn web_pages_are_kept_out_of_the_admin_listener() {
        fn with(headers: &[(&str, &str)]) -> Result<Route, u16> {
            asked(Door::Loopback, "POST", "/shutdown", headers)
        }
        for host in ["localhost", "LocalHost:15020", "127.0.0.1", "127.8.9.1:1", "[::1]", "[::1]:15020"] {
            assert_eq!(with(&[("host", host)]), Ok(Route::Shutdown), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[::2]:1",
            "",
            "0.0.0.0",
            "[::ffff:127.0.0.1]x",
            "localhost:80@evil",
            "user@localhost",
            "127.1",
            "2130706433",
            "[::1",
            "::1",
        ] {
            assert_eq!(with(&[("host", host)]), Err(403), "{host}");
        }
        assert_eq!(with(&[]), Err(403));
        assert_eq!(with(&[("host", "localhost"), ("host", "localhost")]), Err(403));
        for origin in ["http://evil.example", "null", "http://localhost:15020", ""] {
            assert_eq!(with(&[("host", "localhost"), ("origin", origin)]), Err(403), "{origin}");
        }
        assert_eq!(asked(Door::Loopback, "GET", "http://evil.example/status", LOCAL), Err(403));
        assert_eq!(asked(Door::Loopback, "GET", "http://localhost/status", LOCAL), Ok(Route::Status));
    }
}
