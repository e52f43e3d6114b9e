//! What the guard of a connection and the service of that connection tell each other.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use super::verdict::{HeadFacts, HeadRefusal, HeadVerdict};

/// The service's side of a [`Guard`](super::Guard). Clones speak for the same connection.
#[derive(Debug, Clone)]
pub struct GuardHandle(pub(super) Arc<Shared>);

impl GuardHandle {
    /// The verdict on the next request of the connection. To be called exactly once for each request that hyper hands
    /// to the service, in that order, before anything of the request is believed.
    pub fn next_head(&self) -> HeadVerdict {
        let mut state = self.0.lock();
        let verdict = state.verdicts.pop_front();
        if matches!(verdict, Some(HeadVerdict::Passed(HeadFacts { asks_upgrade: true, .. }))) {
            state.upgrade = Upgrade::Open;
        }
        verdict.unwrap_or_else(|| {
            // INVARIANT: a verdict is queued before the bytes of its head are released, so hyper never has more requests
            // than there are verdicts. Should it ever, nothing of them is to be believed.
            HeadVerdict::Refused(HeadRefusal::new(500, "out-of-step", "a request that the head guard has not seen"))
        })
    }

    /// Marks a request as being answered: until the [`Exchange`] is dropped, the connection is not idle.
    /// To be held until the response's body has ended, and dropped with it.
    pub fn exchange(&self) -> Exchange {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        Exchange(Arc::clone(&self.0))
    }

    /// The upstream has answered 101: everything that follows passes unjudged. To be called before the 101 is given to hyper.
    pub fn upgrade_accepted(&self) {
        self.0.decide_upgrade(true);
    }

    /// The answer is no 101: the connection goes on with the next request head.
    /// Dropping the [`Exchange`] of the request says so too, so that no way out of a service forgets it.
    pub fn upgrade_declined(&self) {
        self.0.decide_upgrade(false);
    }

    /// The violation of body framing that ended the connection's inbound side, if one did. It is also the error of the
    /// request's body: see [`HeadRefusal::find`].
    pub fn broken(&self) -> Option<HeadRefusal> {
        self.0.lock().broken.clone()
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Exchange(Arc<Shared>);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.decide_upgrade(false);
    }
}

/// The meeting place. The lock is never contended in practice: hyper polls the service on the connection's own task.
#[derive(Debug, Default)]
pub(super) struct Shared {
    in_flight: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    verdicts: VecDeque<HeadVerdict>,
    broken: Option<HeadRefusal>,
    upgrade: Upgrade,
    /// Of the task that reads while an upgrade is asked.
    reader: Option<Waker>,
}

/// A request for an upgrade and its answer. The first answer counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Upgrade {
    #[default]
    None,
    /// By a request that waits behind others: their ends say nothing about it.
    Asked,
    /// By the request that the service has.
    Open,
    Accepted,
    Declined,
}

impl Shared {
    pub(super) fn pass(&self, facts: HeadFacts) {
        let mut state = self.lock();
        if facts.asks_upgrade {
            state.upgrade = Upgrade::Asked;
        }
        state.verdicts.push_back(HeadVerdict::Passed(facts));
    }

    pub(super) fn refuse(&self, refusal: HeadRefusal) {
        self.lock().verdicts.push_back(HeadVerdict::Refused(refusal));
    }

    pub(super) fn break_off(&self, refusal: HeadRefusal) {
        self.lock().broken = Some(refusal);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) > 0
    }

    /// The answer to an asked upgrade, once. `None`: not yet, and `cx` is woken when it comes.
    pub(super) fn upgrade_decision(&self, cx: &Context<'_>) -> Option<bool> {
        let mut state = self.lock();
        match state.upgrade {
            Upgrade::Asked | Upgrade::Open => {
                state.reader = Some(cx.waker().clone());
                None
            }
            answer => {
                state.upgrade = Upgrade::None;
                Some(answer == Upgrade::Accepted)
            }
        }
    }

    fn decide_upgrade(&self, accepted: bool) {
        let mut state = self.lock();
        if state.upgrade != Upgrade::Open {
            return;
        }
        state.upgrade = if accepted { Upgrade::Accepted } else { Upgrade::Declined };
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that holds the lock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
