//! The configuration: a file that may be wrong becomes a [`Config`] that cannot be.

mod limits;
mod settings;

pub use limits::Limits;
pub use settings::{
    AdminConfig, AuditConfig, AuditSinkConfig, Config, Direction, HealthConfig, HttpConfig, IdentityConfig,
    ListenAddress, ListenerConfig, LogConfig, LogFormat, OnAuditFailure, PeerMatcher, PeerPattern, PolicyConfig, ProtocolConfig,
    S3Config, TlsVersion, UnknownNames, UpstreamConfig, UpstreamScheme,
};
