//! What comes of a decision: leave to go on, or not.

use std::sync::Arc;
use std::time::Duration;

use super::entry::Entry;
use super::{Exchange, Settlement};
use crate::audit::{Audit, AuditError, DecisionId, Gathered, Kind};
use crate::policy::{Outcome, PolicyGeneration};

/// An exchange that has lasted this long has a record of its beginning.
pub const STARTED_AFTER: Duration = Duration::from_secs(5);

/// Proof that everything a request asks is allowed. Whoever holds one may reach the upstream once.
#[derive(Debug)]
#[must_use = "a permit that is not used is recorded as broken off"]
pub struct Permit(pub(super) Box<Entry>);

/// A request that is not to be forwarded.
#[derive(Debug)]
#[must_use = "a denial has to be answered"]
pub struct Denied(pub(super) Box<Entry>);

impl Permit {
    /// The decision's id, as in its record.
    #[must_use]
    pub fn decision_id(&self) -> DecisionId {
        self.0.id
    }

    /// The exchange it was given for.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.0.exchange
    }

    /// The policies that decided.
    #[must_use]
    pub fn policies(&self) -> Option<&Arc<PolicyGeneration>> {
        self.0.answer.as_ref().map(|answer| &answer.generation)
    }

    /// The most rows that the policies allow to be read: the smallest `@max_rows` of the permits that decided the operations named `action`.
    #[must_use]
    pub fn max_rows(&self, action: &str) -> Option<u64> {
        let answer = self.0.answer.as_ref().filter(|answer| answer.generation.limits_rows())?;
        let of_action = answer.each().filter(|(asked, _)| asked.action.as_str() == action);
        of_action.flat_map(|(_, decision)| &decision.policies).filter_map(|id| answer.generation.max_rows(id)).min()
    }

    /// Records that the exchange has begun, for one that stays open ([`STARTED_AFTER`]): the final record will have the same decision id.
    ///
    /// # Errors
    /// The record could not be written.
    pub fn record_started(&self) -> Result<(), AuditError> {
        self.0.point.bearable(self.0.record(Kind::Started, &Settlement::default(), |audit, record| audit.write(record)))
    }

    /// Writes the record together with others. Until [`commit`](super::EnforcementPoint::commit) has been called, the last byte of the answer is not to be
    /// sent. None: sampling leaves it out.
    pub fn settle_soon(mut self, settlement: &Settlement) -> Option<Gathered> {
        self.0.settled(settlement);
        self.0.record(Kind::Request, settlement, Audit::gather)
    }

    /// Writes the record. To be called before the last byte of the answer is sent.
    ///
    /// # Errors
    /// The record could not be written, and the configuration does not allow to go on without.
    pub fn settle(mut self, settlement: &Settlement) -> Result<(), AuditError> {
        self.0.settle(settlement)
    }
}

impl Denied {
    /// The decision's id, as in its record.
    #[must_use]
    pub fn decision_id(&self) -> DecisionId {
        self.0.id
    }

    /// The exchange it was asked for.
    #[must_use]
    pub fn exchange(&self) -> &Exchange {
        &self.0.exchange
    }

    /// How it was decided.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// The rule by which it was refused, if no policy was asked.
    #[must_use]
    pub fn rule(&self) -> Option<&'static str> {
        self.0.refusal.as_ref().map(|(rule, _)| *rule)
    }

    /// Whether each operation for itself is allowed, in the order asked; empty if no policy was asked.
    #[must_use]
    pub fn allowed_each(&self) -> Vec<bool> {
        let each = self.0.answer.iter().flat_map(|answer| answer.each());
        each.map(|(_, decision)| decision.outcome == Outcome::Allowed).collect()
    }

    /// A permit for those operations only that are allowed for themselves, if there are any. The caller forwards no others:
    /// this is for a request that consists of independent ones, like DeleteObjects.
    ///
    /// # Errors
    /// None of them is allowed.
    pub fn permitted_part(self) -> Result<Permit, Self> {
        if self.allowed_each().contains(&true) { Ok(Permit(self.0)) } else { Err(self) }
    }

    /// Writes the record. To be called before the answer is sent.
    ///
    /// # Errors
    /// The record could not be written, and the configuration does not allow to go on without.
    pub fn settle(mut self, settlement: &Settlement) -> Result<(), AuditError> {
        self.0.settle(settlement)
    }
}
