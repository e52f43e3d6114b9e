//! Timeouts that a listener caps: clients lower them, and get the cap where they would raise them.

use crate::support::pg_wire::{bind, execute, parse, sync};
use crate::support::*;

const LOGIN: [(&str, &str); 2] = [("user", "admin_role"), ("database", DATABASE)];

/// Two seconds for a statement, three between the statements of a transaction.
const CAPS: &str = "statement_timeout: 2s\nidle_in_transaction_timeout: 3s\n";

async fn shown(wire: &mut PgWire, name: &str) -> String {
    wire.query(&format!("SHOW {name}")).await.value().to_owned()
}

#[tokio::test]
async fn a_session_begins_at_the_caps_and_goes_back_to_them() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, CAPS).await;
    let mut wire = house.session().await;
    assert_eq!(shown(&mut wire, "statement_timeout").await, "2s");
    assert_eq!(shown(&mut wire, "idle_in_transaction_session_timeout").await, "3s");
    wire.query("SET statement_timeout = '300ms'").await.ok();
    assert_eq!(wire.query("SELECT pg_sleep(20)").await.error().sqlstate(), "57014");
    for sql in [
        "SET statement_timeout = DEFAULT",
        "SET LOCAL Statement_Timeout TO DEFAULT",
        "RESET statement_timeout",
        "RESET ALL",
        "DISCARD ALL",
    ] {
        wire.query("SET statement_timeout = '1s'").await.ok();
        assert_eq!(shown(&mut wire, "statement_timeout").await, "1s");
        match sql.contains("LOCAL") {
            true => drop(wire.query(&format!("BEGIN; {sql}; COMMIT; RESET statement_timeout")).await.ok()),
            false => drop(wire.query(sql).await.ok()),
        }
        assert_eq!(shown(&mut wire, "statement_timeout").await, "2s", "{sql}");
    }
    let mut asking = PgWire::plain(house.address()).await;
    asking.login(&[LOGIN[0], LOGIN[1], ("options", "-c statement_timeout=0")]).await.expect("is permitted");
    assert_eq!(shown(&mut asking, "statement_timeout").await, "2s");
    house.stop_with([wire, asking]).await;
}

