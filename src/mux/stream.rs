//! One stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::shared::{Core, Shared};

/// One stream of a connection. Dropped before both directions have ended, it is reset.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    id: u32,
}

impl Stream {
    pub(super) const fn new(shared: Arc<Shared>, id: u32) -> Self {
        Self { shared, id }
    }

    /// Waits until the other end has answered that the stream was opened: then the connection lives.
    ///
    /// # Errors
    /// The stream was reset, or the connection is over.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn accepted(&mut self) -> io::Result<()> {
        poll_fn(|cx| {
            let accepted = self.shared.lock().streams.accepted(self.id, cx.waker());
            accepted.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    /// Does something, and wakes who is to be woken for it when nobody is kept waiting for the lock by that.
    fn waking<T>(&self, act: impl FnOnce(&mut Core, &mut Vec<Waker>) -> T) -> T {
        let mut wake = Vec::new();
        let done = act(&mut self.shared.lock(), &mut wake);
        wake.into_iter().for_each(Waker::wake);
        done
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.waking(|core, wake| core.poll_read(self.id, cx, into, wake))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.waking(|core, wake| core.poll_write(self.id, cx, bytes, wake))
    }

    /// What was written is the connection's to send: there is nothing to wait for.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ready when everything was sent.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waking(|core, wake| core.poll_shut(self.id, cx, wake))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.summoning(|core| core.streams.give_up(self.id, &mut core.out));
    }
}
