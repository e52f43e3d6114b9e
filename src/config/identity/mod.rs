//! `identity` and `token`: who we are, whom we trust, and which tokens say more about who asks.

mod endpoint;
mod federation;
mod problem;
mod read;
mod settings;
mod token;

pub(super) use read::identity;
pub use settings::{
    CrlConfig, FederationConfig, FederationProfile, IdentityConfig, IdentitySourceConfig, TokenConfig, TokenIssuer,
};
pub(super) use token::token;
