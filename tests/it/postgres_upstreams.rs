//! Several upstreams: the first that takes a session has it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::pg_wire::frame;
use crate::support::*;

const PASSED_THROUGH: &str = "role: passthrough\ncatalog:\n  user: catalog_role\n";

/// A server that gives each startup packet this answer, and closes when one more message has come or the client has closed.
async fn answers(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let Ok(length) = stream.read_u32().await else { return };
                let mut packet = vec![0; length as usize - 4];
                let _ = stream.read_exact(&mut packet).await;
                let _ = stream.write_all(&answer).await;
                let _ = stream.read(&mut [0; 1024]).await;
            });
        }
    });
    address
}

fn fatal(sqlstate: &str) -> Vec<u8> {
    frame(b'E', format!("SFATAL\0VFATAL\0C{sqlstate}\0Mnot now\0\0"))
}

async fn role(house: &Warehouse) -> Result<String, PgError> {
    let mut wire = PgWire::try_session(house.address(), "app_role").await?;
    let role = wire.query("SELECT current_user").await.value().to_owned();
    assert_eq!(wire.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
    wire.terminate().await;
    Ok(role)
}

#[tokio::test]
async fn upstreams_are_tried_in_order() {
    let world = World::new();
    let server = PgServer::start().await;
    let nobody =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|bound| bound.local_addr()).expect("a port is free");
    let upstream = format!("[\"{nobody}\", \"{}\"]", server.url());
    let house = world.warehouse_before(server, &upstream, ALLOW_ALL, AS_ADMIN).await;
    assert_eq!(role(&house).await.expect("the second is there"), "admin_role");
    house.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_no_sessions_now_is_passed_over_for_the_next() {
    let world = World::new();
    let mut server = PgServer::start().await;
    for (yaml, expected) in [(AS_ADMIN, "admin_role"), (PASSED_THROUGH, "app_role")] {
        let (starting, full) = (answers(fatal("57P03")).await, answers(fatal("53300")).await);
        let upstream = format!("[\"{starting}\", \"{full}\", \"{}\"]", server.url());
        let house = world.warehouse_before(server, &upstream, ALLOW_ALL, yaml).await;
        assert_eq!(role(&house).await.expect("the third takes it"), expected);
        server = house.stop().await;
    }
    // The last one's word is what the client is told.
    let upstream = format!("[\"{}\", \"{}\"]", answers(fatal("53300")).await, answers(fatal("57P03")).await);
    let house = world.warehouse_before(server, &upstream, ALLOW_ALL, AS_ADMIN).await;
    let refused = role(&house).await.expect_err("none takes it");
    assert_eq!((refused.severity(), refused.sqlstate()), ("FATAL", "57P03"), "{refused:?}");
    house.stop().await;
}

#[tokio::test]
async fn a_server_that_says_no_or_has_asked_the_client_for_something_is_not_passed_over() {
    let world = World::new();
    let mut server = PgServer::start().await;
    // AuthenticationCleartextPassword, which goes to the client.
    let asks = frame(b'R', [0, 0, 0, 3]);
    for (first, yaml, expected) in [
        (fatal("3D000"), AS_ADMIN, "3D000"),
        (fatal("28P01"), PASSED_THROUGH, "28P01"),
        ([asks, fatal("57P03")].concat(), PASSED_THROUGH, "57P03"),
    ] {
        let upstream = format!("[\"{}\", \"{}\"]", answers(first).await, server.url());
        let house = world.warehouse_before(server, &upstream, ALLOW_ALL, yaml).await;
        let mut wire = PgWire::plain(house.address()).await;
        wire.send(pg_wire::startup(pg_wire::PROTOCOL_3, &[("user", "app_role"), ("database", DATABASE)])).await;
        let reply = wire.reply_to(|frame| frame.tag == b'R' || frame.tag == b'E').await;
        let reply = match reply.errors.is_empty() {
            true => {
                wire.send(frame(b'p', b"secret\0")).await;
                wire.rest().await
            }
            false => reply,
        };
        assert_eq!(reply.error().sqlstate(), expected, "{reply:#?}");
        drop(wire);
        server = house.stop().await;
    }
}

#[tokio::test]
async fn a_sidecar_whose_server_takes_no_sessions_now_is_passed_over_by_the_outbound_one() {
    let world = World::new();
    let server = PgServer::start().await;
    let inbound = world.sidecar("service").policies(ALLOW_ALL);
    let inbound = inbound.inbound("starting", "postgres", &answers(fatal("57P03")).await.to_string(), AS_ADMIN);
    let inbound = inbound.inbound("closed", "postgres", &answers(fatal("3D000")).await.to_string(), AS_ADMIN);
    let inbound = inbound.inbound(WAREHOUSE, "postgres", &server.url(), AS_ADMIN).start().await;
    let to = |names: [&str; 2]| {
        let addresses = names.map(|name| format!("\"{}\"", inbound.inbound(name)));
        format!("[{}]", addresses.join(", "))
    };
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let app = app.outbound(WAREHOUSE, "postgres", &to(["starting", WAREHOUSE]), &world.id("service"), "");
    let app = app.outbound("first-says-no", "postgres", &to(["closed", WAREHOUSE]), &world.id("service"), "");
    let app = app.start().await;
    let mut wire = PgWire::session(app.outbound(WAREHOUSE), "whoever").await;
    assert_eq!(wire.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
    wire.terminate().await;
    let refused = PgWire::try_session(app.outbound("first-says-no"), "whoever").await;
    assert_eq!(refused.err().map(|error| error.sqlstate().to_owned()).as_deref(), Some("3D000"));
    app.stop().await;
    inbound.stop().await;
    server.sessions_end().await;
}
