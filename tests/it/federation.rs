//! Bundles of other trust domains, fetched from real endpoints that rotate, go away, lie and lead elsewhere.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::AlertDescription as Alert;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::*;

const PARTNER: &str = "partner.example";
const APP: &str = "/ns/test/sa/app";
const ENDPOINT: &str = "/spire/server";

// ---------------------------------------------------------------------------------------------------------------- the endpoint

/// What an endpoint does with a request.
#[derive(Debug, Clone)]
enum Serves {
    Bundle(String),
    /// A whole answer, head and body.
    Raw(Vec<u8>),
    /// So many bytes of a body that never ends.
    Endless(usize),
    /// Nothing: the connection is closed before the handshake.
    Nobody,
}

/// A bundle endpoint on loopback: TLS, one answer a connection.
#[derive(Debug)]
struct Endpoint {
    address: SocketAddr,
    serves: Arc<Mutex<Serves>>,
    acceptor: Arc<Mutex<Shown>>,
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

struct Shown(TlsAcceptor);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

impl Endpoint {
    /// One that shows `svid`.
    async fn start(svid: &Svid, serves: Serves) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("is bound");
        let serves = Arc::new(Mutex::new(serves));
        let acceptor = Arc::new(Mutex::new(Shown(server_config(svid, &["http/1.1"]))));
        let asked = Arc::new(AtomicUsize::new(0));
        let task = {
            let (serves, acceptor, asked) = (Arc::clone(&serves), Arc::clone(&acceptor), Arc::clone(&asked));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let serves = serves.lock().expect("nobody panics").clone();
                    let acceptor = acceptor.lock().expect("nobody panics").0.clone();
                    asked.fetch_add(1, Ordering::SeqCst);
                    // Whoever refuses us or goes away ends it.
                    tokio::spawn(answer(stream, acceptor, serves));
                }
            })
        };
        Self { address, serves, acceptor, asked, task }
    }

    fn serve(&self, serves: Serves) {
        *self.serves.lock().expect("nobody panics") = serves;
    }

    fn show(&self, svid: &Svid) {
        self.acceptor.lock().expect("nobody panics").0 = server_config(svid, &["http/1.1"]);
    }

    fn url(&self) -> String {
        format!("https://localhost:{}/bundle", self.address.port())
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Waits until it has been asked as many times more.
    async fn asked_again(&self, times: usize) {
        let before = self.asked();
        eventually("the endpoint to be asked", || (self.asked() >= before + times).then_some(())).await;
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(stream: TcpStream, acceptor: TlsAcceptor, serves: Serves) -> std::io::Result<()> {
    if matches!(serves, Serves::Nobody) {
        return Ok(());
    }
    let mut stream = acceptor.accept(stream).await?;
    let head = read_head(&mut stream).await?;
    assert!(head.starts_with("GET /") && head.contains("\r\nhost: localhost:"), "{head}");
    match serves {
        Serves::Bundle(json) => {
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", json.len());
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(json.as_bytes()).await?;
        }
        Serves::Raw(bytes) => stream.write_all(&bytes).await?,
        Serves::Endless(bytes) => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await?;
            for _ in 0..bytes / 4096 {
                stream.write_all(&[b' '; 4096]).await?;
            }
        }
        Serves::Nobody => {}
    }
    stream.shutdown().await
}

async fn read_head(stream: &mut TlsStream<TcpStream>) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A SPIFFE bundle document with these authorities.
fn bundle(sequence: u64, authorities: &[&Ca]) -> Serves {
    let key = |ca: &&Ca| {
        let certificate = base64::engine::general_purpose::STANDARD.encode(ca.certificate());
        json!({"kty": "EC", "use": "x509-svid", "crv": "P-256", "x": "", "y": "", "x5c": [certificate]})
    };
    let keys: Vec<Value> = authorities.iter().map(key).collect();
    Serves::Bundle(json!({"spiffe_sequence": sequence, "spiffe_refresh_hint": 300, "keys": keys}).to_string())
}

fn status_line(status: &str, headers: &str) -> Serves {
    Serves::Raw(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n{headers}\r\n").into_bytes())
}

/// A certificate for `localhost`, and the authority that vouches for it, PEM.
pub(crate) fn web() -> (Svid, String) {
    let authority_key = KeyPair::generate().expect("P-256 is supported");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).expect("the parameters are complete").pem();
    let issuer = Issuer::new(params, authority_key);
    let key = KeyPair::generate().expect("P-256 is supported");
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).expect("is a DNS name");
    let leaf = leaf.signed_by(&key, &issuer).expect("the parameters are complete");
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    (Svid { id: "localhost".into(), chain: vec![leaf.der().clone()], key }, authority)
}

