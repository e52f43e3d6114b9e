//! Metrics of the process as a whole: policies, our own SVID, audit records.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use metrics::{Counter, Gauge};

use super::catalogue::{
    AUDIT_ACCEPTS, AUDIT_RECORDS, AUDIT_REFUSED, AUTHZ_MEMORY, IDENTITY_SOURCE_FAILURES, IDENTITY_SOURCE_UP,
    POLICY_GENERATION, POLICY_INFO, POLICY_RELOAD, SVID_EXPIRY, SVID_GENERATION, SVID_LAST_ROTATION, SVID_NOT_BEFORE,
    SVID_OVERDUE, SVID_ROTATION,
};
use super::metrics::timestamp;
use super::process::sample;

/// Kept beside the recorder: a label that changes with every reload would leave a series behind each time.
static POLICY_DIGEST: ArcSwapOption<String> = ArcSwapOption::const_empty();
/// Looked at when metrics are shown: it becomes overdue without anything happening.
static SVID_LIFETIME: ArcSwapOption<(SystemTime, SystemTime)> = ArcSwapOption::const_empty();

/// What became of a changed policy directory or certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// The new one is in force.
    Swapped,
    /// The new one is no good, the last good one stays in force.
    Failed,
}

impl Reload {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Swapped => "swapped",
            Self::Failed => "failed",
        }
    }
}

/// Metrics of the policy store.
#[derive(Debug)]
pub struct PolicyMetrics {
    generation: Gauge,
    swapped: Counter,
    failed: Counter,
}

impl PolicyMetrics {
    /// Makes the handles.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it registers metrics, a default has no effects")]
    pub fn new() -> Self {
        Self {
            generation: metrics::gauge!(POLICY_GENERATION),
            swapped: metrics::counter!(POLICY_RELOAD, "result" => Reload::Swapped.as_str()),
            failed: metrics::counter!(POLICY_RELOAD, "result" => Reload::Failed.as_str()),
        }
    }

    /// A generation is in force from now on.
    pub fn in_force(&self, generation: u64, digest: &str) {
        self.generation.set(as_f64(generation));
        POLICY_DIGEST.store(Some(Arc::new(digest.to_owned())));
    }

    /// The directory changed. A look that found no change is not counted.
    pub fn reload(&self, result: Reload) {
        match result {
            Reload::Swapped => self.swapped.increment(1),
            Reload::Failed => self.failed.increment(1),
        }
    }
}

/// Metrics of the decisions that a set of policies remembers.
#[derive(Debug)]
pub struct MemoryMetrics {
    hit: Counter,
    miss: Counter,
    volatile: Counter,
}

impl MemoryMetrics {
    /// Makes the handles.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it registers metrics, a default has no effects")]
    pub fn new() -> Self {
        let of = |result: &'static str| metrics::counter!(AUTHZ_MEMORY, "result" => result);
        Self { hit: of("hit"), miss: of("miss"), volatile: of("volatile") }
    }

    /// A question has its answer from memory.
    pub fn hit(&self) {
        self.hit.increment(1);
    }

    /// A question was decided, and its answer can be used again.
    pub fn miss(&self) {
        self.miss.increment(1);
    }

    /// A question was decided, and its answer is of no use for another.
    pub fn volatile(&self) {
        self.volatile.increment(1);
    }
}

/// Metrics of our own SVID.
#[derive(Debug)]
pub struct SvidMetrics {
    generation: Gauge,
    not_before: Gauge,
    expiry: Gauge,
    last_rotation: Gauge,
    /// The generation that was told last.
    known: AtomicU64,
    swapped: Counter,
    failed: Counter,
}

impl SvidMetrics {
    /// Makes the handles.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it registers metrics, a default has no effects")]
    pub fn new() -> Self {
        Self {
            generation: metrics::gauge!(SVID_GENERATION),
            not_before: metrics::gauge!(SVID_NOT_BEFORE),
            expiry: metrics::gauge!(SVID_EXPIRY),
            last_rotation: metrics::gauge!(SVID_LAST_ROTATION),
            known: AtomicU64::new(0),
            swapped: metrics::counter!(SVID_ROTATION, "result" => Reload::Swapped.as_str()),
            failed: metrics::counter!(SVID_ROTATION, "result" => Reload::Failed.as_str()),
        }
    }

