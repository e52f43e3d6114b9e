//! What is on disk comes into force again: at start, and when keys have come by which it is good.

use std::sync::Arc;

use tokio::task::spawn_blocking;

use super::{Distribution, check_name, put};
use crate::config::PolicyUrl;
use crate::distribution::DistributionError;
use crate::distribution::cache::{Cache, Cached};
use crate::distribution::health::Newest;
use crate::policy::{BundleKeys, Manifest, PolicyBundle, Reloaded};

impl Distribution {
    /// Puts the bundle on disk in force, if there is one that is good, and nobody has brought another since it was looked for. Takes as
    /// long as compiling it does.
    pub fn restore(&mut self) {
        // Keys that cannot be read are what the next poll says.
        let Ok(keys) = BundleKeys::read(&self.config.public_keys) else { return };
        if !self.is_to_be_restored(&keys) {
            return;
        }
        if let Err(error) = Cache::at(&self.config.cache_directory).sweep() {
            let folder = self.config.cache_directory.display();
            tracing::warn!(%folder, %error, "what was left behind beside the policy bundle on disk cannot be removed");
        }
        let restored = self.restore_by(&keys);
        self.known().restored_by = Some(keys);
        let Err(error) = restored else { return };
        self.metrics.not_cached();
        if self.health.cached(Some(error.to_string())) {
            let report = error.report();
            tracing::error!(rule = error.rule(), %error, report, "policy bundle on disk cannot be used");
        }
    }

    /// What was newest is no older than what is on disk, which may be an old one if the disk could not be written.
    pub(super) fn is_to_be_restored(&self, keys: &BundleKeys) -> bool {
        let known = self.known();
        known.newest.is_none() && known.restored_by.as_ref() != Some(keys)
    }

    fn restore_by(&mut self, keys: &BundleKeys) -> Result<(), DistributionError> {
        let Some((bundle, cached)) = from_cache(&self.config, keys)? else { return Ok(()) };
        self.known().newest = Some(Newest::from(&bundle));
        let reloaded = put(&self.store, &bundle)?;
        self.known().is_on_disk = cached.is_in_place;
        self.in_force(&bundle, true, cached.written);
        if matches!(reloaded, Reloaded::Swapped(_)) {
            let (bundle, path) = (bundle.manifest(), cached.path.display());
            tracing::info!(%bundle, %path, "policy bundle on disk is in force until the server is heard");
            (self.on_swap)();
        }
        Ok(())
    }

    /// The bundle that is kept on disk.
    ///
    /// # Errors
    /// There is none, or none that can be used.
    pub fn on_disk(config: &PolicyUrl) -> Result<PolicyBundle, DistributionError> {
        let keys = BundleKeys::read(&config.public_keys)?;
        let path = config.cache_directory.display().to_string();
        let none = || DistributionError::Cache { path, cause: "there is none yet".to_owned() };
        Ok(from_cache(config, &keys)?.ok_or_else(none)?.0)
    }

    /// The same as at start, not on the thread that answers probes.
    pub(super) async fn restore_aside(&self) -> Result<(), DistributionError> {
        let mut aside = Self::new(self.config.clone(), Arc::clone(&self.store), Arc::clone(&self.health), || {});
        aside.on_swap = Arc::clone(&self.on_swap);
        let restored = spawn_blocking(move || aside.restore());
        restored.await.map_err(|_| DistributionError::Panic)
    }
}

/// The number in a file's name is not signed: a bundle that lies under another than its own is not what we have put there.
fn check_cached(config: &PolicyUrl, cached: &Cached, found: &Manifest) -> Result<(), DistributionError> {
    if cached.sequence != found.sequence {
        let path = cached.path.display().to_string();
        return Err(DistributionError::Cache { path, cause: format!("it is {found}, which its name does not say") });
    }
    check_name(config, found)
}

/// The newest bundle on disk whose signature is good. What lies there and is not is said if there is no better one.
fn from_cache(config: &PolicyUrl, keys: &BundleKeys) -> Result<Option<(PolicyBundle, Cached)>, DistributionError> {
    let mut wrong = None;
    for cached in Cache::at(&config.cache_directory).read() {
        let fault = match cached {
            Ok(cached) => {
                let opened = PolicyBundle::open(&cached.tar, &cached.signature, keys).map_err(DistributionError::from);
                match opened.and_then(|bundle| check_cached(config, &cached, bundle.manifest()).map(|()| bundle)) {
                    Ok(bundle) => return Ok(Some((bundle, cached))),
                    Err(error) => (cached.path, error.to_string()),
                }
            }
            Err((path, error)) => (path, error.to_string()),
        };
        let (path, cause) = (fault.0.display().to_string(), fault.1);
        tracing::warn!(path, cause, "cached policy bundle is not used");
        wrong.get_or_insert(DistributionError::Cache { path, cause });
    }
    wrong.map_or(Ok(None), Err)
}
