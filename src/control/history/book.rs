//! The history itself: takes what was counted by now, once a second, and keeps what came in between, in
//! steps of a second for the process, and of ten seconds for everything. Given the time, and pure.

use std::time::{Duration, Instant, SystemTime};

use super::sample::{PoolSample, ProcessSample, Sample as _, Traffic};
use super::series::{Ring, Series};
use super::shelf::{Shelf, Shown};
use crate::control::scaling::Look;
use crate::model::Name;
use crate::observe::metrics::RouteLabels;

/// What is kept, and where each count was when it was last looked at.
#[derive(Debug)]
pub(super) struct Book {
    origin: Instant,
    /// Seconds from the origin to the end of the last step.
    seconds: u64,
    /// Whether a long step ends with the round that is under way.
    closes: bool,
    process: Ring<ProcessSample>,
    long: Ring<ProcessSample>,
    routes: Shelf<RouteLabels, Traffic>,
    pools: Shelf<Name, PoolSample>,
    /// Of requests without a route, what had been counted when the long step began.
    unrouted_before: Traffic,
    /// What was counted since the long step began: now, and when the last short step ended.
    open: Traffic,
    open_before: Traffic,
    /// Requests under way in all pools.
    in_flight: f64,
    /// When it was last looked at how long workers had been busy, and what it was.
    busy: Option<(Instant, Duration)>,
}

/// What is known of the last minutes.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// When it was asked for.
    pub now: SystemTime,
    /// The process as a whole: in steps of a second as far back as these are kept, of ten beyond.
    pub process: Series<ProcessSample>,
    /// Routes, each towards one pool, in the order of their labels. `None` stands, at the end, for those that
    /// have no series of their own.
    pub routes: Vec<(Option<RouteLabels>, Series<Traffic>)>,
    /// Pools by name, and `None` as above.
    pub pools: Vec<(Option<Name>, Series<PoolSample>)>,
}

impl Book {
    /// An empty one that begins at `origin`, when nothing had been counted.
    pub(super) fn new(origin: Instant) -> Self {
        Self {
            origin,
            seconds: 0,
            closes: false,
            process: Ring::new(SECONDS),
            long: Ring::new(LONG_STEPS),
            routes: Shelf::new(MOST_ROUTES, LONG_STEPS),
            pools: Shelf::new(MOST_POOLS, LONG_STEPS),
            unrouted_before: Traffic::default(),
            open: Traffic::default(),
            open_before: Traffic::default(),
            in_flight: 0.0,
            busy: None,
        }
    }

