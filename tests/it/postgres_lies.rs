//! A server that lies: frames that are none, answers to nothing, facts that are not so. The session ends with SQLSTATE 08P01, or goes on and
//! is judged as before; nothing hangs, nobody else notices, every statement has a record.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::support::pg_wire::*;
use crate::support::*;

const GUARDED: &str = r#"
@id("all") permit (principal, action, resource);
@id("no-ssn") forbid (principal, action == Action::"sql:Select", resource == Table::"wh/analytics.public.people")
  when { context.columns.contains("ssn") };
"#;

/// Between the proxy and a real server: passes everything on, but for a Query that holds `lie NUMBER`, which it answers itself.
struct Liar {
    address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Liar {
    async fn before(server: SocketAddr, lies: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("is bound");
        let lies = Arc::new(lies);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let lies = Arc::clone(&lies);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(server).await else { return };
                    client.set_nodelay(true).expect("is TCP");
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
                    let answers = tokio::spawn(pass(from_server, Arc::clone(&to_client)));
                    let _ends = asked(from_client, to_server, to_client, &lies).await;
                    answers.abort();
                });
            }
        });
        Self { address, task }
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(mut from: OwnedReadHalf, to: Arc<tokio::sync::Mutex<OwnedWriteHalf>>) {
    let mut chunk = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        if to.lock().await.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
    let _gone = to.lock().await.shutdown().await;
}

/// What the proxy asks, message by message. An empty lie ends the connection; one that ends in `CLOSE` ends it behind its bytes.
async fn asked(
    mut from: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    client: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    lies: &[Vec<u8>],
) -> std::io::Result<()> {
    let length = from.read_u32().await?;
    let mut startup = vec![0; length as usize - 4];
    from.read_exact(&mut startup).await?;
    server.write_all(&[&length.to_be_bytes()[..], &startup].concat()).await?;
    loop {
        let (tag, length) = (from.read_u8().await?, from.read_u32().await?);
        let mut body = vec![0; length as usize - 4];
        from.read_exact(&mut body).await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let lie = text.split("'lie ").nth(1).and_then(|rest| rest.split('\'').next()?.parse::<usize>().ok());
        match lie.filter(|_| tag == b'Q') {
            Some(lie) => {
                let bytes = lies[lie].strip_suffix(b"CLOSE").unwrap_or(&lies[lie]);
                client.lock().await.write_all(bytes).await?;
                if bytes.len() < lies[lie].len() {
                    client.lock().await.shutdown().await?;
                    return Ok(());
                }
            }
            None => server.write_all(&[&[tag][..], &length.to_be_bytes(), &body].concat()).await?,
        }
    }
}

fn z(status: u8) -> Vec<u8> {
    frame(b'Z', [status])
}

fn complete() -> Vec<u8> {
    frame(b'C', b"SELECT 1\0")
}

fn row(value: &str) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("is short").to_be_bytes();
    frame(b'D', [&[0, 1][..], &length, value.as_bytes()].concat())
}

/// What becomes of the session.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Becomes {
    /// The client is told FATAL with this SQLSTATE.
    Ends(&'static str),
    /// It ends in the middle of a message: there is no room for words.
    Cut,
    /// It goes on.
    GoesOn,
}

