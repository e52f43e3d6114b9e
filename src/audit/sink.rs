//! Where lines go: a file or standard output. Every line gets there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::AuditError;
use super::batch::Batch;

/// Records name people and data: the owner writes, the group (a log shipper's) reads.
const MODE: u32 = 0o640;
/// Between two tries when somebody made our standard output non-blocking: it may well be shared with other programs.
const BUSY_PAUSE: Duration = Duration::from_millis(1);

/// A sink that is written a line at a time. Not for several threads at once: putting a torn line right needs quiet.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    /// What the sink is called in messages.
    name: String,
    /// A regular file of our own, which can be read back and cut.
    mends: bool,
    /// Whether the last line lacks its newline.
    torn: bool,
}

impl Sink {
    /// Standard output, without the buffer and the lock of [`io::stdout`].
    pub(super) fn stdout() -> Result<Self, AuditError> {
        let name = "standard output".to_owned();
        match io::stdout().as_fd().try_clone_to_owned() {
            Ok(fd) => Ok(Self { file: fd.into(), name, mends: false, torn: false }),
            Err(source) => Err(AuditError::Open { sink: name, source }),
        }
    }

    /// A file that is appended to; made if it is not there. A last line that an earlier process left torn is ended here.
    pub(super) fn file(path: &Path) -> Result<Self, AuditError> {
        let name = path.display().to_string();
        let file = open(path).map_err(|source| match missing_directory(path) {
            Some(directory) if source.kind() == io::ErrorKind::NotFound => {
                AuditError::NoDirectory { path: path.to_owned(), directory }
            }
            _ => AuditError::Open { sink: format!("file `{name}`"), source },
        })?;
        let mends = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let torn = mends && ends_torn(&file);
        let mut sink = Self { file, name: format!("file `{name}`"), mends, torn };
        // A full disk is no reason not to start: the line is ended before the next record then.
        let _ = sink.end_torn_line();
        Ok(sink)
    }

    /// What the sink is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether `path` no longer leads to the file that is open: it was moved or removed, and records would go where nobody looks.
    pub(super) fn has_moved_from(&self, path: &Path) -> bool {
        let Ok(open) = self.file.metadata() else { return false };
        match path.metadata() {
            Ok(there) => (there.dev(), there.ino()) != (open.dev(), open.ino()),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Writes a line that ends with a newline by one write(2). On failure nothing of it remains, or what remains is ended before
    /// the next line begins, so that no two records can run into one.
    ///
    /// Blocks for as long as the sink does: that is the back-pressure.
    pub(super) fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        self.end_torn_line()?;
        let mut rest = line;
        while !rest.is_empty() {
            match (&self.file).write(rest) {
                Ok(0) => return self.give_up(line, rest, io::ErrorKind::WriteZero.into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(BUSY_PAUSE),
                Err(error) => return self.give_up(line, rest, error),
            }
        }
        Ok(())
    }

    /// Writes lines: all by one write(2) into a file of our own. Elsewhere each for itself, for what others write to the same pipe must
    /// not come in between. On failure tells how many count as missing: with a file all of
    /// them, for what was written of them is taken off again if that can be done.
    pub(super) fn write_lines(&mut self, batch: &Batch) -> Result<(), (usize, io::Error)> {
        if self.mends {
            return self.write_line(batch.bytes()).map_err(|error| (batch.count(), error));
        }
        for (written, line) in batch.lines().enumerate() {
            self.write_line(line).map_err(|error| (batch.count() - written, error))?;
        }
        Ok(())
    }

    fn end_torn_line(&mut self) -> io::Result<()> {
        if self.torn {
            (&self.file).write_all(b"\n")?;
            self.torn = false;
        }
        Ok(())
    }

    fn give_up(&mut self, line: &[u8], rest: &[u8], error: io::Error) -> io::Result<()> {
        let written = line.len() - rest.len();
        if written > 0 {
            let there = line.get(..written).unwrap_or_default();
            self.torn = (!self.mends || self.cut(there).is_err()) && !there.ends_with(b"\n");
        }
        Err(error)
    }

    /// Takes `torn` off the end of the file again, if it is what stands there: another process may append to the same file.
    fn cut(&self, torn: &[u8]) -> io::Result<()> {
        let length = self.file.metadata()?.len();
        let good = length.checked_sub(torn.len() as u64).ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut there = vec![0; torn.len()];
        self.file.read_exact_at(&mut there, good)?;
        if there != torn {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.file.set_len(good)
    }
}

/// Opens for reading too: to look at the last line, and because a FIFO that is open both ways neither blocks here nor loses what it holds
/// when its reader goes; it blocks when full.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(MODE);
    match options.clone().read(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => options.open(path),
        opened => opened,
    }
}

fn missing_directory(path: &Path) -> Option<PathBuf> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty())?;
    (!directory.exists()).then(|| directory.to_owned())
}

