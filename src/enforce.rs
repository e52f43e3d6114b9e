//! The enforcement point: where question, answer, record and permit meet.
//!
//! [`Permit`] is made here and nowhere else, and every way out of the process takes one. Both a [`Permit`] and a [`Denied`]
//! own the record of their decision: it is written when the exchange is settled, and if that is forgotten, or the task that
//! would have done it is cancelled, when it is dropped. So there is no forwarding without a decision and no decision without
//! a record.

mod answer;
mod asker;
mod denials;
mod entry;
mod exchange;
mod flips;
mod permit;
mod standing;
mod token;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use self::answer::Answer;
use self::entry::Entry;
use crate::audit::{Audit, AuditError, DecisionId, Gathered, Kind, Record, new_decision_id};
use crate::config::{Direction, OnAuditFailure};
use crate::identity::Token;
use crate::mapping::{Context, Operations, Value};
use crate::policy::{Outcome, PolicyGeneration, PolicyStore};
use crate::telemetry::ListenerMetrics;
use crate::tls::Peer;

pub use asker::Asker;
pub use denials::{Denials, DeniedQuestion};
pub use exchange::{Exchange, Settlement, Statement};
pub use flips::{Flip, Flips};
pub use permit::{Denied, Permit, STARTED_AFTER};
pub use standing::{LastAsked, Standing, TOKEN_EXPIRED, Unfit};

/// What a listener needs to decide and to record.
#[derive(Debug)]
pub struct EnforcementPoint {
    /// The listener's name.
    pub listener: Arc<str>,
    /// Which way it faces.
    pub direction: Direction,
    /// What it speaks, as the configuration writes it.
    pub protocol: &'static str,
    /// Its upstream, for the record.
    pub upstream: Box<str>,
    /// The policies in force.
    pub policies: Arc<PolicyStore>,
    /// Where decisions are recorded.
    pub audit: Arc<Audit>,
    /// What happens while they cannot be.
    pub on_audit_failure: OnAuditFailure,
    /// The listener's counters.
    pub metrics: Arc<ListenerMetrics>,
    /// Where candidates would have decided otherwise.
    pub flips: Arc<Flips>,
    /// The last denials.
    pub denials: Arc<Denials>,
}

impl EnforcementPoint {
    /// Whether a request may be served at all: only while its record can be written.
    #[must_use]
    pub fn records_can_be_written(&self) -> bool {
        self.on_audit_failure == OnAuditFailure::Allow || self.audit.accepts()
    }

    /// The policies in force now.
    #[must_use]
    pub fn policies_in_force(&self) -> Arc<PolicyGeneration> {
        self.policies.current()
    }

    /// Asks the policies about everything a request asks.
    ///
    /// `generation` is the one whose header names the operations were mapped with: each request is decided by exactly one.
    ///
    /// # Errors
    /// At least one operation is not allowed: then none is.
    pub fn enforce(
        self: &Arc<Self>,
        generation: Arc<PolicyGeneration>,
        asker: &Arc<Asker>,
        exchange: Exchange,
        operations: impl Into<Arc<Operations>>,
    ) -> Result<Permit, Denied> {
        let deciding = Instant::now();
        let time = SystemTime::now();
        let answer = Arc::new(self.ask(generation, asker, operations.into(), time, exchange.token.as_deref()));
        self.entered(asker, exchange, answer, time, deciding.elapsed())
    }

    /// The same for operations that one connection is likely to ask again, such as those of a prepared statement: an answer that lasts
    /// is not looked for anew as long as `generation` is the same, and its records are written from what they have in common.
    ///
    /// # Errors
    /// As [`enforce`](Self::enforce).
    pub fn enforce_again(
        self: &Arc<Self>,
        generation: Arc<PolicyGeneration>,
        asker: &Arc<Asker>,
        exchange: Exchange,
        operations: &Arc<Operations>,
    ) -> Result<Permit, Denied> {
        if exchange.token.is_some() {
            // Answers are remembered by what is asked, and the token is a part of that.
            return self.enforce(generation, asker, exchange, Arc::clone(operations));
        }
        let time = SystemTime::now();
        let known = asker.answers().find(operations, &generation).map(Arc::clone);
        if let Some(answer) = known {
            return self.entered(asker, exchange, answer, time, Duration::ZERO);
        }
        let deciding = Instant::now();
        let answer = Arc::new(self.ask(generation, asker, Arc::clone(operations), time, None));
        asker.answers().keep(&answer);
        self.entered(asker, exchange, answer, time, deciding.elapsed())
    }

