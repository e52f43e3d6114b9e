//! Audit records, read back.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};
use thiserror::Error;

use super::Question;
use crate::identity::SpiffeId;
use crate::mapping::TagsRead;

/// Longest line that is taken for a record: a request of ten thousand operations is far below it.
const MAX_LINE: u64 = 64 * 1024 * 1024;
/// What records have in place of a secret.
const REDACTED: &str = "[redacted]";

/// What a record says of a decision.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// When, RFC 3339.
    pub time: String,
    /// Who asked.
    pub principal: SpiffeId,
    /// What was asked, operation by operation.
    pub questions: Vec<Question>,
    /// What came out.
    pub outcome: String,
    /// The policies that were in force.
    pub policy_digest: Option<String>,
    /// The context has values that the record does not show.
    pub has_redacted: bool,
}

/// Why there is no decision to be read.
#[derive(Debug, Error)]
pub enum RecordsError {
    /// A file cannot be read.
    #[error("cannot read `{}`: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No file has it.
    #[error("no record has the decision id `{id}` in {}", list(files))]
    NotFound {
        /// What was looked for.
        id: String,
        /// Where.
        files: Vec<PathBuf>,
    },
    /// There is a record, and it is not of a question to the policies.
    #[error("`{id}` is not a question to the policies: {why}")]
    NotAsked {
        /// The decision.
        id: String,
        /// What it is instead.
        why: String,
    },
}

