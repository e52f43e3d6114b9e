//! What is sound by the schema and still seldom meant: grants that are too wide, policies that do nothing, policies that can fail.
//!
//! Each policy is looked at in all classes of questions (`walk.rs`). What does not follow from scopes and entities alone is asked of the
//! policies themselves with a few requests, then of a solver (`ask.rs`). What could not be decided is said to be not checked.

mod ask;
mod report;
mod walk;
mod wide;

use crate::analysis::plan::Solver;
use crate::policy::{LoadedPolicy, PolicyGeneration};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// It does not do what its author may think.
    Warning,
    /// It gives away what is seldom meant to be given.
    Error,
}

impl Level {
    /// As SARIF has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A permit of everything.
    Unconstrained,
    /// A permit of administration for everybody, a whole trust domain, or on everything.
    WideAdmin,
    /// A permit for every workload of every trust domain.
    AnyPrincipal,
    /// A policy that matches nothing that could be asked.
    NeverMatches,
    /// A permit of nothing that is not forbidden, whatever is asked.
    Shadowed,
    /// A policy whose evaluation can fail, which denies.
    CanError,
}

/// All of them.
pub const RULES: [Rule; 6] =
    [Rule::Unconstrained, Rule::WideAdmin, Rule::AnyPrincipal, Rule::NeverMatches, Rule::Shadowed, Rule::CanError];

impl Rule {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unconstrained => "unconstrained",
            Self::WideAdmin => "wide-admin",
            Self::AnyPrincipal => "any-principal",
            Self::NeverMatches => "never-matches",
            Self::Shadowed => "shadowed",
            Self::CanError => "can-error",
        }
    }

    /// How bad it is.
    #[must_use]
    pub const fn level(self) -> Level {
        match self {
            Self::Unconstrained | Self::WideAdmin => Level::Error,
            Self::AnyPrincipal | Self::NeverMatches | Self::Shadowed | Self::CanError => Level::Warning,
        }
    }

    /// What it is about.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Unconstrained => "A policy permits everything: every workload, every action, every resource.",
            Self::WideAdmin => {
                "A policy permits actions of the group `admin` to everybody, to a whole trust domain, or on everything."
            }
            Self::AnyPrincipal => "A policy permits something to every workload of every trust domain.",
            Self::NeverMatches => "A policy matches nothing that could ever be asked.",
            Self::Shadowed => "A policy permits nothing, because all that it matches is forbidden by others.",
            Self::CanError => "The evaluation of a policy can fail. A question that a policy fails at is denied.",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Unconstrained => {
                "say who may do what to what: `permit (principal in Stage::\"transform\", action in Action::\"read\", resource in Bucket::\"lake/raw\");`"
            }
            Self::WideAdmin => {
                "name the stage that administers, what it does and what to: `principal in Stage::\"ops\", action == Action::\"s3:PutObjectAcl\", resource in Bucket::\"lake/raw\"`"
            }
            Self::AnyPrincipal => {
                "say who: `principal in Stage::\"transform\"`; if everybody of ours is meant: `principal in TrustDomain::\"pipeline.example\"`"
            }
            Self::NeverMatches => {
                "its conditions contradict each other, its scope, or what entities.json says: mend it or take it out"
            }
            Self::Shadowed => {
                "take it out, or narrow the forbids: as it is it only looks as if something were permitted"
            }
            Self::CanError => {
                "bound the numbers before you reckon with them: `context.contentLength < 1000000000 && context.contentLength * 8 < …`"
            }
        }
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Which rule.
    pub rule: Rule,
    /// The policy's `@id`.
    pub policy: String,
    /// The file.
    pub file: String,
    /// Line and column of the policy's `permit` or `forbid`, from 1.
    pub place: (usize, usize),
    /// What was found.
    pub message: String,
}

/// Something that could not be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct NotChecked {
    /// Which rule.
    pub rule: Rule,
    /// The policy's `@id`.
    pub policy: String,
    /// Why.
    pub why: String,
}

/// What was found in a directory.
#[derive(Debug, Default)]
pub struct Lint {
    /// In the order of the files.
    pub findings: Vec<Finding>,
    /// What could not be looked at.
    pub not_checked: Vec<NotChecked>,
}

/// Looks through the policies that are enforced.
///
/// # Errors
/// A policy cannot be had in Cedar's JSON form.
pub fn lint(policies: &PolicyGeneration, solver: &Solver) -> Result<Lint, String> {
    let survey = policies.survey()?;
    let mut looks = walk::Walk::through(&survey)?;
    looks.settle(solver);
    let mut lint = Lint::default();
    // Those of @mode("shadow") are not enforced.
    for (look, surveyed) in looks.looks.iter().zip(survey.policies()) {
        let Some(policy) = policies.policies().iter().find(|policy| policy.id == surveyed.id) else { continue };
        look.verdicts(surveyed.permits, policy, &mut lint);
    }
    let place = |of: &LoadedPolicy| (of.file.to_string(), of.line);
    let places: std::collections::HashMap<&str, _> =
        policies.policies().iter().map(|policy| (&*policy.id, place(policy))).collect();
    lint.findings.sort_by_key(|finding| (places.get(finding.policy.as_str()).cloned(), finding.rule));
    lint.not_checked.sort_by_key(|open| (places.get(open.policy.as_str()).cloned(), open.rule));
    Ok(lint)
}

impl Lint {
    /// How many findings are at least this bad.
    #[must_use]
    pub fn count(&self, level: Level) -> usize {
        self.findings.iter().filter(|finding| finding.rule.level() >= level).count()
    }
}
