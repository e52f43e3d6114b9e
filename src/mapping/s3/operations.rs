//! From a matched row of the table to everything that is asked.
//!
//! What AWS itself checks in twos is in twos here: headers that set an ACL, tags or a lock need those permissions too, and a copy
//! reads its source.

use super::address::{Address, judge_segments};
use super::copy_source::CopySource;
use super::headers::Deciding;
use super::query::Query;
use super::table::{About, Row, Source};
use crate::config::S3Config;
use crate::mapping::head::JudgedHead;
use crate::mapping::refusal::shown;
use crate::mapping::{Action, Context, Operation, Operations, Refusal, Resource, Value};

/// A request whose operation is known.
#[derive(Debug)]
pub(super) struct Matched<'a> {
    pub(super) endpoint: &'a str,
    pub(super) head: &'a JudgedHead<'a>,
    pub(super) config: &'a S3Config,
    pub(super) address: &'a Address<'a>,
    pub(super) query: &'a Query<'a>,
    pub(super) deciding: &'a Deciding<'a>,
    pub(super) headers: Value,
    pub(super) row: &'static Row,
}

impl Matched<'_> {
    /// Everything the request asks.
    pub(super) fn operations(&self) -> Result<Operations, Refusal> {
        let by_version = self.by_version()?;
        let source = self.source()?;
        let copied_from = source.as_ref().map(|source| format!("{}/{}/{}", self.endpoint, source.bucket, source.key));
        let copied_from = copied_from.as_deref();
        let context = self.context(by_version, copied_from)?;
        let resource = self.resource()?;
        let mut operations: Option<Operations> = None;
        let mut ask = |action: &'static str, resource: &Resource, context: &Context| {
            let operation =
                Operation { action: Action::named(action), resource: resource.clone(), context: context.clone() };
            match &mut operations {
                None => operations = Some(Operations::one(operation)),
                Some(operations) => operations.push(operation),
            }
        };
        for (plain, versioned) in self.row.asks {
            ask(if by_version { versioned } else { plain }, &resource, &context);
        }
        for action in self.asked_by_headers() {
            ask(action, &resource, &context);
        }
        if let Some(source) = &source {
            let context = self.source_context(source.by_version, copied_from);
            let resource = Resource::object(self.endpoint, &source.bucket, &source.key);
            for action in self.asked_of_source(source.by_version) {
                ask(action, &resource, &context);
            }
        }
        operations.ok_or_else(|| Refusal::with_status(501, "no-operation", "the operation asks nothing"))
    }

    /// What is known about the request, in the order of the schema.
    pub(super) fn context(&self, by_version: bool, copied_from: Option<&str>) -> Result<Context, Refusal> {
        let deciding = self.deciding;
        let mut context = self.shared_context();
        context.set_some("encryption", deciding.encryption);
        context.set_some("kmsKeyId", deciding.kms_key_id);
        context.set_some("contentLength", self.content_length()?);
        context.set_some("storageClass", deciding.storage_class);
        context.set_some("acl", deciding.acl);
        context.set("byVersion", by_version);
        context.set("presigned", self.query.presigned);
        context.set_some("copySource", copied_from);
        context.set_some("ifMatch", deciding.if_match);
        context.set_some("ifNoneMatch", deciding.if_none_match);
        if self.row.about == About::Prefix {
            context.set_some("prefix", self.query.value("prefix"));
            context.set_some("delimiter", self.query.value("delimiter"));
        }
        Ok(context)
    }

    /// Of the source of a copy: what the request says about its target is not said of it.
    fn source_context(&self, by_version: bool, copied_from: Option<&str>) -> Context {
        let mut context = self.shared_context();
        context.set("byVersion", by_version);
        context.set("presigned", self.query.presigned);
        context.set_some("copySource", copied_from);
        context
    }

    fn shared_context(&self) -> Context {
        let mut context = Context::default();
        context.set("host", &*self.head.host);
        context.set("headers", self.headers.clone());
        context.set("operation", self.row.operation);
        context
    }

    /// The length of the content: of a body in S3's own chunks what it decodes to, which is never more than what is sent. Where only
    /// `content-encoding` says that it is in chunks, a store may keep it as it is, so what is sent counts.
    fn content_length(&self) -> Result<Option<i64>, Refusal> {
        let declared = self.head.content_length;
        let length = if self.deciding.is_streaming() {
            let Some(text) = self.deciding.decoded_length else { return Ok(None) };
            let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let decoded =
                text.parse::<u64>().ok().filter(|decoded| is_digits && declared.is_none_or(|sent| *decoded <= sent));
            Some(decoded.ok_or_else(|| {
                let message = format!("`x-amz-decoded-content-length` {} is not the length of this body", shown(text));
                Refusal::bad_request("decoded-length", message)
            })?)
        } else {
            declared
        };
        Ok(length.and_then(|length| i64::try_from(length).ok()))
    }

    fn by_version(&self) -> Result<bool, Refusal> {
        match self.query.value("versionId") {
            Some("") => Err(Refusal::bad_request("version-id", "`versionId` is empty")),
            version => Ok(version.is_some()),
        }
    }

    fn resource(&self) -> Result<Resource, Refusal> {
        Ok(match self.address {
            Address::Root => Resource::endpoint(self.endpoint),
            Address::Bucket { bucket } if self.row.about == About::Prefix => self.listed(bucket)?,
            Address::Bucket { bucket } => Resource::bucket(self.endpoint, bucket),
            Address::Object { bucket, key } => Resource::object(self.endpoint, bucket, key),
        })
    }

    /// What a list call lists inside: the folder of the whole segments of its `prefix`, else the bucket.
    fn listed(&self, bucket: &str) -> Result<Resource, Refusal> {
        let prefix = self.query.value("prefix").unwrap_or_default();
        judge_segments(prefix, self.config.unsafe_allow_dot_segments)?;
        Ok(match prefix.rsplit_once('/') {
            Some((folder, _)) if !folder.is_empty() => Resource::prefix(self.endpoint, bucket, folder),
            _ => Resource::bucket(self.endpoint, bucket),
        })
    }

    fn source(&self) -> Result<Option<CopySource>, Refusal> {
        let text = match self.row.source {
            Source::No => None,
            Source::Copied => self.deciding.copy_source,
            Source::Renamed => self.deciding.rename_source,
        };
        let Some(text) = text else { return Ok(None) };
        let source = CopySource::parse(text, self.config.unsafe_allow_dot_segments)?;
        if source.by_version && self.row.source == Source::Renamed {
            return Err(Refusal::bad_request("copy-source", format!("rename source {} names a version", shown(text))));
        }
        Ok(Some(source))
    }

    /// The further actions on the target that headers ask for, but for those that the row asks already.
    ///
    /// # Source
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html>
    fn asked_by_headers(&self) -> impl Iterator<Item = &'static str> {
        let deciding = self.deciding;
        let is_object = matches!(self.address, Address::Object { .. });
        let sets_acl = deciding.acl.is_some() || deciding.grants;
        let copies = self.row.source == Source::Copied;
        let asked = [
            (is_object && sets_acl, "s3:PutObjectAcl"),
            (is_object && (deciding.tagging || deciding.tagging_directive.is_some()), "s3:PutObjectTagging"),
            (is_object && deciding.retention, "s3:PutObjectRetention"),
            (is_object && deciding.legal_hold, "s3:PutObjectLegalHold"),
            (is_object && deciding.bypass_retention, "s3:BypassGovernanceRetention"),
            (copies && deciding.annotation_directive == Some("COPY"), "s3:PutObjectAnnotation"),
            (!is_object && sets_acl, "s3:PutBucketAcl"),
            (!is_object && deciding.bucket_object_lock, "s3:PutBucketObjectLockConfiguration"),
            // Object Lock switches versioning on.
            (!is_object && deciding.bucket_object_lock, "s3:PutBucketVersioning"),
            (!is_object && deciding.object_ownership, "s3:PutBucketOwnershipControls"),
        ];
        let row = self.row;
        let is_new = move |action: &str| !row.asks.iter().any(|(plain, _)| *plain == action);
        asked.into_iter().filter(move |(wanted, action)| *wanted && is_new(action)).map(|(_, action)| action)
    }

    /// What is done to the source of a copy or a rename.
    fn asked_of_source(&self, by_version: bool) -> impl Iterator<Item = &'static str> {
        let pick = move |plain, versioned| if by_version { versioned } else { plain };
        let copies = self.row.source == Source::Copied;
        [
            (true, pick("s3:GetObject", "s3:GetObjectVersion")),
            (
                copies && self.deciding.tagging_directive == Some("COPY"),
                pick("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
            ),
            (
                copies && self.deciding.annotation_directive == Some("COPY"),
                pick("s3:GetObjectAnnotation", "s3:GetObjectVersionAnnotation"),
            ),
            (self.row.source == Source::Renamed, "s3:DeleteObject"),
        ]
        .into_iter()
        .filter_map(|(wanted, action)| wanted.then_some(action))
    }
}
