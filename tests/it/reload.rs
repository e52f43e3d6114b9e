//! Policies, certificates and bundles change while requests run: none fails, each is decided by exactly one version, and
//! what does not load leaves the last good one in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use rustls::AlertDescription;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::support::*;

/// The shortest that the configuration takes.
const EAGER: &str = "reload_interval: 100ms";
/// For tests that say by SIGHUP when.
const ON_SIGNAL: &str = "reload_interval: 1h";

// ------------------------------------------------------------------------------------------------------------------ policies

#[tokio::test]
async fn each_request_is_decided_by_exactly_one_version_of_the_policies_however_often_they_change() {
    const VERSIONS: usize = 40;
    let (world, upstream) = (World::new(), Recorder::start());
    let mut mount = Mount::at(&world.folder("service/policies"));
    mount.swap(&version(0));
    let service = world.sidecar("service").yaml(ON_SIGNAL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let client = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
    let load = Load::start(&Target::Tls(Box::new(client), service.inbound("endpoint")), 3);

    // Signals without a pause between them, so that files are read in the middle of a swap too.
    let hangups = format!("while kill -HUP {}; do :; done", service.process.pid());
    let hangups = Process::spawn("hangups", Command::new("sh").args(["-c", &hangups]));
    for n in 1..=VERSIONS {
        mount.swap(&version(n));
        load.further(40).await;
    }
    drop(hangups);
    service.process.signal("HUP");
    let newest = format!("v{VERSIONS}.0");
    service.records.find("the newest version", |record| policies_of(record).contains(&newest.as_str())).await;
    let digest = in_force(&service, |policy| policy["policies"] == PARTS && policy["last_error"].is_null()).await;
    load.further(5).await;
    let answered = load.stop().await;

    let records = service.records.requests(answered).await;
    let mut digests: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in &records {
        let versions: BTreeSet<&str> = policies_of(record).iter().filter_map(|id| id.split('.').next()).collect();
        assert_eq!((versions.len(), policies_of(record).len()), (1, PARTS), "decided by a mixture: {record:#}");
        let version = versions.first().copied().unwrap_or_default().to_owned();
        digests.entry(record["policy_digest"].to_string()).or_default().insert(version);
    }
    assert!(digests.values().all(|versions| versions.len() == 1), "one digest for several versions: {digests:?}");
    assert!(digests.len() > 3, "there were hardly any versions: {digests:?}");
    let last = records.last().expect("there are records");
    assert_eq!(last["policy_digest"], digest["digest"]);
    assert_eq!(last["policy_generation"], digest["generation"]);
    assert!(policies_of(last).contains(&newest.as_str()), "{last:#}");
    service.stop().await;
}

/// Files of a version: enough of them that reading takes a while.
const PARTS: usize = 24;

fn version(n: usize) -> Vec<(String, String)> {
    let part = |part: usize| format!("@id(\"v{n}.{part}\")\npermit (principal, action, resource);\n");
    (0..PARTS).map(|number| (format!("part-{number}.cedar"), part(number))).collect()
}

#[tokio::test]
async fn policies_that_do_not_load_leave_the_last_good_ones_in_force() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(&permit("good", "read")).yaml(EAGER);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let good = service.status().await["policy"].clone();
    let mut app = Target::of(&world, "app", service.inbound("endpoint")).connect().await;
    let path = service.directory().join("policies/test.cedar");

    // It would overrun the stack of whoever parses it, and no panic would tell.
    let deep = format!(
        "@id(\"deep\") permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(5_000),
        ")".repeat(5_000)
    );
    for (broken, said) in [
        (deep.as_str(), "nested too deeply"),
        ("permit (principal, action, resource", "test.cedar:1:36"),
        ("\n\npermit (principal, action == Action::\"http:GTE\", resource);", "test.cedar:3"),
        (
            "@id(\"x\") permit (principal, action, resource in Bucket::\"endpoint/b\");",
            "endpoint `endpoint` speaks http",
        ),
    ] {
        let failed = service.metric("portcullis_policy_reload_total", &["result=\"failed\""]).await;
        service.replace("policies/test.cedar", broken);
        let refused =
            in_force(&service, |policy| policy["last_error"].as_str().is_some_and(|error| error.contains(said))).await;
        // Where it stands is drawn too, in the status as in the log.
        let report = refused["last_error_report"].as_str().expect("is there");
        assert!(report.contains("test.cedar:") && report.contains("╭─["), "{report}");
        assert!(report.len() < 2_000, "a long line is shown whole: {report}");
        let line = eventually("the log line", || {
            service.log().into_iter().find(|line| line.contains(&said.replace('"', "\\\"")))
        })
        .await;
        assert!(line.contains("╭─[") && line.contains("policies not reloaded"), "{line}");
        assert!(service.metric("portcullis_policy_reload_total", &["result=\"failed\""]).await > failed);
        assert!(service.logged("policies not reloaded").await.contains("ERROR"));

        let answer = app.send(request("GET", "service.example", "/orders", &[], "")).await;
        assert_eq!(answer.status, StatusCode::OK);
        let status = service.status().await;
        assert_eq!((&status["policy"]["digest"], &status["ready"]), (&good["digest"], &true.into()));
    }
    let records = service.records.requests(4).await;
    assert!(records.iter().all(|record| record["policy_digest"] == good["digest"] && policies_of(record) == ["good"]));

    // A folder that is gone is no empty one.
    fs::rename(service.directory().join("policies"), service.directory().join("away")).expect("can be moved");
    in_force(&service, |policy| policy["last_error"].as_str().is_some_and(|error| error.contains("cannot be read")))
        .await;
    assert_eq!(app.send(request("GET", "service.example", "/", &[], "")).await.status, StatusCode::OK);
    fs::rename(service.directory().join("away"), service.directory().join("policies")).expect("can be moved");

    // The same connection, new policies: reading is over, writing begins.
    fs::write(&path, permit("better", "write")).expect("is writable");
    let better = in_force(&service, |policy| policy["last_error"].is_null() && policy["generation"] == 2).await;
    let get = app.send(request("GET", "service.example", "/orders", &[], "")).await;
    let post = app.send(request("POST", "service.example", "/orders", &[], "{}")).await;
    assert_eq!((get.status, post.status), (StatusCode::FORBIDDEN, StatusCode::OK));
    let denied = service.records.of_decision(get.decision()).await;
    assert_eq!((&denied["outcome"], &denied["policy_digest"]), (&"not_permitted".into(), &better["digest"]));
    assert_eq!(service.metric("portcullis_policy_reload_total", &["result=\"swapped\""]).await, 1.0);
    assert_eq!(service.metric("portcullis_policy_generation", &[]).await, 2.0);
    let digest = format!("digest={}", better["digest"]);
    assert_eq!(service.metric("portcullis_policy_info", &[&digest]).await, 1.0);
    assert_eq!(service.metric("portcullis_policy_info", &[]).await, 1.0, "the old digest's series is still there");
    service.stop().await;
}

