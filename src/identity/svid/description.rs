//! What a certificate says, for people; nothing of it is trusted.

use std::time::SystemTime;

use aws_lc_rs::digest;

use super::SvidError;
use super::certificate::{Certificate, printable, system_time};
use super::text::{lower_hex, rfc4514, serial};

/// A certificate's content, whatever rules it breaks. All text is printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateDescription {
    /// The URI names.
    pub uris: Vec<String>,
    /// The DNS names.
    pub dns_names: Vec<String>,
    /// The subject as RFC 4514 writes it.
    pub subject: String,
    /// The issuer as RFC 4514 writes it.
    pub issuer: String,
    /// The serial number in lower hex.
    pub serial: String,
    /// SHA-256 of the DER in lower hex.
    pub sha256: String,
    /// The first moment of validity.
    pub not_before: SystemTime,
    /// The last moment of validity.
    pub not_after: SystemTime,
    /// Whether it has the CA flag.
    pub is_ca: bool,
}

impl CertificateDescription {
    /// Reads a certificate without judging it.
    ///
    /// # Errors
    /// [`SvidError::Encoding`]: it is none.
    pub fn parse(der: &[u8]) -> Result<Self, SvidError> {
        let certificate = Certificate::parse(der)?;
        let texts = |names: &[&[u8]]| names.iter().map(|name| printable(name)).collect();
        let validity = certificate.x509.validity();
        Ok(Self {
            uris: texts(&certificate.uris),
            dns_names: texts(&certificate.dns_names),
            subject: rfc4514(certificate.x509.subject()),
            issuer: rfc4514(certificate.x509.issuer()),
            serial: serial(certificate.x509.raw_serial()),
            sha256: lower_hex(digest::digest(&digest::SHA256, der).as_ref()),
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
            is_ca: certificate.is_ca,
        })
    }
}
