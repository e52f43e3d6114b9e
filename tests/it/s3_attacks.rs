//! S3 requests that try to be read in two ways. Each goes to an inbound sidecar whose policies permit everything, so what
//! stops it is that it cannot be named; or to one that permits little, and then the record says what was really asked.

use http::HeaderMap;
use serde_json::Value;

use crate::support::*;

/// Path style here, buckets by Host below `s3.example`.
const HOSTS: &str = "host_suffixes: [s3.example]\nhosts: [store.internal]\n";

/// An inbound sidecar, what is behind it, and a workload that may connect.
struct Gate {
    _world: World,
    upstream: Recorder,
    service: Sidecar,
    app: TlsClient,
    http2: Client,
}

impl Gate {
    async fn start(policies: &str, options: &str) -> Self {
        let (world, upstream) = (World::new(), Recorder::start());
        let service = world.sidecar("service").policies(policies);
        let service = service.inbound("endpoint", "s3", &upstream.url(), options).start().await;
        let app = TlsClient::with(&world.ca.issue("/ns/test/sa/app"));
        let stream =
            app.clone().alpn(&["h2"]).connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
        Self { http2: http2(stream).await, _world: world, upstream, service, app }
    }

    /// Sends bytes on a connection of their own.
    async fn send(&self, bytes: &[u8]) -> Reached {
        let seen = self.upstream.seen().len();
        let stream = self.app.connect(self.service.inbound("endpoint")).await.expect("the handshake succeeds");
        let mut connection = Raw::over(stream);
        connection.write(bytes).await;
        let answer =
            connection.answer().await.unwrap_or_else(|| panic!("no answer to {}", String::from_utf8_lossy(bytes)));
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        let decision = answer.header("x-portcullis-decision").map(str::to_owned);
        self.reached(answer.status(), text, decision, seen).await
    }

    /// Over HTTP/1.1 and, where HTTP/2 can say it, over HTTP/2.
    async fn send_both(&mut self, request: &S3Request) -> Vec<Reached> {
        let http1 =
            if request.method == "HEAD" { self.send_head(request).await } else { self.send(&request.to_bytes()).await };
        let mut both = vec![http1];
        if can_be_http2(request) {
            both.push(self.send_http2(request.clone()).await);
        }
        both
    }

    /// A HEAD: its answer declares a length and has no body, which takes a client that knows.
    async fn send_head(&self, request: &S3Request) -> Reached {
        let seen = self.upstream.seen().len();
        let stream = self.app.connect(self.service.inbound("endpoint")).await.expect("the handshake succeeds");
        let answer = http1(stream).await.send(request.clone().into_request()).await;
        let decision = decision_of(&answer);
        self.reached(answer.status.as_u16(), answer.text(), decision, seen).await
    }

    /// The same request over HTTP/2, on a connection that all of them share.
    async fn send_http2(&mut self, request: S3Request) -> Reached {
        let seen = self.upstream.seen().len();
        let answer = self.http2.send(request.into_http2_request()).await;
        let decision = decision_of(&answer);
        self.reached(answer.status.as_u16(), answer.text(), decision, seen).await
    }

    async fn reached(&self, status: u16, text: String, decision: Option<String>, seen: usize) -> Reached {
        let forwarded = self.upstream.seen().split_off(seen);
        let record = match decision {
            Some(decision) => self.service.records.of_decision(&decision).await,
            None => self.service.records.all().pop().unwrap_or_default(),
        };
        Reached { status, text, record, forwarded }
    }

    /// Asserts that a request is refused by `rule`, over HTTP/1.1 and, where HTTP/2 can say it, over HTTP/2.
    async fn refuses(&mut self, request: &S3Request, status: u16, rule: &str) {
        let what = format!("{} {} {:?}", request.method, request.target, request.headers);
        let answers = self.send_both(request).await;
        for reached in answers {
            let reason = reached.record["reason"].as_str().unwrap_or_default();
            assert_eq!((reached.status, reason), (status, rule), "{what}: {reached:#?}");
            assert_eq!(reached.record["outcome"], "refused", "{what}");
            assert!(reached.record["action"].is_null(), "{what}: no policy was asked: {}", reached.record);
            assert!(reached.forwarded.is_empty(), "{what} reached the upstream: {:#?}", reached.forwarded);
            let code = if status == 501 { "NotImplemented" } else { "InvalidRequest" };
            let is_xml = reached.text.contains(&format!("<Error><Code>{code}</Code>"));
            assert_eq!(is_xml, request.method != "HEAD", "{what}: {}", reached.text);
        }
    }

    /// Asserts that a request is allowed and forwarded with target, Host and body as they are; `asks` is what is recorded.
    async fn allows(&mut self, request: &S3Request, asks: &[&str]) {
        let what = format!("{} {} {:?}", request.method, request.target, request.headers);
        let answers = self.send_both(request).await;
        for reached in answers {
            assert_eq!((reached.status, &reached.record["outcome"]), (200, &"allowed".into()), "{what}: {reached:#?}");
            assert_eq!(reached.asked(), asks, "{what}");
            let [seen] = &*reached.forwarded else { panic!("{what}: {:#?}", reached.forwarded) };
            assert_eq!((seen.method.as_str(), &seen.target), (&*request.method, &request.target), "{what}");
            assert_eq!((seen.header("host"), &seen.body), (&*request.host, &request.body), "{what}");
        }
    }

    /// Asserts that a request is denied with `outcome` by `policy` (`""`: none permits) because of this operation.
    async fn denies(&mut self, request: &S3Request, outcome: &str, policy: &str, asked: &str) {
        let what = format!("{} {} {:?}", request.method, request.target, request.headers);
        let answers = self.send_both(request).await;
        for reached in answers {
            let record = &reached.record;
            assert_eq!((reached.status, record["outcome"].as_str()), (403, Some(outcome)), "{what}: {reached:#?}");
            assert_eq!(policies_of(record).join(","), policy, "{what}");
            assert_eq!(operation(record), asked, "{what}");
            assert!(reached.forwarded.is_empty(), "{what} reached the upstream: {:#?}", reached.forwarded);
            let is_xml = reached.text.contains("<Error><Code>AccessDenied</Code>");
            assert_eq!(is_xml, request.method != "HEAD", "{what}: {}", reached.text);
        }
    }
}

/// What came of a request.
#[derive(Debug)]
struct Reached {
    status: u16,
    text: String,
    record: Value,
    forwarded: Vec<Seen>,
}

