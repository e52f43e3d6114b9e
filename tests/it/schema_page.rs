//! `docs/policy-schema.md` is written from the shipped schema: its comments, types and actions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use cedar_policy::Schema;

const SCHEMA: &str = include_str!("../../policies/portcullis.cedarschema");

/// The groups of actions, in the order of the page.
const GROUPS: [&str; 6] = ["read", "list", "write", "delete", "admin", "connect"];

/// A section of the schema: what is between two lines of dashes.
#[derive(Debug, Default)]
struct Section {
    name: String,
    comment: String,
    entities: Vec<Entity>,
    types: Vec<Fields>,
    groups: Vec<(String, String)>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Entity {
    fields: Fields,
    /// What it may be in.
    parents: Vec<String>,
    has_tags: bool,
}

/// A type with its attributes.
#[derive(Debug)]
struct Fields {
    name: String,
    comment: String,
    attributes: Vec<Attribute>,
}

#[derive(Debug, PartialEq)]
struct Attribute {
    name: String,
    kind: String,
    is_optional: bool,
    comment: String,
}

#[derive(Debug)]
struct Action {
    name: String,
    comment: String,
    group: String,
    resources: Vec<String>,
    context: String,
}

#[test]
fn the_page_on_the_schema_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy-schema.md");
    let page = page(&sections());
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &page).expect("the page is writable");
    }
    let current = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(current == page, "docs/policy-schema.md is not current: run `BLESS=1 cargo test --test it schema_page`");
}

#[test]
fn the_page_on_the_schema_leaves_nothing_out_and_everything_on_it_has_a_comment() {
    let (schema, _) = Schema::from_cedarschema_str(SCHEMA).expect("the shipped schema is one");
    let sections = sections();
    let named = |names: &mut dyn Iterator<Item = String>| names.collect::<BTreeSet<_>>();
    let actions = sections.iter().flat_map(|section| section.actions.iter().map(|action| action.name.clone()));
    let groups = sections.iter().flat_map(|section| section.groups.iter().map(|(name, _)| name.clone()));
    let known = schema.actions().map(|action| action.id().unescaped().to_owned());
    assert_eq!(named(&mut actions.chain(groups)), named(&mut known.into_iter()));
    let entities = sections.iter().flat_map(|section| section.entities.iter().map(|entity| entity.fields.name.clone()));
    let known = schema.entity_types().map(ToString::to_string).filter(|name| name != "Action");
    assert_eq!(named(&mut entities.into_iter()), named(&mut known.into_iter()));
    for section in &sections {
        let types = section.types.iter().chain(section.entities.iter().map(|entity| &entity.fields));
        let attributes = types.clone().flat_map(|fields| fields.attributes.iter().map(|one| (&one.name, &one.comment)));
        let comments = types.map(|fields| (&fields.name, &fields.comment)).chain(attributes);
        let actions = section.actions.iter().map(|action| (&action.name, &action.comment));
        for (name, comment) in comments.chain(actions).chain(section.groups.iter().map(|(a, b)| (a, b))) {
            assert!(!comment.is_empty(), "`{name}` has no comment in the schema");
        }
    }
}

fn page(sections: &[Section]) -> String {
    let mut text = String::from(
        "# The schema\n\n<!-- written by `BLESS=1 cargo test --test it schema_page` from policies/portcullis.cedarschema -->\n\n\
         What a policy can speak of: who asks, what is asked for, about what, and what is known of the request. The same as Cedar:\n\
         [portcullis.cedarschema](../policies/portcullis.cedarschema), from whose comments this page is written. [Policies](policies.md) is the\n\
         tutorial, the [cookbook](policy-cookbook.md) has policies to copy.\n\n",
    );
    for section in sections {
        match section.name.as_str() {
            "context" => context(&mut text, section),
            "groups" => groups(&mut text, sections, section),
            name if !section.actions.is_empty() => actions(&mut text, name, section),
            _ if !section.entities.is_empty() => entities(&mut text, section),
            _ => {}
        }
    }
    text.trim_end().to_owned() + "\n"
}

