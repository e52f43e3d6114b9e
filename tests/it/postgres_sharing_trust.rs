//! Limits, trust, drains and other peers, where sessions share connections between two sidecars.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::postgres_sharing::{beginnings, handshakes};
use crate::support::mux::{MuxWire, data, holds};
use crate::support::pg_wire::{PROTOCOL_3, query, startup};
use crate::support::*;

/// The shortest that the configuration takes.
const EAGER: &str = "reload_interval: 100ms";

async fn refused(address: std::net::SocketAddr) -> PgError {
    PgWire::try_session(address, "admin_role").await.err().expect("is refused")
}

/// A session, once there is a place for it.
async fn when_there_is_a_place(address: std::net::SocketAddr) -> PgWire {
    eventually_so("a place for one more session", async || PgWire::try_session(address, "admin_role").await).await
}

// ---------------------------------------------------------------------------------------------------------------------- limits

#[tokio::test]
async fn sessions_are_counted_and_not_connections() {
    for (limit, reason) in [("connections_per_workload", "workload-full"), ("connections", "listener-full")] {
        let world = World::new();
        let house = world.warehouse(ALLOW_ALL, &format!("limits:\n  {limit}: 3\n")).await;
        let mut sessions = [house.session().await, house.session().await, house.session().await];
        let error = refused(house.address()).await;
        assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "53300"), "{limit}: {error:?}");
        let reason = format!("reason=\"{reason}\"");
        assert_eq!(house.inbound.metric("portcullis_connections_refused_total", &[&reason]).await, 1.0, "{limit}");
        for wire in &mut sessions {
            assert_eq!(wire.query("SELECT 7").await.value(), "7", "{limit}");
        }
        if limit == "connections_per_workload" {
            let other = world.outbound_to(&house.inbound, "other", "").await;
            PgWire::session(other.outbound(WAREHOUSE), "admin_role").await.terminate().await;
            other.stop().await;
        }
        let [first, second, third] = sessions;
        second.terminate().await;
        let fourth = when_there_is_a_place(house.address()).await;
        refused(house.address()).await;
        assert_eq!(handshakes(&house.outbound).await, 1.0, "{limit}: they shared one connection");
        house.stop_with([first, third, fourth]).await;
    }
}

/// A place that a session leaves is not kept by the connection for its next one while it has others.
#[tokio::test]
async fn a_place_that_is_given_back_is_anybodys() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "limits:\n  connections_per_workload: 2\n").await;
    let twin = world.sidecar("twin").svid(world.ca.issue("/ns/test/sa/app")).policies(ALLOW_ALL);
    let to = house.inbound.inbound(WAREHOUSE).to_string();
    let twin = twin.outbound(WAREHOUSE, "postgres", &to, &world.id("service"), "").start().await;
    let (first, second) = (house.session().await, house.session().await);
    let error = refused(twin.outbound(WAREHOUSE)).await;
    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "53300"), "on a connection of its own: {error:?}");
    first.terminate().await;
    house.server.sessions_are("one", |all| all.len() == 1).await;
    let began = Instant::now();
    let third = when_there_is_a_place(twin.outbound(WAREHOUSE)).await;
    assert!(began.elapsed() < Duration::from_secs(5), "a place was free only after {:?}", began.elapsed());
    refused(house.address()).await;
    third.terminate().await;
    twin.stop().await;
    house.stop_with([second]).await;
}

// ----------------------------------------------------------------------------------------------------------------------- trust

#[tokio::test]
async fn after_a_rotation_new_sessions_take_a_new_connection_and_old_ones_go_on() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let outbound = world.sidecar("rotated").svid(world.ca.issue("/ns/test/sa/app")).policies(ALLOW_ALL).yaml(EAGER);
    let to = house.inbound.inbound(WAREHOUSE).to_string();
    let outbound = outbound.outbound(WAREHOUSE, "postgres", &to, &world.id("service"), "").start().await;
    let address = outbound.outbound(WAREHOUSE);
    let (mut one, two) = (PgWire::session(address, "admin_role").await, PgWire::session(address, "admin_role").await);
    let next = world.ca.issue("/ns/test/sa/app");
    outbound.replace_svid(&next);
    outbound.status_with("the rotation", |status| status["identity"]["generation"] == 2).await;
    let (three, mut four) =
        (PgWire::session(address, "admin_role").await, PgWire::session(address, "admin_role").await);
    assert_eq!(handshakes(&outbound).await, 2.0);
    assert_eq!(one.query("SELECT 1").await.value(), "1");
    assert_eq!(four.query("SELECT 4").await.value(), "4");
    let shown: Vec<bool> =
        beginnings(&house.inbound).iter().map(|record| record["peer_certificate_sha256"] == next.sha256()).collect();
    assert_eq!(shown, [false, false, true, true]);
    for wire in [one, two, three, four] {
        wire.terminate().await;
    }
    outbound.stop().await;
    house.stop().await;
}

