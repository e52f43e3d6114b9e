//! Metrics of one listener. Handles are made once: a request costs no label, no allocation, at most one map lookup.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ahash::AHashMap;
use arc_swap::ArcSwap;
use metrics::{Counter, Gauge, Histogram};

use super::catalogue::{
    AUTHZ_DECISIONS, AUTHZ_DURATION, BYTES, CONNECTIONS, CONNECTIONS_REFUSED, CONNECTIONS_TOTAL, HANDSHAKES,
    REQUEST_DURATION, REQUESTS, SQL_DURATION, SQL_STATEMENTS, TOKENS, UPSTREAM_FAILURES,
};

/// Values of `outcome`; the same words as in audit records.
const OUTCOMES: [&str; 5] = ["allowed", "forbidden", "not_permitted", "error", "refused"];
/// Values of `result` of SQL statements.
const RESULTS: [&str; 4] = ["done", "failed", "denied", "refused"];
/// Values of `mode`.
const MODES: [&str; 2] = ["enforce", "shadow"];
/// Values of `status`.
const STATUS_CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Actions come from the schema, which has fewer; whatever happens, the label stays bounded.
const MOST_ACTIONS: usize = 512;

/// Metrics of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    listener: Arc<str>,
    direction: &'static str,
    decisions: ArcSwap<AHashMap<Box<str>, Arc<ActionDecisions>>>,
    learning: Mutex<()>,
    other: Arc<ActionDecisions>,
    none: Arc<ActionDecisions>,
    authz_seconds: Histogram,
    request_seconds: Histogram,
    requests: [OnceLock<Counter>; STATUS_CLASSES.len()],
    statements: ArcSwap<AHashMap<&'static str, Arc<StatementMetrics>>>,
    bytes_in: Counter,
    bytes_out: Counter,
    accepted: Counter,
    handshaking: Gauge,
    open: Gauge,
    open_now: AtomicUsize,
    handshakes_done: Counter,
    tokens_verified: OnceLock<Counter>,
}

impl ListenerMetrics {
    /// Makes the handles. `direction` is `inbound` or `outbound`.
    #[must_use]
    pub fn new(listener: &str, direction: &'static str) -> Arc<Self> {
        let listener: Arc<str> = listener.into();
        let label = || Arc::clone(&listener);
        Arc::new(Self {
            decisions: ArcSwap::default(),
            learning: Mutex::new(()),
            other: Arc::default(),
            none: Arc::default(),
            authz_seconds: metrics::histogram!(AUTHZ_DURATION, "listener" => label(), "direction" => direction),
            request_seconds: metrics::histogram!(REQUEST_DURATION, "listener" => label(), "direction" => direction),
            requests: Default::default(),
            statements: ArcSwap::default(),
            bytes_in: metrics::counter!(BYTES, "listener" => label(), "direction" => direction, "stage" => "in"),
            bytes_out: metrics::counter!(BYTES, "listener" => label(), "direction" => direction, "stage" => "out"),
            accepted: metrics::counter!(CONNECTIONS_TOTAL, "listener" => label(), "direction" => direction),
            handshaking: metrics::gauge!(CONNECTIONS, "listener" => label(), "direction" => direction, "state" => "handshaking"),
            open: metrics::gauge!(CONNECTIONS, "listener" => label(), "direction" => direction, "state" => "open"),
            open_now: AtomicUsize::new(0),
            handshakes_done: metrics::counter!(
                HANDSHAKES, "listener" => label(), "direction" => direction, "result" => "done", "rule" => "none"
            ),
            tokens_verified: OnceLock::new(),
            listener,
            direction,
        })
    }

    /// One operation was decided. `action` is empty for a request that could not be named.
    ///
    /// An action gets a label of its own once a policy was asked about it, which only happens to actions of the schema;
    /// what a peer makes up is counted as `other`.
    pub fn decision(&self, action: &str, outcome: &'static str, mode: &'static str) {
        if let Some(decisions) = self.decisions.load().get(action) {
            return self.count(decisions, action, outcome, mode);
        }
        match (action, outcome) {
            ("", _) => self.count(&self.none, "none", outcome, mode),
            (_, "allowed" | "forbidden" | "not_permitted") => match self.learn(action) {
                Some(decisions) => self.count(&decisions, action, outcome, mode),
                None => self.count(&self.other, "other", outcome, mode),
            },
            _ => self.count(&self.other, "other", outcome, mode),
        }
    }

