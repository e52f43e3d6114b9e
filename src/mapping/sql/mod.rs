//! What a SQL text asks: PostgreSQL's own grammar, walked node by node, with names meaning what the server says they mean.
//!
//! Pure: the catalogue and the facts of the session come in as values, nothing here talks to a server.

mod asked;
#[cfg(test)]
mod bombs;
pub mod catalog;
#[cfg(test)]
mod coverage;
mod depth;
mod facts;
mod fuzz;
mod harmless;
mod introspection;
mod key;
mod map;
mod mapped;
mod names;
mod operations;
mod parse;
mod places;
mod query;
mod replication;
mod rewrite;
mod statements;
mod text;
mod whole_rows;

pub use facts::{PreparedTexts, SessionFacts};
pub use fuzz::{fuzz, fuzz_key, fuzz_replication};
pub use key::safe_key;
pub use map::{map, map_by_itself};
pub use mapped::{Copying, Cursor, Effects, Mapped, MappedStatement, Naming, SqlRefusal, Transaction};
pub use names::{cut, parse_search_path};
pub use operations::{actions, resource_kinds};
pub use parse::{LONGEST_TEXT, STACK};
pub use replication::map_replication;
pub use rewrite::{Instead, Rewrite};
pub use statements::{kinds, setting_boolean, setting_is_harmless, timeout_milliseconds};
pub use whole_rows::{ToldRows, whole_rows};
