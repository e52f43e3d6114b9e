//! The compiled policies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use cedar_policy::{Authorizer, Entities, Entity, EntityTypeName, EntityUid};

use super::builder::{Builder, Compilable, Scope};
use super::conditions::Condition;
use super::index::Index;
use super::memory::Memory;
use super::names::{Key, Name, Names};
use super::principal::Principal;
use super::question::type_name;
use crate::identity::SpiffeId;
use crate::mapping::ResourceKind;
use crate::policy::forms::{ActionForm, ActionForms};
use crate::policy::load::StaticEntities;
use crate::policy::schema::MergedSchema;

/// Tells engines apart: a principal's keys belong to the engine that made it.
static NEXT_STAMP: AtomicU64 = AtomicU64::new(0);

/// A set of policies with its entities and schema, ready to be asked.
#[derive(Debug)]
pub(in crate::policy) struct Engine {
    pub(super) stamp: u64,
    pub(super) forms: Arc<ActionForms>,
    pub(super) actions: AHashMap<Box<str>, CompiledAction>,
    pub(super) names: Names,
    pub(super) index: Index,
    pub(super) scopes: Box<[Scope]>,
    pub(super) conditions: Box<[Condition]>,
    pub(super) ids: Box<[Arc<str>]>,
    types: Types,
    pub(super) authorizer: Authorizer,
    pub(super) memory: Memory,
}

#[derive(Debug)]
struct Types {
    workload: EntityTypeName,
    headers: EntityTypeName,
    claims: EntityTypeName,
    resources: Vec<(ResourceKind, EntityTypeName)>,
}

#[derive(Debug)]
pub(super) struct CompiledAction {
    pub(super) number: u32,
    pub(super) form: Arc<ActionForm>,
    pub(super) keys: Vec<Key>,
    /// With its groups as parents: without it `action in Action::"delete"` in a condition would silently be false.
    pub(super) entity: Entity,
}

impl Engine {
    /// Compiles policies.
    pub(in crate::policy) fn compile(
        policies: impl Iterator<Item = Compilable>,
        entities: &StaticEntities,
        schema: MergedSchema,
    ) -> Result<Self, String> {
        let MergedSchema { schema, forms } = schema;
        let actions = schema.action_entities().map_err(|cause| cause.to_string())?;
        let resources = ResourceKind::ALL.into_iter().map(|kind| Ok((kind, type_name(kind.as_str())?)));
        let types = Types {
            workload: type_name("Workload")?,
            headers: type_name("Headers")?,
            claims: type_name("Claims")?,
            resources: resources.collect::<Result<_, String>>()?,
        };
        let mut builder = Builder::new(entities, &actions, &forms);
        let mut ids = Vec::new();
        for (number, compilable) in policies.enumerate() {
            let number = u32::try_from(number).map_err(|_| "too many policies")?;
            ids.push(Arc::clone(&compilable.id));
            builder.add(number, compilable)?;
        }
        let Builder { names, mut index, scopes, conditions, .. } = builder;
        index.shrink_to_fit();
        let mut engine = Self {
            forms: Arc::clone(&forms),
            stamp: NEXT_STAMP.fetch_add(1, Ordering::Relaxed),
            actions: AHashMap::new(),
            names,
            index,
            scopes: scopes.into(),
            conditions: conditions.all.into(),
            ids: ids.into(),
            types,
            authorizer: Authorizer::new(),
            memory: Memory::new(),
        };
        engine.actions = engine.compile_actions(&actions);
        Ok(engine)
    }

    fn compile_actions(&self, entities: &Entities) -> AHashMap<Box<str>, CompiledAction> {
        let mut compiled = AHashMap::new();
        for (number, (name, form)) in (0..).zip(self.forms.iter()) {
            let Some(entity) = entities.get(&form.uid) else { continue };
            let find = |uid: &EntityUid| self.names.find(&uid.type_name().to_string(), uid.id().unescaped());
            let own = find(&form.uid);
            let mut keys: Vec<Key> = own.map(Name::exactly).into_iter().chain(own.map(Name::within)).collect();
            keys.extend(entities.ancestors(&form.uid).into_iter().flatten().filter_map(find).map(Name::within));
            keys.push(Key::ANY);
            compiled
                .insert(name.into(), CompiledAction { number, form: Arc::clone(form), keys, entity: entity.clone() });
        }
        compiled
    }

    /// Who asks.
    pub(in crate::policy) fn principal(&self, id: &SpiffeId) -> Principal {
        Principal::resolve(id, &self.names, &self.types.workload, self.stamp)
    }

    pub(super) fn type_name(&self, kind: ResourceKind) -> Option<&EntityTypeName> {
        self.types.resources.iter().find(|(known, _)| *known == kind).map(|(_, name)| name)
    }

    pub(super) const fn headers_type(&self) -> &EntityTypeName {
        &self.types.headers
    }

    pub(super) const fn claims_type(&self) -> &EntityTypeName {
        &self.types.claims
    }

    pub(super) const fn names(&self) -> &Names {
        &self.names
    }

    pub(super) const fn index(&self) -> &Index {
        &self.index
    }

    pub(super) fn scope(&self, number: u32) -> Option<&Scope> {
        self.scopes.get(number as usize)
    }

    pub(super) fn action_forms(&self) -> &ActionForms {
        &self.forms
    }

    pub(super) fn action_keys(&self, name: &str) -> Option<&[Key]> {
        self.actions.get(name).map(|action| &*action.keys)
    }

    pub(super) fn ids_in_order(&self) -> &[Arc<str>] {
        &self.ids
    }
}
