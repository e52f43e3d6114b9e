//! HTTP clients over any stream: hyper's own, so that a request is exactly what the test wrote.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::within;

/// A body that a test streams.
pub(crate) type StreamedBody = BoxBody<Bytes, std::convert::Infallible>;

/// One HTTP connection.
#[derive(Debug)]
pub(crate) enum Client {
    Http1(conn::http1::SendRequest<StreamedBody>),
    Http2(conn::http2::SendRequest<StreamedBody>),
}

/// HTTP/1.1 over `stream`.
pub(crate) async fn http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    let shaken = conn::http1::Builder::new().preserve_header_case(true).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken.expect("nothing is sent yet");
    tokio::spawn(connection.with_upgrades());
    Client::Http1(sender)
}

/// HTTP/2 over `stream`.
pub(crate) async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Client {
    try_http2(stream).await.expect("the preface can be sent")
}

/// The same where the peer may be gone already.
pub(crate) async fn try_http2(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Client, hyper::Error> {
    let shaken = conn::http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shaken?;
    tokio::spawn(connection);
    Ok(Client::Http2(sender))
}

impl Client {
    /// Cleartext HTTP/1.1 to `address`.
    pub(crate) async fn plain(address: SocketAddr) -> Self {
        http1(tcp(address).await).await
    }

    /// Cleartext HTTP/2 with prior knowledge to `address`.
    pub(crate) async fn plain_http2(address: SocketAddr) -> Self {
        http2(tcp(address).await).await
    }

    /// Sends a request and reads the answer whole.
    pub(crate) async fn send(&mut self, request: Request<Bytes>) -> Answer {
        match self.try_send(request).await {
            Ok(answer) => answer,
            Err(error) => panic!("no answer: {error:?}"),
        }
    }

    /// The same where the connection may end instead.
    pub(crate) async fn try_send(&mut self, request: Request<Bytes>) -> hyper::Result<Answer> {
        let response = self.stream(request.map(|body| Full::new(body).boxed())).await?;
        Answer::read(response).await
    }

    /// Sends a streamed body and returns with the head of the answer.
    pub(crate) async fn stream(&mut self, request: Request<StreamedBody>) -> hyper::Result<Response<Incoming>> {
        within("the head of an answer", async {
            match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Http2(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        })
        .await
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    pub(crate) async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (head, body) = response.into_parts();
        let body = within("the body of an answer", body.collect()).await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Self { status: head.status, version: head.version, headers: head.headers, body: body.to_bytes(), trailers })
    }

    /// A header's text, `""` when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("(not ASCII)"))
    }

    /// `x-portcullis-decision`, which every denial has.
    pub(crate) fn decision(&self) -> &str {
        let decision = self.header("x-portcullis-decision");
        assert!(!decision.is_empty(), "no decision id in {self:?}");
        decision
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A request for `http://AUTHORITY/PATH` with these headers and body. For HTTP/1.1 the `Host` is written here.
pub(crate) fn request(
    method: &str,
    authority: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Bytes> {
    let method = Method::from_bytes(method.as_bytes()).expect("is a method");
    let mut request = Request::builder().method(method).uri(target);
    if !authority.is_empty() {
        request = request.header("host", authority);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Bytes::copy_from_slice(body.as_bytes())).expect("is a request")
}

/// One GET on a connection of its own, cleartext HTTP/1.1.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Answer {
    Client::plain(address).await.send(request("GET", &address.to_string(), path, &[], "")).await
}

async fn tcp(address: SocketAddr) -> TcpStream {
    let stream = within("a TCP connection", TcpStream::connect(address)).await;
    let stream = stream.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
    stream.set_nodelay(true).expect("is a TCP socket");
    stream
}
