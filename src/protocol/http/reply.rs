//! From cause to reply: the one place where a refusal, a denial or a failure becomes words of the protocol.
//!
//! The peer learns that it was denied and the decision's id, no more; policy text stays in the record.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::body::ResponseBody;
use super::forward::REQUEST_ID;
use super::request::unanswered;
use super::service::HttpConnection;
use crate::enforce::{Denied, Exchange, Permit, Settlement};
use crate::failure::{Blame, Failure};
use crate::mapping::Refusal;
use crate::upstream::Progress;

const DECISION: HeaderName = HeaderName::from_static("x-portcullis-decision");
const ERROR: HeaderName = HeaderName::from_static("x-portcullis-error");
const AMZ_REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// RFC 6750, section 3.
const INVALID_TOKEN: HeaderValue = HeaderValue::from_static("Bearer error=\"invalid_token\"");

/// Which words the caller understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// RFC 9457 problem details.
    Problem,
    /// Short text.
    Text,
    /// HTTP 200, trailers only, `grpc-status`.
    Grpc,
    /// S3's XML error.
    S3,
}

/// Knows how to answer one request.
#[derive(Debug)]
pub(super) struct Replier {
    family: Family,
    head_only: bool,
    request_id: Box<str>,
}

/// What is said.
struct Reply<'a> {
    status: u16,
    /// S3's error code.
    code: &'static str,
    /// gRPC's status code (<https://grpc.io/docs/guides/status-codes/>).
    grpc_status: &'static str,
    title: &'static str,
    detail: &'a str,
    decision: Option<String>,
    stage: Option<&'static str>,
}

impl Replier {
    /// Replies in the words that the caller of `parts` understands.
    pub(super) fn new(connection: &Arc<HttpConnection>, parts: &Parts, request_id: &str) -> Self {
        let family = if connection.listener.is_s3() { Family::S3 } else { family(&parts.headers) };
        Self { family, head_only: parts.method == Method::HEAD, request_id: request_id.into() }
    }

