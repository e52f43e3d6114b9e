//! What policies do to real requests: nothing without them, nothing by an error, and with them exactly what they say about
//! what really came.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

async fn client(world: &World, name: &str, address: SocketAddr) -> Client {
    let svid = world.ca.issue(&format!("/ns/test/sa/{name}"));
    http1(TlsClient::with(&svid).connect(address).await.expect("the handshake succeeds")).await
}

#[tokio::test]
async fn without_any_policy_everything_is_denied() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").yaml("reload_interval: 100ms");
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let policy = service.status().await["policy"].clone();
    assert_eq!(policy["policies"], 0);
    assert!(policy["warnings"].to_string().contains("everything is denied"), "{policy:#}");

    let mut app = client(&world, "app", service.inbound("endpoint")).await;
    for method in ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"] {
        let answer = app.send(request(method, "service.example", "/", &[], "")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{method}");
        let record = service.records.of_decision(answer.decision()).await;
        assert_eq!((&record["outcome"], policies_of(&record).len()), (&"not_permitted".into(), 0), "{method}");
    }
    upstream.assert_untouched();

    // The allowed twin: the same request, once a policy permits it.
    fs::write(service.directory().join("policies/late.cedar"), ALLOW_ALL).expect("the folder is writable");
    let deadline = Instant::now() + DEADLINE;
    while !app.send(request("GET", "service.example", "/", &[], "")).await.status.is_success() {
        assert!(Instant::now() < deadline, "the policy does not come into force");
    }
    assert_eq!(policies_of(&service.records.with_outcome("allowed").await), ["allow-all"]);
    service.stop().await;
}

/// What is in the folder, and what has to be said about it.
const BROKEN: &[(&str, &str, &[&str])] = &[
    ("test.cedar", "permit (principal, action, resource", &["test.cedar:1:", "unexpected end of input"]),
    (
        "test.cedar",
        "@id(\"a\")\npermit (principal, action == Action::\"http:GTE\", resource);",
        &["test.cedar:2:", "http:GTE", "http:GET"],
    ),
    ("test.cedar", "@id(\"a\") permit (principal in Stagee::\"x\", action, resource);", &["Stagee", "Stage"]),
    ("test.cedar", "@id(\"a\") permit (principal, action, resource) when { context.hots == \"x\" };", &["hots"]),
    ("test.cedar", "@id(\"a\") permit (principal, action, resource in Bucket::\"lake\");", &["ENDPOINT/BUCKET"]),
    (
        "test.cedar",
        "@id(\"a\") permit (principal, action, resource in Bucket::\"endpoint/b\");",
        &["endpoint `endpoint` speaks http"],
    ),
    // A rule that silently does nothing is worse than a denial.
    (
        "test.cedar",
        "@id(\"a\") forbid (principal, action == Action::\"s3:GetObject\", resource is HttpPath);",
        &["can never match"],
    ),
    ("test.cedar", "@id(\"a\") forbid (principal, action, resource) when { false };", &["can never match"]),
    (
        "test.cedar",
        "@id(\"a\") permit (principal, action, resource); @id(\"a\") permit (principal, action, resource);",
        &["`a`"],
    ),
    ("test.cedar", "permit (principal, action, resource);", &["@id"]),
    ("test.cedar", "@id(\"a\") permit (principal == ?principal, action, resource);", &["template"]),
    (
        "test.cedar",
        "@id(\"a\") permit (principal, action, resource) when { context has headers && context.headers.hasTag(\"X-A\") };",
        &["X-A", "x-a"],
    ),
    ("entities.json", "[{", &["entities.json"]),
    (
        "entities.json",
        r#"[{"uid":{"type":"Workload","id":"spiffe://a.example/b"},"attrs":{"path":"/x"},"parents":[]}]"#,
        &["entities.json", "path"],
    ),
    (
        "entities.json",
        r#"[{"uid":{"type":"Workload","id":"a.example/b"},"attrs":{},"parents":[]}]"#,
        &["entities.json", "spiffe://"],
    ),
    ("more.cedarschema", "entity Workload;", &["more.cedarschema", "Workload"]),
    ("portcullis.cedarschema", "entity Workload;", &["portcullis.cedarschema", "built in"]),
];

