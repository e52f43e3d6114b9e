//! Identity files change in every way that operators, helpers and kubelet change them, and what the next handshake shows is what
//! is in the files. Unless a test says otherwise sidecars look only when they are told of a change: their interval is an hour.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use http::StatusCode;
use serde_json::Value;

use crate::support::*;

/// Longer than any test: what is seen, is seen by an event or a signal.
const BY_EVENT: &str = "reload_interval: 1h";

#[tokio::test]
async fn a_rename_into_place_and_a_rewrite_in_place_are_seen_by_events() {
    let (world, service) = service("").await;
    for _ in 0..3 {
        let renamed = world.ca.issue("/ns/test/sa/service");
        service.replace_svid(&renamed);
        shows(&world, &service, &renamed).await;
        let rewritten = world.ca.issue("/ns/test/sa/service");
        write_svid(service.directory(), &rewritten);
        shows(&world, &service, &rewritten).await;
    }
    assert_eq!(service.status().await["identity"]["generation"], 7, "each of them is one generation");
    assert_eq!(service.metric("portcullis_svid_rotation_total", &["result=\"failed\""]).await, 0.0);
    service.stop().await;
}

#[tokio::test]
async fn the_swap_that_kubelet_makes_is_followed_at_every_level_of_links() {
    let (world, service) = service("").await;
    // svid.pem → mounts/current/svid.pem, `current` → a, and a/svid.pem → ..data/svid.pem as kubelet links it.
    let mounts = world.folder("mounts");
    let mut mount = Mount::at(&mounts.join("a"));
    let first = world.ca.issue("/ns/test/sa/service");
    mount.swap(&files(&world, &first));
    symlink("a", mounts.join("current")).expect("is writable");
    for name in ["svid.pem", "svid.key", "pipeline.example.pem"] {
        put_link(&mounts.join("current").join(name), &service.directory().join(name));
    }
    shows(&world, &service, &first).await;
    for _ in 0..3 {
        let swapped = world.ca.issue("/ns/test/sa/service");
        mount.swap(&files(&world, &swapped));
        shows(&world, &service, &swapped).await;
    }
    let mut other = Mount::at(&mounts.join("b"));
    let moved = world.ca.issue("/ns/test/sa/service");
    other.swap(&files(&world, &moved));
    put_link(Path::new("b"), &mounts.join("current"));
    shows(&world, &service, &moved).await;

    // What happens behind the links is seen there, and no more where they led before.
    let behind = world.ca.issue("/ns/test/sa/service");
    write_svid(&mounts.join("b/..data"), &behind);
    shows(&world, &service, &behind).await;
    let generation = service.status().await["identity"]["generation"].clone();
    mount.swap(&files(&world, &world.ca.issue("/ns/test/sa/service")));
    let last = world.ca.issue("/ns/test/sa/service");
    other.swap(&files(&world, &last));
    shows(&world, &service, &last).await;
    assert_eq!(service.status().await["identity"]["generation"].as_u64(), generation.as_u64().map(|number| number + 1));
    service.stop().await;
}

#[tokio::test]
async fn files_and_even_their_directory_may_come_late_and_go_and_come_again() {
    let world = World::new();
    let at = world.path().join("late/run");
    let paths = format!(
        "certificate: {at}/svid.pem\nprivate_key: {at}/svid.key\ntrust_bundles: {{pipeline.example: {at}/pipeline.example.pem}}",
        at = at.display()
    );
    let mut service = plan(&world).identity(&paths).spawn();
    service.listening().await;
    let (health, address) = (service.health(), service.inbound("endpoint"));
    let ready = get(service.admin(), "/ready").await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(ready.text().contains("there is no SVID yet") && ready.text().contains("late/run"), "{}", ready.text());
    assert_eq!(get(health, "/live").await.status, StatusCode::OK);
    let status = service.status().await["identity"]["parts"].clone();
    assert_eq!(status[0]["last_error"]["rule"], "unreadable-file", "{status:#}");
    assert_eq!((&status[0]["part"], &status[0]["last_success"]), (&"files".into(), &Value::Null));
    client(&world).refused_by(address).await;

    // Directory by directory, file by file.
    let first = world.ca.issue("/ns/test/sa/service");
    fs::create_dir_all(&at).expect("is writable");
    for (name, content) in files(&world, &first) {
        fs::write(at.join(name), content).expect("is writable");
    }
    shows(&world, &service, &first).await;
    eventually_ready(&service).await;

    // Without its directory the last good one stays.
    fs::remove_dir_all(world.path().join("late")).expect("is there");
    let gone = |status: &Value| status["identity"]["parts"][0]["last_error"]["standing"] == true;
    service.status_with("that the files are gone", gone).await;
    shows(&world, &service, &first).await;
    assert_eq!(get(health, "/ready").await.status, StatusCode::OK);
    let again = world.ca.issue("/ns/test/sa/service");
    fs::create_dir_all(&at).expect("is writable");
    for (name, content) in files(&world, &again) {
        fs::write(at.join(name), content).expect("is writable");
    }
    shows(&world, &service, &again).await;
    let over = service.status_with("that the fault is over", |status| !gone(status)).await;
    let part = &over["identity"]["parts"][0];
    assert!(part["last_success"].is_string() && part["last_error"]["rule"] == "unreadable-file", "{part:#}");
    assert_eq!(over["identity"]["last_error"], Value::Null);
    let next = world.ca.issue("/ns/test/sa/service");
    write_svid(&at, &next);
    shows(&world, &service, &next).await;
    service.stop().await;
}

