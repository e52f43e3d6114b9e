//! Servers, clients and sidecars that end in the middle of something: no hang, no session left behind, complete records.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::pg_wire::{bind, copy_data, copy_done, copy_fail, execute, frame, parse, query, sync};
use crate::support::*;

/// Every statement that began has a record that ended: none is only `started`.
fn assert_complete(records: &[Value]) {
    let of = |kind: &str| {
        let of_kind = records.iter().filter(|record| record["kind"] == kind);
        of_kind.filter_map(|record| record["decision_id"].as_str()).collect::<Vec<_>>()
    };
    let mut ended = of("request");
    ended.extend(of("connection"));
    for started in of("started") {
        assert!(ended.contains(&started), "{started} has begun and not ended");
    }
    let mut ids = of("request");
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "one record a decision");
}

#[tokio::test]
async fn a_server_that_dies_in_a_statement_ends_the_session_with_its_word() {
    let world = World::new();
    let mut house = world.warehouse(ALLOW_ALL, "").await;
    let (mut busy, mut idle) = (house.session().await, house.session().await);
    busy.send(query("SELECT pg_sleep(60)")).await;
    house.server.runs("pg_sleep").await;
    house.server.crash().await;
    for (what, wire) in [("busy", &mut busy), ("idle", &mut idle)] {
        let reply = wire.rest().await;
        let error = reply.errors.last().unwrap_or_else(|| panic!("{what}: {reply:#?}"));
        assert_eq!(
            error.severity(),
            if error.sqlstate() == "57P02" { "WARNING" } else { "FATAL" },
            "{what}: {reply:#?}"
        );
        assert!(["57P01", "57P02", "08006", "08003"].contains(&error.sqlstate()), "{what}: {reply:#?}");
    }
    let record = house.inbound.records.find("the statement", |record| {
        record["kind"] == "request" && record["sql"]["text"].as_str().is_some_and(|text| text.contains("pg_sleep"))
    });
    let record = record.await;
    assert!(record["sql"]["sqlstate"].is_string() || record["error"].is_string(), "it did not succeed: {record:#}");
    house.server.start_again().await;
    let mut wire = house.session().await;
    assert_eq!(wire.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
    wire.terminate().await;
    let Warehouse { outbound, inbound, server } = house;
    outbound.stop().await;
    assert_complete(&inbound.stop().await.all());
    server.sessions_end().await;
}

#[tokio::test]
async fn a_backend_that_is_terminated_tells_its_client_why() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    wire.send(query("SELECT pg_sleep(60)")).await;
    house.server.runs("pg_sleep").await;
    house.server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'admin_role'").await;
    let reply = wire.rest().await;
    assert_eq!((reply.error().severity(), reply.error().sqlstate()), ("FATAL", "57P01"), "{reply:#?}");
    house.stop().await;
}

#[tokio::test]
async fn a_client_that_dies_in_a_copy_leaves_nothing_behind() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    wire.send(query("COPY parent (id, note) FROM STDIN")).await;
    assert_eq!(wire.read().await.map(|frame| frame.tag), Some(b'G'));
    for id in 0..1_000 {
        wire.send(copy_data(format!("{id}\t{}\n", "x".repeat(200)))).await;
    }
    // In the middle of a message.
    wire.send(&copy_data("1\tcut")[..6]).await;
    drop(wire);
    house.server.sessions_end().await;
    assert_eq!(house.server.value("SELECT count(*) FROM ONLY parent").await, "1");
    let record = house
        .inbound
        .records
        .find("the COPY", |record| record["kind"] == "request" && asks(record, "sql:Insert", "public.parent"));
    let record = record.await;
    assert!(record["sql"]["command"].is_null(), "it did not complete: {record:#}");
    let Warehouse { outbound, inbound, server: _server } = house;
    outbound.stop().await;
    assert_complete(&inbound.stop().await.all());
}

