//! `identity.federation`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::problem::IdentityProblem;
use super::read::{trust_domain, workload_id};
use super::{FederationConfig, FederationProfile};
use crate::config::UpstreamCa;
use crate::config::errors::Advice as _;
use crate::config::file::{FederationKeys, FederationProfileKey, KeyPath};
use crate::config::reading::{Reading, https_url};
use crate::identity::TrustDomain;

/// Reads all entries. `bundles` are the trust domains that have one without being fetched.
pub(super) fn federation(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: BTreeMap<String, FederationKeys>,
    bundles: Option<&BTreeMap<TrustDomain, PathBuf>>,
) -> Option<BTreeMap<TrustDomain, FederationConfig>> {
    let mut read = Some(BTreeMap::new());
    for (name, keys) in keys {
        let at = at.key(&name);
        let of = trust_domain(reading, &at, &name);
        let is_twice = of.as_ref().is_some_and(|of| bundles.is_some_and(|bundles| bundles.contains_key(of)));
        if is_twice {
            let problem = IdentityProblem::BundleTwice { trust_domain: name.clone() };
            reading.report.key(&at, problem.to_string(), problem.advice());
        }
        let entry = entry(reading, &at, &name, &keys);
        match (of, entry, &mut read) {
            (Some(of), Some(entry), Some(read)) => _ = read.insert(of, entry),
            _ => read = None,
        }
    }
    read
}

fn entry(reading: &mut Reading<'_>, at: &KeyPath, name: &str, keys: &FederationKeys) -> Option<FederationConfig> {
    let endpoint_url = keys.endpoint_url.as_deref().and_then(|text| {
        let url = https_url(text).map_err(|reason| IdentityProblem::Url { text: text.into(), reason });
        reading.report.check(&at.key("endpoint_url"), url)
    });
    let profile = match keys.profile? {
        FederationProfileKey::HttpsWeb => https_web(reading, at, keys),
        FederationProfileKey::HttpsSpiffe => https_spiffe(reading, at, name, keys),
    };
    let refresh_interval = keys.refresh_interval.map(|key| key.0);
    Some(FederationConfig { endpoint_url: endpoint_url?, profile: profile?, refresh_interval })
}

fn https_web(reading: &mut Reading<'_>, at: &KeyPath, keys: &FederationKeys) -> Option<FederationProfile> {
    refuse_keys_of(
        reading,
        at,
        FederationProfileKey::HttpsSpiffe,
        &[
            ("endpoint_spiffe_id", keys.endpoint_spiffe_id.is_some()),
            ("bootstrap_bundle", keys.bootstrap_bundle.is_some()),
        ],
    );
    let ca = match keys.ca.as_deref() {
        None | Some("system") => UpstreamCa::System,
        Some(file) => UpstreamCa::File(reading.path(file)),
    };
    Some(FederationProfile::HttpsWeb { ca })
}

fn https_spiffe(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    name: &str,
    keys: &FederationKeys,
) -> Option<FederationProfile> {
    refuse_keys_of(reading, at, FederationProfileKey::HttpsWeb, &[("ca", keys.ca.is_some())]);
    let Some(text) = &keys.endpoint_spiffe_id else {
        let problem = IdentityProblem::NoEndpointId;
        reading.report.key(at, problem.to_string(), problem.advice());
        return None;
    };
    let path = at.key("endpoint_spiffe_id");
    let endpoint_spiffe_id = workload_id(reading, &path, text)?;
    let of_endpoint = endpoint_spiffe_id.trust_domain();
    let bootstrap_bundle = keys.bootstrap_bundle.as_deref().map(|file| reading.path(file));
    let trust_domain = of_endpoint.to_owned();
    match (of_endpoint == name, &bootstrap_bundle, &reading.trust_domains) {
        (true, None, _) => reading.refuse(&path, IdentityProblem::NoBootstrap { trust_domain }),
        (false, Some(_), _) => {
            reading.refuse(&at.key("bootstrap_bundle"), IdentityProblem::IdleBootstrap { trust_domain })
        }
        (false, None, Some(known)) if !known.contains(&trust_domain) => {
            reading.refuse(&path, IdentityProblem::NoEndpointBundle { trust_domain })
        }
        _ => Some(FederationProfile::HttpsSpiffe { endpoint_spiffe_id, bootstrap_bundle }),
    }
}

fn refuse_keys_of(reading: &mut Reading<'_>, at: &KeyPath, of: FederationProfileKey, keys: &[(&'static str, bool)]) {
    for (key, _) in keys.iter().filter(|(_, is_set)| *is_set) {
        let problem = IdentityProblem::KeyOfProfile { key, of: of.as_str() };
        reading.report.key(&at.key(key), problem.to_string(), problem.advice());
    }
}
