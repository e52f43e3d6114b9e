//! The options of `protocol: tcp`.

use std::net::IpAddr;

use thiserror::Error;

use super::errors::Advice;
use super::file::{DatabaseKeys, InboundDatabaseKeys, KeyPath, ProtocolKey};
use super::listener::each;
use super::reading::Reading;
use super::{Network, TcpConfig};

/// The keys that an inbound listener has for it.
pub(super) fn inbound_keys(keys: &InboundDatabaseKeys) -> Vec<(&'static str, &'static [ProtocolKey], bool)> {
    const TCP: &[ProtocolKey] = &[ProtocolKey::Tcp];
    vec![
        ("send_proxy_protocol", TCP, keys.send_proxy_protocol.is_some()),
        ("accept_proxy_protocol_from", TCP, keys.accept_proxy_protocol_from.is_some()),
    ]
}

pub(super) fn inbound(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: &InboundDatabaseKeys,
    common: &DatabaseKeys,
) -> Option<TcpConfig> {
    let path = at.key("accept_proxy_protocol_from");
    let networks = each(reading, &path, keys.accept_proxy_protocol_from.as_deref(), parse_network);
    Some(TcpConfig {
        send_proxy: keys.send_proxy_protocol.unwrap_or(false),
        accept_proxy_from: networks?,
        ..outbound(common)
    })
}

pub(super) fn outbound(common: &DatabaseKeys) -> TcpConfig {
    TcpConfig { lifetime: common.lifetime.map(|key| key.0), ..TcpConfig::default() }
}

/// Reads `10.0.0.0/8`, `fd00::/8`, or one address.
fn parse_network(text: &str) -> Result<Network, NetworkError> {
    let own = || text.to_owned();
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| NetworkError::Address { text: own() })?;
    let longest: u8 = if address.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix {
        None => longest,
        Some(digits) => digits
            .parse()
            .ok()
            .filter(|prefix| *prefix <= longest && digits.bytes().all(|byte| byte.is_ascii_digit()))
            .ok_or_else(|| NetworkError::Prefix { text: own(), longest })?,
    };
    let first = first_of(address, prefix);
    match first == address {
        true => Ok(Network { address, prefix }),
        false => Err(NetworkError::HostBits { text: own(), first, prefix }),
    }
}

fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & mask).into())
        }
    }
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
enum NetworkError {
    #[error("`{text}` is not an IP address or network")]
    Address { text: String },
    #[error("`{text}` does not end in a prefix length from 0 to {longest}")]
    Prefix { text: String, longest: u8 },
    #[error("`{text}` has bits beyond its prefix")]
    HostBits { text: String, first: IpAddr, prefix: u8 },
}

impl Advice for NetworkError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Address { .. } => "write for example `10.0.0.0/8`, `192.0.2.7` or `fd00::/8`".into(),
            Self::Prefix { .. } => "write for example `10.0.0.0/8`".into(),
            Self::HostBits { first, prefix, text } => {
                let address = text.split('/').next().unwrap_or(text);
                format!("write `{first}/{prefix}`, or `{address}` for the one address")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_the_addresses_that_their_prefix_leaves_open() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::10.1.2.3"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("fd00::/8", "fdff::1", "fe00::"),
            ("::1", "::1", "127.0.0.1"),
            ("0.0.0.0/0", "255.255.255.255", "::"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
        ] {
            let network = parse_network(text).unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!network.contains(outside.parse().unwrap()), "{outside} not in {text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused_with_its_reason() {
        let own = str::to_owned;
        for text in ["", "lake", "10.0.0/8", "10.0.0.0.0", "localhost/8", "/8"] {
            assert_eq!(parse_network(text), Err(NetworkError::Address { text: own(text) }), "{text}");
        }
        for text in ["10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/8/8", "10.0.0.0/256"] {
            assert_eq!(parse_network(text), Err(NetworkError::Prefix { text: own(text), longest: 32 }), "{text}");
        }
        let refused = parse_network("10.1.0.0/8").unwrap_err();
        assert_eq!(refused.to_string(), "`10.1.0.0/8` has bits beyond its prefix");
        assert_eq!(refused.advice().unwrap(), "write `10.0.0.0/8`, or `10.1.0.0` for the one address");
    }
}
