//! The command line as people meet it: what it says, where its values come from, how it ends.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use time::{Duration, OffsetDateTime};

use crate::support::*;

async fn run(arguments: &[&str]) -> Output {
    run_in(&std::env::temp_dir(), arguments, &[]).await
}

async fn run_in(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = portcullis();
    command.current_dir(folder).args(arguments).envs(environment.iter().copied());
    Process::run(&arguments.join(" "), &mut command, "").await
}

#[tokio::test]
async fn usage_errors_exit_1_and_help_exits_0() {
    for (arguments, said) in [
        (&["rum"][..], "a similar subcommand exists: 'run'"),
        (&[], "Usage: portcullis <COMMAND>"),
        (&["run", "--confg", "x"], "a similar argument exists: '--config'"),
        (&["run", "--workers", "many"], "at least 1"),
        (&["run", "--workers", "0"], "at least 1"),
        (&["run", "--log-format", "xml"], "it is `json` or `text`"),
        (&["run", "--reload-interval", "10"], "no unit"),
        (&["check", "extra"], "unexpected argument 'extra'"),
        (&["ready", "--socket", "a", "--address", "127.0.0.1:1"], "cannot be used with"),
        (&["certs", "issue"], "required"),
    ] {
        let output = run(arguments).await;
        // 2 means denied.
        assert_eq!((output.code(), output.stdout.as_str()), (1, ""), "{arguments:?}\n{}", output.stderr);
        assert!(output.stderr.contains(said), "{arguments:?} does not say `{said}`:\n{}", output.stderr);
        assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
    }
    for arguments in [&["--help"][..], &["run", "--help"], &["check", "-h"], &["--version"], &["help", "ready"]] {
        let output = run(arguments).await;
        assert_eq!((output.code(), output.stderr.as_str()), (0, ""), "{arguments:?}");
    }
    assert_eq!(run(&["--version"]).await.stdout, format!("portcullis {}", env!("CARGO_PKG_VERSION")));
    let help = run(&["--help"]).await.stdout;
    for command in ["run", "check", "policy", "certs", "ready"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
    }
    assert!(help.contains("Exit codes"), "{help}");
}

const MANY_MISTAKES: &str = "\
identity:
  certificat: svid.pem
  private_key: svid.key
  trust_bundles:
    Pipeline.example: bundle.pem
policy:
  directory: policies
inbound:
  - name: Lake
    listen: 0.0.0.0:84430
    protocol: s4
    upstream: http://10.0.0.1:9000
outbound:
  - name: lake
    listen: 0.0.0.0:9001
    protocol: http
    upstream: lake
workers: 0
limit:
  connections: 1
";