#[tokio::test]
async fn a_set_that_stays_broken_leaves_the_last_good_one_is_counted_and_its_repair_is_seen() {
    let (world, service) = service("").await;
    let good = world.ca.issue("/ns/test/sa/service");
    service.replace_svid(&good);
    shows(&world, &service, &good).await;
    let failed = async || service.metric("portcullis_svid_rotation_total", &["result=\"failed\""]).await;
    let stranger = Ca::new("pipeline.example").issue("/ns/test/sa/service");
    let next = world.ca.issue("/ns/test/sa/service");
    let half = next.chain_pem().get(..200).unwrap_or_default().to_owned();
    for (chain, key, rule) in [
        (half, next.key_pem(), "pem"),
        (next.chain_pem(), good.key_pem(), "key-mismatch"),
        (stranger.chain_pem(), stranger.key_pem(), "chain"),
    ] {
        let before = failed().await;
        service.replace("svid.key", &key);
        service.replace("svid.pem", &chain);
        let standing = |status: &Value| status["identity"]["parts"][0]["last_error"]["rule"] == rule;
        service.status_with(rule, standing).await;
        let deadline = Instant::now() + DEADLINE;
        while failed().await <= before {
            assert!(Instant::now() < deadline, "{rule} is not counted");
        }
        shows(&world, &service, &good).await;
        assert_eq!(get(service.health(), "/ready").await.status, StatusCode::OK, "{rule}");
    }
    service.logged("the last good one stays in force").await;
    service.replace_svid(&next);
    shows(&world, &service, &next).await;
    let status = service.status_with("that all is well", |status| status["identity"]["last_error"].is_null()).await;
    assert_eq!(status["identity"]["parts"][0]["last_error"]["standing"], false, "{status:#}");
    service.stop().await;
}

#[tokio::test]
async fn without_file_events_the_files_are_looked_at_in_intervals_and_the_log_says_so() {
    let world = World::new();
    let plan = plan_every(&world, "reload_interval: 100ms").without_file_events();
    let service = plan.start().await;
    let said = service.logged("no events for changed files").await;
    assert!(said.contains("WARN") && said.contains("found by looking"), "{said}");
    for _ in 0..3 {
        let next = world.ca.issue("/ns/test/sa/service");
        service.replace_svid(&next);
        shows(&world, &service, &next).await;
    }
    let said = service.log().iter().filter(|line| line.contains("no events for changed files")).count();
    assert_eq!(said, 1, "it is said once");
    service.stop().await;
}

