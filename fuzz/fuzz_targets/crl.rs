//! Revocation lists, DER and PEM: what is read has an issuer and an end, and one that nobody here signed revokes nobody.
#![no_main]

use portcullis::identity::{Crls, OnExpiredCrl, TrustBundle, TrustDomain};

libfuzzer_sys::fuzz_target!(|document: &[u8]| {
    let mut crls = Crls::new(OnExpiredCrl::Deny);
    if crls.add(document).is_err() {
        return;
    }
    assert!(!crls.lists().is_empty());
    for crl in crls.lists() {
        assert!(crl.issuer().is_ascii() && crl.entries() <= document.len());
    }
    let Ok(trust_domain) = TrustDomain::parse("fuzz.test") else { return };
    let bundle = TrustBundle::from_certificates(trust_domain, &[]).with_crls(&crls, None);
    assert_eq!(bundle.crl_faults().len(), 0, "there is no authority whose name could be borne");
});
