//! One request out, one answer back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::{self, HeaderValue};
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::timeout;

use super::connect::{Connector, PeerTls, Wanted};
use super::http1::{Http1, Idle};
use super::http2::{Http2, Shared};
use super::term::Terms;
use super::{Lease, Progress, RequestBody};
use crate::config::{ListenerConfig, UpstreamScheme};
use crate::enforce::{EnforcementPoint, Permit};
use crate::failure::{Failure, with_sources};
use crate::identity::X509Source;
use crate::telemetry::ListenerMetrics;
use crate::tls::ClientTls;

/// How long a kept connection may take to be ready again.
const READY_WITHIN: Duration = Duration::from_millis(100);

/// Where a listener's permitted requests go. Each data-path thread has its own, so that no lock is ever contended.
#[derive(Debug)]
pub struct Upstream {
    connector: Connector,
    idle: Arc<Idle>,
    shared: Arc<Shared>,
    terms: Arc<Terms>,
    /// Held while an HTTP/2 connection is opened, so that a burst of requests opens one and not many.
    opening: tokio::sync::Mutex<()>,
    /// Whether the next connection is expected to speak HTTP/2: the last one did, or is the first and may.
    speaks_http2: AtomicBool,
}

/// What an upstream needs to know.
#[derive(Debug, Clone)]
pub struct UpstreamOptions<'a> {
    /// The listener it belongs to.
    pub listener: &'a ListenerConfig,
    /// Our identity.
    pub source: &'a Arc<dyn X509Source>,
    /// The listener's counters: handshakes with a peer are counted here.
    pub metrics: &'a Arc<ListenerMetrics>,
}

/// An answer and the connection it comes on.
pub type Answer = (Response<Incoming>, Lease);

enum Connection {
    Http1 { connection: Http1, reused: bool },
    Http2 { place: Http2, reused: bool },
}

impl Upstream {
    /// The upstream of a listener, whose records are written at `point`. Nothing is connected yet.
    #[must_use]
    pub fn new(options: &UpstreamOptions<'_>, point: &Arc<EnforcementPoint>) -> Self {
        let listener = options.listener;
        let tls = listener.peer.as_ref().map(|peer| {
            let client = |alpn: &[&[u8]]| {
                ClientTls::new(Arc::clone(options.source), listener.tls_min_version, alpn, peer.clone())
            };
            PeerTls {
                any: client(&[b"h2", b"http/1.1"]),
                unshared: client(&[b"http/1.1"]),
                outlive: listener.limits.unsafe_outlive_certificate,
            }
        });
        let config = listener.upstream.clone();
        let address = config.to_string();
        Self {
            connector: Connector {
                config,
                address,
                tls,
                limit: listener.limits.connect_timeout,
                metrics: Arc::clone(options.metrics),
            },
            idle: Arc::default(),
            shared: Arc::default(),
            terms: Arc::new(Terms { point: Arc::clone(point), grace: listener.limits.grace }),
            opening: tokio::sync::Mutex::default(),
            speaks_http2: AtomicBool::new(listener.upstream.scheme != UpstreamScheme::Http),
        }
    }

    /// Sends a permitted request and waits for the head of its answer.
    ///
    /// A request is sent a second time only on a connection that died before a byte of response, and only if it was never
    /// written (RFC 9110, 9.2.2: then even a non-idempotent one may be) or is idempotent and has no body.
    ///
    /// # Errors
    /// The stage that failed. Nothing of the request remains with the upstream that was not permitted.
    ///
    /// # Cancel safety
    /// Dropping the future breaks the exchange off.
    pub async fn send(
        &self,
        _permit: &Permit,
        mut request: Request<RequestBody>,
        upload: Option<Arc<Progress>>,
        upgrade: bool,
    ) -> Result<Answer, Failure> {
        let wanted = if upgrade { Wanted::Http1 } else { Wanted::Any };
        let mut retried = false;
        loop {
            let connection = self.connection(wanted, retried).await?;
            match &connection {
                Connection::Http1 { .. } => for_http1(&mut request)?,
                Connection::Http2 { .. } => for_http2(&mut request, &self.connector)?,
            }
            let spare = if retried { None } else { spare_head(&request, &connection) };
            match self.exchange(connection, request, upload.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(_) if upload.as_deref().and_then(Progress::broken).is_some() => {
                    let cause = upload.as_deref().and_then(Progress::broken).unwrap_or_default().to_owned();
                    return Err(Failure::RequestBody { cause });
                }
                Err(Broken { unsent: Some(unsent), .. }) if !retried => request = *unsent,
                Err(Broken { answered: false, cause, .. }) => match spare {
                    Some(again) => request = again,
                    None => return Err(Failure::Closed { cause }),
                },
                Err(Broken { cause, .. }) => return Err(Failure::Response { cause }),
            }
            retried = true;
        }
    }

    /// Closes idle connections that are too old or were made with an SVID of before.
    pub fn retire_idle(&self) {
        let generation = self.connector.generation();
        self.idle.retire(generation);
        self.shared.retire(generation);
    }

    /// A connection for a request: a kept one, else a new one. A request that is `retried` has seen a kept HTTP/1.1 connection
    /// die; those beside it may be as dead, so it gets a new one.
    async fn connection(&self, wanted: Wanted, retried: bool) -> Result<Connection, Failure> {
        let generation = self.connector.generation();
        if wanted == Wanted::Any {
            if let Some(place) = self.shared.take(generation) {
                return Ok(Connection::Http2 { place, reused: true });
            }
            if !retried && let Some(connection) = self.ready(generation).await {
                return Ok(Connection::Http1 { connection, reused: true });
            }
        }
        // A handshake is rare, and its future large: boxed, so that every request does not carry its size about.
        Box::pin(self.connector.within_limit(self.open(wanted, generation))).await
    }

