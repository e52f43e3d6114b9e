//! Real S3 clients reach real S3 servers only through two sidecars, and get exactly what the policies allow. moto checks
//! every signature, so what it answers shows that Host, path, query and body arrive as they were signed.

use base64::Engine as _;
use md5::Digest as _;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::support::*;

/// One moto for all tests, as it is slow to start: each test has buckets of its own. It ends with the test process.
static MOTO: OnceCell<S3Server> = OnceCell::const_new();

/// moto behind a pair of sidecars.
struct Lake {
    _world: World,
    store: &'static S3Server,
    pair: Pair,
    bucket: String,
}

impl Lake {
    /// `B` in the policies is the bucket, which exists, as does `BUCKET-other`.
    async fn start(bucket: &str, policies: &str, options: &str) -> Self {
        let store = MOTO.get_or_init(S3Server::start).await;
        let direct = store.client(&store.url()).step("create_bucket", json!({ "Bucket": bucket }));
        let made = direct.step("create_bucket", json!({ "Bucket": format!("{bucket}-other") })).run().await;
        assert!(made.iter().all(|result| result["ok"] == true), "{made:#?}");
        let world = World::new();
        let policies = policies.replace("endpoint/B", &format!("endpoint/{bucket}"));
        let pair = world.pair_with("s3", &store.url(), &policies, options).await;
        Self { _world: world, store, pair, bucket: bucket.to_owned() }
    }

    /// boto3 through both sidecars, path style.
    fn client(&self) -> S3Client {
        self.store.client(&format!("http://{}", self.pair.address()))
    }

    /// boto3 at the store itself: what is really there.
    fn direct(&self) -> S3Client {
        self.store.client(&self.store.url())
    }

    fn keys(&self) -> Keys<'static> {
        Keys { access: &self.store.access_key, secret: &self.store.secret_key }
    }

    /// The arguments that name an object, with further ones.
    fn object(&self, key: &str, further: Value) -> Value {
        named(&self.bucket, key, further)
    }

    /// Every key that the store has, in its order.
    async fn stored(&self) -> Vec<String> {
        let listed = self.direct().step("list_objects_v2", json!({ "Bucket": self.bucket })).run().await;
        let objects = listed[0]["Contents"].as_array().cloned().unwrap_or_default();
        objects.iter().filter_map(|object| object["Key"].as_str().map(str::to_owned)).collect()
    }

    /// Sends one request that no SDK made through both sidecars.
    async fn send(&self, request: S3Request) -> Answer {
        Client::plain(self.pair.address()).await.send(request.into_request()).await
    }

    fn ask(&self, line: &str) -> S3Request {
        S3Request::new(&self.pair.address().to_string(), line)
    }

    /// Asserts that a result is the error that S3 itself would give, and what the record says about it.
    async fn denied(&self, result: &Value, outcome: &str, policy: &str, operation: &str) {
        assert_eq!((&result["ok"], &result["status"]), (&json!(false), &json!(403)), "{result:#}");
        let record = self.record_of(result).await;
        assert_eq!(
            (&record["outcome"], policies_of(&record).join(",").as_str()),
            (&json!(outcome), policy),
            "{record:#}"
        );
        let asked = format!("{} {}", text(&record, "action"), text(&record, "resource"));
        assert_eq!(asked, operation.replace("endpoint/B", &format!("endpoint/{}", self.bucket)), "{record:#}");
    }

    /// The inbound record of an answer that names its decision.
    async fn record_of(&self, result: &Value) -> Value {
        self.pair.inbound.records.of_decision(result["decision"].as_str().unwrap_or_else(|| panic!("{result:#}"))).await
    }

    /// The first inbound record of this S3 operation on this key.
    async fn record(&self, operation: &str, key: &str) -> Value {
        let object = object_id(&self.bucket, key);
        let wanted =
            |record: &Value| record["context"]["operation"] == operation && record["resource"] == object.as_str();
        self.pair.inbound.records.find(&format!("{operation} of {key}"), wanted).await
    }
}

fn named(bucket: &str, key: &str, further: Value) -> Value {
    let mut arguments = further;
    arguments["Bucket"] = json!(bucket);
    arguments["Key"] = json!(key);
    arguments
}

