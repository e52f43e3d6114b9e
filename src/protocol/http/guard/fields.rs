//! Field lines: the syntax that heads and trailer sections share (RFC 9112, 5, without its recoveries).

use memchr::memchr;

use super::verdict::{HeadRefusal, shown};

/// One field line without its CRLF.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) name: &'a [u8],
    /// Without the blanks around it.
    pub(super) value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Splits a line. An error may hide a control character: see [`blame`].
    pub(super) fn parse(line: &'a [u8]) -> Result<Self, HeadRefusal> {
        if line.first().is_some_and(is_blank) {
            // RFC 9112, 5.2: a server rejects obs-fold with 400 or replaces it; what is replaced is not what was sent.
            return Err(HeadRefusal::bad("obs-fold", "a field line starts with a blank"));
        }
        let Some((name, rest)) = memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) else {
            return Err(HeadRefusal::bad("header-name", "a field line has no colon"));
        };
        if name.last().is_some_and(is_blank) {
            // RFC 9112, 5.1: a server MUST reject this with 400.
            return Err(HeadRefusal::bad(
                "space-before-colon",
                format!("blank between field name {} and its colon", shown(name.trim_ascii_end())),
            ));
        }
        if name.is_empty() || !all_token(name) {
            return Err(HeadRefusal::bad("header-name", format!("{} is not a field name", shown(name))));
        }
        let value = trim(rest.get(1..).unwrap_or_default());
        if let Some(framing) = framing_name_spelt_oddly(name) {
            return Err(HeadRefusal::bad("odd-framing-name", format!("{} would be read as `{framing}`", shown(name))));
        }
        // No early exit: this loop over nearly every byte of every head becomes vector code.
        if value.iter().fold(false, |found, byte| found | is_control(*byte)) {
            return Err(HeadRefusal::bad("control-character", "control character"));
        }
        Ok(Self { name, value })
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The next line of `bytes`, which starts at `start` and is known to have no LF before `searched`.
/// `None`: it is not complete yet.
pub(super) fn line(bytes: &[u8], start: usize, searched: usize) -> Option<Line<'_>> {
    let lf = searched + memchr(b'\n', bytes.get(searched..)?)?;
    let text = match bytes.get(start..lf)?.split_last() {
        Some((b'\r', text)) => Ok(text),
        _ => Err(HeadRefusal::bad("bare-lf", "a line ends with LF alone")),
    };
    Some(Line { text, next: lf + 1 })
}

/// A complete line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    /// Without CRLF.
    pub(super) text: Result<&'a [u8], HeadRefusal>,
    /// Where the next line starts.
    pub(super) next: usize,
}

/// The rule that a refused line has broken: a control character is named before what it led to, NUL and CR by their own
/// names. RFC 9110, 5.5: CR, LF and NUL are invalid and dangerous; other control characters are invalid, and refused as well.
pub(super) fn blame(text: &[u8], refusal: HeadRefusal) -> HeadRefusal {
    match text.iter().find(|byte| is_control(**byte)) {
        Some(b'\r') => HeadRefusal::bad("bare-cr", "CR without LF"),
        Some(0) => HeadRefusal::bad("nul", "NUL in a head or trailer section"),
        Some(byte) => HeadRefusal::bad("control-character", format!("control character 0x{byte:02x}")),
        None => refusal,
    }
}

fn is_control(byte: u8) -> bool {
    (byte < 0x20 && byte != b'\t') | (byte == 0x7f)
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Removes OWS (RFC 9110, 5.6.3): SP and HTAB, nothing else.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether every byte is a `tchar` (RFC 9110, 5.6.2).
pub(super) fn all_token(bytes: &[u8]) -> bool {
    all_in(&TOKEN, bytes)
}

/// Whether every byte is in a class. No early exit: bytes that fail are rare, and a loop without a branch is twice as fast.
pub(super) fn all_in(class: &[bool; 256], bytes: &[u8]) -> bool {
    bytes.iter().fold(true, |all, byte| all & class.get(usize::from(*byte)).copied().unwrap_or(false))
}

static TOKEN: [bool; 256] = class(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ");

/// A table of the bytes in `members`.
#[expect(clippy::indexing_slicing, reason = "evaluated at compile time, where a mistake does not compile")]
pub(super) const fn class(members: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < members.len() {
        table[members[at] as usize] = true;
        at += 1;
    }
    table
}

/// CGI and WSGI upstreams see `content_length` as `content-length`; no honest peer sends it.
fn framing_name_spelt_oddly(name: &[u8]) -> Option<&'static str> {
    let spelt = |framing: &'static str| {
        let same =
            |(given, wanted): (&u8, u8)| given.eq_ignore_ascii_case(&wanted) || (*given == b'_' && wanted == b'-');
        name.contains(&b'_') && name.iter().zip(framing.bytes()).all(same)
    };
    match name.len() {
        14 if spelt("content-length") => Some("content-length"),
        17 if spelt("transfer-encoding") => Some("transfer-encoding"),
        _ => None,
    }
}
