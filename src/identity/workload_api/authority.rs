//! Makes `:authority` readable that gRPC clients derive from the path of a Unix socket.
//!
//! gRPC's C core (Python, Ruby, C++) sends the percent-encoded path, gRPC for Java the path itself. Neither is an authority as HTTP/2 has it,
//! and the HTTP/2 library here refuses such a request before anybody can say that nobody reads it
//! (<https://github.com/hyperium/h2/pull/487>, <https://github.com/grpc/grpc/issues/38142>). So the two characters are replaced where they
//! stand. The length stays, and with it the size of the entry in both ends' tables of headers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n` (RFC 9113, 3.4).
const PREFACE: usize = 24;
/// Length, type, flags, stream (RFC 9113, 4.1).
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
/// Of the static table (RFC 7541, appendix A).
const AUTHORITY_INDEX: u64 = 1;
const AUTHORITY: &[u8] = b":authority";

/// A stream whose reads are made readable.
#[derive(Debug)]
pub(super) struct LenientAuthority<S> {
    stream: S,
    frames: Frames,
}

impl<S> LenientAuthority<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, frames: Frames::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for LenientAuthority<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        buffer.filled_mut().iter_mut().skip(before).for_each(|byte| this.frames.pass(byte));
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LenientAuthority<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Follows the frames of one direction, byte by byte.
#[derive(Debug, Default)]
struct Frames {
    passed: usize,
    header: Vec<u8>,
    /// Of the frame's payload: before the header block, the block, and after it.
    before: usize,
    block: usize,
    after: usize,
    padded: bool,
    fields: Fields,
}

impl Frames {
    fn pass(&mut self, byte: &mut u8) {
        if self.passed < PREFACE {
            self.passed += 1;
        } else if self.before > 0 {
            self.before -= 1;
            if std::mem::take(&mut self.padded) {
                self.after = usize::from(*byte).min(self.block);
                self.block -= self.after;
            }
        } else if self.block > 0 {
            self.block -= 1;
            self.fields.pass(byte);
        } else if self.after > 0 {
            self.after -= 1;
        } else {
            self.header.push(*byte);
            if self.header.len() == FRAME_HEADER {
                self.begin();
            }
        }
    }

    fn begin(&mut self) {
        let header = std::mem::take(&mut self.header);
        let &[a, b, c, kind, flags, ..] = header.as_slice() else { return };
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        let is_set = |flag: u8| flags & flag != 0;
        match kind {
            HEADERS => {
                self.fields = Fields::default();
                self.padded = is_set(PADDED);
                self.before = (usize::from(is_set(PADDED)) + if is_set(PRIORITY) { 5 } else { 0 }).min(length);
                self.block = length - self.before;
            }
            CONTINUATION => self.block = length,
            _ => self.after = length,
        }
    }
}

/// Follows a header block (RFC 7541, 6), byte by byte.
#[derive(Debug, Default)]
struct Fields {
    state: State,
    /// The name of the field that is read, if it is written out.
    name: Vec<u8>,
    is_authority: bool,
}

#[derive(Debug, Default)]
enum State {
    /// A field begins.
    #[default]
    Field,
    /// Further bytes of an integer: what it is, its value so far, and by how much the next byte is shifted.
    Integer(Meaning, u64, u32),
    /// A string begins.
    String(Part),
    /// So many bytes of a string are to come; whether they are Huffman's code.
    Bytes(Part, u64, bool),
    /// Something that is not understood: nothing is changed any more.
    Lost,
}

#[derive(Debug, Clone, Copy)]
enum Part {
    Name,
    Value,
}

#[derive(Debug, Clone, Copy)]
enum Meaning {
    /// A field of the tables, or a new size of one: nothing follows.
    Whole,
    /// The name is this entry of the tables; 0: it follows.
    Name,
    /// The length of a string, and whether it is Huffman's code.
    Length(Part, bool),
}

impl Fields {
    fn pass(&mut self, byte: &mut u8) {
        self.state = match std::mem::take(&mut self.state) {
            State::Field => match *byte {
                0x80.. => self.integer(Meaning::Whole, *byte, 0x7f),
                0x40.. => self.integer(Meaning::Name, *byte, 0x3f),
                0x20.. => self.integer(Meaning::Whole, *byte, 0x1f),
                _ => self.integer(Meaning::Name, *byte, 0x0f),
            },
            State::Integer(meaning, value, shift) if shift < 28 => {
                let value = value + (u64::from(*byte & 0x7f) << shift);
                match *byte & 0x80 {
                    0 => self.complete(meaning, value),
                    _ => State::Integer(meaning, value, shift + 7),
                }
            }
            State::String(part) => self.integer(Meaning::Length(part, *byte & 0x80 != 0), *byte, 0x7f),
            State::Bytes(part, left, is_huffman) => {
                self.string_byte(part, byte, is_huffman);
                match left {
                    0 | 1 => self.end_of(part),
                    _ => State::Bytes(part, left - 1, is_huffman),
                }
            }
            State::Integer(..) | State::Lost => State::Lost,
        };
    }

