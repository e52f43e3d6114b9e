//! HTTP/2 connections: many requests share one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::AbortHandle;

use super::term::{Term, Terms};
use super::{RequestBody, UpstreamIo};
use crate::failure::Failure;

/// Requests that share one connection before another is opened: what RFC 9113, 6.5.2, recommends as the least a peer
/// allows, and our own default for `concurrent_streams`.
const STREAMS_EACH: usize = 100;
/// Flow-control windows. A stream's is what one slow reader can make us hold. The connection's is all of them together: were it
/// less, a few readers that stop would stop every other request that shares the connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAMS_EACH as u32 * STREAM_WINDOW;
/// A peer that vanished without closing is found out after interval + timeout.
const PING_INTERVAL: std::time::Duration = std::time::Duration::from_secs(20);
const PING_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// A connection that speaks HTTP/2, with one more request counted on it for as long as this lives.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: SendRequest<RequestBody>,
    in_flight: Arc<AtomicUsize>,
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs hyper's tasks, and can end the first of them: the one that moves the connection's bytes.
#[derive(Debug, Clone, Default)]
struct Spawner(Arc<OnceLock<AbortHandle>>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawner {
    fn execute(&self, future: F) {
        let task = tokio::spawn(future);
        self.0.get_or_init(|| task.abort_handle());
    }
}

#[derive(Debug)]
struct Kept {
    sender: SendRequest<RequestBody>,
    in_flight: Arc<AtomicUsize>,
    generation: u64,
    term: Term,
}

/// The open connections.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<Vec<Kept>>);

impl Shared {
    /// A place on an open connection that was made with our present SVID.
    pub(super) fn take(&self, generation: u64) -> Option<Http2> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A connection that is no longer used for new requests closes when its last one ends: its sender goes with it.
        open.retain(|kept| kept.generation == generation && kept.is_usable());
        open.iter().find(|kept| kept.in_flight.load(Ordering::Relaxed) < STREAMS_EACH).map(Kept::place)
    }

    /// Starts HTTP/2 on a fresh connection and takes the first place on it.
    pub(super) async fn start(
        self: &Arc<Self>,
        io: UpstreamIo,
        generation: u64,
        terms: &Arc<Terms>,
    ) -> Result<Http2, Failure> {
        let (stay, term) = (io.stay(), Term::default());
        let spawner = Spawner::default();
        let (sender, connection) = http2::Builder::new(spawner.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| Failure::Closed { cause: error.to_string() })?;
        let kept = Kept { sender, in_flight: Arc::default(), generation, term: term.clone() };
        let place = kept.place();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(kept);
        let driven = (Arc::clone(terms), Arc::downgrade(self));
        tokio::spawn(async move {
            let (terms, shared) = driven;
            let let_go = || shared.upgrade().iter().for_each(|shared| shared.keep(|_| true));
            let cut = terms.drive(connection, stay, term, let_go).await;
            // hyper drives the bytes by a task of its own.
            if let (true, Some(task)) = (cut, spawner.0.get()) {
                task.abort();
            }
        });
        Ok(place)
    }

    /// Lets go of connections that were made with an SVID of before: they close when their last request ends.
    pub(super) fn retire(&self, generation: u64) {
        self.keep(|kept| kept.generation == generation);
    }

    /// Lets go of all that cannot be used any more, or are not `wanted`.
    fn keep(&self, wanted: impl Fn(&Kept) -> bool) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|kept| kept.is_usable() && wanted(kept));
    }
}

impl Kept {
    fn is_usable(&self) -> bool {
        !self.term.is_over() && !self.sender.is_closed()
    }

    fn place(&self) -> Http2 {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Http2 { sender: self.sender.clone(), in_flight: Arc::clone(&self.in_flight) }
    }
}
