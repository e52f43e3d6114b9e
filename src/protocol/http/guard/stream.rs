//! The guard on a connection's byte stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::framer::{Framer, Stop};
use super::handle::{GuardHandle, Shared};
use super::verdict::{HeadLimits, HeadRefusal};

/// Stands between a transport and hyper's HTTP/1 server; see the [module](super).
#[derive(Debug)]
pub struct Guard<S> {
    io: S,
    framer: Framer,
    shared: Arc<Shared>,
    phase: Phase,
    /// Bytes that came and may not pass yet: a part of a head, or what follows a request for an upgrade.
    held: BytesMut,
    /// How many bytes at the front of `held` may pass after all.
    released: usize,
    clock: Clock,
}

#[derive(Debug)]
enum Phase {
    /// The framer says what passes.
    Judged,
    /// After a refusal: how much of the stand-in head has been given to hyper.
    Refused { given: usize, drained: usize },
    /// After an upgrade.
    Raw,
}

/// What hyper reads in place of a refused head. The service knows from its handle what this request is.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused.invalid\r\nconnection: close\r\n\r\n";

impl<S> Guard<S> {
    /// Guards a connection of which no byte was read.
    pub fn new(io: S, limits: HeadLimits) -> (Self, GuardHandle) {
        let shared = Arc::<Shared>::default();
        let handle = GuardHandle(Arc::clone(&shared));
        let clock = Clock::new(limits.header_read_timeout, limits.idle_timeout);
        let (held, framer) = (BytesMut::new(), Framer::new(limits));
        (Self { io, framer, shared, phase: Phase::Judged, held, released: 0, clock }, handle)
    }

    /// The transport, and the bytes that were read from it and not passed on: after an upgrade they come first.
    pub fn into_inner(self) -> (S, Bytes) {
        (self.io, self.held.freeze())
    }

    /// Whether a head has begun of which not all bytes are there. One empty line before it is not yet a head.
    fn head_begun(&self) -> bool {
        self.framer.at_head() && !matches!(self.held.as_ref(), b"" | b"\r" | b"\r\n")
    }

    /// Gives out what was held and may pass.
    fn give_released(&mut self, buf: &mut ReadBuf<'_>) {
        let here = self.released.min(buf.remaining());
        buf.put_slice(self.held.get(..here).unwrap_or_default());
        self.released -= here;
        self.held.advance(here);
        if self.held.is_empty() {
            // An idle connection holds no buffer.
            self.held = BytesMut::new();
        }
    }

    /// Judges what is held, after more of it came.
    fn judge_held(&mut self) {
        let shared = &self.shared;
        self.released = self.framer.advance(&self.held, |facts| shared.pass(facts));
    }

