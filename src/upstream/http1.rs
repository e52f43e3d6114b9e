//! HTTP/1.1 connections: one request at a time, kept and used again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::term::{Term, Terms};
use super::{RequestBody, UpstreamIo};
use crate::failure::Failure;
use crate::tls::Stay;

/// Idle connections kept for an upstream: more than this were of use only in a burst.
const MOST_IDLE: usize = 256;
/// How long a connection is kept unused. Common servers close idle ones after 60 to 75 seconds; we go first.
const IDLE_FOR: Duration = Duration::from_secs(50);

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) sender: SendRequest<RequestBody>,
    received: Arc<AtomicU64>,
    generation: u64,
    idle_since: Instant,
    term: Term,
    /// Boxed, as connections are moved for every request.
    stay: Option<Box<Stay>>,
}

impl Http1 {
    /// Starts HTTP/1.1 on a fresh connection; a task drives it, which lets go of it in `idle` when its term is over.
    pub(super) async fn start(
        io: UpstreamIo,
        generation: u64,
        terms: &Arc<Terms>,
        idle: &Arc<Idle>,
    ) -> Result<Self, Failure> {
        let (received, stay, term) = (io.received(), io.stay(), Term::default());
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::Closed { cause: error.to_string() })?;
        // The task ends with the connection: when the sender is dropped or the upstream closes.
        let driven = (Arc::clone(terms), Arc::downgrade(idle), stay.clone(), term.clone());
        tokio::spawn(async move {
            let (terms, idle, stay, term) = driven;
            let let_go = || idle.upgrade().iter().for_each(|idle| idle.keep(|_| true));
            terms.drive(connection.with_upgrades(), stay, term, let_go).await;
        });
        Ok(Self { sender, received, generation, idle_since: Instant::now(), term, stay: stay.map(Box::new) })
    }

    /// How long it may stay: for what it becomes by an upgrade, which nobody drives here.
    pub(super) fn stay(&self) -> Option<Stay> {
        self.stay.as_deref().cloned()
    }

    fn is_usable(&self) -> bool {
        !self.term.is_over() && !self.sender.is_closed()
    }

    /// How many bytes the upstream has sent on this connection.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

/// Connections that wait for their next request, the latest used on top.
#[derive(Debug, Default)]
pub(super) struct Idle(Mutex<Vec<Http1>>);

impl Idle {
    /// A kept connection that was made with our present SVID and has not been closed.
    pub(super) fn take(&self, generation: u64) -> Option<Http1> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(connection) = kept.pop() {
            let usable = connection.generation == generation
                && connection.idle_since.elapsed() < IDLE_FOR
                && connection.is_usable();
            if usable {
                return Some(connection);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn put(&self, mut connection: Http1) {
        if !connection.is_usable() {
            return;
        }
        connection.idle_since = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_IDLE {
            kept.push(connection);
        }
    }

    /// Closes what has been idle for too long or was made with an SVID of before.
    pub(super) fn retire(&self, generation: u64) {
        self.keep(|connection| connection.generation == generation && connection.idle_since.elapsed() < IDLE_FOR);
    }

    /// Closes all that cannot be used any more, or are not `wanted`.
    fn keep(&self, wanted: impl Fn(&Http1) -> bool) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|connection| connection.is_usable() && wanted(connection));
        // Given back after a burst: an idle sidecar is small.
        kept.shrink_to(16);
    }
}
