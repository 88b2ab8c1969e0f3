//! What happened at one endpoint since it was last looked at.

use std::time::Duration;

use super::Latencies;
use super::outcome::Failure;

/// What happened at one endpoint in an interval, over all workers. Cancelled exchanges count
/// nowhere.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Exchanges that ended well.
    pub successes: u64,
    /// Exchanges that failed, in the order of [`Failure::ALL`].
    pub failures: [u64; Failure::ALL.len()],
    /// Consecutive failures (see [`Failure::is_consecutive`]) up to now: 0 after a success.
    pub streak: u32,
    /// Consecutive failures to connect up to now.
    pub connect_streak: u32,
    /// Times to the first byte, of responses that began in the interval.
    pub latencies: Latencies,
    /// Requests that wait for their first byte now.
    pub waiting: u32,
    /// How long these have waited, on average.
    pub waiting_age: Duration,
    /// What became of the request that was let through to an endpoint on trial.
    pub trial: Option<Trial>,
}

/// What became of a trial request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// It ended well.
    Passed,
    /// It failed.
    Failed,
}

impl Sample {
    /// Exchanges that failed, however.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Exchanges that failed so.
    #[must_use]
    pub fn failed_by(&self, failure: Failure) -> u64 {
        self.failures.get(failure as usize).copied().unwrap_or_default()
    }

    /// Exchanges that ended, well or not.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.successes + self.failed()
    }

    /// Whether there is nothing to learn from it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.ended() == 0 && self.waiting == 0 && self.latencies.count() == 0 && self.trial.is_none()
    }
}
