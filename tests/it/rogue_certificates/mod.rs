//! Rogue certificates in real handshakes with a running sidecar, each beside a valid twin and in both roles: as the client of
//! an inbound listener and as the server that an outbound listener comes to.
//!
//! Of each: the alert that it gets, the rule and the names in the record, the rule in the metric, and that no request
//! reached the upstream or the rogue.

mod chain;
mod leaf;
mod malformed;
mod names;
mod signers;

use std::collections::BTreeMap;

use http::StatusCode;
use rustls::AlertDescription as Alert;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

/// What everybody tries to pass for.
const ID: &str = "spiffe://pipeline.example/ns/test/sa/app";
const SECOND: &str = "spiffe://pipeline.example/ns/test/sa/second";

/// A certificate that breaks a rule, and one that differs in that alone.
#[derive(Debug)]
struct Case {
    what: &'static str,
    rule: &'static str,
    alert: Alert,
    /// What the record says of the names in it.
    san: Option<String>,
    rogue: Svid,
    twin: Svid,
}

/// A rogue whose record names its ID.
fn case(what: &'static str, rule: &'static str, rogue: Svid, twin: &Svid) -> Case {
    Case { what, rule, alert: alert(rule), san: Some(rogue.id.clone()), rogue, twin: twin.clone() }
}

impl Case {
    /// What the record says of its names in place of its ID.
    fn named(self, san: &str) -> Self {
        Self { san: Some(san.to_owned()), ..self }
    }

    fn without_names(self) -> Self {
        Self { san: None, ..self }
    }

    /// The rule is broken by an issuer: the leaf has none that is known.
    fn by_issuer(self) -> Self {
        Self { alert: Alert::UnknownCA, ..self }
    }
}

/// The alert that goes with a rule (RFC 8446, 6.2).
fn alert(rule: &str) -> Alert {
    match rule {
        "expired" | "not-yet-valid" | "issuer-validity" => Alert::CertificateExpired,
        "ca-flag" | "key-usage-present" | "key-usage-critical" | "digital-signature" | "key-cert-sign" | "crl-sign"
        | "extended-key-usage" | "key-strength" => Alert::UnsupportedCertificate,
        "chain"
        | "unknown-trust-domain"
        | "path-length"
        | "issuer-extended-key-usage"
        | "signing-ca-flag"
        | "signing-key-cert-sign"
        | "signing-spiffe-id" => Alert::UnknownCA,
        "handshake-signature" => Alert::DecryptError,
        "encoding"
        | "version"
        | "duplicate-extension"
        | "extension-encoding"
        | "critical-extension"
        | "validity-order"
        | "uri-san-count"
        | "uri-san-encoding"
        | "spiffe-id-length"
        | "spiffe-id-scheme"
        | "spiffe-id-trust-domain"
        | "spiffe-id-path"
        | "spiffe-id-has-path"
        | "san-critical"
        | "signature-algorithm"
        | "chain-length"
        | "name-constraints" => Alert::BadCertificate,
        other => panic!("which alert goes with `{other}`?"),
    }
}

/// A sidecar with a listener of each direction, and the place where its outbound upstream should be.
#[derive(Debug)]
struct Trial {
    door: Door,
    impostor: TcpListener,
}

/// How a visit of the sidecar to the impostor ended.
#[derive(Debug, PartialEq, Eq)]
enum Visit {
    Refused(Alert),
    Asked,
}

impl Trial {
    /// A sidecar of `world` that trusts a partner's CA too.
    async fn open(world: World) -> Self {
        Self::trusting(world, &[]).await
    }

