//! Why a question is answered as it is: every policy is taken apart, and each part is asked by itself.
//!
//! Off the data path: nothing here is fast. Every verdict is Cedar's own: a part becomes a policy that is nothing else, and is asked.

#[cfg(test)]
mod tests;
mod text;
mod tracing;

use std::sync::Arc;

use self::text::uid_text;
pub(super) use self::text::{expression_text, split, with_condition};
use self::tracing::Tracing;
pub(super) use self::tracing::is_true;

use super::{Decision, LoadedPolicy, Outcome, PolicyGeneration};
use crate::identity::SpiffeId;
use crate::mapping::{Context, Operation, ResourceKind, Value};

/// An answer with everything that led to it.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The answer, as a listener would get it.
    pub decision: Decision,
    /// Who asks, and all that it is in.
    pub principal: Placed,
    /// What is to be done, and the groups it is in.
    pub action: Placed,
    /// To what, and all that it is in.
    pub resource: Placed,
    /// Every active policy, in the order of the files. Empty if no policy could be asked.
    pub policies: Vec<TracedPolicy>,
    /// The columns that are read or written of a table.
    columns: Option<Vec<Box<str>>>,
}

/// An entity as Cedar writes it, and what it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// `Object::"lake/raw/a"`
    pub uid: String,
    /// `Bucket::"lake/raw"` …, the nearest first as far as ids tell, then what entities.json says.
    pub within: Vec<String>,
}

/// A policy and how each of its parts stands to the question.
#[derive(Debug, Clone)]
pub struct TracedPolicy {
    /// The policy, and where it stands.
    pub policy: LoadedPolicy,
    /// `@reason`, `@owner` and whatever else it is annotated with, but for `@id`.
    pub annotations: Vec<(String, String)>,
    /// Whether all of it is true of the question; an error if it cannot be told.
    pub matches: Result<bool, String>,
    /// Its parts: principal, action and resource, then each clause of its conditions.
    pub clauses: Vec<Clause>,
}

/// One part of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Which part of a policy it is.
    pub part: Part,
    /// As Cedar writes it: `resource in Bucket::"lake/curated"`.
    pub text: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What it looked at: `resource is in Bucket::"lake/raw"`, `context.columns is ["ssn"]`.
    pub saw: Vec<String>,
}

/// Which part of a policy a clause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Who.
    Principal,
    /// What is done.
    Action,
    /// To what.
    Resource,
    /// One of the `when { a && b }`.
    When,
    /// One of the `unless { a || b }`.
    Unless,
}

impl Part {
    /// As it is called in a policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Action => "action",
            Self::Resource => "resource",
            Self::When => "when",
            Self::Unless => "unless",
        }
    }
}

/// How a clause stands to the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as the policy wants it.
    Holds,
    /// It is not.
    Fails,
    /// Cedar cannot tell: the policy errs here, which denies.
    Errs(String),
    /// Cedar did not come to it, since an earlier one failed, and it means nothing without that one.
    NotReached,
}

impl TracedPolicy {
    /// The clauses for which the policy does not match.
    pub fn failing(&self) -> impl Iterator<Item = &Clause> {
        self.clauses.iter().filter(|clause| matches!(clause.verdict, Verdict::Fails | Verdict::Errs(_)))
    }
}

impl TracedPolicy {
    /// How much it misses: first by how many clauses, then by which. A condition is nearer than another resource, that than another action,
    /// and that than somebody else.
    fn distance(&self) -> (usize, usize) {
        let weight = |clause: &Clause| match clause.part {
            Part::When | Part::Unless => 0,
            Part::Resource => 1,
            Part::Action => 2,
            Part::Principal => 3,
        };
        (self.failing().count(), self.failing().map(weight).sum())
    }
}

impl Trace {
    /// The policies that decided.
    pub fn deciding(&self) -> impl Iterator<Item = &TracedPolicy> {
        self.policies.iter().filter(|traced| self.decision.policies.contains(&traced.policy.id))
    }

    /// The permits that do not match, those that miss least first.
    #[must_use]
    pub fn nearest_permits(&self) -> Vec<&TracedPolicy> {
        let mut permits: Vec<_> =
            self.policies.iter().filter(|traced| traced.policy.permits && traced.matches != Ok(true)).collect();
        permits.sort_by_key(|traced| traced.distance());
        permits
    }

    /// The forbids whose scope this is and whose conditions are not met: another context, and they would deny.
    pub fn near_forbids(&self) -> impl Iterator<Item = &TracedPolicy> {
        let is_condition = |clause: &Clause| matches!(clause.part, Part::When | Part::Unless);
        self.policies.iter().filter(move |traced| {
            !traced.policy.permits && traced.matches == Ok(false) && traced.failing().all(is_condition)
        })
    }

