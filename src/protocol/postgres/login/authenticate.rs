//! The proxy proves that it may be the role: trust, peer, MD5, SCRAM-SHA-256 with and without channel binding; a password in clear
//! only inside verified TLS.

use bytes::{BufMut as _, Bytes, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::LoginError;
use super::password::{self, AskedFor, Password};
use crate::config::PasswordSource;
use crate::protocol::postgres::wire::{Frame, FrameReader, frame};

/// What the proxy logs in with.
#[derive(Debug)]
pub(super) struct Credentials<'a> {
    pub(super) user: &'a str,
    pub(super) database: &'a str,
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) password: Option<&'a PasswordSource>,
    /// What SCRAM binds to.
    pub(super) end_point: Option<Vec<u8>>,
    pub(super) encrypted: bool,
}

impl Credentials<'_> {
    async fn password(&self) -> Result<Password, LoginError> {
        let source = self.password.ok_or(LoginError::NoPassword)?;
        let asked_for = AskedFor {
            user: self.user.to_owned(),
            database: self.database.to_owned(),
            host: self.host.to_owned(),
            port: self.port,
        };
        Ok(password::read(source, asked_for).await?)
    }
}

/// The kinds of authentication message (`AUTH_REQ_…`, protocol.h).
pub(super) const OK: u32 = 0;
pub(super) const CLEARTEXT: u32 = 3;
pub(super) const MD5: u32 = 5;
pub(super) const SASL: u32 = 10;
pub(super) const SASL_CONTINUE: u32 = 11;
pub(super) const SASL_FINAL: u32 = 12;

/// Goes on until the server says that it is content.
pub(super) async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    reader: &mut FrameReader,
    credentials: &Credentials<'_>,
    notices: &mut Vec<Bytes>,
) -> Result<(), LoginError> {
    loop {
        let (kind, rest) = request(io, reader, notices).await?;
        match kind {
            OK => return Ok(()),
            CLEARTEXT if credentials.encrypted => {
                send_password(io, credentials.password().await?.as_bytes()).await?;
            }
            CLEARTEXT => return Err(LoginError::Cleartext),
            MD5 => {
                let salt = rest.as_ref().try_into().map_err(|_| LoginError::server("its salt is not 4 bytes long"))?;
                let password = credentials.password().await?;
                let hash = md5_hash(credentials.user.as_bytes(), password.as_bytes(), salt);
                send_password(io, hash.as_bytes()).await?;
            }
            SASL => {
                let (mechanism, binding) = choose(&rest, credentials)?;
                let password = credentials.password().await?;
                let scram = ScramSha256::new(password.as_bytes(), binding);
                sasl(io, reader, mechanism, scram, notices).await?;
            }
            kind => return Err(LoginError::Unsupported { kind }),
        }
    }
}

/// The server's next authentication message: its kind and what follows.
pub(super) async fn request<S: AsyncRead + Unpin>(
    io: &mut S,
    reader: &mut FrameReader,
    notices: &mut Vec<Bytes>,
) -> Result<(u32, Bytes), LoginError> {
    loop {
        let frame = next(io, reader).await?;
        match frame.tag() {
            b'R' => {
                let whole = frame.into_bytes();
                let kind = whole.get(5..).and_then(|body| body.first_chunk::<4>());
                let kind = kind.ok_or_else(|| LoginError::server("an authentication message without a kind"))?;
                return Ok((u32::from_be_bytes(*kind), whole.slice(9..)));
            }
            b'E' => return Err(LoginError::refused(&frame)),
            b'N' => notices.push(frame.into_bytes()),
            tag => return Err(LoginError::server(format!("message `{}` during login", tag.escape_ascii()))),
        }
    }
}

/// The server's next message.
pub(super) async fn next<S: AsyncRead + Unpin>(io: &mut S, reader: &mut FrameReader) -> Result<Frame, LoginError> {
    loop {
        if let Some(frame) = reader.next()? {
            return Ok(frame);
        }
        if reader.fill(io).await? == 0 {
            return Err(LoginError::server("it closed the connection during login"));
        }
    }
}

/// The names on offer.
pub(super) fn mechanisms(offer: &[u8]) -> impl Iterator<Item = &str> {
    offer.split(|byte| *byte == 0).take_while(|name| !name.is_empty()).filter_map(|name| std::str::from_utf8(name).ok())
}

/// The mechanism to use: bound to the channel wherever both ends can.
///
/// A client that could bind but was offered no PLUS says so (`y`), so that a server that did offer it notices that somebody took it away
/// (RFC 5802, 6).
fn choose(offer: &[u8], credentials: &Credentials<'_>) -> Result<(&'static str, ChannelBinding), LoginError> {
    let offers = |wanted: &str| mechanisms(offer).any(|offered| offered == wanted);
    match &credentials.end_point {
        Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
            Ok((SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(end_point.clone())))
        }
        Some(_) if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(LoginError::Mechanisms),
    }
}

/// SCRAM from its first message to the server's proof.
async fn sasl<S: AsyncRead + AsyncWrite + Unpin>(
    io: &mut S,
    reader: &mut FrameReader,
    mechanism: &str,
    mut scram: ScramSha256,
    notices: &mut Vec<Bytes>,
) -> Result<(), LoginError> {
    let unproved = |error: std::io::Error| LoginError::Unproved { cause: error.to_string() };
    let mut out = BytesMut::new();
    frame(&mut out, b'p', |out| {
        out.put_slice(mechanism.as_bytes());
        out.put_u8(0);
        out.put_u32(u32::try_from(scram.message().len()).unwrap_or(u32::MAX));
        out.put_slice(scram.message());
    });
    send(io, &out).await?;
    let challenge = expect(io, reader, SASL_CONTINUE, notices).await?;
    scram.update(&challenge).map_err(unproved)?;
    out.clear();
    frame(&mut out, b'p', |out| out.put_slice(scram.message()));
    send(io, &out).await?;
    // Without this message the server has not proved that it knows the password, whatever else it says.
    let proof = expect(io, reader, SASL_FINAL, notices).await?;
    scram.finish(&proof).map_err(unproved)
}

async fn expect<S: AsyncRead + Unpin>(
    io: &mut S,
    reader: &mut FrameReader,
    wanted: u32,
    notices: &mut Vec<Bytes>,
) -> Result<Bytes, LoginError> {
    match request(io, reader, notices).await? {
        (kind, rest) if kind == wanted => Ok(rest),
        (kind, _) => Err(LoginError::server(format!("authentication message {kind} where {wanted} belongs"))),
    }
}

async fn send_password<S: AsyncWrite + Unpin>(io: &mut S, password: &[u8]) -> Result<(), LoginError> {
    let mut out = BytesMut::new();
    frame(&mut out, b'p', |out| {
        out.put_slice(password);
        out.put_u8(0);
    });
    send(io, &out).await
}

async fn send<S: AsyncWrite + Unpin>(io: &mut S, bytes: &[u8]) -> Result<(), LoginError> {
    io.write_all(bytes).await?;
    Ok(io.flush().await?)
}
