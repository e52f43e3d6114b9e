//! From the first byte of a PostgreSQL connection to its session, and who may cancel, replicate, or be whom.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::SanType;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::support::pg_wire::{
    CANCEL_REQUEST, GSSENC_REQUEST, PROTOCOL_3, SSL_REQUEST, frame, packet, parse, query, startup, sync,
};
use crate::support::*;

/// SSLRequest, its answer, then TLS as `name`.
async fn by_ssl_request(world: &World, house: &Warehouse, name: &str) -> PgWire {
    let stream = asked_for_tls(house).await;
    let svid = world.ca.issue(&format!("/ns/test/sa/{name}"));
    PgWire::over(TlsClient::with(&svid).over(stream).await.expect("the handshake succeeds"))
}

async fn asked_for_tls(house: &Warehouse) -> TcpStream {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = TcpStream::connect(house.inbound.inbound(WAREHOUSE)).await.expect("it listens");
    stream.write_all(&packet(SSL_REQUEST, b"")).await.expect("it listens");
    assert_eq!(within("the answer to SSLRequest", stream.read_u8()).await.expect("it answers"), b'S');
    stream
}

const LOGIN: [(&str, &str); 2] = [("user", "admin_role"), ("database", DATABASE)];

/// A session with a role of the server without any password.
async fn role_of(house: &Warehouse, user: &str) -> String {
    let mut wire = PgWire::session(house.address(), user).await;
    let role = wire.query("SELECT current_user").await.value().to_owned();
    wire.terminate().await;
    role
}

// ------------------------------------------------------------------------------------------------------------ before startup

#[tokio::test]
async fn tls_begins_by_ssl_request_or_at_once() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut asked = by_ssl_request(&world, &house, "app").await;
    asked.login(&LOGIN).await.expect("is permitted");
    assert_eq!(asked.query("SELECT 1").await.value(), "1");
    asked.terminate().await;
    let mut direct = house.direct(&TlsClient::with(&world.ca.issue("/ns/test/sa/app"))).await;
    direct.login(&LOGIN).await.expect("is permitted");
    assert_eq!(direct.query("SELECT 2").await.value(), "2");
    direct.terminate().await;
    house.stop().await;
}

#[tokio::test]
async fn direct_tls_without_its_alpn_is_refused() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    for alpn in [&[][..], &["h2"], &["http/1.1"]] {
        let client = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).alpn(alpn);
        match client.connect(house.inbound.inbound(WAREHOUSE)).await {
            Err(_) => (),
            Ok(stream) => {
                let mut wire = PgWire::over(stream);
                wire.try_send(startup(PROTOCOL_3, &LOGIN)).await;
                let reply = wire.rest().await;
                assert!(!reply.kinds().contains('Z'), "{alpn:?}: {reply:#?}");
            }
        }
    }
    house.server.sessions_end().await;
    house.stop().await;
}

#[tokio::test]
async fn gss_encryption_is_declined_and_the_connection_goes_on() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut plain = PgWire::plain(house.address()).await;
    plain.send(packet(GSSENC_REQUEST, b"")).await;
    assert_eq!(plain.byte().await, Some(b'N'));
    plain.send(packet(SSL_REQUEST, b"")).await;
    assert_eq!(plain.byte().await, Some(b'N'), "without a local certificate");
    plain.login(&LOGIN).await.expect("is permitted");
    plain.terminate().await;

    let mut inbound = PgWire::plain(house.inbound.inbound(WAREHOUSE)).await;
    inbound.send(packet(GSSENC_REQUEST, b"")).await;
    assert_eq!(inbound.byte().await, Some(b'N'));
    inbound.send(packet(SSL_REQUEST, b"")).await;
    assert_eq!(inbound.byte().await, Some(b'S'));
    drop(inbound);
    house.stop().await;
}

#[tokio::test]
async fn a_startup_in_plain_is_refused_by_an_inbound_listener() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = PgWire::plain(house.inbound.inbound(WAREHOUSE)).await;
    wire.send(startup(PROTOCOL_3, &LOGIN)).await;
    let reply = wire.rest().await;
    let error = reply.error();
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "28000"), "{reply:#?}");
    house.server.sessions_end().await;
    house.stop().await;
}

/// CVE-2021-23214: what comes behind SSLRequest before the handshake must never be taken for something said inside TLS.
#[tokio::test]
async fn bytes_behind_ssl_request_end_the_connection() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    for injected in
        [startup(PROTOCOL_3, &LOGIN), query("DELETE FROM people"), vec![0], b"GET / HTTP/1.1\r\n\r\n".to_vec()]
    {
        let mut wire = PgWire::plain(house.inbound.inbound(WAREHOUSE)).await;
        wire.try_send([packet(SSL_REQUEST, b""), injected].concat()).await;
        // `S`, an ErrorResponse or nothing: in any case the end.
        let mut bytes = Vec::new();
        while let Some(byte) = wire.byte().await {
            bytes.push(byte);
        }
        assert!(!bytes.contains(&b'Z') && bytes.len() < 400, "{}", bytes.escape_ascii());
    }
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "3");
    house.server.sessions_end().await;
    house.stop().await;
}

