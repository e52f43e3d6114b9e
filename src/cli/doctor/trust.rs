//! Whom we trust, and until when.

use std::time::SystemTime;

use super::report::Report;
use crate::cli::certs::lifetime::roughly;
use crate::cli::rules::advice;
use crate::identity::{Crl, OnExpiredCrl, TrustBundle, TrustBundleSet};

/// One line for each bundle, and one for each certificate in it that counts for nothing.
pub(super) fn trust(report: &mut Report, bundles: &TrustBundleSet, on_expired: OnExpiredCrl, now: SystemTime) {
    for bundle in bundles.iter() {
        one(report, bundle, now);
        bundle.crls().iter().for_each(|crl| revocation(report, bundle, crl, (on_expired, now)));
        for fault in bundle.crl_faults() {
            let message = format!("{}: `{}`: {fault}", bundle.trust_domain(), fault.rule());
            report.bad("revocation", message, advice(fault.rule()));
        }
        for skipped in bundle.skipped() {
            let number = skipped.index + 1;
            let message = format!(
                "{}: certificate {number} of the bundle is not trusted (`{}`): {}",
                bundle.trust_domain(),
                skipped.error.rule(),
                skipped.error
            );
            report.warn("trust", message, advice(skipped.error.rule()));
        }
    }
}

fn one(report: &mut Report, bundle: &TrustBundle, now: SystemTime) {
    let trust_domain = bundle.trust_domain();
    let count = match bundle.anchors().len() {
        1 => "1 authority".to_owned(),
        several => format!("{several} authorities"),
    };
    let Some((first, last)) = bundle.expiry() else {
        let advice = "bring its bundle: nobody from there can be verified";
        return report.bad("trust", format!("{trust_domain}: no authority"), advice);
    };
    let left = |end: SystemTime| end.duration_since(now).map(roughly);
    match (left(first), left(last)) {
        (_, Err(past)) => {
            let message = format!("{trust_domain}: {count}, the last expired {} ago", roughly(past.duration()));
            report.bad("trust", message, "bring the bundle with the trust domain's present authorities");
        }
        (Err(past), Ok(last)) => {
            let message = format!(
                "{trust_domain}: {count}, the first expired {} ago, the last expires in {last}",
                roughly(past.duration())
            );
            report.warn("trust", message, "take the expired one out; whom it issued is refused");
        }
        (Ok(first), Ok(_)) => {
            let hint = bundle.refresh_hint().map(|hint| format!(", to be fetched every {}", roughly(hint)));
            let hint = hint.unwrap_or_default();
            report.good("trust", format!("{trust_domain}: {count}, the first expires in {first}{hint}"));
        }
    }
}

/// How old a revocation list is, and when its successor is due.
fn revocation(report: &mut Report, bundle: &TrustBundle, crl: &Crl, (on_expired, now): (OnExpiredCrl, SystemTime)) {
    let age = now.duration_since(crl.this_update()).unwrap_or_default();
    let entries = match crl.entries() {
        1 => "1 certificate".to_owned(),
        several => format!("{several} certificates"),
    };
    let shown = format!("{}: list of `{}`, {entries}, {} old", bundle.trust_domain(), crl.issuer(), roughly(age));
    match crl.next_update().duration_since(now) {
        Ok(left) => report.good("revocation", format!("{shown}, the next is due in {}", roughly(left))),
        Err(past) => {
            let message = format!("{shown}, the next was due {} ago", roughly(past.duration()));
            match on_expired {
                OnExpiredCrl::Deny => report.bad("revocation", message, advice("crl-expired")),
                OnExpiredCrl::Allow => report.warn(
                    "revocation",
                    format!("{message}, and counts on (`crl.on_expired: allow`)"),
                    "see why the CA's next list does not arrive: who was revoked since is let in",
                ),
            }
        }
    }
}
