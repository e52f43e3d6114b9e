//! Random mutations of valid requests, cut at random places.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use tokio::io::{AsyncRead, ReadBuf};

use super::super::{Framer, Framing, Guard, HeadVerdict, Stop};
use super::served::{Served, serve};
use super::{LIMITS, judge};

const REQUESTS: [&str; 7] = [
    "GET /a?b=c HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
    "POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world",
    "PUT /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n",
    "PUT /t HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n2\r\nhi\r\n0\r\nx: 1\r\n\r\n",
    "\r\nOPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET http://a/b HTTP/1.1\r\nhost: a\r\nte: trailers\r\n\r\n",
    "DELETE /d%20e HTTP/1.1\r\nhost: a\r\nContent-Length: 0\r\nx_y: \t z \r\n\r\n",
];

/// What smuggling is made of.
const PIECES: [&str; 24] = [
    "\r",
    "\n",
    "\r\n",
    "\r\n\r\n",
    "\0",
    " ",
    "\t",
    ":",
    ";",
    "#",
    "0",
    "f",
    "Content-Length: 5\r\n",
    "\x7f",
    "\u{e4}",
    "Transfer-Encoding: chunked\r\n",
    "host: b\r\n",
    "HTTP/1.0",
    ",",
    "0\r\n\r\n",
    "GET / HTTP/1.1\r\n",
    "\"",
    "%",
    "_",
];

#[derive(Debug, Clone)]
enum Mutation {
    Insert(prop::sample::Index, &'static str),
    Remove(prop::sample::Index, usize),
    Flip(prop::sample::Index, u8),
    Repeat(prop::sample::Index, usize),
}

impl Mutation {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        match self {
            Self::Insert(at, piece) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, piece.bytes());
            }
            Self::Remove(at, most) => {
                let at = at.index(bytes.len());
                let end = bytes.len().min(at + most);
                bytes.drain(at..end);
            }
            Self::Flip(at, mask) => {
                let at = at.index(bytes.len());
                bytes[at] ^= mask;
            }
            Self::Repeat(at, most) => {
                let at = at.index(bytes.len());
                let part = bytes[at..bytes.len().min(at + most)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        (at(), prop::sample::select(PIECES.to_vec())).prop_map(|(at, piece)| Mutation::Insert(at, piece)),
        (at(), 1..8_usize).prop_map(|(at, most)| Mutation::Remove(at, most)),
        (at(), any::<u8>()).prop_map(|(at, mask)| Mutation::Flip(at, mask)),
        (at(), 1..40_usize).prop_map(|(at, most)| Mutation::Repeat(at, most)),
    ]
}

prop_compose! {
    fn connection()(
        requests in prop::collection::vec(prop::sample::select(REQUESTS.to_vec()), 1..5),
        mutations in prop::collection::vec(mutation(), 0..4),
    ) -> Vec<u8> {
        let mut bytes = requests.concat().into_bytes();
        mutations.iter().for_each(|mutation| mutation.apply(&mut bytes));
        bytes
    }
}

fn cut<'a>(bytes: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn cuts() -> impl Strategy<Value = Vec<prop::sample::Index>> {
    prop::collection::vec(any::<prop::sample::Index>(), 0..6)
}

/// A transport that gives these pieces and then has nothing more to say.
struct Pieces<'a>(Vec<&'a [u8]>);

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.retain(|piece| !piece.is_empty());
        let Some(piece) = self.0.first_mut() else { return Poll::Ready(Ok(())) };
        let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
        buf.put_slice(now);
        *piece = later;
        Poll::Ready(Ok(()))
    }
}

/// Reads a guarded transport to its end through a buffer of this size.
fn read(pieces: Vec<&[u8]>, size: usize) -> (Vec<u8>, Option<&'static str>) {
    let (mut guard, handle) = Guard::new(Pieces(pieces), LIMITS);
    let mut cx = Context::from_waker(Waker::noop());
    let mut all = Vec::new();
    let mut space = vec![0; size];
    loop {
        let mut buf = ReadBuf::new(&mut space);
        let end = match Pin::new(&mut guard).poll_read(&mut cx, &mut buf) {
            Poll::Ready(Ok(())) if !buf.filled().is_empty() => {
                all.extend_from_slice(buf.filled());
                continue;
            }
            Poll::Ready(Ok(())) | Poll::Pending => None,
            Poll::Ready(Err(error)) => super::super::HeadRefusal::find(&error).map(|refusal| refusal.rule),
        };
        let mut refused = end;
        loop {
            match handle.next_head() {
                HeadVerdict::Passed(_) => {}
                HeadVerdict::Refused(refusal) if refusal.rule == "out-of-step" => break,
                HeadVerdict::Refused(refusal) => refused = Some(refusal.rule),
            }
        }
        return (all, refused);
    }
}

