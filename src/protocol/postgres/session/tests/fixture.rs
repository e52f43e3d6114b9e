//! A session with a mapping that is as simple as its tests need, real policies and real records.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;

use super::super::messages;
use super::super::session::{End, Session, Step};
use super::super::setup::Setup;
use crate::audit::Audit;
use crate::config::{AuditConfig, AuditSinkConfig, Direction, OnAuditFailure, SessionCaps, SqlInRecords};
use crate::enforce::{Asker, EnforcementPoint};
use crate::identity::dev_ca::DevCa;
use crate::identity::{SpiffeId, TrustBundle, TrustBundleSet, TrustDomain, X509Generation};
use crate::mapping::sql::catalog::{Catalog, Column, Relation, RelationKind, Schema};
use crate::mapping::sql::{
    Copying, Cursor, Effects, Instead, Mapped, MappedStatement, Naming, PreparedTexts, Rewrite, SessionFacts,
    SqlRefusal, Transaction,
};
use crate::mapping::{Action, Context, Operation, Operations, Resource, Value};
use crate::policy::{PolicySource, PolicyStore};
use crate::protocol::postgres::wire::{FrameReader, Side, error_fields, frame, ready_for_query};
use crate::telemetry::ListenerMetrics;
use crate::tls::Peer;

const POLICIES: &str = r#"
@id("all") permit (principal, action, resource in Database::"wh/db") unless { resource == Table::"wh/db.public.many" };
@id("few") @max_rows("2") permit (principal, action, resource == Table::"wh/db.public.many");
@id("no-secret") forbid (principal, action, resource == Table::"wh/db.public.secret");
"#;

static PEER: LazyLock<Arc<Peer>> = LazyLock::new(|| {
    let domain = TrustDomain::parse("prod.test").unwrap();
    let hour = Duration::from_secs(3_600);
    let ca = DevCa::new(&domain, hour).unwrap();
    let minted = ca.issue(&SpiffeId::parse("spiffe://prod.test/load").unwrap(), hour).unwrap();
    let bundle = TrustBundle::from_certificates(domain, &[ca.certificate().clone()]);
    let bundles = TrustBundleSet::new([bundle]).unwrap();
    let key = minted.key().unwrap();
    Arc::new(Peer::local(&X509Generation::new(1, minted.chain.clone(), key, bundles, SystemTime::now()).unwrap()))
});

/// `VERB TABLE`, several between semicolons.
fn map(
    text: &str,
    _: &str,
    _: &Catalog,
    facts: &SessionFacts,
    prepared: &dyn PreparedTexts,
) -> Result<Mapped, SqlRefusal> {
    let mut statements = Vec::new();
    for one in text.split(';').map(str::trim).filter(|one| !one.is_empty()) {
        statements.push(statement(one, facts, prepared)?);
    }
    Ok(Mapped {
        statements,
        literals_do_not_matter: true,
        rewrites: match text.starts_with("renames") && facts.search_path.contains(&"later".into()) {
            true => vec![Rewrite { at: 0..7, instead: Instead::Value("1".into()) }],
            false => Vec::new(),
        },
        normalized: text.into(),
        fingerprint: "0".into(),
        weight: 2 * text.len(),
    })
}

