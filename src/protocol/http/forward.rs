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
pub(super) fn prepare(connection: &Arc<HttpConnection>, parts: &mut Parts, target: Option<&str>, request_id: &str) {
    let authority = parts.uri.authority().cloned();
    parts.uri = origin_form(&parts.uri, target);
    let wants_trailers = parts.headers.get(header::TE).is_some();
    head::strip_for_upstream(&mut parts.headers);
    // The proxy has answered the expectation itself by reading the body (RFC 9110, 10.1.1).
    parts.headers.remove(header::EXPECT);
    if wants_trailers {
        // Only `trailers` passes the judge of heads. gRPC servers insist on it; over HTTP/1.1 it is dropped on sending.
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if let Some(host) = authority.and_then(|authority| HeaderValue::try_from(authority.as_str()).ok()) {
        parts.headers.insert(header::HOST, host);
    }
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    if let Ok(id) = HeaderValue::try_from(request_id) {
        parts.headers.insert(REQUEST_ID, id);
    }
    if let Some(client_cert) = &connection.client_cert {
        parts.headers.insert(CLIENT_CERT, client_cert.clone());
    }
}

/// Passes an upstream's answer on; one that cannot be passed on is the upstream's failure.
///
/// # Errors
/// The record of the exchange cannot be written.
pub(super) fn response(
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
    let body = ResponseBody::streamed(incoming, parts.status.as_u16(), open)?;
    // hyper writes the version of the connection; an answer from HTTP/2 must not claim HTTP/2 on HTTP/1.1.
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(parts, body))
}

/// Whether an answer can be passed on; else what is wrong with it.
fn judge(parts: &http::response::Parts) -> Result<(), String> {
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it switched protocols though nobody asked for it".into());
    }
    judge_upstream_head(parts).map_err(|refusal| refusal.message)
}

/// Removes what belongs to the upstream's connection only (RFC 9110, 7.6.1), and claims in our name that only a peer may make.
pub(super) fn strip_response(headers: &mut HeaderMap, direction: Direction) {
    const HOP_BY_HOP: [HeaderName; 5] = [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::CONTENT_LENGTH && *name != header::SET_COOKIE)
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    if direction == Direction::Inbound {
        let ours: Vec<HeaderName> =
            headers.keys().filter(|name| name.as_str().starts_with("x-portcullis-")).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
    }
}

fn origin_form(uri: &Uri, target: Option<&str>) -> Uri {
    let path_and_query = match target {
        // Judged targets are made of characters that a URI may hold: this cannot fail, and if it did, `/` is not forwarded.
        Some(target) => PathAndQuery::try_from(target).ok(),
        None => uri.path_and_query().cloned(),
    };
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = path_and_query;
    Uri::from_parts(parts).unwrap_or_default()
}

/// HTTP/2 may split cookies into several fields; before they pass into HTTP/1.1 they must be one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut joined = [first.as_bytes(), second.as_bytes()].join(&b"; "[..]);
    for crumb in crumbs {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}
