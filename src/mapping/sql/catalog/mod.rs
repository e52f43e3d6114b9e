//! What a database says its names mean, at one moment.

mod build;
mod built_in;
mod model;
mod part;
mod queries;
mod reach;
mod roles;
mod rows;
mod snapshot;
#[cfg(test)]
pub(crate) mod testing;

pub use build::CatalogError;
pub use built_in::BuiltIn;
pub use model::{
    Base, Cast, Catalog, Column, Function, FunctionKind, Operator, Relation, RelationKind, Role, Schema, SqlType,
    Usage, Volatility,
};
pub use part::{Asked, Fingerprint, Part};
pub use queries::{Query, Reading};
pub use rows::{CatalogRows, RowError};
pub use snapshot::{Snapshot, SnapshotError};

/// Whether something came with the server.
///
/// # Source
/// PostgreSQL `access/transam.h`: `FirstNormalObjectId`.
#[must_use]
pub const fn is_built_in(oid: u32) -> bool {
    oid < 16_384
}

#[cfg(test)]
mod tests;
