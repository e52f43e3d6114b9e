//! Flags and environment variables that outweigh the file.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;

use crate::config::Overrides;

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
    #[arg(long, value_name = "json|text", env = "PORTCULLIS_LOG_FORMAT")]
    log_format: Option<crate::config::LogFormat>,
}

impl ConfigArgs {
    pub(super) fn overrides(&self) -> Overrides {
        Overrides { workers: self.workers, log_filter: self.log_filter.clone(), log_format: self.log_format }
    }
}
