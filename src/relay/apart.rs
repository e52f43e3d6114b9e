//! A future with a place of its own.

use std::pin::Pin;

/// A future in a place of its own, polled through a pointer.
pub type Apart<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes a future in a place of its own: for what is awaited once, or at length, by a task that is woken for every message.
///
/// What is awaited in place is polled by the function that awaits it, whose stack frame then has room for all that any of its futures
/// ever needs: tens of KiB, touched page by page at every wake-up (the probes that guard the stack) long after a handshake is over.
#[inline(never)]
pub fn apart<'a, T, F: Future<Output = T> + Send + 'a>(make: impl FnOnce() -> F) -> Apart<'a, T> {
    Box::pin(make())
}
