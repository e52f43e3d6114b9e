//! Sorts policies by what their scopes ask, at load.

use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Effect, Entities, Entity, EntityTypeName, EntityUid, EvalResult, Policy, PolicySet,
    PrincipalConstraint, ResourceConstraint,
};

use super::index::Index;
use super::names::{Key, Names};
use crate::policy::forms::{ActionForms, Attributes};
use crate::policy::load::{Reads, StaticEntities};

/// All policies of one scope.
#[derive(Debug, Default)]
pub(super) struct Scope {
    /// `resource is T`. A principal is always a Workload, so nothing is left of `principal is T`.
    pub(super) resource_type: Option<Box<str>>,
    /// Policies that are nothing but this scope.
    pub(super) permits: Vec<u32>,
    pub(super) forbids: Vec<u32>,
    pub(super) conditional: Option<Box<Conditional>>,
}

/// Policies of one scope that have conditions.
#[derive(Debug, Default)]
pub(super) struct Conditional {
    pub(super) set: PolicySet,
    /// The entities that the conditions name and look at.
    pub(super) literals: Vec<Entity>,
    /// What the conditions read of the context.
    pub(super) reads: Attributes,
}

/// A policy to be compiled.
#[derive(Debug, Clone)]
pub(in crate::policy) struct Compilable {
    pub(in crate::policy) id: Arc<str>,
    pub(in crate::policy) policy: Policy,
    pub(in crate::policy) reads: Arc<Reads>,
}

/// Held, so that nothing else comes to its address.
#[derive(Debug)]
struct ByAddress(Arc<Reads>);

impl PartialEq for ByAddress {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for ByAddress {}

impl Hash for ByAddress {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

/// A scope as the index tells it apart.
type ScopeKey = (Key, Vec<Key>, Key, Option<Box<str>>);

/// Sorts policies by scope.
#[derive(Debug)]
pub(super) struct Builder<'a> {
    entities: &'a StaticEntities,
    actions: &'a Entities,
    forms: &'a ActionForms,
    /// What policies read by number, by where it is said: policies that are alike share it.
    attributes: HashMap<ByAddress, Attributes>,
    pub(super) names: Names,
    pub(super) index: Index,
    pub(super) scopes: Vec<Scope>,
    by_scope: HashMap<ScopeKey, u32>,
}

impl<'a> Builder<'a> {
    pub(super) fn new(entities: &'a StaticEntities, actions: &'a Entities, forms: &'a ActionForms) -> Self {
        let mut names = Names::default();
        intern_entities(&mut names, entities);
        Self {
            entities,
            actions,
            forms,
            attributes: HashMap::new(),
            names,
            index: Index::default(),
            scopes: Vec::new(),
            by_scope: HashMap::new(),
        }
    }

    /// The policy is kept only if there is more to it than its scope: trees of many policies take much memory.
    pub(super) fn add(&mut self, number: u32, compilable: Compilable) -> Result<(), String> {
        let Compilable { id: _, policy, reads } = compilable;
        let literals = policy.entity_literals();
        for literal in &literals {
            self.names.intern(literal);
        }
        let Some((scope, in_scope)) = self.scope(&policy) else { return Ok(()) };
        let scope_number = match self.by_scope.get(&scope) {
            Some(number) => *number,
            None => self.new_scope(scope)?,
        };
        let Some(scope) = self.scopes.get_mut(scope_number as usize) else { return Ok(()) };
        if policy.has_non_scope_constraint() {
            let conditional = scope.conditional.get_or_insert_default();
            let forms = self.forms;
            let attributes = self.attributes.entry(ByAddress(Arc::clone(&reads)));
            let attributes = attributes.or_insert_with(|| forms.attributes(|name| reads.context(name)));
            conditional.reads = conditional.reads.union(*attributes);
            if reads.looks_at_literals() {
                for literal in visible(literals, in_scope, self.entities, self.actions) {
                    // A condition may ask whether this is in the resource (`Table::"…" in resource`): a resource that it is in is not like
                    // others that nobody names.
                    for above in literal.clone().into_inner().2 {
                        self.names.intern(&above);
                    }
                    if !conditional.literals.iter().any(|known| known.uid() == literal.uid()) {
                        conditional.literals.push(literal);
                    }
                }
            }
            conditional.set.add(policy).map_err(|cause| cause.to_string())?;
        } else {
            match policy.effect() {
                Effect::Permit => scope.permits.push(number),
                Effect::Forbid => scope.forbids.push(number),
            }
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

    /// The keys of a policy's scope and the entities that it names; none if no Workload can match it.
    fn scope(&mut self, policy: &Policy) -> Option<(ScopeKey, Vec<EntityUid>)> {
        let mut named = Vec::new();
        let mut name = |uid: EntityUid| {
            let name = self.names.intern(&uid);
            named.push(uid);
            name
        };
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
        Some(((principal, actions, resource, kind.map(|kind| kind.to_string().into())), named))
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

/// The entities among `literals` that a condition names, and those that these lead to. Each entity that the scope names is among the
/// literals once for that.
fn visible(
    mut literals: Vec<EntityUid>,
    in_scope: Vec<EntityUid>,
    entities: &StaticEntities,
    actions: &Entities,
) -> Vec<Entity> {
    for uid in in_scope {
        if let Some(at) = literals.iter().position(|literal| *literal == uid) {
            literals.swap_remove(at);
        }
    }
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

fn references(value: &EvalResult, found: &mut Vec<EntityUid>) {
    match value {
        EvalResult::EntityUid(uid) => found.push(uid.clone()),
        EvalResult::Set(set) => set.iter().for_each(|value| references(value, found)),
        EvalResult::Record(record) => record.iter().for_each(|(_, value)| references(value, found)),
        _ => {}
    }
}
