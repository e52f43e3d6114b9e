//! Why a question is answered as it is, for the people who write policies.

use std::fmt::Write as _;

use serde_json::{Value as Json, json};

use super::Question;
use super::asked::AskedOf;
use crate::identity::SpiffeId;
use crate::mapping::{Context, Operation, Operations};
use crate::policy::{Clause, Outcome, Placed, PolicyGeneration, Trace, TracedPolicy, Verdict, worst};

/// How many permits that do not match are shown, unless all are asked for.
const NEAREST: usize = 3;

/// How many operations of a denied request are explained by a sidecar that runs.
const MOST_OPERATIONS: usize = 16;

/// An answer with its reasons.
#[derive(Debug)]
pub struct Explanation {
    /// The whole: the worst of its operations.
    pub outcome: Outcome,
    /// Why no policy was asked.
    pub refusal: Option<String>,
    /// Each operation.
    pub operations: Vec<Explained>,
}

/// One operation.
#[derive(Debug)]
pub struct Explained {
    /// What the policies saw beside principal, action and resource.
    pub context: Vec<(String, String)>,
    /// How each policy stands to it.
    pub trace: Trace,
}

/// Explains the answer to a question.
///
/// # Errors
/// The question is not written as one.
pub fn explain(policies: &PolicyGeneration, principal: &SpiffeId, question: &Question) -> Result<Explanation, String> {
    let AskedOf { facts, operations } = question.asked(policies.headers_read())?;
    match operations {
        Ok(operations) => explain_operations(policies, principal, &operations, &facts),
        Err(refusal) => Ok(Explanation { outcome: Outcome::Refused, refusal: Some(refusal), operations: Vec::new() }),
    }
}

/// Explains the answer to what has been mapped already.
///
/// # Errors
/// The question cannot be put in Cedar's terms.
pub fn explain_operations(
    policies: &PolicyGeneration,
    principal: &SpiffeId,
    operations: &Operations,
    facts: &Context,
) -> Result<Explanation, String> {
    let explained = operations
        .iter()
        .map(|operation| explained_operation(policies, principal, operation, facts))
        .collect::<Result<Vec<_>, String>>()?;
    let outcome = worst(explained.iter().map(|one| &one.trace.decision));
    Ok(Explanation { outcome, refusal: None, operations: explained })
}

/// Explains why a request was denied, bounded: the first operations that are, each with the policies that decide and the nearest permits.
///
/// # Errors
/// The question cannot be put in Cedar's terms.
pub fn explain_denial(
    policies: &PolicyGeneration,
    id: &SpiffeId,
    operations: &Operations,
    facts: &Context,
) -> Result<Explanation, String> {
    let principal = policies.principal(id);
    let is_denied = |operation: &&Operation| !policies.decide(&principal, operation, facts).outcome.is_allowed();
    let mut explained = Vec::new();
    for operation in operations.iter().filter(is_denied).take(MOST_OPERATIONS) {
        let mut one = explained_operation(policies, id, operation, facts)?;
        one.trace.keep_nearest(NEAREST);
        explained.push(one);
    }
    let outcome = worst(explained.iter().map(|one| &one.trace.decision));
    Ok(Explanation { outcome, refusal: None, operations: explained })
}

fn explained_operation(
    policies: &PolicyGeneration,
    principal: &SpiffeId,
    operation: &Operation,
    facts: &Context,
) -> Result<Explained, String> {
    let values = facts.iter().chain(operation.context.iter());
    let context = values.map(|(name, value)| (name.to_owned(), value.to_string())).collect();
    Ok(Explained { context, trace: policies.trace(principal, operation, facts)? })
}

impl Explanation {
    /// Joins the operations of one request that were asked one by one.
    #[must_use]
    pub fn joined(all: Vec<Self>) -> Self {
        let outcome = worst(all.iter().flat_map(|one| &one.operations).map(|one| &one.trace.decision));
        let refusal = all.iter().find_map(|one| one.refusal.clone());
        let outcome = if refusal.is_some() { Outcome::Refused } else { outcome };
        Self { outcome, refusal, operations: all.into_iter().flat_map(|one| one.operations).collect() }
    }

    /// For people. `all`: every permit rather than the nearest three.
    #[must_use]
    pub fn text(&self, all: bool) -> String {
        let mut text = format!("{}\n", verdict(self.outcome));
        if let Some(refusal) = &self.refusal {
            let _ = writeln!(text, "\nThe request cannot be named, so no policy was asked: {refusal}");
        }
        for one in &self.operations {
            one.text(&mut text, all);
        }
        text
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self) -> Json {
        json!({
            "outcome": self.outcome.as_str(),
            "refusal": self.refusal,
            "operations": self.operations.iter().map(Explained::json).collect::<Vec<_>>(),
        })
    }
}

