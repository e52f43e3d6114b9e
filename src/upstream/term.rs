//! The term of a connection that is kept for several requests: driven until it ends, or has to.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::timeout;

use crate::enforce::EnforcementPoint;
use crate::failure::with_sources;
use crate::relay::Woken;
use crate::tls::Stay;

/// What connections are kept by.
#[derive(Debug)]
pub(super) struct Terms {
    /// Where it is recorded that one had to end.
    pub(super) point: Arc<EnforcementPoint>,
    /// How long what is in flight on it may take then.
    pub(super) grace: Duration,
}

/// Whether a connection's term is over: it takes no further request.
#[derive(Debug, Clone, Default)]
pub(super) struct Term(Arc<AtomicBool>);

impl Term {
    /// Whether it is.
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Terms {
    /// Drives a connection to its end. When its peer may not stay, `term` is over, `let_go` drops what is kept of it unused, and what is
    /// in flight has the grace to finish before it is cut; true if it was.
    pub(super) async fn drive(
        &self,
        connection: impl Future<Output = hyper::Result<()>>,
        stay: Option<Stay>,
        term: Term,
        let_go: impl FnOnce(),
    ) -> bool {
        let mut connection = pin!(connection);
        let Some(mut stay) = stay.map(Stay::told_ahead) else { return ended(connection.await) };
        let over = {
            let over = pin!(stay.over());
            let mut over = Woken::new(over);
            tokio::select! {
                biased;
                result = connection.as_mut() => return ended(result),
                over = &mut over => over,
            }
        };
        term.0.store(true, Ordering::Relaxed);
        let_go();
        self.point.record_upstream(stay.peer(), over.rule, &over.message);
        match timeout(over.ahead + self.grace, connection).await {
            Ok(result) => ended(result),
            Err(_elapsed) => {
                tracing::debug!(rule = over.rule, "upstream connection cut");
                true
            }
        }
    }
}

/// It ended by itself.
fn ended(result: hyper::Result<()>) -> bool {
    if let Err(error) = result {
        tracing::debug!(error = with_sources(&error), "upstream connection ended");
    }
    false
}
