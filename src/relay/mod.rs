//! Bytes both ways between two streams, and what it takes to do little else per byte.

mod apart;
mod both;
mod woken;

pub use apart::{Apart, apart};
pub use both::{Ended, Moved, Relayed, relay, relay_counted, relay_settled};
pub use woken::Woken;