    /// A kept HTTP/1.1 connection that takes a request now.
    async fn ready(&self, generation: u64) -> Option<Http1> {
        while let Some(mut connection) = self.idle.take(generation) {
            // Its answer was read to the end, so this waits for no more than the task that drives it; unless the upstream answered
            // before it had read a whole request and reads no further: such a connection is let go.
            if let Ok(Ok(())) = timeout(READY_WITHIN, connection.sender.ready()).await {
                return Some(connection);
            }
        }
        None
    }

    /// Opens a connection, or waits for one that can be shared: both together within the connect limit, so that those who wait for
    /// an upstream that is gone do not wait for one another.
    async fn open(&self, wanted: Wanted, generation: u64) -> Result<Connection, Failure> {
        let _opening = if self.expects_http2(wanted) { Some(self.opening.lock().await) } else { None };
        if self.expects_http2(wanted) {
            // Somebody else may have opened one while this waited.
            if let Some(place) = self.shared.take(generation) {
                return Ok(Connection::Http2 { place, reused: true });
            }
        }
        let (io, http2) = self.connector.dial(wanted).await?;
        if wanted == Wanted::Any {
            self.speaks_http2.store(http2, Ordering::Relaxed);
        }
        if http2 {
            let place = self.shared.start(io, generation, &self.terms).await?;
            Ok(Connection::Http2 { place, reused: false })
        } else {
            let connection = Http1::start(io, generation, &self.terms, &self.idle).await?;
            Ok(Connection::Http1 { connection, reused: false })
        }
    }

    fn expects_http2(&self, wanted: Wanted) -> bool {
        wanted == Wanted::Any && self.speaks_http2.load(Ordering::Relaxed)
    }

    async fn exchange(
        &self,
        connection: Connection,
        request: Request<RequestBody>,
        upload: Option<Arc<Progress>>,
    ) -> Result<Answer, Broken> {
        match connection {
            Connection::Http1 { mut connection, .. } => {
                let before = connection.received();
                match connection.sender.try_send_request(request).await {
                    Ok(response) => Ok((response, Lease::http1(connection, Arc::clone(&self.idle), upload))),
                    Err(error) => Err(Broken::new(error, connection.received() > before)),
                }
            }
            Connection::Http2 { mut place, .. } => {
                match place.sender.try_send_request(request).await {
                    Ok(response) => Ok((response, Lease::http2(place))),
                    // An HTTP/2 stream fails alone; only the death of the connection says that nothing came back.
                    Err(error) => {
                        let died = place.sender.is_closed();
                        Err(Broken::new(error, !died))
                    }
                }
            }
        }
    }
}

/// An exchange that ended without the head of an answer.
struct Broken {
    /// The request, if no byte of it was written.
    unsent: Option<Box<Request<RequestBody>>>,
    /// Whether something came back.
    answered: bool,
    cause: String,
}

impl Broken {
    fn new(mut error: TrySendError<Request<RequestBody>>, answered: bool) -> Self {
        let unsent = error.take_message().map(Box::new);
        Self { unsent, answered, cause: with_sources(error.error()) }
    }
}

/// The head again, if it may be sent a second time should a connection that was kept turn out to be dead.
fn spare_head(request: &Request<RequestBody>, connection: &Connection) -> Option<Request<RequestBody>> {
    let (Connection::Http1 { reused, .. } | Connection::Http2 { reused, .. }) = connection;
    let may = *reused && request.body().is_empty() && request.method().is_idempotent();
    may.then(|| {
        let mut spare = Request::new(RequestBody::empty());
        *spare.method_mut() = request.method().clone();
        *spare.uri_mut() = request.uri().clone();
        *spare.headers_mut() = request.headers().clone();
        spare
    })
}

/// HTTP/1.1 has the authority in Host and the target in origin form, also if HTTP/2 was tried before.
fn for_http1(request: &mut Request<RequestBody>) -> Result<(), Failure> {
    *request.version_mut() = Version::HTTP_11;
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::try_from(authority.as_str()).map_err(|error| unsendable(&error))?;
        let target = request.uri().path_and_query().cloned().ok_or_else(|| unsendable(&"it has no path"))?;
        request.headers_mut().insert(header::HOST, host);
        *request.uri_mut() = Uri::from(target);
    }
    // `te` belongs to the connection, and on HTTP/1.1 there is no `connection: te` with it.
    request.headers_mut().remove(header::TE);
    Ok(())
}

/// HTTP/2 has the authority in a pseudo-header of its own (RFC 9113, 8.3.1).
fn for_http2(request: &mut Request<RequestBody>, connector: &Connector) -> Result<(), Failure> {
    *request.version_mut() = Version::HTTP_2;
    let Some(host) = request.headers_mut().remove(header::HOST) else { return Ok(()) };
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.authority = Some(Authority::try_from(host.as_bytes()).map_err(|error| unsendable(&error))?);
    parts.scheme = Some(if connector.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP });
    *request.uri_mut() = Uri::from_parts(parts).map_err(|error| unsendable(&error))?;
    Ok(())
}

/// What was judged must not become another request on its way: what cannot be written is not sent.
fn unsendable(cause: &dyn std::fmt::Display) -> Failure {
    Failure::Target { cause: cause.to_string() }
}
