//! Which bucket and key a request is about: path style or virtual-host style.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::S3Config;
use crate::mapping::Refusal;
use crate::mapping::head::{JudgedHead, is_same_host};
use crate::mapping::percent::{Plus, decode};
use crate::mapping::refusal::shown;

/// What a request is about. The key is, byte for byte, what the store decodes from the target that is forwarded unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum S3Address {
    /// The service itself: its list of buckets.
    Root,
    /// A bucket.
    Bucket {
        /// Its name.
        bucket: Box<str>,
    },
    /// An object.
    Object {
        /// The bucket's name.
        bucket: Box<str>,
        /// The key.
        key: Box<str>,
    },
}

/// An address that borrows from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address<'a> {
    Root,
    Bucket { bucket: &'a str },
    Object { bucket: &'a str, key: Cow<'a, str> },
}

impl From<&Address<'_>> for S3Address {
    fn from(address: &Address<'_>) -> Self {
        match address {
            Address::Root => Self::Root,
            Address::Bucket { bucket } => Self::Bucket { bucket: (*bucket).into() },
            Address::Object { bucket, key } => Self::Object { bucket: (*bucket).into(), key: (&**key).into() },
        }
    }
}

/// Finds the bucket in the host or the path, and the key in the rest of the path.
pub(super) fn address<'a>(head: &'a JudgedHead<'_>, config: &S3Config) -> Result<Address<'a>, Refusal> {
    let path = head.path();
    judge_characters(path)?;
    let Some(path) = path.strip_prefix('/') else {
        return Err(Refusal::bad_request("asterisk-form", "a request about the whole server (`*`) is no S3 operation"));
    };
    let (bucket, key) = match bucket_of_host(head, config)? {
        Some(bucket) => (bucket, path),
        None if path.is_empty() => return Ok(Address::Root),
        None => path.split_once('/').unwrap_or((path, "")),
    };
    judge_bucket(bucket)?;
    if key.is_empty() {
        return Ok(Address::Bucket { bucket });
    }
    Ok(Address::Object { bucket, key: key_of(key, Plus::Literal, config.unsafe_allow_dot_segments)? })
}

/// The bucket that the host names; none: path style.
fn bucket_of_host<'a>(head: &'a JudgedHead<'_>, config: &S3Config) -> Result<Option<&'a str>, Refusal> {
    let host: &str = &head.host;
    judge_spelling(head.authority, host)?;
    let is_listed = |list: &[String]| list.iter().any(|known| is_same_host(known, host));
    if is_ip(host) || host == "localhost" || is_listed(&config.hosts) || is_listed(&config.host_suffixes) {
        return Ok(None);
    }
    // Of `s3.example` and `example`, `raw.s3.example` is below the longer one.
    let below = |suffix: &String| host.strip_suffix(suffix.as_str())?.strip_suffix('.');
    config.host_suffixes.iter().filter_map(below).min_by_key(|bucket| bucket.len()).map(Some).ok_or_else(|| {
        let key =
            if host.contains('.') { "`hosts` (path style) or `host_suffixes` (`BUCKET.suffix`)" } else { "`hosts`" };
        let message = format!("host {} is not known here: list it in the listener's {key}", shown(host));
        Refusal::bad_request("unknown-host", message)
    })
}

/// The Host goes on as it is. A store that compares it exactly would not find its domain in `RAW.s3.example` or `raw.s3.example.`, and
/// read the bucket from the path.
fn judge_spelling(authority: &str, host: &str) -> Result<(), Refusal> {
    let is_plain = authority.strip_prefix(host).is_some_and(|port| port.is_empty() || port.starts_with(':'));
    if is_plain || host.starts_with('[') {
        return Ok(());
    }
    let message = format!("host {} is to be written {}", shown(authority), shown(host));
    Err(Refusal::bad_request("host-spelling", message))
}

