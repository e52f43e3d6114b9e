use std::sync::atomic::AtomicUsize;

use bytes::{BufMut as _, BytesMut};
use tokio::io::{AsyncWriteExt as _, DuplexStream};

use super::*;
use crate::mapping::sql::catalog::Part;
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
