//! Whose right is taken back while it still looks good: by revocation lists, and by the emergency lists of our own.

use std::net::SocketAddr;

use http::StatusCode;
use rustls::AlertDescription as Alert;
use serde_json::Value;
use time::{Duration, OffsetDateTime};

use crate::support::*;
use crate::tcp::{Server, is_reset, ping};

/// The shortest that the configuration takes.
const EAGER: &str = "reload_interval: 100ms";
const APP: &str = "/ns/test/sa/app";
const OTHER: &str = "/ns/test/sa/other";

fn tomorrow() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(1)
}

/// An inbound sidecar with these keys of `identity` and these files.
struct Door {
    upstream: Recorder,
    service: Sidecar,
}

impl Door {
    async fn open(world: &World, keys: &str, files: &[(&str, &str)]) -> Self {
        Self::of(world.sidecar("service"), world, keys, files).await
    }

    async fn of(plan: SidecarPlan, world: &World, keys: &str, files: &[(&str, &str)]) -> Self {
        let upstream = Recorder::start();
        let folder = world.folder("service");
        for (name, content) in files {
            std::fs::write(folder.join(name), content).expect("the folder is writable");
        }
        let keys = keys.replace("HERE", &folder.display().to_string());
        let plan = plan.policies(ALLOW_ALL).yaml(EAGER).identity_keys(&keys);
        let service = plan.inbound("endpoint", "http", &upstream.url(), "").start().await;
        Self { upstream, service }
    }

    fn address(&self) -> SocketAddr {
        self.service.inbound("endpoint")
    }

    async fn lets_in(&self, what: &str, svid: &Svid) {
        TlsClient::with(svid).is_let_in(self.address(), what).await;
    }

    /// Refused with this alert, and a record that names the rule and the ID.
    async fn keeps_out(&self, what: &str, svid: &Svid, rule: &str, alert: Alert) -> Value {
        let before = self.handshakes().len();
        assert_eq!(TlsClient::with(svid).refused_by(self.address()).await, alert, "{what}");
        let record = eventually(what, || self.handshakes().into_iter().nth(before)).await;
        assert_eq!((&record["reason"], &record["outcome"]), (&rule.into(), &"refused".into()), "{what}: {record}");
        assert_eq!(record["peer_san"], svid.id.as_str(), "{what}: {record}");
        record
    }

    fn handshakes(&self) -> Vec<Value> {
        self.service.records.all().into_iter().filter(|record| record["kind"] == "handshake").collect()
    }

    async fn crl_in_force(&self, number: &str) -> Value {
        self.service
            .status_with(&format!("list {number} in force"), |status| status["identity"]["crls"][0]["number"] == number)
            .await
    }

    async fn fault(&self, text: &str) -> Value {
        let shown = |status: &Value| status["identity"]["trust_faults"].to_string().contains(text);
        self.service.status_with(text, shown).await
    }

    /// Nobody that was kept out reached the upstream.
    async fn close(self, requests: usize) {
        self.service.stop().await;
        assert_eq!(self.upstream.seen().len(), requests);
    }
}

const CRL: &str = "crl:\n  files:\n    pipeline.example: HERE/crl.pem";

#[tokio::test]
async fn a_revoked_certificate_is_refused_and_so_is_its_twin_once_a_newer_list_says_so() {
    let world = World::new();
    let (revoked, twin) = (world.ca.issue(APP), world.ca.issue(APP));
    let first = world.ca.crl(1, &[&revoked], tomorrow());
    let door = Door::open(&world, CRL, &[("crl.pem", &first)]).await;
    let record = door.keeps_out("a revoked certificate", &revoked, "revoked", Alert::CertificateRevoked).await;
    assert!(record["error"].as_str().is_some_and(|error| error.contains(&revoked.serial_hex())), "{record}");
    door.lets_in("its twin", &twin).await;
    let crls = door.crl_in_force("01").await["identity"]["crls"].clone();
    assert_eq!((&crls[0]["entries"], &crls[0]["issuer"]), (&1.into(), &"CN=pipeline.example root".into()), "{crls}");
    let labels = ["trust_domain=\"pipeline.example\"", "issuer=\"CN=pipeline.example root\""];
    let expiry = door.service.metric("portcullis_crl_expiry_timestamp_seconds", &labels).await;
    assert!((expiry - tomorrow().unix_timestamp() as f64).abs() < 600.0, "{expiry}");
    let refused = door.service.metric("portcullis_handshakes_total", &["rule=\"revoked\""]).await;
    assert_eq!(refused as u64, 1);

    door.service.replace("crl.pem", &world.ca.crl(2, &[&revoked, &twin], tomorrow()));
    door.crl_in_force("02").await;
    door.keeps_out("the twin, revoked too", &twin, "revoked", Alert::CertificateRevoked).await;

    // The older list that somebody kept does not give the right back.
    door.service.replace("crl.pem", &first);
    door.service.logged("is older than the one in force").await;
    door.fault("number 01 comes before number 02").await;
    door.keeps_out("the twin, still", &twin, "revoked", Alert::CertificateRevoked).await;

    door.service.replace("crl.pem", &world.ca.crl(3, &[&revoked], tomorrow()));
    let status = door.crl_in_force("03").await;
    assert_eq!(status["identity"]["trust_faults"], serde_json::json!([]));
    door.lets_in("the twin, taken off the list", &twin).await;
    door.close(2).await;
}

