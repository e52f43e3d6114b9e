//! The last good bundle on disk: `SEQUENCE.tar` and its signature `SEQUENCE.tar.sig`, as they were fetched.
//!
//! What is read back is believed no more than what is fetched: the signature is verified again. Both files of a pair are there before the
//! pair before is removed, so that a crash at any moment leaves a whole one.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::policy::{MAX_BUNDLE_BYTES, MAX_SIGNATURE_BYTES};

/// Most pairs that are looked at: there is one, and after a crash two.
const MAX_PAIRS: usize = 8;

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
        let (sequences, unreadable) = match self.sequences() {
            Ok(sequences) => (sequences, None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), None),
            Err(error) => (Vec::new(), Some(Err((self.folder.clone(), error)))),
        };
        let read = sequences.into_iter().take(MAX_PAIRS).map(|sequence| {
            let path = self.tar(sequence);
            self.read_pair(sequence).map_err(|error| (path, error))
        });
        unreadable.into_iter().chain(read)
    }

    /// Whether a pair of this number lies there.
    pub(super) fn has(&self, sequence: u64) -> bool {
        self.tar(sequence).is_file() && self.signature(sequence).is_file()
    }

    fn read_pair(&self, sequence: u64) -> io::Result<Cached> {
        let path = self.tar(sequence);
        let file = regular(&path)?;
        let written = file.metadata()?.modified()?;
        let tar = bounded(file, MAX_BUNDLE_BYTES)?;
        let signature = regular(&self.signature(sequence))
            .and_then(|file| bounded(file, MAX_SIGNATURE_BYTES))
            .map_err(|error| io::Error::new(error.kind(), format!("its signature: {error}")))?;
        Ok(Cached { path, sequence, tar, signature, written })
    }

    /// Keeps this bundle, and then no other. The folder is made if it is not there.
    pub(super) fn keep(&self, sequence: u64, tar: &[u8], signature: &[u8]) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // The signature first: a bundle without one is nothing.
        self.write(&self.signature(sequence), signature)?;
        self.write(&self.tar(sequence), tar)?;
        File::open(&self.folder)?.sync_all()?;
        for other in self.sequences()?.into_iter().filter(|other| *other != sequence) {
            for path in [self.tar(other), self.signature(other)] {
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// At once or not at all. A link of this name is replaced, not followed.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map(|_| ()).map_err(|error| error.error)
    }

    /// The numbers of the bundles there, the highest first.
    fn sequences(&self) -> io::Result<Vec<u64>> {
        let mut sequences = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_suffix(".tar"));
            sequences.extend(number.and_then(|number| number.parse::<u64>().ok()));
        }
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        sequences.dedup();
        Ok(sequences)
    }

    fn tar(&self, sequence: u64) -> PathBuf {
        self.folder.join(format!("{sequence}.tar"))
    }

    fn signature(&self, sequence: u64) -> PathBuf {
        self.folder.join(format!("{sequence}.tar.sig"))
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
    fn what_is_longer_than_any_bundle_is_not_read_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        cache.keep(7, b"seven", &[0; MAX_SIGNATURE_BYTES + 1]).unwrap();
        let [Err((_, error))] = &*cache.read().collect::<Vec<_>>() else { panic!("one") };
        assert!(error.to_string().contains("more than"), "{error}");
    }
}
