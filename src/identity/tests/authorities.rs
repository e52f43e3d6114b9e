//! What a bundle takes for an authority, and several authorities and paths at once.

use rcgen::KeyPair;

use super::*;
use crate::identity::dev_ca::{ExtendedKeyUsagePurpose as Purpose, KeyUsagePurpose as Usage};

#[test]
fn what_is_no_signing_certificate_is_left_out_of_a_bundle_and_listed() {
    let root = ca();
    let certificates = [leaf(&good()), root.certificate().clone(), CertificateDer::from(b"garbage".to_vec())];
    let bundle = TrustBundle::from_certificates(domain("prod.test"), &certificates);
    assert_eq!(bundle.anchors().len(), 1);
    let skipped: Vec<_> = bundle.skipped().iter().map(|skipped| (skipped.index, skipped.error.rule())).collect();
    assert_eq!(skipped, [(0, "signing-ca-flag"), (2, "encoding")]);
}

#[test]
fn bundle_files_that_hold_nothing_to_trust_are_errors() {
    let pem = ca().certificate_pem();
    assert!(TrustBundle::from_pem(domain("prod.test"), pem.as_bytes()).is_ok());
    assert_eq!(TrustBundle::from_pem(domain("prod.test"), b"").unwrap_err(), BundleError::Empty);
    let cut = TrustBundle::from_pem(domain("prod.test"), &pem.as_bytes()[..pem.len() - 40]).unwrap_err();
    assert!(matches!(cut, BundleError::Pem { .. }), "{cut:?}");
    let minted = ca().issue_with(&good()).unwrap();
    let leaf_only = TrustBundle::from_pem(domain("prod.test"), minted.chain_pem.as_bytes()).unwrap_err();
    assert_eq!(leaf_only, BundleError::NoAuthority { first: SvidError::SigningCaFlag });
}

#[test]
fn two_bundles_for_one_trust_domain_are_an_error() {
    let bundle = || TrustBundle::from_certificates(domain("prod.test"), &[ca().certificate().clone()]);
    let error = TrustBundleSet::new([bundle(), bundle()]).unwrap_err();
    assert_eq!(error, BundleError::Duplicate { trust_domain: domain("prod.test") });
}

#[test]
fn an_empty_bundle_trusts_nothing() {
    let prod = ca();
    let set = TrustBundleSet::new([TrustBundle::from_certificates(domain("prod.test"), &[])]).unwrap();
    assert_eq!(verify(&set, &prod.issue_with(&good()).unwrap().chain), Err("chain"));
}

#[test]
fn an_authority_issues_within_the_limits_of_its_own_certificate() {
    let now = SystemTime::now();
    let purposes = |purposes: &[Purpose]| signing(|p| p.extended_key_usage = purposes.to_vec());
    for (what, expected, params) in [
        ("no limits", Ok(()), signing(|_| {})),
        ("both purposes", Ok(()), purposes(&[Purpose::ServerAuth, Purpose::ClientAuth])),
        ("one purpose", Err("issuer-extended-key-usage"), purposes(&[Purpose::ServerAuth])),
        ("for code only", Err("issuer-extended-key-usage"), purposes(&[Purpose::CodeSigning])),
        ("expired", Err("issuer-validity"), signing(|p| p.not_after = now - Duration::from_secs(10))),
        ("not yet valid", Err("issuer-validity"), signing(|p| p.not_before = now + HOUR)),
        ("a critical extension", Ok(()), signing(|p| p.extensions.push((vec![1, 2, 3, 4], true, vec![5, 0])))),
    ] {
        let root = DevCa::with_params(&params).unwrap();
        let set = bundles(&[("prod.test", &[&root])]);
        assert_eq!(verify(&set, &root.issue_with(&good()).unwrap().chain), expected, "{what}");
        let below = root.intermediate(&signing(|p| p.common_name = Some("below".into()))).unwrap();
        assert_eq!(verify(&set, &below.issue_with(&good()).unwrap().chain), expected, "{what}, one further down");
    }
}

