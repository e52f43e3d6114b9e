//! The walk of a session's statements: what comes from either side goes in, what is to be written to either side comes out.
//!
//! No sockets, no waiting: whoever drives it fills the readers, calls [`Session::advance`] and writes what has come of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::judge::Judged;
use super::messages::{Malformed, put_bare};
use super::out::Out;
use super::own::Own;
use super::pipeline::{Owed, Portal};
use super::prepared::{Declared, Names};
use super::record::Unwritten;
use super::setup::Setup;
use super::{cache, deny};
use crate::audit::AuditError;
use crate::mapping::sql::catalog::Catalog;
use crate::mapping::sql::{Effects, SessionFacts};
use crate::protocol::postgres::wire::{ErrorReply, Frame, FrameError, FrameReader, Side, error};

/// More is not taken from a side while this much waits to be written to the other.
pub(super) const MOST_WAITING: usize = 256 * 1024;

/// Messages of a client that are dealt with in one go: other sessions wait for their end.
const MOST_AT_ONCE: u32 = 64;

/// A session from its login to its end.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) setup: Arc<Setup>,
    pub(super) from_client: FrameReader,
    pub(super) from_server: FrameReader,
    pub(super) to_client: Out,
    pub(super) to_server: Out,
    /// A message of the client's that has to wait.
    pub(super) held: Option<Frame>,
    /// What the server has still to answer, in order.
    pub(super) owed: VecDeque<Owed>,
    pub(super) statements: Names<Judged>,
    pub(super) portals: Names<Portal>,
    pub(super) cursors: Names<Declared>,
    pub(super) changes: u64,
    /// The stretch between two Syncs that the client's next message belongs to.
    pub(super) segment: u64,
    /// There may be messages that were left for the next go.
    pub(super) has_more: bool,
    /// The server ignores everything up to the next Sync.
    pub(super) skipping: bool,
    /// The server takes COPY data and nothing else.
    pub(super) copying_in: bool,
    /// A replication stream is under way: both sides send data and nothing else.
    pub(super) streaming: bool,
    /// The held message is looked at again when everything has been answered.
    pub(super) until_answered: bool,
    /// Nothing at all goes on until an answer is known.
    pub(super) hold_all: bool,
    /// Nothing that has to be judged goes on until an answer is known.
    pub(super) outcome_pending: bool,
    /// The server keeps answers back until it is told to flush.
    pub(super) unflushed: bool,
    /// A COPY has given too many rows: it is to be cancelled.
    pub(super) cut_short: bool,
    /// `I`, `T` or `E`, as the last answer left it.
    pub(super) status: u8,
    pub(super) facts: Option<Arc<SessionFacts>>,
    pub(super) facts_number: u64,
    pub(super) catalog: Option<Arc<Catalog>>,
    pub(super) catalog_until: Option<Instant>,
    /// The catalogue is of this session only: it holds what others cannot see.
    pub(super) private: bool,
    /// The catalogue has been read anew for the message at hand.
    pub(super) newest_catalog: bool,
    pub(super) want_newest: bool,
    /// What has to be asked again before anything is judged.
    pub(super) stale: Effects,
    /// What the open transaction may have changed.
    pub(super) in_transaction: Effects,
    pub(super) own: Option<Own>,
    /// Extended messages have been sent since the last Sync.
    pub(super) pipeline_open: bool,
    /// The ReadyForQuery that the client waits for since its login.
    pub(super) first_ready: Option<Bytes>,
    pub(super) transaction: u64,
    /// A block is open once everything that was sent has been done.
    pub(super) in_block: bool,
    /// The stretch between Syncs that the transaction began in; none: what is judged next begins another one.
    pub(super) transaction_segment: Option<u64>,
    pub(super) transaction_since: Option<Instant>,
    pub(super) statement_number: u64,
    pub(super) unwritten: Unwritten,
    pub(super) server_said_goodbye: bool,
    /// The client has closed its direction: what it has sent is its last.
    pub(super) client_done: bool,
    /// The client's right to be here is over: nothing of what it asks is begun any more.
    pub(super) begins_nothing: bool,
    /// The client asks nothing more: the session ends so when everything before has been answered.
    pub(super) parting: Option<End>,
    /// Something of the client's was with the server when the session ended.
    pub(super) left_running: bool,
    /// Since when the client has asked nothing.
    pub(super) idle_since: Instant,
    pub(super) now: Instant,
}