#[tokio::test]
async fn sighup_puts_changed_policies_in_force_at_once() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(&permit("old", "read")).yaml(ON_SIGNAL).without_file_events();
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    // The first change may be found by the look that every start ends with. After that nothing looks but by the signal.
    for (generation, name) in [(2, "between"), (3, "new")] {
        service.replace("policies/test.cedar", &permit(name, "read"));
        service.process.signal("HUP");
        in_force(&service, |policy| policy["generation"] == generation).await;
    }
    let mut app = Target::of(&world, "app", service.inbound("endpoint")).connect().await;
    app.send(request("GET", "service.example", "/", &[], "")).await;
    assert_eq!(policies_of(&service.records.with_outcome("allowed").await), ["new"]);
    service.stop().await;
}

// ------------------------------------------------------------------------------------------------------ certificates and trust

#[tokio::test]
async fn a_mismatched_pair_leaves_the_last_good_one_in_force_and_counts() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL).yaml(EAGER);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let address = service.inbound("endpoint");
    let first = service.status().await["identity"].clone();
    let next = world.ca.issue("/ns/test/sa/service");
    let stranger = Ca::new("pipeline.example").issue("/ns/test/sa/service");
    let (svid, key) = (service.directory().join("svid.pem"), service.directory().join("svid.key"));
    let (good_svid, good_key) = (fs::read_to_string(svid), fs::read_to_string(key));
    let (good_svid, good_key) = (good_svid.expect("is there"), good_key.expect("is there"));

    for (chain, key, said) in [
        (good_svid.clone(), next.key_pem(), "private key"),
        (next.chain_pem(), good_key.clone(), "private key"),
        (stranger.chain_pem(), stranger.key_pem(), "our own trust bundles"),
        (good_svid.get(..200).unwrap_or_default().to_owned(), good_key.clone(), "PEM"),
        (good_svid.clone(), String::new(), "no private key"),
    ] {
        let failed = service.metric("portcullis_svid_rotation_total", &["result=\"failed\""]).await;
        // No key in between: it might go with what is there.
        service.replace("svid.key", "");
        service.replace("svid.pem", &chain);
        service.replace("svid.key", &key);
        // The reload that looked between the two replacements counts as well.
        let rotations = ("portcullis_svid_rotation_total", &["result=\"failed\""]);
        service.metric_with(rotations.0, rotations.1, |count| count >= failed + 2.0).await;
        let error = service.status().await["identity"]["last_error"].to_string();
        assert!(error.contains(said), "`{error}` does not say `{said}`");
        let status = service.status().await;
        assert_eq!((&status["identity"]["sha256"], &status["ready"]), (&first["sha256"], &true.into()), "{said}");
        let mut app = Target::of(&world, "app", address).connect().await;
        let answer = app.send(request("GET", "service.example", "/", &[], "")).await;
        assert_eq!(answer.status, StatusCode::OK, "{said}");
    }
    service.logged("identity not reloaded").await;

    service.replace_svid(&next);
    generation(&service, 2).await;
    let stream = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).connect(address).await.expect("shakes hands");
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
    assert_eq!(shown.as_ref(), Some(next.leaf()), "new connections get the new certificate");
    assert_eq!(service.status().await["identity"]["last_error"], Value::Null);
    assert_eq!(service.metric("portcullis_svid_generation", &[]).await, 2.0);
    service.stop().await;
}

