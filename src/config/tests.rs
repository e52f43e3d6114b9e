//! Whole files: good ones, bad ones, and the published documents.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::identity::SpiffeIdPattern;

mod bad_files;
mod bad_values;
mod databases;
mod identities;
mod policies;
mod published;
mod tokens;

/// A file that has what most have. The tables below change one thing each.
pub(super) const GOOD: &str = "\
identity:
  certificate: svid.pem
  private_key: svid.key
  trust_bundles:
    pipeline.example: bundle.pem
policy:
  directory: policies
inbound:
  - name: lake
    listen: 0.0.0.0:8443
    protocol: s3
    upstream: http://127.0.0.1:9000
    host_suffixes: [s3.example]
outbound:
  - name: lake
    listen: 127.0.0.1:9001
    protocol: http
    upstream: lake.data.svc:8443
    peer: spiffe://pipeline.example/ns/data/sa/lake
admin:
  listen: 127.0.0.1:0
workers: 1
";

pub(super) fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(text, "portcullis.yaml", &Overrides::default())
}

/// `GOOD` with one part replaced.
pub(super) fn good_but(part: &str, replacement: &str) -> String {
    assert_eq!(GOOD.matches(part).count(), 1, "`{part}` must stand once in the good file");
    GOOD.replace(part, replacement)
}

fn accepted(part: &str, replacement: &str) -> Config {
    parse(&good_but(part, replacement)).unwrap_or_else(|errors| panic!("{}", errors.render(false)))
}

#[test]
fn a_good_file_is_read_with_the_defaults_in_force() {
    let config = parse(GOOD).unwrap();
    let [inbound, outbound] = config.listeners.as_slice() else { panic!("two listeners") };
    assert_eq!((inbound.direction, &*inbound.name), (Direction::Inbound, "lake"));
    assert_eq!(inbound.listen, ListenAddress::Tcp("0.0.0.0:8443".parse::<SocketAddr>().unwrap()));
    assert_eq!(inbound.upstream.to_string(), "http://127.0.0.1:9000");
    assert_eq!(inbound.peer, None);
    let ProtocolConfig::S3(s3) = &inbound.protocol else { panic!("s3") };
    assert_eq!(s3.host_suffixes, ["s3.example"]);
    assert_eq!(outbound.upstream.scheme, UpstreamScheme::Mtls);
    assert_eq!(outbound.tls_min_version, TlsVersion::V1_3);
    assert_eq!(outbound.limits, Limits::default());
    let Some(PeerMatcher::OneOf(peers)) = &outbound.peer else { panic!("one peer") };
    assert_eq!(peers.first().unwrap().id().as_str(), "spiffe://pipeline.example/ns/data/sa/lake");
    assert!(config.health.is_none());
    assert_eq!(config.admin.listen.unwrap().port(), 0);
    assert_eq!(config.audit.sink, AuditSinkConfig::Stdout);
    assert_eq!(config.audit.on_failure, OnAuditFailure::Refuse);
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Json, "info"));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(10));
    assert_eq!(config.reload_interval, Duration::from_secs(1));
    assert!(config.unsafe_options.is_empty());
}

#[test]
fn the_file_of_the_bench_is_read() {
    // As bench/peers/portcullis.py writes it.
    for (direction, upstream, peer) in [
        ("inbound", "http://127.0.0.1:18080", ""),
        ("outbound", "127.0.0.1:18443", "    peer: spiffe://example.org/ns/pipeline/sa/load\n"),
    ] {
        let text = format!(
            "identity:\n  source: files\n  certificate: /t/load.pem\n  private_key: /t/load.key\n  trust_bundles:\n    \
             example.org: /t/ca.pem\npolicy:\n  directory: /t/policies\n{direction}:\n  - name: api\n    listen: \
             127.0.0.1:18081\n    protocol: http\n    upstream: {upstream}\n{peer}admin:\n  listen: 127.0.0.1:0\naudit:\n  \
             sink: file\n  path: /t/audit.jsonl\n"
        );
        let config = parse(&text).unwrap();
        assert_eq!(config.audit.sink, AuditSinkConfig::File(PathBuf::from("/t/audit.jsonl")));
        assert!(config.health.is_none());
    }
}

#[test]
fn relative_paths_start_at_the_folder_of_the_file() {
    let config = Config::parse(GOOD, "deploy/portcullis.yaml", &Overrides::default()).unwrap();
    let expected = IdentitySourceConfig::Files {
        certificate: "deploy/svid.pem".into(),
        private_key: "deploy/svid.key".into(),
        spiffe_id: None,
    };
    assert_eq!(config.identity.source, expected);
    assert_eq!(config.policy.origin, PolicyOrigin::Directory("deploy/policies".into()));
    let bundle = config.identity.trust_bundles.values().next().unwrap();
    assert_eq!(bundle, Path::new("deploy/bundle.pem"));
    let absolute = GOOD.replace("directory: policies", "directory: /etc/policies");
    let config = Config::parse(&absolute, "deploy/portcullis.yaml", &Overrides::default()).unwrap();
    assert_eq!(config.policy.origin, PolicyOrigin::Directory("/etc/policies".into()));
}

