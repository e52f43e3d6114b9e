//! SPIFFE bundles as JSON: what is taken from them, what is passed over and said, what is refused.

use std::time::Duration;

use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use proptest::prelude::*;
use rcgen::PublicKeyData as _;
use serde_json::{Value, json};

use crate::identity::TrustDomain;
use crate::identity::dev_ca::DevCa;
use crate::identity::tests::domain;
use crate::identity::trust::*;

const HOUR: Duration = Duration::from_secs(3600);

fn ca() -> DevCa {
    DevCa::new(&domain("prod.test"), HOUR).unwrap()
}

fn x509(ca: &DevCa) -> Value {
    json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(ca.certificate())]})
}

/// A P-256 key as a JWK for tokens.
fn ec(kid: &str) -> Value {
    let key = rcgen::KeyPair::generate().unwrap();
    let (x, y) = key.der_bytes().split_at(33);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x.split_at(1).1), URL_SAFE_NO_PAD.encode(y));
    json!({"kty": "EC", "use": "jwt-svid", "kid": kid, "crv": "P-256", "x": x, "y": y})
}

/// An RSA key as a JWK for tokens.
fn rsa(kid: &str, bits: usize) -> Value {
    let mut modulus = vec![0xc5; bits.div_ceil(8)];
    if !bits.is_multiple_of(8) {
        modulus[0] = 0xff >> (8 - bits % 8);
    }
    json!({"kty": "RSA", "use": "jwt-svid", "kid": kid, "n": URL_SAFE_NO_PAD.encode(modulus), "e": "AQAB"})
}

/// `key` with members changed, or taken away by null.
fn with(mut key: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        let members = key.as_object_mut().unwrap();
        if value.is_null() {
            members.remove(name)
        } else {
            members.insert(name.clone(), value.clone())
        };
    }
    key
}

fn set(keys: &[Value]) -> Vec<u8> {
    json!({ "keys": keys }).to_string().into_bytes()
}

fn parse(keys: &[Value]) -> BundleDocument {
    BundleDocument::parse(&set(keys)).unwrap()
}