    /// The permits that match: of what a forbid denies, those that would allow it without.
    pub fn matching_permits(&self) -> impl Iterator<Item = &TracedPolicy> {
        self.policies.iter().filter(|traced| traced.policy.permits && traced.matches == Ok(true))
    }

    /// Forgets all policies but those that decided, and `most` of the nearest permits, of those that match, and of the nearest forbids.
    pub fn keep_nearest(&mut self, most: usize) {
        let nearest = self.nearest_permits().into_iter().take(most);
        let others = self.matching_permits().take(most).chain(self.near_forbids().take(most));
        let kept: Vec<_> = nearest.chain(others).map(|traced| Arc::clone(&traced.policy.id)).collect();
        let Self { policies, decision, .. } = self;
        policies.retain(|traced| decision.policies.contains(&traced.policy.id) || kept.contains(&traced.policy.id));
    }

    /// The smallest policy that would allow this: to this workload, this action on this resource, of a table with no more columns. None unless a
    /// permit is what is missing.
    #[must_use]
    pub fn smallest_permit(&self) -> Option<String> {
        (self.decision.outcome == Outcome::NotPermitted).then(|| {
            let Self { principal, action, resource, columns, .. } = self;
            let columns = columns.as_deref().map(columns_condition).unwrap_or_default();
            format!(
                "@id(\"unreviewed\")\npermit (\n  principal == {},\n  action == {},\n  resource == {}\n){columns};\n",
                principal.uid, action.uid, resource.uid
            )
        })
    }
}

impl PolicyGeneration {
    /// Decides one operation and says how each policy stands to it.
    ///
    /// # Errors
    /// The question cannot be put in Cedar's terms.
    pub fn trace(&self, id: &SpiffeId, operation: &Operation, facts: &Context) -> Result<Trace, String> {
        let principal = self.principal(id);
        let decision = self.decide(&principal, operation, facts);
        let asked = self.engine().asked_of_all(&principal, operation, facts)?;
        let resource_above = operation.resource.ancestors().map(|(kind, id)| uid_text(kind.as_str(), id)).collect();
        let mut trace = Trace {
            decision,
            principal: Placed { uid: uid_text("Workload", id.as_str()), within: Vec::new() },
            action: Placed { uid: uid_text("Action", operation.action.as_str()), within: Vec::new() },
            resource: Placed { uid: operation.resource.to_string(), within: resource_above },
            policies: Vec::new(),
            columns: match operation.context.get("columns") {
                Some(Value::Strings(columns)) if operation.resource.kind() == ResourceKind::Table => {
                    Some(columns.clone())
                }
                _ => None,
            },
        };
        // No policy was asked: the decision has the reason.
        let Some(asked) = asked else { return Ok(trace) };
        trace.principal.within = asked.within(asked.principal());
        trace.action.within = asked.within(asked.action());
        for above in asked.within(asked.resource()) {
            if !trace.resource.within.contains(&above) {
                trace.resource.within.push(above);
            }
        }
        let active = self.policies().iter().filter(|policy| !policy.shadow && !self.inactive().contains(&policy.id));
        for policy in active {
            let traced = Tracing::of(&asked, &trace).policy(policy)?;
            trace.policies.push(traced);
        }
        Ok(trace)
    }
}

/// The same of policies that would not load: those of random sets.
#[cfg(test)]
pub(in crate::policy) fn traced_each(
    engine: &super::engine::Engine,
    id: &SpiffeId,
    operation: &Operation,
    facts: &Context,
    policies: &[LoadedPolicy],
) -> Vec<TracedPolicy> {
    let principal = engine.principal(id);
    let Some(asked) = engine.asked_of_all(&principal, operation, facts).unwrap() else { return Vec::new() };
    let placed = Placed { uid: String::new(), within: Vec::new() };
    let decision = engine.decide(&principal, operation, facts);
    let (action, resource) = (placed.clone(), placed.clone());
    let trace = Trace { decision, principal: placed, action, resource, policies: Vec::new(), columns: None };
    policies.iter().map(|policy| Tracing::of(&asked, &trace).policy(policy).unwrap()).collect()
}

/// A `when` that these columns meet, and any of them.
#[must_use]
pub fn columns_condition<T: AsRef<str>>(columns: &[T]) -> String {
    // Cedar's validator takes no empty set: it cannot tell what is in it.
    if columns.is_empty() {
        return "\nwhen { context.columns.isEmpty() }".to_owned();
    }
    let quoted: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.as_ref().escape_debug())).collect();
    format!("\nwhen {{ [{}].containsAll(context.columns) }}", quoted.join(", "))
}
