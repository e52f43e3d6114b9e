//! The least policies that allow what was seen, and the grants that nobody used.

mod grants;
mod used;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cedar_policy_formatter::{Config, policies_str_to_pretty};
use serde_json::{Value as Json, json};

use self::grants::Seen;
use self::used::Used;
use super::Recorded;
use super::asked::AskedOf;
use super::replay::{each_record, folder, is_question, outcomes};
use crate::analysis::counted;
use crate::policy::{PolicyGeneration, PolicySource, Principal};

/// What a log suggests.
#[derive(Debug, Default)]
pub struct Suggestion {
    /// Policies in Cedar's language, grouped by who asked, marked as unreviewed.
    pub cedar: String,
    /// How many policies these are.
    pub policies: usize,
    /// How many recorded requests they come from.
    pub requests: u64,
    /// The time of the first and the last decision in the log.
    pub window: Option<(String, String)>,
    /// What of the present policies nothing was allowed by.
    pub unused: Vec<Unused>,
    /// Forbids that denied nothing: not for that reason useless.
    pub quiet_forbids: Vec<Unused>,
    /// What cannot be concluded from this log.
    pub caveats: Vec<String>,
    /// What the log shows as denied and the suggested policies allow: they know no conditions but columns.
    pub also_allows: Vec<AlsoAllowed>,
}

/// Something of the present policies that nothing in the log needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unused {
    /// The policy.
    pub policy: Arc<str>,
    /// Its file and line.
    pub place: String,
    /// Actions of its list, sides of an `||` and members of sets that were not needed; empty if the whole policy was not.
    pub parts: Vec<UnusedPart>,
}

/// What a permit offers and nobody took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedPart {
    /// `action` or `when`.
    pub part: &'static str,
    /// As Cedar writes it.
    pub text: String,
}

/// Denied requests that a suggestion allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlsoAllowed {
    /// The workload.
    pub who: String,
    /// What it asked.
    pub action: String,
    /// Of what: the first folder of a bucket or path, else the resource.
    pub resource: String,
    /// How often.
    pub count: u64,
    /// The last one's decision id.
    pub example: String,
}

/// Suggests policies for the requests in `files` that were allowed; with `denied` for those that no permit matched too. `present` says who
/// is in which Stage, and which grants there are.
///
/// # Errors
/// A file cannot be read.
pub fn suggest(present: &PolicyGeneration, files: &[PathBuf], denied: bool) -> io::Result<Suggestion> {
    let (mut seen, mut used, mut log) = (Seen::default(), Used::of(present), Log::default());
    for path in files {
        each_record(path, |record| {
            let Some(record) = record else {
                log.broken += 1;
                return;
            };
            if let (true, Ok(recorded)) = (is_question(record), Recorded::read(record)) {
                log.add(record, &recorded, present);
                used.record(record, &recorded);
                seen.record(present, record, &recorded, denied);
            }
        })?;
    }
    let (unused, quiet_forbids) = used.finish();
    Ok(Suggestion {
        cedar: pretty(&(log.heading() + &seen.cedar())),
        policies: seen.grants().len(),
        requests: seen.requests,
        unused,
        quiet_forbids,
        caveats: log.caveats(),
        window: log.window,
        also_allows: Vec::new(),
    })
}

/// As `portcullis policy format` writes it.
fn pretty(cedar: &str) -> String {
    match policies_str_to_pretty(cedar, &Config::default()) {
        Ok(pretty) => format!("{}\n", pretty.trim_end()),
        // Comments alone are no policies.
        Err(_) => cedar.to_owned(),
    }
}

/// What the log is like.
#[derive(Debug, Default)]
struct Log {
    decisions: u64,
    sampled: u64,
    redacted: u64,
    others: u64,
    broken: u64,
    window: Option<(String, String)>,
}

