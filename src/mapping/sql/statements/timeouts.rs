//! Timeouts that a session can lower and not raise.

use std::time::Duration;

use super::SettingValue;
use crate::config::SessionCaps;
use crate::mapping::sql::SqlRefusal;
use crate::mapping::sql::asked::refused;

/// The most that the setting of this name may be; none if it is not capped.
pub(super) fn cap(name: &str, caps: &SessionCaps) -> Option<Duration> {
    match name {
        "statement_timeout" => caps.statement,
        "idle_in_transaction_session_timeout" => caps.idle_in_transaction,
        _ => None,
    }
}

/// Whether a capped setting stays below its cap. 0 is no timeout at all, and what cannot be read is not trusted to be less.
///
/// # Errors
/// `42501` for everything else.
pub(super) fn within(name: &str, value: SettingValue<'_>, most: Duration) -> Result<(), SqlRefusal> {
    let wanted = match value {
        SettingValue::Constant(value, _) => milliseconds(value),
        _ => None,
    };
    if wanted.is_some_and(|wanted| wanted != 0 && u128::from(wanted) <= most.as_millis()) {
        return Ok(());
    }
    let most = most.as_millis();
    let message = format!("permission denied to set parameter \"{name}\": 1 ms to {most} ms can be set");
    Err(SqlRefusal { sqlstate: "42501", ..refused("setting-capped", message) })
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
    fn a_capped_timeout_can_be_lowered_and_nothing_else() {
        let most = Duration::from_secs(60);
        let judged = |value| within("statement_timeout", SettingValue::Constant(value, 0), most).map_err(|no| no.rule);
        for value in ["1", "100", "60000", "60s", " 60 s ", "1min", "010"] {
            assert_eq!(judged(value), Ok(()), "{value}");
        }
        for value in
            ["0", "00", "0s", "60001", "61s", "2min", "1h", "1d", "-1", "", "x", "1.5s", "1us", "0x10", "1e9", "5 S"]
        {
            assert_eq!(judged(value), Err("setting-capped"), "{value}");
        }
        let unknown = within("statement_timeout", SettingValue::Unknown, most).unwrap_err();
        assert_eq!(unknown.sqlstate, "42501");
        assert!(unknown.message.contains("60000 ms"), "{unknown}");
    }
}
