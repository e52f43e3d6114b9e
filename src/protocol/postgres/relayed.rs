//! A session that nobody looks into: bytes both ways, with a record of how many.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use crate::audit::AuditError;
use crate::enforce::{Permit, Settlement};
use crate::failure::Failure;
use crate::protocol::{Closed, Last, Notice};
use crate::relay::{Ended, Moved, Woken, relay_counted};
use crate::tls::Stay;

/// An exchange that stays open longer has a record of its beginning.
const STARTED_AFTER: Duration = Duration::from_secs(5);

/// A session that is relayed. However it ends, it has its final record with what was passed on.
#[derive(Debug)]
pub(super) struct Relayed {
    /// There until the record is written.
    permit: Option<Permit>,
    has_begun: bool,
    moved: Moved,
    /// Bytes that were passed on before the relay began.
    pub(super) ahead: (u64, u64),
}

impl Relayed {
    pub(super) fn new(permit: Permit) -> Self {
        Self { permit: Some(permit), has_begun: false, moved: Moved::default(), ahead: (0, 0) }
    }

    /// Writes the record of its beginning.
    pub(super) fn begin(&mut self) -> Result<(), AuditError> {
        self.has_begun = true;
        self.permit.as_ref().map_or(Ok(()), Permit::record_started)
    }

    /// Relays until both sides have closed, nothing moves for `idle`, `ending` says so, or the session's right to be here is lost: by the
    /// policies, or since the upstream's is.
    pub(super) async fn relay(
        mut self,
        client: impl AsyncRead + AsyncWrite + Unpin,
        server: impl AsyncRead + AsyncWrite + Unpin,
        idle: Duration,
        ending: impl Future<Output = Notice>,
        (lost, upstream): (impl Future<Output = ()>, Option<Stay>),
    ) -> Closed {
        let mut has_begun = self.has_begun;
        let cut = {
            let mut relaying = pin!(relay_counted(client, server, idle, &self.moved));
            let over = pin!(over(ending, lost, upstream));
            let mut over = Woken::new(over);
            let started = pin!(sleep(STARTED_AFTER));
            let mut started = Woken::new(started);
            loop {
                tokio::select! {
                    biased;
                    ended = relaying.as_mut() => break Cut::Relay(ended),
                    () = &mut started, if !has_begun => {
                        has_begun = true;
                        if self.permit.as_ref().is_some_and(|permit| permit.record_started().is_err()) {
                            break Cut::For("audit", Failure::Audit.to_string());
                        }
                    }
                    cut = &mut over => break cut,
                }
            }
        };
        let (reason, error, closed) = cut.told(idle);
        self.settle(reason, error);
        closed
    }

    fn settle(&mut self, reason: Option<&'static str>, error: Option<String>) {
        let Some(permit) = self.permit.take() else { return };
        let (bytes_in, bytes_out) = (self.ahead.0 + self.moved.forth(), self.ahead.1 + self.moved.back());
        let settlement = Settlement { bytes_in, bytes_out, reason, error, ..Settlement::default() };
        if let Err(error) = permit.settle(&settlement) {
            tracing::error!(%error, "a session that ended has no final record");
        }
    }
}

/// Ready when the session has to end though it could go on. Its bytes have no ends here at which to wait for: only who is asked to end
/// has time for that.
async fn over(ending: impl Future<Output = Notice>, lost: impl Future<Output = ()>, upstream: Option<Stay>) -> Cut {
    let told = async {
        let Notice { last, grace, reason } = ending.await;
        if last == Last::Asked {
            sleep(grace).await;
        }
        Cut::For(reason, "the session was cut".to_owned())
    };
    let upstream_over = async {
        match upstream {
            Some(mut stay) => stay.over().await,
            None => pending().await,
        }
    };
    tokio::select! {
        cut = told => cut,
        () = lost => Cut::For("no-longer-permitted", "the session was cut".to_owned()),
        over = upstream_over => Cut::For(over.rule, format!("upstream: {over}")),
    }
}

/// What ended a session.
enum Cut {
    /// The relay itself.
    Relay(Ended),
    /// Something else: the reason, and what the record says of it.
    For(&'static str, String),
}

impl Cut {
    /// Reason and error for the record, and how the connection closed.
    fn told(self, idle: Duration) -> (Option<&'static str>, Option<String>, Closed) {
        match self {
            Self::Relay(Ended::Closed) => (None, None, Closed::InOrder),
            Self::Relay(Ended::Idle) => (None, Some(format!("no byte moved for {} s", idle.as_secs())), Closed::Idle),
            Self::Relay(Ended::Failed(error)) => {
                let cause = error.to_string();
                (None, Some(cause.clone()), Closed::Failed { cause })
            }
            Self::For(reason, error) => (Some(reason), Some(error), Closed::Cut),
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.settle(Some("cut"), Some("the connection was cut".into()));
    }
}
