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
mod tests;
