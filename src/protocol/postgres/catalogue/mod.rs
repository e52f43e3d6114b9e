//! What is known of each database's catalogue, and keeping it young.
//!
//! One [`CatalogueOf`] for each database (and reader, and server) on each data-path thread. A statement takes what is there if it is young
//! enough; from half of that age on it is read again behind its back, so that only the first statement after a pause waits.

mod link;
#[cfg(test)]
mod real;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use ahash::AHashMap;
use thiserror::Error;
use tokio::sync::Mutex as Turn;
use tokio::time::timeout;

use super::login::login;
use super::wire::StartupPacket;
use crate::config::PostgresConfig;
use crate::mapping::sql::catalog::{Catalog, CatalogError, RowError, Snapshot};
use crate::upstream::{OwnPurpose, Reached, StreamUpstream};
use link::{Link, Seen};

pub(super) use rows::values_of;

/// A reading takes no longer, connecting and logging in included: statements wait for it.
const LIMIT: Duration = Duration::from_secs(10);
/// A connection that nobody needed for this long is closed: it keeps the database from being dropped.
const IDLE: Duration = Duration::from_secs(60);

/// Why the catalogue is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum CatalogueError {
    /// The server cannot be reached or refuses the login.
    #[error("the catalogue's connection was not opened: {cause}")]
    Connect {
        /// Why.
        cause: String,
    },
    /// The connection broke.
    #[error("the catalogue's connection broke: {cause}")]
    Broken {
        /// Why.
        cause: String,
    },
    /// The server did not answer a query.
    #[error("the server refused to tell its catalogue: {message}")]
    Refused {
        /// Its words.
        message: String,
    },
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It took too long.
    #[error("the catalogue was not read within {} s", LIMIT.as_secs())]
    TooSlow,
}

/// Whose catalogue, and as whom it is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Of {
    /// The database.
    pub(super) database: Box<str>,
    /// The role that reads.
    pub(super) user: Box<str>,
    /// The server that the session is on.
    pub(super) reached: Option<Reached>,
}

type Opening = Pin<Box<dyn Future<Output = Result<Link, CatalogueError>> + Send>>;
type Open = Arc<dyn Fn(Of) -> Opening + Send + Sync>;

/// The catalogues of a listener.
pub(super) struct Catalogues {
    /// The role that reads if it is not the session's.
    user: Option<Box<str>>,
    max_age: Duration,
    open: Open,
    known: Mutex<AHashMap<Of, Arc<CatalogueOf>>>,
}

impl fmt::Debug for Catalogues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalogues").field("user", &self.user).field("max_age", &self.max_age).finish_non_exhaustive()
    }
}

impl Catalogues {
    /// Those of a listener with these options and this upstream.
    pub(super) fn new(config: &PostgresConfig, upstream: Arc<StreamUpstream>) -> Self {
        let user = config.catalog.as_ref().map(|catalog| catalog.user.clone());
        let password = match &config.catalog {
            Some(catalog) => catalog.password.clone(),
            None => config.password.clone(),
        };
        let open = move |of: Of| -> Opening {
            let (upstream, password) = (Arc::clone(&upstream), password.clone());
            Box::pin(async move {
                let io = match of.reached {
                    Some(reached) => upstream.connect_again(reached, OwnPurpose::Catalogue).await,
                    None => upstream.connect_of_our_own(OwnPurpose::Catalogue).await,
                };
                let io = io.map_err(|failure| CatalogueError::Connect { cause: failure.to_string() })?;
                let logged_in = login(io, &upstream, &startup(&of), password.as_ref()).await;
                let logged_in = logged_in.map_err(|error| CatalogueError::Connect { cause: error.to_string() })?;
                Ok(Link::new(Box::new(logged_in.io), logged_in.buffered))
            })
        };
        Self::opened_by(user, config.catalog_max_age, Arc::new(open))
    }

    fn opened_by(user: Option<Box<str>>, max_age: Duration, open: Open) -> Self {
        Self { user, max_age, open, known: Mutex::default() }
    }

    /// The catalogue of a session: of its database, on its server, read as its role unless another one is configured.
    pub(super) fn of(&self, database: &str, role: &str, reached: Option<Reached>) -> Arc<CatalogueOf> {
        let user = self.user.clone().unwrap_or_else(|| role.into());
        let of = Of { database: database.into(), user, reached };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else has them: their sessions have ended.
        known
            .retain(|other, catalogue| *other == of || Arc::strong_count(catalogue) > 1 || catalogue.idle_for() < IDLE);
        let new = || {
            let catalogue = Arc::new(CatalogueOf::new(of.clone(), self.max_age, Arc::clone(&self.open)));
            tokio::spawn(close_when_idle(Arc::downgrade(&catalogue)));
            catalogue
        };
        Arc::clone(known.entry(of.clone()).or_insert_with(new))
    }
}

/// Reads the catalogue of one database as `role`, or as the role that the configuration reads it with: for commands beside the data path.
///
/// # Errors
/// The server cannot be reached, or does not tell.
pub async fn read_catalog(
    config: &PostgresConfig,
    upstream: Arc<StreamUpstream>,
    database: &str,
    role: &str,
) -> Result<Arc<Catalog>, String> {
    let catalogue = Catalogues::new(config, upstream).of(database, role, None);
    catalogue.current().await.map_err(|cause| cause.to_string())
}

/// The same as a text that can be kept in a file.
///
/// # Errors
/// As [`read_catalog`].
pub async fn read_snapshot(
    config: &PostgresConfig,
    upstream: Arc<StreamUpstream>,
    database: &str,
    role: &str,
) -> Result<Snapshot, String> {
    let catalogues = Catalogues::new(config, upstream);
    let user = catalogues.user.clone().unwrap_or_else(|| role.into());
    let reading =
        async { (catalogues.open)(Of { database: database.into(), user, reached: None }).await?.snapshot().await };
    timeout(LIMIT, reading).await.unwrap_or(Err(CatalogueError::TooSlow)).map_err(|cause| cause.to_string())
}

