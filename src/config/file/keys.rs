//! The keys of the file.
//!
//! The comments here are what people read: they become the JSON Schema's descriptions, which editors show and from which
//! `docs/configuration.md` lists every key. Ranges and defaults stand beside the key; a test compares them with what is in force.

use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

use super::database_keys::{DatabaseKeys, InboundDatabaseKeys, OutboundDatabaseKeys};
use super::identity_keys::IdentityKeys;
use super::policy_keys::PolicyKeys;
use super::token_keys::TokenKeys;
use crate::config::{LogFormat, OnAuditFailure, SqlInRecords, TlsVersion, duration};

/// Configuration of portcullis. Unknown keys are refused. Relative paths start at the folder of the configuration file. Durations are a whole number with a unit: `500ms`, `10s`, `5m`, `1h`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct ConfigFile {
    /// Who this sidecar is, and whom it trusts. All of it is checked and put in force together.
    #[schemars(required)]
    pub(crate) identity: Option<IdentityKeys>,
    /// The policies that decide.
    #[schemars(required)]
    pub(crate) policy: Option<PolicyKeys>,
    /// Listeners that take mTLS from other workloads and pass on, in plain, to the local service.
    #[serde(default)]
    pub(crate) inbound: Vec<ListenerKeys<InboundKeys>>,
    /// Listeners that take plain connections from the local app and pass on by mTLS to other workloads.
    #[serde(default)]
    pub(crate) outbound: Vec<ListenerKeys<OutboundKeys>>,
    /// What kubelet and Prometheus reach. Served only if this is here.
    pub(crate) health: Option<HealthKeys>,
    /// What operators on this machine reach. Served only if this is here.
    pub(crate) admin: Option<AdminKeys>,
    /// Where decisions are recorded. Standard output if this is not here.
    pub(crate) audit: Option<AuditKeys>,
    /// What the log looks like. It goes to standard error.
    pub(crate) log: Option<LogKeys>,
    /// TLS of all listeners; a listener's own `tls` overrides it.
    pub(crate) tls: Option<TlsKeys>,
    /// Limits of all listeners; a listener's own `limits` override them one by one.
    pub(crate) limits: Option<LimitKeys>,
    /// Data-path threads. `--workers` and `PORTCULLIS_WORKERS` override it.
    #[schemars(range(min = 1, max = 256), extend("default" = 1))]
    pub(crate) workers: Option<usize>,
    /// How long a drain may take, after SIGTERM or `/shutdown`, before open connections are cut. Kubernetes kills 30 s after SIGTERM unless told otherwise. `0s` cuts at once.
    #[schemars(extend("default" = "10s", "x-minimum" = "0s", "x-maximum" = "1h"))]
    pub(crate) shutdown_timeout: Option<DurationKey>,
    /// How often the files of `identity` and `policy` are compared with what is in force.
    #[schemars(extend("default" = "1s", "x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub(crate) reload_interval: Option<DurationKey>,
}

