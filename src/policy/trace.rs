//! Why a question is answered as it is: every policy is taken apart, and each part is asked by itself.
//!
//! Off the data path: nothing here is fast. Every verdict is Cedar's own: a part becomes a policy that is nothing else, and is asked.

use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::{
    ActionConstraint, Authorizer, EntityUid, Expression, Policy, PolicyId, PolicySet, PrincipalConstraint,
    ResourceConstraint, eval_expression,
};
use serde_json::{Map, Value as Json, json};

use super::engine::AskedOfAll;
use super::{Decision, LoadedPolicy, Outcome, PolicyGeneration};
use crate::identity::SpiffeId;
use crate::mapping::{Context, Operation, REDACTED, ResourceKind, Value, is_secret_header};

/// Longest value that is shown whole.
const MAX_SHOWN: usize = 200;

/// An answer with everything that led to it.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The answer, as a listener would get it.
    pub decision: Decision,
    /// Who asks, and all that it is in.
    pub principal: Placed,
    /// What is to be done, and the groups it is in.
    pub action: Placed,
    /// To what, and all that it is in.
    pub resource: Placed,
    /// Every active policy, in the order of the files. Empty if no policy could be asked.
    pub policies: Vec<TracedPolicy>,
    /// The columns that are read or written of a table.
    columns: Option<Vec<Box<str>>>,
}

/// An entity as Cedar writes it, and what it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// `Object::"lake/raw/a"`
    pub uid: String,
    /// `Bucket::"lake/raw"` …, the nearest first as far as ids tell, then what entities.json says.
    pub within: Vec<String>,
}

/// A policy and how each of its parts stands to the question.
#[derive(Debug, Clone)]
pub struct TracedPolicy {
    /// The policy, and where it stands.
    pub policy: LoadedPolicy,
    /// `@reason`, `@owner` and whatever else it is annotated with, but for `@id`.
    pub annotations: Vec<(String, String)>,
    /// Whether all of it is true of the question; an error if it cannot be told.
    pub matches: Result<bool, String>,
    /// Its parts: principal, action and resource, then each clause of its conditions.
    pub clauses: Vec<Clause>,
}

/// One part of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clause {
    /// Which part of a policy it is.
    pub part: Part,
    /// As Cedar writes it: `resource in Bucket::"lake/curated"`.
    pub text: String,
    /// How it stands.
    pub verdict: Verdict,
    /// What it looked at: `resource is in Bucket::"lake/raw"`, `context.columns is ["ssn"]`.
    pub saw: Vec<String>,
}

/// Which part of a policy a clause is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Who.
    Principal,
    /// What is done.
    Action,
    /// To what.
    Resource,
    /// One of the `when { a && b }`.
    When,
    /// One of the `unless { a || b }`.
    Unless,
}

impl Part {
    /// As it is called in a policy.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Principal => "principal",
            Self::Action => "action",
            Self::Resource => "resource",
            Self::When => "when",
            Self::Unless => "unless",
        }
    }
}

/// How a clause stands to the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is as the policy wants it.
    Holds,
    /// It is not.
    Fails,
    /// Cedar cannot tell: the policy errs here, which denies.
    Errs(String),
    /// Cedar did not come to it, since an earlier one failed, and it means nothing without that one.
    NotReached,
}

impl TracedPolicy {
    /// The clauses for which the policy does not match.
    pub fn failing(&self) -> impl Iterator<Item = &Clause> {
        self.clauses.iter().filter(|clause| matches!(clause.verdict, Verdict::Fails | Verdict::Errs(_)))
    }
}

impl TracedPolicy {
    /// How much it misses: first by how many clauses, then by which. A condition is nearer than another resource, that than another action,
    /// and that than somebody else.
    fn distance(&self) -> (usize, usize) {
        let weight = |clause: &Clause| match clause.part {
            Part::When | Part::Unless => 0,
            Part::Resource => 1,
            Part::Action => 2,
            Part::Principal => 3,
        };
        (self.failing().count(), self.failing().map(weight).sum())
    }
}

impl Trace {
    /// The policies that decided.
    pub fn deciding(&self) -> impl Iterator<Item = &TracedPolicy> {
        self.policies.iter().filter(|traced| self.decision.policies.contains(&traced.policy.id))
    }

