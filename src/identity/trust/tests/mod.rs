//! Bundles as JSON, and revocation.

mod documents;
mod revocation;
