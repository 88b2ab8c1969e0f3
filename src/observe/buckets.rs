//! Times counted by bucket, by one worker, and what changed of all workers' counts since one last
//! looked. Knows not what took so long.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::health::Latencies;
use crate::health::latency::{self, BUCKETS};

/// The counts of one worker, which alone writes them.
#[derive(Debug)]
pub(super) struct Buckets([AtomicU32; BUCKETS]);

/// The counts of all workers as they were last read; none before the first time.
#[derive(Debug, Default)]
pub(super) struct Before(Vec<u32>);

impl Default for Buckets {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU32::new(0)))
    }
}

impl Buckets {
    /// Counts one that took `took`.
    #[inline]
    pub(super) fn count(&self, took: Duration) {
        if let Some(count) = self.0.get(latency::bucket(took)) {
            count.store(count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        }
    }
}

impl Before {
    /// What was counted since this was last called, by all of `workers` together.
    pub(super) fn changes<'a>(&mut self, workers: impl Iterator<Item = &'a Buckets> + Clone) -> Latencies {
        let mut latencies = Latencies::default();
        self.0.resize(BUCKETS, 0);
        for (index, before) in self.0.iter_mut().enumerate() {
            let counts = workers.clone().filter_map(|worker| worker.0.get(index));
            let now = counts.fold(0_u32, |sum, count| sum.wrapping_add(count.load(Ordering::Relaxed)));
            latencies.add(index, now.wrapping_sub(std::mem::replace(before, now)));
        }
        latencies
    }
}
