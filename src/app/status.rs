//! The process as its admin doors show it.

use std::sync::Arc;
use std::time::SystemTime;

use http::Uri;
use serde_json::{Value as Json, json};
use tokio::sync::Notify;

use super::policies::PolicyFault;
use super::{Prepared, Shared};
use crate::admin::{
    AdminState, AuditStatus, BundleStatus, CrlStatus, IdentityStatus, ListenerStatus, NotReady, PartStatus,
    PolicyStatus, Status,
};
use crate::analysis::explain_denial;
use crate::audit::Rfc3339;
use crate::config::{AuditSinkConfig, Config, PolicyOrigin, PolicyUrl};
use crate::distribution::{BundleInForce, DistributionState};
use crate::drain::DrainWatch;
use crate::identity::{Crl, TrustBundle, X509Source as _};
use crate::policy::{Candidate, Expiry, PolicyProblem};

/// Snapshots of what is in force, taken when they are asked for.
#[derive(Debug)]
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) shared: Arc<Shared>,
    pub(super) bound: Vec<Arc<Prepared>>,
    pub(super) drain: DrainWatch,
    /// Told when somebody asks for the end.
    pub(super) shutdown: Arc<Notify>,
}

impl AdminState for State {
    fn not_ready(&self) -> Vec<NotReady> {
        let mut reasons = Vec::new();
        let mut because = |reason, message: String| reasons.push(NotReady { reason, message });
        if self.drain.is_draining() {
            because("draining", "the process is shutting down".into());
        }
        match self.shared.identity.current() {
            None => because(
                "identity",
                match self.standing_faults() {
                    faults if faults.is_empty() => "there is no SVID yet".into(),
                    faults => format!("there is no SVID yet: {}", faults.join("; ")),
                },
            ),
            Some(own) if own.expired(SystemTime::now()) => because("identity", "our own SVID has expired".into()),
            Some(_) => {}
        }
        if self.shared.policies.number() == 0 {
            let state = self.shared.distribution.as_ref().map(|health| health.state()).unwrap_or_default();
            let faults: Vec<_> = state.fault.map(|fault| fault.message).into_iter().chain(state.cache_fault).collect();
            because(
                "policy",
                match faults.is_empty() {
                    true => "there are no policies yet".into(),
                    false => format!("there are no policies yet: {}", faults.join("; ")),
                },
            );
        }
        if !self.shared.audit.is_working() {
            because("audit", self.shared.audit.failure().unwrap_or_else(|| "records cannot be written".into()));
        }
        reasons
    }

    fn status(&self) -> Status {
        Status {
            draining: self.drain.is_draining(),
            identity: self.identity(),
            policy: self.policy(),
            listeners: self.bound.iter().map(|prepared| prepared.status()).collect(),
            audit: AuditStatus {
                sink: match &self.config.audit.sink {
                    AuditSinkConfig::Stdout => "stdout".into(),
                    AuditSinkConfig::File(path) => path.display().to_string(),
                },
                failure: self.shared.audit.failure(),
            },
        }
    }

    fn shadow(&self) -> Json {
        let policies = self.shared.policies.current();
        let (flips, beyond) = self.shared.flips.groups();
        let flips = flips.iter().map(|flip| {
            json!({
                "candidate": flip.of.as_str(),
                "listener": flip.listener,
                "direction": flip.direction.as_str(),
                "who": flip.who,
                "action": flip.action,
                "resource": flip.resource,
                "outcome": flip.outcome.as_str(),
                "policies": flip.policies,
                "would_be": flip.would_be.as_str(),
                "would_be_by": flip.would_be_by,
                "count": flip.count,
                "last": Rfc3339::from(flip.last),
                "example": flip.example.to_string(),
            })
        });
        json!({
            "policy_digest": policies.digest(),
            "policy_generation": policies.number(),
            "shadow_digest": policies.shadow_digest(),
            "shadow_error": policies.shadow_fault(),
            "candidates": policies.tried().map(Candidate::as_str).collect::<Vec<_>>(),
            "flips": flips.collect::<Vec<_>>(),
            "beyond": beyond,
        })
    }

    fn denials(&self, most: usize) -> Json {
        let explained = self.shared.denials.last(most).into_iter().map(|denied| {
            let answer = explain_denial(&denied.generation, &denied.principal, &denied.operations, &denied.facts);
            let mut json = answer.map_or_else(|cause| json!({ "error": cause }), |explanation| explanation.json());
            if let Some(fields) = json.as_object_mut() {
                fields.insert("decision_id".to_owned(), denied.id.to_string().into());
                fields.insert("time".to_owned(), json!(Rfc3339::from(denied.time)));
                fields.insert("listener".to_owned(), json!(denied.listener));
            }
            json
        });
        json!({ "denials": explained.collect::<Vec<_>>() })
    }

    fn shutdown(&self) {
        self.shutdown.notify_one();
    }
}

