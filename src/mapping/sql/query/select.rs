//! SELECT, VALUES, TABLE and set operations.

use pg_query::NodeEnum;
use pg_query::protobuf::{AConst, CoercionForm, LockingClause, Node, SelectStmt, SetOperation};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::unknown;

use super::column::{Reference, reference};
use super::scope::{Column, Item, Outcome, Shape};
use super::{Walk, unknown_node};

/// A recursive WITH query that is being walked: where it is, and how its columns are called.
#[derive(Debug, Clone)]
pub(super) struct Recursion {
    pub(super) level: usize,
    pub(super) cte: usize,
    pub(super) aliases: Vec<String>,
    /// Columns that SEARCH and CYCLE add behind those of the query; the query itself may read them already.
    pub(super) added: Vec<String>,
}

impl Walk<'_, '_> {
    /// A query that lies in another one, or is the whole statement.
    pub(super) fn select(&mut self, select: &SelectStmt, recursion: Option<&Recursion>) -> Result<Outcome, SqlRefusal> {
        self.inside(|walk| {
            if walk.of_pg_dump(select)? {
                return Ok(Outcome { columns: vec![Column::plain("set_config", 25)], ..Outcome::default() });
            }
            walk.check_into(select.into_clause.is_some())?;
            walk.with(select.with_clause.as_ref())?;
            let mut outcome = match select.op() {
                SetOperation::SetopUnion | SetOperation::SetopIntersect | SetOperation::SetopExcept => {
                    walk.set_operation(select, recursion)?
                }
                SetOperation::SetopNone if !select.values_lists.is_empty() => walk.values_lists(select)?,
                SetOperation::SetopNone => walk.plain(select)?,
                SetOperation::Undefined => return Err(unknown_node("a query")),
            };
            // They see nothing of FROM: `transformLimitClause`.
            walk.optional(select.limit_offset.as_deref())?;
            walk.optional(select.limit_count.as_deref())?;
            for column in &mut outcome.columns {
                column.sources.clear();
            }
            Ok(outcome)
        })
    }

    /// # Source
    /// `transformSelectStmt` in `src/backend/parser/analyze.c`.
    fn plain(&mut self, select: &SelectStmt) -> Result<Outcome, SqlRefusal> {
        self.members(&select.from_clause)?;
        let mut outcome = self.targets(&select.target_list)?;
        self.optional(select.where_clause.as_deref())?;
        self.optional(select.having_clause.as_deref())?;
        for node in &select.group_clause {
            self.group(node, &outcome)?;
        }
        for node in &select.distinct_clause {
            self.output_or_value(node, &outcome)?;
        }
        self.windows(&select.window_clause)?;
        self.order_by(&select.sort_clause, &outcome)?;
        for clause in &select.locking_clause {
            self.locking(clause)?;
        }
        outcome.locks = self.level().items.iter().flat_map(|item| item.locks.iter().cloned()).collect();
        Ok(outcome)
    }

    /// # Source
    /// `transformValuesClause`.
    fn values_lists(&mut self, select: &SelectStmt) -> Result<Outcome, SqlRefusal> {
        let mut width = 0;
        for row in &select.values_lists {
            let Some(NodeEnum::List(row)) = &row.node else { return Err(unknown_node("VALUES")) };
            self.values(&row.items)?;
            // `VALUES (t.*)` has as many columns as the row: then the width is not known.
            width = width.max(row.items.len());
        }
        let open = select.values_lists.iter().any(|row| match &row.node {
            Some(NodeEnum::List(row)) => row.items.iter().any(ends_with_star),
            _ => false,
        });
        let columns = (1..=width).map(|number| Column::plain(format!("column{number}"), 0)).collect();
        let outcome = Outcome { columns, open, ..Outcome::default() };
        self.after_outputs(select, &outcome)?;
        Ok(outcome)
    }

    /// # Source
    /// `transformSetOperationStmt`, `transformSetOperationTree`.
    fn set_operation(&mut self, select: &SelectStmt, recursion: Option<&Recursion>) -> Result<Outcome, SqlRefusal> {
        let (Some(left), Some(right)) = (&select.larg, &select.rarg) else {
            return Err(unknown_node("a set operation"));
        };
        let left = self.select(left, None)?;
        if let Some(recursion) = recursion {
            self.recursive_columns(recursion, &left)?;
        }
        let right = self.select(right, None)?;
        let mut outcome = Outcome { open: left.open || right.open, columns: left.columns, locks: left.locks };
        outcome.locks.extend(right.locks);
        let mut others = right.columns.iter();
        for column in &mut outcome.columns {
            let other = others.next().map_or(0, |other| other.type_oid);
            if other != column.type_oid {
                // One of them is cast to the other's type, or both to a third one.
                self.implicit_casts(&Shape::Of(column.type_oid))?;
                self.implicit_casts(&Shape::Of(other))?;
                column.type_oid = 0;
            }
        }
        self.after_outputs(select, &outcome)?;
        Ok(outcome)
    }

