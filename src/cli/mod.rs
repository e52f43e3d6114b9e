//! The command line: one file a command. Nothing in the library names this module.

mod certs;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod overrides;
mod policy;
mod ready;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Overrides};

/// Exit codes, as the Cedar command line has them: 0 ok or allowed, 1 failure, 2 denied, 3 invalid policy.
const FAILURE: u8 = 1;

/// A sidecar proxy that decides every request of a data pipeline by verified workload identity and Cedar policy.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar.
    Run(run::RunArgs),
    /// Say everything that would fail at start, without starting.
    Check(check::CheckArgs),
    /// Run stages, an S3 store and sidecars on this machine, show what is allowed and denied, then stay up.
    #[cfg(feature = "demo")]
    Demo(demo::DemoArgs),
    /// Work with policy files.
    Policy(policy::PolicyArgs),
    /// Make certificates for development, or explain any certificate against the SPIFFE rules.
    Certs(certs::CertsArgs),
    /// Exit with 0 if the sidecar on this machine is ready: for exec probes.
    Ready(ready::ReadyArgs),
}

/// Parses the arguments, runs the command, and says how it ended.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap ends with 2 for a usage error; here 2 means denied.
            let failed = error.use_stderr();
            let _ = error.print();
            return if failed { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS };
        }
    };
    match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        #[cfg(feature = "demo")]
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Policy(arguments) => policy::run(&arguments),
        Command::Certs(arguments) => match certs::run(&arguments, &mut std::io::stdout().lock()) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                eprintln!("portcullis: {error}");
                ExitCode::from(FAILURE)
            }
        },
        Command::Ready(arguments) => ready::run(&arguments, |file| {
            Config::load(file, &Overrides::default()).map_err(|errors| {
                eprint!("{}", errors.render(colour()));
                ExitCode::from(FAILURE)
            })
        }),
    }
}

/// Whether standard error is a terminal that takes colours (<https://no-color.org>).
fn colour() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
