//! From what is asked to what is answered. Nothing here waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::door::{Door, Route};
use super::{Addresses, AdminState, NotReady, Status};
use crate::telemetry::{MetricsHandle, logs};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) type Answer = Response<Full<Bytes>>;

/// What the doors share.
#[derive(Debug)]
pub(super) struct Routes {
    state: Arc<dyn AdminState>,
    metrics: MetricsHandle,
    addresses: Addresses,
    since: Instant,
    was_ready: AtomicBool,
    /// Turns to explain.
    explaining: Arc<Semaphore>,
}

impl Routes {
    pub(super) fn new(state: Arc<dyn AdminState>, metrics: MetricsHandle, addresses: Addresses) -> Self {
        let (since, was_ready) = (Instant::now(), AtomicBool::new(false));
        Self { state, metrics, addresses, since, was_ready, explaining: Arc::new(Semaphore::new(MOST_EXPLANATIONS)) }
    }

    /// The answer; one that takes long is made on a thread that serves no connections.
    pub(super) async fn answer_aside(self: Arc<Self>, door: Door, request: Parts) -> Answer {
        if !matches!(door.route(&request), Ok(Route::Explain)) {
            return self.answer(door, &request);
        }
        let broken_off = || answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, "the explanation broke off\n");
        let Ok(turn) = Arc::clone(&self.explaining).acquire_owned().await else { return broken_off() };
        let explained = tokio::task::spawn_blocking(move || {
            let made = self.answer(door, &request);
            // Not before: who has asked may be gone long since, and its explanation is made to the end.
            drop(turn);
            made
        });
        explained.await.unwrap_or_else(|_| broken_off())
    }

    pub(super) fn answer(&self, door: Door, request: &Parts) -> Answer {
        match door.route(request) {
            Ok(Route::Live) => answer(StatusCode::OK, TEXT, "live\n"),
            Ok(Route::Ready) => self.ready(door),
            Ok(Route::Startup) => self.startup(door),
            Ok(Route::Metrics) => answer(StatusCode::OK, METRICS, self.metrics.render()),
            Ok(Route::Status) => self.status(),
            Ok(Route::Shutdown) => {
                tracing::info!("shutdown asked for by the admin endpoint");
                self.state.shutdown();
                answer(StatusCode::OK, TEXT, "draining\n")
            }
            Ok(Route::Shadow) => json(&self.state.shadow()),
            Ok(Route::Explain) => explain(self.state.as_ref(), request.uri.query().unwrap_or_default()),
            Ok(Route::LogFilter) => log_filter(),
            Ok(Route::SetLogFilter) => set_log_filter(request.uri.query().unwrap_or_default()),
            Err(turned) => {
                let mut away = answer(turned.status, TEXT, format!("{}\n", turned.message));
                if !turned.allow.is_empty() {
                    away.headers_mut().insert(header::ALLOW, HeaderValue::from_static(turned.allow));
                }
                away
            }
        }
    }

    fn not_ready(&self) -> Vec<NotReady> {
        let reasons = self.state.not_ready();
        if reasons.is_empty() {
            self.was_ready.store(true, Ordering::Relaxed);
        }
        reasons
    }

    fn ready(&self, door: Door) -> Answer {
        let reasons = self.not_ready();
        if reasons.is_empty() {
            return answer(StatusCode::OK, JSON, "{\"ready\":true}\n");
        }
        let body = if door.tells_messages() {
            serde_json::json!({ "ready": false, "reasons": reasons })
        } else {
            let words: Vec<_> = reasons.iter().map(|reason| serde_json::json!({ "reason": reason.reason })).collect();
            serde_json::json!({ "ready": false, "reasons": words })
        };
        answer(StatusCode::SERVICE_UNAVAILABLE, JSON, format!("{body}\n"))
    }

    /// Started is who was ready once: what happens later is for `/ready` to say, a startup probe must not kill for it.
    fn startup(&self, door: Door) -> Answer {
        if self.was_ready.load(Ordering::Relaxed) || self.not_ready().is_empty() {
            return answer(StatusCode::OK, TEXT, "started\n");
        }
        self.ready(door)
    }

    fn status(&self) -> Answer {
        let not_ready = self.not_ready();
        let report = Report {
            version: env!("CARGO_PKG_VERSION"),
            uptime_seconds: self.since.elapsed().as_secs(),
            ready: not_ready.is_empty(),
            not_ready,
            status: self.state.status(),
            admin: &self.addresses,
        };
        match serde_json::to_string_pretty(&report) {
            Ok(body) => answer(StatusCode::OK, JSON, body + "\n"),
            Err(error) => {
                answer(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("status cannot be written: {error}\n"))
            }
        }
    }
}

/// What `/status` shows.
#[derive(Serialize)]
struct Report<'a> {
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    not_ready: Vec<NotReady>,
    #[serde(flatten)]
    status: Status,
    admin: &'a Addresses,
}

/// As many explanations are made at a time: each asks the policies again clause by clause, on a thread with a large stack.
pub(super) const MOST_EXPLANATIONS: usize = 2;

/// How many denials are explained unless the request says it.
const DENIALS: usize = 10;

fn explain(state: &dyn AdminState, query: &str) -> Answer {
    let last = query.split('&').find_map(|pair| pair.strip_prefix("last="));
    match last.map_or(Ok(DENIALS), str::parse) {
        Ok(most) => json(&state.denials(most)),
        Err(_) => answer(StatusCode::BAD_REQUEST, TEXT, "say how many: GET /explain?last=10\n"),
    }
}

fn json(value: &serde_json::Value) -> Answer {
    answer(StatusCode::OK, JSON, format!("{value:#}\n"))
}

fn log_filter() -> Answer {
    match logs::filter() {
        Some(filter) => answer(StatusCode::OK, TEXT, filter + "\n"),
        None => answer(StatusCode::SERVICE_UNAVAILABLE, TEXT, "the log is not started\n"),
    }
}

fn set_log_filter(query: &str) -> Answer {
    let asked = query.split('&').find_map(|pair| pair.strip_prefix("filter=")).and_then(percent_decoded);
    let Some(filter) = asked.filter(|filter| !filter.is_empty()) else {
        return answer(StatusCode::BAD_REQUEST, TEXT, "say which: PUT /log?filter=portcullis=debug,info\n");
    };
    match logs::set_filter(&filter) {
        Ok(()) => {
            tracing::info!(filter, "log filter changed by the admin socket");
            log_filter()
        }
        Err(error) => answer(StatusCode::BAD_REQUEST, TEXT, format!("{error}\n")),
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn answer(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_once() {
        assert_eq!(percent_decoded("portcullis%3Ddebug%2cinfo+x").as_deref(), Some("portcullis=debug,info x"));
        assert_eq!(percent_decoded("%2541").as_deref(), Some("%41"));
        for broken in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(percent_decoded(broken), None, "{broken}");
        }
    }
}