/// As records write it: Cedar's own spelling of an entity.
fn object_id(bucket: &str, key: &str) -> String {
    format!("Object::\"endpoint/{bucket}/{}\"", key.escape_debug())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

fn none() -> Value {
    json!({})
}

#[tokio::test]
async fn boto3_gets_what_the_policies_allow_and_errors_that_it_knows() {
    const POLICIES: &str = r#"
        @id("app-uses-in")
        permit (
          principal == Workload::"spiffe://pipeline.example/ns/test/sa/app",
          action in [Action::"read", Action::"write", Action::"list"],
          resource in Prefix::"endpoint/B/in"
        );
        @id("nobody-deletes") forbid (principal, action in Action::"delete", resource in Bucket::"endpoint/B");
    "#;
    let lake = Lake::start("basics", POLICIES, "").await;
    let list = |further: Value| {
        let mut arguments = further;
        arguments["Bucket"] = json!("basics");
        arguments
    };
    let metadata = json!({ "Body": "hello world", "Metadata": { "owner": "a b+c" }, "ContentType": "text/x-test" });
    let client =
        lake.client().step("put_object", lake.object("in/a", metadata)).step("get_object", lake.object("in/a", none()));
    let client = client.step("get_object", lake.object("in/a", json!({ "Range": "bytes=0-4" })));
    let client = client.step("head_object", lake.object("in/a", none()));
    // What the store answers passes through: 404, 412, 304, 416.
    let client =
        client.step("get_object", lake.object("in/none", none())).step("head_object", lake.object("in/none", none()));
    let client = client.step("get_object", lake.object("in/a", json!({ "IfMatch": "\"0\"" })));
    let client = client.step("get_object", lake.object("in/a", json!({ "Range": "bytes=900-" })));
    let results = client.run().await;
    assert_eq!((&results[0]["ok"], &results[1]["Body"]), (&json!(true), &json!("hello world")), "{results:#?}");
    assert_eq!((&results[2]["status"], &results[2]["Body"]), (&json!(206), &json!("hello")));
    assert_eq!((&results[3]["ContentLength"], &results[3]["ETag"]), (&json!(11), &results[0]["ETag"]));
    assert_eq!(
        (&results[3]["Metadata"]["owner"], &results[3]["ContentType"]),
        (&json!("a b+c"), &json!("text/x-test"))
    );
    for (at, status, code) in
        [(4, 404, "NoSuchKey"), (5, 404, "404"), (6, 412, "PreconditionFailed"), (7, 416, "InvalidRange")]
    {
        let result = &results[at];
        assert_eq!((&result["status"], text(result, "code")), (&json!(status), code), "{result:#}");
        assert!(result["decision"].is_null(), "the store's own answer: {result:#}");
    }
    let missing = lake.record("GetObject", "in/none").await;
    assert_eq!((&missing["outcome"], &missing["status"]), (&json!("allowed"), &json!(404)));
    let put = lake.record("PutObject", "in/a").await;
    assert_eq!((policies_of(&put), &put["bytes_in"]), (vec!["app-uses-in"], &json!(11)));
    assert_eq!(lake.record("HeadObject", "in/a").await["action"], "s3:GetObject");

    // The folder of the whole segments of a prefix is what is listed.
    let client = lake.client().step("list_objects_v2", list(json!({ "Prefix": "in/" })));
    let client = client.step("list_objects_v2", list(json!({ "Prefix": "in/20", "Delimiter": "/" })));
    let client = client.step("list_objects", list(json!({ "Prefix": "in/a" })));
    let client = client.step("list_objects_v2", list(json!({ "Prefix": "in" }))).step("list_objects_v2", list(none()));
    let client = client.step("list_objects_v2", list(json!({ "Prefix": "out/" }))).step("head_bucket", list(none()));
    let client = client.step("list_object_versions", list(none())).step("list_buckets", none());
    let results = client.run().await;
    for (at, count) in [(0, Some(1)), (1, None), (2, Some(1))] {
        assert_eq!(results[at]["ok"], true, "{:#}", results[at]);
        assert_eq!(results[at]["Contents"].as_array().map(Vec::len), count, "{:#}", results[at]);
    }
    let whole = "s3:ListBucket Bucket::\"endpoint/B\"";
    lake.denied(&results[3], "not_permitted", "", whole).await;
    lake.denied(&results[4], "not_permitted", "", whole).await;
    lake.denied(&results[5], "not_permitted", "", "s3:ListBucket Prefix::\"endpoint/B/out\"").await;
    lake.denied(&results[6], "not_permitted", "", whole).await;
    lake.denied(&results[7], "not_permitted", "", "s3:ListBucketVersions Bucket::\"endpoint/B\"").await;
    lake.denied(&results[8], "not_permitted", "", "s3:ListAllMyBuckets Endpoint::\"endpoint\"").await;
    assert_eq!(text(&results[4], "code"), "AccessDenied");

    let client = lake
        .client()
        .step("get_object", lake.object("out/a", none()))
        .step("head_object", lake.object("out/a", none()));
    let client = client.step("put_object", lake.object("out/a", json!({ "Body": "x" })));
    // The answer to a body that nobody reads still arrives.
    let client = client.step("upload", lake.object("out/b", json!({ "bytes": 20_000_000, "part_bytes": 64 << 20 })));
    let client = client.step("delete_object", lake.object("in/a", none()));
    let results = client.run().await;
    lake.denied(&results[0], "not_permitted", "", "s3:GetObject Object::\"endpoint/B/out/a\"").await;
    assert_eq!(text(&results[0], "code"), "AccessDenied", "{:#}", results[0]);
    assert!(text(&results[0], "message").contains(text(&results[0], "decision")), "{:#}", results[0]);
    let record = lake.record_of(&results[0]).await;
    assert_eq!(results[0]["request_id"], record["request_id"], "S3's request id is the record's");
    // HEAD has no body, so boto3 knows the status only.
    lake.denied(&results[1], "not_permitted", "", "s3:GetObject Object::\"endpoint/B/out/a\"").await;
    assert_eq!((text(&results[1], "code"), text(&results[1], "message")), ("403", "Forbidden"));
    lake.denied(&results[2], "not_permitted", "", "s3:PutObject Object::\"endpoint/B/out/a\"").await;
    lake.denied(&results[3], "not_permitted", "", "s3:PutObject Object::\"endpoint/B/out/b\"").await;
    lake.denied(&results[4], "forbidden", "nobody-deletes", "s3:DeleteObject Object::\"endpoint/B/in/a\"").await;
    assert_eq!(lake.stored().await, ["in/a"]);
    lake.pair.stop().await;
}

#[tokio::test]
async fn what_the_store_itself_refuses_is_told_as_it_is() {
    let lake = Lake::start("own-errors", ALLOW_ALL, "").await;
    let through = format!("http://{}", lake.pair.address());
    let object = lake.object("in/a", json!({ "Body": "x" }));
    // Allowed by the policies, not by the store's IAM.
    let reader = S3Client::new(&through, &lake.store.reader_access_key, &lake.store.reader_secret_key);
    let results = reader.step("put_object", object.clone()).run().await;
    assert_eq!((text(&results[0], "code"), &results[0]["status"]), ("AccessDenied", &json!(403)), "{results:#?}");
    assert!(results[0]["decision"].is_null(), "{results:#?}");
    let record = lake.record("PutObject", "in/a").await;
    assert_eq!((&record["outcome"], &record["status"]), (&json!("allowed"), &json!(403)));
    // A wrong secret: the store checks the signature itself. The right one is the allowed twin.
    let forger =
        S3Client::new(&through, &lake.store.access_key, "wrong").step("put_object", object.clone()).run().await;
    assert_eq!(text(&forger[0], "code"), "SignatureDoesNotMatch", "{forger:#?}");
    let gone = json!({ "Bucket": "own-errors-gone", "Key": "a" });
    let results = lake.client().step("put_object", object).step("get_object", gone.clone()).run().await;
    assert_eq!(results[0]["ok"], true, "{results:#?}");
    let direct = lake.direct().step("get_object", gone).run().await;
    assert_eq!(results[1]["code"], "NoSuchBucket");
    assert_eq!((&results[1]["code"], &results[1]["message"]), (&direct[0]["code"], &direct[0]["message"]));
    lake.pair.stop().await;
}

#[tokio::test]
async fn boto3_moves_64_mib_in_parts_and_a_part_needs_permission_too() {
    const POLICIES: &str = r#"
        @id("parts") permit (principal, action in [Action::"read", Action::"write"], resource in Prefix::"endpoint/B/in");
        @id("no-abort") forbid (principal, action == Action::"s3:AbortMultipartUpload", resource in Prefix::"endpoint/B/in/kept");
    "#;
    let lake = Lake::start("parts", POLICIES, "").await;
    let big = json!({ "bytes": 64 << 20, "part_bytes": 8 << 20 });
    let client = lake.client().step("upload", lake.object("in/big", big.clone()));
    let client = client.step("download", lake.object("in/big", json!({ "part_bytes": 8 << 20 })));
    let client = client.step("upload", lake.object("out/big", big));
    let client = client.step("create_multipart_upload", lake.object("in/open", none()));
    let client = client.step("create_multipart_upload", lake.object("in/kept/open", none()));
    let results = client.run().await;
    assert_eq!((&results[0]["ok"], &results[1]["bytes"]), (&json!(true), &json!(64 << 20)), "{results:#?}");
    assert_eq!(results[0]["sha256"], results[1]["sha256"], "{results:#?}");
    lake.denied(&results[2], "not_permitted", "", "s3:PutObject Object::\"endpoint/B/out/big\"").await;
    for operation in ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"] {
        let record = lake.record(operation, "in/big").await;
        assert_eq!((text(&record, "action"), policies_of(&record)), ("s3:PutObject", vec!["parts"]));
    }
    assert_eq!(lake.record("UploadPart", "in/big").await["bytes_in"], 8 << 20);

    let part = |key: &str, result: &Value, further: Value| {
        let mut arguments = lake.object(key, further);
        arguments["UploadId"] = result["UploadId"].clone();
        arguments
    };
    let client =
        lake.client().step("upload_part", part("in/open", &results[3], json!({ "PartNumber": 1, "Body": "x" })));
    let client = client.step("list_parts", part("in/open", &results[3], none()));
    let client = client.step("upload_part", part("out/open", &results[3], json!({ "PartNumber": 1, "Body": "x" })));
    let client = client.step("abort_multipart_upload", part("in/kept/open", &results[4], none()));
    let client = client.step("abort_multipart_upload", part("in/open", &results[3], none()));
    let results = client.run().await;
    assert_eq!((&results[0]["ok"], &results[4]["status"]), (&json!(true), &json!(204)), "{results:#?}");
    lake.denied(&results[1], "not_permitted", "", "s3:ListMultipartUploadParts Object::\"endpoint/B/in/open\"").await;
    lake.denied(&results[2], "not_permitted", "", "s3:PutObject Object::\"endpoint/B/out/open\"").await;
    lake.denied(&results[3], "forbidden", "no-abort", "s3:AbortMultipartUpload Object::\"endpoint/B/in/kept/open\"")
        .await;
    assert_eq!(lake.stored().await, ["in/big"]);
    lake.pair.stop().await;
}

