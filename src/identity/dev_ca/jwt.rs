//! An authority that signs JWT-SVIDs, for development and tests.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::identity::{SpiffeId, SpiffeIdError, TrustDomain};

/// How far the clocks of issuer and verifier may differ, in seconds.
const LEEWAY: u64 = 5;

/// Signs the JWT-SVIDs of one trust domain with ES256.
pub struct JwtSigner {
    trust_domain: TrustDomain,
    kid: String,
    key: KeyPair,
    signing: EncodingKey,
    verifying: DecodingKey,
    x: String,
    y: String,
}

/// Why there is no token, or why one is not good.
#[derive(Debug, Error)]
pub enum JwtSignerError {
    /// A key that could not be made or read.
    #[error("cannot make or read the key: {0}")]
    Key(#[from] rcgen::Error),
    /// A key that is not on the curve P-256.
    #[error("the key of a JWT authority is on the curve P-256")]
    Curve,
    /// A token that cannot be signed, or that is not good.
    #[error("JWT-SVID: {0}")]
    Token(#[from] jsonwebtoken::errors::Error),
    /// A token of nobody.
    #[error("JWT-SVID: the claim `sub` is no SPIFFE ID: {0}")]
    Subject(#[from] SpiffeIdError),
    /// A token that another key signed.
    #[error("JWT-SVID: no key has the `kid` of the token")]
    Kid,
}

impl JwtSigner {
    /// A new authority of `trust_domain`.
    ///
    /// # Errors
    /// No key could be made.
    pub fn new(trust_domain: &TrustDomain) -> Result<Self, JwtSignerError> {
        Self::with_key(trust_domain, KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
    }

    /// The authority whose key is in a file: PEM, PKCS#8, P-256.
    ///
    /// # Errors
    /// It is no such key.
    pub fn from_pem(trust_domain: &TrustDomain, key_pem: &str) -> Result<Self, JwtSignerError> {
        Self::with_key(trust_domain, KeyPair::from_pem(key_pem)?)
    }

    fn with_key(trust_domain: &TrustDomain, key: KeyPair) -> Result<Self, JwtSignerError> {
        // An uncompressed point: 4, then x and y of 32 bytes each (SEC 1, 2.3.3).
        let Some((4, x, y)) = split_point(key.der_bytes()) else { return Err(JwtSignerError::Curve) };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let kid = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, key.der_bytes()));
        Ok(Self {
            trust_domain: trust_domain.clone(),
            kid,
            signing: EncodingKey::from_ec_der(&key.serialize_der()),
            verifying: DecodingKey::from_ec_components(&x, &y)?,
            key,
            x,
            y,
        })
    }

    /// Whose tokens it signs.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The key in PEM, PKCS#8.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The public key as a SPIFFE bundle has it (JWT-SVID 6.1).
    #[must_use]
    pub fn jwk(&self) -> Value {
        json!({ "kty": "EC", "crv": "P-256", "use": "jwt-svid", "alg": "ES256", "kid": self.kid, "x": self.x, "y": self.y })
    }

    /// A JWT-SVID.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn issue(
        &self,
        id: &SpiffeId,
        audience: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<String, JwtSignerError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expiry = now.saturating_add(lifetime);
        self.sign(&json!({ "sub": id.as_str(), "aud": audience, "iat": now.as_secs(), "exp": expiry.as_secs() }))
    }

    /// A token of whatever claims.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn sign(&self, claims: &Value) -> Result<String, JwtSignerError> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        Ok(jsonwebtoken::encode(&header, claims, &self.signing)?)
    }

    /// Whose a token says it is; nothing is verified.
    ///
    /// # Errors
    /// It is no token, or its subject is no SPIFFE ID.
    pub fn subject_of(token: &str) -> Result<SpiffeId, JwtSignerError> {
        let claims: Value = jsonwebtoken::dangerous::insecure_decode_claims(token)?;
        Ok(SpiffeId::parse(claims.get("sub").and_then(Value::as_str).unwrap_or_default())?)
    }

    /// The claims of a token that this authority signed for `audience`.
    ///
    /// # Errors
    /// The token is not good.
    pub fn validate(&self, token: &str, audience: &str) -> Result<Map<String, Value>, JwtSignerError> {
        if jsonwebtoken::decode_header(token)?.kid.as_ref() != Some(&self.kid) {
            return Err(JwtSignerError::Kid);
        }
        let mut validation = Validation::new(Algorithm::ES256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        Ok(jsonwebtoken::decode(token, &self.verifying, &validation)?.claims)
    }
}

impl fmt::Debug for JwtSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtSigner")
            .field("trust_domain", &self.trust_domain)
            .field("kid", &self.kid)
            .finish_non_exhaustive()
    }
}

fn split_point(point: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (form, coordinates) = point.split_first()?;
    let (x, y) = coordinates.split_at_checked(32)?;
    (y.len() == 32).then_some((*form, x, y))
}
