//! Unmodified clients of PostgreSQL through a pair of sidecars: what is permitted works as without them; what is not says so
//! in PostgreSQL's own words, leaves a record, and changes nothing.

use std::fs::File;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use tokio_postgres::{AsyncMessage, NoTls};

use crate::support::*;

/// What every denial has: SQLSTATE, and in DETAIL the id of a decision whose record says what was asked of which table.
async fn denied(house: &Warehouse, error: &Value, action: &str, table: &str) -> Value {
    assert_eq!(error["sqlstate"], "42501", "{error:#}");
    let detail = error["detail"].as_str().unwrap_or_else(|| panic!("no DETAIL: {error:#}"));
    denied_by(house, detail, action, table).await
}

async fn denied_by(house: &Warehouse, detail: &str, action: &str, table: &str) -> Value {
    let record = house.inbound.records.of_decision(&decision_id(detail)).await;
    assert_eq!(record["kind"], "request", "{record:#}");
    assert!(["not_permitted", "forbidden"].contains(&record["outcome"].as_str().unwrap_or("")), "{record:#}");
    assert!(asks(&record, action, table), "not {action} of {table}: {record:#}");
    assert_eq!(record["protocol"], "postgres", "{record:#}");
    assert_eq!(record["sql"]["sqlstate"], "42501", "{record:#}");
    record
}

/// The record of a permitted statement.
async fn allowed(house: &Warehouse, action: &str, table: &str) -> Value {
    let what = format!("{action} of {table}, allowed");
    let records = &house.inbound.records;
    records.find(&what, |record| record["outcome"] == "allowed" && asks(record, action, table)).await
}

fn error_of(result: &Value) -> &Value {
    assert!(result["error"].is_object(), "no error: {result:#}");
    &result["error"]
}

fn rows(result: &Value) -> &Value {
    assert!(result["error"].is_null(), "{result:#}");
    &result["rows"]
}

/// Policies under which people may be read but for their `ssn`, and nothing else be done.
fn people_without_ssn() -> String {
    only(&[("sql:Select", "public.people")])
        + "@id(\"no-ssn\") forbid (principal, action, resource == Table::\"wh/analytics.public.people\") \
           when { context has columns && context.columns.contains(\"ssn\") };\n"
}

// ------------------------------------------------------------------------------------------------------------------- psql

const DESCRIBING: [&str; 22] = [
    r"\d",
    r"\d people",
    r"\d+ orders",
    r"\d+ events",
    r"\d child",
    r"\d+ people_names",
    r"\dt *.*",
    r"\dv",
    r"\dm *.*",
    r"\di+",
    r"\ds",
    r"\df",
    r"\dn+",
    r"\du",
    r"\l",
    r"\dp",
    r"\dT",
    r"\dD",
    r"\dC",
    r"\sf add_one",
    r"\sv people_names",
    r"\dx",
];

#[tokio::test]
async fn psql_describes_the_database_as_it_does_without_sidecars() {
    let world = World::new();
    let house = world.warehouse(&only(&[]), "").await;
    for command in DESCRIBING {
        let direct = psql(house.server.address(), "admin_role", &["-c", command], "").await;
        let through = house.psql(&["-c", command]).await;
        assert_eq!(through.stdout, direct.stdout, "{command}: {through:#?}");
        assert_eq!(through.code(), 0, "{command}: {through:#?}");
        assert_eq!(through.stderr, direct.stderr, "{command}");
    }
    let read = house.inbound.records.find("introspection", |record| record["action"] == "sql:Introspect").await;
    assert_eq!(read["resource"], "Database::\"wh/analytics\"", "{read:#}");
    house.stop().await;
}

