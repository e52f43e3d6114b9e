//! Upgrades, time limits and endings.

use std::io::IoSlice;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::super::{Guard, GuardHandle, HeadLimits, HeadVerdict, Version, sniff};
use super::LIMITS;

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n";
/// Long enough for anything that is to come.
const SOON: Duration = Duration::from_secs(10);
/// Long enough to see that nothing comes; no test fails if the machine is slower.
const NOT_YET: Duration = Duration::from_millis(20);

fn connection(limits: HeadLimits) -> (DuplexStream, Guard<DuplexStream>, GuardHandle) {
    let (client, transport) = tokio::io::duplex(4_096);
    let (guard, handle) = Guard::new(transport, limits);
    (client, guard, handle)
}

async fn read(guard: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut buf = vec![0; 1_024];
    let length = timeout(SOON, guard.read(&mut buf)).await.expect("something to read").expect("no error");
    buf.truncate(length);
    buf
}

async fn read_nothing(guard: &mut (impl AsyncRead + Unpin)) -> bool {
    timeout(NOT_YET, guard.read(&mut [0; 1_024])).await.is_err()
}

fn refused(verdict: HeadVerdict) -> Option<(u16, &'static str)> {
    match verdict {
        HeadVerdict::Passed(_) => None,
        HeadVerdict::Refused(refusal) => Some((refusal.status, refusal.rule)),
    }
}

#[tokio::test]
async fn early_bytes_pass_raw_only_after_the_upgrade_was_accepted() {
    let (mut client, mut guard, handle) = connection(LIMITS);
    client.write_all(&[UPGRADE, b"\x81\0 raw"].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await, UPGRADE);
    assert!(matches!(handle.next_head(), HeadVerdict::Passed(facts) if facts.asks_upgrade));
    let exchange = handle.exchange();
    assert!(read_nothing(&mut guard).await);
    let waiting = tokio::spawn(async move { (read(&mut guard).await, guard) });
    tokio::task::yield_now().await;
    handle.upgrade_accepted();
    let (first, mut guard) = waiting.await.unwrap();
    assert_eq!(first, b"\x81\0 raw");
    drop(exchange);
    client.write_all(b"\n\n\0").await.unwrap();
    assert_eq!(read(&mut guard).await, b"\n\n\0");
}

#[tokio::test]
async fn after_a_declined_upgrade_the_next_head_is_judged() {
    let (mut client, mut guard, handle) = connection(LIMITS);
    client.write_all(&[UPGRADE, GET, b"\x81\0\n"].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await, UPGRADE);
    assert_eq!(refused(handle.next_head()), None);
    handle.upgrade_declined();
    assert_eq!(read(&mut guard).await, GET);
    assert_eq!(refused(handle.next_head()), None);
    assert!(read(&mut guard).await.starts_with(b"GET / HTTP/1.1\r\nhost: refused.invalid"));
    assert_eq!(refused(handle.next_head()), Some((400, "bare-lf")));
}

#[tokio::test]
async fn the_end_of_an_exchange_declines_its_own_upgrade_and_no_other() {
    let (mut client, mut guard, handle) = connection(LIMITS);
    client.write_all(&[GET, UPGRADE, b"raw"].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await, [GET, UPGRADE].concat());
    assert_eq!(refused(handle.next_head()), None);
    drop(handle.exchange());
    assert_eq!(refused(handle.next_head()), None);
    let exchange = handle.exchange();
    assert!(read_nothing(&mut guard).await);
    handle.upgrade_accepted();
    drop(exchange);
    assert_eq!(read(&mut guard).await, b"raw");
}

#[tokio::test]
async fn an_upgrade_counts_from_the_end_of_the_requests_body() {
    let (mut client, mut guard, handle) = connection(LIMITS);
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\ncontent-length: 3\r\n\r\nabc";
    client.write_all(&[request.as_slice(), b"raw"].concat()).await.unwrap();
    assert_eq!(read(&mut guard).await, request);
    assert_eq!(refused(handle.next_head()), None);
    handle.upgrade_accepted();
    assert_eq!(read(&mut guard).await, b"raw");
    let (_, leftover) = guard.into_inner();
    assert!(leftover.is_empty());
}

