//! PostgreSQL's own regression SQL as superuser with everything permitted: what psql shows differs from a direct run only in the files
//! listed, each for a reason.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Deserialize;
use tempfile::TempDir;

use crate::support::*;

/// Far above the two minutes that it takes.
const LONGEST: Duration = Duration::from_secs(20 * 60);

/// What `postgres_regress.py` found.
#[derive(Debug, Deserialize)]
struct Compared {
    ran: Vec<String>,
    /// How many lines differ; 0 where only the words of errors do.
    differ: BTreeMap<String, usize>,
    hung: Vec<String>,
}

#[tokio::test]
async fn the_regression_sql_of_postgresql_differs_only_where_it_is_known_to() {
    let world = World::new();
    let direct = server().await;
    let passed = world.warehouse_with_server(server().await, "").await;
    let folder = TempDir::with_prefix("regress-").expect("the temporary folder is writable");
    let compared = compare(direct.address(), passed.address(), &folder).await;
    if let Ok(kept) = std::env::var("PORTCULLIS_REGRESS_OUT") {
        let copied = std::process::Command::new("cp").arg("-r").arg(folder.path()).arg(&kept).status();
        assert!(copied.is_ok_and(|status| status.success()), "cannot copy the outputs to {kept}");
    }
    let all = std::env::var_os("PORTCULLIS_REGRESS_ONLY").is_none();
    assert!(!all || compared.ran.len() > 200, "only {} files ran", compared.ran.len());
    assert!(compared.hung.is_empty(), "{:?} did not end", compared.hung);
    let listed = listed();
    let more = |(file, lines): &(&String, &usize)| listed.get(*file).is_none_or(|listed| **lines > listed.lines);
    let unexpected: BTreeMap<_, _> = compared.differ.iter().filter(more).collect();
    let ran = listed.keys().filter(|file| compared.ran.contains(file));
    let equal: Vec<_> = ran.filter(|file| !compared.differ.contains_key(*file)).collect();
    for file in unexpected.keys() {
        let diff = std::fs::read_to_string(folder.path().join(format!("{file}.diff"))).unwrap_or_default();
        eprintln!("--- {file}\n{}", diff.lines().take(60).collect::<Vec<_>>().join("\n"));
    }
    assert!(unexpected.is_empty(), "{unexpected:?} differ in more lines than postgres_regression.txt lists");
    assert!(equal.is_empty(), "{equal:?} do not differ any more: take them off postgres_regression.txt");
    passed.stop().await;
}

/// A server with the settings of pg_regress, and an empty database.
async fn server() -> PgServer {
    let plan = PgPlan::new().setting("max_prepared_transactions", "2").setting("autovacuum", "off");
    let server = plan.setting("log_statement", "none").start().await;
    server.sql("CREATE DATABASE regression TEMPLATE template0").await;
    for setting in
        ["lc_messages = 'C'", "lc_monetary = 'C'", "lc_numeric = 'C'", "lc_time = 'C'", "bytea_output = 'hex'"]
    {
        server.sql(&format!("ALTER DATABASE regression SET {setting}")).await;
    }
    server.sql("ALTER DATABASE regression SET timezone_abbreviations = 'Default'").await;
    server
}

async fn compare(direct: SocketAddr, through: SocketAddr, out: &TempDir) -> Compared {
    let source = components().join("postgres-regress");
    assert!(source.join("sql").exists(), "{} is missing: run tests/components/install.sh", source.display());
    let mut command = python("postgres_regress.py");
    command.args(["--user", "postgres", "--direct", &direct.to_string(), "--through", &through.to_string()]);
    command.arg("--source").arg(&source).arg("--out").arg(out.path());
    if let Ok(only) = std::env::var("PORTCULLIS_REGRESS_ONLY") {
        command.args(["--only", &only]);
    }
    let mut process = Process::spawn("postgres_regress.py", &mut command);
    let started = Instant::now();
    while process.is_running() {
        assert!(started.elapsed() < LONGEST, "the regression SQL did not end");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let answer = process.stdout.text().await;
    std::fs::write(out.path().join("compared.json"), &answer).expect("the temporary folder is writable");
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// A file that may differ.
struct Listed {
    /// In how many lines, beside the words of errors.
    lines: usize,
}

/// The files that may differ, one a line: `FILE words` where only the words of errors do, `FILE LINES: REASON` where more does.
fn listed() -> BTreeMap<String, Listed> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/postgres_regression.txt");
    let text = std::fs::read_to_string(&path).expect("the list is there");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (file, rest) = line.split_once(' ').unwrap_or_else(|| panic!("only a name: {line}"));
            let lines = match rest.split_once(": ") {
                None if rest == "words" => 0,
                Some((lines, reason)) if !reason.is_empty() => lines.parse().expect(line),
                _ => panic!("no reason: {line}"),
            };
            (file.to_owned(), Listed { lines })
        })
        .collect()
}