/// A listener.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct ListenerKeys<D> {
    /// The endpoint's name in policies: `lake` is `Endpoint::"lake"`. 1 to 63 of `a-z 0-9 . -`, the first a letter or digit. Unique per direction; the same name inbound and outbound is the same endpoint.
    #[schemars(required, length(min = 1, max = 63), extend("pattern" = "^[a-z0-9][a-z0-9.-]*$", "examples" = ["lake"]))]
    pub(crate) name: Option<String>,
    #[serde(flatten)]
    pub(crate) direction: D,
    /// What is spoken.
    #[schemars(required)]
    pub(crate) protocol: Option<ProtocolKey>,
    /// The Hosts that the listener knows, without port. `http`: all others are refused; without this key any valid Host is accepted. `s3`: legal besides IP literals, `localhost` and `host_suffixes`.
    #[schemars(length(min = 1), extend("examples" = [["lake.example"]]))]
    pub(crate) hosts: Option<Vec<String>>,
    /// `s3` only. Domains below which the first labels of a Host are the bucket: with `s3.example`, `raw.s3.example` is bucket `raw`.
    #[schemars(length(min = 1), extend("examples" = [["s3.example"]]))]
    pub(crate) host_suffixes: Option<Vec<String>>,
    /// `http` only. Empty path segments (`//`) are merged, and the merged path is judged and sent, rather than refused.
    #[schemars(extend("default" = false))]
    pub(crate) merge_slashes: Option<bool>,
    /// `s3` only. Lets keys have `.`, `..` and empty segments. A store that resolves them reads another object than the one that was judged.
    #[schemars(extend("default" = false))]
    pub(crate) unsafe_allow_dot_segments: Option<bool>,
    /// `http` only. Method- and URL-override headers (`X-HTTP-Method-Override`, `X-Original-URL` …) that are let through. An upstream that obeys them does something else than what was judged.
    #[schemars(length(min = 1), extend("examples" = [["x-http-method-override"]]))]
    pub(crate) unsafe_allow_override_headers: Option<Vec<String>>,
    /// `http`, `s3`. Tokens (JWT-SVIDs, OIDC) that say more about who asks: what they say is `context.token` in policies. They never stand in for mutual TLS. A request without one is judged without; one with a bad one is answered with 401.
    pub(crate) token: Option<TokenKeys>,
    #[serde(flatten)]
    pub(crate) database: DatabaseKeys,
    /// TLS of this listener.
    pub(crate) tls: Option<TlsKeys>,
    /// Limits of this listener.
    pub(crate) limits: Option<LimitKeys>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct InboundKeys {
    /// Address to listen on, `IP:PORT`. Port 0 takes a free one.
    #[schemars(required, extend("examples" = ["0.0.0.0:8443"]))]
    pub(crate) listen: Option<String>,
    /// The local service: `http://HOST:PORT`, or `h2c://HOST:PORT` for HTTP/2 without TLS. `tcp`, `postgres`: `HOST:PORT` or `unix:/PATH`, or a list of them that are tried in order; for `postgres` the path may be the folder of `.s.PGSQL.5432`. Must be on loopback.
    #[schemars(required, length(min = 1), extend("examples" = ["http://127.0.0.1:9000"]))]
    pub(crate) upstream: Option<OneOrMany>,
    /// Lets `upstream` be another machine. What was permitted then crosses the network unprotected, and whoever reaches the service there is not asked.
    #[schemars(extend("default" = false))]
    pub(crate) unsafe_upstream_off_loopback: Option<bool>,
    #[serde(flatten)]
    pub(crate) database: InboundDatabaseKeys,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct OutboundKeys {
    /// Address to listen on: `IP:PORT` on loopback (port 0 takes a free one), or `unix:/PATH`. Whoever reaches it acts as this workload.
    #[schemars(required, extend("examples" = ["127.0.0.1:9001"]))]
    pub(crate) listen: Option<String>,
    /// Only with a Unix socket: mode of the socket file, octal, in quotes.
    #[schemars(extend("pattern" = "^0?[0-7]{3}$", "default" = "0600", "examples" = ["0660"]))]
    pub(crate) mode: Option<String>,
    /// Only with a Unix socket: the user ids that may connect (SO_PEERCRED). Without this key the socket file's mode alone decides.
    #[schemars(length(min = 1), inner(range(max = 4_294_967_294_u32)), extend("examples" = [[1000]]))]
    pub(crate) allow_uids: Option<Vec<u32>>,
    /// Where the other sidecar listens, `HOST:PORT`. `tcp`, `postgres`: also a list of them that are tried in order.
    #[schemars(required, length(min = 1), extend("examples" = ["lake.data.svc:8443"]))]
    pub(crate) upstream: Option<OneOrMany>,
    /// Who must answer: a SPIFFE ID, a list of them, `spiffe://TRUST-DOMAIN/PATH/*` (one or more segments below), or `any` (any workload of our own trust domain).
    #[schemars(required, length(min = 1), extend("examples" = ["spiffe://pipeline.example/ns/data/sa/lake"]))]
    pub(crate) peer: Option<OneOrMany>,
    /// Lets `listen` be an address that other machines reach. Each of them then acts as this workload.
    #[schemars(extend("default" = false))]
    pub(crate) unsafe_listen_off_loopback: Option<bool>,
    #[serde(flatten)]
    pub(crate) database: OutboundDatabaseKeys,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ProtocolKey {
    /// HTTP/1.1 and HTTP/2, gRPC and WebSocket: actions `http:…` on `HttpPath`.
    Http,
    /// The S3 API: actions `s3:…` on `Bucket`, `Prefix` and `Object`.
    S3,
    /// Any bytes: one decision for a connection, action `tcp:Connect` on `Endpoint`.
    Tcp,
    /// PostgreSQL: a decision for each statement, actions `sql:…` on `Database`, `Schema`, `Table` and `Function`.
    Postgres,
}

impl ProtocolKey {
    /// As the file writes it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::S3 => "s3",
            Self::Tcp => "tcp",
            Self::Postgres => "postgres",
        }
    }
}

