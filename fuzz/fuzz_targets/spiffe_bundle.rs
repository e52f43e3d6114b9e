//! SPIFFE bundles and JWK sets as JSON: every key is used or said to be ignored, and what is used can be.
#![no_main]

use portcullis::identity::{BundleDocument, TrustBundle, TrustDomain, parse_jwks};

libfuzzer_sys::fuzz_target!(|json: &[u8]| {
    let Ok(document) = BundleDocument::parse(json) else {
        assert!(parse_jwks(json).is_err(), "a set of keys is a set of keys");
        return;
    };
    let mut places: Vec<_> = document.ignored.iter().map(|(index, _)| *index).collect();
    places.dedup();
    assert_eq!(places.len(), document.ignored.len(), "two reasons for one key");
    for authority in &document.jwt_authorities {
        assert!(!authority.kid().is_empty() && !authority.algorithms().is_empty());
        let _ = authority.decoding_key();
    }
    let Ok(trust_domain) = TrustDomain::parse("fuzz.test") else { return };
    if let Ok(bundle) = TrustBundle::from_json(trust_domain, json) {
        assert_eq!(bundle.anchors().len() + bundle.skipped().len(), document.certificates.len());
    }
});
