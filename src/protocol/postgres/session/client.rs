//! The client's messages: which of them wait, and who deals with the others.

use super::judge::Judged;
use super::messages::{self, put_bare};
use super::pipeline::Owed;
use super::query::ends;
use super::session::{End, Session};
use crate::protocol::postgres::wire::Frame;

/// What became of the client's next message.
pub(super) enum Taken {
    /// It has been dealt with.
    Done,
    /// There is none, or it has to wait.
    Nothing,
    /// It has to be judged by another catalogue.
    NeedsCatalog { newest: bool },
}

/// A message that cannot be dealt with yet.
pub(super) enum Wait {
    Catalog,
    Answers,
}

/// Answers that are waited for at once. The server sends some of them before there are as many: it keeps back 8 KiB (`PQ_SEND_BUFFER_SIZE`
/// in pqcomm.c), and none is shorter than 5 bytes.
const MOST_OWED: usize = 4 * 1024;

pub(super) type Handled = Result<Option<Wait>, End>;

impl Session {
    /// The client's next message.
    pub(super) fn message(&mut self) -> Result<Taken, End> {
        if self.own.is_some() || self.hold_all || self.parting.is_some() {
            return Ok(Taken::Nothing);
        }
        if self.until_answered && !self.owed.is_empty() {
            return Ok(Taken::Nothing);
        }
        self.until_answered = false;
        if self.held.is_none() && self.copy_data()? {
            return Ok(Taken::Done);
        }
        let frame = match self.held.take() {
            Some(frame) => frame,
            None => match self.from_client.next().map_err(|cause| Self::broken_by_client(&cause))? {
                Some(frame) => frame,
                None if self.client_done => return self.nothing_follows(),
                None => return Ok(Taken::Nothing),
            },
        };
        if self.begins_nothing && self.would_begin(frame.tag()) {
            // What was begun before must not wait for it.
            self.flush();
            self.held = Some(frame);
            return Ok(Taken::Nothing);
        }
        if self.owes_too_much(frame.tag()) {
            self.flush();
            self.held = Some(frame);
            return Ok(Taken::Nothing);
        }
        if let Some(taken) = self.gate(&frame)? {
            self.held = Some(frame);
            return Ok(taken);
        }
        match self.handle(&frame)? {
            None => Ok(Taken::Done),
            Some(wait) => {
                self.held = Some(frame);
                Ok(match wait {
                    // A catalogue of the session's own is read in the session. What failed may have changed names too: CREATE INDEX
                    // CONCURRENTLY leaves an index behind.
                    Wait::Catalog if self.private => {
                        self.newest_catalog = true;
                        self.stale.anything = true;
                        self.waits_for_answers().unwrap_or(Taken::Nothing)
                    }
                    Wait::Catalog => Taken::NeedsCatalog { newest: self.catalog.is_some() },
                    Wait::Answers => {
                        self.flush();
                        Taken::Nothing
                    }
                })
            }
        }
    }

    /// The client has closed behind its last message: a goodbye that waits for its answers as a spoken one does.
    fn nothing_follows(&mut self) -> Result<Taken, End> {
        if self.owes_too_much(b'X') {
            self.flush();
            return Ok(Taken::Nothing);
        }
        Err(End::Goodbye)
    }

    /// Whether a message begins something, and does not belong to what is under way.
    const fn would_begin(&self, tag: u8) -> bool {
        matches!(tag, b'Q' | b'P' | b'B' | b'E' | b'F') && !self.copying_in && !self.streaming && !self.skipping
    }

    /// Whether a message waits for the server's answers to those before it: a goodbye for all, as the server would answer them first, any
    /// other when more are under way than are worth remembering.
    fn owes_too_much(&self, tag: u8) -> bool {
        let most = if tag == b'X' { 0 } else { MOST_OWED };
        !self.copying_in && !self.streaming && (self.owed.len() > most || self.much_is_coming())
    }

    /// Whether a message has to wait: for the outcome of another, for the facts, for a catalogue.
    fn gate(&mut self, frame: &Frame) -> Result<Option<Taken>, End> {
        let names_strangely = !self.skipping && names_strangely(frame);
        if !names_strangely && !matches!(frame.tag(), b'Q' | b'P' | b'B' | b'E' | b'F') {
            return Ok(None);
        }
        let waits = self.waits_for_answers();
        let utf8 = self.facts.as_ref().is_some_and(|facts| facts.utf8_client && facts.utf8_server);
        if waits.is_none() && names_strangely && !utf8 {
            let words = "a name that is not ASCII is converted by the server: what it stands for cannot be told";
            return Err(End::refused("name-encoding", "0A000", words));
        }
        Ok(waits)
    }