    /// The permits that do not match, those that miss least first.
    #[must_use]
    pub fn nearest_permits(&self) -> Vec<&TracedPolicy> {
        let mut permits: Vec<_> =
            self.policies.iter().filter(|traced| traced.policy.permits && traced.matches != Ok(true)).collect();
        permits.sort_by_key(|traced| traced.distance());
        permits
    }

    /// The forbids whose scope this is and whose conditions are not met: another context, and they would deny.
    pub fn near_forbids(&self) -> impl Iterator<Item = &TracedPolicy> {
        let is_condition = |clause: &Clause| matches!(clause.part, Part::When | Part::Unless);
        self.policies.iter().filter(move |traced| {
            !traced.policy.permits && traced.matches == Ok(false) && traced.failing().all(is_condition)
        })
    }

    /// The permits that match: of what a forbid denies, those that would allow it without.
    pub fn matching_permits(&self) -> impl Iterator<Item = &TracedPolicy> {
        self.policies.iter().filter(|traced| traced.policy.permits && traced.matches == Ok(true))
    }

    /// Forgets all policies but those that decided, and `most` of the nearest permits, of those that match, and of the nearest forbids.
    pub fn keep_nearest(&mut self, most: usize) {
        let nearest = self.nearest_permits().into_iter().take(most);
        let others = self.matching_permits().take(most).chain(self.near_forbids().take(most));
        let kept: Vec<_> = nearest.chain(others).map(|traced| Arc::clone(&traced.policy.id)).collect();
        let Self { policies, decision, .. } = self;
        policies.retain(|traced| decision.policies.contains(&traced.policy.id) || kept.contains(&traced.policy.id));
    }

    /// The smallest policy that would allow this: to this workload, this action on this resource, of a table with no more columns. None unless a
    /// permit is what is missing.
    #[must_use]
    pub fn smallest_permit(&self) -> Option<String> {
        (self.decision.outcome == Outcome::NotPermitted).then(|| {
            let Self { principal, action, resource, columns, .. } = self;
            let columns = columns.as_deref().map(columns_condition).unwrap_or_default();
            format!(
                "@id(\"unreviewed\")\npermit (\n  principal == {},\n  action == {},\n  resource == {}\n){columns};\n",
                principal.uid, action.uid, resource.uid
            )
        })
    }
}

impl PolicyGeneration {
    /// Decides one operation and says how each policy stands to it.
    ///
    /// # Errors
    /// The question cannot be put in Cedar's terms.
    pub fn trace(&self, id: &SpiffeId, operation: &Operation, facts: &Context) -> Result<Trace, String> {
        let principal = self.principal(id);
        let decision = self.decide(&principal, operation, facts);
        let asked = self.engine().asked_of_all(&principal, operation, facts)?;
        let resource_above = operation.resource.ancestors().map(|(kind, id)| uid_text(kind.as_str(), id)).collect();
        let mut trace = Trace {
            decision,
            principal: Placed { uid: uid_text("Workload", id.as_str()), within: Vec::new() },
            action: Placed { uid: uid_text("Action", operation.action.as_str()), within: Vec::new() },
            resource: Placed { uid: operation.resource.to_string(), within: resource_above },
            policies: Vec::new(),
            columns: match operation.context.get("columns") {
                Some(Value::Strings(columns)) if operation.resource.kind() == ResourceKind::Table => {
                    Some(columns.clone())
                }
                _ => None,
            },
        };
        // No policy was asked: the decision has the reason.
        let Some(asked) = asked else { return Ok(trace) };
        trace.principal.within = asked.within(asked.principal());
        trace.action.within = asked.within(asked.action());
        for above in asked.within(asked.resource()) {
            if !trace.resource.within.contains(&above) {
                trace.resource.within.push(above);
            }
        }
        let active = self.policies().iter().filter(|policy| !policy.shadow && !self.inactive().contains(&policy.id));
        for policy in active {
            let traced = Tracing { asked: &asked, trace: &trace }.policy(policy)?;
            trace.policies.push(traced);
        }
        Ok(trace)
    }
}

