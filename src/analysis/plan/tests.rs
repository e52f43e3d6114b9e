use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Map, Value as Json, json};
use tempfile::TempDir;

use super::{Plan, Solver, plan};
use crate::analysis::question::Question;
use crate::identity::SpiffeId;
use crate::mapping::TagsRead;
use crate::policy::{PolicyErrors, PolicyGeneration, PolicySource};

const ENTITIES: &str = r#"[
  {"uid": {"type": "Workload", "id": "spiffe://one.example/ns/etl/sa/a"}, "parents": [{"type": "Stage", "id": "s1"}], "tags": {"team": ["data"]}},
  {"uid": {"type": "Workload", "id": "spiffe://one.example/ns/ml"}, "parents": [{"type": "Stage", "id": "s2"}]},
  {"uid": {"type": "Bucket", "id": "lake/raw"}, "parents": [{"type": "Group", "id": "g"}], "tags": {"kind": ["pii"]}},
  {"uid": {"type": "Table", "id": "wh/db.public.people"}, "parents": [{"type": "Group", "id": "g"}]}
]"#;

fn load(policies: &str, entities: &str) -> Result<PolicyGeneration, PolicyErrors> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.cedar"), policies).unwrap();
    fs::write(folder.path().join("entities.json"), entities).unwrap();
    PolicyGeneration::load(&PolicySource::of(folder.path()), 1)
}

fn generation(policies: &str, entities: &str) -> PolicyGeneration {
    load(policies, entities).unwrap_or_else(|errors| panic!("{policies}\n{errors}"))
}

fn planned(old: &str, new: &str, solver: &Solver) -> Plan {
    plan(&generation(old, ENTITIES), &generation(new, ENTITIES), solver).unwrap()
}

fn nowhere() -> Solver {
    Solver { program: "/nowhere/cvc5".into(), timeout: Duration::from_secs(1) }
}

/// A program in the place of the solver.
fn program(text: &str) -> (TempDir, Solver) {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("solver");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, Solver { program: path, timeout: Duration::from_millis(200) })
}

const S1_READS_RAW: &str =
    "@id(\"a\") permit (principal in Stage::\"s1\", action in Action::\"read\", resource in Bucket::\"lake/raw\")";

#[test]
fn a_permit_without_conditions_needs_no_solver() {
    let old = format!("{S1_READS_RAW};");
    let new = format!(
        "{old}\n@id(\"b\") permit (principal in Stage::\"s1\", action == Action::\"s3:DeleteObject\", resource in Prefix::\"lake/raw/tmp\");"
    );
    let grown = planned(&old, &new, &nowhere());
    assert!(grown.grows() && grown.shrinks.is_empty() && grown.unproved.is_empty(), "{}", grown.text());
    let [change] = grown.grows.as_slice() else { panic!("{}", grown.text()) };
    assert_eq!(change.request, "DELETE s3://lake/raw/tmp/x");
    assert_eq!(change.principal, "spiffe://one.example/ns/etl/sa/a");
    assert_eq!((&*change.old.policies, &*change.new.policies), (&[][..], &["b".to_owned()][..]));
    assert_eq!(grown.asked, 0);

    let shrunk = planned(&new, &old, &nowhere());
    assert!(!shrunk.grows() && shrunk.is_proved() && shrunk.shrinks.len() == 1, "{}", shrunk.text());
    let same = planned(&old, &old.replace("\"a\"", "\"renamed\""), &nowhere());
    assert!(!same.grows() && same.is_proved() && same.shrinks.is_empty(), "{}", same.text());
}

#[test]
fn a_forbid_that_goes_is_growth_and_one_that_comes_is_not() {
    let permit = format!("{S1_READS_RAW};");
    let forbid = format!("{permit}\n@id(\"f\") forbid (principal, action, resource in Prefix::\"lake/raw/secret\");");
    let grown = planned(&forbid, &permit, &nowhere());
    assert_eq!(grown.grows.first().map(|change| change.request.as_str()), Some("GET s3://lake/raw/secret/x"));
    assert!(!planned(&permit, &forbid, &nowhere()).grows());
}

