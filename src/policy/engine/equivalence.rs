//! The shortcut is right: random policies, entities and requests, decided here and by Cedar on everything.
//!
//! `PORTCULLIS_EQUIVALENCE_SETS=N` runs N policy sets (25 questions each) instead of 150; `PORTCULLIS_EQUIVALENCE_SEED` another series.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;
use std::sync::Arc;

use cedar_policy::{
    Authorizer, Context as CedarContext, Decision as CedarDecision, Entities, Entity, EntityUid, Policy, PolicyId,
    PolicySet, Request, RestrictedExpression as Expression, Schema,
};
use fastrand::Rng;
use serde_json::json;

use super::builder::Compilable;
use super::compiled::Engine;
use crate::identity::SpiffeId;
use crate::mapping::{Action, Context, Operation, Resource, Value};
use crate::policy::LoadedPolicy;
use crate::policy::decision::Outcome;
use crate::policy::load::{Problems, Reads, SourceFile, StaticEntities};
use crate::policy::schema;
use crate::policy::trace::{Verdict, traced_each};

const QUESTIONS: usize = 25;

const WORKLOADS: [&str; 5] = [
    "spiffe://one.example/ns/etl/sa/a",
    "spiffe://one.example/ns/etl/sa/b",
    "spiffe://one.example/ns/ml/c",
    "spiffe://two.example/x",
    "spiffe://two.example/x/y",
];
const ABOVE: [&str; 3] = ["spiffe://one.example/ns/etl", "spiffe://one.example/ns", "spiffe://two.example/x"];
const PRINCIPALS: [&str; 6] = [
    "TrustDomain::\"one.example\"",
    "TrustDomain::\"two.example\"",
    "Stage::\"s1\"",
    "Stage::\"s2\"",
    "Group::\"g1\"",
    "Group::\"g2\"",
];
const RESOURCES: [&str; 11] = [
    "Endpoint::\"lake\"",
    "Endpoint::\"api\"",
    "Bucket::\"lake/raw\"",
    "Prefix::\"lake/raw/a\"",
    "Prefix::\"lake/raw/a/b\"",
    "Object::\"lake/raw/a/b/k\"",
    "Object::\"lake/raw/k\"",
    "HttpPath::\"api/a\"",
    "HttpPath::\"api/a/b\"",
    "HttpPath::\"api/\"",
    "Group::\"g2\"",
];
const ACTIONS: [&str; 10] = [
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:ListBucket",
    "http:GET",
    "http:POST",
    "tcp:Connect",
    "read",
    "write",
    "delete",
];
const TYPES: [&str; 5] = ["Object", "Bucket", "HttpPath", "Endpoint", "Group"];

fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
    from[rng.usize(..from.len())]
}

fn principal(rng: &mut Rng) -> String {
    match rng.u8(..4) {
        0 => format!("Workload::\"{}\"", pick(rng, &WORKLOADS)),
        1 => format!("Workload::\"{}\"", pick(rng, &ABOVE)),
        _ => pick(rng, &PRINCIPALS).to_owned(),
    }
}

fn entity(rng: &mut Rng) -> String {
    if rng.bool() { principal(rng) } else { pick(rng, &RESOURCES).to_owned() }
}

fn actions(rng: &mut Rng) -> String {
    let action = |rng: &mut Rng| format!("Action::\"{}\"", pick(rng, &ACTIONS));
    match rng.u8(..6) {
        0 | 1 => "action".to_owned(),
        2 => format!("action == {}", action(rng)),
        3 => format!("action in {}", action(rng)),
        _ => format!("action in [{}, {}, {}]", action(rng), action(rng), action(rng)),
    }
}