fn list(files: &[PathBuf]) -> String {
    files.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

/// Finds a decision in audit files. Of a long exchange, whose beginning has a record too, the last one counts.
///
/// # Errors
/// A file cannot be read, none has the record, or it is of something that no policy was asked about.
pub fn find_record(files: &[PathBuf], id: &str) -> Result<Recorded, RecordsError> {
    let mut found = None;
    for path in files {
        for record in matching(path, id).map_err(|source| RecordsError::Read { path: path.clone(), source })? {
            found = Some(record);
        }
    }
    let record = found.ok_or_else(|| RecordsError::NotFound { id: id.to_owned(), files: files.to_vec() })?;
    Recorded::read(&record).map_err(|why| RecordsError::NotAsked { id: id.to_owned(), why })
}

fn matching(path: &Path, id: &str) -> io::Result<Vec<Json>> {
    let mut found = Vec::new();
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    loop {
        line.clear();
        if io::Read::take(&mut reader, MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        // Only a line that has the id is worth being parsed; a client may have sent the same text, so the field decides.
        if memchr::memmem::find(&line, id.as_bytes()).is_none() {
            continue;
        }
        let record = serde_json::from_slice::<Json>(&line).ok();
        found.extend(record.filter(|record| record.get("decision_id").and_then(Json::as_str) == Some(id)));
    }
}

impl Recorded {
    /// Reads a record.
    ///
    /// # Errors
    /// What it is instead of a question to the policies.
    pub fn read(record: &Json) -> Result<Self, String> {
        let text = |name: &str| record.get(name).and_then(Json::as_str);
        let outcome = text("outcome").ok_or("it has no `outcome`")?;
        let Some(principal) = text("principal") else {
            return Err(format!("it has no principal, kind `{}`", text("kind").unwrap_or_default()));
        };
        let principal = SpiffeId::parse(principal).map_err(|cause| format!("principal `{principal}`: {cause}"))?;
        let context = |of: &Json| of.get("context").and_then(Json::as_object).cloned().unwrap_or_default();
        let shared = context(record);
        let mut questions = Vec::new();
        match record.get("operations").and_then(Json::as_array) {
            Some(operations) => {
                for operation in operations {
                    // The facts that all operations share stand in the record's own context only.
                    let mut whole: Map<String, Json> = shared.clone();
                    whole.extend(context(operation));
                    questions.push(question(operation, whole).ok_or("an operation has no action or resource")?);
                }
            }
            None => questions.extend(question(record, shared)),
        }
        if questions.is_empty() {
            let why = [text("reason"), text("error")].into_iter().flatten().collect::<Vec<_>>().join(": ");
            return Err(format!("the request was `{outcome}` before any policy was asked ({why})"));
        }
        let has_redacted = questions.iter().any(|question| mentions(&Json::Object(question.context.clone()), REDACTED));
        Ok(Self {
            time: text("time").unwrap_or_default().to_owned(),
            principal,
            questions,
            outcome: outcome.to_owned(),
            policy_digest: text("policy_digest").map(str::to_owned),
            has_redacted,
        })
    }
}

fn question(of: &Json, context: Map<String, Json>) -> Option<Question> {
    let text = |name: &str| of.get(name).and_then(Json::as_str);
    let question = Question::of_action(text("action")?, text("resource")?).with_context(context);
    let partition_of = placed_in(of).filter(|above| above.starts_with("Table::")).map(str::to_owned).collect();
    Some(Question { partition_of, ..question })
}

/// What a record says that its resource is in, beyond what the id says: tables that it is a part of, and groups.
pub(super) fn placed_in(of: &Json) -> impl Iterator<Item = &str> {
    of.get("resource_in").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str)
}

/// Whether a value that a record does not show is among the headers or claims that `reads` tells.
pub(super) fn hides(tags: Option<&Json>, reads: &TagsRead) -> bool {
    let tags = tags.and_then(Json::as_object).into_iter().flatten();
    tags.filter(|(name, _)| reads.reads(name)).any(|(_, values)| mentions(values, REDACTED))
}

fn mentions(json: &Json, text: &str) -> bool {
    match json {
        Json::String(value) => value == text,
        Json::Array(values) => values.iter().any(|value| mentions(value, text)),
        Json::Object(values) => values.values().any(|value| mentions(value, text)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record() -> Json {
        json!({"time": "2026-11-21T09:30:00.125Z", "kind": "request", "decision_id": "01A", "outcome": "not_permitted",
               "principal": "spiffe://a.test/t", "policy_digest": "sha256:1", "action": "s3:GetObject",
               "resource": "Object::\"lake/raw/it\\'s\"", "context": {"direction": "inbound", "operation": "GetObject"}})
    }

    #[test]
    fn a_decision_is_found_by_its_id_and_by_nothing_that_a_client_sent() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut other = record();
        other["decision_id"] = json!("01B");
        other["resource"] = json!("Object::\"lake/raw/01A\"");
        std::fs::write(&path, format!("{}\nbroken 01A\n{other}\n", record())).unwrap();
        let found = find_record(std::slice::from_ref(&path), "01A").unwrap();
        assert_eq!(found.questions.len(), 1);
        assert_eq!(found.questions[0].resource.as_deref(), Some("Object::\"lake/raw/it\\'s\""));
        let missing = find_record(std::slice::from_ref(&path), "01C").unwrap_err();
        assert!(missing.to_string().contains("no record has the decision id `01C`"), "{missing}");
    }

    #[test]
    fn each_operation_has_the_facts_that_all_share() {
        let mut two = record();
        two["operations"] = json!([
            {"action": "s3:GetObject", "resource": "Object::\"lake/raw/a\"", "context": {"operation": "CopyObject"}, "outcome": "allowed"},
            {"action": "s3:PutObject", "resource": "Object::\"lake/b/a\"", "context": {"operation": "CopyObject"}, "outcome": "not_permitted"},
        ]);
        let read = Recorded::read(&two).unwrap();
        assert_eq!(read.questions.len(), 2);
        assert!(read.questions.iter().all(|question| question.context["direction"] == "inbound"));
        assert!(!read.has_redacted);
    }

    #[test]
    fn what_no_policy_was_asked_about_says_so() {
        let mut refused = record();
        refused.as_object_mut().unwrap().remove("action");
        refused["reason"] = json!("absolute-form");
        assert!(Recorded::read(&refused).unwrap_err().contains("absolute-form"));
        let mut handshake = record();
        handshake.as_object_mut().unwrap().remove("principal");
        assert!(Recorded::read(&handshake).unwrap_err().contains("no principal"));
        let mut secret = record();
        secret["context"]["headers"] = json!({"authorization": ["[redacted]"]});
        assert!(Recorded::read(&secret).unwrap().has_redacted);
    }
}
