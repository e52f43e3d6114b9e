//! One trust domain whose bundle is fetched.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::RefreshError;
use crate::config::{FederationConfig, FederationProfile};
use crate::fetch::{ALPN, Answer, FetchError, Proof, Wanted, fetch, pause};
use crate::identity::{
    Brought, BundleError, IdentityStore, MAX_BUNDLE_BYTES, Part, Reloaded, SpiffeId, TrustBundle, TrustBundleSet,
    TrustDomain, X509Source as _,
};
use crate::telemetry::{FederationMetrics, Refresh};
use crate::tls::{EndpointTls, PublicTls};

/// For one fetch, whatever the server does.
const LIMIT: Duration = Duration::from_secs(10);

/// A relationship with another trust domain: where its bundle is, how the endpoint proves itself, and what came of it so far.
#[derive(Debug)]
pub struct Relationship {
    trust_domain: TrustDomain,
    config: FederationConfig,
    store: Arc<IdentityStore>,
    metrics: FederationMetrics,
    /// The latest bundle, whoever it came from: the endpoint, or the operator.
    held: Option<TrustBundle>,
    /// What was in the operator's file when it was read last.
    bootstrap: Vec<u8>,
    failures: u32,
    /// The failure that was said last.
    said: Option<String>,
}

impl Relationship {
    /// A relationship with `trust_domain` that brings what it fetches to `store`.
    #[must_use]
    pub fn new(trust_domain: TrustDomain, config: FederationConfig, store: Arc<IdentityStore>) -> Self {
        let metrics = FederationMetrics::new(trust_domain.as_str());
        Self { trust_domain, config, store, metrics, held: None, bootstrap: Vec::new(), failures: 0, said: None }
    }

    /// Fetches the bundle again and again, and never ends.
    ///
    /// # Cancel safety
    /// What has been brought stays in force.
    pub async fn keep(mut self) {
        loop {
            let refreshed = self.refresh().await;
            self.account(&refreshed);
            let hint = self.held.as_ref().and_then(TrustBundle::refresh_hint);
            let chance = fastrand::f64();
            let pause = pause(self.config.refresh_interval, hint, self.held.is_some(), self.failures, chance);
            tokio::time::sleep(pause).await;
        }
    }

    /// Fetches the bundle once and brings it to the store.
    async fn refresh(&mut self) -> Result<Reloaded, RefreshError> {
        if let Some(own) = self.store.current()
            && own.svid.id().trust_domain() == self.trust_domain.as_str()
        {
            return Err(RefreshError::OwnTrustDomain { trust_domain: self.trust_domain.to_string() });
        }
        let proof = match self.config.profile.clone() {
            // Made anew each time, so that changed authorities are seen.
            FederationProfile::HttpsWeb { ca } => Proof::Web(PublicTls::new(ca, ALPN)),
            FederationProfile::HttpsSpiffe { endpoint_spiffe_id, bootstrap_bundle } => {
                if let Some(path) = bootstrap_bundle {
                    self.look_at_bootstrap(&path)?;
                }
                let bundles = self.bundles_for(&endpoint_spiffe_id)?;
                Proof::Spiffe(EndpointTls::new(bundles, endpoint_spiffe_id, self.store.clock().clone(), ALPN))
            }
        };
        let url = &self.config.endpoint_url;
        let wanted = Wanted { url, accept: "application/json", etag: None, max_bytes: MAX_BUNDLE_BYTES, within: LIMIT };
        let host = url.host().unwrap_or_default();
        let json = match fetch(&wanted, &proof).await? {
            Answer::Document(document) => document.body,
            // Nobody has asked for this.
            Answer::NotModified => return Err(FetchError::Status { host: host.to_owned(), status: 304 }.into()),
        };
        let bundle = TrustBundle::from_json(self.trust_domain.clone(), &json)
            .map_err(|source| RefreshError::Bundle { host: host.to_owned(), source })?;
        self.check_sequence(&bundle, host)?;
        self.take(bundle)
    }

    /// The operator's bundle counts until one is fetched, and again when it changes: "the locally updated version of the bundle is
    /// considered the latest until replaced by a subsequent refresh" (SPIFFE Federation 4.2). It is the way out if the endpoint's own
    /// authorities were lost, or its sequence begins anew.
    fn look_at_bootstrap(&mut self, path: &Path) -> Result<(), RefreshError> {
        let unusable = |cause: String| RefreshError::Bootstrap { path: path.display().to_string(), cause };
        let read = match std::fs::read(path) {
            Ok(read) => read,
            // Who has a later one does not need it any more.
            Err(_) if self.held.is_some() => return Ok(()),
            Err(error) => return Err(unusable(format!("cannot be read: {error}"))),
        };
        if read == self.bootstrap {
            return Ok(());
        }
        if read.len() > MAX_BUNDLE_BYTES {
            return Err(unusable(format!("has more than {MAX_BUNDLE_BYTES} bytes")));
        }
        let bundle = TrustBundle::from_file_content(self.trust_domain.clone(), &read)
            .map_err(|error: BundleError| unusable(error.to_string()))?;
        self.take(bundle)?;
        self.bootstrap = read;
        Ok(())
    }