// ----------------------------------------------------------------------------------------------------------------- the sidecar

/// An inbound sidecar that federates with `partner.example`.
struct Door {
    upstream: Recorder,
    service: Sidecar,
}

impl Door {
    async fn open(world: &World, federation: &str) -> Self {
        let upstream = Recorder::start();
        let indented: String = federation.lines().map(|line| format!("    {line}\n")).collect();
        let keys = format!("federation:\n  {PARTNER}:\n{indented}    refresh_interval: 1s");
        let service = world.sidecar("service").policies(ALLOW_ALL).identity_keys(&keys);
        let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
        Self { upstream, service }
    }

    async fn web(world: &World, endpoint: &Endpoint, authority: &str) -> Self {
        let ca = world.write("web-ca.pem", authority).display().to_string();
        Self::open(world, &format!("endpoint_url: {}\nprofile: https_web\nca: {ca}", endpoint.url())).await
    }

    fn address(&self) -> SocketAddr {
        self.service.inbound("endpoint")
    }

    async fn lets_in(&self, what: &str, svid: &Svid) {
        TlsClient::with(svid).is_let_in(self.address(), what).await;
    }

    async fn keeps_out(&self, what: &str, svid: &Svid, rule: &str) -> Value {
        let before = self.handshakes().len();
        assert_eq!(TlsClient::with(svid).refused_by(self.address()).await, Alert::UnknownCA, "{what}");
        let record = eventually(what, || self.handshakes().into_iter().nth(before)).await;
        assert_eq!(
            (&record["reason"], &record["peer_san"]),
            (&rule.into(), &svid.id.as_str().into()),
            "{what}: {record}"
        );
        record
    }

    fn handshakes(&self) -> Vec<Value> {
        self.service.records.all().into_iter().filter(|record| record["kind"] == "handshake").collect()
    }

    async fn generation(&self, number: u64) {
        let what = format!("generation {number}");
        self.service.status_with(&what, |status| status["identity"]["generation"] == number).await;
    }

    /// Waits until the last fetch failed by this rule, and it is told.
    async fn failing(&self, rule: &str) -> Value {
        let wanted = |status: &Value| {
            let fault = &part(status)["last_error"];
            fault["standing"] == true && fault["rule"] == rule
        };
        part(&self.service.status_with(&format!("the fault {rule}"), wanted).await)["last_error"].clone()
    }

    async fn refreshed(&self, result: &str) -> u64 {
        let labels = [format!("trust_domain=\"{PARTNER}\""), format!("result=\"{result}\"")];
        let labels = labels.each_ref().map(String::as_str);
        self.service.metric("portcullis_federation_refresh_total", &labels).await as u64
    }
}

/// How the federation fares in `/status`.
fn part(status: &Value) -> &Value {
    let parts = status["identity"]["parts"].as_array();
    let name = format!("federation of `{PARTNER}`");
    parts.into_iter().flatten().find(|part| part["part"] == name.as_str()).unwrap_or(&Value::Null)
}

// ------------------------------------------------------------------------------------------------------------------- the tests

