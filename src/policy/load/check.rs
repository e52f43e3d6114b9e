//! What Cedar cannot know: the shape of ids, the endpoints that there are, the stages that somebody is in.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::{Effect, EntityUid, PrincipalConstraint, ResourceConstraint};

use super::advice;
use super::entities::StaticEntities;
use super::ids;
use super::policies::ParsedPolicy;
use super::problem::{PolicyProblem, Problems, Severity, SourceFile};
use super::values;
use crate::config::nearest;

/// The names that exist outside of the policy directory.
#[derive(Debug, Clone, Copy)]
pub(in crate::policy) struct CheckedNames<'a> {
    /// The endpoints of this sidecar with their protocols. None at all: nothing is known about endpoints and nothing said.
    pub(in crate::policy) endpoints: &'a [(String, &'static str)],
    /// Endpoints of other sidecars.
    pub(in crate::policy) known: &'a [String],
    /// Stages that the configuration names.
    pub(in crate::policy) stages: &'a [String],
    /// Whether an unknown name is an error.
    pub(in crate::policy) refuse_unknown: bool,
}

impl CheckedNames<'_> {
    const fn unknown(&self) -> Severity {
        if self.refuse_unknown { Severity::Error } else { Severity::Warning }
    }
}

/// Checks every entity that a policy names. Gives the places in `policies` of those that are about other sidecars' endpoints.
pub(in crate::policy) fn check(
    policies: &[ParsedPolicy],
    entities: &StaticEntities,
    names: CheckedNames<'_>,
    problems: &mut Problems,
) -> Vec<usize> {
    values::check(policies, problems);
    let mut inactive = Vec::new();
    for (n, parsed) in policies.iter().enumerate() {
        for (uid, span) in &parsed.literals {
            if let Some(problem) = literal(parsed, uid, entities, names) {
                problems.push(problem(span.clone()));
            }
        }
        header_names(parsed, problems);
        anybody(parsed, entities, problems);
        if is_elsewhere(parsed, names) {
            inactive.push(n);
        }
    }
    inactive
}

/// Checks the stages that the configuration names: an entry of a role table that nobody is in gives nobody its role.
pub(in crate::policy) fn check_stages(
    directory: &Arc<SourceFile>,
    entities: &StaticEntities,
    names: CheckedNames<'_>,
    problems: &mut Problems,
) {
    for stage in names.stages {
        if entities.is_partial() || entities.names_with_members("Stage").any(|name| name == stage) {
            continue;
        }
        let message = format!("`roles` of a listener names `Stage::\"{stage}\"`, and nothing is in it");
        let problem = match names.unknown() {
            Severity::Error => PolicyProblem::error(directory, None, message),
            Severity::Warning => PolicyProblem::warning(directory, None, message),
        };
        problems.push(problem.help(of_nobody("Stage", stage, entities)));
    }
}

type AtSpan<'a> = Box<dyn FnOnce(std::ops::Range<usize>) -> PolicyProblem + 'a>;

fn literal<'a>(
    parsed: &'a ParsedPolicy,
    uid: &EntityUid,
    entities: &StaticEntities,
    names: CheckedNames<'_>,
) -> Option<AtSpan<'a>> {
    let kind = uid.type_name().to_string();
    let id = uid.id().unescaped();
    let problem = move |severity, message: String, help: Option<String>| -> Option<AtSpan<'a>> {
        Some(Box::new(move |span| {
            let problem = match severity {
                Severity::Error => PolicyProblem::error(&parsed.file, Some(span), message),
                Severity::Warning => PolicyProblem::warning(&parsed.file, Some(span), message),
            };
            problem.some_help(help)
        }))
    };
    let unknown = names.unknown();
    if let Err(bad) = ids::check(&kind, id) {
        let help = at_endpoint(bad.help, &kind, id, names);
        return problem(Severity::Error, bad.message, Some(help));
    }
    if matches!(kind.as_str(), "Stage" | "Group") && entities.is_empty(uid) {
        return problem(unknown, format!("nothing is in `{uid}`"), Some(of_nobody(&kind, id, entities)));
    }
    let (severity, message, help) = unasked(uid, names)?;
    problem(severity, message, Some(help))
}

/// Why no request of this sidecar is ever about an entity: its endpoint is unknown, or speaks another protocol.
fn unasked(uid: &EntityUid, names: CheckedNames<'_>) -> Option<(Severity, String, String)> {
    let kind = uid.type_name().to_string();
    let endpoint = ids::endpoint(&kind, uid.id().unescaped())?;
    let protocols: BTreeSet<_> =
        names.endpoints.iter().filter(|(name, _)| name == endpoint).map(|(_, protocol)| *protocol).collect();
    if let Some(protocol) = protocols.first() {
        if protocols.iter().any(|protocol| ids::yields(protocol, &kind)) {
            return None;
        }
        let message =
            format!("`{uid}` can never be asked about: endpoint `{endpoint}` speaks {protocol}, which has no {kind}");
        let help = format!("docs/policy-schema.md says what `protocol: {protocol}` asks about");
        return Some((Severity::Error, message, help));
    }
    if names.endpoints.is_empty() || names.known.iter().any(|known| known == endpoint) {
        return None;
    }
    let known = names.endpoints.iter().map(|(name, _)| name.as_str()).chain(names.known.iter().map(String::as_str));
    let help = match nearest(endpoint, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "an endpoint is a listener's name; those of other sidecars are listed in `policy.known_endpoints`"
            .to_owned(),
    };
    Some((names.unknown(), format!("there is no endpoint `{endpoint}`"), help))
}

