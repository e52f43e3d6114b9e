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
    /// What is kept under the confirmed names, and what would be under the others.
    kept: Load,
    coming: Load,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    pub(super) count: usize,
    pub(super) weight: usize,
}

impl Load {
    const fn add(&mut self, more: Self) {
        self.count += more.count;
        self.weight += more.weight;
    }

    const fn remove(&mut self, less: Self) {
        self.count = self.count.saturating_sub(less.count);
        self.weight = self.weight.saturating_sub(less.weight);
    }
}

/// What takes room.
pub(super) trait Weighs {
    /// About how many bytes.
    fn weight(&self) -> usize;
}

/// A name and what it stands for, themselves.
pub(super) const ENTRY: usize = 256;

impl Weighs for Judged {
    fn weight(&self) -> usize {
        ENTRY + self.text.len() + self.mapped.weight
    }
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
        Self { confirmed: AHashMap::new(), pending: VecDeque::new(), kept: Load::default(), coming: Load::default() }
    }
}

impl<T: Weighs> Names<T> {
    /// A message that changes `name` has been sent, in the given stretch between Syncs.
    pub(super) fn sent(&mut self, name: Name, number: ChangeNumber, segment: u64, to: Option<Arc<T>>) {
        self.coming.add(load(name.is_empty(), to.as_ref()));
        self.pending.push_back(Change { name, number, segment, to });
    }

    /// It has succeeded.
    pub(super) fn confirm(&mut self, name: &[u8], number: ChangeNumber) {
        let Some(change) = self.take(name, number) else { return };
        match change.to {
            Some(to) => self.set(change.name, to),
            None => self.forget(name),
        }
    }

    /// It has failed or been skipped.
    pub(super) fn withdraw(&mut self, name: &[u8], number: ChangeNumber) {
        drop(self.take(name, number));
    }

    fn take(&mut self, name: &[u8], number: ChangeNumber) -> Option<Change<T>> {
        let at = self.pending.iter().position(|change| change.number == number && *change.name == *name)?;
        let change = self.pending.remove(at);
        self.coming.remove(load(name.is_empty(), change.as_ref().and_then(|change| change.to.as_ref())));
        change
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
        let unnamed = name.is_empty();
        self.kept.add(load(unnamed, Some(&to)));
        let before = self.confirmed.insert(name, to);
        self.kept.remove(load(unnamed, before.as_ref()));
    }

    /// A statement that has succeeded took the name away.
    pub(super) fn forget(&mut self, name: &[u8]) {
        let before = self.confirmed.remove(name);
        self.kept.remove(load(name.is_empty(), before.as_ref()));
    }

    /// All names are gone.
    pub(super) fn clear(&mut self) {
        self.confirmed.clear();
        self.kept = Load::default();
    }

    /// Only these names are left.
    pub(super) fn retain(&mut self, stays: impl Fn(&T) -> bool) {
        let Self { confirmed, kept, .. } = self;
        confirmed.retain(|name, to| {
            let stays = stays(to);
            if !stays {
                kept.remove(load(name.is_empty(), Some(to)));
            }
            stays
        });
    }

    /// How much all names hold.
    pub(super) const fn load(&self) -> Load {
        let mut all = self.kept;
        all.add(self.coming);
        all
    }

    /// How much of that waits for the server's word.
    pub(super) const fn coming(&self) -> Load {
        self.coming
    }

    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<T>> {
        match self.last_change(name) {
            Some(change) => change.to.as_ref(),
            None => self.confirmed.get(name),
        }
    }
}

/// What stands without a name is always replaced: it takes room, but is not one of the names.
fn load<T: Weighs>(unnamed: bool, of: Option<&Arc<T>>) -> Load {
    of.map_or(Load::default(), |to| Load { count: usize::from(!unnamed), weight: to.weight() })
}

/// A cursor that SQL declared.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) judged: Arc<Judged>,
    /// WITH HOLD.
    pub(super) holds: bool,
}

impl Weighs for Declared {
    fn weight(&self) -> usize {
        self.judged.weight()
    }
}

/// The names as mapping asks for them. It tells whether anything was asked: what hangs on a name is not to be cached.
#[derive(Debug)]
pub(super) struct Texts<'a> {
    pub(super) statements: &'a Names<Judged>,
    pub(super) cursors: &'a Names<Declared>,
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
        self.cursors.get(name.as_bytes()).is_some()
    }

    fn quiet_cursor(&self, name: &str) -> bool {
        self.asked.set(true);
        let declared = self.cursors.get(name.as_bytes());
        let statement = declared.and_then(|declared| declared.judged.statement());
        statement.is_some_and(|declare| !declare.effects.any())
    }

    fn transaction_matters(&self) -> bool {
        self.transaction_matters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Weighs for u8 {
        fn weight(&self) -> usize {
            usize::from(*self)
        }
    }

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

    #[test]
    fn what_names_hold_is_counted_until_they_are_gone() {
        let name = |name: &str| Name::from(name.as_bytes());
        let held = |names: &Names<u8>| (names.load().count, names.load().weight);
        let mut names = Names::default();
        names.sent(name("a"), 1, 0, Some(Arc::new(10)));
        names.sent(name("b"), 2, 0, Some(Arc::new(20)));
        assert_eq!((held(&names), names.coming().weight), ((2, 30), 30));
        names.confirm(b"a", 1);
        names.withdraw(b"b", 2);
        assert_eq!((held(&names), names.coming()), ((1, 10), Load::default()));
        names.set(name("a"), Arc::new(7));
        assert_eq!(held(&names), (1, 7), "the earlier one is gone");
        names.set(name("b"), Arc::new(8));
        names.retain(|value| *value == 8);
        assert_eq!(held(&names), (1, 8));
        names.sent(name("b"), 3, 0, None);
        names.confirm(b"b", 3);
        names.forget(b"a");
        assert_eq!(held(&names), (0, 0));
        names.set(name("c"), Arc::new(9));
        names.clear();
        assert_eq!(held(&names), (0, 0));
    }
}
