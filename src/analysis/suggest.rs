//! The least policies that allow what was seen, and the grants that nobody used.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use super::Recorded;
use super::asked::AskedOf;
use super::replay::{each_record, is_question};
use crate::mapping::Operation;
use crate::policy::{PolicyGeneration, PolicySource};

/// What a log suggests.
#[derive(Debug, Default)]
pub struct Suggestion {
    /// Policies in Cedar's language, grouped by who asked, marked as unreviewed.
    pub cedar: String,
    /// How many policies these are.
    pub policies: usize,
    /// How many recorded requests they come from.
    pub requests: u64,
    /// What of the present policies nothing was allowed by.
    pub unused: Vec<Unused>,
}

/// A grant that nothing in the log needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// The policy.
    pub policy: Arc<str>,
    /// Its file and line.
    pub place: String,
    /// Actions of its scope that nobody asked for; empty if the whole policy is unused.
    pub actions: Vec<String>,
}

/// Suggests policies for the requests in `files` that were allowed; with `denied` for those that no permit matched too. `present` says who
/// is in which Stage, and which grants there are.
///
/// # Errors
/// A file cannot be read.
pub fn suggest(present: &PolicyGeneration, files: &[PathBuf], denied: bool) -> io::Result<Suggestion> {
    let mut seen = Seen::default();
    for path in files {
        each_record(path, |record| {
            if let Some(record) = record.filter(|record| is_question(record)) {
                seen.record(present, record, denied);
            }
        })?;
    }
    Ok(Suggestion {
        cedar: seen.cedar(),
        policies: seen.grants().len(),
        requests: seen.requests,
        unused: seen.unused(present),
    })
}

/// Whether the suggested policies, with the entities of `directory`, allow everything that they come from.
///
/// # Errors
/// They do not, or they do not load: what is wrong.
pub fn proved(suggestion: &Suggestion, directory: &Path, files: &[PathBuf], denied: bool) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
    let at = folder.path();
    std::fs::write(at.join("suggested.cedar"), &suggestion.cedar).map_err(|cause| cause.to_string())?;
    for entry in std::fs::read_dir(directory).map_err(|cause| cause.to_string())?.flatten() {
        let name = entry.file_name();
        let kept = name == "entities.json" || name.to_string_lossy().ends_with(".cedarschema");
        if kept {
            std::fs::copy(entry.path(), at.join(name)).map_err(|cause| cause.to_string())?;
        }
    }
    let policies = PolicyGeneration::load(&PolicySource::of(at), 1).map_err(|errors| errors.to_string())?;
    let mut missing = None;
    for path in files {
        each_record(path, |record| {
            if let (None, Some(record)) = (&missing, record.filter(|record| is_question(record))) {
                missing = denied_again(&policies, record, denied);
            }
        })
        .map_err(|cause| cause.to_string())?;
    }
    missing.map_or(Ok(()), Err)
}

/// What of a record that counts these policies would not allow.
fn denied_again(policies: &PolicyGeneration, record: &Json, denied: bool) -> Option<String> {
    let recorded = Recorded::read(record).ok().filter(|recorded| is_wanted(recorded, denied))?;
    let principal = policies.principal(&recorded.principal);
    let said = |what: &str| {
        let id = record.get("decision_id").and_then(Json::as_str).unwrap_or_default();
        Some(format!("{} {what} ({id}) would not be allowed", recorded.principal))
    };
    for question in &recorded.questions {
        let Ok(AskedOf { facts, operations: Ok(operations) }) = question.asked(policies.headers_read()) else {
            return said("asks what this version does not know: it");
        };
        let is_denied = |operation: &&Operation| !policies.decide(&principal, operation, &facts).outcome.is_allowed();
        if let Some(operation) = operations.iter().find(is_denied) {
            return said(&format!("{} {}", operation.action, operation.resource));
        }
    }
    None
}

/// Whether a record is of what policies are suggested for.
fn is_wanted(recorded: &Recorded, denied: bool) -> bool {
    recorded.outcome == "allowed" || (denied && recorded.outcome == "not_permitted")
}

/// What was asked, sorted.
#[derive(Debug, Default)]
struct Seen {
    requests: u64,
    /// Of each who: what was asked of each place.
    asked: BTreeMap<String, BTreeMap<Place, Asked>>,
    /// Of each policy that allowed something: the actions that it did so for.
    used: BTreeMap<String, BTreeSet<String>>,
}

