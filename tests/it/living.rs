//! Connections end with the right they were opened by: a certificate's time, the bundles in force, the policies. Beside each one that is cut
//! stands one that stays.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::pg_wire::query;
use crate::support::*;
use crate::tcp::{Server, is_reset, ping};

const EAGER: &str = "reload_interval: 100ms";
const LOGIN: [(&str, &str); 2] = [("user", "admin_role"), ("database", DATABASE)];

/// A sidecar that trusts two authorities of its trust domain: the world's, which stays, and one that is withdrawn.
struct House {
    world: World,
    leaving: Ca,
}

impl House {
    fn new() -> Self {
        Self { world: World::new(), leaving: Ca::new("pipeline.example") }
    }

    fn sidecar(&self, name: &str) -> SidecarPlan {
        let both = format!("{}{}", self.world.ca.bundle(), self.leaving.bundle());
        self.world.sidecar(name).policies(ALLOW_ALL).trust("pipeline.example", &both).yaml(EAGER)
    }

    /// A peer whose authority is withdrawn, and one whose authority stays.
    fn peers(&self, alpn: &[&str]) -> (TlsClient, TlsClient) {
        let of = |ca: &Ca, name: &str| TlsClient::with(&ca.issue(&format!("/ns/test/sa/{name}"))).alpn(alpn);
        (of(&self.leaving, "leaver"), of(&self.world.ca, "stayer"))
    }

    fn withdraw(&self, at: &Sidecar) {
        at.replace("pipeline.example.pem", &self.world.ca.bundle());
    }
}

/// The record that a connection had to end.
async fn connection_ended(sidecar: &Sidecar, reason: &str) -> Value {
    let ended = |record: &Value| record["kind"] == "connection" && record["reason"] == reason;
    sidecar.records.find("the connection that had to end", ended).await
}

fn in_seconds(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + time::Duration::seconds(seconds)
}

async fn http2_peer(client: &TlsClient, service: &Sidecar) -> Client {
    http2(client.clone().alpn(&["h2"]).connect(service.inbound("endpoint")).await.expect("is trusted")).await
}

// ------------------------------------------------------------------------------------------------------------- trust, inbound

#[tokio::test]
async fn an_http2_peer_that_is_not_trusted_any_more_gets_goaway_finishes_and_takes_no_more() {
    let (house, upstream) = (House::new(), Recorder::behaving(Behaviour::Echo, None));
    let service = house.sidecar("service").yaml("limits: {grace: 30s}");
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let (leaver, stayer) = house.peers(&["h2"]);
    let mut staying = http2_peer(&stayer, &service).await;
    let mut stays = OpenExchange::on(&mut staying, "/stays").await;
    let stream = leaver.connect(service.inbound("endpoint")).await.expect("is trusted yet");
    let mut leaving = FrameConnection::open(stream).await;
    let head = [(":method", "POST"), (":scheme", "https"), (":authority", "a.example"), (":path", "/leaves")];
    assert!(leaving.send(&Frame::open_head(1, &head)).await && leaving.send(&Frame::data(1, b"one", false)).await);
    assert_eq!(leaving.next_of(FrameKind::Data).await.expect("an echo").payload, b"one");

    house.withdraw(&service);
    let told = leaving.next_of(FrameKind::GoAway).await.expect("is told to go");
    assert_eq!(told.error_code(), 0);
    // What is open goes on; what comes now is not served.
    assert!(leaving.send(&Frame::open_head(3, &head)).await && leaving.send(&Frame::data(3, b"late", true)).await);
    assert!(leaving.send(&Frame::data(1, b"two", false)).await && leaving.send(&Frame::data(1, b"end", true)).await);
    let mut answered = Vec::new();
    while let Some(frame) = leaving.next().await {
        match (frame.kind, frame.stream) {
            (FrameKind::Ping, _) if frame.flags & flags::ACK == 0 => {
                leaving.send(&Frame::new(FrameKind::Ping, flags::ACK, 0, frame.payload)).await;
            }
            (FrameKind::Data, 1) => answered.extend(frame.payload),
            _ => {}
        }
    }
    assert_eq!(answered, b"twoend", "the open stream was cut");
    let record = connection_ended(&service, "chain").await;
    assert_eq!(record["principal"], "spiffe://pipeline.example/ns/test/sa/leaver");
    let asked = upstream.seen();
    assert_eq!(asked.len(), 2, "the late stream reached the upstream: {asked:#?}");

    stays.lives().await;
    stays.finish().await;
    service.stop().await;
}

