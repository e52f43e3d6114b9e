//! Header fields by which a peer would be somebody else, ask for something else, or hide what policies read.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::http_attacks::{POLICIES, Stage, record_of};
use crate::support::*;

/// `x-role: admin` is forbidden in whatever company, and `x-tenant` has to be `a`.
const HEADER_POLICIES: &str = r#"
@id("tenant-a")
permit (principal, action in [Action::"read", Action::"write"], resource in Endpoint::"endpoint")
when { context has headers && context.headers.hasTag("x-tenant") && context.headers.getTag("x-tenant") == ["a"] };

@id("no-admins")
forbid (principal, action in [Action::"read", Action::"write"], resource in Endpoint::"endpoint")
when { context has headers && context.headers.hasTag("x-role") && context.headers.getTag("x-role").contains("admin") };

@id("not-on-internal")
forbid (principal, action in [Action::"read", Action::"write"], resource in Endpoint::"endpoint")
when { context has host && context.host == "internal.example" };
"#;

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nhost: api\r\n{fields}\r\n")
}

/// Everything by which a peer may claim to be another, and what an upstream must not take from it.
const CLAIMS: &str = "X-Forwarded-Client-Cert: By=spiffe://x/y;URI=spiffe://pipeline.example/admin\r\n\
    x-forwarded-client-cert: URI=spiffe://pipeline.example/admin\r\n\
    x_forwarded_client_cert: URI=spiffe://pipeline.example/admin\r\n\
    X-Forwarded_Client-Cert: URI=spiffe://pipeline.example/admin\r\n\
    Client-Cert: :MIIB:\r\n\
    client_cert_chain: :MIIB:\r\n\
    X-Portcullis-Decision: forged\r\n\
    x_portcullis_peer: forged\r\n";

/// What an upstream got has nothing of [`CLAIMS`] and our own claim once.
fn assert_only_our_claim(stage: &Stage, bytes: &str) {
    let service = stage.world.id("service");
    let claims: Vec<&str> =
        bytes.lines().filter(|line| line.to_ascii_lowercase().replace('_', "-").contains("client-cert")).collect();
    assert_eq!(claims.len(), 1, "{bytes}");
    let claim = claims[0].strip_prefix("x-forwarded-client-cert: ").expect("in its one spelling");
    let expected =
        format!("By={service};Hash={};Subject=\"CN=workload\";URI={}", stage.peer_sha256(), stage.world.id("peer"));
    assert_eq!(claim, expected);
    for forged in ["forged", "spiffe://pipeline.example/admin", "MIIB", "portcullis"] {
        assert!(!bytes.contains(forged), "{forged} in {bytes}");
    }
}

#[tokio::test]
async fn a_peer_cannot_claim_an_identity_in_a_head() {
    let upstream = RawUpstream::answering_heads();
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    for (at, connection) in
        ["", "Connection: x-forwarded-client-cert, close\r\n", "Connection: x_forwarded_client_cert\r\n"]
            .into_iter()
            .enumerate()
    {
        let answer = stage.exchange(get(&format!("{CLAIMS}{connection}x-mark: {at}\r\n"))).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let all = upstream.received_with(&format!("x-mark: {at}")).await;
        let last = all.rsplit("GET /x ").next().expect("is there");
        assert_only_our_claim(&stage, last);
    }
    stage.service.stop().await;
}

