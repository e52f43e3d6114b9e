//! The keys that sign bundles.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    UnparsedPublicKey, VerificationAlgorithm,
};
use aws_lc_rs::{digest, encoding};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer};
use thiserror::Error;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::policy::load::hex;

/// Longest key file.
const MAX_FILE_BYTES: usize = 64 * 1024;
/// Most keys: each bundle is tried with all of them.
const MAX_KEYS: usize = 16;

/// Why a file has no key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum BundleKeyError {
    #[error("key file `{}` cannot be read: {cause}", path.display())]
    Unreadable { path: PathBuf, cause: String },
    #[error(
        "key file `{}` has a private key, which belongs where bundles are signed: write its public half with `openssl pkey -pubout`",
        path.display()
    )]
    Private { path: PathBuf },
    #[error("key file `{}` has no PUBLIC KEY in PEM{}", path.display(), cause.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    NoKey { path: PathBuf, cause: Option<String> },
    #[error("key file `{}` has a key of another kind than Ed25519 and ECDSA P-256: {kind}", path.display())]
    Kind { path: PathBuf, kind: String },
    #[error("there are more than {MAX_KEYS} keys")]
    TooMany,
}

/// A public key by which bundles are verified.
#[derive(Clone, PartialEq, Eq)]
pub struct BundleKey {
    algorithm: Algorithm,
    /// As the algorithm takes it: 32 bytes, or an uncompressed point.
    key: Box<[u8]>,
    fingerprint: Box<str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Ed25519,
    EcdsaP256,
}

impl Algorithm {
    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &ED25519,
            Self::EcdsaP256 => &ECDSA_P256_SHA256_ASN1,
        }
    }
}

impl BundleKey {
    fn from_spki(path: &Path, der: &[u8]) -> Result<Self, BundleKeyError> {
        let unusable = |cause: String| BundleKeyError::NoKey { path: path.to_owned(), cause: Some(cause) };
        let (rest, spki) = SubjectPublicKeyInfo::from_der(der).map_err(|error| unusable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(unusable("bytes after the key".to_owned()));
        }
        let curve = spki.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
        let algorithm = match (spki.algorithm.algorithm.to_id_string().as_str(), curve) {
            // id-Ed25519 (RFC 8410 3); id-ecPublicKey with secp256r1 (RFC 5480 2.1.1).
            ("1.3.101.112", None) => Algorithm::Ed25519,
            ("1.2.840.10045.2.1", Some(curve)) if curve.to_id_string() == "1.2.840.10045.3.1.7" => Algorithm::EcdsaP256,
            ("1.2.840.113549.1.1.1", _) => return Err(kind(path, "RSA")),
            (other, Some(curve)) => return Err(kind(path, &format!("{other} with {}", curve.to_id_string()))),
            (other, None) => return Err(kind(path, other)),
        };
        let key: Box<[u8]> = spki.subject_public_key.data.as_ref().into();
        let is_whole = match algorithm {
            Algorithm::Ed25519 => key.len() == 32,
            Algorithm::EcdsaP256 => key.len() == 65 && key.first() == Some(&4),
        };
        if !is_whole {
            return Err(unusable("the key has not its form".to_owned()));
        }
        let fingerprint = format!("sha256:{}", hex(digest::digest(&digest::SHA256, der).as_ref())).into();
        Ok(Self { algorithm, key, fingerprint })
    }

    /// `sha256:HEX` over the key's DER: what `openssl pkey -pubin -in FILE -outform DER | sha256sum` says.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm.verification(), &self.key).verify(message, signature).is_ok()
    }
}

impl fmt::Debug for BundleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BundleKey({:?} {})", self.algorithm, self.fingerprint)
    }
}

fn kind(path: &Path, kind: &str) -> BundleKeyError {
    BundleKeyError::Kind { path: path.to_owned(), kind: kind.to_owned() }
}

/// The keys of a configuration: a bundle is taken if one of them has signed it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleKeys(Vec<BundleKey>);

