//! What names can refer to at a place of a query.
//!
//! # Source
//! `ParseNamespaceItem` in `src/include/parser/parse_node.h` and `src/backend/parser/parse_relation.c`.

use std::rc::Rc;
use std::sync::Arc;

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::unknown;
use crate::mapping::sql::catalog::{Relation, RelationKind};

use super::Walk;
use super::columns::Columns;

/// A relation as a query refers to it.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) relation: Arc<Relation>,
    /// Its children by inheritance are not meant.
    pub(super) only: bool,
}

/// A column of something in FROM, or of what a query returns.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: Arc<str>,
    /// 0 if not known.
    pub(super) type_oid: u32,
    /// What is read by naming it. Two for the columns of NATURAL and USING; none for what a subquery returns.
    pub(super) sources: Vec<(Rc<Base>, Arc<str>)>,
}

impl Column {
    pub(super) fn plain(name: impl Into<Arc<str>>, type_oid: u32) -> Self {
        Self { name: name.into(), type_oid, sources: Vec::new() }
    }
}

/// Something in FROM.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// What qualifies its columns; nothing for a join or subquery without alias.
    pub(super) name: Option<Arc<str>>,
    /// It is a table under its own name, which the schema may qualify.
    pub(super) own_name: bool,
    /// The table that it is.
    pub(super) base: Option<Rc<Base>>,
    pub(super) columns: Columns,
    /// It may have more columns than could be told.
    pub(super) open: bool,
    /// Its name can be used.
    pub(super) relation_visible: bool,
    /// Its columns can be used without its name.
    pub(super) columns_visible: bool,
    /// What FOR UPDATE locks.
    pub(super) locks: Vec<Rc<Base>>,
}

/// # Source
/// `SysAtt` in `src/backend/catalog/heap.c`.
const SYSTEM_COLUMNS: [(&str, u32); 6] =
    [("ctid", 27), ("tableoid", 26), ("xmin", 28), ("xmax", 28), ("cmin", 29), ("cmax", 29)];

impl Item {
    /// A table, view or sequence.
    pub(super) fn table(relation: &Arc<Relation>, only: bool, alias: Option<&str>) -> Self {
        let base = Rc::new(Base { relation: Arc::clone(relation), only });
        let columns = relation.columns.iter().map(|column| Column {
            name: Arc::clone(&column.name),
            // Of a table that the text itself makes, types may not be known.
            type_oid: if column.type_oid == 0 { ANY } else { column.type_oid },
            sources: vec![(Rc::clone(&base), Arc::clone(&column.name))],
        });
        Self {
            name: Some(alias.map_or_else(|| Arc::clone(&relation.name), Arc::from)),
            own_name: alias.is_none(),
            columns: columns.collect(),
            locks: vec![Rc::clone(&base)],
            base: Some(base),
            open: false,
            relation_visible: true,
            columns_visible: true,
        }
    }

    /// A subquery, function, CTE or join.
    pub(super) fn made_of(name: Option<Arc<str>>, columns: Columns, open: bool) -> Self {
        Self {
            relation_visible: name.is_some(),
            name,
            own_name: false,
            base: None,
            columns,
            open,
            columns_visible: true,
            locks: Vec::new(),
        }
    }

    /// The same, where only columns that were there before are read by naming them.
    pub(super) fn with_sources_of(mut self, before: &Relation) -> Self {
        let added = |name: &str| before.columns.iter().all(|known| &*known.name != name);
        self.columns = self.columns.each(|column| match added(&column.name) {
            true => Column { sources: Vec::new(), ..column },
            false => column,
        });
        self
    }

    /// The same, without anything that is read by naming it.
    pub(super) fn without_sources(mut self) -> Self {
        self.columns = self.columns.each(|column| Column { sources: Vec::new(), ..column });
        self
    }

    /// New names for the first columns: `t (a, b)`.
    pub(super) fn rename(&mut self, names: &[&str]) -> Result<(), SqlRefusal> {
        if names.len() > self.columns.len() && !self.open {
            return Err(unknown(
                "42P10",
                format!(
                    "table \"{}\" has {} columns available but {} columns specified",
                    self.name.as_deref().unwrap_or("unnamed"),
                    self.columns.len(),
                    names.len()
                ),
            ));
        }
        if names.is_empty() {
            return Ok(());
        }
        let mut given = names.iter();
        let renamed = self.columns.each(|column| match given.next() {
            Some(name) => Column { name: Arc::from(*name), ..column },
            None => column,
        });
        self.columns = renamed;
        self.columns.extend(given.map(|name| Column::plain(*name, 0)).collect());
        Ok(())
    }

