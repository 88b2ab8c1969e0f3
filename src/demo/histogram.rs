//! Durations counted in buckets that grow with them, so that any quantile is known to within one
//! sixteenth of its value whatever the range. Fixed in size; never forgets. Knows no clock.

use std::time::Duration;

/// How many durations fell where.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts one duration. Those past about a minute count as the longest there is.
    pub(super) fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(count) = self.counts.get_mut(bucket(micros).min(BUCKETS - 1)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// The duration that a share of `per_cent` (0 to 100) did not exceed; `None` before the first.
    pub(super) fn quantile(&self, per_cent: u64) -> Option<Duration> {
        let rank = (self.total * per_cent).div_ceil(100).max(1);
        let mut below = 0;
        let holds_rank = |count: &u64| {
            below += count;
            below >= rank
        };
        self.counts.iter().position(holds_rank).map(|b| Duration::from_micros(longest(b)))
    }
}

/// The bucket of a duration: its own up to 31 µs, then sixteen to each doubling.
fn bucket(micros: u64) -> usize {
    let doublings = micros.max(1).ilog2().saturating_sub(STEPS.ilog2());
    let step = micros >> doublings;
    usize::try_from(u64::from(doublings) * STEPS + step).unwrap_or(usize::MAX)
}

/// The longest duration that falls into a bucket, in microseconds.
fn longest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let doublings = (bucket / STEPS).saturating_sub(1);
    let step = bucket - doublings * STEPS;
    ((step + 1) << doublings) - 1
}

/// Buckets to a doubling.
const STEPS: u64 = 16;

/// Enough for 67 seconds: 2^26 µs is 22 doublings past the first 16 µs.
const BUCKETS: usize = 23 * 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duration_lies_in_its_bucket_and_not_far_below_its_end() {
        for micros in (0..2000).chain((11..26).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1])) {
            let b = bucket(micros);
            let end = longest(b);
            assert!(micros <= end, "{micros} µs is past the end {end} of bucket {b}");
            assert!(b == 0 || longest(b - 1) < micros, "{micros} µs belongs below bucket {b}");
            assert!(end - micros <= micros / 16, "{micros} µs is shown as {end}");
        }
    }

    #[test]
    fn quantiles_split_what_was_recorded() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(50), None);
        for n in 1..=100 {
            histogram.record(Duration::from_micros(n));
        }
        let micros = |p| histogram.quantile(p).unwrap().as_micros();
        assert_eq!((micros(0), micros(1), micros(25)), (1, 1, 25));
        assert!((50..=53).contains(&micros(50)) && (99..=105).contains(&micros(99)));
    }

    #[test]
    fn an_age_counts_as_the_longest() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::from_secs(86_400));
        assert!(histogram.quantile(99).unwrap() > Duration::from_secs(60));
    }
}
