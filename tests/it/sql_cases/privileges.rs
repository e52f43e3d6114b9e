//! What the server itself would check: its own tree of each statement, after analysis and before rewriting, names every relation with
//! the privileges and columns that it will ask for, and every function. Each of them must have been asked.
//!
//! # Source
//! `debug_print_parse`; `RangeTblEntry.requiredPerms`, `selectedCols`, `insertedCols`, `updatedCols` in `src/include/nodes/parsenodes.h`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use portcullis::mapping::sql::catalog::Catalog;
use portcullis::mapping::sql::{Mapped, SqlRefusal, map};
use portcullis::mapping::{Operation, Resource, Value};

use super::case::{self, Protocol};
use super::mapping::{Before, catalogue, facts};
use super::wire::Session;
use super::{DATABASE, USER, prepare, server};

/// A relation of a tree, and what is checked for it.
#[derive(Debug, Default, Clone)]
struct Checked {
    oid: u32,
    privileges: u32,
    selected: Vec<i32>,
    inserted: Vec<i32>,
    updated: Vec<i32>,
}

/// What a tree names.
#[derive(Debug, Default)]
struct Tree {
    relations: Vec<Checked>,
    functions: BTreeSet<u32>,
    operators: BTreeSet<u32>,
}

impl Tree {
    fn parse(text: &str) -> Self {
        let mut tree = Self::default();
        for entry in text.split(":rtekind 0 :relid ").skip(1) {
            tree.relations.push(Checked {
                oid: number(entry),
                privileges: after(entry, ":requiredPerms ").map_or(0, number),
                selected: columns(entry, ":selectedCols (b"),
                inserted: columns(entry, ":insertedCols (b"),
                updated: columns(entry, ":updatedCols (b"),
            });
        }
        for label in [":funcid ", ":opfuncid ", ":aggfnoid ", ":winfnoid "] {
            tree.functions.extend(text.split(label).skip(1).map(number));
        }
        for list in text.split(":opnos (o").skip(1) {
            let list = list.split(')').next().unwrap_or_default();
            tree.operators.extend(list.split_whitespace().map(number));
        }
        tree.functions.remove(&0);
        tree
    }
}

fn after<'t>(text: &'t str, label: &str) -> Option<&'t str> {
    text.split_once(label).map(|(_, rest)| rest)
}

fn number(text: &str) -> u32 {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..end).unwrap_or_default().parse().unwrap_or_default()
}

/// A bitmap of attribute numbers, which begin at `FirstLowInvalidHeapAttributeNumber`.
fn columns(text: &str, label: &str) -> Vec<i32> {
    let list = after(text, label).and_then(|rest| rest.split(')').next()).unwrap_or_default();
    list.split_whitespace().filter_map(|bit| bit.parse::<i32>().ok()).map(|bit| bit - 7).collect()
}

/// How one text came out.
enum Outcome {
    /// The server does not take it.
    NotTaken,
    Refused(SqlRefusal),
    /// Everything that was missing.
    Compared(Vec<String>),
}

