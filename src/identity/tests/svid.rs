//! What is said of a certificate, whether it passes or not.

use proptest::prelude::*;

use super::*;

#[test]
fn a_signing_certificate_is_reported_by_the_rules_for_signing_certificates() {
    let verdicts = judge(ca().certificate());
    assert!(verdicts.iter().any(|verdict| verdict.rule == "signing-key-cert-sign"));
    assert!(verdicts.iter().all(|verdict| verdict.outcome == RuleOutcome::Holds), "{verdicts:#?}");
}

#[test]
fn rules_that_nothing_is_left_to_judge_for_are_not_said_to_hold() {
    let verdicts = judge(&leaf(&with(|p| p.names.push(San::uri("spiffe://prod.test/b")))));
    let outcome = |rule: &str| verdicts.iter().find(|verdict| verdict.rule == rule).map(|v| v.outcome.clone());
    assert_eq!(outcome("spiffe-id-path"), Some(RuleOutcome::NotJudged));
    let garbage = judge(b"garbage");
    assert!(matches!(garbage[0].outcome, RuleOutcome::Broken(_)));
    assert!(garbage[1..].iter().all(|verdict| verdict.outcome == RuleOutcome::NotJudged));
}

#[test]
fn bytes_after_the_certificate_are_refused() {
    let mut der = leaf(&good()).to_vec();
    assert!(X509Svid::parse(&der).is_ok());
    der.push(0);
    assert_eq!(X509Svid::parse(&der).unwrap_err().rule(), "encoding");
}

#[test]
fn any_version_but_3_is_refused_of_leaves_and_of_authorities() {
    // Version ::= INTEGER { v1(0), v2(1), v3(2) }, the first field (RFC 5280, 4.1.2.1).
    let with_version = |der: &CertificateDer<'_>, version| {
        let (mut der, field) = (der.to_vec(), [0xa0, 3, 2, 1, 2]);
        let at = der.windows(field.len()).position(|window| window == field).unwrap();
        der[at + 4] = version;
        CertificateDer::from(der)
    };
    let (leaf, authority) = (leaf(&good()), ca());
    assert!(X509Svid::parse(&with_version(&leaf, 2)).is_ok());
    for version in [0, 1, 3] {
        let error = X509Svid::parse(&with_version(&leaf, version)).unwrap_err();
        assert_eq!(error, SvidError::Version { version: u64::from(version) + 1 });
        let authority = with_version(authority.certificate(), version);
        let bundle = TrustBundle::from_certificates(domain("prod.test"), &[authority]);
        assert_eq!((bundle.anchors().len(), bundle.skipped()[0].error.rule()), (0, "version"));
    }
}

#[test]
fn an_svid_says_who_until_when_and_which() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let id = spiffe_id("spiffe://prod.test/ns/etl/sa/load");
    let mut params = SvidParams::leaf(&id, HOUR, now);
    params.organization = Some(" a,b+\"c\"é".into());
    params.common_name = Some("#x ".into());
    let der = leaf(&params);
    let svid = X509Svid::parse(&der).unwrap();
    assert_eq!(svid.id(), &id);
    assert_eq!(svid.not_after(), now + HOUR);
    assert_eq!(svid.not_before(), now - Duration::from_secs(300));
    assert_eq!(svid.serial().len(), 32);
    assert_eq!(svid.sha256().len(), 64);
    assert_eq!(svid.subject(), r#"CN=\#x\ ,O=\ a\,b\+\"c\"\C3\A9"#);
}

#[test]
fn names_of_refused_certificates_are_shown_escaped() {
    let two = leaf(&with(|p| p.names.push(San::Uri(b"x\0\n\xff".to_vec()))));
    assert_eq!(san_of_refused(&two).unwrap(), r"spiffe://prod.test/ns/etl/sa/load, x\x00\n\xff");
    let dns = leaf(&with(|p| p.names = vec![San::Dns("load.svc".into())]));
    assert_eq!(san_of_refused(&dns).unwrap(), "DNS:load.svc");
    assert_eq!(san_of_refused(&leaf(&with(|p| p.names.clear()))), None);
    assert_eq!(san_of_refused(b"garbage"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_flipped_bit_is_judged_without_a_panic_and_never_makes_an_id_without_path(at in any::<prop::sample::Index>(), bit in 0..8_u32) {
        static LEAF: std::sync::LazyLock<CertificateDer<'static>> = std::sync::LazyLock::new(|| leaf(&good()));
        let mut der = LEAF.to_vec();
        let at = at.index(der.len());
        der[at] ^= 1 << bit;
        if let Ok(svid) = X509Svid::parse(&der) {
            prop_assert!(svid.id().is_workload());
        }
        let _ = judge(&der);
        let _ = san_of_refused(&der);
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(X509Svid::parse(&bytes).is_err());
        prop_assert!(!judge(&bytes).is_empty());
    }
}
