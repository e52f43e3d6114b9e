//! Whichever operation of a text is forbidden: the client gets an error with the decision, no row, and nothing has changed.
//!
//! Each forbidden operation has a database role of its own, and the policy that forbids it is about this role: one set of policies
//! serves for all, and one session for many texts, which also shows that a session outlives its denials.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::case::{self, Answer, Asked, Case, Protocol};
use super::records::Tail;
use super::wire::{Came, Session};
use super::{DATABASE, Warehouse, prepare};
use crate::support::*;

#[tokio::test]
async fn whatever_is_forbidden_returns_nothing_and_changes_nothing() {
    let forbidden: Vec<(String, Vec<Case>)> = forbidden().into_iter().collect();
    let mut policies = ALLOW_ALL.to_owned();
    let mut roles = String::new();
    for (number, (policy, _)) in forbidden.iter().enumerate() {
        let _ = writeln!(policies, "@id(\"{0}\")\n{1}", role(number), policy.replace("ROLE", &role(number)));
        let _ = writeln!(roles, "CREATE ROLE {} SUPERUSER LOGIN;", role(number));
    }
    let warehouse = Warehouse::start(&policies).await;
    let mut direct = warehouse.direct().await;
    let made = direct.run(&roles, Protocol::Simple).await;
    assert!(made.error.is_none(), "{made:?}");
    let before = checksum(&mut direct).await;
    let mut tail = warehouse.tail();
    let (mut denials, mut wrong, mut skipped) = (0, String::new(), Vec::new());
    for (number, (policy, cases)) in forbidden.iter().enumerate() {
        let role = role(number);
        let mut shared = warehouse.session_as(&role, None).await;
        let state = state(&mut shared).await;
        let readable = !policy.contains("sql:Introspect");
        assert_eq!(state.is_some(), readable, "the state of a session under {policy}");
        for case in cases {
            for protocol in case.protocols() {
                let mut own = None;
                let session = if case.first.is_empty() && case.options.is_none() {
                    &mut shared
                } else {
                    own.insert(warehouse.session_as(&role, case.options.as_deref()).await)
                };
                if prepare(session, case, false).await.is_some() {
                    skipped.push(format!("{} `{}` under {policy}", case.at, case.text));
                    continue;
                }
                let _before = tail.statements();
                let came = session.run(&case.text, *protocol).await;
                denials += 1;
                if let Some(fault) = denied(case, policy, &role, &came, &mut tail) {
                    let _ = writeln!(wrong, "{} {protocol:?}: `{}` under\n{policy}\n    {fault}", case.at, case.text);
                }
            }
        }
        // Before the session ends: what it holds (locks, prepared statements, settings) would end with it.
        let cases: Vec<&String> = cases.iter().map(|case| &case.at).collect();
        if checksum(&mut direct).await != before {
            panic!("{wrong}\none of {cases:?} changed something under {policy}");
        }
        if readable && self::state(&mut shared).await != state {
            let _ = writeln!(wrong, "one of {cases:?} changed the session under {policy}");
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(skipped.is_empty(), "not tried: {skipped:#?}");
    // In the test's own output only.
    println!("{denials} denials under {} policies", forbidden.len());
    assert!(denials >= 1200, "only {denials} denials were tried");
}

fn role(number: usize) -> String {
    format!("denied_{number}")
}

/// Everything that a statement could have changed, as one value.
const CHECKSUM: &str = "SELECT md5(string_agg(part, '|' ORDER BY part)) FROM (
    SELECT query_to_xml(format(CASE relkind WHEN 'S' THEN 'SELECT last_value, is_called FROM %I.%I' ELSE
           'SELECT t::text FROM ONLY %I.%I t ORDER BY 1' END, nspname, relname), true, false, '')::text AS part
      FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
     WHERE relkind IN ('r', 'm', 'S') AND nspname IN ('public', 'sales', 'traps')
    UNION ALL SELECT (oid, relname, relnamespace, relowner, relacl, relhasrules, relhastriggers, relrowsecurity, reloptions, relfilenode)::text
      FROM pg_class WHERE relpersistence <> 't'
    UNION ALL SELECT (attrelid, attname, atttypid, attacl, attisdropped)::text FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
     WHERE attrelid > 16383 AND attnum > 0 AND relpersistence <> 't'
    UNION ALL SELECT p::text FROM pg_proc p WHERE oid > 16383
    UNION ALL SELECT n::text FROM pg_namespace n WHERE nspname !~ '^pg_(toast_)?temp'
    UNION ALL SELECT a::text FROM pg_authid a UNION ALL SELECT m::text FROM pg_auth_members m
    UNION ALL SELECT (oid, datname, datacl, datconfig)::text FROM (SELECT d.oid, datname, datacl, s.setconfig AS datconfig
      FROM pg_database d LEFT JOIN pg_db_role_setting s ON s.setdatabase = d.oid) d
    UNION ALL SELECT s::text FROM pg_db_role_setting s UNION ALL SELECT l::text FROM pg_largeobject_metadata l
    UNION ALL SELECT d::text FROM pg_default_acl d UNION ALL SELECT d::text FROM pg_description d WHERE objoid > 16383
    UNION ALL SELECT e::text FROM pg_event_trigger e UNION ALL SELECT s::text FROM pg_publication s
    UNION ALL SELECT (c.oid, castfunc)::text FROM pg_cast c WHERE oid > 16383 UNION ALL SELECT o::text FROM pg_operator o WHERE oid > 16383
    UNION ALL SELECT s::text FROM pg_file_settings s
    UNION ALL SELECT l::text FROM pg_locks l WHERE locktype = 'advisory' UNION ALL SELECT (gid)::text FROM pg_prepared_xacts
) all_of_it (part)";

async fn checksum(direct: &mut Session) -> String {
    let came = direct.run(CHECKSUM, Protocol::Simple).await;
    came.rows.first().and_then(|row| row[0].clone()).unwrap_or_else(|| panic!("{came:?}"))
}

/// What only the session itself knows: its settings, prepared statements, cursors and channels.
async fn state(session: &mut Session) -> Option<Vec<Vec<Option<String>>>> {
    let text = "SELECT md5(string_agg(name || '=' || setting, ',' ORDER BY name)), (SELECT count(*) FROM pg_prepared_statements), \
                (SELECT count(*) FROM pg_cursors), array(SELECT pg_listening_channels()) FROM pg_settings";
    let came = session.run(text, Protocol::Simple).await;
    came.error.is_none().then_some(came.rows)
}

/// For each operation that a case asks, a policy that forbids it to `ROLE` and the cases that it must stop.
fn forbidden() -> BTreeMap<String, Vec<Case>> {
    let mut forbidden: BTreeMap<String, Vec<Case>> = BTreeMap::new();
    for case in case::all() {
        let Answer::Asks(operations) = &case.answer else { continue };
        for policy in operations.iter().flat_map(|asked| forbidding(asked, &case)) {
            forbidden.entry(policy).or_default().push(case.clone());
        }
    }
    forbidden
}

/// Policies each of which forbids this operation of a case.
fn forbidding(asked: &Asked, case: &Case) -> Vec<String> {
    // What is prepared or declared before asks the same: that much is let through.
    let mut when = "context.role == \"ROLE\"".to_owned();
    let asks = ["PREPARE", "DECLARE", "CREATE TEMP VIEW"];
    if case.first.iter().any(|text| asks.iter().any(|word| text.starts_with(word))) {
        when.push_str(" && ![\"prepare\", \"declare\", \"create_view\"].contains(context.statement)");
    }
    if asked.action == "sql:Connect" {
        // This is also what lets the session in, and what stands before.
        if !case.first.is_empty() {
            return Vec::new();
        }
        when.push_str(" && ![\"startup\", \"connect\"].contains(context.statement)");
    }
    let database = format!("wh/{DATABASE}");
    let resource = match asked.resource.as_str() {
        "database" => format!("resource == Database::\"{database}\""),
        // Nobody knows the name of a temporary schema before.
        name if name.contains("pg_temp") => "resource".to_owned(),
        name => match (name.strip_suffix(".*"), name.strip_suffix("()")) {
            (Some(schema), _) => format!("resource == Schema::\"{database}.{schema}\""),
            (_, Some(function)) => format!("resource == Function::\"{database}.{function}\""),
            _ => format!("resource == Table::\"{database}.{}\"", name.escape_default()),
        },
    };
    let policy = |when: &str| {
        format!("forbid (principal, action == Action::\"{}\", {resource})\nwhen {{ {when} }};", asked.action)
    };
    let with_ssn = asked.columns.as_ref().is_some_and(|columns| columns.contains("ssn"));
    let by_column = with_ssn.then(|| policy(&format!("{when} && context.columns.contains(\"ssn\")")));
    [policy(&when)].into_iter().chain(by_column).collect()
}

/// What is wrong with how a denied text was answered.
fn denied(case: &Case, policy: &str, role: &str, came: &Came, tail: &mut Tail) -> Option<String> {
    let Some(fault) = &came.error else { return Some(format!("not denied: {came:?}")) };
    // Code that nobody may run is code that cannot be judged.
    let code = if case.text.starts_with("DO ") && policy.contains("sql:ExecuteCode") { "0A000" } else { "42501" };
    if fault.code != code {
        return Some(format!("not denied but failed: {fault:?}"));
    }
    if !came.rows.is_empty() || came.copied > 0 || !came.commands.is_empty() {
        return Some(format!("denied, but something came: {came:?}"));
    }
    let records = tail.statements();
    let is_it = |record: &&Value| record["decision_id"].as_str().is_some_and(|id| fault.detail.contains(id));
    let Some(record) = records.iter().find(is_it) else {
        return Some(format!("no record has the decision of {fault:?}: {records:?}"));
    };
    let by_it = record["outcome"] == "forbidden" && policies_of(record) == [role];
    (!by_it).then(|| format!("denied for another reason: {record}"))
}
