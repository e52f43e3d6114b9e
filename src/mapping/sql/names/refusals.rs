//! Names that mean nothing, in PostgreSQL's own words.

use crate::mapping::sql::SqlRefusal;

fn unknown(sqlstate: &'static str, rule: &'static str, message: String) -> SqlRefusal {
    SqlRefusal { sqlstate, rule, message, position: None, stale: true }
}

fn not_judged(rule: &'static str, message: String) -> SqlRefusal {
    SqlRefusal { sqlstate: "0A000", rule, message, position: None, stale: false }
}

pub(super) fn relation(schema: &str, name: &str) -> SqlRefusal {
    let dot = if schema.is_empty() { "" } else { "." };
    unknown("42P01", "unknown-relation", format!("relation \"{schema}{dot}{name}\" does not exist"))
}

pub(super) fn schema(schema: &str) -> SqlRefusal {
    unknown("3F000", "unknown-schema", format!("schema \"{schema}\" does not exist"))
}

pub(super) fn sql_type(names: &[&str]) -> SqlRefusal {
    unknown("42704", "unknown-type", format!("type \"{}\" does not exist", names.join(".")))
}

pub(super) fn cross_database(names: &[&str]) -> SqlRefusal {
    let name = names.join(".");
    not_judged("cross-database", format!("cross-database references are not implemented: \"{name}\""))
}

pub(super) fn too_many_names(names: &[&str]) -> SqlRefusal {
    let message = format!("improper qualified name (too many dotted names): {}", names.join("."));
    SqlRefusal { sqlstate: "42601", rule: "improper-name", message, position: None, stale: false }
}

pub(super) fn unknown_role(role: &str) -> SqlRefusal {
    let message = format!("role \"{role}\" is not in the catalogue, so that its search path is not known");
    SqlRefusal { stale: true, ..not_judged("unknown-role", message) }
}
