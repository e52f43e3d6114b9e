//! Whether our clock can be right, as far as certificates tell.

use std::time::SystemTime;

use super::report::Report;
use crate::cli::certs::lifetime::{moment, roughly};

/// The time, and the latest moment at which somebody has issued a certificate that we saw.
#[derive(Debug)]
pub(super) struct Clock {
    now: SystemTime,
    latest: Option<(String, SystemTime)>,
}

impl Clock {
    pub(super) fn new(now: SystemTime) -> Self {
        Self { now, latest: None }
    }

    pub(super) fn now(&self) -> SystemTime {
        self.now
    }

    /// A certificate that begins at this moment.
    pub(super) fn saw(&mut self, whose: &str, not_before: SystemTime) {
        if self.latest.as_ref().is_none_or(|(_, latest)| *latest < not_before) {
            self.latest = Some((whose.to_owned(), not_before));
        }
    }

    pub(super) fn tell(&self, report: &mut Report) {
        let now = moment(self.now);
        match &self.latest {
            None => report.note("clock", format!("{now}, with no certificate to compare it with"), ""),
            Some((whose, begins)) => match begins.duration_since(self.now) {
                Ok(ahead) if !ahead.is_zero() => {
                    let message = format!("{now}, but {whose} begins {} later", roughly(ahead));
                    let advice = "our clock is behind, or that of its issuer ahead: synchronise both (chrony, systemd-timesyncd)";
                    report.bad("clock", message, advice);
                }
                _ => report.good("clock", format!("{now}, later than every certificate seen began")),
            },
        }
    }
}