#[test]
fn what_may_not_be_an_authority_is_none() {
    let cases = [
        ("signing-ca-flag", signing(|p| p.ca = None)),
        ("signing-ca-flag", signing(|p| p.ca = Some(false))),
        ("key-usage-present", signing(|p| p.key_usage = None)),
        ("signing-key-cert-sign", signing(|p| p.key_usage = Some(vec![Usage::CrlSign, Usage::DigitalSignature]))),
        ("signing-spiffe-id", signing(|p| p.names = vec![San::uri("spiffe://prod.test/ca")])),
        ("signing-spiffe-id", signing(|p| p.names = vec![San::uri("https://prod.test")])),
        ("signing-spiffe-id", signing(|p| p.names.push(San::uri("spiffe://prod.test")))),
        ("validity-order", signing(|p| p.not_after = p.not_before - HOUR)),
        ("duplicate-extension", signing(|p| p.extensions.push((vec![2, 5, 29, 19], true, der(0x30, &[1, 1, 0xff]))))),
        (
            "extension-encoding",
            signing(|p| {
                p.ca = None;
                p.extensions.push((vec![2, 5, 29, 19], true, vec![0x30, 3, 1, 1]));
            }),
        ),
    ];
    // Of what no parameters make: in `svid` and `strength`; the last two are reported and no reason to refuse.
    let elsewhere =
        ["encoding", "version", "key-strength", "signature-algorithm", "key-usage-critical", "critical-extension"];
    for verdict in judge(ca().certificate()) {
        let here = cases.iter().any(|(rule, _)| *rule == verdict.rule);
        assert!(here != elsewhere.contains(&verdict.rule), "{}", verdict.rule);
    }
    for (rule, params) in cases {
        let authority = DevCa::with_params(&params).unwrap();
        let bundle = TrustBundle::from_certificates(domain("prod.test"), &[authority.certificate().clone()]);
        assert_eq!(bundle.anchors().len(), 0, "{rule}");
        assert_eq!(bundle.skipped()[0].error.rule(), rule);
    }
    let fit = TrustBundle::from_certificates(domain("prod.test"), &[ca().certificate().clone()]);
    assert_eq!((fit.anchors().len(), fit.skipped().len()), (1, 0));
}

#[test]
fn what_is_only_reported_of_an_authority_does_not_keep_it_out() {
    for (rule, params) in [
        ("key-usage-critical", signing(|p| p.key_usage_critical = false)),
        ("critical-extension", signing(|p| p.extensions.push((vec![1, 2, 3, 4], true, vec![5, 0])))),
    ] {
        let authority = DevCa::with_params(&params).unwrap();
        let verdicts = judge(authority.certificate());
        let verdict = verdicts.iter().find(|verdict| verdict.rule == rule).unwrap();
        assert!(matches!(verdict.outcome, RuleOutcome::Broken(_)), "{rule}");
        let bundle = TrustBundle::from_certificates(domain("prod.test"), &[authority.certificate().clone()]);
        assert_eq!(bundle.anchors().len(), 1, "{rule}");
    }
}

#[test]
fn two_authorities_of_one_name_both_issue_as_when_a_key_is_rotated() {
    let (old, new) = (ca(), ca());
    let leaf_of = |ca: &DevCa| ca.issue_with(&good()).unwrap().chain;
    for authorities in [[&old, &new], [&new, &old]] {
        let set = bundles(&[("prod.test", &authorities)]);
        assert_eq!((verify(&set, &leaf_of(&old)), verify(&set, &leaf_of(&new))), (Ok(()), Ok(())));
        assert_eq!(verify(&set, &leaf_of(&ca())), Err("chain"), "a third one of that name");
    }
    let only_new = bundles(&[("prod.test", &[&new])]);
    assert_eq!((verify(&only_new, &leaf_of(&old)), verify(&only_new, &leaf_of(&new))), (Err("chain"), Ok(())));
}

