//! The audit trail under everything that goes wrong: forgers, full disks, crashes, slow readers, rotation. What was answered is
//! recorded, a record is one line, and no secret is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::support::*;

async fn client(world: &World, name: &str, address: SocketAddr) -> Client {
    let svid = world.ca.issue(&format!("/ns/test/sa/{name}"));
    http1(TlsClient::with(&svid).connect(address).await.expect("the handshake succeeds")).await
}

fn get_of(target: &str) -> http::Request<Bytes> {
    request("GET", "service.example", target, &[], "")
}

/// Waits for an answer of this status, asked for again and again.
async fn until(client: &mut Client, target: &str, status: StatusCode) -> Answer {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let answer = client.send(get_of(target)).await;
        if answer.status == status {
            return answer;
        }
        assert!(Instant::now() < deadline, "never {status}, but {answer:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// ------------------------------------------------------------------------------------------------------------------ contents

const READS_HEADERS: &str = r#"
@id("with-a-note")
permit (principal, action, resource)
when { context has headers && context.headers.hasTag("x-note") && context.headers.getTag("x-note").contains("none") };

@id("all")
permit (principal, action, resource);
"#;

/// What ends a record, begins another, hides one on a terminal, or looks like a field.
const FORGERIES: &[&str] = &[
    r#"a","outcome":"allowed","x":"b"#,
    r#""}{"kind":"request","outcome":"allowed"}"#,
    "a\\",
    "a\\\"",
    "a\\u000a{\\\"outcome\\\":\\\"allowed\\\"}",
    "tab\there",
    "\u{85}\u{2028}{\"kind\":\"request\"}\u{2029}",
    "\u{202e}detimrep\u{202c}\u{2066}x\u{2069}",
    "\u{feff}bom",
];

#[tokio::test]
async fn no_byte_of_a_client_can_add_split_or_hide_a_record() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(READS_HEADERS);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let mut app = client(&world, "app", service.inbound("endpoint")).await;
    let mut sent = 0;
    for forgery in FORGERIES {
        let encoded: String = forgery.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let value = HeaderValue::from_bytes(forgery.as_bytes()).expect("may stand in a header");
        for mut request in [
            get_of(&format!("/{encoded}")),
            get_of(&format!("/x?{encoded}={encoded}")),
            get_of("/note"),
            get_of("/id"),
            get_of("/trace"),
            get_of("/agent"),
        ] {
            let name = match request.uri().path() {
                "/note" => "x-note",
                "/id" => "x-request-id",
                "/trace" => "traceparent",
                "/agent" => "user-agent",
                _ => "x-other",
            };
            request.headers_mut().insert(name, value.clone());
            // A refusal may close the connection.
            match app.try_send(request.clone()).await {
                Ok(answer) if answer.header("connection") != "close" => (),
                Ok(_) => app = client(&world, "app", service.inbound("endpoint")).await,
                Err(error) => panic!("{request:?}: {error:?}"),
            }
            sent += 1;
        }
    }
    service.records.requests(sent).await;
    let bytes = fs::read(service.directory().join("audit.jsonl")).expect("is there");
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), sent, "one line for each request");
    for line in lines {
        let text = std::str::from_utf8(line).expect("records are UTF-8");
        let record: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let dangerous = |c: &char| {
            c.is_control() && *c != '\n'
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        };
        assert_eq!(text.chars().find(dangerous), None, "{text:?}");
        let keys: BTreeSet<&str> = record.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
        assert!(!keys.contains("x"), "{text}");
        assert_eq!(record["principal"], world.id("app"), "{text}");
        let id = record["request_id"].as_str().unwrap_or_default();
        assert!(!id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{text}");
    }
    // What a policy read is there, whole and escaped.
    let noted = service.records.find("the note", |record| record["context"]["headers"]["x-note"][0] == FORGERIES[0]);
    assert_eq!(noted.await["outcome"], "allowed");
    service.stop().await;
}

const OUTCOMES: &str = r#"
@id("reading")
permit (principal, action in Action::"read", resource);

@id("nothing-secret")
forbid (principal, action, resource in HttpPath::"endpoint/secret");

