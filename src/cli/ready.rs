//! `portcullis ready`: the exec probe of a container that has no shell and no curl.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::admin::{ProbeTarget, probe_ready};
use crate::config::Config;

/// Exits with 0 if the running sidecar is ready for traffic, else with 1 and the reasons.
#[derive(Debug, Args)]
#[command(next_line_help = true)]
pub(super) struct ReadyArgs {
    /// Configuration of the sidecar: its admin socket is asked, else its admin listener, else its health listener
    #[arg(
        long,
        env = "PORTCULLIS_CONFIG",
        hide_env_values = true,
        default_value = "portcullis.yaml",
        value_name = "FILE"
    )]
    pub(super) config: PathBuf,
    /// Ask this health or admin listener instead
    #[arg(
        long,
        env = "PORTCULLIS_READY_ADDRESS",
        hide_env_values = true,
        value_name = "ADDRESS:PORT",
        conflicts_with = "socket"
    )]
    pub(super) address: Option<SocketAddr>,
    /// Ask this admin socket instead
    #[arg(long, env = "PORTCULLIS_READY_SOCKET", hide_env_values = true, value_name = "FILE")]
    pub(super) socket: Option<PathBuf>,
    /// How long to wait for the answer
    #[arg(long, env = "PORTCULLIS_READY_TIMEOUT", hide_env_values = true, default_value = "1s", value_name = "DURATION", value_parser = duration)]
    pub(super) timeout: Duration,
}

/// Asks and tells. `load` reads the configuration and reports its errors itself; it is called only if no address is given.
pub(super) fn run(args: &ReadyArgs, load: impl FnOnce(&Path) -> Result<Config, ExitCode>) -> ExitCode {
    let target = match (&args.socket, args.address) {
        (Some(socket), _) => Some(ProbeTarget::Unix(socket.clone())),
        (None, Some(address)) => Some(ProbeTarget::Tcp(address)),
        (None, None) => match load(&args.config) {
            Ok(config) => ProbeTarget::of(config.health.as_ref(), &config.admin),
            Err(code) => return code,
        },
    };
    let Some(target) = target else {
        eprintln!(
            "`{}` names no admin socket, and no admin or health listener with a fixed port",
            args.config.display()
        );
        return ExitCode::FAILURE;
    };
    match probe_ready(&target, args.timeout) {
        Ok(()) => {
            println!("ready");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// `500ms`, `3s`, `1m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration like 500ms, 3s or 1m");
    let digits = text.find(|character: char| !character.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        ready: ReadyArgs,
    }

    fn args(line: &str) -> Result<ReadyArgs, clap::Error> {
        Command::try_parse_from(line.split(' ')).map(|command| command.ready)
    }

    #[test]
    fn the_configuration_is_read_only_if_no_address_is_given() {
        let failing_load = |_: &Path| Err(ExitCode::from(77));
        assert_eq!(run(&args("ready --config /nonexistent.yaml").unwrap(), failing_load), ExitCode::from(77));
        assert_eq!(run(&args("ready --socket /nonexistent.sock").unwrap(), failing_load), ExitCode::FAILURE);
        let error = args("ready --socket /a --address 127.0.0.1:1").unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("3s"), Ok(Duration::from_secs(3)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for wrong in ["", "3", "s", "-1s", "1h", "1.5s", "1 s"] {
            assert_eq!(duration(wrong), Err(format!("`{wrong}` is not a duration like 500ms, 3s or 1m")));
        }
    }
}
