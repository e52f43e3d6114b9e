//! What a token says, once it is believed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::TokenError;

/// A verified token: whose it is, who says so, and what else is said. It does not hold the token itself, which is a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    issuer: Box<str>,
    subject: Box<str>,
    audiences: Vec<Box<str>>,
    authentication_methods: Option<Vec<Box<str>>>,
    scopes: Option<Vec<Box<str>>>,
    expires: u64,
    /// For how long after that it is believed: clocks differ.
    leeway: u64,
    /// The later of `nbf` and `iat`: before it, the token is not believed.
    begins: Option<u64>,
    claims: Vec<(Box<str>, Vec<Box<str>>)>,
}

/// 9999-12-31T23:59:59Z: Cedar has no later time, nor has RFC 3339.
const LATEST: u64 = 253_402_300_799;

impl Token {
    /// Reads the claims of a token whose signature has been verified as that of `issuer`.
    ///
    /// `iss` is not read: who has signed is known, and a JWT-SVID need not say it.
    ///
    /// # Errors
    /// The first claim that is missing or not of its type.
    pub(super) fn read(issuer: Box<str>, mut claims: Map<String, Value>) -> Result<Self, TokenError> {
        let missing = |name| TokenError::Claim { name };
        let subject = match claims.remove("sub") {
            Some(Value::String(subject)) if !subject.is_empty() => subject.into(),
            _ => return Err(missing("sub")),
        };
        let audiences = claims.remove("aud").and_then(|aud| one_or_many(&aud)).filter(|aud| !aud.is_empty());
        let expires = claims.get("exp").and_then(|exp| seconds(exp, f64::floor)).ok_or(missing("exp"))?;
        let mut begins = None;
        for name in ["nbf", "iat"] {
            if let Some(value) = claims.get(name) {
                begins = begins.max(Some(seconds(value, f64::ceil).ok_or(missing(name))?));
            }
        }
        let authentication_methods = match claims.remove("amr") {
            None => None,
            Some(amr) => Some(one_or_many(&amr).ok_or(missing("amr"))?),
        };
        let scopes = match claims.remove("scope") {
            None => None,
            // RFC 8693, 4.2: one string, with spaces between the scopes.
            Some(Value::String(scope)) => {
                Some(scope.split(' ').filter(|one| !one.is_empty()).map(Into::into).collect())
            }
            Some(scope) => Some(one_or_many(&scope).ok_or(missing("scope"))?),
        };
        // What a JWT-SVID has for `iss` is nobody's word: who vouches for it is known otherwise.
        let claims = claims.into_iter().filter(|(name, _)| name != "exp" && name != "iss");
        Ok(Self {
            issuer,
            subject,
            audiences: audiences.ok_or(missing("aud"))?,
            authentication_methods,
            scopes,
            expires,
            leeway: 0,
            begins,
            claims: claims.filter_map(|(name, value)| Some((name.into(), tag(&value)?))).collect(),
        })
    }

    /// Who vouches for it: the URL of an OIDC issuer, or `spiffe://TRUST-DOMAIN`.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whose it is: `sub`.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Whom it is meant for: `aud`, at least one.
    #[must_use]
    pub fn audiences(&self) -> &[Box<str>] {
        &self.audiences
    }

    /// How its subject was authenticated: `amr` (RFC 8176).
    #[must_use]
    pub fn authentication_methods(&self) -> Option<&[Box<str>]> {
        self.authentication_methods.as_deref()
    }

    /// What it may be used for: `scope`.
    #[must_use]
    pub fn scopes(&self) -> Option<&[Box<str>]> {
        self.scopes.as_deref()
    }

    /// When it ends: `exp`.
    #[must_use]
    pub fn expires(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.expires)
    }

    /// The same, believed for `leeway` before its time and after it.
    pub(super) fn with_leeway(self, leeway: Duration) -> Self {
        Self { leeway: leeway.as_secs(), ..self }
    }

    /// For how long from `now` on it is believed still; none: it is over.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Option<Duration> {
        let over = UNIX_EPOCH + Duration::from_secs(self.expires.saturating_add(self.leeway));
        over.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    /// The other claims by name: strings, truth values and whole numbers as one text, lists of strings as several. Objects, lists of
    /// anything else, fractions and nulls are not among them.
    pub fn claims(&self) -> impl Iterator<Item = (&str, &[Box<str>])> {
        self.claims.iter().map(|(name, values)| (&**name, values.as_slice()))
    }

    /// Whether its time has come and is not over, give or take the leeway.
    ///
    /// # Errors
    /// [`TokenError::Expired`], [`TokenError::NotYetValid`].
    pub fn check_time(&self, now: SystemTime) -> Result<(), TokenError> {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // RFC 7519, 4.1.4: not on or after.
        if now >= self.expires.saturating_add(self.leeway) {
            return Err(TokenError::Expired { seconds: now.saturating_sub(self.expires) });
        }
        match self.begins {
            Some(begins) if begins > now.saturating_add(self.leeway) => {
                Err(TokenError::NotYetValid { seconds: begins.saturating_sub(now) })
            }
            _ => Ok(()),
        }
    }
}

/// A string, or a list of nothing but strings.
fn one_or_many(value: &Value) -> Option<Vec<Box<str>>> {
    match value {
        Value::String(one) => Some(vec![one.as_str().into()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(Into::into)).collect(),
        _ => None,
    }
}

/// A NumericDate (RFC 7519, 2), which may have a fraction.
fn seconds(value: &Value, round: fn(f64) -> f64) -> Option<u64> {
    let whole = match value.as_u64() {
        Some(whole) => whole,
        None => {
            let seconds = round(value.as_f64()?);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "within the range that is checked"
            )]
            if (0.0..=LATEST as f64).contains(&seconds) { seconds as u64 } else { return None }
        }
    };
    Some(whole).filter(|whole| *whole <= LATEST)
}

/// A claim as a tag's values.
fn tag(value: &Value) -> Option<Vec<Box<str>>> {
    match value {
        Value::Bool(value) => Some(vec![if *value { "true" } else { "false" }.into()]),
        // A fraction, or a number of more than 64 bits, has no text that everybody agrees on.
        Value::Number(number) if !number.is_f64() => Some(vec![number.to_string().into()]),
        _ => one_or_many(value),
    }
}
