//! The rules of the design's "Deciding", each by a directory that is loaded and asked as in production.

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

#[test]
fn a_policy_that_can_never_match_is_refused() {
    let (place, message, _) = refused(
        "@id(\"never\")\npermit (principal in Stage::\"transform\", action == Action::\"http:GET\", resource)\nwhen { context.direction == \"inbound\" && false };",
    );
    assert_eq!(place, "2:1");
    assert!(message.contains("`never` can never match"), "{message}");
    let (_, message, help) = refused(
        "@id(\"eq\") permit (principal in Stage::\"transform\", action == Action::\"s3:GetObject\", resource == Bucket::\"lake/raw\");",
    );
    assert!(message.contains("`eq` can never match"), "{message}");
    assert!(help.contains("replacing `==` with `in`"), "{help}");
}

#[test]
fn an_attribute_that_some_requests_lack_is_said_once_and_a_misspelt_one_finds_its_name() {
    let policy = |attribute: &str| {
        format!(
            "@id(\"p\") permit (principal in Stage::\"transform\", action in Action::\"read\", resource) when {{ context.{attribute} }};"
        )
    };
    let (_, message, help) = refused(&policy("byVersion"));
    assert!(message.contains("attribute `byVersion` in context"), "{message}");
    assert!(
        help.starts_with("only requests by actions `s3:…` and `s3express:…` have it")
            && help.contains("`context has byVersion && context.byVersion`"),
        "{help}"
    );
    let (_, _, help) = refused(&policy("direcion == \"inbound\""));
    assert_eq!(help, "did you mean `context.direction`?");
}

#[test]
fn what_is_asked_for_and_never_there_is_a_warning() {
    let warned = |condition: &str| -> Vec<(String, String)> {
        let policy = format!(
            "@id(\"p\") forbid (principal, action == Action::\"s3:PutObject\", resource in Bucket::\"lake/raw\") unless {{ {condition} }};"
        );
        let directory = directory(&[("a.cedar", &policy)]);
        let policies = PolicyGeneration::load(&source(directory.path()), 1).expect(condition);
        let said =
            |warning: &PolicyProblem| (warning.message().to_owned(), warning.advice().unwrap_or_default().to_owned());
        policies.warnings().iter().map(said).collect()
    };
    for (condition, message, help) in [
        (
            "context has kmsKeyID && context.kmsKeyID == \"k\"",
            "`context has kmsKeyID`",
            "did you mean `context has kmsKeyId`?",
        ),
        ("principal has name_space", "`principal has name_space`", "did you mean `principal has namespace`?"),
        (
            "principal has team",
            "`principal has team`",
            "what entities.json adds are tags: `principal.hasTag(\"team\")`",
        ),
        (
            "context.headers has tenant",
            "`context.headers has tenant`",
            "these are tags: `context.headers.hasTag(\"tenant\")`",
        ),
    ] {
        let said = warned(condition);
        let [(first, advice)] = said.as_slice() else { panic!("{condition}: {said:?}") };
        assert!(first.starts_with(message) && first.contains("never true") && advice == help, "{condition}: {said:?}");
    }
    for condition in [
        "context has kmsKeyId && context.kmsKeyId == \"k\"",
        "principal has namespace && principal.namespace == \"etl\"",
        "context has tls && context.tls.version == \"TLSv1.3\"",
        // Not of these requests, but of others.
        "context has columns",
    ] {
        assert_eq!(warned(condition), [], "{condition}");
    }
}

#[test]
fn every_policy_needs_an_id_of_its_own() {
    let (place, message, help) = refused("// first\npermit (principal in Stage::\"transform\", action, resource);");
    assert_eq!((place.as_str(), message.as_str()), ("2:1", "policy has no `@id`"));
    assert!(help.contains("@id(\"transform-reads-ingested\")"), "{help}");
    let (place, message, help) = refused(&format!("{READS}{READS}"));
    assert_eq!((place.as_str(), message.as_str()), ("2:14", "`@id(\"reads\")` is taken"));
    assert!(help.contains("a.cedar:1"), "{help}");
}