#[tokio::test]
async fn who_is_denied_while_connected_loses_all_its_sessions_and_nobody_else_does() {
    let world = World::new();
    let server = PgServer::start().await;
    let deny = world.folder("service").join("deny.txt");
    std::fs::write(&deny, "").expect("the folder is writable");
    let inbound = world.sidecar("service").policies(ALLOW_ALL).yaml(EAGER);
    let inbound = inbound.identity_keys(&format!("deny_file: {}", deny.display()));
    let inbound = inbound.inbound(WAREHOUSE, "postgres", &server.url(), AS_ADMIN).start().await;
    let (app, stayer) = (world.outbound_to(&inbound, "app", "").await, world.outbound_to(&inbound, "stayer", "").await);
    let (leaves, stays) = (app.outbound(WAREHOUSE), stayer.outbound(WAREHOUSE));
    let (mut idle, mut busy) =
        (PgWire::session(leaves, "admin_role").await, PgWire::session(leaves, "admin_role").await);
    let (mut one, mut two) = (PgWire::session(stays, "admin_role").await, PgWire::session(stays, "admin_role").await);
    busy.send(query("SELECT 'finished' FROM pg_sleep(1)")).await;
    server.runs("pg_sleep").await;

    inbound.replace("deny.txt", &world.id("app"));
    let told = idle.rest().await;
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P01"), "{told:#?}");
    let told = busy.rest().await;
    assert_eq!((told.error().sqlstate(), told.rows.len()), ("57P01", 1), "its statement ends first: {told:#?}");
    let ended = || {
        let of = |record: &Value| record["kind"] == "connection" && record["principal"] == world.id("app");
        inbound.records.all().into_iter().filter(of).collect::<Vec<_>>()
    };
    let records = eventually("a record for each session", || Some(ended()).filter(|all| all.len() == 2)).await;
    assert!(records.iter().all(|record| record["reason"] == "denied-spiffe-id"), "{records:#?}");
    let mut again = PgWire::plain(leaves).await;
    again.try_send(startup(PROTOCOL_3, &[("user", "admin_role"), ("database", DATABASE)])).await;
    assert!(!again.rest().await.kinds().contains('Z'), "it does not come back");

    assert_eq!(one.query("SELECT 1").await.value(), "1");
    assert_eq!(two.query("SELECT 2").await.value(), "2");
    let three = PgWire::session(stays, "admin_role").await;
    assert_eq!(handshakes(&stayer).await, 1.0);
    for wire in [one, two, three] {
        wire.terminate().await;
    }
    app.stop().await;
    stayer.stop().await;
    inbound.stop().await;
    server.sessions_end().await;
}

#[tokio::test]
async fn a_peers_time_ends_the_sessions_of_its_connection() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let soon = OffsetDateTime::now_utc() + time::Duration::seconds(4);
    let brief = TlsClient::with(&world.ca.issue_with("/ns/test/sa/brief", |params| params.not_after = soon));
    let long = TlsClient::with(&world.ca.issue("/ns/test/sa/long"));
    let mut brief = MuxWire::connect(&brief, house.inbound.inbound(WAREHOUSE)).await;
    let mut long = MuxWire::connect(&long, house.inbound.inbound(WAREHOUSE)).await;
    for wire in [&mut brief, &mut long] {
        wire.login(1).await;
        wire.login(2).await;
    }
    for stream in [1, 2] {
        let told = brief.said(stream).await;
        assert!(holds(&told, "57P01"), "{}", told.escape_ascii());
    }
    brief.is_cut().await;
    let expired = |record: &Value| record["kind"] == "connection" && record["principal"] == world.id("brief");
    assert_eq!(house.inbound.records.find("the expired peer", expired).await["reason"], "peer-expired");
    long.send(data(2, query("SELECT 'long'"))).await;
    assert!(holds(&long.said(2).await, "long"));
    drop(long);
    house.stop().await;
}

// ---------------------------------------------------------------------------------------------------------------------- drains

