//! The query of an S3 request: keys compared exactly after one decoding.
//!
//! The key of a query parameter decides the operation, so every reading but one is refused: a key that is repeated, encoded, in
//! another case, or separated by `;` means different things to different stores.

use std::borrow::Cow;

use crate::mapping::Refusal;
use crate::mapping::percent::{Plus, decode};
use crate::mapping::refusal::shown;

/// A query in which every key stands once, in the one spelling that all stores read alike.
#[derive(Debug, Default)]
pub(super) struct Query<'a> {
    /// What names the operation and what goes with it.
    pub(super) parameters: Vec<Parameter<'a>>,
    /// Headers that were hoisted into a presigned query: lower-case name and value.
    pub(super) hoisted: Vec<(String, Cow<'a, str>)>,
    /// Whether the request is signed in its URL.
    pub(super) presigned: bool,
    /// `X-Amz-SignedHeaders` of a presigned query.
    pub(super) signed_headers: Option<Cow<'a, str>>,
}

#[derive(Debug)]
pub(super) struct Parameter<'a> {
    pub(super) key: &'a str,
    pub(super) value: Cow<'a, str>,
}

/// Signature Version 4 in the query.
///
/// # Source
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
const SIGV4: [&str; 9] = [
    "X-Amz-Algorithm",
    "X-Amz-Content-Sha256",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-S3session-Token",
    "X-Amz-Security-Token",
    "X-Amz-Signature",
    "X-Amz-SignedHeaders",
];

/// Signature Version 2 in the query.
///
/// # Source
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html>
const SIGV2: [&str; 3] = ["AWSAccessKeyId", "Expires", "Signature"];

impl<'a> Query<'a> {
    /// # Errors
    /// Rules `query-separator`, `query-character`, `empty-query-pair`, `query-key`, `repeated-query-key`, `unsigned-hoisted-header`,
    /// and those of decoding.
    pub(super) fn parse(query: Option<&'a str>) -> Result<Self, Refusal> {
        let mut parsed = Self::default();
        let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(parsed) };
        judge_characters(query)?;
        let mut seen: Vec<&str> = Vec::new();
        for pair in query.split('&') {
            if pair.is_empty() {
                return Err(Refusal::bad_request(
                    "empty-query-pair",
                    "query has a `&` with nothing before or after it",
                ));
            }
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            judge_key(key)?;
            if seen.iter().any(|other| other.eq_ignore_ascii_case(key)) {
                return Err(Refusal::bad_request(
                    "repeated-query-key",
                    format!("query key {} is repeated", shown(key)),
                ));
            }
            seen.push(key);
            let value = decode(value, Plus::Space).map_err(|error| {
                Refusal::bad_request(error.rule(), format!("value of query key {} has {error}", shown(key)))
            })?;
            parsed.take(key, value);
        }
        if !parsed.hoisted.is_empty() && !parsed.presigned {
            let message = "query has headers, but the request is not presigned";
            return Err(Refusal::bad_request("unsigned-hoisted-header", message));
        }
        Ok(parsed)
    }

    fn take(&mut self, key: &'a str, value: Cow<'a, str>) {
        if SIGV4.contains(&key) {
            self.presigned |= matches!(key, "X-Amz-Algorithm" | "X-Amz-Signature");
            match key {
                "X-Amz-SignedHeaders" => self.signed_headers = Some(value),
                // Headers too, and judged as such.
                "X-Amz-Content-Sha256" => self.hoisted.push(("x-amz-content-sha256".to_owned(), value)),
                _ => {}
            }
        } else if SIGV2.contains(&key) {
            self.presigned |= key != "Expires";
        } else if matches!(key, "content-md5" | "content-type") {
            // Signature Version 2 hoists these two as well; they decide nothing.
            self.hoisted.push((key.to_owned(), value));
        } else if key.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("x-amz-")) {
            self.hoisted.push((key.to_ascii_lowercase(), value));
        } else if key != "x-id" {
            // `x-id` is an SDK's note to itself and never decides.
            self.parameters.push(Parameter { key, value });
        }
    }

    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.parameters.iter().find(|parameter| parameter.key == key).map(|parameter| &*parameter.value)
    }
}

fn judge_characters(query: &str) -> Result<(), Refusal> {
    let rule = match query.bytes().find(|byte| !byte.is_ascii_graphic() || matches!(byte, b';' | b'#')) {
        None => return Ok(()),
        Some(b';') => "query-separator",
        Some(_) => "query-character",
    };
    Err(Refusal::bad_request(rule, "query has a `;` or a character that must be encoded"))
}

/// Every key that S3 knows is of unreserved characters, so one that needs decoding is another spelling of something.
fn judge_key(key: &str) -> Result<(), Refusal> {
    if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
        return Ok(());
    }
    Err(Refusal::bad_request("query-key", format!("query key {} is not in its plain spelling", shown(key))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(query: &str) -> &'static str {
        Query::parse(Some(query)).map_or_else(|refusal| refusal.rule, |_| "allowed")
    }

    #[test]
    fn values_are_decoded_once_and_keys_are_plain() {
        let query = Query::parse(Some("list-type=2&prefix=a%2Fb+c%252F&acl&x-id=GetObject")).unwrap();
        assert_eq!(query.value("prefix"), Some("a/b c%2F"));
        assert_eq!(query.value("acl"), Some(""));
        assert_eq!(query.parameters.len(), 3);
        assert!(Query::parse(Some("")).unwrap().parameters.is_empty());
    }

    #[test]
    fn every_second_reading_is_refused() {
        for (query, expected) in [
            ("acl&acl", "repeated-query-key"),
            ("versionId=a&versionId=a", "repeated-query-key"),
            ("prefix=a&Prefix=b", "repeated-query-key"),
            ("acl;tagging", "query-separator"),
            ("prefix=a;b", "query-separator"),
            ("%61cl", "query-key"),
            ("acl%00", "query-key"),
            ("a+cl", "query-key"),
            ("acl[]", "query-key"),
            ("=x", "query-key"),
            ("&acl", "empty-query-pair"),
            ("acl&", "empty-query-pair"),
            ("acl&&tagging", "empty-query-pair"),
            ("prefix=%", "invalid-percent"),
            ("prefix=%FF", "invalid-utf8"),
            ("prefix=%00", "encoded-nul"),
            ("prefix=é", "query-character"),
            ("X-Amz-Acl=private", "unsigned-hoisted-header"),
            ("x-amz-signature=0", "unsigned-hoisted-header"),
        ] {
            assert_eq!(rule(query), expected, "{query}");
        }
    }

    #[test]
    fn a_presigned_query_is_known_and_its_hoisted_headers_are_found() {
        let query = Query::parse(Some(
            "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=k%2F20261121&X-Amz-Date=20261121T000000Z&X-Amz-Expires=60\
             &X-Amz-SignedHeaders=host%3Bx-amz-acl&X-Amz-Signature=0&x-amz-acl=private&X-Amz-Tagging=a%3Db",
        ))
        .unwrap();
        assert!(query.presigned && query.parameters.is_empty());
        assert_eq!(query.signed_headers.as_deref(), Some("host;x-amz-acl"));
        assert_eq!(
            query.hoisted,
            [("x-amz-acl".to_owned(), "private".into()), ("x-amz-tagging".to_owned(), "a=b".into())]
        );
        assert!(Query::parse(Some("AWSAccessKeyId=k&Expires=1&Signature=s&content-type=a%2Fb")).unwrap().presigned);
        assert_eq!(rule("content-type=a"), "unsigned-hoisted-header");
    }
}
