//! A bucket for each key, as many as there are keys to come, in memory that does not grow. Knows not
//! what a key stands for.
//!
//! The table is a cache with sets of eight ways. A key's hash leads to one set, in which its bucket is
//! found by the same hash; a new key takes the way whose bucket will be full the soonest. A bucket
//! that is full is no loss: a new one is the same. One that is not is *forgotten*, which is counted: its
//! key gets back the tokens that it lacked. So what a limit fails to hold back is at most one burst for
//! each time that a key is forgotten, and the keys that take the most tokens are the last to be so. A
//! key that asks faster than its rate keeps its place unless eight such fall on one set.
//!
//! Workers share the table without a lock. Where two bring the same new key at the same moment it may
//! get two ways, of which the second is never used again: one request too many may pass, once.

use std::sync::atomic::{AtomicU64, Ordering};

use twox_hash::XxHash3_64;

use super::bucket::{Bucket, Quota, Standing};

/// Buckets by key.
#[derive(Debug)]
pub struct Keyed {
    sets: Box<[Set]>,
    seed: u64,
}

/// What came of asking the bucket of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// What the bucket says.
    pub standing: Standing,
    /// Whether another key's bucket, which was not full, was forgotten for it.
    pub forgot: bool,
}

/// As large as two cache lines, and begun at one.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([Way; WAYS]);

#[derive(Debug, Default)]
struct Way {
    /// The key's hash; 0 for none.
    key: AtomicU64,
    bucket: Bucket,
}

impl Keyed {
    /// Room for `most` keys, rounded up to eights: 16 bytes each. Keys fall on sets by chance, so that
    /// a set may be full before the table is; with half as many keys hardly one is. `seed` keeps
    /// clients from choosing keys that fall on one set.
    #[must_use]
    pub fn new(most: usize, seed: u64) -> Self {
        let sets = most.div_ceil(WAYS).max(1);
        Self { sets: (0..sets).map(|_| Set::default()).collect(), seed }
    }

    /// Takes a token of `key` at `now`, in nanoseconds, if there is one. Two keys whose hashes are the
    /// same in all 64 bits share a bucket.
    pub fn take(&self, quota: &Quota, key: &[u8], now: u64) -> Taken {
        let hash = XxHash3_64::oneshot_with_seed(self.seed, key).max(1);
        // The upper bits choose a set, without a division (Lemire, "Fast Random Integer Generation in
        // an Interval", 2019).
        let index = (u128::from(hash) * self.sets.len() as u128) >> 64;
        let set = usize::try_from(index).ok().and_then(|index| self.sets.get(index));
        let (bucket, forgot) = set.expect("the product is below the number of sets").bucket_of(hash, now);
        Taken { standing: bucket.take(quota, now), forgot }
    }

    /// The memory of the table, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.sets)
    }
}

impl Set {
    /// The bucket of the key with this hash, and whether another key lost it.
    fn bucket_of(&self, hash: u64, now: u64) -> (&Bucket, bool) {
        let mut fullest = &self.0[0];
        for _ in 0..ATTEMPTS {
            let (mut owner, mut full_at) = (0, u64::MAX);
            for way in &self.0 {
                let key = way.key.load(Ordering::Relaxed);
                if key == hash {
                    return (&way.bucket, false);
                }
                let full = way.bucket.full_at();
                if full < full_at {
                    (fullest, owner, full_at) = (way, key, full);
                }
            }
            let claimed = fullest.key.compare_exchange(owner, hash, Ordering::Relaxed, Ordering::Relaxed);
            if claimed.is_ok() {
                let forgot = full_at > now;
                if forgot {
                    fullest.bucket.refill(full_at);
                }
                return (&fullest.bucket, forgot);
            }
        }
        // Others take the ways as fast as they are looked at: one request is counted with another key's.
        (&fullest.bucket, false)
    }
}

/// Ways of a set.
const WAYS: usize = 8;
/// How often a way is claimed before somebody else's is good enough.
const ATTEMPTS: usize = 4;

#[cfg(test)]
mod tests;
