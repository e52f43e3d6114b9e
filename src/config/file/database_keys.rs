//! The keys of listeners that speak `tcp` or `postgres`.
//!
//! What only one direction has stands in a struct of its own, so that the other direction does not know it.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::keys::DurationKey;

/// Both directions.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct DatabaseKeys {
    /// `tcp` only. The age at which a connection is closed, whatever moves on it. Without this key it may live on.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "720h", "examples" = ["1h"]))]
    pub(crate) lifetime: Option<DurationKey>,
    /// `postgres` only. From the first byte of a connection to the end of its authentication.
    #[schemars(extend("default" = "30s", "x-minimum" = "10ms", "x-maximum" = "10m"))]
    pub(crate) authentication_timeout: Option<DurationKey>,
}

/// Inbound listeners.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct InboundDatabaseKeys {
    /// `tcp` only. Each connection to the upstream begins with a PROXY protocol v2 header: who connects from where, with the SPIFFE ID, the TLS version and the decision id. The upstream has to expect it.
    #[schemars(extend("default" = false))]
    pub(crate) send_proxy_protocol: Option<bool>,
    /// `tcp` only. Addresses and networks, `10.0.0.0/8`, whose connections begin with a PROXY protocol v2 header, before TLS: what load balancers send. The address in it is then what records and `context.sourceIp` have. From others such a header is refused.
    #[schemars(length(min = 1), extend("examples" = [["10.0.0.0/8"]]))]
    pub(crate) accept_proxy_protocol_from: Option<Vec<String>>,
    /// `postgres` only. As which role sessions run: `passthrough` (the one that the client asks for; it proves itself to the server), `fixed NAME` (all as this one), or `by_identity` (as `roles` says).
    #[schemars(length(min = 1), extend("default" = "passthrough", "examples" = ["fixed etl"]))]
    pub(crate) role: Option<String>,
    /// `postgres` with `role: by_identity`: for each SPIFFE ID, `spiffe://TRUST-DOMAIN/PATH/*` or `Stage::NAME` the role of its sessions. The first entry that fits counts; whom none fits is refused.
    #[schemars(extend("minProperties" = 1, "x-entries" = "identity: role", "examples" = [{"spiffe://pipeline.example/ns/etl/sa/load": "etl"}]))]
    pub(crate) roles: Option<Pairs>,
    /// `postgres` with `role: fixed` or `by_identity`. File whose first line is the password, read for each connection.
    #[schemars(length(min = 1), extend("examples" = ["/run/secrets/etl"]))]
    pub(crate) password_file: Option<String>,
    /// `postgres` with `role: fixed` or `by_identity`. Program and arguments; the first line that it writes is the password. It is run for each connection, with `PGUSER`, `PGHOST`, `PGPORT` and `PGDATABASE` in its environment.
    #[schemars(length(min = 1), extend("examples" = [["/usr/local/bin/rds-token", "--region", "eu-west-1"]]))]
    pub(crate) password_command: Option<Vec<String>>,
    /// `postgres` only. Who reads the names of tables and columns from the server's catalogue. Without it the role of the session does; with `role: passthrough` it has no password then, so the server has to trust the sidecar's connections.
    pub(crate) catalog: Option<CatalogKeys>,
    /// `postgres` only. How old the known catalogue may be before it is asked for changes. Names that others change are seen after this time at the latest.
    #[schemars(extend("default" = "1s", "x-minimum" = "0s", "x-maximum" = "1h"))]
    pub(crate) catalog_max_age: Option<DurationKey>,
    /// `postgres` only. TLS to the server. With it the upstream may be another machine.
    #[schemars(extend("default" = "disable"))]
    pub(crate) upstream_tls: Option<UpstreamTlsKey>,
    /// `postgres` with `upstream_tls`. Who vouches for the server: `system`, or a PEM file with certificate authorities. The certificate must name the host of `upstream`.
    #[schemars(length(min = 1), extend("default" = "system", "examples" = ["/run/secrets/rds-ca.pem"]))]
    pub(crate) upstream_ca: Option<String>,
    /// `postgres` only. `statement_timeout` of every session, and the most that a client may set it to. Without this key the server's own is in force.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "168h", "examples" = ["5m"]))]
    pub(crate) statement_timeout: Option<DurationKey>,
    /// `postgres` only. The same for `idle_in_transaction_session_timeout`.
    #[schemars(extend("x-minimum" = "1ms", "x-maximum" = "168h", "examples" = ["1m"]))]
    pub(crate) idle_in_transaction_timeout: Option<DurationKey>,
    /// `postgres` only. The age at which a transaction is ended. Without this key it may live on.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "168h", "examples" = ["1h"]))]
    pub(crate) transaction_timeout: Option<DurationKey>,
    /// `postgres` only. How long a session may be without a statement outside of a transaction. Without this key `limits.idle_timeout` alone holds.
    #[schemars(extend("x-minimum" = "10ms", "x-maximum" = "168h", "examples" = ["8h"]))]
    pub(crate) session_idle_timeout: Option<DurationKey>,
    /// `postgres` only. Longest message of a client in bytes, COPY data excepted.
    #[schemars(range(min = 65_536, max = 1_073_741_823), extend("default" = 16_777_216))]
    pub(crate) message_bytes: Option<usize>,
    /// `postgres` only. Longest text of a statement in bytes, at most `message_bytes`.
    #[schemars(range(min = 1_024, max = 67_108_864), extend("default" = 1_048_576))]
    pub(crate) statement_bytes: Option<usize>,
}

/// Outbound listeners.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct OutboundDatabaseKeys {
    /// `postgres` only. PEM file with a certificate chain for local clients that insist on TLS (`sslmode=require`). Without it they are told that there is none.
    #[schemars(length(min = 1), extend("examples" = ["/run/secrets/localhost.pem"]))]
    pub(crate) local_certificate: Option<String>,
    /// `postgres` only. PEM file with the private key of `local_certificate`.
    #[schemars(length(min = 1), extend("examples" = ["/run/secrets/localhost.key"]))]
    pub(crate) local_private_key: Option<String>,
    /// `postgres` only. How many sessions share a connection to the peer, if that is a sidecar; each data-path thread has connections of its own. 1: each session has a connection to itself, which a load balancer between the two may then send elsewhere.
    #[schemars(range(min = 1, max = 64), extend("default" = 16))]
    pub(crate) sessions_per_connection: Option<usize>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct CatalogKeys {
    /// The role that reads `pg_catalog`. It needs `CONNECT` on the databases and nothing else.
    #[schemars(required, length(min = 1, max = 63), extend("examples" = ["portcullis_catalog"]))]
    pub(crate) user: Option<String>,
    /// File whose first line is its password.
    #[schemars(length(min = 1), extend("examples" = ["/run/secrets/catalog"]))]
    pub(crate) password_file: Option<String>,
    /// Program and arguments; the first line that it writes is the password.
    #[schemars(length(min = 1), extend("examples" = [["/usr/local/bin/rds-token"]]))]
    pub(crate) password_command: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UpstreamTlsKey {
    /// None: the server is on loopback or behind a Unix socket.
    Disable,
    /// Verified, asked for by SSLRequest: all versions of PostgreSQL.
    Request,
    /// Verified, from the first byte on: PostgreSQL 17 and later.
    Direct,
}

/// A mapping from text to text in the order of the file.
#[derive(Debug, Default)]
pub(crate) struct Pairs(pub(crate) Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block of keys")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl JsonSchema for Pairs {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pairs".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": "string" } })
    }
}
