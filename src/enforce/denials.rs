//! The last denials, for those who ask why.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::answer::Answer;
use crate::audit::DecisionId;
use crate::identity::SpiffeId;
use crate::mapping::{Context, Operations};
use crate::policy::PolicyGeneration;

/// How many are remembered.
const MOST: usize = 64;
/// A question of more operations than this is not: what is remembered is bounded by what a request may hold.
const MOST_OPERATIONS: usize = 256;

/// Denials by policies that have been replaced more often than this since are forgotten.
const MOST_GENERATIONS: u64 = 3;

/// Questions that were denied, the newest last.
#[derive(Debug, Default)]
pub struct Denials(Mutex<VecDeque<Remembered>>);

#[derive(Debug, Clone)]
struct Remembered {
    listener: Arc<str>,
    id: DecisionId,
    time: SystemTime,
    answer: Arc<Answer>,
}

/// A question that was denied, with what it was decided by.
#[derive(Debug, Clone)]
pub struct DeniedQuestion {
    /// The listener.
    pub listener: Arc<str>,
    /// The decision.
    pub id: DecisionId,
    /// When.
    pub time: SystemTime,
    /// Who asked.
    pub principal: SpiffeId,
    /// What.
    pub operations: Arc<Operations>,
    /// What all operations share.
    pub facts: Context,
    /// The policies.
    pub generation: Arc<PolicyGeneration>,
}

impl Denials {
    pub(super) fn note(&self, listener: &Arc<str>, answer: &Arc<Answer>, id: DecisionId, time: SystemTime) {
        if answer.operations.len() > MOST_OPERATIONS {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each holds the policies that it was decided by: those of many generations are not kept alive for its sake.
        let newest = answer.generation.number();
        known.retain(|remembered| remembered.answer.generation.number() + MOST_GENERATIONS > newest);
        if known.len() == MOST {
            known.pop_front();
        }
        known.push_back(Remembered { listener: Arc::clone(listener), id, time, answer: Arc::clone(answer) });
    }

    /// The newest ones, the newest first.
    #[must_use]
    pub fn last(&self, most: usize) -> Vec<DeniedQuestion> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .rev()
            .take(most)
            .map(|remembered| DeniedQuestion {
                listener: Arc::clone(&remembered.listener),
                id: remembered.id,
                time: remembered.time,
                principal: remembered.answer.principal.id().clone(),
                operations: Arc::clone(&remembered.answer.operations),
                facts: remembered.answer.facts.clone(),
                generation: Arc::clone(&remembered.answer.generation),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enforce::Flips;
    use crate::mapping::{Action, Operation, Resource};
    use crate::policy::{Candidate, PolicySource};

    fn answer(number: u64) -> Arc<Answer> {
        let folder = tempfile::tempdir().unwrap();
        let generation = Arc::new(PolicyGeneration::load(&PolicySource::of(folder.path()), number).unwrap());
        let principal = generation.principal(&SpiffeId::parse("spiffe://a.test/x").unwrap());
        let (action, resource) = (Action::named("tcp:Connect"), Resource::endpoint("db"));
        let mut facts = Context::default();
        facts.set("now", crate::mapping::Value::Datetime(0));
        facts.set("direction", "inbound");
        let operations = Operations::one(Operation { action, resource, context: Context::default() });
        Arc::new(Answer::of(generation, &principal, Arc::new(operations), facts))
    }

    #[test]
    fn denials_keep_the_policies_of_a_few_generations_only() {
        let denials = Denials::default();
        let now = SystemTime::now();
        let mut held = Vec::new();
        for number in 1..=20 {
            let answer = answer(number);
            denials.note(&"db".into(), &answer, crate::audit::new_decision_id(), now);
            held.push(Arc::downgrade(&answer.generation));
        }
        let alive = held.iter().filter(|generation| generation.strong_count() > 0).count();
        assert_eq!((alive, denials.last(64).len()), (3, 3));
    }

    #[test]
    fn an_answer_by_policies_that_were_replaced_takes_no_flip_of_the_present_ones() {
        let (flips, now) = (Flips::default(), SystemTime::now());
        for number in [2, 1] {
            let answer = answer(number);
            let (operation, decision) = answer.each().next().unwrap();
            let id = crate::audit::new_decision_id();
            let point = (&"db".into(), crate::config::Direction::Inbound);
            flips.note(point, &answer, (operation, decision, Candidate::Directory, decision), (id, now));
        }
        assert_eq!(flips.groups().0.iter().map(|flip| flip.count).collect::<Vec<_>>(), [1]);
    }
}