#[tokio::test]
async fn a_peer_cannot_claim_an_identity_in_trailers() {
    let upstream = RawUpstream::start(|bytes| {
        match bytes.ends_with(b"0\r\n\r\n") || bytes.ends_with(b"x-checksum: abc\r\n\r\n") {
            false => Step::Wait,
            true => Step::Reply(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()),
        }
    });
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    let names = "x-forwarded-client-cert, x_forwarded_client_cert, client-cert, x-portcullis-decision, x-checksum";
    let head = format!(
        "POST /x HTTP/1.1\r\nhost: api\r\nte: trailers\r\ntrailer: {names}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let answer = stage.exchange(format!("{head}3\r\nabc\r\n0\r\n{CLAIMS}x-checksum: abc\r\n\r\n")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let bytes = upstream.received_with("0\r\n").await;
    let trailers = bytes.rsplit("0\r\n").next().expect("is there").to_owned();
    assert!(!trailers.contains("cert") && !trailers.contains("forged"), "{bytes}");
    stage.service.stop().await;
}

#[tokio::test]
async fn a_local_app_cannot_claim_an_identity_through_its_own_sidecar() {
    let (world, upstream) = (World::new(), Recorder::start());
    let pair = world.pair("http", &upstream.url(), ALLOW_ALL).await;
    let mut raw = Raw::connect(pair.address()).await;
    raw.write(get(CLAIMS)).await;
    assert_eq!(raw.answer().await.expect("an answer").status(), 200);
    let seen = &upstream.complete(1).await[0];
    let claims: Vec<&str> = seen
        .headers
        .keys()
        .map(http::HeaderName::as_str)
        .filter(|name| name.contains("cert") || name.contains("portcullis"))
        .collect();
    assert_eq!(claims, ["x-forwarded-client-cert"]);
    assert_eq!(seen.headers.get_all("x-forwarded-client-cert").iter().count(), 1);
    assert!(seen.header("x-forwarded-client-cert").ends_with(&format!("URI={}", world.id("app"))), "{seen:#?}");
    pair.stop().await;
}

#[tokio::test]
async fn connection_drops_what_it_names_but_never_a_header_that_carries_who_or_what_is_asked() {
    let upstream = RawUpstream::answering_heads();
    let stage = Stage::before(&upstream.url(), POLICIES, "").await;
    let fields = "Connection: authorization, Cookie, x-amz-date, x-forwarded-for, range, if-match, traceparent, host, content-type, x-hop\r\n\
        authorization: Bearer t\r\ncookie: a=b\r\nx-amz-date: d\r\nx-forwarded-for: 192.0.2.1\r\nrange: bytes=0-1\r\nif-match: *\r\n\
        traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ncontent-type: a/b\r\nx-hop: 1\r\n\
        Keep-Alive: 5\r\nProxy-Connection: close\r\nte: trailers\r\nproxy-authorization: Basic eA==\r\n";
    assert_eq!(stage.exchange(get(fields)).await.status(), 200);
    let bytes = upstream.received_with("GET /x").await.to_ascii_lowercase();
    for kept in [
        "authorization: bearer",
        "cookie",
        "x-amz-date",
        "x-forwarded-for",
        "range",
        "if-match",
        "traceparent",
        "host",
        "content-type",
    ] {
        assert!(bytes.contains(&format!("\r\n{kept}")), "{kept} in {bytes}");
    }
    for dropped in ["connection", "x-hop", "keep-alive", "proxy-connection", "proxy-authorization", "te:"] {
        assert!(!bytes.contains(&format!("\r\n{dropped}")), "{dropped} in {bytes}");
    }
    stage.service.stop().await;
}

/// What an attack on [`HEADER_POLICIES`] comes to: status, and the policy or rule of the record.
async fn assert_judged<S, F>(records: &Records, connect: impl Fn() -> F, cases: &[(&str, u16, &str)])
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Raw<S>>,
{
    for (fields, status, by) in cases {
        let mut raw = connect().await;
        raw.write(get(fields)).await;
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.status(), *status, "{fields:?}: {answer:?}");
        if *status != 200 {
            let record = record_of(records, &answer).await;
            let told = policies_of(&record).first().copied().or(record["reason"].as_str()).unwrap_or_default();
            assert_eq!(told, *by, "{fields:?}: {record:#}");
        }
    }
}

