//! Somebody who issues tokens: a key, and what it signs.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// An issuer with one P-256 key.
pub(crate) struct TokenIssuer {
    key: EcdsaKeyPair,
    kid: String,
}

impl TokenIssuer {
    pub(crate) fn new(kid: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("P-256 is supported");
        Self { key, kid: kid.to_owned() }
    }

    /// Its public key as a JWK for `usage`: `sig`, or `jwt-svid` in a SPIFFE bundle.
    pub(crate) fn jwk(&self, usage: &str) -> Value {
        let point = self.key.public_key().as_ref();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({"kty": "EC", "crv": "P-256", "use": usage, "kid": self.kid, "x": text(&point[1..33]), "y": text(&point[33..])})
    }

    /// A JWK set of this key alone.
    pub(crate) fn jwks(&self) -> String {
        json!({"keys": [self.jwk("sig")]}).to_string()
    }

    /// A token that says `claims`, for five minutes from now unless they say otherwise.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"}), claims)
    }

    /// The same with another header.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let mut claims = claims.clone();
        if claims.get("exp").is_none() {
            claims["exp"] = json!(in_seconds(300));
        }
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("P-256 signs");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// So many seconds from now, as `exp` has it.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    i64::try_from(now).expect("before the end of time") + seconds
}
