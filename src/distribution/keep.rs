//! Polls the server, and puts in force what is good.

mod restore;
#[cfg(test)]
mod tests;

use std::sync::{Arc, MutexGuard};
use std::time::SystemTime;

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::DistributionError;
use super::cache::Cache;
use super::health::{DistributionHealth, Known, Newest};
use super::once::{self, Version};
use crate::config::PolicyUrl;
use crate::fetch::pause;
use crate::policy::{BundleKeys, Expiry, Manifest, PolicyBundle, PolicyStore, Reloaded};
use crate::telemetry::{BundleMetrics, PolicyMetrics, Refresh, Reload};

/// What is told when other policies are in force.
type OnSwap = Arc<dyn Fn() + Send + Sync>;

/// Policies that come from an address.
pub struct Distribution {
    config: PolicyUrl,
    store: Arc<PolicyStore>,
    health: Arc<DistributionHealth>,
    on_swap: OnSwap,
    metrics: BundleMetrics,
    policy_metrics: PolicyMetrics,
    /// What the server had, so that it need not send it again.
    seen: Option<Seen>,
    /// The moment of which was said that the bundle in force has expired.
    said_expired: Option<Expiry>,
    failures: u32,
}

/// A bundle whose signature is not of it is sent again after so many polls, though neither has changed: to some servers two files of
/// one second and one size have one ETag, and the right one may have come.
const BELIEVED: u32 = 10;

impl std::fmt::Debug for Distribution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Distribution").field("config", &self.config).finish_non_exhaustive()
    }
}

/// What the server had when it was asked last.
#[derive(Debug)]
struct Seen {
    keys: BundleKeys,
    version: Version,
    /// None: it is in force.
    refused: Option<DistributionError>,
    /// How often the server has said since that it has nothing else.
    again: u32,
}

impl Seen {
    fn new(keys: BundleKeys, version: Version, refused: Option<DistributionError>) -> Self {
        Self { keys, version, refused, again: 0 }
    }

    /// Whether the server need not send it again.
    fn will_do(&self, is_on_disk: bool) -> bool {
        match &self.refused {
            // What is not on disk is fetched again until it is.
            None => is_on_disk,
            // A clock that went ahead may have been set.
            Some(DistributionError::Expired { expired, .. }) => expired.is_past(SystemTime::now()),
            Some(error) => !error.is_of_the_signature() || self.again < BELIEVED,
        }
    }
}

