//! Accepting connections: bind, take a slot, spawn. `connection.rs` is the walk of a connection on one screen.

mod accept;
mod bind;
mod connection;
mod ending;
mod slots;
mod streams;

pub use accept::accept;
pub use bind::{Acceptor, BindError, Bound};
pub use connection::{Listener, Served};
pub use slots::Slots;
use slots::{Slot, WorkloadSlot};