/// Whether hyper ends a connection of its own accord after what it has seen: nothing after counts.
fn hyper_stops(served: &Served) -> bool {
    let last = served.seen.last();
    last.is_some_and(|seen| seen.version == http::Version::HTTP_10 || seen.body.is_err())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(512), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn verdicts_do_not_depend_on_how_the_bytes_are_cut(bytes in connection(), cuts in cuts()) {
        prop_assert_eq!(judge(cut(&bytes, &cuts)), judge([bytes.as_slice()]));
    }

    #[test]
    fn the_stream_releases_what_the_framer_does(bytes in connection(), cuts in cuts(), size in 1..200_usize) {
        let wanted = judge([bytes.as_slice()]);
        let (read, refused) = read(cut(&bytes, &cuts), size);
        let (mine, stand_in) = read.split_at(wanted.released.len().min(read.len()));
        prop_assert_eq!(mine, wanted.released.as_slice());
        prop_assert!(stand_in.is_empty() || stand_in.starts_with(b"GET / HTTP/1.1\r\nhost: refused.invalid\r\n"));
        match wanted.refusal() {
            Some(refusal) => prop_assert_eq!(refused, Some(refusal.rule)),
            None => prop_assert!(matches!(refused, None | Some("head-incomplete")), "{:?}", refused),
        }
        prop_assert_eq!(stand_in.is_empty(), !matches!(&wanted.stop, Some(Stop::Refused(_))) && refused != Some("head-incomplete"));
    }

    #[test]
    fn hyper_sees_the_heads_that_passed_and_no_other(bytes in connection(), cuts in cuts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let wanted = judge([bytes.as_slice()]);
        let served = runtime.block_on(serve(cut(&bytes, &cuts)));
        let passed: Vec<_> = served.seen.iter().filter_map(|seen| match seen.verdict {
            HeadVerdict::Passed(facts) => Some((facts, seen)),
            HeadVerdict::Refused(_) => None,
        }).collect();
        for ((facts, seen), wanted) in passed.iter().zip(&wanted.passed) {
            prop_assert_eq!(facts, wanted);
            prop_assert_eq!(facts.framing, seen.framing);
            if let (Framing::Length(length), Ok(body)) = (facts.framing, &seen.body) {
                prop_assert_eq!(body.len() as u64, length);
            }
        }
        // hyper itself never refuses what passed the guard: it would do so without the service.
        if let Some(error) = &served.error {
            prop_assert!(!error.is_parse() || error.is_incomplete_message(), "{:?}", served);
        }
        prop_assert!(served.seen.iter().all(|seen| !matches!(&seen.verdict, HeadVerdict::Refused(r) if r.rule == "out-of-step")));
        if !hyper_stops(&served) {
            prop_assert_eq!(passed.len(), wanted.passed.len(), "{:?}", served);
            let refused = served.seen.iter().filter(|seen| matches!(seen.verdict, HeadVerdict::Refused(_))).count();
            let leftover = refused == 1 && served.replies.ends_with("head-incomplete");
            prop_assert_eq!(refused, usize::from(leftover || matches!(wanted.stop, Some(Stop::Refused(_)))), "{:?}", served);
        }
    }

    #[test]
    fn no_bytes_make_the_framer_panic_or_release_twice(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let mut framer = Framer::new(LIMITS);
        let released = framer.advance(&bytes, |_| {});
        prop_assert!(released <= bytes.len());
        prop_assert_eq!(judge(bytes.chunks(1)), judge([bytes.as_slice()]));
    }
}

/// What the fuzz targets do, on the same inputs every time: requests and pieces in random order, and noise.
#[test]
fn seeded_inputs_hold_what_the_fuzz_targets_assert() {
    let mut random = fastrand::Rng::with_seed(2026);
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..random.usize(0..8) {
            match random.u8(0..4) {
                0 => bytes.extend(std::iter::repeat_with(|| random.u8(..)).take(9)),
                1 => bytes.extend(PIECES[random.usize(..PIECES.len())].bytes()),
                _ => bytes.extend(REQUESTS[random.usize(..REQUESTS.len())].bytes()),
            }
        }
        if !bytes.is_empty() && random.bool() {
            let at = random.usize(..bytes.len());
            bytes[at] = random.u8(..);
        }
        super::super::fuzz(&bytes);
        crate::protocol::http::meter::fuzz(&bytes);
    }
}
