//! The checked configuration that the rest of the program sees.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{IdentityConfig, Limits, PolicyConfig, PostgresConfig, TcpConfig, TokenConfig};
use crate::identity::SpiffeIdPattern;

/// Everything `portcullis run` needs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who we are and whom we trust.
    pub identity: IdentityConfig,
    /// Which policies decide.
    pub policy: PolicyConfig,
    /// All listeners: inbound ones first, each group in the order of the file.
    pub listeners: Vec<ListenerConfig>,
    /// The health endpoint, if the file names one.
    pub health: Option<HealthConfig>,
    /// The admin endpoint and socket, as far as the file names them.
    pub admin: AdminConfig,
    /// Where decisions are recorded.
    pub audit: AuditConfig,
    /// How the log is written.
    pub log: LogConfig,
    /// Data-path threads.
    pub workers: NonZeroUsize,
    /// How long a drain may take before what is left is cut.
    pub shutdown_timeout: Duration,
    /// How often certificates, bundles and policies are compared with what is in force.
    pub reload_interval: Duration,
    /// Key paths of the `unsafe_…` options that the file switches on, for the log at start.
    pub unsafe_options: Vec<String>,
}

/// Which way a listener faces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// mTLS in, plain to the local service.
    Inbound,
    /// Plain in from the local app, mTLS out.
    Outbound,
}

impl Direction {
    /// As records, metrics and `context.direction` write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

/// One entry of `inbound` or `outbound`.
#[derive(Debug, Clone)]
pub struct ListenerConfig {
    /// Which way it faces.
    pub direction: Direction,
    /// `[a-z0-9][a-z0-9.-]*`, at most 63 bytes: `Endpoint::"name"`.
    pub name: Arc<str>,
    /// Where it listens.
    pub listen: ListenAddress,
    /// What is spoken on it.
    pub protocol: ProtocolConfig,
    /// Where permitted requests go.
    pub upstream: UpstreamConfig,
    /// Further ones, tried in order when the ones before cannot be reached; for `postgres` and `tcp`.
    pub further_upstreams: Vec<UpstreamConfig>,
    /// Who must answer. Outbound listeners have one, inbound ones none.
    pub peer: Option<PeerMatcher>,
    /// The oldest TLS version accepted.
    pub tls_min_version: TlsVersion,
    /// Limits: the file's `limits`, overridden by the listener's own.
    pub limits: Limits,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP address; port 0 asks the system for a free one.
    Tcp(SocketAddr),
    /// A Unix socket (outbound only).
    Unix {
        /// Where.
        path: PathBuf,
        /// The socket file's mode; 0600 unless the file says otherwise.
        mode: u32,
        /// Who may connect, by SO_PEERCRED; empty: whoever the mode lets in.
        allow_uids: Vec<u32>,
    },
}

/// What a listener speaks, with that protocol's own options.
#[derive(Debug, Clone)]
pub enum ProtocolConfig {
    /// Generic HTTP.
    Http(HttpConfig),
    /// The S3 API over HTTP.
    S3(S3Config),
    /// Any bytes: one decision for a connection.
    Tcp(TcpConfig),
    /// PostgreSQL: a decision for each statement.
    Postgres(Box<PostgresConfig>),
}

impl ProtocolConfig {
    /// Which tokens count, if any do.
    #[must_use]
    pub const fn token(&self) -> Option<&TokenConfig> {
        match self {
            Self::Http(HttpConfig { token, .. }) | Self::S3(S3Config { token, .. }) => token.as_ref(),
            Self::Tcp(_) | Self::Postgres(_) => None,
        }
    }

    /// As the file writes it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::S3(_) => "s3",
            Self::Tcp(_) => "tcp",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// Options of `protocol: http`.
#[derive(Debug, Clone, Default)]
pub struct HttpConfig {
    /// The Hosts the listener knows, lower case, without port; empty: any valid one.
    pub hosts: Vec<String>,
    /// Empty path segments are merged (and the merged path is judged and sent) rather than refused.
    pub merge_slashes: bool,
    /// Method- and URL-override headers that are let through though they are refused otherwise.
    pub unsafe_allow_override_headers: Vec<HeaderName>,
    /// Tokens that say more about who asks.
    pub token: Option<TokenConfig>,
}

/// Options of `protocol: s3`.
#[derive(Debug, Clone, Default)]
pub struct S3Config {
    /// Further legal Hosts (path style), lower case, without port.
    pub hosts: Vec<String>,
    /// Suffixes below which the first labels are the bucket, lower case, without leading dot.
    pub host_suffixes: Vec<String>,
    /// Keys may have `.`, `..` and empty segments. Only for stores that never resolve them.
    pub unsafe_allow_dot_segments: bool,
    /// Tokens that say more about who asks.
    pub token: Option<TokenConfig>,
}

/// Where permitted requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamConfig {
    /// What is spoken to it.
    pub scheme: UpstreamScheme,
    /// A host name or IP literal (IPv6 without brackets); for [`UpstreamScheme::Unix`] the path of the socket.
    pub host: String,
    /// The port; 0 for a Unix socket.
    pub port: u16,
}

/// What is spoken to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamScheme {
    /// Cleartext HTTP/1.1: `http://`.
    Http,
    /// Cleartext HTTP/2 with prior knowledge: `h2c://`.
    H2c,
    /// Mutual TLS; the HTTP version by ALPN. What outbound listeners speak.
    Mtls,
    /// TCP without a protocol of ours on it: `HOST:PORT` of an inbound `tcp` or `postgres` listener.
    Plain,
    /// A Unix socket: `unix:/PATH`.
    Unix,
}

/// Who may answer an outbound listener's calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMatcher {
    /// Any workload of our own trust domain.
    AnyInOwnTrustDomain,
    /// Any of these.
    OneOf(Vec<SpiffeIdPattern>),
}

/// TLS versions that can be asked for as the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 and 1.3.
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 only.
    #[serde(rename = "1.3")]
    V1_3,
}

/// `health`.
#[derive(Debug, Clone)]
pub struct HealthConfig {
    /// Where `/live`, `/ready`, `/startup` and `/metrics` are served.
    pub listen: SocketAddr,
    /// Whether `/metrics` is.
    pub metrics: bool,
}

/// `admin`.
#[derive(Debug, Clone, Default)]
pub struct AdminConfig {
    /// Loopback address, port 0 allowed.
    pub listen: Option<SocketAddr>,
    /// Unix socket, made with mode 0600.
    pub socket: Option<PathBuf>,
}

/// `audit`.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// Where records go.
    pub sink: AuditSinkConfig,
    /// What happens to requests while records cannot be written.
    pub on_failure: OnAuditFailure,
    /// The share of allowed requests that is recorded, 0 to 1. All others always are.
    pub sample_allowed: f64,
}

/// Where records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditSinkConfig {
    /// Standard output.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

/// What happens to requests while records cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnAuditFailure {
    /// They are refused.
    Refuse,
    /// They go on unrecorded.
    Allow,
}

/// `log`.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// JSON lines or text.
    pub format: LogFormat,
    /// A `tracing` filter: `info`, `portcullis=debug`.
    pub filter: String,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}
