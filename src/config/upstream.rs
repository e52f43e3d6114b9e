//! Where requests go, and the names of hosts.

use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use thiserror::Error;

use super::errors::Advice;
use super::{UpstreamConfig, UpstreamScheme, address};

/// Reads an inbound listener's upstream: `http://HOST:PORT` or `h2c://HOST:PORT`.
pub(super) fn parse_plain(text: &str) -> Result<UpstreamConfig, UpstreamError> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(match text.strip_prefix("unix:") {
            Some(_) => UpstreamError::Unix,
            None => UpstreamError::NoScheme { text: text.into() },
        });
    };
    let scheme = match scheme {
        "http" => UpstreamScheme::Http,
        "h2c" => UpstreamScheme::H2c,
        "https" => UpstreamScheme::Mtls,
        _ => return Err(UpstreamError::Scheme { scheme: scheme.into(), rest: rest.into() }),
    };
    if scheme == UpstreamScheme::Mtls {
        return Err(UpstreamError::Https);
    }
    let (host, port) = parse_host_port(rest)?;
    Ok(UpstreamConfig { scheme, host, port })
}

/// Reads an outbound listener's upstream: `HOST:PORT`.
pub(super) fn parse_mtls(text: &str) -> Result<UpstreamConfig, UpstreamError> {
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(UpstreamError::SchemeOfMtls { scheme: scheme.into(), rest: rest.into() });
    }
    if text.starts_with("unix:") {
        return Err(UpstreamError::Unix);
    }
    let (host, port) = parse_host_port(text)?;
    Ok(UpstreamConfig { scheme: UpstreamScheme::Mtls, host, port })
}

/// Reads an inbound `tcp` listener's upstream: `HOST:PORT` or `unix:/PATH`, a relative one from `base` on.
pub(super) fn parse_stream(text: &str, base: &Path) -> Result<UpstreamConfig, UpstreamError> {
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_socket(path, base);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(UpstreamError::SchemeOfStream { scheme: scheme.into(), rest: rest.into() });
    }
    if text.starts_with(['/', '.']) {
        return Err(UpstreamError::BareSocket { path: text.into() });
    }
    let (host, port) = parse_host_port(text)?;
    Ok(UpstreamConfig { scheme: UpstreamScheme::Plain, host, port })
}

/// The same of a `postgres` listener, where a folder stands for the socket in it.
///
/// # Source
/// The name of the socket: PostgreSQL, `src/include/libpq/pqcomm.h`, `UNIXSOCK_PATH`.
pub(super) fn parse_postgres(text: &str, base: &Path) -> Result<UpstreamConfig, UpstreamError> {
    let is_socket = |path: &str| path.rsplit('/').next().is_some_and(|name| name.starts_with(".s.PGSQL."));
    match text.strip_prefix("unix:") {
        Some(folder) if !folder.is_empty() && !is_socket(folder) => {
            parse_socket(&format!("{}/.s.PGSQL.5432", folder.trim_end_matches('/')), base)
        }
        _ => parse_stream(text, base).map_err(|error| match error {
            UpstreamError::NoPort { text } => UpstreamError::NoPostgresPort { text },
            error => error,
        }),
    }
}

fn parse_socket(path: &str, base: &Path) -> Result<UpstreamConfig, UpstreamError> {
    // sockaddr_un has 108 bytes for it, the terminating NUL included (unix(7)).
    const LONGEST: usize = 107;
    if path.is_empty() {
        return Err(UpstreamError::NoSocketPath);
    }
    let path = base.join(path).display().to_string();
    if path.len() > LONGEST {
        return Err(UpstreamError::SocketPathTooLong { bytes: path.len(), longest: LONGEST });
    }
    Ok(UpstreamConfig { scheme: UpstreamScheme::Unix, host: path, port: 0 })
}

