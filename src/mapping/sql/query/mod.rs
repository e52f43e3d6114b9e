//! What queries ask: SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE and every expression, walked node by node.
//!
//! Names are looked up as PostgreSQL's parse analysis does it (`src/backend/parser`): where a function follows one of the server's, it says
//! which. A node that is not named here is refused, so that nothing of a text is passed over.

mod call;
mod column;
mod columns;
mod expression;
mod from;
mod insert;
mod json;
mod label;
mod merge;
mod modify;
mod returns;
mod scope;
mod select;
mod sequence;
mod setting;
mod target;
mod types;
mod with;

#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use pg_query::NodeEnum;
use pg_query::protobuf::{Node, SelectStmt, TypeName};

use self::scope::{Column, Item, Level, Outcome};
use super::asked::{Asked, refused};
use super::catalog::Relation;
use super::names::{Call, Names};
use super::{Effects, SqlRefusal};

/// How many nodes may lie in each other: far more than people write, and little enough for [`super::STACK`].
const DEEPEST: usize = 1_500;

/// The walk of one statement. What it met is in `asked`.
#[derive(Debug)]
pub(super) struct Walk<'n, 'a> {
    /// What names mean.
    pub(super) names: &'n Names<'a>,
    /// What was asked so far.
    pub(super) asked: Asked,
    /// The caller has judged what SELECT … INTO creates. If not, such a SELECT is refused.
    pub(super) into_judged: bool,
    /// The queries that are being walked, the innermost last.
    levels: Vec<Level>,
    /// What subqueries call their column.
    labels: label::Labels,
    /// What was asked already, so that a wide text asks it once.
    met: Met,
    depth: usize,
}

/// What was met, and need not be asked again: asking is the same every time.
#[derive(Debug, Default)]
struct Met {
    /// Operators by name.
    operators: AHashSet<String>,
    /// Rows that were read as a whole, by where in memory their columns lie; they are held, so that nothing else comes to lie there.
    rows: AHashMap<usize, Rc<[Column]>>,
}

impl<'n, 'a> Walk<'n, 'a> {
    /// A walk that has met nothing yet.
    pub(super) fn new(names: &'n Names<'a>) -> Self {
        Self {
            names,
            asked: Asked::default(),
            into_judged: false,
            levels: Vec::new(),
            labels: label::Labels::default(),
            met: Met::default(),
            depth: 0,
        }
    }

    /// Takes out what was said so far of effects: what is walked from here on says its own, also by what was met before.
    pub(super) fn take_effects(&mut self) -> Effects {
        self.met = Met::default();
        std::mem::take(self.asked.effects_mut())
    }

    /// A whole SELECT, INSERT, UPDATE, DELETE or MERGE.
    ///
    /// # Errors
    /// What cannot be resolved or judged.
    pub(super) fn query(&mut self, node: &NodeEnum) -> Result<(), SqlRefusal> {
        self.any_query(node).map(drop)
    }

    /// A SELECT, and the names and types (0 = not known) of what it returns: for CREATE TABLE AS and views.
    ///
    /// # Errors
    /// As [`Self::query`]; also if the columns cannot be told.
    pub(super) fn query_columns(&mut self, select: &SelectStmt) -> Result<Vec<(Arc<str>, u32)>, SqlRefusal> {
        let outcome = self.select(select, None)?;
        if outcome.open {
            return Err(refused("columns-not-known", "the columns that the query returns cannot be told"));
        }
        let known = |column: &Column| if column.type_oid == scope::ANY { 0 } else { column.type_oid };
        Ok(outcome.columns.iter().map(|column| (Arc::clone(&column.name), known(column))).collect())
    }