#[tokio::test]
async fn psql_runs_what_is_permitted_and_is_told_what_is_not() {
    let world = World::new();
    let house = world.warehouse(&people_without_ssn(), "").await;
    let read = house.psql(&["-c", "SELECT name FROM people WHERE id = 1"]).await;
    assert_eq!(read.stdout, "Ada", "{read:#?}");
    let record = allowed(&house, "sql:Select", "public.people").await;
    assert_eq!(record["context"]["columns"], json!(["id", "name"]), "{record:#}");
    assert_eq!(record["context"]["role"], "admin_role", "{record:#}");
    assert_eq!(record["sql"]["command"], "SELECT 1", "{record:#}");
    assert_eq!(record["sql"]["rows"], 1, "{record:#}");
    assert_eq!(record["sql"]["protocol"], "simple", "{record:#}");
    let text = record["sql"]["text"].as_str().unwrap_or_default();
    assert!(text.contains("id = $1"), "literals are replaced: {record:#}");
    assert_eq!(record["principal"], world.id("app"), "{record:#}");

    let before = house.server.content("SELECT * FROM people").await;
    for (sql, action, table) in [
        ("SELECT ssn FROM people", "sql:Select", "public.people"),
        ("SELECT * FROM people", "sql:Select", "public.people"),
        ("SELECT p FROM people p", "sql:Select", "public.people"),
        ("TABLE people", "sql:Select", "public.people"),
        ("COPY people TO STDOUT", "sql:Select", "public.people"),
        ("DELETE FROM people", "sql:Delete", "public.people"),
        ("UPDATE people SET name = 'x'", "sql:Update", "public.people"),
        ("INSERT INTO people VALUES (9, 'x', 'y')", "sql:Insert", "public.people"),
        ("WITH gone AS (DELETE FROM people RETURNING id) SELECT * FROM gone", "sql:Delete", "public.people"),
        ("EXPLAIN ANALYZE DELETE FROM people", "sql:Delete", "public.people"),
        ("TRUNCATE people CASCADE", "sql:Truncate", "public.people"),
        ("SELECT value FROM sales.secrets", "sql:Select", "sales.secrets"),
        ("SELECT 1; DELETE FROM people", "sql:Delete", "public.people"),
    ] {
        let told = house.psql(&["-c", sql]).await;
        assert_eq!(told.code(), 1, "{sql}: {told:#?}");
        assert_eq!(told.stdout, "", "{sql}: {told:#?}");
        assert!(told.stderr.starts_with("ERROR:  42501: "), "{sql}: {told:#?}");
        let detail = told.stderr.lines().find_map(|line| line.strip_prefix("DETAIL:  "));
        denied_by(&house, detail.unwrap_or_else(|| panic!("{sql}: {told:#?}")), action, table).await;
    }
    assert_eq!(house.server.content("SELECT * FROM people").await, before);
    house.stop().await;
}

#[tokio::test]
async fn after_a_denial_the_transaction_is_as_postgresql_leaves_it() {
    let world = World::new();
    let house = world.warehouse(&only(&[("sql:Insert", "public.parent"), ("sql:Select", "public.parent")]), "").await;
    let mut wire = house.session().await;
    assert_eq!(wire.query("BEGIN").await.status, 'T');
    assert_eq!(wire.query("INSERT INTO parent VALUES (7, 'kept?')").await.tags, ["INSERT 0 1"]);
    let reply = wire.query("DELETE FROM people").await;
    assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'E'), "{reply:#?}");
    assert_eq!(wire.query("SELECT id FROM ONLY parent").await.error().sqlstate(), "25P02");
    assert_eq!(wire.query("DELETE FROM people").await.error().sqlstate(), "25P02");
    let reply = wire.query("COMMIT").await;
    assert_eq!((reply.tags, reply.status), (vec!["ROLLBACK".to_owned()], 'I'));
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 7").await, "0");
    // With a savepoint the rest is kept, as after PostgreSQL's own errors.
    wire.query("BEGIN; INSERT INTO parent VALUES (8, 'kept'); SAVEPOINT s").await.ok();
    assert_eq!(wire.query("DELETE FROM people").await.error().sqlstate(), "42501");
    assert_eq!(wire.query("ROLLBACK TO s").await.status, 'T');
    assert_eq!(wire.query("COMMIT").await.tags, ["COMMIT"]);
    assert_eq!(house.server.value("SELECT count(*) FROM parent WHERE id = 8").await, "1");
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "3");
    wire.terminate().await;
    house.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------- psycopg

