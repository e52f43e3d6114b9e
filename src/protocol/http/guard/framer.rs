//! Follows the requests of a connection byte by byte: heads, bodies and what is between them. No I/O.

use std::time::Duration;

use super::chunked::{ChunkScan, Chunks, TrailerScan};
use super::head::{HeadScan, Scan};
use super::verdict::{Framing, HeadFacts, HeadLimits, HeadRefusal};

/// The state of a connection's inbound bytes. The same bytes give the same verdicts however they are split.
#[derive(Debug)]
pub struct Framer {
    limits: HeadLimits,
    state: State,
    withhold: bool,
    stop: Option<Stop>,
}

/// Why no further byte passes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The next head was refused.
    Refused(HeadRefusal),
    /// The framing of the body that is passing was refused.
    Broken(HeadRefusal),
    /// The request that just ended asked for an upgrade, and the service has not said.
    Withheld,
}

#[derive(Debug)]
enum State {
    Head(HeadScan),
    Sized(u64),
    Chunked(ChunkScan),
    Trailers(TrailerScan),
}

impl Framer {
    /// A connection of which no byte has come.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, state: State::Head(HeadScan::default()), withhold: false, stop: None }
    }

    /// Goes on with `bytes`, which start at the first byte that no earlier call released, and says how many of them
    /// may pass. Each head that is complete is given to `passed`, in order. The rest has to come again with more.
    pub fn advance(&mut self, bytes: &[u8], mut passed: impl FnMut(HeadFacts)) -> usize {
        let mut released = 0;
        while let Some(rest) = bytes.get(released..).filter(|rest| !rest.is_empty() && self.stop.is_none()) {
            let step = self.step(rest, &mut passed);
            if step == 0 {
                break;
            }
            released += step;
        }
        released
    }

    /// Why no further byte passes, if so.
    pub fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Ends the wait after a request that asked for an upgrade: the next head follows.
    pub fn resume(&mut self) {
        if self.stop == Some(Stop::Withheld) {
            self.stop = None;
        }
    }

    /// Refuses the head that is on its way, for a reason outside its bytes.
    pub fn refuse(&mut self, refusal: HeadRefusal) {
        self.stop = Some(Stop::Refused(refusal));
    }

    /// Whether the next byte belongs to a head, or would start one.
    pub fn at_head(&self) -> bool {
        matches!(self.state, State::Head(_)) && self.stop.is_none()
    }

    /// Takes one unit, or a part of one that may pass; 0 if more bytes are needed or it was refused.
    fn step(&mut self, rest: &[u8], passed: &mut impl FnMut(HeadFacts)) -> usize {
        match &mut self.state {
            State::Head(scan) => match scan.scan(rest, &self.limits) {
                Scan::More => 0,
                Scan::Refused(refusal) => self.halt(Stop::Refused(refusal)),
                Scan::Complete(facts) => {
                    passed(facts);
                    self.body(facts);
                    facts.bytes
                }
            },
            State::Sized(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                *left -= here as u64;
                if *left == 0 {
                    self.end();
                }
                here
            }
            State::Chunked(scan) => {
                let (fine, chunks) = scan.scan(rest);
                match chunks {
                    Chunks::More => {}
                    Chunks::Last => self.state = State::Trailers(TrailerScan::default()),
                    Chunks::Broken(refusal) => {
                        self.halt(Stop::Broken(refusal));
                    }
                }
                fine
            }
            State::Trailers(scan) => match scan.scan(rest, &self.limits) {
                Ok(None) => 0,
                Err(refusal) => self.halt(Stop::Broken(refusal)),
                Ok(Some(length)) => {
                    self.end();
                    length
                }
            },
        }
    }

    fn halt(&mut self, stop: Stop) -> usize {
        self.stop = Some(stop);
        0
    }

    fn body(&mut self, facts: HeadFacts) {
        self.withhold = facts.asks_upgrade;
        match facts.framing {
            Framing::Empty => self.end(),
            Framing::Length(length) => self.state = State::Sized(length),
            Framing::Chunked => self.state = State::Chunked(ChunkScan::default()),
        }
    }

    fn end(&mut self) {
        self.state = State::Head(HeadScan::default());
        if std::mem::take(&mut self.withhold) {
            self.stop = Some(Stop::Withheld);
        }
    }
}

/// For fuzzing: whatever the bytes, no panic; the same verdicts and the same released bytes whole and byte by byte; and a
/// head that passes has no other line end than CRLF, no NUL, and ends once.
pub fn fuzz(bytes: &[u8]) {
    let limits = HeadLimits {
        header_bytes: 1_024,
        header_count: 12,
        uri_bytes: 128,
        header_read_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(1),
    };
    let mut whole = Framer::new(limits);
    let mut whole_heads = Vec::new();
    let whole_released = whole.advance(bytes, |facts| whole_heads.push(facts));
    let mut cut = Framer::new(limits);
    let (mut cut_heads, mut cut_released) = (Vec::new(), 0);
    for end in 1..=bytes.len() {
        let heads_before = cut_heads.len();
        let held = bytes.get(cut_released..end).unwrap_or_default();
        let step = cut.advance(held, |facts| cut_heads.push(facts));
        cut_released += step;
        if cut_heads.len() > heads_before {
            assert_passed_head(held.get(..step).unwrap_or_default());
        }
        if cut.stop().is_some() {
            break;
        }
    }
    assert_eq!(
        (whole_released, whole_heads, whole.stop()),
        (cut_released, cut_heads, cut.stop()),
        "depends on the cut"
    );
}

fn assert_passed_head(head: &[u8]) {
    let text = head.strip_prefix(b"\r\n").unwrap_or(head);
    let inner = text.strip_suffix(b"\r\n\r\n").unwrap_or_default();
    assert!(!inner.is_empty(), "a head ends with an empty line");
    let mut lines = inner.split(|byte| *byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let line = if lines.peek().is_some() { line.strip_suffix(b"\r").unwrap_or(b"\r") } else { line };
        assert!(!line.is_empty(), "a head ends at its first empty line");
        assert!(!line.iter().any(|byte| matches!(byte, b'\r' | 0)), "a line ends with CRLF and nowhere else");
    }
}
