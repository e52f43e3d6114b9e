//! Which clauses of which policies no case shows from both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::policy::{Part, Trace, TracedPolicy, Verdict};

/// A clause that cases show from one side only, or from none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UntestedClause {
    /// The policy.
    pub policy: Arc<str>,
    /// `when` or `unless`.
    pub part: &'static str,
    /// As Cedar writes it.
    pub text: String,
    /// `true`, `false`, or `true or false`: what it never is where the policy's scope matches.
    pub never: &'static str,
}

/// What cases have shown so far.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// Of each policy each clause: whether it was ever true, and ever false.
    seen: BTreeMap<(Arc<str>, usize), Shown>,
}

#[derive(Debug)]
struct Shown {
    part: Part,
    text: String,
    is_true: bool,
    is_false: bool,
}

impl Coverage {
    /// Adds one question.
    pub(super) fn add(&mut self, trace: &Trace) {
        trace.policies.iter().for_each(|traced| self.add_policy(traced));
    }

    fn add_policy(&mut self, traced: &TracedPolicy) {
        let is_condition = |part: Part| matches!(part, Part::When | Part::Unless);
        let scope = traced.clauses.iter().filter(|clause| !is_condition(clause.part));
        let in_scope = scope.into_iter().all(|clause| clause.verdict == Verdict::Holds);
        let conditions = traced.clauses.iter().filter(|clause| is_condition(clause.part));
        for (number, clause) in conditions.enumerate() {
            let shown = self.seen.entry((Arc::clone(&traced.policy.id), number)).or_insert_with(|| Shown {
                part: clause.part,
                text: clause.text.clone(),
                is_true: false,
                is_false: false,
            });
            if !in_scope {
                continue;
            }
            let holds = match clause.verdict {
                Verdict::Holds => true,
                Verdict::Fails => false,
                Verdict::Errs(_) | Verdict::NotReached => continue,
            };
            // The verdict is whether the clause is as the policy wants it: an `unless` wants it false.
            if holds == (clause.part == Part::When) {
                shown.is_true = true;
            } else {
                shown.is_false = true;
            }
        }
    }

    pub(super) fn untested(self) -> Vec<UntestedClause> {
        let untested = self.seen.into_iter().filter_map(|((policy, _), shown)| {
            let never = match (shown.is_true, shown.is_false) {
                (true, true) => return None,
                // A guard before what may not be there is often true of all requests that come.
                (true, false) if is_guard(&shown.text) => return None,
                (true, false) => "false",
                (false, true) => "true",
                (false, false) => "true or false",
            };
            Some(UntestedClause { policy, part: shown.part.as_str(), text: shown.text, never })
        });
        untested.collect()
    }
}

/// `context has token`, `context.headers.hasTag("x-tenant")`
fn is_guard(clause: &str) -> bool {
    let has = clause
        .split_once(" has ")
        .is_some_and(|(_, name)| name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.'));
    has || (clause.contains(".hasTag(") && clause.ends_with("\")") && clause.matches('(').count() == 1)
}