#[tokio::test]
async fn psycopg_does_all_that_it_does_without_sidecars() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let steps = json!([
        { "do": "execute", "sql": "SELECT name FROM people ORDER BY id" },
        { "do": "execute", "sql": "SELECT name FROM people WHERE id = %s", "params": [2], "prepare": true },
        { "do": "execute", "sql": "SELECT id FROM people WHERE name = %s", "params": ["Ada"], "binary": true },
        { "do": "execute", "sql": "SELECT 1; SELECT 2" },
        { "do": "commit" },
        { "do": "executemany", "sql": "INSERT INTO parent VALUES (%s, %s)", "params": [[10, "a"], [11, "b"], [12, "c"]] },
        { "do": "pipeline", "statements": [
            ["SELECT count(*) FROM parent WHERE id > %s", [9]],
            ["UPDATE parent SET note = 'z' WHERE id = %s", [10]],
            ["SELECT note FROM parent WHERE id = %s", [10]] ] },
        { "do": "copy_in", "sql": "COPY parent (id, note) FROM STDIN", "rows": [[20, "x"], [21, null]] },
        { "do": "copy_out", "sql": "COPY (SELECT id FROM parent WHERE id >= 20 ORDER BY id) TO STDOUT" },
        { "do": "cursor", "sql": "SELECT id FROM people ORDER BY id" },
        { "do": "commit" },
        { "do": "transaction", "steps": [
            { "do": "execute", "sql": "INSERT INTO parent VALUES (30, 'in a transaction')" },
            { "do": "execute", "sql": "SELECT count(*) FROM ONLY parent WHERE id = 30" } ] },
        { "do": "identifiers", "sql": "SELECT total FROM {} ORDER BY {}", "names": [["sales", "orders"], ["id"]] },
        { "do": "cancel", "sql": "SELECT pg_sleep(60)" },
        { "do": "rollback" },
        { "do": "execute", "sql": "SELECT no_such_column FROM people" },
        { "do": "rollback" },
    ]);
    let direct =
        driver("psycopg_client.py", house.server.address(), json!({ "user": "admin_role" }), steps.clone()).await;
    // What the direct run has left behind.
    house.server.sql("DELETE FROM parent WHERE id > 2").await;
    let through = house.driver("psycopg_client.py", steps).await;
    for (number, result) in through.iter().enumerate() {
        assert_eq!(*result, direct[number], "step {number}");
    }
    assert_eq!(through.len(), direct.as_array().map_or(0, Vec::len));
    assert_eq!(through[13]["error"]["sqlstate"], "57014", "the cancel arrives: {:#}", through[13]);
    assert_eq!(house.server.value("SELECT count(*) FROM ONLY parent").await, "7");
    house.stop().await;
}

