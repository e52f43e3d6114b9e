//! What the proxy asks in the client's session: extended messages with reserved names, closed at once, their answers swallowed.
//!
//! With Sync only between transactions: within one it would commit half of a pipeline, and Flush asks as well. A walsender takes simple
//! queries only, one at a time: there is no unnamed statement that they could destroy.

use std::sync::Arc;

use bytes::Bytes;

use super::facts::{self, QUESTIONS, TEMP_SCHEMA};
use super::messages::{self, put_bare, put_bind, put_execute, put_parse, put_query, put_target};
use super::pipeline::Owed;
use super::session::{End, Session};
use super::setup::{Reading, Rows};
use crate::mapping::sql::Effects;
use crate::mapping::sql::catalog::{Catalog, CatalogRows, Fingerprint, Part};

/// A bound that is never reached. Rows that might be fetched in several goes are not gathered from parallel workers, which the client's settings
/// may call for however small a table is, and starting them takes longer than all the rest.
///
/// # Source
/// `exec_execute_message` in postgres.c (`run_once`), `ExecutePlan` in execMain.c.
const NEVER_PARALLEL: u32 = i32::MAX.unsigned_abs();

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
    Facts {
        names: bool,
    },
    /// Whether the catalogue at hand still holds.
    Fingerprint,
    Catalog {
        whole: bool,
    },
}

/// How the catalogue is read in the session itself: by the same queries as from outside, between two looks at the fingerprint. They may be of
/// several snapshots.
pub(super) fn reading() -> Reading {
    let between = |parts: &[Part]| {
        let texts = parts.iter().flat_map(|part| part.queries()).map(|(_, text)| &**text);
        [Fingerprint::query()].into_iter().chain(texts).chain([Fingerprint::foreign_query()]).collect()
    };
    Reading { whole: between(&[Part::BuiltIn, Part::Foreign]), foreign: between(&[Part::Foreign]), read: build }
}

fn build(before: Option<&Arc<Catalog>>, answers: &[Rows]) -> Result<Option<Arc<Catalog>>, String> {
    let (Some((first, rest)), Some(last)) = (answers.split_first(), answers.last()) else { return Ok(None) };
    let first = fingerprint(first)?;
    let last = last.first().and_then(|row| row.first()).and_then(Option::as_ref).map(text).transpose()?;
    // Something of others' came in between: what was read is true of no moment, and is not to be taken for it later.
    let now = if last == Some(&*first.foreign) { first } else { Fingerprint { foreign: "".into(), ..first } };
    let Some(before) = before else {
        let (built_in, foreign) = rest.split_at_checked(Part::BuiltIn.queries().len()).unwrap_or_default();
        let (built_in, foreign) = (rows(Part::BuiltIn, built_in)?, rows(Part::Foreign, foreign)?);
        let catalog = Catalog::build_parts(built_in, foreign, now).map_err(|cause| cause.to_string())?;
        return Ok(Some(Arc::new(catalog)));
    };
    if before.fingerprint.is_still(&now) {
        return Ok(Some(Arc::clone(before)));
    }
    let catalog = before.built_over(rows(Part::Foreign, rest)?, now).map_err(|cause| cause.to_string())?;
    Ok(catalog.map(Arc::new))
}

fn fingerprint(answer: &Rows) -> Result<Fingerprint, String> {
    match answer.first().map(Vec::as_slice) {
        Some([Some(built_in), Some(foreign)]) => {
            Ok(Fingerprint { built_in: text(built_in)?.into(), foreign: text(foreign)?.into() })
        }
        _ => Err("the server did not say whether it has changed".into()),
    }
}

fn rows(part: Part, answers: &[Rows]) -> Result<CatalogRows, String> {
    let mut rows = CatalogRows::default();
    for ((reading, _), answers) in part.queries().iter().zip(answers) {
        for row in answers {
            let values = row.iter().map(|value| value.as_ref().map(text).transpose());
            let values: Vec<Option<&str>> = values.collect::<Result<_, _>>()?;
            rows.push(*reading, &values).map_err(|cause| cause.to_string())?;
        }
    }
    Ok(rows)
}

