//! Name constraints on URIs: what an issuer may name, judged here since path building does not.
//!
//! webpki refuses whatever URI meets a constraint on URIs ("We currently don't support URI constraints -- fail closed for
//! now", `subject_name/mod.rs`), and with it each SVID below an issuer that is constrained to its own trust domain. So
//! it is shown a [`Masked`] issuer, in which those constraints stand under a name form that no SVID has; the signature
//! is checked over the bytes that were signed ([`Unmasking`]), and the constraints are judged on the path that comes
//! out. Constraints on other name forms, and malformed ones, stay as they are for webpki to judge or refuse.

use std::net::Ipv4Addr;

use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, InvalidSignature, SignatureVerificationAlgorithm};
use x509_parser::asn1_rs::{Any, Class, FromDer, Tag};

use crate::identity::svid::certificate::Certificate;

/// The constraints on URIs of one issuer. None at all permit every trust domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::identity) struct UriConstraints {
    permitted: Vec<String>,
    excluded: Vec<String>,
}

impl UriConstraints {
    /// Whether a URI of this host may stand in a certificate below the issuer: for a SPIFFE ID the trust domain.
    ///
    /// # Source
    /// RFC 5280, 4.2.1.10: a URI whose host is not a fully qualified name is refused once URIs are constrained.
    pub(super) fn permit(&self, host: &str) -> bool {
        let names = |domain: &String| covers(domain, host);
        let unconstrained = self.permitted.is_empty() && self.excluded.is_empty();
        let permitted = self.permitted.is_empty() || self.permitted.iter().any(names);
        unconstrained || (is_domain(host) && permitted && !self.excluded.iter().any(names))
    }
}

/// Whether a constraint covers a host: `.example.com` those below it and not itself, `example.com` itself and nothing else.
fn covers(constraint: &str, host: &str) -> bool {
    match constraint.starts_with('.') {
        true => host.strip_suffix(constraint).is_some_and(|labels| !labels.is_empty()),
        false => host == constraint,
    }
}

/// Whether it has the form of a fully qualified name, and not that of an address.
fn is_domain(name: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(of_name);
    name.split('.').all(is_label) && name.parse::<Ipv4Addr>().is_err()
}

/// An issuer's certificate with its constraints on URIs taken out of webpki's sight.
#[derive(Debug)]
pub(in crate::identity) struct Masked {
    der: CertificateDer<'static>,
    /// What was signed.
    signed: Vec<u8>,
    /// What stands there now.
    shown: Vec<u8>,
    constraints: UriConstraints,
}

impl Masked {
    /// The masked form of a certificate that constrains URIs; `None` for any other, and for one whose constraints are
    /// malformed: that one webpki refuses by itself.
    pub(in crate::identity) fn of(der: &[u8]) -> Option<Self> {
        // Nearly all issuers are spared being taken apart: without the extension's OID there is no such extension.
        const NAME_CONSTRAINTS: [u8; 5] = [6, 3, 0x55, 0x1d, 30];
        if !der.windows(NAME_CONSTRAINTS.len()).any(|bytes| bytes == NAME_CONSTRAINTS) {
            return None;
        }
        let certificate = Certificate::parse(der).ok()?;
        let found = Found::in_extension(certificate.name_constraints?)?;
        let mut masked = der.to_vec();
        for base in &found.bases {
            *masked.get_mut(offset(der, base)?)? = MASK;
        }
        let signed = certificate.x509.tbs_certificate.as_ref();
        let start = offset(der, signed)?;
        let shown = masked.get(start..start.checked_add(signed.len())?)?.to_vec();
        let has_any = !found.bases.is_empty();
        let (signed, der) = (signed.to_vec(), masked.into());
        has_any.then_some(Self { der, signed, shown, constraints: found.constraints })
    }

