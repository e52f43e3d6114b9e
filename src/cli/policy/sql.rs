//! A SQL text as a question: its names mean what the database says they mean, or a file with its catalogue.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use tokio::runtime;
use tokio::sync::watch;

use super::SourceArgs;
use crate::analysis::{SqlSession, catalog_of};
use crate::cli::FAILURE;
use crate::config::{Config, Direction, ListenerConfig, PostgresConfig, ProtocolConfig, RoleConfig};
use crate::identity::{X509Generation, X509Source};
use crate::protocol::postgres::{read_catalog, read_snapshot};
use crate::telemetry::ListenerMetrics;
use crate::upstream::{StreamUpstream, UpstreamOptions};

/// A SQL text, and where it would run.
#[derive(Debug, Args)]
pub(super) struct SqlArgs {
    /// A SQL text; its names are looked up in the database of the endpoint, or in `--catalog`
    #[arg(long, value_name = "TEXT", requires_all = ["principal", "endpoint", "database"], conflicts_with_all = ["request", "action"])]
    pub(super) sql: Option<String>,
    /// The inbound listener before the database
    #[arg(long, value_name = "NAME", requires = "sql")]
    endpoint: Option<String>,
    /// The database
    #[arg(long, value_name = "NAME", requires = "sql")]
    database: Option<String>,
    /// What its names mean, as `policy catalog` has written it, where the database cannot be asked
    #[arg(long, value_name = "FILE", requires = "sql")]
    catalog: Option<PathBuf>,
    /// The session's role, where the endpoint's `role` does not say it
    #[arg(long, value_name = "NAME", requires = "sql")]
    role: Option<String>,
    /// The session's search_path
    #[arg(long, value_name = "PATH", requires = "sql", default_value = SqlSession::SEARCH_PATH)]
    search_path: String,
}

/// Options of `portcullis policy catalog`.
#[derive(Debug, Args)]
pub(super) struct CatalogArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The inbound listener before the database
    #[arg(long, value_name = "NAME")]
    endpoint: String,
    /// The database
    #[arg(long, value_name = "NAME")]
    database: String,
    /// The role that reads, where neither `catalog.user` nor the endpoint's `role` says it
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
}

impl SqlArgs {
    /// The session in which the text would run.
    pub(super) fn session(&self, config: Option<&Config>) -> Result<SqlSession, String> {
        let (name, database) =
            self.endpoint.as_deref().zip(self.database.as_deref()).ok_or("which `--endpoint` and `--database`?")?;
        let found = config.map(|config| endpoint(config, name)).transpose()?;
        let role = role(self.role.as_deref(), name, found.map(|(_, postgres)| postgres))?;
        let catalog = match (&self.catalog, found) {
            (Some(file), _) => Arc::new(catalog_of(file, database)?),
            (None, Some((listener, postgres))) => {
                runtime()?.block_on(async { read_catalog(postgres, upstream(listener), database, role).await })?
            }
            (None, None) => {
                return Err("what do the names in it mean? Give `--config FILE`, so that the database is asked, or `--catalog FILE`".to_owned());
            }
        };
        let session = SqlSession::new(name, catalog, role, &self.search_path)?;
        Ok(match found {
            Some((_, postgres)) => session.with_caps(postgres.caps),
            None => session,
        })
    }
}

/// Runs `policy catalog`.
pub(super) fn run_catalog(arguments: &CatalogArgs) -> ExitCode {
    let source = SourceArgs { policies: None, config: Some(arguments.config.clone()) };
    let config = match source.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let read = || {
        let config = config.as_ref().ok_or("which `--config`?")?;
        let (listener, postgres) = endpoint(config, &arguments.endpoint)?;
        let role = match (&arguments.role, &postgres.catalog) {
            (None, Some(catalog)) => &*catalog.user,
            _ => role(arguments.role.as_deref(), &arguments.endpoint, Some(postgres))?,
        };
        runtime()?.block_on(async { read_snapshot(postgres, upstream(listener), &arguments.database, role).await })
    };
    match read() {
        Ok(snapshot) => {
            print!("{}", snapshot.text());
            ExitCode::SUCCESS
        }
        Err::<_, String>(cause) => {
            eprintln!("portcullis: {cause}");
            ExitCode::from(FAILURE)
        }
    }
}

fn role<'a>(given: Option<&'a str>, endpoint: &str, found: Option<&'a PostgresConfig>) -> Result<&'a str, String> {
    match (given, found.map(|postgres| &postgres.role)) {
        (Some(role), _) => Ok(role),
        (None, Some(RoleConfig::Fixed(role))) => Ok(role),
        (None, Some(_)) => Err(format!("which role? `{endpoint}` has not the same one for all: give `--role NAME`")),
        (None, None) => Err("which role? Give `--role NAME`".to_owned()),
    }
}

fn runtime() -> Result<runtime::Runtime, String> {
    runtime::Builder::new_current_thread().enable_all().build().map_err(|cause| cause.to_string())
}

/// The way to the database. To be called inside of the runtime.
fn upstream(listener: &ListenerConfig) -> Arc<StreamUpstream> {
    let source: Arc<dyn X509Source> = Arc::new(Nobody);
    let metrics = ListenerMetrics::new(&listener.name, Direction::Inbound.as_str());
    Arc::new(StreamUpstream::new(&UpstreamOptions { listener, source: &source, metrics: &metrics }, &[]))
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
