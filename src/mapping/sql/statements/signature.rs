//! Functions that do not exist, as PostgreSQL writes them: with the types of their arguments.

use pg_query::NodeEnum;
use pg_query::protobuf::{ObjectWithArgs, TypeName};

use super::super::SqlRefusal;
use super::super::names::{Names, PG_CATALOG};
use super::nodes;

/// The words for a function, procedure or aggregate that a definition names and that is not there.
///
/// # Source
/// PostgreSQL `LookupFuncWithArgs` in parse_func.c.
pub(super) fn missing(
    refusal: SqlRefusal,
    object_type: &str,
    object: &ObjectWithArgs,
    names: &Names<'_>,
) -> SqlRefusal {
    let Ok(name) = nodes::parts(&object.objname) else { return refusal };
    if refusal.sqlstate != "42883" || !refusal.stale {
        return refusal;
    }
    let (name, kind) = (name.join("."), if object_type == "routine" { "function" } else { object_type });
    if object.args_unspecified {
        return SqlRefusal { message: format!("could not find a {kind} named \"{name}\""), ..refusal };
    }
    let mut arguments = Vec::new();
    for argument in &object.objargs {
        let Some(NodeEnum::TypeName(argument)) = &argument.node else { return refusal };
        match written(argument, names) {
            Ok(written) => arguments.push(written),
            Err(unknown) => return unknown,
        }
    }
    let arguments = if arguments.is_empty() && kind == "aggregate" { "*".to_owned() } else { arguments.join(", ") };
    SqlRefusal { message: format!("{kind} {name}({arguments}) does not exist"), ..refusal }
}

/// # Source
/// PostgreSQL `format_type_extended` in format_type.c.
fn written(argument: &TypeName, names: &Names<'_>) -> Result<String, SqlRefusal> {
    let known = names.type_named(&nodes::parts(&argument.names)?)?.known;
    let name = match (&*known.schema, &*known.name) {
        (PG_CATALOG, "bit") => "bit",
        (PG_CATALOG, "bool") => "boolean",
        (PG_CATALOG, "bpchar") => "character",
        (PG_CATALOG, "float4") => "real",
        (PG_CATALOG, "float8") => "double precision",
        (PG_CATALOG, "int2") => "smallint",
        (PG_CATALOG, "int4") => "integer",
        (PG_CATALOG, "int8") => "bigint",
        (PG_CATALOG, "time") => "time without time zone",
        (PG_CATALOG, "timetz") => "time with time zone",
        (PG_CATALOG, "timestamp") => "timestamp without time zone",
        (PG_CATALOG, "timestamptz") => "timestamp with time zone",
        (PG_CATALOG, "varbit") => "bit varying",
        (PG_CATALOG, "varchar") => "character varying",
        (_, name) => name,
    };
    Ok(if argument.array_bounds.is_empty() { name.to_owned() } else { format!("{name}[]") })
}
