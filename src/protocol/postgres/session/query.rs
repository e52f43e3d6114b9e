//! Simple queries: every statement of a text, or none.

use std::sync::Arc;

use super::client::{Handled, Wait};
use super::deny::Answer;
use super::judge::{Came, Judged, Look, SIMPLE, refusal};
use super::messages::{self, put_query};
use super::pipeline::{Owed, Queried};
use super::record::{Outcome, Running};
use super::rows::Limit;
use super::session::{End, Session};
use crate::mapping::sql::{Copying, Cursor, Effects, MappedStatement, Naming, Rewrite, SqlRefusal, Transaction};
use crate::protocol::postgres::settings::application_name;
use crate::protocol::postgres::wire::Frame;

impl Session {
    pub(super) fn query(&mut self, frame: &Frame) -> Handled {
        let text = messages::query(frame.body())?;
        self.note_activity();
        let judged = match self.look(text) {
            Look::NeedsCatalog => return Ok(Some(Wait::Catalog)),
            Look::Refused(_) if self.is_blind() => return self.deny_query(Answer::in_failed_transaction()),
            Look::Refused(refused) => {
                let answer = self.refuse(text, &refused, SIMPLE)?;
                return self.deny_query(answer);
            }
            Look::Judged(judged) if self.only_the_end(&judged) => {
                return self.deny_query(Answer::in_failed_transaction());
            }
            Look::Judged(judged) => judged,
        };
        if let Some(full) = self.no_room_for_names_of(&judged) {
            return match self.refuse_full(&judged.text, &full, SIMPLE)? {
                Some(answer) => self.deny_query(answer),
                None => Ok(Some(Wait::Answers)),
            };
        }
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
                        self.unwritten.add(
                            running.settle(Outcome::BrokenOff("another statement of the text is denied"), self.now),
                            self.to_client.len(),
                        );
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
                [only] if only.only_reads => limit = Some(Limit::of(most, 0, only)),
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
                let text = self.rewritten(judged)?.map_or_else(|| Arc::clone(&judged.text), Into::into);
                self.put_limited_query(&text, limit);
            }
            None => match self.rewritten(judged)? {
                Some(text) if frame.tag() == b'Q' => self.to_server.put(|out| put_query(out, &text)),
                _ => self.to_server.push(frame.as_bytes().clone()),
            },
        }
        self.owed.push_back(Owed::Query(Box::new(queried)));
        Ok(None)
    }

    /// The text with the proxy's part of `application_name` in front of the client's, where it sets that, and timeouts at their caps.
    pub(super) fn rewritten(&self, judged: &Judged) -> Result<Option<String>, End> {
        let rewrites = judged.mapped.rewrites.as_slice();
        if rewrites.is_empty() {
            return Ok(None);
        }
        let id = self.setup.asker.peer().id();
        let rewritten = Rewrite::written(rewrites, &judged.text, |own| application_name(id, own));
        rewritten.map(Some).ok_or_else(|| End::out_of_step("the text of a judgement is another one"))
    }

    /// Takes note of what a statement that is being sent may change: whether others have to wait for its outcome.
    pub(super) fn note(&mut self, statement: &MappedStatement) -> bool {
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
        let change = self.drop_unnamed();
        self.owed.push_back(Owed::Query(Box::new(Queried { denied: Some(answer), change, ..Queried::default() })));
        Ok(None)
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
}

pub(super) fn ends(statement: &MappedStatement) -> bool {
    !matches!(statement.transaction, Transaction::Stays | Transaction::Begins | Transaction::Savepoint)
}

pub(super) fn not_bounded(most: u64) -> SqlRefusal {
    let words = format!(
        "only a single SELECT or COPY TO STDOUT that writes nothing can be bounded to {most} rows by `@max_rows`"
    );
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
