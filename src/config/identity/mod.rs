//! `identity`: who we are, and whom we trust.

mod endpoint;
mod federation;
mod problem;
mod read;
mod settings;

pub(super) use read::identity;
pub use settings::{CrlConfig, FederationConfig, FederationProfile, IdentityConfig, IdentitySourceConfig};
