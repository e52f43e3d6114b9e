//! Why a request could not be named.

/// A request that no policy is asked about, because what it asks cannot be named. It is answered with `status` and not forwarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The HTTP status to answer with: 400, 414, 421, 431, 501, 505.
    pub status: u16,
    /// The rule that was broken: stable, in kebab case, as records and metrics name it.
    pub rule: &'static str,
    /// For the log and the record: lower case, without full stop, the offending value in backticks.
    pub message: String,
}

impl Refusal {
    /// A refusal with status 400, which most are.
    pub fn bad_request(rule: &'static str, message: impl Into<String>) -> Self {
        Self::with_status(400, rule, message)
    }

    /// A refusal with a status of its own.
    pub fn with_status(status: u16, rule: &'static str, message: impl Into<String>) -> Self {
        Self { status, rule, message: message.into() }
    }
}

/// A value from a peer as messages show it: in backticks, escaped, and cut where it is long.
pub(super) fn shown(value: impl AsRef<[u8]>) -> String {
    const LONGEST: usize = 100;
    let bytes = value.as_ref();
    let cut = bytes.get(..LONGEST).unwrap_or(bytes);
    let dots = if cut.len() < bytes.len() { "…" } else { "" };
    format!("`{}{dots}`", String::from_utf8_lossy(cut).escape_debug())
}

/// What of a request target or an authority may stand in a message: not its query, its fragment and its userinfo, where signatures,
/// tokens and passwords are.
#[must_use]
pub fn public_part(target: &[u8]) -> Vec<u8> {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    let mut part = end.and_then(|end| target.get(..=end)).unwrap_or(target).to_vec();
    let begins = memchr::memmem::find(&part, b"://").map_or(0, |at| at + 3);
    let length = part.get(begins..).unwrap_or_default().iter().position(|byte| *byte == b'/');
    let authority = begins..length.map_or(part.len(), |length| begins + length);
    if let Some(at) = part.get(authority).unwrap_or_default().iter().rposition(|byte| *byte == b'@') {
        part.splice(begins..begins + at, "…".bytes());
    }
    if end.is_some() {
        part.extend("…".bytes());
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_no_query_fragment_or_userinfo() {
        for (target, public) in [
            ("/a/b", "/a/b"),
            ("/a@b/c", "/a@b/c"),
            ("/a?X-Amz-Signature=x@y", "/a?…"),
            ("/a#token=x?y", "/a#…"),
            ("http://user:word@host:1/a@b?c", "http://…@host:1/a@b?…"),
            ("user:w@rd@host:1", "…@host:1"),
            ("host:1", "host:1"),
            ("GET /a?b HTTP/1.1 x", "GET /a?…"),
            ("", ""),
            ("?", "?…"),
        ] {
            assert_eq!(String::from_utf8(public_part(target.as_bytes())).unwrap(), public, "{target}");
        }
    }

    #[test]
    fn a_long_or_hostile_value_is_shown_short_and_escaped() {
        assert_eq!(shown("/a\r\nb"), "`/a\\r\\nb`");
        assert_eq!(shown([b'a', 0xff]), "`a\u{fffd}`");
        assert!(shown("x".repeat(5000)).len() < 120);
    }
}