    /// How long one request took to decide.
    pub fn authz_seconds(&self, took: Duration) {
        self.authz_seconds.record(took);
    }

    /// One request was answered in full.
    pub fn request(&self, status: u16, took: Duration) {
        self.request_seconds.record(took);
        let class = usize::from(status / 100).saturating_sub(1).min(STATUS_CLASSES.len() - 1);
        if let (Some(counter), Some(class)) = (self.requests.get(class), STATUS_CLASSES.get(class)) {
            let labels = || metrics::counter!(REQUESTS, "listener" => self.label(), "direction" => self.direction, "status" => *class);
            counter.get_or_init(labels).increment(1);
        }
    }

    /// One SQL statement has ended: `done`, `failed`, `denied` or `refused`. There are as many kinds as the table of statements has.
    pub fn sql_statement(&self, kind: &'static str, result: &'static str, took: Duration) {
        let known = self.statements.load();
        let found = known.get(kind).map_or_else(|| self.learn_statement(kind), Arc::clone);
        found.seconds.record(took);
        let register = || {
            metrics::counter!(
                SQL_STATEMENTS,
                "listener" => self.label(), "direction" => self.direction, "kind" => kind, "result" => result
            )
        };
        if let Some(counter) = found.results.get(position(&RESULTS, result)) {
            counter.get_or_init(register).increment(1);
        }
    }

    fn learn_statement(&self, kind: &'static str) -> Arc<StatementMetrics> {
        let _learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = AHashMap::clone(&self.statements.load_full());
        let learnt = Arc::clone(known.entry(kind).or_insert_with(|| {
            let seconds = metrics::histogram!(
                SQL_DURATION, "listener" => self.label(), "direction" => self.direction, "kind" => kind
            );
            Arc::new(StatementMetrics { seconds, results: Default::default() })
        }));
        self.statements.store(Arc::new(known));
        learnt
    }

    /// Body bytes went from downstream to upstream.
    pub fn bytes_in(&self, count: u64) {
        self.bytes_in.increment(count);
    }

    /// Body bytes went from upstream to downstream.
    pub fn bytes_out(&self, count: u64) {
        self.bytes_out.increment(count);
    }

    /// A connection was accepted: it counts as handshaking until [`ConnectionGuard::open`], and until the guard is dropped.
    pub fn connection(self: &Arc<Self>) -> ConnectionGuard {
        self.accepted.increment(1);
        self.handshaking.increment(1.0);
        self.open_now.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard { metrics: Arc::clone(self), open: false }
    }

    /// Connections now, handshaking ones included.
    #[must_use]
    pub fn connections_now(&self) -> usize {
        self.open_now.load(Ordering::Relaxed)
    }

    /// A connection was closed before a byte was read: `limit`, `workload-limit`, `uid` …
    pub fn connection_refused(&self, reason: &'static str) {
        metrics::counter!(CONNECTIONS_REFUSED, "listener" => self.label(), "direction" => self.direction, "reason" => reason).increment(1);
    }

    /// A handshake succeeded.
    pub fn handshake_done(&self) {
        self.handshakes_done.increment(1);
    }

    /// A handshake was refused by a rule of ours.
    pub fn handshake_refused(&self, rule: &'static str) {
        metrics::counter!(
            HANDSHAKES, "listener" => self.label(), "direction" => self.direction, "result" => "refused", "rule" => rule
        )
        .increment(1);
    }

    /// A request brought a token that verified.
    pub fn token_verified(&self) {
        let made = || {
            metrics::counter!(
                TOKENS, "listener" => self.label(), "direction" => self.direction, "result" => "verified", "rule" => "none"
            )
        };
        self.tokens_verified.get_or_init(made).increment(1);
    }

    /// A request brought a token that broke a rule.
    pub fn token_refused(&self, rule: &'static str) {
        metrics::counter!(
            TOKENS, "listener" => self.label(), "direction" => self.direction, "result" => "refused", "rule" => rule
        )
        .increment(1);
    }

