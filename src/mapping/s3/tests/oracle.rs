//! A second opinion on operation names: the router of `s3s`, generated from Amazon's own Smithy model.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use http::{HeaderName, HeaderValue, Request};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::path::S3Path;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3, S3Result, s3_error};

use crate::config::{Limits, S3Config};
use crate::mapping::TagsRead;
use crate::mapping::head::{HeadRules, judge};
use crate::mapping::s3::table::{Source, TABLE};
use crate::mapping::s3::{S3Address, map};

struct Store;

impl S3 for Store {}

/// What the router said last, bucket and key included.
#[derive(Clone, Default)]
struct Router(Arc<Mutex<Option<(String, S3Address)>>>);

impl S3Access for Router {
    fn check<'a, 'b, 'c, 'd>(
        &'a self,
        context: &'b mut S3AccessContext<'c>,
    ) -> Pin<Box<dyn Future<Output = S3Result<()>> + Send + 'd>>
    where
        'a: 'd,
        'b: 'd,
        'c: 'd,
        Self: 'd,
    {
        let address = match context.s3_path() {
            S3Path::Root => S3Address::Root,
            S3Path::Bucket { bucket } => S3Address::Bucket { bucket: bucket.clone() },
            S3Path::Object { bucket, key } => S3Address::Object { bucket: bucket.clone(), key: key.clone() },
        };
        *self.0.lock().unwrap() = Some((context.s3_op().name().to_owned(), address));
        Box::pin(async { Err(s3_error!(AccessDenied)) })
    }
}

struct Oracle {
    router: Router,
    service: S3Service,
    runtime: tokio::runtime::Runtime,
}

impl Oracle {
    fn new() -> Self {
        let router = Router::default();
        let mut builder = S3ServiceBuilder::new(Store);
        builder.set_auth(SimpleAuth::from_single("key", "secret"));
        builder.set_access(router.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { router, service: builder.build(), runtime }
    }

    fn names(&self, method: &str, target: &str, headers: &[(String, String)]) -> Option<(String, S3Address)> {
        *self.router.0.lock().unwrap() = None;
        let request = request(method, target, headers).map(|()| Body::empty());
        self.runtime.block_on(self.service.call(request)).ok()?;
        self.router.0.lock().unwrap().take()
    }
}

fn request(method: &str, target: &str, headers: &[(String, String)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(target).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap());
    }
    request.body(()).unwrap()
}

fn ours(method: &str, target: &str, headers: &[(String, String)]) -> Result<(String, S3Address), &'static str> {
    let (parts, ()) = request(method, target, headers).into_parts();
    let config = S3Config { unsafe_allow_dot_segments: true, ..S3Config::default() };
    let head = judge(&parts, &HeadRules::s3(&Limits::default())).map_err(|refusal| refusal.rule)?;
    let call = map(&head, "lake", &config, &TagsRead::Only(HashSet::new())).map_err(|refusal| refusal.rule)?;
    Ok((call.operation.to_owned(), call.address))
}

/// Operations that this version of `s3s` does not know: it takes them for the one without their query key.
const UNKNOWN_TO_S3S: &[(&str, &str)] = &[
    // Added to the API after its model was taken.
    ("CreateBucketMetadataConfiguration", "nothing"),
    ("DeleteBucketMetadataConfiguration", "DeleteBucket"),
    ("DeleteObjectAnnotation", "DeleteObject"),
    ("GetBucketAbac", "ListObjects"),
    ("GetBucketMetadataConfiguration", "ListObjects"),
    ("GetObjectAnnotation", "GetObject"),
    ("ListObjectAnnotations", "GetObject"),
    ("PutBucketAbac", "CreateBucket"),
    ("PutObjectAnnotation", "PutObject"),
    ("RenameObject", "PutObject"),
    ("UpdateBucketMetadataAnnotationTableConfiguration", "CreateBucket"),
    ("UpdateBucketMetadataInventoryTableConfiguration", "CreateBucket"),
    ("UpdateBucketMetadataJournalTableConfiguration", "CreateBucket"),
    ("UpdateObjectEncryption", "PutObject"),
    // It tells the two apart by `x-id`, which is a hint and never decides here.
    ("ListDirectoryBuckets", "ListBuckets"),
];