#[tokio::test]
async fn psycopg_is_denied_in_every_kind_of_message() {
    let world = World::new();
    let permitted = only(&[
        ("sql:Select", "public.parent"),
        ("sql:Select", "public.child"),
        ("sql:Insert", "public.parent"),
        ("sql:Select", "public.people_names"),
    ]);
    let house = world.warehouse(&permitted, "").await;
    let before = house.server.content("SELECT * FROM people").await;
    let results = house
        .driver(
            "psycopg_client.py",
            json!([
                { "do": "execute", "sql": "DELETE FROM people" },
                { "do": "rollback" },
                { "do": "execute", "sql": "DELETE FROM people WHERE id = %s", "params": [1] },
                { "do": "rollback" },
                { "do": "execute", "sql": "DELETE FROM people WHERE id = %s", "params": [1], "prepare": true },
                { "do": "rollback" },
                { "do": "copy_in", "sql": "COPY people FROM STDIN", "rows": [[9, "x", "y"]] },
                { "do": "rollback" },
                { "do": "copy_out", "sql": "COPY people TO STDOUT" },
                { "do": "rollback" },
                { "do": "cursor", "sql": "SELECT name FROM people" },
                { "do": "pipeline", "statements": [
                    ["INSERT INTO parent VALUES (%s, 'lost')", [40]],
                    ["DELETE FROM people WHERE id = %s", [1]],
                    ["INSERT INTO parent VALUES (%s, 'lost too')", [41]] ] },
                { "do": "rollback" },
                { "do": "execute", "sql": "SELECT name FROM people_names ORDER BY id" },
                { "do": "commit" },
            ]),
        )
        .await;
    for number in [0, 2, 4] {
        let record = denied(&house, error_of(&results[number]), "sql:Delete", "public.people").await;
        let protocol = if number == 0 { "simple" } else { "extended" };
        assert_eq!(record["sql"]["protocol"], protocol, "{record:#}");
        assert_eq!(results[number]["status"], "INERROR", "{:#}", results[number]);
    }
    denied(&house, error_of(&results[6]), "sql:Insert", "public.people").await;
    denied(&house, error_of(&results[8]), "sql:Select", "public.people").await;
    denied(&house, error_of(&results[10]), "sql:Select", "public.people").await;
    denied(&house, error_of(&results[11]), "sql:Delete", "public.people").await;
    assert_eq!(rows(&results[13]), &json!([["Ada"], ["Grace"], ["Edsger"]]));
    let record = allowed(&house, "sql:Select", "public.people_names").await;
    assert!(record["context"]["base"].to_string().contains("public.people"), "a view's base: {record:#}");
    assert_eq!(house.server.content("SELECT * FROM people").await, before);
    assert_eq!(
        house.server.value("SELECT count(*) FROM parent WHERE id >= 40").await,
        "0",
        "a denied pipeline commits nothing"
    );
    house.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------- asyncpg

#[tokio::test]
async fn asyncpg_works_with_its_pool() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let steps = json!([
        { "do": "fetch", "sql": "SELECT name FROM people WHERE id = $1", "params": [1] },
        { "do": "fetch", "sql": "SELECT name FROM people WHERE id = $1", "params": [2] },
        { "do": "execute", "sql": "INSERT INTO parent VALUES (10, 'a'); INSERT INTO parent VALUES (11, 'b')" },
        { "do": "executemany", "sql": "INSERT INTO parent VALUES ($1, $2)", "params": [[12, "c"], [13, "d"]] },
        { "do": "copy_in", "table": ["public", "parent"], "columns": ["id", "note"], "rows": [[14, "e"], [15, null]] },
        { "do": "copy_out", "sql": "SELECT id FROM ONLY parent WHERE id > 9 ORDER BY id" },
        { "do": "cursor", "sql": "SELECT id FROM people ORDER BY id" },
        { "do": "transaction", "steps": [{ "do": "execute", "sql": "UPDATE parent SET note = 'z' WHERE id = 10" }] },
        { "do": "execute", "sql": "SET search_path TO sales" },
        // RESET ALL of the pool has undone it.
        { "do": "fetch", "sql": "SELECT customer FROM orders ORDER BY id" },
        { "do": "fetch", "sql": "SELECT ARRAY[1, 2]::int[], '{\"a\": 1}'::jsonb, 'x'::short_text" },
        { "do": "timeout", "sql": "SELECT pg_sleep(60)" },
        { "do": "fetch", "sql": "SELECT current_user" },
    ]);
    let direct =
        driver("asyncpg_client.py", house.server.address(), json!({ "user": "admin_role" }), steps.clone()).await;
    house.server.sql("DELETE FROM parent WHERE id > 2").await;
    let through = house.driver("asyncpg_client.py", steps).await;
    assert_eq!(json!(through), direct);
    assert_eq!(rows(&through[9]), &json!([["1"], ["1"], ["2"]]));
    assert_eq!(through[11]["timeout"], true);
    house.stop().await;
}

#[tokio::test]
async fn asyncpg_is_denied_and_its_connection_stays_usable() {
    let world = World::new();
    let house = world.warehouse(&people_without_ssn(), "").await;
    let before = house.server.content("SELECT * FROM people").await;
    let results = house
        .driver(
            "asyncpg_client.py",
            json!([
                { "do": "fetch", "sql": "SELECT name FROM people WHERE id = $1", "params": [1] },
                { "do": "fetch", "sql": "SELECT ssn FROM people WHERE id = $1", "params": [1] },
                { "do": "execute", "sql": "DELETE FROM people" },
                { "do": "executemany", "sql": "INSERT INTO people VALUES ($1, $2, $3)", "params": [[8, "x", "y"]] },
                { "do": "copy_in", "table": ["public", "people"], "columns": ["id", "name"], "rows": [[9, "z"]] },
                { "do": "copy_out", "sql": "SELECT ssn FROM people" },
                { "do": "transaction", "steps": [{ "do": "execute", "sql": "UPDATE people SET name = ssn" }] },
                { "do": "fetch", "sql": "SELECT name FROM people WHERE id = $1", "params": [2] },
            ]),
        )
        .await;
    assert_eq!(rows(&results[0]), &json!([["Ada"]]));
    denied(&house, error_of(&results[1]), "sql:Select", "public.people").await;
    denied(&house, error_of(&results[2]), "sql:Delete", "public.people").await;
    denied(&house, error_of(&results[3]), "sql:Insert", "public.people").await;
    denied(&house, error_of(&results[4]), "sql:Insert", "public.people").await;
    denied(&house, error_of(&results[5]), "sql:Select", "public.people").await;
    denied(&house, error_of(&results[6]["steps"][0]), "sql:Update", "public.people").await;
    assert_eq!(rows(&results[7]), &json!([["Grace"]]));
    assert_eq!(house.server.content("SELECT * FROM people").await, before);
    house.stop().await;
}

