//! A question to every policy at once, for those who want to know how each stands to it.

use cedar_policy::{Entities, EntityUid, Request};

use super::compiled::Engine;
use super::principal::Principal;
use super::question::Question;
use crate::mapping::{Context, Operation};

/// A question with all that any policy can see.
#[derive(Debug)]
pub(in crate::policy) struct AskedOfAll {
    question: Question<'static>,
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
}

impl Engine {
    /// The question in Cedar's own values, with everything that any policy reads; none if the schema has no such question.
    pub(in crate::policy) fn asked_of_all(
        &self,
        principal: &Principal,
        operation: &Operation,
        facts: &Context,
    ) -> Result<Option<AskedOfAll>, String> {
        let Some(question) = self.question_to_all(principal, operation, facts)? else { return Ok(None) };
        let (Some(principal), Some(action), Some(resource)) = (
            question.request.principal().cloned(),
            question.request.action().cloned(),
            question.request.resource().cloned(),
        ) else {
            return Ok(None);
        };
        Ok(Some(AskedOfAll { question, principal, action, resource }))
    }
}

impl AskedOfAll {
    pub(in crate::policy) const fn request(&self) -> &Request {
        &self.question.request
    }

    pub(in crate::policy) fn entities(&self) -> &Entities {
        &self.question.entities
    }

    pub(in crate::policy) const fn principal(&self) -> &EntityUid {
        &self.principal
    }

    pub(in crate::policy) const fn action(&self) -> &EntityUid {
        &self.action
    }

    pub(in crate::policy) const fn resource(&self) -> &EntityUid {
        &self.resource
    }

    /// Everything that an entity is in, as Cedar writes it: the longest first, which of ids that are built on each other is the nearest.
    pub(in crate::policy) fn within(&self, uid: &EntityUid) -> Vec<String> {
        let mut above: Vec<String> =
            self.question.entities.ancestors(uid).into_iter().flatten().map(ToString::to_string).collect();
        above.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        above
    }
}
