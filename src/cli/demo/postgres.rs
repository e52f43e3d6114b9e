//! The warehouse's PostgreSQL: what is installed on this machine, with a cluster of its own for as long as the demo lasts.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long the server may take to start. It takes a second.
const START_LIMIT: Duration = Duration::from_secs(15);

/// What the warehouse holds: a statement on each line.
const SETUP: &str = "\
CREATE ROLE loader LOGIN;
CREATE ROLE analyst LOGIN;
CREATE ROLE owner LOGIN;
CREATE TABLE people (id int PRIMARY KEY, name text NOT NULL, ssn text);
INSERT INTO people VALUES (1, 'Ada', '123-45-6789'), (2, 'Grace', '987-65-4321');
CREATE TABLE orders (id int PRIMARY KEY, customer int, amount numeric);
GRANT ALL ON people, orders TO loader, analyst;
";

/// A running server.
#[derive(Debug)]
pub(super) struct Postgres {
    server: Child,
    folder: TempDir,
}

impl Postgres {
    /// Starts a server in a new folder, with the database `analytics`.
    pub(super) fn start() -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL is not installed")?;
        let folder = tempfile::Builder::new().prefix("portcullis-pg-").tempdir().map_err(|error| error.to_string())?;
        // The server refuses to run as root, and its user has to get here.
        let everybody = fs::Permissions::from_mode(0o755);
        fs::set_permissions(folder.path(), everybody).map_err(|error| error.to_string())?;
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(folder.path()), "")?;
        }
        let data = folder.path().join("data");
        let command = |program: &str| command(&programs.join(program), folder.path());
        let initdb = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync"];
        run(command("initdb").arg("-D").arg(&data).args(initdb), "")?;
        let alone = |database: &str, text: &str| {
            run(command("postgres").args(["--single", "-F", "-D"]).arg(&data).arg(database), text)
        };
        alone("postgres", "CREATE DATABASE analytics;\n")?;
        alone("analytics", SETUP)?;
        let mut serve = command("postgres");
        serve.arg("-F").arg("-D").arg(&data).arg("-k").arg(folder.path()).args(["-c", "listen_addresses="]);
        let server = serve.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn();
        let started = Self { server: server.map_err(|error| error.to_string())?, folder };
        started.until_it_listens()?;
        Ok(started)
    }

    /// Where its socket is, as a listener's `upstream`.
    pub(super) fn upstream(&self) -> String {
        format!("unix:{}", self.folder.path().display())
    }

    fn until_it_listens(&self) -> Result<(), String> {
        let began = Instant::now();
        while UnixStream::connect(self.folder.path().join(".s.PGSQL.5432")).is_err() {
            if began.elapsed() > START_LIMIT {
                return Err(format!("PostgreSQL does not listen within {} s", START_LIMIT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Ends the server at once: nothing of it is kept.
    pub(super) fn stop(&mut self) {
        // Once it has been waited for, its number may be somebody else's.
        if !matches!(self.server.try_wait(), Ok(None)) {
            return;
        }
        // SIGQUIT is PostgreSQL's immediate shutdown: its other processes end with it and its shared memory is given back.
        let _ = Command::new("kill").args(["-QUIT", &self.server.id().to_string()]).status();
        let _ = self.server.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The folder with `initdb` and `postgres`: of the PATH, else the newest of Debian's.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    let version = |folder: &PathBuf| folder.iter().nth_back(1).and_then(|name| name.to_str()?.parse::<u32>().ok());
    debian.sort_by_key(version);
    let folders = std::env::split_paths(&path).chain(debian.into_iter().rev());
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// A program of the server; where root runs the demo, as the user `postgres`.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder).env("LC_ALL", "C");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Runs a program to its end.
fn run(command: &mut Command, input: &str) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| format!("PostgreSQL's programs: {error}");
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| said(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).map_err(|error| said(&error))?;
    }
    let mut errors = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        let _ = stderr.read_to_string(&mut errors);
    }
    let status = child.wait().map_err(|error| said(&error))?;
    if status.success() { Ok(()) } else { Err(format!("PostgreSQL: {}", errors.trim())) }
}
