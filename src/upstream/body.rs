//! The body of a forwarded request.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderName;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::enforce::Permit;
use crate::failure::with_sources;
use crate::mapping::head;
use crate::policy::PolicyGeneration;

/// A body on its way to an upstream: streamed, never held as a whole unless it had to be read to be judged.
#[derive(Debug)]
pub struct RequestBody(Kind);

#[derive(Debug)]
enum Kind {
    Empty,
    Whole(Option<Bytes>),
    Streamed { incoming: Incoming, progress: Arc<Progress>, unjudged: Unjudged },
}

/// What trailers must not hold, since it was judged in the head.
#[derive(Debug)]
struct Unjudged {
    /// Whose policies read headers.
    policies: Option<Arc<PolicyGeneration>>,
    /// The header that tokens come in.
    token: Option<HeaderName>,
}

/// How far a streamed body has come: shared with the walk, which cuts a body that stalls and counts its bytes.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    ended: AtomicBool,
    broken: OnceLock<String>,
}

impl Progress {
    /// Bytes forwarded so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What was wrong with the body, if it broke off: then the downstream is to blame and not the upstream.
    #[must_use]
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// Whether the whole body was forwarded.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Empty)
    }

    /// A body that is in memory.
    #[must_use]
    pub const fn whole(bytes: Bytes) -> Self {
        Self(Kind::Whole(Some(bytes)))
    }

    /// The downstream's body, passed on frame by frame as the upstream takes it, and how far it has come.
    ///
    /// A body that is known to be empty becomes none, so that nothing is counted or shared for it. `token` is the header that tokens come
    /// in, if they count: none hides in trailers.
    #[must_use]
    pub fn streamed(incoming: Incoming, permit: &Permit, token: Option<&HeaderName>) -> (Self, Option<Arc<Progress>>) {
        if incoming.is_end_stream() {
            return (Self::empty(), None);
        }
        let progress = Arc::<Progress>::default();
        let unjudged = Unjudged { policies: permit.policies().map(Arc::clone), token: token.cloned() };
        (Self(Kind::Streamed { incoming, progress: Arc::clone(&progress), unjudged }), Some(progress))
    }

    /// Whether there is no body: the only kind of request that can be sent twice.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self.0, Kind::Empty)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut self.0 {
            Kind::Empty => Poll::Ready(None),
            Kind::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Streamed { incoming, progress, unjudged } => {
                let frame = ready!(Pin::new(&mut *incoming).poll_frame(cx));
                Poll::Ready(match frame {
                    Some(Ok(frame)) => Some(Ok(forwarded(frame, incoming, (progress, unjudged)))),
                    Some(Err(error)) => {
                        progress.broken.get_or_init(|| with_sources(&error));
                        Some(Err(error))
                    }
                    None => {
                        progress.ended.store(true, Ordering::Relaxed);
                        None
                    }
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Empty | Kind::Whole(None) => true,
            Kind::Whole(Some(_)) => false,
            Kind::Streamed { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Empty | Kind::Whole(None) => SizeHint::with_exact(0),
            Kind::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Streamed { incoming, .. } => incoming.size_hint(),
        }
    }
}

/// Counts a frame; trailers obey the rules of the head: no identity header hides in them, nor one that policies read, nor a token.
fn forwarded(frame: Frame<Bytes>, incoming: &Incoming, (progress, unjudged): (&Progress, &Unjudged)) -> Frame<Bytes> {
    let frame = match frame.into_trailers() {
        Ok(mut trailers) => {
            head::strip_trailers(&mut trailers);
            if let Some(name) = &unjudged.token {
                head::strip_named(&mut trailers, name.as_str());
            }
            if let Some(policies) = &unjudged.policies {
                head::strip_unjudged(&mut trailers, policies.headers_read().enforced);
            }
            Frame::trailers(trailers)
        }
        Err(frame) => {
            if let Some(data) = frame.data_ref() {
                progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
            frame
        }
    };
    if incoming.is_end_stream() || frame.is_trailers() {
        progress.ended.store(true, Ordering::Relaxed);
    }
    frame
}
