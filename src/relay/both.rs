//! Bytes both ways between two streams, with half-close, an idle limit and counts.

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Woken;
use super::buffers::{BULK, Buffers};

/// How often one direction fills a buffer before others on the thread have their turn.
const ROUNDS_OF_A_TURN: usize = 16;

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
pub async fn relay_counted<A, B>(first: A, second: B, idle: Duration, count: &Moved) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    relay_settled(first, second, idle, count, || {}).await
}

/// The same, with `settle` called when every byte of both directions has been passed on, and before the end of the last one
/// is: whoever sees the end finds what `settle` did. A relay that ends otherwise does not call it.
///
/// # Cancel safety
/// As [`relay_counted`].
pub async fn relay_settled<A, B>(
    mut first: A,
    mut second: B,
    idle: Duration,
    count: &Moved,
    mut settle: impl FnMut(),
) -> Ended
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut both = Both::default();
    let mut timer = Idle::new(idle);
    poll_fn(|cx| {
        let moved = both.forth.moved + both.back.moved;
        match both.poll(cx, Pin::new(&mut first), Pin::new(&mut second), count, &mut settle) {
            Poll::Ready(Ok(())) => Poll::Ready(Ended::Closed),
            Poll::Ready(Err(error)) => Poll::Ready(Ended::Failed(error)),
            Poll::Pending => timer.poll(cx, both.forth.moved + both.back.moved > moved),
        }
    })
    .await
}

/// When `length` has passed since `from`; far away if it has no end that the clock could show.
fn deadline(from: Instant, length: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 3_600);
    from.checked_add(length).unwrap_or(from + FAR)
}

/// The time since anything has moved. The timer is not set anew for every byte, but when it goes off too early.
struct Idle {
    limit: Duration,
    last_moved: Instant,
    timer: Woken<Pin<Box<Sleep>>>,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self { limit, last_moved: now, timer: Woken::new(Box::pin(sleep_until(deadline(now, limit)))) }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: bool) -> Poll<Ended> {
        if moved {
            self.last_moved = Instant::now();
        }
        while Pin::new(&mut self.timer).poll(cx).is_ready() {
            let due = deadline(self.last_moved, self.limit);
            if due <= Instant::now() {
                return Poll::Ready(Ended::Idle);
            }
            self.timer.inner_mut().as_mut().reset(due);
        }
        Poll::Pending
    }
}

/// Both directions.
#[derive(Default)]
struct Both {
    forth: Pump,
    back: Pump,
    settled: bool,
}

impl Both {
    fn poll<A: AsyncRead + AsyncWrite, B: AsyncRead + AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut first: Pin<&mut A>,
        mut second: Pin<&mut B>,
        count: &Moved,
        settle: &mut impl FnMut(),
    ) -> Poll<io::Result<()>> {
        let forth = self.forth.poll(cx, first.as_mut(), second.as_mut());
        let back = self.back.poll(cx, second.as_mut(), first.as_mut());
        count.forth.store(self.forth.moved, Ordering::Relaxed);
        count.back.store(self.back.moved, Ordering::Relaxed);
        forth.and(back)?;
        if self.forth.is_finished() && self.back.is_finished() && !self.settled {
            self.settled = true;
            settle();
        }
        // The end of one direction is passed on while the other goes on.
        if self.forth.is_finished() && (self.settled || !self.back.is_finished()) {
            self.forth.poll_close(cx, second)?;
        }
        if self.back.is_finished() && (self.settled || !self.forth.is_finished()) {
            self.back.poll_close(cx, first)?;
        }
        if self.forth.closed && self.back.closed { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

/// One direction.
#[derive(Default)]
struct Pump {
    /// Bytes that the destination has not taken yet, and the buffer they are in.
    pending: Option<Pending>,
    unflushed: bool,
    source_ended: bool,
    /// What the source failed with, behind what is pending.
    failed: Option<io::Error>,
    closed: bool,
    moved: u64,
}

struct Pending {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Pump {
    /// Whether the source has ended, and everything before its end was written.
    const fn is_finished(&self) -> bool {
        self.source_ended && self.pending.is_none()
    }

    /// Passes on what there is, as far as the destination takes it.
    fn poll<R: AsyncRead, W: AsyncWrite>(
        &mut self,
        cx: &mut Context<'_>,
        mut from: Pin<&mut R>,
        mut to: Pin<&mut W>,
    ) -> io::Result<()> {
        for _round in 0..ROUNDS_OF_A_TURN {
            if self.poll_write_out(cx, to.as_mut())?.is_pending() || self.source_ended {
                return Ok(());
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.poll_fill(cx, from.as_mut())?.is_pending() {
                // What was written must not wait for more to come.
                if self.poll_write_out(cx, to.as_mut())?.is_ready() && self.unflushed {
                    self.unflushed = to.as_mut().poll_flush(cx)?.is_pending();
                }
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Passes on the end of the source.
    fn poll_close<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, to: Pin<&mut W>) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        match to.poll_shutdown(cx) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.closed = true,
            // It has gone already: nobody is there to be told.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::NotConnected => self.closed = true,
            Poll::Ready(Err(error)) => return Err(error),
        }
        Ok(())
    }

    /// Ready when nothing is left to be written.
    fn poll_write_out<W: AsyncWrite>(&mut self, cx: &mut Context<'_>, mut to: Pin<&mut W>) -> io::Result<Poll<()>> {
        let Some(pending) = &mut self.pending else { return Ok(Poll::Ready(())) };
        while pending.start < pending.end {
            let bytes = pending.buffer.get(pending.start..pending.end).unwrap_or_default();
            let Poll::Ready(written) = to.as_mut().poll_write(cx, bytes)? else { return Ok(Poll::Pending) };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            pending.start += written;
            self.moved += written as u64;
            self.unflushed = true;
        }
        if let Some(pending) = self.pending.take() {
            BULK.with(|bulk| bulk.give_back(pending.buffer));
        }
        Ok(Poll::Ready(()))
    }

    /// Reads until nothing is there or the buffer is full: TLS gives one record at a time, and they are written together.
    fn poll_fill<R: AsyncRead>(&mut self, cx: &mut Context<'_>, mut from: Pin<&mut R>) -> io::Result<Poll<()>> {
        let mut buffer = BULK.with(Buffers::take);
        let mut read = ReadBuf::new(&mut buffer);
        let polled = loop {
            let before = read.filled().len();
            match from.as_mut().poll_read(cx, &mut read) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Ok(())) => {}
                // What came before it is passed on first.
                Poll::Ready(Err(error)) => {
                    self.failed = Some(error);
                    break Poll::Ready(());
                }
            }
            if read.filled().len() == before {
                self.source_ended = true;
                break Poll::Ready(());
            }
            if read.remaining() == 0 {
                break Poll::Ready(());
            }
        };
        let end = read.filled().len();
        if end > 0 {
            self.pending = Some(Pending { buffer, start: 0, end });
        } else {
            BULK.with(|bulk| bulk.give_back(buffer));
        }
        Ok(polled)
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
}
