//! Our own identity as a start would get it: from files at once, from the Workload API within a limit.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::app::{identity_store, workload_api};
use crate::config::Config;
use crate::identity::{IdentityStore, X509Generation, X509Source as _};

/// How often it is looked whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What came of it.
#[derive(Debug)]
pub(super) struct Ours {
    /// Who we are, if it stands up.
    pub(super) own: Option<Arc<X509Generation>>,
    /// What is wrong: the cause's stable name, and the cause.
    pub(super) fault: Option<(&'static str, String)>,
}

/// Gets our identity, waiting for the Workload API for at most `limit`.
pub(super) fn ours(config: &Config, limit: Duration) -> Ours {
    let (store, files) = identity_store(config);
    if let Err(error) = files.reload() {
        return Ours { own: None, fault: Some((error.rule(), error.to_string())) };
    }
    if let Some(source) = workload_api(config, &store) {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Ours { own: None, fault: Some(("unavailable", error.to_string())) },
        };
        runtime.block_on(async {
            tokio::select! {
                () = source.run() => {}
                _ = timeout(limit, settled(&store)) => {}
            }
        });
    }
    let own = store.current();
    let fault = match own {
        Some(_) => None,
        None => Some(standing(&store).unwrap_or(("unavailable", "nothing came in time".to_owned()))),
    };
    Ours { own, fault }
}

/// Until there is an identity, or a reason why there is none.
async fn settled(store: &IdentityStore) {
    while store.current().is_none() && standing(store).is_none() {
        sleep(LOOK_EVERY).await;
    }
}

fn standing(store: &IdentityStore) -> Option<(&'static str, String)> {
    let health = store.health();
    health.iter().find_map(|part| part.standing().map(|fault| (fault.rule, fault.message.clone())))
}
