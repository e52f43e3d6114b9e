//! The body of an answer.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::guard::Exchange as Busy;
use super::service::{HttpConnection, Waiting};
use super::standing::Standing;
use super::timing;
use crate::enforce::{Permit, STARTED_AFTER, Settlement};
use crate::failure::{Blame, Failure};
use crate::mapping::head;
use crate::upstream::{Lease, Progress};

/// A body on its way to the downstream. An upstream's is passed on frame by frame as the downstream takes it.
#[derive(Debug)]
pub(super) struct ResponseBody(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Whole(Option<Bytes>),
    Streamed(Box<Streamed>),
}

/// What a body gives when it is asked for its next frame.
type Next = Option<Result<Frame<Bytes>, hyper::Error>>;

/// A permitted exchange whose answer is being passed on.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) permit: Permit,
    pub(super) lease: Lease,
    pub(super) upload: Option<Arc<Progress>>,
    pub(super) connection: Arc<HttpConnection>,
}

#[derive(Debug)]
struct Streamed {
    incoming: Incoming,
    /// What came together with the head and was not handed on yet.
    early: Option<Next>,
    status: u16,
    bytes_out: u64,
    connection: Arc<HttpConnection>,
    upload: Option<Arc<Progress>>,
    /// There until the record is written.
    unsettled: Option<(Permit, Lease)>,
    started: Instant,
    recorded_start: bool,
    standing: Standing,
    /// When a byte last moved in either direction, and how far the upload was then.
    moved: (Instant, u64),
    /// Made when the upstream lets us wait for the first time: most answers never need it.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: Option<Waiting>,
    /// Tells the guard that the connection is not idle.
    busy: Option<Busy>,
}

impl ResponseBody {
    /// No body.
    pub(super) const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body of our own.
    pub(super) const fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes)))
    }

    /// Keeps `busy` until the body has ended.
    pub(super) fn hold(&mut self, busy: Option<Busy>) {
        if let Kind::Streamed(streamed) = &mut self.0 {
            streamed.busy = busy;
        }
    }

    /// The upstream's body. The record of the exchange is written before its last byte is handed on; where there is no
    /// byte to wait for, at once.
    ///
    /// Looks for a first frame that has come together with the head, so that both go out in one write. It does not wait for one.
    ///
    /// # Errors
    /// The record cannot be written.
    pub(super) async fn streamed(mut incoming: Incoming, status: u16, open: Open) -> Result<Self, Failure> {
        let early = if incoming.is_end_stream() { None } else { early(&mut incoming).await };
        let Open { permit, lease, upload, connection } = open;
        let started = Instant::from_std(permit.exchange().started);
        let mut streamed = Streamed {
            status,
            bytes_out: 0,
            connection,
            upload,
            unsettled: Some((permit, lease)),
            started,
            recorded_start: false,
            standing: Standing::default(),
            moved: (Instant::now(), 0),
            timer: None,
            waiting: None,
            busy: None,
            incoming,
            early,
        };
        if matches!(streamed.early, Some(None)) || (streamed.early.is_none() && streamed.incoming.is_end_stream()) {
            streamed.settle(None)?;
            return Ok(Self::empty());
        }
        Ok(Self(Kind::Streamed(Box::new(streamed))))
    }
}

