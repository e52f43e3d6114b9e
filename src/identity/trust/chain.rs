//! Path validation: from a leaf to an authority of the leaf's own trust domain.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, UnixTime};
use thiserror::Error;
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::constraints::{Masked, Unmasking};
use super::{TrustBundle, TrustBundleSet};
use crate::identity::svid::certificate::{Certificate, Purposes};
use crate::identity::svid::text::moment;
use crate::identity::svid::{rules, strength};
use crate::identity::{SpiffeId, SvidError, X509Svid};

/// Most certificates that a peer may send, the leaf included. Path building takes at most 6 intermediates; the rest
/// would only cost signature checks before anybody is authenticated.
pub const MAX_CHAIN: usize = 8;

/// What a leaf is used for: which end of the connection it authenticates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainUsage {
    /// The client.
    Client,
    /// The server.
    Server,
}

impl ChainUsage {
    /// Whether an extended key usage allows it.
    pub(super) const fn is_among(self, purposes: Purposes) -> bool {
        match self {
            Self::Client => purposes.client_auth,
            Self::Server => purposes.server_auth,
        }
    }

    const fn key_usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }
}

/// Why a chain does not prove its leaf.
///
/// INVARIANT: a message is the same for as long as its cause is, and so holds no "ago": causes that stand are logged once.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum ChainError {
    /// We hold no bundle for the leaf's trust domain.
    #[error("no trust bundle for the trust domain `{trust_domain}`")]
    UnknownTrustDomain { trust_domain: String },
    /// The leaf's time is over.
    #[error("certificate expired at {}", moment(*.at))]
    Expired { at: SystemTime },
    /// The leaf's time has not come.
    #[error("certificate is not valid before {}", moment(*.from))]
    NotYetValid { from: SystemTime },
    /// More certificates than anybody needs.
    #[error("peer sent {count} certificates, at most {MAX_CHAIN} are accepted")]
    Length { count: usize },
    /// No path to an authority of the trust domain.
    #[error("certificate was not issued by an authority of the trust domain `{trust_domain}`")]
    UnknownIssuer { trust_domain: String },
    /// An issuer's name fits, its key does not.
    #[error("certificate bears the name of an authority of `{trust_domain}`, not its signature")]
    Signature { trust_domain: String },
    /// An issuer's time is over or has not come.
    #[error("an issuing certificate is expired or not yet valid")]
    IssuerValidity,
    /// An issuer that is no signing certificate.
    #[error("an issuing certificate is refused: {0}")]
    Issuer(SvidError),
    /// A path longer than an issuer allows.
    #[error("the chain is longer than an issuer's path length constraint allows")]
    PathLength,
    /// A name outside an issuer's constraints, or constraints that are malformed or of directory names.
    #[error("a name is outside an issuer's name constraints, or they are malformed or constrain directory names")]
    NameConstraints,
    /// A signature by an algorithm or key that is too weak or not known.
    #[error("a certificate is signed with an algorithm or key that is not accepted")]
    SignatureAlgorithm,
    /// An issuer whose extended key usage excludes this use.
    #[error("an issuer's extended key usage excludes TLS on this side")]
    IssuerPurpose,
    /// Its issuer, or that of an issuer, has taken it back.
    #[error("the certificate with the serial number `{serial}` has been revoked by its issuer")]
    Revoked { serial: String },
    /// It is on our own emergency list.
    #[error("the serial number `{serial}` is denied by `deny_serials`")]
    DeniedSerial { serial: String },
    /// Whoever has this ID is on our own emergency list.
    #[error("`{id}` is denied by `{pattern}` in `deny_spiffe_ids`")]
    DeniedId { id: SpiffeId, pattern: String },
    /// Nobody knows whether it has been taken back.
    #[error("the revocation list of `{issuer}` expired at {}", moment(*.at))]
    CrlExpired { issuer: String, at: SystemTime },
    /// A leaf that the rules can read and path validation cannot.
    #[error("path validation cannot read the certificate: {detail}")]
    Leaf { detail: String },
    /// Anything else that path validation refuses.
    #[error("path validation refused the chain: {detail}")]
    Path { detail: String },
}

