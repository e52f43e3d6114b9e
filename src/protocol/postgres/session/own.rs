//! What the proxy asks in the client's session: extended messages with reserved names, closed at once, their answers swallowed.
//!
//! With Sync only between transactions: within one it would commit half of a pipeline, and Flush asks as well. A walsender takes simple
//! queries only, one at a time: there is no unnamed statement that they could destroy.

use std::sync::Arc;

use bytes::Bytes;

use super::facts::{self, QUESTIONS, TEMP_SCHEMA};
use super::messages::{self, put_bare, put_bind, put_execute, put_parse, put_query, put_target};
use super::pipeline::Owed;
use super::server::status;
use super::session::{End, Session};
use super::setup::Rows;
use crate::mapping::sql::Effects;
use crate::mapping::sql::catalog::{Asked, Catalog, CatalogRows, Fingerprint, Part};

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

#[derive(Debug)]
enum Purpose {
    Facts {
        names: bool,
    },
    /// Whether the catalogue at hand still holds.
    Fingerprint,
    /// What has changed of it since this fingerprint.
    Changed(Fingerprint, Vec<&'static Asked>),
    /// All of it.
    Whole,
}

/// What everything is, from the answers to [`whole`].
fn read_whole(answers: &[Rows]) -> Result<Option<Catalog>, String> {
    let (Some((first, rest)), Some(last)) = (answers.split_first(), answers.last()) else { return Ok(None) };
    let now = still(fingerprint(first)?, last)?;
    let (built_in, foreign) = rest.split_at_checked(Part::BuiltIn.queries().len()).unwrap_or_default();
    let (built_in, foreign) = (rows(Part::BuiltIn.queries(), built_in)?, rows(Part::Foreign.queries(), foreign)?);
    Catalog::build_parts(built_in, foreign, now).map(Some).map_err(|cause| cause.to_string())
}

/// The questions about everything, between two looks at the fingerprint: they may be of several snapshots.
fn whole() -> Vec<&'static str> {
    let texts = [Part::BuiltIn, Part::Foreign].into_iter().flat_map(Part::queries).map(|(_, text)| &**text);
    [Fingerprint::query()].into_iter().chain(texts).chain([Fingerprint::foreign_query()]).collect()
}

