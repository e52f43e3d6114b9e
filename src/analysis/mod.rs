//! What is done with policies off the data path: they are tested against cases.

mod asked;
mod cases;
mod policy_test;

pub use cases::{Case, CaseErrors, Cases, Expected};
pub use policy_test::{CaseResult, PolicyTest, PolicyTestError, Untested, test_directory};