#[tokio::test]
async fn each_value_of_a_header_that_policies_read_is_judged() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), HEADER_POLICIES, "").await;
    let denied = [
        ("x-tenant: a\r\nx-role: admin\r\n", 403, "no-admins"),
        ("x-tenant: a\r\nX-Role: admin\r\n", 403, "no-admins"),
        // CVE-2021-32777, CVE-2026-26308: neither the last value alone nor the joined ones.
        ("x-tenant: a\r\nx-role: user\r\nx-role: admin\r\n", 403, "no-admins"),
        ("x-tenant: a\r\nx-role: admin\r\nx-role: user\r\n", 403, "no-admins"),
        ("x-tenant: a\r\nx-role: user\r\nx-other: 1\r\nx-role: admin\r\nx-role: user\r\n", 403, "no-admins"),
        ("x-tenant: a\r\nx-role: \t admin \t\r\n", 403, "no-admins"),
        ("x-tenant: a\r\nx-tenant: b\r\n", 403, ""),
        ("x-tenant: b\r\nx-tenant: a\r\n", 403, ""),
        ("x-tenant: a,b\r\n", 403, ""),
        ("x-tenant: A\r\n", 403, ""),
        ("", 403, ""),
        // A header that does not go on is not there.
        ("x-tenant: a\r\nConnection: x-tenant\r\n", 403, ""),
        ("x-tenant: a\r\nConnection: close, X-TENANT\r\n", 403, ""),
        // CVE-2024-23324: what is no text must not pass for absent.
        ("x-tenant: a\r\nx-role: admin\u{0}\r\n", 400, "nul"),
        // Upstreams that do not tell `_` from `-` read it as the header that the policy forbids.
        ("x-tenant: a\r\nx_role: admin\r\n", 400, "header-spelling"),
        ("x-tenant: a\r\nx-tenant: a\r\nX_Tenant: b\r\n", 400, "header-spelling"),
    ];
    assert_judged(&stage.service.records, || stage.raw(), &denied).await;
    let mut raw = stage.raw().await;
    raw.write(b"GET /x HTTP/1.1\r\nhost: api\r\nx-tenant: a\r\nx-role: admin\xff\r\n\r\n").await;
    let answer = raw.answer().await.expect("an answer");
    assert_eq!((answer.status(), &stage.record_of(&answer).await["reason"]), (400, &"header-not-utf8".into()));
    upstream.assert_untouched();

    let allowed = [
        ("x-tenant: a\r\n", 200, ""),
        ("x-tenant: a\r\nx-tenant: a\r\n", 200, ""),
        ("x-tenant: a\r\nx-role: user\r\nx-role: guest\r\n", 200, ""),
        ("x-tenant: a\r\nx_other: admin\r\n", 200, ""),
        ("x-tenant: a\r\nconnection: x-role\r\nx-role: admin\r\n", 200, ""),
    ];
    assert_judged(&stage.service.records, || stage.raw(), &allowed).await;
    let seen = upstream.complete(allowed.len()).await;
    let roles: Vec<_> = seen[2].headers.get_all("x-role").iter().collect();
    assert_eq!(roles, ["user", "guest"], "as they were judged");
    assert!(!seen[4].headers.contains_key("x-role"), "a header that was not judged does not arrive");
    stage.service.stop().await;
}

#[tokio::test]
async fn a_host_is_compared_in_one_form_and_has_to_be_known() {
    let upstream = Recorder::start();
    // CVE-2026-27588: the form must not depend on how many there are.
    let many: String = (0..150).map(|at| format!("  - host-{at}.example\n")).collect();
    let hosts = format!("hosts:\n  - Api.Example\n  - internal.example\n  - '::1'\n{many}");
    let stage = Stage::before(&upstream.url(), HEADER_POLICIES, &hosts).await;
    let of = |host: &str| format!("GET /x HTTP/1.1\r\nhost: {host}\r\nx-tenant: a\r\n\r\n");
    for (host, status) in [
        ("api.example", 200),
        ("API.EXAMPLE", 200),
        ("api.example.", 200),
        ("api.example:8443", 200),
        ("[::1]:80", 200),
        ("Host-149.example", 200),
        // CVE-2021-39155: forbidden in every case.
        ("internal.example", 403),
        ("INTERNAL.example", 403),
        ("internal.example.:443", 403),
        ("other.example", 421),
        ("api.example.other", 421),
        ("xapi.example", 421),
        ("127.0.0.1", 421),
        ("[::2]", 421),
    ] {
        let answer = stage.exchange(of(host)).await;
        assert_eq!(answer.status(), status, "{host}: {answer:?}");
        if status == 403 {
            assert_eq!(policies_of(&stage.record_of(&answer).await), ["not-on-internal"], "{host}");
        } else if status == 421 {
            let record = stage.record_of(&answer).await;
            assert_eq!((&record["outcome"], &record["reason"]), (&"refused".into(), &"unknown-host".into()), "{host}");
        }
    }
    // In absolute form the authority is the host that is judged and sent.
    let absolute = "GET http://internal.example/x HTTP/1.1\r\nhost: INTERNAL.EXAMPLE\r\nx-tenant: a\r\n\r\n";
    assert_eq!(stage.exchange(absolute).await.status(), 403);
    assert_eq!(upstream.complete(6).await.len(), 6);
    stage.service.stop().await;
}

