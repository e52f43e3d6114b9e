//! The metrics recorder and the text that Prometheus reads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use thiserror::Error;

use super::catalogue::{AUTHZ_DURATION, BUILD_INFO, CATALOGUE, Kind, REQUEST_DURATION, SQL_DURATION};
use super::{federation, process, service, trust};

/// A decision takes microseconds, so the buckets begin there; above 10 ms something is wrong and how much does not matter.
const AUTHZ_BUCKETS: &[f64] = &[1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2];
/// From a cached answer on loopback to a large upload.
const REQUEST_BUCKETS: &[f64] =
    &[5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
/// From a row by its key over a Unix socket to a report.
const SQL_BUCKETS: &[f64] =
    &[1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.25, 1.0, 2.5, 10.0, 60.0, 600.0];
/// Histograms keep every value until upkeep folds it into its bucket: at 20,000 requests a second this holds 320 KB.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

static INSTALLED: Mutex<Option<MetricsHandle>> = Mutex::new(None);

/// Installs the recorder for the whole process, once; later calls give the same handle.
///
/// # Errors
/// Another recorder is installed already.
pub fn install() -> Result<MetricsHandle, MetricsError> {
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*installed {
        return Ok(handle.clone());
    }
    let (recorder, handle) = recorder()?;
    metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Foreign)?;
    describe();
    Ok(installed.insert(handle).clone())
}

/// Why metrics cannot be recorded.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The buckets are wrong.
    #[error("metrics recorder cannot be built")]
    Build(#[from] BuildError),
    /// Somebody else installed a recorder.
    #[error("another metrics recorder is installed in this process")]
    Foreign,
}

/// What is recorded, to be shown.
#[derive(Debug, Clone)]
pub struct MetricsHandle {
    recorder: PrometheusHandle,
    started: Arc<SystemTime>,
}

impl MetricsHandle {
    /// All metrics in the text format of Prometheus, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        service::refresh(SystemTime::now());
        let mut text = self.recorder.render();
        service::render(&mut text);
        trust::render(&mut text);
        federation::render(&mut text);
        process::render(&mut text, *self.started);
        text
    }

    /// Folds histogram values into their buckets; without it they pile up between two scrapes.
    pub fn upkeep(&self) {
        self.recorder.run_upkeep();
    }

    /// Does [`upkeep`](Self::upkeep) every second, forever.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn keep_up(self) {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.upkeep();
        }
    }
}

/// A recorder of its own, for [`metrics::with_local_recorder`] in tests.
fn recorder() -> Result<(PrometheusRecorder, MetricsHandle), BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(AUTHZ_DURATION.to_owned()), AUTHZ_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(REQUEST_DURATION.to_owned()), REQUEST_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(SQL_DURATION.to_owned()), SQL_BUCKETS)?
        .build_recorder();
    let handle = MetricsHandle { recorder: recorder.handle(), started: Arc::new(SystemTime::now()) };
    Ok((recorder, handle))
}

