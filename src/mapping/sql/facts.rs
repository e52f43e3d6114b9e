//! What only the session itself knows.

use crate::config::SessionCaps;

/// What a session says of itself: asked after everything that may have changed it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionFacts {
    /// The role that privileges are checked for: `current_user`.
    pub role: Box<str>,
    /// The one that the session began with: `session_user`. RESET ROLE and SET SESSION AUTHORIZATION DEFAULT go back to it.
    pub session_role: Box<str>,
    /// `search_path` as SHOW writes it, taken apart and unquoted; `$user` is still in it.
    pub search_path: Vec<Box<str>>,
    /// The session's own temporary schema (`pg_temp_3`), once it has one.
    pub temp_schema: Option<Box<str>>,
    /// `client_encoding` is UTF8. If not, only ASCII text can be judged.
    pub utf8_client: bool,
    /// `server_encoding` is UTF8. If not, unquoted identifiers that are not ASCII cannot be judged.
    pub utf8_server: bool,
    /// Timeouts that the session cannot raise.
    pub caps: SessionCaps,
}

/// The texts that names of prepared statements stand for in this session, by protocol or by SQL: they share one name space.
pub trait PreparedTexts {
    /// The text that `name` was prepared with, and which of its statements it is. For SQL `PREPARE p AS …` the text is the whole
    /// PREPARE statement's.
    fn prepared(&self, name: &str) -> Option<(&str, usize)>;
    /// Whether a cursor of this name was declared by a statement that was judged.
    fn cursor(&self, name: &str) -> bool;
    /// Whether the query behind that cursor calls nothing but harmless functions, so that FETCH can change nothing.
    fn quiet_cursor(&self, _name: &str) -> bool {
        false
    }
    /// Whether the open transaction has changed settings, role or names, so that its end may change what names mean.
    fn transaction_matters(&self) -> bool {
        true
    }
}

/// A session that has prepared nothing: where a text is mapped by itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct NothingPrepared;

impl PreparedTexts for NothingPrepared {
    fn prepared(&self, _name: &str) -> Option<(&str, usize)> {
        None
    }

    fn cursor(&self, _name: &str) -> bool {
        false
    }
}
