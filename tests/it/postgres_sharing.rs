//! Sessions of one workload share connections between two sidecars. Each stays a session of its own: its answers, its record, its limits,
//! its end.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, NoTls};

use crate::support::pg_wire::query;
use crate::support::*;

/// Handshakes that a sidecar has finished, as server or as client.
pub(crate) async fn handshakes(sidecar: &Sidecar) -> f64 {
    sidecar.metric("portcullis_handshakes_total", &["result=\"done\""]).await
}

/// Records of the beginnings of sessions.
pub(crate) fn beginnings(sidecar: &Sidecar) -> Vec<Value> {
    let is_beginning = |record: &Value| record["kind"] == "request" && record["context"]["statement"] == "connect";
    sidecar.records.all().into_iter().filter(is_beginning).collect()
}

/// A client as an application has it.
async fn client(address: SocketAddr) -> (Client, JoinHandle<()>) {
    let mut config = Config::new();
    config.host(address.ip().to_string()).port(address.port()).user("admin_role").dbname(DATABASE);
    let (client, connection) = within("a session", config.connect(NoTls)).await.expect("is permitted");
    let driver = tokio::spawn(async move {
        // What it says of its end is the client's to say.
        let _ = connection.await;
    });
    (client, driver)
}

// --------------------------------------------------------------------------------------------------------------------- sharing

#[tokio::test]
async fn sixteen_sessions_take_one_connection_and_a_seventeenth_takes_another() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    // All at once: those who come while the connection is made wait for it rather than make their own.
    let address = house.address();
    let opening: Vec<_> = (0..16).map(|_| tokio::spawn(async move { client(address).await })).collect();
    let mut sessions = Vec::new();
    for one in opening {
        sessions.push(within("a session", one).await.expect("does not panic"));
    }
    for side in [&house.outbound, &house.inbound] {
        assert_eq!(handshakes(side).await, 1.0);
    }
    sessions.push(client(address).await);
    for side in [&house.outbound, &house.inbound] {
        assert_eq!(handshakes(side).await, 2.0);
    }
    let open = house.inbound.metric("portcullis_connections", &["direction=\"inbound\"", "state=\"open\""]).await;
    assert_eq!(open, 17.0, "a session that shares a connection counts as one");

    // Questions of all at a time, each with an answer that no other has.
    let asking = sessions.iter().enumerate().map(|(number, (client, _))| async move {
        for round in 0..20_i32 {
            let own = i32::try_from(number).expect("is small") * 1_000 + round;
            let sql = format!("SELECT {own}, repeat(chr(65 + {number}), {own})");
            let answer = client.query_one(&sql, &[]).await.expect("is permitted");
            let (value, text) = (answer.get::<_, i32>(0), answer.get::<_, &str>(1));
            assert_eq!(value, own);
            assert_eq!(
                text,
                char::from(b'A' + u8::try_from(number).expect("is small")).to_string().repeat(own as usize)
            );
        }
    });
    within("all answers", futures_util::future::join_all(asking)).await;

    let records = eventually_so("a record for each session", async || {
        let all = beginnings(&house.inbound);
        if all.len() == 17 { Ok(all) } else { Err(all.len()) }
    })
    .await;
    let ids: BTreeSet<&str> = records.iter().filter_map(|record| record["request_id"].as_str()).collect();
    assert_eq!(ids.len(), 17, "{records:#?}");
    let statements = |id: &str| {
        let of = |record: &&Value| {
            record["kind"] == "request" && record["sql"]["session"] == id && record["context"]["statement"] == "select"
        };
        let all = house.inbound.records.all();
        let texts = all.iter().filter(of).map(|record| record["request_id"].as_str().unwrap_or_default().to_owned());
        texts.collect::<BTreeSet<String>>()
    };
    for id in ids {
        let numbered =
            eventually("a record for each statement", || Some(statements(id)).filter(|all| all.len() == 20)).await;
        assert!(numbered.iter().all(|request| request.starts_with(id)), "{numbered:?}");
    }
    drop(sessions);
    house.stop().await;
}

