//! A signed token taken apart: nothing of it is true yet.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::verifier::MAX_TOKEN_BYTES;
use super::{TokenError, json};

/// The parts of a token in JWS compact serialization (RFC 7515, 7.1).
#[derive(Debug)]
pub(super) struct Compact<'a> {
    /// What is signed: header and payload as they came.
    pub(super) signed: &'a [u8],
    pub(super) header: Header,
    pub(super) claims: Map<String, Value>,
    /// Still encoded: the library takes it so.
    pub(super) signature: &'a str,
}

/// What of a header counts. `jwk`, `jku`, `x5c` and `x5u` do not: a token does not say which key to trust.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<Box<str>>,
    pub(super) typ: Option<Box<str>>,
}

impl<'a> Compact<'a> {
    /// Takes a token apart.
    ///
    /// # Errors
    /// The first rule of form that it breaks.
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Length { bytes: token.len() });
        }
        let dots: Vec<usize> = memchr::memchr_iter(b'.', token).take(3).collect();
        let [first, second] = dots[..] else { return Err(TokenError::Form) };
        let part = |from: usize, to: usize| token.get(from..to).filter(|part| !part.is_empty()).ok_or(TokenError::Form);
        let (header, payload) = (part(0, first)?, part(first + 1, second)?);
        let encoded = part(second + 1, token.len())?;
        decoded("signature", encoded)?;
        let signature = std::str::from_utf8(encoded).map_err(|_| TokenError::Form)?;
        let signed = part(0, second)?;
        let header = Header::of(&object("header", header)?)?;
        Ok(Self { signed, header, claims: object("payload", payload)?, signature })
    }
}

impl Header {
    fn of(header: &Map<String, Value>) -> Result<Self, TokenError> {
        // Present with any value at all: even an empty list is against RFC 7515, 4.1.11.
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(accepted);
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if !kid.is_empty() => Some(kid.as_str().into()),
            Some(_) => return Err(TokenError::NoKeyId),
        };
        let typ = match header.get("typ") {
            None => None,
            Some(Value::String(typ)) => Some(typ.as_str().into()),
            Some(_) => return Err(TokenError::Type),
        };
        Ok(Self { algorithm: algorithm.ok_or(TokenError::Algorithm)?, kid, typ })
    }
}

/// The accepted algorithms (RFC 7518, 3.1; RFC 8037, 3.1): `none` and the HMACs are not among them, or a public key could be taken for a
/// shared secret. ES512 is unknown to the library that verifies signatures.
fn accepted(name: &str) -> Option<Algorithm> {
    let algorithm = name.parse().ok()?;
    match algorithm {
        Algorithm::RS256
        | Algorithm::RS384
        | Algorithm::RS512
        | Algorithm::PS256
        | Algorithm::PS384
        | Algorithm::PS512
        | Algorithm::ES256
        | Algorithm::ES384
        | Algorithm::EdDSA => Some(algorithm),
        _ => None,
    }
}

fn object(part: &'static str, text: &[u8]) -> Result<Map<String, Value>, TokenError> {
    json::object(&decoded(part, text)?).map_err(|cause| TokenError::Json { part, cause })
}

/// Strict: no padding, no other alphabet, no bits that count for nothing, so that a token has one spelling.
fn decoded(part: &'static str, text: &[u8]) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Encoding { part })
}

/// For fuzzing: whatever the bytes, no panic, and what is taken apart is all that came. Bytes with a zero in them are a header and claims
/// that are still to be encoded.
pub fn fuzz(bytes: &[u8]) {
    let zero = memchr::memchr(0, bytes).and_then(|at| bytes.split_at_checked(at));
    let encoded = zero.map(|(header, claims)| {
        let claims = claims.strip_prefix(&[0]).unwrap_or(claims);
        format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims)).into_bytes()
    });
    let bytes = encoded.as_deref().unwrap_or(bytes);
    if let Ok(compact) = Compact::parse(bytes) {
        assert_eq!([compact.signed, b".", compact.signature.as_bytes()].concat(), bytes);
        let _read = super::Token::read("https://issuer.example".into(), compact.claims);
    }
}
