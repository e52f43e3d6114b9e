//! The frame meter: it counts HTTP/2 frames that cost a server work and carry nothing, and ends a connection that floods.
//!
//! It stands between TLS and hyper and reads only the 9-byte frame headers (RFC 9113, 4.1) as bytes pass in either
//! direction; nothing is copied or held. What h2 0.4.20 limits by itself, and how it is to be told (hyper's
//! `server::conn::http2::Builder`; what is not settable there is h2's constant):
//!
//! | attack | h2's limit | setting, recommended |
//! |---|---|---|
//! | rapid reset (CVE-2023-44487): streams reset before they are accepted | GOAWAY `too_many_resets` | `max_pending_accept_reset_streams(20)` (h2's default) |
//! | resets that the peer provokes (CVE-2025-8671, MadeYouReset), streams over the limit | GOAWAY `too_many_internal_resets`, a count for the connection's life | `max_local_error_reset_streams(Some(1_024))` (hyper's default; `None` would lift it) |
//! | CONTINUATION (VU#421644) | GOAWAY `too_many_continuations` above list size / frame size + 25 %, at least 5 | `max_header_list_size(header_bytes)`, default 16 KiB |
//! | header list larger than allowed (HPACK bombs) | 431 from h2, GOAWAY far above | the same |
//! | streams | refused above, and counted as a local reset | `max_concurrent_streams(concurrent_streams)`, hyper's default 200 |
//! | small and empty DATA (CVE-2019-9518) without END_STREAM | GOAWAY `too_many_data_frames`: 100 empty ones in a connection's life; a byte budget of half the connection window for those under 256 bytes | follows `initial_connection_window_size` |
//! | slow readers, large answers | send buffer of a stream | `max_send_buf_size(400 KiB)` (hyper's default); 64 KiB is enough here |
//! | DATA above the window, frames above 16,384 bytes | connection error | `max_frame_size(16_384)`: larger ones only make one stream hold the others up |
//! | a peer that is gone | PING timeout | `keep_alive_interval(idle_timeout / 2)`, `keep_alive_timeout(20 s)`, needs a timer |
//! | RFC 8441 | refused | `enable_connect_protocol` not called |
//!
//! What h2 refuses by itself never reaches the service: a malformed head is a stream that h2 resets, a broken header block or
//! frame the end of the connection. Both are seen here in the frames that go out, so that they have records too.
//!
//! h2 answers every PING and SETTINGS and obeys every PRIORITY and WINDOW_UPDATE without counting; and streams that are
//! accepted and then reset are free of its reset limit. Those are this meter's.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::protocol::Activity;

/// Counts control frames of an HTTP/2 server connection, preface included.
#[derive(Debug)]
pub struct Meter<S> {
    io: S,
    inbound: Frames,
    outbound: Frames,
    bucket: Bucket,
    handle: MeterHandle,
    streams: Arc<dyn StreamErrors>,
}

/// Is told of the streams that were reset because the peer broke the protocol on them.
pub trait StreamErrors: std::fmt::Debug + Send + Sync {
    /// `error` names the code of RFC 9113, 7.
    fn broken_by_peer(&self, stream: u32, error: &'static str);
}

/// Tells what a [`Meter`] has refused.
#[derive(Debug, Clone, Default)]
pub struct MeterHandle(Arc<Ends>);

#[derive(Debug, Default)]
struct Ends {
    flood: OnceLock<MeterRefusal>,
    went_away: OnceLock<&'static str>,
    activity: Activity,
}

impl MeterHandle {
    /// Bytes of heads and bodies, both ways. PINGs are not among them: hyper sends them itself, and an idle peer answers them.
    pub fn activity(&self) -> Activity {
        self.0.activity.clone()
    }

    /// Why the connection was ended, if the meter ended it.
    pub fn refusal(&self) -> Option<MeterRefusal> {
        self.0.flood.get().copied()
    }

