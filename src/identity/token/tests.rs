//! Forged tokens, each beside its valid twin: one thing is changed in a token that is accepted, and the rule that refuses it is named.

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

#[test]
fn the_valid_twins_are_accepted() {
    let world = &*WORLD;
    let svid = world.verify(&token(&svid_header(), &svid_claims(), &world.own)).unwrap();
    assert_eq!((svid.issuer(), svid.subject()), ("spiffe://prod.test", "spiffe://prod.test/ns/web/sa/shop"));
    assert_eq!(svid.audiences(), [AUDIENCE.into()]);
    assert_eq!((svid.authentication_methods(), svid.scopes()), (None, None));
    let oidc = world.verify(&token(&oidc_header(), &oidc_claims(), &world.oidc)).unwrap();
    assert_eq!((oidc.issuer(), oidc.subject()), (ISSUER, "ada"));
    assert_eq!(oidc.authentication_methods().unwrap(), ["pwd".into(), "mfa".into()]);
    assert_eq!(oidc.scopes().unwrap(), ["read".into(), "write".into()]);
    assert_eq!(oidc.expires(), UNIX_EPOCH + Duration::from_secs(NOW + 300));
}

#[test]
fn a_header_with_one_thing_changed_is_refused_by_its_rule() {
    let world = &*WORLD;
    for (changes, rule) in [
        (json!({"alg": "none"}), Err("token-algorithm")),
        (json!({"alg": "None"}), Err("token-algorithm")),
        (json!({"alg": "HS256"}), Err("token-algorithm")),
        (json!({"alg": "HS512"}), Err("token-algorithm")),
        (json!({"alg": "es256"}), Err("token-algorithm")),
        (json!({"alg": "ES512"}), Err("token-algorithm")),
        (json!({"alg": "ES256K"}), Err("token-algorithm")),
        (json!({"alg": 256}), Err("token-algorithm")),
        (json!({"alg": null}), Err("token-algorithm")),
        (json!({"alg": "EdDSA"}), Err("token-algorithm")),
        (json!({"alg": "ES384"}), Err("token-key")),
        (json!({"alg": "RS256"}), Err("token-key")),
        (json!({"kid": null}), Err("token-key-id")),
        (json!({"kid": ""}), Err("token-key-id")),
        (json!({"kid": 7}), Err("token-key-id")),
        (json!({"kid": "prod.test "}), Err("token-key-id")),
        (json!({"kid": "PROD.TEST"}), Err("token-key-id")),
        (json!({"kid": "partner.test"}), Err("token-key-id")),
        (json!({"kid": "oidc"}), Err("token-key-id")),
        (json!({"kid": "../../dev/null"}), Err("token-key-id")),
        (json!({"kid": "k' or '1'='1"}), Err("token-key-id")),
        (json!({"kid": "x".repeat(3_000)}), Err("token-key-id")),
        (json!({"typ": "JOSE"}), Ok(())),
        (json!({"typ": null}), Ok(())),
        (json!({"typ": "at+jwt"}), Err("token-type")),
        (json!({"typ": "jwt"}), Err("token-type")),
        (json!({"typ": "dpop+jwt"}), Err("token-type")),
        (json!({"typ": ["JWT"]}), Err("token-type")),
        (json!({"crit": ["exp"]}), Err("token-critical")),
        (json!({"crit": []}), Err("token-critical")),
        (json!({"crit": ["b64"], "b64": false}), Err("token-critical")),
        // Said by whoever made the token: looked at by nobody, fetched never.
        (json!({"jku": "https://127.0.0.1:1/jwks", "x5u": "https://127.0.0.1:1/x"}), Ok(())),
        (json!({"jwk": world.stranger.jwk("prod.test", "sig")}), Ok(())),
        (json!({"x5c": [STANDARD.encode(b"no certificate")]}), Ok(())),
        (json!({"cty": "JWT", "unknown": {"a": 1}}), Ok(())),
    ] {
        let header = with(svid_header(), changes.clone());
        let verified = world.verify(&token(&header, &svid_claims(), &world.own)).map(|_| ());
        assert_eq!(verified, rule, "{changes}");
    }
}

