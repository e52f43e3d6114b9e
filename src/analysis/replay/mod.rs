//! What other policies would have decided about recorded requests.

mod doubts;
mod report;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value as Json;

use super::Question;
use super::asked::AskedOf;
use super::records::Recorded;
use crate::analysis::counted;
use crate::policy::{Decision, Outcome, PolicyGeneration, Principal};

/// Longest line that is taken for a record.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// How a replay came out.
#[derive(Debug, Default)]
pub struct Replay {
    /// Records of decisions that were asked again.
    pub decided: u64,
    /// Operations that were allowed then and are denied now, or the other way round, in groups; the largest first.
    pub flips: Vec<ReplayFlip>,
    /// What could not be asked exactly as it was then, by the reason; the questions are asked all the same.
    pub inexact: Vec<(&'static str, u64)>,
    /// Records that no policy was asked about: handshakes, refused requests, beginnings of long exchanges.
    pub skipped: u64,
    /// Records of questions that could not be asked at all.
    pub unasked: u64,
    /// Of the decided ones those of a log that is sampled: requests that were allowed are missing beside them.
    pub sampled: u64,
    /// Lines that are no records.
    pub broken: u64,
    /// Of a sampled log each record stands for several requests: how many these records stand for.
    pub stands_for: f64,
}

/// A group of flips.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplayFlip {
    /// The Stage or Group, as Cedar writes it; the workload if it is in none.
    pub who: String,
    /// What was asked.
    pub action: String,
    /// Of what: the first folder of a bucket or path, else the resource.
    pub resource: String,
    /// What was decided.
    pub outcome: String,
    /// By which policies.
    pub policies: Vec<String>,
    /// What these policies decide.
    pub would_be: Outcome,
    /// Which of them.
    pub would_be_by: Vec<Arc<str>>,
    /// How many operations.
    pub count: u64,
    /// The last one's decision id.
    pub example: String,
    /// Some of it could not be asked exactly.
    pub inexact: bool,
}

/// Asks `policies` what is recorded in `files`.
///
/// # Errors
/// A file cannot be read.
pub fn replay(policies: &PolicyGeneration, files: &[PathBuf]) -> io::Result<Replay> {
    let mut run = Run {
        policies,
        principals: HashMap::new(),
        flips: HashMap::new(),
        inexact: HashMap::new(),
        replay: Replay::default(),
    };
    for path in files {
        each_record(path, |record| match record {
            Some(record) => run.record(record),
            None => run.replay.broken += 1,
        })?;
    }
    Ok(run.finish())
}

/// Goes through the lines of a file; none for a line that is no JSON object.
///
/// # Errors
/// It cannot be read, or is no audit file: to say that nothing of it is decided otherwise would pass for an answer.
pub(super) fn each_record(path: &Path, mut each: impl FnMut(Option<&Json>)) -> io::Result<()> {
    let named = |cause: io::Error| io::Error::new(cause.kind(), format!("`{}`: {cause}", path.display()));
    let mut reader = BufReader::new(File::open(path).map_err(named)?);
    let mut line = Vec::new();
    let (mut lines, mut records) = (0_u64, 0_u64);
    loop {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line).map_err(named)? == 0 {
            let said = || format!("none of its {} is an audit record", counted(lines, "line"));
            let is_other = lines > 0 && records == 0;
            return if is_other { Err(named(io::Error::new(io::ErrorKind::InvalidData, said()))) } else { Ok(()) };
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let record = serde_json::from_slice::<Json>(&line).ok().filter(Json::is_object);
        lines += 1;
        records += u64::from(record.as_ref().is_some_and(|record| record.get("kind").is_some()));
        each(record.as_ref());
    }
}

/// Whether a record is of a question to the policies that has been answered.
pub(super) fn is_question(record: &Json) -> bool {
    was_decided(record) && record.get("principal").is_some()
}

/// The same, whatever is missing of it: policies have been asked about a request that has an action.
fn was_decided(record: &Json) -> bool {
    record.get("kind").and_then(Json::as_str) == Some("request") && record.get("action").is_some()
}

/// What was decided about each operation of a record.
pub(super) fn outcomes(record: &Json, recorded: &Recorded) -> Vec<String> {
    let outcome = |of: &Json| of.get("outcome").and_then(Json::as_str).unwrap_or(&recorded.outcome).to_owned();
    match record.get("operations").and_then(Json::as_array) {
        Some(operations) => operations.iter().map(outcome).collect(),
        None => vec![outcome(record)],
    }
}

struct Run<'a> {
    policies: &'a PolicyGeneration,
    principals: HashMap<String, Arc<Principal>>,
    flips: HashMap<Group, ReplayFlip>,
    inexact: HashMap<&'static str, u64>,
    replay: Replay,
}

/// Who, action, resource, outcome, policies, what would be and by which.
type Group = (String, String, String, String, Vec<String>, Outcome, Vec<Arc<str>>);

