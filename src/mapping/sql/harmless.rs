//! Which functions ask nothing.

use super::catalog::{self, Function, Volatility};
use super::introspection;
use super::names::{Nature, PG_CATALOG};

/// Whether a function came with the server: a superuser can put others into `pg_catalog`.
pub(super) fn is_built_in(schema: &str, function: &Function) -> bool {
    schema == PG_CATALOG && catalog::is_built_in(function.oid)
}

/// What calling a function is.
pub(super) fn nature(schema: &str, name: &str, function: &Function) -> Nature {
    if !is_built_in(schema, function) {
        return if name.starts_with("dblink") { Nature::ExecutesText } else { Nature::Executes };
    }
    match name {
        "set_config" => Nature::Setting,
        "nextval" | "currval" | "setval" | "lastval" => Nature::Sequence,
        "pg_notify" => Nature::Notify,
        _ if introspection::is_introspection_function(name) => Nature::Introspects,
        _ if function.volatility == Volatility::Immutable => Nature::Harmless,
        _ => Nature::Executes,
    }
}
