//! Messages with a tag and a length, cut out of a stream.

use std::io;

use bytes::{Buf as _, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Tag and length.
const HEAD: usize = 5;
/// What is read at once: as many bytes as a TLS record may hold.
const READ_BYTES: usize = 16 * 1024;
/// `MaxAllocSize` of the server: no message is longer (`PQ_LARGE_MESSAGE_LIMIT`, `libpq.h`).
const LARGE: usize = 0x3fff_fffe;
/// `PQ_SMALL_MESSAGE_LIMIT` of the server, for messages of clients that are never long.
const SMALL: usize = 10_000;
/// libpq takes a longer message for lost synchronisation unless its kind may be long (`VALID_LONG_MESSAGE_TYPE`, `fe-protocol3.c`).
const SMALL_OF_SERVER: usize = 30_000;

/// What is kept of an error or a notice: `SELECT repeat('9', 500000000)::int` has one of half a gigabyte, which no session may hold.
const MOST_WORDS: usize = 1024 * 1024;
/// Longest result of a function-call message, which is held whole.
const LONGEST_RETURNED: usize = 16 * 1024 * 1024;

/// Whose messages are read: which kinds there are, and how long each may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::protocol::postgres) enum Side {
    /// A client's.
    Client {
        /// Longest message that is no COPY data.
        message_bytes: usize,
    },
    /// A server's.
    Server,
}

/// One message as it came: tag, length and body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::protocol::postgres) struct Frame {
    bytes: Bytes,
}

/// Bytes of messages that nobody has to look at, in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::protocol::postgres) struct Passed {
    /// The bytes; may end, or begin, in the middle of a message.
    pub(in crate::protocol::postgres) bytes: Bytes,
    /// How many messages begin in them.
    pub(in crate::protocol::postgres) begun: u64,
}

/// Cuts a stream into messages. Holds at most one message and what came behind it in the same read.
#[derive(Debug)]
pub(in crate::protocol::postgres) struct FrameReader {
    side: Side,
    buffer: BytesMut,
    /// Of a message that is being passed on in pieces: how many bytes are still to come.
    owed: usize,
    /// Of an error or a notice that was cut: how many bytes are still to come and to be thrown away.
    dropped: usize,
}

/// Why a stream is no sequence of messages.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(in crate::protocol::postgres) enum FrameError {
    #[error("`{}` is no message type", tag.escape_ascii())]
    Tag { tag: u8 },
    #[error("message `{}` says that it is {length} bytes long, which is less than its own length", tag.escape_ascii())]
    TooShort { tag: u8, length: u32 },
    #[error("message `{}` is {length} bytes long, longest is {longest}", tag.escape_ascii())]
    TooLong { tag: u8, length: u32, longest: usize },
}

impl FrameError {
    /// The rule, as records name it.
    pub(in crate::protocol::postgres) const fn rule(&self) -> &'static str {
        match self {
            Self::Tag { .. } => "message-type",
            Self::TooShort { .. } => "message-length",
            Self::TooLong { .. } => "message-too-long",
        }
    }
}

impl Side {
    /// How long a message of this type may be, its length field included; none if there is no such type.
    fn longest(self, tag: u8) -> Option<usize> {
        match (self, tag) {
            // Bind, Function call, Parse, password and SASL, Query.
            (Self::Client { message_bytes }, b'B' | b'F' | b'P' | b'Q') => Some(message_bytes.min(LARGE)),
            (Self::Client { message_bytes }, b'p') => Some(message_bytes.min(65_536)),
            // Close, CopyDone, Describe, Execute, CopyFail, Flush, Sync, Terminate.
            (Self::Client { message_bytes }, b'C' | b'c' | b'D' | b'E' | b'f' | b'H' | b'S' | b'X') => {
                Some(message_bytes.min(SMALL))
            }
            (_, b'd') => Some(LARGE),
            (Self::Server, b'V') => Some(LONGEST_RETURNED),
            (Self::Server, b'T' | b'D' | b'E' | b'N' | b'A' | b't') => Some(LARGE),
            (
                Self::Server,
                b'R' | b'K' | b'S' | b'Z' | b'1' | b'2' | b'3' | b'C' | b'c' | b'G' | b'H' | b'W' | b'I' | b'n' | b's'
                | b'v',
            ) => Some(SMALL_OF_SERVER),
            _ => None,
        }
    }

    /// The length of the message that `bytes` begins with, its tag included; none if its head is not there yet.
    fn total(self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEAD>() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]);
        let longest = self.longest(tag).ok_or(FrameError::Tag { tag })?;
        match usize::try_from(length) {
            Ok(bytes) if bytes < 4 => Err(FrameError::TooShort { tag, length }),
            Ok(bytes) if bytes <= longest => Ok(Some(bytes + 1)),
            _ => Err(FrameError::TooLong { tag, length, longest }),
        }
    }
}

impl Frame {
    /// What kind of message it is.
    pub(in crate::protocol::postgres) fn tag(&self) -> u8 {
        self.bytes.first().copied().unwrap_or(0)
    }

    /// What follows the length.
    pub(in crate::protocol::postgres) fn body(&self) -> &[u8] {
        self.bytes.get(HEAD..).unwrap_or_default()
    }

    /// The whole message, to be forwarded as it is.
    pub(in crate::protocol::postgres) fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The whole message.
    pub(in crate::protocol::postgres) fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl FrameReader {
    /// A reader of what `side` sends; `buffered` has been read already.
    pub(in crate::protocol::postgres) fn new(side: Side, buffered: BytesMut) -> Self {
        Self { side, buffer: buffered, owed: 0, dropped: 0 }
    }

    /// Reads once; 0 at the end of the stream.
    ///
    /// # Errors
    /// The stream's own.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(in crate::protocol::postgres) async fn fill<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
    ) -> io::Result<usize> {
        self.fill_up(from, READ_BYTES).await
    }