#[tokio::test]
async fn policies_that_are_not_right_refuse_to_start_and_say_where() {
    let world = World::new();
    for (file, text, said) in BROKEN {
        let plan = world.sidecar("service").policies(ALLOW_ALL).policy_file(file, text);
        let output = plan.inbound("endpoint", "http", "http://127.0.0.1:1", "").run_to_end().await;
        assert_eq!(output.code(), 3, "{text}\n{}", output.stderr);
        // Lines of the frame may break a message.
        let stderr = output.stderr.replace("\n  │ ", " ");
        for part in *said {
            assert!(stderr.contains(part), "{text}\ndoes not say `{part}`:\n{}", output.stderr);
        }
        assert!(!stderr.contains("listening"), "{text}: it served before it looked");
        fs::remove_file(world.path().join("service/policies").join(file)).expect("is there");
    }
}

#[tokio::test]
async fn a_policy_folder_that_is_not_there_refuses_to_start() {
    let world = World::new();
    let plan = world
        .sidecar("service")
        .inbound("endpoint", "http", "http://127.0.0.1:1", "")
        .arguments(&["--log-format=text"]);
    let config = plan.config().replace("/policies", "/polices");
    drop(plan.check().await);
    let file = world.write("portcullis.yaml", &config);
    let mut command = portcullis();
    let output = Process::run("run", command.args(["run", "--config"]).arg(file), "").await;
    assert_eq!(output.code(), 3, "{}", output.stderr);
    assert!(
        output.stderr.contains("policy directory cannot be read") && output.stderr.contains("polices"),
        "{}",
        output.stderr
    );
}

#[tokio::test]
async fn a_folder_of_entities_is_watched_and_an_entity_in_two_files_leaves_the_last_good_in_force() {
    let (world, upstream) = (World::new(), Recorder::start());
    let member = |name: &str| {
        let uid = json!({"type": "Workload", "id": world.id(name)});
        json!([{"uid": uid, "parents": [{"type": "Stage", "id": "load"}]}]).to_string()
    };
    let policies = "@id(\"loads\")\npermit (principal in Stage::\"load\", action, resource);\n";
    let plan = world.sidecar("service").policies(policies).policy_file("entities/team-a.json", &member("other"));
    // Far beyond the test: only events tell.
    let service = plan.yaml("reload_interval: 1h").inbound("endpoint", "http", &upstream.url(), "").start().await;
    let mut app = client(&world, "app", service.inbound("endpoint")).await;
    assert_eq!(app.send(request("GET", "service.example", "/", &[], "")).await.status, StatusCode::FORBIDDEN);
    service.replace("policies/entities/team-b.json", &member("app"));
    let status = service.status_with("generation 2", |status| status["policy"]["generation"] == 2).await;
    assert_eq!(app.send(request("GET", "service.example", "/", &[], "")).await.status, StatusCode::OK);
    service.replace("policies/entities/team-c.json", &member("app"));
    let refused = service.status_with("a fault", |status| status["policy"]["last_error"].is_string()).await;
    let said = refused["policy"]["last_error"].as_str().unwrap_or_default();
    assert!(said.contains("entities/team-c.json:1:2: ") && said.contains("is there twice"), "{said}");
    let report = refused["policy"]["last_error_report"].as_str().unwrap_or_default().replace("\n  │ ", " ");
    assert!(report.contains("the first is at") && report.contains("entities/team-b.json:1"), "{report}");
    assert_eq!(refused["policy"]["digest"], status["policy"]["digest"]);
    assert_eq!(app.send(request("GET", "service.example", "/", &[], "")).await.status, StatusCode::OK);
    service.stop().await;
}

const ERRING: &str = r#"
@id("all")
permit (principal, action, resource);

@id("erring-forbid")
forbid (principal, action, resource in HttpPath::"endpoint/forbid")
when { context has host && context.host == "boom.example" && context.now.offset(duration("9223372036854775807ms")) < context.now };

@id("erring-permit")
permit (principal, action, resource in HttpPath::"endpoint/permit")
when { context has host && context.host == "boom.example" && context.now.offset(duration("9223372036854775807ms")) < context.now };
"#;

