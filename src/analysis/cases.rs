//! `cases.yaml`: questions and the answers that a policy directory must give.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::databases::Databases;
use super::question::{Question, Texts, only_keys};
use super::sql::SqlText;
use crate::config::{ConfigErrors, list_of_document};
use crate::identity::SpiffeId;
use crate::policy::{Outcome, PolicySource};

/// The file's name.
pub(super) const FILE: &str = "cases.yaml";

/// What the file says.
#[derive(Debug, Clone)]
pub struct Cases {
    /// Where the policies are and which endpoints there are.
    pub source: PolicySource,
    /// In the order of the file.
    pub cases: Vec<Case>,
}

/// One question and its answer.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// The line on which it begins.
    pub line: usize,
    /// Who asks.
    pub principal: SpiffeId,
    /// What is asked.
    pub(super) question: Question,
    /// What must come out.
    pub expected: Expected,
    /// The policies that this case is about besides those that decide it: of a permit, what it does not permit.
    pub about: Vec<String>,
}

/// What must come out of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The outcome.
    pub outcome: Outcome,
    /// The deciding policies, if the case says them.
    pub by: Option<Vec<String>>,
}

/// The file's keys beside `cases`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FileKeys {
    endpoints: BTreeMap<String, String>,
    known_endpoints: Vec<String>,
    context: Map<String, Json>,
    databases: BTreeMap<String, Json>,
}

const FILE_KEYS: [&str; 4] = ["endpoints", "known_endpoints", "context", "databases"];

/// The keys of a case.
#[derive(Debug, Deserialize)]
struct CaseKeys {
    name: String,
    #[serde(rename = "as")]
    principal: String,
    request: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Texts>,
    body: Option<String>,
    sql: Option<String>,
    database: Option<String>,
    role: Option<String>,
    search_path: Option<String>,
    action: Option<String>,
    resource: Option<String>,
    #[serde(default)]
    context: Map<String, Json>,
    expect: ExpectKey,
    by: Option<Vec<String>>,
    #[serde(default)]
    about: Vec<String>,
}

const CASE_KEYS: [&str; 15] = [
    "name",
    "as",
    "request",
    "headers",
    "body",
    "sql",
    "database",
    "role",
    "search_path",
    "action",
    "resource",
    "context",
    "expect",
    "by",
    "about",
];

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ExpectKey {
    Allowed,
    Forbidden,
    NotPermitted,
    Error,
    Refused,
}

impl From<ExpectKey> for Outcome {
    fn from(key: ExpectKey) -> Self {
        match key {
            ExpectKey::Allowed => Self::Allowed,
            ExpectKey::Forbidden => Self::Forbidden,
            ExpectKey::NotPermitted => Self::NotPermitted,
            ExpectKey::Error => Self::Error,
            ExpectKey::Refused => Self::Refused,
        }
    }
}

/// Why cases cannot be read. `Display` has a line for each fault: `file:line: message`.
#[derive(Debug)]
pub enum CaseErrors {
    /// The file cannot be read.
    Unreadable(String),
    /// The file is no list of cases.
    Document(ConfigErrors),
    /// Some of it is no case.
    Cases(Vec<String>),
}

impl std::error::Error for CaseErrors {}

impl fmt::Display for CaseErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => f.write_str(why),
            Self::Document(errors) => errors.fmt(f),
            Self::Cases(lines) => f.write_str(&lines.join("\n")),
        }
    }
}

