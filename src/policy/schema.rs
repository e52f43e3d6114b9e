//! The schema that portcullis ships, what operators add to it, and the form of each action's questions.

use std::path::Path;
use std::sync::Arc;

use ahash::AHashMap;
use cedar_policy::{EntityUid, Schema, SchemaFragment};
use serde_json::Value as Json;

use super::load::{PolicyErrors, PolicyFiles, PolicyProblem, Problems, SourceFile};
use crate::mapping::{Context, ResourceKind, Value};

/// The schema's text, as `policies/portcullis.cedarschema` has it.
pub const SHIPPED_SCHEMA: &str = include_str!("../../policies/portcullis.cedarschema");
/// The name of a copy of it in a policy directory.
pub(super) const SHIPPED_SCHEMA_FILE: &str = "portcullis.cedarschema";

/// The shipped schema and the further files of a policy directory as one text.
///
/// # Errors
/// The directory cannot be read, or the files do not go with each other.
pub fn schema_text(directory: Option<&Path>) -> Result<String, PolicyErrors> {
    let mut text = SHIPPED_SCHEMA.to_owned();
    if let Some(directory) = directory {
        let files = PolicyFiles::read_settled(directory)?;
        let mut problems = Problems::default();
        merge(&files.schemas, &mut problems);
        problems.verdict()?;
        for file in &files.schemas {
            text.push('\n');
            text.push_str(file.text());
        }
    }
    Ok(text)
}

/// The schema in force, and what may be asked by it.
#[derive(Debug, Clone)]
pub(super) struct MergedSchema {
    pub(super) schema: Schema,
    pub(super) forms: Arc<ActionForms>,
}

/// The shipped schema and the operator's own files, merged. What is wrong with those is added to `problems`.
pub(super) fn merge(files: &[Arc<SourceFile>], problems: &mut Problems) -> Option<MergedSchema> {
    let shipped = SourceFile::new(SHIPPED_SCHEMA_FILE, SHIPPED_SCHEMA);
    let mut fragments = Vec::new();
    for file in std::iter::once(&shipped).chain(files) {
        match SchemaFragment::from_cedarschema_str(file.text()) {
            Ok((fragment, warnings)) => {
                for warning in warnings {
                    problems.push(PolicyProblem::warning(file, None, warning.to_string()));
                }
                fragments.push(fragment);
            }
            Err(cause) => problems.push(PolicyProblem::from_cedar(file, &cause)),
        }
    }
    if fragments.len() != files.len() + 1 {
        return None;
    }
    let shipped_json =
        fragments.first().cloned().and_then(|fragment| fragment.to_json_value().ok()).unwrap_or_default();
    // Cedar does not say in which file a merged schema is wrong: it is the first that does not go with the shipped one alone, or they do
    // not go with each other. Its place is no help either, it may be one in the shipped schema.
    let alone = |number: usize| fragments.first().into_iter().chain(fragments.get(number + 1)).cloned();
    let wrong = |number: &usize| Schema::from_schema_fragments(alone(*number)).is_err();
    let file =
        || (0..files.len()).find(wrong).and_then(|number| files.get(number)).or(files.last()).unwrap_or(&shipped);
    let schema = Schema::from_schema_fragments(fragments.clone())
        .map_err(|cause| {
            let cedar = miette::Diagnostic::help(&cause).map(|help| help.to_string());
            let problem = PolicyProblem::error(file(), None, cause.to_string())
                .help("further schema files add types and actions; what the shipped schema declares cannot be declared again")
                .some_help(cedar);
            problems.push(problem);
        })
        .ok()?;
    match ActionForms::new(&schema, &shipped_json) {
        Ok(forms) => Some(MergedSchema { schema, forms: Arc::new(forms) }),
        Err(cause) => {
            problems.push(PolicyProblem::error(&shipped, None, cause));
            None
        }
    }
}

/// What may be asked with each action: on which resources, with which context.
#[derive(Debug)]
pub(super) struct ActionForms(AHashMap<Box<str>, ActionForm>);

/// What may be asked with one action.
#[derive(Debug)]
pub(super) struct ActionForm {
    pub(super) uid: EntityUid,
    resources: Vec<ResourceKind>,
    context: Arc<ContextForm>,
}

