//! What one line is made of: JSON that no byte of a peer can break out of, and times.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

/// Appends `value` and a newline to `line`.
pub(super) fn append(line: &mut Vec<u8>, value: &impl Serialize) -> serde_json::Result<()> {
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut *line, OneLine))?;
    line.push(b'\n');
    Ok(())
}

/// Compact JSON, with everything escaped that some reader takes for the end of a line, or that moves text on a terminal.
///
/// JSON itself only asks for characters below U+0020 (RFC 8259, 7). But U+0085, U+2028 and U+2029 end a line for many
/// libraries, C1 control characters start terminal sequences, and the bidirectional ones show a line other than it is.
struct OneLine;

impl Formatter for OneLine {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        // Nearly all text is plain ASCII, which these two look through many bytes at a time.
        if !rest.is_ascii() || memchr::memchr(b'\x7f', rest.as_bytes()).is_some() {
            while let Some((at, odd)) = rest.char_indices().find(|(_, character)| misleads(*character)) {
                let (before, after) = rest.split_at_checked(at).unwrap_or((rest, ""));
                writer.write_all(before.as_bytes())?;
                for unit in odd.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
                rest = after.get(odd.len_utf8()..).unwrap_or_default();
            }
        }
        writer.write_all(rest.as_bytes())
    }
}

fn misleads(character: char) -> bool {
    match character {
        ' '..='~' => false,
        '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{e0000}'..='\u{e007f}' => true,
        other => other.is_control(),
    }
}

/// A time as RFC 3339 in UTC with milliseconds: `2026-11-21T09:30:00.125Z`.
///
/// By hand, as it is in every record: the calendar is Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>). Years outside 0 to 9999 have no RFC 3339 form and are clamped.
#[derive(Debug, Clone, Copy)]
pub struct Rfc3339 {
    milliseconds: i64,
}

impl Rfc3339 {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;

    /// A time by its milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn from_milliseconds(milliseconds: i64) -> Self {
        Self { milliseconds: milliseconds.clamp(Self::FIRST, Self::LAST) }
    }

    /// The 24 characters, all ASCII.
    #[must_use]
    pub fn text(self) -> [u8; 24] {
        const DAY: i64 = 86_400_000;
        let (days, rest) = (self.milliseconds.div_euclid(DAY), self.milliseconds.rem_euclid(DAY));
        let shifted = days + 719_468;
        let era = shifted.div_euclid(146_097);
        let day_of_era = shifted.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second, millisecond) =
            (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60, rest % 1_000);
        let [d1, d2, d3, d4, d5, d6, d7, d8] = [
            digit(year / 1_000),
            digit(year / 100),
            digit(year / 10),
            digit(year),
            digit(month / 10),
            digit(month),
            digit(day / 10),
            digit(day),
        ];
        [
            d1,
            d2,
            d3,
            d4,
            b'-',
            d5,
            d6,
            b'-',
            d7,
            d8,
            b'T',
            digit(hour / 10),
            digit(hour),
            b':',
            digit(minute / 10),
            digit(minute),
            b':',
            digit(second / 10),
            digit(second),
            b'.',
            digit(millisecond / 100),
            digit(millisecond / 10),
            digit(millisecond),
            b'Z',
        ]
    }
}

impl From<SystemTime> for Rfc3339 {
    fn from(time: SystemTime) -> Self {
        let milliseconds = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, i64::wrapping_neg),
        };
        Self::from_milliseconds(milliseconds)
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

fn digit(number: i64) -> u8 {
    // A remainder of 10 of a number that is not negative is one digit.
    b'0' + u8::try_from(number % 10).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use time::format_description::BorrowedFormatItem;
    use time::macros::format_description;

    use super::*;

    const FORMAT: &[BorrowedFormatItem<'_>] =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

    fn json(value: &str) -> String {
        let mut line = Vec::new();
        append(&mut line, &value).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn characters_that_end_a_line_or_move_text_are_escaped() {
        assert_eq!(json("a\nb\r\"\\\u{0}"), "\"a\\nb\\r\\\"\\\\\\u0000\"\n");
        assert_eq!(json("a\u{2028}b\u{85}c\u{7f}"), "\"a\\u2028b\\u0085c\\u007f\"\n");
        assert_eq!(json("\u{202e}evil\u{200b}\u{feff}é"), "\"\\u202eevil\\u200b\\ufeffé\"\n");
        assert_eq!(json("\u{9b}31m\u{e0041}"), "\"\\u009b31m\\udb40\\udc41\"\n");
        assert_eq!(json("größe/データ/🦀"), "\"größe/データ/🦀\"\n");
    }

    #[test]
    fn times_at_the_edges_of_the_calendar_are_right() {
        let text = |ms| String::from_utf8(Rfc3339::from_milliseconds(ms).text().to_vec()).unwrap();
        assert_eq!(text(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(-1), "1969-12-31T23:59:59.999Z");
        assert_eq!(text(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(text(i64::MIN), "0000-01-01T00:00:00.000Z");
        assert_eq!(text(i64::MAX), "9999-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn times_are_those_of_the_time_crate(ms in Rfc3339::FIRST..=Rfc3339::LAST) {
            let theirs = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap().format(FORMAT).unwrap();
            let ours = Rfc3339::from_milliseconds(ms).text();
            prop_assert_eq!(std::str::from_utf8(&ours).unwrap(), theirs);
        }

        #[test]
        fn any_text_is_one_line_and_reads_back_the_same(text in any::<String>(), odd in "[\u{0}-\u{a0}\u{2000}-\u{2070}\u{e0000}-\u{e0080}]*") {
            let text = text + &odd;
            let line = json(&text);
            let inner = line.strip_suffix('\n').unwrap();
            prop_assert!(!inner.chars().any(misleads), "{inner:?}");
            prop_assert_eq!(serde_json::from_str::<String>(inner).unwrap(), text);
        }
    }
}
