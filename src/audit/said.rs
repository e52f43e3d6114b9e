//! What the records of one answer have in common, so that it is put together once.

use std::sync::OnceLock;

use super::line::Rfc3339;

/// What stands before the time of the question: the only `now` that is no part of a string, where quotes are escaped.
const BEFORE_NOW: &[u8] = b"\"context\":{\"now\":\"";

/// Longer ones have thousands of columns or operations: idle connections must not hold them.
const MOST_KEPT: usize = 16 * 1024;

/// The members of a record that are the same whenever the same answer is given, but for the time of the question.
#[derive(Debug, Default)]
pub struct Said(OnceLock<Option<Members>>);

#[derive(Debug)]
struct Members {
    bytes: Box<[u8]>,
    /// Where the time of the question is written.
    now_at: usize,
}

impl Said {
    /// Whether it has been written before.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.get().is_some_and(Option::is_some)
    }

    /// Appends the members as they were written before, with another time; `write` writes them the first time.
    pub(super) fn append(&self, line: &mut Vec<u8>, now: Rfc3339, write: impl FnOnce(&mut Vec<u8>)) {
        let begun = line.len();
        let Some(Some(members)) = self.0.get() else {
            write(line);
            let _first = self.0.set(line.get(begun..).and_then(Members::of));
            return;
        };
        line.extend_from_slice(&members.bytes);
        let text = now.text();
        if let Some(time) = line.get_mut(begun + members.now_at..).and_then(|rest| rest.get_mut(..text.len())) {
            time.copy_from_slice(&text);
        }
    }
}

impl Members {
    /// None if there is no time to be found, or if they are too much to be kept: then they are put together each time.
    fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MOST_KEPT {
            return None;
        }
        let now_at = memchr::memmem::find(bytes, BEFORE_NOW)? + BEFORE_NOW.len();
        Some(Self { bytes: bytes.into(), now_at })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::{Kind, Record, new_decision_id};
    use super::*;
    use crate::mapping::{Context, Resource, Value};

    fn lines(said: Option<&Said>) -> Vec<String> {
        let resource = Resource::object("lake", "raw", "\"context\":{\"now\":\"x");
        let line = |seconds: u64| {
            let mut facts = Context::default();
            facts.set("now", Value::Datetime(i64::try_from(seconds).unwrap() * 1_000));
            facts.set("direction", "inbound");
            let record = Record {
                time: UNIX_EPOCH + Duration::from_secs(seconds),
                decision_id: crate::audit::DecisionId::new(UNIX_EPOCH, 7),
                request_id: Some("session"),
                request_number: Some(seconds),
                principal: Some("spiffe://one.example/\"context\":{\"now\":\""),
                resource: Some(&resource),
                facts: Some(&facts),
                said,
                upstream: Some("127.0.0.1:5432"),
                bytes_in: Some(seconds),
                ..Record::new(Kind::Request, new_decision_id(), "allowed")
            };
            let mut line = Vec::new();
            record.append(&mut line, 1.0);
            String::from_utf8(line).unwrap()
        };
        [5, 6, 1_700_000_000].map(line).into()
    }

    #[test]
    fn records_of_one_answer_are_the_same_as_if_each_were_put_together() {
        let said = Said::default();
        let (together, each) = (lines(Some(&said)), lines(None));
        assert!(said.is_known());
        assert_eq!(together, each);
        for line in &together {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(record["time"], record["context"]["now"]);
            assert_eq!(record["request_id"], format!("session-{}", record["bytes_in"]));
        }
    }

    #[test]
    fn members_without_a_time_are_put_together_each_time() {
        let said = Said::default();
        for word in ["one", "two"] {
            let mut line = Vec::new();
            said.append(&mut line, Rfc3339::from_milliseconds(0), |line| line.extend_from_slice(word.as_bytes()));
            assert_eq!(line, word.as_bytes());
        }
        assert!(!said.is_known());
    }
}