#[tokio::test]
async fn what_would_raise_a_timeout_sets_the_cap_and_what_lowers_it_is_done() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, CAPS).await;
    let mut wire = house.session().await;
    for (sql, shows) in [
        ("SET statement_timeout = 0", "2s"),
        ("SET statement_timeout = '1h'", "2s"),
        ("set session statement_timeout to 2001", "2s"),
        ("SET \"Statement_Timeout\" = '1 d'", "2s"),
        ("SET U&\"st\\0061tement_timeout\" TO '00'", "2s"),
        ("SET/*1*/STATEMENT_TIMEOUT/*1*/=--1\n0", "2s"),
        ("SELECT set_config('statement_timeout', '1h', false)", "2s"),
        ("SET statement_timeout = 1999", "1999ms"),
        ("SET SESSION statement_timeout = '1 s'", "1s"),
        ("SELECT set_config('STATEMENT_TIMEOUT', '5', false)", "5ms"),
    ] {
        let capped = shows == "2s";
        for extended in [false, true] {
            wire.query("SET statement_timeout = '900ms'").await.ok();
            let reply = if extended { wire.extended(sql, &[]).await } else { wire.query(sql).await };
            reply.ok();
            let told: Vec<_> = reply.notices.iter().map(|notice| (notice.severity(), notice.message())).collect();
            let expected = [("NOTICE", "\"statement_timeout\" is capped: set to 2000 ms")];
            assert_eq!(told, expected.get(..usize::from(capped)).unwrap_or_default(), "{sql}");
            assert_eq!(shown(&mut wire, "statement_timeout").await, shows, "{sql}");
        }
    }
    wire.query("SET idle_in_transaction_session_timeout = 0").await.ok();
    assert_eq!(shown(&mut wire, "idle_in_transaction_session_timeout").await, "3s");
    let records = &house.inbound.records;
    let set = |record: &serde_json::Value| record["sql"]["command"] == "SET";
    let capped = records.find("a capped SET", |record| set(record) && record["reason"] == "setting-capped").await;
    assert_eq!(capped["outcome"], "allowed", "{capped:#}");
    records.find("a SET that was done", |record| set(record) && record["reason"].is_null()).await;
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn within_other_statements_a_timeout_is_capped_as_well() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, CAPS).await;
    let mut wire = house.session().await;
    let text = "BEGIN; SET LOCAL statement_timeout = 0; SELECT current_setting('statement_timeout'); \
                SET LOCAL statement_timeout = 0; SET application_name = 'x'; SET LOCAL statement_timeout = '1500ms'; \
                SELECT current_setting('statement_timeout'); COMMIT; SELECT current_setting('statement_timeout')";
    let reply = wire.query(text).await;
    let values: Vec<_> = reply.ok().iter().map(|row| row[0].clone().unwrap_or_default()).collect();
    assert_eq!(values, ["2s", "1500ms", "2s"]);
    assert_eq!(reply.notices.len(), 2, "{reply:#?}");

    let prepare = "PREPARE p AS SELECT set_config('statement_timeout', '0', false)";
    wire.query(prepare).await.ok();
    assert_eq!(house.server.log().iter().filter(|line| line.contains("'2000', false)")).count(), 1);
    assert_eq!(wire.query("EXECUTE p").await.error().sqlstate(), "42501");
    // A named statement of the protocol, run twice.
    wire.send([parse("s", "SET statement_timeout = 0"), bind("", "s", &[]), execute("", 0), sync()].concat()).await;
    wire.reply().await.ok();
    wire.query("SET statement_timeout = 700").await.ok();
    wire.send([bind("", "s", &[]), execute("", 0), sync()].concat()).await;
    wire.reply().await.ok();
    assert_eq!(shown(&mut wire, "statement_timeout").await, "2s");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn what_cannot_be_written_anew_is_refused() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, CAPS).await;
    let mut wire = house.session().await;
    for sql in [
        "SET SESSION statement_timeout TO '1.5s'",
        "SET statement_timeout = E'0'",
        "SET statement_timeout = -1",
        "SELECT 1; SET LOCAL statement_timeout = $$2001$$",
        "SELECT set_config('statement_timeout', '0'::text, false)",
        "SELECT set_config('statement_timeout', '0' || '0', false)",
        "SELECT set_config('statement_timeout', name, false) FROM people",
    ] {
        let reply = wire.query(sql).await;
        assert_eq!(reply.error().sqlstate(), "42501", "{sql}: {reply:#?}");
        assert_eq!(shown(&mut wire, "statement_timeout").await, "2s", "{sql}");
    }
    wire.query("CREATE TEMP VIEW settings AS SELECT * FROM pg_settings").await.ok();
    for table in ["pg_settings", "settings"] {
        let reply = wire.query(&format!("UPDATE {table} SET setting = '0' WHERE name = 'statement_timeout'")).await;
        assert_eq!(reply.error().sqlstate(), "0A000", "{table}: {reply:#?}");
        assert_eq!(shown(&mut wire, "statement_timeout").await, "2s", "{table}");
    }
    let by_parameter = wire.extended("SELECT set_config('statement_timeout', $1, false)", &["1h"]).await;
    assert!(by_parameter.error().message().contains("2000 ms"), "{by_parameter:#?}");
    house.stop_with([wire]).await;
}

/// pg_dump and pg_restore switch both timeouts off before anything else.
#[tokio::test]
async fn a_dump_and_its_restore_pass_a_pair_that_caps() {
    let world = World::new();
    let caps = "statement_timeout: 60s\nidle_in_transaction_timeout: 50s\n";
    let house = world.warehouse(ALLOW_ALL, caps).await;
    house.server.sql("CREATE DATABASE copied").await;
    let archive = world.path().join("archive");
    let mut dump = libpq("pg_dump", house.address(), "admin_role");
    let dumped = Process::run("pg_dump", dump.args(["-Fc", "-f"]).arg(&archive), "").await;
    assert_eq!(dumped.code(), 0, "{dumped:#?}");
    let mut restore = libpq("pg_restore", house.address(), "admin_role");
    let restored =
        Process::run("pg_restore", restore.args(["-d", "copied", "--exit-on-error"]).arg(&archive), "").await;
    assert_eq!(restored.code(), 0, "{restored:#?}");
    let count = ["-d", "copied", "-c", "SELECT count(*) FROM people"];
    assert_eq!(psql(house.server.address(), "admin_role", &count, "").await.stdout, "3");

    // As a text, with psql.
    house.server.sql("CREATE DATABASE again").await;
    let mut dump = libpq("pg_dump", house.address(), "admin_role");
    let dumped = Process::run("pg_dump", &mut dump, "").await;
    assert_eq!(dumped.code(), 0, "{dumped:#?}");
    assert!(dumped.stdout.contains("SET statement_timeout = 0;"), "{}", dumped.stdout);
    let restore = ["-d", "again", "-v", "ON_ERROR_STOP=1"];
    let restored = psql(house.address(), "admin_role", &restore, &dumped.stdout).await;
    assert_eq!(restored.code(), 0, "{restored:#?}");
    assert!(!house.server.log().iter().any(|line| line.contains("statement: SET statement_timeout = 0")));
    house.stop().await;
}
