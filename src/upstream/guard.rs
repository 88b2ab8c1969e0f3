//! What stands before a pool: how many requests are under way there and how many may be, and what
//! the control plane lets through. Atomics that the data plane reads and counts; whatever needs a
//! window or an average is decided elsewhere and written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::limit::Rejection;
use crate::model::settings::Limits;
use crate::observe::metrics::PoolMetrics;

/// A pool's limits at work.
#[derive(Debug)]
pub struct Guard {
    /// Requests under way, on all workers.
    in_flight: AtomicU32,
    /// How many may be.
    limit: AtomicU32,
    /// The part that admission control turns away, in 2^-32.
    pub shedding: AtomicU32,
    /// Retries under way.
    pub retrying: AtomicU32,
    /// The rung of the ladder of degradation that the pool is on; 0 is the pool itself.
    pub rung: AtomicU8,
    /// What is counted.
    pub metrics: Arc<PoolMetrics>,
}

/// One request under way in a pool, until it is dropped.
#[derive(Debug)]
pub struct Permit<'a>(&'a Guard);

impl Guard {
    /// A guard for a pool with these limits, at which nothing is under way.
    #[must_use]
    pub fn new(limits: &Limits, metrics: Arc<PoolMetrics>) -> Self {
        Self {
            in_flight: AtomicU32::new(0),
            limit: AtomicU32::new(limits.in_flight),
            shedding: AtomicU32::new(0),
            retrying: AtomicU32::new(0),
            rung: AtomicU8::new(0),
            metrics,
        }
    }

    /// Counts a request as under way.
    ///
    /// # Errors
    /// When there are as many as may be.
    pub fn enter(&self) -> Result<Permit<'_>, Rejection> {
        let permit = Permit(self);
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before < self.limit.load(Ordering::Relaxed) { Ok(permit) } else { Err(Rejection::QueueFull) }
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How many may be.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Takes a new limit, at least 1. One writer: the control plane.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit.max(1), Ordering::Relaxed);
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
