//! The mapping by itself: what a session knows is read from the server, the text is mapped here.

use std::collections::{BTreeMap, BTreeSet};

use portcullis::config::SessionCaps;
use portcullis::mapping::sql::catalog::{Catalog, CatalogRows};
use portcullis::mapping::sql::{PreparedTexts, SessionFacts, SqlRefusal, map, parse_search_path, safe_key};
use portcullis::mapping::{Operation, Value};

use super::case::{Asked, Case, Protocol};
use super::records::as_written;
use super::wire::Session;

/// Everything that a server says of its names.
pub(super) async fn catalogue(session: &mut Session) -> Catalog {
    let mut rows = CatalogRows::default();
    for (reading, text) in Catalog::QUERIES {
        let came = session.run(text, Protocol::Simple).await;
        assert!(came.error.is_none(), "{reading:?}: {came:?}");
        for row in came.rows {
            let row: Vec<Option<&str>> = row.iter().map(Option::as_deref).collect();
            rows.push(reading, &row).unwrap_or_else(|error| panic!("{reading:?}: {error}: {row:?}"));
        }
    }
    Catalog::build(&rows).expect("a catalogue")
}

/// What the session says of itself.
pub(super) async fn facts(session: &mut Session) -> SessionFacts {
    let text = "SELECT current_user, session_user, pg_catalog.current_setting('search_path'), \
                (SELECT nspname FROM pg_catalog.pg_namespace WHERE oid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())";
    let came = session.run(text, Protocol::Simple).await;
    let [row] = came.rows.as_slice() else { panic!("{came:?}") };
    let text = |column: usize| row[column].clone().unwrap_or_default();
    SessionFacts {
        role: text(0).into(),
        session_role: text(1).into(),
        search_path: parse_search_path(&text(2)).expect("a search path"),
        temp_schema: row[3].clone().map(Into::into),
        utf8_client: true,
        utf8_server: true,
        caps: SessionCaps::default(),
    }
}

/// What a case prepares and declares before its own text.
pub(super) struct Before(pub(super) BTreeMap<String, String>);

impl PreparedTexts for Before {
    fn prepared(&self, name: &str) -> Option<(&str, usize)> {
        self.0.get(&format!("PREPARE {name}")).map(|text| (text.as_str(), 0))
    }

    fn cursor(&self, name: &str) -> bool {
        self.0.contains_key(&format!("DECLARE {name}"))
    }
}

/// Maps a case's text in the session that it is prepared in.
pub(super) async fn mapped(
    session: &mut Session,
    catalog: &Catalog,
    case: &Case,
) -> Result<BTreeSet<Asked>, SqlRefusal> {
    let facts = facts(session).await;
    let named = |text: &String| {
        let words: Vec<&str> = text.split_whitespace().take(2).collect();
        (words.join(" "), text.clone())
    };
    let before = Before(case.first.iter().map(named).collect());
    let mapped = map(&case.text, "wh", catalog, &facts, &before)?;
    // A judgement that is remembered serves every text of the same key.
    if mapped.literals_do_not_matter
        && let Some(key) = safe_key(&case.text)
    {
        for other in others(&case.text).filter(|other| safe_key(other).as_ref() == Some(&key)) {
            let again = map(&other, "wh", catalog, &facts, &before).map(|again| again.statements);
            assert_eq!(again.as_ref(), Ok(&mapped.statements), "{}: `{other}` has the same key", case.at);
        }
    }
    let operations = mapped.statements.iter().flat_map(|statement| statement.operations.iter());
    Ok(operations.map(asked).collect())
}

fn asked(operation: &Operation) -> Asked {
    let mut columns = BTreeSet::new();
    let mut context = BTreeMap::new();
    for (name, value) in operation.context.iter() {
        match (name, value) {
            ("columns", Value::Strings(names)) => columns.extend(names.iter().map(ToString::to_string)),
            ("base", Value::Strings(names)) => {
                let names: BTreeSet<&str> = names.iter().map(|name| &**name).collect();
                context.insert(name.to_owned(), names.into_iter().collect::<Vec<_>>().join(","));
            }
            (_, Value::String(text)) => drop(context.insert(name.to_owned(), text.to_string())),
            _ => {}
        }
    }
    Asked {
        action: operation.action.to_string(),
        resource: as_written(operation.resource.kind().as_str(), operation.resource.id()),
        columns: Some(columns),
        context,
    }
}

/// The same text with other literals, or what looks like them.
fn others(text: &str) -> impl Iterator<Item = String> {
    let digits = |by: char| text.replace(|digit: char| digit.is_ascii_digit(), &by.to_string());
    let between = |by: &str| {
        let parts = text.split('\'').enumerate();
        parts.map(|(at, part)| if at % 2 == 1 { by } else { part }).collect::<Vec<_>>().join("'")
    };
    let filled = ["", "7", "people", "sales.secrets", "search_path", "x'' || ssn || ''", "c"].map(between);
    [digits('0'), digits('9'), text.replace('1', "2")].into_iter().chain(filled)
}