#[tokio::test]
async fn what_is_not_finished_within_the_grace_is_cut_and_its_record_says_why() {
    let (house, upstream) = (House::new(), Recorder::behaving(Behaviour::Echo, None));
    let service = house.sidecar("service").yaml("limits: {grace: 300ms}");
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let (leaver, stayer) = house.peers(&[]);
    let mut clients = Vec::new();
    let mut open = Vec::new();
    for (peer, path) in [(&leaver, "/leaves"), (&stayer, "/stays")] {
        let one = http1(peer.connect(service.inbound("endpoint")).await.expect("is trusted")).await;
        for (version, mut client) in [("1", one), ("2", http2_peer(peer, &service).await)] {
            open.push((path, OpenExchange::on(&mut client, &format!("{path}/{version}")).await));
            clients.push(client);
        }
    }
    house.withdraw(&service);
    for (path, exchange) in &mut open {
        match *path {
            "/leaves" => exchange.is_cut().await,
            _ => exchange.lives().await,
        }
    }
    let cut = |path: &'static str| {
        move |record: &Value| record["kind"] == "request" && record["resource"].to_string().contains(path)
    };
    for path in ["/leaves/1", "/leaves/2"] {
        let record = service.records.find(path, cut(path)).await;
        assert_eq!((&record["reason"], &record["outcome"]), (&"chain".into(), &"allowed".into()), "{record:#}");
    }
    let ended =
        || service.records.all().into_iter().filter(|record| record["kind"] == "connection").collect::<Vec<_>>();
    eventually("both connections to have their records", || (ended().len() == 2).then_some(())).await;
    assert!(ended().iter().all(|record| record["reason"] == "chain"), "{:#?}", ended());
    for (path, exchange) in open {
        if path == "/stays" {
            exchange.finish().await;
        }
    }
    service.stop().await;
}

#[tokio::test]
async fn an_http1_answer_in_flight_says_that_the_connection_closes() {
    let (house, upstream) = (House::new(), Recorder::start());
    let service = house.sidecar("service").inbound("endpoint", "http", &upstream.url(), "").start().await;
    let (leaver, stayer) = house.peers(&[]);
    let mut open = Vec::new();
    for peer in [&leaver, &stayer] {
        let mut raw = Raw::over(peer.connect(service.inbound("endpoint")).await.expect("is trusted"));
        raw.write("POST /open HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\n1").await;
        open.push(raw);
    }
    upstream.when("both requests to be open", |seen| seen.iter().filter(|one| one.body == b"1").count() == 2).await;
    house.withdraw(&service);
    let (mut refused, deadline) =
        (leaver.connect(service.inbound("endpoint")).await.is_err(), Instant::now() + DEADLINE);
    while !refused {
        assert!(Instant::now() < deadline, "the withdrawn authority is still trusted");
        refused = match leaver.connect(service.inbound("endpoint")).await {
            Err(_) => true,
            Ok(mut stream) => {
                tokio::time::timeout(Duration::from_millis(100), stream.read_u8()).await.is_ok_and(|read| read.is_err())
            }
        };
    }
    for (raw, closes) in open.iter_mut().zip([true, false]) {
        raw.write("2").await;
        let answer = raw.answer().await.expect("is in flight, so it is answered");
        assert_eq!((answer.status(), answer.closes()), (200, closes), "{}", answer.head);
    }
    let [leaving, staying] = open.as_mut_slice() else { panic!("there are two") };
    assert!(leaving.is_closed().await);
    staying.write("GET /next HTTP/1.1\r\nhost: a.example\r\n\r\n").await;
    assert_eq!(staying.answer().await.map(|answer| answer.status()), Some(200));
    connection_ended(&service, "chain").await;
    service.stop().await;
}

