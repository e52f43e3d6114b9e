//! One downstream connection from its first request to its end.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep, sleep_until};

use super::coalesce::Coalesce;
use super::guard::{Guard, HeadLimits, HeadRefusal, Rewound, Version, sniff};
use super::meter::{Meter, MeterRefusal, StreamErrors};
use super::request::answer;
use super::service::{HttpConnection, HttpListener, Relay};
use crate::config::Limits;
use crate::enforce::Asker;
use crate::failure::with_sources;
use crate::identity::SpiffeId;
use crate::protocol::{Activity, Closed, Downstream, Last, Notice};
use crate::relay::Woken;

/// Flow-control window of a stream: what one slow upstream can make us hold. The connection's is all of them together: were it
/// less, a few requests that stand still would stop every other one that shares the connection.
const STREAM_WINDOW: u32 = 256 * 1024;
/// RFC 9113, 6.9.1: the largest flow-control window.
const LARGEST_WINDOW: u32 = (1 << 31) - 1;
/// A peer that vanished without closing is found out after interval + timeout.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams that the peer has reset and we have not yet taken note of (CVE-2023-44487): h2's own default, set so that it stays.
const PENDING_RESETS: usize = 20;
/// Streams that we had to reset because of the peer (CVE-2025-8671).
const LOCAL_RESETS: usize = 1024;
/// What is held of an answer whose stream may not send: enough for four full frames.
const SEND_BUFFER: usize = 64 * 1024;

/// How long an idle HTTP/2 peer may take to go when it is told to.
const GOING: Duration = Duration::from_secs(1);

/// How many header fields hyper parses without allocating; with a limit of its own it allocates for every request.
const HEADERS_ON_STACK: usize = 100;

/// Serves a connection until it ends.
///
/// `ending` is ready when the connection is to be ended: it finishes what is in flight, takes nothing new, and is cut after its grace.
pub async fn serve(
    stream: Downstream,
    listener: Arc<HttpListener>,
    asker: Arc<Asker>,
    own: &SpiffeId,
    ending: impl Future<Output = Notice>,
) -> Closed {
    let mut ending = pin!(ending);
    let limits = listener.limits.clone();
    let pace = Pace { activity: stream.activity(), idle: limits.idle_timeout };
    let agreed = stream.alpn() == Some(b"h2");
    let first = tokio::select! {
        first = tokio::time::timeout(limits.header_read_timeout, version(stream)) => first,
        _ = ending.as_mut() => return Closed::InOrder,
    };
    let (version, stream) = match first {
        Ok(Ok(first)) => first,
        Ok(Err(error)) => return Closed::Failed { cause: error.to_string() },
        Err(_elapsed) => return Closed::Idle,
    };
    match version {
        Version::H1 if agreed && stream.begun() => Closed::Refused {
            rule: "h2-preface",
            message: "the connection does not begin as HTTP/2, which was agreed on by ALPN".into(),
        },
        Version::H1 if agreed => Closed::InOrder,
        Version::H1 => serve_http1(stream, listener, asker, own, (ending, pace)).await,
        Version::H2 => serve_http2(stream, listener, asker, own, (ending, pace)).await,
    }
}

/// TLS peers said by ALPN what they speak; others show it by their first bytes. Who has agreed on HTTP/2 has to begin with
/// its preface at once, and h2 would end the connection without a word if something else came.
async fn version(stream: Downstream) -> std::io::Result<(Version, Rewound<Downstream>)> {
    match stream.alpn() {
        Some(b"h2") | None => sniff(stream).await,
        Some(_) => Ok((Version::H1, Rewound::from(stream))),
    }
}