    /// Judges what was read into `buf` after `before`; what may not pass is taken out of it again. Says whether some may.
    fn judge_read(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> bool {
        let new = buf.filled().get(before..).unwrap_or_default();
        if self.held.is_empty() {
            // The usual case: a whole head, or body bytes, stay where the transport has put them.
            let shared = &self.shared;
            let released = self.framer.advance(new, |facts| shared.pass(facts));
            self.held.extend_from_slice(new.get(released..).unwrap_or_default());
            buf.set_filled(before + released);
            released > 0
        } else {
            self.held.extend_from_slice(new);
            buf.set_filled(before);
            self.judge_held();
            self.released > 0
        }
    }

    fn refuse(&mut self, refusal: HeadRefusal) {
        self.held = BytesMut::new();
        self.shared.refuse(refusal);
        self.phase = Phase::Refused { given: 0, drained: 0 };
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Reads once more and judges. `Ready(true)`: the inbound side has ended.
    fn poll_more(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        match Pin::new(&mut self.io).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return self.poll_clock(cx).map(Ok),
        }
        if buf.filled().len() > before {
            let was_begun = self.head_begun();
            if self.judge_read(buf, before) || !was_begun {
                self.clock.stop();
            }
            return Poll::Ready(Ok(false));
        }
        if self.head_begun() {
            self.framer.refuse(HeadRefusal::bad("head-incomplete", "the connection ended within a head"));
            return Poll::Ready(Ok(false));
        }
        Poll::Ready(Ok(true))
    }

    /// `Ready(false)`: the head took too long, and is refused. `Ready(true)`: the connection was idle too long.
    fn poll_clock(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if !self.framer.at_head() {
            return Poll::Pending;
        }
        if !self.head_begun() {
            let busy = self.shared.is_busy();
            return self.clock.poll_idle(cx, busy).map(|()| true);
        }
        ready!(self.clock.poll_head(cx));
        let limit = self.clock.head;
        let message = format!("request head was not complete {limit:?} after its first byte");
        self.framer.refuse(HeadRefusal::new(408, "head-timeout", message));
        Poll::Ready(false)
    }

    /// Gives the stand-in head; then reads what the peer still sends, so that closing does not reset the connection
    /// under the reply. Never ends by itself: an end would make hyper drop the request it is answering.
    fn poll_refused(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Phase::Refused { given, drained } = &mut self.phase else { return Poll::Pending };
        let rest = STAND_IN.get(*given..).unwrap_or_default();
        if let Some(part) = rest.get(..rest.len().min(buf.remaining())).filter(|part| !part.is_empty()) {
            buf.put_slice(part);
            *given += part.len();
            return Poll::Ready(Ok(()));
        }
        let _: Poll<()> = poll_drain(&mut self.io, cx, drained);
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            if this.released > 0 {
                this.give_released(buf);
            }
            if buf.filled().len() > before {
                return Poll::Ready(Ok(()));
            }
            match (&this.phase, this.framer.stop()) {
                (Phase::Raw, _) => return Pin::new(&mut this.io).poll_read(cx, buf),
                (Phase::Refused { .. }, _) => return this.poll_refused(cx, buf),
                (Phase::Judged, Some(Stop::Refused(refusal))) => {
                    let refusal = refusal.clone();
                    this.refuse(refusal);
                }
                (Phase::Judged, Some(Stop::Broken(refusal))) => {
                    this.shared.break_off(refusal.clone());
                    return Poll::Ready(Err(refusal.clone().into_io()));
                }
                (Phase::Judged, Some(Stop::Withheld)) => match this.shared.upgrade_decision(cx) {
                    None => return Poll::Pending,
                    Some(true) => {
                        this.phase = Phase::Raw;
                        this.released = this.held.len();
                    }
                    Some(false) => {
                        this.framer.resume();
                        this.judge_held();
                    }
                },
                (Phase::Judged, None) => {
                    if ready!(this.poll_more(cx, buf))? {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Shuts the transport down. If the peer was cut off in the middle of a request (refused, or answered before its
    /// body was read), its bytes are read and dropped for a while: closing a TCP socket with unread bytes resets the
    /// connection, and the reply may be lost with it (RFC 9112, 9.6).
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        let cut_off = match this.phase {
            Phase::Judged => !this.framer.at_head() || !this.held.is_empty(),
            Phase::Refused { .. } => true,
            Phase::Raw => false,
        };
        if !cut_off {
            return Poll::Ready(Ok(()));
        }
        if this.clock.poll_linger(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let drained = match &mut this.phase {
            Phase::Refused { drained, .. } => drained,
            Phase::Judged | Phase::Raw => {
                this.phase = Phase::Refused { given: STAND_IN.len(), drained: 0 };
                return Pin::new(this).poll_shutdown(cx);
            }
        };
        poll_drain(&mut this.io, cx, drained).map(Ok)
    }
}

/// Reads and drops. Ready once the peer has ended, failed, or sent more than is worth reading.
fn poll_drain<S: AsyncRead + Unpin>(io: &mut S, cx: &mut Context<'_>, drained: &mut usize) -> Poll<()> {
    const MOST: usize = 4 * 1024 * 1024;
    let mut scratch = [0; 2_048];
    while *drained < MOST {
        let mut scratch = ReadBuf::new(&mut scratch);
        match ready!(Pin::new(&mut *io).poll_read(cx, &mut scratch)) {
            Ok(()) if !scratch.filled().is_empty() => *drained += scratch.filled().len(),
            Ok(()) | Err(_) => *drained = MOST,
        }
    }
    Poll::Ready(())
}

/// One timer for a connection. It is armed for the idle timeout and left alone while requests come and go; when it
/// fires, the time that really passed decides, and it is armed for the rest. Only a head that does not come in one
/// piece arms it earlier.
#[derive(Debug)]
struct Clock {
    head: Duration,
    idle: Duration,
    since: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    lingering: bool,
}

impl Clock {
    fn new(head: Duration, idle: Duration) -> Self {
        Self { head, idle, since: None, sleep: None, lingering: false }
    }

    /// What was waited for has come.
    fn stop(&mut self) {
        self.since = None;
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>, busy: bool) -> Poll<()> {
        if busy {
            self.since = None;
            return self.stay_awake(cx);
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.poll_until(cx, since + self.idle)
    }

    /// While a request is answered the timer goes on, so that the end of the answer is not missed.
    fn stay_awake(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        const AT_LEAST: Duration = Duration::from_secs(1);
        if let Some(sleep) = &mut self.sleep
            && sleep.as_mut().poll(cx).is_ready()
        {
            sleep.as_mut().reset(Instant::now() + self.idle.max(AT_LEAST));
            let _: Poll<()> = sleep.as_mut().poll(cx);
        }
        Poll::Pending
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.poll_until(cx, since + self.head)
    }

    /// Ready once, for [`LINGER`] after the first call, the peer went on sending.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        const LINGER: Duration = Duration::from_secs(2);
        if !std::mem::replace(&mut self.lingering, true) {
            self.since = Some(Instant::now());
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        self.poll_until(cx, since + LINGER)
    }

    fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}