fn statement(one: &str, facts: &SessionFacts, prepared: &dyn PreparedTexts) -> Result<MappedStatement, SqlRefusal> {
    let (verb, object) = one.split_once(' ').unwrap_or((one, ""));
    let mut context = Context::default();
    context.set("columns", Value::Strings(Vec::new()));
    context.set("statement", "select");
    context.set("role", &*facts.role);
    let database = || (Action::named("sql:Connect"), Resource::database("wh", "db"));
    let table = |table: &str| (Action::named("sql:Select"), Resource::table("wh", "db", "public", table));
    let (action, resource) = match verb {
        "select" | "insert" | "copyin" | "copyout" | "copycsv" | "declare" | "writes" => table(object),
        "execute" => match prepared.prepared(object) {
            Some((text, _)) => table(text.rsplit(' ').next().unwrap()),
            None => return Err(refused("26000", false)),
        },
        "prepare" => table(object.rsplit(' ').next().unwrap()),
        "later" if !facts.search_path.contains(&"later".into()) => return Err(refused("42P01", true)),
        "nonsense" => return Err(refused("42601", false)),
        _ => database(),
    };
    let first = object.split(' ').next().unwrap_or_default();
    Ok(MappedStatement {
        kind: "select",
        operations: Arc::new(Operations::one(Operation { action, resource, context })),
        effects: Effects { settings: verb == "set", names: verb == "create", anything: verb == "call" },
        transaction: match verb {
            "begin" => Transaction::Begins,
            "commit" => Transaction::Commits { chain: false },
            "rollback" => Transaction::RollsBack { chain: false },
            _ => Transaction::Stays,
        },
        naming: match verb {
            "prepare" => Naming::Prepares(first.into()),
            "execute" => Naming::Executes(object.into()),
            "deallocate" => Naming::Forgets(object.into()),
            "discard" => Naming::ForgetsAll,
            _ => Naming::None,
        },
        cursor: match verb {
            "declare" => Cursor::Declares { name: "c".into(), holds: false },
            "fetch" => Cursor::Fetches("c".into()),
            _ => Cursor::None,
        },
        copying: match verb {
            "copyin" => Some(Copying::In),
            "copyout" => Some(Copying::Out { header: false }),
            "copycsv" => Some(Copying::Out { header: true }),
            _ => None,
        },
        only_reads: matches!(verb, "select" | "copyout" | "copycsv"),
        capped: None,
    })
}

fn refused(sqlstate: &'static str, stale: bool) -> SqlRefusal {
    let rule = if sqlstate == "42601" { "syntax" } else { "test" };
    SqlRefusal { sqlstate, rule, message: "no".into(), position: Some(3), stale }
}

/// Tables with one column, in `public`.
fn catalog(generation: u64) -> Catalog {
    let mut catalog = Catalog { generation, database: "db".into(), ..Catalog::default() };
    let mut public = Schema::default();
    for (oid, name) in (1..).zip(["t", "secret", "many"]) {
        let relation = Relation {
            oid,
            schema: "public".into(),
            name: name.into(),
            kind: RelationKind::Table,
            columns: vec![Column { name: "id".into(), type_oid: 23, generated_from: Vec::new() }],
            partition_of: Vec::new(),
            inherited_by: Vec::new(),
            base: Vec::new(),
            as_caller: Vec::new(),
            referenced_by: Vec::new(),
            row_type: 0,
        };
        public.relations.insert(name.into(), oid);
        catalog.relations.insert(oid, Arc::new(relation));
    }
    catalog.schemas.insert("public".into(), Arc::new(public));
    catalog
}

/// Loaded once: that takes longer than most tests.
static STORE: LazyLock<Arc<PolicyStore>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.cedar"), POLICIES).unwrap();
    let source = PolicySource { endpoints: vec![("wh".to_owned(), "postgres")], ..PolicySource::of(directory.path()) };
    Arc::new(PolicyStore::open(source).unwrap_or_else(|errors| panic!("{}", errors.render(false))))
});

/// A session between a test's hands.
pub(super) struct Tested {
    pub(super) session: Session,
    pub(super) ended: Option<End>,
    /// How often the catalogue was asked for, and how often a newer one.
    pub(super) catalogs: (u32, u32),
    records: PathBuf,
    _directory: tempfile::TempDir,
}

