//! Which directories have to be watched so that no change of a file goes unnoticed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::absolute;

/// More links than these on one way are a loop (Linux: MAXSYMLINKS).
const MAX_LINKS: usize = 40;
/// More entries than these of one directory are not followed one by one; those that are files are seen anyway.
const MAX_ENTRIES: usize = 1024;

/// The ways from the root to some files: through every directory, and every link, as the links are now.
///
/// A watch on the file itself would follow the old file when another is renamed over it; one on its directory misses the
/// swap of a link further up (`..data` of Kubernetes), and ends when the directory is replaced.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    directories: BTreeMap<PathBuf, Interest>,
}

/// What of a directory matters.
#[derive(Debug, Default, PartialEq, Eq)]
struct Interest {
    /// These entries. Others may change all the time: `/tmp` is on many a way.
    names: BTreeSet<OsString>,
    /// Everything: it is itself what is read.
    all: bool,
}

impl Ways {
    /// The ways to these files and directories.
    pub(super) fn of(paths: &[PathBuf]) -> Self {
        let mut ways = Self::default();
        for path in paths {
            let Some(end) = ways.follow(path) else { continue };
            if !end.is_dir() {
                continue;
            }
            ways.directories.entry(end.clone()).or_default().all = true;
            let Ok(entries) = fs::read_dir(&end) else { continue };
            for entry in entries.flatten().take(MAX_ENTRIES) {
                if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    ways.follow(&entry.path());
                }
            }
        }
        ways
    }

    /// Walks to `path` as the system would, noting each step. None if it is not there; the steps up to where it would be are noted.
    fn follow(&mut self, path: &Path) -> Option<PathBuf> {
        let mut here = PathBuf::from("/");
        let mut ahead: VecDeque<OsString> = steps(&absolute(path));
        let mut links = 0;
        while let Some(step) = ahead.pop_front() {
            if step == ".." {
                here.pop();
                continue;
            }
            self.directories.entry(here.clone()).or_default().names.insert(step.clone());
            let next = here.join(&step);
            let is_link = fs::symlink_metadata(&next).ok()?.is_symlink();
            if !is_link {
                here = next;
                continue;
            }
            links += 1;
            let target = fs::read_link(&next).ok().filter(|_| links <= MAX_LINKS)?;
            if target.is_absolute() {
                here = PathBuf::from("/");
            }
            for step in steps(&target).into_iter().rev() {
                ahead.push_front(step);
            }
        }
        Some(here)
    }

    /// Those of the directories that are there, with device and inode.
    pub(super) fn directories_there_are(&self) -> BTreeMap<PathBuf, (u64, u64)> {
        let found = self.directories.keys().filter_map(|path| {
            let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
            Some((path.clone(), (metadata.dev(), metadata.ino())))
        });
        found.collect()
    }

    pub(super) fn is_watched(&self, directory: &Path) -> bool {
        self.directories.contains_key(directory)
    }

    /// Whether one of the ways has a step to this entry.
    pub(super) fn lead_through(&self, entry: &Path) -> bool {
        let (Some(directory), Some(name)) = (entry.parent(), entry.file_name()) else { return false };
        let interest = self.directories.get(directory);
        interest.is_some_and(|interest| interest.all || interest.names.contains(name))
    }
}

fn steps(path: &Path) -> VecDeque<OsString> {
    let steps = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    steps.map(OsStr::to_owned).collect()
}
