//! The path of an HTTP request in the one form that is both judged and sent.
//!
//! Policy and upstream must read the same path. So percent-encodings of unreserved characters are decoded, the others get upper-case
//! digits (RFC 3986, section 6.2.2), and whatever some server may read in another way is refused, each by its own rule.

use std::borrow::Cow;

use super::Refusal;
use super::percent::{hex, pair};
use super::refusal::shown;

/// Each segment is an ancestor of the path in every policy question, so their number is bounded.
const MOST_SEGMENTS: usize = 128;

/// A path in its normal form: begins with `/`, holds only RFC 3986 path characters, no dot segment, no empty segment but the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JudgedPath<'a>(Cow<'a, str>);

impl<'a> JudgedPath<'a> {
    /// Judges a path as received. A path that is in normal form already is borrowed.
    ///
    /// With `merge_slashes`, empty segments are merged rather than refused; the merged path is what is judged and sent.
    ///
    /// # Errors
    /// A [`Refusal`] with one of these rules: `asterisk-form`, `target-form`, `fragment`, `backslash`, `path-parameter`,
    /// `control-character`, `path-character`, `invalid-percent`, `encoded-nul`, `encoded-slash`, `encoded-backslash`,
    /// `encoded-control`, `double-encoding`, `invalid-utf8`, `empty-segment`, `dot-segment`, `too-many-segments`.
    pub fn parse(raw_path: &'a str, merge_slashes: bool) -> Result<Self, Refusal> {
        if raw_path == "*" {
            return Err(refuse(
                "asterisk-form",
                "a request about the whole server (`*`) has no path to judge",
                raw_path,
            ));
        }
        if !raw_path.starts_with('/') {
            return Err(refuse("target-form", "path does not begin with `/`", raw_path));
        }
        let mut path = decode_unreserved(raw_path)?;
        if is_double_encoded(&path) {
            return Err(refuse("double-encoding", "path is percent-encoded twice", raw_path));
        }
        if path.contains("//") {
            if !merge_slashes {
                return Err(refuse("empty-segment", "path has an empty segment", raw_path));
            }
            path = Cow::Owned(merge(&path));
        }
        judge_segments(&path)?;
        Ok(Self(path))
    }

    /// The path in its normal form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, owned or borrowed from the request.
    #[must_use]
    pub fn into_inner(self) -> Cow<'a, str> {
        self.0
    }
}

/// Decodes `%XX` of unreserved characters and writes the others with upper-case digits. Copies only if anything changes.
fn decode_unreserved(raw: &str) -> Result<Cow<'_, str>, Refusal> {
    let mut changed: Option<String> = None;
    let mut utf8 = Utf8::default();
    let mut bytes = raw.as_bytes();
    let mut at = 0;
    while let Some((&byte, rest)) = bytes.split_first() {
        if byte != b'%' {
            judge_literal(byte, raw)?;
            if !utf8.is_complete() {
                return Err(invalid_utf8(raw));
            }
            if let Some(changed) = &mut changed {
                changed.push(char::from(byte));
            }
            (bytes, at) = (rest, at + 1);
            continue;
        }
        let (high, low) = (rest.first(), rest.get(1));
        let decoded =
            pair(high, low).ok_or_else(|| refuse("invalid-percent", "a `%` without two hexadecimal digits", raw))?;
        judge_encoded(decoded, raw)?;
        if !utf8.push(decoded) {
            return Err(invalid_utf8(raw));
        }
        let normal = if is_unreserved(decoded) { Normal::Literal(decoded) } else { Normal::Encoded(decoded) };
        let lower = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_lowercase);
        if changed.is_none() && (matches!(normal, Normal::Literal(_)) || lower(high) || lower(low)) {
            changed = Some(raw.get(..at).unwrap_or_default().to_owned());
        }
        if let Some(changed) = &mut changed {
            normal.write(changed);
        }
        (bytes, at) = (rest.get(2..).unwrap_or_default(), at + 3);
    }
    if !utf8.is_complete() {
        return Err(invalid_utf8(raw));
    }
    Ok(changed.map_or(Cow::Borrowed(raw), Cow::Owned))
}

enum Normal {
    Literal(u8),
    Encoded(u8),
}

