//! What a sidecar of all protocols has recorded, asked again: the same policies decide the same, others exactly what they change.

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;
use crate::tcp::Server;

const POLICIES: &str = r#"
@id("reads") permit (principal in Stage::"web", action in Action::"read", resource in HttpPath::"api/orders");
@id("tenant") permit (principal, action == Action::"http:POST", resource in Endpoint::"api")
when { context.headers.hasTag("x-tenant") && context.headers.getTag("x-tenant").contains("a") };
@id("landing") permit (principal, action in [Action::"read", Action::"write"], resource in Group::"landing")
when { resource.hasTag("class") && resource.getTag("class").contains("open") };
@id("lists") permit (principal, action in Action::"list", resource in Bucket::"lake/raw") when { context has prefix };
@id("queue") permit (principal, action == Action::"tcp:Connect", resource == Endpoint::"queue");
@id("sessions") permit (principal, action in [Action::"sql:Connect", Action::"sql:Introspect"], resource);
@id("people") permit (principal, action == Action::"sql:Select", resource == Table::"wh/analytics.public.people")
unless { context.columns.contains("ssn") };
@id("events") permit (principal, action == Action::"sql:Select", resource in Table::"wh/analytics.public.events");
"#;

/// How many decisions [`traffic`] leads to.
const DECISIONS: usize = 15;

async fn policy(arguments: &[&str]) -> Output {
    let mut command = portcullis();
    command.arg("policy").args(arguments);
    Process::run(&arguments.join(" "), &mut command, "").await
}

fn entities(world: &World, bucket: &Value) -> Value {
    json!([
        {"uid": {"type": "Workload", "id": world.id("app")}, "parents": [{"type": "Stage", "id": "web"}], "tags": {"team": ["shop"]}},
        bucket,
    ])
}

async fn traffic(world: &World, service: &Sidecar) {
    let svid = world.ca.issue("/ns/test/sa/app");
    let client = TlsClient::with(&svid);
    let connect = |name: &'static str| {
        let (client, address) = (client.clone(), service.inbound(name));
        async move { client.connect(address).await.expect("the handshake succeeds") }
    };
    let mut api = http1(connect("api").await).await;
    for (method, path, headers, status) in [
        ("GET", "/orders/1", &[][..], StatusCode::OK),
        ("GET", "/reports/1", &[], StatusCode::FORBIDDEN),
        ("POST", "/orders/1", &[("x-tenant", "a")], StatusCode::OK),
        ("POST", "/orders/1", &[], StatusCode::FORBIDDEN),
    ] {
        let answer = api.send(request(method, "service.example", path, headers, "")).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let mut lake = http1(connect("lake").await).await;
    for (method, target, headers, status) in [
        ("GET", "/raw/in/a", &[][..], StatusCode::OK),
        ("PUT", "/raw/in/b", &[("x-amz-server-side-encryption", "AES256")], StatusCode::OK),
        ("GET", "/curated/a", &[], StatusCode::FORBIDDEN),
        ("GET", "/raw?list-type=2&prefix=in/", &[], StatusCode::OK),
        ("PUT", "/raw/c", &[("x-amz-copy-source", "/curated/a")], StatusCode::FORBIDDEN),
    ] {
        let answer = lake.send(request(method, "localhost", target, headers, "")).await;
        assert_eq!(answer.status, status, "{method} {target}: {}", answer.text());
    }
    let mut queue = connect("queue").await;
    queue.write_all(b"ping").await.expect("it takes bytes");
    let mut echoed = [0; 4];
    within("the echo", queue.read_exact(&mut echoed)).await.expect("it answers");
    drop(queue);
    let outbound = world.outbound_to(service, "app", "").await;
    let statements = [
        "SELECT name FROM people",
        "SELECT ssn FROM people",
        "SELECT count(*) FROM events_2026 WHERE what = 'x'",
        "DELETE FROM people",
    ];
    let arguments: Vec<&str> = statements.iter().flat_map(|statement| ["-c", statement]).collect();
    let output = psql(outbound.outbound(WAREHOUSE), "admin_role", &arguments, "").await;
    assert_eq!(output.stderr.matches("42501").count(), 2, "{output:#?}");
    outbound.stop().await;
}

fn flips(json: &Value) -> Vec<String> {
    let flips = json["flips"].as_array().expect("a list").iter().map(|flip| {
        let text = |name: &str| flip[name].as_str().unwrap_or_default();
        format!("{} {} {} {}", text("action"), text("resource"), text("outcome"), text("would_be"))
    });
    let mut flips: Vec<String> = flips.collect();
    flips.sort();
    flips
}

