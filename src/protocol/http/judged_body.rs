//! S3 calls whose body decides what is asked: DeleteObjects names its keys there, RestoreObject may name a place to write to.

use std::pin::pin;
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
use super::request::{distrusted, forward_permitted};
use super::service::HttpConnection;
use super::{standing, timing};
use crate::enforce::{Denied, Exchange, Permit, Settlement};
use crate::failure::Failure;
use crate::mapping::s3::{DeleteObjects, DeleteRequest, RestoreObject};
use crate::mapping::{Operations, Refusal};
use crate::policy::PolicyGeneration;
use crate::upstream::RequestBody;

/// A call whose body has to be read before anything can be asked.
#[derive(Debug)]
pub(super) enum JudgedBody {
    DeleteObjects(DeleteObjects),
    RestoreObject(RestoreObject),
}

/// Reads the body up to its limit, asks about everything in it, and forwards what is permitted.
pub(super) async fn walk(
    connection: &Arc<HttpConnection>,
    call: &JudgedBody,
    (mut parts, body): (Parts, Incoming),
    generation: Arc<PolicyGeneration>,
    exchange: Exchange,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let point = &connection.listener.point;
    let body = match read(connection, body).await {
        Ok(body) => body,
        Err(Unread::Refused(refusal)) => return replier.refused(connection, exchange, refusal),
        Err(Unread::Failed(failure)) => return replier.unread(connection, exchange, &failure),
    };
    let named = match call {
        JudgedBody::DeleteObjects(call) => call.parse(&body).map(|asked| (asked.operations(), Some(asked))),
        JudgedBody::RestoreObject(call) => call.judge(&body).map(|operations| (operations, None)),
    };
    let (operations, keys): (Operations, Option<DeleteRequest>) = match named {
        Ok(named) => named,
        Err(refusal) => return replier.refused(connection, exchange, refusal),
    };
    let generation = match still_fit(connection, &exchange, generation) {
        Ok(generation) => generation,
        Err(refusal) => return replier.refused(connection, exchange, refusal),
    };
    let permit = match (point.enforce(generation, &connection.asker, exchange, operations), keys) {
        (Ok(permit), _) => permit,
        (Err(denied), Some(keys)) => return partly(connection, &keys, parts, denied, replier).await,
        (Err(denied), None) => return replier.denied(denied),
    };
    forward::prepare(connection, &mut parts, None, &permit.exchange().request_id)?;
    let request = Request::from_parts(parts, RequestBody::whole(body));
    forward_permitted(connection, permit, request, None, replier).await
}

/// The policies to ask when the body is there, which its peer may have let wait. Within the grace they are those that the request began
/// with, later those in force, as for everything that is open for long.
///
/// # Errors
/// The peer is not trusted any more, the token that the request came with is over, or the policies read headers that it was not judged by.
fn still_fit(
    connection: &HttpConnection,
    exchange: &Exchange,
    began_with: Arc<PolicyGeneration>,
) -> Result<Arc<PolicyGeneration>, Refusal> {
    let listener = &connection.listener;
    if !connection.takes_requests() {
        return Err(distrusted());
    }
    if let (Some(tokens), Some(token)) = (&listener.tokens, &exchange.token) {
        tokens.still_holds(token, &listener.point.metrics)?;
    }
    if exchange.started.elapsed() < listener.limits.grace {
        return Ok(began_with);
    }
    let in_force = listener.point.policies_in_force();
    match standing::unfit(Some(&began_with), &in_force) {
        None => Ok(in_force),
        Some((rule, message)) => Err(Refusal::with_status(403, rule, message)),
    }
}