#[tokio::test]
async fn sighup_looks_at_once_where_nothing_else_would() {
    let world = World::new();
    let service = plan(&world).without_file_events().start().await;
    // The first change may be found by the look that every start ends with. After that nothing looks but by the signal.
    for _ in 0..3 {
        let next = world.ca.issue("/ns/test/sa/service");
        service.replace_svid(&next);
        service.process.signal("HUP");
        shows(&world, &service, &next).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn keys_are_read_in_every_form_that_tools_write() {
    let (world, service) = service("").await;
    let ec = world.ca.issue("/ns/test/sa/service");
    let rsa = world.ca.issue_keyed("/ns/test/sa/service", &rcgen::PKCS_RSA_SHA256);
    let forms: [(&Svid, &[&str], &str); 4] = [
        (&ec, &["ec"], "BEGIN EC PRIVATE KEY"),
        (&rsa, &["rsa", "-traditional"], "BEGIN RSA PRIVATE KEY"),
        (&ec, &["pkcs8", "-topk8", "-nocrypt"], "BEGIN PRIVATE KEY"),
        (&rsa, &["pkcs8", "-topk8", "-nocrypt"], "BEGIN PRIVATE KEY"),
    ];
    for (svid, form, kind) in forms {
        let key = openssl(form, &svid.key_pem()).await.stdout;
        assert!(key.contains(kind), "openssl {form:?} wrote {key}");
        service.replace("svid.key", &key);
        service.replace("svid.pem", &svid.chain_pem());
        shows(&world, &service, svid).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn a_directory_of_bundles_is_read_as_one_and_a_broken_file_in_it_is_named() {
    let world = World::new();
    let bundles = world.folder("bundles");
    fs::write(bundles.join("first.pem"), world.ca.bundle()).expect("is writable");
    let paths = format!(
        "certificate: DIR/svid.pem\nprivate_key: DIR/svid.key\ntrust_bundles: {{pipeline.example: {}}}",
        bundles.display()
    );
    let service = plan(&world).identity(&paths).start().await;
    let address = service.inbound("endpoint");
    let second = Ca::new("pipeline.example");
    let newcomer = TlsClient::with(&second.issue("/ns/test/sa/app"));
    newcomer.refused_by(address).await;
    assert!(works(&client(&world), address).await, "the twin");

    fs::write(bundles.join("README"), "not a bundle").expect("is writable");
    fs::write(bundles.join("second.crt"), second.bundle()).expect("is writable");
    accepted(&newcomer, address).await;

    fs::write(bundles.join("third.pem"), "-----BEGIN CERTIFICATE-----\nbroken").expect("is writable");
    let error = |status: &Value| status["identity"]["last_error"].as_str().unwrap_or_default().to_owned();
    let status = service.status_with("the broken file", |status| error(status).contains("third.pem")).await;
    assert_eq!(status["ready"], true, "{status:#}");
    assert!(works(&newcomer, address).await, "the last good bundles stay in force");
    fs::remove_file(bundles.join("third.pem")).expect("is there");
    service.status_with("that it is gone", |status| error(status).is_empty()).await;

    fs::remove_file(bundles.join("second.crt")).expect("is there");
    let deadline = Instant::now() + DEADLINE;
    while works(&newcomer, address).await {
        assert!(Instant::now() < deadline, "who is trusted no more still comes in");
    }
    assert!(works(&client(&world), address).await, "the twin");
    service.stop().await;
}

#[tokio::test]
async fn a_certificate_of_somebody_else_never_comes_into_force_where_the_owner_is_named() {
    let world = World::new();
    let paths = "certificate: DIR/svid.pem\nprivate_key: DIR/svid.key\nspiffe_id: spiffe://pipeline.example/ns/test/sa/service\n\
                 trust_bundles: {pipeline.example: DIR/pipeline.example.pem}";
    let service = plan(&world).identity(paths).start().await;
    let first = world.ca.issue("/ns/test/sa/service");
    service.replace_svid(&first);
    shows(&world, &service, &first).await;
    service.replace_svid(&world.ca.issue("/ns/test/sa/other"));
    let other = |status: &Value| status["identity"]["parts"][0]["last_error"]["rule"] == "spiffe-id";
    let status = service.status_with("somebody else's certificate", other).await;
    let message = status["identity"]["last_error"].as_str().unwrap_or_default();
    assert!(message.contains("ns/test/sa/other`, not of `spiffe://pipeline.example/ns/test/sa/service`"), "{message}");
    shows(&world, &service, &first).await;
    service.stop().await;
}

#[tokio::test]
async fn a_key_that_everybody_may_read_is_warned_of_once() {
    let (world, service) = service("").await;
    let said = service.logged("everybody on this machine may read the private key").await;
    assert!(said.contains("WARN") && said.contains("svid.key") && said.contains("0644"), "{said}");
    let next = world.ca.issue("/ns/test/sa/service");
    service.replace_svid(&next);
    shows(&world, &service, &next).await;
    let said = service.log().iter().filter(|line| line.contains("may read the private key")).count();
    assert_eq!(said, 1);
    service.stop().await;
}

#[tokio::test]
async fn policies_that_change_are_seen_by_events_too() {
    let (world, service) = service("").await;
    let mut app = http1(client(&world).connect(service.inbound("endpoint")).await.expect("shakes hands")).await;
    let answer = app.send(request("GET", "service.example", "/", &[], "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let mut mount = Mount::at(&service.directory().join("policies"));
    for n in 2..5 {
        let policy = format!("@id(\"v{n}\")\nforbid (principal, action, resource);\n");
        mount.swap(&[("test.cedar".to_owned(), policy)]);
        service.status_with("the newest policies", |status| status["policy"]["generation"].as_u64() >= Some(n)).await;
        let answer = app.send(request("GET", "service.example", "/", &[], "")).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
    }
    service.stop().await;
}

// ------------------------------------------------------------------------------------------------------------------- helpers

fn plan(world: &World) -> SidecarPlan {
    plan_every(world, BY_EVENT)
}

/// An inbound listener whose upstream nobody needs: `/` is answered by the recorder of [`service`] alone.
fn plan_every(world: &World, interval: &str) -> SidecarPlan {
    let upstream = Box::leak(Box::new(Recorder::start()));
    let plan = world.sidecar("service").policies(ALLOW_ALL).yaml(interval);
    plan.inbound("endpoint", "http", &upstream.url(), "")
}

async fn service(yaml: &str) -> (World, Sidecar) {
    let world = World::new();
    let service = plan(&world).yaml(yaml).start().await;
    (world, service)
}

fn client(world: &World) -> TlsClient {
    TlsClient::with(&world.ca.issue("/ns/test/sa/app"))
}

/// Waits until a handshake shows exactly this certificate, and is good for a request.
async fn shows(world: &World, service: &Sidecar, svid: &Svid) {
    let (client, address) = (client(world), service.inbound("endpoint"));
    eventually_so("a handshake with the certificate", async || {
        let Ok(stream) = client.connect(address).await else { return Err(service.log()) };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        if shown.as_ref() != Some(svid.leaf()) {
            return Err(service.log());
        }
        let answer = http1(stream).await.send(request("GET", "service.example", "/", &[], "")).await;
        assert_eq!(answer.status, StatusCode::OK);
        Ok(())
    })
    .await;
}

/// Whether a handshake of this client is accepted.
async fn works(client: &TlsClient, address: SocketAddr) -> bool {
    let Ok(stream) = client.connect(address).await else { return false };
    // With TLS 1.3 a refusal comes after the client's side is done.
    let mut raw = Raw::over(stream);
    raw.write("GET / HTTP/1.1\r\nhost: service.example\r\n\r\n").await;
    raw.answer().await.is_some_and(|answer| answer.status() == 200)
}

async fn accepted(client: &TlsClient, address: SocketAddr) {
    let deadline = Instant::now() + DEADLINE;
    while !works(client, address).await {
        assert!(Instant::now() < deadline, "never accepted");
    }
}

async fn eventually_ready(service: &Sidecar) {
    let deadline = Instant::now() + DEADLINE;
    while !get(service.health(), "/ready").await.status.is_success() {
        assert!(Instant::now() < deadline, "never ready");
    }
}

/// In place, the key first.
fn write_svid(folder: &Path, svid: &Svid) {
    let key = fs::write(folder.join("svid.key"), svid.key_pem());
    key.and_then(|()| fs::write(folder.join("svid.pem"), svid.chain_pem())).expect("is writable");
}

fn files(world: &World, svid: &Svid) -> Vec<(String, String)> {
    let file = |name: &str, content: String| (name.to_owned(), content);
    vec![
        file("svid.pem", svid.chain_pem()),
        file("svid.key", svid.key_pem()),
        file("pipeline.example.pem", world.ca.bundle()),
    ]
}

#[tokio::test]
async fn a_file_that_is_never_read_to_its_end_does_not_keep_the_process_from_ending() {
    /// open(2).
    const O_NONBLOCK: i32 = 0o4_000;
    let (_world, service) = service("").await;
    let (pipe, svid) = (service.directory().join(".next"), service.directory().join("svid.pem"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success(), "{made}");
    fs::rename(&pipe, &svid).expect("the folder is writable");
    // Only while somebody reads can it be opened so.
    let writer = || fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(&svid).ok();
    let held = eventually("the look at it", writer).await;
    service.stop().await;
    drop(held);
}