#[tokio::test]
async fn a_drain_of_either_side_ends_all_sessions_that_share_a_connection() {
    for side in ["inbound", "outbound"] {
        let world = World::new();
        let mut house = world.warehouse(ALLOW_ALL, "").await;
        // An outbound sidecar does not see where a statement ends: it lets sessions go on for as long as a drain may take.
        let soon = world.sidecar("soon").policies(ALLOW_ALL).yaml("shutdown_timeout: 3s");
        let to = house.inbound.inbound(WAREHOUSE).to_string();
        let soon = soon.outbound(WAREHOUSE, "postgres", &to, &world.id("service"), "").start().await;
        std::mem::replace(&mut house.outbound, soon).stop().await;
        let (mut one, mut two, mut busy) = (house.session().await, house.session().await, house.session().await);
        busy.send(query("SELECT 'finished' FROM pg_sleep(1)")).await;
        house.server.runs("pg_sleep").await;
        let began = Instant::now();
        let Warehouse { outbound, inbound, server } = house;
        let (drained, other) = if side == "inbound" { (inbound, outbound) } else { (outbound, inbound) };
        drained.process.signal("TERM");
        for wire in [&mut one, &mut two] {
            let told = wire.rest().await;
            assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P01"), "{side}: {told:#?}");
        }
        let told = busy.rest().await;
        assert_eq!((told.error().sqlstate(), told.rows.len()), ("57P01", 1), "{side}: {told:#?}");
        drop((one, two, busy));
        drained.stopped().await;
        assert!(began.elapsed() < Duration::from_secs(5), "{side}: it took {:?}", began.elapsed());
        server.sessions_end().await;
        other.stop().await;
    }
}

// ----------------------------------------------------------------------------------------------------------------- other peers

#[tokio::test]
async fn clients_that_speak_postgresql_themselves_are_served_beside_shared_connections() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let shares = house.session().await;
    let mut direct = house.direct(&TlsClient::with(&world.ca.issue("/ns/test/sa/direct"))).await;
    direct.login(&[("user", "admin_role"), ("database", DATABASE)]).await.expect("is permitted");
    assert_eq!(direct.query("SELECT 1").await.value(), "1");
    let svid = world.ca.issue("/ns/test/sa/psql");
    let (certificate, key) = (world.write("psql.pem", &svid.chain_pem()), world.write("psql.key", &svid.key_pem()));
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("is ours");
    let mut command = libpq("psql", house.inbound.inbound(WAREHOUSE), "admin_role");
    command.env("PGSSLMODE", "require").env("PGSSLCERT", &certificate).env("PGSSLKEY", &key);
    command.args(["-X", "-A", "-t", "-c", "SHOW portcullis.spiffe_id"]);
    let told = Process::run("psql", &mut command, "").await;
    assert_eq!(told.stdout, world.id("psql"), "{told:#?}");
    house.stop_with([shares, direct]).await;
}

/// A sidecar that does not know of shared connections, and relays. The first handshake is answered at once, others when so many connections
/// have come as it `gathers`.
async fn older_peer(
    world: &World,
    server: &PgServer,
    gathers: watch::Receiver<usize>,
) -> (u16, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let port = listener.local_addr().expect("is bound").port();
    let (acceptor, to) = (server_config(&world.ca.issue("/ns/test/sa/service"), &["postgresql"]), server.address());
    let (arrived, arrivals) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            arrived.send_modify(|count| *count += 1);
            let (acceptor, gathers, mut standing) = (acceptor.clone(), gathers.clone(), arrived.subscribe());
            let wanted = if *standing.borrow() == 1 { 1 } else { *gathers.borrow() };
            tokio::spawn(async move {
                let _ = standing.wait_for(|count| *count >= wanted).await;
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"postgresql"[..]));
                let mut plain = TcpStream::connect(to).await.expect("it listens");
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    (port, arrivals)
}

#[tokio::test]
async fn a_peer_that_does_not_share_connections_gets_one_for_each_session_without_waiting_for_another() {
    let world = World::new();
    let server = PgServer::start().await;
    let (gather, gathers) = watch::channel(1);
    let (port, arrivals) = older_peer(&world, &server, gathers).await;
    let outbound = world.sidecar("app").policies(ALLOW_ALL);
    let to = format!("127.0.0.1:{port}");
    let outbound = outbound.outbound(WAREHOUSE, "postgres", &to, &world.id("service"), "").start().await;
    let address = outbound.outbound(WAREHOUSE);
    // All at once, when only the first handshake tells what the peer speaks, and then once more. None is answered before all have come: one
    // behind the other would wait in vain.
    let mut sessions = Vec::new();
    for (count, before) in [(8, 0), (8, 8)] {
        gather.send_replace(before + count);
        let opening: Vec<_> =
            (0..count).map(|_| tokio::spawn(async move { PgWire::session(address, "admin_role").await })).collect();
        for one in opening {
            sessions.push(within("a session", one).await.expect("does not panic"));
        }
        assert_eq!(*arrivals.borrow(), before + count);
    }
    for (number, wire) in sessions.iter_mut().enumerate() {
        assert_eq!(wire.query(&format!("SELECT {number}")).await.value(), number.to_string());
    }
    let peers: BTreeSet<String> = server
        .sql("SELECT client_port FROM pg_stat_activity WHERE usename = 'admin_role'")
        .await
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    assert_eq!(peers.len(), 16, "{peers:?}");
    for wire in sessions {
        wire.terminate().await;
    }
    outbound.stop().await;
    server.sessions_end().await;
}
