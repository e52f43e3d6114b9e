//! Listeners that speak `tcp` and `postgres`: what is read, and what is refused.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bad_files::{Row, assert_rows};
use super::{GOOD, parse};
use crate::config::*;
use crate::identity::{SpiffeId, SpiffeIdPattern};

const INBOUND: &str = "    protocol: s3\n    upstream: http://127.0.0.1:9000\n    host_suffixes: [s3.example]";
const OUTBOUND: &str = "    protocol: http\n    upstream: lake.data.svc:8443";

fn read(keys: &str, of: &str, put: &str) -> ListenerConfig {
    let text = keys.replace(of, put);
    let config = Config::parse(&text, "/etc/p/portcullis.yaml", &Overrides::default())
        .unwrap_or_else(|errors| panic!("{}", errors.render(false)));
    let index = if of == INBOUND { 0 } else { 1 };
    config.listeners[index].clone()
}

fn inbound(keys: &str) -> ListenerConfig {
    read(GOOD, INBOUND, keys)
}

fn outbound(keys: &str) -> ListenerConfig {
    read(GOOD, OUTBOUND, keys)
}

fn postgres(keys: &str) -> PostgresConfig {
    let listener = inbound(&format!("    protocol: postgres\n    upstream: 127.0.0.1:5432\n{keys}"));
    let ProtocolConfig::Postgres(config) = listener.protocol else { panic!("postgres") };
    *config
}

fn upstreams(listener: &ListenerConfig) -> Vec<String> {
    std::iter::once(&listener.upstream).chain(&listener.further_upstreams).map(ToString::to_string).collect()
}

#[test]
fn a_tcp_listener_is_read() {
    let listener = inbound("    protocol: tcp\n    upstream: 127.0.0.1:6379");
    let ProtocolConfig::Tcp(tcp) = &listener.protocol else { panic!("tcp") };
    assert!(!tcp.send_proxy && tcp.accept_proxy_from.is_empty() && tcp.lifetime.is_none());
    assert_eq!(
        (listener.upstream.scheme, listener.upstream.to_string().as_str()),
        (UpstreamScheme::Plain, "127.0.0.1:6379")
    );
    assert_eq!(listener.limits.idle_timeout, Duration::from_secs(3_600));
    let listener = inbound(
        "    protocol: tcp\n    upstream: ['[::1]:1', unix:/run/a.sock, unix:b.sock]\n    send_proxy_protocol: true\n    \
         accept_proxy_protocol_from: [10.0.0.0/8, '::1']\n    lifetime: 1h\n    limits: {idle_timeout: 5m}",
    );
    let ProtocolConfig::Tcp(tcp) = &listener.protocol else { panic!("tcp") };
    assert!(tcp.send_proxy);
    let expected =
        [("10.0.0.0", 8), ("::1", 128)].map(|(address, prefix)| Network { address: address.parse().unwrap(), prefix });
    assert_eq!(tcp.accept_proxy_from, expected);
    assert_eq!(tcp.lifetime, Some(Duration::from_secs(3_600)));
    assert_eq!(upstreams(&listener), ["[::1]:1", "unix:/run/a.sock", "unix:/etc/p/b.sock"]);
    assert_eq!(listener.limits.idle_timeout, Duration::from_secs(300));
    let listener = outbound("    protocol: tcp\n    upstream: [a.svc:1, b.svc:2]\n    lifetime: 1h");
    assert_eq!(upstreams(&listener), ["a.svc:1", "b.svc:2"]);
    assert_eq!(listener.upstream.scheme, UpstreamScheme::Mtls);
}

#[test]
fn what_limits_say_about_idle_connections_goes_for_all_protocols() {
    let idle = |limits: &str, protocol: &str| {
        let text = format!("{GOOD}{limits}");
        read(&text, OUTBOUND, &format!("    protocol: {protocol}\n    upstream: a:1")).limits.idle_timeout.as_secs()
    };
    assert_eq!(["http", "tcp", "postgres"].map(|protocol| idle("", protocol)), [60, 3_600, 86_400]);
    assert_eq!(
        ["http", "tcp", "postgres"].map(|protocol| idle("limits: {connections: 7}\n", protocol)),
        [60, 3_600, 86_400]
    );
    assert_eq!(["http", "tcp", "postgres"].map(|protocol| idle("limits: {idle_timeout: 2m}\n", protocol)), [120; 3]);
}