impl Reached {
    /// Every operation of the record: `s3:GetObject Object::"endpoint/raw/a"`.
    fn asked(&self) -> Vec<String> {
        match self.record["operations"].as_array() {
            Some(operations) => operations.iter().map(operation).collect(),
            None => vec![operation(&self.record)],
        }
    }
}

fn decision_of(answer: &Answer) -> Option<String> {
    Some(answer.headers.get("x-portcullis-decision")?.to_str().ok()?.to_owned())
}

fn operation(of: &Value) -> String {
    format!("{} {}", of["action"].as_str().unwrap_or("-"), of["resource"].as_str().unwrap_or("-"))
}

/// HTTP/2 has no Host field of its own here, no framing fields, and hyper's URI takes no odd characters.
fn can_be_http2(request: &S3Request) -> bool {
    let of_http1 = ["host", "connection", "upgrade", "transfer-encoding", "http2-settings"];
    let is_uri = format!("http://{}{}", request.host, request.target).parse::<http::Uri>().is_ok_and(|uri| {
        uri.path_and_query().is_some_and(|target| target.as_str() == request.target)
            && uri.authority().is_some_and(|authority| authority.as_str() == request.host)
    });
    is_uri && !request.headers.iter().any(|(name, _)| of_http1.contains(&&*name.to_lowercase()))
}

/// `METHOD target`, with a path-style Host.
fn ask(line: &str) -> S3Request {
    S3Request::new("127.0.0.1:9000", line)
}

#[tokio::test]
async fn a_query_key_has_one_spelling_and_stands_once() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    gate.allows(&ask("GET /raw/a?acl"), &["s3:GetObjectAcl Object::\"endpoint/raw/a\""]).await;
    gate.allows(&ask("GET /raw/a?acl="), &["s3:GetObjectAcl Object::\"endpoint/raw/a\""]).await;
    for (line, status, rule) in [
        ("GET /raw/a?ACL", 501, "unknown-query-key"),
        ("GET /raw/a?Acl=", 501, "unknown-query-key"),
        ("GET /raw/a?%61cl", 400, "query-key"),
        ("GET /raw/a?%2561cl", 400, "query-key"),
        ("GET /raw/a?ac%6C", 400, "query-key"),
        ("GET /raw/a?acl%00", 400, "query-key"),
        ("GET /raw/a?acl%20", 400, "query-key"),
        ("GET /raw/a?+acl", 400, "query-key"),
        ("GET /raw/a?acl[]", 400, "query-key"),
        ("GET /raw/a?acl%5B%5D=", 400, "query-key"),
        ("GET /raw/a??acl", 400, "query-key"),
        ("GET /raw/a?=acl", 400, "query-key"),
        ("GET /raw/a?acl&acl", 400, "repeated-query-key"),
        ("GET /raw/a?acl=&acl", 400, "repeated-query-key"),
        ("GET /raw/a?acl&ACL", 400, "repeated-query-key"),
        ("GET /raw/a?versionId=1&versionId=1", 400, "repeated-query-key"),
        ("GET /raw/a?versionId=1&versionid=2", 400, "repeated-query-key"),
        ("GET /raw/a?x-id=GetObject&x-id=GetObject", 400, "repeated-query-key"),
        ("GET /raw/a?acl;x", 400, "query-separator"),
        ("GET /raw/a?x-id=GetObject;acl", 400, "query-separator"),
        ("GET /raw/a?acl%3Btagging", 400, "query-key"),
        ("GET /raw/a?&acl", 400, "empty-query-pair"),
        ("GET /raw/a?acl&", 400, "empty-query-pair"),
        ("GET /raw/a?acl&&x-id=GetObjectAcl", 400, "empty-query-pair"),
        ("GET /raw/a?acl=public-read", 501, "no-operation"),
        ("GET /raw/a?acl&tagging", 501, "no-operation"),
        ("GET /raw/a?policy", 501, "no-operation"),
        ("GET /raw/a?delete", 501, "no-operation"),
        ("GET /raw?delete", 501, "no-operation"),
        ("PUT /raw?delete", 501, "no-operation"),
        ("DELETE /raw?delete", 501, "no-operation"),
        ("POST /raw/a?delete", 501, "no-operation"),
        ("DELETE /raw/a?acl", 501, "no-operation"),
        ("PUT /raw/a?uploads", 501, "no-operation"),
        ("PUT /raw/a?partNumber=1", 501, "no-operation"),
        ("PUT /raw/a?uploadId=u", 501, "no-operation"),
        ("PUT /raw/a?partNumber=1&uploadId=", 501, "no-operation"),
        ("GET /raw?list-type=1", 501, "no-operation"),
        ("GET /raw?list-type=2&versions", 501, "no-operation"),
        ("GET /raw/a?prefix=b", 501, "no-operation"),
        ("GET /?acl", 501, "no-operation"),
        ("GET /raw/a?versionid=1", 501, "unknown-query-key"),
        ("GET /raw/a?versionId=", 400, "version-id"),
        ("GET /raw/a?unheard-of", 501, "unknown-query-key"),
        ("GET /raw/a?_method=DELETE", 501, "unknown-query-key"),
        ("GET /raw/a?cloudrun", 501, "unknown-query-key"),
        ("POST /raw?Action=ListUsers", 501, "unknown-query-key"),
        ("GET /raw?prefix=%", 400, "invalid-percent"),
        ("GET /raw?prefix=%FF", 400, "invalid-utf8"),
        ("GET /raw?prefix=%C0%AF", 400, "invalid-utf8"),
        ("GET /raw?prefix=a%00", 400, "encoded-nul"),
        ("GET /raw?prefix=in/../secret/", 400, "dot-segment"),
        ("GET /raw?prefix=in%2F%2E%2E%2Fsecret%2F", 400, "dot-segment"),
        ("GET /raw?prefix=in//secret/", 400, "empty-segment"),
        ("PUT /raw/a?X-Amz-Acl=public-read", 400, "unsigned-hoisted-header"),
        ("PUT /raw/b?x-amz-copy-source=%2Fraw%2Fa", 400, "unsigned-hoisted-header"),
        ("GET /raw/a?x-amz-signature=0", 400, "unsigned-hoisted-header"),
        ("GET /raw/a?acl#x", 400, "fragment"),
    ] {
        gate.refuses(&ask(line), status, rule).await;
    }
    // What is no URI at all stops at the guard of HTTP/1.1, and at the mapping where there is no guard.
    let not_ascii = ask("GET /raw/a?acl=\u{e9}");
    for (reached, rule) in gate.send_both(&not_ascii).await.iter().zip(["target-character", "query-character"]) {
        assert_eq!((reached.status, &reached.record["reason"]), (400, &rule.into()), "{reached:#?}");
    }
    assert_eq!(gate.upstream.seen().len(), 4);
    gate.service.stop().await;
}