/// Some keys are denied. Where nobody signed the body it is written anew with the others; a signed one is not forwarded.
async fn partly(
    connection: &Arc<HttpConnection>,
    asked: &DeleteRequest,
    mut parts: Parts,
    denied: Denied,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let allowed = asked.allowed_keys(&denied.allowed_each());
    let Some(rewritten) = asked.rewrite(&allowed) else { return none_forwarded(asked, &allowed, denied, replier) };
    let permit = match denied.permitted_part() {
        Ok(permit) => permit,
        Err(denied) => return none_forwarded(asked, &allowed, denied, replier),
    };
    forward::prepare(connection, &mut parts, None, &permit.exchange().request_id)?;
    rewritten.checksums.apply(&mut parts.headers);
    // The answer is read here, to put the denied keys into it.
    parts.headers.remove(http::header::ACCEPT_ENCODING);
    let request = Request::from_parts(parts, RequestBody::whole(rewritten.body));
    match answered(connection, &permit, request).await {
        Ok((status, body)) => match asked.merged_result(&body, &allowed) {
            Some(merged) if status == 200 => settle(permit, status, Bytes::from(merged), replier),
            // The store's own error: nothing was deleted, and the caller may ask again.
            _ if status != 200 => settle(permit, status, body, replier),
            _ => {
                let failure = Failure::Invalid { cause: "its answer is no DeleteResult".into() };
                replier.unserved(connection, permit, None, &failure)
            }
        },
        Err(failure) => replier.unserved(connection, permit, None, &failure),
    }
}

/// Nothing goes to the store: every key has its error in the DeleteResult.
fn none_forwarded(
    asked: &DeleteRequest,
    allowed: &[bool],
    denied: Denied,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let text = Bytes::from(asked.refused_result(allowed));
    let id = denied.decision_id().to_string();
    denied.settle(&settlement(200, &text)).map_err(|_error| Failure::Audit)?;
    Ok(replier.s3_xml(200, text, &id))
}

fn settle(permit: Permit, status: u16, text: Bytes, replier: &Replier) -> Result<Response<ResponseBody>, Failure> {
    let id = permit.decision_id().to_string();
    permit.settle(&settlement(status, &text)).map_err(|_error| Failure::Audit)?;
    Ok(replier.s3_xml(status, text, &id))
}

fn settlement(status: u16, text: &Bytes) -> Settlement {
    Settlement { status: Some(status), bytes_out: text.len() as u64, ..Settlement::default() }
}

/// Sends a rewritten request and reads the whole answer.
async fn answered(
    connection: &Arc<HttpConnection>,
    permit: &Permit,
    request: Request<RequestBody>,
) -> Result<(u16, Bytes), Failure> {
    let _waiting = connection.wait();
    let sent = pin!(connection.listener.upstream.send(permit, request, None, false));
    let (response, lease) = timing::within_limits(sent, permit, None, &connection.listener.limits).await?;
    let (head, body) = response.into_parts();
    forward::judge(&head).map_err(|cause| Failure::Invalid { cause })?;
    let status = head.status.as_u16();
    match read(connection, body).await {
        Ok(body) => {
            lease.finished();
            Ok((status, body))
        }
        Err(Unread::Refused(refusal)) => Err(Failure::Invalid { cause: refusal.message }),
        // Here it is the upstream that broke off or stood still.
        Err(Unread::Failed(Failure::RequestBody { cause })) => Err(Failure::Response { cause }),
        Err(Unread::Failed(Failure::Stalled { limit_ms })) => Err(Failure::RequestTimeout { limit_ms }),
        Err(Unread::Failed(failure)) => Err(failure),
    }
}

/// Why a body is not there.
enum Unread {
    Refused(Refusal),
    Failed(Failure),
}

/// A whole body, within the limit that a body to be judged has.
async fn read(connection: &HttpConnection, body: Incoming) -> Result<Bytes, Unread> {
    let limits = &connection.listener.limits;
    match timeout(limits.idle_timeout, Limited::new(body, limits.judged_body_bytes).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("body is longer than `judged_body_bytes` = {}", limits.judged_body_bytes);
            Err(Unread::Refused(Refusal::with_status(413, "judged-body-length", message)))
        }
        Ok(Err(error)) => Err(Unread::Failed(Failure::RequestBody { cause: error.to_string() })),
        Err(_elapsed) => Err(Unread::Failed(Failure::Stalled { limit_ms: timing::millis(limits.idle_timeout) })),
    }
}
