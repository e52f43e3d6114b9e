//! The conditions of policies, apart from their scopes.
//!
//! Which policies are about a question the index knows exactly, so that of a candidate nothing but its conditions is evaluated. Many
//! policies have the same ones, word for word: those are kept once, and asked once for a question.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cedar_policy::{Entities, Entity, EntityUid, EvalResult, Policy, PolicyId, PolicySet};

use super::names::Names;
use crate::policy::forms::{ActionForms, Attributes, Fields};
use crate::policy::load::{Looks, Reads, StaticEntities, conditions_of};

/// The conditions of one policy or more.
#[derive(Debug)]
pub(super) struct Condition {
    /// One permit of everything under these conditions.
    pub(super) set: PolicySet,
    /// The entities that they name and look at.
    pub(super) literals: Vec<Entity>,
    /// What they read of the context.
    pub(super) reads: Attributes,
    pub(super) fields: Fields,
    /// Of which entities they see more than the id.
    pub(super) looks: Looks,
}

/// What a policy reads by number, by where it is said: policies that are alike share it. Held, so that nothing else comes to its address.
type Numbered = HashMap<usize, (Arc<Reads>, Attributes, Fields)>;

/// Takes conditions in at load.
#[derive(Debug)]
pub(super) struct Conditions<'a> {
    entities: &'a StaticEntities,
    actions: &'a Entities,
    forms: &'a ActionForms,
    numbered: Numbered,
    by_text: HashMap<Box<str>, u32>,
    pub(super) all: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(entities: &'a StaticEntities, actions: &'a Entities, forms: &'a ActionForms) -> Self {
        Self { entities, actions, forms, numbered: HashMap::new(), by_text: HashMap::new(), all: Vec::new() }
    }

    /// The number of the conditions of `policy`.
    pub(super) fn add(&mut self, policy: &Policy, reads: &Arc<Reads>, names: &mut Names) -> Result<u32, String> {
        let text = policy.to_string();
        let text = conditions_of(&text).ok_or_else(|| format!("policy `{}` has no end to its scope", policy.id()))?;
        if let Some(number) = self.by_text.get(text) {
            return Ok(*number);
        }
        let number = u32::try_from(self.all.len()).map_err(|_| "too many policies")?;
        let alone = format!("permit (principal, action, resource) {text}");
        let alone = Policy::parse(Some(PolicyId::new("conditions")), alone)
            .map_err(|cause| format!("conditions of policy `{}`: {cause}", policy.id()))?;
        let literals = if reads.looks_at_literals() { self.literals(&alone, names) } else { Vec::new() };
        let (_, attributes, fields) = self.numbered.entry(Arc::as_ptr(reads).addr()).or_insert_with(|| {
            let attributes = self.forms.attributes(|name| reads.context(name));
            (Arc::clone(reads), attributes, self.forms.fields(|of, name| reads.field(of, name)))
        });
        let (reads, fields, looks) = (*attributes, *fields, reads.looks());
        let set = PolicySet::from_policies([alone]).map_err(|cause| cause.to_string())?;
        self.all.push(Condition { set, literals, reads, fields, looks });
        self.by_text.insert(text.into(), number);
        Ok(number)
    }

    fn literals(&self, policy: &Policy, names: &mut Names) -> Vec<Entity> {
        let found = visible(policy.entity_literals(), self.entities, self.actions);
        // A condition may ask whether this is in the resource (`Table::"…" in resource`): a resource that it is in is not like others
        // that nobody names. A test of the memory holds it; the random questions of `equivalence` stay green without it.
        for literal in &found {
            for above in literal.clone().into_inner().2 {
                names.intern(&above);
            }
        }
        found
    }
}

/// The entities among `literals` and those that these lead to.
fn visible(mut literals: Vec<EntityUid>, entities: &StaticEntities, actions: &Entities) -> Vec<Entity> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    while let Some(uid) = literals.pop() {
        if !seen.insert(uid.clone()) {
            continue;
        }
        let Some(entity) = entities.complete(&uid).or_else(|| actions.get(&uid).cloned()) else { continue };
        let values: Vec<EvalResult> = entity.attrs().chain(entity.tags()).filter_map(|(_, value)| value.ok()).collect();
        values.iter().for_each(|value| references(value, &mut literals));
        found.push(entity);
    }
    found
}

/// The entities that a value leads to.
pub(super) fn references(value: &EvalResult, found: &mut Vec<EntityUid>) {
    match value {
        EvalResult::EntityUid(uid) => found.push(uid.clone()),
        EvalResult::Set(set) => set.iter().for_each(|value| references(value, found)),
        EvalResult::Record(record) => record.iter().for_each(|(_, value)| references(value, found)),
        _ => {}
    }
}