async fn serve_http1(
    stream: Rewound<Downstream>,
    listener: Arc<HttpListener>,
    asker: Arc<Asker>,
    own: &SpiffeId,
    (mut ending, pace): (Pin<&mut impl Future<Output = Notice>>, Pace),
) -> Closed {
    let limits = listener.limits.clone();
    // It bounds what hyper asks for at once, and with it what the guard can be made to hold behind an upgrade.
    let buffer = (64 * 1024).max(limits.header_bytes + 1024);
    let (guarded, guard) = Guard::new(stream, head_limits(&limits));
    let connection = Arc::new(HttpConnection::new(listener, asker, Some(guard), own));
    let service = {
        let connection = Arc::clone(&connection);
        service_fn(move |request: Request<Incoming>| answer(Arc::clone(&connection), request))
    };
    let mut builder = http1::Builder::new();
    // The guard stands before hyper and has its own, tighter limits.
    builder.header_read_timeout(None).max_buf_size(buffer);
    if limits.header_count > HEADERS_ON_STACK {
        builder.max_headers(limits.header_count);
    }
    let served = builder.serve_connection(TokioIo::new(guarded), service).with_upgrades();
    let mut told = None;
    let closed = drive(pin!(served), &connection, (ending.as_mut(), &mut told), &pace).await;
    match (closed, connection.take_upgraded()) {
        (Closed::InOrder, Some(relay)) => raw(relay, &connection, ending, told).await,
        (closed, _) => closed,
    }
}

/// What a connection does after an upgrade; like a request in flight it has its time to finish when the connection is to end.
async fn raw(
    relay: Relay,
    connection: &HttpConnection,
    ending: Pin<&mut impl Future<Output = Notice>>,
    told: Option<Notice>,
) -> Closed {
    let cut = pin!(async {
        // It may have come while the upgrade was still being asked for.
        let notice = match told {
            Some(notice) => notice,
            None => ending.await,
        };
        sleep(notice.grace).await;
        notice.reason
    });
    let mut cut = Woken::new(cut);
    // Dropped before the function ends, with the reason known by then.
    let mut relay = relay;
    tokio::select! {
        biased;
        () = relay.as_mut() => Closed::InOrder,
        reason = &mut cut => {
            connection.cut_for(reason);
            Closed::Cut
        }
    }
}

async fn serve_http2(
    stream: Rewound<Downstream>,
    listener: Arc<HttpListener>,
    asker: Arc<Asker>,
    own: &SpiffeId,
    (ending, pace): (Pin<&mut impl Future<Output = Notice>>, Pace),
) -> Closed {
    let limits = listener.limits.clone();
    let window = limits.concurrent_streams.saturating_mul(STREAM_WINDOW).min(LARGEST_WINDOW);
    let connection = Arc::new(HttpConnection::new(listener, asker, None, own));
    let streams: Arc<dyn StreamErrors> = Arc::<HttpConnection>::clone(&connection);
    let (metered, meter) = Meter::new(Coalesce::new(stream), limits.control_frames_per_second, streams);
    let service = {
        let connection = Arc::clone(&connection);
        // Boxed, since hyper and tokio move a stream's future several times before they first poll it.
        service_fn(move |request: Request<Incoming>| Box::pin(answer(Arc::clone(&connection), request)))
    };
    let served = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.concurrent_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(LOCAL_RESETS)
        .max_send_buf_size(SEND_BUFFER)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(metered), service);
    let pace = Pace { activity: meter.activity(), ..pace };
    let closed = drive(pin!(served), &connection, (ending, &mut None), &pace).await;
    match (&closed, meter.refusal(), meter.went_away()) {
        (Closed::Failed { .. } | Closed::InOrder, Some(flood), _) => {
            Closed::Refused { rule: flood.rule, message: flood.to_string() }
        }
        (Closed::Failed { .. } | Closed::InOrder, None, Some(error)) => Closed::Refused {
            rule: if error == "ENHANCE_YOUR_CALM" { "h2-flood" } else { "h2-protocol" },
            message: format!("the connection was ended with {error}"),
        },
        _ => closed,
    }
}

/// How long a connection may stand still.
struct Pace {
    activity: Activity,
    idle: Duration,
}

/// A hyper connection of either version.
trait Served: Future<Output = hyper::Result<()>> {
    /// Takes no new request and ends after those in flight.
    fn end(self: Pin<&mut Self>);
}

