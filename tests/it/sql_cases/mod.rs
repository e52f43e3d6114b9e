//! The adversarial table: hundreds of SQL texts, each with exactly what it must ask or the refusal it must get, tried on a real
//! server through two sidecars.
//!
//! Three things are held for each text: what is asked is what the table says; whichever of its operations is forbidden, the client
//! gets no row and the database stays as it was; and whatever PostgreSQL's own planner names was asked about.

mod case;
mod mapping;
mod privileges;
mod records;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use crate::support::*;
use case::{Answer, Asked, Case, Protocol};
use records::{Tail, asked, resource, written};
use wire::{Came, Session};

const DATABASE: &str = "adversary";
const USER: &str = "postgres";

/// A server with the fixture and a pair of sidecars before it.
struct Warehouse {
    server: PgServer,
    pair: Pair,
    _world: World,
}

impl Warehouse {
    async fn start(policies: &str) -> Self {
        let server = server().await;
        let world = World::new();
        let options = "role: fixed postgres";
        let inbound = world.sidecar("service").policies(policies);
        let inbound = inbound.inbound("wh", "postgres", &server.url(), options).start().await;
        let outbound = world.sidecar("app").policies(ALLOW_ALL);
        let to = inbound.inbound("wh").to_string();
        let outbound = outbound.outbound("wh", "postgres", &to, &world.id("service"), "").start().await;
        Self { server, pair: Pair { outbound, inbound }, _world: world }
    }

    fn address(&self) -> SocketAddr {
        self.pair.outbound.outbound("wh")
    }

    fn tail(&self) -> Tail {
        Tail::of(&self.pair.inbound.directory().join("audit.jsonl"))
    }

    /// A session through both sidecars, as far as the case's own text.
    async fn session(&self, case: &Case) -> Session {
        Session::open(self.address(), USER, DATABASE, case.options.as_deref()).await
    }

    async fn direct(&self) -> Session {
        Session::open(self.server.address(), USER, DATABASE, None).await
    }
}

/// A server with the database of the table.
async fn server() -> PgServer {
    let server = PgServer::start().await;
    let mut session = Session::open(server.address(), USER, "postgres", None).await;
    let made = session.run(&format!("CREATE DATABASE {DATABASE}"), Protocol::Simple).await;
    assert!(made.error.is_none(), "{made:?}");
    let mut session = Session::open(server.address(), USER, DATABASE, None).await;
    let filled = session.run(include_str!("fixture.sql"), Protocol::Simple).await;
    assert!(filled.error.is_none(), "{filled:?}");
    server
}

/// Everything that a statement could have changed, as one value.
const CHECKSUM: &str = "SELECT md5(string_agg(part, '|' ORDER BY part)) FROM (
    SELECT query_to_xml(format(CASE relkind WHEN 'S' THEN 'SELECT last_value, is_called FROM %I.%I' ELSE
           'SELECT t::text FROM ONLY %I.%I t ORDER BY 1' END, nspname, relname), true, false, '')::text AS part
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE relkind IN ('r', 'm', 'S') AND nspname IN ('public', 'sales', 'traps')
    UNION ALL SELECT (oid, relname, relnamespace, relowner, relacl, relhasrules, relhastriggers, relrowsecurity, reloptions, relfilenode)::text
      FROM pg_class WHERE relpersistence <> 't'
    UNION ALL SELECT (attrelid, attname, atttypid, attacl, attisdropped)::text FROM pg_attribute WHERE attrelid > 16383 AND attnum > 0
    UNION ALL SELECT p::text FROM pg_proc p WHERE oid > 16383
    UNION ALL SELECT n::text FROM pg_namespace n WHERE nspname !~ '^pg_(toast_)?temp'
    UNION ALL SELECT a::text FROM pg_authid a UNION ALL SELECT m::text FROM pg_auth_members m
    UNION ALL SELECT (oid, datname, datacl, datconfig)::text FROM (SELECT d.oid, datname, datacl, s.setconfig AS datconfig
      FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid) d
    UNION ALL SELECT s::text FROM pg_db_role_setting s UNION ALL SELECT l::text FROM pg_largeobject_metadata l
    UNION ALL SELECT d::text FROM pg_default_acl d UNION ALL SELECT d::text FROM pg_description d WHERE objoid > 16383
    UNION ALL SELECT e::text FROM pg_event_trigger e UNION ALL SELECT s::text FROM pg_publication s
    UNION ALL SELECT (c.oid, castfunc)::text FROM pg_cast c WHERE oid > 16383 UNION ALL SELECT o::text FROM pg_operator o WHERE oid > 16383
    UNION ALL SELECT s::text FROM pg_file_settings s UNION ALL SELECT (gid)::text FROM pg_prepared_xacts
) all_of_it (part)";

