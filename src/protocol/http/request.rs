//! The walk of one request: judge its head, name what it asks, decide, forward, answer.

use std::borrow::Cow;
use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;

use super::body::ResponseBody;
use super::guard::{GuardHandle, HeadVerdict};
use super::judged_body::{self, JudgedBody};
use super::reply::Replier;
use super::service::{HttpConnection, Speaks};
use super::token::Tokens;
use super::{forward, timing, upgrade};
use crate::enforce::{Exchange, Permit, Settlement};
use crate::failure::Failure;
use crate::mapping::s3::Asked;
use crate::mapping::{Operations, Refusal, head, http as http_mapping, s3};
use crate::policy::PolicyGeneration;
use crate::upstream::{Progress, RequestBody};

/// What a head asks.
pub(super) enum Call {
    /// Everything is named by the head.
    Named { operations: Operations, target: Option<String>, websocket: bool },
    /// The body decides.
    Body(Box<JudgedBody>),
}

/// Answers one request. Whatever happens has an answer and, unless records cannot be written at all, a record.
pub(super) async fn answer(
    connection: Arc<HttpConnection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (parts, body) = request.into_parts();
    let exchange = exchange(&parts);
    let replier = Replier::new(&connection, &parts, &exchange.request_id);
    // Held until the answer has ended: the guard counts no idle time meanwhile, and takes an upgrade that nobody
    // accepted for declined.
    let busy = connection.guard.as_ref().map(GuardHandle::exchange);
    let mut response = match walk(&connection, parts, body, exchange, &replier).await {
        Ok(response) => response,
        Err(failure) => replier.failed(&connection, &failure),
    };
    response.body_mut().hold(busy);
    Ok(response)
}

async fn walk(
    connection: &Arc<HttpConnection>,
    mut parts: Parts,
    body: Incoming,
    mut exchange: Exchange,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let listener = &connection.listener;
    let point = &listener.point;
    let guarded = connection.guard.as_ref().map(GuardHandle::next_head);
    if !point.records_can_be_written() {
        return Err(Failure::Audit);
    }
    if !connection.takes_requests() {
        return replier.refused(connection, exchange, distrusted());
    }
    let generation = point.policies_in_force();
    let mut brought = Ok(None);
    let named = match guarded {
        Some(HeadVerdict::Refused(refusal)) => {
            Err(Refusal { status: refusal.status, rule: refusal.rule, message: refusal.message })
        }
        Some(HeadVerdict::Passed(_)) | None => {
            if let Some(tokens) = &listener.tokens {
                brought = tokens.take(&mut parts.headers);
            }
            name(connection, &parts, &generation)
        }
    };
    let named = match (named, brought, &listener.tokens) {
        (Ok(call), Ok(Some(brought)), Some(tokens)) => tokens.verify(&brought, &point.metrics).map(|token| {
            tokens.put_back(brought, &mut parts.headers);
            exchange.token = Some(token);
            call
        }),
        (Ok(_), Err(refusal), _) => Err(refusal),
        (named, ..) => named,
    };
    let (operations, target, websocket) = match named {
        Err(refusal) => return replier.refused(connection, exchange, refusal),
        Ok(Call::Body(call)) => {
            // Rare, and large: boxed, so that every other request does not carry its size about.
            return Box::pin(judged_body::walk(connection, &call, (parts, body), generation, exchange, replier)).await;
        }
        Ok(Call::Named { operations, target, websocket }) => (operations, target, websocket),
    };
    let permit = match point.enforce(generation, &connection.asker, exchange, operations) {
        Ok(permit) => permit,
        Err(denied) => return replier.denied(denied),
    };
    if websocket {
        return Box::pin(upgrade::websocket(connection, parts, target, permit, replier)).await;
    }
    let (body, upload) = RequestBody::streamed(body, &permit, listener.tokens.as_ref().map(Tokens::header));
    forward::prepare(connection, &mut parts, target.as_deref(), &permit.exchange().request_id)?;
    let request = Request::from_parts(parts, body);
    forward_permitted(connection, permit, request, upload, replier).await
}

/// Nothing more of this peer is begun.
pub(super) fn distrusted() -> Refusal {
    Refusal::with_status(403, "peer-distrusted", "the peer's certificate is no longer trusted")
}

