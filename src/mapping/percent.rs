//! Percent-encoding (RFC 3986, section 2.1), decoded exactly once.

use std::borrow::Cow;

/// The value of a hexadecimal digit.
pub(super) const fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// The byte that `%XY` stands for.
pub(super) fn pair(high: Option<&u8>, low: Option<&u8>) -> Option<u8> {
    Some(hex(*high?)? << 4 | hex(*low?)?)
}

/// What a `+` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plus {
    /// Itself: in a path.
    Literal,
    /// A space: in a query (the `application/x-www-form-urlencoded` rule, which every S3 store follows).
    Space,
}

/// Why a text has no decoded form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("a `%` without two hexadecimal digits")]
    InvalidPercent,
    #[error("percent-encoded bytes that are not UTF-8")]
    InvalidUtf8,
    #[error("an encoded NUL")]
    Nul,
}

impl DecodeError {
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::InvalidPercent => "invalid-percent",
            Self::InvalidUtf8 => "invalid-utf8",
            Self::Nul => "encoded-nul",
        }
    }
}

/// Decodes every `%XX` once. Borrows where there is nothing to decode.
pub(super) fn decode(text: &str, plus: Plus) -> Result<Cow<'_, str>, DecodeError> {
    if memchr::memchr3(b'%', b'+', 0, text.as_bytes()).is_none() {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => pair(bytes.next(), bytes.next()).ok_or(DecodeError::InvalidPercent)?,
            b'+' if plus == Plus::Space => b' ',
            other => *other,
        });
    }
    if decoded.contains(&0) {
        return Err(DecodeError::Nul);
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| DecodeError::InvalidUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_escape_is_decoded_once() {
        assert_eq!(decode("a%2Fb%252e+c", Plus::Literal).unwrap(), "a/b%2e+c");
        assert_eq!(decode("a+b%2B", Plus::Space).unwrap(), "a b+");
        assert_eq!(decode("%C3%a9", Plus::Literal).unwrap(), "é");
    }

    #[test]
    fn what_has_no_decoded_form_is_named() {
        for (text, error) in [
            ("%", DecodeError::InvalidPercent),
            ("%2", DecodeError::InvalidPercent),
            ("%2g", DecodeError::InvalidPercent),
            ("%-1", DecodeError::InvalidPercent),
            ("%C0%AF", DecodeError::InvalidUtf8),
            ("%ED%A0%80", DecodeError::InvalidUtf8),
            ("%FF", DecodeError::InvalidUtf8),
            ("a%00", DecodeError::Nul),
        ] {
            assert_eq!(decode(text, Plus::Literal), Err(error), "{text}");
        }
    }
}