@id("erring")
forbid (principal, action, resource in HttpPath::"endpoint/erring")
when { context.now.offset(duration("9223372036854775807ms")) < context.now };
"#;

#[tokio::test]
async fn each_of_the_five_outcomes_is_in_record_and_metric() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(OUTCOMES);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    for (method, target, outcome, action, status, policies) in [
        ("GET", "/orders", "allowed", "http:GET", 200, vec!["reading"]),
        ("GET", "/secret/plan", "forbidden", "http:GET", 403, vec!["nothing-secret"]),
        ("POST", "/orders", "not_permitted", "http:POST", 403, vec![]),
        ("GET", "/erring", "error", "http:GET", 403, vec!["erring"]),
        ("GET", "/a/../b", "refused", "none", 400, vec![]),
    ] {
        let mut app = client(&world, "app", service.inbound("endpoint")).await;
        let answer = app.send(request(method, "service.example", target, &[("x-request-id", outcome)], "")).await;
        assert_eq!(answer.status.as_u16(), status, "{outcome}");
        assert_eq!(answer.header("x-portcullis-decision").is_empty(), outcome == "allowed", "{outcome}");
        let record = service.records.find(outcome, |record| record["request_id"] == outcome).await;
        assert_eq!((&record["outcome"], &record["status"]), (&outcome.into(), &status.into()));
        assert_eq!(policies_of(&record), policies, "{outcome}");
        assert_eq!((&record["kind"], &record["mode"]), (&"request".into(), &"enforce".into()));
        let labels = [format!("outcome=\"{outcome}\""), format!("action=\"{action}\""), "mode=\"enforce\"".to_owned()];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert_eq!(service.metric("portcullis_authz_decisions_total", &labels).await, 1.0, "{outcome}");
        let asked = outcome != "refused";
        for field in ["policy_digest", "policy_generation", "action", "resource", "context"] {
            assert_eq!(record.get(field).is_some(), asked, "{outcome}: `{field}` in {record:#}");
        }
        assert_eq!(record.get("reason").is_some(), !asked, "{record:#}");
        if outcome == "refused" {
            assert_eq!(record["reason"], "dot-segment");
        }
    }
    assert_eq!(upstream.seen().len(), 1, "something denied reached the upstream");
    assert_eq!(service.metric("portcullis_audit_records_total", &["result=\"written\""]).await, 5.0);
    service.stop().await;
}

const READS_SECRETS: &str = r#"
@id("everything-is-read")
permit (principal, action, resource)
when { context has headers
  && (context.headers.hasTag("authorization") || context.headers.hasTag("cookie") || context.headers.hasTag("x-api-key")
      || context.headers.hasTag("x-amz-security-token") || context.headers.hasTag("proxy-authorization")
      || context.headers.hasTag("x-amz-server-side-encryption-customer-key") || context.headers.hasTag("range")) };

@id("all")
permit (principal, action, resource);
"#;