fn startup(of: &Of) -> StartupPacket {
    let mut startup = StartupPacket::new(0);
    startup.set("user", &of.user);
    startup.set("database", &of.database);
    startup.set("application_name", "portcullis catalogue");
    startup.set("client_encoding", "UTF8");
    startup
}

async fn close_when_idle(catalogue: Weak<CatalogueOf>) {
    loop {
        tokio::time::sleep(IDLE / 2).await;
        let Some(catalogue) = catalogue.upgrade() else { return };
        // Whoever is reading is not idle.
        if catalogue.idle_for() >= IDLE
            && let Ok(mut link) = catalogue.link.try_lock()
        {
            *link = None;
        }
    }
}

/// What is known of one database.
pub(super) struct CatalogueOf {
    of: Of,
    max_age: Duration,
    open: Open,
    state: Mutex<State>,
    /// Held while reading, so that it happens once for all who wait. A reading takes the link out and puts it back at its end: when it is
    /// dropped in the middle, the connection is gone with it.
    link: Turn<Option<Link>>,
    refreshing: AtomicBool,
}

impl fmt::Debug for CatalogueOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatalogueOf").field("of", &self.of).finish_non_exhaustive()
    }
}

struct State {
    seen: Option<Arc<Seen>>,
    /// When the last reading that went well began: the catalogue is as it was then, or later.
    began: Instant,
    /// The last one that did not, and when it ended.
    failed: Option<(Instant, CatalogueError)>,
    used: Instant,
}

impl CatalogueOf {
    fn new(of: Of, max_age: Duration, open: Open) -> Self {
        let now = Instant::now();
        let state = Mutex::new(State { seen: None, began: now, failed: None, used: now });
        Self { of, max_age, open, state, link: Turn::new(None), refreshing: AtomicBool::new(false) }
    }

    /// The catalogue, not older than configured.
    ///
    /// # Errors
    /// It has to be read, and that does not succeed.
    ///
    /// # Cancel safety
    /// Others who wait for the same reading begin another one.
    pub(super) async fn current(self: &Arc<Self>) -> Result<Arc<Catalog>, CatalogueError> {
        let now = Instant::now();
        match self.known(now) {
            Some((catalog, age)) if age < self.max_age => {
                if age * 2 >= self.max_age {
                    self.refresh_behind(now);
                }
                Ok(catalog)
            }
            _ => self.read_since(now.checked_sub(self.max_age).unwrap_or(now)).await,
        }
    }

    /// The catalogue as it is now: for a name that the known one does not have.
    ///
    /// # Errors
    /// It cannot be read.
    ///
    /// # Cancel safety
    /// As [`Self::current`].
    pub(super) async fn refreshed(&self) -> Result<Arc<Catalog>, CatalogueError> {
        self.read_since(Instant::now()).await
    }

    /// What [`Self::current`] returns from now on is as the server was then, or later.
    pub(super) fn as_of(&self) -> Instant {
        self.state().began
    }

    fn known(&self, now: Instant) -> Option<(Arc<Catalog>, Duration)> {
        let mut state = self.state();
        state.used = now;
        let seen = state.seen.as_ref()?;
        Some((Arc::clone(&seen.catalog), now.saturating_duration_since(state.began)))
    }

    fn refresh_behind(self: &Arc<Self>, now: Instant) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let catalogue = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = catalogue.read_since(now).await {
                tracing::warn!(database = %catalogue.of.database, %error, "the catalogue was not refreshed");
            }
            catalogue.refreshing.store(false, Ordering::Release);
        });
    }

    /// What a reading found that began at `not_before` or later: somebody else's, or our own.
    async fn read_since(&self, not_before: Instant) -> Result<Arc<Catalog>, CatalogueError> {
        let asked = Instant::now();
        let mut link = self.link.lock().await;
        if let Some(outcome) = self.outcome(not_before, asked) {
            return outcome;
        }
        let began = Instant::now();
        let outcome = timeout(LIMIT, self.read(&mut link)).await.unwrap_or(Err(CatalogueError::TooSlow));
        let mut state = self.state();
        state.used = began;
        match outcome {
            Ok(seen) => {
                let catalog = Arc::clone(&seen.catalog);
                (state.seen, state.began) = (Some(seen), began);
                Ok(catalog)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    /// What others found while we waited; a failure is shared by all who waited for it, so that they do not fail one after the other.
    fn outcome(&self, not_before: Instant, asked: Instant) -> Option<Result<Arc<Catalog>, CatalogueError>> {
        let state = self.state();
        let read = state.seen.as_ref().filter(|_| state.began >= not_before).map(|seen| Ok(Arc::clone(&seen.catalog)));
        let failed = || state.failed.as_ref().filter(|(ended, _)| *ended >= asked).map(|(_, error)| Err(error.clone()));
        read.or_else(failed)
    }

    async fn read(&self, kept: &mut Option<Link>) -> Result<Arc<Seen>, CatalogueError> {
        let before = self.state().seen.clone();
        if let Some(mut link) = kept.take() {
            match link.read(before.as_ref()).await {
                Ok(seen) => {
                    *kept = Some(link);
                    return Ok(seen);
                }
                // The server has closed it since: once more with a new one.
                Err(CatalogueError::Broken { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let mut link = (self.open)(self.of.clone()).await?;
        let seen = link.read(before.as_ref()).await?;
        *kept = Some(link);
        Ok(seen)
    }

    fn idle_for(&self) -> Duration {
        self.state().used.elapsed()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
