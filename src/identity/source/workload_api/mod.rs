//! SVIDs and bundles from the SPIFFE Workload API, as they are pushed.
//!
//! The `spiffe` crate connects and fetches JWT-SVIDs. The streams are read here: its own reading of X.509 updates leaves out the
//! revocation lists, and lets a federated bundle take the place of our own trust domain's.

mod backoff;
mod connection;
mod error;
mod jwt;
mod offered;
mod update;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryFutureExt as _;
use tokio::sync::Notify;

use super::{IdentityStore, Part, PartHealth, Reloaded, X509Source as _};
use crate::identity::workload_api::{JwtBundlesResponse, WorkloadApiAddress, X509SvidResponse};
use crate::identity::{JwtAuthority, OnExpiredCrl, SpiffeId, TrustDomain};
use crate::telemetry::IdentitySourceMetrics;
use backoff::Backoff;
use connection::{Connection, Pushed};
use update::Update;

pub use error::{UpdateError, WorkloadApiError};
pub use jwt::{JwtSource, JwtSvid};
pub use offered::{Offered, OfferedSvid, offered};

/// How often it is looked whether another agent has taken the socket's place, so that it is asked at once.
const LOOK_AT_SOCKET: Duration = Duration::from_millis(250);
/// A stream that held so long was a good one: the next attempt is made at once. Shorter ones are waited after as after a failure,
/// so that an agent which ends every stream is not asked without pause.
const STEADY: Duration = Duration::from_secs(5);

/// Which of several SVIDs is ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SvidChoice {
    /// The first one, which is the default identity (Workload API 8).
    #[default]
    First,
    /// The first one with this hint.
    Hint(String),
    /// The one of this ID.
    SpiffeId(SpiffeId),
}

/// What is asked of a Workload API.
#[derive(Debug, Clone)]
pub struct WorkloadApiPlan {
    /// Where it is.
    pub address: WorkloadApiAddress,
    /// Which SVID is ours.
    pub choice: SvidChoice,
    /// What becomes of revocation lists whose time is over.
    pub on_expired_crl: OnExpiredCrl,
    /// Whether the keys of JWT-SVIDs are wanted too.
    pub jwt_bundles: bool,
}

/// Brings what a Workload API says to a store, for as long as it runs.
#[derive(Debug)]
pub struct WorkloadApiSource {
    plan: WorkloadApiPlan,
    store: Arc<IdentityStore>,
    metrics: IdentitySourceMetrics,
    asked: Notify,
    said: Mutex<Said>,
}

/// What it said last, and what we said of it.
#[derive(Debug, Default)]
struct Said {
    x509: Option<Update>,
    jwt: BTreeMap<TrustDomain, Vec<JwtAuthority>>,
    /// What the log says is wrong, with SVIDs and with the keys of JWT-SVIDs.
    logged: Option<&'static str>,
    logged_jwt: Option<&'static str>,
}

impl WorkloadApiSource {
    /// A source that asks nothing yet.
    #[must_use]
    pub fn new(plan: WorkloadApiPlan, store: Arc<IdentityStore>) -> Self {
        let metrics = IdentitySourceMetrics::new("workload_api");
        Self { plan, store, metrics, asked: Notify::new(), said: Mutex::default() }
    }

    /// Asks at once, if it is waiting: the operator says that it may be worth it.
    pub fn look_again(&self) {
        self.asked.notify_waiters();
    }

    /// Follows the Workload API for ever.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the store as it is.
    pub async fn run(&self) {
        tokio::join!(self.keep_x509(), self.keep_jwt(), self.notice_second_thoughts());
    }

    async fn keep_x509(&self) {
        let mut backoff = Backoff::new();
        loop {
            let socket = self.socket();
            let began = Instant::now();
            let error = self.follow_x509().await;
            if let WorkloadApiError::NoIdentity { .. } = error {
                // Workload API 5.2.1: redacted SVIDs are not used any more.
                self.said().x509 = None;
                if self.store.withdraw(&Part::WorkloadApi) != Reloaded::Unchanged {
                    tracing::error!(%error, "our identity was withdrawn");
                }
            }
            self.failed(&error);
            if began.elapsed() >= STEADY {
                backoff = Backoff::new();
                // Workload API 4.2: a connection that ended is made anew immediately.
                if error.is_end() {
                    continue;
                }
            }
            self.wait(&error, &mut backoff, socket).await;
        }
    }

    /// Brings each update until the stream breaks, and says why it did.
    async fn follow_x509(&self) -> WorkloadApiError {
        let open = Connection::to(&self.plan.address).and_then(Connection::x509_svids);
        let take = |message: X509SvidResponse| match Update::read(&message, &self.plan) {
            Ok(update) => {
                self.said().x509 = Some(update);
                self.bring();
            }
            Err(source) => self.failed(&self.unusable(source)),
        };
        follow(open, take).await
    }

    /// The store tries again what it refused, such as an SVID whose time had not come, and we are not asked.
    async fn notice_second_thoughts(&self) {
        let mut changed = self.store.changed();
        while changed.changed().await.is_ok() {
            let health = self.store.health();
            let is_well = |health: &PartHealth| health.part == Part::WorkloadApi && health.standing().is_none();
            if self.store.current().is_some() && health.iter().any(is_well) {
                self.is_well();
            }
        }
    }