#[tokio::test]
async fn no_secret_of_a_request_gets_into_a_record_or_the_log() {
    const SECRET: &str = "hunter2hunter2";
    let (world, upstream) = (World::new(), Recorder::start());
    let mut services = Vec::new();
    for protocol in ["http", "s3"] {
        let name = format!("service-{protocol}");
        let service = world.sidecar(&name).policies(READS_SECRETS);
        let service = service.inbound("endpoint", protocol, &upstream.url(), "").arguments(&["--log-filter", "trace"]);
        let service = service.start().await;
        let to = service.inbound("endpoint").to_string();
        let app = world.sidecar(&format!("app-{protocol}")).policies(READS_SECRETS);
        let app = app.outbound("endpoint", protocol, &to, &world.id(&name), "").arguments(&["--log-filter", "trace"]);
        let app = app.start().await;
        services.push((app, service));
    }
    let query = format!(
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={SECRET}%2F20260101&X-Amz-Security-Token={SECRET}&X-Amz-Signature={SECRET}"
    );
    let header = format!("AWS4-HMAC-SHA256 Credential=a, Signature={SECRET}");
    for (app, service) in &services {
        let s3 = app.directory().ends_with("app-s3");
        let mut asked = 0;
        for (target, headers) in [
            (
                "/bucket/key".to_owned(),
                vec![("authorization", header.as_str()), ("cookie", SECRET), ("x-api-key", SECRET)],
            ),
            ("/bucket/key".to_owned(), vec![("x-amz-security-token", SECRET), ("proxy-authorization", SECRET)]),
            (
                "/bucket/key".to_owned(),
                vec![("x-amz-server-side-encryption-customer-key", SECRET), ("range", "bytes=0-9")],
            ),
            (format!("/bucket/key?{query}"), vec![]),
            // Refused ones tell what was wrong with them.
            (format!("/bucket/key?{query}&X-Amz-Signature={SECRET}"), vec![]),
            (format!("/bucket/key?{query}&x-amz-signature={SECRET}"), vec![]),
            (format!("/bucket/key?{query}&%58-Amz-Signature={SECRET}%00"), vec![]),
            (format!("/bucket/../key?{query}"), vec![]),
            (format!("/bucket/key?{query}&token={SECRET}%zz"), vec![]),
            (format!("/bucket/key?{query};token={SECRET}"), vec![]),
            ("/bucket/key".to_owned(), vec![("authorization", SECRET), ("authorization", SECRET)]),
            ("/bucket/key".to_owned(), vec![("x-amz-security-token", SECRET), ("x-amz-security-token", SECRET)]),
            ("/bucket/key".to_owned(), vec![("x_amz_security_token", SECRET)]),
        ] {
            let mut local = Client::plain(app.outbound("endpoint")).await;
            local.send(request("GET", "127.0.0.1", &target, &headers, "")).await;
            asked += 1;
        }
        for raw in [
            format!("GET /bucket/key HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization : Bearer {SECRET}\r\n\r\n"),
            format!("GET /bucket/key HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer\r\n {SECRET}\r\n\r\n"),
            format!("GET /bucket/key HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {SECRET}\x00\r\n\r\n"),
            format!("GET http://user:{SECRET}@127.0.0.1/bucket/key HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"),
            format!("GET /bucket/key HTTP/1.1\r\nhost: user:{SECRET}@127.0.0.1\r\n\r\n"),
            format!("GET /bucket/key#token={SECRET} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"),
            format!("GET /bucket/key?{query} HTTP/1.1 x\r\nhost: 127.0.0.1\r\n\r\n"),
        ] {
            let mut connection = Raw::connect(app.outbound("endpoint")).await;
            connection.write(&raw).await;
            assert_ne!(connection.answer().await.map(|answer| answer.status()), Some(200), "{raw}");
        }
        app.records.requests(asked).await;
        let seen = service.records.find("what was read", |record| !record["context"]["headers"].is_null()).await;
        assert!(seen.to_string().contains("[redacted]"), "{seen:#}");
        if s3 {
            service.records.find("the presigned one", |record| record["context"]["presigned"] == true).await;
        }
    }
    let reached = upstream.seen();
    assert!(reached.iter().any(|seen| seen.header("authorization") == header), "the upstream needs what is secret");
    assert!(reached.iter().any(|seen| seen.target.contains(SECRET)), "the upstream needs what is secret");
    let mut leaks = Vec::new();
    for (app, service) in services {
        for sidecar in [app, service] {
            let (directory, log) = (sidecar.directory().to_owned(), sidecar.process.stderr.clone());
            sidecar.stop().await;
            let records = fs::read_to_string(directory.join("audit.jsonl")).expect("is there");
            let lines = records.lines().map(str::to_owned).chain(log.so_far());
            leaks.extend(lines.filter(|line| line.contains(SECRET)));
        }
    }
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

#[tokio::test]
async fn sampling_leaves_out_allowed_requests_only_and_says_so() {
    let (world, upstream) = (World::new(), Recorder::start());
    for (share, least, most) in [("0.25", 20, 90), ("0.0", 0, 0)] {
        let name = format!("service-{}", least);
        let at = world.folder(&name).join("audit.jsonl");
        let service = world.sidecar(&name).policies(OUTCOMES);
        let service = service.audit(&format!("sink: file\npath: {}\nsample_allowed: {share}", at.display()));
        let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
        let mut app = client(&world, "app", service.inbound("endpoint")).await;
        for _ in 0..200 {
            assert_eq!(app.send(get_of("/orders")).await.status, StatusCode::OK);
        }
        for _ in 0..20 {
            assert_eq!(app.send(get_of("/secret")).await.status, StatusCode::FORBIDDEN);
        }
        let records = service.records.requests(20 + least).await;
        let (allowed, denied): (Vec<&Value>, Vec<&Value>) =
            records.iter().partition(|record| record["outcome"] == "allowed");
        assert_eq!(denied.len(), 20, "denials are always recorded");
        assert!((least..=most).contains(&allowed.len()), "{} of 200 at {share}", allowed.len());
        let rate: f64 = share.parse().expect("is a number");
        assert!(allowed.iter().all(|record| record["sample_rate"] == rate), "{allowed:#?}");
        assert!(denied.iter().all(|record| record["sample_rate"].is_null()), "{denied:#?}");
        let counted = |result: &'static str| {
            service.metric(
                "portcullis_audit_records_total",
                match result {
                    "written" => &["result=\"written\""],
                    _ => &["result=\"sampled_out\""],
                },
            )
        };
        assert_eq!(counted("written").await as usize, records.len());
        assert_eq!(counted("sampled_out").await as usize, 220 - records.len());
        assert_eq!(service.metric("portcullis_authz_decisions_total", &["outcome=\"allowed\""]).await, 200.0);
        service.stop().await;
    }
}

