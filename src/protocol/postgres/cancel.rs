//! Cancelling: which session a CancelRequest reaches, and when.
//!
//! Clients get keys of the proxy's own. A cancel is passed on only from the workload whose session it is, and only while a statement of
//! that client's is with the server; the next one waits until the cancel has done what it can.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::wire::{CancelRequest, FirstPacket};
use crate::identity::SpiffeId;
use crate::upstream::{OwnPurpose, Reached, StreamUpstream, UpstreamIo};

/// How long a server may take to close the connection that a CancelRequest came by, which it does when it has sent the signal.
const LIMIT: Duration = Duration::from_secs(5);
/// A secret of protocol 3.2 (the server's own are as long: `PG_CANCEL_KEY_LENGTH`), and one that older clients can take.
const LONG_SECRET: usize = 32;
const SHORT_SECRET: usize = 4;

/// The sessions of a listener by the keys of their clients, over all data-path threads.
#[derive(Debug, Default)]
pub struct CancelKeys {
    sessions: Mutex<HashMap<u32, Entry>>,
}

struct Entry {
    secret: Box<[u8]>,
    asker: SpiffeId,
    session: Arc<Session>,
}

/// Without the secret.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry").field("asker", &self.asker).finish_non_exhaustive()
    }
}

/// How a server knows one of its sessions.
#[derive(Clone)]
pub(super) struct ServerKey {
    /// Where the server is.
    pub(super) reached: Reached,
    /// Its key.
    pub(super) key: CancelRequest,
}

impl std::fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerKey").field("reached", &self.reached).field("key", &self.key).finish()
    }
}

/// What a session holds: the key of its client, and when it may be used. The key is void when this is dropped.
#[derive(Debug)]
pub(super) struct SessionKey {
    keys: Arc<CancelKeys>,
    pid: u32,
    secret: Bytes,
    session: Arc<Session>,
}

#[derive(Debug)]
struct Session {
    server: Option<ServerKey>,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    in_flight: bool,
    uncertain: bool,
}

impl Session {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A cancel of the statement that runs now; none if none runs or one is under way.
    fn begin(self: &Arc<Self>) -> Option<InFlight> {
        let mut state = self.state();
        if !state.running || state.in_flight {
            return None;
        }
        state.in_flight = true;
        Some(InFlight { session: Arc::clone(self), done: false })
    }
}

/// A cancel that is under way. Given up before it was done, it is uncertain whether it still strikes.
struct InFlight {
    session: Arc<Session>,
    done: bool,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.session.state();
        state.in_flight = false;
        state.uncertain |= !self.done;
        drop(state);
        self.session.changed.notify_waiters();
    }
}

impl CancelKeys {
    /// A key for a session of `asker` that speaks protocol 3.`minor`; `server` is none if the server gave no key.
    ///
    /// # Errors
    /// The system has no random numbers: no key can be given.
    pub(super) fn register(
        self: &Arc<Self>,
        asker: &SpiffeId,
        minor: u16,
        server: Option<ServerKey>,
    ) -> io::Result<SessionKey> {
        let mut secret = vec![0; if minor >= 2 { LONG_SECRET } else { SHORT_SECRET }];
        rand::fill(&mut secret).map_err(|_| io::Error::other("no random numbers"))?;
        let session = Arc::new(Session { server, state: Mutex::default(), changed: Notify::new() });
        let mut sessions = self.sessions();
        let pid = loop {
            let mut pid = [0; 4];
            rand::fill(&mut pid).map_err(|_| io::Error::other("no random numbers"))?;
            // Clients show it as a process id, which is positive.
            let pid = u32::from_be_bytes(pid) >> 1;
            if pid != 0 && !sessions.contains_key(&pid) {
                break pid;
            }
        };
        let entry = Entry { secret: secret.as_slice().into(), asker: asker.clone(), session: Arc::clone(&session) };
        sessions.insert(pid, entry);
        drop(sessions);
        Ok(SessionKey { keys: Arc::clone(self), pid, secret: secret.into(), session })
    }

    /// Does what a CancelRequest of `asker` asks, if it is for one of its own sessions and that has a statement running. Whoever sent it
    /// learns nothing either way.
    pub(super) async fn cancel(&self, request: &CancelRequest, asker: &SpiffeId, upstream: &StreamUpstream) {
        let Some(in_flight) = self.find(request, asker).and_then(|session| session.begin()) else { return };
        strike(in_flight, upstream).await;
    }

