//! What is kept of one step: of the process, of a route, of a pool. Sums and means; two samples of one
//! kind can be added up, so that a longer time, or several objects, can be shown as one. Pure.

use std::time::Duration;

use crate::control::scaling::Look;
use crate::observe::metrics::{Distribution, Packed};

/// Something of which samples are kept.
pub trait Sample: Clone + Default {
    /// Adds what another object had in the same step.
    fn add(&mut self, other: &Self);

    /// What came and went.
    fn traffic(&self) -> &Traffic;
}

/// Requests that ended in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub requests: u64,
    /// How many of them were answered with a status of 5xx.
    pub errors: u64,
    /// How long they took, from the whole head of the request to the last byte of the response. Requests
    /// that were answered before a route was known are not in it.
    pub times: Times,
}

/// How long things took. Takes next to no memory where nothing was recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times(Option<Packed>);

/// The process in a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessSample {
    /// All requests, those included that were answered before a route was known.
    pub traffic: Traffic,
    /// Requests under way in pools at the end of the step; the mean of these over a longer one.
    pub in_flight: f64,
    /// Connections of clients, likewise.
    pub connections: f64,
    /// The part of their time that workers were busy, 0 to 1, where that is known.
    pub busy_ratio: Option<f64>,
}

/// A pool in a step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolSample {
    /// Requests of all routes that lead to it.
    pub traffic: Traffic,
    /// Requests under way, the mean over the step.
    pub in_flight: f64,
    /// How many there could be, the mean over the step.
    pub capacity: f64,
    /// How long requests waited for their turn, of those that had to wait.
    pub waits: Times,
    /// Endpoints that got traffic at the end of the step.
    pub available: u64,
    /// Endpoints at the end of the step.
    pub total: u64,
    /// From how many looks the means are.
    looks: u32,
}

impl Traffic {
    /// What was counted since `before`, an earlier count of the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            errors: self.errors.saturating_sub(before.errors),
            times: self.times.since(&before.times),
        }
    }
}

impl Times {
    /// What was counted.
    #[must_use]
    pub fn new(times: &Distribution) -> Self {
        Self((times.count() > 0).then(|| times.pack()))
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, Packed::count)
    }

    /// The duration that a share `q` (0 to 1) did not exceed, as far as the buckets say; `None` where
    /// nothing was recorded.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        self.0.as_ref()?.unpack().quantile(q)
    }

    /// The same in seconds.
    #[must_use]
    pub fn seconds(&self, q: f64) -> Option<f64> {
        self.quantile(q).map(|time| time.as_secs_f64())
    }

    /// What was recorded since `before`, an earlier reading of the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        match (&self.0, &before.0) {
            (Some(times), Some(before)) => Self::new(&times.unpack().since(&before.unpack())),
            (times, _) => Self(times.clone()),
        }
    }

    /// Adds what others recorded.
    pub fn add(&mut self, other: &Self) {
        let Some(other) = &other.0 else { return };
        self.0 = Some(match &self.0 {
            None => other.clone(),
            Some(times) => {
                let mut sum = times.unpack();
                sum.add(&other.unpack());
                sum.pack()
            }
        });
    }
}

impl ProcessSample {
    /// The samples of a longer step in one.
    pub(super) fn over<'a>(steps: impl Iterator<Item = &'a Self>) -> Self {
        let (mut whole, mut count, mut busy) = (Self::default(), 0.0, None::<(f64, f64)>);
        for step in steps {
            whole.add(step);
            count += 1.0;
            if let Some(ratio) = step.busy_ratio {
                let (sum, known) = busy.unwrap_or_default();
                busy = Some((sum + ratio, known + 1.0));
            }
        }
        if count > 0.0 {
            whole.in_flight /= count;
            whole.connections /= count;
        }
        whole.busy_ratio = busy.map(|(sum, known)| sum / known);
        whole
    }
}

impl PoolSample {
    /// Requests under way of those that could be: 0 to 1 as a rule, more where the limit has just come
    /// down; 0 where none could be.
    #[must_use]
    pub fn utilisation(&self) -> f64 {
        if self.capacity > 0.0 { self.in_flight / self.capacity } else { 0.0 }
    }

    /// Takes a look at the pool into the means.
    pub(super) fn look(&mut self, look: &Look) {
        self.looks = self.looks.saturating_add(1);
        let looks = f64::from(self.looks);
        self.in_flight += (f64::from(look.in_flight) - self.in_flight) / looks;
        self.capacity += (f64::from(look.capacity) - self.capacity) / looks;
        (self.available, self.total) = (look.available.into(), look.total.into());
    }
}

impl Sample for Traffic {
    fn add(&mut self, other: &Self) {
        self.requests = self.requests.saturating_add(other.requests);
        self.errors = self.errors.saturating_add(other.errors);
        self.times.add(&other.times);
    }

    fn traffic(&self) -> &Traffic {
        self
    }
}

impl Sample for ProcessSample {
    fn add(&mut self, other: &Self) {
        self.traffic.add(&other.traffic);
        self.in_flight += other.in_flight;
        self.connections += other.connections;
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}

impl Sample for PoolSample {
    fn add(&mut self, other: &Self) {
        self.traffic.add(&other.traffic);
        self.waits.add(&other.waits);
        self.in_flight += other.in_flight;
        self.capacity += other.capacity;
        self.available += other.available;
        self.total += other.total;
    }

    fn traffic(&self) -> &Traffic {
        &self.traffic
    }
}
