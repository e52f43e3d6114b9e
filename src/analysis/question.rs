//! A question as people and records write it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

/// What is asked, as it is written: a request, or an action on a resource.
#[derive(Debug, Clone, Default)]
pub struct Question {
    pub(super) endpoints: BTreeMap<String, String>,
    pub(super) request: Option<String>,
    pub(super) headers: BTreeMap<String, Texts>,
    pub(super) body: Option<String>,
    pub(super) action: Option<String>,
    pub(super) resource: Option<String>,
    pub(super) context: Map<String, Json>,
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

    /// With this context: of a request the facts that all requests have, of an action all that there is.
    #[must_use]
    pub fn with_context(self, context: Map<String, Json>) -> Self {
        Self { context, ..self }
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
