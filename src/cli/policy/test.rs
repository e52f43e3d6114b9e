//! `portcullis policy test`: cases and the policies that must answer them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::below::entries;
use super::{INVALID_POLICY, Output, failed};
use crate::analysis::{PolicyTest, PolicyTestError, junit, test_cedar_file, test_directory};
use crate::cli::{FAILURE, colour};
use crate::policy::{PolicySource, render_problems};

/// Options of `portcullis policy test`.
#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// Directories; those below them that have cases.yaml are tested
    #[arg(value_name = "DIR", default_value = ".")]
    directories: Vec<PathBuf>,
    /// Tests in the form of `cedar run-tests`, asked of the policies in the one DIR
    #[arg(long, value_name = "FILE")]
    tests: Option<PathBuf>,
    /// Write the results as JUnit XML too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Fail if a policy or a clause is not shown from both sides
    #[arg(long)]
    strict: bool,
    /// Text for people, or JSON
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command: 0 if every case comes out as it must, 3 if policies do not load, else 1.
pub(super) fn run(arguments: &TestArgs) -> ExitCode {
    let tests: Vec<(PathBuf, Result<PolicyTest, PolicyTestError>)> =
        match (&arguments.tests, arguments.directories.as_slice()) {
            (Some(file), [directory]) => vec![(directory.clone(), test_cedar_file(&PolicySource::of(directory), file))],
            (Some(_), _) => {
                eprintln!("portcullis: `--tests` needs exactly one directory");
                return ExitCode::from(FAILURE);
            }
            (None, directories) => {
                let mut found = Vec::new();
                for directory in directories {
                    // One that is misspelt beside a good one would pass for tested.
                    if !directory.is_dir() {
                        return failed(&format!("there is no directory `{}`", directory.display()));
                    }
                    if let Err(cause) = find(directory, &mut found) {
                        return failed(&cause);
                    }
                    if !found.iter().any(|found| found.starts_with(directory)) {
                        return failed(&format!("there is no cases.yaml in or below `{}`", directory.display()));
                    }
                }
                found.into_iter().map(|directory| (directory.clone(), test_directory(&directory))).collect()
            }
        };
    let mut code = 0;
    let mut reports = Vec::new();
    for (directory, test) in &tests {
        match test {
            Ok(test) => {
                let shown = test.untested.is_empty() && test.untested_clauses.is_empty();
                if !test.passed() || (arguments.strict && !shown) {
                    code = code.max(FAILURE);
                }
                reports.push(report(test, arguments.output));
            }
            Err(error) => {
                code = code.max(if matches!(error, PolicyTestError::Policies(_)) { INVALID_POLICY } else { FAILURE });
                match error {
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
    if let Some(path) = &arguments.junit
        && let Err(cause) = std::fs::write(path, junit(&tests, arguments.strict))
    {
        eprintln!("portcullis: cannot write `{}`: {cause}", path.display());
        code = code.max(FAILURE);
    }
    ExitCode::from(code)
}

/// The directories with cases, in order.
fn find(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = entries(directory)?;
    if entries.iter().any(|entry| !entry.is_folder && entry.path.file_name().is_some_and(|name| name == "cases.yaml")) {
        found.push(directory.to_owned());
    }
    entries.iter().filter(|entry| entry.is_folder).try_for_each(|folder| find(&folder.path, found))
}

fn report(test: &PolicyTest, output: Output) -> serde_json::Value {
    if output == Output::Text {
        println!("{}", test.directory.display());
        eprint!("{}", render_problems(&test.warnings, colour()));
        for result in &test.results {
            println!("  {} {}", if result.passed() { "ok  " } else { "FAIL" }, result.name);
            if !result.passed() {
                println!(
                    "       line {}: expected {}, got {}",
                    result.line,
                    result.expected_text(),
                    result.outcome_text()
                );
            }
        }
        test.notes().iter().for_each(|note| println!("  note {note}"));
        let passed = test.results.iter().filter(|result| result.passed()).count();
        println!("  {passed} of {} cases passed", test.results.len());
    }
    let results = test.results.iter().map(|result| {
        json!({"name": result.name, "line": result.line, "passed": result.passed(), "expected": result.expected.outcome.as_str(),
               "outcome": result.outcome.as_str(), "by": result.by, "error": result.error})
    });
    let untested = test.untested.iter().map(|untested| json!({"policy": untested.policy, "side": untested.side}));
    let clauses = test.untested_clauses.iter().map(
        |clause| json!({"policy": clause.policy, "part": clause.part, "text": clause.text, "never": clause.never}),
    );
    json!({"directory": test.directory, "passed": test.passed(), "cases": results.collect::<Vec<_>>(),
           "untested": untested.collect::<Vec<_>>(), "untested_clauses": clauses.collect::<Vec<_>>()})
}
