//! From audit records to the table's notation.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::case::Asked;

/// An audit file that is read as it grows.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    pub(super) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), read: 0 }
    }

    /// The records of statements since the last call. A record stands in the file before its answer is sent: nothing to wait for.
    pub(super) fn statements(&mut self) -> Vec<Value> {
        let mut text = String::new();
        let mut file = std::fs::File::open(&self.path).expect("the sidecar has records");
        file.seek(SeekFrom::Start(self.read)).expect("a file");
        file.read_to_string(&mut text).expect("records are UTF-8");
        let whole = text.rsplit_once('\n').map_or(0, |(whole, _)| whole.len() + 1);
        self.read += u64::try_from(whole).expect("short");
        let records =
            text.split_at(whole).0.lines().map(|line| serde_json::from_str::<Value>(line).expect("a record is JSON"));
        records.filter(|record| record["kind"] == "request" && !record["context"]["statement"].eq("startup")).collect()
    }
}

/// Everything that some records say was asked.
pub(super) fn asked(records: &[Value]) -> BTreeSet<Asked> {
    records
        .iter()
        .flat_map(|record| match record["operations"].as_array() {
            Some(operations) => operations.iter().map(of).collect::<Vec<_>>(),
            None if record["action"].is_string() => vec![of(record)],
            None => Vec::new(),
        })
        .collect()
}

fn of(operation: &Value) -> Asked {
    let (kind, id) = resource(operation);
    let resource = as_written(&kind, &id);
    let context = &operation["context"];
    let list = |name: &str| {
        let list = context[name].as_array().into_iter().flatten().filter_map(Value::as_str);
        list.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let mut attributes = BTreeMap::new();
    for name in ["setting", "channel", "requestedRole", "objectType", "objectName"] {
        if let Some(value) = context[name].as_str() {
            attributes.insert(name.to_owned(), value.to_owned());
        }
    }
    let base = list("base");
    if !base.is_empty() {
        attributes.insert("base".into(), base.into_iter().collect::<Vec<_>>().join(","));
    }
    let action = operation["action"].as_str().unwrap_or_default().to_owned();
    Asked { action, resource, columns: Some(list("columns")), context: attributes }
}

/// A resource as the table writes it.
pub(super) fn as_written(kind: &str, id: &str) -> String {
    let name = id.split_once('.').map_or("", |(_, name)| name);
    match kind {
        "Database" => "database".to_owned(),
        "Schema" => format!("{name}.*"),
        "Function" => format!("{name}()"),
        _ => name.to_owned(),
    }
}

/// Type and id of an operation's resource.
pub(super) fn resource(operation: &Value) -> (String, String) {
    let resource = operation["resource"].as_str().unwrap_or_default();
    let (kind, id) = resource.split_once("::").unwrap_or_default();
    // Cedar writes ids as Rust writes strings, and so does JSON for all that stands in this table.
    (kind.to_owned(), serde_json::from_str(id).unwrap_or_default())
}

/// As the table writes it, for people.
pub(super) fn written(asked: &BTreeSet<Asked>) -> String {
    let one = |asked: &Asked| {
        let columns = asked.columns.as_ref().filter(|columns| !columns.is_empty());
        let columns = columns.map(|columns| columns.iter().map(String::as_str).collect::<Vec<_>>().join(","));
        let columns = columns.map_or(String::new(), |columns| format!("[{columns}]"));
        let context: String = asked.context.iter().map(|(name, value)| format!(" {name}={value}")).collect();
        format!("{} {}{columns}{context}", asked.action, asked.resource)
    };
    asked.iter().map(one).collect::<Vec<_>>().join(" + ")
}