    /// A generation is in force from now on.
    pub fn in_force(&self, generation: u64, not_before: SystemTime, not_after: SystemTime) {
        self.generation.set(as_f64(generation));
        self.not_before.set(timestamp(not_before));
        self.expiry.set(timestamp(not_after));
        if self.known.swap(generation, Ordering::Relaxed) != generation {
            self.last_rotation.set(timestamp(SystemTime::now()));
        }
        SVID_LIFETIME.store(Some(Arc::new((not_before, not_after))));
    }

    /// The files changed. A look that found no change is not counted.
    pub fn rotation(&self, result: Reload) {
        match result {
            Reload::Swapped => self.swapped.increment(1),
            Reload::Failed => self.failed.increment(1),
        }
    }
}

/// Metrics of a source of our identity that can be away.
#[derive(Debug)]
pub struct IdentitySourceMetrics {
    source: &'static str,
    up: Gauge,
}

impl IdentitySourceMetrics {
    /// Makes the handles; the source is not up yet.
    #[must_use]
    pub fn new(source: &'static str) -> Self {
        let metrics = Self { source, up: metrics::gauge!(IDENTITY_SOURCE_UP, "source" => source) };
        metrics.up(false);
        metrics
    }

    /// Whether it answers and what it said last is in force.
    pub fn up(&self, is_up: bool) {
        self.up.set(f64::from(u8::from(is_up)));
    }

    /// It gave us nothing to use.
    pub fn failed(&self, reason: &'static str) {
        metrics::counter!(IDENTITY_SOURCE_FAILURES, "source" => self.source, "reason" => reason).increment(1);
    }
}

/// Metrics of the audit sink.
#[derive(Debug)]
pub struct AuditMetrics {
    /// Records in the sink.
    pub written: Counter,
    /// Allowed requests that the sampling rate left out.
    pub sampled_out: Counter,
    /// Records that could not be written, so that their request was refused.
    pub failed: Counter,
    /// Records that could not be written while `unsafe_on_failure: allow` let their request go on.
    pub lost: Counter,
    /// Requests refused because the sink fails.
    pub refused: Counter,
    /// 1 while the sink takes records.
    pub accepts: Gauge,
}

impl AuditMetrics {
    /// Makes the handles.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it registers metrics, a default has no effects")]
    pub fn new() -> Self {
        Self {
            written: metrics::counter!(AUDIT_RECORDS, "result" => "written"),
            sampled_out: metrics::counter!(AUDIT_RECORDS, "result" => "sampled_out"),
            failed: metrics::counter!(AUDIT_RECORDS, "result" => "failed"),
            lost: metrics::counter!(AUDIT_RECORDS, "result" => "lost"),
            refused: metrics::counter!(AUDIT_REFUSED),
            accepts: metrics::gauge!(AUDIT_ACCEPTS),
        }
    }
}

/// Brings up to date what changes with time alone.
pub(super) fn refresh(now: SystemTime) {
    let lifetime = SVID_LIFETIME.load();
    let overdue = lifetime.as_ref().is_none_or(|lifetime| is_overdue(lifetime.0, lifetime.1, now));
    metrics::gauge!(SVID_OVERDUE).set(f64::from(u8::from(overdue)));
}

/// Adds what the recorder does not keep.
pub(super) fn render(text: &mut String) {
    if let Some(digest) = POLICY_DIGEST.load().as_ref() {
        // A digest is `sha256:` and hex, so there is nothing to escape; anything else is not shown.
        if digest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b':') {
            sample(text, POLICY_INFO, &format!("{{digest=\"{digest}\"}}"), 1.0);
        }
    }
}

/// A rotation is due by half of the lifetime (what SPIRE does), so at a third left something is stuck.
fn is_overdue(not_before: SystemTime, not_after: SystemTime, now: SystemTime) -> bool {
    let lifetime = not_after.duration_since(not_before).unwrap_or(Duration::ZERO);
    not_after.duration_since(now).is_ok_and(|left| left < lifetime / 3) || now >= not_after
}

/// Generations count from 1, far below 2^53.
#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn as_f64(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn an_svid_is_overdue_once_less_than_a_third_of_its_life_is_left() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let overdue = |now| is_overdue(at(1_000), at(4_000), at(now));
        assert_eq!(
            [1_000, 2_999, 3_000, 3_001, 3_999, 4_000, 9_000].map(overdue),
            [false, false, false, true, true, true, true]
        );
    }

    #[test]
    fn a_new_digest_replaces_the_old_one() {
        let text = super::super::metrics::recorded(|| {
            let policy = PolicyMetrics::new();
            policy.in_force(1, "sha256:00");
            policy.in_force(2, "sha256:01");
        });
        assert_eq!(text.matches("portcullis_policy_info{").count(), 1);
    }
}