    /// Its columns of this name: more than one is an error to the server. A system column if there is no other.
    ///
    /// # Source
    /// `scanNSItemForColumn`.
    pub(super) fn columns_named(&self, name: &str) -> Vec<Column> {
        let own: Vec<_> = self.columns.named(name).cloned().collect();
        if !own.is_empty() {
            return own;
        }
        let base = self
            .base
            .as_ref()
            .filter(|base| !matches!(base.relation.kind, RelationKind::View | RelationKind::CompositeType));
        let system = base.and_then(|base| {
            let (name, type_oid) = SYSTEM_COLUMNS.iter().find(|(known, _)| *known == name)?;
            let name: Arc<str> = Arc::from(*name);
            // A definition names columns without reading them: then no column has a source.
            let read = self.columns.iter().any(|column| !column.sources.is_empty()) || self.columns.is_empty();
            let sources = if read { vec![(Rc::clone(base), Arc::clone(&name))] } else { Vec::new() };
            Some(Column { name, type_oid: *type_oid, sources })
        });
        system.into_iter().collect()
    }

    pub(super) fn is_called(&self, name: &str) -> bool {
        self.relation_visible && self.name.as_deref() == Some(name)
    }
}

/// A WITH query.
#[derive(Debug, Clone)]
pub(super) struct Cte {
    pub(super) name: Arc<str>,
    pub(super) columns: Columns,
    pub(super) open: bool,
}

/// One query among those that lie in each other.
#[derive(Debug, Default)]
pub(super) struct Level {
    pub(super) items: Vec<Item>,
    /// Whether items can be seen from where the walk is: not from members of FROM that are not LATERAL.
    pub(super) items_visible: bool,
    pub(super) ctes: Vec<Cte>,
}

impl Level {
    pub(super) fn of(items: Vec<Item>) -> Self {
        Self { items, items_visible: true, ctes: Vec::new() }
    }
}

/// What a query returns.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) columns: Vec<Column>,
    pub(super) open: bool,
    /// What FOR UPDATE around it locks.
    pub(super) locks: Vec<Rc<Base>>,
}

/// What an expression gives, as far as its fields matter.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    /// A value of this type, 0 if not known.
    Of(u32),
    /// A row of something in FROM.
    Row { columns: Columns, open: bool },
}

/// The type of a value that may be of any type, somebody's among them. 0 is that of a value of which it does not matter: what it is made of
/// was asked about, or it is a text that becomes whatever is wanted.
pub(super) const ANY: u32 = u32::MAX;

/// The pseudo-type `record`, in `pg_type.dat` of every version.
const RECORD: u32 = 2249;

/// Whether a value has a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// Yes, of this type.
    Of(u32),
    No,
    NotKnown,
}

