//! The catalogue of a PostgreSQL server that the tests start.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::link::{Link, Seen};
use super::{Catalogues, Of, Opening, startup};
use crate::mapping::sql::catalog::{Catalog, CatalogRows};
use crate::protocol::postgres::wire::{FrameReader, Side};

/// Where Debian has it.
const BIN: &str = "/usr/lib/postgresql/15/bin";

/// A server in a temporary directory, reached by its socket there, that trusts everybody.
struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    async fn start() -> Self {
        assert!(Path::new(BIN).exists(), "{BIN} is missing: run tests/components/install.sh");
        let folder = TempDir::with_prefix("pg-").unwrap();
        let is_root = fs::metadata(folder.path()).unwrap().uid() == 0;
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        // Root may not run it: the user `postgres` does then. It ends with the thread that starts it.
        let command = |program: &str| {
            let mut command = Command::new("setpriv");
            if is_root {
                command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
            }
            command.arg("--pdeathsig=QUIT").arg(Path::new(BIN).join(program)).arg("-D").arg(folder.path().join("data"));
            command.current_dir(folder.path()).env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let made = command("initdb").args(["-N", "-U", "postgres", "-E", "UTF8"]).status().unwrap();
        assert!(made.success(), "initdb: {made}");
        let mut server = command("postgres");
        server.args(["-F", "-c", "listen_addresses=", "-c", "shared_buffers=16MB", "-k"]).arg(folder.path());
        let server = Self { process: server.spawn().unwrap(), folder };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !server.is_ready() {
            assert!(Instant::now() < deadline, "the server is not ready");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    fn is_ready(&self) -> bool {
        let pid_file = fs::read_to_string(self.folder.path().join("data/postmaster.pid"));
        pid_file.is_ok_and(|lines| lines.lines().nth(7).is_some_and(|status| status.trim() == "ready"))
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join(".s.PGSQL.5432")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once, and nothing is left in shared memory as after SIGKILL.
        let _gone = Command::new("kill").args(["-QUIT", &self.process.id().to_string()]).status();
        let _gone = self.process.wait();
    }
}

#[tokio::test]
async fn a_real_server_is_read_and_changes_are_seen() {
    let server = Server::start().await;
    let socket = server.socket();
    let open = move |of: Of| -> Opening {
        let socket = socket.clone();
        Box::pin(async move { Ok(trusted(&socket, &of).await) })
    };
    let catalogues = Catalogues::opened_by(None, Duration::ZERO, Arc::new(open.clone()));
    let mut other = open(Of { database: "postgres".into(), user: "postgres".into(), reached: None }).await.unwrap();
    let catalogue = catalogues.of("postgres", "postgres", None);
    let started = Instant::now();
    let first = catalogue.current().await.unwrap();
    println!("read in {:?}: {} relations", started.elapsed(), first.relations.len());
    assert!(first.schemas["pg_catalog"].functions.len() > 2_000);
    let started = Instant::now();
    assert!(Arc::ptr_eq(&first, &catalogue.current().await.unwrap()));
    println!("asked for the snapshot in {:?}", started.elapsed());
    other.run("CREATE TABLE seen (id int4, next int4 GENERATED ALWAYS AS (id + 1) STORED)").await;
    let second = catalogue.current().await.unwrap();
    assert!(second.schemas["public"].relations.contains_key("seen"));
    other.run("ALTER TABLE seen RENAME COLUMN id TO number").await;
    let third = catalogue.current().await.unwrap();
    let seen = third.schemas["public"].relations["seen"];
    assert_eq!(&*third.relations[&seen].columns[0].name, "number");
    other.run("CREATE TABLE other AS SELECT 1; DROP TABLE other; INSERT INTO seen VALUES (1)").await;
    let started = Instant::now();
    let fourth = catalogue.current().await.unwrap();
    println!("asked for the fingerprint in {:?}", started.elapsed());
    assert!(Arc::ptr_eq(&third, &fourth), "rows of tables are not the catalogue's");
    other.run("DROP TABLE seen; CREATE ROLE newcomer").await;
    let fifth = catalogue.current().await.unwrap();
    assert!(!fifth.schemas["public"].relations.contains_key("seen") && fifth.roles.contains_key("newcomer"));
    other.run("DROP ROLE newcomer").await;
}

/// Statements that change names, and how they are told.
const CHANGES: &[&str] = &[
    "CREATE TABLE c_t (id int4 PRIMARY KEY, next int4 GENERATED ALWAYS AS (id + 1) STORED)",
    "CREATE VIEW c_v AS SELECT t.tablename, c.id FROM pg_catalog.pg_tables t, c_t c",
    "CREATE VIEW c_i AS SELECT t FROM information_schema.tables t",
    "ALTER TABLE c_t RENAME COLUMN id TO number",
    "CREATE TABLE c_child () INHERITS (c_t)",
    "CREATE TABLE c_ref (n int4 REFERENCES c_t (number))",
    "CREATE FUNCTION pg_catalog.c_f(int4) RETURNS int4 LANGUAGE sql AS 'SELECT 1'",
    "CREATE FUNCTION c_g(c_t, OUT a text, OUT b text) LANGUAGE sql AS $$SELECT '1', '2'$$",
    "CREATE OPERATOR === (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_catalog.texteq)",
    "CREATE TYPE c_mood AS ENUM ('good'); CREATE DOMAIN c_d AS int4 CHECK (VALUE > 0)",
    "CREATE TEMP TABLE c_temp (a int4)",
    "CREATE ROLE c_role; GRANT USAGE ON SCHEMA public TO c_role",
    "ALTER FUNCTION pg_catalog.lower(text) VOLATILE",
    "ALTER FUNCTION pg_catalog.lower(text) IMMUTABLE",
    "GRANT USAGE ON SCHEMA pg_catalog TO c_role",
    "REVOKE USAGE ON SCHEMA pg_catalog FROM c_role",
    "CREATE TABLE c_bad () INHERITS (information_schema.sql_features)",
    "DROP TABLE c_bad",
    "REVOKE USAGE ON SCHEMA public FROM c_role; DROP ROLE c_role; DROP VIEW c_v, c_i; DROP DOMAIN c_d; DROP TYPE c_mood",
    "DROP OPERATOR === (text, text); DROP FUNCTION c_g; DROP FUNCTION pg_catalog.c_f; DROP TABLE c_temp, c_ref, c_child, c_t",
];

#[tokio::test]
async fn a_real_servers_changes_are_read_as_if_all_were_read() {
    let server = Server::start().await;
    let socket = server.socket();
    let of = Of { database: "postgres".into(), user: "postgres".into(), reached: None };
    let mut other = trusted(&socket, &of).await;
    let (mut link, mut fresh) = (trusted(&socket, &of).await, trusted(&socket, &of).await);
    let started = Instant::now();
    let mut seen = link.read(None).await.unwrap();
    println!("everything: {:?}", started.elapsed());
    fresh.read(None).await.unwrap();
    for change in CHANGES {
        other.run(change).await;
        let started = Instant::now();
        let now = link.read(Some(&seen)).await.unwrap();
        let took = started.elapsed();
        let before = std::mem::replace(&mut seen, now);
        let built_in = |seen: &Seen| seen.catalog.built_in().map(Arc::as_ptr);
        let kept = built_in(&seen).is_some() && built_in(&before) == built_in(&seen);
        let started = Instant::now();
        let all = fresh.read(None).await.unwrap();
        println!("{took:?} {kept}, everything {:?}: {change}", started.elapsed());
        let mut rows = CatalogRows::default();
        let texts: Vec<&str> = Catalog::QUERIES.iter().map(|(_, text)| *text).collect();
        let query = |at: usize, values: &[Option<&str>]| Ok(rows.push(Catalog::QUERIES[at].0, values)?);
        fresh
            .query(&texts.join("; "), {
                let mut query = query;
                move |at, values| query(at, values)
            })
            .await
            .unwrap();
        let at_once = Catalog::build(&rows).unwrap();
        assert!(seen.catalog.said() == all.catalog.said(), "{change}");
        assert!(seen.catalog.said() == at_once.said(), "{change}: at once");
        assert_ne!(seen.catalog.generation, before.catalog.generation, "{change}");
    }
    let same = link.read(Some(&seen)).await.unwrap();
    assert!(Arc::ptr_eq(&same.catalog, &seen.catalog));
}

impl Link {
    async fn run(&mut self, text: &str) {
        self.query(text, |_, _| Ok(())).await.unwrap();
    }
}

async fn trusted(socket: &Path, of: &Of) -> Link {
    let mut io = UnixStream::connect(socket).await.unwrap();
    io.write_all(&startup(of).to_bytes()).await.unwrap();
    let mut reader = FrameReader::new(Side::Server, BytesMut::new());
    loop {
        match reader.next().unwrap() {
            Some(frame) if frame.tag() == b'Z' => return Link::new(Box::new(io), reader.into_buffered()),
            Some(frame) => assert_ne!(frame.tag(), b'E'),
            None => assert_ne!(reader.fill(&mut io).await.unwrap(), 0),
        }
    }
}