impl State {
    /// What is wrong with the sources of our identity now.
    fn standing_faults(&self) -> Vec<String> {
        let health = self.shared.identity.health();
        health.iter().filter_map(|part| Some(format!("{}: {}", part.part, part.standing()?.message))).collect()
    }

    fn identity(&self) -> IdentityStatus {
        let faults = self.standing_faults();
        let last_error = (!faults.is_empty()).then(|| faults.join("; "));
        let source = self.config.identity.source.as_str();
        let parts = self.shared.identity.health().into_iter().map(PartStatus::from).collect();
        let Some(own) = self.shared.identity.current() else {
            return IdentityStatus { source, last_error, parts, ..IdentityStatus::default() };
        };
        IdentityStatus {
            source,
            spiffe_id: Some(own.svid.id().to_string()),
            not_before: Some(own.svid.not_before()),
            not_after: Some(own.svid.not_after()),
            serial: Some(own.svid.serial().to_owned()),
            sha256: Some(own.svid.sha256().to_owned()),
            generation: Some(own.number),
            trust_domains: own.bundles.iter().map(|bundle| bundle.trust_domain().to_string()).collect(),
            crls: own.bundles.iter().flat_map(crls).collect(),
            trust_faults: own.trust_faults(),
            last_error,
            parts,
        }
    }

    fn policy(&self) -> PolicyStatus {
        let policies = self.shared.policies.current();
        let mut fault = self.shared.faults().policies.clone();
        let distribution = self.shared.distribution.as_ref().map(|health| health.state());
        if let Some(of_bundle) = distribution.as_ref().and_then(|state| state.fault.as_ref()) {
            fault = Some(PolicyFault { lines: of_bundle.message.clone(), report: of_bundle.report.clone() });
        }
        let bundle = distribution.zip(match &self.config.policy.origin {
            PolicyOrigin::Url(bundles) => Some(bundles),
            PolicyOrigin::Directory(_) => None,
        });
        let bundle = bundle.map(|(state, from)| bundle_status(state, from));
        PolicyStatus {
            digest: policies.digest().to_owned(),
            generation: policies.number(),
            policies: policies.len(),
            warnings: policies.warnings().iter().map(PolicyProblem::advised_line).collect(),
            inactive: policies.inactive().iter().map(ToString::to_string).collect(),
            shadow_digest: policies.shadow_digest().map(str::to_owned),
            shadow_error: policies.shadow_fault().map(str::to_owned),
            last_error: fault.as_ref().map(|fault| fault.lines.clone()),
            last_error_report: fault.and_then(|fault| fault.report),
            bundle,
        }
    }
}

fn bundle_status(state: DistributionState, from: &PolicyUrl) -> BundleStatus {
    let in_force = state.in_force;
    let expires = in_force.as_ref().and_then(|bundle| bundle.expires);
    let of = |what: fn(&BundleInForce) -> String| in_force.as_ref().map(what);
    BundleStatus {
        url: shown(&from.url),
        name: of(|bundle| bundle.name.clone()),
        sequence: in_force.as_ref().map(|bundle| bundle.sequence),
        signed_by: of(|bundle| bundle.signed_by.clone()),
        from_cache: in_force.as_ref().is_some_and(|bundle| bundle.is_from_cache),
        fetched: in_force.as_ref().map(|bundle| bundle.fetched),
        age_seconds: in_force.as_ref().map(|bundle| seconds_since(bundle.fetched)),
        expires: expires.map(Expiry::time),
        expired: expires.is_some_and(|expiry| expiry.is_past(SystemTime::now())),
        last_success: state.last_success,
        rule: state.fault.as_ref().map(|fault| fault.rule),
        failing_since: state.fault.map(|fault| fault.since),
        cache_error: state.cache_fault,
    }
}

fn seconds_since(time: SystemTime) -> u64 {
    SystemTime::now().duration_since(time).unwrap_or_default().as_secs()
}

/// Without the query, which may hold what lets people in.
fn shown(url: &Uri) -> String {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    format!("https://{authority}{}", url.path())
}

fn crls(bundle: &TrustBundle) -> Vec<CrlStatus> {
    let status = |crl: &Crl| CrlStatus {
        trust_domain: bundle.trust_domain().to_string(),
        issuer: crl.issuer().to_owned(),
        number: crl.number(),
        this_update: Some(crl.this_update()),
        next_update: Some(crl.next_update()),
        entries: crl.entries(),
    };
    bundle.crls().iter().map(status).collect()
}

impl Prepared {
    fn status(&self) -> ListenerStatus {
        ListenerStatus {
            name: self.config.name.to_string(),
            direction: self.config.direction.as_str(),
            protocol: self.config.protocol.as_str(),
            address: self.socket.address().to_owned(),
            upstream: self.config.upstream.to_string(),
            connections: self.point.metrics.connections_now(),
        }
    }
}
