//! Options of `protocol: tcp` and `protocol: postgres`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Options of `protocol: tcp`.
#[derive(Debug, Clone, Default)]
pub struct TcpConfig {
    /// Inbound: the upstream is told who connects by a PROXY protocol v2 header.
    pub send_proxy: bool,
    /// Inbound: addresses whose connections begin with a PROXY protocol v2 header, before TLS; empty: none do.
    pub accept_proxy_from: Vec<Network>,
    /// A connection is closed when it is this old; none: never.
    pub lifetime: Option<Duration>,
}

/// A range of IP addresses: `10.0.0.0/8`, `::1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The first address.
    pub address: IpAddr,
    /// How many leading bits count.
    pub prefix: u8,
}

impl Network {
    /// Whether `address` is one of them. IPv4-mapped IPv6 addresses are IPv4 ones.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        fn bits(address: IpAddr) -> (u128, u32) {
            match address.to_canonical() {
                IpAddr::V4(ip) => (u128::from(u32::from(ip)) << 96, 32),
                IpAddr::V6(ip) => (u128::from(ip), 128),
            }
        }
        let ((own, width), (other, other_width)) = (bits(self.address), bits(address));
        let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix).min(width)).unwrap_or(0);
        width == other_width && own & mask == other & mask
    }
}

/// Options of `protocol: postgres`.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// As which role sessions run (inbound).
    pub role: RoleConfig,
    /// How the proxy proves to the server that it may be the role, and the catalogue user (inbound).
    pub password: Option<PasswordSource>,
    /// Who reads the catalogue (inbound); none: the role of the session, with `password`.
    pub catalog: Option<CatalogConfig>,
    /// How old what is known of the catalogue may be. Default 1 s.
    pub catalog_max_age: Duration,
    /// TLS to the server (inbound).
    pub upstream_tls: UpstreamTls,
    /// Certificate for local clients that insist on TLS (outbound): chain and key, PEM.
    pub local_certificate: Option<(PathBuf, PathBuf)>,
    /// How many sessions share a connection to a sidecar (outbound). Default 16; 1: each has its own.
    pub sessions_per_connection: usize,
    /// Caps of the session's timeouts; none: not capped.
    pub caps: SessionCaps,
    /// Longest message from a client that is no COPY data. Default 16 MiB.
    pub message_bytes: usize,
    /// Longest statement text. Default 1 MiB.
    pub statement_bytes: usize,
    /// From the startup packet to the end of authentication. Default 30 s.
    pub authentication_timeout: Duration,
    /// How statements are recorded.
    pub sql: SqlInRecords,
}

/// As which role sessions run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleConfig {
    /// As the one that the client asks for, which proves itself to the server.
    Passthrough,
    /// All as this one.
    Fixed(Box<str>),
    /// As the one that the first fitting entry names; nobody fits: refused.
    ByIdentity(Vec<(RoleOf, Box<str>)>),
}

impl RoleConfig {
    /// The stages that it names.
    pub fn stages(&self) -> impl Iterator<Item = &str> {
        let table = match self {
            Self::ByIdentity(table) => table.as_slice(),
            Self::Passthrough | Self::Fixed(_) => &[],
        };
        table.iter().filter_map(|(of, _)| match of {
            RoleOf::Stage(stage) => Some(&**stage),
            RoleOf::Workload(_) => None,
        })
    }
}

/// Whom an entry of a role table is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleOf {
    /// The workload with this SPIFFE ID, or those below it (`…/*`).
    Workload(crate::identity::SpiffeIdPattern),
    /// The members of this stage.
    Stage(Box<str>),
}

/// Where a password comes from. It is asked for each connection, so that tokens that expire in minutes work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PasswordSource {
    /// The first line of this file.
    File(PathBuf),
    /// The first line that this program writes, given `PGUSER`, `PGHOST`, `PGPORT` and `PGDATABASE`.
    Command(Vec<String>),
}

/// Who reads the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogConfig {
    /// The role.
    pub user: Box<str>,
    /// Its password, if the server asks for one.
    pub password: Option<PasswordSource>,
}

/// TLS to a server that is not a sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTls {
    /// None: loopback or a Unix socket.
    Disable,
    /// By SSLRequest, as all versions of PostgreSQL know it.
    Request(UpstreamCa),
    /// At once, as PostgreSQL 17 and later do.
    Direct(UpstreamCa),
}

/// Who vouches for a server that is not a sidecar. Its certificate must name the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamCa {
    /// The authorities that the system trusts.
    System,
    /// Those of a PEM file.
    File(PathBuf),
}

/// Timeouts that a session begins with and cannot raise. None: the server's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SessionCaps {
    /// `statement_timeout`.
    pub statement: Option<Duration>,
    /// `idle_in_transaction_session_timeout`.
    pub idle_in_transaction: Option<Duration>,
    /// The age of a transaction; held by the proxy.
    pub transaction: Option<Duration>,
    /// Without a statement outside of a transaction; held by the proxy.
    pub session_idle: Option<Duration>,
}

/// How statements are recorded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SqlInRecords {
    /// With every literal replaced by `$1`, `$2` …
    #[default]
    Normalized,
    /// Word for word, literals included.
    Full,
    /// Only the fingerprint.
    Fingerprint,
}
