//! Wires everything: configuration, then every socket bound, then running.
//!
//! The main thread runs what is not the data path: signals, reloads, health and admin. Each data-path thread has its own
//! runtime, its own end of every listening socket and its own upstream connections, so requests never cross threads.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::admin::{AdminError, AdminServer};
use crate::audit::{Audit, AuditError};
use crate::config::{Config, Direction, ListenerConfig, LogFormat, ProtocolConfig};
use crate::distribution::DistributionHealth;
use crate::drain::{self, DrainTrigger, DrainWatch};
use crate::enforce::{Denials, EnforcementPoint, Flips};
use crate::federation::Relationship;
use crate::identity::{
    Clock, FileSource, IdentityStore, JwksFileError, SourceError, TrustBundle, WorkloadApiSource, X509Source,
};
use crate::listener::{BindError, Bound, Listener, Served, Slots, accept};
use crate::mux;
use crate::policy::{BundleKeyError, PolicyErrors, PolicyStore};
use crate::protocol::http::{HttpListener, Speaks, Tokens};
use crate::protocol::postgres::{CancelKeys, PostgresListener};
use crate::protocol::tcp::RelayListener;
use crate::telemetry::logs;
use crate::telemetry::metrics::{self, MetricsHandle};
use crate::telemetry::{
    BundleExpiry, CrlExpiry, ListenerMetrics, PolicyMetrics, SvidMetrics, bundles_in_force, crls_in_force,
};
use crate::tls::ServerTls;
use crate::upstream::{StreamUpstream, Upstream, UpstreamOptions};

mod identity;
mod policies;
mod reload;
mod status;
pub(crate) mod tokens;
mod watch;

pub(crate) use identity::{identity_store, workload_api};
pub(crate) use policies::{policies_at_hand, policies_fetched, policy_source};
use tokens::TokenKeys;

