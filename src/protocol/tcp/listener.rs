//! The walk of one relayed connection.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::proxy_header::{Announcement, FIXED_BYTES, ProxyHeaderError, announced, body_length};
use super::session::Session;
use crate::audit::new_decision_id;
use crate::config::{Limits, ListenerConfig, TcpConfig};
use crate::enforce::{Asker, EnforcementPoint, Exchange, Permit, STARTED_AFTER, Settlement, Standing};
use crate::failure::Failure;
use crate::mapping::{Action, Context, Operation, Operations, Resource};
use crate::protocol::{Closed, Downstream, Last, Notice};
use crate::relay::{Apart, Ended, Moved, Woken, apart, relay_settled};
use crate::tls::{Stay, StayOver};
use crate::upstream::{StreamUpstream, UpstreamIo};

/// What a peer that is turned away is given to read that the connection has ended, before the rest is cut.
const PARTING: Duration = Duration::from_millis(500);

/// A listener that relays, on one data-path thread.
#[derive(Debug)]
pub struct RelayListener {
    endpoint: Arc<str>,
    config: TcpConfig,
    limits: Limits,
    point: Arc<EnforcementPoint>,
    upstream: Arc<StreamUpstream>,
    /// What every connection asks.
    asks: Arc<Operations>,
}

impl RelayListener {
    /// The listener that `config` describes.
    #[must_use]
    pub fn new(
        config: &ListenerConfig,
        tcp: &TcpConfig,
        point: Arc<EnforcementPoint>,
        upstream: Arc<StreamUpstream>,
    ) -> Self {
        let asks = Operations::one(Operation {
            action: Action::named("tcp:Connect"),
            resource: Resource::endpoint(&config.name),
            context: Context::default(),
        });
        Self {
            endpoint: Arc::clone(&config.name),
            config: tcp.clone(),
            limits: config.limits.clone(),
            point,
            upstream,
            asks: Arc::new(asks),
        }
    }

    /// Reads what a load balancer says in front of the handshake: where the peer connects from.
    ///
    /// `address` is where the connection itself comes from; who is not listed says nothing, and that is its address.
    ///
    /// # Errors
    /// A listed address did not begin with a PROXY header, or with one that is not understood.
    pub async fn open(&self, stream: &mut TcpStream, address: SocketAddr) -> Result<SocketAddr, Closed> {
        if !self.config.accept_proxy_from.iter().any(|network| network.contains(address.ip())) {
            return Ok(address);
        }
        let refused = |error: ProxyHeaderError| Closed::Refused { rule: error.rule(), message: error.to_string() };
        let mut fixed = [0; FIXED_BYTES];
        stream.read_exact(&mut fixed).await.map_err(|_ended| refused(ProxyHeaderError::Missing))?;
        let mut body = vec![0; body_length(&fixed).map_err(refused)?];
        stream.read_exact(&mut body).await.map_err(|_ended| refused(ProxyHeaderError::Short))?;
        Ok(announced(&fixed, &body).map_err(refused)?.unwrap_or(address))
    }
}

/// Serves a connection until it ends.
///
/// # Cancel safety
/// Dropping the future cuts the connection; its record says so.
pub async fn serve(
    mut stream: Downstream,
    listener: Arc<RelayListener>,
    asker: Arc<Asker>,
    ending: impl Future<Output = Notice> + Send,
) -> Closed {
    let point = &listener.point;
    if !point.records_can_be_written() {
        tracing::debug!(listener = &*listener.endpoint, failure = %Failure::Audit, "connection is not served");
        return Closed::Failed { cause: Failure::Audit.to_string() };
    }
    let permit = match point.enforce(point.policies_in_force(), &asker, exchange(), Arc::clone(&listener.asks)) {
        Ok(permit) => permit,
        Err(denied) => {
            if let Err(error) = denied.settle(&Settlement::default()) {
                tracing::error!(%error, "a denied connection has no record");
            }
            apart(|| part(&mut stream)).await;
            return Closed::InOrder;
        }
    };
    let mut upstream = match apart(|| listener.connect(&permit, &asker, &stream)).await {
        Ok(upstream) => upstream,
        Err(failure) => {
            listener.failed(permit, &failure);
            apart(|| part(&mut stream)).await;
            return Closed::InOrder;
        }
    };

    let standing = permit.standing();
    let stay = upstream.stay();
    let moved = Moved::default();
    let session = Mutex::new(Session::new(permit, &moved));
    let cut = {
        let settle = || held(&session).settle(None, None);
        let relay = relay_settled(&mut stream, &mut upstream, listener.limits.idle_timeout, &moved, settle);
        let ending = apart(|| listener.ending(ending, &asker, standing, stay));
        watched(relay, ending, || held(&session).record_started()).await
    };
    let (reason, error, closed) = cut.told(listener.limits.idle_timeout);
    held(&session).settle(reason, error);
    if closed.is_some() {
        // What was cut must not look like what has ended: who reads to the end would take a part for the whole.
        stream.abort();
        upstream.abort();
    }
    closed.unwrap_or(Closed::InOrder)
}

fn held<'a, 'b>(session: &'a Mutex<Session<'b>>) -> MutexGuard<'a, Session<'b>> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Relays until it or something else ends it, with a record of the beginning if that takes long.
async fn watched(relay: impl Future<Output = Ended>, ending: Apart<'_, Cut>, record_started: impl Fn() -> bool) -> Cut {
    let (mut relay, started) = (pin!(relay), pin!(sleep(STARTED_AFTER)));
    let (mut ending, mut started) = (Woken::new(ending), Woken::new(started));
    let mut is_recorded = false;
    loop {
        tokio::select! {
            biased;
            ended = &mut relay => return Cut::Relay(ended),
            cut = &mut ending => return cut,
            () = &mut started, if !is_recorded => {
                is_recorded = true;
                if !record_started() {
                    return Cut::Audit;
                }
            }
        }
    }
}

