//! `portcullis run`: the sidecar.

use std::process::ExitCode;

use clap::Args;

use super::overrides::ConfigArgs;
use super::{FAILURE, colour};
use crate::app::{App, StartError};
use crate::config::Config;

/// Options of `portcullis run`.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs until a signal or `POST /shutdown` ends it.
pub(super) fn run(arguments: &RunArgs) -> ExitCode {
    let config = match Config::load(&arguments.config.config, &arguments.config.overrides()) {
        Ok(config) => config,
        Err(errors) => {
            eprint!("{}", errors.render(colour()));
            return ExitCode::from(FAILURE);
        }
    };
    match App::start(config).and_then(App::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartError::Policy(errors)) => {
            eprint!("{}", errors.render(colour()));
            ExitCode::from(super::policy::INVALID_POLICY)
        }
        Err(error) => {
            eprintln!("portcullis: {error}");
            ExitCode::from(FAILURE)
        }
    }
}
