//! What the server answers, message by message.

use super::deny::{self, Answer, IN_FAILED_TRANSACTION};
use super::messages;
use super::messages::put_bare;
use super::pipeline::Owed;
use super::prepared::Declared;
use super::query::both;
use super::record::{Outcome, Running};
use super::session::{End, Session};
use crate::mapping::sql::{Copying, Cursor, Effects, Naming, Transaction};
use crate::protocol::postgres::wire::{Frame, notice};

/// Rows and COPY data: passed on without being looked into.
const DATA: &[u8] = b"Dd";

impl Session {
    /// The server's next message; false if there is none yet.
    pub(super) fn answer(&mut self) -> Result<bool, End> {
        let broken = |cause: crate::protocol::postgres::wire::FrameError| End::out_of_step(&cause.to_string());
        let plain = match self.owed.front_mut() {
            Some(owed @ (Owed::Query(_) | Owed::Execute(_))) => owed.limit().is_none() && owed.denied().is_none(),
            _ => false,
        };
        if plain && let Some(passed) = self.from_server.pass(DATA).map_err(broken)? {
            if let Some(running) = self.owed.front_mut().and_then(Owed::running) {
                running.rows += passed.begun;
                running.bytes_out += passed.bytes.len() as u64;
                running.note_if_long(self.now).map_err(End::audit)?;
            }
            self.to_client.push(passed.bytes);
            return Ok(true);
        }
        let Some(frame) = self.from_server.next().map_err(broken)? else { return Ok(false) };
        self.take_answer(frame)?;
        Ok(true)
    }

    fn take_answer(&mut self, frame: Frame) -> Result<(), End> {
        let tag = frame.tag();
        match tag {
            b'N' | b'A' => self.to_client.push(frame.into_bytes()),
            b'S' => self.parameter(frame)?,
            _ if matches!(self.owed.front(), Some(Owed::Own)) => {
                if tag == b'E' && is_fatal(frame.body()) {
                    return self.error(frame);
                }
                self.own_answer(tag, frame.body())?;
            }
            b'E' => self.error(frame)?,
            b'Z' => self.ready(frame)?,
            b'1' | b'2' | b'3' => self.confirmed(frame)?,
            b'T' | b't' | b'n' => self.described(frame)?,
            b'D' | b'd' | b'c' | b'H' | b'G' if !self.owes_data() => return Err(End::out_of_step("data for nothing")),
            b'D' => self.limited_row(frame.into_bytes()),
            b'C' | b'I' | b's' => self.complete(frame)?,
            b'G' => {
                self.copying_in = true;
                self.hold_all = false;
                self.pass(frame);
            }
            b'W' => self.stream_begins(frame)?,
            b'V' => self.returned(frame)?,
            b'H' | b'c' | b'd' if self.owed.front_mut().is_some_and(|owed| owed.limit().is_some()) => {
                self.limited_copy(frame);
            }
            b'H' | b'c' | b'd' => self.pass(frame),
            other => return Err(End::out_of_step(&format!("a message of type {other}"))),
        }
        Ok(())
    }

    /// A statement was sent that may answer with data: a denied one was not, and nothing else does.
    fn owes_data(&mut self) -> bool {
        match self.owed.front_mut() {
            Some(owed @ (Owed::Query(_) | Owed::Execute(_))) => {
                owed.denied().is_none() || owed.limit().is_some_and(|limit| limit.exceeded)
            }
            _ => false,
        }
    }

    /// Passes a message on and counts it for the statement that it answers.
    fn pass(&mut self, frame: Frame) {
        let bytes = frame.into_bytes();
        if let Some(running) = self.owed.front_mut().and_then(Owed::running) {
            running.bytes_out += bytes.len() as u64;
        }
        self.to_client.push(bytes);
    }

    fn parameter(&mut self, frame: Frame) -> Result<(), End> {
        if let Some((name, value)) = messages::parameter(frame.body()) {
            if name == "standard_conforming_strings" && value != "on" {
                let words = "standard_conforming_strings is off: statements cannot be judged";
                return Err(End::refused("session-facts", "0A000", words));
            }
            if matches!(name, "client_encoding" | "session_authorization" | "search_path") {
                self.stale.settings = true;
            }
        }
        self.to_client.push(frame.into_bytes());
        Ok(())
    }

