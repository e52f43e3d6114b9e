//! How one could get a wrong answer out of a memory, and does not.

use std::sync::Arc;
use std::thread;

use cedar_policy::{Policy, PolicyId};

use super::super::builder::Compilable;
use super::super::compiled::Engine;
use super::{Memory, Shape};
use crate::identity::SpiffeId;
use crate::mapping::{Action, Context, Operation, Resource, Value};
use crate::policy::decision::{Decision, Outcome};
use crate::policy::load::{Problems, Reads, SourceFile, StaticEntities};
use crate::policy::schema;

const ADA: &str = "spiffe://one.example/ada";
const BOB: &str = "spiffe://one.example/bob";

fn engine_with(policies: &[&str], entities: &str) -> Engine {
    let schema = schema::merge(&[], &mut Problems::default()).unwrap();
    let mut problems = Problems::default();
    let entities = StaticEntities::parse(&[SourceFile::new("entities.json", entities)], &schema.schema, &mut problems);
    problems.verdict().unwrap();
    let parse = |(n, text): (usize, &&str)| Policy::parse(Some(PolicyId::new(format!("p{n}"))), text).expect(text);
    let compilable = |policy: Policy| {
        let reads = Arc::new(Reads::of(&policy));
        Compilable { id: policy.id().to_string().into(), policy, reads }
    };
    let policies = policies.iter().enumerate().map(parse).map(compilable);
    Engine::compile(policies, &entities, schema).unwrap()
}

fn engine(policies: &[&str]) -> Engine {
    engine_with(policies, "[]")
}

#[derive(Clone)]
struct Asked {
    who: &'static str,
    operation: Operation,
    facts: Context,
}

fn asked(action: &'static str, resource: Resource) -> Asked {
    let mut context = Context::default();
    if action.starts_with("s3:") {
        context.set("operation", "PutObject");
        context.set("byVersion", false);
        context.set("presigned", false);
    }
    if action.starts_with("sql:") {
        context.set("columns", Value::Strings(Vec::new()));
        context.set("statement", "select");
        context.set("role", "reader");
    }
    let mut facts = Context::default();
    facts.set("now", Value::Datetime(1_700_000_000_000));
    facts.set("direction", "inbound");
    Asked { who: ADA, operation: Operation { action: Action::named(action), resource, context }, facts }
}

fn put(key: &str) -> Asked {
    asked("s3:PutObject", Resource::object("lake", "raw", key))
}

impl Asked {
    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.operation.context.set(name, value);
        self
    }

    fn by(self, who: &'static str) -> Self {
        Self { who, ..self }
    }

    fn token(mut self, subject: &str, claims: &[(&str, &str)]) -> Self {
        let claims = claims.iter().map(|(name, value)| ((*name).into(), vec![(*value).into()])).collect();
        let fields = vec![
            ("iss", "https://login.example".into()),
            ("sub", subject.into()),
            ("aud", Value::Strings(vec!["lake".into()])),
            ("expires", Value::Datetime(0)),
            ("claims", Value::Claims(claims)),
        ];
        self.facts.set("token", Value::Record(fields));
        self
    }

    fn of(&self, engine: &Engine) -> Decision {
        engine.decide(&engine.principal(&SpiffeId::parse(self.who).unwrap()), &self.operation, &self.facts)
    }
}

/// Asks these in turn, three times round: the first answers are the last ones, and the last ones come from memory. Then of memories that put
/// out what they have just taken in, and whose hashes tell nothing apart, so that only what is compared does.
fn told_apart(engine: &mut Engine, cases: &[(Asked, Outcome)]) {
    all_from_memory(engine, cases);
    let blind = Shape { hash: 0, ..Shape::USUAL };
    let tiny = Shape { place_sets: 1, answer_sets: 1, ..Shape::USUAL };
    let tight = Shape { place_bytes: 1_000, answer_bytes: 1_000, ..blind };
    for shape in [blind, tiny, Shape { hash: 1, ..tiny }, tight] {
        engine.memory = Memory::of(shape);
        for round in 0..4 {
            for (n, (asked, expected)) in cases.iter().enumerate() {
                for again in [false, true] {
                    assert_eq!(
                        asked.of(engine).outcome,
                        *expected,
                        "question {n} again {again}, round {round}, {shape:?}"
                    );
                }
            }
        }
        assert!(engine.recalled() >= 4 * cases.len(), "{} from memory, {shape:?}", engine.recalled());
    }
}