/// Sends a permitted request and passes its answer on.
pub(super) async fn forward_permitted(
    connection: &Arc<HttpConnection>,
    permit: Permit,
    request: Request<RequestBody>,
    upload: Option<Arc<Progress>>,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let waiting = connection.wait();
    let answer = {
        let sent = pin!(connection.listener.upstream.send(&permit, request, upload.clone(), false));
        timing::within_limits(sent, &permit, upload.as_deref(), &connection.listener.limits).await
    };
    match answer {
        Ok((response, lease)) => {
            drop(waiting);
            let open = super::body::Open { permit, lease, upload, connection: Arc::clone(connection) };
            forward::response(response, open, replier).await
        }
        Err(failure) => replier.unserved(connection, permit, upload.as_deref(), &failure),
    }
}

/// Judges the head and names what it asks; nothing is sent, read or decided here.
fn name(connection: &HttpConnection, parts: &Parts, generation: &PolicyGeneration) -> Result<Call, Refusal> {
    let listener = &connection.listener;
    let head = head::judge(parts, &listener.rules)?;
    let reads = generation.headers_read();
    match &listener.speaks {
        Speaks::Http(config) => {
            let websocket = head.upgrade.is_some();
            let call = http_mapping::map(&head, &listener.endpoint, config, reads)?;
            // A target that is in its judged form already is sent as it was received.
            let target = match call.path_and_query {
                Cow::Borrowed(_) => None,
                Cow::Owned(target) => Some(target),
            };
            Ok(Call::Named { operations: call.operations, target, websocket })
        }
        Speaks::S3(config) => match s3::map(&head, &listener.endpoint, config, reads)?.asked {
            Asked::Operations(operations) => Ok(Call::Named { operations, target: None, websocket: false }),
            Asked::DeleteObjects(call) => Ok(Call::Body(Box::new(JudgedBody::DeleteObjects(call)))),
            Asked::RestoreObject(call) => Ok(Call::Body(Box::new(JudgedBody::RestoreObject(call)))),
        },
    }
}

fn exchange(parts: &Parts) -> Exchange {
    Exchange {
        started: Instant::now(),
        request_id: request_id(&parts.headers),
        number: None,
        trace_id: trace_id(&parts.headers),
        method: Some(parts.method.as_str().into()),
        statement: None,
        token: None,
    }
}

/// The caller's request id if it is one that can stand in a log line as it is, else a new one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    const LONGEST: usize = 128;
    let mut given = headers.get_all("x-request-id").iter();
    let only = match (given.next(), given.next()) {
        (Some(only), None) => only.to_str().ok(),
        _ => None,
    };
    let plain = |id: &&str| {
        (1..=LONGEST).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    match only.filter(plain) {
        Some(id) => id.into(),
        None => random_id().into(),
    }
}

/// 32 hexadecimal digits. Written digit by digit: it is made for every request that brings none.
fn random_id() -> Box<str> {
    let mut number = fastrand::u128(..);
    let mut id = String::with_capacity(32);
    for _ in 0..32 {
        id.push(char::from_digit((number & 0xf) as u32, 16).unwrap_or('0'));
        number >>= 4;
    }
    id.into_boxed_str()
}

/// The trace id in a W3C `traceparent` (<https://www.w3.org/TR/trace-context/#traceparent-header>): 32 hex digits, not all zero.
fn trace_id(headers: &HeaderMap) -> Option<Box<str>> {
    let id = headers.get("traceparent")?.to_str().ok()?.split('-').nth(1)?;
    let valid =
        id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && id.bytes().any(|byte| byte != b'0');
    valid.then(|| id.into())
}

/// A record of an exchange that ended before there was an answer to pass on.
pub(super) fn unanswered(connection: &HttpConnection, upload: Option<&Progress>, failure: &Failure) -> Settlement {
    Settlement {
        status: Some(failure.status()),
        bytes_in: upload.map_or(0, Progress::bytes),
        bytes_out: 0,
        reason: connection.broken_rule(upload).or(failure.reason()),
        error: Some(failure.to_string()),
        ..Settlement::default()
    }
}
