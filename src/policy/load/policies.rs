//! Parses and validates the policies of all files.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::{
    Effect, EntityUid, Policy, PolicyId, PolicySet, Schema, ValidationError, ValidationMode, ValidationResult,
    ValidationWarning, Validator,
};

use super::depth::{Language, too_deep};
use super::literals::{Literals, effect_at};
use super::problem::{PolicyProblem, Problems, SourceFile};
use super::{absent, advice};
use crate::config::nearest;
use crate::policy::schema::MergedSchema;

/// Longest `@id`: it stands in every record of what the policy decides.
const MAX_ID_BYTES: usize = 128;

/// A policy and where it stands.
#[derive(Debug, Clone)]
pub(in crate::policy) struct ParsedPolicy {
    /// Its id is its `@id`.
    pub(in crate::policy) policy: Policy,
    pub(in crate::policy) id: Arc<str>,
    pub(in crate::policy) file: Arc<SourceFile>,
    pub(in crate::policy) span: Range<usize>,
    /// The entities that it names, with their places in the file.
    pub(in crate::policy) literals: Vec<(Arc<EntityUid>, Range<usize>)>,
}

impl ParsedPolicy {
    /// The first line: what a caret for the whole policy points at.
    pub(in crate::policy) fn headline(&self) -> Range<usize> {
        let text = self.text();
        let start = effect_at(text);
        let length = text.get(start..).map_or(0, |rest| rest.find('\n').unwrap_or(rest.len()));
        self.span.start + start..self.span.start + start + length
    }

    /// The policy with its entities numbered in place of their ids: what its validity and what it reads depend on.
    pub(in crate::policy) fn shape(&self) -> String {
        let text = self.text();
        // Cedar also looks for letters that are easily confused, in ids too.
        if !text.is_ascii() {
            return text.to_owned();
        }
        let mut shape = String::with_capacity(text.len());
        let mut numbers: HashMap<&EntityUid, usize> = HashMap::new();
        let mut from = effect_at(text);
        for (uid, span) in self.literals.iter().filter(|(uid, _)| uid.type_name().basename() != "Action") {
            let next = numbers.len();
            let number = numbers.entry(uid).or_insert(next);
            let start = span.start - self.span.start;
            shape.push_str(text.get(from..start).unwrap_or_default());
            shape.push_str(&format!("{}::{number}", uid.type_name()));
            from = span.end - self.span.start;
        }
        shape.push_str(text.get(from..).unwrap_or_default());
        shape
    }

    /// `@max_rows`, if it is a number from 1 to 2,147,483,646: one more is asked of the server, as an Int32.
    pub(in crate::policy) fn max_rows(&self) -> Option<u64> {
        let rows = self.policy.annotation("max_rows")?.parse::<i32>().ok()?;
        u64::try_from(rows).ok().filter(|rows| (1..2_147_483_647).contains(rows))
    }

    /// `@mode("shadow")`: it decides beside the others, and is never enforced.
    pub(in crate::policy) fn is_shadow(&self) -> bool {
        self.policy.annotation("mode").is_some()
    }

    /// The policy as it is written.
    pub(in crate::policy) fn text(&self) -> &str {
        self.file.text().get(self.span.clone()).unwrap_or_default()
    }
}

/// All policies of `files` in order. What does not parse, or has no id of its own, is added to `problems`.
pub(in crate::policy) fn parse(files: &[Arc<SourceFile>], problems: &mut Problems) -> Vec<ParsedPolicy> {
    let mut policies = Vec::new();
    let mut literals = Literals::default();
    for file in files {
        if let Some(problem) = too_deep(file, Language::Policies) {
            problems.push(problem);
            continue;
        }
        match PolicySet::from_str(file.text()) {
            Ok(set) => policies.extend(place(&set, file, &mut literals, problems)),
            Err(errors) => {
                errors.iter().for_each(|cause| problems.push(PolicyProblem::from_cedar(file, cause).of_syntax()))
            }
        }
    }
    name(&mut policies, problems);
    policies
}

/// Finds each policy of the set in its file: they are numbered in the order in which they stand there.
fn place(
    set: &PolicySet,
    file: &Arc<SourceFile>,
    literals: &mut Literals,
    problems: &mut Problems,
) -> Vec<ParsedPolicy> {
    let number = |id: &PolicyId| AsRef::<str>::as_ref(id).strip_prefix("policy").and_then(|n| n.parse::<usize>().ok());
    let mut ordered: Vec<(Option<usize>, String, Option<&Policy>)> = set
        .policies()
        .map(|policy| (number(policy.id()), policy.to_string(), Some(policy)))
        .chain(set.templates().map(|template| (number(template.id()), template.to_string(), None)))
        .collect();
    ordered.sort_by_key(|(number, ..)| *number);

    let mut placed = Vec::new();
    let mut from = 0;
    for (_, text, policy) in ordered {
        let start = file.text().get(from..).and_then(|rest| rest.find(&text)).map_or(from, |at| from + at);
        let span = start..start + text.len();
        from = span.end;
        let Some(policy) = policy else {
            problems.push(
                PolicyProblem::error(
                    file,
                    Some(span),
                    "templates are not supported: the policy has a slot (`?principal`, `?resource`)",
                )
                .help("write a policy for each stage, or one for a Group"),
            );
            continue;
        };
        let literals =
            literals.of(&text).into_iter().map(|(uid, at)| (uid, span.start + at.start..span.start + at.end)).collect();
        placed.push(ParsedPolicy { policy: policy.clone(), id: "".into(), file: Arc::clone(file), span, literals });
    }
    placed
}

