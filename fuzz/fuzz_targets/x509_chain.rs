//! Chains: a path that holds consists of the certificates that were issued, whatever else stands beside them.
//!
//! The input is a script that puts issued certificates and foreign bytes together and edits them: a certificate that was
//! made up as a whole bears no signature, and would end every run at the same place.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use portcullis::identity::dev_ca::{DevCa, Minted, SvidParams, der};
use portcullis::identity::{ChainUsage, SpiffeId, TrustBundle, TrustBundleSet, TrustDomain, X509Svid};

type Certificate = Vec<u8>;

struct Issued {
    bundles: TrustBundleSet,
    /// A leaf, an issuer that is constrained to its trust domain, and an issuer above that.
    path: Vec<Certificate>,
    minted: Minted,
    now: SystemTime,
}

static ISSUED: LazyLock<Issued> = LazyLock::new(|| {
    let (now, day) = (SystemTime::now(), Duration::from_secs(86_400));
    let domain = TrustDomain::parse("prod.test").unwrap();
    let signing = |name: &str| {
        let mut params = SvidParams::signing(&domain, day, now);
        params.common_name = Some(name.to_owned());
        params
    };
    let root = DevCa::with_params(&signing("root")).unwrap();
    let mut constrained = signing("lower");
    let permitted = der(0x30, &der(0xa0, &der(0x30, &der(0x86, b"prod.test"))));
    constrained.extensions.push((vec![2, 5, 29, 30], true, permitted));
    let issuer = root.intermediate(&signing("upper")).unwrap().intermediate(&constrained).unwrap();
    let id = SpiffeId::parse("spiffe://prod.test/ns/etl/sa/load").unwrap();
    let minted = issuer.issue(&id, day).unwrap();
    let path = minted.chain.iter().map(|certificate| certificate.to_vec()).collect();
    let bundle = TrustBundle::from_certificates(domain, &[root.certificate().clone()]);
    let issued = Issued { bundles: TrustBundleSet::new([bundle]).unwrap(), path, minted, now };
    assert!(issued.accepts(&issued.path), "unchanged it is accepted");
    issued
});

impl Issued {
    fn accepts(&self, chain: &[Certificate]) -> bool {
        let Some(svid) = chain.first().and_then(|leaf| X509Svid::parse(leaf).ok()) else { return false };
        // Of rustls' type, which is no dependency here.
        let mut presented = self.minted.chain.clone();
        presented.clear();
        presented.extend(chain.iter().map(|certificate| certificate.clone().into()));
        self.bundles.verify(&svid, &presented, ChainUsage::Client, self.now).is_ok()
    }
}

/// Steps of four bytes: what, two of where, and a value.
fn chain_of(issued: &Issued, script: &[u8]) -> Vec<Certificate> {
    let mut chain: Vec<Certificate> = Vec::new();
    for step in script.chunks_exact(4) {
        let [what, high, low, value] = *step else { break };
        let at = usize::from(u16::from_be_bytes([high, low]));
        match (what % 8, chain.last_mut()) {
            (0..=2, _) => chain.extend(issued.path.get(usize::from(what % 8)).cloned()),
            (3, _) => chain.push(vec![value; at % 2048]),
            (4, Some(last)) if !last.is_empty() => {
                let at = at % last.len();
                last[at] ^= 1 << (value % 8);
            }
            (5, Some(last)) if !last.is_empty() => {
                let at = at % last.len();
                last[at] = value;
            }
            (6, Some(last)) => last.insert(at % (last.len() + 1), value),
            (7, Some(last)) if !last.is_empty() => {
                last.remove(at % last.len());
            }
            _ => {}
        }
    }
    chain
}

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    let issued = &*ISSUED;
    let chain = chain_of(issued, script);
    if issued.accepts(&chain) {
        assert_eq!(chain.first(), issued.path.first());
        assert!(issued.path.iter().all(|certificate| chain.contains(certificate)));
    }
});
