//! The configuration file as it is written: its keys, their JSON Schema, and the text read against them.

mod conform;
mod database_keys;
mod identity_keys;
mod keys;
mod nearest;
mod policy_keys;
mod schema;
mod token_keys;
mod tree;
mod yaml;

pub(super) use conform::{conform, conform_override};
pub(super) use database_keys::{
    CatalogKeys, DatabaseKeys, InboundDatabaseKeys, OutboundDatabaseKeys, Pairs, UpstreamTlsKey,
};
pub(super) use identity_keys::{
    CrlKeys, FederationKeys, FederationProfileKey, IdentityKeys, IdentitySource, OnExpiredKey,
};
pub(super) use keys::{
    AdminKeys, AuditKeys, AuditSinkKey, ConfigFile, DurationKey, HealthKeys, InboundKeys, LimitKeys, ListenerKeys,
    LogKeys, OneOrMany, OutboundKeys, ProtocolKey,
};
pub use nearest::nearest;
pub(super) use policy_keys::PolicyKeys;
pub use schema::{schema, schema_text};
pub(super) use token_keys::{TokenIssuerKeys, TokenKeys};
pub(super) use tree::KeyPath;
pub(crate) use tree::{Entry, Node, Value};
pub(super) use yaml::read;
