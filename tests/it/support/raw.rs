//! Bytes as they are: a client for requests that no library would send, an upstream that shows what was forwarded.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::recorder::on_own_thread;
use super::{eventually, within};

/// A connection on which a test writes bytes.
#[derive(Debug)]
pub(crate) struct Raw<S> {
    stream: S,
    received: Vec<u8>,
}

impl Raw<TcpStream> {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = within("a TCP connection", TcpStream::connect(address)).await;
        Self::over(stream.unwrap_or_else(|error| panic!("cannot connect to {address}: {error}")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Over a stream that exists, such as TLS.
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, received: Vec::new() }
    }

    /// Over a stream on which the other side has switched to a WebSocket at `path`. `headers` are lines of their own.
    pub(crate) async fn websocket(stream: S, path: &str, headers: &str) -> Self {
        let mut raw = Self::over(stream);
        raw.write(format!(
            "GET {path} HTTP/1.1\r\nhost: a.example\r\nupgrade: websocket\r\nconnection: upgrade\r\n{headers}\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ))
        .await;
        assert_eq!(raw.answer().await.expect("an answer").status(), 101);
        raw
    }

    /// Writes all of it. That the other side may have closed already is no fault: the answer tells.
    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let written = async {
            self.stream.write_all(bytes.as_ref()).await?;
            self.stream.flush().await
        };
        let _ = within("the other side to read", written).await;
    }

    /// Ends our direction.
    pub(crate) async fn half_close(&mut self) {
        let _ = within("the end to be sent", self.stream.shutdown()).await;
    }

    /// Reads one answer by its own framing; `None` when the connection ends before a head.
    pub(crate) async fn answer(&mut self) -> Option<RawAnswer> {
        while find(&self.received, b"\r\n\r\n").is_none() {
            if !self.read_more().await {
                return None;
            }
        }
        let end = find(&self.received, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.received.drain(..end).collect::<Vec<_>>()).into_owned();
        let mut answer = RawAnswer { head, body: Vec::new() };
        if answer.header("transfer-encoding").is_some() {
            while find(&self.received, b"0\r\n\r\n").is_none() && self.read_more().await {}
            answer.body = std::mem::take(&mut self.received);
        } else if let Some(length) = answer.header("content-length").and_then(|text| text.parse::<usize>().ok()) {
            while self.received.len() < length && self.read_more().await {}
            let length = length.min(self.received.len());
            answer.body = self.received.drain(..length).collect();
        }
        Some(answer)
    }

    /// Everything until the other side closes. A reset counts as closing.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.read_more().await {}
        std::mem::take(&mut self.received)
    }

    /// Whether the other side closes now, without a further byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.received.is_empty() && !self.read_more().await
    }

    /// The stream, when enough was said on it.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    async fn read_more(&mut self) -> bool {
        let read = within("bytes or the end", self.stream.read_buf(&mut self.received)).await;
        matches!(read, Ok(1..))
    }
}

/// An HTTP/1.1 answer as bytes.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    /// Status line and fields, with the empty line.
    pub(crate) head: String,
    /// As on the wire, chunk framing included.
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    pub(crate) fn status(&self) -> u16 {
        let code = self.head.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status in {:?}", self.head))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    /// Whether this answer is the connection's last.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// What a [`RawUpstream`] does next, asked whenever bytes came.
#[derive(Debug)]
pub(crate) enum Step {
    /// Reads on.
    Wait,
    /// Writes this, forgets what came so far, and reads on.
    Reply(Vec<u8>),
    /// Writes this and closes.
    ReplyAndClose(Vec<u8>),
}

type Script = Arc<dyn Fn(&[u8]) -> Step + Send + Sync>;

/// An upstream that keeps the bytes of each connection and answers by a script.
#[derive(Debug)]
pub(crate) struct RawUpstream {
    pub(crate) address: SocketAddr,
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl RawUpstream {
    /// `script` sees what came since its last reply on this connection.
    pub(crate) fn start(script: impl Fn(&[u8]) -> Step + Send + Sync + 'static) -> Self {
        let connections = Arc::new(Mutex::new(Vec::new()));
        let script: Script = Arc::new(script);
        let kept = Arc::clone(&connections);
        let address = on_own_thread(async move |listener: TcpListener| {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, Arc::clone(&script), Arc::clone(&kept)));
            }
        });
        Self { address, connections }
    }

    /// Answers each head with `200` and the body `ok`.
    pub(crate) fn answering_heads() -> Self {
        Self::start(|bytes| match find(bytes, b"\r\n\r\n") {
            None => Step::Wait,
            Some(_) => Step::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_vec()),
        })
    }

    /// Switches to a WebSocket when it is asked to, and answers everything after that with itself.
    pub(crate) fn echoing_websockets() -> Self {
        const SWITCHES: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n";
        Self::start(|bytes| Step::Reply(if bytes.starts_with(b"GET ") { SWITCHES.into() } else { bytes.to_vec() }))
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came on each connection, in the order they were accepted.
    pub(crate) fn received(&self) -> Vec<Vec<u8>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of it as text, once it holds `text`.
    pub(crate) async fn received_with(&self, text: &str) -> String {
        eventually(&format!("`{text}` to reach the upstream"), || {
            let all = String::from_utf8_lossy(&self.received().concat()).into_owned();
            all.contains(text).then_some(all)
        })
        .await
    }

    /// Fails if any byte reached it.
    pub(crate) fn assert_untouched(&self) {
        let received = self.received().concat();
        assert!(received.is_empty(), "the upstream got {:?}", String::from_utf8_lossy(&received));
    }
}

async fn converse(mut stream: TcpStream, script: Script, kept: Arc<Mutex<Vec<Vec<u8>>>>) {
    let index = {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(Vec::new());
        kept.len() - 1
    };
    let mut since_reply = Vec::new();
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let bytes = &buffer[..count];
        kept.lock().unwrap_or_else(PoisonError::into_inner)[index].extend_from_slice(bytes);
        since_reply.extend_from_slice(bytes);
        match script(&since_reply) {
            Step::Wait => (),
            Step::Reply(reply) => {
                since_reply.clear();
                let _ = stream.write_all(&reply).await;
            }
            Step::ReplyAndClose(reply) => {
                let _ = stream.write_all(&reply).await;
                return;
            }
        }
    }
}

/// Where `needle` begins in `bytes`.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, needle)
}
