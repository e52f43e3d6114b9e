//! How the bundles fare, for those who ask.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::DistributionError;
use crate::policy::{BundleKey, BundleKeys, Expiry, Manifest, PolicyBundle};

/// Told by the [`Distribution`](super::Distribution), read by everybody.
#[derive(Debug, Default)]
pub struct DistributionHealth {
    state: Mutex<DistributionState>,
    known: Mutex<Known>,
    look_again: Notify,
}

/// What one who polls has to know of those before him: a loop that ended by a panic must not make the next one go back.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// The newest bundle that was verified, in force or not: nothing older is taken.
    pub(super) newest: Option<Newest>,
    /// The keys by which the disk was looked at last.
    pub(super) restored_by: Option<BundleKeys>,
    /// The newest bundle is on disk as it should be.
    pub(super) is_on_disk: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) manifest: Manifest,
    /// Of its policies.
    pub(super) digest: String,
    pub(super) signed_by: BundleKey,
}

impl From<&PolicyBundle> for Newest {
    fn from(bundle: &PolicyBundle) -> Self {
        Self {
            manifest: bundle.manifest().clone(),
            digest: bundle.digest().to_owned(),
            signed_by: bundle.signed_by().clone(),
        }
    }
}

/// How the bundles fare.
#[derive(Debug, Clone, Default)]
pub struct DistributionState {
    /// The bundle in force, if one is.
    pub in_force: Option<BundleInForce>,
    /// When the server last had the bundle in force, or a new one that is in force now.
    pub last_success: Option<SystemTime>,
    /// Why the last poll put nothing in force, until one could, or had nothing new.
    pub fault: Option<DistributionFault>,
    /// Why the bundle in force is not kept on disk.
    pub cache_fault: Option<String>,
}

/// The bundle in force.
#[derive(Debug, Clone)]
pub struct BundleInForce {
    /// Its name.
    pub name: String,
    /// Its sequence number.
    pub sequence: u64,
    /// Fingerprint of the key whose signature it has.
    pub signed_by: String,
    /// It was read from the disk, and the server has not been heard since.
    pub is_from_cache: bool,
    /// When it was fetched.
    pub fetched: SystemTime,
    /// When it ends to be taken, if it does.
    pub expires: Option<Expiry>,
}

/// Why a poll put nothing in force.
#[derive(Debug, Clone)]
pub struct DistributionFault {
    /// The cause's name, as metrics have it.
    pub rule: &'static str,
    /// The cause.
    pub message: String,
    /// What is wrong with the policies, each with its source and a caret.
    pub report: Option<String>,
    /// Since when it has been so.
    pub since: SystemTime,
}

impl DistributionHealth {
    /// How things are.
    #[must_use]
    pub fn state(&self) -> DistributionState {
        self.lock().clone()
    }

    /// Has the server asked at once.
    pub fn look_again(&self) {
        self.look_again.notify_one();
    }

    /// # Cancel safety
    /// What was asked for is not forgotten.
    pub(super) async fn asked_to_look(&self) {
        self.look_again.notified().await;
    }

    pub(super) fn in_force(&self, bundle: &PolicyBundle, is_from_cache: bool, fetched: SystemTime) {
        let manifest = bundle.manifest();
        self.lock().in_force = Some(BundleInForce {
            name: manifest.name.clone(),
            sequence: manifest.sequence,
            signed_by: bundle.signed_by().fingerprint().to_owned(),
            is_from_cache,
            fetched,
            expires: manifest.expires,
        });
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn succeeded(&self, now: SystemTime) {
        let mut state = self.lock();
        (state.last_success, state.fault) = (Some(now), None);
        if let Some(in_force) = &mut state.in_force {
            in_force.is_from_cache = false;
        }
    }

    /// Whether this is another fault than the last one.
    pub(super) fn failed(&self, error: &DistributionError, now: SystemTime) -> bool {
        let mut state = self.lock();
        let message = error.to_string();
        let before = state.fault.as_ref().filter(|fault| fault.message == message);
        let since = before.map(|fault| fault.since);
        state.fault = Some(DistributionFault {
            rule: error.rule(),
            message,
            report: error.report(),
            since: since.unwrap_or(now),
        });
        since.is_none()
    }

    /// Whether this is another fault than the last one.
    pub(super) fn cached(&self, fault: Option<String>) -> bool {
        let mut state = self.lock();
        let is_new = state.cache_fault != fault;
        state.cache_fault = fault;
        is_new
    }

    fn lock(&self) -> MutexGuard<'_, DistributionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
