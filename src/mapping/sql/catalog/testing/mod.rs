//! A catalogue for tests: the database of `sample.sql` on PostgreSQL 15, with the commoner part of what is built in.

use super::{Catalog, CatalogRows, Reading};
use crate::config::SessionCaps;
use crate::mapping::sql::SessionFacts;

const ROWS: &str = include_str!("rows.tsv");

impl Catalog {
    /// The database `shop`: `public.people (id, name, ssn)`, `public.orders`, `sales.orders` and what else `sample.sql` has.
    pub(crate) fn sample() -> Self {
        Self::build(rows()).unwrap()
    }
}

/// The facts of a session of role `analyst` with the search path `"$user", public`.
pub(crate) fn facts() -> SessionFacts {
    facts_with(&["$user", "public"])
}

/// The same with another search path.
pub(crate) fn facts_with(search_path: &[&str]) -> SessionFacts {
    SessionFacts {
        role: "analyst".into(),
        session_role: "analyst".into(),
        search_path: search_path.iter().map(|schema| Box::from(*schema)).collect(),
        temp_schema: None,
        utf8_client: true,
        utf8_server: true,
        caps: SessionCaps::default(),
    }
}

/// The rows, before they are put together.
pub(crate) fn rows() -> CatalogRows {
    let mut rows = CatalogRows::default();
    for line in ROWS.lines() {
        let mut values = line.split('\t').map(|value| (value != "\\N").then_some(value));
        let name = values.next().flatten().unwrap();
        let known = Catalog::QUERIES.iter().find(|(reading, _)| format!("{reading:?}") == name);
        let reading: Reading = known.unwrap_or_else(|| panic!("there is no query {name}")).0;
        rows.push(reading, &values.collect::<Vec<_>>()).unwrap();
    }
    rows
}
