use std::sync::atomic::AtomicUsize;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::net::UnixStream;

use super::*;
use crate::mapping::sql::catalog::{CatalogRows, Part};
use crate::protocol::postgres::wire::{FrameReader, Side};

/// A server that knows one database without anything in it, and counts what it is asked.
#[derive(Default)]
struct Server {
    opened: AtomicUsize,
    probed: AtomicUsize,
    read: AtomicUsize,
    fingerprint: AtomicUsize,
    built_in: AtomicUsize,
    /// Readings of everything.
    whole: AtomicUsize,
    /// Closes each connection after its next answer.
    closes: AtomicBool,
    asked: tokio::sync::Notify,
}

impl Server {
    fn counts(&self) -> (usize, usize, usize) {
        let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (count(&self.opened), count(&self.probed), count(&self.read))
    }

    fn catalogue(self: &Arc<Self>, max_age: Duration) -> Arc<CatalogueOf> {
        let server = Arc::clone(self);
        let open = move |_of: Of| -> Opening {
            let (own, other) = tokio::io::duplex(64 * 1024);
            server.opened.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(Arc::clone(&server).serve(other));
            Box::pin(async move { Ok(Link::new(Box::new(own), BytesMut::new())) })
        };
        Catalogues::opened_by(None, max_age, Arc::new(open)).of("shop", "app", None)
    }

