//! What reading, writing or truncating one relation reaches beyond it.

use std::sync::Arc;

use ahash::{AHashMap, AHashSet};

use super::Column;
use super::build::in_order;
use super::built_in::BuiltIn;
use super::rows::CatalogRows;

/// Edges between relations, by oid.
#[derive(Default)]
pub(super) struct Reach<'b> {
    /// What is known already, and reaches nothing beyond itself.
    over: Option<&'b BuiltIn>,
    /// Partition to what it is a partition of.
    whole: AHashMap<u32, u32>,
    /// Parent to children, plain inheritance.
    children: AHashMap<u32, Vec<u32>>,
    /// Referenced to referencing.
    referencing: AHashMap<u32, Vec<u32>>,
    /// Everything below a parent, partitions included.
    below: AHashMap<u32, Vec<u32>>,
    /// View to what it reads.
    reads: AHashMap<u32, Vec<Read>>,
    /// Views that are read with the rights of whoever reads them.
    invokers: AHashSet<u32>,
}

/// A relation that a view reads, and the column, or none for the relation as such.
type Read = (u32, Option<Arc<str>>);

impl<'b> Reach<'b> {
    pub(super) fn new(rows: &CatalogRows, columns: &AHashMap<u32, Vec<Column>>, over: &'b BuiltIn) -> Self {
        let mut reach = Self { over: Some(over), ..Self::default() };
        let partitions: AHashSet<u32> =
            rows.relations.iter().filter(|relation| relation.is_partition).map(|relation| relation.oid).collect();
        for (child, parent) in &rows.inheritance {
            reach.below.entry(*parent).or_default().push(*child);
            if partitions.contains(child) {
                reach.whole.insert(*child, *parent);
            } else {
                reach.children.entry(*parent).or_default().push(*child);
            }
        }
        for (referencing, referenced) in &rows.foreign_keys {
            reach.referencing.entry(*referenced).or_default().push(*referencing);
        }
        if !rows.views.is_empty() {
            reach.views(rows, columns, over);
        }
        reach.invokers.clone_from(&rows.invokers);
        reach
    }

    fn views(&mut self, rows: &CatalogRows, columns: &AHashMap<u32, Vec<Column>>, over: &BuiltIn) {
        let named: AHashMap<(u32, i16), &Arc<str>> =
            rows.columns.iter().map(|column| ((column.relation, column.number), &column.name)).collect();
        for row in &rows.views {
            let reads = self.reads.entry(row.view).or_default();
            let column = (row.relation, row.column);
            let name = named.get(&column).copied().or_else(|| over.columns.get(&column)).map(Arc::clone);
            reads.push((row.relation, name));
            // Which relation's whole rows the definition uses cannot be told from outside: all columns of all of them.
            if row.whole_rows {
                let known = || over.relations.get(&row.relation).map(|relation| &relation.columns);
                let all = columns.get(&row.relation).or_else(known).into_iter().flatten();
                reads.extend(all.map(|column| (row.relation, Some(Arc::clone(&column.name)))));
            }
        }
    }

    /// What it is a partition of, nearest first.
    pub(super) fn wholes(&self, relation: u32) -> Vec<u32> {
        if !self.whole.contains_key(&relation) {
            return Vec::new();
        }
        in_order(relation, |part| self.whole.get(&part).copied().into_iter().collect())
    }

    /// All its children by plain inheritance.
    pub(super) fn children(&self, relation: u32) -> Vec<u32> {
        if !self.children.contains_key(&relation) {
            return Vec::new();
        }
        in_order(relation, |parent| self.children.get(&parent).cloned().unwrap_or_default())
    }

    /// Everything that TRUNCATE … CASCADE of it empties because of foreign keys, also of its children and partitions.
    pub(super) fn referencing(&self, relation: u32) -> Vec<u32> {
        if self.referencing.is_empty() {
            return Vec::new();
        }
        let (mut reached, mut all) = (vec![relation], Vec::new());
        reached.extend(in_order(relation, |parent| self.below.get(&parent).cloned().unwrap_or_default()));
        for start in &reached {
            for one in in_order(*start, |referenced| self.referencing.get(&referenced).cloned().unwrap_or_default()) {
                if one != relation && !all.contains(&one) {
                    all.push(one);
                }
            }
        }
        all
    }

    /// What is checked for whoever uses a view: what `security_invoker` views read, however deep they lie under other views.
    ///
    /// # Source
    /// PostgreSQL, CREATE VIEW: a base relation that is a view is treated as if it stood in the query itself, so that a security invoker view
    /// checks the current user also under a view that is none.
    pub(super) fn as_caller(&self, view: u32) -> Vec<Read> {
        if self.invokers.is_empty() {
            return Vec::new();
        }
        let views = in_order(view, |view| {
            self.reads
                .get(&view)
                .into_iter()
                .flatten()
                .map(|read| read.0)
                .filter(|read| self.reads.contains_key(read))
                .collect()
        });
        let mut all: Vec<Read> = Vec::new();
        for view in views.iter().chain([&view]).filter(|view| self.invokers.contains(view)) {
            for (relation, column) in self.reads.get(view).into_iter().flatten() {
                all.push((*relation, column.clone()));
                all.extend(self.children(*relation).into_iter().map(|child| (child, column.clone())));
            }
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    /// What a view reads, through views on views, with the children of what it reads.
    pub(super) fn base(&self, view: u32) -> Vec<Read> {
        let Some(direct) = self.reads.get(&view) else { return Vec::new() };
        let (mut seen, mut all) = (AHashSet::new(), Vec::new());
        let mut waiting: Vec<Read> = direct.clone();
        let mut views = AHashSet::from([view]);
        while let Some(read) = waiting.pop() {
            if !seen.insert(read.clone()) {
                continue;
            }
            if let Some(reads) = self.reads.get(&read.0).filter(|_| views.insert(read.0)) {
                waiting.extend(reads.iter().cloned());
            }
            let known = self.over.and_then(|over| over.relations.get(&read.0));
            waiting.extend(known.into_iter().flat_map(|view| view.base.iter().cloned()));
            waiting.extend(self.children.get(&read.0).into_iter().flatten().map(|child| (*child, read.1.clone())));
            all.push(read);
        }
        all.sort_unstable();
        all
    }
}