#[test]
fn a_bundle_gives_its_authorities_its_number_and_its_hint() {
    let (one, two) = (ca(), ca());
    let json = json!({
        "spiffe_sequence": 12_035_488,
        "spiffe_refresh_hint": 300,
        "keys": [x509(&one), ec("a"), x509(&two), rsa("b", 2048)],
        "more": {"of": ["whatever", 1.5, null]},
    });
    let bundle = TrustBundle::from_file_content(domain("prod.test"), format!("\n {json}").as_bytes()).unwrap();
    assert_eq!((bundle.anchors().len(), bundle.sequence()), (2, Some(12_035_488)));
    assert_eq!(bundle.refresh_hint(), Some(Duration::from_secs(300)));
    assert_eq!(bundle.jwt_authorities().iter().map(JwtAuthority::kid).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(bundle.jwt_authority("a").unwrap().algorithms(), [Algorithm::ES256]);
    assert_eq!(bundle.jwt_authority("b").unwrap().algorithms().len(), 6);
    assert_eq!((bundle.skipped(), bundle.ignored()), (&[][..], &[][..]));
    assert!(bundle.jwt_authority("c").is_none());
}

#[test]
fn no_keys_are_trust_in_nothing_and_no_list_of_keys_is_no_bundle() {
    let bundle = TrustBundle::from_json(domain("prod.test"), br#"{"keys": []}"#).unwrap();
    assert!(bundle.anchors().is_empty() && bundle.jwt_authorities().is_empty());
    for json in ["{}", r#"{"keys": null}"#, r#"{"keys": {}}"#, r#"{"keys": [1]}"#, "[]", "", "{", r#"{"keys": []} x"#] {
        let error = TrustBundle::from_json(domain("prod.test"), json.as_bytes()).unwrap_err();
        assert!(matches!(error, BundleError::Document(DocumentError::Json { .. })), "{json}: {error}");
    }
}

#[test]
fn each_key_that_is_not_used_is_named_with_its_reason_and_the_others_are_used() {
    let good = ca();
    let other = ca();
    let key = ec("k");
    for (rule, ignored) in [
        ("no-x5c", with(x509(&other), json!({"x5c": null}))),
        ("no-x5c", with(x509(&other), json!({"x5c": []}))),
        ("x5c", with(x509(&other), json!({"x5c": "MII="}))),
        ("x5c", with(x509(&other), json!({"x5c": [1]}))),
        ("x5c", with(x509(&other), json!({"x5c": ["not base64!"]}))),
        ("x5c", with(x509(&other), json!({"x5c": [format!(" {}", STANDARD.encode(other.certificate()))]}))),
        ("key-type", with(x509(&other), json!({"kty": "oct"}))),
        ("key-type", with(x509(&other), json!({"kty": "ec"}))),
        ("key-type", with(x509(&other), json!({"kty": null}))),
        ("key-use", with(x509(&other), json!({"use": "X509-SVID"}))),
        ("key-use", with(x509(&other), json!({"use": "sig"}))),
        ("key-use", with(x509(&other), json!({"use": null}))),
        ("key-use", with(x509(&other), json!({"use": ["x509-svid"]}))),
        ("key-use", json!({})),
        ("no-kid", with(key.clone(), json!({"kid": null}))),
        ("no-kid", with(key.clone(), json!({"kid": ""}))),
        ("no-kid", with(key.clone(), json!({"kid": 7}))),
        ("key-member", with(key.clone(), json!({"kid": "k".repeat(257)}))),
        ("key-type", with(key.clone(), json!({"kty": "OKP"}))),
        ("key-type", with(key.clone(), json!({"kty": "oct", "k": "c2VjcmV0"}))),
        ("key-curve", with(key.clone(), json!({"crv": "P-521"}))),
        ("key-curve", with(key.clone(), json!({"crv": null}))),
        ("key-member", with(key.clone(), json!({"x": null}))),
        ("key-member", with(key.clone(), json!({"y": "AAAA"}))),
        ("key-member", with(key.clone(), json!({"crv": "P-384"}))),
        ("key-point", with(key.clone(), json!({"y": URL_SAFE_NO_PAD.encode([7; 32])}))),
        ("key-purpose", with(key.clone(), json!({"alg": "RS256"}))),
        ("key-purpose", with(key.clone(), json!({"alg": "HS256"}))),
        ("key-purpose", with(key.clone(), json!({"alg": "none"}))),
        ("key-purpose", with(key.clone(), json!({"key_ops": ["sign"]}))),
        ("private-key", with(key.clone(), json!({"d": "AQAB"}))),
        ("key-strength", rsa("k", 2047)),
        ("key-strength", rsa("k", 8193)),
        ("key-member", with(rsa("k", 2048), json!({"n": "AMXF"}))),
        ("key-member", with(rsa("k", 2048), json!({"e": "AQ"}))),
        ("key-member", with(rsa("k", 2048), json!({"e": "BA"}))),
        ("key-member", with(rsa("k", 2048), json!({"e": null}))),
    ] {
        let document = parse(&[x509(&good), ignored.clone(), ec("good")]);
        let reasons: Vec<_> = document.ignored.iter().map(|(index, reason)| (*index, reason.rule())).collect();
        assert_eq!(reasons, [(1, rule)], "{ignored}");
        assert_eq!(document.certificates, [good.certificate().clone()], "{ignored}");
        assert_eq!(document.jwt_authorities.len(), 1, "{ignored}");
    }
    for used in [
        with(key.clone(), json!({"alg": "ES256", "key_ops": ["verify"]})),
        with(key.clone(), json!({"alg": null})),
        rsa("k", 3072),
        with(rsa("k", 2048), json!({"alg": "PS256", "e": "Aw"})),
    ] {
        let document = parse(std::slice::from_ref(&used));
        assert_eq!((document.jwt_authorities.len(), document.ignored.len()), (1, 0), "{used}");
    }
}

#[test]
fn only_the_first_certificate_of_a_key_counts_and_each_counts_once() {
    let (first, second) = (ca(), ca());
    let both = json!([STANDARD.encode(first.certificate()), STANDARD.encode(second.certificate())]);
    let junk_after = json!([STANDARD.encode(first.certificate()), 5]);
    let keys = [with(x509(&first), json!({"x5c": both})), with(x509(&first), json!({"x5c": junk_after})), x509(&first)];
    let document = parse(&keys);
    assert_eq!(document.certificates, [first.certificate().clone()]);
    assert_eq!(document.ignored, []);
}

#[test]
fn keys_that_share_a_name_are_used_only_if_they_are_one_key() {
    let (key, twin) = (ec("same"), ec("same"));
    let document = parse(&[key.clone(), ec("other"), key.clone()]);
    assert_eq!(document.jwt_authorities.iter().map(JwtAuthority::kid).collect::<Vec<_>>(), ["same", "other"]);
    let document = parse(&[key.clone(), ec("other"), twin, key]);
    assert_eq!(document.jwt_authorities.iter().map(JwtAuthority::kid).collect::<Vec<_>>(), ["other"]);
    assert_eq!(document.ignored, [(0, IgnoredKey::DuplicateKid), (2, IgnoredKey::DuplicateKid)]);
}

#[test]
fn a_name_that_is_given_twice_is_refused_since_readers_differ_in_which_one_counts() {
    let one = x509(&ca()).to_string();
    for json in [
        format!(r#"{{"keys": [{one}], "keys": []}}"#),
        format!(r#"{{"keys": [{one}], "spiffe_sequence": 1, "spiffe_sequence": 2}}"#),
        format!(r#"{{"keys": [{}]}}"#, one.replace(r#""use":"#, r#""use": "jwt-svid", "use":"#)),
        format!(r#"{{"keys": [{}]}}"#, one.replace(r#""use":"#, r#""use": null, "use":"#)),
        format!(r#"{{"keys": [{}]}}"#, one.replace(r#""use":"#, r#""\u0075se": "jwt-svid", "use":"#)),
    ] {
        let error = BundleDocument::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("duplicate field"), "{json}: {error}");
    }
    assert!(BundleDocument::parse(format!(r#"{{"keys": [{one}]}}"#).as_bytes()).is_ok());
}

#[test]
fn numbers_are_whole_and_from_zero_to_the_largest_of_64_bits() {
    for (number, accepted) in [
        ("0", true),
        ("18446744073709551615", true),
        ("18446744073709551616", false),
        ("-1", false),
        ("1.0", false),
        ("1e3", false),
        ("\"1\"", false),
        ("true", false),
        ("null", true),
    ] {
        for name in ["spiffe_sequence", "spiffe_refresh_hint"] {
            let json = format!(r#"{{"{name}": {number}, "keys": []}}"#);
            assert_eq!(BundleDocument::parse(json.as_bytes()).is_ok(), accepted, "{json}");
        }
    }
}

#[test]
fn size_count_and_depth_have_a_limit() {
    let keys = |count| format!(r#"{{"keys": [{}]}}"#, vec!["{}"; count].join(","));
    assert_eq!(BundleDocument::parse(keys(MAX_BUNDLE_KEYS).as_bytes()).unwrap().ignored.len(), MAX_BUNDLE_KEYS);
    let error = BundleDocument::parse(keys(MAX_BUNDLE_KEYS + 1).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("more than 512 keys"), "{error}");
    let padded = |length: usize| format!(r#"{{"keys": []{}}}"#, " ".repeat(length - r#"{"keys": []}"#.len()));
    assert!(BundleDocument::parse(padded(MAX_BUNDLE_BYTES).as_bytes()).is_ok());
    let error = BundleDocument::parse(padded(MAX_BUNDLE_BYTES + 1).as_bytes()).unwrap_err();
    assert_eq!(error, DocumentError::TooLong { bytes: MAX_BUNDLE_BYTES + 1 });
    let deep = format!(r#"{{"keys": [{{"x5c": {}1{}}}]}}"#, "[".repeat(50_000), "]".repeat(50_000));
    assert!(BundleDocument::parse(deep.as_bytes()).unwrap_err().to_string().contains("recursion limit"));
}

#[test]
fn certificates_of_which_none_can_be_trusted_are_a_mistake_and_not_a_wish() {
    let leaf = ca().issue(&crate::identity::tests::spiffe_id("spiffe://prod.test/a"), HOUR).unwrap();
    let leaf = json!({"kty": "EC", "use": "x509-svid", "x5c": [STANDARD.encode(&leaf.chain[0])]});
    let error = TrustBundle::from_json(domain("prod.test"), &set(std::slice::from_ref(&leaf))).unwrap_err();
    assert!(matches!(error, BundleError::NoAuthority { .. }), "{error}");
    let bundle = TrustBundle::from_json(domain("prod.test"), &set(&[leaf, x509(&ca())])).unwrap();
    assert_eq!((bundle.anchors().len(), bundle.skipped().len()), (1, 1));
}

#[test]
fn a_plain_set_of_keys_takes_those_for_signatures() {
    let keys = [
        with(ec("no use"), json!({"use": null})),
        with(ec("sig"), json!({"use": "sig"})),
        with(ec("enc"), json!({"use": "enc"})),
        x509(&ca()),
    ];
    let (authorities, ignored) = parse_jwks(&set(&keys)).unwrap();
    assert_eq!(authorities.iter().map(JwtAuthority::kid).collect::<Vec<_>>(), ["no use", "sig"]);
    assert_eq!(ignored.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [2, 3]);
    assert!(BundleDocument::parse(&set(&keys)).unwrap().jwt_authorities.is_empty(), "a bundle says `jwt-svid`");
}

#[test]
fn a_token_is_verified_by_the_key_that_was_read() {
    let key = rcgen::KeyPair::generate().unwrap();
    let signing = jsonwebtoken::EncodingKey::from_ec_der(&key.serialize_der());
    let (x, y) = key.der_bytes().split_at(33);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x.split_at(1).1), URL_SAFE_NO_PAD.encode(y));
    let rsa = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let rsa_public = rsa.public_key();
    let n = URL_SAFE_NO_PAD.encode(rsa_public.modulus().big_endian_without_leading_zero());
    let e = URL_SAFE_NO_PAD.encode(rsa_public.exponent().big_endian_without_leading_zero());
    let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'static> = aws_lc_rs::encoding::AsDer::as_der(&rsa).unwrap();
    // PKCS#1 is what PKCS#8 wraps: 26 bytes before it for a key of this size (RFC 5958 2).
    let signing_rsa = jsonwebtoken::EncodingKey::from_rsa_der(pkcs8.as_ref().split_at(26).1);
    let document = parse(&[
        with(ec("ec"), json!({"x": x, "y": y})),
        json!({"kty": "RSA", "use": "jwt-svid", "kid": "rsa", "n": n, "e": e}),
    ]);
    let claims = json!({"sub": "spiffe://prod.test/a", "exp": 4_102_444_800_u64, "aud": ["x"]});
    for (index, algorithm, signing) in [(0, Algorithm::ES256, &signing), (1, Algorithm::PS256, &signing_rsa)] {
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::new(algorithm), &claims, signing).unwrap();
        let mut rules = jsonwebtoken::Validation::new(algorithm);
        rules.set_audience(&["x"]);
        let verified =
            |authority: &JwtAuthority| jsonwebtoken::decode::<Value>(&token, &authority.decoding_key(), &rules).is_ok();
        assert!(verified(&document.jwt_authorities[index]), "{algorithm:?}");
        assert!(!verified(&document.jwt_authorities[1 - index]), "{algorithm:?}");
    }
}

fn keys_of_any_kind() -> impl Strategy<Value = Value> {
    let value = prop_oneof![
        Just(json!("x509-svid")),
        Just(json!("jwt-svid")),
        Just(json!("EC")),
        Just(json!("RSA")),
        Just(json!("P-256")),
        Just(json!("AQAB")),
        Just(json!(["AQAB"])),
        any::<i32>().prop_map(|number| json!(number)),
        "[ -~]{0,12}".prop_map(|text| json!(text)),
    ];
    let name = prop::sample::select(vec!["kty", "use", "kid", "x5c", "alg", "key_ops", "crv", "x", "y", "n", "e", "d"]);
    prop::collection::btree_map(name, value, 0..10).prop_map(|members| json!(members))
}

proptest! {
    #[test]
    fn each_key_is_used_or_said_to_be_ignored(keys in prop::collection::vec(keys_of_any_kind(), 0..8)) {
        let document = parse(&keys);
        let used = document.certificates.len() + document.jwt_authorities.len();
        // One certificate may come by several keys.
        prop_assert!(used + document.ignored.len() <= keys.len());
        prop_assert!(document.ignored.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for authority in &document.jwt_authorities {
            prop_assert!(!authority.kid().is_empty() && !authority.algorithms().is_empty());
            let _ = authority.decoding_key();
        }
    }

    #[test]
    fn what_is_put_in_is_what_is_trusted(
        sequence in any::<Option<u64>>(),
        hint in any::<Option<u64>>(),
        kids in prop::collection::btree_set("[ -~é]{1,20}", 0..4),
    ) {
        let keys: Vec<_> = kids.iter().map(|kid| rsa(kid, 2048)).collect();
        let json = json!({"keys": keys, "spiffe_sequence": sequence, "spiffe_refresh_hint": hint});
        let document = BundleDocument::parse(json.to_string().as_bytes()).unwrap();
        prop_assert_eq!(document.sequence, sequence);
        prop_assert_eq!(document.refresh_hint, hint.map(Duration::from_secs));
        prop_assert!(document.jwt_authorities.iter().map(JwtAuthority::kid).eq(kids.iter().map(String::as_str)));
    }

    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let trust_domain = TrustDomain::parse("prod.test").unwrap();
        let _ = TrustBundle::from_file_content(trust_domain, &bytes);
        let _ = parse_jwks(&bytes);
    }
}
