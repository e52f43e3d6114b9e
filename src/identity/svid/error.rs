//! One variant for each rule of the standard that a certificate can break.

use thiserror::Error;

use super::rules;
use crate::identity::SpiffeIdError;

/// The rule that a certificate breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum SvidError {
    /// Not exactly one DER certificate.
    #[error("not a DER certificate: {detail}")]
    Encoding { detail: String },
    /// Not X.509 version 3.
    #[error("certificate has version {version}, extensions need version 3")]
    Version { version: u64 },
    /// An extension occurs twice.
    #[error("extension `{oid}` occurs more than once")]
    DuplicateExtension { oid: String },
    /// An extension that matters is malformed.
    #[error("extension `{oid}` is malformed")]
    ExtensionEncoding { oid: String },
    /// A critical extension that we do not know.
    #[error("extension `{oid}` is critical and not known here")]
    CriticalExtension { oid: String },
    /// It ends before it begins.
    #[error("certificate's validity ends before it begins")]
    ValidityOrder,
    /// A leaf with the CA flag.
    #[error("certificate has the CA flag set: a signing certificate never authenticates")]
    CaFlag,
    /// No key usage extension.
    #[error("certificate has no key usage extension")]
    KeyUsagePresent,
    /// The key usage extension is not critical.
    #[error("key usage extension is not marked critical")]
    KeyUsageCritical,
    /// A leaf that must not sign handshakes.
    #[error("key usage lacks digitalSignature")]
    DigitalSignature,
    /// A leaf that may sign certificates.
    #[error("key usage has keyCertSign, which a leaf must not")]
    KeyCertSign,
    /// A leaf that may sign revocation lists.
    #[error("key usage has cRLSign, which a leaf must not")]
    CrlSign,
    /// An extended key usage for one side only.
    #[error("extended key usage lacks {missing}: with serverAuth it must hold clientAuth too, and the other way round")]
    ExtendedKeyUsage { missing: &'static str },
    /// No URI SAN, or several.
    #[error("certificate has {count} URI SANs, an X.509-SVID has exactly 1")]
    UriSanCount { count: usize },
    /// A URI SAN with bytes that no URI has.
    #[error("URI SAN `{uri}` holds a NUL, a blank, a control or a non-ASCII character")]
    UriSanEncoding { uri: String },
    /// The URI is not a SPIFFE ID.
    #[error("URI SAN `{uri}` is not a SPIFFE ID: {source}")]
    SpiffeId { uri: String, source: SpiffeIdError },
    /// The ID names a trust domain, not a workload.
    #[error("SPIFFE ID `{id}` has no path: it names a trust domain, not a workload")]
    NoPath { id: String },
    /// An empty subject and a SAN extension that may be ignored.
    #[error("subject is empty and the SAN extension is not marked critical")]
    SanCritical,
    /// A key that is too weak or of a kind that we do not take.
    #[error("public key is {key}: ECDSA P-256, P-384 or P-521, Ed25519, or RSA with 2048 to 8192 bits is accepted")]
    KeyStrength { key: String },
    /// A signature that is too weak or of a kind that we do not take.
    #[error(
        "certificate is signed with `{algorithm}`: ECDSA, RSA or RSA-PSS over SHA-256 or more, or Ed25519 is accepted"
    )]
    SignatureAlgorithm { algorithm: String },
    /// The signed part and what is around it name two algorithms.
    #[error(
        "certificate says that it is signed with `{algorithm}`, and around that with `{other}` or other parameters"
    )]
    SignatureAlgorithms { algorithm: String, other: String },
    /// An issuer without the CA flag.
    #[error("signing certificate does not have the CA flag set")]
    SigningCaFlag,
    /// An issuer that must not sign certificates.
    #[error("signing certificate's key usage lacks keyCertSign")]
    SigningKeyCertSign,
    /// An issuer with a workload's ID.
    #[error("signing certificate has the URI SAN `{uri}`: at most one, a SPIFFE ID without path, is allowed")]
    SigningSpiffeId { uri: String },
}

impl SvidError {
    /// The rule's stable name, as records and metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::Encoding { .. } => "encoding",
            Self::Version { .. } => "version",
            Self::DuplicateExtension { .. } => "duplicate-extension",
            Self::ExtensionEncoding { .. } => "extension-encoding",
            Self::CriticalExtension { .. } => "critical-extension",
            Self::ValidityOrder => "validity-order",
            Self::CaFlag => "ca-flag",
            Self::KeyUsagePresent => "key-usage-present",
            Self::KeyUsageCritical => "key-usage-critical",
            Self::DigitalSignature => "digital-signature",
            Self::KeyCertSign => "key-cert-sign",
            Self::CrlSign => "crl-sign",
            Self::ExtendedKeyUsage { .. } => "extended-key-usage",
            Self::UriSanCount { .. } => "uri-san-count",
            Self::UriSanEncoding { .. } => "uri-san-encoding",
            Self::SpiffeId { source, .. } => match source {
                SpiffeIdError::TooLong { .. } => "spiffe-id-length",
                SpiffeIdError::Scheme => "spiffe-id-scheme",
                SpiffeIdError::EmptyTrustDomain
                | SpiffeIdError::LongTrustDomain { .. }
                | SpiffeIdError::TrustDomainCharacter { .. } => "spiffe-id-trust-domain",
                SpiffeIdError::EmptySegment
                | SpiffeIdError::RelativeSegment { .. }
                | SpiffeIdError::PathCharacter { .. } => "spiffe-id-path",
            },
            Self::NoPath { .. } => "spiffe-id-has-path",
            Self::SanCritical => "san-critical",
            Self::KeyStrength { .. } => "key-strength",
            Self::SignatureAlgorithm { .. } | Self::SignatureAlgorithms { .. } => "signature-algorithm",
            Self::SigningCaFlag => "signing-ca-flag",
            Self::SigningKeyCertSign => "signing-key-cert-sign",
            Self::SigningSpiffeId { .. } => "signing-spiffe-id",
        }
    }

    /// The standard and section that the rule comes from.
    #[must_use]
    pub fn section(&self) -> &'static str {
        rules::section(self.rule())
    }
}
