//! A client that sends exactly what a case says and reports everything that comes back.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::case::Protocol;
use crate::support::within;

/// One session.
#[derive(Debug)]
pub(super) struct Session {
    stream: TcpStream,
    extended: bool,
}

/// What came back for a text.
#[derive(Debug, Default)]
pub(super) struct Came {
    pub(super) rows: Vec<Vec<Option<String>>>,
    pub(super) error: Option<Fault>,
    /// Bytes of COPY data.
    pub(super) copied: usize,
    /// Command tags.
    pub(super) commands: Vec<String>,
    /// What the server said besides.
    pub(super) notices: Vec<Fault>,
}

/// An ErrorResponse.
#[derive(Debug, Clone, Default)]
pub(super) struct Fault {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) detail: String,
}

impl Came {
    /// The SQLSTATE; empty without an error.
    pub(super) fn code(&self) -> &str {
        self.error.as_ref().map_or("", |fault| &fault.code)
    }
}

impl Session {
    /// Logs in without a password. `options` as in `-c search_path=traps`.
    pub(super) async fn open(to: SocketAddr, user: &str, database: &str, options: Option<&str>) -> Self {
        let stream = within("the server to accept", TcpStream::connect(to)).await.expect("it listens");
        stream.set_nodelay(true).expect("a TCP stream");
        let mut session = Self { stream, extended: false };
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        for (name, value) in [("user", user), ("database", database), ("options", options.unwrap_or("-c jit=off"))] {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        let length = i32::try_from(body.len() + 4).expect("short").to_be_bytes();
        session.send(&[&length[..], &body].concat()).await;
        let came = session.answer().await;
        assert!(came.error.is_none(), "no login: {came:?}");
        session
    }

    /// Runs a text by one of the two protocols.
    pub(super) async fn run(&mut self, text: &str, protocol: Protocol) -> Came {
        self.extended = protocol == Protocol::Extended;
        match protocol {
            Protocol::Simple => self.send(&message(b'Q', &[text.as_bytes(), b"\0"])).await,
            Protocol::Extended => {
                let parse = message(b'P', &[b"\0", text.as_bytes(), b"\0\0\0"]);
                let bind = message(b'B', &[b"\0\0\0\0\0\0\0\0"]);
                let execute = message(b'E', &[b"\0\0\0\0\0"]);
                self.send(&[parse, bind, execute, message(b'S', &[])].concat()).await;
            }
        }
        let what = format!("the answer to `{text}`");
        within(&what, self.answer()).await
    }

    /// Has a text analyzed, and nothing run.
    pub(super) async fn analyze(&mut self, text: &str) -> Came {
        self.extended = true;
        let parse = message(b'P', &[b"\0", text.as_bytes(), b"\0\0\0"]);
        self.send(&[parse, message(b'S', &[])].concat()).await;
        within(&format!("the analysis of `{text}`"), self.answer()).await
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection is open");
    }

    /// Everything up to ReadyForQuery.
    async fn answer(&mut self) -> Came {
        let mut came = Came::default();
        loop {
            let Some((tag, body)) = self.frame().await else {
                assert!(came.error.is_some(), "the connection was closed without a word");
                return came;
            };
            match tag {
                b'D' => came.rows.push(columns(&body)),
                b'd' => came.copied += body.len(),
                b'C' => came.commands.push(zero_ended(&body)),
                // COPY FROM STDIN of nothing. While it waited for data, the server has passed over the Sync.
                b'G' if self.extended => self.send(&[message(b'c', &[]), message(b'S', &[])].concat()).await,
                b'G' => self.send(&message(b'c', &[])).await,
                b'E' => came.error = came.error.or(Some(fault(&body))),
                b'N' => came.notices.push(fault(&body)),
                b'Z' => return came,
                _ => {}
            }
        }
    }

    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let tag = self.stream.read_u8().await.ok()?;
        let length = usize::try_from(self.stream.read_i32().await.ok()?).ok()?.checked_sub(4)?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await.ok()?;
        Some((tag, body))
    }
}

fn message(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let length = i32::try_from(body.len() + 4).expect("short").to_be_bytes();
    [&[tag], &length[..], &body].concat()
}

fn zero_ended(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The columns of a DataRow as text.
fn columns(body: &[u8]) -> Vec<Option<String>> {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        // -1 is NULL.
        let length = usize::try_from(i32::from_be_bytes(*length)).ok();
        columns.push(length.map(|length| String::from_utf8_lossy(&after[..length]).into_owned()));
        rest = &after[length.unwrap_or(0)..];
    }
    columns
}

fn fault(body: &[u8]) -> Fault {
    let mut fault = Fault::default();
    let mut rest = body;
    while let Some((field, after)) = rest.split_first().filter(|(field, _)| **field != 0) {
        let text = zero_ended(after);
        rest = &after[text.len().min(after.len())..];
        rest = rest.split_first().map_or(rest, |(_, rest)| rest);
        match field {
            b'C' => fault.code = text,
            b'M' => fault.message = text,
            b'D' => fault.detail = text,
            _ => {}
        }
    }
    fault
}