#[tokio::test]
async fn a_policy_that_cannot_be_evaluated_denies_though_another_permits() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ERRING);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let mut app = client(&world, "app", service.inbound("endpoint")).await;
    for (path, policy) in [("/forbid/x", "erring-forbid"), ("/permit/x", "erring-permit")] {
        let answer = app.send(request("GET", "boom.example", path, &[], "")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!answer.text().contains("erring"), "the peer learns about policies: {}", answer.text());
        let record = service.records.of_decision(answer.decision()).await;
        assert_eq!((&record["outcome"], policies_of(&record)), (&"error".into(), vec![policy]));
        assert!(record["error"].as_str().is_some_and(|error| error.contains("overflow")), "{record:#}");
    }
    upstream.assert_untouched();
    for (path, host) in [("/forbid/x", "calm.example"), ("/permit/x", "calm.example"), ("/other", "boom.example")] {
        let answer = app.send(request("GET", host, path, &[], "")).await;
        assert_eq!(answer.status, StatusCode::OK, "{host}{path}");
    }
    assert_eq!(service.metric("portcullis_authz_decisions_total", &["outcome=\"error\""]).await, 2.0);
    service.stop().await;
}

const GROUPS: &str = r#"
@id("everybody")
permit (principal in TrustDomain::"pipeline.example", action, resource in Endpoint::"endpoint");

@id("nobody-deletes")
forbid (principal, action in Action::"delete", resource in Endpoint::"endpoint");

@id("sensitive-is-for-loaders")
forbid (principal, action, resource in Group::"sensitive")
unless { principal in Stage::"load" };

@id("guests-only-read")
forbid (principal in Group::"guests", action in Action::"write", resource);

@id("nothing-for-the-suspended")
forbid (principal, action, resource)
when { principal.hasTag("state") && principal.getTag("state").contains("suspended") };
"#;

#[tokio::test]
async fn forbids_on_groups_of_actions_resources_and_principals_are_enforced() {
    let uid = |kind: &str, id: &str| json!({"type": kind, "id": id});
    let workload = |name: &str| format!("spiffe://pipeline.example/ns/test/sa/{name}");
    let entities = json!([
        {"uid": uid("Workload", &workload("loader")), "attrs": {}, "parents": [uid("Stage", "load")]},
        // A whole namespace.
        {"uid": uid("Workload", "spiffe://pipeline.example/ns/guests"), "attrs": {}, "parents": [uid("Group", "guests")]},
        {"uid": uid("Workload", &workload("suspended")), "attrs": {}, "parents": [], "tags": {"state": ["suspended", "old"]}},
        {"uid": uid("HttpPath", "endpoint/people"), "attrs": {}, "parents": [uid("Group", "personal")]},
        {"uid": uid("Group", "personal"), "attrs": {}, "parents": [uid("Group", "sensitive")]},
    ]);
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(GROUPS).entities(&entities);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let address = service.inbound("endpoint");

    let mut allowed = 0;
    for (path, method, target, forbidden_by) in [
        ("/ns/test/sa/app", "GET", "/orders", None),
        ("/ns/test/sa/app", "POST", "/orders", None),
        ("/ns/test/sa/app", "DELETE", "/orders", Some("nobody-deletes")),
        ("/ns/test/sa/app", "GET", "/people", Some("sensitive-is-for-loaders")),
        ("/ns/test/sa/app", "GET", "/people/17/address", Some("sensitive-is-for-loaders")),
        ("/ns/test/sa/app", "GET", "/%70eople/17", Some("sensitive-is-for-loaders")),
        ("/ns/test/sa/app", "GET", "/peoples", None),
        ("/ns/test/sa/loader", "GET", "/people/17", None),
        ("/ns/test/sa/loader", "DELETE", "/people/17", Some("nobody-deletes")),
        ("/ns/guests/sa/a", "GET", "/orders", None),
        ("/ns/guests/sa/a", "POST", "/orders", Some("guests-only-read")),
        ("/ns/guest/sa/a", "POST", "/orders", None),
        ("/ns/test/sa/suspended", "GET", "/orders", Some("nothing-for-the-suspended")),
    ] {
        let peer = TlsClient::with(&world.ca.issue(path)).connect(address).await.expect("the handshake succeeds");
        let answer = http1(peer).await.send(request(method, "service.example", target, &[], "")).await;
        let what = format!("{path} {method} {target}");
        match forbidden_by {
            None => {
                assert_eq!(answer.status, StatusCode::OK, "{what}");
                allowed += 1;
            }
            Some(policy) => {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}");
                let record = service.records.of_decision(answer.decision()).await;
                assert_eq!((&record["outcome"], policies_of(&record)), (&"forbidden".into(), vec![policy]), "{what}");
            }
        }
    }
    assert_eq!(upstream.seen().len(), allowed, "something denied reached the upstream");
    service.stop().await;
}