fn scope(rng: &mut Rng) -> String {
    let who = match rng.u8(..7) {
        0 | 1 => "principal".to_owned(),
        2 => format!("principal == {}", principal(rng)),
        3 => "principal is Workload".to_owned(),
        4 => format!("principal is Workload in {}", principal(rng)),
        5 => "principal is Stage".to_owned(),
        _ => format!("principal in {}", principal(rng)),
    };
    let what = match rng.u8(..7) {
        0 | 1 => "resource".to_owned(),
        2 => format!("resource == {}", pick(rng, &RESOURCES)),
        3 => format!("resource is {}", pick(rng, &TYPES)),
        4 => format!("resource is {} in {}", pick(rng, &TYPES), pick(rng, &RESOURCES)),
        _ => format!("resource in {}", pick(rng, &RESOURCES)),
    };
    format!("{who}, {}, {what}", actions(rng))
}

/// A condition: some are ill-typed or err for some requests, as none that loads could be; the engine must agree all the same.
fn condition(rng: &mut Rng, depth: u8) -> String {
    if depth > 0 && rng.u8(..3) == 0 {
        let (a, b) = (condition(rng, depth - 1), condition(rng, depth - 1));
        return match rng.u8(..4) {
            0 => format!("({a} && {b})"),
            1 => format!("({a} || {b})"),
            2 => format!("!({a})"),
            _ => format!("(if {a} then {b} else true)"),
        };
    }
    let tag = pick(rng, &["t", "u"]);
    match rng.u8(..28) {
        24 => "context has token.amr && context.token.amr.contains(\"mfa\")".to_owned(),
        25 => "context has token && context.token.claims.hasTag(\"g\") && context.token.claims.getTag(\"g\").contains(\"1\")".to_owned(),
        26 => "context.token.sub == \"ada\"".to_owned(),
        27 => "context has token && context.token.claims.getTag(\"h\").contains(\"1\")".to_owned(),
        0 => format!("principal in {}", entity(rng)),
        1 => format!("resource in {}", entity(rng)),
        2 => format!("{} in {}", entity(rng), entity(rng)),
        3 => format!("action in Action::\"{}\"", pick(rng, &ACTIONS)),
        4 => format!("Action::\"{}\" in Action::\"{}\"", pick(rng, &ACTIONS), pick(rng, &ACTIONS)),
        5 => "context.direction == \"inbound\"".to_owned(),
        6 => "context has encryption && context.encryption == \"aws:kms\"".to_owned(),
        7 => "context.encryption == \"aws:kms\"".to_owned(),
        8 => "context has contentLength && context.contentLength + 9223372036854775807 > 0".to_owned(),
        9 => format!("principal.hasTag(\"{tag}\") && principal.getTag(\"{tag}\").contains(\"v\")"),
        10 => format!("principal.getTag(\"{tag}\").contains(\"w\")"),
        11 => format!("resource.hasTag(\"{tag}\") && resource.getTag(\"{tag}\").containsAny([\"v\", \"w\"])"),
        12 => format!("{}.hasTag(\"{tag}\")", entity(rng)),
        13 => format!("Workload::\"{}\".path like \"*/x*\"", pick(rng, &WORKLOADS)),
        14 => "principal has namespace && principal.namespace == \"etl\"".to_owned(),
        15 => "principal.serviceAccount == \"a\"".to_owned(),
        16 => "context.headers.hasTag(\"x-a\") && context.headers.getTag(\"x-a\").contains(\"1\")".to_owned(),
        17 => "context.headers.getTag(\"x-b\").contains(\"1\")".to_owned(),
        18 => "context.now > datetime(\"2026-01-01\")".to_owned(),
        19 => "context has sourceIp && context.sourceIp.isInRange(ip(\"10.0.0.0/8\"))".to_owned(),
        20 => format!("resource is {}", pick(rng, &TYPES)),
        21 => format!("action == Action::\"{}\"", pick(rng, &ACTIONS)),
        22 => format!("resource == {}", pick(rng, &RESOURCES)),
        _ => format!("[{}, {}].contains(resource)", pick(rng, &RESOURCES), pick(rng, &RESOURCES)),
    }
}

fn policy(rng: &mut Rng) -> String {
    let effect = if rng.u8(..3) == 0 { "forbid" } else { "permit" };
    let mut text = format!("{effect} ({})", scope(rng));
    for _ in 0..[0, 0, 1, 1, 2][rng.usize(..5)] {
        let clause = if rng.u8(..4) == 0 { "unless" } else { "when" };
        text.push_str(&format!(" {clause} {{ {} }}", condition(rng, 2)));
    }
    text + ";"
}

