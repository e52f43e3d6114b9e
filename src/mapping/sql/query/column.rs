//! Column references, whole rows and fields.

use pg_query::NodeEnum;
use pg_query::protobuf::{AIndirection, ColumnRef, Node};

use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::{refused, unknown};
use crate::mapping::sql::catalog::is_built_in;
use crate::mapping::sql::names::Nature;

use super::columns::Columns;
use super::scope::{ANY, Field, Item, Shape};
use super::{Walk, strings, unknown_node};

/// What a reference says: qualifiers, and the last part, which is a name or `*`.
pub(super) struct Reference<'r> {
    pub(super) qualifiers: Vec<&'r str>,
    /// None for `*`.
    pub(super) last: Option<&'r str>,
}

/// Takes a column reference apart.
pub(super) fn reference(column: &ColumnRef) -> Result<Reference<'_>, SqlRefusal> {
    let Some((last, qualifiers)) = column.fields.split_last() else { return Err(unknown_node("a column reference")) };
    let last = match &last.node {
        Some(NodeEnum::AStar(_)) => None,
        Some(NodeEnum::String(name)) => Some(name.sval.as_str()),
        _ => return Err(unknown_node("a column reference")),
    };
    Ok(Reference { qualifiers: strings(qualifiers)?, last })
}

impl Walk<'_, '_> {
    /// A column reference in an expression: a column, a row, or a function of a row.
    ///
    /// # Source
    /// `transformColumnRef` in `src/backend/parser/parse_expr.c`.
    pub(super) fn column_ref(&mut self, column: &ColumnRef) -> Result<Shape, SqlRefusal> {
        let Reference { qualifiers, last } = reference(column)?;
        let Some(name) = last else {
            // Where no list is made of it, `t.*` is the row.
            let (columns, open) = self.star(&qualifiers)?;
            return Ok(Shape::Row { columns, open });
        };
        if qualifiers.is_empty() {
            return self.unqualified(name);
        }
        let items = self.qualified(&qualifiers)?;
        let columns: Vec<_> = items.iter().flat_map(|item| item.columns_named(name)).collect();
        self.read(&columns);
        if let Some(first) = columns.first() {
            return Ok(Shape::Of(first.type_oid));
        }
        let open = items.iter().any(|item| item.open);
        self.function_of_row(name, &items, open)
    }

    fn unqualified(&mut self, name: &str) -> Result<Shape, SqlRefusal> {
        let (columns, open) = self.columns_named(name);
        self.read(&columns);
        if let Some(first) = columns.first() {
            let alike = !open && columns.iter().all(|column| column.type_oid == first.type_oid);
            return Ok(Shape::Of(if alike { first.type_oid } else { ANY }));
        }
        // No column: the row of something that is called so.
        let items = self.items_called(None, name);
        for item in &items {
            self.whole_row(item);
        }
        match items.first() {
            Some(item) => Ok(Shape::Row { columns: item.columns.clone(), open: item.open || open }),
            None if open => Ok(Shape::Of(ANY)),
            None => Err(unknown("42703", format!("column \"{name}\" does not exist"))),
        }
    }

    /// `people.leak`, where `leak` is no column: `leak(people)`.
    fn function_of_row(&mut self, name: &str, items: &[Item], open: bool) -> Result<Shape, SqlRefusal> {
        let call = self.names.call(&[name], 1)?;
        if call.nature == Nature::Unknown {
            let qualifier = items.first().and_then(|item| item.name.as_deref()).unwrap_or_default();
            return if open {
                Ok(Shape::Of(ANY))
            } else {
                Err(unknown("42703", format!("column {qualifier}.{name} does not exist")))
            };
        }
        for item in items {
            self.whole_row(item);
        }
        self.call_unseen(&call)?;
        Ok(Shape::Of(Self::returned_type(&call)))
    }

    /// What qualifiers stand for.
    pub(super) fn qualified(&self, qualifiers: &[&str]) -> Result<Vec<Item>, SqlRefusal> {
        let (schema, name) = match qualifiers {
            [name] => (None, *name),
            [schema, name] => (Some(*schema), *name),
            [database, schema, name] if *database == self.names.database() => (Some(*schema), *name),
            _ => return Err(refused("cross-database", "a column is qualified by another database")),
        };
        let items = self.items_called(schema, name);
        if items.is_empty() {
            return Err(unknown("42P01", format!("missing FROM-clause entry for table \"{}\"", qualifiers.join("."))));
        }
        Ok(items)
    }