    /// The upstream failed a permitted request; `stage` is what `x-portcullis-error` names.
    pub fn upstream_failure(&self, stage: &'static str) {
        metrics::counter!(UPSTREAM_FAILURES, "listener" => self.label(), "direction" => self.direction, "stage" => stage).increment(1);
    }

    fn label(&self) -> Arc<str> {
        Arc::clone(&self.listener)
    }

    fn count(&self, decisions: &ActionDecisions, action: &str, outcome: &'static str, mode: &'static str) {
        let (outcome_at, mode_at) = (position(&OUTCOMES, outcome), position(&MODES, mode));
        let Some(counter) = decisions.0.get(outcome_at).and_then(|modes| modes.get(mode_at)) else { return };
        let register = || {
            metrics::counter!(
                AUTHZ_DECISIONS,
                "listener" => self.label(), "direction" => self.direction, "action" => action.to_owned(),
                "outcome" => outcome, "mode" => mode
            )
        };
        counter.get_or_init(register).increment(1);
    }

    fn learn(&self, action: &str) -> Option<Arc<ActionDecisions>> {
        // Held while the map is copied, so that two threads that learn at once keep each other's action.
        let _learning = self.learning.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.decisions.load_full();
        if let Some(decisions) = known.get(action) {
            return Some(Arc::clone(decisions));
        }
        if known.len() >= MOST_ACTIONS {
            return None;
        }
        let decisions: Arc<ActionDecisions> = Arc::default();
        let mut known = AHashMap::clone(&known);
        known.insert(action.into(), Arc::clone(&decisions));
        self.decisions.store(Arc::new(known));
        Some(decisions)
    }
}

/// The counters of one action, made when first used so that `/metrics` shows no zeros that mean nothing.
#[derive(Debug, Default)]
struct ActionDecisions([[OnceLock<Counter>; MODES.len()]; OUTCOMES.len()]);

/// The handles of one kind of SQL statement.
#[derive(Debug)]
struct StatementMetrics {
    seconds: Histogram,
    results: [OnceLock<Counter>; RESULTS.len()],
}

/// A connection as the gauges see it. It ends when this is dropped, also when its task is cancelled.
#[derive(Debug)]
#[must_use = "the connection counts as closed as soon as the guard is dropped"]
pub struct ConnectionGuard {
    metrics: Arc<ListenerMetrics>,
    open: bool,
}