    /// An expression with nothing in FROM: arguments of EXECUTE and CALL, DEFAULT.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn expression(&mut self, node: &Node) -> Result<(), SqlRefusal> {
        self.value(node).map(drop)
    }

    /// Values that become a type which nobody has written: those that EXECUTE gives to parameters, whose types are known to whoever prepared
    /// the statement. What any cast may call that is not written, unless all are strings.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn parameters(&mut self, values: &[Node]) -> Result<(), SqlRefusal> {
        let mut cast = false;
        for value in values {
            self.value(value)?;
            cast |= insert::may_be_cast(value);
        }
        if !cast {
            return Ok(());
        }
        let casts = self.names.unwritten_casts();
        self.call_unseen(&casts)
    }

    /// The arguments of a procedure, cast to what it takes.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn arguments(&mut self, call: &Call, arguments: &[Node]) -> Result<(), SqlRefusal> {
        self.values(arguments)?;
        self.casts_to_arguments(call)
    }

    /// A new type for values that are there.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn becomes(&mut self, type_name: &TypeName) -> Result<(), SqlRefusal> {
        self.optional_type(Some(type_name)).map(drop)
    }

    /// An expression that reads a relation's columns: COPY … WHERE.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn expression_over(&mut self, node: &Node, relation: &Arc<Relation>) -> Result<(), SqlRefusal> {
        self.over(node, Item::table(relation, true, None))
    }

    /// An expression that is computed over the rows that a relation has by now: an index, CHECK, USING. Its errors tell what it reads, so it
    /// reads: `CREATE INDEX ON people ((ssn::int))`. Whoever gives a new column a CHECK reads nothing by it.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn expression_of_rows(
        &mut self,
        node: &Node,
        relation: &Arc<Relation>,
        only: bool,
    ) -> Result<(), SqlRefusal> {
        let item = Item::table(relation, only, None);
        let item = match self.names.catalog().relations.get(&relation.oid) {
            Some(before) => item.with_sources_of(before),
            None => item.without_sources(),
        };
        self.over(node, item)
    }

    /// An expression that names a relation's columns and reads none of them now: DEFAULT, policy, partition key, the condition of a publication.
    /// Whoever defines these needs no right to read the columns.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn expression_about(&mut self, node: &Node, relation: &Arc<Relation>) -> Result<(), SqlRefusal> {
        self.over(node, Item::table(relation, true, None).without_sources())
    }

    /// The CHECK of a domain: `VALUE` stands for what is checked.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn domain_check(&mut self, node: &Node) -> Result<(), SqlRefusal> {
        self.over(node, Item::made_of(None, vec![Column::plain("value", 0)].into(), false))
    }

    fn over(&mut self, node: &Node, item: Item) -> Result<(), SqlRefusal> {
        self.levels.push(Level::of(vec![item]));
        let walked = self.value(node);
        self.levels.pop();
        walked.map(drop)
    }

    fn any_query(&mut self, node: &NodeEnum) -> Result<Outcome, SqlRefusal> {
        match node {
            NodeEnum::SelectStmt(select) => self.select(select, None),
            NodeEnum::InsertStmt(insert) => self.insert(insert),
            NodeEnum::UpdateStmt(update) => self.update(update),
            NodeEnum::DeleteStmt(delete) => self.delete(delete),
            NodeEnum::MergeStmt(merge) => self.merge(merge),
            _ => Err(unknown_node("a query")),
        }
    }

    /// One level deeper into the tree.
    fn deeper<T>(&mut self, walk: impl FnOnce(&mut Self) -> Result<T, SqlRefusal>) -> Result<T, SqlRefusal> {
        if self.depth >= DEEPEST {
            return Err(SqlRefusal {
                sqlstate: "54001",
                rule: "too-deep",
                message: format!("the statement is nested deeper than {DEEPEST} levels"),
                position: None,
                stale: false,
            });
        }
        self.depth += 1;
        let walked = walk(self);
        self.depth -= 1;
        walked
    }

    /// What the server's grammar does not have, and would read as something else.
    fn since(&self, major: u32, what: &str) -> Result<(), SqlRefusal> {
        if self.names.catalog().major >= major {
            return Ok(());
        }
        Err(refused("grammar-skew", format!("{what} means something else to a server before PostgreSQL {major}")))
    }
}

/// The tree has something that nobody here knows.
fn unknown_node(place: &str) -> SqlRefusal {
    refused("unknown-node", format!("{place} has a part that cannot be judged"))
}

/// The strings of a list of names. `*` and everything else that is no string is refused.
fn strings(nodes: &[Node]) -> Result<Vec<&str>, SqlRefusal> {
    nodes
        .iter()
        .map(|node| match &node.node {
            Some(NodeEnum::String(text)) => Ok(text.sval.as_str()),
            _ => Err(unknown_node("a name")),
        })
        .collect()
}