// ---------------------------------------------------------------------------------------------------------------- SQLAlchemy

#[tokio::test]
async fn sqlalchemy_inspects_and_maps_as_without_sidecars() {
    let world = World::new();
    let house = world.warehouse(&only(&[]), "").await;
    let steps = json!([
        { "do": "inspect" }, { "do": "inspect", "schema": "sales" }, { "do": "reflect" }, { "do": "reflect", "schema": "sales" },
    ]);
    let direct =
        driver("sqlalchemy_client.py", house.server.address(), json!({ "user": "admin_role" }), steps.clone()).await;
    let through = house.driver("sqlalchemy_client.py", steps).await;
    assert_eq!(json!(through), direct);
    assert_eq!(through[0]["tables"]["orders"]["foreign_keys"], json!(["people"]));
    house.stop().await;
}

#[tokio::test]
async fn an_orm_reads_and_writes_what_it_may() {
    let world = World::new();
    let permitted = people_without_ssn()
        + &only(&[("sql:Insert", "public.people"), ("sql:Insert", "public.orders"), ("sql:Select", "public.orders")])
            .lines()
            .skip(1)
            .map(|line| format!("{}\n", line.replace("only-", "also-")))
            .collect::<String>();
    let permitted =
        permitted.replace("forbid (principal, action,", "forbid (principal, action == Action::\"sql:Select\",");
    let house = world.warehouse(&permitted, "").await;
    let results = house
        .driver(
            "sqlalchemy_client.py",
            json!([
                { "do": "insert", "people": [{ "id": 4, "name": "Barbara", "ssn": "1" }, { "id": 5, "name": "Tony" }],
                  "orders": [{ "id": 9, "customer": 4, "amount": "3.5" }] },
                { "do": "people" },
                { "do": "joined" },
                { "do": "deferred", "id": 1 },
                { "do": "remove", "id": 5 },
                { "do": "insert", "people": [{ "id": 1, "name": "again" }] },
            ]),
        )
        .await;
    assert_eq!(results[0], json!({}), "{results:#?}");
    assert_eq!(rows(&results[1])[3], json!(["4", "Barbara"]));
    assert_eq!(rows(&results[2])[3], json!(["Barbara", "3.5"]));
    let record = denied(&house, error_of(&results[3]), "sql:Select", "public.people").await;
    assert!(record.to_string().contains("\"ssn\""), "{record:#}");
    assert_eq!(record["policies"], json!(["no-ssn"]), "{record:#}");
    denied(&house, error_of(&results[4]), "sql:Delete", "public.people").await;
    // The key of a violated constraint is no column that the statement may read all of.
    let violated = error_of(&results[5]);
    assert_eq!((&violated["sqlstate"], &violated["detail"]), (&json!("23505"), &Value::Null), "{violated:#}");
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "5");
    house.stop().await;
}

// -------------------------------------------------------------------------------------------------------------- tokio-postgres

async fn tokio_postgres(house: &Warehouse) -> tokio_postgres::Client {
    let address = house.address();
    let config = format!("host={} port={} user=admin_role dbname={DATABASE}", address.ip(), address.port());
    let (client, mut connection) =
        within("a session", tokio_postgres::connect(&config, NoTls)).await.expect("is permitted");
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                eprintln!("{notice}");
            }
        }
    });
    client
}

