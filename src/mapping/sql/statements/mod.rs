//! What each kind of statement asks. [`table`] says it on one page; the other files say how.

mod alter;
mod code;
mod copy;
mod domain;
mod grants;
mod nodes;
mod objects;
mod session;
mod settings;
mod signature;
mod table;
mod tables;
#[cfg(test)]
mod tests;
mod timeouts;

use std::cell::Cell;
use std::sync::Arc;

use ahash::{AHashMap, AHashSet};
use pg_query::NodeEnum;

use super::asked::{Asked, refused};
use super::catalog::{Function, Relation, SqlType};
use super::names::Names;
use super::parse::LONGEST_TEXT;
use super::query::Walk;
use super::{Copying, Cursor, Effects, Naming, PreparedTexts, SqlRefusal, Transaction};
use crate::mapping::Value;

pub(super) use settings::{SettingValue, set as set_setting};
pub use settings::{boolean as setting_boolean, is_harmless as setting_is_harmless};
pub use table::kinds;
pub use timeouts::milliseconds as timeout_milliseconds;

/// How often an EXECUTE may lead to another one.
const DEEPEST: u8 = 8;

/// What one statement comes to.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) kind: &'static str,
    pub(super) asked: Asked,
    pub(super) transaction: Transaction,
    pub(super) naming: Naming,
    pub(super) cursor: Cursor,
    pub(super) copying: Option<Copying>,
    /// It is a SELECT: whether it only reads is for what it asks to say.
    pub(super) is_select: bool,
    /// What it changes for the statements behind it in the same text.
    pub(super) after: After,
}

/// What a statement changes for those behind it in the same text.
#[derive(Debug)]
pub(super) enum After {
    /// Nothing that names hang on.
    Nothing,
    /// The search path is this now. `local`: until the transaction ends.
    Path { path: Vec<Box<str>>, local: bool },
    /// There is a relation more, or one has these columns now. `local`: until the transaction ends.
    Relations { relations: Vec<Relation>, local: bool },
    /// There is a schema more.
    Schema(Box<str>),
    /// There is a function more.
    Function(Arc<str>, Arc<str>, Function),
    /// There is a type more.
    Type(SqlType),
    /// These relations are gone.
    Gone(Vec<Arc<Relation>>),
    /// Nobody knows: what hangs on names cannot be judged after it.
    Unknown,
}

/// What earlier statements of the same text have prepared and declared.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// With the length of the text that each was prepared with.
    pub(super) prepared: AHashMap<Box<str>, (NodeEnum, usize)>,
    pub(super) cursors: AHashSet<Box<str>>,
    /// Bytes of text that EXECUTE has led to so far.
    executed: Cell<usize>,
}

impl Earlier {
    /// EXECUTE leads to another text, which is walked once more for each.
    ///
    /// # Errors
    /// `54000` for more than the longest text: a short one with thousands of EXECUTE would hold a thread for minutes.
    fn executes(&self, bytes: usize) -> Result<(), SqlRefusal> {
        self.executed.set(self.executed.get().saturating_add(bytes));
        if self.executed.get() <= LONGEST_TEXT {
            return Ok(());
        }
        let message =
            format!("EXECUTE leads to more than {LONGEST_TEXT} bytes of prepared statements: send fewer at once");
        Err(SqlRefusal { sqlstate: "54000", ..refused("text-too-long", message) })
    }
}

/// The judging of one statement.
pub(super) struct Judge<'n, 'a> {
    walk: Walk<'n, 'a>,
    texts: &'n dyn PreparedTexts,
    earlier: &'n Earlier,
    depth: u8,
    transaction: Transaction,
    naming: Naming,
    cursor: Cursor,
    copying: Option<Copying>,
    after: After,
}

/// Judges one statement.
///
/// # Errors
/// What cannot be resolved or judged.
pub(super) fn judge(
    node: &NodeEnum,
    names: &Names<'_>,
    texts: &dyn PreparedTexts,
    earlier: &Earlier,
) -> Result<Judged, SqlRefusal> {
    let mut judge = Judge {
        walk: Walk::new(names),
        texts,
        earlier,
        depth: 0,
        transaction: Transaction::Stays,
        naming: Naming::None,
        cursor: Cursor::None,
        copying: None,
        after: After::Nothing,
    };
    let kind = judge.statement(node)?;
    Ok(Judged {
        kind,
        asked: judge.walk.asked,
        transaction: judge.transaction,
        naming: judge.naming,
        cursor: judge.cursor,
        copying: judge.copying,
        is_select: kind == "select",
        after: judge.after,
    })
}

/// Whether what a statement asks hangs on what names mean.
pub(super) fn hangs_on_names(node: &NodeEnum) -> bool {
    match node {
        NodeEnum::GrantStmt(grant) => return grants::hangs_on_names(grant),
        NodeEnum::SelectStmt(select) if nodes::is_constant(select) => return false,
        _ => {}
    }
    !matches!(
        node,
        NodeEnum::TransactionStmt(_)
            | NodeEnum::VariableSetStmt(_)
            | NodeEnum::VariableShowStmt(_)
            | NodeEnum::DiscardStmt(_)
            | NodeEnum::DeallocateStmt(_)
            | NodeEnum::ListenStmt(_)
            | NodeEnum::UnlistenStmt(_)
            | NodeEnum::NotifyStmt(_)
            | NodeEnum::ClosePortalStmt(_)
            | NodeEnum::ConstraintsSetStmt(_)
            | NodeEnum::CheckPointStmt(_)
            | NodeEnum::GrantRoleStmt(_)
            | NodeEnum::AlterDefaultPrivilegesStmt(_)
    )
}

impl<'n, 'a> Judge<'n, 'a> {
    const fn names(&self) -> &'n Names<'a> {
        self.walk.names
    }

    /// Asks something of the database about an object that has no entity of its own.
    fn on_object(&mut self, action: &'static str, object_type: &str, name: &str) {
        self.walk.asked.on_database(action, object(object_type, name));
    }

    /// Definitions change what names mean; this text's later statements may need them.
    fn defines(&mut self, after: After) {
        self.walk.asked.effects_mut().names = true;
        self.walk.asked.literals_matter();
        self.after = after;
    }

    /// An expression that is stored and runs later, for whoever comes: if it calls what is not known to be harmless, or changes a setting
    /// behind the back of whoever names it, `sql:ExecuteCode`.
    fn stored(&mut self, walk: impl FnOnce(&mut Walk<'n, 'a>) -> Result<(), SqlRefusal>) -> Result<(), SqlRefusal> {
        let before = self.walk.take_effects();
        walk(&mut self.walk)?;
        let after = self.walk.take_effects();
        if after.anything || after.settings {
            self.walk.asked.on_database("sql:ExecuteCode", Vec::new());
        }
        *self.walk.asked.effects_mut() = Effects {
            settings: before.settings || after.settings,
            names: before.names || after.names,
            anything: before.anything || after.anything,
        };
        Ok(())
    }

    /// One more level of statements within statements.
    fn deeper(&mut self) -> Result<(), SqlRefusal> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(refused("too-deep", "statements are nested too deeply to be judged"));
        }
        Ok(())
    }
}

/// The context of an object that has no entity of its own.
fn object(object_type: &str, name: &str) -> Vec<(&'static str, Value)> {
    vec![("objectType", object_type.into()), ("objectName", name.into())]
}

/// A part of the tree that PostgreSQL's grammar always has.
fn incomplete() -> SqlRefusal {
    refused("unknown-statement", "statement is of a form that is not known")
}
