//! From AuthenticationOk to the first ReadyForQuery.

use bytes::Bytes;
use tokio::io::AsyncRead;

use super::authenticate::next;
use super::{LoggedIn, LoginError};
use crate::protocol::postgres::cancel::ServerKey;
use crate::protocol::postgres::wire::{CancelRequest, FrameReader};
use crate::upstream::UpstreamIo;

/// The versions whose grammar and catalogue are known.
const VERSIONS: std::ops::RangeInclusive<u32> = 14..=18;

/// What a server says of a new session.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    pub(super) parameters: Vec<(Box<str>, Box<str>)>,
    pub(super) key: Option<CancelRequest>,
}

/// Reads on until the session is ready.
pub(super) async fn finish(
    mut io: UpstreamIo,
    mut reader: FrameReader,
    mut notices: Vec<Bytes>,
) -> Result<LoggedIn, LoginError> {
    let greeting = read(&mut io, &mut reader, &mut notices).await?;
    let key = greeting.key.zip(io.reached()).map(|(key, reached)| ServerKey { reached, key });
    Ok(LoggedIn { io, buffered: reader.into_buffered(), parameters: greeting.parameters, key, notices })
}

pub(super) async fn read<S: AsyncRead + Unpin>(
    io: &mut S,
    reader: &mut FrameReader,
    notices: &mut Vec<Bytes>,
) -> Result<Greeting, LoginError> {
    let mut greeting = Greeting::default();
    loop {
        let frame = next(io, reader).await?;
        match frame.tag() {
            b'S' => greeting.parameters.push(parameter(frame.body())?),
            b'K' => greeting.key = Some(key(frame.body())?),
            b'N' => notices.push(frame.into_bytes()),
            b'E' => return Err(LoginError::refused(&frame)),
            b'Z' => break,
            tag => return Err(LoginError::server(format!("message `{}` before it is ready", tag.escape_ascii()))),
        }
    }
    judge(&greeting)?;
    Ok(greeting)
}

/// A server whose statements could not be judged is not used.
fn judge(greeting: &Greeting) -> Result<(), LoginError> {
    let value = |name: &str| {
        let found = greeting.parameters.iter().rev().find(|(known, _)| &**known == name);
        found.map(|(_, value)| &**value)
    };
    let version = value("server_version").unwrap_or_default();
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    let major = version.get(..digits).and_then(|major| major.parse::<u32>().ok());
    if !major.is_some_and(|major| VERSIONS.contains(&major)) {
        return Err(LoginError::Version { version: version.to_owned() });
    }
    match value("standard_conforming_strings") {
        Some("on") => Ok(()),
        _ => Err(LoginError::NonconformingStrings),
    }
}

fn parameter(body: &[u8]) -> Result<(Box<str>, Box<str>), LoginError> {
    let mut texts = body.split(|byte| *byte == 0);
    let mut text = || {
        let text = texts.next().ok_or_else(|| LoginError::server("a parameter without a value"))?;
        // A value may be in the server's encoding; nothing of it is judged but what is ASCII.
        Ok::<Box<str>, LoginError>(String::from_utf8_lossy(text).into())
    };
    Ok((text()?, text()?))
}

fn key(body: &[u8]) -> Result<CancelRequest, LoginError> {
    match body.split_first_chunk::<4>() {
        Some((pid, secret)) if (4..=256).contains(&secret.len()) => {
            Ok(CancelRequest { pid: u32::from_be_bytes(*pid), secret: Bytes::copy_from_slice(secret) })
        }
        _ => Err(LoginError::server(format!("a key of {} bytes", body.len()))),
    }
}
