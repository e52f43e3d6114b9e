//! `token` of a listener.

use http::HeaderName;

use super::problem::IdentityProblem;
use super::read::trust_domain;
use super::{TokenConfig, TokenIssuer};
use crate::config::errors::Advice as _;
use crate::config::file::{KeyPath, TokenIssuerKeys, TokenKeys, nearest};
use crate::config::reading::Reading;

/// Reads it; none if something is wrong, which is then reported.
pub(in crate::config) fn token(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: Option<&TokenKeys>,
) -> Option<Option<TokenConfig>> {
    let Some(keys) = keys else { return Some(None) };
    let text = keys.header.as_deref().unwrap_or("authorization");
    let header = HeaderName::try_from(text).map_err(|_| IdentityProblem::Header { text: text.into() });
    let header = reading.report.check(&at.key("header"), header);
    let mut issuers: Option<Vec<TokenIssuer>> = Some(Vec::new());
    for (index, keys) in keys.issuers.iter().flatten().enumerate() {
        let at = at.key("issuers").index(index);
        let issuer = issuer(reading, &at, keys);
        let known = issuers.as_deref().unwrap_or_default();
        let twice = issuer.as_ref().filter(|one| known.iter().any(|other| other.name() == one.name()));
        if let Some(twice) = twice.map(|one| one.name().to_owned()) {
            report_entry(reading, &at, IdentityProblem::IssuerTwice { issuer: twice });
        }
        issuers = match (issuers, issuer) {
            (Some(mut issuers), Some(issuer)) => {
                issuers.push(issuer);
                Some(issuers)
            }
            _ => None,
        };
    }
    let (audiences, _) = (keys.audiences.clone()?, keys.issuers.as_ref()?);
    Some(Some(TokenConfig { header: header?, audiences, issuers: issuers? }))
}

fn issuer(reading: &mut Reading<'_>, at: &KeyPath, keys: &TokenIssuerKeys) -> Option<TokenIssuer> {
    match (&keys.trust_domain, &keys.issuer, &keys.jwks) {
        (Some(name), None, None) => {
            let path = at.key("trust_domain");
            let trust_domain = trust_domain(reading, &path, name)?;
            match &reading.trust_domains {
                Some(known) if !known.contains(name) => {
                    let near = nearest(name, known.iter().map(String::as_str)).map(str::to_owned);
                    reading.refuse(&path, IdentityProblem::NoJwtBundle { trust_domain: name.clone(), near })
                }
                _ => Some(TokenIssuer::TrustDomain(trust_domain)),
            }
        }
        (None, Some(issuer), Some(jwks)) => {
            Some(TokenIssuer::Jwks { issuer: issuer.clone(), jwks: reading.path(jwks) })
        }
        // What is wrong with a key inside may have been said already.
        _ if reading.report.is_wrong(at) => None,
        _ => {
            report_entry(reading, at, IdentityProblem::Issuer);
            None
        }
    }
}

fn report_entry(reading: &mut Reading<'_>, at: &KeyPath, problem: IdentityProblem) {
    reading.report.key(at, problem.to_string(), problem.advice());
}

impl TokenIssuer {
    fn name(&self) -> &str {
        match self {
            Self::TrustDomain(trust_domain) => trust_domain.as_str(),
            Self::Jwks { issuer, .. } => issuer,
        }
    }
}
