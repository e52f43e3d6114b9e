//! The replies that the server owes, in the order of what it was asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::deny::Answer;
use super::judge::Judged;
use super::messages::Name;
use super::prepared::{ENTRY, Weighs};
use super::record::{Outcome, Running};
use super::rows::Limit;
use super::session::{End, Session};
use crate::mapping::sql::Effects;

/// A portal: a judged statement with its parameters.
#[derive(Debug)]
pub(super) struct Portal {
    pub(super) judged: Arc<Judged>,
    /// The name that the statement was prepared under.
    pub(super) statement: Name,
    /// Bytes of the Bind that made it.
    pub(super) bytes_in: u64,
    returned: AtomicU64,
}

impl Weighs for Portal {
    fn weight(&self) -> usize {
        // In full, though the prepared statement may have the same: that can go, and the portal stays.
        ENTRY + self.judged.weight()
    }
}

impl Portal {
    pub(super) fn new(judged: Arc<Judged>, statement: Name, bytes_in: u64) -> Self {
        Self { judged, statement, bytes_in, returned: AtomicU64::new(0) }
    }

    /// Rows that all Executes have returned so far.
    pub(super) fn returned(&self) -> u64 {
        self.returned.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, rows: u64) {
        self.returned.fetch_add(rows, Ordering::Relaxed);
    }
}

/// What the server has been asked and not answered.
#[derive(Debug)]
pub(super) enum Owed {
    /// Parse.
    Parse { name: Name, change: u64, denied: Option<Box<Answer>> },
    /// Bind.
    Bind { portal: Name, change: u64, denied: Option<Box<Answer>> },
    /// Describe of a statement or a portal.
    Describe,
    /// Close.
    Close { kind: u8, name: Name, change: u64 },
    /// Execute.
    Execute(Box<Executed>),
    /// Sync.
    Sync { barrier: bool },
    /// Query or FunctionCall.
    Query(Box<Queried>),
    /// What the proxy asks itself.
    Own,
}

/// An Execute.
#[derive(Debug, Default)]
pub(super) struct Executed {
    pub(super) running: Option<Running>,
    pub(super) denied: Option<Answer>,
    pub(super) portal: Option<Arc<Portal>>,
    pub(super) limit: Option<Limit>,
    /// What comes behind it waits for its outcome.
    pub(super) barrier: bool,
}

/// A Query or FunctionCall.
#[derive(Debug, Default)]
pub(super) struct Queried {
    /// Its statements that have not ended.
    pub(super) running: VecDeque<Running>,
    pub(super) denied: Option<Answer>,
    /// It was sent as Parse, Bind, Describe, Execute.
    pub(super) limit: Option<Limit>,
    pub(super) effects: Effects,
    pub(super) barrier: bool,
    /// A replication command: it may complete several times over before the server is ready, the last with this tag.
    pub(super) command: Option<Box<str>>,
    /// The unnamed statement and portal are dropped.
    pub(super) change: u64,
}

impl Owed {
    /// The answer to a denied message.
    pub(super) fn denied(&self) -> Option<&Answer> {
        match self {
            Self::Parse { denied, .. } | Self::Bind { denied, .. } => denied.as_deref(),
            Self::Execute(executed) => executed.denied.as_ref(),
            Self::Query(queried) => queried.denied.as_ref(),
            _ => None,
        }
    }

    /// The statement whose answer comes next.
    pub(super) fn running(&mut self) -> Option<&mut Running> {
        match self {
            Self::Execute(executed) => executed.running.as_mut(),
            Self::Query(queried) => queried.running.front_mut(),
            _ => None,
        }
    }

    /// All statements whose answers are to come.
    pub(super) fn all_running(&self) -> impl Iterator<Item = &Running> {
        let (one, several) = match self {
            Self::Execute(executed) => (executed.running.as_ref(), None),
            Self::Query(queried) => (None, Some(&queried.running)),
            _ => (None, None),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    /// The bound on its rows.
    pub(super) fn limit(&mut self) -> Option<&mut Limit> {
        match self {
            Self::Execute(executed) => executed.limit.as_mut(),
            Self::Query(queried) => queried.limit.as_mut(),
            _ => None,
        }
    }
}

impl Session {
    /// The next number of a change of names.
    pub(super) fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    /// An extended message has failed: the server ignores what follows up to the next Sync, so it owes no reply to that.
    pub(super) fn skip_to_sync(&mut self) -> Result<(), End> {
        while let Some(owed) = self.owed.front() {
            if matches!(owed, Owed::Sync { .. }) {
                return Ok(());
            }
            if let Some(owed) = self.owed.pop_front() {
                self.withdraw(owed, "an earlier message of the pipeline failed")?;
            }
        }
        self.skipping = true;
        Ok(())
    }

    /// Something was not done.
    fn withdraw(&mut self, owed: Owed, why: &'static str) -> Result<(), End> {
        match owed {
            Owed::Parse { name, change, .. } => self.statements.withdraw(&name, change),
            Owed::Bind { portal, change, .. } => self.portals.withdraw(&portal, change),
            Owed::Close { kind: b'S', name, change } => self.statements.withdraw(&name, change),
            Owed::Close { name, change, .. } => self.portals.withdraw(&name, change),
            Owed::Execute(executed) => {
                self.release(executed.barrier, executed.limit.is_some());
                if let Some(running) = executed.running {
                    self.unwritten.add(running.settle(Outcome::BrokenOff(why), self.now), self.to_client.len());
                }
            }
            Owed::Query(queried) => {
                self.statements.withdraw(b"", queried.change);
                self.portals.withdraw(b"", queried.change);
                self.release(queried.barrier, true);
                for running in queried.running {
                    self.unwritten.add(running.settle(Outcome::BrokenOff(why), self.now), self.to_client.len());
                }
            }
            Owed::Own => self.not_asked(),
            Owed::Describe | Owed::Sync { .. } => {}
        }
        Ok(())
    }

    /// The outcome that others waited for is known.
    pub(super) const fn release(&mut self, barrier: bool, all: bool) {
        if barrier {
            self.outcome_pending = false;
        }
        if all || barrier {
            self.hold_all = false;
        }
    }

    /// The session ends: whatever runs has its record.
    pub(super) fn break_off(&mut self, why: &'static str) {
        for owed in std::mem::take(&mut self.owed) {
            if let Err(end) = self.withdraw(owed, why) {
                tracing::error!(?end, "a statement that was broken off has no record");
            }
        }
    }
}
