//! Certificates, bundles and policies are compared with what is in force, and swapped as whole generations.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Faults, Shared, identity};
use crate::config::Config;
use crate::identity::X509Source as _;
use crate::policy::{self, PolicyGeneration};
use crate::telemetry::Reload;

/// The first pause while there is no identity at all; each one after it is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Whoever writes the files is waited for, and noticed soon after.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Looks every `reload_interval`, and at once on SIGHUP, which also reopens the audit file for log rotation.
///
/// What does not load leaves the last good generation in force; it is counted, and said once for each different cause.
pub(super) async fn keep_reloading(config: Arc<Config>, shared: Arc<Shared>, mut hangup: Signal) {
    let mut pause = FIRST_PAUSE;
    loop {
        let wait = if shared.identity.current().is_some() { config.reload_interval } else { pause };
        pause = LONGEST_PAUSE.min(pause * 2);
        tokio::select! {
            () = sleep(wait) => {
                // A rotation that sends no signal.
                if let Err(error) = shared.audit.reopen_if_moved() {
                    tracing::error!(%error, "audit file cannot be reopened");
                }
            }
            _ = hangup.recv() => {
                *shared.faults() = Faults::default();
                if let Some(source) = &shared.workload_api {
                    source.look_again();
                }
                if let Err(error) = shared.audit.reopen() {
                    tracing::error!(%error, "audit file cannot be reopened");
                }
            }
        }
        // Many policies take a while to compile, and this thread answers probes.
        let reloading = Arc::clone(&shared);
        let looked = spawn_blocking(move || {
            identity::reload(&reloading);
            reload_policies(&reloading);
        });
        if let Err(error) = looked.await {
            tracing::error!(%error, "a reload ended by a panic; what was in force stays so");
        }
    }
}

/// Says what is odd about policies that are in force.
pub(super) fn say_warnings(policies: &PolicyGeneration) {
    for warning in policies.warnings() {
        tracing::warn!(warning = warning.line(), help = warning.advice(), "policies are in force with a warning");
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
            say_warnings(&policies);
        }
        Err(errors) => {
            shared.policy_metrics.reload(Reload::Failed);
            say_once(
                &mut shared.faults().policies,
                errors.to_string(),
                "policies not reloaded; the last good ones stay in force",
            );
        }
    }
}

pub(super) fn say_once(said: &mut Option<String>, error: String, what: &'static str) {
    if said.as_ref() != Some(&error) {
        tracing::error!(%error, "{what}");
        *said = Some(error);
    }
}
