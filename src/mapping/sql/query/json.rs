//! SQL/JSON. Its syntax came with PostgreSQL 16 and 17: before, much of it is a call of a function that anybody may have made.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{JsonAggConstructor, JsonBehavior, JsonKeyValue, JsonOutput, JsonTable, JsonValueExpr, Node};

use crate::mapping::sql::SqlRefusal;

use super::from::{columns_of, name_of};
use super::scope::{Column, Item};
use super::{Walk, unknown_node};

impl Walk<'_, '_> {
    /// The JSON nodes of expressions.
    ///
    /// # Source
    /// `transformJson*` in `src/backend/parser/parse_expr.c`.
    pub(super) fn json(&mut self, node: &NodeEnum) -> Result<(), SqlRefusal> {
        match node {
            NodeEnum::JsonParseExpr(json) => {
                self.since(17, "JSON()")?;
                self.json_value(json.expr.as_deref())?;
                self.json_output(json.output.as_ref())
            }
            NodeEnum::JsonScalarExpr(json) => {
                self.since(17, "JSON_SCALAR()")?;
                self.optional(json.expr.as_deref())?;
                self.json_output(json.output.as_ref())
            }
            NodeEnum::JsonSerializeExpr(json) => {
                self.since(17, "JSON_SERIALIZE()")?;
                self.json_value(json.expr.as_deref())?;
                self.json_output(json.output.as_ref())
            }
            NodeEnum::JsonFuncExpr(json) => {
                self.since(17, "JSON_EXISTS, JSON_QUERY or JSON_VALUE")?;
                self.json_value(json.context_item.as_deref())?;
                self.optional(json.pathspec.as_deref())?;
                self.values(&json.passing)?;
                self.json_output(json.output.as_ref())?;
                self.json_behavior(json.on_empty.as_deref())?;
                self.json_behavior(json.on_error.as_deref())
            }
            NodeEnum::JsonObjectConstructor(json) => {
                self.since(16, "JSON_OBJECT")?;
                self.values(&json.exprs)?;
                self.json_output(json.output.as_ref())
            }
            NodeEnum::JsonArrayConstructor(json) => {
                self.since(16, "JSON_ARRAY")?;
                self.values(&json.exprs)?;
                self.json_output(json.output.as_ref())
            }
            NodeEnum::JsonArrayQueryConstructor(json) => {
                self.since(16, "JSON_ARRAY")?;
                let Some(NodeEnum::SelectStmt(select)) = json.query.as_ref().and_then(|query| query.node.as_ref())
                else {
                    return Err(unknown_node("JSON_ARRAY"));
                };
                self.select(select, None)?;
                self.json_output(json.output.as_ref())
            }
            NodeEnum::JsonObjectAgg(json) => {
                self.since(16, "JSON_OBJECTAGG")?;
                self.json_key_value(json.arg.as_deref())?;
                self.json_aggregate(json.constructor.as_deref())
            }
            NodeEnum::JsonArrayAgg(json) => {
                self.since(16, "JSON_ARRAYAGG")?;
                self.json_value(json.arg.as_deref())?;
                self.json_aggregate(json.constructor.as_deref())
            }
            NodeEnum::JsonIsPredicate(json) => {
                self.since(16, "IS JSON")?;
                self.optional(json.expr.as_deref()).map(drop)
            }
            NodeEnum::JsonKeyValue(json) => self.json_key_value(Some(json)),
            NodeEnum::JsonValueExpr(json) => self.json_value(Some(json)),
            NodeEnum::JsonArgument(json) => self.json_value(json.val.as_deref()),
            _ => Err(unknown_node("a JSON expression")),
        }
    }

    fn json_value(&mut self, json: Option<&JsonValueExpr>) -> Result<(), SqlRefusal> {
        let Some(json) = json else { return Ok(()) };
        self.optional(json.raw_expr.as_deref())?;
        self.optional(json.formatted_expr.as_deref()).map(drop)
    }

    fn json_key_value(&mut self, json: Option<&JsonKeyValue>) -> Result<(), SqlRefusal> {
        let Some(json) = json else { return Ok(()) };
        self.optional(json.key.as_deref())?;
        self.json_value(json.value.as_deref())
    }

    fn json_output(&mut self, output: Option<&JsonOutput>) -> Result<(), SqlRefusal> {
        self.optional_type(output.and_then(|output| output.type_name.as_ref())).map(drop)
    }

    fn json_behavior(&mut self, behavior: Option<&JsonBehavior>) -> Result<(), SqlRefusal> {
        self.optional(behavior.and_then(|behavior| behavior.expr.as_deref())).map(drop)
    }

    fn json_aggregate(&mut self, aggregate: Option<&JsonAggConstructor>) -> Result<(), SqlRefusal> {
        let Some(aggregate) = aggregate else { return Ok(()) };
        self.json_output(aggregate.output.as_ref())?;
        self.optional(aggregate.agg_filter.as_deref())?;
        self.sort_expressions(&aggregate.agg_order)?;
        aggregate.over.as_deref().map_or(Ok(()), |window| self.window(window))
    }

    /// JSON_TABLE: always LATERAL.
    ///
    /// # Source
    /// `transformJsonTable` in `src/backend/parser/parse_jsontable.c`.
    pub(super) fn json_table(&mut self, table: &JsonTable) -> Result<Item, SqlRefusal> {
        self.since(17, "JSON_TABLE")?;
        let columns = self.laterally(true, |walk| {
            walk.json_value(table.context_item.as_deref())?;
            walk.optional(table.pathspec.as_ref().and_then(|path| path.string.as_deref()))?;
            walk.values(&table.passing)?;
            walk.json_behavior(table.on_error.as_deref())?;
            let mut columns = Vec::new();
            walk.json_columns(&table.columns, &mut columns)?;
            Ok(columns)
        })?;
        let name = name_of(table.alias.as_ref()).unwrap_or_else(|| Arc::from("json_table"));
        // In which order nested columns come is not followed here: what an alias renames is not certain then.
        let nested = table.columns.iter().any(
            |column| matches!(&column.node, Some(NodeEnum::JsonTableColumn(column)) if !column.columns.is_empty()),
        );
        let renamed = table.alias.as_ref().is_some_and(|alias| !alias.colnames.is_empty());
        let mut item = Item::made_of(Some(name), columns.into(), nested && renamed);
        item.rename(&columns_of(table.alias.as_ref())?)?;
        Ok(item)
    }

    fn json_columns(&mut self, list: &[Node], columns: &mut Vec<Column>) -> Result<(), SqlRefusal> {
        self.deeper(|walk| {
            for node in list {
                let Some(NodeEnum::JsonTableColumn(column)) = &node.node else {
                    return Err(unknown_node("JSON_TABLE"));
                };
                let type_oid = walk.optional_type(column.type_name.as_ref())?;
                walk.optional(column.pathspec.as_ref().and_then(|path| path.string.as_deref()))?;
                walk.json_behavior(column.on_empty.as_deref())?;
                walk.json_behavior(column.on_error.as_deref())?;
                if column.columns.is_empty() {
                    columns.push(Column::plain(column.name.as_str(), type_oid));
                } else {
                    walk.json_columns(&column.columns, columns)?;
                }
            }
            Ok(())
        })
    }
}
