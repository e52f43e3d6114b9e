//! WITH: queries that have names.

use std::sync::Arc;

use pg_query::NodeEnum;
use pg_query::protobuf::{CommonTableExpr, SetOperation, WithClause};

use crate::mapping::sql::SqlRefusal;

use super::columns::Columns;
use super::scope::{Column, Cte, Item, Outcome};
use super::select::Recursion;
use super::{Walk, strings, unknown_node};

impl Walk<'_, '_> {
    /// All queries of a WITH, also those that nobody refers to.
    ///
    /// # Source
    /// `transformWithClause` in `src/backend/parser/parse_cte.c`.
    pub(super) fn with(&mut self, clause: Option<&WithClause>) -> Result<(), SqlRefusal> {
        let Some(clause) = clause else { return Ok(()) };
        let ctes = clause.ctes.iter().map(|node| match &node.node {
            Some(NodeEnum::CommonTableExpr(cte)) => Ok(&**cte),
            _ => Err(unknown_node("WITH")),
        });
        let ctes = ctes.collect::<Result<Vec<_>, _>>()?;
        if clause.recursive {
            // Each sees all. What comes later has columns that nobody knows yet.
            let known = ctes.iter().map(|cte| Cte {
                name: Arc::from(cte.ctename.as_str()),
                columns: Columns::default(),
                open: true,
            });
            self.level().ctes.extend(known);
        }
        for (position, cte) in ctes.into_iter().enumerate() {
            let level = self.levels.len().saturating_sub(1);
            let recursion = clause.recursive.then(|| -> Result<_, SqlRefusal> {
                let aliases = strings(&cte.aliascolnames)?.into_iter().map(str::to_owned).collect();
                Ok(Recursion { level, cte: position, aliases, added: added(cte) })
            });
            let walked = self.cte_query(cte, recursion.transpose()?.as_ref())?;
            match self.level().ctes.get_mut(position) {
                Some(known) if clause.recursive => *known = walked,
                _ => self.level().ctes.push(walked),
            }
        }
        Ok(())
    }

    fn cte_query(&mut self, cte: &CommonTableExpr, recursion: Option<&Recursion>) -> Result<Cte, SqlRefusal> {
        let outcome = match cte.ctequery.as_ref().and_then(|query| query.node.as_ref()) {
            Some(NodeEnum::SelectStmt(select)) => {
                let union = select.op() == SetOperation::SetopUnion;
                self.select(select, recursion.filter(|_| union))?
            }
            Some(query) => self.deeper(|walk| walk.any_query(query))?,
            None => return Err(unknown_node("WITH")),
        };
        let mut item = Item::made_of(Some(Arc::from(cte.ctename.as_str())), outcome.columns.into(), outcome.open);
        item.rename(&strings(&cte.aliascolnames)?)?;
        if let Some(search) = &cte.search_clause {
            strings(&search.search_col_list)?;
        }
        if let Some(cycle) = &cte.cycle_clause {
            strings(&cycle.cycle_col_list)?;
            self.optional(cycle.cycle_mark_value.as_deref())?;
            self.optional(cycle.cycle_mark_default.as_deref())?;
        }
        item.columns.extend(added(cte).iter().map(|name| Column::plain(name.as_str(), 0)).collect());
        Ok(Cte { name: Arc::from(cte.ctename.as_str()), columns: item.columns, open: item.open })
    }

    /// The first arm of a recursive query says what columns there are.
    ///
    /// # Source
    /// `determineRecursiveColTypes` in `src/backend/parser/analyze.c`.
    pub(super) fn recursive_columns(&mut self, recursion: &Recursion, left: &Outcome) -> Result<(), SqlRefusal> {
        let mut item = Item::made_of(None, left.columns.clone().into(), left.open);
        item.rename(&recursion.aliases.iter().map(String::as_str).collect::<Vec<_>>())?;
        item.columns.extend(recursion.added.iter().map(|name| Column::plain(name.as_str(), 0)).collect());
        let known = self.levels.get_mut(recursion.level).and_then(|level| level.ctes.get_mut(recursion.cte));
        if let Some(known) = known {
            known.columns = item.columns;
            known.open = item.open;
        }
        Ok(())
    }
}

/// # Source
/// `analyzeCTE` in `src/backend/parser/parse_cte.c`: the columns of SEARCH, then those of CYCLE.
fn added(cte: &CommonTableExpr) -> Vec<String> {
    let search = cte.search_clause.iter().map(|search| &search.search_seq_column);
    let cycle = cte.cycle_clause.iter().flat_map(|cycle| [&cycle.cycle_mark_column, &cycle.cycle_path_column]);
    search.chain(cycle).cloned().collect()
}