    /// The error code of RFC 9113, 7, with which h2 ended the connection because of the peer.
    pub fn went_away(&self) -> Option<&'static str> {
        self.0.went_away.get().copied()
    }
}

/// A flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {per_second} control frames a second that no traffic explains, the last one {frame}")]
pub struct MeterRefusal {
    /// The rule in stable kebab-case, named after the frame that was too much: `h2-ping-flood`.
    pub rule: &'static str,
    /// The limit.
    pub per_second: u32,
    /// The kind of the frame that was too much.
    pub frame: &'static str,
}

impl MeterRefusal {
    /// The refusal behind an error of the metered stream. Not to be asked for behind an error of hyper: h2 keeps only
    /// the text of what its transport says, so there the [`MeterHandle`] knows.
    pub fn find<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        super::guard::find_cause(error)
    }
}

impl<S> Meter<S> {
    /// Meters a connection of which no byte was read; `control_frames_per_second` is the limit of that name.
    pub fn new(io: S, control_frames_per_second: u32, streams: Arc<dyn StreamErrors>) -> (Self, MeterHandle) {
        let handle = MeterHandle::default();
        let bucket = Bucket::new(control_frames_per_second);
        let (inbound, outbound) = (Frames::after_preface(), Frames::default());
        (Self { io, inbound, outbound, bucket, handle: handle.clone(), streams }, handle)
    }

    fn count_inbound(&mut self, bytes: &[u8]) -> Result<(), MeterRefusal> {
        let mut flood = None;
        let (bucket, refused, activity) = (&mut self.bucket, &mut flood, &self.handle.0.activity);
        if self.inbound.carries_content() {
            activity.count(bytes.len());
        }
        self.inbound.pass(bytes, |frame| {
            if is_content(frame.kind) {
                activity.count(HEADER);
            }
            if let Some(cost) = Cost::of(frame)
                && refused.is_none()
                && !bucket.take(cost.explained_by_data)
            {
                *refused = Some(MeterRefusal { rule: cost.rule, per_second: bucket.per_second, frame: cost.frame });
            }
        });
        flood.map_or(Ok(()), Err)
    }