#[tokio::test]
async fn a_rust_client_prepares_pipelines_copies_and_cancels() {
    use futures_util::{SinkExt, TryStreamExt, pin_mut};
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut client = tokio_postgres(&house).await;
    let by_id = client.prepare("SELECT name FROM people WHERE id = $1").await.expect("is permitted");
    let (first, second, third) = tokio::join!(
        client.query_one(&by_id, &[&1_i32]),
        client.query_one(&by_id, &[&2_i32]),
        client.query_one(&by_id, &[&3_i32]),
    );
    let names = [first, second, third].map(|row| row.expect("is permitted").get::<_, String>(0));
    assert_eq!(names, ["Ada", "Grace", "Edsger"]);

    let transaction = client.transaction().await.expect("is permitted");
    let sink = transaction.copy_in("COPY parent (id, note) FROM STDIN").await.expect("is permitted");
    pin_mut!(sink);
    for id in 100..200 {
        sink.send(bytes::Bytes::from(format!("{id}\tnote\n"))).await.expect("the server takes it");
    }
    assert_eq!(sink.finish().await.expect("is permitted"), 100);
    transaction.commit().await.expect("is permitted");
    let out = client.copy_out("COPY (SELECT id FROM parent WHERE id >= 100) TO STDOUT").await.expect("is permitted");
    let out: Vec<bytes::Bytes> = out.try_collect().await.expect("all comes");
    assert_eq!(out.concat().split(|byte| *byte == b'\n').count(), 101);
    let record = allowed(&house, "sql:Insert", "public.parent").await;
    assert_eq!((&record["sql"]["command"], &record["sql"]["rows"]), (&json!("COPY 100"), &json!(100)), "{record:#}");

    let cancel = client.cancel_token();
    let sleeping = client.batch_execute("SELECT pg_sleep(60)");
    let canceling = async {
        house.server.runs("pg_sleep").await;
        cancel.cancel_query(NoTls).await.expect("the listener takes it");
    };
    let (slept, ()) = within("the cancel", async { tokio::join!(sleeping, canceling) }).await;
    let error = slept.expect_err("it is canceled");
    assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("57014"), "{error:?}");
    drop(client);
    house.stop().await;
}

#[tokio::test]
async fn a_prepared_statement_is_judged_when_it_is_prepared() {
    let world = World::new();
    let house = world.warehouse(&people_without_ssn(), "").await;
    let client = tokio_postgres(&house).await;
    let error = client.prepare("SELECT ssn FROM people WHERE id = $1").await.expect_err("is denied");
    let error = error.as_db_error().expect("is the server's word");
    assert_eq!(error.code().code(), "42501");
    denied_by(&house, error.detail().unwrap_or_default(), "sql:Select", "public.people").await;
    let row = client.query_one("SELECT name FROM people WHERE id = $1", &[&1_i32]).await.expect("is permitted");
    assert_eq!(row.get::<_, String>(0), "Ada");
    drop(client);
    house.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------- pgbench

async fn pgbench(house: &Warehouse, arguments: &[&str]) -> Output {
    let mut command = libpq("pgbench", house.address(), "admin_role");
    Process::run("pgbench", command.args(arguments), "").await
}

#[tokio::test]
async fn pgbench_runs_in_every_mode_and_each_statement_has_a_record() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let initialized = pgbench(&house, &["-i", "-s", "1", "-q"]).await;
    assert_eq!(initialized.code(), 0, "{initialized:#?}");
    assert_eq!(house.server.value("SELECT count(*) FROM pgbench_accounts").await, "100000");
    for mode in ["simple", "extended", "prepared"] {
        let ran = pgbench(&house, &["-n", "-M", mode, "-c", "4", "-t", "25"]).await;
        assert_eq!(ran.code(), 0, "{mode}: {ran:#?}");
        assert!(ran.stdout.contains("number of transactions actually processed: 100/100"), "{mode}: {ran:#?}");
    }
    assert_eq!(house.server.value("SELECT count(*) FROM pgbench_history").await, "300");
    let Warehouse { outbound, inbound, server } = house;
    outbound.stop().await;
    let records = inbound.stop().await.all();
    let inserted: Vec<&Value> =
        records.iter().filter(|record| asks(record, "sql:Insert", "public.pgbench_history")).collect();
    assert_eq!(inserted.len(), 300, "one record a statement");
    for protocol in ["simple", "extended"] {
        let count = inserted.iter().filter(|record| record["sql"]["protocol"] == protocol).count();
        assert_eq!(count, if protocol == "simple" { 100 } else { 200 }, "{protocol}");
    }
    assert!(inserted.iter().all(|record| record["sql"]["command"] == "INSERT 0 1" && record["outcome"] == "allowed"));
    server.sessions_end().await;
}

