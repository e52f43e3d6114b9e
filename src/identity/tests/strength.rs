//! Keys and signatures that are too weak, of leaves, of issuers in between and of authorities.

use super::*;

#[test]
fn rsa_below_2048_bits_is_refused() {
    let ca = ca();
    let error = X509Svid::parse(&ca.sign(&good(), &rsa_key(1024)).unwrap()).unwrap_err();
    assert_eq!(error, SvidError::KeyStrength { key: "RSA with 1024 bits".into() });
    assert!(X509Svid::parse(&ca.sign(&good(), &rsa_key(2048)).unwrap()).is_ok());
}

/// A certificate whose key is on P-384, said to be on P-224.
fn on_p224(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
    // The curve's OID: secp384r1 is 1.3.132.0.34, secp224r1 is 1.3.132.0.33 (RFC 5480, 2.1.1.1).
    let (mut der, curve) = (certificate.to_vec(), [0x2b, 0x81, 4, 0, 34]);
    let at = der.windows(curve.len()).position(|window| window == curve).unwrap();
    der[at + 4] = 33;
    der.into()
}

#[test]
fn p224_is_refused() {
    let der = leaf(&with(|p| p.key = &rcgen::PKCS_ECDSA_P384_SHA384)).to_vec();
    let other = on_p224(&der.clone().into());
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
fn a_signature_by_a_weak_authority_is_refused() {
    // The authority is trusted, its RSA key has 1,024 bits: no such signature is checked, whoever made it.
    let weak = ca().sign(&signing(|_| {}), &rsa_key(1024)).unwrap();
    let bundle = TrustBundle::from_certificates(domain("prod.test"), &[weak]);
    assert_eq!(bundle.anchors().len(), 0);
    assert_eq!(bundle.skipped()[0].error.rule(), "key-strength");
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

/// Last byte of an OID, and what it then names.
type Weak = &'static [(u8, &'static str)];
/// What signs a certificate: the OID up to its last byte, the last byte with SHA-256, and what it is to become.
const SIGNATURES: [(&[u8], u8, Weak); 2] = [
    // PKCS #1 (RFC 8017, A.2.4): MD5, SHA-1, SHA-224
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], 11, &[(4, "MD5"), (5, "SHA-1"), (14, "SHA-224")]),
    // ECDSA (RFC 5758, 3.2): SHA-224; SHA3-256 stands elsewhere
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], 2, &[(1, "SHA-224"), (9, "nothing")]),
];

#[test]
fn signatures_over_weak_digests_are_refused_wherever_they_stand() {
    for ((oid, sha256, weak), key) in
        SIGNATURES.into_iter().zip([&rcgen::PKCS_RSA_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256])
    {
        let root = DevCa::with_params(&signing(|p| p.key = key)).unwrap();
        let set = bundles(&[("prod.test", &[&root])]);
        let chain = root.issue_with(&good()).unwrap().chain;
        let below = root.intermediate(&signing(|p| p.common_name = Some("below".into()))).unwrap();
        let below = below.issue_with(&good()).unwrap().chain;
        assert_eq!((verify(&set, &chain), verify(&set, &below)), (Ok(()), Ok(())));
        assert!(X509Svid::parse(&signed_by(&chain, oid, sha256)).is_ok());
        for (last, digest) in weak {
            let leaf = X509Svid::parse(&signed_by(&chain, oid, *last)).unwrap_err();
            assert_eq!(leaf.rule(), "signature-algorithm", "{digest}: {leaf}");
            let issuer = signed_by(&below[1..], oid, *last);
            assert_eq!(verify(&set, &[below[0].clone(), issuer]), Err("signature-algorithm"), "{digest}");
            let authority = signed_by(&[root.certificate().clone()], oid, *last);
            let bundle = TrustBundle::from_certificates(domain("prod.test"), &[authority]);
            assert_eq!(bundle.anchors().len(), 0, "{digest}");
            assert_eq!(bundle.skipped()[0].error.rule(), "signature-algorithm", "{digest}");
        }
    }
}

#[test]
fn a_certificate_says_one_thing_about_its_signature() {
    let der = leaf(&good()).to_vec();
    let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
    let places: Vec<_> = der.windows(oid.len()).enumerate().filter(|(_, w)| *w == oid).map(|(at, _)| at).collect();
    for at in places {
        let mut other = der.clone();
        other[at + oid.len() - 1] = 3;
        let error = X509Svid::parse(&other).unwrap_err();
        assert!(matches!(error, SvidError::SignatureAlgorithms { .. }), "{error}");
        assert_eq!(error.rule(), "signature-algorithm");
    }
}

#[test]
fn issuers_with_weak_keys_are_refused() {
    let root = ca();
    let set = bundles(&[("prod.test", &[&root])]);
    let below = root.intermediate(&signing(|p| p.key = &rcgen::PKCS_ECDSA_P384_SHA384)).unwrap();
    let chain = below.issue_with(&good()).unwrap().chain;
    assert_eq!(verify(&set, &chain), Ok(()));
    let weak = root.sign(&signing(|_| {}), &rsa_key(1024)).unwrap();
    assert_eq!(verify(&set, &[chain[0].clone(), weak]), Err("key-strength"));
    let p224 = on_p224(&chain[1]);
    assert_eq!(verify(&set, &[chain[0].clone(), p224.clone()]), Err("key-strength"));
    let bundle = TrustBundle::from_certificates(domain("prod.test"), &[p224]);
    assert_eq!((bundle.anchors().len(), bundle.skipped()[0].error.rule()), (0, "key-strength"));
}
