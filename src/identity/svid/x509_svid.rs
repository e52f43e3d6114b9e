//! X.509-SVIDs: certificates that passed every leaf rule.

use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest;

use super::certificate::{Certificate, system_time};
use super::text::{lower_hex, rfc4514, serial};
use super::{SvidError, rules};
use crate::identity::SpiffeId;

/// A leaf certificate that passed every rule for leaves. Cheap to clone.
///
/// Who signed it is not judged here: that takes a trust bundle.
#[derive(Debug, Clone)]
pub struct X509Svid(Arc<Fields>);

#[derive(Debug)]
struct Fields {
    id: SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
    serial: String,
    sha256: String,
    subject: String,
}

impl X509Svid {
    /// Parses a certificate and checks it against every leaf rule.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(der: &[u8]) -> Result<Self, SvidError> {
        let mut certificate = Certificate::parse(der)?;
        rules::check_leaf(&certificate)?;
        let id = certificate.id.take().ok_or(SvidError::UriSanCount { count: 0 })??;
        let validity = certificate.x509.validity();
        Ok(Self(Arc::new(Fields {
            id,
            not_before: system_time(validity.not_before),
            not_after: system_time(validity.not_after),
            serial: serial(certificate.x509.raw_serial()),
            sha256: lower_hex(digest::digest(&digest::SHA256, der).as_ref()),
            subject: rfc4514(certificate.x509.subject()),
        })))
    }

    /// The workload's ID. It has a path.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.0.id
    }

    /// The first moment of validity.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.0.not_before
    }

    /// The last moment of validity.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.not_after
    }

    /// The serial number in lower hex, two digits a byte, without leading zero bytes.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.0.serial
    }

    /// SHA-256 of the DER: 64 digits of lower hex.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.0.sha256
    }

    /// The subject as RFC 4514 writes it, most specific part first, printable ASCII only. Often empty.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.subject
    }
}
