//! The last good bundle on disk: `SEQUENCE.tar` and its signature `SEQUENCE.tar.sig`, as they were fetched.
//!
//! What is read back is believed no more than what is fetched: the signature is verified again. Both files of a pair are there before the
//! pair before is removed, so that a crash at any moment leaves a whole one. Where the next pair has the same number, with other bytes, it
//! is first written as `SEQUENCE.next.tar`.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::policy::{MAX_BUNDLE_BYTES, MAX_SIGNATURE_BYTES};

/// Most pairs that are looked at: there is one, and after a crash two.
const MAX_PAIRS: usize = 8;
/// Files that are not finished have names that begin so.
const UNFINISHED: &str = ".new-";
/// What is not finished after as long was left behind by a crash.
const LEFT_BEHIND: Duration = Duration::from_secs(60);

/// A folder with the last good bundle.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    folder: PathBuf,
}

/// A bundle as it lies there.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) path: PathBuf,
    /// By its name.
    pub(super) sequence: u64,
    /// It is where a pair belongs, not where one is kept that a crash kept from getting there.
    pub(super) is_in_place: bool,
    pub(super) tar: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// When it was written there.
    pub(super) written: SystemTime,
}

impl Cache {
    pub(super) fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// What lies there, the highest number first. What cannot be read is said in place of it.
    /// Each is read when it is asked for.
    pub(super) fn read(&self) -> impl Iterator<Item = Result<Cached, (PathBuf, io::Error)>> {
        let (pairs, unreadable) = match self.pairs() {
            Ok(pairs) => (pairs, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => (Vec::new(), Some(Err((self.folder.clone(), error)))),
        };
        let read = pairs.into_iter().take(MAX_PAIRS).map(|pair| read_pair(&pair).map_err(|error| (pair.tar, error)));
        unreadable.into_iter().chain(read)
    }

    /// Whether a pair of this number lies there.
    pub(super) fn has(&self, sequence: u64) -> bool {
        let pair = self.pair(sequence, true);
        pair.tar.is_file() && pair.signature.is_file()
    }

    /// Keeps this bundle, and then no other. The folder is made if it is not there.
    pub(super) fn keep(&self, sequence: u64, tar: &[u8], signature: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let (place, aside) = (self.pair(sequence, true), self.pair(sequence, false));
        // Its signature is not that of the bytes which are there.
        if place.tar.symlink_metadata().is_ok() && !holds(&place.tar, tar) {
            self.write_pair(&aside, tar, signature)?;
        }
        self.write_pair(&place, tar, signature)?;
        for other in self.pairs()?.into_iter().filter(|other| *other != place) {
            remove(&other.tar)?;
            remove(&other.signature)?;
        }
        Ok(())
    }

    /// Removes what a crash has left behind: files that were not finished, and signatures of no bundle.
    pub(super) fn sweep(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let (name, metadata) = (entry.file_name(), entry.metadata()?);
            let Some(name) = name.to_str() else { continue };
            let is_orphan = name
                .strip_suffix(".sig")
                .is_some_and(|tar| pair_of(tar).is_some() && !self.folder.join(tar).try_exists().unwrap_or(true));
            // Somebody may be about to finish what is young.
            let is_old = metadata.modified()?.elapsed().is_ok_and(|age| age >= LEFT_BEHIND);
            if metadata.is_file() && is_old && (name.starts_with(UNFINISHED) || is_orphan) {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Both are on disk for good when it returns.
    fn write_pair(&self, pair: &Pair, tar: &[u8], signature: &[u8]) -> io::Result<()> {
        // The signature first: a bundle without one is nothing.
        for (path, bytes) in [(&pair.signature, signature), (&pair.tar, tar)] {
            if !holds(path, bytes) {
                self.write(path, bytes)?;
            }
        }
        File::open(&self.folder)?.sync_all()
    }

    /// At once or not at all. A link of this name is replaced, not followed.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map(|_| ()).map_err(|error| error.error)
    }

    /// The bundles there, the highest number first, what is in its place before what is not.
    fn pairs(&self) -> io::Result<Vec<Pair>> {
        let mut pairs = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            pairs.extend(name.to_str().and_then(pair_of).map(|(sequence, in_place)| self.pair(sequence, in_place)));
        }
        pairs.sort_unstable_by_key(|pair| std::cmp::Reverse((pair.sequence, pair.is_in_place)));
        pairs.dedup();
        Ok(pairs)
    }

    fn pair(&self, sequence: u64, is_in_place: bool) -> Pair {
        let aside = if is_in_place { "" } else { ASIDE };
        let [tar, signature] = ["tar", "tar.sig"].map(|end| self.folder.join(format!("{sequence}{aside}.{end}")));
        Pair { sequence, is_in_place, tar, signature }
    }
}

/// What stands after the number of a pair that is not in its place.
const ASIDE: &str = ".next";

/// Where a bundle and its signature lie.
#[derive(Debug, PartialEq, Eq)]
struct Pair {
    sequence: u64,
    is_in_place: bool,
    tar: PathBuf,
    signature: PathBuf,
}

/// The number in the name of a bundle, and whether it is in its place.
fn pair_of(name: &str) -> Option<(u64, bool)> {
    let stem = name.strip_suffix(".tar")?;
    let (number, is_in_place) = stem.strip_suffix(ASIDE).map_or((stem, true), |number| (number, false));
    number.parse().ok().map(|sequence| (sequence, is_in_place))
}

fn read_pair(pair: &Pair) -> io::Result<Cached> {
    let file = regular(&pair.tar)?;
    let written = file.metadata()?.modified()?;
    let tar = bounded(file, MAX_BUNDLE_BYTES)?;
    let signature = regular(&pair.signature)
        .and_then(|file| bounded(file, MAX_SIGNATURE_BYTES))
        .map_err(|error| io::Error::new(error.kind(), format!("its signature: {error}")))?;
    let &Pair { sequence, is_in_place, .. } = pair;
    Ok(Cached { path: pair.tar.clone(), sequence, is_in_place, tar, signature, written })
}

/// Whether it is a file, and no link, with these bytes.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    path.symlink_metadata().is_ok_and(|file| file.is_file() && file.len() == bytes.len() as u64)
        && File::open(path).and_then(|file| bounded(file, bytes.len())).is_ok_and(|found| found == bytes)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Opens a file that is one: a pipe would be waited for without end.
fn regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)
}