/// The same of policies that would not load: those of random sets.
#[cfg(test)]
pub(in crate::policy) fn traced_each(
    engine: &super::engine::Engine,
    id: &SpiffeId,
    operation: &Operation,
    facts: &Context,
    policies: &[LoadedPolicy],
) -> Vec<TracedPolicy> {
    let principal = engine.principal(id);
    let Some(asked) = engine.asked_of_all(&principal, operation, facts).unwrap() else { return Vec::new() };
    let placed = Placed { uid: String::new(), within: Vec::new() };
    let decision = engine.decide(&principal, operation, facts);
    let (action, resource) = (placed.clone(), placed.clone());
    let trace = Trace { decision, principal: placed, action, resource, policies: Vec::new(), columns: None };
    policies.iter().map(|policy| Tracing { asked: &asked, trace: &trace }.policy(policy).unwrap()).collect()
}

/// A `when` that these columns meet, and any of them.
#[must_use]
pub fn columns_condition<T: AsRef<str>>(columns: &[T]) -> String {
    // Cedar's validator takes no empty set: it cannot tell what is in it.
    if columns.is_empty() {
        return "\nwhen { context.columns.isEmpty() }".to_owned();
    }
    let quoted: Vec<String> = columns.iter().map(|column| format!("\"{}\"", column.as_ref().escape_debug())).collect();
    format!("\nwhen {{ [{}].containsAll(context.columns) }}", quoted.join(", "))
}

fn uid_text(kind: &str, id: &str) -> String {
    format!("{kind}::\"{}\"", id.escape_debug())
}

/// Takes policies apart before one question.
struct Tracing<'a> {
    asked: &'a AskedOfAll,
    trace: &'a Trace,
}