/// What is to be done before the session can go on.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing: more bytes have to come.
    Wait,
    /// [`Session::catalog_arrived`] is to be called.
    Catalog {
        /// Another reading than the one at hand, however young that is.
        newest: bool,
    },
    /// Write what is left, then close both sides.
    End(End),
}

/// Why a session ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The client said goodbye.
    Goodbye,
    /// The client broke the protocol, or may not go on. It has been told, if there is a SQLSTATE.
    Refused { rule: &'static str, sqlstate: &'static str, message: String },
    /// Not the client's fault.
    Failed { sqlstate: &'static str, message: String },
}

impl End {
    pub(super) fn refused(rule: &'static str, sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self::Refused { rule, sqlstate, message: message.into() }
    }

    pub(super) fn out_of_step(what: &str) -> Self {
        Self::Failed {
            sqlstate: "08P01",
            message: format!("the server's answers do not fit what it was asked: {what}"),
        }
    }

    pub(super) fn audit(_: AuditError) -> Self {
        Self::unrecordable()
    }

    /// What is asked now could not be recorded.
    pub(super) fn unrecordable() -> Self {
        Self::Failed { sqlstate: "58030", message: "statements cannot be recorded: the session ends".into() }
    }

    /// What the client is told.
    pub(super) fn put(&self, out: &mut BytesMut) {
        if let Self::Refused { sqlstate, message, .. } | Self::Failed { sqlstate, message } = self {
            error(out, &ErrorReply::fatal(sqlstate, message.as_str()));
        }
    }
}

impl From<Malformed> for End {
    fn from(Malformed(what): Malformed) -> Self {
        Self::refused("message-layout", "08P01", format!("invalid message format: {what}"))
    }
}

impl Session {
    /// A session whose server is ready: `first_ready` is its ReadyForQuery, which the client has not seen.
    pub(super) fn new(setup: Arc<Setup>, client: BytesMut, server: BytesMut, first_ready: Bytes, now: Instant) -> Self {
        let side = Side::Client { message_bytes: setup.message_bytes };
        let unwritten = Unwritten::new(Arc::clone(&setup.point));
        let mut session = Self {
            from_client: FrameReader::new(side, client),
            from_server: FrameReader::new(Side::Server, server),
            setup,
            to_client: Out::default(),
            to_server: Out::default(),
            held: None,
            owed: VecDeque::new(),
            statements: Names::default(),
            portals: Names::default(),
            cursors: Names::default(),
            changes: 0,
            segment: 0,
            has_more: false,
            skipping: false,
            copying_in: false,
            streaming: false,
            until_answered: false,
            hold_all: false,
            outcome_pending: false,
            unflushed: false,
            cut_short: false,
            status: b'I',
            facts: None,
            facts_number: 0,
            catalog: None,
            catalog_until: None,
            private: false,
            newest_catalog: false,
            want_newest: false,
            stale: Effects { settings: true, ..Effects::default() },
            in_transaction: Effects::default(),
            own: None,
            pipeline_open: false,
            first_ready: Some(first_ready),
            transaction: 0,
            in_block: false,
            transaction_segment: None,
            transaction_since: None,
            statement_number: 0,
            unwritten,
            server_said_goodbye: false,
            client_done: false,
            begins_nothing: false,
            parting: None,
            left_running: false,
            idle_since: now,
            now,
        };
        session.ask_facts();
        session
    }

    /// Goes as far as it can with what is there.
    pub(super) fn advance(&mut self, now: Instant) -> Step {
        self.now = now;
        if let Err(end) = self.answers() {
            return self.end(end);
        }
        match self.messages() {
            Ok(Some(catalog)) => catalog,
            Ok(None) => self.part(),
            Err(end @ (End::Goodbye | End::Refused { .. })) => {
                self.parting = Some(end);
                self.flush();
                self.part()
            }
            Err(end) => self.end(end),
        }
    }

    /// Ends a session whose client has said its last, once it has its answers. A server that waits for COPY data has none to give.
    fn part(&mut self) -> Step {
        match &self.parting {
            Some(end) if self.owed.is_empty() || self.copying_in || self.streaming => {
                let end = end.clone();
                if end == End::Goodbye {
                    self.to_server.put(|out| put_bare(out, b'X'));
                }
                self.end(end)
            }
            _ => Step::Wait,
        }
    }