    /// ParseComplete, BindComplete, CloseComplete.
    fn confirmed(&mut self, frame: Frame) -> Result<(), End> {
        if let Some(Owed::Query(queried)) = self.owed.front()
            && queried.limit.is_some()
        {
            return Ok(());
        }
        match (frame.tag(), self.owed.pop_front()) {
            (b'1', Some(Owed::Parse { name, change, denied: None })) => self.statements.confirm(&name, change),
            (b'2', Some(Owed::Bind { portal, change, denied: None })) => self.portals.confirm(&portal, change),
            (b'3', Some(Owed::Close { kind: b'S', name, change })) => self.statements.confirm(&name, change),
            (b'3', Some(Owed::Close { name, change, .. })) => {
                self.portals.confirm(&name, change);
                self.cursors.forget(&name);
            }
            _ => return Err(End::out_of_step("something else was confirmed")),
        }
        self.to_client.push(frame.into_bytes());
        Ok(())
    }

    /// ParameterDescription, RowDescription, NoData.
    fn described(&mut self, frame: Frame) -> Result<(), End> {
        match self.owed.front() {
            // After ParameterDescription comes one of the others.
            Some(Owed::Describe) if frame.tag() != b't' => drop(self.owed.pop_front()),
            Some(Owed::Describe) => {}
            Some(Owed::Query(queried)) if queried.limit.is_some() && frame.tag() == b'n' => return Ok(()),
            Some(Owed::Query(_) | Owed::Execute(_)) => {}
            _ => return Err(End::out_of_step("something else was described")),
        }
        self.pass(frame);
        Ok(())
    }

    /// CommandComplete, EmptyQueryResponse, PortalSuspended.
    fn complete(&mut self, frame: Frame) -> Result<(), End> {
        if self.owed.front_mut().and_then(Owed::limit).is_some_and(|limit| limit.exceeded) {
            return self.too_many_rows();
        }
        let length = frame.as_bytes().len() as u64;
        let mut capped = None;
        let outcome = match frame.tag() {
            b's' => Outcome::Suspended,
            b'I' => Outcome::Complete(""),
            _ => Outcome::Complete(messages::tag(frame.body())),
        };
        match self.owed.front_mut() {
            Some(Owed::Query(queried)) if queried.denied.is_none() => {
                let converted = queried.limit.is_some();
                let is_command = queried.running.front().is_some_and(Running::is_replication);
                if let (true, Some(running), Outcome::Complete(tag)) =
                    (is_command, queried.running.front_mut(), outcome)
                {
                    running.bytes_out += length;
                    queried.command = Some(tag.into());
                } else if let Some(mut running) = queried.running.pop_front() {
                    running.bytes_out += length;
                    capped = running.capped();
                    self.succeeded(&running, outcome);
                    self.unwritten.add(running.settle(outcome, self.now), self.to_client.len());
                }
                if converted {
                    self.to_server.put(|out| put_bare(out, b'S'));
                }
            }
            Some(Owed::Execute(executed)) if executed.denied.is_none() => {
                let (barrier, all) = (executed.barrier, executed.limit.is_some());
                if let (Some(portal), Some(running)) = (&executed.portal, &executed.running) {
                    portal.count(running.rows);
                }
                let running = executed.running.take();
                self.owed.pop_front();
                self.release(barrier, all);
                if let Some(mut running) = running {
                    running.bytes_out += length;
                    capped = running.capped();
                    let effects = running.statement().map(|statement| statement.effects).unwrap_or_default();
                    self.stale = both(self.stale, effects);
                    self.succeeded(&running, outcome);
                    self.unwritten.add(running.settle(outcome, self.now), self.to_client.len());
                }
            }
            _ => return Err(End::out_of_step("something else was completed")),
        }
        self.copying_in = false;
        self.streaming = false;
        if let Some(words) = capped {
            self.to_client.put(|out| notice(out, &words));
        }
        self.to_client.push(frame.into_bytes());
        Ok(())
    }