#[test]
fn claims_with_one_thing_changed_are_refused_by_their_rule() {
    let world = &*WORLD;
    for (changes, rule) in [
        (json!({"exp": null}), Err("token-claim")),
        (json!({"exp": "1900000000"}), Err("token-claim")),
        (json!({"exp": -1}), Err("token-claim")),
        (json!({"exp": 1e300}), Err("token-claim")),
        (json!({"exp": u64::MAX}), Err("token-claim")),
        (json!({"exp": true}), Err("token-claim")),
        (json!({"exp": [NOW + 300]}), Err("token-claim")),
        (json!({"exp": NOW + 300}), Ok(())),
        (json!({"exp": NOW as f64 + 0.5}), Ok(())),
        (json!({"exp": NOW - 29}), Ok(())),
        (json!({"exp": NOW - 30}), Err("token-expired")),
        (json!({"exp": 0}), Err("token-expired")),
        (json!({"nbf": NOW + 30}), Ok(())),
        (json!({"nbf": NOW + 31}), Err("token-not-yet-valid")),
        (json!({"nbf": NOW as f64 + 30.5}), Err("token-not-yet-valid")),
        (json!({"nbf": "now"}), Err("token-claim")),
        (json!({"iat": NOW + 31}), Err("token-not-yet-valid")),
        (json!({"iat": {}}), Err("token-claim")),
        (json!({"aud": null}), Err("token-claim")),
        (json!({"aud": []}), Err("token-claim")),
        (json!({"aud": 7}), Err("token-claim")),
        (json!({"aud": {"a": AUDIENCE}}), Err("token-claim")),
        (json!({"aud": [AUDIENCE, 7]}), Err("token-claim")),
        (json!({"aud": AUDIENCE}), Ok(())),
        (json!({"aud": ["other", "lake"]}), Ok(())),
        (json!({"aud": "other"}), Err("token-audience")),
        (json!({"aud": "LAKE"}), Err("token-audience")),
        (json!({"aud": "lake "}), Err("token-audience")),
        (json!({"aud": "l\u{430}ke"}), Err("token-audience")),
        (json!({"aud": ["la", "ke"]}), Err("token-audience")),
        (json!({"aud": "spiffe://prod.test/ns/data/sa"}), Err("token-audience")),
        (json!({"sub": null}), Err("token-claim")),
        (json!({"sub": 7}), Err("token-claim")),
        (json!({"sub": "spiffe://prod.test/old/shop"}), Err("token-denied")),
        (json!({"sub": "spiffe://prod.test/old"}), Ok(())),
        (json!({"sub": "ada"}), Err("token-issuer")),
        (json!({"sub": "spiffe://prod.test"}), Err("token-subject")),
        (json!({"sub": "spiffe://prod.test/"}), Err("token-subject")),
        (json!({"sub": "spiffe://prod.test/../a"}), Err("token-subject")),
        (json!({"sub": "spiffe://PROD.test/a"}), Err("token-subject")),
        (json!({"sub": "spiffe://partner.test/a"}), Err("token-subject")),
        (json!({"sub": "spiffe://prod.test.evil.test/a"}), Err("token-subject")),
        (json!({"sub": "spiffe://prod.test@evil.test/a"}), Err("token-subject")),
        (json!({"sub": "spiffe://evil.test/prod.test"}), Err("token-subject")),
        // An issuer's name may stand in a JWT-SVID; it does not say which keys are asked, unless it is one that is configured.
        (json!({"iss": "https://oidc.prod.test"}), Ok(())),
        (json!({"iss": 7}), Err("token-claim")),
        (json!({"iss": ISSUER}), Err("token-key-id")),
        (json!({"amr": 7}), Err("token-claim")),
        (json!({"amr": ["mfa", 7]}), Err("token-claim")),
        (json!({"scope": {"a": 1}}), Err("token-claim")),
    ] {
        let claims = with(svid_claims(), changes.clone());
        let verified = world.verify(&token(&svid_header(), &claims, &world.own)).map(|_| ());
        assert_eq!(verified, rule, "{changes}");
    }
}

