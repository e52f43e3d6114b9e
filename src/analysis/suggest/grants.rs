//! What was seen becomes grants, and no wider ones than the rule says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use super::is_wanted;
use crate::analysis::Recorded;
use crate::analysis::replay::outcomes;
use crate::policy::{PolicyGeneration, columns_condition};

/// What was asked, sorted.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) requests: u64,
    /// Of each who: what was asked of each place.
    asked: BTreeMap<String, BTreeMap<Place, Asked>>,
    /// The same of what was denied: no folder is granted that has something of it.
    denied: BTreeMap<String, BTreeMap<Place, BTreeSet<String>>>,
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
    ids: Ids,
    columns: BTreeSet<String>,
    reads_columns: bool,
}

/// Ids by which folders are found, each with its resource as Cedar writes it.
type Ids = BTreeMap<String, String>;

/// Who, which resource and which columns: one policy with all their actions.
type GrantKey = (String, String, Option<BTreeSet<String>>);

/// A policy to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    who: String,
    resource: String,
    columns: Option<BTreeSet<String>>,
    actions: BTreeSet<String>,
}

impl Seen {
    pub(super) fn record(&mut self, present: &PolicyGeneration, record: &Json, recorded: &Recorded, denied: bool) {
        let principal = present.principal(&recorded.principal);
        // Of a workload in several Stages nothing says which of them needs it: only the workload itself does for certain.
        let stages: Vec<&str> = principal.stages().collect();
        let who = match stages.as_slice() {
            [stage] => format!("in Stage::\"{}\"", stage.escape_debug()),
            _ => format!("== Workload::\"{}\"", recorded.principal),
        };
        if !is_wanted(recorded, denied) {
            self.denied(who, record, recorded);
            return;
        }
        self.requests += 1;
        for question in &recorded.questions {
            let (Some(action), Some(resource)) = (&question.action, &question.resource) else { continue };
            let Some((place, id)) = place(action, resource) else { continue };
            let asked = self.asked.entry(who.clone()).or_default().entry(place).or_default();
            asked.actions.insert(action.clone());
            asked.ids.insert(id, resource.clone());
            if let Some(columns) =
                question.context.get("columns").and_then(Json::as_array).filter(|_| resource.starts_with("Table::"))
            {
                asked.reads_columns = true;
                asked.columns.extend(columns.iter().filter_map(Json::as_str).map(str::to_owned));
            }
        }
    }

    fn denied(&mut self, who: String, record: &Json, recorded: &Recorded) {
        for (outcome, question) in outcomes(record, recorded).into_iter().zip(&recorded.questions) {
            let (Some(action), Some(resource)) = (&question.action, &question.resource) else { continue };
            if let (false, Some((place, id))) = (outcome == "allowed", place(action, resource)) {
                self.denied.entry(who.clone()).or_default().entry(place).or_default().insert(id);
            }
        }
    }