const FACTS: &str = r#"
@id("host")
permit (principal, action, resource == HttpPath::"endpoint/host") when { context has host && context.host == "api.example" };

@id("tenant")
permit (principal, action, resource == HttpPath::"endpoint/tenant")
when { context.headers.hasTag("x-tenant") && context.headers.getTag("x-tenant").contains("a") };

@id("no-admins")
forbid (principal, action, resource == HttpPath::"endpoint/tenant")
when { context.headers.hasTag("x-role") && context.headers.getTag("x-role").contains("admin") };

@id("near")
permit (principal, action, resource == HttpPath::"endpoint/near") when { context has sourceIp && context.sourceIp.isInRange(ip("127.0.0.0/8")) };

@id("far")
permit (principal, action, resource == HttpPath::"endpoint/far") when { context has sourceIp && context.sourceIp.isInRange(ip("10.0.0.0/8")) };

@id("this-century")
permit (principal, action, resource == HttpPath::"endpoint/now")
when { context.now > datetime("2020-01-01T00:00:00Z") && context.now < datetime("2100-01-01T00:00:00Z") };

@id("last-century")
permit (principal, action, resource == HttpPath::"endpoint/then") when { context.now < datetime("2000-01-01T00:00:00Z") };

@id("tls13")
permit (principal, action, resource == HttpPath::"endpoint/tls") when { context has tls && context.tls.version == "TLSv1.3" };

@id("fresh")
permit (principal, action, resource == HttpPath::"endpoint/fresh")
when { context has tls && context.tls.certificateExpiry < context.now.offset(duration("2h")) };

@id("inbound")
permit (principal, action, resource == HttpPath::"endpoint/in") when { context.direction == "inbound" };

@id("outbound")
permit (principal, action, resource == HttpPath::"endpoint/out") when { context.direction == "outbound" && !(context has tls) };

@id("own-account")
permit (principal, action, resource == HttpPath::"endpoint/account")
when { principal has serviceAccount && principal.serviceAccount == "app" && principal has namespace && principal.namespace == "test"
       && principal.trustDomain == "pipeline.example" && principal.path == "/ns/test/sa/app" };
"#;

