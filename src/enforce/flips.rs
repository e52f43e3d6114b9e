//! Where candidates would have decided otherwise, in groups.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::answer::Answer;
use crate::audit::DecisionId;
use crate::config::Direction;
use crate::mapping::{Operation, Resource, ResourceKind};
use crate::policy::{Candidate, Decision, Outcome};

/// How many groups are kept; what comes after them is counted together.
const MOST: usize = 1_000;

/// Flips of the generation in force: a new one begins anew.
#[derive(Debug, Default)]
pub struct Flips(Mutex<Groups>);

#[derive(Debug, Default)]
struct Groups {
    generation: u64,
    groups: HashMap<Group, Seen>,
    beyond: u64,
}

/// What flips of one group have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Group {
    of: Candidate,
    listener: Arc<str>,
    direction: Direction,
    who: Arc<str>,
    action: Box<str>,
    resource: Box<str>,
    outcome: Outcome,
    policies: Vec<Arc<str>>,
    would_be: Outcome,
    would_be_by: Vec<Arc<str>>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    count: u64,
    last: SystemTime,
    example: DecisionId,
}

/// A group of flips.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flip {
    /// Which candidate.
    pub of: Candidate,
    /// The listener.
    pub listener: Arc<str>,
    /// Which way it faces.
    pub direction: Direction,
    /// The Stage or Group, as Cedar writes it; the workload if it is in none.
    pub who: Arc<str>,
    /// What was asked.
    pub action: Box<str>,
    /// Of what: a table, or the first folder of a bucket or path.
    pub resource: Box<str>,
    /// What was decided.
    pub outcome: Outcome,
    /// By which policies.
    pub policies: Vec<Arc<str>>,
    /// What the candidate would have decided.
    pub would_be: Outcome,
    /// By which of its policies.
    pub would_be_by: Vec<Arc<str>>,
    /// How often.
    pub count: u64,
    /// When for the last time.
    pub last: SystemTime,
    /// The decision of that time.
    pub example: DecisionId,
}

impl Flips {
    pub(super) fn note(
        &self,
        (listener, direction): (&Arc<str>, Direction),
        answer: &Answer,
        (operation, decision, of, tried): (&Operation, &Decision, Candidate, &Decision),
        (id, time): (DecisionId, SystemTime),
    ) {
        let group = Group {
            of,
            listener: Arc::clone(listener),
            direction,
            who: match answer.principal.given().first() {
                Some(given) => Arc::clone(given),
                None => format!("Workload::\"{}\"", answer.principal.id()).into(),
            },
            action: operation.action.as_str().into(),
            resource: place(operation),
            outcome: decision.outcome,
            policies: decision.policies.clone(),
            would_be: tried.outcome,
            would_be_by: tried.policies.clone(),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation > answer.generation.number() {
            // It began under policies that have been replaced meanwhile.
            return;
        }
        if known.generation != answer.generation.number() {
            *known = Groups { generation: answer.generation.number(), ..Groups::default() };
        }
        if let Some(seen) = known.groups.get_mut(&group) {
            *seen = Seen { count: seen.count + 1, last: time, example: id };
        } else if known.groups.len() < MOST {
            known.groups.insert(group, Seen { count: 1, last: time, example: id });
        } else {
            known.beyond += 1;
        }
    }

    /// The groups, the largest first, and how many flips are in none since there are too many groups.
    #[must_use]
    pub fn groups(&self) -> (Vec<Flip>, u64) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut flips: Vec<Flip> = known.groups.iter().map(|(group, seen)| flip(group, *seen)).collect();
        flips.sort_by(|one, other| {
            other
                .count
                .cmp(&one.count)
                .then_with(|| (&one.who, &one.action, &one.resource).cmp(&(&other.who, &other.action, &other.resource)))
        });
        (flips, known.beyond)
    }
}

fn flip(group: &Group, seen: Seen) -> Flip {
    let Group { of, listener, direction, who, action, resource, outcome, policies, would_be, would_be_by } =
        group.clone();
    let Seen { count, last, example } = seen;
    Flip {
        of,
        listener,
        direction,
        who,
        action,
        resource,
        outcome,
        policies,
        would_be,
        would_be_by,
        count,
        last,
        example,
    }
}

/// Keys and paths are told apart by their first folder only: a group for each object would be one for each request.
fn place(operation: &Operation) -> Box<str> {
    let resource: &Resource = &operation.resource;
    let folder = match resource.kind() {
        ResourceKind::Object | ResourceKind::Prefix => {
            let prefixes = resource.ancestors().filter(|(kind, _)| matches!(kind, ResourceKind::Prefix));
            prefixes.last().or_else(|| resource.ancestors().find(|(kind, _)| *kind == ResourceKind::Bucket))
        }
        ResourceKind::HttpPath => resource.ancestors().filter(|(kind, _)| *kind == ResourceKind::HttpPath).last(),
        _ => None,
    };
    match folder {
        Some((kind, id)) => format!("{}::\"{}\"", kind.as_str(), id.escape_debug()).into(),
        None => resource.to_string().into(),
    }
}
