//! A SQL text as a question: its names mean what the database says they mean.

use std::sync::Arc;

use clap::Args;
use tokio::runtime;
use tokio::sync::watch;

use crate::analysis::{Explanation, explain_operations};
use crate::config::{Config, Direction, ListenerConfig, PostgresConfig, ProtocolConfig, RoleConfig};
use crate::identity::{SpiffeId, X509Generation, X509Source};
use crate::mapping::sql::{SessionFacts, map_by_itself, parse_search_path};
use crate::mapping::{Context, Value};
use crate::policy::{Outcome, PolicyGeneration};
use crate::protocol::postgres::read_catalog;
use crate::telemetry::ListenerMetrics;
use crate::upstream::{StreamUpstream, UpstreamOptions};

/// A SQL text, and where it would run.
#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// A SQL text; its names are looked up in the database of the endpoint
    #[arg(long, value_name = "TEXT", requires_all = ["principal", "endpoint", "database", "config"], conflicts_with_all = ["request", "action"])]
    pub(super) sql: Option<String>,
    /// The inbound listener before the database
    #[arg(long, value_name = "NAME", requires = "sql")]
    endpoint: Option<String>,
    /// The database
    #[arg(long, value_name = "NAME", requires = "sql")]
    database: Option<String>,
    /// The session's role, where the endpoint's `role` does not say it
    #[arg(long, value_name = "NAME", requires = "sql")]
    role: Option<String>,
    /// The session's search_path
    #[arg(long, value_name = "PATH", requires = "sql", default_value = "\"$user\", public")]
    search_path: String,
}

impl SqlArgs {
    /// Explains each statement of the text.
    pub(super) fn explain(
        &self,
        text: &str,
        config: &Config,
        policies: &PolicyGeneration,
        principal: &SpiffeId,
    ) -> Result<Explanation, String> {
        let (name, database) =
            self.endpoint.as_deref().zip(self.database.as_deref()).ok_or("which `--endpoint` and `--database`?")?;
        let (listener, postgres) = endpoint(config, name)?;
        let role = match (&self.role, &postgres.role) {
            (Some(role), _) => role.as_str(),
            (None, RoleConfig::Fixed(role)) => role,
            (None, _) => return Err(format!("which role? `{name}` has not the same one for all: give `--role NAME`")),
        };
        let source: Arc<dyn X509Source> = Arc::new(Nobody);
        let metrics = ListenerMetrics::new(name, Direction::Inbound.as_str());
        let options = UpstreamOptions { listener, source: &source, metrics: &metrics };
        let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(|cause| cause.to_string())?;
        let catalog = runtime.block_on(async {
            let upstream = Arc::new(StreamUpstream::new(&options, &[]));
            read_catalog(postgres, upstream, database, role).await
        })?;
        let facts = SessionFacts {
            role: role.into(),
            session_role: role.into(),
            search_path: parse_search_path(&self.search_path)
                .ok_or_else(|| format!("`--search-path {}` is no search path", self.search_path))?,
            temp_schema: None,
            utf8_client: true,
            utf8_server: true,
            caps: postgres.caps,
        };
        let mapped = match map_by_itself(text, name, &catalog, &facts) {
            Ok(mapped) => mapped,
            Err(refusal) => {
                return Ok(refused(format!("{}: {} (SQLSTATE {})", refusal.rule, refusal.message, refusal.sqlstate)));
            }
        };
        let mut shared = Context::default();
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_millis());
        shared.set("now", Value::Datetime(i64::try_from(now).unwrap_or(i64::MAX)));
        shared.set("direction", Direction::Inbound.as_str());
        let each = mapped
            .statements
            .iter()
            .map(|statement| explain_operations(policies, principal, &statement.operations, &shared));
        Ok(Explanation::joined(each.collect::<Result<_, _>>()?))
    }
}

fn refused(why: String) -> Explanation {
    Explanation { outcome: Outcome::Refused, refusal: Some(why), operations: Vec::new() }
}

fn endpoint<'a>(config: &'a Config, name: &str) -> Result<(&'a ListenerConfig, &'a PostgresConfig), String> {
    let inbound = config.listeners.iter().filter(|listener| listener.direction == Direction::Inbound);
    let postgres = inbound.filter_map(|listener| match &listener.protocol {
        ProtocolConfig::Postgres(postgres) => Some((listener, &**postgres)),
        _ => None,
    });
    postgres
        .into_iter()
        .find(|(listener, _)| &*listener.name == name)
        .ok_or_else(|| format!("the configuration has no inbound listener `{name}` with `protocol: postgres`"))
}

/// Databases are reached as the sidecar beside them reaches them: without mutual TLS, so without an identity.
#[derive(Debug)]
struct Nobody;

impl X509Source for Nobody {
    fn current(&self) -> Option<Arc<X509Generation>> {
        None
    }

    fn changed(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}
