//! A pair of sidecars before a PostgreSQL server, and the drivers of Python that go through it.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::component::python;
use super::postgres::{PgPlan, PgServer};
use super::{ALLOW_ALL, DATABASE, Output, PgWire, Process, Sidecar, TlsClient, World, psql};

/// The name of both listeners: the endpoint of `Table::"wh/analytics.public.people"`.
pub(crate) const WAREHOUSE: &str = "wh";

/// Every session as the superuser of `warehouse.sql`, so that what is denied is denied by portcullis alone.
pub(crate) const AS_ADMIN: &str = "role: fixed admin_role\ncatalog:\n  user: catalog_role\n";

/// Outbound `app`, inbound `service`, a server behind.
#[derive(Debug)]
pub(crate) struct Warehouse {
    pub(crate) outbound: Sidecar,
    pub(crate) inbound: Sidecar,
    pub(crate) server: PgServer,
}

impl World {
    /// Sessions run as `admin_role`; `yaml` is for the inbound listener in addition.
    pub(crate) async fn warehouse(&self, policies: &str, yaml: &str) -> Warehouse {
        self.warehouse_with(PgPlan::new(), policies, &format!("{AS_ADMIN}{yaml}")).await
    }

    /// The same before another server, `yaml` being all options of the inbound listener.
    pub(crate) async fn warehouse_with(&self, server: PgPlan, policies: &str, yaml: &str) -> Warehouse {
        let server = server.start().await;
        let upstream = server.url();
        self.warehouse_before(server, &upstream, policies, yaml).await
    }

    /// Everything is permitted, and roles pass through; `yaml` is for the inbound listener.
    pub(crate) async fn warehouse_with_server(&self, server: PgServer, yaml: &str) -> Warehouse {
        let upstream = server.url();
        self.warehouse_before(server, &upstream, ALLOW_ALL, yaml).await
    }

    /// The same where `upstream` says how the server is reached.
    pub(crate) async fn warehouse_before(
        &self,
        server: PgServer,
        upstream: &str,
        policies: &str,
        yaml: &str,
    ) -> Warehouse {
        let inbound = self.sidecar("service").policies(policies);
        let inbound = inbound.inbound(WAREHOUSE, "postgres", upstream, yaml).start().await;
        let outbound = self.outbound_to(&inbound, "app", "").await;
        Warehouse { outbound, inbound, server }
    }

    /// An outbound sidecar of `name` before an inbound one.
    pub(crate) async fn outbound_to(&self, inbound: &Sidecar, name: &str, yaml: &str) -> Sidecar {
        let (to, peer) = (inbound.inbound(WAREHOUSE).to_string(), self.id("service"));
        let outbound = self.sidecar(name).policies(ALLOW_ALL);
        outbound.outbound(WAREHOUSE, "postgres", &to, &peer, yaml).start().await
    }
}

impl Warehouse {
    /// Where the app connects.
    pub(crate) fn address(&self) -> SocketAddr {
        self.outbound.outbound(WAREHOUSE)
    }

    /// A raw session through both sidecars.
    pub(crate) async fn session(&self) -> PgWire {
        PgWire::session(self.address(), "admin_role").await
    }

    pub(crate) async fn psql(&self, arguments: &[&str]) -> Output {
        psql(self.address(), "admin_role", arguments, "").await
    }

    /// Runs a driver of `tests/components`: one result a step.
    pub(crate) async fn driver(&self, script: &str, steps: Value) -> Vec<Value> {
        let answer = driver(script, self.address(), json!({ "user": "admin_role" }), steps).await;
        answer.as_array().cloned().unwrap_or_else(|| panic!("{script} did not connect: {answer:#}"))
    }

    /// An SVID's own TLS session with the inbound listener, by SSLRequest and without an outbound sidecar.
    pub(crate) async fn direct(&self, client: &TlsClient) -> PgWire {
        let stream = client.clone().alpn(&["postgresql"]).connect(self.inbound.inbound(WAREHOUSE)).await;
        PgWire::over(stream.expect("the handshake succeeds"))
    }

    /// [`stop`](Self::stop) after these sessions have said goodbye.
    pub(crate) async fn stop_with<const N: usize>(self, sessions: [PgWire; N]) -> PgServer {
        for session in sessions {
            session.terminate().await;
        }
        self.stop().await
    }

    /// Stops both sidecars, asserts that they exit 0 and that no session of a client is left at the server.
    pub(crate) async fn stop(self) -> PgServer {
        self.outbound.stop().await;
        self.inbound.stop().await;
        self.server.sessions_end().await;
        self.server
    }
}

/// Runs a driver of `tests/components` against an address: its whole answer, `{"connect": ERROR}` if it got no session.
pub(crate) async fn driver(script: &str, address: SocketAddr, connect: Value, steps: Value) -> Value {
    let mut connect = connect;
    connect["host"] = json!(address.ip().to_string());
    connect["port"] = json!(address.port());
    let database = if script.starts_with("asyncpg") { "database" } else { "dbname" };
    connect[database] = json!(DATABASE);
    if script.starts_with("psycopg") && connect.get("sslmode").is_none() {
        connect["sslmode"] = json!("disable");
    }
    let mut command = python(script);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    let order = json!({ "connect": connect, "steps": steps }).to_string();
    let output = Process::run(script, command.env("PGPASSFILE", "/nonexistent"), &order).await;
    assert_eq!(output.code(), 0, "{output:#?}");
    output.json()
}

/// Policies that permit sessions and what they ask of the catalogue, and these actions on these tables besides.
pub(crate) fn only(permitted: &[(&str, &str)]) -> String {
    let mut policies = String::from(
        "@id(\"sessions\") permit (principal, action in [Action::\"sql:Connect\", Action::\"sql:Introspect\"], resource);\n",
    );
    for (number, (action, table)) in permitted.iter().enumerate() {
        policies.push_str(&format!(
            "@id(\"only-{number}\") permit (principal, action == Action::\"{action}\", resource == Table::\"{WAREHOUSE}/{DATABASE}.{table}\");\n"
        ));
    }
    policies
}

/// A statement's record has this first action and resource.
pub(crate) fn asks(record: &Value, action: &str, table: &str) -> bool {
    let resource = format!("Table::\"{WAREHOUSE}/{DATABASE}.{table}\"");
    let is = |asked: &Value| asked["action"] == action && asked["resource"] == resource;
    is(record) || record["operations"].as_array().into_iter().flatten().any(is)
}
