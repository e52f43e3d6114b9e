//! Asks a policy directory its cases.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::asked::AskedOf;
use super::cases::{Case, CaseErrors, Cases, Expected};
use super::cedar_tests;
use super::coverage::{Coverage, UntestedClause};
use crate::policy::{
    Decision, LoadedPolicy, Outcome, PolicyErrors, PolicyGeneration, PolicyProblem, PolicySource, worst,
};

/// How the cases of one directory came out.
#[derive(Debug)]
pub struct PolicyTest {
    /// The directory.
    pub directory: PathBuf,
    /// Each case, in the order of the file.
    pub results: Vec<CaseResult>,
    /// Policies that no case with an allowed outcome is about, or none with a denied one.
    pub untested: Vec<Untested>,
    /// Clauses of conditions that no case shows from both sides.
    pub untested_clauses: Vec<UntestedClause>,
    /// What is odd about the policies.
    pub warnings: Vec<PolicyProblem>,
}

/// A policy that its cases do not show from both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untested {
    /// Its `@id`.
    pub policy: Arc<str>,
    /// `allowed` or `denied`: what no case shows.
    pub side: &'static str,
}

/// How one case came out.
#[derive(Debug, Clone)]
pub struct CaseResult {
    /// What it shows.
    pub name: String,
    /// The line of `cases.yaml`.
    pub line: usize,
    /// What must come out.
    pub expected: Expected,
    /// What did.
    pub outcome: Outcome,
    /// The policies that decided.
    pub by: Vec<String>,
    /// What went wrong, or why nothing could be asked.
    pub error: Option<String>,
}

/// Why a directory's cases could not be asked.
#[derive(Debug, Error)]
pub enum PolicyTestError {
    /// The policies do not load.
    #[error("{0}")]
    Policies(#[from] PolicyErrors),
    /// The cases cannot be read.
    #[error("{0}")]
    Cases(#[from] CaseErrors),
}

impl CaseResult {
    /// Whether it came out as it must.
    #[must_use]
    pub fn passed(&self) -> bool {
        let sorted = |policies: &[String]| policies.iter().cloned().collect::<BTreeSet<_>>();
        self.outcome == self.expected.outcome
            && self.expected.by.as_ref().is_none_or(|by| sorted(by) == sorted(&self.by))
    }
}

impl CaseResult {
    /// `forbidden by raw-is-never-deleted`: what must come out.
    #[must_use]
    pub fn expected_text(&self) -> String {
        said(self.expected.outcome, self.expected.by.as_deref().unwrap_or_default())
    }

    /// What did come out, and what went wrong.
    #[must_use]
    pub fn outcome_text(&self) -> String {
        let why = self.error.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        said(self.outcome, &self.by) + &why
    }
}

fn said(outcome: Outcome, by: &[String]) -> String {
    if by.is_empty() { outcome.to_string() } else { format!("{outcome} by {}", by.join(", ")) }
}

impl PolicyTest {
    /// Whether every case came out as it must.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.results.iter().all(CaseResult::passed)
    }

    /// What the cases do not show, a sentence each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let policies = self
            .untested
            .iter()
            .map(|untested| format!("no case shows what `{}` has {}", untested.policy, untested.side));
        let clauses = self.untested_clauses.iter().map(|clause| {
            format!(
                "in no case within the scope of `{}` is `{} {}` {}",
                clause.policy, clause.part, clause.text, clause.never
            )
        });
        policies.chain(clauses).collect()
    }
}

/// Loads the policies of a directory and asks them what its `cases.yaml` says.
///
/// # Errors
/// The policies do not load, or the cases cannot be read.
pub fn test_directory(directory: &Path) -> Result<PolicyTest, PolicyTestError> {
    let cases = Cases::read(directory)?;
    run(&cases.source, &directory.join(super::cases::FILE), &cases.cases)
}