#[tokio::test]
async fn policies_see_of_a_request_exactly_what_came() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(FACTS);
    let service = service.inbound("endpoint", "http", &upstream.url(), "tls:\n  min_version: \"1.2\"").start().await;
    let address = service.inbound("endpoint");
    let mut app = client(&world, "app", address).await;
    let api = "api.example";
    let none: &[(&str, &str)] = &[];
    for (host, path, headers, allowed) in [
        (api, "/host", none, true),
        ("API.Example:8443", "/host", none, true),
        ("api.example.", "/host", none, true),
        ("api.example.evil", "/host", none, false),
        ("evil.example", "/host", &[("x-forwarded-host", "api.example"), ("forwarded", "host=api.example")], false),
        (api, "/tenant", &[("x-tenant", "a")], true),
        (api, "/tenant", &[("X-Tenant", "b"), ("x-TENANT", "a")], true),
        (api, "/tenant", &[("x-tenant", "a"), ("x-tenant", "a")], true),
        (api, "/tenant", &[("x-tenant", "b")], false),
        (api, "/tenant", &[("x-tenant", "b,a")], false),
        (api, "/tenant", &[("x-tenant", "b, a")], false),
        (api, "/tenant", &[("x-tenant", "A")], false),
        (api, "/tenant", none, false),
        // CVE-2026-26308, CVE-2021-32777: each value is judged, never the joined one or the last.
        (api, "/tenant", &[("x-tenant", "a"), ("x-role", "user"), ("x-role", "admin")], false),
        (api, "/tenant", &[("x-tenant", "a"), ("x-role", "admin"), ("x-role", "user")], false),
        (api, "/tenant", &[("x-tenant", "a"), ("x-role", "user")], true),
        (api, "/near", none, true),
        (api, "/far", none, false),
        (api, "/far", &[("x-forwarded-for", "10.1.1.1"), ("x-real-ip", "10.1.1.1")], false),
        (api, "/now", none, true),
        (api, "/then", &[("date", "Fri, 01 Jan 1999 00:00:00 GMT")], false),
        (api, "/tls", none, true),
        (api, "/in", none, true),
        (api, "/out", none, false),
        (api, "/account", none, true),
        (api, "/fresh", none, false),
    ] {
        let answer = app.send(request("GET", host, path, headers, "")).await;
        assert_eq!(answer.status == StatusCode::OK, allowed, "{host}{path} {headers:?}: {answer:?}");
    }
    let seen = service
        .records
        .find("two tenants", |record| record["context"]["headers"]["x-tenant"] == json!(["b", "a"]))
        .await;
    let context = &seen["context"];
    assert_eq!((&context["host"], &context["sourceIp"]), (&"api.example".into(), &"127.0.0.1".into()));
    assert_eq!((&context["direction"], &context["tls"]["version"]), (&"inbound".into(), &"TLSv1.3".into()));
    // Those that policies read, and no others: one of them was not there.
    assert_eq!(context["headers"], json!({"x-tenant": ["b", "a"], "x-role": null}), "{context:#}");

    // The other sides of what the connection itself says.
    let old = TlsClient::with(&world.ca.issue("/ns/test/sa/app")).versions(&[&rustls::version::TLS12]);
    let mut old = http1(old.connect(address).await.expect("TLS 1.2 is taken")).await;
    let brief = world.ca.issue_with("/ns/test/sa/app", |params| {
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
    });
    let mut brief = http1(TlsClient::with(&brief).connect(address).await.expect("the handshake succeeds")).await;
    let mut other = client(&world, "other", address).await;
    for (peer, path, allowed) in
        [(&mut old, "/tls", false), (&mut brief, "/fresh", true), (&mut other, "/account", false)]
    {
        let answer = peer.send(request("GET", api, path, &[], "")).await;
        assert_eq!(answer.status == StatusCode::OK, allowed, "{path}: {answer:?}");
    }

    let to = address.to_string();
    let egress = world.sidecar("app").policies(FACTS);
    let egress = egress.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let mut local = Client::plain(egress.outbound("endpoint")).await;
    for (path, outcome) in
        [("/out", "allowed"), ("/in", "not_permitted"), ("/tls", "not_permitted"), ("/account", "allowed")]
    {
        let answer = local.send(request("GET", api, path, &[], "")).await;
        let record =
            egress.records.find(path, |record| record["resource"] == format!("HttpPath::\"endpoint{path}\"")).await;
        assert_eq!(record["outcome"], outcome, "{path}: {answer:?}");
    }
    egress.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn the_policies_that_ship_are_good_in_a_real_sidecar() {
    let world = World::new();
    let folders: Vec<_> = walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"));
    assert!(!folders.is_empty(), "there are no use cases");
    for folder in folders {
        let mut plan = world.sidecar(&folder.file_name().unwrap_or_default().to_string_lossy());
        for entry in fs::read_dir(&folder).expect("is a folder").map(|entry| entry.expect("can be read")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".cedar") || name.ends_with(".cedarschema") || name == "entities.json" {
                plan = plan.policy_file(&name, &fs::read_to_string(entry.path()).expect("is text"));
            }
        }
        let sidecar = plan.inbound("unrelated", "http", "http://127.0.0.1:1", "").start().await;
        let policy = sidecar.status().await["policy"].clone();
        assert!(policy["policies"].as_u64().is_some_and(|count| count > 0), "{}: {policy:#}", folder.display());
        sidecar.stop().await;
    }
}