/// What a random entities.json says of one entity.
#[derive(Clone, Default)]
struct Said {
    parents: Vec<String>,
    tags: BTreeMap<String, Vec<String>>,
}

/// Every entity that a random policy can name.
fn universe() -> impl Iterator<Item = String> {
    let workloads = WORKLOADS.iter().chain(&ABOVE).map(|id| format!("Workload::\"{id}\""));
    workloads.chain(PRINCIPALS.iter().chain(&RESOURCES).map(|uid| (*uid).to_owned()))
}

fn entities(rng: &mut Rng) -> HashMap<String, Said> {
    let mut said = HashMap::new();
    for uid in universe() {
        if rng.bool() {
            continue;
        }
        let parents: &[&str] = match uid.split("::").next() {
            Some("Workload" | "TrustDomain") => &["Stage::\"s1\"", "Stage::\"s2\"", "Group::\"g1\"", "Group::\"g2\""],
            Some("Stage") if uid.contains("s1") => &["Stage::\"s2\"", "Group::\"g1\""],
            Some("Group") if uid.contains("g2") => &[],
            Some("Group") => &["Group::\"g2\""],
            _ => &["Group::\"g1\"", "Group::\"g2\""],
        };
        let mut entry = Said::default();
        entry.parents.extend(parents.iter().filter(|_| rng.u8(..3) == 0).map(|uid| (*uid).to_owned()));
        for tag in ["t", "u"] {
            if rng.u8(..3) == 0 {
                entry.tags.insert(
                    tag.to_owned(),
                    ["v", "w"].iter().filter(|_| rng.bool()).map(|v| (*v).to_owned()).collect(),
                );
            }
        }
        said.insert(uid, entry);
    }
    said
}

fn file(said: &HashMap<String, Said>) -> String {
    let reference = |uid: &str| {
        let uid = EntityUid::from_str(uid).expect("uid");
        json!({"type": uid.type_name().to_string(), "id": uid.id().unescaped()})
    };
    let list: Vec<_> = said
        .iter()
        .map(|(uid, said)| json!({"uid": reference(uid), "parents": said.parents.iter().map(|p| reference(p)).collect::<Vec<_>>(), "tags": said.tags}))
        .collect();
    json!(list).to_string()
}

struct Asked {
    workload: &'static str,
    operation: Operation,
    facts: Context,
}

fn token(rng: &mut Rng) -> Value {
    let mut fields = vec![
        ("iss", "https://login.example".into()),
        ("sub", pick(rng, &["ada", "bob"]).into()),
        ("aud", Value::Strings(vec!["lake".into()])),
    ];
    if rng.bool() {
        fields.push(("amr", Value::Strings(vec![pick(rng, &["mfa", "pwd"]).into()])));
    }
    fields.push(("expires", Value::Datetime(0)));
    let mut claims = Vec::new();
    for name in ["g", "h"] {
        if rng.bool() {
            claims.push((name.into(), vec![pick(rng, &["1", "2"]).into()]));
        }
    }
    fields.push(("claims", Value::Claims(claims)));
    Value::Record(fields)
}

