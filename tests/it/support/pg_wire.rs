//! A PostgreSQL client that can break every rule: frames of any kind in any order over any stream, replies as they came.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::postgres::Row;
use super::{DATABASE, within};

/// The version number of a startup packet: protocol 3.0.
pub(crate) const PROTOCOL_3: u32 = 0x0003_0000;
/// The codes that stand in place of a version (PostgreSQL, `src/include/libpq/pqcomm.h`).
pub(crate) const SSL_REQUEST: u32 = 80_877_103;
pub(crate) const GSSENC_REQUEST: u32 = 80_877_104;
pub(crate) const CANCEL_REQUEST: u32 = 80_877_102;

/// What carries a session.
pub(crate) trait Carrier: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Carrier for S {}

/// One message of the server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PgFrame {
    pub(crate) tag: u8,
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for PgFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", char::from(self.tag), self.body.escape_ascii())
    }
}

/// An ErrorResponse or NoticeResponse by its fields' letters.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PgError(BTreeMap<char, String>);

impl PgError {
    fn of(body: &[u8]) -> Self {
        let fields = body.split(|byte| *byte == 0).filter(|field| !field.is_empty());
        let field = |field: &[u8]| (char::from(field[0]), String::from_utf8_lossy(&field[1..]).into_owned());
        Self(fields.map(field).collect())
    }

    /// A field by its letter (PostgreSQL, 55.8), empty if it is not there.
    pub(crate) fn field(&self, letter: char) -> &str {
        self.0.get(&letter).map_or("", String::as_str)
    }

    pub(crate) fn severity(&self) -> &str {
        self.field('S')
    }

    pub(crate) fn sqlstate(&self) -> &str {
        self.field('C')
    }

    pub(crate) fn message(&self) -> &str {
        self.field('M')
    }

    pub(crate) fn detail(&self) -> &str {
        self.field('D')
    }

    /// The decision id in DETAIL.
    pub(crate) fn decision_id(&self) -> String {
        decision_id(self.detail())
    }
}

impl fmt::Debug for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The decision id that a text holds: the last word of DETAIL.
pub(crate) fn decision_id(text: &str) -> String {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let id = words.rfind(|word| word.len() == 26);
    id.unwrap_or_else(|| panic!("no decision id in `{text}`")).to_owned()
}

/// What came up to ReadyForQuery.
#[derive(Debug, Clone, Default)]
pub(crate) struct PgReply {
    pub(crate) frames: Vec<PgFrame>,
    pub(crate) rows: Vec<Row>,
    /// Command tags.
    pub(crate) tags: Vec<String>,
    pub(crate) errors: Vec<PgError>,
    pub(crate) notices: Vec<PgError>,
    /// COPY data, joined.
    pub(crate) copied: Vec<u8>,
    /// `I`, `T` or `E`; `-` if the connection ended first.
    pub(crate) status: char,
}

impl PgReply {
    /// The one error.
    pub(crate) fn error(&self) -> &PgError {
        match self.errors.as_slice() {
            [error] => error,
            _ => panic!("not one error: {self:#?}"),
        }
    }

    /// Its rows, where it must have no error.
    pub(crate) fn ok(&self) -> &[Row] {
        assert!(self.errors.is_empty(), "{self:#?}");
        &self.rows
    }

    /// The one value, where it must have no error.
    pub(crate) fn value(&self) -> &str {
        match self.ok() {
            [row] if row.len() == 1 => row[0].as_deref().unwrap_or("NULL"),
            _ => panic!("not one value: {self:#?}"),
        }
    }

    /// The frames' tags in order.
    pub(crate) fn kinds(&self) -> String {
        self.frames.iter().map(|frame| char::from(frame.tag)).collect()
    }