impl Tracing<'_> {
    fn policy(&self, loaded: &LoadedPolicy) -> Result<TracedPolicy, String> {
        let policy =
            Policy::parse(Some(PolicyId::new(&loaded.id)), &*loaded.text).map_err(|cause| cause.to_string())?;
        let Json::Object(tree) = policy.to_json().map_err(|cause| cause.to_string())? else {
            return Err(format!("policy `{}` is not an object", loaded.id));
        };
        let mut clauses = vec![
            self.scope(&tree, Part::Principal, self.saw_principal(&policy)),
            self.scope(&tree, Part::Action, self.saw_action(&policy)),
            self.scope(&tree, Part::Resource, self.saw_resource(&policy)),
        ];
        for condition in tree.get("conditions").and_then(Json::as_array).into_iter().flatten() {
            let Some(body) = condition.get("body") else { continue };
            let unless = condition.get("kind").and_then(Json::as_str) == Some("unless");
            self.condition(body, unless, &mut clauses);
        }
        let annotations = policy.annotations().filter(|(name, _)| *name != "id");
        Ok(TracedPolicy {
            policy: loaded.clone(),
            annotations: annotations.map(|(name, text)| (name.to_owned(), text.to_owned())).collect(),
            matches: self.is_true(Json::Object(tree)),
            clauses,
        })
    }

    /// One line of the scope, all others being open.
    fn scope(&self, tree: &Map<String, Json>, part: Part, saw: Vec<String>) -> Clause {
        let mut alone = blank();
        if let (Some(whole), Some(constraint)) = (alone.as_object_mut(), tree.get(part.as_str())) {
            whole.insert(part.as_str().to_owned(), constraint.clone());
        }
        let text =
            text_of(alone.clone()).and_then(|text| scope_line(&text, part)).unwrap_or_else(|| part.as_str().to_owned());
        let verdict = match self.is_true(alone) {
            Ok(true) => Verdict::Holds,
            Ok(false) => Verdict::Fails,
            Err(cause) => Verdict::Errs(cause),
        };
        let saw = if verdict == Verdict::Holds { Vec::new() } else { saw };
        Clause { part, text, verdict, saw }
    }

    /// The clauses of `when { a && b }` or `unless { a || b }`.
    fn condition(&self, body: &Json, unless: bool, clauses: &mut Vec<Clause>) {
        let (part, operator) = if unless { (Part::Unless, "||") } else { (Part::When, "&&") };
        let mut failed = clauses.iter().any(|clause| clause.verdict != Verdict::Holds);
        let mut parts = Vec::new();
        split(body, operator, &mut parts);
        for body in parts {
            let verdict = match self.is_true(with_condition(body)) {
                Ok(is_true) if is_true != unless => Verdict::Holds,
                Ok(_) => Verdict::Fails,
                Err(_) if failed => Verdict::NotReached,
                Err(cause) => Verdict::Errs(cause),
            };
            failed |= verdict != Verdict::Holds;
            let mut saw = Vec::new();
            if matches!(verdict, Verdict::Fails | Verdict::Errs(_)) {
                self.looked_at(body, &mut saw);
            }
            let text = expression_text(body).unwrap_or_else(|| body.to_string());
            clauses.push(Clause { part, text, verdict, saw });
        }
    }

    fn is_true(&self, tree: Json) -> Result<bool, String> {
        is_true(self.asked, tree)
    }

    /// What the expression reads, with its value here.
    fn looked_at(&self, node: &Json, saw: &mut Vec<String>) {
        let Some((operator, operands)) = node.as_object().and_then(|node| node.iter().next()) else {
            if let Json::Array(all) = node {
                all.iter().for_each(|node| self.looked_at(node, saw));
            }
            return;
        };
        let left = operands.get("left");
        let note = match operator.as_str() {
            "." | "getTag" if left.is_some_and(is_rooted) => Some(self.value(node)),
            // What is asked is whether it is there: the clause says it.
            "has" | "hasTag" => None,
            "in" | "is" | "==" | "!=" if left.is_some_and(is_placed) => {
                let var = left.and_then(|left| left.get("Var")).and_then(Json::as_str).unwrap_or_default();
                // `is T in X` has its X beside, not to the right.
                let other = operands.get("right").or_else(|| operands.get("in")).unwrap_or(&Json::Null);
                self.looked_at(other, saw);
                Some(self.placed(var, other))
            }
            _ => {
                match operands {
                    Json::Object(operands) => operands.values().for_each(|node| self.looked_at(node, saw)),
                    Json::Array(operands) => operands.iter().for_each(|node| self.looked_at(node, saw)),
                    _ => {}
                }
                None
            }
        };
        saw.extend(note.filter(|note| !saw.contains(note)));
    }

    /// `context.columns is ["ssn"]`
    fn value(&self, node: &Json) -> String {
        let Some(text) = expression_text(node) else { return node.to_string() };
        if is_secret(node) {
            return format!("`{text}` is {REDACTED}");
        }
        let value = Expression::from_str(&text).map_err(|cause| cause.to_string()).and_then(|expression| {
            eval_expression(self.asked.request(), self.asked.entities(), &expression).map_err(|cause| cause.to_string())
        });
        match value {
            Ok(value) => format!("`{text}` is {}", shortened(&value.to_string())),
            Err(_) => format!("`{text}` is absent"),
        }
    }

    fn placed(&self, var: &str, right: &Json) -> String {
        let mut kinds = Vec::new();
        entity_types(right, &mut kinds);
        match var {
            "principal" => placed("principal", &self.trace.principal, &kinds),
            "action" => placed("action", &self.trace.action, &kinds),
            _ => placed("resource", &self.trace.resource, &kinds),
        }
    }

    fn saw_principal(&self, policy: &Policy) -> Vec<String> {
        let kinds = match policy.principal_constraint() {
            PrincipalConstraint::In(uid) | PrincipalConstraint::IsIn(_, uid) => kinds([&uid]),
            PrincipalConstraint::Any | PrincipalConstraint::Is(_) | PrincipalConstraint::Eq(_) => Vec::new(),
        };
        vec![placed("principal", &self.trace.principal, &kinds)]
    }

    /// Itself and its groups: a policy may name either.
    fn saw_action(&self, policy: &Policy) -> Vec<String> {
        let Placed { uid, within } = &self.trace.action;
        match policy.action_constraint() {
            ActionConstraint::In(_) if !within.is_empty() => {
                let groups: Vec<_> = within.iter().map(|group| format!("`{group}`")).collect();
                vec![format!("action is `{uid}`, which is in {}", groups.join(", "))]
            }
            ActionConstraint::In(_) | ActionConstraint::Any | ActionConstraint::Eq(_) => {
                vec![format!("action is `{uid}`")]
            }
        }
    }

    fn saw_resource(&self, policy: &Policy) -> Vec<String> {
        let kinds = match policy.resource_constraint() {
            ResourceConstraint::In(uid) | ResourceConstraint::IsIn(_, uid) => kinds([&uid]),
            ResourceConstraint::Any | ResourceConstraint::Is(_) | ResourceConstraint::Eq(_) => Vec::new(),
        };
        vec![placed("resource", &self.trace.resource, &kinds)]
    }
}

