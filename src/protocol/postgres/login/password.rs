//! Where the proxy's password comes from: asked for each connection, never kept, never logged.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::config::PasswordSource;

/// Tokens of cloud databases are a few KiB long.
const LONGEST: u64 = 64 * 1024;
/// How long a program may take: it may have to ask a cloud for a token.
const LIMIT: Duration = Duration::from_secs(10);

/// A password. Shown to nobody.
pub(super) struct Password(Vec<u8>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

impl Password {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// For whom a password is asked: what a program is told by libpq's names.
#[derive(Debug, Clone, Default)]
pub(super) struct AskedFor {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) host: String,
    pub(super) port: u16,
}

/// Why there is no password. Says nothing of what was read.
#[derive(Debug, Error)]
pub(in crate::protocol::postgres) enum PasswordError {
    /// The file.
    #[error("password file `{path}` cannot be read: {cause}")]
    File {
        /// As configured.
        path: String,
        /// What the system said.
        cause: io::Error,
    },
    /// The program.
    #[error("password command `{program}` cannot be run: {cause}")]
    Command {
        /// Its first word.
        program: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It said that it failed.
    #[error("password command `{program}` failed: {status}")]
    Failed {
        /// Its first word.
        program: String,
        /// How it ended.
        status: String,
    },
    /// It took too long.
    #[error("password command `{program}` was not finished within {} s", LIMIT.as_secs())]
    TooSlow {
        /// Its first word.
        program: String,
    },
    /// Nothing was in it.
    #[error("there is no password in the first line of `{from}`")]
    Empty {
        /// The file or program.
        from: String,
    },
    /// The process is ending.
    #[error("the password was not read, as the process ends")]
    Ending,
}

/// Reads the password, on a thread where it may take its time.
///
/// # Errors
/// Why there is none.
///
/// # Cancel safety
/// The reading goes on to its end, for nobody.
pub(super) async fn read(source: &PasswordSource, asked_for: AskedFor) -> Result<Password, PasswordError> {
    let source = source.clone();
    let reading = tokio::task::spawn_blocking(move || match &source {
        PasswordSource::File(path) => from_file(path),
        PasswordSource::Command(words) => from_command(words, &asked_for, LIMIT),
    });
    reading.await.unwrap_or(Err(PasswordError::Ending))
}

fn from_file(path: &Path) -> Result<Password, PasswordError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    read.map_err(|cause| PasswordError::File { path: path.display().to_string(), cause })?;
    first_line(&bytes, || path.display().to_string())
}

fn from_command(words: &[String], asked_for: &AskedFor, limit: Duration) -> Result<Password, PasswordError> {
    let (program, arguments) = words.split_first().map_or(("", words), |(first, rest)| (first.as_str(), rest));
    let own = || program.to_owned();
    let cannot = |cause| PasswordError::Command { program: own(), cause };
    let mut child = Command::new(program)
        .args(arguments)
        .env("PGUSER", &asked_for.user)
        .env("PGDATABASE", &asked_for.database)
        .env("PGHOST", &asked_for.host)
        .env("PGPORT", asked_for.port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It might say the password there.
        .stderr(Stdio::null())
        // With all that it starts it is one group, which can be ended as one.
        .process_group(0)
        .spawn()
        .map_err(cannot)?;
    let began = Instant::now();
    let (done, ended) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        // Ends when the pipe does, at the latest when everything that holds it is killed.
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = output.take(LONGEST).read_to_end(&mut bytes);
            let _nobody_waits = done.send(read.map(|_| bytes));
        });
    }
    let output = ended.recv_timeout(limit).ok();
    // Its output may have ended long before it does.
    let status = match &output {
        Some(_) => ended_within(&mut child, limit.saturating_sub(began.elapsed())).map_err(cannot)?,
        None => None,
    };
    let (Some(output), Some(status)) = (output, status) else {
        kill_group(&mut child);
        child.wait().map_err(cannot)?;
        return Err(PasswordError::TooSlow { program: own() });
    };
    let output = output.map_err(cannot)?;
    if !status.success() {
        return Err(PasswordError::Failed { program: own(), status: status.to_string() });
    }
    first_line(&output, own)
}

