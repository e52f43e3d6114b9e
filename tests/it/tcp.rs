//! `protocol: tcp`: one decision for a connection, its bytes as they are, its ends, its record.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::support::*;

const CONNECT: &str = "@id(\"app-connects\")\npermit (principal == Workload::\"spiffe://pipeline.example/ns/test/sa/app\", action == Action::\"tcp:Connect\", resource == Endpoint::\"endpoint\");\n";
const NOBODY: &str = "@id(\"nobody\")\nforbid (principal, action in Action::\"connect\", resource);\n";

/// A server that a test writes: what it does on each connection, and how many there were.
pub(crate) struct Server {
    pub(crate) address: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn start<F>(serve: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("is bound").to_string();
        let connections = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Self { address, connections }
    }

    pub(crate) async fn echo() -> Self {
        Self::start(echo).await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut bytes = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

async fn connect(pair: &Pair) -> TcpStream {
    within("a TCP connection", TcpStream::connect(pair.address())).await.expect("the outbound listener accepts")
}

async fn read_exactly(stream: &mut (impl AsyncRead + Unpin), length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    within("the bytes", stream.read_exact(&mut bytes)).await.expect("the bytes come");
    bytes
}

/// What comes until the other side ends in order.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    within("the end", stream.read_to_end(&mut bytes)).await.expect("it ends in order");
    bytes
}

/// Whether the connection ends, in order or by a reset, with nothing more on it.
async fn ends(stream: &mut (impl AsyncRead + Unpin)) {
    let mut byte = [0];
    if let Ok(read) = within("the end", stream.read(&mut byte)).await {
        assert_eq!(read, 0, "nothing more comes");
    }
}

/// The end of a connection that was cut is not the end of what is sent on it.
pub(crate) async fn is_reset(stream: &mut (impl AsyncRead + Unpin)) {
    let error = within("the end", stream.read(&mut [0])).await.expect_err("cut, not ended");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

pub(crate) async fn ping(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    stream.write_all(b"ping").await.expect("it is taken");
    assert_eq!(read_exactly(stream, 4).await, b"ping");
}

fn assert_fields(record: &Value, expected: &[(&str, Value)]) {
    for (field, value) in expected {
        assert_eq!(&record[*field], value, "`{field}` of {record}");
    }
}

#[tokio::test]
async fn a_permitted_connection_is_relayed_and_recorded_with_its_bytes() {
    let (world, server) = (World::new(), Server::echo().await);
    let pair = world.pair("tcp", &server.address, CONNECT).await;
    let mut stream = connect(&pair).await;
    stream.write_all(b"some bytes").await.unwrap();
    assert_eq!(read_exactly(&mut stream, 10).await, b"some bytes");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, b"");
    // Who sees the end finds the record written.
    for (sidecar, direction) in [(&pair.outbound, "outbound"), (&pair.inbound, "inbound")] {
        let records = sidecar.records.all();
        let [record] = records.as_slice() else { panic!("one record: {records:#?}") };
        assert_fields(
            record,
            &[
                ("kind", "request".into()),
                ("outcome", "allowed".into()),
                ("direction", direction.into()),
                ("protocol", "tcp".into()),
                ("listener", "endpoint".into()),
                ("principal", world.id("app").into()),
                ("action", "tcp:Connect".into()),
                ("bytes_in", 10.into()),
                ("bytes_out", 10.into()),
            ],
        );
        assert!(record.get("error").is_none_or(Value::is_null), "{record}");
        let counted = sidecar
            .metric("portcullis_authz_decisions_total", &["action=\"tcp:Connect\"", "outcome=\"allowed\""])
            .await;
        assert_eq!(counted as u64, 1);
    }
    assert_eq!(policies_of(&pair.inbound.records.all()[0]), ["app-connects"]);
    pair.stop().await;
}

#[tokio::test]
async fn a_denied_connection_is_closed_after_the_handshake_and_reaches_nothing() {
    for policies in [NOBODY, ""] {
        let (world, server) = (World::new(), Server::echo().await);
        let pair = world.pair("tcp", &server.address, policies).await;
        let svid = world.ca.issue("/ns/test/sa/app");
        let mut direct = TlsClient::with(&svid).connect(pair.inbound.inbound("endpoint")).await.expect("a handshake");
        let _ = direct.write_all(b"let me in").await;
        assert_eq!(rest(&mut direct).await, b"", "closed in order, by close_notify");
        let record = pair.inbound.records.all().pop().expect("the record precedes the end");
        let outcome = if policies.is_empty() { "not_permitted" } else { "forbidden" };
        assert_fields(
            &record,
            &[
                ("outcome", outcome.into()),
                ("action", "tcp:Connect".into()),
                ("principal", svid.id.clone().into()),
                ("bytes_in", 0.into()),
            ],
        );
        let counted =
            pair.inbound.metric("portcullis_authz_decisions_total", &[&format!("outcome=\"{outcome}\"")]).await;
        assert_eq!(counted as u64, 1);
        // The same through the outbound sidecar, which permits it.
        let mut stream = connect(&pair).await;
        let _ = stream.write_all(b"let me in").await;
        ends(&mut stream).await;
        assert_eq!(server.connections(), 0, "nothing reached the upstream");
        pair.stop().await;
    }
}

#[tokio::test]
async fn an_outbound_denial_never_leaves_the_machine() {
    let (world, server) = (World::new(), Server::echo().await);
    let inbound =
        world.sidecar("service").policies(CONNECT).inbound("endpoint", "tcp", &server.address, "").start().await;
    let to = inbound.inbound("endpoint").to_string();
    let outbound =
        world.sidecar("app").policies(NOBODY).outbound("endpoint", "tcp", &to, &world.id("service"), "").start().await;
    let mut stream = TcpStream::connect(outbound.outbound("endpoint")).await.unwrap();
    let _ = stream.write_all(b"GET").await;
    assert_eq!(rest(&mut stream).await, b"");
    assert_fields(&outbound.records.with_outcome("forbidden").await, &[("direction", "outbound".into())]);
    outbound.stop().await;
    assert!(inbound.stop().await.all().is_empty());
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard_at_once() {
    let greeting = |mut stream: TcpStream| async move {
        let _ = stream.write_all(b"220 ready\r\n").await;
        echo(stream).await;
    };
    let (world, server) = (World::new(), Server::start(greeting).await);
    let pair = world.pair("tcp", &server.address, CONNECT).await;
    let began = Instant::now();
    let mut stream = connect(&pair).await;
    assert_eq!(read_exactly(&mut stream, 11).await, b"220 ready\r\n");
    assert!(began.elapsed() < Duration::from_secs(2), "no detection delay: {:?}", began.elapsed());
    ping(&mut stream).await;
    drop(stream);
    pair.stop().await;
}

#[tokio::test]
async fn the_end_of_one_direction_leaves_the_other_open_both_ways_round() {
    let answers_after_the_end = |mut stream: TcpStream| async move {
        let mut asked = Vec::new();
        let _ = stream.read_to_end(&mut asked).await;
        let _ = stream.write_all(format!("{} bytes", asked.len()).as_bytes()).await;
        let _ = stream.shutdown().await;
    };
    let ends_first = |mut stream: TcpStream| async move {
        let _ = stream.write_all(b"all I have").await;
        let _ = stream.shutdown().await;
        let mut heard = Vec::new();
        let _ = stream.read_to_end(&mut heard).await;
        assert_eq!(heard, b"after your end");
    };
    let world = World::new();
    let server = Server::start(answers_after_the_end).await;
    let pair = world.pair("tcp", &server.address, CONNECT).await;
    let mut stream = connect(&pair).await;
    stream.write_all(&[7; 100_000]).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, b"100000 bytes");
    pair.stop().await;

    let world = World::new();
    let server = Server::start(ends_first).await;
    let pair = world.pair("tcp", &server.address, CONNECT).await;
    let mut stream = connect(&pair).await;
    assert_eq!(rest(&mut stream).await, b"all I have");
    stream.write_all(b"after your end").await.unwrap();
    stream.shutdown().await.unwrap();
    let record = pair.inbound.records.requests(1).await.pop().unwrap();
    assert_fields(&record, &[("bytes_in", 14.into()), ("bytes_out", 10.into())]);
    pair.stop().await;
}

#[tokio::test]
async fn bulk_arrives_as_it_was_sent() {
    const LENGTH: usize = 32 * 1024 * 1024;
    let (world, server) = (World::new(), Server::echo().await);
    let pair = world.pair("tcp", &server.address, CONNECT).await;
    let (mut read, mut write) = connect(&pair).await.into_split();
    let sent: Vec<u8> = (0..LENGTH).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let sending = sent.clone();
    let sender = tokio::spawn(async move {
        // Odd pieces: nothing falls on the edge of a record or a buffer.
        for piece in sending.chunks(70_001) {
            write.write_all(piece).await.unwrap();
        }
        write.shutdown().await.unwrap();
    });
    let received = rest(&mut read).await;
    sender.await.unwrap();
    assert!(received == sent, "{} of {LENGTH} bytes", received.len());
    let record = pair.inbound.records.requests(1).await.pop().unwrap();
    assert_fields(&record, &[("bytes_in", LENGTH.into()), ("bytes_out", LENGTH.into())]);
    pair.stop().await;
}

#[tokio::test]
async fn a_unix_socket_and_several_upstreams_are_reached() {
    let world = World::new();
    let path = world.path().join("server.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let upstreams = format!("[\"{closed}\", \"unix:{}\"]", path.display());
    let pair = world.pair("tcp", &upstreams, CONNECT).await;
    let mut stream = connect(&pair).await;
    ping(&mut stream).await;
    drop(stream);
    pair.stop().await;
}

#[tokio::test]
async fn an_upstream_that_is_down_ends_the_connection_and_is_recorded() {
    let world = World::new();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let pair = world.pair("tcp", &closed, CONNECT).await;
    let mut stream = connect(&pair).await;
    ends(&mut stream).await;
    let record = pair.inbound.records.requests(1).await.pop().unwrap();
    assert_fields(
        &record,
        &[("outcome", "allowed".into()), ("reason", "upstream-connect".into()), ("bytes_in", 0.into())],
    );
    assert!(record["error"].as_str().unwrap().contains(&closed), "{record}");
    pair.stop().await;
}

#[tokio::test]
async fn a_connection_ends_when_it_is_too_old_or_idle() {
    for (options, reason) in [("lifetime: 300ms", "lifetime"), ("limits: {idle_timeout: 300ms}", "idle-timeout")] {
        let (world, server) = (World::new(), Server::echo().await);
        let inbound = world
            .sidecar("service")
            .policies(CONNECT)
            .inbound("endpoint", "tcp", &server.address, options)
            .start()
            .await;
        let to = inbound.inbound("endpoint").to_string();
        let outbound = world
            .sidecar("app")
            .policies(ALLOW_ALL)
            .outbound("endpoint", "tcp", &to, &world.id("service"), "")
            .start()
            .await;
        let mut stream = TcpStream::connect(outbound.outbound("endpoint")).await.unwrap();
        ping(&mut stream).await;
        is_reset(&mut stream).await;
        let record = inbound.records.requests(1).await.pop().unwrap();
        assert_fields(&record, &[("reason", reason.into()), ("bytes_in", 4.into()), ("bytes_out", 4.into())]);
        outbound.stop().await;
        inbound.stop().await;
    }
}

#[tokio::test]
async fn a_drain_waits_for_open_connections_and_then_cuts_them() {
    let (world, server) = (World::new(), Server::echo().await);
    let plan = world.sidecar("service").policies(CONNECT).inbound("endpoint", "tcp", &server.address, "");
    let inbound = plan.yaml("shutdown_timeout: 3s\n").start().await;
    let svid = world.ca.issue("/ns/test/sa/app");
    let mut finishes = TlsClient::with(&svid).connect(inbound.inbound("endpoint")).await.unwrap();
    let mut stays = TlsClient::with(&svid).connect(inbound.inbound("endpoint")).await.unwrap();
    ping(&mut finishes).await;
    ping(&mut stays).await;
    inbound.process.signal("TERM");
    inbound.logged("drain").await;
    ping(&mut finishes).await;
    finishes.shutdown().await.unwrap();
    assert_eq!(rest(&mut finishes).await, b"", "it ended in order during the drain");
    let mut byte = [0];
    within("the cut", stays.read(&mut byte)).await.expect_err("cut, not ended");
    let records = inbound.stop().await;
    let all = records.all();
    let mut reasons: Vec<&str> = all
        .iter()
        .filter(|record| record["kind"] == "request")
        .map(|record| record["reason"].as_str().unwrap_or(""))
        .collect();
    reasons.sort_unstable();
    assert!(matches!(reasons.as_slice(), ["", "drain-timeout" | "cut"]), "{all:#?}");
}

#[tokio::test]
async fn a_connection_is_cut_when_policies_or_trust_no_longer_allow_it() {
    let (world, server) = (World::new(), Server::echo().await);
    let other = Ca::new("partner.example");
    let policies = "@id(\"all\")\npermit (principal, action == Action::\"tcp:Connect\", resource);\n";
    let plan = world.sidecar("service").policies(policies).trust("partner.example", &other.bundle());
    let inbound = plan.inbound("endpoint", "tcp", &server.address, "").start().await;
    let address = inbound.inbound("endpoint");
    let mut app = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).connect(address).await.unwrap();
    let mut partner = TlsClient::with(&other.issue("/partner")).connect(address).await.unwrap();
    ping(&mut app).await;
    ping(&mut partner).await;

    // Another reason to let it in is as good as the first.
    inbound.replace("policies/test.cedar", CONNECT);
    within("the cut", partner.read(&mut [0])).await.expect_err("cut, not ended");
    ping(&mut app).await;
    let denial = inbound.records.with_outcome("not_permitted").await;
    assert_fields(
        &denial,
        &[("principal", "spiffe://partner.example/partner".into()), ("action", "tcp:Connect".into())],
    );
    inbound.records.find("the end of the connection", |record| record["reason"] == "no-longer-permitted").await;

    let withdrawn = Ca::new("pipeline.example");
    inbound.replace("pipeline.example.pem", &withdrawn.bundle());
    inbound.replace_svid(&withdrawn.issue("/ns/test/sa/service"));
    within("the cut", app.read(&mut [0])).await.expect_err("cut, not ended");
    let ended = |kind: &'static str| move |record: &Value| record["reason"] == "chain" && record["kind"] == kind;
    inbound.records.find("the end of the relay", ended("request")).await;
    inbound.records.find("the end of the connection", ended("connection")).await;
    inbound.stop().await;
}

#[tokio::test]
async fn the_upstream_is_told_who_connects_by_a_proxy_header() {
    let tells = |mut stream: TcpStream| async move {
        let mut header = [0; 512];
        let read = stream.read(&mut header).await.unwrap_or(0);
        let _ = stream.write_all(&header[..read]).await;
        let _ = stream.shutdown().await;
    };
    let (world, server) = (World::new(), Server::start(tells).await);
    let plan = world.sidecar("service").policies(CONNECT);
    let inbound = plan.inbound("endpoint", "tcp", &server.address, "send_proxy_protocol: true").start().await;
    let address = inbound.inbound("endpoint");
    let mut stream = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).connect(address).await.unwrap();
    let own = stream.get_ref().0.local_addr().unwrap();
    let header = rest(&mut stream).await;
    assert_eq!(&header[..14], b"\r\n\r\n\0\r\nQUIT\n\x21\x11");
    assert_eq!(usize::from(u16::from_be_bytes([header[14], header[15]])), header.len() - 16);
    assert_eq!(&header[16..24], [127, 0, 0, 1, 127, 0, 0, 1]);
    assert_eq!(&header[24..28], [own.port().to_be_bytes(), address.port().to_be_bytes()].concat());
    let tlvs = String::from_utf8_lossy(&header[28..]).into_owned();
    stream.shutdown().await.unwrap();
    let record = inbound.records.requests(1).await.pop().unwrap();
    for expected in ["TLSv1.3", &world.id("app"), record["decision_id"].as_str().unwrap()] {
        assert!(tlvs.contains(expected), "{expected} in {tlvs:?}");
    }
    inbound.stop().await;
}

