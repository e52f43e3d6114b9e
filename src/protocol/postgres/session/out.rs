//! Bytes on their way out: many small messages make one piece, large ones go on as they came.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncWrite;

/// From here on it is cheaper to hand a piece on than to copy it.
const LARGE: usize = 8 * 1024;

/// What has still to be written to one side.
#[derive(Debug, Default)]
pub(super) struct Out {
    pieces: VecDeque<Bytes>,
    tail: BytesMut,
    waiting: usize,
    unflushed: bool,
}

impl Out {
    /// Adds bytes.
    pub(super) fn push(&mut self, bytes: Bytes) {
        self.waiting += bytes.len();
        if bytes.len() < LARGE {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.cut();
            self.pieces.push_back(bytes);
        }
    }

    /// Adds what `write` writes.
    pub(super) fn put(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let before = self.tail.len();
        write(&mut self.tail);
        self.waiting += self.tail.len() - before;
    }

    /// Only the first `length` bytes of what waits are to be written.
    pub(super) fn truncate(&mut self, length: usize) {
        while self.waiting > length {
            let excess = self.waiting - length;
            let last = match self.tail.is_empty() {
                false => self.tail.len(),
                true => self.pieces.back().map_or(excess, Bytes::len),
            };
            let cut = excess.min(last);
            match self.tail.is_empty() {
                false => self.tail.truncate(last - cut),
                true if cut == last => drop(self.pieces.pop_back()),
                true => self.pieces.back_mut().into_iter().for_each(|piece| piece.truncate(last - cut)),
            }
            self.waiting -= cut;
        }
    }

    /// How many bytes wait.
    pub(super) const fn len(&self) -> usize {
        self.waiting
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }

    /// Writes until nothing waits and all of it has been flushed.
    pub(super) fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.waiting > 0 {
            let piece: &[u8] = match self.pieces.front() {
                Some(piece) => piece,
                None => &self.tail,
            };
            let written = ready!(Pin::new(&mut *to).poll_write(cx, piece))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(written);
        }
        if self.unflushed {
            ready!(Pin::new(to).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.waiting -= written;
        match self.pieces.front_mut() {
            Some(piece) => {
                piece.advance(written);
                if piece.is_empty() {
                    self.pieces.pop_front();
                }
            }
            None if self.waiting == 0 => self.tail.clear(),
            None => self.tail.advance(written),
        }
    }

    /// Takes everything that waits.
    #[cfg(test)]
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.cut();
        self.waiting = 0;
        self.pieces.drain(..).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_the_end_of_what_waits() {
        let long = vec![b'x'; LARGE];
        for length in [0, 1, 2, 3, LARGE, LARGE + 3, LARGE + 4, LARGE + 6] {
            let mut out = Out::default();
            out.push(Bytes::from_static(b"one"));
            out.push(Bytes::from(long.clone()));
            out.push(Bytes::from_static(b"two"));
            out.truncate(length);
            assert_eq!(out.len(), length);
            let all = [&b"one"[..], &long, b"two"].concat();
            assert_eq!(out.take(), all[..length]);
        }
    }
}
