//! From bytes to a [`Token`]: which issuer, which key, is it theirs, is it for us, is it time.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jsonwebtoken::Algorithm;
use lru::LruCache;
use serde_json::Value;

use super::compact::Compact;
use super::{JwksFile, Token, TokenError};
use crate::identity::{JwtAuthority, SpiffeId, TrustDomain, X509Generation};

/// The longest token that is looked at. Tokens with dozens of groups in them have about 4 KiB, and servers take heads of 8 KiB.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// How many verified tokens are remembered: with the longest ones 2 MiB for each data-path thread of a listener.
const MOST_REMEMBERED: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// Whose tokens are accepted.
#[derive(Debug, Clone)]
pub enum TokenIssuer {
    /// A SPIFFE trust domain: JWT-SVIDs of its workloads, verified with the keys of its bundle.
    TrustDomain(TrustDomain),
    /// An OIDC issuer: tokens whose `iss` is `url`, verified with the keys of a file.
    Oidc {
        /// As `iss` has it, to the letter. It is never fetched.
        url: Box<str>,
        /// Its keys.
        keys: Arc<JwksFile>,
    },
}

/// What makes a token acceptable on a listener.
#[derive(Debug, Clone)]
pub struct TokenRules {
    /// A token must be meant for one of these.
    pub audiences: Vec<Box<str>>,
    /// A token must come from one of these.
    pub issuers: Vec<TokenIssuer>,
    /// How far the clocks of issuers may be from ours.
    pub leeway: Duration,
}

/// Verifies tokens, and remembers those that were good: a signature is not verified for each request of a session.
#[derive(Debug)]
pub struct TokenVerifier {
    rules: TokenRules,
    known: Mutex<Known>,
}

/// Tokens that were good by keys of one state.
struct Known {
    /// Another one whenever any key changes.
    keys: (u64, u64),
    tokens: LruCache<Box<[u8]>, Arc<Token>, ahash::RandomState>,
}

impl std::fmt::Debug for Known {
    // Its keys are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Known").field("keys", &self.keys).field("tokens", &self.tokens.len()).finish()
    }
}

impl TokenVerifier {
    /// Verifies by these rules.
    #[must_use]
    pub fn new(rules: TokenRules) -> Self {
        let tokens = LruCache::with_hasher(MOST_REMEMBERED, ahash::RandomState::new());
        Self { rules, known: Mutex::new(Known { keys: (0, 0), tokens }) }
    }

