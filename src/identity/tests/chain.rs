//! Chains: from a leaf to an authority of its own trust domain.

use super::*;
use crate::identity::dev_ca::{ExtendedKeyUsagePurpose as Purpose, KeyUsagePurpose as Usage};

#[test]
fn a_bundle_speaks_for_its_own_trust_domain_only() {
    let (prod, partner) = (ca(), DevCa::new(&domain("partner.test"), HOUR).unwrap());
    let both = bundles(&[("prod.test", &[&prod]), ("partner.test", &[&partner])]);
    let ours = prod.issue_with(&good()).unwrap().chain;
    let theirs = partner.issue(&spiffe_id("spiffe://partner.test/x"), HOUR).unwrap().chain;
    assert_eq!(verify(&both, &ours), Ok(()));
    assert_eq!(verify(&both, &theirs), Ok(()));
    let forged = partner.issue_with(&good()).unwrap().chain;
    assert_eq!(verify(&both, &forged), Err("chain"));
    let other_way = prod.issue(&spiffe_id("spiffe://partner.test/x"), HOUR).unwrap().chain;
    assert_eq!(verify(&both, &other_way), Err("chain"));
}

#[test]
fn authorities_of_the_same_name_in_two_trust_domains_are_kept_apart() {
    let same_name = |name: &str| {
        let mut params = SvidParams::signing(&domain(name), HOUR, SystemTime::now());
        params.common_name = Some("the one name".into());
        DevCa::with_params(&params).unwrap()
    };
    let (prod, partner) = (same_name("prod.test"), same_name("partner.test"));
    let both = bundles(&[("prod.test", &[&prod]), ("partner.test", &[&partner])]);
    let theirs = partner.issue(&spiffe_id("spiffe://partner.test/x"), HOUR).unwrap().chain;
    assert_eq!(verify(&both, &prod.issue_with(&good()).unwrap().chain), Ok(()));
    assert_eq!(verify(&both, &theirs), Ok(()));
    let forged = partner.issue_with(&good()).unwrap().chain;
    let svid = X509Svid::parse(&forged[0]).unwrap();
    let error = both.verify(&svid, &forged, ChainUsage::Client, SystemTime::now()).unwrap_err();
    assert_eq!(error, ChainError::Signature { trust_domain: "prod.test".into() });
}

#[test]
fn an_unknown_trust_domain_under_a_trusted_authority_is_refused() {
    let prod = ca();
    let set = bundles(&[("prod.test", &[&prod])]);
    let stranger = prod.issue(&spiffe_id("spiffe://prod.test.evil/x"), HOUR).unwrap().chain;
    assert_eq!(verify(&set, &stranger), Err("unknown-trust-domain"));
    assert_eq!(verify(&set, &prod.issue_with(&good()).unwrap().chain), Ok(()));
}

#[test]
fn validity_is_judged_by_the_clock_that_is_given() {
    let prod = ca();
    let set = bundles(&[("prod.test", &[&prod])]);
    let now = SystemTime::now();
    let chain = prod.issue_with(&with(|p| {
        p.not_before = now - Duration::from_secs(60);
        p.not_after = now + Duration::from_secs(60);
    }));
    let chain = chain.unwrap().chain;
    assert_eq!(verify_at(&set, &chain, now), Ok(()));
    assert_eq!(verify_at(&set, &chain, now - Duration::from_secs(62)), Err("not-yet-valid"));
    assert_eq!(verify_at(&set, &chain, now + Duration::from_secs(62)), Err("expired"));
}

#[test]
fn what_is_said_about_a_certificate_out_of_its_time_does_not_change_while_it_is() {
    let prod = ca();
    let set = bundles(&[("prod.test", &[&prod])]);
    let moment = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let chain = prod.issue_with(&with(|p| {
        p.not_before = moment(1_767_225_600);
        p.not_after = moment(1_767_229_200);
    }));
    let chain = chain.unwrap().chain;
    let svid = X509Svid::parse(&chain[0]).unwrap();
    let said = |at| set.verify(&svid, &chain, ChainUsage::Client, at).unwrap_err().to_string();
    for later in [1, 2, 3_600] {
        assert_eq!(said(moment(1_767_229_200 + later)), "certificate expired at 2026-01-01T01:00:00Z");
        assert_eq!(said(moment(1_767_225_600 - later)), "certificate is not valid before 2026-01-01T00:00:00Z");
    }
}

