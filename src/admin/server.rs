//! Binds the doors, then serves them.

use std::convert::Infallible;
use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;

use super::AdminState;
use super::door::Door;
use super::routes::Routes;
use super::socket::{self, SocketFile};
use crate::config::{AdminConfig, HealthConfig};
use crate::telemetry::MetricsHandle;

/// At most this many connections a door: probes and scrapes are few and short.
const MOST_CONNECTIONS: usize = 64;
/// A probe's head comes in one packet.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer than any scrape; a client that keeps its connection just opens another one.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(60);
/// hyper's least is 8 KiB.
const MOST_HEAD_BYTES: usize = 16 * 1024;
const MOST_HEADERS: usize = 64;
/// Accepting fails when file descriptors run out, and goes on failing until some are closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The doors, bound and not yet served.
#[derive(Debug)]
pub struct AdminServer {
    health: Option<(TcpListener, Door)>,
    admin: Option<TcpListener>,
    socket: Option<(UnixListener, SocketFile)>,
    addresses: Addresses,
}

/// Where the doors really are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// The health listener.
    pub health: Option<SocketAddr>,
    /// The admin listener.
    pub listen: Option<SocketAddr>,
    /// The admin socket.
    pub socket: Option<PathBuf>,
}

impl AdminServer {
    /// Binds what the configuration names, which may be nothing at all. Needs no runtime.
    ///
    /// # Errors
    /// An address is taken or cannot be had, the admin address is not loopback, or the socket's place is.
    pub fn bind(health: Option<&HealthConfig>, admin: &AdminConfig) -> Result<Self, AdminError> {
        if let Some(address) = admin.listen.filter(|address| !address.ip().is_loopback()) {
            return Err(AdminError::NotLoopback { address });
        }
        let health = match health {
            Some(health) => Some((listen("health", health.listen)?, Door::Health { metrics: health.metrics })),
            None => None,
        };
        let listener = admin.listen.map(|address| listen("admin", address)).transpose()?;
        let socket = admin.socket.as_deref().map(socket::bind).transpose()?;
        let addresses = Addresses {
            health: health.as_ref().and_then(|(listener, _)| listener.local_addr().ok()),
            listen: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
            socket: socket.as_ref().map(|(_, file)| file.path().to_owned()),
        };
        Ok(Self { health, admin: listener, socket, addresses })
    }

    /// Where the doors are, with the ports that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Serves until dropped; a drain is answered too, so this ends with the process.
    ///
    /// # Errors
    /// The runtime cannot take over a listener.
    ///
    /// # Cancel safety
    /// Dropping it closes the doors and every connection, and removes the socket's file.
    pub async fn serve(self, state: Arc<dyn AdminState>, metrics: MetricsHandle) -> Result<Infallible, AdminError> {
        let routes = Arc::new(Routes::new(state, metrics, self.addresses.clone()));
        let mut doors = JoinSet::new();
        if let Some((listener, door)) = self.health {
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(|source| AdminError::Runtime { source })?;
            doors.spawn(accept_all(listener, door, Arc::clone(&routes)));
        }
        if let Some(listener) = self.admin {
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(|source| AdminError::Runtime { source })?;
            doors.spawn(accept_all(listener, Door::Loopback, Arc::clone(&routes)));
        }
        // Kept here: it removes the file when this future is dropped.
        let mut _file = None;
        if let Some((listener, file)) = self.socket {
            let listener =
                tokio::net::UnixListener::from_std(listener).map_err(|source| AdminError::Runtime { source })?;
            doors.spawn(accept_all(listener, Door::Socket, Arc::clone(&routes)));
            _file = Some(file);
        }
        announce(&self.addresses);
        while doors.join_next().await.is_some() {}
        std::future::pending().await
    }
}

/// Why the doors are not there.
#[derive(Debug, Error)]
pub enum AdminError {
    /// A TCP address cannot be had.
    #[error("{door} listener: `{address}` cannot be listened on: {source}")]
    Listen {
        /// `health` or `admin`.
        door: &'static str,
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The admin listener would be reachable from outside.
    #[error("admin listener: `{address}` is not a loopback address")]
    NotLoopback {
        /// Which address.
        address: SocketAddr,
    },
    /// The socket cannot be made.
    #[error("admin socket `{}`: {source}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else is in the socket's place.
    #[error("admin socket `{}`: there is a file that is not a socket", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// Another process listens there.
    #[error("admin socket `{}`: another process listens on it", path.display())]
    SocketInUse {
        /// Where.
        path: PathBuf,
    },
    /// The runtime cannot take over a listener.
    #[error("admin listener cannot be served: {source}")]
    Runtime {
        /// Why.
        source: io::Error,
    },
}

fn listen(door: &'static str, address: SocketAddr) -> Result<TcpListener, AdminError> {
    let bound = TcpListener::bind(address).and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
    bound.map_err(|source| AdminError::Listen { door, address, source })
}

fn announce(addresses: &Addresses) {
    if let Some(address) = addresses.health {
        tracing::info!(listener = "health", %address, "listening");
    }
    if let Some(address) = addresses.listen {
        tracing::info!(listener = "admin", %address, "listening");
    }
    if let Some(path) = addresses.socket.as_deref().map(Path::display) {
        tracing::info!(listener = "admin", %path, "listening");
    }
}

/// Connections end with the set when this future is dropped.
async fn accept_all<L: Accept>(listener: L, door: Door, routes: Arc<Routes>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) if connections.len() < MOST_CONNECTIONS => {
                    connections.spawn(serve_connection(stream, door, Arc::clone(&routes)));
                }
                Ok(_) => tracing::warn!(?door, "admin connection closed: {MOST_CONNECTIONS} are open"),
                Err(error) => {
                    tracing::warn!(?door, %error, "admin connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    door: Door,
    routes: Arc<Routes>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        // The body is not read: nothing here needs one.
        let (routes, head) = (Arc::clone(&routes), request.into_parts().0);
        async move { Ok::<_, Infallible>(routes.answer_aside(door, head).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MOST_HEAD_BYTES)
        .max_headers(MOST_HEADERS);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIFETIME, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(?door, %error, "admin connection ended"),
    }
}

/// What TCP and Unix listeners have in common.
trait Accept: Debug + Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for tokio::net::TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

impl Accept for tokio::net::UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn accept(&self) -> io::Result<Self::Stream> {
        Self::accept(self).await.map(|(stream, _)| stream)
    }
}

#[cfg(test)]
mod tests;
