//! When a server is asked again.

use std::time::Duration;

/// Without a hint (SPIFFE Federation 4.1 recommends it).
const DEFAULT: Duration = Duration::from_secs(300);
/// A hint below this would have us ask all the time.
const SHORTEST_HINT: Duration = Duration::from_secs(10);
/// A hint above this would have us trust withdrawn keys for as long: the standard's own example says 28 days.
const LONGEST_HINT: Duration = Duration::from_secs(3600);
/// The first pause while there is no document at all, twice as long after each failure …
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// … up to this.
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// Of how much of a pause chance decides, so that sidecars that began together do not ask together.
const JITTER: f64 = 0.1;

/// How long to wait before a server is asked again; `hint` is what the document itself says.
///
/// After a failure too, as long as there is a document: retrying at once would overwhelm the server (SPIFFE Federation 6.2). `chance` is
/// from 0 to 1.
#[must_use]
pub fn pause(
    configured: Option<Duration>,
    hint: Option<Duration>,
    has_document: bool,
    failures: u32,
    chance: f64,
) -> Duration {
    let interval = configured.unwrap_or_else(|| hint.unwrap_or(DEFAULT).clamp(SHORTEST_HINT, LONGEST_HINT));
    let pause = match has_document {
        true => interval,
        false => FIRST_RETRY
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
            .min(LONGEST_RETRY)
            .min(interval),
    };
    pause.mul_f64(1.0 - JITTER * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_configuration_goes_before_the_hint_and_the_hint_has_bounds() {
        let next = |configured, hint| pause(configured, hint, true, 0, 0.0);
        assert_eq!(next(None, None), seconds(300));
        assert_eq!(next(None, Some(seconds(60))), seconds(60));
        assert_eq!(next(None, Some(seconds(0))), seconds(10));
        assert_eq!(next(None, Some(seconds(2_419_200))), seconds(3600));
        assert_eq!(next(None, Some(Duration::MAX)), seconds(3600));
        assert_eq!(next(Some(seconds(1)), Some(seconds(60))), seconds(1));
        assert_eq!(next(Some(seconds(7200)), None), seconds(7200));
    }

    #[test]
    fn a_failure_waits_for_the_next_poll_unless_there_is_no_document_yet() {
        let after = |has_document, failures| pause(None, Some(seconds(120)), has_document, failures, 0.0);
        assert_eq!([0, 1, 9].map(|failures| after(true, failures)), [seconds(120); 3]);
        let waits = [1, 2, 3, 6, 7, u32::MAX].map(|failures| after(false, failures));
        assert_eq!(waits, [seconds(1), seconds(2), seconds(4), seconds(32), seconds(60), seconds(60)]);
        assert_eq!(pause(Some(seconds(5)), None, false, 9, 0.0), seconds(5), "never slower than it is polled");
    }

    #[test]
    fn chance_takes_up_to_a_tenth_away() {
        let with = |chance| pause(Some(seconds(100)), None, true, 0, chance);
        assert_eq!([with(0.0), with(0.5), with(1.0)], [seconds(100), seconds(95), seconds(90)]);
    }
}