#[test]
fn a_workload_that_joins_a_stage_is_growth() {
    let policies = format!("{S1_READS_RAW};");
    let more = ENTITIES.replace("\"id\": \"s2\"", "\"id\": \"s1\"");
    let grown = plan(&generation(&policies, ENTITIES), &generation(&policies, &more), &nowhere()).unwrap();
    assert_eq!(grown.grows.first().map(|change| change.principal.as_str()), Some("spiffe://one.example/ns/ml"));
    let less = plan(&generation(&policies, &more), &generation(&policies, ENTITIES), &nowhere()).unwrap();
    assert!(!less.grows() && less.is_proved() && !less.shrinks.is_empty(), "{}", less.text());
}

#[test]
fn partitions_are_in_the_tables_that_they_are_a_part_of() {
    let permit = "@id(\"p\") permit (principal in Stage::\"s1\", action in Action::\"read\", resource in Table::\"wh/db.public.orders\");";
    let forbid =
        format!("{permit}\n@id(\"f\") forbid (principal, action, resource in Table::\"wh/db.public.people\");");
    let grown = planned(&forbid, permit, &nowhere());
    assert!(grown.grows.iter().any(|change| change.resource.contains("partition")), "{}", grown.text());
}

#[test]
fn what_is_in_the_resource_is_known_without_a_solver() {
    let permit = |condition: &str| {
        format!(
            "@id(\"a\") permit (principal in Stage::\"s1\", action == Action::\"sql:Drop\", resource) when {{ {condition} }};"
        )
    };
    let people = permit("Table::\"wh/db.public.people\" in resource");
    let grown = planned(&format!("{S1_READS_RAW};"), &people, &nowhere());
    assert!(grown.is_proved(), "{}", grown.text());
    let resources: Vec<&str> = grown.grows.iter().map(|change| change.resource.as_str()).collect();
    for expected in ["Table::\"wh/db.public.people\"", "Schema::\"wh/db.public\"", "Database::\"wh/db\""] {
        assert!(resources.contains(&expected), "{expected}: {resources:?}");
    }
    assert!(resources.iter().all(|resource| !resource.contains("orders") && !resource.contains("x")), "{resources:?}");
    // Less is in the database's schemas than in the database, and nothing is in another one.
    let elsewhere = permit("Table::\"wh/db.public.people\" in resource && !(Schema::\"wh/db.public\" in resource)");
    let shrunk = planned(&people, &elsewhere, &nowhere());
    assert!(!shrunk.grows() && shrunk.is_proved() && !shrunk.shrinks.is_empty(), "{}", shrunk.text());
    // By entities.json too: the table is in a Group.
    let lint = crate::analysis::lint(&generation(&people, ENTITIES), &nowhere()).unwrap();
    assert!(lint.not_checked.is_empty(), "{:?}", lint.not_checked);
}

#[test]
fn what_hangs_on_conditions_is_not_proved_without_a_solver() {
    let old = format!("{S1_READS_RAW} when {{ context.now < datetime(\"2030-01-01\") }};");
    let new = format!("{S1_READS_RAW} when {{ context.now < datetime(\"2029-01-01\") }};");
    let (_keep, hangs) = program("exec sleep 1000");
    let (_keep_too, rubbish) = program("while read -r line; do echo rubbish; done");
    let (_keep_three, ends) = program("exit 1");
    for (what, solver) in [("missing", nowhere()), ("hangs", hangs), ("prints rubbish", rubbish), ("ends", ends)] {
        let began = Instant::now();
        let plan = planned(&old, &new, &solver);
        assert!(!plan.grows() && !plan.is_proved(), "{what}: {}", plan.text());
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
    }
    let says = planned(&old, &new, &nowhere());
    let why = if cfg!(feature = "prove") { "apt-get install cvc5" } else { "--features prove" };
    assert!(says.text().contains(why), "{}", says.text());
}