    fn find(&self, request: &CancelRequest, asker: &SpiffeId) -> Option<Arc<Session>> {
        let sessions = self.sessions();
        let entry = sessions.get(&request.pid)?;
        let is_its = verify_slices_are_equal(&entry.secret, &request.secret).is_ok() && entry.asker == *asker;
        is_its.then(|| Arc::clone(&entry.session))
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<u32, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SessionKey {
    /// The process id of the client's BackendKeyData.
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// The secret of the client's BackendKeyData.
    pub(super) const fn secret(&self) -> &Bytes {
        &self.secret
    }

    /// A statement of the client's goes to the server: from here on it can be cancelled.
    pub(super) fn begin_statement(&self) {
        self.session.state().running = true;
    }

    /// Everything that the client asked has been answered: what comes next, the proxy's own questions too, must not be cancelled. Await
    /// [`Self::settled`] before it is sent.
    pub(super) fn end_statement(&self) {
        self.session.state().running = false;
    }

    /// Whether a cancel is under way, so that [`Self::settled`] would wait.
    pub(super) fn is_striking(&self) -> bool {
        self.session.state().in_flight
    }

    /// Waits until no cancel is under way. False if it cannot be known whether one still strikes: the session should end.
    ///
    /// # Cancel safety
    /// Can be dropped and called again.
    pub(super) async fn settled(&self) -> bool {
        loop {
            let changed = self.session.changed.notified();
            {
                let state = self.session.state();
                if !state.in_flight {
                    return !state.uncertain;
                }
            }
            changed.await;
        }
    }

    /// Cancels the statement that runs now, for a reason of the proxy's own.
    pub(super) async fn cancel(&self, upstream: &StreamUpstream) {
        if let Some(in_flight) = self.session.begin() {
            strike(in_flight, upstream).await;
        }
    }
}

impl Drop for SessionKey {
    fn drop(&mut self) {
        self.keys.sessions().remove(&self.pid);
    }
}

async fn strike(mut in_flight: InFlight, upstream: &StreamUpstream) {
    let Some(server) = in_flight.session.server.clone() else {
        in_flight.done = true;
        return;
    };
    match upstream.connect_again(server.reached, OwnPurpose::Cancel).await {
        Ok(io) => in_flight.done = send(io, server.key).await,
        Err(failure) => {
            // Nothing was sent, so nothing can strike.
            in_flight.done = true;
            tracing::warn!(%failure, "a statement was not cancelled");
        }
    }
}

/// Sends a CancelRequest and waits until the server closes, which it does once the signal is sent. False if it does not in time.
pub(super) async fn send(mut io: UpstreamIo, key: CancelRequest) -> bool {
    let packet = FirstPacket::Cancel(key).to_bytes();
    let sent = async {
        io.write_all(&packet).await?;
        io.flush().await?;
        // Nothing is answered; a server that does is not read for long.
        io.read(&mut [0; 1]).await
    };
    timeout(LIMIT, sent).await.is_ok()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn id(path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://td/{path}")).unwrap()
    }

    fn request(key: &SessionKey) -> CancelRequest {
        CancelRequest { pid: key.pid(), secret: key.secret().clone() }
    }

    #[test]
    fn a_cancel_reaches_the_session_of_its_key_and_of_its_workload_only() {
        let keys = Arc::new(CancelKeys::default());
        let one = keys.register(&id("a"), 0, None).unwrap();
        let other = keys.register(&id("a"), 2, None).unwrap();
        assert_eq!((one.secret().len(), other.secret().len()), (4, 32));
        assert!(keys.find(&request(&one), &id("a")).is_some_and(|found| Arc::ptr_eq(&found, &one.session)));
        assert!(keys.find(&request(&one), &id("b")).is_none(), "another workload");
        let wrong = CancelRequest { pid: one.pid(), secret: other.secret().clone() };
        assert!(keys.find(&wrong, &id("a")).is_none(), "another session's secret");
        let gone = request(&one);
        drop(one);
        assert!(keys.find(&gone, &id("a")).is_none(), "the session has ended");
    }

    #[tokio::test]
    async fn a_cancel_strikes_only_while_a_statement_runs_and_the_next_one_waits_for_it() {
        let key = Arc::new(CancelKeys::default()).register(&id("a"), 0, None).unwrap();
        assert!(key.session.begin().is_none(), "nothing runs");
        key.begin_statement();
        let mut in_flight = key.session.begin().unwrap();
        assert!(key.session.begin().is_none(), "one is enough");
        key.end_statement();
        let mut waiting = Box::pin(key.settled());
        assert!(waiting.as_mut().now_or_never().is_none());
        in_flight.done = true;
        drop(in_flight);
        assert!(waiting.await);
        assert!(key.session.begin().is_none(), "the statement is over");
    }

    #[tokio::test]
    async fn a_cancel_that_was_given_up_leaves_the_session_uncertain() {
        let key = Arc::new(CancelKeys::default()).register(&id("a"), 0, None).unwrap();
        key.begin_statement();
        drop(key.session.begin().unwrap());
        assert!(!key.settled().await);
    }
}
