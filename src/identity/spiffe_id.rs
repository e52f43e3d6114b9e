//! SPIFFE IDs and trust domains.
//!
//! # Source
//! The SPIFFE-ID standard, sections 2 to 2.3 (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The longest SPIFFE ID in bytes that is accepted; SPIFFE-ID 2.3 asks implementations to support exactly this much.
pub const MAX_ID_BYTES: usize = 2048;
/// The longest trust domain name in bytes (SPIFFE-ID 2.1).
pub const MAX_TRUST_DOMAIN_BYTES: usize = 255;

const SCHEME: &str = "spiffe://";

/// A trust domain's name: `pipeline.example`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// A trust domain by its name alone.
    ///
    /// # Errors
    /// The name is empty, longer than 255 bytes, or holds a character other than `a-z 0-9 . - _`.
    pub fn parse(name: &str) -> Result<Self, SpiffeIdError> {
        check_trust_domain(name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Borrow<str> for TrustDomain {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A SPIFFE ID: `spiffe://trust-domain` and, for a workload, a path.
///
/// Cheap to clone. Two IDs are equal exactly if their text is: the standard leaves nothing to normalise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    uri: Arc<str>,
    trust_domain_end: usize,
}

impl SpiffeId {
    /// Parses and checks an ID.
    ///
    /// # Errors
    /// The first rule of the standard that `uri` breaks.
    pub fn parse(uri: &str) -> Result<Self, SpiffeIdError> {
        if uri.len() > MAX_ID_BYTES {
            return Err(SpiffeIdError::TooLong { bytes: uri.len() });
        }
        let rest = uri.strip_prefix(SCHEME).ok_or(SpiffeIdError::Scheme)?;
        let (trust_domain, path) = match rest.split_once('/') {
            Some((trust_domain, path)) => (trust_domain, Some(path)),
            None => (rest, None),
        };
        check_trust_domain(trust_domain)?;
        if let Some(path) = path {
            path.split('/').try_for_each(check_segment)?;
        }
        Ok(Self { uri: uri.into(), trust_domain_end: SCHEME.len() + trust_domain.len() })
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The trust domain's name.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        self.uri.get(SCHEME.len()..self.trust_domain_end).unwrap_or_default()
    }

    /// The path with its leading slash; empty for an ID of the trust domain itself.
    #[must_use]
    pub fn path(&self) -> &str {
        self.uri.get(self.trust_domain_end..).unwrap_or_default()
    }

    /// Whether `self` names a workload: it has a path.
    #[must_use]
    pub fn is_workload(&self) -> bool {
        !self.path().is_empty()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

/// The rule of the SPIFFE-ID standard that a text breaks.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpiffeIdError {
    /// Longer than 2,048 bytes (2.3).
    #[error("SPIFFE ID has {bytes} bytes, at most {MAX_ID_BYTES} are accepted")]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// The scheme is not `spiffe`, in lower case (2).
    #[error("SPIFFE ID does not begin with `spiffe://`")]
    Scheme,
    /// No trust domain (2.1).
    #[error("trust domain is empty")]
    EmptyTrustDomain,
    /// A trust domain over 255 bytes (2.1).
    #[error("trust domain has {bytes} bytes, at most {MAX_TRUST_DOMAIN_BYTES} are allowed")]
    LongTrustDomain {
        /// How long it is.
        bytes: usize,
    },
    /// A character that a trust domain must not have: upper case, port, userinfo, percent-encoding (2.1).
    #[error("trust domain has the character `{}`, only a-z 0-9 . - _ are allowed", character.escape_default())]
    TrustDomainCharacter {
        /// The first such character.
        character: char,
    },
    /// An empty path segment, which a trailing slash makes too (2.2).
    #[error("path has an empty segment or a trailing slash")]
    EmptySegment,
    /// A segment `.` or `..` (2.2).
    #[error("path has the relative segment `{segment}`")]
    RelativeSegment {
        /// `.` or `..`.
        segment: &'static str,
    },
    /// A character that a path must not have: query, fragment, percent-encoding (2.2).
    #[error("path has the character `{}`, only a-z A-Z 0-9 . - _ are allowed", character.escape_default())]
    PathCharacter {
        /// The first such character.
        character: char,
    },
}

fn check_trust_domain(name: &str) -> Result<(), SpiffeIdError> {
    if name.is_empty() {
        return Err(SpiffeIdError::EmptyTrustDomain);
    }
    if name.len() > MAX_TRUST_DOMAIN_BYTES {
        return Err(SpiffeIdError::LongTrustDomain { bytes: name.len() });
    }
    match name.chars().find(|c| !matches!(c, 'a'..='z' | '0'..='9' | '.' | '-' | '_')) {
        Some(character) => Err(SpiffeIdError::TrustDomainCharacter { character }),
        None => Ok(()),
    }
}

fn check_segment(segment: &str) -> Result<(), SpiffeIdError> {
    match segment {
        "" => return Err(SpiffeIdError::EmptySegment),
        "." => return Err(SpiffeIdError::RelativeSegment { segment: "." }),
        ".." => return Err(SpiffeIdError::RelativeSegment { segment: ".." }),
        _ => {}
    }
    match segment.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_')) {
        Some(character) => Err(SpiffeIdError::PathCharacter { character }),
        None => Ok(()),
    }
}
