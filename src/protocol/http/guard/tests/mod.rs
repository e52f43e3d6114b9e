//! Raw bytes against the guard: judged alone ([`attacks`]), and in front of a real hyper server ([`served`]).

mod attacks;
mod conduct;
mod properties;
mod served;
mod speed;

use std::time::Duration;

use super::{Framer, HeadFacts, HeadLimits, HeadRefusal, Stop};

/// Small enough that tests can go over each.
const LIMITS: HeadLimits = HeadLimits {
    header_bytes: 2_048,
    header_count: 16,
    uri_bytes: 256,
    header_read_timeout: Duration::from_secs(10),
    idle_timeout: Duration::from_secs(60),
};

/// What became of a connection's bytes.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    passed: Vec<HeadFacts>,
    released: Vec<u8>,
    stop: Option<Stop>,
}

impl Outcome {
    fn refusal(&self) -> Option<&HeadRefusal> {
        match &self.stop {
            Some(Stop::Refused(refusal) | Stop::Broken(refusal)) => Some(refusal),
            Some(Stop::Withheld) | None => None,
        }
    }
}

/// Judges bytes that come in these pieces, holding back what the framer does not release.
fn judge<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut framer = Framer::new(LIMITS);
    let (mut passed, mut released, mut held) = (Vec::new(), Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        let fine = framer.advance(&held, |facts| passed.push(facts));
        released.extend(held.drain(..fine));
        if framer.stop().is_some() {
            break;
        }
    }
    Outcome { passed, released, stop: framer.stop().cloned() }
}
