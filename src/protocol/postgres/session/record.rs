//! A statement that runs, until its record is written.

use std::sync::Arc;
use std::time::Instant;

use super::judge::Judged;
use crate::audit::{AuditError, Gathered};
use crate::enforce::{EnforcementPoint, Permit, STARTED_AFTER, Settlement};
use crate::mapping::sql::{Copying, MappedStatement};
use crate::telemetry::ListenerMetrics;

/// A statement that has been permitted and sent.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) permit: Permit,
    pub(super) judged: Arc<Judged>,
    index: usize,
    metrics: Arc<ListenerMetrics>,
    /// Bytes of its messages and its COPY data.
    pub(super) bytes_in: u64,
    /// Bytes of its answer.
    pub(super) bytes_out: u64,
    /// Rows of its answer.
    pub(super) rows: u64,
    noted: bool,
}

/// Records of statements that have ended, which are to be written before their answers are sent.
#[derive(Debug)]
pub(super) struct Unwritten {
    point: Arc<EnforcementPoint>,
    gathered: Option<Gathered>,
    /// How many bytes waited for the client when the first of them came: those behind are not to be sent before it is written.
    sure: usize,
}

impl Unwritten {
    pub(super) const fn new(point: Arc<EnforcementPoint>) -> Self {
        Self { point, gathered: None, sure: 0 }
    }

    /// One more; `waiting` bytes for the client come before its end.
    pub(super) fn add(&mut self, gathered: Option<Gathered>, waiting: usize) {
        let Some(one) = gathered else { return };
        if self.gathered.is_none() {
            self.sure = waiting;
        }
        self.gathered = Some(self.gathered.map_or(one, |others| others.and(one)));
    }

    /// How many bytes may be sent to the client though they could not be written.
    pub(super) const fn sure(&self) -> usize {
        self.sure
    }

    /// There are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.gathered.is_none()
    }

    /// Writes them, unless somebody else's writing has done so.
    pub(super) fn write(&mut self) -> Result<(), AuditError> {
        self.gathered.take().map_or(Ok(()), |gathered| self.point.commit(gathered))
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        if let Err(error) = self.write() {
            tracing::error!(%error, "statements of a session that ended have no record");
        }
    }
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum Outcome<'a> {
    /// With this command tag.
    Complete(&'a str),
    /// Some of its rows were asked for, and there are more.
    Suspended,
    /// With an error of the server's.
    Failed(&'a str),
    /// It never ran, or nobody knows how it ended.
    BrokenOff(&'static str),
}

impl Running {
    pub(super) fn new(permit: Permit, judged: Arc<Judged>, index: usize, metrics: Arc<ListenerMetrics>) -> Self {
        Self { permit, judged, index, metrics, bytes_in: 0, bytes_out: 0, rows: 0, noted: false }
    }

    /// What is known of the statement.
    pub(super) fn statement(&self) -> Option<&MappedStatement> {
        self.judged.mapped.statements.get(self.index)
    }

    /// Which statement of its text it is.
    pub(super) const fn index(&self) -> usize {
        self.index
    }

    /// What the client is told if it was not done as it was written.
    pub(super) fn capped(&self) -> Option<Arc<str>> {
        self.statement().and_then(|statement| statement.capped.clone())
    }

    /// Which way its data goes.
    pub(super) fn copies(&self) -> Option<Copying> {
        self.statement().and_then(|statement| statement.copying)
    }

    /// It is a replication command.
    pub(super) fn is_replication(&self) -> bool {
        self.statement().is_some_and(|statement| statement.operations.first().action.as_str() == "sql:Replicate")
    }

    /// Writes the record of its beginning if it runs for long.
    pub(super) fn note_if_long(&mut self, now: Instant) -> Result<(), AuditError> {
        if self.noted || now.saturating_duration_since(self.permit.exchange().started) < STARTED_AFTER {
            return Ok(());
        }
        self.note()
    }

    /// Writes the record of its beginning.
    pub(super) fn note(&mut self) -> Result<(), AuditError> {
        self.noted = true;
        self.permit.record_started()
    }

    /// Has its record written soon; it has ended `now`.
    pub(super) fn settle(self, outcome: Outcome<'_>, now: Instant) -> Option<Gathered> {
        let mut settlement = Settlement {
            ended: Some(now),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            rows: Some(self.rows),
            reason: self.statement().and_then(|statement| statement.capped.as_ref()).map(|_| "setting-capped"),
            ..Settlement::default()
        };
        let result = match outcome {
            Outcome::Complete(tag) => {
                settlement.rows = rows_of(tag).or(settlement.rows);
                settlement.command = Some(tag.into());
                "done"
            }
            Outcome::Suspended => "done",
            Outcome::Failed(sqlstate) => {
                settlement.sqlstate = Some(sqlstate.into());
                "failed"
            }
            Outcome::BrokenOff(why) => {
                settlement.error = Some(why.into());
                "failed"
            }
        };
        let kind = self.statement().map_or("none", |statement| statement.kind);
        self.metrics.sql_statement(kind, result, now.saturating_duration_since(self.permit.exchange().started));
        self.permit.settle_soon(&settlement)
    }
}

/// The number that a command tag ends with: `INSERT 0 5`, `SELECT 3`.
fn rows_of(tag: &str) -> Option<u64> {
    tag.rsplit(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::rows_of;

    #[test]
    fn rows_are_the_last_number_of_a_command_tag() {
        assert_eq!(["INSERT 0 5", "SELECT 3", "BEGIN", "CREATE TABLE"].map(rows_of), [Some(5), Some(3), None, None]);
    }
}