#[tokio::test]
async fn a_bad_configuration_shows_every_mistake_at_once_with_its_line_and_what_to_write() {
    let world = World::new();
    world.write("portcullis.yaml", MANY_MISTAKES);
    for command in ["run", "check"] {
        let output = run_in(world.path(), &[command], &[]).await;
        assert_eq!((output.code(), output.stdout.as_str()), (1, ""), "{}", output.stderr);
        for (place, source, key, help) in [
            ("2:3", "certificat: svid.pem", "identity.certificat", "did you mean `certificate`?"),
            ("5:5", "Pipeline.example: bundle.pem", "identity.trust_bundles", "`pipeline.example`"),
            ("9:11", "- name: Lake", "inbound[0].name", "`lake`"),
            ("10:13", "listen: 0.0.0.0:84430", "inbound[0].listen", "IP:PORT"),
            ("11:15", "protocol: s4", "inbound[0].protocol", "did you mean `s3`?"),
            ("12:15", "upstream: http://10.0.0.1:9000", "inbound[0].upstream", "unsafe_upstream_off_loopback"),
            ("14:5", "- name: lake", "outbound[0].peer", "spiffe://"),
            ("15:13", "listen: 0.0.0.0:9001", "outbound[0].listen", "`127.0.0.1:9001`"),
            ("17:15", "upstream: lake", "outbound[0].upstream", "`lake:PORT`"),
            ("18:10", "workers: 0", "workers", "at least 1"),
            ("19:1", "limit:", "limit", "did you mean `limits`?"),
        ] {
            let problem =
                output.stderr.split("\n\n").find(|problem| problem.contains(&format!("portcullis.yaml:{place}]")));
            let problem = problem.unwrap_or_else(|| panic!("nothing is said about {place}:\n{}", output.stderr));
            for part in [source, key, help, "^"] {
                assert!(problem.contains(part), "`{part}` is not in\n{problem}");
            }
        }
        assert!(output.stderr.ends_with("portcullis.yaml: 11 problems"), "{}", output.stderr);
        assert!(!output.stderr.contains('\u{1b}'), "colours without a terminal");
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_there_or_not_yaml_is_said_in_words() {
    let world = World::new();
    let output = run_in(world.path(), &["run", "--config", "missing.yaml"], &[]).await;
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("missing.yaml: cannot read the configuration: No such file"), "{}", output.stderr);
    assert!(output.stderr.contains("--config FILE"), "{}", output.stderr);
    for (text, said) in [("inbound: [", "portcullis.yaml:1:"), ("", "identity"), ("just text", "portcullis.yaml:1:1")] {
        world.write("portcullis.yaml", text);
        let output = run_in(world.path(), &["run"], &[]).await;
        assert_eq!(output.code(), 1, "{text}");
        assert!(output.stderr.contains(said), "`{text}` does not say `{said}`:\n{}", output.stderr);
    }
}

fn good(world: &World) -> SidecarPlan {
    let upstream = "http://127.0.0.1:9";
    world.sidecar("service").policies(ALLOW_ALL).inbound("endpoint", "http", upstream, "")
}

#[tokio::test]
async fn check_of_a_good_configuration_says_what_would_be_in_force() {
    let world = World::new();
    let output = good(&world).outbound("out", "http", "127.0.0.1:9", "any", "").check().await;
    assert_eq!((output.code(), output.stderr.as_str()), (0, ""), "{}", output.stdout);
    for part in [
        "ok    configuration  2 listeners",
        "ok    identity       spiffe://pipeline.example/ns/test/sa/service expires in 23 h",
        "ok    trust          pipeline.example: 1 root",
        "ok    policy         1 policy, digest sha256:",
        "test.cedar:2:1: policy `allow-all` permits every workload",
        "ok    listener       inbound endpoint on 127.0.0.1:",
        "ok    listener       outbound out on 127.0.0.1:",
        "ok    listener       health on 127.0.0.1:",
        "ok    listener       admin on 127.0.0.1:",
        "ok    audit          /",
    ] {
        assert!(output.stdout.contains(part), "`{part}` is not in\n{}", output.stdout);
    }
    assert!(!world.path().join("service/audit.jsonl").exists(), "a check leaves nothing behind");
    // The key is whoever reads it.
    let key = world.path().join("service/svid.key");
    for (mode, is_open) in [(0o640, false), (0o644, true)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("it is ours");
        let output = run_in(world.path(), &["check", "--config", "service/portcullis.yaml"], &[]).await;
        assert_eq!(output.code(), 0, "{output:#?}");
        let said = output.stdout.contains("note  identity       everybody on this machine may read `");
        assert_eq!(said, is_open, "{mode:o}\n{}", output.stdout);
    }
}

#[tokio::test]
async fn check_finds_everything_that_would_fail_at_start() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("is bound").to_string();
    let past = |params: &mut rcgen::CertificateParams| {
        params.not_before = OffsetDateTime::now_utc() - Duration::days(2);
        params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    };
    let mismatched = Svid { key: world.ca.issue("/ns/test/sa/service").key, ..world.ca.issue("/ns/test/sa/service") };
    let stranger = Ca::new("pipeline.example").issue("/ns/test/sa/service");
    let authority = world.ca.issue_with("/ns/test/sa/service", |params| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    });
    for (what, plan, code, said) in [
        ("an expired SVID", good(&world).svid(world.ca.issue_with("/ns/test/sa/service", past)), 1, "expired"),
        ("a key of another certificate", good(&world).svid(mismatched), 1, "private key does not belong"),
        ("an SVID of another CA", good(&world).svid(stranger), 1, "does not stand up to our own trust bundles"),
        ("a CA certificate as SVID", good(&world).svid(authority), 1, "CA"),
        ("an empty bundle", good(&world).trust("other.example", ""), 1, "other.example"),
        ("a policy that is none", good(&world).policies("permit"), 3, "test.cedar:1:"),
        (
            "a policy about what is not there",
            good(&world).policies("@id(\"a\") permit (principal, action == Action::\"x\", resource);"),
            3,
            "Action::\"x\"",
        ),
        ("entities that are none", good(&world).policy_file("entities.json", "{"), 3, "entities.json"),
        (
            "an audit folder that is not there",
            good(&world).audit("sink: file\npath: /nonexistent/a"),
            1,
            "/nonexistent/a",
        ),
    ] {
        let mut names: Vec<_> = fs::read_dir(world.folder("service/policies")).expect("is a folder").collect();
        names.drain(..).for_each(|entry| fs::remove_file(entry.expect("can be read").path()).expect("is a file"));
        let output = plan.check().await;
        let all = format!("{}\n{}", output.stdout, output.stderr);
        assert_eq!(output.code(), code, "{what}:\n{all}");
        assert!(all.contains("FAIL  "), "{what}:\n{all}");
        assert!(all.contains(said), "{what} does not say `{said}`:\n{all}");
        let failures = output.stdout.lines().filter(|line| line.starts_with("FAIL")).count();
        assert_eq!(failures, 1, "{what}: everything else is good:\n{all}");
    }

    // What is taken, what is missing: said together.
    let _ = fs::remove_file(world.path().join("service/policies/entities.json"));
    let config = good(&world).config().replacen("listen: 127.0.0.1:0", &format!("listen: {address}"), 1);
    let config = config.replace("admin:\n  listen: 127.0.0.1:0", &format!("admin:\n  listen: {address}"));
    let file = world.write("taken.yaml", &config);
    fs::remove_file(world.path().join("service/svid.key")).expect("is there");
    let output = run_in(world.path(), &["check", "--config", &file.to_string_lossy()], &[]).await;
    // One file, one address for two doors.
    assert_eq!(output.code(), 1, "{output:#?}");
    let all = format!("{}\n{}", output.stdout, output.stderr);
    assert!(all.contains(&address), "{all}");
    let config = config.replace(&format!("admin:\n  listen: {address}"), "admin:\n  listen: 127.0.0.1:0");
    fs::write(&file, config).expect("is writable");
    let output = run_in(world.path(), &["check", "--config", &file.to_string_lossy()], &[]).await;
    assert_eq!(output.code(), 1, "{output:#?}");
    for part in ["svid.key", "would wait for it", &format!("cannot listen on `{address}`"), "in use"] {
        assert!(output.stdout.contains(part), "`{part}` is not in\n{}", output.stdout);
    }
}

