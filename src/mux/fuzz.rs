//! A whole connection for a fuzzer: whatever comes, it goes on until all was taken, or it ends.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, MOST_STREAMS, Stream};

/// Chooses, the same way for the same bytes.
#[derive(Debug, Clone)]
struct Dice(u64);

impl Dice {
    const fn throw(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // A fuzzer's numbers are small.
        (self.0 >> 33) as usize % sides
    }
}

/// Shows some of the bytes at a time, and takes what is written, or not now.
struct Wire {
    bytes: Vec<u8>,
    shown: usize,
    dice: Dice,
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Poll::Ready(chunk) = self.as_mut().poll_fill_buf(cx)? else { return Poll::Pending };
        let some = chunk.len().min(into.remaining());
        into.put_slice(chunk.get(..some).unwrap_or_default());
        self.consume(some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncBufRead for Wire {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        if this.dice.throw(4) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let most = if this.dice.throw(2) == 0 { 20 } else { 20_000 };
        let end = this.shown + 1 + this.dice.throw(most);
        Poll::Ready(Ok(this.bytes.get(this.shown..end.min(this.bytes.len())).unwrap_or_default()))
    }

    fn consume(mut self: Pin<&mut Self>, count: usize) {
        self.shown += count;
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.dice.throw(40) {
            0 => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            1..10 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            _ => Poll::Ready(Ok(bytes.len().min(1 + self.dice.throw(9_000)))),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A task as far as it is to be polled.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Someone with a waker, polled when it was woken.
struct Task<T> {
    it: T,
    flag: Arc<Flag>,
    waker: Waker,
}

impl<T> Task<T> {
    fn new(it: T) -> Self {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        Self { it, waker: Waker::from(Arc::clone(&flag)), flag }
    }

    fn is_woken(&self) -> bool {
        self.flag.0.swap(false, Ordering::Relaxed)
    }
}

impl Task<Stream> {
    /// Does something with the stream: whether it is still wanted.
    fn act(&mut self, dice: &mut Dice) -> bool {
        let Self { it, flag, waker } = self;
        let (mut stream, mut cx) = (Pin::new(it), Context::from_waker(waker));
        let mut space = [0; 6_000];
        let some = space.get_mut(..1 + dice.throw(6_000)).unwrap_or_default();
        match dice.throw(8) {
            0 => return false,
            // It was offered something, and does not come for it.
            4 => return true,
            1 => drop(stream.as_mut().poll_shutdown(&mut cx)),
            2 | 3 => drop(stream.as_mut().poll_write(&mut cx, some)),
            _ => {}
        }
        let mut into = ReadBuf::new(some);
        let read = stream.poll_read(&mut cx, &mut into);
        if read.is_ready() {
            flag.0.store(true, Ordering::Relaxed);
        }
        // At its end or its error, nobody wants it.
        read.is_pending() || !into.filled().is_empty()
    }
}

/// What a fuzzer feeds a server's end of a connection; panics where it goes wrong. The first 8 bytes say how it is cut and used.
#[doc(hidden)]
pub fn fuzz_connection(bytes: &[u8]) {
    let Some((seed, bytes)) = bytes.split_first_chunk() else { return };
    let mut dice = Dice(u64::from_be_bytes(*seed) | 1);
    let wire = Wire { bytes: bytes.to_vec(), shown: 0, dice: dice.clone() };
    let (mut connection, mut streams) = (Task::new(Connection::server(wire)), Vec::<Task<Stream>>::new());
    loop {
        let mut is_idle = true;
        if connection.is_woken() {
            is_idle = false;
            match connection.it.poll_next(&mut Context::from_waker(&connection.waker)) {
                Poll::Ready(Some(stream)) => {
                    connection.flag.0.store(true, Ordering::Relaxed);
                    streams.push(Task::new(stream));
                    assert!(streams.len() <= 2 * MOST_STREAMS, "as many streams as the peer likes");
                }
                Poll::Ready(None) => break,
                Poll::Pending => {}
            }
        }
        streams.retain_mut(|stream| {
            let was_woken = stream.is_woken();
            is_idle &= !was_woken;
            !was_woken || stream.act(&mut dice)
        });
        if is_idle {
            // The wire waits for nobody: it is for one of those that are over that the connection does.
            assert!(streams.len() == 2 * MOST_STREAMS, "everybody waits, and nobody will be woken");
            streams.pop();
        }
    }
    // It is over: nobody waits for anything.
    for mut stream in streams {
        let (mut space, mut cx) = ([0; 4_096], Context::from_waker(Waker::noop()));
        let is_over = (0..1_000).any(|_| {
            let mut into = ReadBuf::new(&mut space);
            let read = Pin::new(&mut stream.it).poll_read(&mut cx, &mut into);
            assert!(read.is_ready(), "a stream of a connection that is over waits");
            into.filled().is_empty()
        });
        assert!(is_over, "more was kept for a stream than may be");
    }
}