#[tokio::test]
async fn pgbench_may_read_but_not_write() {
    let world = World::new();
    let accounts = ["accounts", "branches", "tellers", "history"].map(|table| format!("public.pgbench_{table}"));
    let permitted: Vec<(&str, &str)> = accounts.iter().map(|table| ("sql:Select", table.as_str())).collect();
    let house = world.warehouse(&only(&permitted), "").await;
    let direct = libpq("pgbench", house.server.address(), "admin_role").args(["-i", "-s", "1", "-q"]).output();
    assert!(direct.is_ok_and(|output| output.status.success()));
    let before = house.server.value("SELECT sum(abalance) || '/' || count(*) FROM pgbench_accounts").await;
    for mode in ["simple", "extended", "prepared"] {
        let ran = pgbench(&house, &["-n", "-S", "-M", mode, "-c", "2", "-t", "50"]).await;
        assert_eq!(ran.code(), 0, "{mode}: {ran:#?}");
        let ran = pgbench(&house, &["-n", "-M", mode, "-c", "1", "-t", "2"]).await;
        assert_ne!(ran.code(), 0, "{mode}: {ran:#?}");
        let detail = ran.stderr.lines().find_map(|line| line.strip_prefix("DETAIL:  "));
        denied_by(
            &house,
            detail.unwrap_or_else(|| panic!("{mode}: {ran:#?}")),
            "sql:Update",
            "public.pgbench_accounts",
        )
        .await;
    }
    assert_eq!(house.server.value("SELECT sum(abalance) || '/' || count(*) FROM pgbench_accounts").await, before);
    assert_eq!(house.server.value("SELECT count(*) FROM pgbench_history").await, "0");
    house.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------- pg_dump

/// Without what differs from run to run.
fn comparable(dump: &str) -> String {
    dump.lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn a_dump_and_its_restore_pass_the_pair() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let direct = Process::run("pg_dump", &mut libpq("pg_dump", house.server.address(), "admin_role"), "").await;
    let through = Process::run("pg_dump", &mut libpq("pg_dump", house.address(), "admin_role"), "").await;
    assert_eq!(through.code(), 0, "{}", through.stderr);
    assert_eq!(comparable(&through.stdout), comparable(&direct.stdout));

    house.server.sql("CREATE DATABASE copied").await;
    let archive = world.path().join("archive");
    let mut dump = libpq("pg_dump", house.address(), "admin_role");
    let dumped = Process::run("pg_dump", dump.args(["-Fc", "-f"]).arg(&archive), "").await;
    assert_eq!(dumped.code(), 0, "{dumped:#?}");
    let mut restore = libpq("pg_restore", house.address(), "admin_role");
    let restored =
        Process::run("pg_restore", restore.args(["-d", "copied", "--exit-on-error"]).arg(&archive), "").await;
    assert_eq!(restored.code(), 0, "{restored:#?}");
    let mut copied = libpq("pg_dump", house.server.address(), "admin_role");
    let copied = Process::run("pg_dump", copied.arg("copied"), "").await;
    assert_eq!(comparable(&copied.stdout), comparable(&direct.stdout));
    house.stop().await;
}

#[tokio::test]
async fn a_dump_of_one_table_needs_that_table_and_no_other() {
    let world = World::new();
    // pg_dump wants an error rather than rows that a row policy leaves out, and the options of foreign servers.
    let permitted = only(&[("sql:Select", "public.people"), ("sql:Lock", "public.people")])
        + "@id(\"dump\") permit (principal, action == Action::\"sql:Set\", resource) \
           when { context has setting && context.setting == \"row_security\" };\n\
           @id(\"catalogue\") permit (principal, action == Action::\"sql:Select\", resource in Schema::\"wh/analytics.pg_catalog\");\n\
           @id(\"options\") permit (principal, action == Action::\"sql:Execute\", \
           resource == Function::\"wh/analytics.pg_catalog.pg_options_to_table\");\n";
    let house = world.warehouse(&permitted, "").await;
    let mut dump = libpq("pg_dump", house.address(), "admin_role");
    let dumped = Process::run("pg_dump", dump.args(["-t", "people", "-a"]), "").await;
    assert_eq!(dumped.code(), 0, "{dumped:#?}");
    assert!(dumped.stdout.contains("1\tAda\t123-45"), "{dumped:#?}");
    let mut dump = libpq("pg_dump", house.address(), "admin_role");
    let dumped = Process::run("pg_dump", dump.args(["-t", "sales.secrets", "-a"]), "").await;
    assert_eq!(dumped.code(), 1, "{dumped:#?}");
    assert!(!dumped.stdout.contains("combination"), "{dumped:#?}");
    let detail = dumped.stderr.lines().find_map(|line| line.split_once("DETAIL:  "));
    let (_, detail) = detail.unwrap_or_else(|| panic!("{dumped:#?}"));
    denied_by(&house, detail, "sql:Lock", "sales.secrets").await;
    house.stop().await;
}

/// A pipe of the shell, as people write it.
#[tokio::test]
async fn pg_dump_piped_into_psql_moves_a_table() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    house.server.sql("CREATE DATABASE copied").await;
    let archive = world.path().join("dump.sql");
    let file = File::create(&archive).expect("the folder is writable");
    let mut dump: Command = libpq("pg_dump", house.address(), "admin_role");
    let dumped = dump.args(["-t", "people", "--no-owner"]).stdout(Stdio::from(file)).status();
    assert!(dumped.is_ok_and(|status| status.success()));
    let text = std::fs::read_to_string(&archive).expect("was written");
    let restored = psql(house.address(), "admin_role", &["-d", "copied", "-v", "ON_ERROR_STOP=1"], &text).await;
    assert_eq!(restored.code(), 0, "{restored:#?}");
    let read =
        psql(house.server.address(), "admin_role", &["-d", "copied", "-c", "SELECT count(*) FROM people"], "").await;
    assert_eq!(read.stdout, "3", "{read:#?}");
    house.stop().await;
}

