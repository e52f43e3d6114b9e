//! Tokens beside certificates: humans need a second factor, a bad token is refused whatever the policies say, and none gets anywhere
//! that it should not.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::*;

/// People read with a second factor and admins write; `/open` is open to the peer as such.
const POLICIES: &str = r#"
@id("people-read-with-a-second-factor")
permit (principal, action in Action::"read", resource in HttpPath::"endpoint/data")
when { context has token.amr && context.token.iss == "https://login.example" && context.token.amr.contains("mfa") };

@id("admins-write")
permit (principal, action in Action::"write", resource in HttpPath::"endpoint/data")
when { context has token && context.token.claims.hasTag("groups") && context.token.claims.getTag("groups").contains("admins") };

@id("the-peer-reads-what-is-open")
permit (principal, action in Action::"read", resource in HttpPath::"endpoint/open");
"#;

const HEADER: &str = "authorization";

/// An inbound HTTP sidecar that takes tokens of `https://login.example`.
struct Desk {
    world: World,
    upstream: Recorder,
    service: Sidecar,
    peer: TlsClient,
    issuer: TokenIssuer,
}

impl Desk {
    async fn open(header: &str, more: &str) -> Self {
        Self::speaking("http", POLICIES, header, more).await
    }

    async fn speaking(protocol: &str, policies: &str, header: &str, more: &str) -> Self {
        let (world, upstream, issuer) = (World::new(), Recorder::start(), TokenIssuer::new("k1"));
        let jwks = world.write("jwks.json", &issuer.jwks());
        let options = options(header, &format!("{{issuer: https://login.example, jwks: {}}}", jwks.display()), more);
        let service = world.sidecar("service").policies(policies).yaml("reload_interval: 100ms");
        let service = service.inbound("endpoint", protocol, &upstream.url(), &options).start().await;
        let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/peer"));
        Self { world, upstream, service, peer, issuer }
    }

    async fn tls(&self) -> TlsStream<TcpStream> {
        self.peer.connect(self.service.inbound("endpoint")).await.expect("the handshake succeeds")
    }

    async fn client(&self) -> Client {
        http1(self.tls().await).await
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.client().await.send(request("GET", "api", path, headers, "")).await
    }

    /// The record of an answer.
    async fn record(&self, answer: &Answer) -> Value {
        self.service.records.of_decision(answer.decision()).await
    }

    /// Stops it, and asserts that it has written down none of `tokens`.
    async fn closed_without_a_trace_of(self, tokens: &[&str]) {
        let log = self.service.log().join("\n");
        let records = self.service.stop().await;
        let written = format!("{log}\n{}", Value::Array(records.all()));
        for token in tokens {
            for part in token.split('.').filter(|part| part.len() > 20) {
                assert!(!written.contains(part), "a token is in the log or the records");
            }
        }
    }
}

fn options(header: &str, issuer: &str, more: &str) -> String {
    format!("token:\n  header: {header}\n  audiences: [lake, api]\n  issuers: [{issuer}]\n{more}\n")
}

fn ada() -> Value {
    json!({"iss": "https://login.example", "sub": "ada", "aud": "lake", "amr": ["pwd", "mfa"], "email": "ada@private.example",
        "groups": ["analysts"]})
}

/// `claims` with some changed.
fn but(mut claims: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().expect("is an object") {
        claims[name] = value.clone();
    }
    claims
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn people_are_let_in_with_a_second_factor_and_not_without() {
    let desk = Desk::open(HEADER, "").await;
    let with_factor = desk.issuer.token(&ada());
    let without_factor = desk.issuer.token(&but(ada(), json!({"amr": ["pwd"]})));

    let denied = desk.get("/data/a", &[]).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN, "an absent token is no bad one");
    let record = desk.record(&denied).await;
    assert_eq!((&record["outcome"], &record["context"]["token"]), (&json!("not_permitted"), &Value::Null));
    assert_eq!(record["token_subject"], Value::Null);

    let denied = desk.get("/data/a", &[(HEADER, &bearer(&without_factor))]).await;
    assert_eq!(denied.status, StatusCode::FORBIDDEN);
    let record = desk.record(&denied).await;
    assert_eq!((&record["outcome"], &record["token_subject"]), (&json!("not_permitted"), &json!("ada")));
    assert_eq!(record["principal"], desk.world.id("peer"), "the peer is who its certificate says");
    desk.upstream.assert_untouched();

    let allowed = desk.get("/data/a", &[(HEADER, &bearer(&with_factor))]).await;
    assert_eq!(allowed.status, StatusCode::OK);
    let record = desk.service.records.with_outcome("allowed").await;
    assert_eq!(policies_of(&record), ["people-read-with-a-second-factor"]);
    assert_eq!((&record["token_issuer"], &record["token_subject"]), (&json!("https://login.example"), &json!("ada")));
    let token = &record["context"]["token"];
    assert_eq!(
        (&token["sub"], &token["amr"], &token["aud"]),
        (&json!("ada"), &json!(["pwd", "mfa"]), &json!(["lake"]))
    );
    assert_eq!(token["claims"], json!({"groups": ["analysts"]}), "what no policy reads is nobody's business: {record}");
    let seen = desk.upstream.complete(1).await;
    assert_eq!(seen[0].header(HEADER), bearer(&with_factor), "the upstream gets it as it came");
    desk.closed_without_a_trace_of(&[&with_factor, &without_factor]).await;
}

