//! Permits taken apart: what each offers in place of another, so that what nobody needs can be named.

use std::sync::Arc;

use cedar_policy::{ActionConstraint, Policy, PolicyId};
use serde_json::{Value as Json, json};

use super::PolicyGeneration;
use super::trace::{Part, expression_text, is_true, split, with_condition};
use crate::identity::SpiffeId;
use crate::mapping::{Context, Operation};

/// One of several things of which a permit needs only one: an action of its list, a side of an `||`, a member of a set.
#[derive(Debug, Clone)]
pub struct Alternative {
    /// The policy.
    pub policy: Arc<str>,
    /// Where in it.
    pub part: Part,
    /// As Cedar writes it: `Action::"s3:GetObject"`, `context.operation == "PutObject"`.
    pub text: String,
    expression: Json,
}

impl PolicyGeneration {
    /// The alternatives of all permits that are enforced here. What is there without another is none: it is used if the permit is.
    ///
    /// # Errors
    /// A policy cannot be had in Cedar's JSON form.
    pub fn alternatives(&self) -> Result<Vec<Alternative>, String> {
        let mut all = Vec::new();
        let enforced = self.policies().iter().filter(|policy| policy.permits && !policy.shadow);
        for loaded in enforced.filter(|policy| !self.inactive().contains(&policy.id)) {
            let policy =
                Policy::parse(Some(PolicyId::new(&loaded.id)), &*loaded.text).map_err(|cause| cause.to_string())?;
            let mut add = |part: Part, offered: Vec<(String, Json)>| {
                if offered.len() > 1 {
                    let of =
                        |(text, expression)| Alternative { policy: Arc::clone(&loaded.id), part, text, expression };
                    all.extend(offered.into_iter().map(of));
                }
            };
            if let ActionConstraint::In(actions) = policy.action_constraint() {
                let of = |uid: &cedar_policy::EntityUid| {
                    let member = json!({"__entity": {"type": "Action", "id": uid.id().unescaped()}});
                    (uid.to_string(), json!({"in": {"left": {"Var": "action"}, "right": {"Value": member}}}))
                };
                add(Part::Action, actions.iter().map(of).collect());
            }
            let tree = policy.to_json().map_err(|cause| cause.to_string())?;
            for condition in tree.get("conditions").and_then(Json::as_array).into_iter().flatten() {
                // What an `unless` names is taken away, not granted.
                let Some(body) = condition.get("body").filter(|_| condition.get("kind") == Some(&json!("when"))) else {
                    continue;
                };
                let mut clauses = Vec::new();
                split(body, "&&", &mut clauses);
                for clause in clauses {
                    let offered = offered(clause);
                    let text =
                        |expression: &Json| expression_text(expression).unwrap_or_else(|| expression.to_string());
                    add(Part::When, offered.into_iter().map(|expression| (text(&expression), expression)).collect());
                }
            }
        }
        Ok(all)
    }

    /// Whether each of `alternatives` is true of a question. One that cannot be told is not.
    ///
    /// # Errors
    /// The question cannot be put in Cedar's terms.
    pub fn true_of(
        &self,
        alternatives: &[Alternative],
        (id, operation, facts): (&SpiffeId, &Operation, &Context),
    ) -> Result<Vec<bool>, String> {
        let asked = self.engine().asked_of_all(&self.principal(id), operation, facts)?;
        let is_true = |alternative: &Alternative| {
            let tree = with_condition(&alternative.expression);
            asked.as_ref().is_some_and(|asked| is_true(asked, tree) == Ok(true))
        };
        Ok(alternatives.iter().map(is_true).collect())
    }
}