#[tokio::test]
async fn a_start_that_fails_says_why_in_one_line() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = taken.local_addr().expect("is bound").to_string();
    let mismatched = Svid { key: world.ca.issue("/ns/test/sa/service").key, ..world.ca.issue("/ns/test/sa/service") };
    let output = good(&world).svid(mismatched).run_to_end().await;
    assert_eq!(output.code(), 1);
    assert!(
        output.stderr.starts_with("portcullis: identity: ") && output.stderr.lines().count() == 1,
        "{}",
        output.stderr
    );

    drop(good(&world).check().await);
    let config = good(&world).config().replacen("listen: 127.0.0.1:0", &format!("listen: {address}"), 1);
    let file = world.write("taken.yaml", &config);
    let output = run_in(world.path(), &["run", "--config", &file.to_string_lossy()], &[]).await;
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains(&format!("listener `endpoint`: cannot listen on `{address}`")), "{}", output.stderr);
}

#[tokio::test]
async fn a_flag_outweighs_the_environment_which_outweighs_the_file() {
    let world = World::new();
    let threads = |sidecar: &Sidecar| {
        let tasks = fs::read_dir(format!("/proc/{}/task", sidecar.process.pid())).expect("it runs");
        let names = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("data-")).count()
    };
    let file = good(&world).yaml("workers: 2").start().await;
    // A thread has its name only once it runs.
    eventually("two data threads", || (threads(&file) == 2).then_some(())).await;
    file.stop().await;
    let flag = good(&world).yaml("workers: 2").arguments(&["--workers", "3"]).start().await;
    eventually("three data threads", || (threads(&flag) == 3).then_some(())).await;
    flag.stop().await;

    // The environment between them, seen by what `check` refuses.
    drop(good(&world).check().await);
    let file = world.path().join("service/portcullis.yaml").display().to_string();
    let environment = [("PORTCULLIS_CONFIG", file.as_str()), ("PORTCULLIS_WORKERS", "257")];
    let output = run_in(world.path(), &["check"], &environment).await;
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("--workers: `257` is out of range"), "{}", output.stderr);
    let output = run_in(world.path(), &["check", "--workers", "1"], &environment).await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
    let output = run_in(world.path(), &["check"], &[("PORTCULLIS_WORKERS", "many")]).await;
    assert_eq!(output.code(), 1);
    assert!(output.stderr.contains("comes from the environment: PORTCULLIS_WORKERS"), "{}", output.stderr);
}

