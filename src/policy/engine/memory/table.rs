//! A table of a fixed size: what comes in puts out what nobody has asked for lately.

/// How much memory something takes, with all that only it holds.
pub(super) trait Bytes {
    fn bytes(&self) -> usize;
}

const WAYS: usize = 4;

/// So many sets of four entries each. A hash says in which set to look; whether an entry is the one is for the caller to compare.
///
/// Each set holds so many bytes at most. A flood of questions that are never asked again costs no more than the work of a few entries
/// each, and what is asked for in between stays.
#[derive(Debug)]
pub(super) struct Table<E> {
    sets: Box<[Set<E>]>,
    most_bytes: usize,
}

#[derive(Debug)]
struct Set<E> {
    ways: [Option<Box<Entry<E>>>; WAYS],
    /// Which one is looked at first when one has to go.
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Entry<E> {
    hash: u64,
    bytes: usize,
    /// Asked for since the hand came by.
    is_used: bool,
    content: E,
}

impl<E: Bytes> Table<E> {
    /// `sets` is a power of two.
    pub(super) fn new(sets: usize, most_bytes: usize) -> Self {
        let set = |_| Set { ways: [const { None }; WAYS], hand: 0, bytes: 0 };
        Self { sets: (0..sets).map(set).collect(), most_bytes }
    }

    /// The entry of this hash that is the `same`.
    pub(super) fn find(&mut self, hash: u64, same: impl Fn(&E) -> bool) -> Option<&E> {
        let entries = self.set(hash)?.ways.iter_mut().flatten();
        let found = entries.into_iter().find(|entry| entry.hash == hash && same(&entry.content))?;
        found.is_used = true;
        Some(&found.content)
    }

    /// Adds an entry that is not there yet; false: it is too long for any set, and was not added.
    pub(super) fn insert(&mut self, hash: u64, content: E) -> bool {
        let bytes = size_of::<Entry<E>>() + content.bytes();
        let most_bytes = self.most_bytes;
        if bytes > most_bytes {
            return false;
        }
        let Some(set) = self.set(hash) else { return false };
        while set.bytes + bytes > most_bytes || set.ways.iter().all(Option::is_some) {
            set.put_one_out();
        }
        let Some(way) = set.ways.iter_mut().find(|way| way.is_none()) else { return false };
        set.bytes += bytes;
        *way = Some(Box::new(Entry { hash, bytes, is_used: false, content }));
        true
    }

    fn set(&mut self, hash: u64) -> Option<&mut Set<E>> {
        let low = usize::try_from(hash & u64::from(u32::MAX)).ok()?;
        let number = low & (self.sets.len() - 1);
        self.sets.get_mut(number)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries().count()
    }

    /// Counted anew.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let entries = self.entries().map(|entry| size_of::<Entry<E>>() + entry.content.bytes());
        size_of_val(&*self.sets) + entries.sum::<usize>()
    }

    #[cfg(test)]
    fn entries(&self) -> impl Iterator<Item = &Entry<E>> {
        self.sets.iter().flat_map(|set| set.ways.iter().flatten()).map(|entry| &**entry)
    }
}

impl<E> Set<E> {
    /// The first one from the hand on that has not been asked for since the hand came by. There is one at the second time round.
    fn put_one_out(&mut self) {
        for _ in 0..=2 * WAYS {
            let hand = self.hand;
            self.hand = (hand + 1) % WAYS;
            let Some(way) = self.ways.get_mut(hand) else { continue };
            match way {
                Some(entry) if entry.is_used => entry.is_used = false,
                Some(entry) => {
                    self.bytes -= entry.bytes;
                    *way = None;
                    return;
                }
                None => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Bytes for String {
        fn bytes(&self) -> usize {
            self.len()
        }
    }

    fn is<'a>(wanted: &'a str) -> impl Fn(&String) -> bool + 'a {
        move |found| found == wanted
    }

    #[test]
    fn entries_of_one_hash_are_told_apart_by_what_they_are() {
        let mut table = Table::new(4, 10_000);
        for text in ["a", "b", "c"] {
            assert!(table.insert(7, text.to_owned()));
        }
        assert_eq!(table.find(7, is("b")), Some(&"b".to_owned()));
        assert_eq!(table.find(7, is("d")), None);
        assert_eq!(table.find(11, is("b")), None, "another hash of the same set");
    }

    #[test]
    fn what_is_asked_for_stays_while_others_come_and_go() {
        let mut table = Table::new(1, 10_000);
        assert!(table.insert(0, "kept".to_owned()));
        for n in 0..1_000_u64 {
            assert!(table.find(0, is("kept")).is_some(), "gone at {n}");
            assert!(table.insert(n, n.to_string()));
        }
        assert_eq!(table.len(), 4);
    }

    #[test]
    fn a_set_holds_no_more_bytes_than_it_may_and_counts_them_right() {
        let mut table = Table::new(2, 1_000);
        for n in 0..10_000_u64 {
            let length = usize::try_from(n * 37 % 1_100).unwrap();
            assert_eq!(table.insert(n, "x".repeat(length)), length + size_of::<Entry<String>>() <= 1_000);
            let held = table.bytes() - size_of_val(&*table.sets);
            assert!(held <= 2_000, "{held} bytes");
            assert_eq!(held, table.sets.iter().map(|set| set.bytes).sum::<usize>());
        }
        assert!(table.len() > 1);
        assert!(!table.insert(3, "x".repeat(2_000)));
        assert_eq!(table.find(3, |text| text.len() == 2_000), None);
    }
}