    async fn keep_jwt(&self) {
        if !self.plan.jwt_bundles {
            return;
        }
        let mut backoff = Backoff::new();
        loop {
            let socket = self.socket();
            let began = Instant::now();
            let error = self.follow_jwt().await;
            if let WorkloadApiError::NoIdentity { .. } = error {
                // Workload API 6.2.2: redacted bundles are not used any more.
                self.said().jwt.clear();
                self.bring();
            }
            self.jwt_failed(&error);
            if began.elapsed() >= STEADY {
                backoff = Backoff::new();
            }
            self.wait(&error, &mut backoff, socket).await;
        }
    }

    async fn follow_jwt(&self) -> WorkloadApiError {
        let open = Connection::to(&self.plan.address).and_then(Connection::jwt_bundles);
        let take = |message: JwtBundlesResponse| match update::jwt_authorities(&message) {
            Ok(authorities) => {
                let mut said = self.said();
                said.jwt = authorities;
                said.logged_jwt = None;
                drop(said);
                self.bring();
            }
            Err(source) => self.jwt_failed(&self.unusable(source)),
        };
        follow(open, take).await
    }

    fn unusable(&self, source: UpdateError) -> WorkloadApiError {
        WorkloadApiError::Update { address: self.plan.address.clone(), source }
    }

    /// Brings both halves of what was said last.
    fn bring(&self) {
        let address = || self.plan.address.clone();
        let (brought, not_offered) = {
            let said = self.said();
            let Some(update) = &said.x509 else { return };
            let not_offered = update.not_offered().cloned();
            let not_offered = not_offered.map(|source| WorkloadApiError::NotOffered { address: address(), source });
            let fault = not_offered.as_ref().map(|error| (error.reason(), error.to_string()));
            (update.brought(&said.jwt, fault), not_offered)
        };
        let error = match (self.store.bring(Part::WorkloadApi, brought), not_offered) {
            (Ok(_), None) => return self.is_well(),
            (Ok(_), Some(error)) => error,
            (Err(source), _) => WorkloadApiError::Store { address: address(), source },
        };
        self.log(&error);
        self.metrics.failed(error.reason());
    }

    fn is_well(&self) {
        self.metrics.up(true);
        if self.said().logged.take().is_some() {
            tracing::info!(address = %self.plan.address, "the Workload API gives us an identity again");
        }
    }

    fn failed(&self, error: &WorkloadApiError) {
        self.store.failed(&Part::WorkloadApi, error.reason(), error.to_string());
        self.metrics.failed(error.reason());
        self.log(error);
    }

    fn jwt_failed(&self, error: &WorkloadApiError) {
        self.metrics.failed(error.reason());
        if self.said().logged_jwt.replace(error.reason()) != Some(error.reason()) {
            tracing::warn!(%error, reason = error.reason(), "no new keys of JWT-SVIDs; those that are held stay in use");
        }
    }

    /// Says once what is wrong, and again when it is something else.
    fn log(&self, error: &WorkloadApiError) {
        self.metrics.up(false);
        let mut said = self.said();
        if said.logged.replace(error.reason()) == Some(error.reason()) {
            return;
        }
        drop(said);
        match self.store.current().is_some() {
            true => {
                tracing::error!(%error, reason = error.reason(), "the identity source has a fault; what is held stays in use until it expires")
            }
            false => {
                tracing::error!(%error, reason = error.reason(), "the identity source has a fault; there is no identity")
            }
        }
    }

    /// Until the next attempt is due, or sooner worth it. What is refused for good is asked again only of another agent, or when the
    /// operator says so (Workload Endpoint 6 and appendix A: do not retry).
    async fn wait(&self, error: &WorkloadApiError, backoff: &mut Backoff, before: Option<SocketFile>) {
        let due = async {
            match error.is_final() {
                true => std::future::pending().await,
                false => tokio::time::sleep(backoff.next(fastrand::f64())).await,
            }
        };
        let replaced = async {
            loop {
                tokio::time::sleep(LOOK_AT_SOCKET).await;
                let now = self.socket();
                if now.is_some() && now != before {
                    return;
                }
            }
        };
        tokio::select! {
            () = due => {}
            () = replaced => {}
            () = self.asked.notified() => {}
        }
    }

    fn socket(&self) -> Option<SocketFile> {
        let WorkloadApiAddress::Unix(path) = &self.plan.address else { return None };
        let found = std::fs::metadata(path).ok()?;
        // The number of a file that is gone may be given to the next one; the time tells them apart.
        Some(SocketFile { file: (found.dev(), found.ino()), changed: (found.ctime(), found.ctime_nsec()) })
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes each message until the stream breaks, and says why it did. One that cannot be used is no reason to end it: report an error and
/// discard the message (Workload API 4.5).
async fn follow<M>(
    open: impl Future<Output = Result<Pushed<M>, WorkloadApiError>>,
    take: impl Fn(M),
) -> WorkloadApiError {
    let mut stream = match open.await {
        Ok(stream) => stream,
        Err(error) => return error,
    };
    loop {
        match stream.next().await {
            Ok(message) => take(message),
            Err(error) => return error,
        }
    }
}

/// Which file a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SocketFile {
    file: (u64, u64),
    changed: (i64, i64),
}
