//! INSERT.
//!
//! # Source
//! `transformInsertStmt`, `transformOnConflictClause` in `src/backend/parser/analyze.c`, `transformOnConflictArbiter` in `parse_clause.c`.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::a_const::Val;
use pg_query::protobuf::{
    InferClause, InsertStmt, Node, OnConflictAction, OnConflictClause, RangeVar, ResTarget, SelectStmt,
};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::unknown;
use crate::mapping::sql::catalog::Relation;

use super::scope::{Base, Item, Outcome, Shape};
use super::setting::writable;
use super::{Walk, unknown_node};

impl Walk<'_, '_> {
    pub(super) fn insert(&mut self, insert: &InsertStmt) -> Result<Outcome, SqlRefusal> {
        self.inside(|walk| {
            walk.with(insert.with_clause.as_ref())?;
            let (target, base) = walk.written(insert.relation.as_ref())?;
            let columns = walk.inserted(&base.relation, &insert.cols)?;
            walk.asked.write("sql:Insert", &base.relation, columns.iter().cloned());
            match insert.select_stmt.as_ref().and_then(|select| select.node.as_ref()) {
                Some(NodeEnum::SelectStmt(select)) => {
                    let outcome = walk.select(select, None)?;
                    walk.stored(select, &outcome, &base.relation, &columns)?;
                }
                // DEFAULT VALUES.
                None => {}
                Some(_) => return Err(unknown_node("INSERT")),
            }
            if let Some(conflict) = &insert.on_conflict_clause {
                walk.on_conflict(conflict, &target, &base)?;
            }
            walk.seeing(vec![target.clone()], |walk| walk.returning(insert.returning_clause.as_ref(), &target))
        })
    }

    /// The table that is written to. WITH queries do not hide it.
    ///
    /// # Source
    /// `setTargetTable` in `src/backend/parser/parse_clause.c`.
    pub(super) fn written(&mut self, table: Option<&RangeVar>) -> Result<(Item, std::rc::Rc<Base>), SqlRefusal> {
        let Some(table) = table else { return Err(unknown_node("a statement that writes")) };
        let relation = self.names.relation(&table.catalogname, &table.schemaname, &table.relname)?;
        writable(&relation, self.names)?;
        let alias = table.alias.as_ref();
        let mut item = Item::table(&relation, !table.inh, alias.map(|alias| alias.aliasname.as_str()));
        item.rename(&super::from::columns_of(alias)?)?;
        let base = item.base.clone().ok_or_else(|| unknown_node("a statement that writes"))?;
        Ok((item, base))
    }

    /// The columns of an INSERT: all if none are written.
    pub(super) fn inserted(&mut self, relation: &Relation, columns: &[Node]) -> Result<Vec<Arc<str>>, SqlRefusal> {
        if columns.is_empty() {
            return Ok(relation.columns.iter().map(|column| Arc::clone(&column.name)).collect());
        }
        let mut names = Vec::new();
        for column in columns {
            let Some(NodeEnum::ResTarget(column)) = &column.node else { return Err(unknown_node("INSERT")) };
            names.push(self.written_column(relation, column)?);
        }
        Ok(names)
    }

    /// The column that a target names.
    fn written_column(&mut self, relation: &Relation, target: &ResTarget) -> Result<Arc<str>, SqlRefusal> {
        self.subscripts(&target.indirection)?;
        let known = relation.columns.iter().find(|column| *column.name == *target.name);
        let Some(known) = known else {
            let (column, table) = (&target.name, &relation.name);
            return Err(unknown("42703", format!("column \"{column}\" of relation \"{table}\" does not exist")));
        };
        if !target.indirection.is_empty() {
            // A field or an element is assigned, and the value cast to its type.
            let fields = self.fields_of(known.type_oid);
            let inner = fields.iter().flat_map(|fields| fields.columns.iter().map(|field| field.type_oid));
            let inner: Vec<u32> = inner.chain([known.type_oid]).collect();
            inner.into_iter().try_for_each(|type_oid| self.implicit_casts(&Shape::Of(type_oid)))?;
        }
        Ok(Arc::clone(&known.name))
    }

