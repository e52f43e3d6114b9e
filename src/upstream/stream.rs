//! A connection of its own for a downstream connection: no pool, no HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::connect::{Connector, PeerTls, connected};
use super::io::Reached;
use super::pool::Pool;
use super::{UpstreamIo, UpstreamOptions};
use crate::config::{ProtocolConfig, UpstreamConfig, UpstreamScheme, UpstreamTls};
use crate::enforce::Permit;
use crate::failure::Failure;
use crate::mux;
use crate::relay::ReadAhead;
use crate::tls::{ClientTls, HandshakeRefusal, PublicTls};

/// Where a listener's permitted connections go.
#[derive(Debug)]
pub struct StreamUpstream {
    connectors: Vec<Connector>,
    /// Of each, where sessions share connections; else empty.
    pools: Vec<Pool>,
    public: Option<Public>,
}

/// TLS to a server that is no sidecar.
#[derive(Debug)]
struct Public {
    tls: PublicTls,
    /// Asks by SSLRequest whether it may begin.
    asks: bool,
}

/// What the proxy itself connects for: there is no permit, as no downstream asked for anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnPurpose {
    /// Reading the catalogue, with the proxy's own credentials.
    Catalogue,
    /// Cancelling a statement of a session that was permitted.
    Cancel,
}

impl StreamUpstream {
    /// The upstream of a listener. `alpn` is what an upstream is offered; a peer that is a sidecar is asked first whether sessions may share
    /// a connection, if they are to.
    #[must_use]
    pub fn new(options: &UpstreamOptions<'_>, alpn: &[&[u8]]) -> Self {
        let listener = options.listener;
        let sessions = match &listener.protocol {
            ProtocolConfig::Postgres(postgres) if listener.peer.is_some() => postgres.sessions_per_connection,
            _ => 1,
        };
        let offered: Vec<&[u8]> = (sessions > 1).then_some(mux::ALPN).into_iter().chain(alpn.iter().copied()).collect();
        let connector = |config: &UpstreamConfig| Connector {
            config: config.clone(),
            address: config.to_string(),
            tls: listener.peer.as_ref().map(|peer| {
                let client = |alpn: &[&[u8]]| {
                    ClientTls::new(Arc::clone(options.source), listener.tls_min_version, alpn, peer.clone())
                };
                let outlive = listener.limits.unsafe_outlive_certificate;
                PeerTls { any: client(&offered), unshared: client(alpn), outlive }
            }),
            limit: listener.limits.connect_timeout,
            metrics: Arc::clone(options.metrics),
        };
        let public = match &listener.protocol {
            ProtocolConfig::Postgres(postgres) => match &postgres.upstream_tls {
                UpstreamTls::Disable => None,
                UpstreamTls::Request(ca) => Some((ca, true)),
                UpstreamTls::Direct(ca) => Some((ca, false)),
            },
            _ => None,
        };
        let all = std::iter::once(&listener.upstream).chain(&listener.further_upstreams);
        let connectors: Vec<Connector> = all.map(connector).collect();
        let pooled = if sessions > 1 { connectors.len() } else { 0 };
        Self {
            pools: (0..pooled).map(|_| Pool::new(sessions, listener.limits.connect_timeout)).collect(),
            connectors,
            public: public.map(|(ca, asks)| Public { tls: PublicTls::new(ca.clone(), alpn), asks }),
        }
    }

