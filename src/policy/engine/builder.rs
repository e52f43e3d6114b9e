//! Sorts policies by what their scopes ask, at load.

use std::collections::HashMap;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, Entities, EntityTypeName, EntityUid, Policy, PrincipalConstraint, ResourceConstraint,
};

use super::conditions::{Conditions, references};
use super::index::Index;
use super::names::{Key, Names};
use crate::policy::forms::ActionForms;
use crate::policy::load::{Reads, StaticEntities};

/// All policies of one scope.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// `resource is T`. A principal is always a Workload, so nothing is left of `principal is T`.
    pub(super) resource_type: Option<Box<str>>,
    /// Policies that are nothing but this scope.
    pub(super) permits: Vec<u32>,
    pub(super) forbids: Vec<u32>,
    pub(super) conditional: Vec<Conditional>,
}

/// A policy that has conditions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Conditional {
    pub(super) number: u32,
    pub(super) effect: Effect,
    /// Which conditions.
    pub(super) condition: u32,
}

/// A policy to be compiled.
#[derive(Debug, Clone)]
pub(in crate::policy) struct Compilable {
    pub(in crate::policy) id: Arc<str>,
    pub(in crate::policy) policy: Policy,
    pub(in crate::policy) reads: Arc<Reads>,
}

/// A scope as the index tells it apart.
type ScopeKey = (Key, Vec<Key>, Key, Option<Box<str>>);

/// Sorts policies by scope.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    pub(super) names: Names,
    pub(super) index: Index,
    pub(super) scopes: Vec<Scope>,
    pub(super) conditions: Conditions<'a>,
    by_scope: HashMap<ScopeKey, u32>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(entities: &'a StaticEntities, actions: &'a Entities, forms: &'a ActionForms) -> Self {
        let mut names = Names::default();
        intern_entities(&mut names, entities);
        Self {
            names,
            index: Index::default(),
            scopes: Vec::new(),
            conditions: Conditions::new(entities, actions, forms),
            by_scope: HashMap::new(),
        }
    }

    /// Nothing is kept of the policy itself: trees of many policies take much memory.
    pub(super) fn add(&mut self, number: u32, compilable: Compilable) -> Result<(), String> {
        let Compilable { id: _, policy, reads } = compilable;
        for literal in policy.entity_literals() {
            self.names.intern(&literal);
        }
        let Some(scope) = self.scope(&policy) else { return Ok(()) };
        let condition = match policy.has_non_scope_constraint() {
            true => Some(self.conditions.add(&policy, &reads, &mut self.names)?),
            false => None,
        };
        let scope_number = match self.by_scope.get(&scope) {
            Some(number) => *number,
            None => self.new_scope(scope)?,
        };
        let Some(scope) = self.scopes.get_mut(scope_number as usize) else { return Ok(()) };
        let effect = policy.effect();
        match (condition, effect) {
            (Some(condition), _) => scope.conditional.push(Conditional { number, effect, condition }),
            (None, Effect::Permit) => scope.permits.push(number),
            (None, Effect::Forbid) => scope.forbids.push(number),
        }
        Ok(())
    }

    fn new_scope(&mut self, scope: ScopeKey) -> Result<u32, String> {
        let number = u32::try_from(self.scopes.len()).map_err(|_| "too many policies")?;
        let (principal, actions, resource, resource_type) = &scope;
        for action in actions {
            self.index.insert(*action, *principal, *resource, number);
        }
        self.scopes.push(Scope { resource_type: resource_type.clone(), ..Scope::default() });
        self.by_scope.insert(scope, number);
        Ok(number)
    }

    /// The keys of a policy's scope; none if no Workload can match it.
    fn scope(&mut self, policy: &Policy) -> Option<ScopeKey> {
        let mut name = |uid: EntityUid| self.names.intern(&uid);
        let workload = |kind: &EntityTypeName| (kind.to_string() == "Workload").then_some(());
        let principal = match policy.principal_constraint() {
            PrincipalConstraint::Any => Key::ANY,
            PrincipalConstraint::Eq(uid) => name(uid).exactly(),
            PrincipalConstraint::In(uid) => name(uid).within(),
            PrincipalConstraint::Is(kind) => workload(&kind).map(|()| Key::ANY)?,
            PrincipalConstraint::IsIn(kind, uid) => workload(&kind).map(|()| name(uid).within())?,
        };
        let mut actions = match policy.action_constraint() {
            ActionConstraint::Any => vec![Key::ANY],
            ActionConstraint::Eq(uid) => vec![name(uid).exactly()],
            ActionConstraint::In(uids) => uids.into_iter().map(|uid| name(uid).within()).collect(),
        };
        actions.sort_unstable();
        actions.dedup();
        let (resource, kind) = match policy.resource_constraint() {
            ResourceConstraint::Any => (Key::ANY, None),
            ResourceConstraint::Eq(uid) => (name(uid).exactly(), None),
            ResourceConstraint::In(uid) => (name(uid).within(), None),
            ResourceConstraint::Is(kind) => (Key::ANY, Some(kind)),
            ResourceConstraint::IsIn(kind, uid) => (name(uid).within(), Some(kind)),
        };
        Some((principal, actions, resource, kind.map(|kind| kind.to_string().into())))
    }
}

/// All that a condition can compare a resource with, or ask whether it is in: besides what policies name themselves and what that is in,
/// the entities of entities.json and those that their attributes and tags lead to.
fn intern_entities(names: &mut Names, entities: &StaticEntities) {
    for (uid, known) in entities.iter() {
        let mut referred = Vec::new();
        let values = known.entity.attrs().chain(known.entity.tags()).filter_map(|(_, value)| value.ok());
        values.for_each(|value| references(&value, &mut referred));
        for uid in &referred {
            names.intern(uid);
        }
        let name = names.intern(uid);
        let above = known.ancestors.iter().map(|above| names.intern(above)).collect();
        let tags = (!known.tags.is_empty()).then(|| Arc::new(known.tags.clone()));
        names.describe(name, above, tags);
    }
}
