//! The client's own login: authentication messages pass both ways, and nothing else does.

use bytes::{Bytes, BytesMut};
use postgres_protocol::authentication::sasl::SCRAM_SHA_256_PLUS;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::LoginError;
use super::authenticate::{CLEARTEXT, MD5, OK, SASL, SASL_CONTINUE, SASL_FINAL, mechanisms, request};
use crate::protocol::postgres::wire::{Frame, FrameReader, authentication_sasl, frame};

/// Relays until the server is content. `server_binds`: the server could bind SCRAM to its TLS. `asked`: the client has been sent something.
pub(super) async fn relay<C, S>(
    client: &mut C,
    client_reader: &mut FrameReader,
    server: &mut S,
    server_reader: &mut FrameReader,
    server_binds: bool,
    asked: &mut bool,
) -> Result<Vec<Bytes>, LoginError>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut notices = Vec::new();
    loop {
        let (kind, rest) = request(server, server_reader, &mut notices).await?;
        let mut out = BytesMut::new();
        match kind {
            OK => return Ok(notices),
            SASL => {
                // Bound to which channel? There are two. A client that is offered PLUS would fail.
                let offer: Vec<&str> = mechanisms(&rest).filter(|name| *name != SCRAM_SHA_256_PLUS).collect();
                if offer.is_empty() {
                    return Err(LoginError::Mechanisms);
                }
                authentication_sasl(&mut out, &offer);
            }
            CLEARTEXT | MD5 | SASL_CONTINUE | SASL_FINAL => frame(&mut out, b'R', |out| {
                out.extend_from_slice(&kind.to_be_bytes());
                out.extend_from_slice(&rest);
            }),
            kind => return Err(LoginError::Unsupported { kind }),
        }
        *asked = true;
        client.write_all(&out).await.map_err(|_| LoginError::ClientLeft)?;
        client.flush().await.map_err(|_| LoginError::ClientLeft)?;
        if kind == SASL_FINAL {
            continue;
        }
        let answer = answer(client, client_reader).await?;
        if kind == SASL && server_binds && thinks_that_nobody_binds(answer.body()) {
            return Err(LoginError::ChannelBinding);
        }
        server.write_all(answer.as_bytes()).await?;
        server.flush().await?;
    }
}

async fn answer<C: AsyncRead + Unpin>(client: &mut C, reader: &mut FrameReader) -> Result<Frame, LoginError> {
    loop {
        match reader.next().map_err(|error| LoginError::Client { cause: error.to_string() })? {
            Some(frame) if frame.tag() == b'p' => return Ok(frame),
            Some(frame) if frame.tag() == b'X' => return Err(LoginError::ClientLeft),
            Some(frame) => {
                let cause = format!("message `{}` during authentication", frame.tag().escape_ascii());
                return Err(LoginError::Client { cause });
            }
            None if reader.fill(client).await.map_err(|_| LoginError::ClientLeft)? == 0 => {
                return Err(LoginError::ClientLeft);
            }
            None => {}
        }
    }
}

/// Whether a SASLInitialResponse has the flag `y`: the client could bind and believes that the server cannot. A server that can takes that
/// for an attack (`read_client_first_message`, auth-scram.c); better say what is the matter.
fn thinks_that_nobody_binds(body: &[u8]) -> bool {
    let after_name = body.iter().position(|byte| *byte == 0).and_then(|end| body.get(end + 1..));
    // The length of what follows, then it.
    after_name.and_then(|rest| rest.get(4)) == Some(&b'y')
}
