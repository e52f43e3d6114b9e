//! The authenticated other end.

use std::time::SystemTime;

use rustls::ProtocolVersion;
use rustls::pki_types::CertificateDer;

use super::HandshakeRefusal;
use super::refusal::CertificateRefusal;
use crate::identity::{ChainUsage, SpiffeId, TrustBundleSet, X509Generation, X509Svid};

/// A workload that proved its identity, or our own.
#[derive(Debug)]
pub struct Peer {
    verified: Verified,
    tls_version: Option<&'static str>,
    generation: u64,
    own_not_after: SystemTime,
}

/// What the verifier saw and accepted.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) svid: X509Svid,
    /// Leaf first, kept to be verified again when trust shrinks.
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) usage: ChainUsage,
}

impl Verified {
    /// What `bundles` vouch for of the certificates that a peer shows: its own, and those that came with it.
    pub(super) fn by(
        bundles: &TrustBundleSet,
        (leaf, intermediates): (&CertificateDer<'_>, &[CertificateDer<'_>]),
        usage: ChainUsage,
        now: SystemTime,
    ) -> Result<Self, CertificateRefusal> {
        let svid = X509Svid::parse(leaf)?;
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        bundles.verify(&svid, &chain, usage, now)?;
        Ok(Self { svid, chain, usage })
    }
}

impl Peer {
    /// Our own workload, for an outbound listener: whoever reaches its loopback is us.
    #[must_use]
    pub fn local(generation: &X509Generation) -> Self {
        let verified =
            Verified { svid: generation.svid.clone(), chain: generation.chain.clone(), usage: ChainUsage::Client };
        Self { verified, tls_version: None, generation: generation.number, own_not_after: generation.svid.not_after() }
    }

    /// The peer of a handshake that our verifier accepted, and in which we were `generation`.
    pub(super) fn proved(verified: Verified, version: Option<ProtocolVersion>, generation: &X509Generation) -> Self {
        let tls_version = match version {
            Some(ProtocolVersion::TLSv1_3) => Some("TLSv1.3"),
            Some(ProtocolVersion::TLSv1_2) => Some("TLSv1.2"),
            _ => None,
        };
        Self { verified, tls_version, generation: generation.number, own_not_after: generation.svid.not_after() }
    }

    /// Its SPIFFE ID.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        self.verified.svid.id()
    }

    /// Its SVID.
    #[must_use]
    pub fn svid(&self) -> &X509Svid {
        &self.verified.svid
    }

    /// The connection's TLS version, `TLSv1.3` or `TLSv1.2`; `None` for our own workload.
    #[must_use]
    pub fn tls_version(&self) -> Option<&'static str> {
        self.tls_version
    }

    /// Whether it is our own workload, without a handshake.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.tls_version.is_none()
    }

    /// The number of our own generation that the handshake used.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The last moment of the certificate that we have shown.
    pub(super) const fn own_not_after(&self) -> SystemTime {
        self.own_not_after
    }

    /// Verifies the chain once more, against `bundles` and `now`.
    pub(super) fn reverify(&self, bundles: &TrustBundleSet, now: SystemTime) -> Result<(), HandshakeRefusal> {
        let Verified { svid, chain, usage } = &self.verified;
        bundles.verify(svid, chain, *usage, now).map_err(|error| HandshakeRefusal {
            rule: error.rule(),
            message: error.to_string(),
            peer_san: Some(svid.id().to_string()),
        })
    }
}