impl Tested {
    /// A session whose facts have not been asked yet.
    pub(super) fn raw() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let records = directory.path().join("audit.jsonl");
        Self::recorded_in(directory, records)
    }

    /// A session that is ready, and whose records cannot be written.
    pub(super) fn on_a_full_disk() -> Self {
        let mut tested = Self::recorded_in(tempfile::tempdir().unwrap(), "/dev/full".into());
        tested.answer_facts(&["public", "none", "app", "on", "UTF8"]);
        assert_eq!(tested.at_client(), ["Z"], "the first ReadyForQuery");
        tested
    }

    fn recorded_in(directory: tempfile::TempDir, records: PathBuf) -> Self {
        let audit = Audit::open(&AuditConfig {
            sink: AuditSinkConfig::File(records.clone()),
            on_failure: OnAuditFailure::Refuse,
            sample_allowed: 1.0,
        });
        let point = Arc::new(EnforcementPoint {
            flips: Arc::default(),
            denials: Arc::default(),
            listener: "wh".into(),
            direction: Direction::Inbound,
            protocol: "postgres",
            upstream: "server".into(),
            policies: Arc::clone(&STORE),
            audit: Arc::new(audit.unwrap()),
            on_audit_failure: OnAuditFailure::Refuse,
            metrics: ListenerMetrics::new("wh", "inbound"),
        });
        let setup = Setup {
            endpoint: "wh".into(),
            point,
            asker: Arc::new(Asker::new(Arc::clone(&PEER), None)),
            session: "s1".into(),
            sql: SqlInRecords::Full,
            statement_bytes: 1_000,
            message_bytes: 100_000,
            utf8_server: true,
            caps: SessionCaps::default(),
            catalog_max_age: Duration::from_secs(60),
            replicates: false,
            map,
            safe_key: |_| None,
            reads_in_session: false,
        };
        let mut ready = BytesMut::new();
        ready_for_query(&mut ready, b'I');
        let none = BytesMut::new;
        let session = Session::new(Arc::new(setup), none(), none(), ready.freeze(), Instant::now());
        Self { session, ended: None, catalogs: (0, 0), records, _directory: directory }
    }

    /// A session that is ready.
    pub(super) fn ready() -> Self {
        let mut tested = Self::raw();
        tested.answer_facts(&["public", "none", "app", "on", "UTF8"]);
        assert_eq!(tested.at_client(), ["Z"], "the first ReadyForQuery");
        tested
    }

    /// The server answers the proxy's own question.
    pub(super) fn answer_facts(&mut self, values: &[&str]) {
        let asked = self.at_server();
        let synced = asked.last().is_some_and(|last| last == "S");
        let mut answer = BytesMut::new();
        for value in values {
            own_answer(&mut answer, value);
        }
        for _ in values.len()..asked.iter().filter(|tag| *tag == "E").count() {
            own_answer(&mut answer, "");
        }
        if synced {
            ready_for_query(&mut answer, b'I');
        }
        self.server(&answer);
    }

    /// What its driver does whenever something has come.
    pub(super) fn advance(&mut self) {
        self.walk();
        if let Err(end) = self.session.write_records() {
            self.session.end(end.clone());
            self.ended = Some(end);
        }
    }

    fn walk(&mut self) {
        while self.ended.is_none() {
            match self.session.advance(Instant::now()) {
                Step::Wait => return,
                Step::Catalog { newest } => {
                    let generation = u64::from(self.catalogs.0) + u64::from(self.catalogs.1) + 1;
                    if newest {
                        self.catalogs.1 += 1
                    } else {
                        self.catalogs.0 += 1
                    }
                    let catalog = Arc::new(catalog(generation));
                    self.session.catalog_arrived(catalog, Instant::now() + Duration::from_secs(60), newest);
                }
                Step::End(end) => self.ended = Some(end),
            }
        }
    }

    pub(super) fn client(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.session.from_client.fill(&mut bytes).now_or_never().unwrap().unwrap();
        }
        self.advance();
    }

    pub(super) fn server(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            self.session.from_server.fill(&mut bytes).now_or_never().unwrap().unwrap();
        }
        self.advance();
    }

    /// What has gone to the client: types of messages, errors with their SQLSTATE.
    pub(super) fn at_client(&mut self) -> Vec<String> {
        tags(Side::Server, &self.session.to_client.take())
    }

    /// What has gone to the server.
    pub(super) fn at_server(&mut self) -> Vec<String> {
        tags(Side::Client { message_bytes: 1 << 20 }, &self.session.to_server.take())
    }

    /// The poison among the bytes for the server.
    pub(super) fn poison(&mut self) -> String {
        let bytes = self.session.to_server.take();
        let text = String::from_utf8_lossy(&bytes);
        let at = text.find("portcullis ").unwrap_or_else(|| panic!("no poison in {text:?}"));
        text.chars().skip(text.get(..at).unwrap().chars().count()).take(54).collect()
    }

    /// The records: outcome, command or SQLSTATE or error.
    pub(super) fn records(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(&self.records).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let told = |record: serde_json::Value| {
            let word = |value: &serde_json::Value| value.as_str().map(str::to_owned);
            let sql = &record["sql"];
            let end = word(&sql["sqlstate"]).or_else(|| word(&sql["command"])).or_else(|| word(&record["error"]));
            (word(&record["outcome"]).unwrap(), end.unwrap_or_default())
        };
        lines.map(told).collect()
    }
}

