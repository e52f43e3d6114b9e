//! Random policies, entities and questions.

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr as _;

use cedar_policy::EntityUid;
use fastrand::Rng;
use serde_json::{Value as Json, json};

use crate::mapping::{Action, Context, Operation, Resource, Value};

pub(super) const WORKLOADS: [&str; 5] = [
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
const RESOURCES: [&str; 17] = [
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
    "Endpoint::\"wh\"",
    "Database::\"wh/db\"",
    "Schema::\"wh/db.hr\"",
    "Schema::\"wh/db.parts\"",
    "Table::\"wh/db.hr.people\"",
    "Table::\"wh/db.parts.people_1\"",
    "Group::\"g2\"",
];
/// What conditions alone name: of what it is in nothing is named, so that what holds it differs by that only.
const DEEP: &str = "Prefix::\"lake/raw/c/k\"";
const ACTIONS: [&str; 12] = [
    "s3:GetObject",
    "s3:PutObject",
    "s3:DeleteObject",
    "s3:ListBucket",
    "http:GET",
    "http:POST",
    "tcp:Connect",
    "sql:Select",
    "sql:Insert",
    "read",
    "write",
    "delete",
];
const TYPES: [&str; 7] = ["Object", "Bucket", "HttpPath", "Endpoint", "Group", "Table", "Prefix"];

pub(super) fn pick<'a>(rng: &mut Rng, from: &[&'a str]) -> &'a str {
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
    match rng.u8(..52) {
        50 | 51 => format!("{DEEP} in resource"),
        42 => "context has tls".to_owned(),
        43 => "context.tls has version".to_owned(),
        44 => "context has tls && context.tls.certificateExpiry < datetime(\"2026-01-01\")".to_owned(),
        45 => "context has tls && context.tls == {version: \"TLSv1.3\", certificateExpiry: datetime(\"1970-01-01\")}".to_owned(),
        46 => "context has token && [context.token].contains(context.token)".to_owned(),
        47 => "context has token.sub && context.token.sub == \"ada\"".to_owned(),
        48 => "context has token && context.token has claims".to_owned(),
        49 => "principal is Workload in Group::\"g1\"".to_owned(),
        24 => "context has token.amr && context.token.amr.contains(\"mfa\")".to_owned(),
        25 => "context has token && context.token.claims.hasTag(\"g\") && context.token.claims.getTag(\"g\").contains(\"1\")".to_owned(),
        26 => "context.token.sub == \"ada\"".to_owned(),
        28 => "Team::\"a\".bucket == resource".to_owned(),
        29 => "resource in Team::\"a\".places".to_owned(),
        30 => "Team::\"a\".places.contains(resource)".to_owned(),
        31 => "Team::\"a\" has lead && principal in Team::\"a\".lead".to_owned(),
        32 => "Team::\"b\".lead == principal".to_owned(),
        33 => "context has columns && context.columns.containsAny([\"ssn\"])".to_owned(),
        34 => "context has tls.version && context.tls.version == \"TLSv1.3\"".to_owned(),
        35 => "context has contentLength && context.contentLength > 0".to_owned(),
        36 => "principal.path like \"*/etl/*\"".to_owned(),
        37 => "context.headers.hasTag(\"x-b\") && context.headers.getTag(\"x-b\").containsAll([\"1\", \"2\"])".to_owned(),
        38 | 39 => format!("{} in resource", entity(rng)),
        40 => format!("{} in [resource, {}]", entity(rng), pick(rng, &RESOURCES)),
        41 => format!("{} in principal", entity(rng)),
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

pub(super) fn policy(rng: &mut Rng) -> String {
    let effect = if rng.u8(..3) == 0 { "forbid" } else { "permit" };
    let mut text = format!("{effect} ({})", scope(rng));
    for _ in 0..[0, 0, 1, 1, 2][rng.usize(..5)] {
        let clause = if rng.u8(..4) == 0 { "unless" } else { "when" };
        text.push_str(&format!(" {clause} {{ {} }}", condition(rng, 2)));
    }
    text + ";"
}

/// What a random entities.json says of one entity.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    pub(super) parents: Vec<String>,
    pub(super) tags: BTreeMap<String, Vec<String>>,
}

/// Every entity that a random policy can name.
pub(super) fn universe() -> impl Iterator<Item = String> {
    let workloads = WORKLOADS.iter().chain(&ABOVE).map(|id| format!("Workload::\"{id}\""));
    workloads.chain(PRINCIPALS.iter().chain(&RESOURCES).chain([&DEEP]).map(|uid| (*uid).to_owned()))
}

