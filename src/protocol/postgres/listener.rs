//! The walk of one PostgreSQL connection.

use std::sync::Arc;
use std::time::Instant;

use super::cancel::CancelKeys;
use super::catalogue::Catalogues;
use super::{inbound, outbound};
use crate::config::{Direction, Limits, ListenerConfig, PostgresConfig};
use crate::enforce::{Asker, EnforcementPoint, Exchange};
use crate::protocol::{Closed, Downstream, Notice};
use crate::relay::apart;
use crate::tls::LocalTls;
use crate::upstream::StreamUpstream;

/// A listener that speaks PostgreSQL, on one data-path thread.
#[derive(Debug)]
pub struct PostgresListener {
    pub(super) endpoint: Arc<str>,
    direction: Direction,
    pub(super) config: PostgresConfig,
    pub(super) limits: Limits,
    pub(super) point: Arc<EnforcementPoint>,
    pub(super) upstream: Arc<StreamUpstream>,
    pub(super) cancels: Arc<CancelKeys>,
    pub(super) catalogues: Catalogues,
    pub(super) local_tls: Option<LocalTls>,
}

impl PostgresListener {
    /// The listener that `config` describes. `cancels` is the same on all threads.
    #[must_use]
    pub fn new(
        config: &ListenerConfig,
        postgres: &PostgresConfig,
        point: Arc<EnforcementPoint>,
        upstream: Arc<StreamUpstream>,
        cancels: Arc<CancelKeys>,
    ) -> Self {
        let catalogues = Catalogues::new(postgres, Arc::clone(&upstream));
        let local_tls = postgres.local_certificate.as_ref();
        Self {
            endpoint: Arc::clone(&config.name),
            direction: config.direction,
            config: postgres.clone(),
            limits: config.limits.clone(),
            point,
            upstream,
            cancels,
            catalogues,
            local_tls: local_tls.map(|(chain, key)| LocalTls::new(chain.clone(), key.clone(), &[b"postgresql"])),
        }
    }

    /// A connection as its record sees it.
    pub(super) fn exchange(&self, id: &str) -> Exchange {
        Exchange {
            token: None,
            started: Instant::now(),
            request_id: id.into(),
            number: None,
            trace_id: None,
            method: None,
            statement: None,
        }
    }
}

/// Serves a connection until it ends.
pub async fn serve(
    stream: Downstream,
    listener: Arc<PostgresListener>,
    asker: Arc<Asker>,
    ending: impl Future<Output = Notice> + Send,
) -> Closed {
    match listener.direction {
        Direction::Inbound => apart(|| inbound::serve(stream, listener, asker, ending)).await,
        Direction::Outbound => apart(|| outbound::serve(stream, listener, asker, ending)).await,
    }
}
