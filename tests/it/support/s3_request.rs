//! S3 requests as text, signed by hand: what no SDK would send, and what only some SDKs do.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use bytes::Bytes;
use http::Request;
use time::OffsetDateTime;
use time::macros::format_description;

/// The body is not covered by the signature.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// One request: method, Host, target and fields exactly as they go on the wire.
#[derive(Debug, Clone)]
pub(crate) struct S3Request {
    pub(crate) method: String,
    pub(crate) host: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// An access key and its secret.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a> {
    pub(crate) access: &'a str,
    pub(crate) secret: &'a str,
}

impl S3Request {
    /// `line` is a method and a target: `GET /raw/a?acl`.
    pub(crate) fn new(host: &str, line: &str) -> Self {
        let (method, target) = line.split_once(' ').expect("is a method and a target");
        Self {
            method: method.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Signs Host and every header that it has by now in an `Authorization` header. `payload` is what
    /// `x-amz-content-sha256` says; none: the hash of the body.
    ///
    /// # Source
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
    pub(crate) fn signed(self, keys: Keys<'_>, payload: Option<&str>) -> Self {
        self.signed_with_seed(keys, payload).0
    }

    /// The same with what the signatures of chunks begin from.
    pub(crate) fn signed_with_seed(mut self, keys: Keys<'_>, payload: Option<&str>) -> (Self, ChunkSigner) {
        let stamp = stamp();
        let payload = payload.map_or_else(|| sha256(&self.body), str::to_owned);
        self = self.header("x-amz-date", &stamp).header("x-amz-content-sha256", &payload);
        let names = self.names(None);
        let signature = self.signature(keys, &stamp, &names, &payload);
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{},SignedHeaders={names},Signature={signature}",
            keys.access,
            scope(&stamp)
        );
        let chunks = ChunkSigner { key: signing_key(keys.secret, &stamp), stamp, previous: signature };
        (self.header("authorization", &authorization), chunks)
    }

    /// Signs in the query. Of the headers only Host and those of `signed_headers` are covered; the body is not.
    ///
    /// # Source
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html>
    pub(crate) fn presigned(mut self, keys: Keys<'_>, signed_headers: &[&str]) -> Self {
        let stamp = stamp();
        let names = self.names(Some(signed_headers));
        let credential = format!("{}/{}", keys.access, scope(&stamp)).replace('/', "%2F");
        let separator = if self.target.contains('?') { '&' } else { '?' };
        let _ = write!(
            self.target,
            "{separator}X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}&X-Amz-Date={stamp}\
             &X-Amz-Expires=300&X-Amz-SignedHeaders={}",
            names.replace(';', "%3B")
        );
        let signature = self.signature(keys, &stamp, &names, UNSIGNED_PAYLOAD);
        let _ = write!(self.target, "&X-Amz-Signature={signature}");
        self
    }

    /// As hyper sends it.
    pub(crate) fn into_request(self) -> Request<Bytes> {
        let mut request = Request::builder().method(&*self.method).uri(&self.target).header("host", &self.host);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body.into()).expect("is a request")
    }

    /// As HTTP/2 sends it: the Host is `:authority`.
    pub(crate) fn into_http2_request(self) -> Request<Bytes> {
        let uri = format!("http://{}{}", self.host, self.target);
        let mut request = Request::builder().method(&*self.method).uri(uri);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(self.body.into()).expect("is a request")
    }

    /// As bytes, where a library would not send it. A Content-Length is added to a body whose framing no header says.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let has = |wanted: &str| self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
        if !self.body.is_empty() && !has("content-length") && !has("transfer-encoding") {
            let _ = write!(head, "Content-Length: {}\r\n", self.body.len());
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// `SignedHeaders`: Host and those of `only`, else all.
    fn names(&self, only: Option<&[&str]>) -> String {
        let is_signed = |name: &String| only.is_none_or(|only| only.contains(&name.as_str()));
        let mut names: Vec<String> =
            self.headers.iter().map(|(name, _)| name.to_lowercase()).filter(is_signed).collect();
        names.push("host".to_owned());
        names.sort();
        names.join(";")
    }

    fn signature(&self, keys: Keys<'_>, stamp: &str, names: &str, payload: &str) -> String {
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let mut pairs: Vec<(&str, &str)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .collect();
        pairs.sort_unstable();
        let query: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut canonical = format!("{}\n{path}\n{}\n", self.method, query.join("&"));
        for name in names.split(';') {
            let value = self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
            let _ = writeln!(canonical, "{name}:{}", value.map_or(&*self.host, |(_, value)| value));
        }
        let _ = write!(canonical, "\n{names}\n{payload}");
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{}\n{}", scope(stamp), sha256(canonical.as_bytes()));
        hex(&mac(&signing_key(keys.secret, stamp), &to_sign))
    }
}

/// Signs the chunks of an `aws-chunked` body one after the other.
#[derive(Debug)]
pub(crate) struct ChunkSigner {
    key: Vec<u8>,
    stamp: String,
    previous: String,
}

impl ChunkSigner {
    /// The body in chunks of `size`, the last one empty.
    ///
    /// # Source
    /// <https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html>
    pub(crate) fn body(mut self, content: &[u8], size: usize) -> Vec<u8> {
        let mut body = Vec::new();
        for chunk in content.chunks(size).chain([&[][..]]) {
            let to_sign = format!(
                "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{}\n{}\n{}",
                self.stamp,
                scope(&self.stamp),
                self.previous,
                sha256(b""),
                sha256(chunk)
            );
            self.previous = hex(&mac(&self.key, &to_sign));
            body.extend_from_slice(format!("{:x};chunk-signature={}\r\n", chunk.len(), self.previous).as_bytes());
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        body
    }
}

/// The length of what [`ChunkSigner::body`] makes of so many bytes.
pub(crate) fn signed_chunks_length(length: usize, size: usize) -> usize {
    let chunk = |length: usize| format!("{length:x};chunk-signature=").len() + 64 + 2 + length + 2;
    let (whole, rest) = (length / size, length % size);
    whole * chunk(size) + if rest == 0 { 0 } else { chunk(rest) } + chunk(0)
}

/// SHA-256 in lower hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn stamp() -> String {
    let format = format_description!("[year][month][day]T[hour][minute][second]Z");
    OffsetDateTime::now_utc().format(&format).expect("the format has what a time has")
}

/// Year, month and day of a time stamp.
fn date(stamp: &str) -> &str {
    stamp.split_once('T').expect("is a time stamp").0
}

fn scope(stamp: &str) -> String {
    format!("{}/us-east-1/s3/aws4_request", date(stamp))
}

fn signing_key(secret: &str, stamp: &str) -> Vec<u8> {
    let start = format!("AWS4{secret}").into_bytes();
    [date(stamp), "us-east-1", "s3", "aws4_request"].iter().fold(start, |key, part| mac(&key, part))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
