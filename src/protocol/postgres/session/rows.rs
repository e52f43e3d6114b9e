//! `@max_rows`: one row more than allowed is asked for, and if it comes it is kept back and the statement is made to fail.

use bytes::Bytes;

use super::deny::Answer;
use super::messages::{put_bare, put_bind, put_execute, put_parse, put_target};
use super::pipeline::Owed;
use super::record::Outcome;
use super::session::{End, Session};

/// A bound on the rows of a portal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The policies' number.
    pub(super) most: u64,
    /// Rows that the portal has returned before.
    pub(super) before: u64,
    /// Whether a row too many has come.
    pub(super) exceeded: bool,
}

impl Limit {
    pub(super) const fn new(most: u64, before: u64) -> Self {
        Self { most, before, exceeded: false }
    }

    /// How many rows to ask of the server when the client asks for `wanted`, 0 for all: one more than allowed, so that the row too many
    /// shows; the number alone would suspend a portal also when it has no more.
    pub(super) fn ask(&self, wanted: u32) -> u32 {
        let one_more = u32::try_from(self.most.saturating_sub(self.before) + 1).unwrap_or(i32::MAX.unsigned_abs());
        match wanted {
            0 => one_more,
            wanted => wanted.min(one_more),
        }
    }
}

impl Session {
    /// A simple Query with a bound, as extended messages. The Sync follows when its outcome is known: until then poison can.
    pub(super) fn put_limited_query(&mut self, text: &str, limit: &Limit) {
        let rows = limit.ask(0);
        self.to_server.put(|out| {
            put_parse(out, b"", text);
            put_bind(out, b"", b"");
            put_target(out, b'D', b'P', b"");
            put_execute(out, b"", rows);
            put_bare(out, b'H');
        });
    }

    /// A row of a bounded statement.
    pub(super) fn limited_row(&mut self, bytes: Bytes) {
        let Some(owed) = self.owed.front_mut() else { return };
        let Some(returned) = owed.running().map(|running| running.rows) else { return };
        let Some(limit) = owed.limit() else { return };
        if limit.before + returned >= limit.most {
            limit.exceeded = true;
            return;
        }
        if let Some(running) = owed.running() {
            running.rows += 1;
            running.bytes_out += bytes.len() as u64;
        }
        self.to_client.push(bytes);
    }

    /// A bounded statement has more rows than allowed: it gets its record, and poison follows.
    pub(super) fn too_many_rows(&mut self) -> Result<(), End> {
        let Some(owed) = self.owed.front_mut() else { return Ok(()) };
        let Some(most) = owed.limit().map(|limit| limit.most) else { return Ok(()) };
        let (running, denied, sync) = match owed {
            Owed::Execute(executed) => (executed.running.take(), &mut executed.denied, false),
            Owed::Query(queried) => (queried.running.pop_front(), &mut queried.denied, true),
            _ => return Ok(()),
        };
        let Some(running) = running else { return Ok(()) };
        let answer = Answer::too_many_rows(running.permit.decision_id(), most);
        let poison = answer.poison.clone();
        *denied = Some(answer);
        self.to_server.put(|out| {
            put_execute(out, poison.as_bytes(), 0);
            put_bare(out, if sync { b'S' } else { b'H' });
        });
        running.settle(Outcome::Failed("42501"), self.now).map_err(End::audit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_row_more_than_allowed_is_asked_for_over_the_whole_portal() {
        assert_eq!(Limit::new(10, 0).ask(0), 11);
        assert_eq!(Limit::new(10, 0).ask(5), 5);
        assert_eq!(Limit::new(10, 8).ask(5), 3);
        assert_eq!(Limit::new(10, 10).ask(0), 1);
    }
}