async fn checksum(direct: &mut Session) -> String {
    let came = direct.run(CHECKSUM, Protocol::Simple).await;
    came.rows.first().and_then(|row| row[0].clone()).unwrap_or_else(|| panic!("{came:?}"))
}

/// Runs what stands before a case's own text. The first error, if any.
async fn prepare(session: &mut Session, case: &Case, in_transaction: bool) -> Option<Came> {
    let begin = (in_transaction && !case.alone).then_some("BEGIN");
    for text in begin.into_iter().chain(case.first.iter().map(String::as_str)) {
        let came = session.run(text, Protocol::Simple).await;
        if came.error.is_some() {
            return Some(came);
        }
    }
    None
}

#[tokio::test]
async fn every_text_is_one_that_the_server_takes() {
    let server = server().await;
    let mut wrong = String::new();
    for case in case::all() {
        let takes = case.answers.iter().any(|answer| matches!(answer, Answer::Asks(_)));
        for protocol in case.protocols() {
            let mut session = Session::open(server.address(), USER, DATABASE, case.options.as_deref()).await;
            if let Some(came) = prepare(&mut session, &case, true).await {
                let _ = writeln!(wrong, "{}: before `{}`: {:?}", case.at, case.text, came.error);
                continue;
            }
            let came = session.run(&case.text, *protocol).await;
            let fine = came.error.is_none() || !takes || case.may_fail.iter().any(|code| code == came.code());
            // Where a refusal is a right answer too, it is so because this server does not take it.
            if !fine && !case.may_be_refused_with(came.code()) && !case.may_be_refused_with("0A000") {
                let _ = writeln!(wrong, "{}: {protocol:?} `{}`: {:?}", case.at, case.text, came.error);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn the_mapping_finds_exactly_what_the_table_says() {
    let server = server().await;
    let mut direct = Session::open(server.address(), USER, DATABASE, None).await;
    let at_rest = mapping::catalogue(&mut direct).await;
    let mut wrong = String::new();
    for case in case::all().into_iter().filter(|case| case.only != Some(Protocol::Extended)) {
        let mut session = Session::open(server.address(), USER, DATABASE, case.options.as_deref()).await;
        if let Some(came) = prepare(&mut session, &case, true).await {
            let _ = writeln!(wrong, "{}: before `{}`: {:?}", case.at, case.text, came.error);
            continue;
        }
        let defines = case.first.iter().any(|text| text.starts_with("CREATE") || text.starts_with("ALTER"));
        let own = if defines { Some(mapping::catalogue(&mut session).await) } else { None };
        let fault = match mapping::mapped(&mut session, own.as_ref().unwrap_or(&at_rest), &case).await {
            Ok(asked) if case.is_answered_by(&asked) => continue,
            Ok(asked) => format!("asked {}", written(&asked)),
            Err(refusal) if case.may_be_refused_with(refusal.sqlstate) => continue,
            Err(refusal) => format!("refused: {refusal:?}"),
        };
        let _ = writeln!(wrong, "{}: `{}`\n    {fault}", case.at, case.text);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn every_text_asks_exactly_what_the_table_says() {
    let warehouse = Warehouse::start(ALLOW_ALL).await;
    let mut tail = warehouse.tail();
    let mut wrong = String::new();
    for case in case::all() {
        for protocol in case.protocols() {
            let mut session = warehouse.session(&case).await;
            if let Some(came) = prepare(&mut session, &case, true).await {
                let _ = writeln!(wrong, "{} {protocol:?}: before `{}`: {:?}", case.at, case.text, came.error);
                continue;
            }
            let _before = tail.statements();
            let came = session.run(&case.text, *protocol).await;
            let records = tail.statements();
            if let Some(fault) = judged(&case, &came, &records) {
                let _ = writeln!(wrong, "{} {protocol:?}: `{}`\n    {fault}", case.at, case.text);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What is wrong with how a case was judged under a policy that permits all.
fn judged(case: &Case, came: &Came, records: &[Value]) -> Option<String> {
    let refused = records.iter().any(|record| record["outcome"] == "refused");
    if refused {
        let rows = came.rows.len() + came.copied;
        if rows > 0 {
            return Some(format!("refused, but {rows} rows came"));
        }
        let fine = case.may_be_refused_with(came.code());
        return (!fine).then(|| format!("refused: {:?}", came.error));
    }
    let asked = asked(records);
    if !case.is_answered_by(&asked) {
        return Some(format!("asked {}, error {:?}", written(&asked), came.error));
    }
    let fine = came.error.is_none() || case.may_fail.iter().any(|code| code == came.code());
    (!fine).then(|| format!("judged right, but failed: {:?}", came.error))
}

#[tokio::test]
async fn whatever_is_forbidden_returns_nothing_and_changes_nothing() {
    let warehouse = Warehouse::start(ALLOW_ALL).await;
    let mut direct = warehouse.direct().await;
    let before = checksum(&mut direct).await;
    let mut wrong = String::new();
    let mut denials = 0;
    for (forbidden, cases) in by_operation(&warehouse).await {
        let generation = warehouse.pair.inbound.status().await["policy"]["generation"].as_u64();
        warehouse.pair.inbound.replace("policies/test.cedar", &format!("{ALLOW_ALL}{forbidden}"));
        warehouse.pair.inbound.process.signal("HUP");
        let newer = |status: &Value| status["policy"]["generation"].as_u64() > generation;
        warehouse.pair.inbound.status_with("the next policies", newer).await;
        for case in cases {
            let mut tail = warehouse.tail();
            for protocol in case.protocols() {
                let mut session = warehouse.session(&case).await;
                if prepare(&mut session, &case, false).await.is_some() {
                    continue;
                }
                let _before = tail.statements();
                let came = session.run(&case.text, *protocol).await;
                denials += 1;
                if let Some(fault) = denied(&came, &tail.statements()) {
                    let _ = writeln!(wrong, "{} {protocol:?}: `{}` under\n{forbidden}    {fault}", case.at, case.text);
                }
                drop(session);
            }
            let after = checksum(&mut direct).await;
            if after != before {
                wrong.push_str(&format!("{}: `{}` under\n{forbidden}    changed something\n", case.at, case.text));
                break;
            }
        }
    }
    assert!(denials >= 400, "only {denials} denials were tried");
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// For each operation that a case can ask, a policy that forbids it and the cases that it must stop.
async fn by_operation(warehouse: &Warehouse) -> BTreeMap<String, Vec<Case>> {
    let mut by_operation: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    let mut tail = warehouse.tail();
    for case in case::all() {
        let Some(protocol) = case.protocols().first() else { continue };
        // What is not taken back by a ROLLBACK: known from the table alone.
        let operations: BTreeSet<String> = if case.alone {
            case.answers.iter().take(1).flat_map(|answer| policies_of_answer(answer)).collect()
        } else {
            let mut session = warehouse.session(&case).await;
            if prepare(&mut session, &case, true).await.is_some() {
                continue;
            }
            let _before = tail.statements();
            let _came = session.run(&case.text, *protocol).await;
            let records = tail.statements();
            if records.iter().any(|record| record["outcome"] == "refused") {
                continue;
            }
            operations_of(&records).iter().flat_map(forbidding).collect()
        };
        for forbidden in operations {
            by_operation.entry(forbidden).or_default().push(case.clone());
        }
    }
    by_operation
}

/// The operations of records, as they stand there.
fn operations_of(records: &[Value]) -> Vec<&Value> {
    records
        .iter()
        .flat_map(|record| match record["operations"].as_array() {
            Some(operations) => operations.iter().collect(),
            None => vec![record],
        })
        .collect()
}

/// Policies each of which forbids this operation. `sql:Connect` is what lets the session in at all.
fn forbidding(operation: &&Value) -> Vec<String> {
    let action = operation["action"].as_str().unwrap_or_default();
    if action == "sql:Connect" {
        return Vec::new();
    }
    let (kind, id) = resource(operation);
    let columns = operation["context"]["columns"].as_array().into_iter().flatten();
    forbid(action, &kind, &id, columns.filter_map(Value::as_str).any(|column| column == "ssn"))
}

fn forbid(action: &str, kind: &str, id: &str, with_ssn: bool) -> Vec<String> {
    let scope = format!(
        "@id(\"forbidden\")\nforbid (principal, action == Action::\"{action}\", resource == {kind}::\"{}\")",
        id.escape_default()
    );
    let mut policies = vec![format!("{scope};\n")];
    if with_ssn {
        policies.push(format!("{scope} when {{ context.columns.contains(\"ssn\") }};\n"));
    }
    policies
}

/// The same from the table's own words.
fn policies_of_answer(answer: &Answer) -> Vec<String> {
    let Answer::Asks(operations) = answer else { return Vec::new() };
    let of = |asked: &Asked| {
        let (kind, name) = match asked.resource.as_str() {
            "database" => ("Database", String::new()),
            name if name.ends_with(".*") => ("Schema", format!(".{}", name.trim_end_matches(".*"))),
            name if name.ends_with("()") => ("Function", format!(".{}", name.trim_end_matches("()"))),
            name => ("Table", format!(".{name}")),
        };
        forbid(&asked.action, kind, &format!("wh/{DATABASE}{name}"), false)
    };
    operations.iter().filter(|asked| asked.action != "sql:Connect").flat_map(of).collect()
}

/// What is wrong with how a denied text was answered.
fn denied(came: &Came, records: &[Value]) -> Option<String> {
    let Some(fault) = &came.error else { return Some(format!("not denied: {came:?}")) };
    if !["42501", "0A000"].contains(&fault.code.as_str()) {
        return Some(format!("not denied but failed: {fault:?}"));
    }
    if !came.rows.is_empty() || came.copied > 0 || !came.commands.is_empty() {
        return Some(format!("denied, but something came: {came:?}"));
    }
    let is_it = |record: &&Value| record["decision_id"].as_str().is_some_and(|id| fault.detail.contains(id));
    let Some(record) = records.iter().find(is_it) else {
        return Some(format!("no record has the decision of {fault:?}"));
    };
    let by_it = record["outcome"] == "forbidden" && policies_of(record) == ["forbidden"];
    (!by_it).then(|| format!("denied for another reason: {record}"))
}

#[tokio::test]
async fn every_table_that_the_planner_names_was_asked_about() {
    let warehouse = Warehouse::start(ALLOW_ALL).await;
    let mut tail = warehouse.tail();
    let mut direct = warehouse.direct().await;
    let parents = "SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits";
    let parents = direct.run(parents, Protocol::Simple).await.rows;
    let parents: Vec<Vec<String>> = parents.into_iter().map(|row| row.into_iter().flatten().collect()).collect();
    let (mut compared, mut wrong) = (0, String::new());
    for case in case::all() {
        let reads = ["SELECT", "WITH", "TABLE", "VALUES", "INSERT", "UPDATE", "DELETE", "MERGE", "("];
        if case.only.is_some() || case.alone || !reads.iter().any(|word| case.text.starts_with(word)) {
            continue;
        }
        let mut session = warehouse.session(&case).await;
        let mut planner = Session::open(warehouse.server.address(), USER, DATABASE, case.options.as_deref()).await;
        let explain = format!("EXPLAIN (VERBOSE, FORMAT JSON) {}", case.text);
        if prepare(&mut session, &case, true).await.is_some() || prepare(&mut planner, &case, true).await.is_some() {
            continue;
        }
        let planned = planner.run(&explain, Protocol::Simple).await;
        let _before = tail.statements();
        let _came = session.run(&case.text, Protocol::Simple).await;
        let asked = asked(&tail.statements());
        // A function's body is the function's: the planner may put it in place.
        if planned.error.is_some() || asked.is_empty() || asked.iter().any(|one| one.action == "sql:Execute") {
            continue;
        }
        let plan: String = planned.rows.into_iter().flatten().flatten().collect();
        let plan = serde_json::from_str(&plan).unwrap_or_else(|error| panic!("{error}: {plan}"));
        compared += 1;
        for name in named(&plan) {
            let plain = name.trim_start_matches("public.");
            let parent = parents.iter().find(|row| row[0] == name || row[0] == plain).map(|row| &row[1]);
            if !asked.iter().any(|one| covers(one, &name, parent)) {
                let _ = writeln!(wrong, "{}: `{}` reads {name}, asked {}", case.at, case.text, written(&asked));
            }
        }
    }
    assert!(compared >= 150, "only {compared} plans were compared");
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// Whether an operation is about a table that a plan names, itself, as its whole, or through a view.
fn covers(asked: &Asked, name: &str, parent: Option<&String>) -> bool {
    let plain = |name: &str| name.replace("pg_temp_", "pg_temp.");
    let is = |resource: &str| {
        plain(resource) == plain(name)
            || parent.is_some_and(|parent| resource == parent || resource == format!("public.{parent}"))
    };
    let base = asked.context.get("base").is_some_and(|base| base.split(',').any(is));
    let catalogue = name.starts_with("pg_catalog.") || name.starts_with("information_schema.");
    is(&asked.resource) || base || (asked.action == "sql:Introspect" && catalogue)
}

/// Every `SCHEMA.TABLE` in a plan, quoted as ids write names.
fn named(plan: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    match plan {
        Value::Array(values) => found.extend(values.iter().flat_map(named)),
        Value::Object(fields) => {
            if let (Some(schema), Some(name)) = (fields.get("Schema"), fields.get("Relation Name")) {
                found.insert(format!("{}.{}", quoted(schema), quoted(name)));
            }
            found.extend(fields.values().flat_map(named));
        }
        _ => {}
    }
    found
}

fn quoted(name: &Value) -> String {
    let name = name.as_str().unwrap_or_default();
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
    if plain { name.to_owned() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}
