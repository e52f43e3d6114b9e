//! The compiled policies, and the decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::AHashMap;
use cedar_policy::{Authorizer, Effect, Entities, Entity, EntityTypeName, EntityUid, Policy};

use super::builder::{Builder, Compilable, Conditional, Scope};
use super::index::Index;
use super::names::{Key, Name, Names};
use super::principal::{MergedTags, Principal};
use super::question::{Asked, Question, type_name};
use crate::identity::SpiffeId;
use crate::mapping::{Context, Operation, Resource, ResourceKind};
use crate::policy::decision::{Decision, Outcome};
use crate::policy::load::StaticEntities;
use crate::policy::schema::{ActionForms, MergedSchema};

/// Tells engines apart: a principal's keys belong to the engine that made it.
static NEXT_STAMP: AtomicU64 = AtomicU64::new(0);

/// A set of policies with its entities and schema, ready to be asked.
#[derive(Debug)]
pub(in crate::policy) struct Engine {
    stamp: u64,
    forms: Arc<ActionForms>,
    actions: AHashMap<Box<str>, CompiledAction>,
    names: Names,
    index: Index,
    scopes: Vec<Scope>,
    ids: Vec<Arc<str>>,
    numbers: AHashMap<Arc<str>, u32>,
    types: Types,
    authorizer: Authorizer,
}

#[derive(Debug)]
struct Types {
    workload: EntityTypeName,
    headers: EntityTypeName,
    claims: EntityTypeName,
    resources: Vec<(ResourceKind, EntityTypeName)>,
}

#[derive(Debug)]
struct CompiledAction {
    keys: Vec<Key>,
    /// With its groups as parents: without it `action in Action::"delete"` in a condition would silently be false.
    entity: Entity,
}

/// What a resource is to the compiled policies.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) keys: Vec<Key>,
    /// Everything it is in that some policy or entities.json names: nothing else can be asked for.
    pub(super) parents: Vec<Name>,
    pub(super) tags: MergedTags,
}