#[tokio::test]
async fn methods_and_headers_that_make_it_another_operation_are_refused() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let read = ["s3:GetObject Object::\"endpoint/raw/a\""];
    gate.allows(&ask("GET /raw/a").header("x-amz-meta-owner", "a").header("x-amz-user-agent", "b"), &read).await;
    for (method, rule) in [
        ("PATCH", "unknown-method"),
        ("OPTIONS", "unknown-method"),
        ("TRACE", "unknown-method"),
        ("PROPFIND", "unknown-method"),
        ("COPY", "unknown-method"),
        ("get", "unknown-method"),
        ("GETT", "unknown-method"),
    ] {
        gate.refuses(&ask(&format!("{method} /raw/a")), 501, rule).await;
    }
    for (name, value, status, rule) in [
        ("x-http-method-override", "DELETE", 400, "override-header"),
        ("x-http-method", "DELETE", 400, "override-header"),
        ("x-method-override", "DELETE", 400, "override-header"),
        ("x_http_method_override", "DELETE", 400, "override-header"),
        ("x-original-url", "/raw/b", 400, "override-header"),
        ("x-rewrite-url", "/raw/b", 400, "override-header"),
        ("x_amz_copy_source", "/raw/b", 400, "header-spelling"),
        ("x-amz_acl", "public-read", 400, "header-spelling"),
        ("x-minio-force-delete", "true", 501, "unknown-header"),
        ("x-minio-extract", "true", 501, "unknown-header"),
        ("x-amz-meta-snowball-auto-extract", "true", 501, "unknown-header"),
        ("x-amz-unheard-of", "true", 501, "unknown-header"),
        ("x-amz-target", "DeleteBucket", 501, "unknown-header"),
        ("x-goog-copy-source", "/raw/b", 501, "unknown-header"),
        ("x-rgw-object-copy", "/raw/b", 501, "unknown-header"),
    ] {
        gate.refuses(&ask("GET /raw/a").header(name, value), status, rule).await;
    }
    for (name, one, other) in [
        ("x-amz-acl", "private", "public-read"),
        ("x-amz-copy-source", "/raw/b", "/raw/c"),
        ("x-amz-server-side-encryption", "aws:kms", "AES256"),
        ("x-amz-storage-class", "STANDARD", "GLACIER"),
        ("x-amz-content-sha256", UNSIGNED_PAYLOAD, "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
        ("if-none-match", "*", "a"),
    ] {
        gate.refuses(&ask("PUT /raw/a").header(name, one).header(name, other), 400, "repeated-header").await;
    }
    gate.allows(
        &ask("PUT /raw/a").body("x").header("if-none-match", "*"),
        &["s3:PutObject Object::\"endpoint/raw/a\""],
    )
    .await;
    // A value that not everybody reads alike.
    gate.refuses(&ask("PUT /raw/a").header("x-amz-acl", "priv\u{e9}"), 400, "header-value").await;
    gate.refuses(
        &ask("PUT /raw/a").header("x-amz-copy-source", "/raw/b").header("x-amz-tagging-directive", "copy"),
        400,
        "header-value",
    )
    .await;
    gate.service.stop().await;
}

#[tokio::test]
async fn only_hosts_that_name_one_bucket_are_known() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let read = ["s3:GetObject Object::\"endpoint/raw/in/a\""];
    for (host, target) in [
        ("raw.s3.example", "/in/a"),
        ("raw.s3.example:9000", "/in/a"),
        ("s3.example", "/raw/in/a"),
        ("store.internal", "/raw/in/a"),
        ("localhost:1", "/raw/in/a"),
        ("127.0.0.1", "/raw/in/a"),
        ("[::1]:9000", "/raw/in/a"),
    ] {
        gate.allows(&S3Request::new(host, &format!("GET {target}")), &read).await;
    }
    for (host, rule) in [
        ("evil.example", "unknown-host"),
        ("raw.s3.example.evil.example", "unknown-host"),
        ("raws3.example", "unknown-host"),
        ("raw.store.internal", "unknown-host"),
        ("raw.localhost", "unknown-host"),
        // A store that compares its domain exactly would look for the bucket in the path.
        ("RAW.s3.example", "host-spelling"),
        ("raw.S3.Example", "host-spelling"),
        ("raw.s3.example.", "host-spelling"),
        ("raw.s3.example.:9000", "host-spelling"),
        ("S3.example", "host-spelling"),
        ("Store.internal", "host-spelling"),
        ("ra.w..s3.example", "bad-host"),
        (".s3.example", "bad-host"),
        ("raw%2es3.example", "bad-host"),
        ("raw.s3.example@evil.example", "bad-host"),
        ("raw,other.s3.example", "bad-host"),
        ("raw.s3.example:x", "bad-host"),
        ("10.0.0.1.s3.example", "bucket-name"),
        ("r_w.s3.example", "bucket-name"),
        ("ab.s3.example", "bucket-name"),
        ("-raw.s3.example", "bucket-name"),
    ] {
        gate.refuses(&S3Request::new(host, "GET /in/a"), 400, rule).await;
    }
    // Two hosts, none, and one that the target contradicts.
    let twice = S3Request::new("raw.s3.example", "GET /in/a").header("Host", "other.s3.example");
    gate.refuses(&twice, 400, "host-repeated").await;
    let twice = S3Request::new("raw.s3.example", "GET /in/a").header("Host", "raw.s3.example");
    gate.refuses(&twice, 400, "host-repeated").await;
    gate.refuses(&S3Request::new("raw.s3.example", "GET http://other.s3.example/in/a"), 400, "host-mismatch").await;
    gate.refuses(&S3Request::new("raw.s3.example", "GET http://u@raw.s3.example/in/a"), 400, "userinfo").await;
    let none = gate.send(b"GET /in/a HTTP/1.1\r\n\r\n").await;
    assert_eq!((none.status, &none.record["reason"]), (400, &"host-missing".into()));
    assert!(none.forwarded.is_empty());
    // Allowed twin: absolute form that says what Host says.
    let absolute = gate.send(b"GET http://raw.s3.example/in/a HTTP/1.1\r\nHost: raw.s3.example\r\n\r\n").await;
    assert_eq!((absolute.status, absolute.asked()), (200, vec![read[0].to_owned()]));
    let [seen] = &*absolute.forwarded else { panic!("{absolute:#?}") };
    assert_eq!((&*seen.target, seen.header("host")), ("/in/a", "raw.s3.example"));
    gate.service.stop().await;
}

