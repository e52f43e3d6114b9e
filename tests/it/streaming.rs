//! Bodies far larger than what a sidecar may hold, both ways, and readers that stop.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::proxy::READS_AND_WRITES;
use crate::support::*;

const MIB: u64 = 1 << 20;
/// Far more than all buffers and windows of the way together.
const LARGE: u64 = 256 * MIB;
/// More than a pair may hold of one body, so that a reader that stops shows.
pub(crate) const MORE_THAN_FITS: u64 = 96 * MIB;
/// What a pair may hold of one body: flow-control windows and socket buffers of three connections, not the body.
const MOST_IN_FLIGHT: u64 = 48 * MIB;
/// What a sidecar's memory may grow by while a large body passes: windows, buffers and what the allocator keeps of them.
const MOST_GROWTH: u64 = 40 * MIB;

#[tokio::test]
async fn large_bodies_pass_both_ways_without_being_held() {
    for by_h2c in [false, true] {
        let (world, upstream) = (World::new(), Generator::start().await);
        let url = if by_h2c { upstream.h2c_url() } else { upstream.url() };
        let pair = world.pair("http", &url, READS_AND_WRITES).await;
        // The first request opens connections and buffers that stay.
        assert_eq!(get(pair.address(), "/source/1").await.status, StatusCode::OK);
        let before = [pair.outbound.resident_bytes(), pair.inbound.resident_bytes()];

        let mut app =
            if by_h2c { Client::plain_http2(pair.address()).await } else { Client::plain(pair.address()).await };
        let answer = app.stream(of(&app, "GET", &format!("/source/{LARGE}"), Pattern::of(0))).await.unwrap();
        if !by_h2c {
            assert_eq!(answer.headers()["content-length"], LARGE.to_string().as_str());
        }
        assert_eq!(checked(answer.into_body()).await, LARGE);
        let answer = app.stream(of(&app, "POST", "/sink", Pattern::of(LARGE))).await.unwrap();
        let answer = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(answer, LARGE.to_string());

        let after = [pair.outbound.resident_bytes(), pair.inbound.resident_bytes()];
        for (before, after) in before.iter().zip(after) {
            assert!(after < before + MOST_GROWTH, "resident memory grew from {before} to {after}");
        }
        let records = pair.inbound.records.requests(3).await;
        assert_eq!((&records[1]["bytes_out"], &records[2]["bytes_in"]), (&LARGE.into(), &LARGE.into()));
        pair.stop().await;
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_sender() {
    for by_h2c in [false, true] {
        let (world, upstream) = (World::new(), Generator::start().await);
        let url = if by_h2c { upstream.h2c_url() } else { upstream.url() };
        let pair = world.pair("http", &url, READS_AND_WRITES).await;
        let mut app =
            if by_h2c { Client::plain_http2(pair.address()).await } else { Client::plain(pair.address()).await };

        // The app stops reading: the upstream stops sending.
        let answer = app.stream(of(&app, "GET", &format!("/source/{MORE_THAN_FITS}"), Pattern::of(0))).await.unwrap();
        let sent = standstill(&upstream.sent).await;
        assert!((1..MOST_IN_FLIGHT).contains(&sent), "the upstream has sent {sent} bytes that nobody read");
        assert!(pair.outbound.resident_bytes() < 128 * MIB && pair.inbound.resident_bytes() < 128 * MIB);
        // It goes on where it stopped, and nothing is lost.
        assert_eq!(checked(answer.into_body()).await, MORE_THAN_FITS);

        // The upstream stops reading: the app stops sending.
        let body = Pattern::of(MORE_THAN_FITS);
        let taken = Arc::clone(&body.given);
        let request = of(&app, "POST", "/stuck", body);
        let exchange = tokio::spawn(async move {
            let answer = app.stream(request).await.unwrap();
            answer.into_body().collect().await.unwrap().to_bytes()
        });
        let given = standstill(&taken).await;
        assert!((1..MOST_IN_FLIGHT).contains(&given), "the app has sent {given} bytes that nobody read");
        upstream.release.send_replace(true);
        assert_eq!(exchange.await.unwrap(), MORE_THAN_FITS.to_string());
        pair.stop().await;
    }
}

#[tokio::test]
async fn bytes_pass_as_they_come_and_not_when_a_body_ends() {
    for by_h2c in [false, true] {
        let (world, upstream) = (World::new(), Recorder::behaving(Behaviour::Echo, None));
        let url = if by_h2c { upstream.h2c_url() } else { upstream.url() };
        let pair = world.pair("http", &url, READS_AND_WRITES).await;
        let mut app =
            if by_h2c { Client::plain_http2(pair.address()).await } else { Client::plain(pair.address()).await };

        let (pieces, body) = tokio::sync::mpsc::unbounded_channel();
        let answer = app.stream(of(&app, "POST", "/echo", Pieces(body))).await.unwrap();
        let mut echoed = answer.into_body();
        for round in 0..20 {
            let piece = Bytes::from(format!("piece {round}"));
            pieces.send(piece.clone()).unwrap();
            // Only when this one is back is the next one sent.
            let mut back = Vec::new();
            while back.len() < piece.len() {
                let frame = within("the piece to come back", echoed.frame()).await.unwrap().unwrap();
                back.extend_from_slice(frame.data_ref().unwrap());
            }
            assert_eq!(back, piece);
        }
        drop(pieces);
        assert_eq!(within("the end", echoed.collect()).await.unwrap().to_bytes(), "");
        pair.stop().await;
    }
}

#[tokio::test]
async fn stopped_readers_do_not_starve_others_on_the_connection_between_the_sidecars() {
    let (world, upstream) = (World::new(), Generator::start().await);
    let pair = world.pair("http", &upstream.url(), READS_AND_WRITES).await;

    // A dozen apps ask for much and read nothing; a dozen send much that the upstream does not read.
    let mut stopped = Vec::new();
    let taken = Arc::<AtomicU64>::default();
    for _ in 0..12 {
        let mut app = Client::plain(pair.address()).await;
        let answer = app.stream(of(&app, "GET", &format!("/source/{MORE_THAN_FITS}"), Pattern::of(0))).await.unwrap();
        let mut sender = Client::plain(pair.address()).await;
        let mut body = Pattern::of(MORE_THAN_FITS);
        body.given = Arc::clone(&taken);
        let request = of(&sender, "POST", "/stuck", body);
        let upload = tokio::spawn(async move { sender.stream(request).await });
        stopped.push((app, answer, upload));
    }
    standstill(&upstream.sent).await;
    standstill(&taken).await;

    let mut app = Client::plain(pair.address()).await;
    for _ in 0..8 {
        let answer = app.stream(of(&app, "GET", &format!("/source/{}", 2 * MIB), Pattern::of(0))).await.unwrap();
        assert_eq!(checked(answer.into_body()).await, 2 * MIB);
        let answer = app.stream(of(&app, "POST", "/sink", Pattern::of(2 * MIB))).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), (2 * MIB).to_string());
    }
    stopped.iter().for_each(|(_, _, upload)| upload.abort());
    drop(stopped);
    // A body that nobody reads hides that its sender is gone: it is in flight until it moves.
    upstream.release.send_replace(true);
    pair.stop().await;
}

