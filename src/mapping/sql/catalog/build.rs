//! From rows to the catalogue.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::{AHashMap, AHashSet};

use super::built_in::BuiltIn;
use super::model::Base;
use super::part::Asked;
use super::rows::{CatalogRows, FunctionRow, RelationRow};
use super::{
    Cast, Catalog, Column, Fingerprint, Function, FunctionKind, Operator, Relation, RelationKind, Schema, SqlType,
    Volatility, is_built_in, reach, roles,
};

/// Why rows make no catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CatalogError {
    /// The query about the database was not answered.
    #[error("the server did not say which database this is")]
    NoDatabase,
    /// The server is older or newer than the grammar and the catalogue queries are known to fit.
    #[error("PostgreSQL {0} is not supported: only 14 to 18 are")]
    Version(u32),
}

/// Schema and name of functions, by oid.
pub(super) type Functions = AHashMap<u32, (Arc<str>, Arc<str>)>;

/// Numbers of readings.
static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Catalog {
    /// The catalogue that the answers to [`Catalog::QUERIES`] describe.
    ///
    /// # Errors
    /// It is not known which database this is, or the server's version is not supported.
    pub fn build(rows: &CatalogRows) -> Result<Self, CatalogError> {
        Self::over(&BuiltIn::default(), rows)
    }

    /// The catalogue that both parts describe. Later ones may be [`Self::built_over`] what came with the server.
    ///
    /// # Errors
    /// As for [`Catalog::build`].
    pub fn build_parts(
        built_in: CatalogRows,
        mut foreign: CatalogRows,
        fingerprint: Fingerprint,
    ) -> Result<Self, CatalogError> {
        // Somebody has tied the two together, which takes a superuser: they are read and put together as one.
        if built_in.need_foreign() || foreign.reach_built_in() {
            foreign.append(built_in);
            return Ok(Self { fingerprint, ..Self::build(&foreign)? });
        }
        let built_in = BuiltIn::new(&built_in, &foreign);
        let catalog = Self::over(&built_in, &foreign)?;
        let base = Some(Base { built_in: Arc::new(built_in), foreign: foreign.kept() });
        Ok(Self { fingerprint, base, ..catalog })
    }

    /// The catalogue with the same objects that came with the server, and these of others': what was asked of them is in `foreign`, the rest is
    /// as it was. None if that is not so, and all has to be read.
    ///
    /// # Errors
    /// As for [`Catalog::build`].
    pub fn built_over(
        &self,
        mut foreign: CatalogRows,
        asked: &[&Asked],
        fingerprint: Fingerprint,
    ) -> Result<Option<Self>, CatalogError> {
        let Some(Base { built_in, foreign: before }) = &self.base else { return Ok(None) };
        foreign.fill_up(before, |reading| asked.iter().any(|(asked, _)| *asked == reading));
        let same = fingerprint.built_in == self.fingerprint.built_in && built_in.has_schemas_of(&foreign);
        if !same || foreign.reach_built_in() {
            return Ok(None);
        }
        let catalog = Self::over(built_in, &foreign)?;
        let base = Some(Base { built_in: Arc::clone(built_in), foreign: foreign.kept() });
        Ok(Some(Self { fingerprint, base, ..catalog }))
    }

    fn over(built_in: &BuiltIn, rows: &CatalogRows) -> Result<Self, CatalogError> {
        let database = rows.database.as_ref().ok_or(CatalogError::NoDatabase)?;
        let major = database.version / 10_000;
        if !(14..=18).contains(&major) {
            return Err(CatalogError::Version(major));
        }
        let schemas = Schemas::new(rows);
        let mut catalog = Self {
            generation: GENERATIONS.fetch_add(1, Ordering::Relaxed),
            major,
            database: Arc::clone(&database.name),
            schemas: schemas.with(built_in, rows),
            relations: built_in.relations.clone(),
            types: built_in.types.clone(),
            roles: roles::roles(rows, database.owner),
            ..Self::default()
        };
        catalog.add(rows, &schemas, built_in);
        Ok(catalog)
    }

    /// Adds what the rows say to what is there, and tells the functions among it.
    pub(super) fn add(&mut self, rows: &CatalogRows, schemas: &Schemas, built_in: &BuiltIn) -> Functions {
        self.add_relations(rows, schemas, built_in);
        self.add_types(rows, schemas);
        let functions = self.add_functions(rows, schemas);
        let function = |oid: u32| functions.get(&oid).or_else(|| built_in.functions.get(&oid));
        self.add_operators(rows, schemas, function);
        self.add_casts(rows, function);
        functions
    }

    /// The schema of this name, to put something into it.
    fn schema(&mut self, name: &Arc<str>) -> Option<&mut Schema> {
        self.schemas.get_mut(name).map(Arc::make_mut)
    }

    fn add_relations(&mut self, rows: &CatalogRows, schemas: &Schemas, built_in: &BuiltIn) {
        let mut columns = columns(rows);
        let reach = reach::Reach::new(rows, &columns, built_in);
        for row in &rows.relations {
            let (Some(schema), Some(kind)) = (schemas.name(row.schema), kind(row.kind)) else { continue };
            if let Some(known) = self.schema(schema) {
                known.relations.insert(Arc::clone(&row.name), row.oid);
            }
            let named =
                if kind == RelationKind::Index { Vec::new() } else { columns.remove(&row.oid).unwrap_or_default() };
            let relation = relation(row, Arc::clone(schema), kind, named, &reach);
            self.relations.insert(relation.oid, Arc::new(relation));
        }
    }

    fn add_types(&mut self, rows: &CatalogRows, schemas: &Schemas) {
        for row in &rows.types {
            let Some(schema) = schemas.name(row.schema) else { continue };
            if let Some(known) = self.schema(schema) {
                known.types.insert(Arc::clone(&row.name), row.oid);
            }
            let sql_type = SqlType {
                oid: row.oid,
                schema: Arc::clone(schema),
                name: Arc::clone(&row.name),
                kind: row.kind,
                relation: row.relation,
                inner: row.inner,
            };
            self.types.insert(row.oid, Arc::new(sql_type));
        }
    }

    /// Schema and name of every function, by oid.
    fn add_functions(&mut self, rows: &CatalogRows, schemas: &Schemas) -> Functions {
        let mut names = AHashMap::with_capacity(rows.functions.len());
        for row in &rows.functions {
            let Some(schema) = schemas.name(row.schema) else { continue };
            names.insert(row.oid, (Arc::clone(schema), Arc::clone(&row.name)));
            if let Some(known) = self.schema(schema) {
                known.functions.entry(Arc::clone(&row.name)).or_default().push(function(row));
            }
        }
        names
    }

    fn add_operators<'f>(
        &mut self,
        rows: &CatalogRows,
        schemas: &Schemas,
        functions: impl Fn(u32) -> Option<&'f (Arc<str>, Arc<str>)>,
    ) {
        for row in &rows.operators {
            // One that was only announced (as another's commutator) has no function and cannot be called.
            let (Some(schema), Some((function_schema, function))) = (schemas.name(row.schema), functions(row.function))
            else {
                continue;
            };
            let operator = Operator {
                function_schema: Arc::clone(function_schema),
                function: Arc::clone(function),
                function_oid: row.function,
                left: row.left,
                right: row.right,
            };
            if let Some(known) = self.schema(schema) {
                known.operators.entry(Arc::clone(&row.name)).or_default().push(operator);
            }
        }
    }

    fn add_casts<'f>(&mut self, rows: &CatalogRows, functions: impl Fn(u32) -> Option<&'f (Arc<str>, Arc<str>)>) {
        let foreign = rows.casts.iter().filter(|cast| {
            let oids = [cast.oid, cast.source, cast.target, cast.function];
            !oids.into_iter().all(is_built_in)
        });
        self.foreign_casts = foreign
            .map(|cast| Cast {
                source: cast.source,
                target: cast.target,
                function: functions(cast.function).cloned(),
                implicit: cast.implicit,
            })
            .collect();
    }
}