#[test]
fn all_problems_of_all_files_are_reported_at_once_with_file_line_and_column() {
    let directory = directory(&[
        ("a.cedar", "permit (principal, action, resource in Bucket::\"raw\");"),
        ("b.cedar", "@id(\"b\") permit (principal in Stage::\"transform\" action, resource);"),
        ("entities.json", "[{\"uid\": {\"type\": \"Workload\", \"id\": \"transform\"}}]"),
    ]);
    let errors = PolicyGeneration::load(&source(directory.path()), 1).expect_err("refused");
    let text = errors.to_string();
    let places = text.lines().map(|line| line.split(": ").next().expect("place"));
    let begin: Vec<_> = places.map(|place| place.rsplit('/').next().expect("name")).collect();
    assert_eq!(begin, ["a.cedar:1:1", "a.cedar:1:40", "b.cedar:1:50", "entities.json:1:2"], "{text}");
    let shown = errors.render(false);
    assert!(shown.contains("Bucket::\"raw\"") && shown.contains("help: "), "{shown}");
}

#[test]
fn a_type_that_the_endpoints_protocol_never_yields_is_refused() {
    let (_, message, _) = refused(
        "@id(\"p\") permit (principal in Stage::\"transform\", action == Action::\"s3:GetObject\", resource in Bucket::\"api/raw\");",
    );
    assert_eq!(
        message,
        "`Bucket::\"api/raw\"` can never be asked about: endpoint `api` speaks http, which has no Bucket"
    );
}

#[test]
fn policies_about_other_sidecars_are_inactive_and_unknown_names_are_warnings_or_errors() {
    let text = "@id(\"elsewhere\") permit (principal in Stage::\"transform\", action == Action::\"sql:Select\", resource in Schema::\"warehouse/a.b\");\n\
                @id(\"slip\") permit (principal in Stage::\"tranform\", action == Action::\"s3:GetObject\", resource in Bucket::\"lakes/raw\");";
    let policies = loaded(text);
    assert_eq!(policies.inactive().iter().map(|id| &**id).collect::<Vec<_>>(), ["elsewhere", "slip"]);
    let warnings: Vec<_> = policies.warnings().iter().map(|w| (w.message(), w.advice().unwrap_or_default())).collect();
    assert_eq!(
        warnings,
        [
            ("nothing is in `Stage::\"tranform\"`", "did you mean `Stage::\"transform\"`?"),
            ("there is no endpoint `lakes`", "did you mean `lake`?")
        ]
    );
    let directory = directory(&[("a.cedar", text), ("entities.json", ENTITIES)]);
    let strict = PolicySource { refuse_unknown_names: true, ..source(directory.path()) };
    assert_eq!(PolicyGeneration::load(&strict, 1).expect_err("refused").problems().len(), 2);
    let alone = PolicyGeneration::load(&PolicySource::of(directory.path()), 1).expect("loads");
    assert!(alone.inactive().is_empty(), "nothing is known about endpoints");
}

#[test]
fn header_names_in_upper_case_templates_and_modes_are_refused() {
    let (place, message, help) = refused(
        "@id(\"p\") permit (principal in Stage::\"transform\", action, resource is HttpPath)\nwhen { context.headers.hasTag(\"X-Tenant\") };",
    );
    assert_eq!((place.as_str(), help.as_str()), ("2:32", "write \"x-tenant\""), "{message}");
    let (_, message, _) = refused("@id(\"t\") permit (principal == ?principal, action, resource);");
    assert!(message.contains("templates are not supported"), "{message}");
    for (annotation, said) in [
        ("@mode(\"shaddow\")", "`@mode` is `shaddow`"),
        ("@mode(\"enforce\")", "`@mode` is `enforce`"),
        ("@mode(\"\")", "`@mode` is ``"),
        ("@mode(\"Shadow\")", "`@mode` is `Shadow`"),
        ("@moed(\"shadow\")", "`@moed` is no annotation"),
        ("@mdoe(\"shadow\")", "`@mdoe` is no annotation"),
        ("@Mode(\"shadow\")", "`@Mode` is no annotation"),
        ("@max_row(\"5\")", "`@max_row` is no annotation"),
    ] {
        let text = format!("@id(\"m\") {annotation} permit (principal in Stage::\"transform\", action, resource);");
        let (_, message, _) = refused(&text);
        assert!(message.contains(said), "{message}");
    }
}

