//! What the names of prepared statements and portals stand for: judged texts, as the server has confirmed them.
//!
//! A change is believed only when the server has confirmed it. Until then it counts for the messages that the server would skip
//! if the change failed: those before the next Sync.

use std::collections::VecDeque;
use std::sync::Arc;

use ahash::AHashMap;

use super::judge::Judged;
use super::messages::Name;
use crate::mapping::sql::PreparedTexts;

/// A change that the server has not confirmed yet.
pub(super) type ChangeNumber = u64;

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Meaning<T> {
    /// This.
    Is(Arc<T>),
    /// Nothing that was judged.
    Nothing,
    /// It hangs on what becomes of a message before the last Sync: to be asked again when that is known.
    Unknown,
}

/// One name space.
#[derive(Debug)]
pub(super) struct Names<T> {
    confirmed: AHashMap<Name, Arc<T>>,
    /// In the order sent, which is that of the answers: what is asked for is at one of the ends.
    pending: VecDeque<Change<T>>,
}

#[derive(Debug)]
struct Change<T> {
    name: Name,
    number: ChangeNumber,
    segment: u64,
    to: Option<Arc<T>>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { confirmed: AHashMap::new(), pending: VecDeque::new() }
    }
}

impl<T> Names<T> {
    /// A message that changes `name` has been sent, in the given stretch between Syncs.
    pub(super) fn sent(&mut self, name: Name, number: ChangeNumber, segment: u64, to: Option<Arc<T>>) {
        self.pending.push_back(Change { name, number, segment, to });
    }

    /// It has succeeded.
    pub(super) fn confirm(&mut self, name: &[u8], number: ChangeNumber) {
        let Some(change) = self.take(name, number) else { return };
        match change.to {
            Some(to) => drop(self.confirmed.insert(change.name, to)),
            None => drop(self.confirmed.remove(name)),
        }
    }

    /// It has failed or been skipped.
    pub(super) fn withdraw(&mut self, name: &[u8], number: ChangeNumber) {
        drop(self.take(name, number));
    }

    fn take(&mut self, name: &[u8], number: ChangeNumber) -> Option<Change<T>> {
        let at = self.pending.iter().position(|change| change.number == number && *change.name == *name)?;
        self.pending.remove(at)
    }

    fn last_change(&self, name: &[u8]) -> Option<&Change<T>> {
        self.pending.iter().rev().find(|change| *change.name == *name)
    }

    /// What a name stands for to a message that is sent in stretch `segment`.
    pub(super) fn meaning(&self, name: &[u8], segment: u64) -> Meaning<T> {
        let to = match self.last_change(name) {
            Some(change) if change.segment != segment => return Meaning::Unknown,
            Some(change) => change.to.as_ref(),
            None => self.confirmed.get(name),
        };
        to.map_or(Meaning::Nothing, |to| Meaning::Is(Arc::clone(to)))
    }

    /// A statement that has succeeded gave the name this meaning.
    pub(super) fn set(&mut self, name: Name, to: Arc<T>) {
        self.confirmed.insert(name, to);
    }

    /// A statement that has succeeded took the name away.
    pub(super) fn forget(&mut self, name: &[u8]) {
        self.confirmed.remove(name);
    }

    /// All names are gone.
    pub(super) fn clear(&mut self) {
        self.confirmed.clear();
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<T>> {
        match self.last_change(name) {
            Some(change) => change.to.as_ref(),
            None => self.confirmed.get(name),
        }
    }
}

/// The names as mapping asks for them. It tells whether anything was asked: what hangs on a name is not to be cached.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    pub(super) statements: &'a Names<Judged>,
    pub(super) cursors: &'a AHashMap<Name, Arc<Judged>>,
    /// The open transaction has changed what names mean. Part of the world that is mapped in, so it need not be noted as asked.
    pub(super) transaction_matters: bool,
    pub(super) asked: std::cell::Cell<bool>,
}

impl PreparedTexts for Texts<'_> {
    fn prepared(&self, name: &str) -> Option<(&str, usize)> {
        self.asked.set(true);
        let judged = self.statements.get(name.as_bytes())?;
        Some((&judged.text, judged.index))
    }

    fn cursor(&self, name: &str) -> bool {
        self.asked.set(true);
        self.cursors.contains_key(name.as_bytes())
    }

    fn quiet_cursor(&self, name: &str) -> bool {
        self.asked.set(true);
        let declared = self.cursors.get(name.as_bytes());
        let statement = declared.and_then(|judged| judged.mapped.statements.get(judged.index));
        statement.is_some_and(|declare| !declare.effects.any())
    }

    fn transaction_matters(&self) -> bool {
        self.transaction_matters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is(names: &Names<u8>, segment: u64) -> Option<u8> {
        match names.meaning(b"s", segment) {
            Meaning::Is(value) => Some(*value),
            Meaning::Nothing => None,
            Meaning::Unknown => Some(99),
        }
    }

    #[test]
    fn a_name_has_its_new_meaning_at_once_for_what_would_be_skipped_with_it() {
        let mut names = Names::default();
        names.sent(b"s".as_slice().into(), 1, 0, Some(Arc::new(7)));
        assert_eq!(is(&names, 0), Some(7));
    }

    #[test]
    fn behind_a_sync_a_name_has_no_meaning_until_the_server_has_answered() {
        let mut names = Names::default();
        names.set(b"s".as_slice().into(), Arc::new(1));
        names.sent(b"s".as_slice().into(), 1, 0, Some(Arc::new(2)));
        assert_eq!(is(&names, 1), Some(99));
        names.withdraw(b"s", 1);
        assert_eq!(is(&names, 1), Some(1), "the Parse failed: the old statement is still there");
    }

    #[test]
    fn changes_that_fail_leave_those_that_came_between_alone() {
        let mut names = Names::default();
        names.sent(b"s".as_slice().into(), 1, 0, Some(Arc::new(1)));
        names.sent(b"s".as_slice().into(), 2, 0, None);
        names.sent(b"s".as_slice().into(), 3, 0, Some(Arc::new(3)));
        names.confirm(b"s", 1);
        names.withdraw(b"s", 3);
        names.withdraw(b"s", 2);
        assert_eq!(is(&names, 0), Some(1));
    }
}
