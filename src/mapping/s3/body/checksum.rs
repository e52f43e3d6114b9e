//! The headers that describe a body, for a body that is written anew.

use aws_lc_rs::digest;
use base64::Engine as _;
use crc::{CRC_32_ISCSI, CRC_32_ISO_HDLC, CRC_64_NVME, Crc};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use md5::{Digest as _, Md5};

use crate::mapping::Refusal;
use crate::mapping::s3::headers::Deciding;
use crate::mapping::s3::query::Query;

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");
const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const SDK_ALGORITHM: HeaderName = HeaderName::from_static("x-amz-sdk-checksum-algorithm");
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";

/// What the headers of a request say about its body, where the body may be written anew.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::mapping::s3) struct Rewritable {
    /// Every field that describes the body, with what it says.
    describing: Vec<(HeaderName, HeaderValue)>,
    /// The body's SHA-256 in hexadecimal, where `x-amz-content-sha256` says it.
    hashed: Option<String>,
}

impl Rewritable {
    /// Of a request whose body, and whose headers about the body, no signature covers.
    pub(in crate::mapping::s3) fn of(headers: &HeaderMap, query: &Query<'_>, deciding: &Deciding<'_>) -> Option<Self> {
        let describing = headers.iter().filter(|(name, _)| describes_body(name.as_str()));
        let describing: Vec<_> = describing.map(|(name, value)| (name.clone(), value.clone())).collect();
        let is_covered = |name: &str| describing.iter().any(|(known, _)| known.as_str().eq_ignore_ascii_case(name));
        let is_unsigned_payload = deciding.content_sha256 == Some(UNSIGNED);
        match Signature::of(headers, query) {
            Signature::Absent => {}
            Signature::Other => return None,
            Signature::Covers(signed) if signed.split(';').any(is_covered) => return None,
            // A presigned URL that does not say has an unsigned payload by definition; a signature in a header always says.
            Signature::Covers(_) if is_unsigned_payload || (query.presigned && deciding.content_sha256.is_none()) => {}
            Signature::Covers(_) => return None,
        }
        let hashed = deciding.content_sha256.filter(|_| !is_unsigned_payload).map(str::to_owned);
        Some(Self { describing, hashed })
    }

    /// Checks the body as it arrived: digests that are made anew would make a damaged body whole, and the store could not tell.
    ///
    /// # Errors
    /// Rule `body-digest`.
    pub(super) fn verify(&self, body: &[u8]) -> Result<(), Refusal> {
        let wrong = |name: &str| {
            let message = format!("the body is not the one that `{name}` was computed of");
            Err(Refusal::bad_request("body-digest", message))
        };
        if self.hashed.as_ref().is_some_and(|hash| *hash != sha256(body)) {
            return wrong(CONTENT_SHA256.as_str());
        }
        let differs = |(name, value): &&(HeaderName, HeaderValue)| {
            checksum(name.as_str(), body).is_some_and(|computed| computed.as_bytes() != value.as_bytes())
        };
        self.describing.iter().find(differs).map_or(Ok(()), |(name, _)| wrong(name.as_str()))
    }

    pub(super) fn checksums_of(&self, body: &[u8]) -> Checksums {
        let mut checksums = Checksums { set: Vec::new(), remove: vec![TRANSFER_ENCODING] };
        checksums.set(CONTENT_LENGTH, &body.len().to_string());
        checksums.set(CONTENT_MD5, &base64(&Md5::digest(body)));
        if self.hashed.is_some() {
            checksums.set(CONTENT_SHA256, &sha256(body));
        }
        for (name, _) in self.describing.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
            match checksum(name.as_str(), body) {
                Some(value) => checksums.set(name.clone(), &value),
                // It would no longer be true; Content-MD5 stands in.
                None => checksums.remove.extend([name.clone(), SDK_ALGORITHM]),
            }
        }
        checksums
    }
}

/// What the signature of a request covers.
enum Signature<'a> {
    /// There is none.
    Absent,
    /// These headers, separated by `;`, and the payload unless it says otherwise.
    Covers(&'a str),
    /// It is of a kind that is not understood, or there are several.
    Other,
}

impl<'a> Signature<'a> {
    fn of(headers: &'a HeaderMap, query: &'a Query<'_>) -> Self {
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        match (authorizations.next(), authorizations.next(), query.presigned) {
            (None, _, false) => Self::Absent,
            (None, _, true) => query.signed_headers.as_deref().map_or(Self::Other, Self::Covers),
            (Some(authorization), None, false) => {
                let text = authorization.to_str().ok().filter(|text| text.starts_with("AWS4-")).unwrap_or_default();
                let mut parts = text.split([',', ' ']).map(str::trim);
                parts.find_map(|part| part.strip_prefix("SignedHeaders=")).map_or(Self::Other, Self::Covers)
            }
            _ => Self::Other,
        }
    }
}

fn describes_body(name: &str) -> bool {
    let is_checksum =
        name.starts_with("x-amz-checksum-") && !matches!(name, "x-amz-checksum-mode" | "x-amz-checksum-type");
    is_checksum || matches!(name, "content-length" | "content-md5" | "digest" | "content-digest" | "repr-digest")
}

/// # Source
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
fn checksum(name: &str, body: &[u8]) -> Option<String> {
    let sha = |algorithm| base64(digest::digest(algorithm, body).as_ref());
    Some(match name {
        "x-amz-checksum-crc32" => base64(&Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(body).to_be_bytes()),
        "x-amz-checksum-crc32c" => base64(&Crc::<u32>::new(&CRC_32_ISCSI).checksum(body).to_be_bytes()),
        "x-amz-checksum-crc64nvme" => base64(&Crc::<u64>::new(&CRC_64_NVME).checksum(body).to_be_bytes()),
        "x-amz-checksum-sha1" => sha(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        "x-amz-checksum-sha256" => sha(&digest::SHA256),
        "x-amz-checksum-sha512" => sha(&digest::SHA512),
        "content-md5" | "x-amz-checksum-md5" => base64(&Md5::digest(body)),
        _ => return None,
    })
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn sha256(body: &[u8]) -> String {
    digest::digest(&digest::SHA256, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Length and digests of a body that was written anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksums {
    set: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl Checksums {
    /// Puts them into the head that goes with the body.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
    }

    fn set(&mut self, name: HeaderName, value: &str) {
        // Digits, hexadecimal and base64 are always a value.
        if let Ok(value) = HeaderValue::from_str(value) {
            self.set.push((name, value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_published_check_values() {
        // The catalogue's check value is that of these nine digits.
        for (name, expected) in [
            ("x-amz-checksum-crc32", &0xcbf4_3926_u32.to_be_bytes()[..]),
            ("x-amz-checksum-crc32c", &0xe306_9283_u32.to_be_bytes()),
            ("x-amz-checksum-crc64nvme", &0xae8b_1486_0a79_9888_u64.to_be_bytes()),
        ] {
            assert_eq!(checksum(name, b"123456789"), Some(base64(expected)), "{name}");
        }
        assert_eq!(checksum("x-amz-checksum-sha1", b"").as_deref(), Some("2jmj7l5rSw0yVb/vlWAYkK/YBwk="));
        assert_eq!(checksum("x-amz-checksum-xxhash3", b""), None);
    }
}
