//! The policies of a running sidecar: from a directory, or from an address.

use std::sync::Arc;
use std::time::Duration;

use super::{Shared, StartError, identity};
use crate::config::{Config, PolicyOrigin, PolicyUrl, ProtocolConfig, RoleConfig, UnknownNames};
use crate::distribution::{Distribution, DistributionError, DistributionHealth};
use crate::policy::{self, BundleKeys, PolicyErrors, PolicyGeneration, PolicySource, PolicyStore};
use crate::telemetry::Reload;

/// Why the last change was not put in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PolicyFault {
    /// A line for each problem.
    pub(super) lines: String,
    /// Each with its source and a caret.
    pub(super) report: Option<String>,
}

impl From<&PolicyErrors> for PolicyFault {
    fn from(errors: &PolicyErrors) -> Self {
        Self { lines: errors.to_string(), report: Some(errors.render(false)) }
    }
}

/// Loads the directory; or the bundle on disk, without which nothing is permitted until one was fetched.
pub(super) fn start(config: &Config) -> Result<(Arc<PolicyStore>, Option<Arc<DistributionHealth>>), StartError> {
    let source = policy_source(config);
    let PolicyOrigin::Url(bundles) = &config.policy.origin else {
        return Ok((Arc::new(PolicyStore::open(source).map_err(StartError::Policy)?), None));
    };
    // Waiting would not mend them.
    BundleKeys::read(&bundles.public_keys)?;
    let store = Arc::new(PolicyStore::awaiting(source).map_err(StartError::Policy)?);
    let health = Arc::new(DistributionHealth::default());
    Distribution::new(PolicyUrl::clone(bundles), Arc::clone(&store), Arc::clone(&health), || {}).restore();
    Ok((store, Some(health)))
}

/// What polls `policy.url`, if that is where policies come from.
pub(super) fn distribution(config: &Config, shared: &Arc<Shared>) -> Option<impl Future<Output = ()> + use<>> {
    let (PolicyOrigin::Url(bundles), Some(health)) = (&config.policy.origin, &shared.distribution) else { return None };
    let (bundles, health, shared) = (PolicyUrl::clone(bundles), Arc::clone(health), Arc::clone(shared));
    Some(identity::for_ever("policy.url", move || {
        let told = Arc::clone(&shared);
        let mut distribution =
            Distribution::new(bundles.clone(), Arc::clone(&shared.policies), Arc::clone(&health), move || {
                told.swapped()
            });
        async move {
            // The store has it already; what was newest has to be known all the same.
            let distribution = tokio::task::spawn_blocking(move || {
                distribution.restore();
                distribution
            });
            if let Ok(distribution) = distribution.await {
                distribution.keep().await;
            }
        }
    }))
}

/// Says what is odd about policies that are in force.
pub(super) fn say_warnings(policies: &PolicyGeneration) {
    for warning in policies.warnings() {
        tracing::warn!(warning = warning.line(), help = warning.advice(), "policies are in force with a warning");
    }
}

/// Looks at the directories again.
pub(super) fn reload(shared: &Shared) {
    match shared.policies.reload() {
        Ok(policy::Reloaded::Unchanged) => shared.faults().policies = None,
        Ok(policy::Reloaded::Swapped(_)) => shared.swapped(),
        Err(errors) => {
            shared.policy_metrics.reload(Reload::Failed);
            let fault = PolicyFault::from(&errors);
            let said = &mut shared.faults().policies;
            if said.as_ref() != Some(&fault) {
                let (error, report) = (&fault.lines, &fault.report);
                tracing::error!(%error, report, "policies not reloaded; the last good ones stay in force");
                *said = Some(fault);
            }
        }
    }
}

impl Shared {
    /// Says that other policies are in force.
    fn swapped(&self) {
        self.faults().policies = None;
        self.policy_metrics.reload(Reload::Swapped);
        self.describe();
        let policies = self.policies.current();
        let (generation, digest) = (policies.number(), policies.digest());
        tracing::info!(generation, digest, policies = policies.len(), "policies reloaded");
        say_warnings(&policies);
    }
}

/// The same as [`policy_source`], with a bundle that is fetched now where policies come from an address.
pub(crate) fn policies_fetched(config: &Config, limit: Duration) -> Result<PolicySource, DistributionError> {
    let source = policy_source(config);
    let PolicyOrigin::Url(bundles) = &config.policy.origin else { return Ok(source) };
    let bundles = PolicyUrl { fetch_timeout: bundles.fetch_timeout.min(limit), ..PolicyUrl::clone(bundles) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let bundle = runtime
        .map_err(|error| DistributionError::Runtime(error.to_string()))?
        .block_on(Distribution::look(&bundles))?;
    Ok(PolicySource { bundle: Some(Arc::new(bundle)), ..source })
}

/// The same as [`policy_source`], with the bundle on disk where policies come from an address: what commands are about that do not fetch.
pub(crate) fn policies_at_hand(config: &Config) -> Result<PolicySource, DistributionError> {
    let source = policy_source(config);
    let PolicyOrigin::Url(bundles) = &config.policy.origin else { return Ok(source) };
    let bundle = Distribution::on_disk(bundles)?;
    Ok(PolicySource { bundle: Some(Arc::new(bundle)), ..source })
}

/// Where the policies of a configuration come from, and which endpoints they may speak of. Bundles are not looked for.
pub(crate) fn policy_source(config: &Config) -> PolicySource {
    let mut endpoints: Vec<(String, &'static str)> = Vec::new();
    for listener in &config.listeners {
        let endpoint = (listener.name.to_string(), listener.protocol.as_str());
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    let roles = config.listeners.iter().filter_map(|listener| match &listener.protocol {
        ProtocolConfig::Postgres(postgres) => Some(&postgres.role),
        ProtocolConfig::Http(_) | ProtocolConfig::S3(_) | ProtocolConfig::Tcp(_) => None,
    });
    let mut stages: Vec<String> = roles.flat_map(RoleConfig::stages).map(str::to_owned).collect();
    stages.sort_unstable();
    stages.dedup();
    PolicySource {
        directory: match &config.policy.origin {
            PolicyOrigin::Directory(directory) => directory.clone(),
            PolicyOrigin::Url(bundles) => bundles.cache_directory.clone(),
        },
        bundle: None,
        endpoints,
        stages,
        known_endpoints: config.policy.known_endpoints.clone(),
        refuse_unknown_names: config.policy.unknown_names == UnknownNames::Refuse,
        shadow: config.policy.shadow.clone(),
        require_proof: config.policy.require_proof,
    }
}
