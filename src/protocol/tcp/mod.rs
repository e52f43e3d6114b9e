//! Any bytes: one decision for a connection, then a relay.
//!
//! Nothing is read before the upstream is connected, so protocols in which the server speaks first start without delay.

mod listener;
mod proxy_header;
mod session;

pub use listener::{RelayListener, serve};
