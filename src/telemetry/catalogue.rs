//! Every metric in one table: name, kind, labels, meaning. `docs/metrics.md` is compared with it by a test.

use metrics::Unit;

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Described {
    /// The name as Prometheus sees it.
    pub name: &'static str,
    /// What it does over time.
    pub kind: Kind,
    /// Its labels, in the order of the documentation.
    pub labels: &'static [&'static str],
    /// Unit of the value, if it has one.
    pub unit: Option<Unit>,
    /// One sentence: the HELP line.
    pub help: &'static str,
}

/// What a metric does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Counts values by size.
    Histogram,
}

impl Kind {
    /// The word of the TYPE line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

pub(super) const BUILD_INFO: &str = "portcullis_build_info";
pub(super) const AUTHZ_DECISIONS: &str = "portcullis_authz_decisions_total";
pub(super) const AUTHZ_DURATION: &str = "portcullis_authz_duration_seconds";
pub(super) const AUTHZ_MEMORY: &str = "portcullis_authz_memory_total";
pub(super) const POLICY_GENERATION: &str = "portcullis_policy_generation";
pub(super) const POLICY_INFO: &str = "portcullis_policy_info";
pub(super) const POLICY_RELOAD: &str = "portcullis_policy_reload_total";
pub(super) const POLICY_BUNDLE_POLLS: &str = "portcullis_policy_bundle_polls_total";
pub(super) const POLICY_BUNDLE_SEQUENCE: &str = "portcullis_policy_bundle_sequence";
pub(super) const POLICY_BUNDLE_FETCHED: &str = "portcullis_policy_bundle_fetched_timestamp_seconds";
pub(super) const POLICY_BUNDLE_EXPIRY: &str = "portcullis_policy_bundle_expiry_timestamp_seconds";
pub(super) const POLICY_BUNDLE_LAST_SUCCESS: &str = "portcullis_policy_bundle_last_success_timestamp_seconds";
pub(super) const POLICY_BUNDLE_CACHE_FAILURES: &str = "portcullis_policy_bundle_cache_failures_total";
pub(super) const SVID_GENERATION: &str = "portcullis_svid_generation";
pub(super) const SVID_NOT_BEFORE: &str = "portcullis_svid_not_before_timestamp_seconds";
pub(super) const SVID_EXPIRY: &str = "portcullis_svid_expiry_timestamp_seconds";
pub(super) const SVID_OVERDUE: &str = "portcullis_svid_rotation_overdue";
pub(super) const SVID_ROTATION: &str = "portcullis_svid_rotation_total";
pub(super) const SVID_LAST_ROTATION: &str = "portcullis_svid_last_rotation_timestamp_seconds";
pub(super) const TRUST_BUNDLE_EXPIRY: &str = "portcullis_trust_bundle_expiry_timestamp_seconds";
pub(super) const CRL_EXPIRY: &str = "portcullis_crl_expiry_timestamp_seconds";
pub(super) const FEDERATION_REFRESH: &str = "portcullis_federation_refresh_total";
pub(super) const FEDERATION_LAST_REFRESH: &str = "portcullis_federation_last_refresh_timestamp_seconds";
pub(super) const IDENTITY_SOURCE_UP: &str = "portcullis_identity_source_up";
pub(super) const IDENTITY_SOURCE_FAILURES: &str = "portcullis_identity_source_failures_total";
pub(super) const CONNECTIONS: &str = "portcullis_connections";
pub(super) const CONNECTIONS_TOTAL: &str = "portcullis_connections_total";
pub(super) const CONNECTIONS_REFUSED: &str = "portcullis_connections_refused_total";
pub(super) const HANDSHAKES: &str = "portcullis_handshakes_total";
pub(super) const TOKENS: &str = "portcullis_tokens_total";
pub(super) const REQUESTS: &str = "portcullis_requests_total";
pub(super) const REQUEST_DURATION: &str = "portcullis_request_duration_seconds";
pub(super) const BYTES: &str = "portcullis_bytes_total";
pub(super) const SQL_STATEMENTS: &str = "portcullis_sql_statements_total";
pub(super) const SQL_DURATION: &str = "portcullis_sql_statement_duration_seconds";
pub(super) const UPSTREAM_FAILURES: &str = "portcullis_upstream_failures_total";
pub(super) const AUDIT_RECORDS: &str = "portcullis_audit_records_total";
pub(super) const AUDIT_REFUSED: &str = "portcullis_audit_refused_requests_total";
pub(super) const AUDIT_ACCEPTS: &str = "portcullis_audit_accepts";
pub(super) const PROCESS_RSS: &str = "process_resident_memory_bytes";
pub(super) const PROCESS_CPU: &str = "process_cpu_seconds_total";
pub(super) const PROCESS_FDS: &str = "process_open_fds";
pub(super) const PROCESS_MAX_FDS: &str = "process_max_fds";
pub(super) const PROCESS_START: &str = "process_start_time_seconds";

/// Every metric that `/metrics` can show.
pub const CATALOGUE: &[Described] = &[
    gauge(BUILD_INFO, &["version"], None, "Always 1; the version is in the label."),
    counter(
        AUTHZ_DECISIONS,
        &["listener", "direction", "action", "outcome", "mode"],
        None,
        "Operations decided. Actions that the schema does not know are `other`, requests that could not be named `none`.",
    ),
    histogram(AUTHZ_DURATION, &["listener", "direction"], "Time to decide one request, all its operations together."),
    counter(
        AUTHZ_MEMORY,
        &["result"],
        None,
        "Operations put to policies in force and candidates: answered from memory, decided, or decided by what is never the same twice.",
    ),
    gauge(POLICY_GENERATION, &[], None, "Number of the policy generation in force."),
    gauge(POLICY_INFO, &["digest"], None, "Always 1; the digest of the policies in force is in the label."),
    counter(
        POLICY_RELOAD,
        &["result"],
        None,
        "Changed policies: put in force, or refused with the last good ones kept.",
    ),
    counter(
        POLICY_BUNDLE_POLLS,
        &["result", "rule"],
        None,
        "Polls of `policy.url`, by what came of them, and the rule that failed ones broke; then the last good bundle is kept.",
    ),
    gauge(POLICY_BUNDLE_SEQUENCE, &[], None, "Sequence number of the policy bundle in force."),
    gauge(POLICY_BUNDLE_FETCHED, &[], Some(Unit::Seconds), "When the policy bundle in force was fetched."),
    gauge(
        POLICY_BUNDLE_EXPIRY,
        &[],
        Some(Unit::Seconds),
        "When the policy bundle in force expires, by its signature: 0 if it does not. It stays in force.",
    ),
    gauge(
        POLICY_BUNDLE_LAST_SUCCESS,
        &[],
        Some(Unit::Seconds),
        "When `policy.url` last had the bundle in force, or a new one that was put in force.",
    ),
    counter(
        POLICY_BUNDLE_CACHE_FAILURES,
        &[],
        None,
        "Policy bundles that could not be kept on disk, or be read back from there.",
    ),
    gauge(SVID_GENERATION, &[], None, "Number of the X.509 generation (SVID, key and bundles) in force."),
    gauge(SVID_NOT_BEFORE, &[], Some(Unit::Seconds), "When our own SVID began to be valid."),
    gauge(SVID_EXPIRY, &[], Some(Unit::Seconds), "When our own SVID expires."),
    gauge(
        SVID_OVERDUE,
        &[],
        None,
        "1 once less than a third of our SVID's lifetime is left, or there is no SVID; else 0.",
    ),
    counter(
        SVID_ROTATION,
        &["result"],
        None,
        "Changed SVIDs or bundles: put in force, or refused with the last good ones kept.",
    ),
    gauge(
        SVID_LAST_ROTATION,
        &[],
        Some(Unit::Seconds),
        "When the X.509 generation in force was put in force: at start, or at the last rotation.",
    ),
    gauge(
        TRUST_BUNDLE_EXPIRY,
        &["trust_domain", "authority"],
        Some(Unit::Seconds),
        "When the first and the last authority of a trust domain's bundle expire.",
    ),
    gauge(
        CRL_EXPIRY,
        &["trust_domain", "issuer"],
        Some(Unit::Seconds),
        "When the next revocation list of an issuer is due.",
    ),
    counter(
        FEDERATION_REFRESH,
        &["trust_domain", "result"],
        None,
        "Bundle endpoints asked, by what came of it; after a failure the last good bundle is kept.",
    ),
    gauge(
        FEDERATION_LAST_REFRESH,
        &["trust_domain"],
        Some(Unit::Seconds),
        "When a bundle endpoint last answered with a good bundle.",
    ),
    gauge(
        IDENTITY_SOURCE_UP,
        &["source"],
        None,
        "1 while the source of our identity answers and what it said last is in force, else 0.",
    ),
    counter(
        IDENTITY_SOURCE_FAILURES,
        &["source", "reason"],
        None,
        "Attempts and updates that gave us nothing to use, by reason.",
    ),
    gauge(CONNECTIONS, &["listener", "direction", "state"], None, "Connections now, by what they are doing."),
    counter(CONNECTIONS_TOTAL, &["listener", "direction"], None, "Connections accepted."),
    counter(
        CONNECTIONS_REFUSED,
        &["listener", "direction", "reason"],
        None,
        "Connections closed before a byte was read.",
    ),
    counter(
        HANDSHAKES,
        &["listener", "direction", "result", "rule"],
        None,
        "TLS handshakes as server (inbound) or client (outbound), and the rule that refused ones broke.",
    ),
    counter(
        TOKENS,
        &["listener", "direction", "result", "rule"],
        None,
        "Tokens that requests brought, and the rule that refused ones broke.",
    ),
    counter(REQUESTS, &["listener", "direction", "status"], None, "Requests answered, by class of status."),
    histogram(
        REQUEST_DURATION,
        &["listener", "direction"],
        "From the head of a request to the last byte of its answer.",
    ),
    counter(
        BYTES,
        &["listener", "direction", "stage"],
        Some(Unit::Bytes),
        "Body bytes relayed: `in` from downstream to upstream, `out` back.",
    ),
    counter(
        SQL_STATEMENTS,
        &["listener", "direction", "kind", "result"],
        None,
        "SQL statements by kind and what became of them. Those that were not understood are `none`.",
    ),
    histogram(
        SQL_DURATION,
        &["listener", "direction", "kind"],
        "From the last byte of a SQL statement to the end of its answer.",
    ),
    counter(
        UPSTREAM_FAILURES,
        &["listener", "direction", "stage"],
        None,
        "Permitted requests that the upstream failed, by stage.",
    ),
    counter(AUDIT_RECORDS, &["result"], None, "Audit records, by what became of them."),
    counter(AUDIT_REFUSED, &[], None, "Requests refused because no audit record could have been written for them."),
    gauge(AUDIT_ACCEPTS, &[], None, "1 while audit records can be written, else 0."),
    gauge(PROCESS_RSS, &[], Some(Unit::Bytes), "Resident memory."),
    counter(PROCESS_CPU, &[], Some(Unit::Seconds), "User and system CPU time."),
    gauge(PROCESS_FDS, &[], None, "Open file descriptors."),
    gauge(PROCESS_MAX_FDS, &[], None, "Most file descriptors that may be open."),
    gauge(PROCESS_START, &[], Some(Unit::Seconds), "When the process started."),
];

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    unit: Option<Unit>,
    help: &'static str,
) -> Described {
    Described { name, kind: Kind::Counter, labels, unit, help }
}

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    unit: Option<Unit>,
    help: &'static str,
) -> Described {
    Described { name, kind: Kind::Gauge, labels, unit, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Described {
    Described { name, kind: Kind::Histogram, labels, unit: Some(Unit::Seconds), help }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_prometheus_conventions_that_promtool_checks() {
        let mut seen = HashSet::new();
        for metric in CATALOGUE {
            let name = metric.name;
            assert!(seen.insert(name), "`{name}` is there twice");
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "`{name}`: only counters end in _total");
            for suffix in ["_count", "_sum", "_bucket"] {
                assert!(!name.ends_with(suffix), "`{name}` ends like a part of a histogram");
            }
            assert!(
                !metric.help.is_empty() && metric.help.ends_with('.') && !metric.help.contains('\n'),
                "`{name}`: HELP"
            );
            assert!(name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'_')), "`{name}` has odd characters");
            if metric.kind == Kind::Histogram {
                assert!(name.ends_with("_seconds"), "`{name}` is not in base units");
            }
        }
    }

    #[test]
    fn the_documentation_names_each_metric_with_its_kind_and_labels_and_no_other() {
        let documented: Vec<(String, String, String)> = include_str!("../../docs/metrics.md")
            .lines()
            .filter_map(|line| line.strip_prefix("| `"))
            .map(|row| {
                let mut cells = row.split('|').map(str::trim);
                let name = cells.next().unwrap().trim_end_matches('`').to_owned();
                (name, cells.next().unwrap().to_owned(), cells.next().unwrap().to_owned())
            })
            .filter(|(name, ..)| name.starts_with("portcullis_") || name.starts_with("process_"))
            .collect();
        let known: Vec<_> = CATALOGUE
            .iter()
            .map(|metric| {
                let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
                let labels = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
                (metric.name.to_owned(), metric.kind.as_str().to_owned(), labels)
            })
            .collect();
        assert_eq!(documented, known);
    }
}
