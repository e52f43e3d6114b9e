//! Lifetimes as people write them: `90s`, `15m`, `24h`, `30d`.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A number and one of `s`, `m`, `h`, `d`; not zero.
pub(super) fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let expected = || format!("`{text}` is not a lifetime such as `90s`, `15m`, `24h` or `30d`");
    let unit = text.chars().next_back().ok_or_else(expected)?;
    let number = text.strip_suffix(unit).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()));
    let number: u64 = number.and_then(|number| number.parse().ok()).ok_or_else(expected)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    match number.checked_mul(seconds) {
        Some(0) | None => Err(expected()),
        Some(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// A moment in RFC 3339, in UTC.
pub(in crate::cli) fn moment(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_else(|_| "a time beyond the calendar".to_owned())
}

/// How long, in the two largest units that matter.
pub(in crate::cli) fn roughly(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_a_number_and_a_unit() {
        for (text, seconds) in [("1s", 1), ("15m", 900), ("24h", 86_400), ("8760h", 31_536_000), ("30d", 2_592_000)] {
            assert_eq!(parse_lifetime(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "h", "0h", "24", "-1h", "+1h", "1.5h", "1 h", "24H", "1w", "1é", "99999999999999999999h"] {
            assert!(parse_lifetime(text).is_err_and(|error| error.contains("is not a lifetime")), "{text}");
        }
    }

    #[test]
    fn durations_read_well() {
        let texts = [5, 65, 3_661, 90_061].map(|seconds| roughly(Duration::from_secs(seconds)));
        assert_eq!(texts, ["5 s", "1 min 5 s", "1 h 1 min", "1 d 1 h"]);
    }
}
