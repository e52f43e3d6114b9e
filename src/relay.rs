//! Bytes both ways between two streams, with half-close, an idle limit and counts.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// One buffer a direction: large enough for a TLS record (16 KiB), small enough to hold for every connection.
const BUFFER_BYTES: usize = 16 * 1024;

/// How a relay ended.
#[derive(Debug)]
pub struct Relayed {
    /// Bytes from the first stream to the second.
    pub forth: u64,
    /// Bytes from the second stream to the first.
    pub back: u64,
    /// Why it ended.
    pub ended: Ended,
}

/// Why a relay ended.
#[derive(Debug)]
pub enum Ended {
    /// Both sides closed in order.
    Closed,
    /// Nothing moved for the idle limit.
    Idle,
    /// A stream failed.
    Failed(io::Error),
}

/// How far a relay has come: whoever holds it knows that also of one that was cut.
#[derive(Debug, Default)]
pub struct Moved {
    forth: AtomicU64,
    back: AtomicU64,
}

impl Moved {
    /// Bytes from the first stream to the second.
    #[must_use]
    pub fn forth(&self) -> u64 {
        self.forth.load(Ordering::Relaxed)
    }

    /// Bytes from the second stream to the first.
    #[must_use]
    pub fn back(&self) -> u64 {
        self.back.load(Ordering::Relaxed)
    }
}

/// Copies until both directions have ended, one has failed, or nothing has moved for `idle`.
///
/// The end of one direction is passed on as a half-close while the other goes on.
pub async fn relay<A, B>(first: A, second: B, idle: Duration) -> Relayed
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Moved::default();
    let ended = relay_counted(first, second, idle, &moved).await;
    Relayed { forth: moved.forth(), back: moved.back(), ended }
}

/// The same with its counts in `count`, as it goes on.
///
/// # Cancel safety
/// Dropping the future cuts the relay; `count` tells what was passed on until then.
pub async fn relay_counted<A, B>(mut first: A, mut second: B, idle: Duration, count: &Moved) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut forth = Pump::new();
    let mut back = Pump::new();
    let timer = sleep_until(Instant::now() + idle);
    tokio::pin!(timer);
    poll_fn(|cx| {
        let moved = forth.moved + back.moved;
        let forth_done = forth.poll(cx, Pin::new(&mut first), Pin::new(&mut second));
        let back_done = back.poll(cx, Pin::new(&mut second), Pin::new(&mut first));
        count.forth.store(forth.moved, Ordering::Relaxed);
        count.back.store(back.moved, Ordering::Relaxed);
        match (forth_done, back_done) {
            (Poll::Ready(Err(error)), _) | (_, Poll::Ready(Err(error))) => return Poll::Ready(Ended::Failed(error)),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ended::Closed),
            _ => {}
        }
        poll_idle(cx, timer.as_mut(), idle, forth.moved + back.moved > moved)
    })
    .await
}

fn poll_idle(cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>, idle: Duration, moved: bool) -> Poll<Ended> {
    if moved {
        timer.as_mut().reset(Instant::now() + idle);
    }
    timer.poll(cx).map(|()| Ended::Idle)
}

/// One direction.
struct Pump {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    unflushed: bool,
    source_ended: bool,
    closed: bool,
    moved: u64,
}

impl Pump {
    fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            unflushed: false,
            source_ended: false,
            closed: false,
            moved: 0,
        }
    }

    fn poll<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.closed {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write_out(cx, to.as_mut()))?;
            if self.source_ended {
                ready!(to.as_mut().poll_shutdown(cx))?;
                self.closed = true;
                continue;
            }
            match self.poll_fill(cx, from.as_mut()) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    // What was written must not wait for more to come.
                    if self.unflushed {
                        ready!(to.as_mut().poll_flush(cx))?;
                        self.unflushed = false;
                    }
                    return Poll::Pending;
                }
            }
        }
    }

    fn poll_write_out<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, mut to: Pin<&mut W>) -> Poll<io::Result<()>> {
        while self.start < self.end {
            let pending = self.buffer.get(self.start..self.end).unwrap_or_default();
            let written = ready!(to.as_mut().poll_write(cx, pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += written;
            self.moved += written as u64;
            self.unflushed = true;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill<R: AsyncRead>(&mut self, cx: &mut Context<'_>, from: Pin<&mut R>) -> Poll<io::Result<()>> {
        let mut buffer = ReadBuf::new(&mut self.buffer);
        ready!(from.poll_read(cx, &mut buffer))?;
        self.start = 0;
        self.end = buffer.filled().len();
        self.source_ended = self.end == 0;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
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
}