impl BundleKeys {
    /// Reads all files; each has one PEM block or several.
    ///
    /// # Errors
    /// A file has no key, or one that cannot be used.
    pub fn read(paths: &[PathBuf]) -> Result<Self, BundleKeyError> {
        let mut keys = Vec::new();
        for path in paths {
            for key in of_file(path)? {
                if !keys.contains(&key) {
                    keys.push(key);
                }
            }
        }
        if keys.len() > MAX_KEYS { Err(BundleKeyError::TooMany) } else { Ok(Self(keys)) }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none, so that nothing is believed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &BundleKey> {
        self.0.iter()
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn contains(&self, key: &BundleKey) -> bool {
        self.0.contains(key)
    }

    pub(super) fn verify(&self, message: &[u8], signature: &[u8]) -> Option<&BundleKey> {
        self.0.iter().find(|key| key.verifies(message, signature))
    }
}

impl FromIterator<BundleKey> for BundleKeys {
    fn from_iter<I: IntoIterator<Item = BundleKey>>(keys: I) -> Self {
        Self(keys.into_iter().collect())
    }
}

impl From<BundleKey> for BundleKeys {
    fn from(key: BundleKey) -> Self {
        Self(vec![key])
    }
}

fn of_file(path: &Path) -> Result<Vec<BundleKey>, BundleKeyError> {
    // A pipe would be waited for without end, at every poll.
    if std::fs::metadata(path).is_ok_and(|file| !file.is_file()) {
        let cause = "it is not a regular file".to_owned();
        return Err(BundleKeyError::Unreadable { path: path.to_owned(), cause });
    }
    let pem = read(path)?;
    let keys = SubjectPublicKeyInfoDer::pem_slice_iter(&pem).map(|key| {
        let key =
            key.map_err(|error| BundleKeyError::NoKey { path: path.to_owned(), cause: Some(error.to_string()) })?;
        BundleKey::from_spki(path, &key)
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    // Also beside a public one: nobody who only verifies should have it.
    if PrivateKeyDer::from_pem_slice(&pem).is_ok() {
        return Err(BundleKeyError::Private { path: path.to_owned() });
    }
    if keys.is_empty() { Err(BundleKeyError::NoKey { path: path.to_owned(), cause: None }) } else { Ok(keys) }
}

fn read(path: &Path) -> Result<Vec<u8>, BundleKeyError> {
    let unreadable = |cause: String| BundleKeyError::Unreadable { path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| unreadable(error.to_string()))?;
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
    match bytes.len() > MAX_FILE_BYTES {
        true => Err(unreadable(format!("it has more than {MAX_FILE_BYTES} bytes"))),
        false => Ok(bytes),
    }
}

/// A private key that signs bundles.
pub struct SigningKey {
    pair: Pair,
    public: BundleKey,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    EcdsaP256(EcdsaKeyPair),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({:?})", self.public)
    }
}

impl SigningKey {
    /// Reads a PEM file: PKCS#8, or SEC1 for ECDSA, not encrypted.
    ///
    /// # Errors
    /// It has no key, or one that cannot be used.
    pub fn read(path: &Path) -> Result<Self, BundleKeyError> {
        let pem = read(path)?;
        let none = |cause: String| BundleKeyError::Unreadable { path: path.to_owned(), cause };
        let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|_| none(NO_PRIVATE_KEY.to_owned()))?;
        let unsupported = || kind(path, "the private key is of another kind, or damaged");
        let pair = match &der {
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                // openssl writes Ed25519 keys without their public half.
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(der)
                    .map(Pair::Ed25519)
                    .or_else(|_| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der).map(Pair::EcdsaP256))
            }
            PrivateKeyDer::Sec1(der) => {
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_sec1_der())
                    .map(Pair::EcdsaP256)
            }
            _ => return Err(kind(path, "RSA")),
        };
        let pair = pair.map_err(|_| unsupported())?;
        let spki = match &pair {
            Pair::Ed25519(pair) => spki(pair.public_key()),
            Pair::EcdsaP256(pair) => spki(pair.public_key()),
        };
        let public = BundleKey::from_spki(path, &spki.ok_or_else(unsupported)?)?;
        Ok(Self { pair, public })
    }

    /// Its public half.
    #[must_use]
    pub const fn public(&self) -> &BundleKey {
        &self.public
    }

    /// Signs what is to be verified by [`BundleKeys`].
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, super::PackError> {
        match &self.pair {
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::EcdsaP256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).map_err(|_| super::PackError::Sign)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

const NO_PRIVATE_KEY: &str =
    "it has no PRIVATE KEY in PEM that is not encrypted: `openssl genpkey -algorithm ed25519` writes one";

fn spki<'a, K: encoding::AsDer<encoding::PublicKeyX509Der<'a>>>(key: &K) -> Option<Vec<u8>> {
    key.as_der().ok().map(|der| der.as_ref().to_vec())
}
