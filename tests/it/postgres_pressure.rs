//! Clients that do not read, do not write, come in crowds or go in the middle; drains while data flows.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::support::pg_wire::*;
use crate::support::*;

const MIB: u64 = 1024 * 1024;

/// Who does not read holds up nobody but itself, and no memory.
#[tokio::test]
async fn what_a_client_does_not_read_is_not_kept_for_it() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut bystander = house.session().await;
    let before = (house.inbound.resident_bytes(), house.outbound.resident_bytes());
    let notices = "DO $$ BEGIN FOR i IN 1..200000 LOOP RAISE NOTICE '%', repeat('n', 1000); END LOOP; END $$";
    let mut deaf = Vec::new();
    for text in [
        "SELECT repeat('x', 1000) FROM generate_series(1, 100000)",
        "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT",
        "SELECT repeat('x', 50000000) FROM generate_series(1, 2)",
        notices,
    ] {
        let mut wire = house.session().await;
        wire.send(query(text)).await;
        deaf.push(wire);
    }
    house.server.runs("RAISE NOTICE").await;
    house
        .server
        .sessions_are("waiting for their clients", |all| {
            all.iter().filter(|one| one.contains(": active: ")).count() == 4
        })
        .await;
    for _ in 0..20 {
        assert_eq!(bystander.query("SELECT repeat('y', 100000)").await.value().len(), 100_000);
    }
    // Of some 500 MB that wait; allocators keep what they were given back for a while.
    let grown = house.inbound.resident_bytes().saturating_sub(before.0);
    assert!(grown < 96 * MIB, "{grown} bytes more at the inbound side");
    let grown = house.outbound.resident_bytes().saturating_sub(before.1);
    assert!(grown < 96 * MIB, "{grown} bytes more at the outbound side");
    // The one that reads in the end gets every notice.
    let mut loud = deaf.pop().expect("is the last");
    let mut count = 0;
    while let Some(frame) = loud.read().await {
        count += usize::from(frame.tag == b'N');
        if frame.tag == b'Z' {
            break;
        }
    }
    assert_eq!(count, 200_000);
    drop(deaf);
    house.server.sessions_are("of those who are there", |all| all.len() == 2).await;
    house.stop_with([bystander, loud]).await;
}

/// A long error is not a way to the sidecar's memory.
#[tokio::test]
async fn the_servers_longest_error_is_not_kept_whole() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    wire.query("SELECT 1").await.ok();
    let before = house.inbound.resident_bytes();
    wire.send(query("SELECT repeat('x', 60000000)::int")).await;
    let told = wire.reply().await;
    assert_eq!((told.error().sqlstate(), told.status), ("22P02", 'I'), "{} frames", told.frames.len());
    let grown = house.inbound.resident_bytes().saturating_sub(before);
    assert!(grown < 16 * MIB, "{grown} bytes more after an error of 60 MB");
    assert!(told.error().message().len() > 1_000_000, "as much as is worth reading");
    assert_eq!(wire.query("SELECT 1").await.value(), "1");
    house.stop_with([wire]).await;
}

/// Cancels that come while a statement ends strike it or nothing.
#[tokio::test]
async fn cancels_in_a_crowd_strike_the_statement_that_ran_and_not_the_next() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    let mut wire = house.session().await;
    let (key, address) = (wire.key.clone().expect("has a key"), house.address());
    for round in 0..15 {
        wire.send(query(if round % 2 == 0 {
            "SELECT pg_sleep(30)"
        } else {
            "SET search_path = public; SELECT pg_sleep(30)"
        }))
        .await;
        house.server.runs("pg_sleep").await;
        let crowd: Vec<_> = (0..6)
            .map(|_| {
                let key = key.clone();
                tokio::spawn(async move { PgWire::plain(address).await.cancel(&key).await })
            })
            .collect();
        assert_eq!(wire.reply().await.error().sqlstate(), "57014", "{round}");
        // All of these come after the answer, while the crowd may still be under way.
        wire.send([query("SET search_path = public"), query("SELECT count(*) FROM people")].concat()).await;
        wire.send([parse("", "SELECT 'next' FROM pg_sleep(0.01)"), bind("", "", &[]), execute("", 0), sync()].concat())
            .await;
        let struck = |reply: &PgReply| reply.errors.iter().any(|error| error.sqlstate() == "57014");
        let replies = [wire.reply().await, wire.reply().await, wire.reply().await];
        // A cancel that the client sent before it had this answer may strike what runs when it arrives, as without a proxy; never its own
        // questions, which would end the session.
        assert!(replies.iter().all(|reply| reply.errors.is_empty() || struck(reply)), "{round}: {replies:#?}");
        for one in crowd {
            within("the end of a cancel", one).await.expect("does not panic");
        }
        assert_eq!(wire.query("SELECT count(*) FROM people").await.value(), "3", "{round}: all cancels are done");
    }
    house.stop_with([wire]).await;
}

