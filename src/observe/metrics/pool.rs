//! What is counted of a pool as a whole: what was turned away by which limit.

use super::exposition::{Exposition, Title, labels};
use crate::limit::Rejection;
use crate::model::Name;
use crate::observe::shard::{Count, Shard, Sharded};

/// Counts of one pool.
#[derive(Debug)]
pub struct PoolMetrics(Sharded<Cells>);

#[derive(Debug, Default)]
struct Cells {
    rejections: [Count; Rejection::ALL.len()],
}

impl PoolMetrics {
    pub(super) fn new(workers: usize) -> Self {
        Self(Sharded::new(workers))
    }

    /// A request was turned away.
    pub fn rejected(&self, shard: Shard, by: Rejection) {
        if let Some(count) = self.0.of(shard).and_then(|cells| cells.rejections.get(by as usize)) {
            count.add(1);
        }
    }
}

/// Adds what pools count.
pub(super) fn expose<'a>(
    pools: impl Iterator<Item = (&'a Name, &'a PoolMetrics)> + Clone,
    out: &mut Exposition,
) {
    let rejections = pools.flat_map(|(pool, metrics)| {
        let counts = metrics.0.totals(|cells| &cells.rejections);
        Rejection::ALL
            .into_iter()
            .zip(counts)
            .map(|(limit, count)| (labels([("pool", pool.as_str()), ("limit", limit.name())]), count as f64))
    });
    out.counter(REJECTIONS, rejections);
}

const REJECTIONS: Title =
    Title("forebay_rejections_total", "Requests turned away before an endpoint was asked, by limit.");
