//! Draining: one side announces it and waits, the other side hears it and finishes its work.
//!
//! [`DrainTrigger`] belongs to the app, a [`DrainWatch`] to every accept loop and connection, a [`DrainGuard`] to every
//! piece of work that a drain has to wait for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Makes the two ends of a drain.
#[must_use]
pub fn channel() -> (DrainTrigger, DrainWatch) {
    let (announce, announced) = watch::channel(false);
    let work = Arc::new(Work::default());
    (DrainTrigger { announce, work: Arc::clone(&work) }, DrainWatch { announced, work })
}

/// The end that starts a drain and waits for it.
#[derive(Debug)]
pub struct DrainTrigger {
    announce: watch::Sender<bool>,
    work: Arc<Work>,
}

/// What a drain came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Pieces of work that were still open when the time was up.
    pub left: usize,
}

impl DrainTrigger {
    /// Tells every watch, without waiting. Telling twice changes nothing.
    pub fn announce(&self) {
        self.announce.send_replace(true);
    }

    /// Tells every watch, then waits until no guard is left, for `timeout` at most.
    ///
    /// # Cancel safety
    /// The announcement stays; a later call goes on waiting.
    pub async fn drain(&self, timeout: Duration) -> Drained {
        self.announce();
        // Elapsed is no error here: what is left says it.
        let _ = tokio::time::timeout(timeout, self.work.none_open()).await;
        Drained { left: self.open() }
    }

    /// Pieces of work that are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.work.open.load(Ordering::Acquire)
    }

    /// One more end that hears of the drain.
    #[must_use]
    pub fn watch(&self) -> DrainWatch {
        DrainWatch { announced: self.announce.subscribe(), work: Arc::clone(&self.work) }
    }
}

/// The end that hears of a drain.
#[derive(Debug, Clone)]
pub struct DrainWatch {
    announced: watch::Receiver<bool>,
    work: Arc<Work>,
}

impl DrainWatch {
    /// Waits until a drain is announced; at once if it was already.
    ///
    /// A trigger that is gone counts as an announcement: nobody is left who would wait for more work.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn draining(&self) {
        let mut announced = self.announced.clone();
        // The error says that the trigger is gone.
        let _ = announced.wait_for(|draining| *draining).await;
    }

    /// Whether a drain is announced.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.announced.borrow() || self.announced.has_changed().is_err()
    }

    /// Opens a piece of work that the drain waits for, until the guard is dropped.
    pub fn guard(&self) -> DrainGuard {
        self.work.open.fetch_add(1, Ordering::AcqRel);
        DrainGuard { work: Arc::clone(&self.work) }
    }
}

/// A piece of open work. It ends when this is dropped, also when its task is cancelled.
#[derive(Debug)]
#[must_use = "the work counts as done as soon as the guard is dropped"]
pub struct DrainGuard {
    work: Arc<Work>,
}

impl Drop for DrainGuard {
    fn drop(&mut self) {
        if self.work.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.work.ended.notify_waiters();
        }
    }
}

/// A counter rather than a watch channel: opening work must not take a lock, it happens for every request.
#[derive(Debug, Default)]
struct Work {
    open: AtomicUsize,
    ended: Notify,
}

impl Work {
    async fn none_open(&self) {
        loop {
            let mut ended = std::pin::pin!(self.ended.notified());
            // Listen before looking, or a guard that drops in between is missed.
            ended.as_mut().enable();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            ended.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn in_time(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(async { tokio::time::timeout(LONG, test).await.expect("ends in time") });
    }

    #[test]
    fn a_watch_hears_of_the_drain_whenever_it_asks() {
        in_time(async {
            let (trigger, watch) = channel();
            let early = tokio::spawn({
                let watch = watch.clone();
                async move { watch.draining().await }
            });
            assert!(!watch.is_draining());
            assert_eq!(trigger.drain(LONG).await, Drained { left: 0 });
            early.await.unwrap();
            watch.draining().await;
            trigger.watch().draining().await;
            assert!(watch.is_draining() && trigger.watch().is_draining());
        });
    }

    #[test]
    fn a_drain_waits_for_the_last_guard() {
        in_time(async {
            let (trigger, watch) = channel();
            let (first, second) = (watch.guard(), watch.guard());
            let worker = tokio::spawn(async move {
                watch.draining().await;
                drop(first);
                tokio::task::yield_now().await;
                drop(second);
            });
            assert_eq!(trigger.drain(LONG).await, Drained { left: 0 });
            worker.await.unwrap();
        });
    }

    #[test]
    fn a_drain_ends_in_time_and_says_what_is_left() {
        in_time(async {
            let (trigger, watch) = channel();
            let guard = watch.guard();
            assert_eq!(trigger.drain(Duration::from_millis(1)).await, Drained { left: 1 });
            drop(guard);
            assert_eq!(trigger.drain(LONG).await, Drained { left: 0 });
        });
    }

    #[test]
    fn a_cancelled_task_is_not_waited_for() {
        in_time(async {
            let (trigger, watch) = channel();
            let guard = watch.guard();
            let stuck = tokio::spawn(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            assert_eq!(trigger.open(), 1);
            stuck.abort();
            assert_eq!(trigger.drain(LONG).await, Drained { left: 0 });
        });
    }

    #[test]
    fn a_trigger_that_is_gone_counts_as_a_drain() {
        in_time(async {
            let (trigger, watch) = channel();
            drop(trigger);
            watch.draining().await;
            assert!(watch.is_draining());
        });
    }

    #[test]
    fn guards_of_many_threads_are_all_waited_for() {
        let (trigger, watch) = channel();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let watch = watch.clone();
                std::thread::spawn(move || {
                    for _ in 0..1_000 {
                        drop(watch.guard());
                    }
                })
            })
            .collect();
        in_time(async move {
            let _ = trigger.drain(LONG).await;
            for thread in threads {
                thread.join().unwrap();
            }
            assert_eq!(trigger.drain(LONG).await, Drained { left: 0 });
        });
    }
}