#[tokio::test]
async fn an_exchange_that_stays_open_has_a_started_record_with_the_same_decision_id() {
    let (world, upstream) = (World::new(), Recorder::behaving(Behaviour::Echo, None));
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    let mut app = Client::plain(pair.address()).await;
    let (body, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    let frames = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    });
    let long = request("POST", "service.example", "/long", &[("x-request-id", "long")], "");
    body.send(Bytes::from_static(b"begin ")).expect("is read");
    let began = Instant::now();
    let echo = app.stream(long.map(|_| BodyExt::boxed(StreamBody::new(frames)))).await.expect("is permitted");
    assert_eq!(get(pair.address(), "/short").await.status, StatusCode::OK);

    let mut ids = Vec::new();
    for sidecar in [&pair.outbound, &pair.inbound] {
        let started = sidecar.records.find("the open exchange", |record| record["kind"] == "started").await;
        assert!(began.elapsed() >= Duration::from_millis(4_900), "written after {:?}", began.elapsed());
        assert_eq!((&started["request_id"], &started["outcome"]), (&"long".into(), &"allowed".into()));
        assert_eq!((&started["status"], policies_of(&started)), (&Value::Null, vec!["allow-all"]));
        ids.push(started["decision_id"].as_str().expect("is text").to_owned());
    }
    body.send(Bytes::from_static(b"end")).expect("is read");
    drop(body);
    let echoed = Answer::read(echo).await.expect("ends in order");
    assert_eq!(echoed.text(), "begin end");
    for (sidecar, id) in [&pair.outbound, &pair.inbound].into_iter().zip(&ids) {
        let ended = sidecar.records.of_decision(id).await;
        assert_eq!((&ended["kind"], &ended["status"], &ended["bytes_in"]), (&"request".into(), &200.into(), &9.into()));
        assert!(ended["duration_us"].as_u64().is_some_and(|duration| duration > 4_900_000), "{ended:#}");
        let started = sidecar.records.all().iter().filter(|record| record["kind"] == "started").count();
        assert_eq!(started, 1, "short exchanges have no started record");
    }
    pair.stop().await;
}

// -------------------------------------------------------------------------------------------------------------------- sinks

#[tokio::test]
async fn records_go_to_standard_output_alone_when_that_is_the_sink() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL).audit("sink: stdout");
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let mut app = client(&world, "app", service.inbound("endpoint")).await;
    for number in 0..3 {
        app.send(get_of(&format!("/{number}"))).await;
    }
    let (stdout, stderr) = (service.process.stdout.clone(), service.process.stderr.clone());
    service.stop().await;
    let lines: Vec<Value> =
        stdout.text().await.lines().map(|line| serde_json::from_str(line).expect("records and nothing else")).collect();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert_eq!(lines[2]["resource"], "HttpPath::\"endpoint/2\"");
    assert!(!stderr.text().await.contains("decision_id"), "records are no log lines");
}

