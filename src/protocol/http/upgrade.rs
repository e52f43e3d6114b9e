//! WebSocket: raw mode, but only after the upstream's 101.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;

use http::header::{self, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::body::{Open, ResponseBody};
use super::reply::Replier;
use super::service::{HttpConnection, Relay};
use super::{forward, standing, timing};
use crate::enforce::{Exchange, Permit, Settlement, Standing};
use crate::failure::Failure;
use crate::policy::PolicyGeneration;
use crate::relay::{Ended, Moved, Woken, relay_counted};
use crate::tls::Stay;
use crate::upstream::RequestBody;

/// Forwards a permitted upgrade. Whatever the upstream answers other than 101 is passed on as an ordinary answer.
pub(super) async fn websocket(
    connection: &Arc<HttpConnection>,
    mut parts: Parts,
    target: Option<String>,
    permit: Permit,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let downstream = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
    forward::prepare(connection, &mut parts, target.as_deref(), &permit.exchange().request_id)?;
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let request = Request::from_parts(parts, RequestBody::empty());
    let waiting = connection.wait();
    let answer = {
        let sent = pin!(connection.listener.upstream.send(&permit, request, None, true));
        timing::within_limits(sent, &permit, None, &connection.listener.limits).await
    };
    drop(waiting);
    let (response, lease) = match answer {
        Ok(answer) => answer,
        Err(failure) => return replier.unserved(connection, permit, None, &failure),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        let open = Open { permit, lease, upload: None, connection: Arc::clone(connection) };
        return forward::response(response, open, replier).await;
    }
    let (Some(downstream), true) = (downstream, is_websocket(&response)) else {
        let failure = Failure::Invalid { cause: "it switched to something else than a WebSocket".into() };
        return replier.unserved(connection, permit, None, &failure);
    };
    // From here the peer counts as answered, so the record that it began comes first.
    permit.record_started().map_err(|_error| Failure::Audit)?;
    let switching = switching(&response, connection);
    connection.accept_upgrade(raw_mode(Arc::clone(connection), downstream, (response, lease.stay()), permit));
    Ok(switching)
}

fn is_websocket(response: &Response<Incoming>) -> bool {
    response.headers().get(header::UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The 101 for the downstream.
fn switching(response: &Response<Incoming>, connection: &HttpConnection) -> Response<ResponseBody> {
    let mut answer = Response::new(ResponseBody::empty());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = response.headers().clone();
    forward::strip_response(answer.headers_mut(), connection.listener.direction);
    answer.headers_mut().remove(header::CONTENT_LENGTH);
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    answer.headers_mut().insert(HeaderName::from_static("upgrade"), HeaderValue::from_static("websocket"));
    answer
}

/// Bytes both ways until one side ends it; run by the connection once hyper has let go of it.
fn raw_mode(
    connection: Arc<HttpConnection>,
    downstream: hyper::upgrade::OnUpgrade,
    (mut response, stay): (Response<Incoming>, Option<Stay>),
    permit: Permit,
) -> Relay {
    Box::pin(async move {
        let moved = Moved::default();
        let upstream = hyper::upgrade::on(&mut response);
        let rights = Rights::of(&permit, stay);
        let mut session = Session { permit: Some(permit), moved: &moved, connection: &connection };
        let (reason, error) = match tokio::try_join!(downstream, upstream) {
            Ok((downstream, upstream)) => {
                let idle = connection.listener.limits.idle_timeout;
                let relaying = relay_counted(TokioIo::new(downstream), TokioIo::new(upstream), idle, &moved);
                let over = pin!(rights.over(&connection));
                let mut over = Woken::new(over);
                tokio::select! {
                    biased;
                    ended = relaying => (None, match ended {
                        Ended::Closed => None,
                        Ended::Idle => Some(Failure::Stalled { limit_ms: timing::millis(idle) }.to_string()),
                        Ended::Failed(error) => Some(error.to_string()),
                    }),
                    (reason, error) = &mut over => (Some(reason), Some(error)),
                }
            }
            Err(error) => (None, Some(error.to_string())),
        };
        session.settle(reason, error);
    })
}

/// What a WebSocket stays open by.
struct Rights {
    exchange: Exchange,
    judged_by: Option<Arc<PolicyGeneration>>,
    standing: Option<Standing>,
    /// Of the upstream.
    stay: Option<Stay>,
}

impl Rights {
    fn of(permit: &Permit, stay: Option<Stay>) -> Self {
        let judged_by = permit.policies().map(Arc::clone);
        Self { exchange: permit.exchange().clone(), judged_by, standing: permit.standing(), stay }
    }

    /// Ready when one of them is over: the reason, and what the record says of it.
    async fn over(self, connection: &HttpConnection) -> (&'static str, String) {
        let Self { exchange, judged_by, standing, stay } = self;
        let denied = async {
            let Some(mut standing) = standing else { return pending().await };
            let unfit = |generation: &PolicyGeneration| standing::unfit(judged_by.as_deref(), generation);
            let point = &connection.listener.point;
            standing.lost(point, &connection.asker, || exchange.clone(), unfit).await
        };
        let upstream_over = async {
            match stay {
                Some(mut stay) => stay.over().await,
                None => pending().await,
            }
        };
        tokio::select! {
            denied = denied => {
                let failure = standing::no_longer_permitted(denied);
                (failure.stage(), failure.to_string())
            }
            over = upstream_over => (over.rule, format!("upstream: {over}")),
        }
    }
}

/// A WebSocket in raw mode. However it ends, it has its final record with what was passed on.
struct Session<'a> {
    /// There until the record is written.
    permit: Option<Permit>,
    moved: &'a Moved,
    connection: &'a HttpConnection,
}

impl Session<'_> {
    fn settle(&mut self, reason: Option<&'static str>, error: Option<String>) {
        let Some(permit) = self.permit.take() else { return };
        let (bytes_in, bytes_out) = (self.moved.forth(), self.moved.back());
        let settlement = Settlement { status: Some(101), bytes_in, bytes_out, reason, error, ..Settlement::default() };
        if let Err(error) = permit.settle(&settlement) {
            tracing::error!(%error, "a WebSocket that ended has no final record");
        }
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.settle(self.connection.cut(), Some("the connection was cut".into()));
    }
}
