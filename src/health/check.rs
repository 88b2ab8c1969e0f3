//! When endpoints are checked and how many results in a row change a verdict.

use std::time::Duration;

/// The rhythm of a pool's active checks.
#[derive(Clone, Debug, PartialEq)]
pub struct Rhythm {
    /// Between checks of an endpoint whose verdict stands and is good.
    pub interval: Duration,
    /// While a verdict is changing.
    pub fast_interval: Duration,
    /// While it stands and is bad.
    pub down_interval: Duration,
    /// By which share, 0 to 1, each pause is varied at random, either way.
    pub jitter: f64,
    /// From the start of a check to its verdict.
    pub timeout: Duration,
    /// Failures in a row after which an endpoint is down.
    pub fall: u32,
    /// Passes in a row after which it is up again. A new endpoint needs one.
    pub rise: u32,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            fast_interval: Duration::from_secs(1),
            down_interval: Duration::from_secs(5),
            jitter: 0.2,
            timeout: Duration::from_secs(2),
            fall: 3,
            rise: 2,
        }
    }
}

/// The result of one check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckResult {
    /// Why it failed, in words; `None` when it passed.
    pub failure: Option<String>,
    /// How long it took.
    pub took: Duration,
}