fn verdict(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Forbidden => "denied: forbidden (a forbid matches)",
        Outcome::NotPermitted => "denied: not_permitted (no permit matches)",
        Outcome::Error => "denied: error (a policy cannot be evaluated)",
        Outcome::Refused => "denied: refused (it cannot be named)",
    }
}

impl Explained {
    fn text(&self, text: &mut String, all: bool) {
        let Trace { decision, principal, action, resource, .. } = &self.trace;
        let _ = writeln!(text, "\n{}", decision.outcome);
        for (name, placed) in [("principal", principal), ("action", action), ("resource", resource)] {
            line(text, name, placed);
        }
        let context: Vec<_> = self.context.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        let _ = writeln!(text, "  {:<10} {{{}}}", "context", context.join(", "));
        if let Some(error) = &decision.error {
            let _ = writeln!(text, "\n  {error}");
        }
        let deciding: Vec<_> = self.trace.deciding().collect();
        if !deciding.is_empty() {
            let _ = writeln!(text, "\n  decided by");
            deciding.iter().for_each(|traced| policy(text, traced, decision.outcome != Outcome::Error));
        }
        match decision.outcome {
            Outcome::NotPermitted => self.nearest(text, all),
            Outcome::Forbidden => {
                let permits: Vec<_> = self.trace.matching_permits().map(|traced| &*traced.policy.id).collect();
                let _ = match permits.is_empty() {
                    true => writeln!(text, "\n  without that no permit matches either"),
                    false => writeln!(text, "\n  without that it would be allowed by {}", permits.join(", ")),
                };
            }
            Outcome::Allowed | Outcome::Error | Outcome::Refused => {}
        }
        if matches!(decision.outcome, Outcome::NotPermitted | Outcome::Allowed) {
            self.near_forbids(text, all);
        }
    }

    /// A permit that is added, or a request that is changed a little, may meet these.
    fn near_forbids(&self, text: &mut String, all: bool) {
        let forbids: Vec<_> = self.trace.near_forbids().collect();
        if forbids.is_empty() {
            return;
        }
        text.push_str("\n  forbids that would deny this but for a condition\n");
        let shown = if all { forbids.len() } else { NEAREST.min(forbids.len()) };
        forbids.iter().take(shown).for_each(|traced| policy(text, traced, false));
        if shown < forbids.len() {
            let _ = writeln!(text, "\n    … and {} more (--all)", forbids.len() - shown);
        }
    }

    fn nearest(&self, text: &mut String, all: bool) {
        let permits = self.trace.nearest_permits();
        let shown = if all { permits.len() } else { NEAREST.min(permits.len()) };
        match permits.len() {
            0 => text.push_str("\n  there is no permit at all\n"),
            _ => text.push_str("\n  the nearest permits, and why they do not match\n"),
        }
        permits.iter().take(shown).for_each(|traced| policy(text, traced, false));
        if shown < permits.len() {
            let _ = writeln!(text, "\n    … and {} more (--all)", permits.len() - shown);
        }
        if let Some(smallest) = self.trace.smallest_permit() {
            text.push_str("\n  the smallest policy that allows this workload this action on this resource; nobody has reviewed it\n\n");
            smallest.lines().for_each(|line| text.push_str(&format!("    {line}\n")));
        }
    }

    fn json(&self) -> Json {
        let Trace { decision, principal, action, resource, policies, .. } = &self.trace;
        let placed = |placed: &Placed| json!({"uid": placed.uid, "in": placed.within});
        json!({
            "outcome": decision.outcome.as_str(),
            "error": decision.error,
            "principal": placed(principal),
            "action": placed(action),
            "resource": placed(resource),
            "context": self.context.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
            "decided_by": decision.policies,
            "policies": policies.iter().map(policy_json).collect::<Vec<_>>(),
            "nearest_permits": self.trace.nearest_permits().iter().map(|traced| &traced.policy.id).collect::<Vec<_>>(),
            "near_forbids": self.trace.near_forbids().map(|traced| &traced.policy.id).collect::<Vec<_>>(),
            "matching_permits": self.trace.matching_permits().map(|traced| &traced.policy.id).collect::<Vec<_>>(),
            "smallest_permit": self.trace.smallest_permit(),
        })
    }
}

