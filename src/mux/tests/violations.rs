//! A peer that does not keep to the protocol is cut, and who used its streams is told.

use std::io;

use super::*;

/// What a client sends, and what is said of it.
fn by_a_client() -> Vec<(Vec<u8>, &'static str)> {
    let first = frame(OPEN, 1, 0);
    let with = |frames: &[Vec<u8>]| [first.clone(), frames.concat()].concat();
    let unopened = "a frame of a stream that was not opened";
    let reset = "a frame of a stream that was reset";
    let ended = "more of a stream that has ended";
    let order = "a stream that is not the next one";
    let malformed = "a frame that is none";
    let credit = "more data than there was credit for";
    vec![
        (data(1, b"x"), unopened),
        (frame(END, 1, 0), unopened),
        (with(&[frame(CREDIT, 2, 1)]), unopened),
        (with(&[frame(RESET, 0x00ff_ffff, 0)]), unopened),
        (with(&[data(1, &[7; FIRST]), data(1, b"x")]), credit),
        (with(&[data(1, b"x"), data(1, &[7; FIRST])]), credit),
        (with(&[frame(END, 1, 0), data(1, b"x")]), ended),
        (with(&[frame(END, 1, 0), frame(END, 1, 0)]), ended),
        (with(&[frame(RESET, 1, 0), data(1, b"x")]), reset),
        (with(&[frame(RESET, 1, 0), frame(RESET, 1, 0)]), reset),
        (with(&[frame(RESET, 1, 0), frame(CREDIT, 1, 1)]), reset),
        (with(&[frame(OPEN, 1, 0)]), order),
        (with(&[frame(OPEN, 3, 0)]), order),
        (frame(OPEN, 2, 0), order),
        (with(&[frame(LEAVE, 0, 0), frame(OPEN, 2, 0)]), "a stream that was opened after the last one"),
        (with(&[frame(CREDIT, 1, u32::MAX)]), "too much credit"),
        (with(&[frame(CREDIT, 1, u32::MAX - 65_536), frame(CREDIT, 1, 1), frame(CREDIT, 1, 1)]), "too much credit"),
        ((1..=65).flat_map(|id| frame(OPEN, id, 0)).collect(), "too many streams"),
        (with(&[frame(0, 1, 0)]), malformed),
        (with(&[frame(ACCEPT, 1, 0)]), "a stream that was accepted by the client"),
        (with(&[frame(8, 1, 0)]), malformed),
        (with(&[frame(DATA, 1, 0)]), malformed),
        (with(&[frame(DATA, 1, 65_537)]), malformed),
        (with(&[frame(DATA, 1, u32::MAX)]), malformed),
        (frame(OPEN, 0, 0), malformed),
        (with(&[frame(LEAVE, 1, 0)]), malformed),
        (with(&[frame(CREDIT, 1, 0)]), malformed),
        (with(&[b"GET / HTTP/1.1\r\n\r\n".to_vec()]), malformed),
    ]
}

/// Reads a stream to its error.
async fn fate(mut stream: Stream) -> io::ErrorKind {
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard).await {
        // It had ended before: then it takes no more.
        Ok(_) => stream.write_all(b"x").await.unwrap_err().kind(),
        Err(error) => error.kind(),
    }
}

#[test]
fn each_violation_of_a_client_ends_the_connection_and_is_told() {
    for cut in [usize::MAX, 1, 5_000] {
        for (bytes, violation) in by_a_client() {
            run(async move {
                let (near, mut peer) = pipe(256 * 1024);
                let (driven, mut opened, _) = drive_server(Connection::server(near));
                for some in bytes.chunks(cut) {
                    // Small enough to be taken, or else the connection is cut by then.
                    let _taken = peer.write_all(some).await;
                    if cut > 1 {
                        settle().await;
                    }
                }
                assert_eq!(driven.await.unwrap(), Some(violation), "{:?}", &bytes[..bytes.len().min(32)]);
                while let Some(stream) = opened.recv().await {
                    let kind = fate(stream).await;
                    let is_right = [io::ErrorKind::InvalidData, io::ErrorKind::ConnectionReset].contains(&kind);
                    assert!(is_right, "{violation}: {kind:?}");
                }
            });
        }
    }
}

