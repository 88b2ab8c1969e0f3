//! What is counted of a pool as a whole: what is under way and waits, and what was turned away by which
//! limit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::exposition::{Exposition, Title, labels};
use super::histogram::{Bounds, Distribution, Histogram};
use super::scale::ScaleMetrics;
use crate::limit::hedge::{Race, Refusal};
use crate::limit::retry::{Cause, Reason};
use crate::limit::{Gate, Rejection, Room};
use crate::model::Name;
use crate::observe::shard::{Count, Shard, Sharded};

/// Counts of one pool.
#[derive(Debug)]
pub struct PoolMetrics {
    cells: Sharded<Cells>,
    bounds: Arc<Bounds>,
    watched: Mutex<Option<(Arc<Gate>, Arc<Room>)>>,
    pub(super) scale: ScaleMetrics,
}

#[derive(Debug, Default)]
struct Cells {
    rejections: [Count; Rejection::ALL.len()],
    waits: Histogram,
    retries: [Count; Cause::ALL.len()],
    refused_retries: [Count; Reason::ALL.len()],
    hedges: [Count; Race::NAMES.len()],
    refused_hedges: [Count; Refusal::NAMES.len()],
}

impl PoolMetrics {
    pub(super) fn new(workers: usize, bounds: &Arc<Bounds>) -> Self {
        Self {
            cells: Sharded::new(workers),
            bounds: Arc::clone(bounds),
            watched: Mutex::default(),
            scale: ScaleMetrics::default(),
        }
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

    /// A request was tried again.
    pub fn retried(&self, shard: Shard, cause: Cause) {
        self.add(shard, |cells| cells.retries.get(cause as usize));
    }

    /// A request was not tried again though it failed in a way that is.
    pub fn not_retried(&self, shard: Shard, reason: Reason) {
        self.add(shard, |cells| cells.refused_retries.get(reason as usize));
    }

    /// A request had a second try beside the first.
    pub fn hedged(&self, shard: Shard, race: Race) {
        self.add(shard, |cells| cells.hedges.get(race as usize));
    }

    /// A request had none though one was due.
    pub fn not_hedged(&self, shard: Shard, refusal: Refusal) {
        self.add(shard, |cells| cells.refused_hedges.get(refusal as usize));
    }

    fn add(&self, shard: Shard, count: impl FnOnce(&Cells) -> Option<&Count>) {
        if let Some(count) = self.cells.of(shard).and_then(count) {
            count.add(1);
        }
    }

    /// A request has waited for its turn, whether or not it came.
    pub fn waited(&self, shard: Shard, took: Duration) {
        if let Some(cells) = self.cells.of(shard) {
            cells.waits.record(&self.bounds, took);
        }
    }

    /// How many requests each limit turned away, in the order of [`Rejection::ALL`].
    #[must_use]
    pub fn rejections(&self) -> [u64; Rejection::ALL.len()] {
        self.cells.totals(|cells| &cells.rejections)
    }

    /// How long requests waited for their turn, of those that had to wait.
    #[must_use]
    pub fn waits(&self) -> Distribution {
        Distribution::of(&self.bounds, &self.cells, |cells| &cells.waits)
    }

    /// Requests under way, how many may be, and how many wait.
    pub(super) fn load(&self) -> [u32; 3] {
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
    let waits = pools.clone().map(|(pool, metrics)| (labels([("pool", pool.as_str())]), metrics.waits()));
    out.histogram(WAITS, waits);
    expose_tries(pools.clone(), out);
    let rejections = pools.flat_map(|(pool, metrics)| {
        Rejection::ALL
            .into_iter()
            .zip(metrics.rejections())
            .map(|(limit, count)| (labels([("pool", pool.as_str()), ("limit", limit.name())]), count as f64))
    });
    out.counter(REJECTIONS, rejections);
}

/// Adds what pools count of further tries.
fn expose_tries<'a>(pools: impl Iterator<Item = (&'a Name, &'a PoolMetrics)> + Clone, out: &mut Exposition) {
    let rows: [(Title, &str, &[&str], Row); 4] = [
        (RETRIES, "cause", &Cause::ALL.map(Cause::name), |cells| &cells.retries),
        (REFUSED_RETRIES, "reason", &Reason::ALL.map(Reason::name), |cells| &cells.refused_retries),
        (HEDGES, "result", &Race::NAMES, |cells| &cells.hedges),
        (REFUSED_HEDGES, "reason", &Refusal::NAMES, |cells| &cells.refused_hedges),
    ];
    for (title, label, names, row) in rows {
        let samples = pools.clone().flat_map(|(pool, metrics)| {
            let count = |(index, name): (usize, &&str)| {
                let cells = metrics.cells.iter().filter_map(|cells| row(cells).get(index));
                let count = cells.map(Count::get).fold(0, u64::wrapping_add);
                (labels([("pool", pool.as_str()), (label, name)]), count as f64)
            };
            names.iter().enumerate().map(count).collect::<Vec<_>>()
        });
        out.counter(title, samples);
    }
}

/// A row of counts.
type Row = fn(&Cells) -> &[Count];

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

const RETRIES: Title =
    Title("forebay_retries_total", "Requests tried again at another endpoint, or at the same, by cause.");

const REFUSED_RETRIES: Title = Title(
    "forebay_retries_refused_total",
    "Requests not tried again though they failed in a way that is tried again, by reason.",
);

const HEDGES: Title =
    Title("forebay_hedges_total", "Second tries beside the first, by what came of the second.");

const REFUSED_HEDGES: Title =
    Title("forebay_hedges_refused_total", "Second tries that were due and were not made, by reason.");

const REJECTIONS: Title =
    Title("forebay_rejections_total", "Requests turned away before an endpoint was asked, by limit.");
