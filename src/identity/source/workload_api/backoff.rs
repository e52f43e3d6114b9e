//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
/// Half a minute: an agent that comes back is noticed sooner by its socket.
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles from 100 ms to 30 s. Each wait is between half of that and all of it, so that the workloads of a machine do not ask in step.
#[derive(Debug)]
pub(super) struct Backoff {
    ceiling: Duration,
}

impl Backoff {
    pub(super) const fn new() -> Self {
        Self { ceiling: FIRST }
    }

    /// The next wait; `random` is from 0 to 1.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let half = self.ceiling / 2;
        self.ceiling = self.ceiling.saturating_mul(2).min(LONGEST);
        half.saturating_add(half.mul_f64(random.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_half_a_minute_and_are_spread_over_their_upper_half() {
        let waits = |random| {
            let mut backoff = Backoff::new();
            (0..11).map(|_| backoff.next(random).as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(waits(1.0), [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]);
        assert_eq!(waits(0.0), [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 15_000, 15_000]);
    }
}