impl Run<'_> {
    fn record(&mut self, record: &Json) {
        if !was_decided(record) {
            self.replay.skipped += 1;
            return;
        }
        let Ok(recorded) = Recorded::read(record) else {
            self.note("not asked at all: a question that cannot be read");
            self.replay.unasked += 1;
            return;
        };
        let principal = self
            .principals
            .entry(recorded.principal.to_string())
            .or_insert_with(|| self.policies.principal(&recorded.principal));
        let principal = Arc::clone(principal);
        let mut decisions: Vec<Decision> = Vec::with_capacity(recorded.questions.len());
        let mut exact = true;
        for question in &recorded.questions {
            let asked = question.asked(self.policies.headers_read());
            let Ok(AskedOf { facts, operations: Ok(operations) }) = asked else {
                self.note("not asked at all: an operation that this version does not know");
                self.replay.unasked += 1;
                return;
            };
            decisions.extend(operations.iter().map(|operation| self.policies.decide(&principal, operation, &facts)));
        }
        for reason in self.doubts(record, &recorded, &principal) {
            exact = false;
            self.note(reason);
        }
        self.replay.decided += 1;
        self.replay.sampled += u64::from(record.get("sample_rate").is_some());
        let rate = record.get("sample_rate").and_then(Json::as_f64).filter(|rate| *rate > 0.0).unwrap_or(1.0);
        self.replay.stands_for += 1.0 / rate;
        // Of a request of several operations each is compared: DeleteObjects is answered key by key.
        let each: Vec<&Json> = match record.get("operations").and_then(Json::as_array) {
            Some(operations) if operations.len() == decisions.len() => operations.iter().collect(),
            _ => vec![record; decisions.len()],
        };
        for ((then, decision), question) in each.into_iter().zip(&decisions).zip(&recorded.questions) {
            let was = then.get("outcome").and_then(Json::as_str).unwrap_or(&recorded.outcome);
            if decision.outcome.is_allowed() != (was == "allowed") {
                self.flip((record, then, was), question, (&principal, decision, exact));
            }
        }
    }

    fn note(&mut self, reason: &'static str) {
        *self.inexact.entry(reason).or_default() += 1;
    }

    fn flip(
        &mut self,
        (record, then, was): (&Json, &Json, &str),
        question: &Question,
        (principal, decision, exact): (&Principal, &Decision, bool),
    ) {
        let action = question.action.clone().unwrap_or_default();
        let resource = question.resource.as_deref().map(folder).unwrap_or_default();
        let (outcome, would_be_by) = (decision.outcome, decision.policies.clone());
        let who = match principal.given().first() {
            Some(given) => given.to_string(),
            None => format!("Workload::\"{}\"", principal.id()),
        };
        let policies = then.get("policies").and_then(Json::as_array).into_iter().flatten();
        let policies: Vec<String> = policies.filter_map(Json::as_str).map(str::to_owned).collect();
        let group = (who, action, resource, was.to_owned(), policies, outcome, would_be_by);
        let flip = self.flips.entry(group.clone()).or_insert_with(|| {
            let (who, action, resource, recorded, policies, would_be, would_be_by) = group;
            ReplayFlip {
                who,
                action,
                resource,
                outcome: recorded,
                policies,
                would_be,
                would_be_by,
                count: 0,
                example: String::new(),
                inexact: false,
            }
        });
        flip.count += 1;
        flip.inexact |= !exact;
        flip.example = record.get("decision_id").and_then(Json::as_str).unwrap_or_default().to_owned();
    }

    fn finish(self) -> Replay {
        let Self { flips, inexact, mut replay, .. } = self;
        replay.flips = flips.into_values().collect();
        replay.flips.sort_by(|one, other| {
            other
                .count
                .cmp(&one.count)
                .then_with(|| (&one.who, &one.action, &one.resource).cmp(&(&other.who, &other.action, &other.resource)))
        });
        replay.inexact = inexact.into_iter().collect();
        replay.inexact.sort_by_key(|(reason, count)| (std::cmp::Reverse(*count), *reason));
        replay
    }
}

