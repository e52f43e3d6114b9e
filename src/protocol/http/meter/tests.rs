use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

const CLIENT_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &[0; 4], payload].concat()
}

/// Nobody who wants to hear of broken streams.
#[derive(Debug)]
struct Nobody;

impl StreamErrors for Nobody {
    fn broken_by_peer(&self, _stream: u32, _error: &'static str) {}
}

fn nobody() -> Arc<dyn StreamErrors> {
    Arc::new(Nobody)
}

/// What a metered connection with a limit of 10 says to frames that come in at once.
async fn refusal(frames: &[Vec<u8>]) -> Option<&'static str> {
    let (mut peer, transport) = tokio::io::duplex(1024 * 1024);
    let (meter, handle) = Meter::new(transport, 10, nobody());
    refusal_on(&mut peer, meter, &handle, frames).await
}

async fn refusal_on(
    peer: &mut DuplexStream,
    mut meter: Meter<DuplexStream>,
    handle: &MeterHandle,
    frames: &[Vec<u8>],
) -> Option<&'static str> {
    peer.write_all(&[CLIENT_PREFACE, frames.concat().as_slice()].concat()).await.unwrap();
    peer.shutdown().await.unwrap();
    let read = meter.read_to_end(&mut Vec::new()).await;
    let rule = read.err().map(|error| MeterRefusal::find(&error).expect("a refusal").rule);
    assert_eq!(handle.refusal().map(|refusal| refusal.rule), rule);
    rule
}

#[tokio::test]
async fn a_ping_is_no_activity_and_every_part_of_a_body_is() {
    let (mut peer, transport) = tokio::io::duplex(1024);
    let (mut meter, handle) = Meter::new(transport, 10, nobody());
    let mut pass = async |bytes: &[u8]| {
        let before = handle.activity().moved();
        peer.write_all(bytes).await.unwrap();
        meter.read_exact(&mut vec![0; bytes.len()]).await.unwrap();
        handle.activity().moved() > before
    };
    assert!(!pass(CLIENT_PREFACE).await);
    assert!(!pass(&frame(PING, 0, &[0; 8])).await);
    let data = frame(DATA, 0, &[7; 100]);
    assert!(pass(&data[..20]).await);
    assert!(pass(&data[20..60]).await, "a body that trickles is not idle");
    assert!(pass(&data[60..]).await);
    assert!(!pass(&frame(PING, ACK, &[0; 8])).await);
}

#[tokio::test]
async fn every_kind_of_flood_is_refused_by_its_own_rule_and_a_few_frames_are_not() {
    let floods = [
        (frame(SETTINGS, 0, &[]), "h2-settings-flood"),
        (frame(SETTINGS, ACK, &[]), "h2-settings-flood"),
        (frame(PING, 0, &[0; 8]), "h2-ping-flood"),
        (frame(PING, ACK, &[0; 8]), "h2-ping-flood"),
        (frame(PRIORITY, 0, &[0; 5]), "h2-priority-flood"),
        (frame(WINDOW_UPDATE, 0, &[0; 4]), "h2-window-update-flood"),
        (frame(RST_STREAM, 0, &[0; 4]), "h2-reset-flood"),
        (frame(DATA, 0, &[]), "h2-empty-data-flood"),
        (frame(CONTINUATION, 0, &[]), "h2-continuation-flood"),
        (frame(CONTINUATION, END_HEADERS, &[0; 1_023]), "h2-continuation-flood"),
        (frame(0x10, 0, b"u=1"), "h2-unknown-flood"),
        (frame(0xff, 0xff, &[]), "h2-unknown-flood"),
    ];
    for (frame, rule) in floods {
        assert_eq!(refusal(&vec![frame.clone(); 11]).await, Some(rule));
        assert_eq!(refusal(&vec![frame; 10]).await, None, "{rule}");
    }
}

#[tokio::test]
async fn frames_that_carry_something_are_free() {
    let useful = [
        frame(DATA, 0, b"x"),
        frame(DATA, END_STREAM, &[]),
        frame(HEADERS, END_HEADERS, &[]),
        frame(CONTINUATION, 0, &[0; 1_024]),
        // A payload full of what would be frame headers.
        frame(DATA, 0, &frame(PING, 0, &[0; 8]).repeat(50)),
    ];
    for frame in useful {
        assert_eq!(refusal(&vec![frame.clone(); 100]).await, None, "{frame:?}");
    }
}

#[tokio::test]
async fn window_updates_and_pings_are_explained_by_data_that_was_sent() {
    let answers = vec![frame(WINDOW_UPDATE, 0, &[0; 4]); 20];
    for (sent, rule) in [(10, None), (2, Some("h2-window-update-flood"))] {
        let (mut peer, transport) = tokio::io::duplex(1024 * 1024);
        let (mut meter, handle) = Meter::new(transport, 10, nobody());
        let data = frame(DATA, 0, b"hello").repeat(sent);
        let (first, second) = data.split_at(13);
        meter.write_all(first).await.unwrap();
        let written = meter.write_vectored(&[IoSlice::new(&second[..5]), IoSlice::new(&second[5..])]).await.unwrap();
        assert_eq!(written, second.len());
        assert_eq!(refusal_on(&mut peer, meter, &handle, &answers).await, rule, "{sent}");
    }
}

