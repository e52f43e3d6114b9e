//! Sessions that replicate: all of the cluster or nothing, or command by command beside SQL.

use serde_json::{Value, json};

use crate::support::pg_wire::{PROTOCOL_3, copy_data, copy_done, parse, query, startup, sync};
use crate::support::*;

/// Sessions that may replicate, and read `people`; of slots only `mine`, of publications only `p`.
fn policies() -> String {
    only(&[("sql:Select", "public.people")])
        + "@id(\"begin\") permit (principal, action == Action::\"sql:Replicate\", resource == Database::\"wh/analytics\") \
           when { [\"replicate\", \"identify_system\"].contains(context.statement) };\n\
           @id(\"slot\") permit (principal, action == Action::\"sql:Replicate\", resource == Database::\"wh/analytics\") \
           when { context has slot && context.slot == \"mine\" && context.statement != \"start_replication\" };\n\
           @id(\"stream\") permit (principal, action == Action::\"sql:Replicate\", resource == Database::\"wh/analytics\") \
           when { context has slot && context.slot == \"mine\" && context.statement == \"start_replication\" \
                  && context has publication && [\"p\"].containsAll(context.publication) };\n"
}

const DATABASE_MODE: [(&str, &str); 3] = [("user", "admin_role"), ("database", DATABASE), ("replication", "database")];

async fn session(house: &Warehouse) -> PgWire {
    let mut wire = PgWire::plain(house.address()).await;
    wire.login(&DATABASE_MODE).await.expect("is permitted");
    wire
}

fn of_kind(record: &Value, kind: &str) -> bool {
    record["kind"] == "request" && record["action"] == "sql:Replicate" && record["context"]["statement"] == kind
}

async fn slots(house: &Warehouse) -> String {
    house.server.content("SELECT slot_name FROM pg_replication_slots").await
}

#[tokio::test]
async fn psql_speaks_commands_and_sql_in_one_session() {
    for version in [PgVersion::V15, PgVersion::V18] {
        psql_speaks_commands_and_sql(version).await;
    }
}

async fn psql_speaks_commands_and_sql(version: PgVersion) {
    let world = World::new();
    let house = world.warehouse_with(PgPlan::new().version(version), &policies(), AS_ADMIN).await;
    let mut command = libpq("psql", house.address(), "admin_role");
    command.args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose", "-d"]);
    command.arg("dbname=analytics replication=database");
    for sql in [
        "IDENTIFY_SYSTEM",
        "SHOW wal_level",
        "SELECT name FROM people WHERE id = 1",
        "DELETE FROM people",
        "CREATE_REPLICATION_SLOT other PHYSICAL",
        "BASE_BACKUP",
        "IDENTIFY_SYSTEM; DELETE FROM people",
        "identify_system",
    ] {
        command.args(["-c", sql]);
    }
    let told = Process::run("psql", &mut command, "").await;
    let lines: Vec<_> = told.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{told:#?}");
    assert!(lines[0].ends_with(&format!("|{DATABASE}")), "{told:#?}");
    assert_eq!(lines[1..], ["logical", "Ada"], "{told:#?}");
    let errors: Vec<_> = told.stderr.lines().filter(|line| line.starts_with("ERROR")).collect();
    let denied = "ERROR:  42501: permission denied by policy";
    assert_eq!(errors[..3], [denied; 3], "{told:#?}");
    assert_eq!(errors.len(), 5, "{told:#?}");
    assert!(errors[3..].iter().all(|error| error.starts_with("ERROR:  42601: syntax error")), "{told:#?}");
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "3");
    assert_eq!(slots(&house).await, "");
    let record = house.inbound.records.find("the slot", |record| of_kind(record, "create_replication_slot")).await;
    assert_eq!(
        (&record["outcome"], &record["context"]["slot"]),
        (&json!("not_permitted"), &json!("other")),
        "{record:#}"
    );
    assert_eq!(record["sql"]["sqlstate"], "42501", "{record:#}");
    let record = house.inbound.records.find("the system", |record| of_kind(record, "identify_system")).await;
    assert_eq!(
        (&record["outcome"], &record["sql"]["command"]),
        (&json!("allowed"), &json!("IDENTIFY_SYSTEM")),
        "{record:#}"
    );
    house.stop().await;
}

