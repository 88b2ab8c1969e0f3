//! How long things took, in buckets. One set of bounds serves every histogram of a registry, so that they
//! can be compared and added up; finding the bucket takes no branch. Knows no names.

use std::sync::Arc;
use std::time::Duration;

use crate::model::settings::Buckets;
use crate::observe::shard::{Count, Sharded};

/// Upper bounds of the buckets. Only ever read, by all threads.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(align(128))]
pub(super) struct Bounds {
    /// In microseconds, ascending; those past the last are greater than any duration.
    micros: [i32; LANES],
    len: usize,
}

/// Durations counted by bucket. Cells of one shard, with room for as many bounds as there may be: one
/// allocation holds all cells of a shard, so that no two shards have a cache line in common.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Count; BUCKETS],
    nanos: Count,
}

impl Bounds {
    pub(super) fn new(buckets: &Buckets) -> Self {
        let mut micros = [i32::MAX; LANES];
        for (lane, bound) in micros.iter_mut().zip(buckets.iter()) {
            *lane = i32::try_from(bound.as_micros()).unwrap_or(i32::MAX);
        }
        Self { micros, len: buckets.iter().len() }
    }

    /// Which bucket takes `nanos`: the number of bounds below it. Written as a sum over all lanes,
    /// which compiles to a few vector comparisons, because a search would mispredict as often as
    /// durations vary.
    #[inline]
    fn bucket(&self, nanos: u64) -> usize {
        let micros = i32::try_from(nanos.div_ceil(1000)).unwrap_or(i32::MAX);
        self.micros.iter().map(|bound| i32::from(*bound < micros)).sum::<i32>().unsigned_abs() as usize
    }

    fn iter(&self) -> impl Iterator<Item = f64> {
        self.micros.iter().take(self.len).map(|micros| f64::from(*micros))
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new(&Buckets::default())
    }
}

impl Histogram {
    #[inline]
    pub(super) fn record(&self, bounds: &Bounds, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bounds.bucket(nanos)) {
            bucket.add(1);
        }
        self.nanos.add(nanos);
    }

    /// Counts what `other` has counted, of the same bounds.
    pub(super) fn absorb(&self, other: &Self) {
        self.buckets.iter().zip(&other.buckets).for_each(|(own, other)| own.add(other.get()));
        self.nanos.add(other.nanos.get());
    }
}

/// A [`Distribution`] in as little memory as what is in it allows, for those who keep many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    bounds: Arc<Bounds>,
    /// One for each bucket with something in it: its number in the upper eighth, the count in the rest.
    counts: Box<[u64]>,
    nanos: u64,
}

/// The durations of one histogram over all shards, as read at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    bounds: Arc<Bounds>,
    /// Count per bucket, not cumulative; one more than there are bounds, and then none.
    buckets: [u64; BUCKETS],
    nanos: u64,
}

impl Distribution {
    /// One in which nothing is recorded.
    pub(super) fn empty(bounds: &Arc<Bounds>) -> Self {
        Self { bounds: Arc::clone(bounds), buckets: [0; BUCKETS], nanos: 0 }
    }

    /// Adds up the shards of a histogram with these bounds.
    pub(super) fn of<T>(
        bounds: &Arc<Bounds>,
        cells: &Sharded<T>,
        histogram: impl Fn(&T) -> &Histogram,
    ) -> Self {
        let mut whole = Self::empty(bounds);
        whole.count_in(cells, histogram);
        whole
    }

    /// Adds the shards of a histogram with the same bounds.
    pub(super) fn count_in<T>(&mut self, cells: &Sharded<T>, histogram: impl Fn(&T) -> &Histogram) {
        for part in cells.iter().map(histogram) {
            for (sum, bucket) in self.buckets.iter_mut().zip(&part.buckets) {
                *sum = sum.wrapping_add(bucket.get());
            }
            self.nanos = self.nanos.wrapping_add(part.nanos.get());
        }
    }

    /// Each upper bound in seconds with the count of what took at most that long.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let running = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        self.bounds.iter().map(|micros| micros / 1e6).zip(running)
    }

    /// The same in less memory.
    #[must_use]
    pub fn pack(&self) -> Packed {
        let counts = (0_u64..).zip(&self.buckets).filter(|(_, count)| **count > 0);
        let counts = counts.map(|(bucket, count)| bucket << COUNT_BITS | (*count & COUNT_MASK)).collect();
        Packed { bounds: Arc::clone(&self.bounds), counts, nanos: self.nanos }
    }

    /// How many durations were recorded. By construction what the buckets add up to.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all durations, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
    }

    /// Adds what another histogram of the same registry has recorded.
    pub fn add(&mut self, other: &Self) {
        if self.nanos == 0 && self.count() == 0 {
            self.clone_from(other);
            return;
        }
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count = count.wrapping_add(*more);
        }
        self.nanos = self.nanos.wrapping_add(other.nanos);
    }

    /// What was recorded since `before`, an earlier reading of the same histogram.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut part = self.clone();
        for (count, earlier) in part.buckets.iter_mut().zip(&before.buckets) {
            *count = count.saturating_sub(*earlier);
        }
        part.nanos = part.nanos.saturating_sub(before.nanos);
        part
    }

    /// An estimate of the duration that a share `q` (0 to 1) does not exceed: linear within the
    /// bucket where it falls, and the greatest bound past that. `None` when nothing was recorded.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = q.clamp(0.0, 1.0) * self.count() as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (upper, count) in self.bounds.iter().zip(&self.buckets) {
            let count = *count as f64;
            if count > 0.0 && below + count >= rank {
                return Some(micros(lower + (upper - lower) * (rank - below) / count));
            }
            (below, lower) = (below + count, upper);
        }
        (self.count() > 0).then(|| micros(lower))
    }
}

