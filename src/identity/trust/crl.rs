//! Certificate revocation lists as they are read: one is a list that is whole, of its issuer, and understood in every critical part.
//!
//! # Source
//! RFC 5280, 5.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use thiserror::Error;
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::asn1_rs::FromDer as _;
use x509_parser::extensions::{DistributionPointName, GeneralName, ParsedExtension};
use x509_parser::revocation_list::CertificateRevocationList;

use super::TrustBundle;
use super::signed::is_signed_by;
use crate::identity::TrustDomain;
use crate::identity::svid::certificate::system_time;
use crate::identity::svid::text::{lower_hex, rfc4514};

/// The longest file of revocation lists in bytes: some hundred thousand entries.
pub const MAX_CRL_BYTES: usize = 32 * 1024 * 1024;
/// Of how many keys it is remembered whether they signed a list.
const MAX_SIGNERS: usize = 64;

/// What becomes of a certificate whose issuer's list is older than its own `nextUpdate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnExpiredCrl {
    /// It is refused: nobody knows whether it has been revoked since.
    #[default]
    Deny,
    /// The old list counts as if it were new.
    Allow,
}

/// The revocation lists of one trust domain. They are kept apart from those of others, since an issuer is found by its name, and two
/// trust domains may have issuers of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Crls {
    on_expired: OnExpiredCrl,
    lists: Vec<Crl>,
}

/// Why a revocation list cannot be used. Leaving one out would trust whom it revokes, so that what came with it is not used either.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum CrlError {
    /// Longer than any file of lists.
    #[error("has {bytes} bytes, at most {MAX_CRL_BYTES} are accepted")]
    TooLong { bytes: usize },
    /// Broken PEM: a half-written file.
    #[error("is not PEM: {detail}")]
    Pem { detail: String },
    /// Nothing in it.
    #[error("holds no revocation list")]
    Empty,
    /// Not the DER of a revocation list.
    #[error("is not a revocation list: {detail}")]
    Encoding { detail: String },
    /// A list of version 1, which cannot have extensions.
    #[error("is a revocation list of version 1, only version 2 is understood")]
    Version,
    /// A list that never expires (RFC 5280, 5.1.2.5, demands the field).
    #[error("does not say when the next one comes (`nextUpdate`)")]
    NoNextUpdate,
    /// What changed since another list.
    #[error("is a delta list, which is not supported: give the complete one")]
    Delta,
    /// A list by somebody else than the issuer of the certificates in it.
    #[error("is an indirect list, which is not supported: give the issuer's own")]
    Indirect,
    /// A list of some reasons only.
    #[error("is partitioned by reasons, which is not supported: give the complete one")]
    Reasons,
    /// A distribution point without a full name, or for attribute certificates.
    #[error("has an issuing distribution point that is not supported: only those with a full name are")]
    DistributionPoint,
    /// Something that may change the meaning of all the rest.
    #[error("has a critical extension that is not known here")]
    CriticalExtension,
}

impl CrlError {
    /// The cause's stable name, as metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "crl-too-long",
            Self::Pem { .. } => "pem",
            Self::Empty => "crl-empty",
            Self::Encoding { .. } => "crl-encoding",
            Self::Version => "crl-version",
            Self::NoNextUpdate => "crl-next-update",
            Self::Delta => "crl-delta",
            Self::Indirect => "crl-indirect",
            Self::Reasons => "crl-reasons",
            Self::DistributionPoint => "crl-distribution-point",
            Self::CriticalExtension => "crl-critical-extension",
        }
    }
}

impl Crls {
    /// No list yet.
    #[must_use]
    pub const fn new(on_expired: OnExpiredCrl) -> Self {
        Self { on_expired, lists: Vec::new() }
    }

    /// What becomes of a certificate whose issuer's list has expired.
    #[must_use]
    pub const fn on_expired(&self) -> OnExpiredCrl {
        self.on_expired
    }