#[tokio::test]
async fn a_wrong_startup_packet_is_answered_and_ends_the_connection() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let pairs = |body: &str| packet(PROTOCOL_3, body.as_bytes());
    let long = "x".repeat(10_100);
    let wrong = [
        ("shorter than its head", vec![0, 0, 0, 7, 0, 3, 0]),
        ("longer than 10,000 bytes", pairs(&format!("user\0admin_role\0application_name\0{long}\0\0"))),
        ("4 GiB long", vec![0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0]),
        ("protocol 2.0", startup(0x0002_0000, &LOGIN)),
        ("protocol 4.0", startup(0x0004_0000, &LOGIN)),
        ("no terminator", pairs("user\0admin_role\0database\0analytics\0")),
        ("a name without a value", pairs("user\0admin_role\0database\0\0")),
        ("bytes behind the terminator", pairs("user\0admin_role\0database\0analytics\0\0more\0")),
        ("no user", pairs("database\0analytics\0\0")),
        ("two users", pairs("user\0app_role\0user\0admin_role\0database\0analytics\0\0")),
        ("two databases", pairs("user\0admin_role\0database\0analytics\0database\0postgres\0\0")),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in wrong {
        for inbound in [true, false] {
            let mut wire = match inbound {
                true => by_ssl_request(&world, &house, "app").await,
                false => PgWire::plain(house.address()).await,
            };
            wire.try_send(&bytes).await;
            let reply = wire.rest().await;
            assert!(reply.kinds().len() <= 1, "{what}, inbound {inbound}: {reply:#?}");
            if let Some(error) = reply.errors.first() {
                assert_eq!(error.severity(), "FATAL", "{what}: {reply:#?}");
                assert!(["08P01", "0A000", "28000"].contains(&error.sqlstate()), "{what}: {reply:#?}");
            }
        }
    }
    house.server.sessions_end().await;
    house.stop().await;
}

#[tokio::test]
async fn newer_minor_versions_and_unknown_options_are_negotiated() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    for (version, parameters) in
        [(0x0003_0002, &LOGIN[..]), (0x0003_0063, &LOGIN), (PROTOCOL_3, &[LOGIN[0], LOGIN[1], ("_pq_.new", "1")])]
    {
        let mut wire = PgWire::plain(house.address()).await;
        wire.send(startup(version, parameters)).await;
        let reply = wire.reply().await;
        assert_eq!(reply.status, 'I', "{version:#x}: {reply:#?}");
        assert_eq!(wire.query("SELECT 1").await.value(), "1");
        wire.terminate().await;
    }
    house.stop().await;
}

#[tokio::test]
async fn local_clients_that_insist_on_tls_get_it_from_the_local_certificate() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let local = world.ca.issue("/ns/test/sa/local");
    let (certificate, key) = (world.write("local.pem", &local.chain_pem()), world.write("local.key", &local.key_pem()));
    let yaml = format!("local_certificate: {}\nlocal_private_key: {}\n", certificate.display(), key.display());
    let outbound = world.outbound_to(&house.inbound, "second", &yaml).await;
    let mut command = libpq("psql", outbound.outbound(WAREHOUSE), "admin_role");
    command.env("PGSSLMODE", "require").args(["-X", "-A", "-t", "-c", "SELECT name FROM people WHERE id = 1"]);
    let told = Process::run("psql", &mut command, "").await;
    assert_eq!(told.stdout, "Ada", "{told:#?}");
    outbound.stop().await;
    house.stop().await;
}

// -------------------------------------------------------------------------------------------------------------- who may come

#[tokio::test]
async fn a_session_that_no_policy_permits_is_refused_with_the_id_of_the_decision() {
    let world = World::new();
    let house = world.warehouse("@id(\"nobody\") forbid (principal, action, resource);", "").await;
    let error = PgWire::try_session(house.address(), "admin_role").await.err().expect("is refused");
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "28000"), "{error:?}");
    let record = house.inbound.records.of_decision(&error.decision_id()).await;
    assert_eq!(record["action"], "sql:Connect", "{record:#}");
    assert_eq!(record["resource"], "Database::\"wh/analytics\"", "{record:#}");
    assert_eq!((&record["outcome"], &record["policies"]), (&json!("forbidden"), &json!(["nobody"])), "{record:#}");
    assert_eq!(record["principal"], world.id("app"));
    house.server.sessions_end().await;
    house.stop().await;
}

#[tokio::test]
async fn the_outbound_side_decides_about_sessions_too() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let to = house.inbound.inbound(WAREHOUSE).to_string();
    let outbound = world.sidecar("second").policies("@id(\"nobody\") forbid (principal, action, resource);");
    let outbound = outbound.outbound(WAREHOUSE, "postgres", &to, &world.id("service"), "").start().await;
    let error = PgWire::try_session(outbound.outbound(WAREHOUSE), "admin_role").await.err().expect("is refused");
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "28000"), "{error:?}");
    let record = outbound.records.of_decision(&error.decision_id()).await;
    assert_eq!((&record["action"], &record["direction"]), (&json!("sql:Connect"), &json!("outbound")), "{record:#}");
    outbound.stop().await;
    house.stop().await;
}

