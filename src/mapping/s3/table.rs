//! The one table: which request is which S3 API operation, and which IAM actions it asks about.
//!
//! A request is matched by its method, by what its address is (service, bucket, object), by its query keys, and by the one header
//! that turns a write into a copy or a rename. All query keys of `query` are there, any of `further` may be, no others; so at
//! most one row fits, and a request that fits none is refused.
//!
//! # Source
//! Methods, query keys and headers: the API reference, <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html>.
//! Actions: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html> and the Service Authorization
//! Reference, <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>.

use http::Method;

use super::query::Query;

/// What the address of a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    Service,
    Bucket,
    Object,
}

/// Methods that S3 knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Head,
    Put,
    Post,
    Delete,
}

impl Verb {
    pub(super) fn of(method: &Method) -> Option<Self> {
        Some(match method.as_str() {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "PUT" => Self::Put,
            "POST" => Self::Post,
            "DELETE" => Self::Delete,
            _ => return None,
        })
    }
}

/// The object that a request names beside the one of its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// None.
    No,
    /// `x-amz-copy-source`: it is read.
    Copied,
    /// `x-amz-rename-source`: it is read and removed.
    Renamed,
}

/// What the actions of a row are asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// The address.
    Address,
    /// The folder that the call's `prefix` names, else the bucket.
    Prefix,
    /// What the body says: see [`super::Asked`].
    Body,
}

/// One request shape.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) verb: Verb,
    pub(super) level: Level,
    /// `acl`: there, without a value. `uploadId=*`: there, with a value. `list-type=2`: there, with this value.
    pub(super) query: &'static [&'static str],
    pub(super) further: &'static [&'static str],
    pub(super) source: Source,
    pub(super) operation: &'static str,
    pub(super) asks: &'static [Ask],
    pub(super) about: About,
}

/// An action, and the one that is asked instead where the request names a version.
pub(super) type Ask = (&'static str, &'static str);

const fn one(action: &'static str) -> Ask {
    (action, action)
}

const fn row(
    verb: Verb,
    level: Level,
    query: &'static [&'static str],
    further: &'static [&'static str],
    operation: &'static str,
    asks: &'static [Ask],
) -> Row {
    Row { verb, level, query, further, source: Source::No, operation, asks, about: About::Address }
}

impl Row {
    const fn from(mut self, source: Source) -> Self {
        self.source = source;
        self
    }

    const fn about(mut self, about: About) -> Self {
        self.about = about;
        self
    }

    pub(super) fn fits(&self, verb: Verb, level: Level, source: Source, query: &Query<'_>) -> bool {
        self.verb == verb
            && self.level == level
            && self.source == source
            && self.query.iter().all(|wanted| has(query, wanted))
            && query.parameters.iter().all(|parameter| self.knows(parameter.key))
    }

    pub(super) fn knows(&self, key: &str) -> bool {
        self.further.contains(&key) || self.query.iter().any(|wanted| key_of(wanted) == key)
    }
}

/// The query key of an entry of [`Row::query`].
pub(super) fn key_of(wanted: &str) -> &str {
    wanted.split_once('=').map_or(wanted, |(key, _)| key)
}

fn has(query: &Query<'_>, wanted: &str) -> bool {
    let (key, value) = wanted.split_once('=').unwrap_or((wanted, ""));
    query.value(key).is_some_and(|found| if value == "*" { !found.is_empty() } else { found == value })
}

/// Every operation that is known, as a policy sees it: `PutObject`.
pub fn operations() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|row| row.operation)
}

use About::{Body, Prefix};
use Level::{Bucket, Object, Service};
use Source::{Copied, Renamed};
use Verb::{Delete, Get, Head, Post, Put};

const VERSION: &[&str] = &["versionId"];
const READING: &[&str] = &[
    "partNumber",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "versionId",
];
const PAGING: &[&str] = &["continuation-token"];

const GET_OBJECT: Ask = ("s3:GetObject", "s3:GetObjectVersion");
const PUT_OBJECT: Ask = one("s3:PutObject");

