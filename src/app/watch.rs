//! Events of the file system, so that what changes is looked at when it changes and not a whole interval later.
//!
//! Events only say when to look. Whatever they miss (network file systems, a limit of the system) the next look at the interval finds,
//! and whether anything has changed is known by comparing content alone.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, StreamExt as _};
use inotify::{EventMask, EventOwned, Inotify, WatchDescriptor, WatchMask};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

mod ways;

use ways::Ways;

/// What is told of a directory: entries that come, go, are moved or have another mode, files that were written and closed, and what becomes
/// of the directory itself. Not each single write: files that are written to all the time, such as records, often lie on the way, and would
/// wake us for every request. Whoever writes without closing is found at the interval.
const EVENTS: WatchMask = WatchMask::CREATE
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::ATTRIB)
    .union(WatchMask::CLOSE_WRITE)
    .union(WatchMask::DELETE_SELF)
    .union(WatchMask::MOVE_SELF)
    .union(WatchMask::ONLYDIR);
/// Room for the events of one read: the longest name takes 272 bytes (inotify(7)).
const ROOM: usize = 4096;

/// Ways that are not the same at two of so many looks in a row are not waited for.
const MAX_LOOKS: usize = 4;

/// Tells that one of some files may have changed, not which one.
#[derive(Debug)]
pub(super) struct Watch {
    paths: Vec<PathBuf>,
    changed: Arc<Notify>,
    armed: Option<Armed>,
    /// Why events are missed, as it was said in the log.
    said: Option<String>,
}

/// The system's watches as they were set up last.
#[derive(Debug)]
struct Armed {
    listening: JoinHandle<()>,
    ways: Arc<Ways>,
    /// Device and inode of each watched directory: another one of the same name is not watched.
    directories: BTreeMap<PathBuf, (u64, u64)>,
    /// A watched directory has gone, or events were lost.
    is_stale: Arc<AtomicBool>,
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Watch {
    /// Watches nothing until [`Self::renew`].
    pub(super) fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, changed: Arc::new(Notify::new()), armed: None, said: None }
    }

    /// Told after events. Several of them may be told of once.
    pub(super) fn changed(&self) -> Arc<Notify> {
        Arc::clone(&self.changed)
    }

    /// Watches the directories that lead to the paths now: links are followed, and what is not there yet is awaited in
    /// the nearest directory that is. What is read after this call and changes then is told of. Within a runtime.
    pub(super) fn renew(&mut self) {
        // What changes between finding the ways and watching them is found by the second look; for who changes things without
        // end there is the interval.
        for _ in 0..MAX_LOOKS {
            let ways = Ways::of(&self.paths);
            let directories = ways.directories_there_are();
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
    let inotify = Inotify::init().map_err(|error| error.to_string())?;
    // One descriptor for each inode: a directory that several ways come to by different names has several paths.
    let mut watched: HashMap<WatchDescriptor, Vec<PathBuf>> = HashMap::new();
    let mut missed = None;
    for directory in directories.keys() {
        match inotify.watches().add(directory, EVENTS) {
            Ok(descriptor) => watched.entry(descriptor).or_default().push(directory.clone()),
            Err(error) => match error.kind() {
                // It has gone since it was looked for. Something above it says so, but perhaps before it was watched.
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => is_stale.store(true, Ordering::Release),
                // Some ancestors may be entered and not listed (0711); no limit of ours, and seldom what changes.
                io::ErrorKind::PermissionDenied => {
                    tracing::debug!(directory = %directory.display(), "may not be watched");
                }
                _ => missed = Some(format!("`{}` cannot be watched: {error}", directory.display())),
            },
        }
    }
    let told = Told { ways: Arc::clone(&ways), watched, is_stale: Arc::clone(&is_stale), changed: Arc::clone(changed) };
    let events = inotify.into_event_stream(vec![0; ROOM]).map_err(|error| error.to_string())?;
    let listening = tokio::spawn(told.listen(events));
    Ok((Armed { listening, ways, directories, is_stale }, missed))
}

/// What the system tells.
#[derive(Debug)]
struct Told {
    ways: Arc<Ways>,
    watched: HashMap<WatchDescriptor, Vec<PathBuf>>,
    is_stale: Arc<AtomicBool>,
    changed: Arc<Notify>,
}

impl Told {
    async fn listen(self, events: impl Stream<Item = io::Result<EventOwned>>) {
        let mut events = std::pin::pin!(events);
        while let Some(event) = events.next().await {
            #[cfg(test)]
            tests::HEARD.with(|heard| heard.set(heard.get() + 1));
            match event {
                Ok(event) => self.event(&event),
                Err(error) => {
                    tracing::debug!(%error, "events for changed files cannot be read");
                    break;
                }
            }
        }
        // Nothing is heard any more.
        self.stale();
    }

    fn event(&self, event: &EventOwned) {
        // The queue ran over, or the directory is watched no longer.
        if event.mask.intersects(EventMask::Q_OVERFLOW | EventMask::IGNORED | EventMask::UNMOUNT) {
            return self.stale();
        }
        for directory in self.watched.get(&event.wd).into_iter().flatten() {
            // Without a name it is the directory itself: it was removed, moved away, or its mode changed. Its watch may be gone with it.
            let Some(name) = &event.name else { return self.stale() };
            let entry = directory.join(name);
            if self.ways.is_watched(&entry) {
                return self.stale();
            }
            if self.ways.lead_through(&entry) {
                return self.changed.notify_one();
            }
        }
    }

    fn stale(&self) {
        self.is_stale.store(true, Ordering::Release);
        self.changed.notify_one();
    }
}

/// The absolute form of a path, links and `..` left as they are.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests;
