//! Frames as they are on the wire.

use bytes::{BufMut as _, BytesMut};

use crate::relay::FRAME_HEAD;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Open,
    Data,
    End,
    Reset,
    Credit,
    Leave,
    Accept,
}

/// A frame without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) stream: u32,
    /// The length of [`Kind::Data`], the amount of [`Kind::Credit`], 0 of others.
    pub(super) number: u32,
}

/// A head that no peer of ours sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The length of a head.
pub(super) const HEAD: usize = FRAME_HEAD;
/// The largest number of a stream.
pub(super) const LAST_STREAM: u32 = 0x00ff_ffff;
/// What one frame carries at most.
pub(super) const MOST_DATA: u32 = 64 * 1024;

impl Kind {
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Open,
            2 => Self::Data,
            3 => Self::End,
            4 => Self::Reset,
            5 => Self::Credit,
            6 => Self::Leave,
            7 => Self::Accept,
            _ => return None,
        })
    }

    const fn byte(self) -> u8 {
        match self {
            Self::Open => 1,
            Self::Data => 2,
            Self::End => 3,
            Self::Reset => 4,
            Self::Credit => 5,
            Self::Leave => 6,
            Self::Accept => 7,
        }
    }
}

impl Head {
    pub(super) const fn new(kind: Kind, stream: u32) -> Self {
        Self { kind, stream, number: 0 }
    }

    pub(super) const fn data(stream: u32, length: u32) -> Self {
        Self { kind: Kind::Data, stream, number: length }
    }

    pub(super) const fn credit(stream: u32, amount: u32) -> Self {
        Self { kind: Kind::Credit, stream, number: amount }
    }

    pub(super) const fn to_bytes(self) -> [u8; HEAD] {
        let [_, a, b, c] = self.stream.to_be_bytes();
        let [d, e, f, g] = self.number.to_be_bytes();
        [self.kind.byte(), a, b, c, d, e, f, g]
    }

    pub(super) fn put(self, out: &mut BytesMut) {
        out.put_slice(&self.to_bytes());
    }

    fn of(bytes: [u8; HEAD]) -> Result<Self, Malformed> {
        let [kind, a, b, c, d, e, f, g] = bytes;
        let kind = Kind::of(kind).ok_or(Malformed)?;
        let (stream, number) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes([d, e, f, g]));
        let is_number_right = match kind {
            Kind::Data => (1..=MOST_DATA).contains(&number),
            Kind::Credit => number > 0,
            Kind::Open | Kind::End | Kind::Reset | Kind::Leave | Kind::Accept => number == 0,
        };
        let is_stream_right = (stream == 0) == (kind == Kind::Leave);
        if is_number_right && is_stream_right { Ok(Self { kind, stream, number }) } else { Err(Malformed) }
    }
}

/// Where in the frames that come we are, wherever reads have cut them.
#[derive(Debug, Default)]
pub(super) struct Parser {
    head: [u8; HEAD],
    known: usize,
    /// The stream whose data comes, and how much of it.
    stream: u32,
    left: usize,
}

impl Parser {
    /// The stream whose data comes next, and how much of it; none if a head does.
    pub(super) const fn data(&self) -> Option<(u32, usize)> {
        if self.left > 0 { Some((self.stream, self.left)) } else { None }
    }

    /// So many bytes of [`Self::data`] were taken.
    pub(super) const fn took(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count);
    }

    /// Takes what `bytes` have of a head, if [`Self::data`] is none: how many of them that were, and the head if it is whole.
    pub(super) fn head(&mut self, bytes: &[u8]) -> (usize, Option<Result<Head, Malformed>>) {
        let missing = self.head.get_mut(self.known..).unwrap_or_default();
        let count = missing.len().min(bytes.len());
        missing.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        self.known += count;
        if self.known < HEAD {
            return (count, None);
        }
        self.known = 0;
        let head = Head::of(self.head);
        if let Ok(Head { kind: Kind::Data, stream, number }) = head {
            (self.stream, self.left) = (stream, number as usize);
        }
        (count, Some(head))
    }
}