#[tokio::test]
async fn a_fixed_role_replaces_the_one_that_the_client_asks_for() {
    let world = World::new();
    let yaml = "role: fixed app_role\ncatalog:\n  user: catalog_role\n";
    let house = world.warehouse_with(PgPlan::new(), ALLOW_ALL, yaml).await;
    assert_eq!(role_of(&house, "admin_role").await, "app_role");
    let record = house.inbound.records.find("the session", |record| record["action"] == "sql:Connect").await;
    assert_eq!(record["context"]["role"], "app_role", "{record:#}");
    assert_eq!(record["context"]["requestedRole"], "admin_role", "{record:#}");
    // A missing database is named as the client's user, not as the role.
    let mut wire = PgWire::plain(house.address()).await;
    wire.login(&[("user", DATABASE)]).await.expect("is permitted");
    assert_eq!(wire.query("SELECT current_user || '@' || current_database()").await.value(), "app_role@analytics");
    wire.terminate().await;
    house.stop().await;
}

#[tokio::test]
async fn no_setting_takes_the_place_of_role_database_or_replication_even_where_all_is_permitted() {
    let world = World::new();
    let yaml = "role: fixed app_role\ncatalog:\n  user: catalog_role\n";
    let house = world.warehouse_with(PgPlan::new(), ALLOW_ALL, yaml).await;
    for setting in [
        ("options", "-c user=admin_role"),
        ("options", "--database=postgres"),
        ("options", "-creplication=true"),
        ("options", "-c options=-crole=admin_role"),
        ("DATABASE", "postgres"),
        ("Replication", "true"),
    ] {
        // The name of the database comes from the user, so that a `DATABASE` does not come twice.
        let mut wire = PgWire::plain(house.address()).await;
        let error = wire.login(&[("user", DATABASE), setting]).await.err();
        let error = error.unwrap_or_else(|| panic!("{setting:?} opened a session"));
        assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "42704"), "{setting:?}: {error:?}");
    }
    assert_eq!(role_of(&house, "admin_role").await, "app_role");
    house.stop().await;
}

#[tokio::test]
async fn each_identity_has_the_role_of_its_entry() {
    let world = World::new();
    let yaml = format!(
        "role: by_identity\nroles:\n  {}: app_role\n  Stage::reports: analyst_role\ncatalog:\n  user: catalog_role\n",
        world.id("app")
    );
    let server = PgServer::start().await;
    let upstream = server.url();
    let entities = json!([{
        "uid": { "type": "Workload", "id": world.id("reporter") },
        "attrs": {}, "parents": [{ "type": "Stage", "id": "reports" }]
    }, { "uid": { "type": "Stage", "id": "reports" }, "attrs": {}, "parents": [] }]);
    let inbound = world.sidecar("service").policies(ALLOW_ALL).entities(&entities);
    let inbound = inbound.inbound(WAREHOUSE, "postgres", &upstream, &yaml).start().await;
    let outbound = world.outbound_to(&inbound, "app", "").await;
    let reporter = world.outbound_to(&inbound, "reporter", "").await;
    let stranger = world.outbound_to(&inbound, "stranger", "").await;
    let house = Warehouse { outbound, inbound, server };
    assert_eq!(role_of(&house, "whoever").await, "app_role");
    let mut wire = PgWire::session(reporter.outbound(WAREHOUSE), "admin_role").await;
    assert_eq!(wire.query("SELECT current_user").await.value(), "analyst_role");
    wire.terminate().await;
    let error = PgWire::try_session(stranger.outbound(WAREHOUSE), "admin_role").await.err().expect("has no role");
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "28000"), "{error:?}");
    reporter.stop().await;
    stranger.stop().await;
    house.stop().await;
}

#[tokio::test]
async fn the_proxy_proves_itself_by_scram_and_md5_with_a_password_file() {
    let world = World::new();
    for (role, method, password) in [
        ("app_role", "scram-sha-256", "app-secret"),
        ("legacy_role", "md5", "legacy-secret"),
        ("app_role", "md5", "app-secret"),
    ] {
        let file = world.write("password", &format!("{password}\n"));
        let catalog = world.write("catalog-password", "catalog-secret");
        let yaml = format!(
            "role: fixed {role}\npassword_file: {}\ncatalog:\n  user: catalog_role\n  password_file: {}\n",
            file.display(),
            catalog.display()
        );
        let house = world.warehouse_with(PgPlan::new().auth(method), ALLOW_ALL, &yaml).await;
        assert_eq!(role_of(&house, "whoever").await, role, "{method}");
        // Read for each connection, so that a password can be changed.
        fs::write(&file, "wrong").expect("is ours");
        let error = PgWire::try_session(house.address(), "whoever").await.err().expect("the password is wrong");
        assert_eq!(error.severity(), "FATAL", "{error:?}");
        assert!(error.sqlstate().starts_with("28") || error.sqlstate().starts_with("08"), "{error:?}");
        fs::write(&file, password).expect("is ours");
        assert_eq!(role_of(&house, "whoever").await, role, "{method}");
        let log = house.inbound.log().join("\n");
        assert!(!log.contains(password), "a password in the log");
        house.stop().await;
    }
}

