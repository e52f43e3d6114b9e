//! An HTTP upstream that remembers every request: that nothing reached it is half of every denied case.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio_rustls::TlsAcceptor;

use super::within;

/// A request as it reached the upstream.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Connections are counted from 0.
    pub(crate) connection: usize,
    pub(crate) version: Version,
    pub(crate) method: Method,
    /// The request target as hyper read it: origin form for HTTP/1.1, a whole URL for HTTP/2.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// What came of the body so far.
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
    /// Whether the body came to its end.
    pub(crate) complete: bool,
    /// The leaf that the client presented, for a recorder with TLS.
    pub(crate) peer: Option<CertificateDer<'static>>,
}

impl Seen {
    /// A header's text, `""` when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap_or("(not ASCII)"))
    }
}

/// What a [`Recorder`] does with a request.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Reads the body to its end, then answers.
    Answer(Arc<dyn Fn(&Seen) -> Reply + Send + Sync>),
    /// Answers 200 at once and streams body and trailers back as they come.
    Echo,
    /// Reads the head and never answers.
    Stall,
}

impl fmt::Debug for Behaviour {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Answer(_) => "Answer",
            Self::Echo => "Echo",
            Self::Stall => "Stall",
        })
    }
}

/// An answer of the upstream.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reply {
    /// 200 unless set.
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Reply {
    pub(crate) fn text(text: &str) -> Self {
        Self { body: Bytes::copy_from_slice(text.as_bytes()), ..Self::default() }
    }
}

/// The upstream, on a thread of its own.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    log: watch::Sender<Log>,
}

#[derive(Debug, Default)]
struct Log {
    connections: usize,
    requests: Vec<Seen>,
}

impl Recorder {
    /// HTTP/1.1 and prior-knowledge HTTP/2 in cleartext; answers `ok`.
    pub(crate) fn start() -> Self {
        Self::answering(|_| Reply::text("ok"))
    }

    /// The same with answers made by `answer`.
    pub(crate) fn answering(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::behaving(Behaviour::Answer(Arc::new(answer)), None)
    }

    /// `tls` makes it a TLS server: HTTP by ALPN, the client's certificate in [`Seen::peer`].
    pub(crate) fn behaving(behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let log = watch::Sender::new(Log::default());
        let shared = log.clone();
        let address = on_own_thread(async move |listener: TcpListener| {
            while let Ok((stream, _)) = listener.accept().await {
                let mut connection = 0;
                shared.send_modify(|log| {
                    connection = log.connections;
                    log.connections += 1;
                });
                tokio::spawn(serve(stream, tls.clone(), behaviour.clone(), shared.clone(), connection));
            }
        });
        Self { address, log }
    }

    /// As `upstream` of an inbound listener.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The same for HTTP/2.
    pub(crate) fn h2c_url(&self) -> String {
        format!("h2c://{}", self.address)
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.borrow().requests.clone()
    }

    /// How many connections it accepted.
    pub(crate) fn connections(&self) -> usize {
        self.log.borrow().connections
    }

    /// The requests, once there are `count` with complete bodies.
    pub(crate) async fn complete(&self, count: usize) -> Vec<Seen> {
        let enough = |log: &Log| log.requests.iter().filter(|seen| seen.complete).count() >= count;
        self.wait(&format!("{count} requests to reach the upstream"), enough).await
    }

    /// The requests, once `enough` holds of them.
    pub(crate) async fn when(&self, what: &str, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        self.wait(what, |log| enough(&log.requests)).await
    }

    /// Fails if a request reached it.
    pub(crate) fn assert_untouched(&self) {
        let log = self.log.borrow();
        assert!(log.requests.is_empty(), "the upstream got {:#?}", log.requests);
    }

    async fn wait(&self, what: &str, enough: impl Fn(&Log) -> bool) -> Vec<Seen> {
        let mut receiver = self.log.subscribe();
        let waited = within(what, receiver.wait_for(|log| enough(log))).await;
        waited.expect("we hold the sender").requests.clone()
    }
}

