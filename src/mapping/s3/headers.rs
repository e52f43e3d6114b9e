//! The headers that decide what an S3 request asks, from the head or hoisted into a presigned query.

use http::HeaderMap;

use super::query::Query;
use crate::mapping::Refusal;
use crate::mapping::refusal::shown;

/// Every header that decides, each at most once.
#[derive(Debug, Default)]
pub(super) struct Deciding<'a> {
    pub(super) copy_source: Option<&'a str>,
    pub(super) rename_source: Option<&'a str>,
    pub(super) acl: Option<&'a str>,
    pub(super) grants: bool,
    pub(super) tagging: bool,
    pub(super) tagging_directive: Option<&'a str>,
    pub(super) annotation_directive: Option<&'a str>,
    pub(super) retention: bool,
    pub(super) legal_hold: bool,
    pub(super) bypass_retention: bool,
    pub(super) bucket_object_lock: bool,
    pub(super) object_ownership: bool,
    pub(super) encryption: Option<&'a str>,
    pub(super) kms_key_id: Option<&'a str>,
    pub(super) storage_class: Option<&'a str>,
    pub(super) if_match: Option<&'a str>,
    pub(super) if_none_match: Option<&'a str>,
    pub(super) content_sha256: Option<&'a str>,
    pub(super) decoded_length: Option<&'a str>,
    pub(super) content_encoding: Option<&'a str>,
}

/// `x-amz-*` headers that change neither what is asked nor of what. Sorted.
///
/// # Source
/// The headers of all operations in <https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations.html>, and those of signing.
const HARMLESS: &[&str] = &[
    "x-amz-bucket-namespace",
    "x-amz-bucket-object-lock-token",
    "x-amz-client-token",
    "x-amz-confirm-remove-self-bucket-access",
    "x-amz-copy-source-if-match",
    "x-amz-copy-source-if-modified-since",
    "x-amz-copy-source-if-none-match",
    "x-amz-copy-source-if-unmodified-since",
    "x-amz-copy-source-range",
    "x-amz-copy-source-server-side-encryption-customer-algorithm",
    "x-amz-copy-source-server-side-encryption-customer-key",
    "x-amz-copy-source-server-side-encryption-customer-key-md5",
    "x-amz-create-session-mode",
    "x-amz-date",
    "x-amz-expected-bucket-owner",
    "x-amz-if-match-initiated-time",
    "x-amz-if-match-last-modified-time",
    "x-amz-if-match-size",
    "x-amz-max-parts",
    "x-amz-metadata-directive",
    "x-amz-mfa",
    "x-amz-mp-object-size",
    "x-amz-object-attributes",
    "x-amz-object-if-match",
    "x-amz-optional-object-attributes",
    "x-amz-part-number-marker",
    "x-amz-region-set",
    "x-amz-rename-source-if-match",
    "x-amz-rename-source-if-modified-since",
    "x-amz-rename-source-if-none-match",
    "x-amz-rename-source-if-unmodified-since",
    "x-amz-request-payer",
    "x-amz-s3session-token",
    "x-amz-sdk-checksum-algorithm",
    "x-amz-security-token",
    "x-amz-server-side-encryption-bucket-key-enabled",
    "x-amz-server-side-encryption-context",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-server-side-encryption-customer-key",
    "x-amz-server-side-encryption-customer-key-md5",
    "x-amz-skip-destination-validation",
    "x-amz-source-expected-bucket-owner",
    "x-amz-te",
    "x-amz-trailer",
    "x-amz-transition-default-minimum-object-size",
    "x-amz-user-agent",
    "x-amz-website-redirect-location",
    "x-amz-write-offset-bytes",
];

/// Headers by which other stores take a request for another operation than the S3 API does: MinIO deletes a whole prefix
/// (`x-minio-force-delete`) or reads inside a ZIP (`x-minio-extract`), others copy or set ACLs by headers of their own.
const OTHER_DIALECTS: &[&str] = &[
    "rgwx-",
    "x-bce-",
    "x-cos-",
    "x-emc-",
    "x-goog-",
    "x-minio-",
    "x-ms-",
    "x-obs-",
    "x-oss-",
    "x-rgw-",
    "x-tos-",
    // MinIO and Snowball unpack the body into keys that nobody judged.
    "x-amz-meta-minio-snowball",
    "x-amz-meta-snowball",
    "x-amz-snowball",
];