#[tokio::test]
async fn fifty_swaps_of_every_certificate_under_load_fail_no_request() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL).yaml(ON_SIGNAL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let app = world.sidecar("app").policies(ALLOW_ALL).yaml(ON_SIGNAL);
    let to = service.inbound("endpoint").to_string();
    let app = app.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let load = Load::start(&Target::Plain(app.outbound("endpoint")), 3);
    let direct = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
    let fresh = Load::reconnecting(&Target::Tls(Box::new(direct), service.inbound("endpoint")), 1);

    for n in 1..=50 {
        for (sidecar, path) in [(&service, "/ns/test/sa/service"), (&app, "/ns/test/sa/app")] {
            sidecar.replace_svid(&world.ca.issue(path));
            sidecar.process.signal("HUP");
        }
        generation(&service, n + 1).await;
        generation(&app, n + 1).await;
        load.further(2).await;
        fresh.further(1).await;
    }
    let (answered, freshly) = (load.stop().await, fresh.stop().await);
    let peers: BTreeSet<String> = service
        .records
        .requests(answered + freshly)
        .await
        .iter()
        .map(|record| record["peer_certificate_sha256"].to_string())
        .collect();
    assert!(peers.len() > 40, "upstream connections stayed with old certificates: {} different", peers.len());
    for sidecar in [&service, &app] {
        assert_eq!(sidecar.metric("portcullis_svid_rotation_total", &["result=\"swapped\""]).await, 50.0);
        assert_eq!(sidecar.metric("portcullis_svid_rotation_total", &["result=\"failed\""]).await, 0.0);
    }
    app.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn a_withdrawn_root_ends_new_handshakes_at_once_and_open_connections_within_the_limit() {
    let (world, upstream) = (World::new(), Recorder::behaving(Behaviour::Echo, None));
    let other = Ca::new("pipeline.example");
    let both = format!("{}{}", world.ca.bundle(), other.bundle());
    let service = world.sidecar("service").policies(ALLOW_ALL).trust("pipeline.example", &both);
    let service = service.yaml(EAGER).yaml("limits: {grace: 1s}");
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let address = service.inbound("endpoint");
    let leaving = other.issue("/ns/test/sa/leaving");
    let leaver = TlsClient::with(&leaving);

    let mut staying = Target::of(&world, "staying", address).connect().await;
    staying.send(request("GET", "service.example", "/", &[], "")).await;
    let mut idle = Raw::over(leaver.connect(address).await.expect("is trusted"));
    idle.write("GET /idle HTTP/1.1\r\nhost: service.example\r\n\r\n").await;
    assert_eq!(idle.answer().await.map(|answer| answer.status()), Some(200));
    let mut busy = http1(leaver.connect(address).await.expect("is trusted")).await;
    let (body, upload) = mpsc::unbounded_channel();
    body.send(Bytes::from_static(b"first")).expect("is read");
    let upload = streamed(upload);
    let open = request("POST", "service.example", "/busy", &[], "").map(|_| upload);
    let mut echoed = busy.stream(open).await.expect("is permitted").into_body();
    let first = within("the echo", echoed.frame()).await.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
    assert_eq!(first.as_deref(), Some(&b"first"[..]));

    let withdrawn = Instant::now();
    service.replace("pipeline.example.pem", &world.ca.bundle());
    generation(&service, 2).await;
    assert!(withdrawn.elapsed().as_secs() < 5, "takes effect {:?} after the change", withdrawn.elapsed());

    assert_eq!(leaver.refused_by(address).await, AlertDescription::UnknownCA);
    let refused = service.records.find("the refused handshake", |record| record["kind"] == "handshake").await;
    assert_eq!((&refused["peer_san"], &refused["reason"]), (&leaving.id.clone().into(), &"chain".into()));
    assert!(idle.is_closed().await, "an idle connection goes on");
    // Nothing of ours ends it: neither the body nor the client.
    while within("the cut", echoed.frame()).await.is_some_and(|frame| frame.is_ok()) {}
    assert!(withdrawn.elapsed().as_secs() < 10, "open connections end {:?} after the change", withdrawn.elapsed());
    drop(body);
    let cut = |record: &Value| record["kind"] == "connection" && record["principal"] == leaving.id;
    eventually("a record of each connection that was ended", || {
        (service.records.all().iter().filter(|record| cut(record)).count() == 2).then_some(())
    })
    .await;
    let record = service.records.find("the ended connection", cut).await;
    assert_eq!((&record["reason"], &record["outcome"]), (&"chain".into(), &"refused".into()));
    assert_eq!(record["peer_certificate_sha256"], leaving.sha256());
    assert_eq!(service.records.requests(3).await.len(), 3, "the request that was cut has its record too");

    // The allowed twin: whom the remaining root vouches for notices nothing.
    let answer = staying.send(request("GET", "service.example", "/", &[], "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    service.stop().await;
}

#[tokio::test]
async fn a_peer_whose_certificate_expires_is_sent_away_with_a_record() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let brief = world.ca.issue_with("/ns/test/sa/brief", |params| params.not_after = in_seconds(3));
    let stream = TlsClient::with(&brief).connect(service.inbound("endpoint")).await.expect("is valid yet");
    let mut raw = Raw::over(stream);
    raw.write("GET / HTTP/1.1\r\nhost: service.example\r\n\r\n").await;
    assert_eq!(raw.answer().await.map(|answer| answer.status()), Some(200));
    assert!(raw.is_closed().await);
    let record = service.records.find("the ended connection", |record| record["kind"] == "connection").await;
    assert_eq!((&record["reason"], &record["principal"]), (&"peer-expired".into(), &brief.id.into()));
    service.stop().await;
}

#[tokio::test]
async fn an_expired_svid_of_our_own_is_not_served_and_its_successor_is() {
    let (world, upstream) = (World::new(), Recorder::start());
    let brief = world.ca.issue_with("/ns/test/sa/service", |params| params.not_after = in_seconds(5));
    let service = world.sidecar("service").svid(brief).policies(ALLOW_ALL).yaml(EAGER);
    let service = service.inbound("endpoint", "http", &upstream.url(), "");
    let service = service.outbound("out", "http", &upstream.address.to_string(), "any", "").start().await;
    let client = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
    assert_eq!(service.metric("portcullis_svid_rotation_overdue", &[]).await, 1.0, "less than a third is left");

    let health = service.health();
    let ready = eventually_so("an expired SVID", async || {
        let ready = get(health, "/ready").await;
        if ready.status.is_success() { Err(ready) } else { Ok(ready) }
    });
    let ready = ready.await;
    assert!(ready.text().contains("identity"), "{ready:?}");
    client.refused_by(service.inbound("endpoint")).await;
    let refused = service.records.find("the refused handshake", |record| record["kind"] == "handshake").await;
    assert!(refused["error"].as_str().is_some_and(|error| error.contains("own")), "{refused:#}");
    let answer = get(service.outbound("out"), "/").await;
    assert!(answer.status.is_server_error(), "{answer:?}");
    upstream.assert_untouched();

    service.replace_svid(&world.ca.issue("/ns/test/sa/service"));
    generation(&service, 2).await;
    assert_eq!(get(health, "/ready").await.status, StatusCode::OK);
    let stream = client.connect(service.inbound("endpoint")).await.expect("shakes hands again");
    let answer = http1(stream).await.send(request("GET", "service.example", "/", &[], "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(service.metric("portcullis_svid_rotation_overdue", &[]).await, 0.0);
    service.stop().await;
}

#[tokio::test]
async fn a_secret_that_kubernetes_mounts_is_followed_through_its_links() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL).yaml(EAGER);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let files = |svid: &Svid| {
        let bundle = ("pipeline.example.pem".to_owned(), world.ca.bundle());
        vec![("svid.pem".to_owned(), svid.chain_pem()), ("svid.key".to_owned(), svid.key_pem()), bundle]
    };
    let mut mount = Mount::at(service.directory());
    for number in 2..=5 {
        let svid = world.ca.issue("/ns/test/sa/service");
        mount.swap(&files(&svid));
        generation(&service, number).await;
        assert_eq!(service.status().await["identity"]["sha256"], svid.sha256());
    }
    service.stop().await;
}

#[tokio::test]
async fn files_that_are_not_there_yet_are_waited_for() {
    let (world, upstream) = (World::new(), Recorder::start());
    let plan = world.sidecar("service").policies(ALLOW_ALL).yaml(EAGER);
    let mut service = plan.inbound("endpoint", "http", &upstream.url(), "").spawn_without("svid.pem");
    service.listening().await;
    let health = service.health();
    let ready = get(health, "/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let reasons = get(service.admin(), "/ready").await.text();
    assert!(reasons.contains("identity") && reasons.contains("svid.pem"), "{reasons}");
    assert_eq!(get(health, "/startup").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(service.metric("portcullis_svid_rotation_overdue", &[]).await, 1.0);
    let client = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
    client.refused_by(service.inbound("endpoint")).await;

    service.replace_svid(&world.ca.issue("/ns/test/sa/service"));
    generation(&service, 1).await;
    assert_eq!(get(health, "/ready").await.status, StatusCode::OK);
    assert_eq!(get(health, "/startup").await.status, StatusCode::OK);
    let stream = client.connect(service.inbound("endpoint")).await.expect("shakes hands now");
    let answer = http1(stream).await.send(request("GET", "service.example", "/", &[], "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    service.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------- helpers

fn permit(id: &str, group: &str) -> String {
    format!("@id(\"{id}\")\npermit (principal, action in Action::\"{group}\", resource in Endpoint::\"endpoint\");\n")
}

fn in_seconds(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::seconds(seconds)
}

/// `policy` of `/status`, once `wanted` holds of it.
async fn in_force(sidecar: &Sidecar, wanted: impl Fn(&Value) -> bool) -> Value {
    sidecar.status_with("the policies", |status| wanted(&status["policy"])).await["policy"].clone()
}

/// Waits until the identity of this number is in force.
async fn generation(sidecar: &Sidecar, number: u64) {
    let is_reached = |status: &Value| status["identity"]["generation"].as_u64() >= Some(number);
    sidecar.status_with("the generation", is_reached).await;
}

fn streamed(
    receiver: mpsc::UnboundedReceiver<Bytes>,
) -> http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible> {
    let frames = futures_util::stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|bytes| (Ok(Frame::data(bytes)), receiver))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// Where a client connects.
#[derive(Debug, Clone)]
enum Target {
    Plain(SocketAddr),
    Tls(Box<TlsClient>, SocketAddr),
}

impl Target {
    /// An inbound listener, as the workload `name`.
    fn of(world: &World, name: &str, address: SocketAddr) -> Self {
        Self::Tls(Box::new(TlsClient::with(&world.ca.issue(&format!("/ns/test/sa/{name}")))), address)
    }

    async fn connect(&self) -> Client {
        match self {
            Self::Plain(address) => Client::plain(*address).await,
            Self::Tls(client, address) => http1(client.connect(*address).await.expect("shakes hands")).await,
        }
    }
}

/// Clients that send one request after the other. Any that is not answered with 200 fails the test.
#[derive(Debug)]
struct Load {
    stop: watch::Sender<bool>,
    answered: watch::Receiver<usize>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    /// Each client keeps its connection.
    fn start(target: &Target, clients: usize) -> Self {
        Self::run(target, clients, false)
    }

    /// Each request has a connection of its own.
    fn reconnecting(target: &Target, clients: usize) -> Self {
        Self::run(target, clients, true)
    }

    fn run(target: &Target, clients: usize, reconnect: bool) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (count, answered) = watch::channel(0);
        let client = |_| {
            let (target, stopped, count) = (target.clone(), stopped.clone(), count.clone());
            tokio::spawn(async move {
                let mut client = target.connect().await;
                while !*stopped.borrow() {
                    if reconnect {
                        client = target.connect().await;
                    }
                    let answer = client.send(request("GET", "service.example", "/load", &[], "")).await;
                    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                    count.send_modify(|count| *count += 1);
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { stop, answered, clients }
    }

    /// Waits for as many further answers.
    async fn further(&self, answers: usize) {
        let mut answered = self.answered.clone();
        let enough = *answered.borrow() + answers;
        within("further answers", answered.wait_for(|count| *count >= enough)).await.expect("clients run");
    }

    /// Ends them and says how many requests were answered.
    async fn stop(self) -> usize {
        self.stop.send_replace(true);
        for client in self.clients {
            within("a client to end", client).await.expect("every request was answered with 200");
        }
        *self.answered.borrow()
    }
}
