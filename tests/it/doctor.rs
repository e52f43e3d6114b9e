//! `portcullis doctor` and `certs show`: what they say of what is right, and of each thing that is wrong, with what to do.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use portcullis::identity::workload_api::Offer;
use rcgen::ExtendedKeyUsagePurpose;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::*;

const SERVICE: &str = "/ns/test/sa/service";

/// A TLS server that presents `svid` and takes any client; what clients send is read away.
async fn presenting(svid: &Svid) -> SocketAddr {
    let acceptor = server_config(svid, &["h2", "http/1.1"]);
    serve(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.read_to_end(&mut Vec::new()).await;
                let _ = stream.shutdown().await;
            }
        }
    })
    .await
}

async fn serve<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(tokio::net::TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    address
}

/// An address at which nobody listens.
async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports").local_addr().expect("is bound")
}

fn app(world: &World, to: SocketAddr) -> SidecarPlan {
    let app = world.sidecar("app").policies(ALLOW_ALL);
    app.outbound("endpoint", "http", &to.to_string(), &world.id("service"), "")
}

/// What was said, with what to do in the same line.
fn findings(output: &Output) -> Vec<String> {
    output.stdout.replace("\n                     do: ", " | do: ").lines().map(str::to_owned).collect()
}

fn assert_says(output: &Output, begins: &str, parts: &[&str]) {
    let found = findings(output);
    let is_it = |line: &&String| line.starts_with(begins) && parts.iter().all(|part| line.contains(part));
    assert!(found.iter().any(|line| is_it(&line)), "no `{begins}` line with {parts:?} in\n{}", output.stdout);
}

#[tokio::test]
async fn where_all_is_well_each_check_says_so_and_nothing_is_left_behind() {
    let world = World::new();
    let to = presenting(&world.ca.issue(SERVICE)).await;
    let service = RawUpstream::answering_heads();
    let app = app(&world, to).inbound("in", "http", &service.url(), "");
    let output = app.doctor().await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    for (begins, parts) in [
        ("ok    configuration", &["2 listeners"][..]),
        ("ok    source", &["certificate ", "svid.pem, mode 0644"]),
        ("ok    identity", &["spiffe://pipeline.example/ns/test/sa/app, serial ", "expires in 23 h"]),
        ("ok    trust", &["pipeline.example: 1 authority, the first expires in"]),
        ("ok    audit", &["audit.jsonl: can be written"]),
        ("ok    listener", &["outbound endpoint on 127.0.0.1:0: free"]),
        ("ok    upstream", &["inbound in, ", "takes connections"]),
        ("ok    upstream", &["outbound endpoint, ", "TLSv1.3 handshake, ALPN h2"]),
        ("ok    upstream", &["presents spiffe://pipeline.example/ns/test/sa/service, expires in"]),
        ("ok    upstream", &["its chain stands up to the bundle of its trust domain"]),
        ("ok    upstream", &["is as `peer: spiffe://pipeline.example/ns/test/sa/service` asks"]),
        ("ok    upstream", &["lets us in"]),
        ("ok    clock", &["later than every certificate seen began"]),
    ] {
        assert_says(&output, begins, parts);
    }
    assert!(!world.path().join("app/audit.jsonl").exists(), "a look leaves nothing behind");
    assert!(!output.stdout.contains('\u{1b}'), "colours without a terminal");
}

