//! The schema that portcullis ships, and what operators add to it.

use std::path::Path;
use std::sync::Arc;

use cedar_policy::{Schema, SchemaFragment};

use super::forms::ActionForms;
use super::load::{Language, PolicyErrors, PolicyFiles, PolicyProblem, Problems, SourceFile, too_deep};

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
        if let Some(problem) = too_deep(file, Language::Schema) {
            problems.push(problem);
            continue;
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Group, ResourceKind, http, s3, sql};

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
            assert_eq!(form.resources(), *kinds, "{name}");
            let above: Vec<_> =
                entities.ancestors(&form.uid).into_iter().flatten().map(|group| group.id().unescaped()).collect();
            assert_eq!(above, [group.as_str()], "{name}");
        }
        let named: Vec<_> = mapped.iter().map(|(name, ..)| *name).collect();
        let unmapped: Vec<_> = forms.iter().map(|(name, _)| name).filter(|name| !named.contains(name)).collect();
        assert!(mapped.len() > 90 && unmapped.is_empty(), "{unmapped:?}");
    }
}
