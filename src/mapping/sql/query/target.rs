//! Lists of targets: what SELECT and RETURNING give.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, ResTarget, ReturningClause, ReturningOptionKind};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::refused;

use super::column::{Reference, reference};
use super::scope::{Column, Item, Level, Outcome, Shape};
use super::{Walk, label, unknown_node};

/// The most columns that a query returns.
const MOST_COLUMNS: usize = 1_664;

impl Walk<'_, '_> {
    /// A SELECT list.
    ///
    /// # Source
    /// `transformTargetList` in `src/backend/parser/parse_target.c`.
    pub(super) fn targets(&mut self, list: &[Node]) -> Result<Outcome, SqlRefusal> {
        let mut outcome = Outcome::default();
        for node in list {
            let Some(NodeEnum::ResTarget(target)) = &node.node else { return Err(unknown_node("a list of targets")) };
            self.target(target, &mut outcome)?;
        }
        Ok(outcome)
    }

    fn target(&mut self, target: &ResTarget, outcome: &mut Outcome) -> Result<(), SqlRefusal> {
        // Only assignments have something behind the name.
        if !target.indirection.is_empty() {
            return Err(unknown_node("a list of targets"));
        }
        match target.val.as_ref().and_then(|value| value.node.as_ref()) {
            Some(NodeEnum::ColumnRef(column)) => {
                let Reference { qualifiers, last } = reference(column)?;
                if last.is_none() {
                    let (columns, open) = self.star(&qualifiers)?;
                    outcome.open |= open;
                    return give(outcome, columns.iter().cloned().map(unread));
                }
            }
            Some(NodeEnum::AIndirection(indirection)) => {
                let last = indirection.indirection.last().and_then(|last| last.node.as_ref());
                if matches!(last, Some(NodeEnum::AStar(_))) {
                    let shape = self.indirection(indirection)?;
                    return self.fields(&shape, outcome);
                }
            }
            _ => {}
        }
        let shape = self.optional_bare(target.val.as_deref())?;
        let type_oid = match shape {
            Shape::Of(type_oid) => type_oid,
            Shape::Row { .. } => self.row_type(&shape),
        };
        give(outcome, [Column::plain(label::label(target, &self.labels), type_oid)])
    }

    /// `(x).*`.
    fn fields(&self, shape: &Shape, outcome: &mut Outcome) -> Result<(), SqlRefusal> {
        match shape {
            Shape::Row { columns, open } => {
                outcome.open |= open;
                give(outcome, columns.iter().cloned().map(unread))
            }
            Shape::Of(type_oid) => match self.fields_of(*type_oid) {
                Some(relation) => {
                    let columns = relation.columns.iter();
                    give(outcome, columns.map(|c| Column::plain(Arc::clone(&c.name), c.type_oid)))
                }
                None => {
                    outcome.open = true;
                    Ok(())
                }
            },
        }
    }

    /// The type of a table's row.
    fn row_type(&self, shape: &Shape) -> u32 {
        let Shape::Row { columns, .. } = shape else { return 0 };
        let mut bases = columns.iter().map(|column| column.sources.first().map(|(base, _)| base));
        match bases.next() {
            Some(Some(first)) if bases.all(|base| base.is_some_and(|base| std::rc::Rc::ptr_eq(base, first))) => {
                first.relation.row_type
            }
            _ => 0,
        }
    }

    /// RETURNING, with what it can see besides the target.
    ///
    /// # Source
    /// `transformReturningClause` and `addNSItemForReturning` in `src/backend/parser/analyze.c` (18).
    pub(super) fn returning(&mut self, clause: Option<&ReturningClause>, target: &Item) -> Result<Outcome, SqlRefusal> {
        let Some(clause) = clause else { return Ok(Outcome::default()) };
        let (mut old, mut new) = ("old".to_owned(), "new".to_owned());
        for option in &clause.options {
            self.since(18, "RETURNING WITH")?;
            let Some(NodeEnum::ReturningOption(option)) = &option.node else { return Err(unknown_node("RETURNING")) };
            match option.option() {
                ReturningOptionKind::ReturningOptionOld => old.clone_from(&option.value),
                ReturningOptionKind::ReturningOptionNew => new.clone_from(&option.value),
                ReturningOptionKind::Undefined => return Err(unknown_node("RETURNING")),
            }
        }
        if self.names.catalog().major >= 18 {
            for name in [old, new] {
                // An item of the query that is called so hides it.
                if !self.level().items.iter().any(|item| item.is_called(&name)) {
                    let mut item = target.clone();
                    item.name = Some(Arc::from(name));
                    item.own_name = false;
                    item.columns_visible = false;
                    self.level().items.push(item);
                }
            }
        }
        self.targets(&clause.exprs)
    }

    /// Walks with these items in sight, instead of those of the innermost query.
    pub(super) fn seeing<T>(
        &mut self,
        items: Vec<Item>,
        walk: impl FnOnce(&mut Self) -> Result<T, SqlRefusal>,
    ) -> Result<T, SqlRefusal> {
        let level = self.level();
        let hidden = std::mem::replace(&mut level.items, items);
        let were_visible = std::mem::replace(&mut level.items_visible, true);
        let walked = walk(self);
        let level = self.level();
        level.items = hidden;
        level.items_visible = were_visible;
        walked
    }

    /// Walks a query that lies in the innermost one.
    pub(super) fn inside<T>(&mut self, walk: impl FnOnce(&mut Self) -> Result<T, SqlRefusal>) -> Result<T, SqlRefusal> {
        self.deeper(|this| {
            this.levels.push(Level::of(Vec::new()));
            let walked = walk(this);
            this.levels.pop();
            walked
        })
    }

    /// SELECT … INTO: what it creates is not the walk's business, but somebody's it must be.
    pub(super) fn check_into(&self, is_there: bool) -> Result<(), SqlRefusal> {
        if is_there && !self.into_judged {
            return Err(refused("select-into", "a SELECT … INTO stands where it is not judged"));
        }
        Ok(())
    }
}

/// More of what a query returns.
///
/// # Source
/// `free_parsestate` in `src/backend/parser/parse_node.c`; `MaxTupleAttributeNumber` in `src/include/access/htup_details.h`. Without a limit
/// `WITH a AS (SELECT * FROM t), b AS (SELECT * FROM a x, a y), c AS …` has twice the columns at each step.
fn give(outcome: &mut Outcome, columns: impl IntoIterator<Item = Column>) -> Result<(), SqlRefusal> {
    let room = MOST_COLUMNS - outcome.columns.len();
    outcome.columns.extend(columns.into_iter().take(room + 1));
    if outcome.columns.len() > MOST_COLUMNS {
        outcome.columns.truncate(MOST_COLUMNS);
        let message = format!("target lists can have at most {MOST_COLUMNS} entries");
        return Err(SqlRefusal { sqlstate: "54011", ..refused("too-many-columns", message) });
    }
    Ok(())
}

/// What a query returns has been read: who reads it again reads nothing of a table.
fn unread(column: Column) -> Column {
    Column { sources: Vec::new(), ..column }
}
