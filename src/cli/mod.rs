//! The command line: one file a command. Nothing in the library names this module.

mod certs;
mod check;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod judged;
mod ours;
mod overrides;
mod policy;
mod ready;
mod rules;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, Overrides};

/// Exit codes, as the Cedar command line has them: 0 ok or allowed, 1 failure, 2 denied, 3 invalid policy, 4 not proved.
const FAILURE: u8 = 1;
/// What was asked is denied.
const DENIED: u8 = 2;

/// What people need to know beside the commands.
#[cfg(feature = "demo")]
const AFTER_HELP: &str = "See it work:  portcullis demo
Exit codes:   0 ok, 1 failure, 2 denied, 3 invalid policy, 4 not proved";
/// What people need to know beside the commands.
#[cfg(not(feature = "demo"))]
const AFTER_HELP: &str = "Exit codes:  0 ok, 1 failure, 2 denied, 3 invalid policy, 4 not proved";

/// A sidecar proxy that decides every request of a data pipeline by verified workload identity and Cedar policy.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar.
    ///
    /// SIGTERM and SIGINT drain: what is under way is finished within the shutdown timeout, then the process exits with 0. A
    /// second one ends it at once. SIGHUP looks at the files of certificates and policies, and opens the audit file anew.
    Run(run::RunArgs),
    /// Say everything that would fail at start, without starting.
    ///
    /// Reads the configuration, the certificate and its key, the trust bundles and the policies, and binds every address for a
    /// moment. Exits with 0 if all is well, 3 if policies are invalid, else 1.
    Check(check::CheckArgs),
    /// Look for what is wrong: identity, trust, policies, sockets, and a real handshake with each upstream.
    ///
    /// One line each, with what to do. A sidecar that runs is asked and not disturbed. Exits with 0 if nothing fails, else with 1.
    Doctor(doctor::DoctorArgs),
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
    // The stack of the first thread is as large as whoever starts the process says (`ulimit -s`).
    let thread = std::thread::Builder::new().name("main".into()).stack_size(crate::policy::STACK);
    match thread.spawn(command) {
        // It has said why it panicked.
        Ok(thread) => thread.join().unwrap_or(ExitCode::from(FAILURE)),
        Err(error) => {
            eprintln!("portcullis: no thread can be started: {error}");
            ExitCode::from(FAILURE)
        }
    }
}

fn command() -> ExitCode {
    end_quietly_on_a_closed_pipe();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // clap ends with 2 for a usage error; here 2 means denied.
            let failed = error.use_stderr();
            let _ = error.print();
            blame_environment(&error);
            return if failed { ExitCode::from(FAILURE) } else { ExitCode::SUCCESS };
        }
    };
    match arguments.command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
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

/// Whoever reads what is printed may stop reading, as `head` does. That is no fault to show a backtrace for.
fn end_quietly_on_a_closed_pipe() {
    /// As the shell shows the end by SIGPIPE: 128 and the signal's number.
    const BY_SIGPIPE: i32 = 141;
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to") && said.contains("Broken pipe") {
            std::process::exit(BY_SIGPIPE);
        }
        usual(panic);
    }));
}

/// Says of a bad value that comes from the environment where it comes from: clap names the flag, which nobody has typed.
fn blame_environment(error: &clap::Error) {
    use clap::error::{ContextKind, ContextValue};
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return };
    let Some(flag) = argument.split([' ', '=']).next().filter(|flag| flag.starts_with("--")) else { return };
    let name = format!("PORTCULLIS_{}", flag.trim_start_matches('-').replace('-', "_").to_ascii_uppercase());
    let typed = std::env::args().any(|typed| typed == flag || typed.starts_with(&format!("{flag}=")));
    if !typed && std::env::var_os(&name).is_some() {
        eprintln!("The value comes from the environment: {name}");
    }
}

/// Whether standard error is a terminal that takes colours (<https://no-color.org>).
fn colour() -> bool {
    use std::io::IsTerminal as _;
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
