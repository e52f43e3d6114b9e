//! DeleteObjects: one operation per key of its body.
//!
//! All permitted: the body goes on byte for byte. Some denied: a body that is not covered by a signature is written anew with the
//! allowed keys; a signed one is not forwarded at all. The answer names every key either way.

use super::checksum::{Checksums, Rewritable};
use super::xml::{self, Element};
use crate::mapping::s3::address::judge_key;
use crate::mapping::{Action, Context, Operation, Operations, Refusal, Resource};

/// A DeleteObjects whose body is still to be read.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteObjects {
    pub(in crate::mapping::s3) endpoint: Box<str>,
    pub(in crate::mapping::s3) bucket: Box<str>,
    /// Of a key without a version, and of one with.
    pub(in crate::mapping::s3) contexts: [Context; 2],
    pub(in crate::mapping::s3) bypass_retention: bool,
    pub(in crate::mapping::s3) allow_dot_segments: bool,
    pub(in crate::mapping::s3) rewritable: Option<Rewritable>,
}

const NAMES: [&str; 8] = ["Delete", "Object", "Key", "VersionId", "ETag", "LastModifiedTime", "Size", "Quiet"];

/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html>
const MOST_KEYS: usize = 1000;

impl DeleteObjects {
    /// Reads the body, whole and as received.
    ///
    /// # Errors
    /// Rules `body-digest`, `malformed-xml`, `ambiguous-key`, and those of keys.
    pub fn parse(&self, body: &[u8]) -> Result<DeleteRequest, Refusal> {
        if let Some(rewritable) = &self.rewritable {
            rewritable.verify(body)?;
        }
        let root = xml::parse(body, &NAMES, 2 + MOST_KEYS * 6)?;
        if root.name != "Delete" {
            return Err(xml::refuse("body is not a Delete"));
        }
        let quiet = match root.only("Quiet")?.map(|quiet| &*quiet.text) {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(xml::refuse("`Quiet` is neither `true` nor `false`")),
        };
        let objects: Vec<_> = root.children.iter().filter(|child| child.name != "Quiet").collect();
        if objects.is_empty() || objects.len() > MOST_KEYS {
            return Err(xml::refuse(format!("a Delete has 1 to {MOST_KEYS} keys, this one {}", objects.len())));
        }
        let keys = objects.into_iter().map(|object| self.key(object)).collect::<Result<_, _>>()?;
        Ok(DeleteRequest { asked: self.clone(), keys, quiet })
    }

    /// Whether the body may be written anew: no signature covers it or a header that would change with it.
    #[must_use]
    pub const fn may_rewrite(&self) -> bool {
        self.rewritable.is_some()
    }

    fn key(&self, object: &Element) -> Result<DeletedKey, Refusal> {
        if object.name != "Object"
            || object.children.iter().any(|child| matches!(child.name, "Delete" | "Object" | "Quiet"))
        {
            return Err(xml::refuse(format!("`{}` has no place there", object.name)));
        }
        if object.children.iter().any(|child| !child.children.is_empty()) {
            return Err(xml::refuse("an element of `Object` has elements"));
        }
        let text = |name| object.only(name).map(|child| child.map(|child| child.text.clone()));
        let key = text("Key")?.ok_or_else(|| xml::refuse("an `Object` has no `Key`"))?;
        judge_key(&key, self.allow_dot_segments)?;
        let version_id = text("VersionId")?;
        if version_id.as_deref() == Some("") {
            return Err(xml::refuse("a `VersionId` is empty"));
        }
        // Some XML parsers trim text, and would remove another key.
        if [Some(&key), version_id.as_ref()].into_iter().flatten().any(|text| text.trim() != *text) {
            return Err(Refusal::bad_request("ambiguous-key", "a key or version begins or ends with white space"));
        }
        let conditions = ["ETag", "LastModifiedTime", "Size"]
            .into_iter()
            .filter_map(|name| text(name).transpose().map(|value| value.map(|value| (name, value))))
            .collect::<Result<_, _>>()?;
        Ok(DeletedKey { key, version_id, conditions })
    }
}

/// One key to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedKey {
    /// The key.
    pub key: String,
    /// The version, if one is named.
    pub version_id: Option<String>,
    conditions: Vec<(&'static str, String)>,
}

/// A DeleteObjects whose body is read.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteRequest {
    asked: DeleteObjects,
    keys: Vec<DeletedKey>,
    quiet: bool,
}

impl DeleteRequest {
    /// The keys in the order of the body.
    #[must_use]
    pub fn keys(&self) -> &[DeletedKey] {
        &self.keys
    }

