//! What is done with policies off the data path: they are tested against cases, and asked to explain themselves.

mod asked;
mod cases;
mod explain;
mod policy_test;
mod question;
mod records;

pub use cases::{Case, CaseErrors, Cases, Expected};
pub use explain::{Explained, Explanation, explain, explain_operations};
pub use policy_test::{CaseResult, PolicyTest, PolicyTestError, Untested, test_directory};
pub use question::Question;
pub use records::{Recorded, RecordsError, find_record};
