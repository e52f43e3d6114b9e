//! SQL texts as questions: judged by the code that judges live statements, with names that mean what a catalogue says.

use std::sync::Arc;
use std::thread;

use crate::config::SessionCaps;
use crate::mapping::Operations;
use crate::mapping::sql::catalog::Catalog;
use crate::mapping::sql::{Mapped, STACK, SessionFacts, SqlRefusal, map_by_itself, parse_search_path};

/// A SQL text, and where it would run.
#[derive(Debug, Clone)]
pub(super) struct SqlText {
    pub(super) text: String,
    pub(super) session: SqlSession,
}

/// A session as far as it says what names mean.
#[derive(Debug, Clone)]
pub struct SqlSession {
    endpoint: String,
    catalog: Arc<Catalog>,
    facts: SessionFacts,
    /// The catalogue is only what somebody has written: of a name that it does not have nothing is known.
    is_part: bool,
}

impl SqlSession {
    /// As PostgreSQL has it before anybody sets it.
    pub const SEARCH_PATH: &str = "\"$user\", public";

    /// A session of `role` at the start of which `search_path` has this value.
    ///
    /// # Errors
    /// It is no search path.
    pub fn new(endpoint: &str, catalog: Arc<Catalog>, role: &str, search_path: &str) -> Result<Self, String> {
        let parsed = parse_search_path(search_path);
        let facts = SessionFacts {
            role: role.into(),
            session_role: role.into(),
            search_path: parsed.ok_or_else(|| format!("`{search_path}` is no search path"))?,
            temp_schema: None,
            utf8_client: true,
            utf8_server: true,
            caps: SessionCaps::default(),
        };
        Ok(Self { endpoint: endpoint.to_owned(), catalog, facts, is_part: false })
    }

    /// With the timeouts that it cannot raise.
    #[must_use]
    pub fn with_caps(mut self, caps: SessionCaps) -> Self {
        self.facts.caps = caps;
        self
    }

    /// The same with a catalogue that is only a part of what the database has.
    pub(super) fn of_part(self) -> Self {
        Self { is_part: true, ..self }
    }
}

impl SqlText {
    /// Everything that its statements ask, or the refusal that it meets.
    ///
    /// # Errors
    /// It asks nothing, or has names that the catalogue does not have: nothing is known of these.
    pub(super) fn operations(&self) -> Result<Result<Operations, String>, String> {
        let refused =
            |refusal: &SqlRefusal| format!("{}: {} (SQLSTATE {})", refusal.rule, refusal.message, refusal.sqlstate);
        let mapped = match self.mapped()? {
            Ok(mapped) => mapped,
            Err(refusal) if refusal.stale && self.session.is_part => {
                return Err(format!("{}: what is not in `databases` is not guessed", refused(&refusal)));
            }
            Err(refusal) => return Ok(Err(refused(&refusal))),
        };
        let each = mapped.statements.iter().flat_map(|statement| statement.operations.iter().cloned());
        Operations::all(each.collect()).map(Ok).ok_or_else(|| "the text has no statement".to_owned())
    }

    /// On a thread with as much stack as the deepest text needs.
    fn mapped(&self) -> Result<Result<Mapped, SqlRefusal>, String> {
        let SqlSession { endpoint, catalog, facts, .. } = &self.session;
        thread::scope(|scope| {
            let map = || map_by_itself(&self.text, endpoint, catalog, facts);
            let thread = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, map);
            let thread = thread.map_err(|cause| format!("cannot judge SQL: {cause}"))?;
            thread.join().map_err(|_| "the text cannot be judged".to_owned())
        })
    }
}