#[tokio::test]
async fn each_session_has_a_connection_of_its_own_where_the_configuration_says_so() {
    let world = World::new();
    let mut house = world.warehouse(ALLOW_ALL, "").await;
    let alone = world.outbound_to(&house.inbound, "alone", "sessions_per_connection: 1").await;
    std::mem::replace(&mut house.outbound, alone).stop().await;
    let sessions = [house.session().await, house.session().await, house.session().await];
    assert_eq!((handshakes(&house.outbound).await, handshakes(&house.inbound).await), (3.0, 3.0));
    let peers: BTreeSet<String> =
        beginnings(&house.inbound).iter().map(|record| record["peer_address"].to_string()).collect();
    assert_eq!(peers.len(), 3, "{peers:?}");

    let in_twos = world.outbound_to(&house.inbound, "twos", "sessions_per_connection: 2").await;
    let before = handshakes(&house.inbound).await;
    let mut wires = Vec::new();
    for _ in 0..4 {
        wires.push(PgWire::session(in_twos.outbound(WAREHOUSE), "admin_role").await);
    }
    assert_eq!((handshakes(&in_twos).await, handshakes(&house.inbound).await - before), (2.0, 2.0));
    for wire in wires {
        wire.terminate().await;
    }
    in_twos.stop().await;
    house.stop_with(sessions).await;
}

#[tokio::test]
async fn a_connection_that_stands_takes_the_next_session() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    for number in 0..20 {
        let mut wire = house.session().await;
        assert_eq!(wire.query(&format!("SELECT {number}")).await.value(), number.to_string());
        wire.terminate().await;
        house.server.sessions_end().await;
    }
    assert_eq!(handshakes(&house.inbound).await, 1.0);
    house.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------------ bulk

/// Rows of COPY: 100 MiB together.
const ROWS: usize = 100 * 1024;

fn row(number: usize) -> String {
    let text = format!("{number:08}-").repeat(114);
    format!("{}\t{}\n", 1_000_000 + number, text.split_at(1_016).0)
}

/// Asks again and again until it is told to stop: how often, and how long the longest answer took.
fn asks_on(wire: PgWire, stop: &Arc<AtomicBool>) -> JoinHandle<(PgWire, usize, Duration)> {
    let stop = Arc::clone(stop);
    tokio::spawn(async move {
        let (mut wire, mut count, mut longest) = (wire, 0, Duration::ZERO);
        while !stop.load(Ordering::Relaxed) {
            let began = Instant::now();
            assert_eq!(wire.query(&format!("SELECT {count}")).await.value(), count.to_string());
            longest = longest.max(began.elapsed());
            count += 1;
        }
        (wire, count, longest)
    })
}

