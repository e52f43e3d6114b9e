//! The Workload API: what it offers this process. Keys are not shown.

use std::time::Duration;

use tokio::time::timeout;

use super::{Shown, Trust};
use crate::cli::certs::CertsError;
use crate::identity::workload_api::WorkloadApiAddress;
use crate::identity::{ChainUsage, Offered, TrustBundle, TrustBundleSet, TrustDomain, WorkloadApiError, offered};

/// The address that a target names: `unix:PATH`, relative ones from here on, or `tcp:IP:PORT`.
pub(super) fn address(target: &str) -> Option<WorkloadApiAddress> {
    if let Some(path) = target.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return std::path::absolute(path).ok().map(WorkloadApiAddress::Unix);
    }
    target.strip_prefix("tcp:").and_then(|_| target.parse().ok())
}

/// One entry for each SVID, then one for each bundle.
pub(super) fn show(target: &str, address: &WorkloadApiAddress, limit: Duration) -> Result<Vec<Shown>, CertsError> {
    let failed = |detail: String| CertsError::Server { target: target.to_owned(), detail };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime
        .block_on(async { timeout(limit, offered(address)).await })
        .map_err(|_elapsed| failed(format!("no answer within {} ms", limit.as_millis())))?;
    let offered = answer.map_err(|error: WorkloadApiError| failed(format!("`{}`: {error}", error.reason())))?;
    entries(target, &offered)
}

fn entries(target: &str, offered: &Offered) -> Result<Vec<Shown>, CertsError> {
    let mut entries = Vec::new();
    for (index, svid) in offered.svids.iter().enumerate() {
        let mut shown = Shown::new(target, "svid");
        shown.fact("SPIFFE ID", &svid.spiffe_id);
        if !svid.hint.is_empty() {
            shown.fact("hint", &svid.hint);
        }
        if index == 0 {
            shown.fact("default", "yes");
        }
        let name = svid.spiffe_id.strip_prefix("spiffe://").and_then(|rest| rest.split('/').next());
        let bundle = name.and_then(|name| TrustDomain::parse(name).ok());
        let bundle = bundle.map(|name| TrustBundle::from_certificates(name, &svid.bundle));
        let trust = bundle.and_then(|bundle| TrustBundleSet::new([bundle]).ok()).map_or(Trust::Nothing, Trust::Bundles);
        shown.judge(&svid.chain, &trust, &[ChainUsage::Server, ChainUsage::Client])?;
        entries.push(shown);
    }
    let own = offered.svids.iter().map(|svid| (svid.spiffe_id.as_str(), &svid.bundle));
    let federated = offered.federated_bundles.iter().map(|(name, bundle)| (name.as_str(), bundle));
    let mut told: Vec<&str> = Vec::new();
    for (name, certificates) in own.chain(federated) {
        let name = name.strip_prefix("spiffe://").unwrap_or(name).split('/').next().unwrap_or(name);
        if told.contains(&name) {
            continue;
        }
        told.push(name);
        let mut shown = Shown::new(target, "bundle");
        shown.fact("trust domain", name);
        shown.fact("X.509 authorities", certificates.len().to_string());
        shown.judge(certificates, &Trust::Nothing, &[])?;
        entries.push(shown);
    }
    if let (Some(first), true) = (entries.first_mut(), offered.crls > 0) {
        first.fact("revocation lists", offered.crls.to_string());
    }
    Ok(entries)
}