impl<'a> Deciding<'a> {
    /// # Errors
    /// Rules `repeated-header`, `header-value`, `unknown-header`, `header-spelling`.
    pub(super) fn collect(headers: &'a HeaderMap, query: &'a Query<'_>) -> Result<Self, Refusal> {
        let mut deciding = Self::default();
        for (name, value) in headers {
            deciding.take(name.as_str(), value.to_str().ok())?;
        }
        for (name, value) in &query.hoisted {
            deciding.take(name, Some(value))?;
        }
        Ok(deciding)
    }

    fn take(&mut self, name: &str, value: Option<&'a str>) -> Result<(), Refusal> {
        match name {
            "if-match" => set(&mut self.if_match, name, value),
            "if-none-match" => set(&mut self.if_none_match, name, value),
            "content-encoding" => set(&mut self.content_encoding, name, value),
            _ if name.starts_with("x-amz-") => self.take_amz(name, value),
            _ => judge_other(name),
        }
    }

    fn take_amz(&mut self, name: &str, value: Option<&'a str>) -> Result<(), Refusal> {
        match name {
            "x-amz-copy-source" => set(&mut self.copy_source, name, value)?,
            "x-amz-rename-source" => set(&mut self.rename_source, name, value)?,
            "x-amz-acl" => set(&mut self.acl, name, value)?,
            "x-amz-grant-full-control"
            | "x-amz-grant-read"
            | "x-amz-grant-read-acp"
            | "x-amz-grant-write"
            | "x-amz-grant-write-acp" => self.grants = true,
            "x-amz-tagging" => self.tagging = true,
            "x-amz-tagging-directive" => set_one_of(&mut self.tagging_directive, name, value, &["COPY", "REPLACE"])?,
            "x-amz-object-annotation-directive" => {
                set_one_of(&mut self.annotation_directive, name, value, &["COPY", "EXCLUDE"])?;
            }
            "x-amz-object-lock-mode" | "x-amz-object-lock-retain-until-date" => self.retention = true,
            "x-amz-object-lock-legal-hold" => self.legal_hold = true,
            "x-amz-bypass-governance-retention" => self.bypass_retention = true,
            "x-amz-bucket-object-lock-enabled" => self.bucket_object_lock = true,
            "x-amz-object-ownership" => self.object_ownership = true,
            "x-amz-server-side-encryption" => set(&mut self.encryption, name, value)?,
            "x-amz-server-side-encryption-aws-kms-key-id" => set(&mut self.kms_key_id, name, value)?,
            "x-amz-storage-class" => set(&mut self.storage_class, name, value)?,
            "x-amz-content-sha256" => set(&mut self.content_sha256, name, value)?,
            "x-amz-decoded-content-length" => set(&mut self.decoded_length, name, value)?,
            _ => judge_harmless(name)?,
        }
        Ok(())
    }

    /// Whether the signature says that the body is in S3's own chunks, so that its declared length is that of the chunks.
    pub(super) fn is_streaming(&self) -> bool {
        self.content_sha256.is_some_and(|hash| hash.starts_with("STREAMING-"))
    }

    /// Whether anything says so.
    pub(super) fn is_aws_chunked(&self) -> bool {
        self.is_streaming() || self.content_encoding.is_some_and(|coding| coding.contains("aws-chunked"))
    }
}

fn set<'a>(slot: &mut Option<&'a str>, name: &str, value: Option<&'a str>) -> Result<(), Refusal> {
    let value = value.ok_or_else(|| {
        Refusal::bad_request("header-value", format!("`{name}` decides what is asked, and is not visible ASCII"))
    })?;
    if slot.replace(value).is_some() {
        return Err(Refusal::bad_request(
            "repeated-header",
            format!("`{name}` decides what is asked, and is repeated"),
        ));
    }
    Ok(())
}

