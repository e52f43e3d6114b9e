//! The harness itself, tried without portcullis between its ends: a test that fails because of its tools wastes a day.

use bytes::Bytes;
use http::{StatusCode, Version};
use rustls::pki_types::CertificateDer;
use serde_json::json;

use crate::support::*;

#[tokio::test]
async fn recorder_keeps_what_reached_it_over_http_1_and_2() {
    let upstream = Recorder::start();
    upstream.assert_untouched();
    let mut client = Client::plain(upstream.address).await;
    let answer = client.send(request("POST", "a.example", "/x?y", &[("x-tag", "1")], "body")).await;
    assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "ok"));
    let mut client = Client::plain_http2(upstream.address).await;
    client.send(request("GET", "", "http://b.example/z", &[], "")).await;

    let seen = upstream.complete(2).await;
    assert_eq!((seen[0].target.as_str(), seen[0].header("x-tag")), ("/x?y", "1"));
    assert_eq!((seen[0].body.as_slice(), seen[0].version), (&b"body"[..], Version::HTTP_11));
    assert_eq!((seen[1].target.as_str(), seen[1].version), ("http://b.example/z", Version::HTTP_2));
    assert_eq!(upstream.connections(), 2);
}

#[tokio::test]
async fn recorder_with_tls_sees_the_certificate_of_its_client() {
    let world = World::new();
    let (server, client) = (world.ca.issue("/ns/test/sa/server"), world.ca.issue("/ns/test/sa/client"));
    let upstream = Recorder::behaving(Behaviour::Echo, Some(server_config(&server, &["h2"])));
    let stream =
        TlsClient::with(&client).alpn(&["h2"]).connect(upstream.address).await.expect("the handshake succeeds");
    let presented = stream.get_ref().1.peer_certificates().expect("the server has a certificate").to_vec();
    let answer = http2(stream).await.send(request("PUT", "", "http://a.example/", &[], "echo")).await;

    assert_eq!(presented, server.chain);
    assert_eq!(answer.body, Bytes::from("echo"));
    assert_eq!(upstream.seen()[0].peer.as_ref().map(CertificateDer::as_ref), Some(client.leaf().as_ref()));
}

#[tokio::test]
async fn recorder_sends_trailers() {
    let trailers = vec![("grpc-status".to_owned(), "0".to_owned())];
    let upstream = Recorder::answering(move |_| Reply { trailers: trailers.clone(), ..Reply::text("x") });
    let mut client = Client::plain_http2(upstream.address).await;
    let answer = client.send(request("GET", "", "http://a.example/", &[], "")).await;
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test]
async fn raw_ends_pass_bytes_as_they_are() {
    let upstream = RawUpstream::answering_heads();
    upstream.assert_untouched();
    let mut raw = Raw::connect(upstream.address).await;
    raw.write("GET /a HTTP/1.1\nbare: lf\r\n\r\n").await;
    let answer = raw.answer().await.expect("the upstream answers");
    assert_eq!((answer.status(), answer.body.as_slice(), answer.closes()), (200, &b"ok"[..], false));
    assert_eq!(upstream.received_with("bare").await, "GET /a HTTP/1.1\nbare: lf\r\n\r\n");
}

