//! `identity` of the file becomes an [`IdentityConfig`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::problem::IdentityProblem;
use super::{CrlConfig, IdentityConfig, IdentitySourceConfig, endpoint, federation};
use crate::config::errors::Advice as _;
use crate::config::file::{CrlKeys, IdentityKeys, IdentitySource, KeyPath, OnExpiredKey, nearest};
use crate::config::reading::Reading;
use crate::identity::workload_api::WorkloadApiAddress;
use crate::identity::{Denied, DeniedSerial, OnExpiredCrl, SpiffeId, SpiffeIdPattern, SvidChoice, TrustDomain};

/// Reads `identity`; `environment` is what `SPIFFE_ENDPOINT_SOCKET` says.
pub(in crate::config) fn identity(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    mut keys: IdentityKeys,
    environment: Option<&str>,
) -> Option<IdentityConfig> {
    let source = keys.source.unwrap_or(IdentitySource::Files);
    let has_bundles = keys.trust_bundles.is_some();
    let bundles = by_trust_domain(reading, &at.key("trust_bundles"), keys.trust_bundles.take());
    let federated = keys.federation.take().unwrap_or_default();
    reading.trust_domains = match (source, &bundles) {
        // The agent may bring any.
        (IdentitySource::WorkloadApi, _) | (_, None) => None,
        (IdentitySource::Files, Some(_)) if !has_bundles => None,
        (IdentitySource::Files, Some(bundles)) => {
            Some(bundles.keys().map(ToString::to_string).chain(federated.keys().cloned()).collect())
        }
    };
    let federation = federation::federation(reading, &at.key("federation"), federated, bundles.as_ref());
    let crl = crl(reading, &at.key("crl"), keys.crl.take());
    let denied = denied(reading, at, &keys);
    let deny_file = keys.deny_file.take().map(|file| reading.path(&file));
    let source = match source {
        // Which keys belong to what was meant is not known.
        _ if reading.report.is_wrong(&at.key("source")) => None,
        IdentitySource::Files => files(reading, at, keys),
        IdentitySource::WorkloadApi => workload_api(reading, at, &keys, environment),
    };
    Some(IdentityConfig {
        source: source?,
        trust_bundles: bundles?,
        federation: federation?,
        crl: crl?,
        denied: denied?,
        deny_file,
    })
}

fn files(reading: &mut Reading<'_>, at: &KeyPath, keys: IdentityKeys) -> Option<IdentitySourceConfig> {
    let others = [
        ("address", keys.address.is_some()),
        ("hint", keys.hint.is_some()),
        ("unsafe_address_off_loopback", keys.unsafe_address_off_loopback == Some(true)),
    ];
    refuse_keys_of(reading, at, "workload_api", &others);
    let spiffe_id = keys.spiffe_id.map(|text| workload_id(reading, &at.key("spiffe_id"), &text));
    Some(IdentitySourceConfig::Files {
        certificate: reading.path(&keys.certificate?),
        private_key: reading.path(&keys.private_key?),
        spiffe_id: spiffe_id.map_or(Some(None), |id| id.map(Some))?,
    })
}

fn workload_api(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: &IdentityKeys,
    environment: Option<&str>,
) -> Option<IdentitySourceConfig> {
    let others = [("certificate", keys.certificate.is_some()), ("private_key", keys.private_key.is_some())];
    refuse_keys_of(reading, at, "files", &others);
    let is_off_loopback_allowed = keys.unsafe_address_off_loopback.unwrap_or(false);
    let address = match &keys.address {
        Some(text) => reading.report.check(&at.key("address"), endpoint::parse(text, is_off_loopback_allowed)),
        None => from_environment(reading, at, environment, is_off_loopback_allowed),
    };
    let choice = match (&keys.hint, &keys.spiffe_id) {
        (Some(_), Some(_)) => reading.refuse(&at.key("hint"), IdentityProblem::TwoChoices),
        (Some(hint), None) => Some(SvidChoice::Hint(hint.clone())),
        (None, Some(text)) => workload_id(reading, &at.key("spiffe_id"), text).map(SvidChoice::SpiffeId),
        (None, None) => Some(SvidChoice::First),
    };
    Some(IdentitySourceConfig::WorkloadApi { address: address?, choice: choice? })
}

fn from_environment(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    environment: Option<&str>,
    is_off_loopback_allowed: bool,
) -> Option<WorkloadApiAddress> {
    let Some(text) = environment else { return reading.refuse(&at.key("source"), IdentityProblem::NoAddress) };
    let address = endpoint::parse(text, is_off_loopback_allowed)
        .map_err(|error| IdentityProblem::Environment { reason: error.to_string(), advice: error.advice() });
    reading.report.check(&at.key("source"), address)
}