#[tokio::test]
async fn a_copy_is_ended_by_the_client_or_by_an_error_and_the_session_goes_on() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    wire.send(
        [query("COPY parent (id, note) FROM STDIN"), copy_data("50\tx\n"), copy_fail("changed my mind")].concat(),
    )
    .await;
    let reply = wire.reply().await;
    assert_eq!((reply.error().sqlstate(), reply.status), ("57014", 'I'), "{reply:#?}");
    wire.send([query("COPY parent (id, note) FROM STDIN"), copy_data("not a number\tx\n"), copy_done()].concat()).await;
    assert_eq!(wire.reply().await.error().sqlstate(), "22P02");
    wire.send([query("COPY parent (id, note) FROM STDIN"), copy_data("51\tx\n"), copy_done()].concat()).await;
    assert_eq!(wire.reply().await.tags, ["COPY 1"]);
    assert_eq!(wire.query("SELECT id FROM ONLY parent WHERE id > 49").await.value(), "51");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_client_that_dies_in_a_statement_leaves_no_session() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    wire.send(query("BEGIN; DELETE FROM sales.secrets; SELECT pg_sleep(600)")).await;
    house.server.runs("pg_sleep").await;
    drop(wire);
    house.server.sessions_end().await;
    assert_eq!(house.server.value("SELECT count(*) FROM sales.secrets").await, "1");
    // And one that reads nothing of a large answer.
    let mut wire = house.session().await;
    wire.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 1000000)")).await;
    house.server.runs("generate_series").await;
    drop(wire);
    house.server.sessions_end().await;
    let Warehouse { outbound, inbound, server: _server } = house;
    outbound.stop().await;
    assert_complete(&inbound.stop().await.all());
}

#[tokio::test]
async fn a_client_that_closes_its_direction_gets_its_last_answers() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let slow = "SELECT pg_sleep(0.5), name FROM people WHERE id = 1";
    for (what, last, tags) in [
        ("simple", query(slow), &["SELECT 1"][..]),
        ("simple, two at once", [query(slow), query("SELECT 2")].concat(), &["SELECT 1", "SELECT 1"]),
        ("extended", [parse("", slow), bind("", "", &[]), execute("", 0), sync()].concat(), &["SELECT 1"]),
        // The server keeps this answer back until somebody asks for it.
        ("extended, without Sync", [parse("", slow), bind("", "", &[]), execute("", 0)].concat(), &["SELECT 1"]),
        ("a large one", query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)"), &["SELECT 20000"]),
        ("with a goodbye", [query(slow), frame(b'X', b"")].concat(), &["SELECT 1"]),
        ("COPY", [query("COPY parent (id, note) FROM STDIN"), copy_data("7\tx\n"), copy_done()].concat(), &["COPY 1"]),
    ] {
        let mut wire = house.session().await;
        wire.send(last).await;
        wire.half_close().await;
        let reply = wire.rest().await;
        reply.ok();
        assert_eq!(reply.tags, tags, "{what}");
    }
    // Without an end there is no COPY.
    let mut wire = house.session().await;
    wire.send([query("COPY parent (id, note) FROM STDIN"), copy_data("8\tx\n")].concat()).await;
    wire.half_close().await;
    assert!(wire.rest().await.tags.is_empty());
    assert_eq!(house.server.value("SELECT count(*) FROM ONLY parent WHERE id = 7").await, "1");
    assert_eq!(house.server.value("SELECT count(*) FROM ONLY parent WHERE id = 8").await, "0");
    let server = house.stop().await;
    server.sessions_end().await;
}

#[tokio::test]
async fn an_outbound_sidecar_that_crashes_ends_its_sessions() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    wire.query("BEGIN; DELETE FROM sales.secrets").await.ok();
    let Warehouse { outbound, inbound, server } = house;
    outbound.kill().await;
    server.sessions_end().await;
    assert_eq!(server.value("SELECT count(*) FROM sales.secrets").await, "1");
    assert!(wire.rest().await.rows.is_empty());
    assert_complete(&inbound.stop().await.all());
}

/// pgbench that runs until it is told otherwise.
fn pgbench(house: &Warehouse) -> Process {
    let mut command = libpq("pgbench", house.address(), "admin_role");
    Process::spawn("pgbench", command.args(["-n", "-M", "prepared", "-c", "4", "-T", "60", "-P", "1"]))
}

async fn initialized(world: &World) -> Warehouse {
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut command = libpq("pgbench", house.server.address(), "admin_role");
    let made = Process::run("pgbench", command.args(["-i", "-s", "1", "-q"]), "").await;
    assert_eq!(made.code(), 0, "{made:#?}");
    house
}