    /// The same with further authorities of its own trust domain.
    async fn trusting(world: World, authorities: &[&CertificateDer<'_>]) -> Self {
        let (partner, upstream) = (Ca::new("partner.example"), Recorder::start());
        let impostor = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
        let to = impostor.local_addr().expect("is bound").to_string();
        let further: String = authorities.iter().map(|authority| certificate_pem(authority)).collect();
        let service = world.sidecar("service").policies(ALLOW_ALL);
        let service = service.trust("partner.example", &partner.bundle());
        let service = service.trust("pipeline.example", &(further + &world.ca.bundle()));
        let service = service.inbound("endpoint", "http", &upstream.url(), "");
        let peers = "[\"spiffe://pipeline.example/*\", \"spiffe://partner.example/*\"]";
        let service = service.outbound("abroad", "http", &to, peers, "").start().await;
        Self { door: Door { world, partner, upstream, service }, impostor }
    }

    /// Tries all, and looks at what is left of them.
    async fn run(self, cases: &[Case]) {
        let mut rules = BTreeMap::new();
        for case in cases {
            self.as_client(case).await;
            self.as_server(case).await;
            *rules.entry(case.rule).or_insert(0) += 1;
        }
        for direction in ["inbound", "outbound"] {
            let direction = format!("direction=\"{direction}\"");
            for (rule, count) in &rules {
                let labels = [&direction, "result=\"refused\"", &format!("rule=\"{rule}\"")];
                let counted = self.door.service.metric("portcullis_handshakes_total", &labels).await;
                assert_eq!(counted as usize, *count, "{direction}, {rule}");
            }
            let counts = ["refused", "done"].map(|result| format!("result=\"{result}\""));
            for result in counts {
                let counted = self.door.service.metric("portcullis_handshakes_total", &[&direction, &result]).await;
                assert_eq!(counted as usize, cases.len(), "{direction}, {result}");
            }
        }
        let Door { service, upstream, .. } = self.door;
        let records = service.stop().await.all();
        let handshakes = records.iter().filter(|record| record["kind"] == "handshake").count();
        assert_eq!(handshakes, cases.len(), "one record for each refused client");
        assert_eq!(records.len(), 4 * cases.len(), "and one for each twin, each way, and each refused server");
        assert_eq!(upstream.seen().len(), cases.len(), "only the twins' requests arrived");
    }

    async fn as_client(&self, case: &Case) {
        let Case { what, rule, alert, san, .. } = case;
        let client = TlsClient::with(&case.rogue);
        self.door.keeps_out(&Rogue { what, rule, alert: *alert, san: san.clone(), client }).await;
        self.door.lets_in(what, &TlsClient::with(&case.twin)).await;
    }

    async fn as_server(&self, case: &Case) {
        let (what, rule) = (case.what, case.rule);
        let (answer, visit) = self.visit(&case.rogue).await;
        assert_eq!(visit, Visit::Refused(case.alert), "{what}");
        let stage = answer.header("x-portcullis-error");
        assert_eq!((answer.status, stage), (StatusCode::BAD_GATEWAY, "upstream-handshake"), "{what}");
        let id = answer.header("x-request-id");
        let record = self.door.service.records.find("the failed request", |record| record["request_id"] == id).await;
        let error = record["error"].as_str().unwrap_or_default();
        assert!(error.contains(&format!("is not trusted ({rule})")), "{what}: {record}");
        assert!(case.san.as_ref().is_none_or(|san| error.contains(san)), "{what}: {record}");
        assert!(!answer.text().contains("certificate"), "the app is not told: {}", answer.text());

        let (answer, visit) = self.visit(&case.twin).await;
        assert_eq!((answer.status, visit), (StatusCode::OK, Visit::Asked), "twin of {what}");
    }

    /// Has the sidecar come to a server that shows `svid`.
    async fn visit(&self, svid: &Svid) -> (Answer, Visit) {
        tokio::join!(get(self.door.service.outbound("abroad"), "/"), self.meet(svid))
    }

    async fn meet(&self, svid: &Svid) -> Visit {
        let (stream, _) = within("the sidecar", self.impostor.accept()).await.expect("it connects");
        let mut stream = match within("a handshake", server_config(svid, &["http/1.1"]).accept(stream)).await {
            Ok(stream) => stream,
            Err(error) => return Visit::Refused(alert_of(&error)),
        };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(within("a request", stream.read_u8()).await.expect("it asks"));
        }
        // Not to be used again: the next one shall be judged anew.
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
        stream.write_all(answer).await.expect("it listens");
        stream.shutdown().await.expect("it listens");
        Visit::Asked
    }
}