#[tokio::test]
async fn an_app_that_leaves_ends_its_exchange() {
    for by_h2c in [false, true] {
        let (world, upstream) = (World::new(), Generator::start().await);
        let url = if by_h2c { upstream.h2c_url() } else { upstream.url() };
        let pair = world.pair("http", &url, READS_AND_WRITES).await;
        let mut app = Client::plain(pair.address()).await;
        let answer = app.stream(of(&app, "GET", &format!("/source/{MORE_THAN_FITS}"), Pattern::of(0))).await.unwrap();
        drop((answer, app));

        let cut = |record: &serde_json::Value| record["kind"] == "request" && record["error"].is_string();
        for sidecar in [&pair.outbound, &pair.inbound] {
            let record = sidecar.records.find("the exchange that was broken off", cut).await;
            assert_eq!((&record["outcome"], &record["status"]), (&"allowed".into(), &200.into()));
            assert!(record["bytes_out"].as_u64().unwrap() < MORE_THAN_FITS, "{record}");
        }
        // The upstream hears of it too, instead of sending for nobody.
        eventually("the upstream to be told", || (upstream.broken.load(Ordering::Relaxed) == 1).then_some(())).await;
        assert_eq!(get(pair.address(), "/source/1").await.status, StatusCode::OK);
        pair.stop().await;
    }
}

/// A request of `client`'s version.
pub(crate) fn of<B>(client: &Client, method: &str, path: &str, body: B) -> Request<BoxBody<Bytes, Infallible>>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
{
    let (host, base) = match client {
        Client::Http1(_) => ("a.example", ""),
        Client::Http2(_) => ("", "http://a.example"),
    };
    request(method, host, &format!("{base}{path}"), &[], "").map(|_| body.boxed())
}