fn describe() {
    for metric in CATALOGUE {
        match (metric.kind, metric.unit) {
            (Kind::Counter, Some(unit)) => metrics::describe_counter!(metric.name, unit, metric.help),
            (Kind::Counter, None) => metrics::describe_counter!(metric.name, metric.help),
            (Kind::Gauge, Some(unit)) => metrics::describe_gauge!(metric.name, unit, metric.help),
            (Kind::Gauge, None) => metrics::describe_gauge!(metric.name, metric.help),
            (Kind::Histogram, Some(unit)) => metrics::describe_histogram!(metric.name, unit, metric.help),
            (Kind::Histogram, None) => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// Seconds since 1970, as Prometheus writes times.
pub(super) fn timestamp(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Runs `test` with a recorder of its own and gives what it recorded.
#[cfg(test)]
pub(crate) fn recorded(test: impl FnOnce()) -> String {
    let (recorder, handle) = recorder().expect("recorder");
    metrics::with_local_recorder(&recorder, || {
        describe();
        test();
        handle.render()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::{
        AuditMetrics, IdentitySourceMetrics, ListenerMetrics, MemoryMetrics, PolicyMetrics, Reload, SvidMetrics,
    };

    fn everything() -> String {
        recorded(|| {
            let listener = ListenerMetrics::new("lake", "inbound");
            listener.decision("s3:GetObject", "allowed", "enforce");
            listener.authz_seconds(Duration::from_micros(7));
            listener.request(200, Duration::from_millis(3));
            listener.sql_statement("select", "done", Duration::from_millis(3));
            listener.handshake_refused("chain");
            listener.token_verified();
            listener.token_refused("token-expired");
            listener.upstream_failure("connect");
            listener.connection_refused("limit");
            drop(listener.connection());
            MemoryMetrics::new().hit();
            let policy = PolicyMetrics::new();
            policy.in_force(3, "sha256:abc");
            policy.reload(Reload::Swapped);
            IdentitySourceMetrics::new("workload_api").failed("unavailable");
            let svid = SvidMetrics::new();
            let now = SystemTime::now();
            trust::bundles_in_force(vec![trust::BundleExpiry {
                trust_domain: "td.test".into(),
                first: now,
                last: now,
            }]);
            svid.in_force(2, now, now + Duration::from_secs(3_600));
            svid.rotation(Reload::Failed);
            federation::crls_in_force(vec![federation::CrlExpiry {
                trust_domain: "td.test".into(),
                issuer: "CN=td".into(),
                next_update: now,
            }]);
            federation::FederationMetrics::new("td.test").refreshed(federation::Refresh::Unchanged);
            let bundle = crate::telemetry::BundleMetrics::new();
            bundle.in_force(7, now, Some(now));
            bundle.polled(federation::Refresh::Unchanged, "none");
            let audit = AuditMetrics::new();
            audit.written.increment(1);
        })
    }

    #[test]
    fn every_metric_of_the_catalogue_has_help_type_and_its_labels() {
        let text = everything();
        for metric in CATALOGUE {
            assert!(
                text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)),
                "`{}`: HELP in\n{text}",
                metric.name
            );
            assert!(
                text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())),
                "`{}`: TYPE",
                metric.name
            );
            let series =
                if metric.kind == Kind::Histogram { format!("{}_sum", metric.name) } else { metric.name.to_owned() };
            let sample = text
                .lines()
                .find(|line| line.strip_prefix(&series).is_some_and(|rest| rest.starts_with(['{', ' '])))
                .unwrap_or_else(|| panic!("`{series}` has no value in\n{text}"));
            for label in metric.labels {
                assert!(sample.contains(&format!("{label}=\"")), "`{}` has no label `{label}`: {sample}", metric.name);
            }
        }
    }

    #[test]
    fn nothing_is_shown_that_the_catalogue_does_not_have() {
        for line in everything().lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert!(
                CATALOGUE.iter().any(|m| m.name == name && m.kind.as_str() == kind),
                "`{name}` is not in the catalogue"
            );
        }
    }

    #[test]
    fn every_line_is_of_the_text_format() {
        for line in everything().lines().filter(|line| !line.is_empty() && !line.starts_with("# ")) {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
            assert!(value.parse::<f64>().is_ok(), "not a number: {line}");
            assert!(series.ends_with('}') || !series.contains(['{', ' ', '"']), "odd series: {line}");
        }
    }

    #[test]
    fn a_decision_of_microseconds_falls_into_a_bucket_of_its_own_size() {
        let text = everything();
        let bucket = |le: &str| {
            let start = format!("{AUTHZ_DURATION}_bucket{{listener=\"lake\",direction=\"inbound\",le=\"{le}\"}} ");
            text.lines()
                .find_map(|line| line.strip_prefix(&start).map(str::to_owned))
                .unwrap_or_else(|| panic!("{start} in\n{text}"))
        };
        assert_eq!((bucket("0.000005").as_str(), bucket("0.00001").as_str(), bucket("+Inf").as_str()), ("0", "1", "1"));
    }

    #[test]
    fn the_recorder_is_installed_once_and_given_to_everybody() {
        let (first, second) = std::thread::scope(|scope| {
            let [first, second] = [(); 2].map(|()| scope.spawn(|| install().unwrap()));
            (first.join().unwrap(), second.join().unwrap())
        });
        assert!(Arc::ptr_eq(&first.started, &second.started));
        assert!(second.render().contains(BUILD_INFO));
    }
}
