//! `portcullis policy`: policy directories are validated and tested.

mod explain;
mod plan;
mod recorded;
mod sql;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::{FAILURE, colour};

use crate::analysis::{CaseResult, PolicyTest, PolicyTestError, test_directory};
use crate::app::policy_source;
use crate::config::{Config, Overrides};
use crate::policy::{PolicyGeneration, PolicyProblem, PolicySource, Severity, render_problems};

/// How a command ends whose policies do not load, as the Cedar command line has it.
pub(super) const INVALID_POLICY: u8 = 3;

/// How a comparison ends by which somebody may do more than before.
const GREW: u8 = 2;

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
    Test(TestArgs),
    /// Say why a question is answered as it is: 0 allowed, 2 denied
    Explain(Box<explain::ExplainArgs>),
    /// Say what other policies would change: 0 nobody may do more, 2 somebody may
    Plan(plan::PlanArgs),
    /// Ask policies what is in audit files: 0 nobody may do more than then, 2 somebody may
    Replay(recorded::ReplayArgs),
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
    /// The directory: *.cedar, entities.json, further *.cedarschema
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

    fn source(&self) -> Result<PolicySource, ExitCode> {
        let configured = self.config()?.map(|config| policy_source(&config));
        Ok(match (configured, &self.policies) {
            (Some(configured), Some(directory)) => PolicySource { directory: directory.clone(), ..configured },
            (Some(configured), None) => configured,
            (None, directory) => PolicySource::of(directory.as_deref().unwrap_or(Path::new("."))),
        })
    }
}

#[derive(Debug, Args)]
struct TestArgs {
    /// Directories; those below them that have cases.yaml are tested
    #[arg(value_name = "DIR", default_value = ".")]
    directories: Vec<PathBuf>,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Output,
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
        PolicyCommand::Test(arguments) => test(arguments),
        PolicyCommand::Explain(arguments) => explain::run(arguments),
        PolicyCommand::Plan(arguments) => plan::run(arguments),
        PolicyCommand::Replay(arguments) => recorded::run_replay(arguments),
        PolicyCommand::Suggest(arguments) => recorded::run_suggest(arguments),
    }
}

fn validate(arguments: &ValidateArgs) -> ExitCode {
    let source = match arguments.source.source() {
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
            println!(
                "{}: {} policies are valid, {}",
                source.directory.display(),
                generation.len(),
                generation.digest()
            );
            for id in generation.inactive() {
                println!("  inactive here: `{id}` is about another sidecar's endpoint");
            }
        }
        (Output::Text, Err(errors)) => eprint!("{}", errors.render(colour())),
    }
    if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(INVALID_POLICY) }
}

fn test(arguments: &TestArgs) -> ExitCode {
    let mut directories = Vec::new();
    for directory in &arguments.directories {
        find(directory, &mut directories);
    }
    if directories.is_empty() {
        eprintln!("portcullis: there is no cases.yaml in or below the given directories");
        return ExitCode::from(FAILURE);
    }
    let mut code = 0;
    let mut reports = Vec::new();
    for directory in &directories {
        match test_directory(directory) {
            Ok(test) => {
                if !test.passed() {
                    code = code.max(FAILURE);
                }
                reports.push(report(&test, arguments.output));
            }
            Err(error) => {
                code = code.max(if matches!(error, PolicyTestError::Policies(_)) { INVALID_POLICY } else { FAILURE });
                match &error {
                    PolicyTestError::Policies(errors) => eprint!("{}", errors.render(colour())),
                    PolicyTestError::Cases(errors) => eprintln!("{errors}"),
                }
                reports.push(json!({"directory": directory, "error": error.to_string()}));
            }
        }
    }
    if arguments.output == Output::Json {
        println!("{}", json!(reports));
    }
    ExitCode::from(code)
}

/// The directories with cases, in order.
fn find(directory: &Path, found: &mut Vec<PathBuf>) {
    if directory.join("cases.yaml").is_file() {
        found.push(directory.to_owned());
    }
    let mut below: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    below.sort();
    below.iter().for_each(|directory| find(directory, found));
}

fn report(test: &PolicyTest, output: Output) -> serde_json::Value {
    if output == Output::Text {
        println!("{}", test.directory.display());
        eprint!("{}", render_problems(&test.warnings, colour()));
        for result in &test.results {
            println!("  {} {}", if result.passed() { "ok  " } else { "FAIL" }, result.name);
            if !result.passed() {
                println!("       line {}: expected {}, got {}", result.line, said(result, true), said(result, false));
            }
        }
        for untested in &test.untested {
            println!("  note no case shows what `{}` has {}", untested.policy, untested.side);
        }
        let passed = test.results.iter().filter(|result| result.passed()).count();
        println!("  {passed} of {} cases passed", test.results.len());
    }
    let results = test.results.iter().map(|result| {
        json!({"name": result.name, "line": result.line, "passed": result.passed(), "expected": result.expected.outcome.as_str(),
               "outcome": result.outcome.as_str(), "by": result.by, "error": result.error})
    });
    let untested = test.untested.iter().map(|untested| json!({"policy": untested.policy, "side": untested.side}));
    json!({"directory": test.directory, "passed": test.passed(), "cases": results.collect::<Vec<_>>(), "untested": untested.collect::<Vec<_>>()})
}

/// `forbidden by raw-is-never-deleted`
fn said(result: &CaseResult, expected: bool) -> String {
    let (outcome, by) = match expected {
        true => (result.expected.outcome, result.expected.by.clone().unwrap_or_default()),
        false => (result.outcome, result.by.clone()),
    };
    let by = if by.is_empty() { String::new() } else { format!(" by {}", by.join(", ")) };
    let why = result.error.as_ref().filter(|_| !expected).map(|why| format!(" ({why})")).unwrap_or_default();
    format!("{outcome}{by}{why}")
}

fn problem_json(problem: &PolicyProblem) -> serde_json::Value {
    let severity = match problem.severity() {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let (line, column) = problem.position().unzip();
    json!({"severity": severity, "file": problem.file(), "line": line, "column": column, "message": problem.message(), "help": problem.advice()})
}