#[tokio::test]
async fn a_drain_lets_a_copy_finish_and_cuts_one_that_does_not() {
    for finishes in [true, false] {
        let world = World::new();
        let server = PgServer::start().await;
        let upstream = server.url();
        let yaml = format!("shutdown_timeout: {}\n", if finishes { "20s" } else { "2s" });
        let inbound = world.sidecar("service").policies(ALLOW_ALL).yaml(&yaml);
        let inbound = inbound.inbound(WAREHOUSE, "postgres", &upstream, AS_ADMIN).start().await;
        let outbound = world.outbound_to(&inbound, "app", "").await;
        let address = outbound.outbound(WAREHOUSE);
        let (mut copies_in, mut copies_out) =
            (PgWire::session(address, "admin_role").await, PgWire::session(address, "admin_role").await);
        copies_in.send([query("COPY parent (id, note) FROM STDIN"), copy_data("500\tx\n")].concat()).await;
        assert_eq!(copies_in.read().await.map(|frame| frame.tag), Some(b'G'));
        // More than the sockets on the way can hold, where it is not to finish.
        let rows = if finishes { 20_000 } else { 200_000 };
        let text = format!("COPY (SELECT repeat('x', 1000) FROM generate_series(1, {rows})) TO STDOUT");
        copies_out.send(query(&text)).await;
        assert_eq!(copies_out.read().await.map(|frame| frame.tag), Some(b'H'));
        inbound.process.signal("TERM");
        inbound.logged("draining").await;
        if finishes {
            copies_in.send([copy_data("501\ty\n"), copy_done()].concat()).await;
            let told = copies_in.rest().await;
            assert_eq!((told.tags.len(), told.errors.first().map(PgError::sqlstate)), (1, Some("57P01")), "{told:#?}");
            let told = copies_out.rest().await;
            assert_eq!((told.copied.len(), told.tags.len()), (20_000 * 1001, 1), "all of it");
            assert_eq!(told.errors.first().map(PgError::sqlstate), Some("57P01"));
        } else {
            let told = copies_in.rest().await;
            assert_eq!((told.tags.len(), told.errors[0].sqlstate()), (0, "57P01"), "{told:#?}");
            copies_out.end().await;
        }
        let records = inbound.stopped().await.all();
        outbound.stop().await;
        server.sessions_end().await;
        let wanted = if finishes { "2" } else { "0" };
        assert_eq!(server.value("SELECT count(*) FROM parent WHERE id >= 500").await, wanted);
        let copies: Vec<_> = records
            .iter()
            .filter(|record| {
                record["kind"] == "request"
                    && record["sql"]["text"].as_str().is_some_and(|text| text.starts_with("COPY"))
            })
            .collect();
        assert_eq!(copies.len(), 2, "{copies:#?}");
        for record in copies {
            assert_eq!(record["sql"]["command"].is_string(), finishes, "{record:#}");
        }
    }
}

