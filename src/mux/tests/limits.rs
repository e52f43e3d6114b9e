//! How many streams there are at a time, how they are numbered, and how their connection is left.

use std::io;

use super::*;

#[test]
fn no_more_streams_are_opened_than_wanted() {
    run(async {
        let mut pair = Pair::over(1_024);
        let mut streams = vec![pair.stream().await];
        for _ in 1..3 {
            let near = pair.opener.open(3).unwrap();
            streams.push((near, pair.opened.recv().await.unwrap()));
        }
        assert!(pair.opener.open(3).is_none() && !pair.opener.is_over());
        // A place that is free again is used again.
        streams.pop();
        let near = pair.opener.open(3).unwrap();
        streams.push((near, pair.opened.recv().await.unwrap()));
        while let Some(near) = pair.opener.open(1_000) {
            streams.push((near, pair.opened.recv().await.unwrap()));
        }
        assert_eq!(streams.len(), MOST_STREAMS);
        drop(streams);
        pair.part().await;
    });
}

#[test]
fn streams_count_up_and_no_number_comes_twice() {
    run(async {
        let (near, mut peer) = pipe(1_024);
        let (connection, opener, first) = Connection::client(near);
        let driven = drive_client(connection, opener.clone());
        let mut stream = Some(first);
        for id in 1..200 {
            drop(stream.take());
            assert_eq!(said(&mut peer).await, (OPEN, id, 0, vec![]));
            assert_eq!(said(&mut peer).await, (RESET, id, 0, vec![]));
            stream = opener.open(1);
        }
        assert_eq!(said(&mut peer).await, (OPEN, 200, 0, vec![]));
        opener.close();
        opener.close();
        assert_eq!(said(&mut peer).await, (LEAVE, 0, 0, vec![]));
        assert!(opener.open(MOST_STREAMS).is_none() && opener.is_over());
        drop(stream);
        assert_eq!(said(&mut peer).await, (RESET, 200, 0, vec![]));
        assert_eq!(driven.await.unwrap(), None);
        assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn a_server_that_leaves_serves_what_was_opened_before_it_was_heard() {
    run(async {
        let mut pair = Pair::over(1_024);
        let (mut near, mut far) = pair.stream().await;
        pair.leave.notify_one();
        let mut late = pair.opener.open(MOST_STREAMS).unwrap();
        late.write_all(b"late").await.unwrap();
        let mut late_far = pair.opened.recv().await.unwrap();
        settle().await;
        assert!(pair.opener.is_over() && pair.opener.open(MOST_STREAMS).is_none());
        let mut heard = [0; 4];
        late_far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"late");
        far.write_all(b"more").await.unwrap();
        near.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"more");
        assert!(!pair.client.is_finished() && !pair.server.is_finished());
        drop((near, far, late, late_far));
        pair.part().await;
    });
}

#[test]
fn leaving_again_and_again_is_answered_once() {
    run(async {
        let (near, mut peer) = pipe(1_024);
        let (connection, opener, first) = Connection::client(near);
        let driven = drive_client(connection, opener);
        assert_eq!(said(&mut peer).await, (OPEN, 1, 0, vec![]));
        peer.write_all(&frame(LEAVE, 0, 0).repeat(500)).await.unwrap();
        settle().await;
        drop(first);
        assert_eq!(said(&mut peer).await, (LEAVE, 0, 0, vec![]));
        assert_eq!(said(&mut peer).await, (RESET, 1, 0, vec![]));
        assert_eq!(driven.await.unwrap(), None);
        assert_eq!(peer.read(&mut [0; 8]).await.unwrap(), 0);
    });
}

#[test]
fn streams_that_a_peer_gives_up_faster_than_that_is_noticed_are_refused() {
    run(async {
        let (near, peer) = pipe(1_024);
        let (driven, mut opened, _) = drive_server(Connection::server(near));
        let (mut reader, mut writer) = tokio::io::split(peer);
        let written = tokio::spawn(async move {
            for id in 1..=2_000 {
                writer.write_all(&[frame(OPEN, id, 0), frame(RESET, id, 0)].concat()).await.unwrap();
            }
            writer
        });
        let most = u32::try_from(2 * MOST_STREAMS).unwrap();
        for id in 1..=2_000 {
            let answer = if id <= most { ACCEPT } else { RESET };
            assert_eq!(said_at_all(&mut reader).await, (answer, id, 0, vec![]));
        }
        let mut writer = written.await.unwrap();
        let mut held: Vec<Stream> = std::iter::from_fn(|| opened.try_recv().ok()).collect();
        assert_eq!(held.len(), 2 * MOST_STREAMS);
        // Each one that is noticed gives its place to one more.
        held.truncate(127);
        settle().await;
        writer.write_all(&[frame(OPEN, 2_001, 0), frame(OPEN, 2_002, 0)].concat()).await.unwrap();
        assert_eq!(said_at_all(&mut reader).await, (ACCEPT, 2_001, 0, vec![]));
        assert_eq!(said_at_all(&mut reader).await, (RESET, 2_002, 0, vec![]));
        drop((reader, writer));
        assert_eq!(driven.await.unwrap(), None);
    });
}

#[test]
fn streams_that_have_ended_take_no_place_from_their_client() {
    run(async {
        let mut pair = Pair::over(64 * 1024);
        let mut held = Vec::new();
        // Both sides have ended them, and the server's has not let go of its end yet.
        for _ in 0..MOST_STREAMS {
            let (mut near, mut far) = pair.stream().await;
            near.shutdown().await.unwrap();
            far.shutdown().await.unwrap();
            assert_eq!(near.read(&mut [0; 8]).await.unwrap(), 0);
            held.push(far);
        }
        held.push(pair.stream().await.1);
        drop(held);
        pair.part().await;
    });
}

#[test]
fn a_client_that_hears_nothing_cannot_have_answers_heaped_up() {
    run(async {
        // So small that it never has too many streams open at a time.
        let (near, mut peer) = pipe(256);
        let (_driven, mut opened, _) = drive_server(Connection::server(near));
        // Each is answered by a reset.
        tokio::spawn(async move { while opened.recv().await.is_some() {} });
        let (mut id, mut idle) = (0, 0);
        while idle < 300 && id < 100_000 {
            let open = frame(OPEN, id + 1, 0);
            match Pin::new(&mut peer).poll_write(&mut Context::from_waker(Waker::noop()), &open) {
                Poll::Ready(count) => {
                    peer.write_all(&open[count.unwrap()..]).await.unwrap();
                    (id, idle) = (id + 1, 0);
                }
                Poll::Pending => idle += 1,
            }
            yield_now().await;
        }
        assert!(id < 20_000, "{id} streams were answered to a client that does not read");
        assert!(id > 5_000, "{id}");
        // It is not cut: once it reads, it goes on.
        let (mut reader, mut writer) = tokio::io::split(peer);
        let more = tokio::spawn(async move {
            for id in id + 1..=id + 1_000 {
                writer.write_all(&frame(OPEN, id, 0)).await.unwrap();
            }
        });
        for id in 1..=id + 1_000 {
            assert_eq!(said(&mut reader).await, (RESET, id, 0, vec![]));
        }
        more.await.unwrap();
    });
}

#[test]
fn a_server_that_hears_nothing_is_given_no_more_streams() {
    run(async {
        let (near, _peer) = pipe(1_024);
        let (connection, opener, first) = Connection::client(near);
        let _driven = drive_client(connection, opener.clone());
        drop(first);
        let mut count = 0;
        while count < 100_000 && opener.open(1).is_some() {
            count += 1;
        }
        assert!((5_000..20_000).contains(&count), "{count} streams wait to be opened");
    });
}

#[test]
fn a_stream_knows_that_its_server_answers_that_it_does_not_and_that_it_refuses() {
    run(async {
        let mut pair = Pair::over(1_024);
        let (mut near, far) = pair.stream().await;
        near.accepted().await.unwrap();
        // Said once, it stays said, also of one that is over.
        drop(far);
        settle().await;
        near.accepted().await.unwrap();
        drop(near);
        pair.part().await;

        let (near, mut silent) = pipe(1_024);
        let (connection, opener, mut first) = Connection::client(near);
        let _driven = drive_client(connection, opener.clone());
        assert_eq!(said(&mut silent).await, (OPEN, 1, 0, vec![]));
        settle().await;
        assert!(futures_util::FutureExt::now_or_never(first.accepted()).is_none(), "nothing was said yet");
        silent.write_all(&frame(RESET, 1, 0)).await.unwrap();
        assert_eq!(first.accepted().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut second = opener.open(MOST_STREAMS).unwrap();
        drop(silent);
        second.accepted().await.unwrap_err();
    });
}