fn all_from_memory(engine: &Engine, cases: &[(Asked, Outcome)]) {
    for round in 0..3 {
        let hits = engine.recalled();
        for (n, (asked, expected)) in cases.iter().enumerate() {
            assert_eq!(asked.of(engine).outcome, *expected, "question {n}, round {round}");
        }
        let hits = engine.recalled() - hits;
        assert_eq!(hits, if round == 0 { 0 } else { cases.len() }, "from memory in round {round}");
    }
}

use Outcome::{Allowed, Error, Forbidden, NotPermitted};

#[test]
fn a_value_that_a_candidate_reads_tells_questions_apart_and_so_does_its_absence() {
    let mut engine = engine(&[
        r#"permit (principal, action == Action::"s3:PutObject", resource);"#,
        r#"forbid (principal, action, resource) unless { context has encryption && context.encryption == "aws:kms" };"#,
    ]);
    told_apart(
        &mut engine,
        &[
            (put("k").with("encryption", "aws:kms"), Allowed),
            (put("k").with("encryption", "AES256"), Forbidden),
            (put("k"), Forbidden),
            (put("k").with("encryption", ""), Forbidden),
        ],
    );
}

#[test]
fn what_no_candidate_reads_does_not() {
    let engine = engine(&[
        r#"permit (principal, action, resource in Bucket::"lake/raw");"#,
        r#"forbid (principal, action == Action::"http:GET", resource) when { context.headers.hasTag("x") };"#,
    ]);
    for n in 0..100 {
        let mut asked = put(&format!("a/{n}/b")).with("contentLength", i64::from(n)).with("storageClass", "x");
        asked.facts.set("sourceIp", Value::Ip([10, 0, 0, n].into()));
        assert_eq!(asked.of(&engine).outcome, Allowed);
    }
    assert_eq!(engine.recalled(), 99);
    assert_eq!(engine.memory.size().1, 1);
}

#[test]
fn resources_are_told_apart_by_all_that_policies_name_and_by_their_tags() {
    let mut engine = engine_with(
        &[
            r#"permit (principal, action, resource in Bucket::"lake/raw");"#,
            r#"forbid (principal, action, resource) when { resource == Object::"lake/raw/a/secret" };"#,
            r#"forbid (principal, action, resource) when { resource in Group::"closed" };"#,
            r#"forbid (principal, action, resource) when { resource.hasTag("pii") && resource.getTag("pii").contains("yes") };"#,
        ],
        r#"[{"uid": {"type": "Prefix", "id": "lake/raw/b"}, "parents": [{"type": "Group", "id": "closed"}]},
            {"uid": {"type": "Prefix", "id": "lake/raw/c"}, "tags": {"pii": ["yes"]}},
            {"uid": {"type": "Prefix", "id": "lake/raw/c/d"}, "tags": {"pii": ["no"]}}]"#,
    );
    let get = |resource| asked("s3:PutObject", resource);
    told_apart(
        &mut engine,
        &[
            (put("a/k"), Allowed),
            (put("a/secret"), Forbidden),
            (put("b/k"), Forbidden),
            (put("c/k"), Forbidden),
            (put("c/d/k"), Allowed),
            (get(Resource::object("lake", "other", "a/k")), NotPermitted),
        ],
    );
}

#[test]
fn what_holds_something_that_a_condition_looks_for_is_not_like_what_does_not() {
    let mut schemas = engine(&[
        "permit (principal, action, resource);",
        r#"forbid (principal, action in [Action::"delete", Action::"admin"], resource) when { Table::"wh/db.hr.people" in resource };"#,
    ]);
    let drop = |schema| asked("sql:Drop", Resource::schema("wh", "db", schema));
    told_apart(&mut schemas, &[(drop("scratch"), Allowed), (drop("hr"), Forbidden)]);

    let mut folders = engine(&[
        r#"permit (principal, action == Action::"s3:ListBucket", resource) when { Prefix::"lake/raw/a/b" in resource };"#,
    ]);
    let list = |resource| asked("s3:ListBucket", resource);
    told_apart(
        &mut folders,
        &[
            (list(Resource::prefix("lake", "raw", "a")), Allowed),
            (list(Resource::prefix("lake", "raw", "hr")), NotPermitted),
            (list(Resource::bucket("lake", "raw")), Allowed),
            (list(Resource::bucket("lake", "other")), NotPermitted),
        ],
    );
}