#[tokio::test]
async fn a_peer_that_breaks_a_rule_is_named_with_the_rule_and_what_to_do() {
    let world = World::new();
    let ca = &world.ca;
    let now = OffsetDateTime::now_utc();
    let client_only = ca.issue_with(SERVICE, |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let expired = ca.issue_with(SERVICE, |p| p.not_after = now - Duration::minutes(5));
    let future = ca.issue_with(SERVICE, |p| p.not_before = now + Duration::minutes(5));
    for (svid, rule, parts) in [
        (ca.issue("/ns/test/sa/other"), "unexpected-peer", &["/ns/test/sa/other answered", "do: correct `peer`"][..]),
        (Ca::new("pipeline.example").issue(SERVICE), "chain", &["do: bring the trust domain's current bundle"]),
        (Ca::new("partner.example").issue(SERVICE), "unknown-trust-domain", &["do: if it is a partner"]),
        (client_only, "extended-key-usage", &["lacks serverAuth", "do: have the CA set both"]),
        (expired, "expired", &["do: see why rotation stopped"]),
        (future, "not-yet-valid", &["do: compare the clocks"]),
        (ca.issue_uri("spiffe://pipeline.example"), "spiffe-id-has-path", &["do: give the workload a path"]),
    ] {
        let output = app(&world, presenting(&svid).await).doctor().await;
        assert_eq!(output.code(), 1, "{rule}: {}", output.stdout);
        let rule = format!("`{rule}`: ");
        assert_says(&output, "FAIL  upstream", &[&[rule.as_str()], parts].concat());
    }
}

#[tokio::test]
async fn an_upstream_that_is_not_there_or_no_sidecar_is_told_apart() {
    let world = World::new();
    let output = app(&world, nobody().await).doctor().await;
    assert_eq!(output.code(), 1);
    assert_says(&output, "FAIL  upstream", &["Connection refused", "do: nothing listens there"]);
    let plain = serve(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let output = app(&world, plain.await).doctor().await;
    assert_eq!(output.code(), 1);
    assert_says(&output, "FAIL  upstream", &["`tls`: ", "do: see whether TLS is spoken there"]);
    // A name that no resolver has (RFC 6761, 6.4).
    let plan = world.sidecar("app").policies(ALLOW_ALL);
    let output = plan.outbound("endpoint", "http", "lake.invalid:8443", "any", "").doctor().await;
    assert_says(&output, "FAIL  upstream", &["the name does not resolve", "do: see the name, and the DNS"]);
}

#[tokio::test]
async fn a_peer_that_does_not_want_us_is_named_with_its_alert() {
    let world = World::new();
    let upstream = Recorder::start();
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let to = service.inbound("endpoint");
    let output = app(&world, to).doctor().await;
    assert_eq!(output.code(), 0, "{}", output.stdout);
    assert_says(&output, "ok    upstream", &["lets us in"]);
    let stranger = Ca::new("partner.example");
    let plan = app(&world, to).svid(stranger.issue("/ns/test/sa/app")).trust("partner.example", &stranger.bundle());
    let output = plan.doctor().await;
    assert_eq!(output.code(), 1, "{}", output.stdout);
    assert_says(&output, "FAIL  upstream", &["it does not let us in: `alert`", "do: look at the peer's records"]);
    assert_says(&output, "ok    upstream", &["is as `peer:"]);
    let records = service.stop().await;
    let refused = records.find("the refusal", |record| record["reason"] == "unknown-trust-domain").await;
    assert_eq!(refused["outcome"], "refused");
}

#[tokio::test]
async fn a_running_sidecar_is_asked_and_not_disturbed() {
    let world = World::new();
    let upstream = Recorder::start();
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    let sidecar = &pair.outbound;
    // The configuration with the ports that the system chose.
    let config = fs::read_to_string(sidecar.directory().join("portcullis.yaml")).expect("it was written");
    let mut ports = [sidecar.outbound("endpoint"), sidecar.health(), sidecar.admin()].into_iter();
    let config: Vec<String> = config
        .lines()
        .map(|line| match line.split_once("127.0.0.1:0") {
            Some((before, after)) => format!("{before}{}{after}", ports.next().expect("three addresses")),
            None => line.to_owned(),
        })
        .collect();
    let file = world.write("running.yaml", &(config.join("\n") + "\n"));
    let mut doctor = portcullis();
    doctor.args(["doctor", "--config"]).arg(&file);
    let output = Process::run("doctor", &mut doctor, "").await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    for door in ["outbound endpoint", "health", "admin"] {
        assert_says(&output, "ok    listener", &[door, "held by the portcullis that runs (pid "]);
    }
    assert_says(&output, "ok    sidecar", &["runs and is ready"]);
    assert_eq!(get(pair.address(), "/").await.status.as_u16(), 200, "it still serves");
    // What it could not reload is said, and that the source has moved on.
    fs::write(sidecar.directory().join("policies/test.cedar"), "permit (").expect("the folder is writable");
    sidecar.status_with("the fault", |status| status["policy"]["last_error"].is_string()).await;
    let output = Process::run("doctor", &mut doctor, "").await;
    assert_eq!(output.code(), 1, "{}", output.stdout);
    assert_says(&output, "FAIL  sidecar", &["keeps its last good policies", "do: correct it"]);
    assert_says(&output, "FAIL  policy", &["do: `portcullis policy validate`"]);
    pair.stop().await;
}

#[tokio::test]
async fn what_is_wrong_on_this_side_is_said_with_what_to_do() {
    let world = World::new();
    let to = presenting(&world.ca.issue(SERVICE)).await;
    let now = OffsetDateTime::now_utc();
    let other = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let held = format!("listen: {}", other.local_addr().expect("is bound"));
    let overdue = world.ca.issue_with("/ns/test/sa/app", |p| {
        (p.not_before, p.not_after) = (now - Duration::hours(3), now + Duration::hours(1));
    });
    let expired = world.ca.issue_with("/ns/test/sa/app", |p| p.not_after = now - Duration::minutes(1));
    for (plan, code, begins, parts) in [
        (app(&world, to).svid(overdue), 0, "warn  identity", &["expires in 59 min", "do: rotation is overdue"][..]),
        (app(&world, to).svid(expired), 1, "FAIL  identity", &["`expired`", "do: see why rotation stopped"]),
        (
            world.sidecar("app").outbound("other", "http", &to.to_string(), "any", &held),
            1,
            "FAIL  listener",
            &["outbound other", "held by `", "do: end `"],
        ),
        (
            app(&world, to).audit("sink: file\npath: /nonexistent/audit.jsonl"),
            1,
            "FAIL  audit",
            &["No such file", "do: let this user write it"],
        ),
        (app(&world, to).policies("permit (principal)"), 1, "FAIL  policy", &["1 problem,", "do: `portcullis policy"]),
    ] {
        let output = plan.doctor().await;
        assert_eq!(output.code(), code, "{}{}", output.stdout, output.stderr);
        assert_says(&output, begins, parts);
    }
}

#[tokio::test]
async fn files_that_are_not_there_or_open_to_everybody_are_named_with_their_links() {
    let world = World::new();
    let to = presenting(&world.ca.issue(SERVICE)).await;
    assert_eq!(app(&world, to).doctor().await.code(), 0);
    let folder = world.path().join("app");
    let doctor = async || {
        let mut command = portcullis();
        Process::run("doctor", command.arg("doctor").arg("--config").arg(folder.join("portcullis.yaml")), "").await
    };
    let key = folder.join("svid.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let output = doctor().await;
    assert_eq!(output.code(), 0, "{}", output.stdout);
    assert_says(&output, "warn  source", &["svid.key, mode 0644", "everybody may read the key", "do: chmod o-rwx"]);
    fs::rename(&key, folder.join("elsewhere.key")).expect("the folder is writable");
    std::os::unix::fs::symlink("elsewhere.key", &key).expect("the folder is writable");
    assert_says(&doctor().await, "warn  source", &["svid.key -> ", "elsewhere.key, mode 0644"]);
    fs::remove_file(folder.join("elsewhere.key")).expect("the folder is writable");
    let output = doctor().await;
    assert_eq!(output.code(), 1, "{}", output.stdout);
    assert_says(&output, "FAIL  source", &["elsewhere.key: No such file", "do: `portcullis run` waits for it"]);
    assert_says(&output, "FAIL  identity", &["`unreadable-file`"]);
    assert_says(&output, "note  upstream", &["chain and peer are not judged"]);
}

#[tokio::test]
async fn the_report_in_json_has_every_rule_of_what_was_presented() {
    let world = World::new();
    let to = presenting(&world.ca.issue("/ns/test/sa/other")).await;
    let output = app(&world, to).arguments(&["--output", "json", "--timeout", "10s"]).doctor().await;
    let report = output.json();
    assert_eq!((output.code(), &report["ok"]), (1, &Value::Bool(false)), "{}", output.stderr);
    let findings = report["findings"].as_array().expect("a list");
    let failed: Vec<&Value> = findings.iter().filter(|finding| finding["outcome"] == "failed").collect();
    assert_eq!(failed.len(), 1, "{failed:#?}");
    assert!(failed[0]["advice"].as_str().is_some_and(|advice| advice.starts_with("correct `peer`")), "{failed:#?}");
    let presented = findings.iter().find_map(|finding| finding["certificates"].as_array()).expect("was presented");
    let rules = presented[0]["rules"].as_array().expect("a list");
    assert!(rules.len() > 20 && rules.iter().all(|rule| rule["result"] == "pass"), "{rules:#?}");
}

#[tokio::test]
async fn a_local_postgresql_is_asked_whether_it_is_one() {
    let world = World::new();
    let server = |answer: &'static [u8]| {
        serve(move |mut stream| async move {
            let mut request = [0; 8];
            if stream.read_exact(&mut request).await.is_ok() {
                assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47]);
                let _ = stream.write_all(answer).await;
            }
        })
    };
    let doctor = async |to: SocketAddr, options: &str| {
        let warehouse = world.sidecar("warehouse").policies(ALLOW_ALL);
        warehouse.inbound("warehouse", "postgres", &to.to_string(), options).doctor().await
    };
    let output = doctor(server(b"N").await, "").await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    assert_says(&output, "ok    upstream", &["inbound warehouse", "speaks PostgreSQL"]);
    let output = doctor(server(b"H").await, "").await;
    assert_eq!(output.code(), 1);
    assert_says(&output, "FAIL  upstream", &["does not speak PostgreSQL", "0x48", "do: see what listens there"]);
    let output = doctor(server(b"N").await, "upstream_tls: request").await;
    assert_eq!(output.code(), 1);
    assert_says(&output, "FAIL  upstream", &["`no-tls`", "do: switch TLS on there"]);
}