    fn ask(
        &self,
        generation: Arc<PolicyGeneration>,
        asker: &Asker,
        operations: Arc<Operations>,
        time: SystemTime,
        token: Option<&Token>,
    ) -> Answer {
        let principal = asker.principal(&generation);
        let facts = self.facts_with(token, &generation, asker, time);
        Answer::of(generation, &principal, operations, facts)
    }

    /// What all operations of a request share, with what the token says that came with it.
    fn facts_with(
        &self,
        token: Option<&Token>,
        generation: &PolicyGeneration,
        asker: &Asker,
        time: SystemTime,
    ) -> Context {
        let mut facts = self.facts(asker, time);
        if let Some(token) = token {
            facts.set("token", token::value(token, generation.claims_read()));
        }
        facts
    }

    fn entered(
        self: &Arc<Self>,
        asker: &Arc<Asker>,
        exchange: Exchange,
        answer: Arc<Answer>,
        time: SystemTime,
        authz: Duration,
    ) -> Result<Permit, Denied> {
        self.metrics.authz_seconds(authz);
        for (operation, decision) in answer.each() {
            self.metrics.decision(operation.action.as_str(), decision.outcome.as_str(), "enforce");
        }
        let (outcome, id) = (answer.outcome, new_decision_id());
        if !answer.trials.is_empty() {
            self.tried(&answer, id, time);
        }
        if outcome != Outcome::Allowed {
            self.denials.note(&self.listener, &answer, id, time);
        }
        // Boxed: it is handed on from hand to hand until the exchange ends.
        let entry = Box::new(Entry {
            point: Arc::clone(self),
            asker: Arc::clone(asker),
            exchange,
            id,
            time,
            outcome,
            answer: Some(answer),
            refusal: None,
            authz,
            recorded: false,
        });
        if outcome == Outcome::Allowed { Ok(Permit(entry)) } else { Err(Denied(entry)) }
    }

    /// Counts what candidates would have decided, and remembers where that is another outcome.
    fn tried(&self, answer: &Answer, id: DecisionId, time: SystemTime) {
        for trial in &answer.trials {
            for ((operation, decision), tried) in answer.each().zip(&trial.decisions) {
                self.metrics.decision(operation.action.as_str(), tried.outcome.as_str(), "shadow");
                if decision.outcome.is_allowed() != tried.outcome.is_allowed() {
                    let point = (&self.listener, self.direction);
                    self.flips.note(point, answer, (operation, decision, trial.of, tried), (id, time));
                }
            }
        }
    }

    /// Asks the policies without leave to do anything: for what is only prepared, and is asked again when it is to run.
    ///
    /// # Errors
    /// At least one operation is not allowed. That is a decision like any other, with its record.
    pub fn preview(
        self: &Arc<Self>,
        generation: Arc<PolicyGeneration>,
        asker: &Arc<Asker>,
        exchange: impl FnOnce() -> Exchange,
        operations: &Arc<Operations>,
    ) -> Result<(), Denied> {
        self.stands(generation, asker, (None, exchange), operations).map(|_lasts| ())
    }

    /// The same, and whether the answer depends on the policies alone.
    fn stands(
        self: &Arc<Self>,
        generation: Arc<PolicyGeneration>,
        asker: &Arc<Asker>,
        (token, exchange): (Option<&Token>, impl FnOnce() -> Exchange),
        operations: &Arc<Operations>,
    ) -> Result<bool, Denied> {
        let principal = asker.principal(&generation);
        let facts = self.facts_with(token, &generation, asker, SystemTime::now());
        let (mut allowed, mut lasts) = (true, true);
        for operation in operations.iter() {
            let decision = generation.decide(&principal, operation, &facts);
            allowed &= decision.outcome == Outcome::Allowed;
            lasts &= decision.lasts;
        }
        if allowed {
            return Ok(lasts);
        }
        match self.enforce(generation, asker, exchange(), Arc::clone(operations)) {
            Err(denied) => Err(denied),
            // The clock can turn a denial into a permission between the two; nobody takes this one, so it has no record.
            Ok(mut permit) => {
                permit.0.recorded = true;
                Ok(false)
            }
        }
    }

    /// Whether the policies would permit this, and without a bound on rows. Nobody gets leave by that, so nothing is recorded: it is for what
    /// the proxy itself has to know before it tells a client something.
    #[must_use]
    pub fn would_permit(&self, generation: &PolicyGeneration, asker: &Asker, operations: &Operations) -> bool {
        let principal = asker.principal(generation);
        let facts = self.facts(asker, SystemTime::now());
        operations.iter().all(|operation| {
            let decision = generation.decide(&principal, operation, &facts);
            decision.outcome == Outcome::Allowed && decision.policies.iter().all(|id| generation.max_rows(id).is_none())
        })
    }

