//! The rules of the design's "Deciding", each by a directory that is loaded and asked as in production.

mod directories;
mod loading;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::identity::SpiffeId;
use crate::mapping::{Action, Context, Operation, Resource, TagsRead, Value};

const TRANSFORM: &str = "spiffe://pipeline.example/ns/etl/sa/transform";
const STRANGER: &str = "spiffe://pipeline.example/ns/web/sa/shop";

const ENTITIES: &str = r#"[
  {"uid": {"type": "Workload", "id": "spiffe://pipeline.example/ns/etl/sa/transform"},
   "parents": [{"type": "Stage", "id": "transform"}], "tags": {"team": ["data"]}},
  {"uid": {"type": "Workload", "id": "spiffe://pipeline.example/ns/etl"}, "parents": [{"type": "Group", "id": "batch"}]},
  {"uid": {"type": "Bucket", "id": "lake/pii"}, "parents": [{"type": "Group", "id": "sensitive"}], "tags": {"class": ["pii"]}}
]"#;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().expect("directory");
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).expect("file is written");
    }
    directory
}

fn source(directory: &Path) -> PolicySource {
    PolicySource {
        endpoints: vec![("lake".to_owned(), "s3"), ("api".to_owned(), "http")],
        known_endpoints: vec!["warehouse".to_owned()],
        ..PolicySource::of(directory)
    }
}

fn load(policies: &str) -> Result<PolicyGeneration, PolicyErrors> {
    let directory = directory(&[("a.cedar", policies), ("entities.json", ENTITIES)]);
    PolicyGeneration::load(&source(directory.path()), 1)
}

fn loaded(policies: &str) -> PolicyGeneration {
    load(policies).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

/// The one error that `policies` have: where, message and help.
fn refused(policies: &str) -> (String, String, String) {
    let errors = load(policies).expect_err("is refused");
    let [only] = errors.problems() else { panic!("one problem expected:\n{}", errors.render(false)) };
    assert_eq!(only.severity(), Severity::Error);
    let (line, column) = only.position().expect("a place");
    (format!("{line}:{column}"), only.message().to_owned(), only.advice().unwrap_or_default().to_owned())
}

fn facts() -> Context {
    let mut facts = Context::default();
    facts.set("now", Value::Datetime(1_800_000_000_000));
    facts.set("direction", "inbound");
    facts.set("sourceIp", Value::Ip("10.1.2.3".parse().expect("address")));
    facts
}

fn s3(action: &'static str, resource: Resource) -> Operation {
    let mut context = Context::default();
    context.set("operation", "Any");
    context.set("byVersion", false);
    context.set("presigned", false);
    Operation { action: Action::named(action), resource, context }
}

fn raw(key: &str) -> Resource {
    Resource::object("lake", "raw", key)
}

fn decide(policies: &PolicyGeneration, workload: &str, operation: &Operation) -> (Outcome, Vec<String>) {
    let principal = policies.principal(&SpiffeId::parse(workload).expect("id"));
    let decision = policies.decide(&principal, operation, &facts());
    (decision.outcome, decision.policies.iter().map(ToString::to_string).collect())
}

fn outcome(outcome: Outcome, policies: &[&str]) -> (Outcome, Vec<String>) {
    (outcome, policies.iter().map(|id| (*id).to_owned()).collect())
}

const READS: &str = "@id(\"reads\") permit (principal in Stage::\"transform\", action in Action::\"read\", resource in Prefix::\"lake/raw/in\");\n";

#[test]
fn what_no_policy_permits_is_denied() {
    let policies = loaded(READS);
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("in/a"))), outcome(Outcome::Allowed, &["reads"]));
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("out/a"))), outcome(Outcome::NotPermitted, &[]));
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:PutObject", raw("in/a"))), outcome(Outcome::NotPermitted, &[]));
    assert_eq!(decide(&policies, STRANGER, &s3("s3:GetObject", raw("in/a"))), outcome(Outcome::NotPermitted, &[]));
}