#[tokio::test]
async fn a_key_that_stores_read_differently_is_refused() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let longest = format!("/raw/{}", "a/bcdefgh".repeat(128).split_at(1024).0);
    for (target, resource) in [
        ("/raw/a%2Fb", "raw/a/b"),
        ("/raw/a%2fb%2F", "raw/a/b/"),
        ("/raw/a+b%2Bc%20d", "raw/a+b+c d"),
        ("/raw/a%25b%2525", "raw/a%b%25"),
        ("/raw/a%26b=c%3Fd%23e;f", "raw/a&b=c?d#e;f"),
        ("/raw/%F0%9F%98%80/", "raw/😀/"),
        ("/raw/a..b/...", "raw/a..b/..."),
        ("/raw/%5C", "raw/\\"),
        (&longest, longest.trim_start_matches('/')),
    ] {
        let object = format!("s3:GetObject Object::{:?}", format!("endpoint/{resource}"));
        gate.allows(&ask(&format!("GET {target}")), &[&object]).await;
    }
    let too_long = format!("/raw/{}", "a".repeat(1025));
    let too_long_target = format!("/raw/{}", "%41".repeat(6_000));
    for (target, status, rule) in [
        ("/raw//a", 400, "empty-segment"),
        ("/raw/a//b", 400, "empty-segment"),
        ("/raw/a%2F%2Fb", 400, "empty-segment"),
        ("/raw/a/%2F", 400, "empty-segment"),
        ("/raw/./a", 400, "dot-segment"),
        ("/raw/../other/a", 400, "dot-segment"),
        ("/raw/..", 400, "dot-segment"),
        ("/raw/a/..", 400, "dot-segment"),
        ("/raw/%2e%2e/other/a", 400, "dot-segment"),
        ("/raw/%2E./other/a", 400, "dot-segment"),
        ("/raw/a%2F..%2Fb", 400, "dot-segment"),
        ("/raw/a/..%2fb", 400, "dot-segment"),
        ("/raw/a%00", 400, "encoded-nul"),
        ("/raw/%FF", 400, "invalid-utf8"),
        ("/raw/%C0%AE%C0%AE/a", 400, "invalid-utf8"),
        ("/raw/%", 400, "invalid-percent"),
        ("/raw/%2", 400, "invalid-percent"),
        ("/raw/%zz", 400, "invalid-percent"),
        ("/raw/a\\b", 400, "path-character"),
        ("/raw/a|b", 400, "path-character"),
        ("/raw/a^b", 400, "path-character"),
        (&too_long, 400, "key-length"),
        (&too_long_target, 414, "target-length"),
        ("/RAW/a", 400, "bucket-name"),
        ("/r%61w/a", 400, "encoded-bucket"),
        ("/raw%2Fa", 400, "encoded-bucket"),
        ("/raw%2F..%2Fother/a", 400, "encoded-bucket"),
        ("//raw/a", 400, "bucket-name"),
        ("/../raw/a", 400, "bucket-name"),
        ("/./raw/a", 400, "bucket-name"),
    ] {
        let request = ask(&format!("GET {target}"));
        if rule == "target-length" {
            // The guard of HTTP/1.1 says it before the head is whole; HTTP/2 has no guard.
            let reached = gate.send(&request.to_bytes()).await;
            assert_eq!((reached.status, &reached.record["reason"]), (status, &rule.into()), "{reached:#?}");
            assert!(reached.forwarded.is_empty());
            let reached = gate.send_http2(request).await;
            assert_eq!(
                (reached.status, &reached.record["reason"]),
                (status, &"target-too-long".into()),
                "{reached:#?}"
            );
            assert!(reached.forwarded.is_empty());
        } else {
            gate.refuses(&request, status, rule).await;
        }
    }
    gate.service.stop().await;
}

#[tokio::test]
async fn dot_segments_are_judged_as_they_are_where_config_allows_them() {
    const POLICIES: &str = r#"
        @id("open") permit (principal, action, resource in Prefix::"endpoint/raw/open");
    "#;
    let mut gate = Gate::start(POLICIES, "unsafe_allow_dot_segments: true\n").await;
    // What is asked about is the key itself, and the store gets that key.
    gate.allows(&ask("GET /raw/open/../a"), &["s3:GetObject Object::\"endpoint/raw/open/../a\""]).await;
    gate.allows(&ask("GET /raw/open//a"), &["s3:GetObject Object::\"endpoint/raw/open//a\""]).await;
    gate.denies(&ask("GET /raw/./open/a"), "not_permitted", "", "s3:GetObject Object::\"endpoint/raw/./open/a\"").await;
    gate.service.stop().await;
}

#[tokio::test]
async fn a_copy_source_has_one_reading() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let copy = |source: &str| ask("PUT /raw/b").header("x-amz-copy-source", source);
    let target = "s3:PutObject Object::\"endpoint/raw/b\"";
    for (source, asked) in [
        ("/raw/a", "s3:GetObject Object::\"endpoint/raw/a\""),
        ("raw/a", "s3:GetObject Object::\"endpoint/raw/a\""),
        ("raw%2Fin%2Fa", "s3:GetObject Object::\"endpoint/raw/in/a\""),
        ("/raw/%61%2Bb", "s3:GetObject Object::\"endpoint/raw/a+b\""),
        ("/raw/a?versionId=v1", "s3:GetObjectVersion Object::\"endpoint/raw/a\""),
    ] {
        gate.allows(&copy(source), &[target, asked]).await;
        let part = ask("PUT /raw/b?partNumber=1&uploadId=u").header("x-amz-copy-source", source);
        gate.allows(&part, &[target, asked]).await;
    }
    for (source, rule) in [
        ("raw", "copy-source"),
        ("", "copy-source"),
        ("/raw/", "key-length"),
        ("/raw/a+b", "copy-source"),
        ("/raw/a;b", "copy-source"),
        ("/raw/a#b", "copy-source"),
        ("/raw/a b", "copy-source"),
        ("/raw/a?", "copy-source"),
        ("/raw/a?versionId=", "copy-source"),
        ("/raw/a?versionid=v", "copy-source"),
        ("/raw/a?versionId=v&acl", "copy-source"),
        ("/raw/a?x?versionId=v", "copy-source"),
        ("/raw/a%3FversionId=v", "copy-source"),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/p/object/a", "copy-source-arn"),
        ("//raw/a", "bucket-name"),
        ("/RAW/a", "bucket-name"),
        ("/raw//a", "empty-segment"),
        ("/raw/../other/a", "dot-segment"),
        ("/raw/%2e%2E/other/a", "dot-segment"),
        ("raw%2F..%2Fother%2Fa", "dot-segment"),
        ("/raw/a%00", "encoded-nul"),
        ("/raw/%FF", "invalid-utf8"),
        ("/raw/%4", "invalid-percent"),
    ] {
        gate.refuses(&copy(source), 400, rule).await;
    }
    for line in ["GET /raw/b", "DELETE /raw/b", "POST /raw/b?uploads", "PUT /raw/b?acl", "PUT /raw"] {
        gate.refuses(&ask(line).header("x-amz-copy-source", "/raw/a"), 501, "no-operation").await;
    }
    let both = copy("/raw/a").header("x-amz-rename-source", "/raw/c");
    gate.refuses(&both, 501, "no-operation").await;
    gate.service.stop().await;
}

