//! SPIFFE bundles and JWK sets as JSON: what federation serves, and files may hold.
//!
//! # Source
//! SPIFFE Trust Domain and Bundle 4 (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE_Trust_Domain_and_Bundle.md>),
//! X509-SVID 6.2, JWT-SVID 6.2, RFC 7517 5.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};
use thiserror::Error;

use super::jwk::{IgnoredKey, Jwk, JwtAuthority, KeyUse};

/// The longest bundle in bytes: some hundred authorities of the largest kind.
pub const MAX_BUNDLE_BYTES: usize = 1024 * 1024;
/// Most keys in a bundle: a trust domain has a handful, each in its old and its new form while it rotates.
pub const MAX_BUNDLE_KEYS: usize = 512;

/// Keys that are not used: their places, from 0, and why.
pub type IgnoredKeys = Vec<(usize, IgnoredKey)>;

/// A SPIFFE bundle as it was published. It does not say of which trust domain it is; whoever fetched it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleDocument {
    /// The X.509 authorities, each once. None: no X.509-SVID is trusted.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The keys that sign JWT-SVIDs. None: no JWT-SVID is trusted.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// Grows with each change, if the publisher counts.
    pub sequence: Option<u64>,
    /// How often the publisher thinks that one should look.
    pub refresh_hint: Option<Duration>,
    /// The keys that are not used.
    pub ignored: IgnoredKeys,
}

/// Why JSON is no bundle and no JWK set.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum DocumentError {
    /// Longer than any bundle.
    #[error("has {bytes} bytes, at most {MAX_BUNDLE_BYTES} are accepted")]
    TooLong { bytes: usize },
    /// Not JSON, or not of the shape.
    #[error("is not a SPIFFE bundle in JSON: {detail}")]
    Json { detail: String },
}

impl BundleDocument {
    /// Reads a SPIFFE bundle.
    ///
    /// # Errors
    /// It is too long, not JSON, has no `keys`, more than [`MAX_BUNDLE_KEYS`] of them, a name twice in one object, or a sequence number
    /// or refresh hint that is no whole number from 0 on. A key that cannot be used is no error: see [`Self::ignored`].
    pub fn parse(json: &[u8]) -> Result<Self, DocumentError> {
        let set: Set = read(json)?;
        let mut document = Self {
            sequence: set.spiffe_sequence,
            refresh_hint: set.spiffe_refresh_hint.map(Duration::from_secs),
            ..Self::default()
        };
        let mut tokens = Vec::new();
        for (index, key) in set.keys.0.iter().enumerate() {
            let taken = match key.bundle_use() {
                Ok(KeyUse::X509Svid) => key.certificate().map(|certificate| document.add(certificate)),
                Ok(KeyUse::JwtSvid) => key.jwt_authority().map(|authority| tokens.push((index, authority))),
                Err(ignored) => Err(ignored),
            };
            document.ignored.extend(taken.err().map(|ignored| (index, ignored)));
        }
        document.jwt_authorities = unambiguous(tokens, &mut document.ignored);
        Ok(document)
    }

    fn add(&mut self, certificate: CertificateDer<'static>) {
        if !self.certificates.contains(&certificate) {
            self.certificates.push(certificate);
        }
    }
}

/// The keys of a plain JWK set that sign tokens: an OpenID provider's, or a JWT bundle of the Workload API. What of it is not used comes
/// with place and reason.
///
/// # Errors
/// As [`BundleDocument::parse`].
pub fn parse_jwks(json: &[u8]) -> Result<(Vec<JwtAuthority>, IgnoredKeys), DocumentError> {
    let set: Set = read(json)?;
    let (mut authorities, mut ignored) = (Vec::new(), Vec::new());
    for (index, key) in set.keys.0.iter().enumerate() {
        match key.is_for_signatures().and_then(|()| key.jwt_authority()) {
            Ok(authority) => authorities.push((index, authority)),
            Err(reason) => ignored.push((index, reason)),
        }
    }
    let authorities = unambiguous(authorities, &mut ignored);
    Ok((authorities, ignored))
}

/// Each key once; keys that differ under one name are all left out, since readers would differ in which one they mean.
fn unambiguous(found: Vec<(usize, JwtAuthority)>, ignored: &mut IgnoredKeys) -> Vec<JwtAuthority> {
    let mut kept: Vec<(usize, JwtAuthority)> = Vec::new();
    let mut ambiguous = BTreeSet::new();
    for (index, authority) in found {
        match kept.iter().find(|(_, earlier)| earlier.kid() == authority.kid()) {
            Some((_, earlier)) if *earlier == authority => {}
            Some((first, earlier)) => {
                ignored.extend([(*first, IgnoredKey::DuplicateKid), (index, IgnoredKey::DuplicateKid)]);
                ambiguous.insert(earlier.kid().to_owned());
            }
            None => kept.push((index, authority)),
        }
    }
    ignored.sort_by_key(|(index, _)| *index);
    ignored.dedup();
    kept.into_iter().map(|(_, authority)| authority).filter(|one| !ambiguous.contains(one.kid())).collect()
}

#[derive(Debug, Deserialize)]
struct Set {
    keys: Keys,
    #[serde(default)]
    spiffe_sequence: Option<u64>,
    #[serde(default)]
    spiffe_refresh_hint: Option<u64>,
}

fn read(json: &[u8]) -> Result<Set, DocumentError> {
    if json.len() > MAX_BUNDLE_BYTES {
        return Err(DocumentError::TooLong { bytes: json.len() });
    }
    // serde_json itself bounds the depth to 128.
    serde_json::from_slice(json).map_err(|error| DocumentError::Json { detail: error.to_string() })
}

/// The keys, counted while they are read: a small text of empty objects would make a large list.
#[derive(Debug)]
struct Keys(Vec<Jwk>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;

        impl<'de> Visitor<'de> for List {
            type Value = Keys;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some(key) = list.next_element()? {
                    if keys.len() == MAX_BUNDLE_KEYS {
                        return Err(A::Error::custom(format!("more than {MAX_BUNDLE_KEYS} keys")));
                    }
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }

        deserializer.deserialize_seq(List)
    }
}
