//! The walk of a connection that sessions share: each of its streams is served as a connection of its own.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep, timeout};

use super::connection::Listener;
use super::ending::{self, Ending};
use super::{Slot, WorkloadSlot};
use crate::drain::DrainWatch;
use crate::enforce::Asker;
use crate::mux::{Connection, Stream};
use crate::protocol::{Closed, Downstream};
use crate::relay::{Apart, Woken, apart};
use crate::tls::{Peer, Stay};

/// How long a connection may have no stream. A sidecar that has no use for one closes it long before.
const IDLE: Duration = Duration::from_secs(60);
/// The same once it was asked to open no more, and how long closing may take.
const PARTING: Duration = Duration::from_secs(5);

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) peer: Arc<Peer>,
    pub(super) address: SocketAddr,
    pub(super) stay: Stay,
}

/// A session's place among those of the listener and of its workload. Given back when dropped.
#[derive(Debug)]
struct Place {
    _slot: Slot,
    _workload_slot: WorkloadSlot,
}

/// The places of a connection: the one that it has while it has no session, which its first session takes and its last one leaves behind.
#[derive(Debug)]
struct Places {
    spare: Option<Place>,
    /// Sessions that have a place.
    taken: usize,
}

type Timer = Woken<Pin<Box<Sleep>>>;

/// A connection, and how long it may be.
struct Shared {
    connection: Connection,
    asked_to_leave: Option<Instant>,
    /// While it has no stream.
    idle: Option<Timer>,
    /// Of one for which there is no place.
    limit: Option<Timer>,
}

/// What a connection comes to next.
enum Event {
    Opened(Stream),
    /// It has to be told to open no more.
    Leave,
    /// It has no stream, and is to have none.
    Done,
    Over,
}

impl Shared {
    async fn next(&mut self, ending: &mut Woken<Apart<'_, Ending>>) -> Event {
        poll_fn(|cx| {
            if let Poll::Ready(opened) = self.connection.poll_next(cx) {
                return Poll::Ready(opened.map_or(Event::Over, Event::Opened));
            }
            if self.asked_to_leave.is_none() && Pin::new(&mut *ending).poll(cx).is_ready() {
                return Poll::Ready(Event::Leave);
            }
            if self.limit.as_mut().is_some_and(|limit| Pin::new(limit).poll(cx).is_ready()) {
                return Poll::Ready(Event::Done);
            }
            if !self.connection.is_idle() {
                self.idle = None;
                return Poll::Pending;
            }
            let limit = if self.asked_to_leave.is_some() { PARTING } else { IDLE };
            let idle = self.idle.get_or_insert_with(|| timer(limit));
            let is_done = self.connection.is_done() || Pin::new(idle).poll(cx).is_ready();
            if is_done { Poll::Ready(Event::Done) } else { Poll::Pending }
        })
        .await
    }

    fn leave(&mut self) {
        (self.asked_to_leave, self.idle) = (Some(Instant::now()), None);
        self.connection.leave();
    }

    /// Whether the client has been asked for so long to open no more that it has heard of it.
    fn must_have_left(&self, grace: Duration) -> bool {
        self.asked_to_leave.is_some_and(|asked| asked.elapsed() > grace.max(PARTING))
    }
}

fn timer(length: Duration) -> Timer {
    Woken::new(Box::pin(sleep(length)))
}

