//! Metrics of what other trust domains publish: their bundles by federation, their revocation lists by files.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use metrics::{Counter, Gauge};

use super::catalogue::{CATALOGUE, CRL_EXPIRY, FEDERATION_LAST_REFRESH, FEDERATION_REFRESH};
use super::metrics::timestamp;

/// Kept beside the recorder: a list that is gone leaves no series behind.
static CRLS: ArcSwapOption<Vec<CrlExpiry>> = ArcSwapOption::const_empty();

/// What came of asking a server for a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// A new bundle, in force now.
    Swapped,
    /// The bundle that is in force.
    Unchanged,
    /// No bundle, or one that cannot be put in force. The last good one stays.
    Failed,
}

impl Refresh {
    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Swapped => "swapped",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// Metrics of one federated trust domain.
#[derive(Debug)]
pub struct FederationMetrics {
    swapped: Counter,
    unchanged: Counter,
    failed: Counter,
    last: Gauge,
}

impl FederationMetrics {
    /// Makes the handles.
    #[must_use]
    pub fn new(trust_domain: &str) -> Self {
        let label = || trust_domain.to_owned();
        let counter = |result| metrics::counter!(FEDERATION_REFRESH, "trust_domain" => label(), "result" => result);
        Self {
            swapped: counter("swapped"),
            unchanged: counter("unchanged"),
            failed: counter("failed"),
            last: metrics::gauge!(FEDERATION_LAST_REFRESH, "trust_domain" => label()),
        }
    }

    /// The endpoint was asked.
    pub fn refreshed(&self, result: Refresh) {
        match result {
            Refresh::Swapped => self.swapped.increment(1),
            Refresh::Unchanged => self.unchanged.increment(1),
            Refresh::Failed => return self.failed.increment(1),
        }
        self.last.set(timestamp(SystemTime::now()));
    }
}

/// Until when a revocation list is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlExpiry {
    /// Of which trust domain.
    pub trust_domain: String,
    /// Of which issuer, as RFC 4514 writes names.
    pub issuer: String,
    /// When the issuer makes the next one at the latest.
    pub next_update: SystemTime,
}

/// These revocation lists are in force from now on, and no others.
pub fn crls_in_force(crls: Vec<CrlExpiry>) {
    CRLS.store(Some(Arc::new(crls)));
}

/// Adds them to what the recorder has.
pub(super) fn render(text: &mut String) {
    if let Some(crls) = CRLS.load().as_ref().filter(|crls| !crls.is_empty()) {
        write(text, crls);
    }
}

fn write(text: &mut String, crls: &[CrlExpiry]) {
    let Some(metric) = CATALOGUE.iter().find(|metric| metric.name == CRL_EXPIRY) else { return };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# HELP {} {}\n# TYPE {} {}", metric.name, metric.help, metric.name, metric.kind.as_str());
    let mut written: Vec<(&str, &str)> = Vec::new();
    for crl in crls {
        let labels = (crl.trust_domain.as_str(), crl.issuer.as_str());
        if written.contains(&labels) {
            continue;
        }
        written.push(labels);
        // Of several lists of one issuer the first one to expire.
        let same = crls.iter().filter(|one| (one.trust_domain.as_str(), one.issuer.as_str()) == labels);
        let first = same.map(|one| one.next_update).min().unwrap_or(crl.next_update);
        let (trust_domain, issuer) = (escaped(labels.0), escaped(labels.1));
        let labels = format!("{{trust_domain=\"{trust_domain}\",issuer=\"{issuer}\"}}");
        let _ = writeln!(text, "{}{labels} {}", metric.name, timestamp(first));
    }
    text.push('\n');
}

/// # Source
/// Prometheus' text format: `\`, `"` and line feeds in a label's value are escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn each_issuer_has_one_series_with_the_first_end() {
        let crl = |issuer: &str, seconds| CrlExpiry {
            trust_domain: "a.test".to_owned(),
            issuer: issuer.to_owned(),
            next_update: UNIX_EPOCH + Duration::from_secs(seconds),
        };
        let mut text = String::new();
        write(&mut text, &[crl("CN=one", 2_000), crl("CN=\"t\\wo", 3_000), crl("CN=one", 1_000)]);
        let name = "portcullis_crl_expiry_timestamp_seconds";
        assert!(text.contains(&format!("{name}{{trust_domain=\"a.test\",issuer=\"CN=one\"}} 1000\n")), "{text}");
        assert!(
            text.contains(&format!("{name}{{trust_domain=\"a.test\",issuer=\"CN=\\\"t\\\\wo\"}} 3000\n")),
            "{text}"
        );
        assert_eq!(text.matches("CN=one").count(), 1);
    }
}