    fn take(&mut self, frame: PgFrame) {
        let text =
            || String::from_utf8_lossy(frame.body.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
        match frame.tag {
            b'D' => self.rows.push(row(&frame.body)),
            b'C' => self.tags.push(text()),
            b'E' => self.errors.push(PgError::of(&frame.body)),
            b'N' => self.notices.push(PgError::of(&frame.body)),
            b'd' => self.copied.extend_from_slice(&frame.body),
            b'Z' => self.status = char::from(frame.body[0]),
            _ => (),
        }
        self.frames.push(frame);
    }
}

fn row(body: &[u8]) -> Row {
    let count = u16::from_be_bytes([body[0], body[1]]);
    let mut rest = &body[2..];
    let mut values = Vec::new();
    for _ in 0..count {
        let (length, after) = rest.split_at(4);
        let length = i32::from_be_bytes(length.try_into().expect("has four bytes"));
        let (value, after) = after.split_at(usize::try_from(length).unwrap_or(0));
        values.push((length >= 0).then(|| String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    values
}

/// A client's end of a session.
pub(crate) struct PgWire {
    stream: Box<dyn Carrier>,
    buffer: Vec<u8>,
    /// ParameterStatus, the last of each name.
    pub(crate) parameters: BTreeMap<String, String>,
    /// BackendKeyData: process id and secret.
    pub(crate) key: Option<Vec<u8>>,
}

impl PgWire {
    pub(crate) fn over(stream: impl Carrier + 'static) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), parameters: BTreeMap::new(), key: None }
    }

    /// Plain, nothing said yet.
    pub(crate) async fn plain(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address)).await.expect("somebody listens");
        stream.set_nodelay(true).expect("is TCP");
        Self::over(stream)
    }

    /// Plain and logged in without a password, or what the server said instead.
    pub(crate) async fn try_session(address: SocketAddr, user: &str) -> Result<Self, PgError> {
        let mut wire = Self::plain(address).await;
        wire.login(&[("user", user), ("database", DATABASE)]).await.map(|_| wire)
    }

    /// The same where it must succeed.
    pub(crate) async fn session(address: SocketAddr, user: &str) -> Self {
        Self::try_session(address, user).await.unwrap_or_else(|error| panic!("no session: {error:?}"))
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within("bytes to be taken", async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        })
        .await
        .unwrap_or_else(|error| panic!("the connection ended: {error}"));
    }

    /// Sends what may not be taken any more.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within("bytes to be taken", self.stream.write_all(bytes.as_ref())).await;
        let _ = within("bytes to be taken", self.stream.flush()).await;
    }

