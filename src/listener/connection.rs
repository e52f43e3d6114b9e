//! The walk of one connection: a slot, the handshake, the peer, its protocol, its end.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::accept::Accepted;
use super::ending::{self, Ending};
use super::streams::Caller;
use super::{Slot, Slots};
use crate::audit::{Kind, Record, new_decision_id};
use crate::config::Limits;
use crate::drain::DrainWatch;
use crate::enforce::{Asker, EnforcementPoint};
use crate::identity::{SpiffeId, X509Source};
use crate::mux;
use crate::protocol::http::{self, HttpListener};
use crate::protocol::postgres::{self, Opening, PostgresListener};
use crate::protocol::tcp::{self, RelayListener};
use crate::protocol::{Closed, Downstream, Last, Notice};
use crate::relay::{Apart, ReadAhead, Woken, apart};
use crate::telemetry::{ConnectionGuard, ListenerMetrics};
use crate::tls::{HandshakeRefusal, Peer, ServerTls, Stay, StayOver};

/// Of the time for a drain: what is left for telling those who are cut, and for their records.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What is spoken on a listener.
#[derive(Debug, Clone)]
pub enum Served {
    /// HTTP, generic or S3.
    Http(Arc<HttpListener>),
    /// Any bytes.
    Tcp(Arc<RelayListener>),
    /// PostgreSQL.
    Postgres(Arc<PostgresListener>),
}

impl Served {
    fn serve<'a>(
        &self,
        stream: Downstream,
        asker: Arc<Asker>,
        own: &'a SpiffeId,
        ending: impl Future<Output = Notice> + Send + 'a,
    ) -> Apart<'a, Closed> {
        match self {
            Self::Http(listener) => {
                let listener = Arc::clone(listener);
                apart(move || http::serve(stream, listener, asker, own, ending))
            }
            Self::Tcp(listener) => {
                let listener = Arc::clone(listener);
                apart(move || tcp::serve(stream, listener, asker, ending))
            }
            Self::Postgres(listener) => {
                let listener = Arc::clone(listener);
                apart(move || postgres::serve(stream, listener, asker, ending))
            }
        }
    }
}

/// A listener on one data-path thread.
#[derive(Debug)]
pub struct Listener {
    /// Mutual TLS on an inbound listener; an outbound one has local apps before it.
    pub tls: Option<ServerTls>,
    /// Our identity.
    pub source: Arc<dyn X509Source>,
    /// What is spoken.
    pub served: Served,
    /// Where decisions are made and recorded.
    pub point: Arc<EnforcementPoint>,
    /// Limits.
    pub limits: Limits,
    /// Places for connections.
    pub slots: Arc<Slots>,
    /// How long a drain may take.
    pub shutdown_timeout: Duration,
}

