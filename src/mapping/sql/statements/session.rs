//! Transactions, prepared statements, cursors, channels, locks.

use pg_query::NodeEnum;
use pg_query::protobuf::{
    ClosePortalStmt, DeallocateStmt, DeclareCursorStmt, ExecuteStmt, ExplainStmt, FetchStmt, LockStmt, PrepareStmt,
    TransactionStmt, TransactionStmtKind,
};

use super::super::asked::refused;
use super::super::parse::parse;
use super::super::{Cursor, Naming, SqlRefusal, Transaction};
use super::{After, Judge, incomplete, nodes};

/// WITH HOLD among the options of DECLARE (`parsenodes.h`).
const CURSOR_OPT_HOLD: i32 = 0x20;

impl Judge<'_, '_> {
    pub(super) fn transaction(&mut self, statement: &TransactionStmt) -> Result<&'static str, SqlRefusal> {
        let chain = statement.chain;
        let (kind, transaction) = match TransactionStmtKind::try_from(statement.kind) {
            Ok(TransactionStmtKind::TransStmtBegin | TransactionStmtKind::TransStmtStart) => {
                ("begin", Transaction::Begins)
            }
            Ok(TransactionStmtKind::TransStmtCommit) => ("commit", Transaction::Commits { chain }),
            Ok(TransactionStmtKind::TransStmtRollback) => ("rollback", Transaction::RollsBack { chain }),
            Ok(TransactionStmtKind::TransStmtSavepoint) => ("savepoint", Transaction::Savepoint),
            Ok(TransactionStmtKind::TransStmtRelease) => ("release", Transaction::Savepoint),
            Ok(TransactionStmtKind::TransStmtRollbackTo) => ("rollback_to", Transaction::RollsBackTo),
            Ok(TransactionStmtKind::TransStmtPrepare) => ("prepare_transaction", Transaction::Commits { chain: false }),
            Ok(TransactionStmtKind::TransStmtCommitPrepared) => ("commit_prepared", Transaction::Stays),
            Ok(TransactionStmtKind::TransStmtRollbackPrepared) => ("rollback_prepared", Transaction::Stays),
            _ => return Err(incomplete()),
        };
        if !statement.gid.is_empty() {
            self.on_object("sql:Alter", "prepared_transaction", &statement.gid);
            // What was prepared may have created anything.
            self.defines(if transaction == Transaction::Stays { After::Unknown } else { After::Nothing });
        }
        self.transaction = transaction;
        Ok(kind)
    }

    /// PREPARE runs nothing: what its query changes, it changes at EXECUTE.
    pub(super) fn prepare(&mut self, prepare: &PrepareStmt) -> Result<&'static str, SqlRefusal> {
        self.deeper()?;
        self.statement(nodes::boxed(&prepare.query)?)?;
        self.walk.take_effects();
        self.walk.asked.literals_matter();
        self.naming = Naming::Prepares(prepare.name.as_str().into());
        Ok("prepare")
    }

    /// EXECUTE asks again what the prepared statement asks, with names as they are now.
    pub(super) fn execute(&mut self, execute: &ExecuteStmt) -> Result<&'static str, SqlRefusal> {
        self.deeper()?;
        self.walk.asked.literals_matter();
        self.walk.parameters(&execute.params)?;
        let earlier = self.earlier;
        match earlier.prepared.get(&*execute.name) {
            Some((statement, bytes)) => {
                earlier.executes(*bytes)?;
                self.prepared(statement)?;
            }
            None => {
                let Some((text, number)) = self.texts.prepared(&execute.name) else {
                    let message = format!("prepared statement \"{}\" does not exist", execute.name);
                    return Err(SqlRefusal { sqlstate: "26000", ..refused("unknown-statement-name", message) });
                };
                earlier.executes(text.len())?;
                let statements = parse(text)?;
                let statement = statements.get(number).and_then(|raw| raw.stmt.as_deref());
                self.prepared(nodes::inner(statement)?).map_err(SqlRefusal::nowhere)?;
            }
        }
        self.naming = Naming::Executes(execute.name.as_str().into());
        Ok("execute")
    }

    fn prepared(&mut self, statement: &NodeEnum) -> Result<(), SqlRefusal> {
        let statement = match statement {
            NodeEnum::PrepareStmt(prepare) => nodes::boxed(&prepare.query)?,
            other => other,
        };
        let before = self.walk.asked.rewrites().len();
        self.statement(statement)?;
        // What is sent is this text, and the value is written in another one.
        match self.walk.asked.rewrites().get(before) {
            None => Ok(()),
            Some(planned) => Err(SqlRefusal::clone(&planned.otherwise)),
        }
    }

    pub(super) fn deallocate(&mut self, deallocate: &DeallocateStmt) -> &'static str {
        self.walk.asked.literals_matter();
        self.naming =
            if deallocate.isall { Naming::ForgetsAll } else { Naming::Forgets(deallocate.name.as_str().into()) };
        "deallocate"
    }

    pub(super) fn declare(&mut self, declare: &DeclareCursorStmt) -> Result<&'static str, SqlRefusal> {
        self.deeper()?;
        self.statement(nodes::boxed(&declare.query)?)?;
        let holds = declare.options & CURSOR_OPT_HOLD != 0;
        self.cursor = Cursor::Declares { name: declare.portalname.as_str().into(), holds };
        Ok("declare")
    }

    /// FETCH reads what DECLARE asked for. A cursor that no judged statement declared was opened by a function (`refcursor`) or by a Bind of
    /// the protocol; what is in it nobody has judged.
    pub(super) fn fetch(&mut self, fetch: &FetchStmt) -> Result<&'static str, SqlRefusal> {
        let name = &*fetch.portalname;
        let here = self.earlier.cursors.contains(name);
        if !here && !self.texts.cursor(name) {
            // Whoever may run unjudged code may have what it has opened.
            self.walk.asked.on_database("sql:ExecuteCode", vec![]);
            self.walk.asked.literals_matter();
        }
        if !self.texts.quiet_cursor(name) {
            self.walk.asked.effects_mut().anything = true;
            self.after = After::Unknown;
        }
        self.cursor = Cursor::Fetches(name.into());
        Ok(if fetch.ismove { "move" } else { "fetch" })
    }

    pub(super) fn close(&mut self, close: &ClosePortalStmt) -> &'static str {
        self.cursor = if close.portalname.is_empty() {
            Cursor::ClosesAll
        } else {
            Cursor::Closes(close.portalname.as_str().into())
        };
        "close"
    }

    /// EXPLAIN asks what its statement asks, whether it runs it (ANALYZE) or only plans it: the planner calls functions too.
    pub(super) fn explain(&mut self, explain: &ExplainStmt) -> Result<&'static str, SqlRefusal> {
        self.deeper()?;
        self.statement(nodes::boxed(&explain.query)?)?;
        self.naming = match std::mem::replace(&mut self.naming, Naming::None) {
            Naming::Executes(name) => Naming::Executes(name),
            _ => Naming::None,
        };
        self.cursor = Cursor::None;
        if !matches!(self.after, After::Nothing) {
            self.after = After::Unknown;
        }
        Ok("explain")
    }

    pub(super) fn lock(&mut self, lock: &LockStmt) -> Result<&'static str, SqlRefusal> {
        for range in self.ranges(&lock.relations)? {
            let relation = self.relation(range)?;
            self.walk.asked.write("sql:Lock", &relation, []);
        }
        Ok("lock")
    }
}
