//! Reaching an upstream: name, TCP, and for a peer the mTLS handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::UpstreamIo;
use crate::config::{UpstreamConfig, UpstreamScheme};
use crate::failure::Failure;
use crate::relay::ReadAhead;
use crate::telemetry::ListenerMetrics;
use crate::tls::{ClientTls, HandshakeRefusal};

/// Which HTTP version a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whatever the upstream is configured for, or ALPN agrees on.
    Any,
    /// HTTP/1.1, for an upgrade.
    Http1,
}

/// How an upstream is reached.
#[derive(Debug)]
pub(super) struct Connector {
    pub(super) config: UpstreamConfig,
    /// `host:port`, for records and errors.
    pub(super) address: String,
    pub(super) tls: Option<PeerTls>,
    pub(super) limit: Duration,
    pub(super) metrics: Arc<ListenerMetrics>,
}

/// Client handshakes with either offer of ALPN protocols.
#[derive(Debug)]
pub(super) struct PeerTls {
    pub(super) any: ClientTls,
    /// Offers only what has a connection to itself: HTTP/1.1 for an upgrade, PostgreSQL for one session.
    pub(super) unshared: ClientTls,
    /// What a connection may outlive its certificates by.
    pub(super) outlive: Duration,
}

impl Connector {
    /// What `connecting` comes to within the connect limit.
    pub(super) async fn within_limit<T>(
        &self,
        connecting: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match timeout(self.limit, connecting).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(Failure::ConnectTimeout {
                upstream: self.address.clone(),
                limit_ms: u64::try_from(self.limit.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    /// What a handshake came to, of which the metrics are told.
    pub(super) fn told<T>(&self, handshake: Result<T, HandshakeRefusal>) -> Result<T, Failure> {
        match handshake {
            Ok(connected) => {
                self.metrics.handshake_done();
                Ok(connected)
            }
            Err(refusal) => {
                self.metrics.handshake_refused(refusal.rule);
                let upstream = self.address.clone();
                Err(Failure::Handshake { upstream, rule: refusal.rule, cause: refusal.with_names() })
            }
        }
    }

    /// Since which generation our SVID has been the one that a new connection would show; 0 where there is no TLS.
    pub(super) fn generation(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.any.own_since())
    }

    /// A connection, and whether it speaks HTTP/2; for a peer, its identity is verified.
    pub(super) async fn dial(&self, wanted: Wanted) -> Result<(UpstreamIo, bool), Failure> {
        let stream = self
            .tcp()
            .await
            .map_err(|error| Failure::Connect { upstream: self.address.clone(), cause: error.to_string() })?;
        let Some(tls) = &self.tls else {
            let http2 = self.config.scheme == UpstreamScheme::H2c && wanted == Wanted::Any;
            return Ok((UpstreamIo::plain(stream), http2));
        };
        let (tls, outlive) = (if wanted == Wanted::Http1 { &tls.unshared } else { &tls.any }, tls.outlive);
        let (stream, peer) = self.told(tls.connect(ReadAhead::new(stream)).await)?;
        let io = UpstreamIo::tls(stream).staying(tls.stay(&peer, outlive));
        let http2 = io.alpn() == Some(b"h2");
        Ok((io, http2))
    }

    /// The first of the host's addresses that accepts.
    pub(super) async fn tcp(&self) -> io::Result<TcpStream> {
        let port = self.config.port;
        if let Ok(ip) = self.config.host.parse::<IpAddr>() {
            return connected(SocketAddr::new(ip, port)).await;
        }
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in lookup_host((self.config.host.as_str(), port)).await? {
            match connected(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

pub(super) async fn connected(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // Heads and small bodies are written whole: waiting for more (RFC 896) only adds delay.
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    Ok(stream)
}

/// After this long without a byte the other side is asked whether it is still there: database sessions may stand still for hours.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Has the system find out when the other side of a connection has vanished.
pub(crate) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE))
}
