//! What the names of a text mean, by PostgreSQL's own rules of looking them up.
//!
//! # Source
//! PostgreSQL `src/backend/catalog/namespace.c`: `recomputeNamespacePath`, `RangeVarGetRelid`, `FuncnameGetCandidates`,
//! `OpernameGetCandidates`, `TypenameGetTypid`.

mod call;
mod path;
mod refusals;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use ahash::AHashMap;

pub(super) use call::{Call, Candidate, Nature};
pub use path::{cut, parse_search_path};

use super::catalog::{Catalog, Function, Relation, SqlType};
use super::{SessionFacts, SqlRefusal};
use path::Path;

/// The schema of everything built in.
pub(super) const PG_CATALOG: &str = "pg_catalog";

/// What names mean to one text: the catalogue, the session's facts, and what the text itself has created so far.
#[derive(Debug, Clone)]
pub(super) struct Names<'a> {
    endpoint: &'a str,
    catalog: &'a Catalog,
    facts: &'a SessionFacts,
    path: Path,
    /// What the text has created so far.
    created: Created,
}

/// Things that the text itself makes before it uses them.
#[derive(Debug, Clone, Default)]
struct Created {
    schemas: Vec<Arc<str>>,
    relations: ByName<Arc<Relation>>,
    by_oid: AHashMap<u32, Arc<Relation>>,
    functions: ByName<Vec<Function>>,
    types: ByName<Arc<SqlType>>,
    oids: u32,
}

/// By schema and name.
#[derive(Debug, Clone)]
struct ByName<T>(AHashMap<Arc<str>, AHashMap<Arc<str>, T>>);

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(AHashMap::new())
    }
}

impl<T> ByName<T> {
    fn get(&self, schema: &str, name: &str) -> Option<&T> {
        self.0.get(schema)?.get(name)
    }

    fn insert(&mut self, schema: &Arc<str>, name: &Arc<str>, made: T) -> Option<T> {
        self.0.entry(Arc::clone(schema)).or_default().insert(Arc::clone(name), made)
    }
}

impl Created {
    /// An oid for something that the server has not given one yet: from the end, where real ones hardly come.
    const fn oid(&mut self) -> u32 {
        self.oids += 1;
        u32::MAX - self.oids
    }
}

impl<'a> Names<'a> {
    /// What names mean to a session with these facts.
    pub(super) fn new(endpoint: &'a str, catalog: &'a Catalog, facts: &'a SessionFacts) -> Self {
        let created = Created::default();
        let path = Path::resolve(&facts.search_path, catalog, facts, &created.schemas);
        Self { endpoint, catalog, facts, path, created }
    }

