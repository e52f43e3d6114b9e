//! The decision.

use std::sync::Arc;

use cedar_policy::Effect;

use super::builder::Conditional;
use super::compiled::{CompiledAction, Engine};
use super::conditions::Condition;
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
        let mut conditional: Vec<Conditional> = Vec::new();
        let kind = asked.resource.kind().as_str();
        for number in self.index.candidates(&asked.action.keys, &asked.principal.keys, &asked.located.keys) {
            let Some(scope) = self.scopes.get(number as usize) else { continue };
            if scope.resource_type.as_deref().is_some_and(|asked_for| asked_for != kind) {
                continue;
            }
            tally.permits.extend_from_slice(&scope.permits);
            tally.forbids.extend_from_slice(&scope.forbids);
            conditional.extend_from_slice(&scope.conditional);
        }
        // Those of the same conditions beside each other, as these are asked once.
        conditional.sort_unstable_by_key(|policy| (policy.condition, policy.number));
        let alike = || {
            let alike = conditional.chunk_by(|one, other| one.condition == other.condition);
            alike.filter_map(|policies| Some((self.conditions.get(policies.first()?.condition as usize)?, policies)))
        };
        let reads = alike().fold(Attributes::default(), |reads, (condition, _)| reads.union(condition.reads));
        if !conditional.is_empty() {
            match Question::new(self, asked, alike().map(|(condition, _)| condition)) {
                Ok(question) => {
                    alike().for_each(|(condition, policies)| self.evaluate(condition, policies, &question, &mut tally));
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
    ) -> Result<Option<Question<'static>>, String> {
        let mut known = Known::nothing();
        let Ok(action) = self.understand(operation, facts, &mut known) else { return Ok(None) };
        let located = self.locate(&operation.resource);
        let asked = Asked { principal, action, resource: &operation.resource, located: &located, known: &known };
        Question::to_all(self, &asked).map(Some)
    }

    /// Asks Cedar whether the conditions are met, which these policies have.
    fn evaluate(&self, condition: &Condition, policies: &[Conditional], question: &Question<'_>, tally: &mut Tally) {
        let response = self.authorizer.is_authorized(&question.request, &condition.set, &question.entities);
        if let Some(cedar_policy::AuthorizationError::PolicyEvaluationError(cause)) =
            response.diagnostics().errors().next()
        {
            for policy in policies {
                tally.errors.push((policy.number, cause.inner().to_string()));
            }
        }
        if response.decision() == cedar_policy::Decision::Allow {
            for policy in policies {
                match policy.effect {
                    Effect::Permit => tally.permits.push(policy.number),
                    Effect::Forbid => tally.forbids.push(policy.number),
                }
            }
        }
    }
}

/// What the candidates said.
#[derive(Debug, Default)]
struct Tally {
    permits: Vec<u32>,
    forbids: Vec<u32>,
    /// With what Cedar says.
    errors: Vec<(u32, String)>,
}

impl Tally {
    fn decision(self, ids: &[Arc<str>], reads_time: bool) -> Decision {
        let id = |number: u32| ids.get(number as usize);
        // Cedar skips a policy that errs, so a failing forbid would vanish: any error is a denial.
        let first = self.errors.iter().min_by_key(|(number, _)| *number);
        let error = first.and_then(|(number, cause)| Some((id(*number)?, cause)));
        let error = error.map(|(id, cause)| format!("error while evaluating policy `{id}`: {cause}"));
        let (outcome, mut deciding) = if !self.errors.is_empty() {
            (Outcome::Error, self.errors.iter().map(|(number, _)| *number).collect())
        } else if !self.forbids.is_empty() {
            (Outcome::Forbidden, self.forbids)
        } else if !self.permits.is_empty() {
            (Outcome::Allowed, self.permits)
        } else {
            (Outcome::NotPermitted, Vec::new())
        };
        deciding.sort_unstable();
        let policies = deciding.into_iter().filter_map(|number| id(number).cloned()).collect();
        Decision { outcome, policies, lasts: !reads_time && error.is_none(), error }
    }
}