impl ChainError {
    /// The rule's stable name, as records and metrics have it.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::UnknownTrustDomain { .. } => "unknown-trust-domain",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not-yet-valid",
            Self::Length { .. } => "chain-length",
            Self::UnknownIssuer { .. } | Self::Signature { .. } | Self::Path { .. } => "chain",
            Self::IssuerValidity => "issuer-validity",
            Self::Issuer(error) => error.rule(),
            Self::PathLength => "path-length",
            Self::NameConstraints => "name-constraints",
            Self::SignatureAlgorithm => "signature-algorithm",
            Self::IssuerPurpose => "issuer-extended-key-usage",
            Self::Revoked { .. } => "revoked",
            Self::CrlExpired { .. } => "crl-expired",
            Self::DeniedSerial { .. } => "denied-serial",
            Self::DeniedId { .. } => "denied-spiffe-id",
            Self::Leaf { .. } => "encoding",
        }
    }
}

impl TrustBundleSet {
    /// Verifies `chain` (leaf first, `svid` being that leaf) against the bundle of the leaf's own trust domain.
    ///
    /// # Errors
    /// The rule that is broken.
    ///
    /// # Source
    /// X.509-SVID 5.1; SPIFFE Federation 4.2 (the leaf's trust domain picks the bundle, before any path is built).
    pub fn verify(
        &self,
        svid: &X509Svid,
        chain: &[CertificateDer<'_>],
        usage: ChainUsage,
        now: SystemTime,
    ) -> Result<(), ChainError> {
        let bundle = self.bundle_of(svid)?;
        let stands = |path: &VerifiedPath<'_>| {
            let authorities = bundle.authorities().filter(|(anchor, _)| *anchor == path.anchor());
            self.denied().check(svid.id(), path, authorities.map(|(_, limits)| limits))?;
            bundle.revocation().check(path, now)
        };
        bundle.verify(svid, chain, usage, now, &stands)
    }

    /// Verifies who issued `chain`, and not whether it has been taken back since.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_issuers(
        &self,
        svid: &X509Svid,
        chain: &[CertificateDer<'_>],
        usage: ChainUsage,
        now: SystemTime,
    ) -> Result<(), ChainError> {
        self.bundle_of(svid)?.verify(svid, chain, usage, now, &|_| Ok(()))
    }

    fn bundle_of(&self, svid: &X509Svid) -> Result<&TrustBundle, ChainError> {
        let trust_domain = svid.id().trust_domain();
        let unknown = || ChainError::UnknownTrustDomain { trust_domain: trust_domain.to_owned() };
        self.bundle(trust_domain).ok_or_else(unknown)
    }
}