#[test]
fn a_value_that_an_attribute_never_has_is_said_with_the_one_that_is_meant() {
    let warned = |condition: &str| {
        let text =
            format!("@id(\"p\") permit (principal in Stage::\"transform\", action, resource)\nwhen {{ {condition} }};");
        let policies = loaded(&text);
        let said = policies.warnings().iter().map(|warning| {
            let at = warning.position().map(|(line, column)| format!("{line}:{column}"));
            format!("{} {}: {}", at.unwrap_or_default(), warning.message(), warning.advice().unwrap_or_default())
        });
        said.collect::<Vec<_>>().join("; ")
    };
    for (condition, said) in [
        (
            "context.direction == \"INBOUND\"",
            "2:29 `context.direction` is never \"INBOUND\": write \"inbound\": case counts",
        ),
        (
            "\"Outbound\" != context.direction",
            "2:8 `context.direction` is never \"Outbound\": write \"outbound\": case counts",
        ),
        (
            "context.direction == \"both\"",
            "2:29 `context.direction` is never \"both\": it is \"inbound\" or \"outbound\"",
        ),
        (
            "context has tls.version && [\"TLSv1.3\", \"tlsv1.2\"].contains(context.tls.version)",
            "2:47 `context.tls.version` is never \"tlsv1.2\": write \"TLSv1.2\": case counts",
        ),
        ("context.direction == \"inbound\" && context.direction like \"IN*\"", ""),
    ] {
        assert_eq!(warned(condition), said, "{condition}");
    }
    let of = |action: &str, condition: &str| {
        let text = format!(
            "@id(\"p\") permit (principal in Stage::\"transform\", action == Action::\"{action}\", resource) when {{ {condition} }};"
        );
        loaded(&text)
            .warnings()
            .iter()
            .map(|w| format!("{}: {}", w.message(), w.advice().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(of("s3:PutObject", "context.operation == \"CopyObject\""), "");
    assert_eq!(
        of("s3:PutObject", "context.operation == \"copyObject\""),
        "`context.operation` is never \"copyObject\": write \"CopyObject\": case counts"
    );
    assert_eq!(of("sql:Connect", "context.statement == \"connect\""), "");
    assert_eq!(
        of("sql:Select", "context.statement == \"SELECT\""),
        "`context.statement` is never \"SELECT\": write \"select\": case counts"
    );
}

#[test]
fn a_policy_in_shadow_mode_is_tried_and_never_enforced() {
    let directory = directory(&[(
        "a.cedar",
        "@id(\"tried\") @mode(\"shadow\") permit (principal, action == Action::\"http:GET\", resource);
         @id(\"in-force\") @ticket(\"OPS-1\") permit (principal, action == Action::\"http:PUT\", resource);
         @id(\"errs\") @mode(\"shadow\") forbid (principal, action == Action::\"http:PUT\", resource) when { 9223372036854775807 + 1 == 0 };",
    )]);
    let generation = PolicyGeneration::load(&PolicySource::of(directory.path()), 1).expect("loads");
    let principal = generation.principal(&SpiffeId::parse("spiffe://a.example/x").expect("an ID"));
    let mut facts = Context::default();
    facts.set("now", Value::Datetime(0));
    facts.set("direction", "inbound");
    let tried = |method: &'static str| {
        let mut context = Context::default();
        context.set("headers", Value::Headers(Vec::new()));
        let operation = Operation { action: Action::http(method), resource: Resource::http_path("api", "/x"), context };
        let decided = generation.decide(&principal, &operation, &facts);
        let trials = generation.trials(&principal, std::iter::once(&operation), &facts);
        assert_eq!(trials.len(), 1);
        let trial = &trials[0].decisions[0];
        ((decided.outcome, decided.policies), (trial.outcome, trial.policies.clone()))
    };
    let by = |id: &str| vec![Arc::<str>::from(id)];
    assert_eq!(tried("GET"), ((Outcome::NotPermitted, vec![]), (Outcome::Allowed, by("tried"))));
    assert_eq!(tried("PUT"), ((Outcome::Allowed, by("in-force")), (Outcome::Error, by("errs"))));
    assert_eq!(tried("POST"), ((Outcome::NotPermitted, vec![]), (Outcome::NotPermitted, vec![])));
}

#[test]
fn a_candidate_that_does_not_load_takes_nothing_from_what_is_in_force() {
    let allow = "@id(\"allow\") permit (principal, action, resource);";
    let (active, candidate) = (directory(&[("a.cedar", allow)]), directory(&[("a.cedar", "permit (")]));
    let source = PolicySource { shadow: Some(candidate.path().to_owned()), ..PolicySource::of(active.path()) };
    let store = PolicyStore::open(source).expect("the active ones load");
    let now = store.current();
    assert!(!now.has_candidates() && now.shadow_fault().is_some_and(|fault| fault.contains("a.cedar")));
    assert_eq!(store.reload().expect("nothing changed"), Reloaded::Unchanged);
    std::fs::write(candidate.path().join("a.cedar"), "@id(\"none\") forbid (principal, action, resource);")
        .expect("written");
    assert_eq!(store.reload().expect("it loads"), Reloaded::Swapped(2));
    let good = store.current().shadow_digest().expect("a candidate").to_owned();
    assert_eq!(store.current().digest(), now.digest());
    std::fs::write(candidate.path().join("a.cedar"), "broken").expect("written");
    assert_eq!(store.reload().expect("the active ones load"), Reloaded::Swapped(3));
    let last = store.current();
    assert_eq!((last.shadow_digest(), last.shadow_fault().is_some()), (Some(good.as_str()), true));
    assert!(last.has_candidates());
}

#[test]
fn entities_give_only_parents_and_tags() {
    for (entities, expected) in [
        (r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "attrs": {"path": "/y"}}]"#, "has `attrs`"),
        (
            r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "parents": [{"type": "TrustDomain", "id": "b.example"}]}]"#,
            "has the parent",
        ),
        (r#"[{"uid": {"type": "Bucket", "id": "lake/raw"}, "parents": [{"type": "Stage", "id": "s"}]}]"#, "Stage"),
        (
            r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "tags": {"team": "data"}}]"#,
            "not lists of strings",
        ),
        (r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x/"}}]"#, "not a SPIFFE ID"),
        (r#"[{"uid": {"type": "Stage", "id": "s"}}, {"uid": {"type": "Stage", "id": "s"}}]"#, "is there twice"),
        (r#"[{"uid": {"type": "Group", "id": "a"}, "parents": [{"type": "Group", "id": "a"}]}]"#, "is in itself"),
        (r#"[{"uid": {"type": "Stage", "id": "s"}, "parent": []}]"#, "unknown key `parent`"),
        (r#"[{"uid": {"type": "Stages", "id": "s"}}]"#, "there is no entity type `Stages`"),
        (
            r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "parents": [{"type": "stage", "id": "s"}]}]"#,
            "there is no entity type `stage`",
        ),
        (
            r#"[{"uid": {"type": "Workload", "id": "spiffe://a.example/x"}, "parents": [{"type": "Stage", "id": "s"}], "parents": []}]"#,
            "key `parents` is there twice",
        ),
        (r#"[{"uid": {"type": "Action", "id": "read"}}]"#, "is of type Action"),
        ("[{\"uid\": {\"type\": \"Stage\", \"id\": \"s\"}},\n  oops]", "not a JSON list"),
        (r#"{"uid": {"type": "Stage", "id": "s"}}"#, "not a JSON list"),
    ] {
        // That nothing is in the stage follows from it, and is not said.
        let names = "@id(\"a\") permit (principal in Stage::\"s\", action == Action::\"http:GET\", resource in Endpoint::\"api\");";
        let directory = directory(&[("a.cedar", names), ("entities.json", entities)]);
        let errors = PolicyGeneration::load(&source(directory.path()), 1).expect_err(entities);
        let [only] = errors.problems() else { panic!("{entities}: {errors}") };
        assert!(only.message().contains(expected), "{entities}: {errors}");
        assert!(only.position().is_some(), "{entities}: {errors}");
    }
}

#[test]
fn entities_stand_in_one_file_or_in_many_that_are_read_as_one() {
    let (list, rest) = (ENTITIES.trim(), "[]");
    let one = directory(&[("a.cedar", READS), ("entities.json", list)]);
    let many = directory(&[("a.cedar", READS), ("entities.json", rest)]);
    std::fs::create_dir(many.path().join("entities")).expect("writes");
    let write = |name: &str, text: &str| std::fs::write(many.path().join("entities").join(name), text).expect("writes");
    let items: Vec<serde_json::Value> = serde_json::from_str(list).expect("is a list");
    for (number, item) in items.iter().enumerate() {
        write(&format!("{number}.json"), &serde_json::json!([item]).to_string());
    }
    // Neither is ours.
    write(".hidden.json", "oops");
    write("README.md", "oops");
    let asked = s3("s3:GetObject", raw("in/a"));
    let decided = |directory: &Path| {
        let policies = PolicyGeneration::load(&source(directory), 1);
        decide(&policies.unwrap_or_else(|errors| panic!("{errors}")), TRANSFORM, &asked)
    };
    assert_eq!(decided(many.path()), decided(one.path()));
    assert_eq!(decided(many.path()).0, Outcome::Allowed);

    let store = PolicyStore::open(source(many.path())).expect("opens");
    write("z.json", "[\n]");
    assert_eq!(store.reload().expect("loads"), Reloaded::Swapped(2), "a file more is another generation");
    let again = items.last().expect("has some");
    write("z.json", &format!("[\n  {again}\n]"));
    let errors = store.reload().expect_err("an entity is there twice");
    let [only] = errors.problems() else { panic!("{errors}") };
    assert!(only.message().contains("is there twice") && only.position() == Some((2, 3)), "{errors}");
    let first = format!("entities/{}.json:1", items.len() - 1);
    assert!(
        only.file().ends_with("entities/z.json") && only.advice().is_some_and(|help| help.contains(&first)),
        "{errors:?}"
    );
    // A mount that is not there is not the same as no entities.
    let elsewhere = directory(&[("a.cedar", READS)]);
    std::os::unix::fs::symlink("/nowhere/at/all", elsewhere.path().join("entities")).expect("links");
    let errors = PolicyGeneration::load(&source(elsewhere.path()), 1).expect_err("leads nowhere").to_string();
    assert!(errors.contains("`entities`"), "{errors}");
    write("z.json", "[{\"uid\": 7}]");
    let errors = store.reload().expect_err("no entity").to_string();
    assert!(errors.contains("entities/z.json:1:2: "), "{errors}");
}

#[test]
fn an_entity_of_an_endpoint_that_is_misspelt_or_speaks_otherwise_is_said_where_it_stands() {
    let with = |uid: &str| {
        let entities = format!("[\n  {{\"uid\": {uid}, \"parents\": [{{\"type\": \"Group\", \"id\": \"g\"}}]}}\n]");
        directory(&[("a.cedar", ""), ("entities.json", &entities)])
    };
    let dir = with(r#"{"type": "Bucket", "id": "lkae/raw"}"#);
    let policies = PolicyGeneration::load(&source(dir.path()), 1).expect("loads");
    let warnings: Vec<_> = policies.warnings().iter().filter(|warning| warning.position().is_some()).collect();
    let [only] = warnings[..] else { panic!("{warnings:?}") };
    assert_eq!((only.message(), only.advice()), ("there is no endpoint `lkae`", Some("did you mean `lake`?")));
    assert_eq!(only.position(), Some((2, 3)));
    assert!(
        PolicyGeneration::load(&strict_of(dir.path()), 1)
            .expect_err("refused")
            .to_string()
            .contains("there is no endpoint `lkae`")
    );
    let dir = with(r#"{"type": "Bucket", "id": "lake/raw"}"#);
    assert!(PolicyGeneration::load(&strict_of(dir.path()), 1).is_ok());
    let dir = with(r#"{"type": "HttpPath", "id": "lake/raw"}"#);
    let errors = PolicyGeneration::load(&source(dir.path()), 1).expect_err("no such thing").to_string();
    assert!(errors.contains("entities.json:2:3: `HttpPath::\"lake/raw\"` can never be asked about"), "{errors}");
}

fn strict_of(directory: &Path) -> PolicySource {
    PolicySource { refuse_unknown_names: true, ..source(directory) }
}

#[test]
fn what_was_refused_is_refused_again_without_being_compiled_again_until_it_changes() {
    let dir = directory(&[("a.cedar", READS), ("entities.json", ENTITIES)]);
    let store = PolicyStore::open(source(dir.path())).expect("opens");
    std::fs::write(dir.path().join("a.cedar"), "permit").expect("writes");
    // What was compiled again speaks of files that were read again.
    let is_of_one_look =
        |one: &PolicyErrors, other: &PolicyErrors| std::ptr::eq(one.problems()[0].file(), other.problems()[0].file());
    let first = store.reload().expect_err("bad");
    let again = store.reload().expect_err("still bad");
    assert!(is_of_one_look(&first, &again) && first.to_string() == again.to_string(), "{again}");
    std::fs::write(dir.path().join("a.cedar"), "forbid (principal, action, resource);").expect("writes");
    let other = store.reload().expect_err("otherwise bad");
    assert!(!is_of_one_look(&first, &other) && first.to_string() != other.to_string(), "{other}");
    std::fs::write(dir.path().join("a.cedar"), READS).expect("writes");
    assert_eq!(store.reload().expect("as at first"), Reloaded::Unchanged);
    std::fs::write(dir.path().join("a.cedar"), "forbid").expect("writes");
    assert!(store.reload().is_err(), "it is looked at anew");
}

#[test]
fn further_schema_files_add_types_and_actions_and_cannot_change_ours() {
    let own = (
        "own.cedarschema",
        "entity Team = { size: Long };\naction \"own:Ask\" in [Action::\"read\"] appliesTo { principal: [Workload], resource: [Team] };",
    );
    let policy = (
        "a.cedar",
        "@id(\"p\") permit (principal in Stage::\"transform\", action, resource) when { Team::\"a\".size > 3 };",
    );
    let team = (
        "entities.json",
        "[{\"uid\": {\"type\": \"Team\", \"id\": \"a\"}, \"attrs\": {\"size\": 7}}, \
                 {\"uid\": {\"type\": \"Workload\", \"id\": \"spiffe://pipeline.example/ns/etl/sa/transform\"}, \"parents\": [{\"type\": \"Stage\", \"id\": \"transform\"}]}]",
    );
    let dir = directory(&[own, policy, team, ("portcullis.cedarschema", SHIPPED_SCHEMA)]);
    let policies =
        PolicyGeneration::load(&source(dir.path()), 1).unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("a"))), outcome(Outcome::Allowed, &["p"]));

    let dir = directory(&[("own.cedarschema", "entity Bucket;")]);
    let errors = PolicyGeneration::load(&source(dir.path()), 1).expect_err("refused").to_string();
    assert!(errors.contains("own.cedarschema") && errors.contains("Bucket"), "{errors}");
    let dir = directory(&[("portcullis.cedarschema", "entity Bucket;")]);
    let errors = PolicyGeneration::load(&source(dir.path()), 1).expect_err("refused").to_string();
    assert!(errors.contains("is not the schema that this version of portcullis ships"), "{errors}");
}

#[test]
fn a_reload_takes_only_what_changed_and_a_bad_one_leaves_the_last_good_in_force() {
    let dir = directory(&[("a.cedar", READS), ("entities.json", ENTITIES)]);
    let store = PolicyStore::open(source(dir.path())).expect("opens");
    let first = store.current();
    let principal = first.principal(&SpiffeId::parse(TRANSFORM).expect("id"));
    assert_eq!(store.reload().expect("reads"), Reloaded::Unchanged);

    std::fs::write(dir.path().join("a.cedar"), "permit").expect("writes");
    assert!(store.reload().expect_err("bad").to_string().contains("a.cedar:1:"));
    assert_eq!((store.current().number(), store.current().digest()), (1, first.digest()));

    std::fs::write(dir.path().join("a.cedar"), READS.replace("lake/raw/in", "lake/raw/out")).expect("writes");
    assert_eq!(store.reload().expect("loads"), Reloaded::Swapped(2));
    let second = store.current();
    assert_ne!(second.digest(), first.digest());
    // A principal of the generation before is made anew, never misread.
    let asked = s3("s3:GetObject", raw("out/a"));
    assert_eq!(second.decide(&principal, &asked, &facts()).outcome, Outcome::Allowed);
    assert_eq!(first.decide(&principal, &asked, &facts()).outcome, Outcome::NotPermitted);
}

#[test]
fn a_role_table_that_names_a_stage_that_nobody_is_in_is_a_warning_or_refused() {
    let directory = directory(&[("a.cedar", READS), ("entities.json", ENTITIES)]);
    let named = |stage: &str| PolicySource { stages: vec![stage.to_owned()], ..source(directory.path()) };
    assert!(PolicyGeneration::load(&named("transform"), 1).expect("loads").warnings().is_empty());
    let policies = PolicyGeneration::load(&named("tranform"), 1).expect("loads");
    let warnings: Vec<_> = policies.warnings().iter().map(|w| (w.message(), w.advice().unwrap_or_default())).collect();
    let message = "`roles` of a listener names `Stage::\"tranform\"`, and nothing is in it";
    assert_eq!(warnings, [(message, "did you mean `Stage::\"transform\"`?")]);
    let strict = PolicySource { refuse_unknown_names: true, ..named("tranform") };
    assert_eq!(PolicyGeneration::load(&strict, 1).expect_err("refused").problems()[0].message(), message);
}

#[test]
fn a_bound_on_rows_is_a_number_and_stands_on_a_permit() {
    let with = |annotated: &str| load(&format!("@id(\"bounded\") {annotated} (principal, action, resource);"));
    with("@max_rows(\"5\") permit").expect("loads");
    for (annotated, message) in [
        ("@max_rows(\"5\") forbid", "`@max_rows` has no effect on a forbid"),
        ("@max_rows(\"0\") permit", "`@max_rows` is no number of rows from 1 on"),
        ("@max_rows(\"lots\") permit", "`@max_rows` is no number of rows from 1 on"),
    ] {
        let refused = with(annotated).expect_err(annotated);
        assert_eq!(refused.problems()[0].message(), message, "{annotated}");
    }
}

#[test]
fn an_empty_directory_denies_and_warns_and_a_missing_one_is_an_error() {
    let dir = directory(&[]);
    let policies = PolicyGeneration::load(&source(dir.path()), 1).expect("loads");
    assert_eq!(decide(&policies, TRANSFORM, &s3("s3:GetObject", raw("a"))), outcome(Outcome::NotPermitted, &[]));
    assert!(policies.warnings()[0].message().contains("everything is denied"));
    let errors = PolicyGeneration::load(&source(&dir.path().join("none")), 1).expect_err("missing").to_string();
    assert!(errors.contains("policy directory cannot be read"), "{errors}");
}

#[test]
fn policies_for_every_protocol_stand_in_one_directory() {
    let policies = loaded(
        "@id(\"encrypted\") permit (principal in Stage::\"transform\", action == Action::\"s3:PutObject\", resource in Bucket::\"lake/curated\")
         when { [\"UploadPart\", \"CompleteMultipartUpload\"].contains(context.operation) || (context has encryption && context.encryption == \"aws:kms\") };
         @id(\"no-pii\") permit (principal in Stage::\"transform\", action in [Action::\"sql:Select\", Action::\"sql:Insert\"], resource in Schema::\"warehouse/analytics.sales\")
         unless { context.columns.containsAny([\"ssn\", \"date_of_birth\"]) };
         @id(\"kept\") forbid (principal, action in Action::\"delete\", resource in Database::\"warehouse/analytics\");
         @id(\"dial\") permit (principal in Stage::\"transform\", action == Action::\"tcp:Connect\", resource == Endpoint::\"lake\");",
    );
    assert_eq!(policies.inactive().iter().map(|id| &**id).collect::<Vec<_>>(), ["no-pii", "kept"]);
    let dial = Operation {
        action: Action::named("tcp:Connect"),
        resource: Resource::endpoint("lake"),
        context: Context::default(),
    };
    assert_eq!(decide(&policies, TRANSFORM, &dial), outcome(Outcome::Allowed, &["dial"]));
    assert_eq!(decide(&policies, STRANGER, &dial), outcome(Outcome::NotPermitted, &[]));
    let mut part = s3("s3:PutObject", Resource::object("lake", "curated", "a"));
    assert_eq!(decide(&policies, TRANSFORM, &part), outcome(Outcome::NotPermitted, &[]));
    part.context.set("encryption", "aws:kms");
    assert_eq!(decide(&policies, TRANSFORM, &part), outcome(Outcome::Allowed, &["encrypted"]));
}

#[test]
fn of_policies_that_are_alike_each_faulty_one_is_reported() {
    let policy = |n: usize, what: &str| {
        format!(
            "@id(\"p{n}\")\npermit (principal in Stage::\"transform\", action == Action::\"s3:GetObject\", resource {what});\n"
        )
    };
    let text: String = (0..3)
        .map(|n| policy(n, &format!("== Bucket::\"lake/b{n}\"")))
        .chain([policy(3, "in Bucket::\"lake/raw\"")])
        .collect();
    let errors = load(&text).expect_err("refused");
    let lines: Vec<_> = errors.problems().iter().filter_map(|p| p.position()).map(|(line, _)| line).collect();
    assert_eq!(lines, [2, 4, 6], "{errors}");
    // One entity twice is not two entities.
    for (second, is_refused) in [("lake/raw", true), ("lake/b", false)] {
        let policy = format!(
            "@id(\"a\") permit (principal in Stage::\"transform\", action, resource) when {{ Bucket::\"lake/a\" != Bucket::\"lake/b\" }};\n\
             @id(\"b\") permit (principal in Stage::\"transform\", action, resource) when {{ Bucket::\"lake/raw\" != Bucket::\"{second}\" }};"
        );
        assert_eq!(load(&policy).is_err(), is_refused, "{second}");
    }
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
