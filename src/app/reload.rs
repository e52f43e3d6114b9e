//! Certificates, bundles and policies are compared with what is in force, and swapped as whole generations.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::{Faults, Shared};
use crate::config::Config;
use crate::identity::{self, X509Source as _};
use crate::policy;
use crate::telemetry::Reload;

/// Looks every `reload_interval`, and at once on SIGHUP, which also reopens the audit file for log rotation.
///
/// What does not load leaves the last good generation in force; it is counted, and said once for each different cause.
pub(super) async fn keep_reloading(config: Arc<Config>, shared: Arc<Shared>) {
    let mut every = interval(config.reload_interval);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hangup = match signal(SignalKind::hangup()) {
        Ok(hangup) => hangup,
        Err(error) => return tracing::error!(%error, "SIGHUP cannot be heard; nothing is reloaded"),
    };
    loop {
        tokio::select! {
            _ = every.tick() => {
                // A rotation that sends no signal.
                if let Err(error) = shared.audit.reopen_if_moved() {
                    tracing::error!(%error, "audit file cannot be reopened");
                }
            }
            _ = hangup.recv() => {
                *shared.faults() = Faults::default();
                if let Err(error) = shared.audit.reopen() {
                    tracing::error!(%error, "audit file cannot be reopened");
                }
            }
        }
        reload_identity(&shared);
        reload_policies(&shared);
    }
}

fn reload_identity(shared: &Shared) {
    match shared.identity.reload() {
        Ok(identity::Reloaded::Unchanged) => shared.faults().identity = None,
        Ok(identity::Reloaded::Swapped(generation)) => {
            shared.faults().identity = None;
            shared.svid_metrics.rotation(Reload::Swapped);
            shared.describe();
            if let Some(own) = shared.identity.current() {
                tracing::info!(generation, spiffe_id = %own.svid.id(), "identity rotated");
            }
        }
        Err(error) => {
            shared.svid_metrics.rotation(Reload::Failed);
            say_once(&mut shared.faults().identity, error.to_string(), "identity not reloaded; the last good one stays in force");
        }
    }
}

fn reload_policies(shared: &Shared) {
    match shared.policies.reload() {
        Ok(policy::Reloaded::Unchanged) => shared.faults().policies = None,
        Ok(policy::Reloaded::Swapped(generation)) => {
            shared.faults().policies = None;
            shared.policy_metrics.reload(Reload::Swapped);
            shared.describe();
            let policies = shared.policies.current();
            tracing::info!(generation, digest = policies.digest(), policies = policies.len(), "policies reloaded");
        }
        Err(errors) => {
            shared.policy_metrics.reload(Reload::Failed);
            say_once(&mut shared.faults().policies, errors.to_string(), "policies not reloaded; the last good ones stay in force");
        }
    }
}

fn say_once(said: &mut Option<String>, error: String, what: &'static str) {
    if said.as_ref() != Some(&error) {
        tracing::error!(%error, "{what}");
        *said = Some(error);
    }
}
