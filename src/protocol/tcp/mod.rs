//! Any bytes: one decision for a connection, then a relay.

mod listener;

pub use listener::{RelayListener, serve};
