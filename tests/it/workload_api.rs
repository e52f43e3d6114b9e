//! Sidecars that get their identity from a SPIFFE agent: one that is there, absent, killed, replaced, that has nothing for us, or that sends
//! nonsense. And `certs serve`, which is such an agent.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use portcullis::identity::workload_api::{Offer, WorkloadApiServer, X509SvidResponse};
use portcullis::identity::{
    Clock, Denied, IdentityStore, JwtSource, OnExpiredCrl, Part, SvidChoice, WorkloadApiPlan, WorkloadApiSource,
    X509Source as _,
};
use rustls::AlertDescription as Alert;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::Status;

use crate::support::*;

const SERVICE: &str = "/ns/test/sa/service";
const UP: &str = "portcullis_identity_source_up";
const FAILURES: &str = "portcullis_identity_source_failures_total";
const OURS: &[&str] = &["source=\"workload_api\""];

/// A world, an upstream that answers, and where an agent listens or not.
struct Scene {
    world: World,
    upstream: Recorder,
    socket: std::path::PathBuf,
}

impl Scene {
    fn new() -> Self {
        let (world, upstream) = (World::new(), Recorder::start());
        let socket = world.path().join("agent.sock");
        Self { world, upstream, socket }
    }

    fn svid(&self) -> Svid {
        self.world.ca.issue(SERVICE)
    }

    fn entry(&self, svid: &Svid) -> Offer {
        offer(x509([entry(svid, &self.world.ca, "")]))
    }

    /// A service that asks the agent. Files are looked at when a signal says so, and then never otherwise.
    fn plan(&self, choice: &str) -> SidecarPlan {
        let identity = format!("source: workload_api\naddress: unix:{}\n{choice}", self.socket.display());
        let plan = self.world.sidecar("service").policies(ALLOW_ALL).identity(&identity).yaml("reload_interval: 1h");
        plan.inbound("endpoint", "http", &self.upstream.url(), "")
    }

    /// Whether a client with this SVID gets an answer.
    async fn is_served(&self, service: &Sidecar, client: &Svid) -> bool {
        let stream = TlsClient::with(client).connect(service.inbound("endpoint")).await.expect("the server accepts");
        let mut client = http1(stream).await;
        client.send(request("GET", "service.example", "/", &[], "")).await.status == StatusCode::OK
    }
}

/// The service's own certificate as it is in force.
async fn serving(service: &Sidecar, svid: &Svid) -> Value {
    let wanted = json!(svid.sha256());
    service.status_with("the SVID in force", |status| status["identity"]["sha256"] == wanted).await
}

async fn not_ready(service: &Sidecar) -> String {
    // Why is told only on the loopback's admin door.
    let answer = get(service.admin(), "/ready").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(service.health(), "/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(get(service.health(), "/live").await.status, StatusCode::OK);
    answer.text()
}

// ------------------------------------------------------------------------------------------------------- rotation and absence

#[tokio::test]
async fn the_agents_svid_is_ours_and_a_rotation_is_in_force_within_a_second() {
    let scene = Scene::new();
    let (first, app) = (scene.svid(), scene.world.ca.issue("/ns/test/sa/app"));
    let agent = Agent::start(&scene.socket, scene.entry(&first));
    let service = scene.plan("").start().await;
    let status = serving(&service, &first).await;
    assert_eq!(status["identity"]["spiffe_id"], scene.world.id("service"));
    assert_eq!(status["identity"]["source"], "workload_api");
    assert!(scene.is_served(&service, &app).await);
    assert_eq!(service.metric(UP, OURS).await, 1.0);

    for _ in 0..5 {
        let next = scene.svid();
        let pushed = Instant::now();
        agent.offer(scene.entry(&next));
        serving(&service, &next).await;
        assert!(pushed.elapsed() < Duration::from_secs(1), "in force only after {:?}", pushed.elapsed());
        let seen = TlsClient::with(&app).connect(service.inbound("endpoint")).await.expect("the server accepts");
        let presented = seen.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        assert_eq!(presented.as_ref(), Some(next.leaf()));
    }
    assert_eq!(service.metric("portcullis_svid_generation", &[]).await, 6.0);
    service.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_not_there_yet_is_waited_for_and_used_as_soon_as_it_comes() {
    let scene = Scene::new();
    let mut service = scene.plan("").spawn();
    service.listening().await;
    service.metric_with(FAILURES, &["reason=\"unavailable\""], |count| count >= 3.0).await;
    let reason = not_ready(&service).await;
    assert!(reason.contains("agent.sock") && reason.contains("cannot be reached"), "{reason}");
    assert!(reason.contains("No such file or directory"), "the system's own reason is missing: {reason}");
    assert_eq!(service.metric(UP, OURS).await, 0.0);

    let came = Instant::now();
    let svid = scene.svid();
    let _agent = Agent::start(&scene.socket, scene.entry(&svid));
    serving(&service, &svid).await;
    // However long it was waited for: the socket is looked at, attempts are not.
    assert!(came.elapsed() < Duration::from_secs(2), "noticed only after {:?}", came.elapsed());
    assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK);
    assert_eq!(service.metric(UP, OURS).await, 1.0);
    let said = service.log().iter().filter(|line| line.contains("the identity source has a fault")).count();
    assert_eq!(said, 1, "one outage is said once: {:#?}", service.log());
    service.stop().await;
}

#[tokio::test]
async fn what_an_agent_gave_is_used_while_it_is_away_and_its_successor_is_found() {
    let scene = Scene::new();
    let (first, app) = (scene.svid(), scene.world.ca.issue("/ns/test/sa/app"));
    let agent = Agent::start(&scene.socket, scene.entry(&first));
    let service = scene.plan("").start().await;

    drop(agent);
    service.metric_with(UP, OURS, |up| up == 0.0).await;
    service.metric_with(FAILURES, &["reason=\"unavailable\""], |count| count >= 3.0).await;
    assert!(scene.is_served(&service, &app).await, "what is held is good until it expires");
    assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK);
    let held = serving(&service, &first).await;
    assert!(
        held["identity"]["last_error"].as_str().is_some_and(|error| error.contains("cannot be reached")),
        "{held:#}"
    );
    let said = service.log().iter().filter(|line| line.contains("stays in use until it expires")).count();
    assert_eq!(said, 1, "{:#?}", service.log());

    // The same one again.
    let second = scene.svid();
    let agent = Agent::start(&scene.socket, scene.entry(&second));
    serving(&service, &second).await;
    service.metric_with(UP, OURS, |up| up == 1.0).await;
    service.logged("gives us an identity again").await;

    // Another one, of another authority for the same trust domain.
    drop(agent);
    let other = Ca::new("pipeline.example");
    let third = other.issue(SERVICE);
    let _agent = Agent::start(&scene.socket, offer(x509([entry(&third, &other, "")])));
    serving(&service, &third).await;
    assert!(scene.is_served(&service, &other.issue("/ns/test/sa/app")).await);
    assert_eq!(TlsClient::with(&app).refused_by(service.inbound("endpoint")).await, Alert::UnknownCA);
    service.stop().await;
}

