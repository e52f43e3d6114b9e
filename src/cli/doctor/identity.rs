//! Our own SVID, and where it comes from.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::files::look;
use super::report::Report;
use crate::cli::certs::lifetime::roughly;
use crate::cli::ours::{OwnIdentity, ours};
use crate::cli::rules::advice;
use crate::config::{Config, IdentitySourceConfig};
use crate::identity::{Part, PartHealth, X509Generation};

/// Reads our identity as a start would; none if it is no good.
pub(super) fn identity(
    report: &mut Report,
    config: &Config,
    limit: Duration,
    now: SystemTime,
) -> Option<Arc<X509Generation>> {
    if let IdentitySourceConfig::Files { certificate, private_key, .. } = &config.identity.source {
        look(report, "certificate", certificate, false);
        look(report, "private key", private_key, true);
    }
    for (trust_domain, path) in &config.identity.trust_bundles {
        look(report, &format!("bundle of {trust_domain}"), path, false);
    }
    if let Some(path) = &config.identity.deny_file {
        look(report, "deny file", path, false);
    }
    for (trust_domain, path) in &config.identity.crl.files {
        look(report, &format!("revocation lists of {trust_domain}"), path, false);
    }
    let OwnIdentity { own, fault, health } = ours(config, limit);
    health.iter().for_each(|part| federation(report, part));
    if let Some((rule, message)) = fault {
        report.bad("identity", format!("`{rule}`: {message}"), advice(rule));
    }
    let own = own?;
    if let IdentitySourceConfig::WorkloadApi { address, .. } = &config.identity.source {
        report.good("source", format!("the Workload API at {address} answers"));
    }
    svid(report, &own, now);
    taken_back(report, &own);
    for ignored in &own.ignored {
        report.warn("trust", ignored.clone(), "nothing, if it is meant; else take one of the two away");
    }
    Some(own)
}

/// Whether peers with the same lists as ours would refuse us.
fn taken_back(report: &mut Report, own: &X509Generation) {
    if let Some(error) = &own.taken_back {
        let message = format!("`{}`: peers like us refuse our own certificate: {error}", error.rule());
        report.bad("identity", message, advice(error.rule()));
    }
}

/// How a bundle endpoint answered.
fn federation(report: &mut Report, part: &PartHealth) {
    let Part::Federation(trust_domain) = &part.part else { return };
    match part.standing() {
        Some(fault) => {
            let message = format!("{trust_domain}: `{}`: {}", fault.rule, fault.message);
            report.bad("federation", message, advice(fault.rule));
        }
        None if part.last_success.is_some() => {
            report.good("federation", format!("{trust_domain}: its endpoint has the bundle"));
        }
        None => {
            report.bad("federation", format!("{trust_domain}: its endpoint did not answer in time"), advice("timeout"))
        }
    }
}

/// Who we are and for how long. Whoever hands out SVIDs renews them at half their lifetime: a third left means that it was missed.
fn svid(report: &mut Report, own: &X509Generation, now: SystemTime) {
    let svid = &own.svid;
    let lifetime = svid.not_after().duration_since(svid.not_before()).unwrap_or_default();
    let shown = format!("{}, serial {}", svid.id(), svid.serial());
    match svid.not_after().duration_since(now) {
        Err(past) => {
            report.bad("identity", format!("{shown}, expired {} ago", roughly(past.duration())), advice("expired"));
        }
        Ok(left) => {
            let message = format!("{shown}, expires in {} of {}", roughly(left), roughly(lifetime));
            if left < lifetime / 3 {
                report.warn(
                    "identity",
                    message,
                    "rotation is overdue: see who renews it (SPIRE agent, cert-manager, a job)",
                );
            } else {
                report.good("identity", message);
            }
        }
    }
}