/// A header as a load balancer sends it.
fn proxy_header(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&source);
    header.extend_from_slice(&[127, 0, 0, 1]);
    header.extend_from_slice(&port.to_be_bytes());
    header.extend_from_slice(&[0x20, 0xfb]);
    header
}

#[tokio::test]
async fn a_listed_balancer_announces_where_its_peers_come_from() {
    const FROM_THERE: &str = "@id(\"there\")\npermit (principal, action, resource) when { context has sourceIp && context.sourceIp.isInRange(ip(\"192.0.2.0/24\")) };\n";
    let (world, server) = (World::new(), Server::echo().await);
    let plan = world.sidecar("service").policies(FROM_THERE);
    let inbound =
        plan.inbound("endpoint", "tcp", &server.address, "accept_proxy_protocol_from: [127.0.0.0/8]").start().await;
    let address = inbound.inbound("endpoint");
    let client = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));

    let announced = client.announcing(&proxy_header([192, 0, 2, 7], 4711));
    let mut stream = announced.connect(address).await.expect("a handshake");
    ping(&mut stream).await;
    stream.shutdown().await.unwrap();
    rest(&mut stream).await;
    let record = inbound.records.with_outcome("allowed").await;
    assert_fields(&record, &[("peer_address", "192.0.2.7:4711".into())]);
    assert_eq!(record["context"]["sourceIp"], "192.0.2.7", "{record}");

    // The denied twin: from elsewhere, and the balancer itself.
    for header in [proxy_header([198, 51, 100, 7], 1), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec()] {
        let mut stream = client.announcing(&header).connect(address).await.expect("a handshake");
        assert_eq!(rest(&mut stream).await, b"");
    }
    assert_eq!(server.connections(), 1);

    // Who says nothing, or nonsense, does not get as far as a handshake.
    for (header, rule) in [
        (Vec::new(), "proxy-header-missing"),
        (b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n".to_vec(), "proxy-header-missing"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c123456789012".to_vec(), "proxy-header-invalid"),
    ] {
        client.announcing(&header).connect(address).await.expect_err("no handshake");
        inbound.records.find(rule, |record| record["reason"] == rule && record["outcome"] == "refused").await;
    }
    assert_eq!(server.connections(), 1);
    inbound.stop().await;
}

