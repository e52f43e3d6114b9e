//! `portcullis policy plan`: what other policies would change.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{GREW, NOT_PROVED, Output, live, loaded, loaded_with_warnings};
use crate::analysis::{Solver, plan};
use crate::cli::FAILURE;
use crate::policy::PolicySource;

/// Options of `portcullis policy plan`.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The policies in force
    #[arg(value_name = "OLD", required_unless_present = "live", requires = "new")]
    old: Option<PathBuf>,
    /// The policies that are to follow them
    #[arg(value_name = "NEW")]
    new: Option<PathBuf>,
    /// What the candidates of a running sidecar (policy.shadow, @mode("shadow")) would have decided otherwise since they are tried
    #[arg(long, conflicts_with = "old")]
    live: bool,
    /// The sidecar's admin socket
    #[arg(long, value_name = "PATH", requires = "live")]
    socket: Option<PathBuf>,
    /// The configuration that names the socket
    #[arg(long, value_name = "FILE", requires = "live")]
    config: Option<PathBuf>,
    #[command(flatten)]
    solver: SolverArgs,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The solver, for what hangs on conditions.
#[derive(Debug, Args)]
pub(super) struct SolverArgs {
    /// The solver cvc5, of which nothing is needed but the program
    #[arg(long, value_name = "PATH", default_value = "cvc5")]
    solver: PathBuf,
    /// Seconds that the solver may think about one question
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

impl SolverArgs {
    pub(super) fn solver(&self) -> Solver {
        Solver { program: self.solver.clone(), timeout: Duration::from_secs(self.timeout) }
    }
}

/// Runs the command: 0 if nobody would be allowed more, 2 if somebody would, 4 if it is not known.
pub(super) fn run(arguments: &PlanArgs) -> ExitCode {
    match (&arguments.old, &arguments.new) {
        (Some(old), Some(new)) => compared(old, new, arguments),
        _ => live::run(arguments.socket.as_deref(), arguments.config.as_deref(), arguments.output),
    }
}

fn compared(old: &Path, new: &Path, arguments: &PlanArgs) -> ExitCode {
    let (old, new) = match (loaded(&PolicySource::of(old)), loaded_with_warnings(&PolicySource::of(new))) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(code), _) | (_, Err(code)) => return code,
    };
    match plan(&old, &new, &arguments.solver.solver()) {
        Ok(plan) => {
            match arguments.output {
                Output::Json => println!("{:#}", plan.json()),
                Output::Text => print!("{}", plan.text()),
            }
            match (plan.grows(), plan.is_proved()) {
                (true, _) => ExitCode::from(GREW),
                (false, true) => ExitCode::SUCCESS,
                (false, false) => ExitCode::from(NOT_PROVED),
            }
        }
        Err(cause) => {
            eprintln!("portcullis: {cause}");
            ExitCode::from(FAILURE)
        }
    }
}
