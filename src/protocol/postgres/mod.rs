//! PostgreSQL: who may connect as whom, and which statements may run.

mod listener;

pub use listener::{Opening, PostgresListener, open, serve};
