//! What is tried beside the policies in force: it decides every question too, and is never enforced.
//!
//! There are two kinds of candidate: the whole directory `policy.shadow`, and the policies in force together with those among them that
//! have `@mode("shadow")`. A candidate that does not load takes nothing from the policies in force.

use std::path::Path;
use std::sync::Arc;

use super::decision::{Candidate, Decision};
use super::engine::{Engine, Principal};
use super::generation::{PolicyGeneration, PolicySource};
use super::load::PolicyFiles;
use crate::mapping::{Context, Operation, TagsRead};

/// A candidate that loaded.
#[derive(Debug)]
pub(super) struct Tried {
    pub(super) of: Candidate,
    pub(super) engine: Engine,
    pub(super) headers_read: TagsRead,
    pub(super) claims_read: TagsRead,
    pub(super) digest: Arc<str>,
}

/// What a candidate would have decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Which candidate.
    pub of: Candidate,
    /// `sha256:HEX` over its files.
    pub digest: Arc<str>,
    /// Its answer to each operation, in the order asked.
    pub decisions: Box<[Decision]>,
}

/// The directory `policy.shadow`, as it was found.
#[derive(Debug, Clone)]
pub(super) struct ShadowDirectory {
    /// The digest of its files, or why they could not be read.
    pub(super) seen: Result<String, String>,
    /// Why they are not tried; then the last ones that loaded still are.
    pub(super) fault: Option<String>,
    pub(super) tried: Option<Arc<Tried>>,
}

impl ShadowDirectory {
    /// Looks at the directory; none if there is nothing new since `before`.
    pub(super) fn look(directory: &Path, source: &PolicySource, before: Option<&Self>) -> Option<Self> {
        let files = PolicyFiles::read_settled(directory);
        let seen = match &files {
            Ok(files) => Ok(files.digest.clone()),
            Err(errors) => Err(errors.to_string()),
        };
        if before.is_some_and(|before| before.seen == seen) {
            return None;
        }
        // What is never enforced need not be proved.
        let candidate = PolicySource {
            directory: directory.to_owned(),
            bundle: None,
            shadow: None,
            require_proof: false,
            ..source.clone()
        };
        let loaded = files.and_then(|files| PolicyGeneration::from_files(&files, &candidate, 1, None));
        Some(match loaded {
            Ok(generation) => Self { seen, fault: None, tried: Some(Arc::new(generation.into_candidate())) },
            Err(errors) => {
                Self { seen, fault: Some(errors.to_string()), tried: before.and_then(|before| before.tried.clone()) }
            }
        })
    }
}

impl PolicyGeneration {
    /// Whether anything is tried beside the policies in force.
    #[must_use]
    pub fn has_candidates(&self) -> bool {
        !self.candidates().is_empty()
    }

    /// The candidates that are tried.
    pub fn tried(&self) -> impl Iterator<Item = Candidate> {
        self.candidates().iter().map(|tried| tried.of)
    }

    /// What each candidate would decide.
    #[must_use]
    pub fn trials<'a>(
        &self,
        principal: &Principal,
        operations: impl Iterator<Item = &'a Operation> + Clone,
        facts: &Context,
    ) -> Vec<Trial> {
        let known = |number: usize| principal.candidates.get(number);
        let trial = |(number, tried): (usize, &Arc<Tried>)| {
            let made;
            let principal = match known(number) {
                Some(known) => known,
                None => {
                    made = tried.engine.principal(principal.id());
                    &made
                }
            };
            let decide = |operation| tried.engine.decide(principal, operation, facts);
            Trial {
                of: tried.of,
                digest: Arc::clone(&tried.digest),
                decisions: operations.clone().map(decide).collect(),
            }
        };
        self.candidates().iter().enumerate().map(trial).collect()
    }
}