/// Where: requests of one place become one grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// Below a bucket or the paths of an endpoint, by this action: the common folder of all that was asked.
    Below { kind: &'static str, root: String, action: String },
    /// Exactly this resource, by this action: what may be read is not for that reason written.
    Exactly { resource: String, action: String },
}

#[derive(Debug, Default)]
struct Asked {
    actions: BTreeSet<String>,
    ids: BTreeSet<String>,
    columns: BTreeSet<String>,
    reads_columns: bool,
}

/// Who, which resource and which columns: one policy with all their actions.
type GrantKey = (String, String, Option<BTreeSet<String>>);

/// A policy to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Grant {
    who: String,
    resource: String,
    columns: Option<BTreeSet<String>>,
    actions: BTreeSet<String>,
}

impl Seen {
    fn record(&mut self, present: &PolicyGeneration, record: &Json, denied: bool) {
        let Ok(recorded) = Recorded::read(record) else { return };
        self.use_of(record);
        if !is_wanted(&recorded, denied) {
            return;
        }
        self.requests += 1;
        let principal = present.principal(&recorded.principal);
        // Of a workload in several Stages nothing says which of them needs it: only the workload itself does for certain.
        let stages: Vec<&str> = principal.stages().collect();
        let who = match stages.as_slice() {
            [stage] => format!("in Stage::\"{}\"", stage.escape_debug()),
            _ => format!("== Workload::\"{}\"", recorded.principal),
        };
        for question in &recorded.questions {
            let (Some(action), Some(resource)) = (&question.action, &question.resource) else { continue };
            let Some((place, id)) = place(action, resource) else { continue };
            let asked = self.asked.entry(who.clone()).or_default().entry(place).or_default();
            asked.actions.insert(action.clone());
            asked.ids.insert(id);
            if let Some(columns) =
                question.context.get("columns").and_then(Json::as_array).filter(|_| resource.starts_with("Table::"))
            {
                asked.reads_columns = true;
                asked.columns.extend(columns.iter().filter_map(Json::as_str).map(str::to_owned));
            }
        }
    }

    fn use_of(&mut self, record: &Json) {
        let operations = record.get("operations").and_then(Json::as_array).into_iter().flatten();
        for asked in std::iter::once(record).chain(operations) {
            let action = asked.get("action").and_then(Json::as_str).unwrap_or_default();
            for policy in asked.get("policies").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
            {
                self.used.entry(policy.to_owned()).or_default().insert(action.to_owned());
            }
        }
    }

    /// One grant for each place; grants of one who to one resource with the same columns are joined.
    fn grants(&self) -> Vec<Grant> {
        let mut joined: BTreeMap<GrantKey, BTreeSet<String>> = BTreeMap::new();
        for (who, places) in &self.asked {
            for (place, asked) in places {
                let resources = match place {
                    Place::Exactly { resource, .. } => vec![format!("== {resource}")],
                    Place::Below { kind, root, .. } => below(kind, root, &asked.ids),
                };
                let columns = asked.reads_columns.then(|| asked.columns.clone());
                for resource in resources {
                    let grant = joined.entry((who.clone(), resource, columns.clone())).or_default();
                    grant.extend(asked.actions.iter().cloned());
                }
            }
        }
        joined
            .into_iter()
            .map(|((who, resource, columns), actions)| Grant { who, resource, columns, actions })
            .collect()
    }

    fn cedar(&self) -> String {
        let mut text = String::from(
            "// Unreviewed: written from recorded requests. Each grant is the common folder of the keys or paths that were asked for by one\n\
             // action, or exactly the table, function or endpoint, with the columns that were named.\n",
        );
        let grants = self.grants();
        let mut last = "";
        for (number, grant) in grants.iter().enumerate() {
            if last != grant.who {
                text.push_str(&format!("\n// principal {}\n", grant.who));
            }
            text.push_str(&grant.cedar(number + 1));
            last = &grant.who;
        }
        text
    }