#[tokio::test]
async fn further_claims_are_tags_that_policies_ask_for() {
    let desk = Desk::open(HEADER, "").await;
    for (claims, status) in [
        (ada(), 403),
        (but(ada(), json!({"groups": "admins"})), 200),
        (but(ada(), json!({"groups": ["analysts", "admins"]})), 200),
        (but(ada(), json!({"groups": {"admins": true}})), 403),
        (but(ada(), json!({"groups": [["admins"]]})), 403),
    ] {
        let token = bearer(&desk.issuer.token(&claims));
        let post = request("POST", "api", "/data/a", &[(HEADER, &token)], "x");
        let answer = desk.client().await.send(post).await;
        assert_eq!(answer.status.as_u16(), status, "{claims}");
    }
    assert_eq!(desk.upstream.complete(2).await.len(), 2);
    desk.service.stop().await;
}

#[tokio::test]
async fn a_bad_token_is_refused_in_so_many_words_and_nothing_reaches_the_upstream() {
    let desk = Desk::open(HEADER, "").await;
    let (valid, stranger) = (desk.issuer.token(&ada()), TokenIssuer::new("k1"));
    let with_header = |header: Value| desk.issuer.token_with(&header, &ada());
    let unsigned = format!("{}.", with_header(json!({"alg": "none"})).rsplit_once('.').expect("three parts").0);
    let forged = [
        (unsigned, "token-form"),
        (with_header(json!({"alg": "none", "kid": "k1"})), "token-algorithm"),
        (with_header(json!({"alg": "HS256", "kid": "k1"})), "token-algorithm"),
        (with_header(json!({"alg": "RS256", "kid": "k1"})), "token-key"),
        (with_header(json!({"alg": "ES256"})), "token-key-id"),
        (with_header(json!({"alg": "ES256", "kid": "k2", "jwk": desk.issuer.jwk("sig")})), "token-key-id"),
        (with_header(json!({"alg": "ES256", "kid": "k1", "crit": ["exp"]})), "token-critical"),
        (with_header(json!({"alg": "ES256", "kid": "k1", "typ": "logout+jwt"})), "token-type"),
        (stranger.token(&ada()), "token-signature"),
        (format!("{valid}="), "token-encoding"),
        (valid.get(..valid.len() - 2).expect("is ASCII").to_owned(), "token-signature"),
        (desk.issuer.token(&but(ada(), json!({"iss": "https://login.partner.example"}))), "token-issuer"),
        (desk.issuer.token(&but(ada(), json!({"aud": "elsewhere"}))), "token-audience"),
        (desk.issuer.token(&but(ada(), json!({"exp": in_seconds(-31)}))), "token-expired"),
        (desk.issuer.token(&but(ada(), json!({"nbf": in_seconds(120)}))), "token-not-yet-valid"),
        (desk.issuer.token(&but(ada(), json!({"pad": "x".repeat(8_000)}))), "token-length"),
        ("opaque".to_owned(), "token-form"),
        (String::new(), "token-form"),
    ];
    let mut client = desk.client().await;
    for (token, rule) in &forged {
        // Even where no policy asks for one.
        let answer = client.send(request("GET", "api", "/open", &[(HEADER, &bearer(token))], "")).await;
        assert_eq!(
            (answer.status, answer.header("www-authenticate")),
            (StatusCode::UNAUTHORIZED, "Bearer error=\"invalid_token\""),
            "{rule}"
        );
        assert_eq!(answer.header("content-type"), "application/problem+json");
        let problem: Value = serde_json::from_slice(&answer.body).expect("is JSON");
        assert_eq!((&problem["status"], &problem["decision"]), (&json!(401), &json!(answer.decision())));
        let record = desk.record(&answer).await;
        assert_eq!(
            (&record["outcome"], &record["reason"], &record["status"]),
            (&json!("refused"), &json!(rule), &json!(401)),
            "{token}"
        );
        assert_eq!(
            (&record["token_subject"], &record["token_issuer"]),
            (&Value::Null, &Value::Null),
            "nobody vouched for it"
        );
        assert_eq!(record["principal"], desk.world.id("peer"));
    }
    desk.upstream.assert_untouched();
    let answer = client.send(request("GET", "api", "/open", &[(HEADER, &bearer(&valid))], "")).await;
    assert_eq!(answer.status, StatusCode::OK, "the connection goes on, and the valid twin passes");
    let refused =
        desk.service.metric("portcullis_tokens_total", &["result=\"refused\"", "rule=\"token-algorithm\""]).await;
    let verified = desk.service.metric("portcullis_tokens_total", &["result=\"verified\""]).await;
    assert_eq!((refused, verified), (2.0, 1.0));
    let tokens: Vec<&str> = forged.iter().map(|(token, _)| token.as_str()).collect();
    desk.closed_without_a_trace_of(&tokens).await;
}

