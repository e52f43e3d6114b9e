//! Each kind of statement with what it asks, on the sample database.

mod cases;
mod missing;
mod texts;

use std::sync::LazyLock;

use crate::mapping::sql::catalog::Catalog;
use crate::mapping::sql::catalog::testing::facts;
use crate::mapping::sql::facts::NothingPrepared;
use crate::mapping::sql::{
    Copying, Cursor, Mapped, MappedStatement, Naming, PreparedTexts, SessionFacts, SqlRefusal, Transaction, map,
};
use crate::mapping::{Operation, Value};

static SAMPLE: LazyLock<Catalog> = LazyLock::new(Catalog::sample);

/// What this session has prepared and declared.
struct Session;

impl PreparedTexts for Session {
    fn prepared(&self, name: &str) -> Option<(&str, usize)> {
        match name {
            "by_protocol" => Some(("SELECT name FROM people", 0)),
            "by_sql" => Some(("PREPARE by_sql AS DELETE FROM orders", 0)),
            "loop" => Some(("EXECUTE loop", 0)),
            _ => None,
        }
    }
    fn cursor(&self, name: &str) -> bool {
        matches!(name, "known" | "loud")
    }
    fn quiet_cursor(&self, name: &str) -> bool {
        name == "known"
    }
    fn transaction_matters(&self) -> bool {
        false
    }
}

fn mapped(text: &str) -> Result<Mapped, SqlRefusal> {
    map(text, "wh", &SAMPLE, &facts(), &Session)
}

/// `Select public.people(id name)`, `Create public index=i`.
fn short(operation: &Operation) -> String {
    let id = operation.resource.id().strip_prefix("wh/").unwrap_or_default();
    let id = id.split_once('.').map_or("db", |(_, rest)| rest);
    let mut short = format!("{} {id}", operation.action.as_str().trim_start_matches("sql:"));
    for (name, value) in operation.context.iter() {
        match (name, value) {
            ("columns", Value::Strings(columns)) if columns.is_empty() => {}
            ("columns", Value::Strings(columns)) => short.push_str(&format!("({})", columns.join(" "))),
            ("statement" | "role" | "base", _) => {}
            ("objectType", Value::String(kind)) => short.push_str(&format!(" {kind}=")),
            ("objectName", Value::String(name)) => short.push_str(name),
            (name, Value::String(value)) => short.push_str(&format!(" {name}:{value}")),
            other => panic!("{other:?}"),
        }
    }
    short
}

fn asks(statement: &MappedStatement) -> String {
    let mut all: Vec<_> = statement.operations.iter().map(short).collect();
    all.sort();
    format!("{} | {}", statement.kind, all.join(", "))
}
