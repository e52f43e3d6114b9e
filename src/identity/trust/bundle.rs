//! Trust bundles: the authorities of a trust domain, and of no other.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;

use super::{Crls, Denied};
use crate::identity::svid::certificate::{Certificate, system_time};
use crate::identity::svid::rules;
use crate::identity::{SvidError, TrustDomain};

/// The X.509 authorities of one trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    anchors: Vec<TrustAnchor<'static>>,
    /// Of each anchor, in the same order: a trust anchor itself has no validity, the certificate that brought it does.
    validity: Vec<RangeInclusive<SystemTime>>,
    skipped: Vec<SkippedAuthority>,
    crls: Option<Crls>,
}

/// A certificate in a bundle that is not trusted, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedAuthority {
    /// Its place in the bundle, from 0.
    pub index: usize,
    /// The rule for signing certificates that it breaks.
    pub error: SvidError,
}

/// Why a bundle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum BundleError {
    /// Broken PEM: a half-written file.
    #[error("not PEM: {detail}")]
    Pem { detail: String },
    /// Nothing in it.
    #[error("holds no certificate")]
    Empty,
    /// Nothing in it that can be trusted.
    #[error("holds no signing certificate that can be trusted; the first is refused: {first}")]
    NoAuthority { first: SvidError },
    /// A document in a format that is not known.
    #[error("is not a trust bundle: {detail}")]
    Document { detail: String },
    /// Two bundles for one trust domain.
    #[error("two bundles for the trust domain `{trust_domain}`")]
    Duplicate { trust_domain: TrustDomain },
}

impl TrustBundle {
    /// The bundle in a file's content.
    ///
    /// # Errors
    /// It is broken, or holds nothing that can be trusted.
    pub fn from_document(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, BundleError> {
        let is_json = document.trim_ascii_start().starts_with(b"{");
        if is_json {
            let detail = "SPIFFE bundle JSON is not supported in this version".to_owned();
            return Err(BundleError::Document { detail });
        }
        Self::from_pem(trust_domain, document)
    }

    /// One bundle of several documents about the same trust domain, as a directory holds them. A bundle of another trust
    /// domain adds nothing: bundles are never merged across trust domains.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        if other.trust_domain == self.trust_domain {
            self.anchors.extend(other.anchors);
            self.validity.extend(other.validity);
            self.skipped.extend(other.skipped);
        }
        self
    }

    /// The bundle in a PEM file's content.
    ///
    /// # Errors
    /// The PEM is broken, or there is no authority in it.
    pub fn from_pem(trust_domain: TrustDomain, pem: &[u8]) -> Result<Self, BundleError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| BundleError::Pem { detail: error.to_string() })?;
        if certificates.is_empty() {
            return Err(BundleError::Empty);
        }
        let bundle = Self::from_certificates(trust_domain, &certificates);
        match (bundle.anchors.is_empty(), bundle.skipped.first()) {
            (true, Some(skipped)) => Err(BundleError::NoAuthority { first: skipped.error.clone() }),
            _ => Ok(bundle),
        }
    }

    /// The bundle of these certificates. Those that are no signing certificates are left out, and listed by
    /// [`Self::skipped`]; a bundle without any trusts nothing.
    #[must_use]
    pub fn from_certificates(trust_domain: TrustDomain, certificates: &[CertificateDer<'_>]) -> Self {
        let mut bundle =
            Self { trust_domain, anchors: Vec::new(), validity: Vec::new(), skipped: Vec::new(), crls: None };
        for (index, certificate) in certificates.iter().enumerate() {
            match authority(certificate) {
                Ok((anchor, validity)) => {
                    bundle.anchors.push(anchor);
                    bundle.validity.push(validity);
                }
                Err(error) => bundle.skipped.push(SkippedAuthority { index, error }),
            }
        }
        bundle
    }

    /// The same, with the revocation lists of its trust domain.
    #[must_use]
    pub fn with_crls(self, crls: Crls) -> Self {
        Self { crls: Some(crls), ..self }
    }

    /// The revocation lists of its trust domain, if it has any.
    #[must_use]
    pub fn crls(&self) -> Option<&Crls> {
        self.crls.as_ref()
    }

    /// Whose authorities they are.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The authorities.
    #[must_use]
    pub fn anchors(&self) -> &[TrustAnchor<'static>] {
        &self.anchors
    }

    /// The certificates that were left out.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedAuthority] {
        &self.skipped
    }

    /// Each authority with the time in which it may issue.
    pub(in crate::identity) fn authorities(
        &self,
    ) -> impl Iterator<Item = (&TrustAnchor<'static>, &RangeInclusive<SystemTime>)> {
        self.anchors.iter().zip(&self.validity)
    }
}

fn authority(der: &CertificateDer<'_>) -> Result<(TrustAnchor<'static>, RangeInclusive<SystemTime>), SvidError> {
    let certificate = Certificate::parse(der)?;
    rules::check_signing(&certificate)?;
    let anchor = webpki::anchor_from_trusted_cert(der)
        .map_err(|error| SvidError::Encoding { detail: format!("{error:?}") })?
        .to_owned();
    let validity = certificate.x509.validity();
    Ok((anchor, system_time(validity.not_before)..=system_time(validity.not_after)))
}

/// The bundles of all trust domains that we know. They are never merged: each is asked only about its own.
#[derive(Debug, Clone, Default)]
pub struct TrustBundleSet {
    bundles: BTreeMap<TrustDomain, TrustBundle>,
    denied: Denied,
}

impl TrustBundleSet {
    /// The set of these bundles.
    ///
    /// # Errors
    /// [`BundleError::Duplicate`]: two for one trust domain.
    pub fn new(bundles: impl IntoIterator<Item = TrustBundle>) -> Result<Self, BundleError> {
        let mut set = Self::default();
        for bundle in bundles {
            if let Some(earlier) = set.bundles.insert(bundle.trust_domain.clone(), bundle) {
                return Err(BundleError::Duplicate { trust_domain: earlier.trust_domain });
            }
        }
        Ok(set)
    }

    /// The same, with what is refused whatever a bundle says.
    #[must_use]
    pub fn with_denied(self, denied: Denied) -> Self {
        Self { denied, ..self }
    }

    /// What is refused whatever a bundle says.
    #[must_use]
    pub fn denied(&self) -> &Denied {
        &self.denied
    }

    /// The bundle of a trust domain.
    #[must_use]
    pub fn bundle(&self, trust_domain: &str) -> Option<&TrustBundle> {
        self.bundles.get(trust_domain)
    }

    /// The authorities of a trust domain.
    #[must_use]
    pub fn anchors(&self, trust_domain: &str) -> Option<&[TrustAnchor<'static>]> {
        self.bundle(trust_domain).map(TrustBundle::anchors)
    }

    /// All bundles, by trust domain.
    pub fn iter(&self) -> impl Iterator<Item = &TrustBundle> {
        self.bundles.values()
    }
}