#[tokio::test]
async fn only_a_bearer_token_and_only_one_is_a_token() {
    let desk = Desk::open(HEADER, "").await;
    let valid = desk.issuer.token(&ada());
    for (fields, status, reason) in [
        (format!("authorization: bearer {valid}\r\n"), 200, Value::Null),
        (format!("AUTHORIZATION:   BEARER   {valid}  \r\n"), 200, Value::Null),
        ("authorization: Basic eDp5\r\n".to_owned(), 403, Value::Null),
        (format!("authorization: Bearer {valid}\r\nauthorization: Bearer {valid}\r\n"), 401, json!("token-repeated")),
        (format!("authorization: Bearer {valid}\r\nauthorization: Basic eDp5\r\n"), 401, json!("token-repeated")),
        (format!("authorization: Bearer {valid}, Bearer {valid}\r\n"), 401, json!("token-form")),
        (format!("authorization: Bearer {valid} x\r\n"), 401, json!("token-encoding")),
        ("authorization: Bearer\r\n".to_owned(), 401, json!("token-form")),
        (format!("authorization: Bearer {}\r\n", "a".repeat(60_000)), 401, json!("token-length")),
        (format!("authorization: DPoP {valid}\r\n"), 403, Value::Null),
        (format!("authorization: {valid}\r\n"), 403, Value::Null),
        (format!("x-authorization: Bearer {valid}\r\n"), 403, Value::Null),
    ] {
        let mut raw = Raw::over(desk.tls().await);
        raw.write(format!("GET /data/a HTTP/1.1\r\nhost: api\r\n{fields}\r\n")).await;
        let answer = raw.answer().await.expect("an answer");
        assert_eq!(answer.status(), status, "{fields}");
        if status != 200 {
            let id = answer.header("x-portcullis-decision").expect("a decision");
            assert_eq!(desk.service.records.of_decision(id).await["reason"], reason, "{fields}");
        }
    }
    assert_eq!(desk.upstream.complete(2).await.len(), 2);
    desk.service.stop().await;
}

#[tokio::test]
async fn a_token_counts_for_its_own_request_and_no_other_on_the_connection() {
    let desk = Desk::open(HEADER, "").await;
    let stream = desk.peer.clone().alpn(&["h2"]).connect(desk.service.inbound("endpoint")).await;
    let mut client = http2(stream.expect("the handshake succeeds")).await;
    let ada_token = bearer(&desk.issuer.token(&ada()));
    let bob_token = bearer(&desk.issuer.token(&but(ada(), json!({"sub": "bob", "amr": ["pwd"]}))));
    for round in 0..3 {
        for (headers, status) in
            [(&[(HEADER, ada_token.as_str())] as &[_], 200), (&[], 403), (&[(HEADER, bob_token.as_str())], 403)]
        {
            let answer = client.send(request("GET", "", "http://api/data/a", headers, "")).await;
            assert_eq!(answer.status.as_u16(), status, "round {round}");
        }
    }
    let allowed = desk.service.records.requests(9).await.into_iter().filter(|record| record["outcome"] == "allowed");
    assert_eq!(allowed.map(|record| record["token_subject"].clone()).collect::<Vec<_>>(), vec![json!("ada"); 3]);
    desk.service.stop().await;
}

