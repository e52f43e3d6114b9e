//! What Amazon's own client sends for each operation of the S3 API is called by that operation's name.
//!
//! `record_botocore.py` writes the list: every operation with the parameters it must have, with all that go in the query, and with all that
//! go in headers; and presigned URLs of both signature versions.

use std::collections::HashSet;

use http::{HeaderName, HeaderValue, Request};

use crate::config::{Limits, S3Config};
use crate::mapping::TagsRead;
use crate::mapping::head::{HeadRules, judge};
use crate::mapping::s3::map;
use crate::mapping::s3::table::TABLE;

/// Older names of the same requests.
fn name_of(operation: &str) -> &str {
    match operation {
        "GetBucketLifecycle" => "GetBucketLifecycleConfiguration",
        "PutBucketLifecycle" => "PutBucketLifecycleConfiguration",
        "GetBucketNotification" => "GetBucketNotificationConfiguration",
        "PutBucketNotification" => "PutBucketNotificationConfiguration",
        other => other,
    }
}

#[test]
fn every_request_of_botocore_is_called_by_its_name() {
    let mut called = HashSet::new();
    for line in include_str!("botocore.tsv").lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split('\t');
        let (operation, method, target) = (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap());
        let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
        for (name, value) in fields.map(|field| field.split_once(": ").unwrap()) {
            request = request.header(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let head = judge(&parts, &HeadRules::s3(&Limits::default())).unwrap();
        let call = map(&head, "lake", &S3Config::default(), &TagsRead::Only(HashSet::new()));
        let call = call.unwrap_or_else(|refusal| panic!("{line}: {}: {refusal}", refusal.rule));
        assert_eq!(call.operation, name_of(operation), "{line}");
        called.insert(call.operation);
    }
    let never: Vec<_> = TABLE.iter().map(|row| row.operation).filter(|operation| !called.contains(operation)).collect();
    assert_eq!(never, ["ListDirectoryBuckets"], "it differs from ListBuckets by its host only");
}
