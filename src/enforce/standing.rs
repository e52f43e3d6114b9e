//! Whether what is open would be let in again.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::sleep;

use super::{Asker, Denied, EnforcementPoint, Exchange, Permit};
use crate::identity::Token;
use crate::mapping::Operations;
use crate::policy::{Outcome, PolicyGeneration};

/// Where a policy goes by the clock, what is open is asked about this often.
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// Time is looked at this often, since the clock may be set.
const CLOCK_LOOKED_AT_EVERY: Duration = Duration::from_secs(30);

/// The rule by which something ends that was let in with a token, when the token does.
pub const TOKEN_EXPIRED: &str = "token-expired";

/// What was permitted and is still open: asked about anew when the policies change, and from time to time where one of them reads the time.
#[derive(Debug)]
pub struct Standing {
    asks: Arc<Operations>,
    changed: watch::Receiver<u64>,
    /// No policy that was asked reads the time.
    lasts: bool,
}

/// Why something cannot stand whatever the policies say: the rule, and what is wrong.
pub type Unfit = (&'static str, String);

/// When a long exchange was last asked about.
#[derive(Debug, Clone, Copy, Default)]
pub struct LastAsked(Option<Asked>);

#[derive(Debug, Clone, Copy)]
struct Asked {
    generation: u64,
    lasts: bool,
    at: Instant,
}

impl Standing {
    /// Ready when the policies would not permit it any more, the token that it came with is over, or when `unfit` finds something else in them that it cannot stand with. The
    /// caller has the denial recorded, which `exchange` describes.
    ///
    /// # Cancel safety
    /// A change that was not judged yet is judged by the next call.
    pub async fn lost(
        &mut self,
        point: &Arc<EnforcementPoint>,
        asker: &Arc<Asker>,
        exchange: impl Fn() -> Exchange,
        unfit: impl Fn(&PolicyGeneration) -> Option<Unfit>,
    ) -> Denied {
        let token = exchange().token;
        loop {
            tokio::select! {
                () = over(token.as_deref()) => return point.refuse(asker, exchange(), TOKEN_EXPIRED, expired()),
                changed = self.changed.changed() => {
                    if changed.is_err() {
                        return pending().await;
                    }
                }
                () = sleep(ASKED_EVERY), if !self.lasts => {}
            }
            let generation = point.policies_in_force();
            if let Some((rule, message)) = unfit(&generation) {
                return point.refuse(asker, exchange(), rule, message);
            }
            let asked = exchange();
            // A policy may have come that forbids by the token what is permitted without one.
            let token = asked.token.clone();
            match point.stands(generation, asker, (token.as_deref(), || asked), &self.asks) {
                Ok(lasts) => self.lasts = lasts,
                Err(denied) => return denied,
            }
        }
    }
}

impl Permit {
    /// Whether what was permitted would be again, from now on; none for what no policy was asked about.
    #[must_use]
    pub fn standing(&self) -> Option<Standing> {
        let answer = self.0.answer.as_ref()?;
        let mut changed = self.0.point.policies.changed();
        if *changed.borrow() != answer.generation.number() {
            // They have changed since the decision.
            changed.mark_changed();
        }
        Some(Standing { asks: Arc::clone(&answer.operations), changed, lasts: answer.said().is_some() })
    }

    /// Asks whether it would be permitted again, if the policies have changed since `last` or go by the clock, and whether its token is over.
    /// Costs a load if not.
    ///
    /// # Errors
    /// It would not be, or `unfit` finds something else in the policies that it cannot stand with.
    pub fn ask_again(
        &self,
        last: &mut LastAsked,
        unfit: impl Fn(&PolicyGeneration) -> Option<Unfit>,
    ) -> Result<(), Denied> {
        let entry = &*self.0;
        if entry.exchange.token.as_deref().is_some_and(|token| token.left(SystemTime::now()).is_none()) {
            return Err(entry.point.refuse(&entry.asker, entry.exchange.clone(), TOKEN_EXPIRED, expired()));
        }
        // Of what was permitted in part only a part was forwarded.
        let Some(answer) = entry.answer.as_ref().filter(|_| entry.outcome == Outcome::Allowed) else { return Ok(()) };
        let first =
            || Asked { generation: answer.generation.number(), lasts: answer.said().is_some(), at: Instant::now() };
        let asked = last.0.get_or_insert_with(first);
        let is_due = !asked.lasts && asked.at.elapsed() >= ASKED_EVERY;
        if entry.point.policies.number() == asked.generation && !is_due {
            return Ok(());
        }
        let generation = entry.point.policies_in_force();
        *asked = Asked { generation: generation.number(), lasts: true, at: Instant::now() };
        if let Some((rule, message)) = unfit(&generation) {
            return Err(entry.point.refuse(&entry.asker, entry.exchange.clone(), rule, message));
        }
        let exchange = (entry.exchange.token.as_deref(), || entry.exchange.clone());
        asked.lasts = entry.point.stands(generation, &entry.asker, exchange, &answer.operations)?;
        Ok(())
    }
}

/// Ready when the token is; never without one.
async fn over(token: Option<&Token>) {
    let Some(token) = token else { return pending().await };
    while let Some(left) = token.left(SystemTime::now()) {
        sleep(left.min(CLOCK_LOOKED_AT_EVERY)).await;
    }
}

fn expired() -> String {
    "the token that it was let in with has expired".to_owned()
}