#[tokio::test]
async fn a_stripped_token_goes_no_further_and_a_kept_one_only_as_the_header_that_was_judged() {
    for (forward, kept) in [("strip", false), ("keep", true)] {
        let desk = Desk::open("x-id-token", &format!("  forward: {forward}")).await;
        let valid = desk.issuer.token(&ada());
        let answer = desk.get("/data/a", &[("x-id-token", &valid), (HEADER, "Basic eDp5")]).await;
        assert_eq!(answer.status, StatusCode::OK, "{forward}");
        let seen = &desk.upstream.complete(1).await[0];
        assert_eq!((seen.header("x-id-token") == valid, seen.header(HEADER)), (kept, "Basic eDp5"), "{forward}");

        // Some servers do not tell `_` from `-`: they would read what nobody has verified.
        let answer = desk.get("/open", &[("x_id_token", &valid)]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        assert_eq!(desk.record(&answer).await["reason"], "header-spelling");

        // Others add trailers to the head (CVE-2013-5704).
        let admin = desk.issuer.token(&but(ada(), json!({"groups": ["admins"]})));
        let mut raw = Raw::over(desk.tls().await);
        raw.write(format!("POST /data/a HTTP/1.1\r\nhost: api\r\nx-id-token: {admin}\r\nte: trailers\r\n")).await;
        raw.write("trailer: x-id-token, x_id-token, x-sum\r\ntransfer-encoding: chunked\r\n\r\n").await;
        raw.write("1\r\na\r\n0\r\nx-id-token: forged\r\nX_Id-Token: forged\r\nx-sum: 1\r\n\r\n").await;
        assert_eq!(raw.answer().await.expect("an answer").status(), 200);
        let seen = desk.upstream.complete(2).await;
        let names: Vec<&str> = seen[1].trailers.keys().map(http::HeaderName::as_str).collect();
        assert_eq!(names, ["x-sum"], "{forward}");
        desk.closed_without_a_trace_of(&[&valid]).await;
    }
}

#[tokio::test]
async fn policies_that_read_any_header_do_not_bring_a_token_into_the_records() {
    let policies = "@id(\"any\")\npermit (principal, action, resource)\nwhen { context has host && !context.headers.hasTag(context.host) };";
    let desk = Desk::speaking("http", policies, "x-whoami", "").await;
    let valid = desk.issuer.token(&ada());
    let answer = desk.get("/data/a", &[("x-whoami", &valid), ("x-other", "1")]).await;
    assert_eq!(answer.status, StatusCode::OK);
    let record = desk.service.records.with_outcome("allowed").await;
    assert_eq!(record["context"]["headers"]["x-other"], json!(["1"]), "all headers are read: {record}");
    desk.closed_without_a_trace_of(&[&valid]).await;
}

#[tokio::test]
async fn s3_answers_a_bad_token_as_s3_does() {
    let policies = r#"
@id("people-read")
permit (principal, action in Action::"read", resource in Bucket::"endpoint/raw")
when { context has token.amr && context.token.amr.contains("mfa") };
"#;
    let desk = Desk::speaking("s3", policies, "x-id-token", "").await;
    let keys = Keys { access: "AK", secret: "SK" };
    let valid = desk.issuer.token(&ada());
    let expired = desk.issuer.token(&but(ada(), json!({"exp": in_seconds(-60)})));
    let ask = |line: &str, token: &str| {
        let asked = S3Request::new("127.0.0.1:9000", line);
        let asked = if token.is_empty() { asked } else { asked.header("x-id-token", token) };
        asked.signed(keys, None).into_request()
    };
    let mut client = desk.client().await;
    let answer = client.send(ask("GET /raw/a", &expired)).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::UNAUTHORIZED, "application/xml"));
    assert!(answer.text().contains("<Code>InvalidToken</Code>"), "{}", answer.text());
    let record = desk.record(&answer).await;
    assert_eq!((&record["outcome"], &record["reason"]), (&json!("refused"), &json!("token-expired")));
    let answer = client.send(ask("HEAD /raw/a", &expired)).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::UNAUTHORIZED, ""));
    let answer = client.send(ask("GET /raw/a", "")).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.text().contains("<Code>AccessDenied</Code>"), "{}", answer.text());
    desk.upstream.assert_untouched();

    let answer = client.send(ask("GET /raw/a", &valid)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let seen = &desk.upstream.complete(1).await[0];
    assert!(seen.header("authorization").contains("x-id-token"), "the signature that covers it still holds");
    assert_eq!(seen.header("x-id-token"), valid);
    desk.closed_without_a_trace_of(&[&valid, &expired]).await;
}

