//! HTTP/2 floods: each ends its connection, and the others on the same sidecar hardly feel it.

use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::http_attacks::{Stage, local, slowest_of_others};
use crate::http2_attacks::{AUTHORITY, SCHEME, get, with};
use crate::support::*;

/// What a flood may cost in resident memory (the reliability targets' own number).
const MOST_GROWTH: u64 = 64 * 1024 * 1024;

/// What floods a connection: the frames of one round, and the rules by which it may end.
struct Flood {
    name: &'static str,
    round: fn(u32) -> Vec<Frame>,
    rules: &'static [&'static str],
}

/// A stream of its own for each call.
fn stream(round: u32, within: u32, each: u32) -> u32 {
    (round * each + within) * 2 + 1
}

fn repeated(frame: &Frame) -> Vec<Frame> {
    vec![frame.clone(); 100]
}

const FLOODS: [Flood; 13] = [
    Flood {
        name: "rapid reset (CVE-2023-44487)",
        round: |round| {
            let streams = (0..50).map(|at| stream(round, at, 50));
            streams.flat_map(|id| [Frame::head(id, &get("/flood")), Frame::reset(id, 8)]).collect()
        },
        rules: &["h2-reset-flood", "h2-flood"],
    },
    Flood {
        name: "MadeYouReset (CVE-2025-8671)",
        round: |round| {
            let streams = (0..50).map(|at| stream(round, at, 50));
            streams.flat_map(|id| [Frame::head(id, &get("/flood")), Frame::window_update(id, 0)]).collect()
        },
        rules: &["h2-window-update-flood", "h2-flood", "h2-protocol"],
    },
    Flood {
        name: "MadeYouReset by a window that overflows",
        round: |round| {
            let streams = (0..50).map(|at| stream(round, at, 50));
            streams.flat_map(|id| [Frame::head(id, &get("/flood")), Frame::window_update(id, 0x7fff_ffff)]).collect()
        },
        rules: &["h2-window-update-flood", "h2-flood", "h2-protocol"],
    },
    Flood {
        name: "malformed heads",
        round: |round| (0..50).map(|at| Frame::head(stream(round, at, 50), &with(&[("connection", "x")]))).collect(),
        rules: &["h2-flood"],
    },
    Flood {
        name: "CONTINUATION (VU#421644)",
        round: |round| {
            let open = Frame::new(FrameKind::Headers, 0, stream(round, 0, 1), field_block_of(&[("x", "y")]));
            let more = Frame::new(FrameKind::Continuation, 0, stream(round, 0, 1), field_block_of(&[("x", "y")]));
            if round == 0 { [vec![open], repeated(&more)].concat() } else { repeated(&Frame { stream: 1, ..more }) }
        },
        rules: &["h2-continuation-flood", "h2-flood", "h2-protocol"],
    },
    Flood {
        name: "empty CONTINUATION",
        round: |round| {
            let open = Frame::new(FrameKind::Headers, 0, 1, field_block_of(&[("x", "y")]));
            let more = repeated(&Frame::new(FrameKind::Continuation, 0, 1, []));
            if round == 0 { [vec![open], more].concat() } else { more }
        },
        rules: &["h2-continuation-flood", "h2-flood", "h2-protocol"],
    },
    Flood {
        name: "SETTINGS (CVE-2019-9515)",
        round: |_| repeated(&Frame::settings(&[(4, 65_535)])),
        rules: &["h2-settings-flood"],
    },
    Flood { name: "PING (CVE-2019-9512)", round: |_| repeated(&Frame::ping()), rules: &["h2-ping-flood"] },
    Flood { name: "PRIORITY (CVE-2019-9513)", round: |_| repeated(&Frame::priority(1)), rules: &["h2-priority-flood"] },
    Flood {
        name: "WINDOW_UPDATE",
        round: |_| repeated(&Frame::window_update(0, 1)),
        rules: &["h2-window-update-flood"],
    },
    Flood {
        name: "frames of an unknown type",
        round: |_| repeated(&Frame::new(FrameKind::Other(0x42), 0, 0, [])),
        rules: &["h2-unknown-flood"],
    },
    Flood {
        name: "empty DATA (CVE-2019-9518)",
        round: |round| {
            let data = repeated(&Frame::data(1, b"", false));
            if round == 0 {
                [vec![Frame::open_head(1, &[(":method", "POST"), SCHEME, AUTHORITY, (":path", "/flood")])], data]
                    .concat()
            } else {
                data
            }
        },
        rules: &["h2-empty-data-flood", "h2-flood"],
    },
    Flood {
        name: "SETTINGS acknowledgements that nobody asked for",
        round: |_| repeated(&Frame::new(FrameKind::Settings, flags::ACK, 0, [])),
        rules: &["h2-settings-flood", "h2-protocol"],
    },
];

fn field_block_of(fields: &[(&str, &str)]) -> Vec<u8> {
    Frame::head(1, fields).payload
}