#[tokio::test]
async fn a_replay_under_the_same_policies_changes_nothing_and_under_others_exactly_what_they_change() {
    let (world, upstream, echo) = (World::new(), Recorder::start(), Server::echo().await);
    let server = PgPlan::new().start().await;
    let bucket = json!({"uid": {"type": "Bucket", "id": "lake/raw"}, "parents": [{"type": "Group", "id": "landing"}], "tags": {"class": ["open"]}});
    let service = world.sidecar("service").policies(POLICIES).entities(&entities(&world, &bucket));
    let service = service.inbound("api", "http", &upstream.url(), "").inbound("lake", "s3", &upstream.url(), "");
    let service =
        service.inbound("queue", "tcp", &echo.address, "").inbound(WAREHOUSE, "postgres", &server.url(), AS_ADMIN);
    let service = service.start().await;
    traffic(&world, &service).await;
    let recorded = service.records.requests(DECISIONS).await;
    let of = |action: &str| recorded.iter().find(|record| record["action"] == action).expect("it was asked");
    assert_eq!(of("s3:GetObject")["resource_in"], json!(["Group::\"landing\""]));
    assert_eq!(of("s3:GetObject")["resource_tags"], json!({"class": ["open"]}));
    assert_eq!(of("http:GET")["context"]["headers"], json!({"x-tenant": null}));
    assert_eq!(of("http:GET")["resource_in"], Value::Null);
    let log = service.directory().join("audit.jsonl").display().to_string();
    let present = service.directory().join("policies").display().to_string();

    let same = policy(&["replay", "--policies", &present, &log, "--output", "json"]).await;
    assert_eq!(same.code(), 0, "{same:#?}");
    let json: Value = same.json();
    assert_eq!((&json["flips"], &json["inexact"]), (&json!([]), &json!([])), "{json:#}");
    assert_eq!(
        (&json["decided"], &json["unasked"], &json["skipped"]),
        (&json!(DECISIONS), &json!(0), &json!(0)),
        "{json:#}"
    );

    let other = world.folder("other");
    let mut changed = POLICIES.replace("\nunless { context.columns.contains(\"ssn\") }", "");
    for (from, to) in [
        ("contains(\"a\")", "contains(\"b\")"),
        ("public.events", "public.nothing"),
        ("permit (principal, action == Action::\"tcp", "forbid (principal, action == Action::\"tcp"),
        ("has prefix", "has delimiter"),
    ] {
        assert!(changed.contains(from), "{from}");
        changed = changed.replace(from, to);
    }
    std::fs::write(other.join("p.cedar"), changed).expect("the folder is writable");
    std::fs::write(other.join("entities.json"), entities(&world, &bucket).to_string()).expect("the folder is writable");
    let changed = policy(&["replay", "--policies", &other.display().to_string(), &log, "--output", "json"]).await;
    assert_eq!(changed.code(), 2, "{changed:#?}");
    let json: Value = changed.json();
    let expected = [
        "http:POST HttpPath::\"api/orders\" allowed not_permitted",
        "s3:ListBucket Prefix::\"lake/raw/in\" allowed not_permitted",
        "sql:Select Table::\"wh/analytics.public.events_2026\" allowed not_permitted",
        "sql:Select Table::\"wh/analytics.public.people\" not_permitted allowed",
        "tcp:Connect Endpoint::\"queue\" allowed forbidden",
    ];
    assert_eq!(flips(&json), expected, "{json:#}");
    assert_eq!(json["inexact"], json!([]), "{json:#}");

    // The same policies with a bucket that has left its group: what it was in is told, and what hangs on it flips.
    let moved = world.folder("moved");
    std::fs::write(moved.join("p.cedar"), POLICIES).expect("the folder is writable");
    let bucket = json!({"uid": {"type": "Bucket", "id": "lake/raw"}, "tags": {"class": ["open"]}});
    std::fs::write(moved.join("entities.json"), entities(&world, &bucket).to_string()).expect("the folder is writable");
    let moved = policy(&["replay", "--policies", &moved.display().to_string(), &log, "--output", "json"]).await;
    let json: Value = moved.json();
    let expected = [
        "s3:GetObject Prefix::\"lake/raw/in\" allowed not_permitted",
        "s3:PutObject Bucket::\"lake/raw\" allowed not_permitted",
        "s3:PutObject Prefix::\"lake/raw/in\" allowed not_permitted",
    ];
    assert_eq!(flips(&json), expected, "{json:#}");
    let reason = "entities.json says something else of the resource than it did then";
    // GET, PUT, the listing, and the copy.
    assert_eq!(json["inexact"], json!([{"reason": reason, "count": 4}]), "{json:#}");

    let suggested = policy(&["suggest", "--policies", &present, &log]).await;
    assert_eq!(suggested.code(), 0, "{suggested:#?}");
    assert!(suggested.stderr.contains("replayed on them, they allow all of them"), "{}", suggested.stderr);
    service.stop().await;
    server.sessions_end().await;
}
