//! The other object that a copy or a rename names: `x-amz-copy-source`, `x-amz-rename-source`.

use super::address::{judge_bucket, key_of};
use crate::mapping::Refusal;
use crate::mapping::percent::Plus;
use crate::mapping::refusal::shown;

/// `[/]BUCKET/KEY[?versionId=ID]`, percent-encoded.
///
/// # Source
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopySource {
    pub(super) bucket: String,
    pub(super) key: String,
    pub(super) by_version: bool,
}

impl CopySource {
    /// Reads the one form that every store reads alike. Stores differ about a plain `+` (itself or a space), `;` and `#` (the end of
    /// the path, or not) and a second `?`, so those are refused; they can be percent-encoded.
    ///
    /// # Errors
    /// Rules `copy-source`, `copy-source-arn`, and those of buckets and keys.
    pub(super) fn parse(text: &str, allow_dot_segments: bool) -> Result<Self, Refusal> {
        let (path, version) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        if let Some(query) = version {
            let id =
                query.strip_prefix("versionId=").ok_or_else(|| refuse("has another query than `versionId`", text))?;
            if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic() && !b"?&#;".contains(&byte)) {
                return Err(refuse("has no plain version id", text));
            }
        }
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("arn:")) {
            let message = format!("copy source {} is an ARN, only `BUCKET/KEY` can be judged", shown(text));
            return Err(Refusal::bad_request("copy-source-arn", message));
        }
        if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/%-._~!$&'()*,=:@".contains(&byte)) {
            return Err(refuse("has a character that must be percent-encoded", text));
        }
        // Decoded before it is split: `BUCKET%2FKEY` is common, and every store decodes first.
        let decoded = crate::mapping::percent::decode(path, Plus::Literal)
            .map_err(|error| Refusal::bad_request(error.rule(), format!("copy source {} has {error}", shown(text))))?;
        let (bucket, key) = decoded.split_once('/').ok_or_else(|| refuse("has no key", text))?;
        judge_bucket(bucket)?;
        super::address::judge_key(key, allow_dot_segments)?;
        if key.contains("?versionId=") {
            return Err(refuse("has a key that some stores read as another one's version", text));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned(), by_version: version.is_some() })
    }
}

fn refuse(why: &str, text: &str) -> Refusal {
    Refusal::bad_request("copy-source", format!("copy source {} {why}", shown(text)))
}

/// For fuzzing: no panic, and what is found obeys the rules of keys.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(source) = CopySource::parse(text, false) {
        assert!(key_of(&source.key.replace('%', "%25"), Plus::Literal, false).is_ok_and(|key| key == source.key));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<(String, bool), &'static str> {
        CopySource::parse(text, false)
            .map(|source| (format!("{}/{}", source.bucket, source.key), source.by_version))
            .map_err(|refusal| refusal.rule)
    }

    #[test]
    fn bucket_key_and_version_are_found() {
        for (text, found, by_version) in [
            ("raw/a/b", "raw/a/b", false),
            ("/raw/a/b", "raw/a/b", false),
            ("raw%2Fa%2Fb", "raw/a/b", false),
            ("raw/a%20b%2B%3F", "raw/a b+?", false),
            ("raw/a?versionId=3sL4+/x", "raw/a", true),
            ("raw/a?versionId=null", "raw/a", true),
            ("raw/%C3%A9", "raw/é", false),
            ("raw/a%252F", "raw/a%2F", false),
        ] {
            assert_eq!(parsed(text), Ok((found.to_owned(), by_version)), "{text}");
        }
    }

    #[test]
    fn what_stores_read_differently_is_refused() {
        for (text, rule) in [
            ("", "copy-source"),
            ("raw", "copy-source"),
            ("raw/", "key-length"),
            ("raw/a+b", "copy-source"),
            ("raw/a;b", "copy-source"),
            ("raw/a#b", "copy-source"),
            ("raw/a b", "copy-source"),
            ("raw/é", "copy-source"),
            ("raw/a?", "copy-source"),
            ("raw/a?versionId=", "copy-source"),
            ("raw/a?versionid=x", "copy-source"),
            ("raw/a?versionId=x&y", "copy-source"),
            ("raw/a?b?versionId=x", "copy-source"),
            ("raw/a%3FversionId=x", "copy-source"),
            ("arn:aws:s3:eu-west-1:123456789012:accesspoint/ap/object/k", "copy-source-arn"),
            ("/ARN:aws:s3-outposts:eu:1:outpost/o/object/k", "copy-source-arn"),
            ("arn%3Aaws:s3:::raw/k", "bucket-name"),
            ("//raw/a", "bucket-name"),
            ("raw//a", "empty-segment"),
            ("raw/../other/a", "dot-segment"),
            ("raw/%2e%2e/a", "dot-segment"),
            ("raw/%00", "encoded-nul"),
            ("raw/%FF", "invalid-utf8"),
            ("raw/%", "invalid-percent"),
            ("RAW/a", "bucket-name"),
        ] {
            assert_eq!(parsed(text), Err(rule), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_source_makes_it_panic(text in "/?[a-z.%/+?;=#A-Z0-9é]{0,24}|raw/([a-z/.]|%[0-9a-f]{2}){0,8}") {
            fuzz(text.as_bytes());
        }
    }
}