// ------------------------------------------------------------------------------------------- nothing for us, and refused for good

#[tokio::test]
async fn an_agent_that_issues_no_identity_is_told_apart_from_one_that_is_away() {
    let scene = Scene::new();
    let agent = Agent::start(&scene.socket, Offer::none());
    let mut service = scene.plan("").spawn();
    service.listening().await;
    service.metric_with(FAILURES, &["reason=\"no_identity\""], |count| count >= 2.0).await;
    let reason = not_ready(&service).await;
    assert!(reason.contains("issues no identity to this workload (PermissionDenied)"), "{reason}");
    assert_eq!(service.metric(FAILURES, &["reason=\"unavailable\""]).await, 0.0);
    assert!(service.logged("no_identity").await.contains("ERROR"));

    agent.offer(Offer::Refused(Status::unavailable("still starting")));
    service.metric_with(FAILURES, &["reason=\"unavailable\""], |count| count >= 1.0).await;
    let reason = not_ready(&service).await;
    assert!(reason.contains("not available (Unavailable): still starting"), "{reason}");

    let svid = scene.svid();
    agent.offer(scene.entry(&svid));
    service.process.signal("HUP");
    serving(&service, &svid).await;
    service.stop().await;
}

#[tokio::test]
async fn an_identity_that_the_agent_takes_back_is_not_used_any_more() {
    let scene = Scene::new();
    let (first, app) = (scene.svid(), scene.world.ca.issue("/ns/test/sa/app"));
    let agent = Agent::start(&scene.socket, scene.entry(&first));
    let service = scene.plan("").start().await;
    assert!(scene.is_served(&service, &app).await);

    // Unavailable is no reason to give it up …
    agent.offer(Offer::Refused(Status::unavailable("overloaded")));
    service.metric_with(FAILURES, &["reason=\"unavailable\""], |count| count >= 1.0).await;
    assert!(scene.is_served(&service, &app).await);

    // … PermissionDenied is.
    agent.offer(Offer::none());
    service.process.signal("HUP");
    service.status_with("no identity", |status| status["identity"]["spiffe_id"].is_null()).await;
    let reason = not_ready(&service).await;
    assert!(reason.contains("PermissionDenied"), "{reason}");
    let refused = TlsClient::with(&app).connect(service.inbound("endpoint")).await;
    assert!(refused.is_err(), "a handshake without an identity: {refused:?}");
    service.logged("our identity was withdrawn").await;

    let second = scene.svid();
    agent.offer(scene.entry(&second));
    service.process.signal("HUP");
    serving(&service, &second).await;
    assert!(scene.is_served(&service, &app).await);
    service.stop().await;
}

