//! The walk of a connection that sessions share: each of its streams is served as a connection of its own.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::time::{Sleep, sleep, timeout};

use super::connection::Listener;
use super::ending;
use super::{Slot, WorkloadSlot};
use crate::drain::DrainWatch;
use crate::enforce::Asker;
use crate::mux::{Connection, Stream};
use crate::protocol::{Closed, Downstream};
use crate::relay::{Woken, apart};
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
pub(super) struct Place {
    pub(super) _slot: Slot,
    pub(super) _workload_slot: WorkloadSlot,
}

/// The place that a connection has while it has no session: its first session takes it, and may leave it behind.
type Spare = Arc<Mutex<Option<Place>>>;

/// What a connection comes to next.
enum Event {
    Opened(Stream),
    /// It has to be told to open no more.
    Leave,
    /// It has no stream, and is to have none.
    Done,
    Over,
}

impl Listener {
    /// Serves the streams of a connection until it ends or has to. Those that are open then have the time that their own end has.
    pub(super) async fn streams(
        self: &Arc<Self>,
        mut connection: Connection,
        caller: Caller,
        drain: &DrainWatch,
        place: Place,
    ) {
        let Caller { peer, address, stay } = caller;
        let (opened, spare): (_, Spare) = (Instant::now(), Arc::new(Mutex::new(Some(place))));
        let mut over = stay.clone().told_ahead();
        let mut ending = Woken::new(apart(|| ending::of(drain, over.over(), self.limits.connection_age)));
        let (mut has_left, mut idle) = (false, None::<Woken<Pin<Box<Sleep>>>>);
        loop {
            let event = poll_fn(|cx| {
                if let Poll::Ready(opened) = connection.poll_next(cx) {
                    return Poll::Ready(opened.map_or(Event::Over, Event::Opened));
                }
                if !has_left && Pin::new(&mut ending).poll(cx).is_ready() {
                    return Poll::Ready(Event::Leave);
                }
                if !connection.is_idle() {
                    idle = None;
                    return Poll::Pending;
                }
                let limit = if has_left { PARTING } else { IDLE };
                let idle = idle.get_or_insert_with(|| Woken::new(Box::pin(sleep(limit))));
                let is_done = connection.is_done() || Pin::new(idle).poll(cx).is_ready();
                if is_done { Poll::Ready(Event::Done) } else { Poll::Pending }
            })
            .await;
            match event {
                Event::Opened(stream) => {
                    idle = None;
                    self.spawn(stream, Asker::new(Arc::clone(&peer), Some(address)), stay.clone(), drain, &spare);
                }
                Event::Leave => {
                    (has_left, idle) = (true, None);
                    connection.leave();
                }
                Event::Done => {
                    let _late = timeout(PARTING, connection.close()).await;
                    return;
                }
                Event::Over => break,
            }
        }
        if let Some(violation) = connection.violation() {
            let closed = Closed::Refused { rule: "mux-violation", message: violation.to_owned() };
            self.record_end(Some(address), Some(&peer), opened, &closed, None);
        }
    }

    /// Serves a stream on a task of its own.
    fn spawn(self: &Arc<Self>, stream: Stream, asker: Asker, stay: Stay, drain: &DrainWatch, spare: &Spare) {
        let (listener, drain, spare) = (Arc::clone(self), drain.clone(), Arc::clone(spare));
        let guard = drain.guard();
        tokio::spawn(async move {
            let _guard = guard;
            let stream = Downstream::mux(stream);
            let mut open = listener.metrics().connection();
            open.open();
            let free = spare.lock().unwrap_or_else(PoisonError::into_inner).take();
            let place = match free.map_or_else(|| listener.place(&asker), Ok) {
                Ok(place) => place,
                Err(reason) => {
                    listener.metrics().connection_refused(reason);
                    return apart(|| listener.turn_away(stream)).await;
                }
            };
            if let Some(own) = listener.own_id() {
                apart(|| listener.serve((stream, asker), &own, &drain, Some(stay.told_ahead()))).await;
            }
            spare.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(place);
        });
    }

    /// A place for one more session of a peer.
    fn place(&self, asker: &Asker) -> Result<Place, &'static str> {
        let slot = self.slots.take().ok_or("listener-full")?;
        let workload_slot = self.slots.take_for(asker.peer().id()).ok_or("workload-full")?;
        Ok(Place { _slot: slot, _workload_slot: workload_slot })
    }
}