impl Normal {
    fn write(&self, out: &mut String) {
        match *self {
            Self::Literal(byte) => out.push(char::from(byte)),
            Self::Encoded(byte) => {
                out.push('%');
                for digit in [byte >> 4, byte & 0xf] {
                    out.push(char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase());
                }
            }
        }
    }
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What may stand in a path as it is: `pchar` of RFC 3986, section 3.3, and `/`, but not `;`.
fn judge_literal(byte: u8, raw: &str) -> Result<(), Refusal> {
    let (rule, why) = match byte {
        b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => return Ok(()),
        _ if is_unreserved(byte) => return Ok(()),
        b';' => ("path-parameter", "path has a `;` parameter, which some servers cut off"),
        b'\\' => ("backslash", "path has a backslash, which some servers read as a slash"),
        b'#' => ("fragment", "target has a fragment"),
        0..=0x1f | 0x7f => ("control-character", "path has a control character"),
        _ => ("path-character", "path has a character that must be percent-encoded (RFC 3986, 3.3)"),
    };
    Err(refuse(rule, why, raw))
}

fn judge_encoded(byte: u8, raw: &str) -> Result<(), Refusal> {
    let (rule, why) = match byte {
        0 => ("encoded-nul", "path has an encoded NUL"),
        b'/' => ("encoded-slash", "path has an encoded slash, which some servers read as a slash"),
        b'\\' => ("encoded-backslash", "path has an encoded backslash, which some servers read as a slash"),
        b';' => ("path-parameter", "path has an encoded `;`, which some servers read as a parameter"),
        1..=0x1f | 0x7f => ("encoded-control", "path has an encoded control character"),
        _ => return Ok(()),
    };
    Err(refuse(rule, why, raw))
}

/// Whether decoding once more would find another escape. Asked of the normal form: `%25%32e` is `%252e` there.
fn is_double_encoded(path: &str) -> bool {
    path.as_bytes()
        .windows(5)
        .any(|window| matches!(*window, [b'%', b'2', b'5', high, low] if hex(high).is_some() && hex(low).is_some()))
}

fn merge(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

fn judge_segments(path: &str) -> Result<(), Refusal> {
    let mut segments = 0_usize;
    for segment in path.split('/').skip(1) {
        if segment == "." || segment == ".." {
            return Err(refuse("dot-segment", "path has a `.` or `..` segment, plain or percent-encoded", path));
        }
        segments += 1;
    }
    if segments > MOST_SEGMENTS {
        return Err(refuse("too-many-segments", &format!("path has more than {MOST_SEGMENTS} segments"), path));
    }
    Ok(())
}

/// Follows percent-encoded bytes through UTF-8 sequences: overlong forms, surrogates and stray bytes are not UTF-8.
#[derive(Default)]
struct Utf8 {
    sequence: [u8; 4],
    have: usize,
    need: usize,
}

impl Utf8 {
    const fn is_complete(&self) -> bool {
        self.have == 0
    }

    /// Takes the next decoded byte; whether it can still become UTF-8.
    fn push(&mut self, byte: u8) -> bool {
        if self.have == 0 {
            self.need = match byte {
                0..=0x7f => return true,
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return false,
            };
        }
        let Some(slot) = self.sequence.get_mut(self.have) else { return false };
        *slot = byte;
        self.have += 1;
        if self.have < self.need {
            return true;
        }
        let valid = self.sequence.get(..self.need).is_some_and(|bytes| std::str::from_utf8(bytes).is_ok());
        self.have = 0;
        valid
    }
}

fn invalid_utf8(raw: &str) -> Refusal {
    refuse("invalid-utf8", "path has percent-encoded bytes that are not UTF-8", raw)
}

#[cold]
fn refuse(rule: &'static str, why: &str, path: &str) -> Refusal {
    Refusal::bad_request(rule, format!("{why}: {}", shown(path)))
}

/// For fuzzing: whatever the bytes, no panic, and what is judged is judged the same again.
pub fn fuzz(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for merge_slashes in [false, true] {
        if let Ok(judged) = JudgedPath::parse(text, merge_slashes) {
            let again = JudgedPath::parse(judged.as_str(), false);
            assert_eq!(again.as_ref().map(JudgedPath::as_str), Ok(judged.as_str()), "a judged path is in normal form");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judged(raw: &str) -> String {
        JudgedPath::parse(raw, false).unwrap_or_else(|refusal| panic!("{raw}: {refusal}")).as_str().to_owned()
    }

    fn rule(raw: &str) -> &'static str {
        JudgedPath::parse(raw, false).expect_err(raw).rule
    }

    #[test]
    fn a_path_in_normal_form_is_borrowed() {
        for raw in [
            "/",
            "/x",
            "/x/",
            "/a/b.c/~d_e-f",
            "/%C3%A9/%20%3F%23",
            "/a:b@c,d=e&f!$'()*+",
            "/...",
            "/.a/..b",
            "/100%25",
        ] {
            let path = JudgedPath::parse(raw, false).unwrap();
            assert_eq!(path.as_str(), raw);
            assert!(matches!(path.into_inner(), Cow::Borrowed(_)), "{raw}");
        }
    }

    #[test]
    fn unreserved_escapes_are_decoded_and_the_others_written_in_upper_case() {
        assert_eq!(judged("/%61%2Db%7e%5F/%c3%a9"), "/a-b~_/%C3%A9");
        assert_eq!(judged("/orders%2ev1"), "/orders.v1");
        assert_eq!(judged("/a%20b%41%3a"), "/a%20bA%3A");
    }

    #[test]
    fn each_way_to_mean_another_path_is_refused_by_its_own_rule() {
        for (raw, expected) in [
            ("*", "asterisk-form"),
            ("", "target-form"),
            ("x", "target-form"),
            ("/public/../admin", "dot-segment"),
            ("/public/%2e%2e/admin", "dot-segment"),
            ("/public/.%2E/admin", "dot-segment"),
            ("/./admin", "dot-segment"),
            ("/%2e", "dot-segment"),
            ("/..", "dot-segment"),
            ("//admin", "empty-segment"),
            ("/a//", "empty-segment"),
            ("/a%2Fb", "encoded-slash"),
            ("/a%2fb", "encoded-slash"),
            ("/a%5Cb", "encoded-backslash"),
            ("/a\\b", "backslash"),
            ("/a%00b", "encoded-nul"),
            ("/a%0d%0aX: y", "encoded-control"),
            ("/a%7f", "encoded-control"),
            ("/a%252e%252e/b", "double-encoding"),
            ("/a%252f", "double-encoding"),
            ("/a%25%32e", "double-encoding"),
            ("/%2525", "double-encoding"),
            ("/a;v=1/b", "path-parameter"),
            ("/..;/admin", "path-parameter"),
            ("/a%3Bv=1", "path-parameter"),
            ("/a%", "invalid-percent"),
            ("/a%2", "invalid-percent"),
            ("/a%zz", "invalid-percent"),
            ("/%u002e", "invalid-percent"),
            ("/%C0%AE%C0%AE/", "invalid-utf8"),
            ("/%E0%80%AF", "invalid-utf8"),
            ("/%C3", "invalid-utf8"),
            ("/%C3a%A9", "invalid-utf8"),
            ("/%C3/%A9", "invalid-utf8"),
            ("/%ED%A0%80", "invalid-utf8"),
            ("/%F5%80%80%80", "invalid-utf8"),
            ("/a#b", "fragment"),
            ("/a b", "path-character"),
            ("/é", "path-character"),
            ("/a|b", "path-character"),
            ("/a\u{1}", "control-character"),
            ("/a\0", "control-character"),
        ] {
            assert_eq!(rule(raw), expected, "{raw:?}");
        }
        assert_eq!(rule(&"/a".repeat(129)), "too-many-segments");
    }

    #[test]
    fn merged_slashes_are_judged_as_the_merged_path() {
        let merged =
            |raw| JudgedPath::parse(raw, true).map(|path| path.as_str().to_owned()).map_err(|refusal| refusal.rule);
        assert_eq!(merged("//a///b//").as_deref(), Ok("/a/b/"));
        assert_eq!(merged("//..//a"), Err("dot-segment"));
        assert_eq!(merged("/a/%2F/b"), Err("encoded-slash"));
    }

    #[test]
    fn the_page_about_paths_is_true() {
        let page = include_str!("../../docs/http-paths.md");
        let cells =
            |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let (mut normal, mut refused) = (0, 0);
        for row in page.lines().filter(|line| line.starts_with("| `")).map(cells) {
            let examples: Vec<_> =
                row[1].split('`').skip(1).step_by(2).map(|example| example.replace("\\|", "|")).collect();
            if row[0].starts_with("`/") {
                assert_eq!(judged(row[0].trim_matches('`')), examples[0], "{row:?}");
                normal += 1;
            } else if row.len() == 3 {
                for example in examples {
                    assert_eq!(format!("`{}`", rule(&example)), row[0], "{example}");
                    refused += 1;
                }
            }
        }
        assert!(normal >= 6 && refused >= 25, "{normal} {refused}");
    }

    proptest! {
        #[test]
        fn judging_twice_changes_nothing_and_nothing_panics(raw in "[/.%a-zA-Z0-9;\\\\+é]{0,24}|(/|\\.|%2[0-9a-fA-F]|%[0-9a-f]{2}|[a-z]){0,12}") {
            fuzz(raw.as_bytes());
        }

        #[test]
        fn any_text_is_judged_without_panic(raw in any::<String>()) {
            fuzz(raw.as_bytes());
            fuzz(format!("/{raw}").as_bytes());
        }

        #[test]
        fn a_server_that_decodes_once_reads_the_segments_that_were_judged(raw in "/(([a-zA-Z.]|%[2-7][0-9a-fA-F]|%C3%A9){1,6}/?){0,4}") {
            if let Ok(path) = JudgedPath::parse(&raw, false) {
                let decode = |text: &str| crate::mapping::percent::decode(text, crate::mapping::percent::Plus::Literal).unwrap().into_owned();
                prop_assert_eq!(decode(&raw), decode(path.as_str()), "the normal form means what was received");
                prop_assert_eq!(path.as_str().split('/').count(), decode(&raw).split('/').count());
                prop_assert!(decode(&raw).split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