#[tokio::test]
async fn pg_recvlogical_makes_streams_and_drops_a_slot() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let recvlogical = |arguments: &[&str]| {
        let mut command = libpq("pg_recvlogical", house.address(), "admin_role");
        command.args(["-d", DATABASE, "--slot", "mine"]).args(arguments);
        command
    };
    let made = Process::run("pg_recvlogical", &mut recvlogical(&["--create-slot", "-P", "test_decoding"]), "").await;
    assert_eq!(made.code(), 0, "{made:#?}");
    assert_eq!(slots(&house).await, "(mine)");

    let mut stream =
        Process::spawn("pg_recvlogical", &mut recvlogical(&["--start", "--no-loop", "-F", "0", "-f", "-"]));
    house.server.sql("INSERT INTO people VALUES (4, 'Barbara', 'x')").await;
    stream.stdout.find("the row", |line| line.contains("Barbara").then_some(())).await;
    let started = house.inbound.records.find("the beginning", |record| {
        record["kind"] == "started" && record["context"]["statement"] == "start_replication"
    });
    let started = started.await;
    stream.signal("INT");
    stream.exited().await;
    let id = started["decision_id"].as_str().expect("has one").to_owned();
    let ended =
        house.inbound.records.find("the end", |record| record["kind"] == "request" && record["decision_id"] == id);
    let ended = ended.await;
    assert_eq!(ended["context"]["slot"], "mine", "{ended:#}");
    assert!(ended["bytes_out"].as_u64().is_some_and(|bytes| bytes > 200), "{ended:#}");
    assert!(ended["bytes_in"].as_u64().is_some_and(|bytes| bytes > 34), "{ended:#}");
    house.server.sessions_end().await;

    let dropped = Process::run("pg_recvlogical", &mut recvlogical(&["--drop-slot"]), "").await;
    assert_eq!(dropped.code(), 0, "{dropped:#?}");
    assert_eq!(slots(&house).await, "");
    house.stop().await;
}

#[tokio::test]
async fn pg_recvlogical_is_denied_what_no_policy_permits() {
    let world = World::new();
    let house = world.warehouse(&policies(), "").await;
    for (slot, action) in
        [("other", "--create-slot"), ("other", "--start"), ("other", "--drop-slot"), ("mine", "--start")]
    {
        let mut command = libpq("pg_recvlogical", house.address(), "admin_role");
        command.args(["-d", DATABASE, "--slot", slot, action, "--no-loop", "-f", "-", "-P", "test_decoding"]);
        if action == "--drop-slot" {
            house.server.sql("SELECT pg_create_logical_replication_slot('other', 'test_decoding')").await;
        }
        let told = Process::run("pg_recvlogical", &mut command, "").await;
        assert!(told.code() != 0 && told.stderr.contains("permission denied by policy"), "{slot} {action}: {told:#?}");
    }
    assert_eq!(slots(&house).await, "(other)");
    house.stop().await;
}

