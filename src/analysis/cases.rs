//! `cases.yaml`: questions and the answers that a policy directory must give.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::question::{Question, Texts};
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
#[serde(deny_unknown_fields, default)]
struct FileKeys {
    endpoints: BTreeMap<String, String>,
    known_endpoints: Vec<String>,
    context: Map<String, Json>,
}

/// The keys of a case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseKeys {
    name: String,
    #[serde(rename = "as")]
    principal: String,
    request: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, Texts>,
    body: Option<String>,
    action: Option<String>,
    resource: Option<String>,
    #[serde(default)]
    context: Map<String, Json>,
    expect: ExpectKey,
    by: Option<Vec<String>>,
    #[serde(default)]
    about: Vec<String>,
}

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
        let keys: FileKeys = serde_json::from_value(keys).unwrap_or_else(|cause| {
            faults.push(format!("{file}: {cause}"));
            FileKeys::default()
        });
        let mut source = PolicySource { known_endpoints: keys.known_endpoints.clone(), ..PolicySource::of(directory) };
        for (name, protocol) in &keys.endpoints {
            match protocol_name(protocol) {
                Some(protocol) => source.endpoints.push((name.clone(), protocol)),
                None => faults.push(format!(
                    "{file}: endpoint `{name}` has the protocol `{protocol}`, it is http, s3, tcp or postgres"
                )),
            }
        }
        let mut cases = Vec::new();
        for (line, json) in list {
            match Case::new(line, json, &keys) {
                Ok(case) => cases.push(case),
                Err(cause) => faults.push(format!("{file}:{line}: {cause}")),
            }
        }
        if faults.is_empty() { Ok(Self { source, cases }) } else { Err(CaseErrors::Cases(faults)) }
    }
}

impl Case {
    fn new(line: usize, json: Json, file: &FileKeys) -> Result<Self, String> {
        let keys: CaseKeys = serde_json::from_value(json).map_err(|cause| cause.to_string())?;
        let principal = SpiffeId::parse(&keys.principal).map_err(|cause| format!("`as`: {cause}"))?;
        match (&keys.request, &keys.action, &keys.resource) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            _ => return Err("a case has either `request`, or `action` and `resource`".to_owned()),
        }
        // What the file says of all its cases, each may say otherwise.
        let mut context = file.context.clone();
        context.extend(keys.context);
        let question = Question {
            endpoints: file.endpoints.clone(),
            request: keys.request,
            headers: keys.headers,
            body: keys.body,
            action: keys.action,
            resource: keys.resource,
            context,
        };
        let expected = Expected { outcome: keys.expect.into(), by: keys.by };
        Ok(Self { name: keys.name, line, principal, question, expected, about: keys.about })
    }
}

fn protocol_name(protocol: &str) -> Option<&'static str> {
    ["http", "s3", "tcp", "postgres"].into_iter().find(|known| *known == protocol)
}