#[tokio::test]
async fn a_cleartext_password_never_leaves_without_tls() {
    let world = World::new();
    let file = world.write("password", "app-secret");
    let hba = "local all all trust\nhost all catalog_role 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 password\n";
    let yaml = format!("role: fixed app_role\npassword_file: {}\ncatalog:\n  user: catalog_role\n", file.display());
    let house = world.warehouse_with(PgPlan::new().hba(hba), ALLOW_ALL, &yaml).await;
    let error = PgWire::try_session(house.address(), "app_role").await.err().expect("is refused");
    assert_eq!(error.severity(), "FATAL", "{error:?}");
    house.server.sessions_end().await;
    house.stop().await;
}

#[tokio::test]
async fn a_command_gives_the_password_and_is_told_for_whom() {
    let world = World::new();
    let asked = world.path().join("asked");
    let script =
        format!("#!/bin/sh\necho \"$PGUSER@$PGHOST:$PGPORT/$PGDATABASE\" >> {}\necho app-secret\n", asked.display());
    let program = world.write("token", &script);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("is ours");
    let catalog = world.write("catalog-password", "catalog-secret\n");
    let yaml = format!(
        "role: fixed app_role\npassword_command: [{}]\ncatalog:\n  user: catalog_role\n  password_file: {}\n",
        program.display(),
        catalog.display()
    );
    let house = world.warehouse_with(PgPlan::new().auth("scram-sha-256"), ALLOW_ALL, &yaml).await;
    for _ in 0..2 {
        assert_eq!(role_of(&house, "whoever").await, "app_role");
    }
    let line = format!("app_role@127.0.0.1:{}/analytics\n", house.server.address().port());
    assert_eq!(fs::read_to_string(&asked).expect("was asked"), line.repeat(2), "once a connection");
    house.stop().await;
}

#[tokio::test]
async fn clients_prove_themselves_to_the_server_through_the_pair() {
    let world = World::new();
    let catalog = world.write("catalog-password", "catalog-secret\n");
    let yaml = format!("role: passthrough\ncatalog:\n  user: catalog_role\n  password_file: {}\n", catalog.display());
    for (method, user, password) in [
        ("scram-sha-256", "app_role", "app-secret"),
        ("md5", "legacy_role", "legacy-secret"),
        ("scram-sha-256", "analyst_role", "analyst-secret"),
    ] {
        let house = world.warehouse_with(PgPlan::new().auth(method), ALLOW_ALL, &yaml).await;
        let steps = json!([{ "do": "execute", "sql": "SELECT current_user" }]);
        for script in ["psycopg_client.py", "asyncpg_client.py"] {
            let steps = if script.starts_with("asyncpg") {
                json!([{ "do": "fetch", "sql": "SELECT current_user" }])
            } else {
                steps.clone()
            };
            let connect = json!({ "user": user, "password": password });
            let answer = driver(script, house.address(), connect, steps.clone()).await;
            assert_eq!(answer[0]["rows"], json!([[user]]), "{script}, {method}: {answer:#}");
            let wrong =
                driver(script, house.address(), json!({ "user": user, "password": "wrong" }), steps.clone()).await;
            let told = wrong["connect"].to_string();
            assert!(told.contains("password authentication failed"), "{script}, {method}: {wrong:#}");
        }
        house.stop().await;
    }
}

/// SCRAM bound to a channel cannot pass two TLS connections, so it is not offered.
#[tokio::test]
async fn channel_binding_is_not_offered_where_it_cannot_work() {
    let world = World::new();
    let catalog = world.write("catalog-password", "catalog-secret\n");
    let certificate = named(&world, "localhost");
    let ca = world.write("server-ca.pem", &world.ca.bundle());
    let yaml = format!(
        "role: passthrough\ncatalog:\n  user: catalog_role\n  password_file: {}\nupstream_tls: request\nupstream_ca: {}\n",
        catalog.display(),
        ca.display()
    );
    let server = PgPlan::new().auth("scram-sha-256").tls(&certificate).start().await;
    let upstream = format!("localhost:{}", server.address().port());
    let house = world.warehouse_before(server, &upstream, ALLOW_ALL, &yaml).await;
    let mut wire = PgWire::plain(house.address()).await;
    wire.send(startup(PROTOCOL_3, &[("user", "app_role"), ("database", DATABASE)])).await;
    let offer = wire.reply_to(|frame| frame.tag == b'R' || frame.tag == b'E').await;
    let offered = String::from_utf8_lossy(&offer.frames[0].body).into_owned();
    assert!(offered.contains("SCRAM-SHA-256") && !offered.contains("PLUS"), "{offer:#?}");
    let connect = json!({ "user": "app_role", "password": "app-secret" });
    let steps = json!([{ "do": "execute", "sql": "SELECT current_user" }]);
    let answer = driver("psycopg_client.py", house.address(), connect, steps).await;
    assert_eq!(answer[0]["rows"], json!([["app_role"]]), "{answer:#}");
    drop(wire);
    house.stop().await;
}