fn question(rng: &mut Rng) -> Asked {
    let workload = WORKLOADS[rng.usize(..WORKLOADS.len())];
    let action =
        ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket", "http:GET", "http:POST", "tcp:Connect"]
            [rng.usize(..7)];
    let resource = match (action, rng.u8(..4)) {
        ("tcp:Connect", _) => Resource::endpoint(pick(rng, &["lake", "api"])),
        ("s3:ListBucket", 0) => Resource::bucket("lake", "raw"),
        ("s3:ListBucket", 1) => Resource::bucket("lake", "cur"),
        ("s3:ListBucket", _) => Resource::prefix("lake", "raw", pick(rng, &["a", "a/b", "c"])),
        (s3, n) if s3.starts_with("s3:") => {
            Resource::object("lake", if n == 0 { "cur" } else { "raw" }, pick(rng, &["a/b/k", "k", "a/k", "a/b/c/d"]))
        }
        _ => Resource::http_path("api", pick(rng, &["/", "/a", "/a/b", "/a/b/", "/c"])),
    };
    let mut facts = Context::default();
    facts.set("now", Value::Datetime(if rng.bool() { 1_700_000_000_123 } else { 1_800_000_000_000 }));
    facts.set("direction", pick(rng, &["inbound", "outbound"]));
    if rng.bool() {
        let address = pick(rng, &["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "2001:db8::1"]);
        facts.set("sourceIp", Value::Ip(address.parse().expect("address")));
    }
    if rng.bool() {
        facts.set("tls", Value::Record(vec![("version", "TLSv1.3".into()), ("certificateExpiry", Value::Datetime(0))]));
    }
    if action != "tcp:Connect" && rng.bool() {
        facts.set("token", token(rng));
    }
    let mut context = Context::default();
    if action != "tcp:Connect" && rng.bool() {
        let members = |rng: &mut Rng| ["1", "2"].iter().filter(|_| rng.bool()).map(|v| (*v).into()).collect();
        let mut fields = Vec::new();
        for name in ["x-a", "x-b"] {
            if rng.bool() {
                fields.push((name.into(), members(rng)));
            }
        }
        context.set("headers", Value::Headers(fields));
    }
    if action.starts_with("s3:") {
        context.set("operation", "PutObject");
        context.set("byVersion", false);
        context.set("presigned", rng.bool());
        if rng.bool() {
            context.set("encryption", pick(rng, &["aws:kms", "AES256"]));
        }
        if rng.bool() {
            context.set("contentLength", i64::from(rng.i8(-1..3)));
        }
    }
    Asked { workload, operation: Operation { action: Action::named(action), resource, context }, facts }
}

/// Cedar's own answer: every policy, every entity, nothing flattened.
struct Oracle {
    policies: PolicySet,
    said: HashMap<String, Said>,
    schema: Schema,
    actions: Entities,
}

impl Oracle {
    fn entity(uid: &str, parents: Vec<String>, tags: &BTreeMap<String, Vec<String>>) -> Entity {
        let uid = EntityUid::from_str(uid).expect("uid");
        let mut attributes = Vec::new();
        if uid.type_name().basename() == "Workload" {
            let id = uid.id().unescaped();
            let (domain, path) = id.trim_start_matches("spiffe://").split_once('/').expect("path");
            attributes.extend([
                ("spiffeId", id.to_owned()),
                ("trustDomain", domain.to_owned()),
                ("path", format!("/{path}")),
            ]);
            if let ["ns", namespace, "sa", account] = path.split('/').collect::<Vec<_>>()[..] {
                attributes.extend([("namespace", namespace.to_owned()), ("serviceAccount", account.to_owned())]);
            }
        }
        let set = |values: &Vec<String>| Expression::new_set(values.iter().cloned().map(Expression::new_string));
        Entity::new_with_tags(
            uid,
            attributes.into_iter().map(|(name, value)| (name.to_owned(), Expression::new_string(value))),
            parents.iter().map(|uid| EntityUid::from_str(uid).expect("uid")),
            tags.iter().map(|(name, values)| (name.clone(), set(values))),
        )
        .expect("entity")
    }

    /// What an id is in by itself, said anew: each prefix that ends before a slash.
    fn above(uid: &str) -> Vec<String> {
        let (kind, id) = uid.trim_end_matches('"').split_once("::\"").expect("uid");
        let cuts = |least: usize| {
            id.rmatch_indices('/')
                .filter_map(|(at, _)| id.get(..at))
                .filter(move |cut| cut.matches('/').count() >= least)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let mut above = Vec::new();
        match kind {
            "Workload" => {
                above.extend(cuts(3).into_iter().map(|cut| format!("Workload::\"{cut}\"")));
                above.push(format!("TrustDomain::\"{}\"", id.split('/').nth(2).expect("domain")));
            }
            "Object" | "Prefix" => {
                above.extend(cuts(2).into_iter().map(|cut| format!("Prefix::\"{cut}\"")));
                above.extend(cuts(1).pop().map(|cut| format!("Bucket::\"{cut}\"")));
            }
            "HttpPath" => above.extend(cuts(1).into_iter().map(|cut| format!("HttpPath::\"{cut}\""))),
            _ => {}
        }
        if matches!(kind, "Object" | "Prefix" | "HttpPath" | "Bucket") {
            above.push(format!("Endpoint::\"{}\"", id.split('/').next().expect("endpoint")));
        }
        above
    }

    /// The tags of an entity: its own, then those of the nearest above it.
    fn tags(&self, uid: &str) -> BTreeMap<String, Vec<String>> {
        let mut tags = BTreeMap::new();
        let kind = uid.split("::").next();
        for above in std::iter::once(uid.to_owned()).chain(Self::above(uid)) {
            if kind == Some("Workload") && !above.starts_with("Workload") {
                continue;
            }
            for (name, values) in self.said.get(&above).map(|said| said.tags.clone()).unwrap_or_default() {
                tags.entry(name).or_insert(values);
            }
        }
        tags
    }

    /// A value as Cedar has it; what are entities is added to `all`.
    fn value(value: &Value, all: &mut HashMap<String, Entity>) -> Expression {
        let mut tagged = |uid: &str, fields: &[(Box<str>, Vec<Box<str>>)]| {
            let tags =
                fields.iter().map(|(n, v)| (n.to_string(), v.iter().map(ToString::to_string).collect())).collect();
            all.insert(uid.to_owned(), Self::entity(uid, Vec::new(), &tags));
            Expression::new_entity_uid(uid.parse().expect("uid"))
        };
        match value {
            Value::Bool(value) => Expression::new_bool(*value),
            Value::Long(value) => Expression::new_long(*value),
            Value::String(value) => Expression::new_string(value.to_string()),
            Value::Strings(values) => {
                Expression::new_set(values.iter().map(|value| Expression::new_string(value.to_string())))
            }
            Value::Ip(address) => Expression::new_ip(address.to_canonical().to_string()),
            Value::Datetime(1_700_000_000_123) => Expression::new_datetime("2023-11-14T22:13:20.123Z"),
            Value::Datetime(0 | 1) => Expression::new_datetime("1970-01-01"),
            Value::Datetime(_) => Expression::new_datetime("2027-01-15T08:00:00Z"),
            Value::Record(fields) => {
                let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), Self::value(value, all)));
                Expression::new_record(fields.collect::<Vec<_>>()).expect("record")
            }
            Value::Headers(fields) => tagged("Headers::\"h\"", fields),
            Value::Claims(fields) => tagged("Claims::\"c\"", fields),
        }
    }

    fn decide(&self, asked: &Asked) -> (Outcome, Vec<String>) {
        let workload = format!("Workload::\"{}\"", asked.workload);
        let resource = asked.operation.resource.to_string();
        let mut all: HashMap<String, Entity> = HashMap::new();
        // Every entity that a policy can name, and what the request is about.
        let about = [&workload, &resource]
            .into_iter()
            .flat_map(|uid| std::iter::once(uid.clone()).chain(Self::above(uid)).collect::<Vec<_>>());
        for uid in about.chain(universe()) {
            let said = self.said.get(&uid).map(|said| said.parents.clone()).unwrap_or_default();
            let parents = said.into_iter().chain(Self::above(&uid)).collect();
            all.insert(uid.clone(), Self::entity(&uid, parents, &self.tags(&uid)));
        }
        let mut context = Vec::new();
        let mut headers = asked.operation.action.as_str() != "tcp:Connect";
        for (name, value) in asked.facts.iter().chain(asked.operation.context.iter()) {
            headers &= !matches!(value, Value::Headers(_));
            context.push((name.to_owned(), Self::value(value, &mut all)));
        }
        if headers {
            context.push(("headers".to_owned(), Expression::new_entity_uid("Headers::\"none\"".parse().expect("uid"))));
        }
        let uid = |text: &str| EntityUid::from_str(text).expect("uid");
        let request = Request::new(
            uid(&workload),
            uid(&format!("Action::\"{}\"", asked.operation.action)),
            uid(&resource),
            CedarContext::from_pairs(context).expect("context"),
            Some(&self.schema),
        );
        let entities = self
            .actions
            .clone()
            .add_entities(all.into_values(), Some(&self.schema))
            .expect("entities conform to the schema");
        let response = Authorizer::new().is_authorized(&request.expect("valid request"), &self.policies, &entities);
        let errors: Vec<String> = response
            .diagnostics()
            .errors()
            .map(|error| match error {
                cedar_policy::AuthorizationError::PolicyEvaluationError(cause) => cause.policy_id().to_string(),
            })
            .collect();
        let reasons: Vec<String> = response.diagnostics().reason().map(ToString::to_string).collect();
        match (response.decision(), errors.is_empty(), reasons.is_empty()) {
            (_, false, _) => (Outcome::Error, errors),
            (CedarDecision::Allow, ..) => (Outcome::Allowed, reasons),
            (CedarDecision::Deny, _, true) => (Outcome::NotPermitted, reasons),
            (CedarDecision::Deny, _, false) => (Outcome::Forbidden, reasons),
        }
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect("a number"))
}

