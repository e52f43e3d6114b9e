//! Lines that wait to be written together.

use std::collections::VecDeque;
use std::io;

/// Failures that are remembered for whoever has still to ask. Those that are forgotten count as failed for all before.
const MOST_FAILURES: usize = 64;
/// A batch of many long lines must not keep its memory forever.
const KEPT_BYTES: usize = 256 * 1024;

/// Lines that wait, in order. Those that are written together have one number.
#[derive(Debug)]
pub(super) struct Batch {
    number: u64,
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { number: 1, bytes: Vec::new(), ends: Vec::new() }
    }
}

impl Batch {
    /// Adds a line; gives the number of the batch that it is in.
    pub(super) fn add(&mut self, line: &[u8]) -> u64 {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
        self.number
    }

    /// How many bytes wait.
    pub(super) const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Hands everything over in exchange for `empty`, and begins the next batch.
    pub(super) fn take(&mut self, empty: &mut Self) {
        let number = self.number;
        empty.clear();
        std::mem::swap(self, empty);
        self.number = number + 1;
    }

    /// All lines.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Line by line.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).filter_map(|(begin, end)| self.bytes.get(begin..*end))
    }

    /// How many lines there are.
    pub(super) const fn count(&self) -> usize {
        self.ends.len()
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.shrink_to(KEPT_BYTES);
    }
}

/// What became of the batches so far.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Every batch up to this one has been dealt with.
    upto: u64,
    failed: VecDeque<(u64, io::ErrorKind)>,
    /// What failed up to this one is not known any more.
    forgotten: u64,
}

impl Outcomes {
    /// What became of batches, which failed if one of them did; none if nobody has written the last yet.
    pub(super) fn of(&self, first: u64, last: u64) -> Option<Result<(), io::ErrorKind>> {
        if last > self.upto {
            return None;
        }
        if first <= self.forgotten {
            return Some(Err(io::ErrorKind::Other));
        }
        let failed = self.failed.iter().find(|(failed, _)| (first..=last).contains(failed));
        Some(failed.map_or(Ok(()), |(_, kind)| Err(*kind)))
    }

    /// A batch has been dealt with, all before it as well.
    pub(super) fn note(&mut self, number: u64, failure: Option<io::ErrorKind>) {
        self.upto = number;
        if let Some(kind) = failure {
            if self.failed.len() == MOST_FAILURES
                && let Some((oldest, _)) = self.failed.pop_front()
            {
                self.forgotten = oldest;
            }
            self.failed.push_back((number, kind));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_wait_are_handed_over_together_and_in_order() {
        let (mut batch, mut taken) = (Batch::default(), Batch::default());
        assert_eq!([batch.add(b"one\n"), batch.add(b"two\n")], [1, 1]);
        batch.take(&mut taken);
        assert_eq!((taken.bytes(), taken.count(), taken.number()), (&b"one\ntwo\n"[..], 2, 1));
        assert_eq!(taken.lines().collect::<Vec<_>>(), [b"one\n", b"two\n"]);
        taken.clear();
        assert_eq!(batch.add(b"three\n"), 2);
        batch.take(&mut taken);
        assert_eq!(taken.lines().collect::<Vec<_>>(), [b"three\n"]);
    }

    #[test]
    fn everybody_learns_what_became_of_the_own_batch() {
        let mut outcomes = Outcomes::default();
        assert_eq!(outcomes.of(1, 1), None);
        outcomes.note(1, None);
        outcomes.note(2, Some(io::ErrorKind::StorageFull));
        outcomes.note(3, None);
        assert_eq!(outcomes.of(3, 4), None);
        assert_eq!(outcomes.of(1, 3), Some(Err(io::ErrorKind::StorageFull)), "one of them");
        assert_eq!(
            [1, 2, 3].map(|n| outcomes.of(n, n)),
            [Some(Ok(())), Some(Err(io::ErrorKind::StorageFull)), Some(Ok(()))]
        );
    }

    #[test]
    fn a_failure_that_is_forgotten_counts_as_one() {
        let mut outcomes = Outcomes::default();
        outcomes.note(1, None);
        for number in 2..100 {
            outcomes.note(number, Some(io::ErrorKind::StorageFull));
        }
        outcomes.note(100, None);
        assert!((1..100).all(|number| outcomes.of(number, number).is_some_and(|outcome| outcome.is_err())));
        assert_eq!(outcomes.of(100, 100), Some(Ok(())));
    }
}