fn line(text: &mut String, name: &str, placed: &Placed) {
    let _ = writeln!(text, "  {name:<10} {}", placed.uid);
    if !placed.within.is_empty() {
        let _ = writeln!(text, "  {:<10} in {}", "", placed.within.join(", "));
    }
}

/// A policy with its place, and either its text or the clauses that fail.
fn policy(text: &mut String, traced: &TracedPolicy, whole: bool) {
    let effect = if traced.policy.permits { "permit" } else { "forbid" };
    let _ = writeln!(text, "\n    {} ({effect}, {}:{})", traced.policy.id, traced.policy.file, traced.policy.line);
    for (name, value) in &traced.annotations {
        let _ = writeln!(text, "      @{name}: {value}");
    }
    if whole {
        traced.policy.text.lines().for_each(|line| text.push_str(&format!("      | {line}\n")));
        return;
    }
    for clause in &traced.clauses {
        let (mark, why) = match &clause.verdict {
            Verdict::Fails => ("no ", None),
            Verdict::Errs(cause) => ("err", Some(cause)),
            Verdict::Holds | Verdict::NotReached => continue,
        };
        let _ = writeln!(text, "      {mark}  {}", written(clause));
        why.into_iter().chain(&clause.saw).for_each(|saw| text.push_str(&format!("             {saw}\n")));
    }
    let held: Vec<_> = traced.clauses.iter().filter(|clause| clause.verdict == Verdict::Holds).map(written).collect();
    if !held.is_empty() {
        let _ = writeln!(text, "      ok   {}", held.join("; "));
    }
}

fn written(clause: &Clause) -> String {
    match clause.part {
        crate::policy::Part::When => format!("when {}", clause.text),
        crate::policy::Part::Unless => format!("unless {}", clause.text),
        _ => clause.text.clone(),
    }
}