    /// Adds the lists in a file's content, DER or PEM.
    ///
    /// # Errors
    /// It is broken, or has a list that is not supported.
    pub fn add(&mut self, document: &[u8]) -> Result<(), CrlError> {
        if document.len() > MAX_CRL_BYTES {
            return Err(CrlError::TooLong { bytes: document.len() });
        }
        // A SEQUENCE, and so DER: no text begins with this.
        if document.starts_with(&[0x30, 0x80]) || (document.starts_with(&[0x30]) && !document.is_ascii()) {
            self.lists.push(Crl::parse(document)?);
            return Ok(());
        }
        let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(document)
            .collect::<Result<_, _>>()
            .map_err(|error| CrlError::Pem { detail: error.to_string() })?;
        if lists.is_empty() {
            return Err(CrlError::Empty);
        }
        for list in lists {
            self.lists.push(Crl::parse(&list)?);
        }
        Ok(())
    }

    /// The same, with the lists of `other` beside its own.
    #[must_use]
    pub fn joined(mut self, other: &Self) -> Self {
        self.lists.extend(other.lists.iter().cloned());
        self
    }

    /// Of lists that came together for all of `bundles` those that each of them may see: what an authority of a trust domain signed is
    /// for that one alone, though others have authorities of its name. Whose the rest are cannot be told: an intermediate's key comes with
    /// the handshake.
    pub(in crate::identity) fn shared_out<'b>(
        &self,
        bundles: impl IntoIterator<Item = &'b TrustBundle> + Clone,
    ) -> BTreeMap<TrustDomain, Self> {
        let of_somebody = |crl: &Crl| bundles.clone().into_iter().any(|bundle| bundle.has_signed(crl));
        let of_nobody: Vec<bool> = self.lists.iter().map(|crl| !of_somebody(crl)).collect();
        let of = |bundle: &TrustBundle| {
            let lists = self.lists.iter().zip(&of_nobody).filter(|(crl, any)| **any || bundle.has_signed(crl));
            Self { on_expired: self.on_expired, lists: lists.map(|(crl, _)| crl.clone()).collect() }
        };
        bundles.clone().into_iter().map(|bundle| (bundle.trust_domain().clone(), of(bundle))).collect()
    }

    /// The lists.
    #[must_use]
    pub fn lists(&self) -> &[Crl] {
        &self.lists
    }
}

/// One revocation list. Cheap to clone.
#[derive(Clone)]
pub struct Crl(Arc<Fields>);

struct Fields {
    der: Vec<u8>,
    list: CertRevocationList<'static>,
    issuer: String,
    number: Option<Vec<u8>>,
    scope: Vec<u8>,
    this_update: SystemTime,
    next_update: SystemTime,
    entries: usize,
    /// Keys, as trust anchors have them, and whether they signed this list: it may be long, and a handshake should not hash it.
    signers: Mutex<Vec<(Vec<u8>, bool)>>,
}

impl Crl {
    /// Reads one list.
    ///
    /// # Errors
    /// It is none, or one that is not supported.
    pub fn parse(der: &[u8]) -> Result<Self, CrlError> {
        let (rest, parsed) = CertificateRevocationList::from_der(der)
            .map_err(|error| CrlError::Encoding { detail: error.to_string() })?;
        if !rest.is_empty() {
            return Err(CrlError::Encoding { detail: format!("{} bytes after the list", rest.len()) });
        }
        if parsed.version().is_none_or(|version| version.0 != 1) {
            return Err(CrlError::Version);
        }
        let next_update = parsed.next_update().ok_or(CrlError::NoNextUpdate)?;
        let list = OwnedCertRevocationList::from_der(der).map_err(unsupported)?;
        Ok(Self(Arc::new(Fields {
            list: list.into(),
            issuer: rfc4514(parsed.issuer()),
            number: parsed.crl_number().map(|number| number.to_bytes_be()),
            scope: scope(&parsed),
            this_update: system_time(parsed.last_update()),
            next_update: system_time(next_update),
            entries: parsed.iter_revoked_certificates().count(),
            signers: Mutex::default(),
            der: der.to_vec(),
        })))
    }

    /// Who issued it, as RFC 4514 writes names.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// Its number in hex, if it has one: each list of an issuer has a greater one than the last (RFC 5280, 5.2.3).
    #[must_use]
    pub fn number(&self) -> Option<String> {
        self.0.number.as_deref().map(lower_hex)
    }