#[tokio::test]
async fn an_agent_that_refuses_the_call_for_good_is_asked_again_only_when_told_or_when_it_is_another_one() {
    let scene = Scene::new();
    for status in [Status::invalid_argument("security header missing"), Status::unimplemented("no such method")] {
        let agent = Agent::start(&scene.socket, Offer::Refused(status));
        let mut service = scene.plan("").spawn();
        service.listening().await;
        service.metric_with(FAILURES, &["reason=\"refused\""], |count| count == 1.0).await;
        assert!(not_ready(&service).await.contains("refuses the call"));
        let first = scene.svid();
        agent.offer(scene.entry(&first));
        // Several times as long as the first waits of the backoff would be.
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until {
            assert!(service.status().await["identity"]["spiffe_id"].is_null(), "it was asked again");
        }
        assert_eq!(service.metric(FAILURES, &["reason=\"refused\""]).await, 1.0);
        service.process.signal("HUP");
        serving(&service, &first).await;

        agent.offer(Offer::Refused(Status::invalid_argument("security header missing")));
        service.metric_with(FAILURES, &["reason=\"refused\""], |count| count == 2.0).await;
        serving(&service, &first).await;
        drop(agent);
        let second = scene.svid();
        let _agent = Agent::start(&scene.socket, scene.entry(&second));
        serving(&service, &second).await;
        service.stop().await;
    }
}

// ------------------------------------------------------------------------------------------------------------ choice, federation

#[tokio::test]
async fn of_several_svids_the_configuration_says_which_one_by_hint_or_id() {
    let scene = Scene::new();
    let ca = &scene.world.ca;
    let [default, internal, twin, other] =
        ["/ns/test/sa/default", "/ns/test/sa/internal", "/ns/test/sa/twin", "/ns/test/sa/other"]
            .map(|path| ca.issue(path));
    // Two with one hint: the first counts (Workload API 5.2.1).
    let message = x509([
        entry(&default, ca, ""),
        entry(&internal, ca, "internal"),
        entry(&twin, ca, "internal"),
        entry(&other, ca, "external"),
    ]);
    let agent = Agent::start(&scene.socket, offer(message));
    for (choice, ours) in [
        ("", &default),
        ("hint: internal", &internal),
        ("hint: external", &other),
        ("spiffe_id: spiffe://pipeline.example/ns/test/sa/twin", &twin),
    ] {
        let service = scene.plan(choice).start().await;
        serving(&service, ours).await;
        service.stop().await;
    }

    for (choice, wanted) in [
        ("hint: absent", "no SVID with the hint `absent`"),
        (
            "spiffe_id: spiffe://pipeline.example/ns/test/sa/nobody",
            "no SVID of `spiffe://pipeline.example/ns/test/sa/nobody`",
        ),
    ] {
        let mut service = scene.plan(choice).spawn();
        service.listening().await;
        service.metric_with(FAILURES, &["reason=\"not_offered\""], |count| count == 1.0).await;
        let reason = not_ready(&service).await;
        assert!(reason.contains(wanted), "{reason}");
        for offered in [
            "`spiffe://pipeline.example/ns/test/sa/default`",
            "ns/test/sa/internal` (hint `internal`)",
            "(hint `external`)",
        ] {
            assert!(reason.contains(offered), "{offered}: {reason}");
        }
    }

    // What was ours and is offered no more is another thing than an agent that is away; what is held stays until then.
    let service = scene.plan("hint: external").start().await;
    agent.offer(offer(x509([entry(&default, ca, "")])));
    service.metric_with(FAILURES, &["reason=\"not_offered\""], |count| count == 1.0).await;
    service.stop().await;
}

#[tokio::test]
async fn nobody_is_served_before_the_lists_are_there_that_files_bring() {
    let scene = Scene::new();
    let (svid, app) = (scene.svid(), scene.world.ca.issue("/ns/test/sa/app"));
    let _agent = Agent::start(&scene.socket, scene.entry(&svid));
    let denied = scene.world.path().join("deny.txt");
    let mut service = scene.plan(&format!("deny_file: {}", denied.display())).spawn();
    service.listening().await;
    service.metric_with(UP, OURS, |up| up == 1.0).await;
    let reason = not_ready(&service).await;
    assert!(reason.contains("deny.txt"), "{reason}");
    scene.world.write("deny.txt", &format!("{}\n", scene.world.id("nobody")));
    serving(&service, &svid).await;
    assert!(scene.is_served(&service, &app).await);
    service.stop().await;
}

