//! Who must answer.

use thiserror::Error;

use super::PeerMatcher;
use super::errors::Advice;
use crate::identity::{PatternError, SpiffeId, SpiffeIdError, SpiffeIdPattern, TrustDomain};

/// Reads one SPIFFE ID, or `spiffe://TRUST-DOMAIN/PATH/*`.
pub(super) fn parse(text: &str) -> Result<SpiffeIdPattern, PeerError> {
    if text == "any" {
        return Err(PeerError::AnyInList);
    }
    SpiffeIdPattern::parse(text).map_err(|error| match error {
        PatternError::Wildcard => PeerError::Wildcard { text: text.into() },
        PatternError::TrustDomain => PeerError::TrustDomain { text: text.into() },
        PatternError::Id(error) => PeerError::Id { text: text.into(), error },
    })
}

impl PeerMatcher {
    /// Whether a workload with this ID may answer one of trust domain `own`.
    #[must_use]
    pub fn matches(&self, id: &SpiffeId, own: &TrustDomain) -> bool {
        match self {
            Self::AnyInOwnTrustDomain => id.is_workload() && id.trust_domain() == own.as_str(),
            Self::OneOf(patterns) => patterns.iter().any(|pattern| pattern.matches(id)),
        }
    }
}

/// Why a text names no peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum PeerError {
    #[error("`any` stands beside other peers, which it makes pointless")]
    AnyInList,
    #[error("`{text}` has a `*` other than the last segment")]
    Wildcard { text: String },
    #[error("`{text}` names a trust domain, not a workload")]
    TrustDomain { text: String },
    #[error("`{text}` is not a SPIFFE ID: {error}")]
    Id { text: String, error: SpiffeIdError },
}

impl Advice for PeerError {
    fn advice(&self) -> Option<String> {
        Some(match self {
            Self::AnyInList => "write `peer: any` alone, or remove `any`".into(),
            Self::Wildcard { .. } => "only a whole last segment may be `*`: `spiffe://TRUST-DOMAIN/PATH/*`".into(),
            Self::TrustDomain { text } => {
                format!("name the workload, `{text}/PATH`, or write `{text}/*` for all workloads of the trust domain")
            }
            Self::Id { .. } => "write `spiffe://TRUST-DOMAIN/PATH`, `spiffe://TRUST-DOMAIN/PATH/*`, or `any`".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> SpiffeId {
        SpiffeId::parse(text).unwrap()
    }

    #[test]
    fn any_matches_workloads_of_our_own_trust_domain() {
        let own = TrustDomain::parse("td").unwrap();
        let any = PeerMatcher::AnyInOwnTrustDomain;
        assert!(any.matches(&id("spiffe://td/a"), &own));
        assert!(!any.matches(&id("spiffe://td"), &own));
        assert!(!any.matches(&id("spiffe://other/a"), &own));
    }

    #[test]
    fn what_names_no_peer_is_refused_with_its_reason() {
        let own = str::to_owned;
        assert_eq!(parse("any"), Err(PeerError::AnyInList));
        for text in ["spiffe://td/a*", "spiffe://td/*/a", "spiffe://*/a", "*", "spiffe://td/*/*"] {
            assert_eq!(parse(text), Err(PeerError::Wildcard { text: own(text) }), "{text}");
        }
        assert_eq!(parse("spiffe://td"), Err(PeerError::TrustDomain { text: own("spiffe://td") }));
        for (text, error) in [
            ("lake", SpiffeIdError::Scheme),
            ("spiffe://TD/a", SpiffeIdError::TrustDomainCharacter { character: 'T' }),
            ("spiffe://td/a/", SpiffeIdError::EmptySegment),
            ("spiffe://td//*", SpiffeIdError::EmptySegment),
        ] {
            assert_eq!(parse(text), Err(PeerError::Id { text: own(text), error }));
        }
    }
}