    /// When it was made.
    #[must_use]
    pub fn this_update(&self) -> SystemTime {
        self.0.this_update
    }

    /// When its issuer wants to have made the next one at the latest: the end of this one's time.
    #[must_use]
    pub fn next_update(&self) -> SystemTime {
        self.0.next_update
    }

    /// How many certificates it revokes.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.0.entries
    }

    /// Whether its issuer has this name, a Name without its outermost tag and length.
    pub(super) fn is_by_name(&self, name: &[u8]) -> bool {
        self.0.list.issuer() == name
    }

    /// Whether it revokes this serial number, the content of an INTEGER.
    pub(super) fn revokes(&self, serial: &[u8]) -> bool {
        // The list has been read whole, so that nothing can be wrong with an entry; what would be is a reason to refuse.
        !self.0.list.find_serial(serial).is_ok_and(|found| found.is_none())
    }

    /// Whether this key, as a trust anchor has it, signed it.
    pub(super) fn is_signed_by(&self, spki: &[u8]) -> bool {
        let known =
            |signers: &[(Vec<u8>, bool)]| signers.iter().find(|(key, _)| key == spki).map(|(_, signed)| *signed);
        if let Some(signed) = known(&self.0.signers.lock().unwrap_or_else(PoisonError::into_inner)) {
            return signed;
        }
        let signed = is_signed_by(&self.0.der, spki);
        let mut signers = self.0.signers.lock().unwrap_or_else(PoisonError::into_inner);
        // Only issuers of verified paths are asked about. Should they become many, forgetting costs time and nothing else.
        if signers.len() >= MAX_SIGNERS {
            signers.clear();
        }
        signers.push((spki.to_vec(), signed));
        signed
    }

    /// Whether it takes the place of `other`, and not beside it: an issuer may have several lists that share its certificates out.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self.0.list.issuer() == other.0.list.issuer() && self.0.scope == other.0.scope
    }

    /// Whether it was made before `other`, a list that it would replace.
    pub(super) fn is_older_than(&self, other: &Self) -> bool {
        let sizes = |number: &Vec<u8>| (number.len(), number.clone());
        match (&self.0.number, &other.0.number) {
            (Some(own), Some(others)) => sizes(own) < sizes(others),
            _ => self.0.this_update < other.0.this_update,
        }
    }
}

impl PartialEq for Crl {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Crl {}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.number();
        f.debug_struct("Crl").field("issuer", &self.0.issuer).field("number", &number).finish_non_exhaustive()
    }
}

/// Of which certificates of its issuer it speaks, to be compared.
fn scope(parsed: &CertificateRevocationList<'_>) -> Vec<u8> {
    let mut scope = Vec::new();
    for extension in parsed.extensions() {
        if let ParsedExtension::IssuingDistributionPoint(point) = extension.parsed_extension() {
            scope.extend([u8::from(point.only_contains_user_certs), u8::from(point.only_contains_ca_certs)]);
            if let Some(DistributionPointName::FullName(names)) = &point.distribution_point {
                let uris = names.iter().filter_map(|name| match name {
                    GeneralName::URI(uri) => Some(uri),
                    _ => None,
                });
                uris.for_each(|uri| scope.extend([uri.as_bytes(), b"\0"].concat()));
            }
        }
    }
    scope
}

fn unsupported(error: webpki::Error) -> CrlError {
    use webpki::Error as E;
    #[expect(clippy::wildcard_enum_match_arm, reason = "webpki's error is non_exhaustive; the rest is refused too")]
    match error {
        E::UnsupportedDeltaCrl => CrlError::Delta,
        E::UnsupportedIndirectCrl => CrlError::Indirect,
        E::UnsupportedRevocationReasonsPartitioning => CrlError::Reasons,
        E::UnsupportedCrlIssuingDistributionPoint => CrlError::DistributionPoint,
        E::UnsupportedCriticalExtension => CrlError::CriticalExtension,
        E::UnsupportedCrlVersion => CrlError::Version,
        other => CrlError::Encoding { detail: format!("{other:?}") },
    }
}