    /// Whether the client wants to hear of errors only.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// What is asked: one operation per key in the order of the keys; where governance retention is to be bypassed, then one
    /// `s3:BypassGovernanceRetention` per key in the same order. [`Self::allowed_keys`] reads the verdicts.
    #[must_use]
    pub fn operations(&self) -> Operations {
        let deletes = self.keys.iter().map(|key| {
            let action = if key.version_id.is_some() { "s3:DeleteObjectVersion" } else { "s3:DeleteObject" };
            self.operation(key, action)
        });
        let bypasses = self.keys.iter().filter(|_| self.asked.bypass_retention);
        let all = deletes.chain(bypasses.map(|key| self.operation(key, "s3:BypassGovernanceRetention"))).collect();
        // INVARIANT: `parse` makes no request without keys. The bucket itself is asked about in its place.
        Operations::all(all).unwrap_or_else(|| Operations::one(self.whole_bucket()))
    }

    /// From the verdict of each operation to that of each key: a key is allowed if all that is asked of it is.
    #[must_use]
    pub fn allowed_keys(&self, allowed_operations: &[bool]) -> Vec<bool> {
        let is_allowed = |at: usize| allowed_operations.get(at).copied().unwrap_or(false);
        (0..self.keys.len())
            .map(|at| is_allowed(at) && (!self.asked.bypass_retention || is_allowed(self.keys.len() + at)))
            .collect()
    }

    /// The body with the allowed keys only, and the headers that go with it; nothing where the body may not be rewritten
    /// ([`DeleteObjects::may_rewrite`]) or no key is allowed.
    #[must_use]
    pub fn rewrite(&self, allowed_keys: &[bool]) -> Option<RewrittenBody> {
        let rewritable = self.asked.rewritable.as_ref()?;
        let mut body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Delete xmlns=\"{}\">", xml::NAMESPACE);
        let mut is_empty = true;
        for (key, _) in self.keys.iter().zip(allowed_keys).filter(|(_, allowed)| **allowed) {
            is_empty = false;
            body.push_str("<Object>");
            key.write(&mut body);
            for (name, value) in &key.conditions {
                xml::element(name, value, &mut body);
            }
            body.push_str("</Object>");
        }
        if is_empty {
            return None;
        }
        if self.quiet {
            xml::element("Quiet", "true", &mut body);
        }
        body.push_str("</Delete>");
        let checksums = rewritable.checksums_of(body.as_bytes());
        Some(RewrittenBody { body: body.into(), checksums })
    }

    /// The whole answer where nothing is forwarded: AccessDenied for each denied key, OperationAborted for the rest.
    #[must_use]
    pub fn refused_result(&self, allowed_keys: &[bool]) -> String {
        let mut xml =
            format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult xmlns=\"{}\">", xml::NAMESPACE);
        for (at, key) in self.keys.iter().enumerate() {
            let allowed = allowed_keys.get(at).copied().unwrap_or(false);
            let (code, message) =
                if allowed { ("OperationAborted", "Another key of this request was denied.") } else { DENIED };
            key.write_error(code, message, &mut xml);
        }
        xml.push_str("</DeleteResult>");
        xml
    }

    /// The upstream's answer to a rewritten body with an AccessDenied for each denied key put in; nothing if that answer is no
    /// DeleteResult, and then it stands as it is.
    #[must_use]
    pub fn merged_result(&self, upstream: &[u8], allowed_keys: &[bool]) -> Option<String> {
        let upstream = std::str::from_utf8(upstream).ok()?;
        let (head, tail) = xml::before_end_of_root(upstream, "DeleteResult")?;
        let mut xml = head;
        for (at, key) in self.keys.iter().enumerate() {
            if !allowed_keys.get(at).copied().unwrap_or(false) {
                key.write_error(DENIED.0, DENIED.1, &mut xml);
            }
        }
        xml.push_str(&tail);
        Some(xml)
    }

    fn operation(&self, key: &DeletedKey, action: &'static str) -> Operation {
        let [plain, versioned] = &self.asked.contexts;
        let context = if key.version_id.is_some() { versioned } else { plain };
        Operation {
            action: Action::named(action),
            resource: Resource::object(&self.asked.endpoint, &self.asked.bucket, &key.key),
            context: context.clone(),
        }
    }

    fn whole_bucket(&self) -> Operation {
        let [plain, _] = &self.asked.contexts;
        let resource = Resource::bucket(&self.asked.endpoint, &self.asked.bucket);
        Operation { action: Action::named("s3:DeleteObject"), resource, context: plain.clone() }
    }
}