#[test]
fn a_forbid_scoped_by_an_action_group_wins_over_a_permit() {
    let policies = loaded(
        "@id(\"all\") permit (principal in Stage::\"transform\", action, resource in Bucket::\"lake/raw\");\n\
         @id(\"kept\") forbid (principal, action in Action::\"delete\", resource in Bucket::\"lake/raw\");\n\
         @id(\"kept-too\") forbid (principal, action, resource in Bucket::\"lake/raw\") when { action in Action::\"delete\" };",
    );
    assert_eq!(
        decide(&policies, TRANSFORM, &s3("s3:DeleteObject", raw("a"))),
        outcome(Outcome::Forbidden, &["kept", "kept-too"])
    );
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:PutObject", raw("a"))), outcome(Outcome::Allowed, &["all"]));
}

#[test]
fn a_forbid_that_errs_denies_rather_than_vanishes() {
    let policies = loaded(&format!(
        "{READS}@id(\"errs\") forbid (principal, action == Action::\"s3:GetObject\", resource)\n\
         when {{ context has contentLength && context.contentLength + 9223372036854775807 > 0 }};"
    ));
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("in/a"))), outcome(Outcome::Allowed, &["reads"]));
    let mut large = s3("s3:GetObject", raw("in/a"));
    large.context.set("contentLength", 1_i64);
    assert_eq!(decide(&policies, TRANSFORM, &large), outcome(Outcome::Error, &["errs"]));
    let principal = policies.principal(&SpiffeId::parse(TRANSFORM).expect("id"));
    let error = policies.decide(&principal, &large, &facts()).error.expect("says what erred");
    assert!(error.contains("overflow") && error.contains("`errs`"), "{error}");
}

#[test]
fn what_the_schema_does_not_name_is_refused_before_any_policy_is_asked() {
    let policies = loaded("@id(\"all\") permit (principal in Stage::\"transform\", action, resource);");
    let asked = Operation {
        action: Action::http("BREW"),
        resource: Resource::http_path("api", "/pot"),
        context: Context::default(),
    };
    assert_eq!(decide(&policies, TRANSFORM, &asked), outcome(Outcome::Refused, &[]));
    assert_eq!(
        decide(&policies, TRANSFORM, &s3("read", raw("a"))),
        outcome(Outcome::Refused, &[]),
        "a group is no action"
    );
    assert_eq!(
        decide(&policies, TRANSFORM, &s3("s3:GetObject", Resource::bucket("lake", "raw"))),
        outcome(Outcome::Refused, &[])
    );
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("a"))), outcome(Outcome::Allowed, &["all"]));
}

#[test]
fn a_question_that_does_not_have_the_schemas_form_is_denied_with_and_without_conditions() {
    for condition in ["", " when { context.direction == \"inbound\" }"] {
        let policies =
            loaded(&format!("@id(\"all\") permit (principal in Stage::\"transform\", action, resource){condition};"));
        let mut asked = s3("s3:GetObject", raw("a"));
        assert_eq!(decide(&policies, TRANSFORM, &asked), outcome(Outcome::Allowed, &["all"]));
        asked.context.set("columns", "ssn");
        assert_eq!(decide(&policies, TRANSFORM, &asked), outcome(Outcome::Error, &[]));
        let missing = Operation { context: Context::default(), ..asked };
        assert_eq!(decide(&policies, TRANSFORM, &missing), outcome(Outcome::Error, &[]));
    }
}

