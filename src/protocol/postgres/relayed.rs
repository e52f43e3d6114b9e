//! A session that nobody looks into: bytes both ways, with a record of how many.

use std::pin::pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{sleep, timeout};

use crate::audit::AuditError;
use crate::enforce::{Permit, Settlement};
use crate::protocol::{Closed, Last};
use crate::relay::{Ended, Moved, Woken, relay_counted};

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

    /// Relays until both sides have closed, nothing moves for `idle`, the session's right to be here is lost, or `ending` and the
    /// grace after it are over.
    pub(super) async fn relay(
        mut self,
        client: impl AsyncRead + AsyncWrite + Unpin,
        server: impl AsyncRead + AsyncWrite + Unpin,
        idle: Duration,
        (mut ending, mut lost): (impl Future<Output = Last> + Unpin, impl Future<Output = ()> + Unpin),
        grace: Duration,
    ) -> Closed {
        let mut has_begun = self.has_begun;
        let closed = {
            let mut relaying = pin!(relay_counted(client, server, idle, &self.moved));
            let (mut ending, mut lost) = (Woken::new(&mut ending), Woken::new(&mut lost));
            let started = pin!(sleep(STARTED_AFTER));
            let mut started = Woken::new(started);
            loop {
                tokio::select! {
                    biased;
                    ended = relaying.as_mut() => break of_ended(ended),
                    () = &mut started, if !has_begun => {
                        has_begun = true;
                        if self.permit.as_ref().is_some_and(|permit| permit.record_started().is_err()) {
                            break Closed::Cut;
                        }
                    }
                    // Its bytes have no ends here at which to wait for.
                    () = &mut lost => break Closed::Cut,
                    _last = &mut ending => {
                        break match timeout(grace, relaying.as_mut()).await {
                            Ok(ended) => of_ended(ended),
                            Err(_elapsed) => Closed::Cut,
                        };
                    }
                }
            }
        };
        self.settle(match &closed {
            Closed::InOrder => None,
            Closed::Idle => Some(format!("no byte moved for {} s", idle.as_secs())),
            Closed::Failed { cause } => Some(cause.clone()),
            Closed::Cut | Closed::Refused { .. } => Some("the session was cut".into()),
        });
        closed
    }

    fn settle(&mut self, error: Option<String>) {
        let Some(permit) = self.permit.take() else { return };
        let (bytes_in, bytes_out) = (self.ahead.0 + self.moved.forth(), self.ahead.1 + self.moved.back());
        if let Err(error) = permit.settle(&Settlement { bytes_in, bytes_out, error, ..Settlement::default() }) {
            tracing::error!(%error, "a session that ended has no final record");
        }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.settle(Some("the connection was cut".into()));
    }
}

fn of_ended(ended: Ended) -> Closed {
    match ended {
        Ended::Closed => Closed::InOrder,
        Ended::Idle => Closed::Idle,
        Ended::Failed(error) => Closed::Failed { cause: error.to_string() },
    }
}
