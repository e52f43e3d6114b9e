//! HTTP/1 or HTTP/2 on a cleartext connection: the first bytes say it (RFC 9113, 3.3: prior knowledge).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1 or 1.0, or what the head guard will refuse.
    H1,
    /// HTTP/2: all 24 bytes of the connection preface are there.
    H2,
}

/// Reads until the bytes are the HTTP/2 preface or cannot become it, at most 24; the stream that comes back gives them again.
/// A preface that breaks off is HTTP/1, and refused there. The caller has the clock.
///
/// # Errors
/// Those of the transport.
///
/// # Cancel safety
/// None: bytes already read are lost with the future. To be raced only against what ends the connection.
pub async fn sniff<S: AsyncRead + Unpin>(mut io: S) -> io::Result<(Version, Rewound<S>)> {
    let mut first = [0; PREFACE.len()];
    let mut length = 0;
    loop {
        let (read, free) = first.split_at_mut(length);
        if !PREFACE.starts_with(read) {
            break;
        }
        let more = if free.is_empty() { 0 } else { io.read(free).await? };
        if more == 0 {
            break;
        }
        length += more;
    }
    let version = if length == PREFACE.len() && first == *PREFACE { Version::H2 } else { Version::H1 };
    Ok((version, Rewound { io, first, given: 0, length }))
}

/// A stream whose first bytes were read and are given again.
#[derive(Debug)]
pub struct Rewound<S> {
    io: S,
    first: [u8; PREFACE.len()],
    given: usize,
    length: usize,
}

impl<S> Rewound<S> {
    /// Whether anything was read.
    pub fn begun(&self) -> bool {
        self.length > 0
    }

    /// The stream under it.
    pub fn inner(&self) -> &S {
        &self.io
    }
}

/// A stream of which nothing was read.
impl<S> From<S> for Rewound<S> {
    fn from(io: S) -> Self {
        Self { io, first: [0; PREFACE.len()], given: 0, length: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let rest = this.first.get(this.given..this.length).unwrap_or_default();
        if rest.is_empty() {
            return Pin::new(&mut this.io).poll_read(cx, buf);
        }
        let here = rest.len().min(buf.remaining());
        buf.put_slice(rest.get(..here).unwrap_or_default());
        this.given += here;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
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

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
