//! The same endpoint for the same key: keys and endpoints are points on a ring, and a key goes to the
//! next endpoint on it (Karger and others, 1997; many points for each endpoint as in libketama, by
//! xxHash). For caches and sharded state. Shares are within about a tenth of the weights; `maglev` is
//! more even and quicker, and moves a few more keys when the membership changes.

use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::hashing::{Hashing, Table};
use super::{Gauge, Kind, Pick, Policy, Setup};

pub(super) const KIND: Kind = Kind {
    name: "ring_hash",
    summary: "the same for the same key, by a ring of hashes",
    hashes: true,
    build: |setup| Box::new(RingHash::new(setup)),
};

struct RingHash {
    hashing: Hashing,
    ring: Table<Vec<Point>>,
}

/// Where an endpoint stands on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    at: u64,
    index: u32,
}

impl RingHash {
    fn new(setup: &Setup<'_>) -> Self {
        Self { hashing: Hashing::new(setup), ring: Table::default() }
    }

    fn make(&self, weights: &[u32]) -> Vec<Point> {
        let lightest = f64::from(weights.iter().copied().min().unwrap_or(1).max(1));
        let whole: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let each = (POINTS / lightest).min(MOST_POINTS / whole);
        let mut ring = Vec::new();
        for (index, weight) in (0..).zip(weights) {
            let points = (each * f64::from(*weight)).round().max(1.0) as u32;
            let identity = self.hashing.identity(index);
            ring.extend((0..points).map(|number| Point {
                at: XxHash3_64::oneshot_with_seed(identity, &number.to_le_bytes()),
                index,
            }));
        }
        ring.sort_unstable();
        ring
    }
}

impl Policy for RingHash {
    fn pick(&self, gauges: &[Arc<Gauge>], pick: &Pick<'_>) -> Option<usize> {
        let ring = self.ring.get(gauges, pick.now, |weights| self.make(weights))?;
        let from = ring.partition_point(|point| point.at < pick.key);
        let (before, after) = ring.split_at_checked(from)?;
        let walk = after.iter().chain(before).map(|point| point.index).take(WALK);
        self.hashing.settle(walk, gauges, pick)
    }
}

/// Points of the lightest endpoint: libketama's number.
const POINTS: f64 = 160.0;
/// Points of all endpoints together, about: 16 bytes each, for each worker.
const MOST_POINTS: f64 = 65_536.0;
/// Points that are looked at for one key. Where more are in vain, few of many endpoints may be used.
const WALK: usize = 512;
