//! What one line is made of: JSON that no byte of a peer can break out of, and times.
//!
//! By hand rather than by serde_json: a record is written for every request, nearly all of its text needs no escaping, and
//! finding that out many bytes at a time halves the cost of a line.

use std::fmt::{self, Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

/// A JSON object that is being written. A member without a value is left out.
#[derive(Debug)]
pub(super) struct Object<'l> {
    line: &'l mut Vec<u8>,
    empty: bool,
}

impl<'l> Object<'l> {
    pub(super) fn begin(line: &'l mut Vec<u8>) -> Self {
        line.push(b'{');
        Self { line, empty: true }
    }

    /// Goes on with an object whose beginning is written elsewhere: what comes first needs no comma.
    pub(super) fn within(line: &'l mut Vec<u8>) -> Self {
        Self { line, empty: true }
    }

    /// Members that `write` writes, which are at least one.
    pub(super) fn members(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.comma();
        write(self.line);
    }

    pub(super) fn end(self) {
        self.line.push(b'}');
    }

    /// A member whose value `write` writes.
    pub(super) fn member(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        debug_assert!(is_plain(name), "`{name}` is a name of ours that needs escaping");
        self.comma();
        self.line.push(b'"');
        self.line.extend_from_slice(name.as_bytes());
        self.line.extend_from_slice(b"\":");
        write(self.line);
    }

    /// A member whose name is not ours.
    pub(super) fn foreign_member(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        self.comma();
        string(self.line, name);
        self.line.push(b':');
        write(self.line);
    }

    fn comma(&mut self) {
        if !self.empty {
            self.line.push(b',');
        }
        self.empty = false;
    }

    pub(super) fn string(&mut self, name: &'static str, value: &str) {
        self.member(name, |line| string(line, value));
    }

    pub(super) fn some_string(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.string(name, value);
        }
    }

    pub(super) fn some_number(&mut self, name: &'static str, value: Option<u64>) {
        if let Some(value) = value {
            self.member(name, |line| whole_number(line, value));
        }
    }

    /// A list of strings, unless it is empty.
    pub(super) fn some_strings(&mut self, name: &'static str, values: &[impl AsRef<str>]) {
        if !values.is_empty() {
            self.member(name, |line| list(line, values, |line, value| string(line, value.as_ref())));
        }
    }
}

/// A JSON list.
pub(super) fn list<T>(line: &mut Vec<u8>, values: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    line.push(b'[');
    for (at, value) in values.into_iter().enumerate() {
        if at > 0 {
            line.push(b',');
        }
        write(line, value);
    }
    line.push(b']');
}

/// A JSON string.
pub(super) fn string(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    string_contents(line, text);
    line.push(b'"');
}

/// A JSON string of what a value displays.
pub(super) fn displayed(line: &mut Vec<u8>, value: impl Display) {
    line.push(b'"');
    // Writing to memory cannot fail, and our own types never do.
    let _ = write!(Contents(line), "{value}");
    line.push(b'"');
}

/// A JSON number.
pub(super) fn number(line: &mut Vec<u8>, number: impl Display) {
    let _ = write!(Contents(line), "{number}");
}

/// A JSON number without the formatting machinery: most records have eight.
pub(super) fn whole_number(line: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        // A remainder of 10 is one digit.
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        first -= 1;
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(digits.get(first..).unwrap_or_default());
}

/// The inside of a JSON string, with everything escaped that some reader takes for the end of a line, or that moves text on a
/// terminal.
///
/// JSON itself only asks for characters below U+0020 (RFC 8259, 7). But U+0085, U+2028 and U+2029 end a line for many
/// libraries, C1 control characters start terminal sequences, and the bidirectional ones show a line other than it is.
pub(super) fn string_contents(line: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    for character in text.chars() {
        match character {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            '\n' => line.extend_from_slice(b"\\n"),
            '\r' => line.extend_from_slice(b"\\r"),
            '\t' => line.extend_from_slice(b"\\t"),
            odd if misleads(odd) => {
                for unit in odd.encode_utf16(&mut [0; 2]) {
                    let _ = write!(Raw(line), "\\u{unit:04x}");
                }
            }
            other => line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// Whether a text is the same inside a JSON string: printable ASCII without quote and backslash.
pub(super) fn is_plain(text: &str) -> bool {
    // Without a way out in the middle, so that the compiler looks at many bytes at once.
    text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\'))
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

/// Escapes what is formatted into it.
struct Contents<'l>(&'l mut Vec<u8>);

impl Write for Contents<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        string_contents(self.0, text);
        Ok(())
    }
}

/// Takes what is formatted into it as it is.
struct Raw<'l>(&'l mut Vec<u8>);

impl Write for Raw<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
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

impl Rfc3339 {
    pub(super) fn append(self, line: &mut Vec<u8>) {
        line.push(b'"');
        line.extend_from_slice(&self.text());
        line.push(b'"');
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
        string(&mut line, value);
        let mut shown = Vec::new();
        displayed(&mut shown, value);
        assert_eq!(line, shown);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn characters_that_end_a_line_or_move_text_are_escaped() {
        assert_eq!(json("a\nb\r\"\\\u{0}"), "\"a\\nb\\r\\\"\\\\\\u0000\"");
        assert_eq!(json("a\u{2028}b\u{85}c\u{7f}"), "\"a\\u2028b\\u0085c\\u007f\"");
        assert_eq!(json("\u{202e}evil\u{200b}\u{feff}é"), "\"\\u202eevil\\u200b\\ufeffé\"");
        assert_eq!(json("\u{9b}31m\u{e0041}"), "\"\\u009b31m\\udb40\\udc41\"");
        assert_eq!(json("größe/データ/🦀"), "\"größe/データ/🦀\"");
    }

    #[test]
    fn whole_numbers_of_every_length_are_right() {
        for number in (0..20).flat_map(|power| [10_u64.pow(power), 10_u64.pow(power) - 1]).chain([u64::MAX]) {
            let mut line = Vec::new();
            whole_number(&mut line, number);
            assert_eq!(line, number.to_string().into_bytes());
        }
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
            let json = json(&text);
            prop_assert!(!json.chars().any(misleads), "{json:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
