//! Forged tokens, each beside its valid twin: one thing is changed in a token that is accepted, and the rule that refuses it is named.

mod forged;
mod life;
mod rules;
mod speed;

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::identity::dev_ca::DevCa;
use crate::identity::tests::domain;
use crate::identity::{Denied, SpiffeId, SpiffeIdPattern, TrustBundle, TrustBundleSet, X509Generation, parse_jwks};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://login.example";
const AUDIENCE: &str = "spiffe://prod.test/ns/data/sa/lake";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    fn jwk(&self, kid: &str, usage: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |curve: &str, bytes: &[u8]| {
            let (x, y) = bytes[1..].split_at(bytes.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
        };
        let mut jwk = match self {
            Self::P256(key) => point("P-256", key.public_key().as_ref()),
            Self::P384(key) => point("P-384", key.public_key().as_ref()),
            Self::Rsa(key) => {
                let public = key.public_key();
                json!({"kty": "RSA", "n": text(public.modulus().big_endian_without_leading_zero()),
                    "e": text(public.exponent().big_endian_without_leading_zero())})
            }
            Self::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())}),
        };
        jwk["kid"] = kid.into();
        jwk["use"] = usage.into();
        jwk
    }

    /// By the algorithm of the token's header where there is a choice.
    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(key) | Self::P384(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                let encoding: &'static dyn aws_lc_rs::signature::RsaEncoding =
                    if algorithm == "PS256" { &RSA_PSS_SHA256 } else { &RSA_PKCS1_SHA256 };
                key.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// Issuers with their keys, and a verifier that takes tokens of `prod.test` and of [`ISSUER`].
struct World {
    own: Key,
    partner: Key,
    stranger: Key,
    oidc: Key,
    rsa: Key,
    p384: Key,
    ed: Key,
    generation: X509Generation,
    verifier: TokenVerifier,
    _folder: tempfile::TempDir,
}

/// Keys are made once: RSA takes its time.
static WORLD: LazyLock<World> = LazyLock::new(World::new);

impl World {
    fn new() -> Self {
        let (own, partner, oidc) = (Key::p256(), Key::p256(), Key::p256());
        let rsa = Key::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        let p384 = Key::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap());
        let ed = Key::Ed(Ed25519KeyPair::generate().unwrap());
        let with = |mut jwk: Value, name: &str, value: Value| {
            jwk[name] = value;
            jwk
        };
        let set = json!({"keys": [
            oidc.jwk("oidc", "sig"),
            rsa.jwk("rsa", "sig"),
            p384.jwk("p384", "sig"),
            ed.jwk("ed", "sig"),
            with(rsa.jwk("rsa-ps", "sig"), "alg", json!("PS256")),
            with(oidc.jwk("only-signs", "sig"), "key_ops", json!(["sign"])),
            oidc.jwk("enc", "enc"),
        ]});
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jwks.json");
        std::fs::write(&path, set.to_string()).unwrap();
        let file = Arc::new(JwksFile::at(&path));
        file.reload().unwrap();
        let rules = TokenRules {
            audiences: vec![AUDIENCE.into(), "lake".into()],
            issuers: vec![
                TokenIssuer::TrustDomain(domain("prod.test")),
                TokenIssuer::Oidc { url: ISSUER.into(), keys: file },
            ],
            leeway: Duration::from_secs(30),
        };
        let generation = generation(1, &[("prod.test", &own), ("partner.test", &partner)]);
        let stranger = Key::p256();
        Self {
            own,
            partner,
            stranger,
            oidc,
            rsa,
            p384,
            ed,
            generation,
            verifier: TokenVerifier::new(rules),
            _folder: folder,
        }
    }

    fn verify(&self, token: &str) -> Result<Arc<Token>, &'static str> {
        self.verifier.verify(token.as_bytes(), Some(&self.generation), now()).map_err(|error| {
            for part in token.split('.').filter(|part| part.len() > 20) {
                assert!(!error.to_string().contains(part), "no part of a token in {error}");
            }
            error.rule()
        })
    }
}

/// A generation whose bundles have one key for tokens each, called like the trust domain.
fn generation(number: u64, keys: &[(&str, &Key)]) -> X509Generation {
    let hour = Duration::from_secs(3600);
    let ca = DevCa::new(&domain("prod.test"), hour).unwrap();
    let minted = ca.issue(&SpiffeId::parse("spiffe://prod.test/ns/data/sa/lake").unwrap(), hour).unwrap();
    let bundles = keys.iter().map(|(name, key)| {
        let set = json!({"keys": [key.jwk(name, "jwt-svid")]}).to_string();
        TrustBundle::from_certificates(domain(name), &[ca.certificate().clone()])
            .with_jwt_authorities(parse_jwks(set.as_bytes()).unwrap().0)
    });
    let denied = Denied { ids: vec![SpiffeIdPattern::parse("spiffe://prod.test/old/*").unwrap()], ..Denied::default() };
    let bundles = TrustBundleSet::new(bundles).unwrap().with_denied(denied);
    X509Generation::new(number, minted.chain.clone(), minted.key().unwrap(), bundles, SystemTime::now()).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token of these texts, signed.
fn token_of(header: &str, claims: &str, key: &Key, algorithm: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(algorithm, signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn token(header: &Value, claims: &Value, key: &Key) -> String {
    let algorithm = header["alg"].as_str().unwrap_or_default().to_owned();
    token_of(&header.to_string(), &claims.to_string(), key, &algorithm)
}

fn svid_header() -> Value {
    json!({"alg": "ES256", "kid": "prod.test", "typ": "JWT"})
}

fn svid_claims() -> Value {
    json!({"sub": "spiffe://prod.test/ns/web/sa/shop", "aud": [AUDIENCE], "exp": NOW + 300, "iat": NOW - 5})
}

fn oidc_header() -> Value {
    json!({"alg": "ES256", "kid": "oidc"})
}

fn oidc_claims() -> Value {
    json!({"iss": ISSUER, "sub": "ada", "aud": "lake", "exp": NOW + 300, "amr": ["pwd", "mfa"], "scope": "read  write"})
}

/// `value` with members changed, or taken away by null.
fn with(mut value: Value, changes: Value) -> Value {
    for (name, change) in changes.as_object().unwrap() {
        let members = value.as_object_mut().unwrap();
        if change.is_null() {
            members.remove(name)
        } else {
            members.insert(name.clone(), change.clone())
        };
    }
    value
}

fn cut(text: &str, length: usize) -> &str {
    text.get(..length).unwrap()
}