/// The first frame, if it is here or comes while everybody else who is ready has one turn: the task that reads the connection
/// hands a body out only when it is asked for.
async fn early(incoming: &mut Incoming) -> Option<Next> {
    let mut asked = false;
    poll_fn(|cx| match Pin::new(&mut *incoming).poll_frame(cx) {
        Poll::Ready(next) => Poll::Ready(Some(next)),
        Poll::Pending if asked => Poll::Ready(None),
        Poll::Pending => {
            asked = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await
}

impl Streamed {
    /// Writes the record and, if the answer was read to its end, gives the connection back.
    fn settle(&mut self, failure: Option<&Failure>) -> Result<(), Failure> {
        let Some((permit, lease)) = self.unsettled.take() else { return Ok(()) };
        let bytes_in = self.upload.as_deref().map_or(0, Progress::bytes);
        if failure.is_none() {
            lease.finished();
        }
        let settlement = Settlement {
            status: Some(self.status),
            bytes_in,
            bytes_out: self.bytes_out,
            reason: self.reason(failure),
            error: failure.map(ToString::to_string),
            ..Settlement::default()
        };
        permit.settle(&settlement).map_err(|_error| Failure::Audit)
    }

    /// The rule that the exchange broke, or why its connection was cut.
    fn reason(&self, failure: Option<&Failure>) -> Option<&'static str> {
        let broken = self.connection.broken_rule(self.upload.as_deref());
        broken.or_else(|| failure.and_then(|failure| failure.reason().or_else(|| self.connection.cut())))
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let polled = match self.early.take() {
            Some(early) => Poll::Ready(early),
            None => Pin::new(&mut self.incoming).poll_frame(cx),
        };
        let Poll::Ready(next) = polled else {
            return match ready!(self.poll_limits(cx)) {
                Ok(()) => Poll::Pending,
                Err(failure) => Poll::Ready(Some(Err(self.failed(failure)))),
            };
        };
        self.waiting = None;
        if let Err(failure) = self.check_whole(Instant::now()) {
            return Poll::Ready(Some(Err(self.failed(failure))));
        }
        Poll::Ready(match next {
            Some(Ok(frame)) => Some(self.forwarded(frame)),
            Some(Err(error)) => Some(Err(self.failed(Failure::Response { cause: error.to_string() }))),
            None => self.settle(None).err().map(Err),
        })
    }

    /// Counts a frame. The last one is handed on only when the record is written.
    fn forwarded(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Failure> {
        let frame = match frame.into_trailers() {
            Ok(mut trailers) => {
                head::strip_trailers(&mut trailers);
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        };
        if let Some(data) = frame.data_ref() {
            self.bytes_out += data.len() as u64;
            self.moved.0 = Instant::now();
        }
        if frame.is_trailers() || self.incoming.is_end_stream() {
            self.settle(None)?;
        }
        Ok(frame)
    }

    /// hyper goes by this for the length, so the early frame is still part of it.
    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        let early = match &self.early {
            Some(Some(Ok(frame))) => frame.data_ref().map_or(0, |data| data.len() as u64),
            _ => 0,
        };
        let upper = hint.upper().map(|upper| upper + early);
        hint.set_lower(0);
        if let Some(upper) = upper {
            hint.set_upper(upper);
        }
        hint.set_lower(self.incoming.size_hint().lower() + early);
        hint
    }

    fn failed(&mut self, failure: Failure) -> Failure {
        if failure.blame() == Blame::Upstream {
            self.connection.listener.point.metrics.upstream_failure(failure.stage());
        }
        match self.settle(Some(&failure)) {
            Ok(()) => failure,
            Err(unrecorded) => unrecorded,
        }
    }

    /// While the upstream lets us wait: the idle limit, the request's limit, and the started record.
    ///
    /// Ready with an error when a limit has passed; otherwise pending, never ready with `Ok`.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        if self.waiting.is_none() {
            self.waiting = Some(self.connection.wait());
        }
        loop {
            let next = self.check_limits()?;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if timer.deadline() != next {
                timer.as_mut().reset(next);
            }
            ready!(timer.as_mut().poll(cx));
        }
    }

    fn check_limits(&mut self) -> Result<Instant, Failure> {
        let limits = &self.connection.listener.limits;
        let (idle, whole) = (limits.idle_timeout, limits.request_timeout);
        let now = Instant::now();
        self.record_start_when_due(now)?;
        let uploaded = self.upload.as_deref().map_or(0, Progress::bytes);
        if uploaded != self.moved.1 {
            self.moved = (now, uploaded);
        }
        if now >= self.moved.0 + idle {
            return Err(Failure::Stalled { limit_ms: timing::millis(idle) });
        }
        let mut next = self.moved.0 + idle;
        if !whole.is_zero() {
            if now >= self.started + whole {
                return Err(Failure::RequestTimeout { limit_ms: timing::millis(whole) });
            }
            next = next.min(self.started + whole);
        }
        if !self.recorded_start {
            next = next.min(self.started + STARTED_AFTER);
        }
        Ok(next.min(self.check_standing(now)?.unwrap_or(next)))
    }

    /// What holds also while the upstream does not let us wait: the started record, the request's limit, and the policies.
    fn check_whole(&mut self, now: Instant) -> Result<(), Failure> {
        self.record_start_when_due(now)?;
        let whole = self.connection.listener.limits.request_timeout;
        if !whole.is_zero() && now >= self.started + whole {
            return Err(Failure::RequestTimeout { limit_ms: timing::millis(whole) });
        }
        self.check_standing(now)?;
        Ok(())
    }

    /// Whether it would be permitted still; says when to look the next time.
    fn check_standing(&mut self, now: Instant) -> Result<Option<Instant>, Failure> {
        let Some((permit, _)) = &self.unsettled else { return Ok(None) };
        let grace = self.connection.listener.limits.grace;
        self.standing.check(permit, grace, now).map(Some)
    }

    fn record_start_when_due(&mut self, now: Instant) -> Result<(), Failure> {
        if self.recorded_start || now < self.started + STARTED_AFTER {
            return Ok(());
        }
        self.recorded_start = true;
        match &self.unsettled {
            Some((permit, _)) => permit.record_started().map_err(|_error| Failure::Audit),
            None => Ok(()),
        }
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        if self.unsettled.is_none() {
            return;
        }
        // hyper does not ask again once it has as many bytes as were announced.
        let whole = self.early.is_none() && self.incoming.size_hint().exact() == Some(0);
        if whole {
            if self.settle(None).is_err() {
                tracing::error!("an exchange that ended has no record");
            }
        } else {
            // The downstream went away, or hyper gave the answer up: recorded with what was sent so far.
            let failure = Failure::Response { cause: "the downstream did not take the whole answer".into() };
            if self.settle(Some(&failure)).is_err() {
                tracing::error!("an exchange that was broken off has no record");
            }
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty | Kind::Whole(None) => true,
            Kind::Whole(Some(_)) => false,
            Kind::Streamed(streamed) => streamed.unsettled.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty | Kind::Whole(None) => SizeHint::with_exact(0),
            Kind::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Streamed(streamed) => streamed.size_hint(),
        }
    }
}
