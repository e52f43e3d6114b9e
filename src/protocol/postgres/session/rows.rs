//! `@max_rows`: one row more than allowed is asked for, and if it comes it is kept back and the statement is made to fail. COPY cannot be
//! asked for less than everything: it is cancelled.

use bytes::Bytes;

use super::deny::Answer;
use super::messages::{put_bare, put_bind, put_execute, put_parse, put_target};
use super::pipeline::Owed;
use super::record::Outcome;
use super::session::{End, Session};
use crate::mapping::sql::{Copying, MappedStatement};
use crate::protocol::postgres::wire::Frame;

/// A bound on the rows of a portal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The policies' number.
    pub(super) most: u64,
    /// Rows that the portal has returned before.
    pub(super) before: u64,
    /// Whether a row too many has come.
    pub(super) exceeded: bool,
    /// Of COPY: what has come of it.
    copied: Copied,
}

/// How far COPY TO STDOUT has come.
#[derive(Debug, Clone, Copy, Default)]
struct Copied {
    /// The first message is a line of names.
    header: bool,
    binary: bool,
    begun: bool,
}

/// What the file of `FORMAT binary` begins with, in the message of its first row: signature, flags, length of the extension. It ends with a
/// field count of -1.
///
/// # Source
/// PostgreSQL, COPY, Binary Format.
const BINARY_HEADER: usize = 11 + 4 + 4;
const BINARY_END: [u8; 2] = [0xff, 0xff];

impl Copied {
    /// Whether a CopyData message is a row. The server sends one for each (PostgreSQL, 55.2.6), and one for the header or the end.
    fn is_row(&mut self, data: &[u8]) -> bool {
        let first = !std::mem::replace(&mut self.begun, true);
        match self.binary {
            true => data.get(if first { BINARY_HEADER } else { 0 }..) != Some(&BINARY_END),
            false => !(first && self.header),
        }
    }
}

impl Limit {
    pub(super) const fn new(most: u64, before: u64) -> Self {
        let copied = Copied { header: false, binary: false, begun: false };
        Self { most, before, exceeded: false, copied }
    }

    /// The bound of a statement whose data may go by COPY.
    pub(super) const fn of(most: u64, before: u64, statement: &MappedStatement) -> Self {
        let mut limit = Self::new(most, before);
        limit.copied.header = matches!(statement.copying, Some(Copying::Out { header: true }));
        limit
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

    /// CopyOutResponse, CopyData or CopyDone of a bounded COPY. Once a row too many has come nothing goes on to the client, and the server is
    /// told to stop.
    pub(super) fn limited_copy(&mut self, frame: Frame) {
        let Some(owed) = self.owed.front_mut() else { return };
        let Some(returned) = owed.running().map(|running| running.rows) else { return };
        let Some(limit) = owed.limit() else { return };
        if limit.exceeded {
            return;
        }
        let body = frame.body();
        if frame.tag() == b'H' {
            limit.copied.binary = body.first() == Some(&1);
        }
        let is_row = frame.tag() == b'd' && limit.copied.is_row(body);
        if is_row && limit.before + returned >= limit.most {
            limit.exceeded = true;
            self.cut_short = true;
            return;
        }
        if let Some(running) = owed.running() {
            running.rows += u64::from(is_row);
            running.bytes_out += frame.as_bytes().len() as u64;
        }
        self.to_client.push(frame.into_bytes());
    }

    /// What the client is told of an error that ends a bounded statement which has had a row too many: COPY was told to stop.
    pub(super) fn cut_off(&mut self) -> Option<Answer> {
        let owed = self.owed.front_mut().filter(|owed| owed.denied().is_none())?;
        let most = owed.limit().filter(|limit| limit.exceeded)?.most;
        let answer = Answer::too_many_rows(owed.running()?.permit.decision_id(), most);
        self.cut_short = false;
        Some(answer)
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
        self.cut_short = false;
        let answer = Answer::too_many_rows(running.permit.decision_id(), most);
        let poison = answer.poison.clone();
        *denied = Some(answer);
        self.to_server.put(|out| {
            put_execute(out, poison.as_bytes(), 0);
            put_bare(out, if sync { b'S' } else { b'H' });
        });
        self.unwritten.add(running.settle(Outcome::Failed("42501"), self.now), self.to_client.len());
        Ok(())
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
