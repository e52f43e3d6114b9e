//! The rules for leaves, as a table.

use super::*;
use crate::identity::dev_ca::{ExtendedKeyUsagePurpose as Purpose, KeyUsagePurpose as Usage};

const SAN: [u64; 4] = [2, 5, 29, 17];
const KEY_USAGE: [u64; 4] = [2, 5, 29, 15];

/// Each rogue with the rule that must refuse it, beside the twin that differs in that alone.
fn rogues() -> Vec<(&'static str, &'static str, SvidParams, SvidParams)> {
    let id = "spiffe://prod.test/ns/etl/sa/load";
    let san_of = |text: &str| der(0x30, &der(0x86, text.as_bytes()));
    let long = |length: usize| format!("spiffe://prod.test/{}", "a".repeat(length - "spiffe://prod.test/".len()));
    vec![
        (
            "no URI SAN",
            "uri-san-count",
            with(|p| p.names = vec![San::Dns("load.svc".into())]),
            with(|p| {
                p.names.push(San::Dns("load.svc".into()));
            }),
        ),
        (
            "no SAN at all, the ID in the CN",
            "uri-san-count",
            with(|p| {
                p.names.clear();
                p.common_name = Some(id.into());
            }),
            with(|p| p.common_name = Some(id.into())),
        ),
        ("the ID in a DNS name", "uri-san-count", with(|p| p.names = vec![San::Dns(id.into())]), good()),
        ("two URI SANs", "uri-san-count", with(|p| p.names.push(San::uri("spiffe://prod.test/admin"))), good()),
        ("two equal URI SANs", "uri-san-count", with(|p| p.names.push(San::uri(id))), good()),
        (
            "a second URI that is not spiffe",
            "uri-san-count",
            with(|p| p.names.push(San::uri("https://x.test/"))),
            good(),
        ),
        ("a second URI before the ID", "uri-san-count", with(|p| p.names.insert(0, San::uri("urn:x:y"))), good()),
        ("a second URI that is not text", "uri-san-count", with(|p| p.names.push(San::Uri(vec![0xff, 0xfe]))), good()),
        ("an empty second URI", "uri-san-count", with(|p| p.names.push(San::Uri(vec![]))), good()),
        (
            "a NUL in the URI",
            "uri-san-encoding",
            with(|p| {
                p.names = vec![San::Uri(b"spiffe://prod.test/admin\0.evil".to_vec())];
            }),
            uri("spiffe://prod.test/admin"),
        ),
        (
            "a URI that ends in NUL",
            "uri-san-encoding",
            with(|p| {
                p.names = vec![San::Uri(b"spiffe://prod.test/admin\0".to_vec())];
            }),
            uri("spiffe://prod.test/admin"),
        ),
        (
            "a URI that is not UTF-8",
            "uri-san-encoding",
            with(|p| {
                p.names = vec![San::Uri(b"spiffe://prod.test/\xff".to_vec())];
            }),
            good(),
        ),
        ("a URI that is UTF-8, not IA5", "uri-san-encoding", uri("spiffe://prod.test/é"), good()),
        ("a line break in the URI", "uri-san-encoding", uri("spiffe://prod.test/a\nb"), good()),
        ("an empty URI", "spiffe-id-scheme", with(|p| p.names = vec![San::Uri(vec![])]), good()),
        ("another scheme", "spiffe-id-scheme", uri("https://prod.test/x"), uri("spiffe://prod.test/x")),
        ("the scheme in upper case", "spiffe-id-scheme", uri("SPIFFE://prod.test/x"), uri("spiffe://prod.test/x")),
        ("an ID that is too long", "spiffe-id-length", uri(&long(2049)), uri(&long(2048))),
        ("an empty trust domain", "spiffe-id-trust-domain", uri("spiffe:///x"), good()),
        ("a trust domain in upper case", "spiffe-id-trust-domain", uri("spiffe://Prod.test/x"), good()),
        ("a port", "spiffe-id-trust-domain", uri("spiffe://prod.test:443/x"), good()),
        ("userinfo", "spiffe-id-trust-domain", uri("spiffe://root@prod.test/x"), good()),
        ("percent-encoding in the trust domain", "spiffe-id-trust-domain", uri("spiffe://prod%2etest/x"), good()),
        (
            "a trust domain of 256 bytes",
            "spiffe-id-trust-domain",
            uri(&format!("spiffe://{}/x", "a".repeat(256))),
            uri(&format!("spiffe://{}/x", "a".repeat(255))),
        ),
        ("a trailing slash", "spiffe-id-path", uri("spiffe://prod.test/x/"), uri("spiffe://prod.test/x")),
        ("an empty segment", "spiffe-id-path", uri("spiffe://prod.test//x"), uri("spiffe://prod.test/x")),
        ("a dot segment", "spiffe-id-path", uri("spiffe://prod.test/x/../y"), uri("spiffe://prod.test/x/y")),
        ("percent-encoding in the path", "spiffe-id-path", uri("spiffe://prod.test/%41"), uri("spiffe://prod.test/A")),
        ("a query", "spiffe-id-path", uri("spiffe://prod.test/x?y"), uri("spiffe://prod.test/x")),
        ("a fragment", "spiffe-id-path", uri("spiffe://prod.test/x#y"), uri("spiffe://prod.test/x")),
        ("no path", "spiffe-id-has-path", uri("spiffe://prod.test"), uri("spiffe://prod.test/x")),
        (
            "empty subject, SAN not critical",
            "san-critical",
            with(|p| p.organization = None),
            with(|p| {
                p.organization = None;
                p.names_critical = true;
            }),
        ),
        ("the CA flag", "ca-flag", with(|p| p.ca = Some(true)), with(|p| p.ca = None)),
        (
            "a signing certificate",
            "ca-flag",
            SvidParams::signing(&domain("prod.test"), HOUR, SystemTime::now()),
            good(),
        ),
        ("no key usage", "key-usage-present", with(|p| p.key_usage = None), good()),
        ("key usage not critical", "key-usage-critical", with(|p| p.key_usage_critical = false), good()),
        (
            "no digitalSignature",
            "digital-signature",
            with(|p| p.key_usage = Some(vec![Usage::KeyAgreement])),
            with(|p| {
                p.key_usage = Some(vec![Usage::DigitalSignature, Usage::KeyAgreement, Usage::KeyEncipherment]);
            }),
        ),
        ("key usage without any bit", "digital-signature", with(|p| p.key_usage = Some(vec![])), good()),
        (
            "keyCertSign",
            "key-cert-sign",
            with(|p| {
                p.key_usage = Some(vec![Usage::DigitalSignature, Usage::KeyCertSign]);
            }),
            good(),
        ),
        ("cRLSign", "crl-sign", with(|p| p.key_usage = Some(vec![Usage::DigitalSignature, Usage::CrlSign])), good()),
        (
            "clientAuth alone",
            "extended-key-usage",
            with(|p| p.extended_key_usage = vec![Purpose::ClientAuth]),
            with(|p| {
                p.extended_key_usage.push(Purpose::CodeSigning);
            }),
        ),
        (
            "serverAuth alone",
            "extended-key-usage",
            with(|p| p.extended_key_usage = vec![Purpose::ServerAuth]),
            with(|p| {
                p.extended_key_usage.clear();
            }),
        ),
        (
            "anyExtendedKeyUsage alone",
            "extended-key-usage",
            with(|p| p.extended_key_usage = vec![Purpose::Any]),
            good(),
        ),
        (
            "code signing alone",
            "extended-key-usage",
            with(|p| {
                p.extended_key_usage = vec![Purpose::CodeSigning];
            }),
            good(),
        ),
        (
            "a second SAN extension",
            "duplicate-extension",
            with(|p| {
                p.extensions.push((SAN.to_vec(), false, san_of("spiffe://prod.test/admin")));
            }),
            good(),
        ),
        (
            "a second key usage extension",
            "duplicate-extension",
            with(|p| {
                p.extensions.push((KEY_USAGE.to_vec(), true, vec![3, 2, 7, 0x80]));
            }),
            good(),
        ),
        (
            "a SAN extension that is cut short",
            "extension-encoding",
            with(|p| {
                p.names.clear();
                p.extensions.push((SAN.to_vec(), false, vec![0x30, 0x7f, 0x86]));
            }),
            with(|p| {
                p.names.clear();
                p.extensions.push((SAN.to_vec(), false, san_of(id)));
            }),
        ),
        (
            "bytes after the names",
            "extension-encoding",
            with(|p| {
                p.names.clear();
                p.extensions.push((SAN.to_vec(), false, [san_of(id), vec![5, 0]].concat()));
            }),
            good(),
        ),
        (
            "a name of another class",
            "extension-encoding",
            with(|p| p.names.push(San::Other(0x16, b"x".to_vec()))),
            good(),
        ),
        (
            "a critical extension nobody knows",
            "critical-extension",
            with(|p| {
                p.extensions.push((vec![1, 3, 6, 1, 4, 1, 99999, 1], true, vec![5, 0]));
            }),
            with(|p| p.extensions.push((vec![1, 3, 6, 1, 4, 1, 99999, 1], false, vec![5, 0]))),
        ),
        (
            "a validity that ends before it begins",
            "validity-order",
            with(|p| {
                p.not_after = p.not_before - HOUR;
            }),
            good(),
        ),
    ]
}

