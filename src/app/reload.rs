//! Certificates, bundles and policies are compared with what is in force, and swapped as whole generations.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::watch::Watch;
use super::{Faults, Shared, identity, policies, tokens};
use crate::config::{Config, PolicyOrigin};
use crate::identity::X509Source as _;

/// The first pause while there is no identity at all; each one after it is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Whoever writes the files is waited for, and noticed soon after.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// From an event to the look: whoever writes one file of a set is about to write the others.
const SETTLE: Duration = Duration::from_millis(100);

/// Looks soon after a file has changed, every `reload_interval`, and at once on SIGHUP, which also reopens the audit file for log
/// rotation.
///
/// What does not load leaves the last good generation in force; it is counted, and said once for each different cause.
pub(super) async fn keep_reloading(config: Arc<Config>, shared: Arc<Shared>, mut hangup: Signal) {
    let watch = Watch::new(watched(&config, &shared));
    let changed = watch.changed();
    let watch = Arc::new(Mutex::new(watch));
    let mut pause = FIRST_PAUSE;
    loop {
        let is_unsettled = look(&shared, &watch).await;
        let wait = match shared.identity.current() {
            _ if is_unsettled => SETTLE,
            Some(_) => config.reload_interval,
            None => pause.min(config.reload_interval),
        };
        pause = LONGEST_PAUSE.min(pause * 2);
        let is_signalled = tokio::select! {
            () = sleep(wait) => false,
            () = changed.notified() => {
                sleep(SETTLE).await;
                false
            }
            _ = hangup.recv() => true,
        };
        let reopened = match is_signalled {
            true => {
                *shared.faults() = Faults::default();
                if let Some(source) = &shared.workload_api {
                    source.look_again();
                }
                if let Some(bundles) = &shared.distribution {
                    bundles.look_again();
                }
                shared.audit.reopen()
            }
            // A rotation that sends no signal.
            false => shared.audit.reopen_if_moved().map(|_| ()),
        };
        if let Err(error) = reopened {
            tracing::error!(%error, "audit file cannot be reopened");
        }
    }
}

/// The files and directories whose changes are acted on.
fn watched(config: &Config, shared: &Shared) -> Vec<PathBuf> {
    let identity = shared.files.paths().all().map(Path::to_owned);
    let token_keys = tokens::key_files(config).into_iter().map(|(_, path)| path.to_owned());
    let policies = match &config.policy.origin {
        PolicyOrigin::Directory(directory) => vec![directory.clone(), directory.join("entities")],
        PolicyOrigin::Url(_) => Vec::new(),
    };
    identity.chain(policies).chain(token_keys).collect()
}

/// Watches anew first: what changes from then on is told of, what has changed before is found. Whether to look once more soon.
async fn look(shared: &Arc<Shared>, watch: &Arc<Mutex<Watch>>) -> bool {
    let (looking, watch) = (Arc::clone(shared), Arc::clone(watch));
    // Many policies take a while to compile, and this thread answers probes.
    let looked = spawn_blocking(move || {
        watch.lock().unwrap_or_else(PoisonError::into_inner).renew();
        let is_unsettled = identity::reload(&looking);
        policies::reload(&looking);
        tokens::reload(&looking);
        is_unsettled
    });
    looked.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a reload ended by a panic; what was in force stays so");
        false
    })
}

pub(super) fn say_once(said: &mut Option<String>, error: String, what: &'static str) {
    if said.as_ref() != Some(&error) {
        tracing::error!(%error, "{what}");
        *said = Some(error);
    }
}