impl UpstreamConfig {
    /// Whether only this machine can answer: a loopback address or `localhost`.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.scheme == UpstreamScheme::Unix
            || self.ip().map_or_else(|| self.host.eq_ignore_ascii_case("localhost"), address::is_loopback)
    }

    /// The host, if it is an IP address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl std::fmt::Display for UpstreamConfig {
    /// `http://127.0.0.1:9000`, `lake.data.svc:8443`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.scheme {
            UpstreamScheme::Http => "http://",
            UpstreamScheme::H2c => "h2c://",
            UpstreamScheme::Mtls | UpstreamScheme::Plain => "",
            UpstreamScheme::Unix => return write!(f, "unix:{}", self.host),
        })?;
        match self.ip() {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

fn parse_host_port(text: &str) -> Result<(String, u16), UpstreamError> {
    if let Some((userinfo, _)) = text.rsplit_once('@') {
        return Err(UpstreamError::Userinfo { bytes: userinfo.len() });
    }
    if let Some((_, rest)) = text.split_once(['/', '?', '#']) {
        let length = text.len() - rest.len() - 1;
        let (authority, extra) = text.split_at_checked(length).unwrap_or((text, ""));
        return Err(UpstreamError::Path { authority: authority.into(), extra: extra.into() });
    }
    let (host, port) = match text.rsplit_once(':') {
        _ if text.parse::<Ipv6Addr>().is_ok() => return Err(UpstreamError::NoBrackets { text: text.into() }),
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => return Err(UpstreamError::NoPort { text: text.into() }),
    };
    if host.parse::<Ipv6Addr>().is_ok() {
        return Err(UpstreamError::NoBrackets { text: host.into() });
    }
    let number = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse::<u16>().ok()).flatten();
    let number = number.filter(|number| *number != 0).ok_or_else(|| UpstreamError::Port { port: port.into() })?;
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(ip) => {
            ip.parse::<Ipv6Addr>().map_err(|_| UpstreamError::Host(HostError::Ipv6 { text: ip.into() }))?.to_string()
        }
        None => parse_host(host)?,
    };
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
        return Err(UpstreamError::Unspecified { host });
    }
    Ok((host, number))
}

/// Reads a host name or an IPv4 address, and writes it in lower case.
///
/// # Source
/// RFC 1123, 2.1 and RFC 952 with the underscore that Compose and Windows names have; lengths by RFC 1035, 2.3.4.
pub(super) fn parse_host(text: &str) -> Result<String, HostError> {
    const LONGEST_NAME: usize = 253;
    const LONGEST_LABEL: usize = 63;
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if let Some(character) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_')) {
        return Err(HostError::Character { text: text.into(), character });
    }
    if name.len() > LONGEST_NAME {
        return Err(HostError::TooLong { bytes: name.len(), longest: LONGEST_NAME });
    }
    for label in name.split('.') {
        if label.is_empty() || label.starts_with('-') || label.ends_with('-') {
            return Err(HostError::Label { text: text.into(), label: label.into() });
        }
        if label.len() > LONGEST_LABEL {
            return Err(HostError::TooLong { bytes: label.len(), longest: LONGEST_LABEL });
        }
    }
    if name.parse::<IpAddr>().is_err() && is_numeric(name) {
        return Err(HostError::Numeric { text: text.into() });
    }
    Ok(text.to_ascii_lowercase())
}

/// Resolvers read `127.1` and `0x7f.1` as IPv4 addresses (inet_aton(3)): nobody would see which one is meant.
fn is_numeric(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    hex || last.bytes().all(|byte| byte.is_ascii_digit())
}