    /// Everything that the server has said.
    fn answers(&mut self) -> Result<(), End> {
        while self.to_client.len() <= MOST_WAITING && self.answer()? {}
        Ok(())
    }

    /// Everything that the client asks, up to what has to wait.
    fn messages(&mut self) -> Result<Option<Step>, End> {
        self.has_more = false;
        let mut taken = 0;
        while self.to_server.len() <= MOST_WAITING {
            if taken >= MOST_AT_ONCE {
                self.has_more = true;
                break;
            }
            taken += 1;
            match self.message()? {
                super::client::Taken::Done => self.newest_catalog = false,
                super::client::Taken::Nothing => return Ok(None),
                super::client::Taken::NeedsCatalog { newest } => return Ok(Some(Step::Catalog { newest })),
            }
        }
        Ok(None)
    }

    /// The catalogue that was asked for, and until when it is fresh.
    pub(super) fn catalog_arrived(&mut self, catalog: Arc<Catalog>, until: Instant, newest: bool) {
        self.catalog = Some(catalog);
        self.catalog_until = Some(until);
        self.private = false;
        self.newest_catalog = newest;
        self.want_newest &= !newest;
    }

    /// The facts of the session have been read.
    pub(super) fn set_facts(&mut self, facts: SessionFacts) {
        if self.facts.as_deref() != Some(&facts) {
            let facts = Arc::new(facts);
            self.facts_number = cache::number(&facts);
            self.facts = Some(facts);
        }
    }

    /// Something of the client's is with the server.
    pub(super) fn has_running(&self) -> bool {
        self.owed.iter().any(|owed| !matches!(owed, Owed::Own))
    }

    /// The client's next message has to wait for something.
    pub(super) fn waits(&self) -> bool {
        self.held.is_some() || self.hold_all || self.own.is_some() || self.parting.is_some()
    }

    /// Statements that run for long have a record of their beginning.
    pub(super) fn note_long(&mut self, now: Instant) -> Result<(), End> {
        let running = self.owed.front_mut().and_then(Owed::running);
        running.map_or(Ok(()), |running| running.note_if_long(now)).map_err(End::audit)
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.has_answered() && self.held.is_none()
    }

    /// Everything that was begun has been answered; what the client has asked since does not count.
    pub(super) fn has_answered(&self) -> bool {
        self.owed.is_empty() && self.own.is_none() && self.first_ready.is_none()
    }

    /// Nothing is under way, and no transaction is open.
    pub(super) fn is_between_transactions(&self) -> bool {
        self.is_idle() && self.status == b'I' && !self.unflushed
    }

    /// Ends the session from outside: a limit, a drain, a server that is gone.
    pub(super) fn end(&mut self, end: End) -> Step {
        let why = if end == End::Goodbye { "the client left" } else { "the session ended" };
        self.left_running = self.has_running();
        self.break_off(why);
        // Words in the middle of a row would be taken for a part of it.
        if !self.server_said_goodbye && !self.from_server.is_within() {
            self.to_client.put(|out| end.put(out));
        }
        Step::End(end)
    }

    /// Writes the records of statements that have ended. If that fails, their answers are not sent.
    pub(super) fn write_records(&mut self) -> Result<(), End> {
        let sure = self.unwritten.sure();
        self.unwritten.write().map_err(|error| {
            self.to_client.truncate(sure);
            End::audit(error)
        })
    }

    /// The first thing that is judged in a transaction makes it begin.
    pub(super) fn note_activity(&mut self) {
        self.idle_since = self.now;
        self.transaction_since.get_or_insert(self.now);
        if !self.in_block && self.transaction_segment != Some(self.segment) {
            self.transaction_segment = Some(self.segment);
            self.transaction += 1;
        }
    }

    /// Bytes that are no messages.
    pub(super) fn broken_by_client(cause: &FrameError) -> End {
        End::refused(cause.rule(), "08P01", cause.to_string())
    }

    /// A name that the client cannot guess, for what the proxy asks in the session.
    pub(super) fn reserved_name() -> String {
        format!("portcullis {}", deny::nonce())
    }
}
