//! What a listener and a connection give every request that comes through them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::HeaderValue;

use super::guard::GuardHandle;
use super::meter::StreamErrors;
use super::token::Tokens;
use super::xfcc;
use crate::config::{Direction, HttpConfig, Limits, ListenerConfig, S3Config};
use crate::enforce::{Asker, EnforcementPoint};
use crate::identity::SpiffeId;
use crate::mapping::head::HeadRules;
use crate::upstream::{Progress, Upstream};

/// A listener that speaks HTTP, on one data-path thread.
#[derive(Debug)]
pub struct HttpListener {
    pub(super) endpoint: Arc<str>,
    pub(super) direction: Direction,
    pub(super) speaks: Speaks,
    pub(super) rules: HeadRules,
    /// Where tokens count.
    pub(super) tokens: Option<Tokens>,
    pub(super) limits: Limits,
    pub(super) point: Arc<EnforcementPoint>,
    pub(super) upstream: Arc<Upstream>,
}

/// Which API is spoken over HTTP.
#[derive(Debug, Clone)]
pub enum Speaks {
    /// None in particular.
    Http(HttpConfig),
    /// S3.
    S3(S3Config),
}

impl HttpListener {
    /// The listener that `config` describes, which speaks `speaks`.
    #[must_use]
    pub fn new(
        config: &ListenerConfig,
        speaks: Speaks,
        tokens: Option<Tokens>,
        point: Arc<EnforcementPoint>,
        upstream: Arc<Upstream>,
    ) -> Self {
        Self {
            endpoint: Arc::clone(&config.name),
            direction: config.direction,
            rules: match &speaks {
                Speaks::Http(http) => HeadRules::http(http, &config.limits),
                Speaks::S3(_) => HeadRules::s3(&config.limits),
            },
            speaks,
            tokens,
            limits: config.limits.clone(),
            point,
            upstream,
        }
    }

    /// Closes upstream connections that nobody has used for long.
    pub fn retire_idle(&self) {
        self.upstream.retire_idle();
    }

    pub(super) const fn is_s3(&self) -> bool {
        matches!(self.speaks, Speaks::S3(_))
    }
}

/// What a connection does after an upgrade.
pub(super) type Relay = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One downstream connection.
pub struct HttpConnection {
    pub(super) listener: Arc<HttpListener>,
    pub(super) asker: Arc<Asker>,
    /// The byte guard before hyper; HTTP/2 has none.
    pub(super) guard: Option<GuardHandle>,
    /// What the upstream is told about the peer, on an inbound listener.
    pub(super) client_cert: Option<HeaderValue>,
    /// Exchanges that wait for the upstream: while there are any, a silent connection is not an idle one.
    waiting: AtomicUsize,
    /// Set when the peer has no right to be here any more.
    nothing_new: AtomicBool,
    /// Why it was cut, if it was.
    cut: OnceLock<&'static str>,
    /// What is left to do when hyper lets go of the connection after an upgrade.
    upgraded: Mutex<Option<Relay>>,
}

impl fmt::Debug for HttpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpConnection").field("listener", &self.listener.endpoint).finish_non_exhaustive()
    }
}

impl HttpConnection {
    /// A connection of `asker`. `own` is the SPIFFE ID that we showed it.
    pub(super) fn new(
        listener: Arc<HttpListener>,
        asker: Arc<Asker>,
        guard: Option<GuardHandle>,
        own: &SpiffeId,
    ) -> Self {
        let inbound = listener.direction == Direction::Inbound;
        let client_cert = if inbound { xfcc::header(own, asker.peer()) } else { None };
        Self {
            listener,
            asker,
            guard,
            client_cert,
            waiting: AtomicUsize::new(0),
            nothing_new: AtomicBool::new(false),
            cut: OnceLock::new(),
            upgraded: Mutex::default(),
        }
    }

    /// Lets the guard pass everything from now on, and leaves `relay` to be run when hyper lets go of the connection.
    pub(super) fn accept_upgrade(&self, relay: Relay) {
        *self.upgraded.lock().unwrap_or_else(PoisonError::into_inner) = Some(relay);
        if let Some(guard) = &self.guard {
            guard.upgrade_accepted();
        }
    }

    /// From now on every request is refused: those in flight go on.
    pub(super) fn take_nothing_new(&self) {
        self.nothing_new.store(true, Ordering::Relaxed);
    }

    /// Whether a request may be asked at all.
    pub(super) fn takes_requests(&self) -> bool {
        !self.nothing_new.load(Ordering::Relaxed)
    }

    /// What is left to do after hyper, if the connection was upgraded.
    pub(super) fn take_upgraded(&self) -> Option<Relay> {
        self.upgraded.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// From now on what is in flight is broken off, for this reason.
    pub(super) fn cut_for(&self, reason: &'static str) {
        let _first = self.cut.set(reason);
    }

    /// Why the connection was cut; none if it was not.
    pub(super) fn cut(&self) -> Option<&'static str> {
        self.cut.get().copied()
    }

    /// The rule that the body of the request in hand broke; none if its body is whole or broke off for another reason.
    pub(super) fn broken_rule(&self, upload: Option<&Progress>) -> Option<&'static str> {
        upload?.broken()?;
        self.guard.as_ref()?.broken().map(|refusal| refusal.rule)
    }

    /// Whether any exchange waits for the upstream.
    pub(super) fn waits_for_upstream(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Counts an exchange as waiting until the guard is dropped.
    pub(super) fn wait(self: &Arc<Self>) -> Waiting {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }
}

/// h2 resets a malformed request without telling the service (RFC 9113, 8.1.1); the peer has broken off one that was decided
/// already in the same way, by a body that is not as long as it said.
impl StreamErrors for HttpConnection {
    fn broken_by_peer(&self, stream: u32, error: &'static str) {
        let message = format!("stream {stream} was reset with {error}: its head or its body is malformed");
        self.listener.point.record_broken(&self.asker, "h2-malformed", &message);
    }
}

/// An exchange that waits for the upstream.
#[derive(Debug)]
pub(super) struct Waiting(Arc<HttpConnection>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
