//! Flags and environment variables that outweigh the file.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::{LogFormat, Overrides, duration};

/// Where the configuration is, and what outweighs it: flag, then environment, then file.
#[derive(Debug, Clone, Args)]
pub(super) struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "portcullis.yaml", env = "PORTCULLIS_CONFIG")]
    pub(super) config: PathBuf,
    /// Data-path threads
    #[arg(long, value_name = "N", env = "PORTCULLIS_WORKERS")]
    workers: Option<NonZeroUsize>,
    /// Log filter: `info`, `portcullis=debug`
    #[arg(long, value_name = "FILTER", env = "PORTCULLIS_LOG_FILTER")]
    log_filter: Option<String>,
    /// Log format
    #[arg(long, value_name = "json|text", env = "PORTCULLIS_LOG_FORMAT", value_parser = log_format)]
    log_format: Option<LogFormat>,
    /// How long a drain may take: `10s`, `1m`
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_SHUTDOWN_TIMEOUT", value_parser = duration::parse)]
    shutdown_timeout: Option<Duration>,
    /// How often certificates and policies are looked at: `1s`, `500ms`
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_RELOAD_INTERVAL", value_parser = duration::parse)]
    reload_interval: Option<Duration>,
    /// How long reaching an upstream may take, for every listener: `2s`
    #[arg(long, value_name = "DURATION", env = "PORTCULLIS_CONNECT_TIMEOUT", value_parser = duration::parse)]
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
        }
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err("it is `json` or `text`".to_owned()),
    }
}