#[tokio::test]
async fn what_has_its_target_in_the_body_is_refused_or_read() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    // A form has its key in the body.
    let form = "--x\r\nContent-Disposition: form-data; name=\"key\"\r\n\r\nsecret/a\r\n--x--\r\n";
    let post = |target: &str, coding: &str| ask(&format!("POST {target}")).header("content-type", coding).body(form);
    gate.refuses(&post("/raw", "multipart/form-data; boundary=x"), 501, "post-form").await;
    gate.refuses(&post("/raw/", "multipart/form-data; boundary=x"), 501, "post-form").await;
    gate.refuses(&post("/raw", "Multipart/Form-Data; boundary=x"), 501, "post-form").await;
    gate.refuses(&post("/raw/a", "multipart/form-data; boundary=x"), 501, "post-form").await;
    gate.refuses(&post("/raw/a", "text/plain"), 501, "no-operation").await;
    // One body that is a Delete of an odd key to us, and a form to a store that looks at the type first.
    let both = "x\n--x\nContent-Disposition: form-data; name=\"key\"\n\nsecret/a\n--x--\ny";
    let both = |coding: &str| ask("POST /raw?delete").header("content-type", coding).body(delete(&[both]));
    gate.refuses(&both("multipart/form-data; boundary=x"), 501, "post-form").await;
    gate.refuses(&both("text/plain").header("content-type", "multipart/form-data; boundary=x"), 501, "post-form").await;
    let asked = both("application/xml");
    let reached = gate.send(&asked.to_bytes()).await;
    assert_eq!((reached.status, &reached.record["action"]), (200, &"s3:DeleteObject".into()), "{reached:#?}");
    for line in ["POST /raw/a?uploads", "POST /raw/a?uploadId=u", "POST /raw/a?restore"] {
        let upload = |coding: &str| ask(line).header("content-type", coding);
        gate.refuses(&upload("multipart/form-data; boundary=x"), 501, "post-form").await;
        assert_eq!(gate.send(&upload("text/plain").to_bytes()).await.status, 200, "{line}");
    }
    gate.refuses(&post("/raw", "application/x-www-form-urlencoded"), 501, "no-operation").await;
    let by_host = S3Request::new("raw.s3.example", "POST /").header("content-type", "multipart/form-data; boundary=x");
    gate.refuses(&by_host.body(form), 501, "post-form").await;
    gate.allows(&ask("PUT /raw/a").body(form), &["s3:PutObject Object::\"endpoint/raw/a\""]).await;

    // A restore may write elsewhere.
    let restore = |body: &str| ask("POST /raw/a?restore").body(body);
    let in_place =
        "<RestoreRequest><Days>1</Days><GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>";
    gate.allows(&restore(in_place), &["s3:RestoreObject Object::\"endpoint/raw/a\""]).await;
    for body in [
        "<RestoreRequest><OutputLocation><S3><BucketName>other</BucketName><Prefix>p</Prefix></S3></OutputLocation></RestoreRequest>",
        "<RestoreRequest><Type>SELECT</Type></RestoreRequest>",
        "<RestoreRequest><SelectParameters><Expression>x</Expression></SelectParameters></RestoreRequest>",
        "<x:RestoreRequest xmlns:x=\"http://s3.amazonaws.com/doc/2006-03-01/\"><x:OutputLocation/></x:RestoreRequest>",
        "<!DOCTYPE a [<!ENTITY o \"<OutputLocation/>\">]><RestoreRequest>&o;</RestoreRequest>",
        "<RestoreRequest>",
    ] {
        gate.refuses(&restore(body), 400, "malformed-xml").await;
    }
    gate.service.stop().await;
}

#[tokio::test]
async fn no_upgrade_is_made_in_front_of_a_store() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let upgrade = |to: &str| {
        let request = ask("GET /raw/a").header("connection", "Upgrade").header("upgrade", to);
        request.header("sec-websocket-version", "13").header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    for to in ["websocket", "WebSocket", "h2c", "TLS/1.0", "websocket, h2c"] {
        gate.refuses(&upgrade(to), 400, "upgrade").await;
    }
    gate.refuses(&upgrade("h2c").header("http2-settings", "AAMAAABkAAQAAP__"), 400, "upgrade").await;
    gate.allows(&ask("GET /raw/a"), &["s3:GetObject Object::\"endpoint/raw/a\""]).await;
    let tunnel = gate.send(b"CONNECT raw.s3.example:443 HTTP/1.1\r\nHost: raw.s3.example:443\r\n\r\n").await;
    assert_eq!((tunnel.status, &tunnel.record["reason"]), (501, &"connect".into()), "{tunnel:#?}");
    assert!(tunnel.forwarded.is_empty());
    gate.service.stop().await;
}

