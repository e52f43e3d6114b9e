//! FROM: tables, subqueries, joins.
//!
//! # Source
//! `transformFromClauseItem` in `src/backend/parser/parse_clause.c`.

use std::sync::Arc;

use ahash::AHashSet;
use pg_query::NodeEnum;
use pg_query::protobuf::{Alias, JoinExpr, Node, RangeSubselect, RangeTableSample, RangeVar};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::unknown;

use super::columns::Columns;
use super::scope::{Column, Item, Shape};
use super::{Walk, strings, unknown_node};

/// What a member of FROM brings into sight.
pub(super) struct Member {
    /// Everything that names can refer to, without `top`.
    below: Vec<Item>,
    /// The member itself: what a join around it sees.
    top: Item,
}

impl Member {
    pub(super) const fn of(top: Item) -> Self {
        Self { below: Vec::new(), top }
    }

    fn into_items(self) -> Vec<Item> {
        let mut items = self.below;
        items.push(self.top);
        items
    }
}

impl Walk<'_, '_> {
    /// FROM, or USING of a DELETE.
    pub(super) fn members(&mut self, clause: &[Node]) -> Result<(), SqlRefusal> {
        self.level().items_visible = false;
        for node in clause {
            let member = self.member(node)?;
            self.level().items.extend(member.into_items());
        }
        self.level().items_visible = true;
        Ok(())
    }

    /// The source of a MERGE.
    pub(super) fn source(&mut self, node: &Node) -> Result<Vec<Item>, SqlRefusal> {
        self.level().items_visible = false;
        let member = self.member(node)?;
        self.level().items_visible = true;
        Ok(member.into_items())
    }

    fn member(&mut self, node: &Node) -> Result<Member, SqlRefusal> {
        self.deeper(|walk| match &node.node {
            Some(NodeEnum::RangeVar(table)) => walk.table(table).map(Member::of),
            Some(NodeEnum::RangeSubselect(subselect)) => walk.subselect(subselect).map(Member::of),
            Some(NodeEnum::RangeFunction(function)) => walk.range_function(function).map(Member::of),
            Some(NodeEnum::RangeTableFunc(table)) => walk.xml_table(table).map(Member::of),
            Some(NodeEnum::JsonTable(table)) => walk.json_table(table).map(Member::of),
            Some(NodeEnum::RangeTableSample(sample)) => walk.sample(sample),
            Some(NodeEnum::JoinExpr(join)) => walk.join(join),
            _ => Err(unknown_node("FROM")),
        })
    }

    /// A table, or a WITH query of that name.
    fn table(&mut self, table: &RangeVar) -> Result<Item, SqlRefusal> {
        let alias = table.alias.as_ref();
        if table.schemaname.is_empty()
            && table.catalogname.is_empty()
            && let Some(cte) = self.cte(&table.relname)
        {
            let name = alias.map_or(&*cte.name, |alias| &alias.aliasname);
            let mut item = Item::made_of(Some(Arc::from(name)), cte.columns, cte.open);
            item.rename(&columns_of(alias)?)?;
            return Ok(item);
        }
        let relation = self.names.relation(&table.catalogname, &table.schemaname, &table.relname);
        let relation = relation.map_err(|refusal| refusal.at(table.location))?;
        let mut item = Item::table(&relation, !table.inh, alias.map(|alias| alias.aliasname.as_str()));
        item.rename(&columns_of(alias)?)?;
        if let Some(base) = item.base.clone() {
            self.read_base(&base, &[]);
        }
        Ok(item)
    }

    fn subselect(&mut self, subselect: &RangeSubselect) -> Result<Item, SqlRefusal> {
        let Some(NodeEnum::SelectStmt(select)) = subselect.subquery.as_ref().and_then(|query| query.node.as_ref())
        else {
            return Err(unknown_node("FROM"));
        };
        let outcome = self.laterally(subselect.lateral, |walk| walk.select(select, None))?;
        let mut item = Item::made_of(name_of(subselect.alias.as_ref()), outcome.columns.into(), outcome.open);
        item.rename(&columns_of(subselect.alias.as_ref())?)?;
        item.locks = outcome.locks;
        Ok(item)
    }

    /// Walks with the members of FROM before this one in sight, or not.
    pub(super) fn laterally<T>(
        &mut self,
        lateral: bool,
        walk: impl FnOnce(&mut Self) -> Result<T, SqlRefusal>,
    ) -> Result<T, SqlRefusal> {
        let before = std::mem::replace(&mut self.level().items_visible, lateral);
        let walked = walk(self);
        self.level().items_visible = before;
        walked
    }