#[tokio::test]
async fn a_trust_domain_is_unknown_until_its_bundle_is_fetched_and_follows_its_rotation() {
    let (world, (old, new)) = (World::new(), (Ca::new(PARTNER), Ca::new(PARTNER)));
    let (by_old, by_new) = (old.issue(APP), new.issue(APP));
    let (shown, authority) = web();
    let endpoint = Endpoint::start(&shown, status_line("503 Service Unavailable", "")).await;
    let door = Door::web(&world, &endpoint, &authority).await;
    let fault = door.failing("status").await;
    assert!(fault["message"].as_str().is_some_and(|message| message.contains("503")), "{fault}");
    door.service.logged("there is no bundle of a federated trust domain yet").await;
    let record = door.keeps_out("a workload of a trust domain without a bundle", &by_old, "unknown-trust-domain").await;
    assert!(record["error"].as_str().is_some_and(|error| error.contains("`partner.example`")), "{record}");
    door.lets_in("one of our own", &world.ca.issue(APP)).await;

    endpoint.serve(bundle(1, &[&old]));
    door.generation(2).await;
    door.lets_in("the partner's", &by_old).await;
    door.keeps_out("one by an authority that is not there yet", &by_new, "chain").await;
    // What is fetched speaks of the trust domain that was asked for, whatever else its authorities issue.
    let ours = old.issue_uri("spiffe://pipeline.example/ns/test/sa/admin");
    door.keeps_out("one of our own IDs by the partner's authority", &ours, "chain").await;
    let third = old.issue_uri("spiffe://third.example/x");
    let record = door.keeps_out("one of a third trust domain", &third, "unknown-trust-domain").await;
    assert!(record["error"].as_str().is_some_and(|error| error.contains("`third.example`")), "{record}");

    endpoint.serve(bundle(2, &[&old, &new]));
    door.generation(3).await;
    door.lets_in("by the old authority", &by_old).await;
    door.lets_in("by the new one", &by_new).await;
    endpoint.serve(bundle(3, &[&new]));
    door.generation(4).await;
    door.keeps_out("by the old one, which is withdrawn", &by_old, "chain").await;
    door.lets_in("by the new one still", &by_new).await;
    assert_eq!(door.refreshed("swapped").await, 3);
    assert!(door.refreshed("failed").await >= 1);
    let age = door.service.metric("portcullis_federation_last_refresh_timestamp_seconds", &[PARTNER]).await;
    assert!(age > 1.7e9, "{age}");
    door.service.stop().await;
    assert_eq!(door.upstream.seen().len(), 5);
}

#[tokio::test]
async fn whatever_an_endpoint_does_the_last_good_bundle_stays() {
    let (world, partner, stranger) = (World::new(), Ca::new(PARTNER), Ca::new(PARTNER));
    let svid = partner.issue(APP);
    let (shown, authority) = web();
    let endpoint = Endpoint::start(&shown, bundle(5, &[&partner])).await;
    let door = Door::web(&world, &endpoint, &authority).await;
    door.generation(2).await;
    let resident = door.service.resident_bytes();
    let raw = |head: &str, body: &str| Serves::Raw(format!("{head}\r\n\r\n{body}").into_bytes());
    let Serves::Bundle(good) = bundle(6, &[&stranger]) else { unreachable!() };
    let (other, _) = web();
    // No rule twice in a row: the status shows one fault, and has to change.
    let cases = [
        ("it is gone", "closed", Serves::Nobody),
        ("it fails", "status", status_line("500 Internal Server Error", "")),
        ("it serves garbage", "trust-bundle", Serves::Bundle("<html>".into())),
        ("it serves half a bundle", "http", raw("HTTP/1.1 200 OK\r\ncontent-length: 4096", &good)),
        ("it has no bundle", "status", status_line("404 Not Found", "")),
        ("it serves no HTTP", "http", Serves::Raw(b"SSH-2.0-x\r\n\r\n".to_vec())),
        ("it serves a bundle of leaves", "trust-bundle", leaves(&partner)),
        ("it serves 10 MB", "too-long", Serves::Endless(10 * 1024 * 1024)),
        ("it serves no content", "status", status_line("204 No Content", "")),
        ("it says 10 MB", "too-long", raw("HTTP/1.1 200 OK\r\ncontent-length: 10485760", &" ".repeat(2_000_000))),
        ("it serves a head of 200 kB", "http", raw(&format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(200_000)), &good)),
        (
            "it serves what was not asked for",
            "content-encoding",
            raw(&format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}", good.len()), &good),
        ),
        ("it goes back", "sequence-rollback", bundle(4, &[&stranger])),
    ];
    for (what, rule, serves) in cases {
        endpoint.serve(serves);
        let fault = door.failing(rule).await;
        assert!(fault["message"].as_str().is_some_and(|message| !message.is_empty()), "{what}: {fault}");
        door.lets_in(what, &svid).await;
    }
    endpoint.serve(bundle(7, &[&stranger]));
    endpoint.show(&other);
    door.failing("server-certificate").await;
    door.lets_in("another server answers in its place", &svid).await;
    let grown = door.service.resident_bytes().saturating_sub(resident);
    assert!(grown < 24 * 1024 * 1024, "{grown} bytes more");
    // Said once each, however often it is asked.
    endpoint.asked_again(2).await;
    let said = door.service.log().iter().filter(|line| line.contains("not fetched; the last good one")).count();
    assert_eq!(said, 14, "{:#?}", door.service.log());

    endpoint.show(&shown);
    door.generation(3).await;
    door.keeps_out("the bundle has changed at last", &svid, "chain").await;
    door.lets_in("whom it has now", &stranger.issue(APP)).await;
    let well = |status: &Value| part(status)["last_error"]["standing"] == false;
    door.service.status_with("the end of the fault", well).await;
    door.service.stop().await;
}