    /// One grant for each place; grants of one who to one resource with the same columns are joined.
    pub(super) fn grants(&self) -> Vec<Grant> {
        let mut joined: BTreeMap<GrantKey, BTreeSet<String>> = BTreeMap::new();
        for (who, places) in &self.asked {
            for (place, asked) in places {
                let resources = match place {
                    Place::Exactly { resource, .. } => vec![format!("== {resource}")],
                    Place::Below { kind, root, .. } => {
                        let denied = self.denied.get(who).and_then(|places| places.get(place));
                        below(kind, root, &asked.ids, denied.unwrap_or(&BTreeSet::new()))
                    }
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

    pub(super) fn cedar(&self) -> String {
        let mut text = String::from(
            "// Each grant is the common folder of the keys or paths that were asked for by one action, if nothing in it was denied,\n\
             // or exactly the object, table, function or endpoint, with the columns that were named.\n",
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
}

impl Grant {
    fn cedar(&self, number: usize) -> String {
        let actions: Vec<String> = self.actions.iter().map(|action| format!("Action::\"{action}\"")).collect();
        let action = match actions.as_slice() {
            [one] => format!("== {one}"),
            several => format!("in [{}]", several.join(", ")),
        };
        let columns = self.columns.as_ref().map(|columns| columns_condition(&columns.iter().collect::<Vec<_>>()));
        let columns = columns.unwrap_or_default();
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

/// `in Prefix::"lake/raw/ingest"`: of each first folder below `root` the longest that all ids in it have in common; what is in no folder, or
/// in one with something that was denied, is named exactly. Too many of these become `root` itself, unless something below it was denied.
fn below(kind: &str, root: &str, ids: &Ids, denied: &BTreeSet<String>) -> Vec<String> {
    let depth = root.split('/').count();
    let mut folders: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut resources = Vec::new();
    for (id, resource) in ids {
        let mut parts = id.split('/').skip(depth);
        match (parts.next(), kind == "HttpPath" || parts.next().is_some()) {
            (Some(first), true) if !first.is_empty() => folders.entry(first).or_default().push(id),
            _ => resources.push(format!("== {resource}")),
        }
    }
    let only_denied: Vec<&str> = denied.iter().filter(|id| !ids.contains_key(*id)).map(String::as_str).collect();
    for in_folder in folders.into_values() {
        let common = common(kind, &in_folder);
        let folder = common.strip_prefix("in ").and_then(|folder| folder.split_once("::\"")?.1.strip_suffix('"'));
        match folder.filter(|folder| only_denied.iter().any(|id| is_in(id, folder))) {
            Some(_) => {
                let exact = in_folder.iter().filter_map(|id| ids.get(*id));
                resources.extend(exact.map(|resource| format!("== {resource}")));
            }
            None => resources.push(common),
        }
    }
    if resources.len() <= MOST_FOLDERS || !only_denied.is_empty() {
        return resources;
    }
    let whole = if kind == "Prefix" { "Bucket" } else { "Endpoint" };
    vec![format!("in {whole}::\"{root}\"")]
}

fn is_in(id: &str, folder: &str) -> bool {
    id.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
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

    fn ids(kind: &str, ids: &[&str]) -> Ids {
        let of = |id: &&str| match (kind, id.strip_suffix('/')) {
            ("Prefix", Some(listed)) => format!("Prefix::\"{listed}\""),
            ("Prefix", None) => format!("Object::\"{id}\""),
            (kind, _) => format!("{kind}::\"{id}\""),
        };
        ids.iter().map(|id| ((*id).to_owned(), of(id))).collect()
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
            assert_eq!(below(kind, root, &ids(kind, given), &BTreeSet::new()), expected, "{given:?}");
        }
        let many: Vec<String> = (0..17).map(|n| format!("lake/raw/{n}/a")).collect();
        let many = ids("Prefix", &many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(below("Prefix", "lake/raw", &many, &BTreeSet::new()), ["in Bucket::\"lake/raw\""]);
        assert_eq!(below("Prefix", "lake/raw", &many, &["lake/raw/x/a".to_owned()].into()).len(), 17);
    }

    #[test]
    fn no_folder_is_granted_in_which_something_was_denied() {
        let seen = ids("Prefix", &["lake/raw/in/a", "lake/raw/in/b", "lake/raw/in/", "lake/raw/out/a"]);
        for (denied, expected) in [
            ("lake/raw/in/a", &["in Prefix::\"lake/raw/in\"", "in Prefix::\"lake/raw/out\""][..]),
            ("lake/raw/inn/a", &["in Prefix::\"lake/raw/in\"", "in Prefix::\"lake/raw/out\""]),
            (
                "lake/raw/in/deep/c",
                &[
                    "== Prefix::\"lake/raw/in\"",
                    "== Object::\"lake/raw/in/a\"",
                    "== Object::\"lake/raw/in/b\"",
                    "in Prefix::\"lake/raw/out\"",
                ],
            ),
        ] {
            assert_eq!(below("Prefix", "lake/raw", &seen, &[denied.to_owned()].into()), expected, "{denied}");
        }
    }
}