#[tokio::test]
async fn grpc_hears_that_it_is_unauthenticated() {
    let desk = Desk::open(HEADER, "").await;
    let stream = desk.peer.clone().alpn(&["h2"]).connect(desk.service.inbound("endpoint")).await;
    let mut client = http2(stream.expect("the handshake succeeds")).await;
    let call = |token: &str| {
        let headers = [("content-type", "application/grpc"), ("te", "trailers"), (HEADER, token)];
        request("POST", "", "http://api/data/Echo", &headers, "")
    };
    let answer = client.send(call("Bearer a.b.c")).await;
    assert_eq!((answer.status, answer.header("grpc-status")), (StatusCode::OK, "16"), "{answer:?}");
    assert_eq!(desk.record(&answer).await["reason"], "token-encoding");
    let denied = client.send(call(&bearer(&desk.issuer.token(&ada())))).await;
    assert_eq!(denied.header("grpc-status"), "7", "a good token that does not suffice");
    desk.upstream.assert_untouched();
    let admin = desk.issuer.token(&but(ada(), json!({"groups": ["admins"]})));
    assert_eq!(client.send(call(&bearer(&admin))).await.status, StatusCode::OK);
    assert_eq!(desk.upstream.complete(1).await.len(), 1);
    desk.service.stop().await;
}

#[tokio::test]
async fn the_local_apps_token_counts_on_its_way_out_and_at_the_other_end() {
    let (world, upstream, issuer) = (World::new(), Recorder::start(), TokenIssuer::new("k1"));
    let jwks = world.write("jwks.json", &issuer.jwks());
    let options = options(HEADER, &format!("{{issuer: https://login.example, jwks: {}}}", jwks.display()), "");
    let inbound = world.sidecar("service").policies(POLICIES);
    let inbound = inbound.inbound("endpoint", "http", &upstream.url(), &options).start().await;
    let egress = "@id(\"known-people\")\npermit (principal, action, resource)\nwhen { context has token && context.token.sub == \"ada\" };";
    let to = inbound.inbound("endpoint").to_string();
    let outbound = world.sidecar("app").policies(egress);
    let outbound = outbound.outbound("endpoint", "http", &to, &world.id("service"), &options).start().await;
    let mut client = Client::plain(outbound.outbound("endpoint")).await;
    for (claims, status, stopped_by) in [
        (ada(), 200, None),
        (but(ada(), json!({"sub": "bob"})), 403, Some(&outbound)),
        (but(ada(), json!({"amr": ["pwd"]})), 403, Some(&inbound)),
        (but(ada(), json!({"aud": "x"})), 401, Some(&outbound)),
    ] {
        let token = bearer(&issuer.token(&claims));
        let answer = client.send(request("GET", "api", "/data/a", &[(HEADER, &token)], "")).await;
        assert_eq!(answer.status.as_u16(), status, "{claims}");
        if let Some(sidecar) = stopped_by {
            assert_eq!(sidecar.records.of_decision(answer.decision()).await["status"], status, "{claims}");
        }
    }
    assert_eq!(upstream.complete(1).await.len(), 1);
    outbound.stop().await;
    inbound.stop().await;
}

#[tokio::test]
async fn keys_are_followed_as_their_file_changes() {
    let desk = Desk::open(HEADER, "").await;
    let next = TokenIssuer::new("k2");
    let (old_token, new_token) = (bearer(&desk.issuer.token(&ada())), bearer(&next.token(&ada())));
    assert_eq!(desk.get("/data/a", &[(HEADER, &old_token)]).await.status, StatusCode::OK);
    assert_eq!(desk.get("/data/a", &[(HEADER, &new_token)]).await.status, StatusCode::UNAUTHORIZED);

    desk.world.write("jwks.json", "{\"keys\": [");
    desk.service.logged("keys for tokens not reloaded").await;
    assert_eq!(desk.get("/data/a", &[(HEADER, &old_token)]).await.status, StatusCode::OK, "the last good ones stay");

    desk.world.write("jwks.json", &next.jwks());
    desk.service.logged("keys for tokens reloaded").await;
    assert_eq!(desk.get("/data/a", &[(HEADER, &new_token)]).await.status, StatusCode::OK);
    let refused = desk.get("/data/a", &[(HEADER, &old_token)]).await;
    assert_eq!(desk.record(&refused).await["reason"], "token-key-id", "a token that was known is not any more");
    desk.service.stop().await;
}