/// What ended a connection.
#[derive(Debug)]
enum Cut {
    /// The relay itself.
    Relay(Ended),
    /// It was as old as it may become.
    Lifetime,
    /// It was told to end, for this reason, and its time for that is over.
    Told(&'static str),
    /// The upstream's certificate is no longer vouched for, or one of the two has expired.
    Upstream(StayOver),
    /// The policies now in force would not let it in.
    Denied,
    /// Records cannot be written.
    Audit,
}

impl Cut {
    /// Reason and error for the record, and how the connection closed; none for one that ended in order.
    fn told(self, idle: Duration) -> (Option<&'static str>, Option<String>, Option<Closed>) {
        match self {
            Self::Relay(Ended::Closed) => (None, None, None),
            Self::Relay(Ended::Idle) => {
                let limit_ms = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
                (Some("idle-timeout"), Some(Failure::Stalled { limit_ms }.to_string()), Some(Closed::Idle))
            }
            Self::Relay(Ended::Failed(error)) => {
                (Some("broken-off"), Some(error.to_string()), Some(Closed::Failed { cause: error.to_string() }))
            }
            // Neither has done anything wrong: what was decided is in the connection's own record.
            Self::Lifetime => (Some("lifetime"), None, Some(Closed::Idle)),
            Self::Denied => (Some("no-longer-permitted"), None, Some(Closed::Idle)),
            Self::Told(reason) => (Some(reason), None, Some(Closed::Cut)),
            Self::Upstream(StayOver { rule, message, .. }) => {
                (Some(rule), Some(format!("upstream: {message}")), Some(Closed::Cut))
            }
            Self::Audit => {
                let cause = Failure::Audit.to_string();
                (Some("audit"), Some(cause.clone()), Some(Closed::Failed { cause }))
            }
        }
    }
}

impl RelayListener {
    /// Reaches the upstream and tells it who connects, if it is to be told.
    async fn connect(&self, permit: &Permit, asker: &Asker, stream: &Downstream) -> Result<UpstreamIo, Failure> {
        let mut upstream = self.upstream.connect(permit).await?;
        if self.config.send_proxy {
            let header = Announcement {
                addresses: asker.address().zip(stream.local_address()),
                alpn: stream.alpn(),
                tls_version: asker.peer().tls_version(),
                spiffe_id: asker.peer().id().as_str(),
                decision_id: &permit.decision_id().to_string(),
            };
            // A fresh connection takes some hundred bytes at once: there is nothing to wait for.
            let closed = |error: std::io::Error| Failure::Closed { cause: error.to_string() };
            upstream.write_all(&header.encode()).await.map_err(closed)?;
        }
        Ok(upstream)
    }

    /// A permitted connection that did not reach the upstream.
    fn failed(&self, permit: Permit, failure: &Failure) {
        let (listener, stage) = (&*self.endpoint, failure.stage());
        self.point.metrics.upstream_failure(stage);
        tracing::warn!(listener, stage, %failure, "connection could not be served");
        let settlement = Settlement { reason: Some(stage), error: Some(failure.to_string()), ..Settlement::default() };
        if let Err(error) = permit.settle(&settlement) {
            tracing::error!(%error, "a connection that could not be served has no record");
        }
    }

    /// Ready when the connection has to end though it could go on.
    async fn ending(
        &self,
        ending: impl Future<Output = Notice> + Send,
        asker: &Arc<Asker>,
        standing: Option<Standing>,
        upstream: Option<Stay>,
    ) -> Cut {
        let told = async {
            let Notice { last, over_in, grace, reason } = ending.await;
            match last {
                // Its bytes have no ends here at which to wait for: who has no right to be here is cut at once.
                Last::InFlight => {}
                Last::Asked => sleep(over_in.unwrap_or(grace)).await,
            }
            Cut::Told(reason)
        };
        let aged = async {
            match self.config.lifetime {
                Some(lifetime) => sleep(lifetime).await,
                None => pending().await,
            }
        };
        let denied = async {
            match standing {
                Some(mut standing) => standing.lost(&self.point, asker, exchange, |_| None).await,
                None => pending().await,
            }
        };
        let upstream_over = async {
            match upstream {
                Some(mut stay) => stay.over().await,
                None => pending().await,
            }
        };
        tokio::select! {
            cut = told => cut,
            () = aged => Cut::Lifetime,
            over = upstream_over => Cut::Upstream(over),
            denied = denied => {
                if let Err(error) = denied.settle(&Settlement::default()) {
                    tracing::error!(%error, "a connection that is no longer permitted has no record of that");
                }
                Cut::Denied
            }
        }
    }
}

fn exchange() -> Exchange {
    Exchange {
        token: None,
        started: Instant::now(),
        request_id: new_decision_id().to_string().into(),
        number: None,
        trace_id: None,
        method: None,
        statement: None,
    }
}

/// Ends a connection that is not served, in a way that the peer can read: what it sent already must not reset it.
async fn part(stream: &mut Downstream) {
    let parting = async {
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Who does not leave is cut.
    let _left = timeout(PARTING, parting).await;
}
