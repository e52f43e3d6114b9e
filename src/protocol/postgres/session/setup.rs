//! What a session is begun with.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::{SessionCaps, SqlInRecords};
use crate::enforce::{Asker, EnforcementPoint};
use crate::mapping::sql::catalog::Catalog;
use crate::mapping::sql::{Mapped, PreparedTexts, SessionFacts, SqlRefusal};

/// How a text is understood: `mapping::sql::map`.
pub(super) type Map = fn(&str, &str, &Catalog, &SessionFacts, &dyn PreparedTexts) -> Result<Mapped, SqlRefusal>;

/// What is the same for the whole of a session.
#[derive(Debug)]
pub(super) struct Setup {
    /// The listener's name.
    pub(super) endpoint: Arc<str>,
    /// Where decisions are made.
    pub(super) point: Arc<EnforcementPoint>,
    /// Who asks.
    pub(super) asker: Arc<Asker>,
    /// Names the session in records.
    pub(super) session: Arc<str>,
    /// How texts are recorded.
    pub(super) sql: SqlInRecords,
    /// Longest text.
    pub(super) statement_bytes: usize,
    /// Longest message.
    pub(super) message_bytes: usize,
    /// `server_encoding` is UTF8.
    pub(super) utf8_server: bool,
    /// Timeouts that the session cannot raise.
    pub(super) caps: SessionCaps,
    /// How old a catalogue may be.
    pub(super) catalog_max_age: Duration,
    /// The session is one of a walsender, which knows simple queries only: CopyBoth may be begun, texts may be replication commands.
    pub(super) replicates: bool,
    /// How a text is understood.
    pub(super) map: Map,
    /// The key that texts of one meaning share.
    pub(super) safe_key: fn(&str) -> Option<Vec<u8>>,
    /// How the catalogue is read in the session itself; none: it is not.
    pub(super) reading: Option<Reading>,
}

/// The rows of one query: values as text.
pub(super) type Rows = Vec<Vec<Option<Bytes>>>;

/// Makes a catalogue of the rows that were read; none if it is still the one that is known.
type Read = fn(Option<&Arc<Catalog>>, &[Rows]) -> Result<Option<Arc<Catalog>>, String>;

/// How the catalogue is read in a session.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    /// The queries about everything.
    pub(super) whole: Vec<&'static str>,
    /// Those about what did not come with the server.
    pub(super) foreign: Vec<&'static str>,
    /// What the answers to the one or, if a catalogue is known, the other mean; none if everything has to be read.
    pub(super) read: Read,
}
