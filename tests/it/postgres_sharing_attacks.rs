//! A peer that is trusted and breaks the protocol by which sessions share a connection: it loses its connection, and nobody else notices.

use rustls::AlertDescription as Alert;
use serde_json::Value;

use crate::support::mux::*;
use crate::support::pg_wire::{PROTOCOL_3, query, startup};
use crate::support::*;

/// A peer of the inbound listener.
fn hostile(world: &World) -> TlsClient {
    TlsClient::with(&world.ca.issue("/ns/test/sa/hostile"))
}

fn violations(house: &Warehouse) -> Vec<Value> {
    let records = house.inbound.records.all().into_iter();
    records.filter(|record| record["reason"] == "mux-violation").collect()
}

#[tokio::test]
async fn sessions_are_spoken_as_the_protocol_is_written_down() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = MuxWire::connect(&hostile(&world), house.inbound.inbound(WAREHOUSE)).await;
    // Two streams in one write, a head and its data in two.
    let both = [session(1, DATABASE), session(2, DATABASE)].concat();
    let (one, two) = both.split_at(11);
    wire.send(one).await;
    wire.send(two).await;
    for stream in [2, 1] {
        assert!(kinds(&wire.said(stream).await).ends_with('Z'));
    }
    wire.send([data(1, query("SELECT 'one'")), data(2, query("SELECT 'two'"))].concat()).await;
    for (stream, own, other) in [(2, "two", "one"), (1, "one", "two")] {
        let said = wire.said(stream).await;
        assert!(kinds(&said) == "TDCZ" && holds(&said, own) && !holds(&said, other), "{}", said.escape_ascii());
    }
    // Goodbye ends a stream, a reset ends another, and a third goes on.
    wire.login(3).await;
    wire.send([data(1, b"X\0\0\0\x04"), head(RESET, 2, 0)].concat()).await;
    assert!(wire.said(1).await.is_empty());
    house.server.sessions_are("one", |all| all.len() == 1).await;
    wire.send(data(3, query("SELECT 'three'"))).await;
    assert!(holds(&wire.said(3).await, "three"));
    // A server that leaves says so, and has the connection end with its last session.
    house.inbound.process.signal("TERM");
    let last = wire.said(3).await;
    assert!(holds(&last, "57P01"), "{}", last.escape_ascii());
    wire.send(head(LEAVE, 0, 0)).await;
    wire.is_cut().await;
    assert!(wire.is_left);
    let Warehouse { outbound, inbound, server } = house;
    let records = inbound.stopped().await.all();
    assert!(!records.iter().any(|record| record["reason"] == "mux-violation"), "{records:#?}");
    outbound.stop().await;
    server.sessions_end().await;
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_is_cut_off_and_nothing_reaches_the_server() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut bystander = house.session().await;
    let mut beside = MuxWire::connect(&hostile(&world), house.inbound.inbound(WAREHOUSE)).await;
    beside.login(1).await;
    let open = |stream: u32| head(OPEN, stream, 0);
    let too_many: Vec<u8> = (1..=65).flat_map(open).collect();
    let wrong: [(&str, Vec<u8>, &str); 15] = [
        ("noise", vec![0xaa; 4_096], "a frame that is none"),
        ("HTTP", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), "a frame that is none"),
        ("a startup packet", startup(PROTOCOL_3, &[("user", "admin_role")]), "a frame that is none"),
        ("data of no stream", data(1, query("SELECT 1")), "a frame of a stream that was not opened"),
        ("credit for no stream", head(CREDIT, 7, 1), "a frame of a stream that was not opened"),
        ("a stream that is not the next", open(2), "a stream that is not the next one"),
        ("the same stream twice", [open(1), open(1)].concat(), "a stream that is not the next one"),
        ("too many streams", too_many, "too many streams"),
        ("a frame longer than one may be", [open(1), head(DATA, 1, 65_537)].concat(), "a frame that is none"),
        ("4 GiB in a frame", [open(1), head(DATA, 1, u32::MAX)].concat(), "a frame that is none"),
        (
            "more data than there was credit for",
            // A message that a session waits for, so that nobody reads it to its end.
            [
                open(1),
                data(1, [&[0, 0, 0x27, 0x10, 0, 3, 0, 0][..], &[b'x'; 65_528]].concat()),
                data(1, [b'x'; 60_000]),
            ]
            .concat(),
            "more data than there was credit for",
        ),
        ("data behind the end", [open(1), head(END, 1, 0), data(1, b"x")].concat(), "more of a stream that has ended"),
        (
            "data behind a reset",
            [open(1), head(RESET, 1, 0), data(1, b"x")].concat(),
            "a frame of a stream that was reset",
        ),
        ("boundless credit", [open(1), head(CREDIT, 1, u32::MAX)].concat(), "too much credit"),
        (
            "a stream behind the last",
            [head(LEAVE, 0, 0), open(1)].concat(),
            "a stream that was opened after the last one",
        ),
    ];
    for (index, (what, bytes, why)) in wrong.into_iter().enumerate() {
        let mut wire = MuxWire::connect(&hostile(&world), house.inbound.inbound(WAREHOUSE)).await;
        wire.send(bytes).await;
        wire.is_cut().await;
        let record = eventually(what, || violations(&house).into_iter().nth(index)).await;
        assert_eq!((&record["kind"], &record["error"]), (&"connection".into(), &why.into()), "{what}: {record:#}");
        assert_eq!(record["principal"], world.id("hostile"), "{what}: {record:#}");
        assert!(record["peer_address"].is_string() && record["outcome"] == "refused", "{what}: {record:#}");
        assert_eq!(bystander.query("SELECT 7").await.value(), "7", "{what}");
    }
    assert_eq!(violations(&house).len(), 15, "one record each");
    // Another connection of the same workload goes on too.
    beside.send(data(1, query("SELECT 'beside'"))).await;
    assert!(holds(&beside.said(1).await, "beside"));
    house.server.sessions_are("of those who are there", |all| all.len() == 2).await;
    let begun = crate::postgres_sharing::beginnings(&house.inbound);
    assert_eq!(begun.len(), 2, "{begun:#?}");
    drop(beside);
    house.stop_with([bystander]).await;
}

