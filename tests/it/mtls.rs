//! Who gets past the handshake of a running sidecar, and what is said of who does not: the alert that the peer sees, one
//! record with the rule that failed, and nothing at the upstream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{StatusCode, Version};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose,
};
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::CertificateDer;
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription as Alert, HandshakeKind, NamedGroup, ProtocolVersion};
use serde_json::{Value, json};
use time::{Duration as Days, OffsetDateTime};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, server};

use crate::support::*;

const APP: &str = "/ns/test/sa/app";
const SECOND: &str = "spiffe://pipeline.example/ns/test/sa/second";

/// A client certificate that does not get in.
struct Rogue {
    what: &'static str,
    rule: &'static str,
    alert: Alert,
    /// What the record says of the names in it.
    san: Option<String>,
    client: TlsClient,
}

fn rogue(what: &'static str, rule: &'static str, alert: Alert, svid: &Svid) -> Rogue {
    Rogue { what, rule, alert, san: Some(svid.id.clone()), client: TlsClient::with(svid) }
}

impl Rogue {
    fn named(self, san: Option<&str>) -> Self {
        Self { san: san.map(str::to_owned), ..self }
    }
}

/// One inbound sidecar that trusts two domains, and an upstream that nobody but a proved peer may reach.
struct Door {
    world: World,
    partner: Ca,
    upstream: Recorder,
    service: Sidecar,
}

impl Door {
    async fn open(options: &str) -> Self {
        let (world, partner, upstream) = (World::new(), Ca::new("partner.example"), Recorder::start());
        let service = world.sidecar("service").policies(ALLOW_ALL).trust("partner.example", &partner.bundle());
        let service = service.inbound("endpoint", "http", &upstream.url(), options).start().await;
        Self { world, partner, upstream, service }
    }

    fn address(&self) -> SocketAddr {
        self.service.inbound("endpoint")
    }

    fn app(&self) -> TlsClient {
        TlsClient::with(&self.world.ca.issue(APP))
    }

    /// The allowed twin: gets in, and its request to the upstream.
    async fn lets_in(&self, what: &str, client: &TlsClient) {
        let stream = client.connect(self.address()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let answer = http1(stream).await.try_send(request("GET", "service.example", "/twin", &[], "")).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status, StatusCode::OK, "{what}");
    }

    async fn keeps_out(&self, rogue: &Rogue) {
        let (what, before) = (rogue.what, self.handshakes().len());
        let (address, alert) = match rogue.client.connect(self.address()).await {
            // In TLS 1.3 the client is done before the server judges it.
            Ok(stream) => (stream.get_ref().0.local_addr().ok(), refusal_alert(stream).await),
            Err(error) => (None, alert_in(what, &error)),
        };
        assert_eq!(alert, rogue.alert, "{what}");
        let record = match address {
            Some(address) => self.handshake_from(address).await,
            None => eventually(what, || self.handshakes().into_iter().nth(before)).await,
        };
        assert_eq!(record["reason"], rogue.rule, "{what}: {record}");
        assert_eq!(record["peer_san"], json!(rogue.san), "{what}: {record}");
        refused_at(&record, what);
    }

    async fn handshake_from(&self, address: SocketAddr) -> Value {
        let address = address.to_string();
        self.service.records.find("the refused handshake", |record| record["peer_address"] == address.as_str()).await
    }

    fn handshakes(&self) -> Vec<Value> {
        self.service.records.all().into_iter().filter(|record| record["kind"] == "handshake").collect()
    }

    /// Every refusal left exactly one record and one count, and only the twins' requests arrived.
    async fn close(self, refusals: usize, requests: usize) {
        let counted = self.service.metric("portcullis_handshakes_total", &["result=\"refused\""]).await;
        let records = self.service.stop().await.all();
        let handshakes = records.iter().filter(|record| record["kind"] == "handshake").count();
        assert_eq!(handshakes, refusals, "{records:#?}");
        assert_eq!((counted as usize, records.len()), (refusals, refusals + requests));
        let seen = self.upstream.seen();
        assert!(seen.iter().all(|seen| seen.target == "/twin") && seen.len() == requests, "{seen:#?}");
    }
}

