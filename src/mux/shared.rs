//! What a connection and its streams share: the streams' state, and the transport that carries them.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncBufRead, AsyncWrite, ReadBuf};

use super::frame::{HEAD, Head, Malformed, Parser};
use super::streams::{Streams, Violation, give_back};

/// What waits to be sent before streams have to wait for it.
const MOST_WAITING: usize = 64 * 1024;
/// How many frames are taken before others on the thread have their turn.
const FRAMES_OF_A_TURN: usize = 4 * 1024;
/// Data of this length is not gathered with what others say, but goes by itself, copied no more than without streams.
const BULK: usize = 4 * 1024;
/// What waits to be sent before there are no more streams: a peer that does not read makes us hold no more. Data alone, for which streams
/// wait, does not come to so much.
const MOST_ANSWERS: usize = 2 * MOST_WAITING;

/// What carries a connection: TLS, which shows what it has decrypted without a copy.
pub(super) trait Transport: AsyncBufRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncBufRead + AsyncWrite + Unpin + Send> Transport for T {}

/// Shared by a connection and its streams. They live on one thread as a rule: nobody waits for the lock.
#[derive(Debug)]
pub(super) struct Shared(Mutex<Core>);

pub(super) struct Core {
    pub(super) streams: Streams,
    /// Frames that wait to be sent.
    pub(super) out: BytesMut,
    /// None when the connection is over.
    transport: Option<Box<dyn Transport>>,
    unflushed: bool,
    /// How much was ever written, and flushed.
    written: u64,
    flushed: u64,
    /// A stream waits for room, and not for its peer.
    is_full: bool,
    /// Nothing is received until the peer has read some of what waits.
    is_held: bool,
    parser: Parser,
    /// The data that comes was left to its stream.
    is_offered: bool,
    /// The connection's own task, which is told what the transport has to say, also to a stream; and whether it was woken since it last ran.
    task: Waker,
    is_summoned: bool,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Over(pub(super) io::ErrorKind, pub(super) &'static str);

impl From<Violation> for Over {
    fn from(Violation(what): Violation) -> Self {
        Self(io::ErrorKind::InvalidData, what)
    }
}

impl From<io::Error> for Over {
    fn from(error: io::Error) -> Self {
        // What TLS could not read is of this kind too, and no violation of ours.
        let kind =
            if error.kind() == io::ErrorKind::InvalidData { io::ErrorKind::ConnectionAborted } else { error.kind() };
        Self(kind, "the connection was lost")
    }
}

impl Shared {
    pub(super) fn new(transport: impl Transport + 'static, is_client: bool) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Core {
            streams: Streams::new(is_client),
            out: BytesMut::new(),
            transport: Some(Box::new(transport)),
            unflushed: false,
            written: 0,
            flushed: 0,
            is_full: false,
            is_held: false,
            parser: Parser::default(),
            is_offered: false,
            task: Waker::noop().clone(),
            is_summoned: false,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something for a stream, after which the connection is to look for what there is to send or to read.
    pub(super) fn summoning<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        let mut core = self.lock();
        let done = act(&mut core);
        let task = core.summon();
        drop(core);
        if let Some(task) = task {
            task.wake();
        }
        done
    }
}

impl Core {
    /// The connection's task, if it has to be woken.
    pub(super) fn summon(&mut self) -> Option<Waker> {
        let is_first = !std::mem::replace(&mut self.is_summoned, true);
        is_first.then(|| self.task.clone())
    }

    /// The connection's task runs now.
    pub(super) fn runs(&mut self, cx: &Context<'_>) {
        self.is_summoned = false;
        if !self.task.will_wake(cx.waker()) {
            self.task = cx.waker().clone();
        }
    }

    /// The connection is over: nothing is sent or read any more, but for what was kept.
    pub(super) fn end(&mut self, Over(kind, why): Over, wake: &mut Vec<Waker>) {
        self.transport = None;
        self.streams.end(kind, why, wake);
    }

    /// The same when a stream has found that out: the connection's task waits for nothing any more, and is told.
    fn end_for_a_stream(&mut self, over: Over, wake: &mut Vec<Waker>) {
        self.end(over, wake);
        wake.extend(self.summon());
    }

    /// Takes what has come, until a stream was opened: that one. None when there is nothing more for now.
    pub(super) fn receive(&mut self, cx: &mut Context<'_>, wake: &mut Vec<Waker>) -> Result<Option<u32>, Over> {
        let Self { streams, out, transport, parser, is_offered, is_held, .. } = self;
        let Some(transport) = transport else {
            return Err(Over(io::ErrorKind::NotConnected, "the connection is over"));
        };
        for _frame in 0..FRAMES_OF_A_TURN {
            if let Some(opened) = streams.next_opened() {
                return Ok(Some(opened));
            }
            // A client has streams at will, and each is answered. It is the server alone who waits: were both to, nobody would go on.
            *is_held = !streams.is_client() && out.len() >= MOST_ANSWERS;
            if *is_held {
                return Ok(None);
            }
            let Poll::Ready(chunk) = Pin::new(&mut *transport).poll_fill_buf(cx)? else { return Ok(None) };
            if chunk.is_empty() {
                return Err(Over(io::ErrorKind::UnexpectedEof, "the connection has ended"));
            }
            let taken = if let Some((id, left)) = parser.data() {
                let data = chunk.get(..left).unwrap_or(chunk);
                // Its stream copies it to where it is wanted. One that does not come for it holds up nobody else: the task runs again
                // behind it, and keeps what is there.
                if data.len() >= BULK && !*is_offered && streams.offer(id, wake) {
                    *is_offered = true;
                    cx.waker().wake_by_ref();
                    return Ok(None);
                }
                *is_offered = false;
                streams.keep(id, data, wake);
                parser.took(data.len());
                data.len()
            } else {
                let (taken, head) = parser.head(chunk);
                match head {
                    None => {}
                    Some(Ok(head)) => streams.take(head, out, wake)?,
                    Some(Err(Malformed)) => return Err(Violation("a frame that is none").into()),
                }
                taken
            };
            Pin::new(&mut *transport).consume(taken);
        }
        cx.waker().wake_by_ref();
        Ok(None)
    }

    /// Opens one more stream, unless it is long that the peer has read what it is told.
    pub(super) fn open(&mut self, most: usize) -> Option<u32> {
        if self.out.len() < MOST_ANSWERS { self.streams.open(most, &mut self.out) } else { None }
    }

    /// Sends what there is to send.
    pub(super) fn send(&mut self, cx: &mut Context<'_>, wake: &mut Vec<Waker>) -> io::Result<()> {
        let sent = self.send_some(cx, wake);
        if self.is_held && self.out.len() < MOST_ANSWERS {
            self.is_held = false;
            wake.extend(self.summon());
        }
        sent
    }

    fn send_some(&mut self, cx: &mut Context<'_>, wake: &mut Vec<Waker>) -> io::Result<()> {
        let Some(transport) = &mut self.transport else { return Ok(()) };
        while !self.out.is_empty() {
            let Poll::Ready(written) = Pin::new(&mut *transport).poll_write(cx, &self.out)? else { return Ok(()) };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.out.advance(written);
            self.written += written as u64;
            self.unflushed = true;
        }
        give_back(&mut self.out);
        if self.unflushed {
            self.unflushed = Pin::new(&mut *transport).poll_flush(cx)?.is_pending();
        }
        if !self.unflushed {
            self.flushed = self.written;
        }
        if self.is_full && !self.unflushed {
            self.is_full = false;
            self.streams.wake_writers(wake);
        }
        Ok(())
    }

    /// Closes the transport in order, when everything was sent.
    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>, wake: &mut Vec<Waker>) -> Poll<io::Result<()>> {
        self.runs(cx);
        self.send(cx, wake)?;
        match &mut self.transport {
            Some(_) if !self.out.is_empty() => Poll::Pending,
            Some(transport) => Pin::new(transport).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Reads a stream: what was kept for it, and what comes for it and nobody has read.
    pub(super) fn poll_read(
        &mut self,
        id: u32,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
        wake: &mut Vec<Waker>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        self.streams.read_kept(id, into);
        let is_dry = self.read_what_comes(id, into).unwrap_or_else(|over| {
            self.end_for_a_stream(over, wake);
            true
        });
        let count = into.filled().len() - before;
        let was_credited = self.streams.took(id, count, &mut self.out);
        if was_credited || !is_dry {
            wake.extend(self.summon());
        }
        if count > 0 || into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.streams.nothing_to_read(id, cx.waker()).map_or(Poll::Pending, Poll::Ready)
    }

    /// Reads data of a stream from the transport: whether the connection's task will hear when there is more.
    fn read_what_comes(&mut self, id: u32, into: &mut ReadBuf<'_>) -> Result<bool, Over> {
        let Some(transport) = &mut self.transport else { return Ok(true) };
        if !self.streams.reads_what_comes(id) {
            return Ok(true);
        }
        let mut is_dry = true;
        let mut cx = Context::from_waker(&self.task);
        while let Some((_, left)) = self.parser.data().filter(|(next, _)| *next == id && into.remaining() > 0) {
            let Poll::Ready(chunk) = Pin::new(&mut *transport).poll_fill_buf(&mut cx)? else {
                return Ok(true);
            };
            if chunk.is_empty() {
                return Err(Over(io::ErrorKind::UnexpectedEof, "the connection has ended"));
            }
            let some = left.min(chunk.len()).min(into.remaining());
            into.put_slice(chunk.get(..some).unwrap_or_default());
            Pin::new(&mut *transport).consume(some);
            self.parser.took(some);
            self.is_offered = false;
            is_dry = false;
        }
        Ok(is_dry)
    }

    /// Sends some of `bytes` on a stream.
    pub(super) fn poll_write(
        &mut self,
        id: u32,
        cx: &Context<'_>,
        bytes: &[u8],
        wake: &mut Vec<Waker>,
    ) -> Poll<io::Result<usize>> {
        let length = self.streams.may_send(id, bytes.len())?;
        let data = bytes.get(..length as usize).unwrap_or_default();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let is_bulk = data.len() >= BULK;
        if is_bulk && let Err(error) = self.send_for_a_stream(wake) {
            self.end_for_a_stream(error.into(), wake);
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let has_room = if is_bulk { self.out.is_empty() && !self.unflushed } else { self.out.len() < MOST_WAITING };
        if data.is_empty() || !has_room {
            self.is_full |= !has_room;
            self.streams.wait_to_send(id, cx.waker());
            return Poll::Pending;
        }
        let head = Head::data(id, length);
        if !is_bulk {
            head.put(&mut self.out);
            self.out.extend_from_slice(data);
            wake.extend(self.summon());
        } else if let Err(error) = self.send_by_itself(head, data, wake) {
            self.end_for_a_stream(error.into(), wake);
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        } else {
            self.streams.had_its_turn(id);
        }
        self.streams.sent(id, length, self.written + self.out.len() as u64);
        Poll::Ready(Ok(data.len()))
    }

    /// Ends our direction of a stream; ready when that is sent, whatever others have said since.
    pub(super) fn poll_shut(&mut self, id: u32, cx: &Context<'_>, wake: &mut Vec<Waker>) -> Poll<io::Result<()>> {
        let end = self.streams.shut(id, &mut self.out, (self.written, self.flushed))?;
        if self.flushed >= end {
            return Poll::Ready(Ok(()));
        }
        self.streams.stands()?;
        self.is_full = true;
        self.streams.wait_to_send(id, cx.waker());
        wake.extend(self.summon());
        Poll::Pending
    }

    /// Sends what waits, on behalf of a stream: the connection's task hears of the rest.
    fn send_for_a_stream(&mut self, wake: &mut Vec<Waker>) -> io::Result<()> {
        let task = self.task.clone();
        self.send(&mut Context::from_waker(&task), wake)
    }

    /// Sends a frame of which nothing is gathered: nothing may wait before it. What the transport does not take is kept.
    fn send_by_itself(&mut self, head: Head, data: &[u8], wake: &mut Vec<Waker>) -> io::Result<()> {
        let Some(transport) = &mut self.transport else { return Err(io::ErrorKind::NotConnected.into()) };
        let (head, mut cx) = (head.to_bytes(), Context::from_waker(&self.task));
        let slices = [IoSlice::new(&head), IoSlice::new(data)];
        let written = match Pin::new(&mut *transport).poll_write_vectored(&mut cx, &slices)? {
            Poll::Ready(written) => written,
            Poll::Pending => 0,
        };
        self.written += written as u64;
        self.out.extend_from_slice(head.get(written..).unwrap_or_default());
        self.out.extend_from_slice(data.get(written.saturating_sub(HEAD)..).unwrap_or_default());
        self.unflushed = Pin::new(&mut *transport).poll_flush(&mut cx)?.is_pending();
        if !self.unflushed {
            self.flushed = self.written;
        }
        if !self.out.is_empty() {
            // What is left has to be tried once more for the task to be told.
            return self.send_for_a_stream(wake);
        }
        Ok(())
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("streams", &self.streams).field("waiting", &self.out.len()).finish_non_exhaustive()
    }
}