#[tokio::test]
async fn a_slow_head_is_refused_in_time_and_one_in_time_is_not() {
    let limits = HeadLimits { header_read_timeout: Duration::from_millis(30), ..LIMITS };
    let (mut client, mut guard, handle) = connection(limits);
    client.write_all(GET).await.unwrap();
    assert_eq!(read(&mut guard).await, GET);
    assert_eq!(refused(handle.next_head()), None);
    // No byte of the next head: that is idleness, whose limit is a minute.
    assert!(timeout(NOT_YET * 4, guard.read(&mut [0; 64])).await.is_err());
    client.write_all(b"GET / HTTP/1.1\r\nhost").await.unwrap();
    assert!(read(&mut guard).await.starts_with(b"GET / HTTP/1.1\r\nhost: refused.invalid"));
    assert_eq!(refused(handle.next_head()), Some((408, "head-timeout")));
    // The stand-in is whole, and then there is no end that would make hyper drop the reply.
    client.write_all(b": a\r\n\r\n").await.unwrap();
    assert!(read_nothing(&mut guard).await);
}

#[tokio::test]
async fn an_idle_connection_ends_and_one_that_is_being_answered_does_not() {
    let limits = HeadLimits { idle_timeout: Duration::from_millis(30), ..LIMITS };
    let (mut client, mut guard, handle) = connection(limits);
    client.write_all(GET).await.unwrap();
    assert_eq!(read(&mut guard).await, GET);
    assert_eq!(refused(handle.next_head()), None);
    let exchange = handle.exchange();
    assert!(timeout(NOT_YET * 4, guard.read(&mut [0; 64])).await.is_err());
    drop(exchange);
    assert_eq!(read(&mut guard).await, b"");
    drop(client);
}

#[tokio::test]
async fn a_connection_that_never_says_anything_ends() {
    let limits = HeadLimits { idle_timeout: Duration::from_millis(30), ..LIMITS };
    let (client, mut guard, _) = connection(limits);
    assert_eq!(read(&mut guard).await, b"");
    drop(client);
}

#[tokio::test]
async fn a_reply_survives_a_client_that_goes_on_sending() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut guard, handle) = Guard::new(listener.accept().await.unwrap().0, LIMITS);
        while read(&mut guard).await.len() == 1_024 {}
        assert_eq!(refused(handle.next_head()), None);
        // The answer comes before the body, as that of a denied upload does.
        guard.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
        guard.shutdown().await.unwrap();
    });
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await.unwrap();
    let mut reply = vec![0; 12];
    client.read_exact(&mut reply).await.unwrap();
    client.write_all(&vec![b'x'; 1_000_000]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("no reset");
    assert_eq!([reply, rest].concat(), b"HTTP/1.1 403 Forbidden\r\n\r\n");
    server.await.unwrap();
}

#[tokio::test]
async fn writes_pass_as_they_are() {
    let (mut client, mut guard, _) = connection(LIMITS);
    assert!(guard.is_write_vectored());
    let written = guard.write_vectored(&[IoSlice::new(b"a\n"), IoSlice::new(b"\0b")]).await.unwrap();
    assert_eq!(written, 4);
    guard.flush().await.unwrap();
    guard.shutdown().await.unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"a\n\0b");
    assert!(!Guard::new(tokio::io::join(tokio::io::empty(), NotVectored), LIMITS).0.is_write_vectored());
}

struct NotVectored;

impl AsyncWrite for NotVectored {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::task::Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn the_first_bytes_say_which_http_it_is_and_are_given_again() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice();
    let cases = [
        (preface.to_vec(), Version::H2),
        ([preface, b"\0\0\0\x04\0\0\0\0\0"].concat(), Version::H2),
        (GET.to_vec(), Version::H1),
        (b"PRI * HTTP/1.1\r\n\r\nSM\r\n\r\n".to_vec(), Version::H1),
        (b"PROPFIND / HTTP/1.1\r\n".to_vec(), Version::H1),
        (preface[..23].to_vec(), Version::H1),
        (b"P".to_vec(), Version::H1),
        (Vec::new(), Version::H1),
    ];
    for (bytes, wanted) in cases {
        for piece in [1, 7, 1_000] {
            let (mut client, transport) = tokio::io::duplex(piece);
            let (writing, sniffing) = (
                async {
                    client.write_all(&bytes).await.unwrap();
                    drop(client);
                },
                async {
                    let (version, mut stream) = sniff(transport).await.unwrap();
                    let mut all = Vec::new();
                    stream.read_to_end(&mut all).await.unwrap();
                    (version, all)
                },
            );
            let ((), (version, all)) = tokio::join!(writing, sniffing);
            assert_eq!((version, &all), (wanted, &bytes), "{}", bytes.escape_ascii());
        }
    }
}
