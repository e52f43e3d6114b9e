//! Whether a session that is open would be let in again: asked anew whenever the policies change.

use std::future::pending;
use std::sync::Arc;

use tokio::sync::watch;

use super::listener::PostgresListener;
use super::roles::role;
use crate::audit::new_decision_id;
use crate::enforce::{Asker, Settlement};
use crate::mapping::Operations;

/// What a session was permitted.
#[derive(Debug)]
pub(super) struct Standing {
    /// What it asked.
    pub(super) asks: Arc<Operations>,
    /// The role that was asked for, and the one that it has; none where no role is given.
    pub(super) role: Option<(Box<str>, Box<str>)>,
    /// Subscribed before the decision: a change between the two is seen.
    pub(super) changed: watch::Receiver<u64>,
}

impl Standing {
    /// Ready when the policies have changed and would not permit it any more. That has its record.
    pub(super) async fn lost(&mut self, listener: &PostgresListener, asker: &Arc<Asker>) {
        let point = &listener.point;
        loop {
            if self.changed.changed().await.is_err() {
                return pending().await;
            }
            let generation = point.policies_in_force();
            let exchange = || listener.exchange(&new_decision_id().to_string());
            let same_role = self.role.as_ref().is_none_or(|(requested, own)| {
                role(&listener.config.role, requested, asker.peer().id(), &generation) == Some(own)
            });
            let denied = match same_role {
                true => match point.preview(generation, asker, exchange, &self.asks) {
                    Ok(()) => continue,
                    Err(denied) => denied,
                },
                false => {
                    let message = "another role of this database is configured for this workload by now".to_owned();
                    point.refuse(asker, exchange(), "no-role", message)
                }
            };
            let told = Settlement { sqlstate: Some("57P01".into()), ..Settlement::default() };
            if let Err(error) = denied.settle(&told) {
                tracing::error!(%error, "a session that is no longer permitted has no record of that");
            }
            return;
        }
    }
}
