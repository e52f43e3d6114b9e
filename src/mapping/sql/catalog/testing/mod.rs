//! A catalogue for tests: the database of `sample.sql` on PostgreSQL 15, with the commoner part of what is built in.

use super::{Catalog, CatalogRows, Part, Reading, Relation, is_built_in};
use crate::config::SessionCaps;
use crate::mapping::sql::SessionFacts;

const ROWS: &str = include_str!("rows.tsv");

impl Catalog {
    /// The database `shop`: `public.people (id, name, ssn)`, `public.orders`, `sales.orders` and what else `sample.sql` has.
    pub(crate) fn sample() -> Self {
        Self::build(&rows()).unwrap()
    }
}

impl Catalog {
    /// All that it says, in an order of its own: equal for catalogues that mean the same.
    pub(crate) fn said(&self) -> Vec<String> {
        let mut all = vec![format!("{} {}", self.major, self.database)];
        all.extend(self.relations.values().map(|relation| {
            let mut relation = Relation::clone(relation);
            relation.inherited_by.sort_unstable();
            relation.referenced_by.sort_unstable();
            format!("{relation:?}")
        }));
        all.extend(self.types.values().map(|one| format!("{one:?}")));
        all.extend(self.roles.iter().map(|one| format!("{one:?}")));
        all.extend(self.foreign_casts.iter().map(|one| format!("{one:?}")));
        for (schema, content) in &self.schemas {
            all.push(format!("{schema} {} {:?}", content.oid, content.usage));
            all.extend(content.relations.iter().map(|one| format!("{schema} relation {one:?}")));
            all.extend(content.types.iter().map(|one| format!("{schema} type {one:?}")));
            let functions = content.functions.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)));
            all.extend(functions.map(|one| format!("{schema} function {one:?}")));
            let operators = content.operators.iter().flat_map(|(name, all)| all.iter().map(move |one| (name, one)));
            all.extend(operators.map(|one| format!("{schema} operator {one:?}")));
        }
        all.sort_unstable();
        all
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
    each(|reading, values| rows.push(reading, values).unwrap());
    rows
}

/// The rows of one part. Operators are told apart by their functions.
pub(crate) fn rows_of(part: Part) -> CatalogRows {
    let mut rows = CatalogRows::default();
    each(|reading, values| {
        let oid = |column: usize| values[column].unwrap().parse().unwrap();
        let of = match reading {
            Reading::Database | Reading::Roles | Reading::Memberships | Reading::Schemas | Reading::Usage => false,
            Reading::Operators => is_built_in(oid(4)),
            _ => is_built_in(oid(0)),
        };
        if of == (part == Part::BuiltIn) {
            rows.push(reading, values).unwrap();
        }
    });
    rows
}

fn each(mut row: impl FnMut(Reading, &[Option<&str>])) {
    for line in ROWS.lines() {
        let mut values = line.split('\t').map(|value| (value != "\\N").then_some(value));
        let name = values.next().flatten().unwrap();
        let known = Catalog::QUERIES.iter().find(|(reading, _)| format!("{reading:?}") == name);
        let reading: Reading = known.unwrap_or_else(|| panic!("there is no query {name}")).0;
        row(reading, &values.collect::<Vec<_>>());
    }
}