#[test]
fn an_authority_that_was_renewed_issues_as_long_as_one_of_its_certificates_allows() {
    let now = SystemTime::now();
    let root = DevCa::with_params(&signing(|p| p.not_after = now - Duration::from_secs(10))).unwrap();
    let key = KeyPair::from_pem(&root.key_pem()).unwrap();
    let again = |params: &SvidParams| root.sign(params, &key).unwrap();
    let (renewed, narrow) = (again(&signing(|_| {})), again(&signing(|p| p.path_length = Some(0))));
    let below = root.intermediate(&signing(|p| p.common_name = Some("below".into()))).unwrap();
    let direct = SvidParams::leaf(&spiffe_id("spiffe://prod.test/x"), HOUR, now);
    let (direct, chain) = (root.issue_with(&direct).unwrap().chain, below.issue_with(&good()).unwrap().chain);
    let expired = root.certificate().clone();
    let cases = [
        (vec![expired.clone()], Err("issuer-validity"), Err("issuer-validity")),
        (vec![expired.clone(), narrow.clone()], Ok(()), Err("path-length")),
        (vec![narrow.clone(), expired.clone(), renewed.clone()], Ok(()), Ok(())),
        (vec![renewed, narrow], Ok(()), Ok(())),
    ];
    for (certificates, of_direct, of_chain) in cases {
        let bundle = TrustBundle::from_certificates(domain("prod.test"), &certificates);
        let set = TrustBundleSet::new([bundle]).unwrap();
        assert_eq!((verify(&set, &direct), verify(&set, &chain)), (of_direct, of_chain), "{}", certificates.len());
    }
}

#[test]
fn a_cross_signed_issuer_leads_to_whichever_authority_is_trusted() {
    let (old, new) = (ca(), DevCa::with_params(&signing(|p| p.common_name = Some("new".into()))).unwrap());
    let params = signing(|p| p.common_name = Some("issuing".into()));
    let issuer = old.intermediate(&params).unwrap();
    let key = KeyPair::from_pem(&issuer.key_pem()).unwrap();
    let crossed = new.sign(&params, &key).unwrap();
    let chain = issuer.issue_with(&good()).unwrap().chain;
    let (leaf, by_old) = (&chain[0], &chain[1]);
    let (trust_old, trust_new) = (bundles(&[("prod.test", &[&old])]), bundles(&[("prod.test", &[&new])]));
    for chain in [[leaf, by_old, &crossed], [leaf, &crossed, by_old]] {
        let chain: Vec<_> = chain.into_iter().cloned().collect();
        assert_eq!((verify(&trust_old, &chain), verify(&trust_new, &chain)), (Ok(()), Ok(())));
    }
    let narrow = [leaf.clone(), by_old.clone()];
    assert_eq!((verify(&trust_old, &narrow), verify(&trust_new, &narrow)), (Ok(()), Err("chain")));
    // Of two paths one is broken: the other counts.
    let expired = signing(|p| {
        p.common_name = Some("issuing".into());
        p.not_after = SystemTime::now() - Duration::from_secs(10);
    });
    let expired = old.sign(&expired, &key).unwrap();
    let both = bundles(&[("prod.test", &[&old, &new])]);
    assert_eq!(verify(&both, &[leaf.clone(), expired.clone(), crossed]), Ok(()));
    assert_eq!(verify(&both, &[leaf.clone(), expired]), Err("issuer-validity"));
}

#[test]
fn order_and_company_of_the_issuers_make_no_difference() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    let named = |name: &str| signing(|p| p.common_name = Some(name.into()));
    let lower = root.intermediate(&named("upper")).unwrap().intermediate(&named("lower")).unwrap();
    let chain = lower.issue_with(&good()).unwrap().chain;
    let [leaf, lower, upper] = chain.as_slice() else { panic!("{}", chain.len()) };
    let (stranger, unrelated) = (ca(), leaf_of_stranger());
    let (stranger, junk) = (stranger.certificate(), CertificateDer::from(b"junk".to_vec()));
    for others in [
        vec![upper, lower],
        vec![lower, upper, root.certificate()],
        vec![stranger, lower, upper],
        vec![&unrelated, upper, lower, stranger],
        vec![lower, lower, upper, upper],
        vec![&junk, lower, upper],
        vec![leaf, lower, upper],
    ] {
        let chain: Vec<_> = std::iter::once(leaf).chain(others).cloned().collect();
        assert_eq!(verify(&set, &chain), Ok(()));
    }
    assert_eq!(verify(&set, &[leaf.clone(), upper.clone()]), Err("chain"));
}

fn leaf_of_stranger() -> CertificateDer<'static> {
    leaf(&with(|p| p.names = vec![San::uri("spiffe://stranger.test/x")]))
}
