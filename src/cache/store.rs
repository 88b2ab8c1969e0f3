//! Where responses are kept: bounded in bytes, shared by all workers, in parts with a lock each, so
//! that workers seldom meet. Asked only when a response is due to be kept and when one is missing.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;

use super::key::Key;
use super::rules::Terms;
use super::shard::Shard;
use crate::model::{Fields, RequestHead};

/// How much may be kept and how long it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory for everything, keys and heads and responses on their way too.
    pub memory: usize,
    /// Bytes of body that one response may have; no more than a quarter of `memory`.
    pub max_body: usize,
    /// How long a response may be used once it is no longer fresh.
    pub max_stale: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { memory: 64 << 20, max_body: 1 << 20, max_stale: Duration::from_secs(600) }
    }
}

/// Responses by what they answer.
#[derive(Debug)]
pub struct Store {
    bounds: Bounds,
    shards: Box<[Mutex<Shard>]>,
    /// What was kept of late.
    recent: Box<[AtomicU64]>,
    /// Bytes held free for responses on their way.
    pending: AtomicUsize,
    born: Instant,
}

/// A response that was kept.
#[derive(Debug)]
pub struct Stored {
    /// Its status.
    pub status: StatusCode,
    /// Its fields as lines of HTTP/1.
    pub(super) head: Box<[u8]>,
    /// Its whole body.
    pub body: Bytes,
    /// When it came.
    pub received: Instant,
    /// On which terms it may be used.
    pub terms: Terms,
}

impl Store {
    /// An empty store.
    #[must_use]
    pub fn new(bounds: Bounds, now: Instant) -> Self {
        let largest = bounds.max_body.saturating_add(ROOM_FOR_HEAD).saturating_mul(LARGEST_PER_SHARD);
        let shards = (bounds.memory / largest.max(1)).clamp(1, MAX_SHARDS);
        let bound = (bounds.memory - bounds.memory / PENDING_PART) / shards;
        Self {
            bounds,
            shards: (0..shards).map(|_| Mutex::new(Shard::new(bound))).collect(),
            recent: (0..RECENT).map(|_| AtomicU64::new(0)).collect(),
            pending: AtomicUsize::new(0),
            born: now,
        }
    }

    /// Its bounds.
    #[must_use]
    pub const fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Whether a response under `key` and `terms` is worth keeping: not when the like of it began to be
    /// kept within the same second of the clock, which answers as well. So bodies are copied and locks
    /// are taken once a second for each of the resources that are asked for most, however often that
    /// is. Takes no lock itself. Whoever is told yes is the only one for this second.
    #[must_use]
    pub(super) fn is_due(&self, key: &Key, terms: &Terms, now: Instant) -> bool {
        let hash = terms.variant.hash(key);
        let mark = self.mark(hash, now);
        let Some(slot) = self.recent.get(hash as usize % RECENT) else { return false };
        slot.load(Ordering::Relaxed) != mark && slot.swap(mark, Ordering::Relaxed) != mark
    }

    /// Holds `size` bytes free for a response that is on its way; whether there was room.
    #[must_use]
    pub(super) fn reserve(&self, size: usize) -> bool {
        let taken = self.pending.fetch_add(size, Ordering::Relaxed);
        let fits = taken.saturating_add(size) <= self.bounds.memory / PENDING_PART;
        if !fits {
            self.release(size);
        }
        fits
    }

    /// Gives back what [`Self::reserve`] took.
    pub(super) fn release(&self, size: usize) {
        self.pending.fetch_sub(size, Ordering::Relaxed);
    }

    /// Keeps a response, in place of the one that answers the same requests; whether there was room.
    pub fn insert(&self, key: Key, stored: Stored) -> bool {
        stored.body.len() <= self.bounds.max_body
            && self.shard(&key).is_some_and(|mut shard| shard.insert(key, Arc::new(stored)))
    }

    /// The response that may be given to `request`, which has this key, in place of an error.
    #[must_use]
    pub fn find(&self, key: &Key, request: &RequestHead, now: Instant) -> Option<Arc<Stored>> {
        let found = self.shard(key)?.find(key, &request.fields)?;
        let kept = now.saturating_duration_since(found.received);
        found.terms.allow(request, kept, self.bounds.max_stale).then_some(found)
    }

    /// Forgets everything under `key`, as an unsafe request that succeeded demands (RFC 9111 §4.4).
    pub fn forget(&self, key: &Key) {
        if let Some(mut shard) = self.shard(key) {
            shard.forget(key);
        }
    }

    /// Bytes that everything in it takes, without responses on their way: no more than three quarters of
    /// its memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).bytes()).sum()
    }

    /// The number of responses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &Key) -> Option<MutexGuard<'_, Shard>> {
        // From the upper half, because the maps within use the lower.
        let index = (key.hash() >> 32) as usize % self.shards.len();
        self.shards.get(index).map(lock)
    }

    /// The second, counted from 1, and the hash.
    fn mark(&self, hash: u64, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.born).as_secs() + 1;
        (second << 32) | (hash >> 32)
    }
}

impl Stored {
    /// Adds its fields to `fields`, without `Age` and `Content-Length`.
    pub fn write_fields(&self, fields: &mut Fields) {
        let mut rest = &*self.head;
        while let Some(end) = memchr::memmem::find(rest, b"\r\n") {
            let (line, after) = rest.split_at(end);
            rest = after.get(2..).unwrap_or_default();
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at(colon);
            let derived = [&b"age"[..], b"content-length"].iter().any(|n| n.eq_ignore_ascii_case(name));
            if !derived {
                fields.append(name, value.get(2..).unwrap_or_default());
            }
        }
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.head.len() + self.body.len() + self.terms.variant.size()
    }
}

/// Nothing panics while it holds a lock; if something did, what is stored is still whole.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parts at most: with as many as there may be cores that keep at the same moment, few meet.
const MAX_SHARDS: usize = 16;
/// Largest responses for which each part has room at least.
const LARGEST_PER_SHARD: usize = 4;
/// What a response may take besides its body, in the reckoning of parts.
const ROOM_FOR_HEAD: usize = 16 * 1024;
/// The part of the memory that is for responses on their way, as a divisor.
const PENDING_PART: usize = 4;
/// Resources of which it is remembered that they were kept of late.
const RECENT: usize = 1024;

#[cfg(test)]
mod tests;