/// A bound that is none, or that bounds nothing, would let everything through that somebody meant to bound.
fn max_rows(parsed: &ParsedPolicy, problems: &mut Problems) {
    if parsed.policy.annotation("max_rows").is_none() {
        return;
    }
    let error = |message| PolicyProblem::error(&parsed.file, Some(parsed.headline()), message);
    if parsed.policy.effect() == Effect::Forbid {
        let message = "`@max_rows` has no effect on a forbid";
        problems.push(error(message).help("write it on the permits that let the rows through"));
    } else if parsed.max_rows().is_none() {
        problems.push(error("`@max_rows` is no number of rows from 1 on").help("write `@max_rows(\"1000\")`"));
    }
}

/// What annotations mean here. Others are the operator's own, unless they look like one of these.
const ANNOTATIONS: [&str; 6] = ["id", "mode", "max_rows", "reason", "owner", "runbook"];

/// A policy that somebody means to try must not be enforced because of a slip of the pen.
fn annotations(parsed: &ParsedPolicy, problems: &mut Problems) {
    let error = |message| PolicyProblem::error(&parsed.file, Some(parsed.headline()), message);
    for (name, value) in parsed.policy.annotations() {
        if name == "mode" && value != "shadow" {
            let message = format!("`@mode` is `{value}`, and has one meaning only");
            problems.push(error(message).help("write `@mode(\"shadow\")`, or remove it: then the policy is enforced"));
        } else if !ANNOTATIONS.contains(&name)
            && let Some(meant) = nearest(name, ANNOTATIONS)
        {
            let message = format!("`@{name}` is no annotation that is known here");
            problems.push(error(message).help(format!("did you mean `@{meant}`?")));
        }
    }
}

/// Gives each policy its `@id` as its id.
fn name(policies: &mut [ParsedPolicy], problems: &mut Problems) {
    let mut taken: HashMap<Arc<str>, String> = HashMap::new();
    for parsed in policies {
        let (line, _) = parsed.file.position(parsed.headline().start);
        let here = format!("{}:{line}", parsed.file.name());
        let annotation = parsed.policy.annotation("id").map(str::to_owned);
        let problem = match annotation.as_deref() {
            None => Some(("policy has no `@id`".to_owned(), "write a line above it: `@id(\"transform-reads-ingested\")`; records name the policies that decided by it".to_owned())),
            Some("") => Some(("`@id` is empty".to_owned(), "write `@id(\"transform-reads-ingested\")`".to_owned())),
            Some(id) if id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) => {
                Some((format!("`@id` has control characters or more than {MAX_ID_BYTES} bytes"), "shorten it".to_owned()))
            }
            Some(id) => taken.get(id).map(|first| (format!("`@id(\"{id}\")` is taken"), format!("the policy at {first} has it: each needs its own"))),
        };
        max_rows(parsed, problems);
        annotations(parsed, problems);
        // Where there is no id to tell policies apart, their place does.
        parsed.id = match (annotation, &problem) {
            (Some(id), None) => id.into(),
            _ => here.clone().into(),
        };
        match problem {
            Some((message, help)) => {
                problems.push(PolicyProblem::error(&parsed.file, Some(parsed.headline()), message).help(help))
            }
            None => {
                taken.insert(Arc::clone(&parsed.id), here);
            }
        }
        parsed.policy = parsed.policy.new_id(PolicyId::new(&parsed.id));
    }
}

