//! A part of the store: entries by key, and by when they were last used. Holds its bound by dropping
//! what was not used for longest. Knows nothing of its siblings.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::key::Key;
use super::store::Stored;
use crate::model::Fields;

/// Entries that together take at most a number of bytes.
#[derive(Debug)]
pub(super) struct Shard {
    bound: usize,
    bytes: usize,
    /// Numbers of entries under each key's hash, the latest last; never more than a few.
    by_key: HashMap<u64, Vec<u64>>,
    entries: HashMap<u64, Entry>,
    /// Numbers of entries by the time of their last use, in steps of `clock`.
    by_use: BTreeMap<u64, u64>,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    stored: Arc<Stored>,
    size: usize,
    used: u64,
}

impl Shard {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            bytes: 0,
            by_key: HashMap::new(),
            entries: HashMap::new(),
            by_use: BTreeMap::new(),
            clock: 0,
        }
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Takes in `stored`, in place of what answers the same requests; whether there was room at all.
    pub(super) fn insert(&mut self, key: Key, stored: Arc<Stored>) -> bool {
        let size = key.size() + stored.size() + OVERHEAD;
        if size > self.bound {
            return false;
        }
        if let Some(same) = self.number(&key, |other| other.terms.variant == stored.terms.variant) {
            self.remove(same);
        }
        let siblings = self.by_key.get(&key.hash()).filter(|numbers| numbers.len() >= MAX_VARIANTS);
        if let Some(oldest) = siblings.and_then(|numbers| numbers.first().copied()) {
            self.remove(oldest);
        }
        while self.bytes + size > self.bound {
            let Some((_, &oldest)) = self.by_use.first_key_value() else { break };
            self.remove(oldest);
        }
        self.clock += 1;
        let number = self.clock;
        self.bytes += size;
        self.by_use.insert(number, number);
        self.by_key.entry(key.hash()).or_default().push(number);
        self.entries.insert(number, Entry { key, stored, size, used: number });
        true
    }

    /// The latest response under `key` to a request with these fields.
    pub(super) fn find(&mut self, key: &Key, request: &Fields) -> Option<Arc<Stored>> {
        let number = self.number(key, |stored| stored.terms.variant.matches(request))?;
        self.clock += 1;
        let entry = self.entries.get_mut(&number)?;
        self.by_use.remove(&entry.used);
        entry.used = self.clock;
        self.by_use.insert(self.clock, number);
        Some(Arc::clone(&entry.stored))
    }

    /// Forgets everything under `key`.
    pub(super) fn forget(&mut self, key: &Key) {
        while let Some(number) = self.number(key, |_| true) {
            self.remove(number);
        }
    }

    fn number(&self, key: &Key, fits: impl Fn(&Stored) -> bool) -> Option<u64> {
        let numbers = self.by_key.get(&key.hash())?;
        let entry_fits = |entry: &Entry| entry.key == *key && fits(&entry.stored);
        numbers.iter().rev().copied().find(|number| self.entries.get(number).is_some_and(entry_fits))
    }

    fn remove(&mut self, number: u64) {
        let Some(entry) = self.entries.remove(&number) else { return };
        self.bytes -= entry.size;
        self.by_use.remove(&entry.used);
        let hash = entry.key.hash();
        if let Some(numbers) = self.by_key.get_mut(&hash) {
            numbers.retain(|other| *other != number);
            if numbers.is_empty() {
                self.by_key.remove(&hash);
            }
        }
    }
}

/// Responses kept for one key: those past it push out the oldest. Clients choose what is in the
/// fields that `Vary` names.
const MAX_VARIANTS: usize = 16;
/// What an entry takes besides its bytes: its rows in the three maps, with room to grow, and what the
/// allocator adds to each piece.
const OVERHEAD: usize = 768;