#[tokio::test]
async fn options_that_take_a_protection_away_are_named_at_start() {
    let world = World::new();
    let plan = world.sidecar("service").policies(ALLOW_ALL);
    let options = "unsafe_allow_override_headers: [x-http-method-override]";
    let sidecar = plan.inbound("endpoint", "http", "http://127.0.0.1:9", options).start().await;
    let line = sidecar.logged("takes a protection away").await;
    assert!(line.contains("WARN") && line.contains("inbound[0].unsafe_allow_override_headers"), "{line}");
    sidecar.stop().await;
}

#[tokio::test]
async fn the_log_is_json_or_text_and_as_much_as_was_asked_for() {
    let world = World::new();
    let quiet = good(&world).arguments(&["--log-format", "text", "--log-filter", "off"]).check().await;
    assert_eq!(quiet.code(), 0, "{}", quiet.stdout);
    let json = good(&world).start().await;
    for line in json.process.stderr.so_far() {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "`{field}` is not in {line}");
        }
    }
    json.stop().await;
    let file = world.path().join("service/portcullis.yaml").display().to_string();
    let mut command = portcullis();
    let text = Process::spawn("text", command.args(["run", "--log-format", "text", "--config", &file]));
    let line = text.stderr.find("a line for people", |line| line.contains("listening").then(|| line.to_owned())).await;
    assert!(!line.contains('{') && line.contains("INFO") && line.contains("listener=endpoint"), "{line}");
    assert!(!line.contains('\u{1b}'), "colours without a terminal: {line:?}");
}

