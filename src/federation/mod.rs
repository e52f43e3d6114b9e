//! SPIFFE Federation, the consuming side: the bundles of other trust domains, fetched from their bundle endpoints.
//!
//! [`Relationship`] is one configured trust domain; [`Relationship::keep`] polls its endpoint for as long as it is let. What is fetched is
//! brought to the [`IdentityStore`](crate::identity::IdentityStore) as the bundle of exactly the trust domain that was asked for: a bundle does
//! not say whose it is.
//!
//! # Source
//! SPIFFE Federation (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Federation.md>).

mod error;
mod relationship;

pub use error::RefreshError;
pub use relationship::Relationship;