#[tokio::test]
async fn a_copy_needs_its_source_and_its_target() {
    const POLICIES: &str = r#"
        @id("open") permit (principal, action in [Action::"read", Action::"write"], resource in Prefix::"endpoint/B/open");
        @id("secret") forbid (principal, action in Action::"read", resource in Prefix::"endpoint/B/secret");
        @id("secret-tags") permit (principal, action == Action::"s3:PutObjectTagging", resource in Prefix::"endpoint/B/open");
    "#;
    let lake = Lake::start("copies", POLICIES, "").await;
    let put = |key: &str| lake.object(key, json!({ "Body": format!("content of {key}"), "Tagging": "t=1" }));
    let stored = lake
        .direct()
        .step("put_object", put("open/a"))
        .step("put_object", put("secret/a"))
        .step("put_object", put("open/ü +&%"));
    assert!(stored.run().await.iter().all(|result| result["ok"] == true));
    let copy = |from: &str, to: &str| lake.object(to, json!({ "CopySource": { "Bucket": lake.bucket, "Key": from } }));
    let client =
        lake.client().step("copy_object", copy("open/a", "open/b")).step("copy_object", copy("open/ü +&%", "open/c"));
    let client = client.step("copy_object", copy("secret/a", "open/d")).step("copy_object", copy("open/a", "closed/a"));
    let client = client.step("create_multipart_upload", lake.object("open/e", none()));
    let other = lake.object("open/f", json!({ "CopySource": "copies-other/a" }));
    let results = client.step("copy_object", other).run().await;
    assert!(results[0]["ok"] == true && results[1]["ok"] == true, "{results:#?}");
    lake.denied(&results[2], "forbidden", "secret", "s3:GetObject Object::\"endpoint/B/secret/a\"").await;
    lake.denied(&results[3], "not_permitted", "", "s3:PutObject Object::\"endpoint/B/closed/a\"").await;
    let record = lake.record_of(&results[2]).await;
    assert_eq!(record["operations"].as_array().map(Vec::len), Some(2), "{record:#}");
    assert_eq!(record["operations"][0]["outcome"], "allowed");
    assert_eq!(record["operations"][1]["context"]["copySource"], "endpoint/copies/secret/a");
    let record = lake.record_of(&results[5]).await;
    assert_eq!(text(&record, "resource"), "Object::\"endpoint/copies-other/a\"");

    let part = |from: &str| {
        let further =
            json!({ "PartNumber": 1, "CopySource": format!("copies/{from}"), "UploadId": results[4]["UploadId"] });
        lake.object("open/e", further)
    };
    let client = lake.client().step("upload_part_copy", part("open/a")).step("upload_part_copy", part("secret/a"));
    let client =
        client.step("get_object", lake.object("open/b", none())).step("get_object", lake.object("open/c", none()));
    let results = client.run().await;
    assert_eq!(results[0]["ok"], true, "{results:#?}");
    lake.denied(&results[1], "forbidden", "secret", "s3:GetObject Object::\"endpoint/B/secret/a\"").await;
    assert_eq!(
        (&results[2]["Body"], &results[3]["Body"]),
        (&json!("content of open/a"), &json!("content of open/ü +&%"))
    );
    assert_eq!(lake.stored().await, ["open/a", "open/b", "open/c", "open/ü +&%", "secret/a"]);
    lake.pair.stop().await;
}

#[tokio::test]
async fn boto3_hears_of_every_key_of_a_batch_delete() {
    const POLICIES: &str = r#"
        @id("cleaner") permit (principal, action in Action::"delete", resource in Bucket::"endpoint/B");
        @id("keep") forbid (principal, action in Action::"delete", resource in Prefix::"endpoint/B/keep");
    "#;
    let lake = Lake::start("batches", POLICIES, "").await;
    let odd = "b/ü +%&<>\"';?#";
    let mut direct = lake.direct();
    for key in ["a", odd, "keep/c", "keep/d", "e"] {
        direct = direct.step("put_object", lake.object(key, json!({ "Body": "x" })));
    }
    assert!(direct.run().await.iter().all(|result| result["ok"] == true));
    let batch = |keys: &[&str], quiet: bool| {
        let objects: Vec<Value> = keys.iter().map(|key| json!({ "Key": key })).collect();
        json!({ "Bucket": "batches", "Delete": { "Objects": objects, "Quiet": quiet } })
    };
    let errors = |result: &Value| -> Vec<(String, String)> {
        let errors = result["Errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| (text(error, "Key").to_owned(), text(error, "Code").to_owned())).collect()
    };
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, code)| ((*key).to_owned(), (*code).to_owned())).collect()
    };
    // boto3 signs the body: nothing of it goes on unless all of it may.
    let client = lake.client().step("delete_objects", batch(&["a", "keep/c", odd], false));
    let client = client.step("delete_objects", batch(&["keep/c", "keep/d"], false));
    let client = client.step("delete_objects", batch(&["a", "keep/d"], true));
    let results = client.run().await;
    assert!(results[0]["ok"] == true && results[0]["Deleted"].is_null(), "{results:#?}");
    let expected = [("a", "OperationAborted"), ("keep/c", "AccessDenied"), (odd, "OperationAborted")];
    assert_eq!(errors(&results[0]), owned(&expected));
    assert_eq!(errors(&results[1]), owned(&[("keep/c", "AccessDenied"), ("keep/d", "AccessDenied")]));
    assert_eq!(errors(&results[2]), owned(&[("a", "OperationAborted"), ("keep/d", "AccessDenied")]));
    assert_eq!(lake.stored().await.len(), 5, "nothing was deleted");
    let records = lake.pair.inbound.records.requests(3).await;
    let [first, ..] = &*records else { panic!("no record") };
    assert_eq!((&first["outcome"], policies_of(first)), (&json!("forbidden"), vec!["keep"]), "{first:#}");
    let outcomes: Vec<_> = (0..3).map(|at| text(&first["operations"][at], "outcome")).collect();
    assert_eq!(outcomes, ["allowed", "forbidden", "allowed"]);

    let client =
        lake.client().step("delete_objects", batch(&["a", odd], false)).step("delete_objects", batch(&["e"], true));
    let results = client.run().await;
    assert_eq!(results[0]["Deleted"].as_array().map(Vec::len), Some(2), "{results:#?}");
    assert!(results[0]["Errors"].is_null() && results[1]["ok"] == true, "{results:#?}");
    assert_eq!(lake.stored().await, ["keep/c", "keep/d"]);
    lake.pair.stop().await;
}

/// A Delete with these keys.
fn delete(keys: &[&str]) -> String {
    let objects: String = keys.iter().map(|key| format!("<Object><Key>{key}</Key></Object>")).collect();
    format!("<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{objects}</Delete>")
}

fn content_md5(body: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(body))
}

const CLEANER: &str = r#"
    @id("cleaner") permit (principal, action in Action::"delete", resource in Bucket::"endpoint/B");
    @id("keep") forbid (principal, action in Action::"delete", resource in Prefix::"endpoint/B/keep");
"#;

