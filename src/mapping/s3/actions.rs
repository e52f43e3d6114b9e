//! The IAM actions that S3 requests ask about, each with its group and the kinds of resource it applies to.

use crate::mapping::Group::{self, Admin, Connect, Delete, List, Read, Write};
use crate::mapping::ResourceKind;

const ENDPOINT: &[ResourceKind] = &[ResourceKind::Endpoint];
const BUCKET: &[ResourceKind] = &[ResourceKind::Bucket];
const BUCKET_OR_PREFIX: &[ResourceKind] = &[ResourceKind::Bucket, ResourceKind::Prefix];
const OBJECT: &[ResourceKind] = &[ResourceKind::Object];

/// The names are those of the Service Authorization Reference.
///
/// Reading configuration is `read`, changing it `admin`, as are the actions that change who may read or remove an object.
/// AbortMultipartUpload is part of writing: who may upload may give up. CreateSession (directory buckets) hands out credentials for
/// requests that are each judged again.
///
/// # Source
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html>,
/// <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3express.html>
pub(super) const ACTIONS: &[(&str, Group, &[ResourceKind])] = &[
    ("s3:AbortMultipartUpload", Write, OBJECT),
    ("s3:BypassGovernanceRetention", Admin, OBJECT),
    ("s3:CreateBucket", Write, BUCKET),
    ("s3:CreateBucketMetadataTableConfiguration", Admin, BUCKET),
    ("s3:DeleteBucket", Delete, BUCKET),
    ("s3:DeleteBucketMetadataTableConfiguration", Admin, BUCKET),
    ("s3:DeleteBucketPolicy", Admin, BUCKET),
    ("s3:DeleteBucketWebsite", Admin, BUCKET),
    ("s3:DeleteObject", Delete, OBJECT),
    ("s3:DeleteObjectAnnotation", Delete, OBJECT),
    ("s3:DeleteObjectTagging", Delete, OBJECT),
    ("s3:DeleteObjectVersion", Delete, OBJECT),
    ("s3:DeleteObjectVersionAnnotation", Delete, OBJECT),
    ("s3:DeleteObjectVersionTagging", Delete, OBJECT),
    ("s3:GetAccelerateConfiguration", Read, BUCKET),
    ("s3:GetAnalyticsConfiguration", Read, BUCKET),
    ("s3:GetBucketAbac", Read, BUCKET),
    ("s3:GetBucketAcl", Read, BUCKET),
    ("s3:GetBucketCORS", Read, BUCKET),
    ("s3:GetBucketLocation", Read, BUCKET),
    ("s3:GetBucketLogging", Read, BUCKET),
    ("s3:GetBucketMetadataTableConfiguration", Read, BUCKET),
    ("s3:GetBucketNotification", Read, BUCKET),
    ("s3:GetBucketObjectLockConfiguration", Read, BUCKET),
    ("s3:GetBucketOwnershipControls", Read, BUCKET),
    ("s3:GetBucketPolicy", Read, BUCKET),
    ("s3:GetBucketPolicyStatus", Read, BUCKET),
    ("s3:GetBucketPublicAccessBlock", Read, BUCKET),
    ("s3:GetBucketRequestPayment", Read, BUCKET),
    ("s3:GetBucketTagging", Read, BUCKET),
    ("s3:GetBucketVersioning", Read, BUCKET),
    ("s3:GetBucketWebsite", Read, BUCKET),
    ("s3:GetEncryptionConfiguration", Read, BUCKET),
    ("s3:GetIntelligentTieringConfiguration", Read, BUCKET),
    ("s3:GetInventoryConfiguration", Read, BUCKET),
    ("s3:GetLifecycleConfiguration", Read, BUCKET),
    ("s3:GetMetricsConfiguration", Read, BUCKET),
    ("s3:GetObject", Read, OBJECT),
    ("s3:GetObjectAcl", Read, OBJECT),
    ("s3:GetObjectAnnotation", Read, OBJECT),
    ("s3:GetObjectAttributes", Read, OBJECT),
    ("s3:GetObjectLegalHold", Read, OBJECT),
    ("s3:GetObjectRetention", Read, OBJECT),
    ("s3:GetObjectTagging", Read, OBJECT),
    ("s3:GetObjectTorrent", Read, OBJECT),
    ("s3:GetObjectVersion", Read, OBJECT),
    ("s3:GetObjectVersionAcl", Read, OBJECT),
    ("s3:GetObjectVersionAnnotation", Read, OBJECT),
    ("s3:GetObjectVersionAttributes", Read, OBJECT),
    ("s3:GetObjectVersionTagging", Read, OBJECT),
    ("s3:GetObjectVersionTorrent", Read, OBJECT),
    ("s3:GetReplicationConfiguration", Read, BUCKET),
    ("s3:ListAllMyBuckets", List, ENDPOINT),
    ("s3:ListBucket", List, BUCKET_OR_PREFIX),
    ("s3:ListBucketMultipartUploads", List, BUCKET_OR_PREFIX),
    ("s3:ListBucketVersions", List, BUCKET_OR_PREFIX),
    ("s3:ListMultipartUploadParts", List, OBJECT),
    ("s3:ListObjectAnnotations", List, OBJECT),
    ("s3:ListObjectVersionAnnotations", List, OBJECT),
    ("s3:PutAccelerateConfiguration", Admin, BUCKET),
    ("s3:PutAnalyticsConfiguration", Admin, BUCKET),
    ("s3:PutBucketAbac", Admin, BUCKET),
    ("s3:PutBucketAcl", Admin, BUCKET),
    ("s3:PutBucketCORS", Admin, BUCKET),
    ("s3:PutBucketLogging", Admin, BUCKET),
    ("s3:PutBucketNotification", Admin, BUCKET),
    ("s3:PutBucketObjectLockConfiguration", Admin, BUCKET),
    ("s3:PutBucketOwnershipControls", Admin, BUCKET),
    ("s3:PutBucketPolicy", Admin, BUCKET),
    ("s3:PutBucketPublicAccessBlock", Admin, BUCKET),
    ("s3:PutBucketRequestPayment", Admin, BUCKET),
    ("s3:PutBucketTagging", Admin, BUCKET),
    ("s3:PutBucketVersioning", Admin, BUCKET),
    ("s3:PutBucketWebsite", Admin, BUCKET),
    ("s3:PutEncryptionConfiguration", Admin, BUCKET),
    ("s3:PutIntelligentTieringConfiguration", Admin, BUCKET),
    ("s3:PutInventoryConfiguration", Admin, BUCKET),
    ("s3:PutLifecycleConfiguration", Admin, BUCKET),
    ("s3:PutMetricsConfiguration", Admin, BUCKET),
    ("s3:PutObject", Write, OBJECT),
    ("s3:PutObjectAcl", Admin, OBJECT),
    ("s3:PutObjectAnnotation", Write, OBJECT),
    ("s3:PutObjectLegalHold", Admin, OBJECT),
    ("s3:PutObjectRetention", Admin, OBJECT),
    ("s3:PutObjectTagging", Write, OBJECT),
    ("s3:PutObjectVersionAcl", Admin, OBJECT),
    ("s3:PutObjectVersionAnnotation", Write, OBJECT),
    ("s3:PutObjectVersionTagging", Write, OBJECT),
    ("s3:PutReplicationConfiguration", Admin, BUCKET),
    ("s3:RestoreObject", Write, OBJECT),
    ("s3:UpdateBucketMetadataAnnotationTableConfiguration", Admin, BUCKET),
    ("s3:UpdateBucketMetadataInventoryTableConfiguration", Admin, BUCKET),
    ("s3:UpdateBucketMetadataJournalTableConfiguration", Admin, BUCKET),
    ("s3:UpdateObjectEncryption", Admin, OBJECT),
    ("s3express:CreateSession", Connect, BUCKET),
];

/// Every action that [`super::map`] can ask about, with its group.
pub fn actions() -> impl Iterator<Item = (&'static str, Group)> {
    ACTIONS.iter().map(|(action, group, _)| (*action, *group))
}

/// The kinds of resource that an action applies to; none for an action that is not of this family.
#[must_use]
pub fn resource_kinds(action: &str) -> &'static [ResourceKind] {
    ACTIONS.iter().find(|(name, ..)| *name == action).map_or(&[], |(_, _, kinds)| *kinds)
}