    /// The latest bundle of the endpoint's trust domain, with what else is to be judged of it.
    fn bundles_for(&self, endpoint: &SpiffeId) -> Result<TrustBundleSet, RefreshError> {
        let of = endpoint.trust_domain();
        // Nobody may be revoked or denied less because we have no SVID yet.
        let trusted =
            self.store.trusted().ok_or_else(|| RefreshError::NoEndpointBundle { trust_domain: of.to_owned() })?;
        let in_force = trusted.bundle(of);
        let held = self.held.as_ref().filter(|held| held.trust_domain().as_str() == of);
        let none = || RefreshError::NoEndpointBundle { trust_domain: of.to_owned() };
        let bundle = in_force.or(held).ok_or_else(none)?.clone();
        let bundles = TrustBundleSet::new([bundle]).map_err(|error| RefreshError::Store(error.into()))?;
        Ok(bundles.with_denied(trusted.denied().clone()))
    }

    /// # Source
    /// SPIFFE Federation 4.2: the sequence number tells which of two bundles is newer; without one, the one that was fetched last is.
    fn check_sequence(&self, bundle: &TrustBundle, host: &str) -> Result<(), RefreshError> {
        let in_force = self.held.as_ref().and_then(TrustBundle::sequence);
        match (bundle.sequence(), in_force) {
            (Some(found), Some(in_force)) if found < in_force => {
                Err(RefreshError::Sequence { host: host.to_owned(), found, in_force })
            }
            _ => Ok(()),
        }
    }

    /// One without authorities is believed too: its trust domain wants to be trusted in nothing (Trust Domain and Bundle 4.1.3).
    fn take(&mut self, bundle: TrustBundle) -> Result<Reloaded, RefreshError> {
        let brought = Brought { bundles: vec![bundle.clone()], ..Brought::default() };
        let reloaded = self.store.bring(Part::Federation(self.trust_domain.clone()), brought)?;
        if self.held.as_ref() != Some(&bundle) {
            self.say(&bundle);
        }
        self.held = Some(bundle);
        Ok(reloaded)
    }

    fn say(&self, bundle: &TrustBundle) {
        tracing::info!(
            trust_domain = %self.trust_domain, authorities = bundle.anchors().len(),
            token_authorities = bundle.jwt_authorities().len(), sequence = bundle.sequence(),
            "bundle of a federated trust domain changed"
        );
        for skipped in bundle.skipped() {
            tracing::warn!(
                trust_domain = %self.trust_domain, index = skipped.index, rule = skipped.error.rule(),
                "certificate in a trust bundle is not trusted: {}", skipped.error
            );
        }
        for (index, reason) in bundle.ignored() {
            tracing::warn!(
                trust_domain = %self.trust_domain, index, rule = reason.rule(),
                "key in a trust bundle is not used: {reason}"
            );
        }
    }

    fn account(&mut self, refreshed: &Result<Reloaded, RefreshError>) {
        match refreshed {
            Ok(reloaded) => {
                self.metrics.refreshed(match reloaded {
                    Reloaded::Unchanged => Refresh::Unchanged,
                    Reloaded::Swapped(_) | Reloaded::Waiting => Refresh::Swapped,
                });
                if self.failures > 0 {
                    tracing::info!(trust_domain = %self.trust_domain, "bundle is fetched again");
                }
                (self.failures, self.said) = (0, None);
            }
            Err(error) => {
                self.failures = self.failures.saturating_add(1);
                self.metrics.refreshed(Refresh::Failed);
                let message = error.to_string();
                self.store.failed(&Part::Federation(self.trust_domain.clone()), error.rule(), message.clone());
                if self.said.as_ref() != Some(&message) {
                    let what = match self.held.is_some() {
                        true => "bundle not fetched; the last good one stays in force",
                        false => "there is no bundle of a federated trust domain yet; its workloads are refused",
                    };
                    tracing::error!(trust_domain = %self.trust_domain, rule = error.rule(), error = message, "{what}");
                    self.said = Some(message);
                }
            }
        }
    }
}