    /// A connection to the first upstream that can be reached.
    ///
    /// # Errors
    /// None can be; the failure is the last one's.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub async fn connect(&self, permit: &Permit) -> Result<UpstreamIo, Failure> {
        self.connect_from(0, permit).await
    }

    /// The same among those from `position` on: the ones before have been tried.
    ///
    /// # Errors
    /// As [`Self::connect`].
    ///
    /// # Cancel safety
    /// As [`Self::connect`].
    pub async fn connect_from(&self, position: usize, _permit: &Permit) -> Result<UpstreamIo, Failure> {
        self.first_reached(position).await
    }

    /// The position behind that of the upstream that `io` goes to; none if it is the last one.
    #[must_use]
    pub fn behind(&self, io: &UpstreamIo) -> Option<usize> {
        io.reached().map(|reached| reached.upstream + 1).filter(|next| *next < self.connectors.len())
    }

    /// The same without a permit, for what no downstream asked for.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_of_our_own(&self, _purpose: OwnPurpose) -> Result<UpstreamIo, Failure> {
        self.first_reached(0).await
    }

    /// One more connection to where an earlier one goes: to the same server, also when its name stands for several.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn connect_again(&self, reached: Reached, _purpose: OwnPurpose) -> Result<UpstreamIo, Failure> {
        self.reach(reached.upstream, reached.address).await
    }

    /// Host and port of what was reached; of a Unix socket its path and 0.
    #[must_use]
    pub fn host_of(&self, reached: Reached) -> Option<(&str, u16)> {
        let connector = self.connectors.get(reached.upstream)?;
        Some((connector.config.host.as_str(), connector.config.port))
    }

    /// How many upstreams there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.connectors.len()
    }

    /// A connection to the upstream at this position.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn connect_to(&self, position: usize, _purpose: OwnPurpose) -> Result<UpstreamIo, Failure> {
        self.reach(position, None).await
    }

    async fn first_reached(&self, from: usize) -> Result<UpstreamIo, Failure> {
        let mut last = no_upstream();
        for position in from..self.connectors.len() {
            match self.reach(position, None).await {
                Ok(io) => return Ok(io),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    async fn reach(&self, position: usize, address: Option<SocketAddr>) -> Result<UpstreamIo, Failure> {
        let connector = self.connectors.get(position).ok_or_else(no_upstream)?;
        connector.within_limit(self.dial(connector, position, address)).await
    }

    async fn dial(
        &self,
        connector: &Connector,
        position: usize,
        address: Option<SocketAddr>,
    ) -> Result<UpstreamIo, Failure> {
        let failed =
            |error: std::io::Error| Failure::Connect { upstream: connector.address.clone(), cause: error.to_string() };
        if connector.config.scheme == UpstreamScheme::Unix {
            let stream = UnixStream::connect(&connector.config.host).await.map_err(failed)?;
            return Ok(UpstreamIo::unix(stream).reached_at(Reached { upstream: position, address: None }));
        }
        let reaching = async {
            let stream = match address {
                Some(address) => connected(address).await,
                None => connector.tcp().await,
            };
            let stream = stream.map_err(failed)?;
            let reached = Reached { upstream: position, address: stream.peer_addr().ok() };
            Ok((stream, reached))
        };
        if let Some(peer) = &connector.tls {
            // One more to where an earlier one goes may not go by a connection that goes elsewhere.
            let pool = self.pools.get(position).filter(|_| address.is_none());
            let tls = if pool.is_some() { &peer.any } else { &peer.unshared };
            let proving = async {
                let (stream, reached) = reaching.await?;
                let (stream, found) = connector.told(tls.connect(ReadAhead::new(stream)).await)?;
                Ok((stream, tls.stay(&found, peer.outlive), reached))
            };
            if let Some(pool) = pool {
                return pool.stream(proving).await;
            }
            let (stream, stay, reached) = proving.await?;
            return Ok(UpstreamIo::tls(stream).staying(stay).reached_at(reached));
        }
        let (stream, reached) = reaching.await?;
        let io = match &self.public {
            Some(public) => {
                let connected = public.handshake(stream, &connector.config.host).await.map_err(failed)?;
                UpstreamIo::tls(connector.told(connected)?)
            }
            None => UpstreamIo::plain(stream),
        };
        Ok(io.reached_at(reached))
    }
}

impl Public {
    async fn handshake(
        &self,
        mut stream: TcpStream,
        host: &str,
    ) -> std::io::Result<Result<tokio_rustls::client::TlsStream<ReadAhead<TcpStream>>, HandshakeRefusal>> {
        if self.asks {
            // SSLRequest and its answer of one byte (PostgreSQL, "SSL Session Encryption"). Only that byte is read, so nothing that came
            // before the handshake can be taken for something from inside it (CVE-2021-23222).
            const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
            stream.write_all(&SSL_REQUEST).await?;
            if stream.read_u8().await? != b'S' {
                let message = "the server does not accept TLS".to_owned();
                return Ok(Err(HandshakeRefusal { rule: "no-tls", message, peer_san: None }));
            }
        }
        Ok(self.tls.connect(ReadAhead::new(stream), host).await)
    }
}

fn no_upstream() -> Failure {
    Failure::Connect { upstream: String::new(), cause: "there is no upstream".into() }
}