/// Names of schemas by oid.
pub(super) struct Schemas(AHashMap<u32, Arc<str>>);

impl Schemas {
    pub(super) fn new(rows: &CatalogRows) -> Self {
        Self(rows.schemas.iter().map(|schema| (schema.oid, Arc::clone(&schema.name))).collect())
    }

    pub(super) fn name(&self, oid: u32) -> Option<&Arc<str>> {
        self.0.get(&oid)
    }

    /// The schemas, with nothing in them yet but what is built in.
    pub(super) fn with(&self, built_in: &BuiltIn, rows: &CatalogRows) -> AHashMap<Arc<str>, Arc<Schema>> {
        let mut usage = roles::usage(rows);
        let schemas = self.0.iter().map(|(oid, name)| {
            let empty = || {
                let usage = usage.remove(oid).unwrap_or_default();
                Arc::new(Schema { oid: *oid, usage, ..Schema::default() })
            };
            let known = built_in.schemas.get(oid).map(|(_, schema)| Arc::clone(schema));
            (Arc::clone(name), known.unwrap_or_else(empty))
        });
        schemas.collect()
    }
}

/// Columns of every relation, in order, with what generated ones read.
fn columns(rows: &CatalogRows) -> AHashMap<u32, Vec<Column>> {
    let mut sorted: Vec<_> = rows.columns.iter().collect();
    sorted.sort_unstable_by_key(|column| (column.relation, column.number));
    let mut generated: AHashMap<(u32, i16), Vec<i16>> = AHashMap::new();
    for (relation, column, read) in &rows.generated {
        generated.entry((*relation, *column)).or_default().push(*read);
    }
    let mut all = AHashMap::with_capacity(rows.relations.len());
    for columns in sorted.chunk_by(|one, next| one.relation == next.relation) {
        let Some(relation) = columns.first().map(|column| column.relation) else { continue };
        let name_of = |number: &i16| columns.iter().find(|column| column.number == *number);
        let named = columns.iter().map(|column| {
            let read = generated.get(&(relation, column.number)).filter(|_| column.generated);
            let mut generated_from: Vec<Arc<str>> =
                read.into_iter().flatten().filter_map(name_of).map(|read| Arc::clone(&read.name)).collect();
            generated_from.sort_unstable();
            generated_from.dedup();
            Column { name: Arc::clone(&column.name), type_oid: column.type_oid, generated_from }
        });
        all.insert(relation, named.collect());
    }
    all
}

