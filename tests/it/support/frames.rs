//! HTTP/2 frame by frame (RFC 9113), for floods and heads that no library would send.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::within;

/// RFC 9113, 6: the frame types that tests send or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Other(u8),
}

impl FrameKind {
    const KNOWN: [(u8, Self); 9] = [
        (0, Self::Data),
        (1, Self::Headers),
        (2, Self::Priority),
        (3, Self::Reset),
        (4, Self::Settings),
        (6, Self::Ping),
        (7, Self::GoAway),
        (8, Self::WindowUpdate),
        (9, Self::Continuation),
    ];

    fn byte(self) -> u8 {
        match self {
            Self::Other(byte) => byte,
            known => Self::KNOWN.iter().find(|(_, kind)| *kind == known).map_or(0xff, |(byte, _)| *byte),
        }
    }

    fn of(byte: u8) -> Self {
        Self::KNOWN.iter().find(|(known, _)| *known == byte).map_or(Self::Other(byte), |(_, kind)| *kind)
    }
}

/// RFC 9113, 6: flags.
pub(crate) mod flags {
    pub(crate) const ACK: u8 = 0x1;
    pub(crate) const END_STREAM: u8 = 0x1;
    pub(crate) const END_HEADERS: u8 = 0x4;
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    pub(crate) fn new(kind: FrameKind, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A whole head that ends its stream. Fields go out as they are given, in this order, valid or not.
    pub(crate) fn head(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self::new(FrameKind::Headers, flags::END_HEADERS | flags::END_STREAM, stream, field_block(fields))
    }

    /// A head whose body follows in DATA frames.
    pub(crate) fn open_head(stream: u32, fields: &[(&str, &str)]) -> Self {
        Self { flags: flags::END_HEADERS, ..Self::head(stream, fields) }
    }

    pub(crate) fn data(stream: u32, payload: &[u8], end: bool) -> Self {
        Self::new(FrameKind::Data, if end { flags::END_STREAM } else { 0 }, stream, payload)
    }

    pub(crate) fn settings(pairs: &[(u16, u32)]) -> Self {
        let payload: Vec<u8> =
            pairs.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()).collect();
        Self::new(FrameKind::Settings, 0, 0, payload)
    }

    pub(crate) fn ping() -> Self {
        Self::new(FrameKind::Ping, 0, 0, [0; 8])
    }

    pub(crate) fn reset(stream: u32, code: u32) -> Self {
        Self::new(FrameKind::Reset, 0, stream, code.to_be_bytes())
    }

    pub(crate) fn window_update(stream: u32, increment: u32) -> Self {
        Self::new(FrameKind::WindowUpdate, 0, stream, increment.to_be_bytes())
    }

    pub(crate) fn priority(stream: u32) -> Self {
        Self::new(FrameKind::Priority, 0, stream, [0, 0, 0, 0, 16])
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).expect("a test's frame is small").to_be_bytes();
        let head = [&length[1..], &[self.kind.byte(), self.flags], &self.stream.to_be_bytes()].concat();
        [head, self.payload.clone()].concat()
    }

    /// The error code of a RST_STREAM or GOAWAY.
    pub(crate) fn error_code(&self) -> u32 {
        let at = if self.kind == FrameKind::GoAway { 4 } else { 0 };
        let code = self.payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        u32::from_be_bytes(code.unwrap_or_else(|| panic!("no error code in {self:?}")))
    }
}

/// RFC 7541, 6.2.2: literal fields without indexing, new names, no Huffman code: any byte can be sent.
pub(crate) fn field_block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// RFC 7541, 5.1, with a prefix of 7 bits and the Huffman bit clear.
fn integer(block: &mut Vec<u8>, value: usize) {
    let small = |value: usize| u8::try_from(value).unwrap_or(u8::MAX);
    if value < 127 {
        return block.push(small(value));
    }
    block.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        block.push(small(rest % 128) | 128);
        rest /= 128;
    }
    block.push(small(rest));
}

/// The head of a plain GET, for floods.
pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "upstream.test"), (":path", "/")];

/// An HTTP/2 connection on which a test writes frames.
#[derive(Debug)]
pub(crate) struct FrameConnection<S> {
    stream: S,
    received: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FrameConnection<S> {
    /// Sends the preface and empty SETTINGS.
    pub(crate) async fn open(stream: S) -> Self {
        let mut connection = Self { stream, received: Vec::new() };
        connection.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        connection.send(&Frame::settings(&[])).await;
        connection
    }

    /// Sends a frame; false when the other side is gone.
    pub(crate) async fn send(&mut self, frame: &Frame) -> bool {
        self.write(&frame.encode()).await
    }

    /// Sends bytes; false when the other side is gone.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        within("the other side to read", written).await.is_ok()
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decode() {
                return Some(frame);
            }
            let read = within("a frame or the end", self.stream.read_buf(&mut self.received)).await;
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    /// The next frame of this kind, skipping others; `None` at the end of the connection.
    pub(crate) async fn next_of(&mut self, kind: FrameKind) -> Option<Frame> {
        while let Some(frame) = self.next().await {
            if frame.kind == kind {
                return Some(frame);
            }
        }
        None
    }

    fn decode(&mut self) -> Option<Frame> {
        let &[a, b, c, kind, flags, d, e, f, g] = self.received.first_chunk::<9>()?;
        let end = 9 + usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        let payload = self.received.get(9..end)?.to_vec();
        self.received.drain(..end);
        let stream = u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff;
        Some(Frame { kind: FrameKind::of(kind), flags, stream, payload })
    }
}

#[test]
fn a_frame_is_nine_bytes_and_its_payload() {
    let frame = Frame::head(1, &[("a", "b")]);
    assert_eq!(frame.encode(), [0, 0, 5, 1, 5, 0, 0, 0, 1, 0, 1, b'a', 1, b'b']);
}

#[test]
fn a_long_field_has_its_length_in_several_bytes() {
    // RFC 7541, C.1.2 has 1337 with a prefix of 5 bits; with 7 it is 127, then 1210 = 9 * 128 + 58.
    let block = field_block(&[("n", &"v".repeat(1337))]);
    assert_eq!(block[..6], [0, 1, b'n', 127, 58 | 128, 9]);
}