/// Analyzes a text, and compares with what it asks.
async fn compare(
    session: &mut Session,
    catalog: &Catalog,
    text: &str,
    before: &Before,
    seen: &mut BTreeSet<String>,
) -> Outcome {
    let facts = facts(session).await;
    let prefix = "SET client_min_messages = log; SET debug_print_parse = on; SET debug_pretty_print = off";
    session.run(prefix, Protocol::Simple).await;
    let came = session.analyze(text).await;
    session.run("SET debug_print_parse = off; SET client_min_messages = warning", Protocol::Simple).await;
    let tree = came.notices.iter().find(|notice| notice.message.starts_with("parse tree"));
    let (None, Some(tree)) = (&came.error, tree) else { return Outcome::NotTaken };
    let tree = Tree::parse(&tree.detail);
    let mapped = match map(text, "wh", catalog, &facts, before) {
        Ok(mapped) => mapped,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    Outcome::Compared(missing(session, &tree, &mapped, (&catalog.database, facts.temp_schema.as_deref()), seen).await)
}

async fn missing(
    session: &mut Session,
    tree: &Tree,
    mapped: &Mapped,
    (database, temp): (&str, Option<&str>),
    seen: &mut BTreeSet<String>,
) -> Vec<String> {
    let operations: Vec<&Operation> =
        mapped.statements.iter().flat_map(|statement| statement.operations.iter()).collect();
    let mut missing = Vec::new();
    let names = names(session, tree).await;
    for checked in &tree.relations {
        let Some((schema, name, all)) = names.relations.get(&checked.oid) else { continue };
        let introspected = (schema == "pg_catalog" || schema == "information_schema")
            && operations.iter().any(|operation| operation.action.to_string() == "sql:Introspect");
        let written = if temp == Some(schema.as_str()) { "pg_temp" } else { schema };
        let id = Resource::table("wh", database, written, name).id().to_owned();
        let asked = |action: &str| -> Option<BTreeSet<String>> {
            let of: Vec<_> =
                operations.iter().filter(|o| o.action.to_string() == action && o.resource.id() == id).collect();
            (!of.is_empty()).then(|| of.iter().flat_map(|operation| asked_columns(operation)).collect())
        };
        let mut check = |action: &str, numbers: &[i32]| {
            let Some(columns) = asked(action) else {
                missing.push(format!("{action} {schema}.{name}"));
                return;
            };
            for number in numbers {
                let wanted: Vec<&String> = match number {
                    0 => all.iter().filter(|(number, _)| **number > 0).map(|(_, name)| name).collect(),
                    number => all.get(number).into_iter().collect(),
                };
                for column in wanted.into_iter().filter(|column| !columns.contains(*column)) {
                    missing.push(format!("{action} {schema}.{name}[{column}]"));
                }
            }
        };
        if checked.privileges & 2 != 0 && !introspected {
            check("sql:Select", &checked.selected);
        }
        if checked.privileges & 1 != 0 {
            check("sql:Insert", &checked.inserted);
        }
        if checked.privileges & 4 != 0 {
            let locks = checked.updated.is_empty() && asked("sql:Update").is_none();
            check(if locks { "sql:Lock" } else { "sql:Update" }, &checked.updated);
        }
        if checked.privileges & 8 != 0 {
            check("sql:Delete", &[]);
        }
    }
    let only_reads =
        operations.iter().all(|o| ["sql:Connect", "sql:Select", "sql:Introspect"].contains(&&*o.action.to_string()));
    for (schema, name, volatile) in &names.functions {
        if schema == "pg_catalog" || schema == "information_schema" {
            if *volatile && only_reads {
                seen.insert(name.clone());
            }
            continue;
        }
        let written = if temp == Some(schema.as_str()) { "pg_temp" } else { schema };
        let id = Resource::function("wh", database, written, name).id().to_owned();
        if !operations.iter().any(|o| o.action.to_string() == "sql:Execute" && o.resource.id() == id) {
            missing.push(format!("sql:Execute {schema}.{name}()"));
        }
    }
    missing
}

fn asked_columns(operation: &Operation) -> Vec<String> {
    let columns = operation.context.iter().find(|(name, _)| *name == "columns");
    match columns {
        Some((_, Value::Strings(names))) => names.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

/// What the numbers of a tree stand for.
#[derive(Default)]
struct Names {
    relations: BTreeMap<u32, (String, String, BTreeMap<i32, String>)>,
    /// Schema, name, whether it is volatile.
    functions: BTreeSet<(String, String, bool)>,
}

async fn names(session: &mut Session, tree: &Tree) -> Names {
    let list = |oids: Vec<u32>| oids.iter().chain([&0]).map(ToString::to_string).collect::<Vec<_>>().join(",");
    let mut names = Names::default();
    let relations = list(tree.relations.iter().map(|one| one.oid).collect());
    let text = format!(
        "SELECT c.oid, n.nspname, c.relname, a.attnum, a.attname FROM pg_catalog.pg_class c \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
         LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid AND NOT a.attisdropped \
         WHERE c.oid OPERATOR(pg_catalog.=) ANY ('{{{relations}}}'::pg_catalog.oid[])"
    );
    for row in session.run(&text, Protocol::Simple).await.rows {
        let field = |at: usize| row[at].clone().unwrap_or_default();
        let known = names.relations.entry(number(&field(0))).or_insert_with(|| (field(1), field(2), BTreeMap::new()));
        if let Ok(attribute) = field(3).parse() {
            known.2.insert(attribute, field(4));
        }
    }
    let text = format!(
        "SELECT n.nspname, p.proname, p.provolatile FROM pg_catalog.pg_proc p \
         JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.pronamespace \
         WHERE p.oid OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.oid[]) OR p.oid OPERATOR(pg_catalog.=) ANY \
         (SELECT o.oprcode::pg_catalog.oid FROM pg_catalog.pg_operator o \
          WHERE o.oid OPERATOR(pg_catalog.=) ANY ('{{{}}}'::pg_catalog.oid[]))",
        list(tree.functions.iter().copied().collect()),
        list(tree.operators.iter().copied().collect())
    );
    for row in session.run(&text, Protocol::Simple).await.rows {
        let field = |at: usize| row[at].clone().unwrap_or_default();
        names.functions.insert((field(0), field(1), field(2) == "v"));
    }
    names
}

/// Whether a text is a query: the only ones whose tree the server prints whole.
fn is_query(text: &str) -> bool {
    let words = ["select", "with", "insert", "update", "delete", "merge", "table", "values"];
    let text = text.trim_start_matches(|c: char| c == '(' || c.is_whitespace());
    words.iter().any(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

#[tokio::test]
async fn whatever_the_server_would_check_was_asked() {
    let server = server().await;
    let mut direct = Session::open(server.address(), USER, DATABASE, None).await;
    let at_rest = catalogue(&mut direct).await;
    let (mut compared, mut wrong, mut seen) = (0, String::new(), BTreeSet::new());
    for case in case::all().into_iter().filter(|case| case.only != Some(Protocol::Simple) && is_query(&case.text)) {
        let mut session = Session::open(server.address(), USER, DATABASE, case.options.as_deref()).await;
        if prepare(&mut session, &case, true).await.is_some() {
            continue;
        }
        let own = if case.first.is_empty() { None } else { Some(catalogue(&mut session).await) };
        let catalog = own.as_ref().unwrap_or(&at_rest);
        if let Outcome::Compared(missing) =
            compare(&mut session, catalog, &case.text, &Before(BTreeMap::new()), &mut seen).await
        {
            compared += 1;
            if !missing.is_empty() {
                let _ = writeln!(wrong, "{}: `{}`: {missing:?}", case.at, case.text);
            }
        }
    }
    assert!(compared >= 200, "only {compared} statements were compared");
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// PostgreSQL's own regression SQL, a file after the other, in a folder with `parallel_schedule` and `sql/`.
#[tokio::test]
#[ignore = "needs PostgreSQL's src/test/regress in PORTCULLIS_POSTGRES_REGRESS, and takes minutes"]
async fn whatever_the_server_would_check_in_its_own_tests_was_asked() {
    let folder = std::env::var("PORTCULLIS_POSTGRES_REGRESS").expect("PORTCULLIS_POSTGRES_REGRESS is the folder");
    let only = std::env::var("PORTCULLIS_POSTGRES_REGRESS_ONLY").unwrap_or_default();
    let schedule = std::fs::read_to_string(Path::new(&folder).join("parallel_schedule")).expect("a schedule");
    let files = schedule.lines().filter_map(|line| line.strip_prefix("test:")).flat_map(str::split_whitespace);
    let server = server().await;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let (mut wrong, mut refused, mut seen) = (String::new(), String::new(), BTreeSet::new());
    let mut unclear = 0;
    for file in files.filter(|file| only.is_empty() || only.split(',').any(|one| one == *file)) {
        let Ok(text) = std::fs::read_to_string(Path::new(&folder).join("sql").join(format!("{file}.sql"))) else {
            continue;
        };
        let mut session =
            Session::open(server.address(), USER, DATABASE, Some("-c statement_timeout=3s -c lock_timeout=1s")).await;
        let mut catalog = catalogue(&mut session).await;
        let mut stale = false;
        for statement in statements(&text) {
            if !is_query(&statement) {
                session.run(&statement, Protocol::Simple).await;
                stale |= ![
                    "set",
                    "show",
                    "begin",
                    "explain",
                    "copy",
                    "comment",
                    "analyze",
                    "execute",
                    "fetch",
                    "savepoint",
                    "reset",
                    "vacuum",
                ]
                .iter()
                .any(|word| statement.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)));
                continue;
            }
            // A failed transaction answers nothing.
            if session.run("SELECT 1", Protocol::Simple).await.error.is_some() {
                session.run(&statement, Protocol::Simple).await;
                continue;
            }
            if stale {
                catalog = catalogue(&mut session).await;
                stale = false;
            }
            session.run("SAVEPOINT portcullis", Protocol::Simple).await;
            let outcome = compare(&mut session, &catalog, &statement, &Before(BTreeMap::new()), &mut seen).await;
            session.run("ROLLBACK TO portcullis", Protocol::Simple).await;
            match outcome {
                Outcome::NotTaken => *counts.entry("not taken".into()).or_default() += 1,
                Outcome::Refused(refusal) => {
                    *counts.entry(format!("refused {} {}", refusal.sqlstate, refusal.rule)).or_default() += 1;
                    let _ = writeln!(
                        refused,
                        "{file}: {} {} {}: {}",
                        refusal.sqlstate,
                        refusal.rule,
                        refusal.message,
                        statement.replace('\n', " ")
                    );
                }
                Outcome::Compared(missing) => {
                    *counts.entry("compared".into()).or_default() += 1;
                    if !missing.is_empty() {
                        unclear += 1;
                        let _ = writeln!(wrong, "{file}: {missing:?}\n    {}", statement.replace('\n', "\n    "));
                    }
                }
            }
            session.run(&statement, Protocol::Simple).await;
        }
        eprintln!("{file}: {counts:?}, {unclear} wrong");
        if let Ok(out) = std::env::var("PORTCULLIS_POSTGRES_REGRESS_OUT") {
            std::fs::write(format!("{out}.wrong"), &wrong).expect("can be written");
            std::fs::write(format!("{out}.refused"), &refused).expect("can be written");
            std::fs::write(format!("{out}.volatile"), format!("{seen:#?}")).expect("can be written");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// The statements of a script for psql, without what only psql understands.
fn statements(text: &str) -> Vec<String> {
    let mut kept = String::new();
    let mut data = false;
    for line in text.lines() {
        if data {
            data = line != "\\.";
            continue;
        }
        let lower = line.to_ascii_lowercase();
        data = lower.trim_start().starts_with("copy ") && lower.contains("from stdin");
        if line.trim_start().starts_with('\\') || (data && !lower.contains("from stdin")) {
            continue;
        }
        let line = line.split(" \\g").next().unwrap_or_default();
        kept.push_str(&line.replace("\\;", ";"));
        if line.len() < lower.len() && !line.trim_end().ends_with(';') {
            kept.push(';');
        }
        kept.push('\n');
    }
    let split = pg_query::split_with_scanner(&kept).map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>());
    let split = split.unwrap_or_else(|_| kept.split(";\n").map(str::to_owned).collect());
    let without_comments = |text: String| {
        let mut text = text.trim();
        while let Some(rest) = text.strip_prefix("--") {
            text = rest.split_once('\n').map_or("", |(_, rest)| rest).trim();
        }
        text.to_owned()
    };
    split.into_iter().map(without_comments).filter(|text| !text.is_empty() && !text.contains('\0')).collect()
}
