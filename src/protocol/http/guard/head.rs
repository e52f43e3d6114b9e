//! The judgement of one request head, line by line as its bytes come.

use http::Uri;
use memchr::memchr;

use super::fields::{Field, all_in, all_token, blame, class, line};
use super::verdict::{Framing, HeadFacts, HeadLimits, HeadRefusal, shown};
use crate::mapping::public_part;

/// A head under judgement. Every line is looked at once, however the transport splits the bytes.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Where the line starts that is not complete yet, from the head's first byte.
    line: usize,
    /// How far that line was searched for its end.
    searched: usize,
    fields: usize,
    blank_line_before: bool,
    request: Option<RequestLine>,
    host: bool,
    content_length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

/// How far a head came.
#[derive(Debug)]
pub(super) enum Scan {
    More,
    Complete(HeadFacts),
    Refused(HeadRefusal),
}

impl HeadScan {
    /// Goes on with a head; `bytes` starts at its first byte and may go beyond its last.
    pub(super) fn scan(&mut self, bytes: &[u8], limits: &HeadLimits) -> Scan {
        loop {
            let complete = line(bytes, self.line, self.searched);
            // Before the line itself: the limit would have been met while the line was still on its way.
            if complete.as_ref().map_or(bytes.len(), |line| line.next) > limits.header_bytes {
                return Scan::Refused(self.too_long(limits));
            }
            let Some(line) = complete else {
                self.searched = bytes.len();
                return Scan::More;
            };
            (self.line, self.searched) = (line.next, line.next);
            match line.text.and_then(|text| self.take(text, limits).map_err(|refusal| blame(text, refusal))) {
                Ok(false) => {}
                Ok(true) => return self.finish(line.next).map_or_else(Scan::Refused, Scan::Complete),
                Err(refusal) => return Scan::Refused(refusal),
            }
        }
    }

    /// Takes the next line; `true` if it is the empty one that ends the head.
    fn take(&mut self, text: &[u8], limits: &HeadLimits) -> Result<bool, HeadRefusal> {
        let Some(request) = self.request else {
            if text.is_empty() {
                // RFC 9112, 2.2: a server ought to ignore at least one empty line before the request line. One it is.
                if self.blank_line_before {
                    return Err(HeadRefusal::bad("empty-line", "more than one empty line before the request line"));
                }
                self.blank_line_before = true;
                return Ok(false);
            }
            self.request = Some(RequestLine::parse(text, limits)?);
            return Ok(false);
        };
        if text.is_empty() {
            return Ok(true);
        }
        self.fields += 1;
        if self.fields > limits.header_count {
            return Err(HeadRefusal::new(
                431,
                "header-count",
                format!("more than {} field lines", limits.header_count),
            ));
        }
        let field = Field::parse(text)?;
        // Nearly every field is none of these, and its length says so.
        match field.name.len() {
            4 if field.is("host") => self.host(),
            7 if field.is("upgrade") => {
                self.upgrade = true;
                Ok(())
            }
            14 if field.is("content-length") => self.content_length(field.value),
            17 if field.is("transfer-encoding") => self.transfer_encoding(field.value, request),
            _ => Ok(()),
        }?;
        Ok(false)
    }

    fn host(&mut self) -> Result<(), HeadRefusal> {
        if self.host {
            return Err(HeadRefusal::bad("host-repeated", "more than one host field"));
        }
        self.host = true;
        Ok(())
    }

    /// One `1*DIGIT`. RFC 9112, 6.3, would let a recipient take equal ones as one; two readers may not agree on which.
    fn content_length(&mut self, value: &[u8]) -> Result<(), HeadRefusal> {
        if self.chunked {
            return Err(length_with_encoding());
        }
        if self.content_length.is_some() {
            return Err(HeadRefusal::bad("content-length-repeated", "more than one content-length field"));
        }
        if value.len() > 1 && value.starts_with(b"0") {
            // Some readers would take it for octal.
            let message = format!("content length {} has a zero before it", shown(value));
            return Err(HeadRefusal::bad("content-length", message));
        }
        self.content_length = Some(content_length(value)?);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8], request: RequestLine) -> Result<(), HeadRefusal> {
        if request.version == Version::Http10 {
            // RFC 9112, 6.1: its framing is faulty, whatever the value.
            return Err(HeadRefusal::bad("transfer-encoding-version", "transfer-encoding in an HTTP/1.0 request"));
        }
        if self.content_length.is_some() {
            return Err(length_with_encoding());
        }
        if self.chunked {
            return Err(HeadRefusal::bad("transfer-encoding-repeated", "more than one transfer-encoding field"));
        }
        transfer_encoding(value)?;
        self.chunked = true;
        Ok(())
    }

    fn finish(&self, bytes: usize) -> Result<HeadFacts, HeadRefusal> {
        let request = self.request.unwrap_or_default();
        if !self.host && request.version == Version::Http11 {
            // RFC 9112, 3.2.
            return Err(HeadRefusal::bad("host-missing", "no host field"));
        }
        let framing = match self.content_length {
            Some(0) => Framing::Empty,
            Some(length) => Framing::Length(length),
            None if self.chunked => Framing::Chunked,
            None => Framing::Empty,
        };
        let asks_upgrade = self.upgrade && request.is_get && request.version == Version::Http11;
        Ok(HeadFacts { framing, asks_upgrade, bytes })
    }

    fn too_long(&self, limits: &HeadLimits) -> HeadRefusal {
        if self.request.is_none() {
            let most = limits.header_bytes;
            return HeadRefusal::new(
                414,
                "target-length",
                format!("request line is longer than a head's {most} bytes"),
            );
        }
        HeadRefusal::new(431, "header-bytes", format!("head is longer than {} bytes", limits.header_bytes))
    }
}

