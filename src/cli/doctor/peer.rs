//! What an upstream presented in a handshake, judged rule by rule.

use rustls::pki_types::CertificateDer;

use super::clock::Clock;
use super::report::Report;
use crate::cli::judged::{JudgedCertificate, JudgedRule};
use crate::cli::rules::advice;
use crate::config::{ListenerConfig, PeerMatcher, TlsVersion};
use crate::identity::{ChainUsage, SpiffeIdPattern, X509Generation, X509Svid};
use crate::tls::{HandshakeRefusal, Inspection, is_expected};

const CHECK: &str = "upstream";

/// Tells everything about a handshake with the upstream that `at` names.
pub(super) fn judge(
    report: &mut Report,
    clock: &mut Clock,
    at: &str,
    seen: &Inspection,
    (listener, own): (&ListenerConfig, Option<&X509Generation>),
) {
    handshake(report, at, seen, listener);
    certificates(report, clock, at, &seen.chain);
    let svid = seen.chain.first().and_then(|leaf| X509Svid::parse(leaf).ok());
    match own {
        Some(own) => {
            chain(report, clock, at, &seen.chain, own);
            if let (Some(svid), Some(expected)) = (&svid, &listener.peer) {
                peer(report, at, svid, expected, own);
            }
        }
        None => report.note(CHECK, format!("{at}: chain and peer are not judged"), "correct our own identity first"),
    }
    accepted(report, at, seen, own.is_some());
}

fn handshake(report: &mut Report, at: &str, seen: &Inspection, listener: &ListenerConfig) {
    let Some(version) = seen.tls_version else { return };
    let alpn = seen.alpn.as_ref().map(|alpn| format!(", ALPN {alpn}")).unwrap_or_default();
    let message = format!("{at}: {version} handshake{alpn}");
    if version == "TLSv1.2" && listener.tls_min_version == TlsVersion::V1_3 {
        return report.bad(CHECK, message, "let the peer speak TLS 1.3, or set `tls.min_version: \"1.2\"`");
    }
    report.good(CHECK, message);
}

fn certificates(report: &mut Report, clock: &mut Clock, at: &str, chain: &[CertificateDer<'_>]) {
    let mut judged = Vec::new();
    for (index, der) in chain.iter().enumerate() {
        match JudgedCertificate::of(der, clock.now()) {
            Ok(certificate) => judged.push(certificate),
            Err(error) => {
                let message = format!("{at}: certificate {} of the chain: `{}`: {error}", index + 1, error.rule());
                report.bad(CHECK, message, advice(error.rule()));
            }
        }
    }
    if let Some(Ok(svid)) = chain.first().map(|leaf| X509Svid::parse(leaf)) {
        clock.saw(&format!("the certificate of {}", svid.id()), svid.not_before());
        overdue(report, clock, at, &svid);
    }
    let Some(leaf) = judged.first() else { return };
    let who = if leaf.uris.is_empty() { "no URI SAN".to_owned() } else { leaf.uris.join(", ") };
    let rules: usize = judged.iter().map(|certificate| certificate.rules.len()).sum();
    let message = format!("{at}: presents {who}, {}, judged by {rules} rules", leaf.remaining);
    let broken: Vec<(usize, &'static str, String)> = judged
        .iter()
        .enumerate()
        .flat_map(|(index, certificate)| certificate.broken().map(move |rule| (index, rule)))
        .map(|(index, rule)| (index, rule.rule, rule.reason.clone().unwrap_or_default()))
        .collect();
    report.presented(CHECK, message, judged);
    for (index, rule, reason) in broken {
        let which = if index == 0 { String::new() } else { format!("certificate {} of the chain: ", index + 1) };
        report.bad(CHECK, format!("{at}: {which}`{rule}`: {reason}"), advice(rule));
    }
}

fn overdue(report: &mut Report, clock: &Clock, at: &str, svid: &X509Svid) {
    let lifetime = svid.not_after().duration_since(svid.not_before()).unwrap_or_default();
    if svid.not_after().duration_since(clock.now()).is_ok_and(|left| left < lifetime / 3) {
        let message = format!("{at}: less than a third of the lifetime of its certificate is left");
        report.warn(CHECK, message, "its rotation is overdue: run the doctor there");
    }
}

fn chain(report: &mut Report, clock: &Clock, at: &str, chain: &[CertificateDer<'_>], own: &X509Generation) {
    let rule = JudgedRule::of_chain(chain, &own.bundles, &[ChainUsage::Server], clock.now());
    match rule.reason {
        Some(reason) => report.bad(CHECK, format!("{at}: `{}`: {reason}", rule.rule), advice(rule.rule)),
        None if rule.result == "-" => {}
        None => report.good(CHECK, format!("{at}: its chain stands up to the bundle of its trust domain")),
    }
}

fn peer(report: &mut Report, at: &str, svid: &X509Svid, expected: &PeerMatcher, own: &X509Generation) {
    let expects = expects(expected);
    if is_expected(expected, svid.id(), own.svid.id()) {
        report.good(CHECK, format!("{at}: {} is as `peer: {expects}` asks", svid.id()));
    } else {
        let rule = "unexpected-peer";
        report.bad(CHECK, format!("{at}: `{rule}`: {} answered, `peer` is {expects}", svid.id()), advice(rule));
    }
}

fn expects(expected: &PeerMatcher) -> String {
    match expected {
        PeerMatcher::AnyInOwnTrustDomain => "any".to_owned(),
        PeerMatcher::OneOf(patterns) => {
            let one = |pattern: &SpiffeIdPattern| match pattern {
                SpiffeIdPattern::Exactly(id) => id.to_string(),
                SpiffeIdPattern::Below(id) => format!("{id}/*"),
            };
            patterns.iter().map(one).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Whether the other side takes us.
fn accepted(report: &mut Report, at: &str, seen: &Inspection, had_own: bool) {
    match &seen.objection {
        Some(HandshakeRefusal { rule, message, .. }) if had_own || *rule != "alert" => {
            report.bad(CHECK, format!("{at}: it does not let us in: `{rule}`: {message}"), advice(rule));
        }
        Some(_) => report.note(CHECK, format!("{at}: it wants a certificate, and we have none"), ""),
        None if !seen.asked_for_certificate => {
            let advice = "write the port at which the peer's sidecar speaks mutual TLS";
            report.bad(CHECK, format!("{at}: it does not ask for our certificate: it is no mutual TLS"), advice);
        }
        None => report.good(CHECK, format!("{at}: lets us in")),
    }
}