#[tokio::test]
async fn federated_trust_domains_come_and_go_with_the_agents_word() {
    let scene = Scene::new();
    let partner = Ca::new("partner.example");
    let (svid, guest) = (scene.svid(), partner.issue("/ns/reports/sa/reader"));
    let own = || x509([entry(&svid, &scene.world.ca, "")]);
    let agent = Agent::start(&scene.socket, offer(federated(own(), &partner)));
    let service = scene.plan("").start().await;
    assert!(scene.is_served(&service, &guest).await);
    // The partner's authority speaks for its own trust domain only.
    let posing = Ca::new("partner.example").issue("/ns/reports/sa/reader");
    assert_eq!(TlsClient::with(&posing).refused_by(service.inbound("endpoint")).await, Alert::UnknownCA);

    // A message without it takes it back (Workload API 4.4).
    agent.offer(offer(own()));
    service
        .status_with("one trust domain", |status| status["identity"]["trust_domains"] == json!(["pipeline.example"]))
        .await;
    let alert = TlsClient::with(&guest).refused_by(service.inbound("endpoint")).await;
    let record =
        service.records.find("the refusal", |record| record.to_string().contains("unknown-trust-domain")).await;
    assert!(record.to_string().contains("partner.example"), "{alert:?} {record:#}");

    // A bundle that is empty trusts nobody, one that is there again trusts again.
    let mut empty = own();
    empty.federated_bundles.insert("spiffe://partner.example".to_owned(), Bytes::new());
    agent.offer(offer(empty));
    service
        .status_with("two trust domains", |status| {
            status["identity"]["trust_domains"].as_array().is_some_and(|all| all.len() == 2)
        })
        .await;
    TlsClient::with(&guest).refused_by(service.inbound("endpoint")).await;
    agent.offer(offer(federated(own(), &partner)));
    service.status_with("the next generation", |status| status["identity"]["generation"] == 4).await;
    assert!(scene.is_served(&service, &guest).await);
    service.stop().await;
}

#[tokio::test]
async fn a_message_without_our_svid_still_says_whom_to_trust() {
    let scene = Scene::new();
    let (ca, partner) = (&scene.world.ca, Ca::new("partner.example"));
    let (svid, other) = (scene.svid(), ca.issue("/ns/test/sa/default"));
    let [revoked, app] = ["/ns/test/sa/revoked", "/ns/test/sa/app"].map(|path| ca.issue(path));
    let guest = partner.issue("/ns/reports/sa/reader");
    let whole = x509([entry(&other, ca, ""), entry(&svid, ca, "internal")]);
    let agent = Agent::start(&scene.socket, offer(federated(whole, &partner)));
    let service = scene.plan("hint: internal").start().await;
    serving(&service, &svid).await;
    for client in [&guest, &revoked, &app] {
        assert!(scene.is_served(&service, client).await);
    }

    let mut without = x509([entry(&other, ca, "")]);
    let list = ca.crl(1, &[&revoked], time::OffsetDateTime::now_utc() + time::Duration::days(1));
    without.crl.push(pem_der(&list));
    agent.offer(offer(without));
    let status = service
        .status_with("one trust domain", |status| status["identity"]["trust_domains"] == json!(["pipeline.example"]))
        .await;
    assert_eq!(status["identity"]["sha256"], svid.sha256(), "our own SVID stays until it expires");
    let fault = status["identity"]["last_error"].to_string();
    assert!(fault.contains("no SVID with the hint `internal`"), "{status:#}");
    assert_eq!(service.metric(FAILURES, &["reason=\"not_offered\""]).await, 1.0);
    assert_eq!(service.metric(UP, OURS).await, 0.0);
    assert_eq!(TlsClient::with(&revoked).refused_by(service.inbound("endpoint")).await, Alert::CertificateRevoked);
    TlsClient::with(&guest).refused_by(service.inbound("endpoint")).await;
    assert!(scene.is_served(&service, &app).await, "its twin is not revoked");

    // Our own authority is no exception.
    let stranger = Ca::new("pipeline.example");
    agent.offer(offer(x509([entry(&stranger.issue("/ns/test/sa/default"), &stranger, "")])));
    let shown = |status: &Value| status["identity"]["trust_faults"].to_string().contains("refused by peers like us");
    service.status_with("that peers refuse us", shown).await;
    serving(&service, &svid).await;
    assert_eq!(TlsClient::with(&app).refused_by(service.inbound("endpoint")).await, Alert::UnknownCA);

    let next = scene.svid();
    agent.offer(offer(x509([entry(&next, ca, "internal")])));
    let status = serving(&service, &next).await;
    assert_eq!((&status["identity"]["last_error"], &status["identity"]["trust_faults"]), (&Value::Null, &json!([])));
    service.metric_with(UP, OURS, |up| up == 1.0).await;
    assert!(scene.is_served(&service, &app).await);
    service.stop().await;
}

fn pem_der(pem: &str) -> Bytes {
    use rustls::pki_types::pem::PemObject as _;
    let der = rustls::pki_types::CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).expect("is PEM");
    Bytes::copy_from_slice(der.as_ref())
}