    /// CopyBothResponse: a stream, which may go on for as long as both sides like.
    fn stream_begins(&mut self, frame: Frame) -> Result<(), End> {
        let running = self.owed.front_mut().and_then(Owed::running);
        let Some(running) = running.filter(|running| running.copies() == Some(Copying::Both)) else {
            return Err(End::out_of_step("no replication was permitted"));
        };
        running.note().map_err(End::audit)?;
        self.streaming = true;
        self.hold_all = false;
        // It is no transaction: how long it goes on is not limited.
        self.transaction_since = None;
        self.pass(frame);
        Ok(())
    }

    /// FunctionCallResponse.
    fn returned(&mut self, frame: Frame) -> Result<(), End> {
        let Some(Owed::Query(queried)) = self.owed.front_mut() else {
            return Err(End::out_of_step("a function returned"));
        };
        if let Some(mut running) = queried.running.pop_front() {
            running.bytes_out += frame.as_bytes().len() as u64;
            self.unwritten.add(running.settle(Outcome::Suspended, self.now), self.to_client.len());
        }
        self.to_client.push(frame.into_bytes());
        Ok(())
    }

    /// What a statement that has succeeded changes of names and of the transaction.
    fn succeeded(&mut self, running: &Running, outcome: Outcome<'_>) {
        let Some(statement) = running.statement() else { return };
        if !matches!(outcome, Outcome::Complete(_)) {
            return;
        }
        let judged = || {
            std::sync::Arc::new(super::judge::Judged {
                text: std::sync::Arc::clone(&running.judged.text),
                mapped: std::sync::Arc::clone(&running.judged.mapped),
                index: running.index(),
                world: running.judged.world,
            })
        };
        match &statement.naming {
            Naming::None | Naming::Executes(_) => {}
            Naming::Prepares(name) => self.statements.set(messages::name(name.as_bytes()), judged()),
            Naming::Forgets(name) => self.statements.forget(&messages::name(name.as_bytes())),
            Naming::ForgetsAll => self.statements.clear(),
        }
        match &statement.cursor {
            Cursor::None | Cursor::Fetches(_) => {}
            Cursor::Declares { name, holds } => {
                let declared = Declared { judged: judged(), holds: *holds };
                self.cursors.set(messages::name(name.as_bytes()), std::sync::Arc::new(declared));
            }
            Cursor::Closes(name) => {
                self.cursors.forget(&messages::name(name.as_bytes()));
                self.portals.forget(&messages::name(name.as_bytes()));
            }
            Cursor::ClosesAll => {
                self.cursors.clear();
                self.portals.clear();
            }
        }
        match statement.transaction {
            Transaction::Stays | Transaction::Savepoint => {}
            Transaction::Begins | Transaction::RollsBackTo => self.status = b'T',
            Transaction::Commits { chain } | Transaction::RollsBack { chain } => {
                self.status = if chain { b'T' } else { b'I' };
                self.transaction_ended();
                self.transaction_since = self.transaction_since.map(|_| self.now);
            }
        }
        if statement.transaction == Transaction::RollsBackTo {
            self.stale = both(self.stale, self.in_transaction);
        }
    }

    /// What a transaction has changed is there for all, or gone.
    fn transaction_ended(&mut self) {
        let changed = self.in_transaction;
        self.stale = both(self.stale, changed);
        // What has been sent since belongs to the next one. It is looked through only if there is anything to find.
        if changed.any() {
            let later = self.owed.iter().flat_map(Owed::all_running).filter_map(Running::statement);
            self.in_transaction = later.fold(Effects::default(), |all, statement| both(all, statement.effects));
        }
        self.portals.clear();
        self.cursors.retain(|cursor| cursor.holds);
        // While there are temporary tables only the session itself sees all that there is.
        let has_temp = self.facts.as_ref().is_some_and(|facts| facts.temp_schema.is_some());
        if self.private && (!has_temp || changed.names || changed.anything) {
            self.private = false;
            self.catalog_until = None;
            self.stale.names = true;
        }
    }

