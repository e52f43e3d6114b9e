//! A record as its line.

use std::time::Duration;

use super::{OperationRecord, Record, SqlRecord, TrialRecord};
use crate::audit::line::{Object, Rfc3339, displayed, is_plain, list, number, string, string_contents, whole_number};
use crate::mapping::{Context, REDACTED, Resource, Tags, TagsRead, Value, is_secret_header};
use crate::policy::{Given, PolicyGeneration};

impl Record<'_> {
    /// Whether sampling may leave it out: only what was allowed in earnest, and would have been by every candidate.
    pub(in crate::audit) fn may_be_left_out(&self) -> bool {
        self.outcome == "allowed"
            && self.mode == "enforce"
            && self.shadow.iter().all(|trial| trial.outcome == "allowed")
    }

    /// Appends the record as one line, the newline included. `rate` is the share of the records that sampling may leave out which
    /// is written.
    pub(in crate::audit) fn append(&self, line: &mut Vec<u8>, rate: f64) {
        let mut object = Object::begin(line);
        let time = Rfc3339::from(self.time);
        object.member("time", |line| time.append(line));
        object.string("kind", self.kind.as_str());
        object.member("decision_id", |line| self.decision_id.append(line));
        if let Some(id) = self.request_id {
            object.member("request_id", |line| append_request_id(line, id, self.request_number));
        }
        object.some_string("trace_id", self.trace_id);
        match self.said {
            Some(said) => object.members(|line| said.append(line, time, |line| self.append_answered(line))),
            None => object.members(|line| self.append_answered(line)),
        }
        object.some_string("method", self.method);
        if let Some(sql) = &self.sql {
            object.member("sql", |line| sql.append(line));
        }
        object.some_number("status", self.status.map(u64::from));
        object.some_number("bytes_in", self.bytes_in);
        object.some_number("bytes_out", self.bytes_out);
        object.some_number("duration_us", self.duration.map(microseconds));
        object.some_number("authz_us", self.authz.map(microseconds));
        object.some_string("reason", self.reason);
        object.some_string("error", self.error);
        if rate < 1.0 && self.may_be_left_out() {
            object.member("sample_rate", |line| number(line, rate));
        }
        object.end();
        line.push(b'\n');
    }

    /// What is the same in all records of an answer but for the time of the question.
    fn append_answered(&self, line: &mut Vec<u8>) {
        let mut object = Object::within(line);
        object.string("outcome", self.outcome);
        object.string("mode", self.mode);
        object.some_strings("policies", self.policies);
        object.some_string("policy_digest", self.policy_digest);
        object.some_number("policy_generation", self.policy_generation);
        if !self.shadow.is_empty() {
            object.member("shadow", |line| list(line, self.shadow, |line, trial| trial.append(line)));
        }
        self.append_peer(&mut object);
        self.append_asked(&mut object);
        object.some_string("direction", not_empty(self.direction));
        object.some_string("protocol", not_empty(self.protocol));
        object.some_string("listener", not_empty(self.listener));
        object.some_string("upstream", self.upstream);
    }

    fn append_peer(&self, object: &mut Object<'_>) {
        object.some_string("principal", self.principal);
        object.some_strings("principal_in", self.principal_in);
        if let Some(tags) = self.principal_tags.filter(|tags| !tags.is_empty()) {
            let tags = tags.iter().map(|(name, values)| (name.as_str(), values.as_slice()));
            object.member("principal_tags", |line| append_tags(line, tags));
        }
        object.some_string("peer_certificate_sha256", self.peer_certificate_sha256);
        object.some_string("peer_certificate_serial", self.peer_certificate_serial);
        object.some_string("peer_san", self.peer_san);
        object.some_string("peer_address", self.peer_address);
        object.some_string("token_issuer", self.token_issuer);
        object.some_string("token_subject", self.token_subject);
    }

    fn append_asked(&self, object: &mut Object<'_>) {
        object.some_string("action", self.action);
        if let Some(resource) = self.resource {
            object.member("resource", |line| append_resource(line, resource));
            append_placed(object, resource, self.in_force);
        }
        if self.facts.is_some() || self.context.is_some() {
            object.member("context", |line| append_context(line, self.facts, self.context, self.in_force));
        }
        if !self.operations.is_empty() {
            object.member("operations", |line| {
                list(line, self.operations, |line, operation| operation.append(line, self.in_force))
            });
        }
    }
}

impl SqlRecord<'_> {
    fn append(&self, line: &mut Vec<u8>) {
        let mut object = Object::begin(line);
        object.string("session", self.session);
        object.some_number("transaction", Some(self.transaction));
        object.string("protocol", self.protocol);
        object.some_string("prepared", self.prepared);
        object.some_string("text", self.text);
        object.some_string("fingerprint", self.fingerprint);
        object.some_string("command", self.command);
        object.some_number("rows", self.rows);
        object.some_string("sqlstate", self.sqlstate);
        object.end();
    }
}