const DENIED: (&str, &str) = ("AccessDenied", "Access Denied");

impl DeletedKey {
    fn write(&self, xml: &mut String) {
        xml::element("Key", &self.key, xml);
        if let Some(version_id) = &self.version_id {
            xml::element("VersionId", version_id, xml);
        }
    }

    fn write_error(&self, code: &str, message: &str, xml: &mut String) {
        xml.push_str("<Error>");
        self.write(xml);
        xml::element("Code", code, xml);
        xml::element("Message", message, xml);
        xml.push_str("</Error>");
    }
}

/// A body with fewer keys, and the headers that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrittenBody {
    /// The body.
    pub body: bytes::Bytes,
    /// Its length and digests.
    pub checksums: Checksums,
}

/// For fuzzing: whatever the body, no panic, and a body that is written anew reads as the allowed keys.
pub fn fuzz(body: &[u8]) {
    let asked = DeleteObjects {
        endpoint: "lake".into(),
        bucket: "raw".into(),
        contexts: Default::default(),
        bypass_retention: body.len().is_multiple_of(2),
        allow_dot_segments: false,
        rewritable: Some(Rewritable::default()),
    };
    let Ok(request) = asked.parse(body) else { return };
    assert_eq!(request.operations().len() % request.keys.len(), 0);
    let allowed: Vec<bool> = (0..request.keys.len()).map(|at| at % 3 != 0).collect();
    let kept: Vec<_> =
        request.keys.iter().zip(&allowed).filter(|(_, allowed)| **allowed).map(|(key, _)| key.clone()).collect();
    match request.rewrite(&allowed) {
        None => assert!(kept.is_empty()),
        Some(rewritten) => assert_eq!(asked.parse(&rewritten.body).map(|again| again.keys), Ok(kept)),
    }
    assert!(request.merged_result(request.refused_result(&allowed).as_bytes(), &allowed).is_some());
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::mapping::s3::headers::Deciding;
    use crate::mapping::s3::query::Query;

    fn asked_with(headers: &HeaderMap, query: &str, bypass_retention: bool) -> DeleteObjects {
        let query = Query::parse(Some(query)).unwrap();
        let deciding = Deciding::collect(headers, &query).unwrap();
        DeleteObjects {
            endpoint: "lake".into(),
            bucket: "raw".into(),
            contexts: Default::default(),
            bypass_retention,
            allow_dot_segments: false,
            rewritable: Rewritable::of(headers, &query, &deciding),
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
            .collect()
    }

    fn asked() -> DeleteObjects {
        asked_with(&HeaderMap::new(), "delete", false)
    }

    const BODY: &str = "<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>c/d</Key><VersionId>v1</VersionId><ETag>\"e\"</ETag></Object><Quiet>true</Quiet></Delete>";

    fn asks(request: &DeleteRequest) -> Vec<String> {
        request
            .operations()
            .iter()
            .map(|operation| format!("{} {}", operation.action, operation.resource.id()))
            .collect()
    }

    #[test]
    fn each_key_is_an_operation() {
        let request = asked().parse(BODY.as_bytes()).unwrap();
        assert!(request.is_quiet());
        assert_eq!(asks(&request), ["s3:DeleteObject lake/raw/a&b", "s3:DeleteObjectVersion lake/raw/c/d"]);
        assert_eq!(request.allowed_keys(&[true, false]), [true, false]);
        assert_eq!(request.allowed_keys(&[]), [false, false]);
    }

    #[test]
    fn bypassing_governance_retention_is_asked_of_each_key_too() {
        let request = asked_with(&HeaderMap::new(), "delete", true).parse(BODY.as_bytes()).unwrap();
        assert_eq!(
            asks(&request)[2..],
            ["s3:BypassGovernanceRetention lake/raw/a&b", "s3:BypassGovernanceRetention lake/raw/c/d"]
        );
        assert_eq!(request.allowed_keys(&[true, true, false, true]), [false, true]);
    }

    #[test]
    fn a_body_that_could_be_read_in_another_way_is_refused() {
        let object = |inner: &str| format!("<Delete><Object>{inner}</Object></Delete>");
        for (body, rule) in [
            (object(""), "malformed-xml"),
            (object("<Key>a</Key><Key>b</Key>"), "malformed-xml"),
            (object("<Key>a</Key><Other/>"), "malformed-xml"),
            (object("<Key><Key>a</Key></Key>"), "malformed-xml"),
            (object("<Key>a</Key><VersionId/>"), "malformed-xml"),
            (object("<Key>a</Key><Quiet>true</Quiet>"), "malformed-xml"),
            (object("<Key/>"), "key-length"),
            (object("<Key>../b</Key>"), "dot-segment"),
            (object("<Key>a//b</Key>"), "empty-segment"),
            (object("<Key> a</Key>"), "ambiguous-key"),
            (object("<Key>a&#10;</Key>"), "ambiguous-key"),
            (object("<Key>a<!-- --></Key>"), "malformed-xml"),
            (object(&format!("<Key>{}</Key>", "a".repeat(1025))), "key-length"),
            ("<Delete/>".to_owned(), "malformed-xml"),
            ("<Delete><Key>a</Key></Delete>".to_owned(), "malformed-xml"),
            ("<Delete><Quiet>yes</Quiet><Object><Key>a</Key></Object></Delete>".to_owned(), "malformed-xml"),
            ("<Object><Key>a</Key></Object>".to_owned(), "malformed-xml"),
            (format!("<Delete>{}</Delete>", "<Object><Key>a</Key></Object>".repeat(1001)), "malformed-xml"),
        ] {
            assert_eq!(asked().parse(body.as_bytes()).unwrap_err().rule, rule, "{body}");
        }
        let most = format!("<Delete>{}</Delete>", "<Object><Key>a</Key></Object>".repeat(1000));
        assert_eq!(asked().parse(most.as_bytes()).unwrap().keys().len(), 1000);
    }

    #[test]
    fn a_body_that_no_signature_covers_may_be_rewritten() {
        let sigv4 = |signed: &str| {
            format!("AWS4-HMAC-SHA256 Credential=k/20261121/r/s3/aws4_request, SignedHeaders={signed}, Signature=0")
        };
        let unsigned = ("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
        for (pairs, query, may) in [
            (vec![], "delete", true),
            (vec![("x-amz-content-sha256", "0123")], "delete", true),
            (vec![("authorization", &*sigv4("host;x-amz-date")), unsigned], "delete", true),
            (vec![("authorization", &*sigv4("host;x-amz-date")), ("x-amz-content-sha256", "0123")], "delete", false),
            (
                vec![
                    ("authorization", &*sigv4("host")),
                    ("x-amz-content-sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"),
                ],
                "delete",
                false,
            ),
            (vec![("authorization", &*sigv4("host"))], "delete", false),
            (vec![("authorization", &*sigv4("Content-MD5;host")), unsigned, ("content-md5", "x")], "delete", false),
            (
                vec![("authorization", &*sigv4("host;x-amz-checksum-crc32")), unsigned, ("x-amz-checksum-crc32", "x")],
                "delete",
                false,
            ),
            (vec![("authorization", "AWS k:signature")], "delete", false),
            (vec![("authorization", "Bearer token")], "delete", false),
            (vec![], "delete&X-Amz-Algorithm=A&X-Amz-SignedHeaders=host&X-Amz-Signature=0", true),
            (vec![unsigned], "delete&X-Amz-Algorithm=A&X-Amz-SignedHeaders=host&X-Amz-Signature=0", true),
            (
                vec![("x-amz-content-sha256", "0123")],
                "delete&X-Amz-Algorithm=A&X-Amz-SignedHeaders=host&X-Amz-Signature=0",
                false,
            ),
            (
                vec![],
                "delete&X-Amz-Algorithm=A&X-Amz-SignedHeaders=host&X-Amz-Signature=0&X-Amz-Content-Sha256=0123",
                false,
            ),
            (vec![], "delete&AWSAccessKeyId=k&Expires=1&Signature=s", false),
        ] {
            assert_eq!(asked_with(&headers(&pairs), query, false).may_rewrite(), may, "{pairs:?} {query}");
        }
    }

    #[test]
    fn a_rewritten_body_has_the_allowed_keys_and_true_checksums() {
        let mut head = headers(&[
            ("content-length", "1"),
            ("transfer-encoding", "chunked"),
            ("content-md5", "HFDDq0zWsF1oEqGoJeQ2dw=="),
            ("x-amz-checksum-crc32", "/niCCQ=="),
            ("x-amz-checksum-sha256", "VDHrjdjZHQupF9N8qjeGz6prDwPHp4mVJ4qQOygayiU="),
            ("x-amz-checksum-xxhash64", "old"),
            ("x-amz-sdk-checksum-algorithm", "XXHASH64"),
            ("x-amz-content-sha256", "5431eb8dd8d91d0ba917d37caa3786cfaa6b0f03c7a78995278a903b281aca25"),
        ]);
        let request = asked_with(&head, "delete", false).parse(BODY.as_bytes()).unwrap();
        let rewritten = request.rewrite(&[false, true]).unwrap();
        let expected = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                        <Object><Key>c/d</Key><VersionId>v1</VersionId><ETag>&quot;e&quot;</ETag></Object><Quiet>true</Quiet></Delete>";
        assert_eq!(rewritten.body, expected);
        rewritten.checksums.apply(&mut head);
        let value = |name: &str| head.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(value("content-length"), Some(&*expected.len().to_string()));
        assert_eq!(value("transfer-encoding"), None);
        assert_eq!(value("x-amz-checksum-xxhash64"), None);
        assert_eq!(value("x-amz-sdk-checksum-algorithm"), None);
        // Computed with Python's hashlib, zlib and base64 over the expected body.
        assert_eq!(value("content-md5"), Some("cvUndW5GlS98rhXzqSXlww=="));
        assert_eq!(value("x-amz-checksum-crc32"), Some("m78HGg=="));
        assert_eq!(value("x-amz-checksum-sha256"), Some("buBRrWCnjnnYsUyho1iVcOO6xbF06TypwY51ZNGNOQg="));
        assert_eq!(
            value("x-amz-content-sha256"),
            Some("6ee051ad60a78e79d8b14ca1a3589570e3bac5b174e93ca9c18e7564d18d3908")
        );
        assert!(request.rewrite(&[false, false]).is_none());
    }

    #[test]
    fn a_body_that_its_digest_was_not_made_of_is_refused() {
        for (name, value, verdict) in [
            ("content-md5", "HFDDq0zWsF1oEqGoJeQ2dw==", Ok(())),
            ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==", Err("body-digest")),
            ("x-amz-checksum-crc32", "AAAAAA==", Err("body-digest")),
            ("x-amz-checksum-type", "FULL_OBJECT", Ok(())),
            ("x-amz-content-sha256", "5431eb8dd8d91d0ba917d37caa3786cfaa6b0f03c7a78995278a903b281aca25", Ok(())),
            ("x-amz-content-sha256", "5431", Err("body-digest")),
            ("x-amz-content-sha256", "UNSIGNED-PAYLOAD", Ok(())),
        ] {
            let parsed = asked_with(&headers(&[(name, value)]), "delete", false).parse(BODY.as_bytes());
            assert_eq!(parsed.map(|_| ()).map_err(|refusal| refusal.rule), verdict, "{name}: {value}");
        }
        // A signature covers the body: the store verifies it.
        let signed = [
            ("authorization", "AWS4-HMAC-SHA256 Credential=k, SignedHeaders=host, Signature=0"),
            ("content-md5", "old"),
        ];
        assert!(asked_with(&headers(&signed), "delete", false).parse(BODY.as_bytes()).is_ok());
    }

    #[test]
    fn the_result_names_every_key() {
        let request = asked().parse(BODY.as_bytes()).unwrap();
        let refused = request.refused_result(&[true, false]);
        assert!(refused.contains("<Error><Key>a&amp;b</Key><Code>OperationAborted</Code>"), "{refused}");
        assert!(
            refused.contains("<Error><Key>c/d</Key><VersionId>v1</VersionId><Code>AccessDenied</Code>"),
            "{refused}"
        );
        let upstream = "<?xml version=\"1.0\"?><DeleteResult><Deleted><Key>a&amp;b</Key></Deleted></DeleteResult>";
        let merged = request.merged_result(upstream.as_bytes(), &[true, false]).unwrap();
        assert_eq!(
            merged,
            "<?xml version=\"1.0\"?><DeleteResult><Deleted><Key>a&amp;b</Key></Deleted><Error><Key>c/d</Key><VersionId>v1</VersionId>\
             <Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>"
        );
        assert_eq!(request.merged_result(b"<Error/>", &[true, false]), None);
    }

    proptest! {
        #[test]
        fn any_list_of_keys_survives_the_rewriting(keys in proptest::collection::vec("[a-z<>&\"'\u{1}\u{e9} /]{1,8}", 1..6)) {
            let mut body = String::from("<Delete>");
            for key in &keys {
                body.push_str("<Object>");
                xml::element("Key", key, &mut body);
                body.push_str("</Object>");
            }
            body.push_str("</Delete>");
            fuzz(body.as_bytes());
        }

        #[test]
        fn no_body_makes_it_panic(body in "<Delete>((<Object>|</Object>|<Key>a</Key>|<Key>|[a-z&;<]|<Quiet>true</Quiet>)){0,8}</Delete>") {
            fuzz(body.as_bytes());
        }
    }
}
