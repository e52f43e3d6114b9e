//! What was asked: a request head becomes [`Operations`].
//!
//! Pure functions. No sockets, and no Cedar: the decision point turns these types into its own.

mod context;
mod operation;

pub use context::{Context, HeadersRead, Value};
pub use operation::{Action, Group, Operation, Operations, Resource, ResourceKind};
