//! The catalogue as the walk needs it.

use std::sync::Arc;

use ahash::AHashMap;

use super::part::Asked;
use super::{BuiltIn, CatalogRows, Fingerprint};

/// A database at one moment. Immutable and shared; everything by exact name, as the server stores it.
#[derive(Debug, Default)]
pub struct Catalog {
    /// The number of this reading: unique in the process.
    pub generation: u64,
    /// `server_version_num` divided by 10,000: 15.
    pub major: u32,
    /// The database's name.
    pub database: Arc<str>,
    /// Schemas by name.
    pub schemas: AHashMap<Arc<str>, Arc<Schema>>,
    /// Everything that has rows, by oid.
    pub relations: AHashMap<u32, Arc<Relation>>,
    /// Casts whose function is not of `pg_catalog`, or whose source or target is not.
    pub foreign_casts: Vec<Cast>,
    /// Types by oid.
    pub types: AHashMap<u32, Arc<SqlType>>,
    /// Roles by name.
    pub roles: AHashMap<Arc<str>, Role>,
    /// What tells whether it is still that.
    pub fingerprint: Fingerprint,
    /// What the next reading need not read again.
    pub base: Option<Base>,
}

/// What a catalogue was made of.
#[derive(Debug)]
pub struct Base {
    pub(super) built_in: Arc<BuiltIn>,
    pub(super) foreign: CatalogRows,
}

impl Catalog {
    /// What has to be asked for a catalogue of this fingerprint, of what did not come with the server: the rest is known. None if everything
    /// has to be read.
    #[must_use]
    pub fn changed(&self, now: &Fingerprint) -> Option<Vec<&'static Asked>> {
        self.base.as_ref()?;
        (self.fingerprint.built_in == now.built_in).then(|| self.fingerprint.changed(now))
    }

    /// What came with the server.
    #[must_use]
    pub fn built_in(&self) -> Option<&Arc<BuiltIn>> {
        self.base.as_ref().map(|base| &base.built_in)
    }
}

/// A schema.
#[derive(Debug, Clone, Default)]
pub struct Schema {
    /// Its oid.
    pub oid: u32,
    /// Who may use it: for whom it may not, the search path skips it.
    pub usage: Usage,
    /// Relations by name: their oids.
    pub relations: AHashMap<Arc<str>, u32>,
    /// Functions by name: all overloads.
    pub functions: AHashMap<Arc<str>, Vec<Function>>,
    /// Operators by name: all overloads.
    pub operators: AHashMap<Arc<str>, Vec<Operator>>,
    /// Types by name: their oids.
    pub types: AHashMap<Arc<str>, u32>,
}

impl Schema {
    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.relations.is_empty() && self.functions.is_empty() && self.operators.is_empty() && self.types.is_empty()
    }
}

/// Who has USAGE on a schema.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Usage {
    /// PUBLIC has.
    #[default]
    Everyone,
    /// Superusers, members of these roles, and members of `pg_read_all_data` and `pg_write_all_data`.
    Only(Vec<u32>),
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its oid.
    pub oid: u32,
    /// Nothing is checked for it.
    pub superuser: bool,
    /// Itself and all roles whose privileges it has without SET ROLE.
    pub privileges_of: Vec<u32>,
}

/// A table, view, sequence or whatever else has columns and can stand after FROM.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Its oid.
    pub oid: u32,
    /// Its schema's name.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: RelationKind,
    /// Its columns in order, dropped ones left out, system columns not among them.
    pub columns: Vec<Column>,
    /// Whose partition it is, the nearest first, up to the root.
    pub partition_of: Vec<u32>,
    /// Its children by plain inheritance, all generations: who reads it without ONLY reads them.
    pub inherited_by: Vec<u32>,
    /// Of a view: the columns of other relations that its definition reads, through views on views down to tables; (relation, column name or none
    /// for the relation as such).
    pub base: Vec<(u32, Option<Arc<str>>)>,
    /// Of a view that is a `security_invoker` one, or reads through such: what the server checks for whoever uses the view, not for its owner.
    pub as_caller: Vec<(u32, Option<Arc<str>>)>,
    /// Tables that TRUNCATE … CASCADE reaches: those with a foreign key to it, transitively.
    pub referenced_by: Vec<u32>,
    /// The type of its rows.
    pub row_type: u32,
}

/// What a relation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// `r`.
    Table,
    /// `p`.
    Partitioned,
    /// `v`.
    View,
    /// `m`.
    MaterializedView,
    /// `f`.
    ForeignTable,
    /// `S`.
    Sequence,
    /// `i`, `I`: no rows to read, but names that DDL uses.
    Index,
    /// `c`.
    CompositeType,
    /// `t`.
    Toast,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Arc<str>,
    /// Its type's oid.
    pub type_oid: u32,
    /// Of a generated column: the columns that its expression reads.
    pub generated_from: Vec<Arc<str>>,
}

/// A function, procedure, aggregate or window function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its oid.
    pub oid: u32,
    /// What it is.
    pub kind: FunctionKind,
    /// Whether it may change something.
    pub volatility: Volatility,
    /// How many arguments it takes at least.
    pub arguments_least: u16,
    /// At most; none if variadic.
    pub arguments_most: Option<u16>,
    /// Types of its input arguments.
    pub argument_types: Vec<u32>,
    /// The type it returns.
    pub returns: u32,
    /// Names of its OUT, INOUT and TABLE arguments, if it has any.
    pub output_names: Vec<Arc<str>>,
}

/// `prokind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FunctionKind {
    /// `f`.
    Function,
    /// `p`.
    Procedure,
    /// `a`.
    Aggregate,
    /// `w`.
    Window,
}

/// `provolatile`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Volatility {
    /// `i`.
    Immutable,
    /// `s`.
    Stable,
    /// `v`.
    Volatile,
}

/// An operator: the function behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// Schema of the function.
    pub function_schema: Arc<str>,
    /// Name of the function.
    pub function: Arc<str>,
    /// Its oid.
    pub function_oid: u32,
    /// The left operand's type; 0 for a prefix operator.
    pub left: u32,
    /// The right operand's type.
    pub right: u32,
}

/// A cast that is not the server's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cast {
    /// From this type.
    pub source: u32,
    /// To this one.
    pub target: u32,
    /// Schema and name of its function; none for casts by in- and output or without change.
    pub function: Option<(Arc<str>, Arc<str>)>,
    /// `castcontext` is not `e`: it may happen without being written.
    pub implicit: bool,
}

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlType {
    /// Its oid.
    pub oid: u32,
    /// Its schema's name.
    pub schema: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// `typtype`: b base, c composite, d domain, e enum, p pseudo, r range, m multirange.
    pub kind: char,
    /// Of a composite type: the relation with its columns.
    pub relation: u32,
    /// Of an array: its elements' type; of a domain: its base type.
    pub inner: u32,
}
