//! What a database says its names mean, at one moment.

mod model;

pub use model::{
    Cast, Catalog, Column, Function, FunctionKind, Operator, Relation, RelationKind, Role, Schema, SqlType, Usage,
    Volatility,
};

/// Whether something came with the server.
///
/// # Source
/// PostgreSQL `access/transam.h`: `FirstNormalObjectId`.
#[must_use]
pub const fn is_built_in(oid: u32) -> bool {
    oid < 16_384
}