#[tokio::test]
async fn a_subresource_or_header_is_asked_under_its_own_action() {
    const POLICIES: &str = r#"
        @id("content")
        permit (principal, action in [Action::"s3:GetObject", Action::"s3:PutObject"], resource in Prefix::"endpoint/raw/in");
    "#;
    let mut gate = Gate::start(POLICIES, HOSTS).await;
    let object = |action: &str| format!("{action} Object::\"endpoint/raw/in/a\"");
    let read = object("s3:GetObject");
    // `x-id` is an SDK's note to itself: it decides nothing, whatever it claims.
    for line in ["GET /raw/in/a", "HEAD /raw/in/a", "GET /raw/in/a?x-id=DeleteObject", "GET /raw/in/a?partNumber=1"] {
        gate.allows(&ask(line), &[&read]).await;
    }
    gate.allows(&ask("PUT /raw/in/a?x-id=GetObject").body("x"), &[&object("s3:PutObject")]).await;
    for (line, action) in [
        ("GET /raw/in/a?acl", "s3:GetObjectAcl"),
        ("GET /raw/in/a?acl&x-id=GetObject", "s3:GetObjectAcl"),
        ("PUT /raw/in/a?acl&x-id=PutObject", "s3:PutObjectAcl"),
        ("GET /raw/in/a?tagging", "s3:GetObjectTagging"),
        ("PUT /raw/in/a?tagging", "s3:PutObjectTagging"),
        ("DELETE /raw/in/a?tagging", "s3:DeleteObjectTagging"),
        ("DELETE /raw/in/a?x-id=GetObject", "s3:DeleteObject"),
        ("GET /raw/in/a?versionId=v", "s3:GetObjectVersion"),
        ("HEAD /raw/in/a?versionId=v", "s3:GetObjectVersion"),
        ("GET /raw/in/a?retention", "s3:GetObjectRetention"),
        ("PUT /raw/in/a?legal-hold", "s3:PutObjectLegalHold"),
        ("GET /raw/in/a?torrent", "s3:GetObjectTorrent"),
        ("GET /raw/in/a?attributes", "s3:GetObjectAttributes"),
        ("DELETE /raw/in/a?uploadId=u", "s3:AbortMultipartUpload"),
        ("GET /raw/in/a?uploadId=u", "s3:ListMultipartUploadParts"),
        ("POST /raw/in/a?restore", "s3:RestoreObject"),
    ] {
        gate.denies(&ask(line), "not_permitted", "", &object(action)).await;
    }
    for (line, action) in [
        ("GET /raw", "s3:ListBucket"),
        ("HEAD /raw", "s3:ListBucket"),
        ("GET /raw?list-type=2&prefix=in", "s3:ListBucket"),
        ("GET /raw?versions", "s3:ListBucketVersions"),
        ("GET /raw?uploads", "s3:ListBucketMultipartUploads"),
        ("GET /raw?location", "s3:GetBucketLocation"),
        ("GET /raw?policy", "s3:GetBucketPolicy"),
        ("PUT /raw?policy", "s3:PutBucketPolicy"),
        ("PUT /raw", "s3:CreateBucket"),
        ("DELETE /raw", "s3:DeleteBucket"),
        ("PUT /raw?versioning", "s3:PutBucketVersioning"),
        ("DELETE /raw?lifecycle", "s3:PutLifecycleConfiguration"),
    ] {
        gate.denies(&ask(line), "not_permitted", "", &format!("{action} Bucket::\"endpoint/raw\"")).await;
    }
    gate.denies(&ask("GET /"), "not_permitted", "", "s3:ListAllMyBuckets Endpoint::\"endpoint\"").await;
    for (name, value, action) in [
        ("x-amz-acl", "public-read", "s3:PutObjectAcl"),
        ("x-amz-grant-read", "uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"", "s3:PutObjectAcl"),
        ("x-amz-tagging", "a=b", "s3:PutObjectTagging"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "s3:PutObjectRetention"),
        ("x-amz-object-lock-retain-until-date", "2099-01-01T00:00:00Z", "s3:PutObjectRetention"),
        ("x-amz-object-lock-legal-hold", "ON", "s3:PutObjectLegalHold"),
        ("x-amz-bypass-governance-retention", "true", "s3:BypassGovernanceRetention"),
    ] {
        for line in ["PUT /raw/in/a", "POST /raw/in/a?uploads"] {
            gate.denies(&ask(line).header(name, value), "not_permitted", "", &object(action)).await;
        }
        // Hoisted into a presigned URL it is the same header.
        let keys = Keys { access: "k", secret: "s" };
        let encoded = value.replace('=', "%3D").replace('"', "%22").replace(':', "%3A").replace('/', "%2F");
        let hoisted = ask(&format!("PUT /raw/in/a?{name}={encoded}")).presigned(keys, &[]);
        gate.denies(&hoisted, "not_permitted", "", &object(action)).await;
    }
    // Reading by SQL is reading.
    let select = ask("POST /raw/in/a?select&select-type=2").body("<SelectObjectContentRequest/>");
    gate.allows(&select, &[&read]).await;
    let keys = Keys { access: "k", secret: "s" };
    gate.allows(&ask("PUT /raw/in/a").body("x").presigned(keys, &[]), &[&object("s3:PutObject")]).await;
    gate.service.stop().await;
}

#[tokio::test]
async fn a_copy_source_is_read_under_the_policies_too() {
    const POLICIES: &str = r#"
        @id("open") permit (principal, action, resource in Prefix::"endpoint/raw/open");
        @id("secret") forbid (principal, action in Action::"read", resource in Prefix::"endpoint/raw/secret");
    "#;
    let mut gate = Gate::start(POLICIES, HOSTS).await;
    let target = "s3:PutObject Object::\"endpoint/raw/open/b\"";
    let secret = "s3:GetObject Object::\"endpoint/raw/secret/a\"";
    for line in ["PUT /raw/open/b", "PUT /raw/open/b?partNumber=1&uploadId=u"] {
        let copy = |source: &str| ask(line).header("x-amz-copy-source", source);
        gate.allows(&copy("/raw/open/a"), &[target, "s3:GetObject Object::\"endpoint/raw/open/a\""]).await;
        for source in
            ["/raw/secret/a", "raw/secret/a", "raw%2Fsecret%2Fa", "/raw/%73ecret/a", "%72aw/secret/a", "raw/secret%2fa"]
        {
            gate.denies(&copy(source), "forbidden", "secret", secret).await;
        }
        gate.denies(
            &copy("/raw/secret/a?versionId=v"),
            "forbidden",
            "secret",
            &secret.replace("GetObject", "GetObjectVersion"),
        )
        .await;
        gate.denies(&copy("/other/open/a"), "not_permitted", "", "s3:GetObject Object::\"endpoint/other/open/a\"")
            .await;
        let keys = Keys { access: "k", secret: "s" };
        let separator = if line.contains('?') { '&' } else { '?' };
        let hoisted = ask(&format!("{line}{separator}x-amz-copy-source=%2Fraw%2Fsecret%2Fa")).presigned(keys, &[]);
        gate.denies(&hoisted, "forbidden", "secret", secret).await;
        let hoisted = ask(&format!("{line}{separator}X-Amz-Copy-Source=raw%252Fsecret%252Fa")).presigned(keys, &[]);
        gate.denies(&hoisted, "forbidden", "secret", secret).await;
    }
    gate.service.stop().await;
}

/// A Delete with these keys, as SDKs write it.
fn delete(keys: &[&str]) -> String {
    let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
    format!("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{objects}</Delete>")
}

#[tokio::test]
async fn a_batch_delete_that_parsers_read_differently_is_refused() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let batch = |body: &str| ask("POST /raw?delete").body(body);
    let removed = |key: &str| format!("s3:DeleteObject Object::\"endpoint/raw/{key}\"");
    gate.allows(&batch(&delete(&["a", "b &amp; c", "d&#47;e"])), &[&removed("a"), &removed("b & c"), &removed("d/e")])
        .await;
    let versions =
        "<Delete><Object><Key>a</Key><VersionId>v</VersionId></Object><Object><Key>b</Key></Object></Delete>";
    let version = "s3:DeleteObjectVersion Object::\"endpoint/raw/a\"";
    gate.allows(&batch(versions), &[version, &removed("b")]).await;
    // Locks are broken key by key too.
    let bypass = |key: &str| format!("s3:BypassGovernanceRetention Object::\"endpoint/raw/{key}\"");
    let breaking = batch(versions).header("x-amz-bypass-governance-retention", "true");
    gate.allows(&breaking, &[version, &removed("b"), &bypass("a"), &bypass("b")]).await;
    // One key in two spellings is judged twice.
    gate.allows(&batch(&delete(&["a", "&#97;"])), &[&removed("a"), &removed("a")]).await;

    let entities: String = (1..9).map(|n| format!("<!ENTITY e{n} \"&e{0};&e{0};&e{0};&e{0};\">", n - 1)).collect();
    let keys_1001: Vec<String> = (0..1001).map(|n| format!("k{n}")).collect();
    let keys_1001: Vec<&str> = keys_1001.iter().map(String::as_str).collect();
    let plain = delete(&["a"]);
    for body in [
        // Entities: one that names a key, one that grows without end, one that reads a file.
        "<!DOCTYPE d [<!ENTITY k \"secret\">]><Delete><Object><Key>&k;</Key></Object></Delete>".to_owned(),
        format!("<!DOCTYPE d [<!ENTITY e0 \"x\">{entities}]><Delete><Object><Key>&e8;</Key></Object></Delete>"),
        "<!DOCTYPE d [<!ENTITY k SYSTEM \"file:///etc/passwd\">]><Delete><Object><Key>&k;</Key></Object></Delete>".to_owned(),
        "<!DOCTYPE Delete SYSTEM \"http://127.0.0.1/x.dtd\"><Delete><Object><Key>a</Key></Object></Delete>".to_owned(),
        delete(&["&nbsp;"]),
        delete(&["&#0;"]),
        delete(&["&#xD800;"]),
        delete(&keys_1001),
        delete(&[]),
        String::new(),
        // Comments, CDATA and processing instructions: parsers join or drop the text around them.
        delete(&["a<!-- -->b"]),
        delete(&["<![CDATA[a]]>"]),
        delete(&["a<?x y?>b"]),
        format!("<!-- -->{plain}"),
        format!("{plain}<!-- -->"),
        // Names in another namespace, or with a prefix.
        "<x:Delete xmlns:x=\"http://s3.amazonaws.com/doc/2006-03-01/\"><x:Object><x:Key>a</x:Key></x:Object></x:Delete>".to_owned(),
        "<Delete xmlns:x=\"u\"><Object><x:Key>b</x:Key><Key>a</Key></Object></Delete>".to_owned(),
        "<Delete xmlns=\"http://example.com/\"><Object><Key>a</Key></Object></Delete>".to_owned(),
        "<Delete><Object xmlns=\"u\"><Key>a</Key></Object></Delete>".to_owned(),
        "<Delete><Object><Key x=\"b\">a</Key></Object></Delete>".to_owned(),
        // Which of two?
        "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>".to_owned(),
        "<Delete><Object><Key>a</Key><key>b</key></Object></Delete>".to_owned(),
        "<Delete><Object><Key>a</Key><VersionId>1</VersionId><VersionId>2</VersionId></Object></Delete>".to_owned(),
        "<Delete><Object><Key>a</Key><VersionId></VersionId></Object></Delete>".to_owned(),
        "<Delete><Quiet>true</Quiet><Quiet>false</Quiet><Object><Key>a</Key></Object></Delete>".to_owned(),
        "<Delete><Quiet>maybe</Quiet><Object><Key>a</Key></Object></Delete>".to_owned(),
        "<Delete><Object><Key>a<Key>b</Key></Key></Object></Delete>".to_owned(),
        "<Delete><Object><Key>a</Key></Object>b</Delete>".to_owned(),
        "<Delete><Key>a</Key></Delete>".to_owned(),
        "<Remove><Object><Key>a</Key></Object></Remove>".to_owned(),
        format!("{plain}{plain}"),
        format!("{plain}<Delete/>"),
        "<Delete><Object><Key>a</Key></Object>".to_owned(),
        "<Delete><Object><Key>a</Object></Key></Delete>".to_owned(),
        "{\"Objects\":[{\"Key\":\"a\"}]}".to_owned(),
        format!("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>{plain}"),
        format!("<?xml version=\"1.0\" encoding=\"UTF-7\"?>{plain}"),
    ] {
        gate.refuses(&batch(&body), 400, "malformed-xml").await;
    }
    let utf16: Vec<u8> = plain.encode_utf16().flat_map(u16::to_le_bytes).collect();
    gate.refuses(&ask("POST /raw?delete").body(utf16), 400, "malformed-xml").await;
    gate.refuses(
        &ask("POST /raw?delete").body(&b"<Delete><Object><Key>\xff</Key></Object></Delete>"[..]),
        400,
        "malformed-xml",
    )
    .await;
    for (key, rule) in [
        ("../other", "dot-segment"),
        ("a/./b", "dot-segment"),
        ("a/&#46;&#46;/b", "dot-segment"),
        ("a//b", "empty-segment"),
        ("", "key-length"),
        (" a", "ambiguous-key"),
        ("a&#10;", "ambiguous-key"),
    ] {
        gate.refuses(&batch(&delete(&["b", key])), 400, rule).await;
    }
    gate.refuses(&batch(&delete(&[&"a".repeat(1025)])), 400, "key-length").await;
    gate.service.stop().await;
}