impl Listener {
    /// The listener's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.point.listener
    }

    /// The listener's counters.
    #[must_use]
    pub fn metrics(&self) -> &Arc<ListenerMetrics> {
        &self.point.metrics
    }

    pub(super) async fn connection(self: &Arc<Self>, accepted: Accepted, drain: &DrainWatch) {
        let Some(slot) = self.slots.take() else {
            self.metrics().connection_refused("listener-full");
            // Before a handshake nobody gets an answer: those who overload a listener would make it do one more.
            return match (accepted, &self.tls) {
                (Accepted::Tcp(stream, _), None) => apart(|| self.turn_away(Downstream::tcp(stream))).await,
                (Accepted::Unix(stream), None) => apart(|| self.turn_away(Downstream::unix(stream))).await,
                (_, Some(_)) => {}
            };
        };
        let mut open = self.metrics().connection();
        match (accepted, &self.tls) {
            (Accepted::Tcp(stream, address), Some(tls)) => {
                apart(|| self.inbound((stream, address), tls, drain, (slot, open))).await;
            }
            (Accepted::Tcp(stream, address), None) => {
                open.open();
                apart(|| self.outbound(Downstream::tcp(stream), Some(address), drain)).await;
            }
            (Accepted::Unix(stream), None) => {
                open.open();
                apart(|| self.outbound(Downstream::unix(stream), None, drain)).await;
            }
            // The configuration has no inbound Unix sockets: there is no TLS on one, so nobody to be the peer.
            (Accepted::Unix(_), Some(_)) => self.metrics().connection_refused("no-identity"),
        }
    }

    /// A peer that has to prove who it is.
    async fn inbound(
        self: &Arc<Self>,
        (mut stream, mut address): (TcpStream, SocketAddr),
        tls: &ServerTls,
        drain: &DrainWatch,
        (slot, mut open): (Slot, ConnectionGuard),
    ) {
        let handshake = apart(|| async {
            let direct = match &self.served {
                Served::Postgres(_) => match postgres::open(&mut stream).await {
                    Opening::Handshake { direct } => direct,
                    Opening::Ended(closed) => return Err(closed),
                },
                Served::Tcp(listener) => {
                    address = listener.open(&mut stream, address).await?;
                    false
                }
                Served::Http(_) => false,
            };
            let accepted = tls.accept(ReadAhead::new(stream)).await;
            match &accepted {
                // Whoever does not say that it wants PostgreSQL may be made to speak another protocol to it (ALPACA): PostgreSQL 17
                // demands it as well of direct TLS.
                Ok((stream, _)) if direct && stream.get_ref().1.alpn_protocol().is_none() => Err(no_alpn()),
                _ => Ok(accepted),
            }
        });
        let (stream, peer) = match timeout(self.limits.handshake_timeout, handshake).await {
            Ok(Err(closed)) => return self.record_end(Some(address), None, Instant::now(), &closed, None),
            Ok(Ok(accepted)) => match accepted {
                Ok(verified) => verified,
                Err(refusal) => return self.handshake_refused(address, &refusal),
            },
            Err(_elapsed) => return self.handshake_refused(address, &too_slow(&self.limits)),
        };

        self.metrics().handshake_done();
        open.open();
        let stay = tls.stay(&peer, self.limits.unsafe_outlive_certificate);
        if stream.get_ref().1.alpn_protocol() == Some(mux::ALPN) {
            drop(open);
            let connection = mux::Connection::server(stream);
            return apart(|| self.streams(connection, Caller { peer, address, stay }, drain, slot)).await;
        }
        let Some(_workload_slot) = self.slots.take_for(peer.id()) else {
            self.metrics().connection_refused("workload-full");
            return apart(|| self.turn_away(Downstream::tls(stream))).await;
        };
        let Some(own) = self.own_id() else { return };
        let asker = Asker::new(Arc::clone(&peer), Some(address));
        let stay = match &self.served {
            // Without ends to wait for, nothing is gained by an earlier one.
            Served::Tcp(_) => stay,
            Served::Http(_) | Served::Postgres(_) => stay.told_ahead(),
        };
        apart(|| self.serve((Downstream::tls(stream), asker), &own, drain, Some(stay))).await;
    }

    /// A local app: it is the workload that this sidecar stands beside.
    async fn outbound(&self, stream: Downstream, address: Option<SocketAddr>, drain: &DrainWatch) {
        let Some(own) = self.source.current() else {
            self.metrics().connection_refused("no-identity");
            return;
        };
        let asker = Asker::new(Arc::new(Peer::local(&own)), address);
        apart(|| self.serve((stream, asker), own.svid.id(), drain, None)).await;
    }

    /// Serves a connection until it ends or has to.
    pub(super) async fn serve(
        &self,
        (stream, asker): (Downstream, Asker),
        own: &SpiffeId,
        drain: &DrainWatch,
        stay: Option<Stay>,
    ) {
        let asker = Arc::new(asker);
        let (why, told) = (OnceLock::new(), Notify::new());
        let later = stay.clone().map(Stay::to_its_end);
        let ending = apart(|| async {
            let over = async {
                match stay {
                    Some(mut stay) => stay.over().await,
                    None => ending::of_own(&*self.source, asker.peer().id()).await,
                }
            };
            let ending = ending::of(drain, over, self.limits.connection_age).await;
            let notice = self.notice(&ending);
            let _first = why.set(ending);
            told.notify_one();
            notice
        });
        let opened = Instant::now();
        let (closed, lost) = {
            let overtaken = apart(|| async {
                told.notified().await;
                self.overtaken(drain, why.get(), later).await
            });
            let mut overtaken = Woken::new(overtaken);
            tokio::select! {
                biased;
                closed = self.served.serve(stream, Arc::clone(&asker), own, Woken::new(ending)) => (closed, None),
                lost = &mut overtaken => (Closed::Cut, lost),
            }
        };
        self.record_end(asker.address(), Some(asker.peer()), opened, &closed, lost.as_ref().or(why.get()));
    }

    /// What a connection is told that has to end.
    fn notice(&self, ending: &Ending) -> Notice {
        let (last, over_in, grace) = match ending {
            Ending::Drain => (Last::Asked, None, self.drain_grace()),
            Ending::Aged => (Last::Asked, None, self.limits.grace),
            // Its right to be here has not ended yet: it is asked to go in time.
            Ending::Over(StayOver { ahead, .. }) if !ahead.is_zero() => {
                (Last::Asked, Some(*ahead), *ahead + self.limits.grace)
            }
            Ending::Over(_) => (Last::InFlight, None, self.limits.grace),
        };
        Notice { last, over_in, grace, reason: ending.reason() }
    }

    /// Ready when a connection that was told to end has no more time for it: when a drain has begun since, or when its peer, which was asked
    /// to go for no fault of its own, has no right to be here any more.
    async fn overtaken(&self, drain: &DrainWatch, why: Option<&Ending>, stay: Option<Stay>) -> Option<Ending> {
        let drained = async {
            // The drain itself is what it may have heard of.
            if matches!(why, Some(Ending::Drain)) {
                return pending().await;
            }
            drain.draining().await;
            sleep(self.drain_grace()).await;
        };
        let over = async {
            match (why, stay) {
                (Some(Ending::Drain | Ending::Aged), Some(mut stay)) => Ending::Over(stay.over().await),
                _ => pending().await,
            }
        };
        tokio::select! {
            () = drained => None,
            over = over => Some(over),
        }
    }

    /// There is no place for a client. A protocol that has words for it says them.
    pub(super) async fn turn_away(&self, stream: Downstream) {
        if let Served::Postgres(_) = &self.served {
            postgres::turn_away(stream).await;
        }
    }

    pub(super) fn own_id(&self) -> Option<SpiffeId> {
        self.source.current().map(|own| own.svid.id().clone())
    }

    /// A drain ends a little after it: what is cut still has its last words and its records.
    fn drain_grace(&self) -> Duration {
        self.shutdown_timeout.saturating_sub(LAST_WORDS.min(self.shutdown_timeout / 4))
    }

    /// One record for a handshake that was refused: who came from where, and the rule that failed.
    fn handshake_refused(&self, address: SocketAddr, refusal: &HandshakeRefusal) {
        self.metrics().handshake_refused(refusal.rule);
        let address = address.to_string();
        let mut record = self.record(Kind::Handshake, Some(&address));
        record.peer_san = refusal.peer_san.as_deref();
        record.reason = Some(refusal.rule);
        record.error = Some(&refusal.message);
        self.write(&record);
    }

    /// A record for a connection that did not end in order.
    pub(super) fn record_end(
        &self,
        address: Option<SocketAddr>,
        peer: Option<&Arc<Peer>>,
        opened: Instant,
        closed: &Closed,
        why: Option<&Ending>,
    ) {
        let (reason, error) = match (closed, why) {
            (Closed::Refused { rule, message }, _) => (*rule, Some(message.as_str())),
            (_, Some(Ending::Over(over))) => (over.rule, Some(over.message.as_str())),
            (Closed::Cut, Some(ending @ (Ending::Drain | Ending::Aged))) => (ending.reason(), None),
            (Closed::Failed { cause }, _) => {
                tracing::debug!(listener = self.name(), cause, "connection failed");
                return;
            }
            (Closed::InOrder | Closed::Idle | Closed::Cut, _) => return,
        };
        let address = address.map_or_else(|| "unix".to_owned(), |address| address.to_string());
        let mut record = self.record(Kind::Connection, Some(&address));
        if let Some(peer) = peer {
            record.principal = Some(peer.id().as_str());
            record.peer_certificate_sha256 = Some(peer.svid().sha256());
            record.peer_certificate_serial = Some(peer.svid().serial());
        }
        record.duration = Some(opened.elapsed());
        record.reason = Some(reason);
        record.error = error;
        self.write(&record);
    }

    fn record<'a>(&'a self, kind: Kind, address: Option<&'a str>) -> Record<'a> {
        Record {
            direction: self.point.direction.as_str(),
            protocol: self.point.protocol,
            listener: &self.point.listener,
            peer_address: address,
            ..Record::new(kind, new_decision_id(), "refused")
        }
    }

    fn write(&self, record: &Record<'_>) {
        if let Err(error) = self.point.audit.write(record) {
            tracing::error!(listener = self.name(), %error, "a refused connection has no record");
        }
    }
}

fn no_alpn() -> Closed {
    let message = "direct TLS without the ALPN protocol `postgresql`".to_owned();
    Closed::Refused { rule: "no-alpn", message }
}

fn too_slow(limits: &Limits) -> HandshakeRefusal {
    HandshakeRefusal {
        rule: "handshake-timeout",
        message: format!("handshake was not finished within {} ms", limits.handshake_timeout.as_millis()),
        peer_san: None,
    }
}