impl TrustBundle {
    /// Verifies `chain` against this bundle alone. `stands` judges a path that was issued as it should be.
    fn verify(
        &self,
        svid: &X509Svid,
        chain: &[CertificateDer<'_>],
        usage: ChainUsage,
        now: SystemTime,
        stands: &dyn Fn(&VerifiedPath<'_>) -> Result<(), ChainError>,
    ) -> Result<(), ChainError> {
        if chain.len() > MAX_CHAIN {
            return Err(ChainError::Length { count: chain.len() });
        }
        if now > svid.not_after() {
            return Err(ChainError::Expired { at: svid.not_after() });
        }
        if now < svid.not_before() {
            return Err(ChainError::NotYetValid { from: svid.not_before() });
        }
        let (leaf, intermediates) =
            chain.split_first().ok_or_else(|| ChainError::Path { detail: "no certificate".to_owned() })?;
        let leaf = EndEntityCert::try_from(leaf).map_err(leaf_error)?;
        let (mut masked, mut shown) = (Vec::new(), Vec::new());
        for der in intermediates {
            let issuer = Masked::of(der);
            shown.push(Masked::shown(issuer.as_ref(), der));
            masked.extend(issuer);
        }
        let algorithms = webpki::ALL_VERIFICATION_ALGS.iter();
        let algorithms: Vec<_> =
            algorithms.map(|algorithm| Unmasking { algorithm: *algorithm, masked: &masked }).collect();
        let algorithms: Vec<&dyn SignatureVerificationAlgorithm> = algorithms.iter().map(|one| one as _).collect();

        // webpki's own error type has no room for our reasons; the first one stands for the path.
        let refused = RefCell::new(None);
        let verify_path = |path: &VerifiedPath<'_>| {
            self.check_path(path, svid, &masked, usage, now).and_then(|()| stands(path)).map_err(|error| {
                refused.borrow_mut().get_or_insert(error);
                PATH_REFUSED
            })
        };
        let result = leaf.verify_for_usage(
            &algorithms,
            self.anchors(),
            &shown,
            unix_time(now),
            usage.key_usage(),
            None,
            Some(&verify_path),
        );
        match (result, refused.into_inner()) {
            (Ok(_), _) => Ok(()),
            (Err(PATH_REFUSED), Some(error)) => Err(error),
            (Err(error), _) => Err(self.chain_error(error, intermediates)),
        }
    }

    /// What stock path building leaves out: whether each issuer is a signing certificate as SPIFFE defines it, whether
    /// it may name this trust domain, and the limits of the authority itself.
    fn check_path(
        &self,
        path: &VerifiedPath<'_>,
        svid: &X509Svid,
        masked: &[Masked],
        usage: ChainUsage,
        now: SystemTime,
    ) -> Result<(), ChainError> {
        // Of the URIs below the issuer that is looked at, from the leaf up.
        let mut hosts = vec![svid.id().trust_domain().to_owned()];
        for issuer in path.intermediate_certificates() {
            let der = issuer.der();
            let certificate = Certificate::parse(&der).map_err(ChainError::Issuer)?;
            rules::check_signing(&certificate).map_err(ChainError::Issuer)?;
            let tbs = certificate.x509.tbs_certificate.as_ref();
            let mut constraints = masked.iter().filter_map(|masked| masked.binding(tbs));
            if !constraints.all(|constraints| hosts.iter().all(|host| constraints.permit(host))) {
                return Err(ChainError::NameConstraints);
            }
            // INVARIANT: a signing certificate that keeps the rules has no URI, or a SPIFFE ID as the only one.
            hosts.extend(certificate.id.and_then(Result::ok).map(|id| id.trust_domain().to_owned()));
        }
        // Several certificates may bring one name and key; it takes one of them to vouch for the path.
        let same = self.authorities().filter(|(anchor, _)| *anchor == path.anchor());
        let mut verdict = Err(ChainError::IssuerValidity);
        for (_, limits) in same {
            verdict = limits.admit(path, &hosts, usage, now);
            if verdict.is_ok() {
                break;
            }
        }
        verdict
    }

    fn chain_error(&self, error: webpki::Error, intermediates: &[CertificateDer<'_>]) -> ChainError {
        use webpki::Error as E;
        let trust_domain = || self.trust_domain().to_string();
        #[expect(clippy::wildcard_enum_match_arm, reason = "webpki's error is non_exhaustive; the rest is refused too")]
        match error {
            E::UnknownIssuer => ChainError::UnknownIssuer { trust_domain: trust_domain() },
            // A signature by a key that is too weak is not found good, for whatever it is worth.
            E::InvalidSignatureForPublicKey
            | E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | E::SignatureAlgorithmMismatch
                if let Some(weakness) = intermediates.iter().find_map(weakness) =>
            {
                ChainError::Issuer(weakness)
            }
            E::InvalidSignatureForPublicKey => ChainError::Signature { trust_domain: trust_domain() },
            // The leaf's own validity has been judged before, by the clock that webpki was given.
            E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => ChainError::IssuerValidity,
            E::EndEntityUsedAsCa => ChainError::Issuer(SvidError::SigningCaFlag),
            E::PathLenConstraintViolated | E::MaximumPathDepthExceeded => ChainError::PathLength,
            E::NameConstraintViolation | E::MalformedNameConstraint | E::UnsupportedNameType => {
                ChainError::NameConstraints
            }
            E::UnsupportedSignatureAlgorithmContext(_)
            | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
            | E::SignatureAlgorithmMismatch => ChainError::SignatureAlgorithm,
            E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => ChainError::IssuerPurpose,
            // An issuer that cannot be used as it is: ours is the better word for what is wrong with it.
            other => match intermediates.iter().find_map(defect) {
                Some(defect) => ChainError::Issuer(defect),
                None => ChainError::Path { detail: format!("{other:?}") },
            },
        }
    }
}

/// That its key is too weak for what it signs to count.
fn weakness(der: &CertificateDer<'_>) -> Option<SvidError> {
    Certificate::parse(der).and_then(|certificate| strength::key(&certificate)).err()
}

/// What makes a certificate unfit to issue anything.
fn defect(der: &CertificateDer<'_>) -> Option<SvidError> {
    let certificate = Certificate::parse(der);
    let judged = certificate.and_then(|certificate| {
        rules::check_signing(&certificate)?;
        rules::check_critical_extensions(&certificate)
    });
    judged.err()
}

fn leaf_error(error: webpki::Error) -> ChainError {
    ChainError::Leaf { detail: format!("{error:?}") }
}

/// Nothing else in webpki says this as long as no key is listed as distrusted, and none is.
const PATH_REFUSED: webpki::Error = webpki::Error::CertDistrusted;

fn unix_time(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO))
}