impl Log {
    fn add(&mut self, record: &Json, recorded: &Recorded, present: &PolicyGeneration) {
        self.decisions += 1;
        self.sampled += u64::from(record.get("sample_rate").is_some());
        self.redacted += u64::from(recorded.has_redacted);
        self.others += u64::from(recorded.policy_digest.as_deref() != Some(present.digest()));
        // RFC 3339 in UTC sorts as text.
        let time = &recorded.time;
        let (first, last) = self.window.get_or_insert_with(|| (time.clone(), time.clone()));
        if *time < *first {
            first.clone_from(time);
        }
        if *time > *last {
            last.clone_from(time);
        }
    }

    fn heading(&self) -> String {
        let mut heading = String::from("// Unreviewed: written from recorded requests");
        if let Some((first, last)) = &self.window {
            let _ = write!(heading, " of {first} to {last}");
        }
        heading + ".\n"
    }

    fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if self.sampled > 0 {
            caveats.push(format!(
                "the log is sampled ({} of {} records): requests that it leaves out may need what is named as unused here, and what is \
                 suggested may not allow them",
                self.sampled, self.decisions
            ));
        }
        if self.redacted > 0 {
            caveats.push(format!(
                "{} records hide values of headers or claims: parts of policies that read them may be named as unused, and are not",
                self.redacted
            ));
        }
        if self.others > 0 {
            caveats.push(format!(
                "{} of {} decisions were made by other policies than these: what they would say to the same questions counts",
                self.others, self.decisions
            ));
        }
        if self.broken > 0 {
            caveats.push(format!("no records: {}", counted(self.broken, "line")));
        }
        caveats
    }
}

/// Whether the suggested policies, with the entities of `directory`, allow everything that they come from; and what they allow of what the
/// log shows as denied.
///
/// # Errors
/// They do not, or they do not load: what is wrong.
pub fn proved(
    suggestion: &Suggestion,
    directory: &Path,
    files: &[PathBuf],
    denied: bool,
) -> Result<Vec<AlsoAllowed>, String> {
    let folder = tempfile::tempdir().map_err(|cause| cause.to_string())?;
    let at = folder.path();
    std::fs::write(at.join("suggested.cedar"), &suggestion.cedar).map_err(|cause| cause.to_string())?;
    for entry in std::fs::read_dir(directory).map_err(|cause| cause.to_string())?.flatten() {
        let name = entry.file_name();
        let schema = name.to_string_lossy().ends_with(".cedarschema");
        if name == "entities.json" || schema {
            std::fs::copy(entry.path(), at.join(name)).map_err(|cause| cause.to_string())?;
        }
        if entry.path().is_dir() && entry.file_name() == "entities" {
            copy_entities(&entry.path(), &at.join("entities")).map_err(|cause| cause.to_string())?;
        }
    }
    let policies = PolicyGeneration::load(&PolicySource::of(at), 1).map_err(|errors| errors.to_string())?;
    let mut proof = Proof { policies: &policies, principals: BTreeMap::new(), missing: None, also: BTreeMap::new() };
    for path in files {
        each_record(path, |record| {
            if let (None, Some(record)) = (&proof.missing, record.filter(|record| is_question(record))) {
                proof.record(record, denied);
            }
        })
        .map_err(|cause| cause.to_string())?;
    }
    match proof.missing {
        Some(missing) => Err(missing),
        None => Ok(proof.also.into_values().collect()),
    }
}