#[tokio::test]
async fn a_violation_ends_the_sessions_of_its_connection_and_no_others() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut bystander = house.session().await;
    let mut wire = MuxWire::connect(&hostile(&world), house.inbound.inbound(WAREHOUSE)).await;
    wire.login(1).await;
    wire.login(2).await;
    wire.send(data(1, query("BEGIN; DELETE FROM sales.secrets"))).await;
    assert!(kinds(&wire.said(1).await).ends_with('Z'));
    house.server.sessions_are("three", |all| all.len() == 3).await;
    wire.send(head(OPEN, 9, 0)).await;
    wire.is_cut().await;
    house.server.sessions_are("the bystander's", |all| all.len() == 1).await;
    assert_eq!(house.server.value("SELECT count(*) FROM sales.secrets").await, "1");
    assert_eq!(bystander.query("SELECT 7").await.value(), "7");
    house.stop_with([bystander]).await;
}

#[tokio::test]
async fn streams_that_are_opened_and_reset_in_a_hurry_cost_nobody_else_anything() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut bystander = house.session().await;
    let before = house.inbound.resident_bytes();
    let mut wire = MuxWire::connect(&hostile(&world), house.inbound.inbound(WAREHOUSE)).await;
    let mut next = 1;
    // Streams on which nothing is asked, and some on which a session is: who resets it does not wait for its beginning.
    for (round, (count, asks)) in [(10_000, false), (10_000, false), (500, true)].into_iter().enumerate() {
        let begin = |stream| if asks { session(stream, DATABASE) } else { head(OPEN, stream, 0) };
        wire.send((next..next + count).flat_map(|id| [begin(id), head(RESET, id, 0)].concat()).collect::<Vec<u8>>())
            .await;
        next += count;
        assert_eq!(bystander.query(&format!("SELECT {round}")).await.value(), round.to_string());
    }
    house.server.sessions_are("the bystander's", |all| all.len() == 1).await;
    let grown = house.inbound.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * 1024 * 1024, "{grown} bytes more");
    // That is allowed: the connection is as good as before, once the server has given up what was reset.
    while !wire.try_login(next).await {
        next += 1;
    }
    house.server.sessions_are("two", |all| all.len() == 2).await;
    assert!(violations(&house).is_empty());
    wire.send(data(next, query("SELECT 'still here'"))).await;
    assert!(holds(&wire.said(next).await, "still here"));
    drop(wire);
    house.stop_with([bystander]).await;
}