#[tokio::test]
async fn a_stream_is_judged_by_its_publications_and_the_session_goes_on_behind_it() {
    let world = World::new();
    let house = world.warehouse(&policies(), "").await;
    house.server.sql("CREATE PUBLICATION p FOR TABLE people; CREATE PUBLICATION q FOR TABLE sales.secrets").await;
    let mut wire = session(&house).await;
    // Not a temporary one: the server drops those with every error.
    wire.query("CREATE_REPLICATION_SLOT mine LOGICAL pgoutput").await.ok();
    let start = |names: &str| {
        format!("START_REPLICATION SLOT mine LOGICAL 0/0 (proto_version '1', publication_names '{names}')")
    };
    for names in ["q", "p,q", "p, \"q\"", "P,Q", "\"P\""] {
        let reply = wire.query(&start(names)).await;
        assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'I'), "{names}: {reply:#?}");
    }
    for refused in ["", "p q", "\"p", "p,"] {
        let reply = wire.query(&start(refused)).await;
        assert!(["42501", "42601"].contains(&reply.error().sqlstate()), "{refused}: {reply:#?}");
    }
    wire.send(query(&start(" \"p\" , P "))).await;
    let began = wire.read().await.expect("it is permitted");
    assert_eq!(began.tag, b'W', "{began:?}");
    house
        .server
        .sql("INSERT INTO sales.secrets VALUES (2, 'hidden'); INSERT INTO people VALUES (4, 'Barbara', 'x')")
        .await;
    let seen = wire.reply_to(|frame| frame.body.windows(7).any(|part| part == b"Barbara")).await;
    assert!(!String::from_utf8_lossy(&seen.copied).contains("hidden"), "{seen:#?}");
    // Standby status update, then the end; what is sent behind it waits for the server's end.
    let status = [&b"r"[..], &[0; 32], &[0]].concat();
    wire.send([copy_data(status), copy_done(), query("SELECT name FROM people WHERE id = 1")].concat()).await;
    let ended = wire.reply().await;
    assert!(ended.errors.is_empty() && ended.kinds().contains('c') && ended.status == 'I', "{ended:#?}");
    assert_eq!(wire.reply().await.value(), "Ada");
    let record = house
        .inbound
        .records
        .find("the stream", |record| of_kind(record, "start_replication") && record["outcome"] == "allowed");
    let record = record.await;
    assert_eq!(record["context"]["publication"], json!(["p"]), "{record:#}");
    assert_eq!(record["sql"]["command"], "START_REPLICATION", "{record:#}");
    assert!(!record["sql"]["text"].to_string().contains("publication_names '"), "{record:#}");
    // A failed transaction stays one, also by a denied command.
    wire.query("BEGIN").await.ok();
    let reply = wire.query("DROP_REPLICATION_SLOT other").await;
    assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'E'), "{reply:#?}");
    wire.query("ROLLBACK").await.ok();
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_slot_may_share_its_snapshot_with_the_copy_behind_it() {
    let world = World::new();
    let house = world.warehouse(&policies(), "").await;
    let mut wire = session(&house).await;
    // What a subscriber of PostgreSQL does with each table.
    wire.query("BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ").await.ok();
    wire.query("CREATE_REPLICATION_SLOT \"mine\" TEMPORARY LOGICAL pgoutput USE_SNAPSHOT").await.ok();
    house.server.sql("INSERT INTO people VALUES (9, 'Late', '')").await;
    assert_eq!(wire.query("COPY public.people TO STDOUT").await.tags, ["COPY 3"]);
    let reply = wire.query("COPY sales.secrets TO STDOUT").await;
    assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'E'), "{reply:#?}");
    wire.query("ROLLBACK").await.ok();
    // Settings and names are followed here as everywhere.
    wire.query("SET search_path = sales").await.ok();
    assert_eq!(wire.query("SELECT value FROM secrets").await.error().sqlstate(), "42501");
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn extended_messages_end_a_session_that_replicates() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = session(&house).await;
    wire.try_send([parse("", "DELETE FROM people"), sync()].concat()).await;
    let reply = wire.rest().await;
    assert_eq!((reply.error().severity(), reply.error().sqlstate()), ("FATAL", "08P01"), "{reply:#?}");
    house.server.sessions_end().await;
    // In a stream too there is data and nothing else.
    let mut wire = session(&house).await;
    wire.query("CREATE_REPLICATION_SLOT mine TEMPORARY LOGICAL test_decoding").await.ok();
    wire.send(query("START_REPLICATION SLOT mine LOGICAL 0/0")).await;
    assert_eq!(wire.read().await.map(|frame| frame.tag), Some(b'W'));
    wire.try_send(query("DELETE FROM people")).await;
    let reply = wire.rest().await;
    assert_eq!((reply.error().severity(), reply.error().sqlstate()), ("FATAL", "08P01"), "{reply:#?}");
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "3");
    house.stop().await;
}