#[tokio::test]
async fn a_bundle_of_the_configuration_counts_and_that_of_the_agent_does_not() {
    let scene = Scene::new();
    let (ca, partner, posing) = (&scene.world.ca, Ca::new("partner.example"), Ca::new("partner.example"));
    let (svid, next) = (scene.svid(), scene.svid());
    let own = |svid: &Svid| x509([entry(svid, ca, "")]);
    let agent = Agent::start(&scene.socket, offer(own(&svid)));
    let file = scene.world.write("partner.pem", &partner.bundle());
    let configured = format!("trust_bundles:\n  partner.example: {}", file.display());
    let service = scene.plan(&configured).start().await;
    let guest = partner.issue("/ns/reports/sa/reader");
    assert!(scene.is_served(&service, &guest).await);

    for svid in [&svid, &next] {
        agent.offer(offer(federated(own(svid), &posing)));
        let status = serving(&service, svid).await;
        assert_eq!(status["identity"]["last_error"], Value::Null, "it does not keep the rest from counting");
    }
    let shown = |status: &Value| status["identity"]["trust_faults"].to_string().contains("`partner.example`");
    let status = service.status_with("the fault", shown).await;
    assert!(status["identity"]["trust_faults"].to_string().contains("is ignored"), "{status:#}");
    assert!(scene.is_served(&service, &guest).await);
    let stranger = posing.issue("/ns/reports/sa/reader");
    assert_eq!(TlsClient::with(&stranger).refused_by(service.inbound("endpoint")).await, Alert::UnknownCA);
    let said = service.log().iter().filter(|line| line.contains("is ignored")).count();
    assert_eq!(said, 1, "{:#?}", service.log());
    assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK);
    let doctor = scene.plan(&configured).doctor().await.stdout;
    let warned =
        |line: &str| line.starts_with("warn  trust") && line.contains("`partner.example` that workload_api brings");
    assert!(doctor.lines().any(warned), "{doctor}");

    agent.offer(offer(own(&svid)));
    serving(&service, &svid).await;
    let clear = |status: &Value| status["identity"]["trust_faults"] == json!([]);
    service.status_with("no fault", clear).await;
    service.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------- nonsense

#[tokio::test]
async fn an_update_that_does_not_stand_up_leaves_the_last_good_one() {
    let scene = Scene::new();
    let (ca, svid, app) = (&scene.world.ca, scene.svid(), scene.world.ca.issue("/ns/test/sa/app"));
    let agent = Agent::start(&scene.socket, scene.entry(&svid));
    let service = scene.plan("").start().await;
    let good = serving(&service, &svid).await["identity"].clone();

    let next = scene.svid();
    let one = |change: fn(&mut X509SvidResponse)| {
        let mut message = x509([entry(&next, ca, "")]);
        change(&mut message);
        message
    };
    let stranger = Ca::new("pipeline.example");
    let partner = Ca::new("partner.example");
    let foreign = partner.issue(SERVICE);
    let mut two_bundles = x509([entry(&next, ca, ""), entry(&next, &stranger, "")]);
    two_bundles.svids[1].spiffe_id = "spiffe://pipeline.example/ns/test/sa/second".to_owned();
    let mut own_twice = federated(x509([entry(&next, ca, "")]), &stranger);
    own_twice
        .federated_bundles
        .insert("spiffe://partner.example".to_owned(), Bytes::copy_from_slice(partner.certificate()));
    let mut other_key = x509([entry(&next, ca, "")]);
    other_key.svids[0].x509_svid_key = Bytes::copy_from_slice(scene.svid().key.secret_der());
    let mut as_another = x509([entry(&foreign, &partner, "")]);
    as_another.svids[0].spiffe_id.clone_from(&next.id);
    let expired = ca
        .issue_with(SERVICE, |params| params.not_after = time::OffsetDateTime::now_utc() - time::Duration::minutes(1));
    for (said, message) in [
        ("the mandatory field `svids` is empty", X509SvidResponse::default()),
        ("the mandatory field `spiffe_id` is empty", one(|message| message.svids[0].spiffe_id.clear())),
        ("the mandatory field `x509_svid` is empty", one(|message| message.svids[0].x509_svid = Bytes::new())),
        ("the mandatory field `x509_svid_key` is empty", one(|message| message.svids[0].x509_svid_key = Bytes::new())),
        ("the mandatory field `bundle` is empty", one(|message| message.svids[0].bundle = Bytes::new())),
        ("`x509_svid` of", one(|message| message.svids[0].x509_svid = Bytes::from_static(b"\x30\x82nonsense"))),
        ("`x509_svid` of", one(|message| message.svids[0].x509_svid.truncate(200))),
        ("`bundle` of", one(|message| message.svids[0].bundle = Bytes::from_static(b"-----BEGIN CERTIFICATE-----"))),
        ("private key", one(|message| message.svids[0].x509_svid_key = Bytes::from_static(b"\x30\x03\x02\x01\x00"))),
        ("private key does not belong", other_key),
        ("does not stand up to our own trust bundles", x509([entry(&next, &stranger, "")])),
        ("does not stand up to our own trust bundles", x509([entry(&expired, ca, "")])),
        ("has a certificate of `spiffe://partner.example", as_another),
        ("two different bundles for the trust domain `pipeline.example`", two_bundles),
        ("two different bundles for the trust domain `pipeline.example`", own_twice),
        (
            "`Partner.example`",
            one(|message| drop(message.federated_bundles.insert("Partner.example".to_owned(), Bytes::new()))),
        ),
        (
            "`federated_bundles` of",
            one(|message| {
                message.federated_bundles.insert("spiffe://partner.example".to_owned(), Bytes::from_static(b"?"));
            }),
        ),
        ("revocation list", one(|message| message.crl.push(Bytes::from_static(b"no list")))),
    ] {
        let before = service.metric(FAILURES, &["reason=\"bad_update\""]).await;
        agent.offer(offer(message));
        let status = service
            .status_with(said, |status| {
                status["identity"]["last_error"].as_str().is_some_and(|error| error.contains(said))
            })
            .await;
        assert_eq!(
            (&status["identity"]["sha256"], &status["identity"]["generation"]),
            (&good["sha256"], &good["generation"]),
            "{said}"
        );
        assert!(service.metric(FAILURES, &["reason=\"bad_update\""]).await > before, "{said}");
        assert_eq!(service.metric(UP, OURS).await, 0.0, "{said}");
        // A good one between them: the stream goes on, and each fault is its own.
        agent.offer(scene.entry(&svid));
        service.metric_with(UP, OURS, |up| up == 1.0).await;
    }
    assert!(scene.is_served(&service, &app).await);
    agent.offer(scene.entry(&next));
    let status = serving(&service, &next).await;
    assert_eq!(status["identity"]["generation"], 2);
    assert!(status["identity"]["last_error"].is_null(), "{status:#}");
    service.stop().await;
}