#[tokio::test]
async fn resets_are_explained_by_nothing() {
    let (mut peer, transport) = tokio::io::duplex(1024 * 1024);
    let (mut meter, handle) = Meter::new(transport, 10, nobody());
    meter.write_all(&frame(DATA, 0, b"hello").repeat(100)).await.unwrap();
    let rapid = [frame(HEADERS, END_HEADERS, b"x"), frame(RST_STREAM, 0, &[0; 4])].concat();
    assert_eq!(refusal_on(&mut peer, meter, &handle, &vec![rapid; 11]).await, Some("h2-reset-flood"));
}

#[test]
fn the_bucket_fills_up_again_at_its_rate_and_holds_a_second() {
    let mut bucket = Bucket::new(10);
    let start = bucket.filled;
    let paid = |bucket: &mut Bucket| {
        std::iter::from_fn(|| bucket.tokens.checked_sub(1).map(|left| bucket.tokens = left)).count()
    };
    assert_eq!(paid(&mut bucket), 10);
    bucket.refill(start + Duration::from_millis(99));
    assert_eq!(paid(&mut bucket), 0);
    bucket.refill(start + Duration::from_millis(501));
    assert_eq!(paid(&mut bucket), 5);
    bucket.refill(start + Duration::from_secs(3_600));
    assert_eq!(paid(&mut bucket), 10);
}

#[test]
fn a_limit_of_zero_and_of_the_largest_number_do_not_wrap() {
    assert!(!Bucket::new(0).take(false));
    let mut bucket = Bucket::new(u32::MAX);
    bucket.credit(u32::MAX);
    bucket.credit(u32::MAX);
    assert!(bucket.take(true));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frame_headers_are_found_however_the_bytes_are_cut(
        frames in prop::collection::vec((0..40_usize, any::<u8>(), any::<u8>()), 0..20),
        sizes in prop::collection::vec(1..30_usize, 1..10),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(|(length, kind, flags)| frame(*kind, *flags, &vec![0xff; *length])).collect();
        let wanted: Vec<FrameHead> = frames
            .iter()
            .map(|(length, kind, flags)| FrameHead {
                length: u32::try_from(*length).unwrap(),
                kind: *kind,
                flags: *flags,
                stream: 0,
                error: match (*kind, *length) {
                    (RST_STREAM, 4..) | (GOAWAY, 8..) => u32::MAX,
                    _ => 0,
                },
            })
            .collect();
        let (mut found, mut scan) = (Vec::new(), Frames::after_preface());
        let mut rest = [CLIENT_PREFACE.as_slice(), &bytes].concat();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let now: Vec<u8> = rest.drain(..rest.len().min(*size)).collect();
            scan.pass(&now, |frame| found.push(frame));
        }
        prop_assert_eq!(found, wanted);
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::new(request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default())))
}

async fn serve(meter: Meter<DuplexStream>) -> Result<(), hyper::Error> {
    let builder = server::Builder::new(TokioExecutor::new());
    builder.serve_connection(TokioIo::new(meter), service_fn(echo)).await
}

#[tokio::test]
async fn honest_traffic_through_hyper_is_never_refused() {
    let (peer, transport) = tokio::io::duplex(256 * 1024);
    let (meter, handle) = Meter::new(transport, 20, nobody());
    let serving = tokio::spawn(serve(meter));
    let (mut sender, connection) = client::handshake(TokioExecutor::new(), TokioIo::new(peer)).await.unwrap();
    let driving = tokio::spawn(connection);
    let large = Bytes::from(vec![7; 4 * 1024 * 1024]);
    for body in std::iter::repeat_n(Bytes::from_static(b"small"), 200).chain(std::iter::repeat_n(large, 4)) {
        let request = Request::post("http://a/").body(Full::new(body.clone())).unwrap();
        let answer = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert!(answer == body);
    }
    assert_eq!(handle.refusal(), None);
    drop(sender);
    driving.await.unwrap().unwrap();
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_ping_flood_ends_a_hyper_connection_with_its_rule() {
    let (mut peer, transport) = tokio::io::duplex(256 * 1024);
    let (meter, handle) = Meter::new(transport, 100, nobody());
    let flood = [CLIENT_PREFACE.as_slice(), &frame(SETTINGS, 0, &[]), &frame(PING, 0, &[0; 8]).repeat(101)].concat();
    peer.write_all(&flood).await.unwrap();
    let error = serve(meter).await.expect_err("a refusal");
    assert!(format!("{error:?}").contains("control frames"), "{error:?}");
    assert_eq!(handle.refusal().map(|refusal| refusal.rule), Some("h2-ping-flood"));
}

#[test]
fn frames_are_found_however_their_bytes_are_split() {
    let frames: [&[u8]; 5] = [
        &[0, 0, 2, DATA, 0, 0, 0, 0, 1, 7, 7],
        &[0, 0, 4, RST_STREAM, 0, 0, 0, 0, 3, 0, 0, 0, 1],
        &[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0],
        &[0, 0, 10, GOAWAY, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 11, 1, 2],
        // Too short for its code: h2 never sends it, and refuses it.
        &[0, 0, 1, RST_STREAM, 0, 0, 0, 0, 5, 9],
    ];
    let bytes = frames.concat();
    let expected = [(DATA, 1, 0), (RST_STREAM, 3, 1), (SETTINGS, 0, 0), (GOAWAY, 0, 11), (RST_STREAM, 5, 0)];
    for size in 1..=bytes.len() {
        let (mut parser, mut seen) = (Frames::default(), Vec::new());
        for part in bytes.chunks(size) {
            parser.pass(part, |frame| seen.push((frame.kind, frame.stream, frame.error)));
        }
        assert_eq!(seen, expected, "split by {size}");
    }
}