/// Says that there is no counterexample to anything: the program itself is trusted, what stands in its place is not tested for lies.
#[cfg(feature = "prove")]
#[test]
fn conditions_are_compared_by_the_solver() {
    let permit = |condition: &str| format!("{S1_READS_RAW} when {{ {condition} }};");
    let narrower = [
        ("context.now < datetime(\"2030-01-01\")", "context.now < datetime(\"2029-01-01\")"),
        ("context has host", "context has host && context.host like \"a*\""),
        (
            "context has sourceIp && context.sourceIp.isInRange(ip(\"10.0.0.0/8\"))",
            "context has sourceIp && context.sourceIp.isInRange(ip(\"10.1.0.0/16\"))",
        ),
        (
            "context.headers.hasTag(\"x\")",
            "context.headers.hasTag(\"x\") && context.headers.getTag(\"x\").contains(\"1\")",
        ),
        ("principal.path like \"/ns/*\"", "principal.path like \"/ns/etl/*\" && context.direction == \"inbound\""),
        (
            "context has contentLength && context.contentLength < 100",
            "context has contentLength && context.contentLength < 10",
        ),
    ];
    for (wide, narrow) in narrower {
        let shrunk = planned(&permit(wide), &permit(narrow), &Solver::default());
        assert!(!shrunk.grows() && shrunk.is_proved(), "{wide} to {narrow}: {}", shrunk.text());
        assert!(!shrunk.shrinks.is_empty(), "{wide} to {narrow}: {}", shrunk.text());
        let grown = planned(&permit(narrow), &permit(wide), &Solver::default());
        assert!(grown.grows() && grown.shrinks.is_empty(), "{narrow} to {wide}: {}", grown.text());
    }
}

#[test]
fn a_request_that_there_cannot_be_is_no_growth() {
    let permit = |when: &str| {
        format!(
            "@id(\"p\") permit (principal in Stage::\"s1\", action == Action::\"s3:PutObject\", resource in Bucket::\"lake/b\") when {{ {when} }};"
        )
    };
    for (never, sometimes) in [
        ("context.direction == \"INBOUND\"", "context.direction == \"inbound\""),
        (
            "context has contentLength && context.contentLength < 0",
            "context has contentLength && context.contentLength < 1",
        ),
    ] {
        let same = planned("", &permit(never), &Solver::default());
        assert!(!same.grows() && same.is_proved(), "{never}: {}", same.text());
        let grown = planned("", &permit(sometimes), &Solver::default());
        assert!(grown.grows(), "{sometimes}: {}", grown.text());
    }
}

/// What a plan costs is what the solver is asked: a bound on the questions holds on any machine.
#[test]
fn changes_that_are_alike_are_asked_once_and_others_once_each() {
    let policies = |hour: usize, step: usize| -> String {
        let policy = |n: usize| {
            let (stage, minute) = (n % 2 + 1, n * step);
            format!(
                "@id(\"p{n}\") permit (principal in Stage::\"s{stage}\", action in [Action::\"s3:GetObject\", Action::\"write\"], \
                 resource in Bucket::\"lake/b{n}\") when {{ context.now.toTime() < duration(\"{hour}h{minute}m\") }};\n"
            )
        };
        (0..50).map(policy).collect()
    };
    // Reads and writes, each in both directions.
    let alike = planned(&policies(8, 0), &policies(9, 0), &nowhere());
    assert!(alike.compared > 100 && alike.asked <= 4, "{} of {}", alike.asked, alike.compared);
    let all_differ = planned(&policies(8, 1), &policies(9, 1), &nowhere());
    assert!((51..=200).contains(&all_differ.asked), "{} of {}", all_differ.asked, all_differ.compared);
}

#[test]
fn a_policy_that_can_fail_denies_and_to_take_it_away_is_growth() {
    let permit = format!("{S1_READS_RAW};");
    let fails = format!(
        "{permit}\n@id(\"f\") forbid (principal, action in Action::\"read\", resource is Object) when {{ context has contentLength && context.contentLength + 9223372036854775807 < 0 }};"
    );
    for solver in [nowhere(), Solver::default()] {
        let plan = planned(&fails, &permit, &solver);
        assert!(plan.grows() || !plan.is_proved(), "{}", plan.text());
    }
}

