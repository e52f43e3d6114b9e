//! What comes out of a question.

use std::fmt;
use std::sync::Arc;

/// The answer to one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub outcome: Outcome,
    /// The `@id`s of the policies that decided, in the order they were loaded: the forbids that matched, else the permits that did;
    /// on an error the policies that erred.
    pub policies: Vec<Arc<str>>,
    /// What went wrong, or why nothing could be asked.
    pub error: Option<String>,
    /// None of the policies that were asked reads the time: as long as they are in force, the same question has the same answer.
    pub lasts: bool,
}

/// What is tried beside the policies in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Candidate {
    /// The policies of `policy.shadow`.
    Directory,
    /// The policies in force together with those of them that have `@mode("shadow")`.
    Annotated,
}

impl Candidate {
    /// As records and `/shadow` write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Annotated => "annotated",
        }
    }
}

/// What can be decided. Everything but `Allowed` is a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// A permit matched and no forbid did.
    Allowed,
    /// A forbid matched.
    Forbidden,
    /// No permit matched.
    NotPermitted,
    /// A policy could not be evaluated, or the question did not have the schema's form.
    Error,
    /// The schema knows no such action, or not on such a resource: no policy was asked.
    Refused,
}

impl Outcome {
    /// As records and metrics write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Forbidden => "forbidden",
            Self::NotPermitted => "not_permitted",
            Self::Error => "error",
            Self::Refused => "refused",
        }
    }

    /// Whether the operation may go on.
    #[must_use]
    pub const fn is_allowed(self) -> bool {
        matches!(self, Self::Allowed)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The outcome of several operations that are permitted only as a whole: what cannot be named outweighs an error, an error a forbid, a
/// forbid a missing permit.
#[must_use]
pub fn worst<'a>(decisions: impl IntoIterator<Item = &'a Decision> + Clone) -> Outcome {
    const WORST_FIRST: [Outcome; 4] = [Outcome::Refused, Outcome::Error, Outcome::Forbidden, Outcome::NotPermitted];
    let found = |outcome: &Outcome| decisions.clone().into_iter().any(|decision| decision.outcome == *outcome);
    WORST_FIRST.into_iter().find(found).unwrap_or(Outcome::Allowed)
}

impl Decision {
    pub(super) const fn refused(why: String) -> Self {
        Self { outcome: Outcome::Refused, policies: Vec::new(), error: Some(why), lasts: false }
    }

    pub(super) const fn error(why: String) -> Self {
        Self { outcome: Outcome::Error, policies: Vec::new(), error: Some(why), lasts: false }
    }
}
