//! Trust bundles: the authorities of a trust domain, and of no other.

use std::collections::BTreeMap;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor};
use thiserror::Error;

use super::authority::{AuthorityLimits, authority};
use super::revocation::Revocation;
use super::{BundleDocument, Crl, CrlFault, Crls, Denied, DocumentError, IgnoredKey, JwtAuthority};
use crate::identity::{SvidError, TrustDomain};

/// What verifies the workloads of one trust domain: its authorities for certificates and for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    trust_domain: TrustDomain,
    anchors: Vec<TrustAnchor<'static>>,
    /// Of each anchor, in the same order.
    limits: Vec<AuthorityLimits>,
    skipped: Vec<SkippedAuthority>,
    jwt_authorities: Vec<JwtAuthority>,
    ignored: Vec<(usize, IgnoredKey)>,
    sequence: Option<u64>,
    refresh_hint: Option<Duration>,
    revocation: Revocation,
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
    /// Not a SPIFFE bundle in JSON.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// Nothing in it.
    #[error("holds no certificate")]
    Empty,
    /// Nothing in it that can be trusted.
    #[error("holds no signing certificate that can be trusted; the first is refused: {first}")]
    NoAuthority { first: SvidError },
    /// Two bundles for one trust domain.
    #[error("two bundles for the trust domain `{trust_domain}`")]
    Duplicate { trust_domain: TrustDomain },
}

impl TrustBundle {
    /// The bundle in a file's content: JSON if it begins with a brace, else PEM.
    ///
    /// # Errors
    /// As [`Self::from_json`] and [`Self::from_pem`].
    pub fn from_file_content(trust_domain: TrustDomain, document: &[u8]) -> Result<Self, BundleError> {
        match document.trim_ascii_start().first() {
            Some(b'{') => Self::from_json(trust_domain, document),
            _ => Self::from_pem(trust_domain, document),
        }
    }

