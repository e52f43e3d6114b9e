//! Until when a bundle is taken.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The moment from which a bundle is not taken any more, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Expiry(u64);

/// Why a text is no such moment.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{}` is no moment like `2027-01-31T00:00:00Z` (RFC 3339)", text.escape_debug())]
pub struct ExpiryError {
    text: String,
}

impl Expiry {
    /// Reads a moment as RFC 3339 has it: with a time zone, which is `Z` or an offset.
    ///
    /// # Errors
    /// It is none, or was before 1970.
    pub fn parse(text: &str) -> Result<Self, ExpiryError> {
        let moment = OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp);
        // What cannot be written again in UTC is none either.
        let moment = moment.filter(|seconds| OffsetDateTime::from_unix_timestamp(*seconds).is_ok());
        let seconds = moment.and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map(Self).ok_or_else(|| ExpiryError { text: text.to_owned() })
    }

    /// As a time of the system's clock.
    #[must_use]
    pub fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(self.0)
    }

    /// Whether it has come.
    #[must_use]
    pub fn is_past(self, now: SystemTime) -> bool {
        self.time() <= now
    }
}

impl TryFrom<String> for Expiry {
    type Error = ExpiryError;

    fn try_from(text: String) -> Result<Self, ExpiryError> {
        Self::parse(&text)
    }
}

impl From<Expiry> for String {
    fn from(expiry: Expiry) -> Self {
        expiry.to_string()
    }
}

impl fmt::Display for Expiry {
    /// `2027-01-31T00:00:00Z`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = i64::try_from(self.0).ok().and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        match moment.and_then(|moment| moment.format(&Rfc3339).ok()) {
            Some(moment) => f.write_str(&moment),
            None => write!(f, "{} s after 1970", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_same_however_it_is_written_and_comes_at_its_second() {
        let moment = Expiry::parse("2027-01-31T12:00:00Z").unwrap();
        assert_eq!(moment.to_string(), "2027-01-31T12:00:00Z");
        for same in ["2027-01-31T14:00:00+02:00", "2027-01-31T12:00:00.9Z", "2027-01-31t12:00:00z"] {
            assert_eq!(Expiry::parse(same), Ok(moment), "{same}");
        }
        assert!(!moment.is_past(moment.time() - Duration::from_nanos(1)) && moment.is_past(moment.time()));
        assert_eq!(Expiry::parse(&moment.to_string()), Ok(moment));
    }

    #[test]
    fn what_is_no_moment_is_refused_by_name() {
        for text in [
            "",
            "tomorrow",
            "30d",
            "2027-01-31",
            "2027-01-31T12:00:00",
            "2027-02-30T12:00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59-23:59",
            "1800000000",
            "2027-01-31T12:00:00Z\n",
        ] {
            let error = Expiry::parse(text).expect_err(text).to_string();
            assert!(error.contains(&format!("`{}` is no moment like `2027-", text.escape_debug())), "{error}");
        }
    }
}