    /// A denial by policy. Recorded first: if that cannot be done, the caller learns only that nothing can be served.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) fn denied(&self, denied: Denied) -> Result<Response<ResponseBody>, Failure> {
        let id = denied.decision_id().to_string();
        let detail = match self.family {
            Family::S3 => format!("Access Denied (decision {id})"),
            _ => format!("denied by policy, decision {id}"),
        };
        let reply = Reply {
            status: 403,
            code: "AccessDenied",
            grpc_status: "7",
            title: "Forbidden",
            detail: &detail,
            decision: Some(id),
            stage: None,
        };
        let response = self.render(&reply);
        denied.settle(&settled(&response)).map_err(|_error| Failure::Audit)?;
        Ok(response)
    }

    /// A request that cannot be named, or brings a token that is not to be believed.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) fn refused(
        &self,
        connection: &Arc<HttpConnection>,
        exchange: Exchange,
        refusal: Refusal,
    ) -> Result<Response<ResponseBody>, Failure> {
        let detail = format!("{} ({})", refusal.message, refusal.rule);
        let point = &connection.listener.point;
        let denied = point.refuse(&connection.asker, exchange, refusal.rule, refusal.message);
        let reply = Reply {
            status: refusal.status,
            code: match refusal.status {
                401 => "InvalidToken",
                501 => "NotImplemented",
                _ => "InvalidRequest",
            },
            grpc_status: if refusal.status == 401 { "16" } else { "3" },
            title: StatusCode::from_u16(refusal.status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Refused"),
            detail: &detail,
            decision: Some(denied.decision_id().to_string()),
            stage: None,
        };
        let mut response = self.render(&reply);
        if refusal.status == 401 {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, INVALID_TOKEN);
        } else if connection.guard.is_some() {
            // What follows a request that cannot be named cannot be trusted to be a request.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        denied.settle(&settled(&response)).map_err(|_error| Failure::Audit)?;
        Ok(response)
    }

    /// A body that was to be judged did not arrive: nothing could be asked, and the record says why.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) fn unread(
        &self,
        connection: &Arc<HttpConnection>,
        exchange: Exchange,
        failure: &Failure,
    ) -> Result<Response<ResponseBody>, Failure> {
        let point = &connection.listener.point;
        let denied = point.refuse(&connection.asker, exchange, failure.stage(), failure.to_string());
        let response = self.failed(connection, failure);
        denied.settle(&settled(&response)).map_err(|_error| Failure::Audit)?;
        Ok(response)
    }

    /// A permitted request that could not be served.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) fn unserved(
        &self,
        connection: &Arc<HttpConnection>,
        permit: Permit,
        upload: Option<&Progress>,
        failure: &Failure,
    ) -> Result<Response<ResponseBody>, Failure> {
        permit.settle(&unanswered(connection, upload, failure)).map_err(|_error| Failure::Audit)?;
        Ok(self.failed(connection, failure))
    }

    /// S3 XML of our own, with the decision it comes from.
    pub(super) fn s3_xml(&self, status: u16, text: Bytes, decision: &str) -> Response<ResponseBody> {
        let mut response = Response::new(ResponseBody::whole(text));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
        let reply = Reply {
            status,
            code: "",
            grpc_status: "",
            title: "",
            detail: "",
            decision: Some(decision.to_owned()),
            stage: None,
        };
        self.headers(response.headers_mut(), &reply, "application/xml");
        response
    }

    /// Something went wrong beside the decision.
    pub(super) fn failed(&self, connection: &Arc<HttpConnection>, failure: &Failure) -> Response<ResponseBody> {
        let (listener, stage, request_id) = (&*connection.listener.endpoint, failure.stage(), &*self.request_id);
        // Only what an upstream does is news: a client could fill the log, and a sink that fails has been told of once.
        if failure.blame() == Blame::Upstream {
            connection.listener.point.metrics.upstream_failure(stage);
            tracing::warn!(listener, stage, %failure, request_id, "request could not be served");
        } else {
            tracing::debug!(listener, stage, %failure, request_id, "request could not be served");
        }
        let mut response = self.render(&Reply {
            status: failure.status(),
            code: match failure.status() {
                401 => "InvalidToken",
                403 => "AccessDenied",
                408 => "RequestTimeout",
                _ => "ServiceUnavailable",
            },
            grpc_status: match failure.status() {
                401 => "16",
                403 => "7",
                504 => "4",
                _ => "14",
            },
            title: StatusCode::from_u16(failure.status()).ok().and_then(|s| s.canonical_reason()).unwrap_or("Failed"),
            detail: failure.stage(),
            decision: None,
            stage: Some(failure.stage()),
        });
        if matches!(failure, Failure::Audit) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(failure, Failure::TokenExpired { .. }) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, INVALID_TOKEN);
        }
        // The rest of the request's body may still be on its way.
        let body_is_unread = failure.blame() == Blame::Downstream;
        if connection.guard.is_some() && body_is_unread {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn render(&self, reply: &Reply<'_>) -> Response<ResponseBody> {
        let (status, content_type, text) = match self.family {
            Family::Problem => (reply.status, "application/problem+json", self.problem(reply)),
            Family::Text => (reply.status, "text/plain; charset=utf-8", format!("{}\n", reply.detail)),
            Family::Grpc => (200, "application/grpc", String::new()),
            Family::S3 => (reply.status, "application/xml", self.s3_error(reply)),
        };
        let body = if self.head_only || text.is_empty() {
            ResponseBody::empty()
        } else {
            ResponseBody::whole(Bytes::from(text))
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
        self.headers(response.headers_mut(), reply, content_type);
        response
    }

    fn headers(&self, headers: &mut HeaderMap, reply: &Reply<'_>, content_type: &'static str) {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        // A decision is about this caller at this moment.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::try_from(&*self.request_id) {
            if self.family == Family::S3 {
                headers.insert(AMZ_REQUEST_ID, id.clone());
            }
            headers.insert(REQUEST_ID, id);
        }
        if let Some(decision) = reply.decision.as_deref().and_then(|id| HeaderValue::try_from(id).ok()) {
            headers.insert(DECISION, decision);
        }
        if let Some(stage) = reply.stage {
            headers.insert(ERROR, HeaderValue::from_static(stage));
        }
        if self.family == Family::Grpc {
            headers.insert("grpc-status", HeaderValue::from_static(reply.grpc_status));
            if let Ok(message) = HeaderValue::try_from(grpc_message(reply.detail)) {
                headers.insert("grpc-message", message);
            }
        }
    }

    /// RFC 9457.
    fn problem(&self, reply: &Reply<'_>) -> String {
        let mut problem = serde_json::json!({
            "type": "about:blank",
            "title": reply.title,
            "status": reply.status,
            "detail": reply.detail,
            "request_id": &*self.request_id,
        });
        if let (Some(object), Some(decision)) = (problem.as_object_mut(), &reply.decision) {
            object.insert("decision".into(), decision.as_str().into());
        }
        format!("{problem}\n")
    }

    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html>
    fn s3_error(&self, reply: &Reply<'_>) -> String {
        let (code, message, id) = (reply.code, quick_xml::escape::escape(reply.detail), &self.request_id);
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{id}</RequestId></Error>"
        )
    }
}

fn settled(response: &Response<ResponseBody>) -> Settlement {
    Settlement { status: Some(response.status().as_u16()), ..Settlement::default() }
}

/// gRPC by its content type (gRPC over HTTP2, Requests), else problem details unless the caller asks for text.
fn family(headers: &HeaderMap) -> Family {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    if text(header::CONTENT_TYPE).starts_with("application/grpc") {
        return Family::Grpc;
    }
    let accept = text(header::ACCEPT);
    if accept.contains("text/") && !accept.contains("json") { Family::Text } else { Family::Problem }
}

/// Percent-encodes what `grpc-message` must not hold (gRPC over HTTP2, Responses).
fn grpc_message(detail: &str) -> String {
    let mut message = String::with_capacity(detail.len());
    for byte in detail.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            message.push(char::from(byte));
        } else {
            message.push_str(&format!("%{byte:02X}"));
        }
    }
    message
}
