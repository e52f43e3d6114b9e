//! PostgreSQL: who may connect as whom, and which statements may run.
//!
//! A connection walks these files: [`open`] before TLS; then `inbound` (or `outbound`, of a local app) reads the startup packet, asks what
//! `asked` makes of it, and logs in by `login`; from the first ReadyForQuery on it is a `session`. `wire` is bytes to messages and back.

mod answer;
mod asked;
mod cancel;
mod catalogue;
mod inbound;
mod listener;
mod login;
mod open;
mod outbound;
mod relayed;
mod roles;
mod session;
mod settings;
mod standing;
mod wire;

pub use answer::turn_away;
pub use cancel::CancelKeys;
pub use catalogue::{read_catalog, read_snapshot};
pub use listener::{PostgresListener, serve};
pub use open::{Opening, open};
#[doc(hidden)]
pub use wire::{fuzz_frames, fuzz_startup};
