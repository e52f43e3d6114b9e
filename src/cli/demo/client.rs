//! One HTTP request or one SQL statement, as a stage's own client would make it.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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

/// Runs one statement in a session of its own.
pub(super) async fn query(to: SocketAddr, user: &str, text: &str) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| format!("{text}: {error}");
    let mut stream = TcpStream::connect(to).await.map_err(|error| said(&error))?;
    let mut message = bytes::BytesMut::new();
    let parameters = [("user", user), ("database", "analytics")];
    frontend::startup_message(parameters, &mut message).map_err(|error| said(&error))?;
    stream.write_all(&message).await.map_err(|error| said(&error))?;
    until_ready(&mut stream).await.map_err(|error| said(&error))?;
    message.clear();
    frontend::query(text, &mut message).map_err(|error| said(&error))?;
    stream.write_all(&message).await.map_err(|error| said(&error))?;
    until_ready(&mut stream).await.map_err(|error| said(&error))
}

/// Reads what the server says up to ReadyForQuery. Whether it was an error is for the records to say.
async fn until_ready(stream: &mut TcpStream) -> std::io::Result<()> {
    loop {
        let tag = stream.read_u8().await?;
        let length = stream.read_u32().await?.saturating_sub(4);
        tokio::io::copy(&mut (&mut *stream).take(length.into()), &mut tokio::io::sink()).await?;
        if tag == b'Z' {
            return Ok(());
        }
    }
}