/// How often idle upstream connections are looked through.
const RETIRE_EVERY: Duration = Duration::from_secs(10);
/// What may block beside the data path at a time: a look at the files, explanations, a bundle of policies, and a name for each endpoint that is
/// asked. Each has a stack of [`crate::policy::STACK`], of which little is ever touched; the system counts it as address space all the same.
const MOST_BLOCKING: usize = 64;
/// How long the process waits at its end for what still blocks.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Why the sidecar does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// Our SVID or the trust bundles cannot be used.
    #[error("identity: {0}")]
    Identity(#[from] SourceError),
    /// The keys of a token issuer cannot be used.
    #[error("token: {0}")]
    TokenKeys(#[from] JwksFileError),
    /// The policies cannot be used.
    #[error("policy: {0}")]
    Policy(PolicyErrors),
    /// The keys of those who sign policies cannot be used.
    #[error("policy: {0}")]
    BundleKeys(#[from] BundleKeyError),
    /// Records cannot be written.
    #[error("audit: {0}")]
    Audit(#[from] AuditError),
    /// A listener cannot be bound.
    #[error("listener `{listener}`: {source}")]
    Bind {
        /// Its name.
        listener: Arc<str>,
        /// Why.
        source: BindError,
    },
    /// Health or admin cannot be bound.
    #[error("admin: {0}")]
    Admin(#[from] AdminError),
    /// The log cannot be set up.
    #[error("log: {0}")]
    Log(#[from] logs::LogError),
    /// Metrics cannot be set up.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics::MetricsError),
    /// The system refuses a thread, a runtime or a signal handler.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// A sidecar whose sockets are bound and whose addresses are known, but which does not run yet.
#[derive(Debug)]
pub struct App {
    config: Arc<Config>,
    runtime: Runtime,
    shared: Arc<Shared>,
    bound: Vec<Arc<Prepared>>,
    admin: AdminServer,
    metrics: MetricsHandle,
    drain: (DrainTrigger, DrainWatch),
}

/// What all threads share.
#[derive(Debug)]
struct Shared {
    identity: Arc<IdentityStore>,
    files: FileSource,
    workload_api: Option<Arc<WorkloadApiSource>>,
    /// The number of the generation that the log has been told of.
    announced: Mutex<Option<u64>>,
    policies: Arc<PolicyStore>,
    /// How the bundles of `policy.url` fare.
    distribution: Option<Arc<DistributionHealth>>,
    token_keys: Arc<TokenKeys>,
    audit: Arc<Audit>,
    flips: Arc<Flips>,
    denials: Arc<Denials>,
    policy_metrics: PolicyMetrics,
    svid_metrics: SvidMetrics,
    faults: Mutex<Faults>,
}

/// Why the last reload of each left the last good one in force, as it was said in the log.
#[derive(Debug, Default)]
struct Faults {
    identity: Option<String>,
    /// Identity files were no good at one look. Somebody may be in the middle of writing them.
    is_identity_suspect: bool,
    policies: Option<policies::PolicyFault>,
    token_keys: BTreeMap<PathBuf, String>,
    /// What is wrong with the trust in force.
    trust: Vec<String>,
}

/// A listener that is bound.
#[derive(Debug)]
struct Prepared {
    config: ListenerConfig,
    socket: Bound,
    point: Arc<EnforcementPoint>,
    slots: Arc<Slots>,
    cancels: Arc<CancelKeys>,
    token_keys: Arc<TokenKeys>,
}

impl App {
    /// Loads identity and policies, opens the audit log, binds every socket.
    ///
    /// # Errors
    /// Whatever is missing or wrong; nothing has been served then.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let format = match config.log.format {
            LogFormat::Json => logs::Format::Json,
            LogFormat::Text => logs::Format::Text,
        };
        logs::init(format, &config.log.filter)?;
        let metrics = metrics::install()?;
        let runtime = control_runtime()?;
        let (identity, files) = identity_store(&config);
        let missing = identity::start(&files)?;
        let (policies, distribution) = policies::start(&config)?;
        let token_keys = Arc::new(TokenKeys::open(&config)?);
        let audit = Arc::new(Audit::open(&config.audit)?);
        let told = <(Arc<Flips>, Arc<Denials>)>::default();
        let bound = config
            .listeners
            .iter()
            .map(|listener| Prepared::bind(listener, &config, (&policies, &token_keys), &audit, &told).map(Arc::new))
            .collect::<Result<Vec<_>, _>>()?;
        let admin = AdminServer::bind(config.health.as_ref(), &config.admin)?;
        let shared = Arc::new(Shared {
            announced: Mutex::new(identity.current().map(|own| own.number)),
            workload_api: identity::workload_api(&config, &identity),
            identity,
            files,
            policies,
            distribution,
            token_keys,
            audit,
            flips: told.0,
            denials: told.1,
            policy_metrics: PolicyMetrics::new(),
            svid_metrics: SvidMetrics::new(),
            faults: Mutex::new(Faults { identity: missing, ..Faults::default() }),
        });
        shared.describe();
        Ok(Self { config: Arc::new(config), runtime, shared, bound, admin, metrics, drain: drain::channel() })
    }

    /// Serves until a signal or `POST /shutdown`, then drains.
    ///
    /// # Errors
    /// The system refuses a thread or a signal handler.
    pub fn run(self) -> Result<(), StartError> {
        let Self { config, runtime, shared, bound, admin, metrics, drain: (trigger, watch) } = self;
        let policies = shared.policies.current();
        if policies.number() > 0 {
            tracing::info!(policies = policies.len(), digest = policies.digest(), "policies loaded");
        }
        policies::say_warnings(&policies);
        if let Some(own) = shared.identity.current() {
            tracing::info!(spiffe_id = %own.svid.id(), serial = own.svid.serial(), "identity loaded");
            shared.say_trust_faults(&own);
        }
        for prepared in &bound {
            tracing::info!(listener = %prepared.config.name, direction = prepared.config.direction.as_str(), protocol = prepared.config.protocol.as_str(), address = prepared.socket.address(), "listening");
        }
        for option in &config.unsafe_options {
            tracing::warn!(%option, "an option takes a protection away");
        }
        let mut threads = Vec::new();
        for number in 0..config.workers.get() {
            let (config, shared, bound, watch) =
                (Arc::clone(&config), Arc::clone(&shared), bound.clone(), watch.clone());
            let (stop, stopped) = oneshot::channel();
            let thread = thread::Builder::new()
                .name(format!("data-{number}"))
                .stack_size(crate::mapping::sql::STACK)
                .spawn(move || data_path(&config, &shared, &bound, &watch, stopped))?;
            threads.push((stop, thread));
        }
        let ended = runtime.block_on(control(&config, &shared, &bound, admin, metrics, &trigger));
        for (stop, thread) in threads {
            let _ = stop.send(());
            if thread.join().is_err() {
                tracing::error!("a data-path thread ended by a panic");
            }
        }
        // What is being written, a bundle on its way to the disk, is let come to its end; a file that is read may never come to one.
        runtime.shutdown_timeout(LAST_WRITES);
        ended
    }
}

/// The runtime of everything beside the data path.
fn control_runtime() -> io::Result<Runtime> {
    runtime::Builder::new_current_thread()
        .enable_all()
        // Of those that load policies and explain decisions.
        .thread_stack_size(crate::policy::STACK)
        .max_blocking_threads(MOST_BLOCKING)
        .build()
}

/// Everything beside the data path, until the process is to end; then the drain.
async fn control(
    config: &Arc<Config>,
    shared: &Arc<Shared>,
    bound: &[Arc<Prepared>],
    admin: AdminServer,
    metrics: MetricsHandle,
    trigger: &DrainTrigger,
) -> Result<(), StartError> {
    let hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = Arc::new(Notify::new());
    let state = status::State {
        config: Arc::clone(config),
        shared: Arc::clone(shared),
        bound: bound.to_vec(),
        drain: trigger.watch(),
        shutdown: Arc::clone(&shutdown),
    };
    let doors = tokio::spawn(admin.serve(Arc::new(state), metrics.clone()));
    let reloading = tokio::spawn(reload::keep_reloading(Arc::clone(config), Arc::clone(shared), hangup));
    let mut federating = JoinSet::new();
    for (trust_domain, relationship) in &config.identity.federation {
        let (trust_domain, relationship) = (trust_domain.clone(), relationship.clone());
        let store = Arc::clone(&shared.identity);
        federating.spawn(identity::for_ever("federation", move || {
            Relationship::new(trust_domain.clone(), relationship.clone(), Arc::clone(&store)).keep()
        }));
    }
    let distributing = policies::distribution(config, shared).map(tokio::spawn);
    let announcing = tokio::spawn(identity::keep_announcing(Arc::clone(shared)));
    let following = shared.workload_api.clone().map(|source| {
        tokio::spawn(identity::for_ever("workload_api", move || {
            let source = Arc::clone(&source);
            async move { source.run().await }
        }))
    });
    let upkeep = tokio::spawn(metrics.keep_up());
    let cause = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = shutdown.notified() => "POST /shutdown",
    };
    tracing::info!(cause, timeout_ms = config.shutdown_timeout.as_millis(), "draining");
    let drained = tokio::select! {
        drained = trigger.drain(config.shutdown_timeout) => drained,
        // Asked twice, people mean it.
        _ = terminate.recv() => drain::Drained { left: trigger.open() },
        _ = interrupt.recv() => drain::Drained { left: trigger.open() },
    };
    tracing::info!(left = drained.left, "drained");
    reloading.abort();
    announcing.abort();
    federating.abort_all();
    distributing.iter().for_each(tokio::task::JoinHandle::abort);
    following.iter().for_each(tokio::task::JoinHandle::abort);
    upkeep.abort();
    doors.abort();
    Ok(())
}

/// One data-path thread.
fn data_path(
    config: &Config,
    shared: &Arc<Shared>,
    bound: &[Arc<Prepared>],
    watch: &DrainWatch,
    stopped: oneshot::Receiver<()>,
) {
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "a data-path thread has no runtime"),
    };
    runtime.block_on(async {
        let mut https = Vec::new();
        for prepared in bound {
            let acceptor = match prepared.socket.acceptor() {
                Ok(acceptor) => acceptor,
                Err(error) => {
                    tracing::error!(listener = %prepared.config.name, %error, "a data-path thread cannot accept");
                    continue;
                }
            };
            let source: Arc<dyn X509Source> = Arc::<IdentityStore>::clone(&shared.identity);
            let listener = Arc::new(prepared.on_this_thread(config, source));
            if let Served::Http(http) = &listener.served {
                https.push(Arc::clone(http));
            }
            tokio::spawn(accept(listener, acceptor, watch.clone()));
        }
        let retiring = async {
            let mut every = tokio::time::interval(RETIRE_EVERY);
            loop {
                every.tick().await;
                https.iter().for_each(|http| http.retire_idle());
            }
        };
        tokio::select! {
            _ = stopped => {}
            () = retiring => {}
        }
    });
    // Connections that outlived the drain are cut here; their records are written as they are dropped. What is asked of a file or of a
    // program meanwhile may take its time, and is for nobody.
    runtime.shutdown_background();
}

impl Prepared {
    fn bind(
        listener: &ListenerConfig,
        config: &Config,
        (policies, token_keys): (&Arc<PolicyStore>, &Arc<TokenKeys>),
        audit: &Arc<Audit>,
        told: &(Arc<Flips>, Arc<Denials>),
    ) -> Result<Self, StartError> {
        let socket = Bound::bind(&listener.listen)
            .map_err(|source| StartError::Bind { listener: Arc::clone(&listener.name), source })?;
        let point = Arc::new(EnforcementPoint {
            listener: Arc::clone(&listener.name),
            direction: listener.direction,
            protocol: listener.protocol.as_str(),
            upstream: listener.upstream.to_string().into(),
            policies: Arc::clone(policies),
            audit: Arc::clone(audit),
            on_audit_failure: config.audit.on_failure,
            metrics: ListenerMetrics::new(&listener.name, listener.direction.as_str()),
            flips: Arc::clone(&told.0),
            denials: Arc::clone(&told.1),
        });
        let slots = Slots::new(listener.limits.connections, listener.limits.connections_per_workload);
        let token_keys = Arc::clone(token_keys);
        Ok(Self { config: listener.clone(), socket, point, slots, cancels: Arc::default(), token_keys })
    }

    fn on_this_thread(&self, config: &Config, source: Arc<dyn X509Source>) -> Listener {
        let listener = &self.config;
        let options = UpstreamOptions { listener, source: &source, metrics: &self.point.metrics };
        let point = || Arc::clone(&self.point);
        let tokens = || {
            let config = listener.protocol.token()?;
            Some(Tokens::new(config, self.token_keys.rules(config), Arc::clone(&source), Clock::system()))
        };
        let http = |speaks| {
            let upstream = Arc::new(Upstream::new(&options, &self.point));
            Served::Http(Arc::new(HttpListener::new(listener, speaks, tokens(), point(), upstream)))
        };
        let (served, alpn): (_, &[&[u8]]) = match &listener.protocol {
            ProtocolConfig::Http(config) => (http(Speaks::Http(config.clone())), &[b"h2", b"http/1.1"]),
            ProtocolConfig::S3(config) => (http(Speaks::S3(config.clone())), &[b"h2", b"http/1.1"]),
            ProtocolConfig::Tcp(config) => {
                let upstream = Arc::new(StreamUpstream::new(&options, &[]));
                (Served::Tcp(Arc::new(RelayListener::new(listener, config, point(), upstream))), &[])
            }
            ProtocolConfig::Postgres(config) => {
                let upstream = Arc::new(StreamUpstream::new(&options, &[b"postgresql"]));
                let postgres = PostgresListener::new(listener, config, point(), upstream, Arc::clone(&self.cancels));
                (Served::Postgres(Arc::new(postgres)), &[mux::ALPN, b"postgresql"])
            }
        };
        let inbound = listener.direction == Direction::Inbound;
        Listener {
            tls: inbound.then(|| ServerTls::new(Arc::clone(&source), listener.tls_min_version, alpn)),
            source,
            served,
            point: point(),
            limits: listener.limits.clone(),
            slots: Arc::clone(&self.slots),
            shutdown_timeout: config.shutdown_timeout,
        }
    }
}

impl Shared {
    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says in the metrics what is in force.
    fn describe(&self) {
        let policies = self.policies.current();
        self.policy_metrics.in_force(policies.number(), policies.digest());
        if let Some(own) = self.identity.current() {
            self.svid_metrics.in_force(own.number, own.svid.not_before(), own.svid.not_after());
            let expiry = |bundle: &TrustBundle| {
                let (first, last) = bundle.expiry()?;
                Some(BundleExpiry { trust_domain: bundle.trust_domain().to_string(), first, last })
            };
            bundles_in_force(own.bundles.iter().filter_map(expiry).collect());
            let crls = own.bundles.iter().flat_map(|bundle| {
                bundle.crls().iter().map(|crl| CrlExpiry {
                    trust_domain: bundle.trust_domain().to_string(),
                    issuer: crl.issuer().to_owned(),
                    next_update: crl.next_update(),
                })
            });
            crls_in_force(crls.collect());
        }
    }
}

#[cfg(test)]
mod tests;