fn set_one_of<'a>(
    slot: &mut Option<&'a str>,
    name: &str,
    value: Option<&'a str>,
    known: &[&str],
) -> Result<(), Refusal> {
    set(slot, name, value)?;
    match *slot {
        Some(value) if !known.contains(&value) => Err(Refusal::bad_request(
            "header-value",
            format!("`{name}` is {}, not one of {}", shown(value), known.join(", ")),
        )),
        _ => Ok(()),
    }
}

fn judge_harmless(name: &str) -> Result<(), Refusal> {
    let is_dialect = OTHER_DIALECTS.iter().any(|dialect| name.starts_with(dialect));
    let is_known =
        name.starts_with("x-amz-meta-") || name.starts_with("x-amz-checksum-") || HARMLESS.binary_search(&name).is_ok();
    if is_known && !is_dialect { Ok(()) } else { Err(unknown(name)) }
}

fn judge_other(name: &str) -> Result<(), Refusal> {
    if name.starts_with(['r', 'x']) && OTHER_DIALECTS.iter().any(|dialect| name.starts_with(dialect)) {
        return Err(unknown(name));
    }
    // Where `_` counts as `-`, these would decide.
    if name.contains('_') && name.replace('_', "-").starts_with("x-amz-") {
        return Err(Refusal::bad_request(
            "header-spelling",
            format!("`{name}` reads as another header on some servers"),
        ));
    }
    Ok(())
}

fn unknown(name: &str) -> Refusal {
    let message = format!("header {} is not one of the S3 API that can be judged", shown(name));
    Refusal::with_status(501, "unknown-header", message)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn rule(pairs: &[(&str, &str)]) -> &'static str {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        Deciding::collect(&headers, &Query::default()).map_or_else(|refusal| refusal.rule, |_| "allowed")
    }

    #[test]
    fn the_list_of_harmless_headers_is_sorted() {
        assert!(HARMLESS.is_sorted());
    }

    #[test]
    fn headers_of_real_clients_are_let_through() {
        for name in [
            "x-amz-date",
            "x-amz-content-sha256",
            "x-amz-security-token",
            "x-amz-meta-owner",
            "x-amz-checksum-crc64nvme",
            "x-amz-checksum-mode",
            "x-amz-sdk-checksum-algorithm",
            "x-amz-trailer",
            "x-amz-decoded-content-length",
            "x-amz-user-agent",
            "x-amzn-trace-id",
            "amz-sdk-invocation-id",
            "x-request-id",
        ] {
            assert_eq!(rule(&[(name, "x")]), "allowed", "{name}");
        }
    }

    #[test]
    fn a_deciding_header_is_there_once_and_readable() {
        for name in
            ["x-amz-acl", "x-amz-copy-source", "x-amz-server-side-encryption", "if-none-match", "x-amz-content-sha256"]
        {
            assert_eq!(rule(&[(name, "a"), (name, "a")]), "repeated-header", "{name}");
            assert_eq!(rule(&[(name, "é")]), "header-value", "{name}");
        }
        assert_eq!(rule(&[("x-amz-tagging-directive", "copy")]), "header-value");
        assert_eq!(rule(&[("x-amz-object-annotation-directive", "x")]), "header-value");
    }

    #[test]
    fn headers_that_would_make_it_another_operation_are_refused() {
        for name in [
            "x-amz-target",
            "x-amz-request-route",
            "x-amz-fwd-status",
            "x-amz-object-lock-event-hold",
            "x-amz-grant-everything",
            "x-amz-meta-snowball-auto-extract",
            "x-amz-snowball-extract",
            "x-minio-force-delete",
            "x-minio-extract",
            "x-goog-copy-source",
            "x-oss-object-acl",
        ] {
            assert_eq!(rule(&[(name, "true")]), "unknown-header", "{name}");
        }
        assert_eq!(rule(&[("x_amz_acl", "public-read")]), "header-spelling");
        assert_eq!(rule(&[("x-amz_copy-source", "raw/k")]), "header-spelling");
    }
}