async fn show(arguments: &[&str]) -> Output {
    Process::run("certs show", portcullis().args(["certs", "show"]).args(arguments), "").await
}

#[tokio::test]
async fn certs_show_tells_what_a_server_presents_and_whether_it_wants_us() {
    let world = World::new();
    let upstream = Recorder::start();
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "http", &upstream.url(), "").start().await;
    let target = service.inbound("endpoint").to_string();
    let output = show(&[&target]).await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    for part in [
        "asks for a certificate  yes",
        "lets us in",
        "no: peer refused",
        "URI SAN  spiffe://pipeline.example/ns/test/sa/service",
    ] {
        assert!(output.stdout.contains(part), "no `{part}` in\n{}", output.stdout);
    }
    let own = world.ca.issue("/ns/test/sa/app");
    let (certificate, key) = (world.write("own.pem", &own.chain_pem()), world.write("own.key", &own.key_pem()));
    let bundle = world.write("bundle.pem", &world.ca.bundle());
    let [certificate, key, bundle] = [&certificate, &key, &bundle].map(|path| path.to_str().expect("is UTF-8"));
    let with = |bundle| show_args(&[&target, "--certificate", certificate, "--private-key", key, "--bundle", bundle]);
    let output = show(&with(bundle).each_ref().map(String::as_str)).await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    assert!(
        output.stdout.contains("lets us in              yes") && output.stdout.contains("pass  chain"),
        "{}",
        output.stdout
    );
    let stranger = world.write("stranger.pem", &Ca::new("pipeline.example").bundle());
    let output = show(&with(stranger.to_str().expect("is UTF-8")).each_ref().map(String::as_str)).await;
    assert_eq!(output.code(), 1);
    assert!(
        output.stdout.contains("FAIL  chain") && output.stdout.contains("do: bring the trust domain's"),
        "{}",
        output.stdout
    );
    let output = show(&[&nobody().await.to_string()]).await;
    assert!(output.code() == 1 && output.stderr.contains("Connection refused"), "{}", output.stderr);
    service.stop().await;
}

