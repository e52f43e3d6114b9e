//! What was asked: a request head becomes [`Operations`].
//!
//! Pure functions. No sockets, and no Cedar: the decision point turns these types into its own.
//!
//! [`head::judge`] comes first, on every request of every protocol over HTTP; then [`http::map`] or [`s3::map`] name what is
//! asked. What cannot be named is a [`Refusal`] and is not forwarded.

pub mod head;
pub mod http;
pub mod http_path;
pub mod s3;
pub mod sql;

mod context;
mod operation;
mod percent;
mod redact;
mod refusal;

pub use context::{Context, HeadersRead, Tags, TagsRead, Value};
pub use operation::{Action, Group, Operation, Operations, Resource, ResourceKind, push_sql_name};
pub use redact::{REDACTED, is_secret_header};
pub use refusal::{Refusal, public_part};