const PRINCIPALS: [&str; 6] = [
    "principal",
    "principal in Stage::\"s1\"",
    "principal in Stage::\"s2\"",
    "principal in TrustDomain::\"one.example\"",
    "principal == Workload::\"spiffe://one.example/ns/etl/sa/a\"",
    "principal in Workload::\"spiffe://one.example/ns\"",
];
/// Of a store, and of anything else.
const ACTIONS: [[&str; 4]; 2] = [
    [
        "action",
        "action in Action::\"read\"",
        "action == Action::\"s3:GetObject\"",
        "action in [Action::\"s3:PutObject\", Action::\"delete\"]",
    ],
    [
        "action",
        "action in Action::\"read\"",
        "action in [Action::\"sql:Select\", Action::\"http:GET\"]",
        "action in [Action::\"http:DELETE\", Action::\"read\"]",
    ],
];
const RESOURCES: [[&str; 7]; 2] = [
    [
        "resource",
        "resource in Endpoint::\"lake\"",
        "resource in Bucket::\"lake/raw\"",
        "resource in Prefix::\"lake/raw/a\"",
        "resource == Object::\"lake/raw/a/k\"",
        "resource in Group::\"g\"",
        "resource is Object",
    ],
    [
        "resource",
        "resource in Endpoint::\"wh\"",
        "resource in Table::\"wh/db.public.people\"",
        "resource in Table::\"wh/db.public.other\"",
        "resource in HttpPath::\"api/a\"",
        "resource in Group::\"g\"",
        "resource in Schema::\"wh/db.public\"",
    ],
];
const CONDITIONS: [&str; 16] = [
    "principal in Stage::\"s2\"",
    "principal.hasTag(\"team\") && principal.getTag(\"team\").contains(\"data\")",
    "resource in Prefix::\"lake/raw/a\"",
    "resource.hasTag(\"kind\") && resource.getTag(\"kind\").contains(\"pii\")",
    "[Action::\"s3:GetObject\"].contains(action)",
    "context.direction == \"inbound\"",
    "context.direction != \"outbound\"",
    "context.now < datetime(\"2026-06-01\")",
    "context.now < datetime(\"2027-06-01\")",
    "principal.path like \"/ns/etl/*\"",
    "principal has namespace && principal.namespace == \"etl\"",
    "context has sourceIp && context.sourceIp.isInRange(ip(\"10.0.0.0/8\"))",
    "context has sourceIp && context.sourceIp.isInRange(ip(\"10.2.0.0/16\"))",
    "context has sourceIp",
    "principal.trustDomain == \"one.example\" || context.direction == \"outbound\"",
    "action in Action::\"delete\"",
];

fn policies(rng: &mut Rng) -> Vec<String> {
    (0..rng.usize(1..5))
        .map(|_| {
            let effect = if rng.u8(..3) == 0 { "forbid" } else { "permit" };
            let conditions: String = (0..rng.usize(..3))
                .map(|_| {
                    let of = |rng: &mut Rng| CONDITIONS[rng.usize(..CONDITIONS.len())];
                    let (kind, operator) = (["when", "unless"][rng.usize(..2)], ["&&", "||"][rng.usize(..2)]);
                    format!(" {kind} {{ ({}) {operator} ({}) }}", of(rng), of(rng))
                })
                .collect();
            let (who, family) = (PRINCIPALS[rng.usize(..PRINCIPALS.len())], rng.usize(..2));
            let (what, of) = (ACTIONS[family][rng.usize(..4)], RESOURCES[family][rng.usize(..7)]);
            format!("{effect} ({who}, {what}, {of}){conditions};")
        })
        .collect()
}

fn with_ids(policies: &[String]) -> String {
    policies.iter().enumerate().map(|(number, policy)| format!("@id(\"p{number}\") {policy}\n")).collect()
}

