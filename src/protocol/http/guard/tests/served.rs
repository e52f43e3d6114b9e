//! The guard in front of hyper's server, which is asked what it saw.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::{Framing, Guard, GuardHandle, HeadLimits, HeadRefusal, HeadVerdict};
use super::LIMITS;

/// Long enough for anything that is to come.
const SOON: Duration = Duration::from_secs(10);

/// A request as the service got it.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) verdict: HeadVerdict,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) version: Version,
    pub(super) framing: Framing,
    pub(super) body: Result<Bytes, HeadRefusal>,
}

/// A connection from its first byte to its last.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) seen: Vec<Seen>,
    pub(super) replies: String,
    pub(super) error: Option<hyper::Error>,
    pub(super) handle: GuardHandle,
}

async fn answer(request: Request<Incoming>, handle: GuardHandle, seen: Arc<Mutex<Vec<Seen>>>) -> Response<Full<Bytes>> {
    let verdict = handle.next_head();
    let _exchange = handle.exchange();
    let (head, body) = request.into_parts();
    let framing = match body.size_hint().exact() {
        Some(0) => Framing::Empty,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    };
    let body = body.collect().await.map(|body| body.to_bytes()).map_err(|error| {
        let cut = || HeadRefusal { status: 400, rule: "cut", message: error.to_string() };
        HeadRefusal::find(&error).cloned().unwrap_or_else(cut)
    });
    let refusal = match (&verdict, &body) {
        (HeadVerdict::Refused(refusal), _) | (_, Err(refusal)) => Some(refusal.clone()),
        _ => None,
    };
    let (method, target, version) = (head.method, head.uri.to_string(), head.version);
    seen.lock().unwrap().push(Seen { verdict, method, target, version, framing, body });
    let status = refusal.as_ref().map_or(200, |refusal| refusal.status);
    let mut response = Response::new(Full::from(refusal.map_or("fine", |refusal| refusal.rule)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// Serves one connection whose client sends `pieces`, ends, and reads to the end.
pub(super) async fn serve<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Served {
    let (mut client, transport) = tokio::io::duplex(64 * 1024);
    let (seen, handle, served) = server(transport, LIMITS);
    let talk = async {
        for piece in pieces {
            // The other side may have had enough.
            if client.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let _ = client.shutdown().await;
        let mut replies = Vec::new();
        let _ = client.read_to_end(&mut replies).await;
        String::from_utf8(replies).unwrap()
    };
    let (error, replies) = tokio::join!(served, talk);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    Served { seen, replies, error, handle }
}

type Log = Arc<Mutex<Vec<Seen>>>;

/// A hyper server as the proxy sets it up, but that it reads on after the client's end.
fn server(
    transport: DuplexStream,
    limits: HeadLimits,
) -> (Log, GuardHandle, impl Future<Output = Option<hyper::Error>>) {
    let seen = Log::default();
    let (guard, handle) = Guard::new(transport, limits);
    let (log, teller) = (Arc::clone(&seen), handle.clone());
    let service = service_fn(move |request| {
        let answer = answer(request, teller.clone(), Arc::clone(&log));
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = http1::Builder::new();
    builder.half_close(true).max_headers(LIMITS.header_count + 1);
    let connection = builder.serve_connection(TokioIo::new(guard), service);
    (seen, handle, async move { connection.await.err() })
}

fn statuses(replies: &str) -> Vec<&str> {
    replies.split("HTTP/1.1 ").skip(1).filter_map(|reply| reply.get(..3)).collect()
}

#[tokio::test]
async fn a_refusal_is_answered_in_its_turn_and_ends_the_connection() {
    let good: &[u8] = b"POST /good HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nhi";
    let bad = b"POST /bad HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    let served = serve([good, good, bad, good]).await;
    assert_eq!(statuses(&served.replies), ["200", "200", "400"], "{served:?}");
    assert!(served.replies.ends_with("content-length-with-transfer-encoding"), "{served:?}");
    assert!(served.replies.contains("connection: close"), "{served:?}");
    assert_eq!(served.seen.len(), 3);
    assert_eq!(served.seen[1].target, "/good");
    assert!(served.error.is_none(), "{served:?}");
}

#[tokio::test]
async fn the_service_never_sees_a_byte_of_a_refused_head() {
    let served = serve([b"GET /secret HTTP/1.1\nhost: a\n\n".as_slice()]).await;
    let [seen] = served.seen.as_slice() else { panic!("{served:?}") };
    assert_eq!((seen.target.as_str(), &seen.method), ("/", &Method::GET));
    assert!(matches!(&seen.verdict, HeadVerdict::Refused(refusal) if refusal.rule == "bare-lf"), "{served:?}");
}

#[tokio::test]
async fn a_bad_chunk_fails_the_body_with_its_rule() {
    let served =
        serve([b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n".as_slice()]).await;
    let [seen] = served.seen.as_slice() else { panic!("{served:?}") };
    assert_eq!(seen.body.as_ref().map_err(|refusal| refusal.rule), Err("chunk-data-end"));
    assert_eq!(served.handle.broken().map(|refusal| refusal.rule), Some("chunk-data-end"));
    assert_eq!(statuses(&served.replies), ["400"]);
}

#[tokio::test]
async fn a_head_that_breaks_off_is_refused_and_a_lone_empty_line_is_not() {
    let served = serve([b"GET / HTTP/1.1\r\nhos".as_slice()]).await;
    assert!(served.replies.ends_with("head-incomplete"), "{served:?}");
    let served = serve([b"GET / HTTP/1.1\r\nhost: a\r\n\r\n\r\n".as_slice()]).await;
    assert_eq!(statuses(&served.replies), ["200"], "{served:?}");
    assert!(served.error.is_none(), "{served:?}");
}

#[tokio::test]
async fn hundreds_of_pipelined_requests_stay_in_step() {
    let one = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".as_slice();
    let all = [one.repeat(700).as_slice(), b"GET / HTTP/1.1\r\n\r\n"].concat();
    let served = serve([all.as_slice()]).await;
    assert_eq!(served.seen.len(), 701);
    assert!(served.replies.ends_with("host-missing"));
}

#[tokio::test]
async fn every_attack_reaches_the_service_as_a_refusal() {
    for (name, bytes, rule) in super::attacks::refused_heads() {
        let served = serve([bytes.as_slice()]).await;
        let [seen] = served.seen.as_slice() else { panic!("{name}: {served:?}") };
        assert!(matches!(&seen.verdict, HeadVerdict::Refused(refusal) if refusal.rule == rule), "{name}: {served:?}");
        assert!(served.replies.ends_with(rule), "{name}: {served:?}");
    }
}

#[tokio::test]
async fn hyper_is_ended_by_idleness_only_after_its_answer() {
    let limits = HeadLimits { idle_timeout: Duration::from_millis(30), ..LIMITS };
    let (mut client, transport) = tokio::io::duplex(4_096);
    let (seen, _, served) = server(transport, limits);
    let talk = async {
        // The body comes long after the idle limit: the exchange is not idle.
        client.write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\n").await.unwrap();
        tokio::time::sleep(limits.idle_timeout * 3).await;
        client.write_all(b"x").await.unwrap();
        let mut replies = String::new();
        client.read_to_string(&mut replies).await.unwrap();
        replies
    };
    let (error, replies) = tokio::time::timeout(SOON, async { tokio::join!(served, talk) }).await.expect("an end");
    assert!(error.is_none(), "{error:?}");
    assert_eq!(statuses(&replies), ["200"]);
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn hyper_answers_a_slow_head_with_408_behind_the_answer_before() {
    let limits = HeadLimits { header_read_timeout: Duration::from_millis(30), ..LIMITS };
    let (mut client, transport) = tokio::io::duplex(4_096);
    let (_, _, served) = server(transport, limits);
    let talk = async {
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT").await.unwrap();
        let mut replies = String::new();
        client.read_to_string(&mut replies).await.unwrap();
        replies
    };
    let (error, replies) = tokio::time::timeout(SOON, async { tokio::join!(served, talk) }).await.expect("an end");
    assert!(error.is_none(), "{error:?}");
    assert_eq!(statuses(&replies), ["200", "408"]);
    assert!(replies.ends_with("head-timeout"), "{replies}");
}

#[tokio::test]
async fn hyper_hands_over_exactly_the_bytes_behind_an_accepted_upgrade() {
    let (mut client, transport) = tokio::io::duplex(4_096);
    let (guard, handle) = Guard::new(transport, LIMITS);
    let (upgraded, raw) = tokio::sync::oneshot::channel();
    let upgraded = Arc::new(Mutex::new(Some(upgraded)));
    let service = service_fn(move |mut request: Request<Incoming>| {
        let exchange = handle.exchange();
        assert!(matches!(handle.next_head(), HeadVerdict::Passed(facts) if facts.asks_upgrade));
        let _ = upgraded.lock().unwrap().take().unwrap().send(hyper::upgrade::on(&mut request));
        handle.upgrade_accepted();
        drop(exchange);
        let mut response = Response::new(Full::<Bytes>::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        std::future::ready(Ok::<_, Infallible>(response))
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(guard), service).with_upgrades();
    let early = b"\x81\x05early\r\n\r\n\0";
    let head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(&[head.as_slice(), early].concat()).await.unwrap();
    served.await.unwrap();
    let mut stream = TokioIo::new(raw.await.unwrap().await.unwrap());
    let mut bytes = vec![0; early.len()];
    stream.read_exact(&mut bytes).await.unwrap();
    assert_eq!(bytes, early);
    client.write_all(b"later").await.unwrap();
    drop(client);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"later");
}