fn copy_entities(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    for entry in std::fs::read_dir(from)?.flatten().filter(|entry| entry.path().is_file()) {
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

struct Proof<'a> {
    policies: &'a PolicyGeneration,
    principals: BTreeMap<String, Arc<Principal>>,
    missing: Option<String>,
    also: BTreeMap<(String, String, String), AlsoAllowed>,
}

impl Proof<'_> {
    fn record(&mut self, record: &Json, denied: bool) {
        let Ok(recorded) = Recorded::read(record) else { return };
        let policies = self.policies;
        let principal = self.principals.entry(recorded.principal.to_string());
        let principal = Arc::clone(principal.or_insert_with(|| policies.principal(&recorded.principal)));
        let id = record.get("decision_id").and_then(Json::as_str).unwrap_or_default();
        let is_wanted = is_wanted(&recorded, denied);
        for (outcome, question) in outcomes(record, &recorded).into_iter().zip(&recorded.questions) {
            let asked = question.asked(policies.headers_read());
            let Ok(AskedOf { facts, operations: Ok(operations) }) = asked else {
                if is_wanted {
                    self.missing = Some(format!("{} asks what this version does not know ({id})", recorded.principal));
                }
                continue;
            };
            for operation in operations.iter() {
                let is_allowed = policies.decide(&principal, operation, &facts).outcome.is_allowed();
                if is_wanted && !is_allowed {
                    let (who, what) = (&recorded.principal, format!("{} {}", operation.action, operation.resource));
                    self.missing = Some(format!("{who} {what} ({id}) would not be allowed"));
                }
                if !is_wanted && is_allowed && outcome != "allowed" {
                    self.also_allows(&recorded, operation.action.as_str(), &operation.resource.to_string(), id);
                }
            }
        }
    }

    fn also_allows(&mut self, recorded: &Recorded, action: &str, resource: &str, id: &str) {
        let (who, place) = (recorded.principal.to_string(), folder(resource));
        let group = (who.clone(), action.to_owned(), place.clone());
        let also = self.also.entry(group).or_insert_with(|| AlsoAllowed {
            who,
            action: action.to_owned(),
            resource: place,
            count: 0,
            example: String::new(),
        });
        also.count += 1;
        id.clone_into(&mut also.example);
    }
}

/// Whether a record is of what policies are suggested for.
fn is_wanted(recorded: &Recorded, denied: bool) -> bool {
    recorded.outcome == "allowed" || (denied && recorded.outcome == "not_permitted")
}

impl Suggestion {
    /// For people: Cedar, with the rest as comments.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.cedar.clone();
        let mut list = |title: &str, lines: Vec<String>| {
            if !lines.is_empty() {
                let _ = writeln!(text, "\n// {title}");
                lines.iter().for_each(|line| text.push_str(&format!("//   {line}\n")));
            }
        };
        let also = self.also_allows.iter().map(|also| {
            format!("{} {} {} ({} times, last {})", also.who, also.action, also.resource, also.count, also.example)
        });
        list("What was denied, and is allowed by the above, which knows no conditions:", also.collect());
        list("Unused in this log:", self.unused.iter().flat_map(Unused::lines).collect());
        list(
            "Forbids that denied nothing in this log, which may be why nobody tries:",
            self.quiet_forbids.iter().flat_map(Unused::lines).collect(),
        );
        list("What cannot be concluded from this log:", self.caveats.clone());
        text
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Json {
        let unused = |all: &[Unused]| -> Vec<Json> {
            let parts = |unused: &Unused| {
                unused.parts.iter().map(|part| json!({"part": part.part, "text": part.text})).collect::<Vec<_>>()
            };
            all.iter()
                .map(|unused| json!({"policy": unused.policy, "place": unused.place, "parts": parts(unused)}))
                .collect()
        };
        let also = self.also_allows.iter().map(|also| {
            json!({"who": also.who, "action": also.action, "resource": also.resource, "count": also.count, "example": also.example})
        });
        let window = self.window.as_ref().map(|(first, last)| json!({"first": first, "last": last}));
        json!({"policies": self.policies, "requests": self.requests, "window": window, "cedar": self.cedar, "unused": unused(&self.unused),
               "quiet_forbids": unused(&self.quiet_forbids), "also_allows": also.collect::<Vec<_>>(), "caveats": self.caveats})
    }
}

impl Unused {
    fn lines(&self) -> Vec<String> {
        let Self { policy, place, parts } = self;
        match parts.is_empty() {
            true => vec![format!("{policy} ({place})")],
            false => parts.iter().map(|part| format!("{policy} ({place}): {} {}", part.part, part.text)).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