#[tokio::test]
async fn a_revoked_service_is_refused_by_the_outbound_side() {
    let (world, upstream) = (World::new(), Recorder::start());
    let inbound = world.sidecar("service").policies(ALLOW_ALL).yaml(EAGER);
    let inbound = inbound.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let svid = std::fs::read_to_string(inbound.directory().join("svid.pem")).expect("was written");
    let folder = world.folder("app");
    std::fs::write(folder.join("crl.pem"), world.ca.crl(1, &[], tomorrow())).expect("the folder is writable");
    let keys = CRL.replace("HERE", &folder.display().to_string());
    let outbound = world.sidecar("app").policies(ALLOW_ALL).yaml(EAGER).identity_keys(&keys);
    let to = inbound.inbound("endpoint").to_string();
    let outbound = outbound.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let ask = async || get(outbound.outbound("endpoint"), "/twin").await.status;
    assert_eq!(ask().await, StatusCode::OK);

    let revoked = Svid { chain: pem_chain(&svid), ..world.ca.issue(APP) };
    outbound.replace("crl.pem", &world.ca.crl(2, &[&revoked], tomorrow()));
    outbound.status_with("the list", |status| status["identity"]["crls"][0]["number"] == "02").await;
    // Pooled connections are looked at on their own; this is about those that are made now.
    let record = eventually_refused(&outbound, ask).await;
    assert!(record["error"].as_str().is_some_and(|error| error.contains("revoked")), "{record}");
    outbound.stop().await;
    inbound.stop().await;
}

async fn eventually_refused(outbound: &Sidecar, ask: impl AsyncFn() -> StatusCode) -> Value {
    for _ in 0..1_000 {
        if ask().await == StatusCode::BAD_GATEWAY {
            return outbound.records.find("the failed request", |record| record["error"].is_string()).await;
        }
    }
    panic!("the revoked service goes on being asked");
}

fn pem_chain(pem: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().expect("is PEM")
}

#[tokio::test]
async fn a_list_past_its_time_keeps_everybody_out_or_counts_as_new_as_the_configuration_says() {
    let yesterday = OffsetDateTime::now_utc() - Duration::days(1);
    let world = World::new();
    let (revoked, twin) = (world.ca.issue(APP), world.ca.issue(APP));
    let list = world.ca.crl(1, &[&revoked], yesterday);
    let door = Door::open(&world, CRL, &[("crl.pem", &list)]).await;
    door.keeps_out("one who is not on the old list", &twin, "crl-expired", Alert::UnknownCA).await;
    door.keeps_out("one who is", &revoked, "revoked", Alert::CertificateRevoked).await;
    door.fault("our own certificate is refused by peers like us").await;
    door.service.replace("crl.pem", &world.ca.crl(2, &[&revoked], tomorrow()));
    let status = door.crl_in_force("02").await;
    assert_eq!(status["identity"]["trust_faults"], serde_json::json!([]));
    door.lets_in("the same with a new list", &twin).await;
    door.close(1).await;

    let world = World::new();
    let (revoked, twin) = (world.ca.issue(APP), world.ca.issue(APP));
    let list = world.ca.crl(1, &[&revoked], yesterday);
    let keys = format!("{CRL}\n  on_expired: allow");
    let door = Door::open(&world, &keys, &[("crl.pem", &list)]).await;
    door.lets_in("one who is not on the old list, where that is allowed", &twin).await;
    door.keeps_out("one who is", &revoked, "revoked", Alert::CertificateRevoked).await;
    door.close(1).await;
}

