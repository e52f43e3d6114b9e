//! PostgreSQL: who may connect as whom, and which statements may run.

mod listener;
mod wire;

pub use listener::{Opening, PostgresListener, open, serve};
#[doc(hidden)]
pub use wire::{fuzz_frames, fuzz_startup};