impl Cases {
    /// Reads `cases.yaml` of a policy directory.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn read(directory: &Path) -> Result<Self, CaseErrors> {
        let path = directory.join(FILE);
        let file = path.display().to_string();
        let text =
            std::fs::read_to_string(&path).map_err(|cause| CaseErrors::Unreadable(format!("{file}: {cause}")))?;
        let (keys, list) = list_of_document(&file, &text, "cases").map_err(CaseErrors::Document)?;
        let mut faults = Vec::new();
        if let Err(cause) = only_keys(&keys, &[&FILE_KEYS[..], &["cases"]].concat()) {
            faults.push(format!("{file}: {cause}"));
        }
        let keys: FileKeys = serde_json::from_value(keys).unwrap_or_else(|cause| {
            faults.push(format!("{file}: {cause}"));
            FileKeys::default()
        });
        let roles = list.iter().filter_map(|(_, case)| case.get("role")?.as_str().map(str::to_owned)).collect();
        let databases = Databases::read(&keys.databases, &roles, directory).unwrap_or_else(|wrong| {
            faults.extend(wrong.into_iter().map(|cause| format!("{file}: {cause}")));
            Databases::default()
        });
        for endpoint in databases.endpoints().filter(|_| !keys.endpoints.is_empty()) {
            if keys.endpoints.get(endpoint).map(String::as_str) != Some("postgres") {
                faults.push(format!("{file}: `databases`: `endpoints` has no `{endpoint}: postgres`"));
            }
        }
        let mut source = PolicySource { known_endpoints: keys.known_endpoints.clone(), ..PolicySource::of(directory) };
        for (name, protocol) in &keys.endpoints {
            match protocol_name(protocol) {
                Some(protocol) => source.endpoints.push((name.clone(), protocol)),
                None => faults.push(format!(
                    "{file}: endpoint `{name}` has the protocol `{protocol}`, it is http, s3, tcp or postgres"
                )),
            }
        }
        if list.is_empty() {
            faults.push(format!("{file}: `cases` has no case: nothing would be tested"));
        }
        if !faults.is_empty() {
            return Err(CaseErrors::Cases(faults));
        }
        let mut cases = Vec::new();
        for (line, json) in list {
            match Case::new(line, json, &keys, &databases) {
                Ok(case) => cases.push(case),
                Err(cause) => faults.push(format!("{file}:{line}: {cause}")),
            }
        }
        if faults.is_empty() { Ok(Self { source, cases }) } else { Err(CaseErrors::Cases(faults)) }
    }
}

impl Case {
    fn new(line: usize, json: Json, file: &FileKeys, databases: &Databases) -> Result<Self, String> {
        only_keys(&json, &CASE_KEYS)?;
        let keys: CaseKeys = serde_json::from_value(json).map_err(|cause| cause.to_string())?;
        let principal = SpiffeId::parse(&keys.principal).map_err(|cause| format!("`as`: {cause}"))?;
        match (&keys.request, &keys.sql, &keys.action, &keys.resource) {
            (Some(_), None, None, None) | (None, Some(_), None, None) | (None, None, Some(_), Some(_)) => {}
            _ => return Err("a case has either `request`, or `sql`, or `action` and `resource`".to_owned()),
        }
        let of_sql = [("database", &keys.database), ("role", &keys.role), ("search_path", &keys.search_path)];
        if let (None, Some((name, _))) = (&keys.sql, of_sql.iter().find(|(_, value)| value.is_some())) {
            return Err(format!("`{name}` is a key of cases with `sql`"));
        }
        if let (None, true) = (&keys.request, !keys.headers.is_empty() || keys.body.is_some()) {
            return Err("`headers` and `body` are keys of cases with `request`".to_owned());
        }
        let sql = match keys.sql {
            None => None,
            Some(text) => {
                let asked = [&keys.database, &keys.role, &keys.search_path].map(Option::as_deref);
                let [database, role, search_path] = asked;
                Some(SqlText { text, session: databases.session(database, role, search_path)? })
            }
        };
        // What the file says of all its cases, each may say otherwise.
        let mut context = file.context.clone();
        context.extend(keys.context);
        let question = Question {
            sql,
            endpoints: file.endpoints.clone(),
            request: keys.request,
            headers: keys.headers,
            body: keys.body,
            action: keys.action,
            resource: keys.resource,
            context,
            ..Question::default()
        };
        let expected = Expected { outcome: keys.expect.into(), by: keys.by };
        Ok(Self { name: keys.name, line, principal, question, expected, about: keys.about })
    }
}

fn protocol_name(protocol: &str) -> Option<&'static str> {
    ["http", "s3", "tcp", "postgres"].into_iter().find(|known| *known == protocol)
}
