//! What the proxy asks in the client's session: extended messages with reserved names, closed at once, their answers swallowed.
//!
//! With Sync only between transactions: within one it would commit half of a pipeline, and Flush asks as well. A walsender takes simple
//! queries only, one at a time: there is no unnamed statement that they could destroy.

use std::sync::Arc;

use super::facts::{self, QUESTIONS, TEMP_SCHEMA};
use super::messages::{self, put_bare, put_bind, put_execute, put_parse, put_query, put_target};
use super::pipeline::Owed;
use super::session::{End, Session};
use super::setup::{Reading, Rows};
use crate::mapping::sql::Effects;
use crate::mapping::sql::catalog::{Catalog, CatalogRows};

/// A question that is under way.
#[derive(Debug)]
pub(super) struct Own {
    purpose: Purpose,
    /// Whether its Sync ends it.
    synced: bool,
    answers: Vec<Rows>,
    current: Rows,
    /// It was asked by simple queries.
    simple: bool,
    /// How many CloseCompletes, or ReadyForQuery of simple queries, are still to come.
    closing: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Facts { names: bool },
    Catalog,
}

/// How the catalogue is read in the session itself: by the same queries as from outside.
pub(super) fn reading() -> Reading {
    Reading { queries: Catalog::QUERIES.iter().map(|(_, text)| *text).collect(), read: build }
}

fn build(answers: &[Rows]) -> Result<Catalog, String> {
    let mut rows = CatalogRows::default();
    for ((reading, _), answers) in Catalog::QUERIES.iter().zip(answers) {
        for row in answers {
            let text = |value: &Option<bytes::Bytes>| {
                value.as_ref().map(|value| str::from_utf8(value).map(str::to_owned)).transpose()
            };
            let values: Result<Vec<Option<String>>, _> = row.iter().map(text).collect();
            let values = values.map_err(|cause| cause.to_string())?;
            let values: Vec<Option<&str>> = values.iter().map(Option::as_deref).collect();
            rows.push(*reading, &values).map_err(|cause| cause.to_string())?;
        }
    }
    Catalog::build(rows).map_err(|cause| cause.to_string())
}

impl Session {
    /// Asks the facts.
    pub(super) fn ask_facts(&mut self) {
        let names = self.stale.names || self.stale.anything;
        let mut questions: Vec<&'static str> = QUESTIONS.to_vec();
        if names {
            questions.push(TEMP_SCHEMA);
        }
        self.ask(&questions, Purpose::Facts { names });
    }

    fn ask(&mut self, questions: &[&'static str], purpose: Purpose) {
        let synced = self.is_between_messages();
        let simple = self.setup.replicates;
        let name = Self::reserved_name();
        self.to_server.put(|out| {
            if simple {
                questions.iter().for_each(|question| put_query(out, question));
                return;
            }
            for question in questions {
                put_parse(out, name.as_bytes(), question);
                put_bind(out, name.as_bytes(), name.as_bytes());
                put_execute(out, name.as_bytes(), 0);
                put_target(out, b'C', b'P', name.as_bytes());
                put_target(out, b'C', b'S', name.as_bytes());
            }
            put_bare(out, if synced { b'S' } else { b'H' });
        });
        self.unflushed = false;
        self.owed.push_back(Owed::Own);
        let closing = if simple { questions.len() } else { questions.len() * 2 };
        self.own = Some(Own { purpose, synced, answers: Vec::new(), current: Rows::new(), simple, closing });
    }

    /// No transaction is open and no message of the client's stands before its Sync.
    pub(super) fn is_between_messages(&self) -> bool {
        self.status == b'I' && self.owed.is_empty() && !self.pipeline_open
    }

    /// A message of the server's that answers a question of ours.
    pub(super) fn own_answer(&mut self, tag: u8, body: &[u8]) -> Result<(), End> {
        let Some(own) = &mut self.own else { return Err(End::out_of_step("nothing was asked")) };
        match tag {
            b'1' | b'2' => {}
            b'T' if own.simple => {}
            b'D' => own.current.push(messages::row(body).ok_or_else(|| End::out_of_step("a row"))?),
            b'C' => own.answers.push(std::mem::take(&mut own.current)),
            b'3' => {
                own.closing = own.closing.saturating_sub(1);
                if own.closing == 0 && !own.synced {
                    return self.asked();
                }
            }
            b'Z' if own.simple => {
                own.closing = own.closing.saturating_sub(1);
                self.status = body.first().copied().unwrap_or(b'I');
                if own.closing == 0 {
                    return self.asked();
                }
            }
            b'Z' if own.closing == 0 && own.synced => {
                self.status = body.first().copied().unwrap_or(b'I');
                return self.asked();
            }
            b'E' => {
                let words = "the session could not be asked for its settings: statements cannot be judged";
                return Err(End::Failed { sqlstate: "0A000", message: words.into() });
            }
            _ => return Err(End::out_of_step("the answer to a question of the proxy's own")),
        }
        Ok(())
    }

    /// The server ignores the question: it is to be asked again.
    pub(super) fn not_asked(&mut self) {
        let Some(own) = self.own.take() else { return };
        self.stale.settings = true;
        self.stale.names |= own.purpose != Purpose::Facts { names: false };
    }

    /// All answers are there.
    fn asked(&mut self) -> Result<(), End> {
        self.owed.pop_front();
        let Some(own) = self.own.take() else { return Ok(()) };
        match own.purpose {
            Purpose::Facts { names } => self.facts_answered(&own.answers, names, own.synced)?,
            Purpose::Catalog => self.catalog_answered(&own.answers)?,
        }
        if let Some(ready) = self.first_ready.take() {
            self.to_client.push(ready);
        }
        Ok(())
    }

    fn facts_answered(&mut self, answers: &[Rows], names: bool, between: bool) -> Result<(), End> {
        let first = |rows: &Rows| rows.first().and_then(|row| row.first().cloned()).flatten();
        let settings: Vec<_> = answers.iter().take(QUESTIONS.len()).map(first).collect();
        let temp = names.then(|| answers.get(QUESTIONS.len()).and_then(first));
        let temp = match &temp {
            Some(Some(name)) => Some(Some(str::from_utf8(name).map_err(|_| End::out_of_step("a temporary schema"))?)),
            Some(None) => Some(None),
            None => None,
        };
        let facts = facts::read(&settings, temp, self.facts.as_deref(), self.setup.utf8_server, self.setup.caps)
            .map_err(|why| End::refused("session-facts", "0A000", why.0))?;
        let has_temp = facts.temp_schema.is_some();
        self.set_facts(facts);
        self.stale = Effects::default();
        if names {
            // What others see too is read from outside; what only this session sees, in it.
            match &self.setup.reading {
                Some(reading) if !between || has_temp => {
                    let queries = reading.queries.clone();
                    self.ask(&queries, Purpose::Catalog);
                }
                _ => self.want_newest = true,
            }
        }
        Ok(())
    }

    fn catalog_answered(&mut self, answers: &[Rows]) -> Result<(), End> {
        let Some(reading) = &self.setup.reading else { return Ok(()) };
        let catalog = (reading.read)(answers).map_err(|cause| End::Failed {
            sqlstate: "0A000",
            message: format!("the catalogue could not be read: {cause}"),
        })?;
        self.catalog = Some(Arc::new(catalog));
        self.private = true;
        self.catalog_until = Some(self.now + self.setup.catalog_max_age);
        Ok(())
    }
}
