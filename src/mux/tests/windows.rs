//! What a sender may send to a reader that does not read, and to one that does.

use tokio::io::{AsyncRead as _, ReadBuf};

use super::*;

const MOST: usize = 1024 * 1024;

/// Has a stream wait to be read, by nobody who comes.
fn pretend_to_read(stream: &mut Stream) {
    let mut space = [0; 8];
    let mut into = ReadBuf::new(&mut space);
    let polled = Pin::new(stream).poll_read(&mut Context::from_waker(Waker::noop()), &mut into);
    assert!(polled.is_pending());
}

#[test]
fn a_sender_that_is_not_read_is_held_at_the_first_window() {
    for chunk in [1, 1_000, 4_096, 65_536, 300_000] {
        run(async move {
            let mut pair = Pair::over(256 * 1024);
            let (mut near, mut far) = pair.stream().await;
            assert!(is_first(stuff(&mut near, &vec![7; chunk]).await), "in chunks of {chunk}");
            assert!(is_first(stuff(&mut far, &vec![7; chunk]).await), "back, in chunks of {chunk}");
        });
    }
}

#[test]
fn a_reader_that_does_not_read_holds_up_nobody_else() {
    for (size, chunk) in [(1_024, 100), (1_024, 65_536), (256 * 1024, 100), (256 * 1024, 65_536)] {
        run(async move {
            let mut pair = Pair::over(size);
            let (mut stuck, mut unread) = pair.stream().await;
            pretend_to_read(&mut unread);
            let taken = stuff(&mut stuck, &vec![7; chunk]).await;
            assert!(is_first(taken), "{taken}");
            let (mut near, mut far) = pair.stream().await;
            let written = tokio::spawn(async move {
                near.write_all(&vec![8; 4 * MOST]).await.unwrap();
                near.shutdown().await.unwrap();
                near
            });
            let mut heard = Vec::new();
            far.read_to_end(&mut heard).await.unwrap();
            assert!(heard.len() == 4 * MOST && heard.iter().all(|byte| *byte == 8));
            drop((written.await.unwrap(), far));
            // And nothing of its own was lost by that.
            stuck.shutdown().await.unwrap();
            heard.clear();
            unread.read_to_end(&mut heard).await.unwrap();
            assert!(heard.len() == taken && heard.iter().all(|byte| *byte == 7));
            drop((stuck, unread));
            pair.part().await;
        });
    }
}

#[test]
fn the_window_grows_for_a_reader_that_keeps_up_and_has_an_end() {
    run(async {
        let mut pair = Pair::over(256 * 1024);
        let (mut near, mut far) = pair.stream().await;
        let (mut read, mut sent, mut most) = (0, 0, 0);
        let mut space = vec![0; 32 * 1024];
        while read < 24 * MOST {
            sent += stuff_once(&mut near, &[7; 65_536]).await;
            most = most.max(sent - read);
            // Whoever reads a bit less at a time than what comes is soon behind, and kept supplied.
            if sent - read > most / 2 || sent < 8 * MOST {
                read += far.read(&mut space).await.unwrap();
            }
        }
        sent += stuff(&mut near, &[7; 65_536]).await;
        let unread = sent - read;
        assert!(unread <= MOST && most <= MOST, "{unread} bytes are held, at most {most} were");
        assert!(unread > MOST / 2, "only {unread} bytes may be on their way");
    });
}

/// Whether it is what a stream takes at first: a sliver of credit that is left is not spent.
fn is_first(taken: usize) -> bool {
    (FIRST - 16 * 1024..=FIRST).contains(&taken)
}

/// Writes what is taken at once.
async fn stuff_once(stream: &mut Stream, bytes: &[u8]) -> usize {
    let polled = Pin::new(stream).poll_write(&mut Context::from_waker(Waker::noop()), bytes);
    yield_now().await;
    if let Poll::Ready(count) = polled { count.unwrap() } else { 0 }
}

#[test]
fn a_reader_that_reads_little_at_a_time_is_not_told_of_each() {
    run(async {
        let (near, mut peer) = pipe(1024 * 1024);
        let (_driven, mut opened, _) = drive_server(Connection::server(near));
        peer.write_all(&frame(OPEN, 1, 0)).await.unwrap();
        peer.write_all(&data(1, &[7; FIRST])).await.unwrap();
        let mut stream = opened.recv().await.unwrap();
        let mut space = [0; 16];
        for _ in 0..FIRST / 16 {
            stream.read_exact(&mut space).await.unwrap();
        }
        let (kind, id, amount, _) = said(&mut peer).await;
        assert_eq!((kind, id), (CREDIT, 1));
        assert!(amount as usize >= FIRST / 2, "{amount}");
        settle().await;
        let mut rest = vec![0; 1_024];
        let waiting = stuffless(&mut peer, &mut rest);
        assert!(waiting <= 8, "{waiting} bytes more were said of 64 KiB that were read");
    });
}

/// Reads what there is without waiting.
fn stuffless(peer: &mut BufReader<DuplexStream>, space: &mut [u8]) -> usize {
    let mut into = ReadBuf::new(space);
    let _polled = Pin::new(peer).poll_read(&mut Context::from_waker(Waker::noop()), &mut into);
    into.filled().len()
}

#[test]
fn writers_of_bulk_take_turns() {
    run(async {
        let mut pair = Pair::over(1_024);
        let mut heard = Vec::new();
        for _ in 0..4 {
            let (mut near, mut far) = pair.stream().await;
            tokio::spawn(async move { while near.write_all(&[7; 65_536]).await.is_ok() {} });
            let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            heard.push(Arc::clone(&count));
            tokio::spawn(async move {
                let mut space = vec![0; 65_536];
                while let Ok(some) = far.read(&mut space).await {
                    count.fetch_add(some, std::sync::atomic::Ordering::Relaxed);
                }
            });
        }
        let counts = || heard.iter().map(|count| count.load(std::sync::atomic::Ordering::Relaxed)).collect::<Vec<_>>();
        while counts().iter().sum::<usize>() < 16 * MOST {
            yield_now().await;
        }
        assert!(counts().iter().all(|count| *count > 2 * MOST), "of 16 MiB: {:?}", counts());
    });
}

#[test]
fn what_all_streams_may_have_on_their_way_has_an_end() {
    run(async {
        let mut pair = Pair::over(256 * 1024);
        let mut held = Vec::new();
        let mut unread = 0;
        for _ in 0..8 {
            let (mut near, mut far) = pair.stream().await;
            // Read as fast as it comes, it may have more on its way than it began with.
            let (written, read) = tokio::join!(
                async {
                    near.write_all(&vec![7; 8 * MOST]).await.unwrap();
                    near
                },
                async {
                    far.read_exact(&mut vec![0; 8 * MOST]).await.unwrap();
                    far
                }
            );
            (near, far) = (written, read);
            // And then it is not read any more.
            unread += stuff(&mut near, &[7; 65_536]).await;
            held.push((near, far));
        }
        assert!(unread > 2 * MOST, "only {unread}");
        assert!(unread <= 4 * MOST + 8 * FIRST, "{unread}");
        // Who goes gives back by what it had grown.
        held.clear();
        let (mut near, mut far) = pair.stream().await;
        let (written, ()) = tokio::join!(
            async {
                near.write_all(&vec![7; 8 * MOST]).await.unwrap();
                near
            },
            async {
                far.read_exact(&mut vec![0; 8 * MOST]).await.unwrap();
            }
        );
        near = written;
        assert!(stuff(&mut near, &[7; 65_536]).await > MOST / 2);
        drop((near, far));
        pair.part().await;
    });
}