#[tokio::test]
async fn who_is_not_listed_cannot_announce_another_address() {
    let (world, server) = (World::new(), Server::echo().await);
    let plan = world.sidecar("service").policies(CONNECT);
    let inbound =
        plan.inbound("endpoint", "tcp", &server.address, "accept_proxy_protocol_from: [192.0.2.1]").start().await;
    let client = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
    let address = inbound.inbound("endpoint");
    client.announcing(&proxy_header([192, 0, 2, 7], 1)).connect(address).await.expect_err("no handshake");
    let record = inbound.records.with_outcome("refused").await;
    assert_fields(&record, &[("kind", "handshake".into())]);
    let mut stream = client.connect(address).await.expect("without a header it is a peer as any other");
    ping(&mut stream).await;
    drop(stream);
    assert_eq!(server.connections(), 1);
    inbound.stop().await;
}

#[tokio::test]
async fn a_connection_of_some_seconds_has_a_record_of_its_beginning() {
    let (world, server) = (World::new(), Server::echo().await);
    let pair = world.pair("tcp", &server.address, CONNECT).await;
    let mut stream = connect(&pair).await;
    ping(&mut stream).await;
    let started = pair.inbound.records.find("the record of the beginning", |record| record["kind"] == "started").await;
    stream.shutdown().await.unwrap();
    rest(&mut stream).await;
    let ended = pair.inbound.records.requests(1).await.pop().unwrap();
    assert_eq!(started["decision_id"], ended["decision_id"]);
    pair.stop().await;
}
