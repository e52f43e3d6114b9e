//! Mappings that were made on this thread, so that a text is parsed once and not for each of its runs.
//!
//! Decisions are not remembered here: they hang on who asks, and are kept by the enforcement point for as long as they last.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::sync::Arc;

use ahash::AHashMap;
use lru::LruCache;

use crate::mapping::sql::{Mapped, SessionFacts};

/// Texts of a thread: with [`LONGEST_KEY`] a bound of 8 MiB for the keys.
const MOST: NonZeroUsize = NonZeroUsize::new(2_048).unwrap();
/// Longer texts are rarely sent twice.
const LONGEST_KEY: usize = 4 * 1024;
/// Bytes of the mappings of a thread: what a text asks can be much longer than the text, by `*` of wide tables.
const MOST_WEIGHT: usize = 32 * 1024 * 1024;
/// Different settings of sessions that are told apart; beyond them everything is forgotten.
const MOST_FACTS: usize = 1_024;

/// What a mapping hangs on beside the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// The reading of the catalogue.
    pub(super) catalog: u64,
    /// The facts of the session, by [`number`].
    pub(super) facts: u64,
    /// The open transaction has changed what names mean.
    pub(super) transaction_matters: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    world: World,
    safe: bool,
    text: Box<[u8]>,
}

/// A key by its parts, so that looking one up copies nothing.
trait Parts {
    fn parts(&self) -> (World, bool, &[u8]);
}

impl Parts for Key {
    fn parts(&self) -> (World, bool, &[u8]) {
        (self.world, self.safe, &self.text)
    }
}

impl Parts for (World, bool, &[u8]) {
    fn parts(&self) -> (World, bool, &[u8]) {
        *self
    }
}

impl<'a> Borrow<dyn Parts + 'a> for Key {
    fn borrow(&self) -> &(dyn Parts + 'a) {
        self
    }
}

impl Hash for dyn Parts + '_ {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialEq for dyn Parts + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn Parts + '_ {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

struct Known {
    mappings: LruCache<Key, Arc<Mapped>, ahash::RandomState>,
    weight: usize,
    facts: AHashMap<Arc<SessionFacts>, u64>,
    next: u64,
}

thread_local! {
    static KNOWN: RefCell<Known> = RefCell::new(Known {
        mappings: LruCache::with_hasher(MOST, ahash::RandomState::new()),
        weight: 0,
        facts: AHashMap::new(),
        next: 1,
    });
}

/// A number for these facts: on this thread the same for equal ones, never that of others.
pub(super) fn number(facts: &Arc<SessionFacts>) -> u64 {
    KNOWN.with_borrow_mut(|known| {
        if let Some(number) = known.facts.get(facts) {
            return *number;
        }
        if known.facts.len() >= MOST_FACTS {
            known.facts.clear();
        }
        let number = known.next;
        known.next += 1;
        known.facts.insert(Arc::clone(facts), number);
        number
    })
}

/// The mapping of a text in this world, if it is known. `safe` is the text's safe key.
pub(super) fn find(world: World, text: &str, safe: Option<&[u8]>) -> Option<Arc<Mapped>> {
    KNOWN.with_borrow_mut(|known| {
        let mut find = |parts: (World, bool, &[u8])| known.mappings.get(&parts as &dyn Parts).map(Arc::clone);
        safe.and_then(|key| find((world, true, key))).or_else(|| find((world, false, text.as_bytes())))
    })
}

/// Remembers a mapping, under the safe key only if no literal of the text matters.
pub(super) fn keep(world: World, text: &str, safe: Option<Vec<u8>>, mapped: &Arc<Mapped>) {
    let (safe, text) = match safe {
        Some(key) if mapped.literals_do_not_matter => (true, key.into_boxed_slice()),
        _ => (false, text.as_bytes().into()),
    };
    if text.len() <= LONGEST_KEY {
        KNOWN.with_borrow_mut(|known| known.put(Key { world, safe, text }, mapped));
    }
}

impl Known {
    fn put(&mut self, key: Key, mapped: &Arc<Mapped>) {
        self.weight += mapped.weight;
        // Either the one of the same key, or the one that made room for it.
        if let Some((_, gone)) = self.mappings.push(key, Arc::clone(mapped)) {
            self.weight = self.weight.saturating_sub(gone.weight);
        }
        while self.weight > MOST_WEIGHT
            && let Some((_, gone)) = self.mappings.pop_lru()
        {
            self.weight = self.weight.saturating_sub(gone.weight);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(weight: usize) -> Arc<Mapped> {
        Arc::new(Mapped {
            statements: Vec::new(),
            literals_do_not_matter: false,
            normalized: "".into(),
            rewrites: Vec::new(),
            fingerprint: "".into(),
            weight,
        })
    }

    #[test]
    fn mappings_are_forgotten_where_all_of_them_take_too_much() {
        let world = World { catalog: 1, facts: 1, transaction_matters: false };
        keep(world, "small", None, &mapped(10));
        for text in ["a", "b", "c"] {
            keep(world, text, None, &mapped(MOST_WEIGHT / 2 - 5));
        }
        let known = ["small", "a", "b", "c"].map(|text| find(world, text, None).is_some());
        assert_eq!(known, [false, false, true, true]);
        keep(world, "c", None, &mapped(10));
        keep(world, "more", None, &mapped(MOST_WEIGHT / 2 - 5));
        assert!(find(world, "b", None).is_some(), "what was replaced weighs nothing");
    }
}
