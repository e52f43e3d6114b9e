//! A server of the Workload API: for development machines (`portcullis certs serve`) and for tests.
//!
//! It does not ask who calls: whoever reaches the socket gets what is offered.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::authority::LenientAuthority;
use super::{Offer, service};

/// More callers than one machine has workloads; the next one waits.
const MAX_CONNECTIONS: usize = 256;
/// A caller holds one stream of SVIDs and one of bundles, and asks for tokens.
const MAX_STREAMS: u32 = 64;
/// Until the next attempt when the system refuses a connection, such as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Serves what a channel says, and pushes what it says next.
#[derive(Debug, Clone)]
pub struct WorkloadApiServer {
    offers: watch::Receiver<Offer>,
}

impl WorkloadApiServer {
    /// A server of these offers.
    #[must_use]
    pub fn new(offers: watch::Receiver<Offer>) -> Self {
        Self { offers }
    }

    /// Serves on a Unix socket for ever.
    ///
    /// # Cancel safety
    /// Dropping the future ends every connection.
    pub async fn serve_unix(self, listener: UnixListener) {
        self.serve(|cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream)).await;
    }

    /// Serves on TCP for ever.
    ///
    /// # Cancel safety
    /// Dropping the future ends every connection.
    pub async fn serve_tcp(self, listener: TcpListener) {
        self.serve(|cx| listener.poll_accept(cx).map_ok(|(stream, _)| stream)).await;
    }

    async fn serve<S>(self, accept: impl Fn(&mut Context<'_>) -> Poll<io::Result<S>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = poll_fn(&accept), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok(stream) => drop(connections.spawn(connection(stream, self.offers.clone()))),
                    Err(error) => {
                        tracing::warn!(%error, "the Workload API cannot accept a connection");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, offers: watch::Receiver<Offer>) {
    let answer = service_fn(move |request: http::Request<Incoming>| {
        let offers = offers.clone();
        async move { Ok::<_, Infallible>(service::answer(offers, request).await) }
    });
    let mut http2 = http2::Builder::new(TokioExecutor::new());
    http2.timer(TokioTimer::new()).max_concurrent_streams(MAX_STREAMS);
    // A caller that breaks off is its own affair.
    let _ = http2.serve_connection(TokioIo::new(LenientAuthority::new(stream)), answer).await;
}
