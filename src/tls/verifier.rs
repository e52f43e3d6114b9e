//! The certificate verifier, the same for both ends.
//!
//! rustls gives it no handle on the connection, so what it finds leaves by a task-local that
//! [`super::handshake`] sets around the handshake's future.

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::{CipherSuite, Error as TlsError};

use super::handshake::report;
use super::judge::{Judge, Judged};
use super::peer::Verified;
use super::refusal::CertificateRefusal;
use crate::config::PeerMatcher;
use crate::identity::{ChainUsage, Clock, SpiffeId, X509Generation};

/// The one source of cryptography; with the feature `post-quantum` it prefers X25519MLKEM768.
pub(super) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(provider()));

/// Of the suites of TLS 1.3, AES-128 comes first, as with BoringSSL and Go: it is no less out of reach than the 128 bits of P-256 and
/// X25519 that the keys come from, and takes fewer rounds. A peer that wants AES-256 gets it.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Verifies peers against one generation of bundles.
#[derive(Debug)]
pub(super) struct SvidVerifier {
    generation: Arc<X509Generation>,
    clock: Clock,
    /// Which peers are expected; `None` lets in every workload whose identity is proved.
    expected: Option<PeerMatcher>,
}

impl SvidVerifier {
    pub(super) fn new(
        generation: Arc<X509Generation>,
        clock: Clock,
        expected: Option<PeerMatcher>,
    ) -> Arc<Judged<Self>> {
        Arc::new(Judged(Self { generation, clock, expected }))
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: ChainUsage,
    ) -> Result<Verified, CertificateRefusal> {
        let verified = Verified::by(&self.generation.bundles, (leaf, intermediates), usage, self.clock.now())?;
        let id = verified.svid.id();
        if let Some(expected) = &self.expected
            && !is_expected(expected, id, self.generation.svid.id())
        {
            return Err(CertificateRefusal::UnexpectedPeer { id: id.clone() });
        }
        Ok(verified)
    }
}

impl Judge for SvidVerifier {
    /// Reports the outcome to the handshake.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: ChainUsage,
    ) -> Result<(), TlsError> {
        let found = self.verify(leaf, intermediates, usage);
        let judged = found.as_ref().map(|_| ()).map_err(|refusal| TlsError::InvalidCertificate(refusal.alert()));
        report(found.map_err(|refusal| refusal.of(leaf)));
        judged
    }
}

/// Whether `expected` names `id`; `own` is our own ID.
#[must_use]
pub fn is_expected(expected: &PeerMatcher, id: &SpiffeId, own: &SpiffeId) -> bool {
    match expected {
        PeerMatcher::AnyInOwnTrustDomain => id.trust_domain() == own.trust_domain(),
        PeerMatcher::OneOf(patterns) => patterns.iter().any(|pattern| pattern.matches(id)),
    }
}
