//! Columns of what stands in FROM, in parts that are shared: a join has the columns of everything below it, and copying them at each of a
//! thousand joins would be the cost of the whole walk.

use std::rc::Rc;
use std::sync::Arc;

use super::scope::Column;

/// Columns in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    parts: Vec<Rc<[Column]>>,
}

impl Columns {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Column> {
        self.parts.iter().flat_map(|part| part.iter())
    }

    pub(super) fn parts(&self) -> &[Rc<[Column]>] {
        &self.parts
    }

    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.iter().all(|part| part.is_empty())
    }

    pub(super) fn named<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s Column> {
        self.iter().filter(move |column| &*column.name == name)
    }

    /// These, and behind them the others.
    pub(super) fn extend(&mut self, others: Self) {
        self.parts.extend(others.parts);
    }

    /// These without those of some names. Parts that have none of them stay shared.
    pub(super) fn without(mut self, names: &[Arc<str>]) -> Self {
        for part in &mut self.parts {
            if part.iter().any(|column| names.contains(&column.name)) {
                *part = part.iter().filter(|column| !names.contains(&column.name)).cloned().collect();
            }
        }
        self.parts.retain(|part| !part.is_empty());
        self
    }

    /// The same, each changed.
    pub(super) fn each(&self, change: impl FnMut(Column) -> Column) -> Self {
        self.iter().cloned().map(change).collect()
    }
}

impl FromIterator<Column> for Columns {
    fn from_iter<I: IntoIterator<Item = Column>>(columns: I) -> Self {
        let columns: Rc<[Column]> = columns.into_iter().collect();
        Self { parts: if columns.is_empty() { Vec::new() } else { vec![columns] } }
    }
}

impl From<Vec<Column>> for Columns {
    fn from(columns: Vec<Column>) -> Self {
        columns.into_iter().collect()
    }
}