    /// Verifies a token. `identity` is the generation in force, whose bundles hold the keys of trust domains.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn verify(
        &self,
        token: &[u8],
        identity: Option<&X509Generation>,
        now: SystemTime,
    ) -> Result<Arc<Token>, TokenError> {
        // Looked at before the keys are: a token that is verified with newer ones is at worst forgotten too early.
        let keys = self.state_of_keys(identity);
        if let Some(known) = self.known(keys).tokens.get(token).map(Arc::clone) {
            known.check_time(now)?;
            return Ok(known);
        }
        let verified = Arc::new(self.verify_anew(token, identity, now)?);
        self.known(keys).tokens.put(token.into(), Arc::clone(&verified));
        Ok(verified)
    }

    /// Forgets every token: for measurements.
    #[cfg(test)]
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).tokens.clear();
    }

    /// Numbers of generations only grow, so their sum is another after every change.
    fn state_of_keys(&self, identity: Option<&X509Generation>) -> (u64, u64) {
        let files = self.rules.issuers.iter().map(|issuer| match issuer {
            TokenIssuer::TrustDomain(_) => 0,
            TokenIssuer::Oidc { keys, .. } => keys.number(),
        });
        (identity.map_or(0, |identity| identity.number), files.sum())
    }

    /// What is remembered of the present keys.
    fn known(&self, keys: (u64, u64)) -> MutexGuard<'_, Known> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.keys != keys {
            known.keys = keys;
            known.tokens.clear();
        }
        known
    }

    fn verify_anew(
        &self,
        token: &[u8],
        identity: Option<&X509Generation>,
        now: SystemTime,
    ) -> Result<Token, TokenError> {
        let compact = Compact::parse(token)?;
        let token = match self.issuer(&compact)? {
            TokenIssuer::Oidc { url, keys } => {
                check_type(compact.header.typ.as_deref(), is_oidc_type)?;
                let keys = keys.current().ok_or(TokenError::NoKeys)?;
                signed(&compact, &keys)?;
                Token::read(url.clone(), compact.claims)?
            }
            TokenIssuer::TrustDomain(trust_domain) => {
                check_type(compact.header.typ.as_deref(), |typ| matches!(typ, "JWT" | "JOSE"))?;
                // The standard's list (JWT-SVID, 2.1) does not have it.
                if compact.header.algorithm == Algorithm::EdDSA {
                    return Err(TokenError::Algorithm);
                }
                let bundles = &identity.ok_or(TokenError::NoKeys)?.bundles;
                let bundle = bundles.bundle(trust_domain.as_str()).ok_or(TokenError::NoKeys)?;
                signed(&compact, bundle.jwt_authorities())?;
                let token = Token::read(format!("spiffe://{trust_domain}").into(), compact.claims)?;
                let subject = SpiffeId::parse(token.subject()).map_err(|_| TokenError::Subject)?;
                if bundles.denied().ids.iter().any(|pattern| pattern.matches(&subject)) {
                    return Err(TokenError::Denied);
                }
                token
            }
        };
        if !token.audiences().iter().any(|audience| self.rules.audiences.contains(audience)) {
            return Err(TokenError::Audience);
        }
        let token = token.with_leeway(self.rules.leeway);
        token.check_time(now)?;
        Ok(token)
    }

    /// Whose token it claims to be: that one's keys alone will tell. A subject of a trust domain needs no `iss` (JWT-SVID, 3).
    fn issuer(&self, compact: &Compact<'_>) -> Result<&TokenIssuer, TokenError> {
        let iss = match compact.claims.get("iss") {
            None => None,
            Some(Value::String(iss)) => Some(iss.as_str()),
            Some(_) => return Err(TokenError::Claim { name: "iss" }),
        };
        let oidc = self
            .rules
            .issuers
            .iter()
            .find(|issuer| matches!(issuer, TokenIssuer::Oidc { url, .. } if Some(&**url) == iss));
        if let Some(oidc) = oidc {
            return Ok(oidc);
        }
        let trust_domains: Vec<_> =
            self.rules.issuers.iter().filter(|issuer| matches!(issuer, TokenIssuer::TrustDomain(_))).collect();
        if trust_domains.is_empty() {
            return Err(TokenError::Issuer);
        }
        let subject = compact.claims.get("sub").and_then(Value::as_str).ok_or(TokenError::Claim { name: "sub" })?;
        if !subject.starts_with("spiffe://") {
            return Err(TokenError::Issuer);
        }
        let subject = SpiffeId::parse(subject).ok().filter(SpiffeId::is_workload).ok_or(TokenError::Subject)?;
        let is_its = |issuer: &&TokenIssuer| matches!(issuer, TokenIssuer::TrustDomain(trust_domain) if trust_domain.as_str() == subject.trust_domain());
        trust_domains.into_iter().find(is_its).ok_or(TokenError::Subject)
    }
}

/// ID tokens, and access tokens (RFC 9068, 2.1); nothing that means something else, such as `logout+jwt`.
fn is_oidc_type(typ: &str) -> bool {
    // RFC 7515, 4.1.9: `application/` may be left out, and media types have no case.
    let bare = match typ.get(.."application/".len()) {
        Some(start) if start.eq_ignore_ascii_case("application/") => typ.get(start.len()..).unwrap_or_default(),
        _ => typ,
    };
    bare.eq_ignore_ascii_case("JWT") || bare.eq_ignore_ascii_case("at+jwt")
}

fn check_type(typ: Option<&str>, accepted: impl FnOnce(&str) -> bool) -> Result<(), TokenError> {
    if typ.is_none_or(accepted) { Ok(()) } else { Err(TokenError::Type) }
}

/// Whether it is signed by that one of `keys` which it names. It has to name one, though neither standard insists: trying them all would
/// let a stranger choose.
fn signed(compact: &Compact<'_>, keys: &[JwtAuthority]) -> Result<(), TokenError> {
    let kid = compact.header.kid.as_deref().ok_or(TokenError::NoKeyId)?;
    let key = keys.iter().find(|key| key.kid() == kid).ok_or_else(|| TokenError::UnknownKey { kid: shown(kid) })?;
    let algorithm = compact.header.algorithm;
    if !key.algorithms().contains(&algorithm) {
        return Err(TokenError::Key);
    }
    match jsonwebtoken::crypto::verify(compact.signature, compact.signed, &key.decoding_key(), algorithm) {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(TokenError::Signature),
    }
}

/// A key id as messages show it. Real ones are short: a long one could be anything.
fn shown(kid: &str) -> String {
    match kid.len() <= 64 {
        true => format!("`{}`", kid.escape_debug()),
        false => "of a long name".to_owned(),
    }
}