/// What a clause offers: the sides of an `||`, the members of the set that something has to be in. Itself if it offers nothing else.
fn offered(clause: &Json) -> Vec<Json> {
    let operands = |operator: &str| {
        let operands = clause.get(operator)?;
        Some((operands.get("left")?, operands.get("right")?))
    };
    let members = |node: &Json| node.get("Set").and_then(Json::as_array).cloned();
    if let Some((left, right)) = operands("||") {
        return [offered(left), offered(right)].concat();
    }
    let each = |members: Vec<Json>, operator: &str, one: &dyn Fn(&Json) -> (Json, Json)| {
        let sides = members.iter().map(one);
        sides.map(|(left, right)| json!({operator: {"left": left, "right": right}})).collect::<Vec<_>>()
    };
    if let Some((left, right)) = operands("in")
        && let Some(members) = members(right)
    {
        return each(members, "in", &|member| (left.clone(), member.clone()));
    }
    if let Some((left, right)) = operands("contains")
        && let Some(members) = members(left)
    {
        return each(members, "==", &|member| (right.clone(), member.clone()));
    }
    match operands("containsAny").map(|(left, right)| (left, right, members(left), members(right))) {
        Some((left, _, _, Some(members))) => each(members, "contains", &|member| (left.clone(), member.clone())),
        Some((_, right, Some(members), None)) => each(members, "contains", &|member| (right.clone(), member.clone())),
        _ => vec![clause.clone()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapping::{Action, Resource, Value};
    use crate::policy::PolicySource;

    const POLICIES: &str = r#"
@id("several")
permit (principal, action in [Action::"read", Action::"s3:PutObject"], resource)
when { resource in [Bucket::"lake/raw", Bucket::"lake/curated"] && ["GetObject", "PutObject"].contains(context.operation) }
when { context has encryption && (context.encryption == "aws:kms" || context.encryption == "AES256") }
unless { context.presigned || context.byVersion };
@id("columns")
permit (principal, action == Action::"sql:Select", resource) when { context.columns.containsAny(["a", "b"]) };
@id("one") permit (principal, action in [Action::"list"], resource) when { context.presigned };
@id("no") forbid (principal, action in [Action::"delete", Action::"admin"], resource);
@id("tried") @mode("shadow") permit (principal, action in [Action::"delete", Action::"admin"], resource);
"#;

    fn generation() -> PolicyGeneration {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.cedar"), POLICIES).unwrap();
        PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap()
    }

    #[test]
    fn each_member_of_a_list_and_each_side_of_an_or_is_an_alternative() {
        let alternatives = generation().alternatives().unwrap();
        let texts: Vec<String> =
            alternatives.iter().map(|one| format!("{} {} {}", one.policy, one.part.as_str(), one.text)).collect();
        let expected = [
            "several action Action::\"read\"",
            "several action Action::\"s3:PutObject\"",
            "several when resource in Bucket::\"lake/raw\"",
            "several when resource in Bucket::\"lake/curated\"",
            "several when context.operation == \"GetObject\"",
            "several when context.operation == \"PutObject\"",
            "several when context.encryption == \"aws:kms\"",
            "several when context.encryption == \"AES256\"",
            "columns when context.columns.contains(\"a\")",
            "columns when context.columns.contains(\"b\")",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn alternatives_are_true_of_what_needs_them() {
        let generation = generation();
        let alternatives = generation.alternatives().unwrap();
        let (mut facts, mut context) = (Context::default(), Context::default());
        facts.set("now", Value::Datetime(0));
        facts.set("direction", "inbound");
        context.set("headers", Value::Headers(Vec::new()));
        context.set("operation", "GetObject");
        context.set("encryption", "AES256");
        context.set("byVersion", false);
        context.set("presigned", false);
        let operation = Operation {
            action: Action::named("s3:GetObject"),
            resource: Resource::object("lake", "raw", "a"),
            context,
        };
        let id = SpiffeId::parse("spiffe://a.test/x").unwrap();
        let holds = generation.true_of(&alternatives, (&id, &operation, &facts)).unwrap();
        let held: Vec<&str> =
            alternatives.iter().zip(holds).filter(|(_, holds)| *holds).map(|(one, _)| one.text.as_str()).collect();
        let expected = [
            "Action::\"read\"",
            "resource in Bucket::\"lake/raw\"",
            "context.operation == \"GetObject\"",
            "context.encryption == \"AES256\"",
        ];
        assert_eq!(held, expected);
    }
}