#[tokio::test]
async fn a_list_that_is_broken_or_by_somebody_else_does_not_replace_the_one_in_force() {
    let (world, stranger) = (World::new(), Ca::new("pipeline.example"));
    let (revoked, twin) = (world.ca.issue(APP), world.ca.issue(APP));
    let good = world.ca.crl(1, &[&revoked], tomorrow());
    let door = Door::open(&world, CRL, &[("crl.pem", &good)]).await;
    let half = good.split_at(good.len() / 2).0;
    for (what, content, said) in [("half a list", half, "crl.pem"), ("no list", "nothing", "holds no revocation list")]
    {
        door.service.replace("crl.pem", content);
        let told = |status: &Value| status["identity"]["last_error"].to_string().contains(said);
        door.service.status_with(what, told).await;
        door.keeps_out(what, &revoked, "revoked", Alert::CertificateRevoked).await;
        door.lets_in(what, &twin).await;
    }
    door.service.replace("crl.pem", &stranger.crl(9, &[&twin], tomorrow()));
    door.fault("is not signed by that authority").await;
    door.keeps_out("a list by somebody else", &revoked, "revoked", Alert::CertificateRevoked).await;
    door.lets_in("a list by somebody else revokes nobody", &twin).await;
    door.close(3).await;
}

#[tokio::test]
async fn each_trust_domain_has_its_own_lists() {
    let (world, partner) = (World::new(), Ca::new("partner.example"));
    let (ours, theirs) = (world.ca.issue(APP), partner.issue(APP));
    let (their_twin, our_twin) = (partner.issue(APP), world.ca.issue(APP));
    let keys = format!("{CRL}\n    partner.example: HERE/partner-crl.pem");
    // Each list names the other trust domain's certificate as well, of which it cannot speak.
    let files = [
        ("crl.pem", world.ca.crl(1, &[&ours, &their_twin], tomorrow())),
        ("partner-crl.pem", partner.crl(1, &[&theirs, &our_twin], tomorrow())),
    ];
    let files = files.each_ref().map(|(name, content)| (*name, content.as_str()));
    let plan = world.sidecar("service").trust("partner.example", &partner.bundle());
    let door = Door::of(plan, &world, &keys, &files).await;
    door.keeps_out("ours", &ours, "revoked", Alert::CertificateRevoked).await;
    door.keeps_out("theirs", &theirs, "revoked", Alert::CertificateRevoked).await;
    door.lets_in("our twin", &our_twin).await;
    door.lets_in("their twin", &their_twin).await;
    door.close(2).await;
}

#[tokio::test]
async fn who_is_on_the_emergency_lists_is_refused_whatever_the_bundles_say() {
    let world = World::new();
    let (denied, twin) = (world.ca.issue(APP), world.ca.issue(APP));
    let (other, below, beside) =
        (world.ca.issue(OTHER), world.ca.issue("/ns/old/sa/x"), world.ca.issue("/ns/older/sa/x"));
    let intermediate = world.ca.intermediate(|_| ());
    let through = intermediate.issue("/ns/test/sa/through");
    let issuer = Svid { chain: through.chain.iter().skip(1).cloned().collect(), ..through.clone() };
    let keys = format!(
        "deny_serials: [pipeline.example/{}, 'pipeline.example/{}']\ndeny_spiffe_ids: ['{}', 'spiffe://pipeline.example/ns/old/*']",
        denied.serial_hex().to_uppercase(),
        issuer.serial_hex(),
        other.id
    );
    let door = Door::open(&world, &keys, &[]).await;
    door.keeps_out("a denied certificate", &denied, "denied-serial", Alert::CertificateRevoked).await;
    door.lets_in("another one of the same workload", &twin).await;
    door.keeps_out("whom a denied issuer issued", &through, "denied-serial", Alert::CertificateRevoked).await;
    let record = door.keeps_out("a denied workload", &other, "denied-spiffe-id", Alert::AccessDenied).await;
    assert!(record["error"].as_str().is_some_and(|error| error.contains(&other.id)), "{record}");
    door.keeps_out("one below a denied path", &below, "denied-spiffe-id", Alert::AccessDenied).await;
    door.lets_in("one beside it", &beside).await;
    door.close(2).await;
}

#[tokio::test]
async fn the_emergency_file_counts_as_soon_as_it_is_written() {
    let world = World::new();
    let (denied, twin, other) = (world.ca.issue(APP), world.ca.issue(APP), world.ca.issue(OTHER));
    let door = Door::open(&world, "deny_file: HERE/deny.txt", &[("deny.txt", "# nobody yet\n")]).await;
    door.lets_in("nobody is denied", &denied).await;
    let generation = |number: u64| move |status: &Value| status["identity"]["generation"] == number;
    let list = format!("# incident 7\npipeline.example/{}\n{}\n", denied.serial_hex(), other.id);
    door.service.replace("deny.txt", &list);
    door.service.status_with("the lists", generation(2)).await;
    door.keeps_out("a denied certificate", &denied, "denied-serial", Alert::CertificateRevoked).await;
    door.keeps_out("a denied workload", &other, "denied-spiffe-id", Alert::AccessDenied).await;
    door.lets_in("another certificate", &twin).await;

    // A list that is not understood takes nobody off.
    door.service.replace("deny.txt", "pipeline.example/xyz\n");
    let told = |status: &Value| status["identity"]["last_error"].to_string().contains("line 1: `pipeline.example/xyz`");
    door.service.status_with("the bad line", told).await;
    door.keeps_out("still denied", &denied, "denied-serial", Alert::CertificateRevoked).await;
    std::fs::remove_file(door.service.directory().join("deny.txt")).expect("was written");
    let told = |status: &Value| status["identity"]["last_error"].to_string().contains("cannot read");
    door.service.status_with("the missing file", told).await;
    door.keeps_out("still denied without the file", &denied, "denied-serial", Alert::CertificateRevoked).await;

    door.service.replace("deny.txt", "");
    door.service.status_with("the empty list", generation(3)).await;
    door.lets_in("taken off the list", &denied).await;
    door.close(3).await;
}

