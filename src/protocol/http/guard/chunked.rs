//! The framing of a chunked body (RFC 9112, 7.1), scanned in place.

use super::fields::{Field, blame, line};
use super::verdict::{HeadLimits, HeadRefusal, shown};

/// Follows chunks up to the last one. Bytes are looked at as they pass, none are kept.
#[derive(Debug, Default)]
pub(super) struct ChunkScan {
    state: State,
    size: u64,
    digits: u8,
    extension: u16,
    extensions: u16,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
}

/// What ended a scan of chunks.
#[derive(Debug)]
pub(super) enum Chunks {
    /// The bytes.
    More,
    /// The last chunk; the trailer section follows.
    Last,
    /// A byte that may not stand there.
    Broken(HeadRefusal),
}

impl ChunkScan {
    /// Scans `bytes`; the number is how many of them are fine.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> (usize, Chunks) {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.state == State::Data {
                let here = usize::try_from(self.size).unwrap_or(usize::MAX).min(bytes.len() - at);
                self.size -= here as u64;
                at += here;
                if self.size == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            match self.step(*byte) {
                Ok(last) => {
                    at += 1;
                    if last {
                        return (at, Chunks::Last);
                    }
                }
                Err(refusal) => return (at, Chunks::Broken(refusal)),
            }
        }
        (at, Chunks::More)
    }

    /// Takes one byte of framing; `true` if it ends the line of the last chunk.
    fn step(&mut self, byte: u8) -> Result<bool, HeadRefusal> {
        let next = match (self.state, byte) {
            (State::Size, b'\r') if self.digits > 0 => State::SizeLf,
            (State::Size, b';') if self.digits > 0 => State::Extension,
            (State::Size, _) => self.digit(byte)?,
            (State::Extension, b'\r') => State::SizeLf,
            (State::Extension, _) => self.extend(byte)?,
            (State::SizeLf, b'\n') => return Ok(self.size_line_ends()),
            (State::SizeLf, _) => {
                return Err(HeadRefusal::bad("chunk-line-end", "CR in a chunk size line without LF"));
            }
            // CVE-2025-43859: what stands after the data has to be CRLF, not just any two bytes.
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size,
            (State::DataCr | State::DataLf | State::Data, _) => {
                return Err(HeadRefusal::bad(
                    "chunk-data-end",
                    "chunk data does not end with CRLF where its size says",
                ));
            }
        };
        self.state = next;
        Ok(false)
    }

    /// At most 16 digits and 2^53 - 1, a number that no reader of any language takes for another.
    fn digit(&mut self, byte: u8) -> Result<State, HeadRefusal> {
        const MOST: u64 = (1 << 53) - 1;
        let Some(digit) = char::from(byte).to_digit(16) else {
            let rule = if byte == b'\n' { "chunk-line-end" } else { "chunk-size" };
            return Err(HeadRefusal::bad(rule, format!("{} in a chunk size", shown(&[byte]))));
        };
        self.digits += 1;
        self.size = (self.size << 4) | u64::from(digit);
        if self.digits > 16 || self.size > MOST {
            return Err(HeadRefusal::bad("chunk-size", format!("chunk size is over {MOST} bytes or 16 digits")));
        }
        Ok(State::Size)
    }

    /// RFC 9112, 7.1.1: unknown extensions are ignored and end at this hop, and a server ought to bound them. Visible
    /// ASCII only: blanks, quotes with CR or LF, and lone LF are what readers disagree about.
    fn extend(&mut self, byte: u8) -> Result<State, HeadRefusal> {
        const MOST: u16 = 256;
        const MOST_IN_BODY: u16 = 8_192;
        if !byte.is_ascii_graphic() {
            let rule = if byte == b'\n' { "chunk-line-end" } else { "chunk-extension" };
            return Err(HeadRefusal::bad(rule, format!("{} in a chunk extension", shown(&[byte]))));
        }
        self.extension += 1;
        self.extensions += 1;
        if self.extension > MOST || self.extensions > MOST_IN_BODY {
            let message = format!("chunk extension over {MOST} bytes, or {MOST_IN_BODY} in a body");
            return Err(HeadRefusal::bad("chunk-extension", message));
        }
        Ok(State::Extension)
    }

    fn size_line_ends(&mut self) -> bool {
        (self.digits, self.extension) = (0, 0);
        self.state = State::Data;
        self.size == 0
    }
}

/// The trailer section of a chunked body, which is released as a whole once it is complete.
#[derive(Debug, Default)]
pub(super) struct TrailerScan {
    line: usize,
    searched: usize,
    fields: usize,
}

impl TrailerScan {
    /// Goes on with a section; `bytes` starts at its first byte. `Some`: its length.
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<usize>, HeadRefusal> {
        // hyper stops at 16 KiB and `max_headers`; below that it never refuses what was judged here.
        const MOST_BYTES: usize = 8_192;
        const MOST_FIELDS: usize = 64;
        let most = limits.header_bytes.min(MOST_BYTES);
        loop {
            let complete = line(bytes, self.line, self.searched);
            if complete.as_ref().map_or(bytes.len(), |line| line.next) > most {
                return Err(HeadRefusal::new(
                    431,
                    "trailer-bytes",
                    format!("trailer section is longer than {most} bytes"),
                ));
            }
            let Some(line) = complete else {
                self.searched = bytes.len();
                return Ok(None);
            };
            (self.line, self.searched) = (line.next, line.next);
            let text = line.text?;
            if text.is_empty() {
                return Ok(Some(line.next));
            }
            self.fields += 1;
            let most = limits.header_count.min(MOST_FIELDS);
            if self.fields > most {
                let refusal = HeadRefusal::new(431, "trailer-count", format!("more than {most} trailer fields"));
                return Err(blame(text, refusal));
            }
            judge_trailer(text).map_err(|refusal| blame(text, refusal))?;
        }
    }
}

/// RFC 9110, 6.5.1: no framing, routing, request modifiers or authentication in trailers. A peer's identity fields
/// are removed from trailers as they are from heads, where fields are chosen.
fn judge_trailer(text: &[u8]) -> Result<(), HeadRefusal> {
    const FORBIDDEN: [&str; 18] = [
        "authorization",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "content-type",
        "cookie",
        "expect",
        "host",
        "keep-alive",
        "max-forwards",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let field = Field::parse(text)?;
    match FORBIDDEN.iter().find(|name| field.is(name)) {
        Some(name) => Err(HeadRefusal::bad("trailer-forbidden", format!("trailer field `{name}`"))),
        None => Ok(()),
    }
}
