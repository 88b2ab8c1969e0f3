//! Times to the first byte, counted in buckets that grow by an eighth of their power of two, so that
//! a quantile is known within about 12 %. Small enough to keep per endpoint and worker.

use std::ops::Range;
use std::time::Duration;

/// Times counted by bucket.
#[derive(Clone, Debug, Default)]
pub struct Latencies {
    /// [`BUCKETS`] of them, or none before anything was counted.
    buckets: Vec<u32>,
    /// Those outside of it are empty: most times of an endpoint are alike.
    within: Range<usize>,
    /// What all of them add up to.
    count: u64,
}

impl Latencies {
    /// Counts one that took `took`.
    pub fn record(&mut self, took: Duration) {
        self.add(bucket(took), 1);
    }

    /// Adds `count` to the bucket at `index`; nothing past the last.
    pub fn add(&mut self, index: usize, count: u32) {
        if count == 0 {
            return;
        }
        if self.buckets.is_empty() {
            self.buckets.resize(BUCKETS, 0);
        }
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket = bucket.saturating_add(count);
            self.count += u64::from(count);
            if self.within.is_empty() {
                self.within = index..index + 1;
            } else if index < self.within.start {
                self.within.start = index;
            } else if index >= self.within.end {
                self.within.end = index + 1;
            }
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (index, count) in other.counts() {
            self.add(index, count);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many took longer than `bound`, by the middles of their buckets.
    #[must_use]
    pub fn above(&self, bound: Duration) -> u64 {
        let above = self.counts().filter(|(index, _)| middle(*index) > bound);
        above.map(|(_, count)| u64::from(count)).sum()
    }

    /// Forgets all, and keeps the room for others.
    pub fn clear(&mut self) {
        self.buckets.fill(0);
        (self.within, self.count) = (0..0, 0);
    }

    /// The buckets that are not empty, with their counts.
    pub fn counts(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let within = self.buckets.get(self.within.clone()).unwrap_or_default();
        (self.within.start..).zip(within.iter().copied()).filter(|(_, count)| *count > 0)
    }

    /// The mean, by the middles of the buckets; zero when nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Duration {
        let seconds = |(index, count)| middle(index).as_secs_f64() * f64::from(count);
        let sum: f64 = self.counts().map(seconds).sum();
        Duration::from_secs_f64(sum / self.count.max(1) as f64)
    }

    /// The time that a share `q` of all, 0 to 1, did not exceed: the middle of its bucket. `None` when
    /// nothing was counted.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = ((self.count as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts() {
            seen += u64::from(count);
            if seen >= rank {
                return Some(middle(index));
            }
        }
        None
    }
}

impl PartialEq for Latencies {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.counts().eq(other.counts())
    }
}

impl Eq for Latencies {}

/// The bucket of a time.
#[must_use]
pub fn bucket(took: Duration) -> usize {
    let units = u64::try_from(took.as_micros()).unwrap_or(u64::MAX) / UNIT_MICROS;
    let power = u64::BITS - (units | 1).leading_zeros() - 1;
    let index = if power < SUB_BITS {
        units
    } else {
        let within = (units >> (power - SUB_BITS)) & (SUB - 1);
        u64::from(power - SUB_BITS + 1) * SUB + within
    };
    usize::try_from(index).unwrap_or(BUCKETS).min(BUCKETS - 1)
}

/// The middle of a bucket.
fn middle(index: usize) -> Duration {
    let index = index as u64;
    let (group, within) = (index / SUB, index % SUB);
    let (from, width) =
        if group == 0 { (within, 1) } else { ((SUB + within) << (group - 1), 1 << (group - 1)) };
    Duration::from_micros(from * UNIT_MICROS + width * UNIT_MICROS / 2)
}

/// How many buckets there are: the last begins at about two minutes.
pub const BUCKETS: usize = 152;
/// The width of the first buckets, in microseconds.
const UNIT_MICROS: u64 = 64;
const SUB_BITS: u32 = 3;
/// Buckets to each power of two.
const SUB: u64 = 1 << SUB_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_within_an_eighth_of_its_bucket() {
        let mut before = 0;
        for exponent in 0..1000 {
            let took = Duration::from_secs_f64(100e-6 * 1.0139_f64.powi(exponent));
            let index = bucket(took);
            assert!(index >= before, "{took:?}");
            before = index;
            let off = middle(index).as_secs_f64() / took.as_secs_f64() - 1.0;
            assert!(off.abs() < 0.33 || index == BUCKETS - 1, "{took:?}: {off}");
            if took > Duration::from_millis(1) && took < Duration::from_secs(100) {
                assert!(off.abs() < 0.08, "{took:?}: {off}");
            }
        }
        assert_eq!(bucket(Duration::MAX), BUCKETS - 1);
        assert_eq!(bucket(Duration::ZERO), 0);
        assert!(middle(BUCKETS - 1) > Duration::from_secs(100));
    }

    #[test]
    fn quantiles_are_of_what_was_counted() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let near =
            |q: f64, ms: f64| (latencies.quantile(q).unwrap().as_secs_f64() * 1e3 / ms - 1.0).abs() < 0.08;
        assert_eq!(latencies.above(Duration::from_millis(49)) / 5, 10);
        assert_eq!((latencies.above(Duration::ZERO), latencies.above(Duration::MAX)), (100, 0));
        assert!((latencies.mean().as_secs_f64() / 0.0505 - 1.0).abs() < 0.02);
        assert_eq!(Latencies::default().mean(), Duration::ZERO);
        assert!(near(0.5, 50.0) && near(0.9, 90.0) && near(1.0, 100.0) && near(0.0, 1.0));
    }
}
