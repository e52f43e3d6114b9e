//! Reading more than is asked for, though not more than one TLS record may have.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffers::{AHEAD, Buffers};

/// A stream from which as much is read at once as has come, however little is asked for.
///
/// It stands below rustls, which asks for 4 KiB at a time: a full record (16 KiB, RFC 8446, 5.1) would take five system calls. A buffer
/// is held only while there is something left in it.
#[derive(Debug)]
pub struct ReadAhead<S> {
    stream: S,
    left: Option<Left>,
}

/// What nobody has asked for yet.
#[derive(Debug)]
struct Left {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Left {
    /// Moves what there is room for; true if nothing is left.
    fn pass(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let some = self.buffer.get(self.start..self.end).unwrap_or_default();
        let some = some.get(..into.remaining()).unwrap_or(some);
        into.put_slice(some);
        self.start += some.len();
        self.start >= self.end
    }
}

impl<S> ReadAhead<S> {
    /// Reads ahead from `stream`.
    pub const fn new(stream: S) -> Self {
        Self { stream, left: None }
    }

    /// The stream itself. What has been read ahead is not in it any more.
    pub const fn inner(&self) -> &S {
        &self.stream
    }

    fn pass(&mut self, mut left: Left, into: &mut ReadBuf<'_>) {
        if left.pass(into) {
            AHEAD.with(|ahead| ahead.give_back(left.buffer));
        } else {
            self.left = Some(left);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(left) = self.left.take() {
            self.pass(left, into);
            return Poll::Ready(Ok(()));
        }
        let mut buffer = AHEAD.with(Buffers::take);
        if into.remaining() >= buffer.len() {
            AHEAD.with(|ahead| ahead.give_back(buffer));
            return Pin::new(&mut self.stream).poll_read(cx, into);
        }
        let mut read = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut read);
        let end = read.filled().len();
        self.pass(Left { buffer, start: 0, end }, into);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> Drop for ReadAhead<S> {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            AHEAD.with(|ahead| ahead.give_back(left.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    proptest! {
        #[test]
        fn bytes_come_as_they_were_sent_however_little_is_asked_for(
            bytes in prop::collection::vec(any::<u8>(), 0..3_000),
            pipe in 1_usize..4_000,
            asked in prop::collection::vec(1_usize..500, 1..8),
        ) {
            let (mut near, far) = duplex(pipe);
            let expected = bytes.clone();
            let received = block_on(async move {
                let sent = async {
                    near.write_all(&bytes).await.unwrap();
                    near.shutdown().await.unwrap();
                };
                let read = async {
                    let mut ahead = ReadAhead::new(far);
                    let mut received = Vec::new();
                    for size in asked.iter().cycle() {
                        let mut some = vec![0; *size];
                        let count = ahead.read(&mut some).await.unwrap();
                        if count == 0 {
                            break;
                        }
                        received.extend_from_slice(&some[..count]);
                    }
                    received
                };
                tokio::join!(sent, read).1
            });
            prop_assert_eq!(received, expected);
        }
    }

    /// Counts how often it is read.
    struct Counted<'a>(&'a [u8], usize);

    impl AsyncRead for Counted<'_> {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.1 += 1;
            Pin::new(&mut self.0).poll_read(cx, into)
        }
    }

    #[test]
    fn a_record_is_read_at_once_and_a_buffer_is_held_only_while_something_is_left() {
        let record = vec![7; 16 * 1024];
        let mut ahead = ReadAhead::new(Counted(&record, 0));
        block_on(async {
            for _ in 0..3 {
                ahead.read_exact(&mut [0; 4 * 1024]).await.unwrap();
            }
            assert_eq!((ahead.stream.1, ahead.left.is_some(), AHEAD.with(Buffers::kept)), (1, true, 0));
            ahead.read_exact(&mut [0; 4 * 1024]).await.unwrap();
        });
        assert_eq!((ahead.stream.1, ahead.left.is_none(), AHEAD.with(Buffers::kept)), (1, true, 1));
    }

    #[test]
    fn an_end_and_a_failure_are_told_as_they_are() {
        struct Broken;
        impl AsyncRead for Broken {
            fn poll_read(self: Pin<&mut Self>, _cx: &mut Context<'_>, _into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
        }
        block_on(async {
            assert_eq!(ReadAhead::new(&b""[..]).read(&mut [0; 8]).await.unwrap(), 0);
            let error = ReadAhead::new(Broken).read(&mut [0; 8]).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        });
    }
}