#[test]
fn tokens_of_openid_providers_obey_their_own_rules() {
    let world = &*WORLD;
    for (header, claims, key, rule) in [
        (json!({}), json!({}), &world.oidc, Ok(())),
        (json!({"kid": "rsa", "alg": "RS256"}), json!({}), &world.rsa, Ok(())),
        (json!({"kid": "rsa", "alg": "PS256"}), json!({}), &world.rsa, Ok(())),
        (json!({"kid": "p384", "alg": "ES384"}), json!({}), &world.p384, Ok(())),
        (json!({"kid": "ed", "alg": "EdDSA"}), json!({}), &world.ed, Ok(())),
        (json!({"typ": "at+jwt"}), json!({}), &world.oidc, Ok(())),
        (json!({"typ": "application/AT+JWT"}), json!({}), &world.oidc, Ok(())),
        (json!({"typ": "jwt"}), json!({}), &world.oidc, Ok(())),
        (json!({"typ": "logout+jwt"}), json!({}), &world.oidc, Err("token-type")),
        (json!({"typ": "secevent+jwt"}), json!({}), &world.oidc, Err("token-type")),
        (json!({"typ": "JOSE"}), json!({}), &world.oidc, Err("token-type")),
        // Its publisher says what each key is for.
        (json!({"kid": "rsa-ps", "alg": "PS256"}), json!({}), &world.rsa, Ok(())),
        (json!({"kid": "rsa-ps", "alg": "RS256"}), json!({}), &world.rsa, Err("token-key")),
        (json!({"kid": "only-signs"}), json!({}), &world.oidc, Err("token-key-id")),
        (json!({"kid": "enc"}), json!({}), &world.oidc, Err("token-key-id")),
        (json!({"kid": null}), json!({}), &world.oidc, Err("token-key-id")),
        // A key under another key's name, of the same kind and of another.
        (json!({}), json!({}), &world.stranger, Err("token-signature")),
        (json!({"kid": "ed"}), json!({}), &world.oidc, Err("token-key")),
        (json!({"kid": "rsa"}), json!({}), &world.oidc, Err("token-key")),
        (json!({"kid": "oidc", "alg": "EdDSA"}), json!({}), &world.ed, Err("token-key")),
        (json!({"kid": "rsa", "alg": "RS384"}), json!({}), &world.rsa, Err("token-signature")),
        // Another issuer's, however like ours.
        (json!({}), json!({"iss": null}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": "https://login.example/"}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": "https://LOGIN.example"}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": "http://login.example"}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": "https://login.example@evil.test"}), &world.oidc, Err("token-issuer")),
        (json!({}), json!({"iss": [ISSUER]}), &world.oidc, Err("token-claim")),
        (json!({}), json!({"sub": ""}), &world.oidc, Err("token-claim")),
        // What a provider says of a SPIFFE ID is its own word, and its keys vouch for no trust domain.
        (json!({}), json!({"iss": null, "sub": "spiffe://prod.test/a"}), &world.oidc, Err("token-key-id")),
        (
            json!({"kid": "prod.test"}),
            json!({"iss": null, "sub": "spiffe://prod.test/a"}),
            &world.oidc,
            Err("token-signature"),
        ),
        (json!({"kid": "prod.test"}), json!({}), &world.own, Err("token-key-id")),
    ] {
        let shown = format!("{header} {claims}");
        let verified = world.verify(&token(&with(oidc_header(), header), &with(oidc_claims(), claims), key));
        assert_eq!(verified.map(|_| ()), rule, "{shown}");
    }
}

#[test]
fn what_a_trust_domain_has_not_signed_is_not_its_own() {
    let world = &*WORLD;
    for (header, key) in [
        (svid_header(), &world.stranger),
        (svid_header(), &world.partner),
        (svid_header(), &world.oidc),
        (with(svid_header(), json!({"jwk": world.stranger.jwk("prod.test", "sig")})), &world.stranger),
    ] {
        assert_eq!(world.verify(&token(&header, &svid_claims(), key)).map(|_| ()), Err("token-signature"), "{header}");
    }
    // A domain that has a bundle here, and whose tokens nobody asked for.
    let claims = with(svid_claims(), json!({"sub": "spiffe://partner.test/a"}));
    let header = with(svid_header(), json!({"kid": "partner.test"}));
    assert_eq!(world.verify(&token(&header, &claims, &world.partner)).map(|_| ()), Err("token-subject"));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let world = &*WORLD;
    let Key::Rsa(rsa) = &world.rsa else { unreachable!() };
    let jwk = world.rsa.jwk("rsa", "sig").to_string();
    let n = rsa.public_key().modulus().big_endian_without_leading_zero().to_vec();
    for secret in [jwk.into_bytes(), n, Vec::new()] {
        let signed = format!("{}.{}", part(&json!({"alg": "HS256", "kid": "rsa"})), part(&oidc_claims()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), signed.as_bytes());
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(world.verify(&forged).map(|_| ()), Err("token-algorithm"));
        // The same with the algorithm that the key is for.
        let signed = format!("{}.{}", part(&json!({"alg": "RS256", "kid": "rsa"})), part(&oidc_claims()));
        let forged = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
        assert_eq!(world.verify(&forged).map(|_| ()), Err("token-signature"));
    }
}

#[test]
fn a_token_that_is_not_what_was_signed_is_refused() {
    let world = &*WORLD;
    let valid = token(&svid_header(), &svid_claims(), &world.own);
    let [header, claims, signature]: [&str; 3] = valid.split('.').collect::<Vec<_>>().try_into().unwrap();
    let other = part(&with(svid_claims(), json!({"sub": "spiffe://prod.test/admin"})));
    let padded = URL_SAFE.encode(svid_claims().to_string() + "  ");
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    let der = URL_SAFE_NO_PAD.encode([0x30, 6, 2, 1, 1, 2, 1, 1]);
    let flipped = {
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[0] ^= 1;
        URL_SAFE_NO_PAD.encode(bytes)
    };
    // The last character of 64 bytes has four bits that count for nothing: another spelling of the same signature.
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = alphabet.find(signature.chars().last().unwrap()).unwrap();
    let respelt = format!("{}{}", cut(signature, signature.len() - 1), alphabet.chars().nth(last + 1).unwrap());
    for (forged, rule) in [
        (valid.clone(), Ok(())),
        (format!("{header}.{other}.{signature}"), Err("token-signature")),
        (format!("{header}.{claims}.{flipped}"), Err("token-signature")),
        (format!("{header}.{claims}.{zeros}"), Err("token-signature")),
        (format!("{header}.{claims}.{der}"), Err("token-signature")),
        (format!("{header}.{claims}.{}", cut(signature, 40)), Err("token-signature")),
        (format!("{header}.{claims}.{signature}AAAA"), Err("token-signature")),
        (format!("{header}.{claims}.{respelt}"), Err("token-encoding")),
        (format!("{header}.{claims}.{signature}="), Err("token-encoding")),
        (format!("{header}.{claims}.{signature}=="), Err("token-encoding")),
        (format!("{header}.{padded}.{signature}"), Err("token-encoding")),
        (format!("{header}.{claims}.{}", signature.replace(['-', '_'], "+") + "+"), Err("token-encoding")),
        (format!("{header}.{claims}.é"), Err("token-encoding")),
        (format!("{header} .{claims}.{signature}"), Err("token-encoding")),
        (format!("{header}.\n{claims}.{signature}"), Err("token-encoding")),
        (format!("{header}\0.{claims}.{signature}"), Err("token-encoding")),
        (format!("{header}.{claims}."), Err("token-form")),
        (format!("{header}.{claims}"), Err("token-form")),
        (format!("{header}..{signature}"), Err("token-form")),
        (format!(".{claims}.{signature}"), Err("token-form")),
        (format!("{valid}."), Err("token-form")),
        (format!("{valid}.{signature}"), Err("token-form")),
        (format!("{header}.{claims}.{signature}.a.b"), Err("token-form")),
        ("..".to_owned(), Err("token-form")),
        (String::new(), Err("token-form")),
        ("a".to_owned(), Err("token-form")),
        ("A.A.A".to_owned(), Err("token-encoding")),
        ("AA.AA.AA".to_owned(), Err("token-json")),
        (json!({"payload": claims, "protected": header, "signature": signature}).to_string(), Err("token-form")),
        ("a".repeat(MAX_TOKEN_BYTES + 1), Err("token-length")),
        (format!("{valid}{}", "A".repeat(MAX_TOKEN_BYTES)), Err("token-length")),
    ] {
        assert_eq!(
            world.verifier.verify(forged.as_bytes(), Some(&world.generation), now()).map(|_| ()).map_err(|e| e.rule()),
            rule,
            "{forged}"
        );
    }
    for length in 1..valid.len() {
        assert!(world.verify(cut(&valid, length)).is_err(), "cut at {length}");
    }
}

#[test]
fn json_that_parsers_read_differently_is_refused() {
    let world = &*WORLD;
    let claims = svid_claims().to_string();
    let header = svid_header().to_string();
    let more = |text: &str, extra: &str| format!("{},{extra}}}", cut(text, text.len() - 1));
    for (header, claims) in [
        (header.clone(), more(&claims, "\"sub\":\"spiffe://prod.test/admin\"")),
        (header.clone(), more(&claims, "\"s\\u0075b\":\"spiffe://prod.test/admin\"")),
        (header.clone(), more(&claims, "\"exp\":9999999999")),
        (header.clone(), more(&claims, "\"aud\":\"lake\"")),
        (header.clone(), more(&claims, "\"a\":{\"b\":1,\"b\":2}")),
        (more(&header, "\"alg\":\"none\""), claims.clone()),
        (more(&header, "\"kid\":\"prod.test\""), claims.clone()),
        (header.clone(), format!("[{claims}]")),
        (header.clone(), format!("{claims}{claims}")),
        (header.clone(), format!("{claims} x")),
        (header.clone(), format!("\u{feff}{claims}")),
        (header.clone(), more(&claims, "\"a\":\"\\ud800\"")),
        (header.clone(), more(&claims, "\"a\":NaN")),
        (header.clone(), more(&claims, &format!("\"a\":{}{}", "[".repeat(1_000), "]".repeat(1_000)))),
        (format!("{header}\n{{}}"), claims.clone()),
        ("\"ES256\"".to_owned(), claims.clone()),
        ("null".to_owned(), claims.clone()),
    ] {
        let forged = token_of(&header, &claims, &world.own, "ES256");
        assert_eq!(world.verify(&forged).map(|_| ()), Err("token-json"), "{header} {claims}");
    }
    let twin = token_of(&more(&header, "\"a\":1"), &more(&claims, "\"A\":{\"sub\":1}"), &world.own, "ES256");
    assert!(world.verify(&twin).is_ok());
}

#[test]
fn further_claims_are_texts_and_lists_of_texts() {
    let world = &*WORLD;
    let claims = with(
        oidc_claims(),
        json!({
            "groups": ["a", "b"], "email": "ada@example", "email_verified": true, "level": 3, "debt": -7, "none": [],
            "largest": u64::MAX, "ratio": 1.5, "huge": 1e30, "mixed": ["a", 1], "nested": {"roles": ["admin"]}, "lists": [["a"]], "nil": null,
            "": "empty", "ü\u{0}\n": "\u{1f511}", "nbf": NOW,
        }),
    );
    // `with` takes away what is null; here it is meant.
    let mut claims = claims;
    claims["nil"] = Value::Null;
    let verified = world.verify(&token(&oidc_header(), &claims, &world.oidc)).unwrap();
    let read: Map<String, Value> = verified.claims().map(|(name, values)| (name.to_owned(), json!(values))).collect();
    let now = NOW.to_string();
    let expected = json!({
        "groups": ["a", "b"], "email": ["ada@example"], "email_verified": ["true"], "level": ["3"], "debt": ["-7"], "none": [],
        "largest": ["18446744073709551615"], "": ["empty"], "ü\u{0}\n": ["\u{1f511}"], "nbf": [now],
    });
    assert_eq!(Value::Object(read), expected);
}

#[test]
fn a_known_token_ends_with_its_time_and_with_its_keys() {
    let world = World::new();
    let valid = token(&svid_header(), &svid_claims(), &world.own);
    let at = |seconds: u64, generation: Option<&X509Generation>| {
        let now = UNIX_EPOCH + Duration::from_secs(seconds);
        world.verifier.verify(valid.as_bytes(), generation, now).map_err(|error| error.rule())
    };
    let first = at(NOW, Some(&world.generation)).unwrap();
    assert!(Arc::ptr_eq(&first, &at(NOW + 1, Some(&world.generation)).unwrap()), "its signature is not verified again");
    assert_eq!(at(NOW + 330, Some(&world.generation)), Err("token-expired"));
    assert_eq!(at(NOW - 60, Some(&world.generation)), Err("token-not-yet-valid"), "clocks may go back");
    let rotated = generation(2, &[("prod.test", &world.stranger)]);
    assert_eq!(at(NOW, Some(&rotated)), Err("token-signature"));
    let gone = generation(3, &[("partner.test", &world.partner), ("prod.test", &world.own)]);
    let again = at(NOW, Some(&gone)).unwrap();
    assert!(!Arc::ptr_eq(&first, &again), "verified by the keys of its own generation");
    assert_eq!(at(NOW, None), Err("token-key-id"), "without identity there are no keys");
}

#[test]
fn keys_in_a_file_follow_it_and_the_last_good_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let file = Arc::new(JwksFile::at(&path));
    assert!(file.reload().unwrap_err().is_missing_file());
    let rules = TokenRules {
        audiences: vec!["lake".into()],
        issuers: vec![TokenIssuer::Oidc { url: ISSUER.into(), keys: Arc::clone(&file) }],
        leeway: Duration::ZERO,
    };
    let verifier = TokenVerifier::new(rules);
    let (old, new) = (Key::p256(), Key::p256());
    let of_old = token(&oidc_header(), &oidc_claims(), &old);
    let verify = |token: &str| verifier.verify(token.as_bytes(), None, now()).map(|_| ()).map_err(|error| error.rule());
    assert_eq!(verify(&of_old), Err("token-key-id"), "there are none yet");
    let write = |keys: &[Value]| std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();

    write(&[old.jwk("oidc", "sig")]);
    assert!(file.reload().is_ok());
    assert_eq!(verify(&of_old), Ok(()));
    std::fs::write(&path, "{\"keys\": [").unwrap();
    assert!(matches!(file.reload(), Err(JwksFileError::Content { .. })));
    write(&[]);
    assert!(matches!(file.reload(), Err(JwksFileError::Empty { .. })));
    write(&[old.jwk("oidc", "enc")]);
    assert!(matches!(file.reload(), Err(JwksFileError::Useless { .. })));
    let mut private = new.jwk("oidc", "sig");
    private["d"] = "AAAA".into();
    write(&[old.jwk("other", "sig"), private]);
    assert!(matches!(file.reload(), Err(JwksFileError::Private { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(file.reload().is_err());
    assert_eq!(verify(&of_old), Ok(()), "the last good keys stay in force");

    write(&[new.jwk("oidc", "sig")]);
    assert!(file.reload().is_ok());
    assert_eq!(verify(&of_old), Err("token-signature"), "what was known by the old keys is not any more");
    assert_eq!(verify(&token(&oidc_header(), &oidc_claims(), &new)), Ok(()));
}

#[test]
fn nothing_that_is_printed_holds_a_token() {
    let world = &*WORLD;
    let valid = token(&svid_header(), &svid_claims(), &world.own);
    world.verify(&valid).unwrap();
    let printed = format!("{:?}", world.verifier);
    let signature = valid.rsplit('.').next().unwrap();
    assert!(!printed.contains(signature) && !printed.contains(&valid), "{printed}");
}

#[test]
#[ignore = "a measurement: cargo test --release … -- --ignored --nocapture"]
fn how_long_a_token_takes() {
    let world = &*WORLD;
    let timed = |what: &str, token: &str, known: bool| {
        let begun = std::time::Instant::now();
        let rounds = 2_000;
        for _ in 0..rounds {
            if !known {
                world.verifier.forget();
            }
            world.verify(token).unwrap();
        }
        println!("{what}: {:.2} us", begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    };
    let es = token(&svid_header(), &svid_claims(), &world.own);
    let rs = token(&with(oidc_header(), json!({"kid": "rsa", "alg": "RS256"})), &oidc_claims(), &world.rsa);
    let ed = token(&with(oidc_header(), json!({"kid": "ed", "alg": "EdDSA"})), &oidc_claims(), &world.ed);
    for (what, token) in [("ES256", &es), ("RS256", &rs), ("EdDSA", &ed)] {
        timed(&format!("{what} verified"), token, false);
        timed(&format!("{what} known"), token, true);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_judged_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        fuzz(&bytes);
    }

    #[test]
    fn any_json_in_a_token_is_judged_without_a_panic(header in "\\{(\"(alg|kid|typ|crit)\":(\"(ES256|none|x)\"|1|\\[\\]|null),?){0,3}\\}", claims in "\\{(\"(sub|aud|exp|iss|nbf|amr)\":(\"x\"|1|\\[\\]|null|\\{\\}),?){0,4}\\}") {
        let world = &*WORLD;
        let forged = token_of(&header, &claims, &world.stranger, "ES256");
        fuzz(forged.as_bytes());
        prop_assert!(world.verify(&forged).is_err());
    }

    #[test]
    fn a_token_with_any_byte_changed_is_refused(at in 0_usize..1_000, to in any::<u8>()) {
        let world = &*WORLD;
        static VALID: LazyLock<String> = LazyLock::new(|| token(&svid_header(), &svid_claims(), &WORLD.own));
        let mut bytes = VALID.clone().into_bytes();
        let at = at % bytes.len();
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        prop_assert!(world.verifier.verify(&bytes, Some(&world.generation), now()).is_err());
    }
}