fn refuse_keys_of(reading: &mut Reading<'_>, at: &KeyPath, of: &'static str, keys: &[(&'static str, bool)]) {
    for (key, _) in keys.iter().filter(|(_, is_set)| *is_set) {
        let problem = IdentityProblem::KeyOfSource { key, of };
        reading.report.key(&at.key(key), problem.to_string(), problem.advice());
    }
}

/// The ID of a workload, without a pattern.
pub(super) fn workload_id(reading: &mut Reading<'_>, at: &KeyPath, text: &str) -> Option<SpiffeId> {
    let refused = |reason: String| IdentityProblem::Id { text: text.into(), reason };
    let id = SpiffeId::parse(text).map_err(|error| refused(error.to_string())).and_then(|id| match id.is_workload() {
        true => Ok(id),
        false => Err(refused("it names a trust domain".into())),
    });
    reading.report.check(at, id)
}

pub(super) fn trust_domain(reading: &mut Reading<'_>, at: &KeyPath, name: &str) -> Option<TrustDomain> {
    match TrustDomain::parse(name) {
        Ok(trust_domain) => Some(trust_domain),
        Err(error) => {
            let problem = IdentityProblem::TrustDomain { name: name.into(), error };
            reading.report.key(at, problem.to_string(), problem.advice());
            None
        }
    }
}

/// A file or directory for each trust domain.
fn by_trust_domain(
    reading: &mut Reading<'_>,
    at: &KeyPath,
    keys: Option<BTreeMap<String, String>>,
) -> Option<BTreeMap<TrustDomain, PathBuf>> {
    let mut paths = Some(BTreeMap::new());
    for (name, path) in keys.unwrap_or_default() {
        let path = reading.path(&path);
        match (trust_domain(reading, &at.key(&name), &name), &mut paths) {
            (Some(trust_domain), Some(paths)) => _ = paths.insert(trust_domain, path),
            (None, _) => paths = None,
            (Some(_), None) => {}
        }
    }
    paths
}

fn crl(reading: &mut Reading<'_>, at: &KeyPath, keys: Option<CrlKeys>) -> Option<CrlConfig> {
    let Some(keys) = keys else { return Some(CrlConfig::default()) };
    let files = by_trust_domain(reading, &at.key("files"), Some(keys.files?))?;
    for trust_domain in files.keys() {
        if let Some(problem) = without_effect(reading, trust_domain.as_str()) {
            reading.report.key(&at.key("files").key(trust_domain.as_str()), problem.to_string(), problem.advice());
        }
    }
    let on_expired = match keys.on_expired {
        None | Some(OnExpiredKey::Deny) => OnExpiredCrl::Deny,
        Some(OnExpiredKey::Allow) => OnExpiredCrl::Allow,
    };
    Some(CrlConfig { files, on_expired })
}

fn denied(reading: &mut Reading<'_>, at: &KeyPath, keys: &IdentityKeys) -> Option<Denied> {
    let path = at.key("deny_serials");
    let texts = keys.deny_serials.iter().flatten().enumerate();
    let serials: Vec<Option<DeniedSerial>> = texts
        .map(|(index, text)| {
            let serial =
                DeniedSerial::parse(text).map_err(|error| IdentityProblem::Serial { text: text.into(), error });
            let serial = reading.report.check(&path.index(index), serial)?;
            has_effect(reading, &path.index(index), serial.trust_domain.as_str())?;
            Some(serial)
        })
        .collect();
    let path = at.key("deny_spiffe_ids");
    let texts = keys.deny_spiffe_ids.iter().flatten().enumerate();
    let ids: Vec<Option<SpiffeIdPattern>> = texts
        .map(|(index, text)| {
            let pattern =
                SpiffeIdPattern::parse(text).map_err(|error| IdentityProblem::Pattern { text: text.into(), error });
            let pattern = reading.report.check(&path.index(index), pattern)?;
            has_effect(reading, &path.index(index), pattern.id().trust_domain())?;
            Some(pattern)
        })
        .collect();
    Some(Denied { serials: serials.into_iter().collect::<Option<_>>()?, ids: ids.into_iter().collect::<Option<_>>()? })
}

/// Whom nobody trusts need not be denied, and one file may serve many sidecars. But a trust domain that is misspelt would be found out
/// when it is too late.
fn without_effect(reading: &Reading<'_>, trust_domain: &str) -> Option<IdentityProblem> {
    let known = reading.trust_domains.as_deref().unwrap_or_default();
    if known.iter().any(|known| known == trust_domain) {
        return None;
    }
    let near = nearest(trust_domain, known.iter().map(String::as_str))?.to_owned();
    Some(IdentityProblem::NoEffect { trust_domain: trust_domain.into(), near })
}

fn has_effect(reading: &mut Reading<'_>, at: &KeyPath, trust_domain: &str) -> Option<()> {
    match without_effect(reading, trust_domain) {
        Some(problem) => reading.refuse(at, problem),
        None => Some(()),
    }
}
