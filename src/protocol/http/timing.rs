//! The limits of an exchange while it waits for the head of an answer.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::standing::Standing;
use crate::config::Limits;
use crate::enforce::{Permit, STARTED_AFTER};
use crate::failure::Failure;
use crate::upstream::Progress;

/// Waits for `answer` within the request's limits; writes the started record when its time has come.
///
/// While the request's body is still on its way, the body must move within the idle limit; after that only the limit of
/// the whole request counts, since how long an answer takes is the upstream's business.
pub(super) async fn within_limits<T>(
    mut answer: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    permit: &Permit,
    upload: Option<&Progress>,
    limits: &Limits,
) -> Result<T, Failure> {
    let started = Instant::from_std(permit.exchange().started);
    let mut watch = Watch { started, recorded: false, moved: (started, 0), standing: Standing::default() };
    let timer = sleep_until(watch.next(started, limits).min(started + limits.grace));
    tokio::pin!(timer);
    loop {
        tokio::select! {
            biased;
            result = answer.as_mut() => return result,
            () = &mut timer => {
                let next = watch.check(permit, upload, limits)?;
                timer.as_mut().reset(next);
            }
        }
    }
}

/// What is known about an exchange whose answer has not begun.
struct Watch {
    started: Instant,
    recorded: bool,
    /// When the upload was last seen to have moved, and how far it was.
    moved: (Instant, u64),
    standing: Standing,
}

impl Watch {
    /// Writes what is due, and says when to look again.
    fn check(&mut self, permit: &Permit, upload: Option<&Progress>, limits: &Limits) -> Result<Instant, Failure> {
        let now = Instant::now();
        if !self.recorded && now >= self.started + STARTED_AFTER {
            permit.record_started().map_err(|_error| Failure::Audit)?;
            self.recorded = true;
        }
        if !limits.request_timeout.is_zero() && now >= self.started + limits.request_timeout {
            return Err(Failure::RequestTimeout { limit_ms: millis(limits.request_timeout) });
        }
        if let Some(upload) = upload.filter(|upload| !upload.ended()) {
            if upload.bytes() != self.moved.1 {
                self.moved = (now, upload.bytes());
            } else if now >= self.moved.0 + limits.idle_timeout {
                return Err(Failure::Stalled { limit_ms: millis(limits.idle_timeout) });
            }
        }
        let standing = self.standing.check(permit, limits.grace, now)?;
        Ok(self.next(now, limits).min(standing))
    }

    fn next(&self, now: Instant, limits: &Limits) -> Instant {
        let mut next = now + limits.idle_timeout;
        if !self.recorded {
            next = next.min(self.started + STARTED_AFTER);
        }
        if !limits.request_timeout.is_zero() {
            next = next.min(self.started + limits.request_timeout);
        }
        next
    }
}

/// A duration for a message.
pub(super) fn millis(limit: Duration) -> u64 {
    u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)
}