#[test]
fn a_partition_is_not_the_table_of_its_name_alone() {
    let mut engine = engine(&[
        "permit (principal, action, resource);",
        r#"forbid (principal, action, resource in Schema::"wh/db.hr");"#,
    ]);
    let table = |schema, name| Resource::table("wh", "db", schema, name);
    let part = || table("parts", "people_1");
    told_apart(
        &mut engine,
        &[
            (asked("sql:Select", part()), Allowed),
            (asked("sql:Select", part().partition_of([table("hr", "people")])), Forbidden),
        ],
    );
    let public = asked("sql:Select", part().partition_of([table("public", "people")]));
    assert_eq!(public.of(&engine).outcome, Allowed);
}

#[test]
fn the_kind_of_a_resource_that_nobody_names_is_a_part_of_the_question() {
    let mut engine = engine(&[r#"permit (principal, action, resource is Bucket);"#]);
    let list = |resource| asked("s3:ListBucket", resource);
    told_apart(
        &mut engine,
        &[(list(Resource::bucket("lake", "raw")), Allowed), (list(Resource::prefix("lake", "raw", "a")), NotPermitted)],
    );
}

#[test]
fn workloads_and_actions_are_told_apart_also_where_only_a_condition_looks_at_them() {
    let mut engine = engine(&[
        r#"permit (principal, action, resource) when { principal.path == "/ada" && action == Action::"s3:PutObject" };"#,
    ]);
    let delete = || asked("s3:DeleteObject", Resource::object("lake", "raw", "k"));
    told_apart(
        &mut engine,
        &[
            (put("k"), Allowed),
            (put("k").by(BOB), NotPermitted),
            (delete(), NotPermitted),
            (delete().by(BOB), NotPermitted),
        ],
    );
}

#[test]
fn tokens_are_told_apart_by_subject_and_claims() {
    let mut engine =
        engine(&[r#"permit (principal, action, resource) when { context has token && context.token.sub == "ada" &&
            context.token.claims.hasTag("g") && context.token.claims.getTag("g").contains("1") };"#]);
    told_apart(
        &mut engine,
        &[
            (put("k").token("ada", &[("g", "1")]), Allowed),
            (put("k").token("bob", &[("g", "1")]), NotPermitted),
            (put("k").token("ada", &[("g", "2")]), NotPermitted),
            (put("k").token("ada", &[("h", "1")]), NotPermitted),
            (put("k"), NotPermitted),
        ],
    );
}

#[test]
fn two_sets_of_policies_asked_in_turn_keep_their_answers_to_themselves() {
    let permits = engine(&["permit (principal, action, resource);"]);
    let forbids = engine(&["forbid (principal, action, resource);"]);
    // A connection's principal outlives the policies that it was made by.
    let principal = permits.principal(&SpiffeId::parse(ADA).unwrap());
    for _ in 0..3 {
        let Asked { operation, facts, .. } = put("k");
        assert_eq!(permits.decide(&principal, &operation, &facts).outcome, Allowed);
        assert_eq!(forbids.decide(&principal, &operation, &facts).outcome, Forbidden);
    }
    assert_eq!((permits.recalled(), forbids.recalled()), (2, 2));
}

#[test]
fn the_time_and_errors_are_not_remembered() {
    let office = engine(&[
        r#"permit (principal, action, resource) when { context.now < datetime("2024-01-01") };"#,
        r#"permit (principal, action == Action::"s3:DeleteObject", resource) when { context.encryption == "a" };"#,
    ]);
    for (now, outcome) in
        [(1_700_000_000_000, Allowed), (1_800_000_000_000, NotPermitted), (1_700_000_000_000, Allowed)]
    {
        let mut asked = put("k");
        asked.facts = Context::default();
        asked.facts.set("now", Value::Datetime(now));
        asked.facts.set("direction", "inbound");
        assert_eq!(asked.of(&office).outcome, outcome);
    }
    let errs = engine(&[r#"permit (principal, action, resource) when { context.encryption == "a" };"#]);
    for _ in 0..3 {
        let error = put("k").of(&errs);
        assert_eq!((error.outcome, error.policies.len()), (Error, 1));
        assert_eq!(put("k").with("encryption", "a").of(&errs).outcome, Allowed);
    }
    assert_eq!((office.recalled(), errs.recalled()), (0, 2));
}

#[test]
fn a_question_is_held_to_its_form_before_anything_is_recalled() {
    let engine = engine(&["permit (principal, action, resource);"]);
    assert_eq!(put("k").of(&engine).outcome, Allowed);
    assert_eq!(put("k").with("contentLength", "many").of(&engine).outcome, Error);
    assert_eq!(asked("sql:Select", Resource::object("lake", "raw", "k")).of(&engine).outcome, Outcome::Refused);
    assert_eq!(put("k").of(&engine).outcome, Allowed);
    assert_eq!(engine.recalled(), 1);
}

#[test]
fn a_flood_of_names_that_no_policy_knows_takes_no_room() {
    let engine = engine(&[r#"permit (principal, action, resource in Prefix::"lake/raw/a");"#]);
    for n in 0..20_000 {
        let key = if n % 2 == 0 { format!("a/{n}/{n}") } else { format!("{n}/b/c/d") };
        put(&key).of(&engine);
    }
    let (places, answers, _) = engine.memory.size();
    assert_eq!((places, answers, engine.recalled()), (2, 2, 19_998));
}

#[test]
fn a_flood_of_values_that_a_policy_reads_takes_bounded_room_and_leaves_what_is_asked_for() {
    let engine = engine(&[
        r#"permit (principal, action == Action::"s3:PutObject", resource) when { context.operation != "x" };"#,
        r#"permit (principal, action == Action::"s3:DeleteObject", resource);"#,
    ]);
    let Shape { place_sets, answer_sets, place_bytes, answer_bytes, .. } = Shape::USUAL;
    let most = place_sets * (place_bytes + 48) + answer_sets * (answer_bytes + 48);
    let asked_for = || asked("s3:DeleteObject", Resource::object("lake", "raw", "k"));
    asked_for().of(&engine);
    for n in 0..30_000 {
        let mut flood = put("k");
        flood.operation.context = Context::default();
        flood.operation.context.set("operation", format!("{n}{}", "y".repeat(n % 700)).as_str());
        flood.operation.context.set("byVersion", false);
        flood.operation.context.set("presigned", false);
        assert_eq!(flood.of(&engine).outcome, Allowed);
        if n % 10 == 0 {
            assert_eq!(asked_for().of(&engine).outcome, Allowed);
        }
    }
    let (_, answers, bytes) = engine.memory.size();
    assert!(bytes <= most, "{bytes} of {most} bytes");
    assert!(answers > 500 && answers <= 4 * answer_sets, "{answers} answers");
    assert!(engine.recalled() > 2_950, "{} of 3000", engine.recalled());
}

#[test]
fn what_is_too_long_is_decided_each_time() {
    let engine = engine(&[r#"permit (principal, action, resource) when { context.operation != "x" };"#]);
    for _ in 0..3 {
        let mut long = put("k");
        long.operation.context = Context::default();
        long.operation.context.set("operation", "y".repeat(Shape::USUAL.answer_bytes).as_str());
        long.operation.context.set("byVersion", false);
        long.operation.context.set("presigned", false);
        assert_eq!(long.of(&engine).outcome, Allowed);
    }
    assert_eq!((engine.recalled(), engine.memory.size().1), (0, 0));
}

#[test]
fn more_threads_than_tables_get_right_answers_and_wait_for_nobody() {
    let engine = engine(&[r#"permit (principal, action, resource) when { context.operation == "PutObject" };"#]);
    thread::scope(|scope| {
        for n in 0..3 * super::TABLES {
            let engine = &engine;
            scope.spawn(move || {
                for _ in 0..200 {
                    assert_eq!(put("k").of(engine).outcome, Allowed);
                    let mut other = put("k");
                    other.operation.context = Context::default();
                    other.operation.context.set("operation", format!("Other{n}").as_str());
                    other.operation.context.set("byVersion", false);
                    other.operation.context.set("presigned", false);
                    assert_eq!(other.of(engine).outcome, NotPermitted);
                }
            });
        }
    });
    let table = engine.memory.tables.first().unwrap();
    let held = table.lock().unwrap();
    // Whoever comes while somebody is at a table decides anew.
    thread::scope(|scope| {
        for _ in 0..2 * super::TABLES {
            scope.spawn(|| assert_eq!(put("k").of(&engine).outcome, Allowed));
        }
    });
    drop(held);
}

#[test]
fn what_is_remembered_is_not_printed() {
    let engine = engine(&[
        r#"permit (principal, action, resource) when { context has token && context.token.sub == "ada-lovelace" };"#,
    ]);
    assert_eq!(put("k").token("ada-lovelace", &[]).of(&engine).outcome, Allowed);
    let shown = format!("{:?}", engine.memory);
    assert!(shown.contains("Answer {") && !shown.contains("lovelace"), "{shown}");
}