    fn unused(&self, present: &PolicyGeneration) -> Vec<Unused> {
        let mut unused = Vec::new();
        for policy in
            present.policies().iter().filter(|policy| !policy.shadow && !present.inactive().contains(&policy.id))
        {
            if !policy.permits {
                continue;
            }
            let place = format!("{}:{}", policy.file, policy.line);
            match self.used.get(&*policy.id) {
                None => unused.push(Unused { policy: Arc::clone(&policy.id), place, actions: Vec::new() }),
                Some(used) => {
                    // Of a list of actions, those that nobody asked for; groups (`read`) are not taken apart.
                    let named =
                        policy.actions.iter().filter(|action| action.contains(':') && !used.contains(&***action));
                    let actions: Vec<String> = named.map(ToString::to_string).collect();
                    if !actions.is_empty() && policy.actions.len() > 1 {
                        unused.push(Unused { policy: Arc::clone(&policy.id), place, actions });
                    }
                }
            }
        }
        unused
    }
}

impl Grant {
    fn cedar(&self, number: usize) -> String {
        let actions: Vec<String> = self.actions.iter().map(|action| format!("Action::\"{action}\"")).collect();
        let action = match actions.as_slice() {
            [one] => format!("== {one}"),
            several => format!("in [{}]", several.join(", ")),
        };
        let columns = match &self.columns {
            // Cedar's validator takes no empty set: it cannot tell what is in it.
            Some(columns) if columns.is_empty() => "\nwhen { context.columns.isEmpty() }".to_owned(),
            Some(columns) => {
                let quoted: Vec<String> =
                    columns.iter().map(|column| format!("\"{}\"", column.escape_debug())).collect();
                format!("\nwhen {{ [{}].containsAll(context.columns) }}", quoted.join(", "))
            }
            None => String::new(),
        };
        format!(
            "@id(\"suggested-{number}\")\npermit (\n  principal {},\n  action {action},\n  resource {}\n){columns};\n",
            self.who, self.resource
        )
    }
}

/// Where a question belongs, and the id by which its folder is found.
fn place(action: &str, resource: &str) -> Option<(Place, String)> {
    let (kind, id) = resource.split_once("::\"")?;
    let id = id.strip_suffix('"')?.to_owned();
    let parts: Vec<&str> = id.split('/').collect();
    let below = |kind, root: String| Place::Below { kind, root, action: action.to_owned() };
    Some(match kind {
        "Object" => (below("Prefix", parts.get(..2)?.join("/")), id),
        // A listing is about the folder itself, not about what is beside it.
        "Prefix" => (below("Prefix", parts.get(..2)?.join("/")), format!("{id}/")),
        "HttpPath" => (below("HttpPath", (*parts.first()?).to_owned()), id),
        _ => (Place::Exactly { resource: resource.to_owned(), action: action.to_owned() }, id),
    })
}

/// How many grants one action may become before they are joined to the bucket or endpoint.
const MOST_FOLDERS: usize = 16;

/// `in Prefix::"lake/raw/ingest"`: of each first folder below `root` the longest that all ids in it have in common; what is in no folder is
/// named exactly. Too many of these become `root` itself.
fn below(kind: &str, root: &str, ids: &BTreeSet<String>) -> Vec<String> {
    let depth = root.split('/').count();
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut resources = Vec::new();
    for id in ids {
        let mut parts = id.split('/').skip(depth);
        match (parts.next(), kind == "HttpPath" || parts.next().is_some()) {
            (Some(first), true) if !first.is_empty() => folders.entry(first).or_default().push(id),
            _ => resources.push(format!("== {}::\"{id}\"", if kind == "Prefix" { "Object" } else { kind })),
        }
    }
    resources.extend(folders.into_values().map(|ids| common(kind, &ids)));
    if resources.len() <= MOST_FOLDERS {
        return resources;
    }
    let whole = if kind == "Prefix" { "Bucket" } else { "Endpoint" };
    vec![format!("in {whole}::\"{root}\"")]
}