/// A bundle whose only certificate is no authority.
fn leaves(ca: &Ca) -> Serves {
    let leaf = base64::engine::general_purpose::STANDARD.encode(ca.issue(APP).leaf());
    Serves::Bundle(json!({"keys": [{"kty": "EC", "use": "x509-svid", "x5c": [leaf]}]}).to_string())
}

#[tokio::test]
async fn a_bundle_without_keys_is_believed() {
    let (world, partner) = (World::new(), Ca::new(PARTNER));
    let svid = partner.issue(APP);
    let (shown, authority) = web();
    let endpoint = Endpoint::start(&shown, bundle(1, &[&partner])).await;
    let door = Door::web(&world, &endpoint, &authority).await;
    door.generation(2).await;
    door.lets_in("the partner's", &svid).await;
    endpoint.serve(bundle(2, &[]));
    door.generation(3).await;
    door.keeps_out("its trust domain wants to be trusted in nothing", &svid, "chain").await;
    door.lets_in("one of our own", &world.ca.issue(APP)).await;
    endpoint.serve(bundle(3, &[&partner]));
    door.generation(4).await;
    door.lets_in("the partner's again", &svid).await;
    door.service.stop().await;
}

#[tokio::test]
async fn a_redirect_is_followed_to_where_a_bundle_may_come_from_and_nowhere_else() {
    let (world, partner) = (World::new(), Ca::new(PARTNER));
    let svid = partner.issue(APP);
    let (shown, authority) = web();
    let (foreign, _) = web();
    let target = Endpoint::start(&shown, bundle(1, &[&partner])).await;
    let untrusted = Endpoint::start(&foreign, bundle(1, &[&partner])).await;
    let endpoint = Endpoint::start(&shown, Serves::Nobody).await;
    let to = |url: &str| status_line("307 Temporary Redirect", &format!("location: {url}\r\n"));
    let door = Door::web(&world, &endpoint, &authority).await;
    for (what, rule, serves) in [
        ("plain HTTP", "redirect", to(&target.url().replace("https", "http"))),
        ("a URL with a user", "redirect", to(&target.url().replace("://", "://user@"))),
        ("nowhere", "redirect", status_line("302 Found", "")),
        ("itself", "redirect", to("/bundle")),
        ("a server that nobody vouches for", "server-certificate", to(&untrusted.url())),
    ] {
        endpoint.serve(serves);
        door.failing(rule).await;
        door.keeps_out(what, &svid, "unknown-trust-domain").await;
    }
    assert_eq!(target.asked(), 0);
    endpoint.serve(status_line("301 Moved Permanently", &format!("location: {}\r\n", target.url())));
    door.generation(2).await;
    door.lets_in("the bundle from where it leads", &svid).await;
    // Permanent or not, the next fetch begins where the configuration says.
    let before = endpoint.asked();
    target.asked_again(2).await;
    assert!(endpoint.asked() >= before + 2);
    door.service.stop().await;
}

