//! The PROXY protocol, version 2: who connects, said in front of the first byte.
//!
//! # Source
//! HAProxy, `doc/proxy-protocol.txt`, section 2.2 (binary header format) and 2.2.1 ff. (TLVs).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use thiserror::Error;

/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, length.
pub(super) const FIXED_BYTES: usize = 16;
/// Addresses take 36 bytes at most here; the rest are TLVs, of which a load balancer sends some hundred bytes.
pub(super) const MOST_BYTES: usize = 4096;

const VERSION_LOCAL: u8 = 0x20;
const VERSION_PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

const TYPE_ALPN: u8 = 0x01;
const TYPE_UNIQUE_ID: u8 = 0x05;
const TYPE_SSL: u8 = 0x20;
const SUBTYPE_SSL_VERSION: u8 = 0x21;
/// The first of the types that are left to applications (2.2.7): the peer's SPIFFE ID.
pub(super) const TYPE_SPIFFE_ID: u8 = 0xE0;
/// It came by TLS, and showed a certificate on this connection and in this session.
const SSL_WITH_CERTIFICATE: u8 = 0x07;

/// What an upstream is told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announcement<'a> {
    /// Where the peer connects from, and to; none if by no IP.
    pub(super) addresses: Option<(SocketAddr, SocketAddr)>,
    /// What was agreed by ALPN.
    pub(super) alpn: Option<&'a [u8]>,
    /// The peer's TLS version, if it came by TLS.
    pub(super) tls_version: Option<&'a str>,
    /// Who the peer is.
    pub(super) spiffe_id: &'a str,
    /// The decision that let it through.
    pub(super) decision_id: &'a str,
}

impl Announcement<'_> {
    /// The header.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(160);
        let family = match self.addresses {
            None => UNSPECIFIED,
            Some((from, to)) => encode_addresses(&mut body, from, to),
        };
        if let Some(alpn) = self.alpn {
            tlv(&mut body, TYPE_ALPN, alpn);
        }
        tlv(&mut body, TYPE_UNIQUE_ID, self.decision_id.as_bytes());
        if let Some(version) = self.tls_version {
            // `verify` is 0: the certificate was presented and found good.
            let mut ssl = vec![SSL_WITH_CERTIFICATE, 0, 0, 0, 0];
            tlv(&mut ssl, SUBTYPE_SSL_VERSION, version.as_bytes());
            tlv(&mut body, TYPE_SSL, &ssl);
        }
        tlv(&mut body, TYPE_SPIFFE_ID, self.spiffe_id.as_bytes());
        let mut header = Vec::with_capacity(FIXED_BYTES + body.len());
        header.extend_from_slice(&SIGNATURE);
        header.extend_from_slice(&[VERSION_PROXY, family]);
        header.extend_from_slice(&length(&body).to_be_bytes());
        header.append(&mut body);
        header
    }
}

fn encode_addresses(body: &mut Vec<u8>, from: SocketAddr, to: SocketAddr) -> u8 {
    let family = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            body.extend_from_slice(&from.octets());
            body.extend_from_slice(&to.octets());
            TCP_OVER_IPV4
        }
        // One header has one family: an IPv4 address beside an IPv6 one is written as that.
        (from, to) => {
            body.extend_from_slice(&as_ipv6(from).octets());
            body.extend_from_slice(&as_ipv6(to).octets());
            TCP_OVER_IPV6
        }
    };
    body.extend_from_slice(&from.port().to_be_bytes());
    body.extend_from_slice(&to.port().to_be_bytes());
    family
}

fn as_ipv6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

fn tlv(body: &mut Vec<u8>, kind: u8, value: &[u8]) {
    body.push(kind);
    body.extend_from_slice(&length(value).to_be_bytes());
    body.extend_from_slice(value);
}

/// INVARIANT: a SPIFFE ID has at most 2,048 bytes, a decision id 26, an ALPN name 255: no length overflows.
fn length(value: &[u8]) -> u16 {
    u16::try_from(value.len()).unwrap_or(u16::MAX)
}