/// Each holds a connection and says too little: TCP alone, the request for TLS, half of a handshake, half of a startup packet within TLS.
#[tokio::test]
async fn who_is_slow_to_begin_is_cut_off_and_holds_up_nobody() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "authentication_timeout: 700ms\n").await;
    let began = Instant::now();
    let inbound = house.inbound.inbound(WAREHOUSE);
    let mut slow = Vec::new();
    for bytes in
        [vec![], vec![0, 0], packet(SSL_REQUEST, b""), [packet(SSL_REQUEST, b""), vec![0x16, 3, 1, 2, 0, 1]].concat()]
    {
        let mut wire = PgWire::plain(inbound).await;
        wire.try_send(&bytes).await;
        slow.push(wire);
    }
    let client = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
    let mut within_tls = house.direct(&client).await;
    let whole = startup(PROTOCOL_3, &[("user", "admin_role"), ("database", DATABASE)]);
    within_tls.try_send(&whole[..whole.len() / 2]).await;
    let mut working = house.session().await;
    assert_eq!(working.query("SELECT 1").await.value(), "1");
    // A byte now and then does not make it longer.
    let mut rest = whole[whole.len() / 2..].iter();
    while began.elapsed() < Duration::from_millis(1_500) {
        let _gone =
            tokio::time::timeout(Duration::from_millis(100), within_tls.try_send([*rest.next().unwrap_or(&b'x')]))
                .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if rest.len() < 8 {
            break;
        }
    }
    let told = within_tls.rest().await;
    assert!(!told.kinds().contains('R'), "{told:#?}");
    for mut wire in slow {
        wire.end().await;
    }
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    house.server.sessions_are("the one that works", |all| all.len() == 1).await;
    house.stop_with([working]).await;
}

#[tokio::test]
async fn a_crowd_gets_as_many_sessions_as_there_are_and_the_rest_is_told() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "limits:\n  connections_per_workload: 5\n").await;
    for round in 0..2 {
        let crowd: Vec<_> = (0..40).map(|_| tokio::spawn(PgWire::try_session(house.address(), "admin_role"))).collect();
        let (mut there, mut refused) = (Vec::new(), 0);
        for one in crowd {
            match within("a session or a refusal", one).await.expect("does not panic") {
                Ok(session) => there.push(session),
                Err(error) => {
                    assert_eq!((error.severity(), error.sqlstate()), ("FATAL", "53300"), "{round}: {error:?}");
                    refused += 1;
                }
            }
        }
        assert_eq!((there.len(), refused), (5, 35), "{round}");
        assert_eq!(house.server.sessions().await.len(), 5, "{round}");
        for mut session in there {
            assert_eq!(session.query("SELECT 1").await.value(), "1");
            session.terminate().await;
        }
        house.server.sessions_end().await;
        // A place is free when the sidecar has seen the end of the session that had it.
        let mut next = PgWire::try_session(house.address(), "admin_role").await;
        while next.is_err() {
            next = PgWire::try_session(house.address(), "admin_role").await;
        }
        next.expect("a place is free").terminate().await;
        house.server.sessions_end().await;
    }
    house.stop().await;
}

/// Who closes its half has said goodbye: no session stays, whatever it had asked.
#[tokio::test]
async fn a_client_that_closes_its_half_leaves_no_session() {
    let world = World::new();
    let house = world.warehouse(ALLOW_ALL, "").await;
    for text in [
        "",
        "SELECT 1",
        "SELECT pg_sleep(60)",
        "BEGIN; DELETE FROM sales.secrets; SELECT pg_sleep(60)",
        "COPY parent FROM STDIN",
    ] {
        let stream = tokio::net::TcpStream::connect(house.address()).await.expect("somebody listens");
        let (read, mut write) = stream.into_split();
        let mut wire = PgWire::over(tokio::io::join(read, tokio::io::sink()));
        let login = startup(PROTOCOL_3, &[("user", "admin_role"), ("database", DATABASE)]);
        write.write_all(&login).await.expect("is taken");
        assert_eq!(wire.reply().await.status, 'I');
        if !text.is_empty() {
            write.write_all(&query(text)).await.expect("is taken");
        }
        if text.contains("pg_sleep") {
            house.server.runs("pg_sleep").await;
        }
        write.shutdown().await.expect("is open");
        wire.end().await;
        house.server.sessions_end().await;
    }
    assert_eq!(house.server.value("SELECT count(*) FROM sales.secrets").await, "1");
    house.stop().await;
}
