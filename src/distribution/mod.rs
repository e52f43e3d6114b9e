//! Policies from an HTTPS address: signed bundles, polled by their ETag, the last good one kept on disk.
//!
//! [`Distribution`] is what is configured by `policy.url`. [`Distribution::keep`] asks the server for as long as it is let and brings what
//! is good to the [`PolicyStore`](crate::policy::PolicyStore). Nothing that the server does takes the last good bundle out of force: not
//! silence, not an older bundle, not one with another signature, not policies that do not load.

mod cache;
mod error;
mod health;
mod keep;
mod once;

pub use error::DistributionError;
pub use health::{BundleInForce, DistributionFault, DistributionHealth, DistributionState};
pub use keep::Distribution;