/// The same facts at another time.
fn at(facts: &Context, now: i64) -> Context {
    let mut later = Context::default();
    for (name, value) in facts.iter() {
        later.set(name, if name == "now" { Value::Datetime(now) } else { value.clone() });
    }
    later
}

#[test]
fn every_decision_and_its_policies_are_those_of_cedar_on_the_whole_set() {
    let (sets, series) = (number("PORTCULLIS_EQUIVALENCE_SETS", 150), number("PORTCULLIS_EQUIVALENCE_SEED", 1));
    let schema = schema::merge(&[], &mut Problems::default()).expect("schema");
    let actions = schema.schema.action_entities().expect("actions");
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lasting = 0;
    for set in 0..sets {
        let mut rng = Rng::with_seed(series << 32 | set);
        let texts: Vec<String> = (0..rng.usize(1..25)).map(|_| policy(&mut rng)).collect();
        let policies: Vec<(Arc<str>, Policy)> = texts
            .iter()
            .enumerate()
            .map(|(n, text)| {
                (format!("p{n}").into(), Policy::parse(Some(PolicyId::new(format!("p{n}"))), text).expect(text))
            })
            .collect();
        let said = entities(&mut rng);
        let mut problems = Problems::default();
        let statics =
            StaticEntities::parse(&[SourceFile::new("entities.json", file(&said))], &schema.schema, &mut problems);
        problems.verdict().expect("entities load");
        let borrowed: Vec<_> = policies
            .iter()
            .map(|(id, policy)| Compilable { id: Arc::clone(id), policy, reads: Arc::new(Reads::of(policy)) })
            .collect();
        let engine = Engine::compile(&borrowed, &statics, schema.clone()).expect("compiles");
        let oracle = Oracle {
            policies: PolicySet::from_policies(policies.iter().map(|(_, p)| p.clone())).expect("set"),
            said,
            schema: schema.schema.clone(),
            actions: actions.clone(),
        };
        for n in 0..QUESTIONS {
            let asked = question(&mut rng);
            let ours = engine.decide(
                &engine.principal(&SpiffeId::parse(asked.workload).expect("id")),
                &asked.operation,
                &asked.facts,
            );
            let (outcome, mut deciding) = oracle.decide(&asked);
            let mut found: Vec<String> = ours.policies.iter().map(ToString::to_string).collect();
            deciding.sort();
            found.sort();
            assert_eq!(
                (ours.outcome, found),
                (outcome, deciding),
                "set {set}, question {n}: {} asks {} on {} with {:?} {:?}\n{}\n{}",
                asked.workload,
                asked.operation.action,
                asked.operation.resource,
                asked.facts,
                asked.operation.context,
                texts.join("\n"),
                file(&oracle.said),
            );
            *outcomes.entry(outcome.as_str()).or_default() += 1;
            if ours.lasts {
                lasting += 1;
                for now in [0, 1_700_000_000_123, 1_800_000_000_000] {
                    let later = engine.decide(
                        &engine.principal(&SpiffeId::parse(asked.workload).expect("id")),
                        &asked.operation,
                        &at(&asked.facts, now),
                    );
                    assert_eq!(later, ours, "set {set}, question {n}, asked at {now}\n{}", texts.join("\n"));
                }
            }
        }
    }
    println!("{outcomes:?}, {lasting} last");
    let all: usize = outcomes.values().sum();
    assert!(lasting * 4 > all && lasting < all, "{lasting} of {all} last");
    for outcome in ["allowed", "forbidden", "not_permitted", "error"] {
        assert!(
            outcomes.get(outcome).copied().unwrap_or_default() * 50 > outcomes.values().sum(),
            "too few of {outcome}: {outcomes:?}"
        );
    }
}

