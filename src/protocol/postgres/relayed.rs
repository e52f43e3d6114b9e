//! A session that nobody looks into: bytes both ways, with a record of how many.

use std::future::pending;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::sleep;

use super::answer::{NOT_PERMITTED, fatal, last_words};
use super::wire::ErrorReply;
use crate::audit::AuditError;
use crate::enforce::{Permit, STARTED_AFTER, Settlement};
use crate::failure::Failure;
use crate::protocol::{Closed, Last, Notice};
use crate::relay::{Ended, Moved, Woken, apart, relay_counted};
use crate::tls::Stay;

/// A session that is relayed. However it ends, it has its final record with what was passed on.
#[derive(Debug)]
pub(super) struct Relayed {
    /// There until the record is written.
    permit: Option<Permit>,
    has_begun: bool,
    moved: Moved,
    /// Of the server.
    messages: Messages,
    /// Bytes that were passed on before the relay began.
    ahead: (u64, u64),
}

impl Relayed {
    pub(super) fn new(permit: Permit) -> Self {
        Self {
            permit: Some(permit),
            has_begun: false,
            moved: Moved::default(),
            messages: Messages::default(),
            ahead: (0, 0),
        }
    }

    /// Writes the record of its beginning.
    pub(super) fn begin(&mut self) -> Result<(), AuditError> {
        self.has_begun = true;
        self.permit.as_ref().map_or(Ok(()), Permit::record_started)
    }

    /// Notes what was passed on before the relay began: to the server, and from it.
    pub(super) fn passed(&mut self, forth: &[u8], back: &[u8]) {
        self.ahead = (forth.len() as u64, back.len() as u64);
        self.messages.pass(back);
    }

    /// Relays until both sides have closed, nothing moves for `idle`, `ending` says so, or the session's right to be here is lost: by the
    /// policies, or since the upstream's is.
    pub(super) async fn relay(
        mut self,
        mut client: impl AsyncRead + AsyncWrite + Unpin + Send,
        server: impl AsyncRead + AsyncWrite + Unpin + Send,
        idle: Duration,
        ending: impl Future<Output = Notice> + Send,
        (lost, upstream): (impl Future<Output = ()> + Send, Option<Stay>),
    ) -> Closed {
        let mut has_begun = self.has_begun;
        let (cut, between_messages) = {
            let read_before = self.messages.bytes;
            let mut server = Watched { stream: server, messages: &mut self.messages };
            let cut = {
                let mut relaying = pin!(relay_counted(&mut client, &mut server, idle, &self.moved));
                let mut over = Woken::new(apart(|| over(ending, lost, upstream)));
                let started = pin!(sleep(STARTED_AFTER));
                let mut started = Woken::new(started);
                loop {
                    tokio::select! {
                        biased;
                        ended = relaying.as_mut() => break Cut::Relay(ended),
                        () = &mut started, if !has_begun => {
                            has_begun = true;
                            if self.permit.as_ref().is_some_and(|permit| permit.record_started().is_err()) {
                                break Cut::unrecorded();
                            }
                        }
                        cut = &mut over => break cut,
                    }
                }
            };
            let all_passed = self.messages.bytes - read_before == self.moved.back();
            (cut, all_passed && self.messages.is_between())
        };
        // In the middle of a message words would be taken for a part of it.
        if let (Cut::For { words, .. }, true) = (&cut, between_messages) {
            let words = ErrorReply::fatal("57P01", *words);
            apart(|| fatal(&mut client, &words)).await;
        }
        let (reason, error, closed) = cut.told(idle);
        self.settle(reason, error);
        closed
    }

    fn settle(&mut self, reason: Option<&'static str>, error: Option<String>) {
        let Some(permit) = self.permit.take() else { return };
        let (bytes_in, bytes_out) = (self.ahead.0 + self.moved.forth(), self.ahead.1 + self.moved.back());
        let settlement = Settlement { bytes_in, bytes_out, reason, error, ..Settlement::default() };
        if let Err(error) = permit.settle(&settlement) {
            tracing::error!(%error, "a session that ended has no final record");
        }
    }
}

