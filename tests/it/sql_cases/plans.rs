//! Whatever PostgreSQL's own planner names was asked about.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

use super::case::{self, Asked, Protocol};
use super::records::{asked, written};
use super::wire::Session;
use super::{DATABASE, USER, Warehouse, prepare};
use crate::support::*;

#[tokio::test]
async fn every_table_that_the_planner_names_was_asked_about() {
    let warehouse = Warehouse::start(ALLOW_ALL).await;
    let mut tail = warehouse.tail();
    let mut direct = warehouse.direct().await;
    let parents = "SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits";
    let parents = direct.run(parents, Protocol::Simple).await.rows;
    let parents: Vec<Vec<String>> = parents.into_iter().map(|row| row.into_iter().flatten().collect()).collect();
    let (mut compared, mut wrong) = (0, String::new());
    for case in case::all() {
        let reads = ["SELECT", "WITH", "TABLE", "VALUES", "INSERT", "UPDATE", "DELETE", "MERGE", "("];
        // Two sessions cannot both be about to make a table of one name, nor hold the lock of a row.
        let waits = ["CREATE TABLE", "ALTER", "FETCH"];
        let makes = case.first.iter().any(|text| waits.iter().any(|word| text.starts_with(word)));
        if makes || case.only.is_some() || case.alone || !reads.iter().any(|word| case.text.starts_with(word)) {
            continue;
        }
        let mut session = warehouse.session(&case).await;
        let mut planner = Session::open(warehouse.server.address(), USER, DATABASE, case.options.as_deref()).await;
        let explain = format!("EXPLAIN (VERBOSE, FORMAT JSON) {}", case.text);
        if prepare(&mut session, &case, true).await.is_some() || prepare(&mut planner, &case, true).await.is_some() {
            continue;
        }
        let planned = planner.run(&explain, Protocol::Simple).await;
        let _before = tail.statements();
        let _came = session.run(&case.text, Protocol::Simple).await;
        let asked = asked(&tail.statements());
        // A function's body is the function's: the planner may put it in place.
        if planned.error.is_some() || asked.is_empty() || asked.iter().any(|one| one.action == "sql:Execute") {
            continue;
        }
        let plan: String = planned.rows.into_iter().flatten().flatten().collect();
        let plan = serde_json::from_str(&plan).unwrap_or_else(|error| panic!("{error}: {plan}"));
        compared += 1;
        for name in named(&plan) {
            let plain = name.trim_start_matches("public.");
            let parent = parents.iter().find(|row| row[0] == name || row[0] == plain).map(|row| &row[1]);
            if !asked.iter().any(|one| covers(one, &name, parent)) {
                let _ = writeln!(wrong, "{}: `{}` reads {name}, asked {}", case.at, case.text, written(&asked));
            }
        }
    }
    assert!(compared >= 150, "only {compared} plans were compared");
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Whether an operation is about a table that a plan names, itself, as its whole, or through a view.
fn covers(asked: &Asked, name: &str, parent: Option<&String>) -> bool {
    let is = |resource: &str| {
        resource == name || parent.is_some_and(|parent| resource == parent || resource == format!("public.{parent}"))
    };
    let base = asked.context.get("base").is_some_and(|base| base.split(',').any(is));
    // What the server's own views (`pg_stats`) read is not in `base`: they are resources by themselves.
    let own = |name: &str| name.starts_with("pg_catalog.") || name.starts_with("information_schema.");
    is(&asked.resource) || base || (own(name) && (asked.action == "sql:Introspect" || own(&asked.resource)))
}

/// Every `SCHEMA.TABLE` in a plan, quoted as ids write names.
fn named(plan: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match plan {
        Value::Array(values) => found.extend(values.iter().flat_map(named)),
        Value::Object(fields) => {
            if let (Some(schema), Some(name)) = (fields.get("Schema"), fields.get("Relation Name")) {
                found.insert(format!("{}.{}", quoted(schema), quoted(name)));
            }
            found.extend(fields.values().flat_map(named));
        }
        _ => {}
    }
    found
}

fn quoted(name: &Value) -> String {
    let name = name.as_str().unwrap_or_default();
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