impl<I, S> Served for http1::UpgradeableConnection<I, S>
where
    Self: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: http_body::Body + 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S> Served for http2::Connection<I, S, TokioExecutor>
where
    Self: Future<Output = hyper::Result<()>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    S: hyper::service::HttpService<Incoming>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    S::ResBody: http_body::Body + 'static,
    <S::ResBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    TokioExecutor: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive<C: Served>(
    mut served: Pin<&mut C>,
    connection: &HttpConnection,
    (mut ending, told): (Pin<&mut impl Future<Output = Notice>>, &mut Option<Notice>),
    pace: &Pace,
) -> Closed {
    let mut stillness = Stillness::new(pace);
    let mut cut: Option<Pin<Box<Sleep>>> = None;
    let mut over: Option<Pin<Box<Sleep>>> = None;
    let mut idle = false;
    loop {
        tokio::select! {
            biased;
            result = served.as_mut() => return match result {
                Ok(()) if idle => Closed::Idle,
                Ok(()) => Closed::InOrder,
                Err(error) => closed_by(&error),
            },
            notice = ending.as_mut(), if cut.is_none() => {
                if notice.last == Last::InFlight {
                    connection.take_nothing_new();
                }
                served.as_mut().end();
                cut = Some(Box::pin(sleep(notice.grace)));
                over = notice.over_in.map(|left| Box::pin(sleep(left)));
                *told = Some(notice);
            }
            // Whoever does not answer the GOAWAY could go on asking for as long as the grace is.
            () = due(&mut over) => {
                over = None;
                connection.take_nothing_new();
            }
            () = due(&mut cut) => {
                if let Some(notice) = told {
                    connection.cut_for(notice.reason);
                }
                return if idle { Closed::Idle } else { Closed::Cut };
            }
            () = stillness.timer.as_mut() => {
                if stillness.stood_still(pace) && !connection.waits_for_upstream() && cut.is_none() {
                    // An idle HTTP/2 peer gets its GOAWAY; one that does not even take that is cut soon after.
                    idle = true;
                    served.as_mut().end();
                    cut = Some(Box::pin(sleep(GOING)));
                }
            }
        }
    }
}

/// Ready when the timer goes off; never without one.
async fn due(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(timer) => timer.as_mut().await,
        None => std::future::pending().await,
    }
}

/// Finds a connection on which nothing moves: looks twice per idle limit, so one is found at most half a limit late.
struct Stillness {
    timer: Pin<Box<Sleep>>,
    moved: u64,
    since: Instant,
}

impl Stillness {
    fn new(pace: &Pace) -> Self {
        Self { timer: Box::pin(sleep(pace.idle / 2)), moved: 0, since: Instant::now() }
    }

    fn stood_still(&mut self, pace: &Pace) -> bool {
        let now = Instant::now();
        self.timer = Box::pin(sleep_until(now + pace.idle / 2));
        let moved = pace.activity.moved();
        if moved != self.moved {
            self.moved = moved;
            self.since = now;
        }
        now.duration_since(self.since) >= pace.idle
    }
}

fn head_limits(limits: &Limits) -> HeadLimits {
    HeadLimits {
        header_bytes: limits.header_bytes,
        header_count: limits.header_count,
        uri_bytes: limits.uri_bytes,
        header_read_timeout: limits.header_read_timeout,
        idle_timeout: limits.idle_timeout,
    }
}

/// Whose fault it was: our guards leave their rule in the error's chain, what hyper refuses itself is a breach of the protocol.
fn closed_by(error: &hyper::Error) -> Closed {
    if let Some(refusal) = HeadRefusal::find(error) {
        return Closed::Refused { rule: refusal.rule, message: refusal.message.clone() };
    }
    if let Some(refusal) = MeterRefusal::find(error) {
        return Closed::Refused { rule: refusal.rule, message: refusal.to_string() };
    }
    let text = with_sources(error);
    if error.is_parse() {
        Closed::Refused { rule: "http-syntax", message: text }
    } else {
        Closed::Failed { cause: text }
    }
}
