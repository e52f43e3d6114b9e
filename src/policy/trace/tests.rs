//! Policies taken apart before questions.

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
