//! What the client asks, message by message.

use std::sync::Arc;

use super::deny::Answer;
use super::judge::{Came, Judged, Look, SIMPLE, refusal};
use super::messages::{self, Name, name, put_bare, put_bind, put_execute, put_parse, put_parse_again, put_query};
use super::pipeline::{Executed, Owed, Portal, Queried};
use super::prepared::Meaning;
use super::record::{Outcome, Running};
use super::rows::Limit;
use super::session::{End, Session};
use crate::mapping::sql::{Copying, Cursor, Effects, MappedStatement, Naming, Rename, SqlRefusal, Transaction};
use crate::protocol::postgres::settings::application_name;
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

/// What becomes of a Bind.
enum Bound {
    Judged(Arc<Judged>),
    Denied(Answer),
    NeedsCatalog,
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
        if self.held.is_none() && self.copy_data()? {
            return Ok(Taken::Done);
        }
        let frame = match self.held.take() {
            Some(frame) => frame,
            None => match self.from_client.next().map_err(|cause| Self::broken_by_client(&cause))? {
                Some(frame) => frame,
                None => return Ok(Taken::Nothing),
            },
        };
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
                    Wait::Catalog => Taken::NeedsCatalog { newest: self.catalog.is_some() },
                    Wait::Answers => {
                        self.flush();
                        Taken::Nothing
                    }
                })
            }
        }
    }

    /// Whether a message waits for the server's answers to those before it: a goodbye for all, as the server would answer them first, any
    /// other when more are under way than are worth remembering.
    fn owes_too_much(&self, tag: u8) -> bool {
        let most = if tag == b'X' { 0 } else { MOST_OWED };
        !self.copying_in && !self.streaming && self.owed.len() > most
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

    fn send_extended(&mut self, frame: &Frame, owed: Owed) {
        self.extended();
        self.owed.push_back(owed);
        self.to_server.push(frame.as_bytes().clone());
    }

    /// An extended message is sent: its answer may be kept back, and what it does ends with a Sync.
    const fn extended(&mut self) {
        self.unflushed = true;
        self.pipeline_open = true;
    }

    /// In a failed transaction nothing can be asked, so what it changed is not known: only its end passes, which needs no names.
    pub(super) fn only_the_end(&self, judged: &Judged) -> bool {
        let blind = self.status == b'E' && (self.stale.any() || self.in_transaction.any());
        blind && !matches!(judged.mapped.statements.as_slice(), [only] if ends(only))
    }

    /// The same for what cannot be mapped.
    fn is_blind(&self) -> bool {
        self.status == b'E' && (self.stale.any() || self.in_transaction.any())
    }

    pub(super) fn query(&mut self, frame: &Frame) -> Handled {
        let text = messages::query(frame.body())?;
        self.note_activity();
        let judged = match self.look(text) {
            Look::NeedsCatalog => return Ok(Some(Wait::Catalog)),
            Look::Refused(_) if self.is_blind() => return self.deny_query(Answer::in_failed_transaction()),
            Look::Refused(refused) => {
                let answer = self.refuse(text, &refused, SIMPLE)?;
                return self.refuse_query(text, &refused, answer);
            }
            Look::Judged(judged) if self.only_the_end(&judged) => {
                return self.deny_query(Answer::in_failed_transaction());
            }
            Look::Judged(judged) => judged,
        };
        let running = match self.permit_all(&judged, SIMPLE)? {
            Ok(running) => running,
            Err(answer) => return self.deny_query(answer),
        };
        self.send_query(frame, &judged, running)
    }

    /// Every statement of a text, or none.
    pub(super) fn permit_all(
        &mut self,
        judged: &Arc<Judged>,
        came: Came<'_>,
    ) -> Result<Result<Vec<Running>, Answer>, End> {
        if !self.setup.point.records_can_be_written() {
            return Err(End::unrecordable());
        }
        let count = judged.mapped.statements.len();
        if count > 1 {
            for statement in &judged.mapped.statements {
                if let Some(answer) = self.preview(judged, &statement.operations, came)? {
                    return Ok(Err(answer));
                }
            }
        }
        let mut permitted = Vec::with_capacity(count);
        for index in 0..count {
            match self.enforce(judged, index, came)? {
                Ok(running) => permitted.push(running),
                Err(answer) => {
                    for running in permitted {
                        running
                            .settle(Outcome::BrokenOff("another statement of the text is denied"))
                            .map_err(End::audit)?;
                    }
                    return Ok(Err(answer));
                }
            }
        }
        Ok(Ok(permitted))
    }

    pub(super) fn send_query(&mut self, frame: &Frame, judged: &Arc<Judged>, mut running: Vec<Running>) -> Handled {
        let most = running.iter().filter_map(|running| running.permit.max_rows("sql:Select")).min();
        let mut limit = None;
        if let Some(most) = most {
            match judged.mapped.statements.as_slice() {
                [only] if only.only_reads => limit = Some(Limit::new(most, 0)),
                _ => {
                    let refused = not_bounded(most);
                    let mut answer = None;
                    for running in running {
                        answer = Some(self.refuse_permitted(running, &refused)?);
                    }
                    return answer.map_or(Ok(None), |answer| self.deny_query(answer));
                }
            }
        }
        if let Some(first) = running.first_mut() {
            first.bytes_in = frame.as_bytes().len() as u64;
        }
        let mut queried = Queried { running: running.into(), limit, ..Queried::default() };
        for statement in &judged.mapped.statements {
            queried.barrier |= self.note(statement);
            queried.effects = both(queried.effects, statement.effects);
            self.hold_all |= matches!(statement.copying, Some(Copying::In | Copying::Both));
        }
        queried.change = self.drop_unnamed();
        self.outcome_pending |= queried.barrier;
        match &limit {
            Some(limit) => {
                self.hold_all = true;
                let text = self.renamed(judged)?.map_or_else(|| Arc::clone(&judged.text), Into::into);
                self.put_limited_query(&text, limit);
            }
            None => match self.renamed(judged)? {
                Some(text) if frame.tag() == b'Q' => self.to_server.put(|out| put_query(out, &text)),
                _ => self.to_server.push(frame.as_bytes().clone()),
            },
        }
        self.owed.push_back(Owed::Query(Box::new(queried)));
        Ok(None)
    }

    /// The text with the proxy's part of `application_name` in front of the client's, where it sets that.
    fn renamed(&self, judged: &Judged) -> Result<Option<String>, End> {
        let renames = judged.mapped.renames.as_slice();
        if renames.is_empty() {
            return Ok(None);
        }
        let id = self.setup.asker.peer().id();
        let renamed = Rename::written(renames, &judged.text, |own| application_name(id, own));
        renamed.map(Some).ok_or_else(|| End::out_of_step("the text of a judgement is another one"))
    }

    /// Takes note of what a statement that is being sent may change: whether others have to wait for its outcome.
    fn note(&mut self, statement: &MappedStatement) -> bool {
        self.sees_whole_rows &= statement.may_see_whole_rows;
        match statement.transaction {
            Transaction::Begins => self.in_block = true,
            // What follows is another transaction, by AND CHAIN in a block again.
            Transaction::Commits { .. } | Transaction::RollsBack { .. } => {
                (self.in_block, self.transaction_segment) = (false, None);
            }
            Transaction::Stays | Transaction::Savepoint | Transaction::RollsBackTo => {}
        }
        let barrier = statement.effects.any()
            || (ends(statement) && self.in_transaction.any())
            || !matches!(statement.naming, Naming::None | Naming::Executes(_))
            || !matches!(statement.cursor, Cursor::None | Cursor::Fetches(_))
            || statement.copying == Some(Copying::In);
        self.in_transaction = both(self.in_transaction, statement.effects);
        barrier
    }

    pub(super) fn deny_query(&mut self, answer: Answer) -> Handled {
        self.to_server.put(|out| put_query(out, &answer.statement()));
        self.owes_refusal(answer);
        Ok(None)
    }

    pub(super) fn owes_refusal(&mut self, answer: Answer) {
        let change = self.drop_unnamed();
        self.owed.push_back(Owed::Query(Box::new(Queried { denied: Some(answer), change, ..Queried::default() })));
    }

    /// A Query is sent: the server drops its unnamed statement and portal, and what follows stands for itself.
    fn drop_unnamed(&mut self) -> u64 {
        let change = self.next_change();
        self.statements.sent(Box::default(), change, self.segment, None);
        self.portals.sent(Box::default(), change, self.segment, None);
        (self.pipeline_open, self.unflushed) = (false, false);
        self.segment += 1;
        change
    }

    pub(super) fn parse(&mut self, frame: &Frame) -> Handled {
        let (statement, text) = messages::parse(frame.body())?;
        self.note_activity();
        let key = name(statement);
        let came = Came { protocol: "extended", prepared: statement };
        let answer = match self.look(text) {
            Look::NeedsCatalog => return Ok(Some(Wait::Catalog)),
            Look::Refused(_) if self.is_blind() => Answer::in_failed_transaction(),
            Look::Refused(refused) => {
                let answer = self.refuse(text, &refused, came)?;
                if self.server_knows_better(text, &refused) {
                    return self.refuse_parse(frame, answer);
                }
                answer
            }
            Look::Judged(judged) if self.only_the_end(&judged) => Answer::in_failed_transaction(),
            Look::Judged(judged) => match self.preview_prepared(&judged, came)? {
                Some(answer) => answer,
                None => {
                    let change = self.next_change();
                    let renamed = self.renamed(&judged)?;
                    self.statements.sent(key.clone(), change, self.segment, Some(judged));
                    let owed = Owed::Parse { name: key, change, denied: None };
                    match renamed {
                        None => self.send_extended(frame, owed),
                        Some(text) => {
                            self.extended();
                            self.owed.push_back(owed);
                            self.to_server.put(|out| put_parse_again(out, frame.body(), &text));
                        }
                    }
                    return Ok(None);
                }
            },
        };
        self.deny_parse(statement, answer)
    }

    pub(super) fn deny_parse(&mut self, statement: &[u8], answer: Answer) -> Handled {
        self.extended();
        self.to_server.put(|out| put_parse(out, statement, &answer.statement()));
        self.owed.push_back(Owed::Parse { name: name(statement), change: 0, denied: Some(Box::new(answer)) });
        Ok(None)
    }

    fn preview_prepared(&mut self, judged: &Arc<Judged>, came: Came<'_>) -> Result<Option<Answer>, End> {
        match judged.mapped.statements.as_slice() {
            [] => Ok(None),
            [only] => self.preview(judged, &Arc::clone(&only.operations), came),
            _ => {
                let words = "cannot insert multiple commands into a prepared statement";
                self.refuse(judged.text.as_bytes(), &refusal("42601", "several-statements", words), came).map(Some)
            }
        }
    }

    pub(super) fn bind(&mut self, frame: &Frame) -> Handled {
        let (portal, statement) = messages::bind(frame.body())?;
        self.note_activity();
        let key = name(portal);
        match self.statements.meaning(&name(statement), self.segment) {
            Meaning::Unknown => Ok(Some(Wait::Answers)),
            Meaning::Is(judged) => {
                let judged = match self.judge_bound(judged, name(statement))? {
                    Bound::Judged(judged) => judged,
                    Bound::NeedsCatalog => return Ok(Some(Wait::Catalog)),
                    Bound::Denied(answer) => return self.deny_bind(portal, answer),
                };
                let change = self.next_change();
                let made = Portal::new(judged, name(statement), frame.as_bytes().len() as u64);
                self.portals.sent(key.clone(), change, self.segment, Some(Arc::new(made)));
                self.send_extended(frame, Owed::Bind { portal: key, change, denied: None });
                Ok(None)
            }
            Meaning::Nothing => {
                let words = match statement {
                    b"" => "unnamed prepared statement does not exist".to_owned(),
                    named => format!("prepared statement \"{}\" does not exist", String::from_utf8_lossy(named)),
                };
                self.deny_bind(portal, Answer::of_server("26000", words))
            }
        }
    }

    /// What a statement asks as it is bound: the server resolves its names now, whatever they meant when it was parsed, and plans it, for
    /// which it may run functions.
    fn judge_bound(&mut self, judged: Arc<Judged>, statement: Name) -> Result<Bound, End> {
        // In a failed transaction the server binds nothing but its end.
        if self.status == b'E' {
            return Ok(Bound::Judged(judged));
        }
        let came = Came { protocol: "extended", prepared: &statement };
        let now = match self.look_again(&judged) {
            Look::NeedsCatalog => return Ok(Bound::NeedsCatalog),
            Look::Refused(refused) => {
                return self.refuse(judged.text.as_bytes(), &refused, came).map(Bound::Denied);
            }
            Look::Judged(now) => now,
        };
        if Arc::ptr_eq(&now, &judged) {
            return Ok(Bound::Judged(judged));
        }
        let operations = now.statement().map(|statement| Arc::clone(&statement.operations));
        let denied = operations.map_or(Ok(None), |operations| self.preview(&now, &operations, came))?;
        Ok(denied.map_or(Bound::Judged(now), Bound::Denied))
    }

    pub(super) fn deny_bind(&mut self, portal: &[u8], answer: Answer) -> Handled {
        self.extended();
        self.to_server.put(|out| put_bind(out, portal, answer.poison.as_bytes()));
        self.owed.push_back(Owed::Bind { portal: name(portal), change: 0, denied: Some(Box::new(answer)) });
        Ok(None)
    }

    pub(super) fn execute(&mut self, frame: &Frame) -> Handled {
        let (portal_name, wanted) = messages::execute(frame.body())?;
        self.note_activity();
        let key = name(portal_name);
        let portal = match self.portals.meaning(&key, self.segment) {
            Meaning::Unknown => return Ok(Some(Wait::Answers)),
            Meaning::Is(portal) => portal,
            Meaning::Nothing => match self.cursors.get(&key) {
                Some(judged) => Arc::new(Portal::new(Arc::clone(judged), Box::default(), 0)),
                None => {
                    let words = format!("portal \"{}\" does not exist", String::from_utf8_lossy(portal_name));
                    return self.deny_execute(Answer::of_server("34000", words));
                }
            },
        };
        let came = Came { protocol: "extended", prepared: &portal.statement };
        let judged = match self.look_again(&portal.judged) {
            Look::NeedsCatalog => return Ok(Some(Wait::Catalog)),
            Look::Refused(_) if self.is_blind() => return self.deny_execute(Answer::in_failed_transaction()),
            Look::Refused(refused) => {
                let answer = self.refuse(portal.judged.text.as_bytes(), &refused, came)?;
                return self.deny_execute(answer);
            }
            Look::Judged(judged) if self.only_the_end(&judged) => {
                return self.deny_execute(Answer::in_failed_transaction());
            }
            Look::Judged(judged) => judged,
        };
        let judged = match self.judge_portal(&portal.judged, judged, came)? {
            Ok(judged) => judged,
            Err(answer) => return self.deny_execute(answer),
        };
        let Some(statement) = judged.statement().cloned() else {
            self.send_extended(frame, Owed::Execute(Box::default()));
            return Ok(None);
        };
        if !self.setup.point.records_can_be_written() {
            return Err(End::unrecordable());
        }
        let mut running = match self.enforce(&judged, judged.index, came)? {
            Ok(running) => running,
            Err(answer) => return self.deny_execute(answer),
        };
        let most = running.permit.max_rows("sql:Select");
        if let Some(most) = most.filter(|_| !statement.only_reads) {
            let answer = self.refuse_permitted(running, &not_bounded(most))?;
            return self.deny_execute(answer);
        }
        running.bytes_in = portal.bytes_in + frame.as_bytes().len() as u64;
        let limit = most.map(|most| Limit::new(most, portal.returned()));
        let barrier = self.note(&statement);
        self.outcome_pending |= barrier;
        let executed = Executed { running: Some(running), denied: None, portal: Some(portal), limit, barrier };
        self.owed.push_back(Owed::Execute(Box::new(executed)));
        self.extended();
        match limit {
            Some(limit) => self.to_server.put(|out| put_execute(out, portal_name, limit.ask(wanted))),
            None => self.to_server.push(frame.as_bytes().clone()),
        }
        if limit.is_some() || statement.copying == Some(Copying::In) {
            self.hold_all = true;
            self.flush();
        }
        Ok(None)
    }

    /// A portal reads what its names meant when it was bound; only what has no plan of its own, such as COPY and EXECUTE, looks them up
    /// when it runs. Where the two differ both are asked, and what was bound counts.
    fn judge_portal(
        &mut self,
        bound: &Arc<Judged>,
        now: Arc<Judged>,
        came: Came<'_>,
    ) -> Result<Result<Arc<Judged>, Answer>, End> {
        if Arc::ptr_eq(bound, &now) {
            return Ok(Ok(now));
        }
        let looks_up = |judged: &Judged| {
            judged
                .statement()
                .is_some_and(|statement| matches!(statement.naming, Naming::Executes(_)) || statement.copying.is_some())
        };
        let (counts, other) = if looks_up(&now) { (now, Arc::clone(bound)) } else { (Arc::clone(bound), now) };
        let operations = other.statement().map(|statement| Arc::clone(&statement.operations));
        let denied = operations.map_or(Ok(None), |operations| self.preview(&other, &operations, came))?;
        Ok(denied.map_or(Ok(counts), Err))
    }

    pub(super) fn deny_execute(&mut self, answer: Answer) -> Handled {
        self.extended();
        self.to_server.put(|out| put_execute(out, answer.poison.as_bytes(), 0));
        self.owed.push_back(Owed::Execute(Box::new(Executed { denied: Some(answer), ..Executed::default() })));
        Ok(None)
    }

    fn close(&mut self, frame: &Frame) -> Handled {
        let (kind, closed) = messages::target(frame.body())?;
        let (key, change) = (name(closed), self.next_change());
        match kind {
            b'S' => self.statements.sent(key.clone(), change, self.segment, None),
            _ => self.portals.sent(key.clone(), change, self.segment, None),
        }
        self.send_extended(frame, Owed::Close { kind, name: key, change });
        Ok(None)
    }
}

pub(super) fn ends(statement: &MappedStatement) -> bool {
    !matches!(statement.transaction, Transaction::Stays | Transaction::Begins | Transaction::Savepoint)
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

pub(super) fn not_bounded(most: u64) -> SqlRefusal {
    let words = format!("only a single SELECT that writes nothing can be bounded to {most} rows by `@max_rows`");
    refusal("0A000", "max-rows", words)
}

/// What either may change.
pub(super) const fn both(first: Effects, second: Effects) -> Effects {
    Effects {
        settings: first.settings || second.settings,
        names: first.names || second.names,
        anything: first.anything || second.anything,
    }
}