/// Checks the entities themselves: a bucket of a misspelt endpoint in a Group is protected by no forbid about the Group.
pub(in crate::policy) fn check_entities(entities: &StaticEntities, names: CheckedNames<'_>, problems: &mut Problems) {
    for (uid, place) in entities.places() {
        let Some((severity, message, help)) = unasked(uid, names) else { continue };
        let problem = match severity {
            Severity::Error => place.error(message),
            Severity::Warning => place.warning(message),
        };
        problems.push(problem.help(help));
    }
}

/// Names the endpoint that is meant, where only one is of that kind.
fn at_endpoint(help: String, kind: &str, id: &str, names: CheckedNames<'_>) -> String {
    let of_kind: BTreeSet<_> =
        names.endpoints.iter().filter(|(_, protocol)| *protocol != "tcp" && ids::yields(protocol, kind)).collect();
    let mut endpoints = of_kind.into_iter().map(|(name, _)| name);
    let (Some(only), None, true) = (endpoints.next(), endpoints.next(), help.contains("ENDPOINT")) else { return help };
    let whole = format!("{only}/{}", id.trim_start_matches('/'));
    match id != only && ids::check(kind, &whole).is_ok() {
        true => format!("write `{kind}::\"{whole}\"`"),
        false => help.replace(", where ENDPOINT is a listener's name", "").replace("ENDPOINT", only),
    }
}

/// What to do about a Stage or Group that nothing is in.
fn of_nobody(kind: &str, id: &str, entities: &StaticEntities) -> String {
    match nearest(id, entities.names_with_members(kind)) {
        Some(name) => format!("did you mean `{kind}::\"{name}\"`?"),
        None => format!(
            "entities.json says what is in it: {{\"uid\": {{\"type\": \"Workload\", \"id\": \"spiffe://…\"}}, \"parents\": [{{\"type\": \"{kind}\", \"id\": \"{id}\"}}]}}"
        ),
    }
}

/// Headers are asked for in lower case: another spelling is never there.
fn header_names(parsed: &ParsedPolicy, problems: &mut Problems) {
    let text = parsed.text();
    for operator in ["headers.hasTag(\"", "headers.getTag(\""] {
        for (at, _) in text.match_indices(operator) {
            let start = at + operator.len();
            let name = text.get(start..).and_then(|rest| rest.split('"').next()).unwrap_or_default();
            if name.chars().any(|c| c.is_ascii_uppercase()) {
                let span = parsed.span.start + start..parsed.span.start + start + name.len();
                problems.push(
                    PolicyProblem::error(
                        &parsed.file,
                        Some(span),
                        format!("header `{name}` is never there: names are in lower case"),
                    )
                    .help(format!("write \"{}\"", name.to_ascii_lowercase())),
                );
            }
        }
    }
}

/// A permit that does not care who asks is seldom meant.
fn anybody(parsed: &ParsedPolicy, entities: &StaticEntities, problems: &mut Problems) {
    let open = matches!(parsed.policy.principal_constraint(), PrincipalConstraint::Any | PrincipalConstraint::Is(_));
    if parsed.policy.effect() != Effect::Permit || !open {
        return;
    }
    let conditions =
        parsed.policy.to_json().ok().and_then(|mut tree| tree.get_mut("conditions").map(serde_json::Value::take));
    if conditions.is_some_and(|conditions| conditions.to_string().contains("{\"Var\":\"principal\"}")) {
        return;
    }
    problems.push(
        PolicyProblem::warning(
            &parsed.file,
            Some(parsed.headline()),
            format!("policy `{}` permits every workload of every trust domain", parsed.id),
        )
        .help(advice::everybody(entities.names_with_members("Stage"))),
    );
}

/// Whether the policy's scope names another sidecar's endpoint.
fn is_elsewhere(parsed: &ParsedPolicy, names: CheckedNames<'_>) -> bool {
    let uid = match parsed.policy.resource_constraint() {
        ResourceConstraint::Eq(uid) | ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => uid,
        ResourceConstraint::Any | ResourceConstraint::Is(_) => return false,
    };
    let Some(endpoint) = ids::endpoint(&uid.type_name().to_string(), uid.id().unescaped()).map(str::to_owned) else {
        return false;
    };
    !names.endpoints.is_empty() && !names.endpoints.iter().any(|(name, _)| *name == endpoint)
}