#[tokio::test]
async fn a_batch_delete_that_nobody_signed_goes_on_with_the_allowed_keys() {
    let lake = Lake::start("unsigned", CLEANER, "").await;
    let mut direct = lake.direct();
    for key in ["a", "b", "c", "keep/d", "keep/e"] {
        direct = direct.step("put_object", lake.object(key, json!({ "Body": "x" })));
    }
    assert!(direct.run().await.iter().all(|result| result["ok"] == true));

    // Signed in a header with UNSIGNED-PAYLOAD; the digest is not covered.
    let body = delete(&["a", "keep/d"]);
    let request = lake.ask("POST /unsigned?delete").body(&*body).signed(lake.keys(), Some(UNSIGNED_PAYLOAD));
    let answer = lake.send(request.header("content-md5", &content_md5(body.as_bytes()))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.text().contains("<Deleted><Key>a</Key>"), "{}", answer.text());
    assert!(answer.text().contains("<Error><Key>keep/d</Key><Code>AccessDenied</Code>"), "{}", answer.text());
    assert_eq!(lake.stored().await, ["b", "c", "keep/d", "keep/e"]);
    let record = lake.pair.inbound.records.of_decision(answer.decision()).await;
    assert_eq!((&record["outcome"], policies_of(&record)), (&json!("forbidden"), vec!["keep"]), "{record:#}");
    let outcomes: Vec<_> = (0..2).map(|at| text(&record["operations"][at], "outcome")).collect();
    assert_eq!(outcomes, ["allowed", "forbidden"]);

    // Presigned.
    let presigned = lake.ask("POST /unsigned?delete").presigned(lake.keys(), &[]);
    let answer = lake.send(presigned.clone().body(delete(&["keep/e", "b"]))).await;
    assert!(answer.text().contains("<Deleted><Key>b</Key>"), "{}", answer.text());
    assert!(answer.text().contains("<Error><Key>keep/e</Key><Code>AccessDenied</Code>"), "{}", answer.text());
    let answer = lake.send(presigned.clone().body(delete(&["keep/e", "keep/d"]))).await;
    assert_eq!(answer.text().matches("<Code>AccessDenied</Code>").count(), 2, "{}", answer.text());
    assert_eq!(lake.stored().await, ["c", "keep/d", "keep/e"]);

    // The same with a digest that the signature covers: not to be written anew.
    let body = delete(&["c", "keep/d"]);
    let request = lake.ask("POST /unsigned?delete").header("content-md5", &content_md5(body.as_bytes()));
    let answer = lake.send(request.body(&*body).signed(lake.keys(), Some(UNSIGNED_PAYLOAD))).await;
    assert!(answer.text().contains("<Error><Key>c</Key><Code>OperationAborted</Code>"), "{}", answer.text());
    assert_eq!(lake.stored().await, ["c", "keep/d", "keep/e"]);
    let answer = lake.send(presigned.body(delete(&["c"]))).await;
    assert!(answer.text().contains("<Deleted><Key>c</Key>"), "{}", answer.text());
    assert_eq!(lake.stored().await, ["keep/d", "keep/e"]);
    lake.pair.stop().await;
}

#[tokio::test]
async fn a_rewritten_batch_delete_has_true_length_and_digests() {
    const DELETED: &str =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult><Deleted><Key>a</Key></Deleted></DeleteResult>";
    let world = World::new();
    let upstream = Recorder::answering(|seen| {
        let status =
            if seen.header("x-test") == "fail" { http::StatusCode::SERVICE_UNAVAILABLE } else { http::StatusCode::OK };
        let body = if status.is_success() { DELETED } else { "<Error><Code>SlowDown</Code></Error>" };
        Reply { status, headers: vec![("content-type".to_owned(), "application/xml".to_owned())], ..Reply::text(body) }
    });
    let pair = world.pair("s3", &upstream.url(), &CLEANER.replace("endpoint/B", "endpoint/raw")).await;
    let ask = || S3Request::new(&pair.address().to_string(), "POST /raw?delete");
    let send = async |request: S3Request| Client::plain(pair.address()).await.send(request.into_request()).await;

    // All allowed: byte for byte, whatever its shape.
    let odd = "<?xml version=\"1.0\"?>\n<Delete >\n  <Object><Key>a&#x26;</Key></Object>\n</Delete>\n";
    let answer = send(ask().header("content-md5", &content_md5(odd.as_bytes())).body(odd)).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (200, DELETED));
    let seen = upstream.complete(1).await;
    assert_eq!((&*seen[0].body, seen[0].header("content-md5")), (odd.as_bytes(), &*content_md5(odd.as_bytes())));

    // Some denied: the rest in a new body, with digests of that body.
    let body = delete(&["keep/b", "a", "c&amp;&lt;d"]);
    let crc = |bytes: &[u8]| {
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(bytes);
        base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes())
    };
    let request = ask()
        .header("content-md5", &content_md5(body.as_bytes()))
        .header("x-amz-content-sha256", &sha256(body.as_bytes()));
    let answer = send(request.header("x-amz-checksum-crc32", &crc(body.as_bytes())).body(&*body)).await;
    let denied =
        "<Error><Key>keep/b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>";
    assert_eq!(answer.text(), DELETED.replace("</DeleteResult>", denied));
    let seen = upstream.complete(2).await;
    let sent = String::from_utf8_lossy(&seen[1].body).into_owned();
    assert!(
        sent.contains("<Key>a</Key>") && sent.contains("<Key>c&amp;&lt;d</Key>") && !sent.contains("keep"),
        "{sent}"
    );
    assert_eq!(seen[1].header("content-length"), seen[1].body.len().to_string());
    assert_eq!(seen[1].header("content-md5"), content_md5(&seen[1].body));
    assert_eq!(seen[1].header("x-amz-checksum-crc32"), crc(&seen[1].body));
    assert_eq!(seen[1].header("x-amz-content-sha256"), sha256(&seen[1].body));

    // As many keys as there can be, every other one denied.
    let keys: Vec<String> = (0..1_000).map(|n| format!("{}{n}", if n % 2 == 0 { "keep/" } else { "drop/" })).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let answer = send(ask().body(delete(&keys))).await;
    assert_eq!(answer.text().matches("<Code>AccessDenied</Code>").count(), 500, "{}", answer.text());
    let sent = String::from_utf8_lossy(&upstream.complete(3).await[2].body).into_owned();
    assert_eq!((sent.matches("<Key>drop/").count(), sent.contains("keep")), (500, false));

    // What the store says to it, the caller hears.
    let answer = send(ask().header("x-test", "fail").body(body)).await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (503, "<Error><Code>SlowDown</Code></Error>"));
    // Nothing left: nothing is sent.
    let answer = send(ask().body(delete(&["keep/b"]))).await;
    assert!(answer.status == 200 && answer.text().contains("<Code>AccessDenied</Code>"), "{answer:?}");
    assert_eq!(upstream.seen().len(), 4);
    pair.stop().await;
}