#[test]
fn workloads_are_known_by_stage_path_group_trust_domain_attribute_and_tag() {
    for scope in [
        "principal in Stage::\"transform\"",
        "principal in Group::\"batch\"",
        "principal in Workload::\"spiffe://pipeline.example/ns/etl\"",
        "principal == Workload::\"spiffe://pipeline.example/ns/etl/sa/transform\"",
    ] {
        let policies = loaded(&format!("@id(\"p\") permit ({scope}, action, resource);"));
        assert_eq!(
            decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("a"))),
            outcome(Outcome::Allowed, &["p"]),
            "{scope}"
        );
        assert_eq!(
            decide(&policies, STRANGER, &s3("s3:GetObject", raw("a"))),
            outcome(Outcome::NotPermitted, &[]),
            "{scope}"
        );
    }
    for condition in [
        "principal has namespace && principal.namespace == \"etl\"",
        "principal has serviceAccount && principal.serviceAccount == \"transform\"",
        "principal.path == \"/ns/etl/sa/transform\"",
        "principal.hasTag(\"team\") && principal.getTag(\"team\").contains(\"data\")",
    ] {
        let policies = loaded(&format!("@id(\"p\") permit (principal, action, resource) when {{ {condition} }};"));
        assert_eq!(
            decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("a"))),
            outcome(Outcome::Allowed, &["p"]),
            "{condition}"
        );
        assert_eq!(
            decide(&policies, STRANGER, &s3("s3:GetObject", raw("a"))),
            outcome(Outcome::NotPermitted, &[]),
            "{condition}"
        );
    }
    let policies = loaded(READS);
    let principal = policies.principal(&SpiffeId::parse(TRANSFORM).expect("id"));
    assert_eq!(principal.stages().collect::<Vec<_>>(), ["transform"]);
}

#[test]
fn resources_have_the_groups_and_tags_of_what_they_are_in() {
    let policies = loaded(
        "@id(\"all\") permit (principal in Stage::\"transform\", action, resource);\n\
         @id(\"sensitive\") forbid (principal, action in Action::\"read\", resource in Group::\"sensitive\");\n\
         @id(\"pii\") forbid (principal, action in Action::\"read\", resource) when { resource.hasTag(\"class\") && resource.getTag(\"class\").contains(\"pii\") };",
    );
    let asked = s3("s3:GetObject", Resource::object("lake", "pii", "a/b"));
    assert_eq!(decide(&policies, TRANSFORM, &asked), outcome(Outcome::Forbidden, &["sensitive", "pii"]));
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("a/b"))), outcome(Outcome::Allowed, &["all"]));
}

#[test]
fn what_follows_from_an_id_holds_for_entities_that_only_a_policy_names() {
    for (condition, expected) in [
        ("Object::\"lake/pii/a/b\" in Group::\"sensitive\"", true),
        ("Object::\"lake/raw/a/b\" in Group::\"sensitive\"", false),
        ("Object::\"lake/raw/a/b\" in Prefix::\"lake/raw/a\"", true),
        ("Workload::\"spiffe://pipeline.example/ns/etl/sa/other\" in Group::\"batch\"", true),
        ("Workload::\"spiffe://pipeline.example/ns/etl/sa/other\".path == \"/ns/etl/sa/other\"", true),
        ("Prefix::\"lake/pii/a\".hasTag(\"class\")", true),
        ("Action::\"s3:DeleteObject\" in Action::\"delete\"", true),
    ] {
        let policies = loaded(&format!(
            "@id(\"p\") permit (principal in Stage::\"transform\", action, resource) when {{ {condition} }};"
        ));
        let expected = if expected { outcome(Outcome::Allowed, &["p"]) } else { outcome(Outcome::NotPermitted, &[]) };
        assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("x"))), expected, "{condition}");
    }
}