#[test]
fn json_is_read_too() {
    let text = "{\"identity\": {\"certificate\": \"a\", \"private_key\": \"b\", \"trust_bundles\": {\"td\": \"c\"}},\n\
                \t\"policy\": {\"directory\": \"p\"},\n\t\"inbound\": [{\"name\": \"api\", \"listen\": \"[::1]:8443\",\n\
                \t\t\"protocol\": \"http\", \"upstream\": \"h2c://localhost:50051\"}]}";
    let config = parse(text).unwrap();
    assert_eq!(config.listeners.first().unwrap().upstream.scheme, UpstreamScheme::H2c);
}

#[test]
fn a_listener_overrides_limits_one_by_one() {
    let config = accepted(
        "workers: 1",
        "workers: 1\nlimits:\n  connections: 7\n  idle_timeout: 5m\n  connect_timeout: 1s\ntls:\n  min_version: \"1.2\"",
    );
    let listener = config.listeners.first().unwrap();
    let expected = Limits {
        connections: 7,
        idle_timeout: Duration::from_secs(300),
        connect_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    assert_eq!(listener.limits, expected);
    assert_eq!(listener.tls_min_version, TlsVersion::V1_2);
    let text = format!("{GOOD}limits:\n  connections: 7\n  idle_timeout: 5m\n").replace(
        "    host_suffixes: [s3.example]",
        "    limits:\n      idle_timeout: 90s\n      request_timeout: 0s\n    tls:\n      min_version: \"1.3\"",
    );
    let limits = &parse(&text).unwrap().listeners.first().unwrap().limits.clone();
    assert_eq!(
        (limits.connections, limits.idle_timeout, limits.request_timeout),
        (7, Duration::from_secs(90), Duration::ZERO)
    );
}

#[test]
fn a_unix_socket_has_its_mode_and_its_uids() {
    let listen =
        |replacement: &str| accepted("listen: 127.0.0.1:9001", replacement).listeners.last().unwrap().listen.clone();
    let path = PathBuf::from("/run/lake.sock");
    let expected = ListenAddress::Unix { path: path.clone(), mode: 0o600, allow_uids: vec![] };
    assert_eq!(listen("listen: unix:/run/lake.sock"), expected);
    for mode in ["\"0660\"", "0660", "\"660\""] {
        let expected = ListenAddress::Unix { path: path.clone(), mode: 0o660, allow_uids: vec![1000, 0] };
        assert_eq!(
            listen(&format!("listen: unix:/run/lake.sock\n    mode: {mode}\n    allow_uids: [1000, 0]")),
            expected
        );
    }
}

#[test]
fn peers_are_one_id_a_list_a_path_or_any() {
    let peer = |text: &str| {
        let peer = format!("peer: {text}");
        accepted("peer: spiffe://pipeline.example/ns/data/sa/lake", &peer)
            .listeners
            .last()
            .unwrap()
            .peer
            .clone()
            .unwrap()
    };
    assert_eq!(peer("any"), PeerMatcher::AnyInOwnTrustDomain);
    let id = |text| crate::identity::SpiffeId::parse(text).unwrap();
    assert_eq!(
        peer("[spiffe://pipeline.example/a, 'spiffe://pipeline.example/b/*']"),
        PeerMatcher::OneOf(vec![
            SpiffeIdPattern::Exactly(id("spiffe://pipeline.example/a")),
            SpiffeIdPattern::Below(id("spiffe://pipeline.example/b")),
        ])
    );
}

#[test]
fn unsafe_options_allow_more_and_are_listed() {
    let text = good_but("listen: 127.0.0.1:9001", "listen: 0.0.0.0:9001\n    unsafe_listen_off_loopback: true").replace(
        "upstream: http://127.0.0.1:9000",
        "upstream: http://10.0.0.1:9000\n    unsafe_upstream_off_loopback: true\n    unsafe_allow_dot_segments: false",
    ) + "audit:\n  unsafe_on_failure: allow\n";
    let config = parse(&text).unwrap();
    let expected = [
        "inbound[0].unsafe_upstream_off_loopback",
        "outbound[0].unsafe_listen_off_loopback",
        "audit.unsafe_on_failure",
    ];
    assert_eq!(config.unsafe_options, expected);
    assert_eq!(config.audit.on_failure, OnAuditFailure::Allow);
}

#[test]
fn flags_win_over_the_file() {
    let overrides = Overrides {
        workers: std::num::NonZeroUsize::new(4),
        log_format: Some(LogFormat::Text),
        log_filter: Some("debug".into()),
        shutdown_timeout: Some(Duration::from_secs(3)),
        reload_interval: Some(Duration::from_millis(250)),
        connect_timeout: Some(Duration::from_millis(700)),
        spiffe_endpoint_socket: None,
    };
    let config = Config::parse(GOOD, "portcullis.yaml", &overrides).unwrap();
    assert_eq!(config.workers.get(), 4);
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Text, "debug"));
    assert_eq!(config.shutdown_timeout, Duration::from_secs(3));
    assert_eq!(config.reload_interval, Duration::from_millis(250));
    assert!(config.listeners.iter().all(|listener| listener.limits.connect_timeout == Duration::from_millis(700)));
}

