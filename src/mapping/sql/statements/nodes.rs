//! Names as the tree has them.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, RoleSpec, RoleSpecType, SelectStmt, TypeName, a_const};

use super::super::SqlRefusal;
use super::super::names::Names;
use super::incomplete;
use crate::mapping::push_sql_name;

/// The node within.
pub(super) fn inner(node: Option<&Node>) -> Result<&NodeEnum, SqlRefusal> {
    node.and_then(|node| node.node.as_ref()).ok_or_else(incomplete)
}

/// The node within, of a boxed one.
pub(super) fn boxed(node: &Option<Box<Node>>) -> Result<&NodeEnum, SqlRefusal> {
    inner(node.as_deref())
}

/// A list of strings: a name in its parts.
pub(super) fn parts(nodes: &[Node]) -> Result<Vec<&str>, SqlRefusal> {
    nodes
        .iter()
        .map(|node| match node.node.as_ref() {
            Some(NodeEnum::String(name)) => Ok(&*name.sval),
            _ => Err(incomplete()),
        })
        .collect()
}

/// A name as ids write it: `sales.orders`, `"a.b"`.
pub(super) fn written(parts: &[&str]) -> String {
    let mut written = String::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            written.push('.');
        }
        push_sql_name(&mut written, part);
    }
    written
}

/// The parts of whatever stands for an object in DROP, COMMENT, ALTER … OWNER: a string, a list, a type, a function with its arguments.
pub(super) fn object_parts(node: &NodeEnum) -> Result<Vec<&str>, SqlRefusal> {
    match node {
        NodeEnum::String(name) => Ok(vec![&*name.sval]),
        NodeEnum::List(list) => list.items.iter().try_fold(Vec::new(), |mut all, item| {
            all.extend(object_parts(inner(Some(item))?)?);
            Ok(all)
        }),
        NodeEnum::TypeName(name) => parts(&name.names),
        NodeEnum::ObjectWithArgs(object) => parts(&object.objname),
        NodeEnum::RangeVar(range) => {
            let all = [&*range.catalogname, &*range.schemaname, &*range.relname];
            Ok(all.into_iter().filter(|part| !part.is_empty()).collect())
        }
        // The number of a large object.
        NodeEnum::Integer(_) | NodeEnum::Float(_) => Ok(Vec::new()),
        _ => Err(incomplete()),
    }
}

/// A role as ids write it.
pub(super) fn role<'r>(role: Option<&'r RoleSpec>, names: &'r Names<'_>) -> &'r str {
    let Some(spec) = role else { return "" };
    match RoleSpecType::try_from(spec.roletype) {
        Ok(RoleSpecType::RolespecCstring) => &spec.rolename,
        Ok(RoleSpecType::RolespecSessionUser) => &names.facts().session_role,
        Ok(RoleSpecType::RolespecPublic) => "public",
        _ => &names.facts().role,
    }
}

/// A list of roles.
pub(super) fn roles<'r>(nodes: &'r [Node], names: &'r Names<'_>) -> Vec<&'r str> {
    nodes
        .iter()
        .filter_map(|node| match node.node.as_ref() {
            Some(NodeEnum::RoleSpec(spec)) => Some(role(Some(spec), names)),
            _ => None,
        })
        .collect()
}

/// The type of a column: its oid. Of an array the oid of the array's type.
pub(super) fn type_oid(name: &TypeName, names: &Names<'_>) -> Result<u32, SqlRefusal> {
    let parts = parts(&name.names)?;
    // `serial` and its like are no types: the grammar's next step makes integers of them (`transformColumnDefinition`).
    let parts = match *parts {
        ["serial" | "serial4"] => vec!["pg_catalog", "int4"],
        ["bigserial" | "serial8"] => vec!["pg_catalog", "int8"],
        ["smallserial" | "serial2"] => vec!["pg_catalog", "int2"],
        _ => parts,
    };
    let element = names.type_named(&parts)?;
    if name.array_bounds.is_empty() {
        return Ok(element.oid);
    }
    let array = format!("_{}", element.known.name);
    Ok(names.type_named(&[&element.known.schema, &array]).map_or(0, |array| array.oid))
}

/// Whether the grammar will make a sequence for a column of this type.
pub(super) fn is_serial(name: &TypeName) -> bool {
    let parts = parts(&name.names).unwrap_or_default();
    matches!(*parts, ["serial" | "serial2" | "serial4" | "serial8" | "bigserial" | "smallserial"])
}

/// `SELECT 1, 'two' AS b`: nothing in it has a name to look up.
pub(super) fn is_constant(select: &SelectStmt) -> bool {
    let constant = |target: &Node| match &target.node {
        Some(NodeEnum::ResTarget(target)) => {
            matches!(target.val.as_ref().and_then(|value| value.node.as_ref()), Some(NodeEnum::AConst(_)))
        }
        _ => false,
    };
    let only = SelectStmt {
        target_list: select.target_list.clone(),
        limit_option: select.limit_option,
        op: select.op,
        ..SelectStmt::default()
    };
    select.target_list.iter().all(constant) && *select == only
}

/// The text of a constant: of a string, a number, a truth value. Casts of it (`'1 day'::interval`) are looked through.
pub(super) fn constant(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Sval(text) => Some(text.sval.clone()),
            a_const::Val::Ival(number) => Some(number.ival.to_string()),
            a_const::Val::Fval(number) => Some(number.fval.clone()),
            a_const::Val::Boolval(truth) => Some(truth.boolval.to_string()),
            a_const::Val::Bsval(_) => None,
        },
        NodeEnum::TypeCast(cast) => constant(cast.arg.as_deref()?),
        _ => None,
    }
}

/// A list of strings as column names.
pub(super) fn columns(nodes: &[Node]) -> Result<Vec<Arc<str>>, SqlRefusal> {
    Ok(parts(nodes)?.into_iter().map(Arc::from).collect())
}
