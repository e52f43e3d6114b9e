//! What rustls asks of a verifier of certificates, all but the judgement.

use std::fmt::Debug;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error as TlsError, SignatureScheme};

use super::verifier::PROVIDER;
use crate::identity::ChainUsage;

/// What comes of the certificates that a peer shows.
pub(super) trait Judge: Debug + Send + Sync {
    /// Judges them: the peer's own, and those that came with it.
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        usage: ChainUsage,
    ) -> Result<(), TlsError>;
}

/// A verifier for either end, which leaves the judgement to `J` and sees to it that the peer holds its key.
#[derive(Debug)]
pub(super) struct Judged<J>(pub(super) J);

fn algorithms() -> &'static WebPkiSupportedAlgorithms {
    &PROVIDER.signature_verification_algorithms
}

/// What verifiers of clients and of servers do alike: rustls asks both for it by methods of the same names.
macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            verify_tls12_signature(message, cert, dss, algorithms())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, TlsError> {
            verify_tls13_signature(message, cert, dss, algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            algorithms().supported_schemes()
        }
    };
}

impl<J: Judge> ClientCertVerifier for Judged<J> {
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
        self.0.judge(end_entity, intermediates, ChainUsage::Client).map(|()| ClientCertVerified::assertion())
    }

    verify_signatures!();
}

impl<J: Judge> ServerCertVerifier for Judged<J> {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        // A SPIFFE peer is known by its ID; DNS names prove nothing here.
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.0.judge(end_entity, intermediates, ChainUsage::Server).map(|()| ServerCertVerified::assertion())
    }

    verify_signatures!();
}
