//! What the guard says about a head: the limits it judges by, and its verdicts.

use std::error::Error;
use std::io;
use std::time::Duration;

/// Limits of request heads on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Longest head in bytes, from the first byte of the request line to the last of the empty line (431 above).
    pub header_bytes: usize,
    /// Most field lines in a head (431 above).
    pub header_count: usize,
    /// Longest request target in bytes (414 above). `http::Uri` ends at 65,534, so more is taken as that.
    pub uri_bytes: usize,
    /// From the first byte of a head to its last (408 after).
    pub header_read_timeout: Duration,
    /// Between two requests without a byte; the connection is closed after.
    pub idle_timeout: Duration,
}

/// How the end of a request's body is found (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    Empty,
    /// A body of this many bytes, as `content-length` said.
    Length(u64),
    /// A chunked body.
    Chunked,
}

/// What the guard knows of a head that passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadFacts {
    /// How the body ends.
    pub framing: Framing,
    /// A GET of HTTP/1.1 with an `upgrade` field: no byte after this request passes until the service calls
    /// [`upgrade_accepted`](super::GuardHandle::upgrade_accepted) or [`upgrade_declined`](super::GuardHandle::upgrade_declined).
    pub asks_upgrade: bool,
    /// The head's length in bytes.
    pub bytes: usize,
}

/// The verdict on one head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadVerdict {
    /// The head reached hyper byte for byte.
    Passed(HeadFacts),
    /// The request that hyper reports is a stand-in; reply with this, and the connection ends.
    Refused(HeadRefusal),
}

/// Why a head, or the framing of a body, was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HeadRefusal {
    /// The status to answer with: 400, 408, 414, 431, 501 or 505; 502 for an upstream's response.
    pub status: u16,
    /// The rule that was broken, in stable kebab-case: `bare-lf`.
    pub rule: &'static str,
    /// What was wrong, for the record and the reply's body.
    pub message: String,
}

impl HeadRefusal {
    pub(super) fn new(status: u16, rule: &'static str, message: impl Into<String>) -> Self {
        Self { status, rule, message: message.into() }
    }

    /// A refusal with status 400.
    pub(super) fn bad(rule: &'static str, message: impl Into<String>) -> Self {
        Self::new(400, rule, message)
    }

    /// The refusal that made an error of hyper, or of a request body: it looks through all sources.
    pub fn find<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Self> {
        find_cause(error)
    }

    pub(super) fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self)
    }
}

/// The first error of type `E` in a chain of sources, those wrapped in an [`io::Error`] included:
/// the `source` of an `io::Error` is that of the wrapped error, so the wrapped one has to be asked for.
pub(crate) fn find_cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        if let Some(inner) = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            return find_cause(inner);
        }
        next = error.source();
    }
    None
}

/// Bytes of a peer, fit for a message: escaped, and cut after 48 bytes.
pub(super) fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 48;
    match bytes.get(..MOST) {
        Some(head) if bytes.len() > MOST => format!("`{}…`", head.escape_ascii()),
        _ => format!("`{}`", bytes.escape_ascii()),
    }
}