/// As it is loaded, as far as a trace looks at it.
fn loaded(id: &Arc<str>, text: &str) -> LoadedPolicy {
    let (file, text) = ("p.cedar".into(), text.into());
    LoadedPolicy { id: Arc::clone(id), file, line: 1, text, shadow: false, permits: true, actions: Vec::new() }
}

#[test]
fn a_policy_that_is_traced_matches_exactly_if_it_does_for_cedar_and_all_its_clauses_hold() {
    let sets = number("PORTCULLIS_EQUIVALENCE_SETS", 60).min(2_000);
    let schema = schema::merge(&[], &mut Problems::default()).expect("schema");
    let actions = schema.schema.action_entities().expect("actions");
    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    for set in 0..sets {
        let mut rng = Rng::with_seed(7 << 32 | set);
        // Half of them are about everything: most questions come to their conditions.
        let opened = |text: String| match text.split_once(')') {
            Some((_, conditions)) => format!("permit (principal, action, resource){conditions}"),
            None => text,
        };
        let texts: Vec<String> = (0..6)
            .map(|_| policy(&mut rng))
            .enumerate()
            .map(|(n, text)| if n % 2 == 0 { opened(text) } else { text })
            .collect();
        let ids: Vec<Arc<str>> = (0..6).map(|n| format!("p{n}").into()).collect();
        let parsed: Vec<Policy> = ids
            .iter()
            .zip(&texts)
            .map(|(id, text)| Policy::parse(Some(PolicyId::new(&**id)), text).expect(text))
            .collect();
        let said = entities(&mut rng);
        let file = SourceFile::new("entities.json", file(&said));
        let statics = StaticEntities::parse(&[file], &schema.schema, &mut Problems::default());
        let compilable = |(id, policy): (&Arc<str>, _)| Compilable {
            id: Arc::clone(id),
            policy,
            reads: Arc::new(Reads::of(policy)),
        };
        let compilable: Vec<_> = ids.iter().zip(&parsed).map(compilable).collect();
        let engine = Engine::compile(&compilable, &statics, schema.clone()).expect("compiles");
        let loaded: Vec<_> = ids.iter().zip(&texts).map(|(id, text)| loaded(id, text)).collect();
        let mut oracle =
            Oracle { policies: PolicySet::new(), said, schema: schema.schema.clone(), actions: actions.clone() };
        for _ in 0..4 {
            let asked = question(&mut rng);
            let id = SpiffeId::parse(asked.workload).expect("id");
            let traced = traced_each(&engine, &id, &asked.operation, &asked.facts, &loaded);
            assert_eq!(traced.len(), parsed.len());
            for ((traced, parsed), text) in traced.iter().zip(&parsed).zip(&texts) {
                oracle.policies = PolicySet::from_policies([parsed.clone()]).expect("set");
                let cedar = match oracle.decide(&asked).0 {
                    Outcome::Allowed | Outcome::Forbidden => "true",
                    Outcome::Error => "error",
                    Outcome::NotPermitted | Outcome::Refused => "false",
                };
                let matches = match &traced.matches {
                    Ok(true) => "true",
                    Ok(false) => "false",
                    Err(_) => "error",
                };
                // The first clause that does not hold is the one at which Cedar stops.
                let stops = match traced.clauses.iter().find(|clause| clause.verdict != Verdict::Holds) {
                    None => "true",
                    Some(clause) if matches!(clause.verdict, Verdict::Errs(_)) => "error",
                    Some(clause) => {
                        assert_eq!(clause.verdict, Verdict::Fails, "{text}\n{traced:#?}");
                        "false"
                    }
                };
                assert_eq!(
                    (matches, stops),
                    (cedar, cedar),
                    "{} {}\n{text}\n{traced:#?}",
                    asked.workload,
                    asked.operation.resource
                );
                *verdicts.entry(cedar).or_default() += 1;
            }
        }
    }
    println!("{verdicts:?}");
    assert!(["true", "false", "error"].iter().all(|verdict| verdicts.get(verdict).is_some_and(|count| *count > 4)));
}

