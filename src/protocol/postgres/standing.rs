//! Whether a session that is open would be let in again: asked anew whenever the policies change.

use std::future::pending;
use std::sync::Arc;

use super::listener::PostgresListener;
use super::roles::role;
use crate::audit::new_decision_id;
use crate::enforce::{self, Asker, Settlement};

/// What a session was permitted.
#[derive(Debug)]
pub(super) struct Standing {
    /// What it asked.
    pub(super) asked: Option<enforce::Standing>,
    /// The role that was asked for, and the one that it has; none where no role is given.
    pub(super) role: Option<(Box<str>, Box<str>)>,
}

impl Standing {
    /// Ready when the policies would not permit it any more. That has its record.
    pub(super) async fn lost(&mut self, listener: &PostgresListener, asker: &Arc<Asker>) {
        let exchange = || listener.exchange(&new_decision_id().to_string());
        let given = &self.role;
        let other_role = |generation: &_| {
            let (requested, own) = given.as_ref()?;
            let now = role(&listener.config.role, requested, asker.peer().id(), generation);
            let message = || "another role of this database is configured for this workload by now".to_owned();
            (now != Some(own)).then(|| ("no-role", message()))
        };
        let Some(asked) = &mut self.asked else { return pending().await };
        let denied = asked.lost(&listener.point, asker, exchange, other_role).await;
        let told = Settlement { sqlstate: Some("57P01".into()), ..Settlement::default() };
        if let Err(error) = denied.settle(&told) {
            tracing::error!(%error, "a session that is no longer permitted has no record of that");
        }
    }
}