/// Whether a policy, of whatever effect, matches.
pub(super) fn is_true(asked: &AskedOfAll, tree: Json) -> Result<bool, String> {
    let policy = Policy::from_json(None, permit(tree)).map_err(|cause| cause.to_string())?;
    let set = PolicySet::from_policies([policy]).map_err(|cause| cause.to_string())?;
    let response = Authorizer::new().is_authorized(asked.request(), &set, asked.entities());
    let diagnostics = response.diagnostics();
    match diagnostics.errors().next() {
        Some(error) => Err(inner_text(error)),
        None => Ok(diagnostics.reason().next().is_some()),
    }
}

fn kinds<'a>(uids: impl IntoIterator<Item = &'a EntityUid>) -> Vec<String> {
    uids.into_iter().map(|uid| uid.type_name().to_string()).collect()
}

/// `resource is in Bucket::"lake/raw"`: of what it is in, what is of the kind that was asked for.
fn placed(what: &str, placed: &Placed, kinds: &[String]) -> String {
    let of_kind = |uid: &&String| {
        kinds.iter().any(|kind| uid.strip_prefix(kind.as_str()).is_some_and(|rest| rest.starts_with("::\"")))
    };
    let within: Vec<_> = placed.within.iter().filter(of_kind).map(|uid| format!("`{uid}`")).collect();
    match (kinds.first(), within.is_empty()) {
        (Some(_), false) => format!("{what} is in {}", within.join(", ")),
        (Some(kind), true) if !of_kind(&&placed.uid) => format!("{what} is `{}`, which is in no {kind}", placed.uid),
        _ => format!("{what} is `{}`", placed.uid),
    }
}

fn entity_types(node: &Json, kinds: &mut Vec<String>) {
    match node {
        Json::Object(fields) => {
            if let Some(kind) = fields.get("__entity").and_then(|entity| entity.get("type")).and_then(Json::as_str) {
                kinds.push(kind.to_owned());
            } else {
                fields.values().for_each(|node| entity_types(node, kinds));
            }
        }
        Json::Array(nodes) => nodes.iter().for_each(|node| entity_types(node, kinds)),
        _ => {}
    }
}

/// `context.a.b`, `principal.path`, `context.headers.getTag("x")`: an access that begins at a variable.
fn is_rooted(node: &Json) -> bool {
    node.get("Var").is_some()
        || [".", "getTag"]
            .iter()
            .any(|operator| node.get(*operator).and_then(|node| node.get("left")).is_some_and(is_rooted))
}

/// `principal`, `action` or `resource`: what is in something.
fn is_placed(node: &Json) -> bool {
    matches!(node.get("Var").and_then(Json::as_str), Some("principal" | "action" | "resource"))
}

/// A header or claim whose values stay out of records: then they stay out of explanations too.
fn is_secret(node: &Json) -> bool {
    let Some(get) = node.get("getTag") else { return false };
    let is_of_workload_or_resource =
        ["principal", "resource"].iter().any(|var| get.pointer("/left/Var").and_then(Json::as_str) == Some(var));
    match get.pointer("/right/Value").and_then(Json::as_str) {
        Some(name) => !is_of_workload_or_resource && is_secret_header(name),
        // Which one it is, only the request says.
        None => !is_of_workload_or_resource,
    }
}

pub(super) fn split<'a>(body: &'a Json, operator: &str, parts: &mut Vec<&'a Json>) {
    match body.get(operator).map(|both| (both.get("left"), both.get("right"))) {
        Some((Some(left), Some(right))) => {
            split(left, operator, parts);
            split(right, operator, parts);
        }
        _ => parts.push(body),
    }
}