fn show_args<const N: usize>(arguments: &[&str; N]) -> [String; N] {
    arguments.map(str::to_owned)
}

#[tokio::test]
async fn certs_show_asks_postgresql_for_tls_in_its_own_words() {
    let world = World::new();
    let acceptor = server_config(&world.ca.issue("/ns/data/sa/warehouse"), &["postgresql"]);
    let to = serve(move |mut stream| {
        let acceptor = acceptor.clone();
        async move {
            if stream.read_exact(&mut [0; 8]).await.is_ok()
                && stream.write_all(b"S").await.is_ok()
                && let Ok(mut stream) = acceptor.accept(stream).await
            {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    let target = to.await.to_string();
    let output = show(&[&target, "--starttls", "postgres", "--alpn", "postgresql"]).await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("ALPN                    postgresql"), "{}", output.stdout);
    assert!(output.stdout.contains("spiffe://pipeline.example/ns/data/sa/warehouse"), "{}", output.stdout);
}

#[tokio::test]
async fn certs_show_goes_through_a_folder_and_leaves_keys_alone() {
    let world = World::new();
    let svid = world.ca.issue("/ns/test/sa/app");
    world.write("svid.pem", &svid.chain_pem());
    world.write("svid.key", &svid.key_pem());
    world.write("trust.pem", &world.ca.bundle());
    let folder = world.path().to_str().expect("is UTF-8").to_owned();
    let output = show(&[&folder]).await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    assert!(output.stdout.contains("svid.pem: certificate 1 of 1, leaf"), "{}", output.stdout);
    assert!(output.stdout.contains("trust.pem: certificate 1 of 1, signing certificate"), "{}", output.stdout);
    assert!(!output.stdout.contains("svid.key"), "{}", output.stdout);
    world.write("cut.pem", "-----BEGIN CERTIFICATE-----\nMIIB");
    let output = show(&[&folder, "--output", "json"]).await;
    let targets = output.json();
    let kinds: Vec<&str> = targets.as_array().expect("a list").iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!((output.code(), kinds.as_slice()), (1, &["nothing", "certificates", "certificates"][..]), "{targets:#}");
}

/// A configuration whose identity comes from the Workload API at this socket.
fn by_workload_api(world: &World, socket: &str, further: &str) -> std::path::PathBuf {
    let at = world.folder("workload");
    fs::create_dir_all(at.join("policies")).expect("the folder is writable");
    fs::write(at.join("policies/test.cedar"), ALLOW_ALL).expect("the folder is writable");
    let config = format!(
        "identity:\n  source: workload_api\n  address: {socket}\n{further}policy:\n  directory: policies\noutbound:\n  - name: lake\n    \
         listen: 127.0.0.1:0\n    protocol: http\n    upstream: 127.0.0.1:9\n    peer: any\naudit:\n  sink: stdout\n"
    );
    let file = at.join("portcullis.yaml");
    fs::write(&file, config).expect("the folder is writable");
    file
}

async fn doctor(file: &std::path::Path) -> Output {
    let mut command = portcullis();
    command.args(["doctor", "--timeout", "10s", "--config"]).arg(file).env_remove("SPIFFE_ENDPOINT_SOCKET");
    Process::run("doctor", &mut command, "").await
}

#[tokio::test]
async fn the_workload_api_is_asked_and_what_it_says_is_told_apart() {
    let world = World::new();
    let socket = world.path().join("agent.sock");
    let address = format!("unix:{}", socket.display());
    let absent = doctor(&by_workload_api(&world, &address, "")).await;
    assert_eq!(absent.code(), 1);
    assert_says(&absent, "FAIL  identity", &["`unavailable`", "cannot be reached", "do: see whether the agent runs"]);
    let agent = Agent::start(&socket, Offer::none());
    let nobody = doctor(&by_workload_api(&world, &address, "")).await;
    assert_eq!(nobody.code(), 1);
    assert_says(&nobody, "FAIL  identity", &["`no_identity`", "PermissionDenied", "do: make a registration entry"]);
    let shown = show(&[&address]).await;
    assert!(shown.code() == 1 && shown.stderr.contains("`no_identity`"), "{}", shown.stderr);
    let svid = world.ca.issue("/ns/test/sa/app");
    let id = svid.id.clone();
    agent.offer(offer(x509([entry(&svid, &world.ca, "internal")])));
    let output = doctor(&by_workload_api(&world, &address, "  hint: internal\n")).await;
    assert_says(&output, "ok    source", &["the Workload API at ", "answers"]);
    assert_says(&output, "ok    identity", &[id.as_str(), "expires in 23 h"]);
    assert_says(&output, "ok    trust", &["pipeline.example: 1 authority"]);
    let output = doctor(&by_workload_api(&world, &address, "  hint: external\n")).await;
    assert_says(&output, "FAIL  identity", &["`not_offered`", "internal", "do: correct `identity.hint`"]);
    let shown = show(&[&address]).await;
    assert_eq!(shown.code(), 0, "{}{}", shown.stdout, shown.stderr);
    for part in [
        "hint       internal",
        "SPIFFE ID  spiffe://pipeline.example/ns/test/sa/app",
        "trust domain       pipeline.example",
        "pass  chain",
    ] {
        assert!(shown.stdout.contains(part), "no `{part}` in\n{}", shown.stdout);
    }
    assert!(!shown.stdout.contains("PRIVATE"), "{}", shown.stdout);
}

#[tokio::test]
async fn revocation_lists_are_told_with_their_age_and_whom_they_keep_out() {
    let world = World::new();
    let (service, other) = (world.ca.issue(SERVICE), world.ca.issue("/ns/test/sa/other"));
    let to = presenting(&service).await;
    let now = OffsetDateTime::now_utc();
    let doctor = async |revoked: &Svid, next: OffsetDateTime| {
        let list = world.write("crl.pem", &world.ca.crl(1, &[revoked], next));
        let keys = format!("crl:\n  files:\n    pipeline.example: {}", list.display());
        app(&world, to).identity_keys(&keys).doctor().await
    };
    let output = doctor(&other, now + Duration::hours(1)).await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    assert_says(
        &output,
        "ok    revocation",
        &["pipeline.example: list of `CN=", "1 certificate", "the next is due in 59 min"],
    );
    let output = doctor(&service, now + Duration::hours(1)).await;
    assert_eq!(output.code(), 1, "{}", output.stdout);
    assert_says(&output, "FAIL  upstream", &["`revoked`", "do: nothing, if it is meant"]);
    let list = world.path().join("crl.pem");
    let shown = show(&[list.to_str().expect("is UTF-8")]).await;
    assert_eq!(shown.code(), 0, "{}{}", shown.stdout, shown.stderr);
    assert!(shown.stdout.contains("crl.pem: revocation lists\n  issuer   CN="), "{}", shown.stdout);
    let output = doctor(&other, now - Duration::minutes(5)).await;
    assert_eq!(output.code(), 1, "{}", output.stdout);
    assert_says(&output, "FAIL  revocation", &["the next was due 5 min", "do: see why the CA's next list"]);
    let keys = format!("crl:\n  on_expired: allow\n  files:\n    pipeline.example: {}", list.display());
    let output = app(&world, to).identity_keys(&keys).doctor().await;
    assert_eq!(output.code(), 0, "{}", output.stdout);
    assert_says(&output, "warn  revocation", &["the next was due 5 min", "`crl.on_expired: allow`"]);
    let shown = show(&[list.to_str().expect("is UTF-8")]).await;
    assert!(shown.code() == 1 && shown.stdout.contains("FAIL  `crl-expired`"), "{}", shown.stdout);
}

#[tokio::test]
async fn a_revocation_list_that_its_authority_did_not_sign_is_a_failure_from_the_start() {
    let world = World::new();
    let (service, forger) = (world.ca.issue(SERVICE), Ca::new("pipeline.example"));
    let to = presenting(&service).await;
    let doctor = async |ca: &Ca| {
        let list = world.write("crl.pem", &ca.crl(1, &[], OffsetDateTime::now_utc() + Duration::hours(1)));
        let keys = format!("crl:\n  files:\n    pipeline.example: {}", list.display());
        app(&world, to).identity_keys(&keys).doctor().await
    };
    let output = doctor(&forger).await;
    assert_eq!(output.code(), 1, "{}", output.stdout);
    assert_says(&output, "FAIL  revocation", &["`crl-signature`", "is not signed by that authority", "do: "]);
    let output = doctor(&world.ca).await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
}
