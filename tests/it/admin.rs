//! Health, admin and the admin socket of a real sidecar: who reaches what, and how a drain looks from there.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::{Mutex, mpsc};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::net::UnixStream;

use crate::support::*;

async fn service(world: &World, upstream: &Recorder) -> Sidecar {
    let plan = world.sidecar("service").policies(ALLOW_ALL).doors("", "socket: admin.sock");
    plan.inbound("endpoint", "http", &upstream.url(), "").start().await
}

async fn ask(socket: &Path, request: Request<Bytes>) -> Answer {
    http1(UnixStream::connect(socket).await.expect("somebody listens")).await.send(request).await
}

#[tokio::test]
async fn each_door_opens_what_is_meant_for_it_and_nothing_else() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = service(&world, &upstream).await;
    let socket = service.directory().join("admin.sock");
    for (method, path, health, admin, by_socket) in [
        ("GET", "/live", 200, 200, 200),
        ("GET", "/ready", 200, 200, 200),
        ("GET", "/startup", 200, 200, 200),
        ("GET", "/metrics", 200, 200, 200),
        ("GET", "/status", 404, 200, 200),
        ("GET", "/log", 404, 404, 200),
        ("GET", "/shutdown", 404, 405, 405),
        ("GET", "/quitquitquit", 404, 405, 405),
        ("POST", "/live", 405, 405, 405),
        ("POST", "/status", 404, 405, 405),
        ("PUT", "/log?filter=debug", 404, 404, 200),
        ("PUT", "/log?filter=%3D%3D", 404, 404, 400),
        ("GET", "/", 404, 404, 404),
        ("GET", "/debug/pprof", 404, 404, 404),
        ("GET", "/live/../status", 404, 404, 404),
    ] {
        let asked = || request(method, "127.0.0.1", path, &[], "");
        let answers = (
            Client::plain(service.health()).await.send(asked()).await.status.as_u16(),
            Client::plain(service.admin()).await.send(asked()).await.status.as_u16(),
            ask(&socket, asked()).await.status.as_u16(),
        );
        assert_eq!(answers, (health, admin, by_socket), "{method} {path}");
    }
    // The log level that was set is in force.
    assert!(ask(&socket, request("GET", "localhost", "/log", &[], "")).await.text().contains("debug"));
    service.stop().await;
    assert!(!socket.exists(), "the socket stays behind");
}

#[tokio::test]
async fn web_pages_get_nothing_from_the_admin_listener() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = service(&world, &upstream).await;
    let port = service.admin().port();
    for (host, headers, status) in [
        (format!("127.0.0.1:{port}"), &[][..], 200),
        (format!("localhost:{port}"), &[], 200),
        ("[::1]".to_owned(), &[], 200),
        // DNS rebinding: the page's own name, made to resolve to loopback.
        (format!("evil.example:{port}"), &[], 403),
        ("localhost.evil.example".to_owned(), &[], 403),
        ("10.0.0.7".to_owned(), &[], 403),
        (format!("127.0.0.1:{port}"), &[("origin", "http://evil.example")], 403),
        (format!("127.0.0.1:{port}"), &[("origin", "null")], 403),
        (format!("localhost:{port}"), &[("origin", "http://localhost:3000")], 403),
    ] {
        for (method, path) in [("GET", "/status"), ("GET", "/metrics"), ("POST", "/shutdown")] {
            if (method, status) == ("POST", 200) {
                continue;
            }
            let mut client = Client::plain(service.admin()).await;
            let answer = client.send(request(method, &host, path, headers, "")).await;
            assert_eq!(answer.status.as_u16(), status, "{method} {path} of {host} with {headers:?}");
            assert_eq!(answer.header("access-control-allow-origin"), "");
        }
    }
    let mut raw = Raw::connect(service.admin()).await;
    raw.write("POST /shutdown HTTP/1.0\r\n\r\n").await;
    assert_eq!(raw.answer().await.map(|answer| answer.status()), Some(403), "without a Host");
    assert_eq!(service.status().await["draining"], false);
    service.stop().await;
}

