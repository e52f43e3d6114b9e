//! set_config: a SET in the clothes of a function.

use pg_query::NodeEnum;
use pg_query::protobuf::{AExprKind, FuncCall, LimitOption, Node, SelectStmt, SetOperation, a_const::Val};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::refused;
use crate::mapping::sql::catalog::{Relation, RelationKind};
use crate::mapping::sql::names::Names;
use crate::mapping::sql::statements::{SettingValue, set_setting};

use super::expression::constant_string;
use super::{Walk, strings};

/// The one setting that pg_dump sets by a name that is no constant.
const OF_PG_DUMP: &str = "restrict_nonsystem_relation_kind";

impl Walk<'_, '_> {
    /// `set_config(name, value, is_local)`.
    pub(super) fn set_config(&mut self, call: &FuncCall) -> Result<(), SqlRefusal> {
        let name = call.args.first().and_then(constant_string);
        let Some(name) = name else {
            return Err(refused("setting-not-constant", "`set_config` is judged only with a constant name"));
        };
        let value = call.args.get(1);
        let at = match value.and_then(|value| value.node.as_ref()) {
            Some(NodeEnum::AConst(constant)) => constant.location,
            _ => -1,
        };
        self.set(name, value.and_then(constant_string), at)
    }

    fn set(&mut self, name: &str, value: Option<&str>, at: i32) -> Result<(), SqlRefusal> {
        let value = value.map_or(SettingValue::Unknown, |value| SettingValue::Constant(value, at));
        set_setting(&mut self.asked, self.names, name, value)
    }

    /// pg_dump's own `SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name =
    /// 'restrict_nonsystem_relation_kind'`, and nothing else: whether this is it, and if so it is asked.
    ///
    /// # Source
    /// `setup_connection` in `src/bin/pg_dump/pg_dump.c`, since the fix of CVE-2024-7348.
    pub(super) fn of_pg_dump(&mut self, select: &SelectStmt) -> Result<bool, SqlRefusal> {
        if !is_of_pg_dump(select) {
            return Ok(false);
        }
        let relation = self.names.relation("", "", "pg_settings")?;
        if !is_pg_settings(&relation) {
            return Ok(false);
        }
        self.operator(&["="])?;
        self.asked.read(&relation, []);
        self.set(OF_PG_DUMP, None, -1)?;
        Ok(true)
    }
}

/// `UPDATE pg_settings` is a SET: its rule calls set_config. So is an UPDATE of a view of it, which the server makes one of `pg_settings`.
///
/// # Errors
/// Any write to it, and to a view of which nobody knows yet what is below.
pub(super) fn writable(relation: &Relation, names: &Names<'_>) -> Result<(), SqlRefusal> {
    let below = || relation.base.iter().filter_map(|(oid, _)| names.by_oid(*oid));
    if is_pg_settings(relation) || below().any(|base| is_pg_settings(&base)) {
        return Err(refused("settings-written", "a change of `pg_settings` is a SET whose name cannot be told"));
    }
    if relation.kind == RelationKind::View && names.is_new(relation.oid) {
        let message = "a view that an earlier statement of the same text made is written to: send it on its own";
        return Err(refused("depends-on-earlier", message));
    }
    Ok(())
}

fn is_pg_settings(relation: &Relation) -> bool {
    &*relation.schema == "pg_catalog" && &*relation.name == "pg_settings"
}

fn is_of_pg_dump(select: &SelectStmt) -> bool {
    // First what is cheap to see: every query in a query comes here, and what is copied below may be as large as the text.
    if !(sets_it(&select.target_list) && from_settings(&select.from_clause) && where_it(select)) {
        return false;
    }
    let bare = SelectStmt { target_list: Vec::new(), from_clause: Vec::new(), where_clause: None, ..select.clone() };
    let nothing = SelectStmt {
        limit_option: LimitOption::Default.into(),
        op: SetOperation::SetopNone.into(),
        ..SelectStmt::default()
    };
    bare == nothing
}

fn sets_it(targets: &[Node]) -> bool {
    let [Node { node: Some(NodeEnum::ResTarget(target)) }] = targets else { return false };
    let Some(NodeEnum::FuncCall(call)) = target.val.as_ref().and_then(|value| value.node.as_ref()) else {
        return false;
    };
    let named = strings(&call.funcname)
        .is_ok_and(|name| matches!(name.as_slice(), ["set_config"] | ["pg_catalog", "set_config"]));
    let [name, value, local] = call.args.as_slice() else { return false };
    let plain = call.agg_order.is_empty() && call.agg_filter.is_none() && call.over.is_none();
    named && plain && is_name(name) && constant_string(value) == Some("view, foreign-table") && is_false(local)
}

fn from_settings(from: &[Node]) -> bool {
    let [Node { node: Some(NodeEnum::RangeVar(table)) }] = from else { return false };
    table.relname == "pg_settings"
        && table.catalogname.is_empty()
        && matches!(&*table.schemaname, "" | "pg_catalog")
        && table.alias.is_none()
}

fn where_it(select: &SelectStmt) -> bool {
    let Some(NodeEnum::AExpr(test)) = select.where_clause.as_ref().and_then(|test| test.node.as_ref()) else {
        return false;
    };
    test.kind() == AExprKind::AexprOp
        && strings(&test.name).is_ok_and(|name| name == ["="])
        && test.lexpr.as_deref().is_some_and(is_name)
        && test.rexpr.as_deref().and_then(constant_string) == Some(OF_PG_DUMP)
}

/// The column `name`.
fn is_name(node: &Node) -> bool {
    matches!(&node.node, Some(NodeEnum::ColumnRef(column)) if strings(&column.fields).is_ok_and(|name| name == ["name"]))
}

fn is_false(node: &Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(constant)) => matches!(&constant.val, Some(Val::Boolval(value)) if !value.boolval),
        _ => false,
    }
}