    /// The same with room for at least `room` bytes.
    ///
    /// # Errors
    /// The stream's own.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub(in crate::protocol::postgres) async fn fill_up<R: AsyncRead + Unpin>(
        &mut self,
        from: &mut R,
        room: usize,
    ) -> io::Result<usize> {
        self.buffer.reserve(room);
        from.read_buf(&mut self.buffer).await
    }

    /// The next message that is wholly there. None while one is being passed on in pieces. Errors and notices are cut where they get too long
    /// to be held.
    ///
    /// # Errors
    /// What comes next is no message: nothing more can be read.
    pub(in crate::protocol::postgres) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        self.drop_rest();
        if self.owed > 0 || self.dropped > 0 {
            return Ok(None);
        }
        match self.side.total(&self.buffer)? {
            Some(total) if total > MOST_WORDS && self.has_words() => Ok(self.cut(total)),
            Some(total) if total <= self.buffer.len() => {
                Ok(Some(Frame { bytes: self.buffer.split_to(total).freeze() }))
            }
            _ => Ok(None),
        }
    }

    fn has_words(&self) -> bool {
        matches!((self.side, self.buffer.first()), (Side::Server, Some(b'E' | b'N')))
    }

    /// The beginning of an error or a notice, as one that ends there; the rest of it is thrown away when it comes.
    fn cut(&mut self, total: usize) -> Option<Frame> {
        if self.buffer.len() < MOST_WORDS {
            return None;
        }
        let mut words = self.buffer.split_to(MOST_WORDS);
        self.dropped = total - MOST_WORDS;
        // Not within a letter: UTF-8 has at most three bytes behind the first.
        let letter = words.iter().rev().take(4).position(|byte| byte & 0xC0 != 0x80).map_or(0, |at| at + 1);
        words.truncate(MOST_WORDS - letter);
        words.extend_from_slice(&[0, 0]);
        let length = u32::try_from(words.len() - 1).unwrap_or(u32::MAX);
        words.iter_mut().skip(1).zip(length.to_be_bytes()).for_each(|(byte, of_length)| *byte = of_length);
        self.drop_rest();
        Some(Frame { bytes: words.freeze() })
    }

    fn drop_rest(&mut self) {
        let there = self.dropped.min(self.buffer.len());
        self.buffer.advance(there);
        self.dropped -= there;
    }

    /// Everything that is there of messages whose types are in `tags`, as one piece, however many they are and though the last one
    /// may still be under way: what need not be looked at is not cut, and a long message is never held whole.
    ///
    /// # Errors
    /// What comes next, behind messages of these types, is no message. Those before it have been lost: the stream is to be closed.
    pub(in crate::protocol::postgres) fn pass(&mut self, tags: &[u8]) -> Result<Option<Passed>, FrameError> {
        self.drop_rest();
        if self.dropped > 0 {
            return Ok(None);
        }
        let mut end = self.owed.min(self.buffer.len());
        self.owed -= end;
        let mut begun = 0;
        while self.owed == 0 {
            let rest = self.buffer.get(end..).unwrap_or_default();
            if !rest.first().is_some_and(|tag| tags.contains(tag)) {
                break;
            }
            let Some(total) = self.side.total(rest)? else { break };
            begun += 1;
            let there = total.min(rest.len());
            end += there;
            self.owed = total - there;
        }
        Ok((end > 0).then(|| Passed { bytes: self.buffer.split_to(end).freeze(), begun }))
    }

    /// Whether a message that is being passed on in pieces has not come to its end.
    pub(in crate::protocol::postgres) const fn is_within(&self) -> bool {
        self.owed > 0
    }

    /// What has been read and not been taken.
    pub(in crate::protocol::postgres) fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// The same, to be read on by another.
    pub(in crate::protocol::postgres) fn into_buffered(self) -> BytesMut {
        self.buffer
    }
}

/// All messages of `bytes`, which arrive in pieces of `piece` bytes; what is left; the error.
pub(super) fn read_all(side: Side, bytes: &[u8], piece: usize) -> (Vec<Frame>, Vec<u8>, Option<FrameError>) {
    let mut reader = FrameReader::new(side, BytesMut::new());
    let mut frames = Vec::new();
    let mut pieces = bytes.chunks(piece);
    loop {
        match reader.next() {
            Ok(Some(frame)) => frames.push(frame),
            Err(error) => {
                return (frames, Vec::new(), Some(error));
            }
            Ok(None) => match pieces.next() {
                Some(piece) => reader.buffer.extend_from_slice(piece),
                None => return (frames, reader.buffer.to_vec(), None),
            },
        }
    }
}

/// The same by passing DataRow and CopyData on in pieces: the bytes passed, how many messages, the others.
pub(super) fn pass_all(side: Side, bytes: &[u8], piece: usize) -> Option<(Vec<u8>, u64, Vec<Frame>)> {
    let mut reader = FrameReader::new(side, BytesMut::new());
    let (mut passed, mut begun, mut frames) = (Vec::new(), 0, Vec::new());
    for piece in bytes.chunks(piece) {
        reader.buffer.extend_from_slice(piece);
        loop {
            if let Some(more) = reader.pass(b"d").ok()? {
                passed.extend_from_slice(&more.bytes);
                begun += more.begun;
            } else if let Some(frame) = reader.next().ok()? {
                frames.push(frame);
            } else {
                break;
            }
        }
    }
    Some((passed, begun, frames))
}