fn relation(
    row: &RelationRow,
    schema: Arc<str>,
    kind: RelationKind,
    columns: Vec<Column>,
    reach: &reach::Reach<'_>,
) -> Relation {
    Relation {
        oid: row.oid,
        schema,
        name: Arc::clone(&row.name),
        kind,
        columns,
        partition_of: reach.wholes(row.oid),
        inherited_by: reach.children(row.oid),
        base: reach.base(row.oid),
        as_caller: reach.as_caller(row.oid),
        referenced_by: reach.referencing(row.oid),
        row_type: row.row_type,
    }
}

fn function(row: &FunctionRow) -> Function {
    Function {
        oid: row.oid,
        kind: match row.kind {
            'p' => FunctionKind::Procedure,
            'a' => FunctionKind::Aggregate,
            'w' => FunctionKind::Window,
            _ => FunctionKind::Function,
        },
        volatility: match row.volatility {
            'i' => Volatility::Immutable,
            's' => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        // Without its variadic argument: some take none for it, and asking for one too many beats missing one.
        arguments_least: row.arguments.saturating_sub(row.defaults).saturating_sub(u16::from(row.variadic)),
        arguments_most: (!row.variadic).then_some(row.arguments),
        argument_types: row.argument_types.clone(),
        returns: row.returns,
        output_names: row.output_names.clone(),
    }
}

const fn kind(letter: char) -> Option<RelationKind> {
    Some(match letter {
        'r' => RelationKind::Table,
        'p' => RelationKind::Partitioned,
        'v' => RelationKind::View,
        'm' => RelationKind::MaterializedView,
        'f' => RelationKind::ForeignTable,
        'S' => RelationKind::Sequence,
        'i' | 'I' => RelationKind::Index,
        'c' => RelationKind::CompositeType,
        't' => RelationKind::Toast,
        _ => return None,
    })
}

/// A set that remembers the order in which things came.
pub(super) fn in_order<T: Copy + Eq + std::hash::Hash>(start: T, next: impl Fn(T) -> Vec<T>) -> Vec<T> {
    let (mut seen, mut all) = (AHashSet::from([start]), Vec::new());
    let mut waiting = vec![start];
    while let Some(one) = waiting.pop() {
        for other in next(one) {
            if seen.insert(other) {
                all.push(other);
                waiting.push(other);
            }
        }
    }
    all
}
