//! What was counted, as values, for those in this process who follow it over time: a history, a report.
//! Does not know how they are shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Distribution, PoolMetrics, Registry, RouteLabels, RouteMetrics, WorkerMetrics, WorkerUse};
use crate::ambient;
use crate::model::Name;
use crate::observe::shard::Shard;

/// What was counted of one route so far, towards one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteReading {
    /// Which route.
    pub labels: RouteLabels,
    /// Requests by class of status, from 1xx to 5xx.
    pub requests: [u64; 5],
    /// From the whole request head to the last byte of the response.
    pub duration: Distribution,
}

/// What was counted of one pool so far, and what goes on in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReading {
    /// Which pool.
    pub pool: Name,
    /// Requests of its routes by class of status, from 1xx to 5xx.
    pub requests: [u64; 5],
    /// From the whole request head to the last byte of the response.
    pub duration: Distribution,
    /// How long requests waited for their turn, of those that had to.
    pub waits: Distribution,
    /// Requests under way.
    pub in_flight: u32,
    /// How many may be.
    pub limit: u32,
    /// Requests that wait.
    pub waiting: u32,
}

impl Registry {
    /// The handle of the worker with this number; `None` past the number that there was to be.
    #[must_use]
    pub fn worker(&self, index: usize) -> Option<&WorkerMetrics> {
        self.worker_metrics.get(index)
    }

    /// How much each worker has to do, in the order of their numbers.
    #[must_use]
    pub fn workers_use(&self) -> Vec<WorkerUse> {
        let (listeners, now) = (self.listeners.all(), ambient::now());
        let read = |(index, worker): (usize, &WorkerMetrics)| {
            let shard = Shard::worker(index);
            let connections = listeners.iter().map(|(_, listener)| listener.active_of(shard)).sum();
            worker.read(index, connections, now)
        };
        self.worker_metrics.iter().enumerate().map(read).collect()
    }

    /// What was counted of every route, in the order of their labels. A route that is removed is soon
    /// left out, with all that was counted of it.
    #[must_use]
    pub fn route_readings(&self) -> Vec<RouteReading> {
        let read = |(labels, metrics): (RouteLabels, Arc<RouteMetrics>)| RouteReading {
            labels,
            requests: metrics.requests(),
            duration: metrics.durations(),
        };
        self.routes.all().into_iter().map(read).collect()
    }

    /// What was counted of every pool, in the order of their names. Requests are those of the routes that
    /// there are: what was counted of a pool can become less when a route is removed.
    #[must_use]
    pub fn pool_readings(&self) -> Vec<PoolReading> {
        let mut by_pool: BTreeMap<Name, ([u64; 5], Distribution)> = BTreeMap::new();
        for route in self.route_readings() {
            let Some(pool) = route.labels.pool else { continue };
            let (requests, durations) = by_pool.entry(pool).or_default();
            requests.iter_mut().zip(route.requests).for_each(|(sum, count)| *sum += count);
            durations.add(&route.duration);
        }
        let read = |(pool, metrics): (Name, Arc<PoolMetrics>)| {
            let (requests, duration) = by_pool.remove(&pool).unwrap_or_default();
            let [in_flight, limit, waiting] = metrics.load();
            PoolReading { pool, requests, duration, waits: metrics.waits(), in_flight, limit, waiting }
        };
        self.pools.all().into_iter().map(read).collect()
    }

    /// Requests answered before a route was known for them, by class of status, from 1xx to 5xx.
    #[must_use]
    pub fn refused_by_class(&self) -> [u64; 5] {
        let mut sums = [0; 5];
        for (_, listener) in self.listeners.all() {
            sums.iter_mut().zip(listener.refused_by_class()).for_each(|(sum, count)| *sum += count);
        }
        sums
    }
}