#[tokio::test]
async fn keys_that_are_not_there_yet_are_waited_for_and_broken_ones_are_not() {
    let (world, upstream, issuer) = (World::new(), Recorder::start(), TokenIssuer::new("k1"));
    let path = world.path().join("jwks.json");
    let options = options(HEADER, &format!("{{issuer: https://login.example, jwks: {}}}", path.display()), "");
    let plan = |name: &str| {
        let plan = world.sidecar(name).policies(POLICIES).yaml("reload_interval: 100ms");
        plan.inbound("endpoint", "http", &upstream.url(), &options)
    };
    let checked = plan("checked").check().await;
    assert!(checked.code() == 1 && checked.stdout.contains("jwks.json"), "{checked:?}");
    let service = plan("service").start().await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/peer"));
    let ask = async |token: &str| {
        let stream = peer.connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
        http1(stream).await.send(request("GET", "api", "/data/a", &[(HEADER, token)], "")).await
    };
    let token = bearer(&issuer.token(&ada()));
    assert_eq!(ask(&token).await.status, StatusCode::UNAUTHORIZED);
    world.write("jwks.json", &issuer.jwks());
    service.logged("keys for tokens reloaded").await;
    assert_eq!(ask(&token).await.status, StatusCode::OK);
    let checked = plan("checked-again").check().await;
    assert!(checked.stdout.contains("1 key of `https://login.example`"), "{checked:?}");
    service.stop().await;

    world.write("jwks.json", "{}");
    let ended = plan("broken").run_to_end().await;
    assert!(ended.code() == 1 && ended.stderr.contains("jwks.json` is no JWK set: missing field `keys`"), "{ended:?}");
}

/// A SPIFFE bundle in JSON: the CA's certificate, and a key for tokens.
fn bundle(ca: &Ca, issuer: &TokenIssuer) -> String {
    let pem = ca.bundle();
    let certificate: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let x509 = json!({"kty": "EC", "use": "x509-svid", "x5c": [certificate]});
    json!({"keys": [x509, issuer.jwk("jwt-svid")]}).to_string()
}

#[tokio::test]
async fn a_jwt_svid_is_verified_by_the_bundle_of_its_own_trust_domain_as_it_is_now() {
    const POLICIES: &str = r#"
@id("the-scheduler-reads")
permit (principal, action in Action::"read", resource in Endpoint::"endpoint")
when { context has token && context.token.iss == "spiffe://pipeline.example" && context.token.sub == "spiffe://pipeline.example/ns/jobs/sa/scheduler" };
"#;
    let (world, upstream, partner_ca) = (World::new(), Recorder::start(), Ca::new("partner.example"));
    let (own, partner) = (TokenIssuer::new("own"), TokenIssuer::new("partner"));
    let options = options(HEADER, "{trust_domain: pipeline.example}", "");
    let service = world.sidecar("service").policies(POLICIES).yaml("reload_interval: 100ms");
    let service = service
        .trust("pipeline.example", &bundle(&world.ca, &own))
        .trust("partner.example", &bundle(&partner_ca, &partner))
        .inbound("endpoint", "http", &upstream.url(), &options)
        .start()
        .await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/peer"));
    let ask = async |token: &str| {
        let stream = peer.connect(service.inbound("endpoint")).await.expect("the handshake succeeds");
        let token = bearer(token);
        let answer = http1(stream).await.send(request("GET", "api", "/a", &[(HEADER, &token)], "")).await;
        match answer.status {
            StatusCode::OK => (200, Value::Null),
            status => (status.as_u16(), service.records.of_decision(answer.decision()).await["reason"].clone()),
        }
    };
    let scheduler = json!({"sub": "spiffe://pipeline.example/ns/jobs/sa/scheduler", "aud": ["lake"]});
    let claims = |sub: &str| json!({"sub": sub, "aud": ["lake"]});
    let valid = own.token(&scheduler);
    for (token, expected) in [
        (valid.clone(), (200, Value::Null)),
        (own.token(&claims("spiffe://pipeline.example/ns/jobs/sa/other")), (403, Value::Null)),
        (own.token(&claims("spiffe://partner.example/ns/jobs/sa/scheduler")), (401, json!("token-subject"))),
        (own.token(&claims("scheduler")), (401, json!("token-issuer"))),
        (own.token(&but(scheduler.clone(), json!({"iss": "https://login.example"}))), (200, Value::Null)),
        (partner.token(&scheduler), (401, json!("token-key-id"))),
        (partner.token(&claims("spiffe://partner.example/ns/jobs/sa/scheduler")), (401, json!("token-subject"))),
        (TokenIssuer::new("own").token(&scheduler), (401, json!("token-signature"))),
    ] {
        assert_eq!(ask(&token).await, expected, "{token}");
    }

    // The domain rotates its key: what was known by the old one ends with it.
    let next = TokenIssuer::new("next");
    service.replace("pipeline.example.pem", &bundle(&world.ca, &next));
    service.status_with("the next generation", |status| status["identity"]["generation"] == 2).await;
    assert_eq!(ask(&valid).await, (401, json!("token-key-id")));
    assert_eq!(ask(&next.token(&scheduler)).await, (200, Value::Null));
    service.stop().await;
}

