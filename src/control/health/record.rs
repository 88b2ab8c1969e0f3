//! Where the events of health go: the journal, the log, the metrics.

use std::time::Instant;

use crate::health::journal::Event;
use crate::health::{PoolHealth, Sample};
use crate::upstream::Pool;

/// What is kept of what happened.
#[derive(Debug, Default)]
pub struct Record {}

impl Record {
    /// Takes the samples of one interval.
    pub(super) fn interval(&self, pool: &Pool, samples: &[Sample], now: Instant) {
        let _ = (pool, samples, now);
    }

    /// Takes events of a pool, in their order.
    pub(super) fn events(&self, pool: &Pool, events: &[Event], health: &PoolHealth) {
        let _ = health;
        for event in events {
            tracing::info!(pool = %pool.settings.name, ?event, "health");
        }
    }
}
