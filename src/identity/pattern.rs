//! One SPIFFE ID, or all below a path.

use super::{SpiffeId, SpiffeIdError};

/// Which workloads a line of configuration is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpiffeIdPattern {
    /// Exactly this ID.
    Exactly(SpiffeId),
    /// `spiffe://td/path/*`: one or more further segments below this ID.
    Below(SpiffeId),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// A star that is not a whole last segment.
    #[error("a `*` is allowed as the whole last segment only")]
    Wildcard,
    /// An ID of a trust domain, which no workload has.
    #[error("it names a trust domain, not a workload")]
    TrustDomain,
    /// What stands there is no SPIFFE ID.
    #[error(transparent)]
    Id(#[from] SpiffeIdError),
}

impl SpiffeIdPattern {
    /// Reads one SPIFFE ID, or `spiffe://TRUST-DOMAIN/PATH/*`.
    ///
    /// # Errors
    /// The first rule that `text` breaks.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let (id, below) = match text.strip_suffix("/*") {
            Some(id) => (id, true),
            None => (text, false),
        };
        if id.contains('*') {
            return Err(PatternError::Wildcard);
        }
        let id = SpiffeId::parse(id)?;
        match below {
            true => Ok(Self::Below(id)),
            false if id.is_workload() => Ok(Self::Exactly(id)),
            false => Err(PatternError::TrustDomain),
        }
    }

    /// The ID, or what stands before `/*`.
    #[must_use]
    pub const fn id(&self) -> &SpiffeId {
        match self {
            Self::Exactly(id) | Self::Below(id) => id,
        }
    }

    /// Whether it is about the workload with this ID.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exactly(expected) => expected == id,
            // An ID has no empty segments and no trailing slash: what follows the slash is at least one segment.
            Self::Below(above) => id.as_str().strip_prefix(above.as_str()).is_some_and(|rest| rest.starts_with('/')),
        }
    }
}

impl std::fmt::Display for SpiffeIdPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exactly(id) => write!(f, "{id}"),
            Self::Below(id) => write!(f, "{id}/*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    #[test]
    fn an_id_matches_itself_only() {
        let pattern = SpiffeIdPattern::parse("spiffe://td/ns/a").unwrap();
        assert!(pattern.matches(&id("spiffe://td/ns/a")));
        assert!(!pattern.matches(&id("spiffe://td/ns/a/b")));
        assert!(!pattern.matches(&id("spiffe://td/ns/ab")));
        assert!(!pattern.matches(&id("spiffe://other/ns/a")));
    }

    #[test]
    fn a_star_matches_one_or_more_segments() {
        let pattern = SpiffeIdPattern::parse("spiffe://td/ns/*").unwrap();
        assert!(pattern.matches(&id("spiffe://td/ns/a")));
        assert!(pattern.matches(&id("spiffe://td/ns/a/b")));
        assert!(!pattern.matches(&id("spiffe://td/ns")));
        assert!(!pattern.matches(&id("spiffe://td/nsx/a")));
        let whole = SpiffeIdPattern::parse("spiffe://td/*").unwrap();
        assert!(whole.matches(&id("spiffe://td/a")));
        assert!(!whole.matches(&id("spiffe://td")));
        assert!(!whole.matches(&id("spiffe://td.example/a")));
    }

    #[test]
    fn a_pattern_is_shown_as_it_is_written() {
        for text in ["spiffe://td/ns/a", "spiffe://td/ns/*", "spiffe://td/*"] {
            assert_eq!(SpiffeIdPattern::parse(text).unwrap().to_string(), text);
        }
    }
}