impl ConnectionGuard {
    /// The handshake, if there was one, is over.
    pub fn open(&mut self) {
        if !self.open {
            self.open = true;
            self.metrics.handshaking.decrement(1.0);
            self.metrics.open.increment(1.0);
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let gauge = if self.open { &self.metrics.open } else { &self.metrics.handshaking };
        gauge.decrement(1.0);
        self.metrics.open_now.fetch_sub(1, Ordering::Relaxed);
    }
}

fn position(known: &[&str], word: &str) -> usize {
    let position = known.iter().position(|known| *known == word);
    debug_assert!(position.is_some(), "`{word}` is not a label value of ours");
    position.unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::recorded;

    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    fn decisions(text: &str, action: &str, outcome: &str) -> Option<f64> {
        let series = format!(
            "{AUTHZ_DECISIONS}{{listener=\"lake\",direction=\"inbound\",action=\"{action}\",outcome=\"{outcome}\",mode=\"enforce\"}}"
        );
        value(text, &series)
    }

    #[test]
    fn decisions_are_counted_by_action_and_outcome() {
        let text = recorded(|| {
            let lake = ListenerMetrics::new("lake", "inbound");
            lake.decision("s3:GetObject", "allowed", "enforce");
            lake.decision("s3:GetObject", "allowed", "enforce");
            lake.decision("s3:GetObject", "forbidden", "enforce");
            lake.decision("s3:GetObject", "error", "enforce");
        });
        assert_eq!(decisions(&text, "s3:GetObject", "allowed"), Some(2.0));
        assert_eq!(decisions(&text, "s3:GetObject", "forbidden"), Some(1.0));
        assert_eq!(decisions(&text, "s3:GetObject", "error"), Some(1.0));
        assert_eq!(decisions(&text, "s3:GetObject", "not_permitted"), None);
    }

    #[test]
    fn what_a_peer_makes_up_is_counted_as_other() {
        let text = recorded(|| {
            let lake = ListenerMetrics::new("lake", "inbound");
            for n in 0..1_000 {
                lake.decision(&format!("http:M{n}"), "refused", "enforce");
                lake.decision(&format!("http:M{n}"), "error", "enforce");
            }
            lake.decision("", "refused", "enforce");
        });
        assert_eq!(decisions(&text, "other", "refused"), Some(1_000.0));
        assert_eq!(decisions(&text, "other", "error"), Some(1_000.0));
        assert_eq!(decisions(&text, "none", "refused"), Some(1.0));
        assert!(!text.contains("http:M"));
    }

    #[test]
    fn the_action_label_is_bounded_whatever_the_schema_has() {
        let text = recorded(|| {
            let lake = ListenerMetrics::new("lake", "inbound");
            for n in 0..=MOST_ACTIONS {
                lake.decision(&format!("x:A{n}"), "allowed", "enforce");
            }
        });
        assert_eq!(decisions(&text, "other", "allowed"), Some(1.0));
        assert_eq!(text.matches("action=\"x:A").count(), MOST_ACTIONS);
    }

    #[test]
    fn threads_that_learn_actions_at_once_lose_no_count() {
        let text = recorded(|| {
            let lake = ListenerMetrics::new("lake", "inbound");
            // Registered here: a local recorder is only known to this thread.
            for action in ["a", "b", "c"] {
                lake.decision(action, "allowed", "enforce");
            }
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..300).for_each(|n| lake.decision(["a", "b", "c"][n % 3], "allowed", "enforce")));
                }
            });
        });
        for action in ["a", "b", "c"] {
            assert_eq!(decisions(&text, action, "allowed"), Some(401.0));
        }
    }

    #[test]
    fn the_gauges_follow_a_connection_to_its_end() {
        let gauges = |text: &str| {
            ["handshaking", "open"].map(|state| {
                value(text, &format!("{CONNECTIONS}{{listener=\"lake\",direction=\"outbound\",state=\"{state}\"}}"))
            })
        };
        let mut held = Vec::new();
        let text = recorded(|| {
            let lake = ListenerMetrics::new("lake", "outbound");
            held.push(lake.connection());
            let mut open = lake.connection();
            open.open();
            open.open();
            held.push(open);
            let mut closed = lake.connection();
            closed.open();
            drop(closed);
            drop(lake.connection());
            assert_eq!(lake.connections_now(), 2);
        });
        assert_eq!(gauges(&text), [Some(1.0), Some(1.0)]);
        assert_eq!(
            value(&text, &format!("{CONNECTIONS_TOTAL}{{listener=\"lake\",direction=\"outbound\"}}")),
            Some(4.0)
        );
    }

    #[test]
    fn a_cancelled_task_closes_its_connection() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let lake = ListenerMetrics::new("lake", "inbound");
        runtime.block_on(async {
            let guard = lake.connection();
            let stuck = tokio::spawn(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            assert_eq!(lake.connections_now(), 1);
            stuck.abort();
            assert!(stuck.await.unwrap_err().is_cancelled());
        });
        assert_eq!(lake.connections_now(), 0);
    }

    #[test]
    fn requests_are_counted_by_class_of_status() {
        let text = recorded(|| {
            let lake = ListenerMetrics::new("lake", "inbound");
            for status in [101, 200, 204, 403, 503, 599, 999, 0] {
                lake.request(status, Duration::from_millis(1));
            }
        });
        let class = |class: &str| {
            value(&text, &format!("{REQUESTS}{{listener=\"lake\",direction=\"inbound\",status=\"{class}\"}}"))
        };
        assert_eq!(["1xx", "2xx", "3xx", "4xx", "5xx"].map(class), [Some(2.0), Some(2.0), None, Some(1.0), Some(3.0)]);
    }

    #[test]
    fn a_listener_name_cannot_forge_a_series() {
        let text = recorded(|| ListenerMetrics::new("a\"} 1\nforged 2", "inbound").bytes_in(1));
        assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
    }
}