    /// A request that cannot be named, so no policy was asked: refused, and recorded as that.
    pub fn refuse(
        self: &Arc<Self>,
        asker: &Arc<Asker>,
        exchange: Exchange,
        rule: &'static str,
        message: String,
    ) -> Denied {
        let time = SystemTime::now();
        self.metrics.decision("", Outcome::Refused.as_str(), "enforce");
        Denied(Box::new(Entry {
            point: Arc::clone(self),
            asker: Arc::clone(asker),
            exchange,
            id: new_decision_id(),
            time,
            outcome: Outcome::Refused,
            answer: None,
            refusal: Some((rule, message)),
            authz: Duration::ZERO,
            recorded: false,
        }))
    }

    /// Writes records that [`Permit::settle_soon`] has gathered, by whomever.
    ///
    /// # Errors
    /// They could not be written, and the configuration does not allow to go on without.
    pub fn commit(&self, gathered: Gathered) -> Result<(), AuditError> {
        self.bearable(self.audit.commit(gathered))
    }

    fn bearable(&self, written: Result<(), AuditError>) -> Result<(), AuditError> {
        if self.on_audit_failure == OnAuditFailure::Allow { Ok(()) } else { written }
    }

    /// Records that a peer broke the protocol on its connection in a way that no request can be told from: there is nobody to
    /// answer, and nothing that was decided.
    pub fn record_broken(&self, asker: &Asker, rule: &'static str, message: &str) {
        let record = self.connection_record(asker, Outcome::Refused, rule);
        if let Err(error) = self.audit.write(&Record { error: Some(message), ..record }) {
            tracing::error!(%error, rule, "a broken request has no record");
        }
    }

    /// Records that a connection came to cancel a statement and is passed on: which session it is for, and whether that may be, only its other
    /// end can tell.
    ///
    /// # Errors
    /// The record could not be written.
    pub fn record_cancel(&self, asker: &Asker) -> Result<(), AuditError> {
        let record = self.connection_record(asker, Outcome::Allowed, "cancel");
        self.bearable(self.audit.write(&Record { upstream: Some(&self.upstream), ..record }))
    }

    fn connection_record<'a>(&'a self, asker: &'a Asker, outcome: Outcome, rule: &'static str) -> Record<'a> {
        let svid = asker.peer.svid();
        Record {
            direction: self.direction.as_str(),
            protocol: self.protocol,
            listener: &self.listener,
            principal: Some(asker.peer.id().as_str()),
            peer_certificate_sha256: Some(svid.sha256()),
            peer_certificate_serial: Some(svid.serial()),
            peer_address: asker.address_text.as_deref().or(Some("unix")),
            reason: Some(rule),
            ..Record::new(Kind::Connection, new_decision_id(), outcome.as_str())
        }
    }

    /// Records that a connection to an upstream has to end: the peer at its other end may not stay.
    pub fn record_upstream(&self, peer: &Peer, rule: &'static str, message: &str) {
        let written = self.audit.write(&Record {
            direction: self.direction.as_str(),
            protocol: self.protocol,
            listener: &self.listener,
            upstream: Some(&self.upstream),
            peer_san: Some(peer.id().as_str()),
            peer_certificate_sha256: Some(peer.svid().sha256()),
            peer_certificate_serial: Some(peer.svid().serial()),
            reason: Some(rule),
            error: Some(message),
            ..Record::new(Kind::Connection, new_decision_id(), Outcome::Refused.as_str())
        });
        if let Err(error) = written {
            tracing::error!(%error, rule, "an upstream connection that has to end has no record");
        }
    }

    /// What all operations of a request share.
    fn facts(&self, asker: &Asker, now: SystemTime) -> Context {
        let mut facts = Context::default();
        facts.set("now", Value::Datetime(millis(now)));
        facts.set("direction", self.direction.as_str());
        if let Some(address) = asker.address {
            facts.set("sourceIp", Value::Ip(address.ip().to_canonical()));
        }
        if let Some(version) = asker.peer.tls_version() {
            let expiry = millis(asker.peer.svid().not_after());
            let tls = vec![("version", Value::from(version)), ("certificateExpiry", Value::Datetime(expiry))];
            facts.set("tls", Value::Record(tls));
        }
        facts
    }
}

fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis),
    }
}