fn title(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

fn entities(text: &mut String, section: &Section) {
    let _ = write!(text, "## {}\n\n{}", title(&section.name), paragraph(&section.comment));
    let _ = writeln!(text, "| type | what | may be in |\n|---|---|---|");
    for entity in &section.entities {
        let parents: Vec<_> = entity.parents.iter().map(|name| format!("`{name}`")).collect();
        let parents = if parents.is_empty() { "–".to_owned() } else { parents.join(" ") };
        let _ = writeln!(text, "| `{}` | {} | {parents} |", entity.fields.name, cell(&entity.fields.comment));
        assert!(entity.has_tags, "the page says that all of them may have tags: {}", entity.fields.name);
    }
    for entity in section.entities.iter().filter(|entity| !entity.fields.attributes.is_empty()) {
        let _ = write!(text, "\nAttributes of a `{}`:\n\n", entity.fields.name);
        attributes(text, &entity.fields.attributes);
    }
    text.push('\n');
}

fn context(text: &mut String, section: &Section) {
    let find = |name: &str| section.types.iter().find(|fields| fields.name == name).expect("the schema has it");
    let (common, http) = (find("CommonContext"), find("HttpContext"));
    let _ = write!(
        text,
        "## Context\n\nWhat conditions read as `context.NAME`. What is not always there is asked for first: `context has token && \
         context.token.iss == \"…\"`.\nTimes are compared with `datetime(\"2026-12-01T00:00:00Z\")`, times of day with \
         `context.now.toTime() >= duration(\"8h\")`, addresses with\n`context.sourceIp.isInRange(ip(\"10.0.0.0/8\"))`.\n\n"
    );
    let parts = [
        ("Every question", common, Vec::new()),
        ("HTTP and S3 requests have also", http, vec![common]),
        ("S3 requests have also", find("StorageContext"), vec![http]),
        ("SQL statements have also", find("SqlContext"), vec![common]),
    ];
    for (title, fields, without) in parts {
        let more = fields.attributes.iter().filter(|attribute| {
            !without.iter().any(|without| without.attributes.iter().any(|other| other.name == attribute.name))
        });
        // The page shows shared attributes once, so they have to be the same everywhere.
        for shared in without.iter().flat_map(|without| &without.attributes) {
            assert!(fields.attributes.contains(shared), "{} differs in `{}`", fields.name, shared.name);
        }
        let _ = write!(text, "### {title}\n\n");
        attributes(text, more);
        text.push('\n');
    }
    for fields in section.types.iter().filter(|fields| !fields.name.ends_with("Context")) {
        let _ = write!(text, "### `{}`\n\n{}", fields.name, paragraph(&fields.comment));
        attributes(text, &fields.attributes);
        text.push('\n');
    }
    for entity in &section.entities {
        let _ = write!(text, "### `{}`\n\n{}", entity.fields.name, paragraph(&entity.fields.comment));
    }
}

fn attributes<'a>(text: &mut String, attributes: impl IntoIterator<Item = &'a Attribute>) {
    let _ = writeln!(text, "| attribute | type | always there | what |\n|---|---|---|---|");
    for Attribute { name, kind, is_optional, comment } in attributes {
        let always = if *is_optional { "no" } else { "yes" };
        let _ = writeln!(text, "| `{name}` | {kind} | {always} | {} |", cell(comment));
    }
}

fn groups(text: &mut String, sections: &[Section], section: &Section) {
    let all: Vec<&Action> = sections.iter().flat_map(|section| &section.actions).collect();
    let _ = write!(text, "## Actions\n\n{}", paragraph(&section.comment));
    let _ = writeln!(text, "| group | what | HTTP | S3 | SQL | TCP |\n|---|---|---|---|---|---|");
    for group in GROUPS {
        let (_, comment) = section.groups.iter().find(|(name, _)| name == group).expect("the schema has it");
        let count = |prefix: &str| match all
            .iter()
            .filter(|action| {
                action.group == group && action.name.split(':').next().is_some_and(|of| of.starts_with(prefix))
            })
            .count()
        {
            0 => "–".to_owned(),
            some => some.to_string(),
        };
        let counts = ["http", "s3", "sql", "tcp"].map(count).join(" | ");
        let _ = writeln!(text, "| `Action::\"{group}\"` | {} | {counts} |", cell(comment));
    }
    text.push_str("\nWrite `action in Action::\"read\"` for a group, `action == Action::\"s3:GetObject\"` for one, and a list for several:\n");
    text.push_str("`action in [Action::\"read\", Action::\"list\"]`.\n\n");
}

