//! Which of the policies that there are, and which of their parts, somebody has needed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Unused, UnusedPart};
use crate::analysis::Recorded;
use crate::analysis::asked::AskedOf;
use crate::mapping::{Context, Operation};
use crate::policy::{Alternative, LoadedPolicy, PolicyGeneration, Principal};

/// What has been needed so far.
#[derive(Debug)]
pub(super) struct Used<'a> {
    present: &'a PolicyGeneration,
    principals: BTreeMap<String, Arc<Principal>>,
    policies: BTreeSet<String>,
    /// Of each permit what it offers and nobody has taken yet.
    waiting: BTreeMap<Arc<str>, Vec<Alternative>>,
}

impl<'a> Used<'a> {
    pub(super) fn of(present: &'a PolicyGeneration) -> Self {
        let mut waiting: BTreeMap<Arc<str>, Vec<Alternative>> = BTreeMap::new();
        // A policy that cannot be taken apart counts as a whole.
        for alternative in present.alternatives().unwrap_or_default() {
            waiting.entry(Arc::clone(&alternative.policy)).or_default().push(alternative);
        }
        Self { present, principals: BTreeMap::new(), policies: BTreeSet::new(), waiting }
    }

    /// Adds a decision: by what it was made then, and by what these policies say to it now.
    pub(super) fn record(&mut self, record: &Json, recorded: &Recorded) {
        let principal = self.principals.entry(recorded.principal.to_string());
        let principal = Arc::clone(principal.or_insert_with(|| self.present.principal(&recorded.principal)));
        let each: Vec<&Json> = match record.get("operations").and_then(Json::as_array) {
            Some(operations) => operations.iter().collect(),
            None => vec![record],
        };
        for (then, question) in each.into_iter().zip(&recorded.questions) {
            let then = then.get("policies").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str);
            let mut deciding: BTreeSet<String> = then.map(str::to_owned).collect();
            let asked = question.asked(self.present.headers_read());
            let Ok(AskedOf { facts, operations: Ok(operations) }) = asked else {
                self.policies.extend(deciding);
                continue;
            };
            for operation in operations.iter() {
                let decision = self.present.decide(&principal, operation, &facts);
                deciding.extend(decision.policies.iter().map(ToString::to_string));
                for policy in &deciding {
                    self.takes(policy, &principal, operation, &facts);
                }
            }
            self.policies.extend(deciding);
        }
    }

    /// Takes what is true of this question from what `policy` offers.
    fn takes(&mut self, policy: &str, principal: &Principal, operation: &Operation, facts: &Context) {
        let Some(waiting) = self.waiting.get_mut(policy).filter(|waiting| !waiting.is_empty()) else { return };
        if let Ok(is_true) = self.present.true_of(waiting, (principal.id(), operation, facts)) {
            let mut is_true = is_true.into_iter();
            waiting.retain(|_| !is_true.next().unwrap_or(false));
        }
    }

    /// Permits, or what they offer, that nobody needed; and forbids that denied nothing.
    pub(super) fn finish(self) -> (Vec<Unused>, Vec<Unused>) {
        let Self { present, policies, waiting, .. } = self;
        let (mut unused, mut quiet) = (Vec::new(), Vec::new());
        let decides = |policy: &&LoadedPolicy| !policy.shadow && !present.inactive().contains(&policy.id);
        for policy in present.policies().iter().filter(decides) {
            let place = format!("{}:{}", policy.file, policy.line);
            let whole = Unused { policy: Arc::clone(&policy.id), place, parts: Vec::new() };
            let is_used = policies.contains(&*policy.id);
            match (policy.permits, is_used) {
                (true, false) => unused.push(whole),
                (false, false) => quiet.push(whole),
                (true, true) => {
                    let left = waiting.get(&policy.id).into_iter().flatten();
                    let parts: Vec<_> =
                        left.map(|left| UnusedPart { part: left.part.as_str(), text: left.text.clone() }).collect();
                    if !parts.is_empty() {
                        unused.push(Unused { parts, ..whole });
                    }
                }
                (false, true) => {}
            }
        }
        (unused, quiet)
    }
}
