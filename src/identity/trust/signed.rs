//! Who signed what: signatures that stock path validation has no door for.

use rustls::pki_types::SignatureVerificationAlgorithm;
use x509_parser::asn1_rs::{Any, Class, FromDer as _, Tag};

/// Whether `der`, a value of the form SIGNED { … }, bears the signature of the key in `spki`, which is a SubjectPublicKeyInfo as trust
/// anchors have it: without the outermost tag and length.
///
/// The algorithms are those of path validation.
///
/// # Source
/// RFC 5280, 4.1.1 and 5.1.1.
pub(super) fn is_signed_by(der: &[u8], spki: &[u8]) -> bool {
    let (Some(signed), Some(key)) = (Signed::take_apart(der), Key::take_apart(spki)) else { return false };
    let fits = |one: &&&dyn SignatureVerificationAlgorithm| {
        one.signature_alg_id().as_ref() == signed.algorithm && one.public_key_alg_id().as_ref() == key.algorithm
    };
    let fitting = webpki::ALL_VERIFICATION_ALGS.iter().filter(fits);
    fitting.into_iter().any(|one| one.verify_signature(key.bits, signed.message, signed.signature).is_ok())
}

/// The content of a SEQUENCE that is all there is.
pub(super) fn content_of(der: &[u8]) -> Option<&[u8]> {
    let (content, rest) = take(der, Tag::Sequence)?;
    rest.is_empty().then_some(content)
}

struct Signed<'a> {
    /// With its tag and length.
    message: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    fn take_apart(der: &'a [u8]) -> Option<Self> {
        let content = content_of(der)?;
        let (_, after) = take(content, Tag::Sequence)?;
        let message = content.get(..content.len().checked_sub(after.len())?)?;
        let (algorithm, after) = take(after, Tag::Sequence)?;
        let (signature, rest) = take(after, Tag::BitString)?;
        rest.is_empty().then_some(Self { message, algorithm, signature: whole_bytes(signature)? })
    }
}

struct Key<'a> {
    algorithm: &'a [u8],
    bits: &'a [u8],
}

impl<'a> Key<'a> {
    fn take_apart(spki: &'a [u8]) -> Option<Self> {
        let (algorithm, after) = take(spki, Tag::Sequence)?;
        let (bits, rest) = take(after, Tag::BitString)?;
        rest.is_empty().then_some(Self { algorithm, bits: whole_bytes(bits)? })
    }
}

/// The content of the first value, which has this tag, and what follows it.
fn take(der: &[u8], tag: Tag) -> Option<(&[u8], &[u8])> {
    let (rest, value) = Any::from_der(der).ok()?;
    (value.class() == Class::Universal && value.tag() == tag).then_some((value.data, rest))
}

/// A BIT STRING of whole bytes; before them stands how many bits of the last one do not count.
fn whole_bytes(bits: &[u8]) -> Option<&[u8]> {
    match bits.split_first() {
        Some((0, bytes)) => Some(bytes),
        _ => None,
    }
}