#[tokio::test]
async fn our_own_certificate_on_a_list_is_said_and_we_serve_on() {
    let world = World::new();
    let own = world.ca.issue("/ns/test/sa/service");
    let (plan, app) = (world.sidecar("service").svid(own.clone()), world.ca.issue(APP));
    let list = world.ca.crl(1, &[&own], tomorrow());
    let door = Door::of(plan, &world, CRL, &[("crl.pem", &list)]).await;
    door.service.logged("our own certificate is refused by peers like us").await;
    door.fault(&own.serial_hex()).await;
    door.lets_in("a peer whose certificate is good", &app).await;
    door.service.replace_svid(&world.ca.issue("/ns/test/sa/service"));
    let clear = |status: &Value| status["identity"]["trust_faults"] == serde_json::json!([]);
    door.service.status_with("a new certificate", clear).await;
    door.close(1).await;
}

/// As when a bundle is withdrawn (`living`): what was open ends with the rule in its record, and no TLS session brings it back.
#[tokio::test]
async fn who_is_revoked_or_denied_while_connected_is_sent_away_and_does_not_come_back() {
    let (world, relay) = (World::new(), Server::echo().await);
    let names = ["revoked", "serial", "id", "stayer"].map(|name| world.ca.issue(&format!("/ns/test/sa/{name}")));
    let [revoked, serial, id, stayer] = &names;
    let plan = world.sidecar("service").inbound("relay", "tcp", &relay.address, "");
    let files = [("crl.pem", world.ca.crl(1, &[], tomorrow())), ("deny.txt", String::new())];
    let files = files.each_ref().map(|(name, content)| (*name, content.as_str()));
    let door = Door::of(plan, &world, &format!("{CRL}\ndeny_file: HERE/deny.txt"), &files).await;

    let mut open = Vec::new();
    for svid in &names {
        let config = TlsClient::with(svid).config();
        let mut tcp = TlsClient::connect_with(&config, door.service.inbound("relay")).await.expect("is trusted");
        ping(&mut tcp).await;
        let stream = TlsClient::connect_with(&config, door.address()).await.expect("is trusted");
        let mut http = http1(stream).await;
        assert_eq!(http.send(request("GET", "service.example", "/before", &[], "")).await.status, StatusCode::OK);
        open.push((config, tcp, http));
    }
    door.service.replace("crl.pem", &world.ca.crl(2, &[revoked], tomorrow()));
    door.service.replace("deny.txt", &format!("pipeline.example/{}\n{}\n", serial.serial_hex(), id.id));

    let Some((_, mut stays, mut asks)) = open.pop() else { panic!("there are four") };
    let causes = [
        (revoked, "revoked", Alert::CertificateRevoked),
        (serial, "denied-serial", Alert::CertificateRevoked),
        (id, "denied-spiffe-id", Alert::AccessDenied),
    ];
    for ((config, mut tcp, _http), (svid, rule, alert)) in open.into_iter().zip(causes) {
        is_reset(&mut tcp).await;
        for listener in ["relay", "endpoint"] {
            let ended = |record: &Value| {
                record["kind"] == "connection"
                    && record["listener"] == listener
                    && record["principal"] == svid.id.as_str()
            };
            let record = door.service.records.find(&format!("the end of {rule} on {listener}"), ended).await;
            assert_eq!(record["reason"], rule, "{record}");
        }
        let again = TlsClient::connect_with(&config, door.address()).await.expect("TLS 1.3 tells it later");
        assert_eq!(refusal_alert(again).await, alert, "{rule}");
    }
    ping(&mut stays).await;
    assert_eq!(asks.send(request("GET", "service.example", "/after", &[], "")).await.status, StatusCode::OK);
    assert!(!door.handshakes().iter().any(|record| record["peer_san"] == stayer.id.as_str()));
    drop((stays, asks));
    door.close(5).await;
}
