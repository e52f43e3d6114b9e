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
    /// The catalogue is read in the session itself where that sees what others do not.
    pub(super) reads_in_session: bool,
}

/// The rows of one query: values as text.
pub(super) type Rows = Vec<Vec<Option<Bytes>>>;