#[tokio::test]
async fn the_admin_socket_is_for_its_owner_alone_and_survives_a_crash() {
    let (world, upstream) = (World::new(), Recorder::start());
    let first = service(&world, &upstream).await;
    let socket = first.directory().join("admin.sock");
    let metadata = std::fs::symlink_metadata(&socket).expect("was made");
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);

    // Somebody else's: a second sidecar does not take it away.
    let config = world.path().join("service/portcullis.yaml");
    let mut command = portcullis();
    let second = Process::run("second", command.args(["run", "--config"]).arg(&config), "").await;
    assert_eq!(second.code(), 1);
    assert!(second.stderr.contains("another process listens on it"), "{}", second.stderr);
    assert_eq!(ask(&socket, request("GET", "localhost", "/live", &[], "")).await.status, StatusCode::OK);

    first.kill().await;
    assert!(socket.exists(), "nobody could remove it");
    let third = service(&world, &upstream).await;
    assert_eq!(ask(&socket, request("GET", "localhost", "/ready", &[], "")).await.status, StatusCode::OK);
    third.stop().await;

    std::fs::write(&socket, "precious").expect("is writable");
    let mut command = portcullis();
    let refused = Process::run("refused", command.args(["run", "--config"]).arg(&config), "").await;
    assert_eq!(refused.code(), 1);
    assert!(refused.stderr.contains("a file that is not a socket"), "{}", refused.stderr);
    assert_eq!(std::fs::read_to_string(&socket).expect("is there"), "precious");
}

#[tokio::test]
async fn the_ready_command_ends_as_exec_probes_need_it() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = service(&world, &upstream).await;
    let socket = service.directory().join("admin.sock").display().to_string();
    let config = world.path().join("service/portcullis.yaml").display().to_string();
    let (health, admin) = (service.health().to_string(), service.admin().to_string());
    let ready = async |arguments: &[&str]| {
        let mut command = portcullis();
        Process::run("ready", command.arg("ready").args(arguments), "").await
    };
    for arguments in
        [&["--config", &config][..], &["--socket", &socket], &["--address", &health], &["--address", &admin]]
    {
        let output = ready(arguments).await;
        assert_eq!((output.code(), output.stdout.as_str()), (0, "ready"), "{arguments:?}: {}", output.stderr);
    }
    let other = upstream.address.to_string();
    for (arguments, said) in [
        (&["--address", "127.0.0.1:1"][..], "does not answer"),
        (&["--socket", "/nonexistent.sock"], "does not answer"),
        (&["--address", &other], "not"),
        (&["--config", "/nonexistent.yaml"], "cannot read the configuration"),
    ] {
        let output = ready(arguments).await;
        if arguments[1] == other {
            // Another program that answers 200 to everything cannot be told from a sidecar.
            continue;
        }
        assert_eq!(output.code(), 1, "{arguments:?}");
        assert!(output.stderr.contains(said), "{arguments:?}: {}", output.stderr);
    }

    // Not ready: the reason is told to who may know it.
    service.replace("svid.pem", "");
    let stalled = Recorder::behaving(Behaviour::Stall, None);
    let brief = world.ca.issue_with("/ns/test/sa/brief", |params| {
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::seconds(2);
    });
    let expiring = world.sidecar("brief").svid(brief).policies(ALLOW_ALL);
    let expiring = expiring.inbound("endpoint", "http", &stalled.url(), "").start().await;
    let (health, admin) = (expiring.health().to_string(), expiring.admin().to_string());
    let deadline = std::time::Instant::now() + DEADLINE;
    while ready(&["--address", &health]).await.code() == 0 {
        assert!(std::time::Instant::now() < deadline, "ready for ever");
    }
    let outside = ready(&["--address", &health]).await;
    let inside = ready(&["--address", &admin]).await;
    assert!(outside.stderr.contains("identity") && !outside.stderr.contains("SVID"), "{}", outside.stderr);
    assert!(inside.stderr.contains("our own SVID has expired"), "{}", inside.stderr);
    expiring.stop().await;
    service.stop().await;
}

