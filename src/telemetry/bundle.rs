//! Metrics of policies that come from an address.

use std::time::SystemTime;

use metrics::{Counter, Gauge};

use super::Refresh;
use super::catalogue::{
    POLICY_BUNDLE_CACHE_FAILURES, POLICY_BUNDLE_EXPIRY, POLICY_BUNDLE_FETCHED, POLICY_BUNDLE_LAST_SUCCESS,
    POLICY_BUNDLE_POLLS, POLICY_BUNDLE_SEQUENCE,
};
use super::metrics::timestamp;

/// Metrics of `policy.url`.
#[derive(Debug)]
pub struct BundleMetrics {
    sequence: Gauge,
    fetched: Gauge,
    expiry: Gauge,
    last_success: Gauge,
    cache_failures: Counter,
}

impl BundleMetrics {
    /// Makes the handles.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it registers metrics, a default has no effects")]
    pub fn new() -> Self {
        Self {
            sequence: metrics::gauge!(POLICY_BUNDLE_SEQUENCE),
            fetched: metrics::gauge!(POLICY_BUNDLE_FETCHED),
            expiry: metrics::gauge!(POLICY_BUNDLE_EXPIRY),
            last_success: metrics::gauge!(POLICY_BUNDLE_LAST_SUCCESS),
            cache_failures: metrics::counter!(POLICY_BUNDLE_CACHE_FAILURES),
        }
    }

    /// The server was asked; `rule` is `none` unless it failed.
    pub fn polled(&self, result: Refresh, rule: &'static str) {
        metrics::counter!(POLICY_BUNDLE_POLLS, "result" => result.as_str(), "rule" => rule).increment(1);
        if result != Refresh::Failed {
            self.last_success.set(timestamp(SystemTime::now()));
        }
    }

    /// A bundle is in force from now on; `expires` is when it would be taken no more.
    pub fn in_force(&self, sequence: u64, fetched: SystemTime, expires: Option<SystemTime>) {
        #[expect(clippy::cast_precision_loss, reason = "metrics are floats; 2^53 bundles do not come")]
        self.sequence.set(sequence as f64);
        self.fetched.set(timestamp(fetched));
        self.expiry.set(expires.map_or(0.0, timestamp));
    }

    /// A bundle cannot be kept on disk, or what is there cannot be used.
    pub fn not_cached(&self) {
        self.cache_failures.increment(1);
    }
}