/// Strict validation against the schema. Cedar's warnings that a policy can never match are errors here: a rule that silently does
/// nothing is worse than a denial.
pub(in crate::policy) fn validate(policies: &[ParsedPolicy], merged: &MergedSchema, problems: &mut Problems) {
    let schema = &merged.schema;
    absent::check(policies, &merged.forms, problems);
    let by_id: HashMap<&str, &ParsedPolicy> = policies.iter().map(|parsed| (&*parsed.id, parsed)).collect();
    let find = |id: &PolicyId| by_id.get(AsRef::<str>::as_ref(id)).copied();
    let result = judge(policies, schema);
    let mut faulty: HashSet<&str> = unknown_actions(policies, schema, problems);
    // Where an attribute may be missing Cedar forgets what has been asked about tags: their time comes when that is mended.
    let attribute = |cause: &&ValidationError| {
        matches!(cause, ValidationError::UnsafeAttributeAccess(_) | ValidationError::UnsafeOptionalAttributeAccess(_))
    };
    let unsure: HashSet<&PolicyId> =
        result.validation_errors().filter(attribute).map(ValidationError::policy_id).collect();
    let left: HashSet<&PolicyId> =
        result.validation_errors().filter(|cause| advice::is_of_left(cause)).map(ValidationError::policy_id).collect();
    // Cedar says the same of each kind of request that a policy is about: once is enough.
    let mut said: HashMap<(&str, Option<usize>), usize> = HashMap::new();
    for cause in result.validation_errors() {
        let Some(parsed) = find(cause.policy_id()) else { continue };
        faulty.insert(&parsed.id);
        if matches!(cause, ValidationError::UnrecognizedActionId(_)) {
            continue;
        }
        if matches!(cause, ValidationError::UnsafeTagAccess(_)) && unsure.contains(cause.policy_id()) {
            continue;
        }
        if advice::is_said_of_left(cause) && left.contains(cause.policy_id()) {
            continue;
        }
        let problem = PolicyProblem::from_cedar(&parsed.file, cause);
        let at = (parsed.file.text(), problem.start().unwrap_or_default());
        let problem = problem.some_help(advice::of_type(cause, &parsed.id, at, &merged.forms));
        let times = said.entry((&parsed.id, problem.start())).or_default();
        *times += 1;
        if *times == 1 {
            problems.push(problem);
        }
    }
    for cause in result.validation_warnings() {
        let Some(parsed) = find(cause.policy_id()) else { continue };
        if let Some(problem) = odd(parsed, cause, schema, &mut faulty) {
            problems.push(problem);
        }
    }
}

/// Cedar's verdict on all policies.
///
/// Cedar goes through every kind of request for every policy, more than 100 µs each. What it finds depends on the ids of entities only
/// by which are the same, so of policies that are alike but for these one speaks for all; if it is at fault they all are asked.
fn judge(policies: &[ParsedPolicy], schema: &Schema) -> ValidationResult {
    let mut shapes: HashMap<String, Vec<&ParsedPolicy>> = HashMap::new();
    for parsed in policies {
        shapes.entry(parsed.shape()).or_default().push(parsed);
    }
    let validator = Validator::new(schema.clone());
    let validate = |chosen: &mut dyn Iterator<Item = &ParsedPolicy>| {
        let mut set = PolicySet::new();
        for parsed in chosen {
            // Every policy has an id of its own by now, be it the place where it stands.
            let _ = set.add(parsed.policy.clone());
        }
        validator.validate(&set, ValidationMode::Strict)
    };
    let result = validate(&mut shapes.values().filter_map(|alike| alike.first().copied()));
    let errors = result.validation_errors().map(ValidationError::policy_id);
    let faulty: HashSet<&str> =
        errors.chain(result.validation_warnings().map(ValidationWarning::policy_id)).map(AsRef::as_ref).collect();
    if faulty.is_empty() {
        return result;
    }
    let at_fault = |alike: &&Vec<&ParsedPolicy>| alike.first().is_some_and(|first| faulty.contains(&*first.id));
    validate(&mut shapes.values().filter(at_fault).flatten().copied())
}

fn odd<'a>(
    parsed: &'a ParsedPolicy,
    cause: &ValidationWarning,
    schema: &Schema,
    faulty: &mut HashSet<&'a str>,
) -> Option<PolicyProblem> {
    let never = |why: &str| {
        PolicyProblem::error(
            &parsed.file,
            Some(parsed.headline()),
            format!("policy `{}` can never match: {why}", parsed.id),
        )
    };
    match cause {
        // A policy that has no applicable action is impossible too: once is enough.
        ValidationWarning::InvalidActionApplication(_) => faulty.insert(&parsed.id).then(|| {
            if let Some((why, help)) = advice::no_principal(&parsed.policy, schema) {
                return never(&why).help(help);
            }
            never("none of its actions is ever asked about such a resource")
                .help(advice::not_applicable(&parsed.policy, schema))
                .some_help(miette::Diagnostic::help(cause).map(|help| help.to_string()))
        }),
        ValidationWarning::ImpossiblePolicy(_) => faulty.insert(&parsed.id).then(|| {
            never("it is false for every request that the schema allows").help(advice::never_true(parsed.text()))
        }),
        _ => Some(PolicyProblem::warning(&parsed.file, Some(parsed.headline()), cause.to_string())),
    }
}

/// Finds the actions that the schema does not have. Gives the ids of the policies that name one.
fn unknown_actions<'a>(policies: &'a [ParsedPolicy], schema: &Schema, problems: &mut Problems) -> HashSet<&'a str> {
    let known: HashSet<&EntityUid> = schema.actions().collect();
    let mut faulty = HashSet::new();
    for parsed in policies {
        for (uid, span) in &parsed.literals {
            if uid.type_name().basename() != "Action" || known.contains(&**uid) {
                continue;
            }
            let like =
                known.iter().filter(|known| known.type_name() == uid.type_name()).map(|known| known.id().unescaped());
            let help = advice::unknown_action(uid.id().unescaped(), like);
            problems.push(
                PolicyProblem::error(&parsed.file, Some(span.clone()), format!("there is no action `{uid}`"))
                    .help(help),
            );
            faulty.insert(&*parsed.id);
        }
    }
    faulty
}