pub(super) fn tags(side: Side, bytes: &[u8]) -> Vec<String> {
    let mut reader = FrameReader::new(side, BytesMut::from(bytes));
    let mut tags = Vec::new();
    while let Some(frame) = reader.next().unwrap() {
        let sqlstate = || error_fields(frame.body()).find(|(code, _)| *code == b'C').map(|(_, value)| value.to_vec());
        tags.push(match (side, frame.tag()) {
            (Side::Server, b'E') => format!("E{}", String::from_utf8(sqlstate().unwrap()).unwrap()),
            (_, tag) => char::from(tag).to_string(),
        });
    }
    assert!(reader.buffered().is_empty(), "half a message was written");
    tags
}

/// The answer to one question of the proxy's own.
pub(super) fn own_answer(out: &mut BytesMut, value: &str) {
    say(out, "12");
    data_row(out, value);
    complete(out, "SHOW");
    say(out, "33");
}

pub(super) fn data_row(out: &mut BytesMut, value: &str) {
    frame(out, b'D', |out| {
        out.extend_from_slice(&1_u16.to_be_bytes());
        out.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    });
}

pub(super) fn complete(out: &mut BytesMut, tag: &str) {
    frame(out, b'C', |out| {
        out.extend_from_slice(tag.as_bytes());
        out.extend_from_slice(b"\0");
    });
}

/// Messages without a body that matters, by their types.
pub(super) fn say(out: &mut BytesMut, tags: &str) {
    for tag in tags.bytes() {
        frame(out, tag, |_| ());
    }
}

pub(super) fn error(out: &mut BytesMut, sqlstate: &str, message: &str) {
    frame(out, b'E', |out| {
        out.extend_from_slice(format!("SERROR\0VERROR\0C{sqlstate}\0M{message}\0Drow (1, 123-45)\0\0").as_bytes());
    });
}

/// Bytes that `write` writes.
pub(super) fn bytes(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}

pub(super) fn query(text: &str) -> Bytes {
    bytes(|out| messages::put_query(out, text))
}

/// Parse, Bind, Execute of the unnamed statement.
pub(super) fn extended(text: &str) -> Bytes {
    bytes(|out| {
        messages::put_parse(out, b"", text);
        messages::put_bind(out, b"", b"");
        messages::put_execute(out, b"", 0);
    })
}

pub(super) fn bare(tags: &str) -> Bytes {
    bytes(|out| tags.bytes().for_each(|tag| messages::put_bare(out, tag)))
}

/// What a server says to a Query that succeeds.
pub(super) fn done(status: u8) -> Bytes {
    bytes(|out| {
        complete(out, "SELECT 0");
        ready_for_query(out, status);
    })
}