fn lies() -> Vec<(&'static str, Vec<u8>, Becomes)> {
    use Becomes::{Cut, Ends, GoesOn};
    let parameter =
        |name: &str, value: &str| [frame(b'S', format!("{name}\0{value}\0")), row("x"), complete(), z(b'I')].concat();
    let error = |fields: &[u8]| [frame(b'E', fields), z(b'I')].concat();
    vec![
        ("a frame that is cut", [&row("x")[..], b"D\0\0\0\x64abcCLOSE"].concat(), Cut),
        ("a head that is cut", [&row("x")[..], b"C\0\0CLOSE"].concat(), Ends("08006")),
        ("the end at once", b"CLOSE".to_vec(), Ends("08006")),
        ("a length below four", vec![b'C', 0, 0, 0, 3], Ends("08P01")),
        ("a length with its sign bit", vec![b'Z', 0xff, 0xff, 0xff, 0xff, b'I'], Ends("08P01")),
        ("a ReadyForQuery of a gigabyte", vec![b'Z', 0x3f, 0xff, 0xff, 0xff, b'I'], Ends("08P01")),
        ("an unknown message", frame(b'!', b""), Ends("08P01")),
        ("a client's message", frame(b'Q', b"SELECT 1\0"), Ends("08P01")),
        ("AuthenticationOk", frame(b'R', [0, 0, 0, 0]), Ends("08P01")),
        ("a password is asked", frame(b'R', [0, 0, 0, 3]), Ends("08P01")),
        ("another key", frame(b'K', [0, 0, 0, 1, 0, 0, 0, 2]), Ends("08P01")),
        ("another protocol", frame(b'v', [0, 3, 0, 0, 0, 0, 0, 0]), Ends("08P01")),
        ("ParseComplete", frame(b'1', b""), Ends("08P01")),
        ("BindComplete", frame(b'2', b""), Ends("08P01")),
        ("CloseComplete", frame(b'3', b""), Ends("08P01")),
        ("CopyBothResponse", frame(b'W', [0, 0, 0]), Ends("08P01")),
        ("two ReadyForQuery", [row("x"), complete(), z(b'I'), z(b'I')].concat(), Ends("08P01")),
        ("a row behind ReadyForQuery", [row("x"), complete(), z(b'I'), row("behind")].concat(), Ends("08P01")),
        ("COPY data behind ReadyForQuery", [complete(), z(b'I'), copy_data("behind")].concat(), Ends("08P01")),
        ("an answer behind ReadyForQuery", [complete(), z(b'I'), complete()].concat(), Ends("08P01")),
        ("ReadyForQuery too early", [z(b'I'), row("behind"), complete(), z(b'I')].concat(), Ends("08P01")),
        ("no row description", [row("x"), complete(), z(b'I')].concat(), GoesOn),
        ("no outcome", z(b'I'), GoesOn),
        ("an unknown status", [complete(), z(b'?')].concat(), Ends("08P01")),
        ("no status", [complete(), frame(b'Z', b"")].concat(), Ends("08P01")),
        ("many outcomes", [complete(), complete(), complete(), z(b'I')].concat(), GoesOn),
        ("an error without fields", error(b""), GoesOn),
        ("an error without end", error(b"SERROR"), GoesOn),
        ("an error without SQLSTATE", error(b"SERROR\0VERROR\0Mlie\0\0"), GoesOn),
        ("an error of bytes", error(b"SERROR\0VERROR\0CXX000\0M\xff\xfe\x01\0\x7f\xff\0\0"), GoesOn),
        ("a long error", error(&[b"SERROR\0VERROR\0C22000\0M", &vec![b'x'; 1_000_000][..], b"\0\0"].concat()), GoesOn),
        ("strings are read otherwise", parameter("standard_conforming_strings", "off"), Ends("0A000")),
        ("another encoding", parameter("client_encoding", "SJIS"), GoesOn),
        ("another path", parameter("search_path", "pg_temp"), GoesOn),
        ("another role", parameter("session_authorization", "postgres"), GoesOn),
        ("a superuser", parameter("is_superuser", "on"), GoesOn),
        ("a parameter without end", [frame(b'S', b"client_encoding"), complete(), z(b'I')].concat(), GoesOn),
        ("a notice without end", [frame(b'N', b"SNOTICE"), complete(), z(b'I')].concat(), GoesOn),
        ("CopyInResponse", [frame(b'G', [0, 0, 0]), complete(), z(b'I')].concat(), GoesOn),
        (
            "CopyOutResponse",
            [frame(b'H', [0, 0, 0]), copy_data("y"), frame(b'c', b""), complete(), z(b'I')].concat(),
            GoesOn,
        ),
    ]
}

#[tokio::test]
async fn a_server_that_lies_ends_its_own_session_at_most() {
    let world = World::new();
    let server = PgServer::start().await;
    let cases = lies();
    let liar = Liar::before(server.address(), cases.iter().map(|(_, bytes, _)| bytes.clone()).collect()).await;
    let house = world.warehouse_before(server, &liar.address.to_string(), GUARDED, AS_ADMIN).await;
    let mut bystander = house.session().await;
    for (number, (what, _, becomes)) in cases.iter().enumerate() {
        let mut wire = house.session().await;
        let text = format!("SELECT 'lie {number}'");
        wire.send(query(&text)).await;
        let told = match becomes {
            Becomes::Cut => wire.end().await,
            Becomes::Ends(sqlstate) => {
                let told = wire.rest().await;
                let error = told.errors.last().unwrap_or_else(|| panic!("{what}: {told:#?}"));
                assert_eq!((error.severity(), error.sqlstate()), ("FATAL", *sqlstate), "{what}: {told:#?}");
                format!("{told:?}").into_bytes()
            }
            Becomes::GoesOn => {
                let told = wire.reply().await;
                assert_ne!(told.status, '-', "{what}: {told:#?}");
                // In step: the next statement has its own answer, and is judged as ever.
                let reply = wire.query("SELECT ssn FROM people").await;
                assert_eq!((reply.error().sqlstate(), reply.status), ("42501", 'I'), "{what}: {reply:#?}");
                let record = house.inbound.records.of_decision(&reply.error().decision_id()).await;
                assert_eq!(record["outcome"], "forbidden", "{what}: {record:#}");
                assert_eq!(wire.query("SELECT name FROM people WHERE id = 1").await.value(), "Ada", "{what}");
                wire.terminate().await;
                format!("{told:?}").into_bytes()
            }
        };
        let told = String::from_utf8_lossy(&told);
        assert!(!told.contains("123-45") && !told.contains("behind"), "{what}: {told}");
        assert_eq!(bystander.query("SELECT 'untouched'").await.value(), "untouched", "{what}");
    }
    bystander.terminate().await;
    let Warehouse { outbound, inbound, server } = house;
    outbound.stop().await;
    let records = inbound.stop().await.all();
    let lied = records.iter().filter(|record| {
        record["kind"] == "request" && record["sql"]["text"].as_str().is_some_and(|text| text == "SELECT $1")
    });
    assert!(lied.count() >= cases.len(), "each lie has a record");
    server.sessions_end().await;
}
