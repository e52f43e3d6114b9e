//! What queries ask: SELECT, VALUES, TABLE, INSERT, UPDATE, DELETE, MERGE and every expression, walked node by node.
//!
//! Names are looked up as PostgreSQL's parse analysis does it (`src/backend/parser`): each function here says which one it follows.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{Node, SelectStmt};

use super::SqlRefusal;
use super::asked::Asked;
use super::catalog::Relation;
use super::names::Names;

/// The walk of one statement. What it met is in `asked`, also after an error.
#[derive(Debug)]
pub(super) struct Walk<'n, 'a> {
    /// What names mean.
    pub(super) names: &'n Names<'a>,
    /// What was asked so far.
    pub(super) asked: Asked,
}

impl<'n, 'a> Walk<'n, 'a> {
    /// A walk that has met nothing yet.
    pub(super) fn new(names: &'n Names<'a>) -> Self {
        Self { names, asked: Asked::default() }
    }

    /// A whole SELECT, INSERT, UPDATE, DELETE or MERGE.
    ///
    /// # Errors
    /// What cannot be resolved or judged.
    pub(super) fn query(&mut self, _node: &NodeEnum) -> Result<(), SqlRefusal> {
        Ok(())
    }

    /// A SELECT, and the names and types (0 = not known) of what it returns: for CREATE TABLE AS and views.
    ///
    /// # Errors
    /// As [`Self::query`]; also if the columns cannot be told.
    pub(super) fn query_columns(&mut self, _select: &SelectStmt) -> Result<Vec<(Arc<str>, u32)>, SqlRefusal> {
        Ok(Vec::new())
    }

    /// An expression with nothing in FROM: arguments of EXECUTE and CALL, DEFAULT.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn expression(&mut self, _node: &Node) -> Result<(), SqlRefusal> {
        Ok(())
    }

    /// An expression over a relation's columns: CHECK, index, policy, COPY WHERE.
    ///
    /// # Errors
    /// As [`Self::query`].
    pub(super) fn expression_over(&mut self, _node: &Node, _relation: &Relation) -> Result<(), SqlRefusal> {
        Ok(())
    }
}
