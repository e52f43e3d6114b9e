//! The time of day, as an argument.

use std::fmt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// Where "now" comes from when validity is judged: the system, or a test.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> SystemTime + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::from_fn(SystemTime::now)
    }

    /// A clock that asks `now` each time.
    #[must_use]
    pub fn from_fn(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The same clock from this moment on, but never behind the time that has really passed since: when the wall clock is set back,
    /// this one goes on, and when it is set forward, so is this one.
    #[must_use]
    pub fn steady(&self) -> Self {
        let (clock, begun, since) = (self.clone(), self.now(), Instant::now());
        Self::from_fn(move || {
            let passed = begun.checked_add(since.elapsed()).unwrap_or(begun);
            clock.now().max(passed)
        })
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_steady_clock_is_set_forward_and_not_back() {
        let begun = SystemTime::now();
        let wall = Arc::new(Mutex::new(begun));
        let shown = Arc::clone(&wall);
        let clock = Clock::from_fn(move || *shown.lock().unwrap()).steady();
        assert!(clock.now() >= begun && clock.now() < begun + HOUR / 2);
        *wall.lock().unwrap() = begun + HOUR;
        assert_eq!(clock.now(), begun + HOUR);
        *wall.lock().unwrap() = begun - HOUR;
        assert!(clock.now() >= begun, "it went back");
    }
}
