//! A decision until its record is written.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::answer::Answer;
use super::{Asker, EnforcementPoint, Exchange, Settlement};
use crate::audit::{Audit, AuditError, DecisionId, Kind, OperationRecord, Record, SqlRecord, TrialRecord};
use crate::identity::Token;
use crate::policy::{Outcome, Trial, worst};

/// A decision on its way to its record.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) point: Arc<EnforcementPoint>,
    pub(super) asker: Arc<Asker>,
    pub(super) exchange: Exchange,
    pub(super) id: DecisionId,
    pub(super) time: SystemTime,
    pub(super) outcome: Outcome,
    pub(super) answer: Option<Arc<Answer>>,
    pub(super) refusal: Option<(&'static str, String)>,
    pub(super) authz: Duration,
    pub(super) recorded: bool,
}

impl Entry {
    pub(super) fn settle(&mut self, settlement: &Settlement) -> Result<(), AuditError> {
        self.settled(settlement);
        self.point.bearable(self.record(Kind::Request, settlement, |audit, record| audit.write(record)))
    }

    pub(super) fn settled(&mut self, settlement: &Settlement) {
        self.recorded = true;
        let metrics = &self.point.metrics;
        metrics.bytes_in(settlement.bytes_in);
        metrics.bytes_out(settlement.bytes_out);
        if let Some(status) = settlement.status {
            metrics.request(status, self.exchange.started.elapsed());
        }
    }

    pub(super) fn record<R>(
        &self,
        kind: Kind,
        settlement: &Settlement,
        write: impl FnOnce(&Audit, &Record<'_>) -> R,
    ) -> R {
        let svid = self.asker.peer.svid();
        let answer = self.answer.as_deref();
        // The operation that the record is about: the first one that was decided like the whole.
        let deciding = answer.and_then(|answer| answer.each().find(|(_, decision)| decision.outcome == self.outcome));
        let said = answer.and_then(Answer::said);
        // What has been said before need not be put together.
        let several = answer.filter(|answer| answer.operations.len() > 1 && said.is_none_or(|said| !said.is_known()));
        let operations = several.map(operation_records).unwrap_or_default();
        let trials = answer.map(trial_records).unwrap_or_default();
        let record = Record {
            kind,
            time: self.time,
            decision_id: self.id,
            mode: "enforce",
            peer_san: None,
            request_id: Some(&self.exchange.request_id),
            request_number: self.exchange.number,
            trace_id: self.exchange.trace_id.as_deref(),
            outcome: self.outcome.as_str(),
            policies: deciding.map(|(_, decision)| decision.policies.as_slice()).unwrap_or_default(),
            policy_digest: answer.map(|answer| answer.generation.digest()),
            policy_generation: answer.map(|answer| answer.generation.number()),
            in_force: answer.map(|answer| &*answer.generation),
            principal: Some(self.asker.peer.id().as_str()),
            principal_in: answer.map(|answer| answer.principal.given()).unwrap_or_default(),
            principal_tags: answer.map(|answer| answer.principal.tags()),
            shadow: &trials,
            peer_certificate_sha256: Some(svid.sha256()),
            peer_certificate_serial: Some(svid.serial()),
            token_issuer: self.exchange.token.as_deref().map(Token::issuer),
            token_subject: self.exchange.token.as_deref().map(Token::subject),
            peer_address: self.asker.address_text.as_deref().or(Some("unix")),
            action: deciding.map(|(operation, _)| operation.action.as_str()),
            resource: deciding.map(|(operation, _)| &operation.resource),
            context: deciding.map(|(operation, _)| &operation.context),
            facts: answer.map(|answer| &answer.facts),
            operations: &operations,
            said,
            direction: self.point.direction.as_str(),
            protocol: self.point.protocol,
            listener: &self.point.listener,
            upstream: Some(&self.point.upstream),
            method: self.exchange.method.as_deref(),
            bytes_in: Some(settlement.bytes_in),
            bytes_out: Some(settlement.bytes_out),
            sql: self.exchange.statement.as_ref().map(|statement| SqlRecord {
                session: &statement.session,
                text: statement.text.as_deref(),
                fingerprint: statement.fingerprint.as_deref(),
                transaction: statement.transaction,
                protocol: statement.protocol,
                prepared: statement.prepared.as_deref(),
                command: settlement.command.as_deref(),
                rows: settlement.rows,
                sqlstate: settlement.sqlstate.as_deref(),
            }),
            duration: Some(
                settlement.ended.unwrap_or_else(Instant::now).saturating_duration_since(self.exchange.started),
            ),
            authz: Some(self.authz),
            status: settlement.status,
            reason: self.refusal.as_ref().map(|(rule, _)| *rule).or(settlement.reason),
            error: settlement
                .error
                .as_deref()
                .or_else(|| self.refusal.as_ref().map(|(_, message)| message.as_str()))
                .or_else(|| deciding.and_then(|(_, decision)| decision.error.as_deref())),
        };
        write(&self.point.audit, &record)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.recorded {
            let settlement = Settlement { error: Some("the exchange was broken off".into()), ..Settlement::default() };
            if let Err(error) = self.settle(&settlement) {
                tracing::error!(%error, decision_id = %self.id, "an exchange that was broken off has no record");
            }
        }
    }
}

fn operation_records(answer: &Answer) -> Vec<OperationRecord<'_>> {
    let records = answer.each().map(|(operation, decision)| OperationRecord {
        action: operation.action.as_str(),
        resource: &operation.resource,
        context: &operation.context,
        outcome: decision.outcome.as_str(),
        policies: &decision.policies,
        error: decision.error.as_deref(),
    });
    records.collect()
}

fn trial_records(answer: &Answer) -> Vec<TrialRecord<'_>> {
    let of = |trial: &'_ Trial| worst(trial.decisions.iter());
    let records = answer.trials.iter().map(|trial| {
        let outcome = of(trial);
        let deciding = trial.decisions.iter().find(|decision| decision.outcome == outcome);
        TrialRecord {
            candidate: trial.of.as_str(),
            outcome: outcome.as_str(),
            policies: deciding.map(|decision| decision.policies.as_slice()).unwrap_or_default(),
            policy_digest: &trial.digest,
            error: deciding.and_then(|decision| decision.error.as_deref()),
        }
    });
    records.collect()
}