/// Why a text is no upstream.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum UpstreamError {
    #[error("upstream `{text}` does not say what is spoken to it")]
    NoScheme { text: String },
    #[error("`{scheme}://` is not spoken to upstreams")]
    Scheme { scheme: String, rest: String },
    #[error("an outbound upstream is `HOST:PORT` without `{scheme}://`: it is always spoken to by mTLS")]
    SchemeOfMtls { scheme: String, rest: String },
    #[error("`https://` upstreams come in a later version")]
    Https,
    #[error("an upstream that is spoken to by HTTP or mTLS cannot be a Unix socket")]
    Unix,
    #[error("a `tcp` or `postgres` upstream is `HOST:PORT` or `unix:/PATH`, without `{scheme}://`")]
    SchemeOfStream { scheme: String, rest: String },
    #[error("upstream `{path}` is a path")]
    BareSocket { path: String },
    #[error("the socket has no path")]
    NoSocketPath,
    #[error("the path of the socket has {bytes} bytes, at most {longest} are possible")]
    SocketPathTooLong { bytes: usize, longest: usize },
    #[error("upstream `{text}` has no port")]
    NoPort { text: String },
    #[error("upstream `{text}` has no port")]
    NoPostgresPort { text: String },
    #[error("`{port}` is not a port, which is a number from 1 to 65535")]
    Port { port: String },
    #[error("IPv6 address `{text}` is not in brackets")]
    NoBrackets { text: String },
    #[error("upstream has user information, {bytes} bytes before the `@`")]
    Userinfo { bytes: usize },
    #[error("upstream has `{extra}` after the port; requests keep their own path")]
    Path { authority: String, extra: String },
    #[error("`{host}` is no address to connect to")]
    Unspecified { host: String },
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Advice for UpstreamError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::NoScheme { text } => format!("write `http://{text}`, or `h2c://{text}` for HTTP/2 without TLS"),
            Self::Scheme { rest, .. } => format!("write `http://{rest}`, or `h2c://{rest}` for HTTP/2 without TLS"),
            Self::SchemeOfMtls { rest, .. } => format!("write `{rest}`"),
            Self::Https => "write the plain address of the local service, for example `http://127.0.0.1:9000`".into(),
            Self::Unix => "let the service listen on a port, and name that".into(),
            Self::SchemeOfStream { rest, .. } => format!("write `{rest}`"),
            Self::BareSocket { path } => format!("write `unix:{path}`"),
            Self::NoSocketPath => "for example `unix:/run/postgresql`".into(),
            Self::SocketPathTooLong { .. } => "let the service make its socket in a folder with a shorter path".into(),
            Self::NoPort { text } => format!("write `{text}:PORT`"),
            Self::NoPostgresPort { text } => format!("write `{text}:5432`, or another port"),
            Self::Port { .. } => "write `HOST:PORT`".into(),
            Self::NoBrackets { .. } => "write `[ADDRESS]:PORT`, for example `[::1]:9000`".into(),
            Self::Userinfo { .. } => "remove what stands before the host, and the `@`".into(),
            Self::Path { authority, .. } => format!("end after the port: `{authority}`"),
            Self::Unspecified { .. } => "write `127.0.0.1` for this machine".into(),
            Self::Host(error) => return error.advice(),
        })
    }
}

/// Why a text is no host.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum HostError {
    #[error("the host is empty")]
    Empty,
    #[error("host `{text}` has the character `{}`, only a-z 0-9 . - _ are allowed", character.escape_default())]
    Character { text: String, character: char },
    #[error("host `{text}` has the label `{label}`, which is empty or begins or ends with `-`")]
    Label { text: String, label: String },
    #[error("a part of the host has {bytes} bytes, at most {longest} are allowed")]
    TooLong { bytes: usize, longest: usize },
    #[error("host `{text}` is neither a name nor an IPv4 address of four numbers")]
    Numeric { text: String },
    #[error("`{text}` is not an IPv6 address")]
    Ipv6 { text: String },
    #[error("host `{text}` has a port")]
    HasPort { text: String, host: String },
    #[error("host `{text}` has a wildcard")]
    Wildcard { text: String },
}

impl Advice for HostError {
    fn advice(&self) -> Option<String> {
        match self {
            Self::HasPort { host, .. } => Some(format!("a Host is known without its port: write `{host}`")),
            Self::Wildcard { .. } => Some("name each Host; for S3 buckets in the Host see `host_suffixes`".into()),
            Self::Label { .. } => Some("write labels with one dot between them, for example `api.example`".into()),
            Self::Numeric { .. } => Some("write the address as four numbers, for example `127.0.0.1`".into()),
            _ => None,
        }
    }
}