fn text(value: &Bytes) -> Result<&str, String> {
    str::from_utf8(value).map_err(|cause| cause.to_string())
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
                put_execute(out, name.as_bytes(), NEVER_PARALLEL);
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
            Purpose::Fingerprint => self.fingerprint_answered(&own.answers)?,
            Purpose::Catalog { whole } => self.catalog_answered(&own.answers, whole)?,
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
        let defined = self.stale.names;
        self.stale = Effects::default();
        if names {
            // What others see too is read from outside; what only this session sees, in it.
            match &self.setup.reading {
                Some(_) if !between || has_temp => match self.catalog.as_ref().map(|known| &known.built_in) {
                    // Code that nobody has judged has run, or time has passed: mostly nothing has changed.
                    Some(Some(_)) if !defined => self.ask(&[Fingerprint::query()], Purpose::Fingerprint),
                    Some(Some(_)) => self.ask_catalog(false),
                    _ => self.ask_catalog(true),
                },
                _ => self.want_newest = true,
            }
        }
        Ok(())
    }

    fn fingerprint_answered(&mut self, answers: &[Rows]) -> Result<(), End> {
        let now = answers.first().map(fingerprint).transpose().map_err(unreadable)?.unwrap_or_default();
        if self.catalog.as_ref().is_some_and(|known| known.fingerprint.is_still(&now)) {
            self.private = true;
            self.catalog_until = Some(self.now + self.setup.catalog_max_age);
        } else {
            self.ask_catalog(false);
        }
        Ok(())
    }

    fn ask_catalog(&mut self, whole: bool) {
        let setup = Arc::clone(&self.setup);
        if let Some(reading) = &setup.reading {
            let queries = if whole { &reading.whole } else { &reading.foreign };
            self.ask(queries, Purpose::Catalog { whole });
        }
    }

    fn catalog_answered(&mut self, answers: &[Rows], whole: bool) -> Result<(), End> {
        let Some(reading) = &self.setup.reading else { return Ok(()) };
        let before = self.catalog.as_ref().filter(|_| !whole);
        let catalog = (reading.read)(before, answers).map_err(unreadable)?;
        match catalog {
            None => self.ask_catalog(true),
            Some(catalog) => {
                self.catalog = Some(catalog);
                self.private = true;
                self.catalog_until = Some(self.now + self.setup.catalog_max_age);
            }
        }
        Ok(())
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(cause: String) -> End {
    End::Failed { sqlstate: "0A000", message: format!("the catalogue could not be read: {cause}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Rows {
        vec![values.iter().map(|value| Some(Bytes::copy_from_slice(value.as_bytes()))).collect()]
    }

    /// The answers to all queries about these parts of an empty database.
    fn answers(parts: &[Part], first: &[&str; 2], last: &str) -> Vec<Rows> {
        let mut all = vec![row(first)];
        for part in parts {
            all.extend(part.queries().iter().map(|(reading, _)| match reading {
                crate::mapping::sql::catalog::Reading::Database => row(&["shop", "10", "150018"]),
                _ => Rows::new(),
            }));
        }
        all.push(row(&[last]));
        assert!([reading().whole.len(), reading().foreign.len()].contains(&all.len()));
        all
    }

    fn again(before: &Arc<Catalog>, first: &[&str; 2], last: &str) -> Option<Arc<Catalog>> {
        build(Some(before), &answers(&[Part::Foreign], first, last)).unwrap()
    }

    #[test]
    fn a_catalogue_that_has_not_changed_is_the_same_one() {
        let both = [Part::BuiltIn, Part::Foreign];
        let first = build(None, &answers(&both, &["b", "f"], "f")).unwrap().unwrap();
        assert!(Arc::ptr_eq(&first, &again(&first, &["b", "f"], "f").unwrap()));
        let second = again(&first, &["b", "g"], "g").unwrap();
        assert_ne!(second.generation, first.generation);
        assert!(again(&first, &["c", "f"], "f").is_none(), "what came with the server has changed");
    }

    #[test]
    fn what_changed_while_it_was_read_is_not_taken_for_anything_later() {
        let both = [Part::BuiltIn, Part::Foreign];
        let first = build(None, &answers(&both, &["b", "f"], "f")).unwrap().unwrap();
        let torn = again(&first, &["b", "g"], "h").unwrap();
        for now in ["g", "h"] {
            assert_ne!(again(&torn, &["b", now], now).unwrap().generation, torn.generation, "{now}");
        }
    }
}