async fn history_has(server: &PgServer, rows: u64) {
    let began = Instant::now();
    while server.value("SELECT count(*) FROM pgbench_history").await.parse::<u64>().unwrap_or(0) < rows {
        assert!(began.elapsed() < DEADLINE, "pgbench does not get on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// INSERTs into the history whose records say that they succeeded.
fn recorded_inserts(records: &[Value]) -> usize {
    let inserts = records.iter().filter(|record| record["kind"] == "request");
    inserts
        .filter(|record| {
            asks(record, "sql:Insert", "public.pgbench_history") && record["sql"]["command"] == "INSERT 0 1"
        })
        .count()
}

#[tokio::test]
async fn a_sidecar_that_drains_under_load_exits_in_order_with_every_record() {
    let world = World::new();
    let house = initialized(&world).await;
    let mut load = pgbench(&house);
    history_has(&house.server, 100).await;
    let Warehouse { outbound, inbound, server } = house;
    let records = inbound.stop().await.all();
    load.exited().await;
    let told = load.stderr.text().await;
    assert!(told.contains("57P01") || told.contains("terminating connection"), "{told}");
    outbound.stop().await;
    server.sessions_end().await;
    assert_complete(&records);
    // A transaction that was cut between INSERT and COMMIT is recorded and rolled back: at most one a client.
    let committed: usize = server.value("SELECT count(*) FROM pgbench_history").await.parse().expect("is a number");
    let recorded = recorded_inserts(&records);
    assert!((committed..=committed + 4).contains(&recorded), "{committed} committed, {recorded} recorded");
}

#[tokio::test]
async fn a_sidecar_that_is_killed_under_load_leaves_no_session() {
    let world = World::new();
    let house = initialized(&world).await;
    let mut load = pgbench(&house);
    history_has(&house.server, 100).await;
    let Warehouse { outbound, inbound, server } = house;
    let records = inbound.kill().await.all();
    load.exited().await;
    server.sessions_end().await;
    outbound.stop().await;
    let committed: usize = server.value("SELECT count(*) FROM pgbench_history").await.parse().expect("is a number");
    let recorded = recorded_inserts(&records);
    // The record of a statement is written before its answer, and no client commits before it has that.
    assert!((committed..=committed + 4).contains(&recorded), "{committed} committed, {recorded} recorded");
}

#[tokio::test]
async fn a_policy_that_changes_is_in_force_for_the_next_statement_of_an_open_session() {
    let world = World::new();
    let house = world.warehouse(&only(&[("sql:Select", "public.people")]), "").await;
    let mut wire = house.session().await;
    wire.send([parse("s", "SELECT name FROM people WHERE id = 1"), sync()].concat()).await;
    wire.reply().await.ok();
    wire.send([bind("", "s", &[]), execute("", 0), sync()].concat()).await;
    assert_eq!(wire.reply().await.value(), "Ada");
    house.inbound.replace("policies/test.cedar", &only(&[]));
    house.inbound.status_with("the second generation", |status| status["policy"]["generation"] == 2).await;
    wire.send([bind("", "s", &[]), execute("", 0), sync()].concat()).await;
    let reply = wire.reply().await;
    assert_eq!(reply.error().sqlstate(), "42501", "prepared: {reply:#?}");
    assert_eq!(wire.query("SELECT name FROM people").await.error().sqlstate(), "42501");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_session_that_may_not_be_any_more_is_ended() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let (mut wire, mut busy) = (house.session().await, house.session().await);
    busy.send(query("SELECT 'slept' FROM pg_sleep(1)")).await;
    house.server.runs("pg_sleep").await;
    house.inbound.replace("policies/test.cedar", "@id(\"nobody\") forbid (principal, action, resource);");
    let told = wire.rest().await;
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P01"), "{told:#?}");
    let denied = |record: &Value| {
        record["outcome"] == "forbidden" && record["policies"][0] == "nobody" && record["action"] == "sql:Connect"
    };
    house.inbound.records.find("why the session ended", denied).await;
    let told = busy.rest().await;
    assert_eq!(told.rows, [[Some("slept".to_owned())]], "its statement ends first: {told:#?}");
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P01"), "{told:#?}");
    house.stop().await;
}

#[tokio::test]
async fn memory_does_not_grow_with_the_result() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    wire.query("SELECT repeat('x', 1000) FROM generate_series(1, 1000)").await.ok();
    let before = house.inbound.resident_bytes();
    wire.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)")).await;
    let mut rows = 0;
    while let Some(frame) = wire.read().await {
        rows += usize::from(frame.tag == b'D');
        if frame.tag == b'Z' {
            break;
        }
    }
    assert_eq!(rows, 100_000);
    let grown = house.inbound.resident_bytes().saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes more after 100 MB of rows");
    house.stop_with([wire]).await;
}

/// One row of 64 MiB is larger than any buffer.
#[tokio::test]
async fn a_row_larger_than_every_buffer_passes() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    let before = house.inbound.resident_bytes();
    let reply = wire.query("SELECT repeat('x', 67108864)").await;
    assert_eq!(reply.value().len(), 67_108_864);
    let grown = house.inbound.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * 1024 * 1024, "{grown} bytes more after one row of 64 MiB");
    house.stop_with([wire]).await;
}