impl ActionForms {
    /// Of all actions of the shipped schema (`json`) on resources that a mapper can name: mappers name no others.
    fn new(schema: &Schema, json: &Json) -> Result<Self, String> {
        let shipped = json.pointer("/").ok_or("the shipped schema has no default namespace")?;
        let mut contexts: AHashMap<String, Arc<ContextForm>> = AHashMap::new();
        let mut forms = AHashMap::new();
        for uid in schema.actions() {
            let name = uid.id().unescaped();
            let Some(context) =
                shipped.get("actions").and_then(|actions| actions.get(name)?.pointer("/appliesTo/context"))
            else {
                continue;
            };
            let context = match contexts.get(&context.to_string()) {
                Some(form) => Arc::clone(form),
                None => {
                    let form = ContextForm::read(context, shipped)
                        .ok_or_else(|| format!("context of `{name}` has a type that no mapper can make"))?;
                    Arc::clone(contexts.entry(context.to_string()).or_insert(Arc::new(form)))
                }
            };
            let kinds: Vec<String> =
                schema.resources_for_action(uid).into_iter().flatten().map(ToString::to_string).collect();
            let resources =
                ResourceKind::ALL.into_iter().filter(|kind| kinds.iter().any(|name| name == kind.as_str())).collect();
            forms.insert(name.into(), ActionForm { uid: uid.clone(), resources, context });
        }
        Ok(Self(forms))
    }

    pub(super) fn get(&self, action: &str) -> Option<&ActionForm> {
        self.0.get(action)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &ActionForm)> {
        self.0.iter().map(|(name, form)| (&**name, form))
    }
}

impl ActionForm {
    /// Whether the action can be asked about such a resource.
    pub(super) fn applies_to(&self, kind: ResourceKind) -> bool {
        self.resources.contains(&kind)
    }

    /// The names of what its context may hold.
    pub(super) fn attributes(&self) -> impl Iterator<Item = &str> {
        self.context.attributes.iter().map(|attribute| &*attribute.name)
    }

    /// The same number for all actions of this schema whose questions have one form.
    pub(super) fn context_form(&self) -> usize {
        Arc::as_ptr(&self.context).addr()
    }

    /// Whether the question has a header entity.
    pub(super) fn has_headers(&self) -> bool {
        self.context.attributes.iter().any(|attribute| attribute.kind == Kind::Headers)
    }

    /// Checks what Cedar checks when a request is validated, without Cedar's values: a question that needs no condition is held to
    /// the schema too. Absent headers are no fault: the decision point makes empty ones.
    ///
    /// # Errors
    /// The first attribute that is unknown, missing, there twice, or of another type.
    pub(super) fn check(&self, facts: &Context, own: &Context) -> Result<(), String> {
        self.context.check(facts.iter().chain(own.iter()))
    }
}

#[derive(Debug, PartialEq, Eq)]
struct ContextForm {
    attributes: Vec<Attribute>,
}

#[derive(Debug, PartialEq, Eq)]
struct Attribute {
    name: Box<str>,
    required: bool,
    kind: Kind,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Long,
    String,
    Strings,
    Ip,
    Datetime,
    Headers,
    Claims,
    Record(ContextForm),
}

impl ContextForm {
    fn read(json: &Json, schema: &Json) -> Option<Self> {
        match Kind::read(json, schema)? {
            Kind::Record(form) => Some(form),
            _ => None,
        }
    }

    fn check<'a>(&self, values: impl Iterator<Item = (&'static str, &'a Value)>) -> Result<(), String> {
        // One bit an attribute: no context of the shipped schema has 64.
        let mut seen = 0_u64;
        for (name, value) in values {
            let found = self.attributes.iter().enumerate().find(|(_, attribute)| &*attribute.name == name);
            let Some((at, attribute)) = found else {
                return Err(format!("context has the unknown attribute `{name}`"));
            };
            attribute.kind.check(name, value)?;
            let bit = 1 << (at & 63);
            if seen & bit != 0 {
                return Err(format!("context has the attribute `{name}` twice"));
            }
            seen |= bit;
        }
        let missing = self.attributes.iter().enumerate().find(|(at, attribute)| {
            attribute.required && attribute.kind != Kind::Headers && seen & (1 << (at & 63)) == 0
        });
        missing.map_or(Ok(()), |(_, attribute)| Err(format!("context has no `{}`", attribute.name)))
    }
}

impl Kind {
    fn read(json: &Json, schema: &Json) -> Option<Self> {
        // A name stands for a common type, else for a primitive one or an entity type.
        let named = match json.get("type")?.as_str()? {
            "EntityOrCommon" => json.get("name")?.as_str()?,
            direct => direct,
        };
        Some(match named {
            "Boolean" | "Bool" => Self::Bool,
            "Long" => Self::Long,
            "String" => Self::String,
            "Set" => match Self::read(json.get("element")?, schema)? {
                Self::String => Self::Strings,
                _ => return None,
            },
            "ipaddr" => Self::Ip,
            "datetime" => Self::Datetime,
            "Headers" => Self::Headers,
            "Claims" => Self::Claims,
            "Record" => {
                let attributes = json.get("attributes")?.as_object()?.iter().map(|(name, json)| {
                    let required = json.get("required").and_then(Json::as_bool).unwrap_or(true);
                    Some(Attribute { name: name.as_str().into(), required, kind: Self::read(json, schema)? })
                });
                Self::Record(ContextForm {
                    attributes: attributes.collect::<Option<_>>().filter(|all: &Vec<_>| all.len() < 64)?,
                })
            }
            common => Self::read(schema.get("commonTypes")?.get(common)?, schema)?,
        })
    }