// ------------------------------------------------------------------------------------------------------------- another server

#[tokio::test]
async fn postgresql_18_is_judged_alike() {
    let world = World::new();
    let plan = PgPlan::new().version(PgVersion::V18);
    let house = world.warehouse_with(plan, &people_without_ssn(), AS_ADMIN).await;
    let mut wire = house.session().await;
    assert!(wire.parameters["server_version"].starts_with("18"), "{:?}", wire.parameters);
    assert_eq!(wire.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
    assert_eq!(wire.extended("SELECT name FROM people WHERE id = $1::int", &["2"]).await.value(), "Grace");
    for sql in ["SELECT ssn FROM people", "SELECT json_scalar(ssn) FROM people", "SELECT JSON_ARRAY(ssn) FROM people"] {
        let reply = wire.query(sql).await;
        assert_eq!(reply.error().sqlstate(), "42501", "{sql}: {reply:#?}");
        denied_by(&house, reply.error().detail(), "sql:Select", "public.people").await;
    }
    let reply = wire.query("UPDATE people SET name = 'x' RETURNING old.ssn, new.name").await;
    denied_by(&house, reply.error().detail(), "sql:Update", "public.people").await;
    assert_eq!(house.server.value("SELECT count(*) FROM people WHERE name = 'x'").await, "0");
    wire.terminate().await;
    let results = house
        .driver(
            "asyncpg_client.py",
            json!([
                { "do": "fetch", "sql": "SELECT name FROM people WHERE id = $1", "params": [1] },
                { "do": "execute", "sql": "DELETE FROM people" },
            ]),
        )
        .await;
    assert_eq!(rows(&results[0]), &json!([["Ada"]]));
    denied(&house, error_of(&results[1]), "sql:Delete", "public.people").await;
    house.stop().await;
}

#[tokio::test]
async fn a_server_of_the_harness_has_the_warehouse() {
    for version in [PgVersion::V15, PgVersion::V18] {
        let server = PgPlan::new().version(version).start().await;
        assert_eq!(server.value("SELECT count(*) FROM people").await, "3");
        server.sessions_end().await;
        let mut wire = PgWire::session(server.address(), "app_role").await;
        assert_eq!(wire.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
        assert_eq!(wire.extended("SELECT name FROM people WHERE id = $1::int", &["2"]).await.value(), "Grace");
        assert_eq!(wire.query("SELECT nonsense").await.error().sqlstate(), "42703");
        server.sessions_are("one", |all| all.len() == 1).await;
        wire.terminate().await;
        server.sessions_end().await;
        let told = psql(server.address(), "app_role", &["-c", "SELECT current_user"], "").await;
        assert_eq!(told.stdout, "app_role", "{told:#?}");
    }
}