    /// The certificate `der` as webpki is to see it, `masked` being what [`Self::of`] said of it.
    pub(in crate::identity) fn shown<'a>(masked: Option<&Self>, der: &'a [u8]) -> CertificateDer<'a> {
        masked.map_or_else(|| CertificateDer::from(der), |masked| masked.der.clone())
    }

    /// What was masked.
    pub(in crate::identity) fn into_constraints(self) -> UriConstraints {
        self.constraints
    }

    /// The constraints, if `tbs` is what is shown of this issuer.
    ///
    /// Somebody may as well present the shown bytes themselves, and they would pass for signed: so whatever equals them
    /// is bound by these constraints, wherever it came from.
    pub(super) fn binding(&self, tbs: &[u8]) -> Option<&UriConstraints> {
        (self.shown == tbs).then_some(&self.constraints)
    }
}

/// `uniformResourceIdentifier` in a GeneralName (RFC 5280, 4.2.1.6).
const URI: u8 = 0x86;
/// `registeredID`, of the same length as what it hides. A certificate below that has such a name is refused.
const MASK: u8 = 0x88;

/// What a name constraints extension says of URIs, and where.
#[derive(Debug, Default)]
struct Found<'a> {
    constraints: UriConstraints,
    /// From each base's tag on.
    bases: Vec<&'a [u8]>,
}

impl<'a> Found<'a> {
    /// NameConstraints ::= SEQUENCE { permittedSubtrees [0] OPTIONAL, excludedSubtrees [1] OPTIONAL }; `None` if it is
    /// not that, or a constraint on URIs is none.
    fn in_extension(value: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        let (rest, sequence) = Any::from_der(value).ok()?;
        if !rest.is_empty() || sequence.tag() != Tag::Sequence {
            return None;
        }
        for list in elements(sequence.data)? {
            for subtree in elements(list.data)? {
                let domain = match found.base(subtree.data) {
                    None => continue,
                    Some(domain) => domain?,
                };
                match (list.class(), list.tag().0) {
                    (Class::ContextSpecific, 0) => found.constraints.permitted.push(domain),
                    (Class::ContextSpecific, 1) => found.constraints.excluded.push(domain),
                    _ => return None,
                }
            }
        }
        Some(found)
    }

    /// The domain of a GeneralSubtree if it is about URIs; `Some(None)` if it should be and is not.
    fn base(&mut self, subtree: &'a [u8]) -> Option<Option<String>> {
        if subtree.first() != Some(&URI) {
            return None;
        }
        self.bases.push(subtree);
        // `minimum` and `maximum` are not used with any name form (RFC 5280, 4.2.1.10): nothing comes after the base.
        let base = Any::from_der(subtree).ok().filter(|(rest, _)| rest.is_empty());
        let domain = base.and_then(|(_, base)| std::str::from_utf8(base.data).ok()).map(str::to_ascii_lowercase);
        Some(domain.filter(|domain| is_domain(domain.strip_prefix('.').unwrap_or(domain))))
    }
}

/// The values that stand one after the other in `data`.
fn elements(mut data: &[u8]) -> Option<Vec<Any<'_>>> {
    let mut elements = Vec::new();
    while !data.is_empty() {
        let (rest, element) = Any::from_der(data).ok()?;
        elements.push(element);
        data = rest;
    }
    Some(elements)
}

/// Where `part`, a slice of `whole`, begins.
fn offset(whole: &[u8], part: &[u8]) -> Option<usize> {
    part.as_ptr().addr().checked_sub(whole.as_ptr().addr())
}

/// A signature algorithm that checks masked certificates over the bytes that were signed.
#[derive(Debug)]
pub(super) struct Unmasking<'a> {
    pub(super) algorithm: &'static dyn SignatureVerificationAlgorithm,
    pub(super) masked: &'a [Masked],
}

impl SignatureVerificationAlgorithm for Unmasking<'_> {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let masked = self.masked.iter().find(|masked| masked.shown == message);
        let signed = masked.map_or(message, |masked| masked.signed.as_slice());
        self.algorithm.verify_signature(key, signed, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.algorithm.signature_alg_id()
    }

    fn fips(&self) -> bool {
        self.algorithm.fips()
    }
}