impl TrialRecord<'_> {
    fn append(&self, line: &mut Vec<u8>) {
        let mut object = Object::begin(line);
        object.string("candidate", self.candidate);
        object.string("outcome", self.outcome);
        object.some_strings("policies", self.policies);
        object.string("policy_digest", self.policy_digest);
        object.some_string("error", self.error);
        object.end();
    }
}

fn append_tags<'t>(line: &mut Vec<u8>, tags: impl Iterator<Item = (&'t str, &'t [String])>) {
    let mut object = Object::begin(line);
    for (name, values) in tags {
        object.foreign_member(name, |line| list(line, values, |line, value| string(line, value)));
    }
    object.end();
}

impl OperationRecord<'_> {
    fn append(&self, line: &mut Vec<u8>, in_force: Option<&PolicyGeneration>) {
        let mut object = Object::begin(line);
        object.string("action", self.action);
        object.member("resource", |line| append_resource(line, self.resource));
        append_placed(&mut object, self.resource, in_force);
        object.member("context", |line| append_context(line, None, Some(self.context), in_force));
        object.string("outcome", self.outcome);
        object.some_strings("policies", self.policies);
        object.some_string("error", self.error);
        object.end();
    }
}

fn append_request_id(line: &mut Vec<u8>, id: &str, count: Option<u64>) {
    line.push(b'"');
    string_contents(line, id);
    if let Some(count) = count {
        line.push(b'-');
        whole_number(line, count);
    }
    line.push(b'"');
}

/// A resource as Cedar writes it: `Bucket::"lake/raw"`.
pub(super) fn append_resource(line: &mut Vec<u8>, resource: &Resource) {
    let id = resource.id();
    // Cedar escapes single quotes too. Most ids have nothing to escape, and `Resource` escapes character by character.
    if is_plain(id) && memchr::memchr(b'\'', id.as_bytes()).is_none() {
        line.push(b'"');
        for part in [resource.kind().as_str(), "::\\\"", id, "\\\""] {
            line.extend_from_slice(part.as_bytes());
        }
        line.push(b'"');
    } else {
        displayed(line, resource);
    }
}

/// What its id does not tell: the tables that it is a partition of, the groups that entities.json puts it in, and its tags. Most are in none,
/// and cost nothing.
fn append_placed(object: &mut Object<'_>, resource: &Resource, in_force: Option<&PolicyGeneration>) {
    let given = in_force.and_then(|policies| policies.given(resource));
    let groups = given.iter().flat_map(Given::groups);
    let mut above = resource.wholes().map(|id| ("Table", id)).chain(groups).peekable();
    if above.peek().is_some() {
        object.member("resource_in", |line| {
            list(line, above, |line, (kind, id)| displayed(line, format_args!("{kind}::\"{}\"", id.escape_debug())));
        });
    }
    let tags = given.as_ref().map(Given::tags);
    let mut tags = tags.into_iter().flatten().peekable();
    if tags.peek().is_some() {
        object.member("resource_tags", |line| append_tags(line, tags));
    }
}

/// The two halves of a context as one object. An attribute is in one of them only.
fn append_context(
    line: &mut Vec<u8>,
    facts: Option<&Context>,
    own: Option<&Context>,
    in_force: Option<&PolicyGeneration>,
) {
    let mut object = Object::begin(line);
    for (name, value) in facts.into_iter().chain(own).flat_map(Context::iter) {
        object.member(name, |line| append_value(line, value, in_force));
    }
    object.end();
}

fn append_value(line: &mut Vec<u8>, value: &Value, in_force: Option<&PolicyGeneration>) {
    match value {
        Value::Bool(value) => string_contents(line, if *value { "true" } else { "false" }),
        Value::Long(value) => number(line, value),
        Value::String(value) => string(line, value),
        Value::Strings(values) => list(line, values, |line, value| string(line, value)),
        Value::Ip(address) => displayed(line, address),
        Value::Datetime(milliseconds) => Rfc3339::from_milliseconds(*milliseconds).append(line),
        Value::Record(attributes) => {
            let mut object = Object::begin(line);
            for (name, value) in attributes {
                object.member(name, |line| append_value(line, value, in_force));
            }
            object.end();
        }
        Value::Headers(headers) => append_read(line, headers, in_force.map(|policies| policies.headers_read().all)),
        Value::Claims(claims) => append_read(line, claims, in_force.map(PolicyGeneration::claims_read)),
    }
}

/// Headers or claims; `null` for one that policies look for and that was not there, so that the record says all that they saw.
fn append_read(line: &mut Vec<u8>, tags: &Tags, reads: Option<&TagsRead>) {
    let mut object = Object::begin(line);
    for (name, values) in tags {
        let secret = is_secret_header(name);
        object.foreign_member(name, |line| {
            list(line, values, |line, value| string(line, if secret { REDACTED } else { value }))
        });
    }
    if let Some(TagsRead::Only(names)) = reads {
        for name in names.iter().filter(|name| tags.iter().all(|(known, _)| known != *name)) {
            object.foreign_member(name, |line| line.extend_from_slice(b"null"));
        }
    }
    object.end();
}

fn not_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