fn actions(text: &mut String, name: &str, section: &Section) {
    let _ = write!(text, "### {name}\n\n{}", paragraph(&section.comment));
    let _ = writeln!(text, "| action | group | asked about | for |\n|---|---|---|---|");
    let mut by_group: BTreeMap<usize, Vec<&Action>> = BTreeMap::new();
    for action in &section.actions {
        let place = GROUPS.iter().position(|group| *group == action.group).expect("the group is known");
        by_group.entry(place).or_default().push(action);
    }
    let mut above = String::new();
    for action in by_group.into_values().flatten() {
        let resources: Vec<_> = action.resources.iter().map(|name| format!("`{name}`")).collect();
        let comment = match action.comment.as_str() {
            "the same of one version" => format!("{above}, of one version"),
            "likewise" => format!("{above}, likewise"),
            other => {
                other.split(['.', ',', ':']).next().unwrap_or(other).clone_into(&mut above);
                other.to_owned()
            }
        };
        let _ =
            writeln!(text, "| `{}` | {} | {} | {} |", action.name, action.group, resources.join(" "), cell(&comment));
    }
    let contexts: BTreeSet<&str> = section.actions.iter().map(|action| action.context.as_str()).collect();
    assert_eq!(contexts.len(), 1, "the page has one context for each protocol: {contexts:?}");
    text.push('\n');
}

/// A comment as a paragraph, if there is one.
fn paragraph(comment: &str) -> String {
    if comment.is_empty() { String::new() } else { format!("{}\n\n", wrapped(comment)) }
}

/// In a table a bar would end the cell.
fn cell(comment: &str) -> String {
    comment.replace('|', "\\|")
}

fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a line");
        if !last.is_empty() && last.chars().count() + word.chars().count() >= 140 {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n")
}

/// Reads the schema with its comments. It is written plainly: a comment stands above what it is about, an attribute or action on a line.
fn sections() -> Vec<Section> {
    let mut sections: Vec<Section> = vec![Section::default()];
    let mut comment: Vec<&str> = Vec::new();
    let mut declaration = String::new();
    let mut inside: Vec<(String, String)> = Vec::new();
    for line in SCHEMA.lines().map(str::trim) {
        let section = sections.last_mut().expect("there is one");
        if let Some(said) = line.strip_prefix("//") {
            match said.trim().strip_prefix("---") {
                Some(dashes) => {
                    let name = dashes.trim_start_matches('-').trim().to_owned();
                    sections.push(Section { name, ..Section::default() });
                    comment.clear();
                }
                None => comment.push(said.trim()),
            }
        } else if line.is_empty() {
            if declaration.is_empty() && !comment.is_empty() {
                section.comment = comment.join(" ");
            }
            comment.clear();
        } else {
            // What stands on the line of its own comment: an attribute, or one action of several.
            let said = std::mem::take(&mut comment).join(" ");
            inside.push((line.trim_end_matches(',').to_owned(), said));
            let _ = write!(declaration, "{line} ");
            if line.ends_with(';') {
                declare(section, &std::mem::take(&mut declaration), &std::mem::take(&mut inside));
            }
        }
    }
    sections
}

fn declare(section: &mut Section, declaration: &str, lines: &[(String, String)]) {
    let comment = lines.first().map(|(_, comment)| comment.clone()).unwrap_or_default();
    let between = |from: &str, to: &str| {
        declaration.split_once(from).and_then(|(_, rest)| rest.split_once(to)).map_or("", |(inner, _)| inner)
    };
    let list = |text: &str| {
        text.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect()
    };
    let word = declaration.split([' ', ';']).nth(1).unwrap_or_default().to_owned();
    let attributes = lines.iter().filter_map(|(line, comment)| {
        let (name, kind) = line.split_once(": ").filter(|_| !line.starts_with("in "))?;
        let plain = name.trim_end_matches('?');
        let kind = format!("`{}`", kind.trim_end_matches(','));
        Some(Attribute { name: plain.to_owned(), kind, is_optional: plain != name, comment: comment.clone() })
    });
    match declaration.split(' ').next() {
        Some("entity") => section.entities.push(Entity {
            parents: list(between(" in [", "]")),
            has_tags: declaration.contains(" tags Set<String>"),
            fields: Fields { name: word, comment, attributes: attributes.collect() },
        }),
        Some("type") => section.types.push(Fields { name: word, comment, attributes: attributes.collect() }),
        Some("action") if !declaration.contains("appliesTo") => {
            section.groups.push((word.trim_matches('"').to_owned(), comment))
        }
        Some("action") => {
            let quoted = lines.iter().filter(|(line, _)| !line.starts_with("in "));
            let names = quoted.filter_map(|(line, comment)| Some((line.split('"').nth(1)?, comment.clone())));
            let group = list(between(" in [", "]")).into_iter().next().expect("an action is in a group");
            let resources: Vec<String> = list(between("resource: [", "]"));
            let context = between("context: ", " }").to_owned();
            section.actions.extend(names.map(|(name, comment)| Action {
                name: name.to_owned(),
                comment,
                group: group.clone(),
                resources: resources.clone(),
                context: context.clone(),
            }));
        }
        other => panic!("the schema declares {other:?}"),
    }
}
