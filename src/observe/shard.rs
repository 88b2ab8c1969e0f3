//! Counters without contention: every worker has cells of its own, on cache lines of its own, and
//! reading means summing over them. Knows nothing of names, labels or what is counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Whose cells are written: a worker's, or the control thread's. **One thread per shard**: two
/// threads that write as the same shard lose counts, because a cell is written without an atomic
/// read-modify-write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shard(usize);

impl Shard {
    /// The control thread's cells.
    pub const CONTROL: Self = Self(0);

    /// The cells of the worker with this index, counted from 0. What a worker writes past the number
    /// that the registry was made for is not counted.
    #[must_use]
    pub const fn worker(index: usize) -> Self {
        Self(index.saturating_add(1))
    }

    /// The index of the worker.
    #[must_use]
    pub const fn number(self) -> usize {
        self.0.saturating_sub(1)
    }

    /// One of 64 bits, which up to 64 shards have for themselves.
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << (self.0 % 64)
    }
}

/// A number that only grows, with one thread that writes it and any that read.
#[derive(Debug, Default)]
pub(in crate::observe) struct Count(AtomicU64);

impl Count {
    #[inline]
    pub(in crate::observe) fn add(&self, n: u64) {
        // Sound with one writer, and several times cheaper than a locked instruction.
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    pub(in crate::observe) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Cells of type `T` for every shard.
#[derive(Debug)]
pub(in crate::observe) struct Sharded<T>(Box<[Padded<T>]>);

/// Two cache lines, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> Sharded<T> {
    /// Cells for `workers` workers and the control thread.
    pub(in crate::observe) fn new(workers: usize) -> Self {
        Self((0..=workers).map(|_| Padded::default()).collect())
    }
}

impl<T> Sharded<T> {
    /// The cells to write.
    #[inline]
    pub(in crate::observe) fn of(&self, shard: Shard) -> Option<&T> {
        self.0.get(shard.0).map(|padded| &padded.0)
    }

    /// One count, summed over the shards.
    pub(in crate::observe) fn total(&self, count: impl Fn(&T) -> &Count) -> u64 {
        self.iter().map(|cells| count(cells).get()).fold(0, u64::wrapping_add)
    }

    /// A row of counts, each summed over the shards.
    pub(in crate::observe) fn totals<const N: usize>(&self, row: impl Fn(&T) -> &[Count; N]) -> [u64; N] {
        let mut sums = [0_u64; N];
        for counts in self.iter().map(row) {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.wrapping_add(count.get());
            }
        }
        sums
    }

    /// The cells of every shard.
    pub(in crate::observe) fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().map(|padded| &padded.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_do_not_share_cache_lines() {
        let cells = Sharded::<Count>::new(2);
        let places: Vec<usize> = cells.iter().map(|count| std::ptr::from_ref(count).addr()).collect();
        assert_eq!(places.len(), 3);
        assert!(places.iter().all(|place| place % 128 == 0), "{places:?}");
    }

    #[test]
    fn many_writers_lose_nothing() {
        const EACH: u64 = 50_000;
        let cells = Sharded::<Count>::new(4);
        std::thread::scope(|scope| {
            for shard in (0..4).map(Shard::worker).chain([Shard::CONTROL]) {
                let count = cells.of(shard).unwrap();
                scope.spawn(move || (0..EACH).for_each(|_| count.add(1)));
            }
        });
        assert_eq!(cells.total(|count| count), 5 * EACH);
    }

    #[test]
    fn a_worker_too_many_has_no_cells() {
        assert!(Sharded::<Count>::new(1).of(Shard::worker(1)).is_none());
        assert!(Sharded::<Count>::new(1).of(Shard::worker(usize::MAX)).is_none());
    }
}
