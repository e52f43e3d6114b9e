//! S3 DeleteObjects: one request, one operation for each key in its body.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::body::ResponseBody;
use super::forward;
use super::reply::Replier;
use super::request::forward_permitted;
use super::service::HttpConnection;
use super::timing;
use crate::enforce::{Denied, Exchange, Permit, Settlement};
use crate::failure::Failure;
use crate::mapping::Refusal;
use crate::mapping::s3::{DeleteObjects, DeleteRequest, KeyError};
use crate::policy::PolicyGeneration;
use crate::upstream::RequestBody;

/// Reads the body up to its limit, asks about every key, and forwards what is permitted.
pub(super) async fn walk(
    connection: &Arc<HttpConnection>,
    call: &DeleteObjects,
    (mut parts, body): (Parts, Incoming),
    generation: Arc<PolicyGeneration>,
    exchange: Exchange,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let point = &connection.listener.point;
    let body = match read(connection, body).await? {
        Ok(body) => body,
        Err(refusal) => return replier.refused(connection, exchange, refusal),
    };
    let asked = match call.parse(&body) {
        Ok(asked) => asked,
        Err(refusal) => return replier.refused(connection, exchange, refusal),
    };
    let permit = match point.enforce(generation, &connection.asker, exchange, asked.operations()) {
        Ok(permit) => permit,
        Err(denied) => return partly(connection, &asked, parts, denied, replier).await,
    };
    forward::prepare(connection, &mut parts, None, &permit.exchange().request_id);
    let request = Request::from_parts(parts, RequestBody::whole(body));
    forward_permitted(connection, permit, request, None, replier).await
}

/// Some keys are denied. Where nobody signed the body it is written anew with the others; a signed one is not forwarded.
async fn partly(
    connection: &Arc<HttpConnection>,
    asked: &DeleteRequest,
    mut parts: Parts,
    denied: Denied,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let allowed = denied.allowed_each();
    let rewritten = asked.rewrite(&allowed);
    let permit = match denied.permitted_part() {
        Ok(permit) => permit,
        Err(denied) => return all_denied(asked, &allowed, denied, replier),
    };
    let Some(rewritten) = rewritten else { return not_forwarded(asked, &allowed, permit, replier) };
    forward::prepare(connection, &mut parts, None, &permit.exchange().request_id);
    rewritten.apply(&mut parts.headers);
    let request = Request::from_parts(parts, RequestBody::whole(rewritten.body.clone()));
    let waiting = connection.wait();
    let sent = connection.listener.upstream.send(&permit, request, None, false);
    let answer = timing::within_limits(sent, &permit, None, &connection.listener.limits).await;
    drop(waiting);
    let (response, lease) = match answer {
        Ok(answer) => answer,
        Err(failure) => return replier.unserved(connection, permit, None, &failure),
    };
    let status = response.status();
    let body = match read(connection, response.into_body()).await {
        Ok(Ok(body)) => body,
        Ok(Err(refusal)) => {
            let failure = Failure::Invalid { cause: refusal.message };
            return replier.unserved(connection, permit, None, &failure);
        }
        Err(failure) => return replier.unserved(connection, permit, None, &failure),
    };
    lease.finished();
    let denied = asked.errors(&allowed, KeyError::AccessDenied);
    let merged = if status.is_success() { asked.merge_result(&body, &denied) } else { None };
    let (status, text) = match merged {
        Some(merged) => (200, Bytes::from(merged)),
        // The store's own error goes on as it is: nothing was deleted then.
        None => (status.as_u16(), body),
    };
    settle(permit, status, text, replier)
}

/// No key is allowed: the DeleteResult says so for each of them.
fn all_denied(
    asked: &DeleteRequest,
    allowed: &[bool],
    denied: Denied,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let text = Bytes::from(asked.result(&asked.errors(allowed, KeyError::AccessDenied)));
    let id = denied.decision_id().to_string();
    let settlement = Settlement { status: Some(200), bytes_out: text.len() as u64, ..Settlement::default() };
    denied.settle(&settlement).map_err(|_error| Failure::Audit)?;
    Ok(replier.s3_xml(200, text, Some(&id)))
}

/// A signed body cannot be written anew: nothing of it is forwarded, and the permitted keys are told to be asked for again.
fn not_forwarded(
    asked: &DeleteRequest,
    allowed: &[bool],
    permit: Permit,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let text = Bytes::from(asked.result(&asked.errors(allowed, KeyError::AccessDeniedOrAborted)));
    settle(permit, 200, text, replier)
}

fn settle(permit: Permit, status: u16, text: Bytes, replier: &Replier) -> Result<Response<ResponseBody>, Failure> {
    let id = permit.decision_id().to_string();
    let settlement = Settlement { status: Some(status), bytes_out: text.len() as u64, ..Settlement::default() };
    permit.settle(&settlement).map_err(|_error| Failure::Audit)?;
    Ok(replier.s3_xml(status, text, Some(&id)))
}

/// A whole body, within the limit that a body to be judged has.
async fn read(connection: &HttpConnection, body: Incoming) -> Result<Result<Bytes, Refusal>, Failure> {
    let limits = &connection.listener.limits;
    let collected = timeout(limits.idle_timeout, Limited::new(body, limits.judged_body_bytes).collect()).await;
    match collected {
        Ok(Ok(collected)) => Ok(Ok(collected.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Ok(Err(Refusal {
            status: 413,
            rule: "judged-body-too-long",
            message: format!("the body is longer than `judged_body_bytes` = {}", limits.judged_body_bytes),
        })),
        Ok(Err(error)) => Err(Failure::RequestBody { cause: error.to_string() }),
        Err(_elapsed) => Err(Failure::Stalled { limit_ms: timing::millis(limits.idle_timeout) }),
    }
}
