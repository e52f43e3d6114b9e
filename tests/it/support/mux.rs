//! The far end of a connection that sessions share, made by hand from what `src/mux` says of the wire: it can break every rule.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::pg_wire::{PROTOCOL_3, startup};
use super::{DATABASE, TlsClient, within};

pub(crate) const MUX: &str = "portcullis-mux/1";

pub(crate) const OPEN: u8 = 1;
pub(crate) const DATA: u8 = 2;
pub(crate) const END: u8 = 3;
pub(crate) const RESET: u8 = 4;
pub(crate) const CREDIT: u8 = 5;
pub(crate) const LEAVE: u8 = 6;

/// A frame's head.
pub(crate) fn head(kind: u8, stream: u32, number: u32) -> Vec<u8> {
    let [_, a, b, c] = stream.to_be_bytes();
    [&[kind, a, b, c][..], &number.to_be_bytes()].concat()
}

/// A frame of data.
pub(crate) fn data(stream: u32, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [&head(DATA, stream, u32::try_from(bytes.len()).expect("is short"))[..], bytes].concat()
}

/// A stream that is opened, and the startup packet of a session on it.
pub(crate) fn session(stream: u32, database: &str) -> Vec<u8> {
    let packet = startup(PROTOCOL_3, &[("user", "admin_role"), ("database", database)]);
    [head(OPEN, stream, 0), data(stream, packet)].concat()
}

/// The client's end.
pub(crate) struct MuxWire {
    tls: TlsStream<TcpStream>,
    buffer: Vec<u8>,
    /// What has come on each stream and was not taken.
    arrived: BTreeMap<u32, Vec<u8>>,
    /// Streams on which nothing comes any more.
    ended: Vec<u32>,
    /// The server has asked for no more streams.
    pub(crate) is_left: bool,
}

impl MuxWire {
    pub(crate) async fn connect(client: &TlsClient, address: SocketAddr) -> Self {
        let tls = client.clone().alpn(&[MUX]).connect(address).await.expect("is trusted");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(MUX.as_bytes()));
        Self { tls, buffer: Vec::new(), arrived: BTreeMap::new(), ended: Vec::new(), is_left: false }
    }

    /// Sends what may not be taken any more, and reads meanwhile what comes.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let (mut reader, mut writer) = tokio::io::split(&mut self.tls);
        let buffer = &mut self.buffer;
        let mut sending = pin!(async {
            let _ = writer.write_all(bytes.as_ref()).await;
            let _ = writer.flush().await;
        });
        let mut chunk = vec![0; 65_536];
        let both = async {
            loop {
                tokio::select! {
                    () = sending.as_mut() => return,
                    read = reader.read(&mut chunk) => match read {
                        Ok(count @ 1..) => buffer.extend_from_slice(&chunk[..count]),
                        _ => return,
                    }
                }
            }
        };
        within("bytes to be taken", both).await;
    }

    /// Opens a session and reads up to its first ReadyForQuery.
    pub(crate) async fn login(&mut self, stream: u32) {
        assert!(self.try_login(stream).await, "no session on stream {stream}");
    }

    /// The same where the stream may be refused.
    pub(crate) async fn try_login(&mut self, stream: u32) -> bool {
        self.send(session(stream, DATABASE)).await;
        kinds(&self.said(stream).await).ends_with('Z')
    }

    /// The next frame: its kind, stream and number. Its data is kept, and credit for it is given back if `is_credited`.
    pub(crate) async fn frame(&mut self, is_credited: bool) -> Option<(u8, u32, u32)> {
        self.fill(8).await?;
        let bytes: [u8; 8] = self.buffer.drain(..8).collect::<Vec<_>>().try_into().expect("are eight");
        let [kind, a, b, c, d, e, f, g] = bytes;
        let (stream, number) = (u32::from_be_bytes([0, a, b, c]), u32::from_be_bytes([d, e, f, g]));
        match kind {
            DATA => {
                self.fill(number as usize).await?;
                let bytes = self.buffer.drain(..number as usize);
                self.arrived.entry(stream).or_default().extend(bytes);
                if is_credited {
                    self.send(head(CREDIT, stream, number)).await;
                }
            }
            END | RESET => self.ended.push(stream),
            LEAVE => self.is_left = true,
            _ => {}
        }
        Some((kind, stream, number))
    }

    async fn fill(&mut self, count: usize) -> Option<()> {
        while self.buffer.len() < count {
            let mut chunk = vec![0; 65_536];
            // A reset is an end too.
            match within("the server's next frame", self.tls.read(&mut chunk)).await.unwrap_or(0) {
                0 => return None,
                read => self.buffer.extend_from_slice(&chunk[..read]),
            }
        }
        Some(())
    }

    /// What a stream says up to a ReadyForQuery or its end.
    pub(crate) async fn said(&mut self, stream: u32) -> Vec<u8> {
        loop {
            let arrived = self.arrived.get(&stream).map_or(&[][..], Vec::as_slice);
            if kinds(arrived).ends_with('Z') || self.ended.contains(&stream) || self.frame(true).await.is_none() {
                return self.take(stream);
            }
        }
    }

    /// What has come on a stream.
    pub(crate) fn take(&mut self, stream: u32) -> Vec<u8> {
        self.arrived.remove(&stream).unwrap_or_default()
    }

    /// Waits until the connection has ended.
    pub(crate) async fn is_cut(&mut self) {
        while self.frame(false).await.is_some() {}
    }
}

/// The tags of the messages of PostgreSQL in what was said.
pub(crate) fn kinds(mut said: &[u8]) -> String {
    let mut kinds = String::new();
    while let [tag, a, b, c, d, ..] = said {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        let Some(rest) = said.get(1 + length..) else { break };
        kinds.push(char::from(*tag));
        said = rest;
    }
    kinds
}

/// Whether it holds a text.
pub(crate) fn holds(said: &[u8], text: &str) -> bool {
    memchr::memmem::find(said, text.as_bytes()).is_some()
}
