//! SPIFFE IDs and trust domains.
//!
//! # Source
//! The SPIFFE-ID standard, sections 2 to 2.3 (<https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>).

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// The longest SPIFFE ID in bytes that is accepted; SPIFFE-ID 2.3 asks implementations to support exactly this much.
pub(in crate::identity) const MAX_ID_BYTES: usize = 2048;
/// The longest trust domain name in bytes (SPIFFE-ID 2.1).
pub(in crate::identity) const MAX_TRUST_DOMAIN_BYTES: usize = 255;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ids_that_the_standard_allows_are_taken_apart() {
        let longest = format!("spiffe://td/{}", "a".repeat(MAX_ID_BYTES - "spiffe://td/".len()));
        let long_domain = format!("spiffe://{}/x", "d".repeat(MAX_TRUST_DOMAIN_BYTES));
        for (uri, trust_domain, path) in [
            ("spiffe://pipeline.example", "pipeline.example", ""),
            ("spiffe://pipeline.example/ns/etl/sa/load", "pipeline.example", "/ns/etl/sa/load"),
            ("spiffe://1.2.3.4/x", "1.2.3.4", "/x"),
            ("spiffe://a_b-c.d/A.Z-_9/...", "a_b-c.d", "/A.Z-_9/..."),
            ("spiffe://xn--bcher-kva.example/x", "xn--bcher-kva.example", "/x"),
            (longest.as_str(), "td", longest.split_at("spiffe://td".len()).1),
            (long_domain.as_str(), &"d".repeat(MAX_TRUST_DOMAIN_BYTES), "/x"),
        ] {
            let id = SpiffeId::parse(uri).unwrap();
            assert_eq!((id.as_str(), id.trust_domain(), id.path()), (uri, trust_domain, path));
            assert_eq!(id.is_workload(), !path.is_empty());
        }
    }

    #[test]
    fn each_rule_of_the_standard_refuses_in_its_own_name() {
        use SpiffeIdError as E;
        let domain = |character| E::TrustDomainCharacter { character };
        let path = |character| E::PathCharacter { character };
        for (uri, error) in [
            ("", E::Scheme),
            ("spiffe:", E::Scheme),
            ("spiffe:/td/x", E::Scheme),
            ("SPIFFE://td/x", E::Scheme),
            (" spiffe://td/x", E::Scheme),
            ("https://td/x", E::Scheme),
            ("spiffe://", E::EmptyTrustDomain),
            ("spiffe:///x", E::EmptyTrustDomain),
            ("spiffe://Td/x", domain('T')),
            ("spiffe://td:443/x", domain(':')),
            ("spiffe://user@td/x", domain('@')),
            ("spiffe://t%64/x", domain('%')),
            ("spiffe://[::1]/x", domain('[')),
            ("spiffe://td?q", domain('?')),
            ("spiffe://td#f", domain('#')),
            ("spiffe://bücher/x", domain('ü')),
            ("spiffe://td\0/x", domain('\0')),
            ("spiffe://td/", E::EmptySegment),
            ("spiffe://td/x/", E::EmptySegment),
            ("spiffe://td//x", E::EmptySegment),
            ("spiffe://td/./x", E::RelativeSegment { segment: "." }),
            ("spiffe://td/x/..", E::RelativeSegment { segment: ".." }),
            ("spiffe://td/x%2Fy", path('%')),
            ("spiffe://td/x?q=1", path('?')),
            ("spiffe://td/x#f", path('#')),
            ("spiffe://td/x y", path(' ')),
            ("spiffe://td/x\0", path('\0')),
            ("spiffe://td/é", path('é')),
            ("spiffe://td/x\n", path('\n')),
        ] {
            assert_eq!(SpiffeId::parse(uri), Err(error), "{uri:?}");
        }
    }

    #[test]
    fn one_byte_more_than_the_longest_is_refused() {
        let id = format!("spiffe://td/{}", "a".repeat(MAX_ID_BYTES - "spiffe://td/".len() + 1));
        assert_eq!(SpiffeId::parse(&id), Err(SpiffeIdError::TooLong { bytes: MAX_ID_BYTES + 1 }));
        let name = "d".repeat(MAX_TRUST_DOMAIN_BYTES + 1);
        let error = SpiffeIdError::LongTrustDomain { bytes: MAX_TRUST_DOMAIN_BYTES + 1 };
        assert_eq!(TrustDomain::parse(&name), Err(error));
    }

    #[test]
    fn a_trust_domain_by_itself_is_neither_url_nor_path() {
        for name in ["spiffe://td", "td/", "td/x", "TD", "", "t d"] {
            assert!(TrustDomain::parse(name).is_err(), "{name:?}");
        }
        assert_eq!(TrustDomain::parse("td.example").unwrap().to_string(), "td.example");
    }

    proptest! {
        #[test]
        fn what_the_grammar_makes_is_parsed_and_comes_back(
            trust_domain in "[a-z0-9._-]{1,255}",
            segments in prop::collection::vec("[a-zA-Z0-9_-][a-zA-Z0-9._-]{0,20}", 0..20),
        ) {
            let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
            let uri = format!("spiffe://{trust_domain}{path}");
            let id = SpiffeId::parse(&uri).unwrap();
            prop_assert_eq!(id.as_str(), &uri);
            prop_assert_eq!(id.trust_domain(), &trust_domain);
            prop_assert_eq!(id.path(), &path);
        }

        #[test]
        fn whatever_is_accepted_holds_every_rule(text in "(spiffe://)?[ -~é\\x00]{0,40}") {
            if let Ok(id) = SpiffeId::parse(&text) {
                prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), text);
                prop_assert!(TrustDomain::parse(id.trust_domain()).is_ok());
                prop_assert!(id.path().split('/').skip(1).all(|s| !matches!(s, "" | "." | "..")));
                prop_assert!(id.path().bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b)));
            }
        }
    }
}