// -------------------------------------------------------------------------------------------------------------- what is pinned

#[tokio::test]
async fn the_identity_stands_in_the_session_and_cannot_be_changed() {
    let world = World::new();
    let house = world.warehouse(&only(&[]), "").await;
    let mut wire = PgWire::plain(house.address()).await;
    let login = [LOGIN[0], LOGIN[1], ("application_name", "nightly load")];
    wire.login(&login).await.expect("is permitted");
    assert_eq!(wire.query("SHOW portcullis.spiffe_id").await.value(), world.id("app"));
    let name = house.server.value("SELECT application_name FROM pg_stat_activity WHERE usename = 'admin_role'").await;
    assert!(name.ends_with("nightly load") && name.len() <= 63 && name.len() > "nightly load".len(), "{name}");
    for sql in [
        "SET portcullis.spiffe_id = 'spiffe://other/x'",
        "SET LOCAL \"portcullis\".\"spiffe_id\" TO 'x'",
        "SELECT set_config('portcullis.spiffe_id', 'x', false)",
        "SELECT set_config('Portcullis.SPIFFE_ID', 'x', true)",
    ] {
        let reply = wire.query(sql).await;
        assert!(["42501", "0A000"].contains(&reply.error().sqlstate()), "{sql}: {reply:#?}");
    }
    wire.query("SET application_name = 'renamed'").await.ok();
    for sql in [
        "RESET ALL",
        "DISCARD ALL",
        "RESET ROLE",
        "RESET search_path",
        "SET SESSION AUTHORIZATION DEFAULT",
        "RESET portcullis.spiffe_id",
    ] {
        let reply = wire.query(sql).await;
        assert!(reply.errors.is_empty(), "{sql}: {reply:#?}");
        assert_eq!(wire.query("SHOW portcullis.spiffe_id").await.value(), world.id("app"), "{sql}");
        assert_eq!(wire.query("SELECT current_user").await.value(), "admin_role", "{sql}");
    }
    assert_eq!(wire.query("SET ROLE analyst_role").await.error().sqlstate(), "42501");
    assert_eq!(wire.query("SET \"ROLE\" TO analyst_role").await.error().sqlstate(), "42501");
    assert_eq!(wire.query("SELECT current_user").await.value(), "admin_role");
    wire.terminate().await;
    house.stop().await;
}

#[tokio::test]
async fn set_application_name_changes_only_the_clients_part() {
    let world = World::new();
    let house = world.warehouse(&only(&[]), "").await;
    let mut wire = PgWire::plain(house.address()).await;
    wire.login(&[LOGIN[0], LOGIN[1], ("application_name", "nightly load")]).await.expect("is permitted");
    let named = "SELECT application_name FROM pg_stat_activity WHERE usename = 'admin_role'";
    let name = house.server.value(named).await;
    let expected = |own: &str| name.replace("nightly load", own);
    wire.query("SET application_name = 'renamed'").await.ok();
    assert_eq!(house.server.value(named).await, expected("renamed"));
    wire.extended("SET application_name TO 'by \"driver\" it''s'", &[]).await.ok();
    assert_eq!(house.server.value(named).await, expected("by \"driver\" it's"));
    assert_eq!(wire.query("SELECT set_config('application_name', 'f', false)").await.value(), expected("f"));
    wire.query("BEGIN; SET LOCAL application_name = 'local'; COMMIT").await.ok();
    assert_eq!(wire.query("SHOW application_name").await.value(), expected("f"));
    wire.query(&format!("SET application_name = '{}'", expected("f"))).await.ok();
    assert_eq!(wire.query("SHOW application_name").await.value(), expected("f"), "set again as it was read");
    for reply in [
        wire.query("SET application_name = E'x'").await,
        wire.extended("SELECT set_config('application_name', $1, false)", &["x"]).await,
    ] {
        assert_eq!(reply.error().sqlstate(), "0A000", "{reply:#?}");
    }
    assert_eq!(wire.query("SHOW application_name").await.value(), expected("f"));
    wire.query("RESET application_name").await.ok();
    assert_eq!(wire.query("SHOW application_name").await.value(), name);
    wire.terminate().await;
    house.stop().await;
}