#[tokio::test]
async fn a_drain_ends_a_stream_at_once() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = session(&house).await;
    wire.query("CREATE_REPLICATION_SLOT mine TEMPORARY LOGICAL test_decoding").await.ok();
    wire.send(query("START_REPLICATION SLOT mine LOGICAL 0/0")).await;
    assert_eq!(wire.read().await.map(|frame| frame.tag), Some(b'W'));
    house.inbound.process.signal("TERM");
    let told = wire.rest().await;
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P01"), "{told:#?}");
    let Warehouse { outbound, inbound, server } = house;
    let records = inbound.stopped().await;
    records.find("the stream", |record| of_kind(record, "start_replication")).await;
    outbound.stop().await;
    server.sessions_end().await;
}

#[tokio::test]
async fn a_cluster_is_backed_up_where_replication_is_permitted() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let to = world.path().join("backup");
    let mut command = libpq("pg_basebackup", house.address(), "admin_role");
    command.args(["-X", "stream", "-c", "fast", "--no-sync", "-D"]).arg(&to);
    let told = Process::run("pg_basebackup", &mut command, "").await;
    assert_eq!(told.code(), 0, "{told:#?}");
    assert!(to.join("PG_VERSION").exists());
    house.server.sessions_end().await;
    let record = house.inbound.records.find("the backup", |record| {
        record["kind"] == "request" && record["bytes_out"].as_u64().is_some_and(|bytes| bytes > 1_000_000)
    });
    let record = record.await;
    let operations = record["operations"].to_string();
    assert!(operations.contains("sql:Connect") && operations.contains("sql:Replicate"), "{record:#}");
    let id = record["decision_id"].clone();
    house
        .inbound
        .records
        .find("its beginning", |record| record["kind"] == "started" && record["decision_id"] == id)
        .await;

    let to = world.path().join("wal");
    std::fs::create_dir(&to).expect("is ours");
    let mut command = libpq("pg_receivewal", house.address(), "admin_role");
    let mut receiver = Process::spawn("pg_receivewal", command.args(["--no-loop", "--no-sync", "-v", "-D"]).arg(&to));
    receiver.stderr.find("the stream", |line| line.contains("starting log streaming").then_some(())).await;
    house.server.sql("SELECT pg_switch_wal()").await;
    receiver.stderr.find("a segment", |line| line.contains("finished segment").then_some(())).await;
    receiver.signal("INT");
    receiver.exited().await;
    house.stop().await;
}

#[tokio::test]
async fn a_cluster_is_not_backed_up_where_it_is_not() {
    let world = World::new();
    let house = world.warehouse(&only(&[("sql:Select", "public.people")]), "").await;
    let to = world.path().join("backup");
    std::fs::create_dir(&to).expect("is ours");
    for (program, arguments) in [("pg_basebackup", &["-X", "none", "-D"][..]), ("pg_receivewal", &["--no-loop", "-D"])]
    {
        let mut command = libpq(program, house.address(), "admin_role");
        let told = Process::run(program, command.args(arguments).arg(&to), "").await;
        assert!(told.code() != 0 && told.stderr.contains("is denied"), "{program}: {told:#?}");
    }
    house.server.sessions_end().await;
    house.stop().await;
}

/// It is not for a session of the cluster to read tables, so nobody has to look into it.
#[tokio::test]
async fn a_session_of_the_cluster_takes_no_sql() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = PgWire::plain(house.address()).await;
    // A command that comes with the startup packet is not lost.
    let login = [("user", "admin_role"), ("database", DATABASE), ("replication", "on")];
    wire.send([startup(PROTOCOL_3, &login), query("IDENTIFY_SYSTEM")].concat()).await;
    assert_eq!(wire.reply().await.status, 'I');
    assert_eq!(wire.reply().await.ok().len(), 1);
    for sql in ["SELECT 1", "DELETE FROM people", "SHOW wal_level; DELETE FROM people", "/* */ COPY people TO STDOUT"] {
        let reply = wire.query(sql).await;
        assert!(["0A000", "42601"].contains(&reply.error().sqlstate()), "{sql}: {reply:#?}");
    }
    house.stop_with([wire]).await;
}