/// Every request shape that is forwarded.
#[rustfmt::skip]
pub(super) const TABLE: &[Row] = &[
    // Objects: content.
    row(Get,    Object, &[], READING, "GetObject", &[GET_OBJECT]),
    row(Head,   Object, &[], READING, "HeadObject", &[GET_OBJECT]),
    row(Put,    Object, &[], &[], "PutObject", &[PUT_OBJECT]),
    row(Put,    Object, &[], &[], "CopyObject", &[PUT_OBJECT]).from(Copied),
    row(Put,    Object, &["renameObject"], &[], "RenameObject", &[PUT_OBJECT]).from(Renamed),
    row(Delete, Object, &[], VERSION, "DeleteObject", &[("s3:DeleteObject", "s3:DeleteObjectVersion")]),
    row(Post,   Object, &["select", "select-type=2"], &[], "SelectObjectContent", &[one("s3:GetObject")]),
    row(Post,   Object, &["restore"], VERSION, "RestoreObject", &[one("s3:RestoreObject")]).about(Body),
    row(Get,    Object, &["attributes"], VERSION, "GetObjectAttributes", &[GET_OBJECT, ("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes")]),
    row(Get,    Object, &["torrent"], VERSION, "GetObjectTorrent", &[("s3:GetObjectTorrent", "s3:GetObjectVersionTorrent")]),

    // Objects: multipart uploads.
    row(Post,   Object, &["uploads"], &[], "CreateMultipartUpload", &[PUT_OBJECT]),
    row(Put,    Object, &["partNumber=*", "uploadId=*"], &[], "UploadPart", &[PUT_OBJECT]),
    row(Put,    Object, &["partNumber=*", "uploadId=*"], &[], "UploadPartCopy", &[PUT_OBJECT]).from(Copied),
    row(Post,   Object, &["uploadId=*"], &[], "CompleteMultipartUpload", &[PUT_OBJECT]),
    row(Delete, Object, &["uploadId=*"], &[], "AbortMultipartUpload", &[one("s3:AbortMultipartUpload")]),
    row(Get,    Object, &["uploadId=*"], &["encoding-type", "max-parts", "part-number-marker"], "ListParts", &[one("s3:ListMultipartUploadParts")]),

    // Objects: what is kept beside the content.
    row(Get,    Object, &["acl"], VERSION, "GetObjectAcl", &[("s3:GetObjectAcl", "s3:GetObjectVersionAcl")]),
    row(Put,    Object, &["acl"], VERSION, "PutObjectAcl", &[("s3:PutObjectAcl", "s3:PutObjectVersionAcl")]),
    row(Get,    Object, &["tagging"], VERSION, "GetObjectTagging", &[("s3:GetObjectTagging", "s3:GetObjectVersionTagging")]),
    row(Put,    Object, &["tagging"], VERSION, "PutObjectTagging", &[("s3:PutObjectTagging", "s3:PutObjectVersionTagging")]),
    row(Delete, Object, &["tagging"], VERSION, "DeleteObjectTagging", &[("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging")]),
    row(Get,    Object, &["retention"], VERSION, "GetObjectRetention", &[one("s3:GetObjectRetention")]),
    row(Put,    Object, &["retention"], VERSION, "PutObjectRetention", &[one("s3:PutObjectRetention")]),
    row(Get,    Object, &["legal-hold"], VERSION, "GetObjectLegalHold", &[one("s3:GetObjectLegalHold")]),
    row(Put,    Object, &["legal-hold"], VERSION, "PutObjectLegalHold", &[one("s3:PutObjectLegalHold")]),
    row(Put,    Object, &["encryption"], VERSION, "UpdateObjectEncryption", &[one("s3:UpdateObjectEncryption"), PUT_OBJECT]),
    row(Get,    Object, &["annotation", "annotationName=*"], VERSION, "GetObjectAnnotation", &[("s3:GetObjectAnnotation", "s3:GetObjectVersionAnnotation")]),
    row(Put,    Object, &["annotation", "annotationName=*"], VERSION, "PutObjectAnnotation", &[("s3:PutObjectAnnotation", "s3:PutObjectVersionAnnotation")]),
    row(Delete, Object, &["annotation", "annotationName=*"], VERSION, "DeleteObjectAnnotation", &[("s3:DeleteObjectAnnotation", "s3:DeleteObjectVersionAnnotation")]),
    row(Get,    Object, &["annotation"], &["annotation-prefix", "continuation-token", "max-annotation-results", "versionId"], "ListObjectAnnotations", &[("s3:ListObjectAnnotations", "s3:ListObjectVersionAnnotations")]),

    // Buckets: what is in them.
    row(Get,    Bucket, &["list-type=2"], &["continuation-token", "delimiter", "encoding-type", "fetch-owner", "max-keys", "prefix", "start-after"], "ListObjectsV2", &[one("s3:ListBucket")]).about(Prefix),
    row(Get,    Bucket, &[], &["delimiter", "encoding-type", "marker", "max-keys", "prefix"], "ListObjects", &[one("s3:ListBucket")]).about(Prefix),
    row(Get,    Bucket, &["versions"], &["delimiter", "encoding-type", "key-marker", "max-keys", "prefix", "version-id-marker"], "ListObjectVersions", &[one("s3:ListBucketVersions")]).about(Prefix),
    row(Get,    Bucket, &["uploads"], &["delimiter", "encoding-type", "key-marker", "max-uploads", "prefix", "upload-id-marker"], "ListMultipartUploads", &[one("s3:ListBucketMultipartUploads")]).about(Prefix),
    row(Head,   Bucket, &[], &[], "HeadBucket", &[one("s3:ListBucket")]),
    row(Post,   Bucket, &["delete"], &[], "DeleteObjects", &[("s3:DeleteObject", "s3:DeleteObjectVersion")]).about(Body),

    // Buckets: themselves.
    row(Put,    Bucket, &[], &[], "CreateBucket", &[one("s3:CreateBucket")]),
    row(Delete, Bucket, &[], &[], "DeleteBucket", &[one("s3:DeleteBucket")]),
    row(Get,    Bucket, &["location"], &[], "GetBucketLocation", &[one("s3:GetBucketLocation")]),
    row(Get,    Bucket, &["session"], &[], "CreateSession", &[one("s3express:CreateSession")]),

    // Buckets: who may do what.
    row(Get,    Bucket, &["acl"], &[], "GetBucketAcl", &[one("s3:GetBucketAcl")]),
    row(Put,    Bucket, &["acl"], &[], "PutBucketAcl", &[one("s3:PutBucketAcl")]),
    row(Get,    Bucket, &["policy"], &[], "GetBucketPolicy", &[one("s3:GetBucketPolicy")]),
    row(Put,    Bucket, &["policy"], &[], "PutBucketPolicy", &[one("s3:PutBucketPolicy")]),
    row(Delete, Bucket, &["policy"], &[], "DeleteBucketPolicy", &[one("s3:DeleteBucketPolicy")]),
    row(Get,    Bucket, &["policyStatus"], &[], "GetBucketPolicyStatus", &[one("s3:GetBucketPolicyStatus")]),
    row(Get,    Bucket, &["publicAccessBlock"], &[], "GetPublicAccessBlock", &[one("s3:GetBucketPublicAccessBlock")]),
    row(Put,    Bucket, &["publicAccessBlock"], &[], "PutPublicAccessBlock", &[one("s3:PutBucketPublicAccessBlock")]),
    row(Delete, Bucket, &["publicAccessBlock"], &[], "DeletePublicAccessBlock", &[one("s3:PutBucketPublicAccessBlock")]),
    row(Get,    Bucket, &["ownershipControls"], &[], "GetBucketOwnershipControls", &[one("s3:GetBucketOwnershipControls")]),
    row(Put,    Bucket, &["ownershipControls"], &[], "PutBucketOwnershipControls", &[one("s3:PutBucketOwnershipControls")]),
    row(Delete, Bucket, &["ownershipControls"], &[], "DeleteBucketOwnershipControls", &[one("s3:PutBucketOwnershipControls")]),
    row(Get,    Bucket, &["abac"], &[], "GetBucketAbac", &[one("s3:GetBucketAbac")]),
    row(Put,    Bucket, &["abac"], &[], "PutBucketAbac", &[one("s3:PutBucketAbac")]),
    row(Get,    Bucket, &["tagging"], &[], "GetBucketTagging", &[one("s3:GetBucketTagging")]),
    row(Put,    Bucket, &["tagging"], &[], "PutBucketTagging", &[one("s3:PutBucketTagging")]),
    row(Delete, Bucket, &["tagging"], &[], "DeleteBucketTagging", &[one("s3:PutBucketTagging")]),

    // Buckets: how they behave.
    row(Get,    Bucket, &["versioning"], &[], "GetBucketVersioning", &[one("s3:GetBucketVersioning")]),
    row(Put,    Bucket, &["versioning"], &[], "PutBucketVersioning", &[one("s3:PutBucketVersioning")]),
    row(Get,    Bucket, &["object-lock"], &[], "GetObjectLockConfiguration", &[one("s3:GetBucketObjectLockConfiguration")]),
    row(Put,    Bucket, &["object-lock"], &[], "PutObjectLockConfiguration", &[one("s3:PutBucketObjectLockConfiguration")]),
    row(Get,    Bucket, &["encryption"], &[], "GetBucketEncryption", &[one("s3:GetEncryptionConfiguration")]),
    row(Put,    Bucket, &["encryption"], &[], "PutBucketEncryption", &[one("s3:PutEncryptionConfiguration")]),
    row(Delete, Bucket, &["encryption"], &[], "DeleteBucketEncryption", &[one("s3:PutEncryptionConfiguration")]),
    row(Get,    Bucket, &["lifecycle"], &[], "GetBucketLifecycleConfiguration", &[one("s3:GetLifecycleConfiguration")]),
    row(Put,    Bucket, &["lifecycle"], &[], "PutBucketLifecycleConfiguration", &[one("s3:PutLifecycleConfiguration")]),
    row(Delete, Bucket, &["lifecycle"], &[], "DeleteBucketLifecycle", &[one("s3:PutLifecycleConfiguration")]),
    row(Get,    Bucket, &["cors"], &[], "GetBucketCors", &[one("s3:GetBucketCORS")]),
    row(Put,    Bucket, &["cors"], &[], "PutBucketCors", &[one("s3:PutBucketCORS")]),
    row(Delete, Bucket, &["cors"], &[], "DeleteBucketCors", &[one("s3:PutBucketCORS")]),
    row(Get,    Bucket, &["website"], &[], "GetBucketWebsite", &[one("s3:GetBucketWebsite")]),
    row(Put,    Bucket, &["website"], &[], "PutBucketWebsite", &[one("s3:PutBucketWebsite")]),
    row(Delete, Bucket, &["website"], &[], "DeleteBucketWebsite", &[one("s3:DeleteBucketWebsite")]),
    row(Get,    Bucket, &["replication"], &[], "GetBucketReplication", &[one("s3:GetReplicationConfiguration")]),
    row(Put,    Bucket, &["replication"], &[], "PutBucketReplication", &[one("s3:PutReplicationConfiguration")]),
    row(Delete, Bucket, &["replication"], &[], "DeleteBucketReplication", &[one("s3:PutReplicationConfiguration")]),
    row(Get,    Bucket, &["logging"], &[], "GetBucketLogging", &[one("s3:GetBucketLogging")]),
    row(Put,    Bucket, &["logging"], &[], "PutBucketLogging", &[one("s3:PutBucketLogging")]),
    row(Get,    Bucket, &["notification"], &[], "GetBucketNotificationConfiguration", &[one("s3:GetBucketNotification")]),
    row(Put,    Bucket, &["notification"], &[], "PutBucketNotificationConfiguration", &[one("s3:PutBucketNotification")]),
    row(Get,    Bucket, &["accelerate"], &[], "GetBucketAccelerateConfiguration", &[one("s3:GetAccelerateConfiguration")]),
    row(Put,    Bucket, &["accelerate"], &[], "PutBucketAccelerateConfiguration", &[one("s3:PutAccelerateConfiguration")]),
    row(Get,    Bucket, &["requestPayment"], &[], "GetBucketRequestPayment", &[one("s3:GetBucketRequestPayment")]),
    row(Put,    Bucket, &["requestPayment"], &[], "PutBucketRequestPayment", &[one("s3:PutBucketRequestPayment")]),

    // Buckets: configurations that have an id each.
    row(Get,    Bucket, &["analytics", "id=*"], &[], "GetBucketAnalyticsConfiguration", &[one("s3:GetAnalyticsConfiguration")]),
    row(Get,    Bucket, &["analytics"], PAGING, "ListBucketAnalyticsConfigurations", &[one("s3:GetAnalyticsConfiguration")]),
    row(Put,    Bucket, &["analytics", "id=*"], &[], "PutBucketAnalyticsConfiguration", &[one("s3:PutAnalyticsConfiguration")]),
    row(Delete, Bucket, &["analytics", "id=*"], &[], "DeleteBucketAnalyticsConfiguration", &[one("s3:PutAnalyticsConfiguration")]),
    row(Get,    Bucket, &["intelligent-tiering", "id=*"], &[], "GetBucketIntelligentTieringConfiguration", &[one("s3:GetIntelligentTieringConfiguration")]),
    row(Get,    Bucket, &["intelligent-tiering"], PAGING, "ListBucketIntelligentTieringConfigurations", &[one("s3:GetIntelligentTieringConfiguration")]),
    row(Put,    Bucket, &["intelligent-tiering", "id=*"], &[], "PutBucketIntelligentTieringConfiguration", &[one("s3:PutIntelligentTieringConfiguration")]),
    row(Delete, Bucket, &["intelligent-tiering", "id=*"], &[], "DeleteBucketIntelligentTieringConfiguration", &[one("s3:PutIntelligentTieringConfiguration")]),
    row(Get,    Bucket, &["inventory", "id=*"], &[], "GetBucketInventoryConfiguration", &[one("s3:GetInventoryConfiguration")]),
    row(Get,    Bucket, &["inventory"], PAGING, "ListBucketInventoryConfigurations", &[one("s3:GetInventoryConfiguration")]),
    row(Put,    Bucket, &["inventory", "id=*"], &[], "PutBucketInventoryConfiguration", &[one("s3:PutInventoryConfiguration")]),
    row(Delete, Bucket, &["inventory", "id=*"], &[], "DeleteBucketInventoryConfiguration", &[one("s3:PutInventoryConfiguration")]),
    row(Get,    Bucket, &["metrics", "id=*"], &[], "GetBucketMetricsConfiguration", &[one("s3:GetMetricsConfiguration")]),
    row(Get,    Bucket, &["metrics"], PAGING, "ListBucketMetricsConfigurations", &[one("s3:GetMetricsConfiguration")]),
    row(Put,    Bucket, &["metrics", "id=*"], &[], "PutBucketMetricsConfiguration", &[one("s3:PutMetricsConfiguration")]),
    row(Delete, Bucket, &["metrics", "id=*"], &[], "DeleteBucketMetricsConfiguration", &[one("s3:PutMetricsConfiguration")]),

    // Buckets: S3 Metadata.
    row(Post,   Bucket, &["metadataConfiguration"], &[], "CreateBucketMetadataConfiguration", &[one("s3:CreateBucketMetadataTableConfiguration")]),
    row(Get,    Bucket, &["metadataConfiguration"], &[], "GetBucketMetadataConfiguration", &[one("s3:GetBucketMetadataTableConfiguration")]),
    row(Delete, Bucket, &["metadataConfiguration"], &[], "DeleteBucketMetadataConfiguration", &[one("s3:DeleteBucketMetadataTableConfiguration")]),
    row(Post,   Bucket, &["metadataTable"], &[], "CreateBucketMetadataTableConfiguration", &[one("s3:CreateBucketMetadataTableConfiguration")]),
    row(Get,    Bucket, &["metadataTable"], &[], "GetBucketMetadataTableConfiguration", &[one("s3:GetBucketMetadataTableConfiguration")]),
    row(Delete, Bucket, &["metadataTable"], &[], "DeleteBucketMetadataTableConfiguration", &[one("s3:DeleteBucketMetadataTableConfiguration")]),
    row(Put,    Bucket, &["metadataAnnotationTable"], &[], "UpdateBucketMetadataAnnotationTableConfiguration", &[one("s3:UpdateBucketMetadataAnnotationTableConfiguration")]),
    row(Put,    Bucket, &["metadataInventoryTable"], &[], "UpdateBucketMetadataInventoryTableConfiguration", &[one("s3:UpdateBucketMetadataInventoryTableConfiguration")]),
    row(Put,    Bucket, &["metadataJournalTable"], &[], "UpdateBucketMetadataJournalTableConfiguration", &[one("s3:UpdateBucketMetadataJournalTableConfiguration")]),

    // The service.
    row(Get,    Service, &[], &["bucket-region", "continuation-token", "max-buckets", "prefix"], "ListBuckets", &[one("s3:ListAllMyBuckets")]),
    row(Get,    Service, &["max-directory-buckets=*"], PAGING, "ListDirectoryBuckets", &[one("s3:ListAllMyBuckets")]),
];
