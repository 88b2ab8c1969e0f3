//! What is counted, as those read it who keep a history: sums over all workers, by label, without any
//! text. Looks at handles where they are, so that reading keeps none alive that is otherwise gone.

use std::sync::{Arc, PoisonError};

use super::histogram::Distribution;
use super::{
    Kept, Registry, RouteLabels, RouteMetrics, StreamLabels, StreamMetrics, WorkerMetrics, WorkerUse,
};
use crate::ambient;
use crate::model::Name;
use crate::observe::ended::{Fault, StreamResult};
use crate::observe::shard::Shard;

/// A route, of which each count is read when it is asked for. What a listener passes on unread to a pool is
/// one as well, by a name of [`PASSED_ON`]: each of its connections or flows that are over is a request.
#[derive(Clone, Copy, Debug)]
pub struct RouteReading<'a>(Of<'a>);

/// What the routes are called by which listeners pass things on unread.
pub const PASSED_ON: [&str; 2] = ["connections", "flows"];

#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    Requests(&'a Arc<RouteMetrics>),
    Connections(&'a Arc<StreamMetrics>),
}

impl RouteReading<'_> {
    /// Requests so far by class of status, from 1xx to 5xx. A connection counts as 2xx, or as 4xx or 5xx if
    /// it was the client's fault, or ours or an endpoint's, that it came to nothing.
    #[must_use]
    pub fn requests(&self) -> [u64; 5] {
        match self.0 {
            Of::Requests(metrics) => metrics.requests(),
            Of::Connections(metrics) => by_class(metrics),
        }
    }

    /// How long they took, from the whole request head to the last byte of the response; of connections,
    /// until the endpoint was connected to, for what comes after is up to both sides. Nothing of flows.
    #[must_use]
    pub fn durations(&self) -> Distribution {
        match self.0 {
            Of::Requests(metrics) => metrics.durations(),
            Of::Connections(metrics) => metrics.connects(),
        }
    }

    /// Whether there is such a route still.
    #[must_use]
    pub fn is_held(&self) -> bool {
        match self.0 {
            Of::Requests(metrics) => Arc::strong_count(metrics) > 1,
            Of::Connections(metrics) => Arc::strong_count(metrics) > 1,
        }
    }
}

fn by_class(metrics: &StreamMetrics) -> [u64; 5] {
    let (mut fine, mut theirs, mut ours) = (0, 0, 0);
    for (result, count) in StreamResult::ALL.into_iter().zip(metrics.results()) {
        *match result.fault() {
            None => &mut fine,
            Some(Fault::Theirs) => &mut theirs,
            Some(Fault::Ours) => &mut ours,
        } += count;
    }
    [0, fine, 0, theirs, ours]
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
        self.routes.each(|labels, metrics| look(labels, RouteReading(Of::Requests(metrics))));
        for (word, passed_on) in PASSED_ON.into_iter().zip([&self.streams, &self.flows]) {
            let Ok(word) = Name::new(word) else { continue };
            passed_on.each(|StreamLabels { listener, pool }, metrics| {
                let (listener, route, pool) = (listener.clone(), word.clone(), Some(pool.clone()));
                look(&RouteLabels { listener, route, pool }, RouteReading(Of::Connections(metrics)));
            });
        }
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