/// What all of these, which have their first folder in common, are in.
fn common(kind: &str, ids: &[&str]) -> String {
    if let ([id], "HttpPath") = (ids, kind) {
        return format!("== HttpPath::\"{id}\"");
    }
    let mut common: Option<Vec<&str>> = None;
    for id in ids {
        let mut folder: Vec<&str> = id.split('/').collect();
        // The last part of a key is the object's own name; a path is in itself.
        if kind == "Prefix" {
            folder.pop();
        }
        common = Some(match common {
            None => folder,
            Some(known) => {
                known.iter().zip(&folder).take_while(|(one, other)| one == other).map(|(one, _)| *one).collect()
            }
        });
    }
    // A folder ends where an empty name begins: no id names that one.
    let named: Vec<&str> = common.unwrap_or_default().into_iter().take_while(|part| !part.is_empty()).collect();
    format!("in {kind}::\"{}\"", named.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    #[test]
    fn keys_are_generalized_to_their_common_folder_and_no_further() {
        for (kind, root, given, expected) in [
            (
                "Prefix",
                "lake/raw",
                &["lake/raw/in/2026/a", "lake/raw/in/2025/b"][..],
                &["in Prefix::\"lake/raw/in\""][..],
            ),
            ("Prefix", "lake/raw", &["lake/raw/in/2026/a"], &["in Prefix::\"lake/raw/in/2026\""]),
            (
                "Prefix",
                "lake/raw",
                &["lake/raw/in/a", "lake/raw/inn/a"],
                &["in Prefix::\"lake/raw/in\"", "in Prefix::\"lake/raw/inn\""],
            ),
            ("Prefix", "lake/raw", &["lake/raw/a"], &["== Object::\"lake/raw/a\""]),
            ("Prefix", "lake/raw", &["lake/raw//a"], &["== Object::\"lake/raw//a\""]),
            ("Prefix", "lake/raw", &["lake/raw/in//a", "lake/raw/in//b"], &["in Prefix::\"lake/raw/in\""]),
            ("HttpPath", "api", &["api/orders/1"], &["== HttpPath::\"api/orders/1\""]),
            ("HttpPath", "api", &["api/"], &["== HttpPath::\"api/\""]),
            ("HttpPath", "api", &["api/orders", "api/orders/1"], &["in HttpPath::\"api/orders\""]),
            ("HttpPath", "api", &["api/orders/1", "api/orders/2"], &["in HttpPath::\"api/orders\""]),
            (
                "HttpPath",
                "api",
                &["api/orders/1", "api/users/2"],
                &["== HttpPath::\"api/orders/1\"", "== HttpPath::\"api/users/2\""],
            ),
        ] {
            assert_eq!(below(kind, root, &ids(given)), expected, "{given:?}");
        }
        let many: BTreeSet<String> = (0..17).map(|n| format!("lake/raw/{n}/a")).collect();
        assert_eq!(below("Prefix", "lake/raw", &many), ["in Bucket::\"lake/raw\""]);
    }

    const ENTITIES: &str =
        r#"[{"uid": {"type": "Workload", "id": "spiffe://a.test/etl"}, "parents": [{"type": "Stage", "id": "etl"}]}]"#;
    const PRESENT: &str = r#"
@id("all") permit (principal in Stage::"etl", action in [Action::"s3:GetObject", Action::"s3:PutObject", Action::"sql:Select"], resource);
@id("never") permit (principal in Stage::"etl", action == Action::"s3:DeleteObject", resource);
@id("no") forbid (principal, action in Action::"admin", resource);
"#;

    fn record(action: &str, resource: &str, outcome: &str, context: Json) -> String {
        let policies = if outcome == "allowed" { vec!["all"] } else { vec![] };
        let mut whole = serde_json::json!({"now": "2026-11-21T09:30:00.125Z", "direction": "inbound"});
        whole.as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
        let record = serde_json::json!({"kind": "request", "decision_id": "01A", "outcome": outcome, "policies": policies,
            "principal": "spiffe://a.test/etl", "principal_in": ["Stage::\"etl\""], "action": action, "resource": resource, "context": whole});
        format!("{record}\n")
    }

    #[test]
    fn nothing_is_suggested_that_nobody_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let entities = r#"[{"uid": {"type": "Workload", "id": "spiffe://a.test/etl"}, "parents": [{"type": "Stage", "id": "etl"}]},
            {"uid": {"type": "Workload", "id": "spiffe://a.test/both"}, "parents": [{"type": "Stage", "id": "etl"}, {"type": "Stage", "id": "load"}]}]"#;
        for (name, text) in [("p.cedar", PRESENT), ("entities.json", entities)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let sql = |columns: &[&str], statement: &str| serde_json::json!({"columns": columns, "statement": statement, "role": "etl"});
        let people = "Table::\"wh/a.public.\\\"People\\\"\"";
        let both = record("sql:Select", people, "allowed", sql(&[], "select")).replace("a.test/etl", "a.test/both");
        let log = [
            record("sql:Select", people, "allowed", sql(&["id", "ssn"], "select")),
            record("sql:Update", people, "allowed", sql(&["city"], "update")),
            both,
        ];
        let file = folder.path().join("audit.jsonl");
        std::fs::write(&file, log.concat()).unwrap();
        let present = PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap();
        let suggestion = suggest(&present, std::slice::from_ref(&file), false).unwrap();
        assert_eq!(proved(&suggestion, folder.path(), &[file], false), Ok(()), "{}", suggestion.cedar);
        // What is read is not written, and one Stage does not get what a workload of several asked for.
        for said in [
            "action == Action::\"sql:Select\",\n  resource == Table::\"wh/a.public.\\\"People\\\"\"\n)\nwhen { [\"id\", \"ssn\"]",
            "action == Action::\"sql:Update\",\n  resource == Table::\"wh/a.public.\\\"People\\\"\"\n)\nwhen { [\"city\"]",
            "principal == Workload::\"spiffe://a.test/both\"",
            "when { context.columns.isEmpty() }",
        ] {
            assert!(suggestion.cedar.contains(said), "no {said} in {}", suggestion.cedar);
        }
    }

    #[test]
    fn what_was_seen_becomes_the_least_policies_and_these_allow_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("p.cedar", PRESENT), ("entities.json", ENTITIES)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let s3 = |operation: &str| serde_json::json!({"operation": operation, "byVersion": false, "presigned": false, "headers": {}});
        let sql = |columns: &[&str]| serde_json::json!({"columns": columns, "statement": "select", "role": "etl"});
        let log = [
            record("s3:GetObject", "Object::\"lake/raw/in/2026/a\"", "allowed", s3("GetObject")),
            record("s3:GetObject", "Object::\"lake/raw/in/2025/b\"", "allowed", s3("GetObject")),
            record("sql:Select", "Table::\"wh/a.public.people\"", "allowed", sql(&["id", "name"])),
            record("sql:Select", "Table::\"wh/a.public.people\"", "allowed", sql(&["city"])),
            record("s3:GetObject", "Object::\"lake/secret/a\"", "not_permitted", s3("GetObject")),
            "{\"kind\":\"handshake\",\"outcome\":\"refused\"}\n".to_owned(),
        ];
        let file = folder.path().join("audit.jsonl");
        std::fs::write(&file, log.concat()).unwrap();
        let present = PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap();
        let files = [file];
        let suggestion = suggest(&present, &files, false).unwrap();
        assert_eq!((suggestion.requests, suggestion.policies), (4, 2), "{}", suggestion.cedar);
        let expected = "\n// principal in Stage::\"etl\"\n\
            @id(\"suggested-1\")\npermit (\n  principal in Stage::\"etl\",\n  action == Action::\"sql:Select\",\n  \
            resource == Table::\"wh/a.public.people\"\n)\nwhen { [\"city\", \"id\", \"name\"].containsAll(context.columns) };\n\
            @id(\"suggested-2\")\npermit (\n  principal in Stage::\"etl\",\n  action == Action::\"s3:GetObject\",\n  \
            resource in Prefix::\"lake/raw/in\"\n);\n";
        assert!(suggestion.cedar.ends_with(expected), "{}", suggestion.cedar);
        assert!(suggestion.cedar.starts_with("// Unreviewed"));
        assert_eq!(proved(&suggestion, folder.path(), &files, false), Ok(()));
        assert!(proved(&suggestion, folder.path(), &files, true).unwrap_err().contains("lake/secret/a"));
        let unused: Vec<_> =
            suggestion.unused.iter().map(|unused| (&*unused.policy, unused.actions.join(" "))).collect();
        assert_eq!(unused, [("all", "s3:PutObject".to_owned()), ("never", String::new())]);

        let wider = suggest(&present, &files, true).unwrap();
        assert!(wider.cedar.contains("resource == Object::\"lake/secret/a\""), "{}", wider.cedar);
        assert_eq!(proved(&wider, folder.path(), &files, true), Ok(()));
        // A suggestion that allows less than was seen is found out.
        let less = Suggestion {
            cedar: "@id(\"none\") forbid (principal, action, resource);".to_owned(),
            ..Suggestion::default()
        };
        assert!(proved(&less, folder.path(), &files, false).unwrap_err().contains("would not be allowed"));
    }
}
