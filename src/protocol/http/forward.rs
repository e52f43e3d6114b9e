//! What is sent on: the judged request to the upstream, its answer to the downstream.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Response, StatusCode, Uri, Version};
use hyper::body::Incoming;

use super::body::{Open, ResponseBody};
use super::guard::judge_upstream_head;
use super::reply::Replier;
use super::service::HttpConnection;
use crate::config::Direction;
use crate::failure::Failure;
use crate::mapping::head;

pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// Makes of a judged head the one that the upstream gets: written anew from the judged form, with our own claims in it.
///
/// `target` is the judged path and query; none where the received target is sent unchanged (S3: the client signed it,
/// and it was proved to be the judged bucket, key and query).
///
/// # Errors
/// The judged form cannot be written as a request.
pub(super) fn prepare(
    connection: &Arc<HttpConnection>,
    parts: &mut Parts,
    target: Option<&str>,
    request_id: &str,
) -> Result<(), Failure> {
    let authority = parts.uri.authority().cloned();
    parts.uri = origin_form(&parts.uri, target)?;
    head::strip_for_upstream(&mut parts.headers);
    // The proxy has answered the expectation itself by reading the body (RFC 9110, 10.1.1).
    parts.headers.remove(header::EXPECT);
    if let Some(host) = authority.and_then(|authority| HeaderValue::try_from(authority.as_str()).ok()) {
        parts.headers.insert(header::HOST, host);
    }
    if let Ok(id) = HeaderValue::try_from(request_id) {
        parts.headers.insert(REQUEST_ID, id);
    }
    if let Some(client_cert) = &connection.client_cert {
        parts.headers.insert(CLIENT_CERT, client_cert.clone());
    }
    Ok(())
}

/// Passes an upstream's answer on; one that cannot be passed on is the upstream's failure.
///
/// # Errors
/// The record of the exchange cannot be written.
pub(super) async fn response(
    response: Response<Incoming>,
    open: Open,
    replier: &Replier,
) -> Result<Response<ResponseBody>, Failure> {
    let (mut parts, incoming) = response.into_parts();
    if let Err(cause) = judge(&parts) {
        let Open { permit, upload, connection, .. } = open;
        return replier.unserved(&connection, permit, upload.as_deref(), &Failure::Invalid { cause });
    }
    strip_response(&mut parts.headers, open.connection.listener.direction);
    let body = ResponseBody::streamed(incoming, parts.status.as_u16(), open).await?;
    // hyper writes the version of the connection; an answer from HTTP/2 must not claim HTTP/2 on HTTP/1.1.
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, body))
}

/// Whether an answer can be passed on; else what is wrong with it.
pub(super) fn judge(parts: &http::response::Parts) -> Result<(), String> {
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it switched protocols though nobody asked for it".into());
    }
    judge_upstream_head(parts).map_err(|refusal| refusal.message)
}

/// Removes what belongs to the upstream's connection only (RFC 9110, 7.6.1), and claims in our name that only a peer may make.
pub(super) fn strip_response(headers: &mut HeaderMap, direction: Direction) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::SET_COOKIE)
        .collect();
    let dropped = |name: &&HeaderName| {
        let text = name.as_str();
        matches!(text, "connection" | "transfer-encoding" | "upgrade" | "keep-alive" | "proxy-connection")
            || (direction == Direction::Inbound && text.starts_with("x-portcullis-"))
            || named.contains(name)
    };
    // One pass over what is there: seldom anything has to go.
    let doomed: Vec<HeaderName> = headers.keys().filter(dropped).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

fn origin_form(uri: &Uri, target: Option<&str>) -> Result<Uri, Failure> {
    let path_and_query = match target {
        Some(target) => PathAndQuery::try_from(target).map_err(|error| Failure::Target { cause: error.to_string() })?,
        None => uri.path_and_query().cloned().ok_or_else(|| Failure::Target { cause: "it has no path".into() })?,
    };
    Ok(Uri::from(path_and_query))
}
