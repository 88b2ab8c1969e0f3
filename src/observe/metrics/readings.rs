//! What is counted, as those read it who keep a history: sums over all workers, by label, without any
//! text. Looks at handles where they are, so that reading keeps none alive that is otherwise gone.

use std::sync::{Arc, PoisonError};

use super::histogram::Distribution;
use super::{Kept, Registry, RouteLabels, RouteMetrics, WorkerMetrics, WorkerUse};
use crate::ambient;
use crate::observe::shard::Shard;

/// A route, of which each count is read when it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct RouteReading<'a>(&'a Arc<RouteMetrics>);

impl RouteReading<'_> {
    /// Requests so far by class of status, from 1xx to 5xx.
    #[must_use]
    pub fn requests(&self) -> [u64; 5] {
        self.0.requests()
    }

    /// How long they took, from the whole request head to the last byte of the response.
    #[must_use]
    pub fn durations(&self) -> Distribution {
        self.0.durations()
    }

    /// Whether there is such a route still.
    #[must_use]
    pub fn is_held(&self) -> bool {
        Arc::strong_count(self.0) > 1
    }
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
        let mut connections = vec![0; self.worker_metrics.len()];
        self.listeners.each(|_, listener| {
            for (index, sum) in connections.iter_mut().enumerate() {
                *sum += listener.active_of(Shard::worker(index));
            }
        });
        let (now, workers) = (ambient::now(), self.worker_metrics.iter().enumerate());
        workers.zip(connections).map(|((index, worker), held)| worker.read(index, held, now)).collect()
    }

    /// Shows every route to `look`, in the order of their labels. Nothing else is looked up meanwhile: it
    /// is not to take long.
    pub fn each_route(&self, mut look: impl FnMut(&RouteLabels, RouteReading<'_>)) {
        self.routes.each(|labels, metrics| look(labels, RouteReading(metrics)));
    }

    /// Requests that were answered before a route was known, by class of status, from 1xx to 5xx.
    #[must_use]
    pub fn requests_without_route(&self) -> [u64; 5] {
        let mut sums = [0_u64; 5];
        self.listeners.each(|_, metrics| {
            for (sum, count) in sums.iter_mut().zip(metrics.requests_without_route()) {
                *sum = sum.wrapping_add(count);
            }
        });
        sums
    }
}

impl<K, M> Kept<K, M> {
    fn each(&self, mut look: impl FnMut(&K, &Arc<M>)) {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.iter().for_each(|(key, entry)| look(key, &entry.metrics));
    }
}