    /// One byte: the answer to SSLRequest and GSSENCRequest; none at the end of the connection.
    pub(crate) async fn byte(&mut self) -> Option<u8> {
        while self.buffer.is_empty() {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.buffer.remove(0))
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = vec![0; 65_536];
        // A reset is an end too.
        let count = within("the server's next message", self.stream.read(&mut chunk)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..count]);
        count > 0
    }

    /// The next message; none at the end of the connection.
    pub(crate) async fn read(&mut self) -> Option<PgFrame> {
        loop {
            if self.buffer.len() >= 5 {
                let length = u32::from_be_bytes(self.buffer[1..5].try_into().expect("has four bytes")) as usize;
                if self.buffer.len() > length {
                    let rest = self.buffer.split_off(1 + length);
                    let frame = std::mem::replace(&mut self.buffer, rest);
                    return Some(PgFrame { tag: frame[0], body: frame[5..].to_vec() });
                }
            }
            if !self.fill().await {
                assert!(self.buffer.is_empty(), "the connection ended in a message: {:?}", self.buffer.escape_ascii());
                return None;
            }
        }
    }

    /// Reads to the next ReadyForQuery, or to the end.
    pub(crate) async fn reply(&mut self) -> PgReply {
        self.reply_to(|frame| frame.tag == b'Z').await
    }

    /// Reads to the message for which `last` holds, or to the end.
    pub(crate) async fn reply_to(&mut self, last: impl Fn(&PgFrame) -> bool) -> PgReply {
        let mut reply = PgReply { status: '-', ..PgReply::default() };
        while let Some(frame) = self.read().await {
            if frame.tag == b'S' {
                let mut texts =
                    frame.body.split(|byte| *byte == 0).map(|text| String::from_utf8_lossy(text).into_owned());
                if let (Some(name), Some(value)) = (texts.next(), texts.next()) {
                    self.parameters.insert(name, value);
                }
            }
            let ends = last(&frame);
            reply.take(frame);
            if ends {
                break;
            }
        }
        reply
    }

    /// Everything to the end of the connection.
    pub(crate) async fn rest(&mut self) -> PgReply {
        self.reply_to(|_| false).await
    }

    /// Everything to the end of the connection, messages or not.
    pub(crate) async fn end(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// Sends a startup packet and expects a session without a password.
    pub(crate) async fn login(&mut self, parameters: &[(&str, &str)]) -> Result<PgReply, PgError> {
        self.send(startup(PROTOCOL_3, parameters)).await;
        let reply = self.reply().await;
        if let Some(error) = reply.errors.first() {
            return Err(error.clone());
        }
        assert_eq!(reply.status, 'I', "{reply:#?}");
        self.key = reply.frames.iter().find(|frame| frame.tag == b'K').map(|frame| frame.body.clone());
        Ok(reply)
    }

    /// One simple Query to its ReadyForQuery.
    pub(crate) async fn query(&mut self, sql: &str) -> PgReply {
        self.send(query(sql)).await;
        self.reply().await
    }

    /// Parse, Bind, Execute and Sync of an unnamed statement with text parameters.
    pub(crate) async fn extended(&mut self, sql: &str, values: &[&str]) -> PgReply {
        self.send([parse("", sql), bind("", "", values), execute("", 0), sync()].concat()).await;
        self.reply().await
    }

    /// Closes its direction: it says nothing more, and reads on.
    pub(crate) async fn half_close(&mut self) {
        within("its end to be taken", self.stream.shutdown()).await.expect("the connection is there");
    }

    /// Says goodbye.
    pub(crate) async fn terminate(mut self) {
        self.try_send(frame(b'X', b"")).await;
        let _ = self.rest().await;
    }

    /// Sends a CancelRequest for a key over this fresh connection and waits for its end.
    pub(crate) async fn cancel(mut self, key: &[u8]) {
        self.send(cancel_request(key)).await;
        let reply = self.rest().await;
        assert!(reply.frames.is_empty(), "a CancelRequest is not answered: {reply:#?}");
    }
}

/// A message of a client.
pub(crate) fn frame(tag: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = u32::try_from(body.len() + 4).expect("is short");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A message without a tag: startup and its relatives.
pub(crate) fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("is short");
    [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
}

pub(crate) fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let pairs: String = parameters.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
    packet(version, format!("{pairs}\0").as_bytes())
}

pub(crate) fn cancel_request(key: &[u8]) -> Vec<u8> {
    packet(CANCEL_REQUEST, key)
}

pub(crate) fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0"))
}

pub(crate) fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0"))
}

/// Text parameters, text results.
pub(crate) fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend(u16::try_from(values.len()).expect("are few").to_be_bytes());
    for value in values {
        body.extend(u32::try_from(value.len()).expect("is short").to_be_bytes());
        body.extend(value.as_bytes());
    }
    body.extend([0, 0]);
    frame(b'B', body)
}

pub(crate) fn execute(portal: &str, limit: u32) -> Vec<u8> {
    frame(b'E', [format!("{portal}\0").as_bytes(), &limit.to_be_bytes()].concat())
}

pub(crate) fn describe_statement(name: &str) -> Vec<u8> {
    frame(b'D', format!("S{name}\0"))
}

pub(crate) fn close_statement(name: &str) -> Vec<u8> {
    frame(b'C', format!("S{name}\0"))
}

pub(crate) fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

pub(crate) fn flush() -> Vec<u8> {
    frame(b'H', b"")
}

pub(crate) fn copy_data(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    frame(b'd', bytes)
}

pub(crate) fn copy_done() -> Vec<u8> {
    frame(b'c', b"")
}

pub(crate) fn copy_fail(why: &str) -> Vec<u8> {
    frame(b'f', format!("{why}\0"))
}