/// Loads the policies of `source` and asks them the tests of a file of Cedar's own command line (`cedar run-tests`).
///
/// # Errors
/// As [`test_directory`].
pub fn test_cedar_file(source: &PolicySource, file: &Path) -> Result<PolicyTest, PolicyTestError> {
    run(source, file, &cedar_tests::read(file)?)
}

fn run(source: &PolicySource, file: &Path, cases: &[Case]) -> Result<PolicyTest, PolicyTestError> {
    let policies = PolicyGeneration::load(source, 1)?;
    let mut results = Vec::new();
    let mut faults = Vec::new();
    let mut coverage = Coverage::default();
    for case in cases {
        match ask(&policies, case, &mut coverage) {
            Ok(result) => results.push(result),
            Err(fault) => faults.push(format!("{}:{}: {fault}", file.display(), case.line)),
        }
    }
    if !faults.is_empty() {
        return Err(CaseErrors::Cases(faults).into());
    }
    let untested = untested(&policies, cases, &results);
    Ok(PolicyTest {
        directory: source.directory.clone(),
        results,
        untested,
        untested_clauses: coverage.untested(),
        warnings: policies.warnings().to_vec(),
    })
}

fn ask(policies: &PolicyGeneration, case: &Case, coverage: &mut Coverage) -> Result<CaseResult, String> {
    for id in case.about.iter().chain(case.expected.by.iter().flatten()) {
        if !policies.policies().iter().any(|policy| *policy.id == **id) {
            return Err(format!("there is no policy `{id}`"));
        }
    }
    let principal = policies.principal(&case.principal);
    let AskedOf { facts, operations } = case.question.asked(policies.headers_read())?;
    let decisions: Vec<Decision> = match operations {
        Ok(operations) => {
            for operation in operations.iter() {
                coverage.add(&policies.trace(&case.principal, operation, &facts)?);
            }
            operations.iter().map(|operation| policies.decide(&principal, operation, &facts)).collect()
        }
        Err(refusal) => {
            vec![Decision { outcome: Outcome::Refused, policies: Vec::new(), error: Some(refusal), lasts: false }]
        }
    };
    let outcome = worst(&decisions);
    let mut by = Vec::new();
    for policy in
        decisions.iter().filter(|decision| decision.outcome == outcome).flat_map(|decision| &decision.policies)
    {
        if !by.contains(&policy.to_string()) {
            by.push(policy.to_string());
        }
    }
    let error = decisions.into_iter().find_map(|decision| decision.error);
    Ok(CaseResult { name: case.name.clone(), line: case.line, expected: case.expected.clone(), outcome, by, error })
}

