//! What statements ask, each written down, over the sample catalogue.

mod casts;
mod newer;
mod property;
mod reads;
mod wide;
mod writes;

use crate::mapping::sql::asked::unknown;
use crate::mapping::sql::catalog::Catalog;
use crate::mapping::sql::catalog::testing::{facts, facts_with};
use crate::mapping::sql::names::Names;
use crate::mapping::sql::{Effects, SqlRefusal};
use crate::mapping::{Operation, ResourceKind, Value};

use super::Walk;

/// What a statement came to.
pub(super) struct Walked {
    pub(super) operations: Vec<String>,
    pub(super) effects: Effects,
    pub(super) literals_matter: bool,
}

pub(super) fn walk_with(catalog: &Catalog, path: Option<&[&str]>, text: &str) -> Result<Walked, SqlRefusal> {
    let facts = path.map_or_else(facts, facts_with);
    let names = Names::new("wh", catalog, &facts);
    let parsed = pg_query::parse(text, 0).map_err(|error| unknown("42601", error.to_string()))?;
    let mut walk = Walk::new(&names);
    for statement in &parsed.protobuf.stmts {
        walk.query(statement.stmt.as_ref().unwrap().node.as_ref().unwrap())?;
    }
    let (operations, effects, literals_matter) = walk.asked.finish(&names, "test");
    let mut operations: Vec<_> = operations.iter().map(written).collect();
    operations.sort();
    Ok(Walked { operations, effects, literals_matter })
}

pub(super) fn asks(catalog: &Catalog, text: &str) -> String {
    match walk_with(catalog, None, text) {
        Ok(walked) => walked.operations.join("; "),
        Err(refusal) => format!("{} {}", refusal.sqlstate, refusal.rule),
    }
}

/// `sql:Select public.people[id,name]`.
fn written(operation: &Operation) -> String {
    let id = operation.resource.id();
    let place = match operation.resource.kind() {
        ResourceKind::Database => "db".to_owned(),
        ResourceKind::Function => format!("{}()", id.strip_prefix("wh/shop.").unwrap()),
        _ => {
            let Some(Value::Strings(columns)) = operation.context.get("columns") else { panic!("no columns") };
            format!("{}[{}]", id.strip_prefix("wh/shop.").unwrap(), columns.join(","))
        }
    };
    let mut all = format!("{} {place}", operation.action.as_str());
    for (name, value) in operation.context.iter() {
        if matches!(name, "setting" | "channel" | "requestedRole") {
            let Value::String(value) = value else { panic!("no string") };
            all.push_str(&format!(" {name}={value}"));
        }
    }
    all
}

/// Everything of a table that is not as expected, together.
pub(super) fn check(catalog: &Catalog, table: &[(&str, &str)]) {
    let wrong: Vec<_> = table
        .iter()
        .map(|(text, expected)| (text, expected, asks(catalog, text)))
        .filter(|(_, expected, got)| *got != **expected)
        .map(|(text, expected, got)| format!("{text}\n    expected {expected}\n    got      {got}"))
        .collect();
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), table.len(), wrong.join("\n"));
}
