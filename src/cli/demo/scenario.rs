//! The short story that the demo tells, with real requests.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Method;
use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::client::{query, send};
use super::world::{Warehouse, World};
use crate::config::{PeerMatcher, TlsVersion};
use crate::tls::ClientTls;

/// How long a record may take to be found. It is written before the answer; this only bounds a fault.
const RECORD_LIMIT: Duration = Duration::from_secs(5);

/// One line of the story: what was tried and what came of it.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) who: &'static str,
    pub(super) what: String,
    /// Which sidecar decided last.
    pub(super) decided_at: &'static str,
    pub(super) outcome: String,
    pub(super) policies: String,
    expected: (&'static str, &'static str),
}

impl Row {
    /// Whether outcome and deciding policy are what the shipped policies say.
    pub(super) fn is_as_expected(&self) -> bool {
        self.outcome == self.expected.0 && self.policies == self.expected.1
    }
}

struct Step {
    who: &'static str,
    method: Method,
    path: &'static str,
    body: &'static str,
    expected: (&'static str, &'static str),
}

fn step(
    who: &'static str,
    (method, path): (Method, &'static str),
    body: &'static str,
    expected: (&'static str, &'static str),
) -> Step {
    Step { who, method, path, body, expected }
}

/// Plays every step and reads from the records how it was decided.
pub(super) async fn play(world: &World) -> Result<Vec<Row>, String> {
    const ORDERS: &str = "id,amount\n1,20\n2,35\n";
    let steps = [
        step("ingest", (Method::PUT, "/raw/ingest/orders.csv"), ORDERS, ("allowed", "ingest-writes-raw")),
        step("transform", (Method::GET, "/raw/ingest/orders.csv"), "", ("allowed", "transform-reads-ingested")),
        step("transform", (Method::PUT, "/curated/orders.csv"), ORDERS, ("allowed", "transform-writes-curated")),
        step("load", (Method::GET, "/curated/orders.csv"), "", ("allowed", "load-reads-curated")),
        step("transform", (Method::DELETE, "/raw/ingest/orders.csv"), "", ("forbidden", "raw-is-never-deleted")),
        step("load", (Method::GET, "/raw/ingest/orders.csv"), "", ("not_permitted", "")),
    ];
    let mut rows = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        rows.push(request(world, step, &format!("demo-{}", number + 1)).await?);
    }
    rows.push(stranger(world).await?);
    if let Ok(warehouse) = &world.warehouse {
        rows.extend(statements(warehouse).await?);
    }
    Ok(rows)
}

/// What two stages do in the warehouse.
async fn statements(warehouse: &Warehouse) -> Result<Vec<Row>, String> {
    let steps = [
        ("load", "insert", "INSERT INTO orders VALUES (1, 1, 20)", ("allowed", "load-inserts-orders")),
        ("analyst", "select", "SELECT id, amount FROM orders", ("allowed", "analyst-reads")),
        ("analyst", "select", "SELECT ssn FROM people", ("forbidden", "ssn-stays")),
        ("load", "delete", "DELETE FROM orders", ("forbidden", "rows-stay")),
    ];
    let mut rows = Vec::new();
    for (who, kind, text, expected) in steps {
        let sidecar = if who == "load" { &warehouse.load } else { &warehouse.analyst };
        query(sidecar.address, who, text).await?;
        let is_it = |record: &Value| {
            let of = record.get("context").map_or("", |context| self::text(context, "statement"));
            of == kind && self::text(record, "kind") == "request"
        };
        let record = record(&warehouse.inbound.audit, is_it).await?;
        rows.push(Row {
            who,
            what: format!("{} {}", self::text(&record, "action"), self::text(&record, "resource")),
            decided_at: "inbound",
            outcome: self::text(&record, "outcome").to_owned(),
            policies: policies(&record),
            expected,
        });
    }
    Ok(rows)
}

async fn request(world: &World, step: Step, request_id: &str) -> Result<Row, String> {
    let sidecar = world.stage(step.who).ok_or("the stage has no sidecar")?;
    send(sidecar.address, &step.method, step.path, step.body, request_id).await?;
    let is_it = |record: &Value| text(record, "request_id") == request_id && text(record, "kind") == "request";
    let egress = record(&sidecar.audit, is_it).await?;
    let (decided_at, record) = if text(&egress, "outcome") == "allowed" {
        ("inbound", record(&world.lake.audit, is_it).await?)
    } else {
        ("outbound", egress)
    };
    let action = text(&record, "action");
    Ok(Row {
        who: step.who,
        what: format!("{action} {}", text(&record, "resource")),
        decided_at,
        outcome: text(&record, "outcome").to_owned(),
        policies: policies(&record),
        expected: step.expected,
    })
}

/// Somebody with a certificate for the right name from the wrong CA.
async fn stranger(world: &World) -> Result<Row, String> {
    let refused = handshake(world).await.is_err();
    let record = record(&world.lake.audit, |record| text(record, "kind") == "handshake").await?;
    Ok(Row {
        who: "a stranger",
        what: "TLS handshake as transform, from another CA".into(),
        decided_at: "inbound",
        outcome: if refused { text(&record, "outcome").to_owned() } else { "accepted".into() },
        policies: format!("rule `{}`", text(&record, "reason")),
        expected: ("refused", "rule `chain`"),
    })
}

async fn handshake(world: &World) -> Result<(), String> {
    let stream = TcpStream::connect(world.lake.address).await.map_err(|error| error.to_string())?;
    let tls =
        ClientTls::new(Arc::clone(&world.stranger), TlsVersion::V1_3, &[b"http/1.1"], PeerMatcher::AnyInOwnTrustDomain);
    let (mut stream, _peer) = tls.connect(stream).await.map_err(|refusal| refusal.message)?;
    // In TLS 1.3 the client has finished before the server judges its certificate: the alert comes with the first read.
    stream.read_u8().await.map(|_byte| ()).map_err(|error| error.to_string())
}

/// The last record for which `is_it` holds, waited for with a limit.
async fn record(audit: &Path, is_it: impl Fn(&Value) -> bool) -> Result<Value, String> {
    let started = Instant::now();
    loop {
        let text = std::fs::read_to_string(audit).map_err(|error| error.to_string())?;
        let found = text.lines().rev().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(&is_it);
        match found {
            Some(record) => return Ok(record),
            None if started.elapsed() > RECORD_LIMIT => return Err(format!("{} lacks a record", audit.display())),
            None => sleep(Duration::from_millis(5)).await,
        }
    }
}

fn text<'a>(record: &'a Value, field: &str) -> &'a str {
    record.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn policies(record: &Value) -> String {
    let ids = record.get("policies").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    ids.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::table;
    use super::*;

    fn row(outcome: &str, policies: &str) -> Row {
        let (outcome, policies) = (outcome.to_owned(), policies.to_owned());
        let expected = ("forbidden", "raw-is-never-deleted");
        Row { who: "transform", what: "s3:DeleteObject".into(), decided_at: "inbound", outcome, policies, expected }
    }

    #[test]
    fn a_row_is_as_expected_only_by_the_right_policy() {
        assert!(row("forbidden", "raw-is-never-deleted").is_as_expected());
        for (outcome, policies) in
            [("allowed", "raw-is-never-deleted"), ("forbidden", "another"), ("not_permitted", "")]
        {
            let row = row(outcome, policies);
            assert!(!row.is_as_expected(), "{row:?}");
            assert!(table::render(&[row]).contains("<- unexpected"));
        }
    }
}
