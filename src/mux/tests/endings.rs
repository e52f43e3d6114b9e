//! A connection that is lost: who uses its streams is told, and keeps what had come.

use std::io;
use std::sync::Mutex;

use tokio::io::{AsyncRead, ReadBuf};

use super::*;

/// A transport that shows what it was given, fails when it is told to, and takes all that is written, none of it or an error.
#[derive(Debug, Clone, Default)]
struct Wire(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    shown: Vec<u8>,
    is_lost: bool,
    takes: Takes,
    /// What it has taken is not on its way yet.
    keeps: bool,
    waker: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy)]
enum Takes {
    #[default]
    All,
    None,
    Fails,
}

impl Wire {
    fn show(&self, bytes: &[u8]) {
        self.change(|state| state.shown.extend_from_slice(bytes));
    }

    fn change(&self, act: impl FnOnce(&mut State)) {
        let mut state = self.0.lock().unwrap();
        act(&mut state);
        state.waker.take().into_iter().for_each(Waker::wake);
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        unreachable!("it is read by its buffer")
    }
}

impl AsyncBufRead for Wire {
    fn poll_fill_buf(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let this = self.get_mut();
        let mut state = this.0.lock().unwrap();
        if state.shown.is_empty() {
            if state.is_lost {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        // Small, and leaked: this is a test.
        Poll::Ready(Ok(Vec::leak(state.shown.clone())))
    }

    fn consume(self: Pin<&mut Self>, count: usize) {
        self.0.lock().unwrap().shown.drain(..count);
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.0.lock().unwrap();
        match state.takes {
            Takes::All => Poll::Ready(Ok(bytes.len())),
            Takes::None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Takes::Fails => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.lock().unwrap();
        if state.keeps {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn a_connection_that_ends_within_a_frame_is_lost_and_not_refused() {
    for bytes in [frame(OPEN, 1, 0), data(1, b"1234567")[..12].to_vec(), frame(END, 1, 0)[..3].to_vec(), vec![]] {
        run(async move {
            let (near, mut peer) = pipe(1_024);
            let (driven, mut opened, _) = drive_server(Connection::server(near));
            peer.write_all(&frame(OPEN, 1, 0)).await.unwrap();
            let mut stream = opened.recv().await.unwrap();
            // The second stream is no violation.
            let bytes = if bytes.first() == Some(&OPEN) { frame(OPEN, 2, 0) } else { bytes };
            peer.write_all(&bytes).await.unwrap();
            settle().await;
            drop(peer);
            assert_eq!(driven.await.unwrap(), None);
            let mut heard = Vec::new();
            let error = stream.read_to_end(&mut heard).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
            assert_eq!(heard, if bytes.len() == 12 { &b"1234"[..] } else { b"" });
            assert!(stream.write_all(b"x").await.is_err());
        });
    }
}

#[test]
fn a_transport_that_fails_is_told_to_all_who_wait() {
    run(async {
        let wire = Wire::default();
        let (driven, mut opened, _) = drive_server(Connection::server(wire.clone()));
        wire.show(
            &[frame(OPEN, 1, 0), data(1, b"kept"), frame(OPEN, 2, 0), frame(OPEN, 3, 0), frame(END, 3, 0)].concat(),
        );
        let (mut first, mut second, mut third) =
            (opened.recv().await.unwrap(), opened.recv().await.unwrap(), opened.recv().await.unwrap());
        let waits = tokio::spawn(async move { second.read(&mut [0; 8]).await.unwrap_err().kind() });
        let writes = tokio::spawn(async move {
            assert_eq!(third.write_all(&[7; 4 * FIRST]).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
            third
        });
        settle().await;
        wire.change(|state| state.is_lost = true);
        assert_eq!(driven.await.unwrap(), None);
        assert_eq!(waits.await.unwrap(), io::ErrorKind::ConnectionReset);
        assert_eq!(writes.await.unwrap().read(&mut [0; 8]).await.unwrap(), 0, "that it had ended is known");
        let mut heard = Vec::new();
        let error = first.read_to_end(&mut heard).await.unwrap_err();
        assert_eq!((heard, error.kind()), (b"kept".to_vec(), io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_transport_that_takes_nothing_more_ends_the_connection_whoever_finds_out() {
    for length in [10, 10_000] {
        run(async move {
            let wire = Wire::default();
            let (driven, mut opened, _) = drive_server(Connection::server(wire.clone()));
            wire.show(&[frame(OPEN, 1, 0), frame(OPEN, 2, 0)].concat());
            let (mut first, mut second) = (opened.recv().await.unwrap(), opened.recv().await.unwrap());
            let waits = tokio::spawn(async move { (second.read(&mut [0; 8]).await.unwrap_err().kind(), second) });
            settle().await;
            wire.change(|state| state.takes = Takes::Fails);
            while first.write_all(&vec![7; length]).await.is_ok() {
                yield_now().await;
            }
            let (kind, _second) = waits.await.unwrap();
            assert_eq!(kind, io::ErrorKind::BrokenPipe);
            // Its task hears of that although both streams are still held.
            assert_eq!(driven.await.unwrap(), None);
            drop(first);
        });
    }
}

#[test]
fn what_was_read_before_the_transport_failed_is_not_lost() {
    run(async {
        let wire = Wire::default();
        let (driven, mut opened, _) = drive_server(Connection::server(wire.clone()));
        wire.show(&frame(OPEN, 1, 0));
        let mut stream = opened.recv().await.unwrap();
        let read = tokio::spawn(async move {
            let mut heard = Vec::new();
            let error = stream.read_to_end(&mut heard).await.unwrap_err();
            (heard, error.kind(), stream)
        });
        settle().await;
        // It is offered to the reader, and the failure is the reader's to find, behind what has come.
        wire.change(|state| {
            state.shown = [frame(DATA, 1, 10_000), vec![7; 5_000]].concat();
            state.is_lost = true;
        });
        let (heard, kind, _stream) = read.await.unwrap();
        assert_eq!((heard.len(), kind), (5_000, io::ErrorKind::ConnectionReset));
        assert_eq!(driven.await.unwrap(), None);
    });
}

#[test]
fn streams_of_a_connection_that_was_dropped_end_with_an_error() {
    run(async {
        let (near, mut peer) = pipe(256 * 1024);
        let mut connection = Connection::server(near);
        peer.write_all(&[frame(OPEN, 1, 0), data(1, b"kept"), frame(OPEN, 2, 0)].concat()).await.unwrap();
        let mut first = connection.next().await.unwrap();
        let mut second = connection.next().await.unwrap();
        let reads = tokio::spawn(async move { second.read(&mut [0; 8]).await.unwrap_err().kind() });
        settle().await;
        drop(connection);
        assert_eq!(reads.await.unwrap(), io::ErrorKind::ConnectionAborted);
        assert_eq!(first.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        let mut heard = Vec::new();
        let error = first.read_to_end(&mut heard).await.unwrap_err();
        assert_eq!((heard, error.kind()), (b"kept".to_vec(), io::ErrorKind::ConnectionAborted));
        let mut said = Vec::new();
        peer.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, [frame(ACCEPT, 1, 0), frame(ACCEPT, 2, 0)].concat(), "it was cut");
    });
}

#[test]
fn who_waits_for_room_in_a_connection_that_is_closed_is_told() {
    run(async {
        let wire = Wire::default();
        let mut connection = Connection::server(wire.clone());
        wire.show(&frame(OPEN, 1, 0));
        let mut stream = connection.next().await.unwrap();
        wire.change(|state| state.takes = Takes::None);
        let writes = tokio::spawn(async move {
            stream.write_all(&[7; 60_000]).await.unwrap();
            stream.write_all(&[7; 5_000]).await.unwrap_err();
        });
        settle().await;
        let closed = tokio::spawn(connection.close());
        settle().await;
        wire.change(|state| state.takes = Takes::All);
        closed.await.unwrap().unwrap();
        writes.await.unwrap();
    });
}

#[test]
fn what_is_said_while_it_is_closed_is_sent() {
    run(async {
        let (near, mut peer) = pipe(64);
        let mut connection = Connection::server(near);
        peer.write_all(&frame(OPEN, 1, 0)).await.unwrap();
        let mut stream = connection.next().await.unwrap();
        stream.write_all(&[7; 1_000]).await.unwrap();
        // Closed on another task than the one that has driven it.
        let closed = tokio::spawn(connection.close());
        settle().await;
        stream.write_all(&[8; 1_000]).await.unwrap();
        for byte in [7, 8] {
            assert_eq!(said(&mut peer).await, (DATA, 1, 1_000, vec![byte; 1_000]));
        }
        closed.await.unwrap().unwrap();
        assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn an_end_is_sent_though_others_go_on() {
    run(async {
        let wire = Wire::default();
        let mut connection = Connection::server(wire.clone());
        wire.show(&[frame(OPEN, 1, 0), frame(OPEN, 2, 0)].concat());
        let (mut ends, mut goes_on) = (connection.next().await.unwrap(), connection.next().await.unwrap());
        wire.change(|state| state.takes = Takes::None);
        let cx = &mut Context::from_waker(Waker::noop());
        goes_on.write_all(b"before").await.unwrap();
        assert!(Pin::new(&mut ends).poll_shutdown(cx).is_pending());
        wire.change(|state| state.takes = Takes::All);
        assert!(connection.poll_next(cx).is_pending());
        // Something waits to be sent again when the one that ends is looked at.
        goes_on.write_all(b"and on").await.unwrap();
        assert!(Pin::new(&mut ends).poll_shutdown(cx).is_ready());
    });
}

#[test]
fn bulk_and_ends_wait_for_what_the_transport_has_not_sent() {
    run(async {
        let wire = Wire::default();
        let mut connection = Connection::server(wire.clone());
        wire.show(&[frame(OPEN, 1, 0), frame(OPEN, 2, 0)].concat());
        let (mut bulk, mut ends) = (connection.next().await.unwrap(), connection.next().await.unwrap());
        let driven = tokio::spawn(async move { while connection.next().await.is_some() {} });
        settle().await;
        wire.change(|state| state.keeps = true);
        bulk.write_all(&[7; 8_000]).await.unwrap();
        let more = tokio::spawn(async move {
            bulk.write_all(&[7; 8_000]).await.unwrap();
            bulk
        });
        let ended = tokio::spawn(async move {
            ends.shutdown().await.unwrap();
            ends
        });
        settle().await;
        assert!(!more.is_finished(), "as much as the transport holds would be held again");
        assert!(!ended.is_finished(), "its peer does not know yet");
        wire.change(|state| state.keeps = false);
        drop((more.await.unwrap(), ended.await.unwrap()));
        driven.abort();
    });
}

#[test]
fn an_end_that_was_not_sent_is_none() {
    run(async {
        let wire = Wire::default();
        let mut connection = Connection::server(wire.clone());
        wire.show(&frame(OPEN, 1, 0));
        let mut stream = connection.next().await.unwrap();
        wire.change(|state| state.takes = Takes::None);
        let cx = &mut Context::from_waker(Waker::noop());
        stream.write_all(b"last words").await.unwrap();
        assert!(Pin::new(&mut stream).poll_shutdown(cx).is_pending());
        wire.change(|state| state.takes = Takes::Fails);
        assert!(connection.next().await.is_none());
        stream.shutdown().await.unwrap_err();
        // Nor is one of a stream that its peer has given up.
        let wire = Wire::default();
        let mut connection = Connection::server(wire.clone());
        wire.show(&frame(OPEN, 1, 0));
        let mut stream = connection.next().await.unwrap();
        wire.show(&frame(RESET, 1, 0));
        assert!(connection.poll_next(cx).is_pending());
        assert_eq!(stream.shutdown().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn who_has_said_all_and_was_sent_all_need_not_wait_for_an_end() {
    for (has_said_all, is_sent) in [(true, true), (true, false), (false, true)] {
        run(async move {
            let wire = Wire::default();
            let mut connection = Connection::server(wire.clone());
            wire.show(&frame(OPEN, 1, 0));
            let mut stream = connection.next().await.unwrap();
            let cx = &mut Context::from_waker(Waker::noop());
            wire.change(|state| state.takes = if is_sent { Takes::All } else { Takes::None });
            stream.write_all(b"goodbye").await.unwrap();
            assert!(connection.poll_next(cx).is_pending());
            // It hears that, says its last words, and closes the connection: it has no other stream.
            wire.show(&if has_said_all { frame(END, 1, 0) } else { vec![] });
            wire.change(|state| state.is_lost = true);
            assert!(connection.next().await.is_none());
            assert_eq!(stream.shutdown().await.is_ok(), has_said_all && is_sent, "{has_said_all} {is_sent}");
        });
    }
}