fn policy_json(traced: &TracedPolicy) -> Json {
    let clauses = traced.clauses.iter().map(|clause| {
        let (verdict, error) = match &clause.verdict {
            Verdict::Holds => ("holds", None),
            Verdict::Fails => ("fails", None),
            Verdict::Errs(cause) => ("error", Some(cause)),
            Verdict::NotReached => ("not_reached", None),
        };
        json!({"part": clause.part.as_str(), "text": clause.text, "verdict": verdict, "error": error, "saw": clause.saw})
    });
    json!({
        "id": traced.policy.id,
        "effect": if traced.policy.permits { "permit" } else { "forbid" },
        "file": traced.policy.file,
        "line": traced.policy.line,
        "text": traced.policy.text,
        "annotations": traced.annotations.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
        "matches": traced.matches.as_ref().ok(),
        "error": traced.matches.as_ref().err(),
        "clauses": clauses.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::PolicySource;

    const SECRET: &str = "Bearer-s3cr3t";

    fn generation(policies: &str) -> PolicyGeneration {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("p.cedar"), policies).unwrap();
        PolicyGeneration::load(&PolicySource::of(folder.path()), 1).unwrap()
    }

    #[test]
    fn an_explanation_hides_the_secrets_that_records_hide() {
        let policies = generation(
            r#"@id("p") permit (principal, action == Action::"http:GET", resource)
            when { context.headers.hasTag("authorization") && context.headers.getTag("authorization").contains("other") }
            when { context.headers.hasTag("x-tenant") && context.headers.getTag("x-tenant").contains("b") };"#,
        );
        let question = Question::of_request("GET http://api/a").with_header("authorization", SECRET);
        let question = question.with_header("x-tenant", "acme");
        let id = SpiffeId::parse("spiffe://a.test/x").unwrap();
        let explanation = explain(&policies, &id, &question).unwrap();
        assert_eq!(explanation.outcome, Outcome::NotPermitted);
        for shown in [explanation.text(true), explanation.json().to_string()] {
            assert!(!shown.contains(SECRET), "{shown}");
            assert!(shown.contains("[redacted]") && shown.contains("acme"), "{shown}");
        }
    }

    #[test]
    fn forbids_that_come_near_and_permits_behind_a_forbid_are_told() {
        let policies = generation(
            r#"@id("no-deletes") forbid (principal, action == Action::"http:DELETE", resource);
            @id("deletes") permit (principal, action == Action::"http:DELETE", resource in HttpPath::"api/a");
            @id("by-night") forbid (principal, action, resource) when { context has host && context.host == "night" };"#,
        );
        let id = SpiffeId::parse("spiffe://a.test/x").unwrap();
        let text = |request: &str| explain(&policies, &id, &Question::of_request(request)).unwrap().text(false);
        assert!(text("DELETE http://api/a/b").contains("without that it would be allowed by deletes"));
        assert!(text("DELETE http://api/b").contains("without that no permit matches either"));
        let near = text("GET http://api/a");
        assert!(
            near.contains("forbids that would deny this but for a condition") && near.contains("by-night (forbid"),
            "{near}"
        );
        assert!(!near.contains("no-deletes"), "{near}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn the_smallest_policy_allows_the_question_and_nobody_nor_anything_else(asked in 0..QUESTIONS.len(), key in "[ -~é\u{1f980}]{1,8}") {
            let (action, resource, context) = QUESTIONS[asked];
            // Paths are not written like that.
            let key = if action.starts_with("http:") { "17".to_owned() } else { key.replace('/', "-").escape_debug().to_string() };
            let resource = resource.replace("KEY", &key);
            let context: serde_json::Map<_, _> = serde_json::from_str(context).unwrap();
            let question = Question::of_action(action, &resource).with_context(context.clone());
            let (asker, other) = (SpiffeId::parse("spiffe://a.test/x").unwrap(), SpiffeId::parse("spiffe://a.test/x/y").unwrap());
            let nothing = generation("@id(\"none\") permit (principal, action == Action::\"tcp:Connect\", resource == Endpoint::\"none\");");
            let explanation = explain(&nothing, &asker, &question).unwrap();
            let smallest = explanation.operations[0].trace.smallest_permit().unwrap();
            let policies = generation(&smallest);
            let outcome = |id: &SpiffeId, question: &Question| explain(&policies, id, question).unwrap().outcome;
            prop_assert_eq!(outcome(&asker, &question), Outcome::Allowed, "{}", smallest);
            prop_assert_eq!(outcome(&other, &question), Outcome::NotPermitted);
            for (action, resource, context) in QUESTIONS.iter().enumerate().filter(|(other, _)| *other != asked).map(|(_, other)| *other) {
                let resource = resource.replace("KEY", "elsewhere");
                let question = Question::of_action(action, &resource).with_context(serde_json::from_str(context).unwrap());
                prop_assert_eq!(outcome(&asker, &question), Outcome::NotPermitted, "{} allows {} {}", smallest, action, resource);
            }
        }
    }

    /// Different questions, of tables with more columns too.
    const QUESTIONS: [(&str, &str, &str); 9] = [
        ("s3:GetObject", "Object::\"lake/raw/KEY\"", "{}"),
        ("s3:PutObject", "Object::\"lake/raw/in/KEY\"", r#"{"encryption": "aws:kms"}"#),
        ("s3:ListBucket", "Bucket::\"lake/raw\"", "{}"),
        ("http:POST", "HttpPath::\"api/orders/KEY\"", "{}"),
        ("tcp:Connect", "Endpoint::\"queue\"", "{}"),
        ("sql:Select", "Table::\"wh/shop.public.people\"", r#"{"columns": ["id", "a\"b"]}"#),
        ("sql:Select", "Table::\"wh/shop.public.people\"", r#"{"columns": ["id", "ssn"]}"#),
        ("sql:Delete", "Table::\"wh/shop.public.orders\"", r#"{"columns": []}"#),
        ("sql:Execute", "Function::\"wh/shop.public.close_month\"", "{}"),
    ];

    #[test]
    fn an_explained_denial_shows_what_was_denied_and_is_bounded() {
        let mut text = "@id(\"reads\") permit (principal, action, resource == Object::\"lake/raw/0\");".to_owned();
        (0..20).for_each(|n| {
            text.push_str(&format!("@id(\"p{n}\") permit (principal, action, resource == Object::\"lake/b{n}/a\");"));
        });
        let policies = generation(&text);
        let keys: String = (0..40).map(|n| format!("<Object><Key>{n}</Key></Object>")).collect();
        let question = Question::of_request("POST s3://lake/raw?delete").with_body(format!("<Delete>{keys}</Delete>"));
        let AskedOf { facts, operations } = question.asked(policies.headers_read()).unwrap();
        let id = SpiffeId::parse("spiffe://a.test/x").unwrap();
        let explanation = explain_denial(&policies, &id, &operations.unwrap(), &facts).unwrap();
        assert_eq!(explanation.operations.len(), MOST_OPERATIONS);
        for one in &explanation.operations {
            assert_eq!((one.trace.decision.outcome, one.trace.policies.len()), (Outcome::NotPermitted, NEAREST));
        }
    }
}
