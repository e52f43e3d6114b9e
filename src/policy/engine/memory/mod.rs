//! Decisions that hold, so that nothing is decided twice.
//!
//! What a question is to the policies is remembered in two steps. A *place* is everything that they can tell apart without looking at the
//! context: the action, the workload, and the resource by all that they name. Its candidates are always the same ones, and so are the
//! attributes that these read. An *answer* belongs to a place and to one value of each of those attributes. Both are compared in full;
//! hashes only say where to look.
//!
//! INVARIANT: a memory belongs to one engine, which never changes. Nothing outside of it (workloads, tags, groups, policies) has a part in
//! an answer but by what is compared.
//!
//! Each thread has a table of its own, of a fixed size (`table.rs`), which it never waits for.

mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::mem::size_of;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use ahash::RandomState;

use self::table::{Bytes, Table};
use super::located::Located;
use crate::identity::SpiffeId;
use crate::mapping::{ResourceKind, Tags, Value};
use crate::policy::decision::Decision;
use crate::policy::forms::{Attributes, Known};
use crate::telemetry::MemoryMetrics;

/// More threads than that share tables; whoever finds one taken decides anew.
const TABLES: usize = 32;
static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: usize = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
}

/// How much there is room for, and how far hashes tell apart.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// Of a hash these bits are used. INVARIANT: an answer is right with any of them, also with none.
    hash: u64,
    /// Sets of four.
    place_sets: usize,
    answer_sets: usize,
    /// That a set may hold.
    place_bytes: usize,
    answer_bytes: usize,
}

impl Shape {
    /// A thread remembers at most 1,024 places in 256 KiB and 2,048 answers in 1 MiB.
    const USUAL: Self =
        Self { hash: u64::MAX, place_sets: 256, answer_sets: 512, place_bytes: 1024, answer_bytes: 2048 };
}

/// What an engine has decided.
#[derive(Debug)]
pub(super) struct Memory {
    hasher: RandomState,
    shape: Shape,
    tables: Box<[Mutex<Option<Tables>>]>,
    metrics: MemoryMetrics,
    #[cfg(test)]
    hits: AtomicUsize,
}

/// What is asked, as far as policies can tell it apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) action: u32,
    pub(super) principal: &'a SpiffeId,
    pub(super) kind: ResourceKind,
    pub(super) located: &'a Located,
    pub(super) known: &'a Known<'a>,
}

/// What is known of a question without deciding it.
#[derive(Debug)]
pub(super) enum Recalled {
    /// The answer.
    Answer(Decision),
    /// Nothing: the hash of the place, to remember it by.
    Nothing(u64),
}

#[derive(Debug)]
struct Tables {
    places: Table<Place>,
    answers: Table<Answer>,
    /// Given to each place once: an answer never belongs to a place that came after its own.
    next: u64,
}

#[derive(Debug)]
struct Place {
    number: u64,
    action: u32,
    kind: ResourceKind,
    principal: SpiffeId,
    located: Located,
    /// What its candidates read of the context.
    reads: Attributes,
}

