//! When a connection has to end though its peer would go on.

use std::future::pending;
use std::time::Duration;

use tokio::time::sleep;

use crate::drain::DrainWatch;
use crate::tls::{Stay, StayOver};

/// Why a connection has to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// The process drains.
    Drain,
    /// It is as old as it may become.
    Aged,
    /// The peer has no right to be here any more.
    Over(StayOver),
}

impl Ending {
    /// As records name it.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Drain => "drain-timeout",
            Self::Aged => "connection-age",
            Self::Over(over) => over.rule,
        }
    }
}

/// Ready when the process drains, the peer's stay is over, or the connection is as old as it may become. Our own workload has no stay:
/// it is here as long as we are.
pub(super) async fn of(drain: &DrainWatch, stay: Option<Stay>, age: Option<Duration>) -> Ending {
    let over = async {
        match stay {
            Some(mut stay) => stay.over().await,
            None => pending().await,
        }
    };
    let aged = async {
        match age {
            Some(age) => sleep(shortened(age)).await,
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        () = drain.draining() => Ending::Drain,
        over = over => Ending::Over(over),
        () = aged => Ending::Aged,
    }
}

/// Up to a tenth less: connections that began together must not come back together.
fn shortened(age: Duration) -> Duration {
    age.mul_f64(1.0 - fastrand::f64() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drain;

    #[test]
    fn ages_differ_and_none_is_longer_than_it_may_be() {
        let age = Duration::from_secs(1_000);
        let ages: Vec<Duration> = (0..100).map(|_| shortened(age)).collect();
        assert!(ages.iter().all(|one| (Duration::from_secs(900)..=age).contains(one)), "{ages:?}");
        assert!(ages.iter().any(|one| *one < Duration::from_secs(950)), "{ages:?}");
        assert!(ages.iter().any(|one| *one > Duration::from_secs(950)), "{ages:?}");
    }

    #[tokio::test]
    async fn what_comes_first_ends_a_connection() {
        let (trigger, watch) = drain::channel();
        assert_eq!(of(&watch, None, Some(Duration::from_millis(1))).await, Ending::Aged);
        trigger.announce();
        assert_eq!(of(&watch, None, None).await, Ending::Drain);
    }
}
