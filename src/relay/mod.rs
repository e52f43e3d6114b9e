//! Bytes both ways between two streams, and what it takes to do little else per byte.

mod ahead;
mod apart;
mod both;
mod buffers;
mod woken;

pub use ahead::ReadAhead;
pub use apart::{Apart, apart};
pub use both::{Ended, Moved, Relayed, relay, relay_counted, relay_settled};
pub use buffers::{FRAME_HEAD, RECORD_BYTES, RECORD_PAYLOAD};
pub use woken::Woken;