/// What is known with what has changed, from the answers to the queries about that, and to another look at the fingerprint.
fn read_changed(
    before: &Catalog,
    asked: &[&'static Asked],
    first: &Fingerprint,
    answers: &[Rows],
) -> Result<Option<Catalog>, String> {
    let Some((last, answers)) = answers.split_last() else { return Ok(None) };
    let now = still(first.clone(), last)?;
    before.built_over(rows(asked.iter().copied(), answers)?, asked, now).map_err(|cause| cause.to_string())
}

/// If something of others' came in between, what was read is true of no moment, and is not to be taken for it later.
fn still(first: Fingerprint, last: &Rows) -> Result<Fingerprint, String> {
    let last = last.first().and_then(|row| row.first()).and_then(Option::as_ref).map(text).transpose()?;
    Ok(if last == Some(&*first.foreign) { first } else { Fingerprint { foreign: "".into(), ..first } })
}

fn fingerprint(answer: &Rows) -> Result<Fingerprint, String> {
    match answer.first().map(Vec::as_slice) {
        Some([Some(built_in), Some(foreign)]) => {
            Ok(Fingerprint { built_in: text(built_in)?.into(), foreign: text(foreign)?.into() })
        }
        _ => Err("the server did not say whether it has changed".into()),
    }
}

fn rows(queries: impl IntoIterator<Item = &'static Asked>, answers: &[Rows]) -> Result<CatalogRows, String> {
    let mut rows = CatalogRows::default();
    for ((reading, _), answers) in queries.into_iter().zip(answers) {
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
                self.status = status(body)?;
                if own.closing == 0 {
                    return self.asked();
                }
            }
            b'Z' if own.closing == 0 && own.synced => {
                self.status = status(body)?;
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
        self.stale.names |= !matches!(own.purpose, Purpose::Facts { names: false });
    }

    /// All answers are there.
    fn asked(&mut self) -> Result<(), End> {
        self.owed.pop_front();
        let Some(own) = self.own.take() else { return Ok(()) };
        match own.purpose {
            Purpose::Facts { names } => self.facts_answered(&own.answers, names, own.synced)?,
            Purpose::Fingerprint => self.fingerprint_answered(&own.answers)?,
            Purpose::Changed(now, asked) => {
                self.can_be_read(&own.answers)?;
                let before = self.catalog.as_ref();
                let read = before.map_or(Ok(None), |before| read_changed(before, &asked, &now, &own.answers));
                match read.map_err(unreadable)? {
                    Some(catalog) => self.is_private_from_now_on(Arc::new(catalog)),
                    None => self.ask(&whole(), Purpose::Whole),
                }
            }
            Purpose::Whole => {
                self.can_be_read(&own.answers)?;
                match read_whole(&own.answers).map_err(unreadable)? {
                    Some(catalog) => self.is_private_from_now_on(Arc::new(catalog)),
                    None => return Err(End::out_of_step("a catalogue")),
                }
            }
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
            match &self.catalog {
                _ if !self.setup.reads_in_session || (between && !has_temp) => self.want_newest = true,
                // Where code that nobody has judged has run, or time has passed, mostly nothing has changed.
                Some(known) if known.built_in().is_some() => self.ask(&[Fingerprint::query()], Purpose::Fingerprint),
                _ => self.ask(&whole(), Purpose::Whole),
            }
        }
        Ok(())
    }

    fn fingerprint_answered(&mut self, answers: &[Rows]) -> Result<(), End> {
        let Some(known) = self.catalog.clone() else { return Ok(()) };
        let now = answers.first().map(fingerprint).transpose().map_err(unreadable)?.unwrap_or_default();
        if known.fingerprint.is_still(&now) {
            self.is_private_from_now_on(known);
            return Ok(());
        }
        match known.changed(&now) {
            Some(asked) => {
                let mut questions: Vec<&'static str> = asked.iter().map(|(_, text)| &**text).collect();
                questions.push(Fingerprint::foreign_query());
                self.ask(&questions, Purpose::Changed(now, asked));
            }
            None => self.ask(&whole(), Purpose::Whole),
        }
        Ok(())
    }

    /// In another encoding the bytes of one name can be those of another in UTF-8.
    fn can_be_read(&self, answers: &[Rows]) -> Result<(), End> {
        let utf8 = self.facts.as_ref().is_some_and(|facts| facts.utf8_client);
        if utf8 || answers.iter().flatten().flatten().flatten().all(|value| value.is_ascii()) {
            return Ok(());
        }
        let words = "the catalogue has names that are not ASCII, and `client_encoding` is not UTF8";
        Err(End::Failed { sqlstate: "0A000", message: words.into() })
    }

    /// The catalogue is of this session only.
    fn is_private_from_now_on(&mut self, catalog: Arc<Catalog>) {
        self.catalog = Some(catalog);
        self.private = true;
        self.catalog_until = Some(self.now + self.setup.catalog_max_age);
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

    /// The answers to queries about an empty database.
    fn answers<'q>(queries: impl IntoIterator<Item = &'q Asked>) -> Vec<Rows> {
        let answer = |(reading, _): &Asked| match reading {
            crate::mapping::sql::catalog::Reading::Database => row(&["shop", "10", "150018"]),
            _ => Rows::new(),
        };
        queries.into_iter().map(answer).collect()
    }

    fn first(built_in: &str, foreign: &str) -> Catalog {
        let parts = [Part::BuiltIn, Part::Foreign].into_iter().flat_map(Part::queries);
        let mut all = vec![row(&[built_in, foreign])];
        all.extend(answers(parts));
        all.push(row(&[foreign]));
        assert_eq!(all.len(), whole().len());
        read_whole(&all).unwrap().unwrap()
    }

    fn again(before: &Catalog, now: &str, last: &str) -> Catalog {
        let now = Fingerprint { built_in: "b".into(), foreign: now.into() };
        let asked = before.changed(&now).unwrap();
        let mut all = answers(asked.iter().copied());
        all.push(row(&[last]));
        read_changed(before, &asked, &now, &all).unwrap().unwrap()
    }

    #[test]
    fn what_changed_while_it_was_read_is_not_taken_for_anything_later() {
        let first = first("b", "f");
        assert!(
            again(&first, "g", "g").fingerprint.is_still(&Fingerprint { built_in: "b".into(), foreign: "g".into() })
        );
        let torn = again(&first, "g", "h");
        for now in ["g", "h"] {
            assert!(!torn.fingerprint.is_still(&Fingerprint { built_in: "b".into(), foreign: now.into() }), "{now}");
        }
    }

    #[test]
    fn everything_is_read_again_once_what_came_with_the_server_has_changed() {
        let first = first("b", "f");
        assert!(first.changed(&Fingerprint { built_in: "b".into(), foreign: "g".into() }).is_some());
        assert!(first.changed(&Fingerprint { built_in: "c".into(), foreign: "g".into() }).is_none());
    }
}