#[test]
fn s3s_calls_every_row_of_the_table_by_the_same_name() {
    let oracle = Oracle::new();
    let mut different = BTreeMap::new();
    for row in TABLE {
        let method = format!("{:?}", row.verb).to_uppercase();
        let path = ["/", "/raw", "/raw/a%20b/%C3%A9+c"][row.level as usize];
        let headers: Vec<_> = match row.source {
            Source::No => vec![],
            Source::Copied => vec![("x-amz-copy-source".to_owned(), "raw/source".to_owned())],
            Source::Renamed => vec![("x-amz-rename-source".to_owned(), "raw/source".to_owned())],
        };
        for further in [0, row.further.len()] {
            let keys = row.query.iter().chain(&row.further[..further]).map(|key| key.replace("=*", "=1"));
            let keys =
                keys.map(|key| if row.further.contains(&&*key) { format!("{key}=1") } else { key }).collect::<Vec<_>>();
            let target = format!("{path}?{}", keys.join("&"));
            let (name, address) =
                ours(&method, &target, &headers).unwrap_or_else(|rule| panic!("{method} {target}: {rule}"));
            match oracle.names(&method, &target, &headers) {
                None => drop(different.insert(name, "nothing".to_owned())),
                Some((theirs, their_address)) => {
                    assert_eq!(address, their_address, "{method} {target}");
                    if theirs != name {
                        different.insert(name, theirs);
                    }
                }
            }
        }
    }
    let known: BTreeMap<_, _> =
        UNKNOWN_TO_S3S.iter().map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned())).collect();
    assert_eq!(different, known);
}

/// Every combination of a method, a level and up to two query keys of the API: where we name an operation, `s3s` names the same.
/// Where we refuse, it may name one: it ignores keys that it does not expect.
#[test]
fn where_we_name_an_operation_s3s_never_names_another() {
    let oracle = Oracle::new();
    let mut keys: Vec<String> = TABLE.iter().flat_map(|row| row.query).map(|key| key.replace("=*", "=1")).collect();
    keys.extend(["versionId=1", "prefix=a", "continuation-token=1", "acl=x", "list-type=1"].map(str::to_owned));
    keys.sort();
    keys.dedup();
    let mut queries = vec![String::new()];
    for (at, first) in keys.iter().enumerate() {
        queries.push(first.clone());
        queries.extend(keys.iter().skip(at + 1).map(|second| format!("{first}&{second}")));
    }
    let copy = vec![("x-amz-copy-source".to_owned(), "raw/source".to_owned())];
    let (mut agreed, mut refused) = (0, 0);
    for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
        for path in ["/", "/raw", "/raw/k"] {
            for query in &queries {
                for headers in [&vec![], &copy] {
                    let target = format!("{path}?{query}");
                    let Ok((name, address)) = ours(method, &target, headers) else {
                        refused += 1;
                        continue;
                    };
                    if UNKNOWN_TO_S3S.iter().any(|(unknown, _)| *unknown == name) {
                        continue;
                    }
                    assert_eq!(
                        oracle.names(method, &target, headers),
                        Some((name, address)),
                        "{method} {target} {headers:?}"
                    );
                    agreed += 1;
                }
            }
        }
    }
    assert!(agreed > 100 && refused > 1000, "{agreed} {refused}");
}

proptest::proptest! {
    #[test]
    fn s3s_decodes_the_key_that_was_judged(key in "([a-zA-Z0-9._~!$&'()*+,;=:@/-]|%[0-9a-fA-F]{2}|%C3%A9){1,16}") {
        let target = format!("/raw/{key}");
        if let Ok(judged) = ours("GET", &target, &[]) {
            thread_local!(static ORACLE: Oracle = Oracle::new());
            let theirs = ORACLE.with(|oracle| oracle.names("GET", &target, &[]));
            proptest::prop_assert_eq!(theirs, Some(judged));
        }
    }
}
