//! A permitted connection and its record.

use crate::enforce::{Permit, Settlement};
use crate::relay::Moved;

/// A relayed connection. However it ends, it has its final record with what was passed on.
#[derive(Debug)]
pub(super) struct Session<'m> {
    /// There until the record is written.
    permit: Option<Permit>,
    moved: &'m Moved,
}

impl<'m> Session<'m> {
    pub(super) const fn new(permit: Permit, moved: &'m Moved) -> Self {
        Self { permit: Some(permit), moved }
    }

    /// Writes the record that the connection is open; false if it cannot be written, and may not go on without.
    pub(super) fn record_started(&self) -> bool {
        self.permit.as_ref().is_none_or(|permit| permit.record_started().is_ok())
    }

    /// Writes the final record, once.
    pub(super) fn settle(&mut self, reason: Option<&'static str>, error: Option<String>) {
        let Some(permit) = self.permit.take() else { return };
        let (bytes_in, bytes_out) = (self.moved.forth(), self.moved.back());
        let settlement = Settlement { bytes_in, bytes_out, reason, error, ..Settlement::default() };
        if let Err(error) = permit.settle(&settlement) {
            tracing::error!(%error, "a connection that ended has no final record");
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.settle(Some("cut"), Some("the connection was cut".into()));
    }
}
