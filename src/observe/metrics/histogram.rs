//! How long things took, in buckets. One set of bounds serves every histogram, so that they can be
//! compared and added up; finding the bucket takes no branch. Knows no names.

use std::time::Duration;

use crate::observe::shard::{Count, Sharded};

/// Durations counted by bucket. Cells of one shard.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    buckets: [Count; BUCKETS],
    nanos: Count,
}

impl Histogram {
    #[inline]
    pub(super) fn record(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket(nanos)) {
            bucket.add(1);
        }
        self.nanos.add(nanos);
    }
}

/// The durations of one histogram over all shards, as read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// Count per bucket, not cumulative; the last has no upper bound.
    buckets: [u64; BUCKETS],
    nanos: u64,
}

impl Distribution {
    /// Adds up the shards of a histogram.
    pub(super) fn of<T>(cells: &Sharded<T>, histogram: impl Fn(&T) -> &Histogram) -> Self {
        let mut whole = Self { buckets: [0; BUCKETS], nanos: 0 };
        for part in cells.iter().map(histogram) {
            for (sum, bucket) in whole.buckets.iter_mut().zip(&part.buckets) {
                *sum = sum.wrapping_add(bucket.get());
            }
            whole.nanos = whole.nanos.wrapping_add(part.nanos.get());
        }
        whole
    }

    /// Each upper bound in seconds with the count of what took at most that long.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let running = self.buckets.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        BOUNDS.iter().map(|micros| f64::from(*micros) / 1e6).zip(running)
    }

    /// How many durations were recorded. By construction what the buckets add up to.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all durations, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.nanos as f64 / 1e9
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

    /// Adds what another histogram recorded.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count = count.saturating_add(*more);
        }
        self.nanos = self.nanos.saturating_add(other.nanos);
    }

    /// An estimate of the duration that a share `q` (0 to 1) does not exceed: linear within the
    /// bucket where it falls, and the greatest bound past that. `None` when nothing was recorded.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = q.clamp(0.0, 1.0) * self.count() as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, count) in BOUNDS.iter().zip(&self.buckets) {
            let (upper, count) = (f64::from(*bound), *count as f64);
            if count > 0.0 && below + count >= rank {
                return Some(micros(lower + (upper - lower) * (rank - below) / count));
            }
            (below, lower) = (below + count, upper);
        }
        (self.count() > 0).then(|| micros(lower))
    }
}

fn micros(micros: f64) -> Duration {
    Duration::from_secs_f64(micros.max(0.0) / 1e6)
}

/// Which bucket takes `nanos`: the number of bounds below it. Written as a sum over all bounds,
/// which compiles to a few vector comparisons, because a search would mispredict as often as
/// durations vary.
#[inline]
fn bucket(nanos: u64) -> usize {
    let micros = i32::try_from(nanos.div_ceil(1000)).unwrap_or(i32::MAX);
    BOUNDS.iter().map(|bound| i32::from(*bound < micros)).sum::<i32>().unsigned_abs() as usize
}

/// Upper bounds of the buckets in microseconds, ascending: from what a local origin takes to what a
/// timeout takes.
const BOUNDS: [i32; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

const BUCKETS: usize = BOUNDS.len() + 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::shard::Shard;

    fn recorded(durations: &[Duration]) -> Distribution {
        let cells = Sharded::<Histogram>::new(3);
        for (i, took) in durations.iter().enumerate() {
            cells.of(Shard::worker(i % 3)).unwrap().record(*took);
        }
        Distribution::of(&cells, |histogram| histogram)
    }

    #[test]
    fn a_bound_belongs_to_its_bucket_and_one_nanosecond_more_does_not() {
        for (i, bound) in BOUNDS.iter().enumerate() {
            let nanos = bound.unsigned_abs() as u64 * 1000;
            assert_eq!(bucket(nanos), i, "{bound} µs");
            assert_eq!(bucket(nanos + 1), i + 1, "{bound} µs and a nanosecond");
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
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
    fn a_difference_leaves_what_came_between() {
        let ms = Duration::from_millis;
        let (before, after) = (recorded(&[ms(1)]), recorded(&[ms(1), ms(40)]));
        assert_eq!(after.since(&before), recorded(&[ms(40)]));
    }
}