#[tokio::test]
async fn a_batch_delete_is_read_whole_within_a_limit_and_as_it_is() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let body = delete(&["a"]);
    let batch = || ask("POST /raw?delete").body(&*body);
    let removed = "s3:DeleteObject Object::\"endpoint/raw/a\"";
    gate.allows(&batch(), &[removed]).await;
    gate.allows(&batch().header("content-encoding", "identity"), &[removed]).await;
    gate.refuses(&batch().header("content-encoding", "gzip"), 501, "encoded-body").await;
    gate.refuses(&batch().header("content-encoding", "aws-chunked"), 501, "encoded-body").await;
    let streaming = batch().header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
    gate.refuses(&streaming, 501, "encoded-body").await;

    // The limit is on what arrives, declared or not.
    let filler = format!("{}{}", " ".repeat(2 << 20), body);
    gate.refuses(&ask("POST /raw?delete").body(filler.clone()), 413, "judged-body-length").await;
    let chunked = format!("{:x}\r\n{filler}\r\n0\r\n\r\n", filler.len());
    let request = ask("POST /raw?delete").header("transfer-encoding", "chunked");
    gate.refuses(&request.clone().body(chunked), 413, "judged-body-length").await;

    // In chunks it is the same body; the store gets it with its length.
    let (start, rest) = body.split_at(5);
    let chunked = format!("5\r\n{start}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len());
    let reached = gate.send(&request.body(chunked).to_bytes()).await;
    assert_eq!((reached.status, reached.asked()), (200, vec![removed.to_owned()]), "{reached:#?}");
    let [seen] = &*reached.forwarded else { panic!("{reached:#?}") };
    assert_eq!((&*seen.body, seen.header("content-length")), (body.as_bytes(), &*body.len().to_string()));
    gate.service.stop().await;
}

