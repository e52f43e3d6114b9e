//! MERGE.

use pg_query::NodeEnum;
use pg_query::protobuf::{CmdType, MergeMatchKind, MergeStmt, MergeWhenClause};

use crate::mapping::sql::SqlRefusal;

use super::scope::{Base, Item, Outcome};
use super::{Walk, unknown_node};

impl Walk<'_, '_> {
    /// `sql:Merge` on the target, and what its actions are: the server asks for the rights of each.
    ///
    /// # Source
    /// `transformMergeStmt` in `src/backend/parser/parse_merge.c`.
    pub(super) fn merge(&mut self, merge: &MergeStmt) -> Result<Outcome, SqlRefusal> {
        self.since(15, "MERGE")?;
        self.inside(|walk| {
            walk.with(merge.with_clause.as_ref())?;
            let (target, base) = walk.written(merge.relation.as_ref())?;
            walk.write_base("sql:Merge", &base, &[]);
            // Whatever the branches do, and if they do nothing, the server wants SELECT on the target: run on PostgreSQL 15.
            walk.read_base(&base, &[]);
            let Some(source) = &merge.source_relation else { return Err(unknown_node("MERGE")) };
            let source = walk.source(source)?;
            let both: Vec<Item> = source.iter().cloned().chain([target.clone()]).collect();
            walk.seeing(both.clone(), |walk| walk.optional(merge.join_condition.as_deref()))?;
            for when in &merge.merge_when_clauses {
                let Some(NodeEnum::MergeWhenClause(when)) = &when.node else { return Err(unknown_node("MERGE")) };
                let seen = match when.match_kind() {
                    MergeMatchKind::MergeWhenMatched => both.clone(),
                    MergeMatchKind::MergeWhenNotMatchedBySource => {
                        walk.since(17, "NOT MATCHED BY SOURCE")?;
                        vec![target.clone()]
                    }
                    MergeMatchKind::MergeWhenNotMatchedByTarget => source.clone(),
                    MergeMatchKind::Undefined => return Err(unknown_node("MERGE")),
                };
                walk.seeing(seen, |walk| walk.when(when, &base))?;
            }
            if merge.returning_clause.is_some() {
                walk.since(17, "RETURNING of MERGE")?;
            }
            walk.seeing(both, |walk| walk.returning(merge.returning_clause.as_ref(), &target))
        })
    }

    fn when(&mut self, when: &MergeWhenClause, base: &Base) -> Result<(), SqlRefusal> {
        self.optional(when.condition.as_deref())?;
        match when.command_type() {
            CmdType::CmdInsert => {
                let columns = self.inserted(&base.relation, &when.target_list)?;
                for (position, value) in when.values.iter().enumerate() {
                    let shape = self.bare(value)?;
                    if let Some(column) = columns.get(position) {
                        self.stored_value(&base.relation, column, value, &shape)?;
                    }
                }
                self.asked.write("sql:Insert", &base.relation, columns);
            }
            CmdType::CmdUpdate => {
                let columns = self.assignments(&base.relation, &when.target_list)?;
                self.write_base("sql:Update", base, &columns);
            }
            CmdType::CmdDelete => self.write_base("sql:Delete", base, &[]),
            CmdType::CmdNothing => {}
            _ => return Err(unknown_node("MERGE")),
        }
        Ok(())
    }
}
