//! `bundle.json`: which bundle it is, and which of two is the later one.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use super::expiry::Expiry;

/// The name of the manifest in the archive.
pub const MANIFEST_FILE: &str = "bundle.json";
/// Longest manifest.
const MAX_MANIFEST_BYTES: usize = 4096;
/// Longest name.
const MAX_NAME_BYTES: usize = 63;

/// What a bundle says of itself, under its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Which bundle it is, where one key signs several: `[a-z0-9][a-z0-9.-]*`, at most 63 bytes.
    pub name: String,
    /// Grows with each bundle of the name, from 1. A sidecar never goes back.
    pub sequence: u64,
    /// From when on no sidecar takes it any more. One that has it in force keeps it, and says so.
    #[serde(default, deserialize_with = "moment", skip_serializing_if = "Option::is_none")]
    pub expires: Option<Expiry>,
}

/// Also `null` is none: it stands where somebody's script has found nothing to write.
fn moment<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Expiry>, D::Error> {
    Expiry::deserialize(deserializer).map(Some)
}

/// Why a manifest is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs, reason = "the fields are what the message shows")]
pub enum ManifestError {
    /// Too long, or not of the form.
    #[error("is not `{{\"name\": \"lake\", \"sequence\": 17}}`: {detail}")]
    Form { detail: String },
    /// Not a name.
    #[error("has the name `{}`: 1 to 63 of a-z 0-9 . - are allowed, the first a letter or digit", name.escape_debug())]
    Name { name: String },
    /// No bundle comes before the first.
    #[error("has the sequence number 0: the first is 1")]
    Sequence,
}

impl Manifest {
    /// What a bundle is called. It never expires.
    ///
    /// # Errors
    /// The name is none, or the sequence number 0.
    pub fn new(name: &str, sequence: u64) -> Result<Self, ManifestError> {
        Self { name: name.to_owned(), sequence, expires: None }.checked()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It is not of the form.
    pub fn parse(json: &[u8]) -> Result<Self, ManifestError> {
        if json.len() > MAX_MANIFEST_BYTES {
            return Err(ManifestError::Form { detail: format!("it has more than {MAX_MANIFEST_BYTES} bytes") });
        }
        let manifest: Self =
            serde_json::from_slice(json).map_err(|error| ManifestError::Form { detail: error.to_string() })?;
        manifest.checked()
    }

    fn checked(self) -> Result<Self, ManifestError> {
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '-');
        let is_name = (1..=MAX_NAME_BYTES).contains(&self.name.len())
            && self.name.chars().all(allowed)
            && self.name.starts_with(|c: char| c.is_ascii_alphanumeric());
        match (is_name, self.sequence) {
            (false, _) => Err(ManifestError::Name { name: self.name }),
            (true, 0) => Err(ManifestError::Sequence),
            (true, _) => Ok(self),
        }
    }
}

impl fmt::Display for Manifest {
    /// `lake@17`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.sequence)
    }
}
