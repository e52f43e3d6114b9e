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