#[tokio::test]
async fn certificates_for_development_are_made_once_and_serve_two_sidecars() {
    let world = World::new();
    let dir = world.path().join("dev");
    let dir = dir.to_str().expect("is UTF-8");
    let made = run(&["certs", "init", "--trust-domain", "dev.example", "--dir", dir]).await;
    assert_eq!(made.code(), 0, "{}", made.stderr);
    let issued = run(&["certs", "issue", "spiffe://dev.example/ns/a/sa/b", "--dir", dir]).await;
    assert_eq!(issued.code(), 0, "{}", issued.stderr);
    let at = Path::new(dir).join("dev.example");
    let leaf = at.join("ns/a/sa/b");
    for key in [at.join("ca.key"), leaf.join("svid.key")] {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::metadata(&key).expect("was made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", key.display());
    }
    let before = fs::read(at.join("ca.pem")).expect("was made");
    let again = run(&["certs", "init", "--trust-domain", "dev.example", "--dir", dir]).await;
    assert_eq!(fs::read(at.join("ca.pem")).expect("is there"), before, "an existing CA was overwritten");
    assert!(format!("{}{}", again.stdout, again.stderr).contains("--force"), "{again:?}");

    let (svid, bundle) = (leaf.join("svid.pem"), at.join("bundle.pem"));
    let (svid, bundle) = (svid.to_str().expect("is UTF-8"), bundle.to_str().expect("is UTF-8"));
    let shown = run(&["certs", "show", svid, "--bundle", bundle]).await;
    assert_eq!(shown.code(), 0, "{}{}", shown.stdout, shown.stderr);
    assert!(shown.stdout.contains("spiffe://dev.example/ns/a/sa/b"), "{}", shown.stdout);
    let authority = run(&["certs", "show", at.join("ca.pem").to_str().expect("is UTF-8"), "--output", "json"]).await;
    assert!(authority.json().is_object() || authority.json().is_array(), "{}", authority.stdout);

    // They are good enough for a sidecar.
    let (at, policies) = (leaf.display(), world.folder("policies"));
    fs::write(policies.join("all.cedar"), ALLOW_ALL).expect("is writable");
    let config = format!(
        "identity:\n  certificate: {at}/svid.pem\n  private_key: {at}/svid.key\n  trust_bundles:\n    dev.example: {bundle}\n\
         policy:\n  directory: {}\ninbound:\n  - name: a\n    listen: 127.0.0.1:0\n    protocol: http\n    upstream: http://127.0.0.1:9\n",
        policies.display()
    );
    let file = world.write("dev.yaml", &config);
    let output = run(&["check", "--config", file.to_str().expect("is UTF-8")]).await;
    assert_eq!(output.code(), 0, "{}{}", output.stdout, output.stderr);
}

#[tokio::test]
async fn policies_are_validated_and_tested_from_the_command_line() {
    let world = World::new();
    let good = world.folder("good");
    fs::write(good.join("a.cedar"), ALLOW_ALL).expect("is writable");
    let bad = world.folder("bad");
    fs::write(bad.join("a.cedar"), "@id(\"a\")\npermit (principal, action == Action::\"http:GTE\", resource);")
        .expect("is writable");
    let good = run(&["policy", "validate", "--policies", good.to_str().expect("is UTF-8")]).await;
    assert_eq!(good.code(), 0, "{good:?}");
    let bad = run(&["policy", "validate", "--policies", bad.to_str().expect("is UTF-8")]).await;
    assert_eq!(bad.code(), 3, "{bad:?}");
    assert!(format!("{}{}", bad.stdout, bad.stderr).contains("a.cedar:2:"), "{bad:?}");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let tested = run(&["policy", "test", shipped.to_str().expect("is UTF-8")]).await;
    assert_eq!(tested.code(), 0, "{}{}", tested.stdout, tested.stderr);
    let mut nothing = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    let output = Process::run("policy", nothing.arg("policy"), "").await;
    assert_eq!(output.code(), 1, "{output:?}");
}

#[tokio::test]
async fn a_reader_that_stops_reading_ends_a_command_quietly() {
    let mut shell = Command::new("sh");
    // What is written after the reader is gone meets a closed end: the last of these at the latest, as they fill the pipe.
    let once = "\"$0\" policy schema";
    let script = format!("{{ {once}; {once}; {once}; {once}; echo \"code $?\" >&2; }} | head -c 1");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_portcullis")]);
    let output = Process::run("policy schema | head", &mut shell, "").await;
    assert_eq!(output.stderr, "code 141");
}