    /// What may stand behind VALUES and set operations: it sees the columns that come out.
    fn after_outputs(&mut self, select: &SelectStmt, outcome: &Outcome) -> Result<(), SqlRefusal> {
        let item = Item::made_of(None, outcome.columns.clone().into(), outcome.open);
        self.seeing(vec![item], |walk| walk.order_by(&select.sort_clause, outcome))?;
        for clause in &select.locking_clause {
            self.locking(clause)?;
        }
        Ok(())
    }

    /// GROUP BY: a column of FROM goes before an output column of that name.
    ///
    /// # Source
    /// `findTargetlistEntrySQL92` in `src/backend/parser/parse_clause.c`.
    fn group(&mut self, node: &Node, outcome: &Outcome) -> Result<(), SqlRefusal> {
        self.deeper(|walk| match &node.node {
            None => Ok(()),
            Some(NodeEnum::GroupingSet(set)) => set.content.iter().try_for_each(|part| walk.group(part, outcome)),
            Some(NodeEnum::RowExpr(row)) if row.row_format() == CoercionForm::CoerceImplicitCast => {
                row.args.iter().try_for_each(|part| walk.group(part, outcome))
            }
            Some(NodeEnum::ColumnRef(column)) => {
                let Reference { qualifiers, last } = reference(column)?;
                let name = last.filter(|_| qualifiers.is_empty());
                let local = name.is_some_and(|name| walk.is_local(name));
                match name {
                    Some(name) if !local && has(outcome, name) => Ok(()),
                    _ => walk.bare(node).map(drop),
                }
            }
            Some(_) => walk.bare(node).map(drop),
        })
    }

    fn is_local(&mut self, name: &str) -> bool {
        self.level()
            .items
            .iter()
            .any(|item| item.columns_visible && (item.open || !item.columns_named(name).is_empty()))
    }

    fn order_by(&mut self, clause: &[Node], outcome: &Outcome) -> Result<(), SqlRefusal> {
        for sort in clause {
            let Some(NodeEnum::SortBy(sort)) = &sort.node else { return Err(unknown_node("ORDER BY")) };
            if let Some(node) = &sort.node {
                self.output_or_value(node, outcome)?;
            }
            self.sort_operator(sort)?;
        }
        Ok(())
    }

    /// ORDER BY and DISTINCT ON: a bare name is an output column if there is one of that name.
    fn output_or_value(&mut self, node: &Node, outcome: &Outcome) -> Result<(), SqlRefusal> {
        match &node.node {
            Some(NodeEnum::ColumnRef(column)) => {
                let Reference { qualifiers, last } = reference(column)?;
                match last {
                    Some(name) if qualifiers.is_empty() && has(outcome, name) => Ok(()),
                    _ => self.bare(node).map(drop),
                }
            }
            // The number of an output column, which has been read.
            Some(NodeEnum::AConst(AConst { .. })) | None => Ok(()),
            Some(_) => self.bare(node).map(drop),
        }
    }

    fn windows(&mut self, clause: &[Node]) -> Result<(), SqlRefusal> {
        for window in clause {
            let Some(NodeEnum::WindowDef(window)) = &window.node else { return Err(unknown_node("WINDOW")) };
            self.window(window)?;
        }
        Ok(())
    }

    /// FOR UPDATE and its like: `sql:Lock` on what is named, or on everything in FROM, also in subqueries there.
    ///
    /// # Source
    /// `transformLockingClause`.
    fn locking(&mut self, clause: &Node) -> Result<(), SqlRefusal> {
        let Some(NodeEnum::LockingClause(LockingClause { locked_rels, .. })) = &clause.node else {
            return Err(unknown_node("a locking clause"));
        };
        let items = &self.level().items;
        let mut locked: Vec<&Item> = Vec::new();
        if locked_rels.is_empty() {
            locked.extend(items);
        }
        for named in locked_rels {
            let Some(NodeEnum::RangeVar(named)) = &named.node else { return Err(unknown_node("a locking clause")) };
            let before = locked.len();
            locked.extend(items.iter().filter(|item| item.name.as_deref() == Some(&*named.relname)));
            if locked.len() == before {
                let message = format!("relation \"{}\" in FOR UPDATE clause not found in FROM clause", named.relname);
                return Err(unknown("42P01", message));
            }
        }
        let bases: Vec<_> = locked.iter().flat_map(|item| item.locks.iter().cloned()).collect();
        for base in bases {
            self.write_base("sql:Lock", &base, &[]);
        }
        Ok(())
    }
}

fn has(outcome: &Outcome, name: &str) -> bool {
    outcome.columns.iter().any(|column| &*column.name == name)
}

fn ends_with_star(node: &Node) -> bool {
    let last = match &node.node {
        Some(NodeEnum::ColumnRef(column)) => column.fields.last(),
        Some(NodeEnum::AIndirection(indirection)) => indirection.indirection.last(),
        _ => None,
    };
    matches!(last.and_then(|last| last.node.as_ref()), Some(NodeEnum::AStar(_)))
}