/// Ready when the session has to end though it could go on. Its bytes have no ends here at which to wait for: only who is asked to end
/// has time for that.
async fn over(ending: impl Future<Output = Notice>, lost: impl Future<Output = ()>, upstream: Option<Stay>) -> Cut {
    let was_cut = || "the session was cut".to_owned();
    let told = async {
        let notice = ending.await;
        if notice.last == Last::Asked {
            sleep(notice.over_in.unwrap_or(notice.grace)).await;
        }
        Cut::For { reason: notice.reason, error: was_cut(), words: last_words(&notice) }
    };
    let upstream_over = async {
        match upstream {
            Some(mut stay) => stay.over().await,
            None => pending().await,
        }
    };
    tokio::select! {
        cut = told => cut,
        () = lost => Cut::For { reason: "no-longer-permitted", error: was_cut(), words: NOT_PERMITTED },
        over = upstream_over => Cut::For {
            reason: over.rule,
            error: format!("upstream: {over}"),
            words: "terminating connection: the server's certificate is not valid any more",
        },
    }
}

/// What ended a session.
enum Cut {
    /// The relay itself.
    Relay(Ended),
    /// Something else: reason and error for the record, and the words for the client.
    For { reason: &'static str, error: String, words: &'static str },
}

impl Cut {
    /// The record of the session's beginning could not be written.
    fn unrecorded() -> Self {
        let words = "terminating connection due to administrator command";
        Self::For { reason: "audit", error: Failure::Audit.to_string(), words }
    }

    /// Reason and error for the record, and how the connection closed.
    fn told(self, idle: Duration) -> (Option<&'static str>, Option<String>, Closed) {
        match self {
            Self::Relay(Ended::Closed) => (None, None, Closed::InOrder),
            Self::Relay(Ended::Idle) => (None, Some(format!("no byte moved for {} s", idle.as_secs())), Closed::Idle),
            Self::Relay(Ended::Failed(error)) => {
                let cause = error.to_string();
                (None, Some(cause.clone()), Closed::Failed { cause })
            }
            Self::For { reason, error, .. } => (Some(reason), Some(error), Closed::Cut),
        }
    }
}

/// Where the messages of a server end, of which nobody needs to know more: a tag and a length, which counts itself.
#[derive(Debug, Default)]
struct Messages {
    bytes: u64,
    /// What has come of a head.
    head: [u8; 5],
    known: usize,
    /// What is still to come of a body.
    left: usize,
}

impl Messages {
    fn pass(&mut self, mut bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let (into_body, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= into_body.len();
            let open = self.head.get_mut(self.known..).unwrap_or_default();
            let (into_head, rest) = rest.split_at(open.len().min(rest.len()));
            open.iter_mut().zip(into_head).for_each(|(place, byte)| *place = *byte);
            self.known += into_head.len();
            if self.known == self.head.len() {
                let [_, a, b, c, d] = self.head;
                self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(4);
                self.known = 0;
            }
            bytes = rest;
        }
    }

    /// Whether what has come is whole.
    const fn is_between(&self) -> bool {
        self.left == 0 && self.known == 0
    }
}

/// A server whose messages are watched as they pass.
struct Watched<'m, S> {
    stream: S,
    messages: &'m mut Messages,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let read = buffer.filled().get(before..).unwrap_or_default();
        self.messages.pass(read);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.settle(Some("cut"), Some("the connection was cut".into()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_end_where_they_end_however_they_are_cut(bodies in prop::collection::vec(0_u32..40, 1..8), cuts in prop::collection::vec(1_usize..20, 1..40)) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for length in bodies {
                bytes.push(b'D');
                bytes.extend_from_slice(&(length + 4).to_be_bytes());
                bytes.extend(std::iter::repeat_n(b'x', length as usize));
                ends.push(bytes.len());
            }
            let (mut messages, mut at) = (Messages::default(), 0);
            for cut in cuts.iter().cycle() {
                prop_assert_eq!(messages.is_between(), ends.contains(&at), "at {}", at);
                if at == bytes.len() {
                    break;
                }
                let next = (at + cut).min(bytes.len());
                messages.pass(&bytes[at..next]);
                at = next;
            }
            prop_assert_eq!(messages.bytes, bytes.len() as u64);
        }
    }
}