fn ends_torn(file: &File) -> bool {
    let mut last = [0];
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    match length.checked_sub(1) {
        Some(at) => file.read_exact_at(&mut last, at).is_ok() && last != *b"\n",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn lines_are_appended_to_a_file_of_mode_0640_or_stricter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        Sink::file(&path).unwrap().write_line(b"one\n").unwrap();
        Sink::file(&path).unwrap().write_line(b"two\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777 & !0o640, 0);
    }

    #[test]
    fn a_missing_directory_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = Sink::file(&folder.path().join("logs/audit.jsonl")).unwrap_err();
        assert!(
            matches!(&error, AuditError::NoDirectory { directory, .. } if directory.ends_with("logs")),
            "{error:?}"
        );
        let error = Sink::file(folder.path()).unwrap_err();
        assert!(matches!(&error, AuditError::Open { .. }), "{error:?}");
    }

    #[test]
    fn a_line_that_a_killed_process_left_torn_is_ended_at_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        std::fs::write(&path, b"{\"kind\":\"request\"}\n{\"kind\":\"req").unwrap();
        Sink::file(&path).unwrap().write_line(b"{\"next\":1}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"kind\":\"request\"}\n{\"kind\":\"req\n{\"next\":1}\n");
    }

    #[test]
    fn what_was_written_of_a_line_is_taken_off_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut sink = Sink::file(&path).unwrap();
        sink.write_line(b"good\n").unwrap();
        (&sink.file).write_all(b"half of").unwrap();
        let error = sink.give_up(b"half of a line\n", b" a line\n", io::ErrorKind::StorageFull.into()).unwrap_err();
        assert_eq!((error.kind(), sink.torn), (io::ErrorKind::StorageFull, false));
        assert_eq!(std::fs::read(&path).unwrap(), b"good\n");
        sink.write_line(b"next\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"good\nnext\n");
    }

    #[test]
    fn a_torn_line_that_somebody_wrote_behind_is_ended_not_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        let mut sink = Sink::file(&path).unwrap();
        (&sink.file).write_all(b"half of").unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"theirs").unwrap();
        sink.give_up(b"half of a line\n", b" a line\n", io::ErrorKind::StorageFull.into()).unwrap_err();
        sink.write_line(b"next\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"half oftheirs\nnext\n");
    }

    /// A tmpfs of 64 KiB that is unmounted again, if this process may mount one.
    struct SmallDisk(tempfile::TempDir);

    impl SmallDisk {
        fn mount() -> Option<Self> {
            let folder = tempfile::tempdir().unwrap();
            let mounted =
                Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(folder.path()).output();
            mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
        }
    }

    impl Drop for SmallDisk {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
        }
    }

    #[test]
    fn a_disk_that_fills_up_leaves_whole_lines_only() {
        let Some(disk) = SmallDisk::mount() else {
            eprintln!("skipped: mounting a tmpfs needs root");
            return;
        };
        let path = disk.0.path().join("audit.jsonl");
        let mut sink = Sink::file(&path).unwrap();
        let line = [vec![b'x'; 1_000], b"\n".to_vec()].concat();
        let error = (0..100).find_map(|_| sink.write_line(&line).err()).expect("64 KiB are full before 100 lines");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let full = std::fs::read(&path).unwrap();
        assert!(full.len() > 32_000 && full.ends_with(b"x\n"), "{} bytes", full.len());
        assert!(full.split_inclusive(|byte| *byte == b'\n').all(|whole| whole == line));

        // Room again: as after a log was moved away.
        std::fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
        sink.write_line(b"next\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"next\n");
    }
}