#[tokio::test]
async fn what_the_startup_packet_sets_is_judged_as_set() {
    let world = World::new();
    let house = world.warehouse(&only(&[("sql:Select", "sales.orders")]), "").await;
    for options in [
        ("role", "analyst_role"),
        ("options", "-c role=analyst_role"),
        ("options", "-crole=analyst_role"),
        ("options", "--role=analyst_role"),
        ("session_authorization", "analyst_role"),
        ("portcullis.spiffe_id", "spiffe://other/x"),
        ("options", "-c portcullis.spiffe_id=x"),
        ("standard_conforming_strings", "off"),
        ("options", "-c standard_conforming_strings=off"),
        ("session_replication_role", "replica"),
    ] {
        let mut wire = PgWire::plain(house.address()).await;
        let refused = wire.login(&[LOGIN[0], LOGIN[1], options]).await;
        let Err(error) = refused else {
            // Or taken out: then it has no effect.
            assert_eq!(wire.query("SELECT current_user").await.value(), "admin_role", "{options:?}");
            assert_eq!(wire.query("SHOW portcullis.spiffe_id").await.value(), world.id("app"), "{options:?}");
            assert_eq!(wire.query("SHOW standard_conforming_strings").await.value(), "on", "{options:?}");
            assert_eq!(wire.query("SHOW session_replication_role").await.value(), "origin", "{options:?}");
            continue;
        };
        assert_eq!(error.severity(), "FATAL", "{options:?}: {error:?}");
        assert!(["28000", "0A000", "42501"].contains(&error.sqlstate()), "{options:?}: {error:?}");
    }
    // search_path is followed, not refused: `orders` is sales.orders here.
    for options in [("search_path", "sales"), ("options", "-c search_path=sales")] {
        let mut wire = PgWire::plain(house.address()).await;
        wire.login(&[LOGIN[0], LOGIN[1], options]).await.expect("is permitted");
        assert_eq!(wire.query("SELECT region FROM orders WHERE id = 1").await.value(), "north", "{options:?}");
        assert_eq!(wire.query("SELECT customer FROM public.orders").await.error().sqlstate(), "42501");
        wire.query("RESET search_path").await.ok();
        wire.terminate().await;
    }
    house.stop().await;
}

// ----------------------------------------------------------------------------------------------------------------- cancelling

#[tokio::test]
async fn a_cancel_reaches_its_own_session_and_no_other() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let (mut first, mut second) = (house.session().await, house.session().await);
    let (own, other) = (first.key.clone().expect("has a key"), second.key.clone().expect("has a key"));
    assert_ne!(own, other);
    let pids = house.server.sql("SELECT pid FROM pg_stat_activity WHERE usename = 'admin_role'").await;
    let pid = i32::from_be_bytes(own[..4].try_into().expect("four bytes")).to_string();
    assert!(!pids.contains(&vec![Some(pid)]), "the key is the proxy's own");

    first.send(query("SELECT pg_sleep(60)")).await;
    house.server.runs("pg_sleep").await;
    // Of a session that runs nothing, of nobody, and of the right process with a wrong secret.
    PgWire::plain(house.address()).await.cancel(&other).await;
    PgWire::plain(house.address()).await.cancel(&[0, 0, 0, 1, 0, 0, 0, 2]).await;
    let mut wrong = own.clone();
    *wrong.last_mut().expect("has bytes") ^= 1;
    PgWire::plain(house.address()).await.cancel(&wrong).await;
    house.server.runs("pg_sleep").await;
    let cancels = |house: &Warehouse| {
        let all = house.outbound.records.all().into_iter();
        all.filter(|record| record["kind"] == "connection" && record["reason"] == "cancel").collect::<Vec<_>>()
    };
    assert_eq!(cancels(&house).len(), 3, "whether they strike the outbound side cannot know");
    PgWire::plain(house.address()).await.cancel(&own).await;
    let recorded = cancels(&house);
    assert_eq!(recorded.len(), 4);
    for record in recorded {
        assert_eq!((&record["outcome"], &record["direction"]), (&json!("allowed"), &json!("outbound")), "{record:#}");
        assert_eq!(record["principal"], world.id("app"), "{record:#}");
        assert!(record["upstream"].is_string() && record["peer_address"].is_string(), "{record:#}");
    }
    let reply = first.reply().await;
    assert_eq!((reply.error().sqlstate(), reply.status), ("57014", 'I'), "{reply:#?}");
    assert_eq!(first.query("SELECT 1").await.value(), "1");
    assert_eq!(second.query("SELECT 2").await.value(), "2");
    // Late: nothing runs any more, and the next statement is not hit.
    PgWire::plain(house.address()).await.cancel(&own).await;
    assert_eq!(first.query("SELECT 3").await.value(), "3");
    house.stop_with([first, second]).await;
}

#[tokio::test]
async fn a_cancel_of_another_workload_is_dropped() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let thief = world.outbound_to(&house.inbound, "thief", "").await;
    let mut wire = house.session().await;
    let key = wire.key.clone().expect("has a key");
    wire.send(query("SELECT pg_sleep(60)")).await;
    house.server.runs("pg_sleep").await;
    PgWire::plain(thief.outbound(WAREHOUSE)).await.cancel(&key).await;
    // In plain at the inbound listener, from anybody: dropped.
    let mut plain = PgWire::plain(house.inbound.inbound(WAREHOUSE)).await;
    plain.try_send(packet(CANCEL_REQUEST, &key)).await;
    assert!(!plain.rest().await.kinds().contains('Z'));
    let mut anonymous = by_ssl_request(&world, &house, "thief").await;
    anonymous.send(packet(CANCEL_REQUEST, &key)).await;
    anonymous.rest().await;
    house.server.runs("pg_sleep").await;
    // The workload itself may, from wherever it connects.
    by_ssl_request(&world, &house, "app").await.cancel(&key).await;
    assert_eq!(wire.reply().await.error().sqlstate(), "57014");
    thief.stop().await;
    house.stop_with([wire]).await;
}

