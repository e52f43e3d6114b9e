//! An exchange that stays open is asked about again when the policies have changed: its decision was for a request, not for as long as
//! its peer likes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::enforce::{Denied, LastAsked, Permit, Settlement, TOKEN_EXPIRED, Unfit};
use crate::failure::Failure;
use crate::policy::PolicyGeneration;

/// How often an exchange is looked after on which nothing moves.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whether a long exchange would be permitted still.
#[derive(Debug, Default)]
pub(super) struct Standing(LastAsked);

impl Standing {
    /// Asks again if there is reason to, once the exchange has been open for longer than `grace`; until then it may finish under the
    /// policies that it began with. Says when to look the next time.
    ///
    /// # Errors
    /// It would not be permitted now. That has its record.
    pub(super) fn check(&mut self, permit: &Permit, grace: Duration, now: Instant) -> Result<Instant, Failure> {
        let from = Instant::from_std(permit.exchange().started) + grace;
        if now < from {
            return Ok(from);
        }
        permit
            .ask_again(&mut self.0, |generation| unfit(permit.policies().map(Arc::as_ref), generation))
            .map_err(no_longer_permitted)?;
        Ok(now + LOOK_EVERY)
    }
}

/// The request's headers are gone; what policies of before did not read of them nobody knows any more.
pub(super) fn unfit(judged_by: Option<&PolicyGeneration>, generation: &PolicyGeneration) -> Option<Unfit> {
    let message = || "the policies read headers by now that this exchange was not judged by".to_owned();
    // What only candidates read is nobody's reason to end anything, and was not judged strictly.
    let (judged, wanted) = (judged_by?.headers_read().enforced, generation.headers_read().enforced);
    (!judged.covers(wanted)).then(|| ("headers-not-judged", message()))
}

/// Records the denial.
pub(super) fn no_longer_permitted(denied: Denied) -> Failure {
    let (decision, rule) = (denied.decision_id().to_string(), denied.rule());
    if let Err(error) = denied.settle(&Settlement::default()) {
        tracing::error!(%error, decision, "an exchange that is no longer permitted has no record of that");
    }
    match rule {
        Some(TOKEN_EXPIRED) => Failure::TokenExpired { decision },
        _ => Failure::NoLongerPermitted { decision },
    }
}