    /// One bundle of several documents about the same trust domain, as a directory holds them. A bundle of another trust
    /// domain adds nothing: bundles are never merged across trust domains.
    #[must_use]
    pub fn joined(mut self, other: Self) -> Self {
        if other.trust_domain == self.trust_domain {
            self.anchors.extend(other.anchors);
            self.limits.extend(other.limits);
            self.skipped.extend(other.skipped);
            self.ignored.extend(other.ignored);
            self.jwt_authorities = unambiguous(self.jwt_authorities, other.jwt_authorities);
            self.sequence = self.sequence.max(other.sequence);
            self.refresh_hint = self.refresh_hint.into_iter().chain(other.refresh_hint).min();
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
        Self::from_certificates(trust_domain, &certificates).with_some_authority()
    }

    /// The bundle in a SPIFFE bundle document, JSON. One without keys is a bundle: its trust domain is trusted in nothing.
    ///
    /// # Errors
    /// It is no such document, or it has certificates and none of them can be trusted.
    ///
    /// # Source
    /// SPIFFE Trust Domain and Bundle 4.1.3, X509-SVID 6.2.
    pub fn from_json(trust_domain: TrustDomain, json: &[u8]) -> Result<Self, BundleError> {
        let document = BundleDocument::parse(json)?;
        let bundle = Self::from_certificates(trust_domain, &document.certificates).with_some_authority()?;
        Ok(Self {
            jwt_authorities: document.jwt_authorities,
            ignored: document.ignored,
            sequence: document.sequence,
            refresh_hint: document.refresh_hint,
            ..bundle
        })
    }

    /// An error if there were certificates and none of them can be trusted: a mistake, and not a publisher's wish.
    fn with_some_authority(self) -> Result<Self, BundleError> {
        match (self.anchors.is_empty(), self.skipped.first()) {
            (true, Some(skipped)) => Err(BundleError::NoAuthority { first: skipped.error.clone() }),
            _ => Ok(self),
        }
    }

    /// The bundle of these certificates. Those that are no signing certificates are left out, and listed by
    /// [`Self::skipped`]; a bundle without any trusts nothing.
    #[must_use]
    pub fn from_certificates(trust_domain: TrustDomain, certificates: &[CertificateDer<'_>]) -> Self {
        let mut bundle = Self {
            trust_domain,
            anchors: Vec::new(),
            limits: Vec::new(),
            skipped: Vec::new(),
            jwt_authorities: Vec::new(),
            ignored: Vec::new(),
            sequence: None,
            refresh_hint: None,
            revocation: Revocation::default(),
        };
        for (index, certificate) in certificates.iter().enumerate() {
            match authority(certificate) {
                Ok((anchor, limits)) => {
                    bundle.anchors.push(anchor);
                    bundle.limits.push(limits);
                }
                Err(error) => bundle.skipped.push(SkippedAuthority { index, error }),
            }
        }
        bundle
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

    /// The same bundle with these authorities for tokens in place of those that it has.
    #[must_use]
    pub fn with_jwt_authorities(self, jwt_authorities: Vec<JwtAuthority>) -> Self {
        Self { jwt_authorities, ..self }
    }

    /// The authorities for tokens.
    #[must_use]
    pub fn jwt_authorities(&self) -> &[JwtAuthority] {
        &self.jwt_authorities
    }

    /// The authority for tokens of this name.
    #[must_use]
    pub fn jwt_authority(&self, kid: &str) -> Option<&JwtAuthority> {
        self.jwt_authorities.iter().find(|authority| authority.kid() == kid)
    }

    /// The keys of its JSON that are not used: place, from 0, and reason.
    #[must_use]
    pub fn ignored(&self) -> &[(usize, IgnoredKey)] {
        &self.ignored
    }

    /// The sequence number, if it came with one: a greater one is newer.
    #[must_use]
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// How often its publisher thinks that one should look for a newer one, if it came with that.
    #[must_use]
    pub fn refresh_hint(&self) -> Option<Duration> {
        self.refresh_hint
    }

    /// The same, with the revocation lists of its trust domain, when `in_force` was the bundle in force. What of them does not count is
    /// told by [`Self::crl_faults`].
    #[must_use]
    pub fn with_crls(self, crls: &Crls, in_force: Option<&Self>) -> Self {
        let revocation = Revocation::new(crls, &self, in_force.map(|bundle| &bundle.revocation));
        Self { revocation, ..self }
    }

    /// Whether one of its authorities issued this list.
    pub(super) fn has_signed(&self, crl: &Crl) -> bool {
        let mut named = self.anchors.iter().filter(|anchor| crl.is_by_name(&anchor.subject));
        named.any(|anchor| crl.is_signed_by(&anchor.subject_public_key_info))
    }

    /// The revocation lists that count.
    #[must_use]
    pub fn crls(&self) -> &[Crl] {
        self.revocation.lists()
    }

    /// Why others do not.
    #[must_use]
    pub fn crl_faults(&self) -> &[CrlFault] {
        self.revocation.faults()
    }

    pub(super) const fn revocation(&self) -> &Revocation {
        &self.revocation
    }

    /// Each authority with what limits it.
    pub(in crate::identity) fn authorities(&self) -> impl Iterator<Item = (&TrustAnchor<'static>, &AuthorityLimits)> {
        self.anchors.iter().zip(&self.limits)
    }
}

/// All keys, but none of two that differ and have one name: which one a token means could not be told.
fn unambiguous(one: Vec<JwtAuthority>, other: Vec<JwtAuthority>) -> Vec<JwtAuthority> {
    let clashes = |key: &JwtAuthority, with: &[JwtAuthority]| with.iter().any(|k| k.kid() == key.kid() && k != key);
    let kept = one.iter().filter(|key| !clashes(key, &other)).cloned();
    let more = other.iter().filter(|key| !one.contains(key) && !clashes(key, &one)).cloned();
    kept.chain(more).collect()
}

/// The bundles of all trust domains that we know. They are never merged: each is asked only about its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
