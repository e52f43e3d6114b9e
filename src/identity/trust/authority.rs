//! What an authority's certificate says and a trust anchor does not.

use std::ops::RangeInclusive;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, TrustAnchor};
use webpki::VerifiedPath;

use super::constraints::{Masked, UriConstraints};
use super::{ChainError, ChainUsage};
use crate::identity::SvidError;
use crate::identity::svid::certificate::{Certificate, Purposes, system_time};
use crate::identity::svid::{rules, text};

/// The limits within which an authority may issue. RFC 5280, 6.2, leaves it to us whether the certificate that brings
/// an anchor limits it, and a limit that somebody wrote down is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::identity) struct AuthorityLimits {
    serial: String,
    pub(super) validity: RangeInclusive<SystemTime>,
    path_length: Option<u32>,
    purposes: Option<Purposes>,
    constraints: UriConstraints,
}

/// The anchor that a certificate of a bundle is, with its limits.
pub(super) fn authority(der: &CertificateDer<'_>) -> Result<(TrustAnchor<'static>, AuthorityLimits), SvidError> {
    let certificate = Certificate::parse(der)?;
    rules::check_signing(&certificate)?;
    let masked = Masked::of(der);
    let anchor = webpki::anchor_from_trusted_cert(&Masked::shown(masked.as_ref(), der))
        .map_err(|error| SvidError::Encoding { detail: format!("{error:?}") })?
        .to_owned();
    let validity = certificate.x509.validity();
    let limits = AuthorityLimits {
        serial: text::serial(certificate.x509.raw_serial()),
        validity: system_time(validity.not_before)..=system_time(validity.not_after),
        path_length: certificate.path_length,
        purposes: certificate.extended_key_usage,
        constraints: masked.map(Masked::into_constraints).unwrap_or_default(),
    };
    Ok((anchor, limits))
}

impl AuthorityLimits {
    /// The serial number of the certificate that brought the authority, as the emergency lists have it.
    pub(super) fn serial(&self) -> &str {
        &self.serial
    }

    /// Whether the authority may have issued what is at the top of `path`.
    pub(super) fn admit(
        &self,
        path: &VerifiedPath<'_>,
        hosts: &[String],
        usage: ChainUsage,
        now: SystemTime,
    ) -> Result<(), ChainError> {
        let issuers = path.intermediate_certificates().count();
        if !self.validity.contains(&now) {
            return Err(ChainError::IssuerValidity);
        }
        if self.path_length.is_some_and(|most| usize::try_from(most).is_ok_and(|most| issuers > most)) {
            return Err(ChainError::PathLength);
        }
        if self.purposes.is_some_and(|purposes| !usage.is_among(purposes)) {
            return Err(ChainError::IssuerPurpose);
        }
        match hosts.iter().all(|host| self.constraints.permit(host)) {
            true => Ok(()),
            false => Err(ChainError::NameConstraints),
        }
    }
}
