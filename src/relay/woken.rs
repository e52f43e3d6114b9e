//! A future that is left alone until it has something to say.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// Polls a future when it has been woken, and not whenever the task around it is: for signals that are awaited beside streams, which wake
/// the task for every message.
#[derive(Debug)]
pub struct Woken<F> {
    future: F,
    bell: Arc<Bell>,
    /// Rings the bell.
    waker: Waker,
    /// Who was told to be woken by the bell.
    heard_by: Option<Waker>,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = &*task {
            task.wake_by_ref();
        }
    }
}

impl<F: Future + Unpin> Woken<F> {
    /// Wraps a future, which is polled a first time in any case.
    pub fn new(future: F) -> Self {
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(None) });
        Self { future, waker: Waker::from(Arc::clone(&bell)), bell, heard_by: None }
    }

    /// The future.
    pub const fn inner(&self) -> &F {
        &self.future
    }

    /// The future, which will be polled again because it may have been changed.
    pub fn inner_mut(&mut self) -> &mut F {
        self.bell.rung.store(true, Ordering::Release);
        &mut self.future
    }

    fn listen(&mut self, task: &Waker) {
        if !self.heard_by.as_ref().is_some_and(|known| known.will_wake(task)) {
            *self.bell.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task.clone());
            self.heard_by = Some(task.clone());
        }
    }
}

impl<F: Future + Unpin> Future for Woken<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // First who is to be woken, then whether there is anything: what rings in between is heard.
        this.listen(cx.waker());
        // A load alone: nearly always nothing has happened.
        if !this.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        this.bell.rung.swap(false, Ordering::AcqRel);
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn a_future_is_polled_once_and_then_when_it_is_woken() {
        let (tell, mut told) = oneshot::channel();
        let polls = AtomicUsize::new(0);
        let mut woken = Woken::new(poll_fn(|cx| {
            polls.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut told).poll(cx)
        }));
        for _ in 0..5 {
            let pending = poll_fn(|cx| Poll::Ready(Pin::new(&mut woken).poll(cx).is_pending())).await;
            assert!(pending);
        }
        assert_eq!(polls.load(Ordering::Relaxed), 1);
        tell.send(7).unwrap();
        assert_eq!(woken.await, Ok(7));
        assert_eq!(polls.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn it_wakes_the_task_that_asked_last() {
        let (tell, told) = oneshot::channel();
        let mut woken = Woken::new(told);
        // Asked by one task, then handed to another.
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut woken).poll(cx).is_pending())).await);
        let elsewhere = tokio::spawn(woken);
        tokio::task::yield_now().await;
        tell.send("heard").unwrap();
        assert_eq!(elsewhere.await.unwrap(), Ok("heard"));
    }

    #[tokio::test]
    async fn a_timer_that_is_set_anew_goes_off_when_it_says_now() {
        let begun = Instant::now();
        let mut woken = Woken::new(Box::pin(sleep(Duration::from_secs(3_600))));
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut woken).poll(cx).is_pending())).await);
        woken.inner_mut().as_mut().reset(begun + Duration::from_millis(5));
        woken.await;
        assert!(begun.elapsed() < Duration::from_secs(3_000));
    }
}