/// Whether some of a few thousand requests is allowed by `new` and not by `old`.
fn grows_by_force(old: &PolicyGeneration, new: &PolicyGeneration) -> Option<String> {
    const WORKLOADS: [&str; 6] = [
        "spiffe://one.example/ns/etl/sa/a",
        "spiffe://one.example/ns/etl/sa/b",
        "spiffe://one.example/ns/ml/x",
        "spiffe://one.example/y",
        "spiffe://two.example/ns/etl/sa/a",
        "spiffe://two.example/z",
    ];
    const ASKED: [(&str, &str); 13] = [
        ("s3:GetObject", "Object::\"lake/raw/a/k\""),
        ("s3:GetObject", "Object::\"lake/raw/a/l\""),
        ("s3:GetObject", "Object::\"lake/raw/b\""),
        ("s3:GetObject", "Object::\"lake/other/b\""),
        ("s3:GetObjectAcl", "Object::\"lake/raw/a/k\""),
        ("s3:PutObject", "Object::\"lake/raw/a/l\""),
        ("s3:DeleteObject", "Object::\"lake/raw/b\""),
        ("s3:ListBucket", "Bucket::\"lake/raw\""),
        ("s3:ListBucket", "Prefix::\"lake/raw/a\""),
        ("sql:Select", "Table::\"wh/db.public.people\""),
        ("sql:Select", "Table::\"wh/db.public.other\""),
        ("http:GET", "HttpPath::\"api/a/b\""),
        ("http:DELETE", "HttpPath::\"api/c\""),
    ];
    let contexts: Vec<Map<String, Json>> =
        [("inbound", "2026-01-01"), ("outbound", "2027-01-01"), ("inbound", "2028-01-01")]
            .into_iter()
            .flat_map(|(direction, day)| {
                [None, Some("10.1.1.1"), Some("10.2.1.1"), Some("192.168.1.1")].map(|address| {
                    let mut context = Map::new();
                    context.insert("direction".to_owned(), json!(direction));
                    context.insert("now".to_owned(), json!(format!("{day}T00:00:00Z")));
                    context.extend(address.map(|address| ("sourceIp".to_owned(), json!(address))));
                    context
                })
            })
            .collect();
    for workload in WORKLOADS {
        let id = SpiffeId::parse(workload).unwrap();
        let (before, after) = (old.principal(&id), new.principal(&id));
        for (action, resource) in ASKED {
            for context in &contexts {
                let question = Question::of_action(action, resource).with_context(context.clone());
                let asked = question.asked((&TagsRead::All).into()).unwrap();
                let operation = asked.operations.unwrap().first().clone();
                if new.decide(&after, &operation, &asked.facts).outcome.is_allowed()
                    && !old.decide(&before, &operation, &asked.facts).outcome.is_allowed()
                {
                    return Some(format!("{workload} {action} {resource} {context:?}"));
                }
            }
        }
    }
    None
}

/// `PORTCULLIS_PLAN_SETS=N` compares N pairs instead of a few.
#[test]
fn what_is_said_not_to_grow_grows_for_no_request() {
    let sets: u64 = std::env::var("PORTCULLIS_PLAN_SETS").ok().and_then(|sets| sets.parse().ok()).unwrap_or(40);
    let entities = [
        ENTITIES.to_owned(),
        ENTITIES.replace("\"id\": \"s2\"", "\"id\": \"s1\""),
        ENTITIES.replace("\"pii\"", "\"open\"").replace("\"data\"", "\"web\""),
    ];
    let (mut proved, mut grown, mut open) = (0, 0, 0);
    let mut seed = 0;
    while proved + grown + open < sets {
        seed += 1;
        let mut rng = Rng::with_seed(seed);
        let old = policies(&mut rng);
        // Half of them differ by little.
        let mut new = if rng.bool() { policies(&mut rng) } else { old.clone() };
        if rng.bool() {
            new.extend(policies(&mut rng).into_iter().take(1));
        } else if new.len() > 1 {
            new.remove(rng.usize(..new.len()));
        }
        let (before, after) = (&entities[rng.usize(..2)], &entities[rng.usize(..3)]);
        let (old, new) = (with_ids(&old), with_ids(&new));
        // Some can never match, which is refused at load.
        let (Ok(before), Ok(after)) = (load(&old, before), load(&new, after)) else { continue };
        let solver = if rng.u8(..4) == 0 { nowhere() } else { Solver::default() };
        let plan = plan(&before, &after, &solver).unwrap();
        let by_force = grows_by_force(&before, &after);
        let said = plan.text();
        match (plan.grows(), plan.is_proved()) {
            (true, _) => grown += 1,
            (false, false) => open += 1,
            (false, true) => {
                proved += 1;
                assert_eq!(by_force, None, "seed {seed}\n{old}\n{new}\n{said}");
            }
        }
    }
    println!("{grown} grow, {proved} do not, {open} are not proved");
    assert!(proved > 0 && grown > 0, "{grown} grow, {proved} do not, {open} are not proved");
}