// --------------------------------------------------------------------------------------------------------------------- limits

#[tokio::test]
async fn too_many_sessions_are_told_so() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "limits:\n  connections_per_workload: 2\n").await;
    let (first, second) = (house.session().await, house.session().await);
    let error = PgWire::try_session(house.address(), "admin_role").await.err().expect("is one too many");
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "53300"), "{error:?}");
    first.terminate().await;
    house.server.sessions_are("one", |all| all.len() == 1).await;
    let mut third = PgWire::try_session(house.address(), "admin_role").await;
    while third.is_err() {
        third = PgWire::try_session(house.address(), "admin_role").await;
    }
    house.stop_with([second, third.expect("a place is free")]).await;
}

#[tokio::test]
async fn a_client_that_does_not_authenticate_is_cut_off() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "authentication_timeout: 2s\n").await;
    let mut silent = by_ssl_request(&world, &house, "app").await;
    let reply = silent.rest().await;
    assert!(!reply.kinds().contains('R'), "{reply:#?}");
    let mut working = house.session().await;
    assert_eq!(working.query("SELECT pg_sleep(2.5)").await.status, 'I', "a session is not cut off");
    house.stop_with([working]).await;
}

#[tokio::test]
async fn a_drain_ends_idle_sessions_and_lets_statements_finish() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let (mut idle, mut busy) = (house.session().await, house.session().await);
    busy.send(query("SELECT pg_sleep(1), 'finished'")).await;
    house.server.runs("pg_sleep").await;
    house.inbound.process.signal("TERM");
    let told = idle.rest().await;
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P01"), "{told:#?}");
    let reply = busy.reply().await;
    assert_eq!(reply.rows.len(), 1, "{reply:#?}");
    let told = busy.rest().await;
    assert_eq!(told.error().sqlstate(), "57P01", "{told:#?}");
    let Warehouse { outbound, inbound, server } = house;
    inbound.stopped().await;
    outbound.stop().await;
    server.sessions_end().await;
}

// ------------------------------------------------------------------------------------------------------------------- upstreams

#[tokio::test]
async fn a_server_that_is_down_is_said_to_be_so_at_once() {
    let world = World::new();
    let mut house = world.warehouse(ALLOW_ALL, "").await;
    house.server.crash().await;
    let error = PgWire::try_session(house.address(), "admin_role").await.err().expect("nobody is there");
    assert_eq!(error.severity(), "FATAL", "{error:?}");
    assert!(["08001", "08006", "08004", "57P03"].contains(&error.sqlstate()), "{error:?}");
    house.server.start_again().await;
    assert_eq!(role_of(&house, "whoever").await, "admin_role");
    house.stop().await;
}

#[tokio::test]
async fn a_server_is_reached_by_its_unix_socket_and_knows_the_proxy_by_its_user() {
    let world = World::new();
    let hba = "local all catalog_role trust\nlocal all all peer map=tests\nhost all all 127.0.0.1/32 reject\n";
    let server = PgPlan::new().hba(hba).start().await;
    let upstream = server.socket_url();
    let yaml = "role: fixed app_role\ncatalog:\n  user: catalog_role\n";
    let house = world.warehouse_before(server, &upstream, ALLOW_ALL, yaml).await;
    assert_eq!(role_of(&house, "whoever").await, "app_role");
    house.stop().await;
}

/// A server's certificate for a DNS name.
fn named(world: &World, name: &str) -> Svid {
    world.ca.issue_with("/server", |params| {
        params.subject_alt_names = vec![SanType::DnsName(name.try_into().expect("is ASCII"))];
    })
}