#[tokio::test]
async fn a_sink_that_cannot_be_written_refuses_every_request_unless_told_otherwise() {
    let (world, upstream) = (World::new(), Recorder::start());
    for unsafely in [false, true] {
        let name = format!("service-{unsafely}");
        let on_failure = if unsafely { "\nunsafe_on_failure: allow" } else { "" };
        let service = world.sidecar(&name).policies(ALLOW_ALL);
        let service = service.audit(&format!("sink: file\npath: /dev/full{on_failure}"));
        let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
        let address = service.inbound("endpoint");
        // The first one finds out; it may have reached the upstream, but nobody gets its whole answer.
        let first = client(&world, "app", address).await.try_send(get_of("/first")).await;
        let mut app = client(&world, "app", address).await;
        let before = upstream.seen().len();
        if unsafely {
            assert_eq!(first.expect("is served").status, StatusCode::OK);
            for _ in 0..5 {
                assert_eq!(app.send(get_of("/orders")).await.status, StatusCode::OK);
            }
            assert_eq!(service.metric("portcullis_audit_records_total", &["result=\"lost\""]).await, 6.0);
            assert!(service.logged("audit records cannot be written").await.contains("unsafe_on_failure"));
        } else {
            assert!(first.is_err() || first.is_ok_and(|answer| answer.status == 503), "answered without a record");
            for method in ["GET", "POST", "DELETE"] {
                let answer = app.send(request(method, "service.example", "/orders", &[], "")).await;
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
                assert_eq!((answer.header("retry-after"), answer.header("x-portcullis-error")), ("1", "audit"));
            }
            assert_eq!(upstream.seen().len(), before, "what could not be recorded reached the upstream");
            assert_eq!(service.metric("portcullis_audit_refused_requests_total", &[]).await, 3.0);
            assert_eq!(service.metric("portcullis_audit_records_total", &["result=\"failed\""]).await, 1.0);
            let ready = get(service.health(), "/ready").await;
            assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
            assert!(ready.text().contains("audit"), "{ready:?}");
            let status = service.status().await;
            assert!(status["audit"]["failure"].to_string().contains("No space left"), "{status:#}");
        }
        assert_eq!(service.metric("portcullis_audit_accepts", &[]).await, 0.0);
        assert_eq!(get(service.health(), "/live").await.status, StatusCode::OK);
        service.stop().await;
    }
}

