//! JSON Web Keys: the public keys that sign tokens, and the certificates that stand among them.
//!
//! # Source
//! RFC 7517 (JWK), RFC 7518 6 (the keys' members), JWT-SVID 6, X509-SVID 6.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, EcdsaVerificationAlgorithm, ParsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// The longest key ID in bytes: it is compared with what strangers send, and shown.
const MAX_KID_BYTES: usize = 256;
/// What RSA keys may have in bits: fewer are weak (RFC 9325 4.5), more are not verified by the cryptographic library.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A public key that signs tokens, under the name by which tokens refer to it.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtAuthority {
    kid: Arc<str>,
    key: JwtKey,
    algorithms: Arc<[Algorithm]>,
}

/// The key's numbers, big-endian, without leading zeros for RSA and of the curve's width for EC.
#[derive(Clone, PartialEq, Eq)]
enum JwtKey {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Ec { x: Vec<u8>, y: Vec<u8> },
    Ed { x: Vec<u8> },
}

impl JwtAuthority {
    /// The name by which a token's header refers to it.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The algorithms with which it may have signed: those of its type, or the only one that its publisher names.
    #[must_use]
    pub fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// The key as the library for tokens takes it.
    #[must_use]
    pub fn decoding_key(&self) -> DecodingKey {
        match &self.key {
            JwtKey::Rsa { modulus, exponent } => DecodingKey::from_rsa_raw_components(modulus, exponent),
            // Despite its name it takes the point as it is: 4, x, y (SEC 1, 2.3.3).
            JwtKey::Ec { x, y } => DecodingKey::from_ec_der(&point(x, y)),
            JwtKey::Ed { x } => DecodingKey::from_ed_der(x),
        }
    }
}

impl fmt::Debug for JwtAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtAuthority").field("kid", &self.kid).field("algorithms", &self.algorithms).finish()
    }
}

/// Why a key of a set is not used. The set is, without it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum IgnoredKey {
    /// A type that is not known here (Trust Domain and Bundle 4.2.1).
    #[error("its type `{kty}` is not known")]
    KeyType { kty: String },
    /// A use that is not known here (Trust Domain and Bundle 4.2.2).
    #[error("its use `{usage}` is not known")]
    Use { usage: String },
    /// An X.509 key without certificate (X509-SVID 6.2).
    #[error("it has no `x5c`")]
    NoCertificate,
    /// Not a certificate in base64.
    #[error("the first value of its `x5c` is not base64")]
    CertificateEncoding,
    /// A key for tokens that no token can refer to (JWT-SVID 6.1).
    #[error("it has no `kid`")]
    NoKid,
    /// Two keys for one name: which one is meant cannot be told.
    #[error("another key has the same `kid`")]
    DuplicateKid,
    /// A member that is missing or not what RFC 7518 makes of it.
    #[error("its `{member}` is missing or malformed")]
    Member { member: &'static str },
    /// A curve without an accepted algorithm.
    #[error("its curve is not P-256, P-384 or Ed25519")]
    Curve,
    /// A key that is weak, or beyond what can be verified.
    #[error("its RSA modulus has {bits} bits, 2048 to 8192 are accepted")]
    KeyStrength { bits: usize },
    /// Numbers that are no point on the curve.
    #[error("it is no point on its curve")]
    Point,
    /// For another algorithm than those that its type allows, or not for verifying.
    #[error("it is not meant for verifying signatures by an accepted algorithm")]
    Purpose,
    /// The private key has been published with it.
    #[error("it shows its private part, so whoever reads the bundle can sign with it")]
    Private,
}