/// How many bytes follow the first [`FIXED_BYTES`].
pub(super) fn body_length(fixed: &[u8; FIXED_BYTES]) -> Result<usize, ProxyHeaderError> {
    let Some((signature, [_, _, high, low])) = fixed.split_first_chunk::<12>() else {
        return Err(ProxyHeaderError::Missing);
    };
    if *signature != SIGNATURE {
        return Err(ProxyHeaderError::Missing);
    }
    let bytes = usize::from(u16::from_be_bytes([*high, *low]));
    if bytes > MOST_BYTES { Err(ProxyHeaderError::TooLong { bytes, most: MOST_BYTES }) } else { Ok(bytes) }
}

/// The address that a header announces; none if the connection is the sender's own, a health check for example.
pub(super) fn announced(fixed: &[u8; FIXED_BYTES], body: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
    let [.., command, family, _, _] = *fixed;
    match (command, family) {
        // "The receiver must accept this connection as valid and must use the real connection endpoints."
        (VERSION_LOCAL, _) | (VERSION_PROXY, UNSPECIFIED) => Ok(None),
        (VERSION_PROXY, TCP_OVER_IPV4) => {
            let (addresses, tlvs) = body.split_first_chunk::<12>().ok_or(ProxyHeaderError::Short)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            check_tlvs(tlvs)?;
            Ok(Some(SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])))))
        }
        (VERSION_PROXY, TCP_OVER_IPV6) => {
            let (addresses, tlvs) = body.split_first_chunk::<36>().ok_or(ProxyHeaderError::Short)?;
            let (source, rest) = addresses.split_first_chunk::<16>().ok_or(ProxyHeaderError::Short)?;
            let [.., high, low, _, _] = *rest else { return Err(ProxyHeaderError::Short) };
            check_tlvs(tlvs)?;
            let ip = IpAddr::from(*source).to_canonical();
            Ok(Some(SocketAddr::new(ip, u16::from_be_bytes([high, low]))))
        }
        (VERSION_PROXY, family) => Err(ProxyHeaderError::Family { family }),
        (command, _) => Err(ProxyHeaderError::Command { command }),
    }
}

/// What follows the addresses must be whole TLVs: else sender and receiver do not mean the same header.
fn check_tlvs(mut rest: &[u8]) -> Result<(), ProxyHeaderError> {
    while let Some(([_, high, low], after)) = rest.split_first_chunk::<3>() {
        let bytes = usize::from(u16::from_be_bytes([*high, *low]));
        rest = after.get(bytes..).ok_or(ProxyHeaderError::Tlv)?;
    }
    if rest.is_empty() { Ok(()) } else { Err(ProxyHeaderError::Tlv) }
}

/// Why a connection of a load balancer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum ProxyHeaderError {
    #[error("connection does not begin with a PROXY protocol version 2 header")]
    Missing,
    #[error("PROXY header has {bytes} bytes after its fixed part, at most {most} are allowed")]
    TooLong { bytes: usize, most: usize },
    #[error("PROXY header is too short for its addresses")]
    Short,
    #[error("PROXY header has the command `{command:#04x}`, which is neither LOCAL nor PROXY")]
    Command { command: u8 },
    #[error("PROXY header has the family `{family:#04x}`, which is not TCP over IPv4 or IPv6")]
    Family { family: u8 },
    #[error("PROXY header ends in the middle of a TLV")]
    Tlv,
}

