//! The audit file as a test reads it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::eventually;

/// The audit records of one sidecar.
#[derive(Debug, Clone)]
pub(crate) struct Records {
    path: PathBuf,
}

impl Records {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Every whole line. A line that is not JSON fails the test: nothing may forge or tear a record.
    pub(crate) fn all(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
        whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// The first record for which `wanted` holds, past or future.
    pub(crate) async fn find(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let what = format!("a record of {what} in {}", self.path.display());
        eventually(&what, || self.all().into_iter().find(|record| wanted(record))).await
    }

    /// The final record with this decision id.
    pub(crate) async fn of_decision(&self, decision_id: &str) -> Value {
        self.find(&format!("decision {decision_id}"), |record| {
            record["decision_id"] == decision_id && record["kind"] != "started"
        })
        .await
    }

    /// The first record with this outcome.
    pub(crate) async fn with_outcome(&self, outcome: &str) -> Value {
        self.find(&format!("outcome {outcome}"), |record| record["outcome"] == outcome).await
    }

    /// The `count` first records of kind `request`, once there are as many.
    pub(crate) async fn requests(&self, count: usize) -> Vec<Value> {
        let what = format!("{count} request records in {}", self.path.display());
        eventually(&what, || {
            let requests: Vec<Value> = self.all().into_iter().filter(|record| record["kind"] == "request").collect();
            (requests.len() >= count).then_some(requests)
        })
        .await
    }
}

/// The determining policies of a record.
pub(crate) fn policies_of(record: &Value) -> Vec<&str> {
    record["policies"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}
