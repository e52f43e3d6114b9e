//! Flags and environment variables that outweigh the file.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::{LogFormat, Overrides, duration};

/// Where the configuration is, and what outweighs it: flag, then environment, then file.
#[derive(Debug, Clone, Args)]
#[command(next_line_help = true)]
pub(super) struct ConfigArgs {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "portcullis.yaml",
        env = "PORTCULLIS_CONFIG",
        hide_env_values = true
    )]
    pub(super) config: PathBuf,
    /// Data-path threads
    #[arg(long, value_name = "N", env = "PORTCULLIS_WORKERS", hide_env_values = true, value_parser = workers)]
    workers: Option<NonZeroUsize>,
    /// What is logged: `info`, `portcullis=debug,info`
    #[arg(long, value_name = "FILTER", env = "PORTCULLIS_LOG_FILTER", hide_env_values = true)]
    log_filter: Option<String>,
    /// Log format
    #[arg(long, value_name = "json|text", env = "PORTCULLIS_LOG_FORMAT", hide_env_values = true, value_parser = log_format)]
    log_format: Option<LogFormat>,
    /// How long a drain may take: `10s`, `1m`
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_SHUTDOWN_TIMEOUT", hide_env_values = true, value_parser = duration::parse)]
    shutdown_timeout: Option<Duration>,
    /// How often the files of certificates and policies are looked at: `1s`, `500ms`
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_RELOAD_INTERVAL", hide_env_values = true, value_parser = duration::parse)]
    reload_interval: Option<Duration>,
    /// How long reaching an upstream may take, for every listener: `2s`
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_CONNECT_TIMEOUT", hide_env_values = true, value_parser = duration::parse)]
    connect_timeout: Option<Duration>,
}

impl ConfigArgs {
    pub(super) fn overrides(&self) -> Overrides {
        Overrides {
            workers: self.workers,
            log_format: self.log_format,
            log_filter: self.log_filter.clone(),
            shutdown_timeout: self.shutdown_timeout,
            reload_interval: self.reload_interval,
            connect_timeout: self.connect_timeout,
            // SPIFFE Workload Endpoint, section 4: clients look here unless told otherwise.
            spiffe_endpoint_socket: std::env::var("SPIFFE_ENDPOINT_SOCKET").ok().filter(|text| !text.is_empty()),
        }
    }
}

/// What the range is says the configuration, which knows the file's limits as well.
fn workers(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "it is a whole number, at least 1".to_owned())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("it is `json` or `text`".to_owned()),
    }
}
