//! One HTTP request, as a stage's own client would make it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Sends one request on a connection of its own; the answer's status.
pub(super) async fn send(
    to: SocketAddr,
    method: &Method,
    path: &str,
    body: &'static str,
    request_id: &str,
) -> Result<StatusCode, String> {
    let said = |error: &dyn std::fmt::Display| format!("{method} {path}: {error}");
    let stream = TcpStream::connect(to).await.map_err(|error| said(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", to.to_string())
        .header("x-request-id", request_id)
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .map_err(|error| said(&error))?;
    let response = sender.send_request(request).await.map_err(|error| said(&error))?;
    let status = response.status();
    response.into_body().collect().await.map_err(|error| said(&error))?;
    Ok(status)
}