    fn check(&self, name: &str, value: &Value) -> Result<(), String> {
        match (self, value) {
            (Self::Bool, Value::Bool(_))
            | (Self::Long, Value::Long(_))
            | (Self::String, Value::String(_))
            | (Self::Strings, Value::Strings(_))
            | (Self::Ip, Value::Ip(_))
            | (Self::Datetime, Value::Datetime(_))
            | (Self::Headers, Value::Headers(_))
            | (Self::Claims, Value::Claims(_)) => Ok(()),
            (Self::Record(form), Value::Record(fields)) => form
                .check(fields.iter().map(|(name, value)| (*name, value)))
                .map_err(|cause| format!("`{name}`: {cause}")),
            _ => Err(format!("context has `{name}` of another type than the schema's")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Group, http, s3, sql};

    #[test]
    fn every_shipped_action_has_a_form_and_is_in_exactly_one_group() {
        let mut problems = Problems::default();
        let MergedSchema { schema, forms } = merge(&[], &mut problems).expect("shipped schema merges");
        problems.verdict().expect("without problems");
        let groups = ["read", "write", "delete", "list", "admin", "connect"];
        let entities = schema.action_entities().expect("action entities");
        let mut actions = 0;
        for uid in schema.actions() {
            let name = uid.id().unescaped();
            let above: Vec<_> =
                entities.ancestors(uid).into_iter().flatten().map(|group| group.id().unescaped()).collect();
            if groups.contains(&name) {
                assert!(above.is_empty(), "{name} is a group");
                continue;
            }
            assert!(above.len() == 1 && groups.contains(&above[0]), "{name} is in {above:?}");
            assert!(forms.get(name).is_some(), "{name} has a form");
            actions += 1;
        }
        assert!(actions > 100, "{actions} actions");
        println!("{actions} actions, {} request environments", schema.request_envs().count());
    }

    #[test]
    fn the_schema_has_the_mappers_actions_in_their_groups_on_their_resources_and_no_others() {
        let MergedSchema { schema, forms } = merge(&[], &mut Problems::default()).expect("merges");
        let entities = schema.action_entities().expect("action entities");
        let mapped: Vec<(&str, Group, &[ResourceKind])> = s3::actions()
            .map(|(name, group)| (name, group, s3::resource_kinds(name)))
            .chain(http::actions().map(|(name, group)| (name, group, http::resource_kinds(name))))
            .chain(sql::actions().map(|(name, group)| (name, group, sql::resource_kinds(name))))
            .chain([("tcp:Connect", Group::Connect, &[ResourceKind::Endpoint][..])])
            .collect();
        for (name, group, kinds) in &mapped {
            let form = forms.get(name).unwrap_or_else(|| panic!("{name} is not in the schema"));
            assert_eq!(form.resources, *kinds, "{name}");
            let above: Vec<_> =
                entities.ancestors(&form.uid).into_iter().flatten().map(|group| group.id().unescaped()).collect();
            assert_eq!(above, [group.as_str()], "{name}");
        }
        let named: Vec<_> = mapped.iter().map(|(name, ..)| *name).collect();
        let unmapped: Vec<_> = forms.iter().map(|(name, _)| name).filter(|name| !named.contains(name)).collect();
        assert!(mapped.len() > 90 && unmapped.is_empty(), "{unmapped:?}");
    }

    #[test]
    fn a_question_is_held_to_the_form_of_its_action() {
        let mut problems = Problems::default();
        let forms = merge(&[], &mut problems).expect("merges").forms;
        let form = forms.get("http:GET").expect("known");
        assert!(form.applies_to(ResourceKind::HttpPath) && !form.applies_to(ResourceKind::Bucket));
        let mut facts = Context::default();
        let none = Context::default();
        assert_eq!(form.check(&facts, &none), Err("context has no `direction`".to_owned()));
        facts.set("direction", "inbound");
        assert_eq!(form.check(&facts, &none), Err("context has no `now`".to_owned()));
        facts.set("now", Value::Datetime(0));
        assert_eq!(form.check(&facts, &none), Ok(()));
        assert_eq!(form.check(&facts, &facts.clone()), Err("context has the attribute `direction` twice".to_owned()));
        let mut own = Context::default();
        own.set("host", 7_i64);
        assert_eq!(form.check(&facts, &own), Err("context has `host` of another type than the schema's".to_owned()));
        let mut own = Context::default();
        own.set("acl", "private");
        assert_eq!(form.check(&facts, &own), Err("context has the unknown attribute `acl`".to_owned()));
        let mut own = Context::default();
        own.set("tls", Value::Record(vec![("version", "TLSv1.3".into())]));
        assert_eq!(form.check(&facts, &own), Err("`tls`: context has no `certificateExpiry`".to_owned()));
    }
}
