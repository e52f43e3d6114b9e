//! `portcullis policy`: policy directories are validated and tested.

mod below;
mod bundle;
mod explain;
mod format;
mod lint;
mod live;
mod plan;
mod prove;
mod recorded;
mod schema;
mod sql;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{FAILURE, colour};
use crate::app::{policies_at_hand, policy_source};
use crate::config::{Config, Overrides};
use crate::policy::{PolicyGeneration, PolicyProblem, PolicySource, Severity, render_problems};

/// How a command ends whose policies do not load, as the Cedar command line has it.
pub(super) const INVALID_POLICY: u8 = 3;

/// How a comparison ends by which somebody may do more than before.
const GREW: u8 = 2;

/// How a proof ends that found the contrary.
const REFUTED: u8 = 2;

/// How a comparison or a proof ends that could not be brought to an end.
const NOT_PROVED: u8 = 4;

/// Options of `portcullis policy`.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Debug, Subcommand)]
enum PolicyCommand {
    /// Say everything that is wrong with a policy directory
    Validate(ValidateArgs),
    /// Ask policy directories the cases beside them (cases.yaml)
    Test(test::TestArgs),
    /// Write the schema that policies are checked against
    Schema(schema::SchemaArgs),
    /// Write *.cedar files as Cedar's own formatter does
    Format(format::FormatArgs),
    /// Say why a question is answered as it is: 0 allowed, 2 denied
    Explain(Box<explain::ExplainArgs>),
    /// Write what the names in a database mean, for SQL in cases.yaml and for `explain --sql` without the database
    Catalog(sql::CatalogArgs),
    /// Say what other policies would change: 0 nobody may do more, 2 somebody may, 4 not proved
    Plan(plan::PlanArgs),
    /// Hold policies against their invariants (invariants.yaml): 0 all are proved, 2 one is refuted, 4 not proved
    Prove(prove::ProveArgs),
    /// Find grants that are too wide and policies that do nothing or can fail: 0 nothing, 2 something, 4 not all was checked
    Lint(lint::LintArgs),
    /// Ask policies what is in audit files: 0 nobody may do more than then, 2 somebody may, 4 not all could be asked
    Replay(recorded::ReplayArgs),
    /// Write a policy directory as one signed file, for `policy.url`
    Bundle(bundle::BundleArgs),
    /// Write the least policies that allow what is in audit files, and name the grants that nobody used
    Suggest(recorded::SuggestArgs),
}

