//! `portcullis policy prove`: whether policies keep to their invariants.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::plan::SolverArgs;
use super::{HereArgs, INVALID_POLICY, NOT_PROVED, Output, REFUTED, failed, problem_json};
use crate::analysis::{self, Proving};
use crate::cli::colour;
use crate::policy::{self, Invariants, PolicyGeneration, Proof, render_problems};

/// Options of `portcullis policy prove`.
#[derive(Debug, Args)]
pub(super) struct ProveArgs {
    #[command(flatten)]
    source: HereArgs,
    /// Other invariants than those of the directory's invariants.yaml
    #[arg(long, value_name = "FILE", conflicts_with = "write")]
    invariants: Option<PathBuf>,
    /// If all are proved, write so into the directory: proof.json, for `policy.require_proof`
    #[arg(long)]
    write: bool,
    #[command(flatten)]
    solver: SolverArgs,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command: 0 if all invariants are proved, 2 if one is refuted, 4 if it is not known.
pub(super) fn run(arguments: &ProveArgs) -> ExitCode {
    let source = match arguments.source.source() {
        Ok(source) => source,
        Err(code) => return code,
    };
    if arguments.write && source.bundle.is_some() {
        return failed(
            "a bundle is not written to: `--write` is for a directory (`--policies DIR`), so prove it before `policy bundle` packs it",
        );
    }
    let (policies, invariants) = match Invariants::load(&source, arguments.invariants.as_deref()) {
        Ok(loaded) => loaded,
        Err(errors) => {
            match arguments.output {
                Output::Text => eprint!("{}", errors.render(colour())),
                Output::Json => {
                    let problems: Vec<_> = errors.problems().iter().map(problem_json).collect();
                    println!("{:#}", json!({"verdict": "invalid", "problems": problems}));
                }
            }
            return ExitCode::from(INVALID_POLICY);
        }
    };
    let proving = match analysis::prove(&policies, &invariants, &arguments.solver.solver()) {
        Ok(proving) => proving,
        Err(cause) => return failed(&cause),
    };
    let verdict = proving.verdict();
    let written = match arguments.write && verdict == "proved" {
        true => match write(&source.directory, &policies, &invariants, &proving, arguments) {
            Ok(path) => Some(path),
            Err(cause) => return failed(&cause),
        },
        false => None,
    };
    match arguments.output {
        Output::Text => {
            eprint!("{}", render_problems(policies.warnings(), colour()));
            eprint!("{}", render_problems(invariants.warnings(), colour()));
            print!("{}", proving.text());
            if let Some(path) = &written {
                println!("written: {}", path.display());
            }
        }
        Output::Json => {
            let mut json = proving.json();
            if let Some(fields) = json.as_object_mut() {
                fields.insert("policies_digest".to_owned(), json!(policies.digest()));
                fields.insert("invariants_digest".to_owned(), json!(invariants.digest()));
                let odd = policies.warnings().iter().chain(invariants.warnings());
                fields.insert("problems".to_owned(), odd.map(problem_json).collect());
                fields.insert("written".to_owned(), json!(written));
            }
            println!("{json:#}");
        }
    }
    match verdict {
        "proved" => ExitCode::SUCCESS,
        "refuted" => ExitCode::from(REFUTED),
        _ => ExitCode::from(NOT_PROVED),
    }
}

fn write(
    directory: &Path,
    policies: &PolicyGeneration,
    invariants: &Invariants,
    proving: &Proving,
    arguments: &ProveArgs,
) -> Result<PathBuf, String> {
    let at = OffsetDateTime::now_utc();
    let at = at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).map_err(|cause| cause.to_string())?;
    let solver = (proving.asked > 0).then(|| arguments.solver.solver().version());
    let made = policy::Proving {
        proved: proving.results.iter().map(|result| result.name.clone()).collect(),
        at,
        seconds: proving.took.as_secs_f64(),
        solver,
    };
    let proof = Proof::new(policies.digest(), invariants.digest(), made);
    proof.write(directory).map_err(|cause| format!("proof cannot be written into `{}`: {cause}", directory.display()))
}
