//! The decision.

use std::sync::Arc;

use cedar_policy::{Effect, Policy};

use super::builder::Conditional;
use super::compiled::{CompiledAction, Engine};
use super::memory::{self, Recalled};
use super::principal::Principal;
use super::question::{Asked, Question};
use crate::mapping::{Context, Operation};
use crate::policy::decision::{Decision, Outcome};
use crate::policy::forms::{Attributes, Known};

impl Engine {
    /// Decides one operation.
    pub(in crate::policy) fn decide(&self, principal: &Principal, operation: &Operation, facts: &Context) -> Decision {
        if principal.stamp != self.stamp {
            return self.decide(&self.principal(principal.id()), operation, facts);
        }
        let mut known = Known::nothing();
        let action = match self.understand(operation, facts, &mut known) {
            Ok(action) => action,
            Err(decision) => return decision,
        };
        let located = self.locate(&operation.resource);
        let asked = memory::Asked {
            action: action.number,
            principal: principal.id(),
            kind: operation.resource.kind(),
            located: &located,
            known: &known,
        };
        let hash = match self.memory.recall(&asked) {
            Recalled::Answer(decision) => return decision,
            Recalled::Nothing(hash) => hash,
        };
        let question = Asked { principal, action, resource: &operation.resource, located: &located, known: &known };
        let (decision, reads) = self.judge(&question);
        if decision.lasts {
            self.memory.remember(&asked, hash, reads, &decision);
        } else {
            self.memory.pass();
        }
        decision
    }

    /// How many questions were answered from memory.
    #[cfg(test)]
    pub(super) fn recalled(&self) -> usize {
        self.memory.hits()
    }

    /// The action with its form, which the question has, or why it has not.
    fn understand<'a>(
        &self,
        operation: &'a Operation,
        facts: &'a Context,
        known: &mut Known<'a>,
    ) -> Result<&CompiledAction, Decision> {
        let name = operation.action.as_str();
        let Some(action) = self.actions.get(name) else {
            return Err(Decision::refused(format!("the schema has no action `{name}`")));
        };
        let kind = operation.resource.kind();
        if !action.form.applies_to(kind) {
            return Err(Decision::refused(format!("action `{name}` is never asked about a {}", kind.as_str())));
        }
        action.form.check(facts, &operation.context, known).map_err(Decision::error)?;
        Ok(action)
    }

    /// The decision of the policies whose scope matches, and what of the context their conditions read.
    fn judge(&self, asked: &Asked<'_>) -> (Decision, Attributes) {
        let mut tally = Tally::default();
        let mut conditional = Vec::new();
        let mut reads = Attributes::default();
        let kind = asked.resource.kind().as_str();
        for number in self.index.candidates(&asked.action.keys, &asked.principal.keys, &asked.located.keys) {
            let Some(scope) = self.scopes.get(number as usize) else { continue };
            if scope.resource_type.as_deref().is_some_and(|asked_for| asked_for != kind) {
                continue;
            }
            tally.permits.extend_from_slice(&scope.permits);
            tally.forbids.extend_from_slice(&scope.forbids);
            if let Some(found) = scope.conditional.as_deref() {
                reads = reads.union(found.reads);
                conditional.push(found);
            }
        }
        if !conditional.is_empty() {
            match Question::new(self, asked, reads, &conditional) {
                Ok(question) => {
                    conditional.iter().for_each(|conditional| self.evaluate(conditional, &question, &mut tally));
                }
                Err(cause) => return (Decision::error(cause), reads),
            }
        }
        (tally.decision(&self.ids, self.forms.reads_time(reads)), reads)
    }

    /// The question in Cedar's own values, with everything that any policy reads; none if the schema has no such question.
    pub(super) fn question_to_all(
        &self,
        principal: &Principal,
        operation: &Operation,
        facts: &Context,
    ) -> Result<Option<Question>, String> {
        let mut known = Known::nothing();
        let Ok(action) = self.understand(operation, facts, &mut known) else { return Ok(None) };
        let located = self.locate(&operation.resource);
        let asked = Asked { principal, action, resource: &operation.resource, located: &located, known: &known };
        let all: Vec<&Conditional> = self.scopes.iter().filter_map(|scope| scope.conditional.as_deref()).collect();
        let reads = all.iter().fold(Attributes::default(), |reads, conditional| reads.union(conditional.reads));
        Question::new(self, &asked, reads, &all).map(Some)
    }

    fn evaluate(&self, conditional: &Conditional, question: &Question, tally: &mut Tally) {
        let response = self.authorizer.is_authorized(&question.request, &conditional.set, &question.entities);
        let diagnostics = response.diagnostics();
        for error in diagnostics.errors() {
            let cedar_policy::AuthorizationError::PolicyEvaluationError(cause) = error;
            tally.errors.extend(self.numbers.get(AsRef::<str>::as_ref(cause.policy_id())));
            tally.error.get_or_insert_with(|| error.to_string());
        }
        // Cedar names the forbids if one matched, else the permits: what it leaves out here would not have decided either.
        let satisfied = diagnostics
            .reason()
            .filter_map(|id| self.numbers.get(AsRef::<str>::as_ref(id)).map(|number| (id, *number)));
        for (id, number) in satisfied {
            match conditional.set.policy(id).map(Policy::effect) {
                Some(Effect::Permit) => tally.permits.push(number),
                Some(Effect::Forbid) => tally.forbids.push(number),
                None => {}
            }
        }
    }
}

/// What the candidates said.
#[derive(Debug, Default)]
struct Tally {
    permits: Vec<u32>,
    forbids: Vec<u32>,
    errors: Vec<u32>,
    error: Option<String>,
}

impl Tally {
    fn decision(self, ids: &[Arc<str>], reads_time: bool) -> Decision {
        // Cedar skips a policy that errs, so a failing forbid would vanish: any error is a denial.
        let (outcome, mut deciding) = if self.error.is_some() {
            (Outcome::Error, self.errors)
        } else if !self.forbids.is_empty() {
            (Outcome::Forbidden, self.forbids)
        } else if !self.permits.is_empty() {
            (Outcome::Allowed, self.permits)
        } else {
            (Outcome::NotPermitted, Vec::new())
        };
        deciding.sort_unstable();
        let policies = deciding.iter().filter_map(|number| ids.get(*number as usize).cloned()).collect();
        let lasts = !reads_time && self.error.is_none();
        Decision { outcome, policies, error: self.error, lasts }
    }
}
