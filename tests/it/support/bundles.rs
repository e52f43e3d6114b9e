//! Policies from an HTTPS address: who makes bundles, a server that has them or lies, and sidecars that ask it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::StatusCode;
use portcullis::policy::{Expiry, Manifest, SigningKey, pack};
use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{
    Client, Recorder, Sidecar, SidecarPlan, Svid, TlsClient, World, eventually, http1, request, server_config,
};
use crate::federation::web;

pub(crate) const TAR: &str = "/lake.tar";
pub(crate) const SIG: &str = "/lake.tar.sig";

// ------------------------------------------------------------------------------------------------------------------ the server

/// What a path of the server has.
#[derive(Debug, Clone)]
pub(crate) enum Served {
    /// A file, whose ETag is its content's.
    File(Vec<u8>),
    /// One whose ETag is that of every other, as servers have it that make it of time and size.
    SameEtag(Vec<u8>),
    /// A file whose answer begins after a while.
    Slow(Vec<u8>, Duration),
    /// A whole answer, head and body.
    Raw(String),
    /// One that comes byte by byte, each in good time.
    Drip(Vec<u8>),
    /// A body that never ends.
    Endless,
    /// Never an answer.
    Silence,
}

/// A web server on loopback: TLS, one answer a connection.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    shelf: Arc<Mutex<BTreeMap<String, Served>>>,
    /// Connections are closed before the handshake.
    is_away: Arc<AtomicBool>,
    /// Path and status of every answer.
    answered: Arc<Mutex<Vec<(String, u16)>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(svid: &Svid) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("is bound");
        let acceptor = server_config(svid, &["http/1.1"]);
        let (shelf, answered) = <(Arc<Mutex<BTreeMap<String, Served>>>, Arc<Mutex<Vec<_>>>)>::default();
        let is_away = Arc::new(AtomicBool::new(false));
        let (on_shelf, answers, away) = (Arc::clone(&shelf), Arc::clone(&answered), Arc::clone(&is_away));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if away.load(Ordering::SeqCst) {
                    continue;
                }
                let (acceptor, shelf, answers) = (acceptor.clone(), Arc::clone(&on_shelf), Arc::clone(&answers));
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await?);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
                    let served = shelf.lock().expect("nobody panics").get(&path).cloned();
                    if let Some(Served::Slow(_, after)) = &served {
                        tokio::time::sleep(*after).await;
                    }
                    let (status, answer) = answer(&head, served.as_ref());
                    answers.lock().expect("nobody panics").push((path, status));
                    stream.write_all(&answer).await?;
                    match served {
                        Some(Served::Drip(bytes)) => {
                            for byte in bytes {
                                stream.write_all(&[byte]).await?;
                                stream.flush().await?;
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                            stream.shutdown().await
                        }
                        Some(Served::Endless) => loop {
                            stream.write_all(&[0; 16_384]).await?;
                        },
                        Some(Served::Silence) => std::future::pending().await,
                        _ => stream.shutdown().await,
                    }
                });
            }
        });
        Self { address, shelf, is_away, answered, task }
    }

    pub(crate) fn put(&self, path: &str, served: Served) {
        self.shelf.lock().expect("nobody panics").insert(path.to_owned(), served);
    }

    /// Bundle and signature at once.
    pub(crate) fn serve(&self, (tar, signature): (Vec<u8>, Vec<u8>)) {
        let mut shelf = self.shelf.lock().expect("nobody panics");
        shelf.extend([(TAR.to_owned(), Served::File(tar)), (SIG.to_owned(), Served::File(signature))]);
    }

    pub(crate) fn go_away(&self, is_away: bool) {
        self.is_away.store(is_away, Ordering::SeqCst);
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}{TAR}", self.address.port())
    }

    /// How often a path was answered so.
    pub(crate) fn answered(&self, path: &str, status: u16) -> usize {
        let answers = self.answered.lock().expect("nobody panics");
        answers.iter().filter(|(answered, with)| answered == path && *with == status).count()
    }

    pub(crate) async fn answers_again(&self, path: &str, status: u16) {
        let before = self.answered(path, status);
        eventually("another answer", || (self.answered(path, status) > before).then_some(())).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(head: &str, served: Option<&Served>) -> (u16, Vec<u8>) {
    match served {
        None => (404, b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Some(Served::Raw(answer)) => (0, answer.as_bytes().to_vec()),
        Some(Served::Endless | Served::Drip(_)) => (200, b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n".to_vec()),
        Some(Served::Silence) => (0, Vec::new()),
        Some(Served::File(bytes) | Served::Slow(bytes, _) | Served::SameEtag(bytes)) => {
            let content = bytes.iter().fold(0_u32, |sum, byte| sum.rotate_left(5) ^ u32::from(*byte));
            let is_same = matches!(served, Some(Served::SameEtag(_)));
            let etag = format!("\"{:08x}\"", if is_same { 0 } else { content });
            if head.lines().any(|line| line == format!("if-none-match: {etag}")) {
                return (304, format!("HTTP/1.1 304 Not Modified\r\netag: {etag}\r\n\r\n").into_bytes());
            }
            let head = format!("HTTP/1.1 200 OK\r\netag: {etag}\r\ncontent-length: {}\r\n\r\n", bytes.len());
            (200, [head.as_bytes(), bytes].concat())
        }
    }
}

// ------------------------------------------------------------------------------------------------------------------ the signer

/// Somebody who makes bundles.
#[derive(Debug)]
pub(crate) struct Signer {
    pub(crate) folder: PathBuf,
    pub(crate) key: SigningKey,
}

impl Signer {
    /// Writes `NAME.pem`, the public key, into the world's folder.
    pub(crate) fn new(world: &World, name: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let folder = world.folder(&format!("{name}-policies"));
        let pair = KeyPair::generate_for(algorithm).expect("is supported");
        world.write(&format!("{name}.pem"), &pair.public_key_pem());
        let key = SigningKey::read(&world.write(&format!("{name}.key"), &pair.serialize_pem())).expect("is a key");
        Self { folder, key }
    }

    fn signed(&self, manifest: &Manifest, cedar: &str) -> (Vec<u8>, Vec<u8>) {
        fs::write(self.folder.join("test.cedar"), cedar).expect("is writable");
        let tar = pack(&self.folder, manifest).expect("is packed");
        let signature = self.key.sign(&tar).expect("is signed");
        (tar, signature)
    }

    pub(crate) fn named(&self, name: &str, sequence: u64, cedar: &str) -> (Vec<u8>, Vec<u8>) {
        self.signed(&Manifest::new(name, sequence).expect("a name"), cedar)
    }

    pub(crate) fn expiring(&self, sequence: u64, cedar: &str, expires: SystemTime) -> (Vec<u8>, Vec<u8>) {
        let expires = OffsetDateTime::from(expires).format(&Rfc3339).expect("is a date of our time");
        let expires = Some(Expiry::parse(&expires).expect("is a moment"));
        self.signed(&Manifest { expires, ..Manifest::new("lake", sequence).expect("a name") }, cedar)
    }

    pub(crate) fn bundle(&self, sequence: u64, cedar: &str) -> (Vec<u8>, Vec<u8>) {
        self.named("lake", sequence, cedar)
    }
}

pub(crate) fn permit(id: &str, group: &str) -> String {
    format!("@id(\"{id}\")\npermit (principal, action in Action::\"{group}\", resource in Endpoint::\"endpoint\");\n")
}

// ----------------------------------------------------------------------------------------------------------------- the sidecar

/// A server, a signer, and what a sidecar needs that has its policies from there.
#[derive(Debug)]
pub(crate) struct Bundles {
    pub(crate) world: World,
    pub(crate) upstream: Recorder,
    pub(crate) server: Server,
    /// `signer.pem`.
    pub(crate) signer: Signer,
    /// The public keys of a sidecar, without `.pem`.
    pub(crate) keys: &'static [&'static str],
    pub(crate) authority: String,
}

impl Bundles {
    pub(crate) async fn new() -> Self {
        Self::by(&PKCS_ED25519).await
    }

    pub(crate) async fn by(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let (world, upstream) = (World::new(), Recorder::start());
        let (shown, authority) = web();
        let server = Server::start(&shown).await;
        let signer = Signer::new(&world, "signer", algorithm);
        Self { world, upstream, server, signer, keys: &["signer"], authority }
    }

    /// A sidecar that asks every second, if `more` does not say otherwise.
    pub(crate) fn sidecar(&self, more: &str) -> SidecarPlan {
        let at = self.world.path().display();
        let ca = self.world.write("web-ca.pem", &self.authority).display().to_string();
        let keys: Vec<_> = self.keys.iter().map(|name| format!("{at}/{name}.pem")).collect();
        let mut yaml = format!("url: {}\npublic_keys: [{}]\nca: {ca}\n{more}", self.server.url(), keys.join(", "));
        let cache = format!("{at}/cache");
        for (key, value) in [("cache_directory", &*cache), ("poll_interval", "1s"), ("fetch_timeout", "5s")] {
            if !more.contains(key) {
                yaml += &format!("\n{key}: {value}");
            }
        }
        self.world.sidecar("service").policy_yaml(&yaml).inbound("endpoint", "http", &self.upstream.url(), "")
    }
}

/// Has the server asked now.
pub(crate) fn ask_now(service: &Sidecar) {
    service.process.signal("HUP");
}

pub(crate) async fn policy_with(service: &Sidecar, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    service.status_with(what, |status| wanted(&status["policy"])).await["policy"].clone()
}

/// Waits until the bundle of this number is in force, and the poll that brought it is over: what was to be kept on disk is.
pub(crate) async fn in_force(service: &Sidecar, sequence: u64) -> Value {
    let what = format!("bundle {sequence} in force");
    policy_with(service, &what, |policy| {
        policy["bundle"]["sequence"] == sequence
            && policy["last_error"].is_null()
            && policy["bundle"]["from_cache"] == false
            && policy["bundle"]["last_success"].as_str() >= policy["bundle"]["fetched"].as_str()
    })
    .await
}

pub(crate) async fn failing(service: &Sidecar, rule: &str) -> Value {
    policy_with(service, rule, |policy| policy["bundle"]["rule"] == rule).await
}

pub(crate) async fn client(world: &World, service: &Sidecar) -> Client {
    let svid = world.ca.issue("/ns/test/sa/app");
    http1(TlsClient::with(&svid).connect(service.inbound("endpoint")).await.expect("the handshake succeeds")).await
}

pub(crate) async fn asked(app: &mut Client, method: &str) -> (StatusCode, String) {
    let answer = app.send(request(method, "service.example", "/orders", &[], "")).await;
    (answer.status, answer.header("x-portcullis-decision").to_owned())
}

pub(crate) fn cached(world: &World) -> Vec<String> {
    let names =
        fs::read_dir(world.path().join("cache")).expect("is there").map(|entry| entry.expect("is read").file_name());
    let mut names: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
