//! `portcullis policy lint`: what is sound and still seldom meant.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::plan::SolverArgs;
use super::{HereArgs, NOT_PROVED, REFUTED, failed, loaded_with_warnings};
use crate::analysis::{Level, lint};

/// Options of `portcullis policy lint`.
#[derive(Debug, Args)]
pub(super) struct LintArgs {
    #[command(flatten)]
    source: HereArgs,
    /// The least that makes the command end with 2
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t)]
    deny: Deny,
    #[command(flatten)]
    solver: SolverArgs,
    /// Text for people, JSON, or SARIF 2.1.0 for code review
    #[arg(long, value_enum, default_value_t, visible_alias = "output")]
    format: Format,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
    Sarif,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Deny {
    /// Whatever is found
    #[default]
    Warning,
    /// Grants that are too wide
    Error,
}

/// Runs the command: 0 if nothing is found, 2 if something is, 4 if not all could be looked at.
pub(super) fn run(arguments: &LintArgs) -> ExitCode {
    let policies = match arguments.source.source().and_then(|source| loaded_with_warnings(&source)) {
        Ok(policies) => policies,
        Err(code) => return code,
    };
    let found = match lint(&policies, &arguments.solver.solver()) {
        Ok(found) => found,
        Err(cause) => return failed(&cause.to_string()),
    };
    match arguments.format {
        Format::Text => print!("{}", found.text()),
        Format::Json => println!("{:#}", found.json()),
        Format::Sarif => println!("{:#}", found.sarif()),
    }
    let level = match arguments.deny {
        Deny::Warning => Level::Warning,
        Deny::Error => Level::Error,
    };
    match (found.count(level), found.not_checked.is_empty()) {
        (0, true) => ExitCode::SUCCESS,
        (0, false) => ExitCode::from(NOT_PROVED),
        _ => ExitCode::from(REFUTED),
    }
}