/// Writes rounds until the other side ends the connection. What it says is read meanwhile, as a clever attacker would.
async fn flood(connection: TlsStream<TcpStream>, round: fn(u32) -> Vec<Frame>) {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let ended = tokio::spawn(async move {
        let mut buffer = vec![0; 64 * 1024];
        while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
    });
    let preface = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &Frame::settings(&[]).encode()].concat();
    let mut alive = writer.write_all(&preface).await.is_ok();
    for number in 0..u32::MAX {
        if !alive || ended.is_finished() {
            break;
        }
        let bytes: Vec<u8> = round(number).iter().flat_map(Frame::encode).collect();
        alive = writer.write_all(&bytes).await.is_ok();
    }
    ended.await.expect("reads until the end");
}

#[tokio::test]
async fn every_flood_ends_its_connection_and_is_hardly_felt_by_others() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    slowest_of_others(&stage, 20).await;
    for Flood { name, round, rules } in FLOODS {
        let before = stage.service.resident_bytes();
        // A port that an earlier connection had may be given out again.
        let earlier = stage.service.records.all().len();
        let connection = stage.tls("h2").await;
        let address = local(&connection);
        let started = Instant::now();
        let flooding = tokio::spawn(flood(connection, round));
        let mut slowest = Duration::ZERO;
        let mut grown = 0;
        while !flooding.is_finished() {
            assert!(started.elapsed() < DEADLINE, "{name}: the connection goes on");
            slowest = slowest.max(slowest_of_others(&stage, 5).await);
            grown = grown.max(stage.service.resident_bytes().saturating_sub(before));
        }
        flooding.await.expect("the flood does not panic");
        slowest = slowest.max(slowest_of_others(&stage, 20).await);
        assert!(slowest < Duration::from_secs(1), "{name}: others waited {slowest:?}");
        assert!(grown <= MOST_GROWTH, "{name}: {grown} bytes more");
        let end = |record: &Value| {
            record["peer_address"] == address.as_str()
                && record["kind"] == "connection"
                && record["reason"] != "h2-malformed"
        };
        let record =
            eventually(name, || stage.service.records.all().into_iter().skip(earlier).find(|record| end(record))).await;
        assert!(rules.iter().any(|rule| record["reason"] == *rule), "{name}: {record:#}");
    }
    stage.service.stop().await;
}

#[tokio::test]
async fn answers_that_nobody_takes_and_bodies_that_nobody_reads_are_hardly_held() {
    const STREAMS: u32 = 100;
    const CONNECTIONS: usize = 4;
    let large = bytes::Bytes::from(vec![b'x'; 4 * 1024 * 1024]);
    let upstream = Recorder::answering(move |_| Reply { body: large.clone(), ..Reply::default() });
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    slowest_of_small(&stage).await;
    let before = stage.service.resident_bytes();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        // CVE-2019-9517: windows of one byte, and many large answers asked for.
        let mut frames = FrameConnection::open(stage.tls("h2").await).await;
        frames.send(&Frame::settings(&[(4, 1)])).await;
        for id in (0..STREAMS).map(|at| at * 2 + 1) {
            frames.send(&Frame::head(id, &get("/large"))).await;
        }
        held.push(frames);
    }
    upstream.complete(STREAMS as usize * CONNECTIONS).await;
    let grown = stage.service.resident_bytes().saturating_sub(before);
    eprintln!("answers: {grown}");
    assert!(grown <= MOST_GROWTH, "{grown} bytes more for answers");
    drop(held);
    stage.service.kill().await;

    let upstream = Recorder::behaving(Behaviour::Stall, None);
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    let before = stage.service.resident_bytes();
    let mut held = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut frames = FrameConnection::open(stage.tls("h2").await).await;
        frames.next_of(FrameKind::WindowUpdate).await.expect("the connection's window is opened");
        frames.send(&Frame::new(FrameKind::Settings, flags::ACK, 0, [])).await;
        // As much as the connection's window takes, spread over streams.
        for id in (0..STREAMS).map(|at| at * 2 + 1) {
            frames.send(&Frame::open_head(id, &[(":method", "POST"), SCHEME, AUTHORITY, (":path", "/stalled")])).await;
            for _ in 0..2 {
                assert!(frames.send(&Frame::data(id, &[b'x'; 16_000], false)).await, "the connection is open");
            }
        }
        held.push(frames);
    }
    upstream.when("every upload", |seen| seen.len() == STREAMS as usize * CONNECTIONS).await;
    let grown = stage.service.resident_bytes().saturating_sub(before);
    eprintln!("uploads: {grown}");
    assert!(grown <= MOST_GROWTH, "{grown} bytes more for bodies");
    drop(held);
    stage.service.kill().await;
}

/// Warms the sidecar up, so that what it needs once is not counted.
async fn slowest_of_small(stage: &Stage) {
    let mut raw = stage.raw().await;
    for _ in 0..4 {
        raw.write("GET /small HTTP/1.1\r\nhost: api\r\n\r\n").await;
        assert_eq!(raw.answer().await.expect("an answer").status(), 200);
    }
}