    fn waits_for_answers(&mut self) -> Option<Taken> {
        if self.skipping || self.copying_in || self.streaming {
            return None;
        }
        if self.outcome_pending {
            self.flush();
            return Some(Taken::Nothing);
        }
        // A catalogue of the session's own grows old like any other; within a transaction asking would take a snapshot.
        let old = self.catalog_until.is_none_or(|until| until <= self.now);
        self.stale.anything |= old && self.private && self.is_between_messages();
        // A failed transaction answers no questions.
        if self.stale.any() && self.status != b'E' {
            // Behind a Sync whose answer is still to come the questions would begin a transaction, or meet a failed one.
            if self.pipeline_open || self.owed.is_empty() {
                self.ask_facts();
            }
            return Some(Taken::Nothing);
        }
        ((old && !self.private) || self.want_newest).then_some(Taken::NeedsCatalog { newest: self.want_newest })
    }

    /// Has the server answer what it would keep back.
    pub(super) fn flush(&mut self) {
        if self.unflushed {
            self.unflushed = false;
            self.to_server.put(|out| put_bare(out, b'H'));
        }
    }

    pub(super) fn handle(&mut self, frame: &Frame) -> Handled {
        let tag = frame.tag();
        if tag == b'X' {
            return Err(End::Goodbye);
        }
        if self.skipping && tag != b'S' {
            return Ok(None);
        }
        if self.copying_in || self.streaming {
            return self.in_copy(frame).map(|()| None);
        }
        if self.setup.replicates && matches!(tag, b'P' | b'B' | b'E' | b'F' | b'D' | b'C') {
            // The server's words (`forbidden_in_wal_sender` in postgres.c); it would go on, and nobody does.
            let words = "extended query protocol not supported in a replication connection";
            return Err(End::refused("extended-in-replication", "08P01", words));
        }
        match tag {
            b'Q' => self.query(frame),
            b'P' => self.parse(frame),
            b'B' => self.bind(frame),
            b'E' => self.execute(frame),
            b'F' => self.function(frame),
            b'D' => {
                messages::target(frame.body())?;
                self.send_extended(frame, Owed::Describe);
                Ok(None)
            }
            b'C' => self.close(frame),
            b'S' => {
                self.sync(frame);
                Ok(None)
            }
            b'H' => {
                self.unflushed = false;
                self.to_server.push(frame.as_bytes().clone());
                Ok(None)
            }
            // The server takes no notice of COPY data that nobody asked for.
            b'c' | b'f' => Ok(None),
            _ => Err(End::refused("message-type", "08P01", format!("invalid frontend message type {tag}"))),
        }
    }

    /// Everything of this stretch is done with, or what failed in it undone.
    fn sync(&mut self, frame: &Frame) {
        let barrier = self.in_transaction.any();
        self.outcome_pending |= barrier;
        self.skipping = false;
        self.unflushed = false;
        self.pipeline_open = false;
        self.segment += 1;
        self.owed.push_back(Owed::Sync { barrier });
        self.to_server.push(frame.as_bytes().clone());
    }

    pub(super) fn send_extended(&mut self, frame: &Frame, owed: Owed) {
        self.extended();
        self.owed.push_back(owed);
        self.to_server.push(frame.as_bytes().clone());
    }

    /// An extended message is sent: its answer may be kept back, and what it does ends with a Sync.
    pub(super) const fn extended(&mut self) {
        self.unflushed = true;
        self.pipeline_open = true;
    }

    /// In a failed transaction nothing can be asked, so what it changed is not known: only its end passes, which needs no names.
    pub(super) fn only_the_end(&self, judged: &Judged) -> bool {
        let blind = self.status == b'E' && (self.stale.any() || self.in_transaction.any());
        blind && !matches!(judged.mapped.statements.as_slice(), [only] if ends(only))
    }

    /// The same for what cannot be mapped.
    pub(super) fn is_blind(&self) -> bool {
        self.status == b'E' && (self.stale.any() || self.in_transaction.any())
    }
}

/// The server converts names before it compares them unless both sides are UTF8: two that differ here may be one there, and the reverse.
fn names_strangely(frame: &Frame) -> bool {
    let body = frame.body();
    let text = |body| messages::text(body).map(|(text, _)| text).unwrap_or_default();
    let (first, second) = match frame.tag() {
        b'P' | b'E' => (text(body), &b""[..]),
        b'B' => messages::bind(body).unwrap_or_default(),
        b'C' | b'D' => (text(body), &b""[..]),
        _ => return false,
    };
    !first.is_ascii() || !second.is_ascii()
}