/// The folders of `root` that hold policies.
fn walk(root: &Path) -> Vec<std::path::PathBuf> {
    let entries: Vec<_> =
        fs::read_dir(root).expect("is a folder").map(|entry| entry.expect("can be read").path()).collect();
    let mut found: Vec<_> = entries.iter().filter(|path| path.is_dir()).flat_map(|path| walk(path)).collect();
    if entries.iter().any(|path| path.extension().is_some_and(|extension| extension == "cedar")) {
        found.push(root.to_owned());
    }
    found
}

// -------------------------------------------------------------------------------------------------------------------- life

#[tokio::test]
async fn without_file_descriptors_it_neither_ends_nor_stays_deaf() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let mut service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let address = service.inbound("endpoint");
    let mut known = client(&world, "known", address).await;
    assert_eq!(known.send(request("GET", "service.example", "/", &[], "")).await.status, StatusCode::OK);
    let open = service.metric("process_open_fds", &[]).await;
    let limit = format!("--nofile={}", open + 20.0);
    let limited = Process::run(
        "prlimit",
        std::process::Command::new("prlimit").args(["--pid", &service.process.pid().to_string(), &limit]),
        "",
    )
    .await;
    assert_eq!(limited.code(), 0, "{limited:?}");

    let mut crowd = Vec::new();
    for _ in 0..60 {
        crowd.push(tokio::net::TcpStream::connect(address).await.expect("the backlog takes it"));
    }
    service.logged("cannot accept a connection").await;
    // Whoever is in goes on being served.
    assert_eq!(known.send(request("GET", "service.example", "/", &[], "")).await.status, StatusCode::OK);
    assert!(service.process.is_running());

    drop(crowd);
    let left = Instant::now();
    let mut newcomer = client(&world, "newcomer", address).await;
    assert_eq!(newcomer.send(request("GET", "service.example", "/", &[], "")).await.status, StatusCode::OK);
    // The target is 1 s; the machine of a test may be busy.
    assert!(left.elapsed() < Duration::from_secs(3), "deaf for {:?}", left.elapsed());
    assert!(service.metric("portcullis_connections_refused_total", &["reason=\"accept\""]).await >= 1.0);
    let records: Vec<Value> = service.records.requests(3).await;
    assert!(records.iter().all(|record| record["outcome"] == "allowed"), "{records:#?}");
    service.stop().await;
}

#[tokio::test]
async fn sigterm_under_load_fails_no_request_that_was_taken_on() {
    let world = World::new();
    let upstream = Recorder::answering(|_| {
        std::thread::sleep(Duration::from_millis(20));
        Reply::text("ok")
    });
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let (address, records) = (service.inbound("endpoint"), service.records.clone());
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut client = client(&world, &format!("app-{number}"), address).await;
        clients.push(tokio::spawn(async move {
            let mut answered = 0;
            loop {
                match client.try_send(request("GET", "service.example", "/", &[], "")).await {
                    Ok(answer) => assert_eq!(answer.status, StatusCode::OK, "{answer:?}"),
                    // The connection was closed in order before the request was written, or read: it was not taken on. That of one
                    // that was taken on there is a record.
                    Err(error) if error.is_canceled() || error.is_closed() || error.is_incomplete_message() => {
                        return answered;
                    }
                    Err(error) => panic!("a request that was under way failed: {error:?}"),
                }
                answered += 1;
            }
        }));
    }
    upstream.complete(20).await;
    service.stop().await;
    let mut answered = 0;
    for client in clients {
        answered += within("the end of a client", client).await.expect("no request failed");
    }
    assert!(answered >= 20, "{answered} were answered");
    let recorded = records.requests(answered).await;
    assert_eq!(recorded.len(), answered);
    assert_eq!(upstream.seen().len(), answered, "what reached the upstream was answered");
    assert!(recorded.iter().all(|record| record["status"] == 200 && record["error"].is_null()), "{recorded:#?}");
}