/// A tmpfs of 64 KiB, if this process may mount one.
#[derive(Debug)]
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_requests_until_there_is_room_and_every_answer_has_its_record() {
    let (world, upstream) = (World::new(), Recorder::start());
    let Some(disk) = SmallDisk::mount(world.folder("disk")) else {
        eprintln!("skipped: mounting a tmpfs needs root");
        return;
    };
    let ballast = disk.0.join("ballast");
    fs::write(&ballast, vec![0; 32 * 1024]).expect("there is room");
    let at = disk.0.join("audit.jsonl");
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.audit(&format!("sink: file\npath: {}", at.display()));
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let records = Records::of(&at);
    let mut answered = BTreeSet::new();
    let mut refused = None;
    for number in 0..500 {
        let mut app = client(&world, "app", service.inbound("endpoint")).await;
        let id = number.to_string();
        let sent = request("GET", "service.example", "/", &[("x-request-id", &id)], "");
        match app.try_send(sent).await {
            Ok(answer) if answer.status == StatusCode::OK => _ = answered.insert(id),
            Ok(answer) => {
                assert_eq!((answer.status.as_u16(), answer.header("x-portcullis-error")), (503, "audit"));
                refused = Some(number);
                break;
            }
            // The one whose record did not fit is cut.
            Err(_) => (),
        }
    }
    assert!(refused.is_some(), "32 KiB are full before 500 records");
    let mut app = client(&world, "app", service.inbound("endpoint")).await;
    let mut refused = 0;
    // What room is left may take the line that says that writing works again, and no record behind it.
    while refused < 20 {
        match app.try_send(get_of("/")).await {
            Ok(answer) => {
                assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
                refused += 1;
            }
            Err(_) => app = client(&world, "app", service.inbound("endpoint")).await,
        }
    }

    fs::remove_file(&ballast).expect("is there");
    let room = Instant::now();
    until(&mut app, "/again", StatusCode::OK).await;
    // The target is 1 s; the machine of a test may be busy.
    assert!(room.elapsed() < Duration::from_secs(2), "refused for {:?} though there was room", room.elapsed());
    assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK);
    let recovered = records.find("the recovery", |record| record["kind"] == "sink_recovered").await;
    let counted = records.all().iter().filter_map(|record| record["refused_requests"].as_u64()).sum::<u64>();
    assert!(counted >= 20, "{counted} are counted as refused");
    assert_eq!(recovered["lost_records"], 0);
    let recorded: BTreeSet<String> =
        records.all().iter().filter_map(|record| record["request_id"].as_str().map(str::to_owned)).collect();
    let unrecorded: Vec<&String> = answered.difference(&recorded).collect();
    assert!(unrecorded.is_empty(), "answered without a record: {unrecorded:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_slow_reader_of_the_sink_slows_requests_down_and_loses_nothing() {
    const REQUESTS: usize = 150;
    let (world, upstream) = (World::new(), Recorder::start());
    let pipe = world.path().join("audit.fifo");
    assert!(Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()));
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.audit(&format!("sink: file\npath: {}", pipe.display()));
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let address = service.inbound("endpoint");
    let mut app = client(&world, "app", address).await;
    let (count, mut answered) = watch::channel(0);
    let sending = tokio::spawn(async move {
        for number in 0..REQUESTS {
            let answer = app.send(get_of(&format!("/{number}"))).await;
            assert_eq!(answer.status, StatusCode::OK);
            count.send_replace(number + 1);
        }
    });
    // The pipe takes 64 KiB, records have some 900 bytes: it fills, and then nothing moves.
    let mut stuck_at = 0;
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), answered.changed()).await {
        stuck_at = *answered.borrow();
    }
    assert!((20..REQUESTS).contains(&stuck_at), "{stuck_at} were answered without a reader");
    assert_eq!(get(service.health(), "/live").await.status, StatusCode::OK, "probes do not wait for the sink");

    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        let mut pipe = fs::File::open(pipe).expect("is there");
        let mut some = [0; 4096];
        while text.lines().count() < REQUESTS || !text.ends_with('\n') {
            let count = pipe.read(&mut some).expect("can be read");
            text.push_str(std::str::from_utf8(&some[..count]).expect("is ASCII"));
        }
        text
    });
    within("all answers", sending).await.expect("every request was answered");
    let text = within("all records", tokio::task::spawn_blocking(|| reading.join())).await.expect("runs");
    let text = text.expect("the reader got every record");
    let resources: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("is a record")["resource"].clone())
        .collect();
    let expected: Vec<Value> = (0..REQUESTS).map(|number| format!("HttpPath::\"endpoint/{number}\"").into()).collect();
    assert_eq!(resources, expected);
    service.stop().await;
}

#[tokio::test]
async fn rotation_by_name_is_followed_at_once_on_sighup_and_soon_without() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL).yaml("reload_interval: 500ms");
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let mut app = client(&world, "app", service.inbound("endpoint")).await;
    let current = service.directory().join("audit.jsonl");
    let mut all = 0;
    for (rotated, hangup) in [("audit.1", true), ("audit.2", false)] {
        app.send(get_of("/before")).await;
        let rotated = service.directory().join(rotated);
        fs::rename(&current, &rotated).expect("is there");
        app.send(get_of("/between")).await;
        if hangup {
            service.process.signal("HUP");
        }
        eventually("a new file", || current.exists().then_some(())).await;
        app.send(get_of("/after")).await;
        service.records.find("the new file's", |record| record["resource"] == "HttpPath::\"endpoint/after\"").await;
        all += Records::of(&rotated).requests(2).await.len();
    }
    all += service.records.requests(1).await.len();
    assert_eq!(all, 6, "each request has one record in one of the files");
    service.stop().await;
}