fn is_ip(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.parse::<Ipv4Addr>().is_ok() || in_brackets.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

/// The naming rules of general purpose and directory buckets.
///
/// # Source
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html>
pub(super) fn judge_bucket(bucket: &str) -> Result<(), Refusal> {
    let is_alphanumeric =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = bucket.as_bytes();
    let is_name = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| is_alphanumeric(Some(byte)) || matches!(byte, b'.' | b'-'))
        && is_alphanumeric(bytes.first())
        && is_alphanumeric(bytes.last())
        && !bucket.contains("..")
        && bucket.parse::<Ipv4Addr>().is_err();
    if is_name {
        return Ok(());
    }
    let rule = if bucket.contains('%') { "encoded-bucket" } else { "bucket-name" };
    Err(Refusal::bad_request(rule, format!("{} is not a bucket name (3-63 of a-z, 0-9, `.`, `-`)", shown(bucket))))
}

/// The key that a store reads from its percent-encoded form: each `%XX` decoded once, `%2F` the key's own slash.
pub(super) fn key_of(encoded: &str, plus: Plus, allow_dot_segments: bool) -> Result<Cow<'_, str>, Refusal> {
    let key = decode(encoded, plus)
        .map_err(|error| Refusal::bad_request(error.rule(), format!("key {} has {error}", shown(encoded))))?;
    judge_key(&key, allow_dot_segments)?;
    Ok(key)
}

/// The rules of a decoded key, wherever it stands.
pub(super) fn judge_key(key: &str, allow_dot_segments: bool) -> Result<(), Refusal> {
    /// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html>
    const LONGEST_KEY: usize = 1024;
    if key.is_empty() || key.len() > LONGEST_KEY {
        return Err(Refusal::bad_request(
            "key-length",
            format!("a key has 1 to {LONGEST_KEY} bytes, this one {}", key.len()),
        ));
    }
    if key.contains('\0') {
        return Err(Refusal::bad_request("encoded-nul", format!("key {} has a NUL", shown(key))));
    }
    judge_segments(key, allow_dot_segments)
}

/// A store that resolves such segments would read another object than the one judged. The last segment of a prefix or of a folder's
/// key is empty, and that is well.
pub(super) fn judge_segments(key: &str, allow_dot_segments: bool) -> Result<(), Refusal> {
    if allow_dot_segments {
        return Ok(());
    }
    let mut segments = key.split('/').peekable();
    while let Some(segment) = segments.next() {
        if segment == "." || segment == ".." {
            return Err(Refusal::bad_request("dot-segment", format!("key {} has a `.` or `..` segment", shown(key))));
        }
        if segment.is_empty() && segments.peek().is_some() {
            return Err(Refusal::bad_request("empty-segment", format!("key {} has an empty segment", shown(key))));
        }
    }
    Ok(())
}

/// Only RFC 3986 path characters: what must be encoded is read differently where it is not.
fn judge_characters(path: &str) -> Result<(), Refusal> {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"/%-._~!$&'()*+,;=:@".contains(&byte);
    if path.bytes().all(is_legal) {
        return Ok(());
    }
    let message = format!("path {} has a character that must be percent-encoded (RFC 3986, 3.3)", shown(path));
    Err(Refusal::bad_request("path-character", message))
}

