//! Connections to a sidecar that sessions share.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::UpstreamIo;
use super::io::Reached;
use crate::mux::{ALPN, Connection, Opener};
use crate::relay::{ReadAhead, Woken};
use crate::tls::Stay;

/// A connection takes new sessions for so long: a name that stands for another address by then is seen, and a server that was added gets
/// its share.
const TAKES_SESSIONS: Duration = Duration::from_secs(60);
/// How long one stays that has no session. A server waits longer.
const LINGER: Duration = Duration::from_secs(10);
/// How long closing one may take.
const CLOSING: Duration = Duration::from_secs(2);

/// The connections of one thread to one upstream, each for several sessions.
#[derive(Debug)]
pub(super) struct Pool {
    /// Sessions of a connection at most.
    most: usize,
    connections: Mutex<Vec<Pooled>>,
    /// Held by who makes a connection: those who come meanwhile share it.
    dialing: tokio::sync::Mutex<()>,
    /// The peer spoke another protocol when it was last asked: there is nothing to wait for.
    is_refused: AtomicBool,
}

#[derive(Debug)]
struct Pooled {
    opener: Opener,
    reached: Reached,
    stay: Stay,
    since: Instant,
}

impl Pool {
    /// Connections of `most` sessions each.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            connections: Mutex::default(),
            dialing: tokio::sync::Mutex::default(),
            is_refused: AtomicBool::new(false),
        }
    }

    /// A stream of a connection that stands, or what `dial` comes to: a stream of a new connection if the peer shares it, or else that
    /// connection by itself.
    ///
    /// # Cancel safety
    /// Dropping the future drops the connection that is being made.
    pub(super) async fn stream<E>(
        &self,
        dial: impl Future<Output = Result<(TlsStream<ReadAhead<TcpStream>>, Stay, Reached), E>>,
    ) -> Result<UpstreamIo, E> {
        if let Some(io) = self.open() {
            return Ok(io);
        }
        let _dialing = match self.is_refused.load(Ordering::Relaxed) {
            true => None,
            false => Some(self.dialing.lock().await),
        };
        if let Some(io) = self.open() {
            return Ok(io);
        }
        let (stream, stay, reached) = dial.await?;
        let is_shared = stream.get_ref().1.alpn_protocol() == Some(ALPN);
        self.is_refused.store(!is_shared, Ordering::Relaxed);
        let first = if is_shared { self.share(stream, &stay, reached) } else { UpstreamIo::tls(stream) };
        Ok(first.staying(stay).reached_at(reached))
    }

    /// A stream of a connection that stands. Judged as a new handshake would be: one whose peer was proved by another generation than the
    /// one in force takes no more.
    fn open(&self) -> Option<UpstreamIo> {
        let mut connections = self.connections();
        connections.retain(|pooled| {
            let takes =
                pooled.since.elapsed() < TAKES_SESSIONS && pooled.stay.is_as_begun() && !pooled.opener.is_over();
            if !takes {
                pooled.opener.close();
            }
            takes
        });
        connections.iter().find_map(|pooled| {
            let stream = pooled.opener.open(self.most)?;
            Some(UpstreamIo::mux(stream).staying(pooled.stay.clone()).reached_at(pooled.reached))
        })
    }

    /// Keeps a connection for others too, and gives its first stream.
    fn share(&self, stream: TlsStream<ReadAhead<TcpStream>>, stay: &Stay, reached: Reached) -> UpstreamIo {
        let (connection, opener, first) = Connection::client(stream);
        tokio::spawn(drive(connection, opener.clone(), stay.clone()));
        self.connections().push(Pooled { opener, reached, stay: stay.clone(), since: Instant::now() });
        UpstreamIo::mux(first)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Pooled>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.connections().iter().for_each(|pooled| pooled.opener.close());
    }
}

/// Drives a connection until it has had no stream for a while, or it takes no more and the last one has ended.
async fn drive(mut connection: Connection, opener: Opener, mut stay: Stay) {
    let mut idle: Option<Woken<Pin<Box<Sleep>>>> = None;
    let is_cut = {
        let over = pin!(stay.over());
        let mut over = Woken::new(over);
        poll_fn(|cx| {
            if connection.poll_next(cx).is_ready() {
                return Poll::Ready(true);
            }
            if !opener.is_over() && Pin::new(&mut over).poll(cx).is_ready() {
                opener.close();
            }
            if !connection.is_idle() {
                idle = None;
                return Poll::Pending;
            }
            if opener.is_over() {
                return Poll::Ready(false);
            }
            let idle = idle.get_or_insert_with(|| Woken::new(Box::pin(sleep(LINGER))));
            Pin::new(idle).poll(cx).map(|()| false)
        })
        .await
    };
    // Nobody opens a stream on it from here on.
    opener.close();
    if let Some(violation) = connection.violation() {
        tracing::warn!(peer = %stay.peer().id(), violation, "a shared connection was cut");
    } else if !is_cut {
        let _late = timeout(CLOSING, connection.close()).await;
    }
}