    fn error(&mut self, frame: Frame) -> Result<(), End> {
        let sqlstate: Box<str> = deny::field(frame.body(), b'C').unwrap_or("XX000").into();
        let fatal = is_fatal(frame.body());
        self.copying_in = false;
        self.streaming = false;
        self.server_said_goodbye |= fatal;
        let cut = if fatal { None } else { self.cut_off() };
        let told = if cut.is_some() { cut } else { self.tell(&frame, &sqlstate) };
        let instead = told.as_ref().map_or(&*sqlstate, Answer::sqlstate);
        let whole = self.may_be_told_detail(&sqlstate, frame.body());
        if self.status == b'T' {
            self.status = b'E';
        }
        match self.owed.front_mut() {
            Some(Owed::Query(queried)) => {
                let converted = queried.limit.is_some() && queried.denied.is_none();
                let mut running = std::mem::take(&mut queried.running).into_iter();
                if let Some(mut failed) = running.next() {
                    failed.bytes_out += frame.as_bytes().len() as u64;
                    self.unwritten.add(failed.settle(Outcome::Failed(instead), self.now), self.to_client.len());
                }
                for never in running {
                    self.unwritten.add(
                        never.settle(Outcome::BrokenOff("an earlier statement of the text failed"), self.now),
                        self.to_client.len(),
                    );
                }
                if converted && !fatal {
                    self.to_server.put(|out| put_bare(out, b'S'));
                }
            }
            Some(Owed::Sync { .. } | Owed::Own) | None => {}
            Some(owed) => {
                if let Owed::Execute(executed) = owed
                    && let Some(mut failed) = executed.running.take()
                {
                    failed.bytes_out += frame.as_bytes().len() as u64;
                    self.unwritten.add(failed.settle(Outcome::Failed(instead), self.now), self.to_client.len());
                }
                self.skip_to_sync()?;
            }
        }
        match told {
            Some(answer) => self.to_client.put(|out| answer.put(out)),
            None if !whole => {
                self.to_client.put(|out| deny::put_without_detail(out, frame.body()));
            }
            None => self.to_client.push(frame.into_bytes()),
        }
        Ok(())
    }

    /// The words in place of the server's, if they are to be others.
    fn tell(&self, frame: &Frame, sqlstate: &str) -> Option<Answer> {
        let answer = self.owed.front()?.denied()?;
        if !answer.caused(frame.body()) || sqlstate == IN_FAILED_TRANSACTION {
            return None;
        }
        // The server looks for a portal before it looks at the transaction, so it does not say so itself.
        let instead = self.status == b'E' && answer.is_decision();
        Some(if instead { Answer::in_failed_transaction() } else { answer.clone() })
    }

    fn ready(&mut self, frame: Frame) -> Result<(), End> {
        let status = status(frame.body())?;
        self.copying_in = false;
        self.streaming = false;
        match self.owed.pop_front() {
            Some(Owed::Sync { barrier }) => self.release(barrier, false),
            Some(Owed::Query(queried)) => {
                self.statements.confirm(b"", queried.change);
                self.portals.confirm(b"", queried.change);
                self.stale = both(self.stale, queried.effects);
                let outcome = match &queried.command {
                    Some(tag) => Outcome::Complete(tag),
                    None => Outcome::BrokenOff("the server did not tell its outcome"),
                };
                for running in queried.running {
                    self.unwritten.add(running.settle(outcome, self.now), self.to_client.len());
                }
                self.release(queried.barrier, true);
            }
            _ => return Err(End::out_of_step("it was not to be ready")),
        }
        self.status = status;
        if status == b'I' {
            self.transaction_ended();
            self.transaction_since = self.has_running().then_some(self.now);
        }
        if self.owed.is_empty() {
            self.in_block = status != b'I';
        }
        self.idle_since = self.now;
        self.to_client.push(frame.into_bytes());
        Ok(())
    }
}

/// The state of the transaction in a ReadyForQuery.
pub(super) fn status(body: &[u8]) -> Result<u8, End> {
    match body {
        [status @ (b'I' | b'T' | b'E')] => Ok(*status),
        _ => Err(End::out_of_step("ready in no state that there is")),
    }
}

fn is_fatal(body: &[u8]) -> bool {
    matches!(deny::field(body, b'V'), Some("FATAL" | "PANIC"))
}
