//! Several byte streams over one connection between two sidecars.
//!
//! Sessions of one workload to one database share a connection: what several of them say at a time goes by one TLS record and one system
//! call, and a new session needs no handshake. Who the peer is was proved by the connection's handshake, and holds for all its streams.
//! Both sides speak it when ALPN (RFC 7301) has agreed on [`ALPN`]; a peer that does not know it agrees on another protocol.
//!
//! A frame is a head of 8 bytes, its numbers big-endian, and for `Data` as many bytes as the head says:
//!
//! ```text
//! kind (1 byte) | stream (3 bytes) | number (4 bytes)
//!
//! 1 Open    the client begins a stream; they count up from 1
//! 2 Data    `number` bytes of a stream, 64 KiB at most
//! 3 End     no more bytes come on a stream from this side
//! 4 Reset   a stream is over in both directions
//! 5 Credit  `number` more bytes may be sent on a stream, beside the 64 KiB that each begins with
//! 6 Leave   from the server (stream 0): open no more streams; from the client: none will be opened
//! 7 Accept  the server has seen that a stream was opened
//! ```
//!
//! Everything else is a violation, and ends the connection. What comes for a stream that was given up is dropped.

mod connection;
mod frame;
mod fuzz;
mod shared;
mod stream;
mod streams;
#[cfg(test)]
mod tests;

pub use connection::{Connection, Opener};
pub use frame::fuzz_frames;
pub use fuzz::fuzz_connection;
pub use stream::Stream;

/// What the protocol is called in a handshake.
pub const ALPN: &[u8] = b"portcullis-mux/1";
/// Streams that a connection has at most at a time. All are served by one thread at each end: more sessions are for other threads.
pub const MOST_STREAMS: usize = 64;
