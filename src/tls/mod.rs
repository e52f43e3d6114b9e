//! Handshakes, as server and as client: who is the peer, proved.
//!
//! [`ServerTls`] and [`ClientTls`] hold rustls' configuration for the identity in force; [`Peer`] comes out of a verified
//! handshake and from nowhere else; [`Stay`] tells how long it may stay; [`HandshakeRefusal`] names the rule that failed. All rustls types that are not part
//! of a stream stay inside this module.

mod client;
mod endpoint;
mod handshake;
mod inspect;
mod judge;
mod local;
mod peer;
mod public;
mod refusal;
mod reread;
mod server;
mod stay;
mod verifier;

#[cfg(test)]
mod tests;

pub use client::ClientTls;
pub use endpoint::EndpointTls;
pub use inspect::{Inspection, inspect};
pub use local::LocalTls;
pub use peer::Peer;
pub use public::{PublicTls, server_end_point};
pub use refusal::HandshakeRefusal;
pub use server::ServerTls;
pub use stay::{Stay, StayOver};
pub use verifier::is_expected;
