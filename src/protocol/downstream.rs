//! The byte stream from a downstream, whatever it came in by.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::mux;
use crate::relay::ReadAhead;

/// A downstream connection. One type for all of them keeps the HTTP stack from being built once for each.
#[derive(Debug)]
pub struct Downstream {
    stream: Stream,
    activity: Activity,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Mux(mux::Stream),
    Tls(Box<TlsStream<ReadAhead<TcpStream>>>),
}

/// How many bytes have moved on a connection, both ways together: standing still is how an idle one is found.
#[derive(Debug, Clone, Default)]
pub struct Activity(Arc<AtomicU64>);

impl Activity {
    /// Bytes so far.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts `bytes` more.
    pub(crate) fn count(&self, bytes: usize) {
        if bytes > 0 {
            self.0.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Downstream {
    /// An app on this machine, by TCP.
    #[must_use]
    pub fn tcp(stream: TcpStream) -> Self {
        Self { stream: Stream::Tcp(stream), activity: Activity::default() }
    }

    /// An app on this machine, by Unix socket.
    #[must_use]
    pub fn unix(stream: UnixStream) -> Self {
        Self { stream: Stream::Unix(stream), activity: Activity::default() }
    }

    /// A verified peer.
    #[must_use]
    pub fn tls(stream: TlsStream<ReadAhead<TcpStream>>) -> Self {
        Self { stream: Stream::Tls(Box::new(stream)), activity: Activity::default() }
    }

    /// One stream of a verified peer's connection.
    #[must_use]
    pub fn mux(stream: mux::Stream) -> Self {
        Self { stream: Stream::Mux(stream), activity: Activity::default() }
    }

    /// The connection's byte count.
    #[must_use]
    pub fn activity(&self) -> Activity {
        self.activity.clone()
    }

    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_) | Stream::Mux(_))
    }

    /// The bare TCP connection, if it is one.
    #[must_use]
    pub fn into_tcp(self) -> Option<TcpStream> {
        match self.stream {
            Stream::Tcp(stream) => Some(stream),
            Stream::Unix(_) | Stream::Mux(_) | Stream::Tls(_) => None,
        }
    }

    /// The address that the peer connected to; none for a Unix socket.
    #[must_use]
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.socket().and_then(|socket| socket.local_addr().ok())
    }

    /// Lets the connection, when it is dropped, end by a reset rather than in order (SO_LINGER of 0, socket(7)).
    pub fn abort(&self) {
        // Who is gone already needs no reset, and a Unix socket knows none.
        let _ = self.socket().map(|socket| SockRef::from(socket).set_linger(Some(Duration::ZERO)));
    }

    fn socket(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Tcp(stream) => Some(stream),
            Stream::Tls(stream) => Some(stream.get_ref().0.inner()),
            Stream::Unix(_) | Stream::Mux(_) => None,
        }
    }

    /// The protocol agreed by ALPN, if any.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Mux(_) => None,
        }
    }
}

impl AsyncRead for Downstream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Mux(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        };
        self.activity.count(buffer.filled().len() - before);
        polled
    }
}

impl AsyncWrite for Downstream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Mux(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        };
        self.counted(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Mux(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        };
        self.counted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Tcp(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Mux(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Mux(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Mux(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

impl Downstream {
    fn counted(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.activity.count(*written);
        }
        polled
    }
}