fn bounded(file: File, max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > max { Err(io::Error::other(format!("it has more than {max} bytes"))) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(folder: &Path) -> Vec<String> {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn the_bundle_that_was_kept_last_is_the_only_one_there() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("made/anew"));
        assert_eq!(cache.read().count(), 0);
        cache.keep(7, b"seven", b"s7").unwrap();
        cache.keep(9, b"nine", b"s9").unwrap();
        // An override goes back in content, never in number; a number that is lower is kept all the same if the caller says so.
        let [Ok(cached)] = &*cache.read().collect::<Vec<_>>() else { panic!("one") };
        assert_eq!((&*cached.tar, &*cached.signature), (&b"nine"[..], &b"s9"[..]));
        assert_eq!(there(&folder.path().join("made/anew")), ["9.tar", "9.tar.sig"]);
        cache.keep(9, b"other", b"s9'").unwrap();
        let [Ok(cached)] = &*cache.read().collect::<Vec<_>>() else { panic!("one") };
        assert_eq!((&*cached.tar, &*cached.signature), (&b"other"[..], &b"s9'"[..]));
    }

    #[test]
    fn what_a_crash_leaves_behind_does_not_hide_the_whole_pair() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        cache.keep(7, b"seven", b"s7").unwrap();
        fs::write(folder.path().join("8.tar.sig"), b"s8").unwrap();
        fs::write(folder.path().join(".new-x"), b"half").unwrap();
        let [Ok(cached)] = &*cache.read().collect::<Vec<_>>() else { panic!("one") };
        assert_eq!(&*cached.tar, b"seven");
        // Removed before its signature.
        fs::write(folder.path().join("9.tar"), b"nine").unwrap();
        let [Err((path, _)), Ok(cached)] = &*cache.read().collect::<Vec<_>>() else { panic!("two") };
        assert!(path.ends_with("9.tar") && *cached.tar == *b"seven");
    }

    #[test]
    fn a_crash_at_any_write_of_another_pair_of_the_same_number_leaves_one_that_is_whole() {
        // Each write in turn is the one before which it crashes: what would be written there cannot be.
        let (old, new) = ((b"old".as_slice(), b"s-old".as_slice()), (b"new".as_slice(), b"s-new".as_slice()));
        let is_whole = |cached: &Cached| [old, new].contains(&(&cached.tar, &cached.signature));
        for crash in ["7.next.tar.sig", "7.next.tar", "7.tar.sig", "7.tar", "nothing"] {
            let folder = tempfile::tempdir().unwrap();
            let cache = Cache::at(folder.path());
            cache.keep(7, old.0, old.1).unwrap();
            let (place, aside) = (cache.pair(7, true), cache.pair(7, false));
            for (path, bytes) in
                [(&aside.signature, new.1), (&aside.tar, new.0), (&place.signature, new.1), (&place.tar, new.0)]
            {
                if path.ends_with(crash) {
                    break;
                }
                fs::write(path, bytes).unwrap();
            }
            let read: Vec<_> = cache.read().flatten().collect();
            assert!(read.iter().any(is_whole), "before {crash}: {read:?}");
            // Once it is kept again all is in place.
            cache.keep(7, new.0, new.1).unwrap();
            assert_eq!(there(folder.path()), ["7.tar", "7.tar.sig"], "before {crash}");
            let [Ok(cached)] = &*cache.read().collect::<Vec<_>>() else { panic!("one") };
            assert!((&*cached.tar, &*cached.signature) == new && cached.is_in_place);
        }
    }

    #[test]
    fn another_pair_of_the_same_number_is_whole_beside_the_old_one_before_that_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        cache.keep(7, b"old", b"s-old").unwrap();
        // The old signature cannot be replaced: so far it comes.
        fs::remove_file(folder.path().join("7.tar.sig")).unwrap();
        fs::create_dir(folder.path().join("7.tar.sig")).unwrap();
        cache.keep(7, b"new", b"s-new").unwrap_err();
        let read: Vec<_> = cache.read().flatten().collect();
        let [cached] = &*read else { panic!("{read:?}") };
        assert_eq!((&*cached.tar, &*cached.signature, cached.is_in_place), (&b"new"[..], &b"s-new"[..], false));
        // Another signature of the same bytes is one file: it is replaced at once.
        fs::remove_dir(folder.path().join("7.tar.sig")).unwrap();
        cache.keep(7, b"old", b"s-old-2").unwrap();
        assert_eq!(there(folder.path()), ["7.tar", "7.tar.sig"]);
    }

    #[test]
    fn what_a_crash_has_left_behind_is_swept_away_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(&folder.path().join("none"));
        cache.sweep().unwrap();
        let cache = Cache::at(folder.path());
        cache.keep(7, b"seven", b"s7").unwrap();
        let write = |name: &str, is_old: bool| {
            let file = File::create(folder.path().join(name)).unwrap();
            let age = if is_old { LEFT_BEHIND * 2 } else { Duration::ZERO };
            file.set_modified(SystemTime::now() - age).unwrap();
        };
        for name in [".new-a", "8.tar.sig", "8.next.tar.sig", "9.tar", "README", "x.tar.sig", ".hidden"] {
            write(name, true);
        }
        write(".new-b", false);
        write("10.tar.sig", false);
        write("7.tar.sig", true);
        cache.sweep().unwrap();
        let left = [".hidden", ".new-b", "10.tar.sig", "7.tar", "7.tar.sig", "9.tar", "README", "x.tar.sig"];
        assert_eq!(there(folder.path()), left);
    }

    #[test]
    fn what_is_longer_than_any_bundle_is_not_read_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        cache.keep(7, b"seven", &[0; MAX_SIGNATURE_BYTES + 1]).unwrap();
        let [Err((_, error))] = &*cache.read().collect::<Vec<_>>() else { panic!("one") };
        assert!(error.to_string().contains("more than"), "{error}");
    }
}
