//! The keys of OIDC issuers: each file is read once, whatever number of listeners name it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Shared, reload};
use crate::config::{Config, TokenConfig, TokenIssuerConfig};
use crate::identity::{JwksFile, JwksFileError, Reloaded, TokenIssuer, TokenRules, TrustBundleSet, TrustDomain};

/// All key files that the configuration names.
#[derive(Debug, Default)]
pub(super) struct TokenKeys(BTreeMap<PathBuf, Arc<JwksFile>>);

impl TokenKeys {
    /// Reads them. A file that nobody has written yet is waited for: meanwhile no token of its issuer verifies.
    ///
    /// # Errors
    /// One of them cannot be used.
    pub(super) fn open(config: &Config) -> Result<Self, JwksFileError> {
        let mut files = BTreeMap::new();
        for (_, path) in key_files(config) {
            if files.contains_key(path) {
                continue;
            }
            let file = JwksFile::at(path);
            match file.reload() {
                Ok(_) => {}
                Err(missing) if missing.is_missing_file() => {
                    tracing::warn!(%missing, "there are no keys for tokens yet; waiting");
                }
                Err(error) => return Err(error),
            }
            files.insert(path.to_owned(), Arc::new(file));
        }
        Ok(Self(files))
    }

    /// The rules of a listener.
    pub(super) fn rules(&self, config: &TokenConfig) -> TokenRules {
        let issuers = config.issuers.iter().map(|issuer| match issuer {
            TokenIssuerConfig::TrustDomain(trust_domain) => TokenIssuer::TrustDomain(trust_domain.clone()),
            TokenIssuerConfig::Oidc { issuer, jwks } => {
                let known = self.0.get(jwks).map(Arc::clone);
                TokenIssuer::Oidc {
                    url: issuer.as_str().into(),
                    keys: known.unwrap_or_else(|| Arc::new(JwksFile::at(jwks))),
                }
            }
        });
        TokenRules {
            audiences: config.audiences.iter().map(|audience| audience.as_str().into()).collect(),
            issuers: issuers.collect(),
            leeway: config.leeway,
        }
    }
}

/// Looks at the files again.
pub(super) fn reload(shared: &Shared) {
    for file in shared.token_keys.0.values() {
        let at = file.path().display();
        match file.reload() {
            Ok(reloaded) => {
                shared.faults().token_keys.remove(file.path());
                if let Reloaded::Swapped(number) = reloaded {
                    tracing::info!(number, file = %at, "keys for tokens reloaded");
                }
            }
            Err(error) => {
                let mut said = shared.faults().token_keys.remove(file.path());
                let what = "keys for tokens not reloaded; the last good ones stay in force";
                reload::say_once(&mut said, error.to_string(), what);
                shared.faults().token_keys.extend(said.map(|said| (file.path().to_owned(), said)));
            }
        }
    }
}

/// The issuers whose keys are in files, and these files, each pair once.
pub(crate) fn key_files(config: &Config) -> BTreeSet<(&str, &Path)> {
    let tokens = config.listeners.iter().filter_map(|listener| listener.protocol.token());
    let files = tokens.flat_map(|token| &token.issuers).filter_map(|issuer| match issuer {
        TokenIssuerConfig::Oidc { issuer, jwks } => Some((issuer.as_str(), jwks.as_path())),
        TokenIssuerConfig::TrustDomain(_) => None,
    });
    files.collect()
}

/// The trust domains whose JWT-SVIDs are taken and in whose bundles there is no key for any: PEM has none.
pub(crate) fn keyless<'c>(config: &'c Config, bundles: &TrustBundleSet) -> BTreeSet<&'c TrustDomain> {
    let tokens = config.listeners.iter().filter_map(|listener| listener.protocol.token());
    let named = tokens.flat_map(|token| &token.issuers).filter_map(|issuer| match issuer {
        TokenIssuerConfig::TrustDomain(trust_domain) => Some(trust_domain),
        TokenIssuerConfig::Oidc { .. } => None,
    });
    let is_keyless =
        |of: &&TrustDomain| bundles.bundle(of.as_str()).is_some_and(|bundle| bundle.jwt_authorities().is_empty());
    named.filter(is_keyless).collect()
}

/// What that means, and what to do.
pub(crate) const KEYLESS: (&str, &str) = (
    "no token of it can be verified: its bundle has no keys for tokens",
    "bring it as a SPIFFE bundle in JSON, or by the Workload API: PEM has no such keys",
);
