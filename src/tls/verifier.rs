//! The certificate verifier, the same for both ends.
//!
//! rustls gives it no handle on the connection, so what it finds leaves by a task-local that
//! [`super::handshake`] sets around the handshake's future.

use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CipherSuite, DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme};

use super::HandshakeRefusal;
use super::handshake::report;
use super::peer::Verified;
use super::refusal::CertificateRefusal;
use crate::config::PeerMatcher;
use crate::identity::{ChainUsage, Clock, SpiffeId, X509Generation, X509Svid, san_of_refused};

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
    algorithms: WebPkiSupportedAlgorithms,
}

impl SvidVerifier {
    pub(super) fn new(generation: Arc<X509Generation>, clock: Clock, expected: Option<PeerMatcher>) -> Arc<Self> {
        let algorithms = PROVIDER.signature_verification_algorithms;
        Arc::new(Self { generation, clock, expected, algorithms })
    }

    /// Judges the peer's certificate and reports the outcome to the handshake.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: ChainUsage,
    ) -> Result<(), TlsError> {
        match self.judge(leaf, intermediates, usage) {
            Ok(verified) => {
                report(Ok(verified));
                Ok(())
            }
            Err(refusal) => {
                let alert = refusal.alert();
                report(Err(HandshakeRefusal {
                    rule: refusal.rule(),
                    message: refusal.to_string(),
                    peer_san: san_of_refused(leaf),
                }));
                Err(TlsError::InvalidCertificate(alert))
            }
        }
    }

    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: ChainUsage,
    ) -> Result<Verified, CertificateRefusal> {
        let svid = X509Svid::parse(leaf)?;
        let chain: Vec<_> = std::iter::once(leaf).chain(intermediates).map(|der| der.clone().into_owned()).collect();
        self.generation.bundles.verify(&svid, &chain, usage, self.clock.now())?;
        if let Some(expected) = &self.expected
            && !is_expected(expected, svid.id(), self.generation.svid.id())
        {
            return Err(CertificateRefusal::UnexpectedPeer { id: svid.id().clone() });
        }
        Ok(Verified { svid, chain, usage })
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

impl ClientCertVerifier for SvidVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // No hints: a client that shows nothing without them would be told whom we trust.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.verify(end_entity, intermediates, ChainUsage::Client).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for SvidVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        // A SPIFFE peer is known by its ID; DNS names prove nothing here.
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.verify(end_entity, intermediates, ChainUsage::Server).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