#[tokio::test]
async fn an_svid_whose_time_has_not_come_is_in_force_as_soon_as_it_has() {
    let scene = Scene::new();
    let svid = scene.svid();
    let agent = Agent::start(&scene.socket, scene.entry(&svid));
    let identity = format!("source: workload_api\naddress: {}", agent.address());
    let plan = scene.world.sidecar("service").policies(ALLOW_ALL).identity(&identity).yaml("reload_interval: 100ms");
    let service = plan.inbound("endpoint", "http", &scene.upstream.url(), "").start().await;
    let soon = time::OffsetDateTime::now_utc() + time::Duration::seconds(5);
    let early = scene.world.ca.issue_with(SERVICE, |params| params.not_before = soon);
    agent.offer(scene.entry(&early));
    service.metric_with(FAILURES, &["reason=\"bad_update\""], |count| count == 1.0).await;
    assert_eq!(service.metric(UP, OURS).await, 0.0);
    serving(&service, &svid).await;
    serving(&service, &early).await;
    service.metric_with(UP, OURS, |up| up == 1.0).await;
    service.stop().await;
}

// ----------------------------------------------------------------------------------------------------------------- JWT-SVIDs

#[tokio::test]
async fn jwt_svids_and_the_keys_of_others_are_fetched() {
    let scene = Scene::new();
    let partner = Ca::new("partner.example");
    let (svid, second) = (scene.svid(), scene.world.ca.issue("/ns/test/sa/second"));
    let both = || x509([entry(&svid, &scene.world.ca, ""), entry(&second, &scene.world.ca, "internal")]);
    let agent = Agent::start(&scene.socket, offer(federated(both(), &partner)));
    let address: portcullis::identity::workload_api::WorkloadApiAddress = agent.address().parse().expect("is one");

    let audience = ["spiffe://pipeline.example/reports".to_owned(), "reports".to_owned()];
    let id = portcullis::identity::SpiffeId::parse(&second.id).expect("is one");
    for (choice, ours) in [
        (SvidChoice::First, &svid),
        (SvidChoice::Hint("internal".to_owned()), &second),
        (SvidChoice::SpiffeId(id), &second),
    ] {
        let token = JwtSource::new(address.clone(), choice).fetch(&audience).await.expect("there is a token");
        assert_eq!(token.id().as_str(), ours.id);
        assert!(token.expiry() > std::time::SystemTime::now());
        assert!(!format!("{token:?}").contains(token.token()), "a token is a secret");
    }
    let nobody = JwtSource::new(address.clone(), SvidChoice::Hint("nobody".to_owned())).fetch(&audience).await;
    assert!(nobody.is_err_and(|error| error.reason() == "not_offered"));
    let stranger =
        SvidChoice::SpiffeId(portcullis::identity::SpiffeId::parse("spiffe://pipeline.example/x").expect("is one"));
    let stranger = JwtSource::new(address.clone(), stranger).fetch(&audience).await;
    assert!(stranger.is_err_and(|error| error.reason() == "no_identity"));
    let nowhere = "unix:/nowhere/agent.sock".parse().expect("is one");
    let nowhere = JwtSource::new(nowhere, SvidChoice::First).fetch(&audience).await;
    assert!(nowhere.is_err_and(|error| error.reason() == "unavailable"));

    let store = Arc::new(IdentityStore::new(Denied::default(), Clock::system()));
    let plan =
        WorkloadApiPlan { address, choice: SvidChoice::First, on_expired_crl: OnExpiredCrl::Deny, jwt_bundles: true };
    let source = Arc::new(WorkloadApiSource::new(plan, Arc::clone(&store)));
    let running = tokio::spawn({
        let source = Arc::clone(&source);
        async move { source.run().await }
    });
    let keys = |trust_domain: &str| {
        let current = store.current()?;
        let bundle = current.bundles.bundle(trust_domain)?;
        Some(bundle.jwt_authorities().len()).filter(|count| *count > 0)
    };
    for trust_domain in ["pipeline.example", "partner.example"] {
        assert_eq!(eventually("the keys", || keys(trust_domain)).await, 1);
    }
    agent.offer(offer(both()));
    eventually("the keys to go", || keys("partner.example").is_none().then_some(())).await;
    assert_eq!(keys("pipeline.example"), Some(1));
    assert!(store.health().iter().all(|health| health.part == Part::WorkloadApi && health.standing().is_none()));
    running.abort();
}

