//! What tells only what the catalogue says: one `sql:Introspect` on the database.

use super::catalog::{self, Relation};

/// Whether reading a relation is introspection: `pg_catalog` and `information_schema` without what holds data, secrets or other people's
/// statements.
pub(super) fn is_introspection_relation(relation: &Relation) -> bool {
    catalog::is_built_in(relation.oid)
        && match &*relation.schema {
            "pg_catalog" | "information_schema" => true,
            _ => false,
        }
}

/// Columns of an introspection relation that are no introspection.
pub(super) fn protected_columns(relation: &Relation) -> &'static [&'static str] {
    match &*relation.name {
        "pg_stat_activity" => &["query"],
        _ => &[],
    }
}

/// Whether calling a built-in function is introspection.
pub(super) fn is_introspection_function(name: &str) -> bool {
    name.starts_with("pg_get_") && name.ends_with("def")
}