fn refused_at(record: &Value, what: &str) {
    let expected = json!({"kind": "handshake", "outcome": "refused", "direction": "inbound", "listener": "endpoint"});
    for (field, value) in expected.as_object().expect("is an object") {
        assert_eq!(&record[field], value, "{what}: {record}");
    }
    // Nobody was proved, so nobody is named.
    assert_eq!((&record["principal"], &record["peer_certificate_sha256"]), (&Value::Null, &Value::Null), "{record}");
    assert!(record["error"].as_str().is_some_and(|error| !error.is_empty()), "{what}: {record}");
}

fn alert_in(what: &str, error: &std::io::Error) -> Alert {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => *alert,
        _ => panic!("{what}: the connection ended without an alert: {error:?}"),
    }
}

#[tokio::test]
async fn a_leaf_that_breaks_a_rule_gets_its_alert_and_its_record_and_nothing_else() {
    let door = Door::open("").await;
    let ca = &door.world.ca;
    let leaf = |change: &dyn Fn(&mut CertificateParams)| ca.issue_with(APP, change);
    let usages = |usages: &'static [KeyUsagePurpose]| ca.issue_with(APP, |params| params.key_usages = usages.to_vec());
    let purposes = |purpose| ca.issue_with(APP, |params| params.extended_key_usages = vec![purpose]);
    let named =
        |names: &[&str]| leaf(&|params| params.subject_alt_names = names.iter().map(|name| uri(name)).collect());
    let now = OffsetDateTime::now_utc();
    let app = door.world.id("app");
    let (bad, unfit) = (Alert::BadCertificate, Alert::UnsupportedCertificate);
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyAgreement, KeyCertSign, KeyEncipherment};

    let nobody = Rogue {
        what: "no certificate",
        rule: "no-certificate",
        alert: Alert::CertificateRequired,
        san: None,
        client: TlsClient::anonymous(),
    };
    let mut junk = ca.issue(APP);
    junk.chain = vec![CertificateDer::from(b"not a certificate".to_vec())];
    let stolen = Svid { key: ca.issue("/ns/test/sa/thief").key, ..ca.issue(APP) };
    let dns = leaf(&|params| params.subject_alt_names = vec![dns_name("app.pipeline.example")]);
    let dns_id = leaf(&|params| params.subject_alt_names = vec![dns_name("spiffe://pipeline.example/ns/test/sa/app")]);
    let common_name = leaf(&|params| {
        params.subject_alt_names.clear();
        params.distinguished_name.push(DnType::CommonName, "spiffe://pipeline.example/ns/test/sa/app");
    });
    let pair = openssl(&["genrsa", "1024"], "").await.stdout;
    let weak = ca.issue_public(APP, &openssl(&["rsa", "-pubout"], &pair).await.stdout);
    let unknown_extension = leaf(&|params| {
        let mut extension = CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        extension.set_criticality(true);
        params.custom_extensions = vec![extension];
    });
    let rogues = [
        nobody,
        rogue("not a certificate", "encoding", bad, &junk).named(None),
        rogue("another's certificate", "handshake-signature", Alert::DecryptError, &stolen),
        rogue(
            "expired",
            "expired",
            Alert::CertificateExpired,
            &leaf(&|params| params.not_after = now - Days::seconds(2)),
        ),
        rogue(
            "not yet valid",
            "not-yet-valid",
            Alert::CertificateExpired,
            &leaf(&|params| params.not_before = now + Days::minutes(10)),
        ),
        rogue("two IDs", "uri-san-count", bad, &named(&[&app, SECOND])).named(Some(&format!("{app}, {SECOND}"))),
        rogue("an ID twice", "uri-san-count", bad, &named(&[&app, &app])).named(Some(&format!("{app}, {app}"))),
        rogue("an ID and a URL", "uri-san-count", bad, &named(&[&app, "https://pipeline.example/"]))
            .named(Some(&format!("{app}, https://pipeline.example/"))),
        rogue("a URN and an ID", "uri-san-count", bad, &named(&["urn:x:y", &app]))
            .named(Some(&format!("urn:x:y, {app}"))),
        rogue("a DNS name only", "uri-san-count", bad, &dns).named(Some("DNS:app.pipeline.example")),
        rogue("an ID as DNS name", "uri-san-count", bad, &dns_id).named(Some(&format!("DNS:{app}"))),
        rogue("an ID as common name", "uri-san-count", bad, &common_name).named(None),
        rogue("cA", "ca-flag", unfit, &leaf(&|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))),
        rogue("keyCertSign", "key-cert-sign", unfit, &usages(&[DigitalSignature, KeyCertSign])),
        rogue("cRLSign", "crl-sign", unfit, &usages(&[DigitalSignature, CrlSign])),
        rogue("no digitalSignature", "digital-signature", unfit, &usages(&[KeyAgreement, KeyEncipherment])),
        rogue("no keyUsage", "key-usage-present", unfit, &usages(&[])),
        rogue("only serverAuth", "extended-key-usage", unfit, &purposes(ExtendedKeyUsagePurpose::ServerAuth)),
        rogue("only clientAuth", "extended-key-usage", unfit, &purposes(ExtendedKeyUsagePurpose::ClientAuth)),
        rogue("only codeSigning", "extended-key-usage", unfit, &purposes(ExtendedKeyUsagePurpose::CodeSigning)),
        rogue("RSA with 1024 bits", "key-strength", unfit, &weak),
        rogue("a critical extension", "critical-extension", bad, &unknown_extension),
    ];
    for rogue in &rogues {
        door.keeps_out(rogue).await;
        door.lets_in(rogue.what, &door.app()).await;
    }
    let refusals = rogues.len();
    door.close(refusals, refusals).await;
}

