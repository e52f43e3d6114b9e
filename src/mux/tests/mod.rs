//! Two ends in memory, and ends whose peer writes bytes by hand.

mod endings;
mod flows;
mod fuzzing;
mod limits;
mod violations;
mod windows;

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, DuplexStream, duplex};
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, yield_now};

use super::*;

/// Kinds of frames, by hand.
const OPEN: u8 = 1;
const DATA: u8 = 2;
const END: u8 = 3;
const RESET: u8 = 4;
const CREDIT: u8 = 5;
const LEAVE: u8 = 6;
const ACCEPT: u8 = 7;

/// What a stream takes at first.
const FIRST: usize = 64 * 1024;

/// How a connection that was driven went over: by violation, or in another way.
type Driven = JoinHandle<Option<&'static str>>;

/// Both ends of a connection, driven until the client has left and all streams have ended.
struct Pair {
    opener: Opener,
    first: Option<Stream>,
    opened: mpsc::UnboundedReceiver<Stream>,
    leave: Arc<Notify>,
    client: Driven,
    server: Driven,
}

impl Pair {
    /// Over a pipe that holds `size` bytes.
    fn over(size: usize) -> Self {
        let (near, far) = pipe(size);
        let (connection, opener, first) = Connection::client(near);
        let client = drive_client(connection, opener.clone());
        let (server, opened, leave) = drive_server(Connection::server(far));
        Self { opener, first: Some(first), opened, leave, client, server }
    }

    /// The next stream, both ends of it.
    async fn stream(&mut self) -> (Stream, Stream) {
        let near = self.first.take().or_else(|| self.opener.open(MOST_STREAMS)).unwrap();
        (near, self.opened.recv().await.unwrap())
    }

    /// Both ends part in order.
    async fn part(mut self) {
        drop(self.first.take());
        self.opener.close();
        assert_eq!((self.client.await.unwrap(), self.server.await.unwrap()), (None, None));
        assert!(self.opened.recv().await.is_none(), "no stream came that was not taken");
    }
}

/// Runs a test on one thread, and not for ever.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await.expect("it hangs") });
}

fn pipe(size: usize) -> (BufReader<DuplexStream>, BufReader<DuplexStream>) {
    let (near, far) = duplex(size);
    (BufReader::with_capacity(16 * 1024, near), BufReader::with_capacity(16 * 1024, far))
}

fn drive_client(mut connection: Connection, opener: Opener) -> Driven {
    tokio::spawn(async move {
        let is_over = poll_fn(|cx| match connection.poll_next(cx) {
            Poll::Ready(opened) => {
                assert!(opened.is_none(), "a server opens nothing");
                Poll::Ready(true)
            }
            Poll::Pending if opener.is_over() && connection.is_idle() => Poll::Ready(false),
            Poll::Pending => Poll::Pending,
        })
        .await;
        finish(connection, is_over).await
    })
}

fn drive_server(mut connection: Connection) -> (Driven, mpsc::UnboundedReceiver<Stream>, Arc<Notify>) {
    let (tell, opened) = mpsc::unbounded_channel();
    let leave = Arc::new(Notify::new());
    let told = Arc::clone(&leave);
    let driven = tokio::spawn(async move {
        let mut told = Box::pin(told.notified());
        let mut has_left = false;
        let is_over = poll_fn(|cx| {
            if !has_left && told.as_mut().poll(cx).is_ready() {
                has_left = true;
                connection.leave();
            }
            loop {
                match connection.poll_next(cx) {
                    Poll::Ready(Some(stream)) => drop(tell.send(stream)),
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Pending if connection.is_done() => return Poll::Ready(false),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        finish(connection, is_over).await
    });
    (driven, opened, leave)
}

async fn finish(connection: Connection, is_over: bool) -> Option<&'static str> {
    let violation = connection.violation();
    if !is_over {
        // The peer may have cut it by now.
        let _closed = connection.close().await;
    }
    violation
}

/// Lets all others do what they can do without us.
async fn settle() {
    for _ in 0..300 {
        yield_now().await;
    }
}

fn frame(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    let [_, a, b, c] = stream.to_be_bytes();
    let mut bytes = vec![kind, a, b, c];
    bytes.extend(number.to_be_bytes());
    bytes
}

fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
    [frame(DATA, stream, u32::try_from(bytes.len()).unwrap()), bytes.to_vec()].concat()
}

/// A head that our end sends, and its data; that streams are accepted is passed over.
async fn said(peer: &mut (impl tokio::io::AsyncRead + Unpin)) -> (u8, u32, u32, Vec<u8>) {
    loop {
        let said = said_at_all(peer).await;
        if said.0 != ACCEPT {
            return said;
        }
    }
}

/// A head that our end sends, and its data.
async fn said_at_all(peer: &mut (impl tokio::io::AsyncRead + Unpin)) -> (u8, u32, u32, Vec<u8>) {
    let mut head = [0; 8];
    peer.read_exact(&mut head).await.unwrap();
    let [kind, a, b, c, d, e, f, g] = head;
    let number = u32::from_be_bytes([d, e, f, g]);
    let mut bytes = vec![0; if kind == DATA { number as usize } else { 0 }];
    peer.read_exact(&mut bytes).await.unwrap();
    (kind, u32::from_be_bytes([0, a, b, c]), number, bytes)
}

/// Writes for as long as something is taken: how much that was.
async fn stuff(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> usize {
    let (mut total, mut idle) = (0, 0);
    while idle < 300 {
        match Pin::new(&mut *stream).poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
            Poll::Ready(count) => (total, idle) = (total + count.unwrap(), 0),
            Poll::Pending => idle += 1,
        }
        yield_now().await;
    }
    total
}
