//! An inbound listener that somebody unwelcome comes to: the alert, the record, and nothing at the upstream.

use std::net::SocketAddr;

use http::StatusCode;
use rustls::AlertDescription as Alert;
use serde_json::{Value, json};

use super::{
    ALLOW_ALL, Ca, Recorder, Sidecar, Svid, TlsClient, World, alert_of, eventually, http1, refusal_alert, request,
};

/// The path of the workload that gets in.
pub(crate) const APP: &str = "/ns/test/sa/app";

/// A client certificate that does not get in.
#[derive(Debug)]
pub(crate) struct Rogue {
    pub(crate) what: &'static str,
    pub(crate) rule: &'static str,
    pub(crate) alert: Alert,
    /// What the record says of the names in it.
    pub(crate) san: Option<String>,
    pub(crate) client: TlsClient,
}

/// One that shows `svid`; the record says that it names the SVID's ID.
pub(crate) fn rogue(what: &'static str, rule: &'static str, alert: Alert, svid: &Svid) -> Rogue {
    Rogue { what, rule, alert, san: Some(svid.id.clone()), client: TlsClient::with(svid) }
}

impl Rogue {
    /// What the record says in its place.
    pub(crate) fn named(self, san: Option<&str>) -> Self {
        Self { san: san.map(str::to_owned), ..self }
    }
}

/// One inbound sidecar that trusts two domains, and an upstream that nobody but a proved peer may reach.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) world: World,
    pub(crate) partner: Ca,
    pub(crate) upstream: Recorder,
    pub(crate) service: Sidecar,
}

impl Door {
    /// Starts them; `options` are further YAML of the listener.
    pub(crate) async fn open(options: &str) -> Self {
        let (world, partner, upstream) = (World::new(), Ca::new("partner.example"), Recorder::start());
        let service = world.sidecar("service").policies(ALLOW_ALL).trust("partner.example", &partner.bundle());
        let service = service.inbound("endpoint", "http", &upstream.url(), options).start().await;
        Self { world, partner, upstream, service }
    }

    /// Where its listener is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.service.inbound("endpoint")
    }

    /// The workload that gets in.
    pub(crate) fn app(&self) -> TlsClient {
        TlsClient::with(&self.world.ca.issue(APP))
    }

    /// The allowed twin: gets in, and its request to the upstream.
    pub(crate) async fn lets_in(&self, what: &str, client: &TlsClient) {
        let stream = client.connect(self.address()).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let answer = http1(stream).await.try_send(request("GET", "service.example", "/twin", &[], "")).await;
        let answer = answer.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(answer.status, StatusCode::OK, "{what}");
    }

    /// It gets its alert, and the record says why.
    pub(crate) async fn keeps_out(&self, rogue: &Rogue) {
        let (what, before) = (rogue.what, self.handshakes().len());
        let (address, alert) = match rogue.client.connect(self.address()).await {
            // In TLS 1.3 the client is done before the server judges it.
            Ok(stream) => (stream.get_ref().0.local_addr().ok(), refusal_alert(stream).await),
            Err(error) => (None, alert_of(&error)),
        };
        assert_eq!(alert, rogue.alert, "{what}");
        // Not any record of this address: a port that an earlier connection had is given out again.
        let record = eventually(what, || self.handshakes().into_iter().nth(before)).await;
        if let Some(address) = address {
            assert_eq!(record["peer_address"], address.to_string(), "{what}: {record}");
        }
        assert_eq!(record["reason"], rogue.rule, "{what}: {record}");
        assert_eq!(record["peer_san"], json!(rogue.san), "{what}: {record}");
        refused_at(&record, what);
    }

    /// The record of the handshake from `address`.
    pub(crate) async fn handshake_from(&self, address: SocketAddr) -> Value {
        let address = address.to_string();
        let is_it = |record: &Value| record["kind"] == "handshake" && record["peer_address"] == address.as_str();
        self.service.records.find("the refused handshake", is_it).await
    }

    /// The records of handshakes.
    pub(crate) fn handshakes(&self) -> Vec<Value> {
        self.service.records.all().into_iter().filter(|record| record["kind"] == "handshake").collect()
    }

    /// Every refusal left exactly one record and one count, and only the twins' requests arrived.
    pub(crate) async fn close(self, refusals: usize, requests: usize) {
        let counted = self.service.metric("portcullis_handshakes_total", &["result=\"refused\""]).await;
        let records = self.service.stop().await.all();
        let handshakes = records.iter().filter(|record| record["kind"] == "handshake").count();
        assert_eq!(handshakes, refusals, "{records:#?}");
        assert_eq!((counted as usize, records.len()), (refusals, refusals + requests));
        let seen = self.upstream.seen();
        assert!(seen.iter().all(|seen| seen.target == "/twin") && seen.len() == requests, "{seen:#?}");
    }
}

/// A record of a handshake that the inbound listener refused, whoever came.
pub(crate) fn refused_at(record: &Value, what: &str) {
    let expected = json!({"kind": "handshake", "outcome": "refused", "direction": "inbound", "listener": "endpoint"});
    for (field, value) in expected.as_object().expect("is an object") {
        assert_eq!(&record[field], value, "{what}: {record}");
    }
    // Nobody was proved, so nobody is named.
    assert_eq!((&record["principal"], &record["peer_certificate_sha256"]), (&Value::Null, &Value::Null), "{record}");
    assert!(record["error"].as_str().is_some_and(|error| !error.is_empty()), "{what}: {record}");
}
