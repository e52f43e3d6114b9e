//! Bad keys and values: each row changes one thing in the good file, and says where and what is reported.

use super::bad_files::{assert_rows, the_only_problem};
use super::good_but;

#[test]
fn keys_that_are_not_known_are_refused_with_the_nearest() {
    assert_rows(&[
        ("workers: 1", "wrokers: 1", (22, 1, "wrokers"), "unknown key `wrokers`", "did you mean `workers`?"),
        (
            "    protocol: s3",
            "    protocl: s3",
            (11, 5, "inbound[0].protocl"),
            "unknown key `protocl`",
            "did you mean `protocol`?",
        ),
        ("certificate:", "cert:", (2, 3, "identity.cert"), "unknown key `cert`", "did you mean `certificate`?"),
        (
            "workers: 1",
            "workers: 1\nlisten: 127.0.0.1:1",
            (23, 1, "listen"),
            "unknown key `listen`",
            "it is a key of `inbound[]`, `outbound[]`, `health`, `admin`",
        ),
        (
            "host_suffixes: [s3.example]",
            "peer: any",
            (13, 5, "inbound[0].peer"),
            "unknown key `peer`",
            "it is a key of `outbound[]`",
        ),
        (
            "  listen: 127.0.0.1:0",
            "  listen: 127.0.0.1:0\n  zzz: 1",
            (22, 3, "admin.zzz"),
            "unknown key `zzz`",
            "known here: `listen`, `socket`",
        ),
    ]);
}

