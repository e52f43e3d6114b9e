//! From a text to what it asks.

use std::sync::Arc;

use ahash::AHashMap;
use pg_query::NodeEnum;

use super::asked::{named, refused};
use super::catalog::{Catalog, Relation};
use super::facts::NothingPrepared;
use super::names::Names;
use super::parse::parse;
use super::statements::{self, After, Earlier, Judged};
use super::{
    Copying, Cursor, Mapped, MappedStatement, Naming, PreparedTexts, SessionFacts, SqlRefusal, Transaction, rewrite,
    text,
};
use crate::mapping::{Resource, ResourceKind};

/// Maps a text: everything it asks, or why that cannot be told.
///
/// # Errors
/// What cannot be parsed, resolved or judged.
pub fn map(
    text: &str,
    endpoint: &str,
    catalog: &Catalog,
    facts: &SessionFacts,
    prepared: &dyn PreparedTexts,
) -> Result<Mapped, SqlRefusal> {
    encoding(text, facts)?;
    let mut walk = TextWalk {
        names: Names::new(endpoint, catalog, facts),
        texts: prepared,
        earlier: Earlier::default(),
        gone: AHashMap::new(),
        blocked: false,
        unsettled: prepared.transaction_matters(),
        outer: prepared.transaction_matters(),
        unsettled_locally: false,
        literals_matter: false,
        rewrites: Vec::new(),
    };
    let mut statements = Vec::new();
    for raw in parse(text)? {
        let node = raw.stmt.as_deref().and_then(|node| node.node.as_ref());
        // Nothing between two semicolons is no statement.
        if let Some(node) = node {
            // 0 is up to the end of the text.
            let bytes = usize::try_from(raw.stmt_len).ok().filter(|bytes| *bytes > 0).unwrap_or(text.len());
            statements.push(walk.statement(node, bytes).map_err(|refusal| refusal.in_characters_of(text))?);
        }
    }
    let normalized = text::normalized(text);
    Ok(Mapped {
        literals_do_not_matter: !walk.literals_matter,
        rewrites: rewrite::find(text, &walk.rewrites)?,
        weight: Mapped::weigh(&statements, &normalized),
        statements,
        normalized,
        fingerprint: text::fingerprint(text),
    })
}

/// Maps a text as the first one of a session.
///
/// # Errors
/// As [`map`].
pub fn map_by_itself(
    text: &str,
    endpoint: &str,
    catalog: &Catalog,
    facts: &SessionFacts,
) -> Result<Mapped, SqlRefusal> {
    map(text, endpoint, catalog, facts, &NothingPrepared)
}

/// The server converts a text before it reads it, folds and cuts identifiers by its own encoding: what is not ASCII can only be judged if
/// both sides are UTF8.
///
/// # Source
/// PostgreSQL `downcase_identifier` in scansup.c: bytes above 127 are folded by the locale, in single-byte encodings only.
fn encoding(text: &str, facts: &SessionFacts) -> Result<(), SqlRefusal> {
    if text.contains('\0') {
        return Err(refused("nul", "statement has a NUL byte"));
    }
    if text.is_ascii() || (facts.utf8_client && facts.utf8_server) {
        return Ok(());
    }
    if !facts.utf8_client {
        return Err(refused("encoding", "statement is not ASCII and `client_encoding` is not UTF8"));
    }
    // The server is of another encoding: within strings and comments that does no harm.
    let tokens =
        pg_query::scan_tokens(text).map_err(|_| refused("encoding", "statement cannot be read in this encoding"))?;
    for token in &tokens {
        let written = usize::try_from(token.start).ok().zip(usize::try_from(token.end).ok());
        let written = written.and_then(|(start, end)| text.get(start..end)).unwrap_or("é");
        let quoted = written.starts_with(['\'', '$', '-', '/']) || written.contains('\'');
        if !written.is_ascii() && !quoted {
            return Err(refused("encoding", "an identifier is not ASCII and `server_encoding` is not UTF8"));
        }
    }
    Ok(())
}

/// A text on the way: what its statements so far have changed.
struct TextWalk<'a> {
    names: Names<'a>,
    texts: &'a dyn PreparedTexts,
    earlier: Earlier,
    /// Relations that were dropped, by the id of what they were.
    gone: AHashMap<Box<str>, Arc<Relation>>,
    /// Nobody knows any more what names mean.
    blocked: bool,
    /// The transaction has changed what names mean: if it is rolled back, they mean something else again.
    unsettled: bool,
    /// It has done so until its end: also COMMIT changes it back.
    unsettled_locally: bool,
    /// The transaction that this text came into has changed something, nobody knows until when.
    outer: bool,
    literals_matter: bool,
    /// Values that are to be written anew.
    rewrites: Vec<rewrite::Planned>,
}

