//! UPDATE and DELETE.
//!
//! # Source
//! `transformUpdateStmt`, `transformDeleteStmt` in `src/backend/parser/analyze.c`.

use pg_query::protobuf::{DeleteStmt, UpdateStmt};

use crate::mapping::sql::SqlRefusal;

use super::Walk;
use super::scope::Outcome;

impl Walk<'_, '_> {
    pub(super) fn update(&mut self, update: &UpdateStmt) -> Result<Outcome, SqlRefusal> {
        self.inside(|walk| {
            walk.with(update.with_clause.as_ref())?;
            let (target, base) = walk.written(update.relation.as_ref())?;
            walk.write_base("sql:Update", &base, &[]);
            walk.members(&update.from_clause)?;
            // Members of FROM do not see it; everything else does, and `*` gives it first.
            walk.level().items.insert(0, target.clone());
            let columns = walk.assignments(&base.relation, &update.target_list)?;
            walk.write_base("sql:Update", &base, &columns);
            walk.optional(update.where_clause.as_deref())?;
            walk.returning(update.returning_clause.as_ref(), &target)
        })
    }

    pub(super) fn delete(&mut self, delete: &DeleteStmt) -> Result<Outcome, SqlRefusal> {
        self.inside(|walk| {
            walk.with(delete.with_clause.as_ref())?;
            let (target, base) = walk.written(delete.relation.as_ref())?;
            walk.write_base("sql:Delete", &base, &[]);
            walk.members(&delete.using_clause)?;
            walk.level().items.insert(0, target.clone());
            walk.optional(delete.where_clause.as_deref())?;
            walk.returning(delete.returning_clause.as_ref(), &target)
        })
    }
}