/// A bundle as it came.
pub(super) struct Fetched {
    pub(super) bundle: PolicyBundle,
    pub(super) tar: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl Distribution {
    /// What `config` says, brought to `store`. `on_swap` is told of each new generation once it is in force.
    #[must_use]
    pub fn new(
        config: PolicyUrl,
        store: Arc<PolicyStore>,
        health: Arc<DistributionHealth>,
        on_swap: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        Self {
            config,
            store,
            health,
            on_swap: Arc::new(on_swap),
            metrics: BundleMetrics::new(),
            policy_metrics: PolicyMetrics::new(),
            seen: None,
            said_expired: None,
            failures: 0,
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.health.known()
    }

    fn in_force(&self, bundle: &PolicyBundle, is_from_cache: bool, fetched: SystemTime) {
        let manifest = bundle.manifest();
        self.health.in_force(bundle, is_from_cache, fetched);
        self.metrics.in_force(manifest.sequence, fetched, manifest.expires.map(Expiry::time));
    }

    /// Says once that the bundle in force would not be taken any more.
    fn say_expired(&mut self) {
        let Some(bundle) = self.health.state().in_force else { return };
        let expired = bundle.expires.filter(|expiry| expiry.is_past(SystemTime::now()));
        if let Some(at) = expired.filter(|_| expired != self.said_expired) {
            let bundle = format!("{}@{}", bundle.name, bundle.sequence);
            tracing::warn!(bundle, expired = %at, "the policy bundle in force has expired; it stays in force until a newer one comes");
        }
        self.said_expired = expired;
    }

    /// Says and counts why nothing came into force.
    fn failed(&mut self, error: &DistributionError) {
        self.failures = self.failures.saturating_add(1);
        self.metrics.polled(Refresh::Failed, error.rule());
        if error.report().is_some() {
            self.policy_metrics.reload(Reload::Failed);
        }
        if !self.health.failed(error, SystemTime::now()) {
            return;
        }
        let what = match self.store.number() {
            0 => "there are no policies yet; everything is denied",
            _ => "no new policies; the last good ones stay in force",
        };
        let (rule, report) = (error.rule(), error.report());
        tracing::error!(rule, %error, report, "{what}");
    }

    /// The bundle that the server has now.
    ///
    /// # Errors
    /// It has none, or none that would be believed.
    ///
    /// # Cancel safety
    /// Nothing is put in force.
    pub async fn look(config: &PolicyUrl) -> Result<PolicyBundle, DistributionError> {
        let keys = BundleKeys::read(&config.public_keys)?;
        match once::poll(config, None, &keys).await.map_err(|(error, _)| error)? {
            Some((fetched, _)) => {
                let found = fetched.bundle.manifest();
                check_name(config, found).and_then(|()| check_expiry(found)).map(|()| fetched.bundle)
            }
            None => Err(DistributionError::Bundle(once::not_asked_for(&config.url))),
        }
    }

    /// Polls again and again, and never ends.
    ///
    /// # Cancel safety
    /// What has been put in force stays so.
    pub async fn keep(mut self) {
        loop {
            match self.poll().await {
                Ok(refresh) => self.succeeded(refresh),
                Err(error) => self.failed(&error),
            }
            self.say_expired();
            let has_policies = self.store.number() > 0;
            let pause = pause(Some(self.config.poll_interval), None, has_policies, self.failures, fastrand::f64());
            tokio::select! {
                () = sleep(pause) => {}
                () = self.health.asked_to_look() => {}
            }
        }
    }

    fn succeeded(&mut self, refresh: Refresh) {
        self.metrics.polled(refresh, "none");
        if self.failures > 0 {
            tracing::info!("policy bundles are fetched again");
        }
        self.failures = 0;
        self.health.succeeded(SystemTime::now());
    }

    /// Asks the server once.
    async fn poll(&mut self) -> Result<Refresh, DistributionError> {
        let keys = BundleKeys::read(&self.config.public_keys)?;
        if self.is_to_be_restored(&keys) {
            self.restore_aside().await?;
        }
        let seen = self.seen.take().filter(|seen| seen.keys == keys);
        let is_on_disk = self.is_still_on_disk();
        let known = seen.as_ref().filter(|seen| seen.will_do(is_on_disk));
        let asked = once::poll(&self.config, known.map(|seen| &seen.version), &keys).await;
        let polled = match asked {
            Ok(polled) => polled,
            Err((error, version)) => {
                self.seen = match version.filter(|_| error.is_of_the_bundle()) {
                    Some(version) => Some(Seen::new(keys, version, Some(error.clone()))),
                    None => seen,
                };
                return Err(error);
            }
        };
        let Some((fetched, version)) = polled else {
            // The server still has what was seen last.
            let refused = seen.as_ref().and_then(|seen| seen.refused.clone());
            self.seen = seen.map(|seen| Seen { again: seen.again.saturating_add(1), ..seen });
            let in_force = self.known().newest.as_ref().map(|newest| newest.manifest.clone());
            return match (refused, in_force) {
                (Some(refused), _) => Err(refused),
                (None, Some(in_force)) => check_expiry(&in_force).map(|()| Refresh::Unchanged),
                (None, None) => Ok(Refresh::Unchanged),
            };
        };
        let taken = self.take(fetched, &keys).await;
        let refused = taken.as_ref().err().filter(|error| error.is_of_the_bundle()).cloned();
        if taken.is_ok() || refused.is_some() {
            self.seen = Some(Seen::new(keys, version, refused));
        }
        taken
    }

    /// Puts a bundle in force that was verified, if it is the right one and not an old one.
    async fn take(&mut self, fetched: Fetched, keys: &BundleKeys) -> Result<Refresh, DistributionError> {
        let found = fetched.bundle.manifest().clone();
        check_name(&self.config, &found)?;
        let before = self.known().newest.clone();
        // A bundle by a key that is trusted no more holds nothing back: whoever has stolen the key could have given it the highest number.
        if let Some(newest) = before.as_ref().filter(|newest| keys.contains(&newest.signed_by)) {
            if found.name != newest.manifest.name {
                return Err(DistributionError::Name { found, wanted: newest.manifest.name.clone() });
            }
            if found.sequence < newest.manifest.sequence {
                return Err(DistributionError::Sequence { found, newest: newest.manifest.clone() });
            }
            // Nor may a number come with another end: the server could take back one that was signed to end sooner.
            let is_other = fetched.bundle.digest() != newest.digest || found.expires != newest.manifest.expires;
            if found.sequence == newest.manifest.sequence && is_other {
                return Err(DistributionError::SequenceTwice { found });
            }
        }
        check_expiry(&found)?;
        let store = Arc::clone(&self.store);
        let (fetched, reloaded) = spawn_blocking(move || {
            let reloaded = put(&store, &fetched.bundle);
            (fetched, reloaded)
        })
        .await
        .map_err(|_| DistributionError::Panic)?;
        let reloaded = reloaded?;
        let newest = Newest::from(&fetched.bundle);
        let is_new = before.as_ref() != Some(&newest);
        self.known().newest = Some(newest);
        let refresh = match reloaded {
            Reloaded::Swapped(_) => {
                tracing::info!(bundle = %found, "policy bundle is in force");
                (self.on_swap)();
                Refresh::Swapped
            }
            Reloaded::Unchanged if is_new => {
                tracing::info!(bundle = %found, "policy bundle has the policies in force");
                Refresh::Swapped
            }
            Reloaded::Unchanged => Refresh::Unchanged,
        };
        if is_new || self.health.state().in_force.is_none() {
            self.in_force(&fetched.bundle, false, SystemTime::now());
        }
        // A disk may be slow: what is in force has been said by then.
        if is_new || !self.is_still_on_disk() {
            self.keep_on_disk(fetched).await;
        }
        Ok(refresh)
    }

    /// Whether what was kept is still there: folders are emptied by others.
    fn is_still_on_disk(&self) -> bool {
        let mut known = self.known();
        let newest = known.newest.as_ref().map(|newest| newest.manifest.sequence);
        known.is_on_disk &= newest.is_some_and(|sequence| Cache::at(&self.config.cache_directory).has(sequence));
        known.is_on_disk
    }

    /// What is not kept on disk decides all the same: only a restart while the server is away would miss it.
    async fn keep_on_disk(&mut self, fetched: Fetched) {
        let cache = Cache::at(&self.config.cache_directory);
        let sequence = fetched.bundle.manifest().sequence;
        let kept = spawn_blocking(move || cache.keep(sequence, &fetched.tar, &fetched.signature)).await;
        let fault = match kept {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("writing it ended by a panic".to_owned()),
        };
        self.known().is_on_disk = fault.is_none();
        let folder = self.config.cache_directory.display();
        let fault = fault.map(|cause| format!("bundle cannot be kept in `{folder}`: {cause}"));
        if fault.is_some() {
            self.metrics.not_cached();
        }
        if self.health.cached(fault.clone())
            && let Some(error) = fault
        {
            tracing::error!(
                error,
                "policy bundle is in force, but a restart while the server is away would not find it"
            );
        }
    }
}

fn put(store: &PolicyStore, bundle: &PolicyBundle) -> Result<Reloaded, DistributionError> {
    store.put(bundle).map_err(|errors| DistributionError::Policies { of: bundle.manifest().clone(), errors })
}

fn check_name(config: &PolicyUrl, found: &Manifest) -> Result<(), DistributionError> {
    match &config.bundle_name {
        Some(wanted) if *wanted != found.name => {
            Err(DistributionError::Name { found: found.clone(), wanted: wanted.clone() })
        }
        _ => Ok(()),
    }
}

fn check_expiry(found: &Manifest) -> Result<(), DistributionError> {
    match found.expires {
        Some(expired) if expired.is_past(SystemTime::now()) => {
            Err(DistributionError::Expired { found: found.clone(), expired })
        }
        _ => Ok(()),
    }
}
