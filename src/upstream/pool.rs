//! Connections to a sidecar that sessions share.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::client::TlsStream;

use super::UpstreamIo;
use super::io::Reached;
use crate::mux::{ALPN, Connection, Opener, Stream};
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
    /// How long a connection may take to answer that a stream was opened.
    patience: Duration,
    connections: Mutex<Vec<Pooled>>,
    queue: Mutex<Queue>,
    /// A connection was made, or could not be.
    dialed: Notify,
    /// The peer spoke another protocol when it was last asked: nobody waits for another's connection.
    is_refused: AtomicBool,
}

#[derive(Debug)]
struct Pooled {
    opener: Opener,
    reached: Reached,
    stay: Stay,
    since: Instant,
}

/// Sessions for which no connection has a place, and the connections that are being made for them.
#[derive(Debug, Default)]
struct Queue {
    waiting: usize,
    dialing: usize,
}

/// A session's place in the queue.
struct Waiting<'a>(&'a Pool);

/// A connection that is being made.
struct Dialing<'a>(&'a Pool);

impl Pool {
    /// Connections of `most` sessions each, to an upstream that has to be reached within `limit`.
    pub(super) fn new(most: usize, limit: Duration) -> Self {
        Self {
            most,
            patience: limit / 2,
            connections: Mutex::default(),
            queue: Mutex::default(),
            dialed: Notify::new(),
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
        let _dialing = loop {
            let mut dialed = pin!(self.dialed.notified());
            // From here on: what is done while the connections are looked through is heard.
            dialed.as_mut().enable();
            if let Some(io) = self.open().await {
                return Ok(io);
            }
            let waiting = self.wait();
            match self.turn() {
                Some(dialing) => break (dialing, waiting),
                None => dialed.await,
            }
        };
        let (stream, stay, reached) = dial.await?;
        let is_shared = stream.get_ref().1.alpn_protocol() == Some(ALPN);
        self.is_refused.store(!is_shared, Ordering::Relaxed);
        let first = if is_shared { self.share(stream, &stay, reached) } else { UpstreamIo::tls(stream) };
        Ok(first.staying(stay).reached_at(reached))
    }

    /// A stream of a connection that stands and answers. One that does not takes no more: its host may be gone, which the system finds out
    /// much later. Others that began before it are likely to be of no more use.
    async fn open(&self) -> Option<UpstreamIo> {
        let (mut stream, opener, stay, reached) = self.open_one()?;
        if let Ok(Ok(())) = timeout(self.patience, stream.accepted()).await {
            return Some(UpstreamIo::mux(stream).staying(stay).reached_at(reached));
        }
        opener.close();
        None
    }

    /// A stream of the newest connection that takes more. That is judged as a new handshake would be: one whose peer was proved by another generation
    /// than the one in force takes none.
    fn open_one(&self) -> Option<(Stream, Opener, Stay, Reached)> {
        let mut connections = self.connections();
        connections.retain(|pooled| {
            let takes =
                pooled.since.elapsed() < TAKES_SESSIONS && pooled.stay.is_as_begun() && !pooled.opener.is_over();
            if !takes {
                pooled.opener.close();
            }
            takes
        });
        connections.iter().rev().find_map(|pooled| {
            let stream = pooled.opener.open(self.most)?;
            Some((stream, pooled.opener.clone(), pooled.stay.clone(), pooled.reached))
        })
    }

    fn wait(&self) -> Waiting<'_> {
        self.queue().waiting += 1;
        Waiting(self)
    }

    /// The turn to make a connection, if those that are being made have no place for all who wait.
    fn turn(&self) -> Option<Dialing<'_>> {
        let is_refused = self.is_refused.load(Ordering::Relaxed);
        let mut queue = self.queue();
        if !is_refused && queue.waiting <= queue.dialing * self.most {
            return None;
        }
        queue.dialing += 1;
        Some(Dialing(self))
    }

    /// Keeps a connection for others too, and gives its first stream.
    fn share(&self, stream: TlsStream<ReadAhead<TcpStream>>, stay: &Stay, reached: Reached) -> UpstreamIo {
        let (connection, opener, first) = Connection::client(stream);
        tokio::spawn(drive(connection, opener.clone(), stay.clone()));
        self.connections().push(Pooled { opener, reached, stay: stay.clone(), since: Instant::now() });
        UpstreamIo::mux(first)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Pooled>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.queue().waiting -= 1;
    }
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.0.queue().dialing -= 1;
        self.0.dialed.notify_waiters();
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