#[test]
fn keys_that_are_missing_are_named_with_an_example() {
    assert_rows(&[
        (
            "  private_key: svid.key\n",
            "",
            (1, 1, "identity.private_key"),
            "key `private_key` is missing",
            "for example `private_key: /run/svid/svid.key`: PEM file with the private key of the leaf",
        ),
        (
            "    protocol: s3\n",
            "",
            (9, 5, "inbound[0].protocol"),
            "key `protocol` is missing",
            "one of `http`, `s3`, `tcp`, `postgres`: What is spoken",
        ),
        (
            "    peer: spiffe://pipeline.example/ns/data/sa/lake\n",
            "",
            (15, 5, "outbound[0].peer"),
            "key `peer` is missing",
            "for example `peer: spiffe://pipeline.example/ns/data/sa/lake`: Who must answer: a SPIFFE ID, a list of them, `spiffe://TRUST-DOMAIN/PATH/*` (one or more segments below), or `any` (any workload of our own trust domain)",
        ),
        (
            "policy:\n  directory: policies\n",
            "",
            (1, 1, "policy"),
            "key `policy` is missing",
            "The policies that decide",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind_are_refused_with_what_to_write() {
    assert_rows(&[
        (
            "listen: 0.0.0.0:8443",
            "listen: 8443",
            (10, 13, "inbound[0].listen"),
            "expected text, found `8443`",
            "for example `listen: 0.0.0.0:8443`",
        ),
        (
            "workers: 1",
            "workers: two",
            (22, 10, "workers"),
            "expected a whole number, found `two`",
            "write digits only, for example `1`",
        ),
        (
            "workers: 1",
            "workers: \"1\"",
            (22, 10, "workers"),
            "expected a whole number, found `\"1\"`",
            "write the number without quotes and without a leading zero",
        ),
        ("workers: 1", "workers: 0", (22, 10, "workers"), "`0` is out of range", "at least 1, at most 256"),
        (
            "workers: 1",
            "workers: 99999999999999999999999",
            (22, 10, "workers"),
            "`99999999999999999999999` is out of range",
            "at least 1, at most 256",
        ),
        ("workers: 1", "workers:", (22, 1, "workers"), "has no value, expected a whole number", ""),
        ("workers: 1", "workers: [1]", (22, 1, "workers"), "expected a whole number, found a list", ""),
        (
            "workers: 1",
            "shutdown_timeout: 10",
            (22, 19, "shutdown_timeout"),
            "expected a duration, found `10`",
            "give it a unit: `10s`",
        ),
        (
            "workers: 1",
            "shutdown_timeout: \"10\"",
            (22, 19, "shutdown_timeout"),
            "duration `10` has no unit",
            "write `10s`; the units are `ms`, `s`, `m`, `h`",
        ),
        (
            "workers: 1",
            "shutdown_timeout: 1h30m",
            (22, 19, "shutdown_timeout"),
            "`1h30m` is not one whole number with one unit",
            "write `500ms`, `10s`, `5m` or `1h`",
        ),
        (
            "workers: 1",
            "reload_interval: 0s",
            (22, 18, "reload_interval"),
            "`0s` is out of range",
            "at least 100ms, at most 1h",
        ),
        (
            "workers: 1",
            "limits: {header_bytes: 64Ki}",
            (22, 24, "limits.header_bytes"),
            "expected a whole number, found `64Ki`",
            "write digits only, for example `65536`",
        ),
        (
            "workers: 1",
            "limits: {uri_bytes: 65534, header_bytes: 8192}",
            (22, 21, "limits.uri_bytes"),
            "`uri_bytes` (65534) must be less than `header_bytes` (8192), which holds the target too",
            "raise `header_bytes` or lower `uri_bytes`",
        ),
        (
            "workers: 1",
            "tls: {min_version: 1.2}",
            (22, 20, "tls.min_version"),
            "expected text, found `1.2`",
            "put it in quotes: `\"1.2\"`",
        ),
        (
            "workers: 1",
            "tls: {min_version: \"1.1\"}",
            (22, 20, "tls.min_version"),
            "`1.1` is not one of `1.2`, `1.3`",
            "did you mean `1.2`?",
        ),
        (
            "workers: 1",
            "audit: {sample_allowed: 1.5}",
            (22, 25, "audit.sample_allowed"),
            "`1.5` is out of range",
            "at least 0, at most 1",
        ),
        (
            "protocol: s3",
            "protocol: htpp",
            (11, 15, "inbound[0].protocol"),
            "`htpp` is not one of `http`, `s3`, `tcp`, `postgres`",
            "did you mean `http`?",
        ),
        (
            "host_suffixes: [s3.example]",
            "host_suffixes: s3.example",
            (13, 20, "inbound[0].host_suffixes"),
            "expected a list, found `s3.example`",
            "write it as a list: `[s3.example]`",
        ),
        (
            "host_suffixes: [s3.example]",
            "host_suffixes: s3.example, s3.internal",
            (13, 20, "inbound[0].host_suffixes"),
            "expected a list, found `s3.example, s3.internal`",
            "write it as a list: `[s3.example, s3.internal]`",
        ),
        (
            "host_suffixes: [s3.example]",
            "host_suffixes: []",
            (13, 5, "inbound[0].host_suffixes"),
            "the list is empty",
            "name at least one, or leave the key out",
        ),
        (
            "host_suffixes: [s3.example]",
            "unsafe_allow_dot_segments: yes",
            (13, 32, "inbound[0].unsafe_allow_dot_segments"),
            "expected `true` or `false`, found `yes`",
            "write `true`",
        ),
        (
            "    pipeline.example: bundle.pem",
            "    {}",
            (4, 3, "identity.trust_bundles"),
            "has no entries",
            "for example `trust_bundles: {\"pipeline.example\":\"/run/svid/bundle.pem\"}`",
        ),
        (
            "directory: policies",
            "directory: \"\"",
            (7, 14, "policy.directory"),
            "is empty",
            "for example `directory: /etc/portcullis/policies`",
        ),
        (
            "  listen: 127.0.0.1:0",
            "  - listen",
            (20, 1, "admin"),
            "expected a block of keys, found a list",
            "its keys are `listen`, `socket`",
        ),
        (
            "peer: spiffe://pipeline.example/ns/data/sa/lake",
            "peer: 7",
            (19, 11, "outbound[0].peer"),
            "expected text or a list, found `7`",
            "for example `peer: spiffe://pipeline.example/ns/data/sa/lake`",
        ),
    ]);
}

#[test]
fn identity_and_policy_say_what_they_cannot_be() {
    assert_rows(&[
        (
            "directory: policies",
            "directory: policies\n  known_endpoints: [lake, Other]",
            (8, 27, "policy.known_endpoints[1]"),
            "name `Other` has the character `O`, only a-z 0-9 . - are allowed",
            "for example `other`",
        ),
        (
            "directory: policies",
            "directory: policies\n  unknown_names: refus",
            (8, 18, "policy.unknown_names"),
            "`refus` is not one of `warn`, `refuse`",
            "did you mean `refuse`?",
        ),
    ]);
    let bundle = good_but("    pipeline.example:", "    spiffe://pipeline.example/a:");
    let problem = the_only_problem(&bundle);
    assert_eq!(problem.key, "identity.trust_bundles[\"spiffe://pipeline.example/a\"]");
    assert_eq!(problem.help.as_deref(), Some("write `pipeline.example`"));
}

#[test]
fn names_and_addresses_are_refused_with_their_reason() {
    assert_rows(&[
        (
            "  - name: lake\n    listen: 0",
            "  - name: Lake_1\n    listen: 0",
            (9, 11, "inbound[0].name"),
            "name `Lake_1` has the character `L`, only a-z 0-9 . - are allowed",
            "for example `lake-1`",
        ),
        (
            "  - name: lake\n    listen: 0",
            "  - name: -lake\n    listen: 0",
            (9, 11, "inbound[0].name"),
            "name `-lake` does not begin with a letter or digit",
            "for example `lake` or `orders-api`",
        ),
        (
            "outbound:",
            "  - {name: lake, listen: \"0.0.0.0:1\", protocol: http, upstream: \"http://localhost:2\"}\noutbound:",
            (14, 12, "inbound[1].name"),
            "`inbound[0].name` in line 9 has the name `lake` too, names are unique among inbound listeners",
            "give one of the two another name",
        ),
        (
            "listen: 0.0.0.0:8443",
            "listen: localhost:8443",
            (10, 13, "inbound[0].listen"),
            "`localhost` is not an IP address, and a name may stand for several",
            "write the address itself, for example `127.0.0.1:8443`",
        ),
        (
            "listen: 0.0.0.0:8443",
            "listen: :8443",
            (10, 13, "inbound[0].listen"),
            "address `:8443` has no IP address",
            "write `0.0.0.0:8443` for all interfaces, `127.0.0.1:8443` for this machine only",
        ),
        (
            "listen: 0.0.0.0:8443",
            "listen: 0.0.0.0",
            (10, 13, "inbound[0].listen"),
            "address `0.0.0.0` has no port",
            "write `0.0.0.0:8443`, or another port",
        ),
        (
            "listen: 0.0.0.0:8443",
            "listen: ::1:8443",
            (10, 13, "inbound[0].listen"),
            "IPv6 address `::1:8443` is not in brackets",
            "write `[ADDRESS]:PORT`, for example `[::1]:8443`",
        ),
        (
            "listen: 0.0.0.0:8443",
            "listen: unix:/run/a.sock",
            (10, 13, "inbound[0].listen"),
            "an inbound listener takes connections from other machines, a Unix socket cannot",
            "write `IP:PORT`, for example `0.0.0.0:8443`",
        ),
        (
            "listen: 127.0.0.1:9001",
            "listen: 127.0.0.1:8443",
            (16, 13, "outbound[0].listen"),
            "address `127.0.0.1:8443` is taken by `inbound[0].listen` in line 10",
            "choose another port",
        ),
        (
            "listen: 127.0.0.1:9001",
            "listen: \"[::]:9001\"",
            (16, 13, "outbound[0].listen"),
            "`[::]:9001` is not on loopback: whoever reaches it would act as this workload",
            "write `127.0.0.1:9001`, or set `unsafe_listen_off_loopback: true`",
        ),
        (
            "listen: 127.0.0.1:9001",
            "listen: 'unix:'",
            (16, 13, "outbound[0].listen"),
            "the socket has no path",
            "for example `unix:/run/portcullis/lake.sock`",
        ),
        (
            "listen: 127.0.0.1:9001",
            "listen: unix:/a\n    mode: \"0999\"",
            (17, 11, "outbound[0].mode"),
            "`0999` is not a mode, which has three octal digits",
            "write for example `\"0660\"`",
        ),
        (
            "listen: 127.0.0.1:9001",
            "listen: 127.0.0.1:9001\n    allow_uids: [0]",
            (17, 5, "outbound[0].allow_uids"),
            "`allow_uids` is for Unix sockets, this listener has an IP address",
            "remove it, or listen on `unix:/PATH`",
        ),
        (
            "listen: 127.0.0.1:9001",
            "listen: unix:/a\n    allow_uids: [-1]",
            (17, 18, "outbound[0].allow_uids[0]"),
            "`-1` is out of range",
            "at least 0, at most 4294967294",
        ),
        (
            "  listen: 127.0.0.1:0",
            "  listen: 0.0.0.0:15020",
            (21, 11, "admin.listen"),
            "`0.0.0.0:15020` is not on loopback: who reaches it can stop this sidecar",
            "write `127.0.0.1:15020`; what kubelet and Prometheus need is under `health`",
        ),
        (
            "  listen: 127.0.0.1:0",
            "  {}",
            (20, 1, "admin"),
            "`admin` has neither `listen` nor `socket`",
            "name one of the two, or remove `admin`",
        ),
        (
            "workers: 1",
            "health: {listen: 127.0.0.1:9001}",
            (22, 18, "health.listen"),
            "address `127.0.0.1:9001` is taken by `outbound[0].listen` in line 16",
            "choose another port",
        ),
    ]);
    let text = good_but("listen: 127.0.0.1:9001", "listen: unix:/a").replace("  listen: 127.0.0.1:0", "  socket: /a");
    let problem = the_only_problem(&text);
    assert_eq!(problem.message, "socket `/a` is taken by `outbound[0].listen` in line 16");
}

#[test]
fn upstreams_and_peers_are_refused_with_their_reason() {
    assert_rows(&[
        (
            "upstream: http://127.0.0.1:9000",
            "upstream: 127.0.0.1:9000",
            (12, 15, "inbound[0].upstream"),
            "upstream `127.0.0.1:9000` does not say what is spoken to it",
            "write `http://127.0.0.1:9000`, or `h2c://127.0.0.1:9000` for HTTP/2 without TLS",
        ),
        (
            "upstream: http://127.0.0.1:9000",
            "upstream: http://10.0.0.1:9000",
            (12, 15, "inbound[0].upstream"),
            "`10.0.0.1` is not on loopback: what was permitted would cross the network in plain",
            "run portcullis beside the service, or set `unsafe_upstream_off_loopback: true`",
        ),
        (
            "upstream: http://127.0.0.1:9000",
            "upstream: http://127.0.0.1:9000/",
            (12, 15, "inbound[0].upstream"),
            "upstream has `/` after the port; requests keep their own path",
            "end after the port: `127.0.0.1:9000`",
        ),
        (
            "upstream: http://127.0.0.1:9000",
            "upstream: https://store:443",
            (12, 15, "inbound[0].upstream"),
            "`https://` upstreams come in a later version",
            "write the plain address of the local service, for example `http://127.0.0.1:9000`",
        ),
        (
            "upstream: http://127.0.0.1:9000",
            "upstream: http://localhost:8443",
            (12, 15, "inbound[0].upstream"),
            "the upstream is this listener itself",
            "write the address at which the local service listens",
        ),
        (
            "upstream: lake.data.svc:8443",
            "upstream: http://lake.data.svc:8443",
            (18, 15, "outbound[0].upstream"),
            "an outbound upstream is `HOST:PORT` without `http://`: it is always spoken to by mTLS",
            "write `lake.data.svc:8443`",
        ),
        (
            "upstream: lake.data.svc:8443",
            "upstream: lake.data.svc",
            (18, 15, "outbound[0].upstream"),
            "upstream `lake.data.svc` has no port",
            "write `lake.data.svc:PORT`",
        ),
        (
            "peer: spiffe://pipeline.example/ns/data/sa/lake",
            "peer: lake",
            (19, 11, "outbound[0].peer"),
            "`lake` is not a SPIFFE ID: SPIFFE ID does not begin with `spiffe://`",
            "write `spiffe://TRUST-DOMAIN/PATH`, `spiffe://TRUST-DOMAIN/PATH/*`, or `any`",
        ),
        (
            "peer: spiffe://pipeline.example/ns/data/sa/lake",
            "peer: spiffe://pipeline.example",
            (19, 11, "outbound[0].peer"),
            "`spiffe://pipeline.example` names a trust domain, not a workload",
            "name the workload, `spiffe://pipeline.example/PATH`, or write `spiffe://pipeline.example/*` for all workloads of the trust domain",
        ),
        (
            "peer: spiffe://pipeline.example/ns/data/sa/lake",
            "peer: [spiffe://pipeline.example/a, any]",
            (19, 41, "outbound[0].peer[1]"),
            "`any` stands beside other peers, which it makes pointless",
            "write `peer: any` alone, or remove `any`",
        ),
        (
            "peer: spiffe://pipeline.example/ns/data/sa/lake",
            "peer: spiffe://pipelin.example/ns/data",
            (19, 11, "outbound[0].peer"),
            "trust domain `pipelin.example` has no bundle: nobody from there can be verified",
            "did you mean `pipeline.example`?",
        ),
        (
            "peer: spiffe://pipeline.example/ns/data/sa/lake",
            "peer: spiffe://elsewhere/a",
            (19, 11, "outbound[0].peer"),
            "trust domain `elsewhere` has no bundle: nobody from there can be verified",
            "add its bundle to `identity.trust_bundles`",
        ),
        (
            "peer: spiffe://pipeline.example/ns/data/sa/lake",
            "peer: []",
            (19, 5, "outbound[0].peer"),
            "the list is empty",
            "name at least one, or leave the key out",
        ),
    ]);
}

#[test]
fn options_of_a_protocol_are_refused_with_their_reason() {
    assert_rows(&[
        (
            "upstream: http://127.0.0.1:9000",
            "upstream: [http://127.0.0.1:9000, http://127.0.0.1:9001]",
            (12, 5, "inbound[0].upstream"),
            "several upstreams are for `protocol: tcp` and `protocol: postgres`",
            "write one, and put a load balancer behind it",
        ),
        (
            "upstream: http://127.0.0.1:9000",
            "upstream: unix:/run/store.sock",
            (12, 15, "inbound[0].upstream"),
            "an upstream that is spoken to by HTTP or mTLS cannot be a Unix socket",
            "let the service listen on a port, and name that",
        ),
        (
            "protocol: http",
            "protocol: http\n    host_suffixes: [s3.example]",
            (18, 5, "outbound[0].host_suffixes"),
            "`host_suffixes` is for `protocol: s3`, this listener speaks `http`",
            "remove it, or write `protocol: s3`",
        ),
        (
            "host_suffixes: [s3.example]",
            "merge_slashes: true",
            (13, 5, "inbound[0].merge_slashes"),
            "`merge_slashes` is for `protocol: http`, this listener speaks `s3`",
            "remove it, or write `protocol: http`",
        ),
        (
            "host_suffixes: [s3.example]",
            "host_suffixes: [.s3.example]",
            (13, 21, "inbound[0].host_suffixes[0]"),
            "host suffix `.s3.example` begins with a dot or a wildcard",
            "write `s3.example`",
        ),
        (
            "host_suffixes: [s3.example]",
            "host_suffixes: [s3.example, example]",
            (13, 21, "inbound[0].host_suffixes[0]"),
            "host suffix `s3.example` lies below `example`: one Host would name two buckets",
            "keep one of the two, or list the other under `hosts` for path style",
        ),
        (
            "host_suffixes: [s3.example]",
            "host_suffixes: [127.0.0.1]",
            (13, 21, "inbound[0].host_suffixes[0]"),
            "`127.0.0.1` is not a host suffix: it is an IP address",
            "write a domain name, for example `s3.example`",
        ),
        (
            "protocol: http",
            "protocol: http\n    hosts: [api.example:80]",
            (18, 13, "outbound[0].hosts[0]"),
            "host `api.example:80` has a port",
            "a Host is known without its port: write `api.example`",
        ),
        (
            "protocol: http",
            "protocol: http\n    hosts: ['*.example']",
            (18, 13, "outbound[0].hosts[0]"),
            "host `*.example` has a wildcard",
            "name each Host; for S3 buckets in the Host see `host_suffixes`",
        ),
        (
            "protocol: http",
            "protocol: http\n    unsafe_allow_override_headers: ['x y']",
            (18, 37, "outbound[0].unsafe_allow_override_headers[0]"),
            "`x y` is not a header name",
            "write one name, for example `x-http-method-override`",
        ),
    ]);
}

#[test]
fn audit_and_log_are_refused_with_their_reason() {
    assert_rows(&[
        (
            "workers: 1",
            "audit: {sink: file}",
            (22, 15, "audit.sink"),
            "`sink: file` has no `path`",
            "add for example `path: /var/log/portcullis/audit.jsonl`",
        ),
        (
            "workers: 1",
            "audit: {path: a.jsonl}",
            (22, 15, "audit.path"),
            "`path` has no effect without `sink: file`",
            "add `sink: file`, or remove `path`",
        ),
        ("workers: 1", "audit: {sink: syslog}", (22, 15, "audit.sink"), "`syslog` is not one of `stdout`, `file`", ""),
        (
            "workers: 1",
            "log: {format: jsno}",
            (22, 15, "log.format"),
            "`jsno` is not one of `json`, `text`",
            "did you mean `json`?",
        ),
        (
            "workers: 1",
            "log: {filter: inof}",
            (22, 15, "log.filter"),
            "`inof` is not a log filter: `inof` is not a level",
            "did you mean `info`?",
        ),
        (
            "workers: 1",
            "log: {filter: portcullis=loud}",
            (22, 15, "log.filter"),
            "`portcullis=loud` is not a log filter: error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5",
            "write a level (`info`), or levels per module (`info,portcullis::policy=debug`)",
        ),
    ]);
}
