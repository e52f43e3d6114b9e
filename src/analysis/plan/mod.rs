//! What other policies would allow and no longer allow, of everything that can be asked.
//!
//! Who asks and about what is cut into classes (`classes.rs`) that the policies cannot tell apart; for each class of both, and each
//! action, what is left of the candidates on either side (`residual.rs`) is compared. Most pairs are the same or hang on nothing. What
//! hangs on conditions is tried with a few questions, then put to a solver (`solver.rs`). Nothing is said to become allowed before
//! both generations have been asked the very question (`witness.rs`), and nothing that was not decided is passed over in silence.

pub(super) mod cells;
pub(super) mod classes;
mod partitions;
pub(super) mod report;
pub(super) mod residual;
pub(super) mod solver;
#[cfg(test)]
mod tests;
pub(super) mod witness;

use std::collections::{BTreeMap, HashMap};

use crate::policy::{Outcome, PolicyGeneration};
use cells::{Comparison, Verdict, Wanted};
use classes::{Named, Sides};

pub use solver::Solver;
use solver::ask;

/// Two generations compared.
#[derive(Debug, Default)]
pub struct Plan {
    /// What becomes allowed.
    pub grows: Vec<Change>,
    /// What is no longer allowed.
    pub shrinks: Vec<Change>,
    /// What could not be decided.
    pub unproved: Vec<Unproved>,
    /// How many classes of questions were compared, and how many of them by the solver.
    pub compared: u64,
    /// How many questions the solver was asked.
    pub asked: u64,
}

/// Requests that are decided otherwise, for the same reasons.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The actions.
    pub actions: Vec<String>,
    /// The type of what they are about.
    pub resource_type: &'static str,
    /// One such request, as it is written.
    pub request: String,
    /// Who makes it.
    pub principal: String,
    /// As policies name it.
    pub resource: String,
    /// What else has to be known about it, as policies write it.
    pub context: BTreeMap<String, String>,
    /// How it is decided before and after.
    pub old: Decided,
    /// How it is decided after.
    pub new: Decided,
}

/// What a generation says.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// The outcome.
    pub outcome: Outcome,
    /// The policies that decide.
    pub policies: Vec<String>,
}

/// Requests of which it is not known how they are decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Unproved {
    /// Whether access might grow by it, else shrink.
    pub grows: bool,
    /// The actions.
    pub actions: Vec<String>,
    /// The type of what they are about.
    pub resource_type: &'static str,
    /// Somebody it is about.
    pub principal: String,
    /// Something it is about.
    pub resource: String,
    /// The policies it hangs on.
    pub policies: Vec<String>,
    /// Why it is not known.
    pub why: String,
    /// How many classes of questions are alike.
    pub count: u64,
}

/// Compares two generations.
///
/// # Errors
/// A policy cannot be had in Cedar's JSON form.
pub fn plan(old: &PolicyGeneration, new: &PolicyGeneration, solver: &Solver) -> Result<Plan, String> {
    let (old, new) = (old.survey()?, new.survey()?);
    let sides = Sides { old: &old, new: &new };
    let mut comparison = Comparison::new(sides, Wanted::ALL);
    comparison.compare(&Named::of(sides));
    let mut comparisons = [comparison];
    settle(&mut comparisons, solver);
    let [comparison] = comparisons;
    Ok(comparison.finish())
}

/// Puts what hangs on conditions to the solver, each question once. Gives how many questions that were.
pub(super) fn settle(comparisons: &mut [Comparison<'_>], solver: &Solver) -> usize {
    let open: Vec<_> = comparisons.iter_mut().map(Comparison::questions).collect();
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut queries = Vec::new();
    for (key, query, _) in open.iter().flatten() {
        numbers.entry(key).or_insert_with(|| {
            queries.push(query.clone());
            queries.len() - 1
        });
    }
    let answers = ask(&queries, solver);
    for (comparison, open) in comparisons.iter_mut().zip(&open) {
        for (key, query, cells) in open {
            if let Some(answer) = numbers.get(key.as_str()).and_then(|number| answers.get(*number)) {
                comparison.take(query, cells, answer);
            }
        }
    }
    queries.len()
}

impl Plan {
    /// Whether somebody may do what nobody could do like that before.
    #[must_use]
    pub fn grows(&self) -> bool {
        !self.grows.is_empty()
    }

    /// Whether it is certain that nobody may do more.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        !self.unproved.iter().any(|unproved| unproved.grows)
    }
}

impl Verdict {
    const fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }
}
