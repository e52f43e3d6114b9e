//! PostgreSQL: who may connect as whom, and which statements may run.

mod cancel;
mod listener;
mod login;
mod wire;

pub use cancel::CancelKeys;
pub use listener::{Opening, PostgresListener, open, serve};
#[doc(hidden)]
pub use wire::{fuzz_frames, fuzz_startup};