/// A policy that is true of everything.
fn blank() -> Json {
    json!({"effect": "permit", "principal": {"op": "All"}, "action": {"op": "All"}, "resource": {"op": "All"}, "conditions": []})
}

pub(super) fn with_condition(body: &Json) -> Json {
    let mut tree = blank();
    if let Some(tree) = tree.as_object_mut() {
        tree.insert("conditions".to_owned(), json!([{"kind": "when", "body": body}]));
    }
    tree
}

fn permit(mut tree: Json) -> Json {
    if let Some(tree) = tree.as_object_mut() {
        tree.insert("effect".to_owned(), json!("permit"));
        tree.remove("annotations");
    }
    tree
}

fn text_of(tree: Json) -> Option<String> {
    Policy::from_json(None, tree).ok().map(|policy| policy.to_string())
}

/// `principal in Stage::"x"` of the text of a policy whose other parts are open.
fn scope_line(text: &str, part: Part) -> Option<String> {
    let (before, after) = match part {
        Part::Principal => ("", ",action,resource"),
        Part::Action => ("principal,", ",resource"),
        _ => ("principal,action,", ""),
    };
    let scope = text.split_once('(')?.1.rsplit_once(')')?.0;
    // Cedar sets the parts apart by a comma, and may begin a new line with each.
    let mut line = scope.trim().trim_end_matches(',');
    for word in before.split_inclusive(',') {
        line = line.strip_prefix(word)?.trim_start();
    }
    for word in after.split(',').rev().filter(|word| !word.is_empty()) {
        line = line.strip_suffix(word)?.trim_end().strip_suffix(',')?;
    }
    Some(line.trim().to_owned())
}

