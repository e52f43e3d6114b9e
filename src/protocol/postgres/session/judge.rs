//! From a text to a judgement: mapped once for each world it is seen in, decided each time it runs.

use std::sync::Arc;

use super::cache::{self, World};
use super::deny::{Answer, denial};
use super::prepared::Texts;
use super::record::Running;
use super::session::{End, Session};
use crate::config::SqlInRecords;
use crate::enforce::{Denied, Exchange, Settlement, Statement};
use crate::mapping::Operations;
use crate::mapping::sql::{Cursor, Mapped, MappedStatement, Naming, SqlRefusal};

/// A text that was understood.
#[derive(Debug)]
pub(super) struct Judged {
    /// The text.
    pub(super) text: Arc<str>,
    /// What it asks.
    pub(super) mapped: Arc<Mapped>,
    /// Which statement of the text this is about.
    pub(super) index: usize,
    /// The world that it was understood in.
    pub(super) world: World,
}

impl Judged {
    /// The statement; none if the text has none.
    pub(super) fn statement(&self) -> Option<&MappedStatement> {
        self.mapped.statements.get(self.index)
    }
}

/// What comes of looking at a text.
pub(super) enum Look {
    /// It was understood.
    Judged(Arc<Judged>),
    /// It may not be sent.
    Refused(SqlRefusal),
    /// A newer catalogue may know better.
    NeedsCatalog,
}

/// How a statement came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Came<'a> {
    /// `simple`, `extended`, `function-call`.
    pub(super) protocol: &'static str,
    /// The name that it was prepared under; empty for none.
    pub(super) prepared: &'a [u8],
}

pub(super) const SIMPLE: Came<'static> = Came { protocol: "simple", prepared: b"" };

/// A refusal of the proxy's own.
pub(super) fn refusal(sqlstate: &'static str, rule: &'static str, message: impl Into<String>) -> SqlRefusal {
    SqlRefusal { sqlstate, rule, message: message.into(), position: None, stale: false }
}

/// What the parser says without the token that it stopped at, which may be a literal.
fn without_token(message: &str) -> &str {
    message.split_once(" at or near \"").map_or(message, |(words, _)| words)
}

impl Session {
    /// Understands a text in the world as it is now.
    pub(super) fn look(&mut self, text: &[u8]) -> Look {
        if text.len() > self.setup.statement_bytes {
            let most = self.setup.statement_bytes;
            return Look::Refused(refusal(
                "54000",
                "statement-too-long",
                format!("statement is longer than {most} bytes"),
            ));
        }
        let Ok(text) = str::from_utf8(text) else {
            return Look::Refused(refusal("0A000", "encoding", "statement is not UTF-8: it cannot be judged"));
        };
        let (Some(catalog), Some(facts)) = (&self.catalog, &self.facts) else { return Look::NeedsCatalog };
        let transaction_matters = self.in_transaction.any();
        let world = World { catalog: catalog.generation, facts: self.facts_number, transaction_matters };
        let safe = (self.setup.safe_key)(text);
        // What a walsender is told has another meaning elsewhere, so it has no part in what is kept.
        let shares = !self.setup.replicates;
        if shares && let Some(mapped) = cache::find(world, text, safe.as_deref()) {
            return Look::Judged(Arc::new(Judged { text: text.into(), mapped, index: 0, world }));
        }
        let texts = Texts {
            statements: &self.statements,
            cursors: &self.cursors,
            transaction_matters,
            asked: std::cell::Cell::new(false),
        };
        match (self.setup.map)(text, &self.setup.endpoint, catalog, facts, &texts) {
            Ok(mapped) => {
                let mapped = Arc::new(mapped);
                if shares && !texts.asked.get() {
                    cache::keep(world, text, safe, &mapped);
                }
                Look::Judged(Arc::new(Judged { text: text.into(), mapped, index: 0, world }))
            }
            // Read again once: the name may have come into being a moment ago.
            Err(refused) if refused.stale && !self.newest_catalog && !(self.private && self.status == b'E') => {
                Look::NeedsCatalog
            }
            Err(refused) => Look::Refused(refused),
        }
    }

    /// The same judgement, made anew if the world is another one by now.
    pub(super) fn look_again(&mut self, judged: &Arc<Judged>) -> Look {
        let generation = self.catalog.as_ref().map(|catalog| catalog.generation);
        // What EXECUTE stands for may have been prepared anew in the same world. What the transaction has changed matters only between the
        // statements of one text, and what is prepared has one.
        let by_name = judged.statement().is_some_and(|statement| matches!(statement.naming, Naming::Executes(_)));
        if !by_name && generation == Some(judged.world.catalog) && judged.world.facts == self.facts_number {
            return Look::Judged(Arc::clone(judged));
        }
        match self.look(judged.text.as_bytes()) {
            // The server has what was written when it was prepared.
            Look::Judged(again) if again.mapped.rewrites != judged.mapped.rewrites => {
                let words = "what this statement sets means something else by now: prepare it again";
                Look::Refused(refusal("0A000", "prepared-otherwise", words))
            }
            Look::Judged(again) if judged.index == 0 => Look::Judged(again),
            Look::Judged(again) => Look::Judged(Arc::new(Judged {
                text: Arc::clone(&judged.text),
                mapped: Arc::clone(&again.mapped),
                index: judged.index,
                world: again.world,
            })),
            other => other,
        }
    }

