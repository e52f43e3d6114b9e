//! Who a session is at the server, how the proxy proves it, and what ends a session that nobody needs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;

use rcgen::SanType;
use serde_json::json;

use crate::support::pg_wire::query;
use crate::support::*;

fn program(world: &World, name: &str, script: &str) -> PathBuf {
    let program = world.write(name, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("is ours");
    program
}

/// A server that wants passwords, before it a role whose password `script` gives.
async fn house_with(world: &World, script: &str, more: &str) -> Warehouse {
    let program = program(world, "token", script);
    let catalog = world.write("catalog-password", "catalog-secret\n");
    let yaml = format!(
        "role: fixed app_role\npassword_command: [{}]\ncatalog:\n  user: catalog_role\n  password_file: {}\n{more}",
        program.display(),
        catalog.display()
    );
    world.warehouse_with(PgPlan::new().auth("scram-sha-256"), ALLOW_ALL, &yaml).await
}

#[tokio::test]
async fn a_password_command_that_fails_opens_no_session() {
    let world = World::new();
    for (what, script, reason) in [
        ("fails", "echo app-secret; echo secret-words >&2; exit 3", "failed"),
        ("says nothing", "exit 0", "no password"),
        ("is killed", "kill -9 $$", "failed"),
        ("gives a wrong one", "echo wrong-secret", "app_role"),
    ] {
        let house = house_with(&world, script, "").await;
        let error = PgWire::try_session(house.address(), "whoever").await.err().expect("has no password");
        assert_eq!(error.severity(), "FATAL", "{what}: {error:?}");
        assert!(["28000", "28P01", "08001", "08006", "08004"].contains(&error.sqlstate()), "{what}: {error:?}");
        let record = house.inbound.records.of_decision(&error.decision_id()).await;
        let told = record["error"].as_str().unwrap_or_else(|| panic!("{what}: {record:#}"));
        assert!(told.contains(reason), "{what}: {record:#}");
        let everything = format!("{}{record}{error:?}", house.inbound.log().join("\n"));
        assert!(!everything.contains("-secret") && !everything.contains("secret-words"), "{what}: {everything}");
        house.server.sessions_end().await;
        house.stop().await;
    }
}

#[tokio::test]
async fn a_password_command_that_does_not_end_is_ended() {
    let world = World::new();
    let pid = world.path().join("pid");
    let child = world.path().join("child");
    let script = format!("sleep 600 & echo $! > {}; echo $$ > {}; wait", child.display(), pid.display());
    let house = house_with(&world, &script, "authentication_timeout: 1s\n").await;
    let began = Instant::now();
    let error = PgWire::try_session(house.address(), "whoever").await.err().expect("has no password");
    assert_eq!(error.severity(), "FATAL", "{error:?}");
    assert!(began.elapsed().as_secs() < 8, "{:?}", began.elapsed());
    for pid in [pid, child] {
        let pid = fs::read_to_string(&pid).expect("it ran").trim().to_owned();
        // One that is dead and not waited for has no command line.
        let runs = || fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
        eventually("the end of the command and of what it started", || (!runs()).then_some(())).await;
    }
    house.server.sessions_end().await;
    house.stop().await;
}

#[tokio::test]
async fn a_workload_without_a_role_is_refused_with_a_record() {
    let world = World::new();
    let yaml =
        format!("role: by_identity\nroles:\n  {}: app_role\ncatalog:\n  user: catalog_role\n", world.id("somebody"));
    let house = world.warehouse_with(PgPlan::new(), ALLOW_ALL, &yaml).await;
    let error = PgWire::try_session(house.address(), "app_role").await.err().expect("has no role");
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "28000"), "{error:?}");
    let record = house.inbound.records.of_decision(&error.decision_id()).await;
    assert!(record.to_string().contains("no-role"), "{record:#}");
    assert_eq!(record["principal"], world.id("app"), "{record:#}");
    assert!(record["outcome"] != "allowed", "{record:#}");
    house.server.sessions_end().await;
    house.stop().await;
}

/// The client sees TLS and believes that it could bind to it; the server behind its own TLS offers that, and the client is not told.
/// Without the proof that nobody took the offer away, SCRAM refuses, unless the client does not want to bind at all.
#[tokio::test]
async fn scram_passes_two_connections_with_tls_only_unbound() {
    let world = World::new();
    let catalog = world.write("catalog-password", "catalog-secret\n");
    let ca = world.write("server-ca.pem", &world.ca.bundle());
    let certificate = world.ca.issue_with("/server", |params| {
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().expect("is ASCII"))];
    });
    let yaml = format!(
        "role: passthrough\ncatalog:\n  user: catalog_role\n  password_file: {}\nupstream_tls: request\nupstream_ca: {}\n",
        catalog.display(),
        ca.display()
    );
    let server = PgPlan::new().auth("scram-sha-256").tls(&certificate).start().await;
    let upstream = format!("localhost:{}", server.address().port());
    let house = world.warehouse_before(server, &upstream, ALLOW_ALL, &yaml).await;
    let local = world.ca.issue("/ns/test/sa/local");
    let (chain, key) = (world.write("local.pem", &local.chain_pem()), world.write("local.key", &local.key_pem()));
    let yaml = format!("local_certificate: {}\nlocal_private_key: {}\n", chain.display(), key.display());
    let outbound = world.outbound_to(&house.inbound, "second", &yaml).await;
    for (binding, works) in [("prefer", false), ("require", false), ("disable", true)] {
        let mut command = libpq("psql", outbound.outbound(WAREHOUSE), "app_role");
        command.env("PGSSLMODE", "require").env("PGPASSWORD", "app-secret").env("PGCHANNELBINDING", binding);
        command.args(["-X", "-A", "-t", "-c", "SELECT current_user"]);
        let told = Process::run("psql", &mut command, "").await;
        assert_eq!(told.code() == 0, works, "{binding}: {told:#?}");
        if works {
            assert_eq!(told.stdout.trim(), "app_role", "{told:#?}");
        } else {
            assert!(told.stderr.contains("channel"), "{binding}: the reason is told: {told:#?}");
        }
    }
    house.server.sessions_end().await;
    outbound.stop().await;
    house.stop().await;
}