/// For fuzzing: whatever host and path (split by a line feed), no panic, and an address that is found obeys every rule.
pub fn fuzz(bytes: &[u8]) {
    let Some((host, path)) = std::str::from_utf8(bytes).ok().and_then(|text| text.split_once('\n')) else { return };
    let Ok(request) = http::Request::builder().uri(path).header("host", host).body(()) else { return };
    let (parts, ()) = request.into_parts();
    let config = S3Config { host_suffixes: vec!["s3.example".to_owned()], ..S3Config::default() };
    let rules = crate::mapping::head::HeadRules::s3(&crate::config::Limits::default());
    let Ok(head) = crate::mapping::head::judge(&parts, &rules) else { return };
    if let Ok(Address::Object { key, .. }) = address(&head, &config) {
        assert!(key.len() <= 1024 && !key.split('/').any(|segment| segment == ".." || segment == "."));
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;
    use crate::config::Limits;
    use crate::mapping::head::{HeadRules, judge};

    fn config() -> S3Config {
        S3Config {
            hosts: vec!["minio.data.svc".to_owned()],
            host_suffixes: vec!["example".to_owned(), "s3.example".to_owned()],
            ..S3Config::default()
        }
    }

    fn found_with(config: &S3Config, host: &str, path: &str) -> Result<String, Refusal> {
        let (parts, ()) = Request::builder().uri(path).header("host", host).body(()).unwrap().into_parts();
        let head = judge(&parts, &HeadRules::s3(&Limits::default()))?;
        Ok(match address(&head, config)? {
            Address::Root => "/".to_owned(),
            Address::Bucket { bucket } => format!("{bucket}/"),
            Address::Object { bucket, key } => format!("{bucket}/{key}"),
        })
    }

    fn found(host: &str, path: &str) -> Result<String, &'static str> {
        found_with(&config(), host, path).map_err(|refusal| refusal.rule)
    }

    #[test]
    fn both_styles_give_the_same_bucket_and_key() {
        for (host, path) in [
            ("127.0.0.1:9000", "/raw/ingest/a%20b.parquet"),
            ("[::1]:9000", "/raw/ingest/a%20b.parquet"),
            ("localhost", "/raw/ingest/a%20b.parquet"),
            ("minio.data.svc", "/raw/ingest/a%20b.parquet"),
            ("s3.example", "/raw/ingest/a%20b.parquet"),
            ("example", "/raw/ingest%2Fa%20b.parquet"),
            ("raw.s3.example", "/ingest/a%20b.parquet"),
            ("raw.s3.example:443", "/ingest/a%20b.parquet"),
            ("[2001:DB8::1]:443", "/raw/ingest/a%20b.parquet"),
            ("raw.example", "/ingest%2fa%20b.parquet"),
        ] {
            assert_eq!(found(host, path).as_deref(), Ok("raw/ingest/a b.parquet"), "{host}{path}");
        }
        assert_eq!(found("a.b.s3.example", "/k").as_deref(), Ok("a.b/k"));
        assert_eq!(found("localhost", "/").as_deref(), Ok("/"));
        assert_eq!(found("localhost", "/raw").as_deref(), Ok("raw/"));
        assert_eq!(found("localhost", "/raw/").as_deref(), Ok("raw/"));
        assert_eq!(found("raw.s3.example", "/").as_deref(), Ok("raw/"));
    }

    #[test]
    fn a_host_that_is_not_known_is_refused_with_the_key_to_set() {
        for host in ["lake.data.svc", "xs3.example.org", "raw-s3.exampl", "lake"] {
            let refusal = found_with(&config(), host, "/raw/k").unwrap_err();
            assert_eq!((refusal.status, refusal.rule), (400, "unknown-host"), "{host}");
            assert!(refusal.message.contains("`hosts`"), "{refusal}");
        }
        assert_eq!(found("xexample", "/raw/k"), Err("unknown-host"), "a suffix begins at a label");
    }

    #[test]
    fn a_host_that_a_store_may_not_recognize_is_refused() {
        for host in [
            "RAW.s3.example",
            "raw.S3.Example:443",
            "raw.s3.example.",
            "raw.s3.example.:443",
            "S3.example",
            "LocalHost",
        ] {
            assert_eq!(found(host, "/raw/k"), Err("host-spelling"), "{host}");
        }
    }

    #[test]
    fn the_key_is_what_the_store_decodes() {
        for (path, key) in [
            ("/raw/a+b", "raw/a+b"),
            ("/raw/a%2Bb", "raw/a+b"),
            ("/raw/a%252Fb", "raw/a%2Fb"),
            ("/raw/%C3%A9", "raw/é"),
            ("/raw/ingest/", "raw/ingest/"),
            ("/raw/a;b", "raw/a;b"),
            ("/raw/a%5Cb", "raw/a\\b"),
            ("/raw/...", "raw/..."),
            ("/raw/.hidden", "raw/.hidden"),
        ] {
            assert_eq!(found("localhost", path).as_deref(), Ok(key), "{path}");
        }
    }

    #[test]
    fn a_key_that_some_store_reads_as_another_is_refused() {
        for (path, rule) in [
            ("/raw/../other/k", "dot-segment"),
            ("/raw/a/%2e%2e/k", "dot-segment"),
            ("/raw/a%2F..%2Fk", "dot-segment"),
            ("/raw/.", "dot-segment"),
            ("/raw/a/./k", "dot-segment"),
            ("/raw//k", "empty-segment"),
            ("/raw/a%2F%2Fk", "empty-segment"),
            ("/raw/%2Fk", "empty-segment"),
            ("/raw/a//", "empty-segment"),
            ("/raw/%00", "encoded-nul"),
            ("/raw/%C0%AF", "invalid-utf8"),
            ("/raw/%FF", "invalid-utf8"),
            ("/raw/%zz", "invalid-percent"),
            ("/raw/a%", "invalid-percent"),
            ("/raw/a\\b", "path-character"),
            ("/raw/é", "path-character"),
            ("//raw/k", "bucket-name"),
            ("/../raw/k", "bucket-name"),
            ("/%72aw/k", "encoded-bucket"),
            ("/raw%2Fk", "encoded-bucket"),
            ("/RAW/k", "bucket-name"),
            ("/ra/k", "bucket-name"),
            ("/-raw/k", "bucket-name"),
            ("/raw-/k", "bucket-name"),
            ("/r..aw/k", "bucket-name"),
            ("/192.168.0.1/k", "bucket-name"),
            ("/ra_w/k", "bucket-name"),
        ] {
            assert_eq!(found("localhost", path), Err(rule), "{path}");
        }
        assert_eq!(found("raw.s3.example", "//k"), Err("empty-segment"));
        assert_eq!(found("ra_w.s3.example", "/k"), Err("bucket-name"));
        assert_eq!(found("localhost", &format!("/raw/{}", "a".repeat(1025))), Err("key-length"));
        assert!(found("localhost", &format!("/raw/{}", "a".repeat(1024))).is_ok());
    }

    #[test]
    fn dot_segments_are_a_keys_own_where_the_config_says_so() {
        let config = S3Config { unsafe_allow_dot_segments: true, ..config() };
        assert_eq!(found_with(&config, "localhost", "/raw/a/../b//c").as_deref(), Ok("raw/a/../b//c"));
        assert_eq!(found_with(&config, "localhost", "/raw/%00").unwrap_err().rule, "encoded-nul");
    }

    /// Decodes as a store does, without our decoder.
    fn as_a_store_decodes(path: &str) -> Vec<u8> {
        let mut decoded = Vec::new();
        let bytes = path.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'%' {
                decoded.push(u8::from_str_radix(std::str::from_utf8(&bytes[at + 1..at + 3]).unwrap(), 16).unwrap());
                at += 3;
            } else {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
        decoded
    }

    proptest! {
        #[test]
        fn the_judged_key_is_what_a_store_decodes_from_the_forwarded_target(key in "([a-zA-Z0-9._~!$&'()*+,;=:@/-]|%[0-9a-fA-F]{2}|%C3%A9){1,24}") {
            let path = format!("/raw/{key}");
            if let Ok(found) = found("localhost", &path) {
                let stored = as_a_store_decodes(&path);
                prop_assert_eq!(stored.strip_prefix(b"/").unwrap(), found.as_bytes());
            }
        }

        #[test]
        fn no_address_makes_it_panic(host in "[a-z0-9.:\\[\\]]{0,20}", path in "/[ -~é]{0,20}") {
            fuzz(format!("{host}\n{path}").as_bytes());
        }
    }
}
