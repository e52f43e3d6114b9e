//! Whatever is said on streams arrives once, in order, and on the stream it was said on.

use std::io;
use std::sync::LazyLock;

use proptest::prelude::*;
use tokio::io::{AsyncRead, split};

use super::*;

/// No stream says the same as another at the same place: each begins elsewhere in this, and its length is a prime.
static TEXT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let bytes = (0..65_521).map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[3]
    });
    bytes.collect()
});

/// What one side of a stream says.
#[derive(Debug, Clone)]
struct Says {
    seed: usize,
    chunks: Vec<usize>,
}

impl Says {
    fn bytes(&self, mut from: usize, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let start = (from + self.seed * 4_099) % TEXT.len();
            let some = (length - bytes.len()).min(TEXT.len() - start);
            bytes.extend_from_slice(&TEXT[start..start + some]);
            from += some;
        }
        bytes
    }

    async fn say(&self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut said = 0;
        for (index, length) in self.chunks.iter().enumerate() {
            stream.write_all(&self.bytes(said, *length)).await?;
            said += length;
            for _ in 0..index % 3 {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Reads all of it, and how the stream ends then.
    async fn hear(&self, stream: &mut (impl AsyncRead + Unpin), buffer: usize) -> io::Result<()> {
        let (mut heard, mut buffer) = (0, vec![0; buffer]);
        let ended = loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break Ok(()),
                Ok(count) => {
                    assert!(buffer[..count] == self.bytes(heard, count), "other bytes, or in another order");
                    heard += count;
                }
                Err(error) => break Err(error),
            }
        };
        assert_eq!(heard, self.chunks.iter().sum::<usize>(), "of the bytes that were said");
        ended
    }
}

/// How one side of a stream ends it.
#[derive(Debug, Clone, Copy)]
enum Ends {
    /// Says what it has, and hears the peer out.
    InOrder,
    /// Says what it has, and drops the stream: its end is not heard.
    Drops,
    /// Says what it has and that this is all, and does not hear what the peer says.
    DropsOnceEnded,
    /// The peer does one of these.
    Is(&'static Ends),
}

async fn side(stream: Stream, says: Says, hears: Says, buffer: usize, ends: Ends) {
    let (mut reader, mut writer) = split(stream);
    let read = hears.hear(&mut reader, buffer);
    let written = async {
        says.say(&mut writer).await?;
        writer.shutdown().await
    };
    match ends {
        Ends::InOrder => {
            let (read, written) = tokio::join!(read, written);
            read.unwrap();
            written.unwrap();
        }
        Ends::Drops => {
            drop((read, written));
            says.say(&mut writer).await.unwrap();
        }
        Ends::DropsOnceEnded => {
            drop(read);
            written.await.unwrap();
        }
        Ends::Is(by_peer) => {
            let (read, written) = tokio::join!(read, written);
            match by_peer {
                Ends::Drops => assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset),
                _ => read.unwrap(),
            }
            if let Err(error) = written {
                assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Script {
    there: Vec<usize>,
    back: Vec<usize>,
    buffers: (usize, usize),
    ends: (Ends, Ends),
}

fn chunks() -> impl Strategy<Value = Vec<usize>> {
    let size =
        prop_oneof![6 => 1_usize..200, 3 => 200_usize..8_000, 2 => 8_000_usize..70_000, 1 => 70_000_usize..300 * 1024];
    prop::collection::vec(size, 0..8)
}

fn script() -> impl Strategy<Value = Script> {
    let buffer = || prop_oneof![1 => 1_usize..64, 4 => 64_usize..20_000, 1 => 20_000_usize..200_000];
    let ends = prop::sample::select(vec![
        (Ends::InOrder, Ends::InOrder),
        (Ends::Drops, Ends::Is(&Ends::Drops)),
        (Ends::Is(&Ends::Drops), Ends::Drops),
        (Ends::DropsOnceEnded, Ends::Is(&Ends::DropsOnceEnded)),
        (Ends::Is(&Ends::DropsOnceEnded), Ends::DropsOnceEnded),
    ]);
    (chunks(), chunks(), (buffer(), buffer()), ends).prop_map(|(there, back, buffers, ends)| Script {
        there,
        back,
        buffers,
        ends,
    })
}

async fn play(size: usize, scripts: Vec<Script>) {
    let mut pair = Pair::over(size);
    let mut sides = Vec::new();
    for (index, Script { there, back, buffers, ends }) in scripts.into_iter().enumerate() {
        let (near, far) = pair.stream().await;
        let there = Says { seed: 2 * index, chunks: there };
        let back = Says { seed: 2 * index + 1, chunks: back };
        sides.push(tokio::spawn(side(near, there.clone(), back.clone(), buffers.0, ends.0)));
        sides.push(tokio::spawn(side(far, back, there, buffers.1, ends.1)));
    }
    for side in sides {
        side.await.unwrap();
    }
    pair.part().await;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_byte_arrives_once_and_in_order_on_its_own_stream(
        size in prop::sample::select(vec![64_usize, 1_024, 20_000, 256 * 1024]),
        scripts in prop::collection::vec(script(), 1..14),
    ) {
        run(play(size, scripts));
    }
}

#[test]
fn bulk_both_ways_at_once_does_not_wait_for_itself() {
    for size in [1_024, 256 * 1024] {
        let bulk = || vec![256 * 1024; 64];
        let script =
            Script { there: bulk(), back: bulk(), buffers: (65_536, 65_536), ends: (Ends::InOrder, Ends::InOrder) };
        run(play(size, vec![script]));
    }
}

#[test]
fn as_many_streams_as_there_may_be_at_once() {
    let script = Script {
        there: vec![10, 5_000, 100, 70_000],
        back: vec![70_000, 3, 4_096],
        buffers: (5_000, 512),
        ends: (Ends::InOrder, Ends::InOrder),
    };
    run(play(4_096, vec![script; MOST_STREAMS]));
}
