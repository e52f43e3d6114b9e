//! Our own SVIDs rotate, and rotate, and rotate, while clients work: no request fails and nothing in flight is cut.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::*;
use crate::tcp::{Server, ping};

/// How long it goes on: a minute; `make test-long` gives it ten.
fn seconds() -> u64 {
    std::env::var("PORTCULLIS_ROTATION_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

/// Something that is done again and again until it is told to stop; what fails once fails the test.
struct Work {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Work {
    fn of<F: Future<Output = ()> + Send + 'static>(work: impl FnOnce(Arc<AtomicBool>, Arc<AtomicUsize>) -> F) -> Self {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let task = tokio::spawn(work(Arc::clone(&stop), Arc::clone(&done)));
        Self { stop, done, task }
    }

    /// Ends it in order: how often it was done.
    async fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        within("the work to end", self.task).await.expect("nothing failed");
        self.done.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn rotation_every_second_under_load_fails_no_request_and_drops_no_stream() {
    let (world, upstream) = (World::new(), Recorder::behaving(Behaviour::Echo, None));
    let (relay, database) = (Server::echo().await, PgServer::start().await);
    let service = world.sidecar("service").policies(ALLOW_ALL).yaml("reload_interval: 100ms");
    let service = service.inbound("web", "http", &upstream.url(), "");
    let service = service.inbound("relay", "tcp", &relay.address, "");
    let service = service.inbound(WAREHOUSE, "postgres", &database.url(), AS_ADMIN).start().await;
    let mut app = world.sidecar("app").policies(ALLOW_ALL).yaml("reload_interval: 100ms");
    for (name, protocol) in [("web", "http"), ("relay", "tcp"), (WAREHOUSE, "postgres")] {
        app = app.outbound(name, protocol, &service.inbound(name).to_string(), &world.id("service"), "");
    }
    let app = app.start().await;
    let (web, to_relay, warehouse) = (app.outbound("web"), app.outbound("relay"), app.outbound(WAREHOUSE));

    // Requests one after the other: on one HTTP/1.1 connection, and on HTTP/2 streams beside one that stays open.
    let by_http1 = Work::of(|stop, done| async move {
        let mut client = Client::plain(web).await;
        while !stop.load(Ordering::Relaxed) {
            let answer = client.send(request("POST", "a.example", "/http1", &[], "some bytes")).await;
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"some bytes"[..]), "{answer:?}");
            done.fetch_add(1, Ordering::Relaxed);
        }
    });
    let by_http2 = Work::of(|stop, done| async move {
        let mut client = Client::plain_http2(web).await;
        let mut open = OpenExchange::on(&mut client, "/open").await;
        while !stop.load(Ordering::Relaxed) {
            let answer = client.send(request("POST", "", "http://a.example/http2", &[], "some bytes")).await;
            assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"some bytes"[..]), "{answer:?}");
            open.lives().await;
            done.fetch_add(1, Ordering::Relaxed);
        }
        open.finish().await;
    });
    // And as a third one what is no request: a session and a relay that stay, and new ones beside them.
    let by_session = Work::of(|stop, done| async move {
        let mut session = PgWire::session(warehouse, "admin_role").await;
        let mut relay = TcpStream::connect(to_relay).await.expect("it listens");
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(session.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada");
            ping(&mut relay).await;
            let mut fresh = TcpStream::connect(to_relay).await.expect("it listens");
            ping(&mut fresh).await;
            if done.fetch_add(1, Ordering::Relaxed) % 16 == 0 {
                PgWire::session(warehouse, "admin_role").await.terminate().await;
            }
        }
        session.terminate().await;
    });

    let began = Instant::now();
    let mut rotations = 0;
    let mut last = None;
    let mut every = tokio::time::interval(Duration::from_secs(1));
    while began.elapsed() < Duration::from_secs(seconds()) {
        every.tick().await;
        let next = [world.ca.issue("/ns/test/sa/service"), world.ca.issue("/ns/test/sa/app")];
        service.replace_svid(&next[0]);
        app.replace_svid(&next[1]);
        last = Some(next);
        rotations += 1;
    }
    for (sidecar, svid) in [&service, &app].into_iter().zip(last.expect("there was one")) {
        sidecar.status_with("the last rotation", |status| status["identity"]["sha256"] == svid.sha256()).await;
    }
    let done = [by_http1.finish().await, by_http2.finish().await, by_session.finish().await];
    println!(
        "{rotations} rotations of both in {:?}: {done:?} rounds of HTTP/1.1, HTTP/2 and sessions",
        began.elapsed()
    );
    assert!(done.iter().all(|rounds| *rounds > 20), "hardly anything was done: {done:?}");

    let (by_app, by_service) = (app.stop().await.all(), service.stop().await.all());
    for record in by_app.iter().chain(&by_service) {
        assert_eq!(record["outcome"], "allowed", "{record:#}");
        assert!(record["kind"] == "started" || (record["error"].is_null() && record["reason"].is_null()), "{record:#}");
    }
    let on_web = by_service.iter().filter(|record| record["listener"] == "web");
    let shown: BTreeSet<String> = on_web.map(|record| record["peer_certificate_sha256"].to_string()).collect();
    assert!(shown.len() as u64 >= rotations / 2, "requests went on under {} certificates of {rotations}", shown.len());
    database.sessions_end().await;
}

#[tokio::test]
async fn a_pooled_connection_of_the_svid_before_takes_no_new_request_and_finishes_what_it_has() {
    for by_http2 in [true, false] {
        let world = World::new();
        let alpn: &[&str] = if by_http2 { &["h2"] } else { &["http/1.1"] };
        let tls = server_config(&world.ca.issue("/ns/test/sa/service"), alpn);
        let upstream = Recorder::behaving(Behaviour::Echo, Some(tls));
        let app = world.sidecar("app").policies(ALLOW_ALL).yaml("reload_interval: 100ms");
        let app = app.outbound("endpoint", "http", &upstream.address.to_string(), &world.id("service"), "");
        let app = app.start().await;
        let mut client = Client::plain(app.outbound("endpoint")).await;
        let mut open = OpenExchange::on(&mut client, "/open").await;
        let peer_of = |path: &str| {
            let seen = upstream.seen().into_iter().rev().find(|seen| seen.target.ends_with(path)).expect("has come");
            (seen.connection, seen.peer.expect("shows a certificate"))
        };
        get(app.outbound("endpoint"), "/before").await;
        let next = world.ca.issue("/ns/test/sa/app");
        app.replace_svid(&next);
        app.status_with("the rotation", |status| status["identity"]["generation"] == 2).await;
        get(app.outbound("endpoint"), "/after").await;
        let (old, new) = (peer_of("/open"), peer_of("/after"));
        assert_ne!(old.0, new.0, "the old connection took a new request");
        assert_eq!(&new.1, next.leaf());
        assert_eq!(by_http2, peer_of("/before").0 == old.0, "HTTP/2 shares a connection");
        open.lives().await;
        open.finish().await;
        let records = app.stop().await.all();
        assert!(records.iter().all(|record| record["reason"].is_null()), "{records:#?}");
    }
}
