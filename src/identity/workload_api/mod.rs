//! The SPIFFE Workload API: its messages, its addresses, and a server for development and tests.
//!
//! The client is `identity/source/workload_api`.

mod address;
mod authority;
mod messages;
mod offer;
mod server;
mod service;

pub use address::{WorkloadApiAddress, WorkloadApiAddressError};
pub use messages::*;
pub use offer::{Identities, Offer};
pub use server::WorkloadApiServer;

/// What every call says, so that nobody can be tricked into making one (Workload Endpoint 3); its value is `true`.
pub const SECURITY_HEADER: &str = "workload.spiffe.io";
/// The path of `FetchX509SVID`.
pub(in crate::identity) const FETCH_X509_SVID: &str = "/SpiffeWorkloadAPI/FetchX509SVID";
/// The path of `FetchJWTBundles`.
pub(in crate::identity) const FETCH_JWT_BUNDLES: &str = "/SpiffeWorkloadAPI/FetchJWTBundles";
