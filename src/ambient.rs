//! The clock and the dice: the only readers of time and randomness in the program. Everything that
//! decides takes `now` and `draw` as arguments; only the code that calls it comes here.

use std::time::{Instant, SystemTime};

/// The monotonic clock.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the monotonic clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// The time of day, for log lines and metrics. It may jump; decisions use [`now`].
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the time of day")]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// A uniformly distributed random number from a generator of the calling thread. Not for secrets.
#[must_use]
pub fn draw() -> u64 {
    fastrand::u64(..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_run_backwards_and_draws_differ() {
        assert!(now() <= now());
        assert!(wall() > SystemTime::UNIX_EPOCH);
        assert_ne!((draw(), draw()), (draw(), draw()));
    }
}
