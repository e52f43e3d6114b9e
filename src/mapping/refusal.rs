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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_or_hostile_value_is_shown_short_and_escaped() {
        assert_eq!(shown("/a\r\nb"), "`/a\\r\\nb`");
        assert_eq!(shown([b'a', 0xff]), "`a\u{fffd}`");
        assert!(shown("x".repeat(5000)).len() < 120);
    }
}