impl Walk<'_, '_> {
    /// The innermost query.
    pub(super) fn level(&mut self) -> &mut Level {
        if self.levels.is_empty() {
            self.levels.push(Level::of(Vec::new()));
        }
        let last = self.levels.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "one was pushed if there was none")]
        &mut self.levels[last]
    }

    /// Columns of this name without a qualifier: the innermost query that has one, and all that it has. With them whether the name might be
    /// of something whose columns are not known.
    ///
    /// # Source
    /// `colNameToVar`.
    pub(super) fn columns_named(&self, name: &str) -> (Vec<Column>, bool) {
        let mut found = Vec::new();
        let mut open = false;
        for level in self.levels.iter().rev().filter(|level| level.items_visible) {
            let visible = level.items.iter().filter(|item| item.columns_visible);
            let mut here = false;
            for item in visible {
                let columns = item.columns_named(name);
                here |= !columns.is_empty();
                found.extend(columns);
                open |= item.open;
            }
            if here {
                break;
            }
        }
        (found, open)
    }

    /// What this name stands for before a dot, or as a whole row: the innermost, and all of that query that are called so.
    ///
    /// # Source
    /// `refnameNamespaceItem`.
    pub(super) fn items_called(&self, schema: Option<&str>, name: &str) -> Vec<Item> {
        for level in self.levels.iter().rev().filter(|level| level.items_visible) {
            let called = level.items.iter().filter(|item| {
                let in_schema = |schema: &str| {
                    item.own_name && item.base.as_ref().is_some_and(|base| &*base.relation.schema == schema)
                };
                item.is_called(name) && schema.is_none_or(in_schema)
            });
            let called: Vec<_> = called.cloned().collect();
            if !called.is_empty() {
                return called;
            }
        }
        Vec::new()
    }

    /// A CTE of this name that can be seen from here.
    pub(super) fn cte(&self, name: &str) -> Option<Cte> {
        let visible = self.levels.iter().rev();
        visible.flat_map(|level| level.ctes.iter().rev()).find(|cte| &*cte.name == name).cloned()
    }

    /// Reads columns.
    pub(super) fn read(&mut self, columns: &[Column]) {
        for (base, name) in columns.iter().flat_map(|column| &column.sources) {
            self.read_base(base, std::slice::from_ref(name));
        }
    }

    /// Reads all columns of something.
    pub(super) fn read_all(&mut self, columns: &Columns) {
        for part in columns.parts() {
            let place = Rc::as_ptr(part).cast::<Column>().addr();
            if self.met.rows.contains_key(&place) {
                continue;
            }
            // Most columns come from the same table as the one before: they are read together.
            let mut sources = part.iter().flat_map(|column| &column.sources).peekable();
            while let Some((base, first)) = sources.next() {
                let mut names = vec![Arc::clone(first)];
                while let Some((_, name)) = sources.next_if(|(next, _)| Rc::ptr_eq(next, base)) {
                    names.push(Arc::clone(name));
                }
                self.read_base(base, &names);
            }
            self.met.rows.insert(place, Rc::clone(part));
        }
    }

    /// Reads columns of a relation, and of its children by inheritance unless ONLY.
    pub(super) fn read_base(&mut self, base: &Base, columns: &[Arc<str>]) {
        self.asked.read(&base.relation, columns.iter().cloned());
        for child in self.children(base) {
            let has = |column: &&Arc<str>| child.columns.iter().any(|known| known.name == **column);
            self.asked.read(&child, columns.iter().filter(has).cloned());
        }
    }

    /// Does something to a relation, and to its children by inheritance unless ONLY.
    pub(super) fn write_base(&mut self, action: &'static str, base: &Base, columns: &[Arc<str>]) {
        self.asked.write(action, &base.relation, columns.iter().cloned());
        for child in self.children(base) {
            self.asked.write(action, &child, columns.iter().cloned());
        }
    }

    fn children(&self, base: &Base) -> Vec<Arc<Relation>> {
        if base.only {
            return Vec::new();
        }
        base.relation.inherited_by.iter().filter_map(|oid| self.names.by_oid(*oid)).collect()
    }

    /// Whether a value of this shape has a field of this name.
    pub(super) fn field(&self, shape: &Shape, name: &str) -> Field {
        match shape {
            Shape::Row { columns, open } => {
                let found = columns.named(name).next().map(|column| Field::Of(column.type_oid));
                found.unwrap_or(if *open { Field::NotKnown } else { Field::No })
            }
            // A row without a type: what fields it has is known to the function that made it.
            Shape::Of(0 | RECORD | ANY) => Field::NotKnown,
            Shape::Of(type_oid) => match self.fields_of(*type_oid) {
                Some(relation) => {
                    let found = relation.columns.iter().find(|column| &*column.name == name);
                    found.map_or(Field::No, |column| Field::Of(column.type_oid))
                }
                None => Field::No,
            },
        }
    }

    /// The columns of a composite type, or of a domain over one.
    pub(super) fn fields_of(&self, type_oid: u32) -> Option<Arc<Relation>> {
        let mut known = self.names.catalog().types.get(&type_oid)?;
        // Domains over domains: their number is bounded so that a catalogue that is wrong cannot hold the walk.
        for _ in 0..16 {
            match known.kind {
                'c' => return self.names.by_oid(known.relation),
                'd' => known = self.names.catalog().types.get(&known.inner)?,
                _ => return None,
            }
        }
        None
    }
}