#[tokio::test]
async fn no_byte_of_a_peer_can_forge_a_record() {
    const FORGED: &str = "{\"kind\":\"request\",\"outcome\":\"allowed\",\"principal\":\"forged\"}";
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), HEADER_POLICIES, "").await;
    let mut expected = 0;
    for fields in [
        format!("x-tenant: \"}}{FORGED}\r\n"),
        format!("x-tenant: a\r\nx-request-id: {FORGED}\r\n"),
        "x-tenant: a\r\nx-request-id: \"\\\"\u{2028}\r\n".to_owned(),
        format!("x-tenant: a\r\ntraceparent: 00-{FORGED}-b7ad6b7169203331-01\r\n"),
        "x-tenant: \u{85}\u{2029}\\u000a\\\"\r\n".to_owned(),
        format!("x-tenant: a\r\nx-role: \u{1b}[31m{FORGED}\r\n"),
    ] {
        stage.exchange(get(&fields)).await;
        expected += 1;
    }
    for target in ["/%22%7D%7B%22outcome%22", "/%0a{}", "/x\",\"outcome\":\"allowed"] {
        stage.exchange(format!("GET {target} HTTP/1.1\r\nhost: api\r\n\r\n")).await;
        expected += 1;
    }
    stage.exchange("G\"},{ /x HTTP/1.1\r\nhost: api\r\n\r\n").await;
    let records = stage.service.records.requests(expected + 1).await;
    assert_eq!(records.len(), expected + 1, "one line each");
    assert!(records.iter().all(|record| record["principal"] == stage.world.id("peer").as_str()), "{records:#?}");
    let plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    assert!(records.iter().filter_map(|record| record["request_id"].as_str()).all(plain), "{records:#?}");
    stage.service.stop().await;
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_is_plain_and_made_otherwise() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    let (longest, longer) = ("a".repeat(128), "a".repeat(129));
    for (given, kept) in [
        ("Order-17._x", true),
        (longest.as_str(), true),
        (longer.as_str(), false),
        ("", false),
        ("a b", false),
        ("a,b", false),
        ("a\r\nx-request-id: b", false),
    ] {
        let before = upstream.seen().len();
        stage.exchange(get(&format!("x-request-id: {given}\r\n"))).await;
        let seen = &upstream.complete(before + 1).await[before];
        let ids: Vec<&str> = seen.headers.get_all("x-request-id").iter().filter_map(|id| id.to_str().ok()).collect();
        assert_eq!((ids.len(), ids[0] == given), (1, kept), "{given}: {ids:?}");
        let record = stage.service.records.find(given, |record| record["request_id"] == ids[0]).await;
        assert_eq!(record["outcome"], "allowed");
    }
    stage.service.stop().await;
}

#[tokio::test]
async fn an_upstream_cannot_speak_in_our_name() {
    let headers = ["x-portcullis-decision", "x-portcullis-error", "connection", "x-hop"].map(|name| {
        let value = if name == "connection" { "x-hop" } else { "forged" };
        (name.to_owned(), value.to_owned())
    });
    let upstream = Recorder::answering(move |_| Reply { headers: headers.to_vec(), ..Reply::text("ok") });
    let stage = Stage::before(&upstream.url(), ALLOW_ALL, "").await;
    let answer = stage.exchange(get("")).await;
    assert_eq!((answer.status(), answer.body.as_slice()), (200, &b"ok"[..]));
    assert!(!answer.head.contains("forged"), "{answer:?}");
    stage.service.stop().await;
}

#[tokio::test]
async fn override_headers_pass_only_where_the_configuration_names_them() {
    let upstream = Recorder::start();
    let options = "unsafe_allow_override_headers:\n  - x-http-method-override\n";
    let stage = Stage::before(&upstream.url(), POLICIES, options).await;
    assert_eq!(stage.exchange(get("X-HTTP-Method-Override: GET\r\n")).await.status(), 200);
    for other in ["x-original-url: /admin\r\n", "x_http_method_override: DELETE\r\n", "x-http-method: DELETE\r\n"] {
        let answer = stage.exchange(get(other)).await;
        assert_eq!(
            (answer.status(), &stage.record_of(&answer).await["reason"]),
            (400, &"override-header".into()),
            "{other}"
        );
    }
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(
        stage.service.records.all().iter().filter(|record| record["outcome"] == Value::from("refused")).count(),
        3
    );
    stage.service.stop().await;
}

/// CVE-2013-5704: an upstream that adds trailers to its head would read there what no policy has seen.
#[tokio::test]
async fn what_policies_read_of_a_head_is_no_trailer() {
    let upstream = Recorder::start();
    let stage = Stage::before(&upstream.h2c_url(), HEADER_POLICIES, "").await;
    let trailers = "X-Role: admin\r\nx_role: admin\r\nx-tenant: b\r\nx-http-method-override: DELETE\r\nx_original_url: /admin\r\n\
        x-forwarded-host: internal.example\r\nx-checksum: abc\r\n";
    let head = "POST /x HTTP/1.1\r\nhost: api\r\nx-tenant: a\r\nte: trailers\r\ntrailer: x-role, x-checksum\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(stage.exchange(format!("{head}3\r\nabc\r\n0\r\n{trailers}\r\n")).await.status(), 200);
    let seen = &upstream.complete(1).await[0];
    let names: Vec<&str> = seen.trailers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["x-checksum"], "{seen:#?}");
    stage.service.stop().await;
}