fn dns_name(name: &str) -> rcgen::SanType {
    rcgen::SanType::DnsName(name.try_into().expect("is ASCII"))
}

#[tokio::test]
async fn an_id_that_the_standard_does_not_know_is_refused_in_every_spelling() {
    let door = Door::open("").await;
    let long = format!("spiffe://pipeline.example/{}", "a".repeat(2049 - 26));
    let ids = [
        ("spiffe-id-has-path", "spiffe://pipeline.example"),
        ("spiffe-id-path", "spiffe://pipeline.example/"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/test/sa/app/"),
        ("spiffe-id-path", "spiffe://pipeline.example//ns/test/sa/app"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns//app"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/./app"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/other/../app"),
        ("spiffe-id-path", "spiffe://pipeline.example/.."),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/%61pp"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns%2Fapp"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/app?admin=1"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/app#admin"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/app;v=1"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/app:80"),
        ("spiffe-id-path", "spiffe://pipeline.example/ns/*"),
        ("spiffe-id-trust-domain", "spiffe://pipeline.example:8443/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://app@pipeline.example/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://Pipeline.example/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://PIPELINE.EXAMPLE/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://pipeline%2Eexample/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://pipeline.example?a=/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe://pipeline.example#/ns/test/sa/app"),
        ("spiffe-id-trust-domain", "spiffe:///ns/test/sa/app"),
        ("spiffe-id-scheme", "https://pipeline.example/ns/test/sa/app"),
        ("spiffe-id-scheme", "spiffe:/pipeline.example/ns/test/sa/app"),
        ("spiffe-id-scheme", "pipeline.example/ns/test/sa/app"),
        ("spiffe-id-length", long.as_str()),
        ("unknown-trust-domain", "spiffe://pipeline.example.evil.example/ns/test/sa/app"),
        ("unknown-trust-domain", "spiffe://pipeline.example./ns/test/sa/app"),
        ("unknown-trust-domain", "spiffe://example/ns/test/sa/app"),
        ("uri-san-encoding", "spiffe://pipeline.example/ns/test/sa/app\0x"),
        ("uri-san-encoding", "spiffe://pipeline.example/ns/test/sa/app "),
        ("uri-san-encoding", "spiffe://pipeline.example/ns/test\r\nforged"),
    ];
    for (rule, id) in ids {
        let alert = if rule == "unknown-trust-domain" { Alert::UnknownCA } else { Alert::BadCertificate };
        let svid = door.world.ca.issue_uri(id);
        // A name that somebody else chose is escaped before it is written.
        let san = id.escape_debug().to_string().replace("\\0", "\\x00");
        door.keeps_out(&rogue("an odd ID", rule, alert, &svid).named(Some(&san))).await;
    }
    let longest = format!("spiffe://pipeline.example/{}", "a".repeat(2048 - 26));
    let twins = ["spiffe://pipeline.example/a", "spiffe://pipeline.example/ns/.../A_b-c.0", longest.as_str()];
    for id in twins {
        door.lets_in(id, &TlsClient::with(&door.world.ca.issue_uri(id))).await;
    }
    door.close(ids.len(), twins.len()).await;
}

#[tokio::test]
async fn only_the_bundle_of_its_own_trust_domain_vouches_for_an_id_and_only_by_a_ca() {
    let door = Door::open("").await;
    let (ca, partner) = (&door.world.ca, &door.partner);
    let chained = |change: &dyn Fn(&mut CertificateParams)| ca.intermediate(change).issue(APP);
    let now = OffsetDateTime::now_utc();
    let by_a_workload = |params: &mut CertificateParams| {
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.subject_alt_names = vec![uri(SECOND)];
    };
    let too_deep = ca.intermediate(|params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
    // Of a name of its own: among issuers of one name, a signature that does not fit is what counts.
    let lower = too_deep.intermediate(|params| params.distinguished_name.push(DnType::CommonName, "lower"));
    let mut orphan = chained(&|_| ());
    orphan.chain.truncate(1);
    let mut padded = ca.issue(APP);
    padded.chain.extend(std::iter::repeat_n(ca.certificate().clone(), 20));
    let mut own_root = Ca::new("pipeline.example").issue(APP);
    own_root.chain.push(Ca::new("pipeline.example").certificate().clone());
    let rogues = [
        rogue("a CA of the same name", "chain", Alert::UnknownCA, &Ca::new("pipeline.example").issue(APP)),
        rogue("a CA of the same name, shown", "chain", Alert::UnknownCA, &own_root),
        rogue("B's ID by A's CA", "chain", Alert::UnknownCA, &ca.issue_uri("spiffe://partner.example/x")),
        rogue("A's ID by B's CA", "chain", Alert::UnknownCA, &partner.issue_uri("spiffe://pipeline.example/x")),
        rogue("an unknown domain", "unknown-trust-domain", Alert::UnknownCA, &Ca::new("other.example").issue(APP)),
        rogue(
            "an unknown domain's ID",
            "unknown-trust-domain",
            Alert::UnknownCA,
            &ca.issue_uri("spiffe://other.example/x"),
        ),
        rogue("no intermediate", "chain", Alert::UnknownCA, &orphan),
        rogue("a long chain", "chain-length", Alert::BadCertificate, &padded),
        rogue(
            "an issuer without keyCertSign",
            "signing-key-cert-sign",
            Alert::UnknownCA,
            &chained(&|params| params.key_usages = vec![KeyUsagePurpose::CrlSign]),
        ),
        rogue(
            "an issuer without cA",
            "signing-ca-flag",
            Alert::UnknownCA,
            &chained(&|params| params.is_ca = IsCa::ExplicitNoCa),
        ),
        rogue("issued by a workload", "signing-ca-flag", Alert::UnknownCA, &chained(&by_a_workload)),
        rogue(
            "a CA with a workload's ID",
            "signing-spiffe-id",
            Alert::UnknownCA,
            &chained(&|params| params.subject_alt_names = vec![uri(SECOND)]),
        ),
        rogue(
            "an expired issuer",
            "issuer-validity",
            Alert::CertificateExpired,
            &chained(&|params| params.not_after = now - Days::seconds(2)),
        ),
        rogue("below a path length", "path-length", Alert::UnknownCA, &lower.issue(APP)),
    ];
    for rogue in &rogues {
        door.keeps_out(rogue).await;
        door.lets_in(rogue.what, &door.app()).await;
    }
    let twins = [
        ("B's ID by B's CA", partner.issue("/x")),
        ("an intermediate", chained(&|_| ())),
        ("two intermediates", ca.intermediate(|_| ()).intermediate(|_| ()).issue(APP)),
        ("within a path length", too_deep.issue(APP)),
        ("an intermediate without ID", chained(&|params| params.subject_alt_names.clear())),
        ("no extended key usage", ca.issue_with(APP, |params| params.extended_key_usages.clear())),
        ("no basic constraints", ca.issue_with(APP, |params| params.is_ca = IsCa::NoCa)),
        ("DNS names beside", ca.issue_with(APP, |params| params.subject_alt_names.push(dns_name("*.example")))),
        ("P-384", ca.issue_keyed(APP, &rcgen::PKCS_ECDSA_P384_SHA384)),
        ("P-521", ca.issue_keyed(APP, &rcgen::PKCS_ECDSA_P521_SHA512)),
        ("RSA with 2048 bits", ca.issue_keyed(APP, &rcgen::PKCS_RSA_SHA256)),
        ("Ed25519", ca.issue_keyed(APP, &rcgen::PKCS_ED25519)),
    ];
    for (what, svid) in &twins {
        door.lets_in(what, &TlsClient::with(svid)).await;
    }
    let (refusals, requests) = (rogues.len(), rogues.len() + twins.len());
    door.close(refusals, requests).await;
}

#[tokio::test]
async fn tls_1_2_is_taken_only_where_the_listener_says_so_and_by_the_same_rules() {
    let door = Door::open("").await;
    let old = |svid: &Svid| TlsClient::with(svid).versions(&[&TLS12]);
    let app = door.world.ca.issue(APP);
    let too_old = Rogue { client: old(&app), ..rogue("TLS 1.2", "tls", Alert::ProtocolVersion, &app).named(None) };
    door.keeps_out(&too_old).await;
    door.lets_in("TLS 1.3", &TlsClient::with(&app).versions(&[&TLS13])).await;
    door.close(1, 1).await;

    let door = Door::open("tls:\n  min_version: \"1.2\"").await;
    let app = door.world.ca.issue(APP);
    let stream = old(&app).connect(door.address()).await.expect("TLS 1.2 is taken");
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    drop(stream);
    door.lets_in("TLS 1.2", &old(&app)).await;
    let record = door.service.records.with_outcome("allowed").await;
    assert_eq!(record["context"]["tls"]["version"], "TLSv1.2", "{record}");
    // Who speaks both is not talked down.
    let stream = TlsClient::with(&app).connect(door.address()).await.expect("a known peer");
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));

    let double = door.world.ca.issue_with(APP, |params| params.subject_alt_names.push(uri(SECOND)));
    let double_san = format!("{}, {SECOND}", door.world.id("app"));
    let stranger = Ca::new("pipeline.example").issue(APP);
    let nobody = rogue("no certificate", "no-certificate", Alert::CertificateRequired, &app).named(None);
    let rogues = [
        Rogue { client: TlsClient::anonymous().versions(&[&TLS12]), ..nobody },
        Rogue {
            client: old(&double),
            ..rogue("two IDs", "uri-san-count", Alert::BadCertificate, &double).named(Some(&double_san))
        },
        Rogue { client: old(&stranger), ..rogue("a stranger", "chain", Alert::UnknownCA, &stranger) },
    ];
    for rogue in &rogues {
        door.keeps_out(rogue).await;
    }
    door.close(rogues.len(), 1).await;
}

