//! Requests and what they ask: the cases of the whole walk.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue, Request};
use proptest::prelude::*;

use crate::config::{Limits, S3Config};
use crate::mapping::head::{HeadRules, judge};
use crate::mapping::s3::actions::ACTIONS;
use crate::mapping::s3::table::{TABLE, key_of};
use crate::mapping::s3::{Asked, S3Call, fuzz, map};
use crate::mapping::{Context, Operations, Refusal, TagsRead, Value};

fn config() -> S3Config {
    S3Config { host_suffixes: vec!["s3.example".to_owned()], ..S3Config::default() }
}

fn call(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<S3Call, Refusal> {
    let mut request = Request::builder().method(method).uri(target);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:9000");
    }
    for (name, value) in headers {
        request = request.header(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    let head = judge(&parts, &HeadRules::s3(&Limits::default()))?;
    map(&head, "lake", &config(), &TagsRead::Only(HashSet::new()))
}

fn operations(method: &str, target: &str, headers: &[(&str, &str)]) -> Operations {
    match call(method, target, headers).unwrap_or_else(|refusal| panic!("{method} {target}: {refusal}")).asked {
        Asked::Operations(operations) => operations,
        Asked::RestoreObject(restore) => restore.judge(b"").unwrap(),
        Asked::DeleteObjects(_) => panic!("the body says what is asked"),
    }
}

fn asks(method: &str, target: &str, headers: &[(&str, &str)]) -> Vec<String> {
    operations(method, target, headers)
        .iter()
        .map(|operation| format!("{} {}", operation.action.as_str().trim_start_matches("s3:"), operation.resource))
        .collect()
}

fn context(method: &str, target: &str, headers: &[(&str, &str)]) -> Context {
    operations(method, target, headers).first().context.clone()
}

fn rule(method: &str, target: &str, headers: &[(&str, &str)]) -> &'static str {
    call(method, target, headers).map_or_else(|refusal| refusal.rule, |call| call.operation)
}

#[test]
fn the_actions_per_call_are_those_of_the_reference() {
    let object = "Object::\"lake/raw/in/a\"";
    for (method, query, expected) in [
        ("GET", "", "GetObject"),
        ("GET", "?versionId=v", "GetObjectVersion"),
        ("GET", "?partNumber=1&response-content-type=text%2Fplain", "GetObject"),
        ("HEAD", "", "GetObject"),
        ("HEAD", "?versionId=v", "GetObjectVersion"),
        ("PUT", "", "PutObject"),
        ("PUT", "?x-id=PutObject", "PutObject"),
        ("PUT", "?x-id=GetObject", "PutObject"),
        ("DELETE", "", "DeleteObject"),
        ("DELETE", "?versionId=null", "DeleteObjectVersion"),
        ("POST", "?uploads", "PutObject"),
        ("POST", "?uploads=", "PutObject"),
        ("PUT", "?partNumber=1&uploadId=u", "PutObject"),
        ("POST", "?uploadId=u", "PutObject"),
        ("DELETE", "?uploadId=u", "AbortMultipartUpload"),
        ("GET", "?uploadId=u&max-parts=1", "ListMultipartUploadParts"),
        ("GET", "?acl", "GetObjectAcl"),
        ("GET", "?acl&versionId=v", "GetObjectVersionAcl"),
        ("PUT", "?acl", "PutObjectAcl"),
        ("PUT", "?versionId=v&acl", "PutObjectVersionAcl"),
        ("GET", "?tagging", "GetObjectTagging"),
        ("PUT", "?tagging", "PutObjectTagging"),
        ("DELETE", "?tagging&versionId=v", "DeleteObjectVersionTagging"),
        ("GET", "?retention", "GetObjectRetention"),
        ("PUT", "?legal-hold", "PutObjectLegalHold"),
        ("POST", "?select&select-type=2", "GetObject"),
        ("POST", "?restore", "RestoreObject"),
    ] {
        assert_eq!(
            asks(method, &format!("/raw/in/a{query}"), &[]),
            [format!("{expected} {object}")],
            "{method} {query}"
        );
    }
    assert_eq!(
        asks("GET", "/raw/in/a?attributes", &[]),
        [format!("GetObject {object}"), format!("GetObjectAttributes {object}")]
    );
    assert_eq!(
        asks("GET", "/raw/in/a?attributes&versionId=v", &[]),
        [format!("GetObjectVersion {object}"), format!("GetObjectVersionAttributes {object}")]
    );
    assert_eq!(asks("GET", "/", &[]), ["ListAllMyBuckets Endpoint::\"lake\""]);
    for (method, query, expected) in [
        ("HEAD", "", "ListBucket"),
        ("PUT", "", "CreateBucket"),
        ("DELETE", "", "DeleteBucket"),
        ("GET", "?location", "GetBucketLocation"),
        ("GET", "?policy", "GetBucketPolicy"),
        ("PUT", "?versioning", "PutBucketVersioning"),
        ("DELETE", "?cors", "PutBucketCORS"),
        ("DELETE", "?lifecycle", "PutLifecycleConfiguration"),
        ("GET", "?inventory&id=x", "GetInventoryConfiguration"),
        ("GET", "?inventory", "GetInventoryConfiguration"),
    ] {
        assert_eq!(
            asks(method, &format!("/raw{query}"), &[]),
            [format!("{expected} Bucket::\"lake/raw\"")],
            "{method} {query}"
        );
    }
}

#[test]
fn both_addressing_styles_ask_the_same() {
    let path_style = asks("GET", "/raw/in/a?tagging", &[]);
    assert_eq!(path_style, asks("GET", "/in/a?tagging", &[("host", "raw.s3.example")]));
    assert_eq!(asks("GET", "/raw?list-type=2", &[]), asks("GET", "/?list-type=2", &[("host", "raw.s3.example:443")]));
    assert_eq!(rule("GET", "/in/a", &[("host", "raw.other.example")]), "unknown-host");
}

#[test]
fn a_listing_is_asked_of_the_whole_segments_of_its_prefix() {
    for (query, resource) in [
        ("?list-type=2&prefix=ingest%2F2026", "Prefix::\"lake/raw/ingest\""),
        ("?list-type=2&prefix=ingest/", "Prefix::\"lake/raw/ingest\""),
        ("?prefix=ingest/2026/1", "Prefix::\"lake/raw/ingest/2026\""),
        ("?list-type=2&prefix=ingest", "Bucket::\"lake/raw\""),
        ("?list-type=2&prefix=&delimiter=/", "Bucket::\"lake/raw\""),
        ("", "Bucket::\"lake/raw\""),
        ("?max-keys=1&marker=x&encoding-type=url", "Bucket::\"lake/raw\""),
    ] {
        assert_eq!(asks("GET", &format!("/raw{query}"), &[]), [format!("ListBucket {resource}")], "{query}");
    }
    assert_eq!(asks("GET", "/raw?versions&prefix=a/b", &[]), ["ListBucketVersions Prefix::\"lake/raw/a\""]);
    assert_eq!(asks("GET", "/raw?uploads&prefix=a/b", &[]), ["ListBucketMultipartUploads Prefix::\"lake/raw/a\""]);
    let context = context("GET", "/raw?list-type=2&prefix=ingest%2F2026&delimiter=%2F", &[]);
    assert_eq!(context.get("prefix"), Some(&"ingest/2026".into()));
    assert_eq!(context.get("delimiter"), Some(&"/".into()));
    for (query, expected) in [
        ("prefix=a/../b/", "dot-segment"),
        ("prefix=..", "dot-segment"),
        ("prefix=a//b", "empty-segment"),
        ("prefix=/a", "empty-segment"),
        ("prefix=%00", "encoded-nul"),
    ] {
        assert_eq!(rule("GET", &format!("/raw?{query}"), &[]), expected, "{query}");
    }
}

#[test]
fn a_copy_reads_its_source_and_writes_its_target() {
    let (source, target) = ("Object::\"lake/raw/in/a b\"", "Object::\"lake/curated/out\"");
    let copy = ("x-amz-copy-source", "/raw/in/a%20b");
    assert_eq!(asks("PUT", "/curated/out", &[copy]), [format!("PutObject {target}"), format!("GetObject {source}")]);
    assert_eq!(
        asks("PUT", "/curated/out?partNumber=1&uploadId=u", &[("x-amz-copy-source", "raw/in/a%20b?versionId=v")]),
        [format!("PutObject {target}"), format!("GetObjectVersion {source}")]
    );
    assert_eq!(
        asks("PUT", "/curated/out", &[copy, ("x-amz-tagging-directive", "COPY")]),
        [
            format!("PutObject {target}"),
            format!("PutObjectTagging {target}"),
            format!("GetObject {source}"),
            format!("GetObjectTagging {source}")
        ]
    );
    assert_eq!(
        asks("PUT", "/curated/out", &[copy, ("x-amz-tagging-directive", "REPLACE"), ("x-amz-tagging", "a=b")]),
        [format!("PutObject {target}"), format!("PutObjectTagging {target}"), format!("GetObject {source}")]
    );
    assert_eq!(
        asks("PUT", "/curated/out?renameObject", &[("x-amz-rename-source", "raw/in/a%20b")]),
        [format!("PutObject {target}"), format!("GetObject {source}"), format!("DeleteObject {source}")]
    );
    let operations = operations("PUT", "/curated/out", &[copy, ("x-amz-acl", "private"), ("content-length", "0")]);
    let contexts: Vec<_> = operations.iter().map(|operation| &operation.context).collect();
    assert!(contexts.iter().all(|context| context.get("copySource") == Some(&"lake/raw/in/a b".into())));
    assert_eq!(contexts[0].get("operation"), Some(&"CopyObject".into()));
    assert_eq!(contexts[2].get("acl"), None, "what is said of the target is not said of the source");
    for (method, target, header) in [
        ("GET", "/raw/k", "x-amz-copy-source"),
        ("POST", "/raw/k?uploads", "x-amz-copy-source"),
        ("PUT", "/raw/k?tagging", "x-amz-copy-source"),
        ("PUT", "/raw", "x-amz-copy-source"),
        ("PUT", "/raw/k", "x-amz-rename-source"),
    ] {
        assert_eq!(rule(method, target, &[(header, "raw/other")]), "no-operation", "{method} {target}");
    }
    assert_eq!(rule("PUT", "/raw/k?renameObject", &[]), "no-operation");
    assert_eq!(rule("PUT", "/raw/k?renameObject", &[("x-amz-rename-source", "raw/a?versionId=v")]), "copy-source");
    assert_eq!(rule("PUT", "/raw/k", &[("x-amz-copy-source", "raw/../secret/k")]), "dot-segment");
}

#[test]
fn headers_that_set_acls_tags_and_locks_need_those_permissions_too() {
    for (header, value, action) in [
        ("x-amz-acl", "public-read", "PutObjectAcl"),
        ("x-amz-grant-read", "id=1", "PutObjectAcl"),
        ("x-amz-grant-full-control", "id=1", "PutObjectAcl"),
        ("x-amz-tagging", "a=b", "PutObjectTagging"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "PutObjectRetention"),
        ("x-amz-object-lock-retain-until-date", "2027-01-01T00:00:00Z", "PutObjectRetention"),
        ("x-amz-object-lock-legal-hold", "ON", "PutObjectLegalHold"),
    ] {
        for (method, query) in [("PUT", ""), ("POST", "?uploads")] {
            let asked = asks(method, &format!("/raw/k{query}"), &[(header, value)]);
            assert_eq!(
                asked,
                ["PutObject Object::\"lake/raw/k\"".to_owned(), format!("{action} Object::\"lake/raw/k\"")],
                "{header}"
            );
        }
    }
    let bypass = [("x-amz-bypass-governance-retention", "true")];
    assert_eq!(
        asks("DELETE", "/raw/k", &bypass),
        ["DeleteObject Object::\"lake/raw/k\"", "BypassGovernanceRetention Object::\"lake/raw/k\""]
    );
    assert_eq!(
        asks("PUT", "/raw/k?retention", &bypass),
        ["PutObjectRetention Object::\"lake/raw/k\"", "BypassGovernanceRetention Object::\"lake/raw/k\""]
    );
    assert_eq!(
        asks("PUT", "/raw/k?acl", &[("x-amz-acl", "private")]),
        ["PutObjectAcl Object::\"lake/raw/k\""],
        "once is enough"
    );
    let bucket = [
        ("x-amz-acl", "private"),
        ("x-amz-bucket-object-lock-enabled", "true"),
        ("x-amz-object-ownership", "ObjectWriter"),
    ];
    let asked = asks("PUT", "/raw", &bucket)
        .into_iter()
        .map(|ask| ask.split(' ').next().unwrap().to_owned())
        .collect::<Vec<_>>();
    assert_eq!(
        asked,
        [
            "CreateBucket",
            "PutBucketAcl",
            "PutBucketObjectLockConfiguration",
            "PutBucketVersioning",
            "PutBucketOwnershipControls"
        ]
    );
}

const PRESIGNED: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=k&X-Amz-Date=20261121T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=0";

#[test]
fn a_header_hoisted_into_a_presigned_query_is_judged_as_that_header() {
    let context = context(
        "PUT",
        &format!("/raw/k?{PRESIGNED}&x-amz-server-side-encryption=aws%3Akms&X-Amz-Storage-Class=GLACIER"),
        &[],
    );
    assert_eq!(context.get("encryption"), Some(&"aws:kms".into()));
    assert_eq!(context.get("storageClass"), Some(&"GLACIER".into()));
    assert_eq!(context.get("presigned"), Some(&Value::Bool(true)));
    assert_eq!(asks("PUT", &format!("/raw/k?{PRESIGNED}&X-Amz-Acl=public-read"), &[]).len(), 2);
    assert_eq!(
        asks("PUT", &format!("/raw/k?{PRESIGNED}&X-Amz-Copy-Source=other%2Fsecret"), &[]),
        ["PutObject Object::\"lake/raw/k\"", "GetObject Object::\"lake/other/secret\""]
    );
    assert_eq!(
        rule("PUT", &format!("/raw/k?{PRESIGNED}&X-Amz-Acl=private"), &[("x-amz-acl", "private")]),
        "repeated-header"
    );
    assert_eq!(rule("PUT", &format!("/raw/k?{PRESIGNED}&X-Amz-Unheard-Of=1"), &[]), "unknown-header");
    assert_eq!(rule("PUT", "/raw/k?X-Amz-Acl=private", &[]), "unsigned-hoisted-header");
}

#[test]
fn the_context_says_what_a_policy_may_want_to_know() {
    let context = context(
        "PUT",
        "/raw/k",
        &[
            ("content-length", "42"),
            ("x-amz-server-side-encryption", "aws:kms"),
            ("x-amz-server-side-encryption-aws-kms-key-id", "key"),
            ("x-amz-storage-class", "STANDARD_IA"),
            ("x-amz-acl", "private"),
            ("if-none-match", "*"),
        ],
    );
    for (name, value) in [
        ("host", Value::from("localhost")),
        ("operation", "PutObject".into()),
        ("encryption", "aws:kms".into()),
        ("kmsKeyId", "key".into()),
        ("contentLength", 42.into()),
        ("storageClass", "STANDARD_IA".into()),
        ("acl", "private".into()),
        ("byVersion", false.into()),
        ("presigned", false.into()),
        ("ifNoneMatch", "*".into()),
    ] {
        assert_eq!(context.get(name), Some(&value), "{name}");
    }
    assert!(["ifMatch", "copySource", "prefix", "delimiter"].iter().all(|name| context.get(name).is_none()));
}

#[test]
fn the_length_of_a_chunked_body_is_that_of_its_content() {
    let length = |headers: &[(&str, &str)]| {
        call("PUT", "/raw/k", headers)
            .map(|call| match call.asked {
                Asked::Operations(operations) => operations.first().context.get("contentLength").cloned(),
                _ => None,
            })
            .map_err(|refusal| refusal.rule)
    };
    let chunked = ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD");
    assert_eq!(
        length(&[chunked, ("content-length", "150"), ("x-amz-decoded-content-length", "42")]),
        Ok(Some(Value::Long(42)))
    );
    // Not signed as a stream: a store may keep it as it is sent.
    let only_said = [("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", "42")];
    assert_eq!(length(&only_said), Ok(None));
    assert_eq!(length(&[only_said[0], only_said[1], ("content-length", "150")]), Ok(Some(Value::Long(150))));
    assert_eq!(
        length(&[("content-length", "150"), ("x-amz-decoded-content-length", "42")]),
        Ok(Some(Value::Long(150)))
    );
    assert_eq!(
        length(&[chunked, ("content-length", "10"), ("x-amz-decoded-content-length", "42")]),
        Err("decoded-length")
    );
    assert_eq!(length(&[chunked, ("x-amz-decoded-content-length", "+42")]), Err("decoded-length"));
}

#[test]
fn what_cannot_be_named_is_refused() {
    for (method, target, expected) in [
        ("PATCH", "/raw/k", "unknown-method"),
        ("OPTIONS", "/raw/k", "unknown-method"),
        ("get", "/raw/k", "unknown-method"),
        ("OPTIONS", "*", "asterisk-form"),
        ("GET", "/raw/k?frobnicate", "unknown-query-key"),
        ("GET", "/raw/k?ACL", "unknown-query-key"),
        ("GET", "/raw/k?versionid=v", "unknown-query-key"),
        ("GET", "/raw/k?acl&tagging", "no-operation"),
        ("GET", "/raw/k?acl=x", "no-operation"),
        ("GET", "/raw/k?acl&acl", "repeated-query-key"),
        ("GET", "/raw/k?%61cl", "query-key"),
        ("GET", "/raw/k?acl;versionId=v", "query-separator"),
        ("GET", "/raw/k?versionId=", "version-id"),
        ("GET", "/raw/k?policy", "no-operation"),
        ("HEAD", "/raw/k?acl", "no-operation"),
        ("HEAD", "/", "no-operation"),
        ("PUT", "/", "no-operation"),
        ("PUT", "/raw/k?versionId=v", "no-operation"),
        ("PUT", "/raw/k?uploadId=u", "no-operation"),
        ("PUT", "/raw/k?partNumber=1", "no-operation"),
        ("PUT", "/raw/k?partNumber=1&uploadId=", "no-operation"),
        ("PUT", "/raw/k?append&position=0", "unknown-query-key"),
        ("POST", "/raw/k", "no-operation"),
        ("POST", "/raw/k?select", "no-operation"),
        ("POST", "/raw/k?select&select-type=1", "no-operation"),
        ("POST", "/raw", "no-operation"),
        ("GET", "/raw?list-type=1", "no-operation"),
        ("GET", "/raw?list-type=2&marker=x", "no-operation"),
        ("GET", "/raw?prefix=a&versions&uploads", "no-operation"),
        ("POST", "/WriteGetObjectResponse", "bucket-name"),
    ] {
        assert_eq!(rule(method, target, &[]), expected, "{method} {target}");
    }
    for target in ["/raw", "/raw/", "/raw/k", "/raw?delete", "/raw/k?uploads", "/raw/k?uploadId=u"] {
        assert_eq!(
            rule("POST", target, &[("content-type", "Multipart/Form-Data; boundary=x")]),
            "post-form",
            "{target}"
        );
    }
    assert_eq!(rule("PUT", "/raw/k", &[("content-type", "multipart/form-data; boundary=x")]), "PutObject");
    assert_eq!(rule("GET", "/raw/k", &[("upgrade", "websocket"), ("connection", "upgrade")]), "upgrade");
    assert_eq!(rule("POST", "/raw?delete", &[("content-encoding", "gzip")]), "encoded-body");
    assert_eq!(
        rule("POST", "/raw?delete", &[("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")]),
        "encoded-body"
    );
    assert_eq!(rule("POST", "/raw/k?restore", &[("content-encoding", "aws-chunked")]), "encoded-body");
}

#[test]
fn deleting_objects_waits_for_the_body() {
    let S3Call { operation, asked: Asked::DeleteObjects(asked), .. } =
        call("POST", "/raw?delete", &[("content-length", "9")]).unwrap()
    else {
        panic!("DeleteObjects")
    };
    assert_eq!(operation, "DeleteObjects");
    let request = asked
        .parse(b"<Delete><Object><Key>a</Key></Object><Object><Key>b</Key><VersionId>v</VersionId></Object></Delete>")
        .unwrap();
    let by_version: Vec<_> =
        request.operations().iter().map(|operation| operation.context.get("byVersion").cloned()).collect();
    assert_eq!(by_version, [Some(Value::Bool(false)), Some(Value::Bool(true))]);
    assert_eq!(request.operations().first().context.get("operation"), Some(&"DeleteObjects".into()));
}

#[test]
fn every_action_that_is_asked_is_published_once_and_every_published_one_can_be_asked() {
    let published: HashSet<&str> = ACTIONS.iter().map(|(action, ..)| *action).collect();
    assert_eq!(published.len(), ACTIONS.len());
    assert!(ACTIONS.is_sorted_by_key(|(action, ..)| *action));
    let by_row = TABLE.iter().flat_map(|row| row.asks).flat_map(|(plain, versioned)| [*plain, *versioned]);
    let by_header = ["s3:BypassGovernanceRetention"];
    let asked: HashSet<&str> = by_row.chain(by_header).collect();
    assert_eq!(asked, published);
}

/// The target of a row: its query keys with values.
fn target_of(row: &crate::mapping::s3::table::Row, further: &[&str]) -> String {
    let path = match row.level {
        crate::mapping::s3::table::Level::Service => "/",
        crate::mapping::s3::table::Level::Bucket => "/raw",
        crate::mapping::s3::table::Level::Object => "/raw/k",
    };
    let keys: Vec<_> = row
        .query
        .iter()
        .map(|wanted| wanted.replace("=*", "=x"))
        .chain(further.iter().map(|key| format!("{key}=x")))
        .collect();
    if keys.is_empty() { path.to_owned() } else { format!("{path}?{}", keys.join("&")) }
}

fn headers_of(row: &crate::mapping::s3::table::Row) -> &'static [(&'static str, &'static str)] {
    match row.source {
        crate::mapping::s3::table::Source::No => &[],
        crate::mapping::s3::table::Source::Copied => &[("x-amz-copy-source", "raw/source")],
        crate::mapping::s3::table::Source::Renamed => &[("x-amz-rename-source", "raw/source")],
    }
}