impl Listener {
    /// Serves the streams of a connection until it ends or has to. Those that are open then have the time that their own end has.
    pub(super) async fn streams(
        self: &Arc<Self>,
        connection: Connection,
        caller: Caller,
        drain: &DrainWatch,
        slot: Slot,
    ) {
        let Caller { peer, address, stay } = &caller;
        let opened = Instant::now();
        let mut shared = Shared { connection, asked_to_leave: None, idle: None, limit: None };
        let (spare, _slot) = match self.slots.take_for(peer.id()) {
            Some(workload_slot) => (Some(Place { _slot: slot, _workload_slot: workload_slot }), None),
            // Those who have opened a stream are told so on it.
            None => {
                shared.leave();
                shared.limit = Some(timer(PARTING));
                (None, Some(slot))
            }
        };
        let places = Arc::new(Mutex::new(Places { spare, taken: 0 }));
        let mut over = stay.clone().told_ahead();
        let mut ending = Woken::new(apart(|| ending::of(drain, over.over(), self.limits.connection_age)));
        let mut is_denied = false;
        let closed = loop {
            match shared.next(&mut ending).await {
                Event::Opened(_) if shared.must_have_left(self.limits.grace) => {
                    break violated("a stream that was opened long after none was to be");
                }
                Event::Opened(stream) => match stay.judged() {
                    Ok(()) => self.opened(stream, &caller, drain, &places),
                    // It is reset. One record says so, however many are tried.
                    Err(over) if !is_denied => {
                        is_denied = true;
                        let why = Ending::Over(over);
                        self.record_end(Some(*address), Some(peer), opened, &Closed::Cut, Some(&why));
                    }
                    Err(_over) => {}
                },
                Event::Leave => shared.leave(),
                Event::Done => {
                    let _late = timeout(PARTING, shared.connection.close()).await;
                    break Closed::InOrder;
                }
                Event::Over => break shared.connection.violation().map_or(Closed::InOrder, violated),
            }
        };
        self.record_end(Some(*address), Some(peer), opened, &closed, None);
    }

    /// Serves a stream on a task of its own.
    fn opened(self: &Arc<Self>, stream: Stream, caller: &Caller, drain: &DrainWatch, places: &Arc<Mutex<Places>>) {
        let Caller { peer, address, stay } = caller;
        let asker = Asker::new(Arc::clone(peer), Some(*address));
        let (listener, places, drain, stay) = (Arc::clone(self), Arc::clone(places), drain.clone(), stay.clone());
        // Before the task first runs, or a drain could end without it.
        let guard = drain.guard();
        tokio::spawn(async move {
            let _guard = guard;
            let stream = Downstream::mux(stream);
            let mut open = listener.metrics().connection();
            open.open();
            let _place = match Placed::take(&listener, &asker, places) {
                Ok(place) => place,
                Err(reason) => {
                    listener.metrics().connection_refused(reason);
                    return apart(|| listener.turn_away(stream)).await;
                }
            };
            if let Some(own) = listener.own_id() {
                apart(|| listener.serve((stream, asker), &own, &drain, Some(stay.told_ahead()))).await;
            }
        });
    }

    /// A place for one more session of a peer.
    fn place(&self, asker: &Asker) -> Result<Place, &'static str> {
        let slot = self.slots.take().ok_or("listener-full")?;
        let workload_slot = self.slots.take_for(asker.peer().id()).ok_or("workload-full")?;
        Ok(Place { _slot: slot, _workload_slot: workload_slot })
    }
}

/// A session that has a place.
struct Placed {
    places: Arc<Mutex<Places>>,
    place: Option<Place>,
}

impl Placed {
    fn take(listener: &Listener, asker: &Asker, places: Arc<Mutex<Places>>) -> Result<Self, &'static str> {
        let mut of_all = held(&places);
        let place = match of_all.spare.take() {
            Some(place) => place,
            None => listener.place(asker)?,
        };
        of_all.taken += 1;
        drop(of_all);
        Ok(Self { places, place: Some(place) })
    }
}

impl Drop for Placed {
    fn drop(&mut self) {
        let mut of_all = held(&self.places);
        of_all.taken -= 1;
        if of_all.taken == 0 {
            of_all.spare = self.place.take();
        }
    }
}

fn violated(what: &str) -> Closed {
    Closed::Refused { rule: "mux-violation", message: what.to_owned() }
}

fn held(places: &Mutex<Places>) -> MutexGuard<'_, Places> {
    places.lock().unwrap_or_else(PoisonError::into_inner)
}