#[tokio::test]
async fn a_body_that_is_not_the_one_its_digest_was_made_of_is_refused() {
    let policies = r#"
        @id("open") permit (principal, action, resource in Bucket::"endpoint/raw");
        @id("keep") forbid (principal, action in Action::"delete", resource in Prefix::"endpoint/raw/keep");
    "#;
    let mut gate = Gate::start(policies, HOSTS).await;
    for keys in [&["a"][..], &["a", "keep/b"]] {
        let body = delete(keys);
        for (name, value) in [
            ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
            ("content-md5", "no digest"),
            ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-checksum-crc32c", "AAAAAA=="),
            ("x-amz-checksum-crc64nvme", "AAAAAAAAAAA="),
            ("x-amz-checksum-sha1", "2jmj7l5rSw0yVb/vlWAYkK/YBwk="),
            ("x-amz-checksum-sha256", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="),
            ("x-amz-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ] {
            gate.refuses(&ask("POST /raw?delete").header(name, value).body(&*body), 400, "body-digest").await;
        }
    }
    let body = delete(&["a"]);
    let hashed = ask("POST /raw?delete").header("x-amz-content-sha256", &sha256(body.as_bytes()));
    gate.allows(&hashed.body(body), &["s3:DeleteObject Object::\"endpoint/raw/a\""]).await;
    gate.service.stop().await;
}

#[tokio::test]
async fn a_body_shorter_than_it_declares_is_never_whole_at_the_store() {
    let gate = Gate::start(ALLOW_ALL, HOSTS).await;
    for head in [
        "PUT /raw/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
        "PUT /raw/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST /raw?delete HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n<Delete><Object>",
    ] {
        let stream = gate.app.connect(gate.service.inbound("endpoint")).await.expect("the handshake succeeds");
        let mut connection = Raw::over(stream);
        connection.write(head).await;
        connection.half_close().await;
        connection.rest().await;
    }
    gate.service.records.requests(3).await;
    let seen = gate.upstream.seen();
    assert!(seen.iter().all(|seen| !seen.complete && seen.target == "/raw/a"), "{seen:#?}");
    gate.service.stop().await;
}

#[tokio::test]
async fn a_declared_length_of_chunks_that_cannot_be_is_refused() {
    let mut gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let body = "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n";
    let put = |decoded: &str| {
        let request =
            ask("PUT /raw/a").header("content-encoding", "aws-chunked").header("x-amz-trailer", "x-amz-checksum-crc32");
        let request = request.header("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        request.header("x-amz-decoded-content-length", decoded).body(body)
    };
    gate.allows(&put("3"), &["s3:PutObject Object::\"endpoint/raw/a\""]).await;
    for decoded in ["1000", "-1", "+3", "3, 3", "0x3", "", "99999999999999999999"] {
        gate.refuses(&put(decoded), 400, "decoded-length").await;
    }
    gate.refuses(&put("3").header("x-amz-decoded-content-length", "3"), 400, "repeated-header").await;
    gate.service.stop().await;
}

#[tokio::test]
async fn a_length_that_only_a_header_claims_is_not_believed() {
    const POLICIES: &str = r#"
        @id("writes") permit (principal, action in Action::"write", resource in Bucket::"endpoint/raw");
        @id("small") forbid (principal, action == Action::"s3:PutObject", resource in Bucket::"endpoint/raw")
          unless { context has contentLength && context.contentLength <= 10 };
    "#;
    let mut gate = Gate::start(POLICIES, HOSTS).await;
    let asked = "s3:PutObject Object::\"endpoint/raw/a\"";
    let put = |body: &str| ask("PUT /raw/a").body(body);
    gate.allows(&put("0123456789"), &[asked]).await;
    gate.denies(&put("0123456789-"), "forbidden", "small", asked).await;
    // A store that goes by the signature keeps all of this body.
    for hash in [UNSIGNED_PAYLOAD, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"] {
        let claimed =
            put("0123456789-").header("x-amz-decoded-content-length", "3").header("x-amz-content-sha256", hash);
        gate.denies(&claimed.clone(), "forbidden", "small", asked).await;
        gate.denies(&claimed.header("content-encoding", "aws-chunked"), "forbidden", "small", asked).await;
    }
    // No length at all.
    let chunked = ask("PUT /raw/a").header("transfer-encoding", "chunked").body("3\r\nabc\r\n0\r\n\r\n");
    gate.denies(&chunked, "forbidden", "small", asked).await;
    gate.service.stop().await;
}

#[tokio::test]
async fn what_the_store_is_told_about_the_peer_is_ours_to_say() {
    let gate = Gate::start(ALLOW_ALL, HOSTS).await;
    let request = ask("GET /raw/a").header("x-forwarded-client-cert", "URI=spiffe://pipeline.example/admin");
    let request = request
        .header("x_forwarded_client_cert", "URI=spiffe://pipeline.example/admin")
        .header("x-portcullis-decision", "1");
    let reached = gate.send(&request.to_bytes()).await;
    let [seen] = &*reached.forwarded else { panic!("{reached:#?}") };
    let cert: HeaderMap = seen.headers.clone();
    let values: Vec<_> = cert.get_all("x-forwarded-client-cert").iter().collect();
    assert_eq!(values.len(), 1, "{seen:#?}");
    assert!(
        seen.header("x-forwarded-client-cert").contains("URI=spiffe://pipeline.example/ns/test/sa/app"),
        "{seen:#?}"
    );
    assert_eq!((seen.header("x_forwarded_client_cert"), seen.header("x-portcullis-decision")), ("", ""));
    gate.service.stop().await;
}
