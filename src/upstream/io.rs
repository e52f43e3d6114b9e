//! The byte stream to an upstream.

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
use tokio_rustls::client::TlsStream;

use crate::mux;
use crate::relay::ReadAhead;
use crate::tls::{Stay, server_end_point};

/// A connection to an upstream, with a count of the bytes it has sent us.
///
/// The count tells a connection that died before a byte of response, where a retry may be allowed, from one that died later.
#[derive(Debug)]
pub struct UpstreamIo {
    stream: Stream,
    received: Arc<AtomicU64>,
    reached: Option<Reached>,
    /// Boxed, as it is asked for once.
    stay: Option<Box<Stay>>,
}

/// Which of a listener's upstreams a connection goes to, and which address of its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Reached {
    /// Its position among those configured.
    pub(super) upstream: usize,
    /// None for a Unix socket.
    pub(super) address: Option<SocketAddr>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Unix(UnixStream),
    Mux(mux::Stream),
    Tls(Box<TlsStream<ReadAhead<TcpStream>>>),
}

impl UpstreamIo {
    pub(super) fn plain(stream: TcpStream) -> Self {
        Self::of(Stream::Plain(stream))
    }

    pub(super) fn unix(stream: UnixStream) -> Self {
        Self::of(Stream::Unix(stream))
    }

    pub(super) fn tls(stream: TlsStream<ReadAhead<TcpStream>>) -> Self {
        Self::of(Stream::Tls(Box::new(stream)))
    }

    pub(super) fn mux(stream: mux::Stream) -> Self {
        Self::of(Stream::Mux(stream))
    }

    fn of(stream: Stream) -> Self {
        Self { stream, received: Arc::default(), reached: None, stay: None }
    }

    /// A connection to a peer that may stay for so long.
    pub(super) fn staying(self, stay: Stay) -> Self {
        Self { stay: Some(Box::new(stay)), ..self }
    }

    /// How long the connection may stay; none where no peer is at its other end.
    #[must_use]
    pub fn stay(&self) -> Option<Stay> {
        self.stay.as_deref().cloned()
    }

    pub(super) fn reached_at(mut self, reached: Reached) -> Self {
        self.reached = Some(reached);
        self
    }

    /// Where it goes, of a connection that [`super::StreamUpstream`] made.
    #[must_use]
    pub const fn reached(&self) -> Option<Reached> {
        self.reached
    }

    /// Whether it is encrypted.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        matches!(self.stream, Stream::Tls(_) | Stream::Mux(_))
    }

    /// The server's certificate as SCRAM binds a login to it; none without TLS.
    #[must_use]
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        match &self.stream {
            Stream::Tls(stream) => server_end_point(stream),
            Stream::Plain(_) | Stream::Unix(_) | Stream::Mux(_) => None,
        }
    }

    /// Lets the connection, when it is dropped, end by a reset rather than in order (SO_LINGER of 0, socket(7)).
    pub fn abort(&self) {
        let socket = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0.inner(),
            // Dropped, it is reset.
            Stream::Unix(_) | Stream::Mux(_) => return,
        };
        // Who is gone already needs no reset.
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    /// The protocol agreed by ALPN, if any.
    pub(super) fn alpn(&self) -> Option<&[u8]> {
        match &self.stream {
            Stream::Plain(_) | Stream::Unix(_) | Stream::Mux(_) => None,
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// How many bytes have come from the upstream, counted on for as long as the connection lives.
    pub(super) fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }
}

impl AsyncRead for UpstreamIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Mux(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        };
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.received.fetch_add(read as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Mux(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Mux(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Unix(stream) => stream.is_write_vectored(),
            Stream::Mux(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Mux(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Mux(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}