#[test]
fn a_postgres_listener_is_read_with_its_defaults() {
    let config = postgres("    catalog: {user: reader}");
    assert_eq!((config.role, config.password), (RoleConfig::Passthrough, None));
    assert_eq!(config.catalog, Some(CatalogConfig { user: "reader".into(), password: None }));
    assert_eq!(config.catalog_max_age, Duration::from_secs(1));
    assert_eq!((config.upstream_tls, config.local_certificate), (UpstreamTls::Disable, None));
    assert_eq!(config.caps, SessionCaps::default());
    assert_eq!((config.message_bytes, config.statement_bytes), (16 * 1024 * 1024, 1024 * 1024));
    assert_eq!(config.authentication_timeout, Duration::from_secs(30));
    assert_eq!(config.sql, SqlInRecords::Normalized);
    assert_eq!(postgres("    role: fixed etl\n    message_bytes: 65536").statement_bytes, 65_536);
}

#[test]
fn every_option_of_a_postgres_listener_is_read() {
    let config = postgres(
        "    role: fixed etl user\n    password_file: secrets/etl\n    catalog:\n      user: reader\n      \
         password_command: [./token, --now]\n    catalog_max_age: 0s\n    upstream_tls: request\n    upstream_ca: rds.pem\n    \
         statement_timeout: 5m\n    idle_in_transaction_timeout: 1m\n    transaction_timeout: 1h\n    session_idle_timeout: 8h\n    \
         message_bytes: 1048576\n    statement_bytes: 1024\n    authentication_timeout: 5s",
    );
    assert_eq!(config.role, RoleConfig::Fixed("etl user".into()));
    assert_eq!(config.password, Some(PasswordSource::File("/etc/p/secrets/etl".into())));
    let command = ["/etc/p/./token", "--now"].map(str::to_owned).to_vec();
    assert_eq!(config.catalog.unwrap().password, Some(PasswordSource::Command(command)));
    assert_eq!(config.catalog_max_age, Duration::ZERO);
    assert_eq!(config.upstream_tls, UpstreamTls::Request(UpstreamCa::File("/etc/p/rds.pem".into())));
    let length = |seconds| Some(Duration::from_secs(seconds));
    let caps = SessionCaps {
        statement: length(300),
        idle_in_transaction: length(60),
        transaction: length(3_600),
        session_idle: length(28_800),
    };
    assert_eq!(config.caps, caps);
    assert_eq!((config.message_bytes, config.statement_bytes), (1_048_576, 1_024));
    assert_eq!(config.authentication_timeout, Duration::from_secs(5));
    let command = postgres("    role: fixed etl\n    password_command: [rds-token]").password;
    assert_eq!(command, Some(PasswordSource::Command(vec!["rds-token".into()])), "a bare name is found in PATH");
    let direct = postgres("    role: fixed etl\n    upstream_tls: direct\n    upstream_ca: system").upstream_tls;
    assert_eq!(direct, UpstreamTls::Direct(UpstreamCa::System));
    let listener = outbound(
        "    protocol: postgres\n    upstream: [a:1, b:1]\n    local_certificate: c.pem\n    local_private_key: c.key",
    );
    let ProtocolConfig::Postgres(config) = &listener.protocol else { panic!("postgres") };
    assert_eq!(config.local_certificate, Some((PathBuf::from("/etc/p/c.pem"), PathBuf::from("/etc/p/c.key"))));
    assert_eq!(upstreams(&listener), ["a:1", "b:1"]);
}

