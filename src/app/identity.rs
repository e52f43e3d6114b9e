//! Where our identity comes from, as the configuration says, and what is said when it changes.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Shared;
use crate::config::{Config, IdentitySourceConfig, ListenerConfig, TokenIssuerConfig};
use crate::identity::{
    Clock, FileSource, FileSourcePaths, IdentityStore, OwnFiles, Part, Reloaded, SourceError, WorkloadApiPlan,
    WorkloadApiSource, X509Generation, X509Source as _,
};
use crate::telemetry::Reload;

/// Before what ended by a panic begins anew: it may end so again.
const BEGIN_ANEW: Duration = Duration::from_secs(1);

/// The store that joins what all sources bring, and the files that bring something to it.
pub(crate) fn identity_store(config: &Config) -> (Arc<IdentityStore>, FileSource) {
    // Also where an agent gives us our SVID: the files may bring revocation lists and the emergency lists.
    let store = IdentityStore::new(config.identity.denied.clone(), Clock::system()).awaiting(Part::Files);
    let (of_files, of_endpoints) = (config.identity.trust_bundles.keys(), config.identity.federation.keys());
    let store = Arc::new(store.with_configured(of_files.chain(of_endpoints).cloned()));
    let files = FileSource::new(paths(config), Arc::clone(&store));
    (store, files)
}

/// What follows the Workload API, if the configuration names one.
pub(crate) fn workload_api(config: &Config, store: &Arc<IdentityStore>) -> Option<Arc<WorkloadApiSource>> {
    let IdentitySourceConfig::WorkloadApi { address, choice } = &config.identity.source else { return None };
    let plan = WorkloadApiPlan {
        address: address.clone(),
        choice: choice.clone(),
        on_expired_crl: config.identity.crl.on_expired,
        jwt_bundles: config.listeners.iter().any(takes_jwt_svids),
    };
    Some(Arc::new(WorkloadApiSource::new(plan, Arc::clone(store))))
}

/// Whether a listener checks JWT-SVIDs, and so needs the keys that sign them.
fn takes_jwt_svids(listener: &ListenerConfig) -> bool {
    let of_domain = |issuer: &TokenIssuerConfig| matches!(issuer, TokenIssuerConfig::TrustDomain(_));
    listener.protocol.token().is_some_and(|token| token.issuers.iter().any(of_domain))
}

/// The files that a configuration names.
pub(super) fn paths(config: &Config) -> FileSourcePaths {
    let identity = &config.identity;
    let own = match &identity.source {
        IdentitySourceConfig::Files { certificate, private_key, spiffe_id } => Some(OwnFiles {
            certificate: certificate.clone(),
            private_key: private_key.clone(),
            spiffe_id: spiffe_id.clone(),
        }),
        IdentitySourceConfig::WorkloadApi { .. } => None,
    };
    FileSourcePaths {
        own,
        bundles: identity.trust_bundles.clone(),
        crls: identity.crl.files.clone(),
        on_expired_crl: identity.crl.on_expired,
        denied: identity.deny_file.clone(),
    }
}

/// Reads the files at start. Files that nobody has written yet are waited for, with the reason; everything else that is wrong
/// with them would not go away by waiting.
pub(super) fn start(files: &FileSource) -> Result<Option<String>, SourceError> {
    match files.reload() {
        Ok(_) => Ok(None),
        Err(missing) if missing.is_missing_file() => {
            tracing::warn!(%missing, "there is no identity yet; waiting");
            Ok(Some(missing.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// Runs what never ends, and begins it anew should a panic end it: a rotation or a poll that has stopped would be noticed when it is too late.
///
/// # Cancel safety
/// Dropping the future ends what runs.
pub(super) async fn for_ever<F>(what: &'static str, begin: impl Fn() -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        // Ends what it runs when it is dropped.
        let mut task = JoinSet::new();
        task.spawn(begin());
        if let Some(Err(error)) = task.join_next().await {
            tracing::error!(%error, what, "what keeps this fresh ended by a panic; it begins anew");
        }
        sleep(BEGIN_ANEW).await;
    }
}

/// Says what is in force whenever that has changed, whoever changed it.
pub(super) async fn keep_announcing(shared: Arc<Shared>) {
    let mut changed = shared.identity.changed();
    while changed.changed().await.is_ok() {
        shared.announce();
    }
}

/// Looks at the files again; whether they should be looked at once more soon.
pub(super) fn reload(shared: &Shared) -> bool {
    let reloaded = shared.files.reload();
    // What did not stand up before may do so now: time has passed.
    shared.identity.retry();
    match reloaded {
        Ok(reloaded) => {
            let mut faults = shared.faults();
            (faults.identity, faults.is_identity_suspect) = (None, false);
            drop(faults);
            if matches!(reloaded, Reloaded::Swapped(_)) {
                shared.announce();
            }
            false
        }
        // A set is written file by file: what is half there now is whole in a moment, and no fault.
        Err(_) if !std::mem::replace(&mut shared.faults().is_identity_suspect, true) => true,
        Err(error) => {
            // Until the first one came, nothing that was good is being kept: we wait.
            let what = if shared.identity.current().is_some() {
                shared.svid_metrics.rotation(Reload::Failed);
                "identity not reloaded; the last good one stays in force"
            } else {
                "there is no identity yet; waiting"
            };
            super::reload::say_once(&mut shared.faults().identity, error.to_string(), what);
            false
        }
    }
}

impl Shared {
    /// Says what is wrong with the trust in force, each fault when it comes up.
    pub(super) fn say_trust_faults(&self, own: &X509Generation) {
        let faults = own.trust_faults();
        let mut said = self.faults();
        for fault in faults.iter().filter(|fault| !said.trust.contains(fault)) {
            tracing::error!("{fault}");
        }
        said.trust = faults;
    }

    /// Says what is in force, if that has changed since it was said last.
    fn announce(&self) {
        let own = self.identity.current();
        let number = own.as_ref().map(|own| own.number);
        let mut announced = self.announced.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *announced == number {
            return;
        }
        *announced = number;
        match own {
            Some(own) => {
                self.svid_metrics.rotation(Reload::Swapped);
                tracing::info!(generation = own.number, spiffe_id = %own.svid.id(), "identity rotated");
                self.say_trust_faults(&own);
            }
            None => tracing::error!("our identity was withdrawn; nobody is served until there is another one"),
        }
        self.describe();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_ends_by_a_panic_begins_anew() {
        let (begun, again) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let (counted, told) = (Arc::clone(&begun), Arc::clone(&again));
        let kept = tokio::spawn(for_ever("test", move || {
            let (counted, told) = (Arc::clone(&counted), Arc::clone(&told));
            async move {
                assert_ne!(counted.fetch_add(1, Ordering::Relaxed), 0, "the first time it panics");
                told.notify_one();
                std::future::pending().await
            }
        }));
        again.notified().await;
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        kept.abort();
    }
}
