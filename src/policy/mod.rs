//! The decision point: policies are loaded, proved to be sound, compiled, and asked.
//!
//! [`PolicyStore`] holds the [`PolicyGeneration`] in force. A generation is loaded as one from a directory (`load/`), or from a signed
//! bundle of one (`bundle/`): every problem of every file is found before anything is refused. What loaded is compiled (`engine/`), so that a question only touches the policies
//! whose scope can match it.
//!
//! # Rules
//! - No permit means no. A forbid wins over any permit.
//! - Cedar skips a policy that errs, so that an erring `forbid` would vanish: here any evaluation error is a denial of its own kind.
//! - What the schema does not name is refused before any policy is asked.

mod alternatives;
mod bundle;
mod decision;
mod engine;
mod forms;
mod generation;
mod invariants;
mod load;
mod proof;
mod schema;
mod shadow;
mod store;
mod survey;
#[cfg(test)]
mod tests;
mod trace;

pub use alternatives::Alternative;
pub use bundle::{
    ArchiveError, BundleKey, BundleKeyError, BundleKeys, Expiry, ExpiryError, MANIFEST_FILE, MAX_BUNDLE_BYTES,
    MAX_SIGNATURE_BYTES, Manifest, ManifestError, PackError, PolicyArchive, PolicyBundle, PolicyBundleError,
    SigningKey, pack,
};
pub use decision::{Candidate, Decision, Outcome, worst};
pub use engine::{Given, Principal, Spot};
pub use generation::{LoadedPolicy, PolicyGeneration, PolicySource};
pub use invariants::{Invariant, Invariants, Says};
pub use load::{PolicyErrors, PolicyProblem, STACK, Severity, render_problems};
pub use proof::{Proof, Proving};
pub use schema::{SHIPPED_SCHEMA, schema_text};
pub use shadow::Trial;
pub use store::{PolicyStore, Reloaded};
pub use survey::{Survey, Surveyed, SurveyedAction};
pub use trace::{Clause, Part, Placed, Trace, TracedPolicy, Verdict, columns_condition};