impl TextWalk<'_> {
    fn statement(&mut self, node: &NodeEnum, bytes: usize) -> Result<MappedStatement, SqlRefusal> {
        if self.blocked && statements::hangs_on_names(node) {
            let message = "what this statement means depends on an earlier one of the same text: send it on its own";
            return Err(refused("depends-on-earlier", message));
        }
        let Judged { kind, asked, transaction, naming, cursor, copying, is_select, after } =
            statements::judge(node, &self.names, self.texts, &self.earlier)?;
        let gives_rows = is_select || matches!(copying, Some(Copying::Out { .. }));
        let only_reads = gives_rows && asked.only_reads();
        self.rewrites.extend_from_slice(asked.rewrites());
        let capped = asked.capped().cloned();
        let (operations, effects, literals_matter) = asked.finish(&self.names, kind);
        self.literals_matter |= literals_matter;
        self.nothing_gone(operations.iter().map(|operation| &operation.resource))?;
        self.remember((node, bytes), &naming, &cursor);
        self.ends(transaction);
        self.apply(after);
        Ok(MappedStatement {
            kind,
            operations: Arc::new(operations),
            effects,
            transaction,
            naming,
            cursor,
            copying,
            only_reads,
            capped,
        })
    }

    /// A name that means a relation which an earlier statement dropped means something else by now.
    fn nothing_gone<'r>(&self, resources: impl Iterator<Item = &'r Resource>) -> Result<(), SqlRefusal> {
        if self.gone.is_empty() {
            return Ok(());
        }
        for resource in resources.filter(|resource| resource.kind() == ResourceKind::Table) {
            let gone = self.gone.get(resource.id());
            let is_gone = |gone: &Arc<Relation>| {
                self.names.relation("", &gone.schema, &gone.name).is_ok_and(|now| now.oid == gone.oid)
            };
            if gone.is_some_and(is_gone) {
                let message = "an earlier statement of the same text drops a table that this one names";
                return Err(refused("depends-on-earlier", message));
            }
        }
        Ok(())
    }

    fn remember(&mut self, (node, bytes): (&NodeEnum, usize), naming: &Naming, cursor: &Cursor) {
        match naming {
            Naming::Prepares(name) => drop(self.earlier.prepared.insert(name.clone(), (node.clone(), bytes))),
            Naming::Forgets(forgotten) => drop(self.earlier.prepared.remove(forgotten)),
            Naming::ForgetsAll => self.earlier.prepared.clear(),
            _ => {}
        }
        match cursor {
            Cursor::Declares { name, .. } => drop(self.earlier.cursors.insert(name.clone())),
            Cursor::Closes(closed) => drop(self.earlier.cursors.remove(closed)),
            Cursor::ClosesAll => self.earlier.cursors.clear(),
            _ => {}
        }
    }

    /// The end of a transaction may change settings and names back to what nobody has asked for yet.
    fn ends(&mut self, transaction: Transaction) {
        match transaction {
            Transaction::Commits { .. } => self.blocked |= self.unsettled_locally || self.outer,
            Transaction::RollsBack { .. } | Transaction::RollsBackTo => self.blocked |= self.unsettled,
            Transaction::Stays | Transaction::Begins | Transaction::Savepoint => return,
        }
        if transaction != Transaction::RollsBackTo {
            self.unsettled = false;
            self.unsettled_locally = false;
            self.outer = false;
        }
    }

    fn apply(&mut self, after: After) {
        let mut locally = false;
        match after {
            After::Nothing => return,
            After::Path { path, local } => {
                locally = local;
                self.names.set_search_path(path);
            }
            After::Relations { relations, local } => {
                locally = local;
                for relation in relations {
                    self.gone.remove(named(&self.names, &relation.schema, &relation.name).id());
                    self.names.create(relation);
                }
            }
            After::Schema(schema) => self.names.create_schema(&schema),
            After::Function(schema, name, function) => self.names.create_function(&schema, &name, function),
            After::Type(made) => self.names.create_type(made),
            After::Gone(relations) => {
                let ids =
                    relations.into_iter().map(|gone| (named(&self.names, &gone.schema, &gone.name).id().into(), gone));
                self.gone.extend(ids);
            }
            After::Unknown => self.blocked = true,
        }
        self.unsettled = true;
        self.unsettled_locally |= locally;
    }
}