impl IgnoredKey {
    /// The reason's stable name.
    #[must_use]
    pub const fn rule(&self) -> &'static str {
        match self {
            Self::KeyType { .. } => "key-type",
            Self::Use { .. } => "key-use",
            Self::NoCertificate => "no-x5c",
            Self::CertificateEncoding => "x5c",
            Self::NoKid => "no-kid",
            Self::DuplicateKid => "duplicate-kid",
            Self::Member { .. } => "key-member",
            Self::Curve => "key-curve",
            Self::KeyStrength { .. } => "key-strength",
            Self::Point => "key-point",
            Self::Purpose => "key-purpose",
            Self::Private => "private-key",
        }
    }
}

/// A key as it is written. Values of any kind, since a key of an unknown type may give the names a meaning of its own; a name that
/// occurs twice is refused by serde (RFC 7517 4).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Jwk {
    kty: Option<Value>,
    #[serde(rename = "use")]
    usage: Option<Value>,
    kid: Option<Value>,
    x5c: Option<Value>,
    alg: Option<Value>,
    key_ops: Option<Value>,
    crv: Option<Value>,
    x: Option<Value>,
    y: Option<Value>,
    n: Option<Value>,
    e: Option<Value>,
    d: Option<Value>,
}

/// What a key is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyUse {
    X509Svid,
    JwtSvid,
}

impl Jwk {
    /// The use of a key in a SPIFFE bundle.
    pub(super) fn bundle_use(&self) -> Result<KeyUse, IgnoredKey> {
        let found = match text(self.usage.as_ref()) {
            Some("x509-svid") => KeyUse::X509Svid,
            Some("jwt-svid") => KeyUse::JwtSvid,
            _ => return Err(IgnoredKey::Use { usage: shown(self.usage.as_ref()) }),
        };
        match (text(self.kty.as_ref()), found) {
            // OKP is Ed25519 (RFC 8037), with which certificates are signed, and JWT-SVIDs are not (JWT-SVID 2.1).
            (Some("EC" | "RSA"), _) | (Some("OKP"), KeyUse::X509Svid) => Ok(found),
            _ => Err(IgnoredKey::KeyType { kty: shown(self.kty.as_ref()) }),
        }
    }

    /// Whether a key of a plain JWK set signs (RFC 7517 4.2: the use need not be said).
    pub(super) fn is_for_signatures(&self) -> Result<(), IgnoredKey> {
        match (self.usage.as_ref(), text(self.usage.as_ref())) {
            (None, _) | (_, Some("sig" | "jwt-svid")) => Ok(()),
            _ => Err(IgnoredKey::Use { usage: shown(self.usage.as_ref()) }),
        }
    }

    /// The certificate of an X.509 key: the first of `x5c`, and only that (X509-SVID 6.2).
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, IgnoredKey> {
        let first = match &self.x5c {
            None => return Err(IgnoredKey::NoCertificate),
            Some(Value::Array(values)) => values.first().ok_or(IgnoredKey::NoCertificate)?,
            Some(_) => return Err(IgnoredKey::CertificateEncoding),
        };
        let der = first.as_str().and_then(|text| STANDARD.decode(text).ok()).ok_or(IgnoredKey::CertificateEncoding)?;
        Ok(der.into())
    }

    /// The key as one that signs tokens.
    pub(super) fn jwt_authority(&self) -> Result<JwtAuthority, IgnoredKey> {
        let kid = text(self.kid.as_ref()).filter(|kid| !kid.is_empty()).ok_or(IgnoredKey::NoKid)?;
        if kid.len() > MAX_KID_BYTES {
            return Err(IgnoredKey::Member { member: "kid" });
        }
        if self.d.is_some() {
            return Err(IgnoredKey::Private);
        }
        let (key, all): (_, &[Algorithm]) = match text(self.kty.as_ref()) {
            Some("RSA") => (self.rsa()?, &RSA),
            Some("EC") => match text(self.crv.as_ref()) {
                Some("P-256") => (self.ec(32, &ECDSA_P256_SHA256_FIXED)?, &[Algorithm::ES256]),
                Some("P-384") => (self.ec(48, &ECDSA_P384_SHA384_FIXED)?, &[Algorithm::ES384]),
                _ => return Err(IgnoredKey::Curve),
            },
            // RFC 8037 2. Bundles have none (`bundle_use`), sets of OpenID providers may.
            Some("OKP") => match text(self.crv.as_ref()) {
                Some("Ed25519") => (self.ed()?, &[Algorithm::EdDSA]),
                _ => return Err(IgnoredKey::Curve),
            },
            _ => return Err(IgnoredKey::KeyType { kty: shown(self.kty.as_ref()) }),
        };
        Ok(JwtAuthority { kid: kid.into(), key, algorithms: self.algorithms(all)? })
    }

