//! The adversarial table: hundreds of SQL texts, each with exactly what it must ask or the refusal it must get, tried on a real
//! server through two sidecars.
//!
//! Three things are held for each text: what is asked is what the table says; whichever of its operations is forbidden, the client
//! gets no row and the database stays as it was; and whatever PostgreSQL's own planner names was asked about.

mod beside;
mod case;
mod denials;
mod mapping;
mod plans;
mod privileges;
mod protocols;
mod records;
mod wire;

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use crate::support::*;
use case::{Answer, Case, Protocol};
use records::{Tail, asked, written};
use wire::{Came, Session};

const DATABASE: &str = "adversary";
const USER: &str = "postgres";

/// A server with the fixture and a pair of sidecars before it.
struct Warehouse {
    server: PgServer,
    pair: Pair,
    _world: World,
}

impl Warehouse {
    async fn start(policies: &str) -> Self {
        Self::start_with(policies, "").await
    }

    /// The same with further YAML for the inbound listener.
    async fn start_with(policies: &str, yaml: &str) -> Self {
        let server = server().await;
        let world = World::new();
        // Clients choose their role: a policy can be about one of many.
        let options = "role: passthrough\ncatalog:\n  user: postgres\n";
        let inbound = world.sidecar("service").policies(policies);
        let options = format!("{options}{yaml}");
        let inbound = inbound.inbound("wh", "postgres", &server.url(), &options).start().await;
        let outbound = world.sidecar("app").policies(ALLOW_ALL);
        let to = inbound.inbound("wh").to_string();
        let outbound = outbound.outbound("wh", "postgres", &to, &world.id("service"), "").start().await;
        Self { server, pair: Pair { outbound, inbound }, _world: world }
    }

    fn address(&self) -> SocketAddr {
        self.pair.outbound.outbound("wh")
    }

    fn tail(&self) -> Tail {
        Tail::of(&self.pair.inbound.directory().join("audit.jsonl"))
    }

    /// A session through both sidecars, as far as the case's own text.
    async fn session(&self, case: &Case) -> Session {
        self.session_as(USER, case.options.as_deref()).await
    }

    async fn session_as(&self, role: &str, options: Option<&str>) -> Session {
        Session::open(self.address(), role, DATABASE, options).await
    }

    async fn direct(&self) -> Session {
        Session::open(self.server.address(), USER, DATABASE, None).await
    }
}

/// A server with the database of the table.
async fn server() -> PgServer {
    let server = PgServer::start().await;
    let mut session = Session::open(server.address(), USER, "postgres", None).await;
    let made = session.run(&format!("CREATE DATABASE {DATABASE}"), Protocol::Simple).await;
    assert!(made.error.is_none(), "{made:?}");
    let mut session = Session::open(server.address(), USER, DATABASE, None).await;
    let filled = session.run(include_str!("fixture.sql"), Protocol::Simple).await;
    assert!(filled.error.is_none(), "{filled:?}");
    server
}

/// Runs what stands before a case's own text. The first error, if any.
async fn prepare(session: &mut Session, case: &Case, in_transaction: bool) -> Option<Came> {
    let begin = (in_transaction && !case.alone).then_some("BEGIN");
    for text in begin.into_iter().chain(case.first.iter().map(String::as_str)) {
        let came = session.run(text, Protocol::Simple).await;
        if came.error.is_some() {
            return Some(came);
        }
    }
    None
}

#[tokio::test]
async fn every_text_is_one_that_the_server_takes() {
    let server = server().await;
    let mut wrong = String::new();
    for case in case::all() {
        let takes = matches!(case.answer, Answer::Asks(_));
        for protocol in case.protocols() {
            let mut session = Session::open(server.address(), USER, DATABASE, case.options.as_deref()).await;
            if let Some(came) = prepare(&mut session, &case, true).await {
                let _ = writeln!(wrong, "{}: before `{}`: {:?}", case.at, case.text, came.error);
                continue;
            }
            let came = session.run(&case.text, *protocol).await;
            let fine = came.error.is_none() || !takes || case.may_fail.iter().any(|code| code == came.code());
            if !fine {
                let _ = writeln!(wrong, "{}: {protocol:?} `{}`: {:?}", case.at, case.text, came.error);
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn the_mapping_finds_exactly_what_the_table_says() {
    let server = server().await;
    let mut direct = Session::open(server.address(), USER, DATABASE, None).await;
    let at_rest = mapping::catalogue(&mut direct).await;
    let mut wrong = String::new();
    for case in case::all().into_iter().filter(|case| case.only != Some(Protocol::Extended)) {
        let mut session = Session::open(server.address(), USER, DATABASE, case.options.as_deref()).await;
        if let Some(came) = prepare(&mut session, &case, true).await {
            let _ = writeln!(wrong, "{}: before `{}`: {:?}", case.at, case.text, came.error);
            continue;
        }
        let defines = case.first.iter().any(|text| text.starts_with("CREATE") || text.starts_with("ALTER"));
        let own = if defines { Some(mapping::catalogue(&mut session).await) } else { None };
        let fault = match mapping::mapped(&mut session, own.as_ref().unwrap_or(&at_rest), &case).await {
            Ok(asked) if case.is_answered_by(&asked) => continue,
            Ok(asked) => format!("asked {}", written(&asked)),
            Err(refusal) if case.is_refused_with(refusal.sqlstate) => continue,
            Err(refusal) => format!("refused: {refusal:?}"),
        };
        let _ = writeln!(wrong, "{}: `{}`\n    {fault}", case.at, case.text);
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[tokio::test]
async fn every_text_asks_exactly_what_the_table_says() {
    let warehouse = Warehouse::start(ALLOW_ALL).await;
    let mut tail = warehouse.tail();
    let mut wrong = String::new();
    for case in case::all() {
        let mut both = Vec::new();
        for protocol in case.protocols() {
            let mut session = warehouse.session(&case).await;
            if let Some(came) = prepare(&mut session, &case, true).await {
                let _ = writeln!(wrong, "{} {protocol:?}: before `{}`: {:?}", case.at, case.text, came.error);
                continue;
            }
            let _before = tail.statements();
            let came = session.run(&case.text, *protocol).await;
            let records = tail.statements();
            if let Some(fault) = judged(&case, &came, &records) {
                let _ = writeln!(wrong, "{} {protocol:?}: `{}`\n    {fault}", case.at, case.text);
            }
            let refused = records.iter().any(|record| record["outcome"] == "refused");
            both.push(if refused { Err(came.code().to_owned()) } else { Ok(asked(&records)) });
        }
        if both.windows(2).any(|both| both[0] != both[1]) {
            let _ = writeln!(wrong, "{}: `{}` by the two protocols: {both:?}", case.at, case.text);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// What is wrong with how a case was judged under a policy that permits all.
fn judged(case: &Case, came: &Came, records: &[Value]) -> Option<String> {
    let refused = records.iter().any(|record| record["outcome"] == "refused");
    if refused {
        let rows = came.rows.len() + came.copied;
        if rows > 0 {
            return Some(format!("refused, but {rows} rows came"));
        }
        let fine = case.is_refused_with(came.code());
        return (!fine).then(|| format!("refused: {:?}", came.error));
    }
    let asked = asked(records);
    if !case.is_answered_by(&asked) {
        return Some(format!("asked {}, error {:?}", written(&asked), came.error));
    }
    let fine = came.error.is_none() || case.may_fail.iter().any(|code| code == came.code());
    (!fine).then(|| format!("judged right, but failed: {:?}", came.error))
}