/// The first folder below the bucket or endpoint: `Prefix::"lake/raw/ingest"` of `Object::"lake/raw/ingest/2026/a"`.
pub(super) fn folder(resource: &str) -> String {
    let Some((kind, id)) = resource.split_once("::\"").and_then(|(kind, id)| Some((kind, id.strip_suffix('"')?)))
    else {
        return resource.to_owned();
    };
    let mut parts = id.split('/');
    let first: Vec<&str> = match kind {
        "Object" | "Prefix" => parts.by_ref().take(3).collect(),
        "HttpPath" => parts.by_ref().take(2).collect(),
        _ => return resource.to_owned(),
    };
    let is_whole = parts.next().is_none();
    match (kind, first.len(), is_whole) {
        // Directly in the bucket.
        ("Object", 3, true) => format!("Bucket::\"{}\"", first.get(..2).unwrap_or_default().join("/")),
        ("Object", ..) => format!("Prefix::\"{}\"", first.join("/")),
        (kind, ..) => format!("{kind}::\"{}\"", first.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::PolicySource;

    #[test]
    fn folders_are_those_of_the_first_level() {
        for (resource, expected) in [
            ("Object::\"lake/raw/ingest/2026/a\"", "Prefix::\"lake/raw/ingest\""),
            ("Object::\"lake/raw/a\"", "Bucket::\"lake/raw\""),
            ("Prefix::\"lake/raw/ingest\"", "Prefix::\"lake/raw/ingest\""),
            ("HttpPath::\"api/orders/1\"", "HttpPath::\"api/orders\""),
            ("Table::\"wh/a.b.c\"", "Table::\"wh/a.b.c\""),
            ("Endpoint::\"lake\"", "Endpoint::\"lake\""),
        ] {
            assert_eq!(folder(resource), expected);
        }
    }

    fn replayed(policies: &str, records: &[Json]) -> Replay {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.cedar"), policies).unwrap();
        let file = folder.path().join("audit.jsonl");
        std::fs::write(&file, records.iter().map(|record| format!("{record}\n")).collect::<String>()).unwrap();
        replay(&PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap(), &[file]).unwrap()
    }

    fn record(action: &str, resource: &str, context: Json) -> Json {
        let mut whole = json!({"now": "2026-11-21T09:30:00.125Z", "direction": "inbound"});
        whole.as_object_mut().unwrap().extend(context.as_object().unwrap().clone());
        json!({"kind": "request", "decision_id": "01A", "outcome": "allowed", "policies": ["p"], "principal": "spiffe://a.test/etl",
               "action": action, "resource": resource, "context": whole})
    }

    fn with(mut record: Json, field: &str, value: Json) -> Json {
        record[field] = value;
        record
    }

    #[test]
    fn what_cannot_be_asked_exactly_is_counted_and_named() {
        let reads = |name: &str| {
            format!(
                "@id(\"p\") permit (principal, action, resource is HttpPath) unless {{ context.headers.hasTag(\"{name}\") && context.headers.getTag(\"{name}\").contains(\"x\") }};"
            )
        };
        let get = |headers: Json| record("http:GET", "HttpPath::\"api/a\"", json!({"headers": headers}));
        let secret = get(json!({"authorization": ["[redacted]"]}));
        for (policies, record, expected) in [
            (
                reads("authorization"),
                secret.clone(),
                &["these policies read headers or claims whose values are redacted"][..],
            ),
            // What these policies do not read matters nothing to them.
            (
                reads("x-tenant"),
                with(
                    secret,
                    "context",
                    json!({"direction": "inbound", "headers": {"authorization": ["[redacted]"], "x-tenant": null}}),
                ),
                &[],
            ),
            (reads("x-tenant"), get(json!({"x-tenant": ["a"]})), &[]),
            (reads("x-tenant"), get(json!({"x-tenant": null})), &[]),
            (reads("x-tenant"), get(json!({})), &["these policies read headers that the record does not hold"]),
            (
                reads("x-tenant"),
                with(get(json!({})), "context", Json::Null),
                &["an older record, which does not hold the whole question"],
            ),
            (
                reads("x"),
                with(get(json!({"x": null})), "principal_in", json!(["Stage::\"etl\""])),
                &["entities.json says something else of the workload than it did then"],
            ),
            (
                reads("x"),
                with(get(json!({"x": null})), "resource_in", json!(["Group::\"pii\""])),
                &["entities.json says something else of the resource than it did then"],
            ),
            (
                reads("x"),
                with(get(json!({"x": null})), "resource_tags", json!({"a": ["b"]})),
                &["entities.json says something else of the resource than it did then"],
            ),
            (
                reads("x"),
                with(get(json!({"x": null})), "action", json!("s3:NoSuch")),
                &["not asked at all: an operation that this version does not know"],
            ),
        ] {
            let replay = replayed(&policies, std::slice::from_ref(&record));
            let reasons: Vec<&str> = replay.inexact.iter().map(|(reason, _)| *reason).collect();
            assert_eq!(reasons, expected, "{record}");
        }
    }

    #[test]
    fn a_sampled_log_says_what_it_stands_for_and_partitions_are_asked_as_such() {
        let policies = "@id(\"p\") permit (principal, action == Action::\"sql:Select\", resource in Table::\"wh/a.public.events\");";
        let part = record(
            "sql:Select",
            "Table::\"wh/a.public.events_2026\"",
            json!({"columns": ["id"], "statement": "select", "role": "r"}),
        );
        let part = with(part, "resource_in", json!(["Table::\"wh/a.public.events\""]));
        let sampled = with(part.clone(), "sample_rate", json!(0.1));
        let replay = replayed(policies, &[part, sampled]);
        assert_eq!(
            (replay.flips.len(), replay.inexact.len(), replay.decided, replay.sampled),
            (0, 0, 2, 1),
            "{replay:#?}"
        );
        assert!(replay.text().contains("sampled: the 2 decisions stand for about 11;"), "{}", replay.text());
    }
}
