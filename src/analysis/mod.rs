//! What is done with policies off the data path: they are tested against cases, asked to explain themselves, and tried on what was recorded.

mod asked;
mod cases;
mod cedar_tests;
mod coverage;
mod databases;
mod explain;
mod junit;
mod lint;
mod plan;
mod policy_test;
mod prove;
mod question;
mod records;
mod replay;
mod sql;
mod suggest;

/// `1 line`, `2 lines`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

pub use cases::{Case, CaseErrors, Cases, Expected};
pub use coverage::UntestedClause;
pub use databases::catalog_of;
pub use explain::{Explained, Explanation, explain, explain_denial, explain_operations};
pub use junit::junit;
pub use lint::{Finding, Level, Lint, NotChecked, RULES, Rule, lint};
pub use plan::{Change, Decided, Plan, Solver, Unproved, plan};
pub use policy_test::{CaseResult, PolicyTest, PolicyTestError, Untested, test_cedar_file, test_directory};
pub use prove::{Proved, Proving, Verdict as InvariantVerdict, prove};
pub use question::Question;
pub use records::{Recorded, RecordsError, find_record};
pub use replay::{Replay, ReplayFlip, replay};
pub use sql::SqlSession;
pub use suggest::{AlsoAllowed, Suggestion, Unused, UnusedPart, proved, suggest};
