//! What is refused and by which rule, each case beside its valid twin.

mod authorities;
mod chain;
mod constraints;
mod mutation;
mod path_length;
mod rogue_leaves;
mod strength;
mod svid;

use std::time::{Duration, SystemTime};

use rcgen::{PublicKeyData, SignatureAlgorithm};
use rustls::pki_types::CertificateDer;

use super::dev_ca::{DevCa, San, SvidParams, der};
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
