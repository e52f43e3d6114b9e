//! Altered chains: no change of a certificate that a path needs leaves the path valid.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

struct Valid {
    set: TrustBundleSet,
    chain: Vec<CertificateDer<'static>>,
    now: SystemTime,
}

/// A leaf below two issuers, the lower of which is constrained to the trust domain.
static VALID: LazyLock<Valid> = LazyLock::new(|| {
    let root = ca();
    let permitted = der(0x30, &der(0xa0, &der(0x30, &der(0x86, b"prod.test"))));
    let upper = root.intermediate(&signing(|p| p.common_name = Some("upper".into()))).unwrap();
    let lower = signing(|p| p.extensions.push((vec![2, 5, 29, 30], true, permitted)));
    let chain = upper.intermediate(&lower).unwrap().issue_with(&good()).unwrap().chain;
    Valid { set: bundles(&[("prod.test", &[&root])]), chain, now: SystemTime::now() }
});

impl Valid {
    fn accepts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some(leaf) = chain.first() else { return false };
        let verified = |svid: X509Svid| self.set.verify(&svid, chain, ChainUsage::Client, self.now);
        X509Svid::parse(leaf).is_ok_and(|svid| verified(svid).is_ok())
    }

    /// The chain with one certificate changed.
    fn with(&self, index: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<CertificateDer<'static>> {
        let mut chain = self.chain.clone();
        let mut der = chain[index].to_vec();
        change(&mut der);
        chain[index] = der.into();
        chain
    }
}

#[test]
fn no_flipped_bit_passes() {
    assert!(VALID.accepts(&VALID.chain));
    for (index, certificate) in VALID.chain.iter().enumerate() {
        for at in 0..certificate.len() {
            // Each bit of each byte would take its time; neighbouring bytes have different ones.
            let bit = at % 8;
            let altered = VALID.with(index, |der| der[at] ^= 1 << bit);
            assert!(!VALID.accepts(&altered), "certificate {index}, byte {at}, bit {bit}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_altered_chain_passes(
        index in 0..3_usize,
        edits in prop::collection::vec((0..4_u8, any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let altered = VALID.with(index, |der| {
            for (kind, at, byte) in edits {
                let at = at.index(der.len());
                match kind {
                    0 => der[at] = byte,
                    1 => der.insert(at, byte),
                    2 => drop(der.remove(at)),
                    _ => der[at] ^= 1 << (byte % 8),
                }
            }
        });
        prop_assert_eq!(VALID.accepts(&altered), altered == VALID.chain);
    }

    #[test]
    fn a_chain_without_one_of_its_certificates_passes_in_no_order(order in Just(vec![0, 1, 2]).prop_shuffle(), missing in 0..3_usize) {
        let chosen = |order: &[usize]| order.iter().map(|index| VALID.chain[*index].clone()).collect::<Vec<_>>();
        prop_assert_eq!(VALID.accepts(&chosen(&order)), order[0] == 0, "the leaf comes first, the rest in any order");
        let rest: Vec<_> = order.into_iter().filter(|index| *index != missing).collect();
        prop_assert!(!VALID.accepts(&chosen(&rest)));
    }
}