#[test]
fn how_many_sessions_share_a_connection_is_said_by_an_outbound_postgres_listener() {
    let sessions = |keys: &str| {
        let listener = outbound(&format!("    protocol: postgres\n    upstream: a:1{keys}"));
        let ProtocolConfig::Postgres(config) = listener.protocol else { panic!("postgres") };
        config.sessions_per_connection
    };
    assert_eq!(
        ["", "\n    sessions_per_connection: 1", "\n    sessions_per_connection: 64"].map(sessions),
        [16, 1, 64]
    );
    for number in ["0", "65"] {
        let put = format!("    protocol: postgres\n    upstream: a:1\n    sessions_per_connection: {number}").leak();
        let message = format!("`{number}` is out of range").leak();
        assert_rows(&[(
            OUTBOUND,
            put,
            (19, 30, "outbound[0].sessions_per_connection"),
            message,
            "at least 1, at most 64",
        )]);
    }
    assert_rows(&[
        (
            OUTBOUND,
            "    protocol: tcp\n    upstream: a:1\n    sessions_per_connection: 4",
            (19, 5, "outbound[0].sessions_per_connection"),
            "`sessions_per_connection` is for `protocol: postgres`, this listener speaks `tcp`",
            "remove it, or write `protocol: postgres`",
        ),
        (
            INBOUND,
            "    protocol: postgres\n    upstream: 127.0.0.1:1\n    role: fixed a\n    sessions_per_connection: 4",
            (14, 5, "inbound[0].sessions_per_connection"),
            "unknown key `sessions_per_connection`",
            "it is a key of `outbound[]`",
        ),
    ]);
}

#[test]
fn roles_are_tried_in_the_order_of_the_file() {
    let role = postgres(
        "    role: by_identity\n    roles:\n      spiffe://pipeline.example/ns/z: one\n      \"spiffe://pipeline.example/ns/*\": two\n      \
         Stage::\"analyst\": three\n      Stage::load: 'fo ur'",
    )
    .role;
    let id = |text| SpiffeId::parse(text).unwrap();
    let expected = RoleConfig::ByIdentity(vec![
        (RoleOf::Workload(SpiffeIdPattern::Exactly(id("spiffe://pipeline.example/ns/z"))), "one".into()),
        (RoleOf::Workload(SpiffeIdPattern::Below(id("spiffe://pipeline.example/ns"))), "two".into()),
        (RoleOf::Stage("analyst".into()), "three".into()),
        (RoleOf::Stage("load".into()), "fo ur".into()),
    ]);
    assert_eq!(role, expected);
}

#[test]
fn the_socket_of_a_postgres_server_is_found_in_its_folder() {
    for (text, path) in [
        ("unix:/run/postgresql", "/run/postgresql/.s.PGSQL.5432"),
        ("unix:/run/postgresql/", "/run/postgresql/.s.PGSQL.5432"),
        ("unix:/run/postgresql/.s.PGSQL.6000", "/run/postgresql/.s.PGSQL.6000"),
        ("unix:sockets", "/etc/p/sockets/.s.PGSQL.5432"),
        ("unix:/", "/.s.PGSQL.5432"),
    ] {
        let listener = inbound(&format!("    protocol: postgres\n    upstream: {text}\n    role: fixed etl"));
        assert_eq!(Path::new(&listener.upstream.host), Path::new(path), "{text}");
        assert!(listener.upstream.is_loopback());
    }
}

#[test]
fn a_server_on_another_machine_takes_verified_tls_or_the_word_unsafe() {
    let keys =
        |more: &str| format!("    protocol: postgres\n    upstream: db.example:5432\n    role: fixed etl\n{more}");
    for more in ["    upstream_tls: request", "    upstream_tls: direct", "    unsafe_upstream_off_loopback: true"] {
        assert_eq!(inbound(&keys(more)).upstream.to_string(), "db.example:5432");
    }
}

#[test]
fn how_statements_are_recorded_is_said_once_for_all_listeners() {
    let text = format!("{GOOD}audit: {{sql: fingerprint}}\n");
    let listener = read(&text, INBOUND, "    protocol: postgres\n    upstream: 127.0.0.1:1\n    role: fixed etl");
    let ProtocolConfig::Postgres(config) = &listener.protocol else { panic!("postgres") };
    assert_eq!(config.sql, SqlInRecords::Fingerprint);
}