/// A case is about the policies that decided it and those that it names.
fn untested(policies: &PolicyGeneration, cases: &[Case], results: &[CaseResult]) -> Vec<Untested> {
    let mut shown = BTreeSet::new();
    for (case, result) in cases.iter().zip(results) {
        for id in result.by.iter().chain(&case.about) {
            shown.insert((id.as_str(), result.outcome.is_allowed()));
        }
    }
    let mut untested = Vec::new();
    // What is only tried, or is about another sidecar's endpoint, decides nothing here.
    let decides = |policy: &&LoadedPolicy| !policy.shadow && !policies.inactive().contains(&policy.id);
    for policy in policies.policies().iter().filter(decides) {
        for (is_allowed, side) in [(true, "allowed"), (false, "denied")] {
            if !shown.contains(&(&*policy.id, is_allowed)) {
                untested.push(Untested { policy: Arc::clone(&policy.id), side });
            }
        }
    }
    untested
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders_with_policies(below: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let entries: Vec<_> =
            std::fs::read_dir(below).expect("folder").map(|entry| entry.expect("entry").path()).collect();
        if entries.iter().any(|path| path.extension().is_some_and(|extension| extension == "cedar")) {
            found.push(below.to_owned());
        }
        found.extend(entries.iter().filter(|path| path.is_dir()).flat_map(|path| folders_with_policies(path)));
        found
    }

    #[test]
    fn every_shipped_policy_is_shown_by_cases_that_are_allowed_and_denied() {
        let folders = folders_with_policies(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"));
        assert!(folders.len() >= 7, "only {} folders found", folders.len());
        for folder in folders {
            let test = test_directory(&folder).unwrap_or_else(|error| match error {
                PolicyTestError::Policies(errors) => panic!("{}", errors.render(false)),
                PolicyTestError::Cases(errors) => panic!("{errors}"),
            });
            let failed: Vec<_> = test.results.iter().filter(|result| !result.passed()).collect();
            assert!(failed.is_empty(), "{}: {failed:#?}", folder.display());
            assert_eq!(test.untested, [], "{}", folder.display());
            assert!(test.warnings.is_empty(), "{}: {:?}", folder.display(), test.warnings);
            assert!(test.results.len() >= 2);
        }
    }

    fn run(cases: &str) -> Result<PolicyTest, String> {
        let directory = tempfile::tempdir().expect("directory");
        let policy =
            "@id(\"all\") permit (principal in TrustDomain::\"a.example\", action, resource in Bucket::\"lake/raw\");";
        std::fs::write(directory.path().join("a.cedar"), policy).expect("writes");
        std::fs::write(directory.path().join("cases.yaml"), cases).expect("writes");
        test_directory(directory.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_case_that_comes_out_otherwise_fails_and_says_how() {
        let case = "cases:\n  - {name: n, as: 'spiffe://a.example/x', request: GET s3://lake/raw/a, expect: EXPECT}\n";
        let passed = run(&case.replace("EXPECT", "allowed, by: [all]")).expect("runs");
        assert!(passed.passed());
        assert_eq!(passed.untested, [Untested { policy: "all".into(), side: "denied" }]);
        let failed = run(&case.replace("EXPECT", "forbidden")).expect("runs");
        assert!(!failed.passed());
        assert_eq!((failed.results[0].outcome, failed.results[0].line), (Outcome::Allowed, 2));
        assert!(!run(&case.replace("EXPECT", "allowed, by: []")).expect("runs").passed());
    }

    #[test]
    fn what_is_no_case_is_an_error_with_its_line() {
        let base = "name: n, as: 'spiffe://a.example/x'";
        for (case, expected) in [
            (format!("{base}, request: GET s3://lake/raw/a"), "missing field `expect`"),
            (format!("{base}, request: GET s3://lake/raw/a, expect: alowed"), "unknown variant `alowed`"),
            (
                format!("{base}, request: GET s3://lake/raw/a, expects: allowed"),
                "unknown key `expects`, did you mean `expect`?",
            ),
            (format!("{base}, request: GET s3://lake/raw/a, expect: allowed, by: [al]"), "there is no policy `al`"),
            (
                format!("{base}, request: GET s3://lake/raw/a, expect: allowed, context: {{direcion: a}}"),
                "did you mean `direction`",
            ),
            (
                format!("{base}, request: GET s3://lake/raw/a, expect: allowed, context: {{acl: private}}"),
                "comes from what is asked",
            ),
            (
                format!("{base}, action: 's3:GetObjects', resource: 'Object::\"lake/raw/a\"', expect: allowed"),
                "did you mean `s3:GetObject`",
            ),
            (format!("{base}, action: 's3:GetObject', resource: lake/raw/a, expect: allowed"), "is no resource"),
            (format!("{base}, action: 's3:GetObject', expect: allowed"), "either `request`"),
            (format!("{base}, request: GET ftp://lake/raw/a, expect: allowed"), "`ftp://`"),
            ("name: n, as: transform, request: GET s3://lake/raw/a, expect: allowed".to_owned(), "`as`: "),
        ] {
            let error = run(&format!("cases:\n  - {{{case}}}\n")).expect_err(&case);
            assert!(error.contains("cases.yaml:2: ") && error.contains(expected), "{case}: {error}");
        }
    }
}