#[tokio::test]
async fn openssl_without_a_certificate_or_with_a_wrong_one_reads_an_alert_and_no_answer() {
    let door = Door::open("").await;
    let wrong = files(&door.world, "wrong", &Ca::new("pipeline.example").issue(APP));
    let right = files(&door.world, "right", &door.world.ca.issue(APP));
    let cases = [(None, "alert certificate required", "no-certificate"), (Some(&wrong), "alert unknown ca", "chain")];
    for (number, (certificate, alert, rule)) in cases.into_iter().enumerate() {
        let output = s_client(door.address(), certificate, &["-ign_eof"]).await;
        assert!(output.stderr.contains(alert), "{output:#?}");
        assert!(!output.stdout.contains("HTTP/1.1"), "{output:#?}");
        let record = door.service.records.find(rule, |record| record["reason"] == rule).await;
        refused_at(&record, rule);
        assert_eq!(door.handshakes().len(), number + 1);
    }
    let output = s_client(door.address(), Some(&right), &["-ign_eof"]).await;
    assert!(output.stdout.contains("HTTP/1.1 200 OK"), "{output:#?}");
    door.close(2, 1).await;
}

#[tokio::test]
async fn openssl_is_given_nothing_to_resume_a_session_with() {
    for (version, options) in [("-tls1_3", ""), ("-tls1_2", "tls:\n  min_version: \"1.2\"")] {
        let door = Door::open(options).await;
        let right = files(&door.world, "right", &door.world.ca.issue(APP));
        let again = s_client(door.address(), Some(&right), &[version, "-reconnect"]).await;
        let handshakes = |kind: &str| again.stdout.lines().filter(|line| line.starts_with(kind)).count();
        assert_eq!((handshakes("New, TLSv1."), handshakes("Reused, ")), (6, 0), "{again:#?}");
        // What a session file holds, if there is one, opens nothing.
        let session = door.world.path().join("session").display().to_string();
        let first = s_client(door.address(), Some(&right), &[version, "-ign_eof", "-sess_out", &session]).await;
        assert!(!first.stdout.contains("Session Ticket arrived") && !first.stdout.contains("ticket:"), "{first:#?}");
        if std::path::Path::new(&session).exists() {
            let resumed = s_client(door.address(), Some(&right), &[version, "-ign_eof", "-sess_in", &session]).await;
            assert!(resumed.stdout.contains("New, TLSv1.") && !resumed.stdout.contains("Reused, "), "{resumed:#?}");
        }
        door.service.stop().await;
    }
}