/// An expression's tree as Cedar writes it.
pub(super) fn expression_text(node: &Json) -> Option<String> {
    let text = text_of(with_condition(node))?;
    let body = text.split_once("when")?.1.trim().strip_prefix('{')?;
    Some(body.trim_end_matches([';', ' ', '\n']).strip_suffix('}')?.trim().to_owned())
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What the evaluator says, without the policy's name: it is shown beside it.
fn inner_text(error: &cedar_policy::AuthorizationError) -> String {
    let cedar_policy::AuthorizationError::PolicyEvaluationError(cause) = error;
    cause.inner().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Action, Resource};

    const POLICIES: &str = r#"
@id("reads")
permit (principal in Stage::"transform", action in Action::"read", resource in Bucket::"lake/curated");

@id("writes")
@reason("curated is encrypted")
permit (principal in Stage::"transform", action == Action::"s3:PutObject", resource in Bucket::"lake/raw")
when { context has encryption && context.encryption == "aws:kms" };

@id("load")
permit (principal, action == Action::"sql:Select", resource in Schema::"wh/a.public")
unless { context.columns.contains("ssn") || context.role == "root" };

@id("no")
forbid (principal, action, resource in Prefix::"lake/raw/secret");
"#;

    fn generation() -> (tempfile::TempDir, PolicyGeneration) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.cedar"), POLICIES).unwrap();
        let entities = r#"[{"uid": {"type": "Workload", "id": "spiffe://a.test/t"}, "parents": [{"type": "Stage", "id": "transform"}]}]"#;
        std::fs::write(folder.path().join("entities.json"), entities).unwrap();
        let generation = PolicyGeneration::load(&super::super::PolicySource::of(folder.path()), 1).unwrap();
        (folder, generation)
    }

    fn trace(action: &'static str, resource: Resource, own: &[(&'static str, Value)]) -> Trace {
        let (_folder, generation) = generation();
        let mut facts = Context::default();
        facts.set("now", Value::Datetime(0));
        facts.set("direction", "inbound");
        let mut context = Context::default();
        own.iter().for_each(|(name, value)| context.set(name, value.clone()));
        if action.starts_with("s3:") {
            context.set("headers", Value::Headers(Vec::new()));
            context.set("byVersion", false);
            context.set("presigned", false);
        }
        let operation = Operation { action: Action::named(action), resource, context };
        generation.trace(&SpiffeId::parse("spiffe://a.test/t").unwrap(), &operation, &facts).unwrap()
    }

    fn clause<'a>(trace: &'a Trace, policy: &str, text: &str) -> &'a Clause {
        let traced = trace.policies.iter().find(|traced| &*traced.policy.id == policy).unwrap();
        let texts: Vec<_> = traced.clauses.iter().map(|clause| clause.text.as_str()).collect();
        traced.clauses.iter().find(|clause| clause.text == text).unwrap_or_else(|| panic!("{texts:#?}"))
    }

    #[test]
    fn a_clause_of_the_scope_that_fails_says_what_it_saw() {
        let trace =
            trace("s3:GetObject", Resource::object("lake", "raw", "ingest/a"), &[("operation", "GetObject".into())]);
        assert_eq!(trace.decision.outcome, Outcome::NotPermitted);
        let failed = clause(&trace, "reads", "resource in Bucket::\"lake/curated\"");
        assert_eq!(
            (&failed.verdict, failed.saw.as_slice()),
            (&Verdict::Fails, &["resource is in `Bucket::\"lake/raw\"`".to_owned()][..])
        );
        assert_eq!(clause(&trace, "reads", "principal in Stage::\"transform\"").verdict, Verdict::Holds);
        let group = clause(&trace, "no", "resource in Prefix::\"lake/raw/secret\"");
        assert_eq!(group.saw, ["resource is in `Prefix::\"lake/raw/ingest\"`"]);
        let nearest: Vec<_> = trace.nearest_permits().iter().map(|traced| traced.policy.id.to_string()).collect();
        assert_eq!(nearest.first().map(String::as_str), Some("reads"));
        assert_eq!(
            trace.smallest_permit().unwrap(),
            "@id(\"unreviewed\")\npermit (\n  principal == Workload::\"spiffe://a.test/t\",\n  action == Action::\"s3:GetObject\",\n  resource == Object::\"lake/raw/ingest/a\"\n);\n"
        );
    }

    #[test]
    fn a_condition_is_judged_clause_by_clause() {
        let put = |own: &[(&'static str, Value)]| {
            let mut all = vec![("operation", "PutObject".into())];
            all.extend_from_slice(own);
            trace("s3:PutObject", Resource::object("lake", "raw", "a"), &all)
        };
        let trace = put(&[("encryption", "AES256".into())]);
        assert_eq!(clause(&trace, "writes", "context has encryption").verdict, Verdict::Holds);
        let failed = clause(&trace, "writes", "context.encryption == \"aws:kms\"");
        assert_eq!(
            (&failed.verdict, failed.saw.as_slice()),
            (&Verdict::Fails, &["`context.encryption` is \"AES256\"".to_owned()][..])
        );
        let trace = put(&[]);
        assert_eq!(clause(&trace, "writes", "context has encryption").verdict, Verdict::Fails);
        assert_eq!(clause(&trace, "writes", "context.encryption == \"aws:kms\"").verdict, Verdict::NotReached);
        let allowed = put(&[("encryption", "aws:kms".into())]);
        let deciding: Vec<_> = allowed.deciding().collect();
        assert_eq!(deciding.len(), 1);
        assert_eq!(deciding[0].annotations, [("reason".to_owned(), "curated is encrypted".to_owned())]);
        assert_eq!(deciding[0].matches, Ok(true));
        assert_eq!(allowed.smallest_permit(), None);
    }

    #[test]
    fn an_unless_fails_by_the_alternative_that_is_true() {
        let own = [
            ("columns", Value::Strings(vec!["id".into(), "ssn".into()])),
            ("statement", "select".into()),
            ("role", "analyst".into()),
        ];
        let trace = trace("sql:Select", Resource::table("wh", "a", "public", "people"), &own);
        assert_eq!(trace.decision.outcome, Outcome::NotPermitted);
        let failed = clause(&trace, "load", "context.columns.contains(\"ssn\")");
        assert_eq!(failed.verdict, Verdict::Fails);
        assert_eq!(failed.saw, ["`context.columns` is [\"id\", \"ssn\"]"]);
        assert_eq!(clause(&trace, "load", "context.role == \"root\"").verdict, Verdict::Holds);
    }
}