#[test]
fn an_authority_whose_own_time_is_over_issues_nothing_more() {
    let prod = DevCa::with_params(&signing(|p| p.not_after = SystemTime::now() + Duration::from_secs(60))).unwrap();
    let set = bundles(&[("prod.test", &[&prod])]);
    let chain = prod.issue_with(&good()).unwrap().chain;
    let now = SystemTime::now();
    assert_eq!(verify_at(&set, &chain, now), Ok(()));
    assert_eq!(verify_at(&set, &chain, now + Duration::from_secs(120)), Err("issuer-validity"));
}

#[test]
fn issuers_in_between_obey_the_rules_for_signing_certificates() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    let chain = |issuer: &SvidParams| root.intermediate(issuer).unwrap().issue_with(&good()).unwrap().chain;
    let now = SystemTime::now();
    for (what, expected, params) in [
        ("as it should be", Ok(()), signing(|_| {})),
        ("without SPIFFE ID", Ok(()), signing(|p| p.names.clear())),
        ("of another trust domain", Ok(()), signing(|p| p.names = vec![San::uri("spiffe://other.test")])),
        ("key usage not critical", Ok(()), signing(|p| p.key_usage_critical = false)),
        ("no CA flag", Err("signing-ca-flag"), signing(|p| p.ca = None)),
        ("CA flag false", Err("signing-ca-flag"), signing(|p| p.ca = Some(false))),
        (
            "no keyCertSign",
            Err("signing-key-cert-sign"),
            signing(|p| p.key_usage = Some(vec![Usage::DigitalSignature])),
        ),
        ("no key usage", Err("key-usage-present"), signing(|p| p.key_usage = None)),
        ("a workload's ID", Err("signing-spiffe-id"), signing(|p| p.names = vec![San::uri("spiffe://prod.test/ca")])),
        ("two IDs", Err("signing-spiffe-id"), signing(|p| p.names.push(San::uri("spiffe://b.test")))),
        ("expired", Err("issuer-validity"), signing(|p| p.not_after = now - Duration::from_secs(10))),
        ("not yet valid", Err("issuer-validity"), signing(|p| p.not_before = now + HOUR)),
        (
            "for code only",
            Err("issuer-extended-key-usage"),
            signing(|p| p.extended_key_usage = vec![Purpose::CodeSigning]),
        ),
        (
            "critical and unknown",
            Err("critical-extension"),
            signing(|p| p.extensions.push((vec![1, 2, 3, 4], true, vec![5, 0]))),
        ),
    ] {
        assert_eq!(verify(&set, &chain(&params)), expected, "{what}");
    }
}

#[test]
fn a_leaf_that_issues_is_no_issuer() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    let workload = root.intermediate(&with(|p| p.common_name = Some("workload".into()))).unwrap();
    assert_eq!(verify(&set, &workload.issue_with(&good()).unwrap().chain), Err("signing-ca-flag"));
}

#[test]
fn a_chain_without_its_intermediate_or_with_too_many_certificates_is_refused() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    let chain = root.intermediate(&signing(|_| {})).unwrap().issue_with(&good()).unwrap().chain;
    assert_eq!(verify(&set, &chain), Ok(()));
    assert_eq!(verify(&set, &chain[..1]), Err("chain"));
    let padded: Vec<_> = chain.iter().chain(std::iter::repeat_n(&chain[1], MAX_CHAIN)).cloned().collect();
    assert_eq!(verify(&set, &padded), Err("chain-length"));
    assert_eq!(verify(&set, &padded[..MAX_CHAIN]), Ok(()));
}