#[tokio::test]
async fn no_more_is_sent_than_there_is_credit_for() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = MuxWire::connect(&hostile(&world), house.inbound.inbound(WAREHOUSE)).await;
    wire.login(1).await;
    wire.login(2).await;
    wire.send(data(1, query("SELECT repeat('x', 1000) FROM generate_series(1, 10000)"))).await;
    // Credit for all that the login said was given back: what is left is the first 64 KiB, of which a sliver may be kept.
    let mut came = 0;
    for round in 0..5 {
        wire.send(data(2, query(&format!("SELECT 'meanwhile {round}', pg_sleep(0.1)")))).await;
        let mut meanwhile = Vec::new();
        while !kinds(&meanwhile).ends_with('Z') {
            match wire.frame(false).await.expect("the connection goes on") {
                (DATA, 1, number) => came += number,
                (DATA, 2, number) => {
                    wire.send(head(CREDIT, 2, number)).await;
                    meanwhile.extend(wire.take(2));
                }
                _ => continue,
            }
        }
        assert!(holds(&meanwhile, "meanwhile"));
    }
    assert!((32_768..=65_536).contains(&came), "{came}");
    wire.send(head(CREDIT, 1, came)).await;
    assert!(kinds(&wire.said(1).await).ends_with("CZ"));
    drop(wire);
    house.stop().await;
}

#[tokio::test]
async fn who_is_not_trusted_shares_nothing() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let address = house.inbound.inbound(WAREHOUSE);
    let stranger = Ca::new("pipeline.example").issue("/ns/test/sa/app");
    for (client, alert, rule) in [
        (TlsClient::with(&stranger), Alert::UnknownCA, "chain"),
        (TlsClient::anonymous(), Alert::CertificateRequired, "no-certificate"),
    ] {
        assert_eq!(client.alpn(&[MUX]).refused_by(address).await, alert, "{rule}");
        let refused = |record: &Value| record["kind"] == "handshake" && record["reason"] == rule;
        house.inbound.records.find(rule, refused).await;
    }
    let mut twin = MuxWire::connect(&hostile(&world), address).await;
    twin.login(1).await;
    house.server.sessions_are("the twin's", |all| all.len() == 1).await;
    drop(twin);
    house.stop().await;
}

#[tokio::test]
async fn a_session_that_is_denied_leaves_the_others_of_its_connection_alone() {
    let world = World::new();
    let denied = "@id(\"not-this-one\") forbid (principal, action == Action::\"sql:Connect\", resource == Database::\"wh/postgres\");";
    let house = world.warehouse(&format!("{ALLOW_ALL}{denied}"), "").await;
    let mut wire = MuxWire::connect(&hostile(&world), house.inbound.inbound(WAREHOUSE)).await;
    wire.login(1).await;
    wire.send([session(2, "postgres"), head(OPEN, 3, 0), data(3, b"GET / HTTP/1.1\r\n\r\n")].concat()).await;
    let said = wire.said(2).await;
    assert!(kinds(&said) == "E" && holds(&said, "28000"), "{}", said.escape_ascii());
    let said = wire.said(3).await;
    assert!(!kinds(&said).contains('Z'), "{}", said.escape_ascii());
    let record = house.inbound.records.with_outcome("forbidden").await;
    assert_eq!((&record["principal"], &record["kind"]), (&world.id("hostile").into(), &"request".into()), "{record:#}");
    wire.send(data(1, query("SELECT 'still here'"))).await;
    assert!(holds(&wire.said(1).await, "still here"));
    wire.login(4).await;
    assert!(violations(&house).is_empty());
    drop(wire);
    house.stop().await;
}
