//! Buffers that connections of a thread take turns with: an idle connection holds none.

use std::cell::RefCell;

/// Four TLS records (16 KiB each, RFC 8446, 5.1): what rustls takes at once, so that bulk moves with few system calls.
const BUFFER_BYTES: usize = 64 * 1024;
/// Buffers that a thread keeps for the next that needs one.
const KEPT_BUFFERS: usize = 8;

thread_local! {
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn take_buffer() -> Box<[u8]> {
    let kept = BUFFERS.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice())
}

pub(super) fn give_back(buffer: Box<[u8]>) {
    BUFFERS.with_borrow_mut(|kept| {
        if kept.len() < KEPT_BUFFERS {
            kept.push(buffer);
        }
    });
}

/// How many buffers this thread keeps.
#[cfg(test)]
pub(super) fn kept() -> usize {
    BUFFERS.with_borrow(Vec::len)
}
