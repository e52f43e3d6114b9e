//! What a database says its names mean, at one moment.

mod model;

pub use model::{
    Cast, Catalog, Column, Function, FunctionKind, Operator, Relation, RelationKind, Schema, SqlType, Volatility,
};
