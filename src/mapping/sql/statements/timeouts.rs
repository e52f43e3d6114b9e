//! Timeouts that a session can lower and not raise.

use std::sync::Arc;
use std::time::Duration;

use super::SettingValue;
use crate::config::SessionCaps;
use crate::mapping::sql::asked::{Asked, refused};
use crate::mapping::sql::rewrite::Planned;
use crate::mapping::sql::{Instead, SqlRefusal};

/// The longest timeout that the server takes, in milliseconds: `INT_MAX` (guc_tables.c).
const LONGEST: u64 = 0x7FFF_FFFF;

/// The most that the setting of this name may be; none if it is not capped.
///
/// A transaction's age and how long a session may idle between transactions the proxy measures itself, whatever the server is told.
pub(super) fn cap(name: &str, caps: &SessionCaps) -> Option<Duration> {
    match name {
        "statement_timeout" => caps.statement,
        "idle_in_transaction_session_timeout" => caps.idle_in_transaction,
        _ => None,
    }
}

/// What becomes of a value for a capped setting.
#[derive(Debug, PartialEq, Eq)]
enum Becomes {
    /// It is sent as it is.
    Stays,
    /// The cap is sent.
    Capped,
    /// It cannot be read: nobody knows what it would be.
    Unclear,
}

/// Asks for a capped timeout to be set: a shorter one is, and the cap in place of a longer one or of 0, which is none at all.
///
/// # Errors
/// `42501` for a value that cannot be read.
pub(super) fn set(asked: &mut Asked, name: &str, value: SettingValue<'_>, most: Duration) -> Result<(), SqlRefusal> {
    let most = most.as_millis();
    let message = format!(
        "permission denied to set parameter \"{name}\": it is capped at {most} ms, and the value is not written as a plain number"
    );
    let otherwise = SqlRefusal { sqlstate: "42501", ..refused("setting-capped", message) };
    let SettingValue::Constant(says, at) = value else { return Err(otherwise) };
    match becomes(says, most) {
        Becomes::Stays => {}
        Becomes::Unclear => return Err(otherwise),
        Becomes::Capped => {
            asked.note_capped(format!("\"{name}\" is capped: set to {most} ms").into());
            let instead = Instead::Value(most.to_string().into());
            asked.rewrite(Planned { at, says: says.into(), instead, otherwise: Arc::new(otherwise) });
        }
    }
    Ok(())
}

fn becomes(value: &str, most: u128) -> Becomes {
    match milliseconds(value) {
        Some(wanted) if wanted != 0 && u128::from(wanted) <= most => Becomes::Stays,
        // 0 is no timeout at all.
        Some(..=LONGEST) => Becomes::Capped,
        // What cannot be read is not trusted to be less, and what the server would not take is not made into what it takes.
        Some(_) | None => Becomes::Unclear,
    }
}

/// A timeout as a setting has it: a number with a unit, without one milliseconds. None for what is written in any other way.
///
/// # Source
/// PostgreSQL `parse_int` in guc.c. It also reads fractions, which it may round to 0, and hexadecimal numbers. What begins with `0` is
/// octal there: never more than the same digits as a decimal number.
#[must_use]
pub fn milliseconds(value: &str) -> Option<u64> {
    let value = value.trim();
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let factor = match unit.trim_start() {
        "" | "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "min" => Duration::from_secs(60),
        "h" => Duration::from_secs(3_600),
        "d" => Duration::from_secs(86_400),
        _ => return None,
    };
    number.checked_mul(u64::try_from(factor.as_millis()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capped_timeout_can_be_lowered_and_is_capped_where_it_would_be_raised() {
        for value in ["1", "100", "60000", "60s", " 60 s ", "1min", "010"] {
            assert_eq!(becomes(value, 60_000), Becomes::Stays, "{value}");
        }
        for value in ["0", "00", "0s", " 0 ", "60001", "61s", "2min", "1h", "1d", "2147483647"] {
            assert_eq!(becomes(value, 60_000), Becomes::Capped, "{value}");
        }
        for value in ["-1", "", "x", "1.5s", "1us", "0x10", "1e9", "5 S", "2147483648", "99999999999999999999", "365d"]
        {
            assert_eq!(becomes(value, 60_000), Becomes::Unclear, "{value}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_read_is_refused_in_words_that_name_the_cap() {
        let most = Duration::from_secs(60);
        let unknown = set(&mut Asked::default(), "statement_timeout", SettingValue::Unknown, most).unwrap_err();
        assert_eq!((unknown.sqlstate, unknown.rule), ("42501", "setting-capped"));
        assert!(unknown.message.contains("60000 ms"), "{unknown}");
    }
}