#[derive(Debug, Args)]
struct ValidateArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Which policies.
#[derive(Debug, Args)]
#[group(id = "policy_source", required = true, multiple = true)]
struct SourceArgs {
    /// The directory: *.cedar, entities.json or entities/*.json, further *.cedarschema
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// The configuration whose endpoints the policies are about
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl SourceArgs {
    fn config(&self) -> Result<Option<Config>, ExitCode> {
        let load = |file: &PathBuf| {
            Config::load(file, &Overrides::default()).map_err(|errors| {
                eprint!("{}", errors.render(colour()));
                ExitCode::from(FAILURE)
            })
        };
        self.config.as_ref().map(load).transpose()
    }

    /// As a sidecar loads them, but that what is looked at need not be proved.
    fn source(&self) -> Result<PolicySource, ExitCode> {
        self.as_loaded().map(|source| PolicySource { require_proof: false, ..source })
    }

    fn as_loaded(&self) -> Result<PolicySource, ExitCode> {
        Ok(match (self.config()?, &self.policies) {
            (Some(config), Some(directory)) => PolicySource { directory: directory.clone(), ..policy_source(&config) },
            (Some(config), None) => policies_at_hand(&config).map_err(|error| {
                eprintln!("portcullis: {error}");
                ExitCode::from(FAILURE)
            })?,
            (None, directory) => PolicySource::of(directory.as_deref().unwrap_or(Path::new("."))),
        })
    }
}

/// Which policies, if not those of the current directory.
#[derive(Debug, Args)]
struct HereArgs {
    /// The directory: *.cedar, entities.json or entities/*.json, further *.cedarschema [default: that of --config, else the current one]
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
    /// The configuration whose endpoints the policies are about
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl HereArgs {
    fn source(&self) -> Result<PolicySource, ExitCode> {
        SourceArgs { policies: self.policies.clone(), config: self.config.clone() }.source()
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    #[default]
    Text,
    Json,
}

/// Runs the command.
pub(super) fn run(arguments: &PolicyArgs) -> ExitCode {
    match &arguments.command {
        PolicyCommand::Validate(arguments) => validate(arguments),
        PolicyCommand::Test(arguments) => test::run(arguments),
        PolicyCommand::Schema(arguments) => schema::run(arguments),
        PolicyCommand::Format(arguments) => format::run(arguments),
        PolicyCommand::Explain(arguments) => explain::run(arguments),
        PolicyCommand::Catalog(arguments) => sql::run_catalog(arguments),
        PolicyCommand::Plan(arguments) => plan::run(arguments),
        PolicyCommand::Prove(arguments) => prove::run(arguments),
        PolicyCommand::Lint(arguments) => lint::run(arguments),
        PolicyCommand::Replay(arguments) => recorded::run_replay(arguments),
        PolicyCommand::Bundle(arguments) => bundle::run(arguments),
        PolicyCommand::Suggest(arguments) => recorded::run_suggest(arguments),
    }
}

/// Loads what a command is about; what is wrong with it is said.
fn loaded(source: &PolicySource) -> Result<PolicyGeneration, ExitCode> {
    PolicyGeneration::load(source, 1).map_err(|errors| {
        eprint!("{}", errors.render(colour()));
        ExitCode::from(INVALID_POLICY)
    })
}

/// Loads what a command is to judge; what is odd about it is said too, for it may be why nothing is found.
fn loaded_with_warnings(source: &PolicySource) -> Result<PolicyGeneration, ExitCode> {
    let policies = loaded(source)?;
    eprint!("{}", render_problems(policies.warnings(), colour()));
    Ok(policies)
}

/// How a command ends that cannot do what it is to do.
fn failed(cause: &str) -> ExitCode {
    eprintln!("portcullis: {cause}");
    ExitCode::from(FAILURE)
}

fn validate(arguments: &ValidateArgs) -> ExitCode {
    let source = match arguments.source.as_loaded() {
        Ok(source) => source,
        Err(code) => return code,
    };
    let loaded = PolicyGeneration::load(&source, 1);
    let problems = match &loaded {
        Ok(generation) => generation.warnings(),
        Err(errors) => errors.problems(),
    };
    match (arguments.output, &loaded) {
        (Output::Json, _) => {
            let digest = loaded.as_ref().ok().map(PolicyGeneration::digest);
            let policies = loaded.as_ref().ok().map(PolicyGeneration::len);
            let inactive = loaded.as_ref().map(PolicyGeneration::inactive).unwrap_or_default();
            let problems: Vec<_> = problems.iter().map(problem_json).collect();
            println!(
                "{}",
                json!({"valid": loaded.is_ok(), "policies": policies, "digest": digest, "inactive": inactive, "problems": problems})
            );
        }
        (Output::Text, Ok(generation)) => {
            eprint!("{}", render_problems(problems, colour()));
            let policies = match generation.len() {
                1 => "1 policy is valid".to_owned(),
                several => format!("{several} policies are valid"),
            };
            println!("{}: {policies}, {}", source.directory.display(), generation.digest());
            for id in generation.inactive() {
                println!("  inactive here: `{id}` is about another sidecar's endpoint");
            }
        }
        (Output::Text, Err(errors)) => eprint!("{}", errors.render(colour())),
    }
    if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(INVALID_POLICY) }
}

fn problem_json(problem: &PolicyProblem) -> serde_json::Value {
    let severity = match problem.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let (line, column) = problem.position().unzip();
    json!({"severity": severity, "file": problem.file(), "line": line, "column": column, "message": problem.message(), "help": problem.advice()})
}