// ------------------------------------------------------------------------------------------------------------ `certs serve`

/// `portcullis certs ARGUMENTS` with the CAs of `pipeline.example` and `partner.example` in `folder`.
fn certs(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = portcullis();
    command.env("PORTCULLIS_CERTS_DIR", folder).arg("certs").args(arguments);
    command
}

async fn with_authorities(folder: &Path) {
    let init = ["init", "--trust-domain", "pipeline.example", "--trust-domain", "partner.example"];
    let output = Process::run("certs init", &mut certs(folder, &init), "").await;
    assert_eq!(output.code(), 0, "{output:#?}");
}

async fn certs_serve(folder: &Path, arguments: &[&str]) -> (Process, String) {
    let process = Process::spawn("certs serve", certs(folder, &["serve"]).args(arguments));
    let address = |line: &str| line.strip_prefix("SPIFFE_ENDPOINT_SOCKET=").map(str::to_owned);
    let address = process.stdout.find("its address", address).await;
    (process, address)
}

#[tokio::test]
async fn certs_serve_gives_the_client_of_the_spiffe_project_all_that_it_asks_for() {
    let world = World::new();
    let folder = world.folder("certs-dev");
    with_authorities(&folder).await;
    let (mut agent, address) = certs_serve(
        &folder,
        &[
            "--spiffe-id",
            "spiffe://pipeline.example/ns/etl/sa/ingest",
            "--spiffe-id",
            "internal=spiffe://pipeline.example/ns/etl/sa/load",
            "--federates-with",
            "partner.example",
            "--lifetime",
            "10m",
        ],
    )
    .await;
    assert_eq!(address, format!("unix://{}/workload.sock", folder.display()));
    let seen = python_workload(&address, "reports").await;
    let ids: Vec<_> = seen["svids"].as_array().expect("is a list").iter().map(|svid| svid["id"].clone()).collect();
    assert_eq!(ids, ["spiffe://pipeline.example/ns/etl/sa/ingest", "spiffe://pipeline.example/ns/etl/sa/load"]);
    for svid in seen["svids"].as_array().expect("is a list") {
        assert_eq!((&svid["is_issued"], &svid["is_p256"]), (&true.into(), &true.into()));
        assert!(svid["seconds_left"].as_i64().is_some_and(|left| (500..=600).contains(&left)), "{svid}");
    }
    assert_eq!(seen["hints"], json!(["", "internal"]));
    assert_eq!(seen["bundles"], json!({ "pipeline.example": 1, "partner.example": 1 }));
    assert_eq!(
        seen["jwt"],
        json!({
            "id": "spiffe://pipeline.example/ns/etl/sa/ingest", "audience": ["reports"],
            "validated": "spiffe://pipeline.example/ns/etl/sa/ingest", "for_another_audience": "ValidateJwtSvidError",
            "bundles": ["partner.example", "pipeline.example"],
        })
    );
    for (method, status) in seen["refused"].as_object().expect("is an object") {
        assert_eq!(status, "INVALID_ARGUMENT", "{method} without the security metadata");
    }

    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(folder.join("workload.sock")).expect("is there").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let second =
        Process::run("certs serve", &mut certs(&folder, &["serve", "--spiffe-id", "spiffe://pipeline.example/a"]), "")
            .await;
    assert!(second.code() == 1 && second.stderr.contains("listens on"), "{second:#?}");
    agent.signal("TERM");
    assert!(agent.exited().await.success());
    assert!(!folder.join("workload.sock").exists());
}

#[tokio::test]
async fn a_sidecar_lives_from_certs_serve_with_nothing_but_the_environment_variable() {
    let scene = Scene::new();
    let folder = scene.world.folder("certs-dev");
    with_authorities(&folder).await;
    let id = scene.world.id("service");
    let (agent, address) = certs_serve(&folder, &["--spiffe-id", &id, "--lifetime", "2s"]).await;
    let plan = scene.world.sidecar("service").policies(ALLOW_ALL).identity("source: workload_api");
    let plan = plan.env("SPIFFE_ENDPOINT_SOCKET", &address).inbound("endpoint", "http", &scene.upstream.url(), "");
    let service = plan.start().await;
    assert_eq!(service.status().await["identity"]["spiffe_id"], id);
    // Rotated at half of two seconds, over and over; the whole time is longer than any SVID lived.
    service
        .status_with("the fourth SVID", |status| status["identity"]["generation"].as_u64().is_some_and(|n| n >= 4))
        .await;
    assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK);

    // Killed, and started anew on the socket that it left behind.
    agent.signal("KILL");
    service.metric_with(UP, OURS, |up| up == 0.0).await;
    let (agent, again) = certs_serve(&folder, &["--spiffe-id", &id, "--lifetime", "1h"]).await;
    assert_eq!(again, address);
    service.metric_with(UP, OURS, |up| up == 1.0).await;
    let before = service.status().await["identity"]["generation"].as_u64();
    agent.signal("HUP");
    service
        .status_with("an SVID minted on a signal", |status| status["identity"]["generation"].as_u64() > before)
        .await;
    service.stop().await;
}

