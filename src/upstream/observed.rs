//! How long a route's tries take to their first byte: workers count, the control plane reads and
//! writes back the two quantiles that workers go by. Only for routes that go by any.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::limit::hedge::Savings;
use crate::model::settings::TryTimeout;
use crate::observe::metrics::Shard;
use crate::observe::times::Times;

/// What is observed of one route.
#[derive(Debug)]
pub struct Observed {
    /// What workers count. A try that was cut off by its time limit is counted as cut off.
    pub times: Times,
    /// The quantile after which a second try is begun, 0 to 1.
    pub hedge_quantile: f64,
    /// The time limit of one try, if that is learned.
    pub attempt: Option<TryTimeout>,
    /// In microseconds; 0 while unknown, as is the next.
    p99: AtomicU64,
    hedge_after: AtomicU64,
}

impl Observed {
    /// Nothing yet.
    #[must_use]
    pub fn new(workers: usize, hedge_quantile: f64, attempt: Option<TryTimeout>) -> Self {
        let (p99, hedge_after) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { times: Times::new(workers), hedge_quantile, attempt, p99, hedge_after }
    }

    /// What 99 % of tries do not exceed; `None` before enough were seen.
    #[must_use]
    pub fn p99(&self) -> Option<Duration> {
        known(&self.p99)
    }

    /// What the hedge's quantile of tries do not exceed; `None` before enough were seen.
    #[must_use]
    pub fn hedge_after(&self) -> Option<Duration> {
        known(&self.hedge_after)
    }

    /// Takes new quantiles. One writer: the control plane.
    pub fn set(&self, p99: Duration, hedge_after: Duration) {
        for (cell, value) in [(&self.p99, p99), (&self.hedge_after, hedge_after)] {
            cell.store(u64::try_from(value.as_micros()).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
        }
    }

    /// Has a request earn its part, `extra`, of a second try.
    pub fn earn(&self, shard: Shard, extra: f64) {
        self.times.change_word(shard, |saved| Some(Savings(saved).earn(extra).0));
    }

    /// Whether there is enough for a second try, which is spent then.
    #[must_use]
    pub fn spend(&self, shard: Shard) -> bool {
        self.times.change_word(shard, |saved| Savings(saved).spend().map(|left| left.0))
    }
}

fn known(cell: &AtomicU64) -> Option<Duration> {
    match cell.load(Ordering::Relaxed) {
        0 => None,
        micros => Some(Duration::from_micros(micros)),
    }
}