#[tokio::test]
async fn a_postgres_session_whose_peer_is_not_trusted_any_more_ends_with_57p01() {
    let (house, server) = (House::new(), PgServer::start().await);
    let service = house.sidecar("service").inbound(WAREHOUSE, "postgres", &server.url(), AS_ADMIN).start().await;
    let (leaver, stayer) = house.peers(&["postgresql"]);
    let mut sessions = Vec::new();
    for peer in [&leaver, &leaver, &stayer] {
        let stream = peer.connect(service.inbound(WAREHOUSE)).await.expect("is trusted");
        let mut wire = PgWire::over(stream);
        wire.login(&LOGIN).await.expect("is permitted");
        sessions.push(wire);
    }
    let [idle, busy, stays] = sessions.as_mut_slice() else { panic!("there are three") };
    busy.send(query("SELECT pg_sleep(1), 'finished'")).await;
    server.runs("pg_sleep").await;
    house.withdraw(&service);
    let told = idle.rest().await;
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P01"), "{told:#?}");
    assert!(told.error().message().contains("certificate"), "{told:#?}");
    busy.try_send(query("SELECT 'too late'")).await;
    let answer = busy.reply().await;
    assert_eq!(answer.rows.len(), 1, "the statement in flight was cut: {answer:#?}");
    let rest = busy.rest().await;
    assert_eq!((rest.error().sqlstate(), rest.rows.len()), ("57P01", 0), "{rest:#?}");
    assert_eq!(stays.query("SELECT 7").await.value(), "7");
    connection_ended(&service, "chain").await;
    for session in sessions.drain(2..) {
        session.terminate().await;
    }
    service.stop().await;
    server.sessions_end().await;
}

// ------------------------------------------------------------------------------------------------------------ trust, outbound

/// Two services, of which one's certificate is of the authority that is withdrawn at the app's sidecar.
async fn services(house: &House, protocol: &str, upstream: &str, options: &str) -> (Sidecar, Sidecar) {
    let leaving = house.sidecar("leaving").svid(house.leaving.issue("/ns/test/sa/leaving"));
    let leaving = leaving.inbound("endpoint", protocol, upstream, options).start().await;
    let staying = house.sidecar("staying").inbound("endpoint", protocol, upstream, options).start().await;
    (leaving, staying)
}

fn app_of(house: &House, protocol: &str, services: &(Sidecar, Sidecar)) -> SidecarPlan {
    let mut app = house.sidecar("app");
    for (name, service) in [("leaving", &services.0), ("staying", &services.1)] {
        let to = service.inbound("endpoint").to_string();
        app = app.outbound(name, protocol, &to, &house.world.id(name), "");
    }
    app
}

#[tokio::test]
async fn pooled_connections_to_an_upstream_that_is_not_trusted_any_more_are_closed() {
    let (house, upstream) = (House::new(), Recorder::behaving(Behaviour::Echo, None));
    let services = services(&house, "http", &upstream.url(), "").await;
    let app = app_of(&house, "http", &services).yaml("limits: {grace: 500ms}").start().await;
    let (mut one, mut two) =
        (Client::plain(app.outbound("leaving")).await, Client::plain(app.outbound("staying")).await);
    let mut cut = OpenExchange::on(&mut one, "/leaves").await;
    let mut stays = OpenExchange::on(&mut two, "/stays").await;

    house.withdraw(&app);
    cut.is_cut().await;
    let record = connection_ended(&app, "chain").await;
    assert_eq!(
        (&record["direction"], &record["peer_san"], &record["listener"]),
        (&"outbound".into(), &"spiffe://pipeline.example/ns/test/sa/leaving".into(), &"leaving".into()),
        "{record:#}"
    );
    no_connection_is_open(&services.0).await;
    let refused = get(app.outbound("leaving"), "/next").await;
    assert_eq!((refused.status, refused.header("x-portcullis-error")), (StatusCode::BAD_GATEWAY, "upstream-handshake"));

    stays.lives().await;
    assert_eq!(get(app.outbound("staying"), "/next").await.status, StatusCode::OK);
    stays.finish().await;
    app.stop().await;
    services.0.stop().await;
    services.1.stop().await;
}

#[tokio::test]
async fn idle_connections_to_an_upstream_that_is_not_trusted_any_more_are_closed_at_once() {
    let (house, upstream) = (House::new(), Recorder::start());
    // By HTTP/1.1 too, where connections wait unused.
    let one = |svid: &Svid| {
        Recorder::behaving(
            Behaviour::Answer(std::sync::Arc::new(|_| Reply::text("ok"))),
            Some(server_config(svid, &["http/1.1"])),
        )
    };
    let (leaving, staying) = (house.leaving.issue("/ns/test/sa/old"), house.world.ca.issue("/ns/test/sa/new"));
    let old_and_new = (one(&leaving), one(&staying));
    let services = services(&house, "http", &upstream.url(), "").await;
    let mut app = app_of(&house, "http", &services);
    for (name, to) in [("old", &old_and_new.0), ("new", &old_and_new.1)] {
        app = app.outbound(name, "http", &to.address.to_string(), &house.world.id(name), "");
    }
    let app = app.start().await;
    for name in ["leaving", "staying", "old", "new"] {
        assert_eq!(get(app.outbound(name), "/").await.status, StatusCode::OK, "{name}");
    }
    house.withdraw(&app);
    no_connection_is_open(&services.0).await;
    for peer in ["leaving", "old"] {
        let id = house.world.id(peer);
        let ended = |record: &Value| record["kind"] == "connection" && record["peer_san"] == id.as_str();
        assert_eq!(app.records.find(peer, ended).await["reason"], "chain");
    }
    for (name, status) in [("leaving", 502), ("staying", 200), ("old", 502), ("new", 200)] {
        assert_eq!(get(app.outbound(name), "/").await.status.as_u16(), status, "{name}");
    }
    assert_eq!(old_and_new.1.connections(), 1, "the trusted one was not closed");
    app.stop().await;
    services.0.stop().await;
    services.1.stop().await;
}

/// Waits until no peer is connected to a sidecar.
async fn no_connection_is_open(sidecar: &Sidecar) {
    sidecar.metric_with("portcullis_connections", &["direction=\"inbound\""], |open| open == 0.0).await;
}

#[tokio::test]
async fn a_relay_to_an_upstream_that_is_not_trusted_any_more_is_cut() {
    let (house, server) = (House::new(), Server::echo().await);
    let services = services(&house, "tcp", &server.address, "").await;
    let app = app_of(&house, "tcp", &services).start().await;
    let mut cut = TcpStream::connect(app.outbound("leaving")).await.expect("it listens");
    let mut stays = TcpStream::connect(app.outbound("staying")).await.expect("it listens");
    ping(&mut cut).await;
    ping(&mut stays).await;
    house.withdraw(&app);
    is_reset(&mut cut).await;
    let record = app.records.find("the relay", |record| record["reason"] == "chain").await;
    assert_eq!(
        (&record["kind"], &record["listener"], &record["bytes_in"]),
        (&"request".into(), &"leaving".into(), &4.into())
    );
    assert!(record["error"].as_str().is_some_and(|error| error.starts_with("upstream: ")), "{record:#}");
    ping(&mut stays).await;
    drop(stays);
    app.stop().await;
    services.0.stop().await;
    services.1.stop().await;
}

#[tokio::test]
async fn a_session_to_an_upstream_that_is_not_trusted_any_more_ends_with_57p01() {
    let (house, server) = (House::new(), PgServer::start().await);
    let services = services(&house, "postgres", &server.url(), AS_ADMIN).await;
    let app = app_of(&house, "postgres", &services).start().await;
    let mut cut = PgWire::session(app.outbound("leaving"), "admin_role").await;
    let mut stays = PgWire::session(app.outbound("staying"), "admin_role").await;
    house.withdraw(&app);
    let told = cut.rest().await;
    assert_eq!((told.error().severity(), told.error().sqlstate()), ("FATAL", "57P01"), "{told:#?}");
    let record = app.records.find("the session", |record| record["reason"] == "chain").await;
    assert_eq!((&record["kind"], &record["listener"]), (&"request".into(), &"leaving".into()));
    assert_eq!(stays.query("SELECT 7").await.value(), "7");
    stays.terminate().await;
    app.stop().await;
    services.0.stop().await;
    services.1.stop().await;
    server.sessions_end().await;
}

// ------------------------------------------------------------------------------------------------------ a certificate's time

#[tokio::test]
async fn a_certificates_time_bounds_every_connection_unless_the_configuration_says_that_it_does_not() {
    let (house, upstream) = (House::new(), Recorder::behaving(Behaviour::Echo, None));
    let (echo, database) = (Server::echo().await, PgServer::start().await);
    let plan = |name: &str, limits: &str| {
        let service = house.sidecar(name).yaml(&format!("limits: {{grace: 200ms{limits}}}"));
        let service = service.inbound("endpoint", "http", &upstream.url(), "");
        let service = service.inbound("echo", "tcp", &echo.address, "");
        service.inbound(WAREHOUSE, "postgres", &database.url(), AS_ADMIN)
    };
    let strict = plan("strict", "").start().await;
    let lenient = plan("lenient", ", unsafe_outlive_certificate: 1h").start().await;
    let warned = lenient.logged("takes a protection away").await;
    assert!(warned.contains("limits.unsafe_outlive_certificate") && warned.contains("WARN"), "{warned}");
    assert!(!strict.log().iter().any(|line| line.contains("takes a protection away")));

    let brief =
        TlsClient::with(&house.world.ca.issue_with("/ns/test/sa/brief", |params| params.not_after = in_seconds(4)));
    let long = TlsClient::with(&house.world.ca.issue("/ns/test/sa/long"));
    let mut open = Vec::new();
    for (service, peer, is_cut) in [(&strict, &brief, true), (&strict, &long, false), (&lenient, &brief, false)] {
        let mut client = http2_peer(peer, service).await;
        let exchange = OpenExchange::on(&mut client, "/open").await;
        let mut relay = peer.connect(service.inbound("echo")).await.expect("is valid yet");
        ping(&mut relay).await;
        let stream = peer.clone().alpn(&["postgresql"]).connect(service.inbound(WAREHOUSE)).await;
        let mut session = PgWire::over(stream.expect("is valid yet"));
        session.login(&LOGIN).await.expect("is permitted");
        open.push((is_cut, client, exchange, relay, session));
    }
    for (is_cut, _client, exchange, relay, session) in &mut open {
        if *is_cut {
            exchange.is_cut().await;
            is_reset(relay).await;
            assert_eq!(session.rest().await.error().sqlstate(), "57P01");
        } else {
            exchange.lives().await;
            ping(relay).await;
            assert_eq!(session.query("SELECT 7").await.value(), "7");
        }
    }
    for listener in ["endpoint", "echo", WAREHOUSE] {
        let ended = |record: &Value| record["kind"] == "connection" && record["listener"] == listener;
        let record = strict.records.find(listener, ended).await;
        assert_eq!(
            (&record["reason"], &record["principal"]),
            (&"peer-expired".into(), &house.world.id("brief").into())
        );
    }
    // Nobody comes in anew with it, however lenient.
    brief.refused_by(lenient.inbound("echo")).await;
    drop(open);
    strict.stop().await;
    lenient.stop().await;
    database.sessions_end().await;
}

/// Within the grace what is under way is finished. A transaction that waits for its client is not under way.
#[tokio::test]
async fn an_open_transaction_does_not_outlive_the_certificate_that_it_began_with() {
    let (house, database) = (House::new(), PgServer::start().await);
    let service = house.sidecar("service").yaml("limits: {grace: 5m}");
    let service = service.inbound(WAREHOUSE, "postgres", &database.url(), AS_ADMIN).start().await;
    let brief = house.world.ca.issue_with("/ns/test/sa/brief", |params| params.not_after = in_seconds(3));
    let mut sessions = Vec::new();
    for svid in [brief, house.world.ca.issue("/ns/test/sa/long")] {
        let peer = TlsClient::with(&svid).alpn(&["postgresql"]);
        let mut session = PgWire::over(peer.connect(service.inbound(WAREHOUSE)).await.expect("is valid yet"));
        session.login(&LOGIN).await.expect("is permitted");
        session.query("BEGIN; DELETE FROM sales.secrets").await.ok();
        sessions.push(session);
    }
    let [ends, lives] = sessions.as_mut_slice() else { panic!("there are two") };
    assert_eq!(ends.rest().await.error().sqlstate(), "57P01");
    connection_ended(&service, "peer-expired").await;
    assert_eq!(lives.query("ROLLBACK").await.status, 'I');
    drop(sessions);
    service.stop().await;
    database.sessions_end().await;
}

/// It has been asked to go because of its age, and has time for that; its right to be here ends all the same.
#[tokio::test]
async fn what_has_time_to_go_is_cut_when_its_peer_is_not_trusted_any_more() {
    let (house, echo) = (House::new(), Server::echo().await);
    let database = PgServer::start().await;
    let service = house.sidecar("service").yaml("limits: {grace: 5m, connection_age: 1s}");
    let service = service.inbound("echo", "tcp", &echo.address, "");
    let service = service.inbound(WAREHOUSE, "postgres", &database.url(), AS_ADMIN).start().await;
    let (leaver, stayer) = house.peers(&[]);
    let mut cut = leaver.connect(service.inbound("echo")).await.expect("is trusted");
    let mut stays = stayer.connect(service.inbound("echo")).await.expect("is trusted");
    // Sessions are of that age two times over: both relays have been told.
    for _ in 0..2 {
        let aging = stayer.clone().alpn(&["postgresql"]).connect(service.inbound(WAREHOUSE)).await;
        let mut session = PgWire::over(aging.expect("is trusted"));
        session.login(&LOGIN).await.expect("is permitted");
        assert_eq!(session.rest().await.error().sqlstate(), "57P01");
    }
    ping(&mut cut).await;
    house.withdraw(&service);
    within("the cut", cut.read(&mut [0])).await.expect_err("cut, not ended");
    let record = connection_ended(&service, "chain").await;
    assert_eq!(record["principal"], house.world.id("leaver"), "{record:#}");
    ping(&mut stays).await;
    drop(stays);
    service.stop().await;
    database.sessions_end().await;
}

#[tokio::test]
async fn an_upstreams_certificate_bounds_the_connections_to_it() {
    let (house, echo) = (House::new(), Server::echo().await);
    let brief = house.world.ca.issue_with("/ns/test/sa/brief", |params| params.not_after = in_seconds(4));
    let web = Recorder::behaving(Behaviour::Echo, Some(server_config(&brief, &["h2"])));
    let (brief_relay, long_relay) = (tls_echo(&brief).await, tls_echo(&house.world.ca.issue("/ns/test/sa/long")).await);
    let app = house.sidecar("app").yaml("limits: {grace: 200ms}");
    let app = app.outbound("web", "http", &web.address.to_string(), &house.world.id("brief"), "");
    let app = app.outbound("brief", "tcp", &brief_relay, &house.world.id("brief"), "");
    let app = app.outbound("long", "tcp", &long_relay, &house.world.id("long"), "").start().await;
    let mut client = Client::plain(app.outbound("web")).await;
    let mut exchange = OpenExchange::on(&mut client, "/open").await;
    let mut cut = TcpStream::connect(app.outbound("brief")).await.expect("it listens");
    let mut stays = TcpStream::connect(app.outbound("long")).await.expect("it listens");
    ping(&mut cut).await;
    ping(&mut stays).await;
    exchange.is_cut().await;
    is_reset(&mut cut).await;
    let record = connection_ended(&app, "peer-expired").await;
    assert_eq!((&record["listener"], &record["peer_san"]), (&"web".into(), &house.world.id("brief").into()));
    let relay = |record: &Value| record["listener"] == "brief" && record["reason"] == "peer-expired";
    app.records.find("the relay", relay).await;
    ping(&mut stays).await;
    drop((stays, echo));
    app.stop().await;
}

#[tokio::test]
async fn the_certificate_that_we_have_shown_an_upstream_bounds_the_connection_whether_or_not_we_have_another_by_now() {
    let house = House::new();
    let brief = house.world.ca.issue_with("/ns/test/sa/app", |params| params.not_after = in_seconds(4));
    let relay = tls_echo(&house.world.ca.issue("/ns/test/sa/echo")).await;
    let app = house.sidecar("app").svid(brief);
    let app = app.outbound("relay", "tcp", &relay, &house.world.id("echo"), "").start().await;
    let connect = async || {
        let mut stream = TcpStream::connect(app.outbound("relay")).await.expect("it listens");
        ping(&mut stream).await;
        stream
    };
    let mut cut = connect().await;
    app.replace_svid(&house.world.ca.issue("/ns/test/sa/app"));
    app.status_with("the rotation", |status| status["identity"]["generation"] == 2).await;
    let mut stays = connect().await;
    is_reset(&mut cut).await;
    let ended = app.records.find("the relay", |record| record["reason"] == "own-svid-expired").await;
    assert_eq!(ended["error"].as_str().map(|error| error.contains("our own certificate")), Some(true), "{ended:#}");
    ping(&mut stays).await;
    drop(stays);
    app.stop().await;
}

#[tokio::test]
async fn a_peer_that_does_not_hear_goaway_is_served_nothing_once_its_certificate_is_over() {
    let (house, upstream) = (House::new(), Recorder::start());
    let service = house.sidecar("service").yaml("limits: {grace: 30s}");
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let end = in_seconds(4);
    let brief = house.world.ca.issue_with("/ns/test/sa/brief", |params| params.not_after = end);
    let stream = TlsClient::with(&brief).alpn(&["h2"]).connect(service.inbound("endpoint")).await;
    let mut peer = FrameConnection::open(stream.expect("is trusted yet")).await;
    let fields = |method| [(":method", method), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];
    // One that stays open, so that the connection does.
    assert!(peer.send(&Frame::open_head(1, &fields("POST"))).await);
    let (mut served, mut is_told) = (0, false);
    for stream in (3..).step_by(2) {
        let sent = OffsetDateTime::now_utc();
        assert!(peer.send(&Frame::head(stream, &fields("HEAD"))).await);
        let answer = loop {
            // Pings are not answered: whoever answers the one behind GOAWAY has said that it has heard.
            let frame = peer.next().await.expect("the connection stays within the grace");
            match frame.kind {
                FrameKind::GoAway => is_told = true,
                FrameKind::Headers if frame.stream == stream => break frame,
                _ => {}
            }
        };
        // `:status: 200` is the eighth entry of the static table (RFC 7541, appendix A).
        if answer.payload.first() != Some(&0x88) {
            break;
        }
        served += 1;
        assert!(sent < end + time::Duration::seconds(1), "it is served on after {served} requests");
    }
    assert!(is_told && served > 0, "told: {is_told}, served: {served}");
    let refused = service.records.find("the refusal", |record| record["reason"] == "peer-distrusted").await;
    assert_eq!((&refused["status"], &refused["principal"]), (&403.into(), &brief.id.into()));
    drop(peer);
    service.stop().await;
}

/// An echo behind TLS that portcullis did not make.
async fn tls_echo(svid: &Svid) -> String {
    let acceptor = server_config(svid, &[]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("is bound").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let (mut reading, mut writing) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut reading, &mut writing).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_connection_gets_no_older_than_the_configuration_says() {
    let (house, upstream) = (House::new(), Recorder::behaving(Behaviour::Echo, None));
    let (echo, database) = (Server::echo().await, PgServer::start().await);
    let plan = |name: &str, age: &str| {
        let service = house.sidecar(name).yaml(&format!("limits: {{grace: 500ms{age}}}"));
        let service = service.inbound("endpoint", "http", &upstream.url(), "");
        let service = service.inbound("echo", "tcp", &echo.address, "");
        service.inbound(WAREHOUSE, "postgres", &database.url(), AS_ADMIN)
    };
    let (bounded, free) = (plan("bounded", ", connection_age: 2s").start().await, plan("free", "").start().await);
    let peer = TlsClient::with(&house.world.ca.issue("/ns/test/sa/app"));
    let mut open = Vec::new();
    for service in [&bounded, &free] {
        let began = Instant::now();
        let mut client = http2_peer(&peer, service).await;
        let exchange = OpenExchange::on(&mut client, "/open").await;
        let mut relay = peer.connect(service.inbound("echo")).await.expect("is trusted");
        ping(&mut relay).await;
        let stream = peer.clone().alpn(&["postgresql"]).connect(service.inbound(WAREHOUSE)).await;
        let mut session = PgWire::over(stream.expect("is trusted"));
        session.login(&LOGIN).await.expect("is permitted");
        open.push((began, client, exchange, relay, session));
    }
    let [(began, _client, exchange, relay, session), twin] = open.as_mut_slice() else { panic!("there are two") };
    assert_eq!(session.rest().await.error().sqlstate(), "57P01");
    assert!(began.elapsed() >= Duration::from_millis(1_700), "it had {:?}", began.elapsed());
    exchange.is_cut().await;
    is_reset(relay).await;
    for listener in ["endpoint", "echo"] {
        let cut = |record: &Value| record["kind"] == "connection" && record["listener"] == listener;
        assert_eq!(bounded.records.find(listener, cut).await["reason"], "connection-age");
    }
    let (_, _, exchange, relay, session) = twin;
    exchange.lives().await;
    ping(relay).await;
    assert_eq!(session.query("SELECT 7").await.value(), "7");

    // In order, while nothing is under way: the client comes back, and no request fails.
    let mut idle = Raw::over(peer.connect(bounded.inbound("endpoint")).await.expect("is trusted"));
    idle.write("POST /idle HTTP/1.1\r\nhost: a.example\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(idle.answer().await.map(|answer| answer.status()), Some(200));
    assert!(idle.is_closed().await);
    drop(open);
    bounded.stop().await;
    free.stop().await;
    database.sessions_end().await;
}

// ------------------------------------------------------------------------------------------------------------------- policies

const ALL_BUT_ALL: &str =
    "@id(\"not-below-private\")\nforbid (principal, action, resource in HttpPath::\"endpoint/private\");\n";

#[tokio::test]
async fn a_long_exchange_ends_when_the_policies_would_not_permit_it_any_more() {
    let (house, upstream) = (House::new(), Recorder::behaving(Behaviour::Echo, None));
    let silent = Recorder::behaving(Behaviour::Stall, None);
    let service = house.sidecar("service").yaml("limits: {grace: 1s}");
    let service = service.inbound("endpoint", "http", &upstream.url(), "");
    let service = service.inbound("silent", "http", &silent.url(), "").start().await;
    let peer = TlsClient::with(&house.world.ca.issue("/ns/test/sa/app"));
    let mut client = http2_peer(&peer, &service).await;
    let mut cut = OpenExchange::on(&mut client, "/private/feed").await;
    let mut stays = OpenExchange::on(&mut client, "/public/feed").await;
    // One that waits for the head of its answer.
    let mut waiting = http1(peer.connect(service.inbound("silent")).await.expect("is trusted")).await;
    let waiting = tokio::spawn(async move { waiting.send(request("GET", "a.example", "/private", &[], "")).await });
    silent.when("the request to reach its upstream", |seen| !seen.is_empty()).await;

    let forbid =
        format!("{ALLOW_ALL}{ALL_BUT_ALL}{}", ALL_BUT_ALL.replace("endpoint/", "silent/").replace("not-", "nor-"));
    service.replace("policies/test.cedar", &forbid);
    cut.is_cut().await;
    let answer = within("the answer", waiting).await.expect("is answered");
    assert_eq!((answer.status, answer.header("x-portcullis-error")), (StatusCode::FORBIDDEN, "no-longer-permitted"));
    for path in ["endpoint/private/feed", "silent/private"] {
        let about =
            |record: &Value, wanted: &str| record["outcome"] == wanted && record["resource"].to_string().contains(path);
        let denial = service.records.find("the denial", |record| about(record, "forbidden")).await;
        let ended =
            service.records.find("the exchange", |record| about(record, "allowed") && record["kind"] == "request");
        let ended = ended.await;
        assert_eq!(ended["reason"], "no-longer-permitted", "{ended:#}");
        let named = denial["decision_id"].as_str().expect("every record has one");
        assert!(ended["error"].as_str().is_some_and(|error| error.contains(named)), "{ended:#}");
    }
    stays.lives().await;

    // Policies that read what was not looked at when it was let in.
    let by_header = "@id(\"tenant\")\nforbid (principal, action == Action::\"http:POST\", resource) when { context.headers.hasTag(\"x-tenant\") };\n";
    service.replace("policies/test.cedar", &format!("{ALLOW_ALL}{by_header}"));
    stays.is_cut().await;
    service.records.find("why", |record| record["reason"] == "headers-not-judged").await;
    let next = client.send(request("GET", "", "http://a.example/public", &[], "")).await;
    assert_eq!(next.status, StatusCode::OK, "it may ask again");
    service.stop().await;
}

#[tokio::test]
async fn an_exchange_within_the_grace_finishes_under_the_policies_that_it_began_with() {
    let (house, upstream) = (House::new(), Recorder::behaving(Behaviour::Echo, None));
    let service = house.sidecar("service").inbound("endpoint", "http", &upstream.url(), "").start().await;
    let peer = TlsClient::with(&house.world.ca.issue("/ns/test/sa/app"));
    let mut client = http2_peer(&peer, &service).await;
    let mut open = OpenExchange::on(&mut client, "/private/feed").await;
    service.replace("policies/test.cedar", &format!("{ALLOW_ALL}{ALL_BUT_ALL}"));
    let deadline = Instant::now() + DEADLINE;
    while client.send(request("GET", "", "http://a.example/private", &[], "")).await.status != StatusCode::FORBIDDEN {
        assert!(Instant::now() < deadline, "the new policies are not in force");
    }
    open.lives().await;
    open.finish().await;
    service.stop().await;
}

/// A call whose body decides what it asks, of which the half has been sent.
struct HalfSent {
    raw: Raw<TlsStream<TcpStream>>,
    rest: &'static str,
}

impl HalfSent {
    async fn to(service: &Sidecar, peer: &TlsClient, bucket: &str) -> Self {
        const BATCH: &str = "<Delete><Object><Key>a</Key></Object></Delete>";
        let (half, rest) = BATCH.split_at(20);
        let mut raw = Raw::over(peer.connect(service.inbound("endpoint")).await.expect("is trusted"));
        let length = BATCH.len();
        let head = format!("POST /{bucket}?delete HTTP/1.1\r\nhost: 127.0.0.1:9000\r\ncontent-length: {length}\r\n");
        // Whoever says that it goes on has seen the head.
        raw.write(head + "expect: 100-continue\r\n\r\n").await;
        assert_eq!(raw.answer().await.expect("a word").status(), 100);
        raw.write(half).await;
        Self { raw, rest }
    }

    async fn finish(mut self) -> RawAnswer {
        self.raw.write(self.rest).await;
        self.raw.answer().await.expect("an answer")
    }
}

/// Asks until the policies deny it, and what has begun before `began` is open for longer than the grace.
async fn until_denied(client: &mut Client, ask: impl Fn() -> Request<Bytes>, began: Instant) {
    let deadline = Instant::now() + DEADLINE;
    while client.send(ask()).await.status != StatusCode::FORBIDDEN || began.elapsed() <= Duration::from_secs(1) {
        assert!(Instant::now() < deadline, "the new policies are not in force");
    }
}

#[tokio::test]
async fn a_batch_that_was_long_on_its_way_is_judged_by_the_policies_in_force_when_it_is_there() {
    let (house, store) = (House::new(), Recorder::start());
    let service = house.sidecar("service").yaml("limits: {grace: 1s}");
    let service = service.inbound("endpoint", "s3", &store.url(), "").start().await;
    let peer = TlsClient::with(&house.world.ca.issue("/ns/test/sa/app"));
    let batches = || store.seen().into_iter().filter(|seen| seen.method == "POST").count();
    let (denied, allowed) =
        (HalfSent::to(&service, &peer, "private").await, HalfSent::to(&service, &peer, "public").await);
    let began = Instant::now();
    let mut client = http1(peer.connect(service.inbound("endpoint")).await.expect("is trusted")).await;
    let keep =
        "@id(\"keep\")\nforbid (principal, action in Action::\"delete\", resource in Bucket::\"endpoint/private\");\n";
    service.replace("policies/test.cedar", &format!("{ALLOW_ALL}{keep}"));
    let delete = || request("DELETE", "127.0.0.1:9000", "/private/a", &[], "");
    until_denied(&mut client, delete, began).await;
    let answer = denied.finish().await;
    let text = String::from_utf8_lossy(&answer.body);
    assert!(text.contains("<Code>AccessDenied</Code>"), "{text}");
    let of_batch = |record: &Value| record["method"] == "POST";
    assert_eq!(service.records.find("the denial", of_batch).await["policies"], serde_json::json!(["keep"]));
    assert_eq!(service.records.all().into_iter().filter(of_batch).count(), 1, "it was never allowed");
    assert_eq!(batches(), 0, "what is forbidden by now reached the store");
    assert_eq!(allowed.finish().await.status(), 200);
    assert_eq!(batches(), 1);

    // Policies that read what was not looked at when its head came.
    let late = HalfSent::to(&service, &peer, "public").await;
    let began = Instant::now();
    let by_header = "@id(\"tenant\")\nforbid (principal, action == Action::\"s3:DeleteObject\", resource) when { context.headers.hasTag(\"x-tenant\") };\n";
    service.replace("policies/test.cedar", &format!("{ALLOW_ALL}{by_header}"));
    let tenant = || request("DELETE", "127.0.0.1:9000", "/public/a", &[("x-tenant", "t")], "");
    until_denied(&mut client, tenant, began).await;
    assert_eq!(late.finish().await.status(), 403);
    service.records.find("why", |record| record["reason"] == "headers-not-judged").await;
    assert_eq!(batches(), 1);
    assert_eq!(HalfSent::to(&service, &peer, "public").await.finish().await.status(), 200, "it may ask again");
    service.stop().await;
}

#[tokio::test]
async fn a_batch_whose_peer_is_trusted_no_more_when_it_is_there_is_not_begun() {
    let (house, store) = (House::new(), Recorder::start());
    let service = house.sidecar("service").yaml("limits: {grace: 30s}");
    let service = service.inbound("endpoint", "s3", &store.url(), "").start().await;
    let end = in_seconds(4);
    let brief = house.world.ca.issue_with("/ns/test/sa/brief", |params| params.not_after = end);
    let (brief, lasting) = (TlsClient::with(&brief), TlsClient::with(&house.world.ca.issue("/ns/test/sa/app")));
    let (denied, allowed) =
        (HalfSent::to(&service, &brief, "public").await, HalfSent::to(&service, &lasting, "public").await);
    let batches = || store.seen().into_iter().filter(|seen| seen.method == "POST").count();
    let mut client = http1(lasting.connect(service.inbound("endpoint")).await.expect("is trusted")).await;
    while OffsetDateTime::now_utc() < end + time::Duration::seconds(1) {
        assert_eq!(client.send(request("GET", "127.0.0.1:9000", "/public/a", &[], "")).await.status, StatusCode::OK);
    }
    assert_eq!(denied.finish().await.status(), 403);
    let refused = service.records.find("the refusal", |record| record["method"] == "POST").await;
    assert_eq!(refused["reason"], "peer-distrusted", "{refused:#}");
    assert_eq!(batches(), 0, "a batch of a peer that is trusted no more reached the store");
    assert_eq!(allowed.finish().await.status(), 200);
    assert_eq!(batches(), 1);
    service.stop().await;
}

#[tokio::test]
async fn a_websocket_ends_when_the_policies_would_not_permit_it_any_more() {
    let (house, echo) = (House::new(), RawUpstream::echoing_websockets());
    let service = house.sidecar("service").inbound("endpoint", "http", &echo.url(), "").start().await;
    let peer = TlsClient::with(&house.world.ca.issue("/ns/test/sa/app"));
    let mut open = Vec::new();
    for path in ["/private/chat", "/public/chat"] {
        let stream = peer.connect(service.inbound("endpoint")).await.expect("is trusted");
        open.push(Raw::websocket(stream, path, "").await);
    }
    service.replace("policies/test.cedar", &format!("{ALLOW_ALL}{ALL_BUT_ALL}"));
    let [cut, stays] = open.as_mut_slice() else { panic!("there are two") };
    assert!(cut.is_closed().await);
    let ended = |record: &Value| record["kind"] == "request" && record["status"] == 101;
    assert_eq!(service.records.find("the WebSocket", ended).await["reason"], "no-longer-permitted");
    stays.write("still here").await;
    stays.half_close().await;
    assert_eq!(stays.rest().await, b"still here");
    service.stop().await;
}

#[tokio::test]
async fn a_policy_that_goes_by_the_clock_ends_what_it_let_in() {
    let (house, echo) = (House::new(), Server::echo().await);
    let until =
        in_seconds(3).format(time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"));
    let until = until.expect("can be written");
    let policies = format!(
        "@id(\"shift\")\npermit (principal == Workload::\"{}\", action, resource) when {{ context.now < datetime(\"{until}\") }};\n\
         @id(\"always\")\npermit (principal == Workload::\"{}\", action, resource);\n",
        house.world.id("shift"),
        house.world.id("always"),
    );
    let service =
        house.sidecar("service").policies(&policies).inbound("endpoint", "tcp", &echo.address, "").start().await;
    let connect = async |name: &str| {
        let peer = TlsClient::with(&house.world.ca.issue(&format!("/ns/test/sa/{name}")));
        let mut stream = peer.connect(service.inbound("endpoint")).await.expect("is trusted");
        ping(&mut stream).await;
        stream
    };
    let (mut cut, mut stays) = (connect("shift").await, connect("always").await);
    is_reset(&mut cut).await;
    service.records.find("the end", |record| record["reason"] == "no-longer-permitted").await;
    ping(&mut stays).await;
    drop(stays);
    service.stop().await;
}
