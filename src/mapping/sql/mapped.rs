//! What comes of mapping a text.

use std::sync::Arc;

use thiserror::Error;

use super::Rewrite;
use crate::mapping::{Operation, Operations, Value};

/// A text that was understood: each of its statements with what it asks. Without statements (empty text, only comments) there is
/// nothing to ask.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapped {
    /// In the order of the text.
    pub statements: Vec<MappedStatement>,
    /// Whether the same is true of every text with the same safe key: no statement's meaning hangs on its literals.
    pub literals_do_not_matter: bool,
    /// The text with each literal replaced by `$1`, `$2` …
    pub normalized: Arc<str>,
    /// What is sent in place of values that the text sets.
    pub rewrites: Vec<Rewrite>,
    /// libpg_query's fingerprint, 16 hex digits.
    pub fingerprint: Arc<str>,
    /// About how many bytes all this takes.
    pub weight: usize,
}

impl Mapped {
    /// The weight of these statements and a normalized text.
    pub(super) fn weigh(statements: &[MappedStatement], normalized: &str) -> usize {
        let operations = statements.iter().flat_map(|statement| statement.operations.iter());
        let operations: usize = operations.map(weight_of).sum();
        size_of::<Self>() + size_of_val(statements) + normalized.len() + operations
    }
}

fn weight_of(operation: &Operation) -> usize {
    let values = operation.context.iter().map(|(_, value)| match value {
        Value::Strings(all) => all.iter().map(|one| size_of_val(one) + one.len()).sum(),
        Value::String(one) => one.len(),
        _ => 0,
    });
    let resources: usize = operation.resource.ancestors().map(|(_, id)| id.len()).sum();
    size_of_val(operation) + operation.resource.id().len() + resources + values.sum::<usize>()
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub struct MappedStatement {
    /// What kind it is, as `context.statement` and metrics write it: `select`, `insert`, `create_table`. Bounded: one for each kind in the table
    /// of statements.
    pub kind: &'static str,
    /// Everything it asks: never empty.
    pub operations: Arc<Operations>,
    /// What it may change of what later statements mean.
    pub effects: Effects,
    /// What it does to the transaction.
    pub transaction: Transaction,
    /// What it does to names of prepared statements.
    pub naming: Naming,
    /// What it does to cursors.
    pub cursor: Cursor,
    /// Whether it goes on as COPY data, and which way.
    pub copying: Option<Copying>,
    /// It is one SELECT (or TABLE, VALUES), or one COPY TO STDOUT, that writes nothing: the number of its rows can be bounded.
    pub only_reads: bool,
    /// It sets a timeout to more than it may, and the cap is sent instead: what the client is told of it.
    pub capped: Option<Arc<str>>,
}

/// What a statement may change of what later statements mean. Whatever is set here has to be asked again before anything later is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effects {
    /// Settings, search_path and role among them: SET, RESET, set_config, DISCARD, ROLLBACK after one …
    pub settings: bool,
    /// What exists under which name: CREATE, ALTER, DROP …
    pub names: bool,
    /// Anything: it runs code that nobody has judged (CALL, DO, a function not known harmless).
    pub anything: bool,
}

impl Effects {
    /// Whether anything may change.
    #[must_use]
    pub const fn any(self) -> bool {
        self.settings || self.names || self.anything
    }
}

/// What a statement does to the transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// Nothing.
    Stays,
    /// BEGIN, START TRANSACTION.
    Begins,
    /// COMMIT, END, PREPARE TRANSACTION. `chain`: another one begins at once.
    Commits {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    RollsBack {
        /// AND CHAIN.
        chain: bool,
    },
    /// ROLLBACK TO SAVEPOINT.
    RollsBackTo,
    /// SAVEPOINT, RELEASE.
    Savepoint,
}

/// What a statement does to names of prepared statements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Naming {
    /// Nothing.
    None,
    /// PREPARE: the name stands for this statement once it has succeeded.
    Prepares(Box<str>),
    /// EXECUTE.
    Executes(Box<str>),
    /// DEALLOCATE.
    Forgets(Box<str>),
    /// DEALLOCATE ALL, DISCARD ALL.
    ForgetsAll,
}

/// What a statement does to cursors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cursor {
    /// Nothing.
    None,
    /// DECLARE.
    Declares {
        /// Its name.
        name: Box<str>,
        /// WITH HOLD: it outlives its transaction.
        holds: bool,
    },
    /// FETCH, MOVE.
    Fetches(Box<str>),
    /// CLOSE.
    Closes(Box<str>),
    /// CLOSE ALL, DISCARD ALL.
    ClosesAll,
}

/// Which way COPY data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// COPY … FROM STDIN.
    In,
    /// COPY … TO STDOUT.
    Out {
        /// A line with the columns' names comes first.
        header: bool,
    },
    /// START_REPLICATION: both ways until both sides have ended it.
    Both,
}

/// Why a text was not judged: nothing of it may be sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct SqlRefusal {
    /// What the client is told: `42601` for what cannot be parsed (with the parser's own words), `42P01`, `42703`, `42883`, `3F000` … for a
    /// name that the catalogue does not have, `54001` for what is too deep, `0A000` for everything else.
    pub sqlstate: &'static str,
    /// The rule, as records name it: kebab-case, stable.
    pub rule: &'static str,
    /// For people; ends up in the client's error.
    pub message: String,
    /// Where in the text, in characters from 1, as PostgreSQL's `P` field.
    pub position: Option<u32>,
    /// It names something that the catalogue did not have: with a newer catalogue it may be understood.
    pub stale: bool,
}

impl SqlRefusal {
    /// The same for a name at this byte of the text. The innermost place counts.
    pub(super) fn at(mut self, byte: i32) -> Self {
        if self.stale && self.position.is_none() {
            self.position = u32::try_from(byte).ok();
        }
        self
    }

    /// What [`Self::at`] has noted, as the client counts.
    pub(super) fn in_characters_of(mut self, text: &str) -> Self {
        let before = self.position.and_then(|byte| text.get(..usize::try_from(byte).ok()?));
        self.position = before.and_then(|before| u32::try_from(before.chars().count() + 1).ok());
        self
    }

    /// The same, of another text than the client's.
    pub(super) fn nowhere(mut self) -> Self {
        self.position = None;
        self
    }
}
