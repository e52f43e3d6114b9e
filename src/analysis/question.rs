//! A question as people and records write it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::sql::{SqlSession, SqlText};
use crate::config::{ListenerConfig, nearest};

/// What is asked, as it is written: a request, a SQL text, or an action on a resource.
#[derive(Debug, Clone, Default)]
pub struct Question {
    pub(super) sql: Option<SqlText>,
    pub(super) endpoints: BTreeMap<String, String>,
    /// How the endpoints are configured, if that is known.
    pub(super) listeners: Vec<ListenerConfig>,
    pub(super) request: Option<String>,
    pub(super) headers: BTreeMap<String, Texts>,
    pub(super) body: Option<String>,
    pub(super) action: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) context: Map<String, Json>,
    /// Of a table the ones that it is a partition of, as Cedar writes them: no id tells that.
    pub(super) partition_of: Vec<String>,
}

impl Question {
    /// A request: `GET s3://ENDPOINT/BUCKET/KEY`, `POST http://ENDPOINT/PATH`.
    #[must_use]
    pub fn of_request(request: &str) -> Self {
        Self { request: Some(request.to_owned()), ..Self::default() }
    }

    /// An action on a resource: `s3:GetObject` or `Action::"s3:GetObject"`, `Object::"lake/raw/a"`.
    #[must_use]
    pub fn of_action(action: &str, resource: &str) -> Self {
        let name = action.strip_prefix("Action::\"").and_then(|name| name.strip_suffix('"')).unwrap_or(action);
        Self { action: Some(name.to_owned()), resource: Some(resource.to_owned()), ..Self::default() }
    }

    /// A SQL text, as a session would send it.
    #[must_use]
    pub fn of_sql(text: &str, session: SqlSession) -> Self {
        Self { sql: Some(SqlText { text: text.to_owned(), session }), ..Self::default() }
    }

    /// With this context: of a request the facts that all requests have, of an action all that there is.
    #[must_use]
    pub fn with_context(self, context: Map<String, Json>) -> Self {
        Self { context, ..self }
    }

    /// Asked of these listeners: requests are judged by their settings, and of no other endpoint.
    #[must_use]
    pub fn of_listeners(self, listeners: &[ListenerConfig]) -> Self {
        Self { listeners: listeners.to_vec(), ..self }
    }

    /// With a header of the request; one that is added twice is sent twice.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let values = self.headers.entry(name.to_owned()).or_insert_with(|| Texts::Several(Vec::new()));
        if let Texts::Several(values) = values {
            values.push(value.to_owned());
        }
        self
    }

    /// With a body, for the requests that are named by it.
    #[must_use]
    pub fn with_body(self, body: String) -> Self {
        Self { body: Some(body), ..self }
    }
}

/// One text or several: a header that is sent twice.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    One(String),
    Several(Vec<String>),
}

/// Whether a mapping of a YAML file has no key but these.
///
/// # Errors
/// The first one that it does not know, with the nearest that it does.
pub(super) fn only_keys(json: &Json, known: &[&str]) -> Result<(), String> {
    let Some(keys) = json.as_object() else {
        return Err(format!("it is no mapping with the keys {}", known.join(", ")));
    };
    match keys.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(unknown) => Err(match nearest(unknown, known.iter().copied()) {
            Some(meant) => format!("unknown key `{unknown}`, did you mean `{meant}`?"),
            None => format!("unknown key `{unknown}`: there are {}", known.join(", ")),
        }),
    }
}