pub(super) fn entities(rng: &mut Rng) -> HashMap<String, Said> {
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

/// A type of the operator's own: its attributes lead to entities that no policy names.
pub(super) const TEAM: &str = "entity Team = { bucket: Bucket, places: Set<Bucket>, lead?: Workload };";

/// entities.json's teams: the attributes of each as JSON.
pub(super) fn teams(rng: &mut Rng) -> Vec<(&'static str, Json)> {
    let entity = |kind: &str, id: &str| json!({"__entity": {"type": kind, "id": id}});
    let bucket = |rng: &mut Rng| entity("Bucket", pick(rng, &["lake/raw", "lake/cur", "lake/other"]));
    let mut team = |name| {
        let mut attributes = json!({"bucket": bucket(rng), "places": [bucket(rng), bucket(rng)]});
        if rng.bool() {
            attributes["lead"] = entity("Workload", pick(rng, &WORKLOADS));
        }
        (name, attributes)
    };
    vec![team("a"), team("b")]
}

pub(super) fn file(said: &HashMap<String, Said>, teams: &[(&str, Json)]) -> String {
    let reference = |uid: &str| {
        let uid = EntityUid::from_str(uid).expect("uid");
        json!({"type": uid.type_name().to_string(), "id": uid.id().unescaped()})
    };
    let teams =
        teams.iter().map(|(name, attributes)| json!({"uid": {"type": "Team", "id": name}, "attrs": attributes}));
    let list: Vec<_> = said
        .iter()
        .map(|(uid, said)| json!({"uid": reference(uid), "parents": said.parents.iter().map(|p| reference(p)).collect::<Vec<_>>(), "tags": said.tags}))
        .chain(teams)
        .collect();
    json!(list).to_string()
}

#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) workload: &'static str,
    pub(super) operation: Operation,
    pub(super) facts: Context,
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

pub(super) fn question(rng: &mut Rng) -> Asked {
    let workload = WORKLOADS[rng.usize(..WORKLOADS.len())];
    let action = ACTIONS[rng.usize(..9)];
    let resource = match (action, rng.u8(..4)) {
        (sql, n) if sql.starts_with("sql:") => {
            let table = |schema, name| Resource::table("wh", "db", schema, name);
            match n {
                0 => table("hr", "people"),
                1 => table("parts", "people_1").partition_of([table("hr", "people")]),
                2 => table("parts", "people_1"),
                _ => table(pick(rng, &["hr", "parts", "pub"]), "orders"),
            }
        }
        ("tcp:Connect", _) => Resource::endpoint(pick(rng, &["lake", "api"])),
        ("s3:ListBucket", 0) => Resource::bucket("lake", "raw"),
        ("s3:ListBucket", 1) => Resource::bucket("lake", "cur"),
        ("s3:ListBucket", _) => Resource::prefix("lake", "raw", pick(rng, &["a", "a/b", "c", "c/d"])),
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
    let is_http = !matches!(action, "tcp:Connect" | "sql:Select" | "sql:Insert");
    if is_http && rng.bool() {
        facts.set("token", token(rng));
    }
    let mut context = Context::default();
    if action.starts_with("sql:") {
        let columns = ["id", "ssn", "name"].into_iter().filter(|_| rng.bool()).map(Into::into).collect();
        context.set("columns", Value::Strings(columns));
        context.set("statement", "select");
        context.set("role", pick(rng, &["reader", "writer"]));
    }
    if is_http && rng.bool() {
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

/// The same question but for one thing, which may or may not matter.
pub(super) fn changed(rng: &mut Rng, asked: &Asked) -> Asked {
    let other = question(rng);
    let Asked { workload, operation, facts } = asked.clone();
    let Operation { action, resource, context } = operation;
    let same_kind = other.operation.resource.kind() == resource.kind();
    match rng.u8(..6) {
        0 => Asked { workload: other.workload, operation: Operation { action, resource, context }, facts },
        1 if same_kind => {
            Asked { workload, operation: Operation { action, resource: other.operation.resource, context }, facts }
        }
        2 if same_kind && form_of(&other.operation.action) == form_of(&action) => {
            Asked { workload, operation: Operation { action: other.operation.action, resource, context }, facts }
        }
        3 => Asked {
            workload,
            operation: Operation { action, resource, context },
            facts: at(&facts, rng.i64(0..2_000_000_000_000)),
        },
        n => {
            // One attribute as another question of the same form has it: it may be there for the first time, or be there no longer.
            let other = loop {
                let other = question(rng);
                if form_of(&other.operation.action) == form_of(&action) {
                    break other;
                }
            };
            let (facts, context) = match n {
                4 => (with_one_of(rng, &facts, &other.facts), context),
                _ => (facts, with_one_of(rng, &context, &other.operation.context)),
            };
            Asked { workload, operation: Operation { action, resource, context }, facts }
        }
    }
}

/// Which context a question has.
fn form_of(action: &Action) -> &str {
    action.as_str().split_once(':').map_or("", |(protocol, _)| protocol)
}

/// `context` with one attribute as in `other`.
fn with_one_of(rng: &mut Rng, context: &Context, other: &Context) -> Context {
    let names: Vec<&'static str> = context.iter().chain(other.iter()).map(|(name, _)| name).collect();
    let Some(chosen) = names.get(rng.usize(..names.len().max(1))) else { return context.clone() };
    let mut changed = Context::default();
    for (name, value) in context.iter().filter(|(name, _)| name != chosen) {
        changed.set(name, value.clone());
    }
    changed.set_some(chosen, other.get(chosen).cloned());
    changed
}

/// The same facts at another time.
pub(super) fn at(facts: &Context, now: i64) -> Context {
    let mut later = Context::default();
    for (name, value) in facts.iter() {
        later.set(name, if name == "now" { Value::Datetime(now) } else { value.clone() });
    }
    later
}