/// What a fuzzer feeds the parser; panics where it goes wrong.
#[doc(hidden)]
pub fn fuzz_frames(mut bytes: &[u8]) {
    let mut parser = Parser::default();
    while !bytes.is_empty() {
        let count = if let Some((stream, left)) = parser.data() {
            assert!(stream > 0 && stream <= LAST_STREAM && left <= MOST_DATA as usize);
            let count = left.min(bytes.len());
            parser.took(count);
            count
        } else {
            let (count, head) = parser.head(bytes);
            match head {
                None => {}
                Some(Err(Malformed)) => return,
                Some(Ok(head)) => assert_eq!(Head::of(head.to_bytes()), Ok(head)),
            }
            count
        };
        assert!(count > 0, "something is taken each time");
        bytes = bytes.get(count..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head() -> impl Strategy<Value = Head> {
        let kinds = prop::sample::select(vec![
            Kind::Open,
            Kind::Data,
            Kind::End,
            Kind::Reset,
            Kind::Credit,
            Kind::Leave,
            Kind::Accept,
        ]);
        (kinds, 1..=LAST_STREAM, 1..=MOST_DATA).prop_map(|(kind, stream, number)| Head {
            kind,
            stream: if kind == Kind::Leave { 0 } else { stream },
            number: if matches!(kind, Kind::Data | Kind::Credit) { number } else { 0 },
        })
    }

    proptest! {
        #[test]
        fn frames_are_what_was_put_wherever_reads_cut_them(
            heads in prop::collection::vec(head(), 1..12),
            cuts in prop::collection::vec(1_usize..5_000, 1..30),
        ) {
            let mut bytes = BytesMut::new();
            for head in &heads {
                head.put(&mut bytes);
                if head.kind == Kind::Data {
                    bytes.extend(std::iter::repeat_n(7, head.number as usize));
                }
            }
            let (mut parser, mut found, mut carried) = (Parser::default(), Vec::new(), 0);
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (mut some, after) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = after;
                while !some.is_empty() {
                    let count = match parser.data() {
                        Some((_, left)) => {
                            let count = left.min(some.len());
                            prop_assert!(some[..count].iter().all(|byte| *byte == 7));
                            carried += count;
                            parser.took(count);
                            count
                        }
                        None => {
                            let (count, head) = parser.head(some);
                            found.extend(head.transpose().unwrap());
                            count
                        }
                    };
                    some = &some[count..];
                }
            }
            let sent: usize = heads.iter().filter(|head| head.kind == Kind::Data).map(|head| head.number as usize).sum();
            prop_assert_eq!((found, carried), (heads, sent));
        }

        #[test]
        fn any_bytes_are_frames_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            fuzz_frames(&bytes);
        }
    }

    #[test]
    fn what_no_peer_of_ours_sends_is_refused() {
        let refused: [[u8; HEAD]; 10] = [
            [0, 0, 0, 1, 0, 0, 0, 0],
            [8, 0, 0, 1, 0, 0, 0, 0],
            [7, 0, 0, 1, 0, 0, 0, 1],
            [1, 0, 0, 0, 0, 0, 0, 0],
            [1, 0, 0, 1, 0, 0, 0, 1],
            [2, 0, 0, 1, 0, 0, 0, 0],
            [2, 0, 0, 1, 0, 1, 0, 1],
            [5, 0, 0, 1, 0, 0, 0, 0],
            [6, 0, 0, 1, 0, 0, 0, 0],
            [3, 0, 0, 1, 0, 0, 0, 1],
        ];
        for bytes in refused {
            assert_eq!(Parser::default().head(&bytes), (HEAD, Some(Err(Malformed))), "{bytes:?}");
        }
        assert_eq!(Parser::default().head(&[2, 0, 0, 1, 0, 1, 0, 0]), (HEAD, Some(Ok(Head::data(1, MOST_DATA)))));
    }
}
