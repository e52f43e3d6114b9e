//! The configuration: a file that may be wrong becomes a [`Config`] that cannot be.
//!
//! `file/` reads the text into a tree that knows its places and checks it against the JSON Schema of the types; `load` and `listener`
//! make the [`Config`] from what is left. Nothing stops at the first problem: [`ConfigErrors`] has all of them.

mod address;
mod database;
mod document;
pub mod duration;
mod ends;
mod errors;
mod file;
mod identity;
mod limits;
mod listener;
mod load;
mod peer;
mod policy;
mod postgres;
mod reading;
mod settings;
mod tcp;
mod token;
mod upstream;

#[cfg(test)]
mod tests;

pub use database::{
    CatalogConfig, Network, PasswordSource, PostgresConfig, RoleConfig, RoleOf, SessionCaps, SqlInRecords, TcpConfig,
    UpstreamCa, UpstreamTls,
};
pub(crate) use document::document;
pub use document::list_of_document;
pub use errors::{ConfigErrors, ConfigProblem, Place};
pub(crate) use file::{Entry, Node, Value};
pub use file::{nearest, schema, schema_text};
pub use identity::{CrlConfig, FederationConfig, FederationProfile, IdentityConfig, IdentitySourceConfig};
pub use limits::Limits;
pub use load::Overrides;
pub use policy::{PolicyConfig, PolicyOrigin, PolicyUrl, UnknownNames};
pub use settings::{
    AdminConfig, AuditConfig, AuditSinkConfig, Config, Direction, HealthConfig, HttpConfig, ListenAddress,
    ListenerConfig, LogConfig, LogFormat, OnAuditFailure, PeerMatcher, ProtocolConfig, S3Config, TlsVersion,
    UpstreamConfig, UpstreamScheme,
};
pub use token::{ForwardToken, TokenConfig, TokenIssuerConfig};
