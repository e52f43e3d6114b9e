//! Events of the file system, so that what changes is looked at when it changes and not a whole interval later.
//!
//! Events only say when to look. Whatever they miss (network file systems, a limit of the system) the next look at the interval finds,
//! and whether anything has changed is known by comparing content alone.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::event::{AccessKind, AccessMode};
use notify::{ErrorKind, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

mod ways;

use ways::Ways;

/// Ways that are not the same at two of so many looks in a row are not waited for.
const MAX_LOOKS: usize = 4;

/// Tells that one of some files may have changed, not which one.
#[derive(Debug)]
pub(super) struct Watch {
    paths: Vec<PathBuf>,
    /// A directory that is written to with every request, and whose events would wake us for each: if it is only on the way to others, it
    /// is left to the interval.
    busy: Option<PathBuf>,
    changed: Arc<Notify>,
    armed: Option<Armed>,
    /// Why events are missed, as it was said in the log.
    said: Option<String>,
}

/// The system's watches as they were set up last.
#[derive(Debug)]
struct Armed {
    _watcher: RecommendedWatcher,
    ways: Arc<Ways>,
    /// Device and inode of each watched directory: another one of the same name is not watched.
    directories: BTreeMap<PathBuf, (u64, u64)>,
    /// A watched directory has gone, or events were lost.
    is_stale: Arc<AtomicBool>,
}

impl Watch {
    /// Watches nothing until [`Self::renew`].
    pub(super) fn new(paths: Vec<PathBuf>, busy: Option<PathBuf>) -> Self {
        Self { paths, busy, changed: Arc::new(Notify::new()), armed: None, said: None }
    }

    /// Told after events. Several of them may be told of once.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Watches the directories that lead to the paths now: links are followed, and what is not there yet is awaited in
    /// the nearest directory that is. What is read after this call and changes then is told of.
    pub(super) fn renew(&mut self) {
        // What changes between finding the ways and watching them is found by the second look; for who changes things without
        // end there is the interval.
        for _ in 0..MAX_LOOKS {
            let ways = Ways::of(&self.paths);
            let mut directories = ways.directories_there_are();
            let busy = self.busy.as_ref().and_then(|busy| fs::metadata(busy).ok());
            if let Some(busy) = busy.map(|busy| (busy.dev(), busy.ino())) {
                // What is read itself is watched wherever it lies.
                directories.retain(|path, directory| *directory != busy || !ways.only_lead_on(path));
            }
            let is_current = self.armed.as_ref().is_some_and(|armed| {
                !armed.is_stale.load(Ordering::Acquire) && *armed.ways == ways && armed.directories == directories
            });
            if is_current {
                return;
            }
            self.arm(ways, directories);
        }
    }

    fn arm(&mut self, ways: Ways, directories: BTreeMap<PathBuf, (u64, u64)>) {
        match arm(Arc::new(ways), directories, &self.changed) {
            Ok((armed, missed)) => {
                self.armed = Some(armed);
                match missed {
                    Some(cause) => self.say(cause),
                    None => self.said = None,
                }
            }
            Err(cause) => {
                self.armed = None;
                self.say(cause);
            }
        }
    }

    fn say(&mut self, cause: String) {
        if self.said.as_ref() != Some(&cause) {
            let message = "no events for changed files; they are found by looking every reload_interval";
            tracing::warn!(error = %cause, "{message}");
            self.said = Some(cause);
        }
    }
}

/// Sets up new watches, and says what of them the system refused.
fn arm(
    ways: Arc<Ways>,
    directories: BTreeMap<PathBuf, (u64, u64)>,
    changed: &Arc<Notify>,
) -> Result<(Armed, Option<String>), String> {
    let is_stale = Arc::new(AtomicBool::new(false));
    let told = Told { ways: Arc::clone(&ways), is_stale: Arc::clone(&is_stale), changed: Arc::clone(changed) };
    let mut watcher = notify::recommended_watcher(move |event| told.event(event)).map_err(|error| error.to_string())?;
    let mut missed = None;
    for directory in directories.keys() {
        if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
            match error.kind {
                // It has gone since it was looked for. Something above it says so, but perhaps before it was watched.
                ErrorKind::PathNotFound => is_stale.store(true, Ordering::Release),
                // Some ancestors may be entered and not listed (0711); no limit of ours, and seldom what changes.
                ErrorKind::Io(ref cause) if cause.kind() == std::io::ErrorKind::PermissionDenied => {
                    tracing::debug!(directory = %directory.display(), "may not be watched");
                }
                ErrorKind::Io(ref cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                    is_stale.store(true, Ordering::Release);
                }
                _ => missed = Some(format!("`{}` cannot be watched: {error}", directory.display())),
            }
        }
    }
    Ok((Armed { _watcher: watcher, ways, directories, is_stale }, missed))
}

/// What the system tells, on a thread of its own.
#[derive(Debug)]
struct Told {
    ways: Arc<Ways>,
    is_stale: Arc<AtomicBool>,
    changed: Arc<Notify>,
}

impl Told {
    fn event(&self, event: notify::Result<Event>) {
        match event {
            Ok(event) if is_a_look(event.kind) => return,
            Ok(event) if event.need_rescan() || event.paths.is_empty() => self.is_stale.store(true, Ordering::Release),
            Ok(event) => {
                let mut concerns = false;
                for path in &event.paths {
                    // The directory itself: it was removed, moved away, or its mode changed. Its watch may be gone with it.
                    if self.ways.is_watched(path) {
                        self.is_stale.store(true, Ordering::Release);
                        concerns = true;
                    }
                    concerns |= self.ways.lead_through(path);
                }
                if !concerns {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "an event for changed files was lost");
                self.is_stale.store(true, Ordering::Release);
            }
        }
        self.changed.notify_one();
    }
}

/// Somebody only reads, as we do ourselves at every look. No other kind of event is passed over: the same change arrives as
/// different kinds on different systems.
fn is_a_look(kind: EventKind) -> bool {
    matches!(kind, EventKind::Access(AccessKind::Open(_) | AccessKind::Read | AccessKind::Close(AccessMode::Read)))
}

/// The absolute form of a path, links and `..` left as they are.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