    /// RFC 7541, 5.1.
    fn integer(&mut self, meaning: Meaning, byte: u8, most: u8) -> State {
        match byte & most {
            value if value < most => self.complete(meaning, u64::from(value)),
            value => State::Integer(meaning, u64::from(value), 0),
        }
    }

    fn complete(&mut self, meaning: Meaning, value: u64) -> State {
        match (meaning, value) {
            (Meaning::Whole, _) => State::Field,
            (Meaning::Name, 0) => State::String(Part::Name),
            (Meaning::Name, index) => {
                self.is_authority = index == AUTHORITY_INDEX;
                State::String(Part::Value)
            }
            (Meaning::Length(part, _), 0) => self.end_of(part),
            (Meaning::Length(part, is_huffman), length) => State::Bytes(part, length, is_huffman),
        }
    }

    fn string_byte(&mut self, part: Part, byte: &mut u8, is_huffman: bool) {
        match part {
            // One byte more than is compared, so that a longer name is another one.
            Part::Name if !is_huffman && self.name.len() <= AUTHORITY.len() => self.name.push(*byte),
            Part::Value if !is_huffman && self.is_authority && matches!(*byte, b'%' | b'/') => *byte = b'.',
            Part::Name | Part::Value => {}
        }
    }

    fn end_of(&mut self, part: Part) -> State {
        match part {
            Part::Name => {
                self.is_authority = std::mem::take(&mut self.name) == AUTHORITY;
                State::String(Part::Value)
            }
            Part::Value => State::Field,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bytes: &[u8]) -> Vec<u8> {
        let (mut frames, mut bytes) = (Frames::default(), bytes.to_vec());
        bytes.iter_mut().for_each(|byte| frames.pass(byte));
        bytes
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn literal(first: u8, name: &str, value: &str) -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        let name = if name.is_empty() { Vec::new() } else { text(name) };
        [vec![first], name, text(value)].concat()
    }

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[test]
    fn the_path_of_a_socket_becomes_an_authority_of_the_same_length() {
        let path = literal(0x44, "", "/SpiffeWorkloadAPI/FetchX509SVID");
        for (sent, readable) in
            [("tmp%2Fapi.sock", "tmp.2Fapi.sock"), ("/tmp/api.sock", ".tmp.api.sock"), ("localhost", "localhost")]
        {
            for (first, name) in [(0x41, ""), (0x40, ":authority"), (0x10, ":authority"), (0x01, "")] {
                let block = |value: &str| [&[0x83, 0x86][..], &path, &literal(first, name, value), &path].concat();
                let padded = |value: &str| {
                    let block = block(value);
                    frame(HEADERS, PADDED | PRIORITY, &[&[2, 0, 0, 0, 0, 9], &block[..], b"//"].concat())
                };
                let split = |value: &str| {
                    let block = block(value);
                    let (one, other) = block.split_at(50);
                    [frame(HEADERS, 0, one), frame(CONTINUATION, 0x4, other)].concat()
                };
                let settings = frame(4, 0, &[0, 3, 0, 0, 0, 47]);
                let all = |value| [PREFACE, &settings, &padded(value), &frame(0, 0, b"/%"), &split(value)].concat();
                assert_eq!(passed(&all(sent)), all(readable), "{first:#x} {sent}");
            }
        }
    }

    #[test]
    fn other_fields_and_bytes_stay_as_they_are() {
        let long = format!("x-{}", "/".repeat(120));
        let fields = [
            literal(0x40, ":authority2", "a/b%"),
            literal(0x40, ":authorit", "a/b%"),
            literal(0x40, "x", &long),
            vec![0x41, 0x83, b'/', b'%', b'/'],
            vec![0x3f, 0xe1, 0x1f],
            literal(0x42, "", "/"),
        ];
        for field in fields {
            let sent = [PREFACE, &frame(HEADERS, 0x4, &field), &frame(0, 1, b"%//%")].concat();
            assert_eq!(passed(&sent), sent);
        }
    }

    #[test]
    fn whatever_bytes_come_pass() {
        let noise: Vec<u8> = (0..20_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for start in 0..200 {
            assert_eq!(passed(&[PREFACE, &noise[start..]].concat()).len(), PREFACE.len() + noise.len() - start);
        }
    }
}