/// Runs `serve` with a listener on a free loopback port, on a thread of its own that ends with the test process: a test
/// that blocks cannot stall its upstream.
pub(crate) fn on_own_thread<F>(serve: impl FnOnce(TcpListener) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()>,
{
    let (send_address, address) = mpsc::channel();
    thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made");
        runtime.block_on(async {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
            send_address.send(listener.local_addr().expect("is bound")).expect("is waited for");
            serve(listener).await;
        });
    });
    address.recv().expect("the thread listens")
}

async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    behaviour: Behaviour,
    log: watch::Sender<Log>,
    connection: usize,
) {
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let mut start = [0; 3];
        // "PRI" is no HTTP/1.1 method (RFC 9113, 3.4); a client that sends less than 3 bytes sends no request.
        while matches!(stream.peek(&mut start).await, Ok(1 | 2)) {
            tokio::task::yield_now().await;
        }
        let http2 = &start == b"PRI";
        return speak(stream, http2, Connection { behaviour, log, connection, peer: None }).await;
    };
    let Ok(stream) = tls.accept(stream).await else { return };
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let peer = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
    speak(stream, http2, Connection { behaviour, log, connection, peer }).await;
}

/// What requests of one connection share.
#[derive(Clone)]
struct Connection {
    behaviour: Behaviour,
    log: watch::Sender<Log>,
    connection: usize,
    peer: Option<CertificateDer<'static>>,
}

async fn speak(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, http2: bool, shared: Connection) {
    let service = service_fn(move |request| shared.clone().answer(request));
    // That a connection ends badly is what some tests are about; the records of the test tell.
    let _ = if http2 {
        conn::http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await
    } else {
        conn::http1::Builder::new().half_close(true).serve_connection(TokioIo::new(stream), service).await
    };
}

impl Connection {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, hyper::Error>>, hyper::Error> {
        let (head, body) = request.into_parts();
        let seen = Seen {
            connection: self.connection,
            version: head.version,
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
            body: Vec::new(),
            trailers: HeaderMap::new(),
            complete: false,
            peer: self.peer,
        };
        let mut index = 0;
        self.log.send_modify(|log| {
            index = log.requests.len();
            log.requests.push(seen);
        });
        let log = self.log;
        let remember = move |frame: &Frame<Bytes>| {
            log.send_modify(|log| {
                let Some(seen) = log.requests.get_mut(index) else { return };
                if let Some(data) = frame.data_ref() {
                    seen.body.extend_from_slice(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    seen.trailers.clone_from(trailers);
                }
            });
            log.clone()
        };
        match self.behaviour {
            Behaviour::Stall => std::future::pending().await,
            Behaviour::Echo => {
                let echoed = body.map_frame(move |frame| {
                    remember(&frame);
                    frame
                });
                Ok(Response::new(echoed.boxed()))
            }
            Behaviour::Answer(answer) => {
                let mut body = body;
                let mut log = None;
                while let Some(frame) = body.frame().await {
                    log = Some(remember(&frame?));
                }
                let log = log.unwrap_or_else(|| remember(&Frame::data(Bytes::new())));
                log.send_modify(|log| {
                    log.requests.iter_mut().skip(index).take(1).for_each(|seen| seen.complete = true)
                });
                let seen = log.borrow().requests.get(index).cloned();
                Ok(seen.map_or_else(|| Reply::default().into_response(), |seen| answer(&seen).into_response()))
            }
        }
    }
}

impl Reply {
    fn into_response(self) -> Response<BoxBody<Bytes, hyper::Error>> {
        let mut frames = vec![Ok::<_, Infallible>(Frame::data(self.body.clone()))];
        let trailers = header_map(&self.trailers);
        let has_trailers = !trailers.is_empty();
        if has_trailers {
            frames.push(Ok(Frame::trailers(trailers)));
        }
        let body = StreamBody::new(stream::iter(frames)).map_err(|never| match never {}).boxed();
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        *response.headers_mut() = header_map(&self.headers);
        let bodyless = self.status == StatusCode::NO_CONTENT || self.status == StatusCode::NOT_MODIFIED;
        if !has_trailers && !bodyless && !response.headers().contains_key("content-length") {
            response.headers_mut().insert("content-length", HeaderValue::from(self.body.len()));
        }
        response
    }
}

fn header_map(fields: &[(String, String)]) -> HeaderMap {
    let parsed = fields.iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("is a header name");
        (name, HeaderValue::from_str(value).expect("is a header value"))
    });
    parsed.collect()
}