// --------------------------------------------------------------------------------------------------------------------- crash

#[tokio::test]
async fn after_kill_9_every_answered_request_has_its_record_and_serving_goes_on() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let to = service.inbound("endpoint").to_string();
    let app = world.sidecar("app").policies(ALLOW_ALL);
    let app = app.outbound("endpoint", "http", &to, &world.id("service"), "").start().await;
    let (through, direct) = (app.outbound("endpoint"), service.inbound("endpoint"));
    let (count, mut answered) = watch::channel(0_usize);
    let mut clients = Vec::new();
    for number in 0..6 {
        let count = count.clone();
        let mut client = if number < 4 { Client::plain(through).await } else { client(&world, "direct", direct).await };
        clients.push(tokio::spawn(async move {
            let mut ids = BTreeMap::new();
            for request_number in 0.. {
                let id = format!("c{number}-{request_number}");
                let sent = request("GET", "service.example", "/", &[("x-request-id", &id)], "");
                match client.try_send(sent).await {
                    Ok(answer) if answer.status == StatusCode::OK => _ = ids.insert(id, number < 4),
                    // The outbound sidecar says that the other one is gone.
                    Ok(answer) if answer.status == StatusCode::BAD_GATEWAY => return ids,
                    Ok(answer) => panic!("{answer:?}"),
                    Err(_) => return ids,
                }
                count.send_modify(|count| *count += 1);
            }
            ids
        }));
    }
    within("some load", answered.wait_for(|count| *count >= 300)).await.expect("clients run");
    let at_service = service.kill().await;
    let at_app = app.kill().await;
    let mut all = BTreeMap::new();
    for client in clients {
        all.extend(within("the end of a client", client).await.expect("does not fail"));
    }
    assert!(all.len() >= 300, "{} requests were answered", all.len());
    let ids = |records: &Records| -> BTreeSet<String> {
        let requests = records.all().into_iter().filter(|record| record["kind"] == "request");
        requests.filter_map(|record| record["request_id"].as_str().map(str::to_owned)).collect()
    };
    let (service_ids, app_ids) = (ids(&at_service), ids(&at_app));
    for (id, through_both) in &all {
        assert!(service_ids.contains(id), "`{id}` was answered, but the inbound side has no record");
        assert!(!through_both || app_ids.contains(id), "`{id}` was answered, but the outbound side has no record");
    }

    // As if the kernel had been cut off in the middle of a line: the next start ends it and goes on.
    let file = world.path().join("service/audit.jsonl");
    let torn = fs::read_to_string(&file).expect("is there") + "{\"kind\":\"request\",\"torn";
    fs::write(&file, torn).expect("is writable");
    let restarted = Instant::now();
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let mut again = client(&world, "app", service.inbound("endpoint")).await;
    assert_eq!(again.send(get_of("/again")).await.status, StatusCode::OK);
    // The target is 1 s; this is no optimised build and the machine may be busy.
    assert!(restarted.elapsed() < Duration::from_secs(5), "serves after {:?}", restarted.elapsed());
    let lines = fs::read_to_string(&file).expect("is there");
    let broken: Vec<&str> = lines.lines().filter(|line| serde_json::from_str::<Value>(line).is_err()).collect();
    assert_eq!(broken, ["{\"kind\":\"request\",\"torn"]);
    assert!(lines.lines().next_back().is_some_and(|line| line.contains("endpoint/again")), "{lines}");
    service.stop().await;
}

#[tokio::test]
async fn a_sink_that_cannot_be_opened_refuses_to_start() {
    let world = World::new();
    for (path, said) in [("/nonexistent/audit.jsonl", "directory `/nonexistent` does not exist"), ("/", "directory")] {
        let plan = world.sidecar("service").policies(ALLOW_ALL).audit(&format!("sink: file\npath: {path}"));
        let output = plan.inbound("endpoint", "http", "http://127.0.0.1:1", "").run_to_end().await;
        assert_eq!(output.code(), 1, "{}", output.stderr);
        assert!(output.stderr.contains(said) && output.stderr.contains("audit"), "{}", output.stderr);
    }
    assert!(!Path::new("/nonexistent").exists());
}