/// A server that speaks TLS from the first byte on, as PostgreSQL 17 and later do where they are built with it: TLS ends here,
/// what is in it goes to `server`.
async fn direct_tls(server: &PgServer, certificate: &Svid) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let port = listener.local_addr().expect("is bound").port();
    let (acceptor, to) = (server_config(certificate, &["postgresql"]), server.address());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"postgresql"[..]));
                let mut plain = TcpStream::connect(to).await.expect("it listens");
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn tls_to_the_server_is_verified() {
    let world = World::new();
    let other = Ca::new("other.example").bundle();
    let (ca, other) = (world.write("ca.pem", &world.ca.bundle()), world.write("other.pem", &other));
    for how in ["request", "direct"] {
        for (what, name, authority, works) in [
            ("verified", "localhost", &ca, true),
            ("of another authority", "localhost", &other, false),
            ("for another name", "db.example", &ca, false),
        ] {
            let certificate = named(&world, name);
            let only_tls = "hostssl all all 127.0.0.1/32 trust\nhostnossl all all 127.0.0.1/32 reject\n";
            let (server, port) = if how == "request" {
                let server = PgPlan::new().hba(only_tls).tls(&certificate).start().await;
                let port = server.address().port();
                (server, port)
            } else {
                let server = PgServer::start().await;
                let port = direct_tls(&server, &certificate).await;
                (server, port)
            };
            let yaml = format!("{AS_ADMIN}upstream_tls: {how}\nupstream_ca: {}\n", authority.display());
            let house = world.warehouse_before(server, &format!("localhost:{port}"), ALLOW_ALL, &yaml).await;
            match PgWire::try_session(house.address(), "admin_role").await {
                Ok(mut wire) => {
                    assert!(works, "{how}, a certificate {what}: taken");
                    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                    assert_eq!(wire.query(sql).await.value(), if how == "request" { "t" } else { "f" });
                    wire.terminate().await;
                }
                Err(error) => {
                    assert!(!works, "{how}, a certificate {what}: {error:?}");
                    assert_eq!(error.severity(), "FATAL", "{error:?}");
                }
            }
            house.stop().await;
        }
    }
}

#[tokio::test]
async fn a_cleartext_password_may_pass_verified_tls() {
    let world = World::new();
    let (ca, file) = (world.write("ca.pem", &world.ca.bundle()), world.write("password", "app-secret"));
    let hba = "hostssl all catalog_role 127.0.0.1/32 trust\nhostssl all all 127.0.0.1/32 password\n";
    let server = PgPlan::new().hba(hba).tls(&named(&world, "localhost")).start().await;
    let upstream = format!("localhost:{}", server.address().port());
    let yaml = format!(
        "role: fixed app_role\npassword_file: {}\ncatalog:\n  user: catalog_role\nupstream_tls: request\nupstream_ca: {}\n",
        file.display(),
        ca.display()
    );
    let house = world.warehouse_before(server, &upstream, ALLOW_ALL, &yaml).await;
    assert_eq!(role_of(&house, "whoever").await, "app_role");
    house.stop().await;
}

// ----------------------------------------------------------------------------------------------------------------- replication

#[tokio::test]
async fn replication_is_a_question_of_its_own() {
    let world = World::new();
    let house = world.warehouse(&only(&[]), "").await;
    for value in ["true", "on", "yes", "1", "database", "TRUE", "t"] {
        let mut wire = PgWire::plain(house.address()).await;
        let refused = wire.login(&[LOGIN[0], LOGIN[1], ("replication", value)]).await;
        let error = refused.err().unwrap_or_else(|| panic!("replication={value} is taken"));
        assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "28000"), "{value}: {error:?}");
        let record = house.inbound.records.of_decision(&error.decision_id()).await;
        let asked = record.to_string();
        assert!(asked.contains("sql:Replicate") && record["outcome"] == "not_permitted", "{value}: {record:#}");
    }
    house.server.sessions_end().await;
    house.stop().await;
}

#[tokio::test]
async fn replication_that_is_permitted_speaks_its_own_commands() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = PgWire::plain(house.address()).await;
    wire.login(&[LOGIN[0], LOGIN[1], ("replication", "true")]).await.expect("is permitted");
    assert_eq!(wire.query("IDENTIFY_SYSTEM").await.ok().len(), 1);
    house.stop_with([wire]).await;
}

// --------------------------------------------------------------------------------------------------------------------- framing

#[tokio::test]
async fn messages_that_break_the_protocol_end_the_session() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "message_bytes: 65536\n").await;
    let wrong: [(&str, Vec<u8>); 9] = [
        ("an unknown tag", frame(b'!', b"")),
        ("a length below four", vec![b'Q', 0, 0, 0, 3]),
        ("a length with its sign bit", vec![b'Q', 0xff, 0xff, 0xff, 0xff, 0, 0]),
        ("longer than the limit", [&[b'Q', 0, 0x10, 0, 0][..], &[b' '; 100_000]].concat()),
        ("no terminator", frame(b'Q', b"SELECT 1")),
        ("bytes behind the terminator", frame(b'Q', b"SELECT 1\0DELETE FROM people\0")),
        ("NUL in a Parse", frame(b'P', b"\0SELECT 1\0DELETE FROM people\0\0\0")),
        ("a Bind that ends early", [parse("", "SELECT 1"), frame(b'B', b"\0\0\0\x01"), sync()].concat()),
        ("a startup packet", startup(PROTOCOL_3, &LOGIN)),
    ];
    for (what, bytes) in wrong {
        let mut wire = house.session().await;
        wire.try_send(&bytes).await;
        let reply = wire.rest().await;
        let error = reply.errors.first().unwrap_or_else(|| panic!("{what}: {reply:#?}"));
        assert!(error.sqlstate().starts_with("08") || error.sqlstate().starts_with("54"), "{what}: {reply:#?}");
        assert!(reply.rows.is_empty(), "{what}: {reply:#?}");
    }
    assert_eq!(house.server.value("SELECT count(*) FROM people").await, "3");
    house.server.sessions_end().await;
    house.stop().await;
}