    /// All columns of one thing, or without qualifier of all: they are read.
    pub(super) fn star(&mut self, qualifiers: &[&str]) -> Result<(Columns, bool), SqlRefusal> {
        let items = if qualifiers.is_empty() {
            let level = self.level();
            level.items.iter().filter(|item| item.columns_visible).cloned().collect()
        } else {
            self.qualified(qualifiers)?
        };
        let mut columns = Columns::default();
        let mut open = false;
        for item in items {
            self.read_all(&item.columns);
            open |= item.open;
            columns.extend(item.columns);
        }
        Ok((columns, open))
    }

    /// A row as such: the server asks for the right to read every column of it.
    ///
    /// # Source
    /// `transformWholeRowRef`; `ExecCheckOneRelPerms` (`InvalidAttrNumber`) in `src/backend/executor/execMain.c`. Run on PostgreSQL 15:
    /// `(people).name` and `name(people)` are denied to who may read only `name`.
    fn whole_row(&mut self, item: &Item) {
        self.read_all(&item.columns);
    }

    /// `(x).field`, `(x).*`, `x[1]`, in any order. The shape is of the last one; `*` gives that of what it stands behind.
    ///
    /// # Source
    /// `transformIndirection` in `src/backend/parser/parse_expr.c`.
    pub(super) fn indirection(&mut self, indirection: &AIndirection) -> Result<Shape, SqlRefusal> {
        let mut shape = self.optional(indirection.arg.as_deref())?;
        for part in &indirection.indirection {
            shape = self.part(shape, part)?;
        }
        Ok(shape)
    }

    fn part(&mut self, shape: Shape, part: &Node) -> Result<Shape, SqlRefusal> {
        match &part.node {
            Some(NodeEnum::String(name)) => self.field_or_call(&shape, &name.sval),
            Some(NodeEnum::AStar(_)) => Ok(shape),
            Some(NodeEnum::AIndices(indices)) => {
                self.optional(indices.lidx.as_deref())?;
                self.optional(indices.uidx.as_deref())?;
                Ok(Shape::Of(self.element(&shape)))
            }
            _ => Err(unknown_node("an indirection")),
        }
    }

    /// A field wins over a function; what may be either is both.
    ///
    /// # Source
    /// `ParseFuncOrColumn` in `src/backend/parser/parse_func.c`.
    fn field_or_call(&mut self, shape: &Shape, name: &str) -> Result<Shape, SqlRefusal> {
        let field = self.field(shape, name);
        if let Field::Of(type_oid) = field {
            return Ok(Shape::Of(type_oid));
        }
        let call = self.names.call(&[name], 1)?;
        match (call.nature, field) {
            (Nature::Unknown, Field::NotKnown) => {}
            (Nature::Unknown, _) => return Err(unknown("42703", format!("column \"{name}\" not found in data type"))),
            _ => self.call_unseen(&call)?,
        }
        Ok(Shape::Of(ANY))
    }

    fn element(&self, shape: &Shape) -> u32 {
        let Shape::Of(type_oid) = shape else { return 0 };
        let known = self.names.catalog().types.get(type_oid);
        match known {
            Some(known) if known.kind == 'b' && (known.inner != 0 || is_built_in(*type_oid)) => known.inner,
            _ if is_built_in(*type_oid) => 0,
            _ => ANY,
        }
    }

    /// What stands behind a column that is written: `SET a[1] = …`, `SET c.f = …`. The column itself is not read.
    pub(super) fn subscripts(&mut self, indirection: &[Node]) -> Result<(), SqlRefusal> {
        for part in indirection {
            match &part.node {
                Some(NodeEnum::String(_)) => {}
                Some(NodeEnum::AIndices(indices)) => {
                    self.optional(indices.lidx.as_deref())?;
                    self.optional(indices.uidx.as_deref())?;
                }
                _ => return Err(unknown_node("an assignment")),
            }
        }
        Ok(())
    }
}