    fn rsa(&self) -> Result<JwtKey, IgnoredKey> {
        let number = |member, value: Option<&Value>| {
            let bytes = bytes(value).ok_or(IgnoredKey::Member { member })?;
            // RFC 7518 2, Base64urlUInt: no leading zero octets.
            if bytes.first().is_none_or(|first| *first == 0) { Err(IgnoredKey::Member { member }) } else { Ok(bytes) }
        };
        let (modulus, exponent) = (number("n", self.n.as_ref())?, number("e", self.e.as_ref())?);
        let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
        let bits = modulus.len().saturating_mul(8).saturating_sub(zeros);
        if !RSA_BITS.contains(&bits) {
            return Err(IgnoredKey::KeyStrength { bits });
        }
        // 1 would make every message its own signature; exponents are odd (RFC 8017 3.1), and none is longer than 64 bits in use.
        if exponent == [1] || exponent.len() > 8 || exponent.last().is_some_and(|last| last % 2 == 0) {
            return Err(IgnoredKey::Member { member: "e" });
        }
        Ok(JwtKey::Rsa { modulus, exponent })
    }

    fn ec(&self, width: usize, algorithm: &'static EcdsaVerificationAlgorithm) -> Result<JwtKey, IgnoredKey> {
        let coordinate =
            |member, value| bytes(value).filter(|bytes| bytes.len() == width).ok_or(IgnoredKey::Member { member });
        let (x, y) = (coordinate("x", self.x.as_ref())?, coordinate("y", self.y.as_ref())?);
        ParsedPublicKey::new(algorithm, point(&x, &y)).map_err(|_| IgnoredKey::Point)?;
        Ok(JwtKey::Ec { x, y })
    }

    fn ed(&self) -> Result<JwtKey, IgnoredKey> {
        let x = bytes(self.x.as_ref()).ok_or(IgnoredKey::Member { member: "x" })?;
        ParsedPublicKey::new(&ED25519, &x).map_err(|_| IgnoredKey::Point)?;
        Ok(JwtKey::Ed { x })
    }

    /// Of `all` that its type allows, those that its publisher does.
    fn algorithms(&self, all: &[Algorithm]) -> Result<Arc<[Algorithm]>, IgnoredKey> {
        if let Some(operations) = &self.key_ops
            && !operations.as_array().is_some_and(|listed| listed.iter().any(|one| one == "verify"))
        {
            return Err(IgnoredKey::Purpose);
        }
        let Some(named) = &self.alg else { return Ok(all.into()) };
        let named = named.as_str().and_then(|named| named.parse().ok());
        let only = named.filter(|named| all.contains(named)).ok_or(IgnoredKey::Purpose)?;
        Ok([only].into())
    }
}

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

fn point(x: &[u8], y: &[u8]) -> Vec<u8> {
    [&[4], x, y].concat()
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

fn bytes(value: Option<&Value>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text(value)?).ok()
}

/// What somebody else wrote, safe to show.
fn shown(value: Option<&Value>) -> String {
    const MOST: usize = 64;
    let text = match value {
        None => return String::new(),
        Some(Value::String(text)) => text.escape_default().to_string(),
        Some(_) => return "not a text".to_owned(),
    };
    text.chars().take(MOST).collect()
}