    /// What is stored is cast to the types of the columns.
    fn stored(
        &mut self,
        select: &SelectStmt,
        outcome: &Outcome,
        relation: &Relation,
        columns: &[Arc<str>],
    ) -> Result<(), SqlRefusal> {
        for (position, column) in columns.iter().enumerate() {
            let values = select.values_lists.iter().filter_map(|row| match &row.node {
                Some(NodeEnum::List(row)) => row.items.get(position),
                _ => None,
            });
            let constants = !select.values_lists.is_empty() && !values.into_iter().any(may_be_cast);
            let given = outcome.columns.get(position);
            if !constants && (given.is_some() || outcome.open) {
                let type_oid = given.filter(|_| !outcome.open).map_or(0, |given| given.type_oid);
                self.assigned(relation, column, &Shape::Of(type_oid))?;
            }
        }
        Ok(())
    }

    /// A value of one type is stored in a column of maybe another: casts that nobody has written.
    fn assigned(&mut self, relation: &Relation, column: &Arc<str>, shape: &Shape) -> Result<(), SqlRefusal> {
        let known = relation.columns.iter().find(|known| known.name == *column);
        let target = known.map_or(0, |known| known.type_oid);
        match shape {
            Shape::Of(given) if *given == target => Ok(()),
            _ => {
                self.implicit_casts(shape)?;
                self.implicit_casts(&Shape::Of(target))
            }
        }
    }

    /// A value that is written is stored in a column.
    pub(super) fn stored_value(
        &mut self,
        relation: &Relation,
        column: &Arc<str>,
        value: &Node,
        shape: &Shape,
    ) -> Result<(), SqlRefusal> {
        if may_be_cast(value) { self.assigned(relation, column, shape) } else { Ok(()) }
    }

    /// SET of UPDATE, ON CONFLICT and MERGE: the columns written.
    pub(super) fn assignments(&mut self, relation: &Relation, targets: &[Node]) -> Result<Vec<Arc<str>>, SqlRefusal> {
        let mut names = Vec::new();
        for target in targets {
            let Some(NodeEnum::ResTarget(target)) = &target.node else { return Err(unknown_node("SET")) };
            let name = self.written_column(relation, target)?;
            let shape = self.optional_bare(target.val.as_deref())?;
            if !target.indirection.is_empty() {
                self.implicit_casts(&shape)?;
            }
            if let Some(value) = &target.val {
                self.stored_value(relation, &name, value, &shape)?;
            }
            names.push(name);
        }
        Ok(names)
    }

    fn on_conflict(&mut self, clause: &OnConflictClause, target: &Item, base: &Base) -> Result<(), SqlRefusal> {
        if let Some(infer) = &clause.infer {
            self.seeing(vec![target.clone()], |walk| walk.arbiter(infer, target))?;
        }
        match clause.action() {
            OnConflictAction::OnconflictNothing => Ok(()),
            OnConflictAction::OnconflictUpdate => {
                let mut excluded = target.clone();
                excluded.name = Some(Arc::from("excluded"));
                excluded.own_name = false;
                // What EXCLUDED gives is the right to read the column of the table: run on PostgreSQL 15.
                self.seeing(vec![target.clone(), excluded], |walk| {
                    let columns = walk.assignments(&base.relation, &clause.target_list)?;
                    walk.asked.write("sql:Update", &base.relation, columns);
                    walk.optional(clause.where_clause.as_deref()).map(drop)
                })
            }
            OnConflictAction::OnconflictNone | OnConflictAction::Undefined => Err(unknown_node("ON CONFLICT")),
        }
    }

    /// The columns that say what conflicts are read. Those of a constraint are not known: they may be all.
    fn arbiter(&mut self, infer: &InferClause, target: &Item) -> Result<(), SqlRefusal> {
        if !infer.conname.is_empty() {
            self.read_all(&target.columns);
        }
        for element in &infer.index_elems {
            let Some(NodeEnum::IndexElem(element)) = &element.node else { return Err(unknown_node("ON CONFLICT")) };
            if !element.name.is_empty() {
                let columns = target.columns_named(&element.name);
                if columns.is_empty() {
                    return Err(unknown("42703", format!("column \"{}\" does not exist", element.name)));
                }
                self.read(&columns);
            }
            self.optional(element.expr.as_deref())?;
            super::strings(&element.collation)?;
            super::strings(&element.opclass)?;
        }
        self.optional(infer.where_clause.as_deref()).map(drop)
    }
}

/// Whether a value has a type of its own that may have to be cast: strings and parameters take the column's, numbers do not.
pub(super) fn may_be_cast(value: &Node) -> bool {
    match &value.node {
        Some(NodeEnum::AConst(constant)) => !constant.isnull && !matches!(constant.val, Some(Val::Sval(_)) | None),
        Some(NodeEnum::ParamRef(_) | NodeEnum::SetToDefault(_)) => false,
        _ => true,
    }
}