impl Engine {
    /// Compiles policies.
    pub(in crate::policy) fn compile(
        policies: &[Compilable<'_>],
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
        let mut builder = Builder::new(entities, &actions);
        for (number, compilable) in policies.iter().enumerate() {
            builder.add(u32::try_from(number).map_err(|_| "too many policies")?, compilable)?;
        }
        let mut engine = Self {
            stamp: NEXT_STAMP.fetch_add(1, Ordering::Relaxed),
            forms,
            actions: AHashMap::new(),
            names: builder.names,
            index: builder.index,
            scopes: builder.scopes,
            ids: policies.iter().map(|policy| Arc::clone(&policy.id)).collect(),
            numbers: policies.iter().zip(0..).map(|(policy, number)| (Arc::clone(&policy.id), number)).collect(),
            types,
            authorizer: Authorizer::new(),
        };
        engine.actions = engine.compile_actions(&actions);
        Ok(engine)
    }

    fn compile_actions(&self, entities: &Entities) -> AHashMap<Box<str>, CompiledAction> {
        let mut compiled = AHashMap::new();
        for (name, form) in self.forms.iter() {
            let Some(entity) = entities.get(&form.uid) else { continue };
            let find = |uid: &EntityUid| self.names.find(&uid.type_name().to_string(), uid.id().unescaped());
            let own = find(&form.uid);
            let mut keys: Vec<Key> = own.map(Name::exactly).into_iter().chain(own.map(Name::within)).collect();
            keys.extend(entities.ancestors(&form.uid).into_iter().flatten().filter_map(find).map(Name::within));
            keys.push(Key::ANY);
            compiled.insert(name.into(), CompiledAction { keys, entity: entity.clone() });
        }
        compiled
    }

    /// Who asks.
    pub(in crate::policy) fn principal(&self, id: &SpiffeId) -> Principal {
        Principal::resolve(id, &self.names, &self.types.workload, self.stamp)
    }

    /// Decides one operation.
    pub(in crate::policy) fn decide(&self, principal: &Principal, operation: &Operation, facts: &Context) -> Decision {
        let name = operation.action.as_str();
        let (Some(form), Some(action)) = (self.forms.get(name), self.actions.get(name)) else {
            return Decision::refused(format!("the schema has no action `{name}`"));
        };
        if !form.applies_to(operation.resource.kind()) {
            return Decision::refused(format!(
                "action `{name}` is never asked about a {}",
                operation.resource.kind().as_str()
            ));
        }
        if let Err(cause) = form.check(facts, &operation.context) {
            return Decision::error(cause);
        }
        if principal.stamp != self.stamp {
            return self.decide(&self.principal(principal.id()), operation, facts);
        }
        let located = self.locate(&operation.resource);
        let mut tally = Tally::default();
        let mut conditional = Vec::new();
        for number in self.index.candidates(&action.keys, &principal.keys, &located.keys) {
            let Some(scope) = self.scopes.get(number as usize) else { continue };
            if scope.resource_type.as_deref().is_some_and(|kind| kind != operation.resource.kind().as_str()) {
                continue;
            }
            tally.permits.extend_from_slice(&scope.permits);
            tally.forbids.extend_from_slice(&scope.forbids);
            conditional.extend(&scope.conditional);
        }
        tally.reads_time = conditional.iter().any(|conditional| conditional.reads.context("now"));
        if !conditional.is_empty() {
            let asked = Asked { principal, form, action: &action.entity, operation, located: &located, facts };
            match Question::new(self, &asked, &conditional) {
                Ok(question) => {
                    conditional.iter().for_each(|conditional| self.evaluate(conditional, &question, &mut tally))
                }
                Err(cause) => return Decision::error(cause),
            }
        }
        tally.decision(&self.ids)
    }

    /// The question in Cedar's own values, as far as `conditionals` read it; none if the schema has no such question.
    pub(super) fn question(
        &self,
        principal: &Principal,
        operation: &Operation,
        facts: &Context,
        conditionals: &[&Conditional],
    ) -> Result<Option<Question>, String> {
        let name = operation.action.as_str();
        let (Some(form), Some(action)) = (self.forms.get(name), self.actions.get(name)) else { return Ok(None) };
        if !form.applies_to(operation.resource.kind()) || form.check(facts, &operation.context).is_err() {
            return Ok(None);
        }
        let located = self.locate(&operation.resource);
        let asked = Asked { principal, form, action: &action.entity, operation, located: &located, facts };
        Question::new(self, &asked, conditionals).map(Some)
    }

    /// Of every scope the policies with conditions.
    pub(super) fn conditionals(&self) -> impl Iterator<Item = &Conditional> {
        self.scopes.iter().filter_map(|scope| scope.conditional.as_ref())
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

    pub(super) fn locate(&self, resource: &Resource) -> Located {
        let mut located = Located { keys: Vec::with_capacity(8), parents: Vec::new(), tags: MergedTags::default() };
        if let Some(name) = self.names.find(resource.kind().as_str(), resource.id()) {
            located.keys.push(name.exactly());
            located.keys.push(name.within());
            self.rise(name, &mut located);
        }
        let mut of_kind: Option<(ResourceKind, Option<&super::names::TypeNames>)> = None;
        for (kind, id) in resource.ancestors() {
            // Ancestors of one kind follow each other: the table of the kind is looked up once.
            let table = match of_kind {
                Some((known, table)) if known == kind => table,
                _ => self.names.of_type(kind.as_str()),
            };
            of_kind = Some((kind, table));
            if let Some(name) = table.and_then(|table| table.find(id)) {
                located.keys.push(name.within());
                located.parents.push(name);
                self.rise(name, &mut located);
            }
        }
        located.keys.push(Key::ANY);
        located
    }

    /// What entities.json puts it in, and its tags.
    fn rise(&self, name: Name, located: &mut Located) {
        located.tags.add(self.names.tags(name));
        for above in self.names.above(name) {
            if !located.parents.contains(above) {
                located.keys.push(above.within());
                located.parents.push(*above);
            }
        }
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

    pub(super) fn number(&self, id: &str) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    pub(super) fn ids_in_order(&self) -> &[Arc<str>] {
        &self.ids
    }
}

/// What the candidates said.
#[derive(Debug, Default)]
struct Tally {
    permits: Vec<u32>,
    forbids: Vec<u32>,
    errors: Vec<u32>,
    error: Option<String>,
    reads_time: bool,
}

impl Tally {
    fn decision(self, ids: &[Arc<str>]) -> Decision {
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
        let lasts = !self.reads_time && self.error.is_none();
        Decision { outcome, policies, error: self.error, lasts }
    }
}