impl Packed {
    /// The same as it was.
    #[must_use]
    pub fn unpack(&self) -> Distribution {
        let mut whole = Distribution::empty(&self.bounds);
        for packed in &self.counts {
            let bucket = usize::try_from(packed >> COUNT_BITS).unwrap_or(usize::MAX);
            if let Some(count) = whole.buckets.get_mut(bucket) {
                *count = packed & COUNT_MASK;
            }
        }
        whole.nanos = self.nanos;
        whole
    }

    /// How many durations were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|packed| packed & COUNT_MASK).sum()
    }
}

fn micros(micros: f64) -> Duration {
    Duration::from_secs_f64(micros.max(0.0) / 1e6)
}

/// Bounds that are compared with at once: whole vectors of any processor.
const LANES: usize = 32;

const BUCKETS: usize = Buckets::MOST + 1;

/// Bits of a packed count: more requests than there will ever be.
const COUNT_BITS: u32 = 56;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

const _: () = assert!(Buckets::MOST < LANES);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::shard::Shard;

    fn recorded(durations: &[Duration]) -> Distribution {
        let cells = Sharded::<Histogram>::new(3);
        for (i, took) in durations.iter().enumerate() {
            cells.of(Shard::worker(i % 3)).unwrap().record(&Bounds::default(), *took);
        }
        Distribution::of(&Arc::default(), &cells, |histogram| histogram)
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_one_nanosecond_more_does_not() {
        let many = Buckets::new((1..=30).map(|n| Duration::from_micros(n * 60_000_000)).collect());
        let few = Buckets::new(vec![Duration::from_micros(1)]);
        for buckets in [Buckets::default(), many.unwrap(), few.unwrap()] {
            let bounds = Bounds::new(&buckets);
            for (i, bound) in buckets.iter().enumerate() {
                let nanos = u64::try_from(bound.as_nanos()).unwrap();
                assert_eq!(bounds.bucket(nanos), i, "{bound:?}");
                assert_eq!(bounds.bucket(nanos + 1), i + 1, "{bound:?} and a nanosecond");
            }
            assert_eq!(bounds.bucket(0), 0);
            assert_eq!(bounds.bucket(u64::MAX), buckets.iter().len());
        }
    }

    #[test]
    fn counts_are_cumulative_and_sums_exact() {
        let ms = Duration::from_millis;
        let whole = recorded(&[ms(1), ms(2), ms(3), ms(700), Duration::from_secs(3600)]);
        assert_eq!(whole.count(), 5);
        assert!((whole.seconds() - 3600.706).abs() < 1e-9);
        let at = |seconds: f64| whole.cumulative().find(|(bound, _)| *bound >= seconds).unwrap().1;
        assert_eq!((at(0.0005), at(0.001), at(0.0025), at(0.005), at(1.0), at(60.0)), (0, 1, 2, 3, 4, 4));
    }

    #[test]
    fn quantiles_fall_into_the_right_bucket() {
        let mut durations = vec![Duration::from_micros(800); 98];
        durations.extend([Duration::from_millis(80), Duration::from_millis(90)]);
        let whole = recorded(&durations);
        let micros = |q| whole.quantile(q).unwrap().as_micros();
        assert!((500..=1000).contains(&micros(0.5)), "{}", micros(0.5));
        assert!((50_000..=100_000).contains(&micros(0.99)), "{}", micros(0.99));
        assert_eq!(recorded(&[]).quantile(0.5), None);
        assert_eq!(recorded(&[Duration::from_secs(999)]).quantile(0.5), Some(Duration::from_secs(60)));
    }

    #[test]
    fn what_is_packed_takes_little_and_is_the_same_again() {
        let ms = Duration::from_millis;
        for durations in [vec![], vec![ms(1)], vec![ms(1), ms(2), ms(2), ms(30), Duration::from_secs(999)]] {
            let whole = recorded(&durations);
            let packed = whole.pack();
            assert_eq!((packed.unpack(), packed.count()), (whole, durations.len() as u64));
            assert!(packed.counts.len() <= 4);
        }
    }

    #[test]
    fn a_difference_leaves_what_came_between() {
        let ms = Duration::from_millis;
        let (before, after) = (recorded(&[ms(1)]), recorded(&[ms(1), ms(40)]));
        assert_eq!(after.since(&before), recorded(&[ms(40)]));
    }
}
