//! Why a handshake was refused, and the alert that says so.

use std::io;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error as TlsError};
use thiserror::Error;

use crate::identity::{ChainError, SpiffeId, SvidError, X509Generation, san_of_refused};

/// A handshake that did not end in a [`super::Peer`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct HandshakeRefusal {
    /// The rule that failed, as records and metrics have it: a rule of the X.509-SVID standard, of path validation, or
    /// `no-certificate`, `unexpected-peer`, `alert`, `handshake-signature`, `tls`, `closed`, `own-svid-expired`,
    /// `no-own-svid`.
    pub rule: &'static str,
    /// The rule and the offending value, for people.
    pub message: String,
    /// The names in the peer's certificate, if it showed one, escaped.
    pub peer_san: Option<String>,
}

/// Why the verifier refuses a certificate.
#[derive(Debug, Error)]
pub(super) enum CertificateRefusal {
    #[error(transparent)]
    Svid(#[from] SvidError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("`{id}` answered, which is not a peer that this listener expects")]
    UnexpectedPeer { id: SpiffeId },
}

impl CertificateRefusal {
    pub(super) fn rule(&self) -> &'static str {
        match self {
            Self::Svid(error) => error.rule(),
            Self::Chain(error) => error.rule(),
            Self::UnexpectedPeer { .. } => "unexpected-peer",
        }
    }

    /// What the handshake is refused with, in which the peer showed this certificate.
    pub(super) fn of(&self, leaf: &CertificateDer<'_>) -> HandshakeRefusal {
        HandshakeRefusal { rule: self.rule(), message: self.to_string(), peer_san: san_of_refused(leaf) }
    }

    /// The variant from which rustls makes the fitting alert (RFC 8446, 6.2).
    pub(super) fn alert(&self) -> CertificateError {
        // What each variant is on the wire: BadEncoding: bad_certificate. InvalidPurpose: unsupported_certificate.
        // UnknownIssuer: unknown_ca. Expired: certificate_expired. ApplicationVerificationFailure: access_denied.
        match self {
            Self::Svid(error) => svid_alert(error),
            Self::Chain(error) => chain_alert(error),
            Self::UnexpectedPeer { .. } => CertificateError::ApplicationVerificationFailure,
        }
    }
}

fn svid_alert(error: &SvidError) -> CertificateError {
    match error {
        SvidError::CaFlag
        | SvidError::KeyUsagePresent
        | SvidError::KeyUsageCritical
        | SvidError::DigitalSignature
        | SvidError::KeyCertSign
        | SvidError::CrlSign
        | SvidError::ExtendedKeyUsage { .. }
        | SvidError::KeyStrength { .. } => CertificateError::InvalidPurpose,
        SvidError::Encoding { .. }
        | SvidError::Version { .. }
        | SvidError::DuplicateExtension { .. }
        | SvidError::ExtensionEncoding { .. }
        | SvidError::CriticalExtension { .. }
        | SvidError::ValidityOrder
        | SvidError::UriSanCount { .. }
        | SvidError::UriSanEncoding { .. }
        | SvidError::SpiffeId { .. }
        | SvidError::NoPath { .. }
        | SvidError::SanCritical
        // Of MD5 and SHA-1 RFC 8446, 4.4.2.4, says so.
        | SvidError::SignatureAlgorithm { .. }
        | SvidError::SignatureAlgorithms { .. }
        | SvidError::SigningCaFlag
        | SvidError::SigningKeyCertSign
        | SvidError::SigningSpiffeId { .. } => CertificateError::BadEncoding,
    }
}

fn chain_alert(error: &ChainError) -> CertificateError {
    match error {
        ChainError::Expired { .. } | ChainError::IssuerValidity => CertificateError::Expired,
        ChainError::NotYetValid { .. } => CertificateError::NotValidYet,
        // A signature by another key under a known name is an unknown authority too: its certificate "could not be
        // matched with a known trust anchor".
        ChainError::UnknownTrustDomain { .. }
        | ChainError::UnknownIssuer { .. }
        | ChainError::Signature { .. }
        | ChainError::Issuer(_)
        | ChainError::PathLength
        | ChainError::IssuerPurpose => CertificateError::UnknownIssuer,
        ChainError::Revoked { .. } | ChainError::DeniedSerial { .. } => CertificateError::Revoked,
        ChainError::DeniedId { .. } => CertificateError::ApplicationVerificationFailure,
        // unknown_ca on the wire, which is what OpenSSL and BoringSSL send too.
        ChainError::CrlExpired { .. } => CertificateError::UnknownRevocationStatus,
        ChainError::Length { .. }
        | ChainError::NameConstraints
        | ChainError::SignatureAlgorithm
        | ChainError::Leaf { .. }
        | ChainError::Path { .. } => CertificateError::BadEncoding,
    }
}

impl HandshakeRefusal {
    /// The message, and the names in the peer's certificate if it does not say them already.
    #[must_use]
    pub fn with_names(&self) -> String {
        match &self.peer_san {
            Some(san) if !self.message.contains(san.as_str()) => format!("{}; it names `{san}`", self.message),
            _ => self.message.clone(),
        }
    }

    /// A handshake that failed for another reason than the peer's certificate. `peer_san` is the peer's if its
    /// certificate had been accepted by then.
    pub(super) fn from_io(error: &io::Error, peer_san: Option<String>) -> Self {
        let tls = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
        let (rule, message) = match tls {
            Some(TlsError::NoCertificatesPresented) => ("no-certificate", "peer presented no certificate".to_owned()),
            Some(TlsError::AlertReceived(alert)) => {
                ("alert", format!("peer refused the handshake with the alert `{alert:?}`"))
            }
            Some(TlsError::InvalidCertificate(CertificateError::BadSignature)) => {
                ("handshake-signature", "peer does not hold the key of the certificate that it presented".to_owned())
            }
            Some(error) => ("tls", format!("TLS handshake failed: {error}")),
            None if error.kind() == io::ErrorKind::UnexpectedEof => {
                ("closed", "peer closed the connection during the handshake".to_owned())
            }
            None => ("closed", format!("connection failed during the handshake: {error}")),
        };
        Self { rule, message, peer_san }
    }

    pub(super) fn no_own_svid() -> Self {
        let message = "we have no SVID yet".to_owned();
        Self { rule: "no-own-svid", message, peer_san: None }
    }

    pub(super) fn own_svid_expired(generation: &X509Generation, now: SystemTime) -> Self {
        let since = now.duration_since(generation.svid.not_after()).unwrap_or_default().as_secs();
        let message = format!("our own SVID `{}` expired {since} s ago", generation.svid.id());
        Self { rule: "own-svid-expired", message, peer_san: None }
    }

    pub(super) fn unproved() -> Self {
        let message = "the handshake ended without a verified peer".to_owned();
        Self { rule: "tls", message, peer_san: None }
    }

    pub(super) fn configuration(error: &TlsError) -> Self {
        Self { rule: "tls", message: format!("our own certificate cannot be used: {error}"), peer_san: None }
    }
}
