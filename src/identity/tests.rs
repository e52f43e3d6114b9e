//! Rogue certificates, each beside its valid twin.

use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rcgen::{PublicKeyData, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;

use super::dev_ca::{DevCa, ExtendedKeyUsagePurpose as Purpose, KeyUsagePurpose as Usage, San, SvidParams, der};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub(crate) fn spiffe_id(uri: &str) -> SpiffeId {
    SpiffeId::parse(uri).unwrap()
}

fn good() -> SvidParams {
    SvidParams::leaf(&spiffe_id("spiffe://prod.test/ns/etl/sa/load"), HOUR, SystemTime::now())
}

/// The good leaf with one thing changed.
fn with(change: impl FnOnce(&mut SvidParams)) -> SvidParams {
    let mut params = good();
    change(&mut params);
    params
}

fn ca() -> DevCa {
    DevCa::new(&domain("prod.test"), HOUR).unwrap()
}

fn leaf(params: &SvidParams) -> CertificateDer<'static> {
    ca().issue_with(params).unwrap().chain.remove(0)
}

fn uri(text: &str) -> SvidParams {
    with(|p| p.names = vec![San::uri(text)])
}

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

/// A public key of a kind that rcgen does not make; nobody holds the other half.
struct ForeignKey(&'static SignatureAlgorithm, Vec<u8>);

impl PublicKeyData for ForeignKey {
    fn der_bytes(&self) -> &[u8] {
        &self.1
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0
    }
}

fn rsa_key(bits: usize) -> ForeignKey {
    let modulus = [vec![0, 0x80], vec![1; bits / 8 - 1]].concat();
    let key = der(0x30, &[der(2, &modulus), der(2, &[1, 0, 1])].concat());
    ForeignKey(&rcgen::PKCS_RSA_SHA256, key)
}

#[test]
fn rsa_below_2048_bits_is_refused() {
    let ca = ca();
    let error = X509Svid::parse(&ca.sign(&good(), &rsa_key(1024)).unwrap()).unwrap_err();
    assert_eq!(error, SvidError::KeyStrength { key: "RSA with 1024 bits".into() });
    assert!(X509Svid::parse(&ca.sign(&good(), &rsa_key(2048)).unwrap()).is_ok());
}

#[test]
fn p224_is_refused() {
    let der = leaf(&with(|p| p.key = &rcgen::PKCS_ECDSA_P384_SHA384)).to_vec();
    // The curve's OID in the leaf's own key: secp384r1 is 1.3.132.0.34, secp224r1 is 1.3.132.0.33 (RFC 5480, 2.1.1.1).
    let curve = [0x2b, 0x81, 4, 0, 34];
    let at = der.windows(curve.len()).position(|window| window == curve).unwrap();
    let mut other = der.clone();
    other[at + 4] = 33;
    let error = X509Svid::parse(&other).unwrap_err();
    assert_eq!(error, SvidError::KeyStrength { key: "ECDSA on the curve `1.3.132.0.33`".into() });
    assert!(X509Svid::parse(&der).is_ok());
}

#[test]
fn keys_of_every_accepted_kind_pass() {
    for key in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ECDSA_P521_SHA512, &rcgen::PKCS_ED25519] {
        X509Svid::parse(&leaf(&with(|p| p.key = key))).unwrap();
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

// Chains

fn bundles(bundles: &[(&str, &[&DevCa])]) -> TrustBundleSet {
    TrustBundleSet::new(bundles.iter().map(|(name, authorities)| {
        let certificates: Vec<_> = authorities.iter().map(|ca| ca.certificate().clone()).collect();
        TrustBundle::from_certificates(domain(name), &certificates)
    }))
    .unwrap()
}

fn verify(bundles: &TrustBundleSet, chain: &[CertificateDer<'_>]) -> Result<(), &'static str> {
    verify_at(bundles, chain, SystemTime::now())
}

fn verify_at(bundles: &TrustBundleSet, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), &'static str> {
    let svid = X509Svid::parse(&chain[0]).unwrap();
    let both = [ChainUsage::Client, ChainUsage::Server].map(|usage| bundles.verify(&svid, chain, usage, now));
    both.into_iter().collect::<Result<(), _>>().map_err(|error| error.rule())
}

fn signing(change: impl FnOnce(&mut SvidParams)) -> SvidParams {
    let mut params = SvidParams::signing(&domain("prod.test"), HOUR, SystemTime::now());
    params.common_name = Some("issuing".into());
    change(&mut params);
    params
}

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
        ("critical and unknown", Err("chain"), signing(|p| p.extensions.push((vec![1, 2, 3, 4], true, vec![5, 0])))),
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
fn path_length_is_honoured() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    let chain = |length| {
        let upper = root.intermediate(&signing(|p| p.path_length = Some(length))).unwrap();
        let lower = upper.intermediate(&signing(|p| p.common_name = Some("lower".into()))).unwrap();
        lower.issue_with(&good()).unwrap().chain
    };
    assert_eq!(verify(&set, &chain(1)), Ok(()));
    assert_eq!(verify(&set, &chain(0)), Err("path-length"));
}

#[test]
fn uri_name_constraints_refuse_since_they_cannot_be_judged() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    // NameConstraints { permittedSubtrees [0] { { base [6] "prod.test" } } }
    let permitted = der(0x30, &der(0xa0, &der(0x30, &der(0x86, b"prod.test"))));
    let issuer = root.intermediate(&signing(|p| p.extensions.push((vec![2, 5, 29, 30], true, permitted)))).unwrap();
    assert_eq!(verify(&set, &issuer.issue_with(&good()).unwrap().chain), Err("name-constraints"));
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

#[test]
fn a_signature_by_a_weak_authority_is_refused() {
    // The authority is trusted, its RSA key has 1,024 bits: no such signature is checked, whoever made it.
    let weak = ca().sign(&signing(|_| {}), &rsa_key(1024)).unwrap();
    let bundle = TrustBundle::from_certificates(domain("prod.test"), &[weak]);
    assert_eq!(bundle.anchors().len(), 0);
    assert_eq!(bundle.skipped()[0].error.rule(), "key-strength");
}

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

/// The leaf with the OID of its signature algorithm, which stands in it twice, changed in the last byte.
fn signed_by(chain: &[CertificateDer<'_>], oid: &[u8], last: u8) -> CertificateDer<'static> {
    let mut der = chain[0].to_vec();
    let places: Vec<_> = der.windows(oid.len()).enumerate().filter(|(_, w)| *w == oid).map(|(at, _)| at).collect();
    assert_eq!(places.len(), 2);
    for at in places {
        der[at + oid.len() - 1] = last;
    }
    der.into()
}

#[test]
fn signatures_with_sha1_or_sha224_are_refused() {
    let root = DevCa::with_params(&signing(|p| p.key = &rcgen::PKCS_RSA_SHA256)).unwrap();
    let set = bundles(&[("prod.test", &[&root])]);
    let chain = root.issue_with(&good()).unwrap().chain;
    assert_eq!(verify(&set, &chain), Ok(()));
    // sha256WithRSAEncryption becomes sha1WithRSAEncryption
    let sha1 = signed_by(&chain, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], 5);
    assert_eq!(verify(&set, &[sha1]), Err("signature-algorithm"));

    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    let chain = root.issue_with(&good()).unwrap().chain;
    // ecdsa-with-SHA256 becomes ecdsa-with-SHA224
    let sha224 = signed_by(&chain, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], 1);
    assert_eq!(verify(&set, &[sha224]), Err("signature-algorithm"));
}