fn length_with_encoding() -> HeadRefusal {
    HeadRefusal::bad("content-length-with-transfer-encoding", "both content-length and transfer-encoding")
}

/// Reads a `content-length`: digits only, at most 2^63 - 1.
pub(super) fn content_length(value: &[u8]) -> Result<u64, HeadRefusal> {
    let wrong = || HeadRefusal::bad("content-length", format!("{} is not a content length", shown(value)));
    // `parse` would take a sign.
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(wrong());
    }
    let digits = std::str::from_utf8(value).map_err(|_| wrong())?;
    digits.parse::<u64>().ok().filter(|length| *length <= i64::MAX as u64).ok_or_else(wrong)
}

/// Takes `chunked` in any case (coding names are case-insensitive, RFC 9112, 7) and nothing else:
/// other codings are 501 (6.1), a `chunked` that is repeated or has parameters is 400.
pub(super) fn transfer_encoding(value: &[u8]) -> Result<(), HeadRefusal> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let codings = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let unknown = codings().all(all_token_and_some) && codings().any(|coding| !coding.eq_ignore_ascii_case(b"chunked"));
    let status = if unknown { 501 } else { 400 };
    Err(HeadRefusal::new(status, "transfer-encoding", format!("transfer-encoding {} is not `chunked`", shown(value))))
}

fn all_token_and_some(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all_token(bytes)
}

#[derive(Debug, Clone, Copy, Default)]
struct RequestLine {
    version: Version,
    is_get: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Version {
    Http10,
    #[default]
    Http11,
}

impl RequestLine {
    /// `method SP request-target SP HTTP-version` with exactly these spaces (RFC 9112, 3; its lenient splitting is not done).
    fn parse(text: &[u8], limits: &HeadLimits) -> Result<Self, HeadRefusal> {
        let wrong = || HeadRefusal::bad("request-line", format!("{} is not a request line", shown(&public_part(text))));
        let (method, rest) = split_at_space(text).ok_or_else(wrong)?;
        let (target, version) = split_at_space(rest).ok_or_else(wrong)?;
        if method.is_empty() || target.is_empty() {
            return Err(wrong());
        }
        let version = match version {
            b"HTTP/1.1" => Version::Http11,
            b"HTTP/1.0" => Version::Http10,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit() => {
                return Err(HeadRefusal::new(505, "version", format!("version {} is not spoken here", shown(version))));
            }
            _ => return Err(wrong()),
        };
        if !all_token(method) {
            return Err(HeadRefusal::bad("method", format!("{} is not a method", shown(method))));
        }
        judge_target(method, target, limits)?;
        Ok(Self { version, is_get: method == b"GET" })
    }
}

fn split_at_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let (before, rest) = text.split_at_checked(memchr(b' ', text)?)?;
    Some((before, rest.get(1..)?))
}

/// The four forms of RFC 9112, 3.2. What a path may hold is decided where paths are judged; here it is only whether
/// hyper reads the same bytes: it drops a fragment, and refuses what is outside [`TARGET`] without calling the service.
fn judge_target(method: &[u8], target: &[u8], limits: &HeadLimits) -> Result<(), HeadRefusal> {
    const MOST: usize = 65_534;
    let most = limits.uri_bytes.min(MOST);
    if target.len() > most {
        return Err(HeadRefusal::new(414, "target-length", format!("request target is longer than {most} bytes")));
    }
    if !all_in(&TARGET, target) {
        let foreign = target.iter().find(|byte| !all_in(&TARGET, &[**byte]));
        let byte = foreign.unwrap_or(&b' ');
        return Err(match byte {
            b'\t' => HeadRefusal::bad("request-line", "tab in the request target"),
            b'#' => {
                HeadRefusal::bad("fragment", format!("request target {} has a fragment", shown(&public_part(target))))
            }
            _ => HeadRefusal::bad(
                "target-character",
                format!(
                    "request target {} has a byte 0x{byte:02x} that is to be percent-encoded",
                    shown(&public_part(target))
                ),
            ),
        });
    }
    let form = || {
        HeadRefusal::bad("target-form", format!("{} is no request target for this method", shown(&public_part(target))))
    };
    match target {
        _ if method == b"CONNECT" => authority_form(target).ok_or_else(form),
        [b'/', ..] => Ok(()),
        b"*" if method == b"OPTIONS" => Ok(()),
        _ => absolute_form(target, form),
    }
}

/// `host:port`, for CONNECT only.
fn authority_form(target: &[u8]) -> Option<()> {
    let uri = Uri::try_from(target).ok()?;
    (!target.contains(&b'/') && !target.contains(&b'@')).then_some(())?;
    uri.port().map(|_| ())
}

fn absolute_form(target: &[u8], form: impl Fn() -> HeadRefusal) -> Result<(), HeadRefusal> {
    let after_scheme = [&b"http://"[..], b"https://"].into_iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let rest = after_scheme.ok_or_else(&form)?;
    let authority = rest.split(|byte| matches!(byte, b'/' | b'?')).next().unwrap_or_default();
    if authority.contains(&b'@') {
        // RFC 9110, 4.2.4.
        return Err(HeadRefusal::bad("userinfo", "request target names a user"));
    }
    let uri = Uri::try_from(target).map_err(|_| form())?;
    uri.host().filter(|host| !host.is_empty()).map(|_| ()).ok_or_else(form)
}

/// Bytes that `http::Uri` takes in paths and queries alike; not `"`, `<`, `>`, `` ` ``, `#` and what is not visible ASCII.
static TARGET: [bool; 256] =
    class(b"!$%&'()*+,-./0123456789:;=?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_abcdefghijklmnopqrstuvwxyz{|}~");
