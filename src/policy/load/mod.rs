//! From a directory to policies that can be trusted: read, parsed, validated, checked. All problems are found at once.

mod absent;
mod advice;
mod check;
mod depth;
mod entities;
mod files;
mod ids;
mod literals;
mod policies;
mod problem;
mod reads;
mod values;

pub(super) use check::{CheckedNames, check, check_entities, check_stages};
pub use depth::STACK;
pub(super) use depth::{Language, too_deep};
pub(super) use entities::{StaticEntities, tag_expressions, workload_attributes};
pub(super) use files::{INVARIANTS_FILE, MAX_FILES, PROOF_FILE, PolicyFiles, beside, hex, names, text_digest};
pub(super) use ids::ancestors_above;
pub(super) use literals::{Literals, conditions_of};
pub(super) use policies::{ParsedPolicy, parse, validate};
pub use problem::{PolicyErrors, PolicyProblem, Severity, render_problems};
pub(super) use problem::{Problems, SourceFile};
pub(super) use reads::{Looks, Reads};
