//! `portcullis policy replay` and `suggest`: policies and the audit log.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{GREW, NOT_PROVED, Output, SourceArgs, failed, loaded_with_warnings};
use crate::analysis::{proved, replay, suggest};
use crate::policy::PolicyGeneration;

/// Options of `portcullis policy replay`.
#[derive(Debug, Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Audit files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Options of `portcullis policy suggest`.
#[derive(Debug, Args)]
pub(super) struct SuggestArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Audit files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Also for what no permit matched
    #[arg(long)]
    denied: bool,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

fn load(source: &SourceArgs) -> Result<(PolicyGeneration, PathBuf), ExitCode> {
    let source = source.source()?;
    Ok((loaded_with_warnings(&source)?, source.directory))
}

/// Runs `replay`: 0 if nobody is allowed more, 2 if somebody is, 4 if nothing or not everything could be asked.
pub(super) fn run_replay(arguments: &ReplayArgs) -> ExitCode {
    let (policies, _) = match load(&arguments.source) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    match replay(&policies, &arguments.files) {
        Ok(replay) => {
            match arguments.output {
                Output::Text => print!("{}", replay.text()),
                Output::Json => println!("{:#}", replay.json()),
            }
            match (replay.grows(), replay.left_open().is_empty()) {
                (true, _) => ExitCode::from(GREW),
                (false, true) => ExitCode::SUCCESS,
                (false, false) => ExitCode::from(NOT_PROVED),
            }
        }
        Err(cause) => failed(&format!("cannot read {cause}")),
    }
}

/// Runs `suggest`.
pub(super) fn run_suggest(arguments: &SuggestArgs) -> ExitCode {
    let (policies, directory) = match load(&arguments.source) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let mut suggestion = match suggest(&policies, &arguments.files, arguments.denied) {
        Ok(suggestion) => suggestion,
        Err(cause) => return failed(&format!("cannot read {cause}")),
    };
    match proved(&suggestion, &directory, &arguments.files, arguments.denied) {
        Ok(also) => suggestion.also_allows = also,
        Err(cause) => return failed(&format!("what is suggested does not allow all that was recorded: {cause}")),
    }
    match arguments.output {
        Output::Text => {
            print!("{}", suggestion.text());
            let policies = match suggestion.policies {
                1 => "1 policy".to_owned(),
                several => format!("{several} policies"),
            };
            match suggestion.requests {
                0 => eprintln!("{policies}: these files have no request that was allowed"),
                1 => eprintln!("{policies} from 1 request; replayed on it, they allow it"),
                several => eprintln!("{policies} from {several} requests; replayed on them, they allow all of them"),
            }
        }
        Output::Json => println!("{:#}", suggestion.json()),
    }
    ExitCode::SUCCESS
}
