//! Puts together what HTTP/2 writes frame by frame.
//!
//! h2 flushes after every DATA frame of 256 bytes or more, so a connection that answers thirty requests at once makes thirty
//! TLS records and thirty system calls. Here a flush only takes note; the bytes go out when the connection's task is polled
//! again, which is after everybody else who is ready has had a turn and has added frames of their own.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::relay::RECORD_PAYLOAD;

/// As much as two TLS records hold. More is written at once.
const MOST: usize = 2 * RECORD_PAYLOAD;

/// A stream whose small writes go out together.
///
/// For a connection whose task reads whenever it is polled, as h2's does: reading is what sends the bytes that were flushed before.
#[derive(Debug)]
pub(super) struct Coalesce<S> {
    io: S,
    held: Vec<u8>,
    sent: usize,
    due: bool,
}

impl<S> Coalesce<S> {
    pub(super) const fn new(io: S) -> Self {
        Self { io, held: Vec::new(), sent: 0, due: false }
    }
}

impl<S: AsyncWrite + Unpin> Coalesce<S> {
    /// Sends what is held. Afterwards nothing is, and an idle connection keeps no buffer.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.held.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.held = Vec::new();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room for `more` bytes. Whether they are to be held.
    fn poll_room(&mut self, cx: &mut Context<'_>, more: usize) -> Poll<io::Result<bool>> {
        if self.held.len() + more > MOST {
            ready!(self.poll_send(cx))?;
        }
        Poll::Ready(Ok(more <= MOST))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalesce<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.due
            && let Poll::Ready(sent) = this.poll_send(cx)
        {
            sent?;
            // A flush that has to wait goes on at the next poll; the stream below wakes the task for it.
            this.due = Pin::new(&mut this.io).poll_flush(cx)?.is_pending();
        }
        Pin::new(&mut this.io).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesce<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if !ready!(this.poll_room(cx, bytes.len()))? {
            return Pin::new(&mut this.io).poll_write(cx, bytes);
        }
        this.held.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let length = slices.iter().map(|slice| slice.len()).sum();
        if !ready!(this.poll_room(cx, length))? {
            return Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        }
        slices.iter().for_each(|slice| this.held.extend_from_slice(slice));
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.held.is_empty() {
            return Pin::new(&mut this.io).poll_flush(cx);
        }
        if !this.due {
            this.due = true;
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_flushed_goes_out_when_the_task_reads_again() {
        let (near, mut far) = duplex(64 * 1024);
        let mut stream = Coalesce::new(near);
        for part in [&b"HEADERS"[..], b"DATA", b"HEADERS"] {
            stream.write_all(part).await.unwrap();
            stream.flush().await.unwrap();
        }
        assert!(stream.due);
        let mut nothing = [0; 1];
        let mut buffer = ReadBuf::new(&mut nothing);
        poll_fn(|cx| Poll::Ready(Pin::new(&mut stream).poll_read(cx, &mut buffer).is_pending())).await;
        assert!(!stream.due);
        let mut got = [0; 18];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"HEADERSDATAHEADERS");
    }

    #[tokio::test]
    async fn a_large_write_goes_through_behind_what_was_held() {
        let (near, mut far) = duplex(1024 * 1024);
        let mut stream = Coalesce::new(near);
        stream.write_all(b"small").await.unwrap();
        stream.write_all(&[b'x'; 100_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 100_005);
        assert!(got.starts_with(b"smallx"));
    }

    #[tokio::test]
    async fn closing_loses_nothing_that_was_held() {
        let (near, mut far) = duplex(16);
        let mut stream = Coalesce::new(near);
        stream.write_all(b"more than the transport takes at once").await.unwrap();
        stream.flush().await.unwrap();
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            far.read_to_end(&mut got).await.unwrap();
            got
        });
        stream.shutdown().await.unwrap();
        drop(stream);
        assert_eq!(reading.await.unwrap(), b"more than the transport takes at once");
    }
}