#[tokio::test]
async fn a_copy_loses_no_byte_and_does_not_keep_another_session_waiting() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let (copying, _driver) = client(house.address()).await;
    let mut bystander = house.session().await;
    assert_eq!(handshakes(&house.inbound).await, 1.0, "they share a connection");
    let (mut sent, mut received) = (Vec::with_capacity(ROWS * 1_040), Vec::with_capacity(ROWS * 1_040));
    for number in 0..ROWS {
        sent.extend_from_slice(row(number).as_bytes());
    }
    let expected = sha256(&sent);
    for direction in ["in", "out"] {
        let stop = Arc::<AtomicBool>::default();
        let asking = asks_on(bystander, &stop);
        let began = Instant::now();
        if direction == "in" {
            let sink = copying.copy_in("COPY parent (id, note) FROM STDIN").await.expect("is permitted");
            let mut sink = std::pin::pin!(sink);
            // Pieces that end anywhere.
            for piece in sent.chunks(50_021) {
                let sending = sink.send(Bytes::copy_from_slice(piece));
                within("a piece to be taken", sending).await.expect("the session goes on");
            }
            let count = within("the end of COPY", sink.finish()).await.expect("the session goes on");
            assert_eq!(count, ROWS as u64);
        } else {
            let sql = "COPY (SELECT id, note FROM ONLY parent WHERE id >= 1000000 ORDER BY id) TO STDOUT";
            let mut rows = std::pin::pin!(copying.copy_out(sql).await.expect("is permitted"));
            while let Some(piece) = within("a piece", rows.next()).await {
                received.extend_from_slice(&piece.expect("the session goes on"));
            }
        }
        let lasted = began.elapsed();
        stop.store(true, Ordering::Relaxed);
        let (wire, count, longest) = within("the bystander", asking).await.expect("was answered");
        println!("COPY {direction}: {lasted:?}, meanwhile {count} answers, the longest after {longest:?}");
        assert!(count > 20, "{count} answers in {lasted:?}");
        assert!(longest < Duration::from_secs(2), "an answer took {longest:?} of {lasted:?}");
        bystander = wire;
    }
    assert_eq!((received.len(), sha256(&received)), (sent.len(), expected));
    drop(copying);
    house.stop_with([bystander]).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_only_itself() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut bystander = house.session().await;
    let mut deaf = Vec::new();
    for text in [
        "SELECT repeat('x', 1000) FROM generate_series(1, 200000)",
        "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 200000)) TO STDOUT",
        "SELECT repeat('x', 50000000) FROM generate_series(1, 2)",
    ] {
        let mut wire = house.session().await;
        wire.send(query(text)).await;
        deaf.push(wire);
    }
    assert_eq!(handshakes(&house.inbound).await, 1.0, "they share a connection");
    let stuck = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'ClientWrite'";
    eventually_so("all three to wait for their clients", async || match house.server.value(stuck).await {
        count if count == "3" => Ok(()),
        count => Err(count),
    })
    .await;
    for _ in 0..50 {
        assert_eq!(bystander.query("SELECT repeat('y', 300000)").await.value().len(), 300_000);
    }
    let fresh = house.session().await;
    assert_eq!(handshakes(&house.inbound).await, 1.0);
    // Who reads in the end has all of it.
    let mut read = deaf.remove(0);
    let reply = read.reply().await;
    assert_eq!((reply.ok().len(), reply.tags.as_slice()), (200_000, &["SELECT 200000".to_owned()][..]));
    drop(deaf);
    house.server.sessions_are("of those who are there", |all| all.len() == 3).await;
    house.stop_with([bystander, fresh, read]).await;
}

// ------------------------------------------------------------------------------------------------------------------------ ends

#[tokio::test]
async fn a_client_that_dies_ends_its_statement_and_no_other() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let (mut stays, mut busy) = (house.session().await, house.session().await);
    busy.send(query("SELECT 'slept' FROM pg_sleep(1.5)")).await;
    house.server.runs("'slept'").await;
    let mut reset = house.resettable().await;
    reset.send(query("SELECT pg_sleep(600)")).await;
    house.server.runs("pg_sleep(600)").await;
    drop(reset);
    house.server.sessions_are("without the one that was reset", |all| all.len() == 2).await;
    assert_eq!(stays.query("SELECT 7").await.value(), "7");
    assert_eq!(busy.reply().await.value(), "slept");
    let next = house.session().await;
    assert_eq!(handshakes(&house.inbound).await, 1.0, "the connection goes on");
    house.stop_with([stays, busy, next]).await;
}

impl Warehouse {
    /// A session whose client's socket is reset when it is dropped.
    async fn resettable(&self) -> PgWire {
        let stream = tokio::net::TcpStream::connect(self.address()).await.expect("it listens");
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("is TCP");
        let mut wire = PgWire::over(stream);
        wire.login(&[("user", "admin_role"), ("database", DATABASE)]).await.expect("is permitted");
        wire
    }
}

