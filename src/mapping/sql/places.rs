//! Where in a long list of what was asked something is: a text may name as many objects as fit into it.

use std::hash::{BuildHasher, Hash, Hasher};

use ahash::{AHashMap, RandomState};

use super::asked::{Ask, Target};
use super::catalog::Relation;
use crate::mapping::Value;

/// A shorter list is looked through.
const FEW: usize = 16;

/// Places of asks by hashes, once there are many.
#[derive(Debug, Default)]
pub(super) struct Places {
    hasher: RandomState,
    /// By action and table.
    tables: AHashMap<u64, Vec<usize>>,
    /// By action, target and context.
    wholes: AHashMap<u64, Vec<usize>>,
    /// How many asks are in these.
    known: usize,
}

impl Places {
    /// Whether the list is still short.
    pub(super) const fn few(asks: &[Ask]) -> bool {
        asks.len() <= FEW
    }

    /// Takes in what the list has more by now.
    pub(super) fn follow(&mut self, asks: &[Ask]) {
        if Self::few(asks) {
            return;
        }
        for (at, ask) in asks.iter().enumerate().skip(self.known) {
            if let Target::Table(table) = &ask.target {
                let hash = self.hasher.hash_one((ask.action, &*table.schema, &*table.name));
                self.tables.entry(hash).or_default().push(at);
            }
            let hash = self.whole(ask);
            self.wholes.entry(hash).or_default().push(at);
        }
        self.known = asks.len();
    }

    /// The first ask of this action on this relation, of those that are `same`.
    pub(super) fn of_table(&self, action: &str, relation: &Relation, same: impl Fn(usize) -> bool) -> Option<usize> {
        let places = self.tables.get(&self.hasher.hash_one((action, &*relation.schema, &*relation.name)))?;
        places.iter().copied().find(|at| same(*at))
    }

    /// Whether there is an ask of the same action, target and context, of those that are `same`.
    pub(super) fn of_whole(&self, ask: &Ask, same: impl Fn(usize) -> bool) -> bool {
        self.wholes.get(&self.whole(ask)).is_some_and(|places| places.iter().any(|at| same(*at)))
    }

    fn whole(&self, ask: &Ask) -> u64 {
        let mut hash = self.hasher.build_hasher();
        ask.action.hash(&mut hash);
        match &ask.target {
            Target::Database => {}
            Target::Schema(name) => name.hash(&mut hash),
            Target::Table(table) => (&table.schema, &table.name).hash(&mut hash),
            Target::Function(schema, name) => (schema, name).hash(&mut hash),
        }
        for (name, value) in &ask.context {
            name.hash(&mut hash);
            // What else there is, is compared.
            if let Value::String(text) = value {
                text.hash(&mut hash);
            }
        }
        hash.finish()
    }
}
