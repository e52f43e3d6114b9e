//! The packets without a tag that a connection begins with.

use bytes::{BufMut as _, Bytes, BytesMut};
use thiserror::Error;

use super::StartupPacket;

/// What a connection may begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::protocol::postgres) enum FirstPacket {
    /// May TLS begin?
    SslRequest,
    /// May GSSAPI encryption begin?
    GssEncRequest,
    /// Another connection's statement is to be cancelled.
    Cancel(CancelRequest),
    /// A session.
    Startup(StartupPacket),
}

/// Which statement is to be cancelled: that of the session with this key.
#[derive(Clone, PartialEq, Eq)]
pub(in crate::protocol::postgres) struct CancelRequest {
    /// The process id of BackendKeyData.
    pub(in crate::protocol::postgres) pid: u32,
    /// Its secret: 4 bytes, with protocol 3.2 up to 256.
    pub(in crate::protocol::postgres) secret: Bytes,
}

/// Without the secret.
impl std::fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelRequest").field("pid", &self.pid).finish_non_exhaustive()
    }
}

/// Why bytes are no first packet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::protocol::postgres) enum PacketError {
    #[error("first packet says that it is {length} bytes long, which has to be 8 to 10000")]
    Length { length: u32 },
    #[error("first packet is {bytes} bytes long and not {length}")]
    Incomplete { bytes: usize, length: usize },
    #[error("request `{code}` is {bytes} bytes long")]
    RequestLength { code: &'static str, bytes: usize },
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2")]
    Version { major: u16, minor: u16 },
    #[error("startup packet has no terminator where its last parameter ends")]
    Terminator,
    #[error("startup packet is not UTF-8")]
    Encoding,
    #[error("startup packet has a parameter without a name")]
    EmptyName,
    #[error("startup packet has the parameter `{name}` more than once")]
    Repeated { name: String },
}

impl PacketError {
    /// The rule, as records name it.
    pub(in crate::protocol::postgres) const fn rule(&self) -> &'static str {
        match self {
            Self::Length { .. } | Self::Incomplete { .. } | Self::RequestLength { .. } => "startup-length",
            Self::Version { .. } => "protocol-version",
            Self::Terminator | Self::EmptyName => "startup-layout",
            Self::Encoding => "startup-encoding",
            Self::Repeated { .. } => "startup-repeated",
        }
    }

    /// What the client is told: `0A000` for a version that nobody speaks, else `08P01`.
    pub(in crate::protocol::postgres) const fn sqlstate(&self) -> &'static str {
        match self {
            Self::Version { .. } => "0A000",
            _ => "08P01",
        }
    }
}

/// `NEGOTIATE_SSL_CODE`, `NEGOTIATE_GSS_CODE` and `CANCEL_REQUEST_CODE` (pqcomm.h).
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// As PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`.
const LONGEST: usize = 10_000;
/// Longest secret of a protocol 3.2 key.
const LONGEST_SECRET: usize = 256;

/// How long the packet is that begins with these bytes, they included.
///
/// # Errors
/// No packet is that short or that long.
pub(in crate::protocol::postgres) fn packet_length(head: [u8; 4]) -> Result<usize, PacketError> {
    let length = u32::from_be_bytes(head);
    match usize::try_from(length) {
        Ok(bytes @ 8..=LONGEST) => Ok(bytes),
        _ => Err(PacketError::Length { length }),
    }
}

/// Reads a whole packet, its length included.
///
/// # Errors
/// The rule that it breaks.
pub(in crate::protocol::postgres) fn parse_first(bytes: &[u8]) -> Result<FirstPacket, PacketError> {
    let Some((&[a, b, c, d, e, f, g, h], rest)) = bytes.split_first_chunk::<8>() else {
        return Err(PacketError::Incomplete { bytes: bytes.len(), length: 8 });
    };
    let length = packet_length([a, b, c, d])?;
    if length != bytes.len() {
        return Err(PacketError::Incomplete { bytes: bytes.len(), length });
    }
    let bare = |code, packet| match rest {
        [] => Ok(packet),
        _ => Err(PacketError::RequestLength { code, bytes: length }),
    };
    match u32::from_be_bytes([e, f, g, h]) {
        SSL_REQUEST => bare("SSLRequest", FirstPacket::SslRequest),
        GSSENC_REQUEST => bare("GSSENCRequest", FirstPacket::GssEncRequest),
        CANCEL_REQUEST => match rest.split_first_chunk::<4>() {
            Some((pid, secret)) if (4..=LONGEST_SECRET).contains(&secret.len()) => {
                let (pid, secret) = (u32::from_be_bytes(*pid), Bytes::copy_from_slice(secret));
                Ok(FirstPacket::Cancel(CancelRequest { pid, secret }))
            }
            _ => Err(PacketError::RequestLength { code: "CancelRequest", bytes: length }),
        },
        _ => match (u16::from_be_bytes([e, f]), u16::from_be_bytes([g, h])) {
            (3, minor) => StartupPacket::parse(minor, rest).map(FirstPacket::Startup),
            (major, minor) => Err(PacketError::Version { major, minor }),
        },
    }
}

impl FirstPacket {
    /// The packet as it is sent.
    pub(in crate::protocol::postgres) fn to_bytes(&self) -> BytesMut {
        match self {
            Self::SslRequest => untyped(SSL_REQUEST, &[]),
            Self::GssEncRequest => untyped(GSSENC_REQUEST, &[]),
            Self::Cancel(cancel) => {
                untyped(CANCEL_REQUEST, &[cancel.pid.to_be_bytes().as_slice(), &cancel.secret].concat())
            }
            Self::Startup(startup) => startup.to_bytes(),
        }
    }
}

/// A packet without a tag.
pub(super) fn untyped(code: u32, body: &[u8]) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(8 + body.len());
    // Nothing here is longer than a packet or a configured setting: far below 4 GiB.
    bytes.put_u32(u32::try_from(8 + body.len()).unwrap_or(u32::MAX));
    bytes.put_u32(code);
    bytes.put_slice(body);
    bytes
}