struct Answer {
    place: u64,
    /// Of each attribute that the candidates read, in order.
    values: Box<[Option<Value>]>,
    decision: Decision,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self::of(Shape::USUAL)
    }

    /// One whose hashes tell nothing apart, and which has room for four.
    #[cfg(test)]
    pub(super) fn blind() -> Self {
        Self::of(Shape { hash: 0, ..Shape::USUAL })
    }

    fn of(shape: Shape) -> Self {
        Self {
            hasher: RandomState::new(),
            shape,
            tables: (0..TABLES).map(|_| Mutex::default()).collect(),
            metrics: MemoryMetrics::new(),
            #[cfg(test)]
            hits: AtomicUsize::new(0),
        }
    }

    /// The answer to this very question, if this thread remembers it.
    pub(super) fn recall(&self, asked: &Asked<'_>) -> Recalled {
        let hash = self.hasher.hash_one((asked.action, asked.kind, asked.principal.as_str(), &asked.located.keys));
        let hash = hash & self.shape.hash;
        let decision = self.own().and_then(|mut own| {
            let Tables { places, answers, .. } = own.as_mut()?;
            let place = places.find(hash, |place| place.is_of(asked))?;
            let reads = place.reads;
            let number = place.number;
            let hash = self.of_values(number, reads.iter().map(|attribute| asked.known.value(attribute)));
            let same = |answer: &Answer| answer.place == number && answer.has(reads, asked.known);
            answers.find(hash, same).map(|answer| answer.decision.clone())
        });
        match decision {
            Some(decision) => {
                self.metrics.hit();
                #[cfg(test)]
                self.hits.fetch_add(1, Ordering::Relaxed);
                Recalled::Answer(decision)
            }
            None => Recalled::Nothing(hash),
        }
    }

    /// Remembers an answer that holds, whose candidates read these attributes.
    pub(super) fn remember(&self, asked: &Asked<'_>, hash: u64, reads: Attributes, decision: &Decision) {
        self.metrics.miss();
        let Some(mut own) = self.own() else { return };
        let Tables { places, answers, next } = own.get_or_insert_with(|| Tables::new(self.shape));
        let number = match places.find(hash, |place| place.is_of(asked)) {
            Some(place) => place.number,
            None => {
                *next += 1;
                // Without its place no answer is ever found.
                if !places.insert(hash, Place::new(*next, asked, reads)) {
                    return;
                }
                *next
            }
        };
        let values = || reads.iter().map(|attribute| asked.known.value(attribute));
        let hash = self.of_values(number, values());
        // Most of what does not fit is seen before it is copied.
        if values().flatten().map(Bytes::bytes).sum::<usize>() < self.shape.answer_bytes {
            let values = values().map(Option::<&Value>::cloned).collect();
            answers.insert(hash, Answer { place: number, values, decision: decision.clone() });
        }
    }

    /// Counts a decision that does not hold.
    pub(super) fn pass(&self) {
        self.metrics.volatile();
    }

    /// This thread's table; none if somebody else is at it.
    fn own(&self) -> Option<MutexGuard<'_, Option<Tables>>> {
        let table = self.tables.get(THREAD.with(|thread| *thread) % TABLES)?;
        match table.try_lock() {
            Ok(own) => Some(own),
            Err(TryLockError::Poisoned(own)) => Some(own.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn of_values<'a>(&self, place: u64, values: impl Iterator<Item = Option<&'a Value>>) -> u64 {
        use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
        let mut hasher = self.hasher.build_hasher();
        place.hash(&mut hasher);
        values.for_each(|value| value.hash(&mut hasher));
        hasher.finish() & self.shape.hash
    }

    /// How many questions were answered.
    #[cfg(test)]
    pub(super) fn hits(&self) -> usize {
        self.hits.load(Ordering::Relaxed)
    }

    /// How many places and answers this thread remembers, in how many bytes.
    #[cfg(test)]
    fn size(&self) -> (usize, usize, usize) {
        let own = self.own().expect("nobody else is at it");
        own.as_ref().map_or((0, 0, 0), |Tables { places, answers, .. }| {
            (places.len(), answers.len(), places.bytes() + answers.bytes())
        })
    }
}

impl Tables {
    fn new(shape: Shape) -> Self {
        Self {
            places: Table::new(shape.place_sets, shape.place_bytes),
            answers: Table::new(shape.answer_sets, shape.answer_bytes),
            next: 0,
        }
    }
}

impl Place {
    fn new(number: u64, asked: &Asked<'_>, reads: Attributes) -> Self {
        let Asked { action, principal, kind, located, .. } = *asked;
        Self { number, action, kind, principal: principal.clone(), located: located.clone(), reads }
    }

    fn is_of(&self, asked: &Asked<'_>) -> bool {
        let Self { number: _, action, kind, principal, located, reads: _ } = self;
        *action == asked.action && *kind == asked.kind && principal == asked.principal && located == asked.located
    }
}

impl Answer {
    /// INVARIANT: it is of the place whose candidates read these, so that it has as many values.
    fn has(&self, reads: Attributes, known: &Known<'_>) -> bool {
        reads.iter().zip(&self.values).all(|(attribute, value)| known.value(attribute) == value.as_ref())
    }
}

/// Without the values: they may be what somebody's token says.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, values: _, decision } = self;
        f.debug_struct("Answer").field("place", place).field("decision", decision).finish_non_exhaustive()
    }
}

impl Bytes for Place {
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.principal.as_str().len() + self.located.bytes()
    }
}

impl Bytes for Answer {
    fn bytes(&self) -> usize {
        let values = self.values.len() * size_of::<Option<Value>>();
        let behind: usize = self.values.iter().flatten().map(Bytes::bytes).sum();
        size_of::<Self>() + values + behind + self.decision.policies.len() * size_of::<usize>() * 2
    }
}

/// What a value holds behind itself.
impl Bytes for Value {
    fn bytes(&self) -> usize {
        let strings =
            |values: &[Box<str>]| -> usize { values.iter().map(|value| size_of::<Box<str>>() + value.len()).sum() };
        let tags = |tags: &Tags| -> usize {
            tags.iter()
                .map(|(name, values)| size_of::<(Box<str>, Vec<Box<str>>)>() + name.len() + strings(values))
                .sum()
        };
        match self {
            Self::Bool(_) | Self::Long(_) | Self::Ip(_) | Self::Datetime(_) => 0,
            Self::String(value) => value.len(),
            Self::Strings(values) => strings(values),
            Self::Record(fields) => {
                fields.iter().map(|(_, value)| size_of::<(&str, Self)>() + Bytes::bytes(value)).sum()
            }
            Self::Headers(fields) | Self::Claims(fields) => tags(fields),
        }
    }
}
