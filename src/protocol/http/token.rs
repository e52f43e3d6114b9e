//! The token that a request may bring beside its peer's certificate: taken out of the head before anybody reads it, verified, and put
//! back only where the upstream is to have it.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::config::{ForwardToken, TokenConfig};
use crate::identity::{Clock, Token, TokenError, TokenRules, TokenVerifier, X509Source};
use crate::mapping::{Refusal, head};
use crate::telemetry::ListenerMetrics;

/// Takes the tokens of a listener, on one data-path thread.
#[derive(Debug)]
pub struct Tokens {
    header: HeaderName,
    forward: ForwardToken,
    verifier: TokenVerifier,
    source: Arc<dyn X509Source>,
    clock: Clock,
}

/// A header value that may be a token, out of its head. Nothing prints it.
pub(super) struct Brought(HeaderValue);

impl Tokens {
    /// By `config`, whose issuers' keys are those of `rules`; the trust domains' keys come from `source`.
    #[must_use]
    pub fn new(config: &TokenConfig, rules: TokenRules, source: Arc<dyn X509Source>, clock: Clock) -> Self {
        let verifier = TokenVerifier::new(rules);
        Self { header: config.header.clone(), forward: config.forward, verifier, source, clock }
    }

    /// Where tokens come in.
    pub(super) const fn header(&self) -> &HeaderName {
        &self.header
    }

    /// Takes the token out of a head, so that neither policies nor records see it as a header.
    ///
    /// # Errors
    /// There are several, or a header that some upstreams take for the token's.
    pub(super) fn take(&self, headers: &mut HeaderMap) -> Result<Option<Brought>, Refusal> {
        head::judge_spelling(headers, self.header.as_str())?;
        let mut values = headers.get_all(&self.header).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(_), Some(_)) => Err(refusal(&TokenError::Repeated)),
            // Other schemes of `authorization` are the upstream's business (RFC 9110, 11.4).
            (Some(only), None) if self.header == header::AUTHORIZATION && bearer(only.as_bytes()).is_none() => Ok(None),
            (Some(_), None) => Ok(headers.remove(&self.header).map(Brought)),
        }
    }

    /// Verifies what was taken.
    ///
    /// # Errors
    /// It is not to be believed: 401.
    pub(super) fn verify(&self, brought: &Brought, metrics: &ListenerMetrics) -> Result<Arc<Token>, Refusal> {
        let value = brought.0.as_bytes().trim_ascii();
        let token = bearer(value).unwrap_or(value);
        let identity = self.source.current();
        match self.verifier.verify(token, identity.as_deref(), self.clock.now()) {
            Ok(token) => {
                metrics.token_verified();
                Ok(token)
            }
            Err(error) => {
                metrics.token_refused(error.rule());
                Err(refusal(&error))
            }
        }
    }

    /// Judges the time of a token that was verified a while ago.
    ///
    /// # Errors
    /// It is over: 401.
    pub(super) fn still_holds(&self, token: &Token, metrics: &ListenerMetrics) -> Result<(), Refusal> {
        token.check_time(self.clock.now()).map_err(|error| {
            metrics.token_refused(error.rule());
            refusal(&error)
        })
    }

    /// Puts a token back where the upstream is to have it.
    pub(super) fn put_back(&self, brought: Brought, headers: &mut HeaderMap) {
        if self.forward == ForwardToken::Keep {
            headers.insert(self.header.clone(), brought.0);
        }
    }
}

/// What follows `Bearer`, whose case does not matter (RFC 9110, 11.1); none with another scheme.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer") && rest.first().is_none_or(|next| *next == b' ');
    is_bearer.then(|| rest.trim_ascii())
}

/// 401, whatever the reason (RFC 6750, 3.1).
fn refusal(error: &TokenError) -> Refusal {
    Refusal::with_status(401, error.rule(), error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_is_a_word_of_its_own_in_any_case() {
        for (value, token) in [
            ("Bearer a.b.c", Some("a.b.c")),
            ("bearer  a.b.c ", Some("a.b.c")),
            ("BEARER", Some("")),
            ("Bearer ", Some("")),
            ("Bearer\ta", None),
            ("Bearera", None),
            ("Basic eA==", None),
            ("a.b.c", None),
            ("", None),
        ] {
            assert_eq!(bearer(value.as_bytes()), token.map(str::as_bytes), "{value:?}");
        }
    }
}
