//! Durations as the file and the flags write them: `500ms`, `10s`, `5m`, `1h`.

use std::time::Duration;

use thiserror::Error;

/// What a duration looks like, for the JSON Schema.
pub const PATTERN: &str = "^[0-9]+(ms|s|m|h)$";

/// The units with their length in milliseconds, longest first.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a whole number with a unit.
///
/// # Errors
/// The number or the unit is missing, or is not one of those that are known.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = text.strip_suffix(unit).unwrap_or_default();
    if digits.is_empty() {
        return Err(DurationError::NoNumber { text: text.into() });
    }
    if unit.is_empty() {
        return Err(DurationError::NoUnit { text: text.into() });
    }
    let (_, milliseconds) =
        UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| DurationError::Unit { text: text.into() })?;
    let number: u64 = digits.parse().map_err(|_| DurationError::TooLong { text: text.into() })?;
    number
        .checked_mul(*milliseconds)
        .map(Duration::from_millis)
        .ok_or_else(|| DurationError::TooLong { text: text.into() })
}

/// Writes a duration in the longest unit that holds it without a rest; what is below a millisecond is dropped.
#[must_use]
pub fn format(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0s".into();
    }
    UNITS
        .iter()
        .find(|(_, length)| milliseconds.is_multiple_of(u128::from(*length)))
        .map(|(unit, length)| format!("{}{unit}", milliseconds / u128::from(*length)))
        .unwrap_or_default()
}

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// It does not begin with a digit.
    #[error("`{text}` is not a duration, which is a whole number with a unit")]
    NoNumber {
        /// The text.
        text: String,
    },
    /// A number alone.
    #[error("duration `{text}` has no unit")]
    NoUnit {
        /// The text.
        text: String,
    },
    /// Anything but `ms`, `s`, `m` or `h` after the digits: `1.5s` and `1h30m` too.
    #[error("`{text}` is not one whole number with one unit")]
    Unit {
        /// The text.
        text: String,
    },
    /// More milliseconds than 64 bits hold.
    #[error("duration `{text}` is too long")]
    TooLong {
        /// The text.
        text: String,
    },
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_unit_is_read() {
        for (text, milliseconds) in
            [("0s", 0), ("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000), ("007s", 7_000)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_its_reason() {
        let text = |t: &str| t.to_owned();
        for t in ["", "s", "-1s", " 1s", "ten"] {
            assert_eq!(parse(t), Err(DurationError::NoNumber { text: text(t) }));
        }
        assert_eq!(parse("10"), Err(DurationError::NoUnit { text: text("10") }));
        for t in ["1.5s", "1h30m", "10 s", "10sec", "10S", "3d", "10s ", "1ſ"] {
            assert_eq!(parse(t), Err(DurationError::Unit { text: text(t) }));
        }
        for t in ["99999999999999999999s", "18446744073709551615h"] {
            assert_eq!(parse(t), Err(DurationError::TooLong { text: text(t) }));
        }
    }

    #[test]
    fn format_takes_the_longest_unit() {
        for text in ["0s", "1ms", "1500ms", "90s", "2m", "61m", "24h"] {
            assert_eq!(format(parse(text).unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn what_format_writes_parse_reads(milliseconds in any::<u64>()) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn parse_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
