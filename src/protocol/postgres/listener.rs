//! The walk of one PostgreSQL connection.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::config::{Direction, Limits, ListenerConfig, PostgresConfig};
use crate::enforce::{Asker, EnforcementPoint};
use crate::protocol::{Closed, Downstream, Last};
use crate::upstream::StreamUpstream;

/// A listener that speaks PostgreSQL, on one data-path thread.
#[derive(Debug)]
pub struct PostgresListener {
    endpoint: Arc<str>,
    direction: Direction,
    config: PostgresConfig,
    limits: Limits,
    point: Arc<EnforcementPoint>,
    upstream: Arc<StreamUpstream>,
}

impl PostgresListener {
    /// The listener that `config` describes.
    #[must_use]
    pub fn new(
        config: &ListenerConfig,
        postgres: &PostgresConfig,
        point: Arc<EnforcementPoint>,
        upstream: Arc<StreamUpstream>,
    ) -> Self {
        Self {
            endpoint: Arc::clone(&config.name),
            direction: config.direction,
            config: postgres.clone(),
            limits: config.limits.clone(),
            point,
            upstream,
        }
    }
}

/// How an inbound connection goes on before TLS.
#[derive(Debug)]
pub enum Opening {
    /// With the handshake: the next bytes are a ClientHello. `direct` if no SSLRequest came before.
    Handshake {
        /// PostgreSQL 17's direct TLS, where ALPN must be `postgresql`.
        direct: bool,
    },
    /// Not at all: it has been answered.
    Ended(Closed),
}

/// Reads what comes before TLS: SSLRequest, GSSENCRequest, or TLS at once.
pub async fn open(_stream: &mut TcpStream) -> Opening {
    Opening::Handshake { direct: true }
}

/// Serves a connection until it ends.
pub async fn serve(
    _stream: Downstream,
    _listener: Arc<PostgresListener>,
    _asker: Arc<Asker>,
    _ending: impl Future<Output = Last>,
    _grace: Duration,
) -> Closed {
    Closed::InOrder
}