#[test]
fn flags_have_the_range_of_their_key() {
    let overrides = Overrides {
        workers: std::num::NonZeroUsize::new(100_000),
        log_filter: Some("inof".into()),
        reload_interval: Some(Duration::ZERO),
        ..Overrides::default()
    };
    let errors = Config::parse(GOOD, "portcullis.yaml", &overrides).unwrap_err();
    assert_eq!(
        errors.to_string(),
        "portcullis.yaml: --workers: `100000` is out of range (at least 1, at most 256)\n\
         portcullis.yaml: --reload-interval: `0s` is out of range (at least 100ms, at most 1h)\n\
         portcullis.yaml: --log-filter: `inof` is not a log filter: `inof` is not a level (did you mean `info`?)"
    );
    assert!(errors.problems().iter().all(|problem| problem.place.is_none()));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("portcullis.yaml");
    let message = |path: &Path| Config::load(path, &Overrides::default()).unwrap_err().problems()[0].message.clone();
    assert_eq!(message(&path), "cannot read the configuration: No such file or directory (os error 2)");
    std::fs::write(&path, b"a: b\nc: \xff\n").unwrap();
    assert_eq!(message(&path), "line 2 is not UTF-8 text");
    std::fs::write(&path, GOOD).unwrap();
    let config = Config::load(&path, &Overrides::default()).unwrap();
    assert_eq!(config.policy.origin, PolicyOrigin::Directory(folder.path().join("policies")));
}

/// What holds for every text whatever.
fn is_read_or_refused_with_reasons(text: &str) {
    let Err(errors) = parse(text) else { return };
    assert!(!errors.problems().is_empty(), "refused without a reason: {text:?}");
    for problem in errors.problems() {
        assert!(!problem.message.contains("does not know why"), "{text:?}");
        assert!(!problem.message.contains("does not fit"), "{} {text:?}", problem.message);
        if let Some(Place { line, column }) = problem.place {
            assert!(line >= 1 && line <= text.matches('\n').count() + 1, "line {line} of {text:?}");
            assert!(column >= 1, "column {column} of {text:?}");
        }
    }
    let _ = (errors.to_string(), errors.render(true));
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        is_read_or_refused_with_reasons(&text);
    }

    #[test]
    fn no_text_of_yamls_own_characters_panics(text in "[a-c:\\-?\\[\\]{},#&*!|>'\"%@`\\\\ \t\n\r0-9.~<\u{e9}\u{feff}\u{1f980}]{0,80}") {
        is_read_or_refused_with_reasons(&text);
    }

    #[test]
    fn no_damaged_good_file_panics(at in 0..GOOD.len(), removed in 0..60_usize, put in "[a-z0-9:\\-\\[\\]{}\"'&*! \t\n.@/]{0,12}") {
        let end = (at + removed).min(GOOD.len());
        is_read_or_refused_with_reasons(&format!("{}{put}{}", GOOD.get(..at).unwrap(), GOOD.get(end..).unwrap()));
    }

    #[test]
    fn any_value_under_any_key_is_read_or_refused(
        part in proptest::sample::select(GOOD.lines().filter_map(|line| line.split_once(": ").map(|(_, v)| v)).collect::<Vec<_>>()),
        value in proptest::sample::select(vec![
            "", "~", "true", "0", "-1", "1.5", "\"\"", "[]", "{}", "[1]", "[[a]]", "{a: b}", "a", "any", "*", "unix:", "unix:/x", "10s",
            "99999999999999999999999", ".inf", "spiffe://pipeline.example", "[any]", "tcp", "http://localhost:1", "'é'", "\"\\0\"",
        ]),
    ) {
        if GOOD.matches(part).count() == 1 {
            is_read_or_refused_with_reasons(&good_but(part, value));
        }
    }
}