/// Reads an entry of `hosts`: a Host header's value without port, as requests are compared with it.
pub(super) fn parse_known_host(text: &str) -> Result<String, HostError> {
    if text.contains('*') {
        return Err(HostError::Wildcard { text: text.into() });
    }
    if let Some(ip) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let ip: Ipv6Addr = ip.parse().map_err(|_| HostError::Ipv6 { text: ip.into() })?;
        return Ok(format!("[{ip}]"));
    }
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return Ok(format!("[{ip}]"));
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(HostError::HasPort { text: text.into(), host: host.into() });
    }
    parse_host(text).map(|host| host.strip_suffix('.').map(str::to_owned).unwrap_or(host))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn upstreams_are_read() {
        for (text, scheme, host, port) in [
            ("http://127.0.0.1:9000", UpstreamScheme::Http, "127.0.0.1", 9000),
            ("h2c://localhost:50051", UpstreamScheme::H2c, "localhost", 50051),
            ("http://[::1]:80", UpstreamScheme::Http, "::1", 80),
        ] {
            let upstream = parse_plain(text).unwrap();
            assert_eq!((upstream.scheme, upstream.host.as_str(), upstream.port), (scheme, host, port));
            assert!(upstream.is_loopback());
            assert_eq!(upstream.to_string(), text);
        }
        let upstream = parse_mtls("Lake.data.svc.cluster.local.:8443").unwrap();
        assert_eq!((upstream.host.as_str(), upstream.port), ("lake.data.svc.cluster.local.", 8443));
        assert!(!upstream.is_loopback());
    }

    #[test]
    fn what_is_no_upstream_is_refused_with_its_reason() {
        let own = str::to_owned;
        for (text, expected) in [
            ("127.0.0.1:9000", UpstreamError::NoScheme { text: own("127.0.0.1:9000") }),
            ("ftp://a:1", UpstreamError::Scheme { scheme: own("ftp"), rest: own("a:1") }),
            ("HTTP://a:1", UpstreamError::Scheme { scheme: own("HTTP"), rest: own("a:1") }),
            ("https://a:1", UpstreamError::Https),
            ("unix:/run/a", UpstreamError::Unix),
            ("http://a", UpstreamError::NoPort { text: own("a") }),
            ("http://[::1]", UpstreamError::NoPort { text: own("[::1]") }),
            ("http://a:0", UpstreamError::Port { port: own("0") }),
            ("http://a:", UpstreamError::Port { port: own("") }),
            ("http://a:+1", UpstreamError::Port { port: own("+1") }),
            ("http://::1:80", UpstreamError::NoBrackets { text: own("::1:80") }),
            ("http://u:secret@a:1", UpstreamError::Userinfo { bytes: 8 }),
            ("http://a:1/", UpstreamError::Path { authority: own("a:1"), extra: own("/") }),
            ("http://a:1?q", UpstreamError::Path { authority: own("a:1"), extra: own("?q") }),
            ("http://a:1#f", UpstreamError::Path { authority: own("a:1"), extra: own("#f") }),
            ("http://0.0.0.0:1", UpstreamError::Unspecified { host: own("0.0.0.0") }),
            ("http://:1", UpstreamError::Host(HostError::Empty)),
            ("http://127.1:1", UpstreamError::Host(HostError::Numeric { text: own("127.1") })),
            ("http://0x7f000001:1", UpstreamError::Host(HostError::Numeric { text: own("0x7f000001") })),
            ("http://a..b:1", UpstreamError::Host(HostError::Label { text: own("a..b"), label: own("") })),
            ("http://a b:1", UpstreamError::Host(HostError::Character { text: own("a b"), character: ' ' })),
            ("http://[::z]:1", UpstreamError::Host(HostError::Ipv6 { text: own("::z") })),
        ] {
            assert_eq!(parse_plain(text), Err(expected), "{text}");
        }
        let expected = UpstreamError::SchemeOfMtls { scheme: own("http"), rest: own("a:1") };
        assert_eq!(parse_mtls("http://a:1"), Err(expected));
    }

    #[test]
    fn loopback_is_judged_by_address_not_by_look() {
        let loopback = |text: &str| parse_mtls(text).unwrap().is_loopback();
        assert!(loopback("127.8.8.8:1"));
        assert!(loopback("[::ffff:127.0.0.1]:1"));
        assert!(!loopback("localhost.example:1"));
        assert!(!loopback("10.0.0.1:1"));
    }

    #[test]
    fn known_hosts_are_written_as_requests_are_compared() {
        assert_eq!(parse_known_host("API.Example."), Ok("api.example".into()));
        assert_eq!(parse_known_host("::1"), Ok("[::1]".into()));
        assert_eq!(parse_known_host("[0:0::1]"), Ok("[::1]".into()));
        let refusal = HostError::HasPort { text: "api:80".into(), host: "api".into() };
        assert_eq!(parse_known_host("api:80"), Err(refusal));
        assert_eq!(parse_known_host("*.api"), Err(HostError::Wildcard { text: "*.api".into() }));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_is_written_alike(text in "(http://|h2c://|)[a-z0-9.:@/\\[\\]%\u{e9}-]{0,30}") {
            if let Ok(upstream) = parse_plain(&text) {
                prop_assert_eq!(parse_plain(&upstream.to_string()), Ok(upstream));
            }
            let _ = (parse_mtls(&text), parse_known_host(&text));
        }
    }
}
