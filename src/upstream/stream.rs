//! A connection of its own for a downstream connection: no pool, no HTTP.

use std::sync::Arc;

use super::connect::{Connector, PeerTls, Wanted};
use super::{UpstreamIo, UpstreamOptions};
use crate::enforce::Permit;
use crate::failure::Failure;
use crate::tls::ClientTls;

/// Where a listener's permitted connections go.
#[derive(Debug)]
pub struct StreamUpstream {
    connectors: Vec<Connector>,
}

impl StreamUpstream {
    /// The upstream of a listener. `alpn` is what a peer is offered.
    #[must_use]
    pub fn new(options: &UpstreamOptions<'_>, alpn: &[&[u8]]) -> Self {
        let listener = options.listener;
        let connector = |config: &crate::config::UpstreamConfig| Connector {
            config: config.clone(),
            address: config.to_string(),
            tls: listener.peer.as_ref().map(|peer| {
                let client =
                    || ClientTls::new(Arc::clone(options.source), listener.tls_min_version, alpn, peer.clone());
                PeerTls { any: client(), http1: client() }
            }),
            limit: listener.limits.connect_timeout,
            metrics: Arc::clone(options.metrics),
        };
        let all = std::iter::once(&listener.upstream).chain(&listener.further_upstreams);
        Self { connectors: all.map(connector).collect() }
    }

    /// A connection to the first upstream that can be reached.
    ///
    /// # Errors
    /// None can be; the failure is the last one's.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection.
    pub async fn connect(&self, _permit: &Permit) -> Result<UpstreamIo, Failure> {
        let mut last = None;
        for connector in &self.connectors {
            match connector.within_limit(connector.dial(Wanted::Any)).await {
                Ok((io, _http2)) => return Ok(io),
                Err(failure) => last = Some(failure),
            }
        }
        Err(last.unwrap_or_else(|| Failure::Connect { upstream: String::new(), cause: "there is no upstream".into() }))
    }
}