#[test]
fn each_rogue_leaf_is_refused_by_its_rule_and_its_twin_is_accepted() {
    let rogues = rogues();
    assert!(rogues.len() >= 25, "{}", rogues.len());
    for (what, rule, rogue, twin) in rogues {
        let error = X509Svid::parse(&leaf(&rogue)).expect_err(what);
        assert_eq!(error.rule(), rule, "{what}: {error}");
        assert_ne!(error.section(), "", "{what}");
        X509Svid::parse(&leaf(&twin)).unwrap_or_else(|error| panic!("twin of {what}: {error}"));
    }
}

#[test]
fn every_rule_for_leaves_has_a_rogue() {
    let rogues = rogues();
    for verdict in judge(&leaf(&good())) {
        let here = rogues.iter().any(|(_, rule, ..)| *rule == verdict.rule);
        // Of what no parameters make: in `svid` and `strength`.
        let there = ["encoding", "version", "key-strength", "signature-algorithm"].contains(&verdict.rule);
        assert!(here != there, "{}", verdict.rule);
    }
}

#[test]
fn the_report_breaks_the_rule_that_the_verifier_names() {
    for (what, rule, rogue, twin) in rogues() {
        let verdicts = judge(&leaf(&rogue));
        if !what.contains("signing certificate") && rule != "ca-flag" {
            let verdict = verdicts.iter().find(|verdict| verdict.rule == rule).expect(what);
            assert!(matches!(verdict.outcome, RuleOutcome::Broken(_)), "{what}: {verdict:?}");
        }
        let twin = judge(&leaf(&twin));
        assert!(twin.iter().all(|verdict| verdict.outcome == RuleOutcome::Holds), "twin of {what}: {twin:#?}");
    }
}
