//! Our own identity as a start would get it: from files at once, from the Workload API and bundle endpoints within a limit.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::app::{identity_store, workload_api};
use crate::config::Config;
use crate::federation::Relationship;
use crate::identity::{IdentityStore, Part, PartHealth, X509Generation, X509Source as _};

/// How often it is looked whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug)]
pub(super) struct OwnIdentity {
    /// Who we are, if it stands up.
    pub(super) own: Option<Arc<X509Generation>>,
    /// What is wrong: the cause's stable name, and the cause.
    pub(super) fault: Option<(&'static str, String)>,
    /// How each of its sources fares.
    pub(super) health: Vec<PartHealth>,
}

/// Gets our identity, waiting for the Workload API and bundle endpoints for at most `limit`.
pub(super) fn ours(config: &Config, limit: Duration) -> OwnIdentity {
    let (store, files) = identity_store(config);
    if let Err(error) = files.reload() {
        return OwnIdentity::nobody((error.rule(), error.to_string()));
    }
    let source = workload_api(config, &store);
    if source.is_some() || !config.identity.federation.is_empty() {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return OwnIdentity::nobody(("unavailable", error.to_string())),
        };
        runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for (trust_domain, relationship) in &config.identity.federation {
                tasks.spawn(Relationship::new(trust_domain.clone(), relationship.clone(), Arc::clone(&store)).keep());
            }
            if let Some(source) = source {
                tasks.spawn(async move { source.run().await });
            }
            let _ = timeout(limit, settled(&store, config.identity.federation.len())).await;
        });
    }
    let own = store.current();
    let fault = match own {
        Some(_) => None,
        None => Some(standing(&store).unwrap_or(("unavailable", "nothing came in time".to_owned()))),
    };
    OwnIdentity { own, fault, health: store.health() }
}

impl OwnIdentity {
    fn nobody(fault: (&'static str, String)) -> Self {
        Self { own: None, fault: Some(fault), health: Vec::new() }
    }
}

/// Until there is an identity, or a reason why there is none, and each bundle endpoint was asked.
async fn settled(store: &IdentityStore, endpoints: usize) {
    let asked = || {
        let health = store.health();
        let of_endpoints = health.iter().filter(|part| matches!(part.part, Part::Federation(_)));
        of_endpoints.filter(|part| part.last_success.is_some() || part.standing().is_some()).count()
    };
    while (store.current().is_none() && standing(store).is_none()) || asked() < endpoints {
        sleep(LOOK_EVERY).await;
    }
}

/// Why there is no identity: what is wrong with files or the Workload API.
fn standing(store: &IdentityStore) -> Option<(&'static str, String)> {
    let health = store.health();
    let mut own = health.iter().filter(|part| !matches!(part.part, Part::Federation(_)));
    own.find_map(|part| part.standing().map(|fault| (fault.rule, fault.message.clone())))
}