    /// What records tell of a statement.
    pub(super) fn exchange(&mut self, text: &Arc<str>, mapped: Option<&Mapped>, came: Came<'_>) -> Exchange {
        let text = match (self.setup.sql, mapped) {
            (SqlInRecords::Full, _) => Some(Arc::clone(text)),
            (SqlInRecords::Normalized, Some(mapped)) => Some(Arc::clone(&mapped.normalized)),
            // What was not understood cannot be told without its literals.
            (SqlInRecords::Normalized, None) | (SqlInRecords::Fingerprint, _) => None,
        };
        self.statement_number += 1;
        Exchange {
            token: None,
            started: self.now,
            request_id: Arc::clone(&self.setup.session),
            number: Some(self.statement_number),
            trace_id: None,
            method: None,
            statement: Some(Box::new(Statement {
                session: Arc::clone(&self.setup.session),
                text,
                fingerprint: mapped.map(|mapped| Arc::clone(&mapped.fingerprint)),
                transaction: self.transaction,
                protocol: came.protocol,
                prepared: (!came.prepared.is_empty()).then(|| String::from_utf8_lossy(came.prepared).into()),
            })),
        }
    }

    /// Asks the policies about one statement that is to run.
    pub(super) fn enforce(
        &mut self,
        judged: &Arc<Judged>,
        index: usize,
        came: Came<'_>,
    ) -> Result<Result<Running, Answer>, End> {
        let Some(statement) = judged.mapped.statements.get(index) else {
            return Err(End::out_of_step("no such statement"));
        };
        if let Cursor::Fetches(cursor) = &statement.cursor
            && let Some(declared) = self.cursors.get(cursor.as_bytes()).map(|cursor| Arc::clone(&cursor.judged))
            && let Some(statement) = declared.statement()
            && let Some(answer) = self.preview(&declared, &Arc::clone(&statement.operations), came)?
        {
            return Ok(Err(answer));
        }
        let kind = statement.kind;
        let exchange = self.exchange(&judged.text, Some(&judged.mapped), came);
        let policies = self.setup.point.policies_in_force();
        match self.setup.point.enforce_again(policies, &self.setup.asker, exchange, &statement.operations) {
            Ok(permit) => {
                Ok(Ok(Running::new(permit, Arc::clone(judged), index, Arc::clone(&self.setup.point.metrics))))
            }
            Err(denied) => Ok(Err(self.denied(denied, kind)?)),
        }
    }

    /// Asks the policies about a statement that is not to run yet.
    pub(super) fn preview(
        &mut self,
        judged: &Judged,
        operations: &Arc<Operations>,
        came: Came<'_>,
    ) -> Result<Option<Answer>, End> {
        let exchange = self.exchange(&judged.text, Some(&judged.mapped), came);
        let policies = self.setup.point.policies_in_force();
        match self.setup.point.preview(policies, &self.setup.asker, || exchange, operations) {
            Ok(()) => Ok(None),
            Err(denied) => {
                let kind = judged.statement().map_or("none", |statement| statement.kind);
                Ok(Some(self.denied(denied, kind)?))
            }
        }
    }

    /// Records a denial.
    fn denied(&self, denied: Denied, kind: &'static str) -> Result<Answer, End> {
        self.setup.point.metrics.sql_statement(kind, "denied", denied.exchange().started.elapsed());
        let answer = Answer::denied(denied.decision_id(), kind);
        denied
            .settle(&Settlement { sqlstate: Some(denial(kind).into()), ..Settlement::default() })
            .map_err(End::audit)?;
        Ok(answer)
    }

    /// Records that a text is not judged.
    pub(super) fn refuse(&mut self, text: &[u8], refused: &SqlRefusal, came: Came<'_>) -> Result<Answer, End> {
        let text: Arc<str> = String::from_utf8_lossy(text).into();
        let exchange = self.exchange(&text, None, came);
        let words = match self.setup.sql {
            SqlInRecords::Full => &*refused.message,
            SqlInRecords::Normalized | SqlInRecords::Fingerprint => without_token(&refused.message),
        };
        let denied = self.setup.point.refuse(&self.setup.asker, exchange, refused.rule, words.to_owned());
        self.setup.point.metrics.sql_statement("none", "refused", denied.exchange().started.elapsed());
        let answer = Answer::refused(denied.decision_id(), refused);
        denied
            .settle(&Settlement { sqlstate: Some(refused.sqlstate.into()), ..Settlement::default() })
            .map_err(End::audit)?;
        Ok(answer)
    }

    /// The same for a statement that had been permitted: its permit is given back.
    pub(super) fn refuse_permitted(&mut self, running: Running, refused: &SqlRefusal) -> Result<Answer, End> {
        let kind = running.statement().map_or("none", |statement| statement.kind);
        let permit = running.permit;
        self.setup.point.metrics.sql_statement(kind, "refused", permit.exchange().started.elapsed());
        let answer = Answer::refused(permit.decision_id(), refused);
        let settlement = Settlement {
            reason: Some(refused.rule),
            error: Some(refused.message.clone()),
            sqlstate: Some(refused.sqlstate.into()),
            ..Settlement::default()
        };
        permit.settle(&settlement).map_err(End::audit)?;
        Ok(answer)
    }
}