/// A text or a list of texts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum OneOrMany {
    One(String),
    Many(#[schemars(length(min = 1))] Vec<String>),
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct HealthKeys {
    /// Address that serves `/live`, `/ready` and `/startup`, `IP:PORT`.
    #[schemars(required, extend("examples" = ["0.0.0.0:15021"]))]
    pub(crate) listen: Option<String>,
    /// Whether it serves `/metrics` too.
    #[schemars(extend("default" = true))]
    pub(crate) metrics: Option<bool>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct AdminKeys {
    /// Address that serves what `health` does, `/status` and `POST /shutdown`: `IP:PORT` on loopback. Port 0 takes a free one.
    #[schemars(extend("examples" = ["127.0.0.1:15020"]))]
    pub(crate) listen: Option<String>,
    /// Unix socket, made with mode 0600, for what shows policy text.
    #[schemars(length(min = 1), extend("examples" = ["/run/portcullis/admin.sock"]))]
    pub(crate) socket: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct AuditKeys {
    /// Where records go.
    #[schemars(extend("default" = "stdout"))]
    pub(crate) sink: Option<AuditSinkKey>,
    /// The file, with `sink: file`. Records are appended.
    #[schemars(length(min = 1), extend("examples" = ["/var/log/portcullis/audit.jsonl"]))]
    pub(crate) path: Option<String>,
    /// The share of allowed requests that is recorded. All others always are.
    #[schemars(range(min = 0.0, max = 1.0), extend("default" = 1.0))]
    pub(crate) sample_allowed: Option<f64>,
    /// What happens to requests while records cannot be written.
    #[schemars(extend("default" = "refuse"))]
    pub(crate) unsafe_on_failure: Option<OnAuditFailure>,
    /// How SQL statements are recorded.
    #[schemars(extend("default" = "normalized"))]
    pub(crate) sql: Option<SqlInRecords>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AuditSinkKey {
    /// Standard output.
    Stdout,
    /// The file that `path` names.
    File,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct LogKeys {
    /// JSON lines, or text for people. `--log-format` and `PORTCULLIS_LOG_FORMAT` override it.
    #[schemars(extend("default" = "json"))]
    pub(crate) format: Option<LogFormat>,
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or levels per module, `info,portcullis::policy=debug`. `--log-filter` and `PORTCULLIS_LOG_FILTER` override it.
    #[schemars(length(min = 1), extend("default" = "info", "examples" = ["info"]))]
    pub(crate) filter: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct TlsKeys {
    /// The oldest TLS version that is spoken.
    #[schemars(extend("default" = "1.3"))]
    pub(crate) min_version: Option<TlsVersion>,
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub(crate) struct LimitKeys {
    /// Longest request head in bytes, request line included. 431 above.
    #[schemars(range(min = 8_192, max = 1_048_576), extend("default" = 65_536))]
    pub(crate) header_bytes: Option<usize>,
    /// Most header fields. 431 above.
    #[schemars(range(min = 16, max = 10_000), extend("default" = 100))]
    pub(crate) header_count: Option<usize>,
    /// Longest request target in bytes, less than `header_bytes`. 414 above.
    #[schemars(range(min = 256, max = 65_534), extend("default" = 16_384))]
    pub(crate) uri_bytes: Option<usize>,
    /// Concurrent HTTP/2 streams of a connection.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 100))]
    pub(crate) concurrent_streams: Option<u32>,
    /// Open connections of the listener. A PostgreSQL session that shares a connection counts as one.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 10_000))]
    pub(crate) connections: Option<usize>,
    /// Open connections of one workload, counted in the same way.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 1_000))]
    pub(crate) connections_per_workload: Option<usize>,
    /// From accept to the end of the TLS handshake.
    #[schemars(extend("default" = "10s", "x-minimum" = "10ms", "x-maximum" = "5m"))]
    pub(crate) handshake_timeout: Option<DurationKey>,
    /// From the first byte of a request head to its last. 408 above.
    #[schemars(extend("default" = "10s", "x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub(crate) header_read_timeout: Option<DurationKey>,
    /// Without a byte in either direction: an idle connection is closed, a stalled body is cut. Where no `limits` name it, `tcp` has 1h and `postgres` 24h: connections to databases stand in pools, and statements take their time.
    #[schemars(extend("default" = "1m", "x-minimum" = "10ms", "x-maximum" = "24h"))]
    pub(crate) idle_timeout: Option<DurationKey>,
    /// To reach the upstream, its TLS handshake included. 504 above. `--connect-timeout` and `PORTCULLIS_CONNECT_TIMEOUT` override it for all listeners.
    #[schemars(extend("default" = "2s", "x-minimum" = "10ms", "x-maximum" = "5m"))]
    pub(crate) connect_timeout: Option<DurationKey>,
    /// From the head of a request to the last byte of its answer. `0s`: no limit.
    #[schemars(extend("default" = "1h", "x-minimum" = "0s", "x-maximum" = "168h"))]
    pub(crate) request_timeout: Option<DurationKey>,
    /// What is under way on a connection that has to end may take so long, then the connection is cut: when its peer's certificate expires or is no longer trusted, when the policies no longer permit it, when it reaches `connection_age`. When the process ends, `shutdown_timeout` counts.
    #[schemars(extend("default" = "30s", "x-minimum" = "0s", "x-maximum" = "1h"))]
    pub(crate) grace: Option<DurationKey>,
    /// The age at which a connection is asked to end, in order and within `grace`; less up to a tenth at random, so that connections which began together do not come back together. Without this key the peer's certificate alone bounds it.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "720h", "examples" = ["1h"]))]
    pub(crate) connection_age: Option<DurationKey>,
    /// How long a connection may outlive the certificates that were shown on it. Whoever has stolen the key of one keeps its connections for as long. Revocation and withdrawn bundles still end them.
    #[schemars(extend("default" = "0s", "x-minimum" = "0s", "x-maximum" = "720h"))]
    pub(crate) unsafe_outlive_certificate: Option<DurationKey>,
    /// Longest body in bytes that has to be read to know what is asked (S3 DeleteObjects).
    #[schemars(range(min = 1_024, max = 67_108_864), extend("default" = 2_097_152))]
    pub(crate) judged_body_bytes: Option<usize>,
    /// HTTP/2 control frames (SETTINGS, PING, PRIORITY, WINDOW_UPDATE, RST_STREAM) a second of a connection, beyond those that its traffic explains. The connection is closed above.
    #[schemars(range(min = 10, max = 1_000_000), extend("default" = 1_000))]
    pub(crate) control_frames_per_second: Option<u32>,
}

/// A duration in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurationKey(pub(crate) Duration);

impl<'de> Deserialize<'de> for DurationKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        duration::parse(&text).map(Self).map_err(de::Error::custom)
    }
}

impl JsonSchema for DurationKey {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": duration::PATTERN })
    }
}
