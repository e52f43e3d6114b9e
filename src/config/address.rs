//! Addresses to listen on.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use thiserror::Error;

use super::errors::Advice;

/// Reads `IP:PORT`, an IPv6 address in brackets.
pub(super) fn parse(text: &str) -> Result<SocketAddr, AddressError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let text = text.to_owned();
    if text.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return Err(AddressError::NoBrackets { text });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !text.ends_with(']') => (host, port),
        _ => return Err(AddressError::NoPort { text }),
    };
    if port.parse::<u16>().is_err() || !port.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(AddressError::Port { port: port.into() });
    }
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return Err(AddressError::NoBrackets { text: host.into() });
    }
    match host {
        "" | "*" => Err(AddressError::NoIp { port: port.into(), text }),
        _ => Err(AddressError::NotAnIp { host: host.into(), port: port.into() }),
    }
}

/// Whether two listening sockets cannot both have their address.
pub(super) fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() != 0 && one.port() == other.port() && (a == b || covers(a, b) || covers(b, a))
}

/// A wildcard takes its whole family; `[::]` takes IPv4 too, as Linux has it unless `bindv6only` is set (ipv6(7)).
fn covers(wildcard: IpAddr, other: IpAddr) -> bool {
    wildcard.is_unspecified() && (wildcard.is_ipv6() || other.is_ipv4())
}

/// Whether only this machine reaches the address.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The loopback address with the same port.
pub(super) fn on_loopback(address: SocketAddr) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, address.port()))
}

/// Why a text is no address to listen on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum AddressError {
    #[error("address `{text}` has no port")]
    NoPort { text: String },
    #[error("`{port}` is not a port, which is a number from 0 to 65535")]
    Port { port: String },
    #[error("IPv6 address `{text}` is not in brackets")]
    NoBrackets { text: String },
    #[error("address `{text}` has no IP address")]
    NoIp { text: String, port: String },
    #[error("`{host}` is not an IP address, and a name may stand for several")]
    NotAnIp { host: String, port: String },
}

impl Advice for AddressError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::NoPort { text } => format!("write `{text}:8443`, or another port"),
            Self::Port { .. } => "write `IP:PORT`, for example `127.0.0.1:8443`".into(),
            Self::NoBrackets { .. } => "write `[ADDRESS]:PORT`, for example `[::1]:8443`".into(),
            Self::NoIp { port, .. } => {
                format!("write `0.0.0.0:{port}` for all interfaces, `127.0.0.1:{port}` for this machine only")
            }
            Self::NotAnIp { port, .. } => format!("write the address itself, for example `127.0.0.1:{port}`"),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read() {
        for text in ["127.0.0.1:0", "0.0.0.0:8443", "[::1]:80", "[::]:65535"] {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_reason() {
        let own = str::to_owned;
        for (text, expected) in [
            ("127.0.0.1", AddressError::NoPort { text: own("127.0.0.1") }),
            ("[::1]", AddressError::NoPort { text: own("[::1]") }),
            ("", AddressError::NoPort { text: own("") }),
            ("127.0.0.1:99999", AddressError::Port { port: own("99999") }),
            ("127.0.0.1:+80", AddressError::Port { port: own("+80") }),
            ("127.0.0.1:http", AddressError::Port { port: own("http") }),
            ("::1", AddressError::NoBrackets { text: own("::1") }),
            ("::1:8443", AddressError::NoBrackets { text: own("::1:8443") }),
            (":8443", AddressError::NoIp { text: own(":8443"), port: own("8443") }),
            ("*:8443", AddressError::NoIp { text: own("*:8443"), port: own("8443") }),
            ("localhost:8443", AddressError::NotAnIp { host: own("localhost"), port: own("8443") }),
            ("127.1:80", AddressError::NotAnIp { host: own("127.1"), port: own("80") }),
        ] {
            assert_eq!(parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn wildcards_take_what_they_cover() {
        let clashing = |a: &str, b: &str| {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(clash(a, b), clash(b, a));
            clash(a, b)
        };
        assert!(clashing("127.0.0.1:80", "127.0.0.1:80"));
        assert!(clashing("0.0.0.0:80", "127.0.0.1:80"));
        assert!(clashing("[::]:80", "127.0.0.1:80"));
        assert!(clashing("[::]:80", "[::1]:80"));
        assert!(clashing("[::ffff:127.0.0.1]:80", "127.0.0.1:80"));
        assert!(!clashing("127.0.0.1:80", "127.0.0.1:81"));
        assert!(!clashing("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!clashing("0.0.0.0:80", "[::1]:80"));
        assert!(!clashing("127.0.0.1:0", "127.0.0.1:0"));
    }

    proptest! {
        #[test]
        fn parse_takes_exactly_what_the_standard_library_takes(text in "[0-9a-f:.\\[\\]*%]{0,30}") {
            prop_assert_eq!(parse(&text).ok(), text.parse().ok());
        }
    }
}
