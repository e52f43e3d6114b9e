//! Functions in FROM, and what columns they have.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{FuncCall, Node, RangeFunction, RangeTableFunc};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::catalog::{Function, is_built_in};
use crate::mapping::sql::names::Call;

use super::call::Called;
use super::from::{columns_of, name_of};
use super::label::expression_label;
use super::scope::{ANY, Column, Item};
use super::{Walk, strings, unknown_node};

/// Columns, and whether there may be more.
type Columns = (Vec<Column>, bool);

impl Walk<'_, '_> {
    /// `f(x)`, `ROWS FROM (f(x), g(y))`, `WITH ORDINALITY`: always LATERAL.
    ///
    /// # Source
    /// `transformRangeFunction` in `src/backend/parser/parse_clause.c`, `addRangeTableEntryForFunction` in `parse_relation.c`.
    pub(super) fn range_function(&mut self, range: &RangeFunction) -> Result<Item, SqlRefusal> {
        let alias = range.alias.as_ref();
        let mut name = name_of(alias);
        let mut all: Columns = (Vec::new(), false);
        for function in &range.functions {
            let Some(NodeEnum::List(pair)) = &function.node else { return Err(unknown_node("FROM")) };
            let Some((function, definitions)) = pair.items.split_first() else { return Err(unknown_node("FROM")) };
            if !matches!(function.node, Some(NodeEnum::FuncCall(_))) {
                self.laterally(true, |walk| walk.value(function))?;
            }
            let label = expression_label(Some(function), &self.labels);
            name.get_or_insert_with(|| Arc::clone(&label));
            let written = self.definitions(definitions)?;
            let alone = range.functions.len() == 1;
            let scalar = alias.filter(|_| alone).map_or(label, |alias| Arc::from(alias.aliasname.as_str()));
            let own = self.laterally(true, |walk| walk.rows_of(function, &scalar))?;
            let (columns, open) = if written.is_empty() { own } else { (written, false) };
            all.0.extend(columns);
            all.1 |= open;
        }
        let written = self.definitions(&range.coldeflist)?;
        if !written.is_empty() {
            all = (written, false);
        }
        if range.ordinality {
            all.0.push(Column::plain("ordinality", 20));
        }
        let mut item = Item::made_of(name, all.0.into(), all.1);
        item.rename(&columns_of(alias)?)?;
        Ok(item)
    }

    /// `AS (a int, b text)`.
    fn definitions(&mut self, list: &[Node]) -> Result<Vec<Column>, SqlRefusal> {
        let mut columns = Vec::new();
        for node in list {
            match &node.node {
                Some(NodeEnum::ColumnDef(definition)) => {
                    let type_oid = self.optional_type(definition.type_name.as_ref())?;
                    columns.push(Column::plain(definition.colname.as_str(), type_oid));
                }
                Some(NodeEnum::List(list)) => columns.extend(self.definitions(&list.items)?),
                None => {}
                Some(_) => return Err(unknown_node("a list of columns")),
            }
        }
        Ok(columns)
    }

    fn rows_of(&mut self, node: &Node, scalar: &Arc<str>) -> Result<Columns, SqlRefusal> {
        let Some(NodeEnum::FuncCall(call)) = &node.node else {
            // It was walked already; a name for it was made of what the walk found.
            return Ok((vec![Column::plain(Arc::clone(scalar), 0)], true));
        };
        if call.args.len() > 1 && strings(&call.funcname)? == ["unnest"] {
            // `unnest(a, b)` is one call for each.
            let mut all: Columns = (Vec::new(), false);
            for argument in &call.args {
                let one = FuncCall { args: vec![argument.clone()], ..(**call).clone() };
                let Called { call, .. } = self.function(&one)?;
                let (columns, open) = self.columns_of_call(call.as_ref(), scalar);
                all.0.extend(columns);
                all.1 |= open;
            }
            return Ok(all);
        }
        let Called { call, .. } = self.function(call)?;
        Ok(self.columns_of_call(call.as_ref(), scalar))
    }

    /// What all that a call may mean have in common; open if they differ.
    fn columns_of_call(&self, call: Option<&Call>, scalar: &Arc<str>) -> Columns {
        let mut all = call.into_iter().flat_map(|call| call.candidates.iter().chain(&call.harmless));
        let Some(first) = all.next() else { return (vec![Column::plain(Arc::clone(scalar), 0)], true) };
        let (mut columns, mut open) = self.columns_of_function(&first.function, scalar);
        for other in all {
            let (others, other_open) = self.columns_of_function(&other.function, scalar);
            let same = columns.len() == others.len() && columns.iter().zip(&others).all(|(a, b)| a.name == b.name);
            if !same {
                columns.clear();
            }
            open |= other_open || !same;
        }
        (columns, open)
    }

    fn columns_of_function(&self, function: &Function, scalar: &Arc<str>) -> Columns {
        if !function.output_names.is_empty() {
            // Which types these have is not read; those of the server's own functions are its own.
            let type_oid = if is_built_in(function.oid) { 0 } else { ANY };
            let columns = function.output_names.iter().map(|name| Column::plain(Arc::clone(name), type_oid));
            return (columns.collect(), false);
        }
        if let Some(relation) = self.fields_of(function.returns) {
            let columns = relation.columns.iter().map(|c| Column::plain(Arc::clone(&c.name), c.type_oid));
            return (columns.collect(), false);
        }
        // A row of any kind, or of the kind of the argument.
        let known = self.names.catalog().types.get(&function.returns);
        let certain = known.is_some_and(|known| matches!(known.kind, 'b' | 'd' | 'e' | 'r' | 'm'));
        (vec![Column::plain(Arc::clone(scalar), if certain { function.returns } else { ANY })], !certain)
    }

    /// XMLTABLE.
    ///
    /// # Source
    /// `transformRangeTableFunc`.
    pub(super) fn xml_table(&mut self, table: &RangeTableFunc) -> Result<Item, SqlRefusal> {
        let columns = self.laterally(true, |walk| {
            walk.optional(table.docexpr.as_deref())?;
            walk.optional(table.rowexpr.as_deref())?;
            for namespace in &table.namespaces {
                let Some(NodeEnum::ResTarget(namespace)) = &namespace.node else {
                    return Err(unknown_node("XMLTABLE"));
                };
                walk.optional(namespace.val.as_deref())?;
            }
            let mut columns = Vec::new();
            for column in &table.columns {
                let Some(NodeEnum::RangeTableFuncCol(column)) = &column.node else {
                    return Err(unknown_node("XMLTABLE"));
                };
                let type_oid = walk.optional_type(column.type_name.as_ref())?;
                walk.optional(column.colexpr.as_deref())?;
                walk.optional(column.coldefexpr.as_deref())?;
                columns.push(Column::plain(column.colname.as_str(), type_oid));
            }
            Ok(columns)
        })?;
        let name = name_of(table.alias.as_ref()).unwrap_or_else(|| Arc::from("xmltable"));
        let mut item = Item::made_of(Some(name), columns.into(), false);
        item.rename(&columns_of(table.alias.as_ref())?)?;
        Ok(item)
    }
}
