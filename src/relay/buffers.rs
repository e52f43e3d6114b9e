//! Buffers that connections of a thread take turns with: an idle connection holds none.

use std::cell::RefCell;

/// The largest TLS record that we write, as a whole. One of the full 16 KiB would be of a size for which the allocator goes through half a
/// MiB before it comes back to memory that it has just given out: what is copied into a record would miss the caches each time.
pub const RECORD_BYTES: usize = 8 * 1024;
/// What such a record carries, beside its head, type and tag (5, 1 and 16 bytes in TLS 1.3; RFC 8446, 5.2).
pub const RECORD_PAYLOAD: usize = RECORD_BYTES - 22;
/// The head of a frame of `mux`, which goes into the records with what it carries.
pub const FRAME_HEAD: usize = 8;
/// The largest TLS record that a peer may write (RFC 8446, 5.2), with its head.
const LARGEST_RECORD: usize = 5 + 16 * 1024 + 256;

/// Buffers that a thread keeps for the next that needs one.
const KEPT_BUFFERS: usize = 8;

thread_local! {
    /// Eight records: what rustls takes at once (64 KiB), so that bulk moves with few system calls. The head of a frame that carries it
    /// has its place in them.
    pub(super) static BULK: Buffers = const { Buffers::of(8 * RECORD_PAYLOAD - FRAME_HEAD) };
    /// What a peer can make us hold for each connection that it lets stand: no more than one record.
    pub(super) static AHEAD: Buffers = const { Buffers::of(LARGEST_RECORD) };
}

/// Buffers of one size.
#[derive(Debug)]
pub(super) struct Buffers {
    bytes: usize,
    kept: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    const fn of(bytes: usize) -> Self {
        Self { bytes, kept: RefCell::new(Vec::new()) }
    }

    pub(super) fn take(&self) -> Box<[u8]> {
        let kept = self.kept.borrow_mut().pop();
        kept.unwrap_or_else(|| vec![0; self.bytes].into_boxed_slice())
    }

    pub(super) fn give_back(&self, buffer: Box<[u8]>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() < KEPT_BUFFERS {
            kept.push(buffer);
        }
    }

    /// How many are kept.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.kept.borrow().len()
    }
}