    /// The listener's name, that ids begin with.
    pub(super) const fn endpoint(&self) -> &'a str {
        self.endpoint
    }

    /// The database's name.
    pub(super) fn database(&self) -> &'a str {
        &self.catalog.database
    }

    /// The catalogue.
    pub(super) const fn catalog(&self) -> &'a Catalog {
        self.catalog
    }

    /// The session's facts.
    pub(super) const fn facts(&self) -> &'a SessionFacts {
        self.facts
    }

    /// The relation that a name means. `database` and `schema` are empty if not given, as in protobuf's RangeVar.
    ///
    /// # Errors
    /// `42P01` for one that does not exist, `0A000` for one of another database.
    pub(super) fn relation(&self, database: &str, schema: &str, name: &str) -> Result<Arc<Relation>, SqlRefusal> {
        let (database, schema, name) = (cut(database), cut(schema), cut(name));
        if !database.is_empty() && database != self.database() {
            return Err(refusals::cross_database(&[database, schema, name]));
        }
        let found = if schema.is_empty() {
            self.path_must_be_known()?;
            self.path.with_temp().find_map(|schema| self.relation_in(schema, name))
        } else {
            self.relation_in(self.real_schema(schema), name)
        };
        found.ok_or_else(|| refusals::relation(schema, name))
    }

    /// The relation with this oid.
    pub(super) fn by_oid(&self, oid: u32) -> Option<Arc<Relation>> {
        self.catalog.relations.get(&oid).or_else(|| self.created.by_oid.get(&oid)).cloned()
    }

    /// Whether the relation with this oid was created by an earlier statement of the text.
    pub(super) fn is_new(&self, oid: u32) -> bool {
        self.created.by_oid.contains_key(&oid)
    }

    /// Whether a schema of this name exists, or was created by the text.
    pub(super) fn schema_exists(&self, schema: &str) -> bool {
        let schema = self.real_schema(cut(schema));
        self.catalog.schemas.contains_key(schema)
            // The catalogue may have been read before the session made it.
            || self.facts.temp_schema.as_deref() == Some(schema)
            || self.created.schemas.iter().any(|created| **created == *schema)
    }

    /// Where something is created whose schema is not given: the first schema of the path. `pg_temp` if the path begins with it and the
    /// session has no temporary schema yet.
    pub(super) fn schema_for_creation(&self) -> Option<&str> {
        self.path.for_creation()
    }

    /// The schemas of the search path, in its order.
    pub(super) fn path(&self) -> impl Iterator<Item = &str> {
        self.path.with_temp()
    }

    /// The schema that a written name means: `pg_temp` is the session's own.
    pub(super) fn real_schema<'s>(&'s self, schema: &'s str) -> &'s str {
        if schema == "pg_temp" { self.facts.temp_schema.as_deref().unwrap_or(schema) } else { schema }
    }

    /// The schema as ids write it: the session's own temporary one is `pg_temp`, whatever number the server gave it.
    pub(super) fn written_schema<'s>(&self, schema: &'s str) -> &'s str {
        if self.facts.temp_schema.as_deref() == Some(schema) { "pg_temp" } else { schema }
    }

    /// From here on the path is this one: a SET of the same text.
    pub(super) fn set_search_path(&mut self, path: Vec<Box<str>>) {
        let path: Vec<Box<str>> = path.iter().map(|name| cut(name).into()).collect();
        self.path = Path::resolve(&path, self.catalog, self.facts, &self.created.schemas);
        self.path.written = Some(path);
    }

    /// From here on there is this relation, with these columns. Its oid and row type are made up if they are 0.
    pub(super) fn create(&mut self, mut relation: Relation) {
        if relation.oid == 0 {
            relation.oid = self.created.oid();
        }
        if relation.row_type == 0 {
            relation.row_type = self.created.oid();
        }
        let row = SqlType {
            oid: relation.row_type,
            schema: Arc::clone(&relation.schema),
            name: Arc::clone(&relation.name),
            kind: 'c',
            relation: relation.oid,
            inner: 0,
        };
        self.create_type(row);
        if &*relation.schema == "pg_temp" && !self.schema_exists("pg_temp") {
            self.create_schema("pg_temp");
        }
        let made = Arc::new(relation);
        let before = self.created.relations.insert(&made.schema, &made.name, Arc::clone(&made));
        if let Some(before) = before {
            self.created.by_oid.remove(&before.oid);
        }
        self.created.by_oid.insert(made.oid, made);
    }

    /// From here on there is this schema, owned by the role of the session.
    pub(super) fn create_schema(&mut self, schema: &str) {
        self.created.schemas.push(cut(schema).into());
        let path = self.path.written.take();
        self.path = Path::resolve(
            path.as_deref().unwrap_or(&self.facts.search_path),
            self.catalog,
            self.facts,
            &self.created.schemas,
        );
        self.path.written = path;
    }

    /// From here on this schema is the first of the path.
    pub(super) fn enter(&mut self, schema: &str) {
        let path = self.path.written.take().unwrap_or_else(|| self.facts.search_path.clone());
        self.set_search_path(std::iter::once(Box::from(schema)).chain(path).collect());
    }

    /// From here on there is this function too.
    pub(super) fn create_function(&mut self, schema: &str, name: &str, mut function: Function) {
        if function.oid == 0 {
            function.oid = self.created.oid();
        }
        let schema: Arc<str> = self.real_schema(cut(schema)).into();
        self.created.functions.0.entry(schema).or_default().entry(cut(name).into()).or_default().push(function);
    }

    /// From here on there is this type. Its oid is made up if it is 0.
    pub(super) fn create_type(&mut self, mut sql_type: SqlType) {
        if sql_type.oid == 0 {
            sql_type.oid = self.created.oid();
        }
        let made = Arc::new(sql_type);
        self.created.types.insert(&made.schema, &made.name, Arc::clone(&made));
    }

    /// The relation of exactly this schema and name.
    fn relation_in(&self, schema: &str, name: &str) -> Option<Arc<Relation>> {
        if let Some(relation) = self.created.relations.get(schema, name) {
            return Some(Arc::clone(relation));
        }
        let oid = self.catalog.schemas.get(schema)?.relations.get(name)?;
        self.catalog.relations.get(oid).cloned()
    }

    fn path_must_be_known(&self) -> Result<(), SqlRefusal> {
        if self.path.unknown_role { Err(refusals::unknown_role(&self.facts.role)) } else { Ok(()) }
    }
}
