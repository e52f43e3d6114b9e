//! The proxy's login to the server, and the client's own where it is passed through.

mod authenticate;
mod error;
mod greeting;
mod passthrough;
mod password;

#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;

use super::cancel::ServerKey;
use super::wire::{FrameReader, Side, StartupPacket};
use crate::config::PasswordSource;
use crate::protocol::Downstream;
use crate::upstream::{StreamUpstream, UpstreamIo};

pub(super) use error::{LoginError, takes_none_now};

/// A session with the server, ready for its first query.
#[derive(Debug)]
pub(super) struct LoggedIn {
    /// The connection.
    pub(super) io: UpstreamIo,
    /// What has been read behind ReadyForQuery; nothing, from an ordinary server.
    pub(super) buffered: BytesMut,
    /// Its parameters, in the order told.
    pub(super) parameters: Vec<(Box<str>, Box<str>)>,
    /// How to cancel its statements; none from some poolers.
    pub(super) key: Option<ServerKey>,
    /// NoticeResponses, as they came.
    pub(super) notices: Vec<Bytes>,
}

impl LoggedIn {
    /// The value of a parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| &**known == name).map(|(_, value)| &**value)
    }
}

/// Logs in as the role of `startup`, with the password that `password` gives if the server wants one.
///
/// Has no time limit of its own.
///
/// # Errors
/// The server refuses, cannot be proved to, or breaks off.
///
/// # Cancel safety
/// Dropping the future drops the connection.
pub(super) async fn login(
    mut io: UpstreamIo,
    upstream: &StreamUpstream,
    startup: &StartupPacket,
    password: Option<&PasswordSource>,
) -> Result<LoggedIn, LoginError> {
    let (host, port) = io.reached().and_then(|reached| upstream.host_of(reached)).unwrap_or_default();
    let (host, port) = as_libpq_has_it(host, port);
    let credentials = authenticate::Credentials {
        user: startup.parameter("user").unwrap_or_default(),
        database: startup.parameter("database").unwrap_or_default(),
        host,
        port,
        password,
        end_point: io.server_end_point(),
        encrypted: io.is_tls(),
    };
    let mut reader = FrameReader::new(Side::Server, BytesMut::new());
    io.write_all(&startup.to_bytes()).await?;
    io.flush().await?;
    let mut notices = Vec::new();
    authenticate::authenticate(&mut io, &mut reader, &credentials, &mut notices).await?;
    greeting::finish(io, reader, notices).await
}

/// libpq's PGHOST and PGPORT: of a socket `/run/postgresql/.s.PGSQL.5432` its folder and the number in its name.
fn as_libpq_has_it(host: &str, port: u16) -> (&str, u16) {
    let socket = host.split_once("/.s.PGSQL.");
    socket.and_then(|(folder, number)| Some((folder, number.parse().ok()?))).unwrap_or((host, port))
}

/// Lets the client prove itself to the server. `asked` says whether the client has been sent anything.
///
/// # Errors
/// The server refuses, or either breaks off or the protocol.
///
/// # Cancel safety
/// Dropping the future drops the connection to the server.
pub(super) async fn pass_through(
    client: &mut Downstream,
    client_reader: &mut FrameReader,
    mut io: UpstreamIo,
    startup: &StartupPacket,
    asked: &mut bool,
) -> Result<LoggedIn, LoginError> {
    let mut reader = FrameReader::new(Side::Server, BytesMut::new());
    io.write_all(&startup.to_bytes()).await?;
    io.flush().await?;
    let binds = io.is_tls();
    let notices = passthrough::relay(client, client_reader, &mut io, &mut reader, binds, asked).await?;
    greeting::finish(io, reader, notices).await
}
