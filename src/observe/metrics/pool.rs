//! What is counted of a pool as a whole: what is under way and waits, and what was turned away by which
//! limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::exposition::{Exposition, Title, labels};
use super::histogram::{Distribution, Histogram};
use crate::limit::{Gate, Rejection, Room};
use crate::model::Name;
use crate::observe::shard::{Count, Shard, Sharded};

/// Counts of one pool.
#[derive(Debug)]
pub struct PoolMetrics {
    cells: Sharded<Cells>,
    watched: Mutex<Option<(Arc<Gate>, Arc<Room>)>>,
}

#[derive(Debug, Default)]
struct Cells {
    rejections: [Count; Rejection::ALL.len()],
    waits: Histogram,
}

impl PoolMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self { cells: Sharded::new(workers), watched: Mutex::default() }
    }

    /// Takes what is under way and what waits from here from now on.
    pub fn watch(&self, gate: &Arc<Gate>, line: &Arc<Room>) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Arc::clone(gate), Arc::clone(line)));
    }

    /// A request was turned away.
    pub fn rejected(&self, shard: Shard, by: Rejection) {
        if let Some(count) = self.cells.of(shard).and_then(|cells| cells.rejections.get(by as usize)) {
            count.add(1);
        }
    }

    /// A request has waited for its turn, whether or not it came.
    pub fn waited(&self, shard: Shard, took: Duration) {
        if let Some(cells) = self.cells.of(shard) {
            cells.waits.record(took);
        }
    }

    /// How many requests each limit turned away, in the order of [`Rejection::ALL`].
    #[must_use]
    pub fn rejections(&self) -> [u64; Rejection::ALL.len()] {
        self.cells.totals(|cells| &cells.rejections)
    }

    /// Requests under way, how many may be, and how many wait.
    fn load(&self) -> [u32; 3] {
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.as_ref().map_or([0; 3], |(gate, line)| {
            [gate.in_flight(), gate.limit(), gate.waiting().saturating_add(line.waiting())]
        })
    }
}

/// Adds what pools count.
pub(super) fn expose<'a>(
    pools: impl Iterator<Item = (&'a Name, &'a PoolMetrics)> + Clone,
    out: &mut Exposition,
) {
    for (title, load) in LOAD {
        let loads = pools
            .clone()
            .map(|(pool, metrics)| (labels([("pool", pool.as_str())]), f64::from(load(metrics.load()))));
        out.gauge(*title, loads);
    }
    let waits = pools.clone().map(|(pool, metrics)| {
        (labels([("pool", pool.as_str())]), Distribution::of(&metrics.cells, |cells| &cells.waits))
    });
    out.histogram(WAITS, waits);
    let rejections = pools.flat_map(|(pool, metrics)| {
        Rejection::ALL
            .into_iter()
            .zip(metrics.rejections())
            .map(|(limit, count)| (labels([("pool", pool.as_str()), ("limit", limit.name())]), count as f64))
    });
    out.counter(REJECTIONS, rejections);
}

/// A number of a pool's load.
type Load = fn([u32; 3]) -> u32;

const LOAD: &[(Title, Load)] = &[
    (
        Title("forebay_pool_in_flight", "Requests under way, those that wait for an endpoint included."),
        |[n, _, _]| n,
    ),
    (Title("forebay_pool_in_flight_limit", "Requests that may be under way at once."), |[_, n, _]| n),
    (Title("forebay_pool_waiting", "Requests that wait for their turn, or for an endpoint."), |[_, _, n]| n),
];

const WAITS: Title =
    Title("forebay_queue_seconds", "How long requests waited for their turn, of those that had to wait.");

const REJECTIONS: Title =
    Title("forebay_rejections_total", "Requests turned away before an endpoint was asked, by limit.");
