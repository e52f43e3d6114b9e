use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

const LONG: Duration = Duration::from_secs(30);

#[tokio::test]
async fn the_end_of_one_direction_leaves_the_other_open() {
    let (mut client, near) = duplex(64);
    let (far, mut server) = duplex(64);
    let relayed = tokio::spawn(relay(near, far, LONG));
    client.write_all(b"ask").await.unwrap();
    client.shutdown().await.unwrap();
    let mut asked = Vec::new();
    server.read_to_end(&mut asked).await.unwrap();
    assert_eq!(asked, b"ask");
    server.write_all(b"answer after half-close").await.unwrap();
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"answer after half-close");
    let relayed = relayed.await.unwrap();
    assert_eq!((relayed.forth, relayed.back), (3, 23));
    assert!(matches!(relayed.ended, Ended::Closed));
}

#[tokio::test]
async fn a_relay_on_which_nothing_moves_ends() {
    let (_client, near) = duplex(64);
    let (far, _server) = duplex(64);
    let relayed = relay(near, far, Duration::from_millis(30)).await;
    assert!(matches!(relayed.ended, Ended::Idle));
}

#[tokio::test]
async fn the_counts_are_complete_when_it_is_settled_and_the_end_comes_after() {
    let (mut client, near) = duplex(64);
    let (far, mut server) = duplex(64);
    let relayed = tokio::spawn(async move {
        let count = Moved::default();
        let mut settled = Vec::new();
        let ended = relay_settled(near, far, LONG, &count, || settled.push((count.forth(), count.back()))).await;
        (ended, settled)
    });
    server.write_all(b"first").await.unwrap();
    server.shutdown().await.unwrap();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"first", "the first end is passed on at once");
    client.write_all(b"and then me").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"and then me");
    let (ended, settled) = relayed.await.unwrap();
    assert!(matches!(ended, Ended::Closed));
    assert_eq!(settled, [(11, 5)], "once, with everything");
}

#[tokio::test]
async fn a_relay_that_fails_is_not_settled() {
    let (client, near) = duplex(64);
    let (far, server) = duplex(64);
    drop(server);
    let mut client = client;
    client.write_all(b"nobody reads this").await.unwrap();
    let count = Moved::default();
    let ended = relay_settled(near, far, LONG, &count, || panic!("it did not end in order")).await;
    assert!(matches!(ended, Ended::Failed(_)));
}

#[tokio::test]
async fn an_idle_limit_beyond_the_clock_is_none() {
    let (client, near) = duplex(64);
    let (far, server) = duplex(64);
    drop((client, server));
    assert!(matches!(relay(near, far, Duration::MAX).await.ended, Ended::Closed));
}

/// Gives and takes one byte at a time, and is not ready now and then. What it takes has to be what another gave.
struct Crumbs {
    left: u64,
    taken: u64,
    polls: u64,
}

fn crumb(position: u64) -> u8 {
    (position.wrapping_mul(2_654_435_761) >> 11) as u8
}

impl Crumbs {
    const LENGTH: u64 = 1024 * 1024;

    fn new(left: u64) -> Self {
        Self { left, taken: 0, polls: 0 }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> bool {
        self.polls += 1;
        let ready = !self.polls.is_multiple_of(97);
        if !ready {
            cx.waker().wake_by_ref();
        }
        ready
    }
}

impl AsyncRead for Crumbs {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.poll_ready(cx) {
            return Poll::Pending;
        }
        if self.left > 0 {
            into.put_slice(&[crumb(Self::LENGTH - self.left)]);
            self.left -= 1;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Crumbs {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.poll_ready(cx) {
            return Poll::Pending;
        }
        assert_eq!(bytes[0], crumb(self.taken), "byte {}", self.taken);
        self.taken += 1;
        Poll::Ready(Ok(1))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn a_mebibyte_in_single_bytes_arrives_as_it_was_sent() {
    let (mut first, mut second) = (Crumbs::new(Crumbs::LENGTH), Crumbs::new(0));
    let relayed = relay(&mut first, &mut second, LONG).await;
    assert!(matches!(relayed.ended, Ended::Closed), "{relayed:?}");
    assert_eq!((relayed.forth, relayed.back), (Crumbs::LENGTH, 0));
    assert_eq!(second.taken, Crumbs::LENGTH);
}

#[tokio::test]
async fn a_relay_that_waits_holds_no_buffer() {
    let (mut client, near) = duplex(64);
    let (far, mut server) = duplex(64);
    let _relay = tokio::spawn(relay(near, far, LONG));
    client.write_all(b"x").await.unwrap();
    server.read_exact(&mut [0]).await.unwrap();
    assert_eq!(BULK.with(Buffers::kept), 1, "given back to the thread, and used for both directions");
}

#[tokio::test]
async fn a_relay_loses_and_repeats_nothing_however_small_the_pieces() {
    let (mut client, near) = duplex(1);
    let (far, mut server) = duplex(7);
    let sent: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    tokio::spawn(relay(near, far, LONG));
    tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    });
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert!(received == expected);
}

/// Gives some bytes, then fails for once.
struct Failing(Option<&'static [u8]>, Option<io::Error>);

impl AsyncRead for Failing {
    fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(bytes) = self.0.take() {
            into.put_slice(bytes);
            return Poll::Ready(Ok(()));
        }
        // Like a socket's, the error is told once: then comes an end.
        self.1.take().map_or(Poll::Ready(Ok(())), |error| Poll::Ready(Err(error)))
    }
}

impl AsyncWrite for Failing {
    fn poll_write(self: Pin<&mut Self>, _cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_came_before_a_failure_is_passed_on_and_the_failure_is_no_end() {
    let (far, mut server) = duplex(64);
    let failing = Failing(Some(b"last words"), Some(io::ErrorKind::ConnectionReset.into()));
    let relayed = tokio::spawn(relay(failing, far, LONG));
    let mut heard = vec![0; 10];
    server.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, b"last words");
    let relayed = relayed.await.unwrap();
    assert_eq!(relayed.forth, 10);
    assert!(
        matches!(&relayed.ended, Ended::Failed(error) if error.kind() == io::ErrorKind::ConnectionReset),
        "{relayed:?}"
    );
}