/// Kills a program and what it has started. It has not been waited for yet, so the number is still that of its group.
fn kill_group(child: &mut Child) {
    // Rust's library kills single processes only; a shell has it built in to kill a group (POSIX, `kill`).
    let group = format!("-{}", child.id());
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "kill -KILL \"$1\"", "sh", &group]);
    let killed = shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !killed.is_ok_and(|status| status.success()) {
        tracing::warn!("what the password command has started may go on");
    }
    // Gone already, or gone now.
    let _ = child.kill();
}

/// How the program ended; none if it has not in time. The system can be asked only now and again.
fn ended_within(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    const PAUSE: Duration = Duration::from_millis(5);
    let began = Instant::now();
    loop {
        let status = child.try_wait()?;
        if status.is_some() || began.elapsed() >= limit {
            return Ok(status);
        }
        thread::sleep(PAUSE);
    }
}

fn first_line(bytes: &[u8], from: impl FnOnce() -> String) -> Result<Password, PasswordError> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    // A password with a NUL cannot be sent: the server would read a shorter one.
    match line.is_empty() || line.contains(&0) {
        true => Err(PasswordError::Empty { from: from() }),
        false => Ok(Password(line.to_vec())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Result<Password, PasswordError> {
        let words = ["sh", "-c", script].map(str::to_owned);
        let asked_for = AskedFor { user: "u".into(), database: "d".into(), host: "h".into(), port: 5432 };
        from_command(&words, &asked_for, Duration::from_millis(300))
    }

    #[test]
    fn a_password_is_the_first_line_and_a_program_knows_for_whom() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret \r\nrest").unwrap();
        assert_eq!(from_file(file.path()).unwrap().as_bytes(), b"secret ");
        assert_eq!(shell("echo $PGUSER/$PGDATABASE/$PGHOST/$PGPORT; echo more").unwrap().as_bytes(), b"u/d/h/5432");
        assert_eq!(format!("{:?}", shell("echo hunter2").unwrap()), "Password");
    }

    #[test]
    fn a_program_that_fails_hangs_or_says_nothing_gives_no_password() {
        assert!(matches!(shell("echo secret; exit 3"), Err(PasswordError::Failed { .. })));
        assert!(matches!(shell("exec sleep 60"), Err(PasswordError::TooSlow { .. })));
        assert!(matches!(shell("echo secret; exec sleep 60 >/dev/null"), Err(PasswordError::TooSlow { .. })));
        assert!(matches!(shell("true"), Err(PasswordError::Empty { .. })));
        let missing = from_command(&["/nonexistent/x".to_owned()], &AskedFor::default(), LIMIT);
        assert!(matches!(missing, Err(PasswordError::Command { .. })));
    }
    #[test]
    fn a_program_that_takes_too_long_is_ended_with_all_that_it_has_started() {
        let pids = tempfile::NamedTempFile::new().unwrap();
        let at = pids.path().display();
        let slow = shell(&format!("(sleep 60 & echo $! >> {at}; wait) & sleep 60 & echo $! >> {at}; wait"));
        assert!(matches!(slow, Err(PasswordError::TooSlow { .. })));
        let pids = std::fs::read_to_string(pids.path()).unwrap();
        let pids: Vec<_> = pids.split_whitespace().collect();
        assert_eq!(pids.len(), 2, "both were started");
        let began = std::time::Instant::now();
        // One that is dead and not waited for has no command line.
        let runs = |pid: &&str| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty());
        while pids.iter().any(runs) {
            assert!(began.elapsed() < Duration::from_secs(10), "{pids:?} still run");
            thread::yield_now();
        }
    }
}