    /// Begins a round; false when no second is over yet.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let seconds = now.saturating_duration_since(self.origin).as_secs();
        if seconds <= self.seconds {
            return false;
        }
        self.closes = seconds / LONG_SECONDS > self.seconds / LONG_SECONDS;
        self.seconds = seconds;
        self.routes.begin();
        self.pools.begin();
        self.pools.rows().for_each(|row| row.open.traffic = Traffic::default());
        self.open = Traffic::default();
        self.in_flight = 0.0;
        true
    }

    /// Takes what a route has `counted` by now, and whether there is such a route still.
    pub(super) fn on_route(&mut self, labels: &RouteLabels, counted: Traffic, is_there: bool) {
        // Most routes never answer themselves, and all could.
        if labels.pool.is_none() && counted.requests == 0 {
            return;
        }
        let Some(row) = self.routes.row(labels) else { return };
        row.is_there = is_there;
        row.open = counted.since(&row.before);
        self.open.add(&row.open);
        if let Some(pool) = labels.pool.as_ref().and_then(|pool| self.pools.known(pool)) {
            pool.open.traffic.add(&row.open);
        }
        if self.closes {
            row.before = counted;
        }
    }

    /// Takes what was `counted` by now of requests that were answered before a route was known.
    pub(super) fn on_unrouted(&mut self, counted: Traffic) {
        self.open.add(&counted.since(&self.unrouted_before));
        if self.closes {
            self.unrouted_before = counted;
        }
    }

    /// Takes a look at a pool, before those at routes.
    pub(super) fn on_pool(&mut self, pool: &Name, look: &Look) {
        self.in_flight += f64::from(look.in_flight);
        let Some(row) = self.pools.row(pool) else { return };
        row.is_there = true;
        row.open.look(look);
        row.open.waits = look.waits.since(&row.before.waits);
        if self.closes {
            row.before.waits = look.waits.clone();
        }
    }

    /// Takes how long each worker has been busy by `now`; the part of the time since the last look that they
    /// were. What was long under way counts when it ends: it is no more than all the same.
    pub(super) fn on_workers(&mut self, busy: &[Duration], now: Instant) -> Option<f64> {
        let whole = busy.iter().sum();
        let (at, before) = self.busy.replace((now, whole))?;
        let passed = now.saturating_duration_since(at).as_secs_f64() * busy.len() as f64;
        (passed > 0.0).then(|| (whole.saturating_sub(before).as_secs_f64() / passed).min(1.0))
    }

    /// Ends the round; the process's sample for the second that is over.
    pub(super) fn end(&mut self, connections: u64, busy_ratio: Option<f64>) -> ProcessSample {
        // What was counted of those that the registry has just forgotten.
        for (labels, row) in self.routes.missed() {
            self.open.add(&row.open);
            if let Some(pool) = labels.pool.as_ref().and_then(|pool| self.pools.known(pool)) {
                pool.open.traffic.add(&row.open);
            }
        }
        let sample = ProcessSample {
            traffic: self.open.since(&self.open_before),
            in_flight: self.in_flight,
            connections: connections as f64,
            busy_ratio,
        };
        self.process.put(self.seconds - 1, sample.clone());
        self.open_before = std::mem::take(&mut self.open);
        if self.closes {
            let step = self.seconds / LONG_SECONDS - 1;
            let (_, seconds) = self.process.newest(SECONDS, step * LONG_SECONDS);
            self.long.put(step, ProcessSample::over(seconds));
            self.routes.close(step);
            self.pools.close(step);
            self.open_before = Traffic::default();
        }
        sample
    }

    /// What is known of the time since `last` before `now`, which is `wall` by the time of day.
    pub(super) fn window(&self, last: Duration, now: Instant, wall: SystemTime) -> Window {
        let seconds = now.saturating_duration_since(self.origin).as_secs();
        let first = seconds.saturating_sub(last.as_secs());
        let begun = |at: u64| {
            let age = now.saturating_duration_since(self.origin + Duration::from_secs(at));
            wall.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
        };
        let process = if last.as_secs() <= SECONDS as u64 {
            let (first, samples) = self.process.newest(SECONDS, first);
            let open = ProcessSample::default();
            Series { step: STEP, from: begun(first), samples: samples.cloned().collect(), open }
        } else {
            let (first, samples) = self.long.newest(LONG_STEPS, first / LONG_SECONDS);
            let (_, open) = self.process.newest(SECONDS, self.seconds / LONG_SECONDS * LONG_SECONDS);
            let (from, open) = (begun(first * LONG_SECONDS), ProcessSample::over(open));
            Series { step: LONG_STEP, from, samples: samples.cloned().collect(), open }
        };
        let first = first / LONG_SECONDS;
        let series = |first: u64| begun(first * LONG_SECONDS);
        Window {
            now: wall,
            process,
            routes: all_series(self.routes.shown(LONG_STEPS, first), series),
            pools: all_series(self.pools.shown(LONG_STEPS, first), series),
        }
    }
}

fn all_series<K, S>(
    shown: Vec<Shown<K, S>>,
    begun: impl Fn(u64) -> SystemTime,
) -> Vec<(Option<K>, Series<S>)> {
    let series =
        |(key, first, samples, open)| (key, Series { step: LONG_STEP, from: begun(first), samples, open });
    shown.into_iter().map(series).collect()
}

/// The short step, which is kept of the process only.
const STEP: Duration = Duration::from_secs(1);
/// Short steps that are kept: ten minutes.
const SECONDS: usize = 600;
/// The long step, in seconds.
const LONG_SECONDS: u64 = 10;
const LONG_STEP: Duration = Duration::from_secs(LONG_SECONDS);
/// Long steps that are kept: an hour.
const LONG_STEPS: usize = 360;
/// Routes with a series of their own. One takes some 40 kB if it has requests in every step.
const MOST_ROUTES: usize = 64;
/// Pools likewise; a series of one takes twice as much.
const MOST_POOLS: usize = 64;

#[cfg(test)]
mod tests;
