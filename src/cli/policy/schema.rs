//! `portcullis policy schema`: the schema as one file, for editors and Cedar's own tools.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::INVALID_POLICY;
use crate::cli::colour;
use crate::policy::schema_text;

/// Options of `portcullis policy schema`.
#[derive(Debug, Args)]
pub(super) struct SchemaArgs {
    /// The directory whose further *.cedarschema are added
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
}

/// Runs the command: 3 if the further files do not go with the shipped schema.
pub(super) fn run(arguments: &SchemaArgs) -> ExitCode {
    match schema_text(arguments.policies.as_deref()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprint!("{}", errors.render(colour()));
            ExitCode::from(INVALID_POLICY)
        }
    }
}
