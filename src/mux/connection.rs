//! The ends of a connection: one drives it, one opens streams.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncBufRead, AsyncWrite};

use super::Stream;
use super::shared::{Over, Shared};

/// A connection. It has to be driven for its streams to come and go; dropped, it is cut.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
    /// Kept for its room.
    wake: Vec<Waker>,
    /// What the peer did against the protocol.
    violation: Option<&'static str>,
}

/// Opens the streams of a connection.
#[derive(Debug, Clone)]
pub struct Opener {
    shared: Arc<Shared>,
}

impl Opener {
    /// One more stream; none if there are `most`, or the connection takes no more, or none for now.
    #[must_use]
    pub fn open(&self, most: usize) -> Option<Stream> {
        let id = self.shared.summoning(|core| core.open(most))?;
        Some(Stream::new(Arc::clone(&self.shared), id))
    }

    /// Whether it will never open another.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.shared.lock().streams.takes_no_more()
    }

    /// Opens no more from here on.
    pub fn close(&self) {
        self.shared.summoning(|core| core.streams.leave(&mut core.out));
    }
}

impl Connection {
    /// The end that opens streams, with the first of them.
    #[must_use]
    pub fn client(transport: impl AsyncBufRead + AsyncWrite + Unpin + Send + 'static) -> (Self, Opener, Stream) {
        let shared = Shared::new(transport, true);
        let first = {
            let core = &mut *shared.lock();
            core.streams.open_next(&mut core.out)
        };
        let (opener, first) = (Opener { shared: Arc::clone(&shared) }, Stream::new(Arc::clone(&shared), first));
        (Self { shared, wake: Vec::new(), violation: None }, opener, first)
    }

    /// The end at which streams are opened.
    #[must_use]
    pub fn server(transport: impl AsyncBufRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self { shared: Shared::new(transport, false), wake: Vec::new(), violation: None }
    }

    /// Drives all streams until the peer opens one more; none when the connection is over.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub async fn next(&mut self) -> Option<Stream> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// As [`Self::next`].
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        let mut core = self.shared.lock();
        core.runs(cx);
        let received = core.receive(cx, &mut self.wake);
        let stepped = received.and_then(|opened| core.send(cx, &mut self.wake).map(|()| opened).map_err(Over::from));
        if let Err(over) = stepped {
            core.end(over, &mut self.wake);
        }
        drop(core);
        self.wake.drain(..).for_each(Waker::wake);
        match stepped {
            Ok(Some(opened)) => Poll::Ready(Some(Stream::new(Arc::clone(&self.shared), opened))),
            Ok(None) => Poll::Pending,
            Err(Over(kind, why)) => {
                self.violation = self.violation.or((kind == io::ErrorKind::InvalidData).then_some(why));
                Poll::Ready(None)
            }
        }
    }

    /// What the peer did against the protocol, if the connection is over for that.
    #[must_use]
    pub const fn violation(&self) -> Option<&'static str> {
        self.violation
    }

    /// Whether it has no streams.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.lock().streams.count() == 0
    }

    /// Asks the client to open no more streams. Those that it has, and those that it opens before it hears of that, are served.
    pub fn leave(&self) {
        self.shared.summoning(|core| core.streams.leave(&mut core.out));
    }

    /// Whether the client opens no more, and no stream is left.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.lock().streams.is_done()
    }

    /// Sends what is left, and closes in order.
    ///
    /// # Errors
    /// The transport has failed.
    ///
    /// # Cancel safety
    /// Dropping the future cuts the connection.
    pub async fn close(mut self) -> io::Result<()> {
        poll_fn(|cx| {
            let closed = self.shared.lock().poll_close(cx, &mut self.wake);
            self.wake.drain(..).for_each(Waker::wake);
            closed
        })
        .await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut wake = Vec::new();
        self.shared.lock().end(Over(io::ErrorKind::ConnectionAborted, "the connection was cut"), &mut wake);
        wake.into_iter().for_each(Waker::wake);
    }
}
