//! The extended protocol: Parse, Bind, Execute and Close.

use std::sync::Arc;

use super::client::{Handled, Wait};
use super::deny::Answer;
use super::judge::{Came, Judged, Look, refusal};
use super::messages::{self, name, name_part, put_bind, put_execute, put_parse, put_parse_again};
use super::pipeline::{Executed, Owed, Portal};
use super::prepared::Meaning;
use super::query::not_bounded;
use super::rows::Limit;
use super::session::{End, Session};
use crate::mapping::sql::{Copying, Naming};
use crate::protocol::postgres::wire::Frame;

/// What becomes of a Bind.
enum Bound {
    Judged(Arc<Judged>),
    Denied(Answer),
    NeedsCatalog,
}

impl Session {
    pub(super) fn parse(&mut self, frame: &Frame) -> Handled {
        let (statement, text) = messages::parse(frame.body())?;
        self.note_activity();
        let key = name(statement);
        let came = Came { protocol: "extended", prepared: statement };
        let answer = match self.look(text) {
            Look::NeedsCatalog => return Ok(Some(Wait::Catalog)),
            Look::Refused(_) if self.is_blind() => Answer::in_failed_transaction(),
            Look::Refused(refused) => self.refuse(text, &refused, came)?,
            Look::Judged(judged) if self.only_the_end(&judged) => Answer::in_failed_transaction(),
            Look::Judged(judged) if let Some(full) = self.no_room_for_statement(&key, &judged) => {
                match self.refuse_full(&judged.text, &full, came)? {
                    Some(answer) => answer,
                    None => return Ok(Some(Wait::Answers)),
                }
            }
            Look::Judged(judged) => match self.preview_prepared(&judged, came)? {
                Some(answer) => answer,
                None => {
                    let change = self.next_change();
                    let rewritten = self.rewritten(&judged)?;
                    self.statements.sent(key.clone(), change, self.segment, Some(judged));
                    let owed = Owed::Parse { name: key, change, denied: None };
                    match rewritten {
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
        match self.statements.meaning(name_part(statement), self.segment) {
            Meaning::Unknown => Ok(Some(Wait::Answers)),
            Meaning::Is(judged) => {
                let judged = match self.judge_bound(judged, name_part(statement))? {
                    Bound::Judged(judged) => judged,
                    Bound::NeedsCatalog => return Ok(Some(Wait::Catalog)),
                    Bound::Denied(answer) => return self.deny_bind(portal, answer),
                };
                let made = Portal::new(judged, name(statement), frame.as_bytes().len() as u64);
                if let Some(full) = self.no_room_for_portal(&key, &made) {
                    let came = Came { protocol: "extended", prepared: statement };
                    return match self.refuse_full(&made.judged.text, &full, came)? {
                        Some(answer) => self.deny_bind(portal, answer),
                        None => Ok(Some(Wait::Answers)),
                    };
                }
                let change = self.next_change();
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
    fn judge_bound(&mut self, judged: Arc<Judged>, statement: &[u8]) -> Result<Bound, End> {
        // In a failed transaction the server binds nothing but its end.
        if self.status == b'E' {
            return Ok(Bound::Judged(judged));
        }
        let came = Came { protocol: "extended", prepared: statement };
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
        let key = name_part(portal_name);
        let portal = match self.portals.meaning(key, self.segment) {
            Meaning::Unknown => return Ok(Some(Wait::Answers)),
            Meaning::Is(portal) => portal,
            Meaning::Nothing => match self.cursors.get(key) {
                Some(declared) => Arc::new(Portal::new(Arc::clone(&declared.judged), Box::default(), 0)),
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
        let Some(statement) = judged.statement() else {
            self.send_extended(frame, Owed::Execute(Box::default()));
            return Ok(None);
        };
        if !self.setup.point.records_can_be_written() {
            return Err(End::unrecordable());
        }
        if let Some(full) = self.no_room_for_names_of(&judged) {
            return match self.refuse_full(&judged.text, &full, came)? {
                Some(answer) => self.deny_execute(answer),
                None => Ok(Some(Wait::Answers)),
            };
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
        let limit = most.map(|most| Limit::of(most, portal.returned(), statement));
        let barrier = self.note(statement);
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

    pub(super) fn close(&mut self, frame: &Frame) -> Handled {
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