    fn count_outbound(&mut self, bytes: &[u8]) {
        let (bucket, ends, streams) = (&mut self.bucket, &self.handle.0, &self.streams);
        if self.outbound.carries_content() {
            ends.activity.count(bytes.len());
        }
        self.outbound.pass(bytes, |frame| {
            if is_content(frame.kind) {
                ends.activity.count(HEADER);
            }
            bucket.credit(frame.explains());
            match (frame.kind, fault_of_the_peer(frame.error)) {
                (_, None) => {}
                (GOAWAY, Some(error)) => {
                    ends.went_away.get_or_init(|| error);
                }
                // To end a stream with these is the peer's fault only if nothing else was in its way (RFC 9113, 5.1.2, 5.4.2).
                (_, Some("STREAM_CLOSED" | "ENHANCE_YOUR_CALM")) => {}
                (_, Some(error)) => streams.broken_by_peer(frame.stream, error),
            }
        });
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Meter<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(refusal) = this.handle.refusal() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, refusal)));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.io).poll_read(cx, buf))?;
        let Err(refusal) = this.count_inbound(buf.filled().get(before..).unwrap_or_default()) else {
            return Poll::Ready(Ok(()));
        };
        // Frames that came before the one too many, in the same read, are dropped with it.
        buf.set_filled(before);
        let refusal = *this.handle.0.flood.get_or_init(|| refusal);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, refusal)))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Meter<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, buf))?;
        this.count_outbound(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let here = left.min(buf.len());
            this.count_outbound(buf.get(..here).unwrap_or_default());
            left -= here;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// A token bucket, and beside it what this side's own frames explain.
#[derive(Debug)]
struct Bucket {
    per_second: u32,
    tokens: u32,
    explained: u32,
    /// When `tokens` was last filled up. Looked at only when they are used up: most connections never ask for the time.
    filled: Instant,
}

impl Bucket {
    fn new(per_second: u32) -> Self {
        Self { per_second, tokens: per_second, explained: 0, filled: Instant::now() }
    }

    /// Pays for a control frame; `false` if there is nothing left to pay with.
    fn take(&mut self, explained_by_data: bool) -> bool {
        if explained_by_data && self.explained > 0 {
            self.explained -= 1;
            return true;
        }
        if self.tokens == 0 {
            self.refill(Instant::now());
        }
        match self.tokens.checked_sub(1) {
            Some(tokens) => {
                self.tokens = tokens;
                true
            }
            None => false,
        }
    }

    fn refill(&mut self, now: Instant) {
        let earned = now.duration_since(self.filled).as_secs_f64() * f64::from(self.per_second);
        if earned < 1.0 {
            // Not even one frame: keep the time, or asking often enough would never fill it.
            return;
        }
        self.filled = now;
        self.tokens = earned.min(f64::from(self.per_second)) as u32;
    }

    /// Up to 8 seconds' worth can be saved: what a peer that read a window of small frames answers at once.
    fn credit(&mut self, frames: u32) {
        self.explained = self.explained.saturating_add(frames).min(self.per_second.saturating_mul(8));
    }
}

/// What a control frame of the peer costs.
#[derive(Debug, Clone, Copy)]
struct Cost {
    rule: &'static str,
    frame: &'static str,
    explained_by_data: bool,
}

impl Cost {
    fn of(frame: FrameHead) -> Option<Self> {
        // Small fragments make h2 look at a header block anew for each; 1 KiB is far below what honest peers cut.
        const SMALL: u32 = 1_024;
        let cost = |rule, frame, explained_by_data| Some(Self { rule, frame, explained_by_data });
        match frame.kind {
            // gRPC ends a client's stream with an empty DATA frame; END_STREAM comes once a stream.
            DATA if frame.length == 0 && frame.flags & END_STREAM == 0 => cost("h2-empty-data-flood", "DATA", false),
            DATA | HEADERS => None,
            CONTINUATION if frame.length >= SMALL => None,
            CONTINUATION => cost("h2-continuation-flood", "CONTINUATION", false),
            PRIORITY => cost("h2-priority-flood", "PRIORITY", false),
            RST_STREAM => cost("h2-reset-flood", "RST_STREAM", false),
            SETTINGS => cost("h2-settings-flood", "SETTINGS", frame.flags & ACK != 0),
            PING => cost("h2-ping-flood", "PING", true),
            WINDOW_UPDATE => cost("h2-window-update-flood", "WINDOW_UPDATE", true),
            _ => cost("h2-unknown-flood", "of an unknown type", false),
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// The error codes (RFC 9113, 7) by which h2 answers a peer that breaks the protocol.
const fn fault_of_the_peer(error: u32) -> Option<&'static str> {
    match error {
        1 => Some("PROTOCOL_ERROR"),
        3 => Some("FLOW_CONTROL_ERROR"),
        5 => Some("STREAM_CLOSED"),
        6 => Some("FRAME_SIZE_ERROR"),
        9 => Some("COMPRESSION_ERROR"),
        11 => Some("ENHANCE_YOUR_CALM"),
        _ => None,
    }
}

const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// What of a frame is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    /// Of the payload, in bytes.
    pub length: u32,
    /// The frame type (RFC 9113, 11.2).
    pub kind: u8,
    /// The flags.
    pub flags: u8,
    /// The stream; 0 for the connection.
    pub stream: u32,
    /// The error code of a RST_STREAM or GOAWAY; 0 for all others.
    pub error: u32,
}

impl FrameHead {
    /// How many of the peer's control frames this frame of ours calls for.
    fn explains(self) -> u32 {
        match self.kind {
            // A window update for the stream and one for the connection, and the PING with which gRPC measures bandwidth.
            DATA if self.length > 0 => 3,
            SETTINGS | PING if self.flags & ACK == 0 => 1,
            _ => 0,
        }
    }
}

/// Finds the frame headers in one direction's bytes, however they are split.
#[derive(Debug)]
pub struct Frames {
    /// Bytes to pass before the next frame header: the preface or a payload.
    skip: usize,
    header: [u8; HEADER + LONGEST_ERROR],
    have: usize,
    need: usize,
    /// Of the frame whose payload is passing.
    kind: u8,
}

/// Whether a frame is part of a request or an answer.
const fn is_content(kind: u8) -> bool {
    matches!(kind, DATA | HEADERS | CONTINUATION)
}

/// RFC 9113, 4.1.
const HEADER: usize = 9;
/// RFC 9113, 6.8: the last stream, then the error code.
const LONGEST_ERROR: usize = 8;

impl Default for Frames {
    fn default() -> Self {
        Self { skip: 0, header: [0; HEADER + LONGEST_ERROR], have: 0, need: HEADER, kind: SETTINGS }
    }
}

impl Frames {
    /// Of a client, which sends the 24-byte preface first.
    pub fn after_preface() -> Self {
        Self { skip: 24, ..Self::default() }
    }

    /// Whether the next bytes belong to a head or a body.
    fn carries_content(&self) -> bool {
        self.skip > 0 && is_content(self.kind)
    }

    /// Goes on with `bytes`; every frame header that is complete goes to `seen`.
    pub fn pass(&mut self, bytes: &[u8], mut seen: impl FnMut(FrameHead)) {
        let mut rest = bytes;
        loop {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            if rest.is_empty() {
                return;
            }
            let wanted = self.header.get_mut(self.have..self.need).unwrap_or_default();
            let here = wanted.len().min(rest.len());
            let (new, after) = rest.split_at(here);
            wanted.iter_mut().zip(new).for_each(|(to, from)| *to = *from);
            (self.have, rest) = (self.have + here, after);
            if self.have == self.need
                && let Some(frame) = self.complete()
            {
                seen(frame);
            }
        }
    }

    /// The frame whose header is there; none if its error code is still to come.
    fn complete(&mut self) -> Option<FrameHead> {
        let [a, b, c, kind, flags, d, e, f, g, payload @ ..] = self.header;
        let length = u32::from_be_bytes([0, a, b, c]);
        let begins_with = match kind {
            RST_STREAM if length >= 4 => 4,
            GOAWAY if length >= 8 => 8,
            _ => 0,
        };
        if self.need < HEADER + begins_with {
            self.need = HEADER + begins_with;
            return None;
        }
        let error =
            payload.get(..begins_with).and_then(<[u8]>::last_chunk::<4>).map_or(0, |code| u32::from_be_bytes(*code));
        (self.skip, self.have, self.need, self.kind) = (length as usize - begins_with, 0, HEADER, kind);
        Some(FrameHead { length, kind, flags, stream: u32::from_be_bytes([d, e, f, g]) & 0x7fff_ffff, error })
    }
}

/// For fuzzing: whatever the bytes, no panic, and the same frames whole and byte by byte.
pub fn fuzz(bytes: &[u8]) {
    let (mut whole, mut whole_frames) = (Frames::after_preface(), Vec::new());
    whole.pass(bytes, |frame| whole_frames.push(frame));
    let (mut cut, mut cut_frames) = (Frames::after_preface(), Vec::new());
    bytes.chunks(1).for_each(|byte| cut.pass(byte, |frame| cut_frames.push(frame)));
    assert_eq!(whole_frames, cut_frames, "depends on the cut");
    let mut bucket = Bucket::new(u32::from(bytes.first().copied().unwrap_or_default()));
    for frame in whole_frames {
        bucket.credit(frame.explains());
        if let Some(cost) = Cost::of(frame) {
            bucket.take(cost.explained_by_data);
        }
    }
}

#[cfg(test)]
mod tests;
