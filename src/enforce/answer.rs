//! What the policies said, and the answers that a connection is likely to need again.

use std::sync::Arc;

use crate::audit::Said;
use crate::mapping::{Context, Operation, Operations};
use crate::policy::{Decision, Outcome, PolicyGeneration, Principal, Trial, worst};

/// How many answers a connection remembers: more prepared statements than most clients run in turn, and few enough to be looked through.
const MOST: usize = 16;
/// Answers to more operations are not remembered: idle connections must not hold them.
const MOST_OPERATIONS: usize = 64;

/// What the policies said to all operations of one question.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) operations: Arc<Operations>,
    pub(super) facts: Context,
    pub(super) generation: Arc<PolicyGeneration>,
    pub(super) outcome: Outcome,
    pub(super) principal: Arc<Principal>,
    /// What candidates would have decided.
    pub(super) trials: Vec<Trial>,
    decisions: Box<[Decision]>,
    /// What its records have in common; none if the same question may be answered otherwise a moment later.
    said: Option<Said>,
}

impl Answer {
    /// Asks.
    pub(super) fn of(
        generation: Arc<PolicyGeneration>,
        principal: &Arc<Principal>,
        operations: Arc<Operations>,
        facts: Context,
    ) -> Self {
        let decisions: Box<[Decision]> =
            operations.iter().map(|operation| generation.decide(principal, operation, &facts)).collect();
        let outcome = worst(decisions.iter());
        let trials = match generation.has_candidates() {
            true => generation.trials(principal, operations.iter(), &facts),
            false => Vec::new(),
        };
        let lasts = outcome == Outcome::Allowed
            && decisions.iter().chain(trials.iter().flat_map(|trial| &trial.decisions)).all(|decision| decision.lasts);
        let (said, principal) = (lasts.then(Said::default), Arc::clone(principal));
        Self { operations, facts, generation, outcome, principal, trials, decisions, said }
    }

    /// Each operation with its decision.
    pub(super) fn each(&self) -> impl Iterator<Item = (&Operation, &Decision)> {
        self.operations.iter().zip(&self.decisions)
    }

    /// What its records have in common, if it is an answer that lasts.
    pub(super) const fn said(&self) -> Option<&Said> {
        self.said.as_ref()
    }
}

/// Answers that hold until the policies change: nothing they go by is another at another time. Only permissions are kept: a denial is
/// rare, and worth a fresh look.
#[derive(Debug, Default)]
pub(super) struct Answers {
    kept: Vec<Arc<Answer>>,
    next: usize,
}

impl Answers {
    /// The answer to these very operations by these very policies.
    pub(super) fn find(
        &self,
        operations: &Arc<Operations>,
        generation: &Arc<PolicyGeneration>,
    ) -> Option<&Arc<Answer>> {
        // An answer holds its operations and policies, so that nothing else can be at their address.
        self.kept
            .iter()
            .find(|answer| Arc::ptr_eq(&answer.operations, operations) && Arc::ptr_eq(&answer.generation, generation))
    }

    /// Remembers an answer in place of the one that has been there for longest.
    pub(super) fn keep(&mut self, answer: &Arc<Answer>) {
        if answer.said.is_none() || answer.operations.len() > MOST_OPERATIONS {
            return;
        }
        if self.kept.len() < MOST {
            self.kept.push(Arc::clone(answer));
        } else if let Some(oldest) = self.kept.get_mut(self.next) {
            *oldest = Arc::clone(answer);
            self.next = (self.next + 1) % MOST;
        }
    }

    /// Those of other policies will not be asked for again.
    pub(super) fn forget_others(&mut self, generation: &PolicyGeneration) {
        self.kept.retain(|kept| kept.generation.number() == generation.number());
        self.next = 0;
    }
}
