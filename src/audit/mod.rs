//! One decision, one record: a JSON line that is in the sink before the last byte of the answer is sent.
//!
//! Writes what others decided and decides nothing itself. `docs/audit.md` describes every field.

mod batch;
mod decision_id;
mod error;
mod line;
mod record;
mod recorder;
mod said;
mod sink;

pub use decision_id::{DecisionId, new_decision_id};
pub use error::AuditError;
pub use line::Rfc3339;
pub use record::{Kind, OperationRecord, Record, SqlRecord, TrialRecord};
pub use recorder::{Audit, Gathered};
pub use said::Said;