#[tokio::test]
async fn a_bundle_without_keys_for_tokens_is_told_of_where_tokens_are_taken_by_it() {
    let (world, issuer) = (World::new(), TokenIssuer::new("own"));
    let options = options(HEADER, "{trust_domain: pipeline.example}", "");
    let plan = |name: &str, bundle: &str| {
        let plan = world.sidecar(name).policies(POLICIES).trust("pipeline.example", bundle);
        plan.inbound("endpoint", "http", "http://127.0.0.1:9", &options)
    };
    let told = "pipeline.example: no token of it can be verified: its bundle has no keys for tokens";
    for (name, bundle, is_told) in [("pem", world.ca.bundle(), true), ("json", bundle(&world.ca, &issuer), false)] {
        let (checked, looked) = (plan(name, &bundle).check().await, plan(name, &bundle).doctor().await);
        assert_eq!((checked.code(), checked.stdout.contains(told)), (0, is_told), "{}", checked.stdout);
        assert_eq!(looked.stdout.contains(told), is_told, "{}", looked.stdout);
    }
}

#[tokio::test]
async fn a_websocket_is_judged_together_with_its_token_when_the_policies_change() {
    let echo = RawUpstream::echoing_websockets();
    let (world, issuer) = (World::new(), TokenIssuer::new("k1"));
    let jwks = world.write("jwks.json", &issuer.jwks());
    let options = options(HEADER, &format!("{{issuer: https://login.example, jwks: {}}}", jwks.display()), "");
    let service = world.sidecar("service").policies(ALLOW_ALL).yaml("reload_interval: 100ms");
    let service = service.inbound("endpoint", "http", &echo.url(), &options).start().await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/peer"));
    let mut open = Vec::new();
    for token in [issuer.token(&ada()), issuer.token(&but(ada(), json!({"sub": "bob"})))] {
        let stream = peer.connect(service.inbound("endpoint")).await.expect("is trusted");
        open.push(Raw::websocket(stream, "/chat", &format!("authorization: Bearer {token}\r\n")).await);
    }
    let not_ada = "@id(\"not-ada\")\nforbid (principal, action, resource) when { context has token && context.token.sub == \"ada\" };\n";
    service.replace("policies/test.cedar", &format!("{ALLOW_ALL}{not_ada}"));
    let [cut, stays] = open.as_mut_slice() else { panic!("there are two") };
    assert!(cut.is_closed().await);
    let ended = |record: &Value| record["kind"] == "request" && record["status"] == 101;
    assert_eq!(service.records.find("the WebSocket", ended).await["reason"], "no-longer-permitted");
    stays.write("still here").await;
    stays.half_close().await;
    assert_eq!(stays.rest().await, b"still here");
    service.stop().await;
}