    /// The method is a handler that only superusers install; its arguments see nothing of FROM.
    fn sample(&mut self, sample: &RangeTableSample) -> Result<Member, SqlRefusal> {
        let Some(relation) = &sample.relation else { return Err(unknown_node("TABLESAMPLE")) };
        let member = self.member(relation)?;
        strings(&sample.method)?;
        self.laterally(false, |walk| {
            walk.values(&sample.args)?;
            walk.optional(sample.repeatable.as_deref())
        })?;
        Ok(member)
    }

    fn join(&mut self, join: &JoinExpr) -> Result<Member, SqlRefusal> {
        let (Some(left), Some(right)) = (&join.larg, &join.rarg) else { return Err(unknown_node("a join")) };
        let left = self.member(left)?;
        // The left side can be seen from LATERAL members of the right one.
        let before = self.level().items.len();
        let (left_top, left_items) = (left.top.clone(), left.into_items());
        self.level().items.extend(left_items.iter().cloned());
        let right = self.member(right);
        self.level().items.truncate(before);
        let right = right?;
        let (right_top, right_items) = (right.top.clone(), right.into_items());
        let mut below = left_items;
        below.extend(right_items);
        if let Some(condition) = &join.quals {
            self.seeing(below.clone(), |walk| walk.value(condition))?;
        }
        let using = self.merged_names(join, &left_top, &right_top)?;
        let (merged, columns) = self.join_columns(&using, left_top, right_top)?;
        let open = below.iter().any(|item| item.open && item.columns_visible);
        let mut top = Item::made_of(name_of(join.alias.as_ref()), columns, open);
        top.rename(&columns_of(join.alias.as_ref())?)?;
        if join.alias.is_some() {
            // What is below an alias cannot be seen any more, but FOR UPDATE reaches it.
            top.locks = below.drain(..).flat_map(|item| item.locks).collect();
        }
        for item in &mut below {
            item.columns_visible = false;
        }
        // A join below that has no name is of no use any more, and has the columns of all below it.
        below.retain(|item| item.relation_visible || !item.locks.is_empty());
        if let Some(alias) = &join.join_using_alias {
            let mut item = Item::made_of(name_of(Some(alias)), merged, false);
            item.columns_visible = false;
            below.push(item);
        }
        Ok(Member { below, top })
    }

    /// The names of USING, or those that NATURAL finds on both sides.
    fn merged_names(&mut self, join: &JoinExpr, left: &Item, right: &Item) -> Result<Vec<Arc<str>>, SqlRefusal> {
        if !join.is_natural {
            return Ok(strings(&join.using_clause)?.into_iter().map(Arc::from).collect());
        }
        if left.open || right.open {
            // Any of them may be on the other side as well.
            self.read_all(&left.columns);
            self.read_all(&right.columns);
        }
        let on_right: AHashSet<&Arc<str>> = right.columns.iter().map(|column| &column.name).collect();
        let on_left = left.columns.iter().map(|column| &column.name);
        Ok(on_left.filter(|name| on_right.contains(name)).cloned().collect())
    }

    /// The merged columns, and all columns of a join. Both sides of a merged column are read.
    ///
    /// # Source
    /// `transformJoinUsingClause`.
    fn join_columns(&mut self, using: &[Arc<str>], left: Item, right: Item) -> Result<(Columns, Columns), SqlRefusal> {
        let mut merged = Vec::new();
        for name in using {
            let mut both = Vec::new();
            for (item, side) in [(&left, "left"), (&right, "right")] {
                let found: Vec<_> = item.columns.named(name).cloned().collect();
                if found.is_empty() && !item.open {
                    let message = format!("column \"{name}\" specified in USING clause does not exist in {side} table");
                    return Err(unknown("42703", message));
                }
                both.extend(found);
            }
            self.read(&both);
            self.operator(&["="])?;
            // One is cast to the other's type, or both to a third one.
            if both.iter().any(|column| Some(column.type_oid) != both.first().map(|first| first.type_oid)) {
                both.iter().try_for_each(|column| self.implicit_casts(&Shape::Of(column.type_oid)))?;
            }
            // Both were read just now: whoever names the merged column reads nothing more.
            merged.push(Column::plain(Arc::clone(name), both.first().map_or(0, |column| column.type_oid)));
        }
        let merged = Columns::from(merged);
        let mut columns = merged.clone();
        columns.extend(left.columns.without(using));
        columns.extend(right.columns.without(using));
        Ok((merged, columns))
    }
}

/// The alias as a name.
pub(super) fn name_of(alias: Option<&Alias>) -> Option<Arc<str>> {
    alias.map(|alias| Arc::from(alias.aliasname.as_str()))
}

/// The column names of an alias.
pub(super) fn columns_of(alias: Option<&Alias>) -> Result<Vec<&str>, SqlRefusal> {
    alias.map_or_else(|| Ok(Vec::new()), |alias| strings(&alias.colnames))
}