#[test]
fn each_violation_of_a_server_ends_the_connection_and_is_told() {
    let cases = [
        (frame(OPEN, 1, 0), "a stream that was opened by the server"),
        (frame(OPEN, 2, 0), "a stream that was opened by the server"),
        (data(2, b"x"), "a frame of a stream that was not opened"),
        (frame(CREDIT, 1, u32::MAX), "too much credit"),
        ([data(1, &[7; FIRST]), data(1, b"x")].concat(), "more data than there was credit for"),
        ([frame(LEAVE, 0, 0), frame(END, 1, 0), frame(END, 1, 0)].concat(), "more of a stream that has ended"),
        (frame(9, 1, 0), "a frame that is none"),
    ];
    for (bytes, violation) in cases {
        run(async move {
            let (near, mut peer) = pipe(256 * 1024);
            let (connection, opener, first) = Connection::client(near);
            let driven = drive_client(connection, opener.clone());
            peer.write_all(&bytes).await.unwrap();
            assert_eq!(fate(first).await, io::ErrorKind::InvalidData, "{violation}");
            assert_eq!(driven.await.unwrap(), Some(violation));
            assert!(opener.is_over() && opener.open(MOST_STREAMS).is_none());
        });
    }
}

#[test]
fn who_waits_is_told_of_a_violation() {
    run(async {
        let (near, mut peer) = pipe(1_024);
        let (driven, mut opened, _) = drive_server(Connection::server(near));
        peer.write_all(&[frame(OPEN, 1, 0), frame(OPEN, 2, 0)].concat()).await.unwrap();
        let (mut reads, mut writes) = (opened.recv().await.unwrap(), opened.recv().await.unwrap());
        let read = tokio::spawn(async move { reads.read(&mut [0; 8]).await.unwrap_err().kind() });
        let written = tokio::spawn(async move { writes.write_all(&[7; 4 * FIRST]).await.unwrap_err().kind() });
        settle().await;
        peer.write_all(&frame(OPEN, 7, 0)).await.unwrap();
        assert_eq!(driven.await.unwrap(), Some("a stream that is not the next one"));
        assert_eq!(read.await.unwrap(), io::ErrorKind::InvalidData);
        assert_eq!(written.await.unwrap(), io::ErrorKind::InvalidData);
    });
}

#[test]
fn what_was_said_of_a_violation_stays_said() {
    run(async {
        let (near, mut peer) = pipe(1_024);
        let mut connection = Connection::server(near);
        peer.write_all(&frame(OPEN, 7, 0)).await.unwrap();
        for _ in 0..2 {
            assert!(connection.next().await.is_none());
            assert_eq!(connection.violation(), Some("a stream that is not the next one"));
        }
    });
}

#[test]
fn what_comes_for_a_stream_that_was_given_up_is_no_violation() {
    run(async {
        let (near, mut peer) = pipe(256 * 1024);
        let (driven, mut opened, _) = drive_server(Connection::server(near));
        peer.write_all(&[frame(OPEN, 1, 0), data(1, b"some")].concat()).await.unwrap();
        drop(opened.recv().await.unwrap());
        assert_eq!(said(&mut peer).await, (RESET, 1, 0, vec![]));
        let late = [data(1, &[7; 60_000]), frame(CREDIT, 1, 5), frame(END, 1, 0), frame(RESET, 1, 0)];
        peer.write_all(&late.concat()).await.unwrap();
        peer.write_all(&[frame(OPEN, 2, 0), data(2, b"more"), frame(END, 2, 0)].concat()).await.unwrap();
        let mut heard = Vec::new();
        opened.recv().await.unwrap().read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"more");
        drop(peer);
        assert_eq!(driven.await.unwrap(), None);
    });
}