#[tokio::test]
async fn a_sidecar_that_dies_ends_all_sessions_and_the_one_that_comes_after_it_takes_new_ones() {
    let world = World::new();
    let Warehouse { outbound, inbound, server } = world.warehouse(ALLOW_ALL, "").await;
    let (address, to) = (outbound.outbound(WAREHOUSE), inbound.inbound(WAREHOUSE));
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(PgWire::session(address, "admin_role").await);
    }
    sessions[0].send(query("SELECT pg_sleep(2)")).await;
    server.runs("pg_sleep").await;
    inbound.kill().await;
    for (number, wire) in sessions.iter_mut().enumerate() {
        let told = wire.rest().await;
        // As when the connection is its own: it ends, whatever is said.
        assert!(told.rows.is_empty() && told.status == '-', "session {number}: {told:#?}");
        assert!(told.errors.iter().all(|error| error.severity() == "FATAL"), "session {number}: {told:#?}");
    }
    let refused = PgWire::try_session(address, "admin_role").await.err().expect("nobody is there");
    assert!(refused.severity() == "FATAL" && refused.sqlstate().starts_with("08"), "{refused:?}");
    server.sessions_end().await;

    // At the same place again.
    let again = world.sidecar("service").policies(ALLOW_ALL);
    let yaml = format!("listen: {to}\n{AS_ADMIN}");
    let inbound = again.inbound(WAREHOUSE, "postgres", &server.url(), &yaml).start().await;
    let mut next = PgWire::session(address, "admin_role").await;
    assert_eq!(next.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
    next.terminate().await;
    outbound.stop().await;
    inbound.stop().await;
    server.sessions_end().await;
}

#[tokio::test]
async fn a_sidecar_that_is_started_again_takes_the_next_session() {
    let world = World::new();
    let Warehouse { outbound, inbound, server } = world.warehouse(ALLOW_ALL, "").await;
    let (address, to) = (outbound.outbound(WAREHOUSE), inbound.inbound(WAREHOUSE));
    PgWire::session(address, "admin_role").await.terminate().await;
    // A connection without a session stands: nobody uses it once the other side has said that it goes.
    inbound.stop().await;
    let yaml = format!("listen: {to}\n{AS_ADMIN}");
    let inbound = world.sidecar("service").policies(ALLOW_ALL).inbound(WAREHOUSE, "postgres", &server.url(), &yaml);
    let inbound = inbound.start().await;
    let mut next = PgWire::session(address, "admin_role").await;
    assert_eq!(next.query("SELECT 1").await.value(), "1");
    next.terminate().await;
    assert_eq!(handshakes(&inbound).await, 1.0);
    outbound.stop().await;
    inbound.stop().await;
    server.sessions_end().await;
}

#[tokio::test]
async fn a_server_that_dies_ends_the_sessions_and_not_the_connection() {
    let world = World::new();
    let mut house = world.warehouse(ALLOW_ALL, "").await;
    let mut sessions = [house.session().await, house.session().await, house.session().await];
    sessions[0].send(query("SELECT pg_sleep(600)")).await;
    house.server.runs("pg_sleep").await;
    house.server.crash().await;
    for wire in &mut sessions {
        let told = wire.rest().await;
        let error = told.errors.last().unwrap_or_else(|| panic!("{told:#?}"));
        assert!(["57P01", "57P02", "08006", "08003"].contains(&error.sqlstate()), "{told:#?}");
    }
    house.server.start_again().await;
    let mut next = house.session().await;
    assert_eq!(next.query("SELECT 1").await.value(), "1");
    assert_eq!(handshakes(&house.inbound).await, 1.0);
    house.stop_with([next]).await;
}

#[tokio::test]
async fn a_cancel_reaches_one_of_the_sessions_that_share_a_connection() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let (one, _one_drives) = client(house.address()).await;
    let (other, _other_drives) = client(house.address()).await;
    let mine = one.simple_query("SELECT 'mine' FROM pg_sleep(600)");
    let theirs = other.simple_query("SELECT 'theirs' FROM pg_sleep(2)");
    let cancelling = async {
        house.server.runs("'mine'").await;
        house.server.runs("'theirs'").await;
        one.cancel_token().cancel_query(NoTls).await.expect("is taken");
    };
    let (mine, theirs, ()) = within("both answers", async { tokio::join!(mine, theirs, cancelling) }).await;
    let cancelled = mine.expect_err("was cancelled");
    assert_eq!(cancelled.code().map(|code| code.code()), Some("57014"), "{cancelled:?}");
    assert_eq!(theirs.expect("was not").len(), 3, "its row description, its row, and its end");
    assert_eq!(one.query_one("SELECT 1", &[]).await.expect("goes on").get::<_, i32>(0), 1);
    assert_eq!(handshakes(&house.inbound).await, 1.0, "the cancel too");
    drop((one, other));
    house.stop().await;
}