#[tokio::test]
async fn frames_reach_an_http2_server_and_come_back() {
    let upstream = Recorder::start();
    let stream = tokio::net::TcpStream::connect(upstream.address).await.expect("the recorder listens");
    let mut frames = FrameConnection::open(stream).await;
    frames
        .send(&Frame::head(1, &[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/f")]))
        .await;
    let data = frames.next_of(FrameKind::Data).await.expect("the answer has a body");
    assert_eq!((data.stream, data.payload.as_slice()), (1, &b"ok"[..]));
    let own = [(":method", "GET"), (":scheme", "http"), (":path", "/f"), ("connection", "close")];
    frames.send(&Frame::head(3, &own)).await;
    let reset = frames.next_of(FrameKind::Reset).await.expect("a connection field is malformed (RFC 9113, 8.2.2)");
    assert_eq!((reset.stream, reset.error_code()), (3, 1));
    assert_eq!(upstream.complete(1).await[0].target, "http://a/f");
}

#[tokio::test]
async fn svids_are_what_openssl_reads_in_them() {
    let world = World::new();
    let (id, bundle) = (world.id("a"), world.write("bundle.pem", &world.ca.bundle()));
    let leaf = world.write("leaf.pem", &world.ca.issue("/ns/test/sa/a").chain_pem());
    let shown = openssl(&["x509", "-noout", "-ext", "subjectAltName", "-in", &leaf.display().to_string()], "").await;
    assert!(shown.stdout.contains(&format!("URI:{id}")), "{shown:?}");
    let verified =
        openssl(&["verify", "-CAfile", &bundle.display().to_string(), &leaf.display().to_string()], "").await;
    assert_eq!(verified.code(), 0, "{verified:?}");
}

#[tokio::test]
async fn grpc_ends_stream_every_way() {
    let server = GrpcServer::start().await;
    let answer = grpc(server.address, "unary", &["hi"]).await;
    assert_eq!((&answer["status"], &answer["messages"]), (&json!("OK"), &json!(["hi"])));
    let answer = grpc(server.address, "client-stream", &["a", "b"]).await;
    assert_eq!(answer["messages"], json!(["a,b"]));
    let answer = grpc(server.address, "server-stream", &["a,b"]).await;
    assert_eq!(answer["messages"], json!(["a", "b"]));
    let answer = grpc(server.address, "bidi", &["a", "b", "c"]).await;
    assert_eq!(answer["messages"], json!(["a", "b", "c"]));
    let answer = grpc(server.address, "fail", &["a"]).await;
    assert_eq!((&answer["status"], &answer["messages"]), (&json!("INVALID_ARGUMENT"), &json!(["a"])));
}

#[tokio::test]
async fn websocket_ends_echo() {
    let server = WebSocketServer::start().await;
    let answer = websocket(&[&format!("ws://{}/x", server.address), "a", "b", "--binary", "100000"]).await;
    assert_eq!((&answer["messages"], &answer["binary_equal"]), (&json!(["a", "b"]), &json!(true)));
}

#[tokio::test]
async fn s3_server_checks_signatures_and_permissions() {
    let server = S3Server::start().await;
    let object = json!({ "Bucket": "raw", "Key": "a" });
    let put = json!({ "Bucket": "raw", "Key": "a", "Body": "hello" });
    let presigned = json!({ "method": "get_object", "Params": object });
    let client = server.client(&server.url()).step("create_bucket", json!({ "Bucket": "raw" }));
    let results =
        client.step("put_object", put.clone()).step("get_object", object).step("presigned", presigned.clone());
    let results = results.run().await;
    assert_eq!((&results[2]["Body"], &results[3]["body"]), (&json!("hello"), &json!("hello")), "{results:#?}");

    let reader = S3Client::new(&server.url(), &server.reader_access_key, &server.reader_secret_key);
    assert_eq!(reader.step("put_object", put.clone()).run().await[0]["code"], "AccessDenied");
    let forger = S3Client::new(&server.url(), &server.access_key, "wrong");
    let results = forger.step("put_object", put).step("presigned", presigned).run().await;
    assert_eq!(results[0]["code"], "SignatureDoesNotMatch");
    assert_eq!(results[1]["status"], 403, "{results:#?}");
}

#[tokio::test]
async fn s3_server_takes_buckets_by_host_and_the_aws_cli() {
    let server = S3Server::start().await;
    let client = server.client(&format!("http://s3.example:{}", server.address.port())).virtual_host("s3.example");
    let upload = json!({ "Bucket": "raw", "Key": "big", "bytes": 12_000_000 });
    let results = client.step("create_bucket", json!({ "Bucket": "raw" })).step("upload", upload).run().await;
    assert_eq!(results[1]["ok"], true, "{results:#?}");
    let url = server.url();
    let arguments = ["--endpoint-url", &url, "s3", "ls", "s3://raw/"];
    let listed = aws(&server.access_key, &server.secret_key, "", &arguments).await;
    assert!(listed.stdout.contains("12000000 big"), "{listed:?}");
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn s3_store_keeps_objects_as_files() {
    let world = World::new();
    let store = S3Store::start(&world.folder("store"), &["s3.example"]);
    store.create_bucket("raw");
    let client = |endpoint: &str| S3Client::new(endpoint, S3Store::ACCESS_KEY, S3Store::SECRET_KEY);
    let put = json!({ "Bucket": "raw", "Key": "a/b", "Body": "x" });
    assert_eq!(client(&store.url()).step("put_object", put.clone()).run().await[0]["ok"], true);
    assert_eq!(store.object("raw", "a/b").as_deref(), Some(&b"x"[..]));
    let by_host = client(&format!("http://s3.example:{}", store.address.port())).virtual_host("s3.example");
    assert_eq!(by_host.step("get_object", json!({ "Bucket": "raw", "Key": "a/b" })).run().await[0]["Body"], "x");
}

#[tokio::test]
async fn envoy_speaks_mtls_with_envoy() {
    let world = World::new();
    let upstream = Recorder::start();
    let server = Envoy::server(&world, &world.ca.issue("/ns/test/sa/server"), upstream.address).await;
    let client = Envoy::client(&world, &world.ca.issue("/ns/test/sa/client"), server.address).await;
    let answer = get(client.address, "/through/both").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}\n{:?}\n{:?}", client.log(), server.log());
    let seen = upstream.complete(1).await;
    assert!(seen[0].header("x-forwarded-client-cert").contains(&world.id("client")), "{seen:#?}");

    let stranger = Ca::new("pipeline.example").issue("/ns/test/sa/client");
    TlsClient::with(&stranger).refused_by(server.address).await;
    assert_eq!(upstream.seen().len(), 1);
}