#[tokio::test]
async fn a_presigned_url_is_judged_by_who_brings_it() {
    const POLICIES: &str = r#"
        @id("app-uses-in") permit (principal, action in [Action::"read", Action::"write"], resource in Prefix::"endpoint/B/in");
        @id("acl") permit (principal, action == Action::"s3:PutObjectAcl", resource in Prefix::"endpoint/B/in/public");
    "#;
    let lake = Lake::start("presigned", POLICIES, "").await;
    let url =
        |method: &str, key: &str, further: Value| json!({ "method": method, "Params": lake.object(key, further) });
    let put = |key: &str, further: Value, headers: Value| {
        let mut arguments = url("put_object", key, further);
        arguments["body"] = json!("hello");
        arguments["headers"] = headers;
        // Python's own default is a form's, which moto takes apart.
        arguments["headers"]["content-type"] = json!("text/plain");
        arguments
    };
    let acl = || (json!({ "ACL": "public-read" }), json!({ "x-amz-acl": "public-read" }));
    let client = lake
        .client()
        .step("presigned", put("in/a b", none(), none()))
        .step("presigned", url("get_object", "in/a b", none()));
    let client =
        client.step("presigned", put("out/a", none(), none())).step("presigned", url("get_object", "out/a", none()));
    let client =
        client.step("presigned", put("in/b", acl().0, acl().1)).step("presigned", put("in/public/b", acl().0, acl().1));
    let client = client.step("presigned", url("delete_object", "in/a b", none()));
    let results = client.run().await;
    assert_eq!((&results[0]["status"], &results[1]["body"]), (&json!(200), &json!("hello")), "{results:#?}");
    assert_eq!(lake.record("GetObject", "in/a b").await["context"]["presigned"], true);
    assert_eq!(lake.record("PutObject", "in/a b").await["bytes_in"], 5);
    lake.denied(&results[2], "not_permitted", "", "s3:PutObject Object::\"endpoint/B/out/a\"").await;
    lake.denied(&results[3], "not_permitted", "", "s3:GetObject Object::\"endpoint/B/out/a\"").await;
    assert_eq!(text(&results[3], "code"), "AccessDenied");
    lake.denied(&results[4], "not_permitted", "", "s3:PutObjectAcl Object::\"endpoint/B/in/b\"").await;
    assert_eq!(results[5]["status"], 200, "{:#}", results[5]);
    lake.denied(&results[6], "not_permitted", "", "s3:DeleteObject Object::\"endpoint/B/in/a b\"").await;

    // Other SDKs hoist x-amz-* headers into the query. Signed there, they decide as the headers would.
    let hoisted = |key: &str| {
        lake.ask(&format!("PUT /presigned/{key}?x-amz-acl=public-read")).presigned(lake.keys(), &[]).body("x")
    };
    let answer = lake.send(hoisted("in/c")).await;
    let record = lake.pair.inbound.records.of_decision(answer.decision()).await;
    assert_eq!((answer.status.as_u16(), text(&record, "action")), (403, "s3:PutObjectAcl"));
    let answer = lake.send(hoisted("in/public/c")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // A changed byte of the URL, and the store refuses it: ours is not the signature check.
    let mut forged = lake.ask("GET /presigned/in/a%20b").presigned(lake.keys(), &[]);
    forged.target = forged.target.replace("X-Amz-Expires=300", "X-Amz-Expires=301");
    let answer = lake.send(forged).await;
    assert!(answer.status == 403 && answer.text().contains("SignatureDoesNotMatch"), "{answer:?}");
    assert_eq!(lake.stored().await, ["in/a b", "in/public/b", "in/public/c"]);
    lake.pair.stop().await;
}

#[tokio::test]
async fn both_addressing_styles_reach_the_same_object() {
    const POLICIES: &str = r#"
        @id("app-uses-in") permit (principal, action in [Action::"read", Action::"write", Action::"list"], resource in Prefix::"endpoint/B/in");
    "#;
    let lake = Lake::start("styles", POLICIES, "host_suffixes: [s3.example]\n").await;
    let by_host =
        || lake.store.client(&format!("http://s3.example:{}", lake.pair.address().port())).virtual_host("s3.example");
    let client = by_host().step("put_object", lake.object("in/ü a", json!({ "Body": "by host" })));
    let client =
        client.step("get_object", lake.object("in/ü a", none())).step("get_object", lake.object("out/a", none()));
    let client = client.step("list_objects_v2", json!({ "Bucket": "styles", "Prefix": "in/" }));
    let client = client.step("list_objects_v2", json!({ "Bucket": "styles" }));
    let client = client.step("presigned", json!({ "method": "get_object", "Params": lake.object("in/ü a", none()) }));
    let client = client.step("upload", lake.object("in/big", json!({ "bytes": 12_000_000, "part_bytes": 5 << 20 })));
    let results = client.run().await;
    assert_eq!((&results[0]["ok"], &results[1]["Body"]), (&json!(true), &json!("by host")), "{results:#?}");
    lake.denied(&results[2], "not_permitted", "", "s3:GetObject Object::\"endpoint/B/out/a\"").await;
    assert_eq!(results[3]["KeyCount"], 1, "{results:#?}");
    lake.denied(&results[4], "not_permitted", "", "s3:ListBucket Bucket::\"endpoint/B\"").await;
    assert_eq!(results[5]["body"], "by host", "{results:#?}");
    assert!(text(&results[5], "url").starts_with("http://styles.s3.example:"), "{results:#?}");
    assert_eq!(lake.record("PutObject", "in/ü a").await["context"]["host"], "styles.s3.example");
    let client = lake.client().step("get_object", lake.object("in/ü a", none()));
    let results = client.step("download", lake.object("in/big", none())).run().await;
    assert_eq!((&results[0]["Body"], &results[1]["bytes"]), (&json!("by host"), &json!(12_000_000)), "{results:#?}");

    let forged = S3Request::new("styles.elsewhere.example", "GET /in/a").signed(lake.keys(), None);
    let answer = lake.send(forged).await;
    assert!(answer.status == 400 && answer.text().contains("`host_suffixes`"), "{answer:?}");
    lake.pair.stop().await;
}

#[tokio::test]
async fn headers_and_versions_need_permissions_of_their_own() {
    const POLICIES: &str = r#"
        @id("content") permit (principal, action in [Action::"s3:GetObject", Action::"s3:PutObject"], resource in Bucket::"endpoint/B");
        @id("locked") permit (principal, action == Action::"s3:PutObject", resource in Bucket::"endpoint/B-locked");
        @id("tags") permit (principal, action in [Action::"s3:PutObjectTagging", Action::"s3:GetObjectTagging"], resource in Prefix::"endpoint/B/yes");
        @id("acl") permit (principal, action in [Action::"s3:PutObjectAcl", Action::"s3:GetObjectAcl"], resource in Prefix::"endpoint/B/yes");
        @id("locks") permit (principal, action in [Action::"s3:PutObjectRetention", Action::"s3:PutObjectLegalHold"], resource in Prefix::"endpoint/B-locked/yes");
        @id("versions") permit (principal, action == Action::"s3:GetObjectVersion", resource in Prefix::"endpoint/B/yes");
        @id("old-ones-stay") forbid (principal, action == Action::"s3:DeleteObjectVersion", resource in Bucket::"endpoint/B");
    "#;
    let lake = Lake::start("extras", POLICIES, "").await;
    let locked = json!({ "Bucket": "extras-locked", "ObjectLockEnabledForBucket": true });
    let versioning = json!({ "Bucket": "extras", "VersioningConfiguration": { "Status": "Enabled" } });
    let direct = lake.direct().step("put_bucket_versioning", versioning).step("create_bucket", locked);
    let direct = direct.step("put_object", lake.object("yes/a", json!({ "Body": "first" })));
    let direct = direct.step("put_object", lake.object("no/a", json!({ "Body": "first" }))).run().await;
    assert!(direct.iter().all(|result| result["ok"] == true), "{direct:#?}");

    for (headers, action) in [
        (json!({ "Tagging": "a=b&c=d" }), "s3:PutObjectTagging"),
        (json!({ "ACL": "public-read" }), "s3:PutObjectAcl"),
        (json!({ "GrantRead": "uri=http://acs.amazonaws.com/groups/global/AllUsers" }), "s3:PutObjectAcl"),
    ] {
        let mut arguments = headers.clone();
        arguments["Body"] = json!("second");
        let client = lake.client().step("put_object", lake.object("yes/a", arguments.clone()));
        let results = client.step("put_object", lake.object("no/a", arguments)).run().await;
        assert_eq!(results[0]["ok"], true, "{headers}: {results:#?}");
        lake.denied(&results[1], "not_permitted", "", &format!("{action} Object::\"endpoint/B/no/a\"")).await;
    }
    let locked = |key: &str, headers: &Value| named("extras-locked", key, headers.clone());
    let until = "2099-01-01T00:00:00Z";
    for (headers, action) in [
        (
            json!({ "Body": "x", "ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": until }),
            "s3:PutObjectRetention",
        ),
        (json!({ "Body": "x", "ObjectLockLegalHoldStatus": "ON" }), "s3:PutObjectLegalHold"),
    ] {
        let client = lake.client().step("put_object", locked("yes/b", &headers));
        let results = client.step("put_object", locked("no/b", &headers)).run().await;
        assert_eq!(results[0]["ok"], true, "{headers}: {results:#?}");
        lake.denied(&results[1], "not_permitted", "", &format!("{action} Object::\"endpoint/B-locked/no/b\"")).await;
    }

    let version = |key: &str, at: usize| lake.object(key, json!({ "VersionId": direct[at]["VersionId"] }));
    let client = lake.client().step("get_object", version("yes/a", 2)).step("get_object", version("no/a", 3));
    let client = client.step("get_object", lake.object("no/a", none())).step("head_object", version("no/a", 3));
    let client =
        client.step("delete_object", version("yes/a", 2)).step("get_object_tagging", lake.object("yes/a", none()));
    let client = client
        .step("get_object_tagging", lake.object("no/a", none()))
        .step("get_object_acl", lake.object("no/a", none()));
    let results = client.run().await;
    assert_eq!((&results[0]["Body"], &results[2]["Body"]), (&json!("first"), &json!("first")), "{results:#?}");
    let record = lake.record("GetObject", "yes/a").await;
    assert_eq!((text(&record, "action"), &record["context"]["byVersion"]), ("s3:GetObjectVersion", &json!(true)));
    for at in [1, 3] {
        lake.denied(&results[at], "not_permitted", "", "s3:GetObjectVersion Object::\"endpoint/B/no/a\"").await;
    }
    lake.denied(&results[4], "forbidden", "old-ones-stay", "s3:DeleteObjectVersion Object::\"endpoint/B/yes/a\"").await;
    assert_eq!(results[5]["ok"], true, "{results:#?}");
    lake.denied(&results[6], "not_permitted", "", "s3:GetObjectTagging Object::\"endpoint/B/no/a\"").await;
    lake.denied(&results[7], "not_permitted", "", "s3:GetObjectAcl Object::\"endpoint/B/no/a\"").await;
    lake.pair.stop().await;
}

#[tokio::test]
async fn what_a_policy_says_about_a_request_holds_for_real_ones() {
    const POLICIES: &str = r#"
        @id("all") permit (principal, action, resource in Bucket::"endpoint/B");
        @id("encrypted") forbid (principal, action == Action::"s3:PutObject", resource in Prefix::"endpoint/B/encrypted")
          unless { ["UploadPart", "CompleteMultipartUpload"].contains(context.operation) || (context has encryption && context.encryption == "aws:kms") };
        @id("our-key") forbid (principal, action == Action::"s3:PutObject", resource in Prefix::"endpoint/B/key")
          unless { context has kmsKeyId && context.kmsKeyId == "arn:aws:kms:us-east-1:123456789012:key/ours" };
        @id("warm") forbid (principal, action == Action::"s3:PutObject", resource in Prefix::"endpoint/B/warm")
          when { context has storageClass && context.storageClass != "STANDARD" };
        @id("private") forbid (principal, action == Action::"s3:PutObjectAcl", resource in Prefix::"endpoint/B/private")
          unless { context has acl && context.acl == "private" };
        @id("small") forbid (principal, action == Action::"s3:PutObject", resource in Prefix::"endpoint/B/small")
          unless { context has contentLength && context.contentLength <= 10 };
        @id("no-links") forbid (principal, action in Action::"read", resource in Prefix::"endpoint/B/links") when { context.presigned };
        @id("approved") forbid (principal, action == Action::"s3:PutObject", resource in Prefix::"endpoint/B/approved")
          unless { context has copySource && context.copySource like "endpoint/B/review/*" };
        @id("once") forbid (principal, action == Action::"s3:PutObject", resource in Prefix::"endpoint/B/once")
          unless { context has ifNoneMatch && context.ifNoneMatch == "*" };
        @id("seen") forbid (principal, action == Action::"s3:PutObject", resource in Prefix::"endpoint/B/seen")
          unless { context has ifMatch };
        @id("folded") forbid (principal, action in Action::"list", resource in Prefix::"endpoint/B/folded")
          unless { context has delimiter && context.delimiter == "/" };
        @id("named") forbid (principal, action in Action::"list", resource in Prefix::"endpoint/B/named")
          unless { context has prefix && context.prefix like "named/2026*" };
        @id("tenant") forbid (principal, action, resource in Prefix::"endpoint/B/tenant")
          unless { context.headers.hasTag("x-amz-meta-tenant") && context.headers.getTag("x-amz-meta-tenant").contains("a") };
        @id("newest") forbid (principal, action, resource in Prefix::"endpoint/B/newest") when { context.byVersion };
    "#;
    let lake = Lake::start("context", POLICIES, "").await;
    let direct = lake.direct().step("put_object", lake.object("review/a", json!({ "Body": "x" })));
    let direct = direct.step("put_object", lake.object("links/a", json!({ "Body": "x" })));
    let direct = direct.step("put_object", lake.object("seen/a", json!({ "Body": "x" })));
    let direct = direct.step("put_object", lake.object("newest/a", json!({ "Body": "x" }))).run().await;
    let etag = &direct[2]["ETag"];
    let put = |key: &str, further: Value| {
        ("put_object", {
            let mut arguments = lake.object(key, further);
            if arguments["Body"].is_null() {
                arguments["Body"] = json!("x");
            }
            arguments
        })
    };
    let list = |further: Value| {
        ("list_objects_v2", {
            let mut arguments = further;
            arguments["Bucket"] = json!("context");
            arguments
        })
    };
    let link = ("presigned", json!({ "method": "get_object", "Params": lake.object("links/a", none()) }));
    let kms = |key: &str| json!({ "ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key });
    // The policy, the allowed request, its denied twin.
    let cases = [
        ("encrypted", put("encrypted/a", json!({ "ServerSideEncryption": "aws:kms" })), put("encrypted/a", none())),
        ("encrypted", put("encrypted/b", kms("k")), put("encrypted/b", json!({ "ServerSideEncryption": "AES256" }))),
        (
            "our-key",
            put("key/a", kms("arn:aws:kms:us-east-1:123456789012:key/ours")),
            put("key/a", kms("arn:aws:kms:us-east-1:123456789012:key/other")),
        ),
        (
            "warm",
            put("warm/a", json!({ "StorageClass": "STANDARD" })),
            put("warm/a", json!({ "StorageClass": "GLACIER" })),
        ),
        ("private", put("private/a", json!({ "ACL": "private" })), put("private/a", json!({ "ACL": "public-read" }))),
        ("small", put("small/a", json!({ "Body": "0123456789" })), put("small/a", json!({ "Body": "0123456789-" }))),
        ("no-links", ("get_object", lake.object("links/a", none())), link),
        (
            "approved",
            ("copy_object", lake.object("approved/a", json!({ "CopySource": "context/review/a" }))),
            put("approved/a", none()),
        ),
        (
            "approved",
            put("review/b", none()),
            ("copy_object", lake.object("approved/a", json!({ "CopySource": "context/seen/a" }))),
        ),
        ("once", put("once/a", json!({ "IfNoneMatch": "*" })), put("once/a", none())),
        ("seen", put("seen/a", json!({ "IfMatch": etag })), put("seen/a", none())),
        ("folded", list(json!({ "Prefix": "folded/", "Delimiter": "/" })), list(json!({ "Prefix": "folded/" }))),
        ("named", list(json!({ "Prefix": "named/2026-01" })), list(json!({ "Prefix": "named/2025" }))),
        (
            "tenant",
            put("tenant/a", json!({ "Metadata": { "tenant": "a" } })),
            put("tenant/a", json!({ "Metadata": { "tenant": "b" } })),
        ),
        (
            "newest",
            ("get_object", lake.object("newest/a", none())),
            ("get_object", lake.object("newest/a", json!({ "VersionId": "null" }))),
        ),
    ];
    let mut client = lake.client();
    for (_, allowed, denied) in &cases {
        client = client.step(allowed.0, allowed.1.clone()).step(denied.0, denied.1.clone());
    }
    // The second writer of a key that may be written once is told so by the store.
    let (call, arguments) = put("once/a", json!({ "IfNoneMatch": "*" }));
    let results = client.step(call, arguments).run().await;
    for ((policy, allowed, denied), pair) in cases.iter().zip(results.chunks(2)) {
        assert_eq!(pair[0]["ok"], true, "{policy}: {} {}: {:#}", allowed.0, allowed.1, pair[0]);
        assert_eq!(
            (&pair[1]["ok"], &pair[1]["status"]),
            (&json!(false), &json!(403)),
            "{policy}: {} {}: {:#}",
            denied.0,
            denied.1,
            pair[1]
        );
        let record = lake.record_of(&pair[1]).await;
        assert_eq!((&record["outcome"], policies_of(&record)), (&json!("forbidden"), vec![*policy]), "{record:#}");
    }
    let again = &results[2 * cases.len()];
    assert_eq!((&again["status"], &again["decision"]), (&json!(412), &Value::Null), "{again:#}");
    let record = lake.record("PutObject", "encrypted/b").await;
    assert_eq!((&record["context"]["encryption"], &record["context"]["kmsKeyId"]), (&json!("aws:kms"), &json!("k")));
    lake.pair.stop().await;
}

#[tokio::test]
async fn a_key_is_the_same_for_client_policy_and_store() {
    const POLICIES: &str = r#"
        @id("app-uses-in") permit (principal, action in [Action::"read", Action::"write", Action::"delete"], resource in Prefix::"endpoint/B/in");
    "#;
    let lake = Lake::start("keys", POLICIES, "").await;
    let long = format!("in/{}", "0123456/".repeat(127) + "01234");
    let keys = [
        "in/a b",
        "in/ü/日本/😀",
        "in/a+b",
        "in/100%",
        "in/a%20b",
        "in/a%2Fb",
        "in/a&b=c",
        "in/a?b#c",
        "in/a;b,c",
        "in/(x)!*'",
        "in/folder/",
        "in/a:b@c$d",
        "in/back\\slash",
        "in/~-._",
        "in/\"<>|^`{}",
        &long,
    ];
    let mut client = lake.client();
    for key in keys {
        client = client
            .step("put_object", lake.object(key, json!({ "Body": key })))
            .step("get_object", lake.object(key, none()));
    }
    let results = client.run().await;
    for (key, pair) in keys.iter().zip(results.chunks(2)) {
        assert_eq!((&pair[0]["ok"], &pair[1]["Body"]), (&json!(true), &json!(key)), "{key}: {pair:#?}");
        let object = object_id("keys", key);
        let is_it =
            |record: &Value| record["resource"] == object.as_str() && record["context"]["operation"] == "GetObject";
        assert_eq!(lake.pair.inbound.records.find(key, is_it).await["outcome"], "allowed");
    }
    let mut stored = lake.stored().await;
    let mut expected = keys.to_vec();
    stored.sort();
    expected.sort_unstable();
    assert_eq!(stored, expected);

    // The same keys elsewhere are denied, each by its own name.
    let mut client = lake.client();
    let outside: Vec<String> = keys.iter().map(|key| key.replacen("in/", "ou/", 1)).collect();
    for key in &outside {
        client = client.step("get_object", lake.object(key, none()));
    }
    for (key, result) in outside.iter().zip(client.run().await) {
        let asked = format!("s3:GetObject {}", object_id("keys", key));
        lake.denied(&result, "not_permitted", "", &asked).await;
    }
    // Keys that a store could resolve to another one are not forwarded, by any call that names them.
    let mut client = lake.client();
    let odd = ["in/../ou/a", "in/./a", "in//a", "..", "in/a/.."];
    for key in odd {
        client = client
            .step("get_object", lake.object(key, none()))
            .step("copy_object", lake.object("in/b", json!({ "CopySource": { "Bucket": "keys", "Key": key } })));
        client = client.step(
            "delete_objects",
            json!({ "Bucket": "keys", "Delete": { "Objects": [{ "Key": "in/a b" }, { "Key": key }] } }),
        );
    }
    for (at, result) in client.run().await.iter().enumerate() {
        assert_eq!(
            (&result["status"], text(result, "code")),
            (&json!(400), "InvalidRequest"),
            "{}: {result:#}",
            odd[at / 3]
        );
        let record = lake.pair.outbound.records.of_decision(text(result, "decision")).await;
        let rule = if odd[at / 3] == "in//a" { "empty-segment" } else { "dot-segment" };
        assert_eq!((text(&record, "outcome"), text(&record, "reason")), ("refused", rule), "{record:#}");
    }
    assert_eq!(lake.stored().await.len(), keys.len());
    lake.pair.stop().await;
}

#[tokio::test]
async fn what_egress_denies_never_leaves_the_stage() {
    let (world, upstream) = (World::new(), Recorder::start());
    let service = world.sidecar("service").policies(ALLOW_ALL);
    let service = service.inbound("endpoint", "s3", &upstream.url(), "").start().await;
    let egress = r#"
        @id("reads-leave") permit (principal, action in Action::"read", resource in Endpoint::"endpoint");
        @id("nothing-is-deleted") forbid (principal, action in Action::"delete", resource in Endpoint::"endpoint");
    "#;
    let to = service.inbound("endpoint").to_string();
    let stage = world.sidecar("app").policies(egress);
    let stage = stage.outbound("endpoint", "s3", &to, &world.id("service"), "").start().await;
    let client = S3Client::new(&format!("http://{}", stage.outbound("endpoint")), "k", "s");
    let object = named("raw", "a", none());
    let client = client.step("put_object", named("raw", "a", json!({ "Body": "x" })));
    let client = client.step("delete_object", object.clone());
    let batch = json!({ "Bucket": "raw", "Delete": { "Objects": [{ "Key": "a" }] } });
    let client = client.step("delete_objects", batch).step("head_object", object.clone()).step("get_object", object);
    let results = client.run().await;
    for (at, outcome, policies) in [(0, "not_permitted", &[][..]), (1, "forbidden", &["nothing-is-deleted"])] {
        assert_eq!((text(&results[at], "code"), &results[at]["status"]), ("AccessDenied", &json!(403)), "{results:#?}");
        let record = stage.records.of_decision(text(&results[at], "decision")).await;
        assert_eq!((text(&record, "outcome"), policies_of(&record)), (outcome, policies.to_vec()), "{record:#}");
        assert_eq!(record["direction"], "outbound");
    }
    assert_eq!(results[2]["Errors"][0]["Code"], "AccessDenied", "{results:#?}");
    assert!(results[3]["ok"] == true && results[4]["Body"] == "ok", "{results:#?}");
    let methods: Vec<_> = upstream.complete(2).await.iter().map(|seen| seen.method.clone()).collect();
    assert_eq!(methods, [http::Method::HEAD, http::Method::GET]);
    assert_eq!(service.records.requests(2).await.len(), 2, "what was denied did not reach the other side");
    stage.stop().await;
    service.stop().await;
}

/// Permits what is below `in`, in the bucket `raw`.
#[cfg(feature = "demo")]
const BELOW_IN: &str = r#"
    @id("app-uses-in")
    permit (principal, action in [Action::"read", Action::"write", Action::"list"], resource in Prefix::"endpoint/raw/in");
    @id("cleaner") permit (principal, action in Action::"delete", resource in Prefix::"endpoint/raw/in/old");
"#;

#[cfg(feature = "demo")]
const STORE_KEYS: Keys<'static> = Keys { access: S3Store::ACCESS_KEY, secret: S3Store::SECRET_KEY };

/// A second S3 server, of another make: what passes at one by luck does not at both.
#[cfg(feature = "demo")]
#[tokio::test]
async fn the_aws_cli_works_in_both_styles_and_is_told_what_it_may_not() {
    let world = World::new();
    let store = S3Store::start(&world.folder("store"), &["s3.example"]);
    store.create_bucket("raw");
    let pair = world.pair_with("s3", &store.url(), BELOW_IN, "host_suffixes: [s3.example]\n").await;
    let by_host = format!("http://s3.example:{}", pair.address().port());
    let by_path = format!("http://{}", pair.address());
    let run = async |endpoint: &str, arguments: &[&str]| {
        let all = [&["--endpoint-url", endpoint], arguments].concat();
        aws(S3Store::ACCESS_KEY, S3Store::SECRET_KEY, "s3.example", &all).await
    };
    let content: Vec<u8> = (0..64 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (up, down) = (world.path().join("up"), world.path().join("down"));
    std::fs::write(&up, &content).expect("the temporary folder is writable");
    let (up, down) = (up.display().to_string(), down.display().to_string());

    let output = run(&by_host, &["s3", "cp", "--no-progress", &up, "s3://raw/in/big"]).await;
    assert_eq!(output.code(), 0, "{output:#?}");
    assert!(store.object("raw", "in/big").is_some_and(|stored| stored == content), "the store has other bytes");
    let output = run(&by_path, &["s3", "cp", "--no-progress", "s3://raw/in/big", &down]).await;
    assert_eq!(output.code(), 0, "{output:#?}");
    assert!(std::fs::read(&down).is_ok_and(|read| read == content), "other bytes came back");
    let record = pair.inbound.records.find("a part", |record| record["context"]["operation"] == "UploadPart").await;
    assert_eq!((text(&record, "action"), text(&record["context"], "host")), ("s3:PutObject", "raw.s3.example"));

    let output = run(&by_path, &["s3", "ls", "s3://raw/in/"]).await;
    assert!(output.code() == 0 && output.stdout.contains("67108864 big"), "{output:#?}");
    for arguments in [
        &["s3", "ls", "s3://raw/"][..],
        &["s3", "cp", "--no-progress", &up, "s3://raw/out/big"],
        &["s3", "rm", "s3://raw/in/big"],
    ] {
        let output = run(&by_host, arguments).await;
        assert!(output.code() != 0 && output.stderr.contains("AccessDenied"), "{arguments:?}: {output:#?}");
    }
    let output = run(&by_path, &["s3", "cp", "--no-progress", "s3://raw/in/big", "s3://raw/in/old/a"]).await;
    assert_eq!(output.code(), 0, "{output:#?}");
    let batch = "Objects=[{Key=in/old/a},{Key=in/big}]";
    let output = run(&by_path, &["s3api", "delete-objects", "--bucket", "raw", "--delete", batch]).await;
    let errors = output.json();
    assert_eq!(errors["Errors"][0]["Code"], "OperationAborted", "{output:#?}");
    assert_eq!((&errors["Errors"][1]["Key"], &errors["Errors"][1]["Code"]), (&json!("in/big"), &json!("AccessDenied")));
    let output = run(&by_path, &["s3", "rm", "s3://raw/in/old/a"]).await;
    assert!(output.code() == 0 && store.object("raw", "in/old/a").is_none(), "{output:#?}");

    // What the CLI signs, curl may bring, through the same sidecar.
    let output = run(&by_path, &["s3", "presign", "s3://raw/in/big"]).await;
    let fetched = world.path().join("fetched").display().to_string();
    let output = curl(&["--fail", "--output", &fetched, output.stdout.trim()]).await;
    assert!(output.code() == 0 && std::fs::read(&fetched).is_ok_and(|read| read == content), "{output:?}");
    let output = run(&by_path, &["s3", "presign", "s3://raw/out/big"]).await;
    let output = curl(&[output.stdout.trim()]).await;
    assert!(output.stdout.contains("<Code>AccessDenied</Code>"), "{output:?}");
    assert!(store.object("raw", "out/big").is_none() && store.object("raw", "in/big").is_some());
    pair.stop().await;
}

#[cfg(feature = "demo")]
#[tokio::test]
async fn bodies_in_signed_chunks_and_with_trailing_checksums_arrive_byte_for_byte() {
    let world = World::new();
    let store = S3Store::start(&world.folder("store"), &[]);
    store.create_bucket("raw");
    let pair = world.pair("s3", &store.url(), BELOW_IN).await;
    let content: Vec<u8> = (0..1_000_003_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let address = pair.address();
    let ask = |line: &str| S3Request::new(&address.to_string(), line);
    let send = async |request: S3Request| Client::plain(address).await.send(request.into_request()).await;

    // Each chunk with a signature of its own.
    const CHUNK: usize = 64 * 1024;
    let signed_chunks = |key: &str| {
        let request = ask(&format!("PUT /raw/{key}")).header("content-encoding", "aws-chunked");
        let request = request.header("x-amz-decoded-content-length", &content.len().to_string());
        let length = signed_chunks_length(content.len(), CHUNK).to_string();
        let request = request.header("content-length", &length);
        let (request, chunks) = request.signed_with_seed(STORE_KEYS, Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD"));
        request.body(chunks.body(&content, CHUNK))
    };
    let answer = send(signed_chunks("in/signed")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(store.object("raw", "in/signed").is_some_and(|stored| stored == content), "the store has other bytes");
    let record = pair.inbound.records.requests(1).await;
    assert_eq!(record[0]["context"]["contentLength"], content.len(), "{record:#?}");
    assert_eq!(record[0]["bytes_in"], signed_chunks_length(content.len(), CHUNK), "{record:#?}");

    // One changed byte: the store notices, since it got what was signed.
    let mut damaged = signed_chunks("in/damaged");
    damaged.body[100_000] ^= 1;
    let answer = send(damaged).await;
    assert!(!answer.status.is_success() && answer.header("x-portcullis-decision").is_empty(), "{answer:?}");
    assert!(store.object("raw", "in/damaged").is_none());

    // Unsigned chunks with a checksum behind them.
    let trailing = |key: &str| {
        let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&content);
        let crc = base64::engine::general_purpose::STANDARD.encode(crc.to_be_bytes());
        let mut body = Vec::new();
        for chunk in content.chunks(300_000) {
            body.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(format!("0\r\nx-amz-checksum-crc32:{crc}\r\n\r\n").as_bytes());
        let request = ask(&format!("PUT /raw/{key}")).header("content-encoding", "aws-chunked");
        let request = request.header("x-amz-decoded-content-length", &content.len().to_string());
        let request = request.header("x-amz-trailer", "x-amz-checksum-crc32").body(body);
        request.signed(STORE_KEYS, Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER"))
    };
    let answer = send(trailing("in/trailing")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(store.object("raw", "in/trailing").is_some_and(|stored| stored == content), "the store has other bytes");

    // Denied, and nothing of it written.
    for request in [signed_chunks("out/signed"), trailing("out/trailing")] {
        let answer = send(request).await;
        assert!(answer.status == 403 && answer.text().contains("<Code>AccessDenied</Code>"), "{answer:?}");
        let record = pair.inbound.records.of_decision(answer.decision()).await;
        assert_eq!((text(&record, "outcome"), text(&record, "action")), ("not_permitted", "s3:PutObject"));
    }
    assert!(store.object("raw", "out/signed").is_none() && store.object("raw", "out/trailing").is_none());
    pair.stop().await;

    // On the wire it is the same body, framing of S3's chunks included.
    let upstream = Recorder::start();
    let pair = world.pair("s3", &upstream.url(), BELOW_IN).await;
    let sent = trailing("in/trailing");
    let mut client = Client::plain(pair.address()).await;
    assert_eq!(client.send(sent.clone().into_request()).await.status, 200);
    let seen = upstream.complete(1).await;
    assert!(seen[0].body == sent.body, "the body changed on its way");
    assert_eq!((&*seen[0].target, seen[0].header("host")), (&*sent.target, &*sent.host));
    for (name, value) in &sent.headers {
        assert_eq!(seen[0].header(name), value, "{name}");
    }
    pair.stop().await;
}