    async fn serve(self: Arc<Self>, mut io: DuplexStream) {
        let mut reader = FrameReader::new(Side::Client { message_bytes: 1 << 20 }, BytesMut::new());
        loop {
            while let Some(query) = reader.next().unwrap() {
                let query = String::from_utf8(query.body().to_vec()).unwrap();
                io.write_all(&self.answer(&query)).await.unwrap();
                self.asked.notify_one();
                if self.closes.swap(false, Ordering::SeqCst) {
                    return;
                }
            }
            if reader.fill(&mut io).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    fn answer(&self, query: &str) -> BytesMut {
        let mut answer = BytesMut::new();
        let number = |number: &AtomicUsize| number.load(Ordering::SeqCst).to_string();
        let reads = query.contains("pg_proc p");
        if query.starts_with("BEGIN") {
            message(&mut answer, b'C', b"BEGIN\0");
            row(&mut answer, &["1:1:", &number(&self.built_in), &number(&self.fingerprint)]);
            message(&mut answer, b'C', b"SELECT 1\0");
            if reads {
                self.whole.fetch_add(1, Ordering::SeqCst);
                Part::BuiltIn.queries().iter().for_each(|_| message(&mut answer, b'C', b"SELECT 0\0"));
            } else {
                self.probed.fetch_add(1, Ordering::SeqCst);
            }
        }
        if reads {
            self.read.fetch_add(1, Ordering::SeqCst);
            row(&mut answer, &["shop", "10", "150018"]);
            Part::Foreign.queries().iter().for_each(|_| message(&mut answer, b'C', b"SELECT 0\0"));
        }
        if query.ends_with("COMMIT") {
            message(&mut answer, b'C', b"COMMIT\0");
        }
        message(&mut answer, b'Z', b"I");
        answer
    }
}

fn message(out: &mut BytesMut, tag: u8, body: &[u8]) {
    out.put_u8(tag);
    out.put_u32(u32::try_from(body.len()).unwrap() + 4);
    out.put_slice(body);
}

fn row(out: &mut BytesMut, values: &[&str]) {
    let mut body = BytesMut::new();
    body.put_u16(u16::try_from(values.len()).unwrap());
    for value in values {
        body.put_u32(u32::try_from(value.len()).unwrap());
        body.put_slice(value.as_bytes());
    }
    message(out, b'D', &body);
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_young_catalogue_is_taken_as_it_is() {
    let server = Arc::new(Server::default());
    let catalogue = server.catalogue(LONG);
    let first = catalogue.current().await.unwrap();
    assert_eq!((&*first.database, first.major), ("shop", 15));
    assert!(Arc::ptr_eq(&first, &catalogue.current().await.unwrap()));
    assert_eq!(server.counts(), (1, 0, 1));
}

#[tokio::test]
async fn all_who_wait_get_what_one_reading_found() {
    let server = Arc::new(Server::default());
    let catalogue = server.catalogue(LONG);
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let catalogue = Arc::clone(&catalogue);
            tokio::spawn(async move { catalogue.current().await.unwrap().generation })
        })
        .collect();
    let mut generations = Vec::new();
    for one in waiting {
        generations.push(one.await.unwrap());
    }
    generations.dedup();
    assert_eq!((generations.len(), server.counts()), (1, (1, 0, 1)));
}

#[tokio::test]
async fn it_is_read_again_only_when_the_server_says_that_it_changed() {
    let server = Arc::new(Server::default());
    let catalogue = server.catalogue(LONG);
    let first = catalogue.current().await.unwrap();
    assert!(Arc::ptr_eq(&first, &catalogue.refreshed().await.unwrap()), "nothing changed");
    assert_eq!(server.counts(), (1, 1, 1));
    server.fingerprint.store(7, Ordering::SeqCst);
    assert_ne!(catalogue.refreshed().await.unwrap().generation, first.generation);
    assert_eq!(server.counts(), (1, 2, 2));
}

#[tokio::test]
async fn what_came_with_the_server_is_read_again_only_when_that_changed() {
    let server = Arc::new(Server::default());
    let catalogue = server.catalogue(LONG);
    let first = catalogue.current().await.unwrap();
    server.fingerprint.store(7, Ordering::SeqCst);
    let second = catalogue.refreshed().await.unwrap();
    assert!(Arc::ptr_eq(first.built_in().unwrap(), second.built_in().unwrap()), "shared");
    assert_eq!((server.counts(), server.whole.load(Ordering::SeqCst)), ((1, 1, 2), 1));
    server.built_in.store(7, Ordering::SeqCst);
    let third = catalogue.refreshed().await.unwrap();
    assert!(!Arc::ptr_eq(second.built_in().unwrap(), third.built_in().unwrap()), "read anew");
    assert_eq!((server.counts(), server.whole.load(Ordering::SeqCst)), ((1, 2, 3), 2));
}

#[tokio::test]
async fn an_old_one_is_not_taken() {
    let server = Arc::new(Server::default());
    let catalogue = server.catalogue(Duration::ZERO);
    for _ in 0..3 {
        catalogue.current().await.unwrap();
    }
    assert_eq!(server.counts(), (1, 2, 1));
}

#[tokio::test]
async fn from_half_of_the_age_on_nobody_waits_and_it_is_asked_again() {
    let server = Arc::new(Server::default());
    let catalogue = server.catalogue(LONG);
    let first = catalogue.current().await.unwrap();
    // Both queries so far have been noticed.
    server.asked.notified().await;
    let began = Instant::now().checked_sub(LONG / 2).unwrap();
    catalogue.state().began = began;
    server.fingerprint.store(7, Ordering::SeqCst);
    assert!(Arc::ptr_eq(&first, &catalogue.current().await.unwrap()), "at once");
    while catalogue.state().began == began {
        tokio::time::timeout(LIMIT, server.asked.notified()).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_ne!(catalogue.current().await.unwrap().generation, first.generation);
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_made_anew() {
    let server = Arc::new(Server::default());
    let catalogue = server.catalogue(LONG);
    catalogue.current().await.unwrap();
    server.closes.store(true, Ordering::SeqCst);
    catalogue.refreshed().await.unwrap();
    catalogue.refreshed().await.unwrap();
    assert_eq!(server.counts().0, 2);
}

#[tokio::test]
async fn without_a_connection_there_is_no_catalogue_and_the_error_says_why() {
    let open = |_of: Of| -> Opening { Box::pin(async { Err(CatalogueError::Connect { cause: "refused".into() }) }) };
    let catalogue = Catalogues::opened_by(Some("reader".into()), LONG, Arc::new(open)).of("shop", "app", None);
    assert_eq!(&*catalogue.of.user, "reader");
    assert_eq!(
        catalogue.current().await.unwrap_err().to_string(),
        "the catalogue's connection was not opened: refused"
    );
}

#[test]
fn rows_are_taken_apart_and_broken_ones_are_not() {
    let whole = b"\0\x03\0\0\0\x02ab\xff\xff\xff\xff\0\0\0\0";
    assert_eq!(values_of(whole), Some(vec![Some("ab"), None, Some("")]));
    for length in 0..whole.len() {
        assert_eq!(values_of(&whole[..length]), None, "{length} bytes of it");
    }
    assert_eq!(values_of(b"\0\0x"), None, "one byte too many");
    assert_eq!(values_of(b"\0\x01\0\0\0\x01\xff"), None, "not UTF-8");
}

/// With `PORTCULLIS_TEST_POSTGRES` the path of a socket of a server that trusts role `postgres`.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_real_server_is_read_and_changes_are_seen() {
    let Ok(socket) = std::env::var("PORTCULLIS_TEST_POSTGRES") else { panic!("PORTCULLIS_TEST_POSTGRES is not set") };
    let open = move |of: Of| -> Opening {
        let socket = socket.clone();
        Box::pin(async move { Ok(trusted(&socket, &of).await) })
    };
    let catalogues = Catalogues::opened_by(None, Duration::ZERO, Arc::new(open.clone()));
    let mut other = open(Of { database: "postgres".into(), user: "postgres".into(), reached: None }).await.unwrap();
    let catalogue = catalogues.of("postgres", "postgres", None);
    let started = Instant::now();
    let first = catalogue.current().await.unwrap();
    println!("read in {:?}: {} relations", started.elapsed(), first.relations.len());
    assert!(first.schemas["pg_catalog"].functions.len() > 2_000);
    let started = Instant::now();
    assert!(Arc::ptr_eq(&first, &catalogue.current().await.unwrap()));
    println!("asked for the snapshot in {:?}", started.elapsed());
    other.run("CREATE TABLE seen (id int4, next int4 GENERATED ALWAYS AS (id + 1) STORED)").await;
    let second = catalogue.current().await.unwrap();
    assert!(second.schemas["public"].relations.contains_key("seen"));
    other.run("ALTER TABLE seen RENAME COLUMN id TO number").await;
    let third = catalogue.current().await.unwrap();
    let seen = third.schemas["public"].relations["seen"];
    assert_eq!(&*third.relations[&seen].columns[0].name, "number");
    other.run("CREATE TABLE other AS SELECT 1; DROP TABLE other; INSERT INTO seen VALUES (1)").await;
    let started = Instant::now();
    let fourth = catalogue.current().await.unwrap();
    println!("asked for the fingerprint in {:?}", started.elapsed());
    assert!(Arc::ptr_eq(&third, &fourth), "rows of tables are not the catalogue's");
    other.run("DROP TABLE seen; CREATE ROLE newcomer").await;
    let fifth = catalogue.current().await.unwrap();
    assert!(!fifth.schemas["public"].relations.contains_key("seen") && fifth.roles.contains_key("newcomer"));
    other.run("DROP ROLE newcomer").await;
}

/// Statements that change names, and how they are told.
const CHANGES: &[&str] = &[
    "CREATE TABLE c_t (id int4 PRIMARY KEY, next int4 GENERATED ALWAYS AS (id + 1) STORED)",
    "CREATE VIEW c_v AS SELECT t.tablename, c.id FROM pg_catalog.pg_tables t, c_t c",
    "CREATE VIEW c_i AS SELECT t FROM information_schema.tables t",
    "ALTER TABLE c_t RENAME COLUMN id TO number",
    "CREATE TABLE c_child () INHERITS (c_t)",
    "CREATE TABLE c_ref (n int4 REFERENCES c_t (number))",
    "CREATE FUNCTION pg_catalog.c_f(int4) RETURNS int4 LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION c_g(c_t, OUT a text, OUT b text) LANGUAGE sql AS $$SELECT '1', '2'$$",
    "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq)",
    "CREATE TYPE c_mood AS ENUM ('good'); CREATE DOMAIN c_d AS int4 CHECK (VALUE > 0)",
    "CREATE TEMP TABLE c_temp (a int4)",
    "CREATE ROLE c_role; GRANT USAGE ON SCHEMA public TO c_role",
    "ALTER FUNCTION pg_catalog.lower(text) VOLATILE",
    "ALTER FUNCTION pg_catalog.lower(text) IMMUTABLE",
    "GRANT USAGE ON SCHEMA pg_catalog TO c_role",
    "REVOKE USAGE ON SCHEMA pg_catalog FROM c_role",
    "CREATE TABLE c_bad () INHERITS (information_schema.sql_features)",
    "DROP TABLE c_bad",
    "REVOKE USAGE ON SCHEMA public FROM c_role; DROP ROLE c_role; DROP VIEW c_v, c_i; DROP DOMAIN c_d; DROP TYPE c_mood",
    "DROP OPERATOR === (text, text); DROP FUNCTION c_g; DROP FUNCTION pg_catalog.c_f; DROP TABLE c_temp, c_ref, c_child, c_t",
];

/// As above.
#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_real_servers_changes_are_read_as_if_all_were_read() {
    let Ok(socket) = std::env::var("PORTCULLIS_TEST_POSTGRES") else { panic!("PORTCULLIS_TEST_POSTGRES is not set") };
    let of = Of { database: "postgres".into(), user: "postgres".into(), reached: None };
    let mut other = trusted(&socket, &of).await;
    let (mut link, mut fresh) = (trusted(&socket, &of).await, trusted(&socket, &of).await);
    let started = Instant::now();
    let mut seen = link.read(None).await.unwrap();
    println!("everything: {:?}", started.elapsed());
    fresh.read(None).await.unwrap();
    for change in CHANGES {
        other.run(change).await;
        let started = Instant::now();
        let now = link.read(Some(&seen)).await.unwrap();
        let took = started.elapsed();
        let before = std::mem::replace(&mut seen, now);
        let built_in = |seen: &Seen| seen.catalog.built_in().map(Arc::as_ptr);
        let kept = built_in(&seen).is_some() && built_in(&before) == built_in(&seen);
        let started = Instant::now();
        let all = fresh.read(None).await.unwrap();
        println!("{took:?} {kept}, everything {:?}: {change}", started.elapsed());
        let mut rows = CatalogRows::default();
        let texts: Vec<&str> = Catalog::QUERIES.iter().map(|(_, text)| *text).collect();
        let query = |at: usize, values: &[Option<&str>]| Ok(rows.push(Catalog::QUERIES[at].0, values)?);
        fresh
            .query(&texts.join("; "), {
                let mut query = query;
                move |at, values| query(at, values)
            })
            .await
            .unwrap();
        let at_once = Catalog::build(&rows).unwrap();
        assert!(seen.catalog.said() == all.catalog.said(), "{change}");
        assert!(seen.catalog.said() == at_once.said(), "{change}: at once");
        assert_ne!(seen.catalog.generation, before.catalog.generation, "{change}");
    }
    let same = link.read(Some(&seen)).await.unwrap();
    assert!(Arc::ptr_eq(&same.catalog, &seen.catalog));
}

impl Link {
    async fn run(&mut self, text: &str) {
        self.query(text, |_, _| Ok(())).await.unwrap();
    }
}

async fn trusted(socket: &str, of: &Of) -> Link {
    let mut io = UnixStream::connect(socket).await.unwrap();
    io.write_all(&startup(of).to_bytes()).await.unwrap();
    let mut reader = FrameReader::new(Side::Server, BytesMut::new());
    loop {
        match reader.next().unwrap() {
            Some(frame) if frame.tag() == b'Z' => return Link::new(Box::new(io), reader.into_buffered()),
            Some(frame) => assert_ne!(frame.tag(), b'E'),
            None => assert_ne!(reader.fill(&mut io).await.unwrap(), 0),
        }
    }
}
