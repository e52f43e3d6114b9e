//! How much a session keeps for its client.
//!
//! PostgreSQL itself has no such bounds, but there each session is a process of its own. Here they share one.

use super::deny::Answer;
use super::judge::{Came, Judged, refusal};
use super::pipeline::Portal;
use super::prepared::{Declared, Load, Names, Weighs};
use super::session::{End, Session};
use crate::mapping::sql::{Cursor, Naming, SqlRefusal};

/// Names of prepared statements; as many of portals, and of cursors. Drivers that keep statements keep some hundreds.
pub(super) const MOST_NAMES: usize = 10_000;
/// Bytes of what stands behind one of these three kinds of names.
const MOST_WEIGHT: usize = 32 * 1024 * 1024;
/// Bytes of what is sent and not confirmed: beyond them the server is asked to answer first.
const MOST_COMING: usize = 8 * 1024 * 1024;

const HINT_STATEMENTS: &str = "Close prepared statements that are not needed any more, or DEALLOCATE ALL.";
const HINT_PORTALS: &str = "Close cursors and portals that are not needed any more, or end the transaction.";

/// There is no more room for what a client wants kept.
#[derive(Debug)]
pub(super) struct Full {
    refused: SqlRefusal,
    hint: &'static str,
}

impl Full {
    /// ERRCODE_CONFIGURATION_LIMIT_EXCEEDED.
    fn of(what: &'static str, rule: &'static str, hint: &'static str) -> Self {
        let most = MOST_WEIGHT / 1024 / 1024;
        let words = format!("too many {what}: a session keeps at most {MOST_NAMES}, and {most} MiB of them");
        Self { refused: refusal("53400", rule, words), hint }
    }

    fn statements() -> Self {
        Self::of("prepared statements", "too-many-prepared-statements", HINT_STATEMENTS)
    }
}

fn has_room<T: Weighs>(names: &Names<T>, more: Load) -> bool {
    let held = names.load();
    held.count + more.count <= MOST_NAMES && held.weight + more.weight <= MOST_WEIGHT
}

impl Session {
    /// Why a statement cannot be kept under this name. There is one without a name, and that is always replaced.
    pub(super) fn no_room_for_statement(&self, name: &[u8], judged: &Judged) -> Option<Full> {
        let full = !name.is_empty() && !has_room(&self.statements, Load { count: 1, weight: judged.weight() });
        full.then(Full::statements)
    }

    /// The same for a portal.
    pub(super) fn no_room_for_portal(&self, name: &[u8], portal: &Portal) -> Option<Full> {
        let full = !name.is_empty() && !has_room(&self.portals, Load { count: 1, weight: portal.weight() });
        full.then(|| Full::of("portals", "too-many-portals", HINT_PORTALS))
    }

    /// The same for what a text prepares and declares by SQL: each name keeps the whole text.
    pub(super) fn no_room_for_names_of(&self, judged: &Judged) -> Option<Full> {
        let (mut prepared, mut declared) = (0, 0);
        for statement in &judged.mapped.statements {
            prepared += usize::from(matches!(statement.naming, Naming::Prepares(_)));
            declared += usize::from(matches!(statement.cursor, Cursor::Declares { .. }));
        }
        let load = |count: usize| Load { count, weight: count * judged.weight() };
        if prepared > 0 && !has_room(&self.statements, load(prepared)) {
            return Some(Full::statements());
        }
        let full = declared > 0 && !has_room::<Declared>(&self.cursors, load(declared));
        full.then(|| Full::of("cursors", "too-many-cursors", HINT_PORTALS))
    }

    /// Records that something is not kept; none if that is not certain yet, as what is under way may make room.
    pub(super) fn refuse_full(&mut self, text: &str, full: &Full, came: Came<'_>) -> Result<Option<Answer>, End> {
        if !self.owed.is_empty() {
            // Not looked at again for each answer: the text may be a long one.
            self.until_answered = true;
            return Ok(None);
        }
        Ok(Some(self.refuse(text.as_bytes(), &full.refused, came)?.hinting(full.hint)))
    }

    /// What is sent and not confirmed takes more room than it should.
    pub(super) fn much_is_coming(&self) -> bool {
        let coming = self.statements.coming().weight + self.portals.coming().weight;
        coming > MOST_COMING && !self.owed.is_empty()
    }
}