#[tokio::test]
async fn shutdown_by_either_name_finishes_what_is_open_and_exits_0() {
    for path in ["/shutdown", "/quitquitquit"] {
        let world = World::new();
        // Answers when the test has seen what it wants to see meanwhile.
        let (go, answers) = mpsc::channel();
        let answers = Mutex::new(answers);
        let upstream = Recorder::answering(move |_| {
            answers.lock().expect("no test panicked").recv().expect("the test says when");
            Reply::text("slow")
        });
        let service = world.sidecar("service").policies(ALLOW_ALL);
        let mut service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
        let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
        let stream = peer.connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
        let mut client = http1(stream).await;
        let slow = tokio::spawn(async move { client.send(request("GET", "service.example", "/", &[], "")).await });
        upstream.when("the request", |seen| !seen.is_empty()).await;

        let mut admin = Client::plain(service.admin()).await;
        let asked = admin.send(request("POST", "localhost", path, &[], "")).await;
        assert_eq!((asked.status, asked.text().as_str()), (StatusCode::OK, "draining\n"));
        let ready = get(service.health(), "/ready").await;
        assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(ready.text().contains("draining"), "{ready:?}");
        assert_eq!(get(service.health(), "/live").await.status, StatusCode::OK);
        assert_eq!(service.status().await["draining"], true);
        go.send(()).expect("it waits");
        let answer = within("the open request", slow).await.expect("does not fail");
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "slow"));
        assert_eq!(service.process.exited().await.code(), Some(0));
        assert_eq!(service.records.with_outcome("allowed").await["status"], 200);
    }
}

#[tokio::test]
async fn status_tells_identity_policy_and_listeners_as_the_documentation_says() {
    let (world, upstream) = (World::new(), Recorder::start());
    let policies =
        format!("{ALLOW_ALL}\n@id(\"elsewhere\") permit (principal, action, resource in Endpoint::\"warehouse\");\n");
    let svid = world.ca.issue("/ns/test/sa/service");
    let service = world.sidecar("service").svid(svid.clone()).policies(&policies);
    let service = service.inbound("endpoint", "http", &upstream.url(), "");
    let service = service.outbound("out", "s3", "127.0.0.1:9", &world.id("lake"), "").start().await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
    let held = peer.connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
    let mut client = http1(held).await;
    client.send(request("GET", "service.example", "/", &[], "")).await;

    let status = service.status().await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["ready"], &status["not_ready"]), (&true.into(), &json!([])));
    let identity = &status["identity"];
    assert_eq!(identity["spiffe_id"], svid.id);
    assert_eq!((&identity["sha256"], &identity["generation"]), (&svid.sha256().into(), &1.into()));
    assert_eq!(identity["trust_domains"], json!(["pipeline.example"]));
    assert!(identity["not_after"].as_str() > identity["not_before"].as_str(), "{identity:#}");
    let policy = &status["policy"];
    assert_eq!((&policy["policies"], &policy["inactive"]), (&2.into(), &json!(["elsewhere"])));
    assert!(policy["warnings"].to_string().contains("warehouse"), "{policy:#}");
    assert_eq!(policy["digest"], service.records.with_outcome("allowed").await["policy_digest"]);
    let listeners: Vec<&Value> = status["listeners"].as_array().into_iter().flatten().collect();
    let inbound = listeners.iter().find(|listener| listener["direction"] == "inbound").expect("is there");
    assert_eq!(inbound["address"], service.inbound("endpoint").to_string());
    assert_eq!((&inbound["connections"], &inbound["protocol"]), (&1.into(), &"http".into()));
    let outbound = listeners.iter().find(|listener| listener["direction"] == "outbound").expect("is there");
    assert_eq!((&outbound["name"], &outbound["connections"]), (&"out".into(), &0.into()));
    assert!(status["audit"]["sink"].as_str().is_some_and(|sink| sink.ends_with("audit.jsonl")), "{status:#}");
    assert_eq!(status["admin"]["listen"], service.admin().to_string());

    let documented =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/admin.md")).expect("is there");
    let example = documented.split("## /status").nth(1).and_then(|text| text.split("```json").nth(1));
    let example = example.and_then(|text| text.split("```").next()).expect("there is an example");
    let example: Value = serde_json::from_str(example).expect("the example is JSON");
    assert_eq!(keys(&status), keys(&example), "the documentation shows other keys");
    service.stop().await;
}

/// The names of all members, with those of the objects in it.
fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let each = members.iter();
            let mut all: Vec<String> = each
                .flat_map(|(key, value)| {
                    let below = keys(value).into_iter().map(|below| format!("{key}.{below}")).collect::<Vec<_>>();
                    std::iter::once(key.clone()).chain(below).collect::<Vec<_>>()
                })
                .collect();
            all.sort();
            all
        }
        Value::Array(values) => values.first().map(keys).unwrap_or_default(),
        _ => Vec::new(),
    }
}
