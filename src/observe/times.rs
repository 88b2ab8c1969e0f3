//! Times to the first byte as each worker counts them for itself, and the sum of what changed for
//! whoever asks now and then. Judges nothing.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::buckets::{Before, Buckets};
use super::shard::{Count, Shard, Sharded};
use crate::health::Latencies;

/// Times of what is counted together.
#[derive(Debug)]
pub struct Times(Sharded<Cells>);

#[derive(Debug, Default)]
struct Cells {
    cut: Count,
    buckets: Buckets,
    /// A number of the worker's own.
    word: AtomicU32,
}

/// Reads what changed. One for each [`Times`].
#[derive(Debug, Default)]
pub struct TimesReader {
    cut: u64,
    buckets: Before,
}

impl Times {
    /// Times with cells for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(Sharded::new(workers))
    }

    /// Something took so long.
    #[inline]
    pub fn took(&self, shard: Shard, took: Duration) {
        if let Some(cells) = self.0.of(shard) {
            cells.buckets.count(took);
        }
    }

    /// Something was cut off, and would have taken longer than anybody waited.
    pub fn cut(&self, shard: Shard) {
        if let Some(cells) = self.0.of(shard) {
            cells.cut.add(1);
        }
    }

    /// Changes the number that the worker keeps here, if `change` says to what; whether it did.
    pub fn change_word(&self, shard: Shard, change: impl FnOnce(u32) -> Option<u32>) -> bool {
        let Some(cells) = self.0.of(shard) else { return false };
        let changed = change(cells.word.load(Ordering::Relaxed));
        changed.inspect(|word| cells.word.store(*word, Ordering::Relaxed)).is_some()
    }
}

impl TimesReader {
    /// The times since this was last called, and how many were cut off.
    #[must_use]
    pub fn read(&mut self, times: &Times) -> (Latencies, u64) {
        let cut = times.0.total(|cells| &cells.cut);
        let cut = cut.wrapping_sub(std::mem::replace(&mut self.cut, cut));
        (self.buckets.changes(times.0.iter().map(|cells| &cells.buckets)), cut)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_each_change_once() {
        let (times, mut reader) = (Times::new(2), TimesReader::default());
        times.took(Shard::worker(0), Duration::from_millis(3));
        times.took(Shard::worker(1), Duration::from_millis(30));
        times.cut(Shard::worker(1));
        let (latencies, cut) = reader.read(&times);
        assert_eq!((latencies.count(), cut), (2, 1));
        assert_eq!(reader.read(&times), (Latencies::default(), 0));
    }

    #[test]
    fn a_worker_has_its_own_word() {
        let times = Times::new(2);
        assert!(times.change_word(Shard::worker(0), |word| Some(word + 7)));
        assert!(!times.change_word(Shard::worker(1), |word| word.checked_sub(1)));
        assert!(times.change_word(Shard::worker(0), |word| word.checked_sub(7)));
    }
}