#[test]
fn every_row_is_reached_by_its_own_request_with_and_without_its_further_keys() {
    for row in TABLE {
        let method = format!("{:?}", row.verb).to_uppercase();
        for further in [&[][..], row.further] {
            let target = target_of(row, further);
            let call = call(&method, &target, headers_of(row))
                .unwrap_or_else(|refusal| panic!("{method} {target}: {refusal}"));
            assert_eq!(call.operation, row.operation, "{method} {target}");
        }
    }
}

proptest! {
    #[test]
    fn at_most_one_row_fits_a_request(
        method in prop_oneof!["GET", "HEAD", "PUT", "POST", "DELETE"],
        path in prop_oneof!["/", "/raw", "/raw/k"],
        rows in proptest::collection::vec(0..TABLE.len(), 0..3),
        copies in any::<bool>(),
    ) {
        let mut seen = HashSet::new();
        let query: Vec<_> = rows.iter().flat_map(|row| TABLE[*row].query.iter().chain(TABLE[*row].further.iter().take(2)))
            .filter(|wanted| seen.insert(key_of(wanted)))
            .map(|wanted| wanted.replace("=*", "=x")).collect();
        let parsed = crate::mapping::s3::query::Query::parse(Some(&query.join("&"))).map(|query| query.parameters.len());
        prop_assert_eq!(parsed, Ok(query.len()));
        let text = query.join("&");
        let parsed = crate::mapping::s3::query::Query::parse(Some(&text)).unwrap();
        let level = match path.as_str() { "/" => crate::mapping::s3::table::Level::Service, "/raw" => crate::mapping::s3::table::Level::Bucket, _ => crate::mapping::s3::table::Level::Object };
        let verb = crate::mapping::s3::table::Verb::of(&method.parse().unwrap()).unwrap();
        let source = if copies { crate::mapping::s3::table::Source::Copied } else { crate::mapping::s3::table::Source::No };
        prop_assert!(TABLE.iter().filter(|row| row.fits(verb, level, source, &parsed)).count() <= 1);
    }

    #[test]
    fn every_key_that_a_listing_can_name_is_inside_what_was_asked(prefix in "[a-c/.]{0,6}", rest in "[a-c/.]{1,6}") {
        let key = format!("{prefix}{rest}");
        if let Ok(S3Call { asked: Asked::Operations(asked), .. }) = call("GET", &format!("/raw?list-type=2&prefix={prefix}"), &[]) {
            let listed = &asked.first().resource;
            let object = crate::mapping::Resource::object("lake", "raw", &key);
            prop_assert!(object.ancestors().any(|ancestor| ancestor == (listed.kind(), listed.id())), "{} {}", listed, object);
        }
    }

    #[test]
    fn equal_requests_in_either_style_ask_equally(key in "([a-z/.+]|%[0-9a-f]{2}){0,12}", query in "(acl|tagging|versionId=v|uploads|&){0,3}") {
        let resources = |call: Result<S3Call, Refusal>| call.map(|call| match call.asked {
            Asked::Operations(asked) => asked.iter().map(|one| (one.action.clone(), one.resource.clone())).collect(),
            _ => Vec::new(),
        }).map_err(|refusal| refusal.rule);
        let path_style = resources(call("GET", &format!("/raw/{key}?{query}"), &[]));
        let virtual_host = resources(call("GET", &format!("/{key}?{query}"), &[("host", "raw.s3.example")]));
        prop_assert_eq!(path_style, virtual_host);
    }

    #[test]
    fn the_judged_prefix_is_what_a_store_decodes(prefix in "([a-z/.+]|%[0-9a-f]{2}|%C3%A9){0,8}") {
        if let Ok(S3Call { asked: Asked::Operations(asked), .. }) = call("GET", &format!("/raw?prefix={prefix}"), &[]) {
            let mut decoded = Vec::new();
            let mut bytes = prefix.bytes();
            while let Some(byte) = bytes.next() {
                let mut digit = || char::from(bytes.next().unwrap()).to_digit(16).unwrap() as u8;
                decoded.push(match byte { b'%' => digit() * 16 + digit(), b'+' => b' ', other => other });
            }
            prop_assert_eq!(asked.first().context.get("prefix"), Some(&String::from_utf8(decoded).unwrap().as_str().into()));
        }
    }

    #[test]
    fn no_request_makes_it_panic(
        method in "[A-Z]{3,6}|GET|PUT|POST|DELETE",
        target in "/[a-z/.%0-9+;]{0,12}(\\?[a-zA-Z=&%;-]{0,16})?|/raw/k\\?(acl|tagging|delete|uploads|uploadId=u|partNumber=1|&){0,4}",
        header in "(x-amz-(acl|copy-source|tagging|meta-a|x)|authorization|content-length):[a-z0-9/%?=]{0,8}",
    ) {
        fuzz(format!("{method}\n{target}\n{header}").as_bytes());
    }
}