#[tokio::test]
async fn certs_serve_says_what_it_does_not_do() {
    let world = World::new();
    let folder = world.folder("certs-dev");
    with_authorities(&folder).await;
    let own = "spiffe://pipeline.example/a";
    for (arguments, said) in [
        (&[][..], "--spiffe-id"),
        (&["--spiffe-id", "spiffe://pipeline.example"], "names a trust domain, not a workload"),
        (&["--spiffe-id", own, "--all"], "cannot be used with"),
        (&["--all"], "identities.toml"),
        (&["--spiffe-id", "spiffe://elsewhere.example/a"], "no CA for `elsewhere.example`"),
        (&["--spiffe-id", own, "--federates-with", "elsewhere.example"], "no CA for `elsewhere.example`"),
        (&["--spiffe-id", own, "--listen", "tcp:0.0.0.0:0"], "is not a loopback address"),
        (&["--spiffe-id", own, "--listen", "/tmp/x.sock"], "begins with neither `unix:` nor `tcp:`"),
        (&["--spiffe-id", own, "--socket-mode", "999"], "is not a mode"),
        (
            &["--spiffe-id", "x=spiffe://pipeline.example/a", "--spiffe-id", "x=spiffe://pipeline.example/b"],
            "the hint `x` stands for two SVIDs",
        ),
    ] {
        let output = Process::run("certs serve", certs(&folder, &["serve"]).args(arguments), "").await;
        assert_eq!(output.code(), 1, "{arguments:?}: {output:#?}");
        assert!(output.stderr.contains(said), "{arguments:?}: {output:#?}");
        assert!(!folder.join("workload.sock").exists(), "{arguments:?}");
    }
}

#[tokio::test]
async fn certs_serve_lists_all_identities_of_a_file_over_tcp() {
    let scene = Scene::new();
    let folder = scene.world.folder("certs-dev");
    with_authorities(&folder).await;
    let list = "trust_domains = [\"pipeline.example\"]\n\
        [[identity]]\nid = \"spiffe://pipeline.example/ns/test/sa/app\"\n\
        [[identity]]\nid = \"spiffe://pipeline.example/ns/test/sa/service\"\nhint = \"server\"\n";
    fs::write(folder.join("identities.toml"), list).expect("the folder is writable");
    let (_agent, address) = certs_serve(&folder, &["--all", "--listen", "tcp:127.0.0.1:0"]).await;
    assert!(address.starts_with("tcp://127.0.0.1:") && !address.ends_with(":0"), "{address}");
    let identity = format!("source: workload_api\naddress: {address}\nhint: server");
    let plan = scene.world.sidecar("service").policies(ALLOW_ALL).identity(&identity);
    let service = plan.inbound("endpoint", "http", &scene.upstream.url(), "").start().await;
    assert_eq!(service.status().await["identity"]["spiffe_id"], scene.world.id("service"));
    service.stop().await;
}

// ------------------------------------------------------------------------------------------------------- a server that is not ours

#[tokio::test]
async fn the_server_of_the_spiffe_project_for_python_is_an_agent_too() {
    let scene = Scene::new();
    let partner = Ca::new("partner.example");
    let (first, second) = (scene.svid(), scene.svid());
    let message = |svid: &Svid| {
        let other = scene.world.ca.issue("/ns/test/sa/other");
        federated(x509([entry(&other, &scene.world.ca, ""), entry(svid, &scene.world.ca, "internal")]), &partner)
    };
    let agent = PythonAgent::start(&scene.world.folder("python"), &message(&first)).await;
    let identity = format!("source: workload_api\naddress: {}\nhint: internal", agent.address);
    let plan = scene.world.sidecar("service").policies(ALLOW_ALL).identity(&identity);
    let service = plan.inbound("endpoint", "http", &scene.upstream.url(), "").start().await;
    serving(&service, &first).await;
    assert!(scene.is_served(&service, &partner.issue("/ns/reports/sa/reader")).await);
    agent.push(&message(&second));
    serving(&service, &second).await;
    service.stop().await;
}

#[tokio::test]
async fn a_tcp_address_is_an_agents_address_too() {
    let scene = Scene::new();
    let svid = scene.svid();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
    let address: SocketAddr = listener.local_addr().expect("is bound");
    let (_offers, offered) = watch::channel(scene.entry(&svid));
    let serving_tcp = tokio::spawn(async move { WorkloadApiServer::new(offered).serve_tcp(listener).await });
    let plan = scene.world.sidecar("service").policies(ALLOW_ALL);
    let plan = plan.identity(&format!("source: workload_api\naddress: tcp:{address}"));
    let service = plan.inbound("endpoint", "http", &scene.upstream.url(), "").start().await;
    serving(&service, &svid).await;
    service.stop().await;
    serving_tcp.abort();
}