#[test]
fn upstreams_of_relays_are_refused_with_their_reason() {
    let rows = |protocol: &'static str, more: &'static str, list: &[(&'static str, &'static str, &'static str)]| {
        for (upstream, message, help) in list {
            let put = format!("    protocol: {protocol}\n    upstream: {upstream}{more}").leak();
            let row: Row = (INBOUND, put, (12, 15, "inbound[0].upstream"), message, help);
            assert_rows(&[row]);
        }
    };
    rows(
        "tcp",
        "",
        &[
            (
                "tcp://127.0.0.1:1",
                "a `tcp` or `postgres` upstream is `HOST:PORT` or `unix:/PATH`, without `tcp://`",
                "write `127.0.0.1:1`",
            ),
            ("/run/a.sock", "upstream `/run/a.sock` is a path", "write `unix:/run/a.sock`"),
            ("'unix:'", "the socket has no path", "for example `unix:/run/postgresql`"),
            ("localhost", "upstream `localhost` has no port", "write `localhost:PORT`"),
            (
                "10.0.0.1:1",
                "`10.0.0.1` is not on loopback: what was permitted would cross the network in plain",
                "run portcullis beside the service, or set `unsafe_upstream_off_loopback: true`",
            ),
            (
                "localhost:8443",
                "the upstream is this listener itself",
                "write the address at which the local service listens",
            ),
        ],
    );
    rows(
        "postgres",
        "\n    role: fixed etl",
        &[
            ("localhost", "upstream `localhost` has no port", "write `localhost:5432`, or another port"),
            ("'unix:'", "the socket has no path", "for example `unix:/run/postgresql`"),
            (
                "postgres://u@h/d",
                "a `tcp` or `postgres` upstream is `HOST:PORT` or `unix:/PATH`, without `postgres://`",
                "write `u@h/d`",
            ),
            (
                "db.example:5432",
                "`db.example` is not on loopback: what was permitted would cross the network in plain",
                "write `upstream_tls: request`, run portcullis beside the server, or set `unsafe_upstream_off_loopback: true`",
            ),
        ],
    );
    rows(
        "postgres",
        "\n    role: fixed etl\n    upstream_tls: direct",
        &[(
            "unix:/run/postgresql",
            "TLS is not spoken on a Unix socket",
            "remove `upstream_tls`: only this machine reaches the socket",
        )],
    );
    assert_rows(&[
        (
            INBOUND,
            "    protocol: tcp\n    upstream: [127.0.0.1:1, 10.0.0.1:1]",
            (12, 29, "inbound[0].upstream[1]"),
            "`10.0.0.1` is not on loopback: what was permitted would cross the network in plain",
            "run portcullis beside the service, or set `unsafe_upstream_off_loopback: true`",
        ),
        (
            OUTBOUND,
            "    protocol: tcp\n    upstream: [a:1, b]",
            (18, 21, "outbound[0].upstream[1]"),
            "upstream `b` has no port",
            "write `b:PORT`",
        ),
    ]);
    let long = format!("unix:/{}", "a".repeat(107));
    let errors = parse(&GOOD.replace(INBOUND, &format!("    protocol: tcp\n    upstream: {long}"))).unwrap_err();
    assert_eq!(errors.problems()[0].message, "the path of the socket has 108 bytes, at most 107 are possible");
}

#[test]
fn keys_of_another_protocol_or_direction_are_refused() {
    for (protocol, key, of) in [
        ("tcp", "hosts: [a.example]", "`protocol: http` or `protocol: s3`"),
        ("tcp", "merge_slashes: true", "`protocol: http`"),
        ("tcp", "role: by_identity", "`protocol: postgres`"),
        ("tcp", "roles: {a: b}", "`protocol: postgres`"),
        ("tcp", "password_file: a", "`protocol: postgres`"),
        ("tcp", "password_command: [a]", "`protocol: postgres`"),
        ("tcp", "catalog: {user: a}", "`protocol: postgres`"),
        ("tcp", "catalog_max_age: 1s", "`protocol: postgres`"),
        ("tcp", "upstream_tls: disable", "`protocol: postgres`"),
        ("tcp", "upstream_ca: system", "`protocol: postgres`"),
        ("tcp", "statement_timeout: 1s", "`protocol: postgres`"),
        ("tcp", "idle_in_transaction_timeout: 1s", "`protocol: postgres`"),
        ("tcp", "transaction_timeout: 1s", "`protocol: postgres`"),
        ("tcp", "session_idle_timeout: 1s", "`protocol: postgres`"),
        ("tcp", "message_bytes: 65536", "`protocol: postgres`"),
        ("tcp", "statement_bytes: 65536", "`protocol: postgres`"),
        ("tcp", "authentication_timeout: 1s", "`protocol: postgres`"),
        ("postgres", "lifetime: 1h", "`protocol: tcp`"),
        ("postgres", "send_proxy_protocol: true", "`protocol: tcp`"),
        ("postgres", "accept_proxy_protocol_from: ['::1']", "`protocol: tcp`"),
        ("postgres", "host_suffixes: [a.example]", "`protocol: s3`"),
    ] {
        let role = if protocol == "postgres" { "\n    role: fixed etl" } else { "" };
        let put = format!("    protocol: {protocol}\n    upstream: 127.0.0.1:1\n    {key}{role}").leak();
        let name = key.split(':').next().unwrap();
        let path: &str = format!("inbound[0].{name}").leak();
        let message: &str = format!("`{name}` is for {of}, this listener speaks `{protocol}`").leak();
        let help: &str = format!("remove it, or write {of}").leak();
        assert_rows(&[(INBOUND, put, (13, 5, path), message, help)]);
    }
    assert_rows(&[
        (
            OUTBOUND,
            "    protocol: tcp\n    upstream: a:1\n    send_proxy_protocol: true",
            (19, 5, "outbound[0].send_proxy_protocol"),
            "unknown key `send_proxy_protocol`",
            "it is a key of `inbound[]`",
        ),
        (
            INBOUND,
            "    protocol: postgres\n    upstream: a:1\n    role: fixed a\n    unsafe_upstream_off_loopback: true\n    local_certificate: a",
            (15, 5, "inbound[0].local_certificate"),
            "unknown key `local_certificate`",
            "it is a key of `outbound[]`",
        ),
        (
            OUTBOUND,
            "    protocol: http\n    upstream: a:1\n    local_certificate: a",
            (19, 5, "outbound[0].local_certificate"),
            "`local_certificate` is for `protocol: postgres`, this listener speaks `http`",
            "remove it, or write `protocol: postgres`",
        ),
    ]);
}

#[test]
fn options_of_relays_are_refused_with_their_reason() {
    for (key, column, message, help) in [
        (
            "accept_proxy_protocol_from: [10.0.0.1/8]",
            34,
            "`10.0.0.1/8` has bits beyond its prefix",
            "write `10.0.0.0/8`, or `10.0.0.1` for the one address",
        ),
        ("lifetime: 0s", 15, "`0s` is out of range", "at least 10ms, at most 720h"),
    ] {
        let put: &str = format!("    protocol: tcp\n    upstream: 127.0.0.1:1\n    {key}").leak();
        let name = key.split(':').next().unwrap();
        let path: &str =
            if name == "lifetime" { "inbound[0].lifetime" } else { "inbound[0].accept_proxy_protocol_from[0]" };
        assert_rows(&[(INBOUND, put, (13, column, path), message, help)]);
    }
    for (keys, (line, column, key), message, help) in [
        (
            "    role: fixd etl",
            (13, 11, "role"),
            "`fixd etl` is not one of `passthrough`, `fixed NAME`, `by_identity`",
            "did you mean `fixed`?",
        ),
        (
            "    role: etl",
            (13, 11, "role"),
            "`etl` is not one of `passthrough`, `fixed NAME`, `by_identity`",
            "write `role: fixed etl` if that is the role's name",
        ),
        ("    role: fixed", (13, 11, "role"), "`fixed` names no role", "for example `role: fixed etl`"),
        (
            "    role: fixed aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff1234",
            (13, 11, "role"),
            "the name of the role has 64 bytes, PostgreSQL cuts it after 63",
            "write the name as `\\du` of psql shows it",
        ),
        (
            "    role: by_identity",
            (13, 11, "role"),
            "`role: by_identity` has no table `roles`",
            "add for example `roles: {\"spiffe://pipeline.example/ns/etl/sa/load\": etl}`",
        ),
        (
            "    role: fixed etl\n    roles: {Stage::a: b}",
            (14, 5, "roles"),
            "`roles` is for `role: by_identity`",
            "remove it, or write `role: by_identity`",
        ),
        (
            "    role: by_identity\n    roles:\n      load: etl",
            (15, 7, "roles.load"),
            "`load` is neither a SPIFFE ID nor a stage",
            "write `spiffe://TRUST-DOMAIN/PATH`, `spiffe://TRUST-DOMAIN/PATH/*` or `Stage::NAME`",
        ),
        (
            "    role: by_identity\n    roles:\n      spiffe://pipelin.example/a: etl",
            (15, 35, "roles[\"spiffe://pipelin.example/a\"]"),
            "trust domain `pipelin.example` has no bundle: nobody from there can be verified",
            "did you mean `pipeline.example`?",
        ),
        (
            "    catalog: {user: a}\n    password_file: a",
            (14, 5, "password_file"),
            "`password_file` has no effect with `role: passthrough`: the client proves itself to the server",
            "move it below `catalog`, or write `role: fixed NAME`",
        ),
        (
            "    role: fixed etl\n    password_file: a\n    password_command: [b]",
            (15, 5, "password_command"),
            "both `password_file` and `password_command` say what the password is",
            "keep one of the two",
        ),
        (
            "    catalog: {user: a, password_file: b, password_command: [c]}",
            (13, 42, "catalog.password_command"),
            "both `password_file` and `password_command` say what the password is",
            "keep one of the two",
        ),
        (
            "    catalog: {password_file: b}",
            (13, 5, "catalog.user"),
            "key `user` is missing",
            "for example `user: portcullis_catalog`: The role that reads `pg_catalog`",
        ),
        (
            "    role: by_identity",
            (13, 11, "role"),
            "`role: by_identity` has no table `roles`",
            "add for example `roles: {\"spiffe://pipeline.example/ns/etl/sa/load\": etl}`",
        ),
        (
            "    role: by_identity\n    roles: [etl]",
            (14, 5, "roles"),
            "expected a block of keys, found a list",
            "for example `roles: {\"spiffe://pipeline.example/ns/etl/sa/load\":\"etl\"}`",
        ),
        (
            "    role: fixed etl\n    upstream_ca: rds.pem",
            (14, 18, "upstream_ca"),
            "`upstream_ca` has no effect with `upstream_tls: disable`",
            "add `upstream_tls: request`, or remove it",
        ),
        (
            "    role: fixed etl\n    upstream_tls: requst",
            (14, 19, "upstream_tls"),
            "`requst` is not one of `disable`, `request`, `direct`",
            "did you mean `request`?",
        ),
        (
            "    role: fixed etl\n    message_bytes: 65536\n    statement_bytes: 65537",
            (15, 22, "statement_bytes"),
            "`statement_bytes` (65537) must be at most `message_bytes` (65536)",
            "raise `message_bytes` or lower `statement_bytes`",
        ),
        (
            "    role: fixed etl\n    statment_timeout: 5m",
            (14, 5, "statment_timeout"),
            "unknown key `statment_timeout`",
            "did you mean `statement_timeout`?",
        ),
    ] {
        let put: &str = format!("    protocol: postgres\n    upstream: 127.0.0.1:5432\n{keys}").leak();
        let path: &str = format!("inbound[0].{key}").leak();
        assert_rows(&[(INBOUND, put, (line, column, path), message, help)]);
    }
    assert_rows(&[(
        INBOUND,
        "    protocol: postgresql\n    upstream: 127.0.0.1:5432",
        (11, 15, "inbound[0].protocol"),
        "`postgresql` is not one of `http`, `s3`, `tcp`, `postgres`",
        "did you mean `postgres`?",
    )]);
    assert_rows(&[(
        OUTBOUND,
        "    protocol: postgres\n    upstream: a:1\n    local_private_key: a",
        (19, 24, "outbound[0].local_private_key"),
        "`local_private_key` is of no use without `local_certificate`",
        "add `local_certificate`",
    )]);
}