#[test]
fn headers_are_sets_by_lower_case_name_and_only_those_read_are_asked_for() {
    let policies = loaded(
        "@id(\"tenant\") permit (principal in Stage::\"transform\", action == Action::\"http:GET\", resource in HttpPath::\"api/orders\")\n\
         when { context.headers.hasTag(\"x-tenant\") && context.headers.getTag(\"x-tenant\").contains(\"a\") };",
    );
    assert_eq!(policies.headers_read().all, &TagsRead::Only(["x-tenant".into()].into()));
    let ask = |headers: Option<Vec<Box<str>>>| {
        let mut context = Context::default();
        if let Some(values) = headers {
            context.set("headers", Value::Headers(vec![("x-tenant".into(), values)]));
        }
        let operation =
            Operation { action: Action::http("GET"), resource: Resource::http_path("api", "/orders/1"), context };
        decide(&policies, TRANSFORM, &operation)
    };
    assert_eq!(ask(Some(vec!["b".into(), "a".into()])), outcome(Outcome::Allowed, &["tenant"]));
    assert_eq!(ask(Some(vec!["b,a".into()])), outcome(Outcome::NotPermitted, &[]));
    assert_eq!(ask(None), outcome(Outcome::NotPermitted, &[]));
}

#[test]
fn every_value_of_the_context_reaches_the_policies() {
    let policies = loaded(
        "@id(\"p\") permit (principal in Stage::\"transform\", action, resource) when {\n\
           context.now >= datetime(\"2027-01-15T08:00:00Z\") && context.now < datetime(\"2027-01-15T08:00:00.001Z\") &&\n\
           context has sourceIp && context.sourceIp.isInRange(ip(\"10.0.0.0/8\")) &&\n\
           context has tls && context.tls.version == \"TLSv1.3\" && context.tls.certificateExpiry > context.now &&\n\
           context has byVersion && !context.byVersion && context has contentLength && context.contentLength == 7\n\
         };",
    );
    let mut asked = s3("s3:PutObject", raw("a"));
    asked.context.set("contentLength", 7_i64);
    asked.context.set(
        "tls",
        Value::Record(vec![("version", "TLSv1.3".into()), ("certificateExpiry", Value::Datetime(1_900_000_000_000))]),
    );
    assert_eq!(decide(&policies, TRANSFORM, &asked), outcome(Outcome::Allowed, &["p"]));
    asked.context = s3("s3:PutObject", raw("a")).context;
    assert_eq!(decide(&policies, TRANSFORM, &asked), outcome(Outcome::NotPermitted, &[]));
}

/// Not a test of speed but a look at it: `PORTCULLIS_TIMING=1 cargo test --release policy::tests::timing -- --nocapture`.
#[test]
fn timing() {
    let counts: &[usize] =
        if std::env::var_os("PORTCULLIS_TIMING").is_some() { &[10, 1_000, 10_000] } else { &[10, 500] };
    for &count in counts {
        for (kind, condition) in [
            ("scope only", ""),
            ("conditions", " when { context has encryption && context.encryption == \"aws:kms\" }"),
        ] {
            let mut text = String::new();
            for n in 0..count {
                writeln!(text, "@id(\"p{n}\") permit (principal in Stage::\"s{n}\", action in [Action::\"read\", Action::\"write\"], resource in Bucket::\"lake/b{n}\"){condition};").expect("writes");
            }
            let entities = ENTITIES.replace("\"transform\"}]", "\"s3\"}]");
            let dir = directory(&[("a.cedar", &text), ("entities.json", &entities)]);
            let begun = Instant::now();
            let policies = PolicyGeneration::load(&source(dir.path()), 1).expect("loads");
            let load = begun.elapsed();
            let principal = policies.principal(&SpiffeId::parse(TRANSFORM).expect("id"));
            let mut asked = s3("s3:PutObject", Resource::object("lake", "b3", "in/2026/11/a.parquet"));
            asked.context.set("encryption", "aws:kms");
            let facts = facts();
            assert_eq!(policies.decide(&principal, &asked, &facts).outcome, Outcome::Allowed);
            let mut best = f64::MAX;
            for _ in 0..5 {
                let begun = Instant::now();
                for _ in 0..200 {
                    std::hint::black_box(policies.decide(&principal, std::hint::black_box(&asked), &facts));
                }
                best = best.min(begun.elapsed().as_secs_f64() * 1e6 / 200.0);
            }
            println!("{count:>6} policies, {kind:<10}: {best:>6.2} µs a decision, loaded in {load:.0?}");
        }
    }
}
