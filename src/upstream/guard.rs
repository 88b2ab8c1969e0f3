//! What stands before a pool: how many requests are under way there and how many may be, and what
//! the control plane lets through. Atomics that the data plane reads and counts; whatever needs a
//! window or an average is decided elsewhere and written here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::Valve;
use super::valve::{Pass, Trial};
use crate::ambient;
use crate::health::Outcome;
use crate::limit::gate::Waiting;
use crate::limit::{Gate, Rejection, Room, Turn, throttle};
use crate::model::settings::{Limits, Priority};
use crate::observe::metrics::PoolMetrics;

/// A pool's limits at work.
#[derive(Debug)]
pub struct Guard {
    /// Requests under way and those that wait to be, on all workers.
    pub gate: Arc<Gate>,
    /// Requests under way for which no endpoint has a place.
    pub line: Arc<Room>,
    /// The breaker of the pool as a whole.
    pub breaker: Valve,
    /// The part that admission control turns away, in 2^-32.
    pub shedding: AtomicU32,
    /// Retries under way.
    retrying: AtomicU32,
    /// The rung of the ladder of degradation that the pool is on; 0 is the pool itself.
    pub rung: AtomicU8,
    /// What is counted.
    pub metrics: Arc<PoolMetrics>,
}

/// One retry under way in a pool, until it is dropped.
#[derive(Debug)]
pub struct Retrying<'a>(&'a AtomicU32);

/// As [`Trial`], of whoever cannot borrow the guard for so long. Dropped without [`Self::end`], it says
/// nothing.
#[derive(Debug)]
pub struct OwnedTrial {
    /// Taken once it was told.
    guard: Option<Arc<Guard>>,
    began: Instant,
}

/// One request under way in a pool, until it is dropped.
#[derive(Debug)]
pub struct Permit<'a>(&'a Guard);

/// As [`Permit`], of whoever cannot borrow the guard for so long.
#[derive(Debug)]
pub struct OwnedPermit(Arc<Guard>);

impl Guard {
    /// A guard for a pool with these limits, at which nothing is under way.
    #[must_use]
    pub fn new(limits: &Limits, metrics: Arc<PoolMetrics>, line: Arc<Room>) -> Self {
        let gate = Arc::new(Gate::new(limits.in_flight, limits.waiting, ambient::now));
        metrics.watch(&gate, &line);
        Self {
            gate,
            line,
            breaker: Valve::default(),
            shedding: AtomicU32::new(0),
            retrying: AtomicU32::new(0),
            rung: AtomicU8::new(0),
            metrics,
        }
    }

    /// Takes new limits. Nobody who is inside or waits is turned away by that. With `adaptive`, something
    /// else sets the limit, up to that of `limits`.
    pub fn adjust(&self, limits: &Limits, adaptive: bool) {
        self.gate.set_waiting(limits.waiting);
        let limit = if adaptive { self.limit().min(limits.in_flight) } else { limits.in_flight };
        self.gate.set_limit(limit);
    }

    /// Whether the breaker and admission control let a request of this priority pass, and whether it is
    /// a trial. `draw` is 32 random bits, asked for only if a part of the requests is turned away.
    ///
    /// # Errors
    /// When they do not.
    #[inline]
    pub fn pass(
        &self,
        priority: Priority,
        now: impl FnOnce() -> Instant,
        draw: impl FnOnce() -> u32,
    ) -> Result<Option<Trial<'_>>, Rejection> {
        let shedding = self.shedding.load(Ordering::Relaxed);
        if shedding != 0 && draw() < throttle::share_of(priority, shedding) {
            return Err(Rejection::Admission);
        }
        match self.breaker.pass(now) {
            Pass::Through => Ok(None),
            Pass::Trial(trial) => Ok(Some(trial)),
            Pass::Refused => Err(Rejection::Breaker),
        }
    }

    /// As [`Self::pass`], for whoever cannot borrow the guard for so long.
    ///
    /// # Errors
    /// When they do not.
    pub fn pass_owned(
        self: &Arc<Self>,
        priority: Priority,
        now: Instant,
        draw: impl FnOnce() -> u32,
    ) -> Result<Option<OwnedTrial>, Rejection> {
        let trial = self.pass(priority, || now, draw)?;
        Ok(trial.map(|trial| {
            trial.hand_over();
            OwnedTrial { guard: Some(Arc::clone(self)), began: now }
        }))
    }

    /// Counts a request as under way, if it may be at once.
    #[inline]
    #[must_use]
    pub fn enter(&self) -> Option<Permit<'_>> {
        // Made only if it holds, since what is made is given back.
        self.gate.try_enter().then(|| Permit(self))
    }

    /// As [`Self::enter`], for whoever cannot borrow the guard for so long.
    #[must_use]
    pub fn enter_owned(self: &Arc<Self>) -> Option<OwnedPermit> {
        self.gate.try_enter().then(|| OwnedPermit(Arc::clone(self)))
    }

    /// Counts a request as under way that [`Waiting::poll`] has let in.
    ///
    /// # Errors
    /// When it was told otherwise.
    pub fn entered(&self, turn: Turn) -> Result<Permit<'_>, Rejection> {
        match turn {
            Turn::Granted => Ok(Permit(self)),
            Turn::Displaced => Err(Rejection::Displaced),
        }
    }

    /// Waits for its turn until `until`.
    ///
    /// # Errors
    /// When as many wait as may.
    pub fn wait(&self, priority: Priority, until: Instant) -> Result<Waiting<'_>, Rejection> {
        self.gate.join(priority, until).ok_or(Rejection::QueueFull)
    }

    /// Counts a retry as under way. Whether there may be one is decided elsewhere, before: workers that
    /// decide at the same moment may each begin one.
    #[must_use]
    pub fn retry(&self) -> Retrying<'_> {
        self.retrying.fetch_add(1, Ordering::Relaxed);
        Retrying(&self.retrying)
    }

    /// Retries under way.
    #[must_use]
    pub fn retrying(&self) -> u32 {
        self.retrying.load(Ordering::Relaxed)
    }

    /// Whether there are as many requests under way as may be, or some wait.
    #[must_use]
    pub fn is_saturated(&self) -> bool {
        self.gate.waiting() > 0 || self.line.waiting() > 0 || self.in_flight() >= self.limit()
    }

    /// Requests under way.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.gate.in_flight()
    }

    /// How many may be.
    #[must_use]
    pub fn limit(&self) -> u32 {
        self.gate.limit()
    }

    /// Takes a new limit, at least 1. One writer: the control plane.
    pub fn set_limit(&self, limit: u32) {
        self.gate.set_limit(limit);
    }
}

impl OwnedTrial {
    /// What became of it, known at `now`.
    pub fn end(mut self, outcome: Outcome, now: Instant) {
        if let Some(guard) = self.guard.take() {
            guard.breaker.end_trial(outcome, now.saturating_duration_since(self.began));
        }
    }
}

impl Drop for OwnedTrial {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.take() {
            guard.breaker.end_trial(Outcome::Cancelled, Duration::ZERO);
        }
    }
}

impl Drop for Retrying<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for OwnedPermit {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}
