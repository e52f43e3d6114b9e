//! `/metrics` after traffic: a text that Prometheus takes, the metrics that the documentation promises, and numbers that agree
//! with what was done.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use http::StatusCode;

use crate::support::*;

const POLICIES: &str = r#"
@id("read")
permit (principal, action in Action::"read", resource);

@id("write")
permit (principal, action in Action::"write", resource);

@id("no-secrets")
forbid (principal, action, resource in HttpPath::"endpoint/secret");
"#;

#[tokio::test]
async fn numbers_agree_with_what_was_done() {
    let (world, upstream) = (World::new(), Recorder::answering(|seen| Reply::text(&"x".repeat(seen.body.len() + 10))));
    let service = world.sidecar("service").policies(POLICIES);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let to = service.inbound("endpoint").to_string();
    let app = app.outbound("endpoint", "http", &to, &world.id("service"), "");
    let app = app.outbound("nowhere", "http", "127.0.0.1:1", "any", "").start().await;
    let mut local = Client::plain(app.outbound("endpoint")).await;
    for _ in 0..3 {
        assert_eq!(local.send(request("GET", "service.example", "/a", &[], "")).await.status, StatusCode::OK);
    }
    for _ in 0..2 {
        let answer = local.send(request("POST", "service.example", "/a", &[], "12345")).await;
        assert_eq!(answer.text().len(), 15);
    }
    for (method, path) in [("GET", "/secret"), ("DELETE", "/a")] {
        assert_eq!(local.send(request(method, "service.example", path, &[], "")).await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(get(app.outbound("nowhere"), "/").await.status, StatusCode::BAD_GATEWAY);
    TlsClient::with(&Ca::new("pipeline.example").issue("/ns/test/sa/app"))
        .refused_by(service.inbound("endpoint"))
        .await;
    TlsClient::anonymous().refused_by(service.inbound("endpoint")).await;
    service.records.find("both refused handshakes", |record| record["reason"] == "no-certificate").await;

    for (sidecar, name, labels, expected) in [
        (&service, "portcullis_authz_decisions_total", &["action=\"http:GET\"", "outcome=\"allowed\""][..], 3.0),
        (&service, "portcullis_authz_decisions_total", &["action=\"http:POST\"", "outcome=\"allowed\""], 2.0),
        (&service, "portcullis_authz_decisions_total", &["action=\"http:GET\"", "outcome=\"forbidden\""], 1.0),
        (&service, "portcullis_authz_decisions_total", &["action=\"http:DELETE\"", "outcome=\"not_permitted\""], 1.0),
        (&service, "portcullis_authz_decisions_total", &["direction=\"inbound\"", "listener=\"endpoint\""], 7.0),
        (&service, "portcullis_authz_duration_seconds_count", &[], 7.0),
        (&service, "portcullis_authz_memory_total", &["result=\"miss\""], 4.0),
        (&service, "portcullis_authz_memory_total", &["result=\"hit\""], 3.0),
        (&service, "portcullis_requests_total", &["status=\"2xx\""], 5.0),
        (&service, "portcullis_requests_total", &["status=\"4xx\""], 2.0),
        (&service, "portcullis_request_duration_seconds_count", &[], 7.0),
        (&service, "portcullis_bytes_total", &["stage=\"in\""], 10.0),
        (&service, "portcullis_bytes_total", &["stage=\"out\""], 60.0),
        (&service, "portcullis_handshakes_total", &["result=\"done\"", "rule=\"none\""], 1.0),
        (&service, "portcullis_handshakes_total", &["result=\"refused\""], 2.0),
        (&service, "portcullis_handshakes_total", &["rule=\"no-certificate\""], 1.0),
        (&service, "portcullis_connections_total", &[], 3.0),
        (&service, "portcullis_connections", &["state=\"open\""], 1.0),
        (&service, "portcullis_connections", &["state=\"handshaking\""], 0.0),
        (&service, "portcullis_audit_records_total", &["result=\"written\""], 9.0),
        (&service, "portcullis_audit_accepts", &[], 1.0),
        (&service, "portcullis_policy_generation", &[], 1.0),
        (&service, "portcullis_svid_generation", &[], 1.0),
        (&app, "portcullis_authz_decisions_total", &["direction=\"outbound\"", "listener=\"endpoint\""], 7.0),
        (&app, "portcullis_handshakes_total", &["direction=\"outbound\"", "result=\"done\""], 1.0),
        (&app, "portcullis_upstream_failures_total", &["listener=\"nowhere\"", "stage=\"upstream-connect\""], 1.0),
        (&app, "portcullis_upstream_failures_total", &["listener=\"endpoint\""], 0.0),
        (&app, "portcullis_requests_total", &["status=\"5xx\""], 1.0),
    ] {
        assert_eq!(sidecar.metric(name, labels).await, expected, "{name} {labels:?}");
    }
    let left = service.metric("portcullis_svid_expiry_timestamp_seconds", &[]).await
        - service.metric("process_start_time_seconds", &[]).await;
    assert!((80_000.0..=86_400.0).contains(&left), "the SVID expires {left} s after the start");
    let rotated = service.metric("portcullis_svid_last_rotation_timestamp_seconds", &[]).await
        - service.metric("process_start_time_seconds", &[]).await;
    assert!((-1.0..=60.0).contains(&rotated), "the SVID came into force {rotated} s after the start");
    assert!(service.metric("process_resident_memory_bytes", &[]).await > 1e6);

    for sidecar in [&app, &service] {
        let text = sidecar.metrics().await;
        let parsed = parse(&text);
        documented_and_nothing_else(&parsed, &text);
        assert!(!text.contains("service.example") && !text.contains("/secret"), "a request got into a label:\n{text}");
    }
    app.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn labels_stay_few_whatever_peers_ask() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
    let ask = async |method: &str, path: &str| {
        let stream = peer.connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
        let head = format!("{method} {path} HTTP/1.1\r\nhost: h{path}.example\r\n\r\n").replace("h/", "h-");
        let mut raw = Raw::over(stream);
        raw.write(head).await;
        raw.answer().await
    };
    ask("GET", "/first").await;
    ask("MADEUP", "/first").await;
    let before = parse(&service.metrics().await).values().map(|family| family.series.len()).sum::<usize>();
    for number in 0..30 {
        ask("GET", &format!("/{number}")).await;
        ask(&format!("METHOD{number}"), &format!("/{number}")).await;
    }
    let after = parse(&service.metrics().await).values().map(|family| family.series.len()).sum::<usize>();
    assert_eq!(before, after);
    service.stop().await;
}

#[tokio::test]
async fn metrics_are_left_out_of_the_health_listener_where_the_file_says_so() {
    let world = World::new();
    let plan = world.sidecar("service").policies(ALLOW_ALL).doors("metrics: false", "");
    let service = plan.inbound("endpoint", "http", "http://127.0.0.1:9", "").start().await;
    assert_eq!(get(service.health(), "/metrics").await.status, StatusCode::NOT_FOUND);
    let metrics = get(service.admin(), "/metrics").await;
    assert_eq!(metrics.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    parse(&metrics.text());
    service.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------- helpers

/// What is known of a metric.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: bool,
    /// By name and labels.
    series: BTreeMap<String, f64>,
    labels: BTreeSet<String>,
}

/// The text format 0.0.4, taken strictly: what `promtool check metrics` would refuse fails the test.
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'), "the last line is not ended");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (keyword, name, rest) = (words.next(), words.next().expect("has a name"), words.next());
            let family = families.entry(name.to_owned()).or_default();
            match keyword {
                Some("HELP") => {
                    assert!(!family.help && rest.is_some_and(|help| help.ends_with('.')), "{line}");
                    family.help = true;
                }
                Some("TYPE") => {
                    assert!(family.kind.is_empty() && family.series.is_empty(), "TYPE twice or too late: {line}");
                    family.kind = rest.expect("has a type").to_owned();
                    current = name.to_owned();
                }
                _ => panic!("{line}"),
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("has a value");
        let value: f64 =
            if value == "+Inf" { f64::INFINITY } else { value.parse().unwrap_or_else(|_| panic!("{line}")) };
        let (name, labels) = series.split_once('{').map_or((series, ""), |(name, labels)| {
            (name, labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}")))
        });
        let family = families.get_mut(&current).expect("TYPE comes first");
        let suffix = name.strip_prefix(current.as_str()).unwrap_or_else(|| panic!("{line} below {current}"));
        let suffixes: &[&str] = if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        assert!(suffixes.contains(&suffix), "{line}");
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, value) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
            assert!(value.len() >= 2 && value.starts_with('"') && value.ends_with('"'), "{line}");
            family.labels.insert(label.to_owned());
        }
        assert!(family.series.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    for (name, family) in &families {
        assert!(family.help && !family.series.is_empty(), "{name}: {family:#?}");
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        if family.kind == "histogram" {
            histogram(name, family);
        }
    }
    families
}

/// Buckets grow, and the last one is everything.
fn histogram(name: &str, family: &Family) {
    family.series.keys().filter(|series| series.starts_with(&format!("{name}_count"))).for_each(|count| {
        let labels = count.strip_prefix(&format!("{name}_count")).unwrap_or_default().trim_matches(['{', '}']);
        let bucket = format!("{name}_bucket{{{labels}");
        let mut buckets: Vec<(f64, f64)> = family
            .series
            .iter()
            .filter(|(series, _)| series.starts_with(&bucket))
            .map(|(series, count)| {
                let edge = series.split("le=\"").nth(1).and_then(|edge| edge.split('"').next()).expect("has an edge");
                (if edge == "+Inf" { f64::INFINITY } else { edge.parse().expect("is a number") }, *count)
            })
            .collect();
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{name}: {buckets:?}");
        assert_eq!(buckets.last().copied(), Some((f64::INFINITY, family.series[count])), "{count}");
    });
}

/// Every metric of `docs/metrics.md` with its kind and labels, once something happened that it counts.
fn documented_and_nothing_else(families: &BTreeMap<String, Family>, text: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = std::fs::read_to_string(page).expect("is there");
    let mut documented = BTreeMap::new();
    for row in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next().unwrap_or_default().trim_end_matches('`').to_owned();
        let kind = cells.next().unwrap_or_default().to_owned();
        let labels: BTreeSet<String> =
            cells.next().unwrap_or_default().split(", ").map(|label| label.trim_matches('`').to_owned()).collect();
        if name.starts_with("portcullis_") || name.starts_with("process_") {
            documented.insert(name, (kind, labels));
        }
    }
    assert!(documented.len() > 25, "the table was not found");
    for (name, family) in families {
        let (kind, labels) = documented.get(name).unwrap_or_else(|| panic!("`{name}` is not documented"));
        assert_eq!(kind, &family.kind, "{name}");
        let real: BTreeSet<String> = family.labels.iter().filter(|label| *label != "le").cloned().collect();
        let documented: BTreeSet<String> = labels.iter().filter(|label| *label != "–").cloned().collect();
        assert_eq!(real, documented, "labels of `{name}`");
    }
    // Those that only exist once something happened, or with another configuration.
    let rare = [
        // Of a SPIFFE agent: tests/it/workload_api.rs.
        "portcullis_identity_source_up",
        "portcullis_identity_source_failures_total",
        "portcullis_connections_refused_total",
        "portcullis_upstream_failures_total",
        "portcullis_sql_statements_total",
        "portcullis_sql_statement_duration_seconds",
        "portcullis_crl_expiry_timestamp_seconds",
        "portcullis_federation_refresh_total",
        "portcullis_federation_last_refresh_timestamp_seconds",
        // Of `policy.url`: tests/it/policy_bundles.rs.
        "portcullis_policy_bundle_polls_total",
        "portcullis_policy_bundle_sequence",
        "portcullis_policy_bundle_fetched_timestamp_seconds",
        "portcullis_policy_bundle_expiry_timestamp_seconds",
        "portcullis_policy_bundle_last_success_timestamp_seconds",
        "portcullis_policy_bundle_cache_failures_total",
        // Of tokens: tests/it/tokens.rs.
        "portcullis_tokens_total",
    ];
    let missing: Vec<&String> =
        documented.keys().filter(|name| !families.contains_key(*name) && !rare.contains(&name.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?} are documented and not there:\n{text}");
}