/// A context that may be wrong: something missing, of another type, or too much.
fn damaged(rng: &mut Rng, context: &Context) -> Context {
    let mut attributes: Vec<_> = context.iter().map(|(name, value)| (name, value.clone())).collect();
    let wrong = [
        Value::Long(1),
        "text".into(),
        Value::Bool(true),
        Value::Strings(vec!["a".into()]),
        Value::Datetime(1),
        Value::Record(Vec::new()),
    ];
    let at = rng.usize(..attributes.len().max(1));
    match rng.u8(..4) {
        0 if at < attributes.len() => {
            attributes.remove(at);
        }
        1 if at < attributes.len() => attributes[at].1 = wrong[rng.usize(..wrong.len())].clone(),
        2 => {
            let name = ["acl", "columns", "host", "nonsense", "storageClass", "role"][rng.usize(..6)];
            attributes.retain(|(known, _)| *known != name);
            attributes.push((name, wrong[rng.usize(..wrong.len())].clone()));
        }
        _ => {}
    }
    let mut damaged = Context::default();
    attributes.into_iter().for_each(|(name, value)| damaged.set(name, value));
    damaged
}

#[test]
fn a_question_has_the_form_of_its_action_exactly_if_cedar_validates_the_request() {
    let merged = schema::merge(&[], &mut Problems::default()).expect("schema");
    let mut valid = 0;
    for n in 0..5_000 {
        let mut rng = Rng::with_seed(n);
        let asked = question(&mut rng);
        let mut whole = Context::default();
        asked
            .facts
            .iter()
            .chain(asked.operation.context.iter())
            .for_each(|(name, value)| whole.set(name, value.clone()));
        let whole = damaged(&mut rng, &whole);
        let action = asked.operation.action.as_str();
        let form = merged.forms.get(action).expect("known action");
        let mut context = Vec::new();
        let mut headers = action != "tcp:Connect";
        for (name, value) in whole.iter() {
            headers &= !matches!(value, Value::Headers(_));
            context.push((name.to_owned(), Oracle::value(value, &mut HashMap::new())));
        }
        if headers && whole.get("headers").is_none() {
            context.push(("headers".to_owned(), Expression::new_entity_uid("Headers::\"h\"".parse().expect("uid"))));
        }
        let uid = |text: &str| EntityUid::from_str(text).expect("uid");
        let request = Request::new(
            uid(&format!("Workload::\"{}\"", asked.workload)),
            uid(&format!("Action::\"{action}\"")),
            uid(&asked.operation.resource.to_string()),
            CedarContext::from_pairs(context).expect("context"),
            Some(&merged.schema),
        );
        let ours = form.check(&whole, &Context::default());
        assert_eq!(ours.is_ok(), request.is_ok(), "{action} with {whole:?}: {ours:?}, Cedar {:?}", request.err());
        valid += usize::from(ours.is_ok());
    }
    assert!((1_000..4_500).contains(&valid), "{valid} of 5000 are valid");
}