#[tokio::test]
async fn an_https_spiffe_endpoint_has_to_be_the_workload_that_the_configuration_names() {
    let (world, (old, new)) = (World::new(), (Ca::new(PARTNER), Ca::new(PARTNER)));
    let (server, impostor) = (old.issue(ENDPOINT), old.issue("/spire/impostor"));
    let by_new = new.issue(APP);
    let endpoint = Endpoint::start(&impostor, bundle(1, &[&old, &new])).await;
    let bootstrap = world.write("bootstrap.pem", &old.bundle()).display().to_string();
    let federation = format!(
        "endpoint_url: {}\nprofile: https_spiffe\nendpoint_spiffe_id: {}\nbootstrap_bundle: {bootstrap}",
        endpoint.url(),
        server.id
    );
    let door = Door::open(&world, &federation).await;
    let fault = door.failing("unexpected-peer").await;
    assert!(fault["message"].as_str().is_some_and(|message| message.contains("/spire/impostor")), "{fault}");
    door.lets_in("the operator's bundle counts until one is fetched", &old.issue(APP)).await;
    door.keeps_out("who is not in it", &by_new, "chain").await;
    let foreign = Ca::new(PARTNER).issue(ENDPOINT);
    for (rule, rogue) in [
        ("chain", &foreign),
        ("chain", &new.issue(ENDPOINT)),
        ("unknown-trust-domain", &world.ca.issue(ENDPOINT)),
        ("key-usage-present", &web().0),
    ] {
        endpoint.show(rogue);
        door.failing(rule).await;
    }
    door.keeps_out("still", &by_new, "chain").await;

    endpoint.show(&server);
    door.generation(3).await;
    door.lets_in("by the new authority", &by_new).await;
    // The endpoint goes over to its new authority: the latest bundle verifies it, and no longer the first one.
    endpoint.show(&new.issue(ENDPOINT));
    endpoint.serve(bundle(2, &[&new]));
    door.generation(4).await;
    endpoint.show(&server);
    door.failing("chain").await;
    door.keeps_out("by the old authority", &old.issue(APP), "chain").await;
    door.lets_in("by the new authority still", &by_new).await;
    // The way out if both have lost each other: the operator's file, once it changes. Nothing can be fetched with it as long as another
    // workload of the same authority answers.
    endpoint.show(&impostor);
    world.write("bootstrap.pem", &(old.bundle() + &new.bundle()));
    door.generation(5).await;
    door.failing("unexpected-peer").await;
    door.lets_in("by the old authority, which the operator has put back", &old.issue(APP)).await;
    endpoint.serve(bundle(3, &[&old]));
    endpoint.show(&server);
    door.generation(6).await;
    door.lets_in("by the old authority, which is fetched now", &old.issue(APP)).await;
    door.keeps_out("by the new one, which the fetched bundle has no more", &by_new, "chain").await;
    door.service.stop().await;
}

#[tokio::test]
async fn an_endpoint_in_another_trust_domain_is_verified_by_that_ones_bundle() {
    let (world, partner) = (World::new(), Ca::new(PARTNER));
    // Our own trust domain serves the partner's bundle.
    let server = world.ca.issue(ENDPOINT);
    let endpoint = Endpoint::start(&partner.issue(ENDPOINT), bundle(1, &[&partner])).await;
    let federation =
        format!("endpoint_url: {}\nprofile: https_spiffe\nendpoint_spiffe_id: {}", endpoint.url(), server.id);
    let door = Door::open(&world, &federation).await;
    door.failing("unknown-trust-domain").await;
    endpoint.show(&server);
    door.generation(2).await;
    door.lets_in("the partner's", &partner.issue(APP)).await;
    door.service.stop().await;
}
