//! The id that ties an answer, its record and its log lines together.

use std::cell::RefCell;
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// Crockford's base 32, as ULIDs use it: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const LENGTH: usize = 26;
const RANDOM_BITS: u32 = 80;

/// Names one decision: 48 bits of milliseconds and 80 random bits, written in 26 characters. Ids of later decisions sort later.
///
/// # Source
/// ULID (<https://github.com/ulid/spec>): short enough for a header, and what log stores already know to sort.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DecisionId(u128);

/// An id for a decision that is made now.
#[must_use]
pub fn new_decision_id() -> DecisionId {
    DecisionId::new(SystemTime::now(), RANDOM.with_borrow_mut(|random| random.u128(..)))
}

impl DecisionId {
    /// The id of a decision at `time`; only the lower 80 bits of `random` are used.
    #[must_use]
    pub fn new(time: SystemTime, random: u128) -> Self {
        let milliseconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Self((milliseconds << RANDOM_BITS) | (random & ((1 << RANDOM_BITS) - 1)))
    }

    /// A number from 0 up to but not 1 that is the same whenever it is asked of this id: what sampling goes by.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "53 bits are exactly what an f64 holds"
    )]
    pub fn fraction(self) -> f64 {
        (self.0 as u64 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// As a JSON string.
    pub(super) fn append(self, line: &mut Vec<u8>) {
        line.push(b'"');
        line.extend_from_slice(&self.text());
        line.push(b'"');
    }

    fn text(self) -> [u8; LENGTH] {
        let mut rest = self.0;
        let mut text = [b'0'; LENGTH];
        for character in text.iter_mut().rev() {
            // Five bits are always an index into 32 characters.
            *character = ALPHABET.get((rest & 31) as usize).copied().unwrap_or(b'0');
            rest >>= 5;
        }
        text
    }
}

impl fmt::Display for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl fmt::Debug for DecisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

thread_local! {
    static RANDOM: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::with_seed(seed()));
}

/// From the system, once a thread: fastrand's own seed is made of a clock and a thread number, which sidecars that start
/// together share.
fn seed() -> u64 {
    let mut seed = [0; 8];
    match aws_lc_rs::rand::fill(&mut seed) {
        Ok(()) => u64::from_ne_bytes(seed),
        Err(_) => fastrand::u64(..),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn ids_of_later_decisions_sort_later_as_text() {
        let at = |ms| DecisionId::new(UNIX_EPOCH + Duration::from_millis(ms), u128::MAX).to_string();
        assert!(at(1_469_918_176_385) < at(1_469_918_176_386));
        assert_eq!(at(1_469_918_176_385), "01ARYZ6S41ZZZZZZZZZZZZZZZZ", "the example of the ULID specification");
        assert_eq!(DecisionId::new(UNIX_EPOCH, 0).to_string(), "0".repeat(26));
    }

    #[test]
    fn ids_made_by_several_threads_differ() {
        let threads: Vec<_> =
            (0..4).map(|_| std::thread::spawn(|| (0..5_000).map(|_| new_decision_id()).collect::<Vec<_>>())).collect();
        let ids: HashSet<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(ids.len(), 20_000);
    }

    #[test]
    fn the_fraction_is_the_same_each_time_and_spread_evenly() {
        let id = new_decision_id();
        assert_eq!(id.fraction().to_bits(), id.fraction().to_bits());
        let below = (0..10_000).filter(|_| new_decision_id().fraction() < 0.1).count();
        assert!((800..1_200).contains(&below), "{below} of 10,000 are below 0.1");
        assert!(DecisionId::new(UNIX_EPOCH, u128::MAX).fraction() < 1.0);
    }
}