/// The value of a counter once it has not moved for a while.
async fn standstill(counter: &AtomicU64) -> u64 {
    let (mut last, mut since) = (counter.load(Ordering::Relaxed), Instant::now());
    eventually("a standstill", || {
        let now = counter.load(Ordering::Relaxed);
        if now != last || now == 0 {
            (last, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(700)).then_some(now)
    })
    .await
}

/// Reads a body, compares it with the pattern, and says how long it was.
pub(crate) async fn checked(mut body: Incoming) -> u64 {
    let mut at = 0;
    while let Some(frame) = within("the next bytes", body.frame()).await {
        let frame = frame.unwrap_or_else(|error| panic!("the body broke off after {at} bytes: {error:?}"));
        let data = frame.into_data().unwrap_or_default();
        for part in data.chunks(CHUNK) {
            assert!(part == &pattern(at)[..part.len()], "other bytes at {at}");
            at += part.len() as u64;
        }
    }
    at
}

const CHUNK: usize = 64 * 1024;
const PERIOD: usize = 251;

/// `CHUNK` bytes of the pattern from `at` on. Its period is no divisor of any buffer, so that a piece lost or repeated shows.
fn pattern(at: u64) -> &'static [u8] {
    static PATTERN: std::sync::LazyLock<Vec<u8>> =
        std::sync::LazyLock::new(|| (0..=250).cycle().take(CHUNK + PERIOD).collect());
    let start = usize::try_from(at % PERIOD as u64).unwrap_or_default();
    &PATTERN[start..start + CHUNK]
}

/// A body of a known length, made as it is asked for.
#[derive(Debug)]
pub(crate) struct Pattern {
    length: u64,
    at: u64,
    /// Counts the bytes of all bodies that share it.
    given: Arc<AtomicU64>,
    /// Counts bodies that were dropped before their end.
    broken: Arc<AtomicU64>,
}

impl Pattern {
    pub(crate) fn of(length: u64) -> Self {
        Self { length, at: 0, given: Arc::default(), broken: Arc::default() }
    }

    fn left(&self) -> u64 {
        self.length - self.at
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let take = usize::try_from(self.left()).unwrap_or(CHUNK).min(CHUNK);
        if take == 0 {
            return Poll::Ready(None);
        }
        let at = self.at;
        self.at += take as u64;
        self.given.fetch_add(take as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&pattern(at)[..take])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}

impl Drop for Pattern {
    fn drop(&mut self) {
        if self.left() > 0 {
            self.broken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A body whose pieces a test sends one by one.
pub(crate) struct Pieces(pub(crate) tokio::sync::mpsc::UnboundedReceiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// An upstream that makes and checks bodies without keeping them: `/source/N` sends N bytes, `/sink` takes and counts,
/// `/stuck` the same but only once it is released.
#[derive(Debug, Clone)]
pub(crate) struct Generator {
    address: std::net::SocketAddr,
    sent: Arc<AtomicU64>,
    broken: Arc<AtomicU64>,
    asked: Arc<AtomicU64>,
    pub(crate) release: watch::Sender<bool>,
}

impl Generator {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("is bound");
        let (sent, broken, asked) = (Arc::default(), Arc::default(), Arc::default());
        let generator = Self { address, sent, broken, asked, release: watch::Sender::new(false) };
        let shared = generator.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(shared.clone().serve(stream));
            }
        });
        generator
    }

    async fn serve(self, stream: TcpStream) {
        let service = service_fn(move |request| self.clone().answer(request));
        let mut first = [0; 3];
        while matches!(stream.peek(&mut first).await, Ok(1 | 2)) {
            tokio::task::yield_now().await;
        }
        let stream = TokioIo::new(stream);
        // That a connection breaks is what some tests are about.
        let _ = if &first == b"PRI" {
            conn::http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
        } else {
            conn::http1::Builder::new().serve_connection(stream, service).await
        };
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Either<Pattern, Full<Bytes>>>, Infallible> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let path = request.uri().path().to_owned();
        if let Some(length) = path.strip_prefix("/source/").and_then(|length| length.parse().ok()) {
            return Ok(Response::new(Either::Left(Pattern { length, at: 0, given: self.sent, broken: self.broken })));
        }
        if path == "/stuck" {
            let _ = self.release.subscribe().wait_for(|released| *released).await;
        }
        let count = checked(request.into_body()).await;
        Ok(Response::new(Either::Right(count.to_string().into())))
    }

    /// How many requests have reached it.
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn h2c_url(&self) -> String {
        format!("h2c://{}", self.address)
    }
}