#[tokio::test]
async fn clients_find_the_proxy_by_its_unix_socket() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let folder = tempfile::TempDir::with_prefix("pg-").expect("the temporary folder is writable");
    let to = house.inbound.inbound(WAREHOUSE).to_string();
    let socket = folder.path().join(".s.PGSQL.5432");
    let outbound = world.sidecar("second").policies(ALLOW_ALL);
    let yaml = format!("listen: unix:{}\n", socket.display());
    let outbound = outbound.outbound(WAREHOUSE, "postgres", &to, &world.id("service"), &yaml).start().await;
    let mut command = libpq("psql", house.address(), "admin_role");
    command.env("PGPORT", "5432").args(["-X", "-A", "-t", "-h"]).arg(folder.path());
    command.args(["-c", "SELECT name FROM people WHERE id = 2"]);
    let told = Process::run("psql", &mut command, "").await;
    assert_eq!(told.stdout.trim(), "Grace", "{told:#?}");
    outbound.stop().await;
    house.stop().await;
}

#[tokio::test]
async fn a_session_that_asks_nothing_for_too_long_is_ended() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "session_idle_timeout: 1s\n").await;
    let mut wire = house.session().await;
    let reply = wire.query("SELECT pg_sleep(1.5)").await;
    assert!(reply.errors.is_empty(), "it was not idle: {reply:#?}");
    wire.query("BEGIN").await.ok();
    let told = wire.query("SELECT pg_sleep(1.2)").await;
    assert!(told.errors.is_empty(), "{told:#?}");
    wire.query("COMMIT").await.ok();
    let told = wire.rest().await;
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P05"), "{told:#?}");
    house.server.sessions_end().await;
    house.stop().await;
}

#[tokio::test]
async fn a_transaction_that_takes_too_long_is_ended() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "transaction_timeout: 1s\n").await;
    let mut wire = house.session().await;
    for number in 0..3 {
        assert!(wire.query("SELECT pg_sleep(0.4)").await.errors.is_empty(), "each is a transaction: {number}");
    }
    wire.query("BEGIN").await.ok();
    wire.query("DELETE FROM sales.secrets").await.ok();
    let told = wire.rest().await;
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "25P04"), "{told:#?}");
    house.server.sessions_end().await;
    assert_eq!(house.server.value("SELECT count(*) FROM sales.secrets").await, "1");
    // And one that runs.
    let mut wire = house.session().await;
    wire.send(query("SELECT pg_sleep(600)")).await;
    let told = wire.rest().await;
    assert_eq!(told.errors.last().map(PgError::sqlstate), Some("25P04"), "{told:#?}");
    house.server.sessions_end().await;
    house.stop().await;
}

/// Settings are asked again after each SET: that question must never be the one that is cancelled.
#[tokio::test]
async fn a_cancel_never_strikes_what_the_proxy_asks_or_what_comes_next() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    let (key, address) = (wire.key.clone().expect("has a key"), house.address());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let storm = tokio::spawn(async move {
        let mut sent = 0;
        while !*stopped.borrow() {
            PgWire::plain(address).await.cancel(&key).await;
            sent += 1;
        }
        sent
    });
    let mut canceled = 0;
    for number in 0..60 {
        for sql in ["SET search_path = sales, public", "SELECT count(*) FROM people", "RESET search_path"] {
            let reply = wire.query(sql).await;
            assert_eq!(reply.status, 'I', "{number}: {reply:#?}");
            match reply.errors.as_slice() {
                [] => {}
                [error] => {
                    assert_eq!(error.sqlstate(), "57014", "{number}, {sql}: {reply:#?}");
                    canceled += 1;
                }
                _ => panic!("{reply:#?}"),
            }
        }
    }
    stop.send(true).expect("it listens");
    let sent = within("the end of the cancels", storm).await.expect("does not panic");
    assert!(sent > 5, "{sent} cancels were sent, {canceled} struck");
    for _ in 0..5 {
        assert_eq!(wire.query("SELECT count(*) FROM people").await.value(), "3", "nothing is left of them");
    }
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_relayed_session_that_is_cut_has_a_record_of_its_bytes() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let yaml = "shutdown_timeout: 300ms\n";
    let outbound = world.sidecar("second").policies(ALLOW_ALL).yaml(yaml);
    let to = house.inbound.inbound(WAREHOUSE).to_string();
    let outbound = outbound.outbound(WAREHOUSE, "postgres", &to, &world.id("service"), "").start().await;
    let mut wire = PgWire::session(outbound.outbound(WAREHOUSE), "admin_role").await;
    wire.query("SELECT repeat('x', 10000)").await.ok();
    let records = outbound.stop().await;
    let record = records.find("the session", |record| record["kind"] == "request" && record["action"] == "sql:Connect");
    let record = record.await;
    assert!(record["bytes_out"].as_u64().is_some_and(|bytes| bytes > 10_000), "{record:#}");
    assert!(record["bytes_in"].as_u64().is_some_and(|bytes| bytes > 20), "{record:#}");
    assert!(record["error"].is_string() && record["outcome"] == json!("allowed"), "{record:#}");
    wire.rest().await;
    house.stop().await;
}