/// The SVID as the two files that openssl reads.
fn files(world: &World, name: &str, svid: &Svid) -> [String; 2] {
    let certificate = world.write(&format!("{name}.pem"), &svid.chain_pem());
    let key = world.write(&format!("{name}.key"), &svid.key_pem());
    [certificate, key].map(|path| path.display().to_string())
}

async fn s_client(address: SocketAddr, certificate: Option<&[String; 2]>, options: &[&str]) -> Output {
    let address = address.to_string();
    let mut arguments = vec!["s_client", "-connect", address.as_str()];
    if let Some([certificate, key]) = certificate {
        arguments.extend(["-cert", certificate, "-key", key]);
    }
    arguments.extend(options);
    openssl(&arguments, "GET /twin HTTP/1.1\r\nHost: service.example\r\nConnection: close\r\n\r\n").await
}

#[tokio::test]
async fn what_is_not_tls_is_not_answered_in_http() {
    let door = Door::open("").await;
    let address = door.address();
    let cases: [(&str, &[u8], &str); 5] = [
        ("HTTP/1.1", b"GET /secret HTTP/1.1\r\nhost: service.example\r\n\r\n", "tls"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "tls"),
        ("a PROXY header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", "tls"),
        ("noughts", &[0; 64], "tls"),
        ("half a ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "closed"),
    ];
    for (what, bytes, rule) in cases {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let local = stream.local_addr().expect("is connected");
        stream.write_all(bytes).await.expect("the connection is open");
        let mut stream = Raw::over(stream);
        if rule == "closed" {
            stream.half_close().await;
        }
        let received = String::from_utf8_lossy(&stream.rest().await).into_owned();
        assert!(!received.contains("HTTP") && received.len() < 16, "{what}: {received:?}");
        let record = door.handshake_from(local).await;
        assert_eq!((&record["reason"], &record["peer_san"]), (&json!(rule), &Value::Null), "{what}: {record}");
        refused_at(&record, what);
        door.lets_in(what, &door.app()).await;
    }
    door.close(cases.len(), cases.len()).await;
}

#[tokio::test]
async fn alpn_agrees_on_http_2_or_http_1_1_and_on_nothing_else() {
    let door = Door::open("").await;
    let cases: [(&[&str], Option<&str>); 5] = [
        (&["h2"], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["http/1.1", "h2"], Some("h2")),
        (&["spdy/3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ];
    for (offered, agreed) in cases {
        let stream = door.app().alpn(offered).connect(door.address()).await.expect("a known peer");
        assert_eq!(stream.get_ref().1.alpn_protocol(), agreed.map(str::as_bytes), "{offered:?}");
        let (answer, version) = if agreed == Some("h2") {
            let request = request("GET", "", "https://service.example/twin", &[], "");
            (http2(stream).await.send(request).await, Version::HTTP_2)
        } else {
            (http1(stream).await.send(request("GET", "service.example", "/twin", &[], "")).await, Version::HTTP_11)
        };
        assert_eq!((answer.status, answer.version), (StatusCode::OK, version), "{offered:?}");
    }
    let app = door.world.ca.issue(APP);
    for offered in [&["h3"][..], &["h2c", "http/1.0", "spdy/3"]] {
        let client = TlsClient::with(&app).alpn(offered);
        let strange = rogue("ALPN", "tls", Alert::NoApplicationProtocol, &app).named(None);
        door.keeps_out(&Rogue { client, ..strange }).await;
    }
    door.close(2, cases.len()).await;
}

#[tokio::test]
async fn handshakes_that_never_end_are_cut_at_the_limit_while_others_go_on() {
    let door = Door::open("limits:\n  handshake_timeout: 2s").await;
    let hello = client_hello();
    let (half, _) = hello.split_at(hello.len() / 2);
    // Nothing, a byte, half a greeting, a whole one whose answer is never read to its end.
    let openings: [&[u8]; 4] = [b"", &[0x16], half, &hello];
    let started = Instant::now();
    let mut stalled = Vec::new();
    for opening in openings.repeat(5) {
        let mut stream = TcpStream::connect(door.address()).await.expect("it listens");
        stream.write_all(opening).await.expect("the connection is open");
        stalled.push(stream);
    }
    for _ in 0..5 {
        door.lets_in("while others stall", &door.app()).await;
    }
    assert!(door.handshakes().is_empty() || started.elapsed() >= Duration::from_secs(2), "{:#?}", door.handshakes());

    let count = stalled.len();
    for stream in stalled {
        let local = stream.local_addr().expect("is connected");
        Raw::over(stream).rest().await;
        assert!(started.elapsed() >= Duration::from_secs(2), "cut after {:?}", started.elapsed());
        let record = door.handshake_from(local).await;
        assert_eq!(record["reason"], "handshake-timeout", "{record}");
        refused_at(&record, "a stalled handshake");
    }
    assert!(started.elapsed() < Duration::from_secs(10), "cut after {:?}", started.elapsed());
    door.close(count, 5).await;
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_prolong_a_handshake() {
    let door = Door::open("limits:\n  handshake_timeout: 1s").await;
    let started = Instant::now();
    let mut stream = TcpStream::connect(door.address()).await.expect("it listens");
    let local = stream.local_addr().expect("is connected");
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    for byte in client_hello() {
        tick.tick().await;
        if stream.write_all(&[byte]).await.is_err() {
            break;
        }
    }
    assert!(started.elapsed() < Duration::from_secs(8), "cut after {:?}", started.elapsed());
    let record = door.handshake_from(local).await;
    assert_eq!(record["reason"], "handshake-timeout", "{record}");
    door.lets_in("afterwards", &door.app()).await;
    door.close(1, 1).await;
}

/// A ClientHello as rustls writes it.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("the provider has them").with_root_certificates(rustls::RootCertStore::empty());
    let name = "portcullis.invalid".try_into().expect("is a DNS name");
    let mut connection =
        rustls::ClientConnection::new(Arc::new(config.with_no_client_auth()), name).expect("the name is fine");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("a vector takes everything");
    hello
}

#[tokio::test]
async fn the_key_exchange_is_hybrid_post_quantum_with_whoever_can() {
    let door = Door::open("").await;
    let hybrid = if cfg!(feature = "post-quantum") { NamedGroup::X25519MLKEM768 } else { NamedGroup::X25519 };
    let groups = |groups: &[&'static dyn rustls::crypto::SupportedKxGroup]| {
        let groups = groups.to_vec();
        door.app().offering(|provider| provider.kx_groups = groups)
    };
    let cases = [
        ("by default", door.app(), hybrid),
        ("hybrid first", groups(&[kx_group::X25519MLKEM768, kx_group::X25519]), hybrid),
        ("X25519 only", groups(&[kx_group::X25519]), NamedGroup::X25519),
        ("P-256 only", groups(&[kx_group::SECP256R1]), NamedGroup::secp256r1),
    ];
    let count = cases.len();
    for (what, client, group) in cases {
        let stream = client.connect(door.address()).await.expect("a known peer");
        let session = stream.get_ref().1;
        assert_eq!(session.negotiated_key_exchange_group().map(|group| group.name()), Some(group), "{what}");
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3), "{what}");
        let answer = http1(stream).await.send(request("GET", "service.example", "/twin", &[], "")).await;
        assert_eq!(answer.status, StatusCode::OK, "{what}");
    }
    door.close(0, count).await;
}

#[tokio::test]
async fn the_outbound_side_offers_both_protocols_and_the_hybrid_group_and_never_resumes() {
    let world = World::new();
    let server = server_config(&world.ca.issue("/ns/test/sa/service"), &["h2", "http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let to = listener.local_addr().expect("is bound").to_string();
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let app = app.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let hybrid = if cfg!(feature = "post-quantum") { NamedGroup::X25519MLKEM768 } else { NamedGroup::X25519 };
    // The server drops the first connection, so that the sidecar comes back, and would resume if it ever did.
    for attempt in 0..2 {
        let address = app.outbound("endpoint");
        let asking = tokio::spawn(async move { get(address, "/").await });
        let stream = shaken_hands(&listener, &server).await;
        let session = stream.get_ref().1;
        assert_eq!(session.negotiated_key_exchange_group().map(|group| group.name()), Some(hybrid));
        assert_eq!(session.alpn_protocol(), Some(&b"h2"[..]));
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full), "{attempt}");
        assert_eq!(session.server_name(), None);
        drop(stream);
        asking.abort();
    }
    app.kill().await;
}

/// The next connection whose handshake completes. The sidecar may have tried the request before once more when its
/// connection was dropped, and have given that attempt up with its client: such a connection ends before its hello.
async fn shaken_hands(listener: &TcpListener, server: &TlsAcceptor) -> server::TlsStream<TcpStream> {
    loop {
        let (stream, _) = within("the sidecar", listener.accept()).await.expect("it connects");
        match within("a handshake", server.accept(stream)).await {
            Ok(stream) => return stream,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "any peer is taken: {error}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_breaks_a_rule_gets_no_request() {
    let world = World::new();
    let ca = &world.ca;
    const SERVICE: &str = "/ns/test/sa/service";
    let usages = |usages: &'static [KeyUsagePurpose]| ca.issue_with(SERVICE, |p| p.key_usages = usages.to_vec());
    let purpose = |purpose| ca.issue_with(SERVICE, |p| p.extended_key_usages = vec![purpose]);
    let now = OffsetDateTime::now_utc();
    use KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};
    let cases = [
        ("", ca.issue(SERVICE)),
        ("unexpected-peer", ca.issue("/ns/test/sa/services")),
        ("unexpected-peer", ca.issue("/ns/test/sa/service/below")),
        ("chain", Ca::new("pipeline.example").issue(SERVICE)),
        ("chain", Ca::new("partner.example").issue_uri(&world.id("service"))),
        ("expired", ca.issue_with(SERVICE, |p| p.not_after = now - Days::seconds(2))),
        ("not-yet-valid", ca.issue_with(SERVICE, |p| p.not_before = now + Days::minutes(10))),
        ("uri-san-count", ca.issue_with(SERVICE, |p| p.subject_alt_names.push(uri(SECOND)))),
        ("uri-san-count", ca.issue_with(SERVICE, |p| p.subject_alt_names = vec![dns_name("localhost")])),
        ("ca-flag", ca.issue_with(SERVICE, |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        ("key-cert-sign", usages(&[DigitalSignature, KeyCertSign])),
        ("crl-sign", usages(&[DigitalSignature, CrlSign])),
        ("extended-key-usage", purpose(ExtendedKeyUsagePurpose::ServerAuth)),
        ("spiffe-id-path", ca.issue_uri("spiffe://pipeline.example/ns/test/sa/service/")),
        ("spiffe-id-trust-domain", ca.issue_uri("spiffe://Pipeline.example/ns/test/sa/service")),
    ];
    let mut plan = world.sidecar("app").policies(ALLOW_ALL);
    let mut servers = Vec::new();
    for (number, (_, svid)) in cases.iter().enumerate() {
        let answer = Behaviour::Answer(Arc::new(|_| Reply::text("ok")));
        let server = Recorder::behaving(answer, Some(server_config(svid, &["h2", "http/1.1"])));
        let to = server.address.to_string();
        plan = plan.outbound(&format!("to-{number}"), "http", &to, &world.id("service"), "");
        servers.push(server);
    }
    let app = plan.start().await;
    for (number, ((rule, svid), server)) in cases.iter().zip(&servers).enumerate() {
        let answer = get(app.outbound(&format!("to-{number}")), "/").await;
        if rule.is_empty() {
            assert_eq!((answer.status, server.seen().len()), (StatusCode::OK, 1));
            continue;
        }
        let stage = answer.header("x-portcullis-error");
        assert_eq!((answer.status, stage), (StatusCode::BAD_GATEWAY, "upstream-handshake"), "{rule}");
        let listener = format!("to-{number}");
        let record = app.records.find("the request", |record| record["listener"] == listener.as_str()).await;
        let error = record["error"].as_str().unwrap_or_default();
        assert!(error.contains(&format!("is not trusted ({rule})")), "{rule}, {}: {record}", svid.id);
        server.assert_untouched();
    }
    app.stop().await;
}