impl ProxyHeaderError {
    /// As records name it.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::Missing => "proxy-header-missing",
            _ => "proxy-header-invalid",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(header: &[u8]) -> Result<Option<SocketAddr>, ProxyHeaderError> {
        let (fixed, rest) = header.split_first_chunk::<FIXED_BYTES>().ok_or(ProxyHeaderError::Missing)?;
        let length = body_length(fixed)?;
        announced(fixed, rest.get(..length).ok_or(ProxyHeaderError::Short)?)
    }

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend_from_slice(&[command, family]);
        header.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        header.extend_from_slice(body);
        header
    }

    fn announcement(addresses: Option<(SocketAddr, SocketAddr)>) -> Announcement<'static> {
        Announcement {
            addresses,
            alpn: None,
            tls_version: Some("TLSv1.3"),
            spiffe_id: "spiffe://td/a",
            decision_id: "01HZ",
        }
    }

    #[test]
    fn a_header_is_written_byte_for_byte_as_the_document_says() {
        let addresses = ("192.0.2.1:1000".parse().unwrap(), "192.0.2.2:443".parse().unwrap());
        let mut expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x35\xc0\0\x02\x01\xc0\0\x02\x02\x03\xe8\x01\xbb".to_vec();
        expected.extend_from_slice(b"\x05\0\x0401HZ");
        expected.extend_from_slice(b"\x20\0\x0f\x07\0\0\0\0\x21\0\x07TLSv1.3");
        expected.extend_from_slice(b"\xe0\0\x0dspiffe://td/a");
        assert_eq!(announcement(Some(addresses)).encode(), expected);
        let without = Announcement { tls_version: None, alpn: Some(b"x"), ..announcement(None) }.encode();
        assert_eq!(&without[12..20], b"\x21\0\0\x1b\x01\0\x01x", "unspecified, and no TLS told of");
    }

    #[test]
    fn what_is_written_is_read() {
        for (from, to, read_as) in [
            ("192.0.2.1:1000", "192.0.2.2:443", "192.0.2.1:1000"),
            ("[2001:db8::1]:1", "[2001:db8::2]:2", "[2001:db8::1]:1"),
            ("[::ffff:192.0.2.1]:1", "192.0.2.2:2", "192.0.2.1:1"),
            ("192.0.2.1:1", "[2001:db8::2]:2", "192.0.2.1:1"),
        ] {
            let header = announcement(Some((from.parse().unwrap(), to.parse().unwrap()))).encode();
            assert_eq!(read(&header), Ok(Some(read_as.parse().unwrap())), "{from}");
        }
        assert_eq!(read(&announcement(None).encode()), Ok(None));
    }

    #[test]
    fn a_health_check_of_the_balancer_keeps_its_own_address() {
        assert_eq!(read(&header(VERSION_LOCAL, UNSPECIFIED, b"")), Ok(None));
        assert_eq!(read(&header(VERSION_LOCAL, TCP_OVER_IPV4, &[1; 12])), Ok(None));
    }

    #[test]
    fn what_is_no_such_header_is_refused_with_its_reason() {
        use ProxyHeaderError as E;
        assert_eq!(read(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), Err(E::Missing), "version 1");
        assert_eq!(read(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03aaaaaaaaaaaaa"), Err(E::Missing), "TLS");
        assert_eq!(read(&header(0x11, TCP_OVER_IPV4, &[1; 12])), Err(E::Command { command: 0x11 }));
        assert_eq!(read(&header(0x22, TCP_OVER_IPV4, &[1; 12])), Err(E::Command { command: 0x22 }));
        assert_eq!(read(&header(VERSION_PROXY, 0x12, &[1; 12])), Err(E::Family { family: 0x12 }), "UDP");
        assert_eq!(read(&header(VERSION_PROXY, 0x31, &[1; 216])), Err(E::Family { family: 0x31 }), "Unix");
        assert_eq!(read(&header(VERSION_PROXY, TCP_OVER_IPV4, &[1; 11])), Err(E::Short));
        assert_eq!(read(&header(VERSION_PROXY, TCP_OVER_IPV6, &[1; 35])), Err(E::Short));
        assert_eq!(read(&header(VERSION_PROXY, TCP_OVER_IPV4, &[1; 13])), Err(E::Tlv));
        assert_eq!(read(&header(VERSION_PROXY, TCP_OVER_IPV4, &[&[1; 12][..], &[4, 0, 2, 1]].concat())), Err(E::Tlv));
        let long = E::TooLong { bytes: 4097, most: 4096 };
        assert_eq!(read(&header(VERSION_PROXY, TCP_OVER_IPV4, &[1; 4097])), Err(long));
        assert_eq!((E::Missing.rule(), long.rule()), ("proxy-header-missing", "proxy-header-invalid"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), command in 0x1f_u8..0x23, family in 0_u8..0x33) {
            let _ = (read(&bytes), read(&header(command, family, &bytes)));
        }
    }
}