#[tokio::test]
async fn what_was_opened_with_a_token_ends_with_it() {
    let echo = RawUpstream::echoing_websockets();
    let silent = Recorder::behaving(Behaviour::Stall, None);
    let (world, issuer) = (World::new(), TokenIssuer::new("k1"));
    let jwks = world.write("jwks.json", &issuer.jwks());
    let issuers = format!("{{issuer: https://login.example, jwks: {}}}", jwks.display());
    let options = options(HEADER, &issuers, "  leeway: 1s");
    let service = world.sidecar("service").policies(ALLOW_ALL).yaml("limits: {grace: 1s}");
    let service = service.inbound("endpoint", "http", &echo.url(), &options);
    let service = service.inbound("silent", "http", &silent.url(), &options).start().await;
    let peer = TlsClient::with(&world.ca.issue("/ns/test/sa/peer"));
    let (short, long) = (issuer.token(&but(ada(), json!({"exp": in_seconds(3)}))), issuer.token(&ada()));
    let mut open = Vec::new();
    for token in [&short, &long] {
        let stream = peer.connect(service.inbound("endpoint")).await.expect("is trusted");
        open.push(Raw::websocket(stream, "/chat", &format!("authorization: Bearer {token}\r\n")).await);
    }
    let mut waiting = http1(peer.connect(service.inbound("silent")).await.expect("is trusted")).await;
    let ask = request("GET", "a.example", "/feed", &[(HEADER, &bearer(&short))], "");
    let waiting = tokio::spawn(async move { waiting.send(ask).await });

    let [cut, stays] = open.as_mut_slice() else { panic!("there are two") };
    assert!(cut.is_closed().await);
    assert!(SystemTime::now() >= UNIX_EPOCH + Duration::from_secs(expiry_of(&short)), "not before its time");
    let answer = within("the answer", waiting).await.expect("is answered");
    assert_eq!((answer.status, answer.header("x-portcullis-error")), (StatusCode::UNAUTHORIZED, "token-expired"));
    assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    for listener in ["endpoint", "silent"] {
        let of = |record: &Value, outcome: &str| record["listener"] == listener && record["outcome"] == outcome;
        let refusal = service.records.find("the refusal", |record| of(record, "refused")).await;
        assert_eq!(refusal["reason"], "token-expired");
        let ended = |record: &Value| of(record, "allowed") && record["kind"] == "request";
        let ended = service.records.find("the exchange", ended).await;
        assert_eq!(ended["reason"], "token-expired", "{ended:#}");
        let named = refusal["decision_id"].as_str().expect("every record has one");
        assert!(ended["error"].as_str().is_some_and(|error| error.contains(named)), "{ended:#}");
    }
    stays.write("still here").await;
    stays.half_close().await;
    assert_eq!(stays.rest().await, b"still here");
    service.stop().await;
}

#[tokio::test]
async fn a_token_that_ends_while_a_batch_is_on_its_way_permits_nothing_of_it() {
    const BATCH: &str = "<Delete><Object><Key>a</Key></Object></Delete>";
    let policies =
        "@id(\"people\")\npermit (principal, action in Action::\"delete\", resource) when { context has token };";
    let desk = Desk::speaking("s3", policies, "x-id-token", "  leeway: 1s").await;
    let (short, long) = (desk.issuer.token(&but(ada(), json!({"exp": in_seconds(2)}))), desk.issuer.token(&ada()));
    let (half, rest) = BATCH.split_at(20);
    let mut open = Vec::new();
    for token in [&short, &long] {
        let mut raw = Raw::over(desk.tls().await);
        let head = format!("POST /raw?delete HTTP/1.1\r\nhost: 127.0.0.1:9000\r\nx-id-token: {token}\r\n");
        raw.write(format!("{head}content-length: {}\r\n\r\n{half}", BATCH.len())).await;
        open.push(raw);
    }
    let mut client = desk.client().await;
    let read = || request("GET", "127.0.0.1:9000", "/raw/a", &[("x-id-token", short.as_str())], "");
    let deadline = Instant::now() + DEADLINE;
    while client.send(read()).await.status != StatusCode::UNAUTHORIZED {
        assert!(Instant::now() < deadline, "the token does not end");
    }
    let mut answers = Vec::new();
    for raw in &mut open {
        raw.write(rest).await;
        answers.push(raw.answer().await.expect("an answer"));
    }
    assert_eq!(answers.iter().map(RawAnswer::status).collect::<Vec<_>>(), [401, 200]);
    let of_batch = |record: &Value| record["method"] == "POST" && record["reason"] == "token-expired";
    desk.service.records.find("the refusal", of_batch).await;
    assert_eq!(desk.upstream.complete(1).await.len(), 1, "the batch of the token that lives");
    desk.closed_without_a_trace_of(&[&short, &long]).await;
}

fn expiry_of(token: &str) -> u64 {
    let claims = token.split('.').nth(1).expect("three parts");
    let claims = URL_SAFE_NO_PAD.decode(claims).expect("is base64url");
    serde_json::from_slice::<Value>(&claims).expect("is JSON")["exp"].as_u64().expect("is a time")
}
