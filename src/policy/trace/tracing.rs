//! Each part of a policy asked by itself.

use std::str::FromStr as _;

use cedar_policy::{
    ActionConstraint, Authorizer, EntityUid, Expression, Policy, PolicyId, PolicySet, PrincipalConstraint,
    ResourceConstraint, eval_expression,
};
use serde_json::{Map, Value as Json};

use super::text::{blank, expression_text, permit, scope_line, shortened, split, text_of, with_condition};
use super::{Clause, Part, Placed, Trace, TracedPolicy, Verdict};
use crate::mapping::{REDACTED, is_secret_header};
use crate::policy::LoadedPolicy;
use crate::policy::engine::AskedOfAll;

/// Takes policies apart before one question.
pub(super) struct Tracing<'a> {
    asked: &'a AskedOfAll,
    trace: &'a Trace,
}

impl<'a> Tracing<'a> {
    pub(super) const fn of(asked: &'a AskedOfAll, trace: &'a Trace) -> Self {
        Self { asked, trace }
    }

    pub(super) fn policy(&self, loaded: &LoadedPolicy) -> Result<TracedPolicy, String> {
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
pub(in crate::policy) fn is_true(asked: &AskedOfAll, tree: Json) -> Result<bool, String> {
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

/// What the evaluator says, without the policy's name: it is shown beside it.
fn inner_text(error: &cedar_policy::AuthorizationError) -> String {
    let cedar_policy::AuthorizationError::PolicyEvaluationError(cause) = error;
    cause.inner().to_string()
}
