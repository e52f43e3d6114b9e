//! `portcullis policy plan`: what other policies would change.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde_json::Value as Json;

use super::{GREW, NOT_PROVED, Output, loaded, loaded_with_warnings};
use crate::admin::{ProbeTarget, read_from};
use crate::analysis::{Solver, plan};
use crate::cli::{FAILURE, colour};
use crate::config::{Config, Overrides};
use crate::policy::PolicySource;

/// How long the sidecar may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

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
        _ => run_live(arguments),
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

fn run_live(arguments: &PlanArgs) -> ExitCode {
    match live(arguments) {
        Ok(shadow) => {
            match arguments.output {
                Output::Json => println!("{shadow:#}"),
                Output::Text => print!("{}", text(&shadow)),
            }
            let grows = flips(&shadow).any(|flip| flip.get("would_be").and_then(Json::as_str) == Some("allowed"));
            if grows { ExitCode::from(GREW) } else { ExitCode::SUCCESS }
        }
        Err(code) => code,
    }
}

fn live(arguments: &PlanArgs) -> Result<Json, ExitCode> {
    let failed = |cause: String| {
        eprintln!("portcullis: {cause}");
        ExitCode::from(FAILURE)
    };
    let socket = match (&arguments.socket, &arguments.config) {
        (Some(socket), _) => socket.clone(),
        (None, Some(file)) => {
            let config = Config::load(file, &Overrides::default()).map_err(|errors| {
                eprint!("{}", errors.render(colour()));
                ExitCode::from(FAILURE)
            })?;
            config.admin.socket.ok_or_else(|| failed("the configuration names no `admin.socket`".to_owned()))?
        }
        (None, None) => return Err(failed("which sidecar? give `--socket PATH` or `--config FILE`".to_owned())),
    };
    let body = read_from(&ProbeTarget::Unix(socket), "/shadow", PATIENCE).map_err(|error| failed(error.to_string()))?;
    serde_json::from_str(&body).map_err(|error| failed(format!("the sidecar's answer is not JSON: {error}")))
}

fn flips(shadow: &Json) -> impl Iterator<Item = &Json> {
    shadow.get("flips").and_then(Json::as_array).into_iter().flatten()
}

fn text(shadow: &Json) -> String {
    let said = |json: &Json, name: &str| json.get(name).and_then(Json::as_str).unwrap_or_default().to_owned();
    let mut text = String::new();
    if let Some(fault) = shadow.get("shadow_error").and_then(Json::as_str) {
        text.push_str(&format!("the candidate does not load: {fault}\n"));
    }
    let (grows, shrinks): (Vec<_>, Vec<_>) = flips(shadow).partition(|flip| said(flip, "would_be") == "allowed");
    for (title, group) in [("would become allowed", &grows), ("would no longer be allowed", &shrinks)] {
        if group.is_empty() {
            continue;
        }
        text.push_str(&format!("{title}\n"));
        for flip in group {
            let by = |name: &str| {
                let policies = flip.get(name).and_then(Json::as_array).into_iter().flatten();
                let policies: Vec<_> = policies.filter_map(Json::as_str).collect();
                if policies.is_empty() { String::new() } else { format!(" by {}", policies.join(", ")) }
            };
            let count = flip.get("count").and_then(Json::as_u64).unwrap_or_default();
            text.push_str(&format!(
                "  {count:>8}  {} {} {}\n            {} {}, now {}{}, then {}{}; last {} ({})\n",
                said(flip, "who"),
                said(flip, "action"),
                said(flip, "resource"),
                said(flip, "direction"),
                said(flip, "listener"),
                said(flip, "outcome"),
                by("policies"),
                said(flip, "would_be"),
                by("would_be_by"),
                said(flip, "last"),
                said(flip, "example"),
            ));
        }
    }
    let beyond = shadow.get("beyond").and_then(Json::as_u64).unwrap_or_default();
    if beyond > 0 {
        text.push_str(&format!("and {beyond} more that are in none of these groups\n"));
    }
    if text.is_empty() {
        text.push_str("no request would have been decided otherwise\n");
    }
    text
}
