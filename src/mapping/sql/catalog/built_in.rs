//! What came with the server: put together once, and shared by the catalogues that are read over it.

use std::sync::Arc;

use ahash::AHashMap;

use super::build::{Functions, Schemas};
use super::rows::{CatalogRows, ColumnRow};
use super::{Catalog, Relation, Schema, SqlType, is_built_in, roles};

/// What came with the server.
#[derive(Debug, Default)]
pub struct BuiltIn {
    /// The schemas that have something of it, by oid.
    pub(super) schemas: AHashMap<u32, (Arc<str>, Arc<Schema>)>,
    pub(super) relations: AHashMap<u32, Arc<Relation>>,
    pub(super) types: AHashMap<u32, Arc<SqlType>>,
    pub(super) functions: Functions,
    /// Names of columns by relation and number.
    pub(super) columns: AHashMap<(u32, i16), Arc<str>>,
}

impl BuiltIn {
    /// What the rows of one part say, with the schemas that are among those of the other.
    pub(super) fn new(rows: &CatalogRows, foreign: &CatalogRows) -> Self {
        let (schemas, nothing) = (Schemas::new(foreign), Self::default());
        let mut catalog = Catalog { schemas: schemas.with(&nothing, foreign), ..Catalog::default() };
        let functions = catalog.add(rows, &schemas, &nothing);
        let named = |column: &ColumnRow| ((column.relation, column.number), Arc::clone(&column.name));
        let filled = catalog.schemas.into_iter().filter(|(_, schema)| !schema.is_empty());
        Self {
            schemas: filled.map(|(name, schema)| (schema.oid, (name, schema))).collect(),
            relations: catalog.relations,
            types: catalog.types,
            functions,
            columns: rows.columns.iter().map(named).collect(),
        }
    }

    /// Whether its schemas are still called the same, and used by the same.
    pub(super) fn has_schemas_of(&self, rows: &CatalogRows) -> bool {
        let (schemas, mut usage) = (Schemas::new(rows), roles::usage(rows));
        self.schemas.iter().all(|(oid, (name, schema))| {
            schemas.name(*oid) == Some(name) && usage.remove(oid).is_some_and(|usage| usage == schema.usage)
        })
    }
}

impl CatalogRows {
    /// Whether these rows, of what came with the server, hang on anything that did not: then they cannot be put together by themselves.
    pub(super) fn need_foreign(&self) -> bool {
        let foreign = |oid: u32| !is_built_in(oid);
        !self.inheritance.is_empty()
            || !self.foreign_keys.is_empty()
            || self.views.iter().any(|view| foreign(view.relation))
            || self.relations.iter().any(|relation| foreign(relation.schema))
            || self.types.iter().any(|sql_type| foreign(sql_type.schema))
            || self.functions.iter().any(|function| foreign(function.schema))
            || self.operators.iter().any(|operator| foreign(operator.schema) || foreign(operator.function))
            || self.casts.iter().any(|cast| [cast.source, cast.target, cast.function].into_iter().any(foreign))
    }

    /// Whether these rows, of what did not come with the server, change what reading or truncating something reaches that did.
    pub(super) fn reach_built_in(&self) -> bool {
        self.inheritance.iter().chain(&self.foreign_keys).any(|(_, other)| is_built_in(*other))
    }

    /// Takes in the rows of the other part.
    pub(super) fn append(&mut self, mut other: Self) {
        self.relations.append(&mut other.relations);
        self.columns.append(&mut other.columns);
        self.generated.append(&mut other.generated);
        self.inheritance.append(&mut other.inheritance);
        self.views.append(&mut other.views);
        self.foreign_keys.append(&mut other.foreign_keys);
        self.functions.append(&mut other.functions);
        self.operators.append(&mut other.operators);
        self.types.append(&mut other.types);
        self.casts.append(&mut other.casts);
    }
}
